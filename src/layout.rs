//! The ground of the compute engine: shapes, and how tensors lie in flat buffers.

/// Four axes: activations `[h, w, c, n]`, weights `[kh, kw, cy, cx]`, per-channel `[1, 1, c, 1]`,
/// per-image `[1, 1, 1, n]`, flat `[1, 1, 1, len]`, scalar `[1, 1, 1, 1]`.
pub type Shape = [usize; 4];

/// The shape of a scalar.
pub const SCALAR: Shape = [1; 4];

/// Bytes that a GPU's binding may start at a multiple of.
pub const BINDING: usize = 256;

/// Flat buffers hold their tensors at multiples of this many elements: [`BINDING`] in f32.
pub const ALIGNMENT: usize = BINDING / 4;

/// Elements of a shape.
pub fn size(shape: Shape) -> usize {
    shape.iter().product()
}

/// The shape of a flat tensor of `len` elements.
pub fn flat(len: usize) -> Shape {
    [1, 1, 1, len]
}

/// Offsets of tensors of these sizes in one flat buffer, each at a multiple of [`ALIGNMENT`], and
/// the buffer's length.
///
/// ```
/// assert_eq!(gradcon::layout::pack([100, 1, 64]), (vec![0, 128, 192], 256));
/// ```
pub fn pack(sizes: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
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

/// A run of a flat buffer: one constrained layer's weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Segment {
    /// First element.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// A run of a flat tensor that a buffer holds as a sum: its element i is the sum over
/// s < `terms`, in order, of the buffer's element `at + s * len + i`.
///
/// Who computes a long sum leaves it in parts, and who uses it adds them: nobody waits for a kernel
/// that only adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Piece {
    /// First element in the flat tensor.
    pub first: usize,
    /// Elements.
    pub len: usize,
    /// First element in the buffer.
    pub at: usize,
    /// Parts of the sum, one behind the other.
    pub terms: usize,
}

impl Piece {
    /// A run that the buffer holds as it is.
    pub fn whole(at: usize, Segment { offset, len }: Segment) -> Piece {
        Piece { first: offset, len, at, terms: 1 }
    }

    /// Elements of the buffer.
    pub fn held(&self) -> usize {
        self.len * self.terms
    }

    /// Its place in the flat tensor.
    pub fn segment(&self) -> Segment {
        Segment { offset: self.first, len: self.len }
    }
}

/// A value that [`Stats`] holds of every segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stat {
    /// Inner product of g and r.
    GR,
    /// Squared norm of g.
    GG,
    /// Squared norm of r.
    RR,
    /// Cosine between g and r.
    Cos,
}

/// Where a gradient constraint's values lie in one flat buffer: the constraint itself, then each
/// segment's sums and cosine.
#[derive(Clone, Copy, Debug)]
pub struct Stats;

impl Stats {
    /// Where the constraint is: minus the mean cosine.
    pub const CONSTRAINT: usize = 0;
    /// Elements before the first segment's; those behind the constraint are 0.
    pub const HEAD: usize = 4;
    /// Elements of a segment, in the order of [`Stat`].
    pub const ROW: usize = 4;

    /// Elements for so many segments.
    pub fn len(segments: usize) -> usize {
        Stats::HEAD + Stats::ROW * segments
    }

    /// Where a value of a segment is.
    pub fn at(segment: usize, stat: Stat) -> usize {
        Stats::HEAD + Stats::ROW * segment + stat as usize
    }
}
