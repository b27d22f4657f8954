//! Which model file is meant: a file, a folder with one, or a run and one of its classes.

use std::path::{Path, PathBuf};

use crate::data::{Manifest, classes};
use crate::error::{Error, Result};
use crate::files::parent;
use crate::folders;
use crate::method::detector::Detector;
use crate::run::config::RunConfig;

/// The file that `path` and `class` mean. A path is a model file, a folder that holds one
/// (`RUN/best`), a class's folder (`RUN/models/CLASS`) or a run.
///
/// # Errors
/// There is no model; a run of several classes or seeds, and nothing says which one, or what is
/// said names none.
pub fn find(path: &Path, class: Option<&str>) -> Result<PathBuf> {
    if !path.is_dir() {
        return match class {
            Some(class) => Err(Error::Usage(format!(
                "--class {class}: {} is one model, not a run",
                path.display()
            ))),
            None => Ok(path.into()),
        };
    }
    let models =
        Some(folders::models(path)).filter(|models| models.is_dir()).unwrap_or(path.into());
    let single = [path.join(folders::MODEL), folders::best_model(path)]
        .into_iter()
        .find(|file| file.is_file());
    let found = match single {
        Some(file) => vec![Candidate::new(file, path)],
        None => several(&models)?,
    };
    match (class, found.as_slice()) {
        (_, []) => Err(no_model(path)),
        (None, [one]) => Ok(one.file.clone()),
        (None, _) => Err(Error::Usage(format!(
            "{}: the models of {} classes; choose one with --class: {}",
            path.display(),
            found.len(),
            list(&found)
        ))),
        (Some(class), _) => {
            let names: Vec<&str> = found.iter().map(|found| found.class.as_str()).collect();
            let run = if models == path && folders::models(parent(path)) == path {
                parent(path)
            } else {
                path
            };
            Ok(found[choose(run, &names, class)?].file.clone())
        }
    }
}

/// A model of a run.
struct Candidate {
    class: String,
    file: PathBuf,
}

impl Candidate {
    /// The class is what the model says; the name of the folder where it can't be asked.
    fn new(file: PathBuf, folder: &Path) -> Candidate {
        let class = Detector::load(&file)
            .ok()
            .and_then(|detector| detector.description.get("inlier").cloned());
        let folder = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Candidate { class: class.unwrap_or_else(folder), file }
    }
}

/// `CLASS/best/model.safetensors` of each class that has one.
fn several(models: &Path) -> Result<Vec<Candidate>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(models).map_err(Error::io(models))? {
        let folder = entry.map_err(Error::io(models))?.path();
        let file = folders::best_model(&folder);
        if file.is_file() && !folders::config(&folder).exists() {
            found.push(Candidate::new(file, &folder));
        }
    }
    found.sort_by(|a, b| a.class.cmp(&b.class));
    Ok(found)
}

/// The position of the class that `text` means among those of a run.
fn choose(run: &Path, names: &[&str], text: &str) -> Result<usize> {
    let one = |names: &[&str]| match classes::find(names, &[text])?.as_slice() {
        [one] => Ok(*one),
        _ => Err(Error::Usage(format!(
            "--class {text}: more than one class, and a score comes from one model"
        ))),
    };
    let is_name = names.iter().any(|name| name.eq_ignore_ascii_case(text));
    if is_name || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return one(names);
    }
    // Numbers are the dataset's; the run may have a few of its classes only.
    let manifest = dataset_of(run).map_err(|e| {
        Error::Usage(format!("--class {text}: numbers are those of the dataset; give a name: {e}"))
    })?;
    let all: Vec<&str> = manifest.inliers.iter().map(|inlier| inlier.name.as_str()).collect();
    let class = all[one(&all)?];
    names.iter().position(|name| *name == class).ok_or_else(|| {
        Error::Usage(format!(
            "--class {text}: {} has no model of {class}, only of {}",
            run.display(),
            names.join(", ")
        ))
    })
}

/// What the run was trained on, if it still lies there.
fn dataset_of(run: &Path) -> Result<Manifest> {
    let config = RunConfig::read(run)?;
    let manifest = Manifest::read(&config.data)?;
    if manifest.sha256() == config.data_sha256 {
        return Ok(manifest);
    }
    Err(Error::invalid(format!(
        "{}: not the data that the run was made with",
        config.data.display()
    )))
}

fn list(found: &[Candidate]) -> String {
    found.iter().map(|found| found.class.as_str()).collect::<Vec<_>>().join(", ")
}

fn no_model(path: &Path) -> Error {
    let runs = RunConfig::read(path).map(|config| config.runs(path)).unwrap_or_default();
    let runs: Vec<String> = runs
        .iter()
        .filter(|(run, _)| run != path)
        .map(|(run, _)| run.display().to_string())
        .collect();
    if runs.is_empty() {
        let what = "no model in it: expected a model file, or the folder of a run that has \
                    trained an epoch";
        return Error::invalid(format!("{}: {what}", path.display()));
    }
    Error::Usage(format!(
        "{}: the runs of {} seeds; name one of them: {}",
        path.display(),
        runs.len(),
        runs.join(", ")
    ))
}
