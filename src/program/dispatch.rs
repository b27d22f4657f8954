//! What a GPU does for a program: a list of dispatches, plain data in core WebGPU.
//!
//! The GPU engine runs a [`Plan`]; an exporter can write it down (serde). A kernel's storage
//! buffers are bindings 0, 1, 2 ... of group 0, its uniform words binding [`UNIFORM_BINDING`]; a
//! kernel that reads the step's number finds it as binding 0 of group 1. The replica is the
//! workgroup's z.
//!
//! Uniform words: the kernel's parameters (see [`crate::kernels::Family::uniforms`]), then for each
//! binding the distance between replicas in elements, 0 for a buffer that all replicas share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Buffer, Call, Program};
use crate::kernels::{Access, Launch};

/// The binding of the uniform words in group 0: behind every kernel's storage buffers.
pub const UNIFORM_BINDING: u32 = 7;

/// Bytes that each dispatch's words have in a program's uniform buffer: a multiple of where a
/// uniform binding may start on any device (256).
pub const UNIFORM_BYTES: usize = 1280;

/// A program as a GPU runs it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The program's name.
    pub name: String,
    /// Models that run at once.
    pub replicas: usize,
    /// Buffers the dispatches refer to; all memory starts as zeros.
    pub buffers: Vec<Buffer>,
    /// In order; one that reads what another writes comes after it.
    pub dispatches: Vec<Dispatch>,
}

/// One dispatch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// What it computes for the model, for people.
    pub label: String,
    /// The file: `shaders/SHADER.wgsl`, or `_f16` for its form in half precision
    /// ([`crate::kernels::Shader::text`]).
    pub shader: Cow<'static, str>,
    /// Which of the kernel's variants this is.
    pub variant: Cow<'static, str>,
    /// Its entry point.
    pub entry_point: Cow<'static, str>,
    /// Values of its `override` constants.
    pub constants: BTreeMap<Cow<'static, str>, u32>,
    /// Threads of a workgroup, which the constants make.
    pub workgroup_size: [u32; 3],
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Words of its uniform binding.
    pub uniforms: Vec<u32>,
    /// Whether it has group 1.
    pub reads_step: bool,
    /// Storage bindings 0, 1, 2 ...
    pub bindings: Vec<Bound>,
}

/// A storage binding: from `offset` to the end of the buffer, since later replicas lie behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bound {
    /// Index into [`Plan::buffers`].
    pub buffer: usize,
    /// First byte; a multiple of 256.
    pub offset: u64,
    /// `read` and not `read_write`.
    pub read_only: bool,
}

impl Program {
    /// The program as a GPU runs it: each kernel in the first variant of `preferred` that it has,
    /// else in the reference.
    pub fn plan(&self, preferred: &[&str]) -> Plan {
        self.plan_by(|_| preferred.to_vec())
    }

    /// The same, where `preferred` gives names for each call.
    pub fn plan_by<'a>(&self, preferred: impl Fn(&Call) -> Vec<&'a str>) -> Plan {
        let dispatch = |call| self.dispatch(call, &preferred(call));
        Plan {
            name: self.name.clone(),
            replicas: self.replicas,
            buffers: self.buffers.clone(),
            dispatches: self.calls.iter().map(dispatch).collect(),
        }
    }

    /// The variants of a call that suit this program's buffers, the reference first.
    pub fn variants(&self, call: &Call) -> Vec<Launch> {
        let strides = self.strides(call);
        let fits = |launch: &Launch| {
            self.replicas == 1 || launch.fours.iter().all(|&i| strides[i].is_multiple_of(4))
        };
        call.kernel.family().variants().into_iter().filter(fits).collect()
    }

    /// For each binding the distance between replicas, in elements.
    fn strides(&self, call: &Call) -> Vec<u32> {
        let stride = |view: &super::View| {
            let buffer = &self.buffers[view.buffer];
            if buffer.replicated { buffer.len as u32 } else { 0 }
        };
        call.args.iter().map(stride).collect()
    }

    fn dispatch(&self, call: &Call, preferred: &[&str]) -> Dispatch {
        let kernel = call.kernel.family();
        let entry = kernel.entry();
        let variants = self.variants(call);
        let launch = preferred
            .iter()
            .find_map(|name| variants.iter().find(|launch| launch.variant == *name))
            .unwrap_or(&variants[0])
            .clone();
        let Launch {
            variant,
            shader,
            constants,
            workgroup_size,
            workgroup_bytes,
            grid: [x, y],
            ..
        } = launch;
        let words = kernel.uniforms().0.into_iter().map(|(_, word)| word.bits());
        let bound = |(i, binding): (usize, &crate::kernels::Binding)| Bound {
            buffer: call.args[i].buffer,
            offset: (call.args[i].offset * call.kernel.element(i).bytes(4)) as u64,
            read_only: binding.access == Access::Read,
        };
        Dispatch {
            label: call.label.clone(),
            shader: shader.unwrap_or(kernel.shader()).name.into(),
            variant: variant.into(),
            entry_point: entry.name.into(),
            constants: constants.into_iter().map(|(name, v)| (name.into(), v)).collect(),
            workgroup_size,
            workgroup_bytes,
            grid: [x, y, self.replicas as u32],
            uniforms: words.chain(self.strides(call)).collect(),
            reads_step: entry.reads_step,
            bindings: entry.bindings.iter().enumerate().map(bound).collect(),
        }
    }
}
