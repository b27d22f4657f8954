//! Twins of `constraint.wgsl`. Definitions: [`crate::kernels::constraint`].

use super::map::inv_norm_of;
use super::reduce::{sum_of, sum_piece};
use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::Constraint;
use crate::kernels::constraint::{SPAN, max_blocks};
use crate::layout::{Piece, Segment, Stat, Stats};
use crate::tape::ops::constraint::COSINE_EPS;

pub(super) fn run<T: Real>(kernel: &Constraint, args: &Args<T>) {
    match kernel {
        Constraint::Constraint { pieces } => {
            constraint(pieces, args.read(0), args.read(1), args.write(2), args.write(3));
        }
        Constraint::ConstraintSum { segments } => {
            constraint_sum(segments, args.read(0), args.write(1));
        }
        Constraint::ConstraintGrad { segments, scale, terms } => {
            let (g, r, stats) = (args.read(0), args.read(1), args.read(2));
            let weight: f64 = match terms {
                0 => 1.0,
                terms => args.read(3)[..*terms].iter().map(|v| v.to_f64()).sum(),
            };
            constraint_grad(segments, scale * weight, g, r, stats, args.write(4));
        }
    }
}

/// g from its pieces, and block sums of `g.r`, `g.g` and `r.r` of every segment.
fn constraint<T: Real>(pieces: &[Piece], parts: &[T], r: &[T], g: &mut [T], partial: &mut [T]) {
    let segments: Vec<Segment> = pieces.iter().map(Piece::segment).collect();
    let blocks = max_blocks(&segments);
    assert!(
        partial.len() >= segments.len() * blocks * 3
            && segments.iter().all(|s| g.len() >= s.offset + s.len),
        "constraint: sums of {} blocks",
        segments.len() * blocks
    );
    let (g, out) = (Out(g.as_mut_ptr()), Out(partial.as_mut_ptr()));
    parallel(segments.len() * blocks, |unit| {
        let (piece, Segment { offset, len }) = (&pieces[unit / blocks], segments[unit / blocks]);
        let start = (unit % blocks * SPAN).min(len);
        let end = (start + SPAN).min(len);
        // SAFETY: a unit owns its block of g and its three sums; both were measured above.
        let (g, out) = unsafe { (g.slice(offset + start, end - start), out.slice(unit * 3, 3)) };
        sum_piece(piece, start, parts, g);
        let (g, r) = (&*g, &r[offset + start..offset + end]);
        out[0] = sum_of(g.len(), |i| g[i] * r[i]);
        out[1] = sum_of(g.len(), |i| g[i] * g[i]);
        out[2] = sum_of(g.len(), |i| r[i] * r[i]);
    });
}

/// The constraint and every segment's sums and cosine.
fn constraint_sum<T: Real>(segments: &[Segment], partial: &[T], stats: &mut [T]) {
    let blocks = max_blocks(segments);
    let mut total = 0.0;
    for s in 0..segments.len() {
        let sums: [f64; 3] = std::array::from_fn(|k| {
            (0..blocks).map(|b| partial[(s * blocks + b) * 3 + k].to_f64()).sum()
        });
        let cos = sums[0] * inv_norm_of(sums[1], COSINE_EPS) * inv_norm_of(sums[2], COSINE_EPS);
        total += cos;
        let [gr, gg, rr] = sums;
        for (stat, v) in [(Stat::GR, gr), (Stat::GG, gg), (Stat::RR, rr), (Stat::Cos, cos)] {
            stats[Stats::at(s, stat)] = T::from_f64(v);
        }
    }
    stats[..Stats::HEAD].fill(T::ZERO);
    stats[Stats::CONSTRAINT] = T::from_f64(-total / segments.len() as f64);
}

/// Gradient of the constraint with respect to g.
fn constraint_grad<T: Real>(
    segments: &[Segment],
    scale: f64,
    g: &[T],
    r: &[T],
    stats: &[T],
    out: &mut [T],
) {
    for (s, &Segment { offset, len }) in segments.iter().enumerate() {
        let [gg, rr, cos] =
            [Stat::GG, Stat::RR, Stat::Cos].map(|stat| stats[Stats::at(s, stat)].to_f64());
        let (inv_g, inv_r) = (inv_norm_of(gg, COSINE_EPS), inv_norm_of(rr, COSINE_EPS));
        let scale = -scale / segments.len() as f64;
        let along_r = T::from_f64(scale * inv_g * inv_r);
        // Below the clamp the norm is a constant.
        let along_g =
            T::from_f64(if gg.sqrt() > COSINE_EPS { -scale * cos * inv_g * inv_g } else { 0.0 });
        for i in offset..offset + len {
            out[i] = along_r * r[i] + along_g * g[i];
        }
    }
}
