//! The data room: a file for each room in it, and what they share.

mod cifar;
mod cure_tsr;
mod datasets;
mod download;
mod embedded;
mod folder;
mod idx;
mod manifest;
mod npy;
mod pickle;
mod picture;
mod prepare;
mod prepared;
mod resize;
mod source;
mod split;
#[path = "../common/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use gradcon::Error;
use gradcon::data::folder::Decode;
use gradcon::data::manifest::Source;
use gradcon::data::{self, Dataset, Images, Labelled, Prepared};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn load_images(path: &Path) -> Images {
    let ([n, height, width, channels], data) = data::npy::read_u8(path).expect("a fixture");
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

/// 10 classes, class k with `counts(k)` members, interleaved.
fn ten_labels(count: impl Fn(u8) -> usize) -> Vec<u8> {
    let most = (0..10).map(&count).max().unwrap_or(0);
    (0..most).flat_map(|i| (0..10).filter(|&k| i < count(k)).collect::<Vec<_>>()).collect()
}

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
    data::prepare::ten_classes(dataset, train, test, no_source(), seed, ratios)
        .expect("a prepared dataset")
}

fn write_image(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // What counts is the content, so a BMP is as good in a file of another name.
    let format = image::ImageFormat::from_path(path).unwrap();
    let format = if format == image::ImageFormat::Jpeg { image::ImageFormat::Bmp } else { format };
    image::RgbImage::from_pixel(9, 7, image::Rgb([value, 0, 255 - value]))
        .save_with_format(path, format)
        .unwrap();
}

fn rgb() -> Decode {
    Decode::new(3, Decode::MAX_PIXELS).unwrap()
}
