//! The ladder on the CPU: from seven loops to the product's twin.

use std::cell::RefCell;
use std::time::Instant;

use gradcon::Result;
use gradcon::engine::Engine;
use gradcon::engine::measure::{Span, Timing};
use gradcon::geometry::Geometry;
use rayon::prelude::*;

use crate::layer::{Layer, Product, Version, intensity};

/// `y = conv_y(x, w)`.
type Convolve = fn(&Geometry, &[f32], &[f32], &mut [f32]);

/// A version of these.
struct Plain<'a> {
    layer: &'a Layer,
    name: &'static str,
    idea: &'static str,
    intensity: f64,
    convolve: Convolve,
    y: Vec<f32>,
}

/// Channels and images of a register tile.
const ROWS: usize = 4;
const IMAGES: usize = 64;

/// Every version, slowest first.
pub fn ladder<'a>(
    layer: &'a Layer,
    engine: &'a RefCell<Box<dyn Engine>>,
) -> Vec<Box<dyn Version + 'a>> {
    let (each, tile) = (intensity([1, 1]), intensity([ROWS, IMAGES]));
    // A sum is loaded and stored beside one operand; the other is kept.
    let in_memory = 2.0 / 12.0;
    let plain: [(&str, &str, f64, Convolve); 5] = [
        ("1 naive", "every tap is asked whether it is inside", each, naive),
        ("2 taps", "which taps are inside is known before", each, taps),
        ("3 lanes", "images side by side fill vectors", in_memory, lanes),
        ("4 registers", "4 channels x 64 images stay in registers", tile, registers),
        ("5 threads", "positions on all cores", tile, threads),
    ];
    let plain = plain.map(|(name, idea, intensity, convolve)| {
        let y = vec![f32::NAN; layer.geometry.y_len()];
        Box::new(Plain { layer, name, idea, intensity, convolve, y }) as Box<dyn Version>
    });
    let product = Product::new(layer, engine, "6 cpu conv_y".to_string(), None, None);
    plain.into_iter().chain([Box::new(product) as Box<dyn Version>]).collect()
}

impl Version for Plain<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn idea(&self) -> &str {
        self.idea
    }

    fn intensity(&self) -> Option<f64> {
        Some(self.intensity)
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        self.y.fill(f32::NAN);
        self.time(1)?;
        Ok(self.y.clone())
    }

    fn time(&mut self, times: u32) -> Result<Span> {
        let Layer { geometry, x, w, .. } = self.layer;
        let start = Instant::now();
        for _ in 0..times {
            (self.convolve)(geometry, x, w, std::hint::black_box(&mut self.y));
        }
        Ok(Span { seconds: start.elapsed().as_secs_f64(), clock: Timing::Wall })
    }
}

fn naive(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    for oh in 0..g.hy {
        for ow in 0..g.wy {
            for m in 0..g.cy {
                for i in 0..g.n {
                    let mut sum = 0.0;
                    for kh in 0..g.kh {
                        for kw in 0..g.kw {
                            // Outside on the left is a large number.
                            let ih = (oh * g.stride + kh).wrapping_sub(g.padding);
                            let iw = (ow * g.stride + kw).wrapping_sub(g.padding);
                            for c in 0..g.cx {
                                if ih < g.hx && iw < g.wx {
                                    sum += w[((kh * g.kw + kw) * g.cy + m) * g.cx + c]
                                        * x[((ih * g.wx + iw) * g.cx + c) * g.n + i];
                                }
                            }
                        }
                    }
                    y[((oh * g.wy + ow) * g.cy + m) * g.n + i] = sum;
                }
            }
        }
    }
}

/// Where in w and in x the taps of a position of y begin.
fn taps_of(g: &Geometry, position: usize) -> Vec<(usize, usize)> {
    let rows = g.taps_of_y(position / g.wy, g.hx, g.kh);
    let cols = g.taps_of_y(position % g.wy, g.wx, g.kw);
    let tap = |((kh, ih), (kw, iw)): ((usize, usize), (usize, usize))| {
        ((kh * g.kw + kw) * g.cy * g.cx, (ih * g.wx + iw) * g.cx * g.n)
    };
    let pairs = rows.pairs().flat_map(|row| cols.pairs().map(move |col| (row, col)));
    pairs.map(tap).collect()
}

fn taps(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    for (position, y) in y.chunks_exact_mut(g.cy * g.n).enumerate() {
        let taps = taps_of(g, position);
        for m in 0..g.cy {
            for i in 0..g.n {
                let mut sum = 0.0;
                for &(from_w, from_x) in &taps {
                    for c in 0..g.cx {
                        sum += w[from_w + m * g.cx + c] * x[from_x + c * g.n + i];
                    }
                }
                y[m * g.n + i] = sum;
            }
        }
    }
}

fn lanes(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    for (position, y) in y.chunks_exact_mut(g.cy * g.n).enumerate() {
        lanes_of_position(g, position, x, w, y);
    }
}

fn registers(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    for (position, y) in y.chunks_exact_mut(g.cy * g.n).enumerate() {
        tiles_of_position(g, position, x, w, y);
    }
}

fn threads(g: &Geometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let positions = y.par_chunks_exact_mut(g.cy * g.n).enumerate();
    positions.for_each(|(position, y)| tiles_of_position(g, position, x, w, y));
}

/// One position of y `[cy, n]`, compiled for the widest vectors of this CPU: the compiler makes
/// them of loops over neighbours.
macro_rules! for_this_cpu {
    ($name:ident, $body:ident) => {
        fn $name(g: &Geometry, position: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512(g: &Geometry, position: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
                    $body::<true>(g, position, x, w, y);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(g: &Geometry, position: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
                    $body::<true>(g, position, x, w, y);
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: this CPU has these instructions.
                    return unsafe { avx512(g, position, x, w, y) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: this CPU has these instructions.
                    return unsafe { avx2(g, position, x, w, y) };
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>(g, position, x, w, y);
        }
    };
}

for_this_cpu!(lanes_of_position, lanes_body);
for_this_cpu!(tiles_of_position, tiles_body);

/// `a * b + c`, in one instruction where there is one: elsewhere that would be a call.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn lanes_body<const FMA: bool>(g: &Geometry, position: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
    let taps = taps_of(g, position);
    for (m, y) in y.chunks_exact_mut(g.n).enumerate() {
        y.fill(0.0);
        for &(from_w, from_x) in &taps {
            for c in 0..g.cx {
                let a = w[from_w + m * g.cx + c];
                let x = &x[from_x + c * g.n..][..g.n];
                for (sum, &b) in y.iter_mut().zip(x) {
                    *sum = fma::<FMA>(a, b, *sum);
                }
            }
        }
    }
}

#[inline(always)]
fn tiles_body<const FMA: bool>(g: &Geometry, position: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
    let taps = taps_of(g, position);
    let mut m = 0;
    while m + ROWS <= g.cy {
        rows::<FMA, ROWS>(g, &taps, m, (x, w), y);
        m += ROWS;
    }
    while m < g.cy {
        rows::<FMA, 1>(g, &taps, m, (x, w), y);
        m += 1;
    }
}

/// M channels, all images.
#[inline(always)]
fn rows<const FMA: bool, const M: usize>(
    g: &Geometry,
    taps: &[(usize, usize)],
    m: usize,
    of: (&[f32], &[f32]),
    y: &mut [f32],
) {
    let mut i = 0;
    while i + IMAGES <= g.n {
        tile::<FMA, M, IMAGES>(g, taps, (m, i), of, y);
        i += IMAGES;
    }
    while i + 16 <= g.n {
        tile::<FMA, M, 16>(g, taps, (m, i), of, y);
        i += 16;
    }
    while i < g.n {
        tile::<FMA, M, 1>(g, taps, (m, i), of, y);
        i += 1;
    }
}

/// M channels of N images: all their sums are kept until they are whole.
#[inline(always)]
fn tile<const FMA: bool, const M: usize, const N: usize>(
    g: &Geometry,
    taps: &[(usize, usize)],
    (m, i): (usize, usize),
    (x, w): (&[f32], &[f32]),
    y: &mut [f32],
) {
    let mut sums = [[0.0f32; N]; M];
    for &(from_w, from_x) in taps {
        for c in 0..g.cx {
            let b: &[f32; N] = x[from_x + c * g.n + i..][..N].try_into().expect("N of them");
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = w[from_w + (m + r) * g.cx + c];
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = fma::<FMA>(a, b, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        y[(m + r) * g.n + i..][..N].copy_from_slice(sums);
    }
}
