//! Sets of images that carry their shape with them, so that nobody has to trust a number of bytes.

use std::fmt;

use crate::error::{Error, Result};

/// Height and width of an image, where nobody says another: the paper's.
pub const IMAGE_SIZE: usize = 28;

/// The heights and widths that images and models can have: the paper's, and 3 or 4 times a power of
/// two, which can be halved exactly.
pub const SIZES: [usize; 8] = [IMAGE_SIZE, 32, 48, 64, 96, 128, 192, 256];

/// The size, if it is one of [`SIZES`].
///
/// ```
/// use gradcon::images::check_size;
///
/// assert_eq!(check_size(64)?, 64);
/// assert!(check_size(65).unwrap_err().to_string().contains("28, 32, 48, 64"));
/// # Ok::<(), gradcon::Error>(())
/// ```
///
/// # Errors
/// It is another; the message has them all.
pub fn check_size(size: usize) -> Result<usize> {
    if SIZES.contains(&size) {
        return Ok(size);
    }
    let sizes = SIZES.map(|size| size.to_string()).join(", ");
    Err(Error::Usage(format!("images of {size} x {size}: expected one of {sizes}")))
}

/// Images of one size, bytes in [n, height, width, channels] order.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    /// The pixels, `n * height * width * channels` of them.
    pub data: Vec<u8>,
    /// Number of images.
    pub n: usize,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// 1 (gray) or 3 (red, green, blue) in datasets; models take any number.
    pub channels: usize,
}

/// The shape only: nobody wants to read millions of pixels.
impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images [{}, {}, {}, {}]", self.n, self.height, self.width, self.channels)
    }
}

impl Images {
    /// Images [n, height, width, channels] from their bytes.
    ///
    /// # Errors
    /// The shape has another number of bytes than there are; the message names both.
    pub fn new(data: Vec<u8>, [n, height, width, channels]: [usize; 4]) -> Result<Images> {
        let images = Images { data, n, height, width, channels };
        images.check()?;
        Ok(images)
    }

    /// Errors unless the bytes are as many as the shape says: the fields are public.
    pub(crate) fn check(&self) -> Result<()> {
        let shape = [self.n, self.height, self.width, self.channels];
        let expected = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if expected == Some(self.data.len()) {
            return Ok(());
        }
        Err(Error::invalid(format!("{} bytes are no images of shape {shape:?}", self.data.len())))
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The pixels of image `i` [height, width, channels].
    pub fn image(&self, i: usize) -> &[u8] {
        &self.data[i * self.image_len()..][..self.image_len()]
    }

    /// Whether every pixel has the same value in all channels.
    pub(crate) fn is_gray(&self) -> bool {
        self.data.chunks_exact(self.channels.max(1)).all(|p| p.iter().all(|&v| v == p[0]))
    }

    /// The first channel alone; [n, height, width, 1].
    pub(crate) fn first_channel(&self) -> Images {
        let data = self.data.iter().step_by(self.channels.max(1)).copied().collect();
        Images { data, channels: 1, ..*self }
    }

    /// The mean squared error of these images, values in [0, 1], against the mean of `others`: what a
    /// model comes to that has learned nothing but that. None without images, or of other shapes.
    pub fn error_of_mean(&self, others: &Images) -> Option<f64> {
        let len = self.image_len();
        if self.n == 0 || others.n == 0 || others.image_len() != len {
            return None;
        }
        let mut mean = vec![0.0; len];
        for image in others.data.chunks_exact(len) {
            mean.iter_mut().zip(image).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        mean.iter_mut().for_each(|sum| *sum /= others.n as f64);
        let errors = self.data.chunks_exact(len).flat_map(|image| image.iter().zip(&mean));
        let sum: f64 = errors.map(|(&v, mean)| (f64::from(v) - mean).powi(2)).sum();
        Some(sum / (self.n * len) as f64 / (255.0 * 255.0))
    }

    /// The images at `indices`, in that order; [indices.len(), height, width, channels].
    pub fn select(&self, indices: &[usize]) -> Images {
        let mut data = Vec::with_capacity(indices.len() * self.image_len());
        indices.iter().for_each(|&i| data.extend_from_slice(self.image(i)));
        Images { data, n: indices.len(), ..*self }
    }

    /// The first `n` images, and the rest.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_at(&self, n: usize) -> (Images, Images) {
        let (head, tail) = self.data.split_at(n * self.image_len());
        (
            Images { data: head.to_vec(), n, ..*self },
            Images { data: tail.to_vec(), n: self.n - n, ..*self },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_mean_is_that_of_its_values() {
        let images = |data: &[u8]| Images::new(data.to_vec(), [data.len() / 2, 1, 2, 1]).unwrap();
        // The mean is (51, 102); errors 51^2, 0, 0, 102^2 of 255^2.
        let error = images(&[0, 102, 51, 204]).error_of_mean(&images(&[0, 102, 102, 102]));
        assert!((error.unwrap() - (0.04 + 0.16) / 4.0).abs() < 1e-15, "{error:?}");
        let other = Images::new(vec![1; 3], [1, 1, 3, 1]).unwrap();
        assert_eq!(images(&[1, 2]).error_of_mean(&other), None);
        assert_eq!(images(&[]).error_of_mean(&images(&[1, 2])), None);
    }

    #[test]
    fn a_shape_has_its_number_of_bytes() {
        let images = Images::new((0..24).collect(), [4, 1, 2, 3]).unwrap();
        let (a, b) = images.split_at(1);
        assert_eq!((a.n, a.image(0), b.n, b.image(2)), (1, images.image(0), 3, images.image(3)));
        for shape in [[5, 1, 2, 3], [4, 2, 2, 3], [usize::MAX, 1, 2, 3]] {
            let error = Images::new(vec![0; 24], shape).unwrap_err().to_string();
            assert!(error.contains("24 bytes"), "{error}");
        }
    }
}
