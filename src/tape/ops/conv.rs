//! The convolution trio: closed under differentiation, since each is the adjoint of the other two
//! (see [`crate::geometry`]).

use super::Want;
use crate::geometry::Geometry;
use crate::tape::{Op, Shape, Tape, Tensor};

fn x_shape(g: &Geometry) -> Shape {
    [g.hx, g.wx, g.cx, g.n]
}

fn y_shape(g: &Geometry) -> Shape {
    [g.hy, g.wy, g.cy, g.n]
}

fn w_shape(g: &Geometry) -> Shape {
    [g.kh, g.kw, g.cy, g.cx]
}

#[track_caller]
fn check(tape: &Tape, op: &str, g: &Geometry, wanted: [(&str, Tensor, Shape); 2]) {
    for (name, t, shape) in wanted {
        let got = tape.shape(t);
        assert!(got == shape, "{op}: {name} is {got:?}, {g} needs {shape:?}");
    }
}

impl Tape {
    /// conv2d without bias: x `[hx, wx, cx, n]`, w `[kh, kw, cy, cx]` -> `[hy, wy, cy, n]`.
    #[track_caller]
    pub fn conv_y(&mut self, geometry: Geometry, x: Tensor, w: Tensor) -> Tensor {
        check(
            self,
            "conv_y",
            &geometry,
            [("x", x, x_shape(&geometry)), ("w", w, w_shape(&geometry))],
        );
        self.push(Op::ConvY { geometry, x, w }, y_shape(&geometry))
    }

    /// conv_transpose2d without bias: y `[hy, wy, cy, n]`, w `[kh, kw, cy, cx]` -> `[hx, wx, cx,
    /// n]`.
    #[track_caller]
    pub fn conv_x(&mut self, geometry: Geometry, y: Tensor, w: Tensor) -> Tensor {
        check(
            self,
            "conv_x",
            &geometry,
            [("y", y, y_shape(&geometry)), ("w", w, w_shape(&geometry))],
        );
        self.push(Op::ConvX { geometry, y, w }, x_shape(&geometry))
    }

    /// Gradient of the weight: x `[hx, wx, cx, n]`, y `[hy, wy, cy, n]` -> `[kh, kw, cy, cx]`,
    /// summed over images.
    #[track_caller]
    pub fn conv_w(&mut self, geometry: Geometry, x: Tensor, y: Tensor) -> Tensor {
        check(
            self,
            "conv_w",
            &geometry,
            [("x", x, x_shape(&geometry)), ("y", y, y_shape(&geometry))],
        );
        self.push(Op::ConvW { geometry, x, y }, w_shape(&geometry))
    }

    /// Sums of each image's own weight gradient `conv_w(x, y)` over blocks: inner product with r
    /// and squared norm, `[1, blocks, 2, n]`. No derivative.
    #[track_caller]
    pub fn image_grad(&mut self, geometry: Geometry, x: Tensor, y: Tensor, r: Tensor) -> Tensor {
        check(
            self,
            "image_grad",
            &geometry,
            [("x", x, x_shape(&geometry)), ("y", y, y_shape(&geometry))],
        );
        check(
            self,
            "image_grad",
            &geometry,
            [("r", r, w_shape(&geometry)), ("r", r, w_shape(&geometry))],
        );
        let blocks = geometry.kh
            * geometry.kw
            * geometry.cy.div_ceil(crate::program::kernel::IMAGE_GRAD_TILE);
        self.push(Op::ImageGrad { geometry, x, y, r }, [1, blocks, 2, geometry.n])
    }
}

pub(super) fn rule(tape: &mut Tape, op: &Op, v: Tensor, want: Want) -> Vec<(Tensor, Tensor)> {
    let mut out = vec![];
    match *op {
        Op::ConvY { geometry, x, w } => {
            if want(x) {
                out.push((x, tape.conv_x(geometry, v, w)));
            }
            if want(w) {
                out.push((w, tape.conv_w(geometry, x, v)));
            }
        }
        Op::ConvX { geometry, y, w } => {
            if want(y) {
                out.push((y, tape.conv_y(geometry, v, w)));
            }
            if want(w) {
                out.push((w, tape.conv_w(geometry, v, y)));
            }
        }
        Op::ConvW { geometry, x, y } => {
            if want(x) {
                out.push((x, tape.conv_x(geometry, y, v)));
            }
            if want(y) {
                out.push((y, tape.conv_y(geometry, x, v)));
            }
        }
        _ => unreachable!("not a convolution: {op:?}"),
    }
    out
}
