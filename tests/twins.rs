//! Every kernel on every engine, over the whole case table: the f64 CPU engine is the oracle of the
//! f32 CPU engine and of the GPU engine.
//!
//! Tests of the GPU are ignored by default, because a test can't find out at run time that it
//! should have been ignored. `tools/test.sh` runs them wherever there is an adapter, software
//! adapters included: `cargo test -- --include-ignored`.

mod cases;
mod common;

use std::collections::HashSet;

use cases::{BROKEN_MODEL, Case, SENTINEL, Style};
use common::assert_same_bits;
use gradcon::Error;
use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::measure::time_calls;
use gradcon::engine::{Data, Engine, Timing};
use gradcon::kernels::batch::Values;
use gradcon::kernels::tiles::TILES;
use gradcon::kernels::{
    Batch, DIRECT, Element, Form, Kernel, MapKernel, Memory, REFERENCE, THIN, entries,
};
use gradcon::program::{Buffer, Call, Program, View};
use gradcon::tape::ops::Map;

/// Models that run at once; their data differ.
const IDS: [u32; 3] = [0, 1, 2];

fn open_with(options: OpenOptions) -> GpuEngine {
    GpuEngine::open(&Selector::Hardware, OpenOptions { allow_software: true, ..options })
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"))
}

/// With every kernel in this variant, where it has it.
fn open_as(variant: &'static str, shader_checks: bool) -> GpuEngine {
    let variant = Some(variant);
    open_with(OpenOptions { variant, shader_checks, ..OpenOptions::default() })
}

fn open() -> GpuEngine {
    open_with(OpenOptions::default())
}

/// A case on an engine against the oracle, with all the claims that an engine makes.
fn check_engine(case: &Case, engine: &mut dyn Engine, oracle: &mut dyn Engine) {
    let want = case.run(oracle, &IDS, Style::Rough).unwrap();
    assert!(want.iter().flatten().any(|&v| v != SENTINEL), "{}: wrote nothing", case.name);
    let got = case.run(engine, &IDS, Style::Rough).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    case.check(&got, &want, IDS.len(), false);

    let again = case.run(engine, &IDS, Style::Rough).unwrap();
    for (again, got) in again.iter().zip(&got) {
        assert_same_bits(&format!("{}, second run", case.name), again, got);
    }
    let same = |what: String,
                one: &[Vec<f64>],
                (i, ones): (usize, usize),
                other: &[Vec<f64>],
                (j, others): (usize, usize)| {
        for ((binding, one), other) in case.outputs().into_iter().zip(one).zip(other) {
            let (one, other) = (
                case.part(binding, one, i, ones).concat(),
                case.part(binding, other, j, others).concat(),
            );
            // Of a reference gradient without elements there is nothing to compare.
            if !one.is_empty() || !other.is_empty() {
                assert_same_bits(
                    &format!("{}, binding {binding}, {what}", case.name),
                    &one,
                    &other,
                );
            }
        }
    };
    for (replica, &id) in IDS.iter().enumerate() {
        let alone = case.run(engine, &[id], Style::Rough).unwrap();
        same(format!("replica {replica} alone"), &alone, (0, 1), &got, (replica, IDS.len()));
    }
    let beside = case.run(engine, &[BROKEN_MODEL, IDS[1], BROKEN_MODEL], Style::Rough).unwrap();
    same("beside models full of NaN".to_string(), &beside, (1, IDS.len()), &got, (1, IDS.len()));
    if case.exact() {
        let want = case.run(oracle, &IDS[1..2], Style::Eighths).unwrap();
        let got = case.run(engine, &IDS[1..2], Style::Eighths).unwrap();
        case.check(&got, &want, 1, true);
    }
}

/// Families with many multiplications, which have tests of their own to run beside the others'.
const CONVOLUTIONS: [&str; 3] = ["conv", "conv_w", "score"];

/// The cases of those families that `of` names.
fn check_gpu(of: impl Fn(&str) -> bool) {
    let (mut gpu, mut oracle) = (open_as(REFERENCE, false), cpu::f64());
    println!("{}", gpu.description());
    for case in cases::tests().iter().filter(|case| of(case.kernel.family().shader().name)) {
        check_engine(case, &mut gpu, oracle.as_mut());
    }
}

#[test]
fn every_kernel_has_cases_with_unique_names() {
    let cases = cases::tests();
    let benches = cases::benches(64, 1, Form::Parallel);
    for entry in entries() {
        let of = |cases: &[Case]| cases.iter().filter(|c| c.kernel.name() == entry.name).count();
        assert!(of(&cases) >= 2, "{} has fewer than two cases", entry.name);
        assert!(of(&benches) >= 1, "{} has no benchmark", entry.name);
    }
    let mut names = HashSet::new();
    assert!(cases.iter().all(|case| names.insert(&case.name)), "two cases have one name");
}

#[test]
fn cases_are_well_formed_programs() {
    for case in cases::tests().into_iter().chain(cases::benches(64, 3, Form::Serial)) {
        case.program(3).check();
    }
}

#[test]
fn the_f32_cpu_engine_agrees_with_f64() {
    let (mut cpu, mut oracle) = (cpu::f32(), cpu::f64());
    for case in cases::tests() {
        check_engine(&case, cpu.as_mut(), oracle.as_mut());
    }
}

/// `tools/setup-vulkan.sh` asks with this test.
#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn an_adapter_works() {
    println!("{}", open().description());
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_convolutions_agree_with_f64() {
    check_gpu(|family| family == CONVOLUTIONS[0]);
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_weight_gradients_and_scores_agree_with_f64() {
    check_gpu(|family| CONVOLUTIONS[1..].contains(&family));
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_kernels_of_all_other_families_agree_with_f64() {
    check_gpu(|family| !CONVOLUTIONS.contains(&family));
}

/// The tuner and the cost model choose between variants by speed alone, so numbers must not know
/// which one ran.
#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_variants_have_the_bits_of_the_reference() {
    let mut reference = open_as(REFERENCE, false);
    for variant in TILES.iter().map(|tile| tile.name).chain([THIN, DIRECT]) {
        let mut engine = open_as(variant, false);
        let mut ran = 0;
        for case in cases::tests() {
            let plan = case.program(IDS.len()).plan(&[variant]);
            if plan.dispatches[0].variant != variant {
                continue;
            }
            for style in [Style::Rough, Style::Eighths] {
                let want = case.run(&mut reference, &IDS, style).unwrap();
                let got = case.run(&mut engine, &IDS, style).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    assert_same_bits(&format!("{variant}: {}", case.name), got, want);
                }
            }
            ran += 1;
        }
        assert!(ran > 8, "{variant}: only {ran} cases");
    }
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_with_shader_checks_agrees_with_f64() {
    // The tiles share their shaders: the largest has all of them in use.
    for variant in [REFERENCE, DIRECT, THIN, TILES[TILES.len() - 1].name] {
        check_with_shader_checks(variant);
    }
}

fn check_with_shader_checks(variant: &'static str) {
    let (mut gpu, mut oracle) = (open_as(variant, true), cpu::f64());
    let mut pipelines = HashSet::new();
    for case in cases::tests() {
        // One case a pipeline: the checks are the compiler's, not the sizes'.
        let variants = case.kernel.family().variants();
        let launch = variants.iter().find(|v| v.variant == variant).unwrap_or(&variants[0]);
        if pipelines.insert((case.kernel.name(), launch.constants.clone())) {
            let want = case.run(oracle.as_mut(), &IDS[2..], Style::Rough).unwrap();
            let got = case.run(&mut gpu, &IDS[2..], Style::Rough).unwrap();
            case.check(&got, &want, 1, false);
        }
    }
}

/// `log[step] = counter += 1` in a program of two calls, by name.
fn counting_program(steps: usize) -> Program {
    let buffer = |name: &str, len, replicated| Buffer {
        name: name.to_string(),
        element: Element::Float,
        len,
        replicated,
        persistent: true,
    };
    let view = |buffer, len| View { buffer, offset: 0, len };
    let call = |kernel, args| Call { kernel, args, label: "count".to_string() };
    let affine = |shift| Kernel::Map(MapKernel::one(Map::Affine { scale: 1.0, shift }, 1));
    let values = vec![Values { len: 1, terms: 1, offset: 0 }];
    let record = Kernel::Batch(Batch::Record { values, width: 1 });
    let [counter, next, log] = [view(0, 1), view(1, 1), view(2, 2 * steps)];
    Program {
        name: "count".to_string(),
        replicas: 2,
        buffers: vec![
            buffer("counter", 1, true),
            buffer("next", 1, true),
            buffer("log", 2 * steps, false),
        ],
        calls: vec![
            call(affine(1.0), vec![counter, counter, counter, counter, next]),
            call(affine(0.0), vec![next, next, next, next, counter]),
            call(record, vec![counter, counter, counter, counter, log]),
        ],
    }
}

fn check_steps(engine: &mut dyn Engine) {
    let steps = 40;
    let loaded = engine.load(&counting_program(steps)).unwrap();
    assert_eq!(engine.read("counter").unwrap(), [0.0, 0.0], "memory starts as zeros");
    engine.write("counter", Data::F32(&[0.0, 100.0])).unwrap();
    engine.run(loaded, 0..30).unwrap();
    engine.run(loaded, 30..steps as u32).unwrap();
    engine.wait().unwrap();
    let want: Vec<f64> = (1..=steps).flat_map(|step| [step as f64, 100.0 + step as f64]).collect();
    assert_eq!(engine.read("log").unwrap(), want);

    // Persistent buffers are shared between programs by name.
    let again = engine.load(&counting_program(steps)).unwrap();
    engine.run(again, 5..6).unwrap();
    assert_eq!(engine.read("counter").unwrap(), [41.0, 141.0]);

    let name = |result: gradcon::Result<()>| result.unwrap_err().to_string();
    assert!(name(engine.load(&counting_program(steps + 1)).map(|_| ())).contains("'log'"));
    assert!(name(engine.write("counter", Data::F64(&[1.0]))).contains("'counter' holds 2"));
    assert!(name(engine.write("counter", Data::U32(&[1, 2]))).contains("'counter'"));
    assert!(name(engine.read("nothing").map(|_| ())).contains("'nothing'"));

    let (seconds, _) = time_calls(engine.measure(), again, 3, 0, 2).unwrap();
    assert!(seconds.len() == 3 && seconds.iter().all(|&s| s > 0.0 && s < 10.0), "{seconds:?}");

    engine.clear();
    assert!(engine.read("counter").is_err());
    let loaded = engine.load(&counting_program(steps + 1)).unwrap();
    engine.run(loaded, 0..2).unwrap();
    assert_eq!(engine.read("log").unwrap()[..4], [1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn the_cpu_engine_counts_steps() {
    check_steps(cpu::f32().as_mut());
}

/// Step numbers far from 0, and runs that go from one stretch of them to the next and back.
#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn the_gpu_engine_knows_every_step_by_its_number() {
    let (mut gpu, steps) = (open(), 5000);
    let loaded = gpu.load(&counting_program(steps)).unwrap();
    let runs = [1020..1030, 4990..5000, 0..3, 2047..2050];
    for run in runs.clone() {
        gpu.run(loaded, run).unwrap();
    }
    let log = gpu.read("log").unwrap();
    let mut count = 0.0;
    let mut want = vec![0.0; 2 * steps];
    for step in runs.into_iter().flatten() {
        count += 1.0;
        want[2 * step as usize..][..2].fill(count);
    }
    assert_eq!(log, want);
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn the_gpu_engine_counts_steps() {
    check_steps(&mut open());
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_times_are_by_the_device_where_it_can() {
    let mut gpu = open();
    let loaded = gpu.load(&counting_program(1)).unwrap();
    let (_, timing) = time_calls(gpu.measure(), loaded, 3, 0, 1).unwrap();
    assert!(timing == Timing::Wall || gpu.adapter().timestamps);
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_limits_become_errors() {
    let mut gpu = open();
    let mut program = counting_program(1);
    program.replicas = 5;
    program.buffers[2].len = gpu.adapter().max_binding as usize / 4 + 1;
    let error = gpu.load(&program).unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { .. }) && error.to_string().contains("'log'"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 3);
    // The engine stays usable and keeps nothing of what failed: five replicas of the counter, say.
    let loaded = gpu.load(&counting_program(3)).unwrap();
    gpu.run(loaded, 0..1).unwrap();
    assert_eq!(gpu.read("counter").unwrap(), [1.0, 1.0]);
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn gpu_buffers_longer_than_one_row_of_workgroups_are_written_to_the_end() {
    let len = 65535 * 256 + 3;
    let buffers = vec![Buffer {
        name: "long".to_string(),
        element: Element::Float,
        len,
        replicated: true,
        persistent: true,
    }];
    let view = View { buffer: 0, offset: 0, len };
    let kernel = Kernel::Memory(Memory::Fill { len, value: 2.5 });
    let call = Call { kernel, args: vec![view], label: "long".to_string() };
    let program = Program { name: "long".to_string(), replicas: 1, buffers, calls: vec![call] };
    let mut gpu = open();
    let loaded = gpu.load(&program).unwrap();
    gpu.run(loaded, 0..1).unwrap();
    assert!(gpu.read("long").unwrap().iter().all(|&v| v == 2.5));
}

#[test]
fn an_adapter_that_does_not_exist_is_a_device_error() {
    let selector = Selector::Name("no such adapter".to_string());
    let Err(error) = GpuEngine::open(&selector, OpenOptions::default()) else {
        panic!("opened an adapter of that name")
    };
    assert!(
        matches!(error, Error::Device(_)) && error.to_string().contains("no such adapter"),
        "{error}"
    );
}
