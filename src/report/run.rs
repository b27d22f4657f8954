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
//! ```
//!
//! CLASS is [`folder_name`] of the class. Only `results.json` must be there; what else is missing the page says.

use std::path::{Path, PathBuf};

use super::epochs::{EpochRow, read_epochs};
use super::extremes::{Extremes, read_extremes};
use super::results::Results;
use super::scores::{ScoreRow, read_scores};
use crate::error::{Error, Result};
use crate::limits;

/// A run folder, read.
pub struct Run {
    /// The folder's name.
    pub name: String,
    /// What the evaluation found.
    pub results: Results,
    /// The text of `config.toml`.
    pub config: Option<String>,
    /// One entry per class of the results, in their order.
    pub classes: Vec<ClassRun>,
    /// Files that were looked for and are not there, relative to the folder.
    pub missing: Vec<String>,
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

/// A class name as the name of a folder: what is not a letter, digit, `.`, `_` or `-` becomes `-` (`T-shirt/top` is
/// `T-shirt-top`), and so does a leading dot.
pub fn folder_name(class: &str) -> String {
    let keep = |(i, c): (usize, char)| {
        if c.is_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && i > 0) { c } else { '-' }
    };
    class.chars().enumerate().map(keep).collect()
}

/// The folder of a class's training inside a run of several classes.
pub fn model_folder(run: &Path, class: &str) -> PathBuf {
    run.join("models").join(folder_name(class))
}

/// Where an evaluation of a run puts its files: that of the run's own data in the run, that of other data beside it.
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

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// No readable `results.json`; another file that is there but makes no sense.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folder.join("results.json");
        if !path.exists() {
            let what = "no results.json: expected the folder of an evaluated run (see `gradcon eval`)";
            return Err(Error::invalid(format!("{}: {what}", folder.display())));
        }
        let results = Results::read(&path)?;
        let mut missing = Vec::new();
        let mut look = |path: PathBuf| {
            let there = path.exists();
            if !there {
                missing.push(path.strip_prefix(folder).unwrap_or(&path).display().to_string());
            }
            there.then_some(path)
        };
        let config = look(folder.join("config.toml"))
            .map(|path| limits::read_text(&path, limits::CONFIG, "a configuration"))
            .transpose()?;
        let single = results.classes.len() == 1 && folder.join("metrics.csv").exists();
        let mut classes = Vec::new();
        for class in &results.classes {
            let training = if single { folder.to_path_buf() } else { model_folder(folder, &class.class) };
            let eval = eval_folder(folder, &class.class);
            classes.push(ClassRun {
                epochs: look(training.join("metrics.csv")).map(|path| read_epochs(&path)).transpose()?,
                scores: look(eval.join("scores.csv")).map(|path| read_scores(&path)).transpose()?,
                extremes: match look(eval.join("extremes.json")) {
                    Some(path) => Some((eval, read_extremes(&path)?)),
                    None => None,
                },
            });
        }
        let full = folder.canonicalize().map_err(Error::io(folder))?;
        let name = full.file_name().map_or_else(|| full.display().to_string(), |n| n.to_string_lossy().into_owned());
        Ok(Run { name, results, config, classes, missing })
    }
}
