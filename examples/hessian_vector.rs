//! A gradient differentiated, by hand and by the tape: the product of a Hessian with a vector, first
//! of a function of two weights, then of a whole autoencoder.
//!
//! L(w) = (f - t)^2 with f = sigmoid(w . x). With s = f (1 - f):
//!
//! ```text
//! dL/dw = 2 (f - t) s x
//! H     = 2 (s^2 + (f - t) s (1 - 2 f)) x x'
//! ```
//!
//! `cargo run --example hessian_vector`

use gradcon::engine::{Data, Engine, cpu};
use gradcon::method::objective::{Terms, objective, parameter_gradient};
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;
use gradcon::{Init, Model};

fn main() -> gradcon::Result<()> {
    two_weights()?;
    autoencoder()
}

fn two_weights() -> gradcon::Result<()> {
    let (w, x, v, t) = ([0.8, -0.4], [1.5, 0.5], [1.0, 2.0], 0.2);
    let mut tape = Tape::new();
    let two = [1, 1, 1, 2];
    let (weights, inputs) = (tape.leaf("w", two), tape.leaf("x", two));
    let (vector, target) = (tape.leaf("v", two), tape.leaf("t", [1; 4]));
    let sum = tape.dot(weights, inputs);
    let f = tape.sigmoid(sum);
    let one = tape.fill([1; 4], 1.0);
    let loss = tape.mse(f, target, one);
    // The gradient's inner product with v is a number; its gradient is H v.
    let gradient = tape.grad(loss, &[weights])[0];
    let along = tape.dot(gradient, vector);
    let product = tape.grad(along, &[weights])[0];
    tape.store(gradient, "gradient");
    tape.store(product, "product");
    let mut engine = cpu::f64();
    let program = engine.load(&compile("two weights", &tape, Options::default()))?;
    engine.write("w", Data::F64(&w))?;
    engine.write("x", Data::F64(&x))?;
    engine.write("v", Data::F64(&v))?;
    engine.write("t", Data::F64(&[t]))?;
    engine.run(program, 0..1)?;

    let f = 1.0 / (1.0 + f64::exp(-(w[0] * x[0] + w[1] * x[1])));
    let s = f * (1.0 - f);
    let h = 2.0 * (s * s + (f - t) * s * (1.0 - 2.0 * f));
    let x_v = x[0] * v[0] + x[1] * v[1];
    let (gradient, product) = (engine.read("gradient")?, engine.read("product")?);
    println!("two weights        by the tape               by hand");
    for i in 0..2 {
        let by_hand = [2.0 * (f - t) * s * x[i], h * x[i] * x_v];
        println!("dL/dw[{i}]        {:>14.9}        {:>14.9}", gradient[i], by_hand[0]);
        println!("(H v)[{i}]        {:>14.9}        {:>14.9}", product[i], by_hand[1]);
        assert!((gradient[i] - by_hand[0]).abs() < 1e-12);
        assert!((product[i] - by_hand[1]).abs() < 1e-12);
    }
    Ok(())
}

/// The whole GradCon loss, which has a gradient in it: H v against the difference of gradients.
fn autoencoder() -> gradcon::Result<()> {
    let (model, n) = (Model::new(1), 2);
    let mut tape = Tape::new();
    let x = tape.leaf("x", model.shape(n));
    let weight = tape.fill([1, 1, 1, n], 1.0 / n as f64);
    let terms = Terms { alpha: Some(0.03), ..Terms::default() };
    let seen = objective(&mut tape, &model, (x, weight), None, terms);
    let gradient = parameter_gradient(&mut tape, &model, &seen);
    let leaf = tape.leaf("params", [1, 1, 1, model.len()]);
    let vector = tape.leaf("v", [1, 1, 1, model.len()]);
    let along = tape.dot(gradient, vector);
    let product = tape.grad(along, &[leaf])[0];
    tape.store(gradient, "gradient");
    tape.store(product, "product");
    println!(
        "\nthe autoencoder: {} parameters, {} nodes on the tape",
        model.parameter_count(),
        tape.nodes().len()
    );
    let mut engine = cpu::f64();
    let program = engine.load(&compile("autoencoder", &tape, Options::default()))?;
    let images: Vec<f64> = (0..n * model.pixels()).map(|i| (i * 37 % 256) as f64 / 255.0).collect();
    let reference: Vec<f64> =
        (0..model.reference_len()).map(|i| (i * 29 % 23) as f64 / 11.0 - 1.0).collect();
    let params: Vec<f64> = model.init(Init::Kaiming, 0).iter().map(|&p| f64::from(p)).collect();
    let v: Vec<f64> = (0..model.len()).map(|i| ((i * 31) % 17) as f64 / 8.0 - 1.0).collect();
    engine.write("x", Data::F64(&images))?;
    engine.write("reference", Data::F64(&reference))?;
    engine.write("v", Data::F64(&v))?;
    let at = |step: f64, what: &str, engine: &mut Box<dyn Engine>| {
        let moved: Vec<f64> = params.iter().zip(&v).map(|(p, v)| p + step * v).collect();
        engine.write("params", Data::F64(&moved))?;
        engine.run(program, 0..1)?;
        engine.read(what)
    };
    let product = at(0.0, "product", &mut engine)?;
    let step = 1e-7;
    let (up, down) = (at(step, "gradient", &mut engine)?, at(-step, "gradient", &mut engine)?);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let whole = norm(&mut product.iter().copied());
    let pairs = up.iter().zip(&down).zip(&product);
    let off = norm(&mut pairs.map(|((up, down), hv)| (up - down) / (2.0 * step) - hv));
    println!("|H v| = {whole:.6}");
    println!(
        "it differs from the difference of two gradients by less than 1e-4 of that: {}",
        off < 1e-4 * whole
    );
    assert!(off < 1e-4 * whole, "{off} of {whole}");
    Ok(())
}
