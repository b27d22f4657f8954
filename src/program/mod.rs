//! Programs: what an engine runs. Plain data without a GPU type, so it can be printed, counted and
//! tested anywhere.
//!
//! A [`Program`] is a list of kernel [`Call`]s over [`Buffer`]s. [`compile`](compile::compile)
//! makes one from a tape. Every engine runs the same list: the GPU engine as dispatches of one
//! compute pass, the CPU engine as calls of the twins.

pub mod compile;
pub mod cost;
pub mod kernel;
mod print;

use kernel::{Access, Element, Kernel, Params};

/// A buffer of a program.
#[derive(Clone, PartialEq, Debug)]
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
    /// First element; a multiple of [`kernel::ALIGNMENT`].
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// One kernel call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The kernel.
    pub kernel: Kernel,
    /// One view a binding, in the kernel table's order.
    pub args: Vec<View>,
    /// Sizes and constants.
    pub params: Params,
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

impl Program {
    /// Panics if a call breaks the contract that engines rely on: one view a binding, inside its
    /// buffer, of the binding's element type, and no buffer that is written and bound a second time
    /// in the same call.
    #[track_caller]
    pub fn check(&self) {
        for call in &self.calls {
            let row = call.kernel.row();
            let at = format!("program {}, call '{}' ({})", self.name, call.label, row.name);
            assert_eq!(call.args.len(), row.bindings.len(), "{at}: arguments");
            for (i, (arg, binding)) in call.args.iter().zip(row.bindings).enumerate() {
                let buffer = &self.buffers[arg.buffer];
                assert!(
                    arg.offset + arg.len <= buffer.len,
                    "{at}: {} reaches {} of {} elements",
                    binding.name,
                    arg.offset + arg.len,
                    buffer.len
                );
                assert!(
                    arg.offset % kernel::ALIGNMENT == 0,
                    "{at}: {} starts at {}, no multiple of {}",
                    binding.name,
                    arg.offset,
                    kernel::ALIGNMENT
                );
                assert_eq!(buffer.element, binding.element, "{at}: {}", binding.name);
                let shared = call
                    .args
                    .iter()
                    .enumerate()
                    .any(|(j, other)| i != j && other.buffer == arg.buffer);
                assert!(
                    binding.access == Access::Read || !shared,
                    "{at}: {} is written and bound twice",
                    binding.name
                );
            }
        }
    }
}
