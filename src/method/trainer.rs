//! Training: epochs of batches, validation, the best epoch, and a state that can be saved and
//! continued to the same bits.
//!
//! One trainer trains one or several models (replicas) as one program. Each replica has its own
//! images, seed, learning rate, alpha and parameters, and its numbers are those of training it
//! alone. The host writes an index list once an epoch, says "go" for runs of steps, and reads the
//! losses back once an epoch. Parameters stay on the device, those of the best epoch too, until
//! somebody asks for them.

use std::ops::ControlFlow;
use std::time::Instant;

use super::config::TrainConfig;
use super::feed::{
    self, BEST_PARAMS, BEST_REFERENCE, Batches, Feed, M, REFERENCE, Reading, V, epoch_order, padded,
};
use super::model::{Kind, Model, PARAMS};
use super::objective::{Logged, StepLog};
use super::programs::{best_program, preview_program, training_program, validation_program};
use super::state::{
    Divergence, EpochReport, Losses, ReplicaState, Snapshot, State, first_not_finite,
};
use crate::engine::{Data, Engine, Loaded};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::program::{Options, Program};

/// Images `[n, size, size, channels]`, start and rates of one replica.
#[derive(Clone, Copy, Debug)]
pub struct TrainingSet<'a> {
    /// Images to learn from.
    pub train: &'a Images,
    /// Images that choose the best epoch.
    pub validation: &'a Images,
    /// Seed of the initial parameters and of the order of images.
    pub seed: u64,
    /// Flat parameters to start from instead of fresh ones.
    pub start: Option<&'a [f32]>,
    /// Weight of the gradient constraint in the loss, instead of the configuration's.
    pub alpha: f64,
    /// Adam's learning rate, instead of the configuration's.
    pub lr: f64,
}

impl<'a> TrainingSet<'a> {
    /// A replica with seed, alpha and learning rate of a configuration, and fresh parameters. Shown
    /// at [`Trainer`].
    pub fn new(train: &'a Images, validation: &'a Images, config: &TrainConfig) -> TrainingSet<'a> {
        let TrainConfig { seed, alpha, lr, .. } = *config;
        TrainingSet { train, validation, seed, start: None, alpha, lr }
    }
}

/// How far an epoch is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// Steps done in it.
    pub step: usize,
    /// Steps it has.
    pub steps: usize,
    /// Images trained on since the last call, over all replicas.
    pub images: usize,
}

/// What a call of [`Trainer::epoch`] came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// An epoch is complete; one report a replica, none of those that diverged (see
    /// [`Trainer::diverged`]).
    Epoch(Vec<Option<EpochReport>>),
    /// The caller asked to stop; [`Trainer::state`] continues from here.
    Stopped,
}

/// Steps between two looks at the caller: at most so many, to keep a device busy, and fewer where
/// they would take longer than this, for Ctrl-C.
const STEPS_PER_RUN: usize = 8;
const SECONDS_PER_RUN: f64 = 0.2;

struct Set {
    first_image: u32,
    train: usize,
    first_validation: u32,
    validation: usize,
    seed: u64,
    alpha: f64,
    lr: f64,
}

/// Trains models on an engine, which it has to itself.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use gradcon::engine::cpu;
/// use gradcon::{Images, Model, TrainConfig, Trainer, TrainingSet};
///
/// let images = Images::new((0..20 * 784).map(|i| (i % 251) as u8).collect(), [20, 28, 28, 1])?;
/// let (validation, train) = images.split_at(4);
/// let (model, mut engine) = (Model::new(1), cpu::f32());
/// let config = TrainConfig { epochs: 1, batch_size: 16, ..TrainConfig::default() };
///
/// let set = TrainingSet::new(&train, &validation, &config);
/// let other = TrainingSet { seed: 1, lr: 3e-4, ..set };
/// let mut trainer = Trainer::new(engine.as_mut(), &model, &config, &[set, other])?;
/// while trainer.epochs_done() < config.epochs {
///     trainer.epoch(|_| ControlFlow::Continue(()))?; // Break stops after the step under way
/// }
/// let state = trainer.state()?; // all that has to be saved ...
/// trainer.restore(&state)?; // ... to continue to the same bits
/// assert!(trainer.diverged().all(|divergence| divergence.is_none()));
/// assert_eq!(trainer.stopped_early(), [None, None]); // config.patience would
/// assert!(!trainer.is_through());
/// assert_eq!(trainer.preview(3)?[1].len(), 3 * model.pixels());
///
/// let best = trainer.best()?[0].cloned().expect("an epoch is complete");
/// let detector = best.into_detector(&model, &config);
/// assert_eq!(detector.number("epoch")?, Some(1.0));
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Trainer<'e> {
    engine: &'e mut dyn Engine,
    model: Model,
    config: TrainConfig,
    sets: Vec<Set>,
    train: Loaded,
    validate: Loaded,
    preview: Loaded,
    steps: usize,
    validation: Batches,
    epoch: usize,
    step: usize,
    log: Vec<f32>,
    /// The last state of each replica that was read and seen to be finite.
    replicas: Vec<ReplicaState>,
    /// Of each replica, the best epoch and its validation loss, while its model is on the device
    /// only.
    unread: Vec<Option<(usize, f64)>>,
    /// Of each replica, after which epoch patience ended it: its tensors are those of then.
    stopped: Vec<Option<usize>>,
    /// An epoch's batches, made while the device worked on the one before it.
    ahead: Option<(usize, Batches)>,
    /// Steps between two looks at the caller, once they were timed.
    steps_per_run: Option<usize>,
}

impl<'e> Trainer<'e> {
    /// Prepares a training of one model for each set. Shown at [`Trainer`].
    ///
    /// # Errors
    /// A configuration that makes no sense, a set without training or validation images or
    /// with images of another shape than the model's, sets of which some have an alpha of 0 (they
    /// need no second sweep, and are a program of their own) and others don't, a device that can't
    /// hold the program.
    pub fn new(
        engine: &'e mut dyn Engine,
        model: &Model,
        config: &TrainConfig,
        sets: &[TrainingSet],
    ) -> Result<Trainer<'e>> {
        config.check()?;
        if sets.is_empty() {
            return Err(Error::invalid("training: no training set was given"));
        }
        let pixels = model.pixels();
        let (mut data, mut validation_data) = (vec![], vec![]);
        let mut known: Vec<Set> = vec![];
        if let Some(other) = sets.iter().find(|s| (s.alpha == 0.0) != (sets[0].alpha == 0.0)) {
            return Err(Error::Usage(format!(
                "alpha is {} and {} in one training: a model without constraint trains beside \
                 others of its kind only",
                sets[0].alpha, other.alpha
            )));
        }
        for (k, set) in sets.iter().enumerate() {
            TrainConfig { alpha: set.alpha, lr: set.lr, ..config.clone() }.check()?;
            for (what, images) in [("training", set.train), ("validation", set.validation)] {
                model
                    .check_images(images)
                    .map_err(|e| Error::invalid(format!("{what} set {k}: {e}")))?;
                if images.n == 0 {
                    return Err(Error::invalid(format!("{what} set {k}: no images")));
                }
            }
            // Replicas of one class read the same images.
            let earlier = sets[..k].iter().position(|other| {
                std::ptr::eq(other.train, set.train)
                    && std::ptr::eq(other.validation, set.validation)
            });
            let (first_image, first_validation) = match earlier {
                Some(other) => (known[other].first_image, known[other].first_validation),
                None => {
                    let first = [&data, &validation_data].map(|d: &Vec<u8>| d.len() / pixels);
                    data.extend_from_slice(&set.train.data);
                    validation_data.extend_from_slice(&set.validation.data);
                    (first[0] as u32, first[1] as u32)
                }
            };
            known.push(Set {
                first_image,
                train: set.train.n,
                first_validation,
                validation: set.validation.n,
                seed: set.seed,
                alpha: set.alpha,
                lr: set.lr,
            });
        }
        // Without a constraint or with one for every replica: which, the program asks the first.
        let config = &TrainConfig { alpha: sets[0].alpha, ..config.clone() };
        let replicas = sets.len();
        let steps = known.iter().map(|s| s.train.div_ceil(config.batch_size)).max().unwrap_or(0);
        let readings: Vec<Reading> = known
            .iter()
            .map(|s| Reading {
                order: (s.first_validation..).take(s.validation).collect(),
                iterations: 0,
                seed: s.seed,
            })
            .collect();
        let betas = (config.adam.beta1, config.adam.beta2);
        let validation =
            Batches::new(&readings, config.batch_size, |count| 1.0 / count as f64, betas);

        engine.clear();
        let options = Options { replicas, form: engine.form(), precision: config.precision };
        let train =
            engine.load(&training_program(model, config, data.len() / pixels, steps, options))?;
        let images = validation_data.len() / pixels;
        let mut load = |program: fn(&Model, &TrainConfig, usize, usize, Options) -> Program| {
            engine.load(&program(model, config, images, validation.steps, options))
        };
        let (validate, preview) = (load(validation_program)?, load(preview_program)?);
        engine.load(&best_program(model, replicas))?;
        Feed::of("validation", engine).images(&validation_data)?.batches(&validation)?;
        let mut params: Vec<f32> = Vec::with_capacity(replicas * model.len());
        for set in sets {
            match set.start {
                Some(start) if start.len() == model.len() => params.extend(start),
                Some(start) => {
                    return Err(Error::invalid(format!(
                        "initial parameters: {} values, the model has {}",
                        start.len(),
                        model.len()
                    )));
                }
                None => params.extend(model.init(config.init, set.seed)),
            }
        }
        let lr: Vec<f64> = known.iter().map(|set| set.lr).collect();
        let feed = Feed::of("train", engine).images(&data)?.params(&params)?.lr(&lr)?;
        if config.alpha != 0.0 {
            feed.alpha(&known.iter().map(|set| set.alpha).collect::<Vec<_>>())?;
        }
        let fresh = |r: usize| ReplicaState {
            params: part(&params, r, replicas).to_vec(),
            m: vec![0.0; model.len()],
            v: vec![0.0; model.len()],
            reference: vec![0.0; model.reference_len()],
            best: None,
            diverged: None,
        };
        let (unread, stopped) = (vec![None; replicas], vec![None; replicas]);
        let replicas = (0..replicas).map(fresh).collect();
        let (model, config) = (model.clone(), config.clone());
        Ok(Trainer {
            engine,
            model,
            config,
            sets: known,
            train,
            validate,
            preview,
            steps,
            validation,
            epoch: 0,
            step: 0,
            log: vec![],
            replicas,
            unread,
            stopped,
            ahead: None,
            steps_per_run: None,
        })
    }

    /// Epochs completed. Shown at [`Trainer`].
    pub fn epochs_done(&self) -> usize {
        self.epoch
    }

    /// Runs to the end of the epoch and validates. `watch` is called between runs of a few steps
    /// and may stop the training after any of them. Shown at [`Trainer`].
    ///
    /// A replica whose losses are no longer finite takes no more part, and neither does one that
    /// patience ended; the others are not touched by it. Tensors are looked at when they are read.
    ///
    /// # Errors
    /// A device failure; no replica is left.
    pub fn epoch(&mut self, mut watch: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Outcome> {
        let replicas = self.sets.len();
        let batches = match self.ahead.take() {
            Some((epoch, batches)) if epoch == self.epoch => batches,
            _ => self.batches(self.epoch),
        };
        let feed = Feed::of("train", self.engine).batches(&batches)?;
        if self.model.kind() == Kind::Vae {
            feed.draws(&batches)?;
        }
        let resumed = self.step;
        while self.step < batches.steps {
            let end = self.run_steps(batches.steps)?;
            let images = batches.counts[self.step * replicas..end * replicas].iter().sum();
            self.step = end;
            let progress =
                Progress { epoch: self.epoch + 1, step: end, steps: batches.steps, images };
            if watch(progress).is_break() {
                self.keep_log(resumed)?;
                return Ok(Outcome::Stopped);
            }
        }
        let next = self.epoch + 1;
        self.ahead = (next < self.config.epochs).then(|| (next, self.batches(next)));
        self.keep_log(resumed)?;
        let log = std::mem::take(&mut self.log);
        let train = self.losses(&log, &batches.counts, |row| row + 1)?;
        self.engine.run(self.validate, 0..self.validation.steps as u32)?;
        let log = self.engine.read_f32(&feed::log("validation"))?;
        let validation = self.losses(&log, &self.validation.counts.clone(), |_| batches.steps)?;
        (self.epoch, self.step) = (next, 0);
        let reports: Vec<Option<EpochReport>> = train
            .into_iter()
            .zip(validation)
            .enumerate()
            .map(|(r, (train, validation))| self.report(r, train?, validation?))
            .collect();
        self.keep_best(&reports)?;
        let out = self.out_of_patience();
        if out != self.stopped {
            // What the device does to them from here on counts no more.
            self.take_tensors()?;
            self.stopped = out;
        }
        Ok(Outcome::Epoch(reports))
    }

    /// Of each replica, after which epoch patience ended it. That follows from where it stands, so
    /// a training that goes on ends as one that never stopped.
    fn out_of_patience(&self) -> Vec<Option<usize>> {
        let of = |(replica, unread): (&ReplicaState, &Option<(usize, f64)>)| {
            let read = replica.best.as_ref().map(|best| best.epoch);
            let end =
                unread.map(|(epoch, _)| epoch).or(read)?.checked_add(self.config.patience?)?;
            (end <= self.epoch && replica.diverged.is_none()).then_some(end)
        };
        self.replicas.iter().zip(&self.unread).map(of).collect()
    }

    /// Of each replica, after which epoch [`TrainConfig::patience`] ended it, if it did. Shown at
    /// [`Trainer`].
    pub fn stopped_early(&self) -> &[Option<usize>] {
        &self.stopped
    }

    /// Whether no replica is left that trains: all have diverged, or were ended by patience. Shown at
    /// [`Trainer`].
    pub fn is_through(&self) -> bool {
        self.replicas.iter().zip(&self.stopped).all(|(r, s)| r.diverged.is_some() || s.is_some())
    }

    /// A replica's epoch, unless it diverged.
    fn report(&self, r: usize, train: Losses, validation: Losses) -> Option<EpochReport> {
        let state = &self.replicas[r];
        let read = || state.best.as_ref().map(|best| best.validation_loss);
        let least = self.unread[r].map(|(_, loss)| loss).or_else(read);
        let best = least.is_none_or(|least| validation.loss < least);
        let report = EpochReport { epoch: self.epoch, train, validation, best };
        (state.diverged.is_none() && self.stopped[r].is_none()).then_some(report)
    }

    /// Keeps the models of those replicas for which this epoch is the best, on the device.
    fn keep_best(&mut self, reports: &[Option<EpochReport>]) -> Result<()> {
        let mut improved = vec![];
        for (r, report) in reports.iter().enumerate() {
            if let Some(report) = report.as_ref().filter(|report| report.best) {
                self.unread[r] = Some((report.epoch, report.validation.loss));
                improved.push(r);
            }
        }
        if improved.is_empty() {
            return Ok(());
        }
        self.engine.copy_replicas(PARAMS, BEST_PARAMS, &improved)?;
        self.engine.copy_replicas(REFERENCE, BEST_REFERENCE, &improved)
    }

    /// Runs a few steps, at most to `steps`, and returns where it is then. The first time one step,
    /// whose duration says how many can follow at once.
    fn run_steps(&mut self, steps: usize) -> Result<usize> {
        let run = self.steps_per_run.unwrap_or(1);
        let end = (self.step + run).min(steps);
        if self.steps_per_run.is_none() {
            self.engine.wait()?;
        }
        let clock = Instant::now();
        self.engine.run(self.train, self.step as u32..end as u32)?;
        if self.steps_per_run.is_none() {
            self.engine.wait()?;
            let fit = SECONDS_PER_RUN / clock.elapsed().as_secs_f64().max(1e-9);
            self.steps_per_run = Some((fit as usize).clamp(1, STEPS_PER_RUN));
        }
        Ok(end)
    }

    /// An epoch's batches: a function of the configuration, the seeds and the epoch alone.
    fn batches(&self, epoch: usize) -> Batches {
        let readings: Vec<Reading> = self
            .sets
            .iter()
            .map(|s| Reading {
                order: epoch_order(s.train, s.seed, epoch as u64, self.config.shuffle)
                    .into_iter()
                    .map(|i| i + s.first_image)
                    .collect(),
                iterations: (epoch * s.train.div_ceil(self.config.batch_size)) as u64,
                seed: s.seed,
            })
            .collect();
        Batches::new(
            &readings,
            self.config.batch_size,
            |count| 1.0 / count as f64,
            (self.config.adam.beta1, self.config.adam.beta2),
        )
    }

    /// Takes over the log of the steps since `from`.
    fn keep_log(&mut self, from: usize) -> Result<()> {
        let row = self.sets.len() * self.log_width();
        let log = self.engine.read_f32(&feed::log("train"))?;
        self.log.truncate(from * row);
        self.log.extend_from_slice(&log[from * row..self.step * row]);
        Ok(())
    }

    fn log_width(&self) -> usize {
        StepLog::of(&self.model).width()
    }

    /// A replica's L, of its parts.
    fn loss(&self, r: usize, mse: f64, constraint: f64, divergence: f64) -> f64 {
        mse + self.sets[r].alpha * constraint + self.config.kl_weight * divergence
    }

    /// Means of each replica's rows of a log; nothing for those that diverged, in this log or
    /// before. `step` tells which step a row belongs to. Errors if none is left.
    fn losses(
        &mut self,
        log: &[f32],
        counts: &[usize],
        step: impl Fn(usize) -> usize,
    ) -> Result<Vec<Option<Losses>>> {
        (0..self.sets.len()).for_each(|r| self.check_log(log, r, &step));
        self.check_any_left()?;
        Ok((0..self.sets.len()).map(|r| self.replica_losses(log, counts, r)).collect())
    }

    fn replica_losses(&self, log: &[f32], counts: &[usize], r: usize) -> Option<Losses> {
        if self.replicas[r].diverged.is_some() {
            return None;
        }
        let replicas = self.sets.len();
        let mut sum =
            Losses { cosines: vec![0.0; self.model.segments().len()], ..Losses::default() };
        let mut images = 0.0;
        for (row, &count) in
            log.chunks_exact(self.log_width()).zip(counts).skip(r).step_by(replicas)
        {
            if count == 0 {
                continue;
            }
            let Logged { mse, constraint, divergence, cosines } =
                StepLog::of(&self.model).parse(row);
            let count = count as f64;
            images += count;
            sum.mse += mse * count;
            sum.constraint += constraint * count;
            sum.divergence += divergence * count;
            sum.cosines.iter_mut().zip(cosines).for_each(|(sum, cos)| *sum += cos * count);
        }
        sum.mse /= images;
        sum.constraint /= images;
        sum.divergence /= images;
        sum.cosines.iter_mut().for_each(|c| *c /= images);
        sum.loss = self.loss(r, sum.mse, sum.constraint, sum.divergence);
        Some(sum)
    }

    /// Marks the replica as diverged if its rows of a log say so.
    fn check_log(&mut self, log: &[f32], r: usize, step: impl Fn(usize) -> usize) {
        if self.stopped[r].is_some() {
            return;
        }
        let rows = log.chunks_exact(self.log_width()).skip(r).step_by(self.sets.len());
        for (i, row) in rows.enumerate() {
            let Logged { mse, constraint, divergence, .. } = StepLog::of(&self.model).parse(row);
            let loss = self.loss(r, mse, constraint, divergence);
            if !loss.is_finite() {
                let more = match self.model.kind() {
                    Kind::Cae => String::new(),
                    Kind::Vae => format!(", KL divergence {divergence}"),
                };
                let what = format!(
                    "the loss is {loss} (reconstruction {mse}, constraint {constraint}{more})"
                );
                return self.mark_diverged(r, (self.epoch + 1, step(i)), what);
            }
        }
    }

    fn mark_diverged(&mut self, r: usize, (epoch, step): (usize, usize), what: String) {
        self.replicas[r].diverged.get_or_insert(Divergence { epoch, step, what });
    }

    /// The epoch, from 1, and its step that were done last.
    fn last_step(&self) -> (usize, usize) {
        match self.step {
            0 => (self.epoch, self.steps),
            step => (self.epoch + 1, step),
        }
    }

    /// Errors if every replica diverged.
    pub(crate) fn check_any_left(&self) -> Result<()> {
        if self.replicas.iter().any(|r| r.diverged.is_none()) {
            return Ok(());
        }
        let (set, first) = (&self.sets[0], self.replicas[0].diverged.as_ref());
        Err(Error::invalid(format!(
            "the training {}; a smaller learning rate than {} or a smaller alpha than {} may help",
            first.map_or(String::new(), ToString::to_string),
            set.lr,
            set.alpha
        )))
    }

    /// Takes over the tensors of all replicas as they are on the device now; of a replica that has
    /// one that is not finite, nothing. Errors if none is left.
    fn take_tensors(&mut self) -> Result<()> {
        let count = self.sets.len();
        let [params, m, v, reference] =
            [PARAMS, M, V, REFERENCE].map(|name| self.engine.read_f32(name));
        let all = [params?, m?, v?, reference?];
        for r in 0..count {
            let [params, m, v, reference] = all.each_ref().map(|all| part(all, r, count));
            let named =
                [("", params), ("exp_avg.", m), ("exp_avg_sq.", v), ("ref_grad.", reference)];
            let state = &mut self.replicas[r];
            match first_not_finite(&self.model, &named) {
                _ if state.diverged.is_some() || self.stopped[r].is_some() => {}
                Some(what) => self.mark_diverged(r, self.last_step(), what),
                None => {
                    let tensors =
                        [&mut state.params, &mut state.m, &mut state.v, &mut state.reference];
                    tensors.into_iter().zip(named).for_each(|(to, (_, from))| *to = from.to_vec());
                }
            }
        }
        self.check_any_left()
    }

    /// Takes over the models of best epochs that are on the device only; one that is not finite
    /// takes no other's place.
    fn take_best(&mut self) -> Result<()> {
        if self.unread.iter().all(Option::is_none) {
            return Ok(());
        }
        let count = self.sets.len();
        let params = self.engine.read_f32(BEST_PARAMS)?;
        let reference = self.engine.read_f32(BEST_REFERENCE)?;
        for r in 0..count {
            let Some((epoch, validation_loss)) = self.unread[r].take() else { continue };
            let (params, reference) = (part(&params, r, count), part(&reference, r, count));
            match first_not_finite(&self.model, &[("", params), ("ref_grad.", reference)]) {
                Some(what) => self.mark_diverged(r, (epoch, self.steps), what),
                None => {
                    let (params, reference) = (params.to_vec(), reference.to_vec());
                    self.replicas[r].best =
                        Some(Snapshot { epoch, validation_loss, params, reference });
                }
            }
        }
        Ok(())
    }

    /// Reconstructions of the first `count` validation images of each replica (at most a batch),
    /// `[count, size, size, channels]`, by the current parameters. Shown at [`Trainer`].
    ///
    /// # Errors
    /// A device failure.
    pub fn preview(&mut self, count: usize) -> Result<Vec<Vec<f32>>> {
        self.engine.run(self.preview, 0..1)?;
        let log = self.engine.read_f32(&feed::log("preview"))?;
        let (n, pixels) = (padded(self.config.batch_size), self.model.pixels());
        let of = |r: usize| {
            let count = count.min(self.sets[r].validation).min(self.config.batch_size);
            let row = &log[r * pixels * n..];
            (0..count).flat_map(|i| (0..pixels).map(move |p| row[p * n + i])).collect()
        };
        Ok((0..self.sets.len()).map(of).collect())
    }

    /// The best epoch of each replica; `None` before the first epoch is complete. Shown at
    /// [`Trainer`].
    ///
    /// # Errors
    /// A device failure.
    pub fn best(&mut self) -> Result<Vec<Option<&Snapshot>>> {
        self.take_best()?;
        Ok(self.replicas.iter().map(|r| r.best.as_ref()).collect())
    }

    /// Of each replica, when its numbers stopped being finite, if they did. Shown at [`Trainer`].
    pub fn diverged(&self) -> impl ExactSizeIterator<Item = Option<&Divergence>> {
        self.replicas.iter().map(|r| r.diverged.as_ref())
    }

    /// Everything that the rest of the training depends on, read from the device. Shown at
    /// [`Trainer`].
    ///
    /// # Errors
    /// A device failure; no replica is left whose numbers are finite.
    pub fn state(&mut self) -> Result<State> {
        let mut log = self.log.clone();
        (0..self.sets.len()).for_each(|r| self.check_log(&log, r, |row| row + 1));
        self.take_tensors()?;
        self.take_best()?;
        let width = self.log_width();
        for (row, r) in log.chunks_exact_mut(width).zip((0..self.sets.len()).cycle()) {
            if self.replicas[r].diverged.is_some() || self.stopped[r].is_some() {
                row.fill(0.0);
            }
        }
        Ok(State { epoch: self.epoch, step: self.step, log, replicas: self.replicas.clone() })
    }

    /// What is known of every replica without asking the device, between two epochs: the tensors
    /// that were last seen to be finite. For trainings of which every replica diverged.
    pub(crate) fn last_state(&self) -> State {
        State { epoch: self.epoch, step: 0, log: vec![], replicas: self.replicas.clone() }
    }

    /// Continues from a state that [`Trainer::state`] returned for the same configuration and
    /// images: every later number is the same bits as in a training that never stopped. Shown at
    /// [`Trainer`].
    ///
    /// # Errors
    /// The state does not fit this training; a device failure.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let replicas = self.sets.len();
        let row = replicas * self.log_width();
        if state.replicas.len() != replicas
            || state.step > self.steps
            || state.log.len() != state.step * row
        {
            return Err(Error::invalid(format!(
                "state: {} models, step {} with {} logged values; this training has {replicas} \
                 models and {} steps an epoch",
                state.replicas.len(),
                state.step,
                state.log.len(),
                self.steps
            )));
        }
        let join = |of: fn(&ReplicaState) -> &Vec<f32>| {
            state.replicas.iter().flat_map(of).copied().collect::<Vec<f32>>()
        };
        self.engine.write(PARAMS, Data::F32(&join(|r| &r.params)))?;
        self.engine.write(M, Data::F32(&join(|r| &r.m)))?;
        self.engine.write(V, Data::F32(&join(|r| &r.v)))?;
        self.engine.write(REFERENCE, Data::F32(&join(|r| &r.reference)))?;
        (self.epoch, self.step, self.log) = (state.epoch, state.step, state.log.clone());
        self.replicas = state.replicas.clone();
        self.unread.fill(None);
        self.stopped = self.out_of_patience();
        Ok(())
    }
}

fn part(all: &[f32], replica: usize, replicas: usize) -> &[f32] {
    let len = all.len() / replicas;
    &all[replica * len..][..len]
}
