//! Changed copies of training images: what may vary from one normal image to the next, where there
//! are too few to show it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::split::{Purpose, below, stream};
use crate::images::Images;

/// A way in which a copy may differ from its image.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Moved by up to a fourteenth of the size in each direction (2 pixels of 28); the pixels of
    /// the border fill what comes free.
    Shift,
    /// Left and right exchanged, in every second copy.
    Flip,
    /// Every value times one factor of the copy, from 0.9 to 1.1.
    Brightness,
}

/// The images, and behind them `copies` changed ones of each: all of the first image's first.
/// Everything is drawn from `seed`, so the same seed gives the same copies everywhere.
pub fn augmented(images: &Images, changes: &[Change], copies: usize, seed: u64) -> Images {
    let mut data = images.data.clone();
    let mut rng = stream(seed, Purpose::Augment, 0);
    for i in 0..images.n {
        for _ in 0..copies {
            data.extend(Copy::draw(images, changes, &mut rng).of(images, i));
        }
    }
    Images { data, n: images.n * (1 + copies), ..*images }
}

/// What becomes of one copy.
struct Copy {
    down: isize,
    right: isize,
    flipped: bool,
    /// In thousandths.
    brightness: u32,
}

impl Copy {
    /// Draws the same numbers whichever changes are asked for, so that one more leaves the others
    /// as they were.
    fn draw(images: &Images, changes: &[Change], rng: &mut ChaCha8Rng) -> Copy {
        let mut shift = |size: usize| {
            let most = (size / 14).max(1);
            below(2 * most as u64 + 1, rng) as isize - most as isize
        };
        let (down, right) = (shift(images.height), shift(images.width));
        let (flipped, brightness) = (rng.next_u64() >> 63 == 1, 900 + below(201, rng) as u32);
        let has = |change| changes.contains(&change);
        Copy {
            down: if has(Change::Shift) { down } else { 0 },
            right: if has(Change::Shift) { right } else { 0 },
            flipped: has(Change::Flip) && flipped,
            brightness: if has(Change::Brightness) { brightness } else { 1000 },
        }
    }

    /// The pixels of image `i`, changed.
    fn of(&self, images: &Images, i: usize) -> Vec<u8> {
        let (image, channels) = (images.image(i), images.channels);
        let from = |to: usize, moved: isize, size: usize| {
            (to as isize - moved).clamp(0, size as isize - 1) as usize
        };
        let mut changed = Vec::with_capacity(image.len());
        for y in 0..images.height {
            let row = from(y, self.down, images.height);
            for x in 0..images.width {
                let column = from(x, self.right, images.width);
                let column = if self.flipped { images.width - 1 - column } else { column };
                let pixel = &image[(row * images.width + column) * channels..][..channels];
                changed.extend(pixel.iter().map(|&v| self.brightened(v)));
            }
        }
        changed
    }

    fn brightened(&self, value: u8) -> u8 {
        ((u32::from(value) * self.brightness + 500) / 1000).min(255) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of 4 rows, 5 columns and 3 channels whose values are all different.
    fn images() -> Images {
        Images::new((0..120).map(|v| 2 * v + 1).collect(), [2, 4, 5, 3]).unwrap()
    }

    #[test]
    fn a_change_does_what_its_name_says() {
        let images = images();
        let none = Copy { down: 0, right: 0, flipped: false, brightness: 1000 };
        assert_eq!(none.of(&images, 1), images.image(1));
        let pixel = |data: &[u8], y: usize, x: usize| data[(y * 5 + x) * 3..][..3].to_vec();
        let moved = Copy { down: 1, right: -2, ..none };
        let moved = moved.of(&images, 0);
        for (y, x) in [(1, 0), (3, 2)] {
            assert_eq!(pixel(&moved, y, x), pixel(images.image(0), y - 1, x + 2));
        }
        // The border stays at the border.
        assert_eq!(pixel(&moved, 0, 4), pixel(images.image(0), 0, 4));
        let flipped = Copy { down: 0, right: 0, flipped: true, brightness: 1000 }.of(&images, 0);
        assert_eq!(pixel(&flipped, 2, 1), pixel(images.image(0), 2, 3));
        let bright = Copy { down: 0, right: 0, flipped: false, brightness: 1100 };
        assert_eq!([0, 5, 100, 240].map(|v| bright.brightened(v)), [0, 6, 110, 255]);
    }

    #[test]
    fn copies_follow_the_images_and_the_seed() {
        let images = images();
        let all = [Change::Shift, Change::Flip, Change::Brightness];
        let made = augmented(&images, &all, 20, 7);
        assert_eq!((made.n, made.data.len()), (42, 42 * 60));
        assert_eq!(made.data[..120], images.data);
        assert_eq!(made, augmented(&images, &all, 20, 7));
        assert_ne!(made, augmented(&images, &all, 20, 8));
        // Copies of an image are of that image: its darkest value is its own.
        let darkest = |i: usize| *made.image(i).iter().min().unwrap();
        assert!((2..22).all(|i| darkest(i) < 60) && (22..42).all(|i| darkest(i) > 100));
        assert!((2..42).filter(|&i| made.image(i) != images.image((i - 2) / 20)).count() > 30);
    }

    #[test]
    fn one_change_leaves_the_others_as_they_were() {
        let images = images();
        let bright = augmented(&images, &[Change::Brightness], 5, 3);
        let both = augmented(&images, &[Change::Brightness, Change::Flip], 5, 3);
        // Flipping moves values and changes none.
        for i in 2..12 {
            let sorted = |images: &Images| {
                let mut values = images.image(i).to_vec();
                values.sort_unstable();
                values
            };
            assert_eq!(sorted(&bright), sorted(&both));
        }
        assert_ne!(bright, both);
        assert_eq!(augmented(&images, &[], 1, 3).data, [images.data.clone(), images.data].concat());
    }
}
