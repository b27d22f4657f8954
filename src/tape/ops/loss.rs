//! The weighted mean squared error. Its value has a kernel; its gradient is elementwise, and so
//! made of primitive operations.

use super::{Family, Gradients, Op, Want};
use crate::layout::{SCALAR, flat};
use crate::tape::{Tape, Tensor};

/// A squared error of x against a target, both `[h, w, c, n]`.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Loss {
    Mse { x: Tensor, target: Tensor, weight: Tensor },
    ImageMse { x: Tensor, target: Tensor },
}

impl Tape {
    /// `sum over n of weight[n] mean over h, w, c of (x - target)^2`, a scalar. With weights
    /// 1/batch it is the batch's mean squared error.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (x, target) = (tape.leaf("x", [28, 28, 1, 8]), tape.leaf("target", [28, 28, 1, 8]));
    /// let weight = tape.fill([1, 1, 1, 8], 1.0 / 8.0);
    /// let loss = tape.mse(x, target, weight);
    /// assert_eq!(tape.shape(loss), [1; 4]);
    /// ```
    #[track_caller]
    pub fn mse(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        self.check_mse("mse", x, target, weight);
        self.push(Op::Loss(Loss::Mse { x, target, weight }), SCALAR)
    }

    /// Gradient of [`Tape::mse`] with respect to x, in primitive operations.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (x, target) = (tape.leaf("x", [28, 28, 1, 8]), tape.leaf("target", [28, 28, 1, 8]));
    /// let weight = tape.leaf("weight", [1, 1, 1, 8]);
    /// let loss = tape.mse(x, target, weight);
    /// assert_eq!(tape.grad(loss, &[x]), [tape.mse_grad(x, target, weight)]);
    /// ```
    #[track_caller]
    pub fn mse_grad(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        self.check_mse("mse_grad", x, target, weight);
        let slope = self.image_mse_slope(x, target);
        let weight = self.broadcast(weight, self.shape(x));
        self.mul(slope, weight)
    }

    /// Mean squared error of each image, `[1, 1, 1, n]`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (x, target) = (tape.leaf("x", [28, 28, 1, 8]), tape.leaf("target", [28, 28, 1, 8]));
    /// let each = tape.image_mse(x, target);
    /// assert_eq!(tape.shape(each), [1, 1, 1, 8]);
    /// // The weighted sum of these is the loss, whose gradient in the weights they therefore are.
    /// let weight = tape.leaf("weight", [1, 1, 1, 8]);
    /// let loss = tape.mse(x, target, weight);
    /// assert_eq!(tape.grad(loss, &[weight]), [each]);
    /// ```
    #[track_caller]
    pub fn image_mse(&mut self, x: Tensor, target: Tensor) -> Tensor {
        self.same_shape("image_mse", x, target);
        let n = self.shape(x)[3];
        self.push(Op::Loss(Loss::ImageMse { x, target }), flat(n))
    }

    #[track_caller]
    fn check_mse(&self, op: &str, x: Tensor, target: Tensor, weight: Tensor) {
        self.same_shape(op, x, target);
        let shape = self.shape(x);
        assert_eq!(self.shape(weight), flat(shape[3]), "{op}: one weight an image of {shape:?}");
    }

    /// `2 / pixels * (x - target)`: the slope of each image's own mean squared error.
    fn image_mse_slope(&mut self, x: Tensor, target: Tensor) -> Tensor {
        let [h, w, c, _] = self.shape(x);
        let difference = self.sub(x, target);
        self.affine(difference, 2.0 / (h * w * c) as f64, 0.0)
    }
}

impl Family for Loss {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Loss::Mse { x, target, weight } => vec![x, target, weight],
            Loss::ImageMse { x, target } => vec![x, target],
        }
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        let mut out = vec![];
        match *self {
            Loss::Mse { x, target, weight } => {
                if want(x) || want(target) {
                    let slope = tape.mse_grad(x, target, weight);
                    let v = tape.broadcast(v, tape.shape(x));
                    let part = tape.mul(v, slope);
                    push_difference(tape, &mut out, (x, target), want, part);
                }
                if want(weight) {
                    let image = tape.image_mse(x, target);
                    let v = tape.broadcast(v, tape.shape(weight));
                    out.push((weight, tape.mul(v, image)));
                }
            }
            Loss::ImageMse { x, target } => {
                let slope = tape.image_mse_slope(x, target);
                let v = tape.broadcast(v, tape.shape(x));
                let part = tape.mul(v, slope);
                push_difference(tape, &mut out, (x, target), want, part);
            }
        }
        out
    }
}

/// Gradients of something that depends on `x - target` only: `part` for x, its negative for the
/// target.
fn push_difference(
    tape: &mut Tape,
    out: &mut Gradients,
    (x, target): (Tensor, Tensor),
    want: Want,
    part: Tensor,
) {
    if want(x) {
        out.push((x, part));
    }
    if want(target) {
        out.push((target, tape.affine(part, -1.0, 0.0)));
    }
}
