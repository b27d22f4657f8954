//! Where an image is anomalous: a map of it, a value a pixel, higher is more anomalous.
//!
//! ```text
//! tiles      the scores of the tiles that see the pixel (Tiles::map)
//! error      |z(log e)|: e is the squared error of the reconstruction, mean over channels, smoothed
//!            by a Gaussian of 1 / 24 of the image's size; z standardises by the pixels of
//!            validation images. What is reconstructed too well counts, too: a blurred spot is
//! ```
//!
//! The reconstruction of images that are cut is that of the tiles, put together. Of such images, maps
//! of tiles show defects better than maps of errors, and the gradient of a score in the pixels shows
//! them worse than either: `benches/runs/2026-11-26-photographs.md`.

use std::collections::BTreeMap;

use rayon::prelude::*;

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
    /// The kind that is taken where nobody chooses.
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

    /// The scale of a detector's maps of this kind, by its validation images: of tiles, of their
    /// scores by `rule`. None where it was never fitted.
    ///
    /// # Errors
    /// A senseless description; numbers that are not finite.
    pub fn of_detector(detector: &Detector, rule: &Rule, kind: MapKind) -> Result<Option<Scale>> {
        let tiling = detector.tiling()?;
        match (kind, tiling, &detector.statistics) {
            (MapKind::Error, ..) => {
                let errors = Errors::of_detector(detector)?;
                Ok(errors.map(|errors| errors.scale))
            }
            (MapKind::Tiles, Some(_), Some(statistics)) => {
                let tiles = ImageRule::of(rule, detector)?.tiles_of(&statistics.validation)?;
                Scale::of(tiles.concat().iter().map(|&score| score as f32).collect()).map(Some)
            }
            (MapKind::Tiles, ..) => Ok(None),
        }
    }
}

/// What is known of the errors of normal images.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Errors {
    /// Mean of log e.
    mean: f64,
    /// Deviation of log e.
    deviation: f64,
    /// Of their maps.
    scale: Scale,
}

/// Keys of a model's description: what [`Errors`] has, in order.
const KEYS: [&str; 4] =
    ["map_error_mean", "map_error_deviation", "map_error_middle", "map_error_high"];

/// e of pixels without any error, so that its logarithm is finite: a level of 255, 100 times over.
const LEAST: f32 = 1e-9;

impl Errors {
    /// Of normal images [n, height, width, channels] and their reconstructions.
    ///
    /// # Errors
    /// No images, or reconstructions that are not finite.
    pub fn of(images: &Images, reconstructions: &[f32]) -> Result<Errors> {
        let logs = log_errors(images, reconstructions);
        let n = logs.len().max(1) as f64;
        let mean = logs.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = logs.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let deviation = if square > 0.0 { square.sqrt() } else { 1.0 };
        let none = Scale { middle: 0.0, high: 0.0 };
        let errors = Errors { mean, deviation, scale: none };
        let scale = Scale::of(logs.iter().map(|&log| errors.level(log)).collect())?;
        Ok(Errors { scale, ..errors })
    }

    fn level(&self, log: f32) -> f32 {
        ((f64::from(log) - self.mean) / self.deviation).abs() as f32
    }

    /// Notes it in a model's description.
    pub(super) fn describe(&self, description: &mut BTreeMap<String, String>) {
        let Errors { mean, deviation, scale: Scale { middle, high } } = self;
        let texts = [mean.to_string(), deviation.to_string(), middle.to_string(), high.to_string()];
        for (key, text) in KEYS.into_iter().zip(texts) {
            description.insert(key.into(), text);
        }
    }

    /// What a detector knows; none where it was never fitted.
    ///
    /// # Errors
    /// A senseless description.
    pub fn of_detector(detector: &Detector) -> Result<Option<Errors>> {
        let numbers = KEYS.map(|key| detector.number(key));
        let [mean, deviation, middle, high] = numbers;
        let (Some(mean), Some(deviation), Some(middle), Some(high)) =
            (mean?, deviation?, middle?, high?)
        else {
            return Ok(None);
        };
        let scale = Scale { middle: middle as f32, high: high as f32 };
        Ok(Some(Errors { mean, deviation, scale }))
    }

    /// Maps [n, height, width] of images [n, height, width, channels].
    pub fn maps(&self, images: &Images, reconstructions: &[f32]) -> Vec<f32> {
        log_errors(images, reconstructions).into_iter().map(|log| self.level(log)).collect()
    }
}

/// Maps of a detector's images, [n, height, width]. `scores` are theirs, by the scorer.
///
/// # Errors
/// Tiles of images that are not cut; a detector that was never fitted; images of another shape than
/// the scorer's; a device failure.
pub fn maps(
    scorer: &mut Scorer,
    detector: &Detector,
    images: &Images,
    scores: &[Score],
    kind: MapKind,
) -> Result<Vec<f32>> {
    match kind {
        MapKind::Error => {
            let errors = Errors::of_detector(detector)?.ok_or_else(|| {
                Error::invalid(
                    "the model doesn't know the errors of normal images; evaluate its run \
                     (`gradcon eval RUN`), which stores them",
                )
            })?;
            let reconstructions = scorer.reconstruct(images)?;
            Ok(errors.maps(images, &reconstructions))
        }
        MapKind::Tiles => {
            let tiling = scorer.tiling().ok_or_else(|| {
                Error::Usage("a map of tiles: this model judges images as a whole".into())
            })?;
            Ok(scores.iter().flat_map(|score| tiling.tiles.map(&score.tiles)).collect())
        }
    }
}

/// log e [n, height, width].
fn log_errors(images: &Images, reconstructions: &[f32]) -> Vec<f32> {
    let (channels, len) = (images.channels, images.image_len());
    let sigma = images.height.max(images.width) as f64 / 24.0;
    let of_image = |i: usize| {
        let pixels = images.image(i).chunks_exact(channels);
        let outputs = reconstructions[i * len..][..len].chunks_exact(channels);
        let error = |(pixel, output): (&[u8], &[f32])| {
            let squares =
                pixel.iter().zip(output).map(|(&x, &y)| (f32::from(x) / 255.0 - y).powi(2));
            squares.sum::<f32>() / channels as f32
        };
        let map: Vec<f32> = pixels.zip(outputs).map(error).collect();
        let smooth = smoothed(&map, images.width, sigma).into_iter();
        smooth.map(|e| e.max(LEAST).ln()).collect::<Vec<_>>()
    };
    (0..images.n).into_par_iter().flat_map_iter(of_image).collect()
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
    fn a_map_of_errors_is_high_where_they_are_too_large_and_too_small() -> Result<()> {
        // Outputs are off by about a tenth everywhere, in a pattern.
        let images = Images::new(vec![128; 2 * 64 * 64 * 3], [2, 64, 64, 3])?;
        let off = |i: usize| 128.0 / 255.0 + 0.1 + 0.02 * ((i / 3 * 7 % 31) as f32 / 31.0);
        let mut outputs: Vec<f32> = (0..images.data.len()).map(off).collect();
        let errors = Errors::of(&images, &outputs)?;
        assert!(errors.maps(&images, &outputs).iter().all(|&v| v < 6.0));
        let spot =
            |y: usize, x: usize| (y..y + 6).flat_map(move |y| (x..x + 6).map(move |x| (y, x)));
        for (value, (y, x)) in [(0.9, (40, 10)), (128.0 / 255.0, (8, 50))] {
            let second = images.image_len();
            for (y, x) in spot(y, x) {
                outputs[second + (y * 64 + x) * 3..][..3].fill(value);
            }
            let maps = errors.maps(&images, &outputs);
            let map = &maps[64 * 64..];
            let most = (0..map.len()).max_by(|&a, &b| map[a].total_cmp(&map[b])).unwrap_or(0);
            let found = spot(y, x).any(|spot| spot == (most / 64, most % 64));
            assert!(found && map[most] > 6.0, "{value}: {most} {}", map[most]);
            (y..y + 6).flat_map(|y| (x..x + 6).map(move |x| (y, x))).for_each(|(y, x)| {
                for c in 0..3 {
                    let i = (y * 64 + x) * 3 + c;
                    outputs[second + i] = off(i);
                }
            });
        }
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
