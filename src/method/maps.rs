//! Where an image is anomalous: a map of it, a value a pixel, higher is more anomalous.
//!
//! ```text
//! tiles      the scores of the tiles that see the pixel (Tiles::map)
//! error      squared error of the reconstruction, mean over channels, smoothed by a Gaussian of
//!            1 / 32 of the image's size
//! ```
//!
//! The reconstruction of images that are cut is that of the tiles, put together.

use std::collections::BTreeMap;

use super::detector::Detector;
use super::readout::Rule;
use super::scorer::{Score, Scorer};
use super::tiling::ImageRule;
use crate::error::{Error, Result};
use crate::images::Images;

/// What a map shows.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, strum::Display, strum::EnumString, strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
pub enum MapKind {
    /// The scores of tiles.
    Tiles,
    /// The error of the reconstruction.
    Error,
}

impl MapKind {
    /// The kind that is taken where nobody chooses: of those that a detector has, the one that
    /// localises better.
    ///
    /// # Errors
    /// A senseless description.
    pub fn default_of(detector: &Detector) -> Result<MapKind> {
        Ok(if detector.tiling()?.is_some() { MapKind::Tiles } else { MapKind::Error })
    }
}

/// The levels of a map that pictures of it are coloured by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// What half of the pixels of normal images are below.
    pub middle: f32,
    /// What all but a thousandth of them are below.
    pub high: f32,
}

impl Scale {
    /// Of the values of normal images' maps.
    ///
    /// # Errors
    /// No values, or one that is no finite number.
    pub fn of(mut values: Vec<f32>) -> Result<Scale> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return Err(Error::invalid("maps of normal images: expected finite numbers"));
        }
        let mut at = |share: f64| {
            let place = ((values.len() - 1) as f64 * share).round() as usize;
            *values.select_nth_unstable_by(place, f32::total_cmp).1
        };
        Ok(Scale { middle: at(0.5), high: at(0.999) })
    }

    /// A value as a level: 0 up to the middle, 0.5 at the high value of normal images, at most 1.
    pub fn level(&self, value: f32) -> f32 {
        let range = (self.high - self.middle).max(f32::MIN_POSITIVE);
        ((value - self.middle) / range / 2.0).clamp(0.0, 1.0)
    }

    /// Notes that it is the scale of maps of errors.
    pub(super) fn describe(&self, description: &mut BTreeMap<String, String>) {
        description.insert(MIDDLE.into(), self.middle.to_string());
        description.insert(HIGH.into(), self.high.to_string());
    }

    /// The scale of a detector's maps of this kind, by its validation images: of tiles, of their
    /// scores by `rule`. None where it was never fitted.
    ///
    /// # Errors
    /// A senseless description; numbers that are not finite.
    pub fn of_detector(detector: &Detector, rule: &Rule, kind: MapKind) -> Result<Option<Scale>> {
        let tiling = detector.tiling()?;
        match (kind, tiling, &detector.statistics) {
            (MapKind::Error, ..) => {
                let levels = [detector.number(MIDDLE)?, detector.number(HIGH)?];
                let [middle, high] = levels.map(|level| level.map(|level| level as f32));
                Ok(middle.zip(high).map(|(middle, high)| Scale { middle, high }))
            }
            (MapKind::Tiles, Some(_), Some(statistics)) => {
                let tiles = ImageRule::of(rule, detector)?.tiles_of(&statistics.validation)?;
                Scale::of(tiles.concat().iter().map(|&score| score as f32).collect()).map(Some)
            }
            (MapKind::Tiles, ..) => Ok(None),
        }
    }
}

/// Keys of a model's description.
const MIDDLE: &str = "map_error_middle";
const HIGH: &str = "map_error_high";

/// Maps of images, [n, height, width]. `scores` are theirs, by the scorer.
///
/// # Errors
/// Tiles of images that are not cut; images of another shape than the scorer's; a device failure.
pub fn maps(
    scorer: &mut Scorer,
    images: &Images,
    scores: &[Score],
    kind: MapKind,
) -> Result<Vec<f32>> {
    match kind {
        MapKind::Error => {
            let reconstructions = scorer.reconstruct(images)?;
            Ok(error_maps(images, &reconstructions))
        }
        MapKind::Tiles => {
            let tiling = scorer.tiling().ok_or_else(|| {
                Error::Usage("a map of tiles: this model judges images as a whole".into())
            })?;
            Ok(scores.iter().flat_map(|score| tiling.tiles.map(&score.tiles)).collect())
        }
    }
}

/// Smoothed squared errors [n, height, width] of reconstructions [n, height, width, channels].
pub fn error_maps(images: &Images, reconstructions: &[f32]) -> Vec<f32> {
    let (channels, len) = (images.channels, images.image_len());
    let sigma = images.height.max(images.width) as f64 / 32.0;
    let of_image = |i: usize| {
        let pixels = images.image(i).chunks_exact(channels);
        let outputs = reconstructions[i * len..][..len].chunks_exact(channels);
        let error = |(pixel, output): (&[u8], &[f32])| {
            let squares =
                pixel.iter().zip(output).map(|(&x, &y)| (f32::from(x) / 255.0 - y).powi(2));
            squares.sum::<f32>() / channels as f32
        };
        let map: Vec<f32> = pixels.zip(outputs).map(error).collect();
        smoothed(&map, images.width, sigma)
    };
    (0..images.n).flat_map(of_image).collect()
}

/// A map [height, width] smoothed by a Gaussian of this deviation, in pixels. Beyond the edges
/// there is nothing: weights are those of the pixels that are there.
pub fn smoothed(map: &[f32], width: usize, sigma: f64) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as usize;
    let weights: Vec<f64> =
        (0..=reach).map(|d| (-(d as f64).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let height = map.len() / width;
    // Along one axis: `at(i)` is the value of the line's pixel i, of `len`.
    let blur = |len: usize, i: usize, at: &dyn Fn(usize) -> f32| {
        let near = i.saturating_sub(reach)..(i + reach + 1).min(len);
        let (mut sum, mut total) = (0.0, 0.0);
        for j in near {
            let weight = weights[i.abs_diff(j)];
            sum += weight * f64::from(at(j));
            total += weight;
        }
        (sum / total) as f32
    };
    let across: Vec<f32> =
        (0..map.len()).map(|p| blur(width, p % width, &|x| map[p / width * width + x])).collect();
    (0..map.len()).map(|p| blur(height, p / width, &|y| across[y * width + p % width])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_what_is_even_and_spreads_a_point_as_a_gaussian() {
        assert!(smoothed(&[0.3; 35], 7, 1.5).iter().all(|v| (v - 0.3).abs() < 1e-6));
        let mut map = vec![0.0; 41 * 61];
        map[20 * 61 + 30] = 1.0;
        let out = smoothed(&map, 61, 2.0);
        assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let expected =
            |y: f64, x: f64| (-(y * y + x * x) / 8.0).exp() / (2.0 * std::f64::consts::PI * 4.0);
        for (y, x) in [(0, 0), (1, 0), (0, 3), (2, 2)] {
            let found = f64::from(out[(20 + y) * 61 + 30 + x]);
            let expected = expected(y as f64, x as f64);
            assert!((found / expected - 1.0).abs() < 0.02, "{y} {x}: {found} {expected}");
        }
    }

    #[test]
    fn an_error_is_where_the_reconstruction_differs() -> Result<()> {
        let images = Images::new(vec![255; 2 * 64 * 64 * 3], [2, 64, 64, 3])?;
        let mut outputs = vec![1.0; images.data.len()];
        // Of the second image, a square of 4 x 4 at (40, 10) is black in one channel.
        for (y, x) in (40..44).flat_map(|y| (10..14).map(move |x| (y, x))) {
            outputs[images.image_len() + (y * 64 + x) * 3 + 1] = 0.0;
        }
        let maps = error_maps(&images, &outputs);
        let (first, second) = maps.split_at(64 * 64);
        assert!(first.iter().all(|&v| v == 0.0));
        assert!((second.iter().sum::<f32>() - 16.0 / 3.0).abs() < 1e-3);
        let most = (0..second.len()).max_by(|&a, &b| second[a].total_cmp(&second[b]));
        let (y, x) = most.map(|p| (p / 64, p % 64)).unwrap_or_default();
        assert!((40..44).contains(&y) && (10..14).contains(&x), "{y} {x}");
        Ok(())
    }

    #[test]
    fn normal_images_fill_the_lower_half_of_a_scale() -> Result<()> {
        let scale = Scale::of((0..=1000).map(|v| v as f32).collect())?;
        assert_eq!(scale, Scale { middle: 500.0, high: 999.0 });
        assert_eq!(
            [0.0, 500.0, 999.0, 1498.0, 9999.0].map(|v| scale.level(v)),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
        assert!(Scale::of(vec![]).is_err() && Scale::of(vec![1.0, f32::NAN]).is_err());
        Ok(())
    }
}
