//! Kernels `copy` and `fill`: memory as it is. `widen` and `narrow`: from half precision and to it.

use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};

/// Moves or sets the elements of a buffer.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Memory {
    /// `out [len] = a [len]`.
    Copy { len: usize },
    /// `out [len] = value`.
    Fill { len: usize, value: f64 },
    /// `out [len] = a [len]`, of which a is in half precision.
    Widen { len: usize },
    /// `out [len] = a [len]`, rounded to half precision; len is even.
    Narrow { len: usize },
}

pub(super) static SHADER: Shader = Shader {
    name: "memory",
    source: include_str!("../../shaders/memory.wgsl"),
    entries: &[
        entry("copy", &[read("a"), write("out")]),
        entry("fill", &[write("out")]),
        entry("widen", &[read("a"), write("out")]),
        entry("narrow", &[read("a"), write("out")]),
    ],
    constants: &[],
    half: false,
};

impl Family for Memory {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Memory::Copy { .. } => &SHADER.entries[0],
            Memory::Fill { .. } => &SHADER.entries[1],
            Memory::Widen { .. } => &SHADER.entries[2],
            Memory::Narrow { .. } => &SHADER.entries[3],
        }
    }

    fn uniforms(&self) -> Uniforms {
        match *self {
            Memory::Fill { len, value } => Uniforms::new().int("len", len).float("value", value),
            Memory::Copy { len } | Memory::Widen { len } | Memory::Narrow { len } => {
                Uniforms::new().int("len", len).float("value", 0.0)
            }
        }
    }

    fn launch(&self) -> Launch {
        match *self {
            Memory::Copy { len } | Memory::Fill { len, .. } | Memory::Widen { len } => {
                Launch::flat(len, 256)
            }
            Memory::Narrow { len } => Launch::flat(len / 2, 256),
        }
    }

    fn is_half(&self, i: usize) -> bool {
        match self {
            Memory::Copy { .. } | Memory::Fill { .. } => false,
            Memory::Widen { .. } => i == 0,
            Memory::Narrow { .. } => i == 1,
        }
    }

    fn flops(&self) -> u64 {
        0
    }

    fn details(&self) -> String {
        match self {
            Memory::Copy { len } | Memory::Widen { len } | Memory::Narrow { len } => {
                len.to_string()
            }
            Memory::Fill { len, value } => format!("{len} = {value}"),
        }
    }
}
