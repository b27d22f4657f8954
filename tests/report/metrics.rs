//! Metrics of scores, against scikit-learn and by hand.

use gradcon::report::metrics::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{close, fixture};

#[derive(serde::Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    scores: Vec<f64>,
    labels: Vec<u8>,
    auroc: f64,
    average_precision: f64,
    f1: f64,
    f1_threshold: f64,
    fpr95: f64,
    roc: Roc,
}

#[derive(serde::Deserialize)]
struct Roc {
    fpr: Vec<f64>,
    tpr: Vec<f64>,
    thresholds: Vec<f64>,
}

#[test]
fn the_comparator_fails_on_nan_and_on_a_small_difference() {
    for (got, want) in
        [(f64::NAN, 0.5), (0.5, f64::NAN), (0.5, 0.5 + 1e-11), (0.5, -0.5), (f64::INFINITY, 0.5)]
    {
        assert!(
            std::panic::catch_unwind(|| close(got, want, 1e-12, "")).is_err(),
            "{got} passed for {want}"
        );
    }
    close(0.5, 0.5 + 1e-13, 1e-12, "");
}

#[test]
fn agree_with_scikit_learn() {
    let fixtures: Fixtures = serde_json::from_str(&fixture("metrics.json")).unwrap();
    assert_eq!(fixtures.cases.len(), 19);
    for case in fixtures.cases {
        let labels: Vec<bool> = case.labels.iter().map(|&l| l == 1).collect();
        let (scores, name) = (&case.scores, &case.name);
        close(auroc(scores, &labels).unwrap(), case.auroc, 1e-12, name);
        close(average_precision(scores, &labels).unwrap(), case.average_precision, 1e-12, name);
        let (f1, threshold) = f1_max(scores, &labels).unwrap();
        close(f1, case.f1, 1e-12, name);
        close(threshold, case.f1_threshold, 0.0, name);
        close(fpr_at_tpr(scores, &labels, 0.95).unwrap(), case.fpr95, 1e-12, name);

        let roc = roc_curve(scores, &labels).unwrap();
        assert_eq!(roc.len(), case.roc.fpr.len(), "{name}: number of ROC points");
        assert_eq!(roc[0].threshold, f64::INFINITY, "{name}");
        for (i, point) in roc.iter().enumerate() {
            close(point.fpr, case.roc.fpr[i], 1e-12, name);
            close(point.tpr, case.roc.tpr[i], 1e-12, name);
            if i > 0 {
                close(point.threshold, case.roc.thresholds[i - 1], 0.0, name);
            }
        }

        let all = Metrics::of(scores, &labels, None).unwrap();
        close(all.auroc, case.auroc, 1e-12, name);
        close(all.aupr, case.average_precision, 1e-12, name);
        close(all.f1, case.f1, 1e-12, name);
        close(all.f1_threshold.unwrap(), case.f1_threshold, 0.0, name);
        close(all.fpr95, case.fpr95, 1e-12, name);
        assert_eq!(all.auroc_95, None);
    }
}

#[test]
fn input_without_an_answer_is_an_error() {
    type Metric = fn(&[f64], &[bool]) -> bool;
    let metrics: [Metric; 7] = [
        |s, l| auroc(s, l).is_err(),
        |s, l| average_precision(s, l).is_err(),
        |s, l| f1_max(s, l).is_err(),
        |s, l| fpr_at_tpr(s, l, 0.95).is_err(),
        |s, l| roc_curve(s, l).is_err(),
        |s, l| bootstrap_interval(s, l, 10, 0).is_err(),
        |s, l| Metrics::of(s, l, None).is_err(),
    ];
    for fails in metrics {
        assert!(!fails(&[1.0, 2.0], &[false, true]), "good input must pass");
        assert!(fails(&[], &[]), "no images");
        assert!(fails(&[1.0, 2.0], &[true, true]), "no normal image");
        assert!(fails(&[1.0, 2.0], &[false, false]), "no anomalous image");
        assert!(fails(&[1.0, f64::NAN], &[false, true]), "NaN");
        assert!(fails(&[f64::INFINITY, 1.0], &[false, true]), "infinity");
        assert!(fails(&[1.0, 2.0, 3.0], &[false, true]), "lengths");
    }
    for tpr in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(fpr_at_tpr(&[1.0, 2.0], &[false, true], tpr).is_err(), "tpr {tpr}");
    }
    assert!(bootstrap_interval(&[1.0, 2.0], &[false, true], 0, 0).is_err());
    let message = auroc(&[1.0, f64::NAN], &[false, true]).unwrap_err().to_string();
    assert_eq!(message, "score 1 is NaN: expected a finite number");
}

/// 60 normal and 40 anomalous images, some of them tied.
fn sample() -> (Vec<f64>, Vec<bool>) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let labels: Vec<bool> = (0..100).map(|i| i % 5 < 2).collect();
    let scores = labels
        .iter()
        .map(|&l| rng.random_range(0..20u32) as f64 + if l { 6.0 } else { 0.0 })
        .collect();
    (scores, labels)
}

#[test]
fn of_equal_f1_the_highest_threshold_wins() {
    // 1 of 1 flagged is right, then 2 of 4: both give F1 = 2/3.
    let (f1, threshold) = f1_max(&[4.0, 3.0, 2.0, 1.0], &[true, false, false, true]).unwrap();
    close(f1, 2.0 / 3.0, 1e-15, "F1");
    close(threshold, 4.0, 0.0, "threshold");
}

#[test]
fn bootstrap_equals_resampling_by_hand() {
    let (scores, labels) = sample();
    let got = bootstrap_interval(&scores, &labels, 200, 7).unwrap();

    let of = |label: bool| {
        let mut s: Vec<f64> = (0..100).filter(|&i| labels[i] == label).map(|i| scores[i]).collect();
        s.sort_by(|a, b| b.total_cmp(a));
        s
    };
    let (normal, anomalous) = (of(false), of(true));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut aurocs = Vec::new();
    for _ in 0..200 {
        let mut draw = |from: &[f64]| -> Vec<f64> {
            (0..from.len()).map(|_| from[rng.random_range(0..from.len() as u64) as usize]).collect()
        };
        let mut s = draw(&normal);
        s.extend(draw(&anomalous));
        let l: Vec<bool> = (0..100).map(|i| i >= 60).collect();
        aurocs.push(auroc(&s, &l).unwrap());
    }
    aurocs.sort_by(f64::total_cmp);
    close(got.low, quantile_of_sorted(&aurocs, 0.025), 1e-15, "low");
    close(got.high, quantile_of_sorted(&aurocs, 0.975), 1e-15, "high");
}

#[test]
fn bootstrap_is_seeded_and_as_wide_as_theory_says() {
    let (scores, labels) = sample();
    let one = bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 1).unwrap();
    assert_eq!(one, bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 1).unwrap());
    assert_ne!(one, bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 2).unwrap());
    // Hanley and McNeil (1982), equation 2: the standard error of an AUROC.
    let a = auroc(&scores, &labels).unwrap();
    let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
    let error =
        ((a * (1.0 - a) + 39.0 * (q1 - a * a) + 59.0 * (q2 - a * a)) / (40.0 * 60.0)).sqrt();
    assert!(one.low < a && a < one.high, "{one:?} does not hold {a}");
    close((one.high - one.low) / (2.0 * 1.96 * error), 1.0, 0.15, "width over theory");
}

#[test]
fn quantile_mean_and_deviation() {
    close(quantile_of_sorted(&[1.0, 2.0, 4.0], 0.25), 1.5, 1e-15, "interpolated");
    close(quantile_of_sorted(&[1.0, 2.0, 4.0], 1.0), 4.0, 0.0, "last");
    close(quantile_of_sorted(&[3.0], 0.975), 3.0, 0.0, "single");
    let (mean, std) = mean_std(&[1.0, 2.0, 4.0]).unwrap();
    close(mean, 7.0 / 3.0, 1e-15, "mean");
    close(std.unwrap(), (7.0f64 / 3.0).sqrt(), 1e-15, "sample deviation");
    assert_eq!(mean_std(&[5.0]).unwrap(), (5.0, None));
    assert!(mean_std(&[]).is_err());
    assert!(mean_std(&[1.0, f64::NAN]).is_err());
}
