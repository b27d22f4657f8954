//! From a tape to a program: dead code goes, epilogues move into the convolutions, results of one
//! kernel are made together, independent kernels stand next to each other, and scratch buffers are
//! shared by lifetime.
//!
//! In order: `Fusion` decides which nodes disappear into a convolution; `Lowering` makes one `Step`
//! (one or two kernel calls) for every node that is needed; `schedule` sorts the steps;
//! `assign_memory` gives virtual buffers real ones.

use std::collections::{BTreeMap, HashMap};

use super::kernel::{Access, Activation, Element, Epilogue, Kernel, MSE_ROWS, Params, max_blocks};
use super::{Buffer, Call, Program, View};
use crate::geometry::Geometry;
use crate::tape::{Op, Tape, Tensor, size};

/// Choices of a compilation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Independent models in one program.
    pub replicas: usize,
    /// Workgroups that one model's kernel should reach, as far as splitting the sums of weight
    /// gradients can: 1 for a CPU, hundreds for a GPU. Not a function of `replicas`, so that a
    /// model's numbers don't depend on its neighbours.
    pub workgroups: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { replicas: 1, workgroups: 1 }
    }
}

/// Compiles everything that the tape's sinks need.
pub fn compile(name: &str, tape: &Tape, options: Options) -> Program {
    let fusion = Fusion::new(tape);
    let lowering = Lowering::new(tape, &fusion, options);
    let steps = schedule(lowering.steps);
    let (buffers, calls) = assign_memory(lowering.buffers, steps);
    let program = Program { name: name.into(), replicas: options.replicas, buffers, calls };
    program.check();
    program
}

/// What a convolution takes in besides its operands, and the node whose value it then computes.
#[derive(Clone, Debug)]
struct Fused {
    conv: Tensor,
    bias: Option<Tensor>,
    addend: Option<Tensor>,
    gate: Option<Tensor>,
    activation: Activation,
}

/// For every node that ends a fused convolution, its parts.
struct Fusion {
    ends: HashMap<Tensor, Fused>,
}

impl Fusion {
    /// Follows each convolution through its only consumer, as long as the kernel's epilogue can do
    /// what the consumer does.
    fn new(tape: &Tape) -> Fusion {
        let mut live = vec![false; tape.nodes().len()];
        let mut consumers: Vec<Vec<Tensor>> = vec![vec![]; live.len()];
        for i in (0..live.len()).rev() {
            let op = &tape.nodes()[i].op;
            live[i] |= op.is_sink();
            if live[i] {
                for t in op.inputs() {
                    live[t.0] = true;
                    consumers[t.0].push(Tensor(i));
                }
            }
        }
        let mut ends = HashMap::new();
        let mut taken = vec![false; live.len()];
        for (i, &live) in live.iter().enumerate() {
            let conv = Tensor(i);
            let weight_gradient = matches!(tape.node(conv).op, Op::ConvW { .. });
            if !live
                || !(weight_gradient
                    || matches!(tape.node(conv).op, Op::ConvY { .. } | Op::ConvX { .. }))
            {
                continue;
            }
            let mut fused =
                Fused { conv, bias: None, addend: None, gate: None, activation: Activation::None };
            let mut end = conv;
            while let [next] = consumers[end.0][..] {
                if taken[next.0] || !fused.absorb(tape, end, next, weight_gradient) {
                    break;
                }
                taken[next.0] = true;
                end = next;
            }
            ends.insert(end, fused);
        }
        Fusion { ends }
    }
}

impl Fused {
    /// Takes `next`, the only consumer of `end`, into the epilogue if it fits behind what is there
    /// already.
    fn absorb(&mut self, tape: &Tape, end: Tensor, next: Tensor, weight_gradient: bool) -> bool {
        let open = self.activation == Activation::None;
        match tape.node(next).op {
            Op::Add { a, b } if open && self.addend.is_none() => {
                let other = if a == end { b } else { a };
                match tape.node(other).op {
                    Op::Broadcast { a: bias }
                        if !weight_gradient && self.bias.is_none() && per_channel(tape, bias) =>
                    {
                        self.bias = Some(bias)
                    }
                    _ if other != end => self.addend = Some(other),
                    _ => return false,
                }
            }
            Op::Relu { .. } if open && !weight_gradient => self.activation = Activation::Relu,
            Op::Sigmoid { .. } if open && !weight_gradient => self.activation = Activation::Sigmoid,
            Op::ReluGrad { a, gate } if open && !weight_gradient && a == end && gate != end => {
                (self.gate, self.activation) = (Some(gate), Activation::Gate);
            }
            _ => return false,
        }
        true
    }
}

fn per_channel(tape: &Tape, bias: Tensor) -> bool {
    let [h, w, _, n] = tape.shape(bias);
    (h, w, n) == (1, 1, 1)
}

/// A buffer before memory is assigned.
struct Virtual {
    name: Option<String>,
    element: Element,
    len: usize,
    replicated: bool,
    /// Never shares memory: its gaps stay the zeros they were at the start.
    dedicated: bool,
}

/// Calls that belong together.
struct Step {
    calls: Vec<Call>,
    /// Order of recording, for a stable schedule.
    order: usize,
    /// Must follow everything else: it changes what others read.
    last: bool,
}

struct Lowering<'a> {
    tape: &'a Tape,
    fusion: &'a Fusion,
    options: Options,
    buffers: Vec<Virtual>,
    persistent: BTreeMap<String, usize>,
    /// Where nodes are; filled when a node is lowered.
    places: HashMap<Tensor, View>,
    /// Concatenations that a node's kernel can write to directly.
    homes: HashMap<Tensor, View>,
    steps: Vec<Step>,
}

impl<'a> Lowering<'a> {
    fn new(tape: &'a Tape, fusion: &'a Fusion, options: Options) -> Self {
        let mut it = Lowering {
            tape,
            fusion,
            options,
            buffers: vec![],
            persistent: BTreeMap::new(),
            places: HashMap::new(),
            homes: HashMap::new(),
            steps: vec![],
        };
        // Concatenations first: a part's kernel then writes into place. (A sweep may meet a part
        // before its concatenation.)
        for i in 0..tape.nodes().len() {
            if let Op::Concat { parts } = &tape.nodes()[i].op {
                it.plan_concat(Tensor(i), parts);
            }
        }
        for i in 0..tape.nodes().len() {
            if tape.nodes()[i].op.is_sink() {
                it.place(Tensor(i));
            }
        }
        it
    }

    fn plan_concat(&mut self, node: Tensor, parts: &[(Tensor, usize)]) {
        let buffer =
            self.virtual_buffer(None, Element::Float, size(self.tape.shape(node)), true, true);
        self.homes.insert(node, View { buffer, offset: 0, len: size(self.tape.shape(node)) });
        for &(part, offset) in parts {
            let computed = !matches!(
                self.tape.node(part).op,
                Op::Leaf { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::Constraint { .. }
            );
            if computed {
                self.homes.entry(part).or_insert(View {
                    buffer,
                    offset,
                    len: size(self.tape.shape(part)),
                });
            }
        }
    }

    fn virtual_buffer(
        &mut self,
        name: Option<String>,
        element: Element,
        len: usize,
        replicated: bool,
        dedicated: bool,
    ) -> usize {
        self.buffers.push(Virtual { name, element, len, replicated, dedicated });
        self.buffers.len() - 1
    }

    fn persistent(&mut self, name: &str, element: Element, len: usize, replicated: bool) -> View {
        let buffer = match self.persistent.get(name) {
            Some(&known) => known,
            None => {
                let new = self.virtual_buffer(Some(name.into()), element, len, replicated, true);
                self.persistent.insert(name.into(), new);
                new
            }
        };
        let known = &self.buffers[buffer];
        assert!(
            known.element == element && known.len == len && known.replicated == replicated,
            "buffer '{name}' is used with two sizes or types"
        );
        View { buffer, offset: 0, len }
    }

    fn scratch(&mut self, len: usize) -> View {
        let buffer = self.virtual_buffer(None, Element::Float, len, true, false);
        View { buffer, offset: 0, len }
    }

    /// Where the kernel of `node` writes: its home in a concatenation, unless the kernel also reads
    /// from that buffer.
    fn result(&mut self, node: Tensor, reads: &[View]) -> View {
        if let Some(&home) = self.homes.get(&node)
            && reads.iter().all(|r| r.buffer != home.buffer)
        {
            return home;
        }
        self.scratch(size(self.tape.shape(node)))
    }

    fn emit(&mut self, node: Tensor, kernel: Kernel, args: Vec<View>, params: Params) {
        let call = Call { kernel, args, params, label: self.tape.node(node).label.clone() };
        self.steps.push(Step {
            calls: vec![call],
            order: node.0,
            last: matches!(kernel, Kernel::Adam),
        });
    }

    /// Adds a call to the latest step.
    fn emit_with(&mut self, node: Tensor, kernel: Kernel, args: Vec<View>, params: Params) {
        let label = self.tape.node(node).label.clone();
        self.steps.last_mut().expect("a step was emitted before").calls.push(Call {
            kernel,
            args,
            params,
            label,
        });
    }

    /// Lowers `node` and what it needs, once.
    fn place(&mut self, node: Tensor) -> View {
        if let Some(&view) = self.places.get(&node) {
            return view;
        }
        let view = match self.fusion.ends.get(&node) {
            Some(fused) => self.convolution(node, &fused.clone()),
            None => self.other(node),
        };
        self.places.insert(node, view);
        view
    }

    fn convolution(&mut self, node: Tensor, fused: &Fused) -> View {
        let (kernel, geometry, a, b) = match self.tape.node(fused.conv).op {
            Op::ConvY { geometry, x, w } => (Kernel::ConvY, geometry, x, w),
            Op::ConvX { geometry, y, w } => (Kernel::ConvX, geometry, y, w),
            Op::ConvW { geometry, x, y } => (Kernel::ConvW, geometry, x, y),
            ref op => unreachable!("no convolution: {op:?}"),
        };
        let (a, b) = (self.place(a), self.place(b));
        let addend = fused.addend.map(|t| self.place(t));
        if kernel == Kernel::ConvW {
            return self.weight_gradient(node, geometry, a, b, addend);
        }
        let bias = fused.bias.map(|t| self.place(t));
        let gate = fused.gate.map(|t| self.place(t));
        let mut args = vec![a, b, bias.unwrap_or(b), addend.unwrap_or(b), gate.unwrap_or(b)];
        args.push(self.result(node, &args));
        let epilogue =
            Epilogue { bias: bias.is_some(), add: addend.is_some(), activation: fused.activation };
        let out = args[5];
        self.emit(node, kernel, args, Params::Conv { geometry, epilogue });
        out
    }

    fn weight_gradient(
        &mut self,
        node: Tensor,
        geometry: Geometry,
        x: View,
        y: View,
        addend: Option<View>,
    ) -> View {
        let tiles =
            (geometry.kh * geometry.kw * geometry.cx).div_ceil(32) * geometry.cy.div_ceil(32);
        let splits = self
            .options
            .workgroups
            .div_ceil(tiles)
            .clamp(1, (geometry.hy * geometry.wy).div_ceil(4));
        let add = addend.is_some();
        if splits == 1 {
            let args = vec![x, y, addend.unwrap_or(x)];
            let out = self.result(node, &args);
            self.emit(
                node,
                Kernel::ConvW,
                [args, vec![out]].concat(),
                Params::ConvW { geometry, add, splits },
            );
            return out;
        }
        let partial = self.scratch(splits * geometry.w_len());
        self.emit(
            node,
            Kernel::ConvW,
            vec![x, y, x, partial],
            Params::ConvW { geometry, add: false, splits },
        );
        let args = vec![partial, addend.unwrap_or(partial)];
        let out = self.result(node, &args);
        self.emit_with(
            node,
            Kernel::SplitSum,
            [args, vec![out]].concat(),
            Params::SplitSum { len: geometry.w_len(), splits, add },
        );
        out
    }

    fn map(
        &mut self,
        node: Tensor,
        kernel: Kernel,
        inputs: &[Tensor],
        scale: f64,
        shift: f64,
    ) -> View {
        let mut args: Vec<View> = inputs.iter().map(|&t| self.place(t)).collect();
        let out = self.result(node, &args);
        args.push(out);
        self.emit(node, kernel, args, Params::Map { len: out.len, scale, shift });
        out
    }

    fn other(&mut self, node: Tensor) -> View {
        let tape = self.tape;
        let shape = tape.shape(node);
        match &tape.node(node).op {
            Op::Leaf { name } => self.persistent(name, Element::Float, size(shape), true),
            Op::Fill { value } => self.map(node, Kernel::Fill, &[], 1.0, *value),
            &Op::Slice { of, offset } => {
                let of = self.place(of);
                View { buffer: of.buffer, offset: of.offset + offset, len: size(shape) }
            }
            Op::Concat { parts } => self.concat(node, parts),
            &Op::Add { a, b } => self.map(node, Kernel::Add, &[a, b], 1.0, 0.0),
            &Op::Mul { a, b } => self.map(node, Kernel::Mul, &[a, b], 1.0, 0.0),
            &Op::Affine { a, scale, shift } => self.map(node, Kernel::Affine, &[a], scale, shift),
            &Op::Relu { a } => self.map(node, Kernel::Relu, &[a], 1.0, 0.0),
            &Op::ReluGrad { a, gate } => self.map(node, Kernel::ReluGrad, &[a, gate], 1.0, 0.0),
            &Op::Sigmoid { a } => self.map(node, Kernel::Sigmoid, &[a], 1.0, 0.0),
            &Op::SigmoidGrad { a, s } => self.map(node, Kernel::SigmoidGrad, &[a, s], 1.0, 0.0),
            &Op::InvNorm { a, eps } => self.map(node, Kernel::InvNorm, &[a], eps, 0.0),
            &Op::Broadcast { a } => {
                self.reshape(node, Kernel::Broadcast, a, (tape.shape(a), shape))
            }
            &Op::SumTo { a } => self.reshape(node, Kernel::SumTo, a, (shape, tape.shape(a))),
            &Op::Mse { x, target, weight }
            | &Op::MseGrad { x, target, weight }
            | &Op::ImageMse { x, target, weight } => self.mse(node, [x, target, weight]),
            Op::ConstraintStats { g, r, segments } => {
                let (g, r) = (self.place(*g), self.place(*r));
                let partial = self.scratch(segments.len() * max_blocks(segments) * 3);
                let stats = self.scratch(size(shape));
                let params = Params::Constraint { segments: segments.clone(), scale: 1.0 };
                self.emit(node, Kernel::Constraint, vec![g, r, partial], params.clone());
                self.emit_with(node, Kernel::ConstraintSum, vec![partial, stats], params);
                stats
            }
            Op::Constraint { stats, .. } => View { len: 1, ..self.place(*stats) },
            Op::ConstraintGrad { stats, g, r, segments, scale } => {
                let args = [*g, *r, *stats].map(|t| self.place(t));
                // Dedicated: what lies between the segments stays zero.
                let buffer = self.virtual_buffer(None, Element::Float, size(shape), true, true);
                let out = View { buffer, offset: 0, len: size(shape) };
                self.emit(
                    node,
                    Kernel::ConstraintGrad,
                    [&args[..], &[out]].concat(),
                    Params::Constraint { segments: segments.clone(), scale: *scale },
                );
                out
            }
            &Op::ImageGrad { geometry, x, y, r } => {
                let args = [x, y, r].map(|t| self.place(t));
                let out = self.scratch(size(shape));
                self.emit(
                    node,
                    Kernel::ImageGrad,
                    [&args[..], &[out]].concat(),
                    Params::ImageGrad { geometry },
                );
                out
            }
            &Op::ImageCos { partial, stats, segment } => {
                let [_, blocks, _, n] = tape.shape(partial);
                let args = [partial, stats].map(|t| self.place(t));
                let out = self.scratch(n);
                self.emit(
                    node,
                    Kernel::ImageCos,
                    [&args[..], &[out]].concat(),
                    Params::ImageCos { blocks, n, segment },
                );
                out
            }
            Op::BatchImages { .. } | Op::BatchWeight { .. } => self.gather(node),
            Op::Record { a, log, offset, width, steps } => {
                let a = self.place(*a);
                let log = self.persistent(
                    log,
                    Element::Float,
                    steps * self.options.replicas * width,
                    false,
                );
                self.emit(
                    node,
                    Kernel::Record,
                    vec![a, log],
                    Params::Record { len: size(shape), offset: *offset, width: *width },
                );
                log
            }
            Op::Store { a, name } => {
                let a = self.place(*a);
                let out = self.persistent(name, Element::Float, size(shape), true);
                self.emit(
                    node,
                    Kernel::Copy,
                    vec![a, out],
                    Params::Map { len: out.len, scale: 1.0, shift: 0.0 },
                );
                out
            }
            Op::Adam { grad, reference_len, schedule, steps, config } => {
                let (len, reference_len) = (size(shape), *reference_len);
                let grad = self.place(*grad);
                let [params, m, v] = ["params", "adam.m", "adam.v"]
                    .map(|name| self.persistent(name, Element::Float, len, true));
                let reference = self.persistent("reference", Element::Float, reference_len, true);
                let schedule = self.persistent(
                    schedule,
                    Element::Float,
                    steps * self.options.replicas * 4,
                    false,
                );
                let crate::tape::AdamConfig { lr, beta1, beta2, eps } = *config;
                self.emit(
                    node,
                    Kernel::Adam,
                    vec![params, m, v, reference, grad, schedule],
                    Params::Adam { len, reference_len, lr, beta1, beta2, eps },
                );
                params
            }
            op @ (Op::ConvY { .. } | Op::ConvX { .. } | Op::ConvW { .. }) => {
                unreachable!("inside a fused convolution: {op:?}")
            }
        }
    }

    fn reshape(
        &mut self,
        node: Tensor,
        kernel: Kernel,
        a: Tensor,
        (small, large): ([usize; 4], [usize; 4]),
    ) -> View {
        let a = self.place(a);
        let out = self.result(node, &[a]);
        self.emit(node, kernel, vec![a, out], Params::Reshape { small, large });
        out
    }

    fn concat(&mut self, node: Tensor, parts: &[(Tensor, usize)]) -> View {
        let whole = self.homes[&node];
        for &(part, offset) in parts {
            let from = self.place(part);
            let to = View { buffer: whole.buffer, offset, len: from.len };
            if from != to {
                self.emit(
                    node,
                    Kernel::Copy,
                    vec![from, to],
                    Params::Map { len: from.len, scale: 1.0, shift: 0.0 },
                );
            }
        }
        whole
    }

    /// The pair of kernels behind Mse, MseGrad and ImageMse of the same inputs.
    fn mse(&mut self, node: Tensor, inputs: [Tensor; 3]) -> View {
        let [h, w, c, n] = self.tape.shape(inputs[0]);
        let rows = h * w * c;
        let args = inputs.map(|t| self.place(t));
        let [grad, partial, image, loss] =
            [rows * n, rows.div_ceil(MSE_ROWS) * n, n, 1].map(|len| self.scratch(len));
        self.emit(
            node,
            Kernel::Mse,
            [&args[..], &[grad, partial]].concat(),
            Params::Mse { rows, n },
        );
        self.emit_with(
            node,
            Kernel::MseSum,
            vec![partial, args[2], image, loss],
            Params::Mse { rows, n },
        );
        let mut here = loss;
        for (i, other) in self.tape.nodes().iter().enumerate() {
            let (of, view) = match other.op {
                Op::Mse { x, target, weight } => ([x, target, weight], loss),
                Op::MseGrad { x, target, weight } => ([x, target, weight], grad),
                Op::ImageMse { x, target, weight } => ([x, target, weight], image),
                _ => continue,
            };
            if of == inputs {
                self.places.insert(Tensor(i), view);
                here = if Tensor(i) == node { view } else { here };
            }
        }
        here
    }

    /// The kernel behind BatchImages and BatchWeight of the same batch.
    fn gather(&mut self, node: Tensor) -> View {
        let (Op::BatchImages { batch } | Op::BatchWeight { batch }) = &self.tape.node(node).op
        else {
            unreachable!("no batch")
        };
        let images = self
            .tape
            .nodes()
            .iter()
            .position(|other| matches!(&other.op, Op::BatchImages { batch: b } if b == batch));
        let images = Tensor(images.expect("a batch has images"));
        let [h, w, c, n] = self.tape.shape(images);
        let pixels = h * w * c;
        let replicas = self.options.replicas;
        let data = self.persistent(
            &format!("{}.data", batch.name),
            Element::U8,
            batch.images * pixels,
            false,
        );
        let indices = self.persistent(
            &format!("{}.indices", batch.name),
            Element::U32,
            batch.steps * replicas * n,
            false,
        );
        let schedule = self.persistent(
            &format!("{}.schedule", batch.name),
            Element::Float,
            batch.steps * replicas * 4,
            false,
        );
        let (x, weight) = (self.scratch(pixels * n), self.scratch(n));
        self.emit(
            node,
            Kernel::Gather,
            vec![data, indices, schedule, x, weight],
            Params::Gather { pixels, n },
        );
        let of_weight = self
            .tape
            .nodes()
            .iter()
            .position(|other| matches!(&other.op, Op::BatchWeight { batch: b } if b == batch));
        if let Some(i) = of_weight {
            self.places.insert(Tensor(i), weight);
        }
        self.places.insert(images, x);
        self.places[&node]
    }
}

/// Steps by depth of dependence, so that independent kernels are neighbours (a GPU needs no barrier
/// between them); what changes parameters comes last.
fn schedule(steps: Vec<Step>) -> Vec<Step> {
    let mut depth = vec![0; steps.len()];
    // Depth after which a buffer's part is complete, by (buffer): lowering emitted writers before
    // readers.
    let mut written: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for call in &step.calls {
            for (arg, binding) in call.args.iter().zip(call.kernel.row().bindings) {
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

/// Gives scratch buffers memory, first to last: a buffer that nobody reads any more serves again.
fn assign_memory(virtuals: Vec<Virtual>, steps: Vec<Step>) -> (Vec<Buffer>, Vec<Call>) {
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
