//! The whole training step and scoring of a batch of 64, on each available engine. Throughput:
//! criterion's `elem/s` are images a second.
//!
//! `cargo bench --bench steps`. Losses and scores are checked to be those of the f64 CPU engine
//! before anything is timed. GRADCON_BENCH_SOFTWARE=1 takes a software GPU adapter too, which is
//! slow.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Engine, Loaded};
use gradcon::method::config::TrainConfig;
use gradcon::method::feed::Feed;
use gradcon::method::model::Model;
use gradcon::method::programs::{score_program, training_program};
use gradcon::program::Options;
use gradcon::program::Program;

const BATCH: usize = 64;

/// Loads a program with deterministic images and fresh parameters.
fn prepare(engine: &mut dyn Engine, model: &Model, program: &Program) -> Loaded {
    engine.clear();
    let loaded = engine.load(program).expect("the model's programs load");
    let name = &program.name;
    let reference: Vec<f32> =
        (0..model.reference_len()).map(|i| ((i * 31 % 17) as f32 - 8.0) * 1e-4).collect();
    Feed::of(name, engine)
        .reference(&reference)
        .and_then(|feed| feed.pattern(model, BATCH, 1, 1))
        .expect("the buffers have these sizes");
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
    let mut engines: Vec<(&'static str, Box<dyn Engine>)> = vec![("cpu", cpu::f32())];
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
        let options = Options::new(1, engine.form());
        let programs = [
            training_program(&model, &TrainConfig::default(), BATCH, 1, options),
            score_program(&model, BATCH, 1, options),
        ];
        for program in programs {
            let want = first_log(cpu::f64().as_mut(), &model, &program);
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
