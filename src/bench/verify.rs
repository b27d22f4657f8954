//! Whether a device computes what the f64 CPU engine does, call by call, before anything is timed.
//!
//! The f64 engine runs a whole program on random images, one call at a time and with every buffer
//! in sight. A call that is verified gets its operands from there, rounded to f32 on both sides; so
//! every kernel meets data of the kind that it meets in a run. What it overwrites holds a sentinel
//! before, and what lies around its results must not change.

use std::ops::Range;

use super::{Sizes, noise};
use crate::engine::{Data, Engine, Loaded, cpu};
use crate::error::Result;
use crate::kernels::{Access, Element};
use crate::method::feed::{Batches, Feed, source};
use crate::method::model::Init;
use crate::program::{Buffer, Call, Program, View};

/// Steps that a program must have been compiled for: one that brings parameters and moments in
/// motion, and [`STEP`].
pub const STEPS: usize = 2;

/// The step that is verified and timed.
pub const STEP: u32 = 1;

/// What results hold before: a number that half precision has, too.
pub(crate) const SENTINEL: f32 = -12344.0;

/// Writes random images, their order, parameters and references for a program of [`STEPS`] steps.
///
/// # Errors
/// The program `name` is not loaded, or has other sizes.
pub fn feed(engine: &mut dyn Engine, name: &str, sizes: Sizes) -> Result<()> {
    let (model, Sizes { batch, replicas, .. }) = (sizes.model()?, sizes);
    let images = batch * STEPS;
    let of = |replica: usize| model.init(Init::Kaiming, replica as u64);
    let params: Vec<f32> = (0..replicas).flat_map(of).collect();
    let reference = noise(replicas * model.reference_len());
    let reference: Vec<f32> = reference.iter().map(|&b| (f32::from(b) - 127.5) * 1e-5).collect();
    Feed::of(name, engine)
        .images(&noise(images * model.pixels()))?
        .batches(&Batches::in_order(images, batch, replicas))?
        .params(&params)?
        .reference(&reference)
        .map(drop)
}

/// The call alone, over buffers that the host can read and write.
pub(crate) fn one_call(program: &Program, call: &Call) -> Program {
    let mut used: Vec<usize> = call.args.iter().map(|view| view.buffer).collect();
    used.sort_unstable();
    used.dedup();
    let place = |buffer: usize| used.iter().position(|&b| b == buffer).unwrap_or_default();
    let args = call.args.iter().map(|view| View { buffer: place(view.buffer), ..*view });
    let call = Call { args: args.collect(), ..call.clone() };
    let visible = |&b: &usize| Buffer { persistent: true, ..program.buffers[b].clone() };
    let buffers = used.iter().map(visible).collect();
    Program { name: program.name.clone(), replicas: program.replicas, buffers, calls: vec![call] }
}

/// The f64 engine in the middle of a step.
pub struct Oracle<'p> {
    engine: Box<dyn Engine>,
    program: &'p Program,
    /// What no kernel writes: images and their order.
    bytes: (String, Vec<u8>),
    indices: (String, Vec<u32>),
}

impl<'p> Oracle<'p> {
    /// Has run a program of [`STEPS`] steps up to [`STEP`].
    ///
    /// # Errors
    /// No memory for it.
    pub fn new(program: &'p Program, sizes: Sizes) -> Result<Self> {
        let mut engine = cpu::f64();
        let visible = |b: &Buffer| Buffer { persistent: true, ..b.clone() };
        let buffers = program.buffers.iter().map(visible).collect();
        let loaded = engine.load(&Program { buffers, ..program.clone() })?;
        feed(engine.as_mut(), &program.name, sizes)?;
        engine.run(loaded, 0..STEP)?;
        let images = sizes.batch * STEPS;
        let from = source(&program.name, images, STEPS);
        let indices = Batches::in_order(images, sizes.batch, sizes.replicas).indices;
        let bytes = (from.data, noise(images * sizes.model()?.pixels()));
        Ok(Oracle { engine, program, bytes, indices: (from.indices, indices) })
    }

    /// Runs a call, unverified.
    ///
    /// # Errors
    /// That of the engine.
    pub fn run(&mut self, call: &Call) -> Result<()> {
        let loaded = self.engine.load(&one_call(self.program, call))?;
        self.engine.run(loaded, STEP..STEP + 1)
    }

    /// Gives a device the operands of a call, runs it on both sides and compares: the call on the
    /// device, and the worst difference as a part of what is allowed, or what is wrong.
    ///
    /// # Errors
    /// That of an engine.
    pub fn verify(
        &mut self,
        call: &Call,
        device: &mut dyn Engine,
    ) -> Result<(Loaded, std::result::Result<f64, String>)> {
        let program = one_call(self.program, call);
        let call = &program.calls[0];
        device.clear();
        let loaded = device.load(&program)?;
        for (i, buffer) in program.buffers.iter().enumerate() {
            match buffer.element {
                Element::Float | Element::Half => {
                    let mut values = self.engine.read_f32(&buffer.name)?;
                    for (view, binding) in call.args.iter().zip(call.kernel.bindings()) {
                        if view.buffer == i && binding.access == Access::Write {
                            let ranges = ranges(&program, view);
                            ranges.for_each(|range| values[range].fill(SENTINEL));
                        }
                    }
                    self.engine.write(&buffer.name, Data::F32(&values))?;
                    device.write(&buffer.name, Data::F32(&values))?;
                }
                Element::U8 => device.write(&self.bytes.0, Data::U8(&self.bytes.1))?,
                Element::U32 if buffer.name == self.indices.0 => {
                    device.write(&buffer.name, Data::U32(&self.indices.1))?;
                }
                // Seeds and iterations are zeros on both sides.
                Element::U32 => {}
            }
        }
        let here = self.engine.load(&program)?;
        self.engine.run(here, STEP..STEP + 1)?;
        device.run(loaded, STEP..STEP + 1)?;
        let mut worst = Ok(0.0f64);
        for (i, (view, binding)) in call.args.iter().zip(call.kernel.bindings()).enumerate() {
            if binding.access == Access::Read {
                continue;
            }
            let half = call.kernel.element(i) == Element::Half;
            let name = &program.buffers[view.buffer].name;
            let (got, want) = (device.read(name)?, self.engine.read(name)?);
            let inside: Vec<Range<usize>> = ranges(&program, view).collect();
            let found = compare(&got, &want, &inside, (terms(call), half));
            let found = found.map_err(|why| format!("{} {why}", binding.name));
            worst = worst.and_then(|worst| Ok(worst.max(found?)));
        }
        Ok((loaded, worst))
    }
}

/// Where a view lies in its buffer: once a replica.
pub(crate) fn ranges(program: &Program, view: &View) -> impl Iterator<Item = Range<usize>> + use<> {
    let buffer = &program.buffers[view.buffer];
    let (len, times) = (buffer.len, if buffer.replicated { program.replicas } else { 1 });
    let View { offset, len: elements, .. } = *view;
    (0..times).map(move |replica| replica * len + offset..replica * len + offset + elements)
}

/// Terms of a result's sum, on average.
pub(crate) fn terms(call: &Call) -> f64 {
    let results = call.args.iter().zip(call.kernel.bindings());
    let results = results.filter(|(_, binding)| binding.access != Access::Read);
    let elements: usize = results.map(|(view, _)| view.len).sum();
    (call.kernel.family().flops() as f64 / elements.max(1) as f64).max(1.0)
}

/// Compares two buffers: results in the ranges `inside`, each of so many terms, and nothing else
/// changed. Returns the worst difference as a part of what is allowed.
///
/// As in the tests of the kernels, f32 may differ by 3e-7 and 1e-7 more for each term where numbers
/// are about 1, so here of the largest result, and by 4e-6 of the result itself. Results in half
/// precision may be rounded to either side: by 2^-10 of themselves, or 2^-24.
///
/// # Errors
/// What is wrong, in words: lengths, a result that is no number or that nobody wrote, a difference,
/// a write elsewhere.
pub fn compare(
    got: &[f64],
    want: &[f64],
    inside: &[Range<usize>],
    (terms, half): (f64, bool),
) -> std::result::Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("has {} elements, expected {}", got.len(), want.len()));
    }
    let unwritten = f64::from(SENTINEL);
    let results = inside.iter().flat_map(|range| &want[range.clone()]);
    let largest =
        results.filter(|&&v| v != unwritten).fold(f64::NEG_INFINITY, |a, b| a.max(b.abs()));
    if largest == f64::NEG_INFINITY {
        return Err("has no result to compare".to_string());
    }
    let [unit, least] = if half { [-10f64, -24.0].map(f64::exp2) } else { [0.0; 2] };
    let absolute = (3e-7 + 1e-7 * terms) * largest + least;
    let (mut worst, mut wrong, mut first) = (0.0f64, 0, String::new());
    let mut at = 0;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        while inside.get(at).is_some_and(|range| range.end <= i) {
            at += 1;
        }
        let result = inside.get(at).is_some_and(|range| range.contains(&i)) && want != unwritten;
        let allowed = if result { absolute + (4e-6 + unit) * want.abs() } else { 0.0 };
        let difference = (got - want).abs();
        // Not `difference > allowed`: that is false for NaN.
        if difference <= allowed && want.is_finite() {
            worst = worst.max(if allowed > 0.0 { difference / allowed } else { 0.0 });
            continue;
        }
        if wrong == 0 {
            let place = if result { "" } else { ", outside of its results" };
            first = format!("[{i}] is {got:e}, expected {want:e} within {allowed:e}{place}");
        }
        wrong += 1;
    }
    match wrong {
        0 => Ok(worst),
        _ => Err(format!("{first} ({wrong} of {} elements are wrong)", got.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_data_are_told() {
        let want = [9.0, 1.0, -2.0, 0.5, f64::from(SENTINEL), 9.0];
        let inside = [1..3, 3..5];
        let with = |i: usize, v: f64| {
            let mut got = want;
            got[i] = v;
            compare(&got, &want, &inside, (10.0, false))
        };
        assert_eq!(compare(&want.clone(), &want, &inside, (10.0, false)), Ok(0.0));
        let allowed = (3e-7 + 1e-6) * 2.0 + 4e-6;
        let close = with(1, 1.0 + 0.5 * allowed).unwrap();
        assert!((close - 0.5).abs() < 1e-6, "{close}");
        for (i, v, says) in [
            (1, 1.0 + 1.1 * allowed, "[1] is 1.00"),
            (2, f64::NAN, "[2] is NaN, expected -2e0"),
            (3, f64::from(SENTINEL), "[3] is -1.2344e4"),
            (3, f64::INFINITY, "[3] is inf"),
            (0, 9.0 + 1e-6, "outside of its results"),
            (4, 0.0, "outside of its results"),
            (5, 8.0, "(1 of 6 elements are wrong)"),
        ] {
            let why = with(i, v).unwrap_err();
            assert!(why.contains(says), "{says}: {why}");
        }
        assert!(
            compare(&want[1..], &want, &inside, (1.0, false)).unwrap_err().contains("5 elements")
        );
        let nothing = [f64::from(SENTINEL); 3];
        assert!(
            compare(&nothing, &nothing, &[0..1, 1..3], (1.0, false))
                .unwrap_err()
                .contains("no result")
        );
        // In half precision a result may be its neighbour, and no further.
        let step = (-10f64).exp2();
        let off = |by: f64| compare(&[1.0 + by, 0.0], &[1.0, 0.0], &[0..1, 1..2], (1.0, true));
        assert!(off(step).unwrap() > 0.9 && off(1.1 * step).is_err());
        // NaN on both sides is no agreement.
        assert!(compare(&[f64::NAN, 1.0], &[f64::NAN, 1.0], &[0..1, 1..2], (1.0, false)).is_err());
    }
}
