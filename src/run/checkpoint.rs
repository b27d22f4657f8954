//! Checkpoints of trainings that survive a kill at any moment, one folder for each model.
//!
//! ```text
//! CLASS/checkpoint.json  which checkpoint counts: epoch, step, SHA-256 of its state.json
//! CLASS/last/            that checkpoint: model.safetensors, optimizer.safetensors,
//!                        best.safetensors, and state.json with the others' SHA-256
//! CLASS/previous/        the one before it
//! CLASS/checkpoint-E-S/  of epoch E, step S: being written, or not yet renamed to last/
//! ```
//!
//! A save writes `checkpoint-E-S/` whole; then one rename of `checkpoint.json` makes it the one
//! that counts; then `last/` becomes `previous/` and `checkpoint-E-S/` becomes `last/`. Models that
//! train together are saved together, each of these steps for all of them before the next. Whoever
//! opens a folder after a kill completes these renames, or removes what never counted. Every folder
//! proves itself by its hashes, so that damage is an error that names the file, and an older
//! checkpoint can be offered.
//!
//! Earlier versions had one `RUN/checkpoint.json` for all classes of a run, which still counts
//! where a class has none of its own, and kept a run of one class in the run's own folder: see
//! [`adopt`].

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

pub(super) const MARK: &str = "checkpoint.json";
const STATE: &str = "state.json";
const FORMAT: u32 = 2;

/// The folder of a mark, as the mark calls it.
const HERE: &str = ".";

/// Names of a training's files and folders, and beginnings of others.
const FILES: [&str; 5] = ["best", "last", "previous", folders::METRICS, MARK];
const BEGINNINGS: [&str; 2] = ["checkpoint-", "events.out.tfevents."];

/// Settings by their names, as text: what must not change while a run goes on.
pub type Settings = BTreeMap<String, String>;

/// `checkpoint.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    format: u32,
    epoch: usize,
    step: usize,
    /// SHA-256 of `state.json`, by the folder that it is in.
    states: BTreeMap<String, String>,
}

/// What a mark says of one training.
struct Counts {
    /// The mark.
    by: PathBuf,
    epoch: usize,
    step: usize,
    /// SHA-256 of its `state.json`.
    state: String,
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

/// A checkpoint of one model, with what is known of its making.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Epochs completed.
    pub epoch: usize,
    /// Steps done of the epoch under way.
    pub step: usize,
    /// Rows of the log of those steps.
    pub log: Vec<f32>,
    /// The model's tensors.
    pub replica: ReplicaState,
    /// The device it ran on.
    pub device: String,
    /// The settings it was made with.
    pub settings: Settings,
}

/// What models that stand at the same step go on from, together. There is at least one.
///
/// ```
/// use gradcon::run::checkpoint::{Checkpoint, join};
/// use gradcon::method::state::ReplicaState;
///
/// let of = |log: &[f32]| Checkpoint {
///     epoch: 3,
///     step: 2,
///     log: log.to_vec(),
///     replica: ReplicaState {
///         params: vec![],
///         m: vec![],
///         v: vec![],
///         reference: vec![],
///         best: None,
///         diverged: None,
///     },
///     device: String::new(),
///     settings: Default::default(),
/// };
/// let state = join(&[&of(&[1.0, 2.0]), &of(&[3.0, 4.0])]); // rows of one number
/// assert_eq!((state.epoch, state.step, state.log), (3, 2, vec![1.0, 3.0, 2.0, 4.0]));
/// ```
pub fn join(models: &[&Checkpoint]) -> State {
    let first = models[0];
    let width = first.log.len().checked_div(first.step).unwrap_or(0);
    let row = |step: usize| {
        models.iter().flat_map(move |model| &model.log[step * width..(step + 1) * width])
    };
    State {
        epoch: first.epoch,
        step: first.step,
        log: (0..first.step).flat_map(row).copied().collect(),
        replicas: models.iter().map(|model| model.replica.clone()).collect(),
    }
}

/// The checkpoints of one training, whose lock the caller holds.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    model: Model,
}

impl Checkpoints {
    /// Opens the checkpoints of the training in `folder`, completes or removes what a kill left
    /// half done, and reads the one that counts; `None` where it was ended before its first.
    ///
    /// # Errors
    /// A file is damaged, missing, or another checkpoint's; the message names it and offers the
    /// newest checkpoint that is whole, if there is one.
    pub fn open(folder: &Path, model: &Model) -> Result<(Checkpoints, Option<Checkpoint>)> {
        let checkpoints = Checkpoints { folder: folder.into(), model: model.clone() };
        let checkpoint = checkpoints.open_marked().map_err(|error| checkpoints.offer(error))?;
        Ok((checkpoints, checkpoint))
    }

    fn open_marked(&self) -> Result<Option<Checkpoint>> {
        let counts = read_mark(&self.folder)?;
        if let Some(counts) = &counts {
            let next = next(&self.folder, counts.epoch, counts.step);
            if read_state(&next).is_ok_and(|bytes| sha256(&bytes) == counts.state) {
                promote(&next)?;
            }
        }
        for unmarked in unfinished(&self.folder) {
            remove_folder(&unmarked)?;
        }
        sweep(&self.folder)?;
        sweep(&folders::best(&self.folder))?;
        counts.map(|counts| self.load(&counts)).transpose()
    }

    /// Opens the newest checkpoint that is whole, whatever `checkpoint.json` says.
    ///
    /// # Errors
    /// There is none.
    pub fn recover(folder: &Path, model: &Model) -> Result<(Checkpoints, Checkpoint)> {
        let checkpoints = Checkpoints { folder: folder.into(), model: model.clone() };
        let whole = checkpoints.newest_whole();
        let none = || Error::invalid(format!("{}: no checkpoint is whole", folder.display()));
        Ok((checkpoints, whole.ok_or_else(none)?))
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

    /// Reads the checkpoint that counts from `last/`.
    fn load(&self, counts: &Counts) -> Result<Checkpoint> {
        let last = folders::last(&self.folder);
        let (path, bytes) = (last.join(STATE), read_state(&last)?);
        let found = sha256(&bytes);
        if found != counts.state {
            return Err(differs(&path, &found, &counts.state, &counts.by));
        }
        let state = parse_state(&path, &bytes)?;
        if (state.epoch, state.step) != (counts.epoch, counts.step) {
            return Err(Error::invalid(format!(
                "{}: epoch {}, step {}, but its files are of epoch {}, step {}",
                counts.by.display(),
                counts.epoch,
                counts.step,
                state.epoch,
                state.step
            )));
        }
        self.checkpoint(&last, state)
    }

    /// The checkpoint in a folder, of which `state.json` was read.
    fn checkpoint(&self, folder: &Path, state: ModelState) -> Result<Checkpoint> {
        if state.log.len() != state.step * StepLog::of(&self.model).width() {
            return Err(Error::invalid(format!(
                "{}: a log of {} numbers does not fit step {}",
                folder.join(STATE).display(),
                state.log.len(),
                state.step
            )));
        }
        let replica = load_tensors(folder, &self.model, &state)?;
        let ModelState { epoch, step, device, settings, log, .. } = state;
        let log = log.into_iter().map(|v| v as f32).collect();
        Ok(Checkpoint { epoch, step, log, replica, device, settings })
    }

    /// The newest checkpoint of which the folder is whole.
    fn newest_whole(&self) -> Option<Checkpoint> {
        let kept = [folders::last(&self.folder), folders::previous(&self.folder)];
        let load = |folder: PathBuf| {
            let state = parse_state(&folder.join(STATE), &read_state(&folder).ok()?).ok()?;
            self.checkpoint(&folder, state).ok()
        };
        let whole = kept.into_iter().chain(unfinished(&self.folder)).filter_map(load);
        whole.max_by_key(|checkpoint| (checkpoint.epoch, checkpoint.step))
    }

    /// The error with what can be done about it.
    fn offer(&self, error: Error) -> Error {
        let run = folders::run_of(&self.folder);
        let run = run.display();
        match self.newest_whole() {
            Some(Checkpoint { epoch, step, .. }) => Error::invalid(format!(
                "{error}\nthe newest checkpoint that is whole is of epoch {epoch}, step {step}; go \
                 on from it with: gradcon train --resume {run} --recover"
            )),
            None => Error::invalid(format!(
                "{error}\nno checkpoint of {} is whole",
                self.folder.display()
            )),
        }
    }
}

/// Writes the state of models that train together, one of each of `models`, and makes it the
/// checkpoint that counts.
///
/// # Errors
/// The file system's; the checkpoint before then still counts.
pub fn save(
    models: &[&Checkpoints],
    state: &State,
    device: &str,
    settings: &[&Settings],
) -> Result<()> {
    let mut marks = vec![];
    for (k, (checkpoints, replica)) in models.iter().zip(&state.replicas).enumerate() {
        let width = StepLog::of(&checkpoints.model).width();
        let rows = state.log.chunks_exact(width).skip(k).step_by(models.len());
        let (best, diverged) = (replica.best.as_ref(), replica.diverged.clone());
        let next = next(&checkpoints.folder, state.epoch, state.step);
        remove_folder(&next)?;
        make_folder(&next)?;
        let model_state = ModelState {
            epoch: state.epoch,
            step: state.step,
            device: device.into(),
            settings: settings[k].clone(),
            best_epoch: best.map(|best| best.epoch),
            best_validation_loss: best.map(|best| best.validation_loss),
            diverged,
            files: checkpoints.write_tensors(&next, replica)?,
            log: rows.flatten().map(|&v| v.into()).collect(),
        };
        let json = serde_json::to_vec_pretty(&model_state)
            .map_err(|e| Error::invalid(format!("{STATE}: {e}")))?;
        write_new(&next.join(STATE), &json)?;
        sync_folder(&next)?;
        sync_folder(&checkpoints.folder)?;
        let states = BTreeMap::from([(HERE.to_string(), sha256(&json))]);
        marks.push(Mark { format: FORMAT, epoch: state.epoch, step: state.step, states });
    }
    for (checkpoints, mark) in models.iter().zip(&marks) {
        let json =
            serde_json::to_vec_pretty(mark).map_err(|e| Error::invalid(format!("{MARK}: {e}")))?;
        write_atomically(&checkpoints.folder.join(MARK), &json)?;
    }
    let next = |checkpoints: &&Checkpoints| next(&checkpoints.folder, state.epoch, state.step);
    models.iter().try_for_each(|checkpoints| promote(&next(checkpoints)))
}

/// Reads what counts in a training's folder: its `checkpoint.json`, or that of the whole run where
/// an earlier version wrote it. `None` where there is none and no trace of a checkpoint either.
fn read_mark(folder: &Path) -> Result<Option<Counts>> {
    let (own, run) = (folder.join(MARK), folders::run_of(folder));
    let class = folder.strip_prefix(&run).map(|inside| inside.display().to_string());
    let class = class.unwrap_or_default().replace('\\', "/");
    for (path, class) in [(own.clone(), HERE), (run.join(MARK), class.as_str())] {
        if !path.exists() {
            continue;
        }
        let Mark { epoch, step, mut states, .. } = parse_mark(&path)?;
        match states.remove(class) {
            Some(state) => return Ok(Some(Counts { by: path, epoch, step, state })),
            None if path == own => {
                return Err(Error::invalid(format!(
                    "{}: damaged: it names no checkpoint of its folder",
                    path.display()
                )));
            }
            None => {}
        }
    }
    let kept = [folders::last(folder), folders::previous(folder)];
    match kept.into_iter().find(|folder| folder.exists()) {
        Some(folder) => Err(Error::invalid(format!(
            "{}: missing, although there is a checkpoint in {}",
            own.display(),
            folder.display()
        ))),
        None => Ok(None),
    }
}

fn parse_mark(path: &Path) -> Result<Mark> {
    let bytes = limits::read(path, limits::CONFIG, "the mark of a checkpoint")?;
    let invalid =
        |e: serde_json::Error| Error::invalid(format!("{}: damaged: {}", path.display(), shown(e)));
    #[derive(Deserialize)]
    struct Format {
        format: Option<u32>,
    }
    let Format { format } = serde_json::from_slice(&bytes).map_err(invalid)?;
    if format != Some(FORMAT) {
        let found = format.map_or("an earlier format".into(), |format| format!("format {format}"));
        return Err(Error::invalid(format!(
            "{}: {found}, this program reads {FORMAT}",
            path.display()
        )));
    }
    serde_json::from_slice(&bytes).map_err(invalid)
}

/// Where a training stands, for whoever only looks.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Standing {
    /// Epochs completed.
    pub epochs: usize,
    /// Its numbers stopped being finite: it is through, whatever was wanted.
    pub diverged: Option<String>,
    /// Patience ended it: it is through, too.
    pub stopped: bool,
}

impl Standing {
    /// Where the training in `folder` stands, as far as its files can be read:
    /// [`Checkpoints::open`] says what is wrong with those that can't.
    pub fn of(folder: &Path) -> Standing {
        let Ok(Some(Counts { epoch, step, .. })) = read_mark(folder) else {
            return Standing::default();
        };
        let state = |folder: &Path| {
            let bytes = read_state(folder).ok()?;
            let state = parse_state(&folder.join(STATE), &bytes).ok()?;
            ((state.epoch, state.step) == (epoch, step)).then_some(state)
        };
        let state = state(&folders::last(folder)).or_else(|| state(&next(folder, epoch, step)));
        let stopped = state.as_ref().is_some_and(|state| {
            let patience = state.settings.get("patience").and_then(|text| text.parse().ok());
            let end = state.best_epoch.zip(patience).and_then(|(best, n)| best.checked_add(n));
            end.is_some_and(|end| end <= epoch)
        });
        let diverged = state.and_then(|state| state.diverged).map(|why| why.to_string());
        Standing { epochs: epoch, diverged, stopped }
    }

    /// Whether nothing is left to be done to `epochs` epochs.
    pub fn is_through(&self, epochs: usize) -> bool {
        self.epochs >= epochs || self.diverged.is_some() || self.stopped
    }
}

/// Whether something was trained in a folder already.
pub fn is_begun(folder: &Path) -> bool {
    let files = [folder.join(MARK), folders::last(folder), folders::best(folder)];
    files.iter().any(|path| path.exists()) || !matches!(read_mark(folder), Ok(None))
}

/// Moves the training that an earlier version left in the run's own folder, which was that of its
/// only `class`, to where trainings are now. Begun before a kill, it is completed by being done
/// again. The caller holds the run's lock.
///
/// # Errors
/// The file system's.
pub fn adopt(run: &Path, class: &str) -> Result<()> {
    let mut found = vec![];
    for entry in std::fs::read_dir(run).map_err(Error::io(run))? {
        let path = entry.map_err(Error::io(run))?.path();
        if path.is_symlink() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let begins = |beginning: &&str| name.starts_with(beginning);
        if FILES.contains(&name.as_str()) || BEGINNINGS.iter().any(begins) {
            found.push((path, name));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let folder = folders::training(run, class);
    make_folder(parent(&folder))?;
    make_folder(&folder)?;
    for (path, name) in found {
        rename(&path, &folder.join(name))?;
    }
    sync_folder(&folder)?;
    sync_folder(run)
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
        "{path}: a model for images of {:?} (height, width, channels), the dataset has {:?}",
        &found.shape(1)[..3],
        &expected.shape(1)[..3]
    ))
}

/// Flat parameters of a model file, for a model of the same kind, size and channels.
///
/// # Errors
/// No readable model file, or one of another kind or for other images.
pub fn load_start(path: &Path, model: &Model) -> Result<Vec<f32>> {
    let (other, params) = load_parameters(path)?;
    if other == *model { Ok(params) } else { Err(other_model(path, &other, model)) }
}
