//! How long a training took: `time.json` in its folder, written with every checkpoint. No number
//! depends on it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::folders;
use crate::limits;

/// `time.json`.
#[derive(Serialize, Deserialize)]
struct Time {
    /// Seconds of the processes that trained it, perhaps with others beside it, to its checkpoint.
    seconds: f64,
}

/// Seconds that went into the training in `folder`; `None` where nobody knows.
pub fn read(folder: &Path) -> Option<f64> {
    let bytes = limits::read(&folder.join(folders::TIME), limits::CONFIG, "a duration");
    let time = bytes.ok().and_then(|bytes| serde_json::from_slice::<Time>(&bytes).ok());
    time.map(|time| time.seconds).filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

/// Notes the seconds.
///
/// # Errors
/// The file system's.
pub fn write(folder: &Path, seconds: f64) -> Result<()> {
    let path = folder.join(folders::TIME);
    let json = serde_json::to_vec(&Time { seconds }).map_err(|e| Error::invalid(e.to_string()))?;
    write_atomically(&path, &json)
}
