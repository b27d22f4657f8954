//! Where things lie in the folder of a run: what trainer and evaluator write and report, score and
//! users read.
//!
//! ```text
//! RUN/config.toml             resolved configuration
//! RUN/models/CLASS/           the training of a class:
//!   metrics.csv               its history, and TensorBoard's events.out.tfevents.*
//!   best/                     model.safetensors, README.md (model card)
//!   checkpoint.json           which checkpoint counts                  (run/checkpoint.rs)
//!   last/                     the newest checkpoint
//!   previous/                 the one before it
//!   time.json                 how long it took
//!   .lock                     held by the process that trains or evaluates the class
//! RUN/results.json .csv .md   what the evaluation found
//! RUN/eval/CLASS/             scores.csv of every test image, extremes.json with its pictures
//! RUN/report.html             the page
//! RUN/.lock                   held for a moment by who writes config.toml, and by an evaluation
//!
//! RUN/eval-NAME/              results.* and CLASS/ of an evaluation on other data than the run's
//!
//! RUN/plain/                  a run of the same settings without the constraint, which an evaluation
//!                             with baselines trains (run/baselines.rs)
//!
//! RUN/seed-S/                 one run of several that differ in their seed: RUN/config.toml lists
//!                             them, and RUN/results.json is of all of them
//! ```
//!
//! CLASS is [`folder_name`] of the class. And where the user's cache is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::files::parent;

/// Parameters, references and description of a model.
pub const MODEL: &str = "model.safetensors";

/// The history of a training.
pub const METRICS: &str = "metrics.csv";

/// How long a training took.
pub const TIME: &str = "time.json";

/// Every test image with its score, at the headline outlier percentage.
pub const SCORES: &str = "scores.csv";

/// The index of the most normal and most anomalous images.
pub const EXTREMES: &str = "extremes.json";

/// What the folder of an evaluation on other data is called, before the data's name.
const OTHER: &str = "eval-";

/// A class name as the name of a folder: what is not a letter, digit, `.`, `_` or `-` becomes `-`
/// (`T-shirt/top` is `T-shirt-top`), and so does a leading dot.
pub fn folder_name(class: &str) -> String {
    let keep = |(i, c): (usize, char)| {
        if c.is_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && i > 0) { c } else { '-' }
    };
    class.chars().enumerate().map(keep).collect()
}

/// The resolved configuration of a run, or of all seeds in a folder of several.
pub fn config(run: &Path) -> PathBuf {
    run.join("config.toml")
}

/// The plan of a sweep (run/sweep.rs).
pub fn sweep(folder: &Path) -> PathBuf {
    folder.join("sweep.toml")
}

/// What an ablation found; its other files have other endings.
pub fn ablation(folder: &Path) -> PathBuf {
    folder.join("ablation.json")
}

/// What a reproduction found; its other files have other endings.
pub fn reproduction(folder: &Path) -> PathBuf {
    folder.join("reproduction.json")
}

/// The results in a run, or in the folder of an evaluation on other data.
pub fn results(folder: &Path) -> PathBuf {
    folder.join("results.json")
}

/// The page of a run, where nobody names another place.
pub fn page(run: &Path) -> PathBuf {
    run.join("report.html")
}

/// The trainings of a run.
pub fn models(run: &Path) -> PathBuf {
    run.join("models")
}

/// The training of a class.
pub fn training(run: &Path, class: &str) -> PathBuf {
    models(run).join(folder_name(class))
}

/// The run that a training belongs to.
pub fn run_of(training: &Path) -> PathBuf {
    parent(parent(training)).into()
}

/// The best epoch of a training, ready to score.
pub fn best(training: &Path) -> PathBuf {
    training.join("best")
}

/// The model file of a training's best epoch.
pub fn best_model(training: &Path) -> PathBuf {
    best(training).join(MODEL)
}

/// The newest checkpoint of a training.
pub fn last(training: &Path) -> PathBuf {
    training.join("last")
}

/// The checkpoint before the newest.
pub fn previous(training: &Path) -> PathBuf {
    training.join("previous")
}

/// The run of the autoencoders without the constraint that a run's models are held against.
pub fn plain(run: &Path) -> PathBuf {
    run.join("plain")
}

/// The run of one seed among several.
pub fn seed(run: &Path, seed: u64) -> PathBuf {
    run.join(format!("seed-{seed}"))
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

/// The run that a folder belongs to, and the name of the other data that it is an evaluation on, if
/// it is one. `full` is the folder's canonical path.
pub fn home(folder: &Path, full: &Path) -> (PathBuf, Option<String>) {
    let named =
        full.file_name().and_then(|name| Some(name.to_str()?.strip_prefix(OTHER)?.to_string()));
    let run = full.parent().filter(|parent| config(parent).exists());
    match (named, run) {
        // A run of its own may have such a name too.
        (Some(name), Some(run)) if !config(folder).exists() => (run.into(), Some(name)),
        _ => (folder.into(), None),
    }
}

/// This program's folder for what can be made again, by the environment.
pub(crate) fn cache(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let all = match cfg!(windows) {
        true => absolute("LOCALAPPDATA"),
        false => absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))),
    };
    Some(all?.join("gradcon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_cache_is_the_users() {
        let of = |set: &'static [(&str, &str)]| {
            cache(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(of(&[("HOME", "/home/a")]), Some("/home/a/.cache/gradcon".into()));
        let both = of(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/fast")]);
        assert_eq!(both, Some("/fast/gradcon".into()));
        // What is relative counts as not set, says the standard.
        let relative = of(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "cache")]);
        assert_eq!(relative, Some("/home/a/.cache/gradcon".into()));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn folder_names_stay_inside_the_run() {
        assert_eq!(folder_name("T-shirt/top"), "T-shirt-top");
        assert_eq!(folder_name("../a b\\c"), "-.-a-b-c");
        assert_eq!(folder_name("v1.2_x"), "v1.2_x");
    }

    #[test]
    fn evaluations_on_other_data_lie_beside_the_runs_own() {
        let run = Path::new("runs/a");
        let (own, other) = (EvalPlace::own(run), EvalPlace::other(run, "b/../c"));
        assert_eq!((own.results.as_path(), own.class("x/y")), (run, run.join("eval/x-y")));
        assert_eq!(
            (other.results.clone(), other.class("x")),
            (run.join("eval-b-..-c"), run.join("eval-b-..-c/x"))
        );
    }
}
