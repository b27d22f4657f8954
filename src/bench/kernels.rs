//! Every distinct call of a training step and of a scoring, at the model's shapes: verified, then
//! timed warm and cold, and set against the device's peaks.

use super::peaks::Peaks;
use super::record::{Among, Cache, KernelRow, Kind, Row, StepRow, Unit};
use super::stats::{Stop, Summary};
use super::verify::{Oracle, STEP, STEPS, feed};
use super::{GoOn, Sizes};
use crate::engine::measure::{Timing, repeats};
use crate::engine::{Engine, Loaded};
use crate::error::{Error, Result};
use crate::kernels::Form;
use crate::method::programs::{score_program, training_program};
use crate::program::{Call, Program};

/// What is measured, and how long.
pub struct Plan<'a> {
    /// Names of kernels, with `*` and `?`.
    pub glob: &'a str,
    /// When a row has samples enough.
    pub stop: Stop,
    /// With empty caches, too.
    pub cold: bool,
    /// In every variant that the device can run, not only in the one that it does run.
    pub variants: bool,
    /// The device's, for what a kernel achieves of them.
    pub peaks: &'a Peaks,
    /// Asked before every row.
    pub go_on: GoOn<'a>,
}

/// How far the FMA peak may be from where it was before a row, as a part of it.
const STEADY: f64 = 0.03;

/// Calls of a step that are the same but for their operands.
pub(crate) struct Group<'p> {
    pub call: &'p Call,
    pub shape: String,
    pub count: usize,
}

/// The distinct calls of a program, in order.
pub(crate) fn groups(program: &Program) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = vec![];
    for call in &program.calls {
        match groups.iter_mut().find(|group| group.call.kernel == call.kernel) {
            Some(group) => group.count += 1,
            None => {
                // Two kernels may be the same to people, but a row is found again by its shape.
                let (name, details) = (call.kernel.name(), call.kernel.family().description());
                let alike = |g: &&Group| {
                    g.call.kernel.name() == name && g.call.kernel.family().description() == details
                };
                let shape = match groups.iter().filter(alike).count() {
                    0 => details,
                    others => format!("{details} #{}", others + 1),
                };
                groups.push(Group { call, shape, count: 1 });
            }
        }
    }
    groups
}

/// The programs that are measured.
///
/// # Errors
/// Sizes that no model has.
pub(crate) fn programs(sizes: Sizes, form: Form) -> Result<[Program; 2]> {
    let (model, options, config) = (sizes.model()?, sizes.options(form), sizes.config());
    Ok([
        training_program(&model, &config, sizes.batch * STEPS, STEPS, options),
        score_program(&model, sizes.batch, STEPS, options),
    ])
}

/// Measures the kernels of both programs that the plan names, and adds them to `rows`, which has
/// what was measured also where it ends with an error. A kernel that is wrong has no value, and a
/// note that says so.
///
/// # Errors
/// The plan names no kernel; sizes that no model has; a device error, no memory; that of `go_on`.
pub fn measure(
    engine: &mut dyn Engine,
    sizes: Sizes,
    plan: &Plan,
    rows: &mut Vec<Row>,
) -> Result<()> {
    check(plan.glob, sizes, engine.form())?;
    let programs = programs(sizes, engine.form())?;
    for program in &programs {
        let named = |group: &&Group| matches(plan.glob, group.call.kernel.name());
        let groups = groups(program);
        if !groups.iter().any(|group| named(&group)) {
            continue;
        }
        let step = step_row(engine, program, sizes, plan.stop)?;
        let step_us = step.median();
        rows.push(step);
        let mut oracle = Oracle::new(program, sizes)?;
        for call in &program.calls {
            (plan.go_on)()?;
            let first = |group: &&Group| std::ptr::eq(group.call, call);
            let Some(group) = groups.iter().filter(named).find(first) else {
                oracle.run(call)?;
                continue;
            };
            let from = rows.len();
            for runner in runners(engine, program, call, plan.variants) {
                if runner.among.is_some() {
                    (plan.go_on)()?;
                    force(engine, runner.variant);
                }
                let measured = (|| {
                    let (loaded, verdict) = verify(&mut oracle, engine, call, &runner)?;
                    let row = about(program, group, sizes, &runner, &verdict);
                    let Some(loaded) = loaded.filter(|_| verdict.is_ok()) else {
                        rows.push(row);
                        return Ok(());
                    };
                    for cache in [Cache::Warm, Cache::Cold] {
                        if cache == Cache::Warm || plan.cold {
                            rows.push(timed(engine, loaded, row.clone(), cache, (plan, step_us))?);
                        }
                    }
                    Ok(())
                })();
                force(engine, None);
                measured?;
            }
            mark_fastest(&mut rows[from..]);
        }
    }
    engine.clear();
    Ok(())
}

/// A way to run a call.
struct Runner {
    /// Its name, where the engine has variants.
    variant: Option<&'static str>,
    /// Its place among several that are measured.
    among: Option<Among>,
}

/// In which variants a call is measured: all of them, the default first, or the one that it runs in.
fn runners(engine: &mut dyn Engine, program: &Program, call: &Call, all: bool) -> Vec<Runner> {
    let Some(tunable) = engine.tunable() else {
        return vec![Runner { variant: None, among: None }];
    };
    let (runs, names) = (tunable.variant(program, call), tunable.variants(program, call));
    if !all || names.len() < 2 {
        return vec![Runner { variant: Some(runs), among: None }];
    }
    let runner = |(place, name): (usize, &'static str)| {
        let among = Among { default: place == 0, runs: name == runs, fastest: false };
        Runner { variant: Some(name), among: Some(among) }
    };
    names.into_iter().enumerate().map(runner).collect()
}

fn force(engine: &mut dyn Engine, variant: Option<&'static str>) {
    if let Some(tunable) = engine.tunable() {
        tunable.force(variant);
    }
}

/// [`Oracle::verify`]; of several variants, one that can't be loaded is wrong and no error, as long
/// as the device works.
fn verify(
    oracle: &mut Oracle,
    engine: &mut dyn Engine,
    call: &Call,
    runner: &Runner,
) -> Result<(Option<Loaded>, std::result::Result<f64, String>)> {
    match oracle.verify(call, engine) {
        Ok((loaded, verdict)) => Ok((Some(loaded), verdict)),
        Err(e) if runner.among.is_some() && engine.wait().is_ok() => {
            // What follows needs its results.
            oracle.run(call)?;
            Ok((None, Err(e.to_string())))
        }
        Err(e) => Err(e),
    }
}

/// Marks the variant with the least time, of the rows of one call.
fn mark_fastest(rows: &mut [Row]) {
    let warm = rows.iter().filter(|row| row.cache == Some(Cache::Warm));
    let timed = warm.filter_map(|row| Some((row.median()?, row.kernel.as_ref()?.variant.clone())));
    let Some((_, fastest)) = timed.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
    for kernel in rows.iter_mut().filter_map(|row| row.kernel.as_mut()) {
        let is_it = kernel.variant == fastest;
        if let Some(among) = &mut kernel.among {
            among.fastest = is_it;
        }
    }
}

/// What is known of a kernel before it is timed.
fn about(
    program: &Program,
    group: &Group,
    sizes: Sizes,
    runner: &Runner,
    verdict: &std::result::Result<f64, String>,
) -> Row {
    let (kernel, cost) = (&group.call.kernel, group.call.cost(program));
    let mut launches = program.variants(group.call).into_iter();
    let launch = launches.find(|launch| Some(launch.variant) == runner.variant);
    let launch = launch.unwrap_or_else(|| kernel.family().launch());
    let [x, y] = launch.grid;
    let mut row = Row::new(Kind::Kernel, kernel.name(), &group.shape, Unit::Microseconds).at(sizes);
    row.program = program.name.clone();
    row.note = verdict.as_ref().err().map(|why| format!("wrong: {why}"));
    row.kernel = Some(KernelRow {
        label: group.call.label.clone(),
        count: group.count,
        verified: verdict.is_ok(),
        worst: verdict.as_ref().ok().copied(),
        flops: cost.flops,
        executed: kernel.family().products_of(&launch).map(|products| {
            cost.flops + 2 * (products.executed - products.useful) * program.replicas as u64
        }),
        bytes: cost.bytes,
        variant: runner.variant.map(str::to_string),
        among: runner.among,
        workgroups: u64::from(x) * u64::from(y) * program.replicas as u64,
        net_us: None,
        gflops: None,
        executed_gflops: None,
        gbytes: None,
        peak_percent: None,
        bound: None,
        share_percent: None,
    });
    row
}

/// The row with its time, in a step of `step_us`. A disturbed measurement is made once more.
fn timed(
    engine: &mut dyn Engine,
    loaded: Loaded,
    row: Row,
    cache: Cache,
    context: (&Plan, Option<f64>),
) -> Result<Row> {
    let first = timed_once(engine, loaded, row.clone(), cache, context)?;
    match first.disturbed {
        true => timed_once(engine, loaded, row, cache, context),
        false => Ok(first),
    }
}

fn timed_once(
    engine: &mut dyn Engine,
    loaded: Loaded,
    row: Row,
    cache: Cache,
    (plan, step_us): (&Plan, Option<f64>),
) -> Result<Row> {
    let device = engine.measure();
    let before = plan.peaks.reference(device)?;
    let times = match cache {
        Cache::Warm => repeats(|times| device.time_call(loaded, 0, STEP, times))?,
        Cache::Cold => 1,
    };
    let mut clock = Timing::Device;
    let value = plan.stop.sample(|| {
        if cache == Cache::Cold {
            device.flush_caches()?;
        }
        let span = device.time_call(loaded, 0, STEP, times)?;
        clock = span.clock;
        Ok(span.seconds * 1e6 / f64::from(times))
    })?;
    let after = plan.peaks.reference(device)?;
    let moved = before.zip(after).is_some_and(|(a, b)| (a - b).abs() > STEADY * a);
    let seconds = value.median * 1e-6;
    let mut row = Row { cache: Some(cache), disturbed: moved, ..row.measured(value, clock) };
    if let Some(kernel) = &mut row.kernel {
        let (flops, bytes) = (kernel.flops, kernel.bytes);
        kernel.gflops = (flops > 0).then(|| flops as f64 / seconds / 1e9);
        kernel.executed_gflops = kernel.executed.map(|all| all as f64 / seconds / 1e9);
        kernel.gbytes = Some(bytes as f64 / seconds / 1e9);
        if let Some(bound) = plan.peaks.bound(flops, bytes, cache == Cache::Cold) {
            kernel.peak_percent = Some(100.0 * bound.seconds / seconds);
            kernel.bound = Some(bound.name);
        }
        if cache == Cache::Warm {
            kernel.net_us = plan.peaks.gap_us(clock).map(|gap| (seconds * 1e6 - gap).max(0.0));
        }
        if cache == Cache::Warm && kernel.among.is_none_or(|among| among.runs) {
            let all = 100.0 * kernel.count as f64 * seconds * 1e6;
            kernel.share_percent = step_us.map(|step| all / step);
        }
    }
    Ok(row)
}

/// A whole step by the host's clock, work under way included as in a training.
fn step_row(engine: &mut dyn Engine, program: &Program, sizes: Sizes, stop: Stop) -> Result<Row> {
    engine.clear();
    let loaded = engine.load(program)?;
    feed(engine, &program.name, sizes)?;
    let mut steps = || {
        engine.run(loaded, 0..STEPS as u32)?;
        engine.wait()
    };
    steps()?;
    let value: Summary = stop.sample(|| {
        let start = std::time::Instant::now();
        steps()?;
        Ok(start.elapsed().as_secs_f64() * 1e6 / STEPS as f64)
    })?;
    let gflops = program.cost().flops as f64 / value.median / 1e3;
    let shape = sizes.of_step("a step");
    let mut row = Row::new(Kind::Step, &program.name, &shape, Unit::Microseconds).at(sizes);
    row.step = Some(StepRow::of(program, Some(gflops)));
    Ok(row.measured(value, Timing::Wall))
}

/// Errors unless a glob names some kernel of the programs that [`measure`] makes of these sizes for
/// a kind of device.
///
/// # Errors
/// It names none; the message lists those that there are. Sizes that no model has.
pub fn check(glob: &str, sizes: Sizes, form: Form) -> Result<()> {
    let programs = programs(sizes, form)?;
    let calls = programs.iter().flat_map(|program| &program.calls);
    let mut names: Vec<&str> = calls.map(|call| call.kernel.name()).collect();
    names.sort_unstable();
    names.dedup();
    if names.iter().any(|name| matches(glob, name)) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--kernels '{glob}' names no kernel of these steps, expected some of {} (* stands for any \
         characters, ? for one)",
        names.join(", ")
    )))
}

/// Whether a name is of the form of a glob.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    // The last star, and where the name goes on behind what it stands for.
    let mut star = None;
    while n < name.len() {
        match (glob.get(g), star) {
            (Some(b'*'), _) => {
                star = Some((g, n));
                g += 1;
            }
            (Some(&c), _) if c == b'?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            (_, Some((at, from))) => {
                star = Some((at, from + 1));
                g = at + 1;
                n = from + 1;
            }
            (_, None) => return false,
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (glob, name, matched) in [
            ("*", "conv_y", true),
            ("conv_*", "conv_y", true),
            ("conv_?", "conv_y", true),
            ("conv_?", "conv_", false),
            ("*_*m", "split_sum", true),
            ("*sum", "sum_to", false),
            ("sum*", "split_sum", false),
            ("**a*", "adam", true),
            ("", "adam", false),
            ("adam", "adam", true),
        ] {
            assert_eq!(matches(glob, name), matched, "{glob} and {name}");
        }
        // No pattern takes long.
        assert!(!matches(&"*?".repeat(1000), "image_grad"));
    }

    #[test]
    fn every_call_of_a_step_is_in_one_group() {
        let sizes = Sizes { batch: 16, ..Sizes::default() };
        for program in programs(sizes, Form::Parallel).unwrap() {
            let groups = groups(&program);
            assert_eq!(groups.iter().map(|g| g.count).sum::<usize>(), program.calls.len());
            let calls = [program.calls.clone(), program.calls.clone()].concat();
            let twice = Program { calls, ..program.clone() };
            let counts = |groups: &[Group]| groups.iter().map(|g| g.count).collect::<Vec<_>>();
            let doubled: Vec<usize> = counts(&groups).iter().map(|count| 2 * count).collect();
            assert_eq!(counts(&self::groups(&twice)), doubled);
            let mut keys: Vec<_> =
                groups.iter().map(|g| (g.call.kernel.name(), &g.shape)).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), groups.len(), "two rows would be one");
        }
    }
}
