//! Fusion: which nodes disappear into a convolution. Bias, sums, activations and their derivatives
//! become its epilogue.

use std::collections::HashMap;

use crate::kernels::conv::Activation;
use crate::tape::ops::{Conv, ConvW, Map, Mapped, Op, Reduce};
use crate::tape::{Tape, Tensor};

/// A convolution, and what it does besides.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub conv: Convolution,
    pub extras: Extras,
}

/// One of the trio.
#[derive(Clone, Debug)]
pub(super) enum Convolution {
    Activation(Conv),
    Weight(ConvW),
}

/// What a convolution takes in besides its operands.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub bias: Option<Tensor>,
    pub addend: Option<Tensor>,
    pub gate: Option<Tensor>,
    pub activation: Activation,
}

/// For every node that ends a fused convolution, its parts.
pub(super) struct Fusion {
    pub ends: HashMap<Tensor, Fused>,
}

impl Fusion {
    /// Follows each convolution through its only consumer, as long as the kernel's epilogue can do
    /// what the consumer does.
    pub(super) fn new(tape: &Tape) -> Fusion {
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
        for i in (0..live.len()).filter(|&i| live[i]) {
            let conv = match &tape.nodes()[i].op {
                Op::Conv(op) => Convolution::Activation(op.clone()),
                Op::ConvW(op) => Convolution::Weight(op.clone()),
                _ => continue,
            };
            let mut fused = Fused { conv, extras: Extras::default() };
            let mut end = Tensor(i);
            while let [next] = consumers[end.0][..] {
                if taken[next.0] || !fused.absorb(tape, end, next) {
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
    fn absorb(&mut self, tape: &Tape, end: Tensor, next: Tensor) -> bool {
        // A weight's gradient can only be added to.
        let whole = matches!(self.conv, Convolution::Activation(_));
        let extras = &mut self.extras;
        let Op::Map(Mapped { map, of: [a, b] }) = tape.node(next).op else { return false };
        if extras.activation != Activation::None {
            return false;
        }
        match map {
            Map::Add if extras.addend.is_none() => {
                let other = if a == end { b } else { a };
                match tape.node(other).op {
                    Op::Reduce(Reduce::Broadcast { a: bias })
                        if whole && extras.bias.is_none() && per_channel(tape, bias) =>
                    {
                        extras.bias = Some(bias);
                    }
                    _ if other != end => extras.addend = Some(other),
                    _ => return false,
                }
            }
            Map::Relu if whole => extras.activation = Activation::Relu,
            Map::Sigmoid if whole => extras.activation = Activation::Sigmoid,
            Map::ReluGrad if whole && a == end && b != end => {
                (extras.gate, extras.activation) = (Some(b), Activation::Gate);
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
