//! What is fuzzed: each target gives any bytes to a reader and checks what may never happen.
//! `hostile.rs` runs them on every test, the programs in `fuzz/` for as long as one likes.
//!
//! A reader may refuse bytes; it may not panic, hold more than its limit, or accept what
//! contradicts itself.

#![allow(dead_code)] // a program in fuzz/ uses one of them

use std::path::Path;

use gradcon::Error;
use gradcon::bench::compare::Comparison;
use gradcon::bench::record::Record;
use gradcon::data::picture::Decode;
use gradcon::data::{Images, Labelled, Manifest, cifar, idx, npy};
use gradcon::engine::tuned::TunedPlan;
use gradcon::method::detector::Detector;
use gradcon::report::epochs::epochs_from;
use gradcon::report::extremes::extremes_from;
use gradcon::report::page::page;
use gradcon::report::results::{About, ClassResult, Evaluation, Results};
use gradcon::report::run::{ClassRun, Run, Training};
use gradcon::report::scores::{ScoreRow, Scores, scores_from};
use gradcon::report::tables;
use gradcon::run::config::RunConfig;
use gradcon::run::sweep::Plan;

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 16] = [
    ("idx", idx),
    ("gzip", gzip),
    ("tar", tar),
    ("cifar_binary", cifar_binary),
    ("cifar_pickle", cifar_pickle),
    ("picture", picture),
    ("npy", npy),
    ("manifest", manifest),
    ("safetensors", safetensors),
    ("config", config),
    ("metrics", metrics),
    ("scores", scores),
    ("results", results),
    ("extremes", extremes),
    ("measurement", measurement),
    ("tuned", tuned),
];

/// The limit that targets give to readers that take one.
pub const LIMIT: u64 = 1 << 20;
/// Longest message of an error: a name, a sentence and what is shown of foreign text.
const MESSAGE: usize = 4000;

fn name() -> &'static Path {
    Path::new("FILE")
}

/// What a reader made of the bytes, if it took them. An error names the file and is of readable
/// length.
fn taken<T>(result: gradcon::Result<T>) -> Option<T> {
    result.map_err(|e| readable(&e)).ok()
}

fn readable(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("FILE"), "no file is named: {text}");
    assert!(text.len() < MESSAGE, "an error of {} bytes", text.len());
}

fn whole(images: &Images) {
    assert_eq!(images.data.len(), images.n * images.height * images.width * images.channels);
    assert!(images.data.len() as u64 <= LIMIT);
}

/// IDX files, compressed or not.
pub fn idx(bytes: &[u8]) {
    if let Some(images) = taken(idx::images_from(bytes, name(), LIMIT)) {
        whole(&images);
    }
    if let Some(labels) = taken(idx::labels_from(bytes, name(), LIMIT)) {
        assert!(labels.len() as u64 <= LIMIT);
    }
}

/// IDX files behind a gzip header, so that mutations reach the compressed stream.
pub fn gzip(bytes: &[u8]) {
    idx(&[&[0x1f, 0x8b, 8], bytes].concat());
}

/// CIFAR-10 archives, compressed or not.
pub fn tar(bytes: &[u8]) {
    if let Some((train, test)) = taken(cifar::archive_from(bytes, name(), LIMIT)) {
        labelled(&train);
        labelled(&test);
    }
}

fn labelled(part: &Labelled) {
    whole(&part.images);
    assert_eq!(part.labels.len(), part.images.n);
    assert!(part.labels.iter().all(|&label| label < 10));
}

/// Binary batches of CIFAR-10.
pub fn cifar_binary(bytes: &[u8]) {
    if let Some(batch) = taken(cifar::batch_from(bytes, Path::new("FILE.bin"))) {
        labelled(&batch);
    }
}

/// Pickled batches of CIFAR-10.
pub fn cifar_pickle(bytes: &[u8]) {
    if let Some(batch) = taken(cifar::batch_from(bytes, name())) {
        labelled(&batch);
    }
}

/// Picture files of every kind that is read.
pub fn picture(bytes: &[u8]) {
    for channels in [1, 3] {
        let decode = Decode::new(channels, 1 << 16).expect("1 or 3 channels");
        match decode.bytes(bytes) {
            Ok(image) => assert_eq!(image.data.len(), 28 * 28 * channels),
            Err(what) => assert!(what.len() < MESSAGE, "an error of {} bytes", what.len()),
        }
    }
}

/// NumPy files.
pub fn npy(bytes: &[u8]) {
    if let Some((shape, data)) = taken(npy::u8_from::<4>(bytes, name())) {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        let mut again = Vec::new();
        npy::write_u8(&mut again, &shape, &data).expect("written to memory");
        assert_eq!(taken(npy::u8_from::<4>(&again[..], name())), Some((shape, data)));
    }
    taken(npy::u8_from::<1>(bytes, name()));
    taken(npy::i64_from(bytes, name()));
}

/// `manifest.json`.
pub fn manifest(bytes: &[u8]) {
    if let Some(manifest) = taken(Manifest::parse(bytes, name())) {
        assert!(!manifest.summary().is_empty());
        let again = taken(Manifest::parse(manifest.to_json().as_bytes(), name()));
        assert!(again == Some(manifest), "another manifest after writing");
    }
}

/// `model.safetensors`.
pub fn safetensors(bytes: &[u8]) {
    if let Some(detector) = taken(Detector::parse(bytes, name())) {
        assert_eq!(detector.params.len(), detector.model.len());
        assert_eq!(detector.reference.len(), detector.model.reference_len());
        assert!(detector.params.iter().chain(&detector.reference).all(|value| value.is_finite()));
    }
}

/// `config.toml`, of a run and of a user.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    taken(RunConfig::parse(text, name()));
    taken(Plan::parse(text, name()));
    if let Some(settings) = taken(RunConfig::parse_settings(text, name())) {
        // What it refuses here are values, without a file.
        if let Ok(config) = settings.resolved() {
            assert!(config.beta.is_finite());
        }
    }
}

/// `metrics.csv`, and the page of its plots.
pub fn metrics(bytes: &[u8]) {
    if let Some(epochs) = taken(epochs_from(bytes, name())) {
        let rows = ["a", "b"].map(|image| row(image, 0.5, Some(u8::from(image == "b"))));
        let scores = Scores { layers: vec![], more: vec![], rows: rows.to_vec() };
        page_of(ClassRun { epochs: Some(epochs), scores: None, extremes: None }, &scores);
    }
}

/// `scores.csv`, its metrics, and the page of its plots.
pub fn scores(bytes: &[u8]) {
    if let Some(mut scores) = taken(scores_from(bytes, name())) {
        // A name is no number, whatever it says.
        scores.layers.iter_mut().for_each(|layer| *layer = "layer".into());
        let evaluated = scores.clone();
        page_of(ClassRun { epochs: None, scores: Some(scores), extremes: None }, &evaluated);
    }
}

fn row(image: &str, score: f64, label: Option<u8>) -> ScoreRow {
    ScoreRow {
        image: image.into(),
        label,
        class: None,
        score,
        mse: score,
        cos: 0.0,
        cosines: vec![0.0; 4],
        more: vec![],
    }
}

/// Where some results come from.
pub fn about() -> About {
    About {
        gradcon_version: "0".into(),
        date: "2026-01-01T00:00:00Z".into(),
        dataset: "fmnist".into(),
        model: "cae".into(),
        device: "cpu".into(),
        beta: 0.12,
        scores: vec![],
        seed: None,
        data: None,
        data_sha256: None,
        made: None,
    }
}

/// Lays out the page of a class whose evaluation is that of `scores`, if they can be evaluated. No
/// plot has a number that is none.
fn page_of(files: ClassRun, scores: &Scores) {
    let Ok(evaluation) = Evaluation::of(50.0, scores, None) else { return };
    let class = ClassResult {
        class: "bag".into(),
        epochs: None,
        best_epoch: None,
        stopped_early: None,
        explained_variance: None,
        tiles: None,
        training_seconds: None,
        validation: None,
        evaluations: vec![evaluation],
    };
    let results =
        Results::new(about(), vec![class], vec![]).expect("one class with finite metrics");
    check_page(&page(&[run_of(results, vec![files])]).expect("a page"));
}

/// A run with these files of its classes.
fn run_of(results: Results, classes: Vec<ClassRun>) -> Run {
    let training = Training { folder: "run".into(), seed: None, classes };
    Run { name: "run".into(), results, config: None, trainings: vec![training], missing: vec![] }
}

/// No number of a plot is NaN or infinite, and no plot is large: few ticks, and no more than a few
/// points a row.
fn check_page(page: &str) {
    for plot in page.split("<svg").skip(1) {
        let plot = plot.split("</svg>").next().unwrap_or_default();
        assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
        assert!(plot.matches("class=\"tick").count() < 80, "{plot}");
    }
}

/// `results.json`, and its tables and page.
pub fn results(bytes: &[u8]) {
    if let Some(results) = taken(Results::parse(bytes, name())) {
        assert!(!tables::markdown(&results).is_empty());
        let files = || ClassRun { epochs: None, scores: None, extremes: None };
        let classes = results.classes.iter().map(|_| files()).collect();
        page(&[run_of(results, classes)]).expect("a page");
    }
}

/// `extremes.json`.
pub fn extremes(bytes: &[u8]) {
    if let Some(extremes) = taken(extremes_from(bytes, name())) {
        for image in extremes.groups().iter().flat_map(|(_, images)| images.iter()) {
            assert!(image.score.is_finite() && image.input.components().count() == 1);
        }
    }
}

/// A file of `gradcon bench --json`, written again and compared with itself.
pub fn measurement(bytes: &[u8]) {
    if let Some(record) = taken(Record::parse(bytes, name())) {
        let again = record.to_json().expect("JSON");
        assert!(Record::parse(&again, name()).is_ok_and(|again| again == record));
        assert!(!record.to_csv().expect("CSV").is_empty());
        assert!(!Comparison::of(&record, &record).table().is_empty());
    }
}

/// A plan of `gradcon tune`, written again.
pub fn tuned(bytes: &[u8]) {
    if let Some(plan) = taken(TunedPlan::parse(bytes, name())) {
        let again = plan.to_json().expect("JSON");
        assert!(TunedPlan::parse(&again, name()).is_ok_and(|again| again == plan));
    }
}
