//! The subset inside the program.

use std::fs;
use std::path::Path;

use gradcon::data::embedded;
use gradcon::data::hash::sha256_file;

#[test]
fn built_in_subset_is_what_its_provenance_says() {
    let (train, test) = embedded::fashion_subset().expect("the built-in subset");
    for (part, demo, other) in [(&train, 2000, 300), (&test, 200, 100)] {
        for label in 0..10 {
            assert_eq!(
                part.indices_of(label).len(),
                if label == 7 { demo } else { other },
                "class {label}"
            );
        }
        assert_eq!((part.images.height, part.images.width, part.images.channels), (28, 28, 1));
        assert_eq!(part.images.data.len(), part.images.n * 784);
    }
    // The first ten labels of the official training file; none of these classes is full so early.
    assert_eq!(train.labels[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/fashion");
    let provenance = fs::read_to_string(folder.join("PROVENANCE.md")).expect("PROVENANCE.md");
    for part in ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"] {
        let name = format!("{part}-ubyte.gz");
        let row = provenance
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")))
            .expect("a row of the file");
        let hash = sha256_file(&folder.join(&name)).expect("a hash");
        assert_eq!(row.split('|').nth(2).map(str::trim), Some(hash.as_str()), "{name}");
    }
}
