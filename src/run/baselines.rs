//! The plain autoencoders that a run's models are held against: trained once by the run's settings,
//! but without the constraint, and kept beside its models.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use super::config::RunConfig;
use super::train::{ClassImages, End, Unit, Watch, fresh_trainer};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::make_folder;
use crate::folders;
use crate::method::detector::Detector;
use crate::method::trainer::Outcome;

/// Where the description of a plain autoencoder says what it was trained with.
const SETTINGS: &str = "settings";

/// The run's configuration without the constraint.
fn without_constraint(config: &RunConfig) -> RunConfig {
    RunConfig { alpha: 0.0, ..config.clone() }
}

/// All that a plain autoencoder depends on, as text.
fn settings(config: &RunConfig) -> Result<String> {
    let mut settings = without_constraint(config).fixed()?;
    settings.insert("epochs".into(), config.epochs.to_string());
    if let Some(start) = &config.init_from {
        settings.insert("init_from".into(), start.display().to_string());
    }
    serde_json::to_string(&settings).map_err(|e| Error::invalid(format!("settings: {e}")))
}

/// The plain autoencoder of a class, if there is one of the run's settings.
fn kept(run: &Path, config: &RunConfig, class: &str) -> Result<Option<Detector>> {
    let path = folders::plain_model(&folders::training(run, class));
    if !path.exists() {
        return Ok(None);
    }
    let detector = Detector::load(&path)?;
    let is_of = detector.description.get(SETTINGS) == Some(&settings(config)?);
    Ok(is_of.then_some(detector))
}

/// The plain autoencoder of a class, whose own model is `detector`: which it is already, if the run
/// has no constraint.
///
/// # Errors
/// It was not trained yet ([`train`]), or its file is none.
pub(super) fn plain(
    run: &Path,
    config: &RunConfig,
    class: &str,
    detector: &Detector,
) -> Result<Detector> {
    if config.alpha == 0.0 {
        return Ok(detector.clone());
    }
    kept(run, config, class)?.ok_or_else(|| {
        Error::invalid(format!(
            "{}: no autoencoder of the run's settings without the constraint",
            folders::plain_model(&folders::training(run, class)).display()
        ))
    })
}

/// Trains plain autoencoders, of one run and [`lacking`] there, and stores them. Nothing is stored
/// before all are trained.
///
/// # Errors
/// As [`super::train::check`]; a device failure; one whose numbers stopped being finite.
pub fn train(
    units: &[Unit],
    prepared: &Prepared,
    engine: &mut dyn Engine,
    watch: &mut dyn Watch,
) -> Result<End> {
    let Some(Unit { config, .. }) = units.first() else { return Ok(End::Complete) };
    config.check_data(prepared)?;
    let model = config.model_for(prepared)?;
    let images = ClassImages::of(units, prepared)?;
    let device = engine.description();
    let mut trainer = fresh_trainer(&units.iter().collect::<Vec<_>>(), &images, &model, engine)?;
    let classes: Vec<String> = units.iter().map(|unit| unit.name.clone()).collect();
    watch.begin(0);
    while trainer.epochs_done() < config.epochs && !trainer.is_through() {
        let (clock, mut seen) = (Instant::now(), 0);
        let outcome = trainer.epoch(|progress| {
            seen += progress.images;
            match watch.images(progress.images) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        match outcome {
            Outcome::Stopped => return Ok(End::Stopped),
            Outcome::Epoch(reports) => {
                watch.epoch(&reports, &classes, seen as f64 / clock.elapsed().as_secs_f64());
            }
        }
    }
    if let Some((unit, why)) = units.iter().zip(trainer.diverged()).find_map(|(u, w)| Some((u, w?)))
    {
        return Err(Error::invalid(format!(
            "class {}: its autoencoder without the constraint {why}; evaluate without --baselines",
            unit.class
        )));
    }
    let best: Vec<_> = trainer.best()?.into_iter().map(|best| best.cloned()).collect();
    for (unit, best) in units.iter().zip(best) {
        let best = best.ok_or_else(|| Error::invalid("training: no epoch was completed"))?;
        let mut detector = best.into_detector(&model, &unit.config.train_config());
        detector.description.insert(SETTINGS.into(), settings(config)?);
        detector.description.insert("device".into(), device.clone());
        let folder = folders::baselines(&unit.folder());
        make_folder(&folder)?;
        detector.save(&folders::plain_model(&unit.folder()))?;
    }
    Ok(End::Complete)
}

/// The plain autoencoders that are yet to train, as units of a training.
///
/// # Errors
/// A file that is none.
pub fn lacking(run: &Path, config: &RunConfig) -> Result<Vec<Unit>> {
    let mut units = vec![];
    for unit in Unit::all(run, &without_constraint(config)) {
        let is_trained = folders::best_model(&unit.folder()).exists();
        if config.alpha != 0.0 && is_trained && kept(run, config, &unit.class)?.is_none() {
            units.push(unit);
        }
    }
    Ok(units)
}
