//! Every version of the lab (`benches/lab`) computes what the f64 engine does, at small sizes with
//! every kind of tail. `cargo bench --bench lab` verifies and times them at the model's.

use std::cell::RefCell;

use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Engine, cpu};

use layer::{Layer, Version, small};

#[path = "../benches/lab/cpu_ladder.rs"]
mod cpu_ladder;
#[path = "../benches/lab/gpu_ladder.rs"]
mod gpu_ladder;
#[path = "../benches/lab/layer.rs"]
#[allow(dead_code)] // the benchmark's sizes
mod layer;

/// Panics unless every version computes the layer, and not before it is asked to.
fn check(layer: &Layer, versions: Vec<Box<dyn Version + '_>>, least: usize) {
    assert!(versions.len() >= least, "{} versions", versions.len());
    for mut version in versions {
        let (name, y) = (version.name().to_string(), version.result().unwrap());
        let worst = layer.verify(&y);
        assert!(worst.is_ok(), "{name}, {}: {worst:?}", layer.geometry);
        let mut wrong = y.clone();
        wrong[y.len() / 2] += 0.01;
        assert!(layer.verify(&wrong).is_err() && layer.verify(&y[1..]).is_err(), "{name}");
    }
}

#[test]
fn every_version_on_the_cpu_is_right() {
    for geometry in small() {
        let (layer, engine) = (Layer::new(geometry).unwrap(), RefCell::new(cpu::f32()));
        check(&layer, cpu_ladder::ladder(&layer, &engine), 6);
    }
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn every_version_on_a_gpu_is_right() {
    let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
    let engine = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    let host = gpu_ladder::Host::open(engine.adapter()).unwrap();
    let engine = RefCell::new(Box::new(engine) as Box<dyn Engine>);
    for geometry in small() {
        let layer = Layer::new(geometry).unwrap();
        check(&layer, gpu_ladder::ladder(&layer, &host, &engine).unwrap(), 7);
    }
}

/// Without a GPU they are read at least, and are what the host says they are.
#[test]
fn every_shader_is_valid() {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    for source in gpu_ladder::SOURCES {
        let module = naga::front::wgsl::parse_str(source.text)
            .unwrap_or_else(|e| panic!("{}: {}", source.name, e.emit_to_string(source.text)));
        Validator::new(ValidationFlags::all(), Capabilities::empty())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}: {e}", source.name));
        let entries: Vec<_> = module.entry_points.iter().map(|entry| &entry.name[..]).collect();
        assert_eq!(entries, ["conv"], "{}", source.name);
    }
}
