//! What plots need of numbers: bins, axis ticks and labels.

use super::metrics::quantile_of_sorted;
use crate::error::{Error, Result};

/// Two score distributions counted over the same bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Left end of the first bin.
    pub low: f64,
    /// Width of a bin.
    pub step: f64,
    /// Share of the normal images in each bin, 0 to 1.
    pub normal: Vec<f64>,
    /// Share of the anomalous images in each bin, 0 to 1.
    pub anomalous: Vec<f64>,
}

impl Histogram {
    /// Counts both sides over common bins; their width follows Freedman and Diaconis (2 IQR /
    /// n^(1/3)), kept between 24 and 60 bins.
    ///
    /// # Errors
    /// No scores at all, or one that is not finite.
    pub fn of(normal: &[f64], anomalous: &[f64]) -> Result<Histogram> {
        let mut all: Vec<f64> = normal.iter().chain(anomalous).copied().collect();
        if all.is_empty() {
            return Err(Error::invalid("a histogram needs at least one score"));
        }
        if let Some(bad) = all.iter().find(|s| !s.is_finite()) {
            return Err(Error::invalid(format!(
                "a histogram of score {bad}: expected finite numbers"
            )));
        }
        all.iter_mut().for_each(|score| *score = drawable(*score));
        all.sort_unstable_by(f64::total_cmp);
        let (low, high) = padded(all[0], all[all.len() - 1]);
        let iqr = quantile_of_sorted(&all, 0.75) - quantile_of_sorted(&all, 0.25);
        let width = 2.0 * iqr / (all.len() as f64).cbrt();
        let bins = if width > 0.0 { ((high - low) / width).ceil().clamp(24.0, 60.0) } else { 60.0 }
            as usize;
        let step = (high - low) / bins as f64;
        let share = |scores: &[f64]| {
            let mut counts = vec![0.0; bins];
            for score in scores {
                counts[(((drawable(*score) - low) / step) as usize).min(bins - 1)] +=
                    1.0 / scores.len() as f64;
            }
            counts
        };
        Ok(Histogram { low, step, normal: share(normal), anomalous: share(anomalous) })
    }

    /// The right end of the last bin.
    pub fn high(&self) -> f64 {
        self.low + self.step * self.normal.len() as f64
    }

    /// The largest share of either side.
    pub fn top(&self) -> f64 {
        self.normal.iter().chain(&self.anomalous).copied().fold(0.0, f64::max)
    }
}

/// The farthest that plots reach. Numbers are finite but may be anything, and sums of what lies
/// beyond are not.
const FARTHEST: f64 = 1e300;

/// A finite number as plots take it: what is beyond [`FARTHEST`] lies there.
pub fn drawable(value: f64) -> f64 {
    value.clamp(-FARTHEST, FARTHEST)
}

/// The range, widened where it has no width, so that a scale can be built on it.
pub fn padded(low: f64, high: f64) -> (f64, f64) {
    let least = 1e-9 * low.abs().max(high.abs()).max(1e-3);
    if high - low > least { (low, high) } else { (low - least, high + least) }
}

/// Round tick values (1, 2 or 5 times a power of ten apart) inside [low, high], about `count` of
/// them, and their step.
pub fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, f64) {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|&s| s >= rough * 0.999)
        .unwrap_or(rough);
    // Not counted from first to last: far from zero, a step may be too small to change a number.
    let first = (low / step - 1e-9).ceil();
    let inside = (0..=4 * count)
        .map(|i| (first + i as f64) * step)
        .take_while(|&value| value <= high + step * 1e-9);
    let mut values: Vec<f64> = inside.collect();
    values.dedup();
    (values, step)
}

/// A tick value with just the decimals its step needs.
pub fn tick_label(value: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    if decimals > 6 || value.abs() >= 1e6 {
        return format!("{value:e}");
    }
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_falls_into_its_bin() {
        let normal: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let anomalous = [0.5, 1.5, 1.5, 2.0];
        let bins = Histogram::of(&normal, &anomalous).unwrap();
        assert!((24..=60).contains(&bins.normal.len()));
        assert!((bins.low, bins.high()) == (0.0, 2.0), "{} to {}", bins.low, bins.high());
        for (i, share) in bins.anomalous.iter().enumerate() {
            let (a, b) = (bins.low + bins.step * i as f64, bins.low + bins.step * (i + 1) as f64);
            let last = i + 1 == bins.anomalous.len();
            let inside =
                anomalous.iter().filter(|&&s| s >= a - 1e-12 && (s < b - 1e-12 || last)).count();
            assert!(
                (share - inside as f64 / 4.0).abs() < 1e-12,
                "bin {i}: {share} for {inside} scores"
            );
        }
        assert!((bins.normal.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((bins.top() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn scores_without_spread_have_a_histogram_and_nan_has_none() {
        let bins = Histogram::of(&[0.25; 5], &[0.25]).unwrap();
        assert!(bins.step > 0.0 && (bins.top() - 1.0).abs() < 1e-9);
        assert!(Histogram::of(&[], &[]).is_err());
        assert!(Histogram::of(&[1.0], &[f64::NAN]).is_err());
    }

    #[test]
    fn numbers_of_any_size_have_few_finite_ticks_and_bins() {
        let largest = f64::MAX;
        let ranges = [
            (-largest, largest),
            (0.0, 5e-324),
            (1e300, 1e300),
            (-1e-300, 1e300),
            (1.8e19, 1.9e19),
        ];
        for (low, high) in ranges {
            for count in [1, 5, 10] {
                let (low, high) = padded(drawable(low), drawable(high));
                assert!(low < high && (high - low).is_finite(), "{low} to {high}");
                let (values, step) = ticks(low, high, count);
                assert!(values.len() <= 4 * count + 1 && step > 0.0, "{low} to {high}: {values:?}");
                assert!(
                    values.iter().all(|v| v.is_finite() && *v >= low - step && *v <= high + step),
                    "{values:?}"
                );
                assert!(values.iter().all(|&v| tick_label(v, step).len() < 30));
            }
            let bins = Histogram::of(&[low, low, high], &[high]).unwrap();
            let shares = bins.normal.iter().chain(&bins.anomalous);
            assert!(
                (bins.low.is_finite() && bins.high().is_finite())
                    && shares.sum::<f64>().is_finite()
            );
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |low, high, count| {
            let (values, step) = ticks(low, high, count);
            values.into_iter().map(|v| tick_label(v, step)).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.06, 0.013, 5), ["-0.06", "-0.04", "-0.02", "0.00"]);
        assert_eq!(labels(1.0, 60.0, 5), ["20", "40", "60"]);
        assert_eq!(labels(3.0, 3.0000001, 2).len(), 3);
    }
}
