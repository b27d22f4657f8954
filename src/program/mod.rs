//! Programs: what an engine runs. Plain data without a GPU type, so it can be printed, counted and
//! tested anywhere.
//!
//! A [`Program`] is a list of kernel [`Call`]s over [`Buffer`]s. [`compile`] makes one from a tape:
//! `fuse` decides which nodes disappear into a convolution, `lower` makes calls of the others,
//! `schedule` puts independent calls next to each other, and `memory` gives scratch buffers that
//! don't live at the same time the same place. The CPU engine runs the calls; for a GPU,
//! [`dispatch`] turns them into dispatches, in the variants of [`choices`].

pub mod choices;
pub mod dispatch;
mod fuse;
mod lower;
mod memory;
pub mod predict;
mod print;
mod schedule;
mod waits;

use crate::kernels::{Access, Element, Form, Kernel};
use crate::layout::BINDING;
use crate::tape::Tape;

/// A buffer of a program.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Buffer {
    /// Unique in the program. Persistent buffers of one name are one buffer in all programs of an
    /// engine.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Elements of one replica (of all, if shared).
    pub len: usize,
    /// With a leading replica axis; otherwise all replicas share the buffer.
    pub replicated: bool,
    /// Kept between runs and visible to the host by its name; otherwise scratch memory of one run.
    pub persistent: bool,
}

/// A part of a buffer, in elements within one replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// Index into [`Program::buffers`].
    pub buffer: usize,
    /// First element: at a multiple of [`BINDING`] bytes in f32.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// One kernel call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The kernel and its parameters.
    pub kernel: Kernel,
    /// One view a binding, in the kernel's order.
    pub args: Vec<View>,
    /// What it computes for the model, for people: `up.4.weight grad`.
    pub label: String,
}

/// A list of kernel calls for `replicas` independent models.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// For people.
    pub name: String,
    /// Models that run at once.
    pub replicas: usize,
    /// Buffers the calls refer to.
    pub buffers: Vec<Buffer>,
    /// Calls in order.
    pub calls: Vec<Call>,
}

/// Choices of a compilation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Independent models in one program.
    pub replicas: usize,
    /// The kind of device it is for. Not a function of `replicas`, so that a model's numbers don't
    /// depend on its neighbours.
    pub form: Form,
    /// How activations and their gradients are kept.
    pub precision: Precision,
}

/// How a program keeps activations and their gradients; all else is kept, and everything is
/// computed, in the engine's float.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Precision {
    /// In the engine's float.
    #[default]
    F32,
    /// In half precision: half of the memory and of what moves, 11 bits, and nothing above 65504 or
    /// below 6e-8. Batches whose images don't come in fours stay as they are.
    F16,
}

impl Options {
    /// For so many models and this kind of device, in f32.
    pub fn new(replicas: usize, form: Form) -> Self {
        Options { replicas, form, precision: Precision::F32 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new(1, Form::Serial)
    }
}

/// Compiles everything that the tape's sinks need.
///
/// ```
/// use gradcon::program::{Options, compile};
/// use gradcon::tape::Tape;
///
/// let mut tape = Tape::new();
/// let a = tape.leaf("a", [1, 1, 1, 5]);
/// let square = tape.mul(a, a);
/// tape.store(square, "square");
/// tape.sigmoid(a); // nobody needs it
/// assert_eq!(compile("squares", &tape, Options::default()).calls.len(), 2);
/// ```
pub fn compile(name: &str, tape: &Tape, options: Options) -> Program {
    let fusion = fuse::Fusion::new(tape);
    let (buffers, steps) = lower::lower(tape, &fusion, options);
    let (buffers, calls) = memory::assign(buffers, schedule::schedule(steps), options.form);
    let program = Program { name: name.into(), replicas: options.replicas, buffers, calls };
    program.check();
    program
}

/// Least work of a call or program, for all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(iter: I) -> Cost {
        iter.fold(Cost::default(), |a, b| Cost {
            flops: a.flops + b.flops,
            bytes: a.bytes + b.bytes,
        })
    }
}

impl Program {
    /// Panics if a call breaks the contract that engines rely on: one view a binding, inside its
    /// buffer, of the binding's element type, and no buffer that is written and bound a second time
    /// in the same call.
    #[track_caller]
    pub fn check(&self) {
        for call in &self.calls {
            let bindings = call.kernel.bindings();
            let at =
                format!("program {}, call '{}' ({})", self.name, call.label, call.kernel.name());
            assert_eq!(call.args.len(), bindings.len(), "{at}: arguments");
            for (i, (arg, binding)) in call.args.iter().zip(bindings).enumerate() {
                let (buffer, end) = (&self.buffers[arg.buffer], arg.offset + arg.len);
                let at = format!("{at}: {}", binding.name);
                assert!(end <= buffer.len, "{at} reaches {end} of {} elements", buffer.len);
                let element = call.kernel.element(i);
                assert_eq!(buffer.element, element, "{at}");
                assert!(
                    (arg.offset * element.bytes(4)).is_multiple_of(BINDING),
                    "{at} starts at {}, no multiple of {BINDING} bytes",
                    arg.offset
                );
                let others = call.args.iter().enumerate().filter(|(j, _)| i != *j);
                let shared = others.into_iter().any(|(_, other)| other.buffer == arg.buffer);
                assert!(
                    binding.access == Access::Read || !shared,
                    "{at} is written and bound twice"
                );
            }
        }
    }

    /// Sum over all calls.
    pub fn cost(&self) -> Cost {
        self.calls.iter().map(|c| c.cost(self)).sum()
    }

    /// Bytes of scratch memory, and of persistent memory, in float32; as many as can be counted, if
    /// there are more.
    pub fn memory(&self) -> (u64, u64) {
        let bytes = |persistent: bool| {
            let of = self.buffers.iter().filter(|b| b.persistent == persistent);
            of.map(|b| b.bytes(self.replicas, 4).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
        };
        (bytes(false), bytes(true))
    }
}

impl Call {
    /// Least work of this call in `program`: what its kernel counts, and all results and each
    /// distinct operand once, in float32.
    pub fn cost(&self, program: &Program) -> Cost {
        let mut bytes = 0;
        for (i, (arg, binding)) in self.args.iter().zip(self.kernel.bindings()).enumerate() {
            let repeated = self.args[..i].contains(arg);
            let times = if binding.access == Access::Update { 2 } else { 1 };
            let len = self.kernel.family().moved(i).unwrap_or(arg.len);
            let element = program.buffers[arg.buffer].element.bytes(4);
            bytes += if repeated { 0 } else { (len * element * times) as u64 };
        }
        let replicas = program.replicas as u64;
        Cost { flops: self.kernel.family().flops() * replicas, bytes: bytes * replicas }
    }
}

impl Buffer {
    /// Elements over all replicas; `None` if they can't be counted.
    pub fn total(&self, replicas: usize) -> Option<usize> {
        self.len.checked_mul(if self.replicated { replicas } else { 1 })
    }

    /// Bytes over all replicas where a float has `float` bytes; `None` if they can't be counted.
    pub fn bytes(&self, replicas: usize, float: usize) -> Option<u64> {
        (self.total(replicas)? as u64).checked_mul(self.element.bytes(float) as u64)
    }
}
