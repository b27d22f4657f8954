//! Lowering: from operations to kernel calls, one [`Step`] or a few for every node that is needed.
//!
//! A long sum is left in parts by the kernel that computes it ([`Sum`]) and added by the one that
//! uses it, if that can take [`Piece`]s; else by a call that does nothing else.

use std::collections::{BTreeMap, HashMap};

use super::fuse::{Convolution, Fused, Fusion};
use super::{Call, Options, Precision, View};
use crate::kernels::batch::{MAX_VALUES, Values};
use crate::kernels::conv::Epilogue;
use crate::kernels::map::{Input, Link, MAX_INPUTS, MAX_LINKS, Operand};
use crate::kernels::reduce::MAX_PIECES;
use crate::kernels::{self, Element, Kernel, MapKernel};
use crate::layout::{Piece, Segment, Shape, Stats, pack, size};
use crate::tape::ops::{self, Map, Op};
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

/// A call before it has its place among the others.
pub(super) struct Step {
    pub call: Call,
    /// Order of recording, for a stable schedule.
    pub order: usize,
    /// Must follow everything else: it changes what others read.
    pub last: bool,
}

/// A node that a kernel leaves as a sum: `terms` of its size, one behind the other, from element
/// `at` of `view`.
#[derive(Clone, Copy)]
struct Sum {
    view: View,
    at: usize,
    terms: usize,
}

/// Where the parts of a concatenation lie, in one buffer: each sum beside the others.
struct Joint {
    whole: View,
    /// Of each part that isn't computed in place by another's kernel.
    regions: Vec<Option<View>>,
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
        sums: HashMap::new(),
        homes: HashMap::new(),
        joints: HashMap::new(),
        gradients: HashMap::new(),
        converted: HashMap::new(),
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
    /// Those that are sums, before anybody adds them.
    sums: HashMap<Tensor, Sum>,
    /// Parts of concatenations: where a node's kernel can write to directly.
    homes: HashMap<Tensor, View>,
    joints: HashMap<Tensor, Joint>,
    /// By the node of a constraint's sums: the gradients that they are of.
    gradients: HashMap<Tensor, View>,
    /// Nodes in the other precision than they were computed in.
    converted: HashMap<Tensor, View>,
    steps: Vec<Step>,
}

impl Lowering<'_> {
    fn size(&self, node: Tensor) -> usize {
        size(self.tape.shape(node))
    }

    fn plan_concat(&mut self, node: Tensor, parts: &[(Tensor, usize)]) {
        let region = |it: &Self, part: Tensor| {
            let computed = !matches!(
                it.tape.node(part).op,
                Op::Memory(
                    ops::Memory::Leaf { .. }
                        | ops::Memory::Slice { .. }
                        | ops::Memory::Reshape { .. }
                        | ops::Memory::Concat { .. }
                ) | Op::Constraint(ops::Constraint::Constraint { .. })
            );
            let home = computed && !it.homes.contains_key(&part);
            match it.fusion.bias_grads.get(&part) {
                Some(end) if parts.iter().any(|(other, _)| other == end) => None,
                _ => Some((home, it.weight_sums(part).map_or(it.size(part), |k| k.result_len()))),
            }
        };
        let wanted: Vec<_> = parts.iter().map(|&(part, _)| region(self, part)).collect();
        let (offsets, len) = pack(wanted.iter().map(|region| region.map_or(0, |(_, len)| len)));
        let whole = self.scratch(len);
        let mut regions = vec![];
        for ((&(part, _), region), offset) in parts.iter().zip(&wanted).zip(offsets) {
            let view = region.map(|(_, len)| View { buffer: whole.buffer, offset, len });
            if let (Some((true, _)), Some(view)) = (region, view) {
                self.homes.insert(part, view);
            }
            regions.push(view);
        }
        self.joints.insert(node, Joint { whole, regions });
    }

    /// The kernel of a weight's gradient, if the node is one.
    fn weight_sums(&self, node: Tensor) -> Option<kernels::ConvW> {
        let fused = self.fusion.ends.get(&node)?;
        let Convolution::Weight(op) = &fused.conv else { return None };
        let bias = fused.bias_grad.map(|(_, end)| end);
        Some(kernels::ConvW::new(op.geometry, fused.pair.is_some(), bias, self.options.form))
    }

    fn buffer(&mut self, new: Virtual) -> View {
        let len = new.len;
        self.buffers.push(new);
        View { buffer: self.buffers.len() - 1, offset: 0, len }
    }

    /// Scratch memory that may serve several nodes, one after the other.
    fn scratch(&mut self, len: usize) -> View {
        self.scratch_of(Element::Float, len)
    }

    fn scratch_of(&mut self, element: Element, len: usize) -> View {
        let (name, replicated) = (None, true);
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

    /// Where the kernel of `node` writes `len` elements: its home in a concatenation, unless the
    /// kernel also reads from that buffer.
    fn result_of(&mut self, node: Tensor, reads: &[View], len: usize) -> View {
        if let Some(&home) = self.homes.get(&node)
            && reads.iter().all(|r| r.buffer != home.buffer)
        {
            return home;
        }
        self.scratch(len)
    }

    fn result(&mut self, node: Tensor, reads: &[View]) -> View {
        self.result_of(node, reads, self.size(node))
    }

    fn emit(&mut self, node: Tensor, kernel: Kernel, args: Vec<View>) {
        let label = self.tape.node(node).label.clone();
        let last = kernel.family().is_last();
        self.steps.push(Step { call: Call { kernel, args, label }, order: node.0, last });
    }

    /// Lowers `node` and what it needs, once: where it is, as floats.
    fn place(&mut self, node: Tensor) -> View {
        self.placed_as(node, Element::Float)
    }

    /// The same, as floats or in half precision.
    fn placed_as(&mut self, node: Tensor, element: Element) -> View {
        let view = self.computed_once(node);
        if self.buffers[view.buffer].element == element {
            return view;
        }
        if let Some(&view) = self.converted.get(&node) {
            return view;
        }
        let (len, to) = (view.len, self.scratch_of(element, view.len));
        let kernel = match element {
            Element::Half => kernels::Memory::Narrow { len },
            _ => kernels::Memory::Widen { len },
        };
        self.emit(node, Kernel::Memory(kernel), vec![view, to]);
        self.converted.insert(node, to);
        to
    }

    /// Lowers `node` and what it needs, once: where it is, in the precision of its kernel.
    fn computed_once(&mut self, node: Tensor) -> View {
        if let Some(&view) = self.places.get(&node) {
            return view;
        }
        let view = match self.sum(node) {
            Some(sum) => self.added(node, sum),
            None => self.computed(node),
        };
        self.places.insert(node, view);
        view
    }

    /// Lowers these nodes: whether one of them is in half precision.
    fn any_half(&mut self, nodes: &[Tensor]) -> bool {
        let views: Vec<View> = nodes.iter().map(|&t| self.computed_once(t)).collect();
        views.iter().any(|view| self.buffers[view.buffer].element == Element::Half)
    }

    /// Where these nodes are, in half precision or as floats.
    fn place_all(&mut self, nodes: &[Tensor], half: bool) -> Vec<View> {
        let element = if half { Element::Half } else { Element::Float };
        nodes.iter().map(|&t| self.placed_as(t, element)).collect()
    }

    /// Whether a tensor of images is kept in half precision.
    fn keeps_half(&self, images: usize) -> bool {
        self.options.precision == Precision::F16 && images.is_multiple_of(4)
    }

    /// A node that no kernel leaves as a sum.
    fn computed(&mut self, node: Tensor) -> View {
        let (fusion, tape) = (self.fusion, self.tape);
        if let Some(fused) = fusion.ends.get(&node)
            && let Convolution::Activation(op) = &fused.conv
        {
            return self.conv(node, op, fused);
        }
        match &tape.node(node).op {
            Op::Memory(op) => self.memory(node, op),
            Op::Map(_) => self.map(node),
            Op::Reduce(op) => self.reduce(node, op),
            Op::Loss(op) => self.loss(node, op),
            Op::Constraint(op) => self.constraint(node, op),
            Op::Score(op) => self.score(node, op),
            Op::Batch(op) => self.batch(node, op),
            Op::Adam(op) => self.adam(node, op),
            Op::Noise(op) => self.noise(node, op),
            Op::Conv(_) | Op::ConvW(_) => unreachable!("every convolution ends a fusion"),
        }
    }

    /// A node that a kernel leaves as a sum; `None` for others.
    fn sum(&mut self, node: Tensor) -> Option<Sum> {
        let (fusion, tape) = (self.fusion, self.tape);
        if let Some(&sum) = self.sums.get(&node) {
            return Some(sum);
        }
        match &tape.node(node).op {
            Op::Loss(ops::Loss::Mse { x, target, weight }) => {
                let [h, w, c, n] = tape.shape(*x);
                let rows = h * w * c;
                let half = self.any_half(&[*x, *target]);
                let mut args = self.place_all(&[*x, *target], half);
                let terms = kernels::loss::groups(rows);
                let view = self.scratch(terms);
                args.extend([self.place(*weight), view]);
                self.emit(node, Kernel::Loss(kernels::Loss::Mse { rows, n, half }), args);
                self.sums.insert(node, Sum { view, at: 0, terms });
            }
            _ => {
                let end = fusion.bias_grads.get(&node).copied().unwrap_or(node);
                let kernel = self.weight_sums(end)?;
                self.conv_w(end, &fusion.ends[&end], kernel);
            }
        }
        self.sums.get(&node).copied()
    }

    /// The sum of a node that is one, added.
    fn added(&mut self, node: Tensor, Sum { view, at, terms }: Sum) -> View {
        let len = self.size(node);
        if terms == 1 && at == 0 {
            return View { len, ..view };
        }
        let pieces = vec![Piece { first: 0, len, at, terms }];
        self.added_pieces(node, view, pieces)
    }

    fn added_pieces(&mut self, node: Tensor, parts: View, pieces: Vec<Piece>) -> View {
        let len = self.size(node);
        let out = self.scratch(len);
        let kernel = kernels::Reduce::SumPieces { len, pieces };
        self.emit(node, Kernel::Reduce(kernel), vec![parts, out]);
        out
    }

    /// A flat node as pieces of one buffer, at most `most`.
    fn pieces(&mut self, node: Tensor, most: usize) -> (View, Vec<Piece>) {
        let tape = self.tape;
        match &tape.node(node).op {
            Op::Memory(ops::Memory::Concat { parts }) if parts.len() <= most => {
                self.joint(node, parts)
            }
            _ => {
                let len = self.size(node);
                (self.place(node), vec![Piece::whole(0, Segment { offset: 0, len })])
            }
        }
    }

    /// The parts of a concatenation, each a piece.
    fn joint(&mut self, node: Tensor, parts: &[(Tensor, usize)]) -> (View, Vec<Piece>) {
        let whole = self.joints[&node].whole;
        let mut pieces = vec![];
        for (i, &(part, first)) in parts.iter().enumerate() {
            let len = self.size(part);
            let piece = |at, terms| Piece { first, len, at, terms };
            if let Some(Sum { view, at, terms }) = self.sum(part)
                && view.buffer == whole.buffer
            {
                pieces.push(piece(view.offset + at, terms));
                continue;
            }
            let mut from = self.place(part);
            if from.buffer != whole.buffer {
                let region = self.joints[&node].regions[i];
                let to = View { len, ..region.unwrap_or_else(|| self.scratch(len)) };
                self.copy(node, from, to);
                from = to;
            }
            pieces.push(piece(from.offset, 1));
        }
        (whole, pieces)
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
            ops::Memory::Reshape { a } => self.computed_once(*a),
            ops::Memory::Concat { parts } => {
                let (whole, pieces) = self.joint(node, parts);
                self.added_pieces(node, whole, pieces)
            }
            ops::Memory::Store { a, name } => {
                let a = self.place(*a);
                let out = self.persistent(name, Element::Float, len, true);
                self.copy(node, a, out);
                out
            }
        }
    }

    fn conv(&mut self, node: Tensor, op: &ops::Conv, fused: &Fused) -> View {
        let (ops::Conv::ConvY { x: a, w, .. } | ops::Conv::ConvX { y: a, w, .. }) = *op;
        let epilogue = Epilogue { bias: fused.bias.is_some(), activation: fused.activation };
        let (pair, slices, half) = (fused.pair.is_some(), 1, false);
        let kernel = match *op {
            ops::Conv::ConvY { geometry, .. } => {
                kernels::Conv::ConvY { geometry, pair, epilogue, slices, half }
            }
            ops::Conv::ConvX { geometry, .. } => {
                kernels::Conv::ConvX { geometry, pair, epilogue, slices, half }
            }
        };
        let mut kernel = kernel.sliced(self.options.form);
        let halved = kernel.clone().halved();
        let halved = halved.filter(|_| self.keeps_half(self.tape.shape(node)[3]));
        let element = if halved.is_some() { Element::Half } else { Element::Float };
        kernel = halved.unwrap_or(kernel);
        let (a, w) = (self.placed_as(a, element), self.place(w));
        let [a2, w2] =
            fused.pair.map_or([a, w], |[a2, w2]| [self.placed_as(a2, element), self.place(w2)]);
        let bias = fused.bias.map_or(w, |t| self.place(t));
        let gate = fused.gate.map_or(a, |t| self.placed_as(t, element));
        let mut args = vec![a, w, a2, w2, bias, gate];
        let out = match element {
            Element::Half => self.scratch_of(element, self.size(node)),
            _ => self.result(node, &args),
        };
        args.push(out);
        self.emit(node, Kernel::Conv(kernel), args);
        out
    }

    /// The sums of a weight's gradient, and of the bias's if it is fused.
    fn conv_w(&mut self, node: Tensor, fused: &Fused, kernel: kernels::ConvW) {
        let Convolution::Weight(op) = &fused.conv else { return };
        let pair = fused.pair.unwrap_or([op.x, op.x]);
        let halved = kernel.clone().halved();
        let half = halved.is_some() && self.any_half(&[op.x, op.y, pair[0], pair[1]]);
        let kernel = halved.filter(|_| half).unwrap_or(kernel);
        let args = self.place_all(&[op.x, op.y, pair[0], pair[1]], half);
        let view = self.result_of(node, &args, kernel.result_len());
        let terms = kernel.splits;
        self.sums.insert(node, Sum { view, at: 0, terms });
        if let Some((bias, _)) = fused.bias_grad {
            self.sums.insert(bias, Sum { view, at: kernel.weight_len(), terms });
        }
        self.emit(node, Kernel::ConvW(kernel), [args, vec![view]].concat());
    }

    /// An elementwise function, with those that are inlined in it.
    fn map(&mut self, node: Tensor) -> View {
        let mut chain = Chain { inputs: vec![], links: vec![], known: HashMap::new() };
        if chain.link(self, node, true).is_none() {
            chain = Chain { inputs: vec![], links: vec![], known: HashMap::new() };
            chain.link(self, node, false);
        }
        let whole = chain.inputs.iter().filter(|(_, input)| *input == Input::Whole);
        let half = self.any_half(&whole.map(|&(t, _)| t).collect::<Vec<_>>());
        let element = |input| match input {
            Input::Whole if half => Element::Half,
            _ => Element::Float,
        };
        let place = |&(t, input): &(Tensor, Input)| self.placed_as(t, element(input));
        let mut args: Vec<View> = chain.inputs.iter().map(place).collect();
        args.resize(MAX_INPUTS, args[0]);
        let len = self.size(node);
        let out = if half { self.scratch_of(Element::Half, len) } else { self.result(node, &args) };
        args.push(out);
        let inputs = chain.inputs.into_iter().map(|(_, input)| input).collect();
        let kernel = MapKernel { len, inputs, links: chain.links, half };
        self.emit(node, Kernel::Map(kernel), args);
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

    fn loss(&mut self, node: Tensor, op: &ops::Loss) -> View {
        let ops::Loss::ImageMse { x, target } = *op else { unreachable!("mse is a sum") };
        let [h, w, c, n] = self.tape.shape(x);
        let half = self.any_half(&[x, target]);
        let mut args = self.place_all(&[x, target], half);
        let out = self.result(node, &args);
        args.push(out);
        self.emit(node, Kernel::Loss(kernels::Loss::ImageMse { rows: h * w * c, n, half }), args);
        out
    }

    fn constraint(&mut self, node: Tensor, op: &ops::Constraint) -> View {
        match op {
            ops::Constraint::ConstraintStats { g, r, segments } => {
                let r = self.place(*r);
                let (parts, pieces) = self.segments(*g, segments);
                let blocks = kernels::constraint::max_blocks(segments);
                let sums = self.scratch(self.size(*g));
                let partial = self.scratch(segments.len() * blocks * 3);
                let stats = self.scratch(self.size(node));
                let kernel = kernels::Constraint::Constraint { pieces };
                self.emit(node, Kernel::Constraint(kernel), vec![parts, r, sums, partial]);
                let total = kernels::Constraint::ConstraintSum { segments: segments.clone() };
                self.emit(node, Kernel::Constraint(total), vec![partial, stats]);
                self.gradients.insert(node, sums);
                stats
            }
            ops::Constraint::Constraint { stats, .. } => {
                let stats = self.place(*stats);
                View { offset: stats.offset + Stats::CONSTRAINT, len: 1, ..stats }
            }
            ops::Constraint::ConstraintGrad { stats, r, segments, scale, weight, .. } => {
                let (r, sums) = (self.place(*r), self.place(*stats));
                let weight = weight.map(|weight| self.weight(weight));
                let terms = weight.map_or(0, |weight| weight.len);
                let g = self.gradients[stats];
                // What lies between the segments stays zero.
                let out = self.dedicated(self.size(node));
                let (segments, scale) = (segments.clone(), *scale);
                let kernel = kernels::Constraint::ConstraintGrad { segments, scale, terms };
                let args = vec![g, r, sums, weight.unwrap_or(sums), out];
                self.emit(node, Kernel::Constraint(kernel), args);
                out
            }
        }
    }

    /// A scalar, or the few numbers that it is the sum of, where they are a leaf.
    fn weight(&mut self, node: Tensor) -> View {
        match self.tape.node(node).op {
            Op::Reduce(ops::Reduce::SumTo { a })
                if matches!(self.tape.node(a).op, Op::Memory(ops::Memory::Leaf { .. }))
                    && self.size(a) <= kernels::constraint::MAX_TERMS =>
            {
                self.place(a)
            }
            _ => self.place(node),
        }
    }

    /// Segments of a flat node, each a piece.
    fn segments(&mut self, node: Tensor, segments: &[Segment]) -> (View, Vec<Piece>) {
        let (view, pieces) = self.pieces(node, usize::MAX);
        let of = |s: &Segment| pieces.iter().find(|p| p.segment() == *s).copied();
        match segments.iter().map(of).collect() {
            Some(pieces) => (view, pieces),
            None => {
                let whole = |&s: &Segment| Piece::whole(s.offset, s);
                (self.place(node), segments.iter().map(whole).collect())
            }
        }
    }

    fn score(&mut self, node: Tensor, op: &ops::Score) -> View {
        let (ops::Score::ImageCos { geometry, x, y, r, .. }
        | ops::Score::ImageSquares { geometry, x, y, r }) = *op;
        let squares = matches!(op, ops::Score::ImageSquares { .. });
        let half = self.any_half(&[x, y]);
        let mut args = self.place_all(&[x, y], half);
        args.push(self.place(r));
        let (n, blocks) = (geometry.n, kernels::score::blocks(&geometry));
        let (partial, out) = (self.scratch(blocks * 2 * n), self.scratch(self.size(node)));
        args.push(partial);
        let grad = kernels::Score::ImageGrad { geometry, squares, half };
        self.emit(node, Kernel::Score(grad), args);
        match *op {
            ops::Score::ImageCos { stats, segment, .. } => {
                let stats = self.place(stats);
                let cos = kernels::Score::ImageCos { blocks, n, segment };
                self.emit(node, Kernel::Score(cos), vec![partial, stats, out]);
            }
            ops::Score::ImageSquares { .. } => {
                let sum = kernels::Reduce::SumTo { small: [1, 1, 2, n], large: [blocks, 1, 2, n] };
                self.emit(node, Kernel::Reduce(sum), vec![partial, out]);
            }
        }
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
            ops::Batch::Record { log, width, steps, .. } => {
                self.record(log, *width, *steps);
                self.places[&node]
            }
        }
    }

    /// All that is recorded in rows of one log, by as few kernels as it takes.
    fn record(&mut self, log: &str, width: usize, steps: usize) {
        let rows = steps * self.options.replicas;
        let row = self.persistent(log, Element::Float, rows * width, false);
        let mut of = vec![];
        for (i, node) in self.tape.nodes().iter().enumerate() {
            if let Op::Batch(ops::Batch::Record { a, log: other, offset, .. }) = &node.op
                && other == log
            {
                of.push((Tensor(i), *a, *offset));
                self.places.insert(Tensor(i), row);
            }
        }
        for of in of.chunks(MAX_VALUES) {
            let mut args = vec![];
            let mut values = vec![];
            for &(_, a, offset) in of {
                let (view, terms) = match self.sum(a) {
                    Some(Sum { view, at: 0, terms }) => (view, terms),
                    _ => (self.place(a), 1),
                };
                args.push(view);
                values.push(Values { len: self.size(a), terms, offset });
            }
            args.resize(MAX_VALUES, args[0]);
            args.push(row);
            self.emit(of[0].0, Kernel::Batch(kernels::Batch::Record { values, width }), args);
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
        let half = self.keeps_half(n);
        let element = if half { Element::Half } else { Element::Float };
        let (x, weights) = (self.scratch_of(element, pixels * n), self.scratch(n));
        let kernel = Kernel::Batch(kernels::Batch::Gather { pixels, n, half });
        self.emit(node, kernel, vec![data, indices, schedule, x, weights]);
        self.places.extend(images.map(|t| (t, x)));
        self.places.extend(weight.map(|t| (t, weights)));
        (x, weights)
    }

    fn noise(&mut self, node: Tensor, op: &ops::Noise) -> View {
        let [h, w, c, n] = self.tape.shape(node);
        let rows = op.steps * self.options.replicas;
        let width = kernels::noise::DRAWS;
        let draws = self.persistent(&op.draws, Element::U32, rows * width, false);
        let out = self.result(node, &[draws]);
        let kernel = kernels::Noise { features: h * w * c, n, layer: op.layer };
        self.emit(node, Kernel::Noise(kernel), vec![draws, out]);
        out
    }

    fn adam(&mut self, node: Tensor, op: &ops::Adam) -> View {
        let (len, names) = (self.size(node), &op.buffers);
        // A factor on the whole gradient, such as what undoes a loss scale, is Adam's to apply.
        let (grad, scale) = match self.tape.node(op.grad).op {
            Op::Map(ops::Mapped { map: Map::Affine { scale, shift: 0.0 }, of: [grad, _] }) => {
                (grad, scale)
            }
            _ => (op.grad, 1.0),
        };
        let (parts, pieces) = self.pieces(grad, MAX_PIECES);
        let [params, m, v] = [&names.params, &names.m, &names.v]
            .map(|name| self.persistent(name, Element::Float, len, true));
        let reference_len = names.reference_len;
        let reference = self.persistent(&names.reference, Element::Float, reference_len, true);
        let rows = names.steps * self.options.replicas;
        let width = kernels::adam::SCHEDULE;
        let schedule = self.persistent(&names.schedule, Element::Float, rows * width, false);
        let lr = self.persistent(&names.lr, Element::Float, 1, true);
        let kernel = kernels::Adam { len, reference_len, pieces, scale, config: op.config };
        let args = vec![params, m, v, reference, parts, schedule, lr];
        self.emit(node, Kernel::Adam(kernel), args);
        params
    }
}

/// A chain of elementwise functions in the making.
struct Chain {
    inputs: Vec<(Tensor, Input)>,
    links: Vec<Link>,
    /// Nodes that are a link already.
    known: HashMap<Tensor, Operand>,
}

impl Chain {
    /// Appends the function at `node` behind those that it is made of, if `deep`; `None` if there
    /// is no room for all of them.
    fn link(&mut self, of: &Lowering, node: Tensor, deep: bool) -> Option<Operand> {
        if let Some(&known) = self.known.get(&node) {
            return Some(known);
        }
        let Op::Map(ops::Mapped { map, of: operands }) = of.tape.node(node).op else {
            unreachable!("only elementwise functions are linked")
        };
        let mut found = [Operand::Input(0); 2];
        for (found, t) in found.iter_mut().zip(operands) {
            *found = if deep && of.fusion.inlined.contains(&t) {
                self.link(of, t, true)?
            } else {
                self.input(of, t)?
            };
        }
        if self.links.len() == MAX_LINKS {
            return None;
        }
        self.links.push(Link { map, of: found });
        let link = Operand::Link(self.links.len() - 1);
        self.known.insert(node, link);
        Some(link)
    }

    /// An input of the chain: a node, or what it repeats.
    fn input(&mut self, of: &Lowering, node: Tensor) -> Option<Operand> {
        let input = match of.tape.node(node).op {
            Op::Reduce(ops::Reduce::Broadcast { a }) => {
                repeated(of.tape.shape(a), of.tape.shape(node)).map(|input| (a, input))
            }
            _ => None,
        };
        let input = input.unwrap_or((node, Input::Whole));
        let known = self.inputs.iter().position(|known| *known == input);
        let at = known.unwrap_or(self.inputs.len());
        if at == MAX_INPUTS {
            return None;
        }
        if known.is_none() {
            self.inputs.push(input);
        }
        Some(Operand::Input(at))
    }
}

/// How a chain reads a tensor that is repeated along its axes of size 1, if what is kept is one run
/// of axes.
fn repeated(small: Shape, large: Shape) -> Option<Input> {
    let kept: Vec<usize> = (0..4).filter(|&axis| small[axis] > 1).collect();
    let (first, last) = (*kept.first().unwrap_or(&4), *kept.last().unwrap_or(&3));
    let whole = (first..=last).all(|axis| small[axis] == large[axis]);
    let inner = if kept.is_empty() { size(large) } else { large[last + 1..].iter().product() };
    whole.then_some(Input::Repeated { inner, count: size(small) })
}
