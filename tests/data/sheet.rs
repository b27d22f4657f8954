//! Contact sheets.

use gradcon::data::{Images, sheet};

use super::{error_with, temp};

#[test]
fn a_contact_sheet_shows_images_evenly_spread_in_rows() {
    let data = (0..10u8).flat_map(|i| [i, i + 100]).collect();
    let images = Images { data, n: 10, height: 1, width: 2, channels: 1 };
    let sheet = sheet::contact_sheet(&images, 5, 3, 2);
    // Two rows of three cells of 2 x 4 pixels, with gaps of 2.
    assert_eq!((sheet.height, sheet.width), (2 + 2 * 4, 2 + 3 * 6));
    let at = |y: usize, x: usize| sheet.data[y * sheet.width + x];
    assert_eq!(
        [at(2, 2), at(2, 5), at(3, 8), at(3, 17), at(6, 2), at(7, 9)],
        [0, 100, 2, 104, 6, 8]
    );
    assert_eq!([at(0, 0), at(2, 6), at(6, 14)], [128; 3]);
    let dir = temp();
    let path = dir.path().join("sheet.png");
    sheet::write_png(&path, &sheet).expect("written");
    assert_eq!(image::open(&path).expect("a PNG file").into_luma8().into_raw(), sheet.data);
    error_with(sheet::write_png(&dir.path().join("absent/sheet.png"), &sheet), &["absent"]);
}
