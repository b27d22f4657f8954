//! The most normal and most anomalous images of a test set as small PNG files with an index, for
//! the page to embed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::scores::ScoreRow;
use super::tiles::Tiles;
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
}

/// Writes `extremes.json` and its PNG files into `folder` for the `count` lowest and `count`
/// highest scores of `rows`. `inputs` and `reconstructions` are f32 in [0, 1], shape [n, h, w, c],
/// and `rows` has their n scores: all images of a test set, or just those among which the extremes
/// are known to be.
///
/// # Errors
/// As [`Tiles::new`]; another number of rows than images; scores that are not finite; the file
/// system's.
pub fn write_extremes(
    folder: &Path,
    inputs: &[f32],
    reconstructions: &[f32],
    shape: [usize; 4],
    rows: &[ScoreRow],
    count: usize,
) -> Result<()> {
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
    let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
    let (low, high) = extreme_indices(&scores, count);
    let which: Vec<usize> = low.iter().chain(&high).copied().collect();
    let tiles = Tiles::new(inputs, reconstructions, shape, &which)?;
    let entry = |place: usize| -> Result<Extreme> {
        let row = &rows[which[place]];
        let (side, rank) =
            if place < low.len() { ("normal", place) } else { ("anomalous", place - low.len()) };
        let tile = |part: &str, images: &Images| -> Result<PathBuf> {
            let name = format!("{side}-{rank:02}-{part}.png");
            write_atomic(&folder.join(&name), &png(images, place)?)?;
            Ok(name.into())
        };
        Ok(Extreme {
            image: row.image.clone(),
            label: row.label,
            class: row.class.clone(),
            score: row.score,
            input: tile("input", &tiles.inputs)?,
            reconstruction: tile("output", &tiles.reconstructions)?,
            error: tile("error", &tiles.errors)?,
        })
    };
    let index = Extremes {
        error_scale: tiles.error_scale,
        most_normal: (0..low.len()).map(entry).collect::<Result<_>>()?,
        most_anomalous: (low.len()..which.len()).map(entry).collect::<Result<_>>()?,
    };
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
    let count = extremes.most_normal.len().max(extremes.most_anomalous.len());
    if count > MOST {
        return Err(named(&format!("{count} images of a side, expected at most {MOST}")));
    }
    for entry in extremes.most_normal.iter().chain(&extremes.most_anomalous) {
        for tile in [&entry.input, &entry.reconstruction, &entry.error] {
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
