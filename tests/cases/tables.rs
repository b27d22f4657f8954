//! The tables: every kernel at awkward sizes for the tests, and at the model's for the benchmarks.

use gradcon::geometry::Geometry;
use gradcon::kernels::conv::{Activation, Epilogue};
use gradcon::kernels::conv_w::End;
use gradcon::kernels::map::{Input, MAX_LINKS, Operand};
use gradcon::kernels::{Form, constraint as constraints, reduce, score};
use gradcon::tape::ops::Map;

use super::Case;
use super::build::*;
use super::geometries::{awkward, fours, model_layers};

/// An epilogue for each number below 8, all different.
fn epilogue(i: usize) -> Epilogue {
    let activations = [Activation::Gate, Activation::None, Activation::Sigmoid, Activation::Relu];
    Epilogue { bias: i.is_multiple_of(2), activation: activations[i / 2 % 4] }
}

/// A builder of a convolution's case.
type Conv = fn(Geometry, bool, Epilogue, usize) -> Case;

const RELU: Epilogue = Epilogue { bias: true, activation: Activation::Relu };

/// Most slices that `len` can be cut into.
fn slices(len: usize, most: usize) -> usize {
    [8, 4, 2, 1].into_iter().find(|&s| s <= most && len.is_multiple_of(s)).unwrap_or(1)
}

/// The cases of the tests.
pub fn tests() -> Vec<Case> {
    let mut cases = vec![];
    let awkward = awkward();
    for (conv, channels) in
        [(conv_y as Conv, (|g| g.cx) as fn(&Geometry) -> usize), (conv_x, |g| g.cy)]
    {
        cases.extend((0..8).map(|i| conv(awkward[0], i % 3 == 0, epilogue(i), 1)));
        let others = awkward.iter().enumerate().skip(1);
        cases.extend(others.clone().map(|(i, &g)| conv(g, i % 2 == 0, epilogue(5 * i), 1)));
        let sliced = others.filter(|(_, g)| slices(channels(g), 8) > 1);
        cases.extend(
            sliced.map(|(i, &g)| conv(g, i % 2 == 1, epilogue(3 * i), slices(channels(&g), 8))),
        );
    }
    let ends = [None, Some(End::X), Some(End::Y)];
    for (i, &g) in awkward.iter().enumerate() {
        cases.push(conv_w(g, i % 2 == 1, ends[i % 3], (1 + 2 * (i % 2), slices(g.n, 4))));
        cases.push(image_grad(g, i % 2 == 1));
    }
    cases.extend([
        conv_w(awkward[0], true, Some(End::Y), (1, 1)),
        conv_w(awkward[0], false, Some(End::X), (3, 1)),
        conv_w(awkward[1], true, Some(End::X), (20, 2)),
    ]);
    // What variants that read four images at a time can run: slices of whole blocks where there are
    // some, else as thin as can be.
    let cut = |c: usize| slices(if c.is_multiple_of(8) { c / 8 } else { c }, 4);
    for (i, g) in fours().into_iter().enumerate() {
        let (cx, cy) = (cut(g.cx), cut(g.cy));
        cases.extend([
            conv_y(g, i % 2 == 0, epilogue(i), cx),
            conv_x(g, i % 2 == 1, epilogue(2 + i), cy),
            conv_w(g, i % 2 == 0, ends[i % 3], (1 + 3 * (i % 2), cut(g.n))),
        ]);
    }
    for (i, g) in model_layers(16, 1).into_iter().enumerate() {
        // Encoder layers run as conv_y and are differentiated by conv_x, decoder layers the other
        // way round.
        cases.extend([
            conv_y(g, false, RELU, [1, cut(g.cx)][i % 2]),
            conv_x(g, true, epilogue(4), [1, 2, 4][i % 3].min(cut(g.cy))),
            conv_w(g, i >= 4, Some(if i >= 4 { End::X } else { End::Y }), (2, 1 + i % 2)),
        ]);
        if i >= 4 {
            cases.extend([image_grad(g, false), image_grad(g, true)]);
        }
    }
    for g in [model_layers(2, 3)[0], model_layers(2, 3)[7]] {
        cases.extend([
            conv_y(g, true, epilogue(4), 1),
            conv_x(g, false, epilogue(2), 4),
            conv_w(g, false, None, (1, 2)),
            image_grad(g, false),
        ]);
    }
    // More images than a tile of a single channel has columns.
    for g in [model_layers(70, 3)[7], model_layers(70, 1)[7]] {
        cases.extend([conv_x(g, true, epilogue(1), 2), conv_w(g, true, Some(End::X), (13, 1))]);
    }

    for len in [1, 1301, 1042] {
        cases.extend(Map::ALL.map(|member| map(member, len)));
        cases.extend([copy(len), fill(len, 0.375), widen(len), narrow(len.next_multiple_of(2))]);
    }
    cases.extend(chains());
    for (small, large) in [
        ([1, 1, 5, 1], [3, 4, 5, 7]),
        ([3, 1, 5, 1], [3, 4, 5, 7]),
        ([1, 4, 1, 7], [3, 4, 5, 7]),
        ([1, 1, 1, 1], [2, 3, 5, 70]),
        ([2, 3, 5, 6], [2, 3, 5, 6]),
        ([1, 1, 32, 1], [8, 8, 32, 3]),
    ] {
        cases.extend([broadcast(small, large), sum_to(small, large)]);
    }
    cases.extend([
        sum_pieces(&[(1, 2)]),
        sum_pieces(&[(300, 3), (1, 1), (70, 25)]),
        sum_pieces(&[(2, 1); reduce::MAX_PIECES]),
    ]);
    for (rows, n) in [(50, 7), (16, 1), (5, 300), (784, 3), (70, 6)] {
        cases.extend(mse(rows, n));
    }
    cases.extend(constraint(&[(1000, 2), (1, 1), (2500, 7)], 0.03, 0));
    cases.extend(constraint(&[(constraints::SPAN, 1)], -2.0, 1));
    let lens = [70, 3, 64, 1, 129, 5, 2, 37000];
    cases.extend(constraint(&lens.map(|len| (len, 1 + len % 3)), 0.5, 3));
    cases.extend([image_cos(37, 45, 2), image_cos(1, 1, 0), image_cos(16, 5, 3)]);
    cases.extend([
        adam(&[(900, 1), (1, 3), (57, 25)], 300, true),
        adam(&[(257, 2)], 257, false),
        adam(&[(5, 1); reduce::MAX_PIECES], 0, false),
    ]);
    cases.extend([gather(35, 5), gather(1, 1), gather(784, 3), gather(30, 70)]);
    cases.extend([
        record(&[(3, 1)], 5, 11),
        record(&[(1, 37)], 0, 1),
        record(&[(150, 1), (1, 5), (2, 2), (70, 1)], 7, 300),
    ]);
    cases.extend([noise(1, 1, 0), noise(37, 5, 3), noise(10, 70, 1), noise(4097, 2, 0)]);
    cases.extend(cases.iter().filter_map(halved).collect::<Vec<_>>());
    cases
}

/// Chains of functions: each operand and each way to read an input, up to the longest.
fn chains() -> Vec<Case> {
    use Operand::{Input as I, Link as L};
    let affine = |scale, shift| Map::Affine { scale, shift };
    let per_image = Input::Repeated { inner: 1, count: 7 };
    let per_channel = Input::Repeated { inner: 7, count: 5 };
    let scalar = Input::Repeated { inner: 3 * 5 * 7, count: 1 };
    let mut longest = vec![(Map::Sub, [I(0), I(1)])];
    longest.extend((1..MAX_LINKS).map(|i| match i % 3 {
        0 => (Map::Add, [L(i - 1), I(i % 4)]),
        1 => (affine(0.5, 0.25), [L(i - 1); 2]),
        _ => (Map::Mul, [L(i - 1), L(i / 2)]),
    }));
    vec![
        chain(105, &[Input::Whole, per_image], &[(Map::Mul, [I(0), I(1)])]),
        chain(210, &[per_image, Input::Whole], &[(Map::Mul, [I(0), I(1)])]),
        chain(
            105,
            &[per_channel, Input::Whole, scalar],
            &[
                (Map::Sub, [I(1), I(0)]),
                (Map::Mul, [L(0), I(2)]),
                (Map::ReluGrad, [I(1), L(1)]),
                (Map::Sub, [L(0), L(2)]),
            ],
        ),
        chain(1301, &[Input::Whole, Input::Whole, per_image, scalar], &longest),
        chain(210, &[Input::Whole, per_channel, Input::Whole, scalar], &longest),
    ]
}

/// The cases of the benchmarks: every kernel as a training step or a scoring of the autoencoder
/// calls it, with `n` images of `channels` x 28 x 28, in the form that the engine wants.
pub fn benches(n: usize, channels: usize, form: Form) -> Vec<Case> {
    let layers = model_layers(n, channels);
    let gate = Epilogue { activation: Activation::Gate, ..Epilogue::default() };
    let most = if form == Form::Serial { 1 } else { 8 };
    let mut cases = vec![];
    for (i, &g) in layers.iter().enumerate() {
        let encoder = i < 4;
        let ((forward, depth), (backward, back_depth)): ((Conv, usize), (Conv, usize)) = if encoder
        {
            ((conv_y, g.cx), (conv_x, g.cy))
        } else {
            ((conv_x, g.cy), (conv_y, g.cx))
        };
        let last = Epilogue { activation: Activation::Sigmoid, ..RELU };
        cases.push(forward(g, false, if i == 7 { last } else { RELU }, slices(depth, most / 4)));
        if i > 0 {
            cases.push(backward(g, !encoder, gate, slices(back_depth, most / 2)));
        }
        let splits = if form == Form::Serial { (1, 1) } else { (4, slices(n, 4)) };
        let end = if encoder { End::Y } else { End::X };
        cases.push(conv_w(g, !encoder, Some(end), splits));
        if !encoder {
            cases.extend([image_grad(g, false), image_grad(g, true)]);
            cases.push(image_cos(score::blocks(&g), n, i - 4));
        }
    }
    let widest = layers[1].x_len();
    cases.extend(Map::ALL.map(|member| map(member, widest)));
    cases.extend([copy(widest), fill(widest, 0.5), widen(widest), narrow(widest)]);
    let (bias, whole) = ([1, 1, 32, 1], [15, 15, 32, n]);
    cases.extend([broadcast(bias, whole), sum_to(bias, whole)]);
    cases.extend(mse(784 * channels, n));
    let decoder: Vec<(usize, usize)> = layers[4..].iter().map(|g| (g.w_len(), 4)).collect();
    cases.push(sum_pieces(&decoder));
    cases.extend(constraint(&decoder, 1.0, 3));
    let reference = decoder.iter().map(|part| part.0).sum();
    let weights: Vec<(usize, usize)> = layers.iter().map(|g| (g.w_len(), 4)).collect();
    cases.push(adam(&weights, reference, false));
    cases.extend([gather(784 * channels, n), record(&[(1, 13), (20, 1)], 0, 22)]);
    cases.push(noise(576, n, 0));
    cases
}
