//! Two of the convolution trio: conv_y (conv2d) and conv_x (conv_transpose2d). With
//! [`super::conv_w`] the trio is closed under differentiation, since each is the adjoint of the
//! other two (see [`crate::geometry`]).

use super::{Family, Gradients, Op, Want};
use crate::geometry::Geometry;
use crate::layout::Shape;
use crate::tape::{Tape, Tensor};

/// A convolution from one end of its taps to the other.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Conv {
    ConvY { geometry: Geometry, x: Tensor, w: Tensor },
    ConvX { geometry: Geometry, y: Tensor, w: Tensor },
}

impl Tape {
    /// conv2d without bias: x `[hx, wx, cx, n]`, w `[kh, kw, cy, cx]` -> `[hy, wy, cy, n]`.
    ///
    /// ```
    /// use gradcon::{geometry::Geometry, tape::Tape};
    ///
    /// let g = Geometry::conv2d(8, (3, 28, 28), 32, (4, 4), 2, 2); // 8 images, 3 to 32 channels
    /// let mut tape = Tape::new();
    /// let (x, w) = (tape.leaf("x", g.x_shape()), tape.leaf("w", g.w_shape()));
    /// let y = tape.conv_y(g, x, w);
    /// assert_eq!(tape.shape(y), [15, 15, 32, 8]);
    /// ```
    #[track_caller]
    pub fn conv_y(&mut self, geometry: Geometry, x: Tensor, w: Tensor) -> Tensor {
        let wanted = [("x", x, geometry.x_shape()), ("w", w, geometry.w_shape())];
        self.check_geometry("conv_y", &geometry, &wanted);
        self.push(Op::Conv(Conv::ConvY { geometry, x, w }), geometry.y_shape())
    }

    /// conv_transpose2d without bias: y `[hy, wy, cy, n]`, w `[kh, kw, cy, cx]` ->
    /// `[hx, wx, cx, n]`.
    ///
    /// ```
    /// use gradcon::{geometry::Geometry, tape::Tape};
    ///
    /// let g = Geometry::conv_transpose2d(8, (64, 4, 4), 32, (4, 4), 2, 1);
    /// let mut tape = Tape::new();
    /// let (y, w) = (tape.leaf("y", g.y_shape()), tape.leaf("w", g.w_shape()));
    /// let x = tape.conv_x(g, y, w);
    /// assert_eq!(tape.shape(x), [8, 8, 32, 8]);
    /// ```
    #[track_caller]
    pub fn conv_x(&mut self, geometry: Geometry, y: Tensor, w: Tensor) -> Tensor {
        let wanted = [("y", y, geometry.y_shape()), ("w", w, geometry.w_shape())];
        self.check_geometry("conv_x", &geometry, &wanted);
        self.push(Op::Conv(Conv::ConvX { geometry, y, w }), geometry.x_shape())
    }

    #[track_caller]
    pub(super) fn check_geometry(&self, op: &str, g: &Geometry, wanted: &[(&str, Tensor, Shape)]) {
        for &(name, t, shape) in wanted {
            let got = self.shape(t);
            assert!(got == shape, "{op}: {name} is {got:?}, {g} needs {shape:?}");
        }
    }
}

impl Family for Conv {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Conv::ConvY { x: a, w, .. } | Conv::ConvX { y: a, w, .. } => vec![a, w],
        }
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        let mut out = vec![];
        match *self {
            Conv::ConvY { geometry, x, w } => {
                if want(x) {
                    out.push((x, tape.conv_x(geometry, v, w)));
                }
                if want(w) {
                    out.push((w, tape.conv_w(geometry, x, v)));
                }
            }
            Conv::ConvX { geometry, y, w } => {
                if want(y) {
                    out.push((y, tape.conv_y(geometry, v, w)));
                }
                if want(w) {
                    out.push((w, tape.conv_w(geometry, v, y)));
                }
            }
        }
        out
    }
}
