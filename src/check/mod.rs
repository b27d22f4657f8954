//! Gradients against finite differences: whether a device's gradient is the derivative.
//!
//! A function's gradient is computed on the device that is judged, in its float, and its inner
//! product with a direction is compared with the central difference of the function's values along
//! that direction, which the CPU engine computes in f64 from the same numbers. (Differences of f32
//! values would be noise: of a value near 1 they have an error of 1e-7 over the step.) So what is
//! judged is the device's gradient, by something that no rule and no kernel of it is part of.
//!
//! An error is relative to the derivative, or to what the derivative would typically be (the norm of
//! its terms) should it be small by chance; of a few directions the steepest is taken, so that it
//! isn't very small. Allowed is what differences in f64 are wrong by (1e-7;
//! of the loss, which has kinks nearby, 2e-5) and, of a device in f32, what rounding can come to in
//! sums of so many terms: 2e-5 to 1.4e-4 in all. A rule that is wrong by a hundredth exceeds that
//! more than fifty times.

pub mod cases;
mod finite;
pub mod text;

use serde::Serialize;

use self::cases::{Case, LossCase};
use self::finite::{Function, norm};
use crate::bench::verify::terms;
use crate::engine::Engine;
use crate::error::Result;
use crate::layout::Shape;
use crate::program::Program;

/// The float that an engine computes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Float {
    F32,
    F64,
}

/// A derivative in one tensor, found in both ways.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// What was differentiated: an operation, or the loss of a model.
    pub operation: String,
    /// At which sizes, if it is a loss.
    pub case: String,
    /// 1, or 2: the gradient of a gradient.
    pub order: usize,
    /// The tensor in which it was differentiated.
    pub tensor: String,
    /// That tensor's shape.
    pub shape: Shape,
    /// The derivative by differences.
    pub numeric: f64,
    /// The derivative by the device's gradient.
    pub analytic: f64,
    /// Their difference, relative to their scale.
    pub error: f64,
    /// The greatest error that is none.
    pub allowed: f64,
}

impl Check {
    /// Whether it passed; a NaN never does.
    pub fn ok(&self) -> bool {
        self.error <= self.allowed
    }

    /// How much of what is allowed the error is.
    pub fn share(&self) -> f64 {
        if self.error.is_nan() { f64::INFINITY } else { self.error / self.allowed }
    }
}

/// Checks an operation's gradient of order 1 or 2 in every input. `broken`: as if its rule were
/// wrong by 1 %.
///
/// # Errors
/// That of an engine.
///
/// ```
/// use gradcon::check::{Float, cases::operations, operation};
/// use gradcon::engine::cpu;
///
/// let exp = operations().into_iter().find(|case| case.name == "exp").unwrap();
/// let mut engine = cpu::f32();
/// let of = |broken| operation(&exp, 2, broken, engine.as_mut(), Float::F32);
/// assert_eq!([false, true].map(of).map(|checks| checks.unwrap()[0].ok()), [true, false]);
/// ```
pub fn operation(
    case: &Case,
    order: usize,
    broken: bool,
    engine: &mut dyn Engine,
    float: Float,
) -> Result<Vec<Check>> {
    let function = Function::of_operation(case, order, broken);
    judge(&function, (case.name, "", order), engine, float)
}

/// Checks the loss's gradient in every tensor of parameters.
///
/// # Errors
/// That of an engine.
pub fn loss(case: &LossCase, engine: &mut dyn Engine, float: Float) -> Result<Vec<Check>> {
    let function = Function::of_loss(case)?;
    judge(&function, (case.name(), &case.to_string(), 2), engine, float)
}

fn judge(
    function: &Function,
    (operation, case, order): (&str, &str, usize),
    engine: &mut dyn Engine,
    float: Float,
) -> Result<Vec<Check>> {
    let gradient = function.gradient(engine)?;
    let differences = function.differences(&gradient)?;
    let allowed = function.allowed + rounding(&gradient.program, float);
    let both = differences.into_iter().zip(&gradient.products);
    let checks = function.variables.iter().zip(both).map(|(variable, (numeric, products))| {
        let analytic: f64 = products.iter().sum();
        let typical = norm(products);
        let least = match (function.least, float) {
            (Some(least), Float::F64) => least,
            (Some(least), Float::F32) => least.max(typical),
            (None, _) => typical,
        };
        let scale = numeric.abs().max(analytic.abs()).max(least);
        Check {
            operation: operation.to_string(),
            case: case.to_string(),
            order,
            tensor: variable.tensor.clone(),
            shape: variable.shape,
            numeric,
            analytic,
            error: (numeric - analytic).abs() / scale,
            allowed,
        }
    });
    Ok(checks.collect())
}

/// What rounding may come to in a gradient that a program computes, relative to a typical one: in
/// f32 so many units of 2^-24. The errors of a sum of n terms grow as its square root; the others
/// are of chains of functions, and of cosines, whose derivatives are small differences.
fn rounding(program: &Program, float: Float) -> f64 {
    let terms = program.calls.iter().map(terms).fold(1.0, f64::max);
    match float {
        Float::F64 => 0.0,
        Float::F32 => (256.0 + 16.0 * terms.sqrt()) * (-24f64).exp2(),
    }
}
