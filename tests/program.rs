//! What compilation promises: dead code goes, epilogues are fused, memory is shared, independent
//! kernels are neighbours, splits don't change the sum.

use gradcon::engine::Data;
use gradcon::engine::cpu;
use gradcon::geometry::Geometry;
use gradcon::kernels::conv::Activation;
use gradcon::kernels::{Access, Conv, DIRECT, Element, Form, Kernel, Memory};
use gradcon::layout::SCALAR;
use gradcon::method::config::TrainConfig;
use gradcon::method::feed::Feed;
use gradcon::method::model::{Kind, Model};
use gradcon::method::programs::{
    fit_program, measuring_program, score_program, training_program, validation_program,
};
use gradcon::method::readout::Wanted;
use gradcon::program::dispatch::{Plan, UNIFORM_BINDING, UNIFORM_BYTES};
use gradcon::program::predict::{CLASSES, Class};
use gradcon::program::{Buffer, Call, Options, Precision, Program, View, compile};
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

/// The programs of training, validation and scoring as a GPU runs them, in every size that is
/// promised something.
fn parallel() -> Vec<(String, [Program; 3])> {
    let sizes = [(1, 1), (3, 1), (1, 10), (3, 10)];
    let programs = |(channels, replicas)| {
        let (model, config) = (Model::new(channels), TrainConfig::default());
        let options = Options::new(replicas, Form::Parallel);
        let programs = [
            training_program(&model, &config, 100, 2, options),
            validation_program(&model, &config, 100, 2, options),
            score_program(&model, 64, 2, options),
        ];
        (format!("{channels} channels, {replicas} replicas"), programs)
    };
    sizes.into_iter().map(programs).collect()
}

/// What a GPU runs can be counted out for every size that a model may have, also the deepest.
#[test]
fn every_size_of_images_has_its_dispatches() {
    let options = Options::new(2, Form::Parallel);
    for size in gradcon::images::SIZES {
        for kind in [Kind::Cae, Kind::Vae] {
            let (model, config) = (Model::sized(kind, size, 3).unwrap(), TrainConfig::default());
            for program in [
                training_program(&model, &config, 100, 2, options),
                validation_program(&model, &config, 100, 2, options),
                measuring_program(&model, Wanted::all(&model), 64, 2, options),
                fit_program(&model, 64, 2, options),
            ] {
                assert!(program.plan(&[]).dispatches.len() >= program.calls.len(), "{kind} {size}");
            }
        }
    }
}

/// A training step has exactly the convolutions that the mathematics needs: nothing into the input
/// image, nothing twice, and those that are added share a kernel.
#[test]
fn a_step_computes_only_what_is_asked_for() {
    let [train, validation, score] = programs();
    // Forward: four of each. First sweep: conv_y into three decoder layers, conv_w for four.
    assert_eq!(["conv_y", "conv_x", "conv_w"].map(|k| count(&validation, k)), [4 + 3, 4, 4]);
    // A score needs no weight gradient at all: image_grad stands for the four.
    assert_eq!(["conv_y", "conv_x", "conv_w"].map(|k| count(&score, k)), [4 + 3, 4, 0]);
    assert_eq!(count(&score, "image_grad"), 4);
    // Second sweep, decoder: the direction u goes forward, and through the chain of first gradients
    // each of the four weights is met twice more: once with what was, once with u, in one kernel.
    // Encoder: three conv_x, four conv_w.
    assert_eq!(count(&train, "conv_x"), 4 + 4 + 3);
    assert_eq!(count(&train, "conv_y"), 4 + 3 + 4);
    assert_eq!(count(&train, "conv_w"), 4 + 4 + 4);
    assert_eq!(["adam", "gather", "constraint_grad"].map(|k| count(&train, k)), [1, 1, 1]);
    let pairs = |kernel: &Kernel| match kernel {
        Kernel::Conv(conv) => conv.sum().0,
        Kernel::ConvW(conv) => conv.pair,
        _ => false,
    };
    assert_eq!(train.calls.iter().filter(|call| pairs(&call.kernel)).count(), 3 + 4 + 3);
    // Bias, activation, and the gradients of both belong to convolutions; what else is elementwise
    // is one kernel a sweep. Sums are added where they are used.
    for kernel in ["copy", "broadcast", "sum_to", "sum_pieces"] {
        assert_eq!(count(&train, kernel), 0, "{kernel}");
    }
    assert_eq!(count(&train, "map"), 2);
    assert_eq!(count(&train, "record"), 1);
}

/// What a training step costs a GPU beside its multiplications: dispatches, waits and memory.
#[test]
fn a_step_is_few_dispatches_and_fewer_waits() {
    for (at, [train, validation, score]) in parallel() {
        assert_eq!((train.calls.len(), train.waits()), (43, 31), "{at}");
        assert_eq!((validation.calls.len(), validation.waits()), (21, 16), "{at}");
        assert_eq!((score.calls.len(), score.waits()), (26, 20), "{at}");
        let per_model = train.memory().0 / train.replicas as u64;
        assert!(per_model < 21_000_000, "{at}: {per_model} bytes of scratch memory");
    }
}

/// In half precision the same calls wait as often, and move and keep little more than half: weights
/// and their gradients, which stay floats, are a fifth of what moves, and more of what a step without
/// an update keeps.
#[test]
fn half_precision_halves_what_moves_and_nothing_else() {
    for (channels, replicas) in [(1, 1), (3, 1), (1, 10), (3, 10)] {
        let at = format!("{channels} channels, {replicas} replicas");
        let of = |precision: Precision| {
            let (model, options) = (Model::new(channels), Options::new(replicas, Form::Parallel));
            let (config, options) = (TrainConfig::default(), Options { precision, ..options });
            [
                training_program(&model, &config, 100, 2, options),
                validation_program(&model, &config, 100, 2, options),
                score_program(&model, 64, 2, options),
            ]
        };
        for (full, half) in of(Precision::F32).iter().zip(&of(Precision::F16)) {
            let names = |p: &Program| p.calls.iter().map(|c| c.kernel.name()).collect::<Vec<_>>();
            assert_eq!(names(full), names(half), "{at}");
            assert_eq!(full.waits(), half.waits(), "{at}");
            // The loss scale is one multiplication of each pixel.
            let more = half.cost().flops as f64 / full.cost().flops as f64;
            assert!((1.0..1.001).contains(&more), "{at}: {more}");
            let part = half.cost().bytes as f64 / full.cost().bytes as f64;
            assert!(part < 0.62, "{at}: {part} of the bytes of {}", full.name);
            let part = half.memory().0 as f64 / full.memory().0 as f64;
            assert!(part < 0.65, "{at}: {part} of the scratch memory of {}", full.name);
            assert_eq!(full.memory().1, half.memory().1, "{at}: parameters stay floats");
        }
    }
}

/// The model of costs: every call has a time that no device of the class could beat, ten models
/// don't cost much more than ten times one, and where there is much to do larger tiles are chosen.
#[test]
fn predictions_are_possible_and_choose_by_size() {
    let like = ["NVIDIA H100", "AMD Radeon RX 6600", "Apple M1", "Intel(R) Iris", "?"];
    assert_eq!(
        like.map(|name| Class::like(name).name),
        ["h100", "rx-7900-xtx", "m2", "iris-xe", "h100"]
    );
    for class in &CLASSES {
        let predicted = |replicas: usize| {
            let options = Options::new(replicas, Form::Parallel);
            let (model, config) = (Model::new(3), TrainConfig::default());
            let program = training_program(&model, &config, 100, 2, options);
            let (calls, total) = program.predict(class);
            assert_eq!(calls.len(), program.calls.len());
            for (call, (launch, of)) in program.calls.iter().zip(&calls) {
                let least = call.kernel.family().products().map_or(0, |of| of.useful) as f64
                    * replicas as f64
                    / (class.processors * class.products * class.gigahertz * 1e3);
                let at =
                    format!("{}, {}: {} for {}", class.name, launch.variant, of.us, call.label);
                assert!(of.us.is_finite() && of.us >= least && of.us > 0.0, "{at}");
            }
            let large = calls.iter().filter(|(launch, _)| launch.variant.starts_with("tile-8x8"));
            (total, large.count())
        };
        let ((one, few), (ten, many)) = (predicted(1), predicted(10));
        assert!(one < ten && ten < 12.0 * one, "{}: {one} and {ten} us", class.name);
        assert!(many > 0 && many >= few, "{}: {few} and {many} large tiles", class.name);
    }
}

/// No thread goes round a loop for long, and tiles fit the layers: nothing is left to wait for but
/// the multiplications.
#[test]
fn no_thread_of_a_step_works_alone_for_long() {
    for (at, [train, ..]) in parallel() {
        for call in &train.calls {
            let (name, kernel) = (call.kernel.name(), call.kernel.family());
            let at = format!("{at}: {name} for {}", call.label);
            assert!(kernel.serial() <= 64, "{at}: {} rounds", kernel.serial());
            let Some(products) = kernel.products() else { continue };
            assert!(products.chain <= 16, "{at}: {} blocks in a row", products.chain);
            let ratio = products.executed as f64 / products.useful as f64;
            assert!((1.0..=1.1).contains(&ratio), "{at}: {ratio:.3} of the useful products");
        }
    }
}

/// A variational step has besides: three linear layers forward, three back into their inputs, two
/// of which share a kernel, and three weight gradients; no copy for another shape.
#[test]
fn a_variational_step_computes_only_what_is_asked_for() {
    let (config, options) = (TrainConfig::default(), Options::default());
    let of = |kind| {
        let model = Model::of(kind, 1).unwrap();
        [
            training_program(&model, &config, 100, 2, options),
            validation_program(&model, &config, 100, 2, options),
            score_program(&model, 64, 2, options),
        ]
    };
    let (plain, variational) = (of(Kind::Cae), of(Kind::Vae));
    let more = |i: usize, kernel: &str| {
        count(&variational[i], kernel) as isize - count(&plain[i], kernel) as isize
    };
    let kernels = ["conv_y", "conv_x", "conv_w", "noise", "copy", "broadcast", "sum_pieces"];
    // The gradient of the code is one conv_y that a plain model needs, too; then back through fc2,
    // and through fc11 and fc12 at once.
    assert_eq!(kernels.map(|kernel| more(0, kernel)), [3, 2, 3, 1, 0, 0, 0]);
    assert_eq!(kernels.map(|kernel| more(1, kernel)), [3, 0, 0, 0, 0, 0, 0]);
    // No score depends on the variance.
    assert_eq!(kernels.map(|kernel| more(2, kernel)), [2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(["map", "sum_to"].map(|kernel| more(2, kernel)), [0, 0]);
    for i in 0..2 {
        // The divergence of each image, and of the batch.
        assert_eq!(more(i, "sum_to"), 2);
    }
    let parallel = Options::new(1, Form::Parallel);
    let train = training_program(&Model::of(Kind::Vae, 3).unwrap(), &config, 100, 2, parallel);
    for call in &train.calls {
        let (name, kernel) = (call.kernel.name(), call.kernel.family());
        assert!(kernel.serial() <= 64, "{name} for {}: {} rounds", call.label, kernel.serial());
        let executed = kernel.products().map_or(1.0, |p| p.executed as f64 / p.useful as f64);
        assert!(executed <= 1.1, "{name} for {}: {executed:.3}", call.label);
    }
}

/// What is elementwise goes into a convolution also behind another shape; a bias, which belongs to
/// channels, does not.
#[test]
fn another_shape_ends_no_fusion() {
    let g = Geometry::conv2d(2, (6, 1, 1), 12, (1, 1), 1, 0);
    let shape = [2, 2, 3, 2];
    let calls = |biased: bool| -> Vec<&'static str> {
        let mut tape = Tape::new();
        let (x, w) = (tape.leaf("x", g.x_shape()), tape.leaf("w", g.w_shape()));
        let y = tape.conv_y(g, x, w);
        let mut y = tape.reshape(y, shape);
        if biased {
            let bias = tape.leaf("bias", [1, 1, 3, 1]);
            let bias = tape.broadcast(bias, shape);
            y = tape.add(y, bias);
        }
        let y = tape.relu(y);
        tape.store(y, "out");
        let program = compile("test", &tape, Options::default());
        program.calls.iter().map(|c| c.kernel.name()).collect()
    };
    assert_eq!(calls(false), ["conv_y", "copy"]);
    assert_eq!(calls(true), ["conv_y", "map", "copy"]);
}

#[test]
fn epilogues_take_in_what_follows_a_convolution() {
    let g = Geometry::conv2d(2, (3, 5, 5), 4, (3, 3), 1, 1);
    let mut tape = Tape::new();
    let (x, w) = (tape.leaf("x", [5, 5, 3, 2]), tape.leaf("w", [3, 3, 4, 3]));
    let (x2, w2) = (tape.leaf("x2", [5, 5, 3, 2]), tape.leaf("w2", [3, 3, 4, 3]));
    let bias = tape.leaf("bias", [1, 1, 4, 1]);
    let (first, second) = (tape.conv_y(g, x, w), tape.conv_y(g, x2, w2));
    let y = tape.add(first, second);
    let bias = tape.broadcast(bias, [5, 5, 4, 2]);
    let y = tape.add(y, bias);
    let y = tape.relu(y);
    tape.store(y, "out");
    let unused = tape.sigmoid(x);
    tape.mul(unused, unused);
    let program = compile("test", &tape, Options::default());
    let kernels: Vec<&str> = program.calls.iter().map(|c| c.kernel.name()).collect();
    assert_eq!(kernels, ["conv_y", "copy"]);
    let Kernel::Conv(Conv::ConvY { epilogue, pair, .. }) = program.calls[0].kernel else {
        panic!("{:?}", program.calls[0])
    };
    assert_eq!((epilogue.bias, pair, epilogue.activation), (true, true, Activation::Relu));
}

/// Elementwise functions become one kernel, unless somebody else needs what is in between.
#[test]
fn a_chain_of_elementwise_functions_is_one_kernel() {
    let links = |stored: bool| -> Vec<usize> {
        let mut tape = Tape::new();
        let (a, b) = (tape.leaf("a", [2, 3, 4, 5]), tape.leaf("b", [1, 1, 1, 5]));
        let b = tape.broadcast(b, [2, 3, 4, 5]);
        let product = tape.mul(a, b);
        let between = tape.sigmoid(product);
        let sum = tape.add(between, a);
        let difference = tape.sub(sum, between);
        tape.store(difference, "out");
        if stored {
            tape.store(between, "between");
        }
        let program = compile("test", &tape, Options::default());
        let maps = program.calls.iter().filter_map(|call| match &call.kernel {
            Kernel::Map(kernel) => Some(kernel.links.len()),
            _ => None,
        });
        maps.collect()
    };
    assert_eq!(links(false), [4]);
    assert_eq!(links(true), [2, 2]);
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
    if name == "train" {
        for moment in ["adam.m", "adam.v"] {
            engine.write(moment, Data::F32(&vec![0.0; model.len()])).unwrap();
        }
        let feed = Feed::of("train", engine.as_mut()).lr(&[1e-3]);
        feed.and_then(|feed| feed.alpha(&[0.03])).unwrap();
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

/// wgpu's rule on a program small enough to count by hand: a wait wherever a buffer's use changes
/// or it is written again.
#[test]
fn waits_are_counted_as_wgpu_makes_them() {
    let buffers = ["a", "b", "c"].map(|name| Buffer {
        name: name.into(),
        element: Element::Float,
        len: 8,
        replicated: true,
        persistent: true,
    });
    let waits = |copies: &[(usize, usize)]| {
        let view = |buffer| View { buffer, offset: 0, len: 8 };
        let call = |&(from, to): &(usize, usize)| Call {
            kernel: Kernel::Memory(Memory::Copy { len: 8 }),
            args: vec![view(from), view(to)],
            label: String::new(),
        };
        let calls = copies.iter().map(call).collect();
        Program { name: String::new(), replicas: 1, buffers: buffers.to_vec(), calls }.waits()
    };
    assert_eq!(waits(&[(0, 1), (0, 2)]), 0, "two readers of one buffer");
    assert_eq!(waits(&[(0, 1), (1, 2)]), 1, "read after write");
    assert_eq!(waits(&[(0, 1), (2, 0)]), 1, "write after read");
    assert_eq!(waits(&[(0, 1), (2, 1)]), 1, "write after write");
    assert_eq!(waits(&[(0, 1), (1, 2), (1, 0)]), 2, "and the same again");
    assert_eq!(waits(&[(0, 1), (1, 2), (1, 2)]), 2);
}

#[test]
fn split_sums_equal_whole_ones() {
    let g = Geometry::conv2d(16, (5, 15, 15), 7, (4, 4), 2, 2);
    let run = |form: Form| {
        let mut tape = Tape::new();
        let (x, y) = (tape.leaf("x", g.x_shape()), tape.leaf("y", g.y_shape()));
        let (x2, y2) = (tape.leaf("x2", g.x_shape()), tape.leaf("y2", g.y_shape()));
        let (first, second) = (tape.conv_w(g, x, y), tape.conv_w(g, x2, y2));
        let w = tape.add(first, second);
        let bias = tape.sum_to(y2, [1, 1, 7, 1]);
        tape.store(w, "w");
        tape.store(bias, "bias");
        let program = compile("test", &tape, Options::new(1, form));
        let mut engine = cpu::f64();
        let loaded = engine.load(&program).unwrap();
        // Whole numbers: every order of summation is exact.
        for (name, len, of) in
            [("x", g.x_len(), 11), ("y", g.y_len(), 7), ("x2", g.x_len(), 5), ("y2", g.y_len(), 9)]
        {
            let values: Vec<f64> = (0..len).map(|i| (i % of) as f64 - of as f64 / 2.0).collect();
            engine.write(name, Data::F64(&values)).unwrap();
        }
        engine.run(loaded, 0..1).unwrap();
        let [w, bias] = ["w", "bias"].map(|name| engine.read(name).unwrap());
        (["conv_w", "sum_to", "sum_pieces"].map(|kernel| count(&program, kernel)), w, bias)
    };
    let (whole, split) = (run(Form::Serial), run(Form::Parallel));
    // Whole, the weight is where it is needed, and only the bias lies behind it.
    assert_eq!((whole.0, split.0), ([1, 0, 1], [1, 0, 2]));
    assert!(whole.1.iter().chain(&whole.2).any(|&v| v != 0.0));
    assert_eq!((whole.1, whole.2), (split.1, split.2));
}

/// What an exporter writes is what the GPU engine runs, and fits any WebGPU device.
#[test]
fn a_plan_is_plain_data_within_the_limits_of_the_web() {
    for program in programs().into_iter().chain(parallel().into_iter().flat_map(|(_, p)| p)) {
        for plan in [program.plan(&[]), program.plan(&[DIRECT])] {
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
            assert!(
                steps.into_iter().all(|d| ["gather", "record", "adam"].contains(&&*d.entry_point))
            );
        }
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
