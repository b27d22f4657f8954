//! IDX files, the format of MNIST and Fashion-MNIST: big-endian `00 00 TT DD` (type, number of
//! dimensions), DD sizes as u32, then the values. Only unsigned bytes (TT = 08) occur in these
//! datasets.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::{Images, Labelled, check_ten_labels, gzip, open, read_values};
use crate::error::{Error, Result};
use crate::limits;

/// The gray images [n, h, w, 1] of an IDX file, plain or gzip-compressed (told apart by content,
/// not by name).
///
/// # Errors
/// The file can't be read, isn't a 3-dimensional IDX file of bytes, or holds more or fewer bytes
/// than its header says, or more than [`limits::IDX`].
pub fn read_images(path: &Path) -> Result<Images> {
    images_from(open(path)?, path, limits::IDX)
}

/// The labels `[n]` of an IDX file, plain or gzip-compressed.
///
/// # Errors
/// As [`read_images`], for one dimension.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    labels_from(open(path)?, path, limits::IDX)
}

/// [`read_images`] from anything that can be read, at most `limit` bytes of values. `name` stands
/// for the file in errors.
///
/// # Errors
/// As [`read_images`].
pub fn images_from(reader: impl BufRead, name: &Path, limit: u64) -> Result<Images> {
    let Open { shape: [n, height, width], size, values } = Open::<3>::new(reader, name, limit)?;
    if height == 0 || width == 0 {
        return Err(Error::invalid(format!(
            "{}: images of {height} x {width} pixels",
            name.display()
        )));
    }
    let data = read_values(values, &[n, height, width], size, name)?;
    Ok(Images { data, n, height, width, channels: 1 })
}

/// [`read_labels`] from anything that can be read, at most `limit` of them.
///
/// # Errors
/// As [`read_labels`].
pub fn labels_from(reader: impl BufRead, name: &Path, limit: u64) -> Result<Vec<u8>> {
    let Open { shape, size, values } = Open::<1>::new(reader, name, limit)?;
    read_values(values, &shape, size, name)
}

/// Images and labels of one split in `dir`; `prefix` is `train` or `t10k` as in the official names.
///
/// # Errors
/// A file is missing or broken, the counts differ, or a label is not in 0..=9.
pub fn read_split(dir: &Path, prefix: &str) -> Result<Labelled> {
    read_split_within(dir, prefix, limits::IDX)
}

/// [`read_split`], with images of at most `limit` bytes.
pub(super) fn read_split_within(dir: &Path, prefix: &str, limit: u64) -> Result<Labelled> {
    let (images, labels) = (find(dir, prefix, "images", 3)?, find(dir, prefix, "labels", 1)?);
    pair((open(&images)?, &images), (open(&labels)?, &labels), limit)
}

/// Whether `dir` holds the four IDX files of MNIST or Fashion-MNIST, compressed or not.
pub fn is_complete(dir: &Path) -> bool {
    files(dir).is_ok()
}

/// The four files in `dir`.
///
/// # Errors
/// One is missing.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let parts = [
        ("train", "images", 3),
        ("train", "labels", 1),
        ("t10k", "images", 3),
        ("t10k", "labels", 1),
    ];
    parts.iter().map(|&(prefix, part, ndim)| find(dir, prefix, part, ndim)).collect()
}

/// Images and labels from IDX files in memory; `name` stands for the files in errors.
pub(super) fn from_memory(images: &[u8], labels: &[u8], name: &str) -> Result<Labelled> {
    let (images_name, labels_name) =
        (PathBuf::from(format!("{name} images")), PathBuf::from(format!("{name} labels")));
    pair((images, &images_name), (labels, &labels_name), limits::IDX)
}

/// The file of one part, under any of the names it is met with: with and without `.gz`, `-idx3` or
/// `.idx3`.
fn find(dir: &Path, prefix: &str, part: &str, ndim: usize) -> Result<PathBuf> {
    let official = dir.join(format!("{prefix}-{part}-idx{ndim}-ubyte.gz"));
    ["-", "."]
        .iter()
        .flat_map(|dot| {
            ["", ".gz"].map(|gz| dir.join(format!("{prefix}-{part}{dot}idx{ndim}-ubyte{gz}")))
        })
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{}: no such file, nor {prefix}-{part}-idx{ndim}-ubyte without .gz",
                official.display()
            ))
        })
}

fn pair(
    (images, images_name): (impl BufRead, &Path),
    (labels, labels_name): (impl BufRead, &Path),
    limit: u64,
) -> Result<Labelled> {
    let images = images_from(images, images_name, limit)?;
    let Open { shape: [n], size, values } = Open::<1>::new(labels, labels_name, u64::MAX)?;
    // Before they are read: there may be any number.
    if images.n != n {
        return Err(Error::invalid(format!(
            "{}: {n} labels, expected {} as there are that many images",
            labels_name.display(),
            images.n
        )));
    }
    let labels = read_values(values, &[n], size, labels_name)?;
    check_ten_labels(&labels, labels_name)?;
    Ok(Labelled { images, labels })
}

/// A file whose header was read.
struct Open<'a, const D: usize> {
    shape: [usize; D],
    /// How many values there should be.
    size: u64,
    values: Box<dyn Read + 'a>,
}

impl<'a, const D: usize> Open<'a, D> {
    /// Reads the header. It may promise at most `limit` values.
    fn new(reader: impl BufRead + 'a, name: &Path, limit: u64) -> Result<Self> {
        let mut values = gzip::uncompressed(reader).map_err(Error::io(name))?;
        let mut word = || {
            let mut bytes = [0; 4];
            values.read_exact(&mut bytes).map_err(Error::io(name))?;
            Ok(u32::from_be_bytes(bytes))
        };
        let magic = word()?;
        let expected = 0x0800 + D as u32;
        if magic != expected {
            return Err(Error::invalid(format!(
                "{}: starts with {magic:#010x}, expected {expected:#010x} (IDX, unsigned bytes, \
                 {D} dimensions)",
                name.display()
            )));
        }
        let mut shape = [0; D];
        for n in &mut shape {
            *n = word()? as usize;
        }
        let size = shape.iter().fold(1u64, |size, &n| size.saturating_mul(n as u64));
        if size > limit {
            return Err(limits::too_large(
                name,
                Some(size),
                limit,
                &format!("an IDX file (shape {shape:?}; --max-bytes sets another limit)"),
            ));
        }
        Ok(Open { shape, size, values })
    }
}
