//! Detection metrics from anomaly scores: higher score = more anomalous, `true` label = anomalous.
//!
//! Definitions are scikit-learn's (`roc_auc_score`, `average_precision_score`, `roc_curve`) with
//! the anomalous images as the positive class; agreement to 1e-12 is tested on random and tied
//! scores. An image counts as flagged at a threshold when its score is greater than or equal to it.

use std::cmp::Ordering;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many resamples [`bootstrap_interval`] takes unless told otherwise.
pub const BOOTSTRAP_RESAMPLES: usize = 1000;

/// What comes of calling images anomalous whose score is above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// The threshold.
    pub threshold: f64,
    /// Anomalous images above it.
    pub true_positives: usize,
    /// Normal images above it.
    pub false_positives: usize,
    /// Normal images at or below it.
    pub true_negatives: usize,
    /// Anomalous images at or below it.
    pub false_negatives: usize,
}

impl Confusion {
    /// Counts; `true` = anomalous.
    ///
    /// ```
    /// use gradcon::report::metrics::Confusion;
    ///
    /// let found = [(3.0, true), (2.0, false), (2.5, true), (2.0, true), (0.0, false)];
    /// let c = Confusion::of(2.0, found.into_iter());
    /// assert_eq!([c.true_positives, c.false_positives], [2, 0]); // 2.0 is not above it
    /// assert_eq!((c.precision(), c.recall(), c.f1()), (Some(1.0), 2.0 / 3.0, 0.8));
    /// assert_eq!(c.f1_of_all(), 0.75); // of calling all five anomalous
    /// ```
    pub fn of(threshold: f64, images: impl Iterator<Item = (f64, bool)>) -> Confusion {
        let mut counts = [[0; 2]; 2];
        images.for_each(|(score, truth)| {
            counts[usize::from(truth)][usize::from(score > threshold)] += 1;
        });
        let [[true_negatives, false_positives], [false_negatives, true_positives]] = counts;
        Confusion { threshold, true_positives, false_positives, true_negatives, false_negatives }
    }

    /// Share of the flagged images that are anomalous; none if nothing is flagged. Shown, like the
    /// others, at [`Confusion::of`].
    pub fn precision(&self) -> Option<f64> {
        let flagged = self.true_positives + self.false_positives;
        (flagged > 0).then(|| self.true_positives as f64 / flagged as f64)
    }

    /// Share of the anomalous images that are flagged.
    pub fn recall(&self) -> f64 {
        self.true_positives as f64 / (self.true_positives + self.false_negatives) as f64
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        let errors = self.false_positives + self.false_negatives;
        (2 * self.true_positives) as f64 / (2 * self.true_positives + errors) as f64
    }

    /// F1 of calling every image anomalous, which no threshold should be worse than.
    pub fn f1_of_all(&self) -> f64 {
        let anomalous = self.true_positives + self.false_negatives;
        let normal = self.true_negatives + self.false_positives;
        (2 * anomalous) as f64 / (2 * anomalous + normal) as f64
    }
}

/// All images that share one score, counted by truth.
struct Level {
    score: f64,
    normal: u64,
    anomalous: u64,
}

/// Checks the input and groups it by score, highest score first.
fn levels(scores: &[f64], labels: &[bool]) -> Result<Vec<Level>> {
    if scores.len() != labels.len() {
        return Err(Error::invalid(format!("{} scores but {} labels", scores.len(), labels.len())));
    }
    if let Some(i) = scores.iter().position(|s| !s.is_finite()) {
        return Err(Error::invalid(format!(
            "score {i} is {}: expected a finite number",
            scores[i]
        )));
    }
    let anomalous = labels.iter().filter(|&&l| l).count();
    if anomalous == 0 || anomalous == labels.len() {
        return Err(Error::invalid(format!(
            "metrics need normal and anomalous images: got {} normal and {anomalous} anomalous",
            labels.len() - anomalous
        )));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    let mut out: Vec<Level> = Vec::new();
    for i in order {
        // `==`, not bits: 0.0 and -0.0 are one level.
        if out.last().is_none_or(|level| level.score != scores[i]) {
            out.push(Level { score: scores[i], normal: 0, anomalous: 0 });
        }
        if let Some(level) = out.last_mut() {
            if labels[i] { level.anomalous += 1 } else { level.normal += 1 }
        }
    }
    Ok(out)
}

/// (normal, anomalous) images in total.
fn totals(levels: &[Level]) -> (u64, u64) {
    levels.iter().fold((0, 0), |(n, a), level| (n + level.normal, a + level.anomalous))
}

/// The Mann-Whitney statistic over its maximum, counted in integers so that only the last division
/// rounds.
pub(super) fn auroc_of_counts(counts: impl Iterator<Item = (u64, u64)>) -> f64 {
    let (mut above, mut normals, mut twice_wins) = (0u64, 0u64, 0u64);
    for (normal, anomalous) in counts {
        // A normal image loses to every anomalous image above it and to half of those at its own
        // score.
        twice_wins += normal * (2 * above + anomalous);
        above += anomalous;
        normals += normal;
    }
    twice_wins as f64 / (2 * normals * above) as f64
}

/// Area under the ROC curve: the probability that an anomalous image scores higher than a normal
/// one, ties counting one half (mid-ranks).
///
/// # Errors
/// Different lengths, a score that is not finite, or only one class among the labels.
pub fn auroc(scores: &[f64], labels: &[bool]) -> Result<f64> {
    Ok(auroc_of_counts(levels(scores, labels)?.iter().map(|level| (level.normal, level.anomalous))))
}

/// Area under the precision-recall curve as the step-wise sum `sum_k (R_k - R_{k-1}) P_k` over
/// falling thresholds.
///
/// # Errors
/// As [`auroc`].
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Result<f64> {
    Ok(average_precision_of(&levels(scores, labels)?))
}

fn average_precision_of(levels: &[Level]) -> f64 {
    let (_, anomalous) = totals(levels);
    let (mut tp, mut flagged, mut sum) = (0u64, 0u64, 0.0);
    for level in levels {
        tp += level.anomalous;
        flagged += level.anomalous + level.normal;
        sum += level.anomalous as f64 * (tp as f64 / flagged as f64);
    }
    sum / anomalous as f64
}

/// The best F1 over all thresholds and the threshold that reaches it (the highest one where several
/// do).
///
/// # Errors
/// As [`auroc`].
pub fn f1_max(scores: &[f64], labels: &[bool]) -> Result<(f64, f64)> {
    Ok(f1_max_of(&levels(scores, labels)?))
}

fn f1_max_of(levels: &[Level]) -> (f64, f64) {
    let (_, anomalous) = totals(levels);
    let (mut tp, mut flagged, mut best) = (0u64, 0u64, (0.0, levels[0].score));
    for level in levels {
        tp += level.anomalous;
        flagged += level.anomalous + level.normal;
        let f1 = 2.0 * tp as f64 / (flagged + anomalous) as f64;
        if f1 > best.0 {
            best = (f1, level.score);
        }
    }
    best
}

/// The lowest false positive rate at which at least the share `tpr` (0 to 1) of the anomalous
/// images is flagged. `fpr_at_tpr(scores, labels, 0.95)` is the usual FPR95.
///
/// # Errors
/// As [`auroc`], or `tpr` outside (0, 1].
pub fn fpr_at_tpr(scores: &[f64], labels: &[bool], tpr: f64) -> Result<f64> {
    if !(tpr > 0.0 && tpr <= 1.0) {
        return Err(Error::invalid(format!(
            "true positive rate {tpr}: expected more than 0 and at most 1"
        )));
    }
    Ok(fpr_at_tpr_of(&levels(scores, labels)?, tpr))
}

fn fpr_at_tpr_of(levels: &[Level], tpr: f64) -> f64 {
    let (normal, anomalous) = totals(levels);
    let (mut fp, mut tp) = (0u64, 0u64);
    for level in levels {
        fp += level.normal;
        tp += level.anomalous;
        if tp as f64 / anomalous as f64 >= tpr {
            break;
        }
    }
    fp as f64 / normal as f64
}

/// One operating point of a detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Share of the normal images that is flagged.
    pub fpr: f64,
    /// Share of the anomalous images that is flagged.
    pub tpr: f64,
    /// Images with this score or a higher one are flagged; infinite at the first point.
    pub threshold: f64,
}

/// The ROC curve from (0, 0) to (1, 1), as scikit-learn's `roc_curve` gives it by default.
///
/// There is one point per distinct score, behind the leading (0, 0). As with
/// `drop_intermediate=True`, a point is left out when the steps into and out of it are the same
/// number of normal and the same number of anomalous images: it lies on a straight line. The first
/// and the last distinct score always stay, and so do points on a line whose two steps differ in
/// length.
///
/// # Errors
/// As [`auroc`].
pub fn roc_curve(scores: &[f64], labels: &[bool]) -> Result<Vec<RocPoint>> {
    let levels = levels(scores, labels)?;
    let (normal, anomalous) = totals(&levels);
    let (mut fp, mut tp) = (0u64, 0u64);
    let mut points = vec![RocPoint { fpr: 0.0, tpr: 0.0, threshold: f64::INFINITY }];
    for (i, level) in levels.iter().enumerate() {
        fp += level.normal;
        tp += level.anomalous;
        let same_step =
            |next: &Level| (next.normal, next.anomalous) == (level.normal, level.anomalous);
        if i == 0 || levels.get(i + 1).is_none_or(|next| !same_step(next)) {
            points.push(RocPoint {
                fpr: fp as f64 / normal as f64,
                tpr: tp as f64 / anomalous as f64,
                threshold: level.score,
            });
        }
    }
    Ok(points)
}

/// Lower and upper end of a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// 95 % percentile bootstrap interval of the AUROC.
///
/// Normal and anomalous images are resampled apart (stratified), so every resample keeps both
/// classes at their sizes. The ends are the 2.5 % and 97.5 % quantiles (linear interpolation) of
/// `resamples` AUROCs; the same `seed` gives the same interval on every platform. One resample
/// costs one pass over the images: nothing is sorted again.
///
/// # Errors
/// As [`auroc`], or no resamples.
pub fn bootstrap_interval(
    scores: &[f64],
    labels: &[bool],
    resamples: usize,
    seed: u64,
) -> Result<Interval> {
    if resamples == 0 {
        return Err(Error::invalid("a bootstrap interval needs at least one resample"));
    }
    Ok(bootstrap_of(&levels(scores, labels)?, resamples, seed))
}

fn bootstrap_of(levels: &[Level], resamples: usize, seed: u64) -> Interval {
    let images = |count: fn(&Level) -> u64| -> Vec<usize> {
        let repeat = |(i, level)| std::iter::repeat_n(i, count(level) as usize);
        levels.iter().enumerate().flat_map(repeat).collect()
    };
    let (normal, anomalous) = (images(|level| level.normal), images(|level| level.anomalous));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = vec![(0u64, 0u64); levels.len()];
    let mut aurocs: Vec<f64> = (0..resamples)
        .map(|_| {
            counts.fill((0, 0));
            for _ in 0..normal.len() {
                counts[normal[rng.random_range(0..normal.len() as u64) as usize]].0 += 1;
            }
            for _ in 0..anomalous.len() {
                counts[anomalous[rng.random_range(0..anomalous.len() as u64) as usize]].1 += 1;
            }
            auroc_of_counts(counts.iter().copied())
        })
        .collect();
    aurocs.sort_unstable_by(f64::total_cmp);
    Interval { low: quantile_of_sorted(&aurocs, 0.025), high: quantile_of_sorted(&aurocs, 0.975) }
}

/// The `q` quantile of values in rising order, interpolated linearly between neighbours (NumPy's
/// default). `sorted` must not be empty and `q` lies in [0, 1].
pub fn quantile_of_sorted(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (at - low as f64) * (sorted[high] - sorted[low])
}

/// Mean and sample standard deviation (divisor n - 1); one value has no deviation.
///
/// # Errors
/// No values, or one that is not finite.
pub fn mean_std(values: &[f64]) -> Result<(f64, Option<f64>)> {
    if values.is_empty() {
        return Err(Error::invalid("the mean of no values does not exist"));
    }
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::invalid(format!(
            "value {i} is {}: expected a finite number",
            values[i]
        )));
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Ok((mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())))
}

/// Every metric of one set of scores, as reports and result files carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// 95 % bootstrap interval of the AUROC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc_95: Option<Interval>,
    /// Area under the precision-recall curve (average precision).
    pub aupr: f64,
    /// F1 at its best threshold.
    pub f1: f64,
    /// The threshold of `f1`: images with this score or a higher one are flagged. Means over seeds
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1_threshold: Option<f64>,
    /// False positive rate at 95 % true positive rate.
    pub fpr95: f64,
    /// Of means over several seeds: how far the seeds lie apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Deviations>,
}

/// Sample standard deviations (divisor n - 1) of the numbers of [`Metrics`] over several seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviations {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// Area under the precision-recall curve.
    pub aupr: f64,
    /// F1 at each seed's best threshold.
    pub f1: f64,
    /// False positive rate at 95 % true positive rate.
    pub fpr95: f64,
}

impl Metrics {
    /// All metrics of `scores`; with `bootstrap = Some((resamples, seed))` also the interval of the
    /// AUROC.
    ///
    /// # Errors
    /// As [`auroc`] and [`bootstrap_interval`].
    pub fn of(scores: &[f64], labels: &[bool], bootstrap: Option<(usize, u64)>) -> Result<Metrics> {
        let auroc_95 = match bootstrap {
            Some((resamples, seed)) => Some(bootstrap_interval(scores, labels, resamples, seed)?),
            None => None,
        };
        let levels = levels(scores, labels)?;
        let (f1, f1_threshold) = f1_max_of(&levels);
        Ok(Metrics {
            auroc: auroc_of_counts(levels.iter().map(|level| (level.normal, level.anomalous))),
            auroc_95,
            aupr: average_precision_of(&levels),
            f1,
            f1_threshold: Some(f1_threshold),
            fpr95: fpr_at_tpr_of(&levels, 0.95),
            std: None,
        })
    }
}
