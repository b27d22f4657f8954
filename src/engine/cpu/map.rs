//! Twin of `map.wgsl`: a chain of elementwise functions. Definitions: [`crate::kernels::map`].
//!
//! A chain runs link by link over blocks that stay in the first cache.

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::MapKernel;
use crate::kernels::map::{Input, Link, Operand};
use crate::tape::ops::Map;

/// Elements of one unit of work: large enough to be worth a thread.
const UNIT: usize = 1 << 14;

/// Elements of a block.
const BLOCK: usize = 256;

/// Overwrites `out` chunk by chunk, on all threads: `f(first index, chunk)`.
pub(super) fn chunks<T: Real>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, ptr) = (out.len(), Out(out.as_mut_ptr()));
    parallel(len.div_ceil(UNIT), |unit| {
        let start = unit * UNIT;
        // SAFETY: units are disjoint parts of `out`.
        f(start, unsafe { ptr.slice(start, UNIT.min(len - start)) });
    });
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
    let inputs: Vec<&[T]> = (0..kernel.inputs.len()).map(|i| args.read(i)).collect();
    chunks(args.write(4), |start, out| {
        // The inputs and every link's results, of one block.
        let mut values = vec![[T::ZERO; BLOCK]; kernel.inputs.len() + kernel.links.len()];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            block(kernel, &inputs, start + i * BLOCK, &mut values, out);
        }
    });
}

/// The elements from `start` of the result.
fn block<T: Real>(
    kernel: &MapKernel,
    inputs: &[&[T]],
    start: usize,
    values: &mut [[T; BLOCK]],
    out: &mut [T],
) {
    let len = out.len();
    for ((value, input), how) in values.iter_mut().zip(inputs).zip(&kernel.inputs) {
        match *how {
            Input::Whole => value[..len].copy_from_slice(&input[start..start + len]),
            Input::Repeated { inner, count } => {
                let element = |i: usize| input[(start + i) / inner % count];
                value[..len].iter_mut().enumerate().for_each(|(i, v)| *v = element(i));
            }
        }
    }
    let count = inputs.len();
    let place = |from: Operand| match from {
        Operand::Input(i) => i,
        Operand::Link(i) => count + i,
    };
    for (i, &Link { map, of: [a, b] }) in kernel.links.iter().enumerate() {
        let (known, rest) = values.split_at_mut(count + i);
        apply(map, &known[place(a)], &known[place(b)], &mut rest[0]);
    }
    out.copy_from_slice(&values[values.len() - 1][..len]);
}

/// One arm a member.
fn apply<T: Real>(map: Map, a: &[T; BLOCK], b: &[T; BLOCK], out: &mut [T; BLOCK]) {
    match map {
        Map::Add => binary(a, b, out, |a, b| a + b),
        Map::Sub => binary(a, b, out, |a, b| a - b),
        Map::Mul => binary(a, b, out, |a, b| a * b),
        Map::Affine { scale, shift } => {
            let (scale, shift) = (T::from_f64(scale), T::from_f64(shift));
            binary(a, a, out, |a, _| scale * a + shift);
        }
        Map::Relu => binary(a, a, out, gated),
        Map::ReluGrad => binary(a, b, out, gated),
        Map::Sigmoid => binary(a, a, out, |a, _| a.sigmoid()),
        Map::SigmoidGrad => binary(a, b, out, |a, s| a * s * (T::ONE - s)),
        Map::InvNorm { eps } => binary(a, a, out, |a, _| inv_norm_of(a, eps)),
        Map::Exp => binary(a, a, out, |a, _| a.exp()),
    }
}

#[inline(always)]
fn binary<T: Real>(a: &[T; BLOCK], b: &[T; BLOCK], out: &mut [T; BLOCK], f: impl Fn(T, T) -> T) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}
