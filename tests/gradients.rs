//! Derivatives against finite differences, in float64 on the CPU engine: every rule to second
//! order, each in the middle of a graph, and the complete GradCon loss for every parameter tensor.

mod cases;
mod common;

use std::collections::{HashMap, HashSet};

use gradcon::engine::cpu;
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine};
use gradcon::geometry::Geometry;
use gradcon::layout::{SCALAR, Segment, Shape, flat, pack, size};
use gradcon::method::feed;
use gradcon::method::model::{Init, Kind, Model};
use gradcon::method::objective::{Terms, objective, parameter_gradient};
use gradcon::program::{Options, compile};
use gradcon::tape::ops::{AdamConfig, FAMILIES, Map, Memory, Op};
use gradcon::tape::{Tape, Tensor};

/// Deterministic values in (-1, 1).
fn values(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// A tape on an engine: leaves go in, what was stored comes out.
struct Machine {
    engine: Box<dyn Engine>,
    program: gradcon::engine::Loaded,
    /// What the program reads or writes.
    buffers: HashSet<String>,
}

impl Machine {
    fn new(tape: &Tape) -> Machine {
        let mut engine = cpu::f64();
        let compiled = compile("test", tape, Options::default());
        let program = engine.load(&compiled).unwrap();
        let buffers = compiled.buffers.into_iter().map(|buffer| buffer.name).collect();
        Machine { engine, program, buffers }
    }

    fn run(&mut self, inputs: &HashMap<&'static str, Vec<f64>>) {
        // A direction that meets a gradient of zeros is no part of the program.
        for (name, data) in inputs.iter().filter(|(name, _)| self.buffers.contains(**name)) {
            self.engine.write(name, Data::F64(data)).unwrap();
        }
        self.engine.run(self.program, 0..1).unwrap();
    }

    fn scalar(&mut self, inputs: &HashMap<&'static str, Vec<f64>>, name: &str) -> f64 {
        self.run(inputs);
        self.engine.read(name).unwrap()[0]
    }
}

/// Records an operation on its inputs.
type Recorder = Box<dyn Fn(&mut Tape, &[Tensor]) -> Tensor>;

/// One operation under test: its inputs and how to record it.
struct Case {
    name: &'static str,
    inputs: Vec<(&'static str, Shape)>,
    record: Recorder,
    /// Inputs that have a gradient.
    differentiable: Vec<usize>,
    /// Adds this to the inputs: keeps squared norms positive, for instance.
    shift: f64,
}

fn case(
    name: &'static str,
    inputs: &[(&'static str, Shape)],
    record: impl Fn(&mut Tape, &[Tensor]) -> Tensor + 'static,
) -> Case {
    Case {
        name,
        inputs: inputs.to_vec(),
        record: Box::new(record),
        differentiable: (0..inputs.len()).collect(),
        shift: 0.0,
    }
}

/// Every elementwise member, with constants of its own.
fn map_cases() -> Vec<Case> {
    let inputs = [("a", [2, 3, 5, 4]), ("b", [2, 3, 5, 4])];
    let of = |map: Map| case(map.name(), &inputs[..map.arity()], move |t, i| t.map(map, i));
    let shifted = |map: Map| match map {
        // A squared norm is positive.
        Map::InvNorm { .. } => Case { shift: 2.0, ..of(map) },
        _ => of(map),
    };
    // Every norm is below the clamp: the slope is zero.
    let clamped = Map::InvNorm { eps: 9.0 };
    Map::ALL.into_iter().chain([clamped]).map(shifted).collect()
}

fn conv_cases(g: Geometry) -> [Case; 3] {
    let (x, y, w) = (("x", g.x_shape()), ("y", g.y_shape()), ("w", g.w_shape()));
    [
        case("conv_y", &[x, w], move |t, i| t.conv_y(g, i[0], i[1])),
        case("conv_x", &[y, w], move |t, i| t.conv_x(g, i[0], i[1])),
        case("conv_w", &[x, y], move |t, i| t.conv_w(g, i[0], i[1])),
    ]
}

const SEGMENTS: [Segment; 3] = [
    Segment { offset: 0, len: 70 },
    Segment { offset: 128, len: 5 },
    Segment { offset: 192, len: 1 },
];

fn cases() -> Vec<Case> {
    let a = [2, 3, 5, 4];
    let mut cases = map_cases();
    cases.extend(cases::geometries::awkward().into_iter().flat_map(conv_cases));
    cases.extend([
        case("broadcast", &[("a", [1, 1, 5, 1])], move |t, i| t.broadcast(i[0], a)),
        case("broadcast", &[("a", [1, 1, 1, 4])], move |t, i| t.broadcast(i[0], a)),
        case("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], [1, 1, 5, 1])),
        case("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], [2, 1, 1, 4])),
        case("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], SCALAR)),
        case("reshape", &[("a", a)], |t, i| t.reshape(i[0], [1, 1, 30, 4])),
        case("slice", &[("a", flat(200))], move |t, i| t.slice(i[0], 64, a)),
        case("concat", &[("a", [1, 2, 3, 5]), ("b", [1, 1, 7, 1])], |t, i| {
            t.concat(&[(i[0], 0), (i[1], 64)], 100)
        }),
    ]);
    let of_loss = [("x", a), ("target", a), ("weight", flat(4))];
    let of_constraint = [("g", flat(200)), ("r", flat(200))];
    cases.extend([
        case("mse", &of_loss, |t, i| t.mse(i[0], i[1], i[2])),
        case("image_mse", &of_loss[..2], |t, i| t.image_mse(i[0], i[1])),
        case("constraint", &of_constraint, |t, i| t.constraint(i[0], i[1], &SEGMENTS)),
        // A weight that is no constant is its derivative's, too.
        case("mul", &[of_constraint[0], of_constraint[1], ("weight", SCALAR)], |t, i| {
            let constraint = t.constraint(i[0], i[1], &SEGMENTS);
            t.mul(constraint, i[2])
        }),
        case("constraint_grad", &of_constraint, |t, i| t.constraint_grad(i[0], i[1], &SEGMENTS)),
    ]);
    cases
}

/// Every operation that has no derivative.
fn without_derivative() -> Tape {
    let mut t = Tape::new();
    let constant = t.fill(flat(9), 0.5);
    t.store(constant, "stored");
    let (images, weight) = t.batch(feed::source("some", 7, 1), [2, 3, 5, 4]);
    t.record(images, "log", 0, 120, 1);
    t.record(weight, "log", 0, 120, 1);
    t.noise("draws", [2, 3, 5, 4], 0, 1);
    let model = Model::new(1);
    let gradient = t.leaf("gradient", flat(model.len()));
    t.adam(gradient, feed::adam_buffers("some", &model, 1), AdamConfig::default());
    let g = Geometry::conv2d(2, (3, 5, 5), 4, (3, 3), 2, 1);
    let [x, y] = [("x", g.x_shape()), ("y", g.y_shape())].map(|(name, s)| t.leaf(name, s));
    let r = t.leaf("r", flat(g.w_len()));
    let stats = t.constraint_stats(r, r, &[Segment { offset: 0, len: g.w_len() }]);
    let r = t.slice(r, 0, g.w_shape());
    t.image_cos(g, (x, y), r, (stats, 0));
    t.image_squares(g, (x, y), r);
    t
}

/// The operation in the middle of a graph: behind an affine map, before a product. Its own gradient
/// is `mixed`, an inner product with constants.
fn record(case: &Case, tape: &mut Tape) -> (Vec<Tensor>, Tensor) {
    let leaves: Vec<Tensor> =
        case.inputs.iter().map(|(name, shape)| tape.leaf(name, *shape)).collect();
    let scaled: Vec<Tensor> = leaves.iter().map(|&t| tape.affine(t, 0.8, case.shift)).collect();
    let out = (case.record)(tape, &scaled);
    let mix = tape.leaf("mix", tape.shape(out));
    let square = tape.mul(out, out);
    let sum = tape.add(square, out);
    (leaves, tape.dot(mix, sum))
}

fn check(case: &Case, order: usize) {
    let mut tape = Tape::new();
    let (leaves, mut scalar) = record(case, &mut tape);
    let wrt: Vec<Tensor> = case.differentiable.iter().map(|&i| leaves[i]).collect();
    let mut inputs: HashMap<&'static str, Vec<f64>> = HashMap::new();
    for (seed, (name, shape)) in case.inputs.iter().enumerate() {
        inputs.insert(name, values(size(*shape), 17 + seed as u64));
    }
    let mix = tape
        .nodes()
        .iter()
        .find(|n| matches!(&n.op, Op::Memory(Memory::Leaf { name }) if name == "mix"))
        .unwrap()
        .shape;
    inputs.insert("mix", values(size(mix), 99));
    if order == 2 {
        // A fixed direction turns the first gradient into a scalar again.
        let gradients = tape.grad(scalar, &wrt);
        let mut total = tape.fill(SCALAR, 0.0);
        for (k, g) in gradients.into_iter().enumerate() {
            let name = ["direction 0", "direction 1", "direction 2"][k];
            let direction = tape.leaf(name, tape.shape(g));
            inputs.insert(name, values(size(tape.shape(g)), 200 + k as u64));
            let part = tape.dot(direction, g);
            total = tape.add(total, part);
        }
        scalar = total;
    }
    let gradients = tape.grad(scalar, &wrt);
    tape.store(scalar, "value");
    for (g, &i) in gradients.iter().zip(&case.differentiable) {
        tape.store(*g, &format!("gradient {i}"));
    }
    let mut machine = Machine::new(&tape);
    machine.run(&inputs);
    let gradients: Vec<Vec<f64>> = case
        .differentiable
        .iter()
        .map(|i| machine.engine.read(&format!("gradient {i}")).unwrap())
        .collect();
    for (gradient, &i) in gradients.iter().zip(&case.differentiable) {
        let (name, shape) = case.inputs[i];
        let direction = values(size(shape), 300 + i as u64);
        let eps = 1e-5;
        let mut at = |sign: f64| {
            let mut moved = inputs.clone();
            moved
                .get_mut(name)
                .unwrap()
                .iter_mut()
                .zip(&direction)
                .for_each(|(v, d)| *v += sign * eps * d);
            machine.scalar(&moved, "value")
        };
        let numeric = (at(1.0) - at(-1.0)) / (2.0 * eps);
        let analytic: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let scale = numeric.abs().max(analytic.abs()).max(1e-3);
        let error = (numeric - analytic).abs() / scale;
        assert!(
            error < 1e-7,
            "{} order {order}, input {name}: numeric {numeric}, analytic {analytic}, error {error}",
            case.name
        );
    }
}

#[test]
fn every_rule_to_second_order() {
    for case in cases() {
        check(&case, 1);
        check(&case, 2);
    }
}

/// A rule without a case here would be a rule without a proof: every member of every family either
/// is differentiated above, or can't be, because nothing can flow through it or it says no.
#[test]
fn every_operation_has_a_case_or_no_derivative() {
    // Every case begins with leaves.
    let mut seen: HashSet<&str> = HashSet::from(["leaf"]);
    for case in cases() {
        let mut tape = Tape::new();
        let leaves: Vec<Tensor> =
            case.inputs.iter().map(|(name, shape)| tape.leaf(name, *shape)).collect();
        let made = (case.record)(&mut tape, &leaves);
        assert_eq!(tape.node(made).op.family().name(), case.name, "a case of another operation");
        seen.insert(case.name);
    }
    let without = without_derivative();
    for (i, node) in without.nodes().iter().enumerate() {
        let (op, name) = (&node.op, node.op.family().name());
        if seen.contains(name) {
            continue;
        }
        let refused = || {
            let mut tape = without.clone();
            let made = tape.tensors().nth(i).expect("a node of the tape");
            let (seed, inputs) = (tape.fill(node.shape, 1.0), op.inputs());
            let asked = std::panic::AssertUnwindSafe(move || tape.vjp(made, seed, &inputs));
            std::panic::catch_unwind(asked).is_err()
        };
        assert!(op.inputs().is_empty() || op.is_sink() || refused(), "{name} has a rule, no case");
    }
    seen.extend(without.nodes().iter().map(|n| n.op.family().name()));
    for (family, members) in FAMILIES {
        for name in members {
            assert!(seen.contains(name), "{name} of {family} has no case");
        }
    }
}

/// `<conv_y(x, w), y> = <x, conv_x(y, w)> = <w, conv_w(x, y)>`, exactly the same sum in three
/// orders.
#[test]
fn the_convolution_trio_is_adjoint() {
    for (k, g) in [
        Geometry {
            n: 3,
            cx: 5,
            cy: 7,
            hx: 6,
            wx: 9,
            hy: 3,
            wy: 4,
            kh: 3,
            kw: 4,
            stride: 2,
            padding: 1,
        },
        Geometry::conv2d(1, (7, 15, 15), 3, (4, 4), 2, 2),
        Geometry::conv2d(17, (1, 5, 5), 5, (4, 4), 2, 2),
        Geometry::conv_transpose2d(20, (13, 3, 4), 11, (4, 4), 2, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let mut tape = Tape::new();
        let x = tape.leaf("x", [g.hx, g.wx, g.cx, g.n]);
        let y = tape.leaf("y", [g.hy, g.wy, g.cy, g.n]);
        let w = tape.leaf("w", [g.kh, g.kw, g.cy, g.cx]);
        let (a, b, c) = (tape.conv_y(g, x, w), tape.conv_x(g, y, w), tape.conv_w(g, x, y));
        let inner = [tape.dot(a, y), tape.dot(x, b), tape.dot(w, c)];
        for (name, t) in ["a", "b", "c"].into_iter().zip(inner) {
            tape.store(t, name);
        }
        let mut machine = Machine::new(&tape);
        let seed = 10 * k as u64;
        machine.run(&HashMap::from([
            ("x", values(g.x_len(), seed)),
            ("y", values(g.y_len(), seed + 1)),
            ("w", values(g.w_len(), seed + 2)),
        ]));
        let [a, b, c] = ["a", "b", "c"].map(|name| machine.engine.read(name).unwrap()[0]);
        assert!(
            a.abs() > 1e-3
                && (a - b).abs() < 1e-12 * a.abs().max(1.0)
                && (a - c).abs() < 1e-12 * a.abs().max(1.0),
            "{g}: {a} {b} {c}"
        );
    }
}

/// L and dL/dtheta of the whole model, for batches whose last image is padding.
struct Loss {
    model: Model,
    machine: Machine,
    inputs: HashMap<&'static str, Vec<f64>>,
}

/// The tape of L and its gradient for n images.
fn loss_tape(model: &Model, n: usize) -> Tape {
    let mut tape = Tape::new();
    let x = tape.leaf("x", model.shape(n));
    let weight = tape.leaf("weight", [1, 1, 1, n]);
    let noise = [1, 1, model.latent_len(), n];
    let noise = (model.kind() == Kind::Vae).then(|| tape.leaf("noise", noise));
    // A large alpha, so that the second-order part dominates; and the divergence is there to see.
    let terms = Terms { alpha: Some(0.5), kl_weight: 0.7, scale: 1.0 };
    let o = objective(&mut tape, model, (x, weight), noise, terms);
    let gradient = parameter_gradient(&mut tape, model, &o);
    tape.store(o.loss, "loss");
    tape.store(gradient, "gradient");
    tape
}

/// Of a model for images of a size and so many channels, and a batch of images that weigh `weight`.
fn loss(kind: Kind, [size, channels]: [usize; 2], weight: &[f64]) -> Loss {
    let (model, n) = (Model::sized(kind, size, channels).unwrap(), weight.len());
    let params = model
        .init(Init::Kaiming, 3)
        .into_iter()
        .map(f64::from)
        .zip(values(model.len(), 4))
        .map(|(p, v)| p + 0.02 * v)
        .collect();
    let mut inputs = HashMap::from([
        ("x", values(model.pixels() * n, 1).into_iter().map(|v| 0.5 + 0.5 * v).collect()),
        ("weight", weight.to_vec()),
        ("params", params),
        ("reference", values(model.reference_len(), 2)),
    ]);
    if kind == Kind::Vae {
        inputs.insert("noise", values(model.latent_len() * n, 5));
    }
    Loss { machine: Machine::new(&loss_tape(&model, n)), model, inputs }
}

/// Directional derivatives of L for each parameter tensor: (name, direction in the flat layout,
/// numeric).
fn directional_derivatives(loss: &mut Loss) -> Vec<(String, Vec<f64>, f64)> {
    let mut all = vec![];
    for (k, p) in loss.model.params().to_vec().into_iter().enumerate() {
        let mut direction = vec![0.0; loss.model.len()];
        direction[p.offset..p.offset + p.len()].copy_from_slice(&values(p.len(), 50 + k as u64));
        // Small: L jumps where a ReLU flips.
        let eps = 1e-7 / (p.len() as f64).sqrt();
        let mut at = |sign: f64| {
            let mut moved = loss.inputs.clone();
            moved
                .get_mut("params")
                .unwrap()
                .iter_mut()
                .zip(&direction)
                .for_each(|(v, d)| *v += sign * eps * d);
            loss.machine.scalar(&moved, "loss")
        };
        let numeric = (at(1.0) - at(-1.0)) / (2.0 * eps);
        all.push((p.name.clone(), direction, numeric));
    }
    all
}

/// `gradient` against finite differences, in every parameter tensor, to `tolerance` of the
/// derivative along a direction or, should that be small by chance, of what it would typically be.
fn compare(loss: &mut Loss, gradient: &[f64], tolerance: f64) {
    for (name, direction, numeric) in directional_derivatives(loss) {
        let analytic: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let typical =
            gradient.iter().zip(&direction).map(|(g, d)| (g * d).powi(2)).sum::<f64>().sqrt();
        let error = (numeric - analytic).abs() / analytic.abs().max(typical);
        assert!(error < tolerance, "{name}: numeric {numeric}, analytic {analytic}, error {error}");
    }
}

/// Two images and one that is padding.
const PADDED: [f64; 3] = [0.5, 0.5, 0.0];

fn check_loss(kind: Kind, image: [usize; 2], weight: &[f64]) {
    let mut loss = loss(kind, image, weight);
    loss.machine.run(&loss.inputs);
    let gradient = loss.machine.engine.read("gradient").unwrap();
    compare(&mut loss, &gradient, 2e-5);
}

/// The GPU's own gradient, second-order part included, against the same finite differences.
#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn the_gpus_gradient_of_the_complete_loss() {
    for (kind, image) in
        [(Kind::Cae, [28, 1]), (Kind::Cae, [28, 3]), (Kind::Vae, [28, 3]), (Kind::Cae, [96, 1])]
    {
        let mut loss = loss(kind, image, &PADDED);
        let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
        let mut engine = GpuEngine::open(&Selector::Hardware, options)
            .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
        let options = Options::new(1, engine.form());
        let program = engine.load(&compile("loss", &loss_tape(&loss.model, 3), options)).unwrap();
        for (name, data) in &loss.inputs {
            engine.write(name, Data::F64(data)).unwrap();
        }
        engine.run(program, 0..1).unwrap();
        let gradient = engine.read("gradient").unwrap();
        compare(&mut loss, &gradient, 2e-4);
    }
}

#[test]
fn the_complete_loss_for_every_parameter_tensor() {
    check_loss(Kind::Cae, [28, 1], &PADDED);
    check_loss(Kind::Cae, [28, 3], &PADDED);
}

/// Shallower, as deep as the paper's, and deeper.
#[test]
fn the_loss_of_other_sizes_for_every_parameter_tensor() {
    check_loss(Kind::Cae, [32, 3], &PADDED);
    check_loss(Kind::Vae, [48, 1], &[1.0]);
    check_loss(Kind::Cae, [96, 1], &[1.0]);
}

/// The same of the variational model, through draw and divergence; also of a single image, and with
/// an odd number of channels.
#[test]
fn the_variational_loss_for_every_parameter_tensor() {
    check_loss(Kind::Vae, [28, 1], &PADDED);
    check_loss(Kind::Vae, [28, 5], &[1.0]);
}

/// Flat layouts put every tensor at a multiple of 64 elements, without overlap.
#[test]
fn layouts_are_aligned() {
    let (offsets, len) = pack([1, 64, 65, 3]);
    assert_eq!((offsets, len), (vec![0, 64, 128, 256], 320));
}
