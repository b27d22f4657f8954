//! Pictures of maps: by themselves, and laid over the image that they are of.

use super::colour::heat;
use crate::data::picture::Frame;
use crate::images::Images;

/// Levels [size, size] of a square, 0 to 1, seen in the picture that it was made of: between its
/// pixels they are interpolated. A row at a time, as pictures may be large.
pub struct Stretched<'a> {
    levels: &'a [f32],
    size: usize,
    rows: Vec<Option<Place>>,
    columns: Vec<Option<Place>>,
}

/// The two pixels of a row or column of the square between which a pixel of the picture lies, and
/// how far it is from the first to the second.
type Place = (usize, usize, f32);

impl Stretched<'_> {
    /// Levels [size, size] of a picture [height, width], of which the frame says what became what.
    pub fn new<'a>(
        levels: &'a [f32],
        size: usize,
        frame: &Frame,
        [height, width]: [usize; 2],
    ) -> Stretched<'a> {
        let place = |axis: usize, i: usize| {
            let inside = i.checked_sub(frame.from_at[axis]).filter(|&i| i < frame.from[axis])?;
            let scale = frame.to[axis] as f64 / frame.from[axis] as f64;
            let (first, last) = (frame.to_at[axis], frame.to_at[axis] + frame.to[axis] - 1);
            let at = first as f64 + (inside as f64 + 0.5) * scale - 0.5;
            let at = at.clamp(first as f64, last as f64);
            let low = at as usize;
            Some((low, (low + 1).min(last), (at - low as f64) as f32))
        };
        Stretched {
            levels,
            size,
            rows: (0..height).map(|y| place(0, y)).collect(),
            columns: (0..width).map(|x| place(1, x)).collect(),
        }
    }

    /// The levels of row `y`; none for what the square doesn't show.
    fn row(&self, y: usize) -> impl Iterator<Item = Option<f32>> + '_ {
        let row = self.rows[y];
        self.columns.iter().map(move |column| {
            let ((top, bottom, down), (left, right, across)) = row.zip(*column)?;
            let between = |y: usize| {
                let [a, b] = [left, right].map(|x| self.levels[y * self.size + x]);
                a + (b - a) * across
            };
            let [a, b] = [top, bottom].map(between);
            Some(a + (b - a) * down)
        })
    }

    /// A picture [1, height, width, 3] from black (0) to pale yellow (1); gray where the square
    /// shows nothing.
    pub fn heat_map(&self) -> Images {
        let (height, width) = (self.rows.len(), self.columns.len());
        let mut data = Vec::with_capacity(height * width * 3);
        for y in 0..height {
            data.extend(self.row(y).flat_map(|level| level.map_or([128; 3], heat)));
        }
        Images { data, n: 1, height, width, channels: 3 }
    }

    /// The picture [1, height, width, 1 or 3] with the levels laid over it, [1, height, width, 3]:
    /// nothing at level 0, yellow at 0.5, which few pixels of normal images reach, red at 1.
    ///
    /// # Panics
    /// If the picture has another size.
    pub fn overlay(&self, picture: &Images) -> Images {
        let shape = [self.rows.len(), self.columns.len()];
        assert_eq!([picture.height, picture.width], shape, "a picture of another size");
        let mut data = Vec::with_capacity(shape[0] * shape[1] * 3);
        let rows = picture.data.chunks_exact(picture.width * picture.channels);
        for (y, row) in rows.enumerate() {
            let pixels = row.chunks_exact(picture.channels);
            data.extend(pixels.zip(self.row(y)).flat_map(|(pixel, level)| covered(pixel, level)));
        }
        Images { data, n: 1, height: shape[0], width: shape[1], channels: 3 }
    }
}

/// How much of a picture is covered at the most.
const OPAQUE: f32 = 0.65;

/// A pixel, gray or RGB, with a level laid over it.
fn covered(pixel: &[u8], level: Option<f32>) -> [u8; 3] {
    let level = level.unwrap_or(0.0).clamp(0.0, 1.0);
    let cover = OPAQUE * (2.0 * level).min(1.0).powi(2);
    let red = (2.0 * level - 1.0).max(0.0);
    let colour = [255.0 - 35.0 * red, 210.0 * (1.0 - red), 30.0 * red];
    let under = [0, 1, 2].map(|c| f32::from(pixel[c.min(pixel.len() - 1)]));
    [0, 1, 2].map(|c| (under[c] + (colour[c] - under[c]) * cover).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::picture::Aspect;

    #[test]
    fn a_map_lies_where_the_picture_was_seen() {
        // A level that rises from left to right.
        let levels: Vec<f32> = (0..64).map(|i| (i % 8) as f32 / 7.0).collect();
        let sizes = [(Aspect::Squash, [20, 60]), (Aspect::Pad, [60, 20]), (Aspect::Crop, [30, 17])];
        for (aspect, size) in sizes {
            let frame = aspect.frame(size, 8);
            let found = Stretched::new(&levels, 8, &frame, size);
            let all: Vec<Option<f32>> = (0..size[0]).flat_map(|y| found.row(y)).collect();
            assert_eq!(all.len(), size[0] * size[1]);
            let seen = all.iter().filter(|level| level.is_some()).count();
            let expected = if aspect == Aspect::Crop { 17 * 17 } else { size[0] * size[1] };
            assert_eq!(seen, expected, "{aspect}");
            let row: Vec<f32> = found.row(size[0] / 2).flatten().collect();
            let last = row[row.len() - 1];
            assert!(row.windows(2).all(|w| w[1] >= w[0]) && last > row[0], "{aspect}");
            // Of the padded picture only the middle of the square is its own.
            let ends = if aspect == Aspect::Pad { [2.0 / 7.0, 4.0 / 7.0] } else { [0.0, 1.0] };
            let away = [row[0] - ends[0], last - ends[1]];
            assert!(away.iter().all(|d| d.abs() < 1e-6), "{aspect}: {row:?}");
            assert_eq!(found.heat_map().data.len(), size[0] * size[1] * 3);
        }
    }

    #[test]
    fn an_overlay_leaves_what_is_normal_and_reddens_what_is_not() {
        let picture = Images { data: vec![100; 6], n: 1, height: 2, width: 3, channels: 1 };
        let frame = Aspect::Crop.frame([2, 3], 2);
        let levels = [0.0, 1.0, 0.0, 1.0];
        let found = Stretched::new(&levels, 2, &frame, [2, 3]).overlay(&picture);
        let pixel = |x: usize| &found.data[3 * x..3 * x + 3];
        // The last column is cut off.
        assert_eq!((pixel(0), pixel(2)), (&[100; 3][..], &[100; 3][..]));
        assert!(pixel(1)[0] > 150 && pixel(1)[1] < 50 && pixel(1)[2] < 80, "{:?}", pixel(1));
    }
}
