//! Kernels `mse` and `image_mse`: squared errors of a batch and of each image.

use super::launch::int;
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};

/// The squared error of x against a target, both `[rows, n]` and, if `half`, in half precision (n is
/// even then).
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Loss {
    /// `partial[g] = sum over the g-th [`ROWS`] rows and n of weight[n] / rows * (x - target)^2`,
    /// with a weight `[n]` (1/batch for a mean, 0 for padding): the parts of the weighted mean.
    Mse { rows: usize, n: usize, half: bool },
    /// `out[n] = mean over rows of (x - target)^2`.
    ImageMse { rows: usize, n: usize, half: bool },
}

/// Rows (of n pixels each) that one workgroup of `mse` sums.
pub const ROWS: usize = 64;

/// Parts of the sum that `mse` leaves.
pub fn groups(rows: usize) -> usize {
    rows.div_ceil(ROWS)
}

/// Images that a workgroup of `image_mse` looks at.
const IMAGES: usize = 4;

pub(super) static SHADER: Shader = Shader {
    name: "loss",
    source: include_str!("../../shaders/loss.wgsl"),
    entries: &[
        entry("mse", &[read("x"), read("target"), read("weight"), write("partial")]),
        entry("image_mse", &[read("x"), read("target"), write("out")]),
    ],
    constants: &[("ROWS", ROWS as f64), ("IMAGES", IMAGES as f64)],
    half: false,
};

impl Family for Loss {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Loss::Mse { .. } => &SHADER.entries[0],
            Loss::ImageMse { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let (Loss::Mse { rows, n, .. } | Loss::ImageMse { rows, n, .. }) = *self;
        Uniforms::new().int("rows", rows).int("n", n)
    }

    fn launch(&self) -> Launch {
        let grid = match self {
            Loss::Mse { rows, .. } => super::launch::fold(int(groups(*rows))),
            Loss::ImageMse { n, .. } => super::launch::fold(int(n.div_ceil(IMAGES))),
        };
        let mut launch = Launch::fixed([256, 1, 1], grid).with_memory(4 * 256);
        launch.constants.push(("half", self.is_half(0).into()));
        launch
    }

    fn is_half(&self, i: usize) -> bool {
        let (Loss::Mse { half, .. } | Loss::ImageMse { half, .. }) = *self;
        half && i < 2
    }

    fn flops(&self) -> u64 {
        match self {
            Loss::Mse { rows, n, .. } => 4 * (rows * n) as u64,
            Loss::ImageMse { rows, n, .. } => 3 * (rows * n) as u64,
        }
    }

    fn serial(&self) -> usize {
        match *self {
            Loss::Mse { rows, n, .. } => (ROWS.min(rows) * n).div_ceil(256),
            Loss::ImageMse { rows, .. } => rows.div_ceil(256 / IMAGES),
        }
    }

    fn details(&self) -> String {
        let (Loss::Mse { rows, n, .. } | Loss::ImageMse { rows, n, .. }) = self;
        format!("rows {rows} n{n}")
    }
}
