//! From images to a prepared dataset: the protocol of each dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cure_tsr::{self, Group, Listing};
use super::datasets::Split;
use super::folder::{self, Decode, Found, Progress};
use super::manifest::{Counts, Inlier, Manifest, Source, TestSetInfo, VERSION};
use super::picture::{self, Aspect};
use super::prepared::{Masks, Names, Prepared, TestSet};
use super::split::{self, Parts};
use super::{Dataset, Images, Labelled, concat, resize};
use crate::error::{Error, Result};
use crate::images::{IMAGE_SIZE, check_size};

/// The outlier ratio of the protocol, in percent.
pub const DEFAULT_RATIO: u32 = 50;

/// Prepares a ten-class dataset at 28 x 28 from its official training and test images (any size; 1
/// or 3 channels), divided as its [`Split`] says. One test set for each class as the inlier and each of
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
    ten_classes_at(IMAGE_SIZE, dataset, [train, test], source, seed, ratios)
}

/// [`ten_classes`] at another size.
///
/// # Errors
/// As [`ten_classes`]; a size that is none of [`SIZES`](crate::images::SIZES).
///
/// # Panics
/// As [`ten_classes`].
pub fn ten_classes_at(
    size: usize,
    dataset: Dataset,
    official: [Labelled; 2],
    source: Source,
    seed: u64,
    ratios: &[u32],
) -> Result<Prepared> {
    let spec = dataset.ten_classes().expect("ten_classes: a dataset of ten classes");
    let size = check_size(size)?;
    let [train, test] = official.map(|part| resized(part, size));
    let (train, val, test) = divide(spec.split, train, test, seed);
    let classes = spec.classes.map(String::from).to_vec();
    check_filled(&Counts::new(&train, &val, &test, classes.len()), &classes)?;
    let test_sets = sets_by_ratio(&test.labels, classes.len(), ratios, seed)?;
    let inlier =
        |(label, name): (usize, &String)| Inlier { name: name.clone(), label: Some(label as u8) };
    let made = Made {
        dataset,
        background: None,
        aspect: Aspect::default(),
        masks: None,
        source,
        seed,
        ratios: ratios.to_vec(),
        inliers: classes.iter().enumerate().map(inlier).collect(),
        classes,
        names: None,
    };
    Ok(made.prepared((train, val, test), test_sets))
}

/// The images at the size of prepared ones.
fn resized(part: Labelled, size: usize) -> Labelled {
    if (part.images.height, part.images.width) == (size, size) {
        return part;
    }
    Labelled { images: resize::resize(&part.images, size, size), labels: part.labels }
}

/// Training, validation and test images from the official two parts.
fn divide(
    split: Split,
    train: Labelled,
    test: Labelled,
    seed: u64,
) -> (Labelled, Labelled, Labelled) {
    match split {
        Split::HoldOut => {
            let Parts { train: fit, val, .. } = split::hold_out(&train.labels, seed);
            (train.select(&fit), train.select(&val), test)
        }
        Split::Folds => {
            let all = concat(vec![train, test]);
            let Parts { train, val, test } = split::folds(&all.labels, seed);
            (all.select(&train), all.select(&val), all.select(&test))
        }
    }
}

/// Errors if a part has no image of some class.
fn check_filled(counts: &Counts, classes: &[String]) -> Result<()> {
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
    Ok(())
}

/// One test set for each class as the inlier and each ratio.
fn sets_by_ratio(labels: &[u8], classes: usize, ratios: &[u32], seed: u64) -> Result<Vec<TestSet>> {
    let mut test_sets = Vec::new();
    for inlier in 0..classes {
        for (i, &ratio) in ratios.iter().enumerate() {
            if ratios[..i].contains(&ratio) {
                return Err(Error::Usage(format!("outlier ratio {ratio} is given twice")));
            }
            let (indices, labels) = split::test_set(labels, inlier as u8, ratio, seed)?;
            let name = format!("class{inlier}_ratio{ratio}");
            let info = TestSetInfo { ratio: Some(ratio), ..TestSetInfo::of(name, inlier, &labels) };
            test_sets.push(TestSet { info, indices, labels });
        }
    }
    Ok(test_sets)
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

    let (test, test_sets) = sets_by_challenge(listing, load)?;
    let made = Made {
        dataset: Dataset::CURE_TSR,
        background: decode.background(),
        aspect: decode.aspect(),
        masks: None,
        source: image_files(),
        seed,
        ratios: Vec::new(),
        inliers: vec![Inlier { name: "challenge-free".into(), label: None }],
        classes: cure_tsr::SIGNS.map(String::from).to_vec(),
        names: Some(names_in(listing, &parts)),
    };
    Ok(made.prepared((all.select(&parts.train), all.select(&parts.val), test), test_sets))
}

/// All test images, challenge-free ones first, and a test set for each challenge and level.
fn sets_by_challenge(
    listing: &Listing,
    load: impl Fn(&[PathBuf]) -> Result<Images>,
) -> Result<(Labelled, Vec<TestSet>)> {
    let part =
        |group: &Group| Ok(Labelled { images: load(&group.paths)?, labels: group.labels.clone() });
    let free = listing.test_free.paths.len();
    let mut tests = vec![part(&listing.test_free)?];
    let mut test_sets = Vec::new();
    let mut n = free;
    for group in &listing.test {
        tests.push(part(group)?);
        let indices: Vec<usize> = (0..free).chain(n..n + group.paths.len()).collect();
        n += group.paths.len();
        let labels: Vec<u8> = (0..indices.len()).map(|i| u8::from(i >= free)).collect();
        let challenge = cure_tsr::CHALLENGES[usize::from(group.challenge) - 1];
        let info = TestSetInfo {
            challenge: Some(challenge.into()),
            level: Some(group.level),
            ..TestSetInfo::of(format!("{challenge}-{}", group.level), 0, &labels)
        };
        test_sets.push(TestSet { info, indices, labels });
    }
    Ok((concat(tests), test_sets))
}

/// Where CURE-TSR's images lie below its root.
fn names_in(listing: &Listing, parts: &Parts) -> Names {
    let name = |path: &PathBuf| {
        let name = folder::name_below(&listing.root, path, "");
        name.trim_start_matches('/').to_string()
    };
    let train =
        |indices: &[usize]| indices.iter().map(|&i| name(&listing.train.paths[i])).collect();
    let tests = std::iter::once(&listing.test_free).chain(&listing.test);
    Names {
        train: train(&parts.train),
        val: train(&parts.val),
        test: tests.flat_map(|group| &group.paths).map(name).collect(),
    }
}

/// Prepares a user's own images: one inlier class, `normal`, and one test set with all anomalous
/// images. A tenth of the normal images is for validation; without a folder of normal test images,
/// a fifth is drawn for the test first. Without anomalous images there is no test.
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
    let tested = !pictures.abnormal.is_empty();
    let parts = split::one_class(normal.images.n, tested && pictures.normal_test.is_none(), seed)
        .map_err(|e| Error::invalid(format!("{}: {e}", pictures.normal.dir.display())))?;
    let (mut tests, mut test_names): (Vec<Labelled>, Vec<String>) = match &pictures.normal_test {
        Some(found) => {
            load(found, "normal_test", 0).map(|(images, names)| (vec![images], names))?
        }
        None => (vec![normal.select(&parts.test)], pick(&normal_names, &parts.test)),
    };
    let normal_tests = tests[0].images.n;
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
    let masks = match &pictures.masks {
        Some(dir) if tested => Some(masks(dir, pictures, normal_tests, decode, progress)?),
        _ => None,
    };
    let test = concat(tests);
    let labels: Vec<u8> = test.labels.iter().map(|&label| label.min(1)).collect();
    let info = TestSetInfo::of("normal", 0, &labels);
    let test_set = TestSet { info, indices: (0..labels.len()).collect(), labels };
    let test_sets = if tested { vec![test_set] } else { vec![] };
    let names = Names {
        train: pick(&normal_names, &parts.train),
        val: pick(&normal_names, &parts.val),
        test: test_names,
    };
    let made = Made {
        dataset: Dataset::FOLDER,
        background: decode.background(),
        aspect: decode.aspect(),
        masks,
        source: image_files(),
        seed,
        ratios: Vec::new(),
        inliers: vec![Inlier { name: "normal".into(), label: Some(0) }],
        classes,
        names: Some(names),
    };
    Ok(made.prepared((normal.select(&parts.train), normal.select(&parts.val), test), test_sets))
}

/// Masks of the test images: normal ones have no defect; those of the others are below `dir`, where
/// there is one (see [`folder::mask_of`]).
fn masks(
    dir: &Path,
    pictures: &folder::Listing,
    normal: usize,
    decode: Decode,
    progress: Progress,
) -> Result<Masks> {
    let (size, len) = (decode.size(), decode.size() * decode.size());
    let mut data = vec![0; normal * len];
    let decode = decode.with_channels(1).on(None);
    for (kind, found) in &pictures.abnormal {
        let of = |path: &PathBuf| folder::mask_of(dir, kind, &found.dir, path);
        let files: Vec<Option<PathBuf>> = found.paths.iter().map(of).collect();
        let there: Vec<&PathBuf> = files.iter().flatten().collect();
        let read = decode.files(&there, progress)?;
        let mut read = read.data.chunks_exact(len);
        for file in &files {
            match file.as_ref().and_then(|_| read.next()) {
                Some(mask) => data.extend(mask.iter().map(|&v| u8::from(v >= 128))),
                None => data.extend(std::iter::repeat_n(Masks::UNKNOWN, len)),
            }
        }
    }
    Ok(Masks { data, size })
}

/// Prepares the small part of Fashion-MNIST that is inside the program, as `fmnist`.
///
/// # Errors
/// As [`ten_classes`].
pub fn fashion_subset(seed: u64, ratios: &[u32]) -> Result<Prepared> {
    fashion_subset_at(IMAGE_SIZE, seed, ratios)
}

/// [`fashion_subset`] at another size.
///
/// # Errors
/// As [`ten_classes_at`].
pub fn fashion_subset_at(size: usize, seed: u64, ratios: &[u32]) -> Result<Prepared> {
    let (train, test) = super::embedded::fashion_subset()?;
    let source = Source { what: "the subset built into gradcon".into(), sha256: BTreeMap::new() };
    ten_classes_at(size, Dataset::FMNIST, [train, test], source, seed, ratios)
}

/// What a protocol says of the images that it divided; the rest of the manifest follows from them.
struct Made {
    dataset: Dataset,
    background: Option<[u8; 3]>,
    aspect: Aspect,
    masks: Option<Masks>,
    source: Source,
    seed: u64,
    ratios: Vec<u32>,
    classes: Vec<String>,
    inliers: Vec<Inlier>,
    names: Option<Names>,
}

impl Made {
    /// The dataset of training, validation and test images and test sets.
    fn prepared(
        self,
        (train, val, test): (Labelled, Labelled, Labelled),
        test_sets: Vec<TestSet>,
    ) -> Prepared {
        let manifest = Manifest {
            format_version: VERSION,
            dataset: self.dataset,
            name: None,
            background: self.background.map(picture::hex),
            aspect: self.aspect,
            tiles: None,
            masks: self.masks.is_some(),
            source: self.source,
            seed: self.seed,
            outlier_ratios: self.ratios,
            height: train.images.height,
            width: train.images.width,
            channels: train.images.channels,
            inliers: self.inliers,
            counts: Counts::new(&train, &val, &test, self.classes.len()),
            classes: self.classes,
            test_sets: test_sets.iter().map(|set| set.info.clone()).collect(),
            named_images: self.names.is_some(),
            files: BTreeMap::new(),
        };
        let Made { names, masks, .. } = self;
        Prepared { manifest, train, val, test, names, masks, test_sets }
    }
}

fn image_files() -> Source {
    Source { what: "image files".into(), sha256: BTreeMap::new() }
}
