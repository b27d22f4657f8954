//! Kernels `gather` (a batch out of the resident dataset) and `record` (what the host reads once an
//! epoch).

use super::adam::SCHEDULE;
use super::{
    Entry, Family, Launch, Shader, Uniforms, bytes, indices, read, stepped, update, write,
};

/// What a step takes in and gives out. data, indices, schedule and log are shared by all replicas.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Batch {
    /// `indices[step, replica, n]` names images of `data [images, pixels]`; pixels = h*w*c.
    /// `x[pixel, n] = data / 255` and `weight[n] = schedule[step, replica, 0]`, both 0 for
    /// [`PADDING_IMAGE`].
    Gather { pixels: usize, n: usize },
    /// `log[step, replica, offset + i] = a[i]`, i < len; a row of the log has `width`.
    Record { len: usize, offset: usize, width: usize },
}

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
        stepped("record", &[read("a"), update("log")]),
    ],
    constants: &[("PADDING_IMAGE", PADDING_IMAGE as f64)],
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
        match *self {
            Batch::Gather { pixels, n } => Uniforms::new().int("pixels", pixels).int("n", n),
            Batch::Record { len, offset, width } => {
                Uniforms::new().int("len", len).int("offset", offset).int("width", width)
            }
        }
    }

    fn launch(&self) -> Launch {
        match *self {
            Batch::Gather { pixels, n } => Launch::flat(pixels.div_ceil(4) * n, 64),
            Batch::Record { len, .. } => Launch::flat(len, 64),
        }
    }

    fn flops(&self) -> u64 {
        match self {
            Batch::Gather { pixels, n } => (pixels * n) as u64,
            Batch::Record { .. } => 0,
        }
    }

    fn moved(&self, i: usize) -> Option<usize> {
        match *self {
            Batch::Gather { pixels, n } => Some([pixels * n, n, SCHEDULE, pixels * n, n][i]),
            Batch::Record { len, .. } => Some(len),
        }
    }

    fn details(&self) -> String {
        match self {
            Batch::Gather { pixels, n } => format!("pixels {pixels} n{n}"),
            Batch::Record { len, offset, width } => format!("{len} at {offset} of {width}"),
        }
    }
}
