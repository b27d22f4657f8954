//! Memory by lifetime: scratch buffers that are not needed at the same time share it.

use super::lower::{Step, Virtual};
use super::{Buffer, Call};

/// Gives scratch buffers memory, first to last: a buffer that nobody reads any more serves again.
pub(super) fn assign(virtuals: Vec<Virtual>, steps: Vec<Step>) -> (Vec<Buffer>, Vec<Call>) {
    let mut calls: Vec<Call> = steps.into_iter().flat_map(|s| s.calls).collect();
    let mut last_use = vec![0; virtuals.len()];
    for (c, call) in calls.iter().enumerate() {
        call.args.iter().for_each(|arg| last_use[arg.buffer] = c);
    }
    let mut buffers: Vec<Buffer> = vec![];
    let mut real: Vec<Option<usize>> = vec![None; virtuals.len()];
    let mut free: Vec<usize> = vec![];
    for (c, call) in calls.iter_mut().enumerate() {
        for arg in &mut call.args {
            let v = &virtuals[arg.buffer];
            let at = *real[arg.buffer].get_or_insert_with(|| {
                // The smallest that is large enough, else the largest, which grows.
                let fits = (0..free.len())
                    .filter(|&f| buffers[free[f]].len >= v.len)
                    .min_by_key(|&f| buffers[free[f]].len);
                let best = fits.or_else(|| (0..free.len()).max_by_key(|&f| buffers[free[f]].len));
                if let (false, Some(f)) = (v.dedicated, best) {
                    let at = free.swap_remove(f);
                    buffers[at].len = buffers[at].len.max(v.len);
                    return at;
                }
                let name = v.name.clone().unwrap_or_else(|| format!("scratch{}", buffers.len()));
                buffers.push(Buffer {
                    name,
                    element: v.element,
                    len: v.len,
                    replicated: v.replicated,
                    persistent: v.name.is_some(),
                });
                buffers.len() - 1
            });
            arg.buffer = at;
        }
        for (v, buffer) in virtuals.iter().enumerate() {
            if last_use[v] == c
                && !buffer.dedicated
                && let Some(at) = real[v]
                && !free.contains(&at)
            {
                free.push(at);
            }
        }
    }
    (buffers, calls)
}
