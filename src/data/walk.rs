//! Finding picture files below a folder: one after the other, in the order of their paths, in
//! bounded memory.
//!
//! Nothing disappears without a word: what is no picture, or can't be read, comes out by name as
//! [`LeftOut`]. Only what the system or a program put there for itself is passed over quietly (see
//! [`is_hidden`]).

use std::collections::{BinaryHeap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The endings that are taken for pictures, in either case.
pub const EXTENSIONS: [&str; 9] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "webp", "tif", "tiff"];

/// Endings of pictures that are not read: somebody may count on them.
const UNREAD: [&str; 22] = [
    "arw", "avif", "cr2", "cr3", "dcm", "dng", "exr", "gif", "hdr", "heic", "heif", "j2k", "jp2",
    "jxl", "nef", "pbm", "pgm", "pnm", "ppm", "psd", "svg", "tga",
];

/// What systems, file managers and network drives put beside pictures; all but the first two may
/// hold copies of them.
const OF_THE_SYSTEM: [&str; 7] = [
    "Thumbs.db",
    "desktop.ini",
    "@eaDir",
    "__MACOSX",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];

/// Names of one folder that are held at a time; a larger folder is listed again for the next ones.
const AT_A_TIME: usize = 1 << 16;

/// Something that was found and is no picture to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The file, folder or link.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Why something was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its name is not that of a picture.
    NoPicture,
    /// A picture of a kind that is not read.
    Unread,
    /// A link to something that is not there.
    Dangling,
    /// A pipe, socket or device: opening it could wait for ever.
    NoFile,
    /// It lies where nothing is looked for.
    Unused,
    /// The system does not let us read it.
    Unreadable(String),
}

impl LeftOut {
    /// Whether a picture may have been meant: somebody should know even if no progress is wanted.
    pub fn matters(&self) -> bool {
        self.why != Why::NoPicture
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NoPicture => "not the name of a picture",
            Why::Unread => "a picture of a kind that is not read",
            Why::Dangling => "a link to nothing",
            Why::NoFile => "a pipe, socket or device",
            Why::Unused => "not in a folder that is used",
            Why::Unreadable(why) => why,
        })
    }
}

/// All pictures below a folder, in the order of their paths: `Ok` with the path of a regular file
/// (or a link to one), `Err` for what was left out.
///
/// Links are followed, but no folder is read twice. Memory: the folders from the top to the current
/// one, at most 65,536 names of each, and the folders that were reached by links.
#[derive(Debug)]
pub struct Walk {
    /// Where the walk began, without links.
    root: PathBuf,
    /// The current folder last.
    folders: Vec<Folder>,
    /// Folders, without links, that were reached by a link and so lie outside of `root` or where
    /// the walk doesn't go.
    linked: HashSet<PathBuf>,
    /// Names of one folder that are held at a time.
    at_a_time: usize,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Reached by a link, here or further up.
    linked: bool,
    names: std::vec::IntoIter<OsString>,
    /// The last of `names` if there are more after it.
    more_after: Option<OsString>,
}

impl Walk {
    /// Starts in `dir`.
    ///
    /// # Errors
    /// It is no folder, or can't be read.
    pub fn new(dir: &Path) -> Result<Walk> {
        Walk::in_parts(dir, AT_A_TIME)
    }

    fn in_parts(dir: &Path, at_a_time: usize) -> Result<Walk> {
        let root = dir.canonicalize().map_err(Error::io(dir))?;
        let mut walk = Walk { root, folders: vec![], linked: HashSet::new(), at_a_time };
        walk.enter(dir, false).map_err(Error::io(dir))?;
        Ok(walk)
    }

    fn enter(&mut self, path: &Path, linked: bool) -> io::Result<()> {
        let (names, more_after) = names_after(path, None, self.at_a_time)?;
        self.folders.push(Folder {
            path: path.into(),
            linked,
            names: names.into_iter(),
            more_after,
        });
        Ok(())
    }

    /// Whether a folder that was reached by a link is, or will be, read at another place; it is
    /// remembered if not.
    fn is_known(&mut self, folder: &Path) -> io::Result<bool> {
        let real = folder.canonicalize()?;
        let inside = real.strip_prefix(&self.root);
        Ok(inside.is_ok_and(|below| !below.iter().any(is_hidden)) || !self.linked.insert(real))
    }

    /// The next name in the current folder; none at its end.
    fn next_name(&mut self) -> io::Result<Option<PathBuf>> {
        let Some(folder) = self.folders.last_mut() else { return Ok(None) };
        if folder.names.len() == 0
            && let Some(after) = folder.more_after.take()
        {
            let (names, more_after) = names_after(&folder.path, Some(&after), self.at_a_time)?;
            (folder.names, folder.more_after) = (names.into_iter(), more_after);
        }
        Ok(folder.names.next().map(|name| folder.path.join(name)))
    }

    fn visit(&mut self, path: PathBuf) -> Option<std::result::Result<PathBuf, LeftOut>> {
        let left_out = |path: PathBuf, why| Some(Err(LeftOut { path, why }));
        let unreadable = |path, e: io::Error| left_out(path, Why::Unreadable(e.to_string()));
        let is_link = path.is_symlink();
        let kind = match path.metadata() {
            Ok(found) => found.file_type(),
            Err(e) if is_link && e.kind() == io::ErrorKind::NotFound => {
                return left_out(path, Why::Dangling);
            }
            Err(e) => return unreadable(path, e),
        };
        if kind.is_dir() {
            let linked = is_link || self.folders.last().is_some_and(|folder| folder.linked);
            let entered = match linked.then(|| self.is_known(&path)) {
                Some(Ok(true)) => return None,
                Some(Err(e)) => Err(e),
                Some(Ok(false)) | None => self.enter(&path, linked),
            };
            return entered.err().and_then(|e| unreadable(path, e));
        }
        let why = match (is_picture(&path), kind.is_file()) {
            (true, true) => return Some(Ok(path)),
            (true, false) => Why::NoFile,
            (false, _) if UNREAD.contains(&ending(&path).as_str()) => Why::Unread,
            (false, _) => Why::NoPicture,
        };
        left_out(path, why)
    }
}

impl Iterator for Walk {
    type Item = std::result::Result<PathBuf, LeftOut>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(folder) = self.folders.last() {
            let path = folder.path.clone();
            match self.next_name() {
                Ok(Some(path)) => {
                    if let Some(found) = self.visit(path) {
                        return Some(found);
                    }
                }
                end => {
                    self.folders.pop();
                    if let Err(e) = end {
                        return Some(Err(LeftOut { path, why: Why::Unreadable(e.to_string()) }));
                    }
                }
            }
        }
        None
    }
}

/// The first `most` names of a folder that come after `after`, sorted and without hidden ones, and
/// the last of them if there are more.
fn names_after(
    folder: &Path,
    after: Option<&OsStr>,
    most: usize,
) -> io::Result<(Vec<OsString>, Option<OsString>)> {
    let mut first = BinaryHeap::new();
    let mut more = false;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if is_hidden(&name) || after.is_some_and(|after| *name <= *after) {
            continue;
        }
        if first.len() < most {
            first.push(name);
            continue;
        }
        // Most names of a large folder come after all that are held, and cost one comparison.
        more = true;
        if let Some(mut greatest) = first.peek_mut()
            && name < *greatest
        {
            *greatest = name;
        }
    }
    let names = first.into_sorted_vec();
    let last = names.last().filter(|_| more).cloned();
    Ok((names, last))
}

/// Whether something is passed over quietly: its name begins with a dot (`._x.png` of a Mac,
/// `.ipynb_checkpoints`, `.DS_Store`), or is one that a system uses for itself. Only for what is
/// below a folder that the user named, not for that folder.
pub fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
        || OF_THE_SYSTEM.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a file has the name of a picture that is read.
pub(super) fn is_picture(path: &Path) -> bool {
    EXTENSIONS.contains(&ending(path).as_str())
}

/// What is wrong with a folder that has no picture.
pub(super) fn no_image() -> String {
    format!("no image below it (files ending in {})", EXTENSIONS.join(", "))
}

/// The part behind the last dot, in lower case; empty if there is none.
fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// What was left out: a few by name, all by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pictures that somebody may miss.
    meant: Few,
    /// Other files.
    other: Few,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Few {
    names: Vec<String>,
    count: u64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, left_out: &LeftOut) {
        const NAMED: usize = 5;
        let few = if left_out.matters() { &mut self.meant } else { &mut self.other };
        few.count += 1;
        if few.names.len() < NAMED {
            few.names.push(left_out.to_string());
        }
    }

    /// What should be said even if no progress is wanted: pictures may be missing.
    pub fn warning(&self) -> Option<String> {
        self.meant.text("left out")
    }

    /// What is good to know: other files that lay between the pictures.
    pub fn note(&self) -> Option<String> {
        self.other.text("no pictures, left out")
    }
}

impl Few {
    fn text(&self, what: &str) -> Option<String> {
        let unnamed = self.count - self.names.len() as u64;
        let rest = if unnamed > 0 { format!("\n  and {unnamed} more") } else { String::new() };
        (self.count > 0)
            .then(|| format!("{what}: {}\n  {}{rest}", self.count, self.names.join("\n  ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of more names than are held at once comes out whole, in order, and without what is
    /// hidden.
    #[test]
    fn a_large_folder_is_listed_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        for i in [5, 3, 9, 0, 7, 1, 8, 2, 6, 4] {
            std::fs::write(dir.path().join(format!("{i}.png")), []).unwrap();
        }
        std::fs::write(dir.path().join(".hidden.png"), []).unwrap();
        let (mut all, mut after) = (vec![], None);
        loop {
            let (names, more) = names_after(dir.path(), after.as_deref(), 3).unwrap();
            assert!(names.len() <= 3);
            all.extend(names);
            after = more;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(all, (0..10).map(|i| OsString::from(format!("{i}.png"))).collect::<Vec<_>>());
        for at_a_time in 1..12 {
            let found: Vec<PathBuf> = Walk::in_parts(dir.path(), at_a_time)
                .unwrap()
                .map(|entry| entry.unwrap())
                .collect();
            let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
            assert_eq!(names, all, "{at_a_time} names at a time");
        }
        let (names, more) = names_after(dir.path(), None, 10).unwrap();
        assert_eq!((names.len(), more), (10, None), "no more than there are");
    }

    #[test]
    fn hidden_is_what_starts_with_a_dot_or_belongs_to_a_system() {
        for name in ["._a.png", ".ipynb_checkpoints", ".", "thumbs.DB", "Desktop.ini", "@eaDir"] {
            assert!(is_hidden(name.as_ref()), "{name}");
        }
        for name in ["a.png", "Thumbs.db.png", "-.png", "", "good"] {
            assert!(!is_hidden(name.as_ref()), "{name}");
        }
    }
}
