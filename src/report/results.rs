//! `results.json`: what an evaluation found. The same content as `results.csv` (long form) and `results.md` (the paper's table)
//! is in tables.rs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::metrics::{Metrics, mean_std};
use super::scores::ScoreRow;
use crate::error::{Error, Result};
use crate::limits::{self, shown};

/// The version of the file's layout this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A whole evaluation: one model per inlier class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Where, when and with what the numbers were made.
    pub about: About,
    /// One entry per inlier class, in the data set's order; all have the same outlier percentages.
    pub classes: Vec<ClassResult>,
    /// Means over `classes`, one entry per outlier percentage; empty without classes.
    pub means: Vec<MeanEvaluation>,
    /// Spread over several seeds, where several were run.
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
    /// Weight of the cosine in the anomaly score `mse - beta * cos`.
    pub beta: f64,
    /// Seed of the training run, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Folder of the prepared data that was evaluated, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// SHA-256 of that folder's `manifest.json`: which data these numbers are of, wherever the folder is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
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
    /// One entry per outlier percentage, rising.
    pub evaluations: Vec<Evaluation>,
}

/// One test set: the full score and its two parts alone.
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
}

impl Evaluation {
    /// The three scores' metrics from scored images; `bootstrap` = (resamples, seed) adds intervals to the AUROCs.
    ///
    /// # Errors
    /// A row without a label; otherwise as [`Metrics::of`].
    pub fn of(outlier_percent: f64, rows: &[ScoreRow], bootstrap: Option<(usize, u64)>) -> Result<Evaluation> {
        let labels = truth(rows)?;
        let metrics = |score: fn(&ScoreRow) -> f64| {
            let scores: Vec<f64> = rows.iter().map(score).collect();
            Metrics::of(&scores, &labels, bootstrap)
        };
        let anomalous = labels.iter().filter(|&&label| label).count();
        Ok(Evaluation {
            outlier_percent,
            normal: labels.len() - anomalous,
            anomalous,
            full: metrics(|row| row.score)?,
            reconstruction: metrics(|row| row.mse)?,
            gradient: metrics(|row| -row.cos)?,
        })
    }

    /// The three scores with the names they have in tables.
    pub fn parts(&self) -> [(&'static str, &Metrics); 3] {
        [("full", &self.full), ("reconstruction", &self.reconstruction), ("gradient", &self.gradient)]
    }
}

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
}

/// [`Metrics`] averaged over inlier classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

impl MeanMetrics {
    fn of<'a>(metrics: impl Iterator<Item = &'a Metrics> + Clone) -> Result<MeanMetrics> {
        let mean = |value: fn(&Metrics) -> f64| -> Result<f64> {
            Ok(mean_std(&metrics.clone().map(value).collect::<Vec<_>>())?.0)
        };
        Ok(MeanMetrics {
            auroc: mean(|m| m.auroc)?,
            aupr: mean(|m| m.aupr)?,
            f1: mean(|m| m.f1)?,
            fpr95: mean(|m| m.fpr95)?,
        })
    }
}

/// The AUROC's spread over training runs that differ in their seed, at the headline outlier percentage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverSeeds {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// One entry per inlier class, then `mean` for the mean over classes.
    pub rows: Vec<SeedRow>,
}

/// One line of [`OverSeeds`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedRow {
    /// Inlier class, or `mean`.
    pub class: String,
    /// AUROC of the anomaly score.
    pub full: Spread,
    /// AUROC of the reconstruction error alone.
    pub reconstruction: Spread,
    /// AUROC of the negative mean cosine alone.
    pub gradient: Spread,
}

/// Mean and sample standard deviation (divisor n - 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

impl OverSeeds {
    /// Gathers evaluations of the same classes under at least two seeds.
    ///
    /// # Errors
    /// Fewer than two seeds, or runs of different classes.
    pub fn of(runs: &[(u64, &Results)]) -> Result<OverSeeds> {
        let [(_, first), _, ..] = runs else {
            return Err(Error::invalid(format!("a spread over seeds needs at least two: got {}", runs.len())));
        };
        let names = |results: &Results| results.classes.iter().map(|c| c.class.clone()).collect::<Vec<_>>();
        let (classes, percent) = (names(first), first.headline_percent());
        let differs = |results: &Results| names(results) != classes || results.headline_percent() != percent;
        if let Some((seed, _)) = runs.iter().find(|(_, results)| differs(results)) {
            let what = "has other classes or outlier percentages than the first";
            return Err(Error::invalid(format!("the run of seed {seed} {what}")));
        }
        // Three AUROCs per run and class; the mean over classes is one more class.
        let table: Vec<Vec<[f64; 3]>> = runs
            .iter()
            .map(|(_, results)| {
                let mut rows: Vec<[f64; 3]> =
                    results.headline().map(|(_, e)| e.parts().map(|(_, metrics)| metrics.auroc)).collect();
                let mean = results.headline_mean();
                rows.extend(mean.map(|m| [m.full.auroc, m.reconstruction.auroc, m.gradient.auroc]));
                rows
            })
            .collect();
        let spread = |row: usize, part: usize| -> Result<Spread> {
            let values: Vec<f64> = table.iter().filter_map(|run| run.get(row)).map(|parts| parts[part]).collect();
            match mean_std(&values)? {
                (mean, Some(std)) => Ok(Spread { mean, std }),
                (_, None) => Err(Error::invalid("a spread over seeds needs an evaluation of every class in every run")),
            }
        };
        let rows = classes.into_iter().chain(["mean".to_owned()]).enumerate().map(|(row, class)| {
            let (full, reconstruction, gradient) = (spread(row, 0)?, spread(row, 1)?, spread(row, 2)?);
            Ok(SeedRow { class, full, reconstruction, gradient })
        });
        Ok(OverSeeds { seeds: runs.iter().map(|(seed, _)| *seed).collect(), rows: rows.collect::<Result<_>>()? })
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
    pub fn new(about: About, classes: Vec<ClassResult>, challenges: Vec<ChallengeResult>) -> Result<Results> {
        let means = means(&classes)?;
        let results = Results { schema_version: SCHEMA_VERSION, about, classes, means, over_seeds: None, challenges };
        results.check()?;
        Ok(results)
    }

    /// The outlier percentage that headline tables show: 50 where evaluated, else the highest.
    pub fn headline_percent(&self) -> Option<f64> {
        let percents = || self.means.iter().map(|mean| mean.outlier_percent);
        percents().find(|&p| p == 50.0).or_else(|| percents().reduce(f64::max))
    }

    /// Every class with its evaluation at [`Results::headline_percent`].
    pub fn headline(&self) -> impl Iterator<Item = (&ClassResult, &Evaluation)> {
        let percent = self.headline_percent();
        self.classes.iter().filter_map(move |class| {
            class.evaluations.iter().find(|e| Some(e.outlier_percent) == percent).map(|e| (class, e))
        })
    }

    /// The means at [`Results::headline_percent`].
    pub fn headline_mean(&self) -> Option<&MeanEvaluation> {
        let percent = self.headline_percent();
        self.means.iter().find(|mean| Some(mean.outlier_percent) == percent)
    }

    /// Every evaluation with the name its line has in tables.
    pub(super) fn evaluations(&self) -> impl Iterator<Item = (String, &Evaluation)> {
        let classes = self.classes.iter().flat_map(|c| c.evaluations.iter().map(move |e| (c.class.clone(), e)));
        let challenges = self.challenges.iter().map(|c| (format!("{}-{}", c.challenge, c.level), &c.evaluation));
        classes.chain(challenges)
    }

    fn check(&self) -> Result<()> {
        if self.schema_version != SCHEMA_VERSION {
            let got = self.schema_version;
            return Err(Error::invalid(format!("schema version {got}, this build reads {SCHEMA_VERSION}")));
        }
        if self.classes.is_empty() && self.challenges.is_empty() {
            return Err(Error::invalid("no class and no challenge was evaluated"));
        }
        for (name, evaluation) in self.evaluations() {
            for (part, m) in evaluation.parts() {
                let interval = m.auroc_95.map_or(vec![], |i| vec![i.low, i.high]);
                let shares = [m.auroc, m.aupr, m.f1, m.fpr95].into_iter().chain(interval);
                if let Some(bad) = shares.into_iter().find(|v| !(0.0..=1.0).contains(v)) {
                    return Err(Error::invalid(format!("{name}, {part}: a metric is {bad}, expected 0 to 1")));
                }
                if !m.f1_threshold.is_finite() {
                    return Err(Error::invalid(format!("{name}, {part}: threshold {}", m.f1_threshold)));
                }
            }
        }
        let spreads = self.over_seeds.iter().flat_map(|s| &s.rows).flat_map(|r| [r.full, r.reconstruction, r.gradient]);
        if let Some(bad) = spreads.flat_map(|s| [s.mean, s.std]).find(|v| !(0.0..=1.0).contains(v)) {
            return Err(Error::invalid(format!("over_seeds: an AUROC is {bad}, expected 0 to 1")));
        }
        if !self.about.beta.is_finite() {
            return Err(Error::invalid(format!("beta is {}, expected a finite number", self.about.beta)));
        }
        let agree = |a: &MeanMetrics, b: &MeanMetrics| {
            let pairs = [(a.auroc, b.auroc), (a.aupr, b.aupr), (a.f1, b.f1), (a.fpr95, b.fpr95)];
            pairs.iter().all(|(x, y)| (x - y).abs() <= 1e-9)
        };
        let expected = means(&self.classes)?;
        let same = |(a, b): (&MeanEvaluation, &MeanEvaluation)| {
            a.outlier_percent == b.outlier_percent
                && agree(&a.full, &b.full)
                && agree(&a.reconstruction, &b.reconstruction)
                && agree(&a.gradient, &b.gradient)
        };
        if expected.len() != self.means.len() || !expected.iter().zip(&self.means).all(same) {
            return Err(Error::invalid("the means are not those of the classes"));
        }
        Ok(())
    }

    /// The content of `results.md`.
    pub fn markdown(&self) -> String {
        super::tables::markdown(self)
    }

    /// Writes `results.json`, `results.csv` and `results.md` into `folder`, each atomically.
    ///
    /// # Errors
    /// Numbers that are not finite or contradict each other; the file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.check()?;
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::invalid(format!("results.json: {e}")))?;
        write_atomic(&folder.join("results.json"), (json + "\n").as_bytes())?;
        write_atomic(&folder.join("results.csv"), &super::tables::csv(self)?)?;
        write_atomic(&folder.join("results.md"), self.markdown().as_bytes())
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
        let named = |e: &dyn std::fmt::Display| Error::invalid(format!("{}: {}", path.display(), shown(e)));
        let results: Results = serde_json::from_slice(text).map_err(|e| named(&e))?;
        results.check().map_err(|e| named(&e))?;
        Ok(results)
    }
}

fn means(classes: &[ClassResult]) -> Result<Vec<MeanEvaluation>> {
    let Some(first) = classes.first() else { return Ok(Vec::new()) };
    let percents = |class: &ClassResult| class.evaluations.iter().map(|e| e.outlier_percent).collect::<Vec<_>>();
    let wanted = percents(first);
    if let Some(other) = classes.iter().find(|class| percents(class) != wanted) {
        let (a, b) = (&first.class, &other.class);
        return Err(Error::invalid(format!("classes {a} and {b} were evaluated at different outlier percentages")));
    }
    let mean = |(i, &outlier_percent): (usize, &f64)| {
        let of =
            |part: fn(&Evaluation) -> &Metrics| MeanMetrics::of(classes.iter().map(move |c| part(&c.evaluations[i])));
        Ok(MeanEvaluation {
            outlier_percent,
            full: of(|e| &e.full)?,
            reconstruction: of(|e| &e.reconstruction)?,
            gradient: of(|e| &e.gradient)?,
        })
    };
    wanted.iter().enumerate().map(mean).collect()
}
