//! Kernels `conv_y` (conv2d) and `conv_x` (conv_transpose2d), each with its epilogue.

use super::launch::int;
use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::geometry::Geometry;

/// A convolution and what becomes of its sums. Bindings that the epilogue doesn't use repeat `w`.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Conv {
    /// `y = epilogue(conv_y(x, w))`.
    ConvY { geometry: Geometry, epilogue: Epilogue },
    /// `x = epilogue(conv_x(y, w))`.
    ConvX { geometry: Geometry, epilogue: Epilogue },
}

/// What a convolution does to a sum before it is stored, in this order: `+ bias[c]`, `+ addend`,
/// then one [`Activation`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Epilogue {
    /// Add `bias[c]`.
    pub bias: bool,
    /// Add `addend`, shaped like the output.
    pub add: bool,
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
    /// Bit flags for a shader: 1 bias, 2 add, 4 ReLU, 8 sigmoid, 16 gate.
    fn flags(self) -> usize {
        let activation = match self.activation {
            Activation::None => 0,
            Activation::Relu => 4,
            Activation::Sigmoid => 8,
            Activation::Gate => 16,
        };
        self.bias as usize | (self.add as usize) << 1 | activation
    }
}

pub(super) static SHADER: Shader = Shader {
    name: "conv",
    source: include_str!("../../shaders/conv.wgsl"),
    entries: &[
        entry(
            "conv_y",
            &[read("x"), read("w"), read("bias"), read("addend"), read("gate"), write("y")],
        ),
        entry(
            "conv_x",
            &[read("y"), read("w"), read("bias"), read("addend"), read("gate"), write("x")],
        ),
    ],
    constants: &[("BIAS", 1.0), ("ADD", 2.0), ("RELU", 4.0), ("SIGMOID", 8.0), ("GATE", 16.0)],
};

/// Workgroups of one model below which a convolution takes smaller tiles: enough for a large GPU to
/// have something to choose from.
const ENOUGH_WORKGROUPS: u64 = 256;

impl Conv {
    /// Sizes and epilogue.
    pub fn parts(&self) -> (&Geometry, Epilogue) {
        let (Conv::ConvY { geometry, epilogue } | Conv::ConvX { geometry, epilogue }) = self;
        (geometry, *epilogue)
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
        let mut launch = match self {
            Conv::ConvY { geometry: g, .. } => tiles(g.cy, g.hy, g.wy, 1, g.n),
            Conv::ConvX { geometry: g, .. } => tiles(g.cx, g.hx, g.wx, g.stride, g.n),
        };
        // A variant and no uniform word: nothing is left to decide in the shader. (A branch on a
        // word also has Mesa's lavapipe prepare the shader anew for every dispatch.)
        launch.constants.push(("epilogue", int(self.parts().1.flags())));
        launch
    }

    fn flops(&self) -> u64 {
        let (g, epilogue) = self.parts();
        let out = match self {
            Conv::ConvY { .. } => g.y_len(),
            Conv::ConvX { .. } => g.x_len(),
        };
        2 * g.macs() + out as u64 * (epilogue.bias as u64 + epilogue.add as u64)
    }

    fn details(&self) -> String {
        let (geometry, epilogue) = self.parts();
        let activation = match epilogue.activation {
            Activation::None => "",
            Activation::Relu => " relu",
            Activation::Sigmoid => " sigmoid",
            Activation::Gate => " gate",
        };
        let bias = if epilogue.bias { " +bias" } else { "" };
        let add = if epilogue.add { " +add" } else { "" };
        format!("{geometry}{bias}{add}{activation}")
    }
}

/// Tiles of `tm` x `tn` threads with four channels x four columns each: the result has `channels`
/// and `rows` x `width` positions, its columns fall into `classes` that meet different taps.
fn tiles(channels: usize, rows: usize, width: usize, classes: usize, n: usize) -> Launch {
    let (channels, rows, classes) = (int(channels), int(rows), int(classes));
    let columns = int(width.div_ceil(classes as usize) * n);
    let per_thread = if channels == 1 { 1 } else { 4 };
    let needed_m = channels.div_ceil(per_thread).next_power_of_two();
    let needed_n = columns.div_ceil(4).next_power_of_two();
    let mut tm = needed_m.min(16);
    // Thin tiles get long rows instead, so that a workgroup is never less than a few dozen threads.
    let mut tn = needed_n.min(64 / tm.min(4));
    let grid = |tm: u32, tn: u32| {
        [classes * columns.div_ceil(4 * tn), rows * channels.div_ceil(per_thread * tm)]
    };
    while tm * tn > 64
        && grid(tm, tn).iter().map(|&v| v as u64).product::<u64>() < ENOUGH_WORKGROUPS
    {
        if tm >= tn { tm /= 2 } else { tn /= 2 }
    }
    tn = tn.max(32 / tm.min(32));
    // Long rows with half the k of others: 16 KiB of workgroup memory is all that some devices
    // have.
    let block = if tn > 16 { 8 } else { 16 };
    Launch {
        constants: vec![("tm", tm), ("tn", tn), ("per_thread", per_thread), ("block_size", block)],
        workgroup_size: [tn, tm, 1],
        workgroup_bytes: 16 * block * (tm + 1 + tn + 2),
        grid: grid(tm, tn),
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
                for size in [1, 3, 8, 15, 28] {
                    for classes in [1, 2, 3] {
                        let l = tiles(channels, size, size, classes, n);
                        let [tm, tn, per_thread] = [0, 1, 2].map(|i| l.constants[i].1);
                        let threads = (32..=256).contains(&(tm * tn));
                        assert!(threads && l.workgroup_bytes <= 16384, "{l:?}");
                        let columns = l.grid[0] / classes as u32 * 4 * tn;
                        assert!(columns >= int(size.div_ceil(classes) * n), "{l:?}");
                        let rows = l.grid[1] / size as u32 * per_thread * tm;
                        assert!(rows >= int(channels), "{l:?}");
                    }
                }
            }
        }
    }
}
