//! Agreement with numbers from an independent float64 implementation (PyTorch autograd): losses,
//! gradients, Adam steps and scores of a whole training run, on every engine. What the files hold
//! is said in tests/golden/README.md.

mod common;

use common::{Tolerance, assert_close};
use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine};
use gradcon::kernels::Form;
use gradcon::method::feed::Feed;
use gradcon::method::model::{IMAGE_SIZE, Model};
use gradcon::method::objective::{StepLog, Terms, training_step};
use gradcon::method::readout::Wanted;
use gradcon::method::readout::step::score_step;
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;
use gradcon::tape::ops::AdamConfig;
use safetensors::{Dtype, SafeTensors};

/// What an engine may differ by. Where a file holds float32, nobody can agree to more than its
/// rounding.
struct Tolerances {
    /// Relative.
    mse: f64,
    /// Absolute.
    constraint: f64,
    /// Of the tensor's largest element.
    gradient: f64,
    score: f64,
    /// Absolute.
    parameter: f64,
}

/// Float64 values against float32 tensors of the file: half a unit in the last place of the largest
/// element.
const STORED_F32: f64 = 6e-8;
const F64: Tolerances =
    Tolerances { mse: 1e-9, constraint: 1e-9, gradient: 1e-9, score: 1e-9, parameter: 1e-9 };
const F32: Tolerances =
    Tolerances { mse: 2e-6, constraint: 2e-6, gradient: 2e-5, score: 2e-6, parameter: 1e-5 };
/// Five times the CPU's: a GPU's exp, division and square root may be a few units in the last place
/// off.
const GPU: Tolerances =
    Tolerances { mse: 1e-5, constraint: 1e-5, gradient: 1e-4, score: 1e-5, parameter: 5e-5 };

struct Golden<'a>(SafeTensors<'a>);

impl Golden<'_> {
    fn get(&self, name: &str) -> (Vec<f64>, bool) {
        let t = self.0.tensor(name).unwrap();
        match t.dtype() {
            Dtype::F64 => (
                t.data()
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                true,
            ),
            Dtype::F32 => (
                t.data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64)
                    .collect(),
                false,
            ),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// `got` within `tolerance` of the file (plus the rounding of what the file holds in float32),
    /// in units of the largest element.
    fn check(&self, name: &str, got: &[f64], tolerance: f64) {
        let (want, exact) = self.get(name);
        let largest = want.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        assert_close(
            name,
            got,
            &want,
            Tolerance::absolute((tolerance + if exact { 0.0 } else { STORED_F32 }) * largest),
        );
    }

    fn check_absolute(&self, name: &str, got: &[f64], tolerance: f64) {
        let (want, exact) = self.get(name);
        let largest = want.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        assert_close(
            name,
            got,
            &want,
            Tolerance::absolute(tolerance + if exact { 0.0 } else { STORED_F32 * largest }),
        );
    }
}

/// `[n, c, h, w]` to `[h, w, c, n]`.
fn images_innermost(nchw: &[f64], n: usize) -> Vec<f64> {
    let len = nchw.len() / n;
    let (c, hw) = (len / (IMAGE_SIZE * IMAGE_SIZE), IMAGE_SIZE * IMAGE_SIZE);
    let mut out = vec![0.0; nchw.len()];
    for i in 0..n {
        for ch in 0..c {
            for p in 0..hw {
                out[(p * c + ch) * n + i] = nchw[(i * c + ch) * hw + p];
            }
        }
    }
    out
}

fn check(
    engine: &mut dyn Engine,
    options: Options,
    tolerances: &Tolerances,
    channels: usize,
    batch: usize,
    steps: usize,
) {
    let bytes = std::fs::read(format!(
        "{}/tests/golden/golden-c{channels}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let golden = Golden(SafeTensors::deserialize(&bytes).unwrap());
    let model = Model::new(channels);

    let mut tape = Tape::new();
    let x = tape.leaf("x", [IMAGE_SIZE, IMAGE_SIZE, channels, batch]);
    let weight = tape.fill([1, 1, 1, batch], 1.0 / batch as f64);
    let (terms, adam) = (Terms::default(), AdamConfig::default());
    let objective = training_step(&mut tape, &model, (x, weight), terms, adam, "train", steps);
    tape.store(objective.forward.reconstruction, "reconstruction");
    tape.store(objective.gradients, "g");
    let gradient = gradcon::method::objective::parameter_gradient(&mut tape, &model, &objective);
    tape.store(gradient, "gradient");
    let program = engine.load(&compile("train", &tape, options)).unwrap();

    let mut flat = vec![0.0; model.len()];
    for p in model.params() {
        p.to_flat(&golden.get(&format!("init.{}", p.name)).0, &mut flat);
    }
    engine.write("params", Data::F64(&flat)).unwrap();
    let schedule: Vec<f64> = (1..=steps as i32)
        .flat_map(|t| {
            [
                1.0 / batch as f64,
                1.0 / (1.0 - 0.9f64.powi(t)),
                1.0 / (1.0 - 0.999f64.powi(t)),
                1.0 / t as f64,
            ]
        })
        .collect();
    engine.write("train.schedule", Data::F64(&schedule)).unwrap();
    Feed::of("train", engine).lr(&[1e-3]).and_then(|feed| feed.alpha(&[0.03])).unwrap();

    let xs = golden.get("x").0;
    for step in 0..steps {
        let len = xs.len() / steps;
        engine.write("x", Data::F64(&images_innermost(&xs[step * len..][..len], batch))).unwrap();
        engine.run(program, step as u32..step as u32 + 1).unwrap();
        if step == 0 {
            let (want, _) = golden.get("step0.recon");
            let got = engine.read("reconstruction").unwrap();
            assert_close(
                "step0.recon",
                &got,
                &images_innermost(&want, batch),
                Tolerance::absolute(tolerances.score.max(STORED_F32)),
            );
        }
        if step < 2 {
            let g = engine.read("g").unwrap();
            for (i, p) in model.constrained_weights().enumerate() {
                golden.check(
                    &format!("step{step}.recon_grad.{i}"),
                    &p.from_flat(&g),
                    tolerances.gradient,
                );
            }
            let gradient = engine.read("gradient").unwrap();
            for p in model.params() {
                golden.check(
                    &format!("step{step}.grad.{}", p.name),
                    &p.from_flat(&gradient),
                    tolerances.gradient,
                );
            }
        }
    }
    let log = engine.read("train.log").unwrap();
    let rows = StepLog::of(&model);
    for (step, row) in log.chunks_exact(rows.width()).enumerate() {
        let row = rows.parse(row);
        golden.check(&format!("step{step}.mse"), &[row.mse], tolerances.mse);
        golden.check_absolute(&format!("step{step}.con"), &[row.constraint], tolerances.constraint);
    }
    let params = engine.read("params").unwrap();
    for p in model.params() {
        golden.check_absolute(
            &format!("final.{}", p.name),
            &p.from_flat(&params),
            tolerances.parameter,
        );
    }
    let reference = engine.read("reference").unwrap();
    for (i, p) in model.constrained_weights().enumerate() {
        golden.check(&format!("final.ref_grad.{i}"), &p.from_flat(&reference), tolerances.gradient);
    }

    // Scores, from the file's own parameters and references: rounded to float32 there as well.
    let images = 24;
    let mut tape = Tape::new();
    let x = tape.leaf("score.x", [IMAGE_SIZE, IMAGE_SIZE, channels, images]);
    let weight = tape.fill([1, 1, 1, images], 1.0);
    score_step(&mut tape, &model, (x, weight), Wanted::default(), 1.0, "score", 1);
    let program = engine.load(&compile("score", &tape, options)).unwrap();
    let mut flat = vec![0.0; model.len()];
    for p in model.params() {
        p.to_flat(
            &golden
                .get(&format!("final.{}", p.name))
                .0
                .iter()
                .map(|&v| v as f32 as f64)
                .collect::<Vec<_>>(),
            &mut flat,
        );
    }
    let mut reference = vec![0.0; model.reference_len()];
    for (i, p) in model.constrained_weights().enumerate() {
        p.to_flat(&golden.get(&format!("final.ref_grad.{i}")).0, &mut reference);
    }
    engine.write("params", Data::F64(&flat)).unwrap();
    engine.write("reference", Data::F64(&reference)).unwrap();
    engine
        .write("score.x", Data::F64(&images_innermost(&golden.get("score.x").0, images)))
        .unwrap();
    engine.run(program, 0..1).unwrap();
    let log = engine.read("score.log").unwrap();
    golden.check("score.mse", &log[..images], tolerances.score);
    let cos: Vec<f64> = (0..images)
        .map(|i| (1..5).map(|layer| log[layer * images + i]).sum::<f64>() / 4.0)
        .collect();
    golden.check_absolute("score.cos", &cos, tolerances.score);
}

#[test]
fn cpu_f64_c1() {
    check(cpu::f64().as_mut(), Options::default(), &F64, 1, 8, 6);
}

#[test]
fn cpu_f64_c3() {
    check(cpu::f64().as_mut(), Options::default(), &F64, 3, 5, 4);
}

#[test]
fn cpu_f32_c1() {
    check(cpu::f32().as_mut(), Options::default(), &F32, 1, 8, 6);
}

#[test]
fn cpu_f32_c3() {
    check(cpu::f32().as_mut(), Options::default(), &F32, 3, 5, 4);
}

/// The same with weight gradients summed in splits, as a GPU does.
#[test]
fn cpu_f32_splits() {
    check(cpu::f32().as_mut(), Options::new(1, Form::Parallel), &F32, 1, 8, 6);
}

fn check_gpu(channels: usize, batch: usize, steps: usize, web_limits: bool) {
    let options = OpenOptions { allow_software: true, web_limits, ..OpenOptions::default() };
    let mut engine = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    let options = Options::new(1, engine.form());
    check(&mut engine, options, &GPU, channels, batch, steps);
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn gpu_c1() {
    check_gpu(1, 8, 6, false);
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn gpu_c3() {
    check_gpu(3, 5, 4, false);
}

/// On a device with WebGPU's default limits and no features, such as every browser has.
#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn gpu_within_the_limits_of_the_web() {
    check_gpu(3, 5, 4, true);
}
