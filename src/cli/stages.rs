//! Runs that are trained to some epochs, evaluated, and trained on: what `gradcon ablate` and
//! `gradcon reproduce` have in common. What was found is kept beside the runs, in
//! `after-N/NAME.json`, so that the same command goes on wherever it was interrupted.

use std::path::{Path, PathBuf};

use super::train::{Progress, epochs_reached};
use super::{Ui, interrupt};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{make_folder, parent};
use crate::method::readout::Rule;
use crate::program::Precision;
use crate::report::results::Results;
use crate::report::tables;
use crate::run::config::RunConfig;
use crate::run::evaluate::{Evaluate, evaluate};
use crate::run::share;
use crate::run::train::{End, Options, Unit, train_units};

/// A run and its settings.
pub(super) type Run = (PathBuf, RunConfig);

/// The name of a folder of what was found, before the epochs.
const AFTER: &str = "after-";

/// Where in `folder` the results of `run` after some epochs are kept.
pub(super) fn kept(folder: &Path, run: &Path, epochs: usize) -> PathBuf {
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder.join(format!("{AFTER}{epochs}")).join(format!("{name}.json"))
}

/// After how many epochs there are results of `run` in `folder`, rising.
pub(super) fn kept_after(folder: &Path, run: &Path) -> Vec<usize> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let epochs = names
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(AFTER)?.parse::<usize>().ok());
    let mut epochs: Vec<usize> =
        epochs.filter(|&epochs| kept(folder, run, epochs).exists()).collect();
    epochs.sort_unstable();
    epochs
}

/// The most epochs that a class of a run has completed under any seed.
pub(super) fn reached((folder, config): &Run) -> usize {
    let of = |(folder, config): &Run| epochs_reached(folder, config);
    config.runs(folder).iter().map(of).max().unwrap_or(0)
}

/// The epochs to evaluate after, rising: those `given`, else `usual` ones before the last, and the
/// last. And which of them were asked for.
///
/// # Errors
/// One of those given comes after the last.
pub(super) fn epochs(
    given: &[u32],
    usual: &[usize],
    last: usize,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut asked_for: Vec<usize> = given.iter().map(|&epochs| epochs as usize).collect();
    if let Some(late) = asked_for.iter().find(|&&epochs| epochs > last) {
        return Err(Error::Usage(format!("--at {late}: after {last} epochs")));
    }
    asked_for.push(last);
    let usual = usual.iter().copied().filter(|&epochs| given.is_empty() && epochs < last);
    let mut at: Vec<usize> = usual.chain(asked_for.iter().copied()).collect();
    at.sort_unstable();
    at.dedup();
    Ok((at, asked_for))
}

/// Takes out of the epochs to evaluate `at` those that a run has left behind without having been
/// evaluated.
///
/// # Errors
/// One of them was asked for: what the run was then can't be found any more.
pub(super) fn drop_past(
    folder: &Path,
    run: &Run,
    at: &mut Vec<usize>,
    asked_for: &[usize],
) -> Result<()> {
    let reached = reached(run);
    let past = |epochs: usize| reached > epochs && !kept(folder, &run.0, epochs).exists();
    if let Some(epochs) = asked_for.iter().find(|&&epochs| past(epochs)) {
        let run = run.0.display();
        return Err(Error::Usage(format!(
            "epoch {epochs}: {run} has {reached} already, and wasn't evaluated then"
        )));
    }
    at.retain(|&epochs| !past(epochs));
    Ok(())
}

/// Errors unless a run's folder is free or has the same run, perhaps to other epochs.
pub(super) fn check_same(folder: &Path, config: &RunConfig) -> Result<()> {
    if !crate::folders::config(folder).exists() {
        return Ok(());
    }
    let there = RunConfig::read(folder)?;
    config.check_fixed(&there.fixed()?).map_err(|e| e.in_file(folder))?;
    if (&there.seeds, &there.inliers) == (&config.seeds, &config.inliers) {
        return Ok(());
    }
    Err(Error::Usage(format!("{}: a run of other classes or seeds", folder.display())))
}

/// Every model of these runs, named by `name` in messages.
pub(super) fn units(runs: &[&Run], name: impl Fn(&Unit) -> String) -> Vec<Unit> {
    let mut units = vec![];
    for (root, whole) in runs {
        for (folder, config) in whole.runs(root) {
            units.extend(Unit::all(&folder, &config));
        }
    }
    units.iter_mut().for_each(|unit| unit.name = name(unit));
    units
}

/// Trains runs to their epochs, as few programs as there can be.
///
/// # Errors
/// As [`train_units`]; somebody asked to stop.
pub(super) fn train(
    runs: &[&Run],
    name: impl Fn(&Unit) -> String,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    ui: &Ui,
) -> Result<()> {
    for (root, whole) in runs {
        share::open_seed(root, whole, prepared)?;
        share::update(root, whole)?;
        for (folder, config) in whole.runs(root).iter().filter(|(folder, _)| folder != root) {
            share::open_seed(folder, config, prepared)?;
            share::update(folder, config)?;
        }
    }
    let units = units(runs, name);
    let epochs = units.first().map_or(0, |unit| unit.config.epochs);
    ui.progress(&format!(
        "{}: {} model(s), to epoch {epochs}",
        prepared.manifest().name(),
        units.len()
    ));
    let mut progress = Progress::new(*ui, &units, prepared)?;
    let outcome = train_units(&units, prepared, engine, Options::default(), &mut progress);
    progress.bar.finish_and_clear();
    match outcome?.end {
        End::Complete => Ok(()),
        End::Stopped => {
            ui.progress("saved; the same command goes on from there");
            Err(Error::Interrupted)
        }
    }
}

/// Evaluates a run as it is now by the scores that `rules` gives, of several seeds as means over
/// them, and keeps what was found as that after the epochs of its settings.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn evaluated(
    (root, config): &Run,
    rules: impl Fn(&RunConfig, &Prepared) -> Result<Vec<Rule>>,
    keep: &Path,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    ui: &Ui,
) -> Result<()> {
    let mut all: Vec<(u64, Results)> = vec![];
    for (folder, config) in config.runs(root) {
        let rules = rules(&config, prepared)?;
        let _lock = share::open(&folder, "gradcon eval")?;
        let what = Evaluate {
            run: &folder,
            config: &config,
            prepared,
            data: &config.data,
            rules: &rules,
            bootstrap: false,
            precision: Precision::F32,
            baselines: None,
            go_on: &interrupt::go_on,
        };
        ui.progress(&format!("{}, epoch {}", folder.display(), config.epochs));
        let (results, _) = evaluate(&what, engine, |_| (), |line| ui.warn(line))?;
        all.push((config.seed, results));
    }
    for class in super::eval::keep_common(&mut all)? {
        ui.warn(&format!(
            "class {class} has no model under some seed; it is left out of the means"
        ));
    }
    let pairs: Vec<(u64, &Results)> = all.iter().map(|(seed, results)| (*seed, results)).collect();
    let results = match &pairs[..] {
        [(_, one)] => (*one).clone(),
        pairs => {
            let results = Results::over_seeds(pairs)?;
            let _lock = share::open(root, "gradcon eval")?;
            results.write(root)?;
            tables::write(&results, root)?;
            results
        }
    };
    make_folder(parent(keep))?;
    results.write_as(keep)
}
