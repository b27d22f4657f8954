//! CIFAR-10 from its binary or Python distribution, as the archive (.tar, .tar.gz) or unpacked.
//!
//! A binary batch is a run of records: one label byte, then 1,024 red, 1,024 green and 1,024 blue
//! values, row by row. A Python batch is a pickled dictionary: `data`, bytes [n, 3072] in the same
//! order, and `labels`, a list.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::folder::name_of;
use super::pickle::Pickle;
use super::{Images, Labelled, check_ten_labels, concat, gzip, open};
use crate::error::{Error, Result};
use crate::limits::{self, Bounded};

const BATCHES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
/// What a limit is for, in errors.
const WHAT: &str = "CIFAR-10 in all (--max-bytes sets another limit)";
/// Longest path in an archive that is looked at.
const MOST_PATH: u64 = 4096;

/// Training and test images [n, 32, 32, 3] from `path`: an archive, the folder of the unpacked
/// batches, or a folder that holds either under its official name. Also returns the archive or
/// folder that was read.
///
/// # Errors
/// Nothing of the kind is there, a batch is missing or broken, or all is larger than
/// [`limits::CIFAR`]; the message names the file.
pub fn read(path: &Path) -> Result<(Labelled, Labelled, PathBuf)> {
    read_within(path, limits::CIFAR)
}

/// [`read`], with at most `limit` bytes of uncompressed content.
pub(super) fn read_within(path: &Path, limit: u64) -> Result<(Labelled, Labelled, PathBuf)> {
    let found = locate(path)?;
    let (train, test) = if found.is_dir() {
        read_folder(&found, limit)?
    } else {
        archive_from(open(&found)?, &found, limit)?
    };
    Ok((train, test, found))
}

/// Training and test images from an archive, compressed or not, of at most `limit` bytes when
/// uncompressed. `name` stands for the file in errors.
///
/// # Errors
/// As [`read`].
pub fn archive_from(reader: impl BufRead, name: &Path, limit: u64) -> Result<(Labelled, Labelled)> {
    let content = Bounded::new(gzip::uncompressed(reader).map_err(Error::io(name))?, limit, WHAT);
    let mut archive = tar::Archive::new(content);
    let mut batches = Batches::default();
    let mut long_name = None;
    // Raw: the crate would put long names and sparse files together in memory, however large they
    // claim to be.
    for entry in archive.entries().map_err(Error::io(name))?.raw(true) {
        let mut entry = entry.map_err(Error::io(name))?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let mut path = Vec::new();
            entry.by_ref().take(MOST_PATH).read_to_end(&mut path).map_err(Error::io(name))?;
            long_name = Some(path);
        }
        if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            continue; // they describe the entry that follows
        }
        let file = file_name(&long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned()));
        if !is_batch(&file) || kind.is_dir() {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            let what = if kind.is_gnu_sparse() { "a sparse file" } else { "a link or device" };
            return Err(Error::invalid(format!(
                "{}: {file} is {what}, expected a plain file",
                name.display()
            )));
        }
        let size = entry.size();
        if size > limit {
            return Err(limits::too_large(&name.join(&file), Some(size), limit, WHAT));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(Error::io(name))?;
        if bytes.len() as u64 != size {
            let found = bytes.len();
            return Err(Error::invalid(format!(
                "{}: {file} is cut short: {found} of {size} bytes",
                name.display()
            )));
        }
        batches.add(&file, &bytes, name)?;
    }
    batches.finish(name)
}

/// The last part of a path in an archive.
fn file_name(path: &[u8]) -> String {
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(path.rsplit(|&byte| byte == b'/').next().unwrap_or_default())
        .into_owned()
}

/// The images [n, 32, 32, 3] of one batch. `name` stands for the file in errors and tells the
/// format: binary if it ends in `.bin`, else a pickle.
///
/// # Errors
/// It is broken.
pub fn batch_from(bytes: &[u8], name: &Path) -> Result<Labelled> {
    if name.extension().is_some_and(|ending| ending == "bin") {
        binary_batch(bytes, name)
    } else {
        python_batch(bytes, name)
    }
}

/// The batches that were read, each as soon as its bytes were there.
#[derive(Default)]
struct Batches([Option<Labelled>; BATCHES.len()]);

impl Batches {
    fn add(&mut self, file: &str, bytes: &[u8], found: &Path) -> Result<()> {
        let stem = file.strip_suffix(".bin").unwrap_or(file);
        let place = BATCHES.iter().position(|name| *name == stem).expect("only batches are added");
        self.0[place] = Some(batch_from(bytes, &found.join(file))?);
        Ok(())
    }

    fn finish(self, found: &Path) -> Result<(Labelled, Labelled)> {
        let mut parts = Vec::new();
        for (name, batch) in BATCHES.iter().zip(self.0) {
            let missing = || {
                Error::invalid(format!("{}: neither {name} nor {name}.bin in it", found.display()))
            };
            parts.push(batch.ok_or_else(missing)?);
        }
        let test = parts.pop().expect("six batches were read");
        Ok((concat(parts), test))
    }
}

/// The folder of batches or the archive that `path` is or holds.
///
/// # Errors
/// There is none.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let has_batches =
        |dir: &Path| dir.join("test_batch").is_file() || dir.join("test_batch.bin").is_file();
    let folders = ["", "cifar-10-batches-py", "cifar-10-batches-bin"].map(|name| path.join(name));
    let archives = ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"].map(|name| path.join(name));
    let folder = folders.into_iter().find(|dir| has_batches(dir));
    folder.or_else(|| archives.into_iter().find(|file| file.is_file())).ok_or_else(|| {
        Error::invalid(format!(
            "{}: expected the six CIFAR-10 batches, cifar-10-batches-py, cifar-10-batches-bin, \
             cifar-10-python.tar.gz \
             or cifar-10-binary.tar.gz in it",
            path.display()
        ))
    })
}

/// The files of the batches in a folder.
pub(super) fn batch_files(dir: &Path) -> Vec<PathBuf> {
    let names = BATCHES.iter().flat_map(|name| [dir.join(name), dir.join(format!("{name}.bin"))]);
    names.filter(|path| path.is_file()).collect()
}

fn is_batch(name: &str) -> bool {
    BATCHES.contains(&name.strip_suffix(".bin").unwrap_or(name))
}

fn read_folder(dir: &Path, limit: u64) -> Result<(Labelled, Labelled)> {
    let (mut batches, mut left) = (Batches::default(), limit);
    for path in batch_files(dir) {
        let bytes = limits::read(&path, left, WHAT)?;
        left -= bytes.len() as u64;
        batches.add(&name_of(&path), &bytes, dir)?;
    }
    batches.finish(dir)
}

fn binary_batch(bytes: &[u8], name: &Path) -> Result<Labelled> {
    const RECORD: usize = 1 + 3 * PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(Error::invalid(format!(
            "{}: {} bytes, expected a multiple of {RECORD} (label and 32 x 32 x 3 values)",
            name.display(),
            bytes.len()
        )));
    }
    let records = bytes.chunks_exact(RECORD);
    let labels = records.clone().map(|record| record[0].into()).collect();
    batch(records.map(|record| &record[1..]), labels, name)
}

fn python_batch(bytes: &[u8], name: &Path) -> Result<Labelled> {
    let pickle = Pickle::parse(bytes, name)?;
    let missing = |what| Error::invalid(format!("{}: no {what} in it", name.display()));
    let (shape, data) = pickle.array("data").ok_or_else(|| missing("array 'data'"))?;
    let labels = pickle.ints("labels").ok_or_else(|| missing("list 'labels'"))?;
    if shape != [labels.len(), 3 * PIXELS] || labels.is_empty() {
        return Err(Error::invalid(format!(
            "{}: data of shape {shape:?} with {} labels, expected one row of {} per label",
            name.display(),
            labels.len(),
            3 * PIXELS
        )));
    }
    batch(data.chunks_exact(3 * PIXELS), labels, name)
}

/// Images [n, 32, 32, 3] from rows of [3, 32, 32].
fn batch<'a>(
    planes: impl Iterator<Item = &'a [u8]>,
    labels: Vec<i64>,
    name: &Path,
) -> Result<Labelled> {
    check_ten_labels(&labels, name)?;
    let data =
        planes.flat_map(|row| (0..3 * PIXELS).map(|i| row[i % 3 * PIXELS + i / 3])).collect();
    let images = Images { data, n: labels.len(), height: SIDE, width: SIDE, channels: 3 };
    Ok(Labelled { images, labels: labels.into_iter().map(|label| label as u8).collect() })
}
