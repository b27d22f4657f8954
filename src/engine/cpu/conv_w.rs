//! Twins of `conv_w.wgsl`. Definitions: [`crate::kernels::conv_w`].
//!
//! A register tile covers channels of both x and y, with images in the lanes, which are summed at
//! the end.

use super::simd::{Isa, Real, Simd, dispatch};
use super::tile::{COLS, ROWS, measure, outer, pairs_of_tap, tile};
use super::{Args, Out, parallel};
use crate::geometry::Geometry;
use crate::kernels;

pub(super) fn run<T: Real>(kernel: &kernels::ConvW, args: &Args<T>) {
    match *kernel {
        kernels::ConvW::ConvW { ref geometry, add, splits } => {
            let (x, y, addend) = (args.read(0), args.read(1), args.read(2));
            conv_w(args.isa(), geometry, splits, add, x, y, addend, args.write(3));
        }
        kernels::ConvW::SplitSum { splits, add, .. } => {
            split_sum(splits, add, args.read(0), args.read(1), args.write(2));
        }
    }
}

/// Arguments of conv_w.
struct ConvW<'a, T> {
    geometry: &'a Geometry,
    splits: usize,
    x: &'a [T],
    y: &'a [T],
    addend: Option<&'a [T]>,
    out: Out<T>,
}

/// `w = conv_w(x, y)`, by runs of positions: see [`crate::kernels::ConvW::ConvW`].
#[allow(clippy::too_many_arguments)] // the kernel's order
fn conv_w<T: Real>(
    isa: Isa,
    geometry: &Geometry,
    splits: usize,
    add: bool,
    x: &[T],
    y: &[T],
    addend: &[T],
    w: &mut [T],
) {
    assert!(!add || splits == 1, "conv_w: an addend belongs to split_sum when there are splits");
    let out = splits * geometry.w_len();
    let slices = [
        ("x", x.len(), geometry.x_len()),
        ("y", y.len(), geometry.y_len()),
        ("output", w.len(), out),
    ];
    measure("conv_w", geometry, &slices);
    let args =
        ConvW { geometry, splits, x, y, addend: add.then_some(addend), out: Out(w.as_mut_ptr()) };
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
    let pairs = pairs_of_tap(g, tap, split * per_split..((split + 1) * per_split).min(g.hy * g.wy));
    let (y0, y1) = tile(g.cy, ROWS, t);
    let at = split * g.w_len() + (tap * g.cy + y0) * g.cx;
    let rows = y1 - y0;
    // SAFETY: a unit owns its rows of the weight, and there are as many weights as splits.
    let out = unsafe { args.out.slice(at, rows * g.cx) };
    match args.addend {
        Some(addend) => out.copy_from_slice(&addend[at..at + rows * g.cx]),
        None => out.fill(S::Real::ZERO),
    }
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
    pairs: &[(usize, usize)],
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
    pairs: &[(usize, usize)],
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
            let (x, y) = (args.x.as_ptr().add(px + x0 * n), args.y.as_ptr().add(py + y0 * n));
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
            let (x, y) = (args.x.as_ptr().add(px + x0 * n), args.y.as_ptr().add(py + y0 * n));
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

/// `out = sum over s of partial[s]`, plus the addend.
fn split_sum<T: Real>(splits: usize, add: bool, partial: &[T], addend: &[T], out: &mut [T]) {
    let len = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = partial[i];
        for s in 1..splits {
            sum += partial[s * len + i];
        }
        *out = if add { sum + addend[i] } else { sum };
    }
}

dispatch!(conv_w_rows, conv_w_rows_body, ConvW);
