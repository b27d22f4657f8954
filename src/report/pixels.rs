//! Whether maps show where the defects are: metrics of maps against masks, pixel by pixel.
//!
//! Definitions are those of MVTec AD. **Pixel AUROC** is that of all pixels of all images.
//! **PRO** is the mean, over all connected regions of defective pixels (8 neighbours), of the share
//! of a region that is above a threshold; its area over the false positive rate of normal pixels
//! from 0 to 0.3, divided by 0.3. `tools/pixel_fixtures.py` has both by NumPy and SciPy.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::auroc_of_counts;
use crate::error::{Error, Result};

/// Where the curve of PRO ends.
const MOST_FALSE: f64 = 0.3;

/// Of larger maps every second pixel (or third, ...) of a row and every such row counts: they are
/// smooth, and all pixels are sorted.
const MOST_SIDE: usize = 256;

/// Maps of images and the truth about their pixels.
#[derive(Clone, Debug)]
pub struct Maps<'a> {
    /// Height and width of each.
    pub size: usize,
    /// [n, size, size], higher is more anomalous.
    pub maps: &'a [f32],
    /// Masks [size, size] of the n images: 0 normal, 1 defective; none where nobody knows.
    pub masks: Vec<Option<&'a [u8]>>,
    /// Which of the images are called anomalous; none where there is no threshold.
    pub flagged: Option<Vec<bool>>,
}

/// What maps are worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelResult {
    /// Area under the ROC curve of pixels.
    pub auroc: f64,
    /// Per-region overlap.
    pub pro: f64,
    /// Connected regions of defective pixels.
    pub regions: usize,
    /// Images with such a region.
    pub defective: usize,
    /// Of them, how many have the map's maximum in one.
    pub hits: usize,
    /// How many of them are called anomalous, where there is a threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<usize>,
    /// Of these, how many have the map's maximum in a defective region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_hits: Option<usize>,
}

impl PixelResult {
    /// The metrics of all images with a mask; none if no pixel of them is defective, or all are.
    ///
    /// ```
    /// use gradcon::report::pixels::{Maps, PixelResult};
    ///
    /// // Two images of 2 x 2 pixels: the first defect is found, the second one isn't.
    /// let (maps, masks) = ([0.9, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.0], [1, 0, 0, 0, 0, 0, 0, 1]);
    /// let masks = masks.chunks(4).map(Some).collect();
    /// let flagged = Some(vec![true, false]);
    /// let found = PixelResult::of(&Maps { size: 2, maps: &maps, masks, flagged })?.unwrap();
    /// assert_eq!((found.regions, found.defective, found.hits), (2, 2, 1));
    /// assert_eq!((found.found, found.found_hits), (Some(1), Some(1)));
    /// assert_eq!(found.auroc, 0.5);
    /// assert!((found.pro - 0.5).abs() < 1e-12); // half of the regions, at any threshold but the last
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    ///
    /// # Errors
    /// Maps, masks and images that are not as many, or a value that is no finite number.
    pub fn of(what: &Maps) -> Result<Option<PixelResult>> {
        let Maps { size, maps, ref masks, ref flagged } = *what;
        let (len, n) = (size * size, masks.len());
        let fits = masks.iter().flatten().all(|mask| mask.len() == len);
        if maps.len() != n * len || !fits || flagged.as_ref().is_some_and(|f| f.len() != n) {
            return Err(Error::invalid(format!(
                "{} values of maps for {n} masks of {size} x {size}",
                maps.len()
            )));
        }
        if let Some(i) = maps.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("the map of image {} has {}", i / len, maps[i])));
        }
        let step = size.div_ceil(MOST_SIDE).max(1);
        // 0 for normal pixels, else the region's number.
        let mut pixels: Vec<(f32, u32)> = vec![];
        let mut sizes: Vec<u32> = vec![0];
        let (mut defective, mut hits) = (0, 0);
        let (mut found, mut found_hits) = (0, 0);
        for (i, mask) in masks.iter().enumerate() {
            let (Some(mask), map) = (mask, &maps[i * len..][..len]) else { continue };
            if mask.contains(&1) {
                let most = (0..len).max_by(|&a, &b| map[a].total_cmp(&map[b])).unwrap_or(0);
                let is_hit = usize::from(mask[most] == 1);
                let is_found = flagged.as_ref().is_some_and(|flagged| flagged[i]);
                (defective, hits) = (defective + 1, hits + is_hit);
                if is_found {
                    (found, found_hits) = (found + 1, found_hits + is_hit);
                }
            }
            let side = size.div_ceil(step);
            let at = |p: usize| p / side * step * size + p % side * step;
            let small: Vec<u8> = (0..side * side).map(|p| mask[at(p)]).collect();
            let regions = regions(&small, side, &mut sizes);
            pixels.extend(regions.into_iter().enumerate().map(|(p, region)| (map[at(p)], region)));
        }
        let normal = pixels.iter().filter(|(_, region)| *region == 0).count();
        if sizes.len() == 1 || normal == 0 {
            return Ok(None);
        }
        pixels.par_sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        Ok(Some(PixelResult {
            auroc: area_of_roc(&pixels),
            pro: area_of_pro(&pixels, &sizes, normal as f64),
            regions: sizes.len() - 1,
            defective,
            hits,
            found: flagged.as_ref().map(|_| found),
            found_hits: flagged.as_ref().map(|_| found_hits),
        }))
    }

    /// Errors unless the numbers are possible.
    pub(super) fn check(&self) -> Result<()> {
        let is_share = |v: f64| (0.0..=1.0).contains(&v);
        let found = self.found.unwrap_or(0);
        let fits = self.hits <= self.defective
            && found <= self.defective
            && self.found_hits.unwrap_or(0) <= found;
        match is_share(self.auroc) && is_share(self.pro) && fits {
            true => Ok(()),
            false => Err(Error::invalid(format!("pixels: AUROC {}, PRO {}", self.auroc, self.pro))),
        }
    }
}

/// Numbers the connected regions of a mask [size, size], after those whose sizes are known: the
/// number of each pixel, 0 where it is normal.
fn regions(mask: &[u8], size: usize, sizes: &mut Vec<u32>) -> Vec<u32> {
    let mut of = vec![0; mask.len()];
    let mut open = vec![];
    for first in 0..mask.len() {
        if mask[first] != 1 || of[first] != 0 {
            continue;
        }
        let region = sizes.len() as u32;
        sizes.push(0);
        of[first] = region;
        open.push(first);
        while let Some(pixel) = open.pop() {
            sizes[region as usize] += 1;
            let (y, x) = (pixel / size, pixel % size);
            for y in y.saturating_sub(1)..(y + 2).min(size) {
                for x in x.saturating_sub(1)..(x + 2).min(size) {
                    let near = y * size + x;
                    if mask[near] == 1 && of[near] == 0 {
                        of[near] = region;
                        open.push(near);
                    }
                }
            }
        }
    }
    of
}

/// Groups of pixels of the same value, highest first.
fn levels(pixels: &[(f32, u32)]) -> impl Iterator<Item = &[(f32, u32)]> {
    pixels.chunk_by(|(a, _), (b, _)| a == b)
}

fn area_of_roc(pixels: &[(f32, u32)]) -> f64 {
    auroc_of_counts(levels(pixels).map(|level| {
        let normal = level.iter().filter(|(_, region)| *region == 0).count() as u64;
        (normal, level.len() as u64 - normal)
    }))
}

fn area_of_pro(pixels: &[(f32, u32)], sizes: &[u32], normal: f64) -> f64 {
    let regions = (sizes.len() - 1) as f64;
    let (mut rate, mut overlap, mut area) = (0.0, 0.0, 0.0);
    let mut false_positives = 0u64;
    for level in levels(pixels) {
        let mut more = 0.0;
        for &(_, region) in level {
            match region {
                0 => false_positives += 1,
                region => more += 1.0 / f64::from(sizes[region as usize]) / regions,
            }
        }
        let next = false_positives as f64 / normal;
        // The last step may be cut where the curve ends.
        let part = if next > MOST_FALSE { (MOST_FALSE - rate) / (next - rate) } else { 1.0 };
        area += (next - rate) * part * (overlap + more * part / 2.0);
        (rate, overlap) = (next, overlap + more);
        if rate >= MOST_FALSE {
            break;
        }
    }
    (area / MOST_FALSE).clamp(0.0, 1.0)
}
