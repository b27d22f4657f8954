//! Prepared folders: written, replaced, verified, opened.

use std::fs;

use gradcon::data::prepared::{self, Written};
use gradcon::data::{Dataset, Prepared, npy};

use super::tree::tree;
use super::{error_with, small, temp};

#[test]
fn a_prepared_folder_comes_back_whole_and_the_same_seed_gives_the_same_bytes() {
    let dir = temp();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("deep/er/b"), dir.path().join("c"));
    let prepared = small(Dataset::FMNIST, 5, &[50, 10]);
    assert_eq!(prepared.write(&a, false).expect("written"), Written::New);
    let opened = Prepared::open(&a).expect("a prepared folder");
    assert!(prepared.manifest().files.is_empty() && opened.manifest().files.len() == 6 + 2 * 20);
    for k in 0..10 {
        assert_eq!(opened.train_of(k).unwrap(), prepared.train_of(k).unwrap());
        assert_eq!(opened.val_of(k).unwrap(), prepared.val_of(k).unwrap());
    }
    assert_eq!((opened.test(), opened.test_sets()), (prepared.test(), prepared.test_sets()));
    assert_eq!(opened.class_names()[9], "Ankle boot");

    fs::create_dir_all(&b).unwrap();
    assert_eq!(
        small(Dataset::FMNIST, 5, &[50, 10]).write(&b, false).expect("written"),
        Written::New
    );
    assert_eq!(tree(&a), tree(&b));
    small(Dataset::FMNIST, 6, &[50, 10]).write(&c, false).expect("written");
    assert_ne!(tree(&a), tree(&c));
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing but the folders is left: {left:?}");
}

#[test]
fn only_a_prepared_folder_is_replaced_and_only_by_force() {
    let dir = temp();
    let out = dir.path().join("out");
    let (one, two) = (small(Dataset::MNIST, 1, &[50]), small(Dataset::MNIST, 2, &[50]));
    one.write(&out, false).expect("written");
    let before = tree(&out);
    assert_eq!(one.write(&out, false).expect("the same"), Written::Unchanged);
    let error = error_with(two.write(&out, false), &["out", "--force"]);
    assert_eq!(error.exit_code(), 2);
    assert_eq!(tree(&out), before);
    assert_eq!(two.write(&out, true).expect("forced"), Written::New);
    assert_eq!(Prepared::open(&out).unwrap().manifest().seed, 2);
    // A damaged folder is not "the same", even though its manifest is.
    fs::write(out.join("val_labels.npy"), b"").unwrap();
    error_with(two.write(&out, false), &["--force"]);

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), b"years of work").unwrap();
    for force in [false, true] {
        error_with(one.write(&other, force), &["other", "no prepared dataset"]);
        error_with(
            one.write(&other.join("thesis.txt"), force),
            &["thesis.txt", "file of that name"],
        );
    }
    assert_eq!(fs::read(other.join("thesis.txt")).unwrap(), b"years of work");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn verify_names_every_file_that_differs() {
    let dir = temp();
    let out = dir.path().join("out");
    small(Dataset::MNIST, 1, &[50]).write(&out, false).expect("written");
    assert_eq!(prepared::verify(&out).expect("untouched").files.len(), 26);
    let flip = |name: &str| {
        let path = out.join(name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    // One changed pixel leaves a folder that fits together.
    flip("train_images.npy");
    for opened in [prepared::verify(&out).map(drop), Prepared::open(&out).map(drop)] {
        let error =
            error_with(opened, &["1 of 26 files", "train_images.npy: SHA-256", "expected "]);
        assert_eq!(error.exit_code(), 4);
    }
    fs::remove_file(out.join("test_sets/class4_ratio50_index.npy")).unwrap();
    fs::write(out.join("val_labels.npy"), b"short").unwrap();
    error_with(
        prepared::verify(&out),
        &["3 of 26", "class4_ratio50_index.npy: missing", "val_labels.npy: 5 bytes, expected"],
    );
}

#[test]
fn opening_refuses_what_does_not_fit_together() {
    let dir = temp();
    let good = dir.path().join("good");
    small(Dataset::MNIST, 1, &[50]).write(&good, false).expect("written");
    let files = tree(&good);
    let files: Vec<_> =
        files.iter().filter_map(|(path, file)| Some((path, file.as_ref()?))).collect();
    let bad = dir.path().join("bad");
    // Opens a copy of the folder with one file replaced.
    let with = |name: &str, content: Option<Vec<u8>>| {
        if bad.exists() {
            fs::remove_dir_all(&bad).unwrap();
        }
        fs::create_dir_all(bad.join("test_sets")).unwrap();
        files.iter().for_each(|(file, bytes)| fs::write(bad.join(file), bytes).unwrap());
        match content {
            Some(content) => fs::write(bad.join(name), content).unwrap(),
            None => fs::remove_file(bad.join(name)).unwrap(),
        }
        Prepared::open(&bad)
    };
    assert!(with("extra.txt", Some(b"ignored".to_vec())).is_ok());
    for &(file, bytes) in &files {
        let name = file.to_str().unwrap();
        let short = file.file_name().unwrap().to_str().unwrap();
        if name != "manifest.json" {
            error_with(with(name, None), &[short]);
        }
        error_with(with(name, Some(bytes[..bytes.len() - 2].to_vec())), &[short]);
        error_with(
            with(name, Some(b"garbage, and enough of it to pass for a header".to_vec())),
            &[short],
        );
    }
    let array = |shape: &[usize], data: &[u8]| {
        let mut bytes = Vec::new();
        npy::write_u8(&mut bytes, shape, data).unwrap();
        bytes
    };
    let numbers = |data: &[i64]| {
        let mut bytes = Vec::new();
        npy::write_i64(&mut bytes, data).unwrap();
        bytes
    };
    error_with(
        with("val_images.npy", Some(array(&[19, 28, 28, 1], &[0; 14896]))),
        &["shape [19, 28, 28, 1], expected [20, 28"],
    );
    error_with(
        with("test_labels.npy", Some(array(&[120], &[3; 120]))),
        &["test_labels.npy", "counts per class"],
    );
    error_with(
        with("test_labels.npy", Some(array(&[119], &[3; 119]))),
        &["119 values, expected 120"],
    );
    let set = "test_sets/class0_ratio50";
    error_with(
        with(&format!("{set}_index.npy"), Some(numbers(&[120; 24]))),
        &["index 120, expected 0 to 119"],
    );
    error_with(with(&format!("{set}_index.npy"), Some(numbers(&[-1; 24]))), &["index -1"]);
    error_with(
        with(&format!("{set}_label.npy"), Some(array(&[24], &[1; 24]))),
        &["12 zeros (normal) and 12 ones"],
    );

    let manifest = String::from_utf8(fs::read(good.join("manifest.json")).unwrap()).unwrap();
    let edit = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        with("manifest.json", Some(manifest.replacen(from, to, 1).into_bytes()))
    };
    error_with(edit("\"format_version\": 1", "\"format_version\": 2"), &["version 2, expected 1"]);
    error_with(edit("\"seed\"", "\"sead\""), &["manifest.json", "sead"]);
    error_with(edit("\"mnist\"", "\"minst\""), &["minst", "cifar-10"]);
    error_with(edit("\"channels\": 1", "\"channels\": 2"), &["28 x 28 x 2"]);
    error_with(
        edit("\"val_labels.npy\"", "\"../val_labels.npy\""),
        &["lists unexpected ../val_labels.npy"],
    );
    error_with(edit("\"inlier\": 9", "\"inlier\": 10"), &["inlier class 10"]);
    error_with(Prepared::open(&dir.path().join("absent")), &["absent", "gradcon prep"]);
}
