//! The datasets: a file for each, with a [`Spec`] that says all there is to know about it, and one
//! table of them, [`ALL`]. Whatever takes, lists, downloads, reads, splits or names datasets walks
//! the table: command line, help, manifests, hints and tests.
//!
//! # To add one
//!
//! 1. A file `NAME.rs` here, and its `mod` below: a `static SPEC: Spec`, and `Dataset::NAME` that
//!    leads to it. The nearest example is [`mnist`] for files of arrays, [`cure_tsr`] for pictures.
//! 2. A row in [`ALL`]. A test fails while a file has none.
//!
//! A format that no other dataset has gets a reader beside [`idx`](super::idx) and
//! [`cifar`](super::cifar); pictures that are neither normal nor abnormal by their folders get a
//! protocol in [`prepare`](super::prepare).

pub mod cifar_10;
pub mod cure_tsr;
pub mod fmnist;
pub mod folder;
pub mod mnist;
pub mod mvtec;

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::picture::{Decode, Progress};
use super::walk::Tally;
use super::{Labelled, Prepared};
use crate::error::Result;

/// All datasets, in the order in which they are listed.
pub static ALL: &[Dataset] = &[
    Dataset::MNIST,
    Dataset::FMNIST,
    Dataset::CIFAR_10,
    Dataset::CURE_TSR,
    Dataset::MVTEC,
    Dataset::FOLDER,
];

/// A dataset that can be prepared: a row of [`ALL`].
#[derive(Clone, Copy)]
pub struct Dataset(&'static Spec);

/// What there is to know about a dataset.
#[derive(Debug)]
pub struct Spec {
    /// The name used on the command line and in files.
    pub name: &'static str,
    /// Other names that the command line takes.
    pub aliases: &'static [&'static str],
    /// The name used in prose.
    pub title: &'static str,
    /// Its line in the help.
    pub about: &'static str,
    /// What `--from` may lead to, as the end of a sentence.
    pub from: &'static str,
    /// Whether the dataset lies in this folder, by a look at names only.
    pub is_in: fn(&Path) -> bool,
    /// How it comes.
    pub kind: Kind,
}

/// How a dataset comes.
#[derive(Debug)]
pub enum Kind {
    /// As files of arrays, with ten classes of which each is the inlier class once.
    TenClasses(&'static TenClasses),
    /// As picture files, with one inlier class.
    Pictures(&'static Pictures),
}

/// A dataset of ten classes.
#[derive(Debug)]
pub struct TenClasses {
    /// The names of the classes, by label.
    pub classes: [&'static str; 10],
    /// The official files, with lengths and MD5 sums as torchvision publishes them.
    pub files: &'static [Published],
    /// Addresses to put a file's name after, tried in order.
    pub mirrors: &'static [&'static str],
    /// Official numbers of training and test images.
    pub images: [usize; 2],
    /// Where a system's package puts the official files.
    pub package: Option<Package>,
    /// The part of it that is inside the program.
    pub subset: Option<Subset>,
    /// Reads what lies at a path: at most so many bytes of images, or as many as the format's own
    /// limit.
    pub read: fn(&Path, Option<u64>) -> Result<Read>,
    /// Who trains, who validates, who is tested.
    pub split: Split,
}

/// Training images, test images, and the files that they were read from.
pub type Read = (Labelled, Labelled, Vec<PathBuf>);

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

/// A package of the operating system with a dataset's official files.
#[derive(Debug)]
pub struct Package {
    /// What it is called.
    pub name: &'static str,
    /// Where it puts the files.
    pub dir: &'static str,
}

/// A part of a dataset that is inside the program.
#[derive(Debug)]
pub struct Subset {
    /// What it is, as part of a sentence.
    pub what: &'static str,
    /// Prepares it at this size, with this seed and these outlier ratios.
    pub prepare: fn(usize, u64, &[u32]) -> Result<Prepared>,
}

/// How the images of a ten-class dataset are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Of the official training images of each class a tenth validates; the official test images
    /// are the test images.
    HoldOut,
    /// All images of each class are pooled into five folds: three train, one validates, one is
    /// tested.
    Folds,
}

/// A dataset of picture files.
#[derive(Debug)]
pub struct Pictures {
    /// Whether they are a user's own pictures: with a name and a number of channels of the user's
    /// choice.
    pub own: bool,
    /// Whether they may also be given as folders of normal and of abnormal images.
    pub by_folders: bool,
    /// What to tell a user who didn't say where they are: no program can download them.
    pub needs: &'static str,
    /// Finds them below the path that `--from` gives.
    pub find: fn(&Path) -> Result<Box<dyn Listed>>,
}

/// Picture files of a dataset, found but not read.
pub trait Listed {
    /// What was found, and where.
    fn what(&self) -> String;

    /// What is good to know about them, where they are read so.
    fn notes(&self, _decode: &Decode) -> Vec<String> {
        vec![]
    }

    /// What else is there.
    fn left_out(&self) -> &Tally;

    /// What looks like a mistake.
    fn warnings(&self) -> &[String] {
        &[]
    }

    /// Reads and prepares them.
    ///
    /// # Errors
    /// An image can't be read, or there are too few; or what `progress` returned.
    fn prepare(&self, decode: Decode, seed: u64, progress: Progress) -> Result<Prepared>;
}

impl Dataset {
    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What this is if it has ten classes.
    pub fn ten_classes(self) -> Option<&'static TenClasses> {
        match self.0.kind {
            Kind::TenClasses(ten) => Some(ten),
            Kind::Pictures(_) => None,
        }
    }

    /// What this is if it comes as pictures.
    pub fn pictures(self) -> Option<&'static Pictures> {
        match self.0.kind {
            Kind::TenClasses(_) => None,
            Kind::Pictures(pictures) => Some(pictures),
        }
    }

    /// Whether it is a user's own pictures.
    pub fn is_own(self) -> bool {
        self.pictures().is_some_and(|pictures| pictures.own)
    }

    /// The dataset that manifests record: all own pictures are `folder` there.
    pub fn recorded(self) -> Dataset {
        if self.is_own() { Dataset::FOLDER } else { self }
    }
}

impl Deref for Dataset {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        self.0
    }
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Dataset) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Dataset {}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({})", self.name())
    }
}

impl Serialize for Dataset {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.recorded().name())
    }
}

impl<'de> Deserialize<'de> for Dataset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(ByName)
    }
}

/// Reads a dataset's name without a copy of it: in somebody's manifest it may be of any length.
struct ByName;

impl de::Visitor<'_> for ByName {
    type Value = Dataset;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a dataset")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Dataset, E> {
        let mut recorded = ALL.to_vec();
        recorded.retain(|dataset| dataset.recorded() == *dataset);
        recorded.iter().find(|dataset| dataset.name() == name).copied().ok_or_else(|| {
            let names: Vec<String> =
                recorded.iter().map(|dataset| format!("`{}`", dataset.name())).collect();
            let names = names.join(", ");
            E::custom(format_args!("unknown variant `{name}`, expected one of {names}"))
        })
    }
}
