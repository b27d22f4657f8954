//! Twins of `score.wgsl`. Definitions: [`crate::kernels::score`].
//!
//! image_grad keeps the lanes, each an image, apart: a per-image gradient costs no more than the
//! batch's.

use super::map::inv_norm_of;
use super::simd::{Isa, Portable, Real, Simd, dispatch};
use super::tile::{measure, tile};
use super::{Args, Out, parallel};
use crate::geometry::Geometry;
use crate::kernels::Score;
use crate::kernels::score::{TILE, blocks};
use crate::layout::{Stat, Stats};
use crate::tape::ops::constraint::COSINE_EPS;

/// Channels of x in a register tile, times TILE channels of y.
const COLS: usize = 6;

pub(super) fn run<T: Real>(kernel: &Score, args: &Args<T>) {
    match *kernel {
        Score::ImageGrad { ref geometry, squares, .. } => {
            let (x, y, r) = (args.read(0), args.read(1), args.read(2));
            image_grad(args.isa(), (geometry, squares), x, y, r, args.write(3));
        }
        Score::ImageCos { blocks, n, segment } => {
            image_cos((blocks, n), segment, args.read(0), args.read(1), args.write(2));
        }
    }
}

/// Arguments of image_grad.
struct ImageGrad<'a, T> {
    geometry: &'a Geometry,
    squares: bool,
    x: &'a [T],
    y: &'a [T],
    r: &'a [T],
    partial: Out<T>,
}

/// Inner product with r of every image's own weight gradient, or of its squares, and its squared
/// norm.
fn image_grad<T: Real>(
    isa: Isa,
    (geometry, squares): (&Geometry, bool),
    x: &[T],
    y: &[T],
    r: &[T],
    partial: &mut [T],
) {
    let blocks = blocks(geometry);
    let slices = [
        ("x", x.len(), geometry.x_len()),
        ("y", y.len(), geometry.y_len()),
        ("r", r.len(), geometry.w_len()),
        ("output", partial.len(), blocks * 2 * geometry.n),
    ];
    measure("image_grad", geometry, &slices);
    let args = ImageGrad { geometry, squares, x, y, r, partial: Out(partial.as_mut_ptr()) };
    parallel(blocks, |block| image_grad_block(isa, &args, block));
}

/// Offsets in x and in y of every pair of positions that a tap joins.
fn pairs_of_tap(g: &Geometry, tap: usize) -> Vec<(usize, usize)> {
    let (kh, kw) = (tap / g.kw, tap % g.kw);
    let mut pairs = Vec::with_capacity(g.hy * g.wy);
    for oh in g.outputs_of_tap(kh, g.hx, g.hy) {
        for ow in g.outputs_of_tap(kw, g.wx, g.wy) {
            let (ih, iw) = (oh * g.stride + kh - g.padding, ow * g.stride + kw - g.padding);
            pairs.push(((ih * g.wx + iw) * g.cx * g.n, (oh * g.wy + ow) * g.cy * g.n));
        }
    }
    pairs
}

/// `acc[c][d] += y[c] * x[d]` for one vector of images; rows are `n` apart.
#[inline(always)]
unsafe fn outer<S: Simd, const Y: usize, const X: usize>(
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

/// One block: one tap and TILE channels of y, all channels of x and all images.
///
/// # Safety
/// As `conv_unit_body` in `conv.rs`.
#[inline(always)]
unsafe fn image_grad_block_body<S: Simd>(args: &ImageGrad<S::Real>, block: usize) {
    let g = args.geometry;
    let tiles = g.cy.div_ceil(TILE);
    let (tap, y0) = (block / tiles, block % tiles * TILE);
    let pairs = pairs_of_tap(g, tap);
    // SAFETY: the caller's promises, and no vector reaches beyond the n images.
    unsafe {
        let mut i = 0;
        while i + S::LANES <= g.n {
            image_grad_rows::<S>(args, &pairs, tap, block, y0, i);
            i += S::LANES;
        }
        while i < g.n {
            image_grad_rows::<Portable<S::Real, 1>>(args, &pairs, tap, block, y0, i);
            i += 1;
        }
    }
}

#[inline(always)]
unsafe fn image_grad_rows<S: Simd>(
    args: &ImageGrad<S::Real>,
    pairs: &[(usize, usize)],
    tap: usize,
    block: usize,
    y0: usize,
    i: usize,
) {
    let g = args.geometry;
    // SAFETY: the caller's promises: r has the tap's rows of the weight, and a block owns two rows
    // of n sums.
    unsafe {
        let mut sums = [S::splat(S::Real::ZERO); 2];
        for t in 0..g.cx.div_ceil(COLS) {
            let (x0, x1) = tile(g.cx, COLS, t);
            let r = args.r.as_ptr().add((tap * g.cy + y0) * g.cx + x0);
            let rows = TILE.min(g.cy - y0);
            match rows {
                1 => image_grad_cols::<S, 1>(args, pairs, r, y0, x0, x1, i, &mut sums),
                2 => image_grad_cols::<S, 2>(args, pairs, r, y0, x0, x1, i, &mut sums),
                3 => image_grad_cols::<S, 3>(args, pairs, r, y0, x0, x1, i, &mut sums),
                _ => image_grad_cols::<S, 4>(args, pairs, r, y0, x0, x1, i, &mut sums),
            }
        }
        sums[0].store(args.partial.0.add(block * 2 * g.n + i));
        sums[1].store(args.partial.0.add((block * 2 + 1) * g.n + i));
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // a register tile's coordinates
unsafe fn image_grad_cols<S: Simd, const Y: usize>(
    args: &ImageGrad<S::Real>,
    pairs: &[(usize, usize)],
    r: *const S::Real,
    y0: usize,
    x0: usize,
    x1: usize,
    i: usize,
    sums: &mut [S; 2],
) {
    // SAFETY: the caller's promises.
    unsafe {
        match x1 - x0 {
            1 => image_grad_tile::<S, Y, 1>(args, pairs, r, y0, x0, i, sums),
            2 => image_grad_tile::<S, Y, 2>(args, pairs, r, y0, x0, i, sums),
            3 => image_grad_tile::<S, Y, 3>(args, pairs, r, y0, x0, i, sums),
            4 => image_grad_tile::<S, Y, 4>(args, pairs, r, y0, x0, i, sums),
            5 => image_grad_tile::<S, Y, 5>(args, pairs, r, y0, x0, i, sums),
            _ => image_grad_tile::<S, Y, 6>(args, pairs, r, y0, x0, i, sums),
        }
    }
}

/// Y x X elements of the gradients of LANES images, and what they add to the two sums.
#[inline(always)]
unsafe fn image_grad_tile<S: Simd, const Y: usize, const X: usize>(
    args: &ImageGrad<S::Real>,
    pairs: &[(usize, usize)],
    r: *const S::Real,
    y0: usize,
    x0: usize,
    i: usize,
    sums: &mut [S; 2],
) {
    let g = args.geometry;
    // SAFETY: the caller's promises: x and y have all channels of all positions and a vector of
    // images from i, r has X elements in each of Y rows.
    unsafe {
        let mut acc = [[S::splat(S::Real::ZERO); X]; Y];
        for &(px, py) in pairs {
            outer::<S, Y, X>(
                &mut acc,
                args.x.as_ptr().add(px + x0 * g.n + i),
                args.y.as_ptr().add(py + y0 * g.n + i),
                g.n,
            );
        }
        for (c, row) in acc.iter().enumerate() {
            for (d, &gradient) in row.iter().enumerate() {
                let square = gradient.fma(gradient, S::splat(S::Real::ZERO));
                let first = if args.squares { square } else { gradient };
                sums[0] = first.fma(S::splat(*r.add(c * g.cx + d)), sums[0]);
                sums[1] = gradient.fma(gradient, sums[1]);
            }
        }
    }
}

/// Cosine between each image's own gradient and r.
fn image_cos<T: Real>(
    (blocks, n): (usize, usize),
    segment: usize,
    partial: &[T],
    stats: &[T],
    out: &mut [T],
) {
    let inv_r = inv_norm_of(stats[Stats::at(segment, Stat::RR)].to_f64(), COSINE_EPS);
    for i in 0..n {
        let sum =
            |k: usize| (0..blocks).map(|b| partial[(b * 2 + k) * n + i].to_f64()).sum::<f64>();
        out[i] = T::from_f64(sum(0) * inv_norm_of(sum(1), COSINE_EPS) * inv_r);
    }
}

dispatch!(image_grad_block, image_grad_block_body, ImageGrad);
