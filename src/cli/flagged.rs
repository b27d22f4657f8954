//! Copies of flagged images in one folder, for somebody to look at.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::data::hash::sha256_file;
use crate::error::{Error, Result};
use crate::files::UNFINISHED;
use crate::output::{make_folder, path_text};

/// A folder of copies under the images' own names. A name that another image has there becomes
/// `NAME-2.png`, `NAME-3.png` and so on; nothing is written over, and what is there already with the
/// same content is not copied again.
pub struct Copies {
    folder: PathBuf,
    copied: u64,
    there: u64,
    gone: u64,
}

impl Copies {
    /// Copies go into `folder`, which is made if it isn't there.
    ///
    /// # Errors
    /// It is, or lies in, one of the folders that are scored: the copies would be scored as well.
    /// The file system's.
    pub fn into(folder: &Path, scored: &[PathBuf]) -> Result<Copies> {
        check_outside("--copy-flagged", folder, scored)?;
        make_folder(folder)?;
        Ok(Copies { folder: folder.into(), copied: 0, there: 0, gone: 0 })
    }

    /// Copies an image's file, unless somebody took it away since it was scored.
    ///
    /// # Errors
    /// It can't be read, or the copy can't be written.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        if !path.exists() {
            self.gone += 1;
            return Ok(());
        }
        let name = Path::new(path.file_name().unwrap_or_default());
        for k in 1u64.. {
            let target = self.folder.join(numbered(name, k));
            // A link is never written through.
            if target.symlink_metadata().is_ok() {
                if is_same(path, &target)? {
                    self.there += 1;
                    return Ok(());
                }
                continue;
            }
            if copy_new(path, &target)? {
                self.copied += 1;
                return Ok(());
            }
        }
        unreachable!("one of the names is free")
    }

    /// What was done, for the summary.
    pub fn summary(&self) -> String {
        let more = |n: u64, what: &str| match n {
            0 => String::new(),
            n => format!(", {n} {what}"),
        };
        format!(
            "flagged images: {} copied to {}{}{}",
            self.copied,
            path_text(&self.folder),
            more(self.there, "there already"),
            more(self.gone, "taken away before they were copied")
        )
    }
}

/// Checks that a folder of results is not scored itself.
///
/// # Errors
/// It is, or lies in, one of the `scored` folders.
pub fn check_outside(flag: &str, folder: &Path, scored: &[PathBuf]) -> Result<()> {
    // It may have to be made; then the nearest folder that is there tells.
    let whole = std::path::absolute(folder).map_err(Error::io(folder))?;
    let real = whole.ancestors().find_map(|dir| dir.canonicalize().ok()).unwrap_or_default();
    for input in scored.iter().filter(|input| input.is_dir()) {
        if input.canonicalize().is_ok_and(|input| real.starts_with(input)) {
            return Err(Error::Usage(format!(
                "{flag} {}: it lies in {}, which is scored; choose a folder outside of it",
                folder.display(),
                input.display()
            )));
        }
    }
    Ok(())
}

/// The `k`-th name of a file.
fn numbered(name: &Path, k: u64) -> PathBuf {
    if k == 1 {
        return name.into();
    }
    let mut numbered = name.file_stem().unwrap_or_default().to_os_string();
    numbered.push(format!("-{k}"));
    if let Some(ending) = name.extension() {
        numbered.push(".");
        numbered.push(ending);
    }
    numbered.into()
}

fn is_same(a: &Path, b: &Path) -> Result<bool> {
    let length = |path: &Path| path.metadata().map(|there| there.len());
    // What can't be asked, such as a link to nothing, is another file.
    let (Ok(a_length), Ok(b_length)) = (length(a), length(b)) else { return Ok(false) };
    Ok(b.is_file() && a_length == b_length && sha256_file(a)? == sha256_file(b)?)
}

/// Copies to a name that is free, whole or not at all; false if it isn't free any more.
fn copy_new(from: &Path, to: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| {
        Error::invalid(format!("{}: can't be copied to {}: {e}", path_text(from), path_text(to)))
    };
    let mut source = File::open(from).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    // Files of this kind are private by default; a copy is like any other new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    std::io::copy(&mut source, file.as_file_mut()).map_err(failed)?;
    match file.persist_noclobber(to) {
        Ok(_) => Ok(true),
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed(e.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let (a, b) = (write("one/x.png", "a"), write("two/x.png", "b"));
        let (c, no_ending) = (write("three/x.png", "c"), write("one/x", "d"));
        let folder = dir.path().join("flagged");
        let add = |paths: &[&PathBuf]| {
            let mut copies = Copies::into(&folder, &[dir.path().join("one")]).unwrap();
            paths.iter().for_each(|path| copies.add(path).unwrap());
            (copies.copied, copies.there)
        };
        assert_eq!(add(&[&a, &b, &no_ending]), (3, 0));
        assert_eq!(add(&[&b, &a, &c, &no_ending]), (1, 3));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(["x.png", "x-2.png", "x-3.png", "x"].map(read), ["a", "b", "c", "d"]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4);
        let inside = dir.path().join("one/bad");
        assert!(matches!(Copies::into(&inside, &[dir.path().join("one")]), Err(Error::Usage(_))));
        let mut copies = Copies::into(&folder, &[]).unwrap();
        copies.add(&dir.path().join("gone.png")).unwrap();
        assert!(copies.summary().ends_with("1 taken away before they were copied"));
        let error = copies.add(&dir.path().join("one")).unwrap_err().to_string();
        assert!(error.contains("one: can't be copied to"), "{error}");
    }
}
