//! The reverse sweep: gradients of what is on a tape, recorded on the same tape.

use super::{Tape, Tensor};
use crate::layout::SCALAR;

impl Tape {
    /// Gradients of the scalar `of` with respect to each of `wrt`, appended to the tape: gradients
    /// can be differentiated again.
    ///
    /// Only what is asked for is computed: nothing flows into a node that none of `wrt` reaches.
    ///
    /// # Panics
    /// `of` is no scalar, or depends on one of `wrt` through an operation without a derivative.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let [x, y, z] = ["x", "y", "z"].map(|name| tape.leaf(name, [1, 1, 1, 5]));
    /// let f = tape.dot(x, y);
    /// let dx = tape.grad(f, &[x])[0];
    /// assert_eq!(dx, y); // d (x.y) / dx
    /// let g = tape.dot(dx, z); // made of a gradient, and differentiated in its turn
    /// assert_eq!(tape.grad(g, &[y, x]), [z, tape.fill([1, 1, 1, 5], 0.0)]);
    /// ```
    #[track_caller]
    pub fn grad(&mut self, of: Tensor, wrt: &[Tensor]) -> Vec<Tensor> {
        assert_eq!(self.shape(of), SCALAR, "grad: only a scalar has a gradient");
        let one = self.fill(SCALAR, 1.0);
        self.vjp(of, one, wrt)
    }

    /// `seed . d of / d wrt` for each of `wrt`, with a seed shaped like `of`.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let [a, b, v] = ["a", "b", "v"].map(|name| tape.leaf(name, [1, 1, 1, 5]));
    /// let product = tape.mul(a, b);
    /// assert_eq!(tape.vjp(product, v, &[a, b]), [tape.mul(v, b), tape.mul(v, a)]);
    /// ```
    #[track_caller]
    pub fn vjp(&mut self, of: Tensor, seed: Tensor, wrt: &[Tensor]) -> Vec<Tensor> {
        self.vjp_holding(of, seed, wrt, &[])
    }

    /// [`Tape::vjp`] with the nodes `held` taken as constants, whatever they are computed from. A
    /// rule that builds an expression from its own inputs and differentiates it needs this: how its
    /// inputs depend on each other is the sweep's business, not the rule's.
    #[track_caller]
    pub(super) fn vjp_holding(
        &mut self,
        of: Tensor,
        seed: Tensor,
        wrt: &[Tensor],
        held: &[Tensor],
    ) -> Vec<Tensor> {
        self.same_shape("vjp", of, seed);
        let count = of.0 + 1;
        let mut wanted = vec![false; count];
        for i in 0..count {
            let reached =
                wrt.contains(&Tensor(i)) || self.nodes[i].op.inputs().iter().any(|t| wanted[t.0]);
            wanted[i] = reached && !held.contains(&Tensor(i));
        }
        let mut sums: Vec<Option<Tensor>> = vec![None; count];
        sums[of.0] = Some(seed);
        let label = self.label.clone();
        for i in (0..count).rev() {
            let (true, Some(sum)) = (wanted[i], sums[i]) else { continue };
            let node = self.nodes[i].clone();
            if !node.op.inputs().iter().any(|t| wanted[t.0]) {
                continue;
            }
            self.label = if node.label.ends_with('\'') {
                node.label.clone()
            } else {
                format!("{}'", node.label)
            };
            let want = |t: Tensor| wanted[t.0];
            for (input, part) in node.op.family().rule(self, Tensor(i), sum, &want) {
                debug_assert!(want(input));
                assert_eq!(
                    self.shape(input),
                    self.shape(part),
                    "rule of {:?}: gradient of another shape",
                    node.op
                );
                sums[input.0] = Some(match sums[input.0] {
                    Some(sum) => self.add(sum, part),
                    None => part,
                });
            }
        }
        self.label = label;
        wrt.iter()
            .map(|&t| {
                sums.get(t.0).copied().flatten().unwrap_or_else(|| self.fill(self.shape(t), 0.0))
            })
            .collect()
    }
}
