//! Twin of `map.wgsl`: `out[i] = map(a[i], b[i])`. Definitions: [`crate::kernels::map`].

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::MapKernel;
use crate::tape::ops::Map;

/// Elements of one unit of work: large enough to be worth a thread.
const UNIT: usize = 1 << 14;

/// Overwrites `out` chunk by chunk, on all threads: `f(first index, chunk)`.
pub(super) fn chunks<T: Real>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, ptr) = (out.len(), Out(out.as_mut_ptr()));
    parallel(len.div_ceil(UNIT), |unit| {
        let start = unit * UNIT;
        // SAFETY: units are disjoint parts of `out`.
        f(start, unsafe { ptr.slice(start, UNIT.min(len - start)) });
    });
}

fn unary<T: Real>(a: &[T], out: &mut [T], f: impl Fn(T) -> T + Sync) {
    chunks(out, |start, out| {
        for (out, &a) in out.iter_mut().zip(&a[start..]) {
            *out = f(a);
        }
    });
}

fn binary<T: Real>(a: &[T], b: &[T], out: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    chunks(out, |start, out| {
        for ((out, &a), &b) in out.iter_mut().zip(&a[start..]).zip(&b[start..]) {
            *out = f(a, b);
        }
    });
}

/// `1 / (1 + exp(-a))`, saturating to 0 and 1.
pub(super) fn sigmoid_of<T: Real>(a: T) -> T {
    T::ONE / (T::ONE + (-a).exp())
}

/// `1 / max(sqrt(a), eps)`.
pub(super) fn inv_norm_of<T: Real>(a: T, eps: f64) -> T {
    let (norm, eps) = (a.sqrt(), T::from_f64(eps));
    T::ONE / if norm > eps { norm } else { eps }
}

/// `a` where `gate` is above 0.
fn gated<T: Real>(a: T, gate: T) -> T {
    if gate > T::ZERO { a } else { T::ZERO }
}

pub(super) fn run<T: Real>(kernel: &MapKernel, args: &Args<T>) {
    map(kernel.map, args.read(0), args.read(1), args.write(2));
}

/// One arm a member.
fn map<T: Real>(map: Map, a: &[T], b: &[T], out: &mut [T]) {
    match map {
        Map::Add => binary(a, b, out, |a, b| a + b),
        Map::Mul => binary(a, b, out, |a, b| a * b),
        Map::Affine { scale, shift } => {
            let (scale, shift) = (T::from_f64(scale), T::from_f64(shift));
            unary(a, out, |a| scale * a + shift);
        }
        Map::Relu => unary(a, out, |a| gated(a, a)),
        Map::ReluGrad => binary(a, b, out, gated),
        Map::Sigmoid => unary(a, out, sigmoid_of),
        Map::SigmoidGrad => binary(a, b, out, |a, s| a * s * (T::ONE - s)),
        Map::InvNorm { eps } => unary(a, out, |a| inv_norm_of(a, eps)),
    }
}
