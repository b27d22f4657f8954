//! Twin of `noise.wgsl`. Definition: [`crate::kernels::noise`].

use super::simd::Real;
use super::{Args, Out, parallel};
use crate::kernels::Noise;
use crate::kernels::noise::{DRAWS, MULTIPLIERS, QUANTILES, ROUNDS, WEYL};

pub(super) fn run<T: Real>(kernel: &Noise, args: &Args<T>) {
    let Noise { features, n, layer } = *kernel;
    let draws = &args.indices(0)[args.row * DRAWS..][..DRAWS];
    let (key, iteration) = ([draws[0], draws[1]], draws[2]);
    let out = Out(args.write(1).as_mut_ptr());
    parallel(features.div_ceil(4), |block| {
        let rows = 4.min(features - 4 * block);
        // SAFETY: blocks are disjoint parts of the output, which is [features, n].
        let out = unsafe { out.slice(4 * block * n, rows * n) };
        for i in 0..n {
            let words = philox([block as u32, i as u32, iteration, layer as u32], key);
            for (row, &word) in out.chunks_exact_mut(n).zip(&words) {
                row[i] = T::from_f64(normal(word).into());
            }
        }
    });
}

/// Both words of a product.
fn product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let (high0, low0) = product(MULTIPLIERS[0], c[0]);
        let (high1, low1) = product(MULTIPLIERS[1], c[2]);
        c = [high1 ^ c[1] ^ key[0], low1, high0 ^ c[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    c
}

/// The number beyond which the tail is as probable as the word's 31 low bits say, with a sign.
fn normal(word: u32) -> f32 {
    let w = (word << 1) | 1;
    let octave = w.leading_zeros();
    let s = !((w << octave) << 1);
    let row = QUANTILES[2 * octave as usize..][..2].as_flattened();
    let q = row.iter().rev().fold(0, |q, &c| c + product(q, s).0);
    // Less than 2^24 units, so nothing is rounded here.
    let size = ((q + 64) >> 7) as f32 * (1.0 / (1 << 21) as f32);
    if word >> 31 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the authors' own test, in Random123.
    #[test]
    fn the_generator_gives_its_known_answers() {
        for (counter, key, words) in [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), words);
        }
    }

    /// Quantiles of the normal distribution to ten digits, in all parts of it: the middle, the limits
    /// of octaves, and the last of the tail.
    #[test]
    fn words_become_their_quantiles() {
        for (bits, quantile) in [
            (0x7fff_ffff, 0.0),
            (0x4000_0000, 0.674_489_749_8),
            (0x3fff_ffff, 0.674_489_750_6),
            (0x1000_0000, 1.534_120_543_4),
            (0x0051_eb85, 3.023_341_418_3),
            (1, 6.166_429_517_8),
            (0, 6.337_957_755_6),
        ] {
            assert!(
                (f64::from(normal(bits)) - quantile).abs() < 7e-7,
                "{bits:x}: {}",
                normal(bits)
            );
            assert_eq!(normal(bits | (1 << 31)), -normal(bits));
        }
    }
}
