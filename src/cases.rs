//! The case table: for every kernel, calls with awkward sizes. Twin tests, shader tests and
//! benchmarks read this one table.
//!
//! A [`Case`] is one kernel call with data for it. Sizes are pairwise different and no multiple of
//! a tile where that is possible, so that a swapped stride or a missing bound can't hide. Around
//! the data of every float buffer lie guards: NaN around what is read, [`SENTINEL`] around (and,
//! before the run, in) what is written.

use crate::engine::{Data, Engine};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::program::kernel::{
    ALIGNMENT, Access, Activation, CONSTRAINT_BLOCK, COSINE_EPS, Element, Epilogue,
    IMAGE_GRAD_TILE, KERNELS, Kernel, MSE_ROWS, PADDING_IMAGE, Params, Segment, max_blocks,
};
use crate::program::{Buffer, Call, Program, View};

/// What outputs hold before a run, and their guards after it.
pub const SENTINEL: f64 = -12345.0;

/// Elements of a guard.
pub const GUARD: usize = ALIGNMENT;

/// Steps of shared `[step, replica, ...]` buffers.
const STEPS: usize = 4;

/// Images of the resident dataset.
const IMAGES: usize = 9;

/// The model whose numbers are all NaN: what it does to itself must not reach its neighbours.
pub const BROKEN_MODEL: u32 = u32::MAX;

/// How numbers are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// With all the bits of an f32: every rounding shows.
    Rough,
    /// Multiples of 1/8: sums and products are exact in f32, so engines must agree to the last bit
    /// where [`Case::exact`] says so.
    Eighths,
}

/// Data that a case wrote or will write, over all replicas.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Values {
    Floats(Vec<f64>),
    Indices(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Values {
    /// For [`Engine::write`].
    pub fn data(&self) -> Data<'_> {
        match self {
            Values::Floats(v) => Data::F64(v),
            Values::Indices(v) => Data::U32(v),
            Values::Bytes(v) => Data::U8(v),
        }
    }
}

/// How large an argument is, in elements.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Of one replica.
    Replicated(usize),
    /// Of all replicas together.
    Shared(usize),
    /// `[STEPS, replicas, width]`, shared.
    Stepped(usize),
    /// The same view as another argument: a binding that the call doesn't use.
    Repeats(usize),
}

/// What an argument holds.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// -1 to 1.
    Signed,
    /// 0 to 1; every fifth is 0.
    Weight,
    /// 1e-4 to 1e-2.
    Small,
    /// 0 to 1.
    Positive,
    /// Runs of this length: one signed (inner products), then `squares` positive ones (squared
    /// norms), again and again.
    Sums { run: usize, squares: usize },
    /// `stats` of a constraint; the norm of every second segment's gradient is below cosine's
    /// epsilon.
    Stats,
    /// `(image weight, 1 to 10, 1 to 1000, 0 to 1)`; replica 1 has no batch if `idle`.
    Schedule { idle: bool },
    /// Images, and PADDING_IMAGE at the end of every row.
    Images,
    /// Bytes.
    Pixels,
    /// What the kernel writes.
    Result,
}

#[derive(Clone, Copy, Debug)]
struct Arg {
    shape: Shape,
    content: Content,
}

/// How far two results may be apart: `absolute + relative * |want|`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerance {
    /// In the unit of the values.
    pub absolute: f64,
    /// Per unit of the wanted value.
    pub relative: f64,
}

impl Tolerance {
    /// Nothing may differ.
    pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };

    /// The same difference for all values.
    pub const fn absolute(absolute: f64) -> Self {
        Tolerance { absolute, relative: 0.0 }
    }

    /// A difference in proportion to each value.
    pub const fn relative(relative: f64) -> Self {
        Tolerance { absolute: 0.0, relative }
    }
}

/// One kernel call and its data.
#[derive(Clone, Debug)]
pub struct Case {
    /// Kernel and sizes; unique in the table.
    pub name: String,
    /// The kernel.
    pub kernel: Kernel,
    /// Its sizes.
    pub params: Params,
    /// The step to run.
    pub step: u32,
    args: Vec<Arg>,
    /// Terms of the longest sum.
    terms: usize,
}

/// The output of a counter-based generator (SplitMix64): 64 bits for a counter and a key.
fn bits(key: u64, counter: u64) -> u64 {
    let mut v = key
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

/// -1 to 1, exact in f32.
fn signed(bits: u64, style: Style) -> f64 {
    match style {
        Style::Rough => (bits >> 40) as f64 / (1 << 23) as f64 - 1.0,
        Style::Eighths => ((bits >> 40) % 17) as f64 / 8.0 - 1.0,
    }
}

impl Case {
    fn new(kernel: Kernel, params: Params, sizes: String, terms: usize, args: Vec<Arg>) -> Case {
        assert_eq!(args.len(), kernel.row().bindings.len(), "{}", kernel.row().name);
        Case {
            name: format!("{} {sizes}", kernel.row().name),
            kernel,
            params,
            step: 2,
            args,
            terms,
        }
    }

    /// Name of a binding's buffer in [`Case::program`].
    pub fn buffer_name(&self, binding: usize, replicas: usize) -> String {
        format!("{} x{replicas}: {}", self.name, self.kernel.row().bindings[binding].name)
    }

    /// Bindings that the kernel writes.
    pub fn outputs(&self) -> Vec<usize> {
        (0..self.args.len())
            .filter(|&i| self.kernel.row().bindings[i].access != Access::Read)
            .collect()
    }

    /// Elements of an argument's view.
    fn view_len(&self, binding: usize, replicas: usize) -> usize {
        match self.args[binding].shape {
            Shape::Replicated(len) | Shape::Shared(len) => len,
            Shape::Stepped(width) => STEPS * replicas * width,
            Shape::Repeats(other) => self.view_len(other, replicas),
        }
    }

    /// Elements before an argument's view. Bytes start at 0: a binding may start at 256 of them,
    /// not at 64.
    fn guard(&self, binding: usize) -> usize {
        if self.kernel.row().bindings[binding].element == Element::U8 { 0 } else { GUARD }
    }

    /// A program of this one call over persistent buffers.
    pub fn program(&self, replicas: usize) -> Program {
        let mut buffers = Vec::new();
        let mut args: Vec<View> = Vec::new();
        for (i, arg) in self.args.iter().enumerate() {
            if let Shape::Repeats(other) = arg.shape {
                args.push(args[other]);
                continue;
            }
            let (len, guard) = (self.view_len(i, replicas), self.guard(i));
            args.push(View { buffer: buffers.len(), offset: guard, len });
            buffers.push(Buffer {
                name: self.buffer_name(i, replicas),
                element: self.kernel.row().bindings[i].element,
                len: guard + len + guard,
                replicated: matches!(arg.shape, Shape::Replicated(_)),
                persistent: true,
            });
        }
        let call = Call {
            kernel: self.kernel,
            args,
            params: self.params.clone(),
            label: self.name.clone(),
        };
        Program { name: self.name.clone(), replicas, buffers, calls: vec![call] }
    }

    /// What a binding's buffer holds before a run, guards included; None if it repeats another.
    /// `ids` says which models the replicas are: a model has the same data wherever it runs.
    pub fn input(&self, binding: usize, ids: &[u32], style: Style) -> Option<Values> {
        let Arg { shape, content } = self.args[binding];
        let read_only = self.kernel.row().bindings[binding].access == Access::Read;
        let border = vec![if read_only { f64::NAN } else { SENTINEL }; self.guard(binding)];
        let key = |id: u32| {
            (self.terms as u64) << 32
                ^ (self.kernel as u64) << 16
                ^ (binding as u64) << 8
                ^ id as u64
        };
        let draw = |id: u32, i: usize| bits(key(id), i as u64);
        let float = |id: u32, i: usize, width: usize| -> f64 {
            let v = signed(draw(id, i), style);
            let unit = (v + 1.0) / 2.0;
            if id == BROKEN_MODEL && !matches!(content, Content::Result) {
                return f64::NAN;
            }
            match content {
                Content::Signed => v,
                Content::Positive => unit,
                Content::Weight => {
                    if i % 5 == 4 {
                        0.0
                    } else {
                        unit
                    }
                }
                Content::Small => (1e-4 + 1e-2 * unit) as f32 as f64,
                Content::Sums { run, squares } => {
                    if (i / run).is_multiple_of(squares + 1) {
                        v
                    } else {
                        unit
                    }
                }
                Content::Stats => match (i % 4, i / 4 % 2) {
                    (1, 0) if i > 4 => 1e-20f32 as f64,
                    (1 | 2, _) => unit + 0.125,
                    _ => v,
                },
                Content::Schedule { idle } => match i % width {
                    0 if idle && id == 1 => 0.0,
                    0 => unit + 0.125,
                    1 => (1.0 + 9.0 * unit) as f32 as f64,
                    2 => (1.0 + 999.0 * unit) as f32 as f64,
                    _ => unit,
                },
                Content::Result => SENTINEL,
                Content::Images | Content::Pixels => unreachable!("not a float"),
            }
        };
        Some(match shape {
            Shape::Repeats(_) => return None,
            Shape::Replicated(len) => {
                let part = |&id: &u32| {
                    border
                        .iter()
                        .copied()
                        .chain((0..len).map(move |i| float(id, i, len)))
                        .chain(border.iter().copied())
                        .collect::<Vec<_>>()
                };
                Values::Floats(ids.iter().flat_map(part).collect())
            }
            Shape::Shared(len) => {
                Values::Bytes((0..len).map(|i| (draw(0, i) >> 40) as u8).collect())
            }
            Shape::Stepped(width) => {
                let cells = (0..STEPS).flat_map(|step| {
                    ids.iter().flat_map(move |&id| (0..width).map(move |i| (id, step * width + i)))
                });
                if let Content::Images = content {
                    let image = |(id, i): (u32, usize)| {
                        if (i + 1) % width == 0 {
                            PADDING_IMAGE
                        } else {
                            (draw(id, i) >> 40) as u32 % IMAGES as u32
                        }
                    };
                    Values::Indices(
                        [
                            vec![PADDING_IMAGE; GUARD],
                            cells.map(image).collect(),
                            vec![PADDING_IMAGE; GUARD],
                        ]
                        .concat(),
                    )
                } else {
                    Values::Floats(
                        [
                            border.clone(),
                            cells.map(|(id, i)| float(id, i, width)).collect(),
                            border,
                        ]
                        .concat(),
                    )
                }
            }
        })
    }

    /// Runs the case on an engine, for the models `ids` at once: the buffers of [`Case::outputs`],
    /// guards included.
    pub fn run(&self, engine: &mut dyn Engine, ids: &[u32], style: Style) -> Result<Vec<Vec<f64>>> {
        let loaded = engine.load(&self.program(ids.len()))?;
        for binding in 0..self.args.len() {
            if let Some(values) = self.input(binding, ids, style) {
                engine.write(&self.buffer_name(binding, ids.len()), values.data())?;
            }
        }
        engine.run(loaded, self.step..self.step + 1)?;
        self.outputs()
            .into_iter()
            .map(|binding| engine.read(&self.buffer_name(binding, ids.len())))
            .collect()
    }

    /// What belongs to one replica in an output's buffer, without guards.
    pub fn part<'a>(
        &self,
        binding: usize,
        values: &'a [f64],
        replica: usize,
        replicas: usize,
    ) -> Vec<&'a [f64]> {
        let len = self.view_len(binding, replicas);
        match self.args[binding].shape {
            Shape::Stepped(width) => values[GUARD..GUARD + len]
                .chunks_exact(width)
                .skip(replica)
                .step_by(replicas)
                .collect(),
            _ => vec![&values[replica * (len + 2 * GUARD) + GUARD..][..len]],
        }
    }

    /// Every guard of an output's buffer.
    pub fn guards<'a>(
        &self,
        binding: usize,
        values: &'a [f64],
        replicas: usize,
    ) -> impl Iterator<Item = &'a [f64]> {
        let len = self.view_len(binding, replicas);
        values.chunks(len + 2 * GUARD).flat_map(move |part| [&part[..GUARD], &part[GUARD + len..]])
    }

    /// How far an f32 engine may be from an f64 one in a binding, with [`Style::Rough`] data.
    pub fn tolerance(&self, binding: usize) -> Tolerance {
        match (self.kernel, binding) {
            // Rounding (1 - beta2) in f32 would show in v.
            (Kernel::Adam, 2) => Tolerance { absolute: 1e-10, relative: 4e-7 },
            // The difference of two numbers that one over the norms can make large.
            (Kernel::ConstraintGrad, _) => Tolerance { absolute: 5e-6, relative: 4e-6 },
            // Errors of f32 sums of numbers below 1 grow with the number of terms; functions such
            // as exp add some units in the last place.
            _ => Tolerance { absolute: 3e-7 + 1e-7 * self.terms as f64, relative: 4e-6 },
        }
    }

    /// Whether f32 results of [`Style::Eighths`] data have no rounding at all.
    pub fn exact(&self) -> bool {
        use Kernel::*;
        match (self.kernel, &self.params) {
            (ConvY | ConvX, Params::Conv { epilogue, .. }) => {
                epilogue.activation != Activation::Sigmoid
            }
            (kernel, _) => {
                matches!(
                    kernel,
                    ConvW
                        | SplitSum
                        | Add
                        | Mul
                        | Affine
                        | Relu
                        | ReluGrad
                        | Copy
                        | Fill
                        | Broadcast
                        | SumTo
                        | Constraint
                        | ImageGrad
                        | Record
                )
            }
        }
    }
}

fn input(len: usize) -> Arg {
    Arg { shape: Shape::Replicated(len), content: Content::Signed }
}

fn holding(content: Content, len: usize) -> Arg {
    Arg { shape: Shape::Replicated(len), content }
}

fn output(len: usize) -> Arg {
    Arg { shape: Shape::Replicated(len), content: Content::Result }
}

fn stepped(content: Content, width: usize) -> Arg {
    Arg { shape: Shape::Stepped(width), content }
}

fn repeats(other: usize) -> Arg {
    Arg { shape: Shape::Repeats(other), content: Content::Signed }
}

fn conv(kernel: Kernel, g: Geometry, epilogue: Epilogue) -> Case {
    let (source, result, channels, inputs) = match kernel {
        Kernel::ConvY => (g.x_len(), g.y_len(), g.cy, g.cx),
        _ => (g.y_len(), g.x_len(), g.cx, g.cy),
    };
    let optional = |used: bool, len: usize| if used { input(len) } else { repeats(1) };
    let gate = epilogue.activation == Activation::Gate;
    let args = vec![
        input(source),
        input(g.w_len()),
        optional(epilogue.bias, channels),
        optional(epilogue.add, result),
        optional(gate, result),
        output(result),
    ];
    let parts = [if epilogue.bias { " bias" } else { "" }, if epilogue.add { " add" } else { "" }];
    let activation = match epilogue.activation {
        Activation::None => "",
        Activation::Relu => " relu",
        Activation::Sigmoid => " sigmoid",
        Activation::Gate => " gate",
    };
    Case::new(
        kernel,
        Params::Conv { geometry: g, epilogue },
        format!("{g}{}{activation}", parts.concat()),
        g.kh * g.kw * inputs,
        args,
    )
}

fn conv_w(g: Geometry, add: bool, splits: usize) -> Case {
    let addend = if add { input(g.w_len()) } else { repeats(0) };
    let args = vec![input(g.x_len()), input(g.y_len()), addend, output(splits * g.w_len())];
    let sizes = format!("{g} splits {splits}{}", if add { " add" } else { "" });
    Case::new(
        Kernel::ConvW,
        Params::ConvW { geometry: g, add, splits },
        sizes,
        g.hy * g.wy * g.n,
        args,
    )
}

fn split_sum(len: usize, splits: usize, add: bool) -> Case {
    let addend = if add { input(len) } else { repeats(0) };
    let args = vec![input(splits * len), addend, output(len)];
    let sizes = format!("{len} splits {splits}{}", if add { " add" } else { "" });
    Case::new(Kernel::SplitSum, Params::SplitSum { len, splits, add }, sizes, splits, args)
}

fn map(kernel: Kernel, len: usize, scale: f64, shift: f64) -> Case {
    let content = match kernel {
        Kernel::InvNorm => Content::Weight,
        _ => Content::Signed,
    };
    let mut args = vec![holding(content, len); kernel.row().bindings.len()];
    if kernel == Kernel::SigmoidGrad {
        args[1].content = Content::Positive;
    }
    args[kernel.row().bindings.len() - 1] = output(len);
    Case::new(
        kernel,
        Params::Map { len, scale, shift },
        format!("{len} scale {scale} shift {shift}"),
        1,
        args,
    )
}

fn reshape(kernel: Kernel, small: [usize; 4], large: [usize; 4]) -> Case {
    let (small_len, large_len) = (small.iter().product::<usize>(), large.iter().product::<usize>());
    let args = match kernel {
        Kernel::Broadcast => vec![input(small_len), output(large_len)],
        _ => vec![input(large_len), output(small_len)],
    };
    Case::new(
        kernel,
        Params::Reshape { small, large },
        format!("{small:?} {large:?}"),
        large_len / small_len,
        args,
    )
}

fn mse(rows: usize, n: usize) -> [Case; 2] {
    let (len, chunks) = (rows * n, rows.div_ceil(MSE_ROWS));
    let weight = holding(Content::Weight, n);
    let (params, sizes) = (Params::Mse { rows, n }, format!("rows {rows} n {n}"));
    let args = vec![input(len), input(len), weight, output(len), output(chunks * n)];
    let sum_args = vec![holding(Content::Positive, chunks * n), weight, output(n), output(1)];
    [
        Case::new(Kernel::Mse, params.clone(), sizes.clone(), MSE_ROWS, args),
        Case::new(Kernel::MseSum, params, sizes, chunks.max(n), sum_args),
    ]
}

/// Segments of these lengths, at multiples of ALIGNMENT with a gap between them.
fn constraint(lens: &[usize], scale: f64) -> [Case; 3] {
    let mut segments = Vec::new();
    let mut end = 0;
    for &len in lens {
        segments.push(Segment { offset: end + ALIGNMENT, len });
        end = (end + ALIGNMENT + len).next_multiple_of(ALIGNMENT);
    }
    let (partial, stats) = (segments.len() * max_blocks(&segments) * 3, 4 + 4 * segments.len());
    let blocks = max_blocks(&segments);
    let params = Params::Constraint { segments, scale };
    let sizes = format!("{lens:?} scale {scale}");
    let sum_args = vec![holding(Content::Sums { run: 1, squares: 2 }, partial), output(stats)];
    let grad_args = vec![input(end), input(end), holding(Content::Stats, stats), output(end)];
    [
        Case::new(
            Kernel::Constraint,
            params.clone(),
            sizes.clone(),
            CONSTRAINT_BLOCK,
            vec![input(end), input(end), output(partial)],
        ),
        Case::new(Kernel::ConstraintSum, params.clone(), sizes.clone(), blocks, sum_args),
        Case::new(Kernel::ConstraintGrad, params, sizes, 1, grad_args),
    ]
}

fn image_grad(g: Geometry) -> Case {
    let blocks = g.kh * g.kw * g.cy.div_ceil(IMAGE_GRAD_TILE);
    let args = vec![input(g.x_len()), input(g.y_len()), input(g.w_len()), output(blocks * 2 * g.n)];
    // A sum over positions, squared and summed over a tile of channels.
    Case::new(
        Kernel::ImageGrad,
        Params::ImageGrad { geometry: g },
        g.to_string(),
        g.hy * g.wy * IMAGE_GRAD_TILE * g.cx,
        args,
    )
}

fn image_cos(blocks: usize, n: usize, segment: usize) -> Case {
    let args = vec![
        holding(Content::Sums { run: n, squares: 1 }, blocks * 2 * n),
        holding(Content::Stats, 4 + 4 * (segment + 1)),
        output(n),
    ];
    Case::new(
        Kernel::ImageCos,
        Params::ImageCos { blocks, n, segment },
        format!("blocks {blocks} n {n} segment {segment}"),
        blocks,
        args,
    )
}

fn adam(len: usize, reference_len: usize, lr: f64, idle: bool) -> Case {
    let args = vec![
        input(len),
        input(len),
        holding(Content::Small, len),
        input(reference_len),
        input(len),
        stepped(Content::Schedule { idle }, 4),
    ];
    let params = Params::Adam { len, reference_len, lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    Case::new(
        Kernel::Adam,
        params,
        format!("{len} reference {reference_len}{}", if idle { " idle" } else { "" }),
        1,
        args,
    )
}

fn gather(pixels: usize, n: usize) -> Case {
    let args = vec![
        Arg { shape: Shape::Shared(IMAGES * pixels), content: Content::Pixels },
        stepped(Content::Images, n),
        stepped(Content::Schedule { idle: false }, 4),
        output(pixels * n),
        output(n),
    ];
    Case::new(
        Kernel::Gather,
        Params::Gather { pixels, n },
        format!("pixels {pixels} n {n}"),
        1,
        args,
    )
}

fn record(len: usize, offset: usize, width: usize) -> Case {
    let args = vec![input(len), stepped(Content::Result, width)];
    Case::new(
        Kernel::Record,
        Params::Record { len, offset, width },
        format!("{len} at {offset} of {width}"),
        1,
        args,
    )
}

/// Convolutions of the autoencoder for images of `channels` x 28 x 28: four that shrink, then four
/// transposed ones.
pub fn model_layers(n: usize, channels: usize) -> [Geometry; 8] {
    let k = (4, 4);
    [
        Geometry::conv2d(n, (channels, 28, 28), 32, k, 2, 2),
        Geometry::conv2d(n, (32, 15, 15), 32, k, 2, 2),
        Geometry::conv2d(n, (32, 8, 8), 64, k, 2, 2),
        Geometry::conv2d(n, (64, 5, 5), 64, k, 2, 2),
        Geometry::conv_transpose2d(n, (64, 3, 3), 64, k, 2, 2),
        Geometry::conv_transpose2d(n, (64, 4, 4), 32, k, 2, 1),
        Geometry::conv_transpose2d(n, (32, 8, 8), 32, k, 2, 2),
        Geometry::conv_transpose2d(n, (32, 14, 14), channels, k, 2, 1),
    ]
}

/// Geometries that catch what square, even and equal sizes hide.
fn awkward_geometries() -> Vec<Geometry> {
    vec![
        Geometry::conv2d(3, (5, 9, 11), 7, (4, 3), 2, 1),
        // Stride 3: unequal residue classes.
        Geometry::conv2d(6, (3, 13, 10), 9, (5, 4), 3, 2),
        // Stride 1, no padding.
        Geometry::conv2d(2, (6, 7, 8), 5, (3, 2), 1, 0),
        // Floor cases: 15 -> 8 and 5 -> 3; a batch of one.
        Geometry::conv2d(2, (7, 15, 15), 5, (4, 4), 2, 2),
        Geometry::conv2d(1, (5, 5, 5), 7, (4, 4), 2, 2),
        // Linear.
        Geometry::conv2d(5, (37, 1, 1), 21, (1, 1), 1, 0),
        // Single channels, and more images than a tile has.
        Geometry::conv2d(70, (1, 4, 5), 6, (3, 2), 2, 1),
        Geometry::conv2d(9, (6, 5, 4), 1, (2, 3), 1, 2),
        // More channels and images than a tile has.
        Geometry::conv2d(37, (33, 3, 2), 65, (2, 3), 1, 1),
        // A stride that jumps over parts of x, and padding that leaves parts of y without a tap.
        Geometry::conv2d(4, (5, 8, 10), 3, (1, 2), 3, 0),
        Geometry::conv2d(3, (2, 4, 5), 6, (2, 3), 2, 3),
    ]
}

/// An epilogue for each number below 16, all different.
fn epilogue(i: usize) -> Epilogue {
    let activation =
        [Activation::Gate, Activation::None, Activation::Sigmoid, Activation::Relu][i / 4 % 4];
    Epilogue { bias: i.is_multiple_of(2), add: (i / 2).is_multiple_of(2), activation }
}

/// The cases of the tests.
pub fn tests() -> Vec<Case> {
    let mut cases = Vec::new();
    let awkward = awkward_geometries();
    for kernel in [Kernel::ConvY, Kernel::ConvX] {
        cases.extend((0..16).map(|i| conv(kernel, awkward[0], epilogue(i))));
        cases.extend(
            awkward.iter().enumerate().skip(1).map(|(i, &g)| conv(kernel, g, epilogue(5 * i))),
        );
    }
    for (i, &g) in awkward.iter().enumerate() {
        cases.push(conv_w(g, false, 1 + 2 * (i % 2)));
        cases.push(image_grad(g));
    }
    cases.extend([
        conv_w(awkward[0], true, 1),
        conv_w(awkward[0], false, 3),
        conv_w(awkward[1], false, 20),
    ]);
    let relu = Epilogue { bias: true, add: false, activation: Activation::Relu };
    for (i, g) in model_layers(3, 1).into_iter().enumerate() {
        // Encoder layers run as conv_y and are differentiated by conv_x, decoder layers the other
        // way round.
        cases.extend([
            conv(Kernel::ConvY, g, relu),
            conv(Kernel::ConvX, g, relu),
            conv_w(g, false, 2),
        ]);
        if i >= 4 {
            cases.push(image_grad(g));
        }
    }
    for g in [model_layers(2, 3)[0], model_layers(2, 3)[7]] {
        cases.extend([
            conv(Kernel::ConvY, g, epilogue(4)),
            conv(Kernel::ConvX, g, epilogue(8)),
            conv_w(g, false, 1),
            image_grad(g),
        ]);
    }
    cases.extend([split_sum(1, 2, true), split_sum(300, 3, false), split_sum(1031, 7, true)]);

    for len in [1, 1301] {
        for row in KERNELS.iter().filter(|row| row.shader == "elementwise") {
            let (scale, shift) =
                if row.kernel == Kernel::InvNorm { (COSINE_EPS, 0.0) } else { (-1.5, 0.375) };
            cases.push(map(row.kernel, len, scale, shift));
        }
    }
    for (small, large) in [
        ([1, 1, 5, 1], [3, 4, 5, 7]),
        ([3, 1, 5, 1], [3, 4, 5, 7]),
        ([1, 4, 1, 7], [3, 4, 5, 7]),
        ([1, 1, 1, 1], [2, 3, 5, 70]),
        ([2, 3, 5, 6], [2, 3, 5, 6]),
        ([1, 1, 32, 1], [8, 8, 32, 3]),
    ] {
        cases.extend([
            reshape(Kernel::Broadcast, small, large),
            reshape(Kernel::SumTo, small, large),
        ]);
    }
    for (rows, n) in [(50, 7), (16, 1), (5, 300), (784, 3)] {
        cases.extend(mse(rows, n));
    }
    cases.extend(constraint(&[1000, 1, 2500], 0.03));
    cases.extend(constraint(&[CONSTRAINT_BLOCK], -2.0));
    cases.extend(constraint(&[70, 3, 64, 1, 129, 5, 2, 37000], 0.5));
    cases.extend([image_cos(37, 45, 2), image_cos(1, 1, 0), image_cos(16, 5, 3)]);
    cases.extend([
        adam(1000, 300, 1e-3, true),
        adam(257, 257, 0.1, false),
        adam(5, 0, 1e-3, false),
    ]);
    cases.extend([gather(35, 5), gather(1, 1), gather(784, 3), gather(30, 70)]);
    cases.extend([record(3, 5, 11), record(1, 0, 1), record(150, 50, 200)]);
    cases
}

/// The cases of the benchmarks: every kernel as a training step or a scoring of the autoencoder
/// calls it, with `n` images of `channels` x 28 x 28. `splits` is what a program for the engine
/// would take (1 on a CPU).
pub fn benches(n: usize, channels: usize, splits: usize) -> Vec<Case> {
    let layers = model_layers(n, channels);
    let plain = Epilogue::default();
    let relu = Epilogue { bias: true, add: false, activation: Activation::Relu };
    let gate = Epilogue { activation: Activation::Gate, ..plain };
    let mut cases = Vec::new();
    for (i, &g) in layers.iter().enumerate() {
        let encoder = i < 4;
        let (forward, backward) =
            if encoder { (Kernel::ConvY, Kernel::ConvX) } else { (Kernel::ConvX, Kernel::ConvY) };
        let output = Epilogue {
            activation: if i == 7 { Activation::Sigmoid } else { Activation::Relu },
            ..relu
        };
        cases.push(conv(forward, g, output));
        if i > 0 {
            cases.push(conv(backward, g, gate));
        }
        cases.push(conv_w(g, false, splits));
        if splits > 1 {
            cases.push(split_sum(g.w_len(), splits, false));
        }
        if !encoder {
            cases.push(image_grad(g));
            cases.push(image_cos(16 * g.cy.div_ceil(IMAGE_GRAD_TILE), n, i - 4));
        }
    }
    let widest = layers[1].x_len();
    for row in KERNELS.iter().filter(|row| row.shader == "elementwise") {
        cases.push(map(row.kernel, widest, 1.5, 0.5));
    }
    let (bias, whole) = ([1, 1, 32, 1], [15, 15, 32, n]);
    cases.extend([reshape(Kernel::Broadcast, bias, whole), reshape(Kernel::SumTo, bias, whole)]);
    cases.extend(mse(784 * channels, n));
    let decoder: Vec<usize> = layers[4..].iter().map(Geometry::w_len).collect();
    cases.extend(constraint(&decoder, 0.03));
    let parameters = layers.iter().map(|g| g.w_len()).sum::<usize>() + 4 * 64 + 3 * 32 + channels;
    cases.push(adam(parameters, decoder.iter().sum(), 1e-3, false));
    cases.extend([gather(784 * channels, n), record(4, 0, 4)]);
    cases
}
