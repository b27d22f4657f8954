//! Where a prepared dataset is written: whole or not at all, by one process at a time, and never at
//! the cost of the one that was there.
//!
//! A new dataset is made in a folder beside its place, `.gradcon-prep-NAME`, and renamed to it. One
//! that replaces another is exchanged with it in one rename; where the system has no such call it
//! takes two, and the old one waits in `.gradcon-prep-NAME/old` in between. A folder that is there
//! and empty is filled instead, its manifest last, as it may be a mount point or somebody's current
//! folder: no dataset without a manifest.
//!
//! A process that is killed leaves such folders behind. They are locked while they are in use, so
//! whoever prepares the next dataset beside them knows which are not, and removes them, or puts
//! back an old dataset that had no successor yet.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use crate::error::{Error, Result};
use crate::files::{self, Lock};

const BESIDE: &str = ".gradcon-prep-";
const INSIDE: &str = ".tmp-prep";
/// In the folder beside: the dataset that is being made, and the one that it replaces.
const NEW: &str = "new";
const OLD: &str = "old";

/// A place for a dataset that this process alone writes to.
pub(super) struct Place {
    /// The dataset's folder, without links.
    dir: PathBuf,
    /// Folders that were made for it and are empty as long as it is not there, inner ones first.
    made: Vec<PathBuf>,
    /// Holds everything until it is complete.
    scratch: PathBuf,
    /// `dir` is there, and is filled.
    inside: bool,
    lock: Lock,
}

impl Place {
    /// Takes the place `dir`, and tidies up after killed processes.
    ///
    /// # Errors
    /// Another process is writing there; folders can't be made.
    pub fn take(dir: &Path) -> Result<Place> {
        let (dir, made) = real(dir)?;
        loop {
            let inside = fills(&dir)?;
            let scratch = if inside { dir.join(INSIDE) } else { beside(&dir) };
            if !inside {
                files::make_folder(&scratch)?;
            }
            let lock = match Lock::hold(if inside { &dir } else { &scratch }, "preparing a dataset")
            {
                // Its last owner has just removed it.
                Err(Error::Io { source, .. })
                    if !inside && source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                lock => lock?,
            };
            let place = Place { dir: dir.clone(), made: made.clone(), scratch, inside, lock };
            if place.lock.check().is_err() {
                continue;
            }
            if inside && !fills(&dir)? {
                // Another process has filled it meanwhile; a dataset has no lock in it.
                files::remove_file(&dir.join(Lock::FILE))?;
                continue;
            }
            place.tidy()?;
            files::make_folder(&place.fresh())?;
            return Ok(place);
        }
    }

    /// Where to make the dataset.
    pub fn fresh(&self) -> PathBuf {
        if self.inside { self.scratch.clone() } else { self.scratch.join(NEW) }
    }

    /// The dataset's folder, without links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a dataset is there, which the new one would replace.
    pub fn is_occupied(&self) -> bool {
        !self.inside && self.dir.exists()
    }

    /// Puts what was made into its place.
    ///
    /// # Errors
    /// It can't be renamed. What was there before is there still, or again, if the system lets us.
    pub fn settle(self) -> Result<()> {
        self.lock.check()?;
        let outcome = if self.inside { self.fill() } else { self.replace() };
        if outcome.is_err() {
            // The first error is the one to tell.
            let _ = self.discard();
            return outcome;
        }
        files::sync_folder(files::parent(&self.dir))?;
        self.clean()
    }

    /// Leaves everything as it was.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn discard(self) -> Result<()> {
        let made = self.made.clone();
        self.clean()?;
        for folder in made {
            files::remove_empty_folder(&folder)?;
        }
        Ok(())
    }

    /// Removes what holds unfinished things, and the lock with it.
    fn clean(self) -> Result<()> {
        if self.inside {
            clear(&self.dir)?;
            files::remove_file(&self.dir.join(Lock::FILE))
        } else {
            remove(&self.scratch)
        }
    }

    fn fill(&self) -> Result<()> {
        let names = self.scratch.read_dir().map_err(Error::io(&self.scratch))?;
        let names = names.map(|entry| Ok(entry.map_err(Error::io(&self.scratch))?.file_name()));
        for name in
            names.collect::<Result<Vec<_>>>()?.iter().filter(|name| *name != manifest::FILE_NAME)
        {
            files::rename(&self.scratch.join(name), &self.dir.join(name))?;
        }
        files::sync_folder(&self.dir)?;
        files::rename(&self.scratch.join(manifest::FILE_NAME), &self.dir.join(manifest::FILE_NAME))
    }

    fn replace(&self) -> Result<()> {
        let new = self.fresh();
        if !self.dir.exists() {
            return files::rename(&new, &self.dir);
        }
        if files::exchange(&new, &self.dir)? {
            return Ok(());
        }
        let old = self.scratch.join(OLD);
        files::rename(&self.dir, &old)?;
        files::rename(&new, &self.dir).inspect_err(|_| {
            // If this fails as well, the next process finds it in `old`.
            let _ = files::rename(&old, &self.dir);
        })
    }

    /// Removes what killed processes left here and in the folder above, and puts back what they had
    /// not replaced yet.
    fn tidy(&self) -> Result<()> {
        if self.inside {
            return clear(&self.dir);
        }
        restore(&self.scratch, &self.dir)?;
        for name in [NEW, OLD] {
            files::remove_tree(&self.scratch.join(name))?;
        }
        let parent = files::parent(&self.dir);
        for entry in parent.read_dir().map_err(Error::io(parent))? {
            let entry = entry.map_err(Error::io(parent))?;
            let (name, path) = (entry.file_name(), entry.path());
            let Some(of) = name.to_str().and_then(|name| name.strip_prefix(BESIDE)) else {
                continue;
            };
            // Without locks nobody knows whether it is in use; and what can't be locked or removed
            // is somebody else's.
            if path == self.scratch || !self.lock.works || !path.is_dir() {
                continue;
            }
            let Ok(lock) = Lock::hold(&path, "tidying up") else { continue };
            let of = parent.join(of);
            if lock.works
                && lock.check().is_ok()
                && restore(&path, &of).is_ok()
                && !path.join(OLD).exists()
            {
                let _ = remove(&path);
            }
        }
        Ok(())
    }
}

/// The folder beside a dataset that holds what is unfinished.
fn beside(dir: &Path) -> PathBuf {
    let mut name = OsString::from(BESIDE);
    name.push(dir.file_name().unwrap_or_default());
    files::parent(dir).join(name)
}

/// Whether a folder is there to be filled.
fn fills(dir: &Path) -> Result<bool> {
    Ok(dir.is_dir() && (is_unfinished(dir) || files::is_vacant(dir)?))
}

/// Removes a folder beside, which this process has locked. The lock goes last: from then on it may
/// be another process's.
fn remove(scratch: &Path) -> Result<()> {
    for name in [NEW, OLD] {
        files::remove_tree(&scratch.join(name))?;
    }
    files::remove_file(&scratch.join(Lock::FILE))?;
    files::remove_empty_folder(scratch)
}

/// Puts back the dataset that a killed process had taken out of its place, if its successor is not
/// there.
fn restore(scratch: &Path, dir: &Path) -> Result<()> {
    let old = scratch.join(OLD);
    match old.exists() {
        true if !dir.exists() => files::rename(&old, dir),
        true if dir.join(manifest::FILE_NAME).is_file() => files::remove_tree(&old),
        _ => Ok(()),
    }
}

/// Where the dataset of `dir` is if a process was killed while it replaced it.
pub(super) fn taken_out(dir: &Path) -> Option<PathBuf> {
    let old = beside(dir).join(OLD);
    (!dir.exists() && old.join(manifest::FILE_NAME).is_file()).then_some(old)
}

/// Whether a process was killed while it filled this folder. It moves the files out of the folder
/// inside when that is complete, the manifest last.
pub(super) fn is_unfinished(dir: &Path) -> bool {
    !dir.join(manifest::FILE_NAME).exists() && dir.join(INSIDE).join(manifest::FILE_NAME).is_file()
}

/// Removes what a killed process had put into a folder that it filled.
fn clear(dir: &Path) -> Result<()> {
    let scratch = dir.join(INSIDE);
    if is_unfinished(dir) {
        for name in Manifest::read(&scratch)?.files.keys() {
            files::remove_file(&dir.join(name))?;
            files::remove_empty_folder(files::parent(&dir.join(name)))?;
        }
    }
    files::remove_tree(&scratch)
}

/// A path without links, though its end need not be there; and the folders above it that were made,
/// inner ones first.
fn real(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if dir.exists() {
        return Ok((dir.canonicalize().map_err(Error::io(dir))?, vec![]));
    }
    if dir.is_symlink() {
        return Err(Error::Usage(format!(
            "{}: a link to nothing; make the folder it leads to, or remove it",
            dir.display()
        )));
    }
    let name = dir
        .file_name()
        .ok_or_else(|| Error::Usage(format!("{}: expected the name of a folder", dir.display())))?;
    let parent = files::parent(dir);
    let missing: Vec<PathBuf> = parent
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .map(Path::to_path_buf)
        .collect();
    for folder in missing.iter().rev() {
        files::make_folder(folder)?;
    }
    Ok((parent.canonicalize().map_err(Error::io(parent))?.join(name), missing))
}

/// Errors if a dataset at `dir` can't be replaced because the current folder is in it: it would be
/// removed, from under whoever started this process.
///
/// # Errors
/// It is.
pub fn check_not_current(dir: &Path) -> Result<()> {
    if !dir.join(manifest::FILE_NAME).is_file() {
        return Ok(());
    }
    let real = |path: io::Result<PathBuf>| path.and_then(fs::canonicalize).ok();
    match (real(std::env::current_dir()), real(Ok(dir.to_path_buf()))) {
        (Some(current), Some(dir)) if current.starts_with(&dir) => Err(Error::Usage(format!(
            "{}: the current folder is in it, and would be removed with the dataset that is \
             replaced; run the command \
             from elsewhere",
            dir.display()
        ))),
        _ => Ok(()),
    }
}
