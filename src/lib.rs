//! GradCon
pub mod engine;
pub mod error;
pub mod geometry;
pub mod gradcon;
pub mod program;
pub mod tape;
pub use error::{Error, Result};
