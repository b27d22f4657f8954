//! CURE-TSR.

use std::fs;
use std::path::Path;

use gradcon::data::{Prepared, cure_tsr, prepare};

use super::{error_with, rgb, temp, write_image};

fn cure_tsr_tree(root: &Path) {
    for i in 1..=24 {
        write_image(
            &root.join(format!("Real_Train/ChallengeFree/01_{:02}_00_00_{i:04}.bmp", 1 + i % 2)),
            i,
        );
    }
    for i in 1..=4 {
        let sign = 10 + i;
        write_image(
            &root.join(format!("Real_Test/ChallengeFree/01_{sign}_00_00_{i:04}.bmp")),
            100 + i,
        );
        write_image(&root.join(format!("Real_Test/Haze-5/01_{sign}_12_05_{i:04}.bmp")), 150 + i);
        write_image(&root.join(format!("Real_Test/Snow-1/01_{sign}_11_01_{i:04}.bmp")), 200 + i);
    }
    write_image(&root.join("Real_Test/Snow-1/01_06_11_01_0009.bmp"), 209);
}

#[test]
fn cure_tsr_pairs_challenge_free_images_with_each_challenge_and_level() {
    let dir = temp();
    cure_tsr_tree(&dir.path().join("CURE-TSR"));
    let listing = cure_tsr::list(dir.path()).expect("CURE-TSR");
    let prepared = prepare::cure_tsr(&listing, rgb(), 0, &|_, _| Ok(())).expect("prepared");
    assert_eq!(
        prepared.inliers().iter().map(|i| i.name.as_str()).collect::<Vec<_>>(),
        ["challenge-free"]
    );
    // A tenth of the twelve images of each sign.
    assert_eq!((prepared.train_of(0).unwrap().n, prepared.val_of(0).unwrap().n), (22, 2));
    let sets: Vec<_> = prepared.test_sets().iter().map(|set| &set.info).collect();
    assert_eq!(
        sets.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(),
        ["Snow-1", "Haze-5"]
    );
    assert_eq!((sets[1].challenge.as_deref(), sets[1].level), (Some("Haze"), Some(5)));
    assert_eq!((sets[0].normal, sets[0].anomalous), (4, 5));
    let reds = |k: usize| {
        let images = prepared.images_of(&prepared.test_sets()[k]);
        (0..images.n).map(|i| images.image(i)[0]).collect::<Vec<_>>()
    };
    assert_eq!(reds(0), [101, 102, 103, 104, 209, 201, 202, 203, 204]);
    assert_eq!(reds(1), [101, 102, 103, 104, 151, 152, 153, 154]);
    assert_eq!(prepared.test_sets()[1].labels, [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(prepared.test().labels[..5], [10, 11, 12, 13, 5]);
    let names = prepared.names().expect("names");
    assert_eq!(names.test[4], "Real_Test/Snow-1/01_06_11_01_0009.bmp");
    assert_eq!((names.train.len(), names.val.len(), names.test.len()), (22, 2, 13));
    for (name, i) in names.train.iter().zip(0..) {
        let number: u8 =
            name[name.len() - 8..name.len() - 4].parse().expect("an index in the name");
        assert_eq!(prepared.train_of(0).unwrap().image(i)[0], number, "{name}");
    }

    let out = dir.path().join("out");
    prepared.write(&out, false).expect("written");
    let opened = Prepared::open(&out).expect("a prepared folder");
    assert_eq!((opened.names(), opened.test_sets()), (prepared.names(), prepared.test_sets()));
    fs::write(out.join("val_names.json"), "[\"one\"]").unwrap();
    error_with(Prepared::open(&out), &["val_names.json", "1 names, expected 2"]);
}

#[test]
fn cure_tsr_names_are_checked() {
    let known = cure_tsr::parse_name("01_06_03_05_0001.bmp").expect("a name");
    assert_eq!((known.sequence, known.sign, known.challenge, known.level), (1, 6, 3, 5));
    for name in [
        "01_06_03_05.bmp",
        "01_06_03_05_0001",
        "01_15_03_05_0001.bmp",
        "01_00_03_05_0001.bmp",
        "03_06_03_05_0001.bmp",
        "01_06_13_05_0001.bmp",
        "01_06_03_06_0001.bmp",
        "01_06_03_00_0001.bmp",
        "01_06_00_01_0001.bmp",
        "01_6_03_05_0001.bmp",
        "01_+6_03_05_0001.bmp",
        "01_06_03_05_.bmp",
        "01_06_03_05_1_2.bmp",
    ] {
        assert_eq!(cure_tsr::parse_name(name), None, "{name}");
    }
    let dir = temp();
    error_with(cure_tsr::list(dir.path()), &["Real_Train and Real_Test"]);
    cure_tsr_tree(dir.path());
    cure_tsr::list(dir.path()).expect("CURE-TSR");
    let stray = dir.path().join("Real_Test/Haze-5/01_06_12_04_0001.bmp");
    write_image(&stray, 1);
    error_with(cure_tsr::list(dir.path()), &["01_06_12_04_0001.bmp", "01_SIGN_12_05_INDEX"]);
    fs::remove_file(&stray).unwrap();
    write_image(&dir.path().join("Real_Test/Fog-1/01_06_12_04_0001.bmp"), 1);
    error_with(cure_tsr::list(dir.path()), &["Fog-1", "Haze"]);
}
