//! What leaves the program when the other side is no ordinary file, is full, or is gone.

#![cfg(unix)]

mod place;

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use place::{Place, Running, read, text};

const SCORE: &str = "score --model m.safetensors --device cpu -q images";

fn ready() -> Place {
    let place = Place::new();
    place.model("m.safetensors", &[("threshold", "0")]);
    place.many("images", 10, usize::MAX);
    place
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn what_is_no_plain_file_is_written_to_and_stays() {
    let place = ready();
    let expected = place.ok(SCORE);
    fifo(&place.path("pipe"));
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || read(&pipe));
    place.ok(&format!("{SCORE} --out pipe"));
    assert_eq!(text(&reader.join().unwrap()), expected);
    assert!(fs::symlink_metadata(place.path("pipe")).unwrap().file_type().is_fifo());

    place.ok(&format!("{SCORE} --out /dev/null"));
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    symlink("/dev/null", place.path("null")).unwrap();
    place.ok(&format!("{SCORE} --out null"));
    assert!(fs::symlink_metadata(place.path("null")).unwrap().is_symlink());

    // Standard output by its other names, between what others write there.
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"] {
        if name == "link" {
            symlink("/dev/stdout", place.path("link")).unwrap();
        } else if !Path::new(name).exists() {
            continue; // not every system has each
        }
        let line =
            format!("{{ echo before; \"$GRADCON\" {SCORE} --out {name} && echo after; }} > all");
        assert!(place.shell(&line).status().unwrap().success(), "{name}");
        assert_eq!(text(&read(&place.path("all"))), format!("before\n{expected}after\n"), "{name}");
        assert_eq!(
            text(&place.command(&format!("{SCORE} --out {name}")).output().unwrap().stdout),
            expected,
            "{name}"
        );
    }
    // Another descriptor, appended to as its opener wants it.
    fs::write(place.path("log"), "before\n").unwrap();
    if Path::new("/dev/fd").exists() {
        assert!(
            place
                .shell(&format!("\"$GRADCON\" {SCORE} --out /dev/fd/3 3>> log"))
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(text(&read(&place.path("log"))), format!("before\n{expected}"));
    }
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let place = ready();
    let expected = place.ok(SCORE);
    fs::create_dir_all(place.path("far/away")).unwrap();
    fs::write(place.path("far/away/scores.csv"), "of yesterday").unwrap();
    symlink("away/scores.csv", place.path("far/first")).unwrap();
    symlink("far/first", place.path("scores.csv")).unwrap();
    symlink("far/new.csv", place.path("to-be")).unwrap();
    for (name, target) in [("scores.csv", "far/away/scores.csv"), ("to-be", "far/new.csv")] {
        place.ok(&format!("{SCORE} --out {name}"));
        assert!(fs::symlink_metadata(place.path(name)).unwrap().is_symlink(), "{name}");
        assert!(fs::symlink_metadata(place.path(target)).unwrap().is_file(), "{target}");
        assert_eq!(text(&read(&place.path(target))), expected);
    }
    assert!(fs::symlink_metadata(place.path("far/first")).unwrap().is_symlink());
    symlink("round", place.path("round")).unwrap();
    let error = place.fails(&format!("{SCORE} --out round"), 1);
    assert!(error.contains("round"), "{error}");
    // The same for files that are written at once.
    fs::create_dir(place.path("pages")).unwrap();
    fs::write(place.path("page"), "of yesterday").unwrap();
    symlink("../page", place.path("pages/gradcon-train.1")).unwrap();
    place.ok("man pages");
    assert!(fs::symlink_metadata(place.path("pages/gradcon-train.1")).unwrap().is_symlink());
    assert!(text(&read(&place.path("page"))).contains("resume"));
}

#[test]
fn a_file_keeps_its_mode_and_a_new_one_is_like_any_other() {
    let place = ready();
    for (umask, expected) in [("022", 0o644), ("002", 0o664), ("077", 0o600)] {
        for (line, file) in [
            (format!("{SCORE} --out new{umask}"), format!("new{umask}")),
            (format!("man m{umask}"), format!("m{umask}/gradcon.1")),
        ] {
            assert!(
                place
                    .shell(&format!("umask {umask}; \"$GRADCON\" -q {line}"))
                    .status()
                    .unwrap()
                    .success()
            );
            assert_eq!(mode(&place.path(&file)), expected, "{file}");
        }
    }
    for kept in [0o600, 0o640, 0o666, 0o755] {
        for (line, file) in [
            (&format!("{SCORE} --out new022"), "new022"),
            (&"man m022".to_string(), "m022/gradcon.1"),
        ] {
            let file = place.path(file);
            fs::set_permissions(&file, fs::Permissions::from_mode(kept)).unwrap();
            place.ok(line);
            assert_eq!(mode(&file), kept, "{line}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_known_before_the_work() {
    let place = ready();
    let score = "score --model m.safetensors images --device cpu";
    for (out, code) in
        [("images", 2), (".", 2), ("nowhere/scores.csv", 1), ("m.safetensors/scores.csv", 1)]
    {
        let error = place.fails(&format!("{score} --out {out}"), code);
        assert!(
            error.contains(out.split('/').next().unwrap()) && !error.contains("device:"),
            "{out}: {error}"
        );
    }
    fs::write(place.path("protected.csv"), "precious").unwrap();
    fs::set_permissions(place.path("protected.csv"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::create_dir(place.path("closed")).unwrap();
    fs::set_permissions(place.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    // Nothing is closed to the superuser.
    if File::create(place.path("closed/probe")).is_err() {
        for line in [
            format!("{score} --out protected.csv"),
            format!("{score} --out closed/scores.csv"),
            "demo --device cpu --out closed".into(),
            "man closed".into(),
        ] {
            let error = place.fails(&line, 1);
            assert!(
                error.contains("ermission denied") && !error.contains("device:"),
                "{line}: {error}"
            );
        }
        assert_eq!(read(&place.path("protected.csv")), b"precious");
    }
    assert!(!place.path("scores.csv.partial").exists());
}

/// Results that can't be written are an error, for every command that has results.
#[test]
fn a_full_standard_output_is_an_error_with_its_code() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let place = ready().prepared();
    place.ok("train --data data --inlier 1 --epochs 1 --device cpu --out run -q");
    for line in [
        "--help",
        "--version",
        "help score",
        "score --help",
        SCORE,
        "score --model m.safetensors --device cpu --format json images",
        "devices",
        "devices --json",
        "program",
        "completions bash",
        "prep fmnist --subset --out again",
        "data verify data",
        "data show data",
        "data show data --json",
        "train --data data --inlier 1 --epochs 1 --device cpu --out run2",
        "eval run --device cpu --no-bootstrap",
        "bench --device cpu --batch 4 --steps 1 --rounds 1",
        "bench --device cpu --batch 4 --steps 1 --rounds 1 --json",
        "demo --device cpu --epochs 1",
    ] {
        let out = place.command(line).stdout(full.try_clone().unwrap()).output().unwrap();
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{line}\n{stderr}");
        assert!(
            stderr.contains("standard output: ") && !stderr.contains("panicked"),
            "{line}\n{stderr}"
        );
    }
    let error = place.fails(&format!("{SCORE} --out /dev/full"), 1);
    assert!(error.contains("/dev/full: "), "{error}");
    assert!(
        place.path("run2/models/Trouser/best/model.safetensors").exists(),
        "the training is worth more than its last line"
    );
}

/// A disk that fills up takes nothing away: whole lines of what was scored stay beside.
#[test]
fn a_disk_that_fills_up_keeps_what_was_scored() {
    let place = Place::new();
    place.model("m.safetensors", &[("threshold", "0")]);
    place.many("images", 1000, usize::MAX);
    // A limit for files stands for the disk; about 150 lines fit.
    let line = format!("trap '' XFSZ; ulimit -f 32; \"$GRADCON\" {SCORE} --out scores.csv");
    let out = place.shell(&line).output().unwrap();
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    let partial = text(&read(&place.path("scores.csv.partial")));
    let scored = partial.lines().count() - 1;
    assert!(scored >= 64 && partial.ends_with('\n'), "{partial}");
    let says = format!(
        "the scores of {scored} images are in scores.csv.partial, scores.csv is as it was; {} of \
         1000",
        1000 - scored
    );
    assert!(stderr.contains(&says) && stderr.contains("scores.csv: "), "{says}\n{stderr}");
    assert!(!place.path("scores.csv").exists());
}

/// Progress is for whoever can read it; the work goes on.
#[test]
fn a_full_or_closed_standard_error_stops_nothing() {
    let place = ready().prepared();
    let train = "train --data data --inlier 1 --epochs 2 --device cpu";
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let out = place
            .command(&format!("{train} --out full -v"))
            .stderr(full.try_clone().unwrap())
            .output()
            .unwrap();
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "full\n"));
        // Errors keep their codes, whoever makes the message.
        for (line, code) in
            [("train --data nowhere --out x", 1), ("train --nonsense", 2), (SCORE, 0)]
        {
            let out = place.command(line).stderr(full.try_clone().unwrap()).output().unwrap();
            assert_eq!(out.status.code(), Some(code), "{line}");
        }
    }
    // A reader that is gone: the first line already finds nobody.
    let out = place.command(&format!("{train} --out closed")).stderr(closed()).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "closed\n"));
    // And while it is interrupted, when it has something to say.
    let line =
        "train --data data --inlier 1 --epochs 1000000 --batch-size 8 --device cpu --out stopped";
    let mut running = Running::start(place.command(line));
    running.wait_for("epoch   1/");
    running.close();
    running.signal(libc::SIGTERM);
    assert_eq!(running.end(), Some(130));
}

/// `| head` for commands that print at once, help included.
#[test]
fn a_closed_pipe_ends_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    for line in ["program --replicas 2", "--help", "completions zsh"] {
        let out = place.command(line).stdout(closed()).output().unwrap();
        assert_eq!(
            (out.status.signal(), text(&out.stderr).as_str()),
            (Some(libc::SIGPIPE), ""),
            "{line}"
        );
    }
}

/// The writing end of a pipe that nobody reads any more.
fn closed() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn a_report_goes_where_it_is_told() {
    let place = ready().prepared();
    place.ok("train --data data --inlier 1 --epochs 1 --device cpu --out run -q");
    place.ok("eval run --device cpu --no-bootstrap -q");
    fifo(&place.path("pipe"));
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || read(&pipe));
    place.ok("report run --out pipe");
    place.ok("report run --out new/folder/page.html");
    assert_eq!(reader.join().unwrap(), read(&place.path("new/folder/page.html")));
    assert!(fs::symlink_metadata(place.path("pipe")).unwrap().file_type().is_fifo());
    symlink("elsewhere.html", place.path("run/report.html")).unwrap();
    place.ok("report run");
    assert!(place.path("run/elsewhere.html").exists());
    let error = place.fails("report run --out new", 2);
    assert!(error.contains("new: a folder"), "{error}");
    place.fails("report nowhere", 1);
    assert!(!place.path("nowhere").exists());
}
