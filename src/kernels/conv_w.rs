//! Kernel `conv_w`: the gradient of a convolution's weight, third of the convolution trio, and of
//! its bias.

use std::ops::RangeInclusive;

use super::launch::{BLOCK, Form, MAX_GROUPS, int};
use super::tiles::{MEMORY, TILES, Tile};
use super::{Entry, Family, Launch, Products, Shader, Uniforms, entry, read, write};
use crate::geometry::Geometry;

/// `w = conv_w(x, y) [+ conv_w(x2, y2)]`, in `splits` sums: the s-th, `[kh, kw, cy, cx]` at
/// `w[s * kh*kw*cy*cx]`, runs over the s-th of as many equal runs of y's positions
/// (ceil(hy*wy / splits) each, in order). Within a sum, images are cut into `slices`: each is
/// summed on its own, first the one pair, then the other, and slices are added in order.
///
/// Behind the weight's sums lie, if `bias` names an end, as many sums of x or y over its own runs
/// of positions and over images, `[splits, c]`: the gradient of the bias that was added there.
/// Bindings that a call doesn't use repeat `x`. If `half`, all but the result is in half precision,
/// which only some variants can ([`ConvW::halved`]).
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub struct ConvW {
    pub geometry: Geometry,
    pub pair: bool,
    pub bias: Option<End>,
    pub splits: usize,
    pub slices: usize,
    pub half: bool,
}

/// An end of a convolution's taps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// `[hx, wx, cx, n]`.
    X,
    /// `[hy, wy, cy, n]`.
    Y,
}

/// Most slices of a workgroup.
const MAX_SLICES: usize = 4;

/// Threads that add up one channel of a bias.
const LANES: u32 = 32;

pub(super) static SHADER: Shader = Shader {
    name: "conv_w",
    source: include_str!("../../shaders/conv_w.wgsl"),
    entries: &[entry("conv_w", &[read("x"), read("y"), read("x2"), read("y2"), write("w")])],
    constants: &[("LANES", LANES as f64)],
    half: false,
};

pub(super) static DIRECT: Shader = Shader {
    name: "conv_w_direct",
    source: include_str!("../../shaders/conv_w_direct.wgsl"),
    entries: SHADER.entries,
    constants: SHADER.constants,
    half: false,
};

pub(super) static IN_TILES: Shader = Shader {
    name: "conv_w_tiles",
    source: include_str!("../../shaders/conv_w_tiles.wgsl"),
    entries: SHADER.entries,
    constants: SHADER.constants,
    half: false,
};

pub(super) static HALF_DIRECT: Shader = Shader { name: "conv_w_direct_f16", half: true, ..DIRECT };

pub(super) static HALF_IN_TILES: Shader =
    Shader { name: "conv_w_tiles_f16", half: true, ..IN_TILES };

impl ConvW {
    /// The sums of this form: as many as it takes.
    pub(crate) fn new(geometry: Geometry, pair: bool, bias: Option<End>, form: Form) -> ConvW {
        let terms = geometry.hy * geometry.wy * geometry.n * (1 + pair as usize);
        let blocks = terms.div_ceil(BLOCK);
        let slices = form.slices(blocks, MAX_SLICES, geometry.n);
        let splits = form.parts(blocks.div_ceil(slices)).min(geometry.hy * geometry.wy);
        ConvW { geometry, pair, bias, splits, slices, half: false }
    }

    /// The same in half precision, if images come in fours.
    pub fn halved(self) -> Option<ConvW> {
        let kernel = ConvW { half: true, ..self };
        kernel.direct().is_some().then_some(kernel)
    }

    /// Elements of the weight's sums.
    pub fn weight_len(&self) -> usize {
        self.splits * self.geometry.w_len()
    }

    /// Elements of the result: the weight's sums, and the bias's.
    pub fn result_len(&self) -> usize {
        self.weight_len() + self.splits * self.bias.map_or(0, |end| self.channels(end))
    }

    fn channels(&self, end: End) -> usize {
        match end {
            End::X => self.geometry.cx,
            End::Y => self.geometry.cy,
        }
    }

    /// For a shader: 0 no bias, 1 of x, 2 of y.
    fn bias_flag(&self) -> u32 {
        self.bias.map_or(0, |end| 1 + end as u32)
    }

    /// The variant of a register tile, if images come in whole blocks and the layer fills it by
    /// half.
    fn in_tiles(&self, tile: &Tile) -> Option<Launch> {
        let g = &self.geometry;
        let images = g.n / self.slices;
        let (columns, channels) = (int(g.kh * g.kw * g.cx), int(g.cy));
        let (splits, slices) = (int(self.splits), int(self.slices));
        let threads = slices * tile.tm * tile.tn;
        let bytes = tile.bytes(slices) + 16 * threads;
        let filled = 2 * channels > tile.channels() && 2 * columns > tile.columns();
        let fits = images.is_multiple_of(tile.block as usize) && threads <= 256 && bytes <= MEMORY;
        (filled && fits).then(|| {
            let mut constants = tile.constants(slices);
            constants.push(("pair", self.pair.into()));
            constants.push(("bias", self.bias_flag()));
            let channel_tiles = channels.div_ceil(tile.channels());
            let of_bias = self
                .bias
                .map_or(0, |end| int(self.channels(end)).div_ceil(threads / LANES * channel_tiles));
            Launch {
                variant: tile.name,
                shader: Some(if self.half { &HALF_IN_TILES } else { &IN_TILES }),
                fours: &[0, 1, 2, 3],
                tile: [tile.channels(), tile.columns(), tile.block].map(|v| v as usize),
                constants,
                workgroup_size: [tile.tn, tile.tm, slices],
                workgroup_bytes: bytes,
                grid: [columns.div_ceil(tile.columns()) + of_bias, splits * channel_tiles],
            }
        })
    }

    /// The variant without tiles in workgroup memory.
    fn direct(&self) -> Option<Launch> {
        let g = &self.geometry;
        let (columns, splits) = (int(g.kh * g.kw * g.cx), int(self.splits));
        let rows = [16, 8, 4, 3, 2, 1].into_iter().find(|r| g.cy.is_multiple_of(*r))?;
        let channel_tiles = int(g.cy / rows);
        let of_bias = self.bias.map_or(0, |end| int(self.channels(end)).div_ceil(channel_tiles));
        let lanes = 8;
        let grid = [columns.div_ceil(4 * lanes) + of_bias, splits * channel_tiles];
        let fits = (g.n / self.slices).is_multiple_of(4) && grid.iter().all(|&v| v <= MAX_GROUPS);
        fits.then(|| Launch {
            variant: super::DIRECT,
            shader: Some(if self.half { &HALF_DIRECT } else { &DIRECT }),
            fours: &[0, 1, 2, 3],
            tile: [rows, 4 * lanes as usize, 4],
            constants: vec![
                ("rows", int(rows)),
                ("lanes", lanes),
                ("one_tap", g.cx.is_multiple_of(4 * lanes as usize).into()),
                ("slices", int(self.slices)),
                ("pair", self.pair.into()),
                ("bias", self.bias_flag()),
            ],
            workgroup_size: [lanes, 1, 1],
            workgroup_bytes: 4 * LANES,
            grid,
        })
    }

    /// Tiles of 32 channels x 32 columns, or two rows of taps where x has few channels: more would
    /// take along positions that only others of them meet.
    fn tiles(&self) -> Launch {
        let g = &self.geometry;
        let (columns, channels) = (int(g.kh * g.kw * g.cx), int(g.cy));
        let (splits, slices) = (int(self.splits), int(self.slices));
        let tm = channels.div_ceil(4).next_power_of_two().min(8);
        let two_rows = int(2 * g.kw * g.cx);
        let tn = if two_rows < 32 && two_rows.is_multiple_of(4) && g.kh > 2 {
            two_rows / 4
        } else {
            columns.div_ceil(4).next_power_of_two().min(8)
        };
        let tn = tn.max(LANES.div_ceil(tm * slices));
        // 16 KiB of workgroup memory is all that some devices have.
        let block = if slices > 2 { 8 } else { int(BLOCK) };
        let (tiles, channel_tiles) = (columns.div_ceil(4 * tn), channels.div_ceil(4 * tm));
        // Behind the tiles, workgroups for the bias, LANES threads a channel.
        let threads = tm * tn * slices;
        let of_bias = self
            .bias
            .map_or(0, |end| int(self.channels(end)).div_ceil(threads / LANES * channel_tiles));
        let memory = slices * block * (tm + 1 + tn + 1 + 2) + 4 * tn + threads;
        Launch {
            variant: super::REFERENCE,
            shader: None,
            fours: &[],
            tile: [4 * tm, 4 * tn, block].map(|v| v as usize),
            constants: vec![
                ("tm", tm),
                ("tn", tn),
                ("slices", slices),
                ("block_size", block),
                ("pair", self.pair.into()),
                ("bias", self.bias_flag()),
            ],
            workgroup_size: [tn, tm, slices],
            workgroup_bytes: 16 * memory,
            grid: [tiles + of_bias, splits * channel_tiles],
        }
    }
}

impl Family for ConvW {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        &SHADER.entries[0]
    }

    fn uniforms(&self) -> Uniforms {
        Uniforms::new().geometry(&self.geometry).int("splits", self.splits)
    }

    fn launch(&self) -> Launch {
        if self.half { self.direct().expect("made by `halved`") } else { self.tiles() }
    }

    fn variants(&self) -> Vec<Launch> {
        let others = TILES.iter().filter_map(|tile| self.in_tiles(tile));
        let last = if self.half { None } else { self.direct() };
        [self.launch()].into_iter().chain(others).chain(last).collect()
    }

    fn is_half(&self, i: usize) -> bool {
        self.half && i < 4
    }

    fn flops(&self) -> u64 {
        let bias = match self.bias {
            Some(End::X) => self.geometry.x_len(),
            Some(End::Y) => self.geometry.y_len(),
            None => 0,
        };
        2 * self.geometry.macs() * (1 + self.pair as u64) + bias as u64
    }

    fn products_of(&self, launch: &Launch) -> Option<Products> {
        let g = &self.geometry;
        let [channels, tile, block] = launch.tile;
        let columns = g.kh * g.kw * g.cx;
        let run = (g.hy * g.wy).div_ceil(self.splits);
        let terms = |first: usize| {
            let last = (first + tile).min(columns) - 1;
            let (low, high) = (first / g.cx, last / g.cx);
            let taps_h = low / g.kw..=high / g.kw;
            let whole = taps_h.start() != taps_h.end();
            let taps_w = if whole { 0..=g.kw - 1 } else { low % g.kw..=high % g.kw };
            let meets = |taps: &RangeInclusive<usize>, o: usize, x: usize, y: usize| {
                let start = g.outputs_of_tap(*taps.end(), x, y).start;
                (start..g.outputs_of_tap(*taps.start(), x, y).end).contains(&o)
            };
            let positions = (0..g.hy * g.wy).filter(|&p| {
                meets(&taps_h, p / g.wy, g.hx, g.hy) && meets(&taps_w, p % g.wy, g.wx, g.wy)
            });
            let mut runs = vec![0; self.splits];
            positions.for_each(|p| runs[p / run] += 1);
            let blocks = |r: &usize| (r * g.n / self.slices).div_ceil(block) * block * self.slices;
            runs.iter().map(blocks).sum::<usize>()
        };
        let terms: usize = (0..columns).step_by(tile).map(terms).sum();
        let channels = g.cy.div_ceil(channels) * channels;
        let times = 1 + self.pair as usize;
        Some(Products {
            useful: g.macs() * times as u64,
            executed: (terms * tile * channels * times) as u64,
            chain: (run * g.n / self.slices * times).div_ceil(BLOCK),
        })
    }

    fn serial(&self) -> usize {
        let g = &self.geometry;
        let positions = match self.bias {
            Some(End::X) => g.hx * g.wx,
            Some(End::Y) => g.hy * g.wy,
            None => 0,
        };
        let of_bias = positions.div_ceil(self.splits) * g.n.div_ceil(LANES as usize);
        self.products().map_or(1, |products| products.chain).max(of_bias)
    }

    fn details(&self) -> String {
        let times = |name: &str, times: usize| match times {
            1 => String::new(),
            times => format!(" {name} {times}"),
        };
        let pair = if self.pair { " x2" } else { "" };
        let bias = if self.bias.is_some() { " +bias" } else { "" };
        let (splits, slices) = (times("splits", self.splits), times("slices", self.slices));
        format!("{}{pair}{bias}{splits}{slices}", self.geometry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_any_device_and_cover_the_result() {
        for cy in [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 200] {
            for cx in [1, 3, 4, 5, 32, 64, 65] {
                for (slices, bias) in [(1, None), (2, Some(End::X)), (4, Some(End::Y))] {
                    let geometry = Geometry::conv2d(8, (cx, 9, 7), cy, (4, 3), 2, 1);
                    let kernel =
                        ConvW { geometry, pair: true, bias, splits: 3, slices, half: false };
                    let l = kernel.launch();
                    let [tn, tm, _] = l.workgroup_size;
                    let threads = (LANES..=256).contains(&(tn * tm * int(slices)));
                    assert!(threads && l.workgroup_bytes <= 16384, "{l:?}");
                    assert!(l.grid[0] * 4 * tn >= int(12 * cx), "{l:?}");
                    assert!(l.grid[1] / 3 * 4 * tm >= int(cy), "{l:?}");
                }
            }
        }
    }

    #[test]
    fn long_sums_are_split_and_short_ones_are_not() {
        let new = |n: usize, pair: bool, form: Form| {
            let geometry = Geometry::conv2d(n, (32, 15, 15), 32, (4, 4), 2, 2);
            let kernel = ConvW::new(geometry, pair, None, form);
            (kernel.splits, kernel.slices)
        };
        assert_eq!(new(64, false, Form::Serial), (1, 1));
        assert_eq!(new(1, false, Form::Parallel), (1, 1));
        assert_eq!(new(64, false, Form::Parallel), (4, 4));
        assert_eq!(new(64, true, Form::Parallel), (8, 4));
        assert_eq!(new(3, false, Form::Parallel), (1, 1), "three images are not cut");
    }
}
