//! `gradcon sweep`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::eval::keep_common;
use super::settings::{Others, PaperArgs};
use super::train::{Progress, Seconds, seconds};
use super::{AdapterArgs, DeviceArgs, Ui, interrupt};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Lock, is_vacant, make_folder};
use crate::folders;
use crate::output::{outln, print};
use crate::program::Precision;
use crate::report::results::{ClassResult, Results};
use crate::report::sweep::{Combination, SCHEMA_VERSION, Sweep};
use crate::report::tables;
use crate::run::checkpoint::Standing;
use crate::run::evaluate::{Evaluate, evaluate, rules};
use crate::run::share;
use crate::run::sweep::{Job, Plan};
use crate::run::train::{End, Options, Unit, check, now, programs, train_units};

/// Train and evaluate all combinations of some settings: which alpha, which learning rate, and how
/// much depends on the seed.
///
/// All models train side by side, as replicas of one program, in groups that fit the memory;
/// each one's numbers are those of training it alone. Then all are evaluated (without
/// bootstrap intervals), and the table goes to standard output, to sweep.json, .csv and .md,
/// and with a plot for each setting to the page sweep.html. Ctrl-C saves and exits with 130;
/// the same command, or `--resume SWEEP`, goes on to the same bits.
///
/// Each combination is a run in SWEEP/alpha-A_lr-L, for `gradcon eval`, `report` and `score`.
///
/// Under a scheduler each training is a job of its own: --plan writes the list, --job I does
/// one of them (the same command goes on where it was interrupted), --collect puts the tables
/// together of what is complete and names what is missing. tools/slurm has an example.
///
/// Examples:
///
///   gradcon sweep --data data/fmnist --alpha 0,0.01,0.03,0.1 --seeds 0-4 --out sweeps/a
///   gradcon sweep --resume sweeps/a
///   gradcon sweep --plan --data data/fmnist --alpha 0,0.03 --lr 1e-3,3e-4 --out sweeps/b
///   gradcon sweep --job 3 --out sweeps/b       # or --job auto, in a job array
///   gradcon sweep --collect --out sweeps/b
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SweepArgs {
    /// Folder of a dataset that `gradcon prep` made; of a sweep that is there, where its data are
    /// now.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Weights of the gradient constraint in the loss. [default: 0.03]
    #[arg(
        id = "alphas",
        long = "alpha",
        value_name = "A[,A...]",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    alphas: Vec<f64>,

    /// Learning rates. [default: 0.001]
    #[arg(
        id = "lrs",
        long = "lr",
        value_name = "L[,L...]",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    lrs: Vec<f64>,

    /// Seeds, and ranges such as 0-4. [default: 0]
    #[arg(id = "all_seeds", long = "seeds", value_name = "S[,S...]", value_delimiter = ',')]
    seeds: Vec<Seeds>,

    #[command(flatten)]
    others: Others,

    #[command(flatten)]
    paper: PaperArgs,

    /// The sweep's folder: new, empty, or that of the same sweep.
    #[arg(long, value_name = "SWEEP", required_unless_present = "resume")]
    out: Option<PathBuf>,

    /// Continue the sweep in this folder.
    #[arg(long, value_name = "SWEEP", conflicts_with_all = ["out", "plan", "job", "collect"])]
    resume: Option<PathBuf>,

    /// Write the list of jobs (SWEEP/jobs.csv), and train nothing.
    #[arg(long, conflicts_with_all = ["job", "collect"])]
    plan: bool,

    /// Do one job of the sweep, by its number from 0; auto: as a scheduler says, in
    /// SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX (Kubernetes) or PARALLEL_SEQ (GNU parallel, which
    /// counts from 1).
    #[arg(long, value_name = "I|auto", conflicts_with = "collect")]
    job: Option<JobNumber>,

    /// Put the tables together of what is complete, and name what is missing.
    #[arg(long)]
    collect: bool,

    /// Models that train at once, at most. [default: as many as fit the memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,

    /// Seconds between two checkpoints, as in `gradcon train`. [default: 60]
    #[arg(
        long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds,
        default_value_t = Seconds(Options::default().checkpoint_every), hide_default_value = true
    )]
    checkpoint_every: Seconds,

    #[command(flatten)]
    adapter: AdapterArgs,
}

/// A seed, or several from first to last.
#[derive(Clone, Copy, Debug)]
struct Seeds(u64, u64);

/// Most seeds of a range: more are a mistake.
const MOST_SEEDS: u64 = 1000;

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Seeds, String> {
        let seed = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (seed(first)?, seed(last)?),
            None => (seed(text)?, seed(text)?),
        };
        if first > last || last - first >= MOST_SEEDS {
            return Err(format!("expected a range that rises, of at most {MOST_SEEDS} seeds"));
        }
        Ok(Seeds(first, last))
    }
}

/// Which job is meant.
#[derive(Clone, Copy, Debug)]
enum JobNumber {
    Auto,
    Given(usize),
}

impl FromStr for JobNumber {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<JobNumber, String> {
        if text == "auto" {
            return Ok(JobNumber::Auto);
        }
        let number = text.parse::<usize>().map(JobNumber::Given);
        number.map_err(|e| format!("{e}; expected a number from 0, or auto"))
    }
}

/// Where schedulers say which job of an array is meant, and what they count from.
const SCHEDULERS: [(&str, usize); 3] =
    [("SLURM_ARRAY_TASK_ID", 0), ("JOB_COMPLETION_INDEX", 0), ("PARALLEL_SEQ", 1)];

impl JobNumber {
    fn index(self, ui: &Ui) -> Result<usize> {
        let JobNumber::Given(index) = self else {
            let set = SCHEDULERS
                .iter()
                .find_map(|(name, first)| Some((name, first, std::env::var(name).ok()?)));
            let Some((name, first, text)) = set else {
                let names = SCHEDULERS.map(|(name, _)| name).join(", ");
                return Err(Error::Usage(format!("--job auto: none of {names} is set")));
            };
            let number = text.parse::<usize>().ok().and_then(|number| number.checked_sub(*first));
            let index = number.ok_or_else(|| {
                Error::Usage(format!("{name} is '{text}', expected a number from {first}"))
            })?;
            ui.progress(&format!("job {index}, by {name}={text}"));
            return Ok(index);
        };
        Ok(index)
    }
}

pub fn run(args: SweepArgs, ui: &Ui) -> Result<()> {
    let remedy = "a lower --batch-size, or fewer models at once (--at-once), needs less";
    sweep(args, ui).map_err(|e| e.with_remedy(remedy))
}

fn sweep(args: SweepArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let there = args.resume.is_some() || args.job.is_some() || args.collect;
    let Some(folder) = args.resume.clone().or(args.out.clone()) else {
        return Err(Error::Usage("no folder: give --out SWEEP".into()));
    };
    let (plan, prepared) =
        if there { planned(&folder, &args)? } else { started(&folder, &args, ui)? };
    let jobs = plan.jobs(&folder);
    if args.plan {
        ui.progress(&format!(
            "jobs 0 to {}; do each with: gradcon sweep --job I --out {}",
            jobs.len() - 1,
            folder.display()
        ));
        return outln!("{}", folder.join("jobs.csv").display());
    }
    let mut work = Work { ui: *ui, folder, plan, prepared, engine: None, args };
    match work.args.job {
        Some(number) => {
            let index = number.index(ui)?;
            let Some(job) = jobs.get(index) else {
                return Err(Error::Usage(format!(
                    "job {index}: {} has jobs 0 to {}",
                    work.folder.display(),
                    jobs.len() - 1
                )));
            };
            work.train(std::slice::from_ref(job))?;
            work.evaluate(job)?;
            outln!("{}", job.folder.display())
        }
        None => {
            if !work.args.collect {
                work.train(&jobs)?;
            }
            work.collect(&jobs)
        }
    }
}

/// The plan of a sweep that is there, perhaps with its data in another place.
fn planned(folder: &Path, args: &SweepArgs) -> Result<(Plan, Prepared)> {
    let given = [
        ("--alpha", !args.alphas.is_empty()),
        ("--lr", !args.lrs.is_empty()),
        ("--seeds", !args.seeds.is_empty()),
        ("--paper", args.paper.paper),
    ];
    let given = given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag.to_string());
    if let Some(flag) = given.chain(args.others.0.flags()).next() {
        return Err(Error::Usage(format!(
            "{flag} can't change in a sweep that is there; {} has the settings",
            folders::sweep(folder).display()
        )));
    }
    let mut plan = Plan::read(folder)?;
    if let Some(data) = &args.data {
        plan = plan.with_data(std::path::absolute(data).map_err(Error::io(data))?);
    }
    let prepared = super::train::open_data(plan.settings())?;
    plan.settings().check_data(&prepared)?;
    Ok((plan, prepared))
}

/// A new sweep, or the one that is there if it is the same.
fn started(folder: &Path, args: &SweepArgs, ui: &Ui) -> Result<(Plan, Prepared)> {
    let mut settings = args.others.0.over(args.paper.base())?;
    settings.data = args.data.clone().unwrap_or_default();
    let mut settings = settings.resolved()?;
    let prepared = Prepared::open(&settings.data)?;
    super::train::check_tested(&prepared, &settings.data)?;
    settings.bind(&prepared)?;
    let chosen = args.paper.paper;
    args.others.0.take_steps_enough(&mut settings, chosen, &prepared, ui)?;
    let or = |values: &[f64], default: f64| match values {
        [] => vec![default],
        values => values.to_vec(),
    };
    let seeds = args.seeds.iter().flat_map(|&Seeds(first, last)| first..=last).collect::<Vec<_>>();
    let seeds = if seeds.is_empty() { vec![settings.seed] } else { seeds };
    let (alpha, lr) = (or(&args.alphas, settings.alpha), or(&args.lrs, settings.lr));
    let plan = Plan::new(settings, alpha, lr, seeds)?;
    let data = plan.settings().data.clone();
    // Nothing is written before the plan is known to be good and the folder to be ours.
    let check = || -> Result<bool> {
        if folders::sweep(folder).exists() {
            plan.check_same(&Plan::read(folder)?).map_err(|e| e.in_file(folder))?;
            return Ok(true);
        }
        if is_vacant(folder)? {
            return Ok(false);
        }
        Err(Error::Usage(format!(
            "{}: not empty, and no sweep; choose another folder",
            folder.display()
        )))
    };
    check()?;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let _lock = Lock::wait(folder, "gradcon sweep", share::PATIENCE)?;
    if check()? {
        ui.progress(&format!("{}: there already; it goes on", folder.display()));
        return Ok((Plan::read(folder)?.with_data(data), prepared));
    }
    plan.write(folder)?;
    Ok((plan, prepared))
}

/// What all parts of a sweep need.
struct Work {
    ui: Ui,
    folder: PathBuf,
    plan: Plan,
    prepared: Prepared,
    /// Opened when it is first needed.
    engine: Option<Box<dyn Engine>>,
    args: SweepArgs,
}

/// Where a job stands.
enum Stand {
    /// Every model is through.
    Done,
    /// The least number of epochs that a model has completed.
    Under(usize),
}

fn stand(job: &Job) -> (Stand, Vec<String>) {
    let epochs = job.config.epochs;
    let (mut least, mut diverged, mut done) = (epochs, vec![], true);
    for unit in job.units() {
        let standing = Standing::of(&unit.folder());
        if !standing.is_through(epochs) {
            done = false;
            least = least.min(standing.epochs);
        }
        diverged.extend(standing.diverged.map(|why| format!("{} {why}", unit.name)));
    }
    (if done { Stand::Done } else { Stand::Under(least) }, diverged)
}

impl Work {
    /// Opens the device, if nobody has.
    fn open(&mut self) -> Result<()> {
        if self.engine.is_none() {
            // --plan is the sweep's; the device has that of `gradcon tune`.
            let device = DeviceArgs { adapter: self.args.adapter.clone(), plan: None };
            self.engine = Some(device.open(&self.ui)?);
        }
        Ok(())
    }

    /// Trains what is not through of these jobs, as few programs as fit.
    fn train(&mut self, jobs: &[Job]) -> Result<()> {
        let epochs = self.plan.settings().epochs;
        let mut units = vec![];
        for job in jobs {
            let through = |unit: &Unit| Standing::of(&unit.folder()).is_through(epochs);
            units.extend(job.units().into_iter().filter(|unit| !through(unit)));
        }
        if units.is_empty() {
            return Ok(());
        }
        let mut groups = programs(&units).into_iter();
        let mut open: Vec<Unit> = vec![];
        let mut next =
            || groups.next().map(|group| group.into_iter().map(|i| units[i].clone()).collect());
        while let Some(mut group) =
            if open.is_empty() { next() } else { Some(std::mem::take(&mut open)) }
        {
            let count = self.fitting(&group)?;
            open = group.split_off(count);
            self.train_together(jobs, &group)?;
        }
        Ok(())
    }

    /// How many of these can train at once: all, or half, or half of that ...
    fn fitting(&mut self, units: &[Unit]) -> Result<usize> {
        let most = self.args.at_once.map_or(units.len(), |most| most as usize).min(units.len());
        let mut count = most;
        self.open()?;
        let Work { engine: Some(engine), prepared, .. } = self else { return Ok(count) };
        loop {
            match check(&units[..count], prepared, engine.as_mut()) {
                Err(Error::TooLarge { .. }) if count > 1 => count = count.div_ceil(2),
                Err(error) => return Err(error),
                Ok(()) => return Ok(count),
            }
        }
    }

    fn train_together(&mut self, jobs: &[Job], units: &[Unit]) -> Result<()> {
        for job in jobs.iter().filter(|job| units.iter().any(|unit| unit.run == job.folder)) {
            self.ready(job)?;
        }
        let config = self.plan.settings();
        self.ui.progress(&format!(
            "{}: {} from {}, {} model(s), to epoch {}",
            self.folder.display(),
            self.prepared.manifest().name(),
            config.data.display(),
            units.len(),
            config.epochs
        ));
        let options = Options { recover: false, checkpoint_every: self.args.checkpoint_every.0 };
        let mut progress = Progress::new(self.ui, units, &self.prepared)?;
        let Work { engine: Some(engine), prepared, .. } = self else {
            return Err(Error::Device("no device is open".into()));
        };
        let outcome = train_units(units, prepared, engine.as_mut(), options, &mut progress);
        progress.bar.finish_and_clear();
        if outcome?.end == End::Stopped {
            let again = match self.args.job {
                Some(_) => "the same command".into(),
                None => format!("gradcon sweep --resume {}", self.folder.display()),
            };
            self.ui.progress(&format!("saved; continue with: {again}"));
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// The folders of a job, with their configuration.
    fn ready(&self, job: &Job) -> Result<()> {
        let configs = self.plan.runs(&self.folder);
        for (run, config) in configs.iter().filter(|(run, _)| *run == job.run) {
            make_folder(&self.folder)?;
            share::open_seed(run, config, &self.prepared)?;
        }
        if job.folder != job.run {
            share::open_seed(&job.folder, &job.config, &self.prepared)?;
        }
        Ok(())
    }

    /// What was found for a job that is done; evaluates it if nobody has. `None` where no class has
    /// a model.
    fn evaluate(&mut self, job: &Job) -> Result<Option<Results>> {
        let models: Vec<Unit> = job.units();
        let has_model = |unit: &Unit| folders::best_model(&unit.folder()).exists();
        let wanted: Vec<&String> =
            models.iter().filter(|unit| has_model(unit)).map(|unit| &unit.class).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let epochs = Some(job.config.epochs as u64);
        let path = folders::results(&job.folder);
        if path.exists() {
            let results = Results::read(&path)?;
            let of = |class: &&String| results.classes.iter().find(|c| c.class == **class);
            let diverged = |class: &str| {
                let unit = models.iter().find(|unit| unit.class == class);
                unit.is_some_and(|unit| Standing::of(&unit.folder()).diverged.is_some())
            };
            let is_whole = |c: &ClassResult| {
                c.epochs == epochs || c.stopped_early.is_some() || diverged(&c.class)
            };
            let current = wanted.iter().all(|class| of(class).is_some_and(is_whole));
            if current && results.about.data_sha256.as_ref() == Some(&job.config.data_sha256) {
                return Ok(Some(results));
            }
        }
        interrupt::go_on()?;
        self.open()?;
        let ui = self.ui;
        let Work { engine: Some(engine), prepared, .. } = self else { return Ok(None) };
        let _lock = share::open(&job.folder, "gradcon sweep")?;
        let rules = rules(&job.config, prepared, &[], &[])?;
        let what = Evaluate {
            run: &job.folder,
            config: &job.config,
            prepared,
            data: &job.config.data,
            rules: &rules,
            bootstrap: false,
            precision: Precision::F32,
            baselines: None,
            go_on: &interrupt::go_on,
        };
        ui.progress(&job.to_string());
        let (results, _) =
            evaluate(&what, engine.as_mut(), |line| ui.progress(line), |line| ui.warn(line))?;
        Ok(Some(results))
    }

    /// Tables and page of what is complete.
    fn collect(&mut self, jobs: &[Job]) -> Result<()> {
        let mut combinations = vec![];
        let mut percent = None;
        let mut complete = 0;
        for (run, config) in self.plan.runs(&self.folder) {
            let name = run.strip_prefix(&self.folder).unwrap_or(&run).display().to_string();
            let mut combination = Combination {
                folder: name,
                settings: BTreeMap::from([
                    ("alpha".to_string(), config.alpha),
                    ("lr".to_string(), config.lr),
                ]),
                seeds: vec![],
                missing: vec![],
                diverged: vec![],
                scores: vec![],
            };
            let mut found: Vec<(u64, Results)> = vec![];
            for job in jobs.iter().filter(|job| job.run == run) {
                let seed = job.config.seed;
                let (stand, diverged) = stand(job);
                combination.diverged.extend(diverged);
                if let Stand::Under(epochs) = stand {
                    let all = job.config.epochs;
                    self.ui.warn(&format!("{job}: {epochs} of {all} epochs; left out"));
                    combination.missing.push(seed);
                    continue;
                }
                complete += 1;
                if let Some(results) = self.evaluate(job)? {
                    combination.seeds.push(seed);
                    found.push((seed, results));
                }
            }
            if let Some(results) = self.over_seeds(&run, &mut found)? {
                percent = percent.or(results.headline_percent());
                combination = combination.with(&results)?;
            }
            combinations.push(combination);
        }
        if complete == 0 {
            return Err(Error::invalid(format!(
                "{}: none of its {} trainings is complete",
                self.folder.display(),
                jobs.len()
            )));
        }
        let sweep = self.summary(combinations, percent)?;
        sweep.write(&self.folder)?;
        let page = folders::sweep(&self.folder).with_extension("html");
        print(&sweep.markdown())?;
        self.ui.progress(&format!("the page: {}", page.display()));
        Ok(())
    }

    /// The results of one run: of its only seed, or means over those that are complete, which then
    /// are the run's own.
    fn over_seeds(&self, run: &Path, found: &mut [(u64, Results)]) -> Result<Option<Results>> {
        for class in keep_common(found)? {
            self.ui.warn(&format!(
                "{}: class {class} has no model under some seed; it is left out of the means",
                run.display()
            ));
        }
        let [(_, first), rest @ ..] = found else { return Ok(None) };
        if rest.is_empty() {
            return Ok(Some(first.clone()));
        }
        let pairs: Vec<(u64, &Results)> =
            found.iter().map(|(seed, results)| (*seed, results)).collect();
        let results = Results::over_seeds(&pairs)?;
        let _lock = share::open(run, "gradcon sweep")?;
        results.write(run)?;
        tables::write(&results, run)?;
        Ok(Some(results))
    }

    fn summary(&self, combinations: Vec<Combination>, percent: Option<f64>) -> Result<Sweep> {
        let Plan { alpha, lr, seeds, .. } = &self.plan;
        let mut settings = self.plan.settings().fixed()?;
        settings.remove("seed");
        let mut varies = vec![];
        for (name, values) in [("alpha", alpha), ("lr", lr)] {
            if values.len() > 1 {
                settings.remove(name);
                varies.push(name.to_string());
            }
        }
        let config = self.plan.settings();
        settings.insert("epochs".into(), config.epochs.to_string());
        settings.insert("beta".into(), config.beta.to_string());
        settings.insert("score".into(), config.score.clone());
        settings.insert("inliers".into(), config.inliers.join(", "));
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        settings.insert("seeds".into(), seeds.join(", "));
        settings.remove("data_sha256");
        Ok(Sweep {
            schema_version: SCHEMA_VERSION,
            gradcon_version: env!("CARGO_PKG_VERSION").into(),
            date: now(),
            dataset: self.prepared.manifest().name().into(),
            data_sha256: config.data_sha256.clone(),
            outlier_percent: percent,
            settings,
            varies,
            combinations,
        })
    }
}
