//! Files of a report, written whole or not at all.

use std::path::Path;

use crate::files::write_atomically;
use crate::{Error, Result};

/// Writes `bytes` to `path` so that a reader sees the old file or the new one and never a part. Missing folders are made.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    write_atomically(path, bytes)
}
