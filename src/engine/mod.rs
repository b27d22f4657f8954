//! Engines: what runs [`Program`]s, on a GPU or on the CPU. The trait [`Engine`] is all that the
//! rest of the crate knows of a device.

pub mod cpu;
pub mod device;
pub mod gpu;
pub mod measure;
pub mod memory;
mod store;
pub mod tuned;

use std::ops::Range;
use std::time::Instant;

pub use self::measure::{Measure, Timing};
use crate::error::Result;
use crate::kernels::Form;
use crate::program::choices::Choices;
use crate::program::{Call, Program};

/// Host data to be written into a persistent buffer. Floats are converted to the engine's own
/// float.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Data<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
    U8(&'a [u8]),
}

impl Data<'_> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(d) => d.len(),
            Data::F64(d) => d.len(),
            Data::U32(d) => d.len(),
            Data::U8(d) => d.len(),
        }
    }

    /// Without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A program that an engine has taken in; valid only for that engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loaded(pub(crate) usize);

/// A device that runs programs.
///
/// Persistent buffers belong to the engine and are shared between programs by name; all memory
/// starts as zeros.
pub trait Engine {
    /// Takes in a program: allocates what is missing, compiles and binds everything, so that
    /// running does none of it.
    ///
    /// # Errors
    /// A persistent buffer exists with another size or type, or the device can't hold the program
    /// ([`Error::TooLarge`](crate::error::Error::TooLarge)); the engine is then as it was before.
    fn load(&mut self, program: &Program) -> Result<Loaded>;

    /// Forgets all programs and buffers, so that another model can be loaded; what is compiled for
    /// the device is kept.
    fn clear(&mut self);

    /// Overwrites a persistent buffer, all replicas.
    ///
    /// # Errors
    /// There is no buffer of this name, or `data` has not exactly its length and type.
    fn write(&mut self, name: &str, data: Data) -> Result<()>;

    /// Overwrites these replicas of the persistent float buffer `to` with those of `from`, on the
    /// device: after all runs before it, and before all that follow.
    ///
    /// # Errors
    /// There is no such buffer, the two are one or of different shapes, or they have no such
    /// replica.
    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()>;

    /// Waits for the device and reads a persistent float buffer, all replicas.
    ///
    /// # Errors
    /// There is no such buffer; a device error, also of an earlier run.
    fn read(&mut self, name: &str) -> Result<Vec<f64>>;

    /// [`Engine::read`], rounded to f32.
    ///
    /// # Errors
    /// As [`Engine::read`].
    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>>;

    /// Runs the program once for each step, in order. Work may still be under way when this
    /// returns.
    ///
    /// # Errors
    /// A device error; one of this run may surface at a later call.
    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()>;

    /// Waits for all work.
    ///
    /// # Errors
    /// A device error of an earlier run.
    fn wait(&mut self) -> Result<()>;

    /// The engine as something to be measured.
    fn measure(&mut self) -> &mut dyn Measure;

    /// The engine as something that has variants of kernels, if it has any.
    fn tunable(&mut self) -> Option<&mut dyn Tunable> {
        None
    }

    /// The device, for people.
    fn description(&self) -> String;

    /// The tuned plan that it uses (see [`tuned`]), for people. No number depends on it.
    fn plan(&self) -> Option<String> {
        None
    }

    /// What [`crate::program::Options::form`] should be for this device.
    fn form(&self) -> Form;
}

/// An engine that has variants of kernels, of which the fastest can be found by measuring.
pub trait Tunable: Engine {
    /// Names of the variants of a call that this device can run. The first is the one that it runs
    /// where nothing else is chosen; the reference is among them.
    fn variants(&self, program: &Program, call: &Call) -> Vec<&'static str>;

    /// The variant that a call runs in if its program is loaded now.
    fn variant(&self, program: &Program, call: &Call) -> &'static str;

    /// What is loaded from now on runs in this variant where it can, whatever is chosen; `None`: as
    /// chosen.
    fn force(&mut self, variant: Option<&'static str>);

    /// What is loaded from now on runs in these variants, and calls without a choice in the default.
    fn choose(&mut self, choices: Choices);

    /// Seconds, by the host's clock, in which these steps of a program are run `times` times and
    /// waited for.
    ///
    /// # Errors
    /// A device error.
    fn time_steps(&mut self, program: Loaded, steps: Range<u32>, times: usize) -> Result<f64> {
        let start = Instant::now();
        (0..times).try_for_each(|_| self.run(program, steps.clone()))?;
        self.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }
}
