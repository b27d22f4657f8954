//! A folder that fills up: which of its pictures are new, and whole.
//!
//! The folder is looked at from time to time. A file counts as whole once its size and time are
//! those of the look before; if it still can't be decoded, its writer may only have paused, and it
//! gets some more time. A file that changes afterwards is a new one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::walk::{LeftOut, Walk};
use crate::error::Result;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A file that does not change for so long, and can't be decoded, never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// A watched folder. Memory: the names of what is in it.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    known: HashMap<PathBuf, Known>,
    looks: u64,
}

#[derive(Debug)]
struct Known {
    /// Of a picture, its size and time.
    stamp: Option<(u64, Option<SystemTime>)>,
    /// When it was first so.
    since: Instant,
    /// It waits to be given out.
    waits: bool,
    /// The look that found it last.
    look: u64,
}

impl Watch {
    /// Watches `folder` and all folders below it, with what they hold already.
    ///
    /// # Errors
    /// It is no folder, or can't be read.
    pub fn new(folder: &Path) -> Result<Watch> {
        Walk::new(folder)?;
        Ok(Watch { folder: folder.into(), known: HashMap::new(), looks: 0 })
    }

    /// Looks: the pictures that are whole now and were not given out before, in the order of their
    /// paths, and what was found for the first time and is no picture.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn look(&mut self) -> Result<Vec<std::result::Result<PathBuf, LeftOut>>> {
        let (mut found, now) = (vec![], Instant::now());
        self.looks += 1;
        let look = self.looks;
        for entry in Walk::new(&self.folder)? {
            match entry {
                Ok(path) => {
                    // Of one that is gone since there is nothing to say.
                    let Ok(there) = path.metadata() else { continue };
                    let stamp = Some((there.len(), there.modified().ok()));
                    match self.known.get_mut(&path) {
                        Some(known) if known.stamp == stamp => {
                            known.look = look;
                            if std::mem::take(&mut known.waits) {
                                found.push(Ok(path));
                            }
                        }
                        _ => {
                            let known = Known { stamp, since: now, waits: true, look };
                            self.known.insert(path, known);
                        }
                    }
                }
                Err(left_out) => {
                    let known = Known { stamp: None, since: now, waits: false, look };
                    let before = self.known.insert(left_out.path.clone(), known);
                    if before.is_none_or(|before| before.stamp.is_some()) {
                        found.push(Err(left_out));
                    }
                }
            }
        }
        self.known.retain(|_, known| known.look == look);
        Ok(found)
    }

    /// A picture that was given out can't be decoded: whether it never will be, and is to be named.
    /// Else it is given out again at the next look.
    pub fn is_broken(&mut self, path: &Path) -> bool {
        let Some(known) = self.known.get_mut(path) else { return true };
        let broken = known.since.elapsed() >= PATIENCE;
        known.waits = !broken;
        broken
    }

    /// Pictures that are there and were not whole yet.
    pub fn waiting(&self) -> usize {
        self.known.values().filter(|known| known.waits).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: Vec<std::result::Result<PathBuf, LeftOut>>) -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let told = |entry: std::result::Result<PathBuf, LeftOut>| match entry {
            Ok(path) => name(&path),
            Err(LeftOut { path, .. }) => format!("not {}", name(&path)),
        };
        found.into_iter().map(told).collect()
    }

    #[test]
    fn a_picture_is_given_out_once_it_no_longer_grows() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let mut watch = Watch::new(dir.path()).unwrap();
        let none: [&str; 0] = [];
        write("b.png", "1");
        write("a.png", "1");
        write("note.txt", "1");
        assert_eq!(names(watch.look().unwrap()), ["not note.txt"]);
        assert_eq!(watch.waiting(), 2);
        write("b.png", "12");
        assert_eq!(names(watch.look().unwrap()), ["a.png"]);
        assert_eq!(names(watch.look().unwrap()), ["b.png"]);
        assert_eq!((names(watch.look().unwrap()), watch.waiting()), (vec![], 0));
        // Written anew it is another; gone, it is forgotten.
        write("a.png", "123");
        std::fs::remove_file(dir.path().join("b.png")).unwrap();
        assert_eq!(names(watch.look().unwrap()), none);
        assert_eq!((names(watch.look().unwrap()), watch.known.len()), (vec!["a.png".into()], 2));
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(watch.look().is_err());
    }

    #[test]
    fn what_cannot_be_decoded_gets_time_and_is_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        std::fs::write(&file, "half").unwrap();
        let mut watch = Watch::new(dir.path()).unwrap();
        watch.look().unwrap();
        for _ in 0..3 {
            assert_eq!(watch.look().unwrap(), [Ok(file.clone())]);
            assert!(!watch.is_broken(&file));
            assert_eq!(watch.waiting(), 1);
        }
        assert_eq!(watch.look().unwrap(), [Ok(file.clone())]);
        watch.known.get_mut(&file).unwrap().since -= PATIENCE;
        assert!(watch.is_broken(&file));
        assert!(watch.look().unwrap().is_empty() && watch.waiting() == 0);
    }
}
