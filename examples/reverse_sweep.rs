//! Three operations, recorded and swept backwards: what `grad` appends to a tape, node by node.
//!
//! f(w) = sigmoid(w x), L = mean (f - t)^2: one weight, one input, one target.
//!
//! `cargo run --example reverse_sweep`

use gradcon::engine::{Data, cpu};
use gradcon::program::{Options, compile};
use gradcon::tape::{Tape, Tensor};

/// The node's number, and those it was made of.
fn show(tape: &Tape, tensor: Tensor, number: usize, value: f64) {
    let node = tape.node(tensor);
    let numbers: Vec<String> = node
        .op
        .inputs()
        .iter()
        .map(|&input| {
            let at = tape.tensors().position(|known| known == input);
            format!("#{}", at.unwrap_or_default())
        })
        .collect();
    println!("#{number:<3} {:12} {:14} {value:>10.6}", node.op.family().name(), numbers.join(", "));
}

fn main() -> gradcon::Result<()> {
    let (w, x, t) = (0.8, 1.5, 0.2);
    let mut tape = Tape::new();
    let one = [1; 4];
    let (weight, input, target) = (tape.leaf("w", one), tape.leaf("x", one), tape.leaf("t", one));
    let product = tape.mul(weight, input);
    let f = tape.sigmoid(product);
    let each = tape.fill(one, 1.0);
    let loss = tape.mse(f, target, each);
    let recorded = tape.nodes().len();
    let gradient = tape.grad(loss, &[weight])[0];

    // Every node's value, to print it.
    let all: Vec<Tensor> = tape.tensors().collect();
    all.iter().enumerate().for_each(|(i, &tensor)| tape.store(tensor, &format!("node {i}")));
    let mut engine = cpu::f64();
    let program = engine.load(&compile("reverse sweep", &tape, Options::default()))?;
    for (name, value) in [("w", w), ("x", x), ("t", t)] {
        engine.write(name, Data::F64(&[value]))?;
    }
    engine.run(program, 0..1)?;
    println!("node operation    of                  value");
    for (i, &tensor) in all.iter().enumerate() {
        if i == recorded {
            println!("     -- what grad(L, w) appends --");
        }
        show(&tape, tensor, i, engine.read(&format!("node {i}"))?[0]);
    }
    let s = 1.0 / (1.0 + f64::exp(-w * x));
    let by_hand = 2.0 * (s - t) * s * (1.0 - s) * x;
    let found = all.iter().position(|&tensor| tensor == gradient);
    let found = engine.read(&format!("node {}", found.unwrap_or_default()))?[0];
    println!("dL/dw by the tape {found:.9}, by hand 2 (f - t) f (1 - f) x = {by_hand:.9}");
    assert!((found - by_hand).abs() < 1e-12);
    Ok(())
}
