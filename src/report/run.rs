//! A run folder as the report reads it, and as trainer and evaluator write it.
//!
//! ```text
//! RUN/config.toml                        resolved configuration, shown as it is
//! RUN/metrics.csv                        training of a run with one class           (epochs.rs)
//! RUN/models/CLASS/metrics.csv           training of each class of a larger run
//! RUN/results.json  .csv  .md            what the evaluation found                  (results.rs, tables.rs)
//! RUN/eval/CLASS/scores.csv              every test image at the headline outlier percentage (scores.rs)
//! RUN/eval/CLASS/extremes.json  *.png    most normal and most anomalous images      (extremes.rs)
//!
//! RUN/eval-NAME/results.json  .csv  .md  the same of an evaluation on other data than the run's own
//! RUN/eval-NAME/CLASS/scores.csv  ...
//!
//! RUN/seed-S/                            one run of several that differ in their seed; RUN/results.json is then of all of them
//! RUN/seed-S/eval-NAME/  RUN/eval-NAME/  their evaluations on other data
//! ```
//!
//! CLASS is [`folder_name`] of the class. Only `results.json` must be there; what else is missing
//! the page says.

use std::path::{Path, PathBuf};

use super::epochs::{EpochRow, read_epochs};
use super::extremes::{Extremes, read_extremes};
use super::results::Results;
use super::scores::{ScoreRow, read_scores};
pub use crate::data::classes::folder_name;
use crate::error::{Error, Result};
use crate::limits;

/// A run folder, read.
pub struct Run {
    /// The folder's name; of an evaluation on other data, `RUN/eval-NAME`.
    pub name: String,
    /// What the evaluation found.
    pub results: Results,
    /// The text of `config.toml`.
    pub config: Option<String>,
    /// What the run holds; of several seeds, what each one's folder holds, in the order of the
    /// results.
    pub trainings: Vec<Training>,
    /// Files that were looked for and are not there, relative to the run.
    pub missing: Vec<String>,
}

/// One training, as far as its files are there.
pub struct Training {
    /// Its folder, for commands.
    pub folder: PathBuf,
    /// Its seed, where several are reported.
    pub seed: Option<u64>,
    /// One entry per class of the results, in their order.
    pub classes: Vec<ClassRun>,
}

/// What a run folder holds of one class.
pub struct ClassRun {
    /// Training history.
    pub epochs: Option<Vec<EpochRow>>,
    /// Every test image at the headline outlier percentage.
    pub scores: Option<Vec<ScoreRow>>,
    /// The folder of the extremes' tiles, and their index.
    pub extremes: Option<(PathBuf, Extremes)>,
}

/// The folder of a class's training inside a run of several classes.
pub fn model_folder(run: &Path, class: &str) -> PathBuf {
    run.join("models").join(folder_name(class))
}

/// Where an evaluation of a run puts its files: that of the run's own data in the run, that of
/// other data beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalPlace {
    /// Holds `results.json`, `results.csv` and `results.md`.
    pub results: PathBuf,
    classes: PathBuf,
}

impl EvalPlace {
    /// The evaluation on the data that the run was trained on.
    pub fn own(run: &Path) -> EvalPlace {
        EvalPlace { results: run.into(), classes: run.join("eval") }
    }

    /// The evaluation on other data, called `name`.
    pub fn other(run: &Path, name: &str) -> EvalPlace {
        let folder = run.join(format!("{OTHER}{}", folder_name(name)));
        EvalPlace { results: folder.clone(), classes: folder }
    }

    /// Holds a class's scores and pictures.
    pub fn class(&self, class: &str) -> PathBuf {
        self.classes.join(folder_name(class))
    }
}

/// What the folder of an evaluation on other data is called, before the data's name.
const OTHER: &str = "eval-";

/// The folder of a class's evaluation on the run's own data.
pub fn eval_folder(run: &Path, class: &str) -> PathBuf {
    EvalPlace::own(run).class(class)
}

/// The folder of one seed's training among several.
pub fn seed_folder(run: &Path, seed: u64) -> PathBuf {
    run.join(format!("seed-{seed}"))
}

impl Run {
    /// Reads the folder of a run, of a run of several seeds, or of an evaluation on other data
    /// inside of either.
    ///
    /// # Errors
    /// No readable `results.json`; another file that is there but makes no sense.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folder.join("results.json");
        if !path.exists() {
            let what =
                "no results.json: expected the folder of an evaluated run (see `gradcon eval`)";
            return Err(Error::invalid(format!("{}: {what}", folder.display())));
        }
        let results = Results::read(&path)?;
        let full = folder.canonicalize().map_err(Error::io(folder))?;
        let (home, other) = home(folder, &full);
        let seeds = results.over_seeds.as_ref().map(|over| over.seeds.clone());
        let mut run = Run {
            name: name(&full, other.is_some()),
            results,
            config: None,
            trainings: vec![],
            missing: vec![],
        };
        if let Some(path) = run.look(&home, home.join("config.toml")) {
            run.config = Some(limits::read_text(&path, limits::CONFIG, "a configuration")?);
        }
        match seeds {
            None => run.add(&home, &home, None, other.as_deref())?,
            Some(seeds) => {
                for seed in seeds {
                    run.add(&home, &seed_folder(&home, seed), Some(seed), other.as_deref())?;
                }
            }
        }
        Ok(run)
    }

    /// The path if it is there; otherwise it is missing.
    fn look(&mut self, home: &Path, path: PathBuf) -> Option<PathBuf> {
        let there = path.exists();
        if !there {
            self.missing.push(path.strip_prefix(home).unwrap_or(&path).display().to_string());
        }
        there.then_some(path)
    }

    /// Adds the training in `folder`, which is `home` or lies in it.
    fn add(
        &mut self,
        home: &Path,
        folder: &Path,
        seed: Option<u64>,
        other: Option<&str>,
    ) -> Result<()> {
        let place = other.map_or(EvalPlace::own(folder), |name| EvalPlace::other(folder, name));
        let single = self.results.classes.len() == 1 && folder.join("metrics.csv").exists();
        let mut classes = Vec::new();
        let names: Vec<String> =
            self.results.classes.iter().map(|class| class.class.clone()).collect();
        for class in &names {
            let training = if single { folder.to_path_buf() } else { model_folder(folder, class) };
            let eval = place.class(class);
            let epochs = self.look(home, training.join("metrics.csv"));
            let scores = self.look(home, eval.join("scores.csv"));
            // Pictures of several seeds are for each seed's own page.
            let extremes =
                seed.is_none().then(|| self.look(home, eval.join("extremes.json"))).flatten();
            classes.push(ClassRun {
                epochs: epochs.map(|path| read_epochs(&path)).transpose()?,
                scores: scores.map(|path| read_scores(&path)).transpose()?,
                extremes: extremes
                    .map(|path| Ok::<_, Error>((eval, read_extremes(&path)?)))
                    .transpose()?,
            });
        }
        self.trainings.push(Training { folder: folder.to_path_buf(), seed, classes });
        Ok(())
    }
}

/// The run that a folder belongs to, and the name of the other data that it is an evaluation on, if
/// it is one.
fn home(folder: &Path, full: &Path) -> (PathBuf, Option<String>) {
    let named =
        full.file_name().and_then(|name| Some(name.to_str()?.strip_prefix(OTHER)?.to_owned()));
    let run = full.parent().filter(|parent| parent.join("config.toml").exists());
    match (named, run) {
        // A run of its own may have such a name too.
        (Some(name), Some(run)) if !folder.join("config.toml").exists() => (run.into(), Some(name)),
        _ => (folder.into(), None),
    }
}

/// What a page calls the run in the folder `full`.
fn name(full: &Path, other: bool) -> String {
    let parts: Vec<_> = full.components().rev().take(if other { 2 } else { 1 }).collect();
    let names: Vec<_> =
        parts.iter().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    names.join("/")
}
