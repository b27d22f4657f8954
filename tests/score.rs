//! `gradcon score`: which model, which images, what is said of each, and how it ends.

mod place;

use std::collections::BTreeSet;

use place::{Place, read, text};

const SCORE: &str = "score --model m.safetensors --device cpu -q";

/// A place with a model of threshold 0.
fn ready() -> Place {
    let place = Place::new();
    place.model("m.safetensors", &[("threshold", "0")]);
    place
}

/// The records of a CSV text, without its header.
fn records(csv: &str) -> Vec<Vec<String>> {
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    table.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect()
}

/// A PNG over which its decoder panics: a palette of 25 bytes, found by fuzzing.
#[test]
fn a_fault_of_a_decoder_costs_one_image_and_shows_no_panic() {
    let place = ready();
    place.many("images", 3, usize::MAX);
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/hostile/picture/palette-of-25-bytes.png"
    );
    std::fs::copy(fixture, place.path("images/palette.png")).unwrap();
    let error = place.fails(&format!("{SCORE} images"), 1);
    assert!(
        error.contains("palette.png: skipped: the decoder failed") && error.contains("1 of 4"),
        "{error}"
    );
}

#[test]
fn only_a_score_above_the_threshold_is_anomalous() {
    let place = ready();
    place.many("same", 20, usize::MAX);
    let rows = records(&place.ok(&format!("{SCORE} same")));
    assert_eq!(rows.len(), 20);
    let scores: BTreeSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(scores.len(), 1, "one image, one score: {scores:?}");
    let score = rows[0][1].as_str();
    // As a quantile of equal validation scores would be.
    place.model("m.safetensors", &[("threshold", score)]);
    let flags = |args: &str| -> BTreeSet<String> {
        records(&place.ok(&format!("{SCORE} {args} same")))
            .into_iter()
            .map(|row| row[2].clone())
            .collect()
    };
    assert_eq!(flags(""), ["0".to_string()].into());
    let below = f64::from_bits(score.parse::<f64>().unwrap().to_bits() - 1);
    assert_eq!(flags(&format!("--threshold {below}")), ["1".to_string()].into());
    for senseless in ["inf", "nan", "-inf"] {
        let error = place.fails(&format!("{SCORE} --threshold={senseless} same"), 2);
        assert!(error.contains("--threshold"), "{error}");
    }
}

#[test]
fn a_model_without_a_threshold_scores_all_the_same() {
    let place = ready();
    place.model("m.safetensors", &[]);
    place.image("a.png", 1);
    let out = place.command(&format!("{SCORE} a.png")).output().unwrap();
    assert!(out.status.success());
    assert_eq!(records(&text(&out.stdout))[0][2], "");
    let stderr = text(&out.stderr);
    assert!(stderr.contains("m.safetensors") && stderr.contains("--threshold"), "{stderr}");
    let json: serde_json::Value =
        serde_json::from_str(&place.ok(&format!("{SCORE} --format json a.png"))).unwrap();
    assert!(json["anomalous"].is_null() && json["score"].is_f64(), "{json}");
    let out = place.command(&format!("{SCORE} --threshold 0 a.png")).output().unwrap();
    assert_eq!(text(&out.stderr), "", "nothing is missing with a threshold");
    place.model("m.safetensors", &[("threshold", "high")]);
    let error = place.fails(&format!("{SCORE} a.png"), 1);
    assert!(error.contains("m.safetensors") && error.contains("'high'"), "{error}");
}

#[cfg(unix)]
#[test]
fn names_of_any_kind_can_be_told_from_the_results() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let place = ready();
    place.image("one.png", 1);
    let names: [(&[u8], &str); 16] = [
        (b"a,b.png", "a,b.png"),
        (b"q\"uo\"te.png", "q\"uo\"te.png"),
        (b"new\nline.png", "new\nline.png"),
        (b"cr\r.png", "cr\r.png"),
        (b"tab\t.png", "tab\t.png"),
        (b"-dash.png", "-dash.png"),
        (b" lead.png", " lead.png"),
        (b"=cmd.png", "=cmd.png"),
        (b"back\\slash.png", "back\\slash.png"),
        ("缺陷.png".as_bytes(), "缺陷.png"),
        ("e\u{301}.png".as_bytes(), "e\u{301}.png"),
        ("é.png".as_bytes(), "é.png"),
        (b"zo\xe8.png", "zo\\xE8.png"),
        (b"zo\xe9.png", "zo\\xE9.png"),
        (b"zo\\xe8.png", "zo\\xe8.png"),
        (b"zo\\xE8.png", "zo\\x5CxE8.png"),
    ];
    std::fs::create_dir(place.path("images")).unwrap();
    let mut expected = BTreeSet::new();
    for (name, said) in names {
        let file = place.path("images").join(OsString::from_vec(name.to_vec()));
        // Some file systems (macOS) take no such name, or one of two that look alike.
        if !file.exists() && std::fs::hard_link(place.path("one.png"), file).is_ok() {
            expected.insert(format!("images/{said}"));
        }
    }
    let csv = records(&place.ok(&format!("{SCORE} images")));
    assert_eq!(csv.iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), expected);
    let json: BTreeSet<String> = place
        .ok(&format!("{SCORE} --format json images"))
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["image"]
                .as_str()
                .unwrap()
                .to_string()
        })
        .collect();
    assert_eq!(json, expected);
    let mut command = place.command("score --model ../m.safetensors --device cpu -q -- -dash.png");
    let out = command.current_dir(place.path("images")).output().unwrap();
    assert_eq!(records(&text(&out.stdout))[0][0], "-dash.png");
}

/// What can't be scored is named and skipped, whatever it is, and the others have the scores that
/// they have without it.
#[cfg(unix)]
#[test]
fn one_bad_image_costs_no_other() {
    let place = ready();
    for (i, name) in ["a", "c", "e", "g"].into_iter().enumerate() {
        place.image(&format!("images/{name}.png"), i as u32);
    }
    let good = place.ok(&format!("{SCORE} images"));
    assert_eq!(records(&good).len(), 4);
    std::fs::write(place.path("images/b.png"), "").unwrap();
    let half = read(&place.path("images/a.png"));
    std::fs::write(place.path("images/d.png"), &half[..half.len() / 2]).unwrap();
    std::os::unix::fs::symlink("gone", place.path("images/f.png")).unwrap();
    let fifo = |name: &str| {
        assert!(
            std::process::Command::new("mkfifo").arg(place.path(name)).status().unwrap().success()
        );
    };
    fifo("images/h.png");
    std::fs::write(place.path("images/notes.txt"), "no picture, and nobody's loss").unwrap();
    let out = place.command(&format!("{SCORE} images")).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), good.clone()));
    let stderr = text(&out.stderr);
    for name in ["b.png", "d.png", "f.png", "h.png"] {
        assert_eq!(
            stderr.matches(&format!("images/{name}: skipped")).count(),
            1,
            "{name}\n{stderr}"
        );
    }
    assert!(stderr.contains("4 of 8") && !stderr.contains("notes.txt"), "{stderr}");

    // The same by name, and more that is no image file.
    fifo("pipe");
    std::fs::create_dir(place.path("empty")).unwrap();
    let line = format!(
        "{SCORE} images/a.png gone.png pipe images/c.png empty /dev/null images/e.png images/g.png"
    );
    let out = place.command(&line).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), good));
    let stderr = text(&out.stderr);
    for name in ["gone.png", "pipe", "empty", "/dev/null"] {
        assert!(stderr.contains(&format!("{name}: skipped")), "{name}\n{stderr}");
    }
    assert!(stderr.contains("4 of 8"), "{stderr}");
}

/// A model that overflows on bright images says so of each, and scores the black one.
#[test]
fn a_score_that_is_no_number_costs_no_other() {
    let place = Place::new();
    place.scaled_model("m.safetensors", &[("threshold", "0")], 1e9);
    place.image("bright.png", 1);
    image::save_buffer(place.path("black.png"), &[0; 28 * 28], 28, 28, image::ColorType::L8)
        .unwrap();
    let out = place.command(&format!("{SCORE} bright.png black.png bright.png")).output().unwrap();
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert_eq!(
        records(&text(&out.stdout)).iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["black.png"]
    );
    assert_eq!(stderr.matches("bright.png: skipped: its score is").count(), 2, "{stderr}");
}

#[test]
fn a_model_of_other_images_is_refused() {
    let place = ready();
    place.image("a.png", 1);
    let model = gradcon::Model::new(4);
    let params = model.init(gradcon::Init::Kaiming, 0);
    let reference = vec![1e-3; model.reference_len()];
    let description = Default::default();
    gradcon::Detector { model, params, reference, statistics: None, description }
        .save(&place.path("four.safetensors"))
        .unwrap();
    let error = place.fails("score --model four.safetensors --threshold 0 --device cpu a.png", 1);
    assert!(error.contains("four.safetensors") && error.contains("not with 4"), "{error}");
}

#[test]
fn a_model_is_a_file_a_folder_or_a_class_of_a_run() {
    let place = Place::new().prepared();
    place.image("a.png", 1);
    let model = |run: &str, class: &str, threshold: &str| {
        place.model(
            &format!("{run}/best/model.safetensors"),
            &[("inlier", class), ("threshold", threshold)],
        );
    };
    // Thresholds tell which model it was: 1 is below every score here, the others above.
    model("one", "Bag", "1e9");
    model("runs/models/T-shirt-top", "T-shirt/top", "-1e9");
    model("runs/models/Sneaker", "Sneaker", "1e9");
    model("runs/models/Ankle-boot", "Ankle boot", "1e9");
    let sha256 = gradcon::data::Manifest::read(&place.path("data")).unwrap().sha256();
    let config = |run: &str, seeds: &str| {
        std::fs::create_dir_all(place.path(run)).unwrap();
        let text = format!(
            "data = 'data'\ndata_sha256 = '{sha256}'\ninliers = ['Bag']\nepochs = 1\nbatch_size = \
             64\nlr = 0.001\nalpha = 0.03\nbeta = 0.12\n\
             seed = 0\n{seeds}init = 'torch'\nshuffle = true\nthreshold_quantile = 0.95\n"
        );
        std::fs::write(place.path(run).join("config.toml"), text).unwrap();
    };
    config("one", "");
    config("runs", "");
    let flag = |args: &str| -> String {
        let rows = records(&place.ok(&format!("score --device cpu -q a.png --model {args}")));
        rows[0][2].clone()
    };
    for args in
        ["one", "one/best", "one/best/model.safetensors", "one --class bag", "one --class 8"]
    {
        assert_eq!(flag(args), "0", "{args}");
    }
    for args in
        ["runs/models/Sneaker", "runs/models/Sneaker/best", "runs --class 7", "runs --class snea"]
    {
        assert_eq!(flag(args), "0", "{args}");
    }
    for args in [
        "runs --class 0",
        "runs --class t-shirt-top",
        "runs --class T-shirt/top",
        "runs/models --class 0",
    ] {
        assert_eq!(flag(args), "1", "{args}");
    }
    std::fs::create_dir(place.path("nothing")).unwrap();
    for (args, code, says) in [
        ("runs", 2, &["--class", "Ankle boot, Sneaker, T-shirt/top"][..]),
        ("runs --class sneeker", 2, &["Did you mean 'Sneaker'"]),
        ("runs --class 8", 2, &["no model of Bag", "Sneaker"]),
        ("runs --class 0-3", 2, &["more than one"]),
        ("runs --class all", 2, &["more than one"]),
        ("one --class 7", 2, &["no model of Sneaker"]),
        ("one/best/model.safetensors --class bag", 2, &["one model, not a run"]),
        ("nothing", 1, &["nothing", "no model"]),
        ("absent", 1, &["absent"]),
    ] {
        let error = place.fails(&format!("score --device cpu -q a.png --model {args}"), code);
        for part in says {
            assert!(error.contains(part), "{args}: {error}");
        }
    }
    // Without the dataset nobody knows its numbers; the names are with the models.
    std::fs::rename(place.path("data"), place.path("moved")).unwrap();
    assert_eq!(flag("runs --class sneaker"), "0");
    let error = place.fails("score --device cpu -q a.png --model runs --class 7", 2);
    assert!(error.contains("give a name"), "{error}");
    // Nor where other data lie in its place.
    place.ok("prep fmnist --subset --seed 1 --out data -q");
    let error = place.fails("score --device cpu -q a.png --model runs --class 7", 2);
    assert!(error.contains("not the data"), "{error}");
    // Several seeds: one of them has to be named.
    config("seeds", "seeds = [1, 2]\n");
    for seed in ["seed-1", "seed-2"] {
        config(&format!("seeds/{seed}"), "");
        model(&format!("seeds/{seed}"), "Bag", "1e9");
    }
    let error = place.fails("score --device cpu -q a.png --model seeds", 2);
    assert!(error.contains("seeds/seed-1") && error.contains("seeds/seed-2"), "{error}");
}

#[cfg(unix)]
mod interrupted {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    use super::*;
    use crate::place::Running;

    const IMAGES: usize = 20_000;

    /// Everything that was scored is kept beside, and what is missing is said to the image.
    #[test]
    fn a_file_keeps_what_was_scored() {
        let place = ready();
        place.many("images", IMAGES, 300);
        std::fs::write(place.path("scores.csv"), "of yesterday").unwrap();
        let mut kept = vec![];
        for (signal, name) in
            [(libc::SIGTERM, "scores.csv.partial"), (libc::SIGINT, "scores.csv.partial-2")]
        {
            let mut score =
                Running::start(place.command(&format!("{SCORE} --out scores.csv images")));
            score.wait_for("000300.png: skipped");
            score.signal(signal);
            assert_eq!(score.end(), Some(130), "{}", score.said);
            assert_eq!(text(&read(&place.path("scores.csv"))), "of yesterday");
            let partial = text(&read(&place.path(name)));
            let rows = records(&partial);
            // Scored together are 64 at first, then 128: both came before the 300th.
            assert!(rows.len() >= 64 + 128 && rows.len() < IMAGES - 1, "{}", rows.len());
            let missing = IMAGES - rows.len() - 1;
            let says = format!(
                "the scores of {} images are in {name}, scores.csv is as it was; 1 could not be \
                 scored, {missing} of {IMAGES} are missing",
                rows.len()
            );
            assert!(score.said.contains(&says), "{says}\n{}", score.said);
            assert_eq!(rows.last().unwrap().len(), 3, "whole lines");
            kept.push(rows);
        }
        // Both runs scored the images in the same order.
        let both = kept[0].len().min(kept[1].len());
        assert_eq!(kept[0][..both], kept[1][..both]);
        let left = std::fs::read_dir(place.path("")).unwrap();
        let unfinished =
            left.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp-"));
        assert_eq!(unfinished.count(), 0);
    }

    /// With --top: how many were scored, and how many lines of them there are.
    #[test]
    fn of_the_highest_both_numbers_are_told() {
        let place = ready();
        place.many("images", IMAGES, 300);
        let mut score =
            Running::start(place.command(&format!("{SCORE} --top 5 --out scores.csv images")));
        score.wait_for("000300.png: skipped");
        score.signal(libc::SIGINT);
        assert_eq!(score.end(), Some(130), "{}", score.said);
        assert_eq!(records(&text(&read(&place.path("scores.csv.partial")))).len(), 5);
        assert!(score.said.contains("the 5 highest of the scores of "), "{}", score.said);
        assert!(score.said.contains(" images are in scores.csv.partial"), "{}", score.said);
    }

    /// Lines come while the work goes on; then a reader that no longer reads must not keep the
    /// second request from ending the program.
    #[test]
    fn a_reader_that_stopped_reading_holds_up_nobody() {
        let place = ready();
        place.many("images", IMAGES, usize::MAX);
        let mut command = place.command(&format!("{SCORE} images"));
        command.stdout(Stdio::piped());
        let mut score = Running::start(command);
        let mut stdout = BufReader::with_capacity(256, score.child.stdout.take().unwrap());
        let mut lines = String::new();
        while lines.lines().count() < 2 {
            stdout.read_line(&mut lines).unwrap();
        }
        assert!(lines.contains("images/000000.png,"), "{lines}");
        assert!(
            score.child.try_wait().unwrap().is_none(),
            "the first line comes before the last image is scored"
        );
        // The pipe is as full as it gets.
        let mut before = -1;
        loop {
            let mut waiting: libc::c_int = 0;
            let fd = std::os::fd::AsRawFd::as_raw_fd(stdout.get_ref());
            // SAFETY: the descriptor is open, and the call writes one int.
            let asked = unsafe { libc::ioctl(fd, libc::FIONREAD, &mut waiting) };
            assert_eq!(asked, 0);
            if waiting > 32_768 && waiting == before {
                break;
            }
            before = waiting;
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        while score.child.try_wait().unwrap().is_none() {
            score.signal(libc::SIGTERM);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(score.end(), Some(130), "{}", score.said);
    }

    #[test]
    fn standard_output_is_told_too() {
        let place = ready();
        place.many("images", IMAGES, 300);
        let mut command = place.command(&format!("{SCORE} images"));
        command.stdout(Stdio::piped());
        let mut score = Running::start(command);
        let mut stdout = score.child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            stdout.read_to_string(&mut all).unwrap();
            all
        });
        score.wait_for("000300.png: skipped");
        score.signal(libc::SIGHUP);
        assert_eq!(score.end(), Some(130), "{}", score.said);
        let rows = records(&reader.join().unwrap()).len();
        let says = format!(
            "the scores of {rows} images are written; 1 could not be scored, {} of",
            IMAGES - rows - 1
        );
        assert!(score.said.contains(&says), "{says}\n{}", score.said);
    }

    /// `| head`: no message, and the end that any filter comes to.
    #[test]
    fn a_reader_that_has_enough_ends_it_quietly() {
        use std::os::unix::process::ExitStatusExt;
        let place = ready();
        place.many("images", IMAGES, usize::MAX);
        let mut command = place.command(&format!("{SCORE} images"));
        command.stdout(Stdio::piped());
        let mut score = Running::start(command);
        let mut first = [0; 16];
        score.child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let status = score.child.wait().unwrap();
        assert_eq!(
            (status.signal(), score.end(), score.said.as_str()),
            (Some(libc::SIGPIPE), None, "")
        );
    }
}

/// Highest first if somebody asks, and at the end how many are above the threshold.
#[test]
fn the_highest_scores_come_first_if_asked_for() {
    let place = Place::new();
    place.model("m.safetensors", &[]);
    for i in 0..12 {
        place.image(&format!("images/{i:02}.png"), i % 9);
    }
    let score = "score --model m.safetensors --device cpu images";
    let all = place.ok(&format!("{score} --threshold 0 -q"));
    let mut rows: Vec<&str> = all.lines().skip(1).collect();
    let of = |line: &&str| line.split(',').nth(1).unwrap().parse::<f64>().unwrap();
    // Images that are the same keep their order.
    rows.sort_by(|a, b| of(b).total_cmp(&of(a)));
    let sorted = place.ok(&format!("{score} --threshold 0 -q --sort"));
    assert_eq!(sorted.lines().skip(1).collect::<Vec<_>>(), rows);
    let top = place.ok(&format!("{score} --threshold 0 -q --top 3"));
    assert_eq!(top.lines().skip(1).collect::<Vec<_>>(), rows[..3]);
    assert_eq!(top.lines().next(), all.lines().next());
    let json = place.ok(&format!("{score} --threshold 0 -q --top 1 --format json"));
    let first: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(first["image"], rows[0].split(',').next().unwrap());

    let middle = (of(&rows[4]) + of(&rows[5])) / 2.0;
    let above = rows.iter().filter(|row| of(row) > middle).count();
    let out = place.command(&format!("{score} --threshold {middle} --top 2")).output().unwrap();
    let said = text(&out.stderr);
    let share = (100.0 * above as f64 / 12.0).round();
    let wanted = format!("scored 12 images, {above} of them ({share} %) above the threshold");
    assert!(said.contains(&wanted), "{wanted}: {said}");
    let error = place.fails(&format!("{score} --top 0"), 2);
    assert!(error.contains("--top"), "{error}");
}

/// Paths of standard input are scored as those of the command line, as they come.
#[cfg(unix)]
#[test]
fn paths_come_from_standard_input_too() {
    let place = ready();
    for name in ["a.png", "b c.png", "more/d.png"] {
        place.image(&format!("images/{name}"), 1);
    }
    let by_name = place.ok(&format!("{SCORE} images"));
    let list = |names: &str, flags: &str| {
        let line = format!("printf '{names}' | \"$GRADCON\" {SCORE} {flags}");
        let out = place.shell(&line).output().unwrap();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let all = "images/a.png\\nimages/b c.png\\r\\n\\nimages/more\\n";
    assert_eq!(list(all, "-"), (Some(0), by_name.clone(), String::new()));
    let all = "images/a.png\\0images/b c.png\\0images/more";
    for flags in ["- --null", "-0 -"] {
        assert_eq!(list(all, flags), (Some(0), by_name.clone(), String::new()));
    }
    let (code, rows, said) = list("gone.png\\nimages/a.png\\n", "-");
    assert_eq!((code, rows.lines().count()), (Some(1), 2));
    assert!(said.contains("gone.png: skipped") && said.contains("1 of 2"), "{said}");
    let error = place.fails(&format!("{SCORE} --null images"), 2);
    assert!(error.contains("--null") && error.contains('-'), "{error}");
}

/// What is flagged lies in one folder afterwards, and nothing that was there is lost.
#[test]
fn flagged_images_are_copied_if_asked_for() {
    let place = ready();
    for i in 0..6 {
        place.image(&format!("images/{}/{}.png", i % 2, i / 2), i);
    }
    let rows = records(&place.ok(&format!("{SCORE} images --sort")));
    let of = |row: &Vec<String>| row[1].parse::<f64>().unwrap();
    let middle = (of(&rows[2]) + of(&rows[3])) / 2.0;
    std::fs::create_dir(place.path("flagged")).unwrap();
    let precious = std::path::Path::new(&rows[0][0]).file_name().unwrap();
    std::fs::write(place.path("flagged").join(precious), "precious").unwrap();
    let line = format!("{SCORE} images --threshold {middle} --top 1 --copy-flagged flagged");
    let contents = || -> BTreeSet<Vec<u8>> {
        let entries = std::fs::read_dir(place.path("flagged")).unwrap();
        entries.map(|entry| read(&entry.unwrap().path())).collect()
    };
    let mut wanted: BTreeSet<Vec<u8>> =
        rows[..3].iter().map(|row| read(&place.path(&row[0]))).collect();
    wanted.insert(b"precious".to_vec());
    assert_eq!(wanted.len(), 4);
    for says in ["3 copied to flagged", "0 copied to flagged, 3 there already"] {
        let out = place.command(&line.replace(" -q", "")).output().unwrap();
        assert!(out.status.success() && text(&out.stderr).contains(says), "{says}");
        assert_eq!(contents(), wanted);
    }
    assert_eq!(read(&place.path("flagged").join(precious)), b"precious");
    for folder in ["images", "images/bad"] {
        let error = place.fails(&format!("{SCORE} images --copy-flagged {folder}"), 2);
        assert!(error.contains("--copy-flagged") && error.contains("outside"), "{error}");
    }
    assert!(!place.path("images/bad").exists());
    place.model("m.safetensors", &[]);
    let error = place.fails(&format!("{SCORE} images --copy-flagged flagged"), 2);
    assert!(error.contains("--threshold"), "{error}");
}

/// A folder that fills up: rows come while it does, of whole files only, and Ctrl-C is the end.
#[cfg(unix)]
#[test]
fn a_watched_folder_is_scored_as_it_fills() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let place = ready();
    place.image("in/first.png", 1);
    place.image("later.png", 2);
    let mut command =
        place.command("score --model m.safetensors --device cpu --watch in --copy-flagged bad");
    let mut watch = place::Running::start({
        command.stdout(Stdio::piped());
        command
    });
    let mut rows = BufReader::new(watch.child.stdout.take().unwrap()).lines();
    let mut next = || rows.next().unwrap().unwrap();
    assert_eq!(next(), "image,score,anomalous");
    assert!(next().starts_with("in/first.png,"));
    // A writer that pauses in the midst of it.
    let whole = read(&place.path("later.png"));
    let mut file = std::fs::File::create(place.path("in/later.png")).unwrap();
    file.write_all(&whole[..whole.len() / 2]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    place.image("in/sub/second.png", 3);
    assert!(next().starts_with("in/sub/second.png,"));
    file.write_all(&whole[whole.len() / 2..]).unwrap();
    drop(file);
    assert!(next().starts_with("in/later.png,"));
    watch.signal(libc::SIGINT);
    assert_eq!(watch.end(), Some(0), "{}", watch.said);
    assert!(rows.next().is_none());
    assert!(watch.said.contains("scored 3 images, 3 of them (100 %) above"), "{}", watch.said);
    assert!(watch.said.contains("3 copied to bad"), "{}", watch.said);
    assert!(!watch.said.contains("skipped"), "{}", watch.said);
    for (line, code, says) in [
        ("--watch gone", 1, "gone"),
        ("--watch in in", 2, "--watch"),
        ("--watch in --top 3", 2, "--top"),
        ("--watch in --copy-flagged in/bad", 2, "--copy-flagged"),
        ("--watch in --maps in/maps", 2, "--maps"),
        ("", 2, "PATH"),
    ] {
        let error = place.fails(&format!("{SCORE} {line}"), code);
        assert!(error.contains(says), "{line}: {error}");
    }
}
