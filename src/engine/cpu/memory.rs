//! Twins of `memory.wgsl`. Definitions: [`crate::kernels::memory`].

use super::Args;
use super::map::chunks;
use super::simd::Real;
use crate::kernels::Memory;

pub(super) fn run<T: Real>(kernel: &Memory, args: &Args<T>) {
    match *kernel {
        // What is in half precision is decoded for every kernel, and encoded after it.
        Memory::Copy { .. } | Memory::Widen { .. } | Memory::Narrow { .. } => {
            copy(args.read(0), args.write(1));
        }
        Memory::Fill { value, .. } => args.write(0).fill(T::from_f64(value)),
    }
}

fn copy<T: Real>(a: &[T], out: &mut [T]) {
    chunks(out, |start, out| out.copy_from_slice(&a[start..start + out.len()]));
}
