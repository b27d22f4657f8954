//! Twins of `reduce.wgsl`. Definitions: [`crate::kernels::reduce`].

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::Reduce;
use crate::layout::{Piece, Shape};

/// Partial sums per run of elements: independent chains let the compiler use vectors.
const LANES: usize = 16;

/// Sum of `f(0) .. f(len - 1)`, in an order that depends on `len` only.
pub(super) fn sum_of<T: Real>(len: usize, f: impl Fn(usize) -> T) -> T {
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

pub(super) fn run<T: Real>(kernel: &Reduce, args: &Args<T>) {
    match kernel {
        Reduce::Broadcast { small, large } => {
            broadcast(*small, *large, args.read(0), args.write(1));
        }
        Reduce::SumTo { small, large } => sum_to(*small, *large, args.read(0), args.write(1)),
        Reduce::SumPieces { pieces, .. } => sum_pieces(pieces, args.read(0), args.write(1)),
    }
}

/// A flat tensor from its pieces, zero between them.
pub(super) fn sum_pieces<T: Real>(pieces: &[Piece], parts: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    for piece in pieces {
        sum_piece(piece, 0, parts, &mut out[piece.first..][..piece.len]);
    }
}

/// Elements of a piece, from element `start` of it.
pub(super) fn sum_piece<T: Real>(piece: &Piece, start: usize, parts: &[T], out: &mut [T]) {
    let part = |s: usize| &parts[piece.at + s * piece.len + start..];
    let len = out.len();
    out.copy_from_slice(&part(0)[..len]);
    for s in 1..piece.terms {
        out.iter_mut().zip(part(s)).for_each(|(out, &v)| *out += v);
    }
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
fn broadcast<T: Real>(small: Shape, large: Shape, a: &[T], out: &mut [T]) {
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
fn sum_to<T: Real>(small: Shape, large: Shape, a: &[T], out: &mut [T]) {
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
