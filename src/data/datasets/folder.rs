//! A user's own pictures.

use std::path::Path;

use super::{Dataset, Kind, Listed, Pictures, Spec};
use crate::data::folder::{Folders, Listing};
use crate::data::picture::{Decode, Progress};
use crate::data::walk::Tally;
use crate::data::{Prepared, prepare};
use crate::error::Result;

impl Dataset {
    /// A user's own images.
    pub const FOLDER: Dataset = Dataset(&SPEC);
}

static SPEC: Spec = Spec {
    name: "folder",
    aliases: &[],
    title: "Own images",
    about: "Your own images: png, jpg, bmp, webp or tif",
    from: TREE,
    is_in: is_tree,
    kind: Kind::Pictures(&Pictures {
        own: true,
        by_folders: true,
        needs: "folder: give --normal-dir DIR and, to test with, --abnormal-dir DIR, or --from DIR \
                (MVTec-style)",
        find: find_in_tree,
    }),
};

/// The folders of own pictures, in words.
pub(super) const TREE: &str = "a tree with train/good, test/good and test/DEFECT (or normal or ok instead of good; without \
     test: normal images only, which can't be evaluated)";

pub(super) fn is_tree(dir: &Path) -> bool {
    Folders::mvtec(dir).is_ok()
}

pub(super) fn find_in_tree(root: &Path) -> Result<Box<dyn Listed>> {
    Ok(Box::new(Listing::mvtec(root)?))
}

impl Listed for Listing {
    fn what(&self) -> String {
        format!("images from {}", self.normal.dir.display())
    }

    fn notes(&self, decode: &Decode) -> Vec<String> {
        let note = "no anomalous images: there is nothing to test with, so `gradcon eval` can tell what \
                    the threshold comes to on validation images, and no AUROC";
        let untested = self.abnormal.is_empty().then(|| note.to_string());
        self.sizes().and_then(|sizes| sizes.note(decode)).into_iter().chain(untested).collect()
    }

    fn left_out(&self) -> &Tally {
        &self.left_out
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn prepare(&self, decode: Decode, seed: u64, progress: Progress) -> Result<Prepared> {
        prepare::own_images(self, decode, seed, progress)
    }
}
