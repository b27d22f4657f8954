//! Derivatives against finite differences (`src/check`): every rule to second order, each in the
//! middle of a graph, and the complete GradCon loss for every parameter tensor; in float64, and on
//! every device in its own float. And `gradcon gradcheck`, which does the same for users.

use std::collections::{BTreeSet, HashSet};
use std::process::Command;

use gradcon::check::cases::{LOSSES, LossCase, operations};
use gradcon::check::{Check, Float, loss, operation};
use gradcon::engine::{Data, cpu};
use gradcon::geometry::Geometry;
use gradcon::layout::{Segment, flat, pack};
use gradcon::method::feed;
use gradcon::method::model::{Kind, Model, Param};
use gradcon::program::{Options, compile};
use gradcon::tape::ops::{AdamConfig, FAMILIES};
use gradcon::tape::{Tape, Tensor};
use serde_json::Value;

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

#[test]
fn every_rule_to_second_order() {
    let mut engine = cpu::f64();
    for case in operations() {
        for order in [1, 2] {
            let checks = operation(&case, order, false, engine.as_mut(), Float::F64).unwrap();
            assert_eq!(checks.len(), case.inputs.len(), "{}", case.name);
            assert_ok(&checks, 1e-7);
        }
    }
}

/// Panics if one of them failed, or was allowed another error.
#[track_caller]
fn assert_ok(checks: &[Check], allowed: f64) {
    for check in checks {
        assert!(check.ok() && check.allowed == allowed, "{check:?}");
    }
}

/// The losses of one kind of models.
fn check_losses(kind: Kind) {
    let mut engine = cpu::f64();
    let of_kind = |case: &&LossCase| case.kind == kind;
    for case in LOSSES.iter().filter(of_kind) {
        let checks = loss(case, engine.as_mut(), Float::F64).unwrap();
        let model = Model::sized(kind, case.size, case.channels).unwrap();
        let tensors = checks.iter().map(|check| &check.tensor);
        assert!(tensors.eq(model.params().iter().map(|p| &p.name)), "{case}");
        assert_ok(&checks, 2e-5);
    }
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

/// A rule without a case here would be a rule without a proof: every member of every family either
/// is differentiated above, or can't be, because nothing can flow through it or it says no.
#[test]
fn every_operation_has_a_case_or_no_derivative() {
    // Every case begins with leaves.
    let mut seen: HashSet<&str> = HashSet::from(["leaf"]);
    for case in operations() {
        let mut tape = Tape::new();
        let leaves: Vec<Tensor> =
            case.inputs.iter().map(|(name, shape)| tape.leaf(name, *shape)).collect();
        let made = case.record(&mut tape, &leaves);
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
        let mut engine = cpu::f64();
        let program = engine.load(&compile("trio", &tape, Options::default())).unwrap();
        let seed = 10 * k as u64;
        for (name, len, seed) in
            [("x", g.x_len(), seed), ("y", g.y_len(), seed + 1), ("w", g.w_len(), seed + 2)]
        {
            engine.write(name, Data::F64(&values(len, seed))).unwrap();
        }
        engine.run(program, 0..1).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| engine.read(name).unwrap()[0]);
        assert!(
            a.abs() > 1e-3
                && (a - b).abs() < 1e-12 * a.abs().max(1.0)
                && (a - c).abs() < 1e-12 * a.abs().max(1.0),
            "{g}: {a} {b} {c}"
        );
    }
}

#[test]
fn the_complete_loss_for_every_parameter_tensor() {
    check_losses(Kind::Cae);
}

/// The same of the variational model, through draw and divergence.
#[test]
fn the_variational_loss_for_every_parameter_tensor() {
    check_losses(Kind::Vae);
}

/// Runs the program: exit code, stdout, stderr.
fn gradcheck(line: &str) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_gradcon"))
        .arg("gradcheck")
        .args(line.split_whitespace())
        .env_remove("WGPU_ADAPTER_NAME")
        .env_remove("WGPU_BACKEND")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// What is allowed in f32 at most, whatever the number of terms: of operations, of losses.
const ALLOWED_IN_F32: [f64; 2] = [1e-4, 2e-4];

/// The program checks the same on a device, by the device's own gradients in f32.
fn check_program(device: &str) {
    let (code, stdout, stderr) = gradcheck(&format!("{device} --json"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let checks = found["checks"].as_array().unwrap();
    for check in checks {
        let most = ALLOWED_IN_F32[usize::from(check["case"] != "")];
        let [error, allowed] = ["error", "allowed"].map(|name| check[name].as_f64().unwrap());
        assert!(check["ok"] == true && error <= allowed && allowed <= most, "{check}");
    }
    let mut expected = vec![];
    for case in operations() {
        for order in ["1", "2"] {
            let of = |(name, _): &(&str, _)| [case.name, order, name].join(" ");
            expected.extend(case.inputs.iter().map(of));
        }
    }
    for case in LOSSES {
        let model = Model::sized(case.kind, case.size, case.channels).unwrap();
        let of = |p: &Param| [case.name(), "2", &p.name].join(" ");
        expected.extend(model.params().iter().map(of));
    }
    let got = checks.iter().map(|check| {
        let [operation, tensor] = ["operation", "tensor"].map(|name| check[name].as_str().unwrap());
        format!("{operation} {} {tensor}", check["order"])
    });
    assert_eq!(got.collect::<Vec<_>>(), expected);
}

#[test]
fn the_cpus_gradients_of_operations_and_of_the_complete_loss() {
    check_program("--device cpu");
}

/// The GPU's own gradients, second-order parts included.
#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn the_gpus_gradients_of_operations_and_of_the_complete_loss() {
    check_program("--device gpu --allow-software");
}

/// Wrong by a hundredth, every rule is found, in f32 and f64, to first and second order and in
/// every tensor that has a derivative; and nothing else is.
#[test]
fn a_broken_rule_fails() {
    let names: BTreeSet<&str> = operations().iter().map(|case| case.name).collect();
    for name in names {
        for engine in ["--device cpu", "--f64"] {
            let line = format!("{engine} --filter {name} --break {name} --json");
            let (code, stdout, stderr) = gradcheck(&line);
            assert_eq!(code, 4, "gradcheck {line}: {stderr}");
            let found: Value = serde_json::from_str(&stdout).unwrap();
            let checks = found["checks"].as_array().unwrap();
            let (mut failed, mut orders) = (0, BTreeSet::new());
            for check in checks {
                let flat = check["numeric"] == 0.0 && check["analytic"] == 0.0;
                let ok = check["operation"] != name || flat;
                assert_eq!(check["ok"], ok, "gradcheck {line}: {check}");
                if !ok {
                    failed += 1;
                    orders.insert(check["order"].as_u64().unwrap());
                }
            }
            assert!(orders.iter().eq(&[1, 2]) && found["failed"] == failed, "{line}: {found}");
            let says = format!("{failed} of {} gradients are not the derivative", checks.len());
            assert!(stderr.contains(&says), "{stderr}");
        }
    }
}

#[test]
fn what_there_is_not_is_said_with_what_there_is() {
    for (line, code, says) in [
        ("--break expp", 2, "--break 'expp': expected an operation with a derivative: add, sub,"),
        ("--break store", 2, "--break 'store'"),
        ("--filter conv_z", 2, "constraint_grad, cae loss, vae loss"),
        ("--device gpu:x", 2, "'x' is no number"),
        ("--device none", 3, "none"),
        ("--f64 --device cpu", 2, "cannot be used with"),
    ] {
        let (got, stdout, stderr) = gradcheck(line);
        assert_eq!((got, &stdout[..]), (code, ""), "gradcheck {line}: {stderr}");
        assert!(stderr.contains(says), "gradcheck {line}: {stderr}");
    }
}

/// A failed check says so in the table, too.
#[test]
fn a_table_shows_what_failed() {
    let (code, table, _) = gradcheck("--device cpu --filter exp --break exp");
    assert_eq!(code, 4);
    let failed = table.lines().filter(|line| line.ends_with("FAILED")).count();
    assert!(failed == 2 && table.contains("2 checks, 2 failed; the worst: exp, "), "{table}");
}

/// Flat layouts put every tensor at a multiple of 64 elements, without overlap.
#[test]
fn layouts_are_aligned() {
    let (offsets, len) = pack([1, 64, 65, 3]);
    assert_eq!((offsets, len), (vec![0, 64, 128, 256], 320));
}
