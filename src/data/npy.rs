//! NumPy's array file format, for the two kinds of array a prepared folder holds: bytes and signed
//! 64-bit numbers.
//!
//! `\x93NUMPY`, version, header length, a Python dictionary as text (type, order, shape), then the
//! values.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::{open, read_values};
use crate::error::{Error, Result};
use crate::limits::{self, shown};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read, as in NumPy itself.
const MOST_HEADER: u64 = 10_000;

/// Writes bytes of shape `shape` as a version 1.0 file of type `|u1`.
///
/// # Errors
/// What `writer` says.
pub fn write_u8(mut writer: impl Write, shape: &[usize], data: &[u8]) -> std::io::Result<()> {
    assert_eq!(
        shape.iter().product::<usize>(),
        data.len(),
        "write_u8: shape {shape:?} for {} bytes",
        data.len()
    );
    writer.write_all(&header("|u1", shape))?;
    writer.write_all(data)
}

/// Writes numbers as a version 1.0 file of type `<i8`, one dimension.
///
/// # Errors
/// What `writer` says.
pub fn write_i64(mut writer: impl Write, data: &[i64]) -> std::io::Result<()> {
    writer.write_all(&header("<i8", &[data.len()]))?;
    writer.write_all(&data.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
}

/// Reads an array of bytes with `D` dimensions: its shape and its values in C order.
///
/// # Errors
/// The file can't be read, is no `.npy` file, has another type, order or number of dimensions, more
/// than [`limits::ARRAY`] bytes, or its length does not fit its header.
pub fn read_u8<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>)> {
    let array = open_u8(path)?;
    Ok((array.shape, array.values()?))
}

/// Reads a one-dimensional array of signed 64-bit numbers.
///
/// # Errors
/// As [`read_u8`].
pub fn read_i64(path: &Path) -> Result<Vec<i64>> {
    open_i64(path)?.numbers()
}

/// An array of bytes of which only the header was read, so that its shape can be looked at first.
///
/// # Errors
/// As [`read_u8`].
pub(super) fn open_u8<const D: usize>(path: &Path) -> Result<Array<'_, D, BufReader<File>>> {
    Array::new(open(path)?, path, "|u1", 1)
}

/// As [`open_u8`], of signed 64-bit numbers in one dimension.
///
/// # Errors
/// As [`read_u8`].
pub(super) fn open_i64(path: &Path) -> Result<Array<'_, 1, BufReader<File>>> {
    Array::new(open(path)?, path, "<i8", 8)
}

/// [`read_u8`] from anything that can be read. `name` stands for the file in errors.
///
/// # Errors
/// As [`read_u8`].
pub fn u8_from<const D: usize>(reader: impl Read, name: &Path) -> Result<([usize; D], Vec<u8>)> {
    let array = Array::new(reader, name, "|u1", 1)?;
    Ok((array.shape, array.values()?))
}

/// [`read_i64`] from anything that can be read. `name` stands for the file in errors.
///
/// # Errors
/// As [`read_u8`].
pub fn i64_from(reader: impl Read, name: &Path) -> Result<Vec<i64>> {
    Array::<1, _>::new(reader, name, "<i8", 8)?.numbers()
}

fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [n] => format!("({n},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // The values start at a multiple of 64 bytes; a newline ends the header.
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("the header of a few dimensions is short");
    [MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
}

/// A file whose header was read.
pub(super) struct Array<'a, const D: usize, R> {
    name: &'a Path,
    pub shape: [usize; D],
    /// Bytes of the values.
    size: u64,
    reader: R,
}

impl<'a, const D: usize, R: Read> Array<'a, D, R> {
    /// Reads the header: values of type `descr`, `width` bytes each.
    fn new(mut reader: R, name: &'a Path, descr: &str, width: u64) -> Result<Self> {
        let invalid = |what: String| Error::invalid(format!("{}: {what}", name.display()));
        let mut fixed = [0; 8];
        reader.read_exact(&mut fixed).map_err(Error::io(name))?;
        if &fixed[..6] != MAGIC {
            let start = fixed[..6].escape_ascii();
            return Err(invalid(format!("starts with \"{start}\", expected \"\\x93NUMPY\"")));
        }
        let mut length = [0; 4];
        let digits = match fixed[6] {
            1 => 2,
            2 | 3 => 4,
            version => {
                return Err(invalid(format!("format version {version}, expected 1, 2 or 3")));
            }
        };
        reader.read_exact(&mut length[..digits]).map_err(Error::io(name))?;
        let length = u32::from_le_bytes(length).into();
        if length > MOST_HEADER {
            return Err(limits::too_large(
                name,
                Some(length),
                MOST_HEADER,
                "the header of a NumPy file",
            ));
        }
        let mut text = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut text).map_err(Error::io(name))?;
        let text = String::from_utf8_lossy(&text);
        let found = field(&text, "descr")
            .and_then(|v| v.strip_prefix('\'')?.split_once('\''))
            .map(|(v, _)| v);
        if found != Some(descr) {
            return Err(invalid(format!(
                "values of type {}, expected {descr}",
                shown(found.unwrap_or("unknown"))
            )));
        }
        if !field(&text, "fortran_order").is_some_and(|v| v.starts_with("False")) {
            return Err(invalid("not in C order, expected 'fortran_order': False".into()));
        }
        let shape = field(&text, "shape").and_then(parse_shape).unwrap_or_default();
        let shape: [usize; D] = shape.try_into().map_err(|shape: Vec<usize>| {
            invalid(format!("shape {}, expected {D} dimensions", shown(format_args!("{shape:?}"))))
        })?;
        let size = shape.iter().fold(width, |size, &n| size.saturating_mul(n as u64));
        if size > limits::ARRAY {
            return Err(limits::too_large(
                name,
                Some(size),
                limits::ARRAY,
                &format!("an array (its shape is {shape:?})"),
            ));
        }
        Ok(Array { name, shape, size, reader })
    }

    /// Reads the values: as many bytes as the header says.
    pub fn values(self) -> Result<Vec<u8>> {
        read_values(self.reader, &self.shape, self.size, self.name)
    }

    /// Reads the values of an array of signed 64-bit numbers.
    pub fn numbers(self) -> Result<Vec<i64>> {
        let bytes = self.values()?;
        Ok(bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("chunks of 8")))
            .collect())
    }
}

/// What follows `'key':` in the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    Some(header.split_once(&format!("'{key}':"))?.1.trim_start())
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
}
