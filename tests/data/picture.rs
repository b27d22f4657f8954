//! Decoding of picture files.

use gradcon::data::folder::{self, Decode};

use super::{assert_same_images, fixture, load_images};

#[test]
fn image_files_decode_as_pillow_decodes_them() {
    let files =
        folder::find_images(&fixture("images"), &mut folder::Tally::default()).expect("fixtures");
    let (photo, exact): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| path.ends_with("photo.jpeg"));
    assert_eq!(exact.len(), 7);
    for channels in [1, 3] {
        let expected = load_images(&fixture(&format!("images/expected_{channels}.npy")));
        let decode = Decode::new(channels, Decode::MAX_PIXELS).expect("1 or 3");
        let found = decode.files(&exact, &|_, _| Ok(())).expect("images");
        assert_same_images(&found, &expected, 1, expected.data.len() / 1000);
        let expected = load_images(&fixture(&format!("images/expected_photo_{channels}.npy")));
        let found = decode.files(&photo, &|_, _| Ok(())).expect("a photo");
        assert_same_images(&found, &expected, 2, expected.data.len());
    }
}
