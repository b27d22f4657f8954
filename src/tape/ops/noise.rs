//! Random numbers, made on the device from counters: nothing of them is kept. No derivative.

use super::{Family, Op};
use crate::layout::Shape;
use crate::tape::{Tape, Tensor};

/// Noise of a normal distribution.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // documented at the constructor
pub struct Noise {
    pub draws: String,
    pub layer: usize,
    pub steps: usize,
}

impl Noise {
    pub(super) const NAME: &str = "noise";
}

impl Tape {
    /// Independent numbers of the standard normal distribution, `[h, w, c, n]`. A number is a
    /// function of seed, iteration, `layer`, its image's place in the batch and its own place in the
    /// image, and of nothing else. Seed and iteration are those of the step's and replica's row of
    /// the buffer `draws`, which is for so many `steps` (see [`crate::kernels::Noise`]).
    ///
    /// ```
    /// use gradcon::engine::{Data, cpu};
    /// use gradcon::program::{Options, compile};
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let noise = tape.noise("draws", [1, 1, 576, 16], 0, 2);
    /// tape.store(noise, "noise");
    ///
    /// let mut engine = cpu::f32();
    /// let program = engine.load(&compile("drawing", &tape, Options::default()))?;
    /// let (seed, iteration) = (7, 100); // of the first step; the second is the next iteration
    /// engine.write("draws", Data::U32(&[seed, 0, iteration, 0, seed, 0, iteration + 1, 0]))?;
    /// engine.run(program, 0..2)?;
    /// let noise = engine.read("noise")?;
    /// let mean_square = noise.iter().map(|v| v * v).sum::<f64>() / noise.len() as f64;
    /// assert!((mean_square - 1.0).abs() < 0.05);
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn noise(&mut self, draws: &str, shape: Shape, layer: usize, steps: usize) -> Tensor {
        self.push(Op::Noise(Noise { draws: draws.into(), layer, steps }), shape)
    }
}

impl Family for Noise {
    fn name(&self) -> &'static str {
        Noise::NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![]
    }
}
