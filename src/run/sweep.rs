//! A sweep as a folder: all combinations of some settings, each a run of its own, and each seed of
//! a run a job that can be done by itself.
//!
//! ```text
//! SWEEP/sweep.toml                  what is swept, and the settings of every run
//! SWEEP/jobs.csv                    the jobs, for people and schedulers
//! SWEEP/alpha-A_lr-L/               a run (see crate::folders): of one seed, or of several
//! SWEEP/sweep.json .csv .md .html   what was found
//! ```

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::config::RunConfig;
use super::train::Unit;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::folders;
use crate::limits::{self, shown};
use crate::report::sweep::written;
use crate::report::table::{Number, to_csv};

/// Most jobs of a sweep.
const MOST_JOBS: usize = 10_000;

/// What is swept over which settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Settings of every run; alpha, learning rate and seed are the first of the lists.
    settings: RunConfig,
    /// Weights of the gradient constraint.
    pub alpha: Vec<f64>,
    /// Learning rates.
    pub lr: Vec<f64>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

/// One training of a sweep: all classes under one seed.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number in the sweep, from 0.
    pub index: usize,
    /// The run's folder.
    pub run: PathBuf,
    /// The folder of this seed: the run's, or one in it.
    pub folder: PathBuf,
    /// Its settings.
    pub config: RunConfig,
}

impl Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RunConfig { alpha, lr, seed, .. } = self.config;
        let [alpha, lr] = [alpha, lr].map(written);
        write!(f, "job {}: alpha {alpha}, lr {lr}, seed {seed}", self.index)
    }
}

impl Job {
    /// Its models, by class and settings.
    pub fn units(&self) -> Vec<Unit> {
        let RunConfig { alpha, lr, seed, .. } = self.config;
        let [alpha, lr] = [alpha, lr].map(written);
        let mut units = Unit::all(&self.folder, &self.config);
        for unit in &mut units {
            unit.name = format!("{} (alpha {alpha}, lr {lr}, seed {seed})", unit.class);
        }
        units
    }
}

impl Plan {
    /// All combinations of these values, each with the other settings, which are bound to a
    /// dataset.
    ///
    /// # Errors
    /// A value that comes twice or makes no sense; too many combinations.
    pub fn new(
        settings: RunConfig,
        alpha: Vec<f64>,
        lr: Vec<f64>,
        seeds: Vec<u64>,
    ) -> Result<Plan> {
        if let Some(seed) = seeds.iter().find(|&&seed| i64::try_from(seed).is_err()) {
            return Err(Error::Usage(format!("seed {seed}: expected at most {}", i64::MAX)));
        }
        // First the number: what follows compares every value with every other.
        let jobs = alpha.len().max(1).saturating_mul(lr.len().max(1));
        let jobs = jobs.saturating_mul(seeds.len().max(1));
        if jobs > MOST_JOBS {
            return Err(Error::Usage(format!("{jobs} jobs, expected at most {MOST_JOBS}")));
        }
        once("alpha", &alpha)?;
        once("lr", &lr)?;
        once("seeds", &seeds)?;
        let settings =
            RunConfig { alpha: alpha[0], lr: lr[0], seed: seeds[0], seeds: None, ..settings };
        let plan = Plan { settings, alpha, lr, seeds };
        plan.runs(Path::new("")).iter().try_for_each(|(_, config)| config.check())?;
        Ok(plan)
    }

    /// Settings that all runs have.
    pub fn settings(&self) -> &RunConfig {
        &self.settings
    }

    /// The same with its data in another place.
    pub fn with_data(mut self, data: PathBuf) -> Plan {
        self.settings.data = data;
        self
    }

    /// Every combination with its run's folder.
    pub fn runs(&self, sweep: &Path) -> Vec<(PathBuf, RunConfig)> {
        let mut runs = vec![];
        for &alpha in &self.alpha {
            for &lr in &self.lr {
                let seeds = (self.seeds.len() > 1).then(|| self.seeds.clone());
                let seed = if seeds.is_some() { RunConfig::default().seed } else { self.seeds[0] };
                let config = RunConfig { alpha, lr, seed, seeds, ..self.settings.clone() };
                let name = format!("alpha-{}_lr-{}", written(alpha), written(lr));
                runs.push((sweep.join(name), config));
            }
        }
        runs
    }

    /// Every job, by number.
    pub fn jobs(&self, sweep: &Path) -> Vec<Job> {
        let mut jobs = vec![];
        for (run, config) in self.runs(sweep) {
            for (folder, config) in config.runs(&run) {
                jobs.push(Job { index: jobs.len(), run: run.clone(), folder, config });
            }
        }
        jobs
    }

    fn table(&self) -> Result<Table> {
        let floats = |values: &[f64]| values.iter().map(|&v| Value::Float(v)).collect();
        let mut table = Table::try_from(&self.settings)
            .map_err(|e| Error::invalid(format!("sweep.toml: {e}")))?;
        table.remove("seed");
        table.insert("alpha".into(), Value::Array(floats(&self.alpha)));
        table.insert("lr".into(), Value::Array(floats(&self.lr)));
        // `new` has seen to it that they fit.
        let seeds = self.seeds.iter().map(|&seed| Value::Integer(seed as i64)).collect();
        table.insert("seeds".into(), Value::Array(seeds));
        Ok(table)
    }

    /// Writes `sweep.toml` and `jobs.csv` into a sweep's folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, sweep: &Path) -> Result<()> {
        #[derive(Serialize)]
        struct Line {
            job: usize,
            alpha: Number,
            lr: Number,
            seed: u64,
            folder: String,
        }
        let line = |Job { index, folder, config, .. }: Job| Line {
            job: index,
            alpha: Number(config.alpha),
            lr: Number(config.lr),
            seed: config.seed,
            folder: folder.strip_prefix(sweep).unwrap_or(&folder).display().to_string(),
        };
        let jobs = to_csv(None, self.jobs(sweep).into_iter().map(line))?;
        write_atomically(&sweep.join("jobs.csv"), &jobs)?;
        let text = toml::to_string(&self.table()?)
            .map_err(|e| Error::invalid(format!("sweep.toml: {e}")))?;
        write_atomically(&folders::sweep(sweep), text.as_bytes())
    }

    /// Reads the plan of a sweep's folder.
    ///
    /// # Errors
    /// There is none, or it makes no sense; the message names the file.
    pub fn read(sweep: &Path) -> Result<Plan> {
        let path = folders::sweep(sweep);
        if !path.exists() {
            return Err(Error::invalid(format!(
                "{}: no sweep: it has no sweep.toml",
                sweep.display()
            )));
        }
        Plan::parse(&limits::read_text(&path, limits::CONFIG, "a sweep")?, &path)
    }

    /// [`Plan::read`] from text. `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Plan> {
        let problem = |e: &dyn Display| {
            Error::invalid(format!("{}: {}", path.display(), shown(e).trim_end()))
        };
        let mut table: Table = toml::from_str(text).map_err(|e| problem(&e))?;
        let mut list = |name: &str| match table.remove(name) {
            Some(Value::Array(values)) if !values.is_empty() => Ok(values),
            found => {
                let found = found.map_or("nothing".into(), |value| value.to_string());
                Err(problem(&format!("{name} is {}, expected a list", shown(found))))
            }
        };
        let (alpha, lr, seeds) = (list("alpha")?, list("lr")?, list("seeds")?);
        let number = |value: &Value| match value {
            Value::Float(v) => Ok(*v),
            Value::Integer(v) => Ok(*v as f64),
            other => Err(problem(&format!("{}: expected a number", shown(other)))),
        };
        let floats = |values: &[Value]| values.iter().map(number).collect::<Result<Vec<f64>>>();
        let seed = |value: &Value| {
            let seed = value.as_integer().and_then(|seed| u64::try_from(seed).ok());
            seed.ok_or_else(|| problem(&format!("{}: expected a seed", shown(value))))
        };
        let (alpha, lr) = (floats(&alpha)?, floats(&lr)?);
        let seeds = seeds.iter().map(seed).collect::<Result<Vec<u64>>>()?;
        table.insert("alpha".into(), Value::Float(alpha[0]));
        table.insert("lr".into(), Value::Float(lr[0]));
        table.insert("seed".into(), Value::Integer(seeds[0] as i64));
        let text = toml::to_string(&table).map_err(|e| problem(&e))?;
        let settings = RunConfig::parse(&text, path)?;
        Plan::new(settings, alpha, lr, seeds).map_err(|e| problem(&e))
    }

    /// Whether this is the plan of a sweep that is there.
    ///
    /// # Errors
    /// The first setting that differs, with both values.
    pub fn check_same(&self, there: &Plan) -> Result<()> {
        let (mut wanted, mut there) = (self.table()?, there.table()?);
        // Its hash has to agree, not its place.
        for table in [&mut wanted, &mut there] {
            table.remove("data");
        }
        let text = |table: &Table, name: &str| {
            table.get(name).map_or("unsaid".into(), |value| value.to_string())
        };
        for name in wanted.keys().chain(there.keys()) {
            let (wanted, there) = (text(&wanted, name), text(&there, name));
            if wanted != there {
                return Err(Error::Usage(format!(
                    "{name} is {}, but the sweep's is {}: choose another folder, or continue it \
                     with --resume",
                    shown(wanted),
                    shown(there)
                )));
            }
        }
        Ok(())
    }
}

fn once<T: PartialEq + Display>(name: &str, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Err(Error::Usage(format!("{name}: an empty list")));
    }
    match (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
        Some(i) => Err(Error::Usage(format!("{name} {} is given twice", values[i]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let settings =
            RunConfig { data: "/d".into(), inliers: vec!["a".into()], ..Default::default() };
        Plan::new(settings, vec![0.0, 0.03], vec![1e-3], vec![4, 2]).unwrap()
    }

    #[test]
    fn a_plan_comes_back_whole_and_numbers_its_jobs() {
        let (plan, path) = (plan(), Path::new("sweep.toml"));
        let text = toml::to_string(&plan.table().unwrap()).unwrap();
        assert_eq!(Plan::parse(&text, path).unwrap(), plan);
        let jobs = plan.jobs(Path::new("s"));
        let of = |job: &Job| (job.index, job.folder.display().to_string(), job.config.alpha);
        assert_eq!(of(&jobs[1]), (1, "s/alpha-0_lr-0.001/seed-2".into(), 0.0));
        assert_eq!(of(&jobs[2]), (2, "s/alpha-0.03_lr-0.001/seed-4".into(), 0.03));
        assert_eq!(jobs.len(), 4);
        let one = Plan { seeds: vec![7], ..plan.clone() }.jobs(Path::new("s"));
        assert_eq!((one[1].folder.clone(), one[1].config.seed), (one[1].run.clone(), 7));
        for (from, to) in [
            ("alpha = [0.0, 0.03]", "alpha = 0.03"),
            ("lr = [0.001]", "lr = []"),
            ("lr = [0.001]", "lr = [\"x\"]"),
            ("seeds = [4, 2]", "seeds = [-1]"),
            ("seeds = [4, 2]", "seeds = [4, 4]"),
            ("epochs = ", "epoch = "),
        ] {
            assert!(text.contains(from), "{from} in\n{text}");
            let error = Plan::parse(&text.replace(from, to), path).unwrap_err().to_string();
            assert!(error.starts_with("sweep.toml: "), "{error}");
        }
    }

    #[test]
    fn another_plan_is_told_by_name() {
        let other = Plan { lr: vec![1e-3, 0.5], ..plan() };
        let error = other.check_same(&plan()).unwrap_err().to_string();
        assert!(error.contains("lr is [0.001, 0.5], but the sweep's is [0.001]"), "{error}");
        let settings = RunConfig { epochs: 3, ..plan().settings };
        let error = Plan { settings, ..plan() }.check_same(&plan()).unwrap_err().to_string();
        assert!(error.contains("epochs is 3"), "{error}");
        assert!(plan().with_data("/elsewhere".into()).check_same(&plan()).is_ok());
        for (alpha, what) in [(vec![0.1, 0.1], "twice"), (vec![-1.0], "-1"), (vec![], "empty")] {
            let error = Plan::new(plan().settings, alpha, vec![1e-3], vec![0]).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
