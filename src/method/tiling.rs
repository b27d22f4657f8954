//! Images that are judged by their tiles: how the scores of its tiles become an image's.
//!
//! ```text
//! v_p        score of the tile at place p, by the rule, as if it were an image
//! score      mean of the `top` highest v_p of the image
//! ```
//!
//! `top` is a setting, or chosen on normal images ([`choose_top`]). Where images are aligned, what is
//! normal at a place is known by itself: the part `code_place` (readout/places.rs). Whole images are
//! the case of one tile.

use std::collections::BTreeMap;

use super::detector::Detector;
use super::readout::statistics::Measured;
use super::readout::{Fixed, Part, Rule};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::limits::shown;
use crate::tiles::Tiles;

/// Before it is chosen, and where there are too few validation images to choose by.
const DEFAULT_TOP: usize = 3;
const ENOUGH: usize = 10;

/// Keys of a model's description.
const TILES: &str = "tiles";
const PLACE: &str = "tile_place";
const TOP: &str = "tile_top";
/// There if the number wasn't a setting, with the name of the score that it was chosen by.
const TOP_BY: &str = "tile_top_by";
const ALIGNED: &str = "aligned";

/// From this share of the variance on ([`aligned`]), images are taken to be aligned.
const IS_ALIGNED: f64 = 0.25;

/// Whether what is normal depends on where in an image a tile lies.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It does if the training images are aligned.
    #[default]
    Auto,
    /// It does not: a texture.
    Any,
    /// It does: an object that lies the same in every image.
    Same,
}

/// How a model judges images by their tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tiling {
    /// Where they lie.
    pub tiles: Tiles,
    /// Whether a tile's code is compared with those of its place, too.
    pub same_place: bool,
    /// How many of an image's tiles make its score: the highest.
    pub top: usize,
}

impl Tiling {
    /// What a model's description says, if its images are cut.
    ///
    /// # Errors
    /// It says something senseless.
    pub fn of(description: &BTreeMap<String, String>) -> Result<Option<Tiling>> {
        let Some(tiles) = description.get(TILES) else { return Ok(None) };
        let tiles: Tiles = tiles.parse()?;
        let number = |key: &str| {
            let text = description.get(key)?;
            Some(text.parse::<usize>().ok().filter(|n| (1..=tiles.count()).contains(n)).ok_or_else(
                || {
                    Error::invalid(format!(
                        "model description: {key} is '{}', expected 1 to {}",
                        shown(text),
                        tiles.count()
                    ))
                },
            ))
        };
        let same_place = match description.get(PLACE).map(String::as_str) {
            Some("same") => true,
            Some("any") | None => false,
            Some(other) => {
                return Err(Error::invalid(format!(
                    "model description: {PLACE} is '{}', expected any or same",
                    shown(other)
                )));
            }
        };
        let top = number(TOP).transpose()?.unwrap_or_else(|| default_top(tiles));
        Ok(Some(Tiling { tiles, same_place, top }))
    }
}

fn default_top(tiles: Tiles) -> usize {
    DEFAULT_TOP.min(tiles.count())
}

/// Notes in a model's description that its images are cut.
pub fn describe(description: &mut BTreeMap<String, String>, tiles: Tiles) {
    description.insert(TILES.into(), tiles.to_string());
}

/// Notes what is known of the places of a model's training tiles: see [`aligned`].
///
/// # Errors
/// A senseless description.
pub fn measure(description: &mut BTreeMap<String, String>, train: &Images) -> Result<()> {
    if let Some(Tiling { tiles, .. }) = Tiling::of(description)? {
        description.insert(ALIGNED.into(), aligned(train, tiles.count()).to_string());
    }
    Ok(())
}

/// Settles how a model judges images by their tiles: `top` of them, or what [`choose_top`] chose.
/// Returns whether that is another way than before, or that it is yet to choose.
///
/// # Errors
/// The model's images are not cut, but `place` or `top` are chosen; or `top` is more than an image
/// has.
pub fn settle(
    description: &mut BTreeMap<String, String>,
    place: Place,
    top: Option<usize>,
) -> Result<bool> {
    let before = Tiling::of(description)?;
    let Some(Tiling { tiles, .. }) = before else {
        return match (place, top) {
            (Place::Auto, None) => Ok(false),
            _ => Err(Error::Usage(
                "--place and --top-tiles: the images are not cut into tiles (`gradcon prep \
                 --tiles`)"
                    .into(),
            )),
        };
    };
    if let Some(top) = top.filter(|top| !(1..=tiles.count()).contains(top)) {
        let count = tiles.count();
        return Err(Error::Usage(format!("--top-tiles {top}: expected 1 to {count}, an image's")));
    }
    let aligned = description.get(ALIGNED).and_then(|share| share.parse::<f64>().ok());
    let same = match place {
        Place::Auto => aligned.is_some_and(|share| share >= IS_ALIGNED),
        place => place == Place::Same,
    };
    description.insert(PLACE.into(), if same { "same" } else { "any" }.into());
    let is_chosen = description.contains_key(TOP_BY);
    if let Some(top) = top {
        description.insert(TOP.into(), top.to_string());
        description.remove(TOP_BY);
    }
    Ok(before != Tiling::of(description)? || (top.is_none() && !is_chosen))
}

/// Chooses how many of an image's tiles make its score by a rule: of 1 to as many as show a spot,
/// the fewest whose mean varies over the validation images as little as that of any, up to the
/// standard error of a deviation of n images, a share of 1 / sqrt(2 n). For a defect raises some of
/// the tiles that show it, and the fewest the most; more of them are worth it only if the mean
/// otherwise stays where it is. Of fewer than ten validation images nothing is concluded.
///
/// Images that are not cut have nothing to choose.
///
/// # Errors
/// A part wasn't measured.
pub fn choose_top(detector: &mut Detector, rule: &Rule) -> Result<()> {
    let (Some(Tiling { tiles, .. }), Some(known)) = (detector.tiling()?, &detector.statistics)
    else {
        return Ok(());
    };
    let images = ImageRule::of(rule, detector)?.tiles_of(&known.validation)?;
    let top = match images.len() {
        ENOUGH.. => fewest(&images, tiles.showing_a_spot()),
        _ => default_top(tiles),
    };
    detector.description.insert(TOP.into(), top.to_string());
    detector.description.insert(TOP_BY.into(), rule.name.clone());
    Ok(())
}

/// The fewest of an image's highest tiles, `most` at the most, whose mean varies as little as that of
/// any, up to a standard error.
fn fewest(images: &[Vec<f64>], most: usize) -> usize {
    let deviation = |top: usize| {
        let scores: Vec<f64> = images.iter().map(|tiles| mean_of_highest(tiles, top)).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>().sqrt()
    };
    let deviations: Vec<f64> = (1..=most).map(deviation).collect();
    let least = deviations.iter().copied().fold(f64::INFINITY, f64::min);
    let limit = least * (1.0 + (2.0 * images.len() as f64).sqrt().recip());
    1 + deviations.iter().position(|deviation| *deviation <= limit).unwrap_or(0)
}

/// How much of the variance of tiles' pixels, `count` tiles an image, is that of the mean image: 1
/// if all images are the same, about 0 if what is at a place says nothing of it. Pixels that never
/// change, as those that a picture was filled up with, don't count.
///
/// A mean of n images has 1 / n of the images' own variance, which is taken off.
pub fn aligned(tiles: &Images, count: usize) -> f64 {
    let (len, n) = (tiles.image_len(), tiles.n / count.max(1));
    if n < 2 || len == 0 {
        return 0.0;
    }
    // Of each channel: sum, sum of squares, and places that change.
    let mut totals = vec![(0.0, 0.0, 0.0); tiles.channels];
    let mut within = 0.0;
    for place in 0..count {
        let mut sums = vec![(0.0, 0.0); len];
        for image in 0..n {
            for (sum, &v) in sums.iter_mut().zip(tiles.image(image * count + place)) {
                let v = f64::from(v);
                *sum = (sum.0 + v, sum.1 + v * v);
            }
        }
        for (i, (sum, square)) in sums.into_iter().enumerate() {
            let own = square - sum * sum / n as f64;
            if own > 0.0 {
                within += own;
                let (all, squares, places) = &mut totals[i % tiles.channels];
                (*all, *squares, *places) = (*all + sum, *squares + square, *places + 1.0);
            }
        }
    }
    let (mut total, mut places) = (0.0, 0.0);
    for (sum, square, of) in totals.into_iter().filter(|(.., of)| *of > 0.0) {
        total += square - sum * sum / (of * n as f64);
        places += of;
    }
    if places == 0.0 {
        return 1.0;
    }
    // Unbiased: the mean image's own noise is no alignment.
    let within = within / (places * (n - 1) as f64);
    let total = total / (places * n as f64 - 1.0);
    if total > 0.0 { (1.0 - within / total).max(0.0) } else { 0.0 }
}

/// An image's value: the mean of the `top` highest of its tiles'.
pub(super) fn mean_of_highest(tiles: &[f64], top: usize) -> f64 {
    // One that is no number must not hide behind those that are.
    if let Some(&bad) = tiles.iter().find(|value| !value.is_finite()) {
        return bad;
    }
    let mut ranked = tiles.to_vec();
    ranked.sort_by(|a, b| b.total_cmp(a));
    ranked[..top].iter().sum::<f64>() / top as f64
}

/// A rule as a function of what is measured of an image's tiles, with a model's statistics.
#[derive(Clone, Debug)]
pub struct ImageRule {
    rule: Fixed,
    /// Tiles of an image.
    tiles: usize,
    top: usize,
}

impl ImageRule {
    /// The rule for a detector's images.
    ///
    /// # Errors
    /// It takes statistics, and there are none.
    pub fn of(rule: &Rule, detector: &Detector) -> Result<ImageRule> {
        let fixed = rule.fixed(detector.statistics.as_ref())?;
        let tiling = detector.tiling()?;
        let (tiles, top) = tiling.map_or((1, 1), |tiling| (tiling.tiles.count(), tiling.top));
        Ok(ImageRule { rule: fixed, tiles, top })
    }

    /// The rows of a table, those of an image's tiles together.
    fn images(&self, validation: &Measured) -> Result<Vec<Vec<f64>>> {
        let rows: Vec<Vec<f64>> = validation.rows().collect();
        if rows.len().is_multiple_of(self.tiles) {
            return Ok(rows);
        }
        Err(Error::invalid(format!(
            "statistics of {} validation tiles: expected {} an image",
            rows.len(),
            self.tiles
        )))
    }

    /// The score of an image, and those of its tiles, from a row of parts of each.
    ///
    /// # Errors
    /// A part wasn't measured.
    pub fn scores(&self, parts: &[Part], tiles: &[Vec<f64>]) -> Result<(f64, Vec<f64>)> {
        let scores: Vec<f64> =
            tiles.iter().map(|row| self.rule.of(parts, row)).collect::<Result<_>>()?;
        Ok((mean_of_highest(&scores, self.top), scores))
    }

    /// The scores of the tiles of the validation images.
    ///
    /// # Errors
    /// Not all tiles of images.
    pub fn tiles_of(&self, validation: &Measured) -> Result<Vec<Vec<f64>>> {
        let rows = self.images(validation)?;
        let images = rows.chunks_exact(self.tiles);
        images.map(|tiles| Ok(self.scores(&validation.parts, tiles)?.1)).collect()
    }

    /// The scores of the validation images, rising.
    ///
    /// # Errors
    /// One that is no finite number.
    pub fn of_validation(&self, validation: &Measured) -> Result<Vec<f64>> {
        let rows = self.images(validation)?;
        let images = rows.chunks_exact(self.tiles);
        let of = |tiles: &[Vec<f64>]| Ok(self.scores(&validation.parts, tiles)?.0);
        let mut scores: Vec<f64> = images.map(of).collect::<Result<_>>()?;
        if let Some(bad) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::invalid(format!("the score of a validation image is {bad}")));
        }
        scores.sort_by(f64::total_cmp);
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles of 40 images of 64 x 64 pixels, whose pixels are `value(image, y, x)`.
    fn share(value: impl Fn(usize, usize, usize) -> u8) -> Result<f64> {
        let tiles = Tiles::new(64, 32, 16)?;
        let data = (0..40 * 64 * 64).map(|i| value(i / 4096, i / 64 % 64, i % 64)).collect();
        Ok(aligned(&tiles.cut(&Images::new(data, [40, 64, 64, 1])?), tiles.count()))
    }

    #[test]
    fn the_fewest_tiles_count_that_vary_as_little_as_any() {
        // One tile of some images is an outlier: the more tiles, the less it counts.
        let image = |i: u32| vec![0.1, 0.2, f64::from(i % 2), 0.3];
        let lone: Vec<Vec<f64>> = (0..8).map(image).collect();
        assert_eq!([1, 2, 3].map(|most| fewest(&lone, most)), [1, 2, 3]);
        // The fourth makes it no steadier than eight images can tell, but than eight hundred can.
        assert_eq!(fewest(&lone, 4), 3);
        assert_eq!(fewest(&(0..800).map(image).collect::<Vec<_>>(), 4), 4);
        // The highest tells of nothing, the others of how dark an image is.
        let dark: Vec<Vec<f64>> = (0..8).map(|i| vec![9.0, f64::from(i), 0.0, 0.0]).collect();
        assert_eq!(fewest(&dark, 4), 1);
    }

    #[test]
    fn objects_are_aligned_and_textures_are_not_also_where_they_are_padded() -> Result<()> {
        let noise = |i: usize, y: usize, x: usize| {
            ((i * 1_299_709 + y * 104_729 + x * 7919) % 8191 * 127 % 61) as u8
        };
        let disc = |y: usize, x: usize| y.abs_diff(32).pow(2) + x.abs_diff(30).pow(2) < 400;
        let object = share(|i, y, x| noise(i, y, x) / 2 + if disc(y, x) { 180 } else { 20 })?;
        assert!((0.9..1.0).contains(&object), "{object}");
        let texture = share(noise)?;
        assert!(texture < 0.05, "{texture}");
        let bars = |y: usize| !(16..48).contains(&y);
        let padded = share(|i, y, x| if bars(y) { 0 } else { 100 + noise(i, y, x) })?;
        assert!(padded < 0.05, "{padded}");
        assert_eq!(share(|_, y, x| (y + x) as u8)?, 1.0);
        Ok(())
    }
}
