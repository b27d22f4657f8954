//! Half precision: how far gradients and scores are from those in f64, derived from what f16 can
//! say, and that a training in it repeats itself, can be interrupted and learns the same.

mod common;

use std::ops::ControlFlow;

use common::{Tolerance, assert_close};
use gradcon::Images;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine, cpu};
use gradcon::geometry::Geometry;
use gradcon::kernels::{Element, Form};
use gradcon::method::config::TrainConfig;
use gradcon::method::detector::Detector;
use gradcon::method::model::{IMAGE_SIZE, Init, Kind, Model};
use gradcon::method::objective::{Terms, loss_scale, objective, parameter_gradient};
use gradcon::method::readout::Rule;
use gradcon::method::scorer::Scorer;
use gradcon::method::state::State;
use gradcon::method::trainer::{Outcome, Trainer, TrainingSet};
use gradcon::program::{Options, Precision, Program, compile};
use gradcon::tape::Tape;

/// What a number is rounded by, of itself: f16 has 11 bits.
const UNIT: f64 = 1.0 / 2048.0;

/// Images in a batch.
const N: usize = 16;

/// Images of a bar on a ground that isn't even: `[h, w, c, n]`, in levels of a byte.
fn bars(channels: usize, n: usize) -> Vec<f64> {
    let mut x = vec![0.0; IMAGE_SIZE * IMAGE_SIZE * channels * n];
    for (at, v) in x.iter_mut().enumerate() {
        let (image, row, column) = (at % n, at / (n * channels * IMAGE_SIZE), at / (n * channels));
        let bar = row.abs_diff(4 + image * 7 % 20) < 3;
        let level = if bar { 230 - 9 * (image % 5) } else { column * (3 + image % 4) % 41 };
        *v = level as f64 / 255.0;
    }
    x
}

/// The loss and its gradient in a precision: the program, and (mse, constraint, gradient).
fn gradients(
    engine: &mut dyn Engine,
    model: &Model,
    (params, reference): (&[f64], &[f64]),
    precision: Precision,
) -> (Program, [Vec<f64>; 3]) {
    let shape = [IMAGE_SIZE, IMAGE_SIZE, model.channels(), N];
    let mut tape = Tape::new();
    let x = tape.leaf("x", shape);
    let weight = tape.fill([1, 1, 1, N], 1.0 / N as f64);
    let terms = Terms { alpha: Some(0.3), scale: loss_scale(precision, shape), ..Terms::default() };
    let noise = [1, 1, model.latent_len(), N];
    let noise = (model.kind() == Kind::Vae).then(|| tape.leaf("noise", noise));
    let o = objective(&mut tape, model, (x, weight), noise, terms);
    let gradient = parameter_gradient(&mut tape, model, &o);
    tape.store(o.mse, "mse");
    tape.store(o.constraint, "constraint");
    tape.store(gradient, "gradient");
    let options = Options { precision, ..Options::new(1, engine.form()) };
    let program = compile("gradients", &tape, options);
    engine.clear();
    let loaded = engine.load(&program).unwrap();
    let x = bars(model.channels(), N);
    for (name, data) in [("x", &x[..]), ("params", params), ("reference", reference)] {
        engine.write(name, Data::F64(data)).unwrap();
    }
    if noise.is_some() {
        let noise: Vec<f64> = (0..model.latent_len() * N).map(signed).collect();
        engine.write("noise", Data::F64(&noise)).unwrap();
    }
    engine.run(loaded, 0..1).unwrap();
    (program, ["mse", "constraint", "gradient"].map(|name| engine.read(name).unwrap()))
}

/// How many times on the way to a result numbers are rounded to f16: calls that write some.
fn roundings(program: &Program) -> usize {
    let half = |b: usize| program.buffers[b].element == Element::Half;
    let writes = |call: &&gradcon::program::Call| call.args.last().is_some_and(|a| half(a.buffer));
    program.calls.iter().filter(writes).count()
}

/// -1 to 1.
fn signed(i: usize) -> f64 {
    ((i * 2654435761) % 2003) as f64 / 1001.0 - 1.0
}

fn norm(v: impl Iterator<Item = f64>) -> f64 {
    v.map(|v| v * v).sum::<f64>().sqrt()
}

/// Every tensor on the way to a gradient is off by at most a unit of itself once it is rounded, and
/// so is what is linear in it. Roundings to the nearest are independent and add by their squares;
/// of a GPU, which may round towards zero, they add as they are. Where a ReLU is within a unit of zero, it may open or close, and a term comes or goes: of
/// all terms a unit's share in each of the seven layers, which in a norm counts by its root.
fn check_gradients(engine: &mut dyn Engine, nearest: bool) {
    let plain =
        [(1, true), (3, true), (1, false), (3, false)].map(|(c, open)| (Kind::Cae, c, open));
    let variational = [(Kind::Vae, 1, true), (Kind::Vae, 1, false)];
    for (kind, channels, open) in plain.into_iter().chain(variational) {
        let model = Model::of(kind, channels).unwrap();
        let mut params: Vec<f64> =
            model.init(Init::Kaiming, 5).into_iter().map(f64::from).collect();
        for p in model.params().iter().filter(|_| open) {
            // Far from zero, every ReLU stays open.
            let values = &mut params[p.offset..p.offset + p.len()];
            let bias = p.name.ends_with("bias");
            values.iter_mut().for_each(|v| *v = if bias { 1.0 } else { 0.15 * *v });
        }
        let reference: Vec<f64> = (0..model.reference_len()).map(signed).collect();
        let start = (&params[..], &reference[..]);
        let (_, want) = gradients(cpu::f64().as_mut(), &model, start, Precision::F32);
        let (program, got) = gradients(engine, &model, start, Precision::F16);
        let roundings = roundings(&program);
        let most = if kind == Kind::Cae { 30 } else { 50 };
        assert!((20..most).contains(&roundings), "{kind}: {roundings} roundings");
        let sum = if nearest { (roundings as f64).sqrt() } else { 2.0 * roundings as f64 };
        let bound = sum * UNIT;
        assert_close("mse", &got[0], &want[0], Tolerance { absolute: 0.0, relative: bound });
        assert_close("constraint", &got[1], &want[1], Tolerance::absolute(bound));
        let bound = if open { bound } else { bound + (7.0 * UNIT).sqrt() };
        let mut worst = 0.0f64;
        for p in model.params() {
            let at = p.offset..p.offset + p.len();
            let pairs = || got[2][at.clone()].iter().zip(&want[2][at.clone()]);
            let size = norm(pairs().map(|(_, want)| *want));
            let error = norm(pairs().map(|(got, want)| got - want)) / size;
            println!(
                "{kind}, {channels} channels, open {open}, {}: {error:.1e} of {bound:.1e}",
                p.name
            );
            assert!(size > 0.0 && error < bound, "{}: {error} of {size}", p.name);
            worst = worst.max(error);
        }
        assert!(worst > 1e-4, "{worst}: this was no half precision");
    }
}

#[test]
fn gradients_are_as_close_to_f64_as_halves_allow() {
    check_gradients(cpu::f32().as_mut(), true);
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn a_gpus_gradients_are_as_close_to_f64_as_halves_allow() {
    let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
    let mut engine = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    check_gradients(&mut engine, false);
}

/// Tensors that come as floats, and kernels that know no halves, beside those that do: converted
/// where they meet, and only there.
#[test]
fn any_tape_runs_in_half_precision() {
    let run = |n: usize, precision: Precision| {
        let g = Geometry::conv2d(n, (5, 9, 7), 6, (4, 3), 2, 1);
        let mut tape = Tape::new();
        let (x, w) = (tape.leaf("x", g.x_shape()), tape.leaf("w", g.w_shape()));
        let other = tape.leaf("other", g.y_shape());
        let y = tape.conv_y(g, x, w);
        let y = tape.relu(y);
        let product = tape.mul(y, other);
        let channels = tape.sum_to(product, [1, 1, 6, 1]);
        let wide = tape.broadcast(channels, g.y_shape());
        let mixed = tape.sub(wide, y);
        let dx = tape.conv_x(g, mixed, w);
        let dw = tape.conv_w(g, dx, product);
        for (name, node) in [("channels", channels), ("dx", dx), ("dw", dw), ("y", y)] {
            tape.store(node, name);
        }
        let options = Options { precision, ..Options::new(1, Form::Serial) };
        let program = compile("mixed", &tape, options);
        let mut engine = cpu::f64();
        let loaded = engine.load(&program).unwrap();
        for (name, len, of) in [("x", g.x_len(), 17), ("w", g.w_len(), 11), ("other", g.y_len(), 7)]
        {
            let value = |i: usize| ((i * 7919) % of) as f64 / of as f64 - 0.4;
            engine.write(name, Data::F64(&(0..len).map(value).collect::<Vec<_>>())).unwrap();
        }
        engine.run(loaded, 0..1).unwrap();
        let results = ["channels", "dx", "dw", "y"].map(|name| engine.read(name).unwrap());
        (roundings(&program), results)
    };
    let ((none, want), (some, got)) = (run(8, Precision::F32), run(8, Precision::F16));
    assert_eq!(none, 0);
    assert!(some >= 6, "{some} roundings");
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let largest = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        // As if each of the roundings were by a unit of the largest result.
        let tolerance = Tolerance::absolute(some as f64 * UNIT * largest);
        assert_close(&format!("result {i}"), got, want, tolerance);
        assert!(got != want, "result {i} was not rounded");
    }
    // Images that don't come in fours stay floats.
    let ((_, want), (some, got)) = (run(6, Precision::F32), run(6, Precision::F16));
    assert_eq!((some, got), (0, want));
}

/// Bars across, or along, as images.
fn pictures(count: usize, along: bool) -> Images {
    let mut data = vec![0; count * 784];
    for (at, v) in data.iter_mut().enumerate() {
        let (image, row, column) = (at / 784, at % 784 / 28, at % 28);
        let place = if along { column } else { row };
        *v = if place.abs_diff(4 + image * 7 % 20) < 2 { 240 } else { (at % 7) as u8 };
    }
    Images::new(data, [count, 28, 28, 1]).unwrap()
}

fn config(precision: Precision) -> TrainConfig {
    let (init, batch_size, epochs) = (Init::Kaiming, 20, 12);
    TrainConfig { epochs, batch_size, init, precision, ..TrainConfig::default() }
}

fn train(sets: &[TrainingSet], epochs: usize, from: Option<&State>) -> State {
    let mut engine = cpu::f32();
    let config = config(Precision::F16);
    let mut trainer = Trainer::new(engine.as_mut(), &Model::new(1), &config, sets).unwrap();
    if let Some(state) = from {
        trainer.restore(state).unwrap();
    }
    while trainer.epochs_done() < epochs {
        let outcome = trainer.epoch(|_| ControlFlow::Continue(())).unwrap();
        assert!(matches!(outcome, Outcome::Epoch(_)));
    }
    trainer.state().unwrap()
}

#[test]
fn a_training_resumes_to_the_bit_and_replicas_equal_lone_models() {
    let [a, b, small] = [(53, false), (30, true), (9, false)].map(|(n, along)| pictures(n, along));
    let config = config(Precision::F16);
    let set = |train, seed| TrainingSet { seed, ..TrainingSet::new(train, &small, &config) };
    let sets = [set(&a, 1), set(&b, 2)];
    let whole = train(&sets, 3, None);
    assert!(train(&sets, 3, Some(&train(&sets, 1, None))) == whole, "resumed, it differs");
    for (set, together) in sets.iter().zip(&whole.replicas) {
        let alone = train(std::slice::from_ref(set), 3, None);
        assert!(alone.replicas[0] == *together, "a replica differs from a lone model");
    }
}

/// What half precision does to a training is less than what another seed does, and a detector scores
/// alike in both.
#[test]
fn a_detector_of_half_precision_finds_the_same_images() {
    let (normal, validation) = (pictures(200, false), pictures(20, false));
    let tests = (pictures(60, false), pictures(60, true));
    let mut engine = cpu::f32();
    let trained = |engine: &mut dyn Engine, precision: Precision| {
        let config = config(precision);
        gradcon::method::train(engine, (&normal, &validation), &config, |_| ()).unwrap()
    };
    // How often a normal image scores below another.
    let auroc = |engine: &mut dyn Engine, detector: &Detector, precision: Precision| {
        let mut scorer = Scorer::with(engine, detector, &[Rule::paper(0.12)], precision).unwrap();
        let [low, high] = [&tests.0, &tests.1].map(|images| scorer.score(images).unwrap());
        let right = |s: f64| high.iter().filter(|other| other.score > s).count();
        let right: usize = low.iter().map(|s| right(s.score)).sum();
        (right as f64 / 3600.0, low)
    };
    let [full, half] =
        [Precision::F32, Precision::F16].map(|precision| trained(engine.as_mut(), precision));
    assert!(full.params != half.params);
    let (want, scores) = auroc(engine.as_mut(), &full, Precision::F32);
    assert!(want > 0.95, "{want}");
    for (detector, precision) in [(&half, Precision::F32), (&half, Precision::F16)] {
        let (got, _) = auroc(engine.as_mut(), detector, precision);
        assert!((got - want).abs() < 0.005, "AUROC {got}, in f32 {want}");
    }
    let (_, rounded) = auroc(engine.as_mut(), &full, Precision::F16);
    assert!(rounded != scores);
    for (a, b) in scores.iter().zip(&rounded) {
        // A score rounds the image, eight activations and four gradients.
        let close = |a: f64, b: f64, of: f64| (a - b).abs() < 13.0 * UNIT * of;
        assert!(close(a.mse, b.mse, a.mse) && close(a.cos, b.cos, 1.0), "{a:?} {b:?}");
    }
}
