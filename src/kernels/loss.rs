//! Kernels `mse` and `mse_sum`: mean squared error and its gradient in one pass.

use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};

/// The squared error of x against a target, both `[rows, n]`, with a weight `[n]` (1/batch for a
/// mean, 0 for padding). A chunk is [`ROWS`] rows.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Loss {
    /// `grad = 2 weight[n] / rows * (x - target)`,
    /// `partial[chunk, n] = sum of (x - target)^2` over the chunk's rows.
    Mse { rows: usize, n: usize },
    /// `image[n] = sum over chunks of partial[chunk, n] / rows`,
    /// `loss[0] = sum over n of weight[n] * image[n]`.
    MseSum { rows: usize, n: usize },
}

/// Rows (of n pixels each) that one thread of `mse` sums: fixed, so that the sum has the same shape
/// everywhere.
pub const ROWS: usize = 16;

pub(super) static SHADER: Shader = Shader {
    name: "loss",
    source: include_str!("../../shaders/loss.wgsl"),
    entries: &[
        entry("mse", &[read("x"), read("target"), read("weight"), write("grad"), write("partial")]),
        entry("mse_sum", &[read("partial"), read("weight"), write("image"), write("loss")]),
    ],
    constants: &[("ROWS", ROWS as f64)],
};

impl Family for Loss {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Loss::Mse { .. } => &SHADER.entries[0],
            Loss::MseSum { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let (Loss::Mse { rows, n } | Loss::MseSum { rows, n }) = *self;
        Uniforms::new().int("rows", rows).int("n", n)
    }

    fn launch(&self) -> Launch {
        match self {
            Loss::Mse { rows, n } => Launch::flat(rows.div_ceil(ROWS) * n, 64),
            Loss::MseSum { .. } => Launch::fixed([256, 1, 1], [1, 1]).with_memory(4 * 256),
        }
    }

    fn flops(&self) -> u64 {
        match self {
            Loss::Mse { rows, n } => 4 * (rows * n) as u64,
            Loss::MseSum { rows, n } => (rows.div_ceil(ROWS) * n + 3 * n) as u64,
        }
    }

    fn details(&self) -> String {
        let (Loss::Mse { rows, n } | Loss::MseSum { rows, n }) = self;
        format!("rows {rows} n{n}")
    }
}
