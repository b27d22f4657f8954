//! `gradcon demo`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{DeviceArgs, Ui, interrupt};
use crate::data::embedded::{FASHION_CLASSES, fashion_subset};
use crate::error::{Error, Result};
use crate::method::config::TrainConfig;
use crate::method::model::{IMAGE_SIZE, Init, Model};
use crate::method::scorer::{Score, Scorer};
use crate::method::trainer::{Outcome, Trainer, TrainingSet};
use crate::output::{make_folder, outln};
use crate::report::{metrics, picture, scores};

/// The class that the built-in subset has most images of.
const NORMAL_CLASS: u8 = 7;

/// Train on one class of a small real dataset inside the program, and judge held-out images.
///
/// The normal class is Sneaker of Fashion-MNIST: 1,800 images to learn from, 200 to choose
/// the best epoch. Held out are 200 sneakers and 900 images of the nine other classes. Prints
/// the area under the ROC curve and writes into --out:
///
///   model.safetensors     the trained model (PyTorch names and layouts) with its reference
///   gradients scores.csv            every held-out image: score and its parts reconstructions.png
///   inputs, reconstructions and errors extremes.png          the most normal and the most
///   anomalous images histogram.png         scores of normal and anomalous images
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DemoArgs {
    /// Folder for the results; made if it isn't there.
    #[arg(long, default_value = "gradcon-demo", value_name = "DIR")]
    out: PathBuf,

    /// Epochs to train.
    #[arg(long, default_value_t = 30)]
    epochs: usize,

    /// Seed of the initial parameters and the order of images.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: DemoArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    make_folder(&args.out)?;
    interrupt::catch();
    let mut engine = args.device.open(ui)?;
    let (train, test) = fashion_subset()?;
    let class = FASHION_CLASSES[NORMAL_CLASS as usize];
    let normal = train.of(NORMAL_CLASS);
    let (validation, train) = normal.split_at(normal.n / 10);
    let (train_count, validation_count) = (train.n, validation.n);
    ui.progress(&format!(
        "normal class: {class} (Fashion-MNIST), {train_count} images to train on, \
         {validation_count} to validate, {} held out",
        test.images.n
    ));

    let config = TrainConfig {
        epochs: args.epochs,
        init: Init::Kaiming,
        seed: args.seed,
        ..TrainConfig::default()
    };
    let model = Model::new(normal.channels);
    let set = TrainingSet { train: &train, validation: &validation, seed: args.seed, start: None };
    let mut trainer = Trainer::new(engine.as_mut(), &model, &config, &[set])?;
    let bar = ui.bar(args.epochs.saturating_mul(train_count) as u64);
    bar.set_message("images");
    let training = Instant::now();
    while trainer.epochs_done() < args.epochs {
        let outcome = trainer.epoch(|progress| {
            bar.inc(progress.images as u64);
            if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match outcome {
            Outcome::Epoch(reports) => {
                let Some(r) = &reports[0] else { break };
                let rate = (r.epoch * train_count) as f64 / training.elapsed().as_secs_f64();
                let mark = if r.best { " *" } else { "" };
                bar.suspend(|| {
                    ui.progress(&format!(
                        "epoch {:>3}/{}  train {:.5}  validation {:.5} (mse {:.5}, constraint \
                         {:+.4})  {rate:.0} images/s{mark}",
                        r.epoch,
                        args.epochs,
                        r.train.loss,
                        r.validation.loss,
                        r.validation.mse,
                        r.validation.constraint
                    ));
                });
            }
            Outcome::Stopped => break,
        }
    }
    bar.finish_and_clear();
    let Some(best) = trainer.best().flatten().next().cloned() else {
        return Err(Error::Interrupted);
    };
    let mut detector = best.into_detector(&model, &config);
    detector.description.insert("dataset".into(), "Fashion-MNIST subset".into());
    detector.description.insert("inlier".into(), class.into());
    detector.save(&args.out.join("model.safetensors"))?;
    if interrupt::asked() {
        ui.progress(&format!(
            "the best epoch so far is in {}",
            args.out.join("model.safetensors").display()
        ));
        return Err(Error::Interrupted);
    }

    let mut scorer = Scorer::new(engine.as_mut(), &detector)?;
    let scoring = Instant::now();
    let scored = scorer.score(&test.images)?;
    let rate = scored.len() as f64 / scoring.elapsed().as_secs_f64();
    ui.progress(&format!(
        "scored {} held-out images with their own gradients, {rate:.0} images/s",
        scored.len()
    ));
    let anomalous: Vec<bool> = test.labels.iter().map(|&l| l != NORMAL_CLASS).collect();
    let reconstructions = scorer.reconstruct(&test.images)?;
    write_results(&args.out, &test, &scored, &anomalous, &reconstructions, class)?;

    let auroc = |of: fn(&Score) -> f64| {
        metrics::auroc(&scored.iter().map(of).collect::<Vec<_>>(), &anomalous)
    };
    outln!(
        "AUROC {:.4}  ({class} against the nine other classes, {} images)",
        auroc(|s| s.score)?,
        scored.len()
    )?;
    outln!("      {:.4}  reconstruction alone", auroc(|s| s.mse)?)?;
    outln!("      {:.4}  gradient alone", auroc(|s| -s.cos)?)?;
    outln!("results in {}", args.out.display())?;
    ui.progress(&format!("{:.1} seconds", start.elapsed().as_secs_f64()));
    Ok(())
}

/// `scores.csv` and the pictures.
fn write_results(
    out: &Path,
    test: &crate::data::Labelled,
    scored: &[Score],
    anomalous: &[bool],
    recons: &[f32],
    class: &str,
) -> Result<()> {
    let rows: Vec<scores::ScoreRow> = scored
        .iter()
        .enumerate()
        .map(|(i, s)| scores::ScoreRow {
            image: format!("test/{i}"),
            label: Some(anomalous[i] as u8),
            class: Some(FASHION_CLASSES[test.labels[i] as usize].into()),
            score: s.score,
            mse: s.mse,
            cos: s.cos,
            layers: s.cosines.clone(),
        })
        .collect();
    scores::write_scores(&out.join("scores.csv"), &rows)?;

    let inputs: Vec<f32> = test.images.data.iter().map(|&b| b as f32 / 255.0).collect();
    let shape = [test.images.n, IMAGE_SIZE, IMAGE_SIZE, test.images.channels];
    // Six normal images and one of each other class.
    let mut shown = test.indices_of(NORMAL_CLASS)[..6].to_vec();
    shown.extend(
        (0..10).filter(|&l| l != NORMAL_CLASS).filter_map(|l| test.indices_of(l).first().copied()),
    );
    let pick = |of: &[f32]| -> Vec<f32> {
        let len = test.images.image_len();
        shown.iter().flat_map(|&i| of[i * len..(i + 1) * len].iter().copied()).collect()
    };
    let some = [shown.len(), shape[1], shape[2], shape[3]];
    picture::reconstructions(
        &out.join("reconstructions.png"),
        &pick(&inputs),
        &pick(recons),
        some,
    )?;
    let values: Vec<f64> = scored.iter().map(|s| s.score).collect();
    picture::extremes(&out.join("extremes.png"), &inputs, recons, shape, &values, anomalous, 12)?;
    let side = |odd: bool| -> Vec<f64> {
        values.iter().zip(anomalous).filter(|(_, a)| **a == odd).map(|(v, _)| *v).collect()
    };
    let title = format!("{class} against nine other classes: anomaly scores");
    picture::histogram(&out.join("histogram.png"), &side(false), &side(true), &title, None)
}
