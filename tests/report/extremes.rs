//! The most normal and most anomalous images.

use gradcon::folders::EvalPlace;
use gradcon::report::extremes::{Candidates, extreme_indices, read_extremes, write_extremes};

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
    std::fs::write(eval.join("extremes.json"), text.replace("00-input.png", "../../secret.png"))
        .unwrap();
    let message = read_extremes(&eval.join("extremes.json")).unwrap_err().to_string();
    assert!(
        message.ends_with("tile \"../../secret.png\", expected a plain file name"),
        "{message}"
    );
}

#[test]
fn the_most_wrong_are_shown_with_their_maps() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(0.1);
    let (images, n) = (vec![0.5; all.len() * 6], all.len());
    // All of the fourth pixel of every map is red.
    let levels: Vec<f32> = (0..n * 6).map(|i| if i % 6 == 3 { 1.0 } else { 0.0 }).collect();
    let candidates = Candidates {
        inputs: &images,
        reconstructions: &images,
        shape: [n, 2, 3, 1],
        levels: Some(&levels),
        rows: &all,
    };
    write_extremes(folder.path(), &candidates, 4, true).unwrap();
    let index = read_extremes(&folder.path().join("extremes.json")).unwrap();
    let score = |label: u8, most: bool| {
        let of = all.iter().filter(|row| row.label == Some(label)).map(|row| row.score);
        of.reduce(if most { f64::max } else { f64::min }).unwrap()
    };
    assert_eq!((index.missed.len(), index.false_alarms.len()), (4, 4));
    assert_eq!((index.missed[0].label, index.missed[0].score), (Some(1), score(1, false)));
    assert_eq!(
        (index.false_alarms[0].label, index.false_alarms[0].score),
        (Some(0), score(0, true))
    );
    let overlay = index.missed[0].overlay.as_ref().unwrap();
    let overlay = image::open(folder.path().join(overlay)).unwrap().to_rgb8();
    assert_eq!(overlay.get_pixel(1, 0).0, [128; 3]);
    let [red, green, _] = overlay.get_pixel(0, 1).0;
    assert!(red > 150 && green < 60, "{red} {green}");
}
