//! Means and deviations over seeds.

use gradcon::report::metrics::Metrics;
use gradcon::report::results::*;

use crate::close;
use crate::samples::{CLASSES, over, results, seeds};

#[test]
fn seeds_have_a_mean_and_a_spread() {
    let (a, b) = (results(0.1), results(0.2));
    let over = OverSeeds::of(&[(1, &a), (2, &b)]).unwrap();
    assert_eq!(over.seeds, [1, 2]);
    assert_eq!(
        over.rows.iter().map(|r| r.class.as_str()).collect::<Vec<_>>(),
        [CLASSES[0], CLASSES[1], "mean"]
    );
    let auroc = |r: &Results, i: usize| r.classes[i].evaluations[1].gradient.auroc;
    let (x, y) = (auroc(&a, 1), auroc(&b, 1));
    assert_ne!(x, y);
    close(over.rows[1].gradient.mean, (x + y) / 2.0, 1e-15, "mean");
    close(over.rows[1].gradient.std, (x - y).abs() / 2f64.sqrt(), 1e-15, "deviation");
    let (x, y) = (a.means[1].full.auroc, b.means[1].full.auroc);
    close(over.rows[2].full.mean, (x + y) / 2.0, 1e-15, "mean over classes");
    assert!(OverSeeds::of(&[(1, &a)]).is_err(), "one seed has no spread");
    let mut other = b.clone();
    other.classes[0].class = "else".into();
    assert!(OverSeeds::of(&[(1, &a), (2, &other)]).is_err(), "other classes");
    assert!(OverSeeds::of(&[(1, &a), (1, &b)]).is_err(), "a seed twice");
    let mut other = b.clone();
    other.about.data_sha256 = None;
    let message = OverSeeds::of(&[(1, &a), (2, &other)]).unwrap_err().to_string();
    assert!(message.contains("seeds 1 and 2") && message.contains("data_sha256"), "{message}");
}

fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (values.len() - 1) as f64).sqrt())
}

#[test]
fn no_number_over_seeds_is_one_seeds() {
    let seeds = seeds();
    let over = over(&seeds);
    assert_eq!(
        (over.about.seed, over.over_seeds.as_ref().unwrap().seeds.as_slice()),
        (None, &[7, 1, 3][..])
    );
    // Every metric of every score, class and share of outliers, by hand.
    for (c, class) in over.classes.iter().enumerate() {
        for (k, e) in class.evaluations.iter().enumerate() {
            for (p, (part, m)) in e.parts().into_iter().enumerate() {
                assert_eq!(
                    (m.auroc_95, m.f1_threshold),
                    (None, None),
                    "an interval or threshold is one model's"
                );
                let std = m.std.unwrap();
                type Metric = fn(&Metrics) -> f64;
                let metrics: [(Metric, f64, f64); 4] = [
                    (|m| m.auroc, m.auroc, std.auroc),
                    (|m| m.aupr, m.aupr, std.aupr),
                    (|m| m.f1, m.f1, std.f1),
                    (|m| m.fpr95, m.fpr95, std.fpr95),
                ];
                for (i, (of, mean, std)) in metrics.into_iter().enumerate() {
                    let values =
                        seeds.each_ref().map(|(_, r)| of(r.classes[c].evaluations[k].parts()[p].1));
                    let what =
                        format!("{} at {} %, {part}, metric {i}", class.class, e.outlier_percent);
                    let (by_hand, deviation) = mean_and_std(&values);
                    close(mean, by_hand, 1e-15, &what);
                    close(std, deviation, 1e-15, &what);
                }
            }
        }
    }
    for (k, mean) in over.means.iter().enumerate() {
        for (p, (part, m)) in mean.parts().into_iter().enumerate() {
            let values = seeds.each_ref().map(|(_, r)| r.means[k].parts()[p].1.auroc);
            let (by_hand, deviation) = mean_and_std(&values);
            close(m.auroc, by_hand, 1e-15, part);
            close(m.std.unwrap().auroc, deviation, 1e-15, "deviation of the mean over classes");
            let of_classes =
                over.classes.iter().map(|c| c.evaluations[k].parts()[p].1.auroc).sum::<f64>() / 2.0;
            close(m.auroc, of_classes, 1e-15, "the mean of means");
        }
    }
}

#[test]
fn means_that_are_not_those_of_the_seeds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    over(&seeds()).write(folder.path()).unwrap();
    let good: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    type Break = fn(&mut serde_json::Value);
    let breaks: [(Break, &str); 6] = [
        // The headline of the first seed alone, as earlier versions wrote it.
        (
            |v| v["classes"] = v["over_seeds"]["runs"][0]["classes"].clone(),
            "expected a threshold for one seed",
        ),
        (
            |v| v["classes"][0]["evaluations"][1]["full"]["aupr"] = 0.5.into(),
            "not those of the seeds",
        ),
        (|v| v["means"][0]["gradient"]["std"]["fpr95"] = 0.25.into(), "not those of the seeds"),
        (|v| v["over_seeds"]["rows"][0]["full"]["std"] = 0.25.into(), "not those of the seeds"),
        (|v| v["over_seeds"]["seeds"][2] = 7.into(), "seed 7 is there twice"),
        (
            |v| v["over_seeds"]["runs"][1]["means"][0]["full"]["auroc"] = 0.5.into(),
            "means are not those of the classes",
        ),
    ];
    for (break_it, expected) in breaks {
        let mut broken = good.clone();
        break_it(&mut broken);
        std::fs::write(&path, broken.to_string()).unwrap();
        let message = Results::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("results.json"), "{message}");
    }
}
