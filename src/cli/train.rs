//! `gradcon train`

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;

use super::settings::{Given, PaperArgs};
use super::{DeviceArgs, Ui, interrupt};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::folders;
use crate::method::detector::Detector;
use crate::method::model::Kind;
use crate::method::readout::Rule;
use crate::method::state::EpochReport;
use crate::output::outln;
use crate::report::tables::percent;
use crate::run::checkpoint::Standing;
use crate::run::config::RunConfig;
use crate::run::share;
use crate::run::train::{End, Options, Unit, Watch, check, train};

/// Train one model for each normal class of a prepared dataset, as a folder that can be
/// interrupted and continued.
///
/// Models of several classes train at once, as replicas of one program; each one's numbers are
/// those of training it alone. Ctrl-C finishes the step, saves and exits with 130; `--resume RUN`
/// goes on to the same bits as a run that was never stopped, also after a kill, from the last
/// checkpoint (every minute, at the end and at Ctrl-C). A class whose numbers stop being finite is
/// named and takes no more part.
///
/// The folder gets config.toml (resolved), and models/CLASS for each class: metrics.csv,
/// TensorBoard events, best/ (model and model card), last/ (model, optimizer, state) and
/// previous/ (the checkpoint before). `gradcon eval RUN` comes next.
///
/// Several processes may train in one folder, each classes or seeds of its own: the same
/// command with another --inlier, or other --seeds, adds them to a run that is there. The
/// other settings have to be the run's.
///
/// Examples:
///
///   gradcon prep fmnist --out data/fmnist
///   gradcon train --data data/fmnist --inlier all --epochs 30 --out runs/fmnist
///   gradcon train --data data/fmnist --model vae --epochs 30 --out runs/fmnist-vae
///   gradcon train --data data/mine --epochs 500 --patience 20
///   gradcon train --data data/mine --fpr 0.01 --out runs/mine
///   gradcon train --resume runs/fmnist --epochs 60
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TrainArgs {
    /// Folder of a dataset that `gradcon prep` made; with --resume, where the run's data are now.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The dataset's name, to make sure that --data is what was meant; alone it stands for --data
    /// data/NAME.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,

    #[command(flatten)]
    settings: Given,

    #[command(flatten)]
    paper: PaperArgs,

    /// A TOML file with any of these settings (data, inliers, model, epochs, patience, augment,
    /// augment_copies, batch_size, lr, alpha, kl_weight, score, beta, seed, seeds, init, init_from,
    /// shuffle, precision, threshold_quantile, fpr, place, top_tiles); flags win over it.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// The run's folder: new, empty, or a run with the same settings, which gets more classes or
    /// seeds. [default: runs/DATASET]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,

    /// Continue the run in this folder; of the settings only --epochs may change, and --data if the
    /// dataset was moved.
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    resume: Option<PathBuf>,

    /// Continue from the newest checkpoint that is whole, after damage to the last one.
    #[arg(long, requires = "resume")]
    recover: bool,

    /// Seconds between two checkpoints, written while the training goes on; 0: after every epoch.
    /// A kill costs at most what was done since. [default: 60]
    #[arg(
        long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds,
        default_value_t = Seconds(Options::default().checkpoint_every), hide_default_value = true
    )]
    checkpoint_every: Seconds,

    #[command(flatten)]
    device: DeviceArgs,
}

/// A duration among the flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

pub(super) fn seconds(text: &str) -> std::result::Result<Seconds, String> {
    let number = text.parse::<f64>().map_err(|e| e.to_string());
    let seconds = number.and_then(|s| Duration::try_from_secs_f64(s).map_err(|e| e.to_string()));
    seconds.map(Seconds).map_err(|e| format!("{e}; expected seconds from 0"))
}

pub fn run(args: TrainArgs, ui: &Ui) -> Result<()> {
    let remedy = "a lower --batch-size, or fewer classes at once (--inlier), needs less";
    train_all(args, ui).map_err(|e| e.with_remedy(remedy))
}

fn train_all(args: TrainArgs, ui: &Ui) -> Result<()> {
    let device = args.device.clone();
    let options = Options { recover: args.recover, checkpoint_every: args.checkpoint_every.0 };
    interrupt::catch();
    let (root, config, prepared, mut engine) = match args.resume.clone() {
        Some(root) => {
            let (config, prepared) = resumed(&root, args)?;
            (root, config, prepared, device.open(ui)?)
        }
        None => started(args, ui)?,
    };
    let (channels, models) = (prepared.channels(), config.inliers.len());
    let sizes = format!("--batch {} --channels {channels} --replicas {models}", config.batch_size);
    device.suggest_tuning(engine.as_mut(), &sizes, ui);
    let mut printed = Ok(());
    for (folder, config) in config.runs(&root) {
        if folder != root {
            share::open_seed(&folder, &config, &prepared)?;
        }
        if train_one(&folder, &config, &prepared, engine.as_mut(), options, ui)? == End::Stopped {
            ui.progress(&format!(
                "saved; continue with: gradcon train --resume {}",
                root.display()
            ));
            return Err(Error::Interrupted);
        }
        // The next seed's training is worth more than a line that nobody can write.
        printed = printed.and(outln!("{}", folder.display()));
    }
    printed
}

/// Trains in one folder, and shows how it goes.
pub(super) fn train_one(
    folder: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    options: Options,
    ui: &Ui,
) -> Result<End> {
    ui.progress(&format!(
        "{}: {} from {}, {} model(s), seed {}, to epoch {}",
        folder.display(),
        prepared.manifest().name(),
        config.data.display(),
        config.inliers.len(),
        config.seed,
        config.epochs
    ));
    let mut progress = Progress::new(*ui, &Unit::all(folder, config), prepared)?;
    let end = train(folder, config, prepared, engine, options, &mut progress);
    progress.bar.finish_and_clear();
    if let Ok(End::Complete) = end {
        tell_what_learned_nothing(folder, config, ui)?;
        tell_unkept(folder, config, ui)?;
    }
    end
}

/// A reconstruction that explains less of the variance than this is as good as the mean image.
const LEAST_EXPLAINED: f64 = 0.05;

/// A constraint that is more of the loss leaves the reconstruction little to say.
const MOST_CONSTRAINED: f64 = 0.9;

/// Says which models of a run that is through know no more than the mean image, or were hardly asked
/// to.
fn tell_what_learned_nothing(folder: &Path, config: &RunConfig, ui: &Ui) -> Result<()> {
    for class in &config.inliers {
        let model = folders::best_model(&folders::training(folder, class));
        if !model.exists() {
            continue;
        }
        let detector = Detector::load(&model)?;
        if let Some(share) = detector.constraint_share()?.filter(|&share| share > MOST_CONSTRAINED)
        {
            ui.progress(&format!(
                "Note: class {class}: {} of the loss is the constraint's: of images with so little \
                 contrast, a smaller --alpha than {} lets the model learn more",
                percent(share),
                config.alpha
            ));
        }
        if let Some(share) = detector.explained_variance()?.filter(|&share| share < LEAST_EXPLAINED)
        {
            ui.warn(&format!(
                "class {class} has learned nothing yet: its reconstructions explain {} of the \
                 validation images' variance, the mean image 0 %; train longer (gradcon train \
                 --resume RUN --epochs {}), or with another --lr or --init",
                percent(share),
                config.epochs.saturating_mul(2)
            ));
        }
    }
    Ok(())
}

/// Says of which models the validation images can't promise the false-positive rate.
fn tell_unkept(folder: &Path, config: &RunConfig, ui: &Ui) -> Result<()> {
    for class in config.inliers.iter().filter(|_| config.fpr.is_some()) {
        let model = folders::best_model(&folders::training(folder, class));
        if !model.exists() {
            continue;
        }
        let detector = Detector::load(&model)?;
        let rule = Rule::named(&config.score, &detector.model, config.beta)?;
        let scores = detector.validation_scores(&rule)?;
        if let Some(why) = scores.and_then(|scores| config.level().unkept(scores.len())) {
            ui.warn(&format!("class {class}: {why}"));
        }
    }
    Ok(())
}

/// What a run needs to go: its folder, settings, data and device.
type Ready = (PathBuf, RunConfig, Prepared, Box<dyn Engine>);

/// A new run. The folder is made last, when nothing can be wrong with the command any more.
fn started(args: TrainArgs, ui: &Ui) -> Result<Ready> {
    let file = args.config.as_deref().map(RunConfig::read_settings).transpose()?;
    let in_file = |file: &PathBuf| RunConfig::file_has(file, "epochs");
    let chosen = args.paper.paper || args.config.as_ref().map_or(Ok(false), in_file)?;
    if file.is_some() && args.paper.paper {
        return Err(Error::Usage("--paper: --config has the settings already".into()));
    }
    let mut config = args.settings.over(file.unwrap_or(args.paper.base()))?;
    if let Some(data) = args.data {
        config.data = data;
    } else if let Some(name) = args.dataset.as_ref().filter(|_| config.data.as_os_str().is_empty())
    {
        config.data = Path::new("data").join(name);
    }
    let mut config = config.resolved()?;
    let prepared = Prepared::open(&config.data)?;
    let found = prepared.manifest().name();
    let kind = prepared.manifest().dataset.name();
    if let Some(name) = args.dataset.filter(|name| name != found && name != kind) {
        return Err(Error::Usage(format!(
            "--dataset {name}: {} holds {found}",
            config.data.display()
        )));
    }
    config.bind(&prepared)?;
    args.settings.take_steps_enough(&mut config, chosen, &prepared, ui)?;
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(found));
    share::can_join(&out, &config, &prepared)?;
    let mut engine = args.device.open(ui)?;
    if let Some((folder, first)) = config.runs(&out).first() {
        check(&Unit::all(folder, first), &prepared, engine.as_mut())?;
    }
    share::join(&out, &config, &prepared)?;
    Ok((out, config, prepared, engine))
}

/// The run in a folder, perhaps to more epochs or with its data in another place.
fn resumed(root: &Path, args: TrainArgs) -> Result<(RunConfig, Prepared)> {
    let others = [
        ("--dataset", args.dataset.is_some()),
        ("--config", args.config.is_some()),
        ("--paper", args.paper.paper),
    ];
    let others = others.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag.to_string());
    let given = args.settings.flags().into_iter().chain(others);
    if let Some(flag) = given.into_iter().find(|flag| flag != "--epochs") {
        return Err(Error::Usage(format!(
            "{flag} can't change in a run that continues; {} has the settings",
            folders::config(root).display()
        )));
    }
    let before = RunConfig::read(root)?;
    drop(share::open(root, "gradcon train")?);
    let mut config = args.settings.over(before.clone())?;
    if let Some(data) = args.data {
        config.data = std::path::absolute(&data).map_err(Error::io(&data))?;
    }
    if config.epochs != before.epochs {
        let epochs = config.epochs;
        config.check()?;
        for (folder, config) in config.runs(root) {
            let reached = epochs_reached(&folder, &config);
            if reached > epochs {
                return Err(Error::Usage(format!(
                    "--epochs {epochs}: {} has {reached} already, and a run can't be shortened",
                    folder.display()
                )));
            }
        }
    }
    let prepared = open_data(&config)?;
    config.check_data(&prepared)?;
    if config.seeds.is_some() {
        share::update(root, &config)?;
    }
    Ok((config, prepared))
}

/// Whether a dataset has test images, by which trainings are compared.
///
/// # Errors
/// It has normal images only.
pub(super) fn check_tested(prepared: &Prepared, folder: &Path) -> Result<()> {
    match prepared.test_sets() {
        [] => Err(Error::Usage(format!(
            "{}: normal images only, so there is nothing to compare trainings by; a single one is \
             for `gradcon train`",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// The dataset of a run that is there already.
pub fn open_data(config: &RunConfig) -> Result<Prepared> {
    Prepared::open(&config.data).map_err(|e| match e {
        Error::Invalid(what) => Error::Invalid(format!(
            "{what}; if the run's data were moved, say with --data DIR to where"
        )),
        other => other,
    })
}

/// The most epochs that a class of a run has completed.
pub(super) fn epochs_reached(run: &Path, config: &RunConfig) -> usize {
    let of = |class: &String| Standing::of(&folders::training(run, class)).epochs;
    config.inliers.iter().map(of).max().unwrap_or(0)
}

/// A bar on a terminal, a line for each epoch elsewhere.
pub(super) struct Progress {
    ui: Ui,
    pub bar: ProgressBar,
    /// Training images of all classes, changed copies included.
    images: usize,
    epochs: usize,
    model: Kind,
    /// By the units' names: the squared error of the mean training image on the validation images.
    mean_errors: BTreeMap<String, f64>,
}

impl Progress {
    /// For units that train together; there is at least one.
    pub fn new(ui: Ui, units: &[Unit], prepared: &Prepared) -> Result<Progress> {
        // Many units may share a class.
        let mut classes: BTreeMap<&str, (usize, Option<f64>)> = BTreeMap::new();
        let (mut images, mut mean_errors) = (0, BTreeMap::new());
        for unit in units {
            if !classes.contains_key(unit.class.as_str()) {
                for k in prepared.find_inliers(std::slice::from_ref(&unit.class))? {
                    let train = prepared.train_of(k)?;
                    let error = prepared.val_of(k)?.error_of_mean(&train);
                    classes.insert(&unit.class, (train.n, error));
                }
            }
            if let Some(&(n, error)) = classes.get(unit.class.as_str()) {
                images += unit.config.training_images(n);
                mean_errors.extend(error.map(|error| (unit.name.clone(), error)));
            }
        }
        let (epochs, model) = (units[0].config.epochs, units[0].config.model);
        let bar = ui.bar(images.saturating_mul(epochs) as u64);
        bar.set_message("images");
        Ok(Progress { ui, bar, images, epochs, model, mean_errors })
    }

    /// How much of the validation images' variance the models explain, their mean.
    fn explained(&self, reports: &[&EpochReport], classes: &[&String]) -> Option<f64> {
        let shares: Option<Vec<f64>> = reports
            .iter()
            .zip(classes)
            .map(|(report, class)| {
                let mean = self.mean_errors.get(*class).filter(|&&mean| mean > 0.0)?;
                Some(1.0 - report.validation.mse / mean)
            })
            .collect();
        shares.map(|shares| shares.iter().sum::<f64>() / shares.len() as f64)
    }
}

impl Watch for Progress {
    fn begin(&mut self, epochs_done: usize) {
        self.bar.set_position(self.images.saturating_mul(epochs_done) as u64);
        self.bar.reset_eta();
    }

    fn images(&mut self, images: usize) -> bool {
        self.bar.inc(images as u64);
        interrupt::asked()
    }

    fn warn(&mut self, message: &str) {
        self.bar.suspend(|| self.ui.warn(message));
    }

    fn note(&mut self, message: &str) {
        self.bar.suspend(|| self.ui.progress(message));
    }

    fn epoch(
        &mut self,
        reports: &[Option<EpochReport>],
        classes: &[String],
        images_per_second: f64,
    ) {
        let (reports, classes): (Vec<&EpochReport>, Vec<&String>) = reports
            .iter()
            .zip(classes)
            .filter_map(|(report, class)| Some((report.as_ref()?, class)))
            .unzip();
        if reports.is_empty() {
            return;
        }
        let epoch = reports[0].epoch;
        let mean = |of: fn(&EpochReport) -> f64| {
            reports.iter().map(|r| of(r)).sum::<f64>() / reports.len() as f64
        };
        let best = reports.iter().filter(|r| r.best).count();
        let divergence = match self.model {
            Kind::Cae => String::new(),
            Kind::Vae => format!(", divergence {:.5}", mean(|r| r.validation.divergence)),
        };
        let explained = self.explained(&reports, &classes);
        let explained = explained.map_or(String::new(), |s| format!("  explains {}", percent(s)));
        let line = format!(
            "epoch {epoch:>3}/{}  train {:.5}  validation {:.5} (mse {:.5}, constraint \
             {:+.4}{divergence}){explained}  {images_per_second:.0} images/s{}",
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
            for (report, class) in reports.iter().zip(&classes).filter(|_| classes.len() > 1) {
                self.ui.detail(&format!(
                    "    {class}: validation {:.5}{}",
                    report.validation.loss,
                    if report.best { "  best" } else { "" }
                ));
            }
        });
    }
}
