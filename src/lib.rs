//! GradCon
pub mod engine;
pub mod error;
pub(crate) mod files;
pub mod geometry;
pub mod gradcon;
pub mod program;
pub mod tape;
pub use error::{Error, Result};
