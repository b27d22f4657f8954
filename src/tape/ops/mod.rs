//! Operations by family: shape check, recording and derivative side by side.
//!
//! A rule receives the gradient `v` of a node and returns gradients for those inputs that `want`
//! names. It may only call operations of the tape. Operations without a derivative are listed in
//! [`rule`].

mod conv;
mod elementwise;
pub(super) mod flat;
mod loss;
mod sink;

use super::{Op, Tape, Tensor, no_derivative};

/// Which inputs need a gradient.
pub(super) type Want<'a> = &'a dyn Fn(Tensor) -> bool;

/// Gradients of the inputs of `node`, whose operation is `op`, from its own gradient `v`.
pub(super) fn rule(
    tape: &mut Tape,
    node: Tensor,
    op: &Op,
    v: Tensor,
    want: Want,
) -> Vec<(Tensor, Tensor)> {
    match op {
        Op::Leaf { .. } | Op::Fill { .. } => vec![],
        Op::Slice { .. } | Op::Concat { .. } => flat::rule(tape, op, v, want),
        Op::ConvY { .. } | Op::ConvX { .. } | Op::ConvW { .. } => conv::rule(tape, op, v, want),
        Op::Add { .. }
        | Op::Mul { .. }
        | Op::Affine { .. }
        | Op::Relu { .. }
        | Op::ReluGrad { .. }
        | Op::Sigmoid { .. }
        | Op::SigmoidGrad { .. }
        | Op::InvNorm { .. }
        | Op::Broadcast { .. }
        | Op::SumTo { .. } => elementwise::rule(tape, node, op, v, want),
        Op::Mse { .. }
        | Op::MseGrad { .. }
        | Op::ImageMse { .. }
        | Op::Constraint { .. }
        | Op::ConstraintGrad { .. } => loss::rule(tape, op, v, want),
        Op::ConstraintStats { .. }
        | Op::ImageGrad { .. }
        | Op::ImageCos { .. }
        | Op::BatchImages { .. }
        | Op::BatchWeight { .. }
        | Op::Record { .. }
        | Op::Store { .. }
        | Op::Adam { .. } => no_derivative(op),
    }
}
