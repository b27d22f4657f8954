//! Kernels `conv_y` (conv2d) and `conv_x` (conv_transpose2d), each with its epilogue.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::launch::{BLOCK, Form, MAX_GROUPS, int};
use super::tiles::{MEMORY, TILES, Tile};
use super::{Entry, Family, Launch, Products, Shader, Uniforms, entry, read, write};
use crate::geometry::Geometry;

/// A convolution and what becomes of its sums. `pair` adds a second convolution of the same
/// geometry. If `half`, all but weights and bias is in half precision, which only some variants can
/// ([`Conv::halved`]). Bindings that a call doesn't use repeat the first two.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Conv {
    /// `y = epilogue(conv_y(x, w) [+ conv_y(x2, w2)])`.
    ConvY { geometry: Geometry, pair: bool, epilogue: Epilogue, slices: usize, half: bool },
    /// `x = epilogue(conv_x(y, w) [+ conv_x(y2, w2)])`.
    ConvX { geometry: Geometry, pair: bool, epilogue: Epilogue, slices: usize, half: bool },
}

/// What a convolution does to a sum before it is stored, in this order: `+ bias[c]`, then one
/// [`Activation`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Epilogue {
    /// Add `bias[c]`.
    pub bias: bool,
    /// What comes last.
    pub activation: Activation,
}

/// The last part of an [`Epilogue`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(v, 0)`.
    Relu,
    /// `1 / (1 + exp(-v))`.
    Sigmoid,
    /// `gate > 0 ? v : 0` with `gate` shaped like the output: ReLU's derivative.
    Gate,
}

impl Epilogue {
    /// Bit flags for a shader: 1 bias, 2 ReLU, 4 sigmoid, 8 gate.
    fn flags(self) -> usize {
        let activation = match self.activation {
            Activation::None => 0,
            Activation::Relu => 2,
            Activation::Sigmoid => 4,
            Activation::Gate => 8,
        };
        self.bias as usize | activation
    }
}

pub(super) static SHADER: Shader = Shader {
    name: "conv",
    source: include_str!("../../shaders/conv.wgsl"),
    entries: &[
        entry(
            "conv_y",
            &[read("x"), read("w"), read("x2"), read("w2"), read("bias"), read("gate"), write("y")],
        ),
        entry(
            "conv_x",
            &[read("y"), read("w"), read("y2"), read("w2"), read("bias"), read("gate"), write("x")],
        ),
    ],
    constants: &[("BIAS", 1.0), ("RELU", 2.0), ("SIGMOID", 4.0), ("GATE", 8.0)],
    half: false,
};

pub(super) static DIRECT: Shader = Shader {
    name: "conv_direct",
    source: include_str!("../../shaders/conv_direct.wgsl"),
    entries: SHADER.entries,
    constants: SHADER.constants,
    half: false,
};

pub(super) static THIN: Shader = Shader {
    name: "conv_thin",
    source: include_str!("../../shaders/conv_thin.wgsl"),
    entries: SHADER.entries.split_at(1).1,
    constants: SHADER.constants,
    half: false,
};

pub(super) static IN_TILES: Shader = Shader {
    name: "conv_tiles",
    source: include_str!("../../shaders/conv_tiles.wgsl"),
    entries: SHADER.entries,
    constants: SHADER.constants,
    half: false,
};

pub(super) static HALF_DIRECT: Shader = Shader { name: "conv_direct_f16", half: true, ..DIRECT };

pub(super) static HALF_THIN: Shader = Shader { name: "conv_thin_f16", half: true, ..THIN };

pub(super) static HALF_IN_TILES: Shader = Shader { name: "conv_tiles_f16", half: true, ..IN_TILES };

/// One end of the taps, as both kernels see it: what is summed over, and what is computed.
struct Ends {
    inputs: usize,
    channels: usize,
    rows: usize,
    width: usize,
    /// Residue classes of the result's positions that meet different taps.
    classes: usize,
    /// Most taps of a position.
    taps: usize,
}

impl Conv {
    /// Sizes and epilogue.
    pub fn parts(&self) -> (&Geometry, Epilogue) {
        let (Conv::ConvY { geometry, epilogue, .. } | Conv::ConvX { geometry, epilogue, .. }) =
            self;
        (geometry, *epilogue)
    }

    /// Whether there is a second convolution, and into how many slices of its input channels the
    /// sum is cut: each is summed on its own, first the one convolution, then the other, and slices
    /// are added in order.
    pub fn sum(&self) -> (bool, usize) {
        let (Conv::ConvY { pair, slices, .. } | Conv::ConvX { pair, slices, .. }) = *self;
        (pair, slices)
    }

    /// The same in half precision, if images come in fours.
    pub fn halved(mut self) -> Option<Conv> {
        let (Conv::ConvY { half, .. } | Conv::ConvX { half, .. }) = &mut self;
        *half = true;
        self.direct().is_some().then_some(self)
    }

    fn half(&self) -> bool {
        let (Conv::ConvY { half, .. } | Conv::ConvX { half, .. }) = *self;
        half
    }

    fn ends(&self) -> Ends {
        match self {
            Conv::ConvY { geometry: g, .. } => Ends {
                inputs: g.cx,
                channels: g.cy,
                rows: g.hy,
                width: g.wy,
                classes: 1,
                taps: g.kh * g.kw,
            },
            Conv::ConvX { geometry: g, .. } => Ends {
                inputs: g.cy,
                channels: g.cx,
                rows: g.hx,
                width: g.wx,
                classes: g.stride,
                taps: g.kh.div_ceil(g.stride) * g.kw.div_ceil(g.stride),
            },
        }
    }

    /// The same with as many slices as its form wants.
    pub(crate) fn sliced(mut self, form: Form) -> Conv {
        let Ends { inputs, taps, .. } = self.ends();
        let (Conv::ConvY { pair, slices, .. } | Conv::ConvX { pair, slices, .. }) = &mut self;
        let terms = taps * inputs * (1 + *pair as usize);
        *slices = form.slices(terms.div_ceil(BLOCK), MAX_SLICES, inputs);
        self
    }
}

/// Most slices of a workgroup.
const MAX_SLICES: usize = 8;

impl Conv {
    /// The variant of a register tile, if the layer comes in whole blocks and fills it by half.
    fn in_tiles(&self, tile: &Tile) -> Option<Launch> {
        let ((g, epilogue), (pair, slices)) = (self.parts(), self.sum());
        let ends = self.ends();
        let inner = match self {
            Conv::ConvY { .. } => ends.inputs,
            Conv::ConvX { .. } => ends.channels,
        };
        let whole = g.n.is_multiple_of(4)
            && inner.is_multiple_of(4)
            && (ends.inputs / slices).is_multiple_of(tile.block as usize);
        let slices = int(slices);
        let quads = int(ends.width.div_ceil(ends.classes) * g.n / 4);
        let channels = int(ends.channels);
        let bytes = tile.bytes(slices);
        let fits = slices * tile.tm * tile.tn <= 256 && bytes <= MEMORY;
        (whole && fits && 2 * channels > tile.channels()).then(|| {
            let mut constants = tile.constants(slices);
            constants.push(("pair", pair.into()));
            constants.push(("epilogue", int(epilogue.flags())));
            Launch {
                variant: tile.name,
                shader: Some(if self.half() { &HALF_IN_TILES } else { &IN_TILES }),
                fours: &[0, 1, 2, 3, 5, 6],
                tile: [tile.channels(), tile.columns(), tile.block].map(|v| v as usize),
                constants,
                workgroup_size: [tile.tn, tile.tm, slices],
                workgroup_bytes: bytes,
                grid: [
                    int(ends.classes) * quads.div_ceil(tile.quads * tile.tn),
                    int(ends.rows) * channels.div_ceil(tile.channels()),
                ],
            }
        })
    }

    /// The variant for at most four channels of a result that is twice as large as its source: a
    /// thread has a block of 2 x 2 positions.
    fn thin(&self) -> Option<Launch> {
        let Conv::ConvX { geometry: g, pair, epilogue, slices, .. } = self else { return None };
        let blocks = int(g.hx.div_ceil(2) * g.wx.div_ceil(2) * g.n / 4);
        let (lanes, groups) = (64, blocks.div_ceil(64));
        let fits = g.stride == 2
            && g.cx <= 4
            && g.n.is_multiple_of(4)
            && (g.cy / slices).is_multiple_of(4)
            && groups <= MAX_GROUPS;
        fits.then(|| Launch {
            variant: super::THIN,
            shader: Some(if self.half() { &HALF_THIN } else { &THIN }),
            fours: &[0, 1, 2, 3, 5, 6],
            tile: [g.cx, g.n, 4],
            constants: vec![
                ("channels", int(g.cx)),
                ("lanes", lanes),
                ("slices", int(*slices)),
                ("pair", (*pair).into()),
                ("epilogue", int(epilogue.flags())),
            ],
            workgroup_size: [lanes, 1, 1],
            workgroup_bytes: 0,
            grid: [groups, 1],
        })
    }

    /// The variant without workgroup memory.
    fn direct(&self) -> Option<Launch> {
        let (pair, slices) = self.sum();
        let (ends, n) = (self.ends(), self.parts().0.n);
        let rows = [16, 8, 4, 3, 2, 1].into_iter().find(|r| ends.channels.is_multiple_of(*r))?;
        let lanes = int((n / 4).next_power_of_two().clamp(8, 64));
        let grid = [int(ends.rows * ends.width), int(ends.channels / rows)];
        let fits = n.is_multiple_of(4) && grid[0] <= MAX_GROUPS;
        fits.then(|| Launch {
            variant: super::DIRECT,
            shader: Some(if self.half() { &HALF_DIRECT } else { &DIRECT }),
            fours: &[0, 2, 5, 6],
            tile: [rows, n, 1],
            constants: vec![
                ("rows", int(rows)),
                ("lanes", lanes),
                ("slices", int(slices)),
                ("pair", pair.into()),
                ("epilogue", int(self.parts().1.flags())),
            ],
            workgroup_size: [lanes, 1, 1],
            workgroup_bytes: 0,
            grid,
        })
    }
}

impl Family for Conv {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Conv::ConvY { .. } => &SHADER.entries[0],
            Conv::ConvX { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        let (geometry, _) = self.parts();
        Uniforms::new().geometry(geometry)
    }

    fn launch(&self) -> Launch {
        if self.half() {
            return self.direct().expect("made by `halved`");
        }
        let (pair, slices) = self.sum();
        let (ends, g) = (self.ends(), self.parts().0);
        let mut launch = tiles(&ends, g.n, slices);
        // Variants and no uniform words: nothing is left to decide in the shader. (A branch on a
        // word also has Mesa's lavapipe prepare the shader anew for every dispatch.)
        launch.constants.push(("pair", pair.into()));
        launch.constants.push(("epilogue", int(self.parts().1.flags())));
        launch
    }

    fn variants(&self) -> Vec<Launch> {
        let others = TILES.iter().filter_map(|tile| self.in_tiles(tile));
        let last = if self.half() { None } else { self.direct() };
        [self.launch()].into_iter().chain(others).chain(self.thin()).chain(last).collect()
    }

    fn is_half(&self, i: usize) -> bool {
        self.half() && [0, 2, 5, 6].contains(&i)
    }

    fn flops(&self) -> u64 {
        let (g, epilogue) = self.parts();
        let out = match self {
            Conv::ConvY { .. } => g.y_len(),
            Conv::ConvX { .. } => g.x_len(),
        };
        2 * g.macs() * (1 + self.sum().0 as u64) + out as u64 * epilogue.bias as u64
    }

    fn products_of(&self, launch: &Launch) -> Option<Products> {
        let (g, (pair, slices)) = (self.parts().0, self.sum());
        let ends = self.ends();
        let [channels, tile, block] = launch.tile;
        // Taps along one axis that positions of a class meet together.
        let met = |class: usize, run: RangeInclusive<usize>, size: usize, kernel: usize| {
            let taps = run.flat_map(|q| match self {
                Conv::ConvY { .. } => g.taps_of_y(q, size, kernel).pairs(),
                Conv::ConvX { .. } => g.taps_of_x(q * ends.classes + class, size, kernel).pairs(),
            });
            taps.map(|(tap, _)| tap).collect::<BTreeSet<_>>().len()
        };
        let (high, wide) = match self {
            Conv::ConvY { .. } => (g.hx, g.wx),
            Conv::ConvX { .. } => (g.hy, g.wy),
        };
        let across = (0..ends.rows).map(|row| {
            let q = row / ends.classes;
            met(row % ends.classes, q..=q, high, g.kh)
        });
        let tiles = (0..ends.classes.min(ends.width)).flat_map(|class| {
            let columns = (ends.width - class).div_ceil(ends.classes) * g.n;
            (0..columns).step_by(tile).map(move |first| {
                let last = (first + tile).min(columns) - 1;
                (class, first / g.n..=last / g.n)
            })
        });
        let along: Vec<usize> = tiles.map(|(class, run)| met(class, run, wide, g.kw)).collect();
        let blocks = |a: usize, b: usize| (a * b * ends.inputs / slices).div_ceil(block);
        let blocks: usize =
            across.map(|a| along.iter().map(|&b| blocks(a, b)).sum::<usize>()).sum();
        let channels = ends.channels.div_ceil(channels) * channels;
        let terms = blocks * block * slices * (1 + pair as usize);
        let depth = ends.taps * ends.inputs / slices * (1 + pair as usize);
        Some(Products {
            useful: g.macs() * (1 + pair as u64),
            executed: (terms * channels * tile) as u64,
            chain: depth.div_ceil(BLOCK),
        })
    }

    fn details(&self) -> String {
        let ((geometry, epilogue), (pair, slices)) = (self.parts(), self.sum());
        let activation = match epilogue.activation {
            Activation::None => "",
            Activation::Relu => " relu",
            Activation::Sigmoid => " sigmoid",
            Activation::Gate => " gate",
        };
        let pair = if pair { " x2" } else { "" };
        let slices = if slices > 1 { format!(" slices {slices}") } else { String::new() };
        let bias = if epilogue.bias { " +bias" } else { "" };
        format!("{geometry}{pair}{slices}{bias}{activation}")
    }
}

/// Tiles of `tm` x `tn` threads with four channels x four columns each, or as many channels as
/// there are; a workgroup has one for each slice.
fn tiles(ends: &Ends, n: usize, slices: usize) -> Launch {
    let (channels, rows, classes) = (int(ends.channels), int(ends.rows), int(ends.classes));
    let columns = int(ends.width.div_ceil(ends.classes) * n);
    let per_thread = channels.min(4);
    let slices = int(slices);
    // Eight slices leave 32 threads for a tile.
    let threads = (256 / slices).min(64);
    let tm = channels.div_ceil(per_thread).next_power_of_two().min(threads / 8);
    // Thin tiles get long rows, so that a workgroup is never less than a few dozen threads; of more
    // than two positions, the edges would take the others' taps along.
    let tn = columns.div_ceil(4).next_power_of_two().min(threads / tm).min(32);
    let mut tn = tn.max(32 / (tm * slices).min(32));
    // Few terms are in half as large blocks: they would not fill one. 16 KiB of workgroup memory is
    // all that some devices have.
    let block = if tn > 16 || slices > 2 || ends.inputs < 4 { 8 } else { int(BLOCK) };
    let bytes = |tn: u32| 16 * slices * block * (tm + 1 + tn + 2);
    while bytes(tn) > 16384 {
        tn /= 2;
    }
    Launch {
        variant: super::REFERENCE,
        shader: None,
        fours: &[],
        tile: [per_thread * tm, 4 * tn, block].map(|v| v as usize),
        constants: vec![
            ("tm", tm),
            ("tn", tn),
            ("slices", slices),
            ("per_thread", per_thread),
            ("block_size", block),
        ],
        workgroup_size: [tn, tm, slices],
        workgroup_bytes: bytes(tn),
        grid: [classes * columns.div_ceil(4 * tn), rows * channels.div_ceil(per_thread * tm)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of everything up to large layers: within what WebGPU promises on any device, and every
    /// element has an owner.
    #[test]
    fn tiles_fit_any_device_and_cover_the_result() {
        for channels in [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 200] {
            for n in [1, 2, 5, 16, 63, 64, 65, 200] {
                for (size, slices) in [(1, 1), (3, 2), (8, 4), (15, 8), (28, 1)] {
                    for classes in [1, 2, 3] {
                        let (rows, width) = (size, size);
                        let ends = Ends { inputs: 64, channels, rows, width, classes, taps: 16 };
                        let l = tiles(&ends, n, slices);
                        let [tm, tn, per_thread] =
                            ["tm", "tn", "per_thread"].map(|name| l.constant(name));
                        let threads = (32..=256).contains(&(tm * tn * int(slices)));
                        assert!(threads && l.workgroup_bytes <= 16384, "{l:?}");
                        let columns = l.grid[0] / classes as u32 * 4 * tn;
                        assert!(columns >= int(size.div_ceil(classes) * n), "{l:?}");
                        let rows = l.grid[1] / size as u32 * per_thread * tm;
                        assert!(rows >= int(channels), "{l:?}");
                        // Slices are added up in the memory of the columns.
                        let block = l.constant("block_size");
                        assert!(slices == 1 || block >= tm, "{l:?}");
                    }
                }
            }
        }
    }
}
