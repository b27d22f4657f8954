//! Tests of the comparator: it must fail where a test has to fail.

mod common;

use common::{Tolerance, assert_close, assert_same_bits, compare};

const LOOSE: Tolerance = Tolerance { absolute: 1e-3, relative: 1e-3 };

#[test]
fn equal_and_nearly_equal_values_pass() {
    // Vectors: equal constant arrays may be one and the same memory.
    let (a, b) = (vec![1.0, -2.0], vec![1.0, -2.0]);
    assert_eq!(compare(&a, &b, Tolerance::EXACT), Ok(0.0));
    let worst = compare(&[1.0005, -2.0], &[1.0, -2.0], Tolerance::absolute(1e-3)).unwrap();
    assert!((worst - 0.5).abs() < 1e-9, "{worst}");
    assert!(compare(&[1000.5], &[1000.0], Tolerance::relative(1e-3)).is_ok());
    assert_close("same", &a, &b, Tolerance::EXACT);
    assert_same_bits("same", &[f64::NAN, a[0]], &[f64::NAN, b[0]]);
}

#[test]
fn one_wrong_value_fails_and_is_named() {
    let want: Vec<f64> = (0..100).map(|i| i as f64).collect();
    let mut got = want.clone();
    got[37] = -37.0;
    let why = compare(&got, &want, LOOSE).unwrap_err();
    assert!(why.contains("1 of 100") && why.contains("[37] got -3.7e1, want 3.7e1"), "{why}");
    assert!(compare(&[1.0 + 1e-15], &[1.0], Tolerance::EXACT).is_err());
    // The relative part follows the wanted value, not the one that was got.
    assert!(compare(&[1.0], &[0.0], Tolerance::relative(10.0)).is_err());
}

#[test]
fn nan_fails_on_either_side_and_on_both() {
    for (got, want) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::NAN)] {
        assert!(
            compare(&[0.0, got], &[0.0, want], Tolerance::absolute(f64::MAX)).is_err(),
            "{got} {want}"
        );
    }
    assert!(compare(&[1.0], &[1.0], Tolerance::absolute(f64::NAN)).is_err());
}

#[test]
fn infinities_fail_unless_equal() {
    let inf = f64::INFINITY;
    for (got, want) in [(inf, 1.0), (1.0, inf), (-inf, inf)] {
        assert!(compare(&[got], &[want], LOOSE).is_err(), "{got} {want}");
    }
    assert_eq!(compare(&[inf], &[inf], LOOSE), Ok(0.0));
}

#[test]
fn different_lengths_and_nothing_fail() {
    assert!(compare(&[1.0], &[1.0, 2.0], LOOSE).is_err());
    assert!(compare(&[], &[], LOOSE).is_err());
}

#[test]
fn comparing_a_buffer_with_itself_fails() {
    let v = [1.0, 2.0];
    assert!(compare(&v, &v, LOOSE).unwrap_err().contains("itself"));
}

#[test]
#[should_panic(expected = "loss of step 3: 1 of 1 values differ: [0] got 2e0, want 1e0")]
fn the_panic_says_what_was_compared() {
    assert_close("loss of step 3", &[2.0], &[1.0], LOOSE);
}

#[test]
#[should_panic(expected = "different bits")]
fn zeros_of_both_signs_are_different_bits() {
    assert_same_bits("zeros", &[0.0], &[-0.0]);
}

#[test]
#[should_panic(expected = "itself")]
fn bits_are_not_compared_with_themselves() {
    let v = [1.0];
    assert_same_bits("self", &v, &v);
}
