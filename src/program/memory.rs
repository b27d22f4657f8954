//! Memory by lifetime: scratch buffers that are not needed at the same time share it.

use super::lower::{Step, Virtual};
use super::waits::{Waits, uses};
use super::{Buffer, Call};
use crate::kernels::Form;
use crate::layout::ALIGNMENT;

/// Gives scratch buffers memory, first to last: a buffer that nobody reads any more serves again.
/// Where neighbours run at once, it only serves a call that waits anyway: a call that would wait for
/// memory alone gets its own.
pub(super) fn assign(
    virtuals: Vec<Virtual>,
    steps: Vec<Step>,
    form: Form,
) -> (Vec<Buffer>, Vec<Call>) {
    let mut calls: Vec<Call> = steps.into_iter().map(|s| s.call).collect();
    let mut last_use = vec![0; virtuals.len()];
    for (c, call) in calls.iter().enumerate() {
        call.args.iter().for_each(|arg| last_use[arg.buffer] = c);
    }
    let mut places = Places { buffers: vec![], real: vec![None; virtuals.len()], free: vec![] };
    let mut waits = Waits::new(0);
    for (c, call) in calls.iter_mut().enumerate() {
        let known = |buffer: usize| places.real[buffer];
        let reuse = form == Form::Serial
            || uses(call).any(|(b, write)| known(b).is_some_and(|at| waits.waits_for(at, write)));
        for arg in &mut call.args {
            arg.buffer = places.find(arg.buffer, &virtuals[arg.buffer], reuse);
        }
        uses(call).for_each(|(buffer, write)| waits.note(buffer, write));
        for (v, buffer) in virtuals.iter().enumerate() {
            if last_use[v] == c && !buffer.dedicated {
                places.free.extend(places.real[v].filter(|at| !places.free.contains(at)));
            }
        }
    }
    (places.buffers, calls)
}

struct Places {
    buffers: Vec<Buffer>,
    /// Where each virtual buffer is, once it is somewhere.
    real: Vec<Option<usize>>,
    free: Vec<usize>,
}

impl Places {
    /// The place of virtual buffer `number`; a new one may take one that is free if `reuse`.
    fn find(&mut self, number: usize, v: &Virtual, reuse: bool) -> usize {
        if let Some(at) = self.real[number] {
            return at;
        }
        // Of its kind the smallest that is large enough, else the largest, which grows.
        let len = |f: &usize| self.buffers[self.free[*f]].len;
        let same = |f: &usize| self.buffers[self.free[*f]].element == v.element;
        let free = || (0..self.free.len()).filter(same);
        let best = free().filter(|f| len(f) >= v.len).min_by_key(len);
        let best = best.or_else(|| free().max_by_key(len));
        let at = match best.filter(|_| reuse && !v.dedicated) {
            Some(f) => {
                let at = self.free.swap_remove(f);
                self.buffers[at].len = self.buffers[at].len.max(v.len.next_multiple_of(ALIGNMENT));
                at
            }
            None => {
                let fresh = format!("scratch{}", self.buffers.len());
                self.buffers.push(Buffer {
                    name: v.name.clone().unwrap_or(fresh),
                    element: v.element,
                    // Every replica's part starts where a binding may.
                    len: if v.name.is_some() { v.len } else { v.len.next_multiple_of(ALIGNMENT) },
                    replicated: v.replicated,
                    persistent: v.name.is_some(),
                });
                self.buffers.len() - 1
            }
        };
        self.real[number] = Some(at);
        at
    }
}
