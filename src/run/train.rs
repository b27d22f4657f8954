//! Driving a training in a run folder: progress, metrics, TensorBoard events, checkpoints,
//! interruption and what is left for users at the end.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::checkpoint::{self, Checkpoint, Checkpoints};
use super::config::RunConfig;
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Lock, make_folder, parent};
use crate::folders::{self, folder_name};
use crate::images::Images;
use crate::method::detector::Detector;
use crate::method::model::{IMAGE_SIZE, Model};
use crate::method::scorer::Scorer;
use crate::method::state::{EpochReport, Losses, Snapshot, State};
use crate::method::trainer::{Outcome, Trainer, TrainingSet};
use crate::report::card::{Card, write_card};
use crate::report::epochs::{self, EpochRow, Epochs, read_epochs, write_epochs};
use crate::report::metrics::quantile_of_sorted;
use crate::report::results::Evaluation;
use crate::report::table::short;
use crate::report::tensorboard::EventWriter;
use crate::sheet;

/// What happens while a run trains, for whoever shows it.
pub trait Watch {
    /// The training is about to begin, after `epochs_done` epochs.
    fn begin(&mut self, epochs_done: usize);
    /// Images were trained on (over all models) since the last call; true to stop after this step.
    fn images(&mut self, images: usize) -> bool;
    /// An epoch is complete and saved; no report of a class that diverged.
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

/// Images in TensorBoard's grids.
const PREVIEW: usize = 16;

/// The constrained layers of a model, as tables and tags call them.
pub(super) fn layer_names(model: &Model) -> Vec<String> {
    model.constrained_layers().into_iter().map(short).collect()
}

/// One class's side of a run folder.
struct ClassFiles {
    folder: PathBuf,
    epochs: Epochs,
    events: EventWriter,
    steps_per_epoch: u64,
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
    let set = |(train, validation)| TrainingSet {
        train,
        validation,
        seed: config.seed,
        start: start.as_deref(),
    };
    let sets: Vec<TrainingSet> =
        images.iter().map(|(train, validation)| set((train, validation))).collect();
    Trainer::new(engine, model, &config.train_config(), &sets)
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
        &Model::try_new(prepared.channels())?,
        engine,
    )
    .map(drop)
}

/// Trains in the folder `run`, which holds its `config.toml` and which the caller has locked, to
/// the configuration's number of epochs: from the checkpoint that counts, from the newest one that
/// is whole if `recover`, or from the beginning where there is none yet.
///
/// The same configuration and data give the same bits on one device, interrupted or not. A class
/// whose numbers are no longer finite takes no more part; that is an error at the end.
///
/// # Errors
/// A run that doesn't fit its configuration or its data; a failure of the device or the file
/// system; at the end, classes that diverged. The last checkpoint stays intact.
pub fn train(
    run: &Path,
    lock: &Lock,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    recover: bool,
    watch: &mut dyn Watch,
) -> Result<End> {
    config.check_data(prepared)?;
    let model = Model::try_new(prepared.channels())?;
    let (classes, folders) = (&config.inliers, class_folders(run, config));
    let images = images_of(config, prepared)?;
    let (checkpoints, checkpoint) = if recover {
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
    if let Some(checkpoint) = &checkpoint {
        trainer.restore(&checkpoint.state)?;
    }
    let mut files = vec![];
    for (folder, (train, _)) in folders.iter().zip(&images) {
        let steps = (train.n.div_ceil(config.batch_size)) as u64;
        let epochs_done = checkpoint.is_some().then(|| trainer.epochs_done());
        files.push(ClassFiles::open(run, folder, layer_names(&model), epochs_done, steps)?);
    }
    watch.begin(trainer.epochs_done());
    let mut end = End::Complete;
    let mut told = Told::of(&trainer);
    while trainer.epochs_done() < config.epochs {
        let (clock, mut seen) = (Instant::now(), 0);
        let outcome = trainer.epoch(|progress| {
            seen += progress.images;
            if watch.images(progress.images) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        told.tell(&trainer, classes, watch);
        let Outcome::Epoch(reports) = outcome? else {
            end = End::Stopped;
            break;
        };
        lock.check()?;
        told.tell_dead(&reports, &model, classes, watch);
        let rate = seen as f64 / clock.elapsed().as_secs_f64();
        let epoch = trainer.epochs_done();
        let pictures = (epoch <= 5 || epoch % 10 == 0 || epoch == config.epochs)
            .then(|| trainer.preview(PREVIEW))
            .transpose()?;
        for (r, class) in files.iter_mut().enumerate() {
            let Some(report) = &reports[r] else { continue };
            class.record(report, rate)?;
            if let Some(pictures) = &pictures {
                class.picture(epoch, &images[r].1.data, &pictures[r], model.channels())?;
            }
        }
        let state = trainer.state()?;
        checkpoints.save(&state, &device, &config.fixed()?)?;
        // The threshold comes at the end; a model that is there after a kill has none yet.
        let improved = |r: usize| reports[r].as_ref().is_some_and(|report| report.best);
        for (r, replica) in state.replicas.into_iter().enumerate().filter(|(r, _)| improved(*r)) {
            if let Some(best) = replica.best {
                let detector = detector(best, &model, config, prepared, &classes[r], &device);
                export(&folders[r], &detector, config, epoch, None)?;
            }
        }
        watch.epoch(&reports, classes, rate);
    }
    if end == End::Stopped {
        let state = trainer.state();
        told.tell(&trainer, classes, watch);
        lock.check()?;
        checkpoints.save(&state?, &device, &config.fixed()?)?;
    }
    let best: Vec<Option<Snapshot>> =
        trainer.best()?.into_iter().map(|best| best.cloned()).collect();
    let (done, diverged) = (trainer.epochs_done(), trainer.diverged().flatten().count());
    for (k, best) in best.into_iter().enumerate() {
        let Some(best) = best else { continue };
        let mut detector = detector(best, &model, config, prepared, &classes[k], &device);
        set_threshold(engine, &mut detector, &images[k].1, config.threshold_quantile)?;
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

/// A class's best epoch with what is known of it.
fn detector(
    best: Snapshot,
    model: &Model,
    config: &RunConfig,
    prepared: &Prepared,
    class: &str,
    device: &str,
) -> Detector {
    let mut detector = best.into_detector(model, &config.train_config());
    let describe = [
        ("beta", config.beta.to_string()),
        ("dataset", prepared.manifest().name().to_string()),
        ("data_sha256", config.data_sha256.clone()),
        ("inlier", class.to_string()),
        ("device", device.to_string()),
        ("preprocessing", format!("resize to {IMAGE_SIZE}x{IMAGE_SIZE} (Lanczos), divide by 255")),
    ];
    detector.description.extend(describe.map(|(k, v)| (k.to_string(), v)));
    if let Some(background) = &prepared.manifest().background {
        detector.description.insert("background".into(), background.clone());
    }
    detector
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
    evaluation: Option<Evaluation>,
) -> Result<()> {
    let folder = folders::best(class_folder);
    make_folder(&folder)?;
    detector.save(&folder.join(folders::MODEL))?;
    let text = |key: &str| detector.description.get(key).cloned().unwrap_or_default();
    let (dataset, class) = (text("dataset"), text("inlier"));
    let card = Card {
        name: format!("gradcon-{dataset}-{}", folder_name(&class).to_lowercase()),
        dataset,
        data: Some(config.data.display().to_string()),
        data_sha256: detector.description.get("data_sha256").cloned(),
        class,
        model: "cae".into(),
        input: [IMAGE_SIZE, IMAGE_SIZE, detector.model.channels()],
        parameters: detector.model.parameter_count(),
        alpha: config.alpha,
        beta: config.beta,
        epochs: epochs as u64,
        best_epoch: detector.number("epoch")?.map(|e| e as u64),
        seed: Some(config.seed),
        device: text("device"),
        date: now(),
        gradcon_version: env!("CARGO_PKG_VERSION").into(),
        threshold: detector.number("threshold")?,
        evaluation,
    };
    write_card(&folder, &card)
}

/// The time, in RFC 3339, UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Sets the threshold above which an image is called anomalous: a quantile of the validation
/// images' scores, which depend on the detector's beta.
///
/// # Errors
/// Images of another shape than the model's; a failure of the device.
pub fn set_threshold(
    engine: &mut dyn Engine,
    detector: &mut Detector,
    validation: &Images,
    quantile: f64,
) -> Result<()> {
    let mut scores: Vec<f64> =
        Scorer::new(engine, detector)?.score(validation)?.into_iter().map(|s| s.score).collect();
    scores.sort_by(f64::total_cmp);
    let threshold = quantile_of_sorted(&scores, quantile);
    detector.description.insert("threshold".into(), threshold.to_string());
    detector.description.insert("threshold_quantile".into(), quantile.to_string());
    Ok(())
}

impl ClassFiles {
    fn open(
        run: &Path,
        folder: &Path,
        layers: Vec<String>,
        resumed_after: Option<usize>,
        steps: u64,
    ) -> Result<ClassFiles> {
        if folder != run {
            make_folder(parent(folder))?;
            make_folder(folder)?;
        }
        let metrics = folder.join(folders::METRICS);
        let mut epochs = Epochs { layers, rows: vec![] };
        if let Some(epochs_done) = resumed_after.filter(|&epochs| epochs > 0) {
            epochs = read_epochs(&metrics)?;
            epochs.rows.retain(|row| row.epoch <= epochs_done as u64);
        }
        // TensorBoard hides what an interrupted run logged after its checkpoint.
        let events = match resumed_after {
            Some(epochs_done) => EventWriter::resume(folder, epochs_done as u64 * steps + 1)?,
            None => EventWriter::create(folder)?,
        };
        Ok(ClassFiles { folder: folder.into(), epochs, events, steps_per_epoch: steps })
    }

    fn record(&mut self, report: &EpochReport, images_per_second: f64) -> Result<()> {
        let losses =
            |l: &Losses| epochs::Losses { loss: l.loss, mse: l.mse, constraint: l.constraint };
        self.epochs.rows.push(EpochRow {
            epoch: report.epoch as u64,
            train: losses(&report.train),
            validation: Some(losses(&report.validation)),
            images_per_second,
            best: report.best,
            cosines: report.train.cosines.clone(),
        });
        write_epochs(&self.folder.join(folders::METRICS), &self.epochs)?;
        let mut values = vec![("images_per_second".to_string(), images_per_second)];
        for (part, losses) in [("train", &report.train), ("val", &report.validation)] {
            let parts =
                [("loss", losses.loss), ("mse", losses.mse), ("constraint", losses.constraint)];
            values.extend(parts.map(|(name, v)| (format!("{part}/{name}"), v)));
        }
        let cosines = self.epochs.layers.iter().zip(&report.train.cosines);
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
