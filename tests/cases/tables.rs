//! The tables: every kernel at awkward sizes for the tests, and at the model's for the benchmarks.

use gradcon::geometry::Geometry;
use gradcon::kernels::conv::{Activation, Epilogue};
use gradcon::kernels::{constraint as constraints, score};
use gradcon::tape::ops::Map;

use super::Case;
use super::build::*;
use super::geometries::{awkward, model_layers};

/// An epilogue for each number below 16, all different.
fn epilogue(i: usize) -> Epilogue {
    let activations = [Activation::Gate, Activation::None, Activation::Sigmoid, Activation::Relu];
    let activation = activations[i / 4 % 4];
    Epilogue { bias: i.is_multiple_of(2), add: (i / 2).is_multiple_of(2), activation }
}

/// A builder of a convolution's case.
type Conv = fn(Geometry, Epilogue) -> Case;

const RELU: Epilogue = Epilogue { bias: true, add: false, activation: Activation::Relu };

/// The cases of the tests.
pub fn tests() -> Vec<Case> {
    let mut cases = vec![];
    let awkward = awkward();
    for conv in [conv_y as Conv, conv_x] {
        cases.extend((0..16).map(|i| conv(awkward[0], epilogue(i))));
        let others = awkward.iter().enumerate().skip(1);
        cases.extend(others.map(|(i, &g)| conv(g, epilogue(5 * i))));
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
    for (i, g) in model_layers(3, 1).into_iter().enumerate() {
        // Encoder layers run as conv_y and are differentiated by conv_x, decoder layers the other
        // way round.
        cases.extend([conv_y(g, RELU), conv_x(g, RELU), conv_w(g, false, 2)]);
        if i >= 4 {
            cases.push(image_grad(g));
        }
    }
    for g in [model_layers(2, 3)[0], model_layers(2, 3)[7]] {
        cases.extend([
            conv_y(g, epilogue(4)),
            conv_x(g, epilogue(8)),
            conv_w(g, false, 1),
            image_grad(g),
        ]);
    }
    cases.extend([split_sum(1, 2, true), split_sum(300, 3, false), split_sum(1031, 7, true)]);

    for len in [1, 1301] {
        cases.extend(Map::ALL.map(|member| map(member, len)));
        cases.extend([copy(len), fill(len, 0.375)]);
    }
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
    for (rows, n) in [(50, 7), (16, 1), (5, 300), (784, 3)] {
        cases.extend(mse(rows, n));
    }
    cases.extend(constraint(&[1000, 1, 2500], 0.03));
    cases.extend(constraint(&[constraints::BLOCK], -2.0));
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
    let gate = Epilogue { activation: Activation::Gate, ..Epilogue::default() };
    let mut cases = vec![];
    for (i, &g) in layers.iter().enumerate() {
        let encoder = i < 4;
        let (forward, backward): (Conv, Conv) =
            if encoder { (conv_y, conv_x) } else { (conv_x, conv_y) };
        let last = Epilogue { activation: Activation::Sigmoid, ..RELU };
        cases.push(forward(g, if i == 7 { last } else { RELU }));
        if i > 0 {
            cases.push(backward(g, gate));
        }
        cases.push(conv_w(g, false, splits));
        if splits > 1 {
            cases.push(split_sum(g.w_len(), splits, false));
        }
        if !encoder {
            cases.push(image_grad(g));
            cases.push(image_cos(score::blocks(&g), n, i - 4));
        }
    }
    let widest = layers[1].x_len();
    cases.extend(Map::ALL.map(|member| map(member, widest)));
    cases.extend([copy(widest), fill(widest, 0.5)]);
    let (bias, whole) = ([1, 1, 32, 1], [15, 15, 32, n]);
    cases.extend([broadcast(bias, whole), sum_to(bias, whole)]);
    cases.extend(mse(784 * channels, n));
    let decoder: Vec<usize> = layers[4..].iter().map(Geometry::w_len).collect();
    cases.extend(constraint(&decoder, 0.03));
    let weights = layers.iter().map(|g| g.w_len()).sum::<usize>();
    let biases = 4 * 64 + 3 * 32 + channels;
    cases.push(adam(weights + biases, decoder.iter().sum(), 1e-3, false));
    cases.extend([gather(784 * channels, n), record(4, 0, 4)]);
    cases
}
