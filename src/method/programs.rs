//! The programs of training and scoring: for engines, and for people to look at.

use super::config::TrainConfig;
use super::feed::{log, padded, source};
use super::model::{IMAGE_SIZE, Model};
use super::objective::{score_step, training_step, validation_step};
use crate::layout::size;
use crate::program::{Options, Program, compile};
use crate::tape::Tape;

/// The program of a training step on a resident dataset: for engines, and for people to look at.
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

/// The program of a validation step: losses without an update.
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

/// Reconstructions of each model's first validation batch.
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

/// The program that scores a batch of `batch` resident images: for engines, and for people to look
/// at.
pub fn score_program(model: &Model, batch: usize, steps: usize, options: Options) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(batch)];
    let batch = tape.batch(source("score", batch * steps, steps), shape);
    score_step(&mut tape, model, batch, "score", steps);
    compile("score", &tape, options)
}

/// The program that reconstructs the same batches.
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
