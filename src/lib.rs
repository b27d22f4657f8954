//! GradCon
#[doc(hidden)]
pub mod cases;
pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub(crate) mod files;
pub mod geometry;
pub mod gradcon;
pub mod program;
pub mod report;
pub mod run;
pub mod tape;
pub use error::{Error, Result};
