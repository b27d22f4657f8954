//! Kernels `constraint`, `constraint_sum` and `constraint_grad`: minus the mean cosine between the
//! gradients g of the constrained layers and their references r, and its derivative in g, for all
//! layers at once.

use super::launch::int;
use super::reduce::{longest, text_of};
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::layout::{Piece, Segment, Stat, Stats};
use crate::tape::ops::constraint::{COSINE_EPS, MAX_SEGMENTS};

/// A part of the constraint; g and r are flat, a segment of them is a layer.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Constraint {
    /// Adds up g, which `parts` holds in a [`Piece`] for each segment, and for every segment
    /// `partial[segment, block] = (g.r, g.g, r.r)` over [`SPAN`] elements. `partial` is
    /// `[segments, most blocks of a segment, 3]`, 0 beyond a segment's end.
    Constraint { pieces: Vec<Piece> },
    /// [`Stats`] from the blocks' sums, with `cos = g.r / (max(|g|, eps) max(|r|, eps))` and minus
    /// the mean of cos as the constraint.
    ConstraintSum { segments: Vec<Segment> },
    /// `scale` times the constraint's derivative in g, in every segment, and times the sum of the
    /// `terms` numbers of `weight`, one set for each replica, if there are any (then at most
    /// [`MAX_TERMS`]; else `weight` is not looked at):
    /// `out = -scale / segments * (r / (max(|g|, eps) max(|r|, eps)) - slope)`,
    /// where `slope = |g| > eps ? cos g / |g|^2 : 0`.
    ConstraintGrad { segments: Vec<Segment>, scale: f64, terms: usize },
}

/// Elements of one segment that one workgroup of `constraint` reduces.
pub const SPAN: usize = 512;

/// Most numbers that a weight is the sum of.
pub const MAX_TERMS: usize = 4;

/// Threads of `constraint_sum` that add up one segment's blocks.
const SUMMERS: usize = 32;

pub(super) static SHADER: Shader = Shader {
    name: "constraint",
    source: include_str!("../../shaders/constraint.wgsl"),
    entries: &[
        entry("constraint", &[read("parts"), read("r"), write("g"), write("partial")]),
        entry("constraint_sum", &[read("partial"), write("stats")]),
        entry(
            "constraint_grad",
            &[read("g"), read("r"), read("stats"), read("weight"), write("out")],
        ),
    ],
    constants: &[
        ("SPAN", SPAN as f64),
        ("MAX_SEGMENTS", MAX_SEGMENTS as f64),
        ("SUMMERS", SUMMERS as f64),
        ("EPS", COSINE_EPS),
        ("HEAD", Stats::HEAD as f64),
        ("ROW", Stats::ROW as f64),
        ("GR", Stat::GR as u32 as f64),
        ("GG", Stat::GG as u32 as f64),
        ("RR", Stat::RR as u32 as f64),
        ("COS", Stat::Cos as u32 as f64),
    ],
    half: false,
};

/// Blocks of the longest segment: the middle size of `constraint`'s partial sums.
pub fn max_blocks(segments: &[Segment]) -> usize {
    segments.iter().map(|s| s.len.div_ceil(SPAN)).max().unwrap_or(0)
}

impl Constraint {
    /// The layers.
    pub fn segments(&self) -> Vec<Segment> {
        match self {
            Constraint::Constraint { pieces } => pieces.iter().map(Piece::segment).collect(),
            Constraint::ConstraintSum { segments }
            | Constraint::ConstraintGrad { segments, .. } => segments.clone(),
        }
    }

    fn scale(&self) -> f64 {
        match self {
            Constraint::Constraint { .. } | Constraint::ConstraintSum { .. } => 1.0,
            Constraint::ConstraintGrad { scale, .. } => *scale,
        }
    }

    fn terms(&self) -> usize {
        match self {
            Constraint::ConstraintGrad { terms, .. } => *terms,
            _ => 0,
        }
    }
}

impl Family for Constraint {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Constraint::Constraint { .. } => &SHADER.entries[0],
            Constraint::ConstraintSum { .. } => &SHADER.entries[1],
            Constraint::ConstraintGrad { .. } => &SHADER.entries[2],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let segments = self.segments();
        let pieces = match self {
            Constraint::Constraint { pieces } => pieces.clone(),
            _ => segments.iter().map(|&s| Piece::whole(s.offset, s)).collect(),
        };
        Uniforms::new()
            .pieces(&pieces, MAX_SEGMENTS)
            .int("segments", segments.len())
            .float("scale", self.scale())
            .int("blocks", max_blocks(&segments))
            .int("terms", self.terms())
    }

    fn launch(&self) -> Launch {
        let segments = self.segments();
        let (count, threads) = (int(segments.len()), [256, 1, 1]);
        match self {
            Constraint::Constraint { .. } => {
                Launch::fixed(threads, [int(max_blocks(&segments)), count]).with_memory(16 * 256)
            }
            Constraint::ConstraintSum { .. } => {
                Launch::fixed(threads, [1, 1]).with_memory(16 * 256 + 32)
            }
            Constraint::ConstraintGrad { .. } => {
                let longest = segments.iter().map(|s| s.len).max().unwrap_or(0);
                Launch::fixed(threads, [int(longest).div_ceil(256), count])
            }
        }
    }

    fn flops(&self) -> u64 {
        let elements = self.segments().iter().map(|s| s.len as u64).sum::<u64>();
        match self {
            Constraint::Constraint { pieces } => {
                6 * elements + pieces.iter().map(|p| (p.held() - p.len) as u64).sum::<u64>()
            }
            Constraint::ConstraintSum { segments } => {
                (segments.len() * (3 * max_blocks(segments) + 6)) as u64
            }
            Constraint::ConstraintGrad { .. } => 3 * elements,
        }
    }

    fn serial(&self) -> usize {
        match self {
            Constraint::Constraint { pieces } => SPAN / 256 * longest(pieces),
            Constraint::ConstraintSum { segments } => max_blocks(segments).div_ceil(SUMMERS),
            Constraint::ConstraintGrad { terms, .. } => *terms.max(&1),
        }
    }

    fn details(&self) -> String {
        let lens = match self {
            Constraint::Constraint { pieces } => text_of(pieces),
            _ => self.segments().iter().map(|s| s.len.to_string()).collect::<Vec<_>>().join("+"),
        };
        let scale = match self.scale() {
            1.0 => String::new(),
            scale => format!(" * {scale}"),
        };
        let weight = match self.terms() {
            0 => String::new(),
            terms => format!(" * weight of {terms}"),
        };
        format!("layers {lens}{scale}{weight}")
    }
}
