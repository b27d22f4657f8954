//! `gradcon prep`: what is at the place of a dataset while it is written, replaced, interrupted and
//! killed, and what the command understands.

#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use gradcon::data::picture::Decode;
use gradcon::data::prepared::{self, Written};
use gradcon::data::{Prepared, prepare};
use gradcon::{Error, files};
use tempfile::TempDir;
use tree::tree;

fn subset(seed: u64) -> Prepared {
    prepare::fashion_subset(seed, &[50]).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn seed(dir: &Path) -> Option<u64> {
    prepared::verify(dir).ok().map(|manifest| manifest.seed)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn gradcon(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gradcon"));
    command.current_dir(dir).args(args).env("NO_COLOR", "1");
    command
}

fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = gradcon(dir, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Runs this test again in a process of its own, where the file system may change `changes` more
/// times; returns how many of them were left.
fn killed_after(test: &str, changes: u64, dir: &Path) -> u64 {
    let out = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("PREP_TEST_CHANGES", changes.to_string())
        .env("PREP_TEST_DIR", dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let left = text
        .lines()
        .find_map(|line| line.split_once("changes left: "))
        .unwrap_or_else(|| panic!("{text}"));
    left.1.trim().parse().unwrap()
}

/// In the process of its own: where to work, if this is one.
fn victim() -> Option<PathBuf> {
    let changes = std::env::var("PREP_TEST_CHANGES").ok()?.parse().unwrap();
    files::end_after(changes);
    Some(std::env::var_os("PREP_TEST_DIR").unwrap().into())
}

/// Whatever the last change is before the process is killed, the old dataset or the new one is
/// whole in its place, and the next one sweeps up.
#[test]
fn replacing_survives_a_kill_at_every_change() {
    if let Some(dir) = victim() {
        let _ = subset(2).write(&dir.join("set"), true);
        println!("\nchanges left: {}", files::changes_left());
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("set");
    let mut seen = [0, 0];
    for changes in 0.. {
        subset(1).write(&at, true).unwrap();
        let left = killed_after("replacing_survives_a_kill_at_every_change", changes, dir.path());
        match seed(&at) {
            Some(1) => seen[0] += 1,
            Some(2) => seen[1] += 1,
            other => panic!("after {changes} changes: {other:?}, {:?}", names(dir.path())),
        }
        subset(3).write(&at, true).unwrap();
        assert_eq!(
            (names(dir.path()), seed(&at)),
            (vec!["set".to_string()], Some(3)),
            "after {changes} changes"
        );
        if left > 0 {
            break;
        }
    }
    assert!(seen[0] > 3 && seen[1] > 1, "{seen:?}: both sides of the exchange were seen");
}

/// A new dataset is there whole or not at all; what is left of it does not stop the next attempt
/// and is swept up.
#[test]
fn a_new_one_is_whole_or_not_there_after_a_kill_at_every_change() {
    const TEST: &str = "a_new_one_is_whole_or_not_there_after_a_kill_at_every_change";
    if let Some(dir) = victim() {
        let _ = subset(2).write(&dir, true);
        println!("\nchanges left: {}", files::changes_left());
        return;
    }
    for fills in [false, true] {
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("set");
        let mut whole = 0;
        for changes in 0.. {
            if fills {
                fs::create_dir(&at).unwrap();
            }
            let left = killed_after(TEST, changes, &at);
            match seed(&at) {
                Some(2) => whole += 1,
                None => assert!(!at.join("manifest.json").exists(), "after {changes} changes"),
                other => panic!("after {changes} changes: {other:?}"),
            }
            subset(3).write(&at, true).unwrap();
            assert_eq!(
                (names(dir.path()), seed(&at)),
                (vec!["set".to_string()], Some(3)),
                "after {changes} changes"
            );
            assert!(!names(&at).iter().any(|name| name.starts_with('.')), "{:?}", names(&at));
            fs::remove_dir_all(&at).unwrap();
            if left > 0 {
                break;
            }
        }
        assert!(whole > 0);
    }
}

#[test]
fn a_folder_that_is_there_and_empty_is_filled() {
    let dir = TempDir::new().unwrap();
    let (at, beside) = (dir.path().join("here"), dir.path().join("beside"));
    fs::create_dir(&at).unwrap();
    let before = fs::File::open(&at).unwrap();
    assert_eq!(subset(1).write(&at, false).unwrap(), Written::New);
    // The very same folder: a shell that is in it stays there.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(before.metadata().unwrap().ino(), fs::metadata(&at).unwrap().ino());
    }
    drop(before);
    subset(1).write(&beside, false).unwrap();
    assert_eq!(tree(&at), tree(&beside), "no trace of how it was made");
    assert_eq!(subset(1).write(&at, false).unwrap(), Written::Unchanged);
    assert_eq!(subset(2).write(&at, false).unwrap_err().exit_code(), 2);
    assert_eq!((names(dir.path()).len(), seed(&at)), (2, Some(1)));
    // What is not ours is never touched.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("train_images.npy"), "mine").unwrap();
    assert_eq!(subset(1).write(&other, true).unwrap_err().exit_code(), 2);
    assert_eq!(tree(&other).len(), 1);
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link() {
    let dir = TempDir::new().unwrap();
    let (real, link) = (dir.path().join("disk/real"), dir.path().join("link"));
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    for n in [1, 2] {
        subset(n).write(&link, true).unwrap();
        assert!(link.is_symlink() && seed(&real) == Some(n));
    }
    assert_eq!(names(&dir.path().join("disk")), ["real"]);
    fs::remove_dir_all(&real).unwrap();
    let error = subset(1).write(&link, true).unwrap_err();
    assert!(error.to_string().contains("a link to nothing") && link.is_symlink(), "{error}");
}

#[test]
fn a_current_folder_is_filled_and_never_taken_away() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().join("here");
    fs::create_dir(&here).unwrap();
    let subset = words("prep fmnist --subset --out . -q --force --seed");
    let with = |seed: &'static str| [&subset[..], &[seed]].concat();
    assert_eq!(run(&here, &with("1")).0, 0);
    assert_eq!(seed(&here), Some(1));
    let (code, _, stderr) = run(&here, &with("2"));
    assert!(code == 2 && stderr.contains("the current folder is in it"), "{code} {stderr}");
    let (code, _, stderr) =
        run(&here.join("test_sets"), &["prep", "fmnist", "--subset", "--out", "..", "--force"]);
    assert!(code == 2 && stderr.contains("the current folder is in it"), "{code} {stderr}");
    assert_eq!(seed(&here), Some(1));
}

/// Two at once would mix their files; and what is in use is not swept up.
#[test]
fn one_process_at_a_time_writes_to_a_place() {
    let dir = TempDir::new().unwrap();
    let set = subset(1);
    for at in [dir.path().join("new"), dir.path().join("there")] {
        if at.ends_with("there") {
            fs::create_dir(&at).unwrap();
        }
        let tried = std::cell::Cell::new(false);
        set.write_unless(&at, false, &|| {
            if !tried.replace(true) {
                let error = set.write(&at, false).unwrap_err().to_string();
                assert!(
                    error.contains("in use by another process: preparing a dataset"),
                    "{error}"
                );
                set.write(&dir.path().join("neighbour"), true).unwrap();
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seed(&at), Some(1));
    }
    assert_eq!(names(dir.path()), ["neighbour", "new", "there"]);
}

/// What a kill leaves where folders can't be exchanged: the old dataset is out of its place. It is
/// told of, and put back.
#[test]
fn a_dataset_that_was_taken_out_is_put_back() {
    let dir = TempDir::new().unwrap();
    let (at, scratch) = (dir.path().join("set"), dir.path().join(".gradcon-prep-set"));
    subset(1).write(&scratch.join("old"), false).unwrap();
    subset(2).write(&scratch.join("new"), false).unwrap();
    let error = Prepared::open(&at).unwrap_err().to_string();
    assert!(
        error.contains("set: ") && error.contains("it is whole in") && error.contains("old"),
        "{error}"
    );
    // Preparing anything beside it puts it back.
    subset(3).write(&dir.path().join("neighbour"), false).unwrap();
    assert_eq!(
        (names(dir.path()), seed(&at)),
        (vec!["neighbour".to_string(), "set".to_string()], Some(1))
    );
    // So does preparing it again.
    fs::create_dir(&scratch).unwrap();
    fs::rename(&at, scratch.join("old")).unwrap();
    let error = subset(2).write(&at, false).unwrap_err();
    assert_eq!((error.exit_code(), seed(&at)), (2, Some(1)), "{error}");
    assert_eq!(names(dir.path()), ["neighbour", "set"]);
}

#[test]
fn giving_up_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let (at, old) = (dir.path().join("a/b/set"), dir.path().join("old"));
    let there = dir.path().join("there");
    fs::create_dir(&there).unwrap();
    subset(1).write(&old, false).unwrap();
    let before = tree(dir.path());
    let new = subset(2);
    // How often it is asked, and then: every other time to give up at.
    let count = std::cell::Cell::new(0);
    new.write_unless(&dir.path().join("count"), false, &|| {
        count.set(count.get() + 1);
        Ok(())
    })
    .unwrap();
    fs::remove_dir_all(dir.path().join("count")).unwrap();
    assert!(count.get() > 26, "{}: asked for every file", count.get());
    for n in (0..count.get()).step_by(7) {
        for at in [&at, &old, &there] {
            let left = std::cell::Cell::new(n);
            let outcome = new.write_unless(at, true, &|| match left.get() {
                0 => Err(Error::Interrupted),
                n => {
                    left.set(n - 1);
                    Ok(())
                }
            });
            assert_eq!(outcome.unwrap_err().exit_code(), 130, "{n}: {}", at.display());
            assert!(tree(dir.path()) == before, "{n}: {}", at.display());
        }
    }
}

/// A signal while images are read: nothing is written, exit code 130.
#[cfg(unix)]
#[test]
fn signals_stop_it_at_once() {
    let dir = TempDir::new().unwrap();
    let image = image::GrayImage::from_fn(1000, 1000, |x, y| image::Luma([(x ^ y) as u8]));
    fs::create_dir_all(dir.path().join("bad")).unwrap();
    fs::create_dir_all(dir.path().join("good")).unwrap();
    image.save(dir.path().join("bad/0.png")).unwrap();
    for i in 0..3000 {
        fs::hard_link(dir.path().join("bad/0.png"), dir.path().join(format!("good/{i}.png")))
            .unwrap();
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let args = words("prep folder --normal-dir good --abnormal-dir bad --out data/set");
        let child = gradcon(dir.path(), &args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let code = stopped_once_it_reads(child, signal);
        assert_eq!(code, Some(130), "signal {signal}");
        assert_eq!(names(dir.path()), ["bad", "good"]);
    }
}

/// Sends the signal once the program says that it reads.
#[cfg(unix)]
fn stopped_once_it_reads(mut child: Child, signal: i32) -> Option<i32> {
    use std::io::{BufRead, BufReader, Read};
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Reading") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it read");
    }
    // SAFETY: a signal to our own child, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let _ = stderr.read_to_string(&mut line);
    child.wait().unwrap().code()
}

// ---- Own images

/// A picture whose name has a number is of that level, another is of any.
fn picture(path: &Path) {
    let digits: String =
        path.file_name().unwrap().to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let level = digits.parse::<u32>().unwrap_or(7) as u8;
    image::GrayImage::from_pixel(9, 7, image::Luma([level]))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

fn pictures(dir: &Path, names: &str) {
    for name in names.split_whitespace() {
        match name.split_once("*") {
            None => picture(&dir.join(name)),
            Some((folder, count)) => {
                (0..count.parse().unwrap())
                    .for_each(|i| picture(&dir.join(format!("{folder}{i}.png"))));
            }
        }
    }
}

/// The names of all images of a dataset.
fn all_names(dir: &Path) -> Vec<String> {
    let opened = Prepared::open(dir).unwrap();
    let names = opened.names().unwrap();
    let mut all = [&names.train[..], &names.val, &names.test].concat();
    all.sort();
    all
}

#[test]
fn what_is_left_out_is_counted_and_named() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    pictures(
        dir.path(),
        "good/*12 bad/*2 good/._1.png good/.ipynb_checkpoints/2.png good/x.PNG good/y.JPeG \
         bad/@eaDir/1.png",
    );
    for name in [
        "good/Thumbs.db",
        "good/.DS_Store",
        "good/notes.txt",
        "bad/labels.csv",
        "good/z.gif",
        "bad/HEIC.heic",
    ] {
        fs::write(at(name), "x").unwrap();
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("not fetched", at("good/annexed.png")).unwrap();
        assert!(Command::new("mkfifo").arg(at("good/camera.png")).status().unwrap().success());
    }
    let args = words("prep folder --normal-dir good --abnormal-dir bad --channels 1 --out");
    let (code, _, stderr) = run(dir.path(), &[&args[..], &["set"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let meant = if cfg!(unix) { 4 } else { 2 };
    for part in [
        "Note: no pictures, left out: 2\n",
        "notes.txt: not the name of a picture",
        "labels.csv: not",
        &format!("warning: left out: {meant}\n"),
        "z.gif: a picture of a kind that is not read",
        "HEIC.heic: a picture of a kind",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    for quiet in ["Thumbs.db", "._1", "checkpoints", "DS_Store", "@eaDir"] {
        assert!(!stderr.contains(quiet), "{stderr}");
    }
    let names = all_names(&at("set"));
    assert_eq!(names.len(), 16, "{names:?}");
    assert!(
        names.contains(&"normal/x.PNG".into()) && names.contains(&"normal/y.JPeG".into()),
        "{names:?}"
    );
    // Even if nothing but results is wanted; but the notes are not.
    let (code, _, stderr) = run(dir.path(), &[&args[..], &["again", "-q"]].concat());
    assert_eq!(code, 0);
    assert!(stderr.contains("z.gif") && !stderr.contains("notes.txt"), "{stderr}");
    #[cfg(unix)]
    assert!(
        stderr.contains("annexed.png: a link to nothing") && stderr.contains("camera.png: a pipe"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn an_image_of_two_folders_is_refused_by_name() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    let args =
        words("prep folder --normal-dir good --abnormal-dir bad --normal-test-dir test --out set");
    pictures(dir.path(), "good/*12 bad/*3 test/*2 elsewhere/1.png");
    for (link, target, part) in [
        ("good/more", "../bad", "bad/0.png"),
        ("good/one.png", "../bad/2.png", "good/one.png"),
        ("bad/one.png", "../test/1.png", "test/1.png"),
        ("test/more", "../good", "good/0.png"),
    ] {
        symlink(target, dir.path().join(link)).unwrap();
        let (code, _, stderr) = run(dir.path(), &args);
        assert!(
            code == 1 && stderr.contains(part) && stderr.contains("the same file"),
            "{link}: {code} {stderr}"
        );
        assert!(!dir.path().join("set").exists());
        fs::remove_file(dir.path().join(link)).unwrap();
    }
    // Links to what is in none of the folders, or in the same one, are fine.
    symlink("../elsewhere/1.png", dir.path().join("good/fetched.png")).unwrap();
    symlink(".", dir.path().join("bad/loop")).unwrap();
    let (code, _, stderr) = run(dir.path(), &args);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(all_names(&dir.path().join("set")).len(), 18);
}

#[test]
fn normal_images_are_known_by_the_name_of_their_folder() {
    for name in ["good", "Good", "normal", "NORMAL", "ok", "0.normal"] {
        let dir = TempDir::new().unwrap();
        pictures(
            dir.path(),
            &format!(
                "part/train/{name}/*8 part/test/{name}/*3 part/test/bent/*2 part/test/.hidden/1.png"
            ),
        );
        let (code, stdout, stderr) = run(dir.path(), &["prep", "mvtec", "--from", "part", "-q"]);
        assert_eq!(code, 0, "{name}: {stderr}");
        let manifest = prepared::verify(&dir.path().join("data/part")).unwrap();
        assert_eq!(
            (&manifest.classes[..], &manifest.counts.test[..]),
            (&["normal".into(), "bent".into()][..], &[3, 2][..])
        );
        assert!(stdout.starts_with("part: 28 x 28"), "{stdout}");
        pictures(
            dir.path(),
            "part/test/good_/1.png part/test/okay/*2 part/test/x.png part/train/bad/1.png",
        );
        let (code, _, stderr) =
            run(dir.path(), &["prep", "mvtec", "--from", "part", "--out", "two", "-q"]);
        assert!(code == 0 && stderr.contains("left out: 2"), "{code} {stderr}");
        assert!(
            stderr.contains("x.png: not in a folder that is used")
                && stderr.contains("train/bad: not"),
            "{stderr}"
        );
        let other = if name == "ok" { "Good" } else { "OK" };
        pictures(dir.path(), &format!("part/test/{other}/1.png"));
        let (code, _, stderr) =
            run(dir.path(), &["prep", "mvtec", "--from", "part", "--out", "three"]);
        assert!(
            code == 1 && stderr.contains("which one is meant") && stderr.contains(other),
            "{code} {stderr}"
        );
    }
    // Below a folder of anomalous images it may be a mistake.
    let dir = TempDir::new().unwrap();
    pictures(dir.path(), "train/*8 test/Good/*4 test/bent/*2");
    let args = words("prep folder --normal-dir train --abnormal-dir test --out set -q");
    let (code, _, stderr) = run(dir.path(), &args);
    assert!(
        code == 0 && stderr.contains("warning") && stderr.contains("4 images count as anomalous"),
        "{code} {stderr}"
    );
    assert!(stderr.contains("Good"), "{stderr}");
}

#[test]
fn own_images_have_a_name() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    pictures(dir.path(), "screws/good/*8 screws/bad/*2 Bolts/*8");
    let own = |normal: &'static str| {
        ["prep", "folder", "-q", "--abnormal-dir", "screws/bad", "--normal-dir", normal]
    };
    for (args, name) in [
        (own("screws/good").to_vec(), "screws"),
        (own("Bolts").to_vec(), "Bolts"),
        ([&own("Bolts")[..], &["--name", "nuts 2"]].concat(), "nuts 2"),
    ] {
        let (code, stdout, stderr) = run(dir.path(), &args);
        assert_eq!(code, 0, "{stderr}");
        let set = at("data").join(name);
        assert!(stdout.starts_with(&format!("{name}: 28 x 28")), "{stdout}");
        assert_eq!(prepared::verify(&set).unwrap().name(), name);
        let (code, stdout, _) = run(dir.path(), &["data", "show", set.to_str().unwrap()]);
        assert!(code == 0 && stdout.starts_with(&format!("{name}: ")), "{stdout}");
    }
    for name in ["", "a/b", "..", ".x", "-x", "a\nb", "x ", "a:b"] {
        let (code, _, stderr) =
            run(dir.path(), &[&own("Bolts")[..], &[&format!("--name={name}")]].concat());
        assert!(code == 2 && stderr.contains("name"), "{name:?}: {code} {stderr}");
    }
    // Other datasets are called as they are, and a manifest without a name is read.
    let manifest = subset(1).manifest().clone();
    assert_eq!((manifest.name(), manifest.to_json().contains("\"name\": null")), ("fmnist", false));
    let (code, stdout, _) =
        run(dir.path(), &["prep", "fashion-mnist", "--subset", "--name", "small", "-q"]);
    assert!(code == 0 && stdout.starts_with("small: "), "{stdout}");
    assert_eq!(prepared::verify(&at("data/small")).unwrap().name(), "small");
}

#[test]
fn a_folder_that_is_too_high_or_too_deep_is_told_where_the_dataset_is() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let at = |name: &str| here.join(name);
    for category in ["bottle", "cable", "zipper"] {
        pictures(&here, &format!("mvtec/{category}/train/good/*4 mvtec/{category}/test/broken/*2"));
    }
    pictures(&here, "one/deep/train/good/*4 one/deep/test/broken/*2");
    fs::write(at("mvtec/readme.txt"), "x").unwrap();
    for name in [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte.gz",
    ] {
        fs::create_dir_all(at("files/idx/inner")).unwrap();
        fs::write(at("files/idx").join(name), "x").unwrap();
    }
    fs::create_dir_all(at("cifar/cifar-10-batches-py")).unwrap();
    fs::write(at("cifar/cifar-10-batches-py/test_batch"), "x").unwrap();
    fs::create_dir_all(at("signs/CURE-TSR/Real_Train/ChallengeFree")).unwrap();
    fs::create_dir_all(at("signs/CURE-TSR/Real_Test")).unwrap();
    fs::create_dir_all(at("up")).unwrap();
    fs::rename(at("signs"), at("up/signs")).unwrap();
    let path = |name: &str| format!("--from {}", at(name).display());
    for (dataset, from, parts) in [
        (
            "mvtec",
            "mvtec",
            vec![
                "train/good: no such folder",
                "3 datasets",
                "bottle, cable, zipper",
                "--from mvtec/bottle",
            ],
        ),
        ("folder", "mvtec", vec!["bottle, cable, zipper"]),
        ("mvtec", "one", vec!["--from one/deep"]),
        ("mvtec", ".", vec!["4 datasets are further down"]),
        ("mvtec", "mvtec/bottle/train", vec!["inside of it", &path("mvtec/bottle")]),
        ("mvtec", "mvtec/bottle/train/good", vec![&path("mvtec/bottle")]),
        ("mvtec", "mvtec/bottle/train/good/0.png", vec![&path("mvtec/bottle")]),
        ("mnist", "files", vec!["--from files/idx"]),
        ("fashion_mnist", ".", vec!["--from ./files/idx"]),
        ("fmnist", "files/idx/inner", vec![&path("files/idx")]),
        ("mnist", "files/idx/train-images-idx3-ubyte.gz", vec![&path("files/idx")]),
        ("cifar", ".", vec!["--from ./cifar"]),
        ("cifar10", "cifar/cifar-10-batches-py/test_batch", vec![&path("cifar")]),
        ("cure_tsr", "up", vec!["--from up/signs"]),
        ("cure-tsr", "up/signs/CURE-TSR/Real_Train", vec![&path("up/signs/CURE-TSR")]),
    ] {
        let (code, _, stderr) = run(&here, &["prep", dataset, "--from", from, "--out", "set"]);
        assert_eq!(code, 1, "{dataset} {from}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{dataset} {from}: {part}: {stderr}");
        }
        assert!(!at("set").exists());
    }
    for (args, part) in [
        (vec!["mvtec"], "--from mvtec_anomaly_detection/bottle"),
        (vec!["mnist", "--max-pixels", "5"], "--max-pixels"),
        (vec!["mvtec", "--from", "one/deep", "--background", "greenish"], "--background"),
    ] {
        let (code, _, stderr) = run(&here, &[&["prep"], &args[..]].concat());
        assert!(code == 2 && stderr.contains(part), "{args:?}: {stderr}");
    }
    let args = words("prep mvtec --from one/deep --background white --max-pixels 62 --out set");
    let (code, _, stderr) = run(&here, &args);
    assert!(
        code == 1 && stderr.contains("9 x 7 pixels") && stderr.contains("the limit is 62"),
        "{code} {stderr}"
    );
    let (code, _, stderr) = run(&here, &[&args[..6], &["--out", "set"]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(prepared::verify(&at("set")).unwrap().background.as_deref(), Some("ffffff"));
}

/// Gray pictures in RGB files are gray, unless one of them isn't or somebody says otherwise.
#[test]
fn gray_pictures_stay_gray() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let picture = |name: &str, tint: u8| {
        let pixel = |x: u32, y: u32| {
            let v = (x * 3 + y * 5 + name.len() as u32) as u8;
            image::Rgb([v.saturating_add(tint), v, v])
        };
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        image::RgbImage::from_fn(40, 50, pixel).save(at(name)).unwrap();
    };
    for i in 0..12 {
        picture(&format!("good/{}.png", "x".repeat(i + 1)), 0);
    }
    picture("bad/0.png", 0);
    let command = |more: &str| format!("prep folder --normal-dir good --abnormal-dir bad {more}");
    let channels = |name: &str| Prepared::open(&at(name)).unwrap().channels();
    let (code, _, stderr) = run(dir.path(), &words(&command("--name g --out gray")));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("all pictures are gray: one channel"), "{stderr}");
    run(dir.path(), &words(&command("--name g --channels 1 --out told")));
    assert_eq!(tree(&at("gray")), tree(&at("told")), "as if it had been said");
    run(dir.path(), &words(&command("--channels 3 --out colour")));
    assert_eq!([channels("gray"), channels("colour")], [1, 3]);
    // One anomaly with a tint.
    picture("bad/1.png", 9);
    let (_, _, stderr) = run(dir.path(), &words(&command("--out tinted")));
    assert!(channels("tinted") == 3 && !stderr.contains("gray"), "{stderr}");
}

/// At every size a prepared image is what the reader makes of its file.
#[test]
fn pictures_have_the_size_that_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (i, folder) in (0..13).map(|i| (i, if i < 12 { "good" } else { "bad" })) {
        fs::create_dir_all(at(folder)).unwrap();
        let pixel = |x: u32, y: u32| image::Rgb([(x * i) as u8, (y * 3) as u8, (x ^ y) as u8]);
        image::RgbImage::from_fn(90 + i, 70, pixel).save(at(&format!("{folder}/{i}.png"))).unwrap();
    }
    for size in [48, 192] {
        let out = format!("set{size}");
        let line =
            format!("prep folder --normal-dir good --abnormal-dir bad --size {size} --out {out}");
        let (code, stdout, stderr) = run(dir.path(), &words(&line));
        assert!(code == 0 && stdout.contains(&format!("{size} x {size} pixels, RGB")), "{stderr}");
        let prepared = Prepared::open(&at(&out)).unwrap();
        assert_eq!((prepared.size(), prepared.channels()), (size, 3));
        let decode = Decode::new(3, Decode::MAX_PIXELS).unwrap().to_size(size).unwrap();
        let names = &prepared.names().unwrap().train;
        for (i, name) in names.iter().enumerate() {
            let file = at("good").join(name.rsplit('/').next().unwrap());
            let image = decode.file(&file).unwrap();
            assert_eq!((image.height, image.width), (size, size));
            assert!(prepared.train_of(0).unwrap().image(i) == image.image(0), "{name}");
        }
    }
    assert!(Decode::new(3, 1000).unwrap().to_size(30).is_err());
}
