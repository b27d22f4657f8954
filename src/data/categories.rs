//! Several categories of a user's own images as one dataset: each is an inlier class with a test set
//! of its own, so they train side by side and are evaluated in one table.

use super::manifest::{Counts, Inlier, Manifest, TestSetInfo};
use super::prepared::{Masks, Names, Prepared, TestSet};
use super::{Labelled, concat};
use crate::error::{Error, Result};

/// Joins datasets of one inlier class each, by the name of their category. Its normal images have the
/// category's name as their class, those of a defect `CATEGORY/DEFECT`; every image is in the part
/// that it has in the category alone.
///
/// # Errors
/// Two categories of one name; some with test images and some without; too many kinds of images for
/// a label.
///
/// # Panics
/// For no dataset, or datasets of other sizes or channels, or without names.
pub fn join(categories: Vec<(String, Prepared)>) -> Result<Prepared> {
    let tested = |(_, part): &&(String, Prepared)| !part.test_sets.is_empty();
    let (with, without) =
        (categories.iter().find(tested), categories.iter().find(|part| !tested(part)));
    if let (Some((with, _)), Some((without, _))) = (with, without) {
        return Err(Error::invalid(format!(
            "category {without} has no test images, and {with} has: prepare those without by \
             themselves"
        )));
    }
    let first = categories.first().expect("join: a category").1.manifest.clone();
    let masks = categories
        .iter()
        .any(|(_, part)| part.masks.is_some())
        .then(|| Masks { data: vec![], size: first.height });
    let mut all = Joined { masks, ..Joined::default() };
    for (name, part) in categories {
        if all.inliers.iter().any(|inlier| inlier.name == name) {
            return Err(Error::invalid(format!("two categories of the name {name}")));
        }
        all.add(&name, part)?;
    }
    let [train, val, test] = all.parts.map(concat);
    let manifest = Manifest {
        name: None,
        masks: all.masks.is_some(),
        counts: Counts::new(&train, &val, &test, all.classes.len()),
        classes: all.classes,
        inliers: all.inliers,
        test_sets: all.test_sets.iter().map(|set| set.info.clone()).collect(),
        ..first
    };
    let (names, masks, test_sets) = (Some(all.names), all.masks, all.test_sets);
    Ok(Prepared { manifest, train, val, test, names, masks, test_sets })
}

/// What was joined so far.
struct Joined {
    classes: Vec<String>,
    inliers: Vec<Inlier>,
    /// Training, validation and test images.
    parts: [Vec<Labelled>; 3],
    /// How many of the last.
    tests: usize,
    names: Names,
    masks: Option<Masks>,
    test_sets: Vec<TestSet>,
}

impl Default for Joined {
    fn default() -> Joined {
        Joined {
            classes: vec![],
            inliers: vec![],
            parts: [vec![], vec![], vec![]],
            tests: 0,
            names: Names { train: vec![], val: vec![], test: vec![] },
            masks: None,
            test_sets: vec![],
        }
    }
}

impl Joined {
    fn add(&mut self, name: &str, part: Prepared) -> Result<()> {
        let label = u8::try_from(self.classes.len() + part.manifest.classes.len() - 1)
            .map(|_| self.classes.len() as u8)
            .map_err(|_| {
                Error::invalid(format!("{name}: more than 256 categories and kinds of anomaly"))
            })?;
        let kinds = part.manifest.classes[1..].iter().map(|kind| format!("{name}/{kind}"));
        self.classes.extend(std::iter::once(name.to_string()).chain(kinds));
        let inlier = self.inliers.len();
        self.inliers.push(Inlier { name: name.into(), label: Some(label) });
        for set in part.test_sets {
            let info = TestSetInfo::of(name, inlier, &set.labels);
            let indices = set.indices.iter().map(|i| i + self.tests).collect();
            self.test_sets.push(TestSet { info, indices, labels: set.labels });
        }
        if let Some(masks) = &mut self.masks {
            let unknown = || vec![Masks::UNKNOWN; part.test.images.n * masks.size * masks.size];
            masks.data.extend(part.masks.map_or_else(unknown, |masks| masks.data));
        }
        self.tests += part.test.images.n;
        for (all, mut one) in self.parts.iter_mut().zip([part.train, part.val, part.test]) {
            one.labels.iter_mut().for_each(|of| *of += label);
            all.push(one);
        }
        let Names { train, val, test } = part.names.expect("join: images with names");
        let all = [&mut self.names.train, &mut self.names.val, &mut self.names.test];
        for (all, one) in all.into_iter().zip([train, val, test]) {
            all.extend(one.iter().map(|image| format!("{name}/{image}")));
        }
        Ok(())
    }
}
