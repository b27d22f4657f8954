//! The programs of training and scoring, each a recorded step that is compiled: for engines, and
//! for people to look at.

use super::config::TrainConfig;
use super::feed::{BEST_PARAMS, BEST_REFERENCE, log, padded, source};
use super::model::Model;
use super::objective::{Terms, loss_scale, training_step, validation_step};
use super::readout::Wanted;
use super::readout::step::{fit_step, score_step};
use crate::kernels::Element;
use crate::layout::size;
use crate::program::{Buffer, Options, Precision, Program, compile};
use crate::tape::ops::Source;
use crate::tape::{Tape, Tensor};

/// The program of a training step on a resident dataset of `images` images, an epoch of at most
/// `steps` steps.
///
/// ```
/// use gradcon::method::programs::{preview_program, training_program, validation_program};
/// use gradcon::program::{Options, Program};
/// use gradcon::{Model, TrainConfig};
///
/// let (model, config, options) = (Model::new(1), TrainConfig::default(), Options::default());
/// let train = training_program(&model, &config, 1000, 16, options);
/// let validate = validation_program(&model, &config, 100, 2, options);
/// let preview = preview_program(&model, &config, 100, 2, options);
/// let last = |program: &Program| program.calls.last().unwrap().kernel.name();
/// assert_eq!([&train, &validate, &preview].map(last), ["adam", "record", "record"]);
/// assert!(train.cost().flops > 2 * validate.cost().flops);
/// ```
pub fn training_program(
    model: &Model,
    config: &TrainConfig,
    images: usize,
    steps: usize,
    options: Options,
) -> Program {
    let (terms, batch) = (terms(model, config, options), config.batch_size);
    on_batches("train", source("train", images, steps), model, batch, options, |tape, batch| {
        training_step(tape, model, batch, terms, config.adam, "train", steps);
    })
}

fn terms(model: &Model, config: &TrainConfig, options: Options) -> Terms {
    let scale = loss_scale(options.precision, model.shape(config.batch_size));
    // Where no replica has a constraint the step is without it; else each has its own alpha.
    let alpha = (config.alpha == 0.0).then_some(0.0);
    Terms { alpha, kl_weight: config.kl_weight, scale }
}

/// The program of a validation step: losses without an update. Shown at [`training_program`].
pub fn validation_program(
    model: &Model,
    config: &TrainConfig,
    images: usize,
    steps: usize,
    options: Options,
) -> Program {
    let (from, terms) = (source("validation", images, steps), terms(model, config, options));
    on_batches("validation", from, model, config.batch_size, options, |tape, batch| {
        validation_step(tape, model, batch, terms, "validation", steps);
    })
}

/// The program that reconstructs each model's first validation batch. Shown at
/// [`training_program`].
pub fn preview_program(
    model: &Model,
    config: &TrainConfig,
    images: usize,
    steps: usize,
    options: Options,
) -> Program {
    let from = source("validation", images, steps);
    on_batches("preview", from, model, config.batch_size, options, |tape, (x, _)| {
        reconstruct(tape, model, x, "preview", 1);
    })
}

/// No calls, only memory: each model's best epoch, for the device to copy it to.
///
/// ```
/// use gradcon::Model;
/// use gradcon::engine::cpu;
/// use gradcon::method::feed::{BEST_PARAMS, BEST_REFERENCE};
/// use gradcon::method::programs::best_program;
///
/// let (model, mut engine) = (Model::new(1), cpu::f32());
/// engine.load(&best_program(&model, 2))?;
/// assert_eq!(engine.read_f32(BEST_PARAMS)?, vec![0.0; 2 * model.len()]);
/// assert_eq!(engine.read_f32(BEST_REFERENCE)?.len(), 2 * model.reference_len());
/// # Ok::<(), gradcon::Error>(())
/// ```
pub fn best_program(model: &Model, replicas: usize) -> Program {
    let buffer = |name: &str, len| Buffer {
        name: name.into(),
        element: Element::Float,
        len,
        replicated: true,
        persistent: true,
    };
    let buffers =
        vec![buffer(BEST_PARAMS, model.len()), buffer(BEST_REFERENCE, model.reference_len())];
    Program { name: "best".into(), replicas, buffers, calls: vec![] }
}

/// The program that scores a batch of `batch` resident images in each of `steps` steps as the paper
/// does.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::programs::{
///     fit_program, measuring_program, reconstruction_program, score_program,
/// };
/// use gradcon::method::readout::Wanted;
/// use gradcon::program::Options;
///
/// let (model, options) = (Model::new(1), Options::default());
/// let score = score_program(&model, 64, 16, options);
/// let reconstruct = reconstruction_program(&model, 64, 16, options);
/// assert!(score.calls.iter().any(|call| call.kernel.name() == "image_cos"));
/// assert!(score.calls.len() > reconstruct.calls.len());
/// let all = measuring_program(&model, Wanted::all(&model), 64, 16, options);
/// assert!(all.calls.len() > score.calls.len());
/// let fit = fit_program(&model, 64, 16, options);
/// assert!(fit.calls.iter().any(|call| call.kernel.name() == "conv_w"));
/// ```
pub fn score_program(model: &Model, batch: usize, steps: usize, options: Options) -> Program {
    measuring_program(model, Wanted::default(), batch, steps, options)
}

/// The program that measures more of the same batches. Shown at [`score_program`].
pub fn measuring_program(
    model: &Model,
    wanted: Wanted,
    batch: usize,
    steps: usize,
    options: Options,
) -> Program {
    let from = source("score", batch * steps, steps);
    let scale = score_scale(model, options.precision);
    on_batches("score", from, model, batch, options, |tape, batch| {
        score_step(tape, model, batch, wanted, scale, "score", steps);
    })
}

/// The loss scale of images that are each their own batch.
pub(super) fn score_scale(model: &Model, precision: Precision) -> f64 {
    loss_scale(precision, model.shape(1))
}

/// The program that reads from batches what statistics are made of. Shown at [`score_program`].
pub fn fit_program(model: &Model, batch: usize, steps: usize, options: Options) -> Program {
    let from = source("fit", batch * steps, steps);
    on_batches("fit", from, model, batch, options, |tape, batch| {
        fit_step(tape, model, batch, "fit", steps);
    })
}

/// The program that reconstructs the same batches. Shown at [`score_program`].
pub fn reconstruction_program(
    model: &Model,
    batch: usize,
    steps: usize,
    options: Options,
) -> Program {
    let from = source("score", batch * steps, steps);
    on_batches("reconstruct", from, model, batch, options, |tape, (x, _)| {
        reconstruct(tape, model, x, "reconstruct", steps);
    })
}

/// The program `name` of what `record` does with a batch, its images `[size, size, channels, n]` and
/// their weights `[1, 1, 1, n]`.
fn on_batches(
    name: &str,
    from: Source,
    model: &Model,
    batch_size: usize,
    options: Options,
    record: impl FnOnce(&mut Tape, (Tensor, Tensor)),
) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let batch = tape.batch(from, model.shape(padded(batch_size)));
    record(&mut tape, batch);
    compile(name, &tape, options)
}

/// Records the reconstruction of a batch in the log of `name`.
fn reconstruct(tape: &mut Tape, model: &Model, x: Tensor, name: &str, steps: usize) {
    let reconstruction = model.forward(tape, x, None).reconstruction;
    tape.label("log");
    tape.record(reconstruction, &log(name), 0, size(tape.shape(x)), steps);
}
