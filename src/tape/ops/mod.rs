//! Operations by family: members, shape checks, recording and derivatives side by side.
//!
//! A family is an enum in a file of its own, named like its kernels, its twins and its shader. A
//! rule may only call operations of the tape: that is what makes a gradient differentiable.

pub mod adam;
pub mod batch;
pub mod constraint;
pub mod conv;
pub mod conv_w;
pub mod loss;
pub mod map;
pub mod memory;
pub mod noise;
pub mod reduce;
pub mod score;

pub use adam::{Adam, AdamConfig};
pub use batch::{Batch, Source};
pub use constraint::Constraint;
pub use conv::Conv;
pub use conv_w::ConvW;
pub use loss::Loss;
pub use map::{Map, Mapped};
pub use memory::Memory;
pub use noise::Noise;
pub use reduce::Reduce;
pub use score::Score;

use super::{Tape, Tensor};
use strum::VariantNames;

/// Which inputs need a gradient.
pub type Want<'a> = &'a dyn Fn(Tensor) -> bool;

/// Inputs of an operation, and what their gradients grow by.
pub type Gradients = Vec<(Tensor, Tensor)>;

/// What the tape asks an operation, whatever its family.
pub trait Family {
    /// The member's name: one of [`FAMILIES`].
    fn name(&self) -> &'static str;

    /// The nodes this one is computed from.
    fn inputs(&self) -> Vec<Tensor>;

    /// Whether it is there for its effect.
    fn is_sink(&self) -> bool {
        false
    }

    /// Gradients of those inputs that `want` names, from the gradient `v` of `node`, which this
    /// operation made.
    ///
    /// # Panics
    /// The operation has no derivative.
    fn rule(&self, _tape: &mut Tape, _node: Tensor, _v: Tensor, _want: Want) -> Gradients {
        no_derivative(self.name())
    }
}

/// What an operation without a derivative says when one is asked for.
#[track_caller]
fn no_derivative(name: &str) -> ! {
    panic!("{name} has no derivative")
}

/// An operation: a member of a family.
///
/// ```
/// use gradcon::tape::Tape;
///
/// let mut tape = Tape::new();
/// let x = tape.leaf("x", [1, 1, 1, 5]);
/// let y = tape.relu(x);
/// let op = &tape.node(y).op;
/// assert_eq!((op.family().name(), op.inputs()), ("relu", vec![x]));
/// assert!(!op.is_sink()); // but `store`, `record` and `adam` are
/// ```
#[derive(Clone, PartialEq, Debug, strum::EnumCount)]
#[allow(missing_docs)] // said in the families
pub enum Op {
    Memory(Memory),
    Conv(Conv),
    ConvW(ConvW),
    Map(Mapped),
    Reduce(Reduce),
    Loss(Loss),
    Constraint(Constraint),
    Score(Score),
    Batch(Batch),
    Adam(Adam),
    Noise(Noise),
}

/// Every family and the names of all its members.
pub static FAMILIES: [(&str, &[&str]); <Op as strum::EnumCount>::COUNT] = [
    ("memory", Memory::VARIANTS),
    ("conv", Conv::VARIANTS),
    ("conv_w", &[ConvW::NAME]),
    ("map", Map::VARIANTS),
    ("reduce", Reduce::VARIANTS),
    ("loss", Loss::VARIANTS),
    ("constraint", Constraint::VARIANTS),
    ("score", Score::VARIANTS),
    ("batch", Batch::VARIANTS),
    ("adam", &[Adam::NAME]),
    ("noise", &[Noise::NAME]),
];

impl Op {
    /// The door to what the families say of their members. Shown at [`Op`].
    pub fn family(&self) -> &dyn Family {
        match self {
            Op::Memory(op) => op,
            Op::Conv(op) => op,
            Op::ConvW(op) => op,
            Op::Map(op) => op,
            Op::Reduce(op) => op,
            Op::Loss(op) => op,
            Op::Constraint(op) => op,
            Op::Score(op) => op,
            Op::Batch(op) => op,
            Op::Adam(op) => op,
            Op::Noise(op) => op,
        }
    }

    /// The nodes this one is computed from. Shown at [`Op`].
    pub fn inputs(&self) -> Vec<Tensor> {
        self.family().inputs()
    }

    /// Whether it is there for its effect. Shown at [`Op`].
    pub fn is_sink(&self) -> bool {
        self.family().is_sink()
    }
}
