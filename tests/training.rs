//! Training and scoring as a user sees them: replicas equal lone models, a resumed run equals an
//! unbroken one, the same seed gives the same bits, model files survive a round trip, and a trained
//! model tells classes apart.

mod engines;

use std::ops::ControlFlow;

use engines::Counting;

use gradcon::Images;
use gradcon::engine::Engine;
use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::method::config::TrainConfig;
use gradcon::method::detector::{Detector, load_parameters};
use gradcon::method::model::{Init, Model};
use gradcon::method::scorer::Scorer;
use gradcon::method::state::{EpochReport, State};
use gradcon::method::trainer::{Outcome, Trainer, TrainingSet};

/// Images of a bar whose direction and place depend on `seed`: enough structure to learn something.
fn bars(count: usize, channels: usize, seed: u64, vertical: bool) -> Images {
    let mut images = vec![0; count * 784 * channels];
    for i in 0..count {
        let at = 4 + (seed as usize * 31 + i * 7) % 20;
        for p in 0..784 {
            let (row, col): (usize, usize) = (p / 28, p % 28);
            let on = (if vertical { col } else { row }).abs_diff(at) < 2;
            for c in 0..channels {
                images[(i * 784 + p) * channels + c] =
                    if on { 255 - 20 * c as u8 } else { (p % 7) as u8 };
            }
        }
    }
    Images::new(images, [count, 28, 28, channels]).unwrap()
}

fn config(epochs: usize) -> TrainConfig {
    TrainConfig { epochs, batch_size: 20, init: Init::Kaiming, seed: 3, ..TrainConfig::default() }
}

fn engine() -> Box<dyn Engine> {
    cpu::f32()
}

/// Sets of different sizes, also with a different number of steps.
fn data() -> Vec<(Images, Images)> {
    [(50, 21), (19, 5), (81, 30)]
        .iter()
        .enumerate()
        .map(|(k, &(n, v))| (bars(n, 1, k as u64, false), bars(v, 1, 9 + k as u64, false)))
        .collect()
}

fn sets(data: &[(Images, Images)]) -> Vec<TrainingSet<'_>> {
    data.iter()
        .enumerate()
        .map(|(k, (train, validation))| TrainingSet {
            seed: k as u64,
            alpha: [0.03, 0.5, 0.1][k],
            lr: [1e-3, 3e-4, 2e-3][k],
            ..TrainingSet::new(train, validation, &config(1))
        })
        .collect()
}

fn run(
    engine: &mut dyn Engine,
    sets: &[TrainingSet],
    epochs: usize,
) -> (Vec<Vec<Option<EpochReport>>>, State) {
    let mut trainer = Trainer::new(engine, &Model::new(1), &config(epochs), sets).unwrap();
    let mut reports = vec![];
    for _ in 0..epochs {
        match trainer.epoch(|_| ControlFlow::Continue(())).unwrap() {
            Outcome::Epoch(report) => reports.push(report),
            Outcome::Stopped => unreachable!(),
        }
    }
    (reports, trainer.state().unwrap())
}

#[test]
fn replicas_equal_lone_models_to_the_bit() {
    let data = data();
    let sets = sets(&data);
    let (together, state) = run(engine().as_mut(), &sets, 2);
    for (k, set) in sets.iter().enumerate() {
        let (alone, lone) = run(engine().as_mut(), std::slice::from_ref(set), 2);
        for epoch in 0..2 {
            assert_eq!(together[epoch][k], alone[epoch][0], "model {k} epoch {epoch}");
        }
        assert!(state.replicas[k] == lone.replicas[0], "model {k}: tensors differ");
    }
    assert!(state.replicas[0].params != state.replicas[1].params);
}

/// Patience ends each replica by itself, as the definition says and as if it trained alone, also if
/// the training is interrupted afterwards and goes on.
#[test]
fn patience_ends_each_replica_by_itself() {
    const EPOCHS: usize = 9;
    let data = data();
    let mut sets = sets(&data);
    sets[1].lr = 0.05;
    sets[2].lr = 0.03;
    let (reports, _) = run(engine().as_mut(), &sets, EPOCHS);
    let patient = TrainConfig { patience: Some(2), ..config(EPOCHS) };
    // After which epoch two in a row were no better than the best before.
    let end = |r: usize| {
        let mut best = (f64::INFINITY, 0);
        for epoch in 1..=EPOCHS {
            let loss = reports[epoch - 1][r].as_ref().unwrap().validation.loss;
            best = if loss < best.0 { (loss, epoch) } else { best };
            if epoch == best.1 + 2 {
                return Some(epoch);
            }
        }
        None
    };
    let ends: Vec<Option<usize>> = (0..3).map(end).collect();
    assert!(ends[0] != ends[1] && ends[1].is_some_and(|end| end < EPOCHS - 1), "{ends:?}");

    let train = |break_at: Option<usize>| {
        let (mut first, mut second) = (engine(), engine());
        let mut seen = vec![];
        let mut trainer = Trainer::new(first.as_mut(), &Model::new(1), &patient, &sets).unwrap();
        let go = |trainer: &mut Trainer, to: usize, seen: &mut Vec<_>| {
            while trainer.epochs_done() < to && !trainer.is_through() {
                match trainer.epoch(|_| ControlFlow::Continue(())).unwrap() {
                    Outcome::Epoch(report) => seen.push(report),
                    Outcome::Stopped => unreachable!(),
                }
            }
        };
        go(&mut trainer, break_at.unwrap_or(EPOCHS), &mut seen);
        if break_at.is_some() {
            // In the midst of an epoch.
            trainer.epoch(|_| ControlFlow::Break(())).unwrap();
        }
        let state = trainer.state().unwrap();
        let mut again = Trainer::new(second.as_mut(), &Model::new(1), &patient, &sets).unwrap();
        again.restore(&state).unwrap();
        go(&mut again, EPOCHS, &mut seen);
        assert_eq!(again.stopped_early(), ends);
        (seen, again.state().unwrap())
    };
    let (seen, whole) = train(None);
    for (epoch, (with, without)) in seen.iter().zip(&reports).enumerate() {
        for r in 0..3 {
            let over = ends[r].is_some_and(|end| epoch + 1 > end);
            let wanted = if over { &None } else { &without[r] };
            assert_eq!(&with[r], wanted, "replica {r}, epoch {}", epoch + 1);
        }
    }
    for (r, set) in sets.iter().enumerate() {
        let (_, lone) =
            run(engine().as_mut(), std::slice::from_ref(set), ends[r].unwrap_or(whole.epoch));
        assert!(whole.replicas[r] == lone.replicas[0], "replica {r}: tensors differ");
    }
    let (broken, state) = train(ends[1]);
    assert!(broken == seen && state == whole, "an interruption changes something");
    let senseless = TrainConfig { patience: Some(0), ..config(1) };
    assert!(senseless.check().unwrap_err().to_string().contains("patience is 0"));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let data = data();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(engine().as_mut(), &sets(&data)[2..], 1).1)
    };
    let one = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == one, "{threads} threads");
    }
}

#[test]
fn two_runs_give_the_same_bits_and_another_seed_gives_others() {
    let data = data();
    let one = &sets(&data)[..1];
    let (a, state) = run(engine().as_mut(), one, 2);
    assert_eq!((a, state.clone()), run(engine().as_mut(), one, 2));
    let others = [
        TrainingSet { seed: 77, ..one[0] },
        TrainingSet { alpha: 0.04, ..one[0] },
        TrainingSet { lr: 1.5e-3, ..one[0] },
    ];
    for other in others {
        assert!(run(engine().as_mut(), &[other], 2).1 != state, "{other:?}");
    }
}

#[test]
fn a_resumed_run_equals_an_unbroken_one() {
    let data = data();
    let sets = sets(&data);
    let (reports, unbroken) = run(engine().as_mut(), &sets, 3);
    let big = (bars(400, 1, 5, true), bars(40, 1, 6, true));
    let with_big: Vec<TrainingSet> =
        [TrainingSet { seed: 4, ..TrainingSet::new(&big.0, &big.1, &config(1)) }, sets[1]].to_vec();
    let (_, unbroken_big) = run(engine().as_mut(), &with_big, 2);

    // Between epochs.
    let (_, state) = run(engine().as_mut(), &sets, 1);
    let mut engine2 = engine();
    let mut trainer = Trainer::new(engine2.as_mut(), &Model::new(1), &config(3), &sets).unwrap();
    trainer.restore(&state).unwrap();
    for want in &reports[1..] {
        assert_eq!(
            trainer.epoch(|_| ControlFlow::Continue(())).unwrap(),
            Outcome::Epoch(want.clone())
        );
    }
    assert!(trainer.state().unwrap() == unbroken);

    // In the middle of an epoch, twice in a row.
    let mut engine3 = engine();
    let mut state = None;
    let mut stops = 0;
    loop {
        let mut trainer =
            Trainer::new(engine3.as_mut(), &Model::new(1), &config(2), &with_big).unwrap();
        if let Some(state) = &state {
            trainer.restore(state).unwrap();
        }
        match trainer.epoch(|_| ControlFlow::Break(())).unwrap() {
            Outcome::Stopped => stops += 1,
            Outcome::Epoch(_) if trainer.epochs_done() == 2 => {
                assert!(stops >= 4, "{stops} stops");
                assert!(trainer.state().unwrap() == unbroken_big);
                break;
            }
            Outcome::Epoch(_) => {}
        }
        state = Some(trainer.state().unwrap());
    }
}

/// On the GPU: replicas equal lone models, a resumed run equals an unbroken one, two runs give the
/// same bits; and the numbers are the CPU's.
#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn a_gpu_trains_like_the_cpu_and_repeats_itself() {
    let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
    let mut gpu = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    let data: Vec<_> = [(45, 21), (19, 5)]
        .iter()
        .map(|&(n, v)| (bars(n, 1, n as u64, false), bars(v, 1, v as u64, false)))
        .collect();
    let sets = sets(&data);
    let (reports, state) = run(&mut gpu, &sets, 2);
    assert!((reports.clone(), state.clone()) == run(&mut gpu, &sets, 2), "two runs differ");
    let (alone, lone) = run(&mut gpu, &sets[1..], 2);
    assert_eq!((&reports[0][1], &reports[1][1]), (&alone[0][0], &alone[1][0]));
    assert!(state.replicas[1] == lone.replicas[0], "a replica differs from a lone model");

    let (_, half) = run(&mut gpu, &sets, 1);
    let mut trainer = Trainer::new(&mut gpu, &Model::new(1), &config(2), &sets).unwrap();
    trainer.restore(&half).unwrap();
    assert_eq!(
        trainer.epoch(|_| ControlFlow::Continue(())).unwrap(),
        Outcome::Epoch(reports[1].clone())
    );
    assert!(trainer.state().unwrap() == state, "a resumed run differs");

    let (cpu, _) = run(engine().as_mut(), &sets, 2);
    for (a, b) in reports.iter().flatten().flatten().zip(cpu.iter().flatten().flatten()) {
        for (a, b) in [(&a.train, &b.train), (&a.validation, &b.validation)] {
            assert!(
                (a.mse - b.mse).abs() < 1e-4 * b.mse && (a.constraint - b.constraint).abs() < 1e-3,
                "{a:?} {b:?}"
            );
        }
    }
}

/// The best model stays on the device until somebody asks, and is the one of its epoch then.
#[test]
fn the_best_model_is_that_of_its_epoch_whenever_it_is_read() {
    let data = data();
    let read = |every_epoch: bool| {
        let mut engine = engine();
        let mut trainer =
            Trainer::new(engine.as_mut(), &Model::new(1), &config(6), &sets(&data)).unwrap();
        let mut states = vec![];
        for _ in 0..6 {
            trainer.epoch(|_| ControlFlow::Continue(())).unwrap();
            if every_epoch {
                states.push(trainer.state().unwrap());
            }
        }
        let best: Vec<_> =
            trainer.best().unwrap().into_iter().map(|best| best.unwrap().clone()).collect();
        (states, best)
    };
    let (states, best) = read(true);
    assert!(read(false).1 == best, "read at the end, they are others");
    for (r, best) in best.iter().enumerate() {
        let then = &states[best.epoch - 1].replicas[r];
        assert!(best.params == then.params && best.reference == then.reference, "model {r}");
    }
}

#[test]
fn a_best_model_that_is_not_finite_takes_no_others_place() {
    let data = data();
    let mut engine = Counting { good_copies: 1, ..Counting::new() };
    let sets = &sets(&data)[..1];
    let mut trainer = Trainer::new(&mut engine, &Model::new(1), &config(9), sets).unwrap();
    let epoch = |trainer: &mut Trainer| match trainer.epoch(|_| ControlFlow::Continue(())).unwrap()
    {
        Outcome::Epoch(reports) => reports[0].as_ref().unwrap().best,
        Outcome::Stopped => unreachable!(),
    };
    assert!(epoch(&mut trainer));
    let first = trainer.best().unwrap()[0].cloned().unwrap();
    assert!((0..8).any(|_| epoch(&mut trainer)), "no epoch improved on the first");
    assert!(trainer.best().unwrap() == [Some(&first)]);
    let diverged = trainer.diverged().next().flatten().unwrap().to_string();
    assert!(diverged.contains("is NaN"), "{diverged}");
}

#[test]
fn a_state_of_another_training_is_refused() {
    let data = data();
    let sets = sets(&data);
    let (_, state) = run(engine().as_mut(), &sets[..1], 1);
    let mut engine = engine();
    let mut trainer = Trainer::new(engine.as_mut(), &Model::new(1), &config(3), &sets).unwrap();
    let error = trainer.restore(&state).unwrap_err().to_string();
    assert!(error.contains("1 models") && error.contains("3 models"), "{error}");
}

#[test]
fn a_trained_detector_tells_directions_apart_and_survives_a_file() {
    let (train, validation) = (bars(300, 3, 1, false), bars(30, 3, 2, false));
    let mut engine = engine();
    let config = TrainConfig { epochs: 15, ..config(15) };
    let mut losses = vec![];
    let detector = gradcon::method::train(engine.as_mut(), (&train, &validation), &config, |r| {
        losses.push(r.validation.loss)
    })
    .unwrap();
    assert!(losses[14] < losses[0], "{losses:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    detector.save(&path).unwrap();
    let loaded = Detector::load(&path).unwrap();
    assert_eq!(loaded, detector);
    let again = folder.path().join("again.safetensors");
    loaded.save(&again).unwrap();
    assert!(
        std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap(),
        "equal models are equal files"
    );

    let (normal, odd) = (bars(70, 3, 5, false), bars(75, 3, 5, true));
    let mut scorer = Scorer::new(engine.as_mut(), &loaded).unwrap();
    let (a, b) = (scorer.score(&normal).unwrap(), scorer.score(&odd).unwrap());
    assert_eq!((a.len(), b.len()), (70, 75));
    let wrong: usize = a.iter().map(|a| b.iter().filter(|b| b.score <= a.score).count()).sum();
    assert!((wrong as f64) < 0.05 * 70.0 * 75.0, "{wrong} pairs in the wrong order");
    for s in a.iter().chain(&b) {
        assert!((s.score - (s.mse - 0.12 * s.cos)).abs() < 1e-12 && s.cosines.len() == 4);
        assert!((s.cos - s.cosines.iter().sum::<f64>() / 4.0).abs() < 1e-12 && s.cos.abs() <= 1.0);
    }
    // An image's score doesn't depend on its neighbours.
    let alone = scorer.score(&normal.select(&[13])).unwrap();
    assert_eq!(alone[0], a[13]);
    // Reconstructions are the ones whose error is the score's.
    let reconstruction = scorer.reconstruct(&normal).unwrap();
    let mse: f64 = (0..784 * 3)
        .map(|p| {
            (reconstruction[69 * 784 * 3 + p] as f64 - normal.image(69)[p] as f64 / 255.0).powi(2)
        })
        .sum::<f64>()
        / (784.0 * 3.0);
    assert!((mse - a[69].mse).abs() < 1e-6, "{mse} {}", a[69].mse);
}

#[test]
fn bad_files_and_bad_sets_are_errors_that_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let missing = Detector::load(&path).unwrap_err().to_string();
    assert!(missing.contains("model.safetensors"), "{missing}");

    let model = Model::new(1);
    let good = Detector {
        params: model.init(Init::Torch, 1),
        reference: vec![0.5; model.reference_len()],
        model,
        statistics: None,
        description: Default::default(),
    };
    good.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let truncated = Detector::load(&path).unwrap_err().to_string();
    assert!(truncated.contains("safetensors"), "{truncated}");

    let mut nan = good.clone();
    nan.params[5] = f32::NAN;
    nan.save(&path).unwrap();
    let error = Detector::load(&path).unwrap_err().to_string();
    assert!(error.contains("NaN") && error.contains("weight"), "{error}");

    good.save(&path).unwrap();
    assert_eq!(load_parameters(&path).unwrap().1, good.params);
    let renamed: Vec<u8> = bytes
        .windows(13)
        .position(|w| w == b"ref_grad.up.2")
        .map(|i| [&bytes[..i], b"ref_brad.up.2", &bytes[i + 13..]].concat())
        .unwrap();
    std::fs::write(&path, renamed).unwrap();
    let error = Detector::load(&path).unwrap_err().to_string();
    assert!(error.contains("ref_grad.up.2.weight") && error.contains("reference"), "{error}");

    let mut engine = engine();
    let (train, validation) = (bars(3, 1, 1, false), bars(0, 1, 1, false));
    let set = TrainingSet::new(&train, &validation, &config(1));
    let error = Trainer::new(engine.as_mut(), &Model::new(1), &config(1), &[set])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("validation") && error.contains("no images"), "{error}");
    let set = TrainingSet { validation: &train, ..set };
    let error = Trainer::new(engine.as_mut(), &Model::new(3), &config(1), &[set])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("[28, 28, 1]") && error.contains("[28, 28, 3]"), "{error}");
    let mut scorer = Scorer::new(engine.as_mut(), &good).unwrap();
    // As many bytes as three gray images have, but another shape; and fewer images than it says.
    let wide = Images::new(vec![0; 3 * 784], [1, 28, 28, 3]).unwrap();
    let error = scorer.score(&wide).unwrap_err().to_string();
    assert!(error.contains("[28, 28, 3]") && error.contains("[28, 28, 1]"), "{error}");
    assert!(scorer.reconstruct(&wide).is_err());
    let error = scorer.score(&Images { n: 4, ..train.clone() }).unwrap_err().to_string();
    assert!(error.contains("2352 bytes") && error.contains("[4, 28, 28, 1]"), "{error}");
    for bad in [
        TrainConfig { batch_size: 0, ..config(1) },
        TrainConfig { alpha: f64::NAN, ..config(1) },
        TrainConfig { epochs: 0, ..config(1) },
    ] {
        assert!(Trainer::new(engine.as_mut(), &Model::new(1), &bad, &[set]).is_err(), "{bad:?}");
    }
    for bad in [
        TrainingSet { alpha: -1.0, ..set },
        TrainingSet { lr: 0.0, ..set },
        TrainingSet { lr: f64::NAN, ..set },
    ] {
        assert!(Trainer::new(engine.as_mut(), &Model::new(1), &config(1), &[bad]).is_err());
    }
    let mixed = [set, TrainingSet { alpha: 0.0, ..set }];
    let error = Trainer::new(engine.as_mut(), &Model::new(1), &config(1), &mixed).err().unwrap();
    assert!(error.to_string().contains("alpha is 0.03 and 0"), "{error}");
    let wild = TrainingSet { lr: 1e30, ..set };
    let mut trainer = Trainer::new(engine.as_mut(), &Model::new(1), &config(3), &[wild]).unwrap();
    let error = (0..3)
        .find_map(|_| trainer.epoch(|_| ControlFlow::Continue(())).err())
        .expect("a loss of NaN is an error")
        .to_string();
    assert!(error.contains("diverged"), "{error}");
}
