//! Kernels `constraint`, `constraint_sum` and `constraint_grad`: minus the mean cosine between the
//! gradients g of the constrained layers and their references r, and its derivative in g, for all
//! layers at once.

use super::launch::int;
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::layout::{Segment, Stat, Stats};
use crate::tape::ops::constraint::{COSINE_EPS, MAX_SEGMENTS};

/// A part of the constraint; g and r are flat, a segment of them is a layer.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Constraint {
    /// For every segment: `partial[segment, block] = (g.r, g.g, r.r)` over [`BLOCK`] elements.
    /// `partial` is `[segments, most blocks of a segment, 3]`, 0 beyond a segment's end.
    Constraint { segments: Vec<Segment> },
    /// [`Stats`] from the blocks' sums, with `cos = g.r / (max(|g|, eps) max(|r|, eps))` and minus
    /// the mean of cos as the constraint.
    ConstraintSum { segments: Vec<Segment> },
    /// `scale` times the constraint's derivative in g, in every segment:
    /// `out = -scale / segments * (r / (max(|g|, eps) max(|r|, eps)) - slope)`,
    /// where `slope = |g| > eps ? cos g / |g|^2 : 0`.
    ConstraintGrad { segments: Vec<Segment>, scale: f64 },
}

/// Elements of one segment that one workgroup of `constraint` reduces.
pub const BLOCK: usize = 1024;

pub(super) static SHADER: Shader = Shader {
    name: "constraint",
    source: include_str!("../../shaders/constraint.wgsl"),
    entries: &[
        entry("constraint", &[read("g"), read("r"), write("partial")]),
        entry("constraint_sum", &[read("partial"), write("stats")]),
        entry("constraint_grad", &[read("g"), read("r"), read("stats"), write("out")]),
    ],
    constants: &[
        ("BLOCK", BLOCK as f64),
        ("EPS", COSINE_EPS),
        ("HEAD", Stats::HEAD as f64),
        ("ROW", Stats::ROW as f64),
        ("GR", Stat::GR as u32 as f64),
        ("GG", Stat::GG as u32 as f64),
        ("RR", Stat::RR as u32 as f64),
        ("COS", Stat::Cos as u32 as f64),
    ],
};

/// Blocks of the longest segment: the middle size of `constraint`'s partial sums.
pub fn max_blocks(segments: &[Segment]) -> usize {
    segments.iter().map(|s| s.len.div_ceil(BLOCK)).max().unwrap_or(0)
}

impl Constraint {
    /// The layers.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Constraint::Constraint { segments }
            | Constraint::ConstraintSum { segments }
            | Constraint::ConstraintGrad { segments, .. } => segments,
        }
    }

    fn scale(&self) -> f64 {
        match self {
            Constraint::Constraint { .. } | Constraint::ConstraintSum { .. } => 1.0,
            Constraint::ConstraintGrad { scale, .. } => *scale,
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
        let words = Uniforms::new()
            .int("segments", segments.len())
            .float("scale", self.scale())
            .int("blocks", max_blocks(segments));
        (0..MAX_SEGMENTS).fold(words, |words, i| {
            let Segment { offset, len } =
                segments.get(i).copied().unwrap_or(Segment { offset: 0, len: 0 });
            words.int(format!("offset{i}"), offset).int(format!("len{i}"), len)
        })
    }

    fn launch(&self) -> Launch {
        let (segments, threads) = (int(self.segments().len()), [256, 1, 1]);
        match self {
            Constraint::Constraint { segments: s } => {
                Launch::fixed(threads, [int(max_blocks(s)), segments]).with_memory(16 * 256)
            }
            Constraint::ConstraintSum { .. } => {
                Launch::fixed(threads, [1, 1]).with_memory(16 * 256 + 32)
            }
            Constraint::ConstraintGrad { segments: s, .. } => {
                let longest = s.iter().map(|s| s.len).max().unwrap_or(0);
                Launch::fixed(threads, [int(longest).div_ceil(256), segments])
            }
        }
    }

    fn flops(&self) -> u64 {
        let elements = self.segments().iter().map(|s| s.len as u64).sum::<u64>();
        match self {
            Constraint::Constraint { .. } => 6 * elements,
            Constraint::ConstraintSum { segments } => {
                (segments.len() * (3 * max_blocks(segments) + 6)) as u64
            }
            Constraint::ConstraintGrad { .. } => 3 * elements,
        }
    }

    fn details(&self) -> String {
        let lens: Vec<String> = self.segments().iter().map(|s| s.len.to_string()).collect();
        let scale = match self.scale() {
            1.0 => String::new(),
            scale => format!(" * {scale}"),
        };
        format!("layers {}{scale}", lens.join("+"))
    }
}
