//! Image files of a user's own: finding them, decoding them as Pillow does, and the MVTec-style folder layout.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader};
use rayon::prelude::*;

use super::{Images, SIDE, resize};
use crate::{Error, Result};

/// The endings that are taken for images, in either case.
pub const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// Is told how many images were found, and how many were read, since it was called last.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Where a user's images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Normal images: to train on, to validate with and, without `normal_test`, to test with.
    pub normal: PathBuf,
    /// Normal images to test with.
    pub normal_test: Option<PathBuf>,
    /// Anomalous images by kind.
    pub abnormal: Vec<(String, PathBuf)>,
}

impl Folders {
    /// The folders of an MVTec-style tree: `train/good`, `test/good` and one folder in `test` for each kind of defect.
    ///
    /// # Errors
    /// `train/good` or every kind of defect is missing.
    pub fn mvtec(root: &Path) -> Result<Folders> {
        let normal = root.join("train").join("good");
        if !normal.is_dir() {
            return Err(Error::invalid(format!("{}: no such folder, expected normal images in it", normal.display())));
        }
        let test = root.join("test");
        let (mut normal_test, mut abnormal) = (None, Vec::new());
        for dir in entries(&test)?.into_iter().filter(|path| path.is_dir()) {
            match dir.file_name().unwrap_or_default().to_string_lossy() {
                name if name == "good" => normal_test = Some(dir),
                name => abnormal.push((name.into_owned(), dir)),
            }
        }
        if abnormal.is_empty() {
            return Err(Error::invalid(format!("{}: no folder of defects beside 'good' in it", test.display())));
        }
        Ok(Folders { normal, normal_test, abnormal })
    }

    /// Checks that no folder is inside another: its images would count twice, as normal and as anomalous.
    ///
    /// # Errors
    /// Names the two folders.
    pub fn check_disjoint(&self) -> Result<()> {
        let all =
            std::iter::once(&self.normal).chain(&self.normal_test).chain(self.abnormal.iter().map(|(_, dir)| dir));
        let real = all.map(|dir| Ok((dir, dir.canonicalize().map_err(Error::io(dir))?))).collect::<Result<Vec<_>>>()?;
        for (i, (a, real_a)) in real.iter().enumerate() {
            for (b, real_b) in &real[i + 1..] {
                if real_a.starts_with(real_b) || real_b.starts_with(real_a) {
                    return Err(Error::Usage(format!(
                        "{} and {}: one is inside the other, so images would be both in one class and in the other",
                        a.display(),
                        b.display()
                    )));
                }
            }
        }
        Ok(())
    }
}

/// All image files below `dir`, in the order of their paths; links are followed, but no folder is read twice.
///
/// # Errors
/// A folder can't be read, or there is no image at all.
pub fn find_images(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        if !seen.insert(folder.canonicalize().map_err(Error::io(&folder))?) {
            continue;
        }
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if is_image(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        let endings = EXTENSIONS.join(", ");
        return Err(Error::invalid(format!("{}: no image below it (files ending in {endings})", dir.display())));
    }
    found.sort();
    Ok(found)
}

/// Decodes the files and resizes each to 28 x 28: [paths.len(), 28, 28, channels]. With one channel, colours become
/// gray as Pillow's mode L does (299 red + 587 green + 114 blue of 1000); with three, gray becomes RGB. Transparency
/// is dropped, and so is the orientation that a camera noted; 16 bits are scaled to 8. PNG and BMP give Pillow's levels; the colours of a JPEG
/// file may be a few levels off, as decoders differ.
///
/// # Errors
/// Names every file that can't be read or decoded.
pub fn load(paths: &[PathBuf], channels: usize, progress: Progress) -> Result<Images> {
    progress(paths.len() as u64, 0);
    let decode = |path: &PathBuf| {
        let image = load_one(path, channels);
        progress(0, 1);
        image
    };
    let decoded: Vec<_> = paths.par_iter().map(decode).collect();
    let mut data = Vec::with_capacity(paths.len() * SIDE * SIDE * channels);
    let mut unreadable = Vec::new();
    for (path, image) in paths.iter().zip(decoded) {
        match image {
            Ok(image) => data.extend(image.data),
            Err(what) => unreadable.push(format!("{}: {what}", path.display())),
        }
    }
    if !unreadable.is_empty() {
        return Err(Error::invalid(format!(
            "{} of {} images can't be read\n  {}",
            unreadable.len(),
            paths.len(),
            unreadable.join("\n  ")
        )));
    }
    Ok(Images { data, n: paths.len(), height: SIDE, width: SIDE, channels })
}

/// One image [1, 28, 28, channels] from a file, as [`load`] makes it; the error is the decoder's reason.
///
/// # Errors
/// The file can't be read or decoded.
pub fn load_one(path: &Path, channels: usize) -> std::result::Result<Images, String> {
    let decode = || ImageReader::open(path)?.with_guessed_format()?.decode();
    let image = decode().map_err(|e| e.to_string())?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    if height == 0 || width == 0 {
        return Err("it has no pixels".into());
    }
    let gray = !image.color().has_color();
    let data = match (gray, channels) {
        (true, 1) => without_alpha(image).into_luma8().into_raw(),
        // The image crate's own conversion weighs the colours differently.
        (false, 1) => image.into_rgb8().pixels().map(|p| luma(p.0)).collect(),
        (_, 3) => image.into_rgb8().into_raw(),
        _ => panic!("load_one: {channels} channels, expected 1 or 3"),
    };
    Ok(resize::resize(&Images { data, n: 1, height, width, channels }, SIDE, SIDE))
}

fn without_alpha(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLumaA8(image) => {
            let (width, height) = image.dimensions();
            let gray = image.pixels().map(|p| p.0[0]).collect();
            let gray = image::GrayImage::from_raw(width, height, gray).expect("one value per pixel");
            DynamicImage::ImageLuma8(gray)
        }
        other => other,
    }
}

/// Pillow's mode L: the weights in 16-bit fixed point.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// The path of `path` below `dir`, with `prefix` before it and `/` between parts on every system.
pub(super) fn name_below(dir: &Path, path: &Path, prefix: &str) -> String {
    let below = path.strip_prefix(dir).expect("the file was found below the folder");
    let parts = below.components().map(|part| part.as_os_str().to_string_lossy());
    std::iter::once(prefix.into()).chain(parts).collect::<Vec<_>>().join("/")
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    path.is_file() && EXTENSIONS.contains(&ending.as_str())
}

/// What is directly in `dir`, sorted.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let mut paths = entries.map(|entry| Ok(entry.map_err(Error::io(dir))?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
