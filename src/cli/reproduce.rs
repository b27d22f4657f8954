//! `gradcon reproduce`

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use clap::ValueEnum;

use super::settings::Papers;
use super::stages::{self, Run};
use super::{DeviceArgs, Ui, interrupt, prep};
use crate::bench::{Sizes, steps};
use crate::data::manifest::FILE_NAME as MANIFEST;
use crate::data::{Dataset, Prepared};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Lock, is_vacant, make_folder, parent};
use crate::folders;
use crate::images::IMAGE_SIZE;
use crate::output::print;
use crate::report::found::After;
use crate::report::published;
use crate::report::reproduction::{Reproduced, Reproduction, SCHEMA_VERSION, Share};
use crate::report::results::Results;
use crate::run::config::RunConfig;
use crate::run::evaluate::rules;
use crate::run::train::{Unit, check, now};

/// The paper's experiments: prepare, train and evaluate all of its datasets that are here, with what
/// others published beside it.
///
/// Settings are the paper's: PyTorch's initial parameters, 1,000 epochs, its score; flags win over
/// them. Every dataset is evaluated after 20, 40, 100, 200, 400, 700 and 1000 epochs (--at) by
/// every score, and all of them have reached one of these before any goes on to the next. How
/// long it takes is measured and said before it starts; --hours trains as far as a time allows.
/// Ctrl-C saves and exits with 130; the same command goes on to the same bits, and one with more
/// --epochs goes further.
///
/// Without --datasets it takes those that are here: in --from, prepared in data/NAME, in Debian's
/// package, or downloaded by `gradcon prep` before. One that is named is downloaded if it can be.
///
/// Writes reproduction.json, .csv, .md and the page reproduction.html, also in between; the tables
/// go to standard output. REPRODUCTION/runs/NAME is a run like any other, for `gradcon eval`,
/// `report` and `score`, and REPRODUCTION/after-N has what was found after N epochs.
///
/// Examples:
///
///   gradcon reproduce --out paper
///   gradcon reproduce --datasets mnist,fmnist --hours 8 --out paper
///   gradcon reproduce --from cure-tsr=downloads/CURE-TSR --epochs 40 --seeds 0,1,2 --out short
///   gradcon reproduce --estimate --out paper
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ReproduceArgs {
    /// Which datasets: mnist, fmnist, cifar-10, cure-tsr. [default: those that are here]
    #[arg(long, value_name = "NAME[,NAME...]", value_delimiter = ',', value_parser = of_paper)]
    datasets: Vec<Dataset>,

    /// Where a dataset is: a folder that `gradcon prep` made, or what `prep --from` takes.
    #[arg(long, value_name = "NAME=PATH")]
    from: Vec<From>,

    #[command(flatten)]
    settings: Papers,

    /// Train as many epochs as can be done in this time, of at most 1000; with the epochs that
    /// are there, as many more.
    #[arg(long, value_name = "H", conflicts_with = "epochs", allow_negative_numbers = true)]
    hours: Option<f64>,

    /// Epochs to evaluate after, beside the last. [default: 20, 40, 100, 200, 400, 700]
    #[arg(
        long, value_delimiter = ',', value_name = "N[,N...]",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    at: Vec<u32>,

    /// Prepare the datasets, say how long it would take, and stop.
    #[arg(long)]
    estimate: bool,

    /// The reproduction's folder: new, empty, or that of the same reproduction.
    #[arg(long, value_name = "REPRODUCTION")]
    out: PathBuf,

    #[command(flatten)]
    device: DeviceArgs,
}

/// The paper's datasets, in the order in which they are done.
const DATASETS: [Dataset; 4] =
    [Dataset::MNIST, Dataset::FMNIST, Dataset::CIFAR_10, Dataset::CURE_TSR];

/// Where in a reproduction its datasets are prepared.
const DATA: &str = "data";

/// Epochs to evaluate after, where nobody says other ones.
const AT: [usize; 6] = [20, 40, 100, 200, 400, 700];

fn of_paper(text: &str) -> std::result::Result<Dataset, String> {
    let dataset = Dataset::from_str(text, true).ok().filter(|dataset| DATASETS.contains(dataset));
    dataset.ok_or_else(|| {
        let names = DATASETS.map(|dataset| dataset.name()).join(", ");
        format!("expected a dataset of the paper: {names}")
    })
}

/// Where a dataset is.
#[derive(Clone, Debug)]
struct From(Dataset, PathBuf);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<From, String> {
        let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
        if path.is_empty() {
            return Err("expected a path behind NAME=".into());
        }
        Ok(From(of_paper(name)?, path.into()))
    }
}

pub fn run(args: ReproduceArgs, ui: &Ui) -> Result<()> {
    let remedy = "a lower --batch-size, or fewer classes or seeds at once, needs less";
    reproduce(args, ui).map_err(|e| e.with_remedy(remedy))
}

fn reproduce(args: ReproduceArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let mut settings = args.settings.0.over(RunConfig::paper())?;
    settings.check()?;
    settings.check_no_patience()?;
    if let Some(hours) = args.hours.filter(|hours| !(hours.is_finite() && *hours > 0.0)) {
        return Err(Error::Usage(format!("--hours {hours}: expected a number above 0")));
    }
    let (mut at, asked_for) = stages::epochs(&args.at, &AT, settings.epochs)?;
    let runs = args.out.join("runs");
    if !runs.exists() && !args.out.join(DATA).exists() && !is_vacant(&args.out)? {
        let what = "not empty, and no reproduction; choose another folder";
        return Err(Error::Usage(format!("{}: {what}", args.out.display())));
    }
    let Here { found, absent } = find(&args)?;
    // Nothing is written before what is there is known to be right.
    for (dataset, place) in &found {
        if let Place::Prepared(folder) = place {
            opened(*dataset, folder)?;
        }
    }
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let _lock = Lock::hold(&args.out, "gradcon reproduce")?;
    let mut all = vec![];
    for (dataset, place) in found {
        let folder = prepared_at(dataset, place, &args.out, ui)?;
        let prepared = opened(dataset, &folder)?;
        settings.data = folder;
        let mut config = settings.clone().resolved()?;
        config.bind(&prepared)?;
        let run = (runs.join(dataset.name()), config);
        stages::check_same(&run.0, &run.1)?;
        stages::drop_past(&args.out, &run, &mut at, &asked_for)?;
        all.push(Work { dataset, prepared, run, pace: Pace::default() });
    }
    let mut engine = args.device.open(ui)?;
    let mut whole = Whole { args, ui: *ui, settings, at, absent, all };
    for i in 0..whole.all.len() {
        if whole.at.iter().any(|&epochs| !whole.is_done(&whole.all[i], epochs)) {
            whole.all[i].measure(engine.as_mut(), ui)?;
        }
    }
    whole.estimate();
    if whole.args.estimate {
        return Ok(());
    }
    whole.work(engine.as_mut())?;
    let reproduction = whole.summary()?;
    reproduction.write(&whole.args.out)?;
    print(&reproduction.markdown())?;
    let page = folders::reproduction(&whole.args.out).with_extension("html");
    ui.progress(&format!("the page: {}", page.display()));
    Ok(())
}

/// How a dataset comes to be there.
enum Place {
    /// It is prepared, in this folder.
    Prepared(PathBuf),
    /// From its files: here, or where `gradcon prep` finds or downloads them.
    Files(Option<PathBuf>),
}

/// What there is to reproduce, and what not.
struct Here {
    found: Vec<(Dataset, Place)>,
    /// Titles of the paper's other datasets.
    absent: Vec<String>,
}

/// Looks for the datasets.
fn find(args: &ReproduceArgs) -> Result<Here> {
    let is_prepared = |folder: &PathBuf| folder.join(MANIFEST).exists();
    let (mut found, mut absent) = (vec![], vec![]);
    for dataset in DATASETS {
        let name = dataset.name();
        let named = args.datasets.contains(&dataset);
        let from = args.from.iter().find(|from| from.0 == dataset).map(|from| from.1.clone());
        if !args.datasets.is_empty() && !named {
            if from.is_some() {
                return Err(Error::Usage(format!("--from {name}: not among --datasets")));
            }
            continue;
        }
        let own = args.out.join(DATA).join(name);
        let usual = Path::new(DATA).join(name);
        let place = match from {
            Some(from) if is_prepared(&from) => Some(Place::Prepared(from)),
            _ if is_prepared(&own) => Some(Place::Prepared(own)),
            Some(from) => Some(Place::Files(Some(from))),
            None if is_prepared(&usual) => Some(Place::Prepared(usual)),
            None if prep::is_at_hand(dataset) => Some(Place::Files(None)),
            None if named && dataset.ten_classes().is_some() => Some(Place::Files(None)),
            None if named => {
                return Err(Error::Usage(format!(
                    "{name}: not found, and no program can download it; say where it is with \
                     --from {name}=PATH"
                )));
            }
            None => None,
        };
        match place {
            Some(place) => found.push((dataset, place)),
            None => absent.push(dataset.title.to_string()),
        }
    }
    if found.is_empty() {
        return Err(Error::Usage(
            "none of the paper's datasets is here: name those to download (--datasets \
             mnist,fmnist,cifar-10), or say where they are (--from NAME=PATH)"
                .into(),
        ));
    }
    Ok(Here { found, absent })
}

/// A prepared dataset, which has to be the one that is meant.
fn opened(dataset: Dataset, folder: &Path) -> Result<Prepared> {
    let prepared = Prepared::open(folder)?;
    let (found, name) = (prepared.manifest().dataset, dataset.name());
    if found != dataset {
        let folder = folder.display();
        return Err(Error::Usage(format!("{folder}: holds {}, expected {name}", found.name())));
    }
    Ok(prepared)
}

/// The folder of a dataset, which is prepared if it isn't yet.
fn prepared_at(dataset: Dataset, place: Place, out: &Path, ui: &Ui) -> Result<PathBuf> {
    match place {
        Place::Prepared(folder) => Ok(folder),
        Place::Files(from) => {
            let folder = out.join(DATA).join(dataset.name());
            let percents = published::outlier_percents(dataset.name());
            prep::prepare_at(dataset, &folder, from.as_deref(), percents, ui)?;
            Ok(folder)
        }
    }
}

/// What a dataset's run takes, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    epoch: f64,
    evaluation: f64,
}

/// One dataset with its run.
struct Work {
    dataset: Dataset,
    prepared: Prepared,
    run: Run,
    pace: Pace,
}

/// Settings that the paper's figures depend on.
const PAPERS: [&str; 9] =
    ["model", "batch_size", "lr", "alpha", "beta", "init", "init_from", "shuffle", "precision"];

/// Batches and rounds of the measurement that an estimate rests on.
const MEASURED: (usize, usize) = (4, 2);

impl Work {
    /// The run as it is to be after some epochs.
    fn to(&self, epochs: usize) -> Run {
        (self.run.0.clone(), RunConfig { epochs, ..self.run.1.clone() })
    }

    /// Trains and scores for a moment, and finds out whether the memory suffices.
    fn measure(&mut self, engine: &mut dyn Engine, ui: &Ui) -> Result<()> {
        let config = &self.run.1;
        let units = stages::units(&[&self.run], name);
        check(&units, &self.prepared, engine)?;
        let sizes = Sizes {
            model: config.model,
            batch: config.batch_size,
            size: self.prepared.size(),
            channels: self.prepared.channels(),
            replicas: units.len(),
            precision: config.precision,
        };
        let rates = steps::measure(engine, sizes, MEASURED, |_| Ok(()), &interrupt::go_on)?;
        let [train, score] = rates.map(|row| row.median().unwrap_or(f64::NAN));
        let mut images = [0, 0, 0];
        for k in self.prepared.find_inliers(&config.inliers)? {
            let mut test: Vec<usize> =
                self.prepared.test_sets_of(k).flat_map(|set| set.indices.clone()).collect();
            test.sort_unstable();
            test.dedup();
            let counts = [self.prepared.train_of(k)?.n, self.prepared.val_of(k)?.n, test.len()];
            images.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let seeds = config.seeds.as_ref().map_or(1, Vec::len);
        let [training, validation, all] =
            [images[0], images[1], images.iter().sum()].map(|count| (seeds * count) as f64);
        // The read-outs are fitted on all normal images whenever a training ends.
        self.pace = Pace { epoch: training / train + validation / score, evaluation: all / score };
        ui.progress(&format!(
            "{}: {} images to train {} model(s) on, {} to test; {} an epoch, {} an evaluation",
            self.dataset.name(),
            images[0],
            units.len(),
            images[2],
            time(self.pace.epoch),
            time(self.pace.evaluation)
        ));
        Ok(())
    }

    /// In what its numbers after some epochs are not those of the paper's experiment.
    fn differs(&self, epochs: usize) -> Result<Vec<String>> {
        let config = &self.run.1;
        let manifest = self.prepared.manifest();
        let paper = RunConfig::paper();
        let mut differs = vec![];
        let mut fewer = |what: &str, ours: usize, theirs: usize| {
            if ours != theirs {
                differs.push(format!("{ours} of {theirs} {what}"));
            }
        };
        fewer("epochs", epochs, paper.epochs);
        fewer("classes", config.inliers.len(), self.prepared.inliers().len());
        if let Some(spec) = self.dataset.ten_classes() {
            let counts = [&manifest.counts.train, &manifest.counts.val, &manifest.counts.test];
            let images = counts.into_iter().flatten().sum();
            fewer("images", images, spec.images.iter().sum());
        }
        if self.prepared.size() != IMAGE_SIZE {
            differs.push(format!("size {} instead of {IMAGE_SIZE}", self.prepared.size()));
        }
        let (ours, theirs) = (config.entries()?, paper.entries()?);
        for name in PAPERS {
            let text = |value: Option<&serde_json::Value>| {
                value.map_or("none".into(), |v| v.as_str().map_or(v.to_string(), String::from))
            };
            if ours.get(name) != theirs.get(name) {
                let (ours, theirs) = (text(ours.get(name)), text(theirs.get(name)));
                differs.push(format!("{name} {ours} instead of {theirs}"));
            }
        }
        Ok(differs)
    }

    /// Seconds from where it stands to `epochs`, with `evaluations` on the way.
    fn seconds(&self, epochs: usize, evaluations: usize) -> f64 {
        let left = epochs.saturating_sub(stages::reached(&self.run));
        left as f64 * self.pace.epoch + evaluations as f64 * self.pace.evaluation
    }
}

/// What messages call a model.
fn name(unit: &Unit) -> String {
    format!("{} (seed {})", unit.class, unit.config.seed)
}

/// A duration as one says it.
fn time(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        _ if minutes < 100.0 => format!("{minutes} min"),
        _ => format!("{} h {:.0} min", (minutes / 60.0).floor(), minutes % 60.0),
    }
}

/// The whole of it.
struct Whole {
    args: ReproduceArgs,
    ui: Ui,
    settings: RunConfig,
    /// Epochs to evaluate after, rising.
    at: Vec<usize>,
    absent: Vec<String>,
    all: Vec<Work>,
}

impl Whole {
    /// Whether a dataset was evaluated after these epochs.
    fn is_done(&self, work: &Work, epochs: usize) -> bool {
        stages::kept(&self.args.out, &work.run.0, epochs).exists()
    }

    /// Whether anything was evaluated.
    fn is_begun(&self) -> bool {
        let of = |work: &Work| stages::kept_after(&self.args.out, &work.run.0);
        self.all.iter().any(|work| !of(work).is_empty())
    }

    /// Seconds until all that is not done of `at` is.
    fn seconds(&self, at: &[usize]) -> f64 {
        let of = |work: &Work| {
            let open = at.iter().filter(|&&epochs| !self.is_done(work, epochs));
            work.seconds(open.clone().copied().max().unwrap_or(0), open.count())
        };
        self.all.iter().map(of).sum()
    }

    /// Says how long it takes.
    fn estimate(&self) {
        let last = self.at.last().copied().unwrap_or(0);
        let text = match self.args.hours {
            Some(hours) => format!(
                "{} from now, of the {} that {last} epochs would take",
                time(3600.0 * hours),
                time(self.seconds(&self.at))
            ),
            None => format!("to epoch {last}: about {}", time(self.seconds(&self.at))),
        };
        self.ui.progress(&format!("{text}; Ctrl-C saves, and the same command goes on"));
    }

    /// Trains and evaluates all datasets to one number of epochs after the other.
    fn work(&mut self, engine: &mut dyn Engine) -> Result<()> {
        let start = Instant::now();
        for epochs in self.at.clone() {
            let open = |whole: &Whole, i: usize| !whole.is_done(&whole.all[i], epochs);
            let todo: Vec<usize> = (0..self.all.len()).filter(|&i| open(self, i)).collect();
            if todo.is_empty() {
                continue;
            }
            let left = self.args.hours.map(|hours| 3600.0 * hours - start.elapsed().as_secs_f64());
            let Some(to) = self.reachable(&todo, epochs, left) else {
                let nothing =
                    "not one epoch more of all datasets can be done in the time that is left";
                let Some(hours) = self.args.hours.filter(|_| !self.is_begun()) else {
                    self.ui.progress(nothing);
                    break;
                };
                return Err(Error::Usage(format!("--hours {hours}: {nothing}")));
            };
            self.ui.progress(&format!("to epoch {to}: about {}", time(self.seconds(&[to]))));
            for i in todo {
                self.stage(i, to, engine)?;
                self.summary()?.write(&self.args.out)?;
            }
            if to < epochs {
                break;
            }
        }
        Ok(())
    }

    /// The most epochs, up to `epochs`, that these datasets can all reach in the seconds that are
    /// `left`; at least what each has.
    fn reachable(&self, todo: &[usize], epochs: usize, left: Option<f64>) -> Option<usize> {
        let Some(left) = left else { return Some(epochs) };
        let seconds = |to| todo.iter().map(|&i| self.all[i].seconds(to, 1)).sum::<f64>();
        let done = |to| todo.iter().all(|&i| self.is_done(&self.all[i], to));
        let least = todo.iter().map(|&i| stages::reached(&self.all[i].run)).max().unwrap_or(0);
        (least.max(1)..=epochs).rev().find(|&to| seconds(to) <= left && !done(to))
    }

    /// Trains one dataset to these epochs, and evaluates it.
    fn stage(&mut self, i: usize, epochs: usize, engine: &mut dyn Engine) -> Result<()> {
        let (out, ui) = (&self.args.out, &self.ui);
        let work = &mut self.all[i];
        let keep = stages::kept(out, &work.run.0, epochs);
        if keep.exists() {
            return Ok(());
        }
        let run = work.to(epochs);
        make_folder(parent(&run.0))?;
        let (start, before) = (Instant::now(), stages::reached(&run));
        stages::train(&[&run], name, &work.prepared, engine, ui)?;
        let trained = epochs.saturating_sub(before);
        if trained > 0 {
            work.pace.epoch = start.elapsed().as_secs_f64() / trained as f64;
        }
        let start = Instant::now();
        let every = |config: &RunConfig, prepared: &_| rules(config, prepared, &[], &[]);
        stages::evaluated(&run, every, &keep, &work.prepared, engine, ui)?;
        work.pace.evaluation = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// What was found so far.
    fn summary(&self) -> Result<Reproduction> {
        let mut settings = self.settings.fixed()?;
        for differs in ["seed", "data_sha256", "inliers"] {
            settings.remove(differs);
        }
        settings.insert("beta".into(), self.settings.beta.to_string());
        let mut datasets = vec![];
        for work in &self.all {
            let mut after = vec![];
            let mut last = None;
            for epochs in stages::kept_after(&self.args.out, &work.run.0) {
                let results = Results::read(&stages::kept(&self.args.out, &work.run.0, epochs))?;
                after.push(After::of(epochs, &results)?);
                last = Some(results);
            }
            let Some(last) = last else { continue };
            let differs = work.differs(after.last().map_or(0, |after: &After| after.epochs))?;
            let folder = work.run.0.strip_prefix(&self.args.out).unwrap_or(&work.run.0);
            datasets.push(Reproduced {
                dataset: work.dataset.name().into(),
                title: work.dataset.title.into(),
                data_sha256: work.run.1.data_sha256.clone(),
                device: last.about.device.clone(),
                outlier_percent: last.headline_percent(),
                folder: folder.display().to_string(),
                formulas: last.about.scores.clone(),
                after,
                shares: Share::of(&last),
                published: published::of(work.dataset.name()),
                differs,
            });
        }
        Ok(Reproduction {
            schema_version: SCHEMA_VERSION,
            gradcon_version: env!("CARGO_PKG_VERSION").into(),
            date: now(),
            settings,
            seeds: self.settings.seeds.clone().unwrap_or(vec![self.settings.seed]),
            datasets,
            absent: self.absent.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_one_says_them() {
        let texts = [0.04, 9.97, 61.0, 100.0, 5399.0, 6000.0, 36_000.0].map(time);
        assert_eq!(texts, ["0.0 s", "10 s", "61 s", "2 min", "90 min", "1 h 40 min", "10 h 0 min"]);
    }
}
