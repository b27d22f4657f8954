//! Contact sheets: many small images on one, to look at.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::Images;
use crate::error::{Error, Result};
use crate::output;

const GAP: usize = 2;
const BACKGROUND: u8 = 128;

/// One image [1, h, w, c] of up to `most` images, evenly spread over all of `images`, in rows of
/// `columns`, each magnified `zoom` times.
///
/// # Panics
/// If there are no images or a number is zero.
pub fn contact_sheet(images: &Images, most: usize, columns: usize, zoom: usize) -> Images {
    assert!(images.n > 0 && most > 0 && columns > 0 && zoom > 0, "contact_sheet: nothing to show");
    let shown = images.n.min(most);
    let columns = columns.min(shown);
    let rows = shown.div_ceil(columns);
    let (cell_h, cell_w, c) =
        (images.height * zoom + GAP, images.width * zoom + GAP, images.channels);
    let (height, width) = (rows * cell_h + GAP, columns * cell_w + GAP);
    let mut data = vec![BACKGROUND; height * width * c];
    for k in 0..shown {
        let image = images.image(k * images.n / shown);
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

/// Writes the first image as a PNG file.
///
/// # Errors
/// The file can't be written.
pub fn write_png(path: &Path, images: &Images) -> Result<()> {
    let color = if images.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (images.width as u32, images.height as u32);
    let mut png = vec![];
    PngEncoder::new(&mut png)
        .write_image(images.image(0), width, height, color)
        .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    output::write(path, &png)
}
