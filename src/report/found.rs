//! What evaluations found, in short: a number for each class and score, after how many epochs.

use serde::{Deserialize, Serialize};

use super::results::{MeanMetrics, Results};
use super::svg;
use super::tables::Challenges;
use crate::error::Result;

/// What stands for the mean over classes among class names.
pub const MEAN: &str = "mean";

/// What one score came to for one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The normal class, of CURE-TSR the challenge, or [`MEAN`].
    pub class: String,
    /// `full` (the score that images are ranked by), `reconstruction`, `gradient`, or another.
    pub score: String,
    /// Means over the seeds, with deviations where there are several.
    pub metrics: MeanMetrics,
}

/// What was found by class and score at the headline's share of outliers, with the means; of
/// CURE-TSR by challenge, as means over its levels.
///
/// # Errors
/// A number that is not finite.
pub fn scores_of(results: &Results) -> Result<Vec<Score>> {
    let score = |class: &str, score: &str, metrics: MeanMetrics| Score {
        class: class.into(),
        score: score.into(),
        metrics,
    };
    let mut scores = vec![];
    for (class, evaluation) in results.headline() {
        let parts = evaluation.parts().into_iter();
        scores.extend(parts.map(|(name, m)| score(&class.class, name, m.into())));
    }
    if let Some(mean) = results.headline_mean() {
        scores.extend(mean.parts().into_iter().map(|(name, m)| score(MEAN, name, *m)));
    }
    if let Some(challenges) = Challenges::of(results).filter(|_| scores.is_empty()) {
        let all: Vec<_> = challenges.all().collect();
        let rows = challenges.rows.iter().map(|(name, row)| (*name, row)).chain([(MEAN, &all)]);
        for (name, row) in rows {
            for (i, part) in challenges.parts().into_iter().enumerate() {
                let metrics = row.iter().flatten().filter_map(|e| Some(e.parts().get(i)?.1));
                scores.push(score(name, part, MeanMetrics::of(metrics)?));
            }
        }
    }
    Ok(scores)
}

/// What was found after some epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Epochs trained; what is scored is the best of them by validation.
    pub epochs: usize,
    /// By class and score, every score by its own name.
    pub scores: Vec<Score>,
}

impl After {
    /// What was found for the seeds, of one or as means over several.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn of(epochs: usize, results: &Results) -> Result<After> {
        // Earlier versions knew the paper's alone.
        let first = results.about.scores.first().map_or("paper", |formula| &formula.score);
        let mut scores = scores_of(results)?;
        scores.retain(|s| s.score == "full" || s.score != first);
        scores.iter_mut().filter(|s| s.score == "full").for_each(|s| s.score = first.to_string());
        Ok(After { epochs, scores })
    }

    /// What a score came to for a class.
    pub fn find(&self, class: &str, score: &str) -> Option<MeanMetrics> {
        self.scores.iter().find(|s| s.class == class && s.score == score).map(|s| s.metrics)
    }

    /// The classes, in order, without [`MEAN`].
    pub fn classes(&self) -> Vec<&str> {
        let mut classes: Vec<&str> = vec![];
        for score in self.scores.iter().filter(|score| score.class != MEAN) {
            if !classes.contains(&score.class.as_str()) {
                classes.push(&score.class);
            }
        }
        classes
    }
}

/// AUROCs as a plot takes them.
pub(super) fn points(cells: &[Option<MeanMetrics>]) -> Vec<svg::Point> {
    cells.iter().map(|m| m.map(|m| (m.auroc, m.std.map(|s| s.auroc)))).collect()
}
