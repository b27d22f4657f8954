//! Decoding ahead: images of files and folders in their order, decoded on threads of their own
//! while somebody uses the earlier ones, in bounded memory.
//!
//! One thread walks over the paths. For each it makes a one-image channel, hands the sending end to
//! the decoders and the receiving end to the user, whose queue is bounded: it keeps the order, and
//! keeps the walk from running away. A file that takes for ever stops neither the other decoders
//! nor a user who gives up, since nobody waits for these threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{available_parallelism, spawn};
use std::time::Duration;

use super::walk::{LeftOut, Walk, Why, no_image};
use crate::images::IMAGE_SIZE;

/// Images of the paper's size that are decoded, or about to be, before the user asks for them.
const AHEAD: usize = 2048;

/// How many images are decoded ahead at most, of a height and width: as many pixels as 2,048 of the
/// paper's, but enough for every thread to be at work.
pub fn ahead_of(size: usize) -> usize {
    (AHEAD * IMAGE_SIZE * IMAGE_SIZE / (size * size).max(1)).clamp(64, AHEAD)
}

/// What comes next.
pub enum Next<T> {
    /// An image file, and what became of it: the image, or why there is none.
    Image(PathBuf, Result<T, String>),
    /// Something that was found below a folder and is no image.
    LeftOut(LeftOut),
    /// Nothing yet; ask again.
    Later,
    /// That was all.
    End,
}

/// The images of files and folders, in order.
pub struct Ahead<T> {
    queue: Receiver<Found<T>>,
    /// What was taken from the queue and is not decoded yet.
    waiting: Option<(PathBuf, Receiver<Result<T, String>>)>,
}

enum Found<T> {
    Image(PathBuf, Receiver<Result<T, String>>),
    LeftOut(LeftOut),
}

type Job<T> = (PathBuf, Sender<Result<T, String>>);

impl<T: Send + 'static> Ahead<T> {
    /// Starts to decode the files of `inputs`, and those in its folders, `ahead` of them at most
    /// before they are asked for.
    pub fn new(
        inputs: Vec<PathBuf>,
        ahead: usize,
        decode: impl Fn(&Path) -> Result<T, String> + Send + Sync + 'static,
    ) -> Ahead<T> {
        Ahead::of(inputs.into_iter().map(Ok), ahead, decode)
    }

    /// [`Ahead::new`] of inputs that come one by one, or are left out.
    pub fn of(
        inputs: impl IntoIterator<Item = Result<PathBuf, LeftOut>> + Send + 'static,
        ahead: usize,
        decode: impl Fn(&Path) -> Result<T, String> + Send + Sync + 'static,
    ) -> Ahead<T> {
        let (found, queue) = sync_channel(ahead);
        let (jobs, work) = channel::<Job<T>>();
        spawn(move || {
            // A send fails when the user is gone.
            let _ = visit(inputs, |entry| {
                let sent = match entry {
                    Ok(path) => {
                        let (done, image) = channel();
                        found.send(Found::Image(path.clone(), image)).is_ok()
                            && jobs.send((path, done)).is_ok()
                    }
                    Err(left_out) => found.send(Found::LeftOut(left_out)).is_ok(),
                };
                if sent { Ok(()) } else { Err(()) }
            });
        });
        let (work, decode) = (Arc::new(Mutex::new(work)), Arc::new(decode));
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            let (work, decode) = (work.clone(), decode.clone());
            spawn(move || {
                loop {
                    let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((path, done)) = job else { return };
                    // A decoder's own mistake is one image's misfortune.
                    let image = catch_unwind(AssertUnwindSafe(|| decode(&path)));
                    let _ = done.send(
                        image.unwrap_or_else(|_| Err("the decoder broke down over it".into())),
                    );
                }
            });
        }
        Ahead { queue, waiting: None }
    }

    /// The next image, or [`Next::Later`] if it isn't there within about `patience`.
    pub fn next(&mut self, patience: Duration) -> Next<T> {
        let (path, image) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match self.queue.recv_timeout(patience) {
                Ok(Found::Image(path, image)) => (path, image),
                Ok(Found::LeftOut(left_out)) => return Next::LeftOut(left_out),
                Err(RecvTimeoutError::Timeout) => return Next::Later,
                Err(RecvTimeoutError::Disconnected) => return Next::End,
            },
        };
        match image.recv_timeout(patience) {
            Ok(decoded) => Next::Image(path, decoded),
            Err(RecvTimeoutError::Timeout) => {
                self.waiting = Some((path, image));
                Next::Later
            }
            Err(RecvTimeoutError::Disconnected) => {
                Next::Image(path, Err("no decoder is left".into()))
            }
        }
    }
}

/// Counts the images of files and folders on a thread of its own; the number arrives when it is
/// known.
pub fn count(inputs: Vec<PathBuf>) -> Receiver<u64> {
    let (sender, receiver) = channel();
    spawn(move || {
        let mut count = 0;
        let _ = visit(inputs.into_iter().map(Ok), |entry| {
            // What is left out although an image may be meant has no score, as a broken image has
            // none.
            count += u64::from(entry.map_or_else(|left_out| left_out.matters(), |_| true));
            Ok(())
        });
        let _ = sender.send(count);
    });
    receiver
}

/// Calls `each` with every file of `inputs` and of its folders, in order, until it says `Err`.
fn visit(
    inputs: impl IntoIterator<Item = Result<PathBuf, LeftOut>>,
    mut each: impl FnMut(Result<PathBuf, LeftOut>) -> Result<(), ()>,
) -> Result<(), ()> {
    for input in inputs {
        let input = match input {
            Ok(input) => input,
            Err(left_out) => {
                each(Err(left_out))?;
                continue;
            }
        };
        let left_out = |why| Err(LeftOut { path: input.clone(), why });
        match input.metadata() {
            Ok(there) if there.is_dir() => {}
            // Opening a pipe would wait for whoever writes into it.
            Ok(there) if !there.is_file() => {
                each(left_out(Why::NoFile))?;
                continue;
            }
            _ => {
                each(Ok(input.clone()))?;
                continue;
            }
        }
        let mut images = 0;
        match Walk::new(&input) {
            Ok(walk) => {
                for entry in walk {
                    images += usize::from(entry.is_ok());
                    each(entry)?;
                }
                if images == 0 {
                    each(left_out(Why::Unreadable(no_image())))?;
                }
            }
            Err(e) => each(left_out(Why::Unreadable(e.to_string())))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_wait_in_smaller_numbers() {
        assert_eq!([28, 56, 128, 256].map(ahead_of), [2048, 512, 98, 64]);
    }

    fn all<T: Send + 'static>(ahead: &mut Ahead<T>) -> Vec<(String, Result<T, String>)> {
        let mut found = vec![];
        loop {
            match ahead.next(Duration::from_secs(60)) {
                Next::Image(path, image) => found.push((path.display().to_string(), image)),
                Next::LeftOut(left_out) => {
                    found.push((left_out.to_string(), Err("left out".into())))
                }
                Next::Later => panic!("nothing came"),
                Next::End => return found,
            }
        }
    }

    /// More files than may be ahead, which take different times, come in their order, with the
    /// results of their own.
    #[test]
    fn the_order_is_that_of_the_paths() {
        let paths: Vec<PathBuf> =
            (0..3 * AHEAD).map(|i| format!("no such file {i}").into()).collect();
        let decode = |path: &Path| {
            let i: usize = path.to_str().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            std::hint::black_box(
                (0..i * 7919 % 64 * 100).fold(0usize, |sum, k| sum ^ std::hint::black_box(k)),
            );
            if i % 10 == 3 { Err(format!("bad {i}")) } else { Ok(i) }
        };
        for (i, (path, image)) in all(&mut Ahead::new(paths, AHEAD, decode)).into_iter().enumerate()
        {
            assert_eq!(path, format!("no such file {i}"));
            assert_eq!(image, if i % 10 == 3 { Err(format!("bad {i}")) } else { Ok(i) });
        }
    }

    #[test]
    fn a_decoder_that_panics_costs_one_image() {
        let paths: Vec<PathBuf> = (0..100).map(|i| format!("{i}").into()).collect();
        let decode = |path: &Path| {
            if path == Path::new("7") { panic!("expected by this test") } else { Ok(()) }
        };
        let found = all(&mut Ahead::new(paths, AHEAD, decode));
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(|(path, image)| image.is_err() == (path == "7")));
    }

    /// The queue is bounded: a user who stops asking stops the decoders.
    #[test]
    fn nobody_runs_far_ahead() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let decoded = Arc::new(AtomicUsize::new(0));
        let counter = decoded.clone();
        let paths: Vec<PathBuf> = (0..100_000).map(|i| format!("{i}").into()).collect();
        let mut ahead = Ahead::new(paths, AHEAD, move |_: &Path| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        for asked in 1..5000 {
            assert!(matches!(ahead.next(Duration::from_secs(60)), Next::Image(_, Ok(()))));
            // One more is with the walk, and one with the user.
            assert!(decoded.load(Ordering::SeqCst) <= asked + AHEAD + 1);
        }
    }

    #[test]
    fn an_image_that_is_not_there_yet_is_waited_for_again() {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let mut ahead = Ahead::new(vec!["slow".into()], AHEAD, move |_: &Path| {
            wait.lock().unwrap().recv().unwrap();
            Ok(1)
        });
        for _ in 0..3 {
            assert!(matches!(ahead.next(Duration::from_millis(1)), Next::Later));
        }
        go.send(()).unwrap();
        assert_eq!(all(&mut ahead), [("slow".to_string(), Ok(1))]);
    }

    #[test]
    fn folders_files_and_what_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        let (full, empty) = (dir.path().join("full"), dir.path().join("empty"));
        std::fs::create_dir_all(&full).unwrap();
        std::fs::create_dir_all(&empty).unwrap();
        for name in ["b.png", "a.png", "note.txt", "c.gif"] {
            std::fs::write(full.join(name), name).unwrap();
        }
        let inputs =
            vec![dir.path().join("absent.png"), full.clone(), empty.clone(), full.join("note.txt")];
        let found = all(&mut Ahead::new(inputs.clone(), AHEAD, |path: &Path| {
            std::fs::read(path).map_err(|e| e.to_string())
        }));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names[0].ends_with("absent.png")
                && names[1].ends_with("a.png")
                && names[2].ends_with("b.png")
        );
        assert!(
            names[3].contains("c.gif: a picture of a kind")
                && names[4].contains("note.txt: not the name")
        );
        assert!(names[5].contains("empty: no image below it") && names[6].ends_with("note.txt"));
        assert!(
            found[0].1.is_err()
                && found[1].1 == Ok(b"a.png".to_vec())
                && found[6].1 == Ok(b"note.txt".to_vec())
        );
        // All that has, or should have, a score: not the text between the images.
        assert_eq!(count(inputs).recv(), Ok(6));
    }
}
