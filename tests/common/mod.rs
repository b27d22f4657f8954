//! The comparator that tests share. `comparator.rs` tests it.

#![allow(dead_code)] // each test file uses its own part

/// How far two results may be apart: `absolute + relative * |want|`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerance {
    /// In the unit of the values.
    pub absolute: f64,
    /// Per unit of the wanted value.
    pub relative: f64,
}

impl Tolerance {
    /// Nothing may differ.
    pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };

    /// The same difference for all values.
    pub const fn absolute(absolute: f64) -> Self {
        Tolerance { absolute, relative: 0.0 }
    }

    /// A difference in proportion to each value.
    pub const fn relative(relative: f64) -> Self {
        Tolerance { absolute: 0.0, relative }
    }
}

/// Compares two results: the worst ratio of difference to tolerance, or what is wrong.
///
/// Wrong are: different lengths, nothing to compare, NaN on either side, an infinity that the other
/// side lacks, comparing memory with itself (a test that does so tests nothing), and any difference
/// beyond the tolerance.
pub fn compare(got: &[f64], want: &[f64], tolerance: Tolerance) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{} values, wanted {}", got.len(), want.len()));
    }
    if got.is_empty() {
        return Err("nothing to compare".to_string());
    }
    if std::ptr::eq(got.as_ptr(), want.as_ptr()) {
        return Err("compared with itself".to_string());
    }
    let mut worst = 0.0f64;
    let mut wrong = Vec::new();
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (diff, allowed) = ((g - w).abs(), tolerance.absolute + tolerance.relative * w.abs());
        let equal_infinity = g.is_infinite() && g == w;
        // Not `diff > allowed`: that is false for NaN. An infinite tolerance (of an infinite value)
        // allows nothing else.
        if !(equal_infinity || diff <= allowed && diff.is_finite()) {
            wrong.push(format!(
                "[{i}] got {g:e}, want {w:e}, difference {diff:e} = {:.3} x tolerance",
                diff / allowed
            ));
        } else if diff > 0.0 {
            worst = worst.max(diff / allowed);
        }
    }
    match wrong.len() {
        0 => Ok(worst),
        count => Err(format!(
            "{count} of {} values differ: {}",
            got.len(),
            wrong[..count.min(5)].join("; ")
        )),
    }
}

/// Panics unless [`compare`] is satisfied.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: Tolerance) {
    if let Err(why) = compare(got, want, tolerance) {
        panic!("{what}: {why}");
    }
}

/// Panics unless both are the same bits, NaN included.
#[track_caller]
pub fn assert_same_bits(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    assert!(!got.is_empty(), "{what}: nothing to compare");
    assert!(!std::ptr::eq(got.as_ptr(), want.as_ptr()), "{what}: compared with itself");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(g.to_bits() == w.to_bits(), "{what}: [{i}] {g:e} and {w:e} are different bits");
    }
}
