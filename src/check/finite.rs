//! Functions whose gradient is known in two ways: by the rules of the tape, and by differences of
//! their values.

use std::collections::{BTreeMap, HashSet};

use super::cases::{Case, LossCase};
use crate::engine::{Data, Engine, Loaded, cpu};
use crate::error::Result;
use crate::layout::{SCALAR, Shape, size};
use crate::method::feed::REFERENCE;
use crate::method::model::{Init, Kind, Model, PARAMS, Param};
use crate::method::objective::{Objective, Terms, objective, parameter_gradient};
use crate::program::{Options, Program, compile};
use crate::tape::{Tape, Tensor};

/// The buffer of a function's value.
const VALUE: &str = "value";

/// What a rule's result is multiplied by if it is to be broken.
const BROKEN: f64 = 1.01;

/// The same values in (-1, 1) everywhere, each of which f32 has.
fn values(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| of_f32(draw())).collect()
}

fn of_f32(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Directions that a tensor might be moved in. One of them is nearly orthogonal to the gradient by
/// chance once in a while, and would hardly show a wrong factor.
const CHOICES: u64 = 4;

/// A tensor in which a function is differentiated.
pub(super) struct Variable {
    /// The tensor's name.
    pub tensor: String,
    /// Its shape.
    pub shape: Shape,
    /// The input that holds it.
    input: String,
    /// Where in the input.
    offset: usize,
    /// Of the directions that it might be moved in.
    seed: u64,
    /// How far it is moved to either side.
    step: f64,
}

/// A direction for each variable, and the gradient that was computed.
pub(super) struct Gradient {
    along: Vec<Vec<f64>>,
    /// For each variable the gradient's elements times the direction's.
    pub products: Vec<Vec<f64>>,
    /// What computed it.
    pub program: Program,
}

/// A scalar function of tensors, and a tape's gradient of it.
pub(super) struct Function {
    value: Tape,
    gradient: Tape,
    inputs: BTreeMap<String, Vec<f64>>,
    pub variables: Vec<Variable>,
    /// How far differences may be from derivatives.
    pub allowed: f64,
    /// The least that an error is relative to; where there is none, what a derivative would
    /// typically be.
    pub least: Option<f64>,
}

impl Function {
    /// An operation in the middle of a graph: behind an affine map, before a product, whose inner
    /// product with constants is the function; of order 2 the inner product of its gradient with
    /// constants. In the gradient, not in the value, the operation's rule may be `broken`.
    pub fn of_operation(case: &Case, order: usize, broken: bool) -> Function {
        let mut inputs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (i, (name, shape)) in case.inputs.iter().enumerate() {
            inputs.insert(name.to_string(), values(size(*shape), 17 + i as u64));
        }
        let mut value = Tape::new();
        let known = Middle::record(case, &mut value, order, false);
        inputs.insert(MIX.to_string(), values(size(value.shape(known.mix)), 99));
        for (i, (_, shape)) in case.inputs.iter().enumerate() {
            inputs.insert(towards(i), values(size(*shape), 200 + i as u64));
        }
        value.store(known.scalar, VALUE);
        let mut gradient = Tape::new();
        let judged = Middle::record(case, &mut gradient, order, broken);
        let gradients = match order {
            1 => judged.gradients(&mut gradient, broken),
            _ => gradient.grad(judged.scalar, &judged.leaves),
        };
        let mut variables = vec![];
        for (i, (&(name, shape), found)) in case.inputs.iter().zip(gradients).enumerate() {
            gradient.store(found, &gradient_of(name));
            variables.push(Variable {
                tensor: name.to_string(),
                shape,
                input: name.to_string(),
                offset: 0,
                seed: 300 + i as u64,
                step: 1e-5,
            });
        }
        Function { value, gradient, inputs, variables, allowed: 1e-7, least: Some(1e-3) }
    }

    /// The loss, whose tensors are the parameters. It contains a gradient, so its own has every rule
    /// to second order in it.
    ///
    /// # Errors
    /// There is no such model.
    pub fn of_loss(case: &LossCase) -> Result<Function> {
        let LossCase { kind, size, channels, weights } = *case;
        let (model, n) = (Model::sized(kind, size, channels)?, weights.len());
        let (mut value, mut gradient) = (Tape::new(), Tape::new());
        let loss = record_loss(&mut value, &model, n).loss;
        value.store(loss, VALUE);
        let judged = record_loss(&mut gradient, &model, n);
        let judged = parameter_gradient(&mut gradient, &model, &judged);
        gradient.store(judged, &gradient_of(PARAMS));
        let params = model.init(Init::Kaiming, 3).into_iter().map(f64::from);
        let params = params.zip(values(model.len(), 4)).map(|(p, v)| of_f32(p + 0.02 * v));
        let images = values(model.pixels() * n, 1).into_iter().map(|v| of_f32(0.5 + 0.5 * v));
        let mut inputs = BTreeMap::from([
            ("x".to_string(), images.collect()),
            ("weight".to_string(), weights.to_vec()),
            (PARAMS.to_string(), params.collect()),
            (REFERENCE.to_string(), values(model.reference_len(), 2)),
        ]);
        if kind == Kind::Vae {
            inputs.insert("noise".to_string(), values(model.latent_len() * n, 5));
        }
        let of = |(k, p): (usize, &Param)| Variable {
            tensor: p.name.clone(),
            shape: p.shape,
            input: PARAMS.to_string(),
            offset: p.offset,
            seed: 50 + k as u64,
            // Small: the loss jumps where a ReLU flips.
            step: 1e-7 / (p.len() as f64).sqrt(),
        };
        let variables = model.params().iter().enumerate().map(of).collect();
        Ok(Function { value, gradient, inputs, variables, allowed: 2e-5, least: None })
    }

    /// The gradient that an engine computes, and directions of which none is nearly orthogonal to it.
    ///
    /// # Errors
    /// That of the engine.
    pub fn gradient(&self, engine: &mut dyn Engine) -> Result<Gradient> {
        engine.clear();
        let mut machine = Machine::new(engine, &self.gradient)?;
        machine.write(&self.inputs)?;
        machine.run()?;
        let (mut along, mut products) = (vec![], vec![]);
        for Variable { shape, input, offset, seed, .. } in &self.variables {
            let gradient = machine.engine.read(&gradient_of(input))?;
            let gradient = &gradient[*offset..offset + size(*shape)];
            let choices = (0..CHOICES).map(|choice| {
                let direction = values(gradient.len(), seed + 1000 * choice);
                let products = gradient.iter().zip(&direction).map(|(g, d)| g * d);
                let products: Vec<f64> = products.collect();
                (direction, products)
            });
            let steep = |products: &[f64]| products.iter().sum::<f64>().abs() / norm(products);
            let steepest = choices.max_by(|a, b| steep(&a.1).total_cmp(&steep(&b.1)));
            let (direction, of_gradient) = steepest.unwrap_or_default();
            along.push(direction);
            products.push(of_gradient);
        }
        Ok(Gradient { along, products, program: machine.compiled })
    }

    /// Central differences of the value along a gradient's directions, in f64.
    ///
    /// # Errors
    /// That of the engine.
    pub fn differences(&self, gradient: &Gradient) -> Result<Vec<f64>> {
        let mut engine = cpu::f64();
        let mut machine = Machine::new(engine.as_mut(), &self.value)?;
        machine.write(&self.inputs)?;
        let mut differences = vec![];
        for (Variable { input, offset, step, .. }, along) in
            self.variables.iter().zip(&gradient.along)
        {
            let here = &self.inputs[input];
            let mut at = |by: f64| {
                let mut moved = here.clone();
                let moving = moved[*offset..].iter_mut().zip(along);
                moving.for_each(|(v, d)| *v += by * d);
                machine.value(input, &moved)
            };
            differences.push((at(*step)? - at(-step)?) / (2.0 * step));
            machine.write(&self.inputs)?;
        }
        Ok(differences)
    }
}

/// The root of the sum of squares.
pub(super) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The buffer of an input's gradient.
fn gradient_of(input: &str) -> String {
    format!("gradient {input}")
}

/// The constants that the function of an operation is an inner product with.
const MIX: &str = "mix";

/// And those of order 2, for the gradient of input `i`.
fn towards(i: usize) -> String {
    format!("direction {i}")
}

/// An operation in the middle of a graph.
struct Middle {
    leaves: Vec<Tensor>,
    /// What the operation takes.
    scaled: Vec<Tensor>,
    /// What it makes.
    out: Tensor,
    mix: Tensor,
    /// What is made of that.
    scalar: Tensor,
}

impl Middle {
    fn record(case: &Case, tape: &mut Tape, order: usize, broken: bool) -> Middle {
        let leaves = case.inputs.iter().map(|(name, shape)| tape.leaf(name, *shape));
        let leaves: Vec<Tensor> = leaves.collect();
        let scaled = leaves.iter().map(|&leaf| tape.affine(leaf, 0.8, case.shift));
        let scaled: Vec<Tensor> = scaled.collect();
        let out = case.record(tape, &scaled);
        let mix = tape.leaf(MIX, tape.shape(out));
        let square = tape.mul(out, out);
        let sum = tape.add(square, out);
        let scalar = tape.dot(mix, sum);
        let mut middle = Middle { leaves, scaled, out, mix, scalar };
        if order == 2 {
            // A fixed direction turns the gradient into a scalar again.
            let mut total = tape.fill(SCALAR, 0.0);
            for (i, gradient) in middle.gradients(tape, broken).into_iter().enumerate() {
                let direction = tape.leaf(&towards(i), tape.shape(gradient));
                let part = tape.dot(direction, gradient);
                total = tape.add(total, part);
            }
            middle.scalar = total;
        }
        middle
    }

    /// The first gradient, in every leaf. To break the operation's rule, the sweep is interrupted
    /// before and behind it.
    fn gradients(&self, tape: &mut Tape, broken: bool) -> Vec<Tensor> {
        if !broken {
            return tape.grad(self.scalar, &self.leaves);
        }
        let from_above = tape.grad(self.scalar, &[self.out])[0];
        let of_rule = tape.vjp(self.out, from_above, &self.scaled);
        let below = self.scaled.iter().zip(&self.leaves).zip(of_rule);
        let wrong = below.map(|((&scaled, &leaf), part)| {
            let part = tape.affine(part, BROKEN, 0.0);
            tape.vjp(scaled, part, &[leaf])[0]
        });
        wrong.collect()
    }
}

fn record_loss(tape: &mut Tape, model: &Model, n: usize) -> Objective {
    let x = tape.leaf("x", model.shape(n));
    let weight = tape.leaf("weight", [1, 1, 1, n]);
    let noise = [1, 1, model.latent_len(), n];
    let noise = (model.kind() == Kind::Vae).then(|| tape.leaf("noise", noise));
    // A large alpha, so that the second-order part dominates; and the divergence is there to see.
    let terms = Terms { alpha: Some(0.5), kl_weight: 0.7, scale: 1.0 };
    objective(tape, model, (x, weight), noise, terms)
}

/// A tape on an engine.
struct Machine<'e> {
    engine: &'e mut dyn Engine,
    compiled: Program,
    loaded: Loaded,
    /// What the program reads or writes.
    buffers: HashSet<String>,
}

impl Machine<'_> {
    fn new<'e>(engine: &'e mut dyn Engine, tape: &Tape) -> Result<Machine<'e>> {
        let compiled = compile("gradcheck", tape, Options::new(1, engine.form()));
        let loaded = engine.load(&compiled)?;
        let buffers = compiled.buffers.iter().map(|buffer| buffer.name.clone()).collect();
        Ok(Machine { engine, compiled, loaded, buffers })
    }

    /// A direction that meets a gradient of zeros is no part of the program.
    fn write(&mut self, inputs: &BTreeMap<String, Vec<f64>>) -> Result<()> {
        let mut read = inputs.iter().filter(|(name, _)| self.buffers.contains(*name));
        read.try_for_each(|(name, data)| self.engine.write(name, Data::F64(data)))
    }

    fn run(&mut self) -> Result<()> {
        self.engine.run(self.loaded, 0..1)
    }

    /// The value with another input.
    fn value(&mut self, input: &str, data: &[f64]) -> Result<f64> {
        if self.buffers.contains(input) {
            self.engine.write(input, Data::F64(data))?;
        }
        self.run()?;
        Ok(self.engine.read(VALUE)?[0])
    }
}
