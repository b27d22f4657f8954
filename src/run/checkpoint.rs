//! Checkpoints that survive a kill at any moment, also of several models that must agree.
//!
//! Every model's new checkpoint is first written whole as `next/`; then `checkpoint.json` names it (one rename: this is the moment it counts); then
//! each `next/` becomes `last/`. A reader takes, of `last/` and `next/`, the folder that `checkpoint.json` means.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::gradcon::detector::{Detector, TensorFile, load_parameters, write_tensors};
use crate::gradcon::model::{Model, Param};
use crate::gradcon::objective::StepLog;
use crate::gradcon::trainer::{ReplicaState, Snapshot, State};
use crate::{Error, Result};

/// `checkpoint.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Epochs completed.
    pub epoch: usize,
    /// Steps done of the epoch under way.
    pub step: usize,
}

/// `state.json`: where one model's training stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelState {
    epoch: usize,
    step: usize,
    /// Rows of the log of the epoch under way.
    log: Vec<f64>,
    best_epoch: Option<usize>,
    best_validation_loss: Option<f64>,
}

const MARK: &str = "checkpoint.json";

/// Reads which checkpoint counts; `None` where there is none yet.
pub fn read_mark(run: &Path) -> Result<Option<Mark>> {
    let path = run.join(MARK);
    match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(&path)(e)),
    }
}

/// Writes the state of all models, each into its folder of `folders`, and makes it the one that counts.
pub fn save(run: &Path, folders: &[PathBuf], model: &Model, state: &State) -> Result<()> {
    let width = StepLog::width(model.segments().len());
    for (k, (folder, replica)) in folders.iter().zip(&state.replicas).enumerate() {
        let log = state.log.chunks_exact(width).skip(k).step_by(folders.len()).flatten().copied().collect();
        save_model(&folder.join("next"), model, state, replica, log)?;
    }
    let mark = Mark { epoch: state.epoch, step: state.step };
    let json = serde_json::to_vec(&mark).map_err(|e| Error::invalid(format!("{MARK}: {e}")))?;
    write_atomically(&run.join(MARK), &json)?;
    for folder in folders {
        let (last, next) = (folder.join("last"), folder.join("next"));
        remove(&last)?;
        std::fs::rename(&next, &last).map_err(Error::io(&next))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(e)),
        _ => Ok(()),
    }
}

fn detector(model: &Model, params: &[f32], reference: &[f32]) -> Detector {
    Detector {
        model: model.clone(),
        params: params.to_vec(),
        reference: reference.to_vec(),
        description: Default::default(),
    }
}

fn save_model(folder: &Path, model: &Model, state: &State, replica: &ReplicaState, log: Vec<f64>) -> Result<()> {
    remove(folder)?;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    detector(model, &replica.params, &replica.reference).save(&folder.join("model.safetensors"))?;
    let mut tensors = vec![];
    for (name, flat) in [("m", &replica.m), ("v", &replica.v)] {
        for p in model.params() {
            let bytes = p.from_flat(flat).iter().flat_map(|v| v.to_le_bytes()).collect();
            tensors.push((moment_name(p, name), p.torch_shape.clone(), bytes));
        }
    }
    write_tensors(&folder.join("optimizer.safetensors"), &tensors, HashMap::from([("format".into(), "pt".into())]))?;
    if let Some(best) = &replica.best {
        detector(model, &best.params, &best.reference).save(&folder.join("best.safetensors"))?;
    }
    let state = ModelState {
        epoch: state.epoch,
        step: state.step,
        log,
        best_epoch: replica.best.as_ref().map(|b| b.epoch),
        best_validation_loss: replica.best.as_ref().map(|b| b.validation_loss),
    };
    let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::invalid(format!("state.json: {e}")))?;
    write_atomically(&folder.join("state.json"), &json)
}

/// PyTorch's Adam calls the moments exp_avg and exp_avg_sq.
fn moment_name(p: &Param, moment: &str) -> String {
    format!("{}.{}", if moment == "m" { "exp_avg" } else { "exp_avg_sq" }, p.name)
}

/// Reads the checkpoint that counts. Errors name the file; a damaged checkpoint is an error, never replaced by another one.
pub fn load(run: &Path, folders: &[PathBuf], model: &Model) -> Result<State> {
    let mark = read_mark(run)?
        .ok_or_else(|| Error::invalid(format!("{}: no checkpoint to resume from", run.join(MARK).display())))?;
    let width = StepLog::width(model.segments().len());
    let mut replicas = vec![];
    let mut logs: Vec<Vec<f64>> = vec![];
    for folder in folders {
        let (replica, state) = load_model(folder, mark, model)?;
        if state.log.len() != mark.step * width {
            return Err(Error::invalid(format!(
                "{}: {} logged values, expected {}",
                folder.display(),
                state.log.len(),
                mark.step * width
            )));
        }
        replicas.push(replica);
        logs.push(state.log);
    }
    let log = (0..mark.step)
        .flat_map(|step| logs.iter().flat_map(move |log| log[step * width..(step + 1) * width].iter().copied()))
        .collect();
    Ok(State { epoch: mark.epoch, step: mark.step, log, replicas })
}

fn load_model(folder: &Path, mark: Mark, model: &Model) -> Result<(ReplicaState, ModelState)> {
    let mut seen = vec![];
    for name in ["last", "next"] {
        let path = folder.join(name).join("state.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(&path)(e)),
        };
        let state: ModelState =
            serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        if (state.epoch, state.step) == (mark.epoch, mark.step) {
            return Ok((load_tensors(&folder.join(name), model, &state)?, state));
        }
        seen.push(format!("{name} is of epoch {} step {}", state.epoch, state.step));
    }
    Err(Error::invalid(format!(
        "{}: no checkpoint of epoch {} step {} ({})",
        folder.display(),
        mark.epoch,
        mark.step,
        if seen.is_empty() { "none at all".into() } else { seen.join(", ") }
    )))
}

fn load_tensors(folder: &Path, model: &Model, state: &ModelState) -> Result<ReplicaState> {
    let same_model = |path: &Path, other: &Model| {
        if other == model {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: a model of {} channels, expected {}",
            path.display(),
            other.channels(),
            model.channels()
        )))
    };
    let path = folder.join("model.safetensors");
    let current = Detector::load(&path)?;
    same_model(&path, &current.model)?;
    let (mut file, _) = TensorFile::open(&folder.join("optimizer.safetensors"))?;
    let mut moments = [vec![0.0; model.len()], vec![0.0; model.len()]];
    for (flat, name) in moments.iter_mut().zip(["m", "v"]) {
        for p in model.params() {
            p.to_flat(&file.take(&moment_name(p, name), &p.torch_shape)?, flat);
        }
    }
    file.finish()?;
    let best = match (state.best_epoch, state.best_validation_loss) {
        (Some(epoch), Some(validation_loss)) => {
            let path = folder.join("best.safetensors");
            let best = Detector::load(&path)?;
            same_model(&path, &best.model)?;
            Some(Snapshot { epoch, validation_loss, params: best.params, reference: best.reference })
        }
        _ => None,
    };
    let [m, v] = moments;
    Ok(ReplicaState { params: current.params, m, v, reference: current.reference, best })
}

/// Flat parameters of a model file, for a model of the same channels.
pub fn load_start(path: &Path, model: &Model) -> Result<Vec<f32>> {
    let (other, params) = load_parameters(path)?;
    if other != *model {
        return Err(Error::invalid(format!(
            "{}: a model of {} channels, the dataset has {}",
            path.display(),
            other.channels(),
            model.channels()
        )));
    }
    Ok(params)
}
