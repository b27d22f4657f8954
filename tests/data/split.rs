//! Who trains, who validates, who is tested.

use std::fs;

use gradcon::data::split::{self, Parts};

use super::{error_with, fixture, ten_labels};

#[derive(serde::Deserialize)]
struct SplitCase {
    seed: u64,
    labels: Vec<u8>,
    hold_out: PartsCase,
    folds: PartsCase,
    test_sets: Vec<TestSetCase>,
}

#[derive(serde::Deserialize)]
struct PartsCase {
    train: Vec<usize>,
    val: Vec<usize>,
    test: Vec<usize>,
}

#[derive(serde::Deserialize)]
struct TestSetCase {
    inlier: u8,
    ratio: u32,
    indices: Vec<usize>,
    labels: Vec<u8>,
}

#[test]
fn splits_are_those_of_an_independent_implementation() {
    let text = fs::read_to_string(fixture("splits.json")).expect("a fixture");
    let cases: Vec<SplitCase> = serde_json::from_str(&text).expect("a fixture");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let parts = |PartsCase { train, val, test }| Parts { train, val, test };
        assert_eq!(split::hold_out(&case.labels, case.seed), parts(case.hold_out));
        assert_eq!(split::folds(&case.labels, case.seed), parts(case.folds));
        for set in case.test_sets {
            let found = split::test_set(&case.labels, set.inlier, set.ratio, case.seed)
                .expect("a test set");
            assert_eq!(found, (set.indices, set.labels));
        }
    }
}

#[test]
fn splits_have_the_protocols_sizes_and_use_every_image_once() {
    // MNIST's zeros, ones and twos; a tenth is rounded down.
    let labels = ten_labels(|k| [5923, 6742, 5958, 10, 11, 19, 20, 21, 29, 30][usize::from(k)]);
    let count = |part: &[usize], k: u8| part.iter().filter(|&&i| labels[i] == k).count();
    let parts = split::hold_out(&labels, 3);
    let validation: Vec<usize> = (0..10).map(|k| count(&parts.val, k)).collect();
    assert_eq!(validation, [592, 674, 595, 1, 1, 1, 2, 2, 2, 3]);
    let all = |parts: &Parts| {
        let mut all = [&parts.train[..], &parts.val, &parts.test].concat();
        all.sort_unstable();
        all
    };
    assert_eq!(all(&parts), (0..labels.len()).collect::<Vec<_>>());

    let labels = ten_labels(|_| 70);
    let parts = split::folds(&labels, 3);
    for k in 0..10 {
        let count = |part: &[usize]| part.iter().filter(|&&i| labels[i] == k).count();
        assert_eq!([count(&parts.train), count(&parts.val), count(&parts.test)], [42, 14, 14]);
    }
    assert_eq!(all(&parts), (0..labels.len()).collect::<Vec<_>>());
    assert_ne!(parts, split::folds(&labels, 4));
}

#[test]
fn test_sets_hold_all_inliers_and_the_asked_share_of_outliers() {
    let labels = ten_labels(|k| 90 + usize::from(k));
    let mut smaller: Vec<usize> = Vec::new();
    for (ratio, expected) in [(1, 0), (10, 10), (30, 39), (50, 93), (90, 837)] {
        let (indices, marks) = split::test_set(&labels, 3, ratio, 8).expect("a test set");
        let (normal, anomalous) = indices.split_at(93);
        assert!(
            normal.iter().all(|&i| labels[i] == 3) && anomalous.iter().all(|&i| labels[i] != 3)
        );
        assert_eq!(anomalous.len(), expected, "ratio {ratio}");
        assert_eq!(marks, [vec![0; 93], vec![1; expected]].concat());
        assert!(anomalous.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            smaller.iter().all(|i| anomalous.contains(i)),
            "outliers of a smaller ratio are among those of {ratio}"
        );
        smaller = anomalous.to_vec();
    }
    let error = error_with(split::test_set(&labels, 3, 91, 8), &["needs 940", "at most 90"]);
    assert_eq!(error.exit_code(), 2);
    error_with(split::test_set(&labels, 3, 100, 8), &["100", "1 to 99"]);
    assert_ne!(
        split::test_set(&labels, 3, 50, 8).unwrap(),
        split::test_set(&labels, 3, 50, 9).unwrap()
    );
    // Every image of another class has its chance: over many seeds each is drawn about half of the
    // time.
    let mut drawn = vec![0; labels.len()];
    for seed in 0..200 {
        let (indices, _) = split::test_set(&labels, 3, 83, seed).expect("a test set");
        indices[93..].iter().for_each(|&i| drawn[i] += 1);
    }
    let others = || drawn.iter().zip(&labels).filter(|&(_, label)| *label != 3).map(|(n, _)| *n);
    let (least, most) = (others().min().unwrap(), others().max().unwrap());
    assert!(least > 65 && most < 145, "drawn {least} to {most} times of 200, expected about 107");
}
