//! Kernels `image_grad` and `image_cos`: how each image's own weight gradient aligns with a
//! reference.

use super::launch::int;
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::geometry::Geometry;
use crate::layout::{Stat, Stats};
use crate::tape::ops::constraint::COSINE_EPS;

/// A part of an image's score.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Score {
    /// Per image: inner product of the image's own weight gradient with r, and its squared norm.
    /// The gradient `g[n] = sum over positions of x y` lives in registers only. Block
    /// b = tap * ceil(cy / TILE) + tile of cy: `partial[b, 0, n] = g[n].r` and
    /// `partial[b, 1, n] = g[n].g[n]` over the block's elements. r is like w. With `squares`, the
    /// first is the sum of `r g[n] g[n]`. If `half`, x and y are in half precision.
    ImageGrad { geometry: Geometry, squares: bool, half: bool },
    /// `out[n] = g.r / (max(|g|, eps) max(|r|, eps))` from the sums over blocks and r's squared
    /// norm in `segment` of `stats` ([`Stats`]).
    ImageCos { blocks: usize, n: usize, segment: usize },
}

/// Channels of y that one block of `image_grad` covers.
pub const TILE: usize = 4;

/// Blocks of `image_grad`: each adds to the sums of every image.
pub fn blocks(g: &Geometry) -> usize {
    g.kh * g.kw * g.cy.div_ceil(TILE)
}

pub(super) static SHADER: Shader = Shader {
    name: "score",
    source: include_str!("../../shaders/score.wgsl"),
    entries: &[
        entry("image_grad", &[read("x"), read("y"), read("r"), write("partial")]),
        entry("image_cos", &[read("partial"), read("stats"), write("out")]),
    ],
    constants: &[
        ("TILE", TILE as f64),
        ("EPS", COSINE_EPS),
        ("HEAD", Stats::HEAD as f64),
        ("ROW", Stats::ROW as f64),
        ("RR", Stat::RR as u32 as f64),
    ],
    half: false,
};

/// `lanes` images x `slices` tiles of channels: few images leave room for more slices.
fn lanes(g: &Geometry) -> Launch {
    let n = int(g.n);
    let tiles = int(g.cx.div_ceil(4));
    let mut lanes = n.next_power_of_two().min(32);
    let slices = tiles.next_power_of_two().min(256 / lanes);
    if slices == 1 && n > 32 {
        lanes = 64;
    }
    Launch {
        variant: super::REFERENCE,
        shader: None,
        fours: &[],
        tile: [1; 3],
        constants: vec![("lanes", lanes), ("slices", slices)],
        workgroup_size: [lanes, slices, 1],
        workgroup_bytes: 8 * lanes * slices,
        grid: [n.div_ceil(lanes), int(blocks(g))],
    }
}

impl Family for Score {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Score::ImageGrad { .. } => &SHADER.entries[0],
            Score::ImageCos { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        match *self {
            Score::ImageGrad { ref geometry, .. } => Uniforms::new().geometry(geometry),
            Score::ImageCos { blocks, n, segment } => {
                Uniforms::new().int("blocks", blocks).int("n", n).int("segment", segment)
            }
        }
    }

    fn launch(&self) -> Launch {
        match self {
            Score::ImageGrad { geometry, squares, half } => {
                let mut launch = lanes(geometry);
                launch.constants.push(("half", (*half).into()));
                if *squares {
                    launch.constants.push(("squares", 1));
                }
                launch
            }
            Score::ImageCos { n, .. } => {
                Launch::fixed([32, 8, 1], [int(*n).div_ceil(32), 1]).with_memory(8 * 256)
            }
        }
    }

    fn is_half(&self, i: usize) -> bool {
        matches!(self, Score::ImageGrad { half: true, .. }) && i < 2
    }

    fn flops(&self) -> u64 {
        match self {
            // Each image's gradient elements are multiplied with r and squared.
            Score::ImageGrad { geometry: g, squares, .. } => {
                2 * g.macs() + (4 + u64::from(*squares)) * (g.w_len() * g.n) as u64
            }
            Score::ImageCos { blocks, n, .. } => 2 * (blocks * n) as u64,
        }
    }

    fn details(&self) -> String {
        match self {
            Score::ImageGrad { geometry, squares: false, .. } => geometry.to_string(),
            Score::ImageGrad { geometry, .. } => format!("{geometry} squares"),
            Score::ImageCos { blocks, n, segment } => {
                format!("layer {segment} blocks {blocks} n{n}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_fit_any_device_and_cover_the_images() {
        for cx in [1, 3, 4, 5, 32, 64, 65, 200] {
            for n in [1, 2, 5, 16, 63, 64, 65, 200] {
                let l = lanes(&Geometry::conv2d(n, (cx, 9, 7), 7, (4, 3), 2, 1));
                let threads = l.workgroup_size.iter().product::<u32>();
                assert!(threads <= 256 && l.workgroup_bytes <= 16384, "{l:?}");
                assert!(l.grid[0] * l.workgroup_size[0] >= int(n), "{l:?}");
            }
        }
    }
}
