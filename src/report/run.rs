//! A run folder as the report reads it; where its files lie says [`crate::folders`].
//!
//! Only `results.json` must be there; what else is missing the page says.

use std::path::{Path, PathBuf};

use super::epochs::{Epochs, read_epochs};
use super::extremes::{Extremes, read_extremes};
use super::results::Results;
use super::scores::{Scores, read_scores};
use crate::error::{Error, Result};
use crate::folders::{self, EvalPlace};
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
    pub epochs: Option<Epochs>,
    /// Every test image at the headline outlier percentage.
    pub scores: Option<Scores>,
    /// The folder of the extremes' tiles, and their index.
    pub extremes: Option<(PathBuf, Extremes)>,
}

impl Run {
    /// Reads the folder of a run, of a run of several seeds, or of an evaluation on other data
    /// inside of either.
    ///
    /// # Errors
    /// No readable `results.json`; another file that is there but makes no sense.
    pub fn read(folder: &Path) -> Result<Run> {
        let path = folders::results(folder);
        if !path.exists() {
            let what =
                "no results.json: expected the folder of an evaluated run (see `gradcon eval`)";
            return Err(Error::invalid(format!("{}: {what}", folder.display())));
        }
        let results = Results::read(&path)?;
        let full = folder.canonicalize().map_err(Error::io(folder))?;
        let (home, other) = folders::home(folder, &full);
        let seeds = results.over_seeds.as_ref().map(|over| over.seeds.clone());
        let mut run = Run {
            name: name(&full, other.is_some()),
            results,
            config: None,
            trainings: vec![],
            missing: vec![],
        };
        if let Some(path) = run.look(&home, folders::config(&home)) {
            run.config = Some(limits::read_text(&path, limits::CONFIG, "a configuration")?);
        }
        match seeds {
            None => run.add(&home, &home, None, other.as_deref())?,
            Some(seeds) => {
                for seed in seeds {
                    run.add(&home, &folders::seed(&home, seed), Some(seed), other.as_deref())?;
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
        let mut classes = Vec::new();
        let names: Vec<String> =
            self.results.classes.iter().map(|class| class.class.clone()).collect();
        let tested = !self.results.is_untested();
        for class in &names {
            let training = folders::training(folder, class);
            let eval = place.class(class);
            let epochs = self.look(home, training.join(folders::METRICS));
            let scores = tested.then(|| self.look(home, eval.join(folders::SCORES))).flatten();
            // Pictures of several seeds are for each seed's own page.
            let extremes = (tested && seed.is_none())
                .then(|| self.look(home, eval.join(folders::EXTREMES)))
                .flatten();
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

/// What a page calls the run in the folder `full`.
fn name(full: &Path, other: bool) -> String {
    let parts: Vec<_> = full.components().rev().take(if other { 2 } else { 1 }).collect();
    let names: Vec<_> =
        parts.iter().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    names.join("/")
}
