//! The order of calls: independent ones are neighbours, what changes parameters comes last.

use std::collections::HashMap;

use super::lower::Step;
use crate::kernels::Access;

/// Steps by depth of dependence, so that independent kernels are neighbours (a GPU needs no barrier
/// between them); what changes parameters comes last.
pub(super) fn schedule(steps: Vec<Step>) -> Vec<Step> {
    let mut depth = vec![0; steps.len()];
    // Steps that write to each buffer so far: lowering emitted writers before readers.
    let mut written: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for call in &step.calls {
            for (arg, binding) in call.args.iter().zip(call.kernel.bindings()) {
                if binding.access == Access::Read {
                    let writers =
                        written.get(&arg.buffer).into_iter().flatten().filter(|&&w| w != i);
                    depth[i] = writers.map(|&w| depth[w] + 1).max().unwrap_or(0).max(depth[i]);
                } else {
                    written.entry(arg.buffer).or_default().push(i);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|&i| (steps[i].last, depth[i], steps[i].order, i));
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| steps[i].take()).collect()
}
