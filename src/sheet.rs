//! Images to look at: many of them side by side on one, and any of them as a PNG file.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};
use crate::images::Images;

/// Pixels between and around the images of a grid.
const GAP: usize = 2;
/// Their colour: between the dark and the light backgrounds that images have.
const BACKGROUND: u8 = 128;

/// One image [1, h, w, c] with all of `images` in reading order, `columns` side by side, each
/// magnified `zoom` times.
///
/// # Panics
/// If there are no images or a number is zero.
pub fn grid(images: &Images, columns: usize, zoom: usize) -> Images {
    assert!(images.n > 0 && columns > 0 && zoom > 0, "grid: nothing to show");
    let columns = columns.min(images.n);
    let rows = images.n.div_ceil(columns);
    let (cell_h, cell_w, c) =
        (images.height * zoom + GAP, images.width * zoom + GAP, images.channels);
    let (height, width) = (rows * cell_h + GAP, columns * cell_w + GAP);
    let mut data = vec![BACKGROUND; height * width * c];
    for k in 0..images.n {
        let image = images.image(k);
        let (top, left) = (k / columns * cell_h + GAP, k % columns * cell_w + GAP);
        for y in 0..images.height * zoom {
            for x in 0..images.width * zoom {
                let from = (y / zoom * images.width + x / zoom) * c;
                let to = ((top + y) * width + left + x) * c;
                data[to..to + c].copy_from_slice(&image[from..from + c]);
            }
        }
    }
    Images { data, n: 1, height, width, channels: c }
}

/// Image `i` as a PNG file in memory, gray or RGB.
///
/// # Errors
/// Other channels than 1 or 3, or an image without pixels.
///
/// # Panics
/// If there is no such image.
pub fn png(images: &Images, i: usize) -> Result<Vec<u8>> {
    let colour = match images.channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        c => return Err(Error::invalid(format!("a picture of {c} channels, expected 1 or 3"))),
    };
    let mut png = vec![];
    PngEncoder::new(&mut png)
        .write_image(images.image(i), images.width as u32, images.height as u32, colour)
        .map_err(|e| Error::invalid(format!("cannot encode a PNG: {e}")))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_puts_every_pixel_where_it_belongs() {
        // Three images of 2 x 3 pixels in two columns: value = 10 * image + index.
        let data = (0..3).flat_map(|i| (0..6).map(move |p| 10 * i + p)).collect();
        let images = Images::new(data, [3, 2, 3, 1]).unwrap();
        let sheet = grid(&images, 2, 4);
        assert_eq!((sheet.n, sheet.channels), (1, 1));
        assert_eq!((sheet.height, sheet.width), (2 + 2 * (2 * 4 + 2), 2 + 2 * (3 * 4 + 2)));
        let mut shown = 0;
        for y in 0..sheet.height {
            for x in 0..sheet.width {
                let (row, top) = ((y.wrapping_sub(2)) / 10, (y.wrapping_sub(2)) % 10);
                let (column, left) = ((x.wrapping_sub(2)) / 14, (x.wrapping_sub(2)) % 14);
                let inside = y >= 2 && x >= 2 && top < 8 && left < 12 && 2 * row + column < 3;
                let value = if inside {
                    shown += 1;
                    10 * (2 * row + column) + 3 * (top / 4) + left / 4
                } else {
                    128
                };
                assert_eq!(usize::from(sheet.data[y * sheet.width + x]), value, "{y}, {x}");
            }
        }
        assert_eq!(shown, 3 * 6 * 16);

        let images = Images::new((1..=6).collect(), [2, 1, 1, 3]).unwrap();
        let sheet = grid(&images, 9, 1);
        assert_eq!((sheet.height, sheet.width), (5, 8), "no more columns than images");
        let at = |y: usize, x: usize| &sheet.data[(y * 8 + x) * 3..][..3];
        assert_eq!((at(2, 2), at(2, 5), at(2, 3)), (&[1, 2, 3][..], &[4, 5, 6][..], &[128; 3][..]));
    }

    #[test]
    fn a_png_holds_the_image_and_other_channels_are_refused() {
        for c in [1, 3] {
            let images = Images::new((0..2 * 6 * c as u8).collect(), [2, 2, 3, c]).unwrap();
            let read = image::load_from_memory(&png(&images, 1).unwrap()).unwrap();
            assert_eq!((read.height(), read.width()), (2, 3));
            assert_eq!(read.color().channel_count() as usize, c);
            assert_eq!(read.into_bytes(), images.image(1));
        }
        let error = png(&Images::new(vec![0; 4], [1, 1, 2, 2]).unwrap(), 0).unwrap_err();
        assert!(error.to_string().contains("2 channels"), "{error}");
    }
}
