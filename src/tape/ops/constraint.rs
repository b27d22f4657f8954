//! GradCon's constraint, fused: a kernel for its value and one for its gradient, whose own
//! derivative is that of the decomposition into primitive operations below.

use super::{Family, Gradients, Map, Mapped, Op, Want};
use crate::layout::{SCALAR, Segment, Stats, flat};
use crate::tape::{Tape, Tensor};

/// Most segments (constrained layers) of a gradient constraint.
pub const MAX_SEGMENTS: usize = 8;

/// cosine_similarity's epsilon (PyTorch's default).
pub const COSINE_EPS: f64 = 1e-8;

/// A part of the constraint between the gradients g and their references r, both flat.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Constraint {
    ConstraintStats {
        g: Tensor,
        r: Tensor,
        segments: Vec<Segment>,
    },
    Constraint {
        stats: Tensor,
        g: Tensor,
        r: Tensor,
        segments: Vec<Segment>,
    },
    ConstraintGrad {
        stats: Tensor,
        g: Tensor,
        r: Tensor,
        segments: Vec<Segment>,
        scale: f64,
        weight: Option<Tensor>,
    },
}

impl Constraint {
    /// The same, times `scale`, if it is one that a kernel scales for nothing.
    pub(super) fn scaled(&self, by: f64) -> Option<Constraint> {
        let mut scaled = self.clone();
        let Constraint::ConstraintGrad { scale, .. } = &mut scaled else { return None };
        *scale *= by;
        Some(scaled)
    }
}

impl Tape {
    /// Sums and cosines of every segment of g and r, laid out as [`Stats`]. No derivative.
    ///
    /// ```
    /// use gradcon::layout::{Segment, Stat, Stats};
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (g, r) = (tape.leaf("g", [1, 1, 1, 192]), tape.leaf("r", [1, 1, 1, 192]));
    /// let layers = [Segment { offset: 0, len: 100 }, Segment { offset: 128, len: 64 }];
    /// let stats = tape.constraint_stats(g, r, &layers);
    /// assert_eq!(tape.shape(stats), [1, 1, 1, Stats::len(2)]);
    /// assert_eq!(Stats::at(1, Stat::Cos), Stats::len(2) - 1); // the second layer's cosine is last
    /// ```
    #[track_caller]
    pub fn constraint_stats(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        assert!(
            (1..=MAX_SEGMENTS).contains(&segments.len()),
            "constraint: {} segments, 1 to {MAX_SEGMENTS} are possible",
            segments.len()
        );
        for s in segments {
            self.check_flat("constraint g", g, s.offset + s.len);
            self.check_flat("constraint r", r, s.offset + s.len);
        }
        let op = Constraint::ConstraintStats { g, r, segments: segments.to_vec() };
        self.push(Op::Constraint(op), flat(Stats::len(segments.len())))
    }

    /// GradCon's constraint: `-mean over segments of cos(g, r)`, a scalar.
    ///
    /// ```
    /// use gradcon::{layout::Segment, tape::Tape};
    ///
    /// let mut tape = Tape::new();
    /// let (g, r) = (tape.leaf("g", [1, 1, 1, 192]), tape.leaf("r", [1, 1, 1, 192]));
    /// let layers = [Segment { offset: 0, len: 100 }, Segment { offset: 128, len: 64 }];
    /// let constraint = tape.constraint(g, r, &layers);
    /// let gradient = tape.grad(constraint, &[g])[0]; // can be differentiated again
    /// assert_eq!(tape.shape(gradient), [1, 1, 1, 192]);
    /// ```
    #[track_caller]
    pub fn constraint(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        let stats = self.constraint_stats(g, r, segments);
        let op = Constraint::Constraint { stats, g, r, segments: segments.to_vec() };
        self.push(Op::Constraint(op), SCALAR)
    }

    /// Gradient of [`Tape::constraint`] with respect to g, flat like g, zero outside the segments.
    ///
    /// ```
    /// use gradcon::{layout::Segment, tape::Tape};
    ///
    /// let mut tape = Tape::new();
    /// let (g, r) = (tape.leaf("g", [1, 1, 1, 192]), tape.leaf("r", [1, 1, 1, 192]));
    /// let layers = [Segment { offset: 0, len: 100 }, Segment { offset: 128, len: 64 }];
    /// let constraint = tape.constraint(g, r, &layers);
    /// assert_eq!(tape.grad(constraint, &[g]), [tape.constraint_grad(g, r, &layers)]);
    /// ```
    #[track_caller]
    pub fn constraint_grad(&mut self, g: Tensor, r: Tensor, segments: &[Segment]) -> Tensor {
        self.weighted_grad(g, r, segments, None)
    }

    /// The same, times the scalar `weight` if there is one.
    fn weighted_grad(
        &mut self,
        g: Tensor,
        r: Tensor,
        segments: &[Segment],
        weight: Option<Tensor>,
    ) -> Tensor {
        let stats = self.constraint_stats(g, r, segments);
        // A factor of the weight is the kernel's to apply.
        let (weight, scale) = match weight.map(|weight| (weight, self.op(weight))) {
            Some((_, Op::Map(Mapped { map: Map::Affine { scale, shift: 0.0 }, of: [a, _] }))) => {
                (Some(*a), *scale)
            }
            Some((weight, _)) => (Some(weight), 1.0),
            None => (None, 1.0),
        };
        let segments = segments.to_vec();
        let op = Constraint::ConstraintGrad { stats, g, r, segments, scale, weight };
        self.push(Op::Constraint(op), self.shape(g))
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
}

impl Family for Constraint {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Constraint::ConstraintStats { g, r, .. } => vec![g, r],
            Constraint::Constraint { stats, g, r, .. } => vec![stats, g, r],
            Constraint::ConstraintGrad { stats, g, r, weight, .. } => {
                [stats, g, r].into_iter().chain(weight).collect()
            }
        }
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        let mut out = vec![];
        match self {
            Constraint::ConstraintStats { .. } => super::no_derivative(self.name()),
            Constraint::Constraint { g, r, segments, .. } => {
                if want(*g) {
                    let slope = match tape.constant(v) {
                        Some(v) => {
                            let slope = tape.constraint_grad(*g, *r, segments);
                            tape.affine(slope, v, 0.0)
                        }
                        None => tape.weighted_grad(*g, *r, segments, Some(v)),
                    };
                    out.push((*g, slope));
                }
                if want(*r) {
                    let value = tape.constraint_by_primitives(*g, *r, segments);
                    out.push((*r, tape.vjp_holding(value, v, &[*r], &[*g])[0]));
                }
            }
            Constraint::ConstraintGrad { g, r, segments, scale, weight, .. } => {
                let value = tape.constraint_by_primitives(*g, *r, segments);
                let one = tape.fill(SCALAR, 1.0);
                let factor = tape.affine(weight.unwrap_or(one), *scale, 0.0);
                let slope = tape.vjp_holding(value, factor, &[*g], &[*r])[0];
                let product = tape.dot(v, slope);
                // Each of them alone: the others are held, and so is what comes from above.
                let parts: Vec<Tensor> = [*g, *r].into_iter().chain(*weight).collect();
                for &t in parts.iter().filter(|&&t| want(t)) {
                    let others = parts.iter().copied().filter(|&other| other != t);
                    let held: Vec<Tensor> = others.chain([v]).collect();
                    out.push((t, tape.vjp_holding(product, one, &[t], &held)[0]));
                }
            }
        }
        out
    }
}
