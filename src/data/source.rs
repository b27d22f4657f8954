//! Reading a ten-class dataset from where its files lie, and saying which files those were.

use std::path::{Path, PathBuf};

use super::datasets::{self, Read};
use super::folder::name_of;
use super::hash::{md5_file, sha256_file};
use super::manifest::Source;
use super::{Dataset, Labelled, cifar, idx};
use crate::error::{Error, Result};
use crate::limits;

/// A ten-class dataset as its files have it, before any split or resizing.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Official training images.
    pub train: Labelled,
    /// Official test images.
    pub test: Labelled,
    /// The files that were read.
    pub source: Source,
}

/// Reads a ten-class dataset from `path`. For those of IDX files that is a folder of the four, or
/// one that holds them in torchvision's places (`MNIST/raw`, `FashionMNIST/raw`); for `cifar-10`
/// see [`cifar::read`].
///
/// # Errors
/// Nothing of the kind is there, or it is broken; the message names the file.
///
/// # Panics
/// For the other datasets.
pub fn read(dataset: Dataset, path: &Path) -> Result<Raw> {
    read_within(dataset, path, None)
}

/// [`read`], with at most `limit` bytes of images, uncompressed; without, [`limits::IDX`] and
/// [`limits::CIFAR`] hold.
///
/// # Errors
/// As [`read`].
///
/// # Panics
/// As [`read`].
pub fn read_within(dataset: Dataset, path: &Path, limit: Option<u64>) -> Result<Raw> {
    let spec = dataset.ten_classes().expect("read: a ten-class dataset");
    let (train, test, files) = (spec.read)(path, limit)?;
    let shape = |part: &Labelled| [part.images.height, part.images.width, part.images.channels];
    if shape(&train) != shape(&test) {
        return Err(Error::invalid(format!(
            "{}: training images of shape {:?} but test images of shape {:?}",
            path.display(),
            shape(&train),
            shape(&test)
        )));
    }
    Ok(Raw { train, test, source: describe(&files, path, spec)? })
}

/// What [`read_idx`] reads, in words.
pub(super) const IDX_FOLDER: &str = "a folder of the four IDX files, plain or .gz";

/// Training and test images of the four IDX files at `path`, or at torchvision's `place` in it.
pub(super) fn read_idx(path: &Path, place: &str, limit: Option<u64>) -> Result<Read> {
    let dir = &idx_folder(path, place);
    let split = |prefix| idx::read_split_within(dir, prefix, limit.unwrap_or(limits::IDX));
    Ok((split("train")?, split("t10k")?, idx::files(dir)?))
}

/// The folder of the IDX files: `path`, or one of torchvision's places in it.
pub(super) fn idx_folder(path: &Path, place: &str) -> PathBuf {
    let places = ["", "raw", place].map(|place| path.join(place));
    places.iter().find(|dir| idx::is_complete(dir)).unwrap_or(&places[0]).clone()
}

/// Training and test images of CIFAR-10's archive or batches at `path`.
pub(super) fn read_cifar(path: &Path, limit: Option<u64>) -> Result<Read> {
    let (train, test, found) = cifar::read_within(path, limit.unwrap_or(limits::CIFAR))?;
    let files = if found.is_dir() { cifar::batch_files(&found) } else { vec![found] };
    Ok((train, test, files))
}

fn describe(files: &[PathBuf], path: &Path, spec: &datasets::TenClasses) -> Result<Source> {
    let mut published = true;
    let mut source = Source { what: "local files".into(), sha256: Default::default() };
    for file in files {
        let md5 = md5_file(file)?;
        published &= spec.files.iter().any(|known| known.name == name_of(file) && known.md5 == md5);
        source.sha256.insert(name_of(file), sha256_file(file)?);
    }
    let mut packages =
        datasets::ALL.iter().filter_map(|dataset| dataset.ten_classes()?.package.as_ref());
    if published {
        source.what = "the official files".into();
    } else if let Some(package) = packages.find(|package| path == Path::new(package.dir)) {
        source.what = package.name.into();
    }
    Ok(source)
}
