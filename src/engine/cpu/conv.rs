//! Twins of `conv.wgsl` and `conv_w.wgsl`: the convolution trio, and of `image_grad` in
//! `score.wgsl`.
//!
//! With images innermost, every (output position, tap) is a small matrix product `[channels out x
//! channels in] x [channels in x n]` on memory as it stands: no im2col, no packing, and taps in the
//! padding cost nothing. A register tile is a few output channels times a few vectors of images.
//! `conv_w` and `image_grad` tile over both channel axes instead, with images in the lanes: conv_w
//! sums the lanes at the end, image_grad keeps them apart, which is why a per-image gradient costs
//! no more than the batch's.
//!
//! Work is split by outputs only, so results don't depend on the number of threads.

use super::simd::{Isa, Portable, Real, Simd, dispatch};
use super::{Out, parallel};
use crate::geometry::Geometry;
use crate::program::kernel::{Activation, Epilogue, IMAGE_GRAD_TILE};

/// Balanced split of `len` into tiles of at most `most`: the half-open range of tile `i`.
#[inline(always)]
fn tile(len: usize, most: usize, i: usize) -> (usize, usize) {
    let tiles = len.div_ceil(most);
    (i * len / tiles, (i + 1) * len / tiles)
}

/// Arguments of conv_y and conv_x in the terms both share: `out[p, m, n] = sum over taps t, k of
/// w[t, m, k] src[s, k, n]`.
pub struct Conv<'a, T> {
    geometry: &'a Geometry,
    /// conv_y (m = cy, k = cx) or conv_x (m = cx, k = cy).
    forward: bool,
    epilogue: Epilogue,
    src: &'a [T],
    w: &'a [T],
    bias: &'a [T],
    addend: &'a [T],
    gate: &'a [T],
    out: Out<T>,
}

/// `y = epilogue(conv_y(x, w))`: see [`crate::program::kernel::Kernel::ConvY`].
#[allow(clippy::too_many_arguments)] // the kernel table's order
pub fn conv_y<T: Real>(
    isa: Isa,
    geometry: &Geometry,
    epilogue: Epilogue,
    x: &[T],
    w: &[T],
    bias: &[T],
    addend: &[T],
    gate: &[T],
    y: &mut [T],
) {
    let args = Conv {
        geometry,
        forward: true,
        epilogue,
        src: x,
        w,
        bias,
        addend,
        gate,
        out: Out(y.as_mut_ptr()),
    };
    run_conv(isa, &args, y.len());
}

/// `x = epilogue(conv_x(y, w))`: see [`crate::program::kernel::Kernel::ConvX`].
#[allow(clippy::too_many_arguments)] // the kernel table's order
pub fn conv_x<T: Real>(
    isa: Isa,
    geometry: &Geometry,
    epilogue: Epilogue,
    y: &[T],
    w: &[T],
    bias: &[T],
    addend: &[T],
    gate: &[T],
    x: &mut [T],
) {
    let args = Conv {
        geometry,
        forward: false,
        epilogue,
        src: y,
        w,
        bias,
        addend,
        gate,
        out: Out(x.as_mut_ptr()),
    };
    run_conv(isa, &args, x.len());
}

/// Panics unless every slice has what the kernel reads of it: the kernels index without looking.
fn measure(kernel: &str, g: &Geometry, slices: &[(&str, usize, usize)]) {
    for &(name, len, needed) in slices {
        assert!(len >= needed, "{kernel}: {name} has {len} elements, {g} needs {needed}");
    }
}

fn run_conv<T: Real>(isa: Isa, args: &Conv<T>, out_len: usize) {
    let g = args.geometry;
    let (kernel, src, out) = if args.forward {
        ("conv_y", g.x_len(), g.y_len())
    } else {
        ("conv_x", g.y_len(), g.x_len())
    };
    let epilogue = |used: bool| if used { out } else { 0 };
    let slices = [
        ("source", args.src.len(), src),
        ("w", args.w.len(), g.w_len()),
        ("addend", args.addend.len(), epilogue(args.epilogue.add)),
        ("gate", args.gate.len(), epilogue(args.epilogue.activation == Activation::Gate)),
        ("output", out_len, out),
    ];
    measure(kernel, g, &slices);
    let (positions, channels) =
        if args.forward { (g.hy * g.wy, g.cy) } else { (g.hx * g.wx, g.cx) };
    parallel(positions * units_per_position(positions, channels), |unit| {
        T::conv_unit(isa, args, unit)
    });
}

/// Few positions are split further, by channels, so that every thread gets work.
fn units_per_position(positions: usize, channels: usize) -> usize {
    if positions < 64 { channels.div_ceil(16) } else { 1 }
}

/// One output position, ready for its register tiles.
struct Position {
    /// Offsets in w and in the source of every tap that meets data.
    taps: Vec<(usize, usize)>,
    /// Channels summed over.
    k_len: usize,
    /// Stride of w along the output channel.
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
    let (positions, m_len, k_len, w_m, w_k, width_out, width_src) = if args.forward {
        (g.hy * g.wy, g.cy, g.cx, g.cx, 1, g.wy, g.wx)
    } else {
        (g.hx * g.wx, g.cx, g.cy, 1, g.cx, g.wx, g.wy)
    };
    let shares = units_per_position(positions, m_len);
    let (p, share) = (unit / shares, unit % shares);
    let (row, col) = (p / width_out, p % width_out);
    let (rows, cols) = if args.forward {
        (g.taps_of_y(row, g.hx, g.kh), g.taps_of_y(col, g.wx, g.kw))
    } else {
        (g.taps_of_x(row, g.hy, g.kh), g.taps_of_x(col, g.wy, g.kw))
    };
    let mut taps = Vec::with_capacity(rows.count * cols.count);
    for (kh, ih) in rows.pairs() {
        for (kw, iw) in cols.pairs() {
            taps.push(((kh * g.kw + kw) * g.cy * g.cx, (ih * width_src + iw) * k_len * g.n));
        }
    }
    let position = Position { taps, k_len, w_m, w_k, n: g.n, out: p * m_len * g.n };
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
unsafe fn conv_rows<S: Simd, const M: usize>(args: &Conv<S::Real>, unit: &Position, m0: usize) {
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
    unit: &Position,
    m0: usize,
    i: usize,
) {
    let n = unit.n;
    // SAFETY: the caller's promises: w, the source and the output have all channels of all taps and
    // all images.
    unsafe {
        let mut acc = [[S::splat(S::Real::ZERO); V]; M];
        for &(w, src) in &unit.taps {
            let mut w = args.w.as_ptr().add(w + m0 * unit.w_m);
            let mut src = args.src.as_ptr().add(src + i);
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

/// Applies the epilogue to one vector of sums of channel `m`, at element `at` of the output.
#[inline(always)]
unsafe fn finish<S: Simd>(args: &Conv<S::Real>, m: usize, at: usize) {
    let Epilogue { bias, add, activation } = args.epilogue;
    // SAFETY: the vector at `at` was just written; an addend or gate that is used is as long as the
    // output.
    unsafe {
        let out = args.out.0.add(at);
        let mut sum = S::load(out);
        if bias {
            sum = sum.plus(S::splat(args.bias[m]));
        }
        if add {
            sum = sum.plus(S::load(args.addend.as_ptr().add(at)));
        }
        match activation {
            Activation::None => sum.store(out),
            Activation::Relu => sum.relu().store(out),
            Activation::Gate => sum.gate(S::load(args.gate.as_ptr().add(at))).store(out),
            Activation::Sigmoid => {
                sum.store(out);
                for lane in 0..S::LANES {
                    *out.add(lane) = super::elementwise::sigmoid_of(*out.add(lane));
                }
            }
        }
    }
}

/// Arguments of conv_w.
pub struct ConvW<'a, T> {
    geometry: &'a Geometry,
    splits: usize,
    x: &'a [T],
    y: &'a [T],
    addend: Option<&'a [T]>,
    out: Out<T>,
}

/// Channels of y in a register tile of conv_w and image_grad; times COLS channels of x.
const ROWS: usize = IMAGE_GRAD_TILE;
/// Channels of x in a register tile of conv_w and image_grad.
const COLS: usize = 6;

/// `w = conv_w(x, y)`, by runs of positions: see [`crate::program::kernel::Kernel::ConvW`].
#[allow(clippy::too_many_arguments)] // the kernel table's order
pub fn conv_w<T: Real>(
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
        T::conv_w_rows(isa, &args, unit)
    });
}

/// Offsets in x and in y of every pair of positions that tap `(kh, kw)` joins, for y's positions in
/// `run`, in order.
fn pairs_of_tap(g: &Geometry, tap: usize, run: std::ops::Range<usize>) -> Vec<(usize, usize)> {
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

/// Bytes of y that a block of positions may take: it stays in the first cache while all tiles of
/// x's channels pass.
const BLOCK_BYTES: usize = 16 << 10;

/// One tap and one tile of y's channels, against all channels of x.
///
/// # Safety
/// As [`conv_unit_body`].
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

/// `out = sum over s of partial[s]`, plus the addend: see
/// [`crate::program::kernel::Kernel::SplitSum`].
pub fn split_sum<T: Real>(splits: usize, add: bool, partial: &[T], addend: &[T], out: &mut [T]) {
    let len = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = partial[i];
        for s in 1..splits {
            sum += partial[s * len + i];
        }
        *out = if add { sum + addend[i] } else { sum };
    }
}

/// Arguments of image_grad.
pub struct ImageGrad<'a, T> {
    geometry: &'a Geometry,
    x: &'a [T],
    y: &'a [T],
    r: &'a [T],
    partial: Out<T>,
}

/// Inner product with r and squared norm of every image's own weight gradient: see
/// [`crate::program::kernel::Kernel::ImageGrad`].
pub fn image_grad<T: Real>(
    isa: Isa,
    geometry: &Geometry,
    x: &[T],
    y: &[T],
    r: &[T],
    partial: &mut [T],
) {
    let blocks = geometry.kh * geometry.kw * geometry.cy.div_ceil(IMAGE_GRAD_TILE);
    let slices = [
        ("x", x.len(), geometry.x_len()),
        ("y", y.len(), geometry.y_len()),
        ("r", r.len(), geometry.w_len()),
        ("output", partial.len(), blocks * 2 * geometry.n),
    ];
    measure("image_grad", geometry, &slices);
    let args = ImageGrad { geometry, x, y, r, partial: Out(partial.as_mut_ptr()) };
    parallel(blocks, |block| T::image_grad_block(isa, &args, block));
}

/// One block: one tap and IMAGE_GRAD_TILE channels of y, all channels of x and all images.
///
/// # Safety
/// As [`conv_unit_body`].
#[inline(always)]
unsafe fn image_grad_block_body<S: Simd>(args: &ImageGrad<S::Real>, block: usize) {
    let g = args.geometry;
    let tiles = g.cy.div_ceil(IMAGE_GRAD_TILE);
    let (tap, y0) = (block / tiles, block % tiles * IMAGE_GRAD_TILE);
    let pairs = pairs_of_tap(g, tap, 0..g.hy * g.wy);
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
            let rows = IMAGE_GRAD_TILE.min(g.cy - y0);
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
                sums[0] = gradient.fma(S::splat(*r.add(c * g.cx + d)), sums[0]);
                sums[1] = gradient.fma(gradient, sums[1]);
            }
        }
    }
}

dispatch!(conv_unit, conv_unit_body, Conv);
dispatch!(conv_w_rows, conv_w_rows_body, ConvW);
dispatch!(image_grad_block, image_grad_block_body, ImageGrad);

/// The hot loops of a float. A trait with two implementations, so that they are compiled here,
/// once, and not again in every crate that names `CpuEngine<f32>`: they are a good part of the
/// crate's code.
pub trait Hot: Sized {
    /// One unit of conv_y or conv_x.
    fn conv_unit(isa: Isa, args: &Conv<Self>, unit: usize);
    /// One unit of conv_w.
    fn conv_w_rows(isa: Isa, args: &ConvW<Self>, unit: usize);
    /// One block of image_grad.
    fn image_grad_block(isa: Isa, args: &ImageGrad<Self>, block: usize);
}

macro_rules! hot {
    ($t:ty) => {
        impl Hot for $t {
            fn conv_unit(isa: Isa, args: &Conv<Self>, unit: usize) {
                conv_unit(isa, args, unit);
            }
            fn conv_w_rows(isa: Isa, args: &ConvW<Self>, unit: usize) {
                conv_w_rows(isa, args, unit);
            }
            fn image_grad_block(isa: Isa, args: &ImageGrad<Self>, block: usize) {
                image_grad_block(isa, args, block);
            }
        }
    };
}

hot!(f32);
hot!(f64);
