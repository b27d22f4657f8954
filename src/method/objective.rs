//! What is computed in a training step, a validation step and a score, recorded on a tape.
//!
//! ```text
//! L_rec  = mean squared error of the batch
//! g_i    = dL_rec / dW_i                          the constrained (decoder's) weights
//! L_grad = -mean over i of cos(g_i, r_i)          r_i: running mean of dL/dW_i over all iterations
//! L      = L_rec + alpha L_grad
//! ```
//!
//! dL/dtheta needs the derivative of g_i: the tape differentiates its own first sweep.

use super::feed::{REFERENCE, adam_buffers, log};
use super::model::{Forward, Model};
use crate::layout::{Stat, Stats};
use crate::tape::ops::AdamConfig;
use crate::tape::{Tape, Tensor};

/// The nodes of the training objective.
#[derive(Clone, Debug)]
pub struct Objective {
    /// The forward pass.
    pub forward: Forward,
    /// L_rec, a scalar.
    pub mse: Tensor,
    /// L_grad, a scalar.
    pub constraint: Tensor,
    /// The constraint's sums and cosines ([`Stats`]).
    pub stats: Tensor,
    /// All g_i in the flat layout of the reference gradients.
    pub gradients: Tensor,
    /// L, a scalar.
    pub loss: Tensor,
}

/// Records L for a batch x `[28, 28, c, n]` whose images weigh `weight` `[1, 1, 1, n]`.
pub fn objective(
    tape: &mut Tape,
    model: &Model,
    x: Tensor,
    weight: Tensor,
    alpha: f64,
) -> Objective {
    let forward = model.forward(tape, x);
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    let weights: Vec<Tensor> = forward.constrained.iter().map(|l| l.weight).collect();
    let g = tape.grad(mse, &weights);
    tape.label("constraint");
    let segments = model.segments();
    let parts: Vec<(Tensor, usize)> =
        g.iter().zip(&segments).map(|(&g, s)| (g, s.offset)).collect();
    let gradients = tape.concat(&parts, model.reference_len());
    let reference = tape.leaf(REFERENCE, [1, 1, 1, model.reference_len()]);
    let stats = tape.constraint_stats(gradients, reference, &segments);
    let constraint = tape.constraint(gradients, reference, &segments);
    let scaled = tape.affine(constraint, alpha, 0.0);
    let loss = tape.add(mse, scaled);
    Objective { forward, mse, constraint, stats, gradients, loss }
}

/// dL/dtheta for every parameter, in the flat layout of the parameters.
pub fn parameter_gradient(tape: &mut Tape, model: &Model, objective: &Objective) -> Tensor {
    let gradients = tape.grad(objective.loss, &objective.forward.params);
    let mut parts: Vec<(Tensor, usize)> =
        gradients.into_iter().zip(model.params()).map(|(g, p)| (g, p.offset)).collect();
    parts.sort_by_key(|part| part.1);
    tape.label("gradient");
    tape.concat(&parts, model.len())
}

/// Values of a step's row in the log: L_rec, L_grad, and each constrained layer's cosine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepLog;

impl StepLog {
    /// Elements of a row for `layers` constrained layers: the mse, padding, and the constraint's stats.
    pub fn width(layers: usize) -> usize {
        1 + Stats::len(layers)
    }

    /// (mse, constraint, cosines) of a row.
    pub fn parse(row: &[f64]) -> (f64, f64, Vec<f64>) {
        let stats = &row[1..];
        let layers = (stats.len() - Stats::HEAD) / Stats::ROW;
        let cosines = (0..layers).map(|layer| stats[Stats::at(layer, Stat::Cos)]).collect();
        (row[0], stats[Stats::CONSTRAINT], cosines)
    }
}

fn record_losses(tape: &mut Tape, model: &Model, objective: &Objective, log: &str, steps: usize) {
    tape.label("log");
    let width = StepLog::width(model.segments().len());
    tape.record(objective.mse, log, 0, width, steps);
    tape.record(objective.stats, log, 1, width, steps);
}

/// A training step on the batch x: losses to `log`, then the update of parameters and references.
pub fn training_step(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    alpha: f64,
    adam: AdamConfig,
    name: &str,
    steps: usize,
) -> Objective {
    let objective = objective(tape, model, x, weight, alpha);
    record_losses(tape, model, &objective, &log(name), steps);
    let gradient = parameter_gradient(tape, model, &objective);
    tape.label("update");
    tape.adam(gradient, adam_buffers(name, model, steps), adam);
    objective
}

/// The same losses without an update.
pub fn validation_step(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    alpha: f64,
    name: &str,
    steps: usize,
) {
    let objective = objective(tape, model, x, weight, alpha);
    record_losses(tape, model, &objective, &log(name), steps);
}

/// Rows of a score's log: L_rec of each image, then for each constrained layer the cosine of each
/// image, all `[n]`. Each image counts with its own gradient; none of these gradients is ever in
/// memory.
pub fn score_step(
    tape: &mut Tape,
    model: &Model,
    (x, weight): (Tensor, Tensor),
    name: &str,
    steps: usize,
) -> Tensor {
    let n = tape.shape(x)[3];
    let forward = model.forward(tape, x);
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    // The gradient of each constrained layer's sums: the weight gradient's other factor.
    let sums: Vec<Tensor> = forward.constrained.iter().map(|l| l.sum).collect();
    let sums = tape.grad(mse, &sums);
    let image_mse = tape.image_mse(forward.reconstruction, x, weight);
    tape.label("score");
    let segments = model.segments();
    let reference = tape.leaf(REFERENCE, [1, 1, 1, model.reference_len()]);
    let stats = tape.constraint_stats(reference, reference, &segments);
    let (log, width) = (log(name), (1 + segments.len()) * n);
    tape.record(image_mse, &log, 0, width, steps);
    for (i, geometry) in model.constrained_geometries(n).into_iter().enumerate() {
        let r = tape.slice(reference, segments[i].offset, geometry.w_shape());
        let (x, y) = (sums[i], forward.constrained[i].input);
        let cos = tape.image_cos(geometry, (x, y), r, (stats, i));
        tape.record(cos, &log, (1 + i) * n, width, steps);
    }
    forward.reconstruction
}
