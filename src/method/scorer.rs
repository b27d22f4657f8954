//! Scoring: each image by its own gradient, a whole batch at a time, any number of images in
//! bounded memory.

use super::detector::Detector;
use super::feed::{Batches, Feed, Reading, log};
use super::model::Model;
use super::programs::{reconstruction_program, score_program};
use crate::engine::{Engine, Loaded};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::program::{Options, Precision};

/// One image's score and what it is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// `mse - beta * mean of the cosines`: higher is more anomalous. (The paper's score with the
    /// other sign.)
    pub score: f64,
    /// L_rec of the image.
    pub mse: f64,
    /// Mean of the cosines.
    pub cos: f64,
    /// Cosine between the image's own gradient and the reference, for each constrained layer.
    pub cosines: Vec<f64>,
}

impl Score {
    /// What to say of a score that is no finite number.
    pub(crate) fn not_finite(&self) -> String {
        format!("its score is {} (mse {}, cosine {})", self.score, self.mse, self.cos)
    }
}

/// Images in a batch, and batches that are scored between two transfers.
const BATCH: usize = 64;
const STEPS: usize = 16;

/// Scores images with one detector on an engine, which it has to itself.
///
/// ```
/// use gradcon::engine::cpu;
/// use gradcon::{Detector, Images, Init, Model, Scorer};
///
/// let model = Model::new(1);
/// # let detector = Detector {
/// #     params: model.init(Init::Kaiming, 0),
/// #     reference: vec![0.5; model.reference_len()],
/// #     description: Default::default(),
/// #     model,
/// # };
/// // let detector = Detector::load("model.safetensors".as_ref())?;
/// let images = Images::new((0..2 * 784).map(|i| (i % 251) as u8).collect(), [2, 28, 28, 1])?;
/// let mut engine = cpu::f32();
/// let mut scorer = Scorer::new(engine.as_mut(), &detector)?;
/// let scores = scorer.score(&images)?;
/// assert_eq!((scores.len(), scores[0].cosines.len()), (2, 4));
/// assert_eq!(scorer.score_each(&images)?, scores); // all are finite
/// assert!(scorer.reconstruct(&images)?.iter().all(|v| (0.0..=1.0).contains(v)));
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Scorer<'e> {
    engine: &'e mut dyn Engine,
    model: Model,
    beta: f64,
    score: Loaded,
    reconstruct: Loaded,
}

impl<'e> Scorer<'e> {
    /// Loads the detector onto the engine. Shown at [`Scorer`].
    ///
    /// # Errors
    /// A device that can't hold the program; a description with a senseless beta.
    pub fn new(engine: &'e mut dyn Engine, detector: &Detector) -> Result<Scorer<'e>> {
        Scorer::in_precision(engine, detector, Precision::F32)
    }

    /// The same with activations and their gradients in this precision: in half precision, cosines
    /// have three digits.
    ///
    /// # Errors
    /// As [`Scorer::new`].
    pub fn in_precision(
        engine: &'e mut dyn Engine,
        detector: &Detector,
        precision: Precision,
    ) -> Result<Scorer<'e>> {
        engine.clear();
        let beta = detector.beta()?;
        let options = Options { replicas: 1, form: engine.form(), precision };
        let score = engine.load(&score_program(&detector.model, BATCH, STEPS, options))?;
        let reconstruct =
            engine.load(&reconstruction_program(&detector.model, BATCH, STEPS, options))?;
        let batches = Batches::new(
            &[Reading { order: (0..(BATCH * STEPS) as u32).collect(), iterations: 0, seed: 0 }],
            BATCH,
            |_| 1.0,
            (0.9, 0.999),
        );
        Feed::of("score", engine)
            .params(&detector.params)?
            .reference(&detector.reference)?
            .batches(&batches)?;
        Ok(Scorer { engine, model: detector.model.clone(), beta, score, reconstruct })
    }

    /// Scores images `[n, 28, 28, channels]` in order. Shown at [`Scorer`].
    ///
    /// # Errors
    /// Images of another shape than the model was made for; a device failure; a score that
    /// is no finite number.
    pub fn score(&mut self, images: &Images) -> Result<Vec<Score>> {
        let scores = self.score_each(images)?;
        match scores.iter().position(|s| !s.score.is_finite()) {
            Some(i) => Err(Error::invalid(format!("image {i}: {}", scores[i].not_finite()))),
            None => Ok(scores),
        }
    }

    /// As [`Scorer::score`], but a score that is no finite number is returned as it is: for whoever
    /// can do without one of the images. Shown at [`Scorer`].
    ///
    /// # Errors
    /// As [`Scorer::score`], but for the score.
    pub fn score_each(&mut self, images: &Images) -> Result<Vec<Score>> {
        self.model.check_images(images)?;
        let layers = self.model.segments().len();
        let mut scores = Vec::with_capacity(images.n);
        for chunk in self.chunks(images) {
            let (count, log) = self.run(self.score, chunk, "score")?;
            for i in 0..count {
                let row = &log[i / BATCH * (1 + layers) * BATCH + i % BATCH..];
                let cosines: Vec<f64> = (1..=layers).map(|layer| row[layer * BATCH]).collect();
                let (mse, cos) = (row[0], cosines.iter().sum::<f64>() / layers as f64);
                scores.push(Score { score: mse - self.beta * cos, mse, cos, cosines });
            }
        }
        Ok(scores)
    }

    /// Reconstructions of images, both `[n, 28, 28, channels]`; values in (0, 1). Shown at
    /// [`Scorer`].
    ///
    /// # Errors
    /// Images of another shape than the model was made for; a device failure.
    pub fn reconstruct(&mut self, images: &Images) -> Result<Vec<f32>> {
        self.model.check_images(images)?;
        let pixels = self.model.pixels();
        let mut all = Vec::with_capacity(images.data.len());
        for chunk in self.chunks(images) {
            let (count, log) = self.run(self.reconstruct, chunk, "reconstruct")?;
            for i in 0..count {
                let row = &log[i / BATCH * pixels * BATCH..];
                all.extend((0..pixels).map(|p| row[p * BATCH + i % BATCH] as f32));
            }
        }
        Ok(all)
    }

    /// Chunks that fit the device's dataset.
    fn chunks<'i>(&self, images: &'i Images) -> std::slice::Chunks<'i, u8> {
        images.data.chunks(BATCH * STEPS * self.model.pixels())
    }

    /// Runs a program on a chunk: how many images it has, and the log.
    fn run(&mut self, program: Loaded, chunk: &[u8], name: &str) -> Result<(usize, Vec<f64>)> {
        let pixels = self.model.pixels();
        let count = chunk.len() / pixels;
        // The last chunk is filled up with black images; their scores are dropped.
        let mut data = chunk.to_vec();
        data.resize(BATCH * STEPS * pixels, 0);
        Feed::of("score", self.engine).images(&data)?;
        self.engine.run(program, 0..count.div_ceil(BATCH) as u32)?;
        Ok((count, self.engine.read(&log(name))?))
    }
}
