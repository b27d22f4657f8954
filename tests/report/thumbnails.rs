//! Tiles of images, reconstructions and errors.

use gradcon::Images;
use gradcon::report::thumbnails::Thumbnails;

#[test]
fn tiles_of_nonsense_are_refused() {
    let shape = [1, 2, 3, 1];
    let message = |inputs: &[f32], reconstructions: &[f32], shape, which: &[usize]| {
        Thumbnails::new(inputs, reconstructions, shape, which).err().unwrap().to_string()
    };
    let (good, nan) = ([0.0; 6], [f32::NAN; 6]);
    assert!(Thumbnails::new(&good, &good, shape, &[0]).is_ok(), "good input must pass");
    assert!(message(&good, &nan, shape, &[0]).contains("a pixel is NaN"));
    assert_eq!(message(&good, &good, shape, &[1]), "image 1 of 1");
    assert_eq!(
        message(&good, &[0.0; 5], shape, &[0]),
        "reconstructions: 5 values for shape [1, 2, 3, 1] = 6"
    );
    assert!(message(&[0.0; 12], &[0.0; 12], [1, 2, 3, 2], &[0]).contains("2 channels"));
    assert!(message(&[], &[], [0, 2, 3, 1], &[]).contains("no pixel"));
}

#[test]
fn error_maps_share_one_scale() {
    // Image 0 errs by 0.5 in one pixel, image 1 by 0.25 (channel mean of 0.75, 0, 0) in
    // another.
    let shape = [2, 1, 2, 3];
    let inputs = [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.2];
    let reconstructions = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 0.2];
    let tiles = Thumbnails::new(&inputs, &reconstructions, shape, &[1, 0]).unwrap();
    assert_eq!(tiles.error_scale, 0.5);
    let pixel = |images: &Images, i: usize, x: usize| images.image(i)[3 * x..][..3].to_vec();
    let pixels = |i: usize| [0, 1].map(|x| pixel(&tiles.errors, i, x));
    assert_eq!(pixels(1), [[252, 255, 164], [0, 0, 4]], "image 0: brightest, then no error");
    assert_eq!(pixels(0), [[0, 0, 4], [188, 55, 84]], "image 1: no error, then half the scale");
    assert_eq!(pixel(&tiles.inputs, 0, 1), [255, 255, 51]);
    assert_eq!(pixel(&tiles.reconstructions, 0, 1), [64, 255, 51]);
    let same = Thumbnails::new(&inputs, &inputs, shape, &[0]).unwrap();
    assert_eq!(pixel(&same.errors, 0, 0), [0, 0, 4], "no error at all is black");
}
