//! Datasets: from official files or a user's own images to the prepared folder that training and
//! evaluation read.
//!
//! What there is ([`datasets`]), reading ([`idx`], [`cifar`], [`cure_tsr`], [`folder`] by way of
//! [`walk`] and [`picture`]), getting ([`source`], [`download`]), resizing ([`resize`]), splitting
//! ([`split`], [`prepare`]) and keeping ([`prepared`], [`manifest`], [`npy`]). Everything random
//! comes from one seed; the same input and seed give the same bytes on every machine.
//!
//! # The prepared folder
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | dataset, source, seed, classes, test sets; SHA-256 of every other file |
//! | `train_images.npy`, `val_images.npy`, `test_images.npy` | u8 [n, size, size, c], c = 1 or 3 |
//! | `train_labels.npy`, `val_labels.npy`, `test_labels.npy` | u8 `[n]`: class of each image |
//! | `train_names.json`, `val_names.json`, `test_names.json` | where each image file came from |
//! | `test_sets/NAME_index.npy` | i64 `[m]`: positions in `test_images.npy`, normal images first |
//! | `test_sets/NAME_label.npy` | u8 `[m]`: 0 normal, 1 anomalous |
//!
//! Test sets are named `class3_ratio50` (inlier class, percent of outliers), `CodecError-1`
//! (CURE-TSR: challenge and level), `normal` (own images) or as their category (several of them). The folder appears in one step, whole
//! or not at all.

pub mod ahead;
pub mod augment;
pub mod categories;
pub mod cifar;
pub mod classes;
pub mod cure_tsr;
pub mod datasets;
pub mod download;
pub mod embedded;
pub mod folder;
mod gzip;
pub mod hash;
pub mod idx;
pub mod listed;
pub mod manifest;
pub mod npy;
mod pickle;
pub mod picture;
mod place;
pub mod prepare;
pub mod prepared;
pub mod resize;
pub mod source;
pub mod split;
pub mod walk;
pub mod watch;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};
pub use crate::images::Images;
pub use datasets::Dataset;
pub use manifest::{Inlier, Manifest, TestSetInfo};
pub use prepared::{Prepared, TestSet};

/// Images with one label each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The images [n, height, width, channels].
    pub images: Images,
    /// Their labels `[n]`.
    pub labels: Vec<u8>,
}

impl Labelled {
    /// Indices of the images that carry `label`, ascending.
    pub fn indices_of(&self, label: u8) -> Vec<usize> {
        (0..self.labels.len()).filter(|&i| self.labels[i] == label).collect()
    }

    /// The images that carry `label`, in order.
    pub fn of(&self, label: u8) -> Images {
        self.images.select(&self.indices_of(label))
    }

    /// The images and labels at `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Labelled {
        Labelled {
            images: self.images.select(indices),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).map_err(Error::io(path))
}

/// The values of an array whose header promises `shape`, `size` bytes in all. It is not trusted
/// with an allocation: the buffer grows with what is really there.
fn read_values(reader: impl Read, shape: &[usize], size: u64, name: &Path) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    reader.take(size.saturating_add(1)).read_to_end(&mut data).map_err(Error::io(name))?;
    let found = data.len() as u64;
    if found != size {
        let found = if found > size { "more".to_string() } else { found.to_string() };
        return Err(Error::invalid(format!(
            "{}: {found} bytes of values, expected {size} for shape {shape:?}",
            name.display()
        )));
    }
    Ok(data)
}

/// Errors unless all are labels of ten classes.
fn check_ten_labels<T: Copy + Into<i64>>(labels: &[T], name: &Path) -> Result<()> {
    let wrong = |&label: &T| !(0..10).contains(&label.into());
    let Some(i) = labels.iter().position(wrong) else { return Ok(()) };
    let (name, label) = (name.display(), labels[i].into());
    Err(Error::invalid(format!("{name}: label {label} at index {i}, expected 0 to 9")))
}

/// All parts one after the other. They have images of one shape, and there is at least one.
fn concat(parts: Vec<Labelled>) -> Labelled {
    let mut parts = parts.into_iter();
    let mut all = parts.next().expect("concat: at least one part");
    for Labelled { images, labels } in parts {
        let shape = |images: &Images| [images.height, images.width, images.channels];
        assert_eq!(shape(&all.images), shape(&images), "concat: images of two shapes");
        all.images.data.extend(images.data);
        all.images.n += images.n;
        all.labels.extend(labels);
    }
    all
}
