//! The whole training step and scoring of a batch of 64, on each available engine. Throughput:
//! criterion's `elem/s` are images a second.
//!
//! `cargo bench --bench steps`. Losses and scores are checked to be those of the f64 CPU engine
//! before anything is timed. GRADCON_BENCH_SOFTWARE=1 takes a software GPU adapter too, which is
//! slow.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradcon::engine::cpu::CpuEngine;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine, Loaded};
use gradcon::method::batches::{Batches, Reading};
use gradcon::method::model::{Init, Model};
use gradcon::method::scorer::score_program;
use gradcon::method::trainer::{TrainConfig, training_program};
use gradcon::program::Program;
use gradcon::program::compile::Options;

const BATCH: usize = 64;

/// Loads a program with deterministic images and fresh parameters.
fn prepare(engine: &mut dyn Engine, model: &Model, program: &Program) -> Loaded {
    engine.clear();
    let loaded = engine.load(program).expect("the model's programs load");
    let name = &program.name;
    let weight = if name == "train" { 1.0 / BATCH as f64 } else { 1.0 };
    let batches = Batches::new(
        &[Reading { order: (0..BATCH as u32).collect(), iterations: 0 }],
        BATCH,
        |_| weight,
        (0.9, 0.999),
    );
    let images: Vec<u8> = (0..BATCH * model.pixels()).map(|i| (i * 37 % 251) as u8).collect();
    let reference: Vec<f32> =
        (0..model.reference_len()).map(|i| ((i * 31 % 17) as f32 - 8.0) * 1e-4).collect();
    let write = |engine: &mut dyn Engine, what: &str, data: Data| {
        engine.write(what, data).expect("the buffer has this size")
    };
    write(engine, &format!("{name}.data"), Data::U8(&images));
    write(engine, &format!("{name}.indices"), Data::U32(&batches.indices));
    write(engine, &format!("{name}.schedule"), Data::F64(&batches.schedule));
    write(engine, "params", Data::F32(&model.init(Init::Kaiming, 0)));
    write(engine, "reference", Data::F32(&reference));
    loaded
}

/// What a program logs in its first step.
fn first_log(engine: &mut dyn Engine, model: &Model, program: &Program) -> Vec<f64> {
    let loaded = prepare(engine, model, program);
    engine.run(loaded, 0..1).expect("a loaded program runs");
    engine.read(&format!("{}.log", program.name)).expect("the log is there")
}

fn steps(c: &mut Criterion) {
    let model = Model::new(1);
    let mut engines: Vec<(&'static str, Box<dyn Engine>)> =
        vec![("cpu", Box::new(CpuEngine::<f32>::new()))];
    let allow_software = std::env::var_os("GRADCON_BENCH_SOFTWARE").is_some();
    match GpuEngine::open(
        &Selector::Hardware,
        OpenOptions { allow_software, ..OpenOptions::default() },
    ) {
        Ok(engine) => engines.push(("gpu", Box::new(engine))),
        Err(why) => println!("no GPU is measured: {why}"),
    }
    for (name, mut engine) in engines {
        println!("{name}: {}", engine.description());
        let options = Options { replicas: 1, workgroups: engine.workgroups() };
        let programs = [
            training_program(&model, &TrainConfig::default(), BATCH, 1, options),
            score_program(&model, BATCH, 1, options),
        ];
        for program in programs {
            let want = first_log(&mut CpuEngine::<f64>::new(), &model, &program);
            let got = first_log(engine.as_mut(), &model, &program);
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!(
                    (g - w).abs() <= 1e-4 * w.abs() + 1e-5,
                    "{name}, {}: log[{i}] is {g}, expected {w}; not timed",
                    program.name
                );
            }
            let loaded = prepare(engine.as_mut(), &model, &program);
            let mut group = c.benchmark_group(name);
            group
                .throughput(Throughput::Elements(BATCH as u64))
                .sample_size(20)
                .measurement_time(Duration::from_secs(5));
            group.bench_function(format!("{} step, batch {BATCH}", program.name), |b| {
                b.iter_custom(|iterations| {
                    let start = Instant::now();
                    (0..iterations)
                        .for_each(|_| engine.run(loaded, 0..1).expect("a loaded program runs"));
                    engine.wait().expect("a loaded program runs");
                    start.elapsed()
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
