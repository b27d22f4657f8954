//! Resizing.

use std::fs;
use std::path::Path;

use gradcon::data::resize;

use super::{assert_same_images, fixture, load_images};

#[test]
fn resizing_agrees_with_pillow() {
    let mut cases = 0;
    for entry in fs::read_dir(fixture("resize")).expect("fixtures") {
        let path = entry.unwrap().path();
        if let Some(name) = path.to_string_lossy().strip_suffix("_in.npy") {
            let resized = resize::resize(&load_images(&path), 28, 28);
            let expected = load_images(Path::new(&format!("{name}_out.npy")));
            // The arithmetic is Pillow's own; one level is left for a sine that is rounded
            // differently elsewhere.
            assert_same_images(&resized, &expected, 1, expected.data.len() / 1000);
            cases += 1;
        }
    }
    assert_eq!(cases, 11);
}
