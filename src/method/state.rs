//! Where a training stands: what it reports, and what its future depends on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::Model;

/// Means over an epoch, weighted by images.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Losses {
    /// L.
    pub loss: f64,
    /// L_rec.
    pub mse: f64,
    /// L_grad.
    pub constraint: f64,
    /// L_KL; 0 for a model that isn't variational.
    pub divergence: f64,
    /// Cosine of each constrained layer.
    pub cosines: Vec<f64>,
}

/// One replica's epoch.
#[derive(Clone, PartialEq, Debug)]
pub struct EpochReport {
    /// Epochs completed, this one included.
    pub epoch: usize,
    /// During training.
    pub train: Losses,
    /// After it, on the validation images.
    pub validation: Losses,
    /// This epoch has the least validation loss so far.
    pub best: bool,
}

/// A model at some moment: flat parameters and references.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Epochs completed.
    pub epoch: usize,
    /// Validation loss then.
    pub validation_loss: f64,
    /// Flat parameters.
    pub params: Vec<f32>,
    /// Flat references.
    pub reference: Vec<f32>,
}

/// When and where a replica's numbers stopped being finite.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// The first step of it, from 1, whose losses show it; else the last one before it was seen.
    pub step: usize,
    /// What is no finite number, and what it is instead: `up.2.weight is NaN`.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "diverged in epoch {}, step {}: {}", self.epoch, self.step, self.what)
    }
}

/// Everything that a training's future depends on, for one replica. All numbers are finite.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicaState {
    /// Flat parameters.
    pub params: Vec<f32>,
    /// Adam's first moment.
    pub m: Vec<f32>,
    /// Adam's second moment.
    pub v: Vec<f32>,
    /// References.
    pub reference: Vec<f32>,
    /// The best epoch, once there is one.
    pub best: Option<Snapshot>,
    /// The replica takes no more part: its tensors are the last ones that were seen to be finite,
    /// perhaps older than the others'.
    pub diverged: Option<Divergence>,
}

/// Where a training stands.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// Epochs completed.
    pub epoch: usize,
    /// Steps done of the epoch under way.
    pub step: usize,
    /// Rows of the log of those steps, `[step, replicas, width]`; zeros for replicas that diverged
    /// or were ended by patience.
    pub log: Vec<f32>,
    /// Each replica's tensors.
    pub replicas: Vec<ReplicaState>,
}

/// The first element that is no finite number, by the tensor that it is in. `flat` are tensors that
/// lie as the parameters do, or as their head does, each with what comes before a tensor's name.
pub(super) fn first_not_finite(model: &Model, flat: &[(&str, &[f32])]) -> Option<String> {
    flat.iter().find_map(|(prefix, flat)| {
        let i = flat.iter().position(|v| !v.is_finite())?;
        let param = model.params().iter().find(|p| (p.offset..p.offset + p.len()).contains(&i));
        Some(format!("{prefix}{} is {}", param.map_or("padding", |p| &p.name), flat[i]))
    })
}
