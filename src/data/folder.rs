//! A user's own picture files, in folders: which are normal, and which are not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::picture::{self, Aspect};
pub use super::picture::{Decode, Progress};
pub use super::walk::{EXTENSIONS, LeftOut, Tally, Walk, Why};
use super::walk::{is_hidden, is_picture, no_image};
use crate::error::{Error, Result};
use crate::output::path_text;

/// Where a user's images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Normal images: to train on, to validate with and, without `normal_test`, to test with.
    pub normal: PathBuf,
    /// Normal images to test with.
    pub normal_test: Option<PathBuf>,
    /// Anomalous images by kind; of none there is nothing to test with.
    pub abnormal: Vec<(String, PathBuf)>,
}

/// A user's images, found but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Normal images: to train on, to validate with and, without `normal_test`, to test with.
    pub normal: Found,
    /// Normal images to test with.
    pub normal_test: Option<Found>,
    /// Anomalous images by kind.
    pub abnormal: Vec<(String, Found)>,
    /// Where pictures of the defects' places are, if they are anywhere: of `DEFECT/a/7.png`,
    /// `DEFECT/a/7_mask.png` or `7.png` below it, with any ending of pictures.
    pub masks: Option<PathBuf>,
    /// What else is there.
    pub left_out: Tally,
    /// What looks like a mistake.
    pub warnings: Vec<String>,
}

/// The images below one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder.
    pub dir: PathBuf,
    /// The files, in order.
    pub paths: Vec<PathBuf>,
}

/// Whether a folder of this name holds normal images: good, normal or ok, in either case, also with
/// a number before it (`0.normal`).
pub fn is_normal(name: &str) -> bool {
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || ".-_ ".contains(c));
    ["good", "normal", "ok"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

impl Folders {
    /// The folders of an MVTec-style tree: normal images in `train/good` and `test/good` (or
    /// `normal` or `ok`, in either case), and one folder in `test` for each kind of defect. Without
    /// `test` there are normal images only.
    ///
    /// # Errors
    /// No folder of normal images or no kind of defect is there, or there are two folders of normal
    /// images, as nobody knows which is meant.
    pub fn mvtec(root: &Path) -> Result<Folders> {
        let (train, test) = (root.join("train"), root.join("test"));
        let Some(normal) = normal_in(&train)? else {
            return Err(Error::invalid(format!(
                "{}: no such folder, expected normal images in it",
                train.join("good").display()
            )));
        };
        if !test.exists() {
            return Ok(Folders { normal, normal_test: None, abnormal: vec![] });
        }
        let normal_test = normal_in(&test)?;
        let mut abnormal: Vec<(String, PathBuf)> = Vec::new();
        for dir in folders_in(&test)?.into_iter().filter(|dir| Some(dir) != normal_test.as_ref()) {
            let name = name_of(&dir);
            if let Some((_, other)) = abnormal.iter().find(|(known, _)| *known == name) {
                return Err(Error::invalid(format!(
                    "{} and {}: their names can't be told apart once they are text",
                    other.display(),
                    dir.display()
                )));
            }
            abnormal.push((name, dir));
        }
        if abnormal.is_empty() {
            return Err(Error::invalid(format!(
                "{}: no folder of defects beside 'good' in it; a tree without {0} is one of normal \
                 images only",
                test.display()
            )));
        }
        Ok(Folders { normal, normal_test, abnormal })
    }

    /// All folders.
    fn all(&self) -> impl Iterator<Item = &Path> {
        let abnormal = self.abnormal.iter().map(|(_, dir)| dir.as_path());
        std::iter::once(self.normal.as_path()).chain(self.normal_test.as_deref()).chain(abnormal)
    }

    /// Checks that no folder is inside another: its images would count twice, as normal and as
    /// anomalous.
    ///
    /// # Errors
    /// Names the two folders.
    pub fn check_disjoint(&self) -> Result<()> {
        let real = self.all().map(|dir| Ok((dir, dir.canonicalize().map_err(Error::io(dir))?)));
        let real = real.collect::<Result<Vec<_>>>()?;
        for (i, (a, real_a)) in real.iter().enumerate() {
            for (b, real_b) in &real[i + 1..] {
                if real_a.starts_with(real_b) || real_b.starts_with(real_a) {
                    return Err(Error::Usage(format!(
                        "{} and {}: one is inside the other, so images would be both in one class \
                         and in the other",
                        a.display(),
                        b.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Finds the images of all folders.
    ///
    /// # Errors
    /// A folder can't be read, has no image, or is inside another; or an image is reached by way of
    /// two folders, by links.
    pub fn list(&self) -> Result<Listing> {
        self.check_disjoint()?;
        let mut left_out = Tally::default();
        let mut find =
            |dir: &PathBuf| Ok(Found { dir: dir.clone(), paths: find_images(dir, &mut left_out)? });
        let normal = find(&self.normal)?;
        let normal_test = self.normal_test.as_ref().map(&mut find).transpose()?;
        let abnormal = self.abnormal.iter().map(|(kind, dir)| Ok((kind.clone(), find(dir)?)));
        let abnormal = abnormal.collect::<Result<Vec<_>>>()?;
        let warnings =
            abnormal.iter().filter_map(|(kind, found)| found.normal_by_name(kind)).collect();
        let listing = Listing { normal, normal_test, abnormal, masks: None, left_out, warnings };
        listing.check_links()?;
        Ok(listing)
    }
}

/// How large pictures are, in pixels [height, width].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the middle one.
    middle: [usize; 2],
    /// Of one that is no square.
    odd: Option<([usize; 2], PathBuf)>,
}

impl Sizes {
    /// What becomes of such pictures, if a user might not expect it.
    pub(super) fn note(&self, decode: &Decode) -> Option<String> {
        let ([height, width], size) = (self.middle, decode.size());
        let much_smaller = height.min(width) > 4 * size;
        let mut parts = vec![];
        if let Some(([height, width], path)) = &self.odd {
            let (what, others) = match decode.aspect() {
                Aspect::Squash => ("squashed to squares", "--aspect pad or crop keeps proportions"),
                Aspect::Pad => ("filled up to squares", "--aspect pad"),
                Aspect::Crop => ("cut to squares: their ends are not seen", "--aspect crop"),
            };
            let path = path.display();
            parts.push(format!(
                "pictures that are no squares ({path}: {width} x {height}) are {what} ({others})"
            ));
        }
        if much_smaller {
            parts.push(format!(
                "pictures of about {width} x {height} pixels are reduced to {size} x {size}, where \
                 what is small disappears (--size and --tiles keep more)"
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Found {
    /// A warning if some of these images, which count as anomalous, are in a folder of normal ones
    /// by its name.
    fn normal_by_name(&self, kind: &str) -> Option<String> {
        let is_below_normal = |path: &PathBuf| {
            let folders = path.parent().and_then(|parent| parent.strip_prefix(&self.dir).ok());
            folders.is_some_and(|folders| {
                folders.iter().any(|name| is_normal(&name.to_string_lossy()))
            })
        };
        let normal: Vec<&PathBuf> =
            self.paths.iter().filter(|path| is_below_normal(path)).collect();
        let first = normal.first()?.display();
        Some(format!(
            "{}: {} images count as anomalous ({kind}) but are in a folder of normal ones by its \
             name, such as {first}",
            self.dir.display(),
            normal.len()
        ))
    }
}

impl Listing {
    /// The images of an MVTec-style tree (see [`Folders::mvtec`]). Pictures and folders in `train`
    /// and `test` that are not used are left out by name.
    ///
    /// # Errors
    /// As [`Folders::mvtec`] and [`Folders::list`].
    pub fn mvtec(root: &Path) -> Result<Listing> {
        let folders = Folders::mvtec(root)?;
        let mut listing = folders.list()?;
        let masks = root.join("ground_truth");
        listing.masks = masks.is_dir().then_some(masks);
        let used: Vec<&Path> = folders.all().collect();
        for dir in ["train", "test"] {
            let there = root.join(dir);
            let inside = if there.is_dir() { entries(&there)? } else { vec![] };
            for path in inside.into_iter().filter(|path| !used.contains(&path.as_path())) {
                if path.is_dir() || is_picture(&path) {
                    listing.left_out.add(&LeftOut { path, why: Why::Unused });
                }
            }
        }
        Ok(listing)
    }

    /// How large the first of the normal pictures are.
    pub(super) fn sizes(&self) -> Option<Sizes> {
        const FIRST: usize = 100;
        let first = &self.normal.paths[..FIRST.min(self.normal.paths.len())];
        let sizes = first.iter().filter_map(|path| Some((picture::size(path)?, path.clone())));
        let mut sizes: Vec<([usize; 2], PathBuf)> = sizes.collect();
        sizes.sort_by_key(|([height, width], _)| height * width);
        let (middle, _) = *sizes.get(sizes.len() / 2)?;
        let odd = sizes.into_iter().find(|([height, width], _)| height != width);
        Some(Sizes { middle, odd })
    }

    /// Checks that no image is reached by way of two folders.
    fn check_links(&self) -> Result<()> {
        let mut seen: HashMap<PathBuf, (usize, &Path)> = HashMap::new();
        let abnormal = self.abnormal.iter().map(|(_, found)| found);
        let parts = std::iter::once(&self.normal).chain(&self.normal_test).chain(abnormal);
        for (part, path) in parts
            .enumerate()
            .flat_map(|(part, found)| found.paths.iter().map(move |path| (part, path)))
        {
            let real = path.canonicalize().map_err(Error::io(path))?;
            match seen.get(&real) {
                Some((other, first)) if *other != part => {
                    return Err(Error::invalid(format!(
                        "{} and {} are the same file by way of a link, so the image would be both \
                         in one class and in the other",
                        first.display(),
                        path.display()
                    )));
                }
                _ => seen.insert(real, (part, path)),
            };
        }
        Ok(())
    }
}

/// The folder of normal images in `dir`, if there is one.
fn normal_in(dir: &Path) -> Result<Option<PathBuf>> {
    let mut normal = folders_in(dir)?.into_iter().filter(|path| is_normal(&name_of(path)));
    match (normal.next(), normal.next()) {
        (Some(a), Some(b)) => Err(Error::invalid(format!(
            "{} and {}: both are folders of normal images by their names; which one is meant?",
            a.display(),
            b.display()
        ))),
        (first, _) => Ok(first),
    }
}

/// The mask of an anomalous image, if there is one: see [`Listing::masks`].
pub(super) fn mask_of(masks: &Path, kind: &str, dir: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(dir).ok()?;
    let stem = below.file_stem()?;
    let folder = masks.join(kind).join(below.parent()?);
    ["_mask", ""].iter().find_map(|end| {
        EXTENSIONS.iter().find_map(|ending| {
            let mut name = stem.to_os_string();
            name.push(format!("{end}.{ending}"));
            Some(folder.join(name)).filter(|path| path.is_file())
        })
    })
}

/// The folders in `dir` that are not hidden, sorted; none if it isn't there.
///
/// # Errors
/// It can't be read.
pub fn folders_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let found = if dir.is_dir() { entries(dir)? } else { vec![] };
    Ok(found.into_iter().filter(|path| path.is_dir()).collect())
}

/// The last part of a path, as text.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All picture files below `dir`, in the order of their paths, as [`Walk`] finds them; what it
/// leaves out is counted.
///
/// # Errors
/// `dir` can't be read, or there is no picture below it.
pub fn find_images(dir: &Path, left_out: &mut Tally) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in Walk::new(dir)? {
        match entry {
            Ok(path) => found.push(path),
            Err(entry) => left_out.add(&entry),
        }
    }
    if found.is_empty() {
        return Err(Error::invalid(format!("{}: {}", dir.display(), no_image())));
    }
    Ok(found)
}

/// The path of `path` below `dir`, with `prefix` before it and `/` between parts on every system.
pub(super) fn name_below(dir: &Path, path: &Path, prefix: &str) -> String {
    let below = path.strip_prefix(dir).expect("the file was found below the folder");
    let parts = below.components().map(|part| path_text(part.as_ref()));
    std::iter::once(prefix.into()).chain(parts).collect::<Vec<_>>().join("/")
}

/// What is directly in `dir` and not hidden, sorted.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let entries = entries
        .map(|entry| Ok(entry.map_err(Error::io(dir))?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    let mut paths: Vec<_> =
        entries.into_iter().filter(|name| !is_hidden(name)).map(|name| dir.join(name)).collect();
    paths.sort();
    Ok(paths)
}
