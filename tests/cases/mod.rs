//! The case table: for every kernel, calls with awkward sizes. Twin tests, shader tests and
//! benchmarks read this one table.
//!
//! A [`Case`] is one kernel call with data for it. Sizes are pairwise different and no multiple of
//! a tile where that is possible, so that a swapped stride or a missing bound can't hide. Around
//! the data of every float buffer lie guards: NaN around what is read, [`SENTINEL`] around (and,
//! before the run, in) what is written.

#![allow(dead_code, unused_imports)] // each test and benchmark uses its own part

mod build;
mod data;
pub mod geometries;
mod tables;

use gradcon::Result;
use gradcon::engine::Engine;
use gradcon::kernels::batch::PADDING_IMAGE;
use gradcon::kernels::conv::Activation;
use gradcon::kernels::{Access, Batch, Constraint, Element, Kernel, Score};
use gradcon::layout::BINDING;
use gradcon::program::{Buffer, Call, Program, View};
use gradcon::tape::ops::Map;

use crate::common::{Tolerance, assert_close};
pub use data::{BROKEN_MODEL, SENTINEL, Style, Values, bits};
use data::{Content, IMAGES};
pub use tables::{benches, tests};

/// Steps of shared `[step, replica, ...]` buffers.
const STEPS: usize = 4;

/// How large an argument is, in elements.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Of one replica.
    Replicated(usize),
    /// Of all replicas together.
    Shared(usize),
    /// `[STEPS, replicas, width]`, shared.
    Stepped(usize),
    /// The same view as another argument: a binding that the call doesn't use.
    Repeats(usize),
}

#[derive(Clone, Copy, Debug)]
struct Arg {
    shape: Shape,
    content: Content,
}

/// One kernel call and its data.
#[derive(Clone, Debug)]
pub struct Case {
    /// Kernel and sizes; unique in the table.
    pub name: String,
    /// The kernel and its sizes.
    pub kernel: Kernel,
    /// The step to run.
    pub step: u32,
    args: Vec<Arg>,
    /// Terms of the longest sum.
    terms: usize,
}

impl Case {
    fn new(kernel: Kernel, terms: usize, args: Vec<Arg>) -> Case {
        assert_eq!(args.len(), kernel.bindings().len(), "{}", kernel.name());
        let name = format!("{} {}", kernel.name(), kernel.family().details());
        Case { name, kernel, step: 2, args, terms }
    }

    /// Name of a binding's buffer in [`Case::program`].
    pub fn buffer_name(&self, binding: usize, replicas: usize) -> String {
        format!("{} x{replicas}: {}", self.name, self.kernel.bindings()[binding].name)
    }

    /// Bindings that the kernel writes.
    pub fn outputs(&self) -> Vec<usize> {
        (0..self.args.len()).filter(|&i| self.kernel.bindings()[i].access != Access::Read).collect()
    }

    /// Elements of an argument's view.
    fn view_len(&self, binding: usize, replicas: usize) -> usize {
        match self.args[binding].shape {
            Shape::Replicated(len) | Shape::Shared(len) => len,
            Shape::Stepped(width) => STEPS * replicas * width,
            Shape::Repeats(other) => self.view_len(other, replicas),
        }
    }

    /// Elements before and behind an argument's view; the images have none.
    fn guard(&self, binding: usize) -> usize {
        match self.kernel.element(binding) {
            Element::U8 => 0,
            element => BINDING / element.bytes(4),
        }
    }

    /// A program of this one call over persistent buffers.
    pub fn program(&self, replicas: usize) -> Program {
        let mut buffers = Vec::new();
        let mut args: Vec<View> = Vec::new();
        for (i, arg) in self.args.iter().enumerate() {
            if let Shape::Repeats(other) = arg.shape {
                args.push(args[other]);
                continue;
            }
            let (len, guard) = (self.view_len(i, replicas), self.guard(i));
            args.push(View { buffer: buffers.len(), offset: guard, len });
            buffers.push(Buffer {
                name: self.buffer_name(i, replicas),
                element: self.kernel.element(i),
                len: guard + len + guard,
                replicated: matches!(arg.shape, Shape::Replicated(_)),
                persistent: true,
            });
        }
        let call = Call { kernel: self.kernel.clone(), args, label: self.name.clone() };
        Program { name: self.name.clone(), replicas, buffers, calls: vec![call] }
    }

    /// What a binding's buffer holds before a run, guards included; None if it repeats another.
    /// `ids` says which models the replicas are: a model has the same data wherever it runs.
    pub fn input(&self, binding: usize, ids: &[u32], style: Style) -> Option<Values> {
        let Arg { shape, content } = self.args[binding];
        let read_only = self.kernel.bindings()[binding].access == Access::Read;
        let border = vec![if read_only { f64::NAN } else { SENTINEL }; self.guard(binding)];
        let of_name = self.name.bytes().fold(0u64, |key, byte| bits(key, byte as u64));
        let key = |id: u32| of_name ^ (binding as u64) << 32 ^ id as u64;
        let draw = |id: u32, i: usize| bits(key(id), i as u64);
        let float = |id, i, width| data::float(content, draw(id, i), style, (id, i, width));
        Some(match shape {
            Shape::Repeats(_) => return None,
            Shape::Replicated(len) => {
                let part = |&id: &u32| {
                    let values = (0..len).map(|i| float(id, i, len)).collect();
                    [border.clone(), values, border.clone()].concat()
                };
                Values::Floats(ids.iter().flat_map(part).collect())
            }
            Shape::Shared(len) => {
                Values::Bytes((0..len).map(|i| (draw(0, i) >> 40) as u8).collect())
            }
            Shape::Stepped(width) => {
                let cells = (0..STEPS).flat_map(|step| {
                    ids.iter().flat_map(move |&id| (0..width).map(move |i| (id, step * width + i)))
                });
                if let Content::Images = content {
                    let image = |(id, i): (u32, usize)| match (i + 1) % width {
                        0 => PADDING_IMAGE,
                        _ => (draw(id, i) >> 40) as u32 % IMAGES as u32,
                    };
                    let border = vec![PADDING_IMAGE; self.guard(binding)];
                    Values::Indices([border.clone(), cells.map(image).collect(), border].concat())
                } else if let Content::Words = content {
                    let border = vec![u32::MAX; self.guard(binding)];
                    let words = cells.map(|(id, i)| (draw(id, i) >> 32) as u32).collect();
                    Values::Indices([border.clone(), words, border].concat())
                } else {
                    let values = cells.map(|(id, i)| float(id, i, width)).collect();
                    Values::Floats([border.clone(), values, border].concat())
                }
            }
        })
    }

    /// Runs the case on an engine, for the models `ids` at once: the buffers of [`Case::outputs`],
    /// guards included.
    pub fn run(&self, engine: &mut dyn Engine, ids: &[u32], style: Style) -> Result<Vec<Vec<f64>>> {
        let loaded = engine.load(&self.program(ids.len()))?;
        for binding in 0..self.args.len() {
            if let Some(values) = self.input(binding, ids, style) {
                engine.write(&self.buffer_name(binding, ids.len()), values.data())?;
            }
        }
        engine.run(loaded, self.step..self.step + 1)?;
        self.outputs()
            .into_iter()
            .map(|binding| engine.read(&self.buffer_name(binding, ids.len())))
            .collect()
    }

    /// Panics unless the results of a run are the oracle's: to the last bit if `exact`, else within
    /// [`Case::tolerance`], and guards as they were.
    pub fn check(&self, got: &[Vec<f64>], want: &[Vec<f64>], replicas: usize, exact: bool) {
        for ((binding, got), want) in self.outputs().into_iter().zip(got).zip(want) {
            let what = format!("{}, binding {binding}, {replicas} replicas", self.name);
            assert!(
                self.guards(binding, got, replicas).flatten().all(|&v| v == SENTINEL),
                "{what}: wrote outside of its result"
            );
            let tolerance = if exact { Tolerance::EXACT } else { self.tolerance(binding) };
            assert_close(&what, got, want, tolerance);
        }
    }

    /// What belongs to one replica in an output's buffer, without guards.
    pub fn part<'a>(
        &self,
        binding: usize,
        values: &'a [f64],
        replica: usize,
        replicas: usize,
    ) -> Vec<&'a [f64]> {
        let (len, guard) = (self.view_len(binding, replicas), self.guard(binding));
        match self.args[binding].shape {
            Shape::Stepped(width) => values[guard..guard + len]
                .chunks_exact(width)
                .skip(replica)
                .step_by(replicas)
                .collect(),
            _ => vec![&values[replica * (len + 2 * guard) + guard..][..len]],
        }
    }

    /// Every guard of an output's buffer.
    pub fn guards<'a>(
        &self,
        binding: usize,
        values: &'a [f64],
        replicas: usize,
    ) -> impl Iterator<Item = &'a [f64]> {
        let (len, guard) = (self.view_len(binding, replicas), self.guard(binding));
        values.chunks(len + 2 * guard).flat_map(move |part| [&part[..guard], &part[guard + len..]])
    }

    /// How far an f32 engine may be from an f64 one in a binding, with [`Style::Rough`] data.
    pub fn tolerance(&self, binding: usize) -> Tolerance {
        let computed = self.tolerance_of_f32(binding);
        match self.kernel.element(binding) {
            // Numbers on two sides of the middle between two halves, which lie at most 2^-10 of
            // themselves apart, below 2^-14 2^-24.
            Element::Half => Tolerance {
                absolute: computed.absolute + (-24f64).exp2(),
                relative: computed.relative + (-10f64).exp2(),
            },
            _ => computed,
        }
    }

    fn tolerance_of_f32(&self, binding: usize) -> Tolerance {
        match (&self.kernel, binding) {
            // Rounding (1 - beta2) in f32 would show in v.
            (Kernel::Adam(_), 2) => {
                Tolerance { absolute: 1e-10 * self.terms as f64, relative: 4e-7 }
            }
            // The gradients themselves are short sums.
            (Kernel::Constraint(Constraint::Constraint { .. }), 2) => {
                Tolerance { absolute: 3e-6, relative: 4e-6 }
            }
            // No device may have bits of its own.
            (Kernel::Noise(_), _) => Tolerance::EXACT,
            // The difference of two numbers that one over the norms can make large.
            (Kernel::Constraint(Constraint::ConstraintGrad { .. }), _) => {
                Tolerance { absolute: 5e-6, relative: 4e-6 }
            }
            // Errors of f32 sums of numbers below 1 grow with the number of terms; functions such
            // as exp add some units in the last place.
            _ => Tolerance { absolute: 3e-7 + 1e-7 * self.terms as f64, relative: 4e-6 },
        }
    }

    /// Whether f32 results of [`Style::Eighths`] data have no rounding at all.
    pub fn exact(&self) -> bool {
        match &self.kernel {
            Kernel::Conv(conv) => conv.parts().1.activation != Activation::Sigmoid,
            Kernel::Memory(_) | Kernel::ConvW(_) | Kernel::Reduce(_) | Kernel::Noise(_) => true,
            // A longer chain needs more digits.
            Kernel::Map(kernel) => {
                kernel.links.len() <= 4
                    && kernel.links.iter().all(|link| {
                        use Map::{Add, Affine, Mul, Relu, ReluGrad, Sub};
                        matches!(link.map, Add | Sub | Mul | Affine { .. } | Relu | ReluGrad)
                    })
            }
            Kernel::Constraint(kernel) => matches!(kernel, Constraint::Constraint { .. }),
            Kernel::Score(kernel) => matches!(kernel, Score::ImageGrad { squares: false, .. }),
            Kernel::Batch(kernel) => matches!(kernel, Batch::Record { .. }),
            Kernel::Loss(_) | Kernel::Adam(_) => false,
        }
    }
}
