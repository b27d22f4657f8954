//! From images to a prepared dataset: the protocol of each dataset.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cure_tsr::{self, Listing};
use super::datasets::Split;
use super::folder::{self, Decode, Found, Progress};
use super::manifest::{Counts, Inlier, Manifest, Source, TestSetInfo, VERSION};
use super::picture;
use super::prepared::{Names, Prepared, TestSet};
use super::split::{self, Parts};
use super::{Dataset, Labelled, concat, resize};
use crate::error::{Error, Result};
use crate::images::IMAGE_SIZE;

/// The outlier ratio of the protocol, in percent.
pub const DEFAULT_RATIO: u32 = 50;

/// Prepares a ten-class dataset from its official training and test images (any size; 1 or 3
/// channels), divided as its [`Split`] says. One test set for each class as the inlier and each of
/// `ratios` (percent of outliers).
///
/// # Errors
/// Too few images of a class for every part to have one, a ratio that can't be met, or a ratio
/// given twice.
///
/// # Panics
/// For a dataset that hasn't ten classes.
pub fn ten_classes(
    dataset: Dataset,
    train: Labelled,
    test: Labelled,
    source: Source,
    seed: u64,
    ratios: &[u32],
) -> Result<Prepared> {
    let spec = dataset.ten_classes().expect("ten_classes: a dataset of ten classes");
    let resized = |part: Labelled| {
        let fits = (part.images.height, part.images.width) == (IMAGE_SIZE, IMAGE_SIZE);
        if fits {
            part
        } else {
            Labelled {
                images: resize::resize(&part.images, IMAGE_SIZE, IMAGE_SIZE),
                labels: part.labels,
            }
        }
    };
    let (train, test) = (resized(train), resized(test));
    let (train, val, test) = match spec.split {
        Split::HoldOut => {
            let Parts { train: fit, val, .. } = split::hold_out(&train.labels, seed);
            (train.select(&fit), train.select(&val), test)
        }
        Split::Folds => {
            let all = concat(vec![train, test]);
            let Parts { train, val, test } = split::folds(&all.labels, seed);
            (all.select(&train), all.select(&val), all.select(&test))
        }
    };

    let classes = spec.classes.map(String::from);
    let counts = Counts::new(&train, &val, &test, classes.len());
    for (part, counts) in
        [("training", &counts.train), ("validation", &counts.val), ("test", &counts.test)]
    {
        if let Some(label) = counts.iter().position(|&n| n == 0) {
            return Err(Error::invalid(format!(
                "class {label} ({}) has too few images: none are left for {part}",
                classes[label]
            )));
        }
    }
    let mut test_sets = Vec::new();
    for inlier in 0..classes.len() {
        for (i, &ratio) in ratios.iter().enumerate() {
            if ratios[..i].contains(&ratio) {
                return Err(Error::Usage(format!("outlier ratio {ratio} is given twice")));
            }
            let (indices, labels) = split::test_set(&test.labels, inlier as u8, ratio, seed)?;
            let name = format!("class{inlier}_ratio{ratio}");
            let info = TestSetInfo { ratio: Some(ratio), ..test_set_info(name, inlier, &labels) };
            test_sets.push(TestSet { info, indices, labels });
        }
    }
    let inlier =
        |(label, name): (usize, &String)| Inlier { name: name.clone(), label: Some(label as u8) };
    let manifest = Manifest {
        format_version: VERSION,
        dataset,
        name: None,
        background: None,
        source,
        seed,
        outlier_ratios: ratios.to_vec(),
        height: IMAGE_SIZE,
        width: IMAGE_SIZE,
        channels: train.images.channels,
        inliers: classes.iter().enumerate().map(inlier).collect(),
        classes: classes.to_vec(),
        counts,
        test_sets: test_sets.iter().map(|set| set.info.clone()).collect(),
        named_images: false,
        files: BTreeMap::new(),
    };
    Ok(Prepared { manifest, train, val, test, names: None, test_sets })
}

/// Prepares CURE-TSR from its folders: one inlier class, the challenge-free images; of the training
/// images of each sign a tenth is held out for validation. One test set for each challenge and
/// level that is there.
///
/// # Errors
/// An image can't be read, or there are too few; or what `progress` returned.
pub fn cure_tsr(
    listing: &Listing,
    decode: Decode,
    seed: u64,
    progress: Progress,
) -> Result<Prepared> {
    let load = |paths: &[PathBuf]| decode.files(paths, progress);
    let all =
        Labelled { images: load(&listing.train.paths)?, labels: listing.train.labels.clone() };
    let parts = split::hold_out(&all.labels, seed);
    if parts.val.is_empty() {
        let n = all.images.n;
        return Err(Error::invalid(format!(
            "{n} training images, fewer than 10 of each sign: none for validation"
        )));
    }

    let free = listing.test_free.paths.len();
    let mut tests = vec![Labelled {
        images: load(&listing.test_free.paths)?,
        labels: listing.test_free.labels.clone(),
    }];
    let mut test_sets = Vec::new();
    let mut n = free;
    for group in &listing.test {
        tests.push(Labelled { images: load(&group.paths)?, labels: group.labels.clone() });
        let indices: Vec<usize> = (0..free).chain(n..n + group.paths.len()).collect();
        n += group.paths.len();
        let labels: Vec<u8> = (0..indices.len()).map(|i| u8::from(i >= free)).collect();
        let challenge = cure_tsr::CHALLENGES[usize::from(group.challenge) - 1];
        let info = TestSetInfo {
            challenge: Some(challenge.into()),
            level: Some(group.level),
            ..test_set_info(format!("{challenge}-{}", group.level), 0, &labels)
        };
        test_sets.push(TestSet { info, indices, labels });
    }
    let name = |path: &PathBuf| {
        let name = folder::name_below(&listing.root, path, "");
        name.trim_start_matches('/').to_string()
    };
    let names = Names {
        train: parts.train.iter().map(|&i| name(&listing.train.paths[i])).collect(),
        val: parts.val.iter().map(|&i| name(&listing.train.paths[i])).collect(),
        test: listing
            .test_free
            .paths
            .iter()
            .chain(listing.test.iter().flat_map(|g| &g.paths))
            .map(name)
            .collect(),
    };
    let (train, val, test) = (all.select(&parts.train), all.select(&parts.val), concat(tests));
    let classes: Vec<String> = cure_tsr::SIGNS.map(String::from).to_vec();
    let manifest = Manifest {
        format_version: VERSION,
        dataset: Dataset::CURE_TSR,
        name: None,
        background: decode.background().map(picture::hex),
        source: image_files(),
        seed,
        outlier_ratios: Vec::new(),
        height: IMAGE_SIZE,
        width: IMAGE_SIZE,
        channels: decode.channels(),
        inliers: vec![Inlier { name: "challenge-free".into(), label: None }],
        counts: Counts::new(&train, &val, &test, classes.len()),
        classes,
        test_sets: test_sets.iter().map(|set| set.info.clone()).collect(),
        named_images: true,
        files: BTreeMap::new(),
    };
    Ok(Prepared { manifest, train, val, test, names: Some(names), test_sets })
}

/// Prepares a user's own images: one inlier class, `normal`, and one test set with all anomalous
/// images. A tenth of the normal images is for validation; without a folder of normal test images,
/// a fifth is drawn for the test first.
///
/// # Errors
/// An image can't be read, or there are too few normal images; or what `progress` returned.
pub fn own_images(
    pictures: &folder::Listing,
    decode: Decode,
    seed: u64,
    progress: Progress,
) -> Result<Prepared> {
    let load = |Found { dir, paths }: &Found, prefix: &str, label: u8| {
        let names: Vec<String> =
            paths.iter().map(|path| folder::name_below(dir, path, prefix)).collect();
        Ok((
            Labelled { images: decode.files(paths, progress)?, labels: vec![label; paths.len()] },
            names,
        ))
    };
    let pick =
        |names: &[String], indices: &[usize]| indices.iter().map(|&i| names[i].clone()).collect();
    let (normal, normal_names) = load(&pictures.normal, "normal", 0)?;
    let parts = split::one_class(normal.images.n, pictures.normal_test.is_none(), seed)
        .map_err(|e| Error::invalid(format!("{}: {e}", pictures.normal.dir.display())))?;
    let (mut tests, mut test_names): (Vec<Labelled>, Vec<String>) = match &pictures.normal_test {
        Some(found) => {
            load(found, "normal_test", 0).map(|(images, names)| (vec![images], names))?
        }
        None => (vec![normal.select(&parts.test)], pick(&normal_names, &parts.test)),
    };
    let mut classes = vec!["normal".to_string()];
    for (kind, found) in &pictures.abnormal {
        let label = u8::try_from(classes.len()).map_err(|_| {
            Error::invalid(format!("{}: more than 255 kinds of anomaly", found.dir.display()))
        })?;
        let (images, names) = load(found, kind, label)?;
        tests.push(images);
        test_names.extend(names);
        classes.push(kind.clone());
    }
    let (train, val, test) =
        (normal.select(&parts.train), normal.select(&parts.val), concat(tests));
    let labels: Vec<u8> = test.labels.iter().map(|&label| label.min(1)).collect();
    let info = test_set_info("normal".into(), 0, &labels);
    let names = Names {
        train: pick(&normal_names, &parts.train),
        val: pick(&normal_names, &parts.val),
        test: test_names,
    };
    let manifest = Manifest {
        format_version: VERSION,
        dataset: Dataset::FOLDER,
        name: None,
        background: decode.background().map(picture::hex),
        source: image_files(),
        seed,
        outlier_ratios: Vec::new(),
        height: IMAGE_SIZE,
        width: IMAGE_SIZE,
        channels: decode.channels(),
        inliers: vec![Inlier { name: "normal".into(), label: Some(0) }],
        counts: Counts::new(&train, &val, &test, classes.len()),
        classes,
        test_sets: vec![info.clone()],
        named_images: true,
        files: BTreeMap::new(),
    };
    let test_sets = vec![TestSet { info, indices: (0..labels.len()).collect(), labels }];
    Ok(Prepared { manifest, train, val, test, names: Some(names), test_sets })
}

/// Prepares the small part of Fashion-MNIST that is inside the program, as `fmnist`.
///
/// # Errors
/// As [`ten_classes`].
pub fn fashion_subset(seed: u64, ratios: &[u32]) -> Result<Prepared> {
    let (train, test) = super::embedded::fashion_subset()?;
    let source = Source { what: "the subset built into gradcon".into(), sha256: BTreeMap::new() };
    ten_classes(Dataset::FMNIST, train, test, source, seed, ratios)
}

fn image_files() -> Source {
    Source { what: "image files".into(), sha256: BTreeMap::new() }
}

fn test_set_info(name: String, inlier: usize, labels: &[u8]) -> TestSetInfo {
    let anomalous = labels.iter().filter(|&&label| label == 1).count();
    TestSetInfo {
        name,
        inlier,
        ratio: None,
        challenge: None,
        level: None,
        normal: labels.len() - anomalous,
        anomalous,
    }
}
