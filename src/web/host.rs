//! The host of a page's programs, as `runner.js` is in a browser: what it writes, when it says "go"
//! and what it reads back. It records the run that a page shows where there is no WebGPU.

use super::plans::{Programs, TEST_BATCH};
use crate::engine::{Engine, Loaded};
use crate::error::Result;
use crate::images::Images;
use crate::method::config::TrainConfig;
use crate::method::feed::{Batches, Feed, Reading, log, padded};
use crate::method::model::Model;
use crate::method::objective::{Logged, StepLog};

/// The order of `count` images in an epoch, the same in a browser: a function of seed and epoch
/// alone.
///
/// ```
/// use gradcon::web::host::order;
///
/// let mut sorted = order(100, 7, 3);
/// assert_ne!(sorted, order(100, 7, 4));
/// sorted.sort();
/// assert_eq!(sorted, (0..100).collect::<Vec<u32>>());
/// ```
pub fn order(count: usize, seed: u32, epoch: u32) -> Vec<u32> {
    // Mulberry32, which a script can compute in whole numbers.
    let mut state = seed.wrapping_mul(0x9e37_79b1) ^ (epoch + 1).wrapping_mul(0x85eb_ca6b);
    let mut random = || {
        state = state.wrapping_add(0x6d2b_79f5);
        let mut bits = (state ^ (state >> 15)).wrapping_mul(state | 1);
        bits ^= bits.wrapping_add((bits ^ (bits >> 7)).wrapping_mul(bits | 61));
        bits ^ (bits >> 14)
    };
    let mut images: Vec<u32> = (0..count as u32).collect();
    for i in (1..count).rev() {
        images.swap(i, random() as usize % (i + 1));
    }
    images
}

/// What an epoch came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Frame {
    /// The losses of its steps.
    pub losses: Vec<Logged>,
    /// Of every test image its error and the cosine of each constrained layer, `[n, 1 + layers]`.
    pub scores: Vec<f32>,
    /// Reconstructions of the first test images, bytes `[n, h, w, c]`.
    pub gallery: Vec<u8>,
}

/// Runs the programs on an engine, which it has to itself.
pub struct Host<'e> {
    engine: &'e mut dyn Engine,
    model: Model,
    config: TrainConfig,
    train: Loaded,
    score: Loaded,
    gallery: Loaded,
    images: usize,
    tests: usize,
    shown: usize,
    epoch: usize,
}

impl<'e> Host<'e> {
    /// Loads the programs of these images, both `[n, size, size, channels]`, and starts with
    /// `params` and references of zeros.
    ///
    /// # Errors
    /// A device that can't hold the programs.
    ///
    /// ```
    /// use gradcon::engine::cpu;
    /// use gradcon::web::host::Host;
    /// use gradcon::{Images, Init, Model, TrainConfig};
    ///
    /// let images = |n| Images::new((0..n * 784).map(|i| (i % 251) as u8).collect(), [n, 28, 28, 1]);
    /// let (model, config) = (Model::new(1), TrainConfig::default());
    /// let (mut engine, params) = (cpu::f32(), model.init(Init::Kaiming, 0));
    /// let mut host =
    ///     Host::new(engine.as_mut(), &model, &config, (&images(100)?, &images(3)?), &params)?;
    /// let frame = host.epoch()?;
    /// assert_eq!((frame.losses.len(), frame.scores.len()), (2, 3 * 5));
    /// assert_eq!(frame.gallery.len(), 3 * 784);
    /// assert_ne!(engine.read_f32("params")?, params);
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn new(
        engine: &'e mut dyn Engine,
        model: &Model,
        config: &TrainConfig,
        (train, tests): (&Images, &Images),
        params: &[f32],
    ) -> Result<Host<'e>> {
        engine.clear();
        let programs = Programs::new(model, config, train.n, tests.n, engine.form());
        let loaded = [&programs.train, &programs.score, &programs.gallery];
        let [train_program, score, gallery] = loaded.map(|program| engine.load(program));
        let shown = tests.n.min(super::plans::GALLERY);
        let steps = tests.n.div_ceil(TEST_BATCH);
        let mut padded = tests.data.clone();
        padded.resize(steps * TEST_BATCH * model.pixels(), 0);
        let each = |images, size| Batches::new(&[all(images)], size, |_| 1.0, (0.9, 0.999));
        let host = Host {
            train: train_program?,
            score: score?,
            gallery: gallery?,
            engine,
            model: model.clone(),
            config: config.clone(),
            images: train.n,
            tests: tests.n,
            shown,
            epoch: 0,
        };
        let feed = Feed::of("train", host.engine).images(&train.data)?.params(params)?;
        feed.lr(&[config.lr])?.alpha(&[config.alpha])?;
        Feed::of("score", host.engine).images(&padded)?.batches(&each(tests.n, TEST_BATCH))?;
        let first = &tests.data[..shown * model.pixels()];
        Feed::of("gallery", host.engine).images(first)?.batches(&each(shown, shown))?;
        Ok(host)
    }

    /// Trains an epoch, then scores and reconstructs. Shown at [`Host::new`].
    ///
    /// # Errors
    /// A device failure.
    pub fn epoch(&mut self) -> Result<Frame> {
        let TrainConfig { batch_size, adam, .. } = self.config;
        let steps = self.images.div_ceil(batch_size);
        let seed = self.config.seed;
        let reading = Reading {
            order: order(self.images, seed as u32, self.epoch as u32),
            iterations: (self.epoch * steps) as u64,
            seed,
        };
        let betas = (adam.beta1, adam.beta2);
        let batches = Batches::new(&[reading], batch_size, |count| 1.0 / count as f64, betas);
        let feed = Feed::of("train", self.engine).batches(&batches)?;
        if self.model.latent_len() > 0 {
            feed.draws(&batches)?;
        }
        self.engine.run(self.train, 0..steps as u32)?;
        self.epoch += 1;
        let rows = StepLog::of(&self.model);
        let losses = self.engine.read_f32(&log("train"))?;
        let losses = losses.chunks_exact(rows.width()).map(|row| rows.parse(row)).collect();
        let (scores, gallery) = (self.scores()?, self.gallery()?);
        Ok(Frame { losses, scores, gallery })
    }

    /// Judges by these parameters and references instead of those that are trained.
    ///
    /// # Errors
    /// A device failure.
    pub fn judge(&mut self, params: &[f32], reference: &[f32]) -> Result<Frame> {
        Feed::of("score", self.engine).params(params)?.reference(reference)?;
        Ok(Frame { losses: vec![], scores: self.scores()?, gallery: self.gallery()? })
    }

    fn scores(&mut self) -> Result<Vec<f32>> {
        self.engine.run(self.score, 0..self.tests.div_ceil(TEST_BATCH) as u32)?;
        let log = self.engine.read_f32(&log("score"))?;
        let parts = 1 + self.model.segments().len();
        let number = |i: usize, part: usize| {
            log[(i / TEST_BATCH * parts + part) * TEST_BATCH + i % TEST_BATCH]
        };
        let numbers = (0..self.tests).flat_map(|i| (0..parts).map(move |part| (i, part)));
        Ok(numbers.map(|(i, part)| number(i, part)).collect())
    }

    fn gallery(&mut self) -> Result<Vec<u8>> {
        self.engine.run(self.gallery, 0..1)?;
        let lanes = self.engine.read_f32("gallery.reconstruction")?;
        let (n, pixels) = (padded(self.shown), self.model.pixels());
        let places = (0..self.shown).flat_map(|i| (0..pixels).map(move |p| p * n + i));
        Ok(places.map(|at| (lanes[at] * 255.0).round() as u8).collect())
    }
}

/// All images in their order, once.
fn all(images: usize) -> Reading {
    Reading { order: (0..images as u32).collect(), iterations: 0, seed: 0 }
}
