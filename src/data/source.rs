//! Where the ten-class datasets come from: official addresses and published checksums, known places
//! on this machine, and reading what lies there.

use std::path::{Path, PathBuf};

use super::hash::{md5_file, sha256_file};
use super::manifest::Source;
use super::{Dataset, Labelled, cifar, idx};
use crate::error::{Error, Result};
use crate::limits;

/// Where Debian's package dataset-fashion-mnist puts the official files.
pub const DEBIAN_FASHION: &str = "/usr/share/datasets/fashion-mnist";

/// The files of a dataset and where they can be had.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The files, with lengths and MD5 sums as torchvision publishes them.
    pub files: &'static [Published],
    /// Addresses to put a file name after, tried in order.
    pub mirrors: &'static [&'static str],
    /// Official numbers of training and test images.
    pub images: [usize; 2],
}

/// A file as its publisher describes it.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Its name.
    pub name: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its MD5 sum in hexadecimal.
    pub md5: &'static str,
}

const fn published(name: &'static str, bytes: u64, md5: &'static str) -> Published {
    Published { name, bytes, md5 }
}

const MNIST: Origin = Origin {
    files: &[
        published("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        published("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
        published("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
        published("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
    ],
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ],
    images: [60_000, 10_000],
};

const FASHION: Origin = Origin {
    files: &[
        published("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        published("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
        published("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
        published("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
    ],
    mirrors: &[
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
    images: [60_000, 10_000],
};

const CIFAR_10: Origin = Origin {
    files: &[published("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a")],
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    images: [50_000, 10_000],
};

impl Dataset {
    /// Where the dataset can be downloaded; none for those that can't.
    pub fn origin(self) -> Option<Origin> {
        match self {
            Dataset::Mnist => Some(MNIST),
            Dataset::Fmnist => Some(FASHION),
            Dataset::Cifar10 => Some(CIFAR_10),
            Dataset::CureTsr | Dataset::Folder => None,
        }
    }
}

/// A ten-class dataset as its files have it, before any split or resizing.
#[derive(Clone, Debug)]
pub struct TenClasses {
    /// Official training images.
    pub train: Labelled,
    /// Official test images.
    pub test: Labelled,
    /// The files that were read.
    pub source: Source,
}

/// Reads `mnist`, `fmnist` or `cifar-10` from `path`. For the first two that is a folder of the
/// four IDX files, or one that holds them in torchvision's places (`MNIST/raw`,
/// `FashionMNIST/raw`); for the last see [`cifar::read`].
///
/// # Errors
/// Nothing of the kind is there, or it is broken; the message names the file.
///
/// # Panics
/// For the other datasets.
pub fn read(dataset: Dataset, path: &Path) -> Result<TenClasses> {
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
pub fn read_within(dataset: Dataset, path: &Path, limit: Option<u64>) -> Result<TenClasses> {
    let origin = dataset.origin().expect("read: a ten-class dataset");
    let (train, test, files) = if dataset == Dataset::Cifar10 {
        let (train, test, found) = cifar::read_within(path, limit.unwrap_or(limits::CIFAR))?;
        let files = if found.is_dir() { cifar::batch_files(&found) } else { vec![found] };
        (train, test, files)
    } else {
        let dir = &idx_folder(dataset, path);
        let split = |prefix| idx::read_split_within(dir, prefix, limit.unwrap_or(limits::IDX));
        (split("train")?, split("t10k")?, idx::files(dir)?)
    };
    let shape = |part: &Labelled| [part.images.height, part.images.width, part.images.channels];
    if shape(&train) != shape(&test) {
        return Err(Error::invalid(format!(
            "{}: training images of shape {:?} but test images of shape {:?}",
            path.display(),
            shape(&train),
            shape(&test)
        )));
    }
    Ok(TenClasses { train, test, source: describe(&files, path, &origin)? })
}

/// The folder of the IDX files of `mnist` or `fmnist`: `path`, or one of torchvision's places in
/// it.
pub fn idx_folder(dataset: Dataset, path: &Path) -> PathBuf {
    let inner = if dataset == Dataset::Mnist { "MNIST/raw" } else { "FashionMNIST/raw" };
    let places = ["", "raw", inner].map(|place| path.join(place));
    places.iter().find(|dir| idx::is_complete(dir)).unwrap_or(&places[0]).clone()
}

fn describe(files: &[PathBuf], path: &Path, origin: &Origin) -> Result<Source> {
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut published = true;
    let mut source = Source { what: "local files".into(), sha256: Default::default() };
    for file in files {
        let md5 = md5_file(file)?;
        published &= origin.files.iter().any(|known| known.name == name(file) && known.md5 == md5);
        source.sha256.insert(name(file), sha256_file(file)?);
    }
    if published {
        source.what = "the official files".into();
    } else if path == Path::new(DEBIAN_FASHION) {
        source.what = "Debian's package dataset-fashion-mnist".into();
    }
    Ok(source)
}
