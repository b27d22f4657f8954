//! What a run survives: an end at every change of a file, alone and in pairs; damaged, missing and
//! exchanged files; a folder that is taken away; stops in epochs of a single step; numbers that are
//! no longer finite.
//!
//! One test at a time changes files here: the simulated end counts the changes of the whole
//! process.

mod engines;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use engines::Counting;

use gradcon::data::manifest::Source;
use gradcon::data::{Dataset, Labelled, Prepared, prepare};
use gradcon::engine::{Engine, cpu};
use gradcon::files::{changes_left, end_after, syncs};
use gradcon::method::state::EpochReport;
use gradcon::run::checkpoint::{Checkpoint, Checkpoints, join, save};
use gradcon::run::config::{InitName, RunConfig};
use gradcon::run::train::{End, Options, Watch, train};
use gradcon::{Images, Model, Result};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Ten classes of a dozen images each: class k has a bar at row 2k.
fn dataset(seed: u64) -> Prepared {
    let images = |n: usize| {
        let pixel = |i: usize, p: usize| {
            if (p / 28).abs_diff(2 * (i % 10) + i / 50) < 3 { 220 } else { (i + p) % 9 }
        };
        let data = (0..n).flat_map(|i| (0..784).map(move |p| pixel(i, p) as u8)).collect();
        let labels = (0..n).map(|i| (i % 10) as u8).collect();
        Labelled { images: Images::new(data, [n, 28, 28, 1]).unwrap(), labels }
    };
    let source = Source { what: "bars".into(), sha256: BTreeMap::new() };
    prepare::ten_classes(Dataset::MNIST, images(120), images(40), source, seed, &[50]).unwrap()
}

fn config(prepared: &Prepared, inliers: &[&str], epochs: usize) -> RunConfig {
    let mut config = RunConfig {
        data: "data".into(),
        inliers: inliers.iter().map(|name| name.to_string()).collect(),
        epochs,
        batch_size: 6,
        seed: 5,
        init: InitName::Kaiming,
        ..RunConfig::default()
    };
    config.bind(prepared).unwrap();
    config
}

/// Notes what it hears; stops where it is told to.
#[derive(Default)]
struct Notes {
    stop_at_call: Option<usize>,
    calls: usize,
    warnings: Vec<String>,
    after_epoch: Option<Box<dyn FnMut()>>,
    after_steps: Option<Box<dyn FnMut()>>,
}

impl Watch for Notes {
    fn begin(&mut self, _: usize) {}
    fn images(&mut self, _: usize) -> bool {
        self.calls += 1;
        if let Some(act) = &mut self.after_steps {
            act();
        }
        Some(self.calls) == self.stop_at_call
    }
    fn epoch(&mut self, _: &[Option<EpochReport>], _: &[String], _: f64) {
        if let Some(act) = &mut self.after_epoch {
            act();
        }
    }
    fn warn(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}

/// A place for runs, in memory where the system has such a place: flushing to a disk thousands of
/// times proves nothing more.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn start(run: &Path, config: &RunConfig) {
    std::fs::create_dir(run).unwrap();
    config.write(run).unwrap();
}

/// A checkpoint after every epoch.
const EVERY_EPOCH: Options = Options { recover: false, checkpoint_every: Duration::ZERO };

/// No checkpoint before the end.
const RARELY: Options = Options { recover: false, checkpoint_every: Duration::from_secs(3600) };

fn go(
    run: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    recover: bool,
    notes: &mut Notes,
) -> Result<End> {
    let options = Options { recover, ..EVERY_EPOCH };
    go_on(run, config, prepared, cpu::f32().as_mut(), options, notes)
}

fn go_on(
    run: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    options: Options,
    notes: &mut Notes,
) -> Result<End> {
    train(run, config, prepared, engine, options, notes)
}

fn complete(run: &Path, config: &RunConfig, prepared: &Prepared) {
    assert_eq!(go(run, config, prepared, false, &mut Notes::default()).unwrap(), End::Complete);
}

/// Every file of a run by its path, without what time decides: the lock, TensorBoard's events, the
/// dates on cards, the speed in metrics and how long it took.
fn files(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // A run of one class has short names for its files.
            if path.is_symlink() {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if name == "metrics.csv" {
                let text = String::from_utf8(bytes).unwrap();
                let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
                let timed = header.iter().position(|&name| name == "images_per_second").unwrap();
                let untimed = |line: &str| {
                    let mut fields: Vec<&str> = line.split(',').collect();
                    fields.remove(timed);
                    fields.join(",")
                };
                bytes = text.lines().map(untimed).collect::<Vec<_>>().join("\n").into_bytes();
            }
            if name != ".lock"
                && name != "time.json"
                && name != "README.md"
                && !name.contains("tfevents")
            {
                found.insert(path.strip_prefix(run).unwrap().to_path_buf(), bytes);
            }
        }
    }
    found
}

fn assert_same(
    found: &BTreeMap<PathBuf, Vec<u8>>,
    expected: &BTreeMap<PathBuf, Vec<u8>>,
    what: &str,
) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}: other files");
    for (name, bytes) in found {
        assert!(*bytes == expected[name], "{what}: {} differs", name.display());
    }
}

/// Ends a run after each of `ends` changes in turn, then lets it go on to its end; returns its
/// files.
fn broken(
    place: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    ends: &[u64],
) -> BTreeMap<PathBuf, Vec<u8>> {
    let run = place.join("broken");
    start(&run, config);
    for &changes in ends {
        end_after(changes);
        let end = go(&run, config, prepared, false, &mut Notes::default());
        end_after(u64::MAX);
        // The second end may come later than the run's own.
        if let Err(error) = end {
            assert!(error.to_string().contains("simulated"), "{ends:?}: {error}");
        }
    }
    complete(&run, config, prepared);
    let files = files(&run);
    std::fs::remove_dir_all(run).unwrap();
    files
}

/// Files of an unbroken run, and how many changes it made.
fn whole(
    place: &Path,
    config: &RunConfig,
    prepared: &Prepared,
) -> (BTreeMap<PathBuf, Vec<u8>>, u64) {
    let run = place.join("whole");
    start(&run, config);
    end_after(u64::MAX);
    complete(&run, config, prepared);
    (files(&run), u64::MAX - changes_left())
}

#[test]
fn an_end_at_any_change_ends_in_the_same_bits() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = RunConfig { batch_size: 12, ..config(&prepared, &["1", "7"], 2) };
    let (expected, changes) = whole(place.path(), &config, &prepared);
    assert!(changes > 60, "{changes} changes: not all go through the gate");
    for end in 0..changes {
        let found = broken(place.path(), &config, &prepared, &[end]);
        assert_same(&found, &expected, &format!("ended after {end} of {changes} changes"));
    }
}

/// Every pair with GRADCON_ALL_PAIRS in the environment, else a spread of them in which every first
/// and every second end occurs.
#[test]
fn an_end_and_another_one_after_it_end_in_the_same_bits() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = RunConfig { batch_size: 12, ..config(&prepared, &["1"], 2) };
    let (expected, changes) = whole(place.path(), &config, &prepared);
    let step = if std::env::var_os("GRADCON_ALL_PAIRS").is_some() { 1 } else { 31 };
    for first in 0..changes {
        for second in (first % step..changes).step_by(step as usize) {
            let found = broken(place.path(), &config, &prepared, &[first, second]);
            assert_same(
                &found,
                &expected,
                &format!("ended after {first} and then {second} of {changes} changes"),
            );
        }
    }
}

/// What was not kept by a checkpoint is trained again.
#[test]
fn an_end_without_a_checkpoint_ends_in_the_same_bits() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = RunConfig { batch_size: 12, ..config(&prepared, &["1", "7"], 3) };
    let rarely = |run: &Path| {
        let mut notes = Notes::default();
        go_on(run, &config, &prepared, cpu::f32().as_mut(), RARELY, &mut notes)
    };
    let whole = place.path().join("whole");
    start(&whole, &config);
    end_after(u64::MAX);
    rarely(&whole).unwrap();
    let (expected, changes) = (files(&whole), u64::MAX - changes_left());
    for end in 0..changes {
        let run = place.path().join("broken");
        start(&run, &config);
        end_after(end);
        let ended = rarely(&run);
        end_after(u64::MAX);
        assert!(ended.is_err(), "{end} of {changes} changes");
        rarely(&run).unwrap();
        // A checkpoint may have been there already.
        let mut found = files(&run);
        found.retain(|path, _| !path.components().any(|part| part.as_os_str() == "previous"));
        assert_same(&found, &expected, &format!("ended after {end} of {changes} changes"));
        std::fs::remove_dir_all(run).unwrap();
    }
}

/// Checkpoints that are due in the middle of an epoch are made there, and change nothing.
#[test]
fn checkpoints_at_any_step_change_no_bit() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["1", "7"], 4);
    let (mut expected, _) = whole(place.path(), &config, &prepared);
    let run = place.path().join("often");
    start(&run, &config);
    let steps = Rc::new(RefCell::new(vec![]));
    let (seen, mark) = (steps.clone(), run.join("models/1/checkpoint.json"));
    let look = move || {
        // The writer has its time.
        std::thread::sleep(Duration::from_millis(5));
        let json: Option<serde_json::Value> =
            std::fs::read(&mark).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
        seen.borrow_mut().extend(json.and_then(|json| json["step"].as_u64()));
    };
    let mut notes = Notes { after_steps: Some(Box::new(look)), ..Notes::default() };
    let often = Options { checkpoint_every: Duration::from_nanos(1), ..Options::default() };
    go_on(&run, &config, &prepared, cpu::f32().as_mut(), often, &mut notes).unwrap();
    assert!(steps.borrow().iter().any(|&step| step > 0), "{steps:?}: none in an epoch");
    let mut found = files(&run);
    for files in [&mut found, &mut expected] {
        files.retain(|path, _| !path.components().any(|part| part.as_os_str() == "previous"));
    }
    assert_same(&found, &expected, "with checkpoints at any step");
}

/// A disk is waited for, and a device is read, for a checkpoint and not for an epoch.
#[test]
fn between_checkpoints_an_epoch_flushes_nothing_and_reads_little() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["1", "7"], 12);
    // Reads and flushes after each epoch.
    let costs = |name: &str, options: Options| {
        let run = place.path().join(name);
        start(&run, &config);
        let mut engine = Counting::new();
        let after = Rc::new(RefCell::new(vec![]));
        let (counts, noted) = (engine.counts.clone(), after.clone());
        let note = move || noted.borrow_mut().push((counts.reads.get(), syncs()));
        let mut notes = Notes { after_epoch: Some(Box::new(note)), ..Notes::default() };
        go_on(&run, &config, &prepared, &mut engine, options, &mut notes).unwrap();
        let end = (engine.counts.reads.get(), syncs());
        let after: Vec<(usize, u64)> = after.borrow().iter().copied().chain([end]).collect();
        assert_eq!(after.len(), 13);
        after.windows(2).map(|w| (w[1].0 - w[0].0, w[1].1 - w[0].1)).collect::<Vec<_>>()
    };
    let rarely = costs("rarely", RARELY);
    for (epoch, &(reads, flushed)) in (2..).zip(&rarely[..11]) {
        assert!(reads <= 3 && flushed == 0, "epoch {epoch}: {reads} reads, {flushed} flushes");
    }
    let (reads, flushed) = rarely[11];
    assert!(reads >= 6 && flushed > 0, "the end: {reads} reads, {flushed} flushes");
    let often = costs("often", EVERY_EPOCH);
    assert!(often.iter().all(|&(reads, _)| reads > 6), "{often:?}");
    assert!(often.iter().map(|&(_, flushed)| flushed).sum::<u64>() > 11 * flushed / 2, "{often:?}");
    let model = |name: &str| files(&place.path().join(name).join("models/1/last"));
    assert_same(&model("often"), &model("rarely"), "checkpoints change the training");
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_names_the_file() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["3"], 1000);
    let run = place.path().join("run");
    start(&run, &config);
    let (mark, epochs) = (run.join("models/3/checkpoint.json"), Rc::new(RefCell::new(0)));
    let seen = epochs.clone();
    let act = move || {
        *seen.borrow_mut() += 1;
        // No file takes a folder's place.
        let _ = std::fs::create_dir(&mark);
    };
    let mut notes = Notes { after_epoch: Some(Box::new(act)), ..Notes::default() };
    let error = go(&run, &config, &prepared, false, &mut notes).unwrap_err().to_string();
    assert!(error.contains("checkpoint.json"), "{error}");
    assert!(*epochs.borrow() <= 2, "{} epochs", epochs.borrow());
}

/// The best model is worth more than what ended the training.
#[test]
fn an_error_between_checkpoints_keeps_the_best_model() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["3"], 5);
    let run = place.path().join("lost");
    start(&run, &config);
    let mut engine = Counting::new();
    let (counts, epochs) = (engine.counts.clone(), Cell::new(0));
    // How many runs an epoch is depends on how long they take.
    let lose = move || {
        epochs.set(epochs.get() + 1);
        counts.lost.set(epochs.get() == 2);
    };
    let mut notes = Notes { after_epoch: Some(Box::new(lose)), ..Notes::default() };
    let error = go_on(&run, &config, &prepared, &mut engine, RARELY, &mut notes).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(!run.join("models/3/checkpoint.json").exists());
    let best = gradcon::Detector::load(&run.join("models/3/best/model.safetensors")).unwrap();
    assert_eq!(best.number("epoch").unwrap(), Some(2.0));
    complete(&run, &config, &prepared);
}

#[test]
fn damage_is_named_and_an_older_checkpoint_offered() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["1", "7"], 3);
    let (expected, _) = whole(place.path(), &config, &prepared);
    let run = place.path().join("whole");
    let longer = RunConfig { epochs: 4, ..config.clone() };
    let copy = |name: &str| {
        let to = place.path().join(name);
        for path in expected.keys() {
            let path_to = to.join(path);
            std::fs::create_dir_all(path_to.parent().unwrap()).unwrap();
            std::fs::copy(run.join(path), path_to).unwrap();
        }
        to
    };
    let unbroken = copy("unbroken");
    complete(&unbroken, &longer, &prepared);
    let longer_files = files(&unbroken);

    let damaged: Vec<PathBuf> = expected
        .keys()
        .filter(|path| path.components().any(|part| part.as_os_str() == "last"))
        .cloned()
        .chain(["models/1/checkpoint.json".into(), "models/7/checkpoint.json".into()])
        .collect();
    assert_eq!(damaged.len(), 2 * 4 + 2);
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    let cut: Damage = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 3]).unwrap();
    };
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    // The same class's file of the checkpoint before: whole, but not this one's.
    let exchange: Damage = |path| {
        let before =
            path.parent().unwrap().with_file_name("previous").join(path.file_name().unwrap());
        if before.exists() {
            std::fs::copy(before, path).unwrap();
        } else {
            std::fs::write(path, "{}").unwrap();
        }
    };
    for file in &damaged {
        for (how, damage) in
            [("flip", flip), ("cut", cut), ("remove", remove), ("exchange", exchange)]
        {
            let run = copy("damaged");
            // The best epoch may be the one before as well: then exchanging it changes nothing.
            damage(&run.join(file));
            let before = files(&run);
            if before == expected {
                std::fs::remove_dir_all(&run).unwrap();
                continue;
            }
            let error =
                go(&run, &longer, &prepared, false, &mut Notes::default()).unwrap_err().to_string();
            let named = error.contains(&run.join(file).display().to_string());
            assert!(named && error.contains("--recover"), "{how} {}: {error}", file.display());
            assert_same(&files(&run), &before, "a refused run is changed");
            let end = go(&run, &longer, &prepared, true, &mut Notes::default());
            assert_eq!(end.unwrap(), End::Complete, "{how} {}", file.display());
            let mut found = files(&run);
            let mut wanted = longer_files.clone();
            // The checkpoint before the last may be the damaged one: it was moved there as it was.
            for files in [&mut found, &mut wanted] {
                files.retain(|path, _| {
                    !path.components().any(|part| part.as_os_str() == "previous")
                });
            }
            assert_same(&found, &wanted, &format!("recovered after {how} {}", file.display()));
            std::fs::remove_dir_all(&run).unwrap();
        }
    }
}

#[test]
fn a_stop_in_an_epoch_of_one_step_is_heard_and_resumes_to_the_same_bits() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = RunConfig { batch_size: 64, ..config(&prepared, &["3"], 3) };
    let (expected, _) = whole(place.path(), &config, &prepared);
    let run = place.path().join("stopped");
    start(&run, &config);
    let mut stops = 0;
    while stops < 3 {
        let mut notes = Notes { stop_at_call: Some(1), ..Notes::default() };
        assert_eq!(go(&run, &config, &prepared, false, &mut notes).unwrap(), End::Stopped);
        stops += 1;
        assert_eq!(notes.calls, 1, "the training went on after it was told to stop");
    }
    complete(&run, &config, &prepared);
    let (mut found, mut expected) = (files(&run), expected);
    // The checkpoint before the last is the stop's.
    for files in [&mut found, &mut expected] {
        files.retain(|path, _| !path.starts_with("models/3/previous"));
    }
    assert_same(&found, &expected, "stopped three times");
}

#[test]
fn other_data_and_other_settings_are_refused_by_name() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["3"], 1);
    let run = place.path().join("run");
    start(&run, &config);
    complete(&run, &config, &prepared);
    let before = files(&run);
    let refused = |config: &RunConfig, prepared: &Prepared, name: &str| {
        let error =
            go(&run, config, prepared, false, &mut Notes::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{name}: {error}");
        assert_same(&files(&run), &before, name);
    };
    // Another split of the same images: training images would be tested on.
    let other = dataset(1);
    refused(&config, &other, "SHA-256");
    refused(
        &RunConfig { data_sha256: other.manifest().sha256(), ..config.clone() },
        &other,
        "data_sha256",
    );
    refused(&RunConfig { lr: 0.5, ..config.clone() }, &prepared, "lr is 0.5");
    refused(&RunConfig { batch_size: 7, ..config.clone() }, &prepared, "batch_size is 7");
    refused(&RunConfig { seed: 6, ..config.clone() }, &prepared, "seed is 6");
    let longer = RunConfig { epochs: 3, ..config.clone() };
    complete(&run, &longer, &prepared);
    let before = files(&run);
    let error =
        go(&run, &RunConfig { epochs: 2, ..config }, &prepared, false, &mut Notes::default())
            .unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("has 3 already"), "{error}");
    assert_same(&files(&run), &before, "fewer epochs");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_moved_in_mid_run_is_an_error_and_no_half_folder() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["1", "3"], 3);
    let (run, away) = (place.path().join("run"), place.path().join("away"));
    start(&run, &config);
    let (from, to) = (run.clone(), away.clone());
    let mut moved = false;
    let act = move || {
        if !std::mem::replace(&mut moved, true) {
            std::fs::rename(&from, &to).unwrap();
        }
    };
    let mut notes = Notes { after_epoch: Some(Box::new(act)), ..Notes::default() };
    let error = go(&run, &config, &prepared, false, &mut notes).unwrap_err().to_string();
    assert!(error.contains("moved or removed") && error.contains("run"), "{error}");
    assert!(!run.exists(), "half a folder: {:?}", files(&run).keys());
    complete(&away, &config, &prepared);
}

#[test]
fn a_class_that_diverges_is_named_and_the_others_go_on() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["1", "7"], 1);
    let (run, folders) = (place.path().join("run"), |run: &Path| {
        ["1", "7"].map(|class| run.join("models").join(class))
    });
    start(&run, &config);
    complete(&run, &config, &prepared);
    // A checkpoint whose first class can only diverge.
    let open = |folder: &Path| Checkpoints::open(folder, &Model::new(1)).unwrap();
    let (checkpoints, checkpoint) = open(&folders(&run)[0]);
    let mut checkpoint = checkpoint.unwrap();
    let healthy = checkpoint.replica.clone();
    let weights = Model::new(1)
        .params()
        .iter()
        .find(|p| p.name == "up.6.weight")
        .map(|p| p.offset..p.offset + p.len())
        .unwrap();
    let huge = |i: usize| if i.is_multiple_of(2) { f32::MAX } else { f32::MIN };
    weights.for_each(|i| checkpoint.replica.params[i] = huge(i / 3));
    let Checkpoint { device, settings, .. } = &checkpoint;
    save(&[&checkpoints], &join(&[&checkpoint]), device, &[settings]).unwrap();

    let longer = RunConfig { epochs: 3, ..config.clone() };
    let mut notes = Notes::default();
    let error = go(&run, &longer, &prepared, false, &mut notes).unwrap_err().to_string();
    assert!(error.contains("1 of 2 classes diverged"), "{error}");
    let [warning] = &notes.warnings[..] else { panic!("{:?}", notes.warnings) };
    assert!(warning.contains("class 1 diverged in epoch 2, step "), "{warning}");
    let after = open(&folders(&run)[0]).1.unwrap();
    assert_eq!(after.epoch, 3);
    let after = after.replica;
    assert!(after.params == checkpoint.replica.params, "the last finite tensors are kept");
    assert_eq!(after.best.as_ref().map(|best| best.epoch), Some(1));
    assert!(after.best == healthy.best && after.diverged.is_some());
    // Continued, it says so again and trains the other one.
    let mut notes = Notes::default();
    go(&run, &RunConfig { epochs: 4, ..longer.clone() }, &prepared, false, &mut notes).unwrap_err();
    assert!(notes.warnings[0].contains("class 1 diverged in epoch 2"), "{:?}", notes.warnings);

    // The other class's bits are those of a run in which nothing went wrong.
    let other = place.path().join("other");
    start(&other, &config);
    complete(&other, &RunConfig { epochs: 4, ..config }, &prepared);
    let of_7 = |run: &Path| files(&run.join("models").join("7"));
    let same_but_log = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
        files.retain(|path, _| !path.ends_with("state.json"));
        files
    };
    assert_same(&same_but_log(of_7(&run)), &same_but_log(of_7(&other)), "class 7");
}

/// Where every class diverges, nothing is written over what was good.
#[test]
fn numbers_that_are_not_finite_never_replace_a_checkpoint() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    for wild in [
        // Losses stay finite, parameters don't.
        RunConfig { alpha: 1e25, ..config(&prepared, &["3"], 6) },
        RunConfig { lr: 1e30, ..config(&prepared, &["3"], 6) },
    ] {
        let run = place.path().join("wild");
        start(&run, &wild);
        let mut notes = Notes::default();
        let error = go(&run, &wild, &prepared, false, &mut notes).unwrap_err().to_string();
        assert!(error.contains("diverged in epoch"), "{error}");
        assert!(
            notes.warnings.iter().any(|w| w.contains("class 3 diverged")),
            "{:?}",
            notes.warnings
        );
        // What is there can be read, and is finite.
        let (_, checkpoint) = Checkpoints::open(&run.join("models/3"), &Model::new(1)).unwrap();
        let replica = checkpoint.expect("that it diverged is kept").replica;
        assert!(replica.diverged.is_some());
        assert!(replica.params.iter().chain(&replica.reference).all(|v| v.is_finite()));
        // Stopped in the middle of it, it is an error as well.
        let before = files(&run);
        let mut notes = Notes { stop_at_call: Some(1), ..Notes::default() };
        if go(&run, &wild, &prepared, false, &mut notes).is_err() {
            assert_same(&files(&run), &before, "stopped while diverged");
        }
        std::fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn another_device_and_a_dead_model_are_told() {
    let (_alone, place, prepared) = (alone(), place(), dataset(0));
    let config = config(&prepared, &["3"], 1);
    let run = place.path().join("run");
    start(&run, &config);
    complete(&run, &config, &prepared);
    let (checkpoints, checkpoint) =
        Checkpoints::open(&run.join("models/3"), &Model::new(1)).unwrap();
    let checkpoint = checkpoint.unwrap();
    let (state, settings) = (join(&[&checkpoint]), &checkpoint.settings);
    save(&[&checkpoints], &state, "a card of long ago", &[settings]).unwrap();
    let mut notes = Notes::default();
    go(&run, &RunConfig { epochs: 2, ..config.clone() }, &prepared, false, &mut notes).unwrap();
    let [warning] = &notes.warnings[..] else { panic!("{:?}", notes.warnings) };
    assert!(warning.contains("trained on a card of long ago so far"), "{warning}");

    // All numbers are finite, and nothing can change any more.
    let (dead, run) = (RunConfig { lr: 10.0, epochs: 3, ..config }, place.path().join("dead"));
    start(&run, &dead);
    let mut notes = Notes::default();
    go(&run, &dead, &prepared, false, &mut notes).unwrap();
    let [warning] = &notes.warnings[..] else { panic!("{:?}", notes.warnings) };
    assert!(
        warning.contains("class 3 has a dead model since epoch ")
            && warning.contains("up.6.weight"),
        "{warning}"
    );
}
