//! Finding the fastest variant of every kernel on a device.
//!
//! Each distinct call of a training step and of scoring is a race between the variants of its
//! kernel ([`race`]): one that gives other bits than the reference is out before anything is timed,
//! and the default takes part. What wins is only kept if a whole step is faster with it ([`step`]).
//! Nothing here changes a number: how sums are split belongs to the program, not to a variant.

pub mod gain;
pub mod race;
pub mod step;
pub mod text;

use serde::{Deserialize, Serialize};

use self::race::Race;
use self::step::Trial;
use crate::bench::kernels::{groups, programs};
use crate::bench::verify::one_call;
use crate::bench::{GoOn, Sizes};
use crate::engine::Tunable;
use crate::error::Result;
use crate::program::choices::{Choice, Choices, identity};
use crate::program::{Call, Program};

/// How long is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effort {
    /// Samples of each variant.
    pub samples: usize,
    /// Seconds after which a kernel or a step ends with the samples that it has, [`LEAST`] at least.
    pub limit: f64,
}

/// Fewer samples say nothing of their error.
pub const LEAST: usize = 3;

impl Effort {
    /// Whether so many samples that took so many seconds are enough, where `wanted` were wanted.
    fn enough(&self, samples: usize, wanted: usize, seconds: f64) -> bool {
        samples >= LEAST && (samples >= wanted || seconds >= self.limit)
    }
}

/// What was found at one size.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Batch, channels and models.
    pub sizes: Sizes,
    /// The kernels that have a choice.
    pub races: Vec<Race>,
    /// The training step, then scoring.
    pub trials: Vec<Trial>,
    /// What is kept.
    pub choices: Choices,
}

/// What all sizes choose together. Where they disagree, the earlier one has it.
pub fn choices(found: &[Found]) -> Choices {
    let mut all: Vec<Choice> = vec![];
    for choice in found.iter().flat_map(|found| &found.choices.0) {
        if !all.iter().any(|known| known.is_for(choice)) {
            all.push(choice.clone());
        }
    }
    Choices(all)
}

/// What is measured, and who hears of it.
pub struct Watch<'a> {
    /// Asked before every measurement.
    pub go_on: GoOn<'a>,
    /// Hears of everything that was measured.
    pub tell: &'a dyn Fn(&str),
}

/// Finds the fastest variants at a size. A kernel that `before` has at another size, with as many
/// models, is not measured again.
///
/// # Errors
/// Sizes that no model has; a default variant that computes something else than the reference
/// ([`Error::Verification`](crate::error::Error::Verification)); a device error, no memory; that of
/// `go_on`.
pub fn tune(
    engine: &mut dyn Tunable,
    sizes: Sizes,
    effort: Effort,
    before: &[Found],
    watch: &Watch,
) -> Result<Found> {
    let programs = programs(sizes, engine.form())?;
    let mut races: Vec<Race> = vec![];
    // The smallest work first: a device that ends long work by itself meets that last.
    let mut calls = open_calls(engine, &programs);
    calls.sort_by_key(|(program, call)| call.cost(program).flops);
    compile(engine, &programs, &calls, watch.go_on)?;
    for (i, (program, call)) in calls.iter().enumerate() {
        (watch.go_on)()?;
        let id = identity(&call.kernel);
        let known = before.iter().flat_map(|found| &found.races);
        let known = known.filter(|race| race.replicas == sizes.replicas).find(|race| race.id == id);
        let race = match known {
            Some(race) => race.clone(),
            None => Race::run(engine, &one_call(program, call), effort, watch.go_on)?,
        };
        (watch.tell)(&format!("kernel {} of {}: {}", i + 1, calls.len(), race.line()));
        races.push(race);
    }
    let won: Vec<Choice> = races.iter().filter_map(Race::choice).collect();
    let (mut kept, mut decided) = (Choices::default(), vec![]);
    let mut trials = vec![];
    for program in &programs {
        (watch.go_on)()?;
        let ids: Vec<String> = program.calls.iter().map(|call| identity(&call.kernel)).collect();
        let own: Vec<&Choice> = won.iter().filter(|choice| ids.contains(&choice.id)).collect();
        let new = own.iter().filter(|choice| !decided.contains(&choice.id));
        let tried = Choices(kept.0.iter().chain(new.copied()).cloned().collect());
        let trial = if own.is_empty() {
            Trial::none(program, "no variant beats the default")
        } else if !own.iter().any(|choice| tried.0.contains(choice)) {
            Trial::none(program, "its kernels are those of the step before")
        } else {
            Trial::run(engine, program, sizes, &tried, effort, watch.go_on)?
        };
        (watch.tell)(&trial.line());
        if trial.faster {
            kept = tried;
        }
        decided.extend(own.into_iter().map(|choice| choice.id.clone()));
        trials.push(trial);
    }
    engine.clear();
    engine.choose(Choices::default());
    Ok(Found { sizes, races, trials, choices: kept })
}

/// The distinct calls of all programs that have a choice of variants.
fn open_calls<'p>(engine: &dyn Tunable, programs: &'p [Program]) -> Vec<(&'p Program, &'p Call)> {
    let mut calls: Vec<(&Program, &Call)> = vec![];
    for program in programs {
        for group in groups(program) {
            let known = calls.iter().any(|(_, call)| call.kernel == group.call.kernel);
            if !known && engine.variants(program, group.call).len() > 1 {
                calls.push((program, group.call));
            }
        }
    }
    calls
}

/// Has all variants compiled on all cores, as the engine does for a program: one after the other,
/// as the races load them, it would take many times as long.
fn compile(
    engine: &mut dyn Tunable,
    programs: &[Program],
    calls: &[(&Program, &Call)],
    go_on: GoOn,
) -> Result<()> {
    let variants: Vec<_> =
        calls.iter().map(|(program, call)| engine.variants(program, call)).collect();
    for i in 0..variants.iter().map(Vec::len).max().unwrap_or(0) {
        let choice = |((program, call), names): (&(&Program, &Call), &Vec<&str>)| {
            Some(Choice::new(&call.kernel, program.replicas, names.get(i)?))
        };
        let choices = Choices(calls.iter().zip(&variants).filter_map(choice).collect());
        for program in programs {
            go_on()?;
            engine.clear();
            engine.choose(choices.clone());
            // What doesn't compile is told, by name, in its race.
            let _ = engine.load(program);
        }
    }
    Ok(())
}
