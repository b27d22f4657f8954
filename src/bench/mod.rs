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

use std::fmt;

use crate::error::Result;
use crate::images::IMAGE_SIZE;
use crate::kernels::Form;
use crate::method::config::TrainConfig;
use crate::method::model::{Kind, Model};
use crate::program::{Options, Precision};

/// What is measured, and at which sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// The autoencoder.
    #[serde(default)]
    pub model: Kind,
    /// Images in a batch.
    pub batch: usize,
    /// Height and width of an image; of a record that doesn't say, the paper's.
    #[serde(default = "papers_size")]
    pub size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Independent models in one program.
    pub replicas: usize,
    /// How activations and their gradients are kept.
    #[serde(default)]
    pub precision: Precision,
}

fn papers_size() -> usize {
    IMAGE_SIZE
}

/// As people say it; the paper's size of images goes without saying.
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { batch, size, channels, replicas, .. } = self;
        write!(f, "batch {batch}, ")?;
        if *size != IMAGE_SIZE {
            write!(f, "{size} x {size}, ")?;
        }
        write!(f, "{channels} channel(s), {replicas} model(s)")
    }
}

impl Default for Sizes {
    /// A batch of the paper's, of one gray model in f32.
    fn default() -> Sizes {
        let (model, precision) = (Kind::Cae, Precision::F32);
        Sizes { model, batch: 64, size: IMAGE_SIZE, channels: 1, replicas: 1, precision }
    }
}

impl Sizes {
    /// The model of these.
    ///
    /// # Errors
    /// As [`Model::sized`].
    pub fn model(&self) -> Result<Model> {
        Model::sized(self.model, self.size, self.channels)
    }

    /// Options of a compilation for these.
    pub fn options(&self, form: Form) -> Options {
        Options { precision: self.precision, ..Options::new(self.replicas, form) }
    }

    /// Of a training at these.
    pub fn config(&self) -> TrainConfig {
        let Sizes { batch, precision, .. } = *self;
        TrainConfig { batch_size: batch, precision, ..TrainConfig::default() }
    }

    /// What is measured of a whole step: `shape`, which of the paper's convolutional autoencoder in
    /// f32 says what it always did, since rows of other files are found by it.
    fn of_step(&self, shape: &str) -> String {
        let kind = match self.model {
            Kind::Cae => String::new(),
            kind => format!("{kind}, "),
        };
        let size = match self.size {
            IMAGE_SIZE => String::new(),
            size => format!("{size} x {size}, "),
        };
        match self.precision {
            Precision::F32 => format!("{kind}{size}{shape}"),
            precision @ Precision::F16 => format!("{kind}{size}{precision}, {shape}"),
        }
    }
}

/// Asked again and again while something is measured; an error ends it.
pub type GoOn<'a> = &'a dyn Fn() -> Result<()>;

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
