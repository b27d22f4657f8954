//! The order of calls: independent ones are neighbours, what changes parameters comes last.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::lower::Step;
use crate::kernels::Access;

/// Steps by depth of dependence, so that independent kernels are neighbours (a GPU needs no barrier
/// between them); what changes parameters comes last.
///
/// Of one depth, those come first that write where others did, since they wait in any case; then
/// the longer ones, which the others can hide behind.
pub(super) fn schedule(steps: Vec<Step>) -> Vec<Step> {
    let mut depth = vec![0; steps.len()];
    // Steps that write to each buffer so far: lowering emitted writers before readers.
    let mut written: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for (arg, binding) in step.call.args.iter().zip(step.call.kernel.bindings()) {
            if binding.access == Access::Read {
                let writers = written.get(&arg.buffer).into_iter().flatten();
                depth[i] = writers.map(|&w| depth[w] + 1).max().unwrap_or(0).max(depth[i]);
            } else {
                written.entry(arg.buffer).or_default().push(i);
            }
        }
    }
    let shares = |step: &Step| {
        let mut results = step.call.args.iter().zip(step.call.kernel.bindings());
        results
            .any(|(arg, binding)| binding.access != Access::Read && written[&arg.buffer].len() > 1)
    };
    let key = |&i: &usize| {
        let (step, flops) = (&steps[i], steps[i].call.kernel.family().flops());
        (step.last, depth[i], !shares(step), Reverse(flops), step.order, i)
    };
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(key);
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| steps[i].take()).collect()
}
