//! Measuring: what a device can do at best, every kernel of a step at the model's shapes, whole
//! steps; and comparing two measurements.
//!
//! What is measured is verified first; what is reported is a median with its noise band, the clock
//! that measured it and all samples. [`record`] is the result, a list of rows whatever was
//! measured.

pub mod compare;
pub mod kernels;
pub mod peaks;
pub mod record;
pub mod roofline;
pub mod stats;
pub mod steps;
pub mod text;
pub mod verify;

use crate::error::Result;
use crate::method::model::{Kind, Model};

/// Sizes that something is measured at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Images in a batch.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Independent models in one program.
    pub replicas: usize,
}

/// Asked again and again while something is measured; an error ends it.
pub type GoOn<'a> = &'a dyn Fn() -> Result<()>;

/// What is measured of a whole step of a model: `shape`, which of the convolutional autoencoder says
/// what it always did, since rows of other files are found by it.
fn of_model(model: &Model, shape: &str) -> String {
    match model.kind() {
        Kind::Cae => shape.to_string(),
        kind => format!("{kind}, {shape}"),
    }
}

/// Pseudo-random bytes that are the same everywhere (SplitMix64).
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0u64;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let v = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((v ^ (v >> 31)) >> 56) as u8
    };
    (0..len).map(|_| draw()).collect()
}
