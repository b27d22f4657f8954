//! Baselines: what a simple method makes of the same images, to hold a model's scores against.
//!
//! ```text
//! pca        mean of r^2 over pixels and channels, values in [0, 1]: r = (x - m) - P' P (x - m), with
//!            the mean m and the principal components P of training images, as few as explain 95 %
//!            of their variance
//! nearest    min |c - c_i| over training images: the Euclidean distance of the code to the nearest
//! plain      mse of the same autoencoder trained without the constraint (alpha = 0)
//! ```
//!
//! Of images that are cut these are a tile's, and an image's value is the mean of the `top` highest,
//! as of all scores (tiling.rs). The components come from at most 1,000 training images and the codes
//! from at most 10,000, drawn by a seed. The Mahalanobis distance of the code, a further baseline, is
//! the rule `code`.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::detector::Detector;
use super::feed::epoch_order;
use super::readout::places::principal_axes;
use super::readout::{Rule, Wanted};
use super::scorer::Scorer;
use super::tiling::{Tiling, mean_of_highest};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::program::Precision;

/// The names of the baselines and their formulas, in the order of [`Baselines::values`].
pub const BASELINES: [(&str, &str); 3] = [
    ("pca", "mean r^2, r beside the components of 95 % of the training images' variance"),
    ("nearest", "min |code - a training image's|"),
    ("plain", "mse of the autoencoder trained with alpha 0"),
];

/// Training images that components are of, and codes that are compared with, at the most.
const MOST_IMAGES: usize = 1000;
const MOST_CODES: usize = 10_000;

/// The share of the variance that components explain.
const EXPLAINED: f64 = 0.95;

/// Images that are looked at together: a matrix of them is small.
const TOGETHER: usize = 64;

/// Tiles that are cut at a time.
const CUT: usize = 4096;

/// At most `most` of `n` images, drawn by a seed, rising.
fn drawn(n: usize, most: usize, seed: u64) -> Vec<usize> {
    let order = epoch_order(n, seed, 0, n > most);
    let mut drawn: Vec<usize> = order.into_iter().take(most).map(|i| i as usize).collect();
    drawn.sort_unstable();
    drawn
}

/// The mean and the principal components of images.
#[derive(Clone, PartialEq, Debug)]
pub struct Components {
    /// m, `[image_len]`.
    mean: Vec<f64>,
    /// P, `[components, image_len]`.
    axes: DMatrix<f64>,
}

impl Components {
    /// Of at most 1,000 of these images, drawn by the seed.
    ///
    /// # Errors
    /// No images.
    pub fn of(images: &Images, seed: u64) -> Result<Components> {
        let (len, drawn) = (images.image_len(), drawn(images.n, MOST_IMAGES, seed));
        let n = drawn.len();
        if n == 0 || len == 0 {
            return Err(Error::invalid("principal components of no images: expected at least one"));
        }
        let values = drawn.iter().flat_map(|&i| images.image(i)).map(|&v| f64::from(v) / 255.0);
        let mut rows = DMatrix::from_row_iterator(n, len, values);
        let mean = rows.row_mean();
        for mut row in rows.row_iter_mut() {
            row -= &mean;
        }
        let total = rows.norm_squared();
        let (mut kept, mut explained) = (vec![], 0.0);
        for (value, axis) in principal_axes(&rows) {
            // Images that are all the same have no component.
            if explained >= EXPLAINED * total || value <= 1e-12 * total {
                break;
            }
            kept.push(axis.transpose());
            explained += value;
        }
        let axes = match kept.is_empty() {
            true => DMatrix::zeros(0, len),
            false => DMatrix::from_rows(&kept),
        };
        Ok(Components { mean: mean.iter().copied().collect(), axes })
    }

    /// How many components there are.
    pub fn count(&self) -> usize {
        self.axes.nrows()
    }

    /// The mean of r^2 of each image; all have the shape of those that the components are of.
    pub fn residuals(&self, images: &Images) -> Vec<f64> {
        let len = self.mean.len();
        let of = |pixels: &[u8]| -> Vec<f64> {
            // Columns are images: their pixels are contiguous.
            let mut away = DMatrix::from_iterator(
                len,
                pixels.len() / len,
                pixels.iter().enumerate().map(|(i, &v)| f64::from(v) / 255.0 - self.mean[i % len]),
            );
            let along = &self.axes * &away;
            away.gemm_tr(-1.0, &self.axes, &along, 1.0);
            away.column_iter().map(|r| r.norm_squared() / len as f64).collect()
        };
        images.data.par_chunks(TOGETHER * len).flat_map_iter(of).collect()
    }
}

/// Codes to be compared with.
#[derive(Clone, PartialEq, Debug)]
pub struct Neighbours {
    len: usize,
    /// `[n, len]`
    codes: Vec<f32>,
}

/// Sums that go on beside each other, so that a processor adds several numbers at once.
const LANES: usize = 16;

/// |a - b|^2 to f32's digits.
fn square(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

impl Neighbours {
    /// These codes, `[n, len]`.
    ///
    /// # Errors
    /// None, or numbers that are not finite.
    pub fn of(codes: Vec<f32>, len: usize) -> Result<Neighbours> {
        if codes.is_empty() || len == 0 || codes.iter().any(|v| !v.is_finite()) {
            return Err(Error::invalid("codes of training images: expected finite numbers"));
        }
        Ok(Neighbours { len, codes })
    }

    /// The distance of each of `codes` `[n, len]` to the nearest.
    pub fn distances(&self, codes: &[f32]) -> Vec<f64> {
        let of = |code: &[f32]| {
            let known = self.codes.chunks_exact(self.len);
            let all = known.map(|known| (square(code, known), known));
            let nearest = all.min_by(|(a, _), (b, _)| a.total_cmp(b));
            nearest.map_or(f64::NAN, |(_, known)| {
                let away = code.iter().zip(known).map(|(&a, &b)| f64::from(a) - f64::from(b));
                away.map(|v| v * v).sum::<f64>().sqrt()
            })
        };
        codes.par_chunks(self.len).map(of).collect()
    }
}

/// The baselines of a detector.
#[derive(Clone, Debug)]
pub struct Baselines {
    tiling: Option<Tiling>,
    components: Components,
    neighbours: Neighbours,
    /// The autoencoder without the constraint; it judges tiles as the detector does.
    plain: Detector,
}

impl Baselines {
    /// Fits them on what the detector was trained on; `plain` is its autoencoder, trained without
    /// the constraint.
    ///
    /// # Errors
    /// No images, or images of another shape than the model's; a device failure; numbers that are
    /// not finite.
    pub fn fit(
        engine: &mut dyn Engine,
        detector: &Detector,
        plain: &Detector,
        train: &Images,
        seed: u64,
    ) -> Result<Baselines> {
        detector.model.check_images(train)?;
        let components = Components::of(train, seed)?;
        let some = train.select(&drawn(train.n, MOST_CODES, seed));
        let codes = coder(engine, detector)?.codes(&some)?;
        let neighbours = Neighbours::of(codes, detector.model.code_len())?;
        let plain = Detector { description: detector.description.clone(), ..plain.clone() };
        Ok(Baselines { tiling: detector.tiling()?, components, neighbours, plain })
    }

    /// The values of whole images, of each of [`BASELINES`]. `detector` is the one that they were
    /// fitted for.
    ///
    /// # Errors
    /// Images of another shape than the detector judges; a device failure; a value that is no finite
    /// number.
    pub fn values(
        &self,
        engine: &mut dyn Engine,
        detector: &Detector,
        images: &Images,
        precision: Precision,
    ) -> Result<Vec<[f64; BASELINES.len()]>> {
        let rule = Rule::named("reconstruction", &self.plain.model, 0.0)?;
        let plain = Scorer::with(engine, &self.plain, &[rule], precision)?.score(images)?;
        let (count, top) = self.tiling.map_or((1, 1), |t| (t.tiles.count(), t.top));
        let mut scorer = coder(engine, detector)?;
        let together = (CUT / count).max(1);
        let mut values = Vec::with_capacity(images.n);
        for first in (0..images.n).step_by(together) {
            let some: Vec<usize> = (first..images.n.min(first + together)).collect();
            let some = images.select(&some);
            let seen = self.tiling.map_or_else(|| some.clone(), |tiling| tiling.tiles.cut(&some));
            let residuals = self.components.residuals(&seen);
            let distances = self.neighbours.distances(&scorer.codes(&seen)?);
            let all = residuals.chunks_exact(count).zip(distances.chunks_exact(count));
            for (residuals, distances) in all {
                let [pca, nearest] = [residuals, distances].map(|v| mean_of_highest(v, top));
                values.push([pca, nearest, plain[values.len()].scores[0]]);
            }
        }
        match values.iter().flatten().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(i) => {
                let (image, (name, _)) = (i / BASELINES.len(), BASELINES[i % BASELINES.len()]);
                Err(Error::invalid(format!("image {image}: its '{name}' is no finite number")))
            }
        }
    }
}

/// A scorer that reads codes.
fn coder<'e>(engine: &'e mut dyn Engine, detector: &Detector) -> Result<Scorer<'e>> {
    let wanted = Wanted { vectors: true, ..Wanted::default() };
    Scorer::measuring(engine, detector, wanted, Precision::F32)
}
