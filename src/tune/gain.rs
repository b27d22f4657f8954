//! Whether one thing is faster than another that was measured beside it.

use crate::bench::stats::Summary;

/// By how much of the default's time a variant has to be faster.
const NOTABLE: f64 = 0.03;

/// How many standard errors a difference has to be away from none.
const SURE: f64 = 3.0;

/// What a change gains, from samples that were taken in turns.
///
/// Differences are taken round by round, so that a clock that changes meets both sides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gain {
    /// The median of the differences: positive if the other one is faster.
    pub median: f64,
    /// Standard error of that median.
    pub error: f64,
    /// The median of the default's samples.
    pub of: f64,
}

impl Gain {
    /// Of the default's samples and the other's, round by round.
    ///
    /// # Panics
    /// There are none.
    pub fn of(default: &[f64], other: &[f64]) -> Gain {
        let differences: Vec<f64> = default.iter().zip(other).map(|(a, b)| a - b).collect();
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let squares = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        // A median is less sure than a mean, by sqrt(pi / 2) where noise is normal.
        let error = match differences.len() {
            1 => f64::INFINITY,
            _ => 1.2533 * (squares / (count - 1.0) / count).sqrt(),
        };
        let median = Summary::of(differences).median;
        Gain { median, error, of: Summary::of(default.to_vec()).median }
    }

    /// The other one is faster, beyond noise.
    pub fn is_sure(&self) -> bool {
        self.median > 0.0 && self.median > SURE * self.error
    }

    /// And by enough to choose it.
    pub fn is_notable(&self) -> bool {
        self.is_sure() && self.median > NOTABLE * self.of
    }

    /// The gain in percent of the default's time.
    pub fn percent(&self) -> f64 {
        100.0 * self.median / self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_faster_beyond_noise_is_told_from_what_is_not() {
        let default = [10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 10.0];
        let of = |f: &dyn Fn(usize, f64) -> f64| {
            let other: Vec<f64> = default.iter().enumerate().map(|(i, &v)| f(i, v)).collect();
            let gain = Gain::of(&default, &other);
            (gain.is_sure(), gain.is_notable())
        };
        assert_eq!(of(&|_, v| v), (false, false), "the same");
        assert_eq!(of(&|_, v| v - 0.2), (true, false), "2 %: not enough to choose");
        assert_eq!(of(&|_, v| v - 0.4), (true, true), "4 %");
        assert_eq!(of(&|_, v| v + 0.4), (false, false), "slower");
        let noisy = |i: usize, v: f64| if i.is_multiple_of(2) { v - 3.0 } else { v + 2.0 };
        assert_eq!(of(&noisy), (false, false), "faster in the median, by noise");
        // A device that becomes slower and slower hides nothing.
        let drift: Vec<f64> = (0..7).map(|i| 10.0 * 1.2f64.powi(i)).collect();
        let other: Vec<f64> = drift.iter().map(|v| v * 0.8).collect();
        assert!(Gain::of(&drift, &other).is_notable());
        assert!(!Gain::of(&[10.0], &[5.0]).is_sure(), "one sample says nothing of its error");
        assert!((Gain::of(&default, &default.map(|v| v - 1.0)).percent() - 10.0).abs() < 1e-9);
    }
}
