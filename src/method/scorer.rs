//! Scoring: each image by its own gradient, a whole batch at a time, any number of images in
//! bounded memory.

use rayon::prelude::*;

use super::detector::Detector;
use super::feed::{Batches, Feed, Reading, log};
use super::model::Model;
use super::programs::{measuring_program, reconstruction_program, score_scale};
use super::readout::places::Places;
use super::readout::step::{
    CODE, CODE_GRADIENT, ENCODER_REFERENCE, FISHER_METRIC, FISHER_REFERENCE, METRIC,
    WHITENING_SCALE, fisher_scale,
};
use super::readout::{Part, Rule, Wanted};
use super::tiling::{ImageRule, Tiling};
use crate::engine::{Data, Engine, Loaded};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::program::{Options, Precision};

/// One image's score and what it is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// By the scorer's first rule: higher is more anomalous.
    pub score: f64,
    /// By each of its rules.
    pub scores: Vec<f64>,
    /// L_rec of the image.
    pub mse: f64,
    /// Mean of the cosines.
    pub cos: f64,
    /// Cosine between the image's own gradient and the reference, for each constrained layer.
    pub cosines: Vec<f64>,
    /// The first rule's scores of the image's tiles, which its own comes from; each of the parts above
    /// is a mean over as many tiles, those with the worst. None of an image that is judged as a
    /// whole.
    pub tiles: Vec<f64>,
}

impl Score {
    /// What to say of a score that is no finite number.
    pub(crate) fn not_finite(&self) -> String {
        format!("its score is {} (mse {}, cosine {})", self.score, self.mse, self.cos)
    }

    /// Whether all of it is finite numbers.
    pub(crate) fn is_finite(&self) -> bool {
        self.score.is_finite() && self.scores.iter().all(|score| score.is_finite())
    }
}

/// Images in a batch, and batches that are scored between two transfers.
const BATCH: usize = 64;
const STEPS: usize = 16;

/// Tiles that are cut at a time.
const CUT: usize = 4096;

/// Scores images with one detector on an engine, which it has to itself.
///
/// ```
/// use gradcon::engine::cpu;
/// use gradcon::method::readout::Rule;
/// use gradcon::program::Precision;
/// use gradcon::{Detector, Images, Init, Model, Scorer};
///
/// let model = Model::new(1);
/// # let mut detector = Detector {
/// #     params: model.init(Init::Kaiming, 0),
/// #     reference: vec![0.5; model.reference_len()],
/// #     statistics: None,
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
///
/// // The paper's score and another one, which takes what is known of normal images.
/// # detector.fit(engine.as_mut(), &images, &images)?;
/// let rules = ["paper", "code"].map(|name| Rule::named(name, &detector.model, 0.12));
/// let rules = rules.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let mut scorer = Scorer::with(engine.as_mut(), &detector, &rules, Precision::F32)?;
/// let both = scorer.score(&images)?;
/// assert_eq!((both[0].score, both[0].scores.len()), (scores[0].score, 2));
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Scorer<'e> {
    engine: &'e mut dyn Engine,
    model: Model,
    tiling: Option<Tiling>,
    rules: Vec<ImageRule>,
    parts: Vec<Part>,
    /// What each that the device measures is to be multiplied with.
    units: Vec<f64>,
    /// What the host makes the last part of.
    places: Option<Places>,
    score: Loaded,
    reconstruct: Loaded,
}

impl<'e> Scorer<'e> {
    /// Loads the detector onto the engine, to score as the paper does. Shown at [`Scorer`].
    ///
    /// # Errors
    /// A device that can't hold the program; a description with a senseless beta.
    pub fn new(engine: &'e mut dyn Engine, detector: &Detector) -> Result<Scorer<'e>> {
        let paper = Rule::paper(detector.beta()?);
        Scorer::with(engine, detector, &[paper], Precision::F32)
    }

    /// The same by these rules, at least one, with activations and their gradients in this
    /// precision: in half precision, cosines have three digits. Shown at [`Scorer`].
    ///
    /// # Errors
    /// As [`Scorer::new`]; a rule that takes statistics, which the detector doesn't have.
    pub fn with(
        engine: &'e mut dyn Engine,
        detector: &Detector,
        rules: &[Rule],
        precision: Precision,
    ) -> Result<Scorer<'e>> {
        if rules.is_empty() {
            return Err(Error::invalid("scoring by no rule: expected at least one"));
        }
        let of = |rule| ImageRule::of(rule, detector);
        let rules_of = rules.iter().map(of).collect::<Result<_>>()?;
        let scorer = Scorer::measuring(engine, detector, Rule::all_wanted(rules), precision)?;
        Ok(Scorer { rules: rules_of, tiling: detector.tiling()?, ..scorer })
    }

    /// A scorer that only measures.
    pub(super) fn measuring(
        engine: &'e mut dyn Engine,
        detector: &Detector,
        wanted: Wanted,
        precision: Precision,
    ) -> Result<Scorer<'e>> {
        engine.clear();
        let model = detector.model.clone();
        let places = detector.statistics.as_ref().and_then(|s| s.places.clone());
        let places = places.filter(|_| wanted.places);
        let parts = Wanted { places: places.is_some(), ..wanted }.parts(&model);
        let vectors = wanted.vectors || places.is_some();
        let wanted = Wanted { places: false, vectors, ..wanted };
        let options = Options { replicas: 1, form: engine.form(), precision };
        let score = engine.load(&measuring_program(&model, wanted, BATCH, STEPS, options))?;
        let reconstruct = engine.load(&reconstruction_program(&model, BATCH, STEPS, options))?;
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
        let mut fisher = 1.0;
        if let Some(statistics) = detector.statistics.as_ref().filter(|_| wanted.is_fitted()) {
            let scale = score_scale(&model, precision);
            for (is_read, away, known, scale) in [
                (wanted.code, CODE, &statistics.code, 1.0),
                (wanted.code_gradient, CODE_GRADIENT, &statistics.code_gradient, scale),
            ] {
                let times = |values: &[f32], factor: f64| -> Vec<f32> {
                    values.iter().map(|&v| (f64::from(v) * factor) as f32).collect()
                };
                if is_read {
                    let whitening = times(&known.whitening, 1.0 / (scale * WHITENING_SCALE));
                    engine.write(away.mean, Data::F32(&times(&known.mean, scale)))?;
                    engine.write(away.whitening, Data::F32(&whitening))?;
                }
            }
            if wanted.encoder {
                engine.write(ENCODER_REFERENCE, Data::F32(&statistics.encoder_reference))?;
            }
            if wanted.norms {
                engine.write(METRIC, Data::F32(&statistics.decoder_metric(&model)))?;
            }
            if wanted.fisher {
                let (mean, metric) = statistics.last_encoder(&model);
                let reference: Vec<f32> =
                    mean.iter().zip(&metric).map(|(mean, metric)| mean * metric).collect();
                engine.write(FISHER_REFERENCE, Data::F32(&reference))?;
                engine.write(FISHER_METRIC, Data::F32(&metric))?;
                fisher = fisher_scale(mean, &metric);
            }
        }
        // What the device keeps small enough for half precision, or leaves out.
        let scale = score_scale(&model, precision);
        let unit = |part: &Part| match part {
            Part::Code | Part::CodeGradient => WHITENING_SCALE.powi(2),
            Part::Norm | Part::Metric => scale.powi(2).recip(),
            Part::Fisher => fisher,
            Part::Mse | Part::Cos(_) | Part::Divergence | Part::PlaceCode => 1.0,
        };
        let units = wanted.parts(&model).iter().map(unit).collect();
        let (tiling, rules) = (None, vec![]);
        Ok(Scorer { engine, model, tiling, rules, parts, units, places, score, reconstruct })
    }

    /// Scores images `[n, size, size, channels]` in order: whole ones, also where they are judged by
    /// their tiles. Shown at [`Scorer`].
    ///
    /// # Errors
    /// Images of another shape than the model was made for; a device failure; a score that
    /// is no finite number.
    pub fn score(&mut self, images: &Images) -> Result<Vec<Score>> {
        let scores = self.score_each(images)?;
        match scores.iter().position(|s| !s.is_finite()) {
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
        let Some(Tiling { tiles, .. }) = self.tiling else {
            let rows = self.measure(images)?;
            return rows.chunks_exact(1).map(|row| self.score_of(row)).collect();
        };
        self.check_whole(images)?;
        let (count, mut scores) = (tiles.count(), Vec::with_capacity(images.n));
        let together = (CUT / count).max(1);
        for first in (0..images.n).step_by(together) {
            let some: Vec<usize> = (first..images.n.min(first + together)).collect();
            let rows = self.measure(&tiles.cut(&images.select(&some)))?;
            for rows in rows.chunks_exact(count) {
                scores.push(self.score_of(rows)?);
            }
        }
        Ok(scores)
    }

    /// The score of an image from the parts of its tiles.
    fn score_of(&self, rows: &[Vec<f64>]) -> Result<Score> {
        let of = |rule: &ImageRule| rule.scores(&self.parts, rows);
        let mut all: Vec<(f64, Vec<f64>)> = self.rules.iter().map(of).collect::<Result<_>>()?;
        let scores: Vec<f64> = all.iter().map(|(score, _)| *score).collect();
        let tiles = self.tiling.map_or(vec![], |_| all.swap_remove(0).1);
        let layers = self.model.segments().len();
        let top = self.tiling.map_or(1, |tiling| tiling.top);
        // The mean of the `top` highest values of a tile.
        let worst = |value: &dyn Fn(&[f64]) -> f64| {
            let mut values: Vec<f64> = rows.iter().map(|row| value(row)).collect();
            values.sort_by(|a, b| b.total_cmp(a));
            values[..top].iter().sum::<f64>() / top as f64
        };
        let cosines = (1..=layers).map(|layer| -worst(&|row| -row[layer])).collect();
        let mse = worst(&|row| row[0]);
        let cos = -worst(&|row| -row[1..=layers].iter().sum::<f64>() / layers as f64);
        Ok(Score { score: scores[0], scores, mse, cos, cosines, tiles })
    }

    /// The parts of what the model sees, a row for each. Of images that are cut and aligned, these
    /// are all tiles of the first, then of the next.
    pub(super) fn measure(&mut self, images: &Images) -> Result<Vec<Vec<f64>>> {
        self.model.check_images(images)?;
        let (parts, len) = (self.units.len(), self.model.code_len());
        let width = parts + if self.places.is_some() { len } else { 0 };
        let mut rows = Vec::with_capacity(images.n);
        for chunk in self.chunks(images) {
            let (count, log) = self.run(self.score, chunk, "score")?;
            let number =
                |i: usize, k: usize| log[i / BATCH * width * BATCH + k * BATCH + i % BATCH];
            let first = rows.len();
            let row = |i: usize| {
                let mut row: Vec<f64> =
                    (0..parts).map(|part| number(i, part) * self.units[part]).collect();
                if let Some(places) = &self.places {
                    let code: Vec<f64> = (parts..width).map(|k| number(i, k)).collect();
                    row.push(places.distance((first + i) % places.count(), &code));
                }
                row
            };
            rows.par_extend((0..count).into_par_iter().map(row));
        }
        Ok(rows)
    }

    /// The codes of what the model sees, `[n, code_len]`, by a scorer that measures these vectors.
    pub(super) fn codes(&mut self, images: &Images) -> Result<Vec<f32>> {
        self.model.check_images(images)?;
        let (parts, len) = (self.units.len(), self.model.code_len());
        let width = parts + len;
        let mut codes = Vec::with_capacity(images.n * len);
        for chunk in self.chunks(images) {
            let (count, log) = self.run(self.score, chunk, "score")?;
            for i in 0..count {
                let row = &log[i / BATCH * width * BATCH..];
                codes.extend((parts..width).map(|k| row[k * BATCH + i % BATCH] as f32));
            }
        }
        Ok(codes)
    }

    /// Reconstructions of images, both `[n, size, size, channels]`; values in (0, 1). Of images that
    /// are judged by their tiles, the tiles' put together. Shown at [`Scorer`].
    ///
    /// # Errors
    /// Images of another shape than the model was made for; a device failure.
    pub fn reconstruct(&mut self, images: &Images) -> Result<Vec<f32>> {
        let Some(Tiling { tiles, .. }) = self.tiling else { return self.seen(images) };
        self.check_whole(images)?;
        let mut all = Vec::with_capacity(images.data.len());
        for i in 0..images.n {
            let cut = tiles.cut(&images.select(&[i]));
            all.extend(tiles.merge(&self.seen(&cut)?, images.channels));
        }
        Ok(all)
    }

    /// How images are judged by their tiles, if they are.
    pub fn tiling(&self) -> Option<Tiling> {
        self.tiling
    }

    /// Errors unless the images have the size that is cut into tiles.
    fn check_whole(&self, images: &Images) -> Result<()> {
        let (found, size) = ([images.height, images.width], self.image_size());
        match found == [size; 2] {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "images of {} x {}, expected {size} x {size}, which are cut into tiles",
                found[0], found[1]
            ))),
        }
    }

    /// Height and width of the images that it scores.
    fn image_size(&self) -> usize {
        self.tiling.map_or(self.model.size(), |tiling| tiling.tiles.image())
    }

    /// Reconstructions of what the model sees.
    fn seen(&mut self, images: &Images) -> Result<Vec<f32>> {
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
