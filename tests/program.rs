//! What compilation promises: dead code goes, epilogues are fused, memory is shared, independent
//! kernels are neighbours, splits don't change the sum.

use gradcon::engine::Data;
use gradcon::engine::cpu;
use gradcon::geometry::Geometry;
use gradcon::kernels::conv::Activation;
use gradcon::kernels::{Access, Conv, Kernel, MapKernel};
use gradcon::layout::SCALAR;
use gradcon::method::config::TrainConfig;
use gradcon::method::model::Model;
use gradcon::method::programs::{score_program, training_program, validation_program};
use gradcon::program::Program;
use gradcon::program::dispatch::{Plan, UNIFORM_BINDING, UNIFORM_BYTES};
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;

fn count(program: &Program, kernel: &str) -> usize {
    program.calls.iter().filter(|c| c.kernel.name() == kernel).count()
}

fn programs() -> [Program; 3] {
    let (model, config) = (Model::new(1), TrainConfig::default());
    let options = Options::default();
    [
        training_program(&model, &config, 100, 2, options),
        validation_program(&model, &config, 100, 2, options),
        score_program(&model, 64, 2, options),
    ]
}

/// A training step has exactly the convolutions that the mathematics needs: nothing into the input
/// image, nothing twice.
#[test]
fn a_step_computes_only_what_is_asked_for() {
    let [train, validation, score] = programs();
    // Forward: four of each. First sweep: conv_y into three decoder layers, conv_w for four.
    assert_eq!(["conv_y", "conv_x", "conv_w"].map(|k| count(&validation, k)), [4 + 3, 4, 4]);
    // A score needs no weight gradient at all: image_grad stands for the four.
    assert_eq!(["conv_y", "conv_x", "conv_w"].map(|k| count(&score, k)), [4 + 3, 4, 0]);
    assert_eq!(count(&score, "image_grad"), 4);
    // Second sweep, decoder: the direction u goes forward (four conv_x with u, three with w).
    // Through the chain of first gradients each of the four weights is met twice more. Encoder:
    // three conv_x, four conv_w; the decoder's bottom hands over to it with one more conv_y.
    assert_eq!(count(&train, "conv_x"), 4 + 4 + 3 + 3);
    assert_eq!(count(&train, "conv_y"), 4 + 3 + 4 + 4);
    assert_eq!(count(&train, "conv_w"), 4 + 4 + 3 + 4);
    assert_eq!(["adam", "gather", "constraint_grad"].map(|k| count(&train, k)), [1, 1, 1]);
    // All of bias, ReLU, sigmoid, ReLU's derivative and every sum of two gradients of an activation
    // are epilogues.
    assert_eq!(count(&train, "copy"), 0);
    let maps = train.calls.iter().filter_map(|call| match &call.kernel {
        Kernel::Map(MapKernel { map, .. }) => Some(map.name()),
        _ => None,
    });
    for name in maps {
        assert!(!["relu", "relu_grad", "sigmoid"].contains(&name), "{name}");
    }
}

#[test]
fn epilogues_take_in_what_follows_a_convolution() {
    let g = Geometry::conv2d(2, (3, 5, 5), 4, (3, 3), 1, 1);
    let mut tape = Tape::new();
    let (x, w) = (tape.leaf("x", [5, 5, 3, 2]), tape.leaf("w", [3, 3, 4, 3]));
    let (bias, other) = (tape.leaf("bias", [1, 1, 4, 1]), tape.leaf("other", [5, 5, 4, 2]));
    let y = tape.conv_y(g, x, w);
    let bias = tape.broadcast(bias, [5, 5, 4, 2]);
    let y = tape.add(y, bias);
    let y = tape.add(other, y);
    let y = tape.relu(y);
    tape.store(y, "out");
    let unused = tape.sigmoid(other);
    tape.mul(unused, unused);
    let program = compile("test", &tape, Options::default());
    let kernels: Vec<&str> = program.calls.iter().map(|c| c.kernel.name()).collect();
    assert_eq!(kernels, ["conv_y", "copy"]);
    let Kernel::Conv(Conv::ConvY { epilogue, .. }) = program.calls[0].kernel else {
        panic!("{:?}", program.calls[0])
    };
    assert_eq!((epilogue.bias, epilogue.add, epilogue.activation), (true, true, Activation::Relu));
}

/// A value that something else needs as well can't disappear into an epilogue.
#[test]
fn a_sum_with_two_readers_is_not_fused_away() {
    let g = Geometry::conv2d(2, (3, 5, 5), 4, (3, 3), 1, 1);
    let mut tape = Tape::new();
    let (x, w) = (tape.leaf("x", [5, 5, 3, 2]), tape.leaf("w", [3, 3, 4, 3]));
    let y = tape.conv_y(g, x, w);
    let r = tape.relu(y);
    tape.store(r, "relu");
    tape.store(y, "sum");
    let program = compile("test", &tape, Options::default());
    assert_eq!(count(&program, "map"), 1);
    let mut engine = cpu::f64();
    let loaded = engine.load(&program).unwrap();
    engine
        .write("x", Data::F64(&(0..150).map(|i| (i % 7) as f64 - 3.0).collect::<Vec<_>>()))
        .unwrap();
    engine
        .write("w", Data::F64(&(0..108).map(|i| (i % 5) as f64 - 2.0).collect::<Vec<_>>()))
        .unwrap();
    engine.run(loaded, 0..1).unwrap();
    let (sum, relu) = (engine.read("sum").unwrap(), engine.read("relu").unwrap());
    assert!(sum.iter().any(|&v| v < 0.0));
    assert!(sum.iter().zip(&relu).all(|(s, r)| *r == s.max(0.0)));
}

/// Every scratch value is written before it is read, and nobody overwrites what a later call still
/// reads.
#[test]
fn shared_memory_never_loses_a_value_that_is_still_needed() {
    for program in programs() {
        let (scratch, persistent) = program.memory();
        let separately: usize = program
            .calls
            .iter()
            .flat_map(|c| {
                c.args.iter().zip(c.kernel.bindings()).filter(|(_, b)| b.access == Access::Write)
            })
            .filter(|(arg, _)| !program.buffers[arg.buffer].persistent)
            .map(|(arg, _)| 4 * arg.len)
            .sum();
        assert!(
            scratch < separately as u64 * 4 / 5,
            "{}: {scratch} of {separately} bytes",
            program.name
        );
        assert!(persistent > 0);
        // What a run finds in scratch memory must not matter: poisoned memory gives the same
        // losses.
        let [clean, poisoned] = [false, true].map(|poison| losses(&program, poison));
        assert_eq!(clean, poisoned, "{}", program.name);
    }
}

/// The program's log after one step; `poison` runs another step of NaN images first, so that all
/// scratch memory holds NaN.
fn losses(program: &Program, poison: bool) -> Vec<u64> {
    let mut engine = cpu::f32();
    let model = Model::new(1);
    let loaded = engine.load(program).unwrap();
    let name = &program.name;
    let images = if name == "score" { 128 } else { 100 };
    engine
        .write(
            &format!("{name}.data"),
            Data::U8(&(0..images * 784).map(|i| (i % 251) as u8).collect::<Vec<_>>()),
        )
        .unwrap();
    engine
        .write(&format!("{name}.indices"), Data::U32(&(0..128).map(|i| i % 64).collect::<Vec<_>>()))
        .unwrap();
    let schedule = [1.0 / 64.0, 10.0, 1000.0, 1.0, 1.0 / 64.0, 10.0, 1000.0, 1.0];
    let params = model.init(gradcon::Init::Kaiming, 1);
    let reference: Vec<f32> = (0..model.reference_len()).map(|i| (i % 13) as f32 - 6.0).collect();
    if poison {
        engine.write("params", Data::F32(&vec![f32::NAN; model.len()])).unwrap();
        engine.write(&format!("{name}.schedule"), Data::F64(&schedule)).unwrap();
        engine.run(loaded, 1..2).unwrap();
        assert!(engine.read(&format!("{name}.log")).unwrap().iter().any(|v| v.is_nan()));
    }
    engine.write("params", Data::F32(&params)).unwrap();
    engine.write("reference", Data::F32(&reference)).unwrap();
    for moment in ["adam.m", "adam.v"].into_iter().filter(|_| name == "train") {
        engine.write(moment, Data::F32(&vec![0.0; model.len()])).unwrap();
    }
    engine.write(&format!("{name}.schedule"), Data::F64(&schedule)).unwrap();
    engine.run(loaded, 0..1).unwrap();
    let log = engine.read(&format!("{name}.log")).unwrap();
    let mut all = log[..log.len() / 2].to_vec();
    assert!(all.iter().all(|v| v.is_finite()), "{name}");
    if name == "train" {
        let after = engine.read("params").unwrap();
        all.extend(model.params().iter().flat_map(|p| p.from_flat(&after)));
    }
    all.into_iter().map(f64::to_bits).collect()
}

/// Calls that don't depend on each other stand together: the four reductions over a layer's
/// gradient follow each other without a wait.
#[test]
fn independent_kernels_are_neighbours() {
    let [train, ..] = programs();
    let mut waits = 0;
    let mut written: Vec<usize> = vec![];
    for call in &train.calls {
        let touches = |access: Access| {
            call.args
                .iter()
                .zip(call.kernel.bindings())
                .filter(move |(_, b)| b.access == access)
                .map(|(a, _)| a.buffer)
        };
        if call.args.iter().any(|a| written.contains(&a.buffer)) {
            waits += 1;
            written.clear();
        }
        written.extend(touches(Access::Write).chain(touches(Access::Update)));
    }
    assert!(waits < train.calls.len() * 3 / 4, "{waits} waits in {} calls", train.calls.len());
}

#[test]
fn split_sums_equal_whole_ones() {
    let g = Geometry::conv2d(3, (5, 15, 15), 7, (4, 4), 2, 2);
    let run = |workgroups: usize| {
        let mut tape = Tape::new();
        let (x, y) = (tape.leaf("x", [15, 15, 5, 3]), tape.leaf("y", [8, 8, 7, 3]));
        let other = tape.leaf("other", [4, 4, 7, 5]);
        let w = tape.conv_w(g, x, y);
        let w = tape.add(w, other);
        tape.store(w, "w");
        let program = compile("test", &tape, Options { replicas: 1, workgroups });
        let mut engine = cpu::f64();
        let loaded = engine.load(&program).unwrap();
        // Whole numbers: every order of summation is exact.
        engine
            .write(
                "x",
                Data::F64(&(0..g.x_len()).map(|i| (i % 11) as f64 - 5.0).collect::<Vec<_>>()),
            )
            .unwrap();
        engine
            .write(
                "y",
                Data::F64(&(0..g.y_len()).map(|i| (i % 7) as f64 - 3.0).collect::<Vec<_>>()),
            )
            .unwrap();
        engine
            .write("other", Data::F64(&(0..g.w_len()).map(|i| i as f64).collect::<Vec<_>>()))
            .unwrap();
        engine.run(loaded, 0..1).unwrap();
        (count(&program, "split_sum"), engine.read("w").unwrap())
    };
    let (whole, split) = (run(1), run(200));
    assert_eq!((whole.0, split.0), (0, 1));
    assert_eq!(whole.1, split.1);
}

/// What an exporter writes is what the GPU engine runs, and fits any WebGPU device.
#[test]
fn a_plan_is_plain_data_within_the_limits_of_the_web() {
    for program in programs() {
        let plan = program.plan();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert_eq!(plan.dispatches.len(), program.calls.len());
        for dispatch in &plan.dispatches {
            let at = &dispatch.label;
            assert!(4 * dispatch.uniforms.len() <= UNIFORM_BYTES, "{at}: uniform words");
            assert!(dispatch.grid.iter().all(|&g| (1..=65535).contains(&g)), "{at}: grid");
            assert!(dispatch.workgroup_size.iter().product::<u32>() <= 256, "{at}: threads");
            assert!(dispatch.workgroup_bytes <= 16384, "{at}: workgroup memory");
            assert!(dispatch.bindings.len() <= UNIFORM_BINDING as usize, "{at}: bindings");
            assert!(dispatch.bindings.iter().all(|b| b.offset % 256 == 0), "{at}: offsets");
        }
        let steps = plan.dispatches.iter().filter(|d| d.reads_step);
        assert!(steps.into_iter().all(|d| ["gather", "record", "adam"].contains(&&*d.entry_point)));
    }
}

#[test]
fn the_table_counts_what_the_geometry_says() {
    let g = Geometry::conv2d(64, (1, 28, 28), 32, (4, 4), 2, 2);
    assert_eq!(g.macs(), 56 * 56 * 32 * 64);
    let [train, ..] = programs();
    let table = train.table(None);
    assert_eq!(table.lines().count(), train.calls.len() + 3, "{table}");
    let gflop = train.cost().flops as f64 / 1e9;
    assert!((2.3..2.5).contains(&gflop), "{gflop}");
}

#[test]
#[should_panic(expected = "add: shapes")]
fn shapes_that_do_not_fit_are_named() {
    let mut tape = Tape::new();
    let (a, b) = (tape.leaf("a", [1, 1, 1, 3]), tape.leaf("b", SCALAR));
    tape.add(a, b);
}
