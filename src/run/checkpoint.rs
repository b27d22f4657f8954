//! Checkpoints that survive a kill at any moment, also of several models that must agree.
//!
//! ```text
//! RUN/checkpoint.json    which checkpoint counts: epoch, step, SHA-256 of each class's state.json
//! CLASS/last/            that checkpoint: model.safetensors, optimizer.safetensors,
//!                        best.safetensors, and state.json with the others' SHA-256
//! CLASS/previous/        the one before it
//! CLASS/checkpoint-E-S/  of epoch E, step S: being written, or not yet renamed to last/
//! ```
//!
//! A save writes every class's `checkpoint-E-S/` whole; then one rename of `checkpoint.json` makes
//! it the one that counts; then `last/` becomes `previous/` and `checkpoint-E-S/` becomes `last/`.
//! Whoever opens the folder after a kill completes these renames, or removes what never counted.
//! Every folder proves itself by its hashes, so that damage is an error that names the file, and an
//! older checkpoint can be offered.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::hash::sha256;
use crate::data::manifest::FileInfo;
use crate::error::{Error, Result};
use crate::files::{
    make_folder, parent, remove_folder, rename, sweep, sync_folder, write_atomically, write_new,
};
use crate::folders;
use crate::limits::{self, shown};
use crate::method::detector::{Detector, TensorFile, load_parameters, tensor_bytes};
use crate::method::model::{Model, Param};
use crate::method::objective::StepLog;
use crate::method::state::{Divergence, ReplicaState, Snapshot, State};

const MARK: &str = "checkpoint.json";
const STATE: &str = "state.json";
const FORMAT: u32 = 2;

/// Settings by their names, as text: what must not change while a run goes on.
pub type Settings = BTreeMap<String, String>;

/// `checkpoint.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    format: u32,
    epoch: usize,
    step: usize,
    /// SHA-256 of each class's `state.json`, by the class's folder in the run.
    states: BTreeMap<String, String>,
}

/// `state.json`: where one model's training stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelState {
    epoch: usize,
    step: usize,
    device: String,
    settings: Settings,
    best_epoch: Option<usize>,
    best_validation_loss: Option<f64>,
    diverged: Option<Divergence>,
    /// The other files of the folder.
    files: BTreeMap<String, FileInfo>,
    /// Rows of the log of the epoch under way, as wide as they always were in the file.
    log: Vec<f64>,
}

/// A checkpoint with what is known of its making.
#[derive(Debug)]
pub struct Checkpoint {
    /// What the training goes on from.
    pub state: State,
    /// The device it ran on.
    pub device: String,
    /// The settings it was made with.
    pub settings: Settings,
}

/// The checkpoints of one run, whose lock the caller holds.
#[derive(Debug)]
pub struct Checkpoints {
    run: PathBuf,
    /// One folder a class.
    folders: Vec<PathBuf>,
    model: Model,
}

impl Checkpoints {
    fn new(run: &Path, folders: &[PathBuf], model: &Model) -> Checkpoints {
        Checkpoints { run: run.into(), folders: folders.to_vec(), model: model.clone() }
    }

    /// Opens the checkpoints of a run, completes or removes what a kill left half done, and reads
    /// the one that counts; `None` where the run was ended before its first.
    ///
    /// # Errors
    /// A file is damaged, missing, or another checkpoint's; the message names it and offers the
    /// newest checkpoint that is whole, if there is one.
    pub fn open(
        run: &Path,
        folders: &[PathBuf],
        model: &Model,
    ) -> Result<(Checkpoints, Option<Checkpoint>)> {
        let checkpoints = Checkpoints::new(run, folders, model);
        let checkpoint = checkpoints.open_mark().map_err(|error| checkpoints.offer(error))?;
        Ok((checkpoints, checkpoint))
    }

    fn open_mark(&self) -> Result<Option<Checkpoint>> {
        let mark = self.read_mark()?;
        sweep(&self.run)?;
        for folder in &self.folders {
            if let Some(mark) = &mark {
                let next = next(folder, mark.epoch, mark.step);
                let written =
                    read_state(&next).is_ok_and(|bytes| self.is_marked(mark, folder, &bytes));
                if written {
                    promote(&next)?;
                }
            }
            for unmarked in unfinished(folder) {
                remove_folder(&unmarked)?;
            }
            sweep(folder)?;
            sweep(&folders::best(folder))?;
        }
        mark.map(|mark| self.load(&mark)).transpose()
    }

    /// Opens the newest checkpoint that is whole in every class, whatever `checkpoint.json` says.
    ///
    /// # Errors
    /// There is none.
    pub fn recover(
        run: &Path,
        folders: &[PathBuf],
        model: &Model,
    ) -> Result<(Checkpoints, Checkpoint)> {
        let checkpoints = Checkpoints::new(run, folders, model);
        let whole = checkpoints.newest_whole();
        let checkpoint = whole
            .ok_or_else(|| Error::invalid(format!("{}: no checkpoint is whole", run.display())))?;
        Ok((checkpoints, checkpoint))
    }

    /// Writes the state of all models and makes it the checkpoint that counts.
    ///
    /// # Errors
    /// The file system's; the checkpoint before then still counts.
    pub fn save(&self, state: &State, device: &str, settings: &Settings) -> Result<()> {
        let width = StepLog::of(&self.model).width();
        let next = |folder: &PathBuf| next(folder, state.epoch, state.step);
        let mut states = BTreeMap::new();
        for (k, (folder, replica)) in self.folders.iter().zip(&state.replicas).enumerate() {
            let log = state
                .log
                .chunks_exact(width)
                .skip(k)
                .step_by(self.folders.len())
                .flatten()
                .map(|&v| v.into())
                .collect();
            let (best, diverged) = (replica.best.as_ref(), replica.diverged.clone());
            let next = next(folder);
            remove_folder(&next)?;
            make_folder(&next)?;
            let model_state = ModelState {
                epoch: state.epoch,
                step: state.step,
                device: device.into(),
                settings: settings.clone(),
                best_epoch: best.map(|best| best.epoch),
                best_validation_loss: best.map(|best| best.validation_loss),
                diverged,
                files: self.write_tensors(&next, replica)?,
                log,
            };
            let json = serde_json::to_vec_pretty(&model_state)
                .map_err(|e| Error::invalid(format!("{STATE}: {e}")))?;
            write_new(&next.join(STATE), &json)?;
            sync_folder(&next)?;
            sync_folder(folder)?;
            states.insert(self.class(folder), sha256(&json));
        }
        let mark = Mark { format: FORMAT, epoch: state.epoch, step: state.step, states };
        let json =
            serde_json::to_vec_pretty(&mark).map_err(|e| Error::invalid(format!("{MARK}: {e}")))?;
        write_atomically(&self.run.join(MARK), &json)?;
        self.folders.iter().try_for_each(|folder| promote(&next(folder)))
    }

    fn write_tensors(
        &self,
        folder: &Path,
        replica: &ReplicaState,
    ) -> Result<BTreeMap<String, FileInfo>> {
        let mut moments = vec![];
        for (moment, flat) in [("exp_avg", &replica.m), ("exp_avg_sq", &replica.v)] {
            for p in self.model.params() {
                let bytes = p.from_flat(flat).iter().flat_map(|v| v.to_le_bytes()).collect();
                moments.push((moment_name(moment, p), p.torch_shape.clone(), bytes));
            }
        }
        let mut files = vec![
            (folders::MODEL, self.detector(&replica.params, &replica.reference).to_bytes()?),
            (
                "optimizer.safetensors",
                tensor_bytes(&moments, HashMap::from([("format".into(), "pt".into())]))?,
            ),
        ];
        if let Some(best) = &replica.best {
            files.push((
                "best.safetensors",
                self.detector(&best.params, &best.reference).to_bytes()?,
            ));
        }
        let write = |(name, bytes): (&str, Vec<u8>)| {
            write_new(&folder.join(name), &bytes)?;
            Ok((name.to_string(), FileInfo { bytes: bytes.len() as u64, sha256: sha256(&bytes) }))
        };
        files.into_iter().map(write).collect()
    }

    fn detector(&self, params: &[f32], reference: &[f32]) -> Detector {
        Detector {
            model: self.model.clone(),
            params: params.to_vec(),
            reference: reference.to_vec(),
            statistics: None,
            description: Default::default(),
        }
    }

    /// A class's folder as `checkpoint.json` names it, the same on every system.
    fn class(&self, folder: &Path) -> String {
        let inside = folder.strip_prefix(&self.run).unwrap_or(folder);
        let parts: Vec<_> =
            inside.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        if parts.is_empty() { ".".into() } else { parts.join("/") }
    }

    /// Reads `checkpoint.json`; `None` where there is none and no trace of a checkpoint either.
    fn read_mark(&self) -> Result<Option<Mark>> {
        let path = self.run.join(MARK);
        if !path.exists() {
            let kept = |folder: &PathBuf| [folders::last(folder), folders::previous(folder)];
            return match self.folders.iter().flat_map(kept).find(|folder| folder.exists()) {
                Some(folder) => Err(Error::invalid(format!(
                    "{}: missing, although there is a checkpoint in {}",
                    path.display(),
                    folder.display()
                ))),
                None => Ok(None),
            };
        }
        let bytes = limits::read(&path, limits::CONFIG, "the mark of a checkpoint")?;
        let invalid = |e: serde_json::Error| {
            Error::invalid(format!("{}: damaged: {}", path.display(), shown(e)))
        };
        #[derive(Deserialize)]
        struct Format {
            format: Option<u32>,
        }
        let Format { format } = serde_json::from_slice(&bytes).map_err(invalid)?;
        if format != Some(FORMAT) {
            let found =
                format.map_or("an earlier format".into(), |format| format!("format {format}"));
            return Err(Error::invalid(format!(
                "{}: {found}, this program reads {FORMAT}",
                path.display()
            )));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(invalid)
    }

    /// Reads the checkpoint that counts from every class's `last/`.
    fn load(&self, mark: &Mark) -> Result<Checkpoint> {
        let mut models = vec![];
        for folder in &self.folders {
            let path = folders::last(folder).join(STATE);
            let bytes = read_state(&folders::last(folder))?;
            if !self.is_marked(mark, folder, &bytes) {
                let expected = mark.states.get(&self.class(folder)).map_or("none", String::as_str);
                return Err(differs(&path, &sha256(&bytes), expected, &self.run.join(MARK)));
            }
            let state = parse_state(&path, &bytes)?;
            if (state.epoch, state.step) != (mark.epoch, mark.step) {
                return Err(Error::invalid(format!(
                    "{}: epoch {}, step {}, but its files are of epoch {}, step {}",
                    self.run.join(MARK).display(),
                    mark.epoch,
                    mark.step,
                    state.epoch,
                    state.step
                )));
            }
            models.push((load_tensors(&folders::last(folder), &self.model, &state)?, state));
        }
        self.join(models)
    }

    /// One checkpoint of all the classes' states, which are of one number.
    fn join(&self, models: Vec<(ReplicaState, ModelState)>) -> Result<Checkpoint> {
        let width = StepLog::of(&self.model).width();
        let first = models[0].1.clone();
        let mut replicas = vec![];
        let mut logs = vec![];
        for ((replica, state), folder) in models.into_iter().zip(&self.folders) {
            let same = |s: &ModelState| (s.epoch, s.step, s.device.clone(), s.settings.clone());
            if same(&state) != same(&first) || state.log.len() != first.step * width {
                return Err(Error::invalid(format!(
                    "{}: its {STATE} does not fit the other classes' or its own step",
                    folder.display()
                )));
            }
            replicas.push(replica);
            logs.push(state.log);
        }
        let row = |step: usize| {
            let of = move |log: &'_ Vec<f64>| log[step * width..(step + 1) * width].to_vec();
            logs.iter().flat_map(of).map(|v| v as f32)
        };
        let log = (0..first.step).flat_map(row).collect();
        let state = State { epoch: first.epoch, step: first.step, log, replicas };
        Ok(Checkpoint { state, device: first.device, settings: first.settings })
    }

    /// Whether this is the `state.json` of a class that `checkpoint.json` means.
    fn is_marked(&self, mark: &Mark, folder: &Path, bytes: &[u8]) -> bool {
        mark.states.get(&self.class(folder)) == Some(&sha256(bytes))
    }

    /// The newest checkpoint of which every class has a whole folder.
    fn newest_whole(&self) -> Option<Checkpoint> {
        let whole = |folder: &PathBuf| -> BTreeMap<(usize, usize), (ReplicaState, ModelState)> {
            let kept = [folders::last(folder), folders::previous(folder)];
            let load = |folder: PathBuf| {
                let state = parse_state(&folder.join(STATE), &read_state(&folder).ok()?).ok()?;
                Some((
                    (state.epoch, state.step),
                    (load_tensors(&folder, &self.model, &state).ok()?, state),
                ))
            };
            kept.into_iter().chain(unfinished(folder)).filter_map(load).collect()
        };
        let mut classes: Vec<_> = self.folders.iter().map(whole).collect();
        let newest_first: Vec<(usize, usize)> = classes.first()?.keys().rev().copied().collect();
        newest_first.iter().find_map(|at| {
            let models =
                classes.iter_mut().map(|class| class.remove(at)).collect::<Option<Vec<_>>>()?;
            self.join(models).ok()
        })
    }

    /// The error with what can be done about it.
    fn offer(&self, error: Error) -> Error {
        let run = self.run.display();
        match self.newest_whole() {
            Some(Checkpoint { state, .. }) => Error::invalid(format!(
                "{error}\nthe newest checkpoint that is whole is of epoch {}, step {}; go on from \
                 it with: gradcon train --resume {run} --recover",
                state.epoch, state.step
            )),
            None => Error::invalid(format!("{error}\nno checkpoint of {run} is whole")),
        }
    }
}

/// Epochs that a run has completed, as far as `checkpoint.json` can be read: [`Checkpoints::open`]
/// says what is wrong with one that can't.
pub fn epochs_reached(run: &Path) -> usize {
    let bytes = limits::read(&run.join(MARK), limits::CONFIG, "the mark of a checkpoint");
    let mark = bytes.ok().and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
    mark.map_or(0, |mark| mark.epoch)
}

/// The folder that a checkpoint is written to.
fn next(folder: &Path, epoch: usize, step: usize) -> PathBuf {
    folder.join(format!("checkpoint-{epoch}-{step}"))
}

/// The folders `checkpoint-E-S` in a class's folder.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("checkpoint-");
    entries
        .filter(|entry| named(entry))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Renames `checkpoint-E-S/`, which counts now, to `last/`, and what was there to `previous/`.
/// Begun before a kill, it is completed by being done again.
fn promote(next: &Path) -> Result<()> {
    let folder = parent(next);
    let (last, previous) = (folders::last(folder), folders::previous(folder));
    if last.exists() {
        remove_folder(&previous)?;
        rename(&last, &previous)?;
    }
    rename(next, &last)?;
    sync_folder(folder)
}

fn differs(path: &Path, found: &str, expected: &str, by: &Path) -> Error {
    Error::invalid(format!(
        "{}: SHA-256 {found}, expected {expected} as {} says: one of the two was damaged, changed \
         or exchanged",
        path.display(),
        by.display()
    ))
}

fn read_state(folder: &Path) -> Result<Vec<u8>> {
    limits::read(&folder.join(STATE), limits::STATE, "the state of a checkpoint")
}

fn parse_state(path: &Path, bytes: &[u8]) -> Result<ModelState> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("{}: damaged: {}", path.display(), shown(e))))
}

/// PyTorch's Adam calls the moments exp_avg and exp_avg_sq.
fn moment_name(moment: &str, p: &Param) -> String {
    format!("{moment}.{}", p.name)
}

/// Reads the files that a `state.json` names, each against its hash.
fn load_tensors(folder: &Path, model: &Model, state: &ModelState) -> Result<ReplicaState> {
    let read = |name: &str| {
        let path = folder.join(name);
        let expected = state.files.get(name).map_or("none", |info| &info.sha256);
        let bytes = limits::read(&path, limits::TENSORS, "a file of tensors")?;
        let found = sha256(&bytes);
        if found == expected {
            Ok((path, bytes))
        } else {
            Err(differs(&path, &found, expected, &folder.join(STATE)))
        }
    };
    let detector = |name: &str| {
        let (path, bytes) = read(name)?;
        let detector = Detector::parse(&bytes, &path)?;
        if detector.model == *model {
            Ok(detector)
        } else {
            Err(other_model(&path, &detector.model, model))
        }
    };
    let current = detector(folders::MODEL)?;
    let (path, bytes) = read("optimizer.safetensors")?;
    let (mut file, _) = TensorFile::parse(&bytes, &path)?;
    let mut moments = [vec![0.0; model.len()], vec![0.0; model.len()]];
    for (flat, moment) in moments.iter_mut().zip(["exp_avg", "exp_avg_sq"]) {
        for p in model.params() {
            p.to_flat(&file.take(&moment_name(moment, p), &p.torch_shape)?, flat);
        }
    }
    file.finish()?;
    let best = match (state.best_epoch, state.best_validation_loss) {
        (Some(epoch), Some(validation_loss)) => {
            let best = detector("best.safetensors")?;
            Some(Snapshot {
                epoch,
                validation_loss,
                params: best.params,
                reference: best.reference,
            })
        }
        _ => None,
    };
    let [m, v] = moments;
    let diverged = state.diverged.clone();
    Ok(ReplicaState { params: current.params, m, v, reference: current.reference, best, diverged })
}

fn other_model(path: &Path, found: &Model, expected: &Model) -> Error {
    let path = path.display();
    if found.kind() != expected.kind() {
        return Error::invalid(format!(
            "{path}: a model of kind '{}', expected '{}'",
            found.kind(),
            expected.kind()
        ));
    }
    Error::invalid(format!(
        "{path}: a model of {} channels, the dataset has {}",
        found.channels(),
        expected.channels()
    ))
}

/// Flat parameters of a model file, for a model of the same kind and channels.
///
/// # Errors
/// No readable model file, or one of another kind or for other images.
pub fn load_start(path: &Path, model: &Model) -> Result<Vec<f32>> {
    let (other, params) = load_parameters(path)?;
    if other == *model { Ok(params) } else { Err(other_model(path, &other, model)) }
}
