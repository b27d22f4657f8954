//! The weighted mean squared error, with a kernel for its value and one for its gradient; the
//! gradient's own derivative is a product of primitive operations.

use super::{Family, Gradients, Op, Want};
use crate::layout::{SCALAR, Shape, flat};
use crate::tape::{Tape, Tensor};

/// A part of the squared error of x against a target, with a weight for each image.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Loss {
    Mse(Terms),
    MseGrad(Terms),
    ImageMse(Terms),
}

/// What a squared error is of: x and target `[h, w, c, n]`, weight `[1, 1, 1, n]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Terms {
    pub x: Tensor,
    pub target: Tensor,
    pub weight: Tensor,
}

impl Loss {
    /// What it is of: the arguments of [`Tape::mse`] and its siblings.
    pub fn terms(&self) -> Terms {
        let (Loss::Mse(terms) | Loss::MseGrad(terms) | Loss::ImageMse(terms)) = self;
        *terms
    }
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
        let (terms, _) = self.check_mse("mse", x, target, weight);
        self.push(Op::Loss(Loss::Mse(terms)), SCALAR)
    }

    /// Gradient of [`Tape::mse`] with respect to x.
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
        let (terms, shape) = self.check_mse("mse_grad", x, target, weight);
        self.push(Op::Loss(Loss::MseGrad(terms)), shape)
    }

    /// Mean squared error of each image, `[1, 1, 1, n]`; the weights are not applied.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (x, target) = (tape.leaf("x", [28, 28, 1, 8]), tape.leaf("target", [28, 28, 1, 8]));
    /// let weight = tape.leaf("weight", [1, 1, 1, 8]);
    /// let each = tape.image_mse(x, target, weight);
    /// assert_eq!(tape.shape(each), [1, 1, 1, 8]);
    /// // The weighted sum of these is the loss, whose gradient in the weights they therefore are.
    /// let loss = tape.mse(x, target, weight);
    /// assert_eq!(tape.grad(loss, &[weight]), [each]);
    /// ```
    #[track_caller]
    pub fn image_mse(&mut self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor {
        let (terms, shape) = self.check_mse("image_mse", x, target, weight);
        self.push(Op::Loss(Loss::ImageMse(terms)), flat(shape[3]))
    }

    #[track_caller]
    fn check_mse(&self, op: &str, x: Tensor, target: Tensor, weight: Tensor) -> (Terms, Shape) {
        self.same_shape(op, x, target);
        let shape = self.shape(x);
        assert_eq!(self.shape(weight), flat(shape[3]), "{op}: one weight an image of {shape:?}");
        (Terms { x, target, weight }, shape)
    }

    /// `2 / pixels * (x - target)`: the slope of each image's own mean squared error.
    fn image_mse_slope(&mut self, x: Tensor, target: Tensor) -> Tensor {
        let [h, w, c, _] = self.shape(x);
        let minus = self.affine(target, -1.0, 0.0);
        let difference = self.add(x, minus);
        self.affine(difference, 2.0 / (h * w * c) as f64, 0.0)
    }
}

impl Family for Loss {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Terms { x, target, weight } = self.terms();
        vec![x, target, weight]
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        let mut out = vec![];
        match *self {
            Loss::Mse(Terms { x, target, weight }) => {
                if want(x) || want(target) {
                    let slope = tape.mse_grad(x, target, weight);
                    let v = tape.broadcast(v, tape.shape(x));
                    let part = tape.mul(v, slope);
                    push_difference(tape, &mut out, (x, target), want, part);
                }
                if want(weight) {
                    let image = tape.image_mse(x, target, weight);
                    let v = tape.broadcast(v, tape.shape(weight));
                    out.push((weight, tape.mul(v, image)));
                }
            }
            Loss::MseGrad(Terms { x, target, weight }) => {
                let [h, w, c, _] = tape.shape(x);
                if want(x) || want(target) {
                    let weight = tape.broadcast(weight, tape.shape(x));
                    let weighted = tape.mul(v, weight);
                    let part = tape.affine(weighted, 2.0 / (h * w * c) as f64, 0.0);
                    push_difference(tape, &mut out, (x, target), want, part);
                }
                if want(weight) {
                    let slope = tape.image_mse_slope(x, target);
                    let product = tape.mul(v, slope);
                    out.push((weight, tape.sum_to(product, tape.shape(weight))));
                }
            }
            // The weight has no part in it.
            Loss::ImageMse(Terms { x, target, .. }) => {
                if want(x) || want(target) {
                    let slope = tape.image_mse_slope(x, target);
                    let v = tape.broadcast(v, tape.shape(x));
                    let part = tape.mul(v, slope);
                    push_difference(tape, &mut out, (x, target), want, part);
                }
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
