//! Where a GPU waits between the calls of a program: wgpu's rule as plain arithmetic.

use super::{Call, Program};
use crate::kernels::Access;

/// How each buffer was used last within one pass. wgpu puts a barrier before a dispatch for every
/// buffer whose use changes, and for one that is written again; all before it then ends first.
pub(super) struct Waits {
    written: Vec<Option<bool>>,
}

impl Waits {
    pub(super) fn new(buffers: usize) -> Waits {
        Waits { written: vec![None; buffers] }
    }

    /// Whether using `buffer` now means waiting.
    pub(super) fn waits_for(&self, buffer: usize, write: bool) -> bool {
        // What a pass uses first was made ready before it.
        self.written.get(buffer).copied().flatten().is_some_and(|before| before || write)
    }

    pub(super) fn note(&mut self, buffer: usize, write: bool) {
        self.written.resize(self.written.len().max(buffer + 1), None);
        self.written[buffer] = Some(write);
    }
}

/// Buffers of a call, and whether it writes them.
pub(super) fn uses(call: &Call) -> impl Iterator<Item = (usize, bool)> {
    let uses = call.args.iter().zip(call.kernel.bindings());
    uses.map(|(arg, binding)| (arg.buffer, binding.access != Access::Read))
}

impl Program {
    /// How often a GPU waits, in one pass over the program, for all dispatches so far to end.
    pub fn waits(&self) -> usize {
        self.waits_before().into_iter().filter(|&waits| waits).count()
    }

    /// Of each call, whether a GPU waits before it.
    pub(super) fn waits_before(&self) -> Vec<bool> {
        let mut waits = Waits::new(self.buffers.len());
        let before = |call: &Call| {
            let before = uses(call).any(|(buffer, write)| waits.waits_for(buffer, write));
            uses(call).for_each(|(buffer, write)| waits.note(buffer, write));
            before
        };
        self.calls.iter().map(before).collect()
    }
}
