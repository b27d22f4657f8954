//! Twins of `conv_w.wgsl`. Definitions: [`crate::kernels::conv_w`].
//!
//! The sum runs over images, so channels have to be in the lanes: y is turned once into
//! `[h, w, n, cy]`. Then every position adds a plain matrix product, of rows of x (the taps of a
//! kernel's row lie one behind the other in x: their channels are as many rows) with vectors of y's
//! channels, and no lanes are summed. The result, `[kh, kw, cx, cy]`, is turned back at the end.
//!
//! Work is split by outputs, and by a number of parts that depends on the sizes only: so do the
//! results.

use super::reduce::sum_of;
use super::simd::{Real, Simd, dispatch, transpose};
use super::tile::measure;
use super::{Args, Out, parallel};
use crate::geometry::Geometry;
use crate::kernels::{self, conv_w::End};

pub(super) fn run<T: Real>(kernel: &kernels::ConvW, args: &Args<T>) {
    let [x, y, x2, y2] = [0, 1, 2, 3].map(|i| args.read(i));
    let (weights, biases) = args.write(4).split_at_mut(kernel.weight_len());
    let pairs = if kernel.pair { vec![(x, y), (x2, y2)] } else { vec![(x, y)] };
    conv_w(args, &kernel.geometry, kernel.splits, &pairs, weights);
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

/// Channels of x, of all taps of a kernel's row, in a unit of work.
const COLUMNS: usize = 16;

/// Units of work that there should be at least, so that every thread gets some.
const UNITS: usize = 32;

/// Terms that are added up in registers before they are added to the sums: enough to make those
/// cheap, and few enough for their block of y to stay in the first cache. Short sums of short sums
/// also lose least to rounding.
const TERMS: usize = 256;

/// Images that a loop takes at a time.
const UNROLLED: usize = 4;

/// Arguments of conv_w.
struct ConvW<'a, T> {
    geometry: &'a Geometry,
    splits: usize,
    /// Parts of a split's positions that are summed on their own.
    parts: usize,
    /// One or two (x, y), whose products are all added.
    pairs: &'a [(&'a [T], &'a [T])],
    /// Channels of y, filled up with zeros to whole vectors.
    padded: usize,
    /// y of every pair, `[h, w, n, padded]`.
    turned: Out<T>,
    /// `[split, part, kh, kw, cx, padded]`.
    sums: Out<T>,
    out: Out<T>,
}

/// The weight's sums by runs of positions: see [`crate::kernels::ConvW`].
fn conv_w<T: Real>(
    args: &Args<T>,
    geometry: &Geometry,
    splits: usize,
    pairs: &[(&[T], &[T])],
    w: &mut [T],
) {
    let (g, isa) = (geometry, args.isa());
    measure("conv_w", g, &[("output", w.len(), splits * g.w_len())]);
    for (x, y) in pairs {
        measure("conv_w", g, &[("x", x.len(), g.x_len()), ("y", y.len(), g.y_len())]);
    }
    let padded = g.cy.next_multiple_of(isa.lanes::<T>());
    let units = splits * units_of_part(g, padded, isa.lanes::<T>());
    let parts = (UNITS / units).clamp(1, (g.hy * g.wy).div_ceil(splits));
    let turned = pairs.len() * g.hy * g.wy * g.n * padded;
    let mut scratch = args.scratch(turned + splits * parts * g.kh * g.kw * g.cx * padded);
    let (turned, sums) = scratch.split_at_mut(turned);
    let (turned, sums, out) =
        (Out(turned.as_mut_ptr()), Out(sums.as_mut_ptr()), Out(w.as_mut_ptr()));
    let args = ConvW { geometry, splits, parts, pairs, padded, turned, sums, out };
    parallel(pairs.len() * g.hy * g.wy, |unit| turn_y(isa, &args, unit));
    parallel(parts * units, |unit| add_products(isa, &args, unit));
    parallel(splits * g.kh * g.kw, |unit| turn_sums(isa, &args, unit));
}

/// Pairs of vectors of y's channels.
fn vector_pairs(padded: usize, lanes: usize) -> usize {
    padded.div_ceil(2 * lanes)
}

fn units_of_part(g: &Geometry, padded: usize, lanes: usize) -> usize {
    g.kh * (g.kw * g.cx).div_ceil(COLUMNS) * vector_pairs(padded, lanes)
}

/// y at one position, with channels innermost.
///
/// # Safety
/// As for all of this file: the CPU has S's instructions, the slices were [`measure`]d, the scratch
/// memory has what [`ConvW`] says, and no other thread has the same unit.
#[inline(always)]
unsafe fn turn_y_body<S: Simd>(args: &ConvW<S::Real>, unit: usize) {
    let g = args.geometry;
    let (pair, position) = (unit / (g.hy * g.wy), unit % (g.hy * g.wy));
    let y = &args.pairs[pair].1[position * g.cy * g.n..];
    // SAFETY: the caller's promises; a unit owns its position.
    unsafe {
        let to = args.turned.0.add(unit * g.n * args.padded);
        transpose::<S>((y.as_ptr(), g.n), (g.cy, g.n), (to, args.padded), args.padded);
    }
}

/// One part of the positions, row of the kernel, tile of columns (x's channels of all its taps) and
/// pair of vectors of y's channels.
///
/// # Safety
/// As [`turn_y_body`], which has run for all positions.
#[inline(always)]
unsafe fn add_products_body<S: Simd>(args: &ConvW<S::Real>, unit: usize) {
    let g = args.geometry;
    let columns = g.kw * g.cx;
    let (tiles, vectors) = (columns.div_ceil(COLUMNS), vector_pairs(args.padded, S::LANES));
    let (part, kh, t, v) = (
        unit / (vectors * tiles * g.kh),
        unit / (vectors * tiles) % g.kh,
        unit / vectors % tiles,
        unit % vectors * 2,
    );
    let (first, last) = (t * COLUMNS, columns.min((t + 1) * COLUMNS));
    let per_split = (g.hy * g.wy).div_ceil(args.splits);
    let (split, part_of_split) = (part / args.parts, part % args.parts);
    let start = (split * per_split).min(g.hy * g.wy);
    let len = per_split.min(g.hy * g.wy - start);
    let run =
        start + part_of_split * len / args.parts..start + (part_of_split + 1) * len / args.parts;
    let positions = (TERMS / g.n).max(1);
    // SAFETY: the caller's promises: a unit owns its columns and vectors of its part of the sums;
    // x has the rows of all columns that meet data, and y all positions.
    unsafe {
        let sums = args.sums.0.add((part * g.kh + kh) * columns * args.padded + v * S::LANES);
        let width = (args.padded - v * S::LANES).min(2 * S::LANES);
        for column in first..last {
            let row = sums.add(column * args.padded);
            std::slice::from_raw_parts_mut(row, width).fill(S::Real::ZERO);
        }
        let mut block = Vec::with_capacity(positions);
        for (pair, &(x, _)) in args.pairs.iter().enumerate() {
            // Columns of the block's positions, which meet the same taps.
            let mut met = 0..0;
            for position in run.clone() {
                let (oh, ow) = (position / g.wy, position % g.wy);
                let taps = g.taps_of_y(ow, g.wx, g.kw);
                let (from, to) = (taps.k0 * g.cx, (taps.k0 + taps.count) * g.cx);
                let here = from.max(first)..to.min(last);
                let Some(ih) = (oh * g.stride + kh).checked_sub(g.padding) else { continue };
                if ih >= g.hx || here.is_empty() {
                    continue;
                }
                if here != met || block.len() == positions {
                    add_block::<S>(args, &block, met, sums, width);
                    block.clear();
                    met = here;
                }
                let x = &x[((ih * g.wx + taps.s0) * g.cx + met.start - from) * g.n..];
                let y = (pair * g.hy * g.wy + position) * g.n * args.padded + v * S::LANES;
                block.push((x.as_ptr(), args.turned.0.add(y).cast_const()));
            }
            add_block::<S>(args, &block, met, sums, width);
            block.clear();
        }
    }
}

/// Adds the products of a block of positions to the sums of its columns.
#[inline(always)]
unsafe fn add_block<S: Simd>(
    args: &ConvW<S::Real>,
    block: &[(*const S::Real, *const S::Real)],
    columns: std::ops::Range<usize>,
    sums: *mut S::Real,
    width: usize,
) {
    let (mut c, len) = (0, if block.is_empty() { 0 } else { columns.len() });
    // SAFETY: the caller's promises.
    unsafe {
        while c < len {
            let to = sums.add((columns.start + c) * args.padded);
            let wide = S::TILE_VECTORS == 4;
            c += match (len - c, width > S::LANES) {
                (8.., true) if wide => add_tile::<S, 8, 2>(args, block, c, to),
                (4.., true) => add_tile::<S, 4, 2>(args, block, c, to),
                (2.., true) => add_tile::<S, 2, 2>(args, block, c, to),
                (_, true) => add_tile::<S, 1, 2>(args, block, c, to),
                (8.., false) => add_tile::<S, 8, 1>(args, block, c, to),
                (4.., false) => add_tile::<S, 4, 1>(args, block, c, to),
                (2.., false) => add_tile::<S, 2, 1>(args, block, c, to),
                (_, false) => add_tile::<S, 1, 1>(args, block, c, to),
            };
        }
    }
}

/// The register tile: R columns from `c` times V vectors of y's channels. Returns R.
#[inline(always)]
unsafe fn add_tile<S: Simd, const R: usize, const V: usize>(
    args: &ConvW<S::Real>,
    block: &[(*const S::Real, *const S::Real)],
    c: usize,
    sums: *mut S::Real,
) -> usize {
    let (n, padded) = (args.geometry.n, args.padded);
    // SAFETY: the caller's promises: R rows of n images of x and n rows of V vectors of y at every
    // position of the block, and R rows of V vectors of sums.
    unsafe {
        let mut acc = [[S::splat(S::Real::ZERO); V]; R];
        for &(x, y) in block {
            let (x, mut y) = (x.add(c * n), y);
            let mut i = 0;
            // Several at a time: the rows' addresses cost as much as a few of their products.
            while i + UNROLLED <= n {
                for j in 0..UNROLLED {
                    outer(&mut acc, x.add(i + j), n, y.add(j * padded));
                }
                y = y.add(UNROLLED * padded);
                i += UNROLLED;
            }
            while i < n {
                outer(&mut acc, x.add(i), n, y);
                y = y.add(padded);
                i += 1;
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                let to = sums.add(r * padded + v * S::LANES);
                S::load(to).plus(sum).store(to);
            }
        }
    }
    R
}

/// `acc[r][v] += x[r] * y[v]` for one image; rows of x are `n` apart.
#[inline(always)]
unsafe fn outer<S: Simd, const R: usize, const V: usize>(
    acc: &mut [[S; V]; R],
    x: *const S::Real,
    n: usize,
    y: *const S::Real,
) {
    // SAFETY: the caller promises R rows of x and V vectors of y.
    unsafe {
        let mut b = [S::splat(S::Real::ZERO); V];
        for (v, b) in b.iter_mut().enumerate() {
            *b = S::load(y.add(v * S::LANES));
        }
        for (r, row) in acc.iter_mut().enumerate() {
            let a = S::splat(*x.add(r * n));
            for (sum, &b) in row.iter_mut().zip(&b) {
                *sum = a.fma(b, *sum);
            }
        }
    }
}

/// One tap of one split's weight: its parts added up, with x's channels innermost.
///
/// # Safety
/// As [`turn_y_body`]; [`add_products_body`] has run for all units.
#[inline(always)]
unsafe fn turn_sums_body<S: Simd>(args: &ConvW<S::Real>, unit: usize) {
    let g = args.geometry;
    let (taps, len) = (g.kh * g.kw, g.cx * args.padded);
    let (split, tap) = (unit / taps, unit % taps);
    // SAFETY: the caller's promises; a unit owns its tap of all parts and its tap of the weight.
    unsafe {
        let part = |i: usize| args.sums.0.add(((split * args.parts + i) * taps + tap) * len);
        for i in 1..args.parts {
            for at in (0..len).step_by(S::LANES) {
                let to = part(0).add(at);
                S::load(to).plus(S::load(part(i).add(at))).store(to);
            }
        }
        let out = args.out.0.add(unit * g.cy * g.cx);
        transpose::<S>((part(0), args.padded), (g.cx, g.cy), (out, g.cx), g.cx);
    }
}

dispatch!(turn_y, turn_y_body, ConvW);
dispatch!(add_products, add_products_body, ConvW);
dispatch!(turn_sums, turn_sums_body, ConvW);
