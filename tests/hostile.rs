//! Hostile input: bombs, absurd numbers and mutated files end in an error that names the file, in
//! bounded memory and without a panic.
//!
//! The allocator of this program counts what each thread holds, so that a bound on memory is a
//! number that a test compares.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use gradcon::Detector;
use gradcon::bench::record::{Kind, Record, Row, StepRow, Unit};
use gradcon::bench::stats::Summary;
use gradcon::data::{Manifest, Prepared, cifar, idx, npy, prepare, source};
use gradcon::engine::Timing;
use gradcon::engine::measure::Facts;
use gradcon::engine::tuned::{Key, TunedPlan};
use gradcon::kernels::{Kernel, Memory};
use gradcon::method::model::Model;
use gradcon::program::choices::{Choice, Choices};
use gradcon::report::epochs::read_epochs;
use gradcon::report::extremes::{Extreme, Extremes, read_extremes};
use gradcon::report::results::{About, ClassResult, Evaluation, Results};
use gradcon::report::scores::{ScoreRow, Scores, read_scores};
use gradcon::run::config::RunConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

#[path = "common/targets.rs"]
mod targets;

// ---- Memory

thread_local! {
    /// Bytes that this thread holds, and the most it held since it was asked last.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no counter any more.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        held.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: every call is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; the memory came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old memory is there until the new one is filled.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` returns, and the most bytes that this thread held for it at any moment.
fn held_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let result = work();
    let (_, peak) = HELD.with(Cell::get);
    (result, (peak - before) as usize)
}

const MIB: usize = 1 << 20;

/// The error of `work`, which names all of `parts` and never holds more than `most` bytes.
#[track_caller]
fn refused<T>(most: usize, parts: &[&str], work: impl FnOnce() -> gradcon::Result<T>) {
    let (result, held) = held_by(work);
    let error = result.map(|_| ()).expect_err("an error was expected").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in the message: {error}");
    }
    assert!(error.len() < 4000, "an error of {} bytes", error.len());
    assert!(held < most, "held {held} bytes, expected less than {most}");
}

// ---- Files

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A file that takes no place on the disk, whatever its length.
    fn hollow(&self, name: &str, start: impl AsRef<[u8]>, length: u64) -> PathBuf {
        let path = self.file(name, start);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        path
    }
}

/// `start` and then zeros, compressed. Packed like the work of somebody who means harm: a
/// thousandth of its length.
fn bomb(start: &[u8], zeros: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(start).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn idx_header(shape: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes
}

// ---- Bombs

#[test]
fn a_gzip_bomb_is_refused_by_its_header_or_at_the_first_byte_too_many() {
    let files = Files::new();
    // The header is honest: refused before a value is read.
    let path = files.file("honest.gz", bomb(&idx_header(&[1_000_000, 28, 28]), MIB as u64));
    refused(MIB, &["honest.gz", "784000000 bytes", "536870912"], || idx::read_images(&path));
    // The header lies: what follows is never unpacked.
    let path = files.file("lies.gz", bomb(&idx_header(&[1, 28, 28]), 64 << 20));
    refused(MIB, &["lies.gz", "more bytes of values, expected 784"], || idx::read_images(&path));
    // More labels than images.
    files.file("train-images-idx3-ubyte", [idx_header(&[1, 1, 1]), vec![0]].concat());
    files.file("train-labels-idx1-ubyte.gz", bomb(&idx_header(&[64 << 20]), 64 << 20));
    refused(MIB, &["train-labels-idx1-ubyte.gz", "67108864 labels, expected 1"], || {
        idx::read_split(files.0.path(), "train")
    });
    // A limit of one's own.
    let bytes = [idx_header(&[2, 10, 10]), vec![7; 200]].concat();
    assert_eq!(idx::images_from(&bytes[..], Path::new("x"), 200).expect("images").n, 2);
    refused(MIB, &["x: 200 bytes, expected at most 199"], || {
        idx::images_from(&bytes[..], Path::new("x"), 199)
    });
}

fn entry(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_tar_bomb_is_refused_at_the_limit() {
    let files = Files::new();
    let limit = 4 << 20;
    let name = Path::new("x.tar");
    let read = |bytes: &[u8]| cifar::archive_from(bytes, name, limit);
    // Beside the batches, which nobody asked for.
    let other = bomb(&entry("readme", tar::EntryType::Regular, 64 << 20), 64 << 20);
    refused(MIB, &["x.tar", "more than 4194304 bytes"], || read(&other));
    // A batch that says how large it is.
    let batch = bomb(&entry("data_batch_1.bin", tar::EntryType::Regular, 64 << 20), MIB as u64);
    refused(MIB, &["x.tar/data_batch_1.bin", "67108864 bytes", "4194304"], || read(&batch));
    // Many that are small enough.
    let mut many = Vec::new();
    for _ in 0..4 {
        many.extend(entry("data_batch_1.bin", tar::EntryType::Regular, 3073 * 500));
        many.extend(vec![0; (3073 * 500usize).next_multiple_of(512)]);
    }
    refused(12 * MIB, &["x.tar", "more than 4194304 bytes"], || read(&many));
    // A name that is too long for its place is read.
    let path = format!("{}/data_batch_1.bin\0", "folder".repeat(30));
    let mut long = entry("././@LongLink", tar::EntryType::GNULongName, path.len() as u64);
    long.extend(path.as_bytes());
    long.resize(1024, 0);
    long.extend(entry("folder", tar::EntryType::Regular, 5));
    long.extend([1; 512]);
    refused(MIB, &["x.tar/data_batch_1.bin: 5 bytes, expected a multiple of 3073"], || read(&long));
    // A name that takes all memory.
    let name = bomb(&entry("././@LongLink", tar::EntryType::GNULongName, 64 << 20), 64 << 20);
    refused(MIB, &["x.tar", "more than 4194304 bytes"], || read(&name));
    // In a file, with the limit that users meet.
    let path =
        files.file("x.tar.gz", bomb(&entry("data_batch_1", tar::EntryType::Regular, 4 << 30), 0));
    refused(MIB, &["x.tar.gz/data_batch_1", "4294967296 bytes", "536870912"], || {
        cifar::read(&path)
    });
}

#[test]
fn a_sparse_tar_entry_is_refused() {
    // 4.3 GB in one entry of 512 bytes: GNU's old format, one block at the end.
    let mut header = tar::Header::new_gnu();
    header.set_path("data_batch_1").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize.copy_from_slice(b"40000000000\0");
    gnu.sparse[0].offset.copy_from_slice(b"37777777000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    header.set_cksum();
    let bytes = [header.as_bytes().to_vec(), vec![1; 512], vec![0; 1024]].concat();
    refused(MIB, &["x.tar", "data_batch_1 is a sparse file"], || {
        cifar::archive_from(&bytes[..], Path::new("x.tar"), 1 << 30)
    });
    let link = [entry("data_batch_1", tar::EntryType::Symlink, 0), vec![0; 1024]].concat();
    refused(MIB, &["data_batch_1 is a link"], || {
        cifar::archive_from(&link[..], Path::new("x.tar"), 1 << 30)
    });
}

#[test]
fn a_pickle_builds_no_more_than_a_few_times_its_length() {
    let read = |bytes: &[u8]| cifar::batch_from(bytes, Path::new("data_batch_1"));
    let length = 200_000u32;
    let text = |bytes: &mut Vec<u8>| {
        bytes.push(b'X');
        bytes.extend(length.to_le_bytes());
        bytes.extend(vec![b'a'; length as usize]);
    };
    // Bytes made from remembered text, again and again: 3 bytes of pickle for 200,000 of memory.
    let mut encode = b"\x80\x02".to_vec();
    text(&mut encode);
    encode.extend(b"q\x01X\x06\0\0\0latin1q\x02c_codecs\nencode\nq\x03h\x01h\x02\x86q\x04");
    for _ in 0..10_000 {
        encode.extend(b"h\x03h\x04R");
    }
    refused(2 * MIB, &["data_batch_1", "builds more than 4 times"], || read(&encode));
    // Arrays of remembered bytes, in Fortran order, which means a copy of each.
    let mut arrays = b"\x80\x02c_codecs\nencode\n".to_vec();
    text(&mut arrays);
    arrays.extend(b"X\x06\0\0\0latin1\x86Rq\x01cnumpy.core.multiarray\n_reconstruct\n");
    arrays.extend(b"q\x02cnumpy\nndarray\n\x85q\x03");
    arrays.extend(b"cnumpy\ndtype\nX\x02\0\0\0u1\x85Rq\x04J\x40\x0d\x03\0K\x01\x86q\x05");
    arrays.extend(b"(K\x01h\x05h\x04\x88h\x01tq\x06");
    for _ in 0..10_000 {
        arrays.extend(b"h\x02h\x03Rh\x06b");
    }
    refused(3 * MIB, &["data_batch_1", "builds more than 4 times"], || read(&arrays));
    // Values of one byte each.
    for instruction in [&b"N"[..], b"(", b"]", b"\x94"] {
        let many = [b"\x80\x04N", &instruction.repeat(3_000_000)[..]].concat();
        refused(200 * MIB, &["data_batch_1", "more than 1048576 instructions"], || read(&many));
    }
    // Names in errors.
    let long = [b"\x80\x02c", &vec![b'm'; 100 * MIB][..], b"\nf\n"].concat();
    refused(MIB, &["it calls mmm"], || read(&long));
    let call = [b"c_codecs\nencode\nX\0\0\0\x06", &vec![b'm'; 100 * MIB][..], b"\x85R."].concat();
    refused(MIB, &["not a CIFAR pickle"], || read(&call));
}

#[test]
fn a_folder_of_batches_is_bounded_as_a_whole() {
    let files = Files::new();
    files.hollow("test_batch", b"\x80\x02", 3 << 30);
    refused(MIB, &["test_batch", "3221225472 bytes", "536870912"], || cifar::read(files.0.path()));
}

#[test]
fn numpy_files_are_refused_by_their_header() {
    let files = Files::new();
    let array = |shape: &str| {
        let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        [&b"\x93NUMPY\x01\0"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    };
    let path = files.hollow("values.npy", array("(20000000000,)"), 20_000_000_100);
    refused(MIB, &["values.npy", "20000000000 bytes", "8589934592"], || npy::read_u8::<1>(&path));
    let path = files.hollow("header.npy", b"\x93NUMPY\x02\0\xf0\xff\xff\xff", 5 << 30);
    refused(MIB, &["header.npy", "4294967280 bytes", "10000"], || npy::read_u8::<1>(&path));
    let many = format!("({})", "1,".repeat(2000));
    refused(MIB, &["FILE", "expected 2 dimensions"], || {
        npy::u8_from::<2>(&array(&many)[..], Path::new("FILE"))
    });
    let text = array("(1,)")
        .iter()
        .map(|&b| char::from(b))
        .collect::<String>()
        .replace("|u1", &"x".repeat(2000));
    let header = text.chars().skip(10).collect::<String>();
    let bytes =
        [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    refused(MIB, &["FILE: values of type xxx", "\u{2026}"], || {
        npy::u8_from::<1>(&bytes[..], Path::new("FILE"))
    });
}

#[test]
fn files_of_absurd_size_are_refused_before_they_are_read() {
    let files = Files::new();
    let huge = 20 << 30;
    let path = |name: &str| files.hollow(name, b"{", huge);
    let size = huge.to_string();
    let dir = files.0.path();
    path("manifest.json");
    refused(MIB, &["manifest.json", &size], || Manifest::read(dir));
    refused(MIB, &["results.json", &size], || Results::read(&path("results.json")));
    refused(MIB, &["extremes.json", &size], || read_extremes(&path("extremes.json")));
    refused(MIB, &["old.json", &size], || Record::read(&path("old.json")));
    refused(MIB, &["metrics.csv", &size], || read_epochs(&path("metrics.csv")));
    refused(MIB, &["scores.csv", &size], || read_scores(&path("scores.csv")));
    path("config.toml");
    refused(MIB, &["config.toml", &size], || RunConfig::read(dir));
    refused(MIB, &["user.toml", &size], || RunConfig::read_settings(&path("user.toml")));
    refused(MIB, &["model.safetensors", &size], || Detector::load(&path("model.safetensors")));
    let header = files.hollow("header.safetensors", (50u64 << 20).to_le_bytes(), 60 << 20);
    refused(70 * MIB, &["header.safetensors", "52428800 bytes", "1048576"], || {
        Detector::load(&header)
    });
}

#[test]
fn a_prepared_folder_is_bounded_by_its_manifest() {
    let files = Files::new();
    let dir = files.path("data");
    prepare::fashion_subset(0, &[50]).unwrap().write(&dir, false).unwrap();
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    // An array longer than the manifest says is not read.
    let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (5000000, 28, 28, 1), }\n";
    let header =
        [&b"\x93NUMPY\x01\0"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
    files.hollow("data/train_images.npy", header, 3_920_000_084);
    refused(
        MIB,
        &["train_images.npy", "shape [5000000, 28, 28, 1]", "as the manifest says"],
        || Prepared::open(&dir),
    );
    let edited = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        let text = manifest.replacen(from, to, 1);
        Manifest::parse(text.as_bytes(), Path::new("FILE"))
    };
    let counts = |to: &str| {
        let start = manifest.find("\"train\": [").unwrap() + 10;
        let number = manifest[start..].split(',').next().unwrap().trim().to_string();
        let text = format!(
            "{}{to}{}",
            &manifest[..start],
            &manifest[start..].trim_start()[number.len()..]
        );
        Manifest::parse(text.as_bytes(), Path::new("FILE"))
    };
    refused(MIB, &["FILE", "images of a class"], || counts("18446744073709551615"));
    refused(MIB, &["FILE", "18446744073709551615 normal"], || {
        let at = manifest.find("\"normal\": ").unwrap() + 10;
        let number = manifest[at..].split(',').next().unwrap();
        edited(&format!("\"normal\": {number},"), "\"normal\": 18446744073709551615,")
    });
    refused(MIB, &["FILE", "a test set named ../../etc"], || {
        let text = manifest.replace("class0_ratio50", "../../etc");
        Manifest::parse(text.as_bytes(), Path::new("FILE"))
    });
    let long = "x".repeat(MIB);
    refused(8 * MIB, &["FILE", "more than 255 letters"], || {
        edited("\"Bag\"", &format!("\"{long}\""))
    });
    refused(8 * MIB, &["FILE", "unknown variant `xxx"], || {
        edited("\"fmnist\"", &format!("\"{long}\""))
    });
    refused(8 * MIB, &["FILE", "unknown field `xxx"], || {
        edited("\"seed\"", &format!("\"{long}\""))
    });
}

#[test]
fn foreign_text_in_errors_is_cut() {
    let long = "x".repeat(MIB);
    let name = Path::new("FILE");
    refused(16 * MIB, &["FILE", "xxx", "\u{2026}"], || {
        RunConfig::parse(&format!("{long} = 1"), name)
    });
    refused(16 * MIB, &["FILE:1: header \"xxx"], || {
        gradcon::report::epochs::epochs_from(long.as_bytes(), name)
    });
    let header = gradcon::report::scores::COLUMNS.join(",");
    let row = format!("{header},cos_a\na,{long},,1,1,1,1\n");
    refused(16 * MIB, &["FILE:2: label is \"xxx"], || {
        gradcon::report::scores::scores_from(row.as_bytes(), name)
    });
    refused(16 * MIB, &["FILE", "unknown field `xxx"], || {
        Results::parse(format!("{{\"schema_version\":2,\"{long}\":1}}").as_bytes(), name)
    });
    let tensor = |tensor: &str, shape: &str, end: usize| {
        let header = format!(
            "{{\"{tensor}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"
        );
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; end]].concat()
    };
    let ones = format!("[{}1]", "1,".repeat(100_000));
    refused(16 * MIB, &["FILE", "down.0.weight has shape [1, 1", "\u{2026}"], || {
        Detector::parse(&tensor("down.0.weight", &ones, 4), name)
    });
    // A shape without elements claims any number of channels.
    refused(MIB, &["FILE", "down.0.weight has shape [32, 1000000000000, 0, 4]"], || {
        Detector::parse(&tensor("down.0.weight", "[32,1000000000000,0,4]", 0), name)
    });
}

#[test]
fn an_index_of_extremes_embeds_few_and_finite() {
    let name = Path::new("FILE");
    let extremes = |count: usize| Extremes {
        error_scale: 1.0,
        most_normal: vec![extreme(); count],
        most_anomalous: vec![],
        missed: vec![],
        false_alarms: vec![],
    };
    let json = |count| serde_json::to_vec(&extremes(count)).unwrap();
    let read = |bytes: &[u8]| gradcon::report::extremes::extremes_from(bytes, name);
    assert_eq!(read(&json(3)).expect("an index"), extremes(3));
    refused(8 * MIB, &["FILE", "1001 images"], || read(&json(1001)));
    // In 32 bits it is infinite.
    let text =
        String::from_utf8(json(1)).unwrap().replace("\"error_scale\":1.0", "\"error_scale\":1e39");
    refused(MIB, &["FILE", "out of range"], || read(text.as_bytes()));
}

fn extreme() -> Extreme {
    let file = |name: &str| PathBuf::from(name);
    Extreme {
        image: "a".into(),
        label: Some(0),
        class: Some("bag".into()),
        score: 0.5,
        input: file("i.png"),
        reconstruction: file("r.png"),
        error: file("e.png"),
        overlay: None,
    }
}

#[test]
fn numbers_of_any_size_make_a_page_in_which_all_are_numbers() {
    use gradcon::report::epochs::COLUMNS;
    let header = COLUMNS.join(",");
    let values =
        ["1e300", "-1e300", "1.7e308", "-1.7e308", "5e-324", "-5e-324", "0", "1", "1e-300"];
    let epochs = ["1", "2", "18446744073709551615", "9007199254740993"];
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..300 {
        let mut text = format!("{header}\n");
        for _ in 0..rng.random_range(1..20) {
            let mut value = || values[rng.random_range(0..values.len())];
            let numbers: Vec<&str> = (0..11).map(|_| value()).collect();
            let epoch = epochs[rng.random_range(0..epochs.len())];
            text += &format!("{epoch},{},{}\n", numbers.join(","), rng.random_range(0..2));
        }
        targets::metrics(text.as_bytes());
    }
    let header = gradcon::report::scores::COLUMNS.join(",");
    for _ in 0..300 {
        let mut text = format!("{header}\n");
        for i in 0..rng.random_range(2..20) {
            let mut value = || values[rng.random_range(0..values.len())];
            let numbers: Vec<&str> = (0..7).map(|_| value()).collect();
            text += &format!("a,{},,{}\n", i % 2, numbers.join(","));
        }
        targets::scores(text.as_bytes());
    }
}

// ---- What people have met

#[test]
fn a_download_page_an_empty_file_and_swapped_files_are_no_idx_files() {
    let files = Files::new();
    let images = [idx_header(&[20, 28, 28]), vec![9; 20 * 784]].concat();
    let labels = [idx_header(&[20]), (0..20).map(|i| i % 10).collect()].concat();
    let parts = [
        ("train-images-idx3-ubyte", &images),
        ("train-labels-idx1-ubyte", &labels),
        ("t10k-images-idx3-ubyte", &images),
        ("t10k-labels-idx1-ubyte", &labels),
    ];
    let read = |first: &[u8]| {
        parts.iter().for_each(|(name, bytes)| drop(files.file(name, bytes)));
        files.file("train-images-idx3-ubyte", first);
        source::read(gradcon::data::Dataset::MNIST, files.0.path())
    };
    assert!(read(&images).is_ok());
    for wrong in [&b"<!DOCTYPE html><html>404</html>"[..], b"", &images[..3000], &labels] {
        refused(MIB, &["train-images-idx3-ubyte"], || read(wrong));
    }
}

#[test]
fn cut_empty_and_pointer_files_are_no_models() {
    let files = Files::new();
    let path = files.path("model");
    detector(1).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(Detector::load(&path).is_ok());
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    for wrong in [&whole[..5000], &whole[..whole.len() - 1], b"", pointer] {
        let path = files.file("wrong", wrong);
        refused(4 * MIB, &["wrong"], || Detector::load(&path));
    }
}

#[test]
fn models_of_half_precision_or_with_a_prefix_are_refused_by_name() {
    let name = Path::new("FILE");
    let header = r#"{"down.0.weight":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"12"].concat();
    refused(MIB, &["FILE", "down.0.weight", "F16", "expected F32"], || {
        Detector::parse(&bytes, name)
    });
    let header = r#"{"module.down.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"1234"].concat();
    refused(MIB, &["FILE", "no tensor 'down.0.weight'"], || Detector::parse(&bytes, name));
}

fn detector(channels: usize) -> Detector {
    let model = Model::new(channels);
    let value = |i: usize| (i % 13) as f32 / 100.0;
    let (params, reference) =
        ((0..model.len()).map(value).collect(), (0..model.reference_len()).map(value).collect());
    Detector { model, params, reference, statistics: None, description: Default::default() }
}

#[test]
fn a_name_that_cannot_be_resolved_is_asked_for_once() {
    let files = Files::new();
    // No label of a name is that long: no server needs to be asked.
    let mirror = format!("http://{}.invalid/", "x".repeat(80));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gradcon"));
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command.args(["prep", "mnist", "--mirror", &mirror, "--cache"]).arg(files.path("cache"));
    let output = command.arg("--out").arg(files.path("out")).output().expect("the program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("Downloading").count(), 1, "{text}");
    assert!(text.contains("can't be resolved") && text.contains("--from"), "{text}");
}

// ---- Mutations

/// Seeds that would be out of date if they were files, or too large.
fn made(target: &str) -> Vec<Vec<u8>> {
    match target {
        "manifest" => {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("data");
            prepare::fashion_subset(0, &[50]).unwrap().write(&dir, false).unwrap();
            vec![std::fs::read(dir.join("manifest.json")).unwrap()]
        }
        "results" => {
            let row = |i: u32| ScoreRow {
                image: i.to_string(),
                label: Some(u8::from(i > 5)),
                class: None,
                score: f64::from(i),
                mse: 0.1,
                cos: -f64::from(i % 3),
                cosines: vec![0.0; 4],
                more: vec![f64::from(i)],
            };
            let rows = (0..10).map(row).collect();
            let scores = Scores { layers: vec![], more: vec!["code".into()], rows };
            let class = |name: &str| {
                let evaluations = vec![Evaluation::of(50.0, &scores, Some((10, 1))).unwrap()];
                ClassResult {
                    class: name.into(),
                    epochs: Some(4),
                    best_epoch: Some(3),
                    stopped_early: None,
                    explained_variance: None,
                    tiles: None,
                    training_seconds: None,
                    validation: None,
                    evaluations,
                }
            };
            let text = |about: About| {
                let results = Results::new(about, vec![class("a"), class("b")], vec![]).unwrap();
                serde_json::to_vec_pretty(&results).unwrap()
            };
            vec![text(targets::about())]
        }
        "measurement" => {
            let values = || Summary::of(vec![3.0, 1.5, 2.0]);
            let row = Row::new(Kind::Step, "training", "5 steps", Unit::Images);
            let step = Some(StepRow { dispatches: 40, waits: 30, gflops: Some(1.5) });
            let row = Row { step, ..row.measured(values(), Timing::Wall) };
            let peak = Row::new(Kind::Peak, "read DRAM", "256 MiB", Unit::Gbytes);
            let rows = vec![row, peak.measured(values(), Timing::Device)];
            let record = Record::new("steps", Facts::default(), "a device".into(), rows);
            vec![record.to_json().unwrap()]
        }
        "tuned" => {
            let here = ["adapter", "Vulkan", "driver", "30.0.2", "0123", "45"].map(String::from);
            let [adapter, backend, driver, wgpu, kernels, default_rule] = here;
            let key = Key { adapter, backend, driver, wgpu, kernels, default_rule };
            let fill = Kernel::Memory(Memory::Fill { len: 5, value: 1.0 });
            let choices = Choices(vec![Choice::new(&fill, 2, "wide")]);
            let measured = serde_json::json!([{ "us": [1.5, 2.0] }]);
            vec![TunedPlan::new(key, choices, measured).to_json().unwrap()]
        }
        "safetensors" => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model");
            detector(1).save(&path).unwrap();
            vec![std::fs::read(path).unwrap()]
        }
        _ => vec![],
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile").join(target);
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![],
    };
    // The order of a folder is the file system's: the mutations should be the same everywhere.
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    seeds.extend(made(target));
    assert!(!seeds.is_empty(), "{target}: no seed");
    seeds
}

/// A few changes of the kinds that fuzzers make, at the start more often than elsewhere.
fn mutate(seed: &[u8], other: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let near = rng.random_bool(0.5);
        let end = if near { bytes.len().min(200) } else { bytes.len() };
        let at = rng.random_range(0..=end);
        let length = rng.random_range(0..=16.min(bytes.len() - at));
        match rng.random_range(0..7) {
            0 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.random()),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let part = bytes[at..at + length].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let words: [&[u8]; 8] = [
                    b"\xff\xff\xff\xff",
                    b"\0\0\0\0",
                    b"1e300",
                    b"-1",
                    b"99999999999999999999",
                    b"NaN",
                    b"\"",
                    b"\x7f\xff",
                ];
                let word = words[rng.random_range(0..words.len())];
                bytes.splice(at..at + length.min(word.len()), word.iter().copied());
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

/// Most that a target may hold: the limit that targets give, a few copies, and a page.
const HELD_BY_A_TARGET: usize = 24 * MIB;
/// The decoder of TIFF may hold so much while it reads the tags of a file (seeds `tiff-*-mib` are
/// 300 bytes long).
const HELD_BY_A_PICTURE: usize = 256 * MIB;

fn run(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let (outcome, held) = held_by(|| catch_unwind(AssertUnwindSafe(|| target(bytes))));
    let most = if name == "picture" { HELD_BY_A_PICTURE } else { HELD_BY_A_TARGET };
    let complaint = match outcome {
        Err(_) => "panicked".to_string(),
        Ok(()) if held > most + 8 * bytes.len() => format!("held {held} bytes"),
        Ok(()) => return,
    };
    let path = std::env::temp_dir().join(format!("gradcon-hostile-{name}"));
    std::fs::write(&path, bytes).unwrap();
    panic!("{name} {complaint}; the input is kept in {}", path.display());
}

#[test]
fn no_mutation_of_a_seed_makes_a_reader_panic_or_hold_much() {
    for (name, target) in targets::ALL {
        let seeds = seeds(name);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        seeds.iter().for_each(|seed| run(name, target, seed));
        // Large seeds take their time.
        let budget = 4_000_000 / seeds.iter().map(Vec::len).max().unwrap_or(1);
        for _ in 0..budget.clamp(50, 3000) {
            let [seed, other] = [0, 1].map(|_| rng.random_range(0..seeds.len()));
            run(name, target, &mutate(&seeds[seed], &seeds[other], &mut rng));
        }
    }
}

/// The seeds of every target as files, for `tools/fuzz.sh` below the folder that GRADCON_SEEDS
/// names.
#[test]
fn seeds_for_fuzzing() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("GRADCON_SEEDS")
        .map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    for (name, _) in targets::ALL {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, seed) in seeds(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i:02}")), seed).unwrap();
        }
    }
}
