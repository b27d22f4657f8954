//! Kernel `adam`: the optimiser's step over all parameters at once.

use super::reduce::{MAX_PIECES, longest};
use super::{Entry, Family, Launch, Shader, Uniforms, read, stepped, update};
use crate::layout::Piece;
use crate::tape::ops::AdamConfig;

/// Adam and the running-mean reference gradient.
///
/// ```text
/// schedule[step, replica] = (image weight, c1, c2, 1/t),
///     where c1 = 1/(1 - beta1^t) and c2 = 1/(1 - beta2^t)
/// reference[i] += (grad[i] - reference[i]) / t for i < reference_len, then
/// m += (1 - beta1) (grad - m)
/// v += (1 - beta2) (grad^2 - v)
/// params -= lr c1 m / (sqrt(v c2) + eps)
/// ```
///
/// `lr` is one number for each replica.
///
/// `parts` holds grad / scale in [`Piece`]s, at most [`MAX_PIECES`]; it is 0 where there is none. An
/// image weight of 0 means that this replica has no batch in this step: nothing changes.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub struct Adam {
    pub len: usize,
    pub reference_len: usize,
    pub pieces: Vec<Piece>,
    pub scale: f64,
    pub config: AdamConfig,
}

/// Columns of a schedule.
pub const SCHEDULE: usize = 4;

pub(super) static SHADER: Shader = Shader {
    name: "adam",
    source: include_str!("../../shaders/adam.wgsl"),
    entries: &[stepped(
        "adam",
        &[
            update("params"),
            update("m"),
            update("v"),
            update("reference"),
            read("parts"),
            read("schedule"),
            read("lr"),
        ],
    )],
    constants: &[("MAX_PIECES", MAX_PIECES as f64)],
    half: false,
};

impl Family for Adam {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        &SHADER.entries[0]
    }

    /// The betas travel as 1 - beta: taking 0.999 from 1 in f32 loses five digits.
    fn uniforms(&self) -> Uniforms {
        let AdamConfig { beta1, beta2, eps } = self.config;
        Uniforms::new()
            .pieces(&self.pieces, MAX_PIECES)
            .int("len", self.len)
            .int("reference_len", self.reference_len)
            .float("one_minus_beta1", 1.0 - beta1)
            .float("one_minus_beta2", 1.0 - beta2)
            .float("eps", eps)
            .float("scale", self.scale)
    }

    fn launch(&self) -> Launch {
        Launch::flat(self.len, 256)
    }

    fn flops(&self) -> u64 {
        let sums: usize = self.pieces.iter().map(|p| p.held() - p.len).sum();
        (14 * self.len + 3 * self.reference_len + sums) as u64
    }

    fn serial(&self) -> usize {
        longest(&self.pieces)
    }

    fn moved(&self, i: usize) -> Option<usize> {
        (i == 5).then_some(SCHEDULE)
    }

    fn is_last(&self) -> bool {
        true
    }

    fn details(&self) -> String {
        let parts = self.pieces.iter().map(Piece::held).sum::<usize>();
        let (len, reference_len) = (self.len, self.reference_len);
        format!("{len} of {parts} (reference {reference_len})")
    }
}
