//! CURE-TSR: traffic signs with and without challenging conditions.

use super::{Dataset, Kind, Listed, Pictures, Spec};
use crate::data::cure_tsr::{self, Listing};
use crate::data::picture::{Decode, Progress};
use crate::data::walk::Tally;
use crate::data::{Prepared, prepare};
use crate::error::Result;

impl Dataset {
    /// Traffic signs under challenging conditions, RGB.
    pub const CURE_TSR: Dataset = Dataset(&SPEC);
}

static SPEC: Spec = Spec {
    name: "cure-tsr",
    aliases: &["cure_tsr", "curetsr"],
    title: "CURE-TSR",
    about: "CURE-TSR: traffic signs with and without challenging conditions, RGB",
    from: "the folder of Real_Train and Real_Test",
    is_in: |dir| cure_tsr::root(dir).is_some(),
    kind: Kind::Pictures(&Pictures {
        own: false,
        by_folders: false,
        needs: "cure-tsr: it can't be downloaded by a program; get it by way of its authors' page \
                (https://github.com/olivesgatech/CURE-TSR) and name its folder with --from PATH",
        find: |path| Ok(Box::new(cure_tsr::list(path)?)),
    }),
};

impl Listed for Listing {
    fn what(&self) -> String {
        format!("{} from {}", SPEC.title, self.root.display())
    }

    fn notes(&self, _decode: &Decode) -> Vec<String> {
        let all = cure_tsr::CHALLENGES.len() * 5;
        let there = self.test.len();
        let note = format!("{there} challenges and levels are there, of {all}");
        if there < all { vec![note] } else { vec![] }
    }

    fn left_out(&self) -> &Tally {
        &self.left_out
    }

    fn prepare(&self, decode: Decode, seed: u64, progress: Progress) -> Result<Prepared> {
        prepare::cure_tsr(self, decode, seed, progress)
    }
}
