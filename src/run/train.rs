//! Driving a training in a run folder: progress, metrics, TensorBoard events, checkpoints,
//! interruption and what is left for users at the end.
//!
//! Between two checkpoints an epoch appends to files and flushes none of them, and reads from the
//! device no more than losses and a preview.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::checkpoint::{self, Checkpoint, Checkpoints, Settings};
use super::config::RunConfig;
use super::threshold;
use super::writer::Writer;
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Growing, Lock, make_folder, parent};
use crate::folders::{self, folder_name};
use crate::images::Images;
use crate::method::detector::Detector;
use crate::method::model::{IMAGE_SIZE, Kind, Model};
use crate::method::readout::Rule;
use crate::method::state::{EpochReport, Losses, Snapshot, State};
use crate::method::trainer::{Outcome, Trainer, TrainingSet};
use crate::report::card::{Card, write_card};
use crate::report::epochs::{self, EpochRow, EpochWriter};
use crate::report::results::{Evaluation, Formula};
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

/// One class's side of a run folder.
struct ClassFiles {
    epochs: EpochWriter,
    events: EventWriter,
    steps_per_epoch: u64,
    variational: bool,
}

/// Where each class of a run has its files.
fn class_folders(run: &Path, config: &RunConfig) -> Vec<PathBuf> {
    config
        .inliers
        .iter()
        .map(|class| folders::training(run, class, config.inliers.len() == 1))
        .collect()
}

/// Training and validation images of a run's classes.
fn images_of(config: &RunConfig, prepared: &Prepared) -> Result<Vec<(Images, Images)>> {
    let inliers = prepared.find_inliers(&config.inliers)?;
    inliers.into_iter().map(|k| Ok((prepared.train_of(k)?, prepared.val_of(k)?))).collect()
}

/// A trainer for a run that has not begun.
fn fresh_trainer<'e>(
    config: &RunConfig,
    images: &[(Images, Images)],
    model: &Model,
    engine: &'e mut dyn Engine,
) -> Result<Trainer<'e>> {
    let start =
        config.init_from.as_deref().map(|path| checkpoint::load_start(path, model)).transpose()?;
    let train_config = config.train_config();
    let set = |(train, validation)| TrainingSet {
        start: start.as_deref(),
        ..TrainingSet::new(train, validation, &train_config)
    };
    let sets: Vec<TrainingSet> =
        images.iter().map(|(train, validation)| set((train, validation))).collect();
    Trainer::new(engine, model, &train_config, &sets)
}

/// Whether a run of this configuration could begin: everything is checked that [`train`] needs, and
/// nothing is written.
///
/// # Errors
/// The first thing that is not as it has to be.
pub fn check(config: &RunConfig, prepared: &Prepared, engine: &mut dyn Engine) -> Result<()> {
    config.check_data(prepared)?;
    fresh_trainer(
        config,
        &images_of(config, prepared)?,
        &Model::of(config.model, prepared.channels())?,
        engine,
    )
    .map(drop)
}

/// Trains in the folder `run`, which holds its `config.toml` and which the caller has locked, to
/// the configuration's number of epochs: from a checkpoint, or from the beginning where there is
/// none yet.
///
/// The same configuration and data give the same bits on one device, interrupted or not. A class
/// whose numbers are no longer finite takes no more part; that is an error at the end.
///
/// # Errors
/// A run that doesn't fit its configuration or its data; a failure of the device or the file
/// system, also in the writing of a checkpoint, which the training doesn't wait for; at the end,
/// classes that diverged. The last checkpoint stays intact.
pub fn train(
    run: &Path,
    lock: &Lock,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    options: Options,
    watch: &mut dyn Watch,
) -> Result<End> {
    config.check_data(prepared)?;
    let model = Model::of(config.model, prepared.channels())?;
    let (classes, folders) = (&config.inliers, class_folders(run, config));
    let images = images_of(config, prepared)?;
    let (checkpoints, checkpoint) = if options.recover {
        let (checkpoints, checkpoint) = Checkpoints::recover(run, &folders, &model)?;
        (checkpoints, Some(checkpoint))
    } else {
        Checkpoints::open(run, &folders, &model)?
    };
    let device = engine.description();
    if let Some(Checkpoint { state, device: before, settings }) = &checkpoint {
        config.check_fixed(settings).map_err(|e| e.in_file(&folders::config(run)))?;
        check_epochs(run, config, state)?;
        if *before != device {
            watch.warn(&format!(
                "{}: trained on {before} so far; on {device} the numbers go on with other \
                 roundings, so not to the same bits",
                run.display()
            ));
        }
    }
    if *config != RunConfig::read(run)? {
        config.write(run)?;
    }
    // What a checkpoint holds is not asked for again.
    let begin = RunConfig {
        init_from: config.init_from.clone().filter(|_| checkpoint.is_none()),
        ..config.clone()
    };
    let mut trainer = fresh_trainer(&begin, &images, &model, engine)?;
    let mut exported = vec![None; classes.len()];
    if let Some(checkpoint) = &checkpoint {
        trainer.restore(&checkpoint.state)?;
        let best = checkpoint.state.replicas.iter().map(|replica| replica.best.as_ref());
        exported = best.map(|best| best.map(|best| best.epoch)).collect();
    }
    let mut files = vec![];
    for (r, (folder, (train, _))) in folders.iter().zip(&images).enumerate() {
        let steps = (train.n.div_ceil(config.batch_size)) as u64;
        let epochs_done = checkpoint.is_some().then(|| trainer.epochs_done());
        let diverged = trainer.diverged().nth(r).flatten().is_some();
        files.push(ClassFiles::open(run, folder, &model, epochs_done, diverged, steps)?);
    }
    let saving = Saving {
        lock,
        checkpoints: &checkpoints,
        config,
        prepared,
        model: &model,
        folders: &folders,
        device: &device,
        settings: config.fixed()?,
    };
    let (end, done, diverged, best) = std::thread::scope(|scope| {
        let told = Told::of(&trainer);
        let (writer, since) = (Writer::new(scope), Instant::now());
        let every = options.checkpoint_every;
        let saving = &saving;
        let mut training =
            Training { trainer, saving, files, exported, told, writer, every, since, watch };
        let end = training.go_on(&images)?;
        let mut trainer = training.trainer;
        let best: Vec<Option<Snapshot>> = trainer.best()?.into_iter().map(|b| b.cloned()).collect();
        let diverged = trainer.diverged().flatten().count();
        Ok::<_, Error>((end, trainer.epochs_done(), diverged, best))
    })?;
    for (k, best) in best.into_iter().enumerate() {
        let Some(best) = best else { continue };
        let mut detector = saving.detector(k, best);
        let (train, validation) = &images[k];
        fit(engine, &mut detector, (train, validation), config)?;
        export(&folders[k], &detector, config, done, None)?;
    }
    if end == End::Complete && diverged > 0 {
        return Err(Error::invalid(format!(
            "{}: {diverged} of {} classes diverged, as said above; their best epochs before, if \
             any, are kept, and the others are complete",
            run.display(),
            classes.len()
        )));
    }
    Ok(end)
}

/// A training under way in its folder.
struct Training<'a, 'scope, 'env> {
    trainer: Trainer<'a>,
    saving: &'env Saving<'env>,
    files: Vec<ClassFiles>,
    /// The best epoch of each class that `best/` is of.
    exported: Vec<Option<usize>>,
    told: Told,
    writer: Writer<'scope, 'env>,
    every: Duration,
    /// When the last checkpoint was taken.
    since: Instant,
    watch: &'a mut dyn Watch,
}

impl<'scope, 'env: 'scope> Training<'_, 'scope, 'env> {
    /// Trains until all epochs are done or somebody asks to stop; all is saved then.
    fn go_on(&mut self, images: &[(Images, Images)]) -> Result<End> {
        let Saving { config, model, lock, .. } = *self.saving;
        let classes = &config.inliers;
        self.watch.begin(self.trainer.epochs_done());
        let (mut end, mut begun) = (End::Complete, false);
        let (mut clock, mut seen) = (Instant::now(), 0);
        while self.trainer.epochs_done() < config.epochs {
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
                Ok(Outcome::Epoch(reports)) => reports,
                Ok(Outcome::Stopped) if asked => {
                    end = End::Stopped;
                    break;
                }
                Ok(Outcome::Stopped) => {
                    self.checkpoint()?;
                    continue;
                }
                Err(error) => return Err(self.ended_by(error)),
            };
            lock.check()?;
            self.told.tell_dead(&reports, model, classes, self.watch);
            let rate = seen as f64 / clock.elapsed().as_secs_f64();
            self.record(&reports, rate, images)?;
            self.watch.epoch(&reports, classes, rate);
            let due = self.every.is_zero() || self.since.elapsed() >= self.every;
            // The last epoch's is due in any case.
            if due && self.trainer.epochs_done() < config.epochs {
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
    fn record(
        &mut self,
        reports: &[Option<EpochReport>],
        rate: f64,
        images: &[(Images, Images)],
    ) -> Result<()> {
        let epoch = self.trainer.epochs_done();
        let pictures =
            (epoch <= 5 || epoch.is_multiple_of(10) || epoch == self.saving.config.epochs)
                .then(|| self.trainer.preview(PREVIEW))
                .transpose()?;
        for (r, class) in self.files.iter_mut().enumerate() {
            let Some(report) = &reports[r] else { continue };
            class.record(report, rate)?;
            if let Some(pictures) = &pictures {
                let channels = self.saving.model.channels();
                class.picture(epoch, &images[r].1.data, &pictures[r], channels)?;
            }
        }
        Ok(())
    }

    /// Hands what the training depends on to the writer.
    fn checkpoint(&mut self) -> Result<()> {
        let state = self.trainer.state();
        self.told.tell(&self.trainer, &self.saving.config.inliers, self.watch);
        let state = state.map_err(|error| self.ended_by(error))?;
        self.since = Instant::now();
        let grown: Vec<Growing> = self.files.iter().flat_map(ClassFiles::grown).cloned().collect();
        let mut improved = vec![];
        for (r, replica) in state.replicas.iter().enumerate() {
            let best = replica.best.as_ref().map(|best| best.epoch);
            if best != std::mem::replace(&mut self.exported[r], best) {
                improved.push(r);
            }
        }
        let saving = self.saving;
        self.writer.begin(move || saving.save(state, &grown, &improved))
    }

    /// The error that ends the training. Best models that are on the device only are kept.
    fn ended_by(&mut self, error: Error) -> Error {
        // The first error is the one to tell.
        let _ = self.writer.wait();
        let epochs = self.trainer.epochs_done();
        if self.saving.lock.check().is_ok()
            && let Ok(best) = self.trainer.best()
        {
            for (r, best) in best.into_iter().enumerate() {
                if let Some(best) = best.filter(|best| Some(best.epoch) != self.exported[r]) {
                    let _ = self.saving.export(r, best.clone(), epochs);
                }
            }
        }
        error
    }
}

/// What every checkpoint of a run is written with.
struct Saving<'a> {
    lock: &'a Lock,
    checkpoints: &'a Checkpoints,
    config: &'a RunConfig,
    prepared: &'a Prepared,
    model: &'a Model,
    folders: &'a [PathBuf],
    device: &'a str,
    settings: Settings,
}

impl Saving<'_> {
    /// Writes a checkpoint; what has `grown` outlives a crash before the checkpoint counts. Then
    /// `best/` of the classes that `improved`.
    fn save(&self, state: State, grown: &[Growing], improved: &[usize]) -> Result<()> {
        let save = || {
            self.lock.check()?;
            grown.iter().try_for_each(Growing::sync)?;
            self.checkpoints.save(&state, self.device, &self.settings)?;
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
        save().map_err(|error| self.lock.check().err().unwrap_or(error))
    }

    fn export(&self, class: usize, best: Snapshot, epochs: usize) -> Result<()> {
        export(&self.folders[class], &self.detector(class, best), self.config, epochs, None)
    }

    /// A class's best epoch with what is known of it.
    fn detector(&self, class: usize, best: Snapshot) -> Detector {
        let config = self.config;
        let mut detector = best.into_detector(self.model, &config.train_config());
        let resized = format!("resize to {IMAGE_SIZE}x{IMAGE_SIZE} (Lanczos), divide by 255");
        let describe = [
            ("beta", config.beta.to_string()),
            ("dataset", self.prepared.manifest().name().to_string()),
            ("data_sha256", config.data_sha256.clone()),
            ("inlier", config.inliers[class].clone()),
            ("device", self.device.to_string()),
            ("preprocessing", resized),
        ];
        detector.description.extend(describe.map(|(k, v)| (k.to_string(), v)));
        if let Some(background) = &self.prepared.manifest().background {
            detector.description.insert("background".into(), background.clone());
        }
        detector
    }
}

/// Errors if a run is past the epochs that were asked for.
fn check_epochs(run: &Path, config: &RunConfig, state: &State) -> Result<()> {
    let reached = state.epoch;
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
}

impl Told {
    fn of(trainer: &Trainer) -> Told {
        let classes = trainer.diverged().len();
        Told { diverged: vec![false; classes], dead: vec![false; classes] }
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
    let scores = match &evaluated {
        Some((_, scores)) => scores.clone(),
        None => vec![Rule::named(&config.score, &detector.model, config.beta)?.into()],
    };
    let card = Card {
        name: format!("gradcon-{dataset}-{}", folder_name(&class).to_lowercase()),
        dataset,
        data: Some(config.data.display().to_string()),
        data_sha256: detector.description.get("data_sha256").cloned(),
        class,
        model: detector.model.kind().to_string(),
        input: [IMAGE_SIZE, IMAGE_SIZE, detector.model.channels()],
        parameters: detector.model.parameter_count(),
        alpha: config.alpha,
        kl_weight: config.kl_weight,
        scores,
        epochs: epochs as u64,
        best_epoch: detector.number("epoch")?.map(|e| e as u64),
        seed: Some(config.seed),
        device: text("device"),
        date: now(),
        gradcon_version: env!("CARGO_PKG_VERSION").into(),
        threshold: detector.number("threshold")?,
        evaluation: evaluated.map(|(evaluation, _)| evaluation),
    };
    write_card(&folder, &card)
}

/// The time, in RFC 3339, UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Fits what scores need to know of normal images, and sets the threshold of the run's score.
///
/// # Errors
/// A device failure; numbers that are not finite.
pub fn fit(
    engine: &mut dyn Engine,
    detector: &mut Detector,
    (train, validation): (&Images, &Images),
    config: &RunConfig,
) -> Result<()> {
    detector.fit(engine, train, validation)?;
    let rule = Rule::named(&config.score, &detector.model, config.beta)?;
    threshold::set(detector, &rule, config.threshold_quantile)
}

impl ClassFiles {
    fn open(
        run: &Path,
        folder: &Path,
        model: &Model,
        resumed_after: Option<usize>,
        diverged: bool,
        steps: u64,
    ) -> Result<ClassFiles> {
        if folder != run {
            make_folder(parent(folder))?;
            make_folder(folder)?;
        }
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
        validation: &[u8],
        reconstructions: &[f32],
        channels: usize,
    ) -> Result<()> {
        let count = reconstructions.len() / (IMAGE_SIZE * IMAGE_SIZE * channels);
        let mut images = validation[..reconstructions.len()].to_vec();
        images.extend(reconstructions.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
        let images = Images::new(images, [2 * count, IMAGE_SIZE, IMAGE_SIZE, channels])?;
        let grid = sheet::grid(&images, count, 2);
        self.events.image(self.step(epoch), "val/input_and_reconstruction", &grid)
    }
}
