//! The variational model: agreement with PyTorch's autograd in float64
//! (tools/variational_fixtures.py, which also says what the files hold), and its training, scores
//! and files as a user sees them.

mod cases;
mod common;

use std::ops::ControlFlow;

use cases::bits;
use common::{Tolerance, assert_close};
use gradcon::Images;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine, cpu};
use gradcon::kernels::Form;
use gradcon::layout::{Stat, Stats};
use gradcon::method::config::TrainConfig;
use gradcon::method::detector::{Detector, load_parameters};
use gradcon::method::feed::epoch_order;
use gradcon::method::model::{Init, Kind, Model};
use gradcon::method::objective::{Objective, StepLog, Terms, objective, parameter_gradient};
use gradcon::method::readout::Wanted;
use gradcon::method::readout::step::score_step;
use gradcon::method::scorer::Scorer;
use gradcon::method::state::{EpochReport, State};
use gradcon::method::trainer::{Outcome, Trainer, TrainingSet};
use gradcon::program::{Options, compile};
use gradcon::tape::{Tape, Tensor};
use safetensors::SafeTensors;

const TERMS: Terms = Terms { alpha: Some(0.5), kl_weight: 0.7, scale: 1.0 };

fn model(channels: usize) -> Model {
    Model::of(Kind::Vae, channels).unwrap()
}

/// The fixtures of a size, with their model and number of images.
fn fixture(name: &str) -> (Vec<u8>, Model, usize) {
    let (size, channels, n) = match name {
        "c1" => (28, 1, 5),
        "c3" => (28, 3, 2),
        "s64" => (64, 3, 1),
        "s96" => (96, 1, 2),
        other => panic!("no fixtures {other}"),
    };
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/tests/fixtures/variational/{name}.safetensors");
    (std::fs::read(path).unwrap(), Model::sized(Kind::Vae, size, channels).unwrap(), n)
}

/// -1 to 1: the fixtures' formula.
fn values(key: u64, count: usize) -> Vec<f64> {
    (0..count as u64).map(|i| (bits(key, i) >> 40) as f64 / (1 << 23) as f64 - 1.0).collect()
}

/// Values times a scale, rounded to f32.
fn scaled(key: u64, count: usize, scale: f64) -> Vec<f64> {
    values(key, count).into_iter().map(|v| (v * scale) as f32 as f64).collect()
}

/// The fixtures' parameters, flat.
fn parameters(model: &Model) -> Vec<f64> {
    let mut params: Vec<_> = model.params().iter().collect();
    params.sort_by(|a, b| a.name.cmp(&b.name));
    let mut flat = vec![0.0; model.len()];
    for (k, p) in params.into_iter().enumerate() {
        let scale: f64 = match p.torch_shape[..] {
            [_] => 0.125,
            [_, inputs] => (3.0 / inputs as f64).sqrt(),
            _ if p.name.starts_with("down") => (6.0 / (16 * p.torch_shape[1]) as f64).sqrt(),
            _ => (6.0 / (4 * p.torch_shape[0]) as f64).sqrt(),
        };
        p.to_flat(&scaled(100 + k as u64, p.len(), scale), &mut flat);
    }
    flat
}

/// The fixtures' references, flat.
fn references(model: &Model) -> Vec<f64> {
    let mut flat = vec![0.0; model.reference_len()];
    for (i, p) in model.constrained_weights().enumerate() {
        p.to_flat(&scaled(10 + i as u64, p.len(), 1.0), &mut flat);
    }
    flat
}

/// `[n, len]` to `[len, n]`.
fn images_innermost(of_image: &[f64], n: usize) -> Vec<f64> {
    let len = of_image.len() / n;
    (0..len * n).map(|at| of_image[at % n * len + at / n]).collect()
}

/// `[n, c, h, w]` to `[h, w, c, n]`.
fn pixels_innermost(nchw: &[f64], model: &Model, n: usize) -> Vec<f64> {
    let (area, channels) = (model.size() * model.size(), model.channels());
    let at = |(p, c, i): (usize, usize, usize)| nchw[(i * channels + c) * area + p];
    let places = (0..area * channels * n).map(|at| (at / n / channels, at / n % channels, at % n));
    places.map(at).collect()
}

/// The fixtures' images, `[n, c, h, w]`.
fn images(model: &Model, n: usize) -> Vec<f64> {
    (0..(n * model.pixels()) as u64).map(|i| (bits(1, i) >> 56) as f64 / 255.0).collect()
}

/// The fixtures' noise, `[n, features]`.
fn noise(model: &Model, n: usize) -> Vec<f64> {
    scaled(2, n * model.latent_len(), 3f64.sqrt())
}

/// L and its parts by name.
fn store(tape: &mut Tape, of: &Objective, prefix: &str) {
    let divergence = of.divergence.expect("a variational model's objective");
    for (name, t) in [
        ("loss", of.loss),
        ("mse", of.mse),
        ("constraint", of.constraint),
        ("divergence", divergence),
    ] {
        tape.store(t, &format!("{prefix}{name}"));
    }
}

fn batch(tape: &mut Tape, model: &Model, n: usize) -> (Tensor, Tensor) {
    let x = tape.leaf("x", model.shape(n));
    (x, tape.fill([1, 1, 1, n], 1.0 / n as f64))
}

/// What an engine may differ by from the fixtures, of each tensor's largest element: losses and
/// scores, and gradients.
type Tolerances = (f64, f64);

const F64: Tolerances = (1e-11, 1e-10);
const F32: Tolerances = (3e-6, 3e-5);
/// Five times the CPU's: a GPU's exp, division and square root may be a few units in the last place
/// off.
const GPU: Tolerances = (1.5e-5, 1.5e-4);

fn check(engine: &mut dyn Engine, form: Form, (values_to, gradients_to): Tolerances, name: &str) {
    let (bytes, model, n) = fixture(name);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let want = |name: &str| -> Vec<f64> {
        let data = file.tensor(name).unwrap().data();
        data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let close = |name: &str, got: &[f64], want: &[f64], tolerance: f64| {
        let largest = want.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        assert_close(name, got, want, Tolerance::absolute(tolerance * largest));
    };

    let mut tape = Tape::new();
    let batch = batch(&mut tape, &model, n);
    let eps = tape.leaf("noise", [1, 1, model.latent_len(), n]);
    let training = objective(&mut tape, &model, batch, Some(eps), TERMS);
    store(&mut tape, &training, "");
    let gradient = parameter_gradient(&mut tape, &model, &training);
    tape.store(gradient, "gradient");
    let validation = objective(&mut tape, &model, batch, None, TERMS);
    store(&mut tape, &validation, "validation.");
    let reconstruction = score_step(&mut tape, &model, batch, Wanted::default(), 1.0, "score", 1);
    tape.store(reconstruction, "reconstruction");
    let program = engine.load(&compile("all", &tape, Options::new(1, form))).unwrap();
    engine.write("params", Data::F64(&parameters(&model))).unwrap();
    engine.write("reference", Data::F64(&references(&model))).unwrap();
    engine.write("x", Data::F64(&pixels_innermost(&images(&model, n), &model, n))).unwrap();
    engine.write("noise", Data::F64(&images_innermost(&noise(&model, n), n))).unwrap();
    engine.run(program, 0..1).unwrap();

    let mut read = |name: &str| engine.read(name).unwrap();
    for (i, name) in ["loss", "mse", "constraint", "divergence"].into_iter().enumerate() {
        let got = [read(name)[0], read(&format!("validation.{name}"))[0]];
        // The constraint is a mean of cosines, whose own size is 1.
        let size = |want: f64| if name == "constraint" { 1.0 } else { want.abs() };
        for (got, want) in got.into_iter().zip([want(name)[0], want("validation")[i]]) {
            assert!((got - want).abs() <= values_to * size(want), "{name}: {got}, not {want}");
        }
    }
    let gradient = read("gradient");
    for p in model.params() {
        let (name, g) = (&p.name, p.from_flat(&gradient));
        let columns = g.len() / p.torch_shape[0];
        if p.torch_shape.len() == 1 {
            close(name, &g, &want(&format!("grad.{name}")), gradients_to);
            continue;
        }
        let (u, v) = (values(4, p.torch_shape[0]), values(3, columns));
        let dot = |row: &[f64]| row.iter().zip(&v).map(|(g, v)| g * v).sum();
        let rows: Vec<f64> = g.chunks_exact(columns).map(dot).collect();
        let column = |c: usize| u.iter().enumerate().map(|(r, u)| u * g[r * columns + c]).sum();
        let sums: Vec<f64> = (0..columns).map(column).collect();
        close(name, &rows, &want(&format!("grad.{name}.rows")), gradients_to);
        close(name, &sums, &want(&format!("grad.{name}.columns")), gradients_to);
    }
    let reconstruction = pixels_innermost(&want("reconstruction"), &model, n);
    close("reconstruction", &read("reconstruction"), &reconstruction, values_to);
    let log = read("score.log");
    close("score.mse", &log[..n], &want("score.mse"), values_to);
    let cosines = images_innermost(&want("score.cosines"), n);
    assert_close("cosines", &log[n..], &cosines, Tolerance::absolute(values_to));
}

#[test]
fn pytorch_agrees_in_f64() {
    for name in ["c1", "c3", "s64", "s96"] {
        check(cpu::f64().as_mut(), Form::Serial, F64, name);
    }
}

#[test]
fn pytorch_agrees_in_f32() {
    for (form, name) in [
        (Form::Serial, "c1"),
        (Form::Parallel, "c3"),
        (Form::Parallel, "s64"),
        (Form::Serial, "s96"),
    ] {
        check(cpu::f32().as_mut(), form, F32, name);
    }
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn pytorch_agrees_with_a_gpu() {
    let mut engine = gpu();
    let form = engine.form();
    for name in ["c1", "c3", "s64", "s96"] {
        check(&mut engine, form, GPU, name);
        engine.clear();
    }
}

fn gpu() -> GpuEngine {
    let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
    GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"))
}

/// A batch's scores are those of each image alone, by its whole gradient.
#[test]
fn the_scores_of_a_batch_are_those_of_each_image() {
    let (model, n) = (model(1), 5);
    let x = images(&model, n);
    let run = |record: &dyn Fn(&mut Tape, (Tensor, Tensor)), x: &[f64], out: &str| {
        let n = x.len() / model.pixels();
        let mut tape = Tape::new();
        let batch = batch(&mut tape, &model, n);
        record(&mut tape, batch);
        let mut engine = cpu::f64();
        let program = engine.load(&compile("test", &tape, Options::default())).unwrap();
        engine.write("params", Data::F64(&parameters(&model))).unwrap();
        engine.write("reference", Data::F64(&references(&model))).unwrap();
        engine.write("x", Data::F64(&pixels_innermost(x, &model, n))).unwrap();
        engine.run(program, 0..1).unwrap();
        engine.read(out).unwrap()
    };
    let together = run(
        &|tape, batch| {
            score_step(tape, &model, batch, Wanted::default(), 1.0, "score", 1);
        },
        &x,
        "score.log",
    );
    for (i, image) in x.chunks_exact(model.pixels()).enumerate() {
        let stats = run(
            &|tape, batch| {
                let alone = objective(tape, &model, batch, None, TERMS);
                tape.store(alone.stats, "stats");
            },
            image,
            "stats",
        );
        let alone: Vec<f64> = (0..4).map(|layer| stats[Stats::at(layer, Stat::Cos)]).collect();
        let cosines: Vec<f64> = (1..5).map(|layer| together[layer * n + i]).collect();
        assert_close("cosines", &cosines, &alone, Tolerance::absolute(1e-12));
    }
}

/// Images of a bar whose place depends on `seed`.
fn bars(count: usize, seed: usize) -> Images {
    let mut images = vec![0; count * 784];
    for i in 0..count {
        let at = 4 + (seed * 31 + i * 7) % 20;
        for p in 0..784 {
            images[i * 784 + p] = if (p / 28).abs_diff(at) < 2 { 255 } else { (p % 7) as u8 };
        }
    }
    Images::new(images, [count, 28, 28, 1]).unwrap()
}

fn config(epochs: usize) -> TrainConfig {
    TrainConfig { epochs, batch_size: 20, init: Init::Kaiming, seed: 3, ..TrainConfig::default() }
}

/// Sets of different sizes, the last batch of each smaller.
fn data() -> Vec<(Images, Images)> {
    [(50, 21), (19, 5)]
        .iter()
        .enumerate()
        .map(|(k, &(n, v))| (bars(n, k), bars(v, 9 + k)))
        .collect()
}

fn sets(data: &[(Images, Images)]) -> Vec<TrainingSet<'_>> {
    (40..)
        .zip(data)
        .map(|(seed, (train, validation))| TrainingSet {
            seed,
            ..TrainingSet::new(train, validation, &config(1))
        })
        .collect()
}

fn run(
    engine: &mut dyn Engine,
    sets: &[TrainingSet],
    epochs: usize,
) -> (Vec<Vec<Option<EpochReport>>>, State) {
    let mut trainer = Trainer::new(engine, &model(1), &config(epochs), sets).unwrap();
    let mut reports = vec![];
    while trainer.epochs_done() < epochs {
        match trainer.epoch(|_| ControlFlow::Continue(())).unwrap() {
            Outcome::Epoch(report) => reports.push(report),
            Outcome::Stopped => unreachable!(),
        }
    }
    (reports, trainer.state().unwrap())
}

/// What a run is to its engine: the same twice, alone or beside others, and stopped at any step.
fn check_repeats(engine: &mut dyn Engine) {
    let data = data();
    let sets = sets(&data);
    let (reports, state) = run(engine, &sets, 2);
    assert!((reports.clone(), state.clone()) == run(engine, &sets, 2), "two runs differ");
    for (k, set) in sets.iter().enumerate() {
        let (alone, lone) = run(engine, std::slice::from_ref(set), 2);
        for epoch in 0..2 {
            assert_eq!(reports[epoch][k], alone[epoch][0], "model {k} epoch {epoch}");
        }
        assert!(state.replicas[k] == lone.replicas[0], "model {k}: tensors differ");
    }
    let other = [TrainingSet { seed: 99, ..sets[0] }];
    assert!(run(engine, &other, 2).1 != run(engine, &sets[..1], 2).1, "the seed changes nothing");

    // Stopped as often as it listens, and begun anew each time.
    let (mut kept, mut stops) = (None, 0);
    loop {
        let mut trainer = Trainer::new(engine, &model(1), &config(2), &sets).unwrap();
        if let Some(state) = &kept {
            trainer.restore(state).unwrap();
        }
        match trainer.epoch(|_| ControlFlow::Break(())).unwrap() {
            Outcome::Stopped => stops += 1,
            Outcome::Epoch(_) if trainer.epochs_done() == 2 => {
                assert!(trainer.state().unwrap() == state, "a resumed run differs");
                break;
            }
            Outcome::Epoch(_) => {}
        }
        kept = Some(trainer.state().unwrap());
    }
    assert!(stops >= 4, "{stops} stops");
}

#[test]
fn a_training_repeats_itself_alone_resumed_and_beside_others() {
    check_repeats(cpu::f32().as_mut());
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn a_gpu_repeats_itself_and_trains_like_the_cpu() {
    let mut gpu = gpu();
    check_repeats(&mut gpu);
    let data = data();
    let [(on_gpu, _), (on_cpu, _)] =
        [run(&mut gpu, &sets(&data), 2), run(cpu::f32().as_mut(), &sets(&data), 2)];
    for (a, b) in on_gpu.iter().flatten().flatten().zip(on_cpu.iter().flatten().flatten()) {
        for (a, b) in [(&a.train, &b.train), (&a.validation, &b.validation)] {
            let close = |a: f64, b: f64| (a - b).abs() < 1e-4 * b.abs();
            assert!(close(a.mse, b.mse) && close(a.divergence, b.divergence), "{a:?} {b:?}");
        }
    }
}

/// The first step of a training draws by the set's seed and iteration 1, for the images in their
/// order; its validation takes the mean.
#[test]
fn a_training_draws_what_its_seed_says_and_a_validation_nothing() {
    let data = &data()[..1];
    let (set, config, model) = (&sets(data)[0], config(2), model(1));
    let mut engine = cpu::f32();
    let mut trainer =
        Trainer::new(engine.as_mut(), &model, &config, std::slice::from_ref(set)).unwrap();
    assert_eq!(trainer.epoch(|_| ControlFlow::Break(())).unwrap(), Outcome::Stopped);
    let log = trainer.state().unwrap().log;
    let logged = StepLog::of(&model).parse(&log[..StepLog::of(&model).width()]);

    let order = epoch_order(50, set.seed, 0, true);
    let n = config.batch_size;
    let first: Vec<f64> = order[..n]
        .iter()
        .flat_map(|&i| set.train.image(i as usize).iter().map(|&b| f64::from(b) / 255.0))
        .collect();
    let params: Vec<f64> = model.init(config.init, set.seed).into_iter().map(f64::from).collect();
    let parts = |drawn: bool| {
        let mut tape = Tape::new();
        let batch = batch(&mut tape, &model, n);
        let noise = drawn.then(|| tape.noise("draws", [1, 1, model.latent_len(), n], 0, 1));
        let of = objective(&mut tape, &model, batch, noise, Terms::default());
        store(&mut tape, &of, "");
        let mut engine = cpu::f32();
        let program = engine.load(&compile("test", &tape, Options::default())).unwrap();
        engine.write("params", Data::F64(&params)).unwrap();
        engine.write("x", Data::F64(&images_innermost(&first, n))).unwrap();
        if drawn {
            engine.write("draws", Data::U32(&[set.seed as u32, 0, 1, 0])).unwrap();
        }
        engine.run(program, 0..1).unwrap();
        ["mse", "divergence"].map(|name| engine.read(name).unwrap()[0])
    };
    let (drawn, mean) = (parts(true), parts(false));
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs();
    assert!(close(logged.mse, drawn[0]) && close(logged.divergence, drawn[1]), "{logged:?}");
    assert!(!close(logged.mse, mean[0]) && close(mean[1], drawn[1]), "{logged:?} {mean:?}");

    // The epoch's validation loss is that of the best model's means.
    let mut trainer =
        Trainer::new(engine.as_mut(), &model, &config, std::slice::from_ref(set)).unwrap();
    let Outcome::Epoch(reports) = trainer.epoch(|_| ControlFlow::Continue(())).unwrap() else {
        panic!("nobody asked to stop")
    };
    let report = reports[0].clone().unwrap();
    let best = trainer.best().unwrap()[0].unwrap().clone();
    let detector = best.into_detector(&model, &config);
    let scores = Scorer::new(engine.as_mut(), &detector).unwrap().score(set.validation).unwrap();
    let mse = scores.iter().map(|s| s.mse).sum::<f64>() / scores.len() as f64;
    assert!(close(report.validation.mse, mse), "{report:?}, scored {mse}");
    let v = &report.validation;
    assert!(close(v.loss, v.mse + 0.03 * v.constraint + 0.02 * v.divergence), "{v:?}");
    assert!(v.divergence > 0.0);
}

#[test]
fn a_file_says_of_which_kind_its_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let of = |kind| {
        let model = Model::of(kind, 1).unwrap();
        Detector {
            params: model.init(Init::Torch, 1),
            reference: vec![0.5; model.reference_len()],
            model,
            statistics: None,
            description: Default::default(),
        }
    };
    let detector = of(Kind::Vae);
    detector.save(&path).unwrap();
    assert_eq!(Detector::load(&path).unwrap(), detector);
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["gradcon.model"], "vae");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("fc2.weight").unwrap().shape(), [576, 576]);

    // Of another program, which says nothing but by its tensors.
    let save = |names: &dyn Fn(&str) -> bool| {
        let tensors: Vec<_> = file.tensors().into_iter().filter(|(name, _)| names(name)).collect();
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    save(&|_| true);
    assert_eq!(Detector::load(&path).unwrap(), detector);
    save(&|name| !name.starts_with("ref_grad."));
    assert_eq!(load_parameters(&path).unwrap(), (detector.model.clone(), detector.params.clone()));
    save(&|name| name != "fc12.bias");
    let error = Detector::load(&path).unwrap_err().to_string();
    assert!(error.contains("no tensor 'fc12.bias' of shape [576]"), "{error}");

    let at = bytes.windows(5).position(|w| w == b"\"vae\"").unwrap();
    let patched = [&bytes[..at], b"\"gan\"", &bytes[at + 5..]].concat();
    let error = Detector::parse(&patched, &path).unwrap_err().to_string();
    assert!(error.contains("kind 'gan', only cae and vae are known"), "{error}");
}
