//! Kernels `broadcast` and `sum_to`: four-dimensional shapes, where an axis of size 1 stands for
//! all of an axis. And `sum_pieces`: sums that other kernels left in parts.

use super::launch::{fold, int};
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::layout::{Piece, Shape, size};

/// Repeating and summing axes: `small` is `large` with some axes 1.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Reduce {
    /// `out[i, j, k, l] = a[i or 0, ...]`: axes of `small` that are 1 are repeated to `large`.
    Broadcast { small: Shape, large: Shape },
    /// The adjoint: `out` (shape `small`) sums `a` (shape `large`) over the axes where `small`
    /// is 1.
    SumTo { small: Shape, large: Shape },
    /// `out [len]` is the flat tensor that `parts` holds in [`Piece`]s, at most [`MAX_PIECES`]; 0
    /// where there is none.
    SumPieces { len: usize, pieces: Vec<Piece> },
}

/// Most pieces of a flat tensor: the parameters of a model.
pub const MAX_PIECES: usize = 32;

pub(super) static SHADER: Shader = Shader {
    name: "reduce",
    source: include_str!("../../shaders/reduce.wgsl"),
    entries: &[
        entry("broadcast", &[read("a"), write("out")]),
        entry("sum_to", &[read("a"), write("out")]),
        entry("sum_pieces", &[read("parts"), write("out")]),
    ],
    constants: &[("MAX_PIECES", MAX_PIECES as f64)],
    half: false,
};

impl Family for Reduce {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Reduce::Broadcast { .. } => &SHADER.entries[0],
            Reduce::SumTo { .. } => &SHADER.entries[1],
            Reduce::SumPieces { .. } => &SHADER.entries[2],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let (small, large) = match self {
            Reduce::Broadcast { small, large } | Reduce::SumTo { small, large } => (small, large),
            Reduce::SumPieces { len, pieces } => {
                return Uniforms::new().pieces(pieces, MAX_PIECES).int("len", *len);
            }
        };
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
            Reduce::SumPieces { len, .. } => Launch::flat(*len, 256),
        }
    }

    fn flops(&self) -> u64 {
        match self {
            Reduce::Broadcast { .. } => 0,
            Reduce::SumTo { large, .. } => size(*large) as u64,
            Reduce::SumPieces { pieces, .. } => {
                pieces.iter().map(|p| (p.len * (p.terms - 1)) as u64).sum()
            }
        }
    }

    fn serial(&self) -> usize {
        match self {
            Reduce::Broadcast { .. } => 1,
            Reduce::SumTo { small, large } => (size(*large) / size(*small)).div_ceil(256),
            Reduce::SumPieces { pieces, .. } => longest(pieces),
        }
    }

    fn details(&self) -> String {
        let text = |s: &Shape| s.map(|v| v.to_string()).join("x");
        match self {
            Reduce::Broadcast { small, large } => format!("{} -> {}", text(small), text(large)),
            Reduce::SumTo { small, large } => format!("{} -> {}", text(large), text(small)),
            Reduce::SumPieces { len, pieces } => format!("{len} of {}", text_of(pieces)),
        }
    }
}

/// Parts of the longest sum.
pub(super) fn longest(pieces: &[Piece]) -> usize {
    pieces.iter().map(|p| p.terms).max().unwrap_or(1)
}

/// Pieces, for people: `25x1536+32768`.
pub(super) fn text_of(pieces: &[Piece]) -> String {
    let text = |p: &Piece| match p.terms {
        1 => p.len.to_string(),
        terms => format!("{terms}x{}", p.len),
    };
    pieces.iter().map(text).collect::<Vec<_>>().join("+")
}
