//! Kernels `conv_w` (the weight's gradient, third of the convolution trio) and `split_sum`.

use super::launch::int;
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::geometry::Geometry;

/// The gradient of a convolution's weight, in one sum or in several. Without `add`, the binding
/// `addend` repeats another.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum ConvW {
    /// `w[s] = conv_w(x, y)` over the s-th of `splits` equal runs of y's positions
    /// (ceil(hy*wy / splits) each, in order), plus `addend` (only with splits = 1). `w` is
    /// `[splits, kh, kw, cy, cx]`.
    ConvW { geometry: Geometry, add: bool, splits: usize },
    /// `out[i] = sum over s, in order, of partial[s, i]`, plus `addend[i]`.
    SplitSum { len: usize, splits: usize, add: bool },
}

/// Values of k that conv_w keeps in workgroup memory.
const BLOCK: u32 = 16;

/// Least positions of y in a run: fewer are not worth a sum of their own.
const LEAST_RUN: usize = 4;

pub(super) static SHADER: Shader = Shader {
    name: "conv_w",
    source: include_str!("../../shaders/conv_w.wgsl"),
    entries: &[
        entry("conv_w", &[read("x"), read("y"), read("addend"), write("w")]),
        entry("split_sum", &[read("partial"), read("addend"), write("out")]),
    ],
    constants: &[("BLOCK", BLOCK as f64)],
};

/// Into how many sums a weight gradient is split so that one model has about `workgroups`.
pub fn splits(geometry: &Geometry, workgroups: usize) -> usize {
    let [columns, channels] = tiles(geometry, 1).grid;
    let most = (geometry.hy * geometry.wy).div_ceil(LEAST_RUN);
    workgroups.div_ceil(columns as usize * channels as usize).clamp(1, most)
}

/// Tiles of 32 channels x 32 columns, or longer rows where there are fewer channels.
fn tiles(g: &Geometry, splits: usize) -> Launch {
    let columns = int(g.kh * g.kw * g.cx);
    let channels = int(g.cy);
    let tm = channels.div_ceil(4).next_power_of_two().min(8);
    let tn = columns.div_ceil(4).next_power_of_two().min(64 / tm.max(2)).max(32 / tm);
    Launch {
        constants: vec![("tm", tm), ("tn", tn)],
        workgroup_size: [tn, tm, 1],
        workgroup_bytes: 16 * (BLOCK * (tm + 1 + tn + 1 + 2) + 4 * tn),
        grid: [columns.div_ceil(4 * tn), int(splits) * channels.div_ceil(4 * tm)],
    }
}

impl Family for ConvW {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            ConvW::ConvW { .. } => &SHADER.entries[0],
            ConvW::SplitSum { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        match *self {
            ConvW::ConvW { ref geometry, splits, .. } => {
                Uniforms::new().geometry(geometry).int("splits", splits)
            }
            ConvW::SplitSum { len, splits, .. } => {
                Uniforms::new().int("len", len).int("splits", splits)
            }
        }
    }

    fn launch(&self) -> Launch {
        let (mut launch, add) = match self {
            ConvW::ConvW { geometry, add, splits } => (tiles(geometry, *splits), *add),
            ConvW::SplitSum { len, add, .. } => (Launch::flat(*len, 256), *add),
        };
        launch.constants.push(("add", add.into()));
        launch
    }

    fn flops(&self) -> u64 {
        match self {
            ConvW::ConvW { geometry, .. } => 2 * geometry.macs(),
            ConvW::SplitSum { len, splits, add } => (len * (splits - 1 + *add as usize)) as u64,
        }
    }

    fn details(&self) -> String {
        let plus = |add: bool| if add { " +add" } else { "" };
        match *self {
            ConvW::ConvW { geometry, add, splits: 1 } => format!("{geometry}{}", plus(add)),
            ConvW::ConvW { geometry, add, splits } => {
                format!("{geometry}{} splits {splits}", plus(add))
            }
            ConvW::SplitSum { len, splits, add } => format!("{splits} x {len}{}", plus(add)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_any_device_and_cover_the_result() {
        for cy in [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 200] {
            for cx in [1, 3, 4, 5, 32, 64, 65] {
                let g = Geometry::conv2d(5, (cx, 9, 7), cy, (4, 3), 2, 1);
                let l = tiles(&g, 3);
                let [tn, tm, _] = l.workgroup_size;
                assert!(tn * tm <= 256 && l.workgroup_bytes <= 16384, "{l:?}");
                assert!(l.grid[0] * 4 * tn >= int(12 * cx), "{l:?}");
                assert!(l.grid[1] / 3 * 4 * tm >= int(cy), "{l:?}");
            }
        }
    }

    #[test]
    fn splits_reach_the_workgroups_as_far_as_positions_go() {
        let g = Geometry::conv2d(64, (32, 15, 15), 32, (4, 4), 2, 2);
        assert_eq!(tiles(&g, 1).grid, [16, 1]);
        assert_eq!([1, 16, 17, 100, 512].map(|w| splits(&g, w)), [1, 1, 2, 7, 16]);
    }
}
