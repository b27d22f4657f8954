//! Files that come compressed or not: told apart by their content, not by their names.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// What `reader` holds, uncompressed if it starts as gzip does. Whoever reads it sets the bound: a
/// few bytes may become any number.
pub(super) fn uncompressed<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}
