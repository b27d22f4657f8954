//! CIFAR-10 from its binary or Python distribution, as the archive (.tar, .tar.gz) or unpacked.
//!
//! A binary batch is a run of records: one label byte, then 1,024 red, 1,024 green and 1,024 blue values, row by row.
//! A Python batch is a pickled dictionary: `data`, bytes [n, 3072] in the same order, and `labels`, a list.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::pickle::Pickle;
use super::{Images, Labelled, concat};
use crate::{Error, Result};

/// The ten classes, by label.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const BATCHES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// Training and test images [n, 32, 32, 3] from `path`: an archive, the folder of the unpacked batches, or a folder
/// that holds either under its official name. Also returns the archive or folder that was read.
///
/// # Errors
/// Nothing of the kind is there, a batch is missing, or a batch is broken; the message names the file.
pub fn read(path: &Path) -> Result<(Labelled, Labelled, PathBuf)> {
    let found = locate(path)?;
    let batches = if found.is_dir() { read_folder(&found)? } else { read_archive(&found)? };
    let mut parts = Vec::new();
    for name in BATCHES {
        let (binary, pickled) = (format!("{name}.bin"), name.to_string());
        parts.push(if let Some(bytes) = batches.get(&binary) {
            binary_batch(bytes, &found.join(binary))?
        } else if let Some(bytes) = batches.get(&pickled) {
            python_batch(bytes, &found.join(pickled))?
        } else {
            return Err(Error::invalid(format!("{}: neither {name} nor {name}.bin in it", found.display())));
        });
    }
    let test = parts.pop().expect("six batches were read");
    Ok((concat(parts), test, found))
}

fn locate(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let has_batches = |dir: &Path| dir.join("test_batch").is_file() || dir.join("test_batch.bin").is_file();
    let folders = ["", "cifar-10-batches-py", "cifar-10-batches-bin"].map(|name| path.join(name));
    let archives = ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"].map(|name| path.join(name));
    let folder = folders.into_iter().find(|dir| has_batches(dir));
    folder.or_else(|| archives.into_iter().find(|file| file.is_file())).ok_or_else(|| {
        Error::invalid(format!(
            "{}: expected the six CIFAR-10 batches, cifar-10-batches-py, cifar-10-batches-bin, cifar-10-python.tar.gz \
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

fn read_folder(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, std::fs::read(&path).map_err(Error::io(path))?))
    };
    batch_files(dir).into_iter().map(read).collect()
}

fn read_archive(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(Error::io(path))?;
    file.rewind().map_err(Error::io(path))?;
    let reader: Box<dyn Read> =
        if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = tar::Archive::new(reader);
    let mut batches = BTreeMap::new();
    for entry in archive.entries().map_err(Error::io(path))? {
        let mut entry = entry.map_err(Error::io(path))?;
        let name =
            entry.path().map_err(Error::io(path))?.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_batch(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(Error::io(path))?;
            if bytes.len() as u64 != entry.size() {
                let (found, size) = (bytes.len(), entry.size());
                return Err(Error::invalid(format!(
                    "{}: {name} is cut short: {found} of {size} bytes",
                    path.display()
                )));
            }
            batches.insert(name, bytes);
        }
    }
    Ok(batches)
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
fn batch<'a>(planes: impl Iterator<Item = &'a [u8]>, labels: Vec<i64>, name: &Path) -> Result<Labelled> {
    if let Some(i) = labels.iter().position(|label| !(0..10).contains(label)) {
        return Err(Error::invalid(format!("{}: label {} at index {i}, expected 0 to 9", name.display(), labels[i])));
    }
    let data = planes.flat_map(|row| (0..3 * PIXELS).map(|i| row[i % 3 * PIXELS + i / 3])).collect();
    let images = Images { data, n: labels.len(), height: SIDE, width: SIDE, channels: 3 };
    Ok(Labelled { images, labels: labels.into_iter().map(|label| label as u8).collect() })
}
