//! Resizing with Pillow's LANCZOS filter, in Pillow's own integer arithmetic: the same levels, not just close ones.
//!
//! Each output pixel is a weighted sum over the input pixels within three output pixels (three input pixels when
//! enlarging) of its centre. Weights are 22-bit fixed point. The width is done first, then the height, or, for tall
//! images as in Pillow 13, the height first; the image between is rounded to bytes.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::Images;

const PRECISION: u32 = 22;

/// The images [n, height, width, c] at another size, with an antialiasing Lanczos filter (a = 3).
pub fn resize(images: &Images, height: usize, width: usize) -> Images {
    let c = images.channels;
    let across = (images.width != width).then(|| Taps::new(images.width, width));
    let down = (images.height != height).then(|| Taps::new(images.height, height));
    // Pillow since 13.0; before, the width always came first. Square images are not concerned.
    let down_first = images.height > height && 2 * images.width + height < 2 * width + images.height;
    let mut data = vec![0; images.n * height * width * c];
    data.par_chunks_exact_mut(height * width * c).enumerate().for_each(|(i, out)| {
        // An axis is filtered as the middle of three: in [h, w, c] the width, in [1, h, w * c] the height.
        let narrow = |image: Vec<u8>, rows: usize| match &across {
            Some(taps) => taps.apply(&image, rows, images.width, c),
            None => image,
        };
        let shorten = |image: Vec<u8>, columns: usize| match &down {
            Some(taps) => taps.apply(&image, 1, images.height, columns * c),
            None => image,
        };
        let image = images.image(i).to_vec();
        out.copy_from_slice(&if down_first {
            narrow(shorten(image, images.width), height)
        } else {
            shorten(narrow(image, images.height), width)
        });
    });
    Images { data, n: images.n, height, width, channels: c }
}

/// For each output position: the first input position and the weights from there on.
struct Taps(Vec<(usize, Vec<i64>)>);

impl Taps {
    fn new(from: usize, to: usize) -> Taps {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = 3.0 * stretch;
        let tap = |x: usize| {
            let centre = (x as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (first..end).map(|i| lanczos3((i as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1 << PRECISION);
            // round() goes away from zero at a half, as Pillow does.
            (first, weights.iter().map(|w| (w / sum * one).round() as i64).collect())
        };
        Taps((0..to).map(tap).collect())
    }

    /// Filters the middle axis of [outer, from, inner].
    fn apply(&self, data: &[u8], outer: usize, from: usize, inner: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(outer * self.0.len() * inner);
        for plane in data.chunks_exact(from * inner) {
            for (first, weights) in &self.0 {
                for k in 0..inner {
                    let values = plane[first * inner + k..].iter().step_by(inner);
                    let sum: i64 = values.zip(weights).map(|(&v, &w)| i64::from(v) * w).sum();
                    out.push(((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8);
                }
            }
        }
        out
    }
}

fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}
