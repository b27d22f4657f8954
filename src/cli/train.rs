//! `gradcon train`

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::{DeviceArgs, Ui, interrupt};
use crate::data::Prepared;
use crate::gradcon::trainer::EpochReport;
use crate::run::checkpoint::read_mark;
use crate::run::config::{InitName, Partial, RunConfig};
use crate::run::train::{End, Watch, find_inliers, train};
use crate::{Error, Result};

/// Train one model for each normal class of a prepared dataset, as a folder that can be
/// interrupted and continued.
///
/// Models of several classes train at once, as replicas of one program; each one's numbers
/// are those of training it alone. Ctrl-C finishes the step, saves and exits with 130;
/// `--resume RUN` goes on to the same bits as a run that was never stopped, also after a
/// kill.
///
/// The folder gets config.toml (resolved), and for each class metrics.csv, TensorBoard
/// events, best/ (model and model card) and last/ (model, optimizer, state). `gradcon eval
/// RUN` comes next.
///
/// Examples:
///
///   gradcon prep fmnist --out data/fmnist
///   gradcon train --data data/fmnist --inlier all --epochs 30 --init kaiming --out runs/fmnist
///   gradcon train --resume runs/fmnist --epochs 60
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TrainArgs {
    /// Folder of a dataset that `gradcon prep` made.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The dataset's name, to make sure that --data is what was meant; alone it stands for --data data/NAME.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,

    /// Normal classes, by number or name, or all. [default: all]
    #[arg(long, value_delimiter = ',', value_name = "K[,K...]|all")]
    inlier: Option<Vec<String>>,

    /// Epochs to reach; the paper trained 1000. [default: 25]
    #[arg(long)]
    epochs: Option<usize>,

    /// Images in a batch. [default: 64]
    #[arg(long)]
    batch_size: Option<usize>,

    /// Adam's learning rate. [default: 0.001]
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,

    /// Weight of the gradient constraint in the loss. [default: 0.03]
    #[arg(long, allow_negative_numbers = true)]
    alpha: Option<f64>,

    /// Weight of the cosine in scores. [default: 0.12]
    #[arg(long, allow_negative_numbers = true)]
    beta: Option<f64>,

    /// Seed of the initial parameters and of the order of images. [default: 0]
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,

    /// One run for each of these seeds, in RUN/seed-S; `gradcon eval RUN` then gives means and deviations.
    #[arg(long, value_delimiter = ',', value_name = "S[,S...]")]
    seeds: Option<Vec<u64>>,

    /// Initial parameters: torch (the paper's) or kaiming, which leaves the plateau that torch can sit on for ten epochs. [default: torch]
    #[arg(long, value_enum)]
    init: Option<InitName>,

    /// Start from the parameters of a model file instead (a PyTorch state dict as safetensors will do).
    #[arg(long, value_name = "FILE")]
    init_from: Option<PathBuf>,

    /// The same order of images in every epoch.
    #[arg(long)]
    no_shuffle: bool,

    /// The share of validation scores that counts as normal: sets the threshold stored with the model. [default: 0.95]
    #[arg(long, value_name = "QUANTILE")]
    threshold_quantile: Option<f64>,

    /// A TOML file with any of these settings (data, inliers, epochs, batch_size, lr, alpha, beta, seed, init, init_from, shuffle,
    /// threshold_quantile); flags win over it.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// The run's folder, new or empty.
    #[arg(long, value_name = "RUN", required_unless_present = "resume")]
    out: Option<PathBuf>,

    /// Continue the run in this folder; of the settings only --epochs may change.
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    resume: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: TrainArgs, ui: &Ui) -> Result<()> {
    let device = args.device.clone();
    let runs = match args.resume.clone() {
        Some(folder) => resumed(&folder, args)?,
        None => started(args)?,
    };
    interrupt::catch();
    let mut engine = device.open(ui)?;
    for (folder, config) in runs {
        let mark = read_mark(&folder)?;
        let prepared = Prepared::open(&config.data)?;
        let classes = find_inliers(&prepared, &config.inliers)?.len();
        ui.progress(&format!(
            "{}: {} from {}, {classes} model(s), seed {}, to epoch {}",
            folder.display(),
            prepared.manifest().dataset.name(),
            config.data.display(),
            config.seed,
            config.epochs
        ));
        let mut progress = Progress::new(*ui, &config, &prepared, mark.map_or(0, |mark| mark.epoch))?;
        let end = train(&folder, &config, &prepared, engine.as_mut(), mark.is_some(), &mut progress);
        progress.bar.finish_and_clear();
        if end? == End::Stopped {
            ui.progress(&format!("saved; continue with: gradcon train --resume {}", folder.display()));
            return Err(Error::Interrupted);
        }
        println!("{}", folder.display());
    }
    Ok(())
}

/// A new run, or one for each seed.
fn started(args: TrainArgs) -> Result<Vec<(PathBuf, RunConfig)>> {
    let file = args.config.as_deref().map(Partial::read).transpose()?.unwrap_or_default();
    let by_name = args.dataset.as_ref().map(|name| Path::new("data").join(name));
    let partial = Partial {
        data: args.data.or(if file.data.is_none() { by_name } else { None }),
        inliers: args.inlier,
        epochs: args.epochs,
        batch_size: args.batch_size,
        lr: args.lr,
        alpha: args.alpha,
        beta: args.beta,
        seed: args.seed,
        init: args.init,
        shuffle: args.no_shuffle.then_some(false),
        threshold_quantile: args.threshold_quantile,
        init_from: args.init_from,
    };
    let config = partial.resolve(file)?;
    let prepared = Prepared::open(&config.data)?;
    if let Some(name) = args.dataset.filter(|name| name != prepared.manifest().dataset.name()) {
        let found = prepared.manifest().dataset.name();
        return Err(Error::Usage(format!("--dataset {name}: {} holds {found}", config.data.display())));
    }
    find_inliers(&prepared, &config.inliers)?;
    let Some(out) = args.out else { return Err(Error::Usage("give --out RUN, the folder for the run".into())) };
    let occupied = std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || out.is_file() {
        return Err(Error::Usage(format!(
            "{}: not empty; continue it with --resume, or choose another folder",
            out.display()
        )));
    }
    let runs: Vec<(PathBuf, RunConfig)> = match args.seeds {
        Some(seeds) => seeds
            .into_iter()
            .map(|seed| (out.join(format!("seed-{seed}")), RunConfig { seed, ..config.clone() }))
            .collect(),
        None => vec![(out, config)],
    };
    for (folder, config) in &runs {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        config.write(folder)?;
    }
    Ok(runs)
}

/// The run in a folder, or those of its seeds, perhaps to more epochs.
fn resumed(folder: &Path, args: TrainArgs) -> Result<Vec<(PathBuf, RunConfig)>> {
    let fixed = [
        ("--data", args.data.is_some()),
        ("--dataset", args.dataset.is_some()),
        ("--inlier", args.inlier.is_some()),
        ("--batch-size", args.batch_size.is_some()),
        ("--lr", args.lr.is_some()),
        ("--alpha", args.alpha.is_some()),
        ("--beta", args.beta.is_some()),
        ("--seed", args.seed.is_some()),
        ("--seeds", args.seeds.is_some()),
        ("--init", args.init.is_some()),
        ("--init-from", args.init_from.is_some()),
        ("--no-shuffle", args.no_shuffle),
        ("--threshold-quantile", args.threshold_quantile.is_some()),
        ("--config", args.config.is_some()),
    ];
    if let Some((flag, _)) = fixed.iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!(
            "{flag} can't change in a run that continues; {} has the settings",
            folder.join("config.toml").display()
        )));
    }
    let mut runs = vec![];
    for folder in run_folders(folder)? {
        let mut config = RunConfig::read(&folder)?;
        if let Some(epochs) = args.epochs {
            config.epochs = epochs;
            config.write(&folder)?;
        }
        runs.push((folder, config));
    }
    Ok(runs)
}

/// The folder itself, or its `seed-S` folders in the order of their seeds.
pub fn run_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.join("config.toml").exists() {
        return Ok(vec![folder.into()]);
    }
    let mut seeds = vec![];
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let seed = path.file_name().and_then(|n| n.to_str()?.strip_prefix("seed-")?.parse::<u64>().ok());
        if let Some(seed) = seed.filter(|_| path.join("config.toml").exists()) {
            seeds.push((seed, path));
        }
    }
    seeds.sort();
    if seeds.is_empty() {
        return Err(Error::invalid(format!(
            "{}: no run: neither config.toml nor folders seed-S with one",
            folder.display()
        )));
    }
    Ok(seeds.into_iter().map(|(_, path)| path).collect())
}

/// A bar on a terminal, a line for each epoch elsewhere.
struct Progress {
    ui: Ui,
    bar: ProgressBar,
    epochs: usize,
}

impl Progress {
    fn new(ui: Ui, config: &RunConfig, prepared: &Prepared, epochs_done: usize) -> Result<Progress> {
        let mut images = 0;
        for k in find_inliers(prepared, &config.inliers)? {
            images += prepared.train_of(k)?.n;
        }
        let bar = ui.bar((images * config.epochs) as u64);
        bar.set_message("images");
        bar.set_position((images * epochs_done) as u64);
        bar.reset_eta();
        Ok(Progress { ui, bar, epochs: config.epochs })
    }
}

impl Watch for Progress {
    fn images(&mut self, images: usize) -> bool {
        self.bar.inc(images as u64);
        interrupt::asked()
    }

    fn epoch(&mut self, reports: &[EpochReport], classes: &[String], images_per_second: f64) {
        let epoch = reports[0].epoch;
        let mean = |of: fn(&EpochReport) -> f64| reports.iter().map(of).sum::<f64>() / reports.len() as f64;
        let best = reports.iter().filter(|r| r.best).count();
        let line = format!(
            "epoch {epoch:>3}/{}  train {:.5}  validation {:.5} (mse {:.5}, constraint {:+.4})  {images_per_second:.0} images/s{}",
            self.epochs,
            mean(|r| r.train.loss),
            mean(|r| r.validation.loss),
            mean(|r| r.validation.mse),
            mean(|r| r.validation.constraint),
            match (best, reports.len()) {
                (0, _) => String::new(),
                (_, 1) => "  best".into(),
                (best, all) => format!("  best of {best}/{all}"),
            }
        );
        self.bar.suspend(|| {
            self.ui.progress(&line);
            for (report, class) in reports.iter().zip(classes).filter(|_| classes.len() > 1) {
                self.ui.detail(&format!(
                    "    {class}: validation {:.5}{}",
                    report.validation.loss,
                    if report.best { "  best" } else { "" }
                ));
            }
        });
    }
}
