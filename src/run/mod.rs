//! Runs: a training as a folder that can be watched, interrupted, continued and evaluated.
//!
//! Where its files lie says [`crate::folders`].

pub mod baselines;
pub mod checkpoint;
pub mod config;
pub mod evaluate;
pub mod share;
pub mod sweep;
pub mod threshold;
pub mod time;
pub mod train;
mod writer;
