//! Resizing with Pillow's LANCZOS filter, in Pillow's own integer arithmetic: the same levels, not
//! just close ones.
//!
//! Each output pixel is a weighted sum over the input pixels within three output pixels (three
//! input pixels when enlarging) of its centre. Weights are 22-bit fixed point. The width is done
//! first, then the height, or, for tall images as in Pillow 13, the height first; the image between
//! is rounded to bytes.
//!
//! An image is asked for by rows, so a large one is never copied: beside it there are the image
//! between, one side of which is reduced already, and the weights, 24 bytes for a pixel of each
//! side.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::Images;

const PRECISION: u32 = 22;

/// The images [n, height, width, c] at another size, with an antialiasing Lanczos filter (a = 3).
pub fn resize(images: &Images, height: usize, width: usize) -> Images {
    let c = images.channels;
    let (from, to) = ([images.height, images.width], [height, width]);
    let plan = Plan::new(from, to, Plan::height_comes_first(from, to));
    let mut data = vec![0; images.n * height * width * c];
    data.par_chunks_exact_mut(height * width * c).enumerate().for_each(|(i, out)| {
        let (image, len) = (images.image(i), images.width * c);
        out.copy_from_slice(&plan.apply(c, |y, row| row.copy_from_slice(&image[y * len..][..len])));
    });
    Images { data, n: images.n, height, width, channels: c }
}

/// How images of one size get another one.
pub(super) struct Plan {
    from: [usize; 2],
    to: [usize; 2],
    height_first: bool,
    /// None where the side stays as it is.
    down: Option<Taps>,
    across: Option<Taps>,
}

impl Plan {
    /// From and to [height, width].
    pub(super) fn new(from: [usize; 2], to: [usize; 2], height_first: bool) -> Plan {
        let taps = |axis: usize| (from[axis] != to[axis]).then(|| Taps::new(from[axis], to[axis]));
        Plan { from, to, height_first, down: taps(0), across: taps(1) }
    }

    /// Pillow's choice since 13.0; before, the width always came first. Square images are not
    /// concerned.
    pub(super) fn height_comes_first(from: [usize; 2], to: [usize; 2]) -> bool {
        from[0] > to[0] && 2 * from[1] + to[0] < 2 * to[1] + from[0]
    }

    /// The image [to, c]. `row(y, out)` writes row y of the original, `from[1] * c` bytes; it may
    /// be asked for more than once.
    pub(super) fn apply(&self, c: usize, row: impl Fn(usize, &mut [u8])) -> Vec<u8> {
        let (wide, narrow) = (self.from[1] * c, self.to[1] * c);
        if self.height_first {
            let mut between = vec![0; self.to[0] * wide];
            self.shorten(wide, row, &mut between);
            let mut out = vec![0; self.to[0] * narrow];
            let rows = out.chunks_exact_mut(narrow).zip(between.chunks_exact(wide));
            rows.for_each(|(out, row)| self.narrow(c, row, out));
            return out;
        }
        let mut line = vec![0; wide];
        let mut between = vec![0; self.from[0] * narrow];
        for (y, out) in between.chunks_exact_mut(narrow).enumerate() {
            row(y, &mut line);
            self.narrow(c, &line, out);
        }
        let mut out = vec![0; self.to[0] * narrow];
        self.shorten(
            narrow,
            |y, row| row.copy_from_slice(&between[y * narrow..][..narrow]),
            &mut out,
        );
        out
    }

    /// One row [from width, c] at the width wanted.
    fn narrow(&self, c: usize, row: &[u8], out: &mut [u8]) {
        let Some(taps) = &self.across else { return out.copy_from_slice(row) };
        for (out, (first, weights)) in out.chunks_exact_mut(c).zip(&taps.0) {
            for (k, out) in out.iter_mut().enumerate() {
                let values = row[first * c + k..].iter().step_by(c);
                *out = rounded(values.zip(weights).map(|(&v, &w)| i32::from(v) * w).sum());
            }
        }
    }

    /// Rows of `len` bytes at the height wanted.
    fn shorten(&self, len: usize, row: impl Fn(usize, &mut [u8]), out: &mut [u8]) {
        let Some(taps) = &self.down else {
            return out.chunks_exact_mut(len).enumerate().for_each(|(y, out)| row(y, out));
        };
        let (mut line, mut sums) = (vec![0; len], vec![0; len]);
        for (out, (first, weights)) in out.chunks_exact_mut(len).zip(&taps.0) {
            sums.fill(0);
            for (y, &w) in weights.iter().enumerate() {
                row(first + y, &mut line);
                sums.iter_mut().zip(&line).for_each(|(sum, &v)| *sum += i32::from(v) * w);
            }
            out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = rounded(sum));
        }
    }
}

/// The level of a sum of levels times weights. The weights' sizes add up to less than 1.5, so no
/// sum leaves an i32.
fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// For each output position: the first input position and the weights from there on.
struct Taps(Vec<(usize, Vec<i32>)>);

impl Taps {
    fn new(from: usize, to: usize) -> Taps {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = 3.0 * stretch;
        let tap = |x: usize| {
            let centre = (x as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..end)
                .map(|i| lanczos3((i as f64 - centre + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1 << PRECISION);
            // round() goes away from zero at a half, as Pillow does.
            (first, weights.iter().map(|w| (w / sum * one).round() as i32).collect())
        };
        Taps((0..to).map(tap).collect())
    }
}

fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}
