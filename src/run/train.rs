//! Driving a training in a run folder: progress, metrics, TensorBoard events, checkpoints,
//! interruption and what is left for users at the end.
//!
//! Between two checkpoints an epoch appends to files and flushes none of them, and reads from the
//! device no more than losses and a preview.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::checkpoint::{self, Checkpoint, Checkpoints, Settings};
use super::config::RunConfig;
use super::threshold;
use super::writer::Writer;
use super::{share, time};
use crate::data::Prepared;
use crate::data::picture::Aspect;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Growing, Lock, make_folder, parent};
use crate::folders::{self, folder_name};
use crate::images::Images;
use crate::method::config::TrainConfig;
use crate::method::detector::Detector;
use crate::method::model::{Init, Kind, Model};
use crate::method::state::{EpochReport, Losses, Snapshot, State};
use crate::method::tiling;
use crate::method::trainer::{Outcome as Step, Trainer, TrainingSet};
use crate::report::card::{Card, write_card};
use crate::report::epochs::{self, EpochRow, EpochWriter};
use crate::report::results::{Evaluation, Formula, Tiled};
use crate::report::table::short;
use crate::report::tensorboard::EventWriter;
use crate::sheet;

/// What happens while a run trains, for whoever shows it.
pub trait Watch {
    /// The training is about to begin, after `epochs_done` epochs.
    fn begin(&mut self, epochs_done: usize);
    /// Images were trained on (over all models) since the last call; true to stop after this step.
    fn images(&mut self, images: usize) -> bool;
    /// An epoch is complete; no report of a class that diverged.
    fn epoch(
        &mut self,
        reports: &[Option<EpochReport>],
        classes: &[String],
        images_per_second: f64,
    );
    /// Something that the user should know, whatever else is shown.
    fn warn(&mut self, message: &str);
    /// Something that is good to know.
    fn note(&mut self, _message: &str) {}
}

/// How a training ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All epochs are done.
    Complete,
    /// Stopped on request; everything is saved.
    Stopped,
}

/// How a training is driven; what it comes to doesn't depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Continue from the newest checkpoint that is whole, instead of the one that counts.
    pub recover: bool,
    /// Time between two checkpoints, which are written while the training goes on; 0 is after every
    /// epoch. There is one at the end and at a stop in any case.
    pub checkpoint_every: Duration,
}

impl Options {
    /// Seconds between two checkpoints, where nobody says otherwise.
    pub const CHECKPOINT_EVERY: u64 = 60;
}

impl Default for Options {
    fn default() -> Options {
        let checkpoint_every = Duration::from_secs(Options::CHECKPOINT_EVERY);
        Options { recover: false, checkpoint_every }
    }
}

/// Images in TensorBoard's grids.
const PREVIEW: usize = 16;

/// The constrained layers of a model, as tables and tags call them.
pub(super) fn layer_names(model: &Model) -> Vec<String> {
    model.constrained_layers().into_iter().map(short).collect()
}

/// One model to train: a class of a run.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The run's folder, with its `config.toml`.
    pub run: PathBuf,
    /// The run's settings; of its classes only `class` is meant.
    pub config: RunConfig,
    /// The normal class.
    pub class: String,
    /// What messages call it.
    pub name: String,
}

impl Unit {
    /// Every class of a run.
    pub fn all(run: &Path, config: &RunConfig) -> Vec<Unit> {
        let unit = |class: &String| Unit {
            run: run.into(),
            config: config.clone(),
            class: class.clone(),
            name: class.clone(),
        };
        config.inliers.iter().map(unit).collect()
    }

    /// Where its training is.
    pub fn folder(&self) -> PathBuf {
        folders::training(&self.run, &self.class)
    }

    /// What models must have in common to train as one program.
    fn program(&self) -> (Kind, TrainConfig) {
        let config = self.config.train_config();
        let alpha = if config.alpha == 0.0 { 0.0 } else { 1.0 };
        (self.config.model, TrainConfig { alpha, lr: 1.0, seed: 0, init: Init::Torch, ..config })
    }
}

/// Splits units, by their place in the list, into those that can train as one program.
pub fn programs(units: &[Unit]) -> Vec<Vec<usize>> {
    grouped(units.len(), |i, j| units[i].program() == units[j].program())
}

/// Groups of numbers below `count` that are alike, in order.
fn grouped(count: usize, alike: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    for i in 0..count {
        match groups.iter_mut().find(|group| alike(group[0], i)) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// What a training came to.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Of each unit, when its numbers stopped being finite, if they did.
    pub diverged: Vec<Option<String>>,
    /// Where every model of a program diverged, what to do about it.
    pub failed: Option<Error>,
}

/// One class's side of a run folder.
struct ClassFiles {
    epochs: EpochWriter,
    events: EventWriter,
    steps_per_epoch: u64,
    variational: bool,
}

/// Training and validation images of classes, each once.
pub(super) struct ClassImages(Vec<(String, Images, Images)>);

impl ClassImages {
    pub(super) fn of(units: &[Unit], prepared: &Prepared) -> Result<ClassImages> {
        let mut all: Vec<(String, Images, Images)> = vec![];
        for unit in units {
            if all.iter().all(|(class, ..)| *class != unit.class) {
                for k in prepared.find_inliers(std::slice::from_ref(&unit.class))? {
                    all.push((unit.class.clone(), prepared.train_of(k)?, prepared.val_of(k)?));
                }
            }
        }
        Ok(ClassImages(all))
    }

    fn get(&self, class: &str) -> (&Images, &Images) {
        let found = self.0.iter().find(|(name, ..)| name == class);
        let (_, train, validation) = found.expect("every class has its images");
        (train, validation)
    }
}

/// A trainer for units of one program, which begin.
pub(super) fn fresh_trainer<'e>(
    units: &[&Unit],
    images: &ClassImages,
    model: &Model,
    engine: &'e mut dyn Engine,
) -> Result<Trainer<'e>> {
    let load = |unit: &&Unit| {
        let file = unit.config.init_from.as_deref();
        file.map(|path| checkpoint::load_start(path, model)).transpose()
    };
    let starts = units.iter().map(load).collect::<Result<Vec<_>>>()?;
    // The changed copies are on the device only while it trains: what is fitted and judged
    // afterwards are the images themselves.
    let train: Vec<Cow<Images>> =
        units.iter().map(|unit| unit.config.augmented(images.get(&unit.class).0)).collect();
    let sets: Vec<TrainingSet> = units
        .iter()
        .zip(&starts)
        .zip(&train)
        .map(|((unit, start), train)| {
            let (_, validation) = images.get(&unit.class);
            TrainingSet {
                start: start.as_deref(),
                ..TrainingSet::new(train, validation, &unit.config.train_config())
            }
        })
        .collect();
    Trainer::new(engine, model, &units[0].config.train_config(), &sets)
}

/// Whether the training of these units, as one program, could begin: everything is checked that
/// [`train`] needs, and nothing is written.
///
/// # Errors
/// The first thing that is not as it has to be.
pub fn check(units: &[Unit], prepared: &Prepared, engine: &mut dyn Engine) -> Result<()> {
    let Some(first) = units.first() else { return Ok(()) };
    first.config.check_data(prepared)?;
    let model = first.config.model_for(prepared)?;
    let images = ClassImages::of(units, prepared)?;
    fresh_trainer(&units.iter().collect::<Vec<_>>(), &images, &model, engine).map(drop)
}

/// Trains the configuration's classes in the folder `run`, which holds its `config.toml`, to the
/// configuration's number of epochs: each from its checkpoint, or from the beginning where there is
/// none yet. The run may have more classes.
///
/// The same configuration and data give the same bits on one device, interrupted or not. A class
/// whose numbers are no longer finite takes no more part; that is an error at the end.
///
/// # Errors
/// A run that doesn't fit its configuration or its data, or a class that another process trains; a
/// failure of the device or the file system, also in the writing of a checkpoint, which the
/// training doesn't wait for; at the end, classes that diverged. The last checkpoint stays intact.
pub fn train(
    run: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    options: Options,
    watch: &mut dyn Watch,
) -> Result<End> {
    let units = Unit::all(run, config);
    let Outcome { end, diverged, failed } = train_units(&units, prepared, engine, options, watch)?;
    let count = diverged.iter().flatten().count();
    match failed {
        Some(error) if count == units.len() => Err(error),
        _ if end == End::Complete && count > 0 => Err(Error::invalid(format!(
            "{}: {count} of {} classes diverged, as said above; their best epochs before, if \
             any, are kept, and the others are complete",
            run.display(),
            units.len()
        ))),
        _ => Ok(end),
    }
}

/// [`train`] for classes of any runs with one dataset: what can train as one program and stands at
/// the same step does. What diverged is no error here.
///
/// # Errors
/// As [`train`].
pub fn train_units(
    units: &[Unit],
    prepared: &Prepared,
    engine: &mut dyn Engine,
    options: Options,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    let mut runs: Vec<&Unit> = vec![];
    for unit in units {
        if runs.iter().all(|other| other.run != unit.run) {
            unit.config.check_data(prepared)?;
            drop(share::open(&unit.run, "gradcon train")?);
            runs.push(unit);
        }
    }
    let images = ClassImages::of(units, prepared)?;
    let device = engine.description();
    let mut opened = vec![];
    for unit in units {
        opened.push(Opened::new(unit, prepared, &device, options.recover, watch)?);
    }
    runs.iter().try_for_each(|unit| share::update(&unit.run, &unit.config))?;
    let mut outcome =
        Outcome { end: End::Complete, diverged: vec![None; units.len()], failed: None };
    let alike = |i: usize, j: usize| {
        opened[i].position() == opened[j].position() && units[i].program() == units[j].program()
    };
    for group in grouped(units.len(), alike) {
        let program = Group {
            units: group.iter().map(|&i| &units[i]).collect(),
            opened: group.iter().map(|&i| &opened[i]).collect(),
            prepared,
            images: &images,
            device: &device,
        };
        let (end, diverged, failed) = program.train(engine, options, watch)?;
        group.iter().zip(diverged).for_each(|(&i, why)| outcome.diverged[i] = why);
        outcome.failed = outcome.failed.or(failed);
        if end == End::Stopped {
            outcome.end = end;
            break;
        }
    }
    Ok(outcome)
}

/// A training's folder, locked, and where it stands.
struct Opened {
    folder: PathBuf,
    lock: Lock,
    model: Model,
    checkpoints: Checkpoints,
    checkpoint: Option<Checkpoint>,
    settings: Settings,
    /// Seconds that went into the checkpoint, where an earlier version didn't make it.
    seconds: Option<f64>,
}

impl Opened {
    fn new(
        unit: &Unit,
        prepared: &Prepared,
        device: &str,
        recover: bool,
        watch: &mut dyn Watch,
    ) -> Result<Opened> {
        let (run, config, folder) = (&unit.run, &unit.config, unit.folder());
        make_folder(parent(&folder))?;
        make_folder(&folder)?;
        let lock = Lock::hold(&folder, "gradcon train")?;
        if !lock.works {
            watch.warn(&format!(
                "{}: this file system has no locks: nothing keeps a second process out",
                folder.display()
            ));
        }
        let model = config.model_for(prepared)?;
        let found = if recover {
            let found = Checkpoints::recover(&folder, &model);
            found.map(|(checkpoints, checkpoint)| (checkpoints, Some(checkpoint)))
        } else {
            Checkpoints::open(&folder, &model)
        };
        let (checkpoints, checkpoint) =
            found.map_err(|e| share::with_short_name(e, run, &unit.class))?;
        if let Some(Checkpoint { epoch, device: before, settings, .. }) = &checkpoint {
            config.check_fixed(settings).map_err(|e| e.in_file(&folders::config(run)))?;
            check_epochs(run, config, *epoch)?;
            if before != device {
                watch.warn(&format!(
                    "{}: trained on {before} so far; on {device} the numbers go on with other \
                     roundings, so not to the same bits",
                    run.display()
                ));
            }
        }
        let seconds = if checkpoint.is_some() { time::read(&folder) } else { Some(0.0) };
        let settings = config.fixed()?;
        Ok(Opened { folder, lock, model, checkpoints, checkpoint, settings, seconds })
    }

    fn position(&self) -> Option<(usize, usize)> {
        self.checkpoint.as_ref().map(|checkpoint| (checkpoint.epoch, checkpoint.step))
    }
}

/// Units that train as one program.
struct Group<'a> {
    units: Vec<&'a Unit>,
    opened: Vec<&'a Opened>,
    prepared: &'a Prepared,
    images: &'a ClassImages,
    device: &'a str,
}

/// How a group ended, which of its models diverged, and the error if all of them did.
type Ended = (End, Vec<Option<String>>, Option<Error>);

impl Group<'_> {
    /// The settings that all of them have.
    fn config(&self) -> &RunConfig {
        &self.units[0].config
    }

    fn model(&self) -> &Model {
        &self.opened[0].model
    }

    fn names(&self) -> Vec<String> {
        self.units.iter().map(|unit| unit.name.clone()).collect()
    }

    fn validation(&self, r: usize) -> &Images {
        self.images.get(&self.units[r].class).1
    }

    fn train(
        &self,
        engine: &mut dyn Engine,
        options: Options,
        watch: &mut dyn Watch,
    ) -> Result<Ended> {
        let checkpoints: Option<Vec<&Checkpoint>> =
            self.opened.iter().map(|opened| opened.checkpoint.as_ref()).collect();
        let state = checkpoints.map(|checkpoints| checkpoint::join(&checkpoints));
        // What a checkpoint holds is not asked for again.
        let begin = |unit: &&Unit| {
            let mut unit = (*unit).clone();
            unit.config.init_from = unit.config.init_from.filter(|_| state.is_none());
            unit
        };
        let begin: Vec<Unit> = self.units.iter().map(begin).collect();
        let begin: Vec<&Unit> = begin.iter().collect();
        let mut trainer = fresh_trainer(&begin, self.images, self.model(), engine)?;
        let mut exported = vec![None; self.units.len()];
        if let Some(state) = &state {
            trainer.restore(state)?;
            let best = state.replicas.iter().map(|replica| replica.best.as_ref());
            exported = best.map(|best| best.map(|best| best.epoch)).collect();
        }
        let mut files = vec![];
        for (r, (unit, opened)) in self.units.iter().zip(&self.opened).enumerate() {
            let images = unit.config.training_images(self.images.get(&unit.class).0.n);
            let steps = images.div_ceil(unit.config.batch_size) as u64;
            let epochs_done = state.is_some().then(|| trainer.epochs_done());
            let diverged = trainer.diverged().nth(r).flatten().is_some();
            files.push(ClassFiles::open(
                &opened.folder,
                self.model(),
                epochs_done,
                diverged,
                steps,
            )?);
        }
        let (end, done, diverged, best, failed) = std::thread::scope(|scope| {
            let told = Told::of(&trainer);
            let (writer, start) = (Writer::new(scope), Instant::now());
            let (every, since, group) = (options.checkpoint_every, start, self);
            let mut training = Training {
                trainer,
                group,
                files,
                exported,
                told,
                writer,
                every,
                start,
                since,
                watch,
            };
            let (end, failed) = match training.go_on() {
                Ok(end) => (end, None),
                Err(error) if training.all_diverged() => {
                    training.keep_diverged()?;
                    (End::Complete, Some(error))
                }
                Err(error) => return Err(error),
            };
            let mut trainer = training.trainer;
            let best: Vec<Option<Snapshot>> =
                trainer.best()?.into_iter().map(|b| b.cloned()).collect();
            let why = trainer.diverged().map(|why| why.map(ToString::to_string)).collect();
            let done: Vec<usize> = trainer
                .stopped_early()
                .iter()
                .map(|stopped| stopped.unwrap_or(trainer.epochs_done()))
                .collect();
            Ok::<_, Error>((end, done, why, best, failed))
        })?;
        for (r, best) in best.into_iter().enumerate() {
            let Some(best) = best else { continue };
            let mut detector = self.detector(r, best);
            let config = &self.units[r].config;
            fit(engine, &mut detector, self.images.get(&self.units[r].class), config)?;
            export(&self.opened[r].folder, &detector, config, done[r], None)?;
        }
        Ok((end, diverged, failed))
    }

    /// Whether every folder is still where it was.
    fn check_locks(&self) -> Result<()> {
        self.opened.iter().try_for_each(|opened| opened.lock.check())
    }

    /// Writes a checkpoint, `seconds` after the training went on; what has `grown` outlives a crash
    /// before the checkpoint counts. Then `best/` of the models that `improved`.
    fn save(
        &self,
        state: State,
        seconds: f64,
        grown: &[Growing],
        improved: &[usize],
    ) -> Result<()> {
        let save = || {
            self.check_locks()?;
            grown.iter().try_for_each(Growing::sync)?;
            let checkpoints: Vec<&Checkpoints> =
                self.opened.iter().map(|opened| &opened.checkpoints).collect();
            let settings: Vec<&Settings> =
                self.opened.iter().map(|opened| &opened.settings).collect();
            checkpoint::save(&checkpoints, &state, self.device, &settings)?;
            for opened in &self.opened {
                if let Some(before) = opened.seconds {
                    time::write(&opened.folder, before + seconds)?;
                }
            }
            // The threshold comes at the end; a model that is there after a kill has none yet.
            for &r in improved {
                if let Some(best) = &state.replicas[r].best {
                    self.export(r, best.clone(), state.epoch)?;
                }
            }
            Ok(())
        };
        // A folder that was taken away in the midst of it is the reason, not the file that is
        // missing then.
        save().map_err(|error| self.check_locks().err().unwrap_or(error))
    }

    fn export(&self, r: usize, best: Snapshot, epochs: usize) -> Result<()> {
        let detector = self.detector(r, best);
        export(&self.opened[r].folder, &detector, &self.units[r].config, epochs, None)
    }

    /// A model's best epoch with what is known of it.
    fn detector(&self, r: usize, best: Snapshot) -> Detector {
        let Unit { config, class, .. } = self.units[r];
        let mut detector = best.into_detector(self.model(), &config.train_config());
        let manifest = self.prepared.manifest();
        let aspect = manifest.aspect;
        let describe = [
            ("beta", config.beta.to_string()),
            ("dataset", manifest.name().to_string()),
            ("data_sha256", config.data_sha256.clone()),
            ("inlier", class.clone()),
            ("device", self.device.to_string()),
            ("preprocessing", preprocessing(self.prepared)),
        ];
        detector.description.extend(describe.map(|(k, v)| (k.to_string(), v)));
        if let Some(background) = &manifest.background {
            detector.description.insert("background".into(), background.clone());
        }
        if aspect != Aspect::default() {
            detector.description.insert("aspect".into(), aspect.to_string());
        }
        if let Some(tiles) = self.prepared.tiles() {
            tiling::describe(&mut detector.description, tiles);
        }
        detector
    }
}

/// A training under way in its folder.
struct Training<'a, 'scope, 'env> {
    trainer: Trainer<'a>,
    group: &'env Group<'env>,
    files: Vec<ClassFiles>,
    /// The best epoch of each class that `best/` is of.
    exported: Vec<Option<usize>>,
    told: Told,
    writer: Writer<'scope, 'env>,
    every: Duration,
    start: Instant,
    /// When the last checkpoint was taken.
    since: Instant,
    watch: &'a mut dyn Watch,
}

impl<'scope, 'env: 'scope> Training<'_, 'scope, 'env> {
    /// Trains until all epochs are done or somebody asks to stop; all is saved then.
    fn go_on(&mut self) -> Result<End> {
        let (group, names) = (self.group, self.group.names());
        let classes = &names;
        self.told.tell(&self.trainer, classes, self.watch);
        if self.all_diverged() {
            return Err(self.trainer.check_any_left().err().unwrap_or(Error::Interrupted));
        }
        self.told.tell_stopped(&self.trainer, group.config(), classes, self.watch);
        self.watch.begin(self.trainer.epochs_done());
        let (mut end, mut begun) = (End::Complete, false);
        let (mut clock, mut seen) = (Instant::now(), 0);
        while !self.is_over() {
            begun = true;
            let (mut asked, mut failed) = (false, Ok(()));
            let outcome = self.trainer.epoch(|progress| {
                seen += progress.images;
                asked = self.watch.images(progress.images);
                let free = self.writer.is_free().unwrap_or_else(|e| {
                    failed = Err(e);
                    true
                });
                let due = free && !self.every.is_zero() && self.since.elapsed() >= self.every;
                if asked || failed.is_err() || due {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            self.told.tell(&self.trainer, classes, self.watch);
            failed?;
            let reports = match outcome {
                Ok(Step::Epoch(reports)) => reports,
                Ok(Step::Stopped) if asked => {
                    end = End::Stopped;
                    break;
                }
                Ok(Step::Stopped) => {
                    self.checkpoint()?;
                    continue;
                }
                Err(error) => return Err(self.ended_by(error)),
            };
            group.check_locks()?;
            self.told.tell_dead(&reports, group.model(), classes, self.watch);
            let rate = seen as f64 / clock.elapsed().as_secs_f64();
            self.record(&reports, rate)?;
            self.watch.epoch(&reports, classes, rate);
            self.told.tell_stopped(&self.trainer, group.config(), classes, self.watch);
            let due = self.every.is_zero() || self.since.elapsed() >= self.every;
            // The last epoch's is due in any case.
            if due && !self.is_over() {
                // After every epoch means each of them, also where the disk is the slower one.
                if self.every.is_zero() || self.writer.is_free()? {
                    self.checkpoint()?;
                }
            }
            (clock, seen) = (Instant::now(), 0);
        }
        if begun {
            self.checkpoint()?;
        }
        self.writer.wait()?;
        Ok(end)
    }

    /// Writes what is known after an epoch for whoever watches the folder.
    fn record(&mut self, reports: &[Option<EpochReport>], rate: f64) -> Result<()> {
        let epoch = self.trainer.epochs_done();
        let pictures =
            (epoch <= 5 || epoch.is_multiple_of(10) || epoch == self.group.config().epochs)
                .then(|| self.trainer.preview(PREVIEW))
                .transpose()?;
        for (r, class) in self.files.iter_mut().enumerate() {
            let Some(report) = &reports[r] else { continue };
            class.record(report, rate)?;
            if let Some(pictures) = &pictures {
                class.picture(epoch, self.group.validation(r), &pictures[r])?;
            }
        }
        Ok(())
    }

    /// Hands what the training depends on to the writer.
    fn checkpoint(&mut self) -> Result<()> {
        let state = self.trainer.state();
        self.told.tell(&self.trainer, &self.group.names(), self.watch);
        let state = state.map_err(|error| self.ended_by(error))?;
        self.begin_saving(state)
    }

    /// Keeps that every model diverged: nobody trains them again to find out.
    fn keep_diverged(&mut self) -> Result<()> {
        let state = self.trainer.last_state();
        if self.group.opened.iter().all(|opened| {
            opened.checkpoint.as_ref().is_some_and(|before| before.replica.diverged.is_some())
        }) {
            return Ok(());
        }
        self.begin_saving(state)?;
        self.writer.wait()
    }

    /// All epochs are done, or no model is left that trains.
    fn is_over(&self) -> bool {
        let done = self.trainer.epochs_done() >= self.group.config().epochs;
        done || self.trainer.is_through()
    }

    fn all_diverged(&self) -> bool {
        self.trainer.diverged().all(|why| why.is_some())
    }

    fn begin_saving(&mut self, state: State) -> Result<()> {
        self.since = Instant::now();
        let grown: Vec<Growing> = self.files.iter().flat_map(ClassFiles::grown).cloned().collect();
        let mut improved = vec![];
        for (r, replica) in state.replicas.iter().enumerate() {
            let best = replica.best.as_ref().map(|best| best.epoch);
            if best != std::mem::replace(&mut self.exported[r], best) {
                improved.push(r);
            }
        }
        let (group, seconds) = (self.group, self.start.elapsed().as_secs_f64());
        self.writer.begin(move || group.save(state, seconds, &grown, &improved))
    }

    /// The error that ends the training. Best models that are on the device only are kept.
    fn ended_by(&mut self, error: Error) -> Error {
        // The first error is the one to tell.
        let _ = self.writer.wait();
        let epochs = self.trainer.epochs_done();
        if self.group.check_locks().is_ok()
            && let Ok(best) = self.trainer.best()
        {
            for (r, best) in best.into_iter().enumerate() {
                if let Some(best) = best.filter(|best| Some(best.epoch) != self.exported[r]) {
                    let _ = self.group.export(r, best.clone(), epochs);
                }
            }
        }
        error
    }
}

/// Errors if a run is past the epochs that were asked for.
fn check_epochs(run: &Path, config: &RunConfig, reached: usize) -> Result<()> {
    if config.epochs >= reached {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "epochs is {}, but {} has {reached} already; a run can't be shortened",
        config.epochs,
        run.display()
    )))
}

/// Which warnings the user has heard.
struct Told {
    diverged: Vec<bool>,
    dead: Vec<bool>,
    stopped: Vec<bool>,
}

impl Told {
    fn of(trainer: &Trainer) -> Told {
        let classes = trainer.diverged().len();
        let none = || vec![false; classes];
        Told { diverged: none(), dead: none(), stopped: none() }
    }

    /// Which classes patience ended before the last epoch, and when.
    fn tell_stopped(
        &mut self,
        trainer: &Trainer,
        config: &RunConfig,
        classes: &[String],
        watch: &mut dyn Watch,
    ) {
        for ((class, end), told) in
            classes.iter().zip(trainer.stopped_early()).zip(&mut self.stopped)
        {
            if let (Some(end), Some(patience)) =
                (end.filter(|&end| end < config.epochs), config.patience)
                && !std::mem::replace(told, true)
            {
                watch.note(&format!(
                    "class {class} stopped early, after epoch {end} of {}: none of the last \
                     {patience} had a better validation loss than epoch {}",
                    config.epochs,
                    end - patience
                ));
            }
        }
    }

    /// Which classes diverged, and when.
    fn tell(&mut self, trainer: &Trainer, classes: &[String], watch: &mut dyn Watch) {
        for ((class, divergence), told) in
            classes.iter().zip(trainer.diverged()).zip(&mut self.diverged)
        {
            if let Some(divergence) = divergence
                && !std::mem::replace(told, true)
            {
                watch.warn(&format!(
                    "class {class} {divergence}; it takes no more part in the training"
                ));
            }
        }
    }

    /// Which classes have a decoder layer that no image can change any more: its gradient is zero,
    /// and so is the cosine.
    fn tell_dead(
        &mut self,
        reports: &[Option<EpochReport>],
        model: &Model,
        classes: &[String],
        watch: &mut dyn Watch,
    ) {
        for ((class, report), told) in classes.iter().zip(reports).zip(&mut self.dead) {
            let Some(report) = report else { continue };
            let dead = |(_, cos): &(_, &f64)| **cos == 0.0;
            let layers: Vec<&str> = model
                .constrained_weights()
                .map(|p| p.name.as_str())
                .zip(&report.validation.cosines)
                .filter(dead)
                .map(|(name, _)| name)
                .collect();
            if !layers.is_empty() && !std::mem::replace(told, true) {
                watch.warn(&format!(
                    "class {class} has a dead model since epoch {}: no image has a gradient in \
                     {}; a smaller learning rate may help",
                    report.epoch,
                    layers.join(", ")
                ));
            }
        }
    }
}

/// Writes `best/`: the model and its card, which tells of an evaluation if there was one. `epochs`
/// is how many were trained.
///
/// # Errors
/// The file system's.
pub fn export(
    class_folder: &Path,
    detector: &Detector,
    config: &RunConfig,
    epochs: usize,
    evaluated: Option<(Evaluation, Vec<Formula>)>,
) -> Result<()> {
    let folder = folders::best(class_folder);
    make_folder(&folder)?;
    detector.save(&folder.join(folders::MODEL))?;
    let text = |key: &str| detector.description.get(key).cloned().unwrap_or_default();
    let (dataset, class) = (text("dataset"), text("inlier"));
    let score = detector.rule(&config.score, config.beta)?;
    let (evaluation, scores) = evaluated.unzip();
    let best = detector.number("epoch")?.map(|epoch| epoch as usize);
    let card = Card {
        name: format!("gradcon-{dataset}-{}", folder_name(&class).to_lowercase()),
        dataset,
        data: Some(config.data.display().to_string()),
        data_sha256: detector.description.get("data_sha256").cloned(),
        class,
        model: detector.model.kind().to_string(),
        input: [detector.model.size(), detector.model.size(), detector.model.channels()],
        preprocessing: detector.description.get("preprocessing").cloned(),
        tiles: detector.tiling()?.map(Tiled::from),
        parameters: detector.model.parameter_count(),
        alpha: config.alpha,
        kl_weight: config.kl_weight,
        score: score.into(),
        scores: scores.unwrap_or_default(),
        epochs: epochs as u64,
        explained_variance: detector.explained_variance()?,
        best_epoch: best.map(|best| best as u64),
        stopped_early: best.and_then(|best| config.stopped_early(epochs, best)),
        seed: Some(config.seed),
        device: text("device"),
        date: now(),
        gradcon_version: env!("CARGO_PKG_VERSION").into(),
        threshold: detector.number("threshold")?,
        evaluation,
    };
    write_card(&folder, &card)
}

/// What becomes of a picture before a model sees it, in words.
fn preprocessing(prepared: &Prepared) -> String {
    let manifest = prepared.manifest();
    let shape = match manifest.aspect {
        Aspect::Squash => "",
        Aspect::Pad => "pad to a square, ",
        Aspect::Crop => "crop to a square, ",
    };
    let cut = prepared.tiles().map_or(String::new(), |tiles| {
        format!("cut into tiles of {0}x{0} every {1} pixels, ", tiles.size(), tiles.stride())
    });
    format!("{shape}resize to {0}x{0} (Lanczos), {cut}divide by 255", manifest.height)
}

/// The time, in RFC 3339, UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Fits what scores need to know of normal images, and settles how images are judged ([`judge`]).
///
/// # Errors
/// A device failure; numbers that are not finite.
pub fn fit(
    engine: &mut dyn Engine,
    detector: &mut Detector,
    (train, validation): (&Images, &Images),
    config: &RunConfig,
) -> Result<()> {
    tiling::measure(&mut detector.description, train)?;
    tiling::settle(&mut detector.description, config.place, config.top_tiles)?;
    detector.fit(engine, train, validation)?;
    judge(detector, config)
}

/// Settles how images are judged by the run's score: by how many of their tiles, and from which
/// threshold on.
///
/// # Errors
/// A detector without statistics, or with numbers that are not finite.
pub fn judge(detector: &mut Detector, config: &RunConfig) -> Result<()> {
    let rule = detector.rule(&config.score, config.beta)?;
    if config.top_tiles.is_none() {
        tiling::choose_top(detector, &rule)?;
    }
    threshold::set(detector, &rule, config.level())
}

impl ClassFiles {
    fn open(
        folder: &Path,
        model: &Model,
        resumed_after: Option<usize>,
        diverged: bool,
        steps: u64,
    ) -> Result<ClassFiles> {
        let metrics = folder.join(folders::METRICS);
        // A class that diverged in its first epoch has no row, and so no file.
        let kept = resumed_after.filter(|_| !diverged || metrics.exists()).unwrap_or(0);
        let epochs = EpochWriter::open(&metrics, layer_names(model), kept as u64)?;
        // TensorBoard hides what an interrupted run logged after its checkpoint.
        let events = match resumed_after {
            Some(epochs_done) => EventWriter::resume(folder, epochs_done as u64 * steps + 1)?,
            None => EventWriter::create(folder)?,
        };
        let variational = model.kind() == Kind::Vae;
        Ok(ClassFiles { epochs, events, steps_per_epoch: steps, variational })
    }

    /// The files that grow while the training goes on.
    fn grown(&self) -> impl Iterator<Item = &Growing> {
        self.epochs.file().into_iter().chain([self.events.file()])
    }

    fn record(&mut self, report: &EpochReport, images_per_second: f64) -> Result<()> {
        let losses = |l: &Losses| epochs::Losses {
            loss: l.loss,
            mse: l.mse,
            constraint: l.constraint,
            divergence: self.variational.then_some(l.divergence),
        };
        self.epochs.append(&EpochRow {
            epoch: report.epoch as u64,
            train: losses(&report.train),
            validation: Some(losses(&report.validation)),
            images_per_second,
            best: report.best,
            cosines: report.train.cosines.clone(),
        })?;
        let mut values = vec![("images_per_second".to_string(), images_per_second)];
        for (part, losses) in [("train", &report.train), ("val", &report.validation)] {
            let parts =
                [("loss", losses.loss), ("mse", losses.mse), ("constraint", losses.constraint)];
            values.extend(parts.map(|(name, v)| (format!("{part}/{name}"), v)));
            if self.variational {
                values.push((format!("{part}/divergence"), losses.divergence));
            }
        }
        let cosines = self.epochs.layers().iter().zip(&report.train.cosines);
        values.extend(cosines.map(|(layer, &v)| (format!("cos/{layer}"), v)));
        let values: Vec<(&str, f32)> =
            values.iter().map(|(tag, v)| (tag.as_str(), *v as f32)).collect();
        self.events.scalars(self.step(report.epoch), &values)
    }

    /// Iterations after `epoch` epochs.
    fn step(&self, epoch: usize) -> u64 {
        epoch as u64 * self.steps_per_epoch
    }

    /// Inputs above their reconstructions.
    fn picture(
        &mut self,
        epoch: usize,
        validation: &Images,
        reconstructions: &[f32],
    ) -> Result<()> {
        let count = reconstructions.len() / validation.image_len();
        let mut images = validation.data[..reconstructions.len()].to_vec();
        images.extend(reconstructions.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
        let Images { height, width, channels, .. } = *validation;
        let images = Images::new(images, [2 * count, height, width, channels])?;
        let grid = sheet::grid(&images, count, 2);
        self.events.image(self.step(epoch), "val/input_and_reconstruction", &grid)
    }
}
