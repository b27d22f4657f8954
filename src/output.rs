//! What leaves the program: results on standard output, notes on standard error, and files that a
//! user named.
//!
//! A file that a user named is written whole or not at all, with the mode that it has, else that of
//! any new file. A link stays a link and its target is replaced. What is no plain file (a pipe, a
//! device, `/dev/stdout`) is written to, never replaced.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::files;

/// What messages call standard output.
const STDOUT: &str = "standard output";

/// Writes results to standard output.
///
/// # Errors
/// Nothing can be written there: a full disk, a reader that is gone (see [`reader_is_gone`]).
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io(STDOUT))
}

/// A line of results, as `println!` without its panic: a [`print`] whose result is to be looked at.
macro_rules! outln {
    ($($arg:tt)*) => { $crate::output::print(&format!("{}\n", format_args!($($arg)*))) };
}
pub(crate) use outln;

/// Writes a line to standard error. Where nobody can read it (a full disk, a terminal that is gone)
/// it is lost: no reason to stop.
pub fn note(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether the reader of a pipe has closed it (`| head`): it has what it wanted, and no message is
/// due.
pub fn reader_is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe)
}

/// A path as text from which it can be told again: bytes that are no UTF-8 become `\xE8`, and so
/// does the backslash of a name that holds such a sequence already (`\x5CxE8`). Every other path
/// stays as it is.
pub fn path_text(path: &Path) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let mut text = String::new();
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some(i) = rest.find("\\x") {
                let escape = rest.as_bytes()[i + 2..]
                    .iter()
                    .take(2)
                    .filter(|b| b"0123456789ABCDEF".contains(b));
                text.push_str(&rest[..i]);
                text.push_str(if escape.count() == 2 { "\\x5Cx" } else { "\\x" });
                rest = &rest[i + 2..];
            }
            text.push_str(rest);
            chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
        }
        text
    }
    // A path of Windows has backslashes of its own.
    #[cfg(not(unix))]
    path.display().to_string()
}

/// Writes a file that a user named.
///
/// # Errors
/// A folder is there, or whatever the file system says, with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    match place(path)? {
        Place::Through(mut file) => file.write_all(bytes).map_err(Error::io(path)),
        Place::Replace(target) => files::write_atomically(&target, bytes),
    }
}

/// Makes a folder that results go into, and makes sure that files can be made in it: better known
/// before the work than after it.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    tempfile::Builder::new()
        .prefix(files::UNFINISHED)
        .tempfile_in(folder)
        .map(drop)
        .map_err(Error::io(folder))
}

/// Results that are written while they are made: to standard output or to a file that a user named.
pub struct Output {
    name: PathBuf,
    to: To,
    written: u64,
    /// How much of it was handed on: whole lines, if the user flushes after whole lines.
    flushed: u64,
}

enum To {
    Stream(BufWriter<Box<dyn Write>>),
    /// A file beside the target that takes its place in the end.
    Beside {
        file: BufWriter<NamedTempFile>,
        target: PathBuf,
    },
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Output {
        Output::to(Path::new(STDOUT), To::Stream(BufWriter::new(Box::new(std::io::stdout()))))
    }

    /// A file that a user named; it changes only in [`Output::commit`], unless it is no plain file.
    ///
    /// # Errors
    /// Nothing can be written there: better known before the work than after it.
    pub fn create(path: &Path) -> Result<Output> {
        let to = match place(path)? {
            Place::Through(file) => To::Stream(BufWriter::new(Box::new(file))),
            Place::Replace(target) => {
                let folder = files::parent(&target);
                let mut builder = tempfile::Builder::new();
                builder.prefix(files::UNFINISHED);
                // Files of this kind are private by default; a result is like any other new file.
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let file = builder.tempfile_in(folder).map_err(Error::io(folder))?;
                files::keep_mode(file.path(), &target).map_err(Error::io(path))?;
                To::Beside { file: BufWriter::new(file), target }
            }
        };
        Ok(Output::to(path, to))
    }

    fn to(name: &Path, to: To) -> Output {
        Output { name: name.into(), to, written: 0, flushed: 0 }
    }

    /// Writes; what readers see of it is decided by [`Output::flush`] and [`Output::commit`].
    ///
    /// # Errors
    /// A full disk, a reader that is gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.to {
            To::Stream(stream) => stream.write_all(bytes),
            To::Beside { file, .. } => file.write_all(bytes),
        }
        .map_err(Error::io(&self.name))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.to {
            To::Stream(stream) => stream.flush(),
            To::Beside { file, .. } => file.flush(),
        }
        .map_err(Error::io(&self.name))?;
        self.flushed = self.written;
        Ok(())
    }

    /// Everything is written: puts the file in its place.
    ///
    /// # Errors
    /// It can't be put there; then it stays beside, and the message says where.
    pub fn commit(mut self) -> Result<()> {
        self.flush()?;
        let To::Beside { file, target } = self.to else { return Ok(()) };
        let file = file.into_inner().map_err(|e| Error::io(&self.name)(e.into_error()))?;
        file.as_file().sync_all().map_err(Error::io(&self.name))?;
        file.persist(&target).map(drop).map_err(|e| {
            let kept = e
                .file
                .keep()
                .map_or_else(|e| e.to_string(), |(_, path)| format!("it is in {}", path.display()));
            Error::invalid(format!(
                "{}: the file can't be put there: {}; {kept}",
                self.name.display(),
                e.error
            ))
        })
    }

    /// The work ended early: keeps what was written beside the target, as `NAME.partial` (or
    /// `.partial-2` and so on, if that is there), and returns the path. The target stays as it was.
    /// A stream has what was written already. What can't be flushed any more (a full disk) is cut
    /// off.
    ///
    /// # Errors
    /// Nothing can be kept; a stream that takes no more.
    pub fn keep_partial(mut self) -> Result<PathBuf> {
        let whole = self.flush();
        let To::Beside { file, target } = self.to else { return whole.map(|()| self.name) };
        let (mut file, _) = file.into_parts();
        if whole.is_err() {
            file.as_file().set_len(self.flushed).map_err(Error::io(&self.name))?;
        }
        for k in 1.. {
            let mut partial = target.clone().into_os_string();
            partial.push(if k == 1 { ".partial".into() } else { format!(".partial-{k}") });
            let partial = PathBuf::from(partial);
            match file.persist_noclobber(&partial) {
                Ok(_) => return Ok(partial),
                Err(e) if e.error.kind() == ErrorKind::AlreadyExists => file = e.file,
                Err(e) => {
                    return e
                        .file
                        .keep()
                        .map(|(_, path)| path)
                        .map_err(|e| Error::io(&partial)(e.error));
                }
            }
        }
        unreachable!("one of the names is free")
    }
}

/// Where a file that a user named goes.
enum Place {
    /// Into what is there already.
    Through(File),
    /// A new file takes the place of this one, which may be there.
    Replace(PathBuf),
}

/// Follows links to what is, or will be, the file.
fn place(path: &Path) -> Result<Place> {
    let mut target = path.to_path_buf();
    // As many links as Linux follows.
    for _ in 0..40 {
        let there = match std::fs::symlink_metadata(&target) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Place::Replace(target)),
            there => there.map_err(Error::io(path))?,
        };
        if there.is_symlink() {
            if leads_to_a_descriptor(&target) {
                return Ok(Place::Through(open_stream(path)?));
            }
            let next = std::fs::read_link(&target).map_err(Error::io(path))?;
            target = files::parent(&target).join(next);
        } else if there.is_dir() {
            return Err(Error::Usage(format!(
                "{}: a folder, expected the name of a file",
                path.display()
            )));
        } else if there.is_file() {
            // A file that is protected against writing is protected against being replaced.
            OpenOptions::new().write(true).open(&target).map_err(Error::io(path))?;
            return Ok(Place::Replace(target));
        } else {
            return Ok(Place::Through(open_stream(path)?));
        }
    }
    Err(Error::invalid(format!(
        "{}: a link that leads to itself, or too many links",
        path.display()
    )))
}

/// Whether a link is one of the system's for what a process has open: `/dev/stdout`, `/dev/fd/1`,
/// `/proc/self/fd/1`.
fn leads_to_a_descriptor(link: &Path) -> bool {
    let folder = files::parent(link).canonicalize().unwrap_or_default();
    folder == Path::new("/dev") || folder.starts_with("/proc")
}

/// Opens what is no plain file, or is open already.
fn open_stream(path: &Path) -> Result<File> {
    let there = std::fs::metadata(path).map_err(Error::io(path))?;
    if there.is_dir() {
        return Err(Error::Usage(format!(
            "{}: a folder, expected the name of a file",
            path.display()
        )));
    }
    #[cfg(unix)]
    {
        use std::os::{fd::AsFd, unix::fs::MetadataExt};
        // Opened anew, standard output would have a position of its own: the next command would
        // write over our results.
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
        if let Ok(stdout) = stdout
            && stdout
                .metadata()
                .is_ok_and(|open| (open.dev(), open.ino()) == (there.dev(), there.ino()))
        {
            return Ok(stdout);
        }
    }
    // A plain file behind a descriptor has been emptied, or not, by whoever opened it.
    OpenOptions::new().write(true).append(there.is_file()).open(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn every_path_has_a_text_of_its_own() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let cases: [(&[u8], &str); 12] = [
            (b"a/b c.png", "a/b c.png"),
            ("缺陷/é\n\"'\\.png".as_bytes(), "缺陷/é\n\"'\\.png"),
            (b"zo\xe8.png", r"zo\xE8.png"),
            (b"zo\xe9.png", r"zo\xE9.png"),
            (b"\xff\xfe/\xe7\xbc", r"\xFF\xFE/\xE7\xBC"),
            (br"zo\xE8.png", r"zo\x5CxE8.png"),
            (br"zo\xe8.png", r"zo\xe8.png"),
            (br"\\x", r"\\x"),
            (br"\x\xE", r"\x\xE"),
            (b"\\x\xe8", r"\x\xE8"),
            (b"\\xE\xe8", r"\xE\xE8"),
            (br"\x5CxE8", r"\x5Cx5CxE8"),
        ];
        for (bytes, expected) in cases {
            let text = path_text(OsStr::from_bytes(bytes).as_ref());
            assert_eq!(text, expected);
            assert_eq!(decoded(&text), bytes, "{text}");
        }
    }

    /// What a reader does.
    #[cfg(unix)]
    fn decoded(text: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (vec![], text.as_bytes());
        while let [first, after @ ..] = rest {
            let hex = |b: u8| {
                (b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
                    .then_some((b as char).to_digit(16))
            };
            match rest {
                [b'\\', b'x', a, b, after @ ..] if hex(*a).is_some() && hex(*b).is_some() => {
                    let digit = |b: u8| (b as char).to_digit(16).unwrap() as u8;
                    bytes.push(digit(*a) * 16 + digit(*b));
                    rest = after;
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        bytes
    }
}
