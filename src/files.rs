//! Files that are either complete or not there.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes to a temporary file beside `path`, flushes it to the disk and renames it: a reader never sees half a file, not even after a crash.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder).map_err(Error::io(folder))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    #[cfg(unix)]
    {
        // A temporary file is private; a result is like any other new file.
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(Error::io(path))?;
    }
    file.persist(path).map_err(|e| Error::io(path)(e.error))?;
    Ok(())
}
