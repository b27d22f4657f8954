//! What is normal at each place of images that are cut into tiles and aligned: how far a tile's code
//! is from the codes of the training tiles at the same place.
//!
//! ```text
//! d^2 = (c - m)' C^-1 (c - m),  C = (1 - s) K + s mean(diag cov) I
//! ```
//!
//! m and cov are those of the codes at the place, K has the k greatest eigenvalues and eigenvectors
//! of cov, s = 0.01. Training tiles of a place are fewer than a code's numbers, and a matrix for
//! each place would be a file of 100 MB: most of the distance is how far the code is from the plane
//! that these few vectors span.

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::method::detector::{TensorFile, le_bytes};
use crate::method::model::Model;

/// s of the code's covariance at a place.
pub const SHRINKAGE: f64 = 0.01;

/// Numbers that are kept of all places at the most: 24 MB of a model file. Of 36 places these are
/// all eigenvectors of 290 training images, of 121 places 86 of each.
const MOST_NUMBERS: usize = 6 << 20;

/// Codes of a place that are looked at, at the most, and bytes of all that are held.
const MOST_CODES: usize = 512;
const MOST_HELD: usize = 256 << 20;

/// How codes are distributed at each place.
#[derive(Clone, PartialEq, Debug)]
pub struct Places {
    /// Numbers of a code.
    pub(super) len: usize,
    /// m, `[places, len]`.
    pub(super) means: Vec<f32>,
    /// Eigenvectors, `[places, kept, len]`.
    pub(super) axes: Vec<f32>,
    /// What the square along each counts more than in any other direction, `[places, kept]`: at
    /// most 0.
    pub(super) gains: Vec<f32>,
    /// What a square counts in any other direction, `[places]`.
    pub(super) rest: Vec<f32>,
}

/// Codes of training tiles, gathered by place.
pub(super) struct Gathered {
    len: usize,
    most: usize,
    /// Of each place, `[codes, len]`.
    codes: Vec<Vec<f32>>,
    /// Tiles seen so far.
    seen: usize,
}

impl Gathered {
    /// For images of so many places.
    pub(super) fn new(places: usize, len: usize) -> Gathered {
        let most = (MOST_HELD / (4 * places * len).max(1)).clamp(2, MOST_CODES);
        Gathered { len, most, codes: vec![vec![]; places], seen: 0 }
    }

    /// Adds the code of the next tile; an image's tiles follow each other.
    pub(super) fn add(&mut self, code: impl Iterator<Item = f64>) {
        let places = self.codes.len();
        let of = &mut self.codes[self.seen % places];
        self.seen += 1;
        if of.len() < self.most * self.len {
            of.extend(code.map(|v| v as f32));
        }
    }

    /// The distributions.
    pub(super) fn fitted(&self) -> Result<Places> {
        let (places, len) = (self.codes.len(), self.len);
        let codes = self.codes[0].len() / len;
        let kept = codes.saturating_sub(1).min(MOST_NUMBERS / (places * len)).min(len);
        let fit = |codes: &Vec<f32>| fitted(codes, len, kept);
        let all: Vec<Place> = self.codes.par_iter().map(fit).collect::<Result<_>>()?;
        Ok(Places {
            len,
            means: all.iter().flat_map(|place| place.mean.iter().copied()).collect(),
            axes: all.iter().flat_map(|place| place.axes.iter().copied()).collect(),
            gains: all.iter().flat_map(|place| place.gains.iter().copied()).collect(),
            rest: all.iter().map(|place| place.rest).collect(),
        })
    }
}

/// The eigenvectors of X' X of centred rows X [n, len], with their eigenvalues, falling: at most n,
/// as they come from those of the smaller X X'. Of a value of 0 there is no vector.
pub(in crate::method) fn principal_axes(
    rows: &DMatrix<f64>,
) -> impl Iterator<Item = (f64, DVector<f64>)> + '_ {
    let eigen = SymmetricEigen::new(rows * rows.transpose());
    let mut order: Vec<usize> = (0..rows.nrows()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    order.into_iter().map(move |i| {
        let value = eigen.eigenvalues[i];
        (value, rows.tr_mul(&eigen.eigenvectors.column(i)) / value.sqrt())
    })
}

struct Place {
    mean: Vec<f32>,
    axes: Vec<f32>,
    gains: Vec<f32>,
    rest: f32,
}

/// The distribution of `codes` [n, len], with `kept` eigenvectors.
fn fitted(codes: &[f32], len: usize, kept: usize) -> Result<Place> {
    let n = codes.len() / len;
    let mut rows = DMatrix::from_row_iterator(n, len, codes.iter().map(|&v| f64::from(v)));
    let mean = rows.row_mean();
    for mut row in rows.row_iter_mut() {
        row -= &mean;
    }
    let trace = rows.norm_squared() / (n * len) as f64;
    if !trace.is_finite() {
        return Err(Error::invalid("the codes of the training images are not finite"));
    }
    // Codes that are all the same, as far as f32 can tell, have no spread to measure by.
    let trace = if trace > f32::MIN_POSITIVE.into() { trace } else { 1.0 };
    let rest = 1.0 / (SHRINKAGE * trace);
    let (mut axes, mut gains) = (Vec::with_capacity(kept * len), Vec::with_capacity(kept));
    for (product, axis) in principal_axes(&rows).take(kept) {
        let value = product / n as f64;
        if value <= 1e-9 * trace {
            break;
        }
        axes.extend(axis.iter().map(|&v| v as f32));
        gains.push((1.0 / ((1.0 - SHRINKAGE) * value + SHRINKAGE * trace) - rest) as f32);
    }
    axes.resize(kept * len, 0.0);
    gains.resize(kept, 0.0);
    let mean = mean.iter().map(|&v| v as f32).collect();
    Ok(Place { mean, axes, gains, rest: rest as f32 })
}

const MEANS: &str = "readout.place.mean";
const AXES: &str = "readout.place.axes";
const GAINS: &str = "readout.place.gains";
const REST: &str = "readout.place.rest";

impl Places {
    /// The tensors of a model file. Codes are counted as PyTorch does.
    pub(super) fn tensors(&self, model: &Model) -> [(String, Vec<usize>, Vec<u8>); 4] {
        let (len, places) = (self.len, self.count());
        let kept = self.gains.len() / places;
        let torch = |values: &[f32]| {
            let mut of = vec![0.0; values.len()];
            for (from, to) in values.chunks_exact(len).zip(of.chunks_exact_mut(len)) {
                from.iter().enumerate().for_each(|(i, &v)| to[model.code_to_torch(i)] = v);
            }
            le_bytes(&of)
        };
        [
            (MEANS.into(), vec![places, len], torch(&self.means)),
            (AXES.into(), vec![places * kept, len], torch(&self.axes)),
            (GAINS.into(), vec![places, kept], le_bytes(&self.gains)),
            (REST.into(), vec![places, 1], le_bytes(&self.rest)),
        ]
    }

    /// Takes them out of a model file that has them.
    pub(super) fn take(file: &mut TensorFile, model: &Model) -> Result<Places> {
        let len = model.code_len();
        let own = |values: Vec<f32>| -> Vec<f32> {
            let of = |row: &[f32]| (0..len).map(|i| row[model.code_to_torch(i)]).collect();
            values.chunks_exact(len).flat_map(|row| -> Vec<f32> { of(row) }).collect()
        };
        let rest = file.take_rows(REST, 1)?;
        let places = rest.len();
        let means = own(file.take(MEANS, &[places, len])?);
        let axes = own(file.take_rows(AXES, len)?);
        let kept = axes.len() / (places * len);
        let gains = file.take(GAINS, &[places, kept])?;
        match axes.len() == places * kept * len {
            true => Ok(Places { len, means, axes, gains, rest }),
            false => Err(Error::invalid(format!(
                "tensor '{AXES}' has {} rows, expected as many for each of {places} places",
                axes.len() / len
            ))),
        }
    }

    /// How many places there are.
    pub(crate) fn count(&self) -> usize {
        self.rest.len()
    }

    /// d^2 of a code at a place.
    pub(crate) fn distance(&self, place: usize, code: &[f64]) -> f64 {
        let (len, kept) = (self.len, self.gains.len() / self.count());
        let mean = &self.means[place * len..][..len];
        let away: Vec<f64> = code.iter().zip(mean).map(|(v, &m)| v - f64::from(m)).collect();
        let square: f64 = away.iter().map(|v| v * v).sum();
        let along = |i: usize| {
            let axis = &self.axes[(place * kept + i) * len..][..len];
            let product: f64 = axis.iter().zip(&away).map(|(&a, v)| f64::from(a) * v).sum();
            f64::from(self.gains[place * kept + i]) * product * product
        };
        // Rounded axes are not quite a basis: what is left is never less than nothing.
        let rest = square * f64::from(self.rest[place]);
        (rest + (0..kept).map(along).sum::<f64>()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of 6 numbers about a plane of two, at two places.
    fn codes(n: usize) -> Vec<[Vec<f64>; 2]> {
        let wave = |i: usize, k: f64| (i as f64 * k).sin();
        let of = |i: usize| {
            let (a, b) = (wave(i, 1.3), wave(i, 2.9));
            let code = |m: f64| {
                (0..6)
                    .map(|k| m * k as f64 + a * (k as f64 - 2.0) + 0.3 * b * wave(k, 1.0))
                    .collect()
            };
            [code(1.0), code(-2.0)]
        };
        (0..n).map(of).collect()
    }

    #[test]
    fn a_distance_is_that_of_the_shrunk_covariance() -> Result<()> {
        let all = codes(40);
        let mut gathered = Gathered::new(2, 6);
        for code in all.iter().flatten() {
            gathered.add(code.iter().copied());
        }
        let places = gathered.fitted()?;
        assert_eq!(places.count(), 2);
        for place in 0..2 {
            // The definition, with all eigenvectors.
            let rows = DMatrix::from_fn(40, 6, |i, k| all[i][place][k]);
            let mean = rows.row_mean();
            let centred = DMatrix::from_fn(40, 6, |i, k| rows[(i, k)] - mean[k]);
            let covariance = centred.transpose() * &centred / 40.0;
            let ridge = DMatrix::identity(6, 6) * (SHRINKAGE * covariance.trace() / 6.0);
            let inverse = (covariance * (1.0 - SHRINKAGE) + ridge).try_inverse().unwrap();
            for code in [&all[7][place], &all[8][1 - place], &vec![0.5; 6]] {
                let away = DMatrix::from_fn(6, 1, |k, _| code[k] - mean[k]);
                let expected = (away.transpose() * &inverse * away)[(0, 0)];
                let found = places.distance(place, code);
                assert!((found / expected - 1.0).abs() < 2e-3, "{place}: {found} {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn codes_that_are_all_the_same_have_distances_all_the_same() -> Result<()> {
        let mut gathered = Gathered::new(1, 3);
        (0..4).for_each(|_| gathered.add([1.0, 2.0, 3.0].into_iter()));
        let places = gathered.fitted()?;
        assert_eq!(places.distance(0, &[1.0, 2.0, 3.0]), 0.0);
        assert!(places.distance(0, &[1.0, 2.0, 4.0]) > 0.0);
        let mut gathered = Gathered::new(1, 1);
        gathered.add([f64::NAN].into_iter());
        assert!(gathered.fitted().is_err());
        Ok(())
    }
}
