//! One kernel call in all its variants: verified against the reference, then timed in turns.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Effort;
use super::gain::Gain;
use crate::bench::stats::Summary;
use crate::bench::verify::{SENTINEL, STEP, ranges};
use crate::bench::{GoOn, noise};
use crate::engine::measure::{Timing, repeats};
use crate::engine::{Data, Engine, Loaded, Tunable};
use crate::error::{Error, Result};
use crate::kernels::{Access, Element, REFERENCE};
use crate::program::choices::{Choice, Choices, identity};
use crate::program::{Buffer, Program};

/// A variant that takes so many times as long as the default is timed no further.
const HOPELESS: f64 = 3.0;

/// A kernel with its parameters, and how its variants did.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Race {
    /// The kernel.
    pub kernel: String,
    /// Its sizes and fused parts, for people.
    pub shape: String,
    /// What it computes for the model, for people.
    pub label: String,
    /// [`identity`] of the kernel.
    pub id: String,
    /// Models that run at once.
    pub replicas: usize,
    /// The clock, where something was timed.
    pub clock: Option<Timing>,
    /// The default first.
    pub variants: Vec<Runner>,
    /// The variant that beats the default, if one does.
    pub winner: Option<String>,
}

/// A variant in a race.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Runner {
    /// Its name.
    pub variant: String,
    /// Microseconds of a run, in turns with the others.
    pub us: Option<Summary>,
    /// How many times as long as the default it takes, if so many that it was not timed further.
    pub times_default: Option<f64>,
    /// Why it is not to be used: it doesn't compile, or gives other bits than the reference.
    pub failure: Option<String>,
}

impl Race {
    /// Runs the only call of `program`, over buffers that the host can read and write, in all its
    /// variants.
    ///
    /// # Errors
    /// The default variant gives other bits than the reference; a device error, no memory; that of
    /// `go_on`.
    pub fn run(
        engine: &mut dyn Tunable,
        program: &Program,
        effort: Effort,
        go_on: GoOn,
    ) -> Result<Race> {
        let call = &program.calls[0];
        let (kernel, replicas) = (&call.kernel, program.replicas);
        let names = engine.variants(program, call);
        engine.clear();
        let mut load = |variant: &str| {
            engine.choose(Choices(vec![Choice::new(kernel, replicas, variant)]));
            engine.load(program)
        };
        let reference = load(REFERENCE)?;
        let loaded: Vec<Result<Loaded>> = names.iter().map(|name| load(name)).collect();
        let operands = operands(program);
        for (operand, buffer) in operands.iter().zip(&program.buffers) {
            operand.write(engine, &buffer.name)?;
        }
        let want = results(engine, program, reference, &operands)?;
        let (mut runners, mut running) = (vec![], vec![]);
        for (&name, loaded) in names.iter().zip(loaded) {
            go_on()?;
            let verdict = match loaded {
                Err(e) => Err(e.to_string()),
                Ok(loaded) => verify(engine, program, loaded, (&operands, &want))?.map(|()| loaded),
            };
            let failure = match verdict {
                Ok(loaded) => {
                    running.push((runners.len(), loaded, vec![]));
                    None
                }
                Err(why) if runners.is_empty() => {
                    return Err(Error::Verification(format!(
                        "{}: the default variant '{name}' of {} {} fails: {why}",
                        engine.description(),
                        kernel.name(),
                        kernel.family().description()
                    )));
                }
                Err(why) => Some(why),
            };
            let variant = name.to_string();
            runners.push(Runner { variant, us: None, times_default: None, failure });
        }
        let clock = time(engine, &mut running, &mut runners, effort, go_on)?;
        let winner = best(&running).map(|place| runners[place].variant.clone());
        for (place, _, samples) in running {
            runners[place].us = (!samples.is_empty()).then(|| Summary::of(samples));
        }
        Ok(Race {
            kernel: kernel.name().to_string(),
            shape: kernel.family().description(),
            label: call.label.clone(),
            id: identity(kernel),
            replicas,
            clock,
            variants: runners,
            winner,
        })
    }

    /// What the race chooses, if anything.
    pub fn choice(&self) -> Option<Choice> {
        let Race { kernel, shape, id, replicas, winner, .. } = self.clone();
        Some(Choice { kernel, sizes: shape, id, replicas, variant: winner? })
    }
}

/// A variant that is timed: its place, the call, samples in microseconds.
type Running = (usize, Loaded, Vec<f64>);

/// Times variants in turns, the first of which is the default.
fn time(
    engine: &mut dyn Tunable,
    running: &mut Vec<Running>,
    runners: &mut [Runner],
    effort: Effort,
    go_on: GoOn,
) -> Result<Option<Timing>> {
    if running.len() < 2 {
        return Ok(None);
    }
    let device = engine.measure();
    let mut least = |loaded: Loaded| -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            go_on()?;
            least = least.min(device.time_call(loaded, 0, STEP, 1)?.seconds);
        }
        Ok(least)
    };
    let default = least(running[0].1)?;
    let mut hopeful = vec![];
    for (place, loaded, samples) in running.drain(..) {
        let seconds = if place == 0 { default } else { least(loaded)? };
        if seconds <= HOPELESS * default {
            hopeful.push((place, loaded, samples));
        } else {
            runners[place].times_default = Some(seconds / default);
        }
    }
    *running = hopeful;
    // As many for all, so that what a submission costs is the same part of each sample.
    let times = repeats(|times| device.time_call(running[0].1, 0, STEP, times))?;
    let (start, mut rounds, mut clock) = (Instant::now(), 0, Timing::Device);
    while running.len() > 1 && !effort.enough(rounds, effort.samples, start.elapsed().as_secs_f64())
    {
        for (_, loaded, samples) in running.iter_mut() {
            go_on()?;
            let span = device.time_call(*loaded, 0, STEP, times)?;
            if span.clock == Timing::Wall {
                clock = Timing::Wall;
            }
            samples.push(span.seconds * 1e6 / f64::from(times));
        }
        rounds += 1;
    }
    Ok((rounds > 0).then_some(clock))
}

/// The place of the fastest variant that is clearly faster than the default.
fn best(running: &[Running]) -> Option<usize> {
    let (_, _, default) = running.first()?;
    let median = |samples: &[f64]| Summary::of(samples.to_vec()).median;
    let timed = running[1..].iter().filter(|(_, _, samples)| !samples.is_empty());
    let faster = timed.filter(|(_, _, samples)| Gain::of(default, samples).is_notable());
    let fastest = faster.min_by(|a, b| median(&a.2).total_cmp(&median(&b.2)));
    fastest.map(|(place, _, _)| *place)
}

/// What a buffer holds before a run.
enum Operand {
    Floats(Vec<f32>),
    Indices(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Operand {
    fn write(&self, engine: &mut dyn Engine, name: &str) -> Result<()> {
        let data = match self {
            Operand::Floats(values) => Data::F32(values),
            Operand::Indices(values) => Data::U32(values),
            Operand::Bytes(values) => Data::U8(values),
        };
        engine.write(name, data)
    }
}

/// For each buffer of a program pseudo-random numbers, and sentinels where there will be results.
fn operands(program: &Program) -> Vec<Operand> {
    let call = &program.calls[0];
    let operand = |(i, buffer): (usize, &Buffer)| {
        let total = buffer.total(program.replicas).unwrap_or_default();
        match buffer.element {
            Element::U8 => Operand::Bytes(noise(total)),
            // The one index that is right everywhere.
            Element::U32 => Operand::Indices(vec![0; total]),
            Element::Float | Element::Half => {
                let mut values = floats(total, i as u64);
                for (view, binding) in call.args.iter().zip(call.kernel.bindings()) {
                    for range in ranges(program, view).filter(|_| view.buffer == i) {
                        let values = &mut values[range];
                        match binding.access {
                            Access::Read => {}
                            Access::Write => values.fill(SENTINEL),
                            // Such as Adam's second moments, which have a root.
                            Access::Update => values.iter_mut().for_each(|v| *v = v.abs()),
                        }
                    }
                }
                Operand::Floats(values)
            }
        }
    };
    program.buffers.iter().enumerate().map(operand).collect()
}

/// Pseudo-random numbers from -1 to 1 (SplitMix64). They use all bits of a float, so that a sum in
/// another order is another sum.
fn floats(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let draw = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let v = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (v >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(draw).collect()
}

/// What a call makes of the same operands each time: a list for each binding that it writes.
fn results(
    engine: &mut dyn Engine,
    program: &Program,
    loaded: Loaded,
    operands: &[Operand],
) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let call = &program.calls[0];
    let written = call.args.iter().zip(call.kernel.bindings());
    let written = written.filter(|(_, binding)| binding.access != Access::Read);
    let written: Vec<_> = written.map(|(view, binding)| (view.buffer, binding.name)).collect();
    for (buffer, _) in &written {
        operands[*buffer].write(engine, &program.buffers[*buffer].name)?;
    }
    engine.run(loaded, STEP..STEP + 1)?;
    let mut read = |(buffer, name): &(usize, &'static str)| {
        Ok((*name, engine.read_f32(&program.buffers[*buffer].name)?))
    };
    written.iter().map(&mut read).collect()
}

/// Whether a variant gives the reference's bits, all finite, twice; or what it gives.
fn verify(
    engine: &mut dyn Engine,
    program: &Program,
    loaded: Loaded,
    (operands, want): (&[Operand], &[(&'static str, Vec<f32>)]),
) -> Result<std::result::Result<(), String>> {
    for _ in 0..2 {
        let got = results(engine, program, loaded, operands)?;
        for ((name, got), (_, want)) in got.iter().zip(want) {
            if let Err(why) = same_bits(got, want) {
                return Ok(Err(format!("{name}{why}")));
            }
        }
    }
    Ok(Ok(()))
}

/// Whether two lists have the same bits and only finite numbers, or where they don't.
fn same_bits(got: &[f32], want: &[f32]) -> std::result::Result<(), String> {
    if got.len() != want.len() {
        return Err(format!(" has {} elements, expected {}", got.len(), want.len()));
    }
    let differs = |(got, want): (&f32, &f32)| got.to_bits() != want.to_bits() || !got.is_finite();
    let wrong = got.iter().zip(want).filter(|&pair| differs(pair)).count();
    match got.iter().zip(want).position(differs) {
        None => Ok(()),
        Some(i) => Err(format!(
            "[{i}] is {:e}, expected the reference's {:e} ({wrong} of {} elements differ)",
            got[i],
            want[i],
            got.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_differ_are_told_and_nan_is_no_agreement() {
        let want = [1.0, -0.0, 3.5];
        assert_eq!(same_bits(&want, &want), Ok(()));
        for (got, says) in [
            ([1.0, 0.0, 3.5], "[1] is 0e0, expected the reference's -0e0 (1 of 3"),
            ([1.0f32.next_up(), -0.0, 3.0], "[0] is 1.0000001e0, expected the reference's 1e0 (2"),
        ] {
            let why = same_bits(&got, &want).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        assert!(same_bits(&[f32::NAN], &[f32::NAN]).is_err());
        assert!(same_bits(&[1.0], &want).unwrap_err().contains("1 elements, expected 3"));
    }

    #[test]
    fn the_fastest_of_those_that_are_clearly_faster_wins() {
        let samples = |us: f64| vec![us, us + 0.01, us - 0.01];
        let running = |all: &[f64]| -> Vec<Running> {
            all.iter().enumerate().map(|(i, &us)| (2 * i, Loaded(i), samples(us))).collect()
        };
        assert_eq!(best(&running(&[10.0, 9.0, 8.0, 9.5])), Some(4));
        assert_eq!(best(&running(&[10.0, 9.9, 11.0])), None, "1 % is not enough");
        assert_eq!(best(&running(&[10.0])), None);
        assert_eq!(best(&[]), None);
    }
}
