//! Twins of `adam.wgsl` and `batch.wgsl`. Definitions: [`crate::program::kernel::Kernel`].

use super::simd::Real;
use crate::program::kernel::PADDING_IMAGE;

/// Adam's constants.
#[derive(Clone, Copy)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One Adam step and the running mean of the gradient in `reference`; `schedule` is this step's and
/// replica's row.
#[allow(clippy::too_many_arguments)] // the kernel table's order
pub fn adam<T: Real>(
    c: Adam,
    params: &mut [T],
    m: &mut [T],
    v: &mut [T],
    reference: &mut [T],
    grad: &[T],
    schedule: &[T],
) {
    let [active, c1, c2, inv_t]: [T; 4] = std::array::from_fn(|k| schedule[k]);
    if active == T::ZERO {
        return;
    }
    for (r, &g) in reference.iter_mut().zip(grad) {
        *r += (g - *r) * inv_t;
    }
    let (decay1, decay2) = (T::from_f64(1.0 - c.beta1), T::from_f64(1.0 - c.beta2));
    let (lr, eps) = (T::from_f64(c.lr), T::from_f64(c.eps));
    for (((p, m), v), &g) in params.iter_mut().zip(m).zip(v).zip(grad) {
        *m += decay1 * (g - *m);
        *v += decay2 * (g * g - *v);
        *p = *p - lr * (c1 * *m) / ((*v * c2).sqrt() + eps);
    }
}

/// Batch of images by index, as `[pixel, n]`, and their weights.
pub fn gather<T: Real>(
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
