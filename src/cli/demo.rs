//! `gradcon demo`: from picture files to a page, by the way that a user's own images go.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::train::{epochs_reached, train_one};
use super::{DeviceArgs, Ui, interrupt, report};
use crate::data::embedded::{FASHION_CLASSES, fashion_subset};
use crate::data::folder::{Decode, Listing};
use crate::data::{Labelled, Prepared, prepare};
use crate::error::{Error, Result};
use crate::files::{self, Lock, UNFINISHED, is_vacant, make_folder, sweep};
use crate::folders::{self, folder_name};
use crate::method::readout::PAPER;
use crate::output::{self, outln};
use crate::program::Precision;
use crate::report::scores::{ScoreRow, read_scores};
use crate::run::config::{InitName, RunConfig};
use crate::run::evaluate::{Evaluate, evaluate, rules};
use crate::run::share;
use crate::run::train::{End, Options};
use crate::sheet;

/// The class that the built-in subset has most images of: Sneaker.
const NORMAL_CLASS: u8 = 7;
/// Most anomalous images to name.
const NAMED: usize = 10;

/// See all of gradcon at work, on real images that are inside the program.
///
/// Sneakers are normal here, and nine other kinds of clothes are not (Fashion-MNIST).
/// The demo goes the way that your own images would go, in one folder:
///
///   images/   2,000 pictures of sneakers to learn from; to test with, 200 others
///             and 900 of other kinds
///   data/     the same, ready to train on, as `gradcon prep` makes it
///   run/      the trained model, the score of every test image and a page with
///             plots (report.html), as `gradcon train`, `eval` and `report` do
///
/// Prints the area under the ROC curve, the most anomalous images and what to try
/// next. Ctrl-C saves and exits with 130; the same command goes on from there.
/// What else is in the folder stays as it is.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DemoArgs {
    /// Folder for all of it; made if it isn't there.
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
    output::make_folder(&args.out)?;
    interrupt::catch();
    let mut engine = args.device.open(ui)?;
    let lock = hold(&args.out, ui)?;
    let [images, data, run] = ["images", "data", "run"].map(|name| args.out.join(name));
    write_images(&args.out, &images, ui)?;
    let prepared = prepared(&images, &data, ui)?;

    let config = configured(&args, &run, &data, &prepared, ui)?;
    let options = Options::default();
    if train_one(&run, &config, &prepared, engine.as_mut(), options, ui)? == End::Stopped {
        ui.progress("saved; the same command goes on from there");
        return Err(Error::Interrupted);
    }
    let rules = rules(&config, &prepared, &[], &[])?;
    let _run_lock = share::open(&run, "gradcon demo")?;
    let what = Evaluate {
        run: &run,
        config: &config,
        prepared: &prepared,
        data: &data,
        rules: &rules,
        bootstrap: true,
        precision: Precision::F32,
        baselines: None,
        go_on: &interrupt::go_on,
    };
    let (results, place) =
        evaluate(&what, engine.as_mut(), |line| ui.detail(line), |line| ui.warn(line))?;
    let page = folders::page(&run);
    report::write_page(&[&run], &page)?;
    lock.check()?;

    for (_, e) in results.headline() {
        let images = e.normal + e.anomalous;
        outln!("AUROC {:.4}  (sneakers against nine other kinds, {images} images)", e.full.auroc)?;
        if let Some((_, paper)) = e.parts().into_iter().find(|(score, _)| *score == PAPER) {
            outln!("      {:.4}  the paper's score", paper.auroc)?;
        }
        outln!("      {:.4}  reconstruction alone", e.reconstruction.auroc)?;
        outln!("      {:.4}  gradient alone\n", e.gradient.auroc)?;
    }
    for class in &config.inliers {
        most_anomalous(&read_scores(&place.class(class).join(folders::SCORES))?.rows)?;
    }
    outln!("\nThe page: {}", page.display())?;
    let [images, run] = [images.join("test/Bag"), run].map(|path| path.display().to_string());
    ui.progress(&format!(
        "\n{:.1} seconds. Next:\n  \
         gradcon score --model {run} {images}\n  \
         gradcon train --resume {run} --epochs {}\n  \
         gradcon prep folder --normal-dir GOOD --abnormal-dir BAD --out data/mine\n  \
         gradcon train --data data/mine --out runs/mine",
        start.elapsed().as_secs_f64(),
        config.epochs.saturating_mul(2),
    ));
    Ok(())
}

/// The images with the highest scores, by name, with what they are.
fn most_anomalous(rows: &[ScoreRow]) -> Result<()> {
    let mut rows: Vec<&ScoreRow> = rows.iter().collect();
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    outln!("The most anomalous images:")?;
    for row in rows.iter().take(NAMED) {
        let class = row.class.as_deref().unwrap_or_default();
        outln!("  {:.4}  {:<24} {class}", row.score, row.image)?;
    }
    Ok(())
}

fn hold(folder: &Path, ui: &Ui) -> Result<Lock> {
    let lock = Lock::hold(folder, "gradcon demo")?;
    sweep(folder)?;
    if !lock.works {
        ui.warn(&format!(
            "{}: this file system has no locks: nothing keeps a second process out",
            folder.display()
        ));
    }
    Ok(lock)
}

/// Writes the pictures as a user has them: `train/good`, `test/good` and a folder in `test` for
/// each other kind. All of them appear at once, so what is there already is whole.
fn write_images(out: &Path, images: &Path, ui: &Ui) -> Result<()> {
    if images.is_dir() {
        ui.progress(&format!("{}: there already", images.display()));
        return Ok(());
    }
    let unfinished = out.join(format!("{UNFINISHED}images"));
    let (train, test) = fashion_subset()?;
    write_kind(&train, NORMAL_CLASS, &unfinished.join("train/good"))?;
    write_kind(&test, NORMAL_CLASS, &unfinished.join("test/good"))?;
    for (label, name) in (0..).zip(FASHION_CLASSES).filter(|(label, _)| *label != NORMAL_CLASS) {
        write_kind(&test, label, &unfinished.join("test").join(folder_name(name)))?;
    }
    files::rename(&unfinished, images)?;
    let others = test.images.n - test.indices_of(NORMAL_CLASS).len();
    ui.progress(&format!(
        "{}: {} pictures of sneakers, which are normal, and {others} of other kinds",
        images.display(),
        train.indices_of(NORMAL_CLASS).len() + test.indices_of(NORMAL_CLASS).len(),
    ));
    Ok(())
}

/// Writes the images that carry `label` as 0000.png and so on.
fn write_kind(images: &Labelled, label: u8, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for (k, i) in images.indices_of(label).into_iter().enumerate() {
        interrupt::go_on()?;
        let path = folder.join(format!("{k:04}.png"));
        std::fs::write(&path, sheet::png(&images.images, i)?).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Prepares the pictures as `gradcon prep mvtec --from images --channels 1 --name sneakers` does.
fn prepared(images: &Path, data: &Path, ui: &Ui) -> Result<Prepared> {
    let decode = Decode::new(1, Decode::MAX_PIXELS)?;
    let progress = |_, _| interrupt::go_on();
    let made = prepare::own_images(&Listing::mvtec(images)?, decode, 0, &progress)?;
    made.named("sneakers")?.write_unless(data, false, &interrupt::go_on).map_err(|e| match e {
        Error::Usage(_) => Error::Usage(format!(
            "{}: not what the demo makes of {}; choose another folder with --out",
            data.display(),
            images.display()
        )),
        other => other,
    })?;
    let prepared = Prepared::open(data)?;
    let counts = &prepared.manifest().counts;
    ui.progress(&format!(
        "{}: {} images to train on, {} to validate, {} to test",
        data.display(),
        counts.train.iter().sum::<usize>(),
        counts.val.iter().sum::<usize>(),
        counts.test.iter().sum::<usize>(),
    ));
    Ok(prepared)
}

/// The run's folder, new or as an earlier demo left it, with its configuration.
fn configured(
    args: &DemoArgs,
    run: &Path,
    data: &Path,
    prepared: &Prepared,
    ui: &Ui,
) -> Result<RunConfig> {
    let mut config = RunConfig {
        data: data.into(),
        epochs: args.epochs,
        seed: args.seed,
        init: InitName::Kaiming,
        ..RunConfig::default()
    }
    .resolved()?;
    config.bind(prepared)?;
    make_folder(run)?;
    if !folders::config(run).exists() {
        if !is_vacant(run)? {
            let what = "not empty, and no training of the demo's; choose another folder with --out";
            return Err(Error::Usage(format!("{}: {what}", run.display())));
        }
        share::join(run, &config, prepared)?;
        return Ok(config);
    }
    let there = RunConfig::read(run)?;
    if config != (RunConfig { epochs: config.epochs, data: config.data.clone(), ..there }) {
        return Err(Error::Usage(format!(
            "{}: a training with other settings is there already; choose another folder with --out",
            run.display()
        )));
    }
    let reached = epochs_reached(run, &config);
    ui.progress(&format!("{}: there already, {reached} epochs trained", run.display()));
    Ok(config)
}
