//! What the host writes before a step runs: images, which of them make which batch, and
//! parameters. The names of all these buffers are said here.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::config::TrainConfig;
use super::model::{Init, Model, PARAMS};
use crate::engine::{Data, Engine};
use crate::error::Result;
use crate::kernels::batch::PADDING_IMAGE;
use crate::tape::ops::Source;
use crate::tape::ops::adam::AdamBuffers;

/// Adam's first moments, like the parameters.
pub const M: &str = "adam.m";

/// Adam's second moments, like the parameters.
pub const V: &str = "adam.v";

/// The reference gradients, like the parameters' head.
pub const REFERENCE: &str = "reference";

/// Adam's learning rate, of each replica.
pub const LR: &str = "adam.lr";

/// Each replica's weight of the gradient constraint, as the sum of [`ALPHA_TERMS`] numbers.
pub const ALPHA: &str = "alpha";

/// What alpha is the sum of: three floats have all digits of an f64, in which the CPU engine scales
/// the constraint.
pub const ALPHA_TERMS: usize = 3;

/// Each replica's parameters after its best epoch, like the parameters.
pub const BEST_PARAMS: &str = "best.params";

/// Each replica's references then, like the references.
pub const BEST_REFERENCE: &str = "best.reference";

/// Where the batches of the program `name` come from: `images` resident images, read in `steps`
/// steps.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::feed::{adam_buffers, log, source};
///
/// let (source, adam) = (source("train", 1000, 16), adam_buffers("train", &Model::new(1), 16));
/// assert_eq!((source.data, log("train")), ("train.data".to_string(), "train.log".to_string()));
/// assert_eq!(source.schedule, adam.schedule); // batch and optimiser read one schedule
/// ```
pub fn source(name: &str, images: usize, steps: usize) -> Source {
    Source {
        data: format!("{name}.data"),
        indices: format!("{name}.indices"),
        schedule: format!("{name}.schedule"),
        images,
        steps,
    }
}

/// What the optimiser of the program `name` changes, in `steps` steps. Shown at [`source`].
pub fn adam_buffers(name: &str, model: &Model, steps: usize) -> AdamBuffers {
    AdamBuffers {
        params: PARAMS.into(),
        m: M.into(),
        v: V.into(),
        reference: REFERENCE.into(),
        reference_len: model.reference_len(),
        schedule: format!("{name}.schedule"),
        steps,
        lr: LR.into(),
    }
}

/// What the noise of the program `name` is drawn from: seeds and iterations. Shown at
/// [`Feed::draws`].
pub fn draws(name: &str) -> String {
    format!("{name}.draws")
}

/// The log of the program `name`. Shown at [`source`].
pub fn log(name: &str) -> String {
    format!("{name}.log")
}

/// Writes what a loaded program reads, each part by a call; what isn't written stays as it was.
///
/// ```
/// use gradcon::engine::cpu;
/// use gradcon::method::feed::{Batches, Feed, log};
/// use gradcon::method::programs::score_program;
/// use gradcon::program::Options;
/// use gradcon::{Init, Model};
///
/// let (model, mut engine) = (Model::new(1), cpu::f32());
/// let program = engine.load(&score_program(&model, 16, 1, Options::default()))?;
/// Feed::of("score", engine.as_mut())
///     .images(&vec![200; 16 * model.pixels()])?
///     .batches(&Batches::in_order(16, 16, 1))?
///     .params(&model.init(Init::Kaiming, 0))?
///     .reference(&vec![0.5; model.reference_len()])?;
/// engine.run(program, 0..1)?;
/// let scores = engine.read(&log("score"))?; // error and four cosines of each image
/// assert!(scores.len() == 5 * 16 && scores.iter().all(|v| v.is_finite()));
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Feed<'e> {
    engine: &'e mut dyn Engine,
    name: &'e str,
}

impl<'e> Feed<'e> {
    /// The feed of the program `name`. Shown, like each of its parts, at [`Feed`].
    pub fn of(name: &'e str, engine: &'e mut dyn Engine) -> Feed<'e> {
        Feed { engine, name }
    }

    fn write(self, buffer: &str, data: Data) -> Result<Self> {
        self.engine.write(buffer, data)?;
        Ok(self)
    }

    /// All images of the dataset, `[images, h, w, c]`. Shown at [`Feed`].
    ///
    /// # Errors
    /// As for every part: no program was loaded that reads them, or one that reads another number.
    pub fn images(self, data: &[u8]) -> Result<Self> {
        let buffer = source(self.name, 0, 0).data;
        self.write(&buffer, Data::U8(data))
    }

    /// Which images make which batch, and when. Shown at [`Feed`].
    ///
    /// # Errors
    /// As [`Feed::images`].
    pub fn batches(self, batches: &Batches) -> Result<Self> {
        let Source { indices, schedule, .. } = source(self.name, 0, 0);
        self.write(&indices, Data::U32(&batches.indices))?
            .write(&schedule, Data::F64(&batches.schedule))
    }

    /// What the noise of a variational model's training is drawn from in each step. Where it isn't
    /// written it is seed 0, iteration 0 in every step.
    ///
    /// # Errors
    /// As [`Feed::images`]; the program has no noise.
    ///
    /// ```
    /// use gradcon::engine::cpu;
    /// use gradcon::method::feed::{Batches, Feed, Reading};
    /// use gradcon::method::model::Kind;
    /// use gradcon::method::programs::training_program;
    /// use gradcon::program::Options;
    /// use gradcon::{Model, TrainConfig};
    ///
    /// let (model, mut engine) = (Model::of(Kind::Vae, 1)?, cpu::f32());
    /// let config = TrainConfig { batch_size: 16, ..TrainConfig::default() };
    /// engine.load(&training_program(&model, &config, 16, 1, Options::default()))?;
    /// let reading = Reading { order: (0..16).collect(), iterations: 40, seed: 7 };
    /// let batches = Batches::new(&[reading], 16, |count| 1.0 / count as f64, (0.9, 0.999));
    /// assert_eq!(batches.draws, [7, 0, 41, 0]);
    /// Feed::of("train", engine.as_mut()).batches(&batches)?.draws(&batches)?;
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn draws(self, batches: &Batches) -> Result<Self> {
        let buffer = draws(self.name);
        self.write(&buffer, Data::U32(&batches.draws))
    }

    /// Flat parameters of all replicas. Shown at [`Feed`].
    ///
    /// # Errors
    /// As [`Feed::images`].
    pub fn params(self, params: &[f32]) -> Result<Self> {
        self.write(PARAMS, Data::F32(params))
    }

    /// Adam's learning rate of each replica, for a training; 0 where it isn't written.
    ///
    /// # Errors
    /// As [`Feed::images`].
    ///
    /// ```
    /// use gradcon::engine::cpu;
    /// use gradcon::method::feed::Feed;
    /// use gradcon::method::programs::training_program;
    /// use gradcon::program::Options;
    /// use gradcon::{Model, TrainConfig};
    ///
    /// let (model, config, mut engine) = (Model::new(1), TrainConfig::default(), cpu::f32());
    /// let options = Options { replicas: 2, ..Options::default() };
    /// engine.load(&training_program(&model, &config, 64, 1, options))?;
    /// Feed::of("train", engine.as_mut()).lr(&[1e-3, 3e-4])?.alpha(&[0.03, 0.1])?;
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn lr(self, lr: &[f64]) -> Result<Self> {
        self.write(LR, Data::F64(lr))
    }

    /// Weight of the gradient constraint of each replica, for a training of a program that has the
    /// constraint; 0 where it isn't written. Shown at [`Feed::lr`].
    ///
    /// # Errors
    /// As [`Feed::images`].
    pub fn alpha(self, alpha: &[f64]) -> Result<Self> {
        let terms: Vec<f64> = alpha.iter().flat_map(|&alpha| alpha_terms(alpha)).collect();
        self.write(ALPHA, Data::F64(&terms))
    }

    /// Flat references of all replicas. Shown at [`Feed`].
    ///
    /// # Errors
    /// As [`Feed::images`].
    pub fn reference(self, reference: &[f32]) -> Result<Self> {
        self.write(REFERENCE, Data::F32(reference))
    }

    /// Images of a fixed pattern in their order, fresh parameters and, of a training, the default
    /// rates, the same for all replicas: something to measure with.
    ///
    /// # Errors
    /// As [`Feed::images`].
    ///
    /// ```
    /// use gradcon::Model;
    /// use gradcon::engine::cpu;
    /// use gradcon::method::feed::Feed;
    /// use gradcon::method::programs::score_program;
    /// use gradcon::program::Options;
    ///
    /// let (model, mut engine) = (Model::new(1), cpu::f32());
    /// let program = engine.load(&score_program(&model, 16, 2, Options::default()))?;
    /// Feed::of("score", engine.as_mut()).pattern(&model, 16, 2, 1)?;
    /// engine.run(program, 0..2)?; // two batches of 16 images
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn pattern(self, model: &Model, batch: usize, steps: usize, replicas: usize) -> Result<()> {
        let images = batch * steps;
        let data: Vec<u8> = (0..images * model.pixels()).map(|i| (i * 37 % 256) as u8).collect();
        let params = model.init(Init::Kaiming, 0).repeat(replicas);
        let batches = Batches::in_order(images, batch, replicas);
        let training = self.name == "train";
        let feed = self.images(&data)?.batches(&batches)?.params(&params)?;
        if training {
            let TrainConfig { lr, alpha, .. } = TrainConfig::default();
            feed.lr(&vec![lr; replicas])?.alpha(&vec![alpha; replicas])?;
        }
        Ok(())
    }
}

/// Three floats, the largest first, whose sum is exactly `alpha`.
fn alpha_terms(alpha: f64) -> [f64; ALPHA_TERMS] {
    let mut rest = alpha;
    std::array::from_fn(|_| {
        let term = rest as f32 as f64;
        rest -= term;
        term
    })
}

/// Images that a batch occupies on the device: a multiple of this, so that vectors and workgroups
/// are full. The rest are padding images.
const LANES: usize = 16;

/// Device size of a batch of `batch_size` images.
///
/// ```
/// assert_eq!(gradcon::method::feed::padded(20), 32);
/// ```
pub fn padded(batch_size: usize) -> usize {
    batch_size.next_multiple_of(LANES)
}

/// The batches of one epoch for several replicas, as the buffers `indices [steps, replicas, n]` and
/// `schedule [steps, replicas, 4]` hold them, and `draws [steps, replicas, 4]` of the noise.
#[derive(Clone, PartialEq, Debug)]
pub struct Batches {
    /// Steps until the longest replica is through.
    pub steps: usize,
    /// Index list.
    pub indices: Vec<u32>,
    /// Rows of the kernel `adam`.
    pub schedule: Vec<f64>,
    /// Rows of the kernel `noise`. An iteration has 32 bits; after so many, noise comes again.
    pub draws: Vec<u32>,
    /// Images in each step of each replica; 0 where a replica is through already.
    pub counts: Vec<usize>,
}

/// What one replica reads in an epoch.
pub struct Reading {
    /// Images of the shared dataset, in order.
    pub order: Vec<u32>,
    /// Iterations before this epoch.
    pub iterations: u64,
    /// Seed of its noise.
    pub seed: u64,
}

impl Batches {
    /// Cuts every replica's order into batches of `batch_size`; the last one may be smaller.
    /// `weight(count)` is the weight of an image in a batch of `count`; `betas` are Adam's decays.
    ///
    /// ```
    /// use gradcon::method::feed::{Batches, Reading, padded};
    ///
    /// let readings = [
    ///     Reading { order: vec![4, 2, 0, 1, 3], iterations: 0, seed: 0 },
    ///     Reading { order: vec![5, 6], iterations: 0, seed: 1 },
    /// ];
    /// let batches = Batches::new(&readings, 2, |count| 1.0 / count as f64, (0.9, 0.999));
    /// assert_eq!(batches.steps, 3);
    /// assert_eq!(batches.counts, [2, 2, 2, 0, 1, 0]); // two replicas in each of three steps
    /// assert_eq!(batches.indices.len(), 3 * 2 * padded(2));
    /// assert_eq!(batches.indices[..2], [4, 2]);
    /// ```
    pub fn new(
        readings: &[Reading],
        batch_size: usize,
        weight: impl Fn(usize) -> f64,
        betas: (f64, f64),
    ) -> Batches {
        let n = padded(batch_size);
        let steps = readings.iter().map(|r| r.order.len().div_ceil(batch_size)).max().unwrap_or(0);
        let mut batches =
            Batches { steps, indices: vec![], schedule: vec![], draws: vec![], counts: vec![] };
        for step in 0..steps {
            for reading in readings {
                let images = reading.order.chunks(batch_size).nth(step).unwrap_or(&[]);
                batches.indices.extend(images);
                batches.indices.extend(std::iter::repeat_n(PADDING_IMAGE, n - images.len()));
                let iteration = reading.iterations + step as u64 + 1;
                let (seed, t) = (reading.seed, iteration as f64);
                batches.draws.extend([seed as u32, (seed >> 32) as u32, iteration as u32, 0]);
                let correction = |beta: f64| 1.0 / (1.0 - beta.powf(t));
                let image_weight = if images.is_empty() { 0.0 } else { weight(images.len()) };
                batches.schedule.extend([
                    image_weight,
                    correction(betas.0),
                    correction(betas.1),
                    1.0 / t,
                ]);
                batches.counts.push(images.len());
            }
        }
        batches
    }
}

impl Batches {
    /// Every replica reads `images` images in their order, once, with the default optimiser.
    ///
    /// ```
    /// use gradcon::method::feed::Batches;
    ///
    /// let batches = Batches::in_order(40, 16, 1);
    /// assert_eq!(batches.counts, [16, 16, 8]);
    /// assert_eq!(batches.indices[..16], std::array::from_fn::<u32, 16, _>(|i| i as u32));
    /// ```
    pub fn in_order(images: usize, batch_size: usize, replicas: usize) -> Batches {
        let reading = || Reading { order: (0..images as u32).collect(), iterations: 0, seed: 0 };
        let readings: Vec<Reading> = (0..replicas).map(|_| reading()).collect();
        Batches::new(&readings, batch_size, |count| 1.0 / count as f64, (0.9, 0.999))
    }

    /// One replica reads `images` images in their order, once, in a program of `steps` steps, which
    /// may be more than that takes: the rest have no image.
    ///
    /// ```
    /// use gradcon::method::feed::{Batches, padded};
    ///
    /// let batches = Batches::at_first(40, 16, 5);
    /// assert_eq!(batches.counts, [16, 16, 8]);
    /// assert_eq!((batches.indices.len(), batches.schedule.len()), (5 * padded(16), 5 * 4));
    /// ```
    pub fn at_first(images: usize, batch_size: usize, steps: usize) -> Batches {
        let mut batches = Batches::in_order(images, batch_size, 1);
        batches.indices.resize(steps * padded(batch_size), PADDING_IMAGE);
        batches.schedule.resize(steps * 4, 0.0);
        batches
    }
}

/// The order of `len` images in one epoch: a function of seed and epoch alone, so that a run can go
/// on anywhere.
///
/// ```
/// use gradcon::method::feed::epoch_order;
///
/// assert_eq!(epoch_order(4, 7, 0, false), [0, 1, 2, 3]);
/// assert_eq!(epoch_order(1000, 7, 3, true), epoch_order(1000, 7, 3, true));
/// assert_ne!(epoch_order(1000, 7, 3, true), epoch_order(1000, 7, 4, true));
/// ```
pub fn epoch_order(len: usize, seed: u64, epoch: u64, shuffle: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    if shuffle {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch + 1); // stream 0 made the initial parameters
        order.shuffle(&mut rng);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_keeps_all_its_digits() {
        for alpha in [0.0, 0.03, 0.1, 1.0 / 3.0, 1e-7, 12345.678901234567] {
            let terms = alpha_terms(alpha);
            assert_eq!(terms.iter().sum::<f64>(), alpha);
            assert_eq!(terms.map(|term| term as f32 as f64), terms);
            // As a GPU adds them up.
            assert_eq!(terms.iter().map(|&term| term as f32).sum::<f32>(), alpha as f32);
        }
    }

    #[test]
    fn every_image_is_read_once_an_epoch_and_orders_differ() {
        let a = epoch_order(1000, 7, 0, true);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, epoch_order(1000, 7, 0, false));
        assert_ne!(a, sorted);
        assert_eq!(a, epoch_order(1000, 7, 0, true));
        assert_ne!(a, epoch_order(1000, 7, 1, true));
        assert_ne!(a, epoch_order(1000, 8, 0, true));
    }

    #[test]
    fn replicas_of_different_sizes_pad_and_stop() {
        let readings = [
            Reading { order: (0..5).collect(), iterations: 3, seed: 5 + (6 << 32) },
            Reading { order: (10..12).collect(), iterations: 0, seed: 9 },
        ];
        let b = Batches::new(&readings, 2, |count| 1.0 / count as f64, (0.9, 0.999));
        assert_eq!((b.steps, padded(2)), (3, 16));
        assert_eq!(b.counts, [2, 2, 2, 0, 1, 0]);
        let row = |step: usize, replica: usize| &b.indices[(step * 2 + replica) * 16..][..16];
        assert_eq!(
            (row(0, 0)[..3].to_vec(), row(0, 1)[..2].to_vec()),
            (vec![0, 1, PADDING_IMAGE], vec![10, 11])
        );
        assert_eq!(row(2, 0)[..2], [4, PADDING_IMAGE]);
        assert!(row(1, 1).iter().all(|&i| i == PADDING_IMAGE));
        let draws = |step: usize, replica: usize| &b.draws[(step * 2 + replica) * 4..][..4];
        assert_eq!((draws(0, 0), draws(2, 0)), (&[5, 6, 4, 0][..], &[5, 6, 6, 0][..]));
        assert_eq!(draws(1, 1)[..3], [9, 0, 2]);
        let schedule = |step: usize, replica: usize| &b.schedule[(step * 2 + replica) * 4..][..4];
        assert_eq!((schedule(2, 0)[0], schedule(0, 0)[0], schedule(1, 1)[0]), (1.0, 0.5, 0.0));
        assert_eq!(schedule(0, 0)[3], 0.25);
        assert!(
            (schedule(0, 1)[1] - 10.0).abs() < 1e-12 && (schedule(0, 1)[2] - 1000.0).abs() < 1e-9
        );
    }
}
