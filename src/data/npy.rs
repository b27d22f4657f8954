//! NumPy's array file format, for the two kinds of array a prepared folder holds: bytes and signed 64-bit numbers.
//!
//! `\x93NUMPY`, version, header length, a Python dictionary as text (type, order, shape), then the values.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Writes bytes of shape `shape` as a version 1.0 file of type `|u1`.
///
/// # Errors
/// What `writer` says.
pub fn write_u8(mut writer: impl Write, shape: &[usize], data: &[u8]) -> std::io::Result<()> {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "write_u8: shape {shape:?} for {} bytes", data.len());
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
/// The file can't be read, is no `.npy` file, has another type, order or number of dimensions, or its length does not
/// fit its header.
pub fn read_u8<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>)> {
    read(path, "|u1", 1)
}

/// Reads a one-dimensional array of signed 64-bit numbers.
///
/// # Errors
/// As [`read_u8`].
pub fn read_i64(path: &Path) -> Result<Vec<i64>> {
    let (_, bytes) = read::<1>(path, "<i8", 8)?;
    Ok(bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("chunks of 8"))).collect())
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

fn read<const D: usize>(path: &Path, descr: &str, width: usize) -> Result<([usize; D], Vec<u8>)> {
    let invalid = |what: String| Error::invalid(format!("{}: {what}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut fixed = [0; 8];
    file.read_exact(&mut fixed).map_err(Error::io(path))?;
    if &fixed[..6] != MAGIC {
        return Err(invalid(format!(
            "starts with {:?}, expected \"\\x93NUMPY\"",
            fixed[..6].escape_ascii().to_string()
        )));
    }
    let length = match fixed[6] {
        1 => {
            let mut bytes = [0; 2];
            file.read_exact(&mut bytes).map_err(Error::io(path))?;
            u16::from_le_bytes(bytes).into()
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).map_err(Error::io(path))?;
            u32::from_le_bytes(bytes)
        }
        version => return Err(invalid(format!("format version {version}, expected 1, 2 or 3"))),
    };
    let mut text = Vec::new();
    file.by_ref().take(length.into()).read_to_end(&mut text).map_err(Error::io(path))?;
    let text = String::from_utf8_lossy(&text);
    let found = field(&text, "descr").and_then(|v| v.strip_prefix('\'')?.split_once('\'')).map(|(v, _)| v);
    if found != Some(descr) {
        return Err(invalid(format!("values of type {}, expected {descr}", found.unwrap_or("unknown"))));
    }
    if !field(&text, "fortran_order").is_some_and(|v| v.starts_with("False")) {
        return Err(invalid("not in C order, expected 'fortran_order': False".into()));
    }
    let shape = field(&text, "shape").and_then(parse_shape);
    let shape: [usize; D] = shape
        .clone()
        .and_then(|shape| shape.try_into().ok())
        .ok_or_else(|| invalid(format!("shape {:?}, expected {D} dimensions", shape.unwrap_or_default())))?;
    let size = shape.iter().fold(width as u64, |size, &n| size.saturating_mul(n as u64));
    let mut data = Vec::new();
    file.take(size.saturating_add(1)).read_to_end(&mut data).map_err(Error::io(path))?;
    if data.len() as u64 != size {
        let found = if data.len() as u64 > size { "more".to_string() } else { data.len().to_string() };
        return Err(invalid(format!("{found} bytes of values, expected {size} for shape {shape:?}")));
    }
    Ok((shape, data))
}

/// What follows `'key':` in the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    Some(header.split_once(&format!("'{key}':"))?.1.trim_start())
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
}
