//! The data room: readers, resizing, splits, the prepared folder, and the downloader against a
//! server that misbehaves.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use gradcon::Error;
use gradcon::data::download::{Event, Patience, Remote, fetch};
use gradcon::data::folder::{self, Decode, Folders, Listing};
use gradcon::data::hash::{md5_file, sha256_file};
use gradcon::data::manifest::Source;
use gradcon::data::prepared::{self, Written};
use gradcon::data::split::{self, Parts};
use gradcon::data::{
    Dataset, Images, Labelled, Manifest, Prepared, cifar, cure_tsr, datasets, embedded, idx, npy,
    prepare, resize, sheet, source,
};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn load_images(path: &Path) -> Images {
    let ([n, height, width, channels], data) = npy::read_u8(path).expect("a fixture");
    Images { data, n, height, width, channels }
}

/// The error's text; panics on success, and if `parts` are not all in it.
#[track_caller]
fn error_with<T: std::fmt::Debug>(result: gradcon::Result<T>, parts: &[&str]) -> Error {
    let error = result.expect_err("an error was expected");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in the message: {text}");
    }
    error
}

fn assert_same_images(found: &Images, expected: &Images, tolerance: u8, differing: usize) {
    let shape = |i: &Images| [i.n, i.height, i.width, i.channels];
    assert_eq!(shape(found), shape(expected));
    let off: Vec<u8> = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).collect();
    let most = off.iter().max().copied().unwrap_or(0);
    assert!(most <= tolerance, "off by {most} levels");
    let count = off.iter().filter(|&&d| d > 0).count();
    assert!(count <= differing, "{count} of {} values differ", off.len());
}

// ---- IDX and the built-in subset

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

// ---- CIFAR

fn cifar_expected() -> (Images, Vec<u8>) {
    let ([_], labels) = npy::read_u8(&fixture("cifar/labels.npy")).expect("a fixture");
    (load_images(&fixture("cifar/images.npy")), labels)
}

#[track_caller]
fn assert_is_cifar(path: &Path) {
    let (images, labels) = cifar_expected();
    let (train, test, _) = cifar::read(path).expect("CIFAR-10");
    assert_eq!([train.labels, test.labels].concat(), labels);
    assert_eq!((train.images.n, test.images.n), (10, 2));
    assert_eq!([train.images.data, test.images.data].concat(), images.data);
}

fn unpack(archive: &str, dir: &Path) {
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

// ---- Resizing and decoding

#[test]
fn resizing_agrees_with_pillow() {
    let mut cases = 0;
    for entry in fs::read_dir(fixture("resize")).expect("fixtures") {
        let path = entry.unwrap().path();
        if let Some(name) = path.to_string_lossy().strip_suffix("_in.npy") {
            let resized = resize::resize(&load_images(&path), 28, 28);
            let expected = load_images(Path::new(&format!("{name}_out.npy")));
            // The arithmetic is Pillow's own; one level is left for a sine that is rounded
            // differently elsewhere.
            assert_same_images(&resized, &expected, 1, expected.data.len() / 1000);
            cases += 1;
        }
    }
    assert_eq!(cases, 11);
}

#[test]
fn image_files_decode_as_pillow_decodes_them() {
    let files =
        folder::find_images(&fixture("images"), &mut folder::Tally::default()).expect("fixtures");
    let (photo, exact): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| path.ends_with("photo.jpeg"));
    assert_eq!(exact.len(), 7);
    for channels in [1, 3] {
        let expected = load_images(&fixture(&format!("images/expected_{channels}.npy")));
        let decode = Decode::new(channels, Decode::MAX_PIXELS).expect("1 or 3");
        let found = decode.files(&exact, &|_, _| Ok(())).expect("images");
        assert_same_images(&found, &expected, 1, expected.data.len() / 1000);
        let expected = load_images(&fixture(&format!("images/expected_photo_{channels}.npy")));
        let found = decode.files(&photo, &|_, _| Ok(())).expect("a photo");
        assert_same_images(&found, &expected, 2, expected.data.len());
    }
}

// ---- NumPy files

#[test]
fn npy_files_come_back_and_start_at_a_multiple_of_64() {
    let dir = temp();
    let path = dir.path().join("a.npy");
    let data: Vec<u8> = (0..24).collect();
    npy::write_u8(fs::File::create(&path).unwrap(), &[2, 3, 4], &data).unwrap();
    assert_eq!(npy::read_u8::<3>(&path).expect("an array"), ([2, 3, 4], data));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4), }";
    assert_eq!(String::from_utf8_lossy(&bytes[10..128]), format!("{header:117}\n"));
    let numbers = [0, -1, i64::MAX, i64::MIN, 300];
    npy::write_i64(fs::File::create(&path).unwrap(), &numbers).unwrap();
    assert_eq!(npy::read_i64(&path).expect("an array"), numbers);
}

#[test]
fn broken_npy_files_are_refused() {
    let dir = temp();
    let path = dir.path().join("a.npy");
    npy::write_u8(fs::File::create(&path).unwrap(), &[2, 3], &[9; 6]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        npy::read_u8::<2>(&path)
    };
    for length in 0..bytes.len() {
        error_with(read(&bytes[..length]), &["a.npy"]);
    }
    error_with(read(&[&bytes[..], &[0]].concat()), &["a.npy", "more bytes", "expected 6"]);
    let edited = |from: &str, to: &str| {
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        text.replace(from, to).chars().map(|c| c as u8).collect::<Vec<u8>>()
    };
    error_with(read(&edited("|u1", "<f8")), &["type <f8, expected |u1"]);
    error_with(read(&edited("False", "True ")), &["not in C order"]);
    error_with(read(&edited("(2, 3)", "(6,)  ")), &["shape [6], expected 2 dimensions"]);
    error_with(read(&edited("NUMPY", "NUMPI")), &["NUMPI", "expected"]);
    error_with(read(&edited("\u{1}\0v", "\u{9}\0v")), &["version 9"]);
    assert!(read(&bytes).is_ok());
    error_with(npy::read_i64(&path), &["type |u1, expected <i8"]);
}

// ---- Splits

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

/// 10 classes, class k with `counts(k)` members, interleaved.
fn ten_labels(count: impl Fn(u8) -> usize) -> Vec<u8> {
    let most = (0..10).map(&count).max().unwrap_or(0);
    (0..most).flat_map(|i| (0..10).filter(|&k| i < count(k)).collect::<Vec<_>>()).collect()
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

// ---- Prepared folders

fn no_source() -> Source {
    Source { what: "a test".into(), sha256: Default::default() }
}

/// Images whose pixels say which one it is: label, then its number in the part.
fn marked(labels: Vec<u8>, channels: usize) -> Labelled {
    let image = |i: usize| {
        let mut pixels = vec![0; 784 * channels];
        pixels[..3].copy_from_slice(&[labels[i], (i / 256) as u8, (i % 256) as u8]);
        pixels
    };
    let data = (0..labels.len()).flat_map(image).collect();
    Labelled { images: Images { data, n: labels.len(), height: 28, width: 28, channels }, labels }
}

fn small(dataset: Dataset, seed: u64, ratios: &[u32]) -> Prepared {
    let (train, test) =
        (marked(ten_labels(|k| 20 + usize::from(k)), 1), marked(ten_labels(|_| 12), 1));
    prepare::ten_classes(dataset, train, test, no_source(), seed, ratios)
        .expect("a prepared dataset")
}

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

fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((
                    path.strip_prefix(dir).unwrap().to_path_buf(),
                    fs::read(&path).unwrap(),
                ));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_prepared_folder_comes_back_whole_and_the_same_seed_gives_the_same_bytes() {
    let dir = temp();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("deep/er/b"), dir.path().join("c"));
    let prepared = small(Dataset::FMNIST, 5, &[50, 10]);
    assert_eq!(prepared.write(&a, false).expect("written"), Written::New);
    let opened = Prepared::open(&a).expect("a prepared folder");
    assert!(prepared.manifest().files.is_empty() && opened.manifest().files.len() == 6 + 2 * 20);
    for k in 0..10 {
        assert_eq!(opened.train_of(k).unwrap(), prepared.train_of(k).unwrap());
        assert_eq!(opened.val_of(k).unwrap(), prepared.val_of(k).unwrap());
    }
    assert_eq!((opened.test(), opened.test_sets()), (prepared.test(), prepared.test_sets()));
    assert_eq!(opened.class_names()[9], "Ankle boot");

    fs::create_dir_all(&b).unwrap();
    assert_eq!(
        small(Dataset::FMNIST, 5, &[50, 10]).write(&b, false).expect("written"),
        Written::New
    );
    assert_eq!(bytes_of(&a), bytes_of(&b));
    small(Dataset::FMNIST, 6, &[50, 10]).write(&c, false).expect("written");
    assert_ne!(bytes_of(&a), bytes_of(&c));
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing but the folders is left: {left:?}");
}

#[test]
fn only_a_prepared_folder_is_replaced_and_only_by_force() {
    let dir = temp();
    let out = dir.path().join("out");
    let (one, two) = (small(Dataset::MNIST, 1, &[50]), small(Dataset::MNIST, 2, &[50]));
    one.write(&out, false).expect("written");
    let before = bytes_of(&out);
    assert_eq!(one.write(&out, false).expect("the same"), Written::Unchanged);
    let error = error_with(two.write(&out, false), &["out", "--force"]);
    assert_eq!(error.exit_code(), 2);
    assert_eq!(bytes_of(&out), before);
    assert_eq!(two.write(&out, true).expect("forced"), Written::New);
    assert_eq!(Prepared::open(&out).unwrap().manifest().seed, 2);
    // A damaged folder is not "the same", even though its manifest is.
    fs::write(out.join("val_labels.npy"), b"").unwrap();
    error_with(two.write(&out, false), &["--force"]);

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), b"years of work").unwrap();
    for force in [false, true] {
        error_with(one.write(&other, force), &["other", "no prepared dataset"]);
        error_with(
            one.write(&other.join("thesis.txt"), force),
            &["thesis.txt", "file of that name"],
        );
    }
    assert_eq!(fs::read(other.join("thesis.txt")).unwrap(), b"years of work");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn verify_names_every_file_that_differs() {
    let dir = temp();
    let out = dir.path().join("out");
    small(Dataset::MNIST, 1, &[50]).write(&out, false).expect("written");
    assert_eq!(prepared::verify(&out).expect("untouched").files.len(), 26);
    let flip = |name: &str| {
        let path = out.join(name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    // One changed pixel leaves a folder that fits together.
    flip("train_images.npy");
    for opened in [prepared::verify(&out).map(drop), Prepared::open(&out).map(drop)] {
        let error =
            error_with(opened, &["1 of 26 files", "train_images.npy: SHA-256", "expected "]);
        assert_eq!(error.exit_code(), 4);
    }
    fs::remove_file(out.join("test_sets/class4_ratio50_index.npy")).unwrap();
    fs::write(out.join("val_labels.npy"), b"short").unwrap();
    error_with(
        prepared::verify(&out),
        &["3 of 26", "class4_ratio50_index.npy: missing", "val_labels.npy: 5 bytes, expected"],
    );
}

#[test]
fn opening_refuses_what_does_not_fit_together() {
    let dir = temp();
    let good = dir.path().join("good");
    small(Dataset::MNIST, 1, &[50]).write(&good, false).expect("written");
    let files = bytes_of(&good);
    let bad = dir.path().join("bad");
    // Opens a copy of the folder with one file replaced.
    let with = |name: &str, content: Option<Vec<u8>>| {
        if bad.exists() {
            fs::remove_dir_all(&bad).unwrap();
        }
        fs::create_dir_all(bad.join("test_sets")).unwrap();
        files.iter().for_each(|(file, bytes)| fs::write(bad.join(file), bytes).unwrap());
        match content {
            Some(content) => fs::write(bad.join(name), content).unwrap(),
            None => fs::remove_file(bad.join(name)).unwrap(),
        }
        Prepared::open(&bad)
    };
    assert!(with("extra.txt", Some(b"ignored".to_vec())).is_ok());
    for (file, bytes) in &files {
        let name = file.to_str().unwrap();
        let short = file.file_name().unwrap().to_str().unwrap();
        if name != "manifest.json" {
            error_with(with(name, None), &[short]);
        }
        error_with(with(name, Some(bytes[..bytes.len() - 2].to_vec())), &[short]);
        error_with(
            with(name, Some(b"garbage, and enough of it to pass for a header".to_vec())),
            &[short],
        );
    }
    let array = |shape: &[usize], data: &[u8]| {
        let mut bytes = Vec::new();
        npy::write_u8(&mut bytes, shape, data).unwrap();
        bytes
    };
    let numbers = |data: &[i64]| {
        let mut bytes = Vec::new();
        npy::write_i64(&mut bytes, data).unwrap();
        bytes
    };
    error_with(
        with("val_images.npy", Some(array(&[19, 28, 28, 1], &[0; 14896]))),
        &["shape [19, 28, 28, 1], expected [20, 28"],
    );
    error_with(
        with("test_labels.npy", Some(array(&[120], &[3; 120]))),
        &["test_labels.npy", "counts per class"],
    );
    error_with(
        with("test_labels.npy", Some(array(&[119], &[3; 119]))),
        &["119 values, expected 120"],
    );
    let set = "test_sets/class0_ratio50";
    error_with(
        with(&format!("{set}_index.npy"), Some(numbers(&[120; 24]))),
        &["index 120, expected 0 to 119"],
    );
    error_with(with(&format!("{set}_index.npy"), Some(numbers(&[-1; 24]))), &["index -1"]);
    error_with(
        with(&format!("{set}_label.npy"), Some(array(&[24], &[1; 24]))),
        &["12 zeros (normal) and 12 ones"],
    );

    let manifest = String::from_utf8(fs::read(good.join("manifest.json")).unwrap()).unwrap();
    let edit = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        with("manifest.json", Some(manifest.replacen(from, to, 1).into_bytes()))
    };
    error_with(edit("\"format_version\": 1", "\"format_version\": 2"), &["version 2, expected 1"]);
    error_with(edit("\"seed\"", "\"sead\""), &["manifest.json", "sead"]);
    error_with(edit("\"mnist\"", "\"minst\""), &["minst", "cifar-10"]);
    error_with(edit("\"channels\": 1", "\"channels\": 2"), &["28 x 28 x 2"]);
    error_with(
        edit("\"val_labels.npy\"", "\"../val_labels.npy\""),
        &["lists unexpected ../val_labels.npy"],
    );
    error_with(edit("\"inlier\": 9", "\"inlier\": 10"), &["inlier class 10"]);
    error_with(Prepared::open(&dir.path().join("absent")), &["absent", "gradcon prep"]);
}

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

// ---- CURE-TSR and folders of images

fn write_image(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // What counts is the content, so a BMP is as good in a file of another name.
    let format = image::ImageFormat::from_path(path).unwrap();
    let format = if format == image::ImageFormat::Jpeg { image::ImageFormat::Bmp } else { format };
    image::RgbImage::from_pixel(9, 7, image::Rgb([value, 0, 255 - value]))
        .save_with_format(path, format)
        .unwrap();
}

fn cure_tsr_tree(root: &Path) {
    for i in 1..=24 {
        write_image(
            &root.join(format!("Real_Train/ChallengeFree/01_{:02}_00_00_{i:04}.bmp", 1 + i % 2)),
            i,
        );
    }
    for i in 1..=4 {
        let sign = 10 + i;
        write_image(
            &root.join(format!("Real_Test/ChallengeFree/01_{sign}_00_00_{i:04}.bmp")),
            100 + i,
        );
        write_image(&root.join(format!("Real_Test/Haze-5/01_{sign}_12_05_{i:04}.bmp")), 150 + i);
        write_image(&root.join(format!("Real_Test/Snow-1/01_{sign}_11_01_{i:04}.bmp")), 200 + i);
    }
    write_image(&root.join("Real_Test/Snow-1/01_06_11_01_0009.bmp"), 209);
}

fn rgb() -> Decode {
    Decode::new(3, Decode::MAX_PIXELS).unwrap()
}

/// Finds and reads a user's own images.
fn own(folders: &Folders) -> gradcon::Result<Prepared> {
    prepare::own_images(&folders.list()?, rgb(), 0, &|_, _| Ok(()))
}

#[test]
fn cure_tsr_pairs_challenge_free_images_with_each_challenge_and_level() {
    let dir = temp();
    cure_tsr_tree(&dir.path().join("CURE-TSR"));
    let listing = cure_tsr::list(dir.path()).expect("CURE-TSR");
    let prepared = prepare::cure_tsr(&listing, rgb(), 0, &|_, _| Ok(())).expect("prepared");
    assert_eq!(
        prepared.inliers().iter().map(|i| i.name.as_str()).collect::<Vec<_>>(),
        ["challenge-free"]
    );
    // A tenth of the twelve images of each sign.
    assert_eq!((prepared.train_of(0).unwrap().n, prepared.val_of(0).unwrap().n), (22, 2));
    let sets: Vec<_> = prepared.test_sets().iter().map(|set| &set.info).collect();
    assert_eq!(
        sets.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(),
        ["Snow-1", "Haze-5"]
    );
    assert_eq!((sets[1].challenge.as_deref(), sets[1].level), (Some("Haze"), Some(5)));
    assert_eq!((sets[0].normal, sets[0].anomalous), (4, 5));
    let reds = |k: usize| {
        let images = prepared.images_of(&prepared.test_sets()[k]);
        (0..images.n).map(|i| images.image(i)[0]).collect::<Vec<_>>()
    };
    assert_eq!(reds(0), [101, 102, 103, 104, 209, 201, 202, 203, 204]);
    assert_eq!(reds(1), [101, 102, 103, 104, 151, 152, 153, 154]);
    assert_eq!(prepared.test_sets()[1].labels, [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(prepared.test().labels[..5], [10, 11, 12, 13, 5]);
    let names = prepared.names().expect("names");
    assert_eq!(names.test[4], "Real_Test/Snow-1/01_06_11_01_0009.bmp");
    assert_eq!((names.train.len(), names.val.len(), names.test.len()), (22, 2, 13));
    for (name, i) in names.train.iter().zip(0..) {
        let number: u8 =
            name[name.len() - 8..name.len() - 4].parse().expect("an index in the name");
        assert_eq!(prepared.train_of(0).unwrap().image(i)[0], number, "{name}");
    }

    let out = dir.path().join("out");
    prepared.write(&out, false).expect("written");
    let opened = Prepared::open(&out).expect("a prepared folder");
    assert_eq!((opened.names(), opened.test_sets()), (prepared.names(), prepared.test_sets()));
    fs::write(out.join("val_names.json"), "[\"one\"]").unwrap();
    error_with(Prepared::open(&out), &["val_names.json", "1 names, expected 2"]);
}

#[test]
fn cure_tsr_names_are_checked() {
    let known = cure_tsr::parse_name("01_06_03_05_0001.bmp").expect("a name");
    assert_eq!((known.sequence, known.sign, known.challenge, known.level), (1, 6, 3, 5));
    for name in [
        "01_06_03_05.bmp",
        "01_06_03_05_0001",
        "01_15_03_05_0001.bmp",
        "01_00_03_05_0001.bmp",
        "03_06_03_05_0001.bmp",
        "01_06_13_05_0001.bmp",
        "01_06_03_06_0001.bmp",
        "01_06_03_00_0001.bmp",
        "01_06_00_01_0001.bmp",
        "01_6_03_05_0001.bmp",
        "01_+6_03_05_0001.bmp",
        "01_06_03_05_.bmp",
        "01_06_03_05_1_2.bmp",
    ] {
        assert_eq!(cure_tsr::parse_name(name), None, "{name}");
    }
    let dir = temp();
    error_with(cure_tsr::list(dir.path()), &["Real_Train and Real_Test"]);
    cure_tsr_tree(dir.path());
    cure_tsr::list(dir.path()).expect("CURE-TSR");
    let stray = dir.path().join("Real_Test/Haze-5/01_06_12_04_0001.bmp");
    write_image(&stray, 1);
    error_with(cure_tsr::list(dir.path()), &["01_06_12_04_0001.bmp", "01_SIGN_12_05_INDEX"]);
    fs::remove_file(&stray).unwrap();
    write_image(&dir.path().join("Real_Test/Fog-1/01_06_12_04_0001.bmp"), 1);
    error_with(cure_tsr::list(dir.path()), &["Fog-1", "Haze"]);
}

#[test]
fn own_images_are_split_named_and_labelled() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    for i in 0..20 {
        write_image(
            &at(&format!("good/{}/{i:02}.{}", i % 3, ["png", "JPG", "bmp"][i % 3])),
            i as u8 * 10,
        );
    }
    fs::write(at("good/notes.txt"), "no image").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("good"), at("good/loop")).unwrap();
    for i in 0..3 {
        write_image(&at(&format!("bad/{i}.png")), 240 + i);
    }
    let folders = Folders {
        normal: at("good"),
        normal_test: None,
        abnormal: vec![("abnormal".into(), at("bad"))],
    };
    let counted = Mutex::new((0, 0));
    let progress = |found, read| {
        let mut counted = counted.lock().unwrap();
        *counted = (counted.0 + found, counted.1 + read);
        Ok(())
    };
    let prepared = prepare::own_images(&folders.list().expect("images"), rgb(), 4, &progress)
        .expect("prepared");
    assert_eq!(*counted.lock().unwrap(), (23, 23));
    // A fifth of 20 for test, a tenth of the other 16 for validation.
    assert_eq!((prepared.train_of(0).unwrap().n, prepared.val_of(0).unwrap().n), (15, 1));
    assert_eq!(prepared.class_names(), ["normal", "abnormal"]);
    assert_eq!(prepared.test().labels, [0, 0, 0, 0, 1, 1, 1]);
    let set = &prepared.test_sets()[0];
    assert_eq!((set.info.name.as_str(), &set.labels), ("normal", &vec![0, 0, 0, 0, 1, 1, 1]));
    let names = prepared.names().expect("names");
    assert_eq!(names.test[4..], ["abnormal/0.png", "abnormal/1.png", "abnormal/2.png"]);
    let mut all: Vec<_> = [&names.train[..], &names.val, &names.test[..4]].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), all[0].as_str()), (20, "normal/0/00.png"));
    assert_eq!(prepared.manifest().counts.test, [4, 3]);

    // With normal images for the test, all of the others train or validate.
    write_image(&at("more/x.png"), 5);
    let folders = Folders { normal_test: Some(at("more")), ..folders };
    let gray = Decode::new(1, Decode::MAX_PIXELS).unwrap();
    let gray = prepare::own_images(&folders.list().expect("images"), gray, 4, &|_, _| Ok(()))
        .expect("prepared");
    assert_eq!(
        (gray.train_of(0).unwrap().n, gray.val_of(0).unwrap().n, gray.channels()),
        (18, 2, 1)
    );
    assert_eq!(gray.names().unwrap().test[0], "normal_test/x.png");
    // 0.299 * 5 + 0.114 * 250 = 29.995.
    assert_eq!(gray.images_of(&gray.test_sets()[0]).image(0)[0], 30);
}

#[test]
fn an_mvtec_tree_gives_one_class_for_each_defect() {
    let dir = temp();
    let root = dir.path();
    for (name, value) in [
        ("train/good/0.png", 1),
        ("train/good/1.png", 2),
        ("train/good/2.png", 3),
        ("test/good/0.png", 4),
        ("test/scratch/0.png", 5),
        ("test/hole/0.png", 6),
        ("ground_truth/hole/0_mask.png", 7),
    ] {
        write_image(&root.join(name), value);
    }
    let prepared =
        prepare::own_images(&Listing::mvtec(root).expect("a tree"), rgb(), 0, &|_, _| Ok(()))
            .expect("prepared");
    assert_eq!(prepared.class_names(), ["normal", "hole", "scratch"]);
    assert_eq!(
        prepared.names().unwrap().test,
        ["normal_test/0.png", "hole/0.png", "scratch/0.png"]
    );
    assert_eq!(
        (&prepared.test().labels, &prepared.test_sets()[0].labels),
        (&vec![0, 1, 2], &vec![0, 1, 1])
    );
    error_with(Folders::mvtec(&root.join("test")), &["train", "good"]);
    fs::remove_dir_all(root.join("test/scratch")).unwrap();
    fs::remove_dir_all(root.join("test/hole")).unwrap();
    error_with(Folders::mvtec(root), &["no folder of defects"]);
}

#[test]
fn every_unreadable_image_is_named() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    (0..4).for_each(|i| write_image(&at(&format!("good/{i}.png")), i));
    write_image(&at("bad/0.png"), 1);
    let whole = fs::read(at("good/1.png")).unwrap();
    fs::write(at("good/1.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("good/3.png"), b"").unwrap();
    let folders = Folders {
        normal: at("good"),
        normal_test: None,
        abnormal: vec![("abnormal".into(), at("bad"))],
    };
    let error = error_with(own(&folders), &["2 of 4 images", "1.png: ", "3.png: "]);
    assert!(!error.to_string().contains("2.png"));
    fs::remove_file(at("good/1.png")).unwrap();
    fs::remove_file(at("good/3.png")).unwrap();
    error_with(own(&folders), &["good", "2 normal images", "at least 3"]);
    let nested =
        Folders { abnormal: vec![("abnormal".into(), at("good/../good"))], ..folders.clone() };
    error_with(own(&nested), &["one is inside the other"]);
    fs::create_dir(at("none")).unwrap();
    let empty = Folders { normal: at("none"), ..folders };
    error_with(own(&empty), &["none", "no image below it"]);
}

// ---- Contact sheets

#[test]
fn a_contact_sheet_shows_images_evenly_spread_in_rows() {
    let data = (0..10u8).flat_map(|i| [i, i + 100]).collect();
    let images = Images { data, n: 10, height: 1, width: 2, channels: 1 };
    let sheet = sheet::contact_sheet(&images, 5, 3, 2);
    // Two rows of three cells of 2 x 4 pixels, with gaps of 2.
    assert_eq!((sheet.height, sheet.width), (2 + 2 * 4, 2 + 3 * 6));
    let at = |y: usize, x: usize| sheet.data[y * sheet.width + x];
    assert_eq!(
        [at(2, 2), at(2, 5), at(3, 8), at(3, 17), at(6, 2), at(7, 9)],
        [0, 100, 2, 104, 6, 8]
    );
    assert_eq!([at(0, 0), at(2, 6), at(6, 14)], [128; 3]);
    let dir = temp();
    let path = dir.path().join("sheet.png");
    sheet::write_png(&path, &sheet).expect("written");
    assert_eq!(image::open(&path).expect("a PNG file").into_luma8().into_raw(), sheet.data);
    error_with(sheet::write_png(&dir.path().join("absent/sheet.png"), &sheet), &["absent"]);
}

// ---- The downloader

/// How the server answers one request.
#[derive(Clone)]
enum Reply {
    /// As it should, with ranges.
    Whole,
    /// As it should, but every request gets the whole file.
    WholeWithoutRanges,
    /// The headers promise everything, the connection closes after so many bytes.
    Cut(usize),
    /// After so many bytes nothing comes any more.
    Stall(usize),
    /// A byte now and then, as long as somebody listens.
    Trickle,
    /// No length is given, and the bytes don't end as long as somebody listens.
    Endless,
    /// The headers promise so many bytes more than the file has.
    Longer(usize),
    /// The first byte sent is wrong.
    Corrupt,
    /// From another position than the one asked for.
    WrongRange,
    /// Only this status.
    Status(u16),
    /// Go there.
    Redirect(String),
}

struct Server {
    url: String,
    /// The `Range` header of each request, or nothing, in order.
    ranges: Arc<Mutex<Vec<String>>>,
}

/// Serves `content`, one reply a connection; afterwards nobody listens any more.
fn serve(content: &[u8], replies: Vec<Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a local port");
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let (content, log) = (content.to_vec(), Arc::clone(&ranges));
    std::thread::spawn(move || {
        for reply in replies {
            let (stream, _) = listener.accept().expect("a connection");
            answer(stream, &content, &reply, &log);
        }
    });
    Server { url, ranges }
}

fn answer(mut stream: TcpStream, content: &[u8], reply: &Reply, log: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    assert!(request.starts_with("get /file.bin http/1.1"), "{request}");
    let range =
        request.lines().find_map(|line| line.strip_prefix("range: ")).unwrap_or("").to_string();
    log.lock().unwrap().push(range.clone());
    let from: usize =
        range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let mut send = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
        // The client may hang up first: that is its business.
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    };
    let ranged = from > 0 && !matches!(reply, Reply::WholeWithoutRanges);
    if ranged && from >= content.len() {
        return send("416 Range Not Satisfiable", "Content-Length: 0\r\n", b"");
    }
    let start = if ranged { from } else { 0 };
    let said = if matches!(reply, Reply::WrongRange) { start + 1 } else { start };
    let status = if ranged { "206 Partial Content" } else { "200 OK" };
    let length = format!("Content-Length: {}\r\n", content.len() - start);
    let range = format!("Content-Range: bytes {said}-{}/{}\r\n", content.len() - 1, content.len());
    let headers = if ranged { length + &range } else { length };
    match reply {
        Reply::Whole | Reply::WholeWithoutRanges | Reply::WrongRange => {
            send(status, &headers, &content[start..])
        }
        Reply::Cut(n) => send(status, &headers, &content[start..start + n]),
        Reply::Stall(n) => {
            send(status, &headers, &content[start..start + n]);
            std::thread::sleep(Duration::from_secs(60));
        }
        Reply::Trickle => {
            send(status, &headers, b"");
            for byte in &content[start..] {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Reply::Endless => {
            send(status, "", b"");
            while stream.write_all(&[0; 1 << 16]).is_ok() {}
        }
        Reply::Longer(n) => {
            send(status, &format!("Content-Length: {}\r\n", content.len() + n), content)
        }
        Reply::Corrupt => {
            let mut body = content[start..].to_vec();
            body[0] ^= 1;
            send(status, &headers, &body);
        }
        Reply::Status(code) => send(&format!("{code} No"), "Content-Length: 2\r\n", b"no"),
        Reply::Redirect(to) => {
            send("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n"), b"")
        }
    }
}

struct Download {
    dir: TempDir,
    content: Vec<u8>,
    md5: String,
    /// After so many bytes somebody asks to stop.
    stop_at: Option<u64>,
}

impl Download {
    fn new() -> Download {
        let dir = temp();
        let content: Vec<u8> =
            (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let path = dir.path().join("original");
        fs::write(&path, &content).unwrap();
        let md5 = md5_file(&path).unwrap();
        fs::remove_file(&path).unwrap();
        Download { dir, content, md5, stop_at: None }
    }

    fn serve(&self, replies: Vec<Reply>) -> Server {
        serve(&self.content, replies)
    }

    fn fetch(&self, servers: &[&Server]) -> (gradcon::Result<PathBuf>, Vec<Event>) {
        self.fetch_within(Duration::from_secs(30), servers)
    }

    fn fetch_within(
        &self,
        stall: Duration,
        servers: &[&Server],
    ) -> (gradcon::Result<PathBuf>, Vec<Event>) {
        let mirrors: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
        let urls = mirrors.iter().map(|url| format!("{url}/file.bin")).collect();
        let bytes = self.content.len() as u64;
        let remote = Remote { name: "file.bin".into(), bytes, md5: self.md5.clone(), urls };
        let patience = Patience { stall, least_rate: 1000, attempts: 3, pause: Duration::ZERO };
        let mut events = Vec::new();
        let result = fetch(&remote, self.dir.path(), &patience, &mut |event| {
            let stop = self
                .stop_at
                .is_some_and(|stop| matches!(event, Event::Progress(done, _) if done >= stop));
            events.push(event);
            if stop { Err(Error::Interrupted) } else { Ok(()) }
        });
        (result, events)
    }

    #[track_caller]
    fn assert_fetched(&self, result: gradcon::Result<PathBuf>) {
        let path = result.expect("a download");
        assert_eq!(path, self.dir.path().join("file.bin"));
        assert!(fs::read(path).unwrap() == self.content, "other content");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1, "only the file is left");
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("file.bin.part")
    }
}

fn ranges(server: &Server) -> Vec<String> {
    server.ranges.lock().unwrap().clone()
}

fn failures(events: &[Event]) -> Vec<&str> {
    let mut failures = Vec::new();
    for event in events {
        if let Event::Failed(why) = event {
            failures.push(why.as_str());
        }
    }
    failures
}

#[test]
fn a_download_arrives_is_counted_and_is_not_repeated() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert_eq!(events[0], Event::Request { url: format!("{}/file.bin", server.url), from: 0 });
    assert_eq!(events[1], Event::Progress(0, Some(300_000)));
    assert_eq!(events.last(), Some(&Event::Progress(300_000, Some(300_000))));
    // Nobody listens any more: the file is taken as it is.
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert!(events.is_empty());
}

#[test]
fn a_truncated_download_is_resumed() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::Cut(50_000), Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert_eq!(ranges(&server), ["", "bytes=100000-", "bytes=150000-"]);
    let failures = failures(&events);
    assert!(failures[0].contains("closed after 100000 of 300000 bytes"), "{failures:?}");
    assert!(failures[1].contains("closed after 150000 of 300000 bytes"), "{failures:?}");
}

#[test]
fn a_stalled_download_is_given_up_and_resumed() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Stall(70_000)]);
    let second = job.serve(vec![Reply::Whole]);
    let start = Instant::now();
    let (result, events) = job.fetch_within(Duration::from_millis(400), &[&server, &second]);
    // Three tries of 0.4 s on the first server, which stalls for a minute and meanwhile answers
    // nobody.
    assert!(start.elapsed() < Duration::from_secs(30), "waited {:?}", start.elapsed());
    job.assert_fetched(result);
    let failures = failures(&events);
    assert!(failures[0].contains("no data for 0.4 s after 70000 of 300000 bytes"), "{failures:?}");
    assert_eq!(ranges(&second), ["bytes=70000-"]);
}

#[test]
fn a_server_that_trickles_is_given_up() {
    let job = Download::new();
    let (slow, good) = (job.serve(vec![Reply::Trickle]), job.serve(vec![Reply::Whole]));
    let (result, events) = job.fetch_within(Duration::from_millis(200), &[&slow, &good]);
    job.assert_fetched(result);
    assert!(ranges(&good)[0].starts_with("bytes="), "what trickled in is kept");
    let failures = failures(&events);
    assert!(
        failures[0].contains("too slow: ") && failures[0].contains("at least 1000 a second"),
        "{failures:?}"
    );
}

#[test]
fn no_more_than_the_published_length_is_taken() {
    let job = Download::new();
    let (longer, endless) = (job.serve(vec![Reply::Longer(1)]), job.serve(vec![Reply::Endless]));
    let good = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&longer, &endless, &good]);
    job.assert_fetched(result);
    // Neither is asked again, and nothing of them is kept.
    let failures = failures(&events);
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].contains("another file: it has 300001 bytes, expected 300000"),
        "{failures:?}"
    );
    assert!(
        failures[1].contains("another file: it has more than the expected 300000 bytes"),
        "{failures:?}"
    );
    assert_eq!(ranges(&good), [""]);
    // The longer file was not even begun.
    let progress =
        events.iter().filter(|event| matches!(event, Event::Progress(_, Some(300_001)))).count();
    assert_eq!(progress, 0);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::WholeWithoutRanges]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["", "bytes=100000-"]);
}

#[test]
fn a_wrong_range_is_not_appended() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::WrongRange, Reply::Whole]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["", "bytes=100000-", ""]);
}

#[test]
fn corrupt_content_is_thrown_away_and_the_next_server_asked() {
    let job = Download::new();
    let (bad, good) = (job.serve(vec![Reply::Corrupt]), job.serve(vec![Reply::Whole]));
    let (result, events) = job.fetch(&[&bad, &good]);
    job.assert_fetched(result);
    assert_eq!(ranges(&good), [""]);
    let failures = failures(&events);
    assert!(
        failures[0].contains("wrong content: MD5") && failures[0].contains(&job.md5),
        "{failures:?}"
    );
    assert_eq!(failures.len(), 1);
}

#[test]
fn what_was_kept_is_thrown_away_if_it_was_the_wrong_part() {
    let job = Download::new();
    // Of another file, so the sum can't be right; then longer than the file.
    for kept in [vec![0; 1000], vec![0; 300_001]] {
        fs::write(job.part(), kept).unwrap();
        let server = job.serve(vec![Reply::Whole, Reply::Whole]);
        let (result, events) = job.fetch(&[&server]);
        job.assert_fetched(result);
        assert_eq!((ranges(&server).len(), failures(&events).len()), (2, 1));
        fs::remove_file(job.dir.path().join("file.bin")).unwrap();
    }
    // Complete already, only not renamed.
    fs::write(job.part(), &job.content).unwrap();
    let server = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert!(failures(&events).is_empty());
    assert_eq!(ranges(&server), ["bytes=300000-"]);
}

#[test]
fn redirects_are_followed_with_the_range() {
    let job = Download::new();
    let target = job.serve(vec![Reply::Cut(10), Reply::Whole]);
    let to = || Reply::Redirect(format!("{}/file.bin", target.url));
    let server = job.serve(vec![to(), to()]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&target), ["", "bytes=10-"]);
    let job = Download::new();
    let server = job.serve(vec![Reply::Redirect("/file.bin".into()); 11]);
    error_with(job.fetch(&[&server]).0, &["redirect"]);
}

#[test]
fn a_missing_file_is_asked_for_once_and_a_broken_server_again() {
    let job = Download::new();
    let missing = job.serve(vec![Reply::Status(404)]);
    let broken = job.serve(vec![Reply::Status(503); 3]);
    let gone = job.serve(vec![]);
    let (result, _) = job.fetch(&[&missing, &broken, &gone]);
    let error = error_with(
        result,
        &[
            "file.bin could not be downloaded",
            &format!("{}/file.bin: HTTP status 404\n", missing.url),
            &format!("{}/file.bin: HTTP status 503 (attempt 3)\n", broken.url),
            &format!("{}/file.bin: ", gone.url),
            "--mirror",
            "--from",
        ],
    );
    assert_eq!(error.exit_code(), 1);
    assert_eq!((ranges(&missing).len(), ranges(&broken).len()), (1, 3));
    assert_eq!(fs::read_dir(job.dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_arrived_is_kept_for_the_next_run() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000); 2]);
    let (result, _) = job.fetch(&[&server]);
    error_with(result, &["200000 bytes are kept in", "file.bin.part", "resume"]);
    let server = job.serve(vec![Reply::Whole]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["bytes=200000-"]);
}

#[test]
fn a_download_that_is_interrupted_keeps_what_arrived() {
    for stop in [0, 100_000] {
        let job = Download { stop_at: Some(stop), ..Download::new() };
        let (result, _) = job.fetch(&[&job.serve(vec![Reply::Whole])]);
        assert_eq!(error_with(result, &[]).exit_code(), 130);
        let kept = fs::metadata(job.part()).map_or(0, |part| part.len());
        assert_eq!(
            (kept >= stop, kept < job.content.len() as u64, job.part().exists()),
            (true, true, stop > 0)
        );
        let job = Download { stop_at: None, ..job };
        job.assert_fetched(job.fetch(&[&job.serve(vec![Reply::Whole])]).0);
    }
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let job = Download::new();
    let file = fs::File::create(job.part()).unwrap();
    file.lock().unwrap();
    error_with(
        job.fetch(&[&job.serve(vec![Reply::Whole])]).0,
        &["file.bin.part", "another process"],
    );
}

#[test]
fn published_checksums_are_sums_of_md5_and_addresses_are_whole() {
    let mut files = 0;
    for dataset in datasets::ALL.iter().filter_map(|dataset| dataset.ten_classes()) {
        for file in dataset.files {
            let (name, md5) = (file.name, file.md5);
            assert!(md5.len() == 32 && md5.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {md5}");
            for url in Remote::new(file, dataset.mirrors).urls {
                assert!(
                    url.starts_with("http")
                        && url.ends_with(&format!("/{name}"))
                        && !url[8..].contains("//"),
                    "{url}"
                );
            }
            files += 1;
        }
    }
    assert_eq!(files, 9);
}

#[test]
fn the_table_has_every_dataset_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/datasets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .filter(|stem| stem != "mod")
        .collect();
    files.sort();
    let mut rows: Vec<String> =
        datasets::ALL.iter().map(|dataset| dataset.name().replace('-', "_")).collect();
    rows.sort();
    assert_eq!(rows, files, "a row for each file");
    let names =
        || datasets::ALL.iter().flat_map(|dataset| [&[dataset.name()], dataset.aliases].concat());
    for (i, name) in names().enumerate() {
        assert!(!names().skip(i + 1).any(|other| other == name), "{name} means two datasets");
    }
}

#[test]
fn manifests_record_each_dataset_by_name_and_own_images_as_folder() {
    for dataset in datasets::ALL {
        let text = serde_json::to_string(&dataset).unwrap();
        let expected = if dataset.is_own() { "folder" } else { dataset.name() };
        assert_eq!(text, format!("\"{expected}\""));
        assert_eq!(serde_json::from_str::<Dataset>(&text).unwrap(), dataset.recorded());
    }
    assert!(serde_json::from_str::<Dataset>("\"mvtec\"").is_err());
}

#[test]
fn a_manifest_reads_back_as_written() {
    let dir = temp();
    let out = dir.path().join("out");
    small(Dataset::MNIST, u64::MAX, &[50]).write(&out, false).expect("written");
    let manifest = Manifest::read(&out).expect("a manifest");
    assert_eq!(manifest.seed, u64::MAX);
    assert_eq!(manifest.to_json().as_bytes(), fs::read(out.join("manifest.json")).unwrap());
    let listed = &manifest.files["val_labels.npy"];
    assert_eq!(listed.sha256, sha256_file(&out.join("val_labels.npy")).unwrap());
    assert_eq!(listed.bytes, fs::metadata(out.join("val_labels.npy")).unwrap().len());
}
