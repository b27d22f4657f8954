//! A user's own pictures.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use gradcon::data::folder::{Decode, Folders, Listing};
use gradcon::data::{Prepared, prepare};

use super::{error_with, rgb, temp, write_image};

/// Finds and reads a user's own images.
fn own(folders: &Folders) -> gradcon::Result<Prepared> {
    prepare::own_images(&folders.list()?, rgb(), 0, &|_, _| Ok(()))
}

fn good_and_bad(dir: &Path) -> Folders {
    let abnormal = vec![("abnormal".into(), dir.join("bad"))];
    Folders { normal: dir.join("good"), normal_test: None, abnormal }
}

#[test]
fn own_images_are_split_named_and_labelled() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    for i in 0..20 {
        write_image(
            &at(&format!("good/{}/{i:02}.{}", i % 3, ["png", "JPG", "bmp"][i % 3])),
            i as u8 * 10,
        );
    }
    fs::write(at("good/notes.txt"), "no image").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("good"), at("good/loop")).unwrap();
    for i in 0..3 {
        write_image(&at(&format!("bad/{i}.png")), 240 + i);
    }
    let folders = good_and_bad(dir.path());
    let counted = Mutex::new((0, 0));
    let progress = |found, read| {
        let mut counted = counted.lock().unwrap();
        *counted = (counted.0 + found, counted.1 + read);
        Ok(())
    };
    let prepared = prepare::own_images(&folders.list().expect("images"), rgb(), 4, &progress)
        .expect("prepared");
    assert_eq!(*counted.lock().unwrap(), (23, 23));
    // A fifth of 20 for test, a tenth of the other 16 for validation.
    assert_eq!((prepared.train_of(0).unwrap().n, prepared.val_of(0).unwrap().n), (15, 1));
    assert_eq!(prepared.class_names(), ["normal", "abnormal"]);
    assert_eq!(prepared.test().labels, [0, 0, 0, 0, 1, 1, 1]);
    let set = &prepared.test_sets()[0];
    assert_eq!((set.info.name.as_str(), &set.labels), ("normal", &vec![0, 0, 0, 0, 1, 1, 1]));
    let names = prepared.names().expect("names");
    assert_eq!(names.test[4..], ["abnormal/0.png", "abnormal/1.png", "abnormal/2.png"]);
    let mut all: Vec<_> = [&names.train[..], &names.val, &names.test[..4]].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), all[0].as_str()), (20, "normal/0/00.png"));
    assert_eq!(prepared.manifest().counts.test, [4, 3]);

    // With normal images for the test, all of the others train or validate.
    write_image(&at("more/x.png"), 5);
    let folders = Folders { normal_test: Some(at("more")), ..folders };
    let gray = Decode::new(1, Decode::MAX_PIXELS).unwrap();
    let gray = prepare::own_images(&folders.list().expect("images"), gray, 4, &|_, _| Ok(()))
        .expect("prepared");
    assert_eq!(
        (gray.train_of(0).unwrap().n, gray.val_of(0).unwrap().n, gray.channels()),
        (18, 2, 1)
    );
    assert_eq!(gray.names().unwrap().test[0], "normal_test/x.png");
    // 0.299 * 5 + 0.114 * 250 = 29.995.
    assert_eq!(gray.images_of(&gray.test_sets()[0]).image(0)[0], 30);
}

#[test]
fn an_mvtec_tree_gives_one_class_for_each_defect() {
    let dir = temp();
    let root = dir.path();
    for (name, value) in [
        ("train/good/0.png", 1),
        ("train/good/1.png", 2),
        ("train/good/2.png", 3),
        ("test/good/0.png", 4),
        ("test/scratch/0.png", 5),
        ("test/hole/0.png", 6),
        ("ground_truth/hole/0_mask.png", 7),
    ] {
        write_image(&root.join(name), value);
    }
    let prepared =
        prepare::own_images(&Listing::mvtec(root).expect("a tree"), rgb(), 0, &|_, _| Ok(()))
            .expect("prepared");
    assert_eq!(prepared.class_names(), ["normal", "hole", "scratch"]);
    assert_eq!(
        prepared.names().unwrap().test,
        ["normal_test/0.png", "hole/0.png", "scratch/0.png"]
    );
    assert_eq!(
        (&prepared.test().labels, &prepared.test_sets()[0].labels),
        (&vec![0, 1, 2], &vec![0, 1, 1])
    );
    error_with(Folders::mvtec(&root.join("test")), &["train", "good"]);
    fs::remove_dir_all(root.join("test/scratch")).unwrap();
    fs::remove_dir_all(root.join("test/hole")).unwrap();
    error_with(Folders::mvtec(root), &["no folder of defects"]);
}

#[test]
fn every_unreadable_image_is_named() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    (0..4).for_each(|i| write_image(&at(&format!("good/{i}.png")), i));
    write_image(&at("bad/0.png"), 1);
    let whole = fs::read(at("good/1.png")).unwrap();
    fs::write(at("good/1.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("good/3.png"), b"").unwrap();
    let folders = good_and_bad(dir.path());
    let error = error_with(own(&folders), &["2 of 4 images", "1.png: ", "3.png: "]);
    assert!(!error.to_string().contains("2.png"));
    fs::remove_file(at("good/1.png")).unwrap();
    fs::remove_file(at("good/3.png")).unwrap();
    error_with(own(&folders), &["good", "2 normal images", "at least 3"]);
    let nested =
        Folders { abnormal: vec![("abnormal".into(), at("good/../good"))], ..folders.clone() };
    error_with(own(&nested), &["one is inside the other"]);
    fs::create_dir(at("none")).unwrap();
    let empty = Folders { normal: at("none"), ..folders };
    error_with(own(&empty), &["none", "no image below it"]);
}
