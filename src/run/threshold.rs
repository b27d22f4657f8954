//! Scores above which images are called anomalous: quantiles of the validation images' scores.

use crate::error::{Error, Result};
use crate::method::detector::Detector;
use crate::method::readout::{PAPER, Rule};
use crate::report::metrics::quantile_of_sorted;
use crate::report::results::Formula;

/// Where a model's description has its threshold, the quantile that it is, and the score that it is
/// of: the paper's where that isn't said.
pub const THRESHOLD: &str = "threshold";
const QUANTILE: &str = "threshold_quantile";
const SCORE: &str = "score";

impl From<Rule> for Formula {
    fn from(rule: Rule) -> Formula {
        Formula { formula: rule.to_string(), score: rule.name }
    }
}

/// The quantile where nobody says otherwise.
pub const DEFAULT_QUANTILE: f64 = 0.95;

/// The name of the score that a model's threshold is of, by which it scores where nobody says
/// otherwise.
pub fn score_of(detector: &Detector) -> &str {
    detector.description.get(SCORE).map_or(PAPER, |score| score)
}

/// Stores the threshold of `rule`: this quantile of the validation images' scores. (Scores above it
/// are anomalous.)
///
/// # Errors
/// A detector without statistics; a validation score that is no finite number.
pub fn set(detector: &mut Detector, rule: &Rule, quantile: f64) -> Result<()> {
    let Some(threshold) = of_validation(detector, rule, quantile)? else {
        return Err(Error::invalid("a threshold takes the statistics of normal images"));
    };
    detector.description.insert(THRESHOLD.into(), threshold.to_string());
    detector.description.insert(QUANTILE.into(), quantile.to_string());
    match &rule.name[..] {
        PAPER => detector.description.remove(SCORE),
        name => detector.description.insert(SCORE.into(), name.into()),
    };
    Ok(())
}

/// Whether the stored threshold is that of `rule` and `quantile`. A change of beta is one of the
/// rule.
///
/// # Errors
/// A description with a senseless number.
pub fn is_of(detector: &Detector, rule: &Rule, quantile: f64) -> Result<bool> {
    Ok(score_of(detector) == rule.name
        && detector.number(QUANTILE)? == Some(quantile)
        && (rule.name != PAPER || *rule == Rule::paper(detector.beta()?)))
}

/// The threshold of a rule: the stored one if it is of that rule, else from the validation images'
/// parts by the stored quantile; none if the model has neither.
///
/// # Errors
/// A description with a senseless number; a validation score that is no finite number.
pub fn find(detector: &Detector, rule: &Rule) -> Result<Option<f64>> {
    let quantile = detector.number(QUANTILE)?.unwrap_or(DEFAULT_QUANTILE);
    let stored = detector.number(THRESHOLD)?;
    let own = score_of(detector) == rule.name;
    if stored.is_some() && own {
        return Ok(stored);
    }
    of_validation(detector, rule, quantile)
}

fn of_validation(detector: &Detector, rule: &Rule, quantile: f64) -> Result<Option<f64>> {
    let scores = detector.validation_scores(rule)?;
    Ok(scores.map(|scores| quantile_of_sorted(&scores, quantile)))
}
