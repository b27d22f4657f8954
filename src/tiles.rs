//! Tiles: where overlapping squares lie in an image, cutting them out, and putting what is known of
//! each together to a map of the image.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::images::{Images, SIZES, check_size};

/// The largest height and width of an image that is cut into tiles.
pub const MOST_IMAGE: usize = 1024;

/// How images are cut: squares of `size` pixels at every `stride` pixels of an image of `image`
/// pixels height and width, the last of a row or column flush with the edge. As text
/// `256/64/32`: image, tile, stride.
///
/// ```
/// use gradcon::Images;
/// use gradcon::tiles::Tiles;
///
/// let tiles = Tiles::new(80, 32, 20)?;
/// assert_eq!((tiles.starts(), tiles.count()), (vec![0, 20, 40, 48], 16));
/// assert_eq!(tiles.showing_a_spot(), 4);
/// assert_eq!("80/32/20".parse::<Tiles>()?, tiles);
/// let images = Images::new((0..2 * 80 * 80).map(|i| (i % 251) as u8).collect(), [2, 80, 80, 1])?;
/// let cut = tiles.cut(&images);
/// assert_eq!((cut.n, cut.height, cut.image(16 + 1)[0]), (32, 32, images.image(1)[20]));
/// assert_eq!(tiles.join(&cut), images);
/// // Where tiles overlap, a map has what lies between their values.
/// let map = tiles.map(&[&[1.0; 15][..], &[5.0]].concat());
/// assert!(map[0] == 1.0 && map[80 * 80 - 1] == 5.0 && map.iter().all(|v| (1.0..=5.0).contains(v)));
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tiles {
    image: usize,
    size: usize,
    stride: usize,
}

impl Tiles {
    /// Tiles of `size` pixels every `stride` pixels of images of `image` pixels.
    ///
    /// # Errors
    /// A size that models don't have, an image that is smaller than a tile or larger than
    /// [`MOST_IMAGE`], a stride that leaves gaps or is below an eighth of the tile.
    pub fn new(image: usize, size: usize, stride: usize) -> Result<Tiles> {
        check_size(size).map_err(|e| Error::Usage(format!("tiles: {e}")))?;
        if !(size..=MOST_IMAGE).contains(&image) {
            return Err(Error::Usage(format!(
                "images of {image} x {image} for tiles of {size} x {size}: expected {size} to \
                 {MOST_IMAGE}"
            )));
        }
        let least = size.div_ceil(8);
        if !(least..=size).contains(&stride) {
            return Err(Error::Usage(format!(
                "tiles of {size} x {size} every {stride} pixels: expected every {least} to {size}"
            )));
        }
        Ok(Tiles { image, size, stride })
    }

    /// Height and width of an image.
    pub fn image(&self) -> usize {
        self.image
    }

    /// Height and width of a tile.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Pixels from a tile to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Where the tiles of a row (or column) of them begin.
    pub fn starts(&self) -> Vec<usize> {
        let last = self.image - self.size;
        (0..last.div_ceil(self.stride) + 1).map(|i| (i * self.stride).min(last)).collect()
    }

    /// How many tiles an image has.
    pub fn count(&self) -> usize {
        self.starts().len().pow(2)
    }

    /// How many tiles show a spot in the midst of an image, at the most.
    pub fn showing_a_spot(&self) -> usize {
        self.size.div_ceil(self.stride).min(self.starts().len()).pow(2)
    }

    /// All tiles of all images, [n * count, size, size, c]: an image's are neighbours, row by row.
    ///
    /// # Panics
    /// If the images have another size.
    pub fn cut(&self, images: &Images) -> Images {
        assert_eq!([images.height, images.width], [self.image; 2], "images of another size");
        let (c, starts) = (images.channels, self.starts());
        let mut data = Vec::with_capacity(images.n * self.count() * self.size * self.size * c);
        for image in (0..images.n).map(|i| images.image(i)) {
            for &top in &starts {
                for &left in &starts {
                    for y in top..top + self.size {
                        let row = (y * self.image + left) * c;
                        data.extend_from_slice(&image[row..row + self.size * c]);
                    }
                }
            }
        }
        let n = images.n * self.count();
        Images { data, n, height: self.size, width: self.size, channels: c }
    }

    /// The images [n, image, image, c] that were cut into `tiles` [n * count, size, size, c].
    ///
    /// # Panics
    /// If these are not all tiles of some images.
    pub fn join(&self, tiles: &Images) -> Images {
        let (count, c, starts) = (self.count(), tiles.channels, self.starts());
        assert!(tiles.n.is_multiple_of(count) && tiles.height == self.size, "all tiles of images");
        let (n, len) = (tiles.n / count, self.image * self.image * c);
        let mut data = vec![0; n * len];
        for tile in 0..tiles.n {
            let (top, left) = (tile % count / starts.len(), tile % starts.len());
            let (top, left) = (starts[top], starts[left]);
            for (y, row) in tiles.image(tile).chunks_exact(self.size * c).enumerate() {
                let at = tile / count * len + ((top + y) * self.image + left) * c;
                data[at..at + row.len()].copy_from_slice(row);
            }
        }
        Images { data, n, height: self.image, width: self.image, channels: c }
    }

    /// A map [image, image] of an image from a value of each of its tiles. A pixel has the mean of
    /// the values of the tiles that see it, weighed by how far it is from their edges: so the map
    /// has no steps.
    ///
    /// # Panics
    /// If there is not a value for each tile.
    pub fn map(&self, values: &[f64]) -> Vec<f32> {
        assert_eq!(values.len(), self.count(), "a value for each tile");
        self.merged(1, |tile, _| values[tile])
    }

    /// Images [image, image, channels] of one image from those of its tiles [count, size, size,
    /// channels], merged as by [`Tiles::map`].
    ///
    /// # Panics
    /// If there is not one for each tile.
    pub fn merge(&self, tiles: &[f32], channels: usize) -> Vec<f32> {
        let len = self.size * self.size * channels;
        assert_eq!(tiles.len(), self.count() * len, "an image for each tile");
        self.merged(channels, |tile, value| tiles[tile * len + value].into())
    }

    /// The weighed mean of `value(tile, i)`, i in [size, size, channels].
    fn merged(&self, channels: usize, value: impl Fn(usize, usize) -> f64) -> Vec<f32> {
        let (size, starts) = (self.size, self.starts());
        let weight = |i: usize| (i + 1).min(size - i) as f64;
        let mut weights = vec![0.0; self.image * self.image];
        let mut sums = vec![0.0; weights.len() * channels];
        for (row, &top) in starts.iter().enumerate() {
            for (column, &left) in starts.iter().enumerate() {
                let tile = row * starts.len() + column;
                for pixel in 0..size * size {
                    let (y, x) = (pixel / size, pixel % size);
                    let (at, weight) = ((top + y) * self.image + left + x, weight(y) * weight(x));
                    weights[at] += weight;
                    for c in 0..channels {
                        sums[at * channels + c] += weight * value(tile, pixel * channels + c);
                    }
                }
            }
        }
        let mean = |(i, sum): (usize, &f64)| (sum / weights[i / channels]) as f32;
        sums.iter().enumerate().map(mean).collect()
    }
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}/{}", self.image, self.size, self.stride)
    }
}

impl FromStr for Tiles {
    type Err = Error;

    fn from_str(text: &str) -> Result<Tiles> {
        let numbers: Option<Vec<usize>> = text.split('/').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[image, size, stride]) => Tiles::new(image, size, stride),
            _ => Err(Error::invalid(format!(
                "tiles '{}': expected IMAGE/TILE/STRIDE, such as 256/64/32 (tiles of {SIZES:?})",
                crate::limits::shown(text)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_seen_and_cut_where_it_lies() -> Result<()> {
        for (image, size, stride) in [(28, 28, 28), (96, 32, 32), (100, 28, 13), (61, 32, 4)] {
            let tiles = Tiles::new(image, size, stride)?;
            let starts = tiles.starts();
            assert_eq!((starts[0], starts[starts.len() - 1] + size), (0, image), "{tiles}");
            assert!(starts.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] <= stride), "{tiles}");
            // Every pixel of a channel has its own place in its value.
            let data =
                (0..image * image).flat_map(|i| [(i % 256) as u8, (i / 256) as u8]).collect();
            let images = Images::new(data, [1, image, image, 2])?;
            let cut = tiles.cut(&images);
            assert_eq!(cut.n, tiles.count());
            for (tile, pixel) in [(0, 0), (cut.n - 1, size * size - 1), (cut.n / 2, size + 3)] {
                let (top, left) = (starts[tile / starts.len()], starts[tile % starts.len()]);
                let at = (top + pixel / size) * image + left + pixel % size;
                let expected = [(at % 256) as u8, (at / 256) as u8];
                assert_eq!(cut.image(tile)[2 * pixel..2 * pixel + 2], expected, "{tiles} {tile}");
            }
        }
        Ok(())
    }

    #[test]
    fn maps_of_tiles_that_agree_are_what_they_agree_on() -> Result<()> {
        let tiles = Tiles::new(61, 32, 11)?;
        let gray: Vec<u8> = (0..61 * 61).map(|i| (i * 7 % 253) as u8).collect();
        let cut = tiles.cut(&Images::new(gray.clone(), [1, 61, 61, 1])?);
        let maps: Vec<f32> = cut.data.iter().map(|&v| v.into()).collect();
        let merged = tiles.merge(&maps, 1);
        let close = |(&a, &b): (&f32, &u8)| (a - f32::from(b)).abs() < 1e-4;
        assert!(merged.iter().zip(&gray).all(close));
        // The one tile that differs is seen the most in its middle.
        let mut values = vec![0.0; tiles.count()];
        values[5] = 1.0;
        let map = tiles.map(&values);
        let most = (0..map.len()).max_by(|&a, &b| map[a].total_cmp(&map[b])).unwrap_or(0);
        let starts = tiles.starts();
        let (top, left) = (starts[5 / starts.len()], starts[5 % starts.len()]);
        assert!((top..top + 32).contains(&(most / 61)) && (left..left + 32).contains(&(most % 61)));
        Ok(())
    }

    #[test]
    fn what_is_no_tiling_is_told() {
        for (text, part) in [
            ("256/64", "IMAGE/TILE/STRIDE"),
            ("256/65/32", "28, 32, 48"),
            ("32/64/32", "expected 64 to 1024"),
            ("2048/64/32", "expected 64 to 1024"),
            ("256/64/65", "every 8 to 64"),
            ("256/64/0", "every 8 to 64"),
        ] {
            let error = text.parse::<Tiles>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(
            Tiles::new(256, 64, 32).map(|tiles| tiles.to_string()).ok(),
            Some("256/64/32".into())
        );
    }
}
