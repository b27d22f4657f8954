//! Twins of `conv.wgsl`: two of the convolution trio. Definitions: [`crate::kernels::conv`].
//!
//! With images innermost, every (output position, tap) is a small matrix product
//! `[channels out x channels in] x [channels in x n]` on memory as it stands: no im2col, no
//! packing, and taps in the padding cost nothing. A register tile is a few output channels times a
//! few vectors of images.
//!
//! Work is split by outputs only, so results don't depend on the number of threads.

use super::simd::{Isa, Portable, Real, Simd, dispatch};
use super::tile::{measure, tile};
use super::{Args, Out, parallel};
use crate::geometry::Geometry;
use crate::kernels;
use crate::kernels::conv::{Activation, Epilogue};

pub(super) fn run<T: Real>(kernel: &kernels::Conv, args: &Args<T>) {
    let (geometry, epilogue) = kernel.parts();
    let forward = match kernel {
        kernels::Conv::ConvY { .. } => true,
        kernels::Conv::ConvX { .. } => false,
    };
    let [src, w, src2, w2, bias, gate] = [0, 1, 2, 3, 4, 5].map(|i| args.read(i));
    let pair = kernel.sum().0.then_some((src2, w2));
    let result = args.write(6);
    let out = Out(result.as_mut_ptr());
    let conv = Conv { geometry, forward, epilogue, of: (src, w), pair, bias, gate, out };
    convolve(args.isa(), &conv, result.len());
}

/// Arguments of conv_y and conv_x in the terms both share:
/// `out[p, m, n] = sum over taps t, k of w[t, m, k] src[s, k, n]`, of one or two (src, w).
struct Conv<'a, T> {
    geometry: &'a Geometry,
    /// conv_y (m = cy, k = cx) or conv_x (m = cx, k = cy).
    forward: bool,
    epilogue: Epilogue,
    of: (&'a [T], &'a [T]),
    pair: Option<(&'a [T], &'a [T])>,
    bias: &'a [T],
    gate: &'a [T],
    out: Out<T>,
}

fn convolve<T: Real>(isa: Isa, args: &Conv<T>, out_len: usize) {
    let g = args.geometry;
    let (kernel, src, out) = if args.forward {
        ("conv_y", g.x_len(), g.y_len())
    } else {
        ("conv_x", g.y_len(), g.x_len())
    };
    let gate = if args.epilogue.activation == Activation::Gate { out } else { 0 };
    measure(kernel, g, &[("gate", args.gate.len(), gate), ("output", out_len, out)]);
    for (source, w) in [args.of].into_iter().chain(args.pair) {
        measure(kernel, g, &[("source", source.len(), src), ("w", w.len(), g.w_len())]);
    }
    let (rows, channels) = if args.forward { (g.hy, g.cy) } else { (g.hx, g.cx) };
    let positions = rows * args.columns().groups;
    parallel(positions * units_per_position(positions, channels), |unit| {
        conv_unit(isa, args, unit)
    });
}

/// Groups of the output's columns.
struct Columns {
    groups: usize,
    width: usize,
    /// What the first group lacks.
    missing: usize,
}

impl<T> Conv<'_, T> {
    /// Columns that are computed together, as if they were channels. Of one channel there would be
    /// as many loads as products: so conv_x takes a stride of columns, which read the same
    /// positions of y, each through the next tap.
    fn columns(&self) -> Columns {
        let g = self.geometry;
        if self.forward {
            return Columns { groups: g.wy, width: 1, missing: 0 };
        }
        let width = if g.cx == 1 && g.kw.is_multiple_of(g.stride) { g.stride } else { 1 };
        let missing = g.padding % width;
        Columns { groups: (g.wx + missing).div_ceil(width), width, missing }
    }
}

/// Few positions are split further, by channels, so that every thread gets work.
fn units_per_position(positions: usize, channels: usize) -> usize {
    if positions < 64 { channels.div_ceil(16) } else { 1 }
}

/// One output position, or a group of columns, ready for its register tiles.
struct Position<T> {
    /// Where in w and in the source every tap lies that meets data, of one pair after the other.
    taps: Vec<(*const T, *const T)>,
    /// Channels summed over.
    k_len: usize,
    /// Stride of w along the output channel, or column.
    w_m: usize,
    /// Stride of w along the summed channel.
    w_k: usize,
    /// Images.
    n: usize,
    /// Offset of the position in the output.
    out: usize,
}

/// All images of one output position, for all its channels or one share of them.
///
/// # Safety
/// As for all of this file: the CPU has S's instructions, the slices were [`measure`]d, and no
/// other thread has the same unit.
#[inline(always)]
unsafe fn conv_unit_body<S: Simd>(args: &Conv<S::Real>, unit: usize) {
    let g = args.geometry;
    let (height, channels, inputs, w_m, w_k, width_out, width_src) = if args.forward {
        (g.hy, g.cy, g.cx, g.cx, 1, g.wy, g.wx)
    } else {
        (g.hx, g.cx, g.cy, 1, g.cx, g.wx, g.wy)
    };
    let Columns { groups, width, missing } = args.columns();
    let shares = units_per_position(height * groups, channels);
    let (p, share) = (unit / shares, unit % shares);
    let (row, col) = (p / groups, (p % groups * width).saturating_sub(missing));
    let col_end = ((p % groups + 1) * width - missing).min(width_out);
    let (rows, cols) = if args.forward {
        (g.taps_of_y(row, g.hx, g.kh), g.taps_of_y(col, g.wx, g.kw))
    } else {
        (g.taps_of_x(row, g.hy, g.kh), g.taps_of_x(col, g.wy, g.kw))
    };
    let tap = g.cy * g.cx;
    let mut taps = Vec::with_capacity(2 * rows.count * cols.count);
    for (src, w) in [args.of].into_iter().chain(args.pair) {
        for (kh, ih) in rows.pairs() {
            for (kw, iw) in cols.pairs() {
                let (w, src) =
                    (&w[(kh * g.kw + kw) * tap..], &src[(ih * width_src + iw) * inputs * g.n..]);
                taps.push((w.as_ptr(), src.as_ptr()));
            }
        }
    }
    let position = Position {
        taps,
        k_len: inputs,
        w_m: if width > 1 { tap } else { w_m },
        w_k,
        n: g.n,
        out: (row * width_out + col) * channels * g.n,
    };
    let m_len = (col_end - col) * channels;
    let (first, last) = (share * m_len / shares, (share + 1) * m_len / shares);
    for t in 0..(last - first).div_ceil(S::TILE_ROWS) {
        let (m0, m1) = tile(last - first, S::TILE_ROWS, t);
        let m = first + m0;
        // SAFETY: the caller's promises; the taps and channels are those of the geometry.
        unsafe {
            match m1 - m0 {
                1 => conv_rows::<S, 1>(args, &position, m),
                2 => conv_rows::<S, 2>(args, &position, m),
                3 => conv_rows::<S, 3>(args, &position, m),
                4 => conv_rows::<S, 4>(args, &position, m),
                5 => conv_rows::<S, 5>(args, &position, m),
                _ => conv_rows::<S, 6>(args, &position, m),
            }
        }
    }
}

/// M output channels, all images: whole register tiles first, then single vectors, then single
/// images.
#[inline(always)]
unsafe fn conv_rows<S: Simd, const M: usize>(
    args: &Conv<S::Real>,
    unit: &Position<S::Real>,
    m0: usize,
) {
    let mut i = 0;
    // SAFETY: the caller's promises, and no tile reaches beyond the n images. A vector of one lane
    // needs no instructions of its own.
    unsafe {
        if S::TILE_VECTORS == 4 {
            while i + 4 * S::LANES <= unit.n {
                conv_tile::<S, M, 4>(args, unit, m0, i);
                i += 4 * S::LANES;
            }
        }
        while i + 2 * S::LANES <= unit.n {
            conv_tile::<S, M, 2>(args, unit, m0, i);
            i += 2 * S::LANES;
        }
        while i + S::LANES <= unit.n {
            conv_tile::<S, M, 1>(args, unit, m0, i);
            i += S::LANES;
        }
        while i < unit.n {
            conv_tile::<Portable<S::Real, 1>, M, 1>(args, unit, m0, i);
            i += 1;
        }
    }
}

/// The register tile: M output channels times V vectors of images from image i.
#[inline(always)]
unsafe fn conv_tile<S: Simd, const M: usize, const V: usize>(
    args: &Conv<S::Real>,
    unit: &Position<S::Real>,
    m0: usize,
    i: usize,
) {
    let n = unit.n;
    // SAFETY: the caller's promises: w, the source and the output have all channels of all taps and
    // all images.
    unsafe {
        let mut acc = [[S::splat(S::Real::ZERO); V]; M];
        for &(w, src) in &unit.taps {
            let mut w = w.add(m0 * unit.w_m);
            let mut src = src.add(i);
            for _ in 0..unit.k_len {
                let mut b = [S::splat(S::Real::ZERO); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = S::load(src.add(v * S::LANES));
                }
                for (m, row) in acc.iter_mut().enumerate() {
                    let a = S::splat(*w.add(m * unit.w_m));
                    for (sum, &b) in row.iter_mut().zip(&b) {
                        *sum = a.fma(b, *sum);
                    }
                }
                w = w.add(unit.w_k);
                src = src.add(n);
            }
        }
        // Stored plainly first: only short loops over constant bounds let the sums live in
        // registers.
        for (m, row) in acc.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                sum.store(args.out.0.add(unit.out + (m0 + m) * n + i + v * S::LANES));
            }
        }
        for m in 0..M {
            for v in 0..V {
                finish::<S>(args, m0 + m, unit.out + (m0 + m) * n + i + v * S::LANES);
            }
        }
    }
}

/// Applies the epilogue to one vector of sums of row `m` (a channel, or a column of the only one),
/// at element `at` of the output.
#[inline(always)]
unsafe fn finish<S: Simd>(args: &Conv<S::Real>, m: usize, at: usize) {
    let Epilogue { bias, activation } = args.epilogue;
    // SAFETY: the vector at `at` was just written; a gate that is used is as long as the output.
    unsafe {
        let out = args.out.0.add(at);
        let mut sum = S::load(out);
        if bias {
            let channels = if args.forward { args.geometry.cy } else { args.geometry.cx };
            sum = sum.plus(S::splat(args.bias[m % channels]));
        }
        match activation {
            Activation::None => sum.store(out),
            Activation::Relu => sum.relu().store(out),
            Activation::Gate => sum.gate(S::load(args.gate.as_ptr().add(at))).store(out),
            Activation::Sigmoid => {
                sum.store(out);
                for lane in 0..S::LANES {
                    *out.add(lane) = (*out.add(lane)).sigmoid();
                }
            }
        }
    }
}

dispatch!(conv_unit, conv_unit_body, Conv);
