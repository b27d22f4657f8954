//! The statistics of measurements: medians, noise bands, and when there are samples enough.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Samples, and what they say. In the unit of whoever measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Half of the samples are below it.
    pub median: f64,
    /// A fifth of them is below it.
    pub p20: f64,
    /// A fifth of them is above it.
    pub p80: f64,
    /// In the order of measurement.
    pub samples: Vec<f64>,
}

impl Summary {
    /// Of finite samples.
    ///
    /// # Panics
    /// There are none.
    ///
    /// ```
    /// use gradcon::bench::stats::Summary;
    ///
    /// let summary = Summary::of(vec![5.0, 1.0, 4.0, 2.0, 3.0, 100.0]);
    /// assert_eq!((summary.p20, summary.median, summary.p80), (2.0, 3.5, 5.0));
    /// ```
    pub fn of(samples: Vec<f64>) -> Summary {
        assert!(!samples.is_empty(), "no samples");
        let mut sorted = samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let [p20, median, p80] = [0.2, 0.5, 0.8].map(|q| quantile(&sorted, q));
        Summary { median, p20, p80, samples }
    }

    /// Of the samples' `f`.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Summary {
        Summary::of(self.samples.iter().map(|&v| f(v)).collect())
    }

    /// The least sample.
    pub fn least(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The greatest sample.
    pub fn greatest(&self) -> f64 {
        self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Between the two samples that are nearest to the place.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Standard deviation over mean; infinite for fewer than two samples.
fn deviation(samples: &[f64]) -> f64 {
    if samples.len() < 2 {
        return f64::INFINITY;
    }
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares = samples.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (squares / (count - 1.0)).sqrt() / mean.abs()
}

/// When a measurement has samples enough.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stop {
    /// Samples that it takes at least.
    pub least: usize,
    /// Seconds after which more samples say nothing new.
    pub enough: f64,
    /// Seconds after which it stops in any case, with one sample at least.
    pub ceiling: f64,
}

/// Standard deviation over mean below which samples agree.
const AGREED: f64 = 0.005;

impl Stop {
    /// Whether samples that took so many seconds are enough.
    pub fn enough(&self, samples: &[f64], seconds: f64) -> bool {
        let settled = seconds >= self.enough || deviation(samples) <= AGREED;
        !samples.is_empty() && (samples.len() >= self.least && settled || seconds >= self.ceiling)
    }

    /// Takes samples until there are enough of them.
    ///
    /// # Errors
    /// That of `sample`.
    pub fn sample(&self, mut sample: impl FnMut() -> Result<f64>) -> Result<Summary> {
        let (start, mut samples) = (Instant::now(), vec![]);
        while !self.enough(&samples, start.elapsed().as_secs_f64()) {
            samples.push(sample()?);
        }
        Ok(Summary::of(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_samples() {
        let summary = Summary::of(vec![3.0]);
        assert_eq!((summary.p20, summary.median, summary.p80), (3.0, 3.0, 3.0));
        let summary = Summary::of((0..=10).rev().map(f64::from).collect());
        assert_eq!((summary.p20, summary.median, summary.p80), (2.0, 5.0, 8.0));
        assert_eq!(summary.samples[0], 10.0, "samples keep their order");
        assert_eq!((summary.least(), summary.greatest()), (0.0, 10.0));
        let rates = summary.map(|v| 1.0 / (1.0 + v));
        assert!(rates.p20 < rates.median && rates.median == 1.0 / 6.0);
        // One disturbed sample changes no median much.
        let (calm, disturbed) = (vec![1.0, 1.1, 1.2, 1.3], vec![1.0, 1.1, 1.2, 1.3, 1e6]);
        assert!(Summary::of(disturbed).median - Summary::of(calm).median < 0.11);
    }

    #[test]
    fn samples_stop_when_they_agree_or_time_is_up() {
        let stop = Stop { least: 10, enough: 1.0, ceiling: 5.0 };
        let (calm, noisy) = ([1.0; 10], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert!(stop.enough(&calm, 0.0), "ten that agree");
        assert!(!stop.enough(&calm[..9], 2.0), "nine are too few");
        assert!(!stop.enough(&noisy, 0.9) && stop.enough(&noisy, 1.0), "noise, then time");
        assert!(stop.enough(&noisy[..1], 5.0) && !stop.enough(&[], 9.0), "the ceiling");
        let mut next = 0.0;
        let counted = Stop { least: 3, enough: 0.0, ceiling: 1e9 }.sample(|| {
            next += 1.0;
            Ok(next)
        });
        assert_eq!(counted.unwrap().samples, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(deviation(&[2.0]), f64::INFINITY);
        assert!((deviation(&[1.0, 3.0]) - 2f64.sqrt() / 2.0).abs() < 1e-15);
    }
}
