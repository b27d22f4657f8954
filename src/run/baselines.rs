//! The plain autoencoders that a run's models are held against: a run of their own, in the run's
//! folder, by the same settings but for the constraint. So it can be interrupted, goes on, and is
//! evaluated like any other.

use std::path::{Path, PathBuf};

use super::checkpoint::Standing;
use super::config::RunConfig;
use crate::error::{Error, Result};
use crate::folders;
use crate::method::detector::Detector;

/// The run of the plain autoencoders that `run` has models for and that are not trained to its
/// epochs yet; `None` where nothing is left to train. A run without the constraint needs none.
pub fn lacking(run: &Path, config: &RunConfig) -> Option<(PathBuf, RunConfig)> {
    let plain = folders::plain(run);
    let lacks = |class: &&String| {
        let is_trained = folders::best_model(&folders::training(run, class)).exists();
        let standing = Standing::of(&folders::training(&plain, class));
        config.alpha != 0.0 && is_trained && !standing.is_through(config.epochs)
    };
    let inliers: Vec<String> = config.inliers.iter().filter(lacks).cloned().collect();
    (!inliers.is_empty()).then(|| (plain, RunConfig { alpha: 0.0, inliers, ..config.clone() }))
}

/// The plain autoencoder of a class, whose own model is `detector`: which it is already, if the run
/// has no constraint.
///
/// # Errors
/// It was not trained yet, diverged before its first epoch was complete, or its file is none.
pub(super) fn plain(
    run: &Path,
    config: &RunConfig,
    class: &str,
    detector: &Detector,
) -> Result<Detector> {
    if config.alpha == 0.0 {
        return Ok(detector.clone());
    }
    let path = folders::best_model(&folders::training(&folders::plain(run), class));
    if !path.exists() {
        return Err(Error::invalid(format!(
            "{}: no autoencoder without the constraint; evaluate without --baselines",
            path.display()
        )));
    }
    Detector::load(&path)
}
