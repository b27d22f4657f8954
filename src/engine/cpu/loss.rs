//! Twins of `loss.wgsl`. Definitions: [`crate::kernels::loss`].

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::Loss;
use crate::kernels::loss::{ROWS, groups};

pub(super) fn run<T: Real>(kernel: &Loss, args: &Args<T>) {
    match *kernel {
        Loss::Mse { rows, n, .. } => {
            mse((rows, n), args.read(0), args.read(1), args.read(2), args.write(3));
        }
        Loss::ImageMse { rows, n, .. } => {
            image_mse((rows, n), args.read(0), args.read(1), args.write(2));
        }
    }
}

/// Sums of the weighted squared errors over groups of rows.
fn mse<T: Real>((rows, n): (usize, usize), x: &[T], target: &[T], weight: &[T], partial: &mut [T]) {
    assert!(partial.len() >= groups(rows), "mse: sums of {rows} rows");
    let out = Out(partial.as_mut_ptr());
    parallel(groups(rows), |group| {
        let mut sums = vec![T::ZERO; n];
        for row in group * ROWS..((group + 1) * ROWS).min(rows) {
            add_squares(&mut sums, &x[row * n..], &target[row * n..]);
        }
        let weighted = sums.iter().zip(weight).map(|(sum, w)| sum.to_f64() * w.to_f64());
        // SAFETY: one element a group, and as many groups as were counted above.
        let out = unsafe { out.slice(group, 1) };
        out[0] = T::from_f64(weighted.sum::<f64>() / rows as f64);
    });
}

/// `sums[i] += (x[i] - target[i])^2` for one row of images.
fn add_squares<T: Real>(sums: &mut [T], x: &[T], target: &[T]) {
    for ((sum, &x), &target) in sums.iter_mut().zip(x).zip(target) {
        let d = x - target;
        *sum += d * d;
    }
}

/// Each image's mean squared error.
fn image_mse<T: Real>((rows, n): (usize, usize), x: &[T], target: &[T], out: &mut [T]) {
    let mut total = vec![0.0; n];
    let mut sums = vec![T::ZERO; n];
    for group in 0..groups(rows) {
        sums.fill(T::ZERO);
        for row in group * ROWS..((group + 1) * ROWS).min(rows) {
            add_squares(&mut sums, &x[row * n..], &target[row * n..]);
        }
        total.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum.to_f64());
    }
    for (out, total) in out.iter_mut().zip(total) {
        *out = T::from_f64(total / rows as f64);
    }
}
