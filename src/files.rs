//! The file system as runs and results need it: files that are either whole or not there, folders
//! that one process writes, and changes that a test can make the last ones.
//!
//! Everything that changes a run goes through here, one `change` a system call, so that a test can
//! end the program at each of them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Names of what is being written or thrown away begin with this; [`sweep`] removes what a killed
/// process left.
pub(crate) const UNFINISHED: &str = ".tmp-";

/// Writes to a temporary file beside `path`, flushes it to the disk and renames it: a reader never
/// sees half a file, not even after a crash.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = unfinished(path);
    let written = write_and_rename(&unfinished, path, bytes);
    if written.is_err() && change().is_ok() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn write_and_rename(unfinished: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    write_new(unfinished, bytes)?;
    keep_mode(unfinished, path).map_err(Error::io(path))?;
    rename(unfinished, path)?;
    sync_folder(parent(path))
}

/// Writes a new file, flushed to the disk, in a folder that doesn't count yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    change().map_err(Error::io(path))?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(Error::io(path))?;
    change().and_then(|()| file.write_all(bytes)).map_err(Error::io(path))?;
    sync(&file).map_err(Error::io(path))
}

/// A file that grows at its end. What is appended can be read by others at once; that it outlives a
/// crash of the machine is sure after [`Growing::sync`]. Clones are the same file.
#[derive(Clone, Debug)]
pub struct Growing {
    file: Arc<File>,
    path: Arc<Path>,
}

impl Growing {
    /// A new, empty file.
    ///
    /// # Errors
    /// The file system's; there is one already.
    pub fn create(path: &Path) -> Result<Growing> {
        Growing::open(path, OpenOptions::new().create_new(true))
    }

    /// The first `length` bytes of a file that is there; what follows them is cut off.
    ///
    /// # Errors
    /// The file system's; there is none.
    pub fn cut(path: &Path, length: u64) -> Result<Growing> {
        let growing = Growing::open(path, &mut OpenOptions::new())?;
        if growing.file.metadata().map_err(Error::io(path))?.len() > length {
            change().and_then(|()| growing.file.set_len(length)).map_err(Error::io(path))?;
        }
        Ok(growing)
    }

    fn open(path: &Path, options: &mut OpenOptions) -> Result<Growing> {
        let file = change().and_then(|()| options.append(true).open(path));
        Ok(Growing { file: Arc::new(file.map_err(Error::io(path))?), path: path.into() })
    }

    /// Writes at the end.
    ///
    /// # Errors
    /// The file system's; a part may be written.
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        change().and_then(|()| (&*self.file).write_all(bytes)).map_err(Error::io(&self.path))
    }

    /// Flushes what was written so far to the disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync(&self) -> Result<()> {
        sync(&self.file).map_err(Error::io(&self.path))
    }

    /// The file written to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Gives a file that is to take another one's place its mode, and its owner where the system lets
/// us.
pub(crate) fn keep_mode(file: &Path, place: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Ok(there) = std::fs::metadata(place) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        change()?;
        // Only a few may give files away.
        let _ = chown(file, Some(there.uid()), Some(there.gid()));
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(there.mode() & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = (file, place);
    Ok(())
}

/// Renames a file or folder; whatever is at `to` must be a file or an empty folder.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    change().and_then(|()| std::fs::rename(from, to)).map_err(Error::io(to))
}

/// Exchanges two files or folders in one step. False, and nothing is changed, where the system
/// can't: then it takes several.
pub fn exchange(a: &Path, b: &Path) -> Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        change().map_err(Error::io(b))?;
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            // The system or the file system is too old or too simple.
            Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {}
            exchanged => return exchanged.map(|()| true).map_err(|e| Error::io(b)(e.into())),
        }
    }
    Ok(false)
}

/// Makes a folder in one that is there already; it may be there itself.
pub fn make_folder(folder: &Path) -> Result<()> {
    match change().and_then(|()| std::fs::create_dir(folder)) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.map_err(Error::io(folder)),
    }
}

/// Removes a folder with all it holds, if it is there. It loses its name first: nobody sees a part
/// of it.
pub fn remove_folder(folder: &Path) -> Result<()> {
    let unfinished = unfinished(folder);
    match change().and_then(|()| std::fs::rename(folder, &unfinished)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(Error::io(folder))?,
    }
    change().and_then(|()| std::fs::remove_dir_all(&unfinished)).map_err(Error::io(&unfinished))
}

/// Removes a folder with all it holds, if it is there; parts of it are gone before others. For what
/// nobody else looks at.
pub fn remove_tree(folder: &Path) -> Result<()> {
    match change().and_then(|()| std::fs::remove_dir_all(folder)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io(folder)),
    }
}

/// Removes a file, if it is there.
pub fn remove_file(path: &Path) -> Result<()> {
    match change().and_then(|()| std::fs::remove_file(path)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io(path)),
    }
}

/// Removes a folder if it is there and nothing is in it.
pub fn remove_empty_folder(folder: &Path) -> Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match change().and_then(|()| std::fs::remove_dir(folder)) {
        Err(e) if matches!(e.kind(), NotFound | DirectoryNotEmpty) => Ok(()),
        removed => removed.map_err(Error::io(folder)),
    }
}

/// Removes what a killed process left unfinished in a folder, if the folder is there. Only for
/// whoever holds its [`Lock`].
pub fn sweep(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        change().map_err(Error::io(&path))?;
        let folder = entry.file_type().map_err(Error::io(&path))?.is_dir();
        if folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Whether nothing is in a folder but what [`sweep`] removes and a lock; so is a folder that isn't
/// there.
pub fn is_vacant(folder: &Path) -> Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(false),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        let name = entry.map_err(Error::io(folder))?.file_name();
        if name != Lock::FILE && !name.to_string_lossy().starts_with(UNFINISHED) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the names in a folder as lasting as the files: without it a crash of the machine may bring
/// an old name back.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Windows has no such call for folders.
    if cfg!(unix) {
        File::open(folder).and_then(|folder| sync(&folder)).map_err(Error::io(folder))?;
    }
    Ok(())
}

/// The folder that a path lies in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name beside `path` that nobody else uses: no other process, and no other call of this one.
fn unfinished(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    parent(path).join(format!("{UNFINISHED}{}-{call}", std::process::id()))
}

/// A folder that only this process writes, as long as this value lives. The operating system gives
/// it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// False where the file system knows no locks: then nobody is kept out.
    pub works: bool,
}

impl Lock {
    /// The lock's file in the folder. It stays there; being locked is what counts.
    pub const FILE: &str = ".lock";

    /// Takes the lock of a folder that is there. `what` says what for, to whoever comes second.
    ///
    /// # Errors
    /// Another process has it; the message says who. The file can't be made.
    pub fn hold(folder: &Path, what: &str) -> Result<Lock> {
        Lock::attempt(folder, what)?
    }

    /// The same, but waits up to `patience` for another process to be done.
    ///
    /// # Errors
    /// As [`Lock::hold`].
    pub fn wait(folder: &Path, what: &str, patience: Duration) -> Result<Lock> {
        let start = Instant::now();
        loop {
            match Lock::attempt(folder, what)? {
                Err(_) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                attempt => return attempt,
            }
        }
    }

    /// The lock, or the error that says who has it.
    fn attempt(folder: &Path, what: &str) -> Result<Result<Lock>> {
        let path = folder.join(Self::FILE);
        change().map_err(Error::io(&path))?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = Lock { file: file.map_err(Error::io(&path))?, path, works: true };
        match lock.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                lock.works = false
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&lock.path)(e)),
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                // A system may keep others from reading a locked file; then nothing more is known.
                let _ = lock.file.take(200).read_to_string(&mut who);
                let who = if who.is_empty() { "another process".into() } else { who };
                return Ok(Err(Error::invalid(format!(
                    "{}: in use by {who}; two at once would destroy each other's work",
                    folder.display()
                ))));
            }
        }
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        let who = format!("another process: {what}, process {}, since {now}", std::process::id());
        change().and_then(|()| lock.file.set_len(0)).map_err(Error::io(&lock.path))?;
        change()
            .and_then(|()| lock.file.write_all(who.as_bytes()))
            .map_err(Error::io(&lock.path))?;
        Ok(Ok(lock))
    }

    /// Errors if the folder is no longer where it was: what is written to its path from now on
    /// would be half of something.
    pub fn check(&self) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let held = self.file.metadata().map_err(Error::io(&self.path))?;
            let there = std::fs::metadata(&self.path);
            if !there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Err(Error::invalid(format!(
                    "{}: the folder was moved or removed while it was in use",
                    parent(&self.path).display()
                )));
            }
        }
        Ok(())
    }
}

/// How many changes are left before the simulated end.
static CHANGES_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Lets the file system change `changes` more times in this process; every change after that fails,
/// so that nothing is written any more: what is on the disk then is what a kill there leaves. For
/// tests, which have the process to themselves.
#[doc(hidden)]
pub fn end_after(changes: u64) {
    CHANGES_LEFT.store(changes, Ordering::SeqCst);
}

/// How many of the changes that [`end_after`] allowed are left.
#[doc(hidden)]
pub fn changes_left() -> u64 {
    CHANGES_LEFT.load(Ordering::SeqCst)
}

/// How many files and folders were flushed to the disk.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How many files and folders this process has flushed to the disk, each of which may take as long
/// as many steps of a training. For tests.
#[doc(hidden)]
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::SeqCst)
}

/// Flushes a file or folder to the disk.
fn sync(file: &File) -> std::io::Result<()> {
    SYNCS.fetch_add(1, Ordering::SeqCst);
    file.sync_all()
}

/// Stands before everything that changes a file or folder.
fn change() -> std::io::Result<()> {
    let left =
        CHANGES_LEFT.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    left.map(drop).map_err(|_| {
        std::io::Error::other("no more changes are allowed (simulated end of the process)")
    })
}

/// Makes a folder that only the user can look into, with those above it.
pub(crate) fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}
