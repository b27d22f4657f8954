//! The elementwise family: one enum for tape, kernels and engines.
//!
//! A member costs a variant with its rule here, an arm of the twin (`engine/cpu/map.rs`) and a
//! `case` of the shader (`shaders/map.wgsl`); everything else walks [`Map::ALL`].

use super::{Family, Gradients, Op, Want};
use crate::tape::{Tape, Tensor};
use strum::EnumCount;

/// An elementwise function of one or two tensors of one shape.
///
/// ```
/// use gradcon::tape::ops::Map;
///
/// let map = Map::Affine { scale: 2.0, shift: 1.0 };
/// assert_eq!((map.name(), map.number(), map.arity()), ("affine", 3, 1));
/// assert_eq!((map.constants(), map.flops()), ([2.0, 1.0], 2));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, EnumCount, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of the formulas
pub enum Map {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `scale * a + shift`.
    Affine { scale: f64, shift: f64 },
    /// `max(a, 0)`.
    Relu,
    /// `b > 0 ? a : 0`: ReLU's derivative, with the gate b.
    ReluGrad,
    /// `1 / (1 + exp(-a))`.
    Sigmoid,
    /// `a b (1 - b)`: the derivative of a sigmoid whose value is b.
    SigmoidGrad,
    /// `1 / max(sqrt(a), eps)`: the inverse norm from the squared norm, with cosine_similarity's
    /// clamp.
    InvNorm { eps: f64 },
    /// `exp(a)`.
    Exp,
}

impl Map {
    /// Every member, with constants that are not special.
    pub const ALL: [Map; Map::COUNT] = [
        Map::Add,
        Map::Sub,
        Map::Mul,
        Map::Affine { scale: -1.5, shift: 0.375 },
        Map::Relu,
        Map::ReluGrad,
        Map::Sigmoid,
        Map::SigmoidGrad,
        Map::InvNorm { eps: 1e-8 },
        Map::Exp,
    ];

    /// The member's name, in upper case also its number's in the shader. Shown, like everything
    /// that is known of a member, at [`Map`].
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The number by which the shader knows it: its place in [`Map::ALL`]. Shown at [`Map`].
    pub fn number(self) -> u32 {
        Map::ALL.iter().position(|m| m.name() == self.name()).map_or(u32::MAX, |at| at as u32)
    }

    /// Tensors that it takes. Shown at [`Map`].
    pub fn arity(self) -> usize {
        match self {
            Map::Add | Map::Sub | Map::Mul | Map::ReluGrad | Map::SigmoidGrad => 2,
            Map::Affine { .. } | Map::Relu | Map::Sigmoid | Map::InvNorm { .. } | Map::Exp => 1,
        }
    }

    /// Its constants, as the shader takes them. Shown at [`Map`].
    pub fn constants(self) -> [f64; 2] {
        match self {
            Map::Affine { scale, shift } => [scale, shift],
            Map::InvNorm { eps } => [eps, 0.0],
            Map::Add
            | Map::Sub
            | Map::Mul
            | Map::Relu
            | Map::ReluGrad
            | Map::Sigmoid
            | Map::SigmoidGrad
            | Map::Exp => [0.0; 2],
        }
    }

    /// Operations an element. Shown at [`Map`].
    pub fn flops(self) -> u64 {
        match self {
            Map::Add | Map::Sub | Map::Mul | Map::Relu | Map::ReluGrad | Map::Exp => 1,
            Map::Affine { .. } => 2,
            Map::Sigmoid | Map::SigmoidGrad | Map::InvNorm { .. } => 3,
        }
    }

    /// Gradients of a and b, from the gradient `v` of the result `node`.
    fn rule(
        self,
        tape: &mut Tape,
        node: Tensor,
        [a, b]: [Tensor; 2],
        v: Tensor,
        want: Want,
    ) -> Gradients {
        let mut out = vec![];
        match self {
            Map::Add => out.extend([a, b].into_iter().filter(|&t| want(t)).map(|t| (t, v))),
            Map::Sub => {
                if want(a) {
                    out.push((a, v));
                }
                if want(b) {
                    out.push((b, tape.affine(v, -1.0, 0.0)));
                }
            }
            Map::Mul => {
                for (t, other) in [(a, b), (b, a)] {
                    if want(t) {
                        out.push((t, tape.mul(v, other)));
                    }
                }
            }
            Map::Affine { scale, .. } => out.push((a, tape.affine(v, scale, 0.0))),
            // relu(a) > 0 exactly where a > 0, so the value serves as the gate and a need not be
            // kept.
            Map::Relu => out.push((a, tape.relu_grad(v, node))),
            // The derivative along the gate is zero almost everywhere.
            Map::ReluGrad => {
                if want(a) {
                    out.push((a, tape.relu_grad(v, b)));
                }
            }
            Map::Sigmoid => out.push((a, tape.sigmoid_grad(v, node))),
            Map::SigmoidGrad => {
                if want(a) {
                    out.push((a, tape.sigmoid_grad(v, b)));
                }
                if want(b) {
                    let va = tape.mul(v, a);
                    let slope = tape.affine(b, -2.0, 1.0);
                    out.push((b, tape.mul(va, slope)));
                }
            }
            Map::InvNorm { eps } => {
                // i = a^(-1/2): di/da = -i^3 / 2 above the clamp, 0 below.
                let square = tape.mul(node, node);
                let cube = tape.mul(square, node);
                let slope = tape.affine(cube, -0.5, 0.0);
                let above = tape.affine(a, 1.0, -eps * eps);
                let slope = tape.relu_grad(slope, above);
                out.push((a, tape.mul(v, slope)));
            }
            Map::Exp => out.push((a, tape.mul(v, node))),
        }
        out
    }
}

/// A [`Map`] of two tensors, or of one, which then stands twice.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Mapped {
    pub map: Map,
    pub of: [Tensor; 2],
}

impl Tape {
    /// `map` of as many tensors of one shape as it takes.
    ///
    /// ```
    /// use gradcon::tape::{Tape, ops::Map};
    ///
    /// let mut tape = Tape::new();
    /// let a = tape.leaf("a", [1, 1, 1, 5]);
    /// assert_eq!(tape.map(Map::Relu, &[a]), tape.relu(a)); // the same node
    /// ```
    #[track_caller]
    pub fn map(&mut self, map: Map, of: &[Tensor]) -> Tensor {
        assert_eq!(of.len(), map.arity(), "{}: number of tensors", map.name());
        let [a, b] = [of[0], of[of.len() - 1]];
        self.same_shape(map.name(), a, b);
        self.push(Op::Map(Mapped { map, of: [a, b] }), self.shape(a))
    }

    /// `a + b`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, zero) = (tape.leaf("a", [1, 1, 1, 5]), tape.fill([1, 1, 1, 5], 0.0));
    /// assert_eq!(tape.add(a, zero), a); // what is trivially simple is not recorded
    /// ```
    #[track_caller]
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.same_shape("add", a, b);
        match (self.constant(a), self.constant(b)) {
            (Some(a), _) => self.affine(b, 1.0, a),
            (_, Some(b)) => self.affine(a, 1.0, b),
            _ => self.map(Map::Add, &[a, b]),
        }
    }

    /// `a - b`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, two) = (tape.leaf("a", [1, 1, 1, 5]), tape.fill([1, 1, 1, 5], 2.0));
    /// assert_eq!(tape.sub(a, two), tape.affine(a, 1.0, -2.0));
    /// assert_eq!(tape.sub(two, a), tape.affine(a, -1.0, 2.0));
    /// ```
    #[track_caller]
    pub fn sub(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.same_shape("sub", a, b);
        match (self.constant(a), self.constant(b)) {
            (Some(a), _) => self.affine(b, -1.0, a),
            (_, Some(b)) => self.affine(a, 1.0, -b),
            _ => self.map(Map::Sub, &[a, b]),
        }
    }

    /// `a * b`, elementwise.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, two) = (tape.leaf("a", [1, 1, 1, 5]), tape.fill([1, 1, 1, 5], 2.0));
    /// assert_eq!(tape.mul(a, two), tape.affine(a, 2.0, 0.0));
    /// ```
    #[track_caller]
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.same_shape("mul", a, b);
        match (self.constant(a), self.constant(b)) {
            (Some(a), _) => self.affine(b, a, 0.0),
            (_, Some(b)) => self.affine(a, b, 0.0),
            _ => self.map(Map::Mul, &[a, b]),
        }
    }

    /// `scale * a + shift`. What is linear already takes the constants in.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let a = tape.leaf("a", [1, 1, 1, 5]);
    /// let inner = tape.affine(a, 2.0, 1.0);
    /// assert_eq!(tape.affine(inner, 3.0, 0.0), tape.affine(a, 6.0, 3.0));
    /// ```
    pub fn affine(&mut self, a: Tensor, scale: f64, shift: f64) -> Tensor {
        let shape = self.shape(a);
        match self.op(a).clone() {
            _ if scale == 1.0 && shift == 0.0 => a,
            _ if let Some(value) = self.constant(a) => self.fill(shape, scale * value + shift),
            Op::Map(Mapped { map: Map::Affine { scale: s, shift: t }, of: [a, _] }) => {
                self.affine(a, scale * s, scale * t + shift)
            }
            Op::Constraint(op)
                if shift == 0.0
                    && let Some(scaled) = op.scaled(scale) =>
            {
                self.push(Op::Constraint(scaled), shape)
            }
            _ if scale == 0.0 => self.fill(shape, shift),
            _ => self.map(Map::Affine { scale, shift }, &[a]),
        }
    }

    /// `max(a, 0)`. Shown at its derivative, [`Tape::relu_grad`].
    pub fn relu(&mut self, a: Tensor) -> Tensor {
        self.map(Map::Relu, &[a])
    }

    /// `gate > 0 ? a : 0`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, v) = (tape.leaf("a", [1, 1, 1, 5]), tape.leaf("v", [1, 1, 1, 5]));
    /// let relu = tape.relu(a);
    /// assert_eq!(tape.vjp(relu, v, &[a]), [tape.relu_grad(v, relu)]);
    /// ```
    #[track_caller]
    pub fn relu_grad(&mut self, a: Tensor, gate: Tensor) -> Tensor {
        self.map(Map::ReluGrad, &[a, gate])
    }

    /// `1 / (1 + exp(-a))`. Shown at its derivative, [`Tape::sigmoid_grad`].
    pub fn sigmoid(&mut self, a: Tensor) -> Tensor {
        self.map(Map::Sigmoid, &[a])
    }

    /// `a s (1 - s)`: the derivative of a sigmoid whose value is s.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, v) = (tape.leaf("a", [1, 1, 1, 5]), tape.leaf("v", [1, 1, 1, 5]));
    /// let s = tape.sigmoid(a);
    /// assert_eq!(tape.vjp(s, v, &[a]), [tape.sigmoid_grad(v, s)]);
    /// ```
    #[track_caller]
    pub fn sigmoid_grad(&mut self, a: Tensor, s: Tensor) -> Tensor {
        self.map(Map::SigmoidGrad, &[a, s])
    }

    /// `1 / max(sqrt(a), eps)`: from a squared norm, the factor that normalises (clamped as in
    /// PyTorch's cosine_similarity).
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let g = tape.leaf("g", [1, 1, 1, 100]);
    /// let squared = tape.dot(g, g);
    /// let factor = tape.inv_norm(squared, 1e-8);
    /// let factor = tape.broadcast(factor, [1, 1, 1, 100]);
    /// let unit = tape.mul(g, factor); // g / |g|
    /// assert_eq!(tape.shape(unit), [1, 1, 1, 100]);
    /// ```
    pub fn inv_norm(&mut self, a: Tensor, eps: f64) -> Tensor {
        self.map(Map::InvNorm { eps }, &[a])
    }

    /// `exp(a)`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, v) = (tape.leaf("a", [1, 1, 1, 5]), tape.leaf("v", [1, 1, 1, 5]));
    /// let e = tape.exp(a);
    /// assert_eq!(tape.vjp(e, v, &[a]), [tape.mul(v, e)]);
    /// ```
    pub fn exp(&mut self, a: Tensor) -> Tensor {
        self.map(Map::Exp, &[a])
    }
}

impl Family for Mapped {
    fn name(&self) -> &'static str {
        self.map.name()
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.of[..self.map.arity()].to_vec()
    }

    fn rule(&self, tape: &mut Tape, node: Tensor, v: Tensor, want: Want) -> Gradients {
        self.map.rule(tape, node, self.of, v, want)
    }
}
