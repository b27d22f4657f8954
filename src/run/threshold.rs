//! Scores above which images are called anomalous, from the validation images' scores: a quantile of
//! them, or what keeps a false-positive rate.

use std::fmt;

use crate::error::{Error, Result};
use crate::method::detector::Detector;
use crate::method::readout::{PAPER, Rule};
use crate::report::metrics::quantile_of_sorted;
use crate::report::results::Formula;

/// Where a model's description has its threshold, the quantile that it is, and the score that it is
/// of: the paper's where that isn't said.
pub const THRESHOLD: &str = "threshold";
const QUANTILE: &str = "threshold_quantile";
const RATE: &str = "threshold_fpr";
const SCORE: &str = "score";

impl From<Rule> for Formula {
    fn from(rule: Rule) -> Formula {
        Formula { formula: rule.to_string(), score: rule.name }
    }
}

/// The quantile where nobody says otherwise.
pub const DEFAULT_QUANTILE: f64 = 0.95;

/// What a threshold is to come to on normal images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// This quantile of the validation images' scores, interpolated between neighbours.
    Quantile(f64),
    /// At most this rate of false positives: the expected share of new normal images above it, if
    /// they are drawn as the validation images were. That is one of these images' scores.
    Fpr(f64),
}

impl Level {
    /// The threshold by validation scores in rising order, of which there is at least one.
    pub fn of_sorted(self, scores: &[f64]) -> f64 {
        match self {
            Level::Quantile(quantile) => quantile_of_sorted(scores, quantile),
            Level::Fpr(rate) => {
                // A new score is above the k-th of n with probability (n + 1 - k) / (n + 1): its
                // place among all n + 1 is any of them.
                let n = scores.len();
                let above = (rate * (n + 1) as f64 * (1.0 + f64::EPSILON)).floor() as usize;
                scores[(n + 1).saturating_sub(above).clamp(1, n) - 1]
            }
        }
    }

    /// What `images` validation images can't promise, in words: a rate below one in n + 1, for which
    /// even the highest of their scores is too low.
    pub fn unkept(self, images: usize) -> Option<String> {
        let Level::Fpr(rate) = self else { return None };
        let least = 1.0 / (images + 1) as f64;
        (rate * (1.0 + f64::EPSILON) < least).then(|| {
            format!(
                "{images} validation images can't promise a false-positive rate of {}: no lower one \
                 than 1 in {}, {}; the threshold is the highest of their scores",
                percents(rate),
                images + 1,
                percents(least)
            )
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Quantile(quantile) => {
                write!(f, "the {} quantile of the validation images' scores", percents(*quantile))
            }
            Level::Fpr(rate) => {
                write!(f, "for a false-positive rate of at most {}", percents(*rate))
            }
        }
    }
}

/// A share in percent, with the digits that it has, but no more than two behind the first.
fn percents(share: f64) -> String {
    let percent = 100.0 * share;
    let digits = (2.0 - percent.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{percent:.digits$}");
    let short =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} %")
}

/// Checks a rate of false positives.
///
/// # Errors
/// It is none that a threshold could keep.
pub fn check_rate(rate: f64) -> Result<()> {
    if rate > 0.0 && rate < 1.0 {
        return Ok(());
    }
    Err(Error::Usage(format!("fpr is {rate}, expected a rate above 0 and below 1, such as 0.01")))
}

/// The name of the score that a model's threshold is of, by which it scores where nobody says
/// otherwise.
pub fn score_of(detector: &Detector) -> &str {
    detector.description.get(SCORE).map_or(PAPER, |score| score)
}

/// Stores the threshold of `rule` at a level. (Scores above it are anomalous.)
///
/// # Errors
/// A detector without statistics; a validation score that is no finite number.
pub fn set(detector: &mut Detector, rule: &Rule, level: Level) -> Result<()> {
    let Some(threshold) = at(detector, rule, level)? else {
        return Err(Error::invalid("a threshold takes the statistics of normal images"));
    };
    let (name, other, value) = match level {
        Level::Quantile(quantile) => (QUANTILE, RATE, quantile),
        Level::Fpr(rate) => (RATE, QUANTILE, rate),
    };
    detector.description.insert(THRESHOLD.into(), threshold.to_string());
    detector.description.insert(name.into(), value.to_string());
    detector.description.remove(other);
    match &rule.name[..] {
        PAPER => detector.description.remove(SCORE),
        name => detector.description.insert(SCORE.into(), name.into()),
    };
    Ok(())
}

/// The level that the stored threshold has.
///
/// # Errors
/// A description with a senseless number.
pub fn level_of(detector: &Detector) -> Result<Option<Level>> {
    let rate = detector.number(RATE)?.map(Level::Fpr);
    Ok(rate.or(detector.number(QUANTILE)?.map(Level::Quantile)))
}

/// Whether the stored threshold is that of `rule` and `level`. A change of beta is one of the rule.
///
/// # Errors
/// A description with a senseless number.
pub fn is_of(detector: &Detector, rule: &Rule, level: Level) -> Result<bool> {
    Ok(score_of(detector) == rule.name
        && level_of(detector)? == Some(level)
        && (rule.name != PAPER || *rule == Rule::paper(detector.beta()?)))
}

/// The threshold of a rule: the stored one if it is of that rule, else from the validation images'
/// parts at the stored level; none if the model has neither.
///
/// # Errors
/// A description with a senseless number; a validation score that is no finite number.
pub fn find(detector: &Detector, rule: &Rule) -> Result<Option<f64>> {
    let level = level_of(detector)?.unwrap_or(Level::Quantile(DEFAULT_QUANTILE));
    let stored = detector.number(THRESHOLD)?;
    let own = score_of(detector) == rule.name;
    if stored.is_some() && own {
        return Ok(stored);
    }
    at(detector, rule, level)
}

/// The threshold of a rule at a level; none of a model that has no validation images' parts.
///
/// # Errors
/// A validation score that is no finite number.
pub fn at(detector: &Detector, rule: &Rule, level: Level) -> Result<Option<f64>> {
    Ok(detector.validation_scores(rule)?.map(|scores| level.of_sorted(&scores)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: of n + 1 exchangeable scores, each is as often the new one.
    #[test]
    fn a_rate_is_kept_over_every_choice_of_the_new_image() {
        for n in 1..60 {
            let all: Vec<f64> = (0..=n).map(|i| ((i * i) as f64).sqrt().sin()).collect();
            for rate in [0.001, 0.01, 0.05, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999] {
                let level = Level::Fpr(rate);
                let flagged = (0..=n).filter(|&new| {
                    let mut others = all.clone();
                    let score = others.remove(new);
                    others.sort_by(f64::total_cmp);
                    score > level.of_sorted(&others)
                });
                let (flagged, most) = (flagged.count(), rate * (n + 1) as f64 + 1e-9);
                if level.unkept(n).is_none() {
                    assert!(flagged as f64 <= most, "{n} {rate}: {flagged}");
                    // And no more is given away than one image.
                    assert!(flagged as f64 > most - 1.0 - 1e-6 || rate > 0.9, "{n} {rate}");
                } else {
                    assert!(flagged == 1 && most < 1.0, "{n} {rate}: {flagged}");
                }
            }
        }
        let text = Level::Fpr(0.01).unkept(20).unwrap();
        assert!(
            text.contains("20 validation images") && text.contains("1 in 21, 4.76 %"),
            "{text}"
        );
        assert_eq!(Level::Fpr(0.05).unkept(19), None);
        assert_eq!(Level::Fpr(0.05).of_sorted(&[1.0, 2.0]), 2.0);
        assert_eq!(Level::Quantile(0.5).of_sorted(&[1.0, 2.0]), 1.5);
    }

    #[test]
    fn shares_are_told_with_the_digits_they_have() {
        let texts = [0.95, 0.01, 1.0 / 21.0, 0.00012, 1.0, 0.999].map(percents);
        assert_eq!(texts, ["95 %", "1 %", "4.76 %", "0.012 %", "100 %", "99.9 %"]);
    }
}
