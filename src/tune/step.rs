//! A whole step in the default variants and in chosen ones: the same bits, then timed in turns.
//!
//! A kernel alone finds its operands in a cache that the step has long overwritten, and next to
//! nothing that runs beside it. Only the step says whether a choice is one.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::gain::Gain;
use super::{Effort, LEAST};
use crate::bench::stats::Summary;
use crate::bench::verify::{STEPS, feed};
use crate::bench::{GoOn, Sizes};
use crate::engine::{Engine, Loaded, Tunable};
use crate::error::Result;
use crate::kernels::Element;
use crate::program::Program;
use crate::program::choices::Choices;

/// A sample takes at least so many seconds: a device has several steps under way in a training, too.
const LONG_ENOUGH: f64 = 0.02;

/// Samples of a step, for each of a kernel's: its differences are smaller.
const MORE: usize = 3;

/// A program's step with and without what the kernels' races chose.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The program: train or score.
    pub program: String,
    /// Microseconds of a step in the default variants.
    pub default_us: Option<Summary>,
    /// In the chosen ones.
    pub tuned_us: Option<Summary>,
    /// The chosen ones are faster, beyond noise.
    pub faster: bool,
    /// Why nothing was timed.
    pub note: Option<String>,
}

impl Trial {
    /// A step that is not timed, and why.
    pub fn none(program: &Program, why: &str) -> Trial {
        let (program, note) = (program.name.clone(), Some(why.to_string()));
        Trial { program, default_us: None, tuned_us: None, faster: false, note }
    }

    /// Runs the step in both.
    ///
    /// # Errors
    /// A device error, no memory; that of `go_on`.
    pub fn run(
        engine: &mut dyn Tunable,
        program: &Program,
        sizes: Sizes,
        tried: &Choices,
        effort: Effort,
        go_on: GoOn,
    ) -> Result<Trial> {
        let both = [Choices::default(), tried.clone()];
        let mut results = vec![];
        for choices in &both {
            go_on()?;
            engine.clear();
            engine.choose(choices.clone());
            let loaded = engine.load(program)?;
            feed(engine, &program.name, sizes)?;
            engine.run(loaded, 0..STEPS as u32)?;
            results.push(state(engine, program)?);
        }
        if results[0] != results[1] {
            let why = "failed: the step gives other bits in the chosen variants";
            return Ok(Trial::none(program, why));
        }
        engine.clear();
        let mut load = |choices: &Choices| {
            engine.choose(choices.clone());
            engine.load(program)
        };
        let loaded = [load(&both[0])?, load(&both[1])?];
        feed(engine, &program.name, sizes)?;
        let [default, tuned] = take_turns(engine, loaded, effort, go_on)?;
        let faster = Gain::of(&default, &tuned).is_sure();
        let [default_us, tuned_us] = [default, tuned].map(|samples| Some(Summary::of(samples)));
        let program = program.name.clone();
        Ok(Trial { program, default_us, tuned_us, faster, note: None })
    }

    /// What the chosen variants gain, where both were timed.
    pub fn gain(&self) -> Option<Gain> {
        let (default, tuned) = (self.default_us.as_ref()?, self.tuned_us.as_ref()?);
        Some(Gain::of(&default.samples, &tuned.samples))
    }
}

/// The bits of everything that a program leaves behind.
fn state(engine: &mut dyn Engine, program: &Program) -> Result<Vec<Vec<u32>>> {
    let kept = program.buffers.iter().filter(|b| b.persistent && b.element == Element::Float);
    kept.map(|buffer| Ok(engine.read_f32(&buffer.name)?.into_iter().map(f32::to_bits).collect()))
        .collect()
}

/// Microseconds of a step of two programs, in turns.
fn take_turns(
    engine: &mut dyn Tunable,
    loaded: [Loaded; 2],
    effort: Effort,
    go_on: GoOn,
) -> Result<[Vec<f64>; 2]> {
    let mut seconds = |loaded: Loaded, times: usize| {
        go_on()?;
        engine.time_steps(loaded, 0..STEPS as u32, times)
    };
    seconds(loaded[1], 1)?;
    seconds(loaded[0], 1)?;
    let times = (LONG_ENOUGH / seconds(loaded[0], 1)?).ceil().clamp(1.0, 1000.0) as usize;
    let (start, mut samples) = (Instant::now(), [vec![], vec![]]);
    let wanted = (MORE * effort.samples).max(LEAST);
    while !effort.enough(samples[0].len(), wanted, start.elapsed().as_secs_f64()) {
        // Who comes first has no advantage.
        let first = samples[0].len() % 2;
        for side in [first, 1 - first] {
            let us = seconds(loaded[side], times)? * 1e6 / (times * STEPS) as f64;
            samples[side].push(us);
        }
    }
    Ok(samples)
}
