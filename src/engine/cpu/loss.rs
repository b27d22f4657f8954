//! Twins of `loss.wgsl`. Definitions: [`crate::kernels::loss`].

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::Loss;
use crate::kernels::loss::ROWS;

pub(super) fn run<T: Real>(kernel: &Loss, args: &Args<T>) {
    match *kernel {
        Loss::Mse { rows, n } => {
            let (x, target, weight) = (args.read(0), args.read(1), args.read(2));
            mse((rows, n), x, target, weight, args.write(3), args.write(4));
        }
        Loss::MseSum { rows, n } => {
            mse_sum((rows, n), args.read(0), args.read(1), args.write(2), args.write(3));
        }
    }
}

/// Gradient of the mean squared error, and its sums over chunks of rows.
fn mse<T: Real>(
    (rows, n): (usize, usize),
    x: &[T],
    target: &[T],
    weight: &[T],
    grad: &mut [T],
    partial: &mut [T],
) {
    let scale: Vec<T> = weight[..n].iter().map(|&w| T::from_f64(2.0 / rows as f64) * w).collect();
    assert!(
        grad.len() >= rows * n && partial.len() >= rows.div_ceil(ROWS) * n,
        "mse: outputs of {rows} rows"
    );
    let (grad, partial) = (Out(grad.as_mut_ptr()), Out(partial.as_mut_ptr()));
    parallel(rows.div_ceil(ROWS), |chunk| {
        // SAFETY: chunks own their rows of grad and their row of partial; both were measured above.
        let sums = unsafe { partial.slice(chunk * n, n) };
        sums.fill(T::ZERO);
        for row in chunk * ROWS..((chunk + 1) * ROWS).min(rows) {
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
fn mse_sum<T: Real>(
    (rows, n): (usize, usize),
    partial: &[T],
    weight: &[T],
    image: &mut [T],
    loss: &mut [T],
) {
    let mut total = 0.0;
    for i in 0..n {
        let sum: f64 = (0..rows.div_ceil(ROWS)).map(|chunk| partial[chunk * n + i].to_f64()).sum();
        image[i] = T::from_f64(sum / rows as f64);
        total += weight[i].to_f64() * sum / rows as f64;
    }
    loss[0] = T::from_f64(total);
}
