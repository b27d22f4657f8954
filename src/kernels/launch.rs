//! How a kernel becomes a dispatch: workgroups, grids and uniform words. Pure arithmetic.
//!
//! Nothing here depends on the number of replicas: a model's numbers don't change with its
//! neighbours.

use super::Shader;
use crate::geometry::Geometry;
use crate::layout::Piece;

/// Terms of a convolution's sum that a thread takes from workgroup memory at a time.
pub const BLOCK: usize = 16;

/// Most blocks in a row, as far as a sum can be split: a thread that is alone on its processor waits
/// for every one of them.
const CHAIN: usize = 16;

/// What kind of device a program is for: how much of it is to run at once. Numbers depend on it,
/// since a sum that is split is rounded elsewhere, but on nothing else of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Form {
    /// A few threads, one kernel after the other: sums stay whole, memory serves again at once.
    #[default]
    Serial,
    /// Thousands of threads, neighbouring kernels at once: long sums are split, and memory is only
    /// used again where a kernel waits anyway.
    Parallel,
}

impl Form {
    /// Into how many a sum of `blocks` should be split: 1, or enough for [`CHAIN`].
    pub(super) fn parts(self, blocks: usize) -> usize {
        match self {
            Form::Serial => 1,
            Form::Parallel => blocks.div_ceil(CHAIN).max(1),
        }
    }

    /// Slices that a workgroup adds up a sum of `blocks` in: a power of two, at most `most`, that
    /// divides `len`, which is what slices are cut from.
    pub(super) fn slices(self, blocks: usize, most: usize, len: usize) -> usize {
        let wanted = self.parts(blocks).next_power_of_two().min(most);
        let divides = |&s: &usize| s <= wanted && len.is_multiple_of(s);
        [8, 4, 2, 1].into_iter().find(divides).unwrap_or(1)
    }
}

/// Workgroups per dimension that every device allows.
pub(super) const MAX_GROUPS: u32 = 65535;

/// The variant that every kernel has and that runs whatever sizes there are.
pub const REFERENCE: &str = "reference";

/// The variant without tiles in workgroup memory, for devices whose workgroup memory is ordinary
/// memory.
pub const DIRECT: &str = "direct";

/// The variant of convolutions whose result has a few channels, more of it a thread.
pub const THIN: &str = "thin";

/// Values of a shader's `override` constants, by name.
pub type Constants = Vec<(&'static str, u32)>;

/// How a GPU runs a kernel for one replica: one of its variants, which all give the same bits.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Name of the variant.
    pub variant: &'static str,
    /// The shader file, if it is not the family's own.
    pub shader: Option<&'static Shader>,
    /// Bindings that are read four elements at a time: a replica's part has to begin at a multiple
    /// of four.
    pub fours: &'static [usize],
    /// Of a convolution, the channels and columns that a workgroup computes, and the terms that it
    /// takes at a time; 1 elsewhere.
    pub tile: [usize; 3],
    /// What specialises the shader.
    pub constants: Constants,
    /// Threads of a workgroup.
    pub workgroup_size: [u32; 3],
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Workgroups in x and y; z is the replica.
    pub grid: [u32; 2],
}

impl Launch {
    /// A grid of workgroups without constants and workgroup memory.
    pub(super) fn fixed(workgroup_size: [u32; 3], grid: [u32; 2]) -> Launch {
        Launch {
            variant: REFERENCE,
            shader: None,
            fours: &[],
            tile: [1; 3],
            constants: vec![],
            workgroup_size,
            workgroup_bytes: 0,
            grid,
        }
    }

    /// A thread for each of `len` elements; workgroups fill x, then y.
    pub(super) fn flat(len: usize, threads: u32) -> Launch {
        Launch::fixed([threads, 1, 1], fold(int(len).div_ceil(threads)))
    }

    /// A constant by its name; 0 if there is none.
    pub fn constant(&self, name: &str) -> u32 {
        self.constants.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// The same with workgroup memory.
    pub(super) fn with_memory(self, bytes: u32) -> Launch {
        Launch { workgroup_bytes: bytes, ..self }
    }
}

/// `count` workgroups that fill x, then y.
pub(super) fn fold(count: u32) -> [u32; 2] {
    let x = count.clamp(1, MAX_GROUPS);
    [x, count.div_ceil(x)]
}

/// A size as shaders count.
pub(super) fn int(v: usize) -> u32 {
    u32::try_from(v)
        .unwrap_or_else(|_| panic!("a size of {v} doesn't fit the 32 bits that shaders count with"))
}

/// A parameter as a shader reads it.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Word {
    U32(u32),
    F32(f32),
}

impl Word {
    /// Its bits.
    pub fn bits(self) -> u32 {
        match self {
            Word::U32(v) => v,
            Word::F32(v) => v.to_bits(),
        }
    }
}

/// The parameters of a kernel, in the order and by the names of its shader's uniform struct.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Uniforms(pub Vec<(String, Word)>);

impl Uniforms {
    pub(super) fn new() -> Uniforms {
        Uniforms::default()
    }

    pub(super) fn int(mut self, name: impl Into<String>, v: usize) -> Uniforms {
        self.0.push((name.into(), Word::U32(int(v))));
        self
    }

    pub(super) fn float(mut self, name: &str, v: f64) -> Uniforms {
        self.0.push((name.into(), Word::F32(v as f32)));
        self
    }

    /// A table whose rows have four words. A shader has it as the first member of its struct.
    pub(super) fn table(self, name: &str, words: &[u32]) -> Uniforms {
        words.iter().fold(self, |table, &word| table.int(name, word as usize))
    }

    /// A table of `most` rows, of which those behind the last piece are zeros. A shader has it as
    /// the first member of its struct, where an array is laid out the same in every language.
    pub(super) fn pieces(self, pieces: &[Piece], most: usize) -> Uniforms {
        assert!(pieces.len() <= most, "{} pieces, {most} are possible", pieces.len());
        (0..most).fold(self, |words, i| {
            let row = pieces.get(i).map_or([0; 4], |p| [p.first, p.len, p.at, p.terms]);
            row.into_iter().fold(words, |words, v| words.int("pieces", v))
        })
    }

    pub(super) fn geometry(self, g: &Geometry) -> Uniforms {
        let sizes = [
            ("n", g.n),
            ("cx", g.cx),
            ("cy", g.cy),
            ("hx", g.hx),
            ("wx", g.wx),
            ("hy", g.hy),
            ("wy", g.wy),
            ("kh", g.kh),
            ("kw", g.kw),
            ("stride", g.stride),
            ("padding", g.padding),
        ];
        sizes.into_iter().fold(self, |words, (name, v)| words.int(name, v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_buffers_fold_into_y() {
        assert_eq!(Launch::flat(1, 256).grid, [1, 1]);
        assert_eq!(Launch::flat(65535 * 256, 256).grid, [65535, 1]);
        assert_eq!(Launch::flat(65535 * 256 + 1, 256).grid, [65535, 2]);
    }
}
