//! Evaluating a run: every test image of every class is scored by the class's best model; metrics,
//! tables, scores and pictures go into the run's folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::baselines::plain;
use super::config::RunConfig;
use super::train::{export, fit, judge, layer_names, now};
use super::{threshold, time};
use crate::data::manifest::TestSetInfo;
use crate::data::resize::resize;
use crate::data::{Dataset, Prepared, TestSet};
use crate::engine::Engine;
use crate::engine::tuned::wgpu_version;
use crate::error::{Error, Result};
use crate::files::{Lock, sweep};
use crate::folders::{self, EvalPlace};
use crate::images::Images;
use crate::method::baselines::{BASELINES, Baselines};
use crate::method::detector::Detector;
use crate::method::maps::{MapKind, Scale, maps};
use crate::method::readout::{PAPER, Rule};
use crate::method::scorer::{Score, Scorer};
use crate::method::tiling::{self, Tiling};
use crate::program::Precision;
use crate::report::epochs::read_epochs;
use crate::report::extremes::{Candidates, groups, write_extremes};
use crate::report::metrics::BOOTSTRAP_RESAMPLES;
use crate::report::pixels::{Maps, PixelResult};
use crate::report::results::{
    About, ChallengeResult, ClassResult, Evaluation, Formula, Made, OnValidation, PARTS, Results,
    Tiled,
};
use crate::report::scores::{ScoreRow, Scores, write_scores};
use crate::report::tables;
use crate::tiles::Tiles;

/// Most normal and most anomalous images that a report shows of each class.
const EXTREMES: usize = 10;

/// What is evaluated on which data.
pub struct Evaluate<'a> {
    /// The run's folder, which the caller has locked; the classes are locked here.
    pub run: &'a Path,
    /// Its configuration.
    pub config: &'a RunConfig,
    /// The data: the run's own, or others.
    pub prepared: &'a Prepared,
    /// Their folder, as it was given.
    pub data: &'a Path,
    /// The scores; the first is what images are ranked by. The paper's parts are evaluated in any
    /// case.
    pub rules: &'a [Rule],
    /// Adds 95 % intervals.
    pub bootstrap: bool,
    /// How activations and their gradients are kept while images are scored.
    pub precision: Precision,
    /// Adds the baselines; this is the run's own data, which they are fitted on. Their autoencoders
    /// are trained already ([`super::baselines::lacking`]).
    pub baselines: Option<&'a Prepared>,
    /// Asked before every class: an error stops the evaluation. Results are written at the end.
    pub go_on: &'a dyn Fn() -> Result<()>,
}

/// Evaluates a run. `progress` hears of every class, `warn` of classes that are left out: they have
/// no model (yet, or their trainings diverged before the first epoch was complete), or another
/// process has them.
///
/// Writes `results.json`, `.csv`, `.md`, and for each class `eval/CLASS/scores.csv` (the test set
/// of 50 % outliers, or the greatest share) with the images of its extremes. On other data than the
/// run's own all of this goes to `eval-NAME/` in the run, with NAME from the data's folder, and the
/// run's own results and model cards stay as they are.
///
/// Of a run whose data have normal images only, what can be known is what the threshold comes to on
/// the validation images.
///
/// # Errors
/// No class has a model yet; somebody asked to stop; another dataset without test images of a class,
/// or with images of another shape than the models are for.
pub fn evaluate(
    what: &Evaluate,
    engine: &mut dyn Engine,
    mut progress: impl FnMut(&str),
    mut warn: impl FnMut(&str),
) -> Result<(Results, EvalPlace)> {
    let Evaluate { run: folder, config, prepared, .. } = *what;
    let start = Instant::now();
    let data_sha256 = prepared.manifest().sha256();
    let own = data_sha256 == config.data_sha256;
    let place = if own { EvalPlace::own(folder) } else { other_place(what, &data_sha256) };
    let inliers = prepared.find_inliers(&config.inliers)?;
    let device = match what.precision {
        Precision::F32 => engine.description(),
        Precision::F16 => format!("{}, {}", engine.description(), what.precision),
    };
    let (mut classes, mut challenges) = (vec![], vec![]);
    let mut formulas: Vec<Formula> = what.rules.iter().cloned().map(Formula::from).collect();
    let mut trained_on: Vec<String> = vec![];
    let training_of = |inlier: usize| folders::training(folder, &prepared.inliers()[inlier].name);
    let model_of = |inlier: usize| folders::best_model(&training_of(inlier));
    let (trained, untrained): (Vec<usize>, Vec<usize>) =
        inliers.iter().partition(|&&inlier| model_of(inlier).exists());
    for &inlier in &untrained {
        let missing = format!("{}: no model to evaluate", model_of(inlier).display());
        if trained.is_empty() {
            let run = folder.display();
            return Err(Error::invalid(format!(
                "{missing}; train the run first (`gradcon train --resume {run}`)"
            )));
        }
        warn(&format!(
            "{missing}; class {} is left out of the results",
            prepared.inliers()[inlier].name
        ));
    }
    let mut locks = vec![];
    let mut free = vec![];
    for inlier in trained {
        match Lock::hold(&training_of(inlier), "gradcon eval") {
            Ok(lock) => locks.push(lock),
            Err(busy) if locks.is_empty() && Some(&inlier) == inliers.last() => return Err(busy),
            Err(busy) => {
                let class = &prepared.inliers()[inlier].name;
                warn(&format!("{busy}; class {class} is left out of the results"));
                continue;
            }
        }
        free.push(inlier);
    }
    for &inlier in &free {
        (what.go_on)()?;
        let class = prepared.inliers()[inlier].name.clone();
        let training = training_of(inlier);
        let mut detector = Detector::load(&model_of(inlier))?;
        if detector.model.kind() != config.model {
            return Err(Error::invalid(format!(
                "{}: holds a model of kind '{}', the run's are '{}'",
                model_of(inlier).display(),
                detector.model.kind(),
                config.model
            )));
        }
        // The run's configuration decides, also if it was changed after the training; the threshold
        // depends on it.
        let (level, rule) = (config.level(), detector.rule(&config.score, config.beta)?);
        let is_current = threshold::is_of(&detector, &rule, level)?;
        // Of a run that is ranked by another score, the paper's beta stays what it was exported
        // with.
        if config.score == PAPER {
            detector.description.insert("beta".into(), config.beta.to_string());
        }
        if own {
            let (place, top) = (config.place, config.top_tiles);
            let is_current = !tiling::settle(&mut detector.description, place, top)? && is_current;
            if !detector.is_fitted()? {
                let images = (&prepared.train_of(inlier)?, &prepared.val_of(inlier)?);
                fit(engine, &mut detector, images, config)?;
            } else if !is_current {
                judge(&mut detector, config)?;
            }
        }
        let device = detector.description.get("device").cloned().unwrap_or_default();
        if !device.is_empty() && !trained_on.contains(&device) {
            trained_on.push(device);
        }
        let of = |tiles: Option<Tiles>| {
            tiles.map_or("whole images".into(), |tiles| format!("tiles {tiles}"))
        };
        let tiles = [detector.tiling()?.map(|tiling| tiling.tiles), prepared.tiles()];
        if tiles[0] != tiles[1] {
            return Err(Error::invalid(format!(
                "{}: a model for {}, but the data have {}",
                model_of(inlier).display(),
                of(tiles[0]),
                of(tiles[1])
            )));
        }
        let tiling = detector.tiling()?;
        let rules: Vec<Rule> =
            what.rules.iter().cloned().map(|rule| rule.of_tiles(tiling)).collect();
        let threshold = threshold::find(&detector, &rules[0])?;
        let validation = on_validation(&detector, &rules[0], threshold)?;
        if let Some(why) = validation.as_ref().and_then(|v| level.unkept(v.images)) {
            warn(&format!("class {class}: {why}"));
        }
        formulas = rules.iter().cloned().map(Formula::from).collect();
        if what.baselines.is_some() {
            let of = |(score, formula): (&str, &str)| Formula {
                score: score.into(),
                formula: formula.into(),
            };
            formulas.extend(BASELINES.map(of));
        }
        let sets: Vec<&TestSet> = prepared.test_sets_of(inlier).collect();
        if sets.is_empty() && own {
            // Normal images only: what can be known of them, and no metric.
            let (epochs, best_epoch) = epochs_of(&training, &detector)?;
            export(&training, &detector, config, epochs.or(best_epoch).unwrap_or(0), None)?;
            progress(&format!(
                "{class}: no test images, so nothing is known of AUROC, AUPR, F1 and FPR95{}",
                validation.map_or(String::new(), |v| format!(
                    "; of {} validation images, {} are above the threshold {:.4}",
                    v.images, v.flagged, v.threshold
                ))
            ));
            let result = class_result(config, class, (epochs, best_epoch), &training, &detector)?;
            classes.push(ClassResult { validation, ..result });
            continue;
        }
        let is_own = prepared.manifest().dataset == Dataset::FOLDER;
        let map = if is_own { Some(MapKind::default_of(&detector)?) } else { None };
        let by = (&detector, &rules[..], map);
        let mut scored = Scored::new(engine, by, what.precision, prepared, &sets)?;
        if let Some(own) = what.baselines {
            let inlier = own.find_inliers(std::slice::from_ref(&class))?[0];
            let plain = plain(folder, config, &class, &detector)?;
            let train = own.train_of(inlier)?;
            let baselines = Baselines::fit(engine, &detector, &plain, &train, config.seed)?;
            scored.add(engine, (&detector, &baselines), what.precision, prepared)?;
        }
        let intervals = what.bootstrap.then_some((BOOTSTRAP_RESAMPLES, config.seed));
        let mut evaluations = vec![];
        let mut headline: Option<(f64, &TestSet)> = None;
        for set in sets {
            // A share that nobody chose is told to a tenth of a percent.
            let share =
                (1000.0 * set.info.anomalous as f64 / set.indices.len() as f64).round() / 10.0;
            let percent = set.info.ratio.map_or(share, f64::from);
            let table = scored.table(prepared, set);
            let mut evaluation =
                Evaluation::of(percent, &table, intervals)?.decided(threshold, &table)?;
            if is_own {
                evaluation = evaluation.by_kind(threshold, &table)?;
                evaluation.pixels = pixels(prepared, set, &scored, threshold)?;
            }
            match (&set.info.challenge, set.info.level) {
                (Some(challenge), Some(level)) => {
                    challenges.push(ChallengeResult {
                        challenge: challenge.clone(),
                        level: level.into(),
                        evaluation,
                    });
                }
                _ => evaluations.push(evaluation),
            }
            let better = headline
                .is_none_or(|(best, _)| best != 50.0 && (percent == 50.0 || percent > best));
            headline = if better { Some((percent, set)) } else { headline };
        }
        let (headline_percent, set) = headline.ok_or_else(|| {
            Error::invalid(format!("the dataset has no test set for class {class}"))
        })?;
        let everything = set.info.challenge.is_some().then(|| together(prepared, inlier));
        let set = everything.as_ref().unwrap_or(set);
        evaluations.sort_by(|a, b| a.outlier_percent.total_cmp(&b.outlier_percent));
        let scores = scored.table(prepared, set);
        let out = place.class(&class);
        std::fs::create_dir_all(&out).map_err(Error::io(&out))?;
        // What an evaluation left that was killed.
        [&out, &place.results, &folders::best(&training)]
            .into_iter()
            .try_for_each(|folder| sweep(folder))?;
        write_scores(&out.join(folders::SCORES), &scores)?;
        let scale = match map {
            Some(kind) => Scale::of_detector(&detector, &rules[0], kind)?,
            None => None,
        };
        write_pictures(&out, engine, &detector, (prepared, set), (&scored, scale), &scores.rows)?;
        let (epochs, best_epoch) = epochs_of(&training, &detector)?;
        let shown = evaluations.iter().find(|e| e.outlier_percent == headline_percent);
        if let Some(auroc) = shown.map(|e| e.full.auroc).filter(|&auroc| auroc < LOW_AUROC) {
            warn(&format!(
                "class {class}: an AUROC of {auroc:.3} is far below 0.5, that of chance: by this \
                 score the anomalies look more normal to the model than normal images do; see \
                 the other scores, and whether the model has learned enough"
            ));
        }
        if let Some(e) = evaluations.last() {
            progress(&format!(
                "{class}: AUROC {:.4} ({:.0} % outliers, {} images)",
                e.full.auroc,
                e.outlier_percent,
                e.normal + e.anomalous
            ));
        }
        // The card tells of the data that the model was made for.
        if own {
            let shown = evaluations.iter().find(|e| e.outlier_percent == headline_percent).cloned();
            let shown = shown.map(|evaluation| (evaluation, formulas.clone()));
            export(&training, &detector, config, epochs.or(best_epoch).unwrap_or(0), shown)?;
        }
        let result = class_result(config, class, (epochs, best_epoch), &training, &detector)?;
        classes.push(ClassResult { validation, evaluations, ..result });
    }
    let about = About {
        gradcon_version: env!("CARGO_PKG_VERSION").into(),
        date: now(),
        dataset: prepared.manifest().name().into(),
        model: config.model.to_string(),
        device,
        beta: config.beta,
        scores: formulas,
        seed: Some(config.seed),
        data: Some(what.data.display().to_string()),
        data_sha256: Some(data_sha256),
        made: Some(made(config, trained_on, start.elapsed().as_secs_f64())?),
    };
    let results = Results::new(about, classes, challenges)?;
    results.write(&place.results)?;
    tables::write(&results, &place.results)?;
    Ok((results, place))
}

impl From<Tiling> for Tiled {
    fn from(Tiling { tiles, top, .. }: Tiling) -> Tiled {
        Tiled { count: tiles.count(), top }
    }
}

/// Epochs trained, and the best of them, where known.
fn epochs_of(training: &Path, detector: &Detector) -> Result<(Option<usize>, Option<usize>)> {
    let metrics = training.join(folders::METRICS);
    let rows = if metrics.exists() { read_epochs(&metrics)?.rows } else { vec![] };
    let best = detector.number("epoch")?.map(|epoch| epoch as usize);
    Ok((rows.last().map(|row| row.epoch as usize), best))
}

/// What is known of a class without a test.
fn class_result(
    config: &RunConfig,
    class: String,
    (epochs, best): (Option<usize>, Option<usize>),
    training: &Path,
    detector: &Detector,
) -> Result<ClassResult> {
    let stopped_early = epochs.zip(best).and_then(|(all, best)| config.stopped_early(all, best));
    Ok(ClassResult {
        class,
        epochs: epochs.map(|epochs| epochs as u64),
        best_epoch: best.map(|best| best as u64),
        stopped_early: stopped_early.map(|patience| patience as u64),
        explained_variance: detector.explained_variance()?,
        tiles: detector.tiling()?.map(Tiled::from),
        training_seconds: time::read(training),
        validation: None,
        evaluations: vec![],
    })
}

/// What a threshold comes to on the validation images, where the model knows their scores.
fn on_validation(
    detector: &Detector,
    rule: &Rule,
    threshold: Option<f64>,
) -> Result<Option<OnValidation>> {
    let scores = detector.validation_scores(rule)?;
    Ok(scores.zip(threshold).map(|(scores, threshold)| OnValidation {
        images: scores.len(),
        threshold,
        flagged: scores.iter().filter(|&&score| score > threshold).count(),
    }))
}

/// Below this an AUROC is worse than chance, and not by chance.
const LOW_AUROC: f64 = 0.4;

/// All test sets of an inlier class as one, with every image once: what is shown of challenges.
fn together(prepared: &Prepared, inlier: usize) -> TestSet {
    let sets = || prepared.test_sets_of(inlier);
    let labelled: BTreeMap<usize, u8> = sets()
        .flat_map(|set| set.indices.iter().copied().zip(set.labels.iter().copied()))
        .collect();
    let mut images: Vec<(usize, u8)> = labelled.into_iter().collect();
    images.sort_by_key(|&(_, label)| label);
    let (indices, labels): (Vec<usize>, Vec<u8>) = images.into_iter().unzip();
    TestSet { info: TestSetInfo::of("challenges", inlier, &labels), indices, labels }
}

/// How an evaluation by this process came about.
fn made(config: &RunConfig, trained_on: Vec<String>, evaluation_seconds: f64) -> Result<Made> {
    // What a shell takes as it is; the rest is quoted.
    let quoted = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            return arg;
        }
        format!("'{}'", arg.replace('\'', "'\\''"))
    };
    Ok(Made {
        settings: config.entries()?.into_iter().collect(),
        command: std::env::args_os().map(quoted).collect::<Vec<_>>().join(" "),
        evaluation_seconds,
        trained_on,
        gradcon_commit: option_env!("GRADCON_GIT").map(String::from),
        wgpu_version: wgpu_version().into(),
    })
}

/// Where an evaluation on other data goes: `eval-NAME`, or, if that has results of still other
/// data, with the beginning of their hash.
fn other_place(what: &Evaluate, data_sha256: &str) -> EvalPlace {
    let full = std::fs::canonicalize(what.data).unwrap_or_else(|_| what.data.into());
    let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let place = EvalPlace::other(what.run, &name);
    let free = match Results::read(&folders::results(&place.results)) {
        Ok(results) => results.about.data_sha256.as_deref() == Some(data_sha256),
        Err(_) => !place.results.exists(),
    };
    if free { place } else { EvalPlace::other(what.run, &format!("{name}-{}", &data_sha256[..8])) }
}

/// The scores of these names and the paper's with these weights of the cosine: of no name the run's
/// own score, then all others that have one. The paper's parts are left out, which are evaluated in
/// any case, but for the first.
///
/// # Errors
/// A name of no score for such a model.
pub fn rules(
    config: &RunConfig,
    prepared: &Prepared,
    names: &[String],
    betas: &[f64],
) -> Result<Vec<Rule>> {
    let model = config.model_for(prepared)?;
    let named = |name: &String| Rule::named(name, &model, config.beta);
    let mut rules: Vec<Rule> = match names {
        [] => {
            let all = Rule::all(&model, config.beta);
            [named(&config.score)?].into_iter().chain(all).collect()
        }
        names => names.iter().map(named).collect::<Result<_>>()?,
    };
    rules.extend(betas.iter().map(|&beta| Rule::of_beta(beta)));
    let mut seen: Vec<Rule> = vec![];
    for (i, rule) in rules.into_iter().enumerate() {
        let is_part = i > 0 && PARTS.contains(&&rule.name[..]);
        if !is_part && !seen.iter().any(|earlier| earlier.name == rule.name) {
            seen.push(rule);
        }
    }
    Ok(seen)
}

/// Scores of test images by their index in the dataset.
struct Scored {
    layers: Vec<String>,
    /// Names of the scores beside the first.
    more: Vec<String>,
    of: BTreeMap<usize, Score>,
    /// Maps [height, width] of the same images, where they were asked for.
    maps: BTreeMap<usize, Vec<f32>>,
}

impl Scored {
    /// Scores every image of the test sets once.
    fn new(
        engine: &mut dyn Engine,
        (detector, rules, map): (&Detector, &[Rule], Option<MapKind>),
        precision: Precision,
        prepared: &Prepared,
        sets: &[&TestSet],
    ) -> Result<Scored> {
        let mut indices: Vec<usize> = sets.iter().flat_map(|s| s.indices.iter().copied()).collect();
        indices.sort_unstable();
        indices.dedup();
        let images = prepared.test().images.select(&indices);
        let mut scorer = Scorer::with(engine, detector, rules, precision)?;
        let scores = scorer.score(&images)?;
        let more = rules[1..].iter().map(|rule| rule.name.clone()).collect();
        let maps = match map {
            Some(kind) => maps(&mut scorer, detector, &images, &scores, kind)?,
            None => vec![],
        };
        let maps = maps.chunks_exact(images.height * images.width).map(<[f32]>::to_vec);
        let maps = indices.iter().copied().zip(maps).collect();
        let of = indices.into_iter().zip(scores).collect();
        Ok(Scored { layers: layer_names(&detector.model), more, of, maps })
    }

    /// Adds the values of baselines as further scores.
    fn add(
        &mut self,
        engine: &mut dyn Engine,
        (detector, baselines): (&Detector, &Baselines),
        precision: Precision,
        prepared: &Prepared,
    ) -> Result<()> {
        let indices: Vec<usize> = self.of.keys().copied().collect();
        let images = prepared.test().images.select(&indices);
        let values = baselines.values(engine, detector, &images, precision)?;
        self.of.values_mut().zip(values).for_each(|(score, values)| score.scores.extend(values));
        self.more.extend(BASELINES.map(|(name, _)| name.to_string()));
        Ok(())
    }

    /// The table of one test set, in its order.
    fn table(&self, prepared: &Prepared, set: &TestSet) -> Scores {
        let row = |(&i, &label): (&usize, &u8)| {
            let s = &self.of[&i];
            ScoreRow {
                image: prepared
                    .names()
                    .map_or_else(|| format!("test/{i}"), |names| names.test[i].clone()),
                label: Some(label),
                class: prepared.class_names().get(prepared.test().labels[i] as usize).cloned(),
                score: s.score,
                mse: s.mse,
                cos: s.cos,
                cosines: s.cosines.clone(),
                more: s.scores[1..].to_vec(),
            }
        };
        let rows = set.indices.iter().zip(&set.labels).map(row).collect();
        Scores { layers: self.layers.clone(), more: self.more.clone(), rows }
    }
}

/// How well the maps of a test set show where its defects are, if the data say where.
fn pixels(
    prepared: &Prepared,
    set: &TestSet,
    scored: &Scored,
    threshold: Option<f64>,
) -> Result<Option<PixelResult>> {
    let Some(masks) = prepared.masks() else { return Ok(None) };
    let maps: Vec<f32> = set.indices.iter().flat_map(|i| &scored.maps[i]).copied().collect();
    PixelResult::of(&Maps {
        size: masks.size,
        maps: &maps,
        masks: set.indices.iter().map(|&i| masks.of(i)).collect(),
        flagged: threshold
            .map(|threshold| set.indices.iter().map(|i| scored.of[i].score > threshold).collect()),
    })
}

/// A page embeds pictures of at most this height and width.
const MOST_SHOWN: usize = 192;

/// Inputs, reconstructions, error maps and overlays of the extremes.
fn write_pictures(
    out: &Path,
    engine: &mut dyn Engine,
    detector: &Detector,
    (prepared, set): (&Prepared, &TestSet),
    (scored, scale): (&Scored, Option<Scale>),
    rows: &[ScoreRow],
) -> Result<()> {
    let is_own = prepared.manifest().dataset == Dataset::FOLDER;
    let mut shown = groups(rows, EXTREMES, is_own).concat();
    shown.sort_unstable();
    shown.dedup();
    let indices: Vec<usize> = shown.iter().map(|&i| set.indices[i]).collect();
    let images = prepared.test().images.select(&indices);
    let mut scorer = Scorer::new(engine, detector)?;
    let reconstructions = scorer.reconstruct(&images)?;
    let size = images.height.min(MOST_SHOWN);
    let small = |images: &Images| match images.height {
        height if height > size => resize(images, size, size),
        _ => images.clone(),
    };
    let floats = |images: Images| -> Vec<f32> {
        images.data.into_iter().map(|v| f32::from(v) / 255.0).collect()
    };
    let byte = |v: &f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
    let made = Images { data: reconstructions.iter().map(byte).collect(), ..images };
    let levels = scale.filter(|_| is_own).map(|scale| {
        let maps = indices.iter().flat_map(|i| &scored.maps[i]);
        let data = maps.map(|&v| byte(&scale.level(v))).collect();
        floats(small(&Images { data, channels: 1, ..images }))
    });
    let made = if images.height > size { floats(small(&made)) } else { reconstructions };
    let rows: Vec<ScoreRow> = shown.iter().map(|&i| rows[i].clone()).collect();
    let candidates = Candidates {
        inputs: &floats(small(&images)),
        reconstructions: &made,
        shape: [rows.len(), size, size, images.channels],
        levels: levels.as_deref(),
        rows: &rows,
    };
    write_extremes(out, &candidates, EXTREMES, is_own)
}
