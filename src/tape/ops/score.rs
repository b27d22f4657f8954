//! How each image's own weight gradient aligns with a reference. No derivative.

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
        let wanted = [
            ("x", x, geometry.x_shape()),
            ("y", y, geometry.y_shape()),
            ("r", r, geometry.w_shape()),
        ];
        self.check_geometry("image_cos", &geometry, &wanted);
        self.check_flat("image_cos", stats, Stats::len(segment + 1));
        let op = Score::ImageCos { geometry, x, y, r, stats, segment };
        self.push(Op::Score(op), flat(geometry.n))
    }
}

impl Family for Score {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Score::ImageCos { x, y, r, stats, .. } = *self;
        vec![x, y, r, stats]
    }
}
