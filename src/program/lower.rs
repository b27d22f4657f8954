//! Lowering: from operations to kernel calls, one [`Step`] (one or two calls) for every node that
//! is needed.

use std::collections::{BTreeMap, HashMap};

use super::fuse::{Convolution, Extras, Fused, Fusion};
use super::{Call, Options, View};
use crate::kernels::conv::Epilogue;
use crate::kernels::{self, Element, Kernel, MapKernel};
use crate::layout::{Shape, Stats, size};
use crate::tape::ops::{self, Op};
use crate::tape::{Tape, Tensor};

/// A buffer before memory is assigned.
pub(super) struct Virtual {
    pub name: Option<String>,
    pub element: Element,
    pub len: usize,
    pub replicated: bool,
    /// Never shares memory: its gaps stay the zeros they were at the start.
    pub dedicated: bool,
}

/// Calls that belong together.
pub(super) struct Step {
    pub calls: Vec<Call>,
    /// Order of recording, for a stable schedule.
    pub order: usize,
    /// Must follow everything else: it changes what others read.
    pub last: bool,
}

/// Buffers and steps of everything that the tape's sinks need.
pub(super) fn lower(tape: &Tape, fusion: &Fusion, options: Options) -> (Vec<Virtual>, Vec<Step>) {
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
    for (i, node) in tape.nodes().iter().enumerate() {
        if let Op::Memory(ops::Memory::Concat { parts }) = &node.op {
            it.plan_concat(Tensor(i), parts);
        }
    }
    for (i, node) in tape.nodes().iter().enumerate() {
        if node.op.is_sink() {
            it.place(Tensor(i));
        }
    }
    (it.buffers, it.steps)
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

impl Lowering<'_> {
    fn size(&self, node: Tensor) -> usize {
        size(self.tape.shape(node))
    }

    fn plan_concat(&mut self, node: Tensor, parts: &[(Tensor, usize)]) {
        let whole = self.dedicated(self.size(node));
        self.homes.insert(node, whole);
        for &(part, offset) in parts {
            // What has a place already is copied.
            let computed = !matches!(
                self.tape.node(part).op,
                Op::Memory(
                    ops::Memory::Leaf { .. }
                        | ops::Memory::Slice { .. }
                        | ops::Memory::Concat { .. }
                ) | Op::Constraint(ops::Constraint::Constraint { .. })
            );
            if computed {
                let home = View { buffer: whole.buffer, offset, len: self.size(part) };
                self.homes.entry(part).or_insert(home);
            }
        }
    }

    fn buffer(&mut self, new: Virtual) -> View {
        let len = new.len;
        self.buffers.push(new);
        View { buffer: self.buffers.len() - 1, offset: 0, len }
    }

    /// Scratch memory that may serve several nodes, one after the other.
    fn scratch(&mut self, len: usize) -> View {
        let (name, element, replicated) = (None, Element::Float, true);
        self.buffer(Virtual { name, element, len, replicated, dedicated: false })
    }

    /// Scratch memory whose gaps stay zero.
    fn dedicated(&mut self, len: usize) -> View {
        let (name, element, replicated) = (None, Element::Float, true);
        self.buffer(Virtual { name, element, len, replicated, dedicated: true })
    }

    fn persistent(&mut self, name: &str, element: Element, len: usize, replicated: bool) -> View {
        if let Some(&buffer) = self.persistent.get(name) {
            let known = &self.buffers[buffer];
            assert!(
                known.element == element && known.len == len && known.replicated == replicated,
                "buffer '{name}' is used with two sizes or types"
            );
            return View { buffer, offset: 0, len };
        }
        let new = Virtual { name: Some(name.into()), element, len, replicated, dedicated: true };
        let view = self.buffer(new);
        self.persistent.insert(name.into(), view.buffer);
        view
    }

    /// Where the kernel of `node` writes: its home in a concatenation, unless the kernel also reads
    /// from that buffer.
    fn result(&mut self, node: Tensor, reads: &[View]) -> View {
        if let Some(&home) = self.homes.get(&node)
            && reads.iter().all(|r| r.buffer != home.buffer)
        {
            return home;
        }
        self.scratch(self.size(node))
    }

    /// A step of one call.
    fn emit(&mut self, node: Tensor, kernel: Kernel, args: Vec<View>) {
        let label = self.tape.node(node).label.clone();
        let last = kernel.family().is_last();
        let call = Call { kernel, args, label };
        self.steps.push(Step { calls: vec![call], order: node.0, last });
    }

    /// A step of two calls, the second of which goes on from the first.
    fn emit_both(&mut self, node: Tensor, first: (Kernel, Vec<View>), then: (Kernel, Vec<View>)) {
        let label = &self.tape.node(node).label;
        let call = |(kernel, args)| Call { kernel, args, label: label.clone() };
        let calls = vec![call(first), call(then)];
        self.steps.push(Step { calls, order: node.0, last: false });
    }

    /// Lowers `node` and what it needs, once.
    fn place(&mut self, node: Tensor) -> View {
        if let Some(&view) = self.places.get(&node) {
            return view;
        }
        let fusion = self.fusion;
        let view = match fusion.ends.get(&node) {
            Some(Fused { conv: Convolution::Activation(op), extras }) => {
                self.conv(node, op, extras)
            }
            Some(Fused { conv: Convolution::Weight(op), extras }) => self.conv_w(node, op, extras),
            None => self.alone(node),
        };
        self.places.insert(node, view);
        view
    }

    /// A node that is no fused convolution.
    fn alone(&mut self, node: Tensor) -> View {
        let tape = self.tape;
        match &tape.node(node).op {
            Op::Memory(op) => self.memory(node, op),
            Op::Conv(op) => self.conv(node, op, &Extras::default()),
            Op::ConvW(op) => self.conv_w(node, op, &Extras::default()),
            Op::Map(op) => self.map(node, op),
            Op::Reduce(op) => self.reduce(node, op),
            Op::Loss(op) => self.loss(node, op),
            Op::Constraint(op) => self.constraint(node, op),
            Op::Score(op) => self.score(node, op),
            Op::Batch(op) => self.batch(node, op),
            Op::Adam(op) => self.adam(node, op),
        }
    }

    fn copy(&mut self, node: Tensor, from: View, to: View) {
        let kernel = Kernel::Memory(kernels::Memory::Copy { len: to.len });
        self.emit(node, kernel, vec![from, to]);
    }

    fn memory(&mut self, node: Tensor, op: &ops::Memory) -> View {
        let len = self.size(node);
        match op {
            ops::Memory::Leaf { name } => self.persistent(name, Element::Float, len, true),
            ops::Memory::Fill { value } => {
                let out = self.result(node, &[]);
                let kernel = kernels::Memory::Fill { len, value: *value };
                self.emit(node, Kernel::Memory(kernel), vec![out]);
                out
            }
            ops::Memory::Slice { of, offset } => {
                let of = self.place(*of);
                View { buffer: of.buffer, offset: of.offset + offset, len }
            }
            ops::Memory::Concat { parts } => {
                let whole = self.homes[&node];
                for &(part, offset) in parts {
                    let from = self.place(part);
                    let to = View { buffer: whole.buffer, offset, len: from.len };
                    if from != to {
                        self.copy(node, from, to);
                    }
                }
                whole
            }
            ops::Memory::Store { a, name } => {
                let a = self.place(*a);
                let out = self.persistent(name, Element::Float, len, true);
                self.copy(node, a, out);
                out
            }
        }
    }

    fn conv(&mut self, node: Tensor, op: &ops::Conv, extras: &Extras) -> View {
        let (ops::Conv::ConvY { x: a, w, .. } | ops::Conv::ConvX { y: a, w, .. }) = *op;
        let (a, w) = (self.place(a), self.place(w));
        let [addend, bias, gate] =
            [extras.addend, extras.bias, extras.gate].map(|t| t.map(|t| self.place(t)));
        let (bias_used, add) = (bias.is_some(), addend.is_some());
        let mut args = vec![a, w, bias.unwrap_or(w), addend.unwrap_or(w), gate.unwrap_or(w)];
        let out = self.result(node, &args);
        args.push(out);
        let epilogue = Epilogue { bias: bias_used, add, activation: extras.activation };
        let kernel = match *op {
            ops::Conv::ConvY { geometry, .. } => kernels::Conv::ConvY { geometry, epilogue },
            ops::Conv::ConvX { geometry, .. } => kernels::Conv::ConvX { geometry, epilogue },
        };
        self.emit(node, Kernel::Conv(kernel), args);
        out
    }

    fn conv_w(&mut self, node: Tensor, op: &ops::ConvW, extras: &Extras) -> View {
        let geometry = op.geometry;
        let (x, y) = (self.place(op.x), self.place(op.y));
        let addend = extras.addend.map(|t| self.place(t));
        let add = addend.is_some();
        let splits = kernels::conv_w::splits(&geometry, self.options.workgroups);
        let sum = |add, splits| Kernel::ConvW(kernels::ConvW::ConvW { geometry, add, splits });
        if splits == 1 {
            let args = [x, y, addend.unwrap_or(x)];
            let out = self.result(node, &args);
            self.emit(node, sum(add, 1), [&args[..], &[out]].concat());
            return out;
        }
        let len = geometry.w_len();
        let partial = self.scratch(splits * len);
        let args = [partial, addend.unwrap_or(partial)];
        let out = self.result(node, &args);
        let total = Kernel::ConvW(kernels::ConvW::SplitSum { len, splits, add });
        self.emit_both(
            node,
            (sum(false, splits), vec![x, y, x, partial]),
            (total, [&args[..], &[out]].concat()),
        );
        out
    }

    fn map(&mut self, node: Tensor, op: &ops::Mapped) -> View {
        let [a, b] = op.of.map(|t| self.place(t));
        let out = self.result(node, &[a, b]);
        let kernel = MapKernel { map: op.map, len: out.len };
        self.emit(node, Kernel::Map(kernel), vec![a, b, out]);
        out
    }

    fn reduce(&mut self, node: Tensor, op: &ops::Reduce) -> View {
        let shape = self.tape.shape(node);
        let (a, kernel): (Tensor, fn(Shape, Shape) -> kernels::Reduce) = match *op {
            ops::Reduce::Broadcast { a } => {
                (a, |from, to| kernels::Reduce::Broadcast { small: from, large: to })
            }
            ops::Reduce::SumTo { a } => {
                (a, |from, to| kernels::Reduce::SumTo { small: to, large: from })
            }
        };
        let kernel = Kernel::Reduce(kernel(self.tape.shape(a), shape));
        let a = self.place(a);
        let out = self.result(node, &[a]);
        self.emit(node, kernel, vec![a, out]);
        out
    }

    /// The pair of kernels behind all parts of one squared error.
    fn loss(&mut self, node: Tensor, op: &ops::Loss) -> View {
        let terms = op.terms();
        let [h, w, c, n] = self.tape.shape(terms.x);
        let rows = h * w * c;
        let args = [terms.x, terms.target, terms.weight].map(|t| self.place(t));
        let chunks = rows.div_ceil(kernels::loss::ROWS);
        let [grad, partial, image, loss] =
            [rows * n, chunks * n, n, 1].map(|len| self.scratch(len));
        self.emit_both(
            node,
            (Kernel::Loss(kernels::Loss::Mse { rows, n }), [&args[..], &[grad, partial]].concat()),
            (Kernel::Loss(kernels::Loss::MseSum { rows, n }), vec![partial, args[2], image, loss]),
        );
        let part = |op: &ops::Loss| match op {
            ops::Loss::Mse(_) => loss,
            ops::Loss::MseGrad(_) => grad,
            ops::Loss::ImageMse(_) => image,
        };
        for (i, other) in self.tape.nodes().iter().enumerate() {
            if let Op::Loss(other) = &other.op
                && other.terms() == terms
            {
                self.places.insert(Tensor(i), part(other));
            }
        }
        part(op)
    }

    fn constraint(&mut self, node: Tensor, op: &ops::Constraint) -> View {
        match op {
            ops::Constraint::ConstraintStats { g, r, segments } => {
                let (g, r) = (self.place(*g), self.place(*r));
                let blocks = kernels::constraint::max_blocks(segments);
                let partial = self.scratch(segments.len() * blocks * 3);
                let stats = self.scratch(self.size(node));
                let sums = kernels::Constraint::Constraint { segments: segments.clone() };
                let total = kernels::Constraint::ConstraintSum { segments: segments.clone() };
                self.emit_both(
                    node,
                    (Kernel::Constraint(sums), vec![g, r, partial]),
                    (Kernel::Constraint(total), vec![partial, stats]),
                );
                stats
            }
            ops::Constraint::Constraint { stats, .. } => {
                let stats = self.place(*stats);
                View { offset: stats.offset + Stats::CONSTRAINT, len: 1, ..stats }
            }
            ops::Constraint::ConstraintGrad { stats, g, r, segments, scale } => {
                let args = [*g, *r, *stats].map(|t| self.place(t));
                // What lies between the segments stays zero.
                let out = self.dedicated(self.size(node));
                let (segments, scale) = (segments.clone(), *scale);
                let kernel = kernels::Constraint::ConstraintGrad { segments, scale };
                self.emit(node, Kernel::Constraint(kernel), [&args[..], &[out]].concat());
                out
            }
        }
    }

    fn score(&mut self, node: Tensor, op: &ops::Score) -> View {
        let ops::Score::ImageCos { geometry, x, y, r, stats, segment } = *op;
        let args = [x, y, r].map(|t| self.place(t));
        let stats = self.place(stats);
        let (n, blocks) = (geometry.n, kernels::score::blocks(&geometry));
        let (partial, out) = (self.scratch(blocks * 2 * n), self.scratch(n));
        self.emit_both(
            node,
            (
                Kernel::Score(kernels::Score::ImageGrad { geometry }),
                [&args[..], &[partial]].concat(),
            ),
            (
                Kernel::Score(kernels::Score::ImageCos { blocks, n, segment }),
                vec![partial, stats, out],
            ),
        );
        out
    }

    fn batch(&mut self, node: Tensor, op: &ops::Batch) -> View {
        match op {
            ops::Batch::BatchImages { source } | ops::Batch::BatchWeight { source } => {
                let (images, weight) = self.gather(node, source);
                match op {
                    ops::Batch::BatchWeight { .. } => weight,
                    _ => images,
                }
            }
            ops::Batch::Record { a, log, offset, width, steps } => {
                let (a, len) = (self.place(*a), self.size(node));
                let rows = steps * self.options.replicas;
                let log = self.persistent(log, Element::Float, rows * width, false);
                let (offset, width) = (*offset, *width);
                let kernel = kernels::Batch::Record { len, offset, width };
                self.emit(node, Kernel::Batch(kernel), vec![a, log]);
                log
            }
        }
    }

    /// The kernel behind the images and the weights of one batch.
    fn gather(&mut self, node: Tensor, source: &ops::Source) -> (View, View) {
        let of = |wanted: &ops::Batch| {
            let wanted = Op::Batch(wanted.clone());
            self.tape.nodes().iter().position(|other| other.op == wanted).map(Tensor)
        };
        let images = of(&ops::Batch::BatchImages { source: source.clone() });
        let weight = of(&ops::Batch::BatchWeight { source: source.clone() });
        let [h, w, c, n] = self.tape.shape(images.expect("a batch is recorded with its images"));
        let pixels = h * w * c;
        let rows = source.steps * self.options.replicas;
        let data = self.persistent(&source.data, Element::U8, source.images * pixels, false);
        let indices = self.persistent(&source.indices, Element::U32, rows * n, false);
        let width = kernels::adam::SCHEDULE;
        let schedule = self.persistent(&source.schedule, Element::Float, rows * width, false);
        let (x, weights) = (self.scratch(pixels * n), self.scratch(n));
        let kernel = Kernel::Batch(kernels::Batch::Gather { pixels, n });
        self.emit(node, kernel, vec![data, indices, schedule, x, weights]);
        self.places.extend(images.map(|t| (t, x)));
        self.places.extend(weight.map(|t| (t, weights)));
        (x, weights)
    }

    fn adam(&mut self, node: Tensor, op: &ops::Adam) -> View {
        let (len, names) = (self.size(node), &op.buffers);
        let grad = self.place(op.grad);
        let [params, m, v] = [&names.params, &names.m, &names.v]
            .map(|name| self.persistent(name, Element::Float, len, true));
        let reference_len = names.reference_len;
        let reference = self.persistent(&names.reference, Element::Float, reference_len, true);
        let rows = names.steps * self.options.replicas;
        let width = kernels::adam::SCHEDULE;
        let schedule = self.persistent(&names.schedule, Element::Float, rows * width, false);
        let kernel = kernels::Adam { len, reference_len, config: op.config };
        let args = vec![params, m, v, reference, grad, schedule];
        self.emit(node, Kernel::Adam(kernel), args);
        params
    }
}
