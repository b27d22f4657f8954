//! What leaves the program: results on standard output, notes on standard error, and files that a user named.

use std::io::Write;

use crate::error::{Error, Result};

/// Writes results to standard output.
///
/// # Errors
/// Nothing can be written there: a full disk, a reader that is gone.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io("standard output"))
}

/// Writes a line to standard error. Where nobody can read it (a full disk, a terminal that is gone) it is lost: no reason to stop.
pub fn note(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
