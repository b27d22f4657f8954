//! The oracle itself: the CPU engine's convolutions against their definition, written as plain
//! loops, with every instruction set this CPU has. Whole numbers small enough for every order of
//! summation to be exact, so results must be equal, in f32 as in f64.

use gradcon::engine::cpu;
use gradcon::engine::cpu::Isa;
mod cases;
mod common;

use cases::Style;
use gradcon::engine::{Data, Engine};
use gradcon::geometry::Geometry;
use gradcon::kernels::{Element, Kernel, Score, score};
use gradcon::program::{Buffer, Call, Options, Program, View, compile};
use gradcon::tape::Tape;

/// Small whole numbers.
fn whole(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 7 + seed * 13 + i / 5) % 9) as f64 - 4.0).collect()
}

/// Visits every (x, y, w) triple of the definition as flat indices, image by image: `i = o * stride
/// - padding + k`.
fn each(g: &Geometry, mut visit: impl FnMut(usize, usize, usize, usize)) {
    for oh in 0..g.hy {
        for ow in 0..g.wy {
            for kh in 0..g.kh {
                for kw in 0..g.kw {
                    let (ih, iw) = (
                        (oh * g.stride + kh) as isize - g.padding as isize,
                        (ow * g.stride + kw) as isize - g.padding as isize,
                    );
                    if ih < 0 || iw < 0 || ih >= g.hx as isize || iw >= g.wx as isize {
                        continue;
                    }
                    let (ih, iw) = (ih as usize, iw as usize);
                    for cy in 0..g.cy {
                        for cx in 0..g.cx {
                            for n in 0..g.n {
                                let x = ((ih * g.wx + iw) * g.cx + cx) * g.n + n;
                                let y = ((oh * g.wy + ow) * g.cy + cy) * g.n + n;
                                let w = ((kh * g.kw + kw) * g.cy + cy) * g.cx + cx;
                                visit(x, y, w, n);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A program of the one kernel on the buffers x, y and w: what it writes is in `sums`.
fn image_grad(g: &Geometry, squares: bool) -> Program {
    let buffer = |name: &str, len| Buffer {
        name: name.to_string(),
        element: Element::Float,
        len,
        replicated: true,
        persistent: true,
    };
    let sums = score::blocks(g) * 2 * g.n;
    let sizes = [("x", g.x_len()), ("y", g.y_len()), ("w", g.w_len()), ("sums", sums)];
    let buffers: Vec<Buffer> = sizes.iter().map(|&(name, len)| buffer(name, len)).collect();
    let args = (0..).zip(sizes).map(|(i, (_, len))| View { buffer: i, offset: 0, len }).collect();
    let kernel = Kernel::Score(Score::ImageGrad { geometry: *g, squares, half: false });
    let call = Call { kernel, args, label: "oracle".to_string() };
    Program { name: "image_grad".to_string(), replicas: 1, buffers, calls: vec![call] }
}

/// `exact`: floats with room for every sum of squares.
fn check(engine_name: &str, engine: &mut dyn Engine, exact: bool, g: &Geometry) {
    let mut tape = Tape::new();
    let x = tape.leaf("x", [g.hx, g.wx, g.cx, g.n]);
    let y = tape.leaf("y", [g.hy, g.wy, g.cy, g.n]);
    let w = tape.leaf("w", [g.kh, g.kw, g.cy, g.cx]);
    let (to_y, to_x, to_w) = (tape.conv_y(*g, x, w), tape.conv_x(*g, y, w), tape.conv_w(*g, x, y));
    for (t, name) in [(to_y, "to y"), (to_x, "to x"), (to_w, "to w")] {
        tape.store(t, name);
    }
    let loaded = engine.load(&compile("oracle", &tape, Options::default())).unwrap();
    let (x, y, w) = (whole(g.x_len(), 1), whole(g.y_len(), 2), whole(g.w_len(), 3));
    for (name, data) in [("x", &x), ("y", &y), ("w", &w)] {
        engine.write(name, Data::F64(data)).unwrap();
    }
    engine.run(loaded, 0..1).unwrap();
    let sums = [false, true].map(|squares| {
        let sums = engine.load(&image_grad(g, squares)).unwrap();
        engine.run(sums, 0..1).unwrap();
        engine.read("sums").unwrap()
    });

    let (mut want_y, mut want_x, mut want_w) =
        (vec![0.0; y.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    let mut images = vec![vec![0.0; w.len()]; g.n];
    each(g, |ix, iy, iw, n| {
        want_y[iy] += x[ix] * w[iw];
        want_x[ix] += y[iy] * w[iw];
        want_w[iw] += x[ix] * y[iy];
        images[n][iw] += x[ix] * y[iy];
    });
    let mut same = |name: &str, want: &[f64]| {
        let got = engine.read(name).unwrap();
        assert_eq!(got.len(), want.len());
        let wrong = got.iter().zip(want).position(|(g, w)| g != w);
        assert!(
            wrong.is_none(),
            "{engine_name}, {g}: {name}[{}] is {}, expected {}",
            wrong.unwrap(),
            got[wrong.unwrap()],
            want[wrong.unwrap()]
        );
    };
    same("to y", &want_y);
    same("to x", &want_x);
    same("to w", &want_w);
    // The sums over all blocks, image by image.
    for (n, gradient) in images.iter().enumerate() {
        let dot: f64 = gradient.iter().zip(&w).map(|(a, b)| a * b).sum();
        let square: f64 = gradient.iter().map(|v| v * v).sum();
        let weighed: f64 = gradient.iter().zip(&w).map(|(a, b)| a * a * b).sum();
        for (partial, first) in sums.iter().zip([dot, weighed]) {
            let sum = |k: usize| -> f64 {
                partial.chunks_exact(2 * g.n).map(|block| block[k * g.n + n]).sum()
            };
            // In f32 a sum of squares may pass 2^24.
            let largest = w.iter().fold(1.0f64, |a, v| a.max(v.abs()));
            let tolerance = if exact { 0.0 } else { 1e-6 * largest * square };
            assert!(
                (sum(0) - first).abs() <= tolerance && (sum(1) - square).abs() <= tolerance,
                "{engine_name}, {g}, image {n}: {} {first}, {} {square}",
                sum(0),
                sum(1)
            );
        }
    }
}

#[test]
fn convolutions_are_their_definition() {
    for isa in Isa::available() {
        for g in cases::geometries::awkward() {
            check(&format!("{isa:?} f32"), cpu::f32_with(isa).as_mut(), false, &g);
            check(&format!("{isa:?} f64"), cpu::f64_with(isa).as_mut(), true, &g);
        }
    }
}

/// Every kernel with every instruction set, against the widest in f64.
#[test]
fn instruction_sets_agree() {
    for isa in Isa::available() {
        for case in cases::tests() {
            let want = case.run(cpu::f64().as_mut(), &[0], Style::Rough).unwrap();
            let got = case.run(cpu::f32_with(isa).as_mut(), &[0], Style::Rough).unwrap();
            for ((binding, got), want) in case.outputs().into_iter().zip(&got).zip(&want) {
                let tolerance = case.tolerance(binding);
                for (i, (g, w)) in got.iter().zip(want).enumerate() {
                    let close = (g - w).abs() <= tolerance.absolute + tolerance.relative * w.abs();
                    assert!(close, "{isa:?}, {}, binding {binding}: [{i}] {g} and {w}", case.name);
                }
            }
        }
    }
}
