//! From images to a prepared dataset: the protocols.

use gradcon::data::{Dataset, Images, Labelled, cifar, prepare, resize};

use super::{error_with, fixture, marked, no_source, small, ten_labels};

#[test]
fn preparing_keeps_each_image_with_its_label() {
    for (dataset, counts) in [(Dataset::MNIST, [19, 2, 12]), (Dataset::FMNIST, [19, 7, 7])] {
        let prepared = small(dataset, 5, &[50, 20]);
        let first = |images: &Images, i: usize| images.image(i)[0];
        for k in 0..10 {
            let (train, val) =
                (prepared.train_of(k).expect("a class"), prepared.val_of(k).expect("a class"));
            assert!((0..train.n).all(|i| usize::from(first(&train, i)) == k));
            assert!((0..val.n).all(|i| usize::from(first(&val, i)) == k));
            if k == 1 {
                // 21 + 12 images of class 1: a tenth of 21; or three, one and one fifth of 33.
                assert_eq!([train.n, val.n, prepared.test().of(1).n], counts);
            }
            for ratio in [50, 20] {
                let set = prepared.test_set(k, ratio).expect("a test set");
                let images = prepared.images_of(set);
                assert_eq!(images.n, set.labels.len());
                assert!(
                    (0..images.n)
                        .all(|i| (usize::from(first(&images, i)) == k) == (set.labels[i] == 0))
                );
            }
            assert_eq!(prepared.test_sets_of(k).count(), 2);
        }
        error_with(prepared.test_set(3, 40), &["class3_ratio50, class3_ratio20"]);
        error_with(prepared.train_of(10), &["inlier class 10", "below 10"]);
    }
}

#[test]
fn test_sets_do_not_depend_on_the_ratios_asked_for() {
    let (one, two) = (small(Dataset::MNIST, 5, &[50]), small(Dataset::MNIST, 5, &[20, 50]));
    assert_eq!(one.test_set(4, 50).unwrap().indices, two.test_set(4, 50).unwrap().indices);
}

#[test]
fn ten_classes_need_enough_images_and_distinct_ratios() {
    let prepare = |train: Vec<u8>, ratios: &[u32]| {
        prepare::ten_classes(
            Dataset::MNIST,
            marked(train, 1),
            marked(ten_labels(|_| 9), 1),
            no_source(),
            0,
            ratios,
        )
    };
    error_with(
        prepare(ten_labels(|k| if k == 6 { 9 } else { 10 }), &[50]),
        &["class 6 (6)", "validation"],
    );
    error_with(prepare(ten_labels(|_| 10), &[50, 20, 50]), &["50", "twice"]);
}

#[test]
fn cifar_is_resized_when_prepared() {
    let (train, _, _) = cifar::read(&fixture("cifar/cifar-10-python.tar.gz")).expect("CIFAR-10");
    let expected = resize::resize(&train.images, 28, 28);
    let repeat = |part: &Labelled| part.select(&(0..100).map(|i| i % 10).collect::<Vec<_>>());
    let labels: Vec<u8> = (0..100).map(|i| i % 10).collect();
    let part = Labelled { labels, ..repeat(&train) };
    let prepared =
        prepare::ten_classes(Dataset::CIFAR_10, part.clone(), part, no_source(), 0, &[50])
            .expect("CIFAR-10");
    assert_eq!(prepared.channels(), 3);
    assert_eq!(prepared.train_of(4).unwrap().image(0), expected.image(4));
}
