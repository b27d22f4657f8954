//! How each image's own weight gradient aligns with a reference, and how long it is. No derivative.

use super::{Family, Op};
use crate::geometry::Geometry;
use crate::layout::{Stats, flat};
use crate::tape::{Tape, Tensor};

/// A part of an image's score.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructor
pub enum Score {
    ImageCos { geometry: Geometry, x: Tensor, y: Tensor, r: Tensor, stats: Tensor, segment: usize },
    ImageSquares { geometry: Geometry, x: Tensor, y: Tensor, r: Tensor },
}

impl Tape {
    /// Cosine of each image's own weight gradient `conv_w(x, y)` with the reference r
    /// `[kh, kw, cy, cx]`, `[1, 1, 1, n]`; r's squared norm is that of `segment` in `stats` (see
    /// [`Tape::constraint_stats`]). None of these gradients is ever in memory.
    ///
    /// ```
    /// use gradcon::{geometry::Geometry, layout::Segment, tape::Tape};
    ///
    /// let g = Geometry::conv_transpose2d(8, (64, 3, 3), 64, (4, 4), 2, 2); // 8 images
    /// let mut tape = Tape::new();
    /// let (x, y) = (tape.leaf("x", g.x_shape()), tape.leaf("y", g.y_shape()));
    /// let reference = tape.leaf("reference", [1, 1, 1, g.w_len()]);
    /// let layer = Segment { offset: 0, len: g.w_len() };
    /// let stats = tape.constraint_stats(reference, reference, &[layer]);
    /// let r = tape.slice(reference, layer.offset, g.w_shape());
    /// let cos = tape.image_cos(g, (x, y), r, (stats, 0));
    /// assert_eq!(tape.shape(cos), [1, 1, 1, 8]);
    /// ```
    #[track_caller]
    pub fn image_cos(
        &mut self,
        geometry: Geometry,
        (x, y): (Tensor, Tensor),
        r: Tensor,
        (stats, segment): (Tensor, usize),
    ) -> Tensor {
        self.check_image("image_cos", &geometry, (x, y), r);
        self.check_flat("image_cos", stats, Stats::len(segment + 1));
        let op = Score::ImageCos { geometry, x, y, r, stats, segment };
        self.push(Op::Score(op), flat(geometry.n))
    }

    /// Squared lengths of each image's own weight gradient `conv_w(x, y)`, `[1, 1, 2, n]`: of its
    /// squares weighed by r `[kh, kw, cy, cx]` the sum, and their plain sum. None of these gradients
    /// is ever in memory.
    ///
    /// ```
    /// use gradcon::{geometry::Geometry, tape::Tape};
    ///
    /// let g = Geometry::conv_transpose2d(8, (64, 3, 3), 64, (4, 4), 2, 2); // 8 images
    /// let mut tape = Tape::new();
    /// let (x, y) = (tape.leaf("x", g.x_shape()), tape.leaf("y", g.y_shape()));
    /// let r = tape.leaf("r", g.w_shape());
    /// let squares = tape.image_squares(g, (x, y), r);
    /// assert_eq!(tape.shape(squares), [1, 1, 2, 8]);
    /// ```
    #[track_caller]
    pub fn image_squares(
        &mut self,
        geometry: Geometry,
        (x, y): (Tensor, Tensor),
        r: Tensor,
    ) -> Tensor {
        self.check_image("image_squares", &geometry, (x, y), r);
        let op = Score::ImageSquares { geometry, x, y, r };
        self.push(Op::Score(op), [1, 1, 2, geometry.n])
    }

    #[track_caller]
    fn check_image(&self, name: &str, geometry: &Geometry, (x, y): (Tensor, Tensor), r: Tensor) {
        let wanted = [
            ("x", x, geometry.x_shape()),
            ("y", y, geometry.y_shape()),
            ("r", r, geometry.w_shape()),
        ];
        self.check_geometry(name, geometry, &wanted);
    }
}

impl Family for Score {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Score::ImageCos { x, y, r, stats, .. } => vec![x, y, r, stats],
            Score::ImageSquares { x, y, r, .. } => vec![x, y, r],
        }
    }
}
