//! Kernel `map`: the elementwise family.

use super::{Entry, Family, Launch, Shader, Uniforms, entry, read, write};
use crate::tape::ops::Map;

/// `out[i] = map(a[i], b[i])`, all `[len]`; a map of one tensor has b repeat a.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct MapKernel {
    pub map: Map,
    pub len: usize,
}

pub(super) static SHADER: Shader = Shader {
    name: "map",
    source: include_str!("../../shaders/map.wgsl"),
    entries: &[entry("map", &[read("a"), read("b"), write("out")])],
    constants: &[],
};

impl Family for MapKernel {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        &SHADER.entries[0]
    }

    fn uniforms(&self) -> Uniforms {
        let [c0, c1] = self.map.constants();
        Uniforms::new().int("len", self.len).float("c0", c0).float("c1", c1)
    }

    fn launch(&self) -> Launch {
        Launch { constants: vec![("op", self.map.number())], ..Launch::flat(self.len, 256) }
    }

    fn flops(&self) -> u64 {
        self.len as u64 * self.map.flops()
    }

    fn details(&self) -> String {
        let name = self.map.name();
        match self.map {
            Map::Affine { scale, shift } => format!("{name} {} * {scale} + {shift}", self.len),
            _ => format!("{name} {}", self.len),
        }
    }
}
