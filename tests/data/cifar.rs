//! CIFAR-10's archives and batches.

use std::fs;
use std::io::Read;
use std::path::Path;

use gradcon::data::{Images, cifar, npy};

use super::{error_with, fixture, load_images, temp};

fn cifar_expected() -> (Images, Vec<u8>) {
    let ([_], labels) = npy::read_u8(&fixture("cifar/labels.npy")).expect("a fixture");
    (load_images(&fixture("cifar/images.npy")), labels)
}

#[track_caller]
pub(super) fn assert_is_cifar(path: &Path) {
    let (images, labels) = cifar_expected();
    let (train, test, _) = cifar::read(path).expect("CIFAR-10");
    assert_eq!([train.labels, test.labels].concat(), labels);
    assert_eq!((train.images.n, test.images.n), (10, 2));
    assert_eq!([train.images.data, test.images.data].concat(), images.data);
}

pub(super) fn unpack(archive: &str, dir: &Path) {
    let file = fs::File::open(fixture(archive)).expect("a fixture");
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(dir).expect("an archive");
}

#[test]
fn both_cifar_archives_read_alike_packed_and_unpacked() {
    for (archive, folder) in [("python", "cifar-10-batches-py"), ("binary", "cifar-10-batches-bin")]
    {
        let name = format!("cifar/cifar-10-{archive}.tar.gz");
        assert_is_cifar(&fixture(&name));
        let dir = temp();
        unpack(&name, dir.path());
        assert_is_cifar(dir.path());
        assert_is_cifar(&dir.path().join(folder));
        // The same archive without compression, and found in a folder by its official name.
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(fixture(&name)).unwrap())
            .read_to_end(&mut plain)
            .unwrap();
        let tar = dir.path().join("any.tar");
        fs::write(&tar, plain).unwrap();
        assert_is_cifar(&tar);
        let dir = temp();
        fs::copy(fixture(&name), dir.path().join(format!("cifar-10-{archive}.tar.gz"))).unwrap();
        assert_is_cifar(dir.path());
    }
}

#[test]
fn broken_cifar_files_are_refused() {
    let dir = temp();
    unpack("cifar/cifar-10-binary.tar.gz", dir.path());
    let batch = dir.path().join("cifar-10-batches-bin/data_batch_3.bin");
    let content = fs::read(&batch).unwrap();
    fs::write(&batch, &content[..content.len() - 1]).unwrap();
    error_with(cifar::read(dir.path()), &["data_batch_3.bin", "6145 bytes", "multiple of 3073"]);
    fs::write(&batch, [&[10], &content[1..]].concat()).unwrap();
    error_with(cifar::read(dir.path()), &["data_batch_3.bin", "label 10 at index 0"]);
    fs::remove_file(&batch).unwrap();
    error_with(cifar::read(dir.path()), &["neither data_batch_3 nor data_batch_3.bin"]);
    error_with(cifar::read(temp().path()), &["cifar-10-batches-py"]);

    let archive = fs::read(fixture("cifar/cifar-10-python.tar.gz")).unwrap();
    let cut = dir.path().join("cut.tar.gz");
    fs::write(&cut, &archive[..archive.len() / 2]).unwrap();
    error_with(cifar::read(&cut), &["cut.tar.gz"]);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&archive[..]).read_to_end(&mut plain).unwrap();
    let cut = dir.path().join("cut.tar");
    fs::write(&cut, &plain[..4000]).unwrap();
    error_with(cifar::read(&cut), &["cut.tar", "data_batch_1 is cut short: 2464 of "]);
}
