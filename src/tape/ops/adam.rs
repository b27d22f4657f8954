//! The optimiser's step. No derivative.

use super::{Family, Op};
use crate::layout::{flat, size};
use crate::tape::{Tape, Tensor};

/// One Adam step of flat persistent buffers, and the running mean of the gradient's head.
#[derive(Clone, PartialEq, Debug)]
pub struct Adam {
    /// The flat gradient.
    pub grad: Tensor,
    /// Where everything lies.
    pub buffers: AdamBuffers,
    /// Constants.
    pub config: AdamConfig,
}

/// Names and sizes of the persistent buffers of an Adam step.
#[derive(Clone, PartialEq, Debug)]
pub struct AdamBuffers {
    /// Parameters, flat like the gradient.
    pub params: String,
    /// First moments, likewise.
    pub m: String,
    /// Second moments, likewise.
    pub v: String,
    /// Running mean of the gradient's head.
    pub reference: String,
    /// Elements of the reference.
    pub reference_len: usize,
    /// When and how much, `[steps, replicas, 4]`: rows
    /// `(image weight, 1/(1 - beta1^t), 1/(1 - beta2^t), 1/t)`.
    pub schedule: String,
    /// Steps of the schedule.
    pub steps: usize,
    /// The learning rate, one for each replica.
    pub lr: String,
}

/// Constants of Adam.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamConfig {
    /// The paper's: betas 0.9 and 0.999, eps 1e-8.
    fn default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Adam {
    pub(super) const NAME: &str = "adam";
}

impl Tape {
    /// One Adam step by the flat gradient, and the running mean of its first elements.
    ///
    /// ```
    /// use gradcon::program::{Options, compile};
    /// use gradcon::tape::Tape;
    /// use gradcon::tape::ops::adam::{AdamBuffers, AdamConfig};
    ///
    /// let [params, m, v, reference, schedule, lr] =
    ///     ["params", "m", "v", "reference", "schedule", "lr"].map(String::from);
    /// let buffers =
    ///     AdamBuffers { params, m, v, reference, reference_len: 128, schedule, steps: 3, lr };
    /// let mut tape = Tape::new();
    /// let gradient = tape.leaf("gradient", [1, 1, 1, 192]);
    /// tape.adam(gradient, buffers, AdamConfig::default());
    /// let program = compile("update", &tape, Options::default());
    /// assert_eq!(program.calls[0].kernel.name(), "adam");
    /// ```
    #[track_caller]
    pub fn adam(&mut self, grad: Tensor, buffers: AdamBuffers, config: AdamConfig) {
        self.check_flat(Adam::NAME, grad, buffers.reference_len);
        let len = size(self.shape(grad));
        self.push(Op::Adam(Adam { grad, buffers, config }), flat(len));
    }
}

impl Family for Adam {
    fn name(&self) -> &'static str {
        Adam::NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.grad]
    }

    fn is_sink(&self) -> bool {
        true
    }
}
