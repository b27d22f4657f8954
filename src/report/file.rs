//! Files of a report, written whole or not at all.

use std::path::Path;

use serde::Serialize;

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

/// Writes what several trainings came to: `value` to the file `json`, and beside it, with other
/// endings, as tables and as a page.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_summary(
    json: &Path,
    value: &impl Serialize,
    csv: &[u8],
    markdown: &str,
    page: &str,
) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::invalid(format!("{}: {e}", json.display())))?;
    write_atomic(json, (text + "\n").as_bytes())?;
    let others = [("csv", csv), ("md", markdown.as_bytes()), ("html", page.as_bytes())];
    others.iter().try_for_each(|(kind, text)| write_atomic(&json.with_extension(kind), text))
}
