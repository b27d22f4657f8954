//! What a scoring step and a fitting step compute, recorded on a tape.

use super::Wanted;
use crate::geometry::Geometry;
use crate::layout::{Segment, flat, pack, size};
use crate::method::feed::{REFERENCE, log};
use crate::method::model::{Model, Recorded};
use crate::method::objective::image_divergence;
use crate::tape::ops::constraint::COSINE_EPS;
use crate::tape::{Tape, Tensor};

/// What a distance is measured by on the device: the mean, `[code_len]`, and the whitening matrix
/// over [`WHITENING_SCALE`], `[code_len, code_len]`.
pub struct Away {
    /// The mean's buffer.
    pub mean: &'static str,
    /// The matrix's.
    pub whitening: &'static str,
}

/// Of the code.
pub const CODE: Away = Away { mean: "readout.code_mean", whitening: "readout.code_whitening" };

/// Of the gradient that reaches the code, times the loss scale.
pub const CODE_GRADIENT: Away =
    Away { mean: "readout.code_gradient_mean", whitening: "readout.code_gradient_whitening" };

/// What is whitened is divided by it on the device, so that their squares fit half precision.
pub const WHITENING_SCALE: f64 = 32.0;

/// The statistics' mean gradient of the encoder's weights, flat ([`encoder_layout`]).
pub const ENCODER_REFERENCE: &str = "readout.encoder_reference";

/// 1 / F of the decoder's weights, like the reference.
pub const METRIC: &str = "readout.metric";

/// m / F of the encoder's last layer, like its weight.
pub const FISHER_REFERENCE: &str = "readout.fisher_reference";

/// 1 / F of it.
pub const FISHER_METRIC: &str = "readout.fisher_metric";

/// Where the encoder's weights lie in a flat buffer of them, and its length.
pub fn encoder_layout(model: &Model) -> (Vec<usize>, usize) {
    pack(model.encoder_weights().map(|weight| weight.len()))
}

/// A scoring step on the batch x: the parts of each image ([`Wanted::parts`]), each `[n]`, as the
/// rows of its log, then, if they are wanted, the codes `[code_len, n]`. Each image counts with its own gradient, times the loss scale; none of these
/// gradients is ever in memory. Returns the reconstruction.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::feed::source;
/// use gradcon::method::readout::{Wanted, step::score_step};
/// use gradcon::tape::Tape;
///
/// let (mut tape, model) = (Tape::new(), Model::new(1));
/// let batch = tape.batch(source("score", 128, 2), [28, 28, 1, 64]);
/// let wanted = Wanted { code: true, ..Wanted::default() };
/// let reconstruction = score_step(&mut tape, &model, batch, wanted, 1.0, "score", 2);
/// assert_eq!(tape.shape(reconstruction), [28, 28, 1, 64]);
/// let sinks = tape.nodes().iter().filter(|node| node.op.is_sink());
/// assert_eq!(sinks.count(), 1 + 4 + 1); // the errors, four layers' cosines, and the distance
/// ```
pub fn score_step(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    wanted: Wanted,
    scale: f64,
    name: &str,
    steps: usize,
) -> Tensor {
    let n = tape.shape(x)[3];
    let forward = model.forward(tape, x, None);
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    // The gradient of each layer's sums: the weight gradient's other factor.
    let encoder_layers: &[Recorded] = match wanted {
        Wanted { encoder: true, .. } | Wanted { fisher: true, .. } => &forward.encoder,
        _ => &[],
    };
    let layers = [&forward.constrained[..], encoder_layers];
    let sums: Vec<Tensor> = layers.concat().iter().map(|layer| layer.sum).collect();
    let code = [forward.code];
    let code = if wanted.code_gradient { &code[..] } else { &[] };
    let scaled = tape.affine(mse, scale, 0.0);
    let gradients = tape.grad(scaled, &[&sums, code].concat());
    let (sums, code_gradient) = gradients.split_at(sums.len());
    let (decoder, encoder) = sums.split_at(forward.constrained.len());
    let image_mse = tape.image_mse(forward.reconstruction, x);
    tape.label("score");
    let numbers = if wanted.vectors { model.code_len() } else { 0 };
    let width = (wanted.parts(model).len() + numbers) * n;
    let mut rows = Rows { log: log(name), next: 0, width, steps };
    rows.record(tape, image_mse);
    let segments = model.segments();
    let reference = tape.leaf(REFERENCE, [1, 1, 1, model.reference_len()]);
    let stats = tape.constraint_stats(reference, reference, &segments);
    let geometries = model.constrained_geometries(n);
    // A transposed convolution's output is the larger end x.
    let ends: Vec<(Tensor, Tensor)> =
        decoder.iter().zip(&forward.constrained).map(|(&sum, layer)| (sum, layer.input)).collect();
    for (i, geometry) in geometries.iter().enumerate() {
        let r = tape.slice(reference, segments[i].offset, geometry.w_shape());
        let cos = tape.image_cos(*geometry, ends[i], r, (stats, i));
        rows.record(tape, cos);
    }
    if let Some(latent) = forward.latent.filter(|_| wanted.divergence) {
        tape.label("divergence");
        let divergence = image_divergence(tape, latent);
        rows.record(tape, divergence);
    }
    if wanted.code {
        tape.label("code");
        let distance = distance(tape, model, forward.code, CODE);
        rows.record(tape, distance);
    }
    for &gradient in code_gradient {
        tape.label("code gradient");
        let distance = distance(tape, model, gradient, CODE_GRADIENT);
        rows.record(tape, distance);
    }
    if wanted.norms {
        tape.label("norms");
        let metric = tape.leaf(METRIC, [1, 1, 1, model.reference_len()]);
        let squares = (0..segments.len()).map(|i| {
            let r = tape.slice(metric, segments[i].offset, geometries[i].w_shape());
            tape.image_squares(geometries[i], ends[i], r)
        });
        let squares: Vec<Tensor> = squares.collect();
        let total = squares[1..].iter().fold(squares[0], |sum, &next| tape.add(sum, next));
        rows.record(tape, total);
    }
    if wanted.fisher {
        tape.label("fisher");
        let cos = fisher_cosine(tape, model, &forward.encoder, encoder);
        rows.record(tape, cos);
    }
    if wanted.encoder {
        tape.label("encoder");
        encoder_cosines(tape, model, &forward.encoder, encoder, &mut rows);
    }
    if wanted.vectors {
        tape.label("code itself");
        rows.record(tape, forward.code);
    }
    forward.reconstruction
}

/// `|W (v - m)|^2` of each image's `code_len` numbers v, over the square of [`WHITENING_SCALE`].
fn distance(tape: &mut Tape, model: &Model, v: Tensor, Away { mean, whitening }: Away) -> Tensor {
    let (len, n) = (model.code_len(), tape.shape(v)[3]);
    let mean = tape.leaf(mean, [1, 1, len, 1]);
    let matrix = tape.leaf(whitening, [1, 1, len, len]);
    let mean = tape.broadcast(mean, [1, 1, len, n]);
    let v = tape.reshape(v, [1, 1, len, n]);
    let away = tape.sub(v, mean);
    let geometry = Geometry::conv2d(n, (len, 1, 1), len, (1, 1), 1, 0);
    let white = tape.conv_y(geometry, away, matrix);
    let squares = tape.mul(white, white);
    tape.sum_to(squares, flat(n))
}

/// The cosine in Fisher's metric in the encoder's last layer, over [`fisher_scale`], of each image.
fn fisher_cosine(tape: &mut Tape, model: &Model, layers: &[Recorded], sums: &[Tensor]) -> Tensor {
    let n = tape.shape(layers[0].input)[3];
    let (last, geometry) = (layers.len() - 1, model.encoder_geometries(n)[layers.len() - 1]);
    let ends = (layers[last].input, sums[last]);
    let reference = tape.leaf(FISHER_REFERENCE, flat(geometry.w_len()));
    let segment = Segment { offset: 0, len: geometry.w_len() };
    let stats = tape.constraint_stats(reference, reference, &[segment]);
    let r = tape.slice(reference, 0, geometry.w_shape());
    let cos = tape.image_cos(geometry, ends, r, (stats, 0));
    let metric = tape.leaf(FISHER_METRIC, flat(geometry.w_len()));
    let metric = tape.slice(metric, 0, geometry.w_shape());
    let squares = tape.image_squares(geometry, ends, metric);
    let squares = tape.reshape(squares, flat(2 * n));
    let (weighed, plain) = (tape.slice(squares, 0, flat(n)), tape.slice(squares, n, flat(n)));
    // |g| / |g|_F turns the plain cosine with m / F into the metric's with m.
    let inverses = [plain, weighed].map(|square| tape.inv_norm(square, COSINE_EPS));
    let norm = tape.mul(plain, inverses[0]);
    let ratio = tape.mul(norm, inverses[1]);
    tape.mul(cos, ratio)
}

/// |m / F| / |m|_F, from m and 1 / F.
pub fn fisher_scale(mean: &[f32], metric: &[f32]) -> f64 {
    let (mut reference, mut norm) = (0.0, 0.0);
    for (&m, &f) in mean.iter().zip(metric) {
        let (m, f) = (f64::from(m), f64::from(f));
        reference += (m * f).powi(2);
        norm += m * m * f;
    }
    if norm > 0.0 { (reference / norm).sqrt() } else { 0.0 }
}

fn encoder_cosines(
    tape: &mut Tape,
    model: &Model,
    layers: &[Recorded],
    sums: &[Tensor],
    rows: &mut Rows,
) {
    let (offsets, len) = encoder_layout(model);
    let segments: Vec<Segment> = model
        .encoder_weights()
        .zip(&offsets)
        .map(|(weight, &offset)| Segment { offset, len: weight.len() })
        .collect();
    let reference = tape.leaf(ENCODER_REFERENCE, [1, 1, 1, len]);
    let stats = tape.constraint_stats(reference, reference, &segments);
    let n = tape.shape(layers[0].input)[3];
    for (i, geometry) in model.encoder_geometries(n).into_iter().enumerate() {
        let r = tape.slice(reference, offsets[i], geometry.w_shape());
        let cos = tape.image_cos(geometry, (layers[i].input, sums[i]), r, (stats, i));
        rows.record(tape, cos);
    }
}

/// The rows of a log, one behind the other.
struct Rows {
    log: String,
    next: usize,
    width: usize,
    steps: usize,
}

impl Rows {
    fn record(&mut self, tape: &mut Tape, values: Tensor) {
        tape.record(values, &self.log, self.next, self.width, self.steps);
        self.next += size(tape.shape(values));
    }
}

/// A fitting step on the batch x: the gradient of L_rec in the decoder's weights, flat like the
/// reference, and in the encoder's ([`encoder_layout`]), the codes and the gradient of L_rec in
/// them, both `[code_len, n]`, as the row of its log. Returns the row's length.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::feed::source;
/// use gradcon::method::readout::step::{encoder_layout, fit_step};
/// use gradcon::tape::Tape;
///
/// let (mut tape, model) = (Tape::new(), Model::new(1));
/// let batch = tape.batch(source("fit", 128, 2), [28, 28, 1, 64]);
/// let width = fit_step(&mut tape, &model, batch, "fit", 2);
/// assert_eq!(width, model.reference_len() + encoder_layout(&model).1 + 2 * 576 * 64);
/// ```
pub fn fit_step(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    name: &str,
    steps: usize,
) -> usize {
    let forward = model.forward(tape, x, None);
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    let weights = forward.constrained.iter().chain(&forward.encoder).map(|layer| layer.weight);
    let of: Vec<Tensor> = weights.chain([forward.code]).collect();
    let gradients = tape.grad(mse, &of);
    tape.label("log");
    let (offsets, encoder_len) = encoder_layout(model);
    let head = model.reference_len();
    let places = model.segments().into_iter().map(|segment| segment.offset);
    let places = places.chain(offsets.into_iter().map(|offset| head + offset));
    let (codes_at, codes) = (head + encoder_len, size(tape.shape(forward.code)));
    let width = codes_at + 2 * codes;
    tape.record(forward.code, &log(name), codes_at, width, steps);
    for (&gradient, place) in gradients.iter().zip(places.chain([codes_at + codes])) {
        tape.record(gradient, &log(name), place, width, steps);
    }
    width
}
