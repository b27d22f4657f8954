//! Twins of `conv_w.wgsl`. Definitions: [`crate::kernels::conv_w`].
//!
//! A register tile covers channels of both x and y, with images in the lanes, which are summed at
//! the end.

use super::reduce::sum_of;
use super::simd::{Isa, Real, Simd, dispatch};
use super::tile::{COLS, ROWS, measure, outer, pairs_of_tap, tile};
use super::{Args, Out, parallel};
use crate::geometry::Geometry;
use crate::kernels::{self, conv_w::End};

pub(super) fn run<T: Real>(kernel: &kernels::ConvW, args: &Args<T>) {
    let [x, y, x2, y2] = [0, 1, 2, 3].map(|i| args.read(i));
    let (weights, biases) = args.write(4).split_at_mut(kernel.weight_len());
    let pairs = if kernel.pair { vec![(x, y), (x2, y2)] } else { vec![(x, y)] };
    conv_w(args.isa(), &kernel.geometry, kernel.splits, pairs, weights);
    let g = &kernel.geometry;
    match kernel.bias {
        Some(End::X) => sum_channels(x, (g.hx * g.wx, g.cx, g.n), biases),
        Some(End::Y) => sum_channels(y, (g.hy * g.wy, g.cy, g.n), biases),
        None => {}
    }
}

/// `out[s, c] = sum of a [positions, c, n]` over the s-th of as many equal runs of positions as
/// `out` has rows, and over n.
fn sum_channels<T: Real>(a: &[T], (positions, channels, n): (usize, usize, usize), out: &mut [T]) {
    let run = positions.div_ceil(out.len() / channels);
    let ptr = Out(out.as_mut_ptr());
    parallel(out.len(), |unit| {
        let (split, c) = (unit / channels, unit % channels);
        let mut sum = 0.0; // rows are short; their sum may be long
        for position in split * run..((split + 1) * run).min(positions) {
            let row = &a[(position * channels + c) * n..][..n];
            sum += sum_of(n, |i| row[i]).to_f64();
        }
        // SAFETY: one element a unit, and as many units as elements.
        let out = unsafe { ptr.slice(unit, 1) };
        out[0] = T::from_f64(sum);
    });
}

/// Arguments of conv_w.
struct ConvW<'a, T> {
    geometry: &'a Geometry,
    splits: usize,
    /// One or two (x, y), whose products are all added.
    pairs: Vec<(&'a [T], &'a [T])>,
    out: Out<T>,
}

/// The weight's sums by runs of positions: see [`crate::kernels::ConvW`].
fn conv_w<T: Real>(
    isa: Isa,
    geometry: &Geometry,
    splits: usize,
    pairs: Vec<(&[T], &[T])>,
    w: &mut [T],
) {
    measure("conv_w", geometry, &[("output", w.len(), splits * geometry.w_len())]);
    for (x, y) in &pairs {
        let slices = [("x", x.len(), geometry.x_len()), ("y", y.len(), geometry.y_len())];
        measure("conv_w", geometry, &slices);
    }
    let args = ConvW { geometry, splits, pairs, out: Out(w.as_mut_ptr()) };
    parallel(splits * geometry.kh * geometry.kw * geometry.cy.div_ceil(ROWS), |unit| {
        conv_w_rows(isa, &args, unit)
    });
}

/// Bytes of y that a block of positions may take: it stays in the first cache while all tiles of
/// x's channels pass.
const BLOCK_BYTES: usize = 16 << 10;

/// One tap and one tile of y's channels, against all channels of x.
///
/// # Safety
/// As `conv_unit_body` in `conv.rs`.
#[inline(always)]
unsafe fn conv_w_rows_body<S: Simd>(args: &ConvW<S::Real>, unit: usize) {
    let g = args.geometry;
    let tiles = g.cy.div_ceil(ROWS);
    let (split, tap, t) =
        (unit / (tiles * g.kh * g.kw), unit / tiles % (g.kh * g.kw), unit % tiles);
    let per_split = (g.hy * g.wy).div_ceil(args.splits);
    let run = split * per_split..((split + 1) * per_split).min(g.hy * g.wy);
    let offsets = pairs_of_tap(g, tap, run);
    let of = |&(x, y): &(&[S::Real], &[S::Real])| {
        let of = offsets.iter().map(|&(px, py)| (x[px..].as_ptr(), y[py..].as_ptr()));
        of.collect::<Vec<_>>()
    };
    let pairs: Vec<_> = args.pairs.iter().flat_map(of).collect();
    let (y0, y1) = tile(g.cy, ROWS, t);
    let at = split * g.w_len() + (tap * g.cy + y0) * g.cx;
    let rows = y1 - y0;
    // SAFETY: a unit owns its rows of the weight, and there are as many weights as splits.
    let out = unsafe { args.out.slice(at, rows * g.cx) };
    out.fill(S::Real::ZERO);
    let per_block = (BLOCK_BYTES / (rows * g.n * size_of::<S::Real>())).max(1);
    for block in pairs.chunks(per_block) {
        for t in 0..g.cx.div_ceil(COLS) {
            let (x0, x1) = tile(g.cx, COLS, t);
            let out = args.out.0.wrapping_add(at + x0);
            // SAFETY: the caller's promises; the tile is part of the rows above, whose slice is
            // used no more.
            unsafe {
                match rows {
                    1 => conv_w_cols::<S, 1>(args, block, out, y0, x0, x1),
                    2 => conv_w_cols::<S, 2>(args, block, out, y0, x0, x1),
                    3 => conv_w_cols::<S, 3>(args, block, out, y0, x0, x1),
                    _ => conv_w_cols::<S, 4>(args, block, out, y0, x0, x1),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn conv_w_cols<S: Simd, const Y: usize>(
    args: &ConvW<S::Real>,
    pairs: &[(*const S::Real, *const S::Real)],
    out: *mut S::Real,
    y0: usize,
    x0: usize,
    x1: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match x1 - x0 {
            1 => conv_w_tile::<S, Y, 1>(args, pairs, out, y0, x0),
            2 => conv_w_tile::<S, Y, 2>(args, pairs, out, y0, x0),
            3 => conv_w_tile::<S, Y, 3>(args, pairs, out, y0, x0),
            4 => conv_w_tile::<S, Y, 4>(args, pairs, out, y0, x0),
            5 => conv_w_tile::<S, Y, 5>(args, pairs, out, y0, x0),
            _ => conv_w_tile::<S, Y, 6>(args, pairs, out, y0, x0),
        }
    }
}

/// Adds to Y x X elements of the weight: products of vectors of images, summed over positions;
/// lanes are summed once at the end.
#[inline(always)]
unsafe fn conv_w_tile<S: Simd, const Y: usize, const X: usize>(
    args: &ConvW<S::Real>,
    pairs: &[(*const S::Real, *const S::Real)],
    out: *mut S::Real,
    y0: usize,
    x0: usize,
) {
    let (g, n) = (args.geometry, args.geometry.n);
    let whole = n - n % S::LANES;
    // SAFETY: the caller's promises: x and y have all channels of all positions and n images each,
    // `sums` has X x Y vectors, and `out` X elements in each of Y rows of the weight.
    unsafe {
        let mut acc = [[S::splat(S::Real::ZERO); X]; Y];
        for &(px, py) in pairs {
            let (x, y) = (px.add(x0 * n), py.add(y0 * n));
            let mut i = 0;
            while i < whole {
                outer::<S, Y, X>(&mut acc, x.add(i), y.add(i), n);
                i += S::LANES;
            }
        }
        // Through memory: only short loops over constant bounds let the sums live in registers.
        let mut sums = [[S::splat(S::Real::ZERO); X]; Y];
        let to = sums.as_mut_ptr().cast::<S::Real>();
        for (c, row) in acc.iter().enumerate() {
            for (d, &sum) in row.iter().enumerate() {
                sum.store(to.add((c * X + d) * S::LANES));
            }
        }
        for (c, row) in std::hint::black_box(&sums).iter().enumerate() {
            for (d, &sum) in row.iter().enumerate() {
                *out.add(c * g.cx + d) += sum.sum();
            }
        }
        if whole == n {
            return;
        }
        for &(px, py) in pairs {
            let (x, y) = (px.add(x0 * n), py.add(y0 * n));
            for c in 0..Y {
                for d in 0..X {
                    for i in whole..n {
                        *out.add(c * g.cx + d) += *y.add(c * n + i) * *x.add(d * n + i);
                    }
                }
            }
        }
    }
}

dispatch!(conv_w_rows, conv_w_rows_body, ConvW);
