//! The fused losses: weighted mean squared error, and the gradient constraint.
//!
//! Each has a kernel for its value and one for its gradient. The gradient's own derivative is
//! composed of primitive operations: for the squared error that is a product, for the constraint it
//! is the derivative of the decomposition below.

use super::Want;
use crate::program::kernel::{COSINE_EPS, MAX_SEGMENTS, Segment};
use crate::tape::{Op, SCALAR, Tape, Tensor, check_flat, flat, size};

impl Tape {
    #[track_caller]
    fn check_mse(&self, op: &str, x: Tensor, target: Tensor, weight: Tensor) -> [usize; 4] {
        self.same_shape(op, x, target);
        let shape = self.shape(x);
        assert_eq!(
            self.shape(weight),
            [1, 1, 1, shape[3]],
            "{op}: one weight an image of {shape:?}"
        );
        shape
    }

    /// `sum over n of weight[n] mean over h, w, c of (x - target)^2`, a scalar. With weights
    /// 1/batch it is the batch's mean squared error.
    #[track_caller]
    pub fn mse(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        self.check_mse("mse", x, target, weight);
        self.push(Op::Mse { x, target, weight }, SCALAR)
    }

    /// Gradient of [`Tape::mse`] with respect to x.
    #[track_caller]
    pub fn mse_grad(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        let shape = self.check_mse("mse_grad", x, target, weight);
        self.push(Op::MseGrad { x, target, weight }, shape)
    }

    /// Mean squared error of each image, `[1, 1, 1, n]`; the weights are not applied.
    #[track_caller]
    pub fn image_mse(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        let shape = self.check_mse("image_mse", x, target, weight);
        self.push(Op::ImageMse { x, target, weight }, [1, 1, 1, shape[3]])
    }

    /// Sums and cosines of every segment of g and r, as the kernel `constraint_sum` lays them out.
    /// No derivative.
    #[track_caller]
    pub fn constraint_stats(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        assert!(
            (1..=MAX_SEGMENTS).contains(&segments.len()),
            "constraint: {} segments, 1 to {MAX_SEGMENTS} are possible",
            segments.len()
        );
        for s in segments {
            check_flat(self, "constraint g", g, s.offset + s.len);
            check_flat(self, "constraint r", r, s.offset + s.len);
        }
        self.push(
            Op::ConstraintStats { g, r, segments: segments.to_vec() },
            flat(4 + 4 * segments.len()),
        )
    }

    /// GradCon's constraint: `-mean over segments of cos(g, r)`, a scalar.
    #[track_caller]
    pub fn constraint(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        let stats = self.constraint_stats(g, r, segments);
        self.push(Op::Constraint { stats, g, r, segments: segments.to_vec() }, SCALAR)
    }

    /// Gradient of [`Tape::constraint`] with respect to g, flat like g, zero outside the segments.
    #[track_caller]
    pub fn constraint_grad(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        let stats = self.constraint_stats(g, r, segments);
        self.push(
            Op::ConstraintGrad { stats, g, r, segments: segments.to_vec(), scale: 1.0 },
            self.shape(g),
        )
    }

    /// Cosine of each image's own gradient with its reference, `[1, 1, 1, n]`, from
    /// [`Tape::image_grad`]'s sums and the reference's norm in `stats`. No derivative.
    #[track_caller]
    pub fn image_cos(&mut self, partial: Tensor, stats: Tensor, segment: usize) -> Tensor {
        check_flat(self, "image_cos", stats, 4 + 4 * (segment + 1));
        let n = self.shape(partial)[3];
        self.push(Op::ImageCos { partial, stats, segment }, [1, 1, 1, n])
    }

    /// [`Tape::constraint`] in primitive operations.
    fn constraint_by_primitives(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        let mut total = self.fill(SCALAR, 0.0);
        for s in segments {
            let (g, r) =
                (self.slice(g, s.offset, flat(s.len)), self.slice(r, s.offset, flat(s.len)));
            let (gr, gg, rr) = (self.dot(g, r), self.dot(g, g), self.dot(r, r));
            let (inv_g, inv_r) = (self.inv_norm(gg, COSINE_EPS), self.inv_norm(rr, COSINE_EPS));
            let inv = self.mul(inv_g, inv_r);
            let cos = self.mul(gr, inv);
            total = self.add(total, cos);
        }
        self.affine(total, -1.0 / segments.len() as f64, 0.0)
    }

    /// `2 / pixels * (x - target)`: the slope of each image's own mean squared error.
    fn image_mse_slope(&mut self, x: Tensor, target: Tensor) -> Tensor {
        let [h, w, c, _] = self.shape(x);
        let minus = self.affine(target, -1.0, 0.0);
        let difference = self.add(x, minus);
        self.affine(difference, 2.0 / (h * w * c) as f64, 0.0)
    }
}

pub(super) fn rule(tape: &mut Tape, op: &Op, v: Tensor, want: Want) -> Vec<(Tensor, Tensor)> {
    let mut out = vec![];
    match op {
        &Op::Mse { x, target, weight } => {
            if want(x) || want(target) {
                let slope = tape.mse_grad(x, target, weight);
                let v = tape.broadcast(v, tape.shape(x));
                push_difference(tape, &mut out, (x, target), want, |tape| tape.mul(v, slope));
            }
            if want(weight) {
                let image = tape.image_mse(x, target, weight);
                let v = tape.broadcast(v, tape.shape(weight));
                out.push((weight, tape.mul(v, image)));
            }
        }
        &Op::MseGrad { x, target, weight } => {
            let [h, w, c, _] = tape.shape(x);
            if want(x) || want(target) {
                let weight = tape.broadcast(weight, tape.shape(x));
                let weighted = tape.mul(v, weight);
                push_difference(tape, &mut out, (x, target), want, |tape| {
                    tape.affine(weighted, 2.0 / (h * w * c) as f64, 0.0)
                });
            }
            if want(weight) {
                let slope = tape.image_mse_slope(x, target);
                let product = tape.mul(v, slope);
                out.push((weight, tape.sum_to(product, tape.shape(weight))));
            }
        }
        &Op::ImageMse { x, target, .. } => {
            if want(x) || want(target) {
                let slope = tape.image_mse_slope(x, target);
                let v = tape.broadcast(v, tape.shape(x));
                push_difference(tape, &mut out, (x, target), want, |tape| tape.mul(v, slope));
            }
        }
        Op::Constraint { g, r, segments, .. } => {
            if want(*g) {
                let slope = tape.constraint_grad(*g, *r, segments);
                let v = tape.broadcast(v, tape.shape(*g));
                out.push((*g, tape.mul(v, slope)));
            }
            if want(*r) {
                let con = tape.constraint_by_primitives(*g, *r, segments);
                out.push((*r, tape.vjp_holding(con, v, &[*r], &[*g])[0]));
            }
        }
        Op::ConstraintGrad { g, r, segments, scale, .. } => {
            let con = tape.constraint_by_primitives(*g, *r, segments);
            let scale = tape.fill(SCALAR, *scale);
            let slope = tape.vjp_holding(con, scale, &[*g], &[*r])[0];
            let one = tape.fill(SCALAR, 1.0);
            let product = tape.dot(v, slope);
            for (t, other) in [(*g, *r), (*r, *g)] {
                if want(t) {
                    out.push((t, tape.vjp_holding(product, one, &[t], &[v, other])[0]));
                }
            }
        }
        _ => unreachable!("not a loss: {op:?}"),
    }
    debug_assert!(out.iter().all(|&(t, part)| size(tape.shape(t)) == size(tape.shape(part))));
    out
}

/// Gradients of something that depends on `x - target` only: `make` for x, its negative for the
/// target.
fn push_difference(
    tape: &mut Tape,
    out: &mut Vec<(Tensor, Tensor)>,
    (x, target): (Tensor, Tensor),
    want: Want,
    make: impl Fn(&mut Tape) -> Tensor,
) {
    let part = make(tape);
    if want(x) {
        out.push((x, part));
    }
    if want(target) {
        out.push((target, tape.affine(part, -1.0, 0.0)));
    }
}
