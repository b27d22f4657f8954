//! Official files, from where they lie to a prepared dataset.

use std::path::Path;

use gradcon::data::{Dataset, prepare, source};

#[test]
fn a_real_dataset_goes_all_the_way() {
    // The files that ship with the project, read as a user's Fashion-MNIST folder.
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/fashion");
    let raw = source::read(Dataset::FMNIST, &files).expect("Fashion-MNIST");
    assert_eq!((raw.train.images.n, raw.test.images.n), (4700, 1100));
    assert_eq!((raw.source.what.as_str(), raw.source.sha256.len()), ("local files", 4));
    let prepared = prepare::ten_classes(Dataset::FMNIST, raw.train, raw.test, raw.source, 0, &[50])
        .expect("prepared");
    let sneakers = prepared.manifest().counts.clone();
    assert_eq!([sneakers.train[7], sneakers.val[7], sneakers.test[7]], [1320, 440, 440]);
    let built_in = prepare::fashion_subset(0, &[50]).expect("prepared");
    assert_eq!(prepared.train_of(7).unwrap(), built_in.train_of(7).unwrap());
    let summary = prepared.manifest().summary();
    assert!(summary.contains(" 7 Sneaker        1320     440     440\n"), "{summary}");
    assert!(summary.contains("class7_ratio50     440       440  Sneaker\n"), "{summary}");
}
