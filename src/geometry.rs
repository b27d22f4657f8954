//! The one geometry of every convolution: names for all sizes, and which taps meet which positions.
//!
//! A convolution is a trilinear form in x, w and y. With `i = o * stride - padding + k` in both
//! directions,
//!
//! ```text
//! conv_y(x, w)[oh, ow, cy, n]  = sum over kh, kw, cx of x[ih, iw, cx, n] w[kh, kw, cy, cx]
//! conv_x(y, w)[ih, iw, cx, n]  = sum over kh, kw, cy of y[oh, ow, cy, n] w[kh, kw, cy, cx]
//! conv_w(x, y)[kh, kw, cy, cx] = sum over oh, ow, n  of x[ih, iw, cx, n] y[oh, ow, cy, n]
//! ```
//!
//! where taps that fall outside x count as zero: conv2d, conv_transpose2d and the weight's
//! gradient. Each is the adjoint of the other two, so these three give every derivative of every
//! order. Both spatial sizes are stored: floor cases (15 -> 8, 5 -> 3) need no output padding.
//!
//! Layout: activations are `[h, w, c, n]` with the image index n innermost. One position is then a
//! plain `c x n` matrix, a tap is a matrix product without any gather, taps in the padding are
//! skipped instead of multiplied by zero, and vector lanes (CPU) and neighbouring threads (GPU) run
//! over images. Weights are `[kh, kw, cy, cx]`.

use std::fmt;

use crate::layout::{Shape, size};

/// Sizes of one convolution. `y` is the strided (small) side: the output of conv2d, the input of
/// conv_transpose2d.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// Images in a batch.
    pub n: usize,
    /// Channels of x.
    pub cx: usize,
    /// Channels of y.
    pub cy: usize,
    /// Height of x.
    pub hx: usize,
    /// Width of x.
    pub wx: usize,
    /// Height of y.
    pub hy: usize,
    /// Width of y.
    pub wy: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Stride, the same in both directions.
    pub stride: usize,
    /// Zero padding of x, the same on all sides.
    pub padding: usize,
}

/// The taps of one direction that meet data: `k = k0 + step * j` pairs with source position `s0 +
/// delta * j`, j < count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taps {
    /// Number of taps.
    pub count: usize,
    /// First tap.
    pub k0: usize,
    /// Distance between taps.
    pub step: usize,
    /// Source position of the first tap.
    pub s0: usize,
    /// Distance between source positions (-1 for conv_x, 1 for conv_y).
    pub delta: isize,
}

impl Taps {
    /// (tap, source position), in order.
    pub fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).map(move |j| {
            (self.k0 + j * self.step, self.s0.wrapping_add_signed(j as isize * self.delta))
        })
    }
}

impl Geometry {
    /// conv2d of `[hx, wx, cx, n]` with a `kh x kw` kernel: y's size by PyTorch's floor formula.
    #[track_caller]
    pub fn conv2d(
        n: usize,
        (cx, hx, wx): (usize, usize, usize),
        cy: usize,
        (kh, kw): (usize, usize),
        stride: usize,
        padding: usize,
    ) -> Self {
        assert!(
            hx + 2 * padding >= kh && wx + 2 * padding >= kw,
            "conv2d: kernel {kh}x{kw} is larger than the padded {hx}x{wx} image (padding {padding})"
        );
        let (hy, wy) = ((hx + 2 * padding - kh) / stride + 1, (wx + 2 * padding - kw) / stride + 1);
        Geometry { n, cx, cy, hx, wx, hy, wy, kh, kw, stride, padding }
    }

    /// conv_transpose2d of `[hy, wy, cy, n]`: x's size is `(hy - 1) * stride - 2 * padding + kh`.
    #[track_caller]
    pub fn conv_transpose2d(
        n: usize,
        (cy, hy, wy): (usize, usize, usize),
        cx: usize,
        (kh, kw): (usize, usize),
        stride: usize,
        padding: usize,
    ) -> Self {
        assert!(
            (hy - 1) * stride + kh > 2 * padding && (wy - 1) * stride + kw > 2 * padding,
            "conv_transpose2d: padding {padding} leaves nothing of a {hy}x{wy} image"
        );
        let (hx, wx) = ((hy - 1) * stride + kh - 2 * padding, (wy - 1) * stride + kw - 2 * padding);
        Geometry { n, cx, cy, hx, wx, hy, wy, kh, kw, stride, padding }
    }

    /// `[hx, wx, cx, n]`.
    pub fn x_shape(&self) -> Shape {
        [self.hx, self.wx, self.cx, self.n]
    }

    /// `[hy, wy, cy, n]`.
    pub fn y_shape(&self) -> Shape {
        [self.hy, self.wy, self.cy, self.n]
    }

    /// `[kh, kw, cy, cx]`.
    pub fn w_shape(&self) -> Shape {
        [self.kh, self.kw, self.cy, self.cx]
    }

    /// Elements of x.
    pub fn x_len(&self) -> usize {
        size(self.x_shape())
    }

    /// Elements of y.
    pub fn y_len(&self) -> usize {
        size(self.y_shape())
    }

    /// Elements of w.
    pub fn w_len(&self) -> usize {
        size(self.w_shape())
    }

    /// Taps that reach inside x from row (or column) `o` of y; x has `size` rows and the kernel
    /// `k`.
    ///
    /// `i = o * stride - padding + k` must satisfy `0 <= i < size`: a run of consecutive taps.
    pub fn taps_of_y(&self, o: usize, size: usize, k: usize) -> Taps {
        let base = o * self.stride;
        let k0 = self.padding.saturating_sub(base).min(k);
        let end = (size + self.padding).saturating_sub(base).min(k);
        Taps {
            count: end.saturating_sub(k0),
            k0,
            step: 1,
            s0: (base + k0).saturating_sub(self.padding),
            delta: 1,
        }
    }

    /// Taps through which row (or column) `i` of x is reached from y, which has `size` rows; the
    /// kernel has `k`.
    ///
    /// `o = (i + padding - k) / stride` must be whole and `0 <= o < size`: taps of one residue, o
    /// falling as k grows.
    pub fn taps_of_x(&self, i: usize, size: usize, k: usize) -> Taps {
        let at = i + self.padding;
        // o <= size - 1 bounds k from below: k >= at - (size - 1) * stride, in the residue class of
        // `at`.
        let residue = at % self.stride;
        let low = at.saturating_sub((size - 1) * self.stride);
        let k0 = if low <= residue { residue } else { low };
        if k0 > at || k0 >= k {
            return Taps { count: 0, k0: 0, step: self.stride, s0: 0, delta: -1 };
        }
        let last = at.min(k - 1);
        Taps {
            count: (last - k0) / self.stride + 1,
            k0,
            step: self.stride,
            s0: (at - k0) / self.stride,
            delta: -1,
        }
    }

    /// Positions of y whose tap `k` reaches inside x in one direction: the half-open range of o.
    pub fn outputs_of_tap(&self, k: usize, size_x: usize, size_y: usize) -> std::ops::Range<usize> {
        let start = self.padding.saturating_sub(k).div_ceil(self.stride).min(size_y);
        let end = (size_x + self.padding).saturating_sub(k).div_ceil(self.stride).min(size_y);
        start..end.max(start)
    }

    /// Multiply-adds that meet data (taps in the padding are skipped by every engine), for one
    /// replica.
    pub fn macs(&self) -> u64 {
        let rows: usize = (0..self.hy).map(|o| self.taps_of_y(o, self.hx, self.kh).count).sum();
        let cols: usize = (0..self.wy).map(|o| self.taps_of_y(o, self.wx, self.kw).count).sum();
        (rows * cols * self.cx * self.cy * self.n) as u64
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { n, cx, cy, hx, wx, hy, wy, kh, kw, stride, padding } = self;
        write!(f, "n{n} x {cx}x{hx}x{wx} y {cy}x{hy}x{wy} k{kh}x{kw} s{stride} p{padding}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (i, o, k) triple by brute force, against the three range functions.
    #[test]
    fn taps_agree_with_the_definition() {
        for stride in 1..4 {
            for padding in 0..5 {
                for k in 1..6 {
                    for sx in 1..9 {
                        for sy in 1..6 {
                            let g = Geometry {
                                n: 1,
                                cx: 1,
                                cy: 1,
                                hx: sx,
                                wx: 1,
                                hy: sy,
                                wy: 1,
                                kh: k,
                                kw: 1,
                                stride,
                                padding,
                            };
                            let meets = |i: usize, o: usize, t: usize| {
                                (o * stride + t) as isize - padding as isize == i as isize
                            };
                            for o in 0..sy {
                                let want: Vec<_> = (0..k)
                                    .flat_map(|t| (0..sx).map(move |i| (t, i)))
                                    .filter(|&(t, i)| meets(i, o, t))
                                    .collect();
                                let taps = g.taps_of_y(o, sx, k);
                                let got: Vec<_> = taps.pairs().collect();
                                assert_eq!(got, want, "y {g} o {o}");
                            }
                            for i in 0..sx {
                                let want: Vec<_> = (0..k)
                                    .flat_map(|t| (0..sy).map(move |o| (t, o)))
                                    .filter(|&(t, o)| meets(i, o, t))
                                    .collect();
                                let taps = g.taps_of_x(i, sy, k);
                                let got: Vec<_> = taps.pairs().collect();
                                assert_eq!(got, want, "x {g} i {i}");
                            }
                            for t in 0..k {
                                let want: Vec<_> =
                                    (0..sy).filter(|&o| (0..sx).any(|i| meets(i, o, t))).collect();
                                let got: Vec<_> = g.outputs_of_tap(t, sx, sy).collect();
                                assert_eq!(got, want, "w {g} k {t}");
                            }
                        }
                    }
                }
            }
        }
    }
}
