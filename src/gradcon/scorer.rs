//! Scoring: each image by its own gradient, a whole batch at a time, any number of images in bounded memory.

use super::batches::{Batches, Reading, padded};
use super::detector::Detector;
use super::model::{IMAGE_SIZE, Model};
use super::objective::score_step;
use crate::engine::{Data, Engine, Loaded};
use crate::program::Program;
use crate::program::compile::{Options, compile};
use crate::tape::{Batch, Tape};
use crate::{Error, Result};

/// One image's score and what it is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// `mse - beta * mean of the cosines`: higher is more anomalous. (The paper's score with the other sign.)
    pub score: f64,
    /// L_rec of the image.
    pub mse: f64,
    /// Mean of the cosines.
    pub cos: f64,
    /// Cosine between the image's own gradient and the reference, for each decoder layer.
    pub cosines: Vec<f64>,
}

/// Images in a batch, and batches that are scored between two transfers.
const BATCH: usize = 64;
const STEPS: usize = 16;

/// Scores images with one detector on an engine, which it has to itself.
pub struct Scorer<'e> {
    engine: &'e mut dyn Engine,
    pixels: usize,
    layers: usize,
    beta: f64,
    score: Loaded,
    reconstruct: Loaded,
}

/// The program that scores a batch of `batch` resident images: for engines, and for people to look at.
pub fn score_program(model: &Model, batch: usize, steps: usize, options: Options) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), padded(batch)];
    let batch = tape.batch(Batch { name: "score".into(), images: batch * steps, steps }, shape);
    score_step(&mut tape, model, batch, "score", steps);
    compile("score", &tape, options)
}

fn reconstruction_program(model: &Model, options: Options) -> Program {
    let mut tape = Tape::new();
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), BATCH];
    let (x, _) = tape.batch(Batch { name: "score".into(), images: BATCH * STEPS, steps: STEPS }, shape);
    let reconstruction = model.forward(&mut tape, x).reconstruction;
    tape.label("log");
    tape.record(reconstruction, "reconstruction.log", 0, shape.iter().product(), STEPS);
    compile("reconstruct", &tape, options)
}

impl<'e> Scorer<'e> {
    /// Loads the detector onto the engine. Errors: a device that can't hold the program; a description with a senseless beta.
    pub fn new(engine: &'e mut dyn Engine, detector: &Detector) -> Result<Scorer<'e>> {
        engine.clear();
        let beta = detector.beta()?;
        let options = Options { replicas: 1, workgroups: engine.workgroups() };
        let score = engine.load(&score_program(&detector.model, BATCH, STEPS, options))?;
        let reconstruct = engine.load(&reconstruction_program(&detector.model, options))?;
        engine.write("params", Data::F32(&detector.params))?;
        engine.write("reference", Data::F32(&detector.reference))?;
        let batches = Batches::new(
            &[Reading { order: (0..(BATCH * STEPS) as u32).collect(), iterations: 0 }],
            BATCH,
            |_| 1.0,
            (0.9, 0.999),
        );
        engine.write("score.indices", Data::U32(&batches.indices))?;
        engine.write("score.schedule", Data::F64(&batches.schedule))?;
        Ok(Scorer {
            engine,
            pixels: detector.model.pixels(),
            layers: detector.model.segments().len(),
            beta,
            score,
            reconstruct,
        })
    }

    /// Scores images, bytes `[n, 28, 28, channels]`, in order.
    ///
    /// Errors: a length that is no whole number of images; a device failure; a score that is no finite number.
    pub fn score(&mut self, images: &[u8]) -> Result<Vec<Score>> {
        let mut scores = Vec::with_capacity(images.len() / self.pixels);
        for (chunk, steps) in self.chunks(images)? {
            let log = self.run(self.score, chunk, steps, "score.log")?;
            for row in log.chunks_exact((1 + self.layers) * BATCH).take(steps) {
                for i in 0..BATCH {
                    let cosines: Vec<f64> = (1..=self.layers).map(|layer| row[layer * BATCH + i]).collect();
                    let (mse, cos) = (row[i], cosines.iter().sum::<f64>() / self.layers as f64);
                    scores.push(Score { score: mse - self.beta * cos, mse, cos, cosines });
                }
            }
            scores.truncate(scores.len() - (steps * BATCH - chunk.len() / self.pixels));
        }
        match scores.iter().position(|s| !s.score.is_finite()) {
            Some(i) => Err(Error::invalid(format!(
                "image {i}: its score is {} (mse {}, cosine {})",
                scores[i].score, scores[i].mse, scores[i].cos
            ))),
            None => Ok(scores),
        }
    }

    /// Reconstructions of images, both `[n, 28, 28, channels]`; values in (0, 1).
    pub fn reconstruct(&mut self, images: &[u8]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(images.len());
        for (chunk, steps) in self.chunks(images)? {
            let log = self.run(self.reconstruct, chunk, steps, "reconstruction.log")?;
            for i in 0..chunk.len() / self.pixels {
                let row = &log[i / BATCH * self.pixels * BATCH..];
                all.extend((0..self.pixels).map(|p| row[p * BATCH + i % BATCH] as f32));
            }
        }
        Ok(all)
    }

    /// Chunks that fit the device's dataset, with the steps that each takes.
    fn chunks<'i>(&self, images: &'i [u8]) -> Result<Vec<(&'i [u8], usize)>> {
        if !images.len().is_multiple_of(self.pixels) {
            return Err(Error::invalid(format!(
                "{} bytes are no whole number of images of {} bytes",
                images.len(),
                self.pixels
            )));
        }
        let steps = |chunk: &[u8]| (chunk.len() / self.pixels).div_ceil(BATCH);
        Ok(images.chunks(BATCH * STEPS * self.pixels).map(|chunk| (chunk, steps(chunk))).collect())
    }

    fn run(&mut self, program: Loaded, chunk: &[u8], steps: usize, log: &str) -> Result<Vec<f64>> {
        // The last chunk is filled up with black images; their scores are dropped.
        let mut data = chunk.to_vec();
        data.resize(BATCH * STEPS * self.pixels, 0);
        self.engine.write("score.data", Data::U8(&data))?;
        self.engine.run(program, 0..steps as u32)?;
        self.engine.read(log)
    }
}
