//! Twins of `elementwise.wgsl`: `out[i] = f(a[i], b[i])`. Definitions:
//! [`crate::program::kernel::Kernel`].

use super::simd::Real;
use super::{Out, parallel};

/// Elements of one unit of work: large enough to be worth a thread.
const UNIT: usize = 1 << 14;

/// Overwrites `out` chunk by chunk, on all threads: `f(first index, chunk)`.
fn map<T: Real>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, ptr) = (out.len(), Out(out.as_mut_ptr()));
    parallel(len.div_ceil(UNIT), |unit| {
        let start = unit * UNIT;
        // SAFETY: units are disjoint parts of `out`.
        f(start, unsafe { ptr.slice(start, UNIT.min(len - start)) });
    });
}

fn unary<T: Real>(a: &[T], out: &mut [T], f: impl Fn(T) -> T + Sync) {
    map(out, |start, out| {
        for (out, &a) in out.iter_mut().zip(&a[start..]) {
            *out = f(a);
        }
    });
}

fn binary<T: Real>(a: &[T], b: &[T], out: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    map(out, |start, out| {
        for ((out, &a), &b) in out.iter_mut().zip(&a[start..]).zip(&b[start..]) {
            *out = f(a, b);
        }
    });
}

/// `1 / (1 + exp(-a))`, saturating to 0 and 1.
pub fn sigmoid_of<T: Real>(a: T) -> T {
    T::ONE / (T::ONE + (-a).exp())
}

/// `out = a + b`.
pub fn add<T: Real>(a: &[T], b: &[T], out: &mut [T]) {
    binary(a, b, out, |a, b| a + b);
}

/// `out = a * b`.
pub fn mul<T: Real>(a: &[T], b: &[T], out: &mut [T]) {
    binary(a, b, out, |a, b| a * b);
}

/// `out = scale * a + shift`.
pub fn affine<T: Real>(scale: f64, shift: f64, a: &[T], out: &mut [T]) {
    let (scale, shift) = (T::from_f64(scale), T::from_f64(shift));
    unary(a, out, |a| scale * a + shift);
}

/// `out = max(a, 0)`.
pub fn relu<T: Real>(a: &[T], out: &mut [T]) {
    unary(a, out, |a| if a > T::ZERO { a } else { T::ZERO });
}

/// `out = gate > 0 ? a : 0`.
pub fn relu_grad<T: Real>(a: &[T], gate: &[T], out: &mut [T]) {
    binary(a, gate, out, |a, gate| if gate > T::ZERO { a } else { T::ZERO });
}

/// `out = 1 / (1 + exp(-a))`.
pub fn sigmoid<T: Real>(a: &[T], out: &mut [T]) {
    unary(a, out, sigmoid_of);
}

/// `out = a s (1 - s)`.
pub fn sigmoid_grad<T: Real>(a: &[T], s: &[T], out: &mut [T]) {
    binary(a, s, out, |a, s| a * s * (T::ONE - s));
}

/// `out = 1 / max(sqrt(a), eps)`.
pub fn inv_norm<T: Real>(eps: f64, a: &[T], out: &mut [T]) {
    unary(a, out, |a| inv_norm_of(a, eps));
}

/// `1 / max(sqrt(a), eps)`.
pub fn inv_norm_of<T: Real>(a: T, eps: f64) -> T {
    let (norm, eps) = (a.sqrt(), T::from_f64(eps));
    T::ONE / if norm > eps { norm } else { eps }
}

/// `out = a`.
pub fn copy<T: Real>(a: &[T], out: &mut [T]) {
    map(out, |start, out| out.copy_from_slice(&a[start..start + out.len()]));
}

/// `out = value`.
pub fn fill<T: Real>(value: f64, out: &mut [T]) {
    out.fill(T::from_f64(value));
}
