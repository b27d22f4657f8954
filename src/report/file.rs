//! Files of a report, written whole or not at all.

use std::path::Path;

use crate::error::{Error, Result};
use crate::output;

/// Writes `bytes` to `path` as [`output::write`] does: a reader sees the old file or the new one
/// and never a part. Missing folders are made.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    output::write(path, bytes)
}
