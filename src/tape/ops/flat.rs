//! Leaves, and flat buffers made of tensors: slice and concat are places in memory, not work.

use super::Want;
use crate::program::kernel::ALIGNMENT;
use crate::tape::{Op, Shape, Tape, Tensor, check_flat, flat, size};

/// Offsets of tensors of these sizes in one flat buffer, each at a multiple of [`ALIGNMENT`], and
/// the buffer's length.
pub fn layout(sizes: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut end = 0;
    let offsets = sizes
        .into_iter()
        .map(|size| {
            let start = end;
            end = (start + size).next_multiple_of(ALIGNMENT);
            start
        })
        .collect();
    (offsets, end)
}

impl Tape {
    /// A persistent buffer of the engine, by name, one for each replica.
    #[track_caller]
    pub fn leaf(&mut self, name: &str, shape: Shape) -> Tensor {
        let clash = self.nodes.iter().find(|n| {
            matches!(&n.op, Op::Leaf { name: known } if known == name) && n.shape != shape
        });
        assert!(clash.is_none(), "leaf '{name}': recorded with another shape than {shape:?}");
        self.push(Op::Leaf { name: name.into() }, shape)
    }

    /// A tensor of `shape` that lies at `offset` (a multiple of [`ALIGNMENT`]) of a flat one.
    #[track_caller]
    pub fn slice(&mut self, of: Tensor, offset: usize, shape: Shape) -> Tensor {
        check_flat(self, "slice", of, offset + size(shape));
        assert!(
            offset.is_multiple_of(ALIGNMENT),
            "slice: offset {offset} is no multiple of {ALIGNMENT}"
        );
        self.push(Op::Slice { of, offset }, shape)
    }

    /// A flat tensor of `len` elements with `parts` at their offsets (multiples of [`ALIGNMENT`],
    /// in order) and zeros between.
    #[track_caller]
    pub fn concat(&mut self, parts: &[(Tensor, usize)], len: usize) -> Tensor {
        let mut end = 0;
        for &(t, offset) in parts {
            assert!(
                offset.is_multiple_of(ALIGNMENT) && offset >= end,
                "concat: offset {offset} is taken or no multiple of {ALIGNMENT}"
            );
            end = offset + size(self.shape(t));
        }
        assert!(end <= len, "concat: parts end at {end}, beyond {len}");
        self.push(Op::Concat { parts: parts.to_vec() }, flat(len))
    }
}

pub(super) fn rule(tape: &mut Tape, op: &Op, v: Tensor, want: Want) -> Vec<(Tensor, Tensor)> {
    match op {
        Op::Slice { of, offset } => {
            vec![(*of, tape.concat(&[(v, *offset)], size(tape.shape(*of))))]
        }
        Op::Concat { parts } => {
            let wanted = parts.iter().filter(|(t, _)| want(*t));
            wanted.map(|&(t, offset)| (t, tape.slice(v, offset, tape.shape(t)))).collect()
        }
        _ => unreachable!("no part of a flat tensor: {op:?}"),
    }
}
