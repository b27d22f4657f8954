//! The most normal and most anomalous images.

use gradcon::folders::EvalPlace;
use gradcon::report::extremes::{extreme_indices, read_extremes};

use crate::samples::{CLASSES, rows, write_run};

#[test]
fn extremes_are_the_ends_of_the_order() {
    let scores = [0.3, -1.0, 2.0, 0.3, 5.0, -2.0];
    assert_eq!(extreme_indices(&scores, 2), (vec![5, 1], vec![4, 2]));
    assert_eq!(
        extreme_indices(&scores, 9),
        (vec![5, 1, 0], vec![4, 2, 3]),
        "no image on both sides"
    );
    assert_eq!(extreme_indices(&[1.0], 4), (vec![], vec![]));
}

#[test]
fn extremes_are_written_with_their_tiles() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let eval = EvalPlace::own(folder.path()).class(CLASSES[0]);
    let index = read_extremes(&eval.join("extremes.json")).unwrap();
    let all = rows(0.1);
    let least = all.iter().min_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
    assert_eq!((index.most_normal.len(), index.most_anomalous.len()), (3, 3));
    assert_eq!(
        (&index.most_normal[0].image, index.most_normal[0].score),
        (&least.image, least.score)
    );
    assert!(index.most_anomalous.windows(2).all(|w| w[0].score >= w[1].score));
    let tile = image::open(eval.join(&index.most_normal[0].input)).unwrap().to_rgb8();
    assert_eq!(tile.dimensions(), (3, 2));
    let i: usize = least.image["test/".len()..].parse().unwrap();
    let value = ((((i * 6) % 7) as f32 / 7.0) * 255.0).round() as u8;
    assert_eq!(tile.get_pixel(0, 0).0, [value; 3]);

    let text = std::fs::read_to_string(eval.join("extremes.json")).unwrap();
    std::fs::write(
        eval.join("extremes.json"),
        text.replace("normal-00-input.png", "../../secret.png"),
    )
    .unwrap();
    let message = read_extremes(&eval.join("extremes.json")).unwrap_err().to_string();
    assert!(
        message.ends_with("tile \"../../secret.png\", expected a plain file name"),
        "{message}"
    );
}
