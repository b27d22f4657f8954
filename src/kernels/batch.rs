//! Kernels `gather` (a batch out of the resident dataset) and `record` (what the host reads once an
//! epoch).

use super::adam::SCHEDULE;
use super::launch::{fold, int};
use super::{
    Entry, Family, Launch, Shader, Uniforms, bytes, indices, read, stepped, update, write,
};
use crate::layout::Piece;

/// What a step takes in and gives out. data, indices, schedule and log are shared by all replicas.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Batch {
    /// `indices[step, replica, n]` names images of `data [images, pixels]`; pixels = h*w*c.
    /// `x[pixel, n] = data / 255` and `weight[n] = schedule[step, replica, 0]`, both 0 for
    /// [`PADDING_IMAGE`]. If `half`, x is in half precision and n even.
    Gather { pixels: usize, n: usize, half: bool },
    /// `log[step, replica, offset + i]` is the i-th value of one of up to [`MAX_VALUES`] sources;
    /// a row of the log has `width`. Bindings without a source repeat the first.
    Record { values: Vec<Values>, width: usize },
}

/// What `record` takes of a source: `len` sums of `terms` (as a [`crate::layout::Piece`]'s), to
/// `offset` of the row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Values {
    pub len: usize,
    pub terms: usize,
    pub offset: usize,
}

/// Most sources of a `record`.
pub const MAX_VALUES: usize = 4;

/// Images that a batch can't fill are marked with this index: they are zero and weigh nothing.
pub const PADDING_IMAGE: u32 = u32::MAX;

pub(super) static SHADER: Shader = Shader {
    name: "batch",
    source: include_str!("../../shaders/batch.wgsl"),
    entries: &[
        stepped(
            "gather",
            &[bytes("data"), indices("indices"), read("schedule"), write("x"), write("weight")],
        ),
        stepped("record", &[read("a0"), read("a1"), read("a2"), read("a3"), update("log")]),
    ],
    constants: &[("PADDING_IMAGE", PADDING_IMAGE as f64), ("MAX_VALUES", MAX_VALUES as f64)],
    half: false,
};

impl Family for Batch {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Batch::Gather { .. } => &SHADER.entries[0],
            Batch::Record { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        match self {
            Batch::Gather { pixels, n, .. } => Uniforms::new().int("pixels", *pixels).int("n", *n),
            Batch::Record { values, width } => {
                let piece =
                    |v: &Values| Piece { first: v.offset, len: v.len, at: 0, terms: v.terms };
                let pieces: Vec<Piece> = values.iter().map(piece).collect();
                Uniforms::new()
                    .pieces(&pieces, MAX_VALUES)
                    .int("count", values.len())
                    .int("width", *width)
            }
        }
    }

    fn launch(&self) -> Launch {
        match self {
            Batch::Gather { pixels, n, half } => {
                let images = if *half { 2 } else { 1 };
                let mut launch = Launch::flat(pixels.div_ceil(4) * n / images, 64);
                launch.constants.push(("half", (*half).into()));
                launch
            }
            Batch::Record { values, .. } => {
                let longest = values.iter().map(|v| v.len).max().unwrap_or(0);
                let [x, rows] = fold(int(longest).div_ceil(64));
                Launch::fixed([64, 1, 1], [x, rows * int(values.len())])
            }
        }
    }

    fn is_half(&self, i: usize) -> bool {
        matches!(self, Batch::Gather { half: true, .. }) && i == 3
    }

    fn flops(&self) -> u64 {
        match self {
            Batch::Gather { pixels, n, .. } => (pixels * n) as u64,
            Batch::Record { values, .. } => {
                values.iter().map(|v| (v.len * (v.terms - 1)) as u64).sum()
            }
        }
    }

    fn serial(&self) -> usize {
        match self {
            Batch::Gather { .. } => 4,
            Batch::Record { values, .. } => values.iter().map(|v| v.terms).max().unwrap_or(1),
        }
    }

    fn moved(&self, i: usize) -> Option<usize> {
        match *self {
            Batch::Gather { pixels, n, .. } => Some([pixels * n, n, SCHEDULE, pixels * n, n][i]),
            Batch::Record { ref values, .. } => Some(match values.get(i) {
                Some(v) => v.len * v.terms,
                None if i == MAX_VALUES => values.iter().map(|v| v.len).sum(),
                None => 0,
            }),
        }
    }

    fn details(&self) -> String {
        match self {
            Batch::Gather { pixels, n, .. } => format!("pixels {pixels} n{n}"),
            Batch::Record { values, width } => {
                let text = |v: &Values| match v.terms {
                    1 => format!("{} at {}", v.len, v.offset),
                    terms => format!("{terms}x{} at {}", v.len, v.offset),
                };
                let values: Vec<String> = values.iter().map(text).collect();
                format!("{} of {width}", values.join(", "))
            }
        }
    }
}
