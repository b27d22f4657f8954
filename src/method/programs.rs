//! The programs of training and scoring, each a recorded step that is compiled: for engines, and
//! for people to look at.

use super::config::TrainConfig;
use super::feed::{log, padded, source};
use super::model::{IMAGE_SIZE, Model};
use super::objective::{score_step, training_step, validation_step};
use crate::layout::size;
use crate::program::{Options, Program, compile};
use crate::tape::Tape;

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
    let mut tape = Tape::new();
    tape.label("batch");
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(config.batch_size)];
    let batch = tape.batch(source("train", images, steps), shape);
    training_step(&mut tape, model, batch, config.alpha, config.adam, "train", steps);
    compile("train", &tape, options)
}

/// The program of a validation step: losses without an update. Shown at [`training_program`].
pub fn validation_program(
    model: &Model,
    config: &TrainConfig,
    images: usize,
    steps: usize,
    options: Options,
) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(config.batch_size)];
    let batch = tape.batch(source("validation", images, steps), shape);
    validation_step(&mut tape, model, batch, config.alpha, "validation", steps);
    compile("validation", &tape, options)
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
    let mut tape = Tape::new();
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(config.batch_size)];
    let (x, _) = tape.batch(source("validation", images, steps), shape);
    let reconstruction = model.forward(&mut tape, x).reconstruction;
    tape.record(reconstruction, &log("preview"), 0, size(shape), 1);
    compile("preview", &tape, options)
}

/// The program that scores a batch of `batch` resident images in each of `steps` steps.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::programs::{reconstruction_program, score_program};
/// use gradcon::program::Options;
///
/// let (model, options) = (Model::new(1), Options::default());
/// let score = score_program(&model, 64, 16, options);
/// let reconstruct = reconstruction_program(&model, 64, 16, options);
/// assert!(score.calls.iter().any(|call| call.kernel.name() == "image_cos"));
/// assert!(score.calls.len() > reconstruct.calls.len());
/// ```
pub fn score_program(model: &Model, batch: usize, steps: usize, options: Options) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(batch)];
    let batch = tape.batch(source("score", batch * steps, steps), shape);
    score_step(&mut tape, model, batch, "score", steps);
    compile("score", &tape, options)
}

/// The program that reconstructs the same batches. Shown at [`score_program`].
pub fn reconstruction_program(
    model: &Model,
    batch: usize,
    steps: usize,
    options: Options,
) -> Program {
    let mut tape = Tape::new();
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(batch)];
    let (x, _) = tape.batch(source("score", batch * steps, steps), shape);
    let reconstruction = model.forward(&mut tape, x).reconstruction;
    tape.label("log");
    tape.record(reconstruction, &log("reconstruct"), 0, size(shape), steps);
    compile("reconstruct", &tape, options)
}
