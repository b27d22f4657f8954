//! Every kernel at the model's layer shapes (batch 64), on each available engine: verified against
//! the f64 CPU engine before it is timed.
//!
//! Throughput is counted from sizes: criterion's `elem/s` are floating-point operations a second,
//! its `B/s` bytes that have to move at least once. A GPU is timed end to end (submission
//! included), many runs at a time; `gradcon program --time` reads the device's own timestamps.
//!
//! `cargo bench --bench kernels`; a part of them: `cargo bench --bench kernels -- conv_w`.
//! GRADCON_BENCH_SOFTWARE=1 takes a software GPU adapter too, which is slow.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gradcon::engine::Engine;
use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};

use cases::{Case, Style};

#[path = "../tests/cases/mod.rs"]
mod cases;
#[path = "../tests/common/mod.rs"]
mod common;

/// The engines of this machine, by the name they have in reports.
fn engines() -> Vec<(&'static str, Box<dyn Engine>)> {
    let mut engines: Vec<(&'static str, Box<dyn Engine>)> = vec![("cpu", cpu::f32())];
    let allow_software = std::env::var_os("GRADCON_BENCH_SOFTWARE").is_some();
    match GpuEngine::open(
        &Selector::Hardware,
        OpenOptions { allow_software, ..OpenOptions::default() },
    ) {
        Ok(engine) => engines.push(("gpu", Box::new(engine))),
        Err(why) => println!("no GPU is measured: {why}"),
    }
    engines
}

/// Panics unless the engine computes what the oracle does, within the case's tolerance.
fn verify(case: &Case, engine: &mut dyn Engine, name: &str) {
    let want =
        case.run(cpu::f64().as_mut(), &[0], Style::Rough).expect("the oracle runs every case");
    let got = case
        .run(engine, &[0], Style::Rough)
        .unwrap_or_else(|e| panic!("{name}, {}: {e}", case.name));
    for ((binding, got), want) in case.outputs().into_iter().zip(&got).zip(&want) {
        if let Err(why) = common::compare(got, want, case.tolerance(binding)) {
            panic!("{name}, {}, binding {binding}: {why}; not timed", case.name);
        }
    }
}

fn kernels(c: &mut Criterion) {
    for (name, mut engine) in engines() {
        println!("{name}: {}", engine.description());
        for case in cases::benches(64, 1, engine.form()) {
            engine.clear();
            verify(&case, engine.as_mut(), name);
            let program = case.program(1);
            let loaded = engine.load(&program).expect("a verified case loads");
            let cost = program.cost();
            let mut group = c.benchmark_group(format!("{name}/{}", case.kernel.name()));
            group.throughput(Throughput::ElementsAndBytes {
                elements: cost.flops,
                bytes: cost.bytes,
            });
            group
                .sample_size(20)
                .warm_up_time(Duration::from_millis(300))
                .measurement_time(Duration::from_secs(1));
            let sizes = case.name.split_once(' ').map_or(case.name.as_str(), |(_, sizes)| sizes);
            group.bench_function(sizes, |b| {
                b.iter_custom(|iterations| {
                    let start = Instant::now();
                    for _ in 0..iterations {
                        engine.run(loaded, case.step..case.step + 1).expect("a verified case runs");
                    }
                    engine.wait().expect("a verified case runs");
                    start.elapsed()
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
