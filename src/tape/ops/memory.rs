//! What lies in memory: leaves, constants, places in flat buffers, and copies that the host reads.
//! A slice, another shape or a concatenation is a place, not work.

use super::{Family, Gradients, Op, Want};
use crate::layout::{ALIGNMENT, Shape, flat, size};
use crate::tape::{Tape, Tensor};

/// Places and constants.
#[derive(Clone, PartialEq, Debug, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs)] // documented at the constructors
pub enum Memory {
    Leaf { name: String },
    Fill { value: f64 },
    Slice { of: Tensor, offset: usize },
    Reshape { a: Tensor },
    Concat { parts: Vec<(Tensor, usize)> },
    Store { a: Tensor, name: String },
}

impl Tape {
    /// A persistent buffer of the engine, by name, one for each replica.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let w = tape.leaf("w", [4, 4, 32, 3]);
    /// assert_eq!(tape.leaf("w", [4, 4, 32, 3]), w); // one buffer, one node
    /// ```
    #[track_caller]
    pub fn leaf(&mut self, name: &str, shape: Shape) -> Tensor {
        let clash = self.nodes.iter().find(|n| {
            matches!(&n.op, Op::Memory(Memory::Leaf { name: known }) if known == name)
                && n.shape != shape
        });
        assert!(clash.is_none(), "leaf '{name}': recorded with another shape than {shape:?}");
        self.push(Op::Memory(Memory::Leaf { name: name.into() }), shape)
    }

    /// A constant.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let ones = tape.fill([28, 28, 1, 8], 1.0);
    /// assert_eq!(tape.affine(ones, 2.0, 1.0), tape.fill([28, 28, 1, 8], 3.0));
    /// ```
    pub fn fill(&mut self, shape: Shape, value: f64) -> Tensor {
        self.push(Op::Memory(Memory::Fill { value }), shape)
    }

    pub(super) fn constant(&self, t: Tensor) -> Option<f64> {
        match self.op(t) {
            Op::Memory(Memory::Fill { value }) => Some(*value),
            _ => None,
        }
    }

    /// A tensor of `shape` that lies at `offset` (a multiple of [`ALIGNMENT`]) of a flat one.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let params = tape.leaf("params", [1, 1, 1, 192]);
    /// let weight = tape.slice(params, 128, [2, 2, 5, 3]);
    /// let v = tape.leaf("v", [2, 2, 5, 3]);
    /// assert_eq!(tape.vjp(weight, v, &[params]), [tape.concat(&[(v, 128)], 192)]);
    /// ```
    #[track_caller]
    pub fn slice(&mut self, of: Tensor, offset: usize, shape: Shape) -> Tensor {
        self.check_flat("slice", of, offset + size(shape));
        assert!(
            offset.is_multiple_of(ALIGNMENT),
            "slice: offset {offset} is no multiple of {ALIGNMENT}"
        );
        self.push(Op::Memory(Memory::Slice { of, offset }), shape)
    }

    /// The same elements in the same order, in another shape.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let code = tape.leaf("code", [3, 3, 64, 8]);
    /// let features = tape.reshape(code, [1, 1, 576, 8]); // of a position all channels, then the next
    /// let v = tape.leaf("v", [1, 1, 576, 8]);
    /// assert_eq!(tape.vjp(features, v, &[code]), [tape.reshape(v, [3, 3, 64, 8])]);
    /// assert_eq!(tape.reshape(features, [3, 3, 64, 8]), code); // there and back is no way
    /// ```
    #[track_caller]
    pub fn reshape(&mut self, a: Tensor, shape: Shape) -> Tensor {
        let from = self.shape(a);
        assert!(size(from) == size(shape), "reshape: {from:?} has not the elements of {shape:?}");
        match *self.op(a) {
            _ if from == shape => a,
            Op::Memory(Memory::Fill { value }) => self.fill(shape, value),
            Op::Memory(Memory::Reshape { a }) => self.reshape(a, shape),
            _ => self.push(Op::Memory(Memory::Reshape { a }), shape),
        }
    }

    /// A flat tensor of `len` elements with `parts` at their offsets (multiples of [`ALIGNMENT`],
    /// in order) and zeros between.
    ///
    /// ```
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let (a, b) = (tape.leaf("a", [1, 1, 1, 5]), tape.leaf("b", [1, 1, 3, 1]));
    /// let both = tape.concat(&[(a, 0), (b, 64)], 128);
    /// let v = tape.leaf("v", [1, 1, 1, 128]);
    /// assert_eq!(tape.vjp(both, v, &[b]), [tape.slice(v, 64, [1, 1, 3, 1])]);
    /// ```
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
        self.push(Op::Memory(Memory::Concat { parts: parts.to_vec() }), flat(len))
    }

    /// Copies `a` into the persistent buffer `name`, for the host to read.
    ///
    /// ```
    /// use gradcon::engine::{Data, cpu};
    /// use gradcon::program::{Options, compile};
    /// use gradcon::tape::Tape;
    ///
    /// let mut tape = Tape::new();
    /// let a = tape.leaf("a", [1, 1, 1, 3]);
    /// let twice = tape.affine(a, 2.0, 0.0);
    /// tape.store(twice, "twice");
    ///
    /// let mut engine = cpu::f64();
    /// let program = engine.load(&compile("doubling", &tape, Options::default()))?;
    /// engine.write("a", Data::F64(&[1.0, 2.0, 3.0]))?;
    /// engine.run(program, 0..1)?;
    /// assert_eq!(engine.read("twice")?, [2.0, 4.0, 6.0]);
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn store(&mut self, a: Tensor, name: &str) {
        self.push(Op::Memory(Memory::Store { a, name: name.into() }), self.shape(a));
    }
}

impl Family for Memory {
    fn name(&self) -> &'static str {
        self.into()
    }

    fn inputs(&self) -> Vec<Tensor> {
        match self {
            Memory::Leaf { .. } | Memory::Fill { .. } => vec![],
            Memory::Slice { of: a, .. } | Memory::Reshape { a } | Memory::Store { a, .. } => {
                vec![*a]
            }
            Memory::Concat { parts } => parts.iter().map(|p| p.0).collect(),
        }
    }

    fn is_sink(&self) -> bool {
        matches!(self, Memory::Store { .. })
    }

    fn rule(&self, tape: &mut Tape, _node: Tensor, v: Tensor, want: Want) -> Gradients {
        match self {
            Memory::Leaf { .. } | Memory::Fill { .. } => vec![],
            Memory::Slice { of, offset } => {
                vec![(*of, tape.concat(&[(v, *offset)], size(tape.shape(*of))))]
            }
            Memory::Reshape { a } => vec![(*a, tape.reshape(v, tape.shape(*a)))],
            Memory::Concat { parts } => {
                let wanted = parts.iter().filter(|(t, _)| want(*t));
                wanted.map(|&(t, offset)| (t, tape.slice(v, offset, tape.shape(t)))).collect()
            }
            Memory::Store { .. } => super::no_derivative(self.name()),
        }
    }
}
