//! Elementwise operations and the adjoint pair broadcast / sum_to.

use super::Want;
use crate::tape::{Op, Shape, Tape, Tensor};

impl Tape {
    /// A constant.
    pub fn fill(&mut self, shape: Shape, value: f64) -> Tensor {
        self.push(Op::Fill { value }, shape)
    }

    fn constant(&self, t: Tensor) -> Option<f64> {
        match self.op(t) {
            Op::Fill { value } => Some(*value),
            _ => None,
        }
    }

    /// `a + b`.
    #[track_caller]
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.same_shape("add", a, b);
        match (self.constant(a), self.constant(b)) {
            (Some(a), _) => self.affine(b, 1.0, a),
            (_, Some(b)) => self.affine(a, 1.0, b),
            _ => self.push(Op::Add { a, b }, self.shape(a)),
        }
    }

    /// `a * b`, elementwise.
    #[track_caller]
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.same_shape("mul", a, b);
        match (self.constant(a), self.constant(b)) {
            (Some(a), _) => self.affine(b, a, 0.0),
            (_, Some(b)) => self.affine(a, b, 0.0),
            _ => self.push(Op::Mul { a, b }, self.shape(a)),
        }
    }

    /// `scale * a + shift`.
    pub fn affine(&mut self, a: Tensor, scale: f64, shift: f64) -> Tensor {
        let shape = self.shape(a);
        match self.op(a).clone() {
            _ if scale == 1.0 && shift == 0.0 => a,
            Op::Fill { value } => self.fill(shape, scale * value + shift),
            Op::Affine { a, scale: s, shift: t } => self.affine(a, scale * s, scale * t + shift),
            Op::ConstraintGrad { stats, g, r, segments, scale: s } if shift == 0.0 => {
                self.push(Op::ConstraintGrad { stats, g, r, segments, scale: scale * s }, shape)
            }
            _ if scale == 0.0 => self.fill(shape, shift),
            _ => self.push(Op::Affine { a, scale, shift }, shape),
        }
    }

    /// `max(a, 0)`.
    pub fn relu(&mut self, a: Tensor) -> Tensor {
        self.push(Op::Relu { a }, self.shape(a))
    }

    /// `gate > 0 ? a : 0`.
    #[track_caller]
    pub fn relu_grad(&mut self, a: Tensor, gate: Tensor) -> Tensor {
        self.same_shape("relu_grad", a, gate);
        self.push(Op::ReluGrad { a, gate }, self.shape(a))
    }

    /// `1 / (1 + exp(-a))`.
    pub fn sigmoid(&mut self, a: Tensor) -> Tensor {
        self.push(Op::Sigmoid { a }, self.shape(a))
    }

    /// `a s (1 - s)`: the derivative of a sigmoid whose value is s.
    #[track_caller]
    pub fn sigmoid_grad(&mut self, a: Tensor, s: Tensor) -> Tensor {
        self.same_shape("sigmoid_grad", a, s);
        self.push(Op::SigmoidGrad { a, s }, self.shape(a))
    }

    /// `1 / max(sqrt(a), eps)`: from a squared norm, the factor that normalises (clamped as in
    /// PyTorch's cosine_similarity).
    pub fn inv_norm(&mut self, a: Tensor, eps: f64) -> Tensor {
        self.push(Op::InvNorm { a, eps }, self.shape(a))
    }

    /// Repeats axes of size 1 to `shape`.
    #[track_caller]
    pub fn broadcast(&mut self, a: Tensor, shape: Shape) -> Tensor {
        let from = self.shape(a);
        assert!(
            from.iter().zip(shape).all(|(&f, t)| f == t || f == 1),
            "broadcast: {from:?} does not repeat to {shape:?}"
        );
        match self.constant(a) {
            _ if from == shape => a,
            Some(value) => self.fill(shape, value),
            None => self.push(Op::Broadcast { a }, shape),
        }
    }

    /// Sums over the axes where `shape` is 1: the adjoint of [`Tape::broadcast`].
    #[track_caller]
    pub fn sum_to(&mut self, a: Tensor, shape: Shape) -> Tensor {
        let from = self.shape(a);
        assert!(
            from.iter().zip(shape).all(|(&f, t)| f == t || t == 1),
            "sum_to: {from:?} does not sum to {shape:?}"
        );
        if from == shape { a } else { self.push(Op::SumTo { a }, shape) }
    }
}

pub(super) fn rule(
    tape: &mut Tape,
    node: Tensor,
    op: &Op,
    v: Tensor,
    want: Want,
) -> Vec<(Tensor, Tensor)> {
    let mut out = vec![];
    match *op {
        Op::Add { a, b } => out.extend([a, b].into_iter().filter(|&t| want(t)).map(|t| (t, v))),
        Op::Mul { a, b } => {
            for (t, other) in [(a, b), (b, a)] {
                if want(t) {
                    out.push((t, tape.mul(v, other)));
                }
            }
        }
        Op::Affine { a, scale, .. } => out.push((a, tape.affine(v, scale, 0.0))),
        // relu(a) > 0 exactly where a > 0, so the value serves as the gate and a need not be kept.
        Op::Relu { a } => out.push((a, tape.relu_grad(v, node))),
        Op::ReluGrad { a, gate } => {
            // The derivative along the gate is zero almost everywhere.
            if want(a) {
                out.push((a, tape.relu_grad(v, gate)));
            }
        }
        Op::Sigmoid { a } => out.push((a, tape.sigmoid_grad(v, node))),
        Op::SigmoidGrad { a, s } => {
            if want(a) {
                out.push((a, tape.sigmoid_grad(v, s)));
            }
            if want(s) {
                let va = tape.mul(v, a);
                let slope = tape.affine(s, -2.0, 1.0);
                out.push((s, tape.mul(va, slope)));
            }
        }
        Op::InvNorm { a, eps } => {
            // i = a^(-1/2): di/da = -i^3 / 2 above the clamp, 0 below.
            let square = tape.mul(node, node);
            let cube = tape.mul(square, node);
            let slope = tape.affine(cube, -0.5, 0.0);
            let above = tape.affine(a, 1.0, -eps * eps);
            let slope = tape.relu_grad(slope, above);
            out.push((a, tape.mul(v, slope)));
        }
        Op::Broadcast { a } => out.push((a, tape.sum_to(v, tape.shape(a)))),
        Op::SumTo { a } => out.push((a, tape.broadcast(v, tape.shape(a)))),
        _ => unreachable!("not elementwise: {op:?}"),
    }
    out
}
