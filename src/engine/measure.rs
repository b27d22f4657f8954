//! What measures a device: its programs call by call, and what it can do at best. Policy (how many
//! samples, which statistics) is the caller's; here is one measurement.

use serde::{Deserialize, Serialize};

use super::Loaded;
use crate::error::Result;

/// What a time was measured with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timing {
    /// Timestamps that the device wrote.
    Device,
    /// The host's clock around work that was waited for.
    Wall,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Span {
    /// Of all repetitions together.
    pub seconds: f64,
    /// The clock.
    pub clock: Timing,
}

/// What one repetition of a [`Probe`] does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Work {
    /// Floating-point operations; a multiply-add counts two.
    Flops(f64),
    /// Bytes read and written.
    Bytes(f64),
    /// Nothing but itself: its time is the result.
    Once,
}

/// What a probe says of every kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roof {
    /// No kernel computes faster.
    Compute,
    /// No kernel whose operands have at least this many bytes moves them faster: those of fewer may
    /// lie in a faster memory. 0 for the fastest.
    Memory(u64),
    /// No kernel takes less time.
    Launch,
}

/// Something that a device can be asked to do as fast as it can.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    /// For people and to pair measurements: `fma vec4`, `read DRAM`.
    pub name: String,
    /// How much and of what.
    pub shape: String,
    /// What one repetition does.
    pub work: Work,
    /// The limit that it measures, if kernels have it.
    pub roof: Option<Roof>,
    /// Why it can't be measured here.
    pub missing: Option<String>,
}

/// A device in words that can be compared.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The adapter's name, or what the CPU is called.
    pub name: String,
    /// Vulkan, Metal, Dx12 or cpu.
    pub backend: String,
    /// Driver and version, or the instruction set of the CPU engine.
    pub driver: String,
    /// discrete GPU, integrated GPU, virtual GPU, software, other or cpu.
    pub kind: String,
    /// Threads of the CPU engine; 0 on a GPU.
    pub threads: usize,
}

/// An engine as something to be measured.
pub trait Measure {
    /// Runs call number `call` of a loaded program at `step`, `times` times one after the other.
    /// What the program updates is not meaningful afterwards.
    ///
    /// # Errors
    /// A device error.
    fn time_call(&mut self, program: Loaded, call: usize, step: u32, times: u32) -> Result<Span>;

    /// Overwrites more memory than the device's caches hold, and waits.
    ///
    /// # Errors
    /// A device error; no memory for it.
    fn flush_caches(&mut self) -> Result<()>;

    /// What this device can be asked for; the same list for as long as it is open.
    ///
    /// # Errors
    /// A device error.
    fn probes(&mut self) -> Result<Vec<Probe>>;

    /// Runs number `probe` of [`Measure::probes`] `times` times, one after the other; checks its
    /// result the first time.
    ///
    /// # Errors
    /// A device error, a wrong result ([`Error::Verification`](crate::error::Error::Verification)).
    ///
    /// # Panics
    /// It is missing here.
    fn time_probe(&mut self, probe: usize, times: u32) -> Result<Span>;

    /// The device.
    fn facts(&self) -> Facts;
}

/// A measurement repeats until it takes this long, in seconds: clocks have ticks.
const LONG_ENOUGH: f64 = 1e-3;

/// Most repetitions in one measurement.
const MAX_REPEATS: u32 = 1 << 12;

/// How often something has to be repeated to be measurable. Also its warm-up: the first run may
/// still compile.
///
/// # Errors
/// That of `measure`.
pub fn repeats(mut measure: impl FnMut(u32) -> Result<Span>) -> Result<u32> {
    measure(1)?;
    let mut times = 1;
    while measure(times)?.seconds < LONG_ENOUGH && times < MAX_REPEATS {
        times *= 4;
    }
    Ok(times)
}

/// Seconds of every one of the first `calls` calls of a program at `step`, each the least of
/// `samples` measurements, and what measured them.
///
/// # Errors
/// A device error.
pub fn time_calls(
    device: &mut dyn Measure,
    program: Loaded,
    calls: usize,
    step: u32,
    samples: usize,
) -> Result<(Vec<f64>, Timing)> {
    let mut least = vec![f64::INFINITY; calls];
    let mut clock = Timing::Device;
    let mut times = vec![];
    for call in 0..calls {
        times.push(repeats(|times| device.time_call(program, call, step, times))?);
    }
    for _ in 0..samples.max(1) {
        for (call, least) in least.iter_mut().enumerate() {
            let span = device.time_call(program, call, step, times[call])?;
            *least = least.min(span.seconds / f64::from(times[call]));
            if span.clock == Timing::Wall {
                clock = Timing::Wall;
            }
        }
    }
    Ok((least, clock))
}
