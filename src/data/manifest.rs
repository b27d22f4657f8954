//! `manifest.json`: what a prepared folder holds, where it came from, and the hash of every file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Dataset;
use super::hash::sha256;
use super::picture::{self, Aspect};
use crate::error::{Error, Result};
use crate::images::SIZES;
use crate::limits::{self, shown};
use crate::tiles::Tiles;

/// The manifest's name in the prepared folder.
pub const FILE_NAME: &str = "manifest.json";
/// The file that says where the defects of test images are.
pub(super) const MASKS: &str = "test_masks.npy";
/// The version of the folder's layout that this program writes and reads.
pub const VERSION: u32 = 1;
/// Labels are bytes.
const MOST_CLASSES: usize = 256;
/// Letters of a name of a class or test set; as a file's name it can't be longer either.
const MOST_NAME: usize = 255;
/// Bytes of a dataset's file: an array with its header, or a list of names.
const MOST_FILE: u64 = limits::ARRAY + (1 << 20);

/// Describes a prepared dataset. It holds nothing that differs between two runs with the same input
/// and seed: no time, no path of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout: [`VERSION`].
    pub format_version: u32,
    /// Which dataset it is.
    pub dataset: Dataset,
    /// What it is called, if not as its kind is: see [`Manifest::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The colour that transparent pictures were composed onto, as six hexadecimal digits; none if
    /// transparency was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// What became of pictures that are no squares.
    #[serde(default, skip_serializing_if = "is_squash")]
    pub aspect: Aspect,
    /// The tiles that the images are cut into ([`Tiles`] as text), if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<String>,
    /// Whether `test_masks.npy` says where the defects are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masks: bool,
    /// What the images were made from.
    pub source: Source,
    /// The seed of every random choice.
    pub seed: u64,
    /// Percent of outliers in the test sets; empty where the test sets are given by the dataset
    /// itself.
    pub outlier_ratios: Vec<u32>,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// The classes one can train on.
    pub inliers: Vec<Inlier>,
    /// Images per class in each part.
    pub counts: Counts,
    /// The test sets, in order.
    pub test_sets: Vec<TestSetInfo>,
    /// Whether `train_names.json`, `val_names.json` and `test_names.json` name each image.
    pub named_images: bool,
    /// Size and hash of every other file of the folder, by name. Empty until the dataset is
    /// written.
    pub files: BTreeMap<String, FileInfo>,
}

/// What a dataset was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// In words.
    pub what: String,
    /// SHA-256 of the files that were read, by name without folder; empty for folders of images.
    pub sha256: BTreeMap<String, String>,
}

/// A class to train on: the normal images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inlier {
    /// Its name.
    pub name: String,
    /// The label its images carry, or none where every training image belongs to it.
    pub label: Option<u8>,
}

/// Images per class, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Of the training images.
    pub train: Vec<usize>,
    /// Of the validation images.
    pub val: Vec<usize>,
    /// Of the test images.
    pub test: Vec<usize>,
}

/// One test set: normal and anomalous images chosen from the test images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSetInfo {
    /// Its name and that of its files: `test_sets/NAME_index.npy` and `test_sets/NAME_label.npy`.
    pub name: String,
    /// Index of the inlier class it tests.
    pub inlier: usize,
    /// Percent of outliers, where that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<u32>,
    /// The challenge (CURE-TSR).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The challenge's level, 1 to 5 (CURE-TSR).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Normal images in it.
    pub normal: usize,
    /// Anomalous images in it.
    pub anomalous: usize,
}

/// Manifests of before have nothing else.
fn is_squash(aspect: &Aspect) -> bool {
    *aspect == Aspect::Squash
}

impl TestSetInfo {
    /// Of a test set with these labels (1 = anomalous), with neither ratio nor challenge.
    pub fn of(name: impl Into<String>, inlier: usize, labels: &[u8]) -> TestSetInfo {
        let anomalous = labels.iter().filter(|&&label| label == 1).count();
        TestSetInfo {
            name: name.into(),
            inlier,
            ratio: None,
            challenge: None,
            level: None,
            normal: labels.len() - anomalous,
            anomalous,
        }
    }
}

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads `dir/manifest.json`.
    ///
    /// # Errors
    /// It is missing, no valid manifest, of another version, or does not list exactly the files its
    /// layout has.
    pub fn read(dir: &Path) -> Result<Manifest> {
        let path = dir.join(FILE_NAME);
        let text = limits::read(&path, limits::MANIFEST, "a manifest").map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::invalid(format!(
                    "{}: no prepared dataset (it has no {FILE_NAME}); make one with gradcon prep",
                    dir.display()
                ))
            }
            e => e,
        })?;
        Manifest::parse(&text, &path)
    }

    /// The manifest in `text`; `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Manifest> {
        #[derive(Deserialize)]
        struct Versioned {
            format_version: u32,
        }
        let invalid = |e: serde_json::Error| {
            Error::invalid(format!("{}: not a manifest: {}", path.display(), shown(e)))
        };
        // The version first: another version may have other fields.
        let Versioned { format_version } = serde_json::from_slice(text).map_err(invalid)?;
        if format_version != VERSION {
            return Err(Error::invalid(format!(
                "{}: format version {format_version}, expected {VERSION}; make the folder again \
                 with gradcon prep",
                path.display()
            )));
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(invalid)?;
        manifest.check_layout(path)?;
        manifest.check_names(path)?;
        manifest.check_counts(path)?;
        manifest.check_test_sets(path)?;
        Ok(manifest)
    }

    /// The files are those of the layout, none too large, and the images have the one size.
    fn check_layout(&self, path: &Path) -> Result<()> {
        let (expected, listed) =
            (self.layout(), self.files.keys().cloned().collect::<BTreeSet<_>>());
        if let Some(name) = expected.symmetric_difference(&listed).next() {
            let what = if listed.contains(name) { "lists unexpected" } else { "does not list" };
            return Err(Error::invalid(format!("{}: {what} {}", path.display(), shown(name))));
        }
        let (height, width) = (self.height, self.width);
        let of_tiles =
            self.tiles().map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        if let Some(tiles) = of_tiles.filter(|tiles| [tiles.image(); 2] != [height, width]) {
            return Err(Error::invalid(format!(
                "{}: images of {height} x {width}, but tiles {tiles} of images of another size",
                path.display()
            )));
        }
        let is_size = of_tiles.is_some() || SIZES.contains(&height);
        if height != width || !is_size || ![1, 3].contains(&self.channels) {
            return Err(Error::invalid(format!(
                "{}: images of {height} x {width} x {}, expected a square of one of {SIZES:?} with \
                 1 or 3 channels",
                path.display(),
                self.channels
            )));
        }
        let too_large = |(_, file): &(&String, &FileInfo)| file.bytes > MOST_FILE;
        if let Some((name, file)) = self.files.iter().find(too_large) {
            let path = path.with_file_name(name);
            return Err(limits::too_large(&path, Some(file.bytes), MOST_FILE, "a dataset's file"));
        }
        Ok(())
    }

    /// Counts become sizes of arrays, which are in memory at once: the sums below and elsewhere
    /// don't overflow.
    fn check_counts(&self, path: &Path) -> Result<()> {
        let path = path.display();
        for counts in [&self.counts.train, &self.counts.val, &self.counts.test] {
            let (found, expected) = (counts.len(), self.classes.len());
            if found != expected {
                return Err(Error::invalid(format!(
                    "{path}: counts of {found} classes, expected {expected}"
                )));
            }
            if let Some(count) = counts.iter().find(|&&count| count as u64 > limits::ARRAY) {
                return Err(Error::invalid(format!("{path}: {count} images of a class")));
            }
        }
        Ok(())
    }

    fn check_test_sets(&self, path: &Path) -> Result<()> {
        let path = path.display();
        for &TestSetInfo { normal, anomalous, inlier, .. } in &self.test_sets {
            if normal.max(anomalous) as u64 > limits::ARRAY {
                return Err(Error::invalid(format!(
                    "{path}: a test set of {normal} normal and {anomalous} anomalous images"
                )));
            }
            let inliers = self.inliers.len();
            if inlier >= inliers {
                return Err(Error::invalid(format!(
                    "{path}: a test set of inlier class {inlier}, expected one below {inliers}"
                )));
            }
        }
        Ok(())
    }

    /// Names become names of files and columns of tables.
    fn check_names(&self, path: &Path) -> Result<()> {
        if self.classes.len() > MOST_CLASSES {
            let count = self.classes.len();
            return Err(Error::invalid(format!(
                "{}: {count} classes, expected at most {MOST_CLASSES}",
                path.display()
            )));
        }
        let inliers = self.inliers.iter().map(|inlier| &inlier.name);
        let sets = self.test_sets.iter().map(|set| &set.name);
        if let Some(name) = self
            .classes
            .iter()
            .chain(inliers)
            .chain(sets)
            .find(|name| name.chars().count() > MOST_NAME)
        {
            let name = shown(name);
            return Err(Error::invalid(format!(
                "{}: a name of more than {MOST_NAME} letters: {name}",
                path.display()
            )));
        }
        // A test set's files lie in the folder, and nowhere else.
        if let Some(set) = self.test_sets.iter().find(|set| set.name.contains(['/', '\\', '\0'])) {
            return Err(Error::invalid(format!(
                "{}: a test set named {}",
                path.display(),
                shown(&set.name)
            )));
        }
        if let Some(name) = &self.name {
            check_name(name)
                .map_err(|e| Error::invalid(format!("{}: {}", path.display(), shown(e))))?;
        }
        if let Some(background) = &self.background {
            picture::colour(background)
                .map_err(|e| Error::invalid(format!("{}: {}", path.display(), shown(e))))?;
        }
        Ok(())
    }

    /// What the dataset is called: the name that its user gave it, else that of its kind.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.dataset.name())
    }

    /// The tiles that the images are cut into, if they are.
    ///
    /// # Errors
    /// What the manifest has is none.
    pub fn tiles(&self) -> Result<Option<Tiles>> {
        self.tiles.as_deref().map(str::parse).transpose()
    }

    /// The manifest as the text of its file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest has no key that is not text") + "\n"
    }

    /// Which dataset this is, to the byte: the SHA-256 of the manifest, which holds those of all
    /// files.
    pub fn sha256(&self) -> String {
        sha256(self.to_json().as_bytes())
    }

    /// The files that a folder with this manifest has beside it.
    pub(super) fn layout(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for part in ["train", "val", "test"] {
            files.insert(format!("{part}_images.npy"));
            files.insert(format!("{part}_labels.npy"));
            if self.named_images {
                files.insert(format!("{part}_names.json"));
            }
        }
        files.extend(self.masks.then(|| MASKS.to_string()));
        files.extend(self.test_sets.iter().flat_map(|set| [set.index_file(), set.label_file()]));
        files
    }

    /// The manifest in words: a few lines of text with a table of the classes and one of the test
    /// sets.
    pub fn summary(&self) -> String {
        let cut = self.tiles.as_deref().and_then(|tiles| tiles.parse::<Tiles>().ok());
        let mut out = format!(
            "{}: {} x {} pixels{}, {}, seed {}, from {}{}\n\n",
            self.name(),
            self.height,
            self.width,
            match self.aspect {
                Aspect::Squash => "",
                Aspect::Pad => " (padded)",
                Aspect::Crop => " (cropped)",
            },
            if self.channels == 1 { "gray" } else { "RGB" },
            self.seed,
            self.source.what,
            cut.map_or(String::new(), |tiles| format!(
                "\n{} tiles of {size} x {size} an image, every {} pixels",
                tiles.count(),
                tiles.stride(),
                size = tiles.size()
            ))
        );
        let width =
            self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5) + 3;
        let mut row = |name: &str, [train, val, test]: [String; 3]| {
            writeln!(out, "{name:width$} {train:>7} {val:>7} {test:>7}")
                .expect("writing to a String");
        };
        row("class", ["train", "val", "test"].map(String::from));
        let parts = [&self.counts.train, &self.counts.val, &self.counts.test];
        for (label, name) in self.classes.iter().enumerate() {
            row(&format!("{label:>2} {name}"), parts.map(|counts| counts[label].to_string()));
        }
        row("all", parts.map(|counts| counts.iter().sum::<usize>().to_string()));

        if self.test_sets.is_empty() {
            out += "\nno test images: nothing to evaluate with\n";
            return out;
        }
        let width =
            self.test_sets.iter().map(|set| set.name.chars().count()).max().unwrap_or(0).max(8);
        write!(out, "\n{:width$} {:>7} {:>9}  inlier\n", "test set", "normal", "anomalous")
            .expect("writing to a String");
        for set in &self.test_sets {
            let inlier = &self.inliers[set.inlier].name;
            writeln!(out, "{:width$} {:>7} {:>9}  {inlier}", set.name, set.normal, set.anomalous)
                .expect("writing to a String");
        }
        out
    }
}

/// Checks that a dataset may be called so: a name of a folder on every system, as runs and data are
/// kept under it.
///
/// # Errors
/// It may not.
pub fn check_name(name: &str) -> Result<()> {
    const FORBIDDEN: &str = "/\\:*?\"<>|";
    let fits = (1..=100).contains(&name.len())
        && !name.starts_with(['.', '-', ' '])
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c.is_control() || FORBIDDEN.contains(c));
    match fits {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "the name {name:?}: expected 1 to 100 bytes without {FORBIDDEN} and control \
             characters, not starting with a dot, dash or space"
        ))),
    }
}

impl TestSetInfo {
    /// Name of the file of indices.
    pub fn index_file(&self) -> String {
        format!("test_sets/{}_index.npy", self.name)
    }

    /// Name of the file of labels.
    pub fn label_file(&self) -> String {
        format!("test_sets/{}_label.npy", self.name)
    }
}
