//! The kernel table: one static row a kernel, the contract between programs and engines.
//!
//! A row names the kernel, its shader file and entry point, and its bindings in order. The CPU twin
//! is the function of the same name in `engine/cpu` with the same argument order. What a kernel
//! computes is said here, once, in words; shader and twin both implement this text.
//!
//! Letters: R replicas, n images, h w height and width, c channels, T steps in an epoch.
//! Activations are `[h, w, c, n]`, weights `[kh, kw, cy, cx]` (see [`crate::geometry`]), each with
//! a leading R unless a buffer is shared. The replica comes from the dispatch's z. `step` is the
//! only thing the host changes between runs of a program.

use crate::geometry::Geometry;

/// Images that a batch can't fill are marked with this index: they are zero and weigh nothing.
pub const PADDING_IMAGE: u32 = u32::MAX;

/// Rows (of n pixels each) that one thread of `mse` sums: fixed, so that the sum has the same shape
/// everywhere.
pub const MSE_ROWS: usize = 16;

/// Elements of one segment that one workgroup of `constraint` reduces.
pub const CONSTRAINT_BLOCK: usize = 1024;

/// Channels of y that one block of `image_grad` covers.
pub const IMAGE_GRAD_TILE: usize = 4;

/// Flat buffers hold their tensors at multiples of this many elements (256 bytes in f32: what a GPU
/// binding may start at).
pub const ALIGNMENT: usize = 64;

/// Most segments (decoder layers) of a gradient constraint.
pub const MAX_SEGMENTS: usize = 8;

/// cosine_similarity's epsilon (PyTorch's default).
pub const COSINE_EPS: f64 = 1e-8;

/// Element type of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// The engine's float: f32 on a GPU, f32 or f64 on the CPU.
    Float,
    /// 32-bit index.
    U32,
    /// Byte; on a GPU four to a word, little-endian.
    U8,
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
    /// Element type.
    pub element: Element,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Which kernel.
    pub kernel: Kernel,
    /// Name of the kernel, its entry point in the shader and its CPU twin.
    pub name: &'static str,
    /// Shader file in `shaders/`, without the ending.
    pub shader: &'static str,
    /// Bindings 0, 1, 2 ... of group 0.
    pub bindings: &'static [Binding],
}

const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read, element: Element::Float }
}

const fn index(name: &'static str) -> Binding {
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

macro_rules! kernels {
    ($($(#[$doc:meta])* $variant:ident $name:ident in $shader:ident ($($binding:expr),* $(,)?);)*) => {
        /// Every kernel. The documentation of a variant is the kernel's definition.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Kernel { $($(#[$doc])* $variant),* }

        /// The table, in the order of [`Kernel`].
        pub static KERNELS: &[Row] = &[$(Row {
            kernel: Kernel::$variant,
            name: stringify!($name),
            shader: stringify!($shader),
            bindings: &[$($binding),*],
        }),*];
    };
}

kernels! {
    /// `y = epilogue(conv_y(x, w))`. Params::Conv. Bindings the epilogue doesn't use repeat `w`.
    ConvY conv_y in conv (read("x"), read("w"), read("bias"), read("addend"), read("gate"), write("y"));
    /// `x = epilogue(conv_x(y, w))`. Params::Conv. Bindings the epilogue doesn't use repeat `w`.
    ConvX conv_x in conv (read("y"), read("w"), read("bias"), read("addend"), read("gate"), write("x"));
    /// `w[s] = conv_w(x, y)` over the s-th of `splits` equal runs of y's positions (ceil(hy*wy /
    /// splits) each, in order), plus `addend` (only with splits = 1). `w` is `[splits, kh, kw, cy,
    /// cx]`. Params::ConvW. Without `add`, `addend` repeats `x`.
    ConvW conv_w in conv_w (read("x"), read("y"), read("addend"), write("w"));
    /// `out[i] = sum over s, in order, of partial[s, i]`, plus `addend[i]`. Params::SplitSum.
    /// Without `add`, `addend` repeats `partial`.
    SplitSum split_sum in conv_w (read("partial"), read("addend"), write("out"));

    /// `out = a + b`. Params::Map.
    Add add in elementwise (read("a"), read("b"), write("out"));
    /// `out = a * b`. Params::Map.
    Mul mul in elementwise (read("a"), read("b"), write("out"));
    /// `out = scale * a + shift`. Params::Map.
    Affine affine in elementwise (read("a"), write("out"));
    /// `out = max(a, 0)`. Params::Map.
    Relu relu in elementwise (read("a"), write("out"));
    /// `out = gate > 0 ? a : 0`. Params::Map.
    ReluGrad relu_grad in elementwise (read("a"), read("gate"), write("out"));
    /// `out = 1 / (1 + exp(-a))`. Params::Map.
    Sigmoid sigmoid in elementwise (read("a"), write("out"));
    /// `out = a * s * (1 - s)`, the sigmoid's derivative from its value s. Params::Map.
    SigmoidGrad sigmoid_grad in elementwise (read("a"), read("s"), write("out"));
    /// `out = 1 / max(sqrt(a), scale)`: the inverse norm from the squared norm, with
    /// cosine_similarity's clamp. Params::Map.
    InvNorm inv_norm in elementwise (read("a"), write("out"));
    /// `out = a`. Params::Map.
    Copy copy in elementwise (read("a"), write("out"));
    /// `out = shift`, a constant. Params::Map.
    Fill fill in elementwise (write("out"));

    /// `out[i, j, k, l] = a[i or 0, ...]`: axes of `small` that are 1 are repeated to `large`.
    /// Params::Reshape.
    Broadcast broadcast in reduce (read("a"), write("out"));
    /// The adjoint: `out` (shape `small`) sums `a` (shape `large`) over the axes where `small` is
    /// 1. Params::Reshape.
    SumTo sum_to in reduce (read("a"), write("out"));

    /// Mean squared error and its gradient in one pass. x, target `[rows, n]`, weight `[n]`
    /// (1/batch for a mean, 0 for padding): `grad = 2 weight[n] / rows * (x - target)`,
    /// `partial[chunk, n] = sum of (x - target)^2` over the chunk's MSE_ROWS rows. Params::Mse.
    Mse mse in loss (read("x"), read("target"), read("weight"), write("grad"), write("partial"));
    /// `image[n] = sum over chunks of partial[chunk, n] / rows`, `loss[0] = sum over n of weight[n]
    /// * image[n]`. Params::Mse.
    MseSum mse_sum in loss (read("partial"), read("weight"), write("image"), write("loss"));

    /// For every segment (decoder layer): `partial[segment, block] = (g.r, g.g, r.r)` over
    /// CONSTRAINT_BLOCK elements. `partial` is `[segments, max blocks of a segment, 3]`, 0 beyond a
    /// segment's end. Params::Constraint.
    Constraint constraint in constraint (read("g"), read("r"), write("partial"));
    /// `stats = [con, 0, 0, 0, then per segment: g.r, g.g, r.r, cos]` with `cos = g.r / (max(|g|,
    /// eps) max(|r|, eps))` and `con = -mean of cos`. Params::Constraint.
    ConstraintSum constraint_sum in constraint (read("partial"), write("stats"));
    /// `scale * dcon/dg`, in every segment: `out = -scale / segments * (r / (max(|g|, eps) max(|r|,
    /// eps)) - (|g| > eps ? cos g / |g|^2 : 0))`. Params::Constraint.
    ConstraintGrad constraint_grad in constraint (read("g"), read("r"), read("stats"), write("out"));

    /// Per image: inner product of the image's own weight gradient with r, and its squared norm.
    /// The gradient `g[n] = sum over positions of x y` lives in registers only. Block b = tap *
    /// ceil(cy / IMAGE_GRAD_TILE) + tile of cy: `partial[b, 0, n] = g[n].r` and `partial[b, 1, n] =
    /// g[n].g[n]` over the block's elements. r is like w. Params::ImageGrad.
    ImageGrad image_grad in score (read("x"), read("y"), read("r"), write("partial"));
    /// `out[n] = g.r / (max(|g|, eps) max(|r|, eps))` from the sums over blocks and `stats[4 + 4 *
    /// segment + 2] = r.r`. Params::ImageCos.
    ImageCos image_cos in score (read("partial"), read("stats"), write("out"));

    /// Adam and the running-mean reference gradient, over all parameters at once. `schedule[step,
    /// replica]` = `(image weight, 1/(1 - beta1^t), 1/(1 - beta2^t), 1/t)`; an image weight of 0
    /// means that this replica has no batch in this step: nothing changes. `reference[i] +=
    /// (grad[i] - reference[i]) / t` for i < reference's length, then `m += (1 - beta1)(grad - m)`,
    /// `v += (1 - beta2)(grad^2 - v)`, `params -= lr c1 m / (sqrt(v c2) + eps)`. Params::Adam.
    Adam adam in adam (update("params"), update("m"), update("v"), update("reference"), read("grad"), read("schedule"));

    /// Batch from the resident dataset. `indices[step, replica, n]` names images of `data [images,
    /// pixels]`; pixels = h*w*c. `x[pixel, n] = data / 255` and `weight[n] = schedule[step,
    /// replica, 0]`, both 0 for PADDING_IMAGE. Params::Gather.
    Gather gather in batch (bytes("data"), index("indices"), read("schedule"), write("x"), write("weight"));
    /// `log[step, replica, offset + i] = a[i]`: what the host reads once an epoch. Params::Record.
    Record record in batch (read("a"), update("log"));
}

impl Kernel {
    /// This kernel's row.
    pub fn row(self) -> &'static Row {
        &KERNELS[self as usize]
    }
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
    pub fn flags(self) -> u32 {
        let activation = match self.activation {
            Activation::None => 0,
            Activation::Relu => 4,
            Activation::Sigmoid => 8,
            Activation::Gate => 16,
        };
        self.bias as u32 | (self.add as u32) << 1 | activation
    }
}

/// A run of a flat buffer: one decoder layer's weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Segment {
    /// First element.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// What a kernel needs to know besides its buffers. Floats are f64 so that the f64 engine is exact.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the kernels' definitions
pub enum Params {
    Conv { geometry: Geometry, epilogue: Epilogue },
    ConvW { geometry: Geometry, add: bool, splits: usize },
    SplitSum { len: usize, splits: usize, add: bool },
    Map { len: usize, scale: f64, shift: f64 },
    Reshape { small: [usize; 4], large: [usize; 4] },
    Mse { rows: usize, n: usize },
    Constraint { segments: Vec<Segment>, scale: f64 },
    ImageGrad { geometry: Geometry },
    ImageCos { blocks: usize, n: usize, segment: usize },
    Adam { len: usize, reference_len: usize, lr: f64, beta1: f64, beta2: f64, eps: f64 },
    Gather { pixels: usize, n: usize },
    Record { len: usize, offset: usize, width: usize },
}

impl Params {
    /// The words a shader reads after the eight that every kernel has (`engine/gpu`): sizes as u32,
    /// floats as f32 bits, in the order of the fields; a geometry is `n cx cy hx wx hy wy kh kw
    /// stride padding`. Adam's betas travel as 1 - beta: taking 0.999 from 1 in f32 loses five
    /// digits.
    pub fn words(&self) -> Vec<u32> {
        fn geometry(g: &Geometry) -> Vec<u32> {
            [g.n, g.cx, g.cy, g.hx, g.wx, g.hy, g.wy, g.kh, g.kw, g.stride, g.padding]
                .iter()
                .map(|&v| v as u32)
                .collect()
        }
        let int = |v: usize| v as u32;
        let float = |v: f64| (v as f32).to_bits();
        match self {
            Params::Conv { geometry: g, epilogue } => {
                [geometry(g), vec![epilogue.flags()]].concat()
            }
            Params::ConvW { geometry: g, add, splits } => {
                [geometry(g), vec![*add as u32, int(*splits)]].concat()
            }
            Params::SplitSum { len, splits, add } => vec![int(*len), int(*splits), *add as u32],
            Params::Map { len, scale, shift } => vec![int(*len), float(*scale), float(*shift)],
            Params::Reshape { small, large } => {
                small.iter().chain(large).map(|&v| v as u32).collect()
            }
            Params::Mse { rows, n } => vec![int(*rows), int(*n)],
            Params::Constraint { segments, scale } => {
                let mut words = vec![int(segments.len()), float(*scale), int(max_blocks(segments))];
                words.extend(segments.iter().flat_map(|s| [int(s.offset), int(s.len)]));
                words
            }
            Params::ImageGrad { geometry: g } => geometry(g),
            Params::ImageCos { blocks, n, segment } => vec![int(*blocks), int(*n), int(*segment)],
            Params::Adam { len, reference_len, lr, beta1, beta2, eps } => {
                vec![
                    int(*len),
                    int(*reference_len),
                    float(*lr),
                    float(1.0 - beta1),
                    float(1.0 - beta2),
                    float(*eps),
                ]
            }
            Params::Gather { pixels, n } => vec![int(*pixels), int(*n)],
            Params::Record { len, offset, width } => vec![int(*len), int(*offset), int(*width)],
        }
    }
}

/// Blocks of the longest segment: the middle size of `constraint`'s partial sums.
pub fn max_blocks(segments: &[Segment]) -> usize {
    segments.iter().map(|s| s.len.div_ceil(CONSTRAINT_BLOCK)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum_and_fits_the_limits() {
        for (i, row) in KERNELS.iter().enumerate() {
            assert_eq!(row.kernel as usize, i, "{}", row.name);
            assert!(
                row.bindings.len() <= 7,
                "{}: Metal may hide one of the eight storage bindings",
                row.name
            );
            let results = row.bindings.iter().filter(|b| b.access != Access::Read).count();
            assert!(results > 0, "{} has no result", row.name);
        }
    }
}
