//! A drawing surface: rectangles, dashes and text on an RGB picture. What falls outside is cut off.

use std::path::Path;

use image::{ImageFormat, RgbImage};

use super::colour::{PAPER, Rgb, mix};
use super::file::write_atomic;
use super::font;
use crate::error::{Error, Result};

/// Where a text's x coordinate lies.
#[derive(Clone, Copy)]
pub enum Align {
    /// At its left end.
    Left,
    /// At its middle.
    Centre,
    /// At its right end.
    Right,
}

/// An RGB picture to draw on; coordinates are pixels from the top left corner.
pub struct Canvas(pub RgbImage);

impl Canvas {
    /// A blank canvas.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas(RgbImage::from_pixel(width as u32, height as u32, image::Rgb(PAPER)))
    }

    /// Puts `share` of `colour` on a pixel.
    pub fn blend(&mut self, x: i64, y: i64, colour: Rgb, share: f32) {
        let inside = |v: i64, size: u32| u32::try_from(v).ok().filter(|&v| v < size);
        if let (Some(x), Some(y)) = (inside(x, self.0.width()), inside(y, self.0.height())) {
            let pixel = self.0.get_pixel_mut(x, y);
            pixel.0 = mix(pixel.0, colour, share);
        }
    }

    /// A filled rectangle.
    pub fn fill(&mut self, x: i64, y: i64, width: i64, height: i64, colour: Rgb, share: f32) {
        for row in y..y + height {
            for column in x..x + width {
                self.blend(column, row, colour, share);
            }
        }
    }

    /// A frame of `thickness` pixels around the outside of a rectangle.
    pub fn frame(&mut self, x: i64, y: i64, width: i64, height: i64, thickness: i64, colour: Rgb) {
        let t = thickness;
        self.fill(x - t, y - t, width + 2 * t, t, colour, 1.0);
        self.fill(x - t, y + height, width + 2 * t, t, colour, 1.0);
        self.fill(x - t, y, t, height, colour, 1.0);
        self.fill(x + width, y, t, height, colour, 1.0);
    }

    /// One line of text with its top at `y`; a font pixel is `scale` pixels wide.
    pub fn text(&mut self, x: i64, y: i64, text: &str, scale: i64, align: Align, colour: Rgb) {
        let width = font::width(text) as i64 * scale;
        let mut x = match align {
            Align::Left => x,
            Align::Centre => x - width / 2,
            Align::Right => x - width,
        };
        for c in text.chars() {
            let columns = font::glyph(c);
            self.glyph(x, y, columns, scale, colour);
            x += (columns.len() as i64 + 1) * scale;
        }
    }

    /// Interpolates the bitmap between its pixels and sharpens the edge again: round shapes instead
    /// of stairs.
    fn glyph(&mut self, x: i64, y: i64, columns: &[u8], scale: i64, colour: Rgb) {
        let ink = |column: i64, row: i64| -> f32 {
            let byte =
                usize::try_from(column).ok().and_then(|c| columns.get(c)).copied().unwrap_or(0);
            if (0..font::HEIGHT as i64).contains(&row) { ((byte >> row) & 1) as f32 } else { 0.0 }
        };
        for py in -scale / 2..font::HEIGHT as i64 * scale + scale / 2 {
            for px in -scale / 2..columns.len() as i64 * scale + scale / 2 {
                let u = (px as f32 + 0.5) / scale as f32 - 0.5;
                let v = (py as f32 + 0.5) / scale as f32 - 0.5;
                let (column, row) = (u.floor() as i64, v.floor() as i64);
                let (fu, fv) = (u - u.floor(), v - v.floor());
                let top = ink(column, row) * (1.0 - fu) + ink(column + 1, row) * fu;
                let bottom = ink(column, row + 1) * (1.0 - fu) + ink(column + 1, row + 1) * fu;
                let cover = ((top * (1.0 - fv) + bottom * fv - 0.25) / 0.4).clamp(0.0, 1.0);
                if cover > 0.0 {
                    self.blend(x + px, y + py, colour, cover);
                }
            }
        }
    }
}

/// The picture as a PNG file in memory.
///
/// # Errors
/// The encoder's, which a picture of at least one pixel does not meet.
pub fn png_bytes(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::invalid(format!("cannot encode a PNG: {e}")))?;
    Ok(bytes.into_inner())
}

/// Writes the picture as PNG, atomically; missing folders are made.
///
/// # Errors
/// The file system's.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    write_atomic(path, &png_bytes(picture)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::colour::INK;

    #[test]
    fn text_inks_the_pixels_of_its_glyphs() {
        for (align, x, left) in [(Align::Left, 9, 9), (Align::Centre, 30, 9), (Align::Right, 48, 6)]
        {
            let mut canvas = Canvas::new(60, 40);
            canvas.text(x, 6, "F2,", 3, align, INK);
            let mut column = 0;
            for c in "F2,".chars() {
                for byte in font::glyph(c) {
                    for row in 0..font::HEIGHT {
                        let (x, y) = (left + 3 * column + 1, 6 + 3 * row as u32 + 1);
                        let want = if byte >> row & 1 == 1 { INK } else { PAPER };
                        assert_eq!(
                            canvas.0.get_pixel(x, y).0,
                            want,
                            "{c}, column {column}, row {row}"
                        );
                    }
                    column += 1;
                }
                column += 1;
            }
        }
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let mut canvas = Canvas::new(4, 3);
        canvas.fill(-2, -2, 4, 4, INK, 1.0);
        canvas.frame(2, 2, 9, 9, 1, INK);
        let inked: Vec<bool> = canvas.0.pixels().map(|p| p.0 == INK).collect();
        assert_eq!(
            inked,
            [true, true, false, false, true, true, true, true, false, true, false, false]
        );
    }
}
