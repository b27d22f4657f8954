//! A prepared dataset, in memory and as a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::hash::{Hashing, sha256_file};
use super::manifest::{self, Counts, FileInfo, Inlier, Manifest, TestSetInfo};
pub use super::place::check_not_current;
use super::place::{self, Place};
use super::{Images, Labelled, classes, npy};
use crate::error::{Error, Result};
use crate::files;
use crate::limits::{self, shown};
use crate::tiles::Tiles;

/// Names of the images of each part, in order: their paths below the folders that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of the training images.
    pub train: Vec<String>,
    /// Of the validation images.
    pub val: Vec<String>,
    /// Of the test images.
    pub test: Vec<String>,
}

/// One test set of a prepared dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestSet {
    /// What it tests.
    pub info: TestSetInfo,
    /// Which test images it has, normal ones first.
    pub indices: Vec<usize>,
    /// 0 (normal) or 1 (anomalous) for each of them.
    pub labels: Vec<u8>,
}

/// Images split for training, validation and test, with the test sets. See the module's
/// documentation for the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub(super) manifest: Manifest,
    pub(super) train: Labelled,
    pub(super) val: Labelled,
    pub(super) test: Labelled,
    pub(super) names: Option<Names>,
    pub(super) masks: Option<Masks>,
    pub(super) test_sets: Vec<TestSet>,
}

/// Where the defects of test images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masks {
    /// [n, size, size]: 0 normal, 1 defective, [`Masks::UNKNOWN`] where nobody says.
    pub data: Vec<u8>,
    /// Rows and columns of each.
    pub size: usize,
}

impl Masks {
    /// All of an image of which nobody says where it is defective.
    pub const UNKNOWN: u8 = 255;

    /// The mask [size, size] of test image `i`, if there is one.
    pub fn of(&self, i: usize) -> Option<&[u8]> {
        let len = self.size * self.size;
        let mask = &self.data[i * len..][..len];
        (mask.first() != Some(&Masks::UNKNOWN)).then_some(mask)
    }

    /// Whether these are masks.
    fn check(&self, path: &Path) -> Result<()> {
        let len = self.size * self.size;
        let is_mask =
            |mask: &[u8]| mask.iter().all(|&v| v < 2) || mask.iter().all(|&v| v == Masks::UNKNOWN);
        match self.data.chunks_exact(len.max(1)).position(|mask| !is_mask(mask)) {
            None => Ok(()),
            Some(i) => Err(Error::invalid(format!(
                "{}: mask {i} has other values than 0 (normal) and 1 (defective)",
                path.display()
            ))),
        }
    }
}

/// What [`Prepared::write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The folder was made, or replaced.
    New,
    /// The folder was there already, with the same content in every byte.
    Unchanged,
}

impl Prepared {
    /// Reads a prepared folder whole, and checks that it is what was written: the hash of every
    /// file, and that types, shapes, counts, labels and indices fit together.
    ///
    /// # Errors
    /// [`Error::Verification`] naming every file that is missing or differs from the manifest;
    /// other errors for a folder that has no manifest, or one that contradicts itself.
    pub fn open(dir: &Path) -> Result<Prepared> {
        if let Some(old) = place::taken_out(dir) {
            return Err(Error::invalid(format!(
                "{}: `gradcon prep --force` was killed while it replaced this dataset; it is \
                 whole in {}: move it back, or prepare it again",
                dir.display(),
                old.display()
            )));
        }
        let manifest = Manifest::read(dir)?;
        let wrong = differences(dir, &manifest.files)?;
        let read = Prepared::read(dir, &manifest);
        if wrong.is_empty() {
            return read;
        }
        let consequence = read.err().map_or(String::new(), |e| format!("\n  so that {e}"));
        Err(Error::Verification(format!(
            "{}: {} of {} files differ from the manifest\n  {}{consequence}",
            dir.display(),
            wrong.len(),
            manifest.files.len(),
            wrong.join("\n  ")
        )))
    }

    /// Reads what the manifest says is there.
    fn read(dir: &Path, manifest: &Manifest) -> Result<Prepared> {
        let part = |name: &str, counts: &[usize]| read_part(dir, name, manifest, counts);
        let train = part("train", &manifest.counts.train)?;
        let val = part("val", &manifest.counts.val)?;
        let test = part("test", &manifest.counts.test)?;
        let names = if manifest.named_images {
            let read = |name: &str, part: &Labelled| read_names(dir, name, part.images.n);
            Some(Names {
                train: read("train", &train)?,
                val: read("val", &val)?,
                test: read("test", &test)?,
            })
        } else {
            None
        };
        let masks = manifest.masks.then(|| read_masks(dir, &test.images)).transpose()?;
        let read = |info: &TestSetInfo| read_test_set(dir, info, test.images.n);
        let test_sets = manifest.test_sets.iter().map(read).collect::<Result<_>>()?;
        Ok(Prepared { manifest: manifest.clone(), train, val, test, names, masks, test_sets })
    }

    /// The manifest. Its list of files is empty until the dataset was written or opened.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same dataset with a name of its own.
    ///
    /// # Errors
    /// The name can't be that of a folder.
    pub fn named(mut self, name: &str) -> Result<Prepared> {
        manifest::check_name(name)?;
        self.manifest.name = Some(name.into());
        Ok(self)
    }

    /// The same dataset with one channel, if all its images are gray: the same bytes as if they had
    /// been read so.
    pub fn gray_if_it_is(mut self) -> Prepared {
        let parts = [&mut self.train, &mut self.val, &mut self.test];
        let is_gray = |part: &&mut Labelled| part.images.is_gray();
        if self.manifest.channels == 3 && parts.iter().all(is_gray) {
            parts.into_iter().for_each(|part| part.images = part.images.first_channel());
            self.manifest.channels = 1;
        }
        self
    }

    /// Names of the classes, by label.
    pub fn class_names(&self) -> &[String] {
        &self.manifest.classes
    }

    /// 1 (gray) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.manifest.channels
    }

    /// Height and width of what a model of them sees: the images, or their tiles.
    pub fn size(&self) -> usize {
        self.tiles().map_or(self.manifest.height, |tiles| tiles.size())
    }

    /// The tiles that the images are cut into, if they are.
    pub fn tiles(&self) -> Option<Tiles> {
        self.manifest.tiles().expect("checked when it was made or read")
    }

    /// The same images, cut into these tiles: what [`train_of`](Self::train_of) and
    /// [`val_of`](Self::val_of) give then.
    ///
    /// # Errors
    /// The images have another size than the tiles are for.
    pub fn cut_into(mut self, tiles: Tiles) -> Result<Prepared> {
        let found = self.manifest.height;
        if tiles.image() != found {
            return Err(Error::Usage(format!(
                "tiles {tiles}: of images of {0} x {0}, but these have {found} x {found}",
                tiles.image()
            )));
        }
        self.manifest.tiles = Some(tiles.to_string());
        Ok(self)
    }

    /// Where the defects of test images are, if the dataset says so.
    pub fn masks(&self) -> Option<&Masks> {
        self.masks.as_ref()
    }

    /// The classes one can train on. Ten for the ten-class datasets, in label order, else one.
    pub fn inliers(&self) -> &[Inlier] {
        &self.manifest.inliers
    }

    /// Indices of the inlier classes that `texts` mean (see [`classes::find`]).
    ///
    /// # Errors
    /// A text that means no class, or more than one; a class that is named twice.
    pub fn find_inliers(&self, texts: &[String]) -> Result<Vec<usize>> {
        let names: Vec<&str> = self.inliers().iter().map(|inlier| inlier.name.as_str()).collect();
        classes::find(&names, texts)
    }

    /// Training images [n, size, size, c] of an inlier class, or all their tiles.
    ///
    /// # Errors
    /// No such inlier class.
    pub fn train_of(&self, inlier: usize) -> Result<Images> {
        self.of(&self.train, inlier).map(|images| self.cut(images))
    }

    /// Validation images [n, size, size, c] of an inlier class, or all their tiles: those of an image
    /// are neighbours.
    ///
    /// # Errors
    /// No such inlier class.
    pub fn val_of(&self, inlier: usize) -> Result<Images> {
        self.of(&self.val, inlier).map(|images| self.cut(images))
    }

    fn cut(&self, images: Images) -> Images {
        match self.tiles() {
            Some(tiles) => tiles.cut(&images),
            None => images,
        }
    }

    /// All test images [n, height, width, c], whole, which the test sets choose from, and their
    /// classes.
    pub fn test(&self) -> &Labelled {
        &self.test
    }

    /// Names of the images, where the dataset was made from image files.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// All test sets.
    pub fn test_sets(&self) -> &[TestSet] {
        &self.test_sets
    }

    /// The test sets of one inlier class.
    pub fn test_sets_of(&self, inlier: usize) -> impl Iterator<Item = &TestSet> {
        self.test_sets.iter().filter(move |set| set.info.inlier == inlier)
    }

    /// The test set of an inlier class with `ratio` percent outliers.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn test_set(&self, inlier: usize, ratio: u32) -> Result<&TestSet> {
        self.test_sets_of(inlier).find(|set| set.info.ratio == Some(ratio)).ok_or_else(|| {
            let there: Vec<&str> =
                self.test_sets_of(inlier).map(|set| set.info.name.as_str()).collect();
            Error::Usage(format!(
                "no test set of inlier class {inlier} with {ratio} % outliers; there is {}",
                if there.is_empty() { "none of that class".into() } else { there.join(", ") }
            ))
        })
    }

    /// The images [n, height, width, c] of a test set, whole, in its order.
    pub fn images_of(&self, set: &TestSet) -> Images {
        self.test.images.select(&set.indices)
    }

    /// Training, validation and test images, with the part's name.
    pub(super) fn parts(&self) -> [(&'static str, &Labelled); 3] {
        [("train", &self.train), ("val", &self.val), ("test", &self.test)]
    }

    /// All images of `part` (`train`, `val` or `test`) that carry `label`.
    ///
    /// # Errors
    /// No such part.
    pub fn images_labelled(&self, part: &str, label: u8) -> Result<Images> {
        let found = self.parts().into_iter().find(|(name, _)| *name == part);
        let (_, images) = found.ok_or_else(|| {
            Error::Usage(format!("no part {part:?}, expected train, val or test"))
        })?;
        Ok(images.of(label))
    }

    fn of(&self, part: &Labelled, inlier: usize) -> Result<Images> {
        match self.manifest.inliers.get(inlier) {
            Some(Inlier { label: Some(label), .. }) => Ok(part.of(*label)),
            Some(Inlier { label: None, .. }) => Ok(part.images.clone()),
            None => {
                let there = self.manifest.inliers.len();
                Err(Error::Usage(format!("inlier class {inlier}, expected one below {there}")))
            }
        }
    }

    /// Writes the folder `dir` in one step: it is made beside `dir` under another name, then
    /// renamed. A folder that is there and empty is filled, its manifest last. A folder with this
    /// very content is left as it is. Another prepared folder is replaced if `force`, also in one
    /// step.
    ///
    /// # Errors
    /// `dir` is not empty and may not be replaced (see [`check_target`]), another process is
    /// writing to it, or something can't be written.
    pub fn write(&self, dir: &Path, force: bool) -> Result<Written> {
        self.write_unless(dir, force, &|| Ok(()))
    }

    /// [`write`](Self::write), which gives up and leaves everything as it was once `go_on` returns
    /// an error; it is asked often.
    ///
    /// # Errors
    /// As [`write`](Self::write), or what `go_on` returned.
    pub fn write_unless(
        &self,
        dir: &Path,
        force: bool,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Written> {
        // What may never be replaced is refused before the work; the rest depends on the content.
        check_target(dir, true)?;
        let place = Place::take(dir)?;
        match self.make(&place, force, go_on) {
            Ok(Written::New) => place.settle().map(|()| Written::New),
            Ok(Written::Unchanged) => place.discard().map(|()| Written::Unchanged),
            Err(e) => {
                // The first error is the one to tell.
                let _ = place.discard();
                Err(e)
            }
        }
    }

    /// Makes the dataset beside its place, unless the same is there already.
    fn make(&self, place: &Place, force: bool, go_on: &dyn Fn() -> Result<()>) -> Result<Written> {
        let manifest = self.write_files(&place.fresh(), go_on)?;
        go_on()?;
        if place.is_occupied() {
            let dir = place.dir();
            let there =
                limits::read(&dir.join(manifest::FILE_NAME), limits::MANIFEST, "a manifest");
            if there.is_ok_and(|text| text == manifest.to_json().as_bytes()) && verify(dir).is_ok()
            {
                return Ok(Written::Unchanged);
            }
            check_target(dir, force)?;
            check_not_current(dir)?;
        }
        Ok(Written::New)
    }

    fn write_files(&self, dir: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<Manifest> {
        files::make_folder(&dir.join("test_sets"))?;
        let mut files = BTreeMap::new();
        let mut add = |name: String, write: &dyn Fn(&mut dyn Write) -> std::io::Result<()>| {
            let path = dir.join(&name);
            let info = write_hashed(&path, go_on, write)
                .map_err(|e| go_on().err().unwrap_or(Error::io(&path)(e)))?;
            files.insert(name, info);
            Ok(())
        };
        for (name, part) in self.parts() {
            let Images { n, height, width, channels, ref data } = part.images;
            add(format!("{name}_images.npy"), &|w| {
                npy::write_u8(w, &[n, height, width, channels], data)
            })?;
            add(format!("{name}_labels.npy"), &|w| npy::write_u8(w, &[n], &part.labels))?;
        }
        if let Some(Names { train, val, test }) = &self.names {
            for (name, names) in [("train", train), ("val", val), ("test", test)] {
                add(format!("{name}_names.json"), &|w| {
                    Ok(serde_json::to_writer_pretty(w, names)?)
                })?;
            }
        }
        if let Some(Masks { data, size }) = &self.masks {
            let n = self.test.images.n;
            add(manifest::MASKS.into(), &|w| npy::write_u8(w, &[n, *size, *size], data))?;
        }
        for TestSet { info, indices, labels } in &self.test_sets {
            let indices: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
            add(info.index_file(), &|w| npy::write_i64(w, &indices))?;
            add(info.label_file(), &|w| npy::write_u8(w, &[labels.len()], labels))?;
        }
        let manifest = Manifest { files, ..self.manifest.clone() };
        let path = dir.join(manifest::FILE_NAME);
        let written = write_hashed(&path, go_on, &|w| w.write_all(manifest.to_json().as_bytes()));
        written.map_err(|e| go_on().err().unwrap_or(Error::io(&path)(e)))?;
        files::sync_folder(dir)?;
        Ok(manifest)
    }
}

/// Whether [`Prepared::write`] may write to `dir`: it does not exist, is an empty folder (or one
/// that a killed process was filling), or is a prepared folder and `force` is given. Anything else
/// is never replaced.
///
/// # Errors
/// With the reason, if it may not.
pub fn check_target(dir: &Path, force: bool) -> Result<()> {
    if files::is_vacant(dir)? || place::is_unfinished(dir) {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::Usage(format!(
            "{}: there is a file of that name; choose another folder",
            dir.display()
        )));
    }
    match (dir.join(manifest::FILE_NAME).is_file() && dir.join("train_images.npy").is_file(), force)
    {
        (true, true) => Ok(()),
        (true, false) => Err(Error::Usage(format!(
            "{}: a prepared dataset with other content is there already; choose another folder, \
             or replace it with \
             --force",
            dir.display()
        ))),
        (false, _) => Err(Error::Usage(format!(
            "{}: the folder is not empty and no prepared dataset; choose another folder",
            dir.display()
        ))),
    }
}

/// Checks a prepared folder as [`Prepared::open`] does, and returns the manifest.
///
/// # Errors
/// As [`Prepared::open`].
pub fn verify(dir: &Path) -> Result<Manifest> {
    Ok(Prepared::open(dir)?.manifest)
}

/// What differs from the manifest: a line for each file.
fn differences(dir: &Path, files: &BTreeMap<String, FileInfo>) -> Result<Vec<String>> {
    let difference = |(name, FileInfo { bytes, sha256 }): (&String, &FileInfo)| {
        let path = dir.join(name);
        match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(format!("{name}: missing")));
            }
            Err(e) => return Err(Error::io(&path)(e)),
            // Reading it could wait for ever.
            Ok(found) if !found.is_file() => {
                return Err(Error::Verification(format!("{}: not a regular file", path.display())));
            }
            Ok(found) if found.len() != *bytes => {
                return Ok(Some(format!("{name}: {} bytes, expected {bytes}", found.len())));
            }
            Ok(_) => {}
        }
        let found = sha256_file(&path)?;
        Ok((found != *sha256).then(|| format!("{name}: SHA-256 {found}, expected {sha256}")))
    };
    // A file a thread: hashing takes longer than reading.
    let found = files.par_iter().map(difference).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

fn write_hashed(
    path: &Path,
    go_on: &dyn Fn() -> Result<()>,
    write: &dyn Fn(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<FileInfo> {
    let file = Interruptible { inner: Hashing::new(File::create(path)?), go_on };
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let (file, bytes, sha256) = file.inner.finish();
    file.sync_all()?;
    Ok(FileInfo { bytes, sha256 })
}

/// Writes on in pieces, and asks before each whether to go on.
struct Interruptible<'a, W> {
    inner: W,
    go_on: &'a dyn Fn() -> Result<()>,
}

impl<W: Write> Write for Interruptible<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        (self.go_on)().map_err(std::io::Error::other)?;
        self.inner.write(&buffer[..buffer.len().min(1 << 20)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn read_part(dir: &Path, name: &str, manifest: &Manifest, counts: &[usize]) -> Result<Labelled> {
    let path = dir.join(format!("{name}_images.npy"));
    let array = npy::open_u8(&path)?;
    let shape @ [n, height, width, channels] = array.shape;
    let expected = [counts.iter().sum(), manifest.height, manifest.width, manifest.channels];
    if shape != expected {
        return Err(Error::invalid(format!(
            "{}: shape {shape:?}, expected {expected:?} as the manifest says",
            path.display()
        )));
    }
    let data = array.values()?;
    let path = dir.join(format!("{name}_labels.npy"));
    let labels = read_bytes(&path, n)?;
    if count(&labels, counts.len()).as_deref() != Some(counts) {
        return Err(Error::invalid(format!(
            "{}: the labels do not have the manifest's counts per class, {}",
            path.display(),
            shown(format_args!("{counts:?}"))
        )));
    }
    Ok(Labelled { images: Images { data, n, height, width, channels }, labels })
}

fn read_masks(dir: &Path, test: &Images) -> Result<Masks> {
    let path = dir.join(manifest::MASKS);
    let array = npy::open_u8(&path)?;
    let (shape, expected) = (array.shape, [test.n, test.height, test.width]);
    if shape != expected {
        return Err(Error::invalid(format!(
            "{}: shape {shape:?}, expected {expected:?}, a mask for each test image",
            path.display()
        )));
    }
    let masks = Masks { data: array.values()?, size: test.height };
    masks.check(&path)?;
    Ok(masks)
}

fn read_bytes(path: &Path, expected: usize) -> Result<Vec<u8>> {
    let array = npy::open_u8(path)?;
    check_count(path, array.shape, expected)?;
    array.values()
}

fn check_count(path: &Path, [n]: [usize; 1], expected: usize) -> Result<()> {
    if n != expected {
        return Err(Error::invalid(format!("{}: {n} values, expected {expected}", path.display())));
    }
    Ok(())
}

fn read_names(dir: &Path, name: &str, expected: usize) -> Result<Vec<String>> {
    let path = dir.join(format!("{name}_names.json"));
    let limit = limits::IMAGE_NAME * (expected as u64 + 1);
    let text = limits::read(&path, limit, &format!("the names of {expected} images"))?;
    let names: Vec<String> = serde_json::from_slice(&text)
        .map_err(|e| Error::invalid(format!("{}: {}", path.display(), shown(e))))?;
    if names.len() != expected {
        return Err(Error::invalid(format!(
            "{}: {} names, expected {expected}",
            path.display(),
            names.len()
        )));
    }
    Ok(names)
}

fn read_test_set(dir: &Path, info: &TestSetInfo, images: usize) -> Result<TestSet> {
    let size = info.normal + info.anomalous;
    let path = dir.join(info.index_file());
    let array = npy::open_i64(&path)?;
    check_count(&path, array.shape, size)?;
    let indices = array.numbers()?;
    let index = |i: i64| {
        usize::try_from(i).ok().filter(|&i| i < images).ok_or_else(|| {
            Error::invalid(format!(
                "{}: index {i}, expected 0 to {}",
                path.display(),
                images.saturating_sub(1)
            ))
        })
    };
    let indices = indices.into_iter().map(index).collect::<Result<_>>()?;
    let path: PathBuf = dir.join(info.label_file());
    let labels = read_bytes(&path, size)?;
    if count(&labels, 2) != Some(vec![info.normal, info.anomalous]) {
        return Err(Error::invalid(format!(
            "{}: expected {} zeros (normal) and {} ones (anomalous)",
            path.display(),
            info.normal,
            info.anomalous
        )));
    }
    Ok(TestSet { info: info.clone(), indices, labels })
}

/// How many of each of the labels 0 to `classes - 1`; none if there is another label.
pub(super) fn count(labels: &[u8], classes: usize) -> Option<Vec<usize>> {
    let mut counts = vec![0; classes];
    for &label in labels {
        *counts.get_mut(usize::from(label))? += 1;
    }
    Some(counts)
}

impl Counts {
    pub(super) fn new(train: &Labelled, val: &Labelled, test: &Labelled, classes: usize) -> Counts {
        let of = |part: &Labelled| {
            count(&part.labels, classes).expect("labels are below the number of classes")
        };
        Counts { train: of(train), val: of(val), test: of(test) }
    }
}
