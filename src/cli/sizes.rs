//! The sizes that `bench` and `program` share, each within what a program can count, and what to
//! say when memory doesn't suffice.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use strum::VariantNames;

use crate::error::{Error, Result};
use crate::images::{IMAGE_SIZE, check_size};
use crate::kernels::Form;
use crate::method::config::TrainConfig;
use crate::method::model::{Kind, MAX_CHANNELS, Model};
use crate::program::{Options, Precision, Program};

/// Most images in a batch.
pub const MAX_BATCH: usize = 4096;

/// Most models in one program: with the greatest batches and images, every count of a program still
/// fits 64 bits.
pub const MAX_REPLICAS: usize = 4096;

/// A number of a command line from 1 to `most`.
pub fn up_to(most: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most as u64)
}

/// A height and width that images can have.
pub fn one_of_sizes(text: &str) -> std::result::Result<usize, String> {
    let size = text.parse::<usize>().map_err(|e| e.to_string())?;
    check_size(size).map_err(|e| e.to_string())
}

/// How activations are kept.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct PrecisionArgs {
    /// How activations and their gradients are kept: f32, or f16 in half of the memory. All else is
    /// kept, and everything is computed, in f32.
    #[arg(
        long, default_value_t,
        value_parser = PossibleValuesParser::new(Precision::VARIANTS)
            .try_map(|v| v.parse::<Precision>())
    )]
    pub precision: Precision,
}

/// Model and sizes of a program.
#[derive(clap::Args, Clone, Debug)]
pub struct SizeArgs {
    /// The autoencoder.
    #[arg(long, value_enum, default_value_t)]
    pub model: Kind,

    /// Images in a batch.
    #[arg(long, default_value_t = 64, value_parser = up_to(MAX_BATCH))]
    pub batch: usize,

    /// Height and width of an image.
    #[arg(long, default_value_t = IMAGE_SIZE, value_parser = one_of_sizes)]
    pub size: usize,

    /// Channels of an image.
    #[arg(long, default_value_t = 1, value_parser = up_to(MAX_CHANNELS))]
    pub channels: usize,

    /// Independent models in one program.
    #[arg(long, default_value_t = 1, value_parser = up_to(MAX_REPLICAS))]
    pub replicas: usize,

    #[command(flatten)]
    pub precision: PrecisionArgs,
}

impl SizeArgs {
    /// The model of these images.
    pub fn model(&self) -> Result<Model> {
        Model::sized(self.model, self.size, self.channels)
    }

    /// The configuration of a training with this batch.
    pub fn config(&self) -> TrainConfig {
        let precision = self.precision.precision;
        TrainConfig { batch_size: self.batch, precision, ..TrainConfig::default() }
    }

    /// Options of a compilation for these models.
    pub fn options(&self, form: Form) -> Options {
        Options { replicas: self.replicas, form, precision: self.precision.precision }
    }

    /// Says of a lack of memory which of the flags lower the need: `flags` and those of this
    /// struct, as far as they are above their least.
    pub fn explain(&self, error: Error, flags: &[(&str, usize)]) -> Error {
        let own = [
            ("--batch", self.batch, 1),
            ("--replicas", self.replicas, 1),
            ("--channels", self.channels, 1),
            ("--size", self.size, IMAGE_SIZE),
        ];
        let flags = flags.iter().map(|&(flag, value)| (flag, value, 1));
        let high: Vec<String> = own
            .into_iter()
            .chain(flags)
            .filter(|(_, value, least)| value > least)
            .map(|(flag, value, _)| format!("{flag} (now {value})"))
            .collect();
        if high.is_empty() {
            error
        } else {
            error.with_remedy(format!("a lower {} needs less", high.join(" or ")))
        }
    }

    /// Bytes of host memory that `steps` batches take besides the program's own: the images, and
    /// who reads which.
    pub fn host_bytes(&self, program: &Program, model: &Model, steps: usize) -> Option<u64> {
        let count =
            |factors: &[usize]| factors.iter().try_fold(1u64, |n, &f| n.checked_mul(f as u64));
        let images = count(&[self.batch, steps, model.pixels()])?;
        // Orders of images, then the index list (with padding) and schedules as they are sent.
        let orders = count(&[4, self.batch, steps, self.replicas])?;
        let lists = program.buffers.iter().filter(|b| {
            let ends = |end: &&str| b.name.ends_with(end);
            [".indices", ".schedule", ".draws"].iter().any(ends)
        });
        let lists = lists
            .map(|b| b.bytes(self.replicas, 8))
            .try_fold(0u64, |sum, bytes| sum.checked_add(bytes?))?;
        let params = count(&[8, self.replicas, model.len()])?;
        [orders, lists, params].into_iter().try_fold(images, u64::checked_add)
    }
}
