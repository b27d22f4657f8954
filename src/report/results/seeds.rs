//! Several trainings that differ in their seed alone, as one result: every number is a mean over
//! the seeds with its sample standard deviation, and none is one seed's. The seeds' own numbers
//! stay beside them.

use serde::{Deserialize, Serialize};

use super::{
    About, ChallengeResult, ClassResult, Evaluation, Made, MeanEvaluation, MeanMetrics, Named,
    Results,
};
use crate::error::{Error, Result};
use crate::report::metrics::{Deviations, Metrics, mean_std};

/// The numbers behind means over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverSeeds {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The headline's AUROCs in short: one entry per inlier class, then `mean` for the mean over
    /// classes.
    pub rows: Vec<SeedRow>,
    /// What each seed's evaluation found, in the order of `seeds`.
    pub runs: Vec<Results>,
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

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Result<Spread> {
        match mean_std(&values.collect::<Vec<_>>())? {
            (mean, Some(std)) => Ok(Spread { mean, std }),
            (_, None) => Err(Error::invalid("one seed has no spread")),
        }
    }
}

impl OverSeeds {
    /// Gathers evaluations of the same classes on the same test images under at least two seeds.
    ///
    /// # Errors
    /// Fewer than two seeds, one that comes twice, or runs that are not comparable; the message
    /// says in what.
    pub fn of(runs: &[(u64, &Results)]) -> Result<OverSeeds> {
        let [(seed, first), rest @ ..] = runs else {
            return Err(Error::invalid("no seed was evaluated"));
        };
        if rest.is_empty() {
            return Err(Error::invalid("a spread over seeds needs at least two: got 1"));
        }
        for (i, (other, results)) in rest.iter().enumerate() {
            if runs[..=i].iter().any(|(earlier, _)| earlier == other) {
                return Err(Error::invalid(format!("seed {other} is there twice")));
            }
            if let Some(what) = difference(first, results) {
                return Err(Error::invalid(format!(
                    "the runs of seeds {seed} and {other} differ in {what}"
                )));
            }
        }
        let row = |class: String, aurocs: Vec<Vec<f64>>| {
            let part = |i: usize| Spread::of(aurocs.iter().map(|parts| parts[i]));
            Ok(SeedRow { class, full: part(0)?, reconstruction: part(1)?, gradient: part(2)? })
        };
        let mut rows = first
            .headline()
            .enumerate()
            .map(|(i, (class, _))| {
                let of = |r: &Results| {
                    r.headline()
                        .nth(i)
                        .map(|(_, e)| e.parts().iter().map(|(_, m)| m.auroc).collect())
                };
                row(class.class.clone(), runs.iter().filter_map(|(_, r)| of(r)).collect())
            })
            .collect::<Result<Vec<_>>>()?;
        let means: Vec<Vec<f64>> = runs
            .iter()
            .filter_map(|(_, r)| {
                Some(r.headline_mean()?.parts().iter().map(|(_, m)| m.auroc).collect())
            })
            .collect();
        if !means.is_empty() {
            rows.push(row("mean".to_string(), means)?);
        }
        let seeds = runs.iter().map(|(seed, _)| *seed).collect();
        Ok(OverSeeds {
            seeds,
            rows,
            runs: runs.iter().map(|(_, results)| (*results).clone()).collect(),
        })
    }

    /// The seeds with their results.
    pub fn pairs(&self) -> Vec<(u64, &Results)> {
        self.seeds.iter().copied().zip(&self.runs).collect()
    }

    /// The seeds as text.
    pub(crate) fn names(&self) -> String {
        self.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    }

    /// What the rows say, in order.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        let spreads = self.rows.iter().flat_map(|r| [r.full, r.reconstruction, r.gradient]);
        spreads.flat_map(|s| [s.mean, s.std]).collect()
    }
}

/// What keeps two runs from being one experiment under two seeds, if anything.
fn difference(a: &Results, b: &Results) -> Option<&'static str> {
    let sets = |r: &Results| -> Vec<(String, f64, usize, usize)> {
        r.evaluations().map(|(name, e)| (name, e.outlier_percent, e.normal, e.anomalous)).collect()
    };
    let differences = [
        (a.over_seeds.is_some() || b.over_seeds.is_some(), "that one is a mean over seeds already"),
        (a.about.dataset != b.about.dataset, "their data set"),
        (
            a.about.data_sha256 != b.about.data_sha256,
            "the data they were evaluated on (data_sha256)",
        ),
        (a.about.model != b.about.model, "their model"),
        (a.about.beta != b.about.beta, "beta"),
        (a.about.scores != b.about.scores, "their scores"),
        (sets(a) != sets(b), "their classes, outlier percentages or numbers of test images"),
    ];
    differences.iter().find(|(differ, _)| *differ).map(|(_, what)| *what)
}

impl Results {
    /// One result of several trainings that differ in their seed: means over the seeds with their
    /// sample standard deviations, and the seeds' own numbers.
    ///
    /// # Errors
    /// As [`OverSeeds::of`].
    pub fn over_seeds(runs: &[(u64, &Results)]) -> Result<Results> {
        let over_seeds = OverSeeds::of(runs)?;
        let runs: Vec<&Results> = runs.iter().map(|(_, results)| *results).collect();
        let first = runs[0];
        let classes = first.classes.iter().enumerate().map(|(i, class)| {
            let of = |r: &'_ Results| r.classes[i].clone();
            let all: Vec<ClassResult> = runs.iter().map(|r| of(r)).collect();
            let evaluations = (0..class.evaluations.len())
                .map(|k| evaluation(all.iter().map(|c| &c.evaluations[k])));
            Ok(ClassResult {
                class: class.class.clone(),
                epochs: common(all.iter().map(|c| c.epochs)).flatten(),
                best_epoch: common(all.iter().map(|c| c.best_epoch)).flatten(),
                stopped_early: common(all.iter().map(|c| c.stopped_early)).flatten(),
                explained_variance: None,
                tiles: common(all.iter().map(|c| c.tiles)).flatten(),
                training_seconds: None,
                validation: None,
                evaluations: evaluations.collect::<Result<_>>()?,
            })
        });
        let means = (0..first.means.len()).map(|i| {
            let part = |of: fn(&MeanEvaluation) -> &MeanMetrics| {
                mean_metrics(runs.iter().map(|r| of(&r.means[i])))
            };
            let further = |(k, named): (usize, &Named<MeanMetrics>)| {
                let metrics = mean_metrics(runs.iter().map(|r| &r.means[i].more[k].metrics))?;
                Ok(Named { score: named.score.clone(), metrics })
            };
            Ok(MeanEvaluation {
                outlier_percent: first.means[i].outlier_percent,
                full: part(|m| &m.full)?,
                reconstruction: part(|m| &m.reconstruction)?,
                gradient: part(|m| &m.gradient)?,
                more: first.means[i].more.iter().enumerate().map(further).collect::<Result<_>>()?,
            })
        });
        let challenges = first.challenges.iter().enumerate().map(|(i, c)| {
            let evaluation = evaluation(runs.iter().map(|r| &r.challenges[i].evaluation))?;
            Ok(ChallengeResult { evaluation, ..c.clone() })
        });
        Ok(Results {
            schema_version: first.schema_version,
            about: about(&runs),
            classes: classes.collect::<Result<_>>()?,
            means: means.collect::<Result<_>>()?,
            challenges: challenges.collect::<Result<_>>()?,
            over_seeds: Some(over_seeds),
        })
    }
}

/// What all seeds share; what differs (a device, a version) is listed.
fn about(runs: &[&Results]) -> About {
    let listed = |of: fn(&About) -> &String| {
        let mut all: Vec<&str> = runs.iter().map(|r| of(&r.about).as_str()).collect();
        all.dedup();
        all.join("; ")
    };
    About {
        gradcon_version: listed(|a| &a.gradcon_version),
        // RFC 3339 in UTC sorts as time does.
        date: runs.iter().map(|r| r.about.date.clone()).max().unwrap_or_default(),
        device: listed(|a| &a.device),
        seed: None,
        made: made(runs),
        ..runs[0].about.clone()
    }
}

/// How all of them came about: the seed is the one setting that they don't share.
fn made(runs: &[&Results]) -> Option<Made> {
    let all: Vec<&Made> = runs.iter().filter_map(|r| r.about.made.as_ref()).collect();
    let mut made = (*all.first()?).clone();
    made.settings.remove("seed");
    made.evaluation_seconds = all.iter().map(|made| made.evaluation_seconds).sum();
    made.trained_on = all.iter().flat_map(|made| made.trained_on.clone()).collect();
    made.trained_on.sort();
    made.trained_on.dedup();
    Some(made)
}

/// The value that all have.
fn common<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|v| v == first).then_some(first)
}

fn evaluation<'a>(seeds: impl Iterator<Item = &'a Evaluation> + Clone) -> Result<Evaluation> {
    let part = |of: fn(&Evaluation) -> &Metrics| metrics(seeds.clone().map(of));
    let (full, reconstruction, gradient) =
        (part(|e| &e.full)?, part(|e| &e.reconstruction)?, part(|e| &e.gradient)?);
    match seeds.clone().next() {
        Some(first) => {
            let further = |(k, named): (usize, &Named<Metrics>)| {
                let metrics = metrics(seeds.clone().map(|e| &e.more[k].metrics))?;
                Ok(Named { score: named.score.clone(), metrics })
            };
            let more = first.more.iter().enumerate().map(further).collect::<Result<_>>()?;
            // Each seed has a threshold of its own.
            let (at_threshold, kinds, pixels) = (None, vec![], None);
            let Evaluation { outlier_percent, normal, anomalous, .. } = *first;
            Ok(Evaluation {
                outlier_percent,
                normal,
                anomalous,
                full,
                reconstruction,
                gradient,
                more,
                at_threshold,
                kinds,
                pixels,
            })
        }
        None => Err(Error::invalid("no seed was evaluated")),
    }
}

fn metrics<'a>(seeds: impl Iterator<Item = &'a Metrics> + Clone) -> Result<Metrics> {
    let MeanMetrics { auroc, aupr, f1, fpr95, std } =
        spread_metrics(seeds.map(|m| [m.auroc, m.aupr, m.f1, m.fpr95]))?;
    Ok(Metrics { auroc, auroc_95: None, aupr, f1, f1_threshold: None, fpr95, std })
}

fn mean_metrics<'a>(seeds: impl Iterator<Item = &'a MeanMetrics> + Clone) -> Result<MeanMetrics> {
    spread_metrics(seeds.map(|m| [m.auroc, m.aupr, m.f1, m.fpr95]))
}

/// Means and deviations of AUROC, AUPR, F1 and FPR95.
fn spread_metrics(seeds: impl Iterator<Item = [f64; 4]> + Clone) -> Result<MeanMetrics> {
    let spread = |i: usize| Spread::of(seeds.clone().map(|values| values[i]));
    let (auroc, aupr, f1, fpr95) = (spread(0)?, spread(1)?, spread(2)?, spread(3)?);
    let std = Deviations { auroc: auroc.std, aupr: aupr.std, f1: f1.std, fpr95: fpr95.std };
    Ok(MeanMetrics {
        auroc: auroc.mean,
        aupr: aupr.mean,
        f1: f1.mean,
        fpr95: fpr95.mean,
        std: Some(std),
    })
}
