//! Images beside what a model made of them: the small pictures that a page shows.

use super::colour::heat;
use crate::error::{Error, Result};
use crate::images::Images;

/// Some images with their reconstructions and error maps, m of each, in the order asked for.
pub struct Thumbnails {
    /// The images [m, h, w, c].
    pub inputs: Images,
    /// What the model made of them [m, h, w, c].
    pub reconstructions: Images,
    /// Absolute errors, averaged over channels [m, h, w, 3]: black = 0 and pale yellow =
    /// `error_scale`.
    pub errors: Images,
    /// The error shown brightest.
    pub error_scale: f32,
}

impl Thumbnails {
    /// The images `which` of `inputs` and `reconstructions` (both f32 in [0, 1], shape [n, h, w,
    /// c]).
    ///
    /// # Errors
    /// Slices that do not fit the shape, c other than 1 or 3, pixels that are not finite, an index
    /// past n.
    pub fn new(
        inputs: &[f32],
        reconstructions: &[f32],
        shape: [usize; 4],
        which: &[usize],
    ) -> Result<Thumbnails> {
        check("inputs", inputs, shape)?;
        check("reconstructions", reconstructions, shape)?;
        let [n, h, w, c] = shape;
        if let Some(i) = which.iter().find(|&&i| i >= n) {
            return Err(Error::invalid(format!("image {i} of {n}")));
        }
        let pixels = |images: &[f32]| -> Vec<f32> {
            let len = h * w * c;
            which.iter().flat_map(|&i| images[i * len..][..len].iter().copied()).collect()
        };
        let (inputs, reconstructions) = (pixels(inputs), pixels(reconstructions));
        let difference = |(x, y): (&[f32], &[f32])| {
            x.iter().zip(y).map(|(a, b)| (a - b).abs()).sum::<f32>() / c as f32
        };
        let errors: Vec<f32> =
            inputs.chunks_exact(c).zip(reconstructions.chunks_exact(c)).map(difference).collect();
        let error_scale = errors.iter().copied().fold(0.0, f32::max);
        let brightest = if error_scale > 0.0 { error_scale } else { 1.0 };
        let heat = errors.iter().flat_map(|e| heat(e / brightest)).collect();
        let shape = |c| [which.len(), h, w, c];
        Ok(Thumbnails {
            inputs: Images::new(bytes(&inputs), shape(c))?,
            reconstructions: Images::new(bytes(&reconstructions), shape(c))?,
            errors: Images::new(heat, shape(3))?,
            error_scale,
        })
    }
}

/// Pixels in [0, 1] (clamped) as bytes.
fn bytes(pixels: &[f32]) -> Vec<u8> {
    pixels.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

/// Names the mismatch between a slice and its shape, a channel count that is no picture, or a pixel
/// that is no number.
fn check(what: &str, pixels: &[f32], shape: [usize; 4]) -> Result<()> {
    let [n, h, w, c] = shape;
    if c != 1 && c != 3 {
        return Err(Error::invalid(format!("{what}: {c} channels, expected 1 (gray) or 3 (RGB)")));
    }
    if n * h * w == 0 {
        return Err(Error::invalid(format!("{what}: shape {shape:?} holds no pixel")));
    }
    if pixels.len() != n * h * w * c {
        return Err(Error::invalid(format!(
            "{what}: {} values for shape {shape:?} = {}",
            pixels.len(),
            n * h * w * c
        )));
    }
    match pixels.iter().find(|p| !p.is_finite()) {
        Some(bad) => {
            Err(Error::invalid(format!("{what}: a pixel is {bad}, expected a number in [0, 1]")))
        }
        None => Ok(()),
    }
}
