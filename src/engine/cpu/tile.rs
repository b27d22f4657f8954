//! What the convolutions' twins share: tiles, the pairs of positions that a tap joins, and the
//! outer product of channels.

use super::simd::{Real, Simd};
use crate::geometry::Geometry;
use crate::kernels::score::TILE;

/// Channels of y in a register tile of conv_w and image_grad; times COLS channels of x.
pub(super) const ROWS: usize = TILE;
/// Channels of x in a register tile of conv_w and image_grad.
pub(super) const COLS: usize = 6;

/// Balanced split of `len` into tiles of at most `most`: the half-open range of tile `i`.
#[inline(always)]
pub(super) fn tile(len: usize, most: usize, i: usize) -> (usize, usize) {
    let tiles = len.div_ceil(most);
    (i * len / tiles, (i + 1) * len / tiles)
}

/// Panics unless every slice has what the kernel reads of it: the kernels index without looking.
pub(super) fn measure(kernel: &str, g: &Geometry, slices: &[(&str, usize, usize)]) {
    for &(name, len, needed) in slices {
        assert!(len >= needed, "{kernel}: {name} has {len} elements, {g} needs {needed}");
    }
}

/// Offsets in x and in y of every pair of positions that tap `(kh, kw)` joins, for y's positions in
/// `run`, in order.
pub(super) fn pairs_of_tap(
    g: &Geometry,
    tap: usize,
    run: std::ops::Range<usize>,
) -> Vec<(usize, usize)> {
    let (kh, kw) = (tap / g.kw, tap % g.kw);
    let mut pairs = Vec::with_capacity(run.len());
    for oh in g.outputs_of_tap(kh, g.hx, g.hy) {
        for ow in g.outputs_of_tap(kw, g.wx, g.wy) {
            if run.contains(&(oh * g.wy + ow)) {
                let (ih, iw) = (oh * g.stride + kh - g.padding, ow * g.stride + kw - g.padding);
                pairs.push(((ih * g.wx + iw) * g.cx * g.n, (oh * g.wy + ow) * g.cy * g.n));
            }
        }
    }
    pairs
}

/// `acc[c][d] += y[c] * x[d]` for one vector of images; rows are `n` apart.
#[inline(always)]
pub(super) unsafe fn outer<S: Simd, const Y: usize, const X: usize>(
    acc: &mut [[S; X]; Y],
    x: *const S::Real,
    y: *const S::Real,
    n: usize,
) {
    // SAFETY: the caller's promises: there are X rows from x and Y rows from y, each with a vector
    // of images left.
    unsafe {
        let mut b = [S::splat(S::Real::ZERO); X];
        for (d, b) in b.iter_mut().enumerate() {
            *b = S::load(x.add(d * n));
        }
        for (c, row) in acc.iter_mut().enumerate() {
            let a = S::load(y.add(c * n));
            for (sum, &b) in row.iter_mut().zip(&b) {
                *sum = a.fma(b, *sum);
            }
        }
    }
}
