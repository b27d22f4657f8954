//! The tape: operations recorded once, with shapes known, ready to be differentiated and compiled.
//!
//! Recording an operation checks its shapes (a mismatch is our own mistake: it panics and names the
//! operation and both shapes), simplifies what is trivially simple, and returns the node that is
//! already there if the same operation was recorded before. [`Tape::grad`] appends the reverse
//! sweep; since every rule is written in operations of the tape, a gradient is differentiated like
//! anything else.

mod grad;
pub mod ops;

use crate::layout::{Shape, flat, size};
use ops::Op;

/// A node of a tape. Only meaningful for the tape that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tensor(pub(crate) usize);

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
///
/// ```
/// use gradcon::tape::Tape;
///
/// let mut tape = Tape::new();
/// let x = tape.leaf("x", [28, 28, 1, 8]);
/// tape.label("activation");
/// let y = tape.relu(x);
/// assert_eq!(tape.shape(y), [28, 28, 1, 8]);
/// assert_eq!(tape.node(y).label, "activation");
/// assert_eq!(tape.nodes().len(), 2);
/// assert_eq!(tape.tensors().collect::<Vec<_>>(), [x, y]);
/// assert_eq!(tape.relu(x), y); // the same operation is the same node
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    label: String,
}

impl Tape {
    /// An empty tape. Shown, as all that only looks at a tape, at [`Tape`].
    pub fn new() -> Self {
        Tape::default()
    }

    /// Names what is recorded next, for people. Shown at [`Tape`].
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// All nodes in the order they were recorded: inputs come before what uses them. Shown at
    /// [`Tape`].
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes' names, in the same order. Shown at [`Tape`].
    pub fn tensors(&self) -> impl Iterator<Item = Tensor> + use<> {
        (0..self.nodes.len()).map(Tensor)
    }

    /// A node. Shown at [`Tape`].
    pub fn node(&self, t: Tensor) -> &Node {
        &self.nodes[t.0]
    }

    /// A node's shape. Shown at [`Tape`].
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

    /// Checks that a flat tensor is at least `len` long.
    #[track_caller]
    fn check_flat(&self, op: &str, t: Tensor, len: usize) {
        let shape = self.shape(t);
        assert!(
            shape == flat(size(shape)) && size(shape) >= len,
            "{op}: {shape:?} is no flat tensor of at least {len} elements"
        );
    }
}
