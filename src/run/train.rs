//! Driving a training in a run folder: progress, metrics, TensorBoard events, checkpoints, interruption and what is left for users at the end.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::checkpoint;
use super::config::RunConfig;
use crate::data::Prepared;
use crate::engine::Engine;
use crate::gradcon::detector::Detector;
use crate::gradcon::model::{IMAGE_SIZE, Model};
use crate::gradcon::scorer::Scorer;
use crate::gradcon::trainer::{EpochReport, Losses, Outcome, Snapshot, Trainer, TrainingSet};
use crate::images::Images;
use crate::report::card::{Card, write_card};
use crate::report::epochs::{self, EpochRow, read_epochs, write_epochs};
use crate::report::metrics::quantile_of_sorted;
use crate::report::picture;
use crate::report::results::Evaluation;
use crate::report::run::{folder_name, model_folder};
use crate::report::tensorboard::EventWriter;
use crate::{Error, Result};

/// What happens while a run trains, for whoever shows it.
pub trait Watch {
    /// Images were trained on (over all models) since the last call; true to stop after this step.
    fn images(&mut self, images: usize) -> bool;
    /// An epoch is complete and saved.
    fn epoch(&mut self, reports: &[EpochReport], classes: &[String], images_per_second: f64);
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

/// Indices and names of the inlier classes that `texts` mean: names or numbers, or `all`.
pub fn find_inliers(prepared: &Prepared, texts: &[String]) -> Result<Vec<usize>> {
    let inliers = prepared.inliers();
    if let [all] = texts
        && all.eq_ignore_ascii_case("all")
    {
        return Ok((0..inliers.len()).collect());
    }
    let mut found = vec![];
    for text in texts {
        let by_name = inliers.iter().position(|i| i.name.eq_ignore_ascii_case(text));
        let by_number = text.parse::<usize>().ok().filter(|&k| k < inliers.len());
        let k = by_name.or(by_number).ok_or_else(|| {
            let names: Vec<String> = inliers.iter().enumerate().map(|(k, i)| format!("{k} or {}", i.name)).collect();
            Error::Usage(format!("no inlier class '{text}'; the dataset has all, {}", names.join(", ")))
        })?;
        if found.contains(&k) {
            return Err(Error::Usage(format!("inlier class '{text}' is named twice")));
        }
        found.push(k);
    }
    Ok(found)
}

/// The folder of a class's training: the run itself, or one for each of several.
pub fn class_folder(run: &Path, class: &str, classes: usize) -> PathBuf {
    if classes == 1 { run.to_path_buf() } else { model_folder(run, class) }
}

/// One class's side of a run folder.
struct ClassFiles {
    folder: PathBuf,
    rows: Vec<EpochRow>,
    events: EventWriter,
    steps_per_epoch: u64,
}

/// Trains in the folder `run`, from its checkpoint if `resume`, to the configuration's number of epochs.
///
/// The same configuration and data give the same bits on one device, interrupted or not. Errors leave the last checkpoint intact.
pub fn train(
    run: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    resume: bool,
    watch: &mut dyn Watch,
) -> Result<End> {
    let model = Model::new(prepared.channels());
    let inliers = find_inliers(prepared, &config.inliers)?;
    let classes: Vec<String> = inliers.iter().map(|&k| prepared.inliers()[k].name.clone()).collect();
    let folders: Vec<PathBuf> = classes.iter().map(|c| class_folder(run, c, classes.len())).collect();
    let start = config.init_from.as_deref().map(|path| checkpoint::load_start(path, &model)).transpose()?;
    let images =
        inliers.iter().map(|&k| Ok((prepared.train_of(k)?, prepared.val_of(k)?))).collect::<Result<Vec<_>>>()?;
    let sets: Vec<TrainingSet> = images
        .iter()
        .map(|(train, val)| TrainingSet { train, validation: val, seed: config.seed, start: start.as_deref() })
        .collect();
    let mut trainer = Trainer::new(engine, &model, &config.train_config(), &sets)?;
    let device = trainer.device();
    if resume {
        trainer.restore(&checkpoint::load(run, &folders, &model)?)?;
    }
    let mut files = vec![];
    for (folder, (train, _)) in folders.iter().zip(&images) {
        let steps = (train.n.div_ceil(config.batch_size)) as u64;
        files.push(ClassFiles::open(folder, trainer.epochs_done(), resume, steps)?);
    }
    let mut end = End::Complete;
    while trainer.epochs_done() < config.epochs {
        let (clock, mut seen) = (Instant::now(), 0);
        let outcome = trainer.epoch(|progress| {
            seen += progress.images;
            if watch.images(progress.images) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let Outcome::Epoch(reports) = outcome else {
            end = End::Stopped;
            break;
        };
        let rate = seen as f64 / clock.elapsed().as_secs_f64();
        let epoch = trainer.epochs_done();
        let pictures =
            (epoch <= 5 || epoch % 10 == 0 || epoch == config.epochs).then(|| trainer.preview(PREVIEW)).transpose()?;
        for (r, class) in files.iter_mut().enumerate() {
            class.record(&reports[r], rate)?;
            if let Some(pictures) = &pictures {
                class.picture(epoch, &images[r].1.data, &pictures[r], model.channels())?;
            }
        }
        let state = trainer.state()?;
        checkpoint::save(run, &folders, &model, &state)?;
        // The threshold comes at the end; a model that is there after a kill has none yet.
        for (r, replica) in state.replicas.into_iter().enumerate().filter(|(r, _)| reports[*r].best) {
            if let Some(best) = replica.best {
                export(
                    &folders[r],
                    &detector(best, &model, config, prepared, &classes[r], &device),
                    config,
                    epoch,
                    None,
                )?;
            }
        }
        watch.epoch(&reports, &classes, rate);
    }
    if end == End::Stopped {
        checkpoint::save(run, &folders, &model, &trainer.state()?)?;
    }
    let (best, done) = (trainer.best().to_vec(), trainer.epochs_done());
    for (k, best) in best.into_iter().enumerate() {
        let Some(best) = best else { continue };
        let mut detector = detector(best, &model, config, prepared, &classes[k], &device);
        let threshold = threshold(engine, &detector, &images[k].1, config.threshold_quantile)?;
        detector.description.insert("threshold".into(), threshold.to_string());
        detector.description.insert("threshold_quantile".into(), config.threshold_quantile.to_string());
        export(&folders[k], &detector, config, done, None)?;
    }
    Ok(end)
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
        ("dataset", prepared.manifest().dataset.name().to_string()),
        ("inlier", class.to_string()),
        ("device", device.to_string()),
        ("preprocessing", format!("resize to {IMAGE_SIZE}x{IMAGE_SIZE} (Lanczos), divide by 255")),
    ];
    detector.description.extend(describe.map(|(k, v)| (k.to_string(), v)));
    detector
}

/// Writes `best/`: the model and its card, which tells of an evaluation if there was one. `epochs` is how many were trained.
pub fn export(
    class_folder: &Path,
    detector: &Detector,
    config: &RunConfig,
    epochs: usize,
    evaluation: Option<Evaluation>,
) -> Result<()> {
    let folder = class_folder.join("best");
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    detector.save(&folder.join("model.safetensors"))?;
    let text = |key: &str| detector.description.get(key).cloned().unwrap_or_default();
    let (dataset, class) = (text("dataset"), text("inlier"));
    let card = Card {
        name: format!("gradcon-{dataset}-{}", folder_name(&class).to_lowercase()),
        dataset,
        data: None,
        data_sha256: None,
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

/// The quantile of the validation scores above which an image is called anomalous.
fn threshold(engine: &mut dyn Engine, detector: &Detector, validation: &Images, quantile: f64) -> Result<f64> {
    let mut scores: Vec<f64> = Scorer::new(engine, detector)?.score(validation)?.into_iter().map(|s| s.score).collect();
    scores.sort_by(f64::total_cmp);
    Ok(quantile_of_sorted(&scores, quantile))
}

impl ClassFiles {
    fn open(folder: &Path, epochs_done: usize, resume: bool, steps: u64) -> Result<ClassFiles> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let metrics = folder.join("metrics.csv");
        let mut rows = vec![];
        if resume && epochs_done > 0 {
            rows = read_epochs(&metrics)?;
            rows.retain(|row| row.epoch <= epochs_done as u64);
        }
        // TensorBoard hides what an interrupted run logged after its checkpoint.
        let events = if resume {
            EventWriter::resume(folder, epochs_done as u64 * steps + 1)?
        } else {
            EventWriter::create(folder)?
        };
        Ok(ClassFiles { folder: folder.into(), rows, events, steps_per_epoch: steps })
    }

    fn record(&mut self, report: &EpochReport, images_per_second: f64) -> Result<()> {
        let losses = |l: &Losses| epochs::Losses { total: l.loss, mse: l.mse, grad: l.constraint };
        let cosines: [f64; 4] = report
            .train
            .cosines
            .clone()
            .try_into()
            .map_err(|_| Error::invalid("a model of other than four decoder layers"))?;
        self.rows.push(EpochRow {
            epoch: report.epoch as u64,
            train: losses(&report.train),
            val: Some(losses(&report.validation)),
            cosines,
            images_per_second,
            best: report.best,
        });
        write_epochs(&self.folder.join("metrics.csv"), &self.rows)?;
        let (train, val) = (&report.train, &report.validation);
        let values = [
            ("train/loss", train.loss),
            ("train/mse", train.mse),
            ("train/grad_loss", train.constraint),
            ("val/loss", val.loss),
            ("val/mse", val.mse),
            ("val/grad_loss", val.constraint),
            ("cos/up0", cosines[0]),
            ("cos/up2", cosines[1]),
            ("cos/up4", cosines[2]),
            ("cos/up6", cosines[3]),
            ("images_per_second", images_per_second),
        ];
        self.events.scalars(self.step(report.epoch), &values.map(|(tag, v)| (tag, v as f32)))
    }

    /// Iterations after `epoch` epochs.
    fn step(&self, epoch: usize) -> u64 {
        epoch as u64 * self.steps_per_epoch
    }

    /// Inputs above their reconstructions.
    fn picture(&mut self, epoch: usize, validation: &[u8], reconstructions: &[f32], channels: usize) -> Result<()> {
        let count = reconstructions.len() / (IMAGE_SIZE * IMAGE_SIZE * channels);
        let mut images = validation[..reconstructions.len()].to_vec();
        images.extend(reconstructions.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
        let grid = picture::grid(&images, [2 * count, IMAGE_SIZE, IMAGE_SIZE, channels], count, 2, 2)?;
        self.events.image(self.step(epoch), "val/input_and_reconstruction", &grid)
    }
}
