//! Repeating and summing axes: the adjoint pair broadcast and sum_to.

use super::{Family, Gradients, Op, Want};
use crate::layout::{SCALAR, Shape};
use crate::tape::{Tape, Tensor};

/// Repeating and summing axes.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Reduce {
    Broadcast { a: Tensor },
    SumTo { a: Tensor },
}

impl Tape {
    /// Repeats axes of size 1 to `shape`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let bias = tape.leaf("bias", [1, 1, 32, 1]);
    /// let everywhere = tape.broadcast(bias, [15, 15, 32, 8]);
    /// assert_eq!(tape.shape(everywhere), [15, 15, 32, 8]);
    /// ```
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
            None => self.push(Op::Reduce(Reduce::Broadcast { a }), shape),
        }
    }

    /// Sums over the axes where `shape` is 1: the adjoint of [`Tape::broadcast`].
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let a = tape.leaf("a", [15, 15, 32, 8]);
    /// let per_channel = tape.sum_to(a, [1, 1, 32, 1]);
    /// assert_eq!(tape.shape(per_channel), [1, 1, 32, 1]);
    /// ```
    #[track_caller]
    pub fn sum_to(&mut self, a: Tensor, shape: Shape) -> Tensor {
        let from = self.shape(a);
        assert!(
            from.iter().zip(shape).all(|(&f, t)| f == t || t == 1),
            "sum_to: {from:?} does not sum to {shape:?}"
        );
        if from == shape { a } else { self.push(Op::Reduce(Reduce::SumTo { a }), shape) }
    }

    /// Inner product of two tensors of one shape, as a scalar, in primitive operations.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, b) = (tape.leaf("a", [4, 4, 32, 3]), tape.leaf("b", [4, 4, 32, 3]));
    /// let product = tape.dot(a, b);
    /// assert_eq!(tape.shape(product), [1; 4]);
    /// assert_eq!(tape.grad(product, &[a, b]), [b, a]);
    /// ```
    #[track_caller]
    pub fn dot(&mut self, a: Tensor, b: Tensor) -> Tensor {
        let product = self.mul(a, b);
        self.sum_to(product, SCALAR)
    }
}

impl Family for Reduce {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Reduce::Broadcast { a } | Reduce::SumTo { a } => vec![a],
        }
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, _want: Want) -> Gradients {
        match *self {
            Reduce::Broadcast { a } => vec![(a, tape.sum_to(v, tape.shape(a)))],
            Reduce::SumTo { a } => vec![(a, tape.broadcast(v, tape.shape(a)))],
        }
    }
}
