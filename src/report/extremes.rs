//! The most normal and most anomalous images of a test set as small PNG files with an index, for
//! the page to embed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::overlay::Stretched;
use super::scores::ScoreRow;
use super::thumbnails::Thumbnails;
use crate::data::picture::Frame;
use crate::error::{Error, Result};
use crate::folders;
use crate::images::Images;
use crate::limits::{self, shown};
use crate::sheet::png;

/// Most images of a side: a page embeds them all.
const MOST: usize = 1000;

/// `extremes.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extremes {
    /// The absolute error shown brightest in every error map.
    pub error_scale: f32,
    /// Lowest scores, lowest first.
    pub most_normal: Vec<Extreme>,
    /// Highest scores, highest first.
    pub most_anomalous: Vec<Extreme>,
    /// Anomalous images with the lowest scores, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Extreme>,
    /// Normal images with the highest scores, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub false_alarms: Vec<Extreme>,
}

impl Extremes {
    /// All groups, with what each is.
    pub fn groups(&self) -> [(&'static str, &[Extreme]); 4] {
        [
            ("Most normal", &self.most_normal),
            ("Most anomalous", &self.most_anomalous),
            ("Anomalous, and most normal", &self.missed),
            ("Normal, and most anomalous", &self.false_alarms),
        ]
    }
}

/// One image; `input`, `reconstruction` and `error` are names of PNG files beside the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extreme {
    /// The image's name in `scores.csv`.
    pub image: String,
    /// 1 = anomalous, 0 = normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u8>,
    /// What it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Anomaly score.
    pub score: f64,
    /// The image.
    pub input: PathBuf,
    /// What the model made of it.
    pub reconstruction: PathBuf,
    /// Map of absolute errors.
    pub error: PathBuf,
    /// The image with its map laid over it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
}

/// Images among which the extremes of a test set are.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    /// The images, f32 in [0, 1], [n, h, w, c].
    pub inputs: &'a [f32],
    /// What the model made of them, of the same shape.
    pub reconstructions: &'a [f32],
    /// n, h, w, c.
    pub shape: [usize; 4],
    /// Levels of their maps [n, h, w], 0 to 1, where there are maps.
    pub levels: Option<&'a [f32]>,
    /// Their n scores.
    pub rows: &'a [ScoreRow],
}

/// Of each group of [`Extremes`], the indices of `count` images at the most: those that are judged
/// wrongly are only looked for if `wrong`.
pub fn groups(rows: &[ScoreRow], count: usize, wrong: bool) -> [Vec<usize>; 4] {
    let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
    let (low, high) = extreme_indices(&scores, count);
    let of = |label: u8, ascending: bool| {
        let is_of = |&i: &usize| wrong && rows[i].label == Some(label);
        let mut order: Vec<usize> = (0..rows.len()).filter(is_of).collect();
        order.sort_by(|&a, &b| match ascending {
            true => scores[a].total_cmp(&scores[b]),
            false => scores[b].total_cmp(&scores[a]),
        });
        order.truncate(count);
        order
    };
    [low, high, of(1, true), of(0, false)]
}

/// Writes `extremes.json` and its PNG files into `folder` for the `count` lowest and `count`
/// highest scores, and for those that are the most wrong if `wrong`. The images are all of a test
/// set, or just those among which the extremes are known to be.
///
/// # Errors
/// As [`Thumbnails::new`]; another number of rows than images; scores that are not finite; the file
/// system's.
pub fn write_extremes(
    folder: &Path,
    candidates: &Candidates,
    count: usize,
    wrong: bool,
) -> Result<()> {
    let Candidates { inputs, reconstructions, shape, levels, rows } = *candidates;
    if count > MOST {
        return Err(Error::invalid(format!("{count} images of a side, expected at most {MOST}")));
    }
    if rows.len() != shape[0] {
        return Err(Error::invalid(format!("{} scores for {} images", rows.len(), shape[0])));
    }
    if let Some(bad) = rows.iter().find(|row| !row.score.is_finite()) {
        return Err(Error::invalid(format!(
            "{}: score {}, expected a finite number",
            bad.image, bad.score
        )));
    }
    let groups = groups(rows, count, wrong);
    let mut which = groups.concat();
    which.sort_unstable();
    which.dedup();
    let tiles = Thumbnails::new(inputs, reconstructions, shape, &which)?;
    let pixels = shape[1] * shape[2];
    let mut entries = vec![];
    for (place, &i) in which.iter().enumerate() {
        let row = &rows[i];
        let tile = |part: &str, images: &Images, at: usize| -> Result<PathBuf> {
            let name = format!("{place:02}-{part}.png");
            write_atomic(&folder.join(&name), &png(images, at)?)?;
            Ok(name.into())
        };
        let overlay = levels.map(|levels| {
            let image = tiles.inputs.select(&[place]);
            let size = [image.height, image.width];
            let levels = &levels[i * pixels..][..pixels];
            let whole = Frame { from: size, from_at: [0; 2], to: size, to_at: [0; 2] };
            let levels = Stretched::new(levels, image.width, &whole, size);
            tile("overlay", &levels.overlay(&image), 0)
        });
        entries.push(Extreme {
            image: row.image.clone(),
            label: row.label,
            class: row.class.clone(),
            score: row.score,
            input: tile("input", &tiles.inputs, place)?,
            reconstruction: tile("output", &tiles.reconstructions, place)?,
            error: tile("error", &tiles.errors, place)?,
            overlay: overlay.transpose()?,
        });
    }
    let [most_normal, most_anomalous, missed, false_alarms] = groups.map(|group| {
        let entry = |i: &usize| which.binary_search(i).ok().map(|place| entries[place].clone());
        group.iter().filter_map(entry).collect()
    });
    let error_scale = tiles.error_scale;
    let index = Extremes { error_scale, most_normal, most_anomalous, missed, false_alarms };
    let json = serde_json::to_string_pretty(&index)
        .map_err(|e| Error::invalid(format!("extremes.json: {e}")))?;
    // The index last: it never names a file that is not there yet.
    write_atomic(&folder.join(folders::EXTREMES), (json + "\n").as_bytes())
}

/// Indices of the `count` lowest scores (lowest first) and of the `count` highest (highest first);
/// equal scores keep their order. Each side takes at most half of the images, so none is on both.
pub fn extreme_indices(scores: &[f64], count: usize) -> (Vec<usize>, Vec<usize>) {
    let count = count.min(scores.len() / 2);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let low = order[..count].to_vec();
    let high = order[order.len() - count..].iter().rev().copied().collect();
    (low, high)
}

/// Reads an `extremes.json`.
///
/// # Errors
/// Unreadable file; unknown or missing entries; a tile that is not a plain file name. The message
/// names the file.
pub fn read_extremes(path: &Path) -> Result<Extremes> {
    extremes_from(&limits::read(path, limits::EXTREMES, "an index of extremes")?, path)
}

/// [`read_extremes`] from text. `path` stands for the file in errors.
///
/// # Errors
/// As [`read_extremes`].
pub fn extremes_from(text: &[u8], path: &Path) -> Result<Extremes> {
    let named =
        |e: &dyn std::fmt::Display| Error::invalid(format!("{}: {}", path.display(), shown(e)));
    let extremes: Extremes = serde_json::from_slice(text).map_err(|e| named(&e))?;
    let groups = extremes.groups();
    let count = groups.iter().map(|(_, group)| group.len()).max().unwrap_or(0);
    if count > MOST {
        return Err(named(&format!("{count} images of a side, expected at most {MOST}")));
    }
    for entry in groups.iter().flat_map(|(_, group)| group.iter()) {
        let three = [&entry.input, &entry.reconstruction, &entry.error];
        for tile in three.into_iter().chain(&entry.overlay) {
            // The page embeds what the index names: nothing from outside the folder.
            if tile.file_name() != Some(tile.as_os_str()) {
                return Err(named(&format!(
                    "tile \"{}\", expected a plain file name",
                    tile.display()
                )));
            }
        }
    }
    Ok(extremes)
}
