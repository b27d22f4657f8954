//! A case of each kernel from its sizes.

use gradcon::geometry::Geometry;
use gradcon::kernels::conv::{Activation, Epilogue};
use gradcon::kernels::{
    Adam, Batch, Constraint, Conv, ConvW, Kernel, Loss, MapKernel, Memory, Reduce, Score, adam,
    constraint as constraints, loss, score,
};
use gradcon::layout::{ALIGNMENT, Segment, Shape as Axes, Stats, size};
use gradcon::tape::ops::{AdamConfig, Map};

use super::data::{Content, IMAGES};
use super::{Arg, Case, Shape};

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

pub fn conv_y(geometry: Geometry, epilogue: Epilogue) -> Case {
    let (source, result) = (geometry.x_len(), geometry.y_len());
    let terms = geometry.kh * geometry.kw * geometry.cx;
    let args = conv_args(&geometry, epilogue, (source, result, geometry.cy));
    Case::new(Kernel::Conv(Conv::ConvY { geometry, epilogue }), terms, args)
}

pub fn conv_x(geometry: Geometry, epilogue: Epilogue) -> Case {
    let (source, result) = (geometry.y_len(), geometry.x_len());
    let terms = geometry.kh * geometry.kw * geometry.cy;
    let args = conv_args(&geometry, epilogue, (source, result, geometry.cx));
    Case::new(Kernel::Conv(Conv::ConvX { geometry, epilogue }), terms, args)
}

fn conv_args(
    g: &Geometry,
    epilogue: Epilogue,
    (source, result, channels): (usize, usize, usize),
) -> Vec<Arg> {
    let optional = |used: bool, len: usize| if used { input(len) } else { repeats(1) };
    vec![
        input(source),
        input(g.w_len()),
        optional(epilogue.bias, channels),
        optional(epilogue.add, result),
        optional(epilogue.activation == Activation::Gate, result),
        output(result),
    ]
}

pub fn conv_w(geometry: Geometry, add: bool, splits: usize) -> Case {
    let len = geometry.w_len();
    let addend = if add { input(len) } else { repeats(0) };
    let args = vec![input(geometry.x_len()), input(geometry.y_len()), addend, output(splits * len)];
    let terms = geometry.hy * geometry.wy * geometry.n;
    Case::new(Kernel::ConvW(ConvW::ConvW { geometry, add, splits }), terms, args)
}

pub fn split_sum(len: usize, splits: usize, add: bool) -> Case {
    let addend = if add { input(len) } else { repeats(0) };
    let args = vec![input(splits * len), addend, output(len)];
    Case::new(Kernel::ConvW(ConvW::SplitSum { len, splits, add }), splits, args)
}

pub fn map(map: Map, len: usize) -> Case {
    let content = match map {
        Map::InvNorm { .. } => Content::Weight,
        _ => Content::Signed,
    };
    let b = match map {
        Map::SigmoidGrad => holding(Content::Positive, len),
        _ if map.arity() == 1 => repeats(0),
        _ => input(len),
    };
    let args = vec![holding(content, len), b, output(len)];
    Case::new(Kernel::Map(MapKernel { map, len }), 1, args)
}

pub fn copy(len: usize) -> Case {
    Case::new(Kernel::Memory(Memory::Copy { len }), 1, vec![input(len), output(len)])
}

pub fn fill(len: usize, value: f64) -> Case {
    Case::new(Kernel::Memory(Memory::Fill { len, value }), 1, vec![output(len)])
}

pub fn broadcast(small: Axes, large: Axes) -> Case {
    let args = vec![input(size(small)), output(size(large))];
    Case::new(Kernel::Reduce(Reduce::Broadcast { small, large }), 1, args)
}

pub fn sum_to(small: Axes, large: Axes) -> Case {
    let args = vec![input(size(large)), output(size(small))];
    let terms = size(large) / size(small);
    Case::new(Kernel::Reduce(Reduce::SumTo { small, large }), terms, args)
}

pub fn mse(rows: usize, n: usize) -> [Case; 2] {
    let (len, chunks) = (rows * n, rows.div_ceil(loss::ROWS));
    let weight = holding(Content::Weight, n);
    let args = vec![input(len), input(len), weight, output(len), output(chunks * n)];
    let sum_args = vec![holding(Content::Positive, chunks * n), weight, output(n), output(1)];
    [
        Case::new(Kernel::Loss(Loss::Mse { rows, n }), loss::ROWS, args),
        Case::new(Kernel::Loss(Loss::MseSum { rows, n }), chunks.max(n), sum_args),
    ]
}

/// Segments of these lengths, at multiples of ALIGNMENT with a gap between them.
pub fn constraint(lens: &[usize], scale: f64) -> [Case; 3] {
    let mut segments = vec![];
    let mut end = 0;
    for &len in lens {
        segments.push(Segment { offset: end + ALIGNMENT, len });
        end = (end + ALIGNMENT + len).next_multiple_of(ALIGNMENT);
    }
    let blocks = constraints::max_blocks(&segments);
    let (partial, stats) = (segments.len() * blocks * 3, Stats::len(segments.len()));
    let args = vec![input(end), input(end), output(partial)];
    let sum_args = vec![holding(Content::Sums { run: 1, squares: 2 }, partial), output(stats)];
    let grad_args = vec![input(end), input(end), holding(Content::Stats, stats), output(end)];
    let same = || segments.clone();
    let sum = Constraint::ConstraintSum { segments: same() };
    let grad = Constraint::ConstraintGrad { segments: same(), scale };
    let first = Constraint::Constraint { segments };
    [
        Case::new(Kernel::Constraint(first), constraints::BLOCK, args),
        Case::new(Kernel::Constraint(sum), blocks, sum_args),
        Case::new(Kernel::Constraint(grad), 1, grad_args),
    ]
}

pub fn image_grad(geometry: Geometry) -> Case {
    let g = &geometry;
    let partial = score::blocks(g) * 2 * g.n;
    let args = vec![input(g.x_len()), input(g.y_len()), input(g.w_len()), output(partial)];
    // A sum over positions, squared and summed over a tile of channels.
    let terms = g.hy * g.wy * score::TILE * g.cx;
    Case::new(Kernel::Score(Score::ImageGrad { geometry }), terms, args)
}

pub fn image_cos(blocks: usize, n: usize, segment: usize) -> Case {
    let args = vec![
        holding(Content::Sums { run: n, squares: 1 }, blocks * 2 * n),
        holding(Content::Stats, Stats::len(segment + 1)),
        output(n),
    ];
    Case::new(Kernel::Score(Score::ImageCos { blocks, n, segment }), blocks, args)
}

/// With `idle`, the second model has no batch.
pub fn adam(len: usize, reference_len: usize, lr: f64, idle: bool) -> Case {
    let args = vec![
        input(len),
        input(len),
        holding(Content::Small, len),
        input(reference_len),
        input(len),
        stepped(Content::Schedule { idle }, adam::SCHEDULE),
    ];
    let config = AdamConfig { lr, ..AdamConfig::default() };
    Case::new(Kernel::Adam(Adam { len, reference_len, config }), 1, args)
}

pub fn gather(pixels: usize, n: usize) -> Case {
    let args = vec![
        Arg { shape: Shape::Shared(IMAGES * pixels), content: Content::Pixels },
        stepped(Content::Images, n),
        stepped(Content::Schedule { idle: false }, adam::SCHEDULE),
        output(pixels * n),
        output(n),
    ];
    Case::new(Kernel::Batch(Batch::Gather { pixels, n }), 1, args)
}

pub fn record(len: usize, offset: usize, width: usize) -> Case {
    let args = vec![input(len), stepped(Content::Result, width)];
    Case::new(Kernel::Batch(Batch::Record { len, offset, width }), 1, args)
}
