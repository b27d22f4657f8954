//! Twin of `adam.wgsl`. Definition: [`crate::kernels::adam`].

use super::Args;
use super::reduce::sum_pieces;
use super::simd::Real;
use crate::kernels::Adam;
use crate::kernels::adam::SCHEDULE;
use crate::tape::ops::AdamConfig;

pub(super) fn run<T: Real>(kernel: &Adam, args: &Args<T>) {
    let schedule = &args.read(5)[args.row * SCHEDULE..][..SCHEDULE];
    let [params, m, v, reference] = [0, 1, 2, 3].map(|i| args.write(i));
    let [active, c1, c2, inv_t]: [T; 4] = std::array::from_fn(|k| schedule[k]);
    if active == T::ZERO {
        return;
    }
    let mut grad = vec![T::ZERO; kernel.len];
    sum_pieces(&kernel.pieces, args.read(4), &mut grad);
    let scale = T::from_f64(kernel.scale);
    grad.iter_mut().for_each(|g| *g = scale * *g);
    for (r, &g) in reference.iter_mut().zip(&grad) {
        *r += (g - *r) * inv_t;
    }
    adam(kernel.config, args.read(6)[0], params, m, v, &grad, [c1, c2]);
}

/// One Adam step, with this step's corrections of the moments' bias.
fn adam<T: Real>(
    config: AdamConfig,
    lr: T,
    params: &mut [T],
    m: &mut [T],
    v: &mut [T],
    grad: &[T],
    [c1, c2]: [T; 2],
) {
    let (decay1, decay2) = (T::from_f64(1.0 - config.beta1), T::from_f64(1.0 - config.beta2));
    let eps = T::from_f64(config.eps);
    for (((p, m), v), &g) in params.iter_mut().zip(m).zip(v).zip(grad) {
        *m += decay1 * (g - *m);
        *v += decay2 * (g * g - *v);
        *p = *p - lr * (c1 * *m) / ((*v * c2).sqrt() + eps);
    }
}
