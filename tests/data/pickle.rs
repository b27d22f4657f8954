//! The pickles of CIFAR-10's Python batches.

use std::fs;
use std::path::{Path, PathBuf};

use gradcon::data::{Labelled, cifar};

use super::cifar::{assert_is_cifar, unpack};
use super::{error_with, fixture, temp};

#[test]
fn cifar_pickles_of_todays_numpy_read_in_every_protocol_and_order() {
    for protocol in 1..=5 {
        let dir = temp();
        unpack("cifar/cifar-10-python.tar.gz", dir.path());
        // The first is in C order, the second in Fortran order.
        for batch in 1..=2 {
            let from = fixture(&format!("cifar/data_batch_{batch}_protocol{protocol}"));
            fs::copy(from, dir.path().join(format!("cifar-10-batches-py/data_batch_{batch}")))
                .unwrap();
        }
        assert_is_cifar(dir.path());
    }
}

/// Reads the batches with the first replaced by `content`.
fn with_first_batch(dir: &Path, content: &[u8]) -> gradcon::Result<(Labelled, Labelled, PathBuf)> {
    fs::write(dir.join("cifar-10-batches-py/data_batch_1"), content).unwrap();
    cifar::read(dir)
}

#[test]
fn broken_cifar_pickles_are_refused() {
    let dir = temp();
    unpack("cifar/cifar-10-python.tar.gz", dir.path());
    let batch = fs::read(dir.path().join("cifar-10-batches-py/data_batch_1")).unwrap();
    // Every cut near the ends, where the instructions are, and some within the pixels.
    for length in
        (0..300).chain((300..batch.len()).step_by(997)).chain(batch.len() - 60..batch.len())
    {
        error_with(with_first_batch(dir.path(), &batch[..length]), &["data_batch_1"]);
    }
    let replaced = |from: &[u8], to: &[u8]| {
        let at = batch.windows(from.len()).position(|w| w == from).expect("the bytes to replace");
        [&batch[..at], to, &batch[at + from.len()..]].concat()
    };
    let refused = |content: Vec<u8>, parts: &[&str]| {
        error_with(with_first_batch(dir.path(), &content), parts)
    };
    refused(
        replaced(b"cnumpy\ndtype\n", b"cos\nsystem\n"),
        &["data_batch_1", "it calls os.system"],
    );
    refused(replaced(b"U\x02u1", b"U\x02f4"), &["array of f4, expected u1"]);
    refused(
        replaced(b"K\x02M\x00\x0c\x86", b"K\x03M\x00\x0c\x86"),
        &["6144 bytes, expected shape [3, 3072]"],
    );
    refused(replaced(b"U\x06labels", b"U\x06lAbels"), &["no list 'labels'"]);
    refused(replaced(b"U\x04data", b"U\x04dAta"), &["no array 'data'"]);
    refused(replaced(b"K\x01K\x09e", b"K\x01K\x0ae"), &["label 10 at index 1, expected 0 to 9"]);
    refused(replaced(b"K\x01K\x09e", b"K\x01e"), &["shape [2, 3072] with 1 labels"]);
    refused(replaced(b"\x80\x02", b"\x80\x06"), &["protocol 6"]);
    refused(b"\x80\x02].".to_vec(), &["not a dictionary"]);
}

#[test]
fn no_changed_byte_of_a_pickle_makes_the_reader_panic() {
    let dir = temp();
    unpack("cifar/cifar-10-python.tar.gz", dir.path());
    let mut batch = fs::read(dir.path().join("cifar-10-batches-py/data_batch_1")).unwrap();
    let mut refused = 0;
    for at in (0..290).chain(batch.len() - 60..batch.len()) {
        for change in [0x01, 0x80, 0xff] {
            batch[at] ^= change;
            refused += usize::from(with_first_batch(dir.path(), &batch).is_err());
            batch[at] ^= change;
        }
    }
    assert!(refused > 300, "only {refused} changes were noticed");
}
