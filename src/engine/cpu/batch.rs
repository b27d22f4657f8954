//! Twins of `batch.wgsl`. Definitions: [`crate::kernels::batch`].

use super::Args;
use super::simd::Real;
use crate::kernels::Batch;
use crate::kernels::adam::SCHEDULE;
use crate::kernels::batch::{MAX_VALUES, PADDING_IMAGE, Values};

pub(super) fn run<T: Real>(kernel: &Batch, args: &Args<T>) {
    match *kernel {
        Batch::Gather { pixels, n, .. } => {
            let indices = &args.indices(1)[args.row * n..][..n];
            let image_weight = args.read(2)[args.row * SCHEDULE];
            gather(pixels, args.bytes(0), indices, image_weight, args.write(3), args.write(4));
        }
        Batch::Record { ref values, width } => {
            let row = args.write_row(MAX_VALUES, width);
            for (i, value) in values.iter().enumerate() {
                record(value, args.read(i), &mut row[value.offset..][..value.len]);
            }
        }
    }
}

/// Batch of images by index, as `[pixel, n]`, and their weights.
fn gather<T: Real>(
    pixels: usize,
    data: &[u8],
    indices: &[u32],
    image_weight: T,
    x: &mut [T],
    weight: &mut [T],
) {
    let n = indices.len();
    let scale = T::from_f64(255.0);
    for (i, &index) in indices.iter().enumerate() {
        let padding = index == PADDING_IMAGE;
        weight[i] = if padding { T::ZERO } else { image_weight };
        for p in 0..pixels {
            x[p * n + i] = if padding {
                T::ZERO
            } else {
                T::from_f64(data[index as usize * pixels + p] as f64) / scale
            };
        }
    }
}

/// One source's part of the step's row of the log.
fn record<T: Real>(&Values { len, terms, .. }: &Values, a: &[T], row: &mut [T]) {
    for (i, out) in row.iter_mut().enumerate() {
        *out = T::from_f64((0..terms).map(|s| a[s * len + i].to_f64()).sum());
    }
}
