//! Results, runs and seeds to report.

use std::path::Path;

use gradcon::folders::{self, EvalPlace};
use gradcon::report::epochs::{EpochRow, Epochs, Losses, write_epochs};
use gradcon::report::extremes::{Candidates, write_extremes};
use gradcon::report::results::*;
use gradcon::report::scores::{ScoreRow, Scores, write_scores};

pub const CLASSES: [&str; 2] = ["T-shirt/top", "Bag & <Co>"];

pub fn about() -> About {
    About {
        gradcon_version: "9.8.7".into(),
        date: "2026-01-02T03:04:05Z".into(),
        dataset: "fmnist".into(),
        model: "cae".into(),
        device: "Test \"device\" <1>".into(),
        beta: 0.12,
        scores: vec![],
        seed: Some(42),
        data: Some("data/fm & nist".into()),
        data_sha256: Some("0123456789abcdef".repeat(4)),
        made: None,
    }
}

/// Rows as the history of a model with the autoencoder's layers.
pub fn history(rows: Vec<EpochRow>) -> Epochs {
    Epochs { layers: layers(), rows }
}

/// Rows as the scores of such a model.
pub fn table(rows: Vec<ScoreRow>) -> Scores {
    Scores { layers: layers(), more: vec![], rows }
}

fn layers() -> Vec<String> {
    ["up0", "up2", "up4", "up6"].map(String::from).to_vec()
}

/// 30 normal and 30 anomalous images whose scores overlap; `shift` moves the anomalous ones.
pub fn rows(shift: f64) -> Vec<ScoreRow> {
    let row = |i: usize| {
        let anomalous = i % 2 == 1;
        let noise = ((i * 37) % 60) as f64 / 60.0;
        let (mse, cos) = (noise * 0.1, if anomalous { 0.6 - shift } else { 0.6 } - 0.3 * noise);
        let class = Some(if anomalous { "other" } else { "inlier" }.to_string());
        let image = format!("test/{i}");
        ScoreRow {
            image,
            label: Some(anomalous.into()),
            class,
            score: mse - 0.12 * cos,
            mse,
            cos,
            cosines: vec![cos; 4],
            more: vec![],
        }
    };
    (0..60).map(row).collect()
}

pub fn results(shift: f64) -> Results {
    let class = |(i, name): (usize, &&str)| {
        let rows = rows(shift + 0.1 * i as f64);
        // At 25 %: every normal image, a third as many anomalous ones.
        let few: Vec<ScoreRow> = rows
            .iter()
            .enumerate()
            .filter(|(i, r)| r.label == Some(0) || i % 6 == 1)
            .map(|(_, r)| r.clone())
            .collect();
        let evaluations = vec![
            Evaluation::of(25.0, &table(few), None).unwrap(),
            Evaluation::of(50.0, &table(rows), Some((200, 1))).unwrap(),
        ];
        ClassResult {
            class: name.to_string(),
            epochs: Some(3),
            best_epoch: Some(2),
            stopped_early: None,
            explained_variance: Some(0.634),
            tiles: None,
            training_seconds: Some(4.5),
            validation: None,
            evaluations,
        }
    };
    Results::new(about(), CLASSES.iter().enumerate().map(class).collect(), vec![]).unwrap()
}

/// A complete run folder of two classes.
pub fn write_run(folder: &Path) -> Results {
    write_run_of(folder, 0.1)
}

/// The same, with anomalous images moved by `shift`.
pub fn write_run_of(folder: &Path, shift: f64) -> Results {
    let results = results(shift);
    results.write(folder).unwrap();
    std::fs::write(folder.join("config.toml"), "alpha = 0.03 # <0.1 & >0\n").unwrap();
    for (i, class) in CLASSES.iter().enumerate() {
        let rows = rows(shift + 0.1 * i as f64);
        let eval = EvalPlace::own(folder).class(class);
        write_scores(&eval.join("scores.csv"), &table(rows.clone())).unwrap();
        let images: Vec<f32> = (0..60 * 6).map(|i| (i % 7) as f32 / 7.0).collect();
        let reconstructions: Vec<f32> = images.iter().map(|x| x * 0.5).collect();
        let candidates = Candidates {
            inputs: &images,
            reconstructions: &reconstructions,
            shape: [60, 2, 3, 1],
            levels: None,
            rows: &rows,
        };
        write_extremes(&eval, &candidates, 3, false).unwrap();
        let losses = |epoch: u64| Losses {
            loss: 0.3 / epoch as f64 - 0.02,
            mse: 0.3 / epoch as f64,
            constraint: -0.5,
            divergence: None,
        };
        let epochs: Vec<EpochRow> = (1..=3)
            .map(|epoch| EpochRow {
                epoch,
                train: losses(epoch),
                validation: Some(losses(epoch)),
                cosines: vec![0.5; 4],
                images_per_second: 100.0,
                best: epoch == 2,
            })
            .collect();
        write_epochs(&folders::training(folder, class).join("metrics.csv"), &history(epochs))
            .unwrap();
    }
    results
}

/// Three seeds whose every number differs.
pub fn seeds() -> [(u64, Results); 3] {
    [(7, results(0.1)), (1, results(0.2)), (3, results(0.15))].map(|(seed, mut r)| {
        r.about.seed = Some(seed);
        (seed, r)
    })
}

pub fn over(seeds: &[(u64, Results)]) -> Results {
    Results::over_seeds(&seeds.iter().map(|(seed, r)| (*seed, r)).collect::<Vec<_>>()).unwrap()
}

/// A folder of three seeds, complete.
pub fn write_seeds(folder: &Path) -> Results {
    let runs = [(7, 0.1), (1, 0.2), (3, 0.15)].map(|(seed, shift)| {
        let place = folders::seed(folder, seed);
        std::fs::create_dir_all(&place).unwrap();
        let mut results = write_run_of(&place, shift);
        results.about.seed = Some(seed);
        (seed, results)
    });
    std::fs::write(folder.join("config.toml"), "alpha = 0.03\nseeds = [7, 1, 3]\n").unwrap();
    let over = over(&runs);
    over.write(folder).unwrap();
    over
}
