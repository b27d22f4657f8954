//! Pictures inside an HTML page.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::limits;

/// A PNG file as a `data:` address.
///
/// # Errors
/// The file cannot be read or is no PNG.
pub fn png_data(path: &Path) -> Result<String> {
    let bytes = limits::read(path, limits::TILE, "a picture of a page")?;
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err(Error::invalid(format!("{}: not a PNG file", path.display())));
    }
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(&bytes)))
}
