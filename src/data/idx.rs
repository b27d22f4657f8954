//! IDX files, the format of MNIST and Fashion-MNIST: big-endian `00 00 TT DD` (type, number of dimensions), DD sizes
//! as u32, then the values. Only unsigned bytes (TT = 08) occur in these datasets.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{Images, Labelled};
use crate::{Error, Result};

/// The gray images [n, h, w, 1] of an IDX file, plain or gzip-compressed (told apart by content, not by name).
///
/// # Errors
/// The file can't be read, isn't a 3-dimensional IDX file of bytes, or holds more or fewer bytes than its header says.
pub fn read_images(path: &Path) -> Result<Images> {
    images(open(path)?, path)
}

/// The labels `[n]` of an IDX file, plain or gzip-compressed.
///
/// # Errors
/// As [`read_images`], for one dimension.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    labels(open(path)?, path)
}

/// Images and labels of one split in `dir`; `prefix` is `train` or `t10k` as in the official names.
///
/// # Errors
/// A file is missing or broken, the counts differ, or a label is not in 0..=9.
pub fn read_split(dir: &Path, prefix: &str) -> Result<Labelled> {
    let (images, labels) = (find(dir, prefix, "images", 3)?, find(dir, prefix, "labels", 1)?);
    pair(read_images(&images)?, read_labels(&labels)?, &labels)
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
    let parts = [("train", "images", 3), ("train", "labels", 1), ("t10k", "images", 3), ("t10k", "labels", 1)];
    parts.iter().map(|&(prefix, part, ndim)| find(dir, prefix, part, ndim)).collect()
}

/// Images and labels from gzip-compressed IDX files in memory; `name` stands for the files in errors.
pub(super) fn from_gz(images_gz: &[u8], labels_gz: &[u8], name: &str) -> Result<Labelled> {
    let (images_name, labels_name) = (PathBuf::from(format!("{name} images")), PathBuf::from(format!("{name} labels")));
    pair(
        images(MultiGzDecoder::new(images_gz), &images_name)?,
        labels(MultiGzDecoder::new(labels_gz), &labels_name)?,
        &labels_name,
    )
}

/// The file of one part, under any of the names it is met with: with and without `.gz`, `-idx3` or `.idx3`.
fn find(dir: &Path, prefix: &str, part: &str, ndim: usize) -> Result<PathBuf> {
    let official = dir.join(format!("{prefix}-{part}-idx{ndim}-ubyte.gz"));
    ["-", "."]
        .iter()
        .flat_map(|dot| ["", ".gz"].map(|gz| dir.join(format!("{prefix}-{part}{dot}idx{ndim}-ubyte{gz}"))))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{}: no such file, nor {prefix}-{part}-idx{ndim}-ubyte without .gz",
                official.display()
            ))
        })
}

fn pair(images: Images, labels: Vec<u8>, labels_path: &Path) -> Result<Labelled> {
    if images.n != labels.len() {
        return Err(Error::invalid(format!(
            "{}: {} labels, expected {} as there are that many images",
            labels_path.display(),
            labels.len(),
            images.n
        )));
    }
    if let Some(i) = labels.iter().position(|&label| label > 9) {
        return Err(Error::invalid(format!(
            "{}: label {} at index {i}, expected 0 to 9",
            labels_path.display(),
            labels[i]
        )));
    }
    Ok(Labelled { images, labels })
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let start = |file: &mut dyn Read| {
        let mut magic = Vec::new();
        file.take(2).read_to_end(&mut magic).map(|_| magic)
    };
    let magic = File::open(path).and_then(|mut file| start(&mut file)).map_err(Error::io(path))?;
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    Ok(if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn images(reader: impl Read, name: &Path) -> Result<Images> {
    let ([n, height, width], data) = parse::<3>(reader, name)?;
    if height == 0 || width == 0 {
        return Err(Error::invalid(format!("{}: images of {height} x {width} pixels", name.display())));
    }
    Ok(Images { data, n, height, width, channels: 1 })
}

fn labels(reader: impl Read, name: &Path) -> Result<Vec<u8>> {
    Ok(parse::<1>(reader, name)?.1)
}

fn parse<const D: usize>(mut reader: impl Read, name: &Path) -> Result<([usize; D], Vec<u8>)> {
    let mut word = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(Error::io(name))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let magic = word()?;
    let expected = 0x0800 + D as u32;
    if magic != expected {
        return Err(Error::invalid(format!(
            "{}: starts with {magic:#010x}, expected {expected:#010x} (IDX, unsigned bytes, {D} dimensions)",
            name.display()
        )));
    }
    let mut shape = [0; D];
    let mut size = 1u64;
    for n in &mut shape {
        *n = word()? as usize;
        size = size.saturating_mul(*n as u64);
    }
    // The header is not trusted with an allocation: the buffer grows with what is really there.
    let mut data = Vec::new();
    reader.take(size.saturating_add(1)).read_to_end(&mut data).map_err(Error::io(name))?;
    if data.len() as u64 != size {
        let found = if data.len() as u64 > size { "more".to_string() } else { data.len().to_string() };
        return Err(Error::invalid(format!(
            "{}: {found} bytes of values, expected {size} for shape {shape:?}",
            name.display()
        )));
    }
    Ok((shape, data))
}
