//! What enters from outside (batches) and what is there for its effect (records, stores, the
//! optimiser). None has a derivative.

use crate::tape::{AdamConfig, Batch, Op, Shape, Tape, Tensor, check_flat, flat, size};

impl Tape {
    /// A batch gathered on the device: images `[h, w, c, n]` in [0, 1], and the weight of each,
    /// `[1, 1, 1, n]`.
    pub fn batch(&mut self, batch: Batch, shape: Shape) -> (Tensor, Tensor) {
        let weight = self.push(Op::BatchWeight { batch: batch.clone() }, [1, 1, 1, shape[3]]);
        (self.push(Op::BatchImages { batch }, shape), weight)
    }

    /// Writes `a` at `offset` of the step's row of `log`, a buffer `[steps, replicas, width]` that
    /// the host reads by name.
    #[track_caller]
    pub fn record(&mut self, a: Tensor, log: &str, offset: usize, width: usize, steps: usize) {
        assert!(
            offset + size(self.shape(a)) <= width,
            "record: {:?} at {offset} does not fit {width}",
            self.shape(a)
        );
        self.push(Op::Record { a, log: log.into(), offset, width, steps }, self.shape(a));
    }

    /// Copies `a` into the persistent buffer `name`, for the host to read.
    pub fn store(&mut self, a: Tensor, name: &str) {
        self.push(Op::Store { a, name: name.into() }, self.shape(a));
    }

    /// One Adam step of the persistent flat buffers `params`, `adam.m`, `adam.v` by the flat
    /// gradient, and the running mean `reference` of its first `reference_len` elements. `schedule`
    /// (rows by step and replica) says when and how much.
    #[track_caller]
    pub fn adam(
        &mut self,
        grad: Tensor,
        reference_len: usize,
        schedule: &str,
        steps: usize,
        config: AdamConfig,
    ) {
        check_flat(self, "adam", grad, reference_len);
        let len = size(self.shape(grad));
        self.push(
            Op::Adam { grad, reference_len, schedule: schedule.into(), steps, config },
            flat(len),
        );
    }
}
