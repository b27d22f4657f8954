//! What is computed in a training step and a validation step, recorded on a tape.
//!
//! ```text
//! L_rec  = mean squared error of the batch
//! g_i    = dL_rec / dW_i                          the constrained (decoder's) weights
//! L_grad = -mean over i of cos(g_i, r_i)          r_i: running mean of dL/dW_i over all iterations
//! L_KL   = mean over images of KL(N(m, s^2) || N(0, I)) / D
//! L      = L_rec + alpha L_grad + kl_weight L_KL
//! ```
//!
//! dL/dtheta needs the derivative of g_i: the tape differentiates its own first sweep.
//!
//! L_KL is there for variational models, with m and s^2 the mean and variance of an image's latent
//! variable and D the number of values of an image, by which the squared error is divided, too.
//! With a decoder that is right up to a normal error of variance v in every value, the logarithm of
//! an image's likelihood is at least `-(D / 2v) (L_rec + 2v L_KL)` and a constant: kl_weight is 2v.
//!
//! In training the latent variable is drawn, `m + s noise`; in validation and scores it is m.
//!
//! In half precision gradients are those of S L (and g_i those of S L_rec), with a loss scale S
//! that brings them into its range, and are divided by S where they are used. Cosines don't change.

use super::config::TrainConfig;
use super::feed::{ALPHA, ALPHA_TERMS, REFERENCE, adam_buffers, draws, log};
use super::model::{Forward, Kind, Latent, Model};
use crate::layout::{SCALAR, Stat, Stats, flat, size};
use crate::program::Precision;
use crate::tape::ops::AdamConfig;
use crate::tape::{Tape, Tensor};

/// What an objective is made with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Terms {
    /// Weight of the gradient constraint in the loss; `None`: each replica's own, which the buffer
    /// [`ALPHA`] holds. Without a constraint (0) there is no second sweep.
    pub alpha: Option<f64>,
    /// Weight of the KL divergence in the loss of a variational model.
    pub kl_weight: f64,
    /// The loss scale S.
    pub scale: f64,
}

impl Default for Terms {
    /// The defaults of a training in f32.
    fn default() -> Terms {
        let TrainConfig { kl_weight, .. } = TrainConfig::default();
        Terms { alpha: None, kl_weight, scale: 1.0 }
    }
}

/// The loss scale S of a batch x `[h, w, c, n]` whose images weigh 1/n, or of images that are each
/// their own batch if they weigh 1: 1 in f32. In half precision the power of two at or above the
/// number of pixels that L_rec is a mean over: its gradient in each of them is then a difference of
/// brightness, times at most 4.
///
/// ```
/// use gradcon::method::objective::loss_scale;
/// use gradcon::program::Precision;
///
/// assert_eq!(loss_scale(Precision::F32, [28, 28, 1, 64]), 1.0);
/// assert_eq!(loss_scale(Precision::F16, [28, 28, 1, 64]), 65536.0); // 50176 pixels
/// assert_eq!(loss_scale(Precision::F16, [28, 28, 1, 1]), 1024.0);
/// ```
pub fn loss_scale(precision: Precision, shape: [usize; 4]) -> f64 {
    match precision {
        Precision::F32 => 1.0,
        Precision::F16 => size(shape).next_power_of_two() as f64,
    }
}

/// The nodes of the training objective.
#[derive(Clone, Debug)]
pub struct Objective {
    /// The forward pass.
    pub forward: Forward,
    /// L_rec, a scalar.
    pub mse: Tensor,
    /// L_grad, a scalar.
    pub constraint: Tensor,
    /// L_KL, a scalar, of a variational model.
    pub divergence: Option<Tensor>,
    /// The constraint's sums and cosines ([`Stats`]).
    pub stats: Tensor,
    /// All S g_i in the flat layout of the reference gradients.
    pub gradients: Tensor,
    /// L, a scalar.
    pub loss: Tensor,
    /// S.
    pub scale: f64,
}

/// Records L for a batch x `[size, size, c, n]` whose images weigh `weight` `[1, 1, 1, n]`, with a
/// noise for the latent variable of a variational model (see [`Model::forward`]).
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::objective::{Terms, objective, parameter_gradient};
/// use gradcon::tape::Tape;
///
/// let (model, mut tape) = (Model::new(1), Tape::new());
/// let x = tape.leaf("x", [28, 28, 1, 16]);
/// let weight = tape.fill([1, 1, 1, 16], 1.0 / 16.0);
/// let objective = objective(&mut tape, &model, (x, weight), None, Terms::default());
/// assert_eq!(tape.shape(objective.loss), [1; 4]);
/// let gradient = parameter_gradient(&mut tape, &model, &objective);
/// assert_eq!(tape.shape(gradient), [1, 1, 1, model.len()]);
/// ```
pub fn objective(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    noise: Option<Tensor>,
    Terms { alpha, kl_weight, scale }: Terms,
) -> Objective {
    let forward = model.forward(tape, x, noise);
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    let weights: Vec<Tensor> = forward.constrained.iter().map(|l| l.weight).collect();
    let scaled = tape.affine(mse, scale, 0.0);
    let g = tape.grad(scaled, &weights);
    tape.label("constraint");
    let segments = model.segments();
    let parts: Vec<(Tensor, usize)> =
        g.iter().zip(&segments).map(|(&g, s)| (g, s.offset)).collect();
    let gradients = tape.concat(&parts, model.reference_len());
    let reference = tape.leaf(REFERENCE, [1, 1, 1, model.reference_len()]);
    let stats = tape.constraint_stats(gradients, reference, &segments);
    let constraint = tape.constraint(gradients, reference, &segments);
    let weighted = match alpha {
        Some(alpha) => tape.affine(constraint, alpha, 0.0),
        None => {
            let terms = tape.leaf(ALPHA, flat(ALPHA_TERMS));
            let alpha = tape.sum_to(terms, SCALAR);
            tape.mul(constraint, alpha)
        }
    };
    let mut loss = tape.add(mse, weighted);
    let divergence = forward.latent.map(|latent| {
        tape.label("divergence");
        let each = image_divergence(tape, latent);
        let each = tape.affine(each, 1.0 / model.pixels() as f64, 0.0);
        tape.dot(each, weight)
    });
    if let Some(divergence) = divergence {
        let weighted = tape.affine(divergence, kl_weight, 0.0);
        loss = tape.add(loss, weighted);
    }
    Objective { forward, mse, constraint, divergence, stats, gradients, loss, scale }
}

/// `KL(N(m, s^2) || N(0, I)) = 1/2 sum over features of m^2 + s^2 - 1 - ln s^2` of each image,
/// `[1, 1, 1, n]`, in nats.
pub(super) fn image_divergence(tape: &mut Tape, latent: Latent) -> Tensor {
    let Latent { mean, log_variance, deviation } = latent;
    let (square, variance) = (tape.mul(mean, mean), tape.mul(deviation, deviation));
    let sum = tape.add(square, variance);
    let less = tape.affine(log_variance, 1.0, 1.0);
    let twice = tape.sub(sum, less);
    let of_feature = tape.affine(twice, 0.5, 0.0);
    let n = tape.shape(mean)[3];
    tape.sum_to(of_feature, flat(n))
}

/// dL/dtheta for every parameter, in the flat layout of the parameters. Shown at [`objective`].
pub fn parameter_gradient(tape: &mut Tape, model: &Model, objective: &Objective) -> Tensor {
    let scaled = tape.affine(objective.loss, objective.scale, 0.0);
    let gradients = tape.grad(scaled, &objective.forward.params);
    let mut parts: Vec<(Tensor, usize)> =
        gradients.into_iter().zip(model.params()).map(|(g, p)| (g, p.offset)).collect();
    parts.sort_by_key(|part| part.1);
    tape.label("gradient");
    let scaled = tape.concat(&parts, model.len());
    tape.affine(scaled, 1.0 / objective.scale, 0.0)
}

/// The rows of the log of a model's steps: L_rec, the constraint's stats with L_grad and each
/// constrained layer's cosine and, of a variational model, L_KL.
///
/// ```
/// use gradcon::Model;
/// use gradcon::layout::{Stat, Stats};
/// use gradcon::method::model::Kind;
/// use gradcon::method::objective::{Logged, StepLog};
///
/// let log = StepLog::of(&Model::of(Kind::Vae, 1)?);
/// let mut row = vec![0.0; log.width()];
/// row[0] = 0.25; // L_rec; behind it lie the constraint's stats
/// row[1 + Stats::CONSTRAINT] = -0.5;
/// row[1 + Stats::at(2, Stat::Cos)] = 0.9;
/// row[log.width() - 1] = 0.125; // L_KL
/// let cosines = vec![0.0, 0.0, 0.9, 0.0];
/// assert_eq!(log.parse(&row), Logged { mse: 0.25, constraint: -0.5, divergence: 0.125, cosines });
/// assert_eq!(StepLog::of(&Model::new(1)).width(), log.width() - 1);
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepLog {
    layers: usize,
    variational: bool,
}

/// What a step logs.
#[derive(Clone, PartialEq, Debug)]
pub struct Logged {
    /// L_rec.
    pub mse: f64,
    /// L_grad.
    pub constraint: f64,
    /// L_KL; 0 for a model that isn't variational.
    pub divergence: f64,
    /// Cosine of each constrained layer.
    pub cosines: Vec<f64>,
}

impl StepLog {
    /// Of a model. Shown at [`StepLog`].
    pub fn of(model: &Model) -> StepLog {
        StepLog { layers: model.segments().len(), variational: model.kind() == Kind::Vae }
    }

    /// Elements of a row. Shown at [`StepLog`].
    pub fn width(&self) -> usize {
        self.divergence() + usize::from(self.variational)
    }

    /// Where L_KL is.
    fn divergence(&self) -> usize {
        1 + Stats::len(self.layers)
    }

    /// The values of a row. Shown at [`StepLog`].
    pub fn parse<T: Copy + Into<f64>>(&self, row: &[T]) -> Logged {
        let stats = &row[1..];
        let cosine = |layer| stats[Stats::at(layer, Stat::Cos)].into();
        Logged {
            mse: row[0].into(),
            constraint: stats[Stats::CONSTRAINT].into(),
            divergence: row.get(self.divergence()).map_or(0.0, |&v| v.into()),
            cosines: (0..self.layers).map(cosine).collect(),
        }
    }
}

fn record_losses(tape: &mut Tape, model: &Model, objective: &Objective, log: &str, steps: usize) {
    tape.label("log");
    let row = StepLog::of(model);
    tape.record(objective.mse, log, 0, row.width(), steps);
    tape.record(objective.stats, log, 1, row.width(), steps);
    if let Some(divergence) = objective.divergence {
        tape.record(divergence, log, row.divergence(), row.width(), steps);
    }
}

/// A training step on the batch x: losses to `log`, then the update of parameters and references.
/// The latent variable of a variational model is drawn anew in every step.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::feed::source;
/// use gradcon::method::objective::{Terms, training_step, validation_step};
/// use gradcon::tape::{Tape, ops::AdamConfig};
///
/// let (model, mut tape) = (Model::new(1), Tape::new());
/// let terms = Terms::default();
/// let sinks = |tape: &Tape| tape.nodes().iter().filter(|node| node.op.is_sink()).count();
/// let batch = tape.batch(source("train", 1000, 16), [28, 28, 1, 64]);
/// training_step(&mut tape, &model, batch, terms, AdamConfig::default(), "train", 16);
/// assert_eq!(sinks(&tape), 3); // two parts of the log, and Adam
///
/// let mut tape = Tape::new();
/// let batch = tape.batch(source("validation", 100, 2), [28, 28, 1, 64]);
/// validation_step(&mut tape, &model, batch, terms, "validation", 2);
/// assert_eq!(sinks(&tape), 2);
/// ```
pub fn training_step(
    tape: &mut Tape,
    model: &Model,
    batch: (Tensor, Tensor),
    terms: Terms,
    adam: AdamConfig,
    name: &str,
    steps: usize,
) -> Objective {
    let noise = (model.kind() == Kind::Vae).then(|| {
        tape.label("latent");
        tape.noise(&draws(name), [1, 1, model.latent_len(), tape.shape(batch.1)[3]], 0, steps)
    });
    let objective = objective(tape, model, batch, noise, terms);
    record_losses(tape, model, &objective, &log(name), steps);
    let gradient = parameter_gradient(tape, model, &objective);
    tape.label("update");
    tape.adam(gradient, adam_buffers(name, model, steps), adam);
    objective
}

/// The same losses without an update. Shown at [`training_step`].
pub fn validation_step(
    tape: &mut Tape,
    model: &Model,
    batch: (Tensor, Tensor),
    terms: Terms,
    name: &str,
    steps: usize,
) {
    let objective = objective(tape, model, batch, None, terms);
    record_losses(tape, model, &objective, &log(name), steps);
}
