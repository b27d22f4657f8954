//! Kernels `copy` and `fill`: memory as it is.

use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};

/// Moves or sets the elements of a buffer.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub enum Memory {
    /// `out [len] = a [len]`.
    Copy { len: usize },
    /// `out [len] = value`.
    Fill { len: usize, value: f64 },
}

pub(super) static SHADER: Shader = Shader {
    name: "memory",
    source: include_str!("../../shaders/memory.wgsl"),
    entries: &[entry("copy", &[read("a"), write("out")]), entry("fill", &[write("out")])],
    constants: &[],
};

impl Family for Memory {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        match self {
            Memory::Copy { .. } => &SHADER.entries[0],
            Memory::Fill { .. } => &SHADER.entries[1],
        }
    }

    fn uniforms(&self) -> Uniforms {
        match *self {
            Memory::Copy { len } => Uniforms::new().int("len", len).float("value", 0.0),
            Memory::Fill { len, value } => Uniforms::new().int("len", len).float("value", value),
        }
    }

    fn launch(&self) -> Launch {
        let (Memory::Copy { len } | Memory::Fill { len, .. }) = *self;
        Launch::flat(len, 256)
    }

    fn flops(&self) -> u64 {
        0
    }

    fn details(&self) -> String {
        match self {
            Memory::Copy { len } => len.to_string(),
            Memory::Fill { len, value } => format!("{len} = {value}"),
        }
    }
}
