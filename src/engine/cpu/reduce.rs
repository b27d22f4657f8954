//! Twins of `reduce.wgsl`, `loss.wgsl` and `constraint.wgsl`, and of `image_cos` in `score.wgsl`.
//! Definitions: [`crate::program::kernel::Kernel`].

use super::elementwise::inv_norm_of;
use super::simd::Real;
use super::{Out, parallel};
use crate::program::kernel::{CONSTRAINT_BLOCK, COSINE_EPS, MSE_ROWS, Segment, max_blocks};

/// Partial sums per run of elements: independent chains let the compiler use vectors.
const LANES: usize = 16;

/// Sum of `f(0) .. f(len - 1)`, in an order that depends on `len` only.
fn sum_of<T: Real>(len: usize, f: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let whole = len - len % LANES;
    let mut i = 0;
    while i < whole {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + l);
        }
        i += LANES;
    }
    for i in whole..len {
        lanes[i - whole] += f(i);
    }
    lanes.into_iter().sum()
}

/// Offset in a row-major array of shape `shape` of an index whose axes of size 1 are pinned to 0.
fn offset(index: [usize; 4], shape: [usize; 4]) -> usize {
    (0..4).fold(0, |at, axis| at * shape[axis] + if shape[axis] == 1 { 0 } else { index[axis] })
}

fn unravel(i: usize, shape: [usize; 4]) -> [usize; 4] {
    let [_, b, c, d] = shape;
    [i / (b * c * d), i / (c * d) % b, i / d % c, i % d]
}

/// Repeats axes of size 1.
pub fn broadcast<T: Real>(small: [usize; 4], large: [usize; 4], a: &[T], out: &mut [T]) {
    let row = large[3];
    for (r, out) in out.chunks_exact_mut(row).enumerate() {
        let from = offset(unravel(r * row, large), small);
        if small[3] == 1 {
            out.fill(a[from]);
        } else {
            out.copy_from_slice(&a[from..from + row]);
        }
    }
}

/// Sums over the axes where `small` is 1.
pub fn sum_to<T: Real>(small: [usize; 4], large: [usize; 4], a: &[T], out: &mut [T]) {
    let reduced: [usize; 4] =
        std::array::from_fn(|axis| if small[axis] == 1 { large[axis] } else { 1 });
    let (len, ptr) = (out.len(), Out(out.as_mut_ptr()));
    parallel(len, |i| {
        let at = unravel(i, small);
        let mut sum = 0.0; // rows are short; their sum may be long
        for r in 0..reduced[0] * reduced[1] * reduced[2] {
            let over = unravel(r * reduced[3], reduced);
            let index: [usize; 4] = std::array::from_fn(|axis| at[axis] + over[axis]);
            let start = offset(index, large);
            sum += sum_of(reduced[3], |j| a[start + j]).to_f64();
        }
        // SAFETY: one element a unit, and as many units as elements.
        let out = unsafe { ptr.slice(i, 1) };
        out[0] = T::from_f64(sum);
    });
}

/// Gradient of the mean squared error, and its sums over chunks of rows.
pub fn mse<T: Real>(
    rows: usize,
    n: usize,
    x: &[T],
    target: &[T],
    weight: &[T],
    grad: &mut [T],
    partial: &mut [T],
) {
    let scale: Vec<T> = weight[..n].iter().map(|&w| T::from_f64(2.0 / rows as f64) * w).collect();
    assert!(
        grad.len() >= rows * n && partial.len() >= rows.div_ceil(MSE_ROWS) * n,
        "mse: outputs of {rows} rows"
    );
    let (grad, partial) = (Out(grad.as_mut_ptr()), Out(partial.as_mut_ptr()));
    parallel(rows.div_ceil(MSE_ROWS), |chunk| {
        // SAFETY: chunks own their rows of grad and their row of partial; both were measured above.
        let sums = unsafe { partial.slice(chunk * n, n) };
        sums.fill(T::ZERO);
        for row in chunk * MSE_ROWS..((chunk + 1) * MSE_ROWS).min(rows) {
            // SAFETY: as above.
            let grad = unsafe { grad.slice(row * n, n) };
            let (x, target) = (&x[row * n..][..n], &target[row * n..][..n]);
            for i in 0..n {
                let d = x[i] - target[i];
                grad[i] = scale[i] * d;
                sums[i] += d * d;
            }
        }
    });
}

/// Per-image mean squared errors and their weighted sum.
pub fn mse_sum<T: Real>(
    rows: usize,
    n: usize,
    partial: &[T],
    weight: &[T],
    image: &mut [T],
    loss: &mut [T],
) {
    let mut total = 0.0;
    for i in 0..n {
        let sum: f64 =
            (0..rows.div_ceil(MSE_ROWS)).map(|chunk| partial[chunk * n + i].to_f64()).sum();
        image[i] = T::from_f64(sum / rows as f64);
        total += weight[i].to_f64() * sum / rows as f64;
    }
    loss[0] = T::from_f64(total);
}

/// Block sums of `g.r`, `g.g` and `r.r` of every segment.
pub fn constraint<T: Real>(segments: &[Segment], g: &[T], r: &[T], partial: &mut [T]) {
    let blocks = max_blocks(segments);
    assert!(
        partial.len() >= segments.len() * blocks * 3,
        "constraint: sums of {} blocks",
        segments.len() * blocks
    );
    let out = Out(partial.as_mut_ptr());
    parallel(segments.len() * blocks, |unit| {
        let Segment { offset, len } = segments[unit / blocks];
        let start = (unit % blocks * CONSTRAINT_BLOCK).min(len);
        let end = (start + CONSTRAINT_BLOCK).min(len);
        let (g, r) = (&g[offset + start..offset + end], &r[offset + start..offset + end]);
        // SAFETY: three elements a unit, as many as were counted above.
        let out = unsafe { out.slice(unit * 3, 3) };
        out[0] = sum_of(g.len(), |i| g[i] * r[i]);
        out[1] = sum_of(g.len(), |i| g[i] * g[i]);
        out[2] = sum_of(g.len(), |i| r[i] * r[i]);
    });
}

/// The constraint and every segment's sums and cosine.
pub fn constraint_sum<T: Real>(segments: &[Segment], partial: &[T], stats: &mut [T]) {
    let blocks = max_blocks(segments);
    let mut total = 0.0;
    for s in 0..segments.len() {
        let sums: [f64; 3] = std::array::from_fn(|k| {
            (0..blocks).map(|b| partial[(s * blocks + b) * 3 + k].to_f64()).sum()
        });
        let cos = sums[0] * inv_norm_of(sums[1], COSINE_EPS) * inv_norm_of(sums[2], COSINE_EPS);
        total += cos;
        for (k, v) in [sums[0], sums[1], sums[2], cos].into_iter().enumerate() {
            stats[4 + 4 * s + k] = T::from_f64(v);
        }
    }
    stats[..4].fill(T::ZERO);
    stats[0] = T::from_f64(-total / segments.len() as f64);
}

/// Gradient of the constraint with respect to g.
pub fn constraint_grad<T: Real>(
    segments: &[Segment],
    scale: f64,
    g: &[T],
    r: &[T],
    stats: &[T],
    out: &mut [T],
) {
    for (s, &Segment { offset, len }) in segments.iter().enumerate() {
        let [_, gg, rr, cos]: [f64; 4] = std::array::from_fn(|k| stats[4 + 4 * s + k].to_f64());
        let (inv_g, inv_r) = (inv_norm_of(gg, COSINE_EPS), inv_norm_of(rr, COSINE_EPS));
        let scale = -scale / segments.len() as f64;
        let along_r = T::from_f64(scale * inv_g * inv_r);
        // Below the clamp the norm is a constant.
        let along_g =
            T::from_f64(if gg.sqrt() > COSINE_EPS { -scale * cos * inv_g * inv_g } else { 0.0 });
        for i in offset..offset + len {
            out[i] = along_r * r[i] + along_g * g[i];
        }
    }
}

/// Cosine between each image's own gradient and r.
pub fn image_cos<T: Real>(
    blocks: usize,
    n: usize,
    segment: usize,
    partial: &[T],
    stats: &[T],
    out: &mut [T],
) {
    let inv_r = inv_norm_of(stats[4 + 4 * segment + 2].to_f64(), COSINE_EPS);
    for i in 0..n {
        let sum =
            |k: usize| (0..blocks).map(|b| partial[(b * 2 + k) * n + i].to_f64()).sum::<f64>();
        out[i] = T::from_f64(sum(0) * inv_norm_of(sum(1), COSINE_EPS) * inv_r);
    }
}
