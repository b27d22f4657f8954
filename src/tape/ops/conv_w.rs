//! The third of the convolution trio: the weight's gradient.

use super::{Family, Gradients, Op, Want};
use crate::geometry::Geometry;
use crate::tape::{Tape, Tensor};

/// The gradient of a convolution's weight.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // documented at the constructor
pub struct ConvW {
    pub geometry: Geometry,
    pub x: Tensor,
    pub y: Tensor,
}

impl ConvW {
    pub(super) const NAME: &str = "conv_w";
}

impl Tape {
    /// Gradient of the weight: x `[hx, wx, cx, n]`, y `[hy, wy, cy, n]` -> `[kh, kw, cy, cx]`,
    /// summed over images.
    ///
    /// ```
    /// use gradcon::{geometry::Geometry, tape::Tape};
    ///
    /// let g = Geometry::conv2d(8, (3, 28, 28), 32, (4, 4), 2, 2);
    /// let mut tape = Tape::new();
    /// let (x, y) = (tape.leaf("x", g.x_shape()), tape.leaf("y", g.y_shape()));
    /// let w = tape.conv_w(g, x, y);
    /// assert_eq!(tape.shape(w), [4, 4, 32, 3]);
    /// ```
    #[track_caller]
    pub fn conv_w(&mut self, geometry: Geometry, x: Tensor, y: Tensor) -> Tensor {
        let wanted = [("x", x, geometry.x_shape()), ("y", y, geometry.y_shape())];
        self.check_geometry(ConvW::NAME, &geometry, &wanted);
        self.push(Op::ConvW(ConvW { geometry, x, y }), geometry.w_shape())
    }
}

impl Family for ConvW {
    fn name(&self) -> &'static str {
        ConvW::NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.y]
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        let ConvW { geometry, x, y } = *self;
        let mut out = vec![];
        if want(x) {
            out.push((x, tape.conv_x(geometry, y, v)));
        }
        if want(y) {
            out.push((y, tape.conv_y(geometry, x, v)));
        }
        out
    }
}
