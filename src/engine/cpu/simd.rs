//! Vectors for the hot loops: one small trait, and one type per instruction set and float.
//!
//! A kernel body is written once, generic over [`Simd`] and `#[inline(always)]`; `dispatch!`
//! instantiates it inside functions that enable an instruction set, and picks one at run time.
//! Portable Rust only reaches SSE2 on x86-64, a quarter of the lanes of AVX-512.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Float of an engine: f32 or f64.
pub trait Real:
    Copy
    + bytemuck::Zeroable
    + Send
    + Sync
    + PartialOrd
    + Default
    + std::fmt::Debug
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + std::iter::Sum
    + 'static
{
    /// Widest vector of this float for each instruction set.
    type Avx512: Simd<Real = Self>;
    /// AVX2 with FMA.
    type Avx2: Simd<Real = Self>;
    /// Whatever the target's baseline offers (NEON on arm64, SSE2 on x86-64).
    type Portable: Simd<Real = Self>;

    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Rounds to this float.
    fn from_f64(v: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Exponential.
    fn exp(self) -> Self;
    /// `1 / (1 + exp(-self))`, saturating to 0 and 1.
    fn sigmoid(self) -> Self;
    /// `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Exact, element by element.
    fn widen(from: &[f16], to: &mut [Self]);
    /// Rounds to half precision, element by element, to the nearest.
    fn narrow(from: &[Self], to: &mut [f16]);
}

macro_rules! real {
    ($t:ty, $exp:path, $avx512:ty, $avx2:ty, $lanes:literal, $widen:ident, $narrow:ident) => {
        impl Real for $t {
            type Avx512 = $avx512;
            type Avx2 = $avx2;
            type Portable = Portable<$t, $lanes>;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn from_f64(v: f64) -> Self {
                v as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn sigmoid(self) -> Self {
                1.0 / (1.0 + $exp(-self))
            }
            fn mul_add(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            fn widen(from: &[f16], to: &mut [Self]) {
                from.$widen(to);
            }
            fn narrow(from: &[Self], to: &mut [f16]) {
                to.$narrow(from);
            }
        }
    };
}

/// Exponential, within 2e-7 of its value; infinite from 88.4 on, and 1e-38 where it is less.
/// Without a branch or a call, so that loops over it become vectors.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// Added to a float, it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12582912.0;
    // A NaN is not less than anything and stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    // x = whole ln 2 + rest, with ln 2 in two parts, the first of which has few enough bits.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = (x - whole * (355.0 / 512.0)) + whole * 2.1219444e-4;
    // Cephes' polynomial.
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * rest + c;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    ((p * rest * rest + rest) + 1.0) * power
}

/// A vector of [`Real`]s.
///
/// # Safety
/// `load` and `store` touch `LANES` consecutive elements at any alignment. Methods may only run on
/// a CPU that has the type's instructions.
#[allow(clippy::missing_safety_doc)] // said once, here
pub unsafe trait Simd: Copy {
    /// Element.
    type Real: Real;
    /// Elements in a vector.
    const LANES: usize;
    /// Rows (channels) of a register tile that, times [`Simd::TILE_VECTORS`], leave registers for
    /// the operands.
    const TILE_ROWS: usize;
    /// Vectors (of images) in a register tile.
    const TILE_VECTORS: usize;

    /// All lanes `v`.
    unsafe fn splat(v: Self::Real) -> Self;
    /// `LANES` elements from `p`.
    unsafe fn load(p: *const Self::Real) -> Self;
    /// `LANES` elements to `p`.
    unsafe fn store(self, p: *mut Self::Real);
    /// `self * b + c`.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn plus(self, b: Self) -> Self;
    /// `max(self, 0)`; 0 for NaN stays visible as NaN elsewhere, since activations also feed the
    /// loss.
    unsafe fn relu(self) -> Self;
    /// `gate > 0 ? self : 0`.
    unsafe fn gate(self, gate: Self) -> Self;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(self) -> Self::Real;
    /// The lanes of both in turn: `[a0, b0, a1, b1, ..]`, in two vectors.
    unsafe fn interleave(self, b: Self) -> [Self; 2];
}

/// Most lanes of a vector.
const MAX_LANES: usize = 16;

/// Turns `rows x cols` elements, with rows `from_stride` apart, into `cols x padded` elements with
/// rows `to_stride` apart: what is beyond `rows` is 0.
///
/// # Safety
/// The CPU has S's instructions, all of `from` may be read and all of `to` be written.
#[inline(always)]
pub unsafe fn transpose<S: Simd>(
    (from, from_stride): (*const S::Real, usize),
    (rows, cols): (usize, usize),
    (to, to_stride): (*mut S::Real, usize),
    padded: usize,
) {
    let whole = |len: usize| len - len % S::LANES;
    let (whole_rows, whole_cols) = (whole(rows), whole(cols));
    // SAFETY: the caller's promises, and no block reaches beyond the whole vectors.
    unsafe {
        for c in (0..whole_cols).step_by(S::LANES) {
            for r in (0..whole_rows).step_by(S::LANES) {
                let (from, to) = (from.add(r * from_stride + c), to.add(c * to_stride + r));
                transpose_block::<S>((from, from_stride), (to, to_stride));
            }
        }
        for c in 0..cols {
            let first = if c < whole_cols { whole_rows } else { 0 };
            for r in first..padded {
                let v = if r < rows { *from.add(r * from_stride + c) } else { S::Real::ZERO };
                *to.add(c * to_stride + r) = v;
            }
        }
    }
}

/// LANES x LANES elements: each time all vectors are interleaved with those half of them away, one
/// bit of the row's number moves into the lane's.
#[inline(always)]
unsafe fn transpose_block<S: Simd>(
    (from, from_stride): (*const S::Real, usize),
    (to, to_stride): (*mut S::Real, usize),
) {
    let half = S::LANES / 2;
    // SAFETY: the caller's promises.
    unsafe {
        let mut rows = [S::splat(S::Real::ZERO); MAX_LANES];
        for (r, row) in rows[..S::LANES].iter_mut().enumerate() {
            *row = S::load(from.add(r * from_stride));
        }
        for _ in 0..S::LANES.ilog2() {
            let old = rows;
            for i in 0..half {
                [rows[2 * i], rows[2 * i + 1]] = old[i].interleave(old[i + half]);
            }
        }
        for (r, row) in rows[..S::LANES].iter().enumerate() {
            row.store(to.add(r * to_stride));
        }
    }
}

/// Arrays that the compiler maps to the baseline's vectors; with one lane, the tails of every
/// instruction set.
#[derive(Clone, Copy)]
pub struct Portable<T, const L: usize>([T; L]);

/// `a * b + c`, fused where the baseline has the instruction: elsewhere `mul_add` would be a
/// library call.
#[inline(always)]
fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

// SAFETY: arrays of L elements, and no instructions beyond the baseline's.
unsafe impl<T: Real, const L: usize> Simd for Portable<T, L> {
    type Real = T;
    const LANES: usize = L;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(v: T) -> Self {
        Portable([v; L])
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: the caller promises L elements; they need no alignment.
        Portable(unsafe { p.cast::<[T; L]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<[T; L]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| mul_add(self.0[i], b.0[i], c.0[i])))
    }
    #[inline(always)]
    unsafe fn plus(self, b: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Portable(self.0.map(|v| if v > T::ZERO { v } else { T::ZERO }))
    }
    #[inline(always)]
    unsafe fn gate(self, gate: Self) -> Self {
        Portable(std::array::from_fn(|i| if gate.0[i] > T::ZERO { self.0[i] } else { T::ZERO }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> T {
        self.0.into_iter().sum()
    }
    #[inline(always)]
    unsafe fn interleave(self, b: Self) -> [Self; 2] {
        let lane = |i: usize| if i.is_multiple_of(2) { self.0[i / 2] } else { b.0[i / 2] };
        [0, L].map(|first| Portable(std::array::from_fn(|i| lane(first + i))))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident, $real:ty, $reg:ty, $lanes:literal,
         rows $rows:literal, vectors $vectors:literal,
         $set1:ident, $loadu:ident, $storeu:ident, $fmadd:ident, $add:ident, $max:ident,
         $zero:ident,
         |$v:ident, $g:ident| $gate:expr, |$s:ident| $sum:expr,
         |$a:ident, $b:ident| $interleave:expr) => {
            #[doc = concat!(stringify!($lanes), " lanes of ", stringify!($real), ".")]
            #[derive(Clone, Copy)]
            pub struct $name($reg);

            // SAFETY: the register has as many lanes as `$lanes` says, and loads and stores need no
            // alignment.
            unsafe impl Simd for $name {
                type Real = $real;
                const LANES: usize = $lanes;
                const TILE_ROWS: usize = $rows;
                const TILE_VECTORS: usize = $vectors;

                #[inline(always)]
                unsafe fn splat(v: $real) -> Self {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $name($set1(v)) }
                }
                #[inline(always)]
                unsafe fn load(p: *const $real) -> Self {
                    // SAFETY: the caller promises the instructions and the elements.
                    unsafe { $name($loadu(p)) }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut $real) {
                    // SAFETY: the caller promises the instructions and the elements.
                    unsafe { $storeu(p, self.0) }
                }
                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $name($fmadd(self.0, b.0, c.0)) }
                }
                #[inline(always)]
                unsafe fn plus(self, b: Self) -> Self {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $name($add(self.0, b.0)) }
                }
                #[inline(always)]
                unsafe fn relu(self) -> Self {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $name($max(self.0, $zero())) }
                }
                #[inline(always)]
                unsafe fn gate(self, gate: Self) -> Self {
                    let ($v, $g) = (self.0, gate.0);
                    // SAFETY: the caller promises the instructions.
                    unsafe { $name($gate) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> $real {
                    let $s = self.0;
                    // SAFETY: the caller promises the instructions.
                    unsafe { $sum }
                }
                #[inline(always)]
                unsafe fn interleave(self, b: Self) -> [Self; 2] {
                    let ($a, $b) = (self.0, b.0);
                    // SAFETY: the caller promises the instructions.
                    unsafe { $interleave.map($name) }
                }
            }
        };
    }

    vector!(F32x16, f32, __m512, 16, rows 6, vectors 4,
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps,
    _mm512_max_ps, _mm512_setzero_ps,
    |v, g| {
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(g, _mm512_setzero_ps());
        _mm512_maskz_mov_ps(above, v)
    },
    |s| _mm512_reduce_add_ps(s),
    |a, b| {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        [_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)]
    });
    vector!(F64x8, f64, __m512d, 8, rows 6, vectors 4,
    _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, _mm512_add_pd,
    _mm512_max_pd, _mm512_setzero_pd,
    |v, g| {
        let above = _mm512_cmp_pd_mask::<_CMP_GT_OQ>(g, _mm512_setzero_pd());
        _mm512_maskz_mov_pd(above, v)
    },
    |s| _mm512_reduce_add_pd(s),
    |a, b| {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_add_epi64(low, _mm512_set1_epi64(4));
        [_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b)]
    });
    vector!(F32x8, f32, __m256, 8, rows 6, vectors 2,
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps,
    _mm256_max_ps, _mm256_setzero_ps,
    |v, g| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(g, _mm256_setzero_ps()), v),
    |s| {
        let q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps::<1>(s));
        let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
        _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
    },
    |a, b| {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
    });
    vector!(F64x4, f64, __m256d, 4, rows 6, vectors 2,
    _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, _mm256_add_pd,
    _mm256_max_pd, _mm256_setzero_pd,
    |v, g| _mm256_and_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(g, _mm256_setzero_pd()), v),
    |s| {
        let q = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd::<1>(s));
        _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)))
    },
    |a, b| {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        [_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high)]
    });
}

#[cfg(target_arch = "x86_64")]
real!(f32, exp_f32, F32x16, F32x8, 4, convert_to_f32_slice, convert_from_f32_slice);
#[cfg(target_arch = "x86_64")]
real!(f64, f64::exp, F64x8, F64x4, 2, convert_to_f64_slice, convert_from_f64_slice);
#[cfg(not(target_arch = "x86_64"))]
real!(f32, exp_f32, Portable<f32, 4>, Portable<f32, 4>, 4, convert_to_f32_slice, convert_from_f32_slice);
#[cfg(not(target_arch = "x86_64"))]
real!(f64, f64::exp, Portable<f64, 2>, Portable<f64, 2>, 2, convert_to_f64_slice, convert_from_f64_slice);

/// Instruction sets with kernels of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// The target's baseline.
    Portable,
}

impl Isa {
    /// The widest this CPU has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Isa::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// All that this CPU can run, for tests that compare them.
    pub fn available() -> Vec<Isa> {
        let all = [Isa::Avx512, Isa::Avx2, Isa::Portable];
        let widest = all.iter().position(|&i| i == Isa::detect()).unwrap_or(0);
        all[widest..].to_vec()
    }

    /// Elements in its vectors of this float.
    pub(super) fn lanes<T: Real>(self) -> usize {
        match self {
            Isa::Avx512 => T::Avx512::LANES,
            Isa::Avx2 => T::Avx2::LANES,
            Isa::Portable => T::Portable::LANES,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable",
        }
    }
}

/// `dispatch!(name, body, Args)`: a function `name::<T>(isa, &Args<T>, i)` that runs the generic
/// `body::<S>` of `unsafe fn(&Args<S::Real>, usize)` with the vectors of `isa`.
macro_rules! dispatch {
    ($name:ident, $body:ident, $args:ident) => {
        fn $name<T: $crate::engine::cpu::simd::Real>(
            isa: $crate::engine::cpu::simd::Isa,
            args: &$args<T>,
            unit: usize,
        ) {
            use $crate::engine::cpu::simd::Isa;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512<T: $crate::engine::cpu::simd::Real>(args: &$args<T>, unit: usize) {
                // SAFETY: this function has the instructions; the rest is promised to the kernel's
                // caller.
                unsafe { $body::<T::Avx512>(args, unit) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2<T: $crate::engine::cpu::simd::Real>(args: &$args<T>, unit: usize) {
                // SAFETY: as above.
                unsafe { $body::<T::Avx2>(args, unit) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an engine takes only an Isa that this CPU has, measures the slices of a
                // call and runs each unit once.
                Isa::Avx512 => unsafe { avx512(args, unit) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Isa::Avx2 => unsafe { avx2(args, unit) },
                // SAFETY: as above.
                _ => unsafe { $body::<T::Portable>(args, unit) },
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Simd>() {
        let n = S::LANES;
        let real = |v: f64| S::Real::from_f64(v);
        let a: Vec<S::Real> = (0..n).map(|i| real(i as f64 - 1.5)).collect();
        let mut out = vec![real(0.0); n];
        // SAFETY: `a` and `out` have LANES elements, and the test runs what the CPU has.
        unsafe {
            assert_eq!(
                S::load(a.as_ptr()).sum().to_f64(),
                (0..n).map(|i| i as f64 - 1.5).sum::<f64>()
            );
            S::load(a.as_ptr())
                .fma(S::splat(real(2.0)), S::splat(real(1.0)))
                .store(out.as_mut_ptr());
            assert!((0..n).all(|i| out[i].to_f64() == (i as f64 - 1.5) * 2.0 + 1.0));
            S::load(a.as_ptr()).relu().store(out.as_mut_ptr());
            assert!((0..n).all(|i| out[i].to_f64() == (i as f64 - 1.5).max(0.0)));
            S::splat(real(3.0))
                .gate(S::load(a.as_ptr()))
                .plus(S::splat(real(1.0)))
                .store(out.as_mut_ptr());
            assert!((0..n).all(|i| out[i].to_f64() == if i > 1 { 4.0 } else { 1.0 }));
        }
        // Whole blocks and what is left of them, padded.
        let (rows, cols, padded) = (2 * n + 1, n + 2, 3 * n);
        let from: Vec<S::Real> = (0..rows * cols).map(|i| real(i as f64)).collect();
        let mut to = vec![real(-1.0); cols * padded];
        // SAFETY: as above; the sizes are those of `from` and `to`.
        unsafe {
            let to = (to.as_mut_ptr(), padded);
            transpose::<S>((from.as_ptr(), cols), (rows, cols), to, padded);
        }
        for (i, &v) in to.iter().enumerate() {
            let (c, r) = (i / padded, i % padded);
            let want = if r < rows { from[r * cols + c] } else { real(0.0) };
            assert_eq!(v, want, "{n} lanes: row {r}, column {c}");
        }
    }

    #[test]
    fn the_sigmoid_is_its_definition() {
        for i in -12000..12000 {
            let a = i as f32 / 100.0;
            let (got, want) = (a.sigmoid() as f64, (a as f64).sigmoid());
            assert!((got - want).abs() <= 4e-7 * want + 1.2e-38, "sigmoid({a}): {got}, not {want}");
        }
        let of = [f32::INFINITY, f32::NEG_INFINITY, 0.0].map(f32::sigmoid);
        assert_eq!(of, [1.0, 0.0, 0.5]);
        assert!(f32::NAN.sigmoid().is_nan());
    }

    #[test]
    fn every_vector_type_agrees_with_scalar_arithmetic() {
        check::<Portable<f32, 1>>();
        check::<Portable<f64, 1>>();
        check::<Portable<f32, 4>>();
        check::<Portable<f64, 2>>();
        for isa in Isa::available() {
            match isa {
                Isa::Avx512 => {
                    check::<<f32 as Real>::Avx512>();
                    check::<<f64 as Real>::Avx512>();
                }
                Isa::Avx2 => {
                    check::<<f32 as Real>::Avx2>();
                    check::<<f64 as Real>::Avx2>();
                }
                Isa::Portable => {}
            }
        }
    }
}
