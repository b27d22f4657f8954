//! How much is read of what comes from outside, and how much of it an error repeats.
//!
//! Every reader refuses what is larger than its limit here before it holds it: a file by its
//! length, compressed or sparse content by what its header says or at the byte that is one too
//! many. The limits leave room for many times what the formats hold in honest use. `SECURITY.md`
//! has them as a table.

use std::fmt::{self, Display, Write};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;

/// Values of an IDX file, uncompressed: eleven times MNIST's training images.
pub const IDX: u64 = 512 * MIB;
/// All of a CIFAR-10 archive, uncompressed, or the six batches of a folder: the official ones have
/// 184 MB.
pub const CIFAR: u64 = 512 * MIB;
/// Values of an array of a prepared dataset: eleven million gray images.
pub const ARRAY: u64 = 8192 * MIB;
/// A dataset's `manifest.json`.
pub const MANIFEST: u64 = 4 * MIB;
/// Bytes for each name of an image in a dataset's list of names, on average.
pub const IMAGE_NAME: u64 = 1024;
/// A `model.safetensors` or an optimizer's: models of a few thousand channels.
pub const TENSORS: u64 = 64 * MIB;
/// The header of a safetensors file; a model's has 4 kB.
pub const TENSORS_HEADER: u64 = MIB;
/// A configuration, or the mark of a checkpoint.
pub const CONFIG: u64 = MIB;
/// A checkpoint's `state.json`, which has the losses of an epoch's steps.
pub const STATE: u64 = 64 * MIB;
/// `metrics.csv`: 150,000 epochs.
pub const METRICS: u64 = 32 * MIB;
/// `scores.csv`: three million images.
pub const SCORES: u64 = 512 * MIB;
/// `results.json`, which has a kilobyte for each class and share of outliers.
pub const RESULTS: u64 = 16 * MIB;
/// A measurement of `gradcon bench`, which has some hundred rows with all their samples.
pub const BENCH: u64 = 64 * MIB;
/// A plan of `gradcon tune`, which has some hundred kernels with all their samples.
pub const TUNED: u64 = 16 * MIB;
/// `extremes.json`.
pub const EXTREMES: u64 = MIB;
/// What is kept of compiled kernels; a file that has grown beyond is begun anew.
pub const PIPELINES: u64 = 64 * MIB;
/// A picture that a page embeds.
pub const TILE: u64 = MIB;

/// Characters of foreign text that an error repeats.
const SHOWN: usize = 500;

/// The whole file, if it is no larger than `limit`. `what` names its kind: `a configuration`.
///
/// # Errors
/// The file can't be read, or is larger; the message has its size, where known, and the limit.
pub fn read(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let file = open(path, limit, what)?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut bytes = Vec::with_capacity(length as usize + 1);
    // What a file's length says need not hold: it may grow, or be a device.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, None, limit, what));
    }
    Ok(bytes)
}

/// [`read`], as text.
///
/// # Errors
/// As [`read`], or the file is not UTF-8.
pub fn read_text(path: &Path, limit: u64, what: &str) -> Result<String> {
    let not_text =
        |_| Error::io(path)(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"));
    String::from_utf8(read(path, limit, what)?).map_err(not_text)
}

/// Opens a file that is no longer than `limit`.
///
/// # Errors
/// As [`read`].
pub fn open(path: &Path, limit: u64, what: &str) -> Result<File> {
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length > limit {
        return Err(too_large(path, Some(length), limit, what));
    }
    Ok(file)
}

/// The error about something of `size` bytes (none: more than the limit, who knows how many).
pub fn too_large(name: &Path, size: Option<u64>, limit: u64, what: &str) -> Error {
    let size = size.map_or("too many".to_string(), |size| size.to_string());
    Error::invalid(format!("{}: {size} bytes, expected at most {limit} for {what}", name.display()))
}

/// Passes on at most so many bytes; another one is an error.
pub struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
    what: &'static str,
}

impl<R: Read> Bounded<R> {
    /// At most `limit` bytes of `inner`; `what` they are, in errors.
    pub fn new(inner: R, limit: u64, what: &'static str) -> Bounded<R> {
        Bounded { inner, left: limit, limit, what }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One more than may come, to tell an end from an excess.
        let most =
            usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let Bounded { limit, what, .. } = self;
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit} bytes, the limit for {what}"),
            )
        })?;
        Ok(n)
    }
}

/// Text from outside as an error shows it: cut to a readable length, without what would steer a
/// terminal. What is cut off isn't even formatted.
pub fn shown(text: impl Display) -> String {
    struct Shown {
        text: String,
        left: usize,
    }
    impl Write for Shown {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            for c in part.chars() {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                match c {
                    '\n' => self.text.push(c),
                    c if c.is_control() => self.text.extend(c.escape_default()),
                    c => self.text.push(c),
                }
            }
            Ok(())
        }
    }
    let mut shown = Shown { text: String::new(), left: SHOWN };
    if write!(shown, "{text}").is_err() {
        shown.text.push('\u{2026}');
    }
    shown.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_and_cannot_steer_a_terminal() {
        assert_eq!(shown("a\n\u{1b}[2J\u{e9}"), "a\n\\u{1b}[2J\u{e9}");
        let long = shown("x".repeat(1_000_000));
        assert_eq!(long.chars().count(), SHOWN + 1);
        assert!(long.ends_with('\u{2026}'));
        assert_eq!(shown("y".repeat(SHOWN)), "y".repeat(SHOWN));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5, "a test").unwrap(), b"12345");
        let error = read(&path, 4, "a test").unwrap_err().to_string();
        assert!(error.contains("file: 5 bytes, expected at most 4 for a test"), "{error}");
        // A length that promises nothing: the limit holds while reading, too.
        #[cfg(unix)]
        assert!(
            read(Path::new("/dev/zero"), 4, "a test")
                .unwrap_err()
                .to_string()
                .contains("too many bytes")
        );
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path, 5, "a test").unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn a_bounded_reader_tells_an_end_from_an_excess() {
        let all = |limit| {
            let mut bytes = Vec::new();
            Bounded::new(&b"12345"[..], limit, "a test")
                .read_to_end(&mut bytes)
                .map(|_| bytes.len())
        };
        assert_eq!(all(5).unwrap(), 5);
        assert_eq!(all(u64::MAX).unwrap(), 5);
        assert!(all(4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(all(0).is_err());
    }
}
