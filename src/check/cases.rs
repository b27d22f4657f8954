//! What is checked: every operation that has a derivative, and the whole loss. The tests and
//! `gradcon gradcheck` read these.

use std::fmt;

use crate::geometry::Geometry;
use crate::layout::{SCALAR, Segment, Shape, flat};
use crate::method::model::Kind;
use crate::tape::ops::Map;
use crate::tape::{Tape, Tensor};

/// Records an operation on its inputs.
type Recorder = Box<dyn Fn(&mut Tape, &[Tensor]) -> Tensor>;

/// An operation at some sizes.
pub struct Case {
    /// The operation, as its family calls it.
    pub name: &'static str,
    /// Name and shape of every input.
    pub inputs: Vec<(&'static str, Shape)>,
    /// What is added to the inputs: keeps squared norms positive, for instance.
    pub shift: f64,
    record: Recorder,
}

impl Case {
    fn new(
        name: &'static str,
        inputs: &[(&'static str, Shape)],
        record: impl Fn(&mut Tape, &[Tensor]) -> Tensor + 'static,
    ) -> Case {
        Case { name, inputs: inputs.to_vec(), shift: 0.0, record: Box::new(record) }
    }

    /// Records the operation on tensors of the shapes of [`Case::inputs`].
    pub fn record(&self, tape: &mut Tape, inputs: &[Tensor]) -> Tensor {
        (self.record)(tape, inputs)
    }
}

/// Every operation with a derivative, at sizes of which none equals another by chance.
///
/// ```
/// use gradcon::check::cases::operations;
///
/// assert!(operations().iter().any(|case| case.name == "constraint_grad"));
/// ```
pub fn operations() -> Vec<Case> {
    let a = [2, 3, 5, 4];
    let mut cases = maps();
    cases.extend(awkward().into_iter().flat_map(convolutions));
    cases.extend([
        Case::new("broadcast", &[("a", [1, 1, 5, 1])], move |t, i| t.broadcast(i[0], a)),
        Case::new("broadcast", &[("a", [1, 1, 1, 4])], move |t, i| t.broadcast(i[0], a)),
        Case::new("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], [1, 1, 5, 1])),
        Case::new("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], [2, 1, 1, 4])),
        Case::new("sum_to", &[("a", a)], |t, i| t.sum_to(i[0], SCALAR)),
        Case::new("reshape", &[("a", a)], |t, i| t.reshape(i[0], [1, 1, 30, 4])),
        Case::new("slice", &[("a", flat(200))], move |t, i| t.slice(i[0], 64, a)),
        Case::new("concat", &[("a", [1, 2, 3, 5]), ("b", [1, 1, 7, 1])], |t, i| {
            t.concat(&[(i[0], 0), (i[1], 64)], 100)
        }),
    ]);
    let of_loss = [("x", a), ("target", a), ("weight", flat(4))];
    let of_constraint = [("g", flat(200)), ("r", flat(200)), ("weight", SCALAR)];
    let constraints = [
        Case::new("constraint", &of_constraint[..2], |t, i| t.constraint(i[0], i[1], &SEGMENTS)),
        // A weight that is no constant is its derivative's, too.
        Case::new("mul", &of_constraint, |t, i| {
            let constraint = t.constraint(i[0], i[1], &SEGMENTS);
            t.mul(constraint, i[2])
        }),
        Case::new("constraint_grad", &of_constraint[..2], |t, i| {
            t.constraint_grad(i[0], i[1], &SEGMENTS)
        }),
    ];
    cases.extend([
        Case::new("mse", &of_loss, |t, i| t.mse(i[0], i[1], i[2])),
        Case::new("image_mse", &of_loss[..2], |t, i| t.image_mse(i[0], i[1])),
    ]);
    // Near 0, where a cosine has no derivative, f32 has no digits of it: no norm is there.
    cases.extend(constraints.map(|case| Case { shift: -0.6, ..case }));
    cases
}

/// Every elementwise member, with constants of its own.
fn maps() -> Vec<Case> {
    let inputs = [("a", [2, 3, 5, 4]), ("b", [2, 3, 5, 4])];
    let of = |map: Map| Case::new(map.name(), &inputs[..map.arity()], move |t, i| t.map(map, i));
    let shifted = |map: Map| match map {
        // A squared norm is positive.
        Map::InvNorm { .. } => Case { shift: 2.0, ..of(map) },
        _ => of(map),
    };
    // Every norm is below the clamp: the slope is zero.
    let clamped = Map::InvNorm { eps: 9.0 };
    Map::ALL.into_iter().chain([clamped]).map(shifted).collect()
}

fn convolutions(g: Geometry) -> [Case; 3] {
    let (x, y, w) = (("x", g.x_shape()), ("y", g.y_shape()), ("w", g.w_shape()));
    [
        Case::new("conv_y", &[x, w], move |t, i| t.conv_y(g, i[0], i[1])),
        Case::new("conv_x", &[y, w], move |t, i| t.conv_x(g, i[0], i[1])),
        Case::new("conv_w", &[x, y], move |t, i| t.conv_w(g, i[0], i[1])),
    ]
}

const SEGMENTS: [Segment; 3] = [
    Segment { offset: 0, len: 70 },
    Segment { offset: 128, len: 5 },
    Segment { offset: 192, len: 1 },
];

/// Geometries that catch what square, even and equal sizes hide.
pub fn awkward() -> Vec<Geometry> {
    vec![
        Geometry::conv2d(3, (5, 9, 11), 7, (4, 3), 2, 1),
        // Stride 3: unequal residue classes.
        Geometry::conv2d(6, (3, 13, 10), 9, (5, 4), 3, 2),
        // Stride 1, no padding.
        Geometry::conv2d(2, (6, 7, 8), 5, (3, 2), 1, 0),
        // Floor cases: 15 -> 8 and 5 -> 3; a batch of one.
        Geometry::conv2d(2, (7, 15, 15), 5, (4, 4), 2, 2),
        Geometry::conv2d(1, (5, 5, 5), 7, (4, 4), 2, 2),
        // Linear.
        Geometry::conv2d(5, (37, 1, 1), 21, (1, 1), 1, 0),
        // Single channels, and more images than a tile has.
        Geometry::conv2d(70, (1, 4, 5), 6, (3, 2), 2, 1),
        Geometry::conv2d(9, (6, 5, 4), 1, (2, 3), 1, 2),
        // More channels and images than a tile has.
        Geometry::conv2d(37, (33, 3, 2), 65, (2, 3), 1, 1),
        // A stride that jumps over parts of x, and padding that leaves parts of y without a tap.
        Geometry::conv2d(4, (5, 8, 10), 3, (1, 2), 3, 0),
        Geometry::conv2d(3, (2, 4, 5), 6, (2, 3), 2, 3),
        // All sizes different, x larger than its taps reach.
        Geometry { hx: 6, wx: 9, ..Geometry::conv2d(3, (5, 5, 8), 7, (3, 4), 2, 1) },
        // Whole tiles and tails of every instruction set at once.
        Geometry::conv2d(64 + 16 + 3, (13, 4, 3), 17, (2, 3), 1, 1),
        // A single channel of x at stride 3.
        Geometry::conv2d(2, (1, 8, 11), 5, (4, 3), 3, 1),
        // Transposed ones: y is the small side, and single channels on both.
        Geometry::conv_transpose2d(2, (5, 3, 4), 3, (4, 4), 2, 1),
        Geometry::conv_transpose2d(9, (1, 3, 4), 1, (4, 4), 2, 1),
    ]
}

/// The whole loss of a model, on a batch of images.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LossCase {
    /// The autoencoder.
    pub kind: Kind,
    /// Height and width of an image.
    pub size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// What the images of the batch weigh: 0 is padding.
    pub weights: &'static [f64],
}

impl LossCase {
    /// The loss, as people say it.
    ///
    /// ```
    /// assert_eq!(gradcon::check::cases::LOSSES[0].name(), "cae loss");
    /// ```
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Cae => "cae loss",
            Kind::Vae => "vae loss",
        }
    }
}

/// The images of a case, as people say it.
impl fmt::Display for LossCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LossCase { size, channels, weights, .. } = self;
        write!(f, "{size} x {size}, {channels} channel(s), batch {}", weights.len())
    }
}

/// Two images and one that is padding.
const PADDED: &[f64] = &[0.5, 0.5, 0.0];
/// A batch of one.
const ALONE: &[f64] = &[1.0];

/// The losses of both autoencoders: of the paper's size, gray and coloured, and with a number of
/// channels that is neither; shallower than the paper's, as deep, and deeper.
pub const LOSSES: [LossCase; 8] = [
    loss(Kind::Cae, [28, 1], PADDED),
    loss(Kind::Cae, [28, 3], PADDED),
    loss(Kind::Cae, [32, 3], PADDED),
    loss(Kind::Cae, [96, 1], ALONE),
    loss(Kind::Vae, [28, 1], PADDED),
    loss(Kind::Vae, [28, 3], PADDED),
    loss(Kind::Vae, [28, 5], ALONE),
    loss(Kind::Vae, [48, 1], ALONE),
];

const fn loss(kind: Kind, [size, channels]: [usize; 2], weights: &'static [f64]) -> LossCase {
    LossCase { kind, size, channels, weights }
}
