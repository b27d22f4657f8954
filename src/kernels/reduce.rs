//! Kernels `broadcast` and `sum_to`: four-dimensional shapes, where an axis of size 1 stands for
//! all of an axis.

use super::launch::{fold, int};
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::layout::{Shape, size};

/// Repeating and summing axes: `small` is `large` with some axes 1.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Reduce {
    /// `out[i, j, k, l] = a[i or 0, ...]`: axes of `small` that are 1 are repeated to `large`.
    Broadcast { small: Shape, large: Shape },
    /// The adjoint: `out` (shape `small`) sums `a` (shape `large`) over the axes where `small`
    /// is 1.
    SumTo { small: Shape, large: Shape },
}

pub(super) static SHADER: Shader = Shader {
    name: "reduce",
    source: include_str!("../../shaders/reduce.wgsl"),
    entries: &[
        entry("broadcast", &[read("a"), write("out")]),
        entry("sum_to", &[read("a"), write("out")]),
    ],
    constants: &[],
};

impl Family for Reduce {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Reduce::Broadcast { .. } => &SHADER.entries[0],
            Reduce::SumTo { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let (Reduce::Broadcast { small, large } | Reduce::SumTo { small, large }) = self;
        [("small", small), ("large", large)].into_iter().fold(
            Uniforms::new(),
            |words, (name, shape)| {
                (0..4).fold(words, |words, axis| words.int(format!("{name}{axis}"), shape[axis]))
            },
        )
    }

    fn launch(&self) -> Launch {
        match self {
            Reduce::Broadcast { large, .. } => Launch::flat(size(*large), 256),
            Reduce::SumTo { small, .. } => {
                Launch::fixed([256, 1, 1], fold(int(size(*small)))).with_memory(4 * 256)
            }
        }
    }

    fn flops(&self) -> u64 {
        match self {
            Reduce::Broadcast { .. } => 0,
            Reduce::SumTo { large, .. } => size(*large) as u64,
        }
    }

    fn details(&self) -> String {
        let text = |s: &Shape| s.map(|v| v.to_string()).join("x");
        match self {
            Reduce::Broadcast { small, large } => format!("{} -> {}", text(small), text(large)),
            Reduce::SumTo { small, large } => format!("{} -> {}", text(large), text(small)),
        }
    }
}
