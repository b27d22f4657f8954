//! What comes in from outside and goes out again: batches of a resident dataset, and logs that the
//! host reads once an epoch. None has a derivative.

use super::{Family, Op};
use crate::layout::{Shape, flat, size};
use crate::tape::{Tape, Tensor};

/// A part of a batch, or a row of a log.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Batch {
    BatchImages { source: Source },
    BatchWeight { source: Source },
    Record { a: Tensor, log: String, offset: usize, width: usize, steps: usize },
}

/// Names and sizes of the buffers that a batch is gathered from.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// Bytes, `[images, pixels]`.
    pub data: String,
    /// Images of each step and replica, `[steps, replicas, n]`.
    pub indices: String,
    /// Rows by step and replica, as [`Tape::adam`] has them.
    pub schedule: String,
    /// Images in the dataset.
    pub images: usize,
    /// Steps that fit in the index list.
    pub steps: usize,
}

impl Tape {
    /// A batch gathered on the device: images `[h, w, c, n]` in [0, 1], and the weight of each,
    /// `[1, 1, 1, n]`.
    ///
    /// ```
    /// use gradcon::tape::{Tape, ops::Source};
    ///
    /// let [data, indices, schedule] = ["data", "indices", "schedule"].map(String::from);
    /// let source = Source { data, indices, schedule, images: 1000, steps: 3 };
    /// let mut tape = Tape::new();
    /// let (x, weight) = tape.batch(source, [28, 28, 1, 64]);
    /// assert_eq!((tape.shape(x), tape.shape(weight)), ([28, 28, 1, 64], [1, 1, 1, 64]));
    ///
    /// let black = tape.fill([28, 28, 1, 64], 0.0);
    /// let loss = tape.mse(x, black, weight);
    /// tape.record(loss, "log", 0, 1, 3); // one value in each of three steps
    /// assert!(tape.nodes().last().is_some_and(|node| node.op.is_sink()));
    /// ```
    pub fn batch(&mut self, source: Source, shape: Shape) -> (Tensor, Tensor) {
        let weight = Op::Batch(Batch::BatchWeight { source: source.clone() });
        let weight = self.push(weight, flat(shape[3]));
        (self.push(Op::Batch(Batch::BatchImages { source }), shape), weight)
    }

    /// Writes `a` at `offset` of the step's row of `log`, a buffer `[steps, replicas, width]` that
    /// the host reads by name. Shown at [`Tape::batch`].
    #[track_caller]
    pub fn record(&mut self, a: Tensor, log: &str, offset: usize, width: usize, steps: usize) {
        let shape = self.shape(a);
        assert!(
            offset + size(shape) <= width,
            "record: {shape:?} at {offset} does not fit {width}"
        );
        self.push(Op::Batch(Batch::Record { a, log: log.into(), offset, width, steps }), shape);
    }
}

impl Family for Batch {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match self {
            Batch::BatchImages { .. } | Batch::BatchWeight { .. } => vec![],
            Batch::Record { a, .. } => vec![*a],
        }
    }

    fn is_sink(&self) -> bool {
        matches!(self, Batch::Record { .. })
    }
}
