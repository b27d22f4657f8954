//! Fusion: which nodes disappear into the kernel of another.
//!
//! A convolution takes in the bias, activation or derivative of one that follows it, and a second
//! convolution that is added to it. A weight's gradient takes in the gradient of the bias beside
//! it. An elementwise function takes in those that it alone, or others like it, are made of.

use std::collections::{HashMap, HashSet};

use crate::kernels::conv::Activation;
use crate::kernels::conv_w::End;
use crate::layout::Shape;
use crate::tape::ops::{Conv, ConvW, Map, Mapped, Memory, Op, Reduce};
use crate::tape::{Tape, Tensor};

/// A convolution, and what it does besides.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub conv: Convolution,
    /// The operands of a second one, in the order of the first's.
    pub pair: Option<[Tensor; 2]>,
    pub bias: Option<Tensor>,
    pub gate: Option<Tensor>,
    pub activation: Activation,
    /// The gradient of a bias, and which end of the first pair it sums.
    pub bias_grad: Option<(Tensor, End)>,
}

/// One of the trio.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Convolution {
    Activation(Conv),
    Weight(ConvW),
}

impl Convolution {
    fn of(op: &Op) -> Option<Convolution> {
        match op {
            Op::Conv(op) => Some(Convolution::Activation(op.clone())),
            Op::ConvW(op) => Some(Convolution::Weight(op.clone())),
            _ => None,
        }
    }

    fn operands(&self) -> [Tensor; 2] {
        match *self {
            Convolution::Activation(
                Conv::ConvY { x: a, w: b, .. } | Conv::ConvX { y: a, w: b, .. },
            )
            | Convolution::Weight(ConvW { x: a, y: b, .. }) => [a, b],
        }
    }

    /// The same with other operands.
    fn with(&self, [first, second]: [Tensor; 2]) -> Convolution {
        let mut other = self.clone();
        match &mut other {
            Convolution::Activation(
                Conv::ConvY { x: a, w: b, .. } | Conv::ConvX { y: a, w: b, .. },
            )
            | Convolution::Weight(ConvW { x: a, y: b, .. }) => (*a, *b) = (first, second),
        }
        other
    }

    /// The result's shape.
    fn shape(&self) -> Shape {
        match self {
            Convolution::Activation(Conv::ConvY { geometry, .. }) => geometry.y_shape(),
            Convolution::Activation(Conv::ConvX { geometry, .. }) => geometry.x_shape(),
            Convolution::Weight(ConvW { geometry, .. }) => geometry.w_shape(),
        }
    }

    /// Whether `other` is the same kernel of the same sizes.
    fn is_like(&self, other: &Convolution) -> bool {
        self.with(other.operands()) == *other
    }
}

/// What disappears, and into what.
pub(super) struct Fusion {
    /// For every node that ends a fused convolution, its parts.
    pub ends: HashMap<Tensor, Fused>,
    /// For every gradient of a bias that a weight's gradient takes in, that one's end.
    pub bias_grads: HashMap<Tensor, Tensor>,
    /// Elementwise functions that those which use them compute for themselves.
    pub inlined: HashSet<Tensor>,
}

impl Fusion {
    pub(super) fn new(tape: &Tape) -> Fusion {
        let uses = Uses::of(tape);
        let (ends, taken) = convolutions(tape, &uses);
        let mut fusion = Fusion { ends, bias_grads: HashMap::new(), inlined: HashSet::new() };
        for node in uses.live() {
            fusion.take_bias_grad(tape, node);
        }
        let is_map = |t: Tensor| matches!(tape.node(t).op, Op::Map(_)) && !taken.contains(&t);
        for node in uses.live().filter(|&t| is_map(t)) {
            if uses.of[node.0].iter().all(|&user| is_map(user)) {
                fusion.inlined.insert(node);
            }
        }
        fusion
    }

    /// If `node` is the sum over positions and images of what a weight's gradient is made of, that
    /// kernel computes it as well.
    fn take_bias_grad(&mut self, tape: &Tape, node: Tensor) {
        let Op::Reduce(Reduce::SumTo { a }) = tape.node(node).op else { return };
        if !per_channel(tape, node) {
            return;
        }
        let mut ends: Vec<Tensor> = self.ends.keys().copied().collect();
        ends.sort();
        for end in ends {
            let fused = &self.ends[&end];
            if fused.bias_grad.is_some() || !matches!(fused.conv, Convolution::Weight(_)) {
                continue;
            }
            let first = fused.conv.operands();
            let Some((pair, other)) = [(first, fused.pair)]
                .into_iter()
                .chain(fused.pair.map(|pair| (pair, Some(first))))
                .find(|(pair, _)| pair.contains(&a))
            else {
                continue;
            };
            // Nothing may wait for itself.
            if depends(tape, end, node) {
                continue;
            }
            let which = if pair[0] == a { End::X } else { End::Y };
            let conv = fused.conv.with(pair);
            let fused =
                Fused { conv, pair: other, bias_grad: Some((node, which)), ..fused.clone() };
            self.ends.insert(end, fused);
            self.bias_grads.insert(node, end);
            return;
        }
    }
}

/// Which nodes the sinks need, and who uses what.
struct Uses {
    live: Vec<bool>,
    of: Vec<Vec<Tensor>>,
}

impl Uses {
    fn of(tape: &Tape) -> Uses {
        let mut live = vec![false; tape.nodes().len()];
        let mut of: Vec<Vec<Tensor>> = vec![vec![]; live.len()];
        for i in (0..live.len()).rev() {
            let op = &tape.nodes()[i].op;
            live[i] |= op.is_sink();
            if live[i] {
                for t in op.inputs() {
                    live[t.0] = true;
                    of[t.0].push(Tensor(i));
                }
            }
        }
        Uses { live, of }
    }

    fn live(&self) -> impl Iterator<Item = Tensor> {
        (0..self.live.len()).filter(|&i| self.live[i]).map(Tensor)
    }
}

/// Follows each convolution through its only user, as long as the kernel can do what the user does;
/// and the nodes that disappear on the way.
fn convolutions(tape: &Tape, uses: &Uses) -> (HashMap<Tensor, Fused>, HashSet<Tensor>) {
    let mut ends = HashMap::new();
    let mut taken = HashSet::new();
    for node in uses.live() {
        let Some(conv) = Convolution::of(&tape.node(node).op).filter(|_| !taken.contains(&node))
        else {
            continue;
        };
        let mut fused = Fused {
            conv,
            pair: None,
            bias: None,
            gate: None,
            activation: Activation::None,
            bias_grad: None,
        };
        let mut end = node;
        while let [next] = uses.of[end.0][..] {
            if taken.contains(&next) {
                break;
            }
            let Some(also) = fused.absorb(tape, uses, end, next) else { break };
            taken.insert(next);
            taken.extend(also);
            end = next;
        }
        ends.insert(end, fused);
    }
    (ends, taken)
}

impl Fused {
    /// Takes `next`, the only user of `end`, in if it fits behind what is there already. What else
    /// disappears with it: the other convolution of a sum.
    fn absorb(
        &mut self,
        tape: &Tape,
        uses: &Uses,
        end: Tensor,
        next: Tensor,
    ) -> Option<Option<Tensor>> {
        // A weight's gradient can only be added to another.
        let whole = matches!(self.conv, Convolution::Activation(_));
        if self.activation != Activation::None {
            return None;
        }
        let (map, [a, b]) = match tape.node(next).op {
            Op::Map(Mapped { map, of }) => (map, of),
            // What is elementwise doesn't mind another shape.
            Op::Memory(Memory::Reshape { .. }) if whole => return Some(None),
            _ => return None,
        };
        match map {
            Map::Add => {
                let other = if a == end { b } else { a };
                match &tape.node(other).op {
                    Op::Reduce(Reduce::Broadcast { a: bias })
                        if whole
                            && self.bias.is_none()
                            && per_channel(tape, *bias)
                            && tape.shape(end) == self.conv.shape() =>
                    {
                        self.bias = Some(*bias);
                    }
                    op => {
                        let second = Convolution::of(op).filter(|conv| self.conv.is_like(conv))?;
                        let alone = uses.of[other.0].len() == 1 && other != end;
                        if !alone || self.pair.is_some() || self.bias.is_some() {
                            return None;
                        }
                        self.pair = Some(second.operands());
                        return Some(Some(other));
                    }
                }
            }
            Map::Relu if whole => self.activation = Activation::Relu,
            Map::Sigmoid if whole => self.activation = Activation::Sigmoid,
            Map::ReluGrad if whole && a == end && b != end => {
                (self.gate, self.activation) = (Some(b), Activation::Gate);
            }
            _ => return None,
        }
        Some(None)
    }
}

fn per_channel(tape: &Tape, bias: Tensor) -> bool {
    let [h, w, _, n] = tape.shape(bias);
    (h, w, n) == (1, 1, 1)
}

/// Whether `node` is computed from `from`.
fn depends(tape: &Tape, node: Tensor, from: Tensor) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![node];
    while let Some(t) = open.pop() {
        if t == from {
            return true;
        }
        if seen.insert(t) {
            open.extend(tape.node(t).op.inputs());
        }
    }
    false
}
