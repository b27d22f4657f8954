//! The kernels: what programs are made of and engines run.
//!
//! A family F is an enum in a file of its own: `kernels/F.rs` says of each member what it computes
//! (once, in words), its parameters, bindings, operations, and how a GPU runs it; `shaders/F.wgsl`
//! and `engine/cpu/F.rs` implement that text under the same names.
//!
//! Letters: R replicas, n images, h w height and width, c channels, T steps in an epoch.
//! Activations are `[h, w, c, n]`, weights `[kh, kw, cy, cx]` (see [`crate::geometry`]), each with
//! a leading R unless a buffer is shared. The replica comes from the dispatch's z. The step is the
//! only thing the host changes between runs of a program.

pub mod adam;
pub mod batch;
pub mod constraint;
pub mod conv;
pub mod conv_w;
mod fingerprint;
mod half;
mod launch;
pub mod loss;
pub mod map;
pub mod memory;
pub mod noise;
pub mod reduce;
pub mod score;
pub mod tiles;

use std::borrow::Cow;

pub use adam::Adam;
pub use batch::Batch;
pub use constraint::Constraint;
pub use conv::Conv;
pub use conv_w::ConvW;
pub use fingerprint::fingerprint;
pub use launch::{BLOCK, DIRECT, Form, Launch, REFERENCE, THIN, Uniforms, Word};
pub use loss::Loss;
pub use map::MapKernel;
pub use memory::Memory;
pub use noise::Noise;
pub use reduce::Reduce;
pub use score::Score;

/// Element type of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// The engine's float: f32 on a GPU, f32 or f64 on the CPU.
    Float,
    /// A float in half precision (f16), which kernels compute with as the engine's; on a GPU two to
    /// a word.
    Half,
    /// 32-bit index.
    U32,
    /// Byte; on a GPU four to a word, little-endian.
    U8,
}

impl Element {
    /// Bytes, where a float has `float`.
    pub fn bytes(self, float: usize) -> usize {
        match self {
            Element::Float => float,
            Element::Half => 2,
            Element::U32 => 4,
            Element::U8 => 1,
        }
    }
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Only read.
    Read,
    /// Every element that belongs to the result is overwritten; nothing is read.
    Write,
    /// Read and updated in place.
    Update,
}

/// One binding of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The name in the kernel's definition. Shaders use it too, except where one variable serves
    /// several kernels.
    pub name: &'static str,
    /// Read, written or updated.
    pub access: Access,
    /// Element type, unless a kernel has it in half precision ([`Kernel::element`]).
    pub element: Element,
}

/// What a kernel is called, and what it is bound to.
#[derive(Debug)]
pub struct Entry {
    /// Name of the kernel, its entry point in the shader and its CPU twin.
    pub name: &'static str,
    /// Bindings 0, 1, 2 ... of group 0, and the twin's arguments.
    pub bindings: &'static [Binding],
    /// Whether it reads the step's number (group 1).
    pub reads_step: bool,
}

/// A shader file: plain WGSL, one a family.
#[derive(Debug)]
pub struct Shader {
    /// The family's name; the file is `shaders/NAME.wgsl`, without `_f16`.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Its entry points.
    pub entries: &'static [Entry],
    /// Constants of the text that have to agree with the definition's.
    pub constants: &'static [(&'static str, f64)],
    /// Whether it is the file's form for half precision.
    pub half: bool,
}

impl Shader {
    /// The WGSL that a device gets.
    pub fn text(&self) -> Cow<'static, str> {
        if self.half { half::halved(self.source).into() } else { self.source.into() }
    }
}

/// What the program and the engines ask a kernel, whatever its family.
pub trait Family {
    /// The shader file.
    fn shader(&self) -> &'static Shader;

    /// The entry point and its bindings.
    fn entry(&self) -> &'static Entry;

    /// Parameters as a shader reads them.
    fn uniforms(&self) -> Uniforms;

    /// How a GPU runs it, for one replica: the reference variant.
    fn launch(&self) -> Launch;

    /// All ways to run it, the reference first. They give the same bits: the order of a sum is a
    /// matter of sizes and of the form, never of the variant.
    fn variants(&self) -> Vec<Launch> {
        vec![self.launch()]
    }

    /// Whether binding `i` is in half precision: [`Element::Half`] instead of a float.
    fn is_half(&self, _i: usize) -> bool {
        false
    }

    /// Floating-point operations, for one replica: a multiply-add counts two, taps in the padding
    /// aren't counted.
    fn flops(&self) -> u64;

    /// The multiply-adds of a convolution, in the reference variant; `None` for other kernels.
    fn products(&self) -> Option<Products> {
        self.products_of(&self.launch())
    }

    /// The same in one of its variants.
    fn products_of(&self, _launch: &Launch) -> Option<Products> {
        None
    }

    /// Most times that a thread of the GPU goes round a loop, one after the other.
    fn serial(&self) -> usize {
        self.products().map_or(1, |products| products.chain)
    }

    /// Elements of binding `i` that move in one step, if not the whole view: of a log, an index
    /// list or a dataset.
    fn moved(&self, _i: usize) -> Option<usize> {
        None
    }

    /// Whether it must follow everything else of a step, because it changes what others read.
    fn is_last(&self) -> bool {
        false
    }

    /// Sizes and fused parts, for people.
    fn details(&self) -> String;

    /// [`Family::details`], and the precision if it isn't f32.
    fn description(&self) -> String {
        let half = (0..self.entry().bindings.len()).any(|i| self.is_half(i));
        format!("{}{}", self.details(), if half { " f16" } else { "" })
    }
}

/// Multiply-adds of a convolution, for one replica, as a GPU runs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Products {
    /// That the result needs.
    pub useful: u64,
    /// That are run: tiles reach beyond the result, and positions of a tile share taps.
    pub executed: u64,
    /// Most blocks of [`BLOCK`] terms that a thread takes one after the other.
    pub chain: usize,
}

/// One kernel with its parameters. Floats are f64 so that the f64 engine is exact.
#[derive(Clone, PartialEq, Debug, strum::EnumCount)]
#[allow(missing_docs)] // said in the families
pub enum Kernel {
    Memory(Memory),
    Conv(Conv),
    ConvW(ConvW),
    Map(MapKernel),
    Reduce(Reduce),
    Loss(Loss),
    Constraint(Constraint),
    Score(Score),
    Adam(Adam),
    Batch(Batch),
    Noise(Noise),
}

/// Every family's shader.
pub static SHADERS: [&Shader; <Kernel as strum::EnumCount>::COUNT] = [
    &memory::SHADER,
    &conv::SHADER,
    &conv_w::SHADER,
    &map::SHADER,
    &reduce::SHADER,
    &loss::SHADER,
    &constraint::SHADER,
    &score::SHADER,
    &adam::SHADER,
    &batch::SHADER,
    &noise::SHADER,
];

/// The shaders of variants that have a file of their own; their entry points are those of the
/// family.
pub static VARIANTS: [&Shader; 10] = [
    &conv::DIRECT,
    &conv::THIN,
    &conv::IN_TILES,
    &conv::HALF_DIRECT,
    &conv::HALF_THIN,
    &conv::HALF_IN_TILES,
    &conv_w::DIRECT,
    &conv_w::IN_TILES,
    &conv_w::HALF_DIRECT,
    &conv_w::HALF_IN_TILES,
];

/// Every kernel's entry point.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    SHADERS.iter().flat_map(|shader| shader.entries)
}

impl Kernel {
    /// The door to what the families say of their members.
    pub fn family(&self) -> &dyn Family {
        match self {
            Kernel::Memory(kernel) => kernel,
            Kernel::Conv(kernel) => kernel,
            Kernel::ConvW(kernel) => kernel,
            Kernel::Map(kernel) => kernel,
            Kernel::Reduce(kernel) => kernel,
            Kernel::Loss(kernel) => kernel,
            Kernel::Constraint(kernel) => kernel,
            Kernel::Score(kernel) => kernel,
            Kernel::Adam(kernel) => kernel,
            Kernel::Batch(kernel) => kernel,
            Kernel::Noise(kernel) => kernel,
        }
    }

    /// Name of the kernel.
    pub fn name(&self) -> &'static str {
        self.family().entry().name
    }

    /// Its bindings, in order.
    pub fn bindings(&self) -> &'static [Binding] {
        self.family().entry().bindings
    }

    /// Element type of binding `i`.
    pub fn element(&self, i: usize) -> Element {
        if self.family().is_half(i) { Element::Half } else { self.bindings()[i].element }
    }
}

const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read, element: Element::Float }
}

const fn indices(name: &'static str) -> Binding {
    Binding { name, access: Access::Read, element: Element::U32 }
}

const fn bytes(name: &'static str) -> Binding {
    Binding { name, access: Access::Read, element: Element::U8 }
}

const fn write(name: &'static str) -> Binding {
    Binding { name, access: Access::Write, element: Element::Float }
}

const fn update(name: &'static str) -> Binding {
    Binding { name, access: Access::Update, element: Element::Float }
}

/// A kernel that runs the same in every step.
const fn entry(name: &'static str, bindings: &'static [Binding]) -> Entry {
    Entry { name, bindings, reads_step: false }
}

/// A kernel that needs to know the step.
const fn stepped(name: &'static str, bindings: &'static [Binding]) -> Entry {
    Entry { name, bindings, reads_step: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_a_result_and_fits_the_limits() {
        for entry in entries() {
            let results = entry.bindings.iter().filter(|b| b.access != Access::Read).count();
            assert!(results > 0, "{} has no result", entry.name);
            assert!(
                entry.bindings.len() <= 7,
                "{}: Metal may hide one of the eight storage bindings",
                entry.name
            );
        }
    }
}
