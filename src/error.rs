//! The one error type of the library, and the exit code each kind maps to.
//!
//! Two kinds of failure exist. The *world* fails (a device, a file, a flag): that is an [`Error`].
//! *Our own* mistake (shapes that don't fit on the tape) is a panic that names the operation and
//! both shapes.

use std::path::{Path, PathBuf};

/// Everything the world can do wrong. Messages name the file or value and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Input that was read but makes no sense; the message names the file, the value and the
    /// expectation.
    #[error("{0}")]
    Invalid(String),
    /// A request that contradicts itself or names something unknown (exit code 2, as for a bad
    /// flag).
    #[error("{0}")]
    Usage(String),
    /// No such device, or the device failed or was lost.
    #[error("{0}")]
    Device(String),
    /// More than this machine or the device can hold or do at once.
    #[error("{problem}; {remedy}")]
    TooLarge {
        /// What needs how much, and how much there is.
        problem: String,
        /// What lowers the need.
        remedy: String,
    },
    /// A check ran and did not pass; also what `bench compare` found slower.
    #[error("{0}")]
    Verification(String),
    /// The user asked to stop; everything was saved first.
    #[error("interrupted")]
    Interrupted,
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error that remembers its path; made for `map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(message.into())
    }

    /// The same kind of error, with the file that it is about in front.
    pub fn in_file(self, path: &Path) -> Error {
        let message = format!("{}: {self}", path.display());
        match self {
            Error::Usage(_) => Error::Usage(message),
            Error::Device(_) => Error::Device(message),
            Error::Verification(_) => Error::Verification(message),
            Error::Io { .. } | Error::Invalid(_) => Error::Invalid(message),
            Error::TooLarge { problem, remedy } => {
                Error::TooLarge { problem: format!("{}: {problem}", path.display()), remedy }
            }
            Error::Interrupted => Error::Interrupted,
        }
    }

    /// Of [`Error::TooLarge`] says what lowers the need, where the caller knows it better; other
    /// errors stay as they are.
    pub fn with_remedy(self, remedy: impl Into<String>) -> Error {
        match self {
            Error::TooLarge { problem, .. } => Error::TooLarge { problem, remedy: remedy.into() },
            other => other,
        }
    }

    /// The process exit code: 1 failure, 2 usage, 3 device, 4 verification (or a measurement that
    /// became slower), 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Invalid(_) => 1,
            Error::Usage(_) => 2,
            Error::Device(_) | Error::TooLarge { .. } => 3,
            Error::Verification(_) => 4,
            Error::Interrupted => 130,
        }
    }
}
