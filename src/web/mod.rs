//! The engine in a browser: a page that trains and scores on its reader's GPU.
//!
//! A program's plan is plain data and its shaders are core WGSL, so a page needs no more than a host
//! that makes buffers and pipelines of them: `runner.js`. What it hosts is [`plans`], each within
//! what every browser allows ([`limits`]); [`host`] is the same host in Rust, which records a run for
//! readers without WebGPU, and [`page`] writes one file with everything inside.

pub mod host;
pub mod limits;
pub mod page;
pub mod plans;
