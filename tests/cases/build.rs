//! A case of each kernel from its sizes.

use gradcon::geometry::Geometry;
use gradcon::kernels::batch::{MAX_VALUES, Values};
use gradcon::kernels::conv::{Activation, Epilogue};
use gradcon::kernels::conv_w::End;
use gradcon::kernels::map::{Input, Link, MAX_INPUTS, Operand};
use gradcon::kernels::{
    Adam, Batch, Constraint, Conv, ConvW, Kernel, Loss, MapKernel, Memory, Noise, Reduce, Score,
    adam, constraint as constraints, loss, noise as noises, score,
};
use gradcon::layout::{ALIGNMENT, Piece, Segment, Shape as Axes, Stats, size};
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

pub fn conv_y(geometry: Geometry, pair: bool, epilogue: Epilogue, slices: usize) -> Case {
    let (source, result) = (geometry.x_len(), geometry.y_len());
    let terms = geometry.kh * geometry.kw * geometry.cx * (1 + pair as usize);
    let args = conv_args(&geometry, pair, epilogue, (source, result, geometry.cy));
    Case::new(
        Kernel::Conv(Conv::ConvY { geometry, pair, epilogue, slices, half: false }),
        terms,
        args,
    )
}

pub fn conv_x(geometry: Geometry, pair: bool, epilogue: Epilogue, slices: usize) -> Case {
    let (source, result) = (geometry.y_len(), geometry.x_len());
    let terms = geometry.kh * geometry.kw * geometry.cy * (1 + pair as usize);
    let args = conv_args(&geometry, pair, epilogue, (source, result, geometry.cx));
    Case::new(
        Kernel::Conv(Conv::ConvX { geometry, pair, epilogue, slices, half: false }),
        terms,
        args,
    )
}

fn conv_args(
    g: &Geometry,
    pair: bool,
    epilogue: Epilogue,
    (source, result, channels): (usize, usize, usize),
) -> Vec<Arg> {
    let optional = |used: bool, len, other| if used { input(len) } else { repeats(other) };
    vec![
        input(source),
        input(g.w_len()),
        optional(pair, source, 0),
        optional(pair, g.w_len(), 1),
        optional(epilogue.bias, channels, 1),
        optional(epilogue.activation == Activation::Gate, result, 0),
        output(result),
    ]
}

pub fn conv_w(
    geometry: Geometry,
    pair: bool,
    bias: Option<End>,
    (splits, slices): (usize, usize),
) -> Case {
    let kernel = ConvW { geometry, pair, bias, splits, slices, half: false };
    let [x, y] = [geometry.x_len(), geometry.y_len()].map(input);
    let [x2, y2] = if pair { [x, y] } else { [repeats(0); 2] };
    let terms = geometry.hy * geometry.wy * geometry.n * (1 + pair as usize);
    let terms = terms.max(bias.map_or(0, |_| geometry.hx * geometry.wx * geometry.n));
    let args = vec![x, y, x2, y2, output(kernel.result_len())];
    Case::new(Kernel::ConvW(kernel), terms, args)
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
    let args = vec![holding(content, len), b, repeats(0), repeats(0), output(len)];
    Case::new(Kernel::Map(MapKernel::one(map, len)), 1, args)
}

/// A chain of functions of inputs that are whole or repeated.
pub fn chain(len: usize, inputs: &[Input], links: &[(Map, [Operand; 2])]) -> Case {
    let held = |input: &Input| match *input {
        Input::Whole => len,
        Input::Repeated { count, .. } => count,
    };
    let mut args: Vec<Arg> = inputs.iter().map(|i| input(held(i))).collect();
    args.resize(MAX_INPUTS, repeats(0));
    args.push(output(len));
    let links = links.iter().map(|&(map, of)| Link { map, of }).collect();
    Case::new(Kernel::Map(MapKernel { len, inputs: inputs.to_vec(), links, half: false }), 16, args)
}

pub fn copy(len: usize) -> Case {
    Case::new(Kernel::Memory(Memory::Copy { len }), 1, vec![input(len), output(len)])
}

pub fn fill(len: usize, value: f64) -> Case {
    Case::new(Kernel::Memory(Memory::Fill { len, value }), 1, vec![output(len)])
}

pub fn widen(len: usize) -> Case {
    Case::new(Kernel::Memory(Memory::Widen { len }), 1, vec![input(len), output(len)])
}

pub fn narrow(len: usize) -> Case {
    Case::new(Kernel::Memory(Memory::Narrow { len }), 1, vec![input(len), output(len)])
}

/// The same call in half precision, if there is one of these sizes.
pub fn halved(case: &Case) -> Option<Case> {
    let even = |n: &usize| n.is_multiple_of(2);
    let kernel = match case.kernel.clone() {
        Kernel::Conv(kernel) => Kernel::Conv(kernel.halved()?),
        Kernel::ConvW(kernel) => Kernel::ConvW(kernel.halved()?),
        // A norm's inverse reaches 1e8, which is no half.
        Kernel::Map(kernel)
            if kernel.links.iter().any(|l| matches!(l.map, Map::InvNorm { .. })) =>
        {
            return None;
        }
        Kernel::Map(kernel) if even(&kernel.len) => Kernel::Map(MapKernel { half: true, ..kernel }),
        Kernel::Loss(Loss::Mse { rows, n, .. }) if even(&n) => {
            Kernel::Loss(Loss::Mse { rows, n, half: true })
        }
        Kernel::Loss(Loss::ImageMse { rows, n, .. }) if even(&n) => {
            Kernel::Loss(Loss::ImageMse { rows, n, half: true })
        }
        Kernel::Score(Score::ImageGrad { geometry, squares, .. }) if even(&geometry.n) => {
            Kernel::Score(Score::ImageGrad { geometry, squares, half: true })
        }
        Kernel::Batch(Batch::Gather { pixels, n, .. }) if even(&n) => {
            Kernel::Batch(Batch::Gather { pixels, n, half: true })
        }
        _ => return None,
    };
    Some(Case { name: format!("{} f16", case.name), kernel, ..case.clone() })
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

/// Pieces of these lengths and numbers of terms, at multiples of ALIGNMENT with a gap between them;
/// the length of the flat tensor, and of the buffer, where they lie the other way round.
fn pieces(of: &[(usize, usize)]) -> (Vec<Piece>, usize, usize) {
    let mut pieces = vec![];
    let (mut end, mut held) = (0, 0);
    for &(len, terms) in of {
        pieces.push(Piece { first: end + ALIGNMENT, len, at: 0, terms });
        end = (end + ALIGNMENT + len).next_multiple_of(ALIGNMENT);
    }
    for piece in pieces.iter_mut().rev() {
        piece.at = held;
        held += piece.held() + 3;
    }
    (pieces, end, held)
}

pub fn sum_pieces(of: &[(usize, usize)]) -> Case {
    let (pieces, len, held) = pieces(of);
    let terms = pieces.iter().map(|p| p.terms).max().unwrap_or(1);
    let args = vec![input(held), output(len)];
    Case::new(Kernel::Reduce(Reduce::SumPieces { len, pieces }), terms, args)
}

pub fn mse(rows: usize, n: usize) -> [Case; 2] {
    let len = rows * n;
    let weight = holding(Content::Weight, n);
    let args = vec![input(len), input(len), weight, output(loss::groups(rows))];
    let image_args = vec![input(len), input(len), output(n)];
    [
        Case::new(Kernel::Loss(Loss::Mse { rows, n, half: false }), loss::ROWS * n, args),
        Case::new(Kernel::Loss(Loss::ImageMse { rows, n, half: false }), rows, image_args),
    ]
}

/// Segments of these lengths, whose gradients are sums of so many terms.
/// The derivative is weighted by the sum of `weights` numbers.
pub fn constraint(of: &[(usize, usize)], scale: f64, weights: usize) -> [Case; 3] {
    let (pieces, end, held) = pieces(of);
    let segments: Vec<Segment> = pieces.iter().map(Piece::segment).collect();
    let blocks = constraints::max_blocks(&segments);
    let most = pieces.iter().map(|p| p.terms).max().unwrap_or(1);
    let (partial, stats) = (segments.len() * blocks * 3, Stats::len(segments.len()));
    let args = vec![input(held), input(end), output(end), output(partial)];
    let sum_args = vec![holding(Content::Sums { run: 1, squares: 2 }, partial), output(stats)];
    let weight = if weights == 0 { repeats(2) } else { input(weights) };
    let grad_args =
        vec![input(end), input(end), holding(Content::Stats, stats), weight, output(end)];
    let sum = Constraint::ConstraintSum { segments: segments.clone() };
    let grad = Constraint::ConstraintGrad { segments, scale, terms: weights };
    let first = Constraint::Constraint { pieces };
    [
        Case::new(Kernel::Constraint(first), constraints::SPAN * most, args),
        Case::new(Kernel::Constraint(sum), blocks, sum_args),
        Case::new(Kernel::Constraint(grad), 1, grad_args),
    ]
}

pub fn image_grad(geometry: Geometry, squares: bool) -> Case {
    let g = &geometry;
    let partial = score::blocks(g) * 2 * g.n;
    let args = vec![input(g.x_len()), input(g.y_len()), input(g.w_len()), output(partial)];
    // A sum over positions, squared and summed over a tile of channels.
    // Squared once more, an error counts twice, times a sum that may be above 1.
    let terms = g.hy * g.wy * score::TILE * g.cx * if squares { 4 } else { 1 };
    Case::new(Kernel::Score(Score::ImageGrad { geometry, squares, half: false }), terms, args)
}

pub fn image_cos(blocks: usize, n: usize, segment: usize) -> Case {
    let args = vec![
        holding(Content::Sums { run: n, squares: 1 }, blocks * 2 * n),
        holding(Content::Stats, Stats::len(segment + 1)),
        output(n),
    ];
    Case::new(Kernel::Score(Score::ImageCos { blocks, n, segment }), blocks, args)
}

/// With `idle`, the second model has no batch. The gradient is in pieces of these lengths and
/// numbers of terms.
pub fn adam(of: &[(usize, usize)], reference_len: usize, idle: bool) -> Case {
    let (pieces, len, held) = pieces(of);
    let args = vec![
        input(len),
        input(len),
        holding(Content::Small, len),
        input(reference_len),
        input(held),
        stepped(Content::Schedule { idle }, adam::SCHEDULE),
        holding(Content::Small, 1),
    ];
    let config = AdamConfig::default();
    // One of them undoes a loss scale.
    let scale = if idle { 0.25 } else { 1.0 };
    let terms = of.iter().map(|piece| piece.1).max().unwrap_or(1);
    Case::new(Kernel::Adam(Adam { len, reference_len, pieces, scale, config }), terms, args)
}

pub fn gather(pixels: usize, n: usize) -> Case {
    let args = vec![
        Arg { shape: Shape::Shared(IMAGES * pixels), content: Content::Pixels },
        stepped(Content::Images, n),
        stepped(Content::Schedule { idle: false }, adam::SCHEDULE),
        output(pixels * n),
        output(n),
    ];
    Case::new(Kernel::Batch(Batch::Gather { pixels, n, half: false }), 1, args)
}

/// Values as (elements, terms), one behind the other from `first` of a row, with a gap between them.
pub fn record(of: &[(usize, usize)], first: usize, width: usize) -> Case {
    let mut offset = first;
    let mut values = vec![];
    for &(len, terms) in of {
        values.push(Values { len, terms, offset });
        offset += len + 1;
    }
    let mut args: Vec<Arg> = of.iter().map(|&(len, terms)| input(len * terms)).collect();
    args.resize(MAX_VALUES, repeats(0));
    args.push(stepped(Content::Result, width));
    let terms = of.iter().map(|v| v.1).max().unwrap_or(1);
    Case::new(Kernel::Batch(Batch::Record { values, width }), terms, args)
}

pub fn noise(features: usize, n: usize, layer: usize) -> Case {
    let args = vec![stepped(Content::Words, noises::DRAWS), output(features * n)];
    Case::new(Kernel::Noise(Noise { features, n, layer }), 1, args)
}
