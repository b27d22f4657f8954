//! IDX files.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use gradcon::data::{Images, idx};

use super::{error_with, temp};

fn idx_bytes(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressing");
    encoder.finish().expect("compressing")
}

#[test]
fn idx_files_read_alike_plain_and_compressed() {
    let dir = temp();
    let data: Vec<u8> = (0..2 * 3 * 5).collect();
    let bytes = idx_bytes(&[2, 3, 5], &data);
    let expected = Images { data, n: 2, height: 3, width: 5, channels: 1 };
    for (name, content) in [("plain", bytes.clone()), ("packed", gz(&bytes))] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(idx::read_images(&path).expect(name), expected);
    }
}

#[test]
fn broken_idx_files_are_refused() {
    let dir = temp();
    let path = dir.path().join("images");
    let bytes = idx_bytes(&[2, 2, 2], &[7; 8]);
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        error_with(idx::read_images(&path), &["images"]);
        fs::write(&path, &gz(&bytes)[..length.min(15)]).unwrap();
        error_with(idx::read_images(&path), &["images"]);
    }
    fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    error_with(idx::read_images(&path), &["images", "more bytes", "expected 8"]);
    fs::write(&path, idx_bytes(&[2, 4], &[7; 8])).unwrap();
    error_with(idx::read_images(&path), &["0x00000802", "expected 0x00000803"]);
    fs::write(&path, idx_bytes(&[2, 0, 4], &[])).unwrap();
    error_with(idx::read_images(&path), &["0 x 4"]);
    // A header that promises 2^96 bytes must neither allocate nor overflow.
    fs::write(&path, idx_bytes(&[u32::MAX, u32::MAX, u32::MAX], &[1; 9])).unwrap();
    error_with(idx::read_images(&path), &["images", "expected at most 536870912"]);
    // One that stays below the limit allocates no more than what is there.
    fs::write(&path, idx_bytes(&[500_000, 28, 28], &[1; 9])).unwrap();
    error_with(idx::read_images(&path), &["9 bytes of values"]);
    error_with(idx::read_labels(&dir.path().join("absent")), &["absent"]);
}

#[test]
fn idx_splits_need_a_label_from_0_to_9_per_image() {
    let dir = temp();
    let write = |name: &str, bytes: Vec<u8>| fs::write(dir.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", idx_bytes(&[2, 1, 1], &[5, 6]));
    error_with(
        idx::read_split(dir.path(), "train"),
        &["train-labels-idx1-ubyte.gz", "no such file"],
    );
    // The official MNIST page's older spelling, compressed.
    write("train-labels.idx1-ubyte.gz", gz(&idx_bytes(&[2], &[0, 9])));
    let split = idx::read_split(dir.path(), "train").expect("a split");
    assert_eq!((split.images.data, split.labels), (vec![5, 6], vec![0, 9]));
    write("train-labels.idx1-ubyte.gz", gz(&idx_bytes(&[2], &[0, 10])));
    error_with(idx::read_split(dir.path(), "train"), &["label 10 at index 1", "expected 0 to 9"]);
    write("train-labels.idx1-ubyte.gz", gz(&idx_bytes(&[3], &[0, 1, 2])));
    error_with(idx::read_split(dir.path(), "train"), &["3 labels, expected 2"]);
}
