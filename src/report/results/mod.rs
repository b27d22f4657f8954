//! `results.json`: what an evaluation found, of one training or of several that differ in their
//! seed (seeds.rs).

mod seeds;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::folders;
use crate::limits::{self, shown};
use crate::report::file::write_atomic;
use crate::report::metrics::{Confusion, Deviations, Metrics, auroc, mean_std};
use crate::report::pixels::PixelResult;
use crate::report::scores::{ScoreRow, Scores};
pub use seeds::{OverSeeds, SeedRow, Spread};

/// The version of the file's layout this build writes. It also reads version 1, which knew neither
/// the data's hash nor means over seeds, version 2, which knew the paper's score alone, and 3,
/// which did not say how the numbers were made.
pub const SCHEMA_VERSION: u32 = 4;
/// Letters of a name of a class or challenge.
const MOST_NAME: usize = 255;

/// A whole evaluation: one model per inlier class, or one per inlier class and seed
/// ([`Results::over_seeds`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Where, when and with what the numbers were made.
    pub about: About,
    /// One entry per inlier class, in the data set's order; all have the same outlier percentages, or
    /// one test set each.
    pub classes: Vec<ClassResult>,
    /// Means over `classes`, one entry per outlier percentage; empty without classes. Where every
    /// class has one test set, with outliers of its own, there is one, with their mean percentage.
    pub means: Vec<MeanEvaluation>,
    /// The seeds' own numbers, where several were run: all others are then means over them, with
    /// their deviations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_seeds: Option<OverSeeds>,
    /// CURE-TSR: challenge-free images against one challenge at one level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<ChallengeResult>,
}

/// Where, when and with what an evaluation was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the program that evaluated.
    pub gradcon_version: String,
    /// When, in RFC 3339, UTC.
    pub date: String,
    /// Name of the data set.
    pub dataset: String,
    /// `cae` or `vae`.
    pub model: String,
    /// The device that scored the images, with its backend or driver.
    pub device: String,
    /// Weight of the cosine in the paper's score `mse - beta * cos`.
    pub beta: f64,
    /// The scores with their formulas: the anomaly score, then those beside its two parts. Empty
    /// where it is the paper's alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Formula>,
    /// Seed of the training run, where it had one; none where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Folder of the prepared data that was evaluated, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// SHA-256 of that folder's `manifest.json`: which data these numbers are of, wherever the
    /// folder is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
    /// How the numbers came about; not known to earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// What it takes to make the numbers again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Every setting of the training, by the key that it has in `config.toml`.
    pub settings: BTreeMap<String, Value>,
    /// The command line that evaluated, as a shell takes it.
    pub command: String,
    /// Wall time of the evaluation, in seconds; of several seeds, their sum.
    pub evaluation_seconds: f64,
    /// Which device trained, where the models say so; several, where they differ.
    pub trained_on: Vec<String>,
    /// The commit that the program was built from, where the build knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradcon_commit: Option<String>,
    /// The version of wgpu in it.
    pub wgpu_version: String,
}

/// A score's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formula {
    /// Its name.
    pub score: String,
    /// What it is made of.
    pub formula: String,
}

/// The model of one inlier class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassResult {
    /// Name of the class the model takes as normal.
    pub class: String,
    /// Epochs trained, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The epoch (from 1) whose weights were evaluated, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<u64>,
    /// The patience, in epochs, that ended the training before its last epoch, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_early: Option<u64>,
    /// How much of the variance of the validation images about the mean training image its
    /// reconstruction explains, where known: 0 = nothing learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained_variance: Option<f64>,
    /// How images are judged by their tiles, where they are cut and seeds agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiled>,
    /// Wall time of its training in seconds, perhaps with other models beside it, where known; none
    /// of several seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seconds: Option<f64>,
    /// What the stored threshold comes to on the validation images, of one seed and where the model
    /// knows their scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<OnValidation>,
    /// One entry per outlier percentage, rising; none where it was evaluated by challenges, or the
    /// data have normal images only.
    pub evaluations: Vec<Evaluation>,
}

/// By how many of its tiles an image is judged. Its text says so: `the mean of the 3 highest of 36
/// tiles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiled {
    /// An image's tiles.
    pub count: usize,
    /// How many of the highest make its score, their mean.
    pub top: usize,
}

impl fmt::Display for Tiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.top {
            1 => write!(f, "the highest of {} tiles", self.count),
            top => write!(f, "the mean of the {top} highest of {} tiles", self.count),
        }
    }
}

/// What a threshold comes to on the validation images, all of which are normal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnValidation {
    /// How many there are.
    pub images: usize,
    /// The threshold.
    pub threshold: f64,
    /// How many have a higher score.
    pub flagged: usize,
}

/// What was found of a score, by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named<M> {
    /// The score's name.
    pub score: String,
    /// What was found.
    pub metrics: M,
}

/// One test set: the anomaly score, the paper's two parts alone, and further scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Share of anomalous images in the test set, in percent.
    pub outlier_percent: f64,
    /// Normal test images.
    pub normal: usize,
    /// Anomalous test images.
    pub anomalous: usize,
    /// Of the anomaly score.
    pub full: Metrics,
    /// Of the reconstruction error alone.
    pub reconstruction: Metrics,
    /// Of the negative mean cosine alone.
    pub gradient: Metrics,
    /// Of further scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Named<Metrics>>,
    /// What the stored threshold of the anomaly score comes to; of one seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_threshold: Option<Confusion>,
    /// By kind of anomaly, of a user's own images and one seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindResult>,
    /// How well maps show where the defects are, where the data say it; of one seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<PixelResult>,
}

/// What was found of one kind of anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindResult {
    /// Its name: that of its folder.
    pub kind: String,
    /// Images of it.
    pub images: usize,
    /// AUROC of the anomaly score against all normal test images.
    pub auroc: f64,
    /// How many are above the stored threshold, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flagged: Option<usize>,
}

impl Evaluation {
    /// The metrics from scored images, with further scores of these names; `bootstrap` =
    /// (resamples, seed) adds intervals to the AUROCs.
    ///
    /// # Errors
    /// A row without a label; otherwise as [`Metrics::of`].
    pub fn of(
        outlier_percent: f64,
        Scores { more, rows, .. }: &Scores,
        bootstrap: Option<(usize, u64)>,
    ) -> Result<Evaluation> {
        let labels = truth(rows)?;
        let metrics = |score: &dyn Fn(&ScoreRow) -> f64| {
            let scores: Vec<f64> = rows.iter().map(score).collect();
            Metrics::of(&scores, &labels, bootstrap)
        };
        let further = |(i, score): (usize, &String)| {
            Ok(Named { score: score.clone(), metrics: metrics(&|row| row.more[i])? })
        };
        let anomalous = labels.iter().filter(|&&label| label).count();
        Ok(Evaluation {
            outlier_percent,
            normal: labels.len() - anomalous,
            anomalous,
            full: metrics(&|row| row.score)?,
            reconstruction: metrics(&|row| row.mse)?,
            gradient: metrics(&|row| -row.cos)?,
            more: more.iter().enumerate().map(further).collect::<Result<_>>()?,
            at_threshold: None,
            kinds: vec![],
            pixels: None,
        })
    }

    /// The same with what the stored threshold comes to on these images.
    ///
    /// # Errors
    /// As [`Evaluation::of`].
    pub fn decided(self, threshold: Option<f64>, scores: &Scores) -> Result<Evaluation> {
        let labels = truth(&scores.rows)?;
        let images = || scores.rows.iter().map(|row| row.score).zip(labels.iter().copied());
        let at_threshold = threshold.map(|threshold| Confusion::of(threshold, images()));
        Ok(Evaluation { at_threshold, ..self })
    }

    /// The same with each kind of anomaly by itself, in order of appearance.
    ///
    /// # Errors
    /// As [`Evaluation::of`].
    pub fn by_kind(self, threshold: Option<f64>, scores: &Scores) -> Result<Evaluation> {
        let labels = truth(&scores.rows)?;
        let rows = || scores.rows.iter().zip(&labels);
        let normal: Vec<f64> = rows().filter(|(_, bad)| !**bad).map(|(row, _)| row.score).collect();
        let mut found: Vec<(&str, Vec<f64>)> = vec![];
        for (row, _) in rows().filter(|(_, bad)| **bad) {
            let kind = row.class.as_deref().unwrap_or_default();
            match found.iter_mut().find(|(name, _)| *name == kind) {
                Some((_, scores)) => scores.push(row.score),
                None => found.push((kind, vec![row.score])),
            }
        }
        let of = |(kind, scores): (&str, Vec<f64>)| {
            let all: Vec<f64> = normal.iter().chain(&scores).copied().collect();
            let truth: Vec<bool> = (0..all.len()).map(|i| i >= normal.len()).collect();
            let above = |t: f64| scores.iter().filter(|&&score| score > t).count();
            Ok(KindResult {
                kind: kind.into(),
                images: scores.len(),
                auroc: auroc(&all, &truth)?,
                flagged: threshold.map(above),
            })
        };
        let kinds = found.into_iter().map(of).collect::<Result<_>>()?;
        Ok(Evaluation { kinds, ..self })
    }

    /// Errors unless what was decided is of these images.
    fn check_decisions(&self) -> Result<()> {
        if let Some(c) = &self.at_threshold {
            let normal = c.true_negatives.checked_add(c.false_positives);
            let anomalous = c.true_positives.checked_add(c.false_negatives);
            if (normal, anomalous) != (Some(self.normal), Some(self.anomalous)) {
                return Err(Error::invalid("the threshold was tried on other images"));
            }
            if !c.threshold.is_finite() {
                return Err(Error::invalid(format!("threshold {}", c.threshold)));
            }
        }
        if let Some(pixels) = &self.pixels {
            pixels.check()?;
        }
        for KindResult { kind, images, auroc, flagged } in &self.kinds {
            if kind.chars().count() > MOST_NAME {
                return Err(Error::invalid(format!("a kind of more than {MOST_NAME} letters")));
            }
            if !(0.0..=1.0).contains(auroc) || flagged.is_some_and(|flagged| flagged > *images) {
                return Err(Error::invalid(format!("kind {}: AUROC {auroc}", shown(kind))));
            }
        }
        Ok(())
    }

    /// All scores with the names they have in tables.
    pub fn parts(&self) -> Vec<(&str, &Metrics)> {
        let three = [&self.full, &self.reconstruction, &self.gradient];
        let more = self.more.iter().map(|named| (&named.score[..], &named.metrics));
        PARTS.into_iter().zip(three).chain(more).collect()
    }
}

/// The names of the anomaly score and the paper's two parts.
pub const PARTS: [&str; 3] = ["full", "reconstruction", "gradient"];

/// The labels of scored images, true = anomalous.
///
/// # Errors
/// A row without a label, by name.
pub fn truth(rows: &[ScoreRow]) -> Result<Vec<bool>> {
    let label = |row: &ScoreRow| {
        row.label
            .map(|label| label == 1)
            .ok_or_else(|| Error::invalid(format!("{}: no label to evaluate with", row.image)))
    };
    rows.iter().map(label).collect()
}

/// Means over inlier classes at one outlier percentage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanEvaluation {
    /// Share of anomalous images in the test sets, in percent.
    pub outlier_percent: f64,
    /// Of the anomaly score.
    pub full: MeanMetrics,
    /// Of the reconstruction error alone.
    pub reconstruction: MeanMetrics,
    /// Of the negative mean cosine alone.
    pub gradient: MeanMetrics,
    /// Of further scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Named<MeanMetrics>>,
}

impl MeanEvaluation {
    /// All scores with the names they have in tables.
    pub fn parts(&self) -> Vec<(&str, &MeanMetrics)> {
        let three = [&self.full, &self.reconstruction, &self.gradient];
        let more = self.more.iter().map(|named| (&named.score[..], &named.metrics));
        PARTS.into_iter().zip(three).chain(more).collect()
    }
}

/// [`Metrics`] averaged over inlier classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanMetrics {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// Area under the precision-recall curve.
    pub aupr: f64,
    /// F1 at each class's best threshold.
    pub f1: f64,
    /// False positive rate at 95 % true positive rate.
    pub fpr95: f64,
    /// Over several seeds: deviations of the mean over classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Deviations>,
}

impl From<&Metrics> for MeanMetrics {
    fn from(m: &Metrics) -> MeanMetrics {
        MeanMetrics { auroc: m.auroc, aupr: m.aupr, f1: m.f1, fpr95: m.fpr95, std: m.std }
    }
}

impl MeanMetrics {
    pub(in crate::report) fn of<'a>(
        metrics: impl Iterator<Item = &'a Metrics> + Clone,
    ) -> Result<MeanMetrics> {
        let mean = |value: fn(&Metrics) -> f64| -> Result<f64> {
            Ok(mean_std(&metrics.clone().map(value).collect::<Vec<_>>())?.0)
        };
        Ok(MeanMetrics {
            auroc: mean(|m| m.auroc)?,
            aupr: mean(|m| m.aupr)?,
            f1: mean(|m| m.f1)?,
            fpr95: mean(|m| m.fpr95)?,
            std: None,
        })
    }
}

/// Challenge-free images against one challenge at one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeResult {
    /// Name of the challenge, e.g. `Rain`.
    pub challenge: String,
    /// Severity from 1 to 5.
    pub level: u32,
    /// What was found.
    pub evaluation: Evaluation,
}

impl Results {
    /// Puts an evaluation together; the means over classes are computed here.
    ///
    /// # Errors
    /// Classes with different outlier percentages, or a number that is not finite.
    pub fn new(
        about: About,
        classes: Vec<ClassResult>,
        challenges: Vec<ChallengeResult>,
    ) -> Result<Results> {
        let means = means(&classes)?;
        let results = Results {
            schema_version: SCHEMA_VERSION,
            about,
            classes,
            means,
            over_seeds: None,
            challenges,
        };
        results.check()?;
        Ok(results)
    }

    /// Whether nothing was tested: the data have normal images only, and no metric is known.
    pub fn is_untested(&self) -> bool {
        self.challenges.is_empty() && self.classes.iter().all(|class| class.evaluations.is_empty())
    }

    /// The outlier percentage that headline tables show: 50 where evaluated, else the highest.
    pub fn headline_percent(&self) -> Option<f64> {
        let percents = || self.means.iter().map(|mean| mean.outlier_percent);
        percents().find(|&p| p == 50.0).or_else(|| percents().reduce(f64::max))
    }

    /// The shares of outliers in the headline's test sets, as text: `50`, or `12.5 to 40` where every
    /// class has a test set of its own.
    pub fn headline_shares(&self) -> String {
        let shares = || self.headline().map(|(_, e)| e.outlier_percent);
        match (shares().reduce(f64::min), shares().reduce(f64::max)) {
            (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
            (Some(share), _) => share.to_string(),
            _ => "-".into(),
        }
    }

    /// Every class with its evaluation at [`Results::headline_percent`], or the one that it has.
    pub fn headline(&self) -> impl Iterator<Item = (&ClassResult, &Evaluation)> {
        let percent = self.headline_percent();
        self.classes.iter().filter_map(move |class| {
            let mut all = class.evaluations.iter();
            let found = match &class.evaluations[..] {
                [one] => percent.map(|_| one),
                _ => all.find(|e| Some(e.outlier_percent) == percent),
            };
            found.map(|e| (class, e))
        })
    }

    /// The means at [`Results::headline_percent`].
    pub fn headline_mean(&self) -> Option<&MeanEvaluation> {
        let percent = self.headline_percent();
        self.means.iter().find(|mean| Some(mean.outlier_percent) == percent)
    }

    /// Every evaluation with the name its line has in tables.
    pub(super) fn evaluations(&self) -> impl Iterator<Item = (String, &Evaluation)> {
        let classes = self
            .classes
            .iter()
            .flat_map(|c| c.evaluations.iter().map(move |e| (c.class.clone(), e)));
        let challenges =
            self.challenges.iter().map(|c| (format!("{}-{}", c.challenge, c.level), &c.evaluation));
        classes.chain(challenges)
    }

    /// Errors unless the numbers are possible and agree with each other.
    fn check(&self) -> Result<()> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(Error::invalid(format!(
                "schema version {}, expected {SCHEMA_VERSION}",
                self.schema_version
            )));
        }
        if self.classes.is_empty() && self.challenges.is_empty() {
            return Err(Error::invalid("no class and no challenge was evaluated"));
        }
        // Names go into messages, tables and names of folders.
        let names = self
            .classes
            .iter()
            .map(|c| &c.class)
            .chain(self.challenges.iter().map(|c| &c.challenge));
        if let Some(name) = names.into_iter().find(|name| name.chars().count() > MOST_NAME) {
            return Err(Error::invalid(format!(
                "a name of more than {MOST_NAME} letters: {}",
                shown(name)
            )));
        }
        for (name, evaluation) in self.evaluations() {
            for (part, m) in evaluation.parts() {
                let interval = m.auroc_95.map_or(vec![], |i| vec![i.low, i.high]);
                let shares = [m.auroc, m.aupr, m.f1, m.fpr95].into_iter().chain(interval);
                if let Some(bad) = shares.into_iter().find(|v| !(0.0..=1.0).contains(v)) {
                    return Err(Error::invalid(format!(
                        "{name}, {part}: a metric is {bad}, expected 0 to 1"
                    )));
                }
                if let Some(threshold) = m.f1_threshold.filter(|threshold| !threshold.is_finite()) {
                    return Err(Error::invalid(format!("{name}, {part}: threshold {threshold}")));
                }
                // An interval and a threshold are one model's; a deviation is that of several.
                if m.std.is_some() != self.over_seeds.is_some()
                    || m.std.is_some() == m.f1_threshold.is_some()
                {
                    let what = "expected a threshold for one seed, deviations for several";
                    return Err(Error::invalid(format!("{name}, {part}: {what}")));
                }
            }
        }
        for (name, evaluation) in self.evaluations() {
            evaluation.check_decisions().map_err(|e| Error::invalid(format!("{name}: {e}")))?;
        }
        for class in &self.classes {
            if let Some(v) = class.validation
                && (v.flagged > v.images || !v.threshold.is_finite())
            {
                return Err(Error::invalid(format!(
                    "{}: {} of {} validation images are above {}",
                    class.class, v.flagged, v.images, v.threshold
                )));
            }
        }
        let shares = self.classes.iter().filter_map(|class| class.explained_variance);
        if let Some(bad) = shares.into_iter().find(|share| !share.is_finite()) {
            return Err(Error::invalid(format!("{bad} of the variance is explained")));
        }
        let times = self.classes.iter().filter_map(|class| class.training_seconds);
        let times = times.chain(self.about.made.iter().map(|made| made.evaluation_seconds));
        if let Some(bad) = times.into_iter().find(|&time| !time.is_finite() || time < 0.0) {
            return Err(Error::invalid(format!("{bad} seconds, expected 0 or more")));
        }
        if !self.about.beta.is_finite() {
            return Err(Error::invalid(format!(
                "beta is {}, expected a finite number",
                self.about.beta
            )));
        }
        match &self.over_seeds {
            None if !agree(&numbers(&means(&self.classes)?, &[]), &numbers(&self.means, &[])) => {
                Err(Error::invalid("the means are not those of the classes"))
            }
            None => Ok(()),
            Some(over) => {
                over.runs.iter().try_for_each(Results::check)?;
                let expected = Results::over_seeds(&over.pairs())?;
                let all = |r: &Results| {
                    numbers(&r.means, &r.evaluations().map(|(_, e)| e).collect::<Vec<_>>())
                };
                let rows = |r: &Results| {
                    r.over_seeds.as_ref().map(|over| (over.seeds.clone(), over.numbers()))
                };
                let same = match (rows(&expected), rows(self)) {
                    (Some((seeds, expected)), Some((found, numbers))) => {
                        seeds == found && agree(&expected, &numbers)
                    }
                    _ => false,
                };
                if same && agree(&all(&expected), &all(self)) {
                    return Ok(());
                }
                Err(Error::invalid("the means and deviations are not those of the seeds"))
            }
        }
    }

    /// Writes `results.json` into `folder`, atomically.
    ///
    /// # Errors
    /// Numbers that are not finite or contradict each other; the file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.write_as(&folders::results(folder))
    }

    /// [`Results::write`] under another name.
    ///
    /// # Errors
    /// As [`Results::write`].
    pub fn write_as(&self, path: &Path) -> Result<()> {
        self.check()?;
        let json = serde_json::to_string_pretty(self)
            .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        write_atomic(path, (json + "\n").as_bytes())
    }

    /// Reads a `results.json`.
    ///
    /// # Errors
    /// Unreadable file; unknown, missing or contradicting entries; the message names the file.
    pub fn read(path: &Path) -> Result<Results> {
        Results::parse(&limits::read(path, limits::RESULTS, "results")?, path)
    }

    /// [`Results::read`] from text. `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Results::read`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Results> {
        let named =
            |e: &dyn std::fmt::Display| Error::invalid(format!("{}: {}", path.display(), shown(e)));
        // The version first: what another version has more or less is not the user's mistake.
        let head: Head = serde_json::from_slice(text).map_err(|e| named(&e))?;
        match head.schema_version {
            1 if head.over_seeds.is_some() => {
                let what = "schema version 1 with several seeds, whose headline was the first \
                            seed's alone";
                return Err(named(&format!("{what}: evaluate again (`gradcon eval`)")));
            }
            1..=SCHEMA_VERSION => {}
            other => {
                let what =
                    format!("schema version {other}, this build reads 1 to {SCHEMA_VERSION}");
                return Err(named(&format!(
                    "{what}: evaluate again (`gradcon eval`), or use the gradcon that wrote it"
                )));
            }
        }
        let mut results: Results = serde_json::from_slice(text).map_err(|e| named(&e))?;
        results.schema_version = SCHEMA_VERSION;
        results.check().map_err(|e| named(&e))?;
        Ok(results)
    }
}

/// What decides how the rest of a `results.json` is read.
#[derive(Deserialize)]
struct Head {
    schema_version: u32,
    over_seeds: Option<serde::de::IgnoredAny>,
}

/// The metrics of means and evaluations, in order.
fn numbers(means: &[MeanEvaluation], evaluations: &[&Evaluation]) -> Vec<f64> {
    let spread =
        |std: Option<Deviations>| std.map_or(vec![], |s| vec![s.auroc, s.aupr, s.f1, s.fpr95]);
    let mut all = vec![];
    for mean in means {
        all.push(mean.outlier_percent);
        for (_, m) in mean.parts() {
            all.extend([m.auroc, m.aupr, m.f1, m.fpr95].into_iter().chain(spread(m.std)));
        }
    }
    for e in evaluations {
        all.extend([e.outlier_percent, e.normal as f64, e.anomalous as f64]);
        for (_, m) in e.parts() {
            all.extend([m.auroc, m.aupr, m.f1, m.fpr95].into_iter().chain(spread(m.std)));
        }
    }
    all
}

/// Equal but for what rounding explains. (False for NaN.)
fn agree(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 1e-9)
}

pub(super) fn means(classes: &[ClassResult]) -> Result<Vec<MeanEvaluation>> {
    let Some(first) = classes.first() else { return Ok(Vec::new()) };
    let percents = |class: &ClassResult| {
        class.evaluations.iter().map(|e| e.outlier_percent).collect::<Vec<_>>()
    };
    let wanted = percents(first);
    let differs = |class: &&ClassResult| match (&percents(class)[..], &wanted[..]) {
        ([_], [_]) => false,
        (found, wanted) => found != wanted,
    };
    if let Some(other) = classes.iter().find(differs) {
        let (a, b) = (&first.class, &other.class);
        return Err(Error::invalid(format!(
            "classes {a} and {b} were evaluated at different outlier percentages"
        )));
    }
    let names = |e: &Evaluation| e.more.iter().map(|m| m.score.clone()).collect::<Vec<_>>();
    let all: Vec<Vec<String>> =
        classes.iter().flat_map(|class| class.evaluations.iter().map(names)).collect();
    if all.iter().any(|names| *names != all[0]) {
        return Err(Error::invalid("classes were evaluated by different scores"));
    }
    let mean = |(i, &first): (usize, &f64)| {
        let shares = classes.iter().map(|class| class.evaluations[i].outlier_percent);
        let outlier_percent = match shares.clone().all(|share| share == first) {
            true => first,
            false => (10.0 * shares.sum::<f64>() / classes.len() as f64).round() / 10.0,
        };
        let of = |part: &dyn Fn(&Evaluation) -> Metrics| {
            let metrics: Vec<Metrics> = classes.iter().map(|c| part(&c.evaluations[i])).collect();
            MeanMetrics::of(metrics.iter())
        };
        let further = |(k, score): (usize, &String)| {
            let metrics = of(&|e| e.more[k].metrics.clone())?;
            Ok(Named { score: score.clone(), metrics })
        };
        Ok(MeanEvaluation {
            outlier_percent,
            full: of(&|e| e.full.clone())?,
            reconstruction: of(&|e| e.reconstruction.clone())?,
            gradient: of(&|e| e.gradient.clone())?,
            more: all[0].iter().enumerate().map(further).collect::<Result<_>>()?,
        })
    };
    wanted.iter().enumerate().map(mean).collect()
}
