//! A gradient, differentiated: the tape's rules are operations of the tape, so what `grad` appends
//! can be given to `grad` again. GradCon needs this, because its loss contains a gradient.
//!
//! For f(x) = sum of sigmoid(x)^2, elementwise with s = sigmoid(x):
//!
//! ```text
//! f'  = 2 s^2 (1 - s)
//! f'' = 2 s^2 (1 - s) (2 - 3 s)
//! ```
//!
//! `cargo run --example second_derivative`

use gradcon::engine::{Data, cpu};
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;

fn main() -> gradcon::Result<()> {
    let points = [-2.0, -0.5, 0.0, 1.0, 3.0];

    // Record f, its gradient, and the gradient of the gradient's sum: f'' of each element, since
    // no element depends on another.
    let mut tape = Tape::new();
    let x = tape.leaf("x", [1, 1, 1, points.len()]);
    let s = tape.sigmoid(x);
    let f = tape.dot(s, s);
    let first = tape.grad(f, &[x])[0];
    let sum = tape.sum_to(first, [1; 4]);
    let second = tape.grad(sum, &[x])[0];
    tape.store(first, "first");
    tape.store(second, "second");

    // Compile what the two stores need, and run it on the CPU in f64.
    let mut engine = cpu::f64();
    let program = engine.load(&compile("second derivative", &tape, Options::default()))?;
    engine.write("x", Data::F64(&points))?;
    engine.run(program, 0..1)?;

    println!("f(x) = sigmoid(x)^2 on the {}", engine.description());
    println!("{:>6} {:>12} {:>12}", "x", "f'", "f''");
    for ((x, first), second) in points.iter().zip(engine.read("first")?).zip(engine.read("second")?)
    {
        println!("{x:>6} {first:>12.9} {second:>12.9}");
        let s = 1.0 / (1.0 + f64::exp(-x));
        assert!((first - 2.0 * s * s * (1.0 - s)).abs() < 1e-12);
        assert!((second - 2.0 * s * s * (1.0 - s) * (2.0 - 3.0 * s)).abs() < 1e-12);
    }
    println!("both agree with the closed form");
    Ok(())
}
