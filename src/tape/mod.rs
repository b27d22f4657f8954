//! The tape: operations recorded once, with shapes known, ready to be differentiated and compiled.
//!
//! Recording an operation checks its shapes (a mismatch is our own mistake: it panics and names the
//! operation and both shapes), simplifies what is trivially simple, and returns the node that is
//! already there if the same operation was recorded before. [`Tape::grad`] appends the reverse
//! sweep; since every rule is written in operations of the tape, a gradient is differentiated like
//! anything else.
//!
//! Shapes have four axes: activations `[h, w, c, n]`, weights `[kh, kw, cy, cx]`, per-channel `[1,
//! 1, c, 1]`, per-image `[1, 1, 1, n]`, flat `[1, 1, 1, len]`, scalar `[1, 1, 1, 1]`.

mod grad;
mod ops;
pub use ops::flat::layout;

use crate::geometry::Geometry;
use crate::program::kernel::Segment;

/// Four axes; see the module's documentation.
pub type Shape = [usize; 4];

/// The shape of a scalar.
pub const SCALAR: Shape = [1; 4];

/// Elements of a shape.
pub fn size(shape: Shape) -> usize {
    shape.iter().product()
}

/// A node of a tape. Only meaningful for the tape that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tensor(pub(crate) usize);

/// An operation. The constructors in `ops/` say what each computes.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // documented at the constructors
pub enum Op {
    Leaf { name: String },
    Fill { value: f64 },
    Slice { of: Tensor, offset: usize },
    Concat { parts: Vec<(Tensor, usize)> },
    ConvY { geometry: Geometry, x: Tensor, w: Tensor },
    ConvX { geometry: Geometry, y: Tensor, w: Tensor },
    ConvW { geometry: Geometry, x: Tensor, y: Tensor },
    Add { a: Tensor, b: Tensor },
    Mul { a: Tensor, b: Tensor },
    Affine { a: Tensor, scale: f64, shift: f64 },
    Relu { a: Tensor },
    ReluGrad { a: Tensor, gate: Tensor },
    Sigmoid { a: Tensor },
    SigmoidGrad { a: Tensor, s: Tensor },
    InvNorm { a: Tensor, eps: f64 },
    Broadcast { a: Tensor },
    SumTo { a: Tensor },
    Mse { x: Tensor, target: Tensor, weight: Tensor },
    MseGrad { x: Tensor, target: Tensor, weight: Tensor },
    ImageMse { x: Tensor, target: Tensor, weight: Tensor },
    ConstraintStats { g: Tensor, r: Tensor, segments: Vec<Segment> },
    Constraint { stats: Tensor, g: Tensor, r: Tensor, segments: Vec<Segment> },
    ConstraintGrad { stats: Tensor, g: Tensor, r: Tensor, segments: Vec<Segment>, scale: f64 },
    ImageGrad { geometry: Geometry, x: Tensor, y: Tensor, r: Tensor },
    ImageCos { partial: Tensor, stats: Tensor, segment: usize },
    BatchImages { batch: Batch },
    BatchWeight { batch: Batch },
    Record { a: Tensor, log: String, offset: usize, width: usize, steps: usize },
    Store { a: Tensor, name: String },
    Adam { grad: Tensor, reference_len: usize, schedule: String, steps: usize, config: AdamConfig },
}

/// Names and sizes of what a batch is gathered from.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// Prefix of the buffers: `<name>.data` (bytes, `[images, pixels]`), `<name>.indices` and
    /// `<name>.schedule` (by step and replica).
    pub name: String,
    /// Images in the dataset.
    pub images: usize,
    /// Steps that fit in the index list.
    pub steps: usize,
}

/// Constants of Adam.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamConfig {
    /// The paper's: lr 1e-3, betas 0.9 and 0.999, eps 1e-8.
    fn default() -> Self {
        AdamConfig { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Op {
    /// The nodes this one is computed from.
    pub fn inputs(&self) -> Vec<Tensor> {
        use Op::*;
        match self {
            Leaf { .. } | Fill { .. } | BatchImages { .. } | BatchWeight { .. } => vec![],
            Slice { of: a, .. }
            | Affine { a, .. }
            | Relu { a }
            | Sigmoid { a }
            | InvNorm { a, .. }
            | Broadcast { a }
            | SumTo { a } => vec![*a],
            Record { a, .. } | Store { a, .. } | Adam { grad: a, .. } => vec![*a],
            Concat { parts } => parts.iter().map(|p| p.0).collect(),
            ConvY { x: a, w: b, .. } | ConvX { y: a, w: b, .. } | ConvW { x: a, y: b, .. } => {
                vec![*a, *b]
            }
            Add { a, b } | Mul { a, b } | ReluGrad { a, gate: b } | SigmoidGrad { a, s: b } => {
                vec![*a, *b]
            }
            Mse { x, target, weight }
            | MseGrad { x, target, weight }
            | ImageMse { x, target, weight } => {
                vec![*x, *target, *weight]
            }
            ConstraintStats { g, r, .. } => vec![*g, *r],
            Constraint { stats, g, r, .. } | ConstraintGrad { stats, g, r, .. } => {
                vec![*stats, *g, *r]
            }
            ImageGrad { x, y, r, .. } => vec![*x, *y, *r],
            ImageCos { partial, stats, .. } => vec![*partial, *stats],
        }
    }

    /// Operations that are there for their effect.
    pub fn is_sink(&self) -> bool {
        matches!(self, Op::Record { .. } | Op::Store { .. } | Op::Adam { .. })
    }
}

/// One recorded operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The result's shape.
    pub shape: Shape,
    /// What it stands for in the model, for people.
    pub label: String,
}

/// A recording.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    label: String,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Tape::default()
    }

    /// Names what is recorded next.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// All nodes in the order they were recorded: inputs come before what uses them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    pub fn node(&self, t: Tensor) -> &Node {
        &self.nodes[t.0]
    }

    /// A node's shape.
    pub fn shape(&self, t: Tensor) -> Shape {
        self.nodes[t.0].shape
    }

    /// Appends an operation, or finds it.
    fn push(&mut self, op: Op, shape: Shape) -> Tensor {
        if let Some(known) = self.nodes.iter().position(|n| n.op == op && n.shape == shape) {
            return Tensor(known);
        }
        self.nodes.push(Node { op, shape, label: self.label.clone() });
        Tensor(self.nodes.len() - 1)
    }

    fn op(&self, t: Tensor) -> &Op {
        &self.nodes[t.0].op
    }

    #[track_caller]
    fn same_shape(&self, op: &str, a: Tensor, b: Tensor) {
        let (a, b) = (self.shape(a), self.shape(b));
        assert!(a == b, "{op}: shapes {a:?} and {b:?} differ");
    }
}

/// The shape of a flat tensor of `len` elements.
fn flat(len: usize) -> Shape {
    [1, 1, 1, len]
}

/// What an operation without a derivative says when one is asked for.
#[track_caller]
fn no_derivative(op: &Op) -> ! {
    panic!("{op:?} has no derivative")
}

/// Checks that a flat tensor is at least `len` long.
#[track_caller]
fn check_flat(tape: &Tape, op: &str, t: Tensor, len: usize) {
    let shape = tape.shape(t);
    assert!(
        shape == flat(size(shape)) && size(shape) >= len,
        "{op}: {shape:?} is no flat tensor of at least {len} elements"
    );
}
