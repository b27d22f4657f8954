//! The real program on the small real dataset inside it: prepare, train, interrupt, resume,
//! evaluate, score, report; and what it says when it can't.

mod place;

use std::path::Path;
use std::process::Command;

use place::{Place, read, text};

/// metrics.csv without the column that time decides.
fn metrics(path: &Path) -> Vec<Vec<String>> {
    let mut table = csv::Reader::from_path(path).unwrap();
    let timed = table.headers().unwrap().iter().position(|name| name == "images_per_second");
    let untimed = |row: csv::StringRecord| {
        let fields = row.iter().enumerate().filter(|(i, _)| Some(*i) != timed);
        fields.map(|(_, v)| v.to_string()).collect()
    };
    table.records().map(|row| untimed(row.unwrap())).collect()
}

/// A place with the built-in dataset in `data`.
fn prepared() -> Place {
    let place = Place::new();
    place.ok("prep fmnist --subset --out data -q");
    place
}

const TRAIN: &str = "train --data data --init kaiming --device cpu --batch-size 32";

#[test]
fn from_data_to_report() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1,sandal --epochs 3 --out run"));
    for class in ["Trouser", "Sandal"] {
        let folder = place.path("run/models").join(class);
        for file in [
            "metrics.csv",
            "best/model.safetensors",
            "best/README.md",
            "last/model.safetensors",
            "last/optimizer.safetensors",
            "last/state.json",
        ] {
            assert!(folder.join(file).exists(), "{class}/{file}");
        }
        assert_eq!(metrics(&folder.join("metrics.csv")).len(), 3);
        assert!(
            std::fs::read_dir(&folder).unwrap().any(|e| e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("tfevents"))
        );
    }
    let table = place.ok("eval run --device cpu");
    assert!(
        table.contains("Trouser") && table.contains("Sandal") && table.contains("GradCon"),
        "{table}"
    );
    let results: serde_json::Value =
        serde_json::from_slice(&read(&place.path("run/results.json"))).unwrap();
    let auroc = results["classes"][0]["evaluations"][0]["full"]["auroc"].as_f64().unwrap();
    assert!(auroc > 0.8, "a trouser is easy to know: {auroc}");
    assert!(text(&read(&place.path("run/eval/Sandal/scores.csv"))).lines().count() > 100);
    place.ok("report run --out page.html");
    let page = text(&read(&place.path("page.html")));
    assert!(
        page.contains("Trouser")
            && page.contains("<svg")
            && !page.contains("http://")
            && !page.contains("<script")
    );
}

#[test]
fn one_class_of_several_equals_the_class_alone() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1,7 --epochs 1 --out both"));
    place.ok(&format!("{TRAIN} --inlier 1 --epochs 1 --out alone"));
    assert_eq!(
        metrics(&place.path("both/models/Trouser/metrics.csv")),
        metrics(&place.path("alone/models/Trouser/metrics.csv"))
    );
    for file in ["last/model.safetensors", "last/optimizer.safetensors"] {
        assert!(
            read(&place.path("both/models/Trouser").join(file))
                == read(&place.path("alone/models/Trouser").join(file)),
            "{file}"
        );
    }
}

/// What an evaluation of one class found by a score: its metrics.
fn found(place: &Place, results: &str, score: &str) -> serde_json::Value {
    let results: serde_json::Value = serde_json::from_slice(&read(&place.path(results))).unwrap();
    let evaluation = results["classes"][0]["evaluations"].as_array().unwrap().last().unwrap();
    let more = evaluation["more"].as_array().unwrap().iter();
    let named = more.filter(|named| named["score"] == score).map(|named| &named["metrics"]);
    named.chain([&evaluation[score]]).next().unwrap().clone()
}

#[test]
fn baselines_are_further_rows_of_the_table() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1,7 --epochs 1 --out run -q"));
    let eval = |line: &str| {
        let line = format!("eval {line} --device cpu --no-bootstrap --score code");
        let out = place.command(&line).output().unwrap();
        assert!(out.status.success(), "{line}: {}", text(&out.stderr));
        [text(&out.stdout), text(&out.stderr)]
    };
    let scores = || text(&read(&place.path("run/eval/Trouser/scores.csv")));
    let kept = |class: &str| {
        read(&place.path(&format!("run/plain/models/{class}/best/model.safetensors")))
    };
    let trains = "without the constraint";
    eval("run");
    let before = scores();
    let [table, said] = eval("run --baselines");
    assert!(said.contains(trains) && said.contains("2 model(s), to epoch 1"), "{said}");
    for name in ["pca", "nearest", "plain"] {
        assert!(table.lines().any(|line| line.starts_with(&format!("| {name} "))), "{table}");
        assert!(table.contains(&format!("; {name} = m")), "{table}");
    }
    let after = scores();
    assert!(after.lines().next().unwrap().ends_with(",pca,nearest,plain"), "{after}");
    assert_eq!(before.lines().count(), after.lines().count());
    assert!(before.lines().zip(after.lines()).all(|(before, after)| after.starts_with(before)));
    // A trouser is easy to know.
    for name in ["pca", "nearest"] {
        let auroc = found(&place, "run/results.json", name)["auroc"].as_f64().unwrap();
        assert!(auroc > 0.9, "{name}: {auroc}");
    }

    // It is what a run without the constraint comes to, which has no other baseline of its kind.
    place.ok(&format!("{TRAIN} --inlier 1 --epochs 1 --alpha 0 --out none -q"));
    let [_, said] = eval("none --baselines");
    assert!(!said.contains(trains) && !place.path("none/plain").exists());
    for score in ["plain", "reconstruction"] {
        let expected = found(&place, "none/results.json", score);
        assert_eq!(found(&place, "run/results.json", "plain"), expected, "{score}");
    }

    // It is trained once, and goes on with the run.
    let models = [kept("Trouser"), kept("Sneaker")];
    let [_, said] = eval("run --baselines");
    assert!(!said.contains(trains) && scores() == after, "{said}");
    assert!(models == [kept("Trouser"), kept("Sneaker")]);
    // The run's own data are what they are fitted on, whatever is evaluated.
    place.ok("prep fmnist --subset --seed 5 --out other -q");
    let [_, said] = eval("run --data other --baselines");
    assert!(!said.contains(trains), "{said}");
    assert!(found(&place, "run/eval-other/results.json", "nearest")["auroc"].as_f64() > Some(0.9));
    place.ok("train --resume run --epochs 2 --device cpu -q");
    assert!(eval("run --baselines")[1].contains("to epoch 2"));
    assert!(models[0] != kept("Trouser") && models[1] != kept("Sneaker"));
    eval("run");
    assert!(scores().lines().next() == before.lines().next());
}

#[test]
fn each_seed_has_its_own_baselines() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1 --epochs 1 --seeds 3,4 --out run -q"));
    let table = place.ok("eval run --baselines --device cpu --no-bootstrap --score code");
    assert!(table.contains("| plain ") && table.contains("±"), "{table}");
    let [a, b] = [3, 4].map(|seed| {
        read(&place.path(&format!("run/seed-{seed}/plain/models/Trouser/best/model.safetensors")))
    });
    assert!(a != b);
}

/// Own images in an MVTec-style tree: bars across are normal, bars along are not.
#[test]
fn own_images_of_any_size() {
    let place = Place::new();
    for (folder, count, along) in
        [("train/good", 40, false), ("test/good", 8, false), ("test/bent", 6, true)]
    {
        let folder = place.path("tree").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let (w, h) = (40 + i % 7, 50 - i % 5);
            let bar = |p: u32| if along { p % w } else { p / w }.abs_diff(10 + i % 20) < 4;
            let pixels: Vec<u8> = (0..w * h)
                .flat_map(|p| [if bar(p) { 250 } else { 10 }, 60, if bar(p) { 30 } else { 200 }])
                .collect();
            image::save_buffer(
                folder.join(format!("{i}.bmp")),
                &pixels,
                w,
                h,
                image::ColorType::Rgb8,
            )
            .unwrap();
        }
    }
    place.ok("prep folder --from tree --out own -q");
    place.ok("train --data own --epochs 2 --init kaiming --device cpu --out run");
    let table = place.ok("eval run --device cpu");
    assert!(table.contains("| normal | 8 | 6 |") && table.contains("42.9 % outliers"), "{table}");
    let scores = text(&read(&place.path("run/eval/normal/scores.csv")));
    assert!(scores.contains("bent/0.bmp,1,bent,"), "{scores}");
    let csv = place.ok(
        "score --model run/models/normal/best/model.safetensors --device cpu tree/test/bent tree/test/good/3.bmp",
    );
    assert_eq!(csv.lines().count(), 1 + 6 + 1, "{csv}");

    // What the threshold comes to is what scoring says of the same images.
    let flagged = |folder: &str| {
        let csv = place.ok(&format!("score --model run --device cpu -q tree/test/{folder}"));
        csv.lines().skip(1).filter(|line| line.ends_with(",1")).count()
    };
    let (bent, good) = (flagged("bent"), flagged("good"));
    assert!(table.contains(&format!(" | {bent} of 6 | {good} of 8 | ")), "{table}");
    assert!(
        table.contains("| F1 if all were flagged |") && table.contains(" | 0.600 |"),
        "{table}"
    );
    let kind = table.lines().find(|line| line.starts_with("| bent | 6 | ")).unwrap();
    assert!(kind.ends_with(&format!(" | {bent} |")), "{kind}");
    place.ok("report run -q");
    let page = text(&read(&place.path("run/report.html")));
    assert!(page.contains("At the stored threshold") && page.contains("By kind of anomaly"));
}

/// Few images: enough steps where nobody says how many epochs, and a word where nothing is learned.
#[test]
fn few_images_are_trained_long_enough_or_it_is_said() {
    let place = Place::new();
    for i in 0..30 {
        let bar = |p: u32| (p / 28).abs_diff(4 + i % 18) < 3;
        let pixels: Vec<u8> =
            (0..784).map(|p| if bar(p) { 230 } else { 20 + (p * i % 7) as u8 }).collect();
        std::fs::create_dir_all(place.path("good")).unwrap();
        let path = place.path(&format!("good/{i:02}.png"));
        image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).unwrap();
        std::fs::create_dir_all(place.path("bad")).unwrap();
        let path = place.path(&format!("bad/{i:02}.png"));
        image::save_buffer(path, &[60; 784], 28, 28, image::ColorType::L8).unwrap();
    }
    place.ok("prep folder --normal-dir good --abnormal-dir bad --out own -q");
    let train = "train --data own --batch-size 4 --device cpu --out";
    let said = |line: &str| text(&place.command(line).output().unwrap().stderr);
    // 22 images to train on, 6 steps an epoch.
    let log = said(&format!("{train} long"));
    let config = text(&read(&place.path("long/config.toml")));
    assert!(config.contains("epochs = 334\n") && config.contains("init = \"kaiming\""), "{config}");
    assert!(log.contains("334 epochs, to have 2000 steps"), "{log}");
    assert!(!log.contains("learned nothing"), "{log}");
    let last = log.lines().rfind(|line| line.starts_with("epoch")).unwrap();
    let share = last.split("  explains ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(share.parse::<f64>().unwrap() > 30.0, "{last}");
    let card = text(&read(&place.path("long/models/normal/best/README.md")));
    assert!(card.contains("% of the validation images' variance about the mean image |"), "{card}");

    // Whoever says how many gets as many.
    std::fs::write(place.path("c.toml"), "data = 'own'\nepochs = 2\nbatch_size = 4\n").unwrap();
    place.ok("train --config c.toml --device cpu --out file -q");
    assert!(text(&read(&place.path("file/config.toml"))).contains("epochs = 2\n"));
    let log = said(&format!("{train} short --epochs 1 --init torch --lr 1e-6"));
    assert!(log.contains("class normal has learned nothing yet: its reconstructions"), "{log}");
    assert!(log.contains("--epochs 2)"), "{log}");

    // Blank images are reconstructed better than bars by a model that knows gray only.
    let run = "eval short --device cpu --no-bootstrap";
    let log = said(&format!("{run} --score reconstruction -q"));
    assert!(log.contains("far below 0.5") && log.contains("class normal: an AUROC of 0."), "{log}");
    place.ok("eval long --device cpu --no-bootstrap -q");
    let results = text(&read(&place.path("long/results.json")));
    assert!(results.contains("\"explained_variance\": 0."), "{results}");
    place.ok("report long -q");
    assert!(text(&read(&place.path("long/report.html"))).contains("validation images' variance"));
}

/// Where a run has the class that most of these tests train.
const SNEAKER: &str = "models/Sneaker";

/// Killed without warning, again and again, a run still comes to the same bits.
#[cfg(unix)]
#[test]
fn a_killed_run_and_an_interrupted_run_end_like_an_unbroken_one() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 7 --epochs 4 --out whole"));
    let finished = |folder: &str| {
        assert_eq!(
            metrics(&place.path(folder).join(SNEAKER).join("metrics.csv")),
            metrics(&place.path("whole").join(SNEAKER).join("metrics.csv")),
            "{folder}"
        );
        for file in [
            "last/model.safetensors",
            "last/optimizer.safetensors",
            "last/best.safetensors",
            "last/state.json",
            "best/model.safetensors",
        ] {
            assert!(
                read(&place.path(folder).join(SNEAKER).join(file))
                    == read(&place.path("whole").join(SNEAKER).join(file)),
                "{folder}/{file} differs"
            );
        }
    };

    let mut child = place
        .command(&format!("{TRAIN} --inlier 7 --epochs 4 --checkpoint-every 0 --out killed"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !place.path("killed").join(SNEAKER).join("checkpoint.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    place.ok("train --resume killed --device cpu");
    finished("killed");

    // Ctrl-C: finishes the step, saves, says how to go on, exits with 130.
    let child = place
        .command(&format!("{TRAIN} --inlier 7 --epochs 4 --checkpoint-every 0 --out stopped"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !place.path("stopped").join(SNEAKER).join("metrics.csv").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let interrupted =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("--resume"), "{}", text(&out.stderr));
    place.ok("train --resume stopped --device cpu");
    finished("stopped");

    // A finished run goes on to more epochs, and refuses other settings.
    place.ok("train --resume whole --epochs 5 --device cpu");
    assert_eq!(metrics(&place.path("whole").join(SNEAKER).join("metrics.csv")).len(), 5);
    let error = place.fails("train --resume whole --lr 0.1", 2);
    assert!(error.contains("--lr"), "{error}");

    // A damaged checkpoint is an error, not a fresh start.
    let state = place.path("whole").join(SNEAKER).join("last/optimizer.safetensors");
    std::fs::write(&state, &read(&state)[..1000]).unwrap();
    let error = place.fails("train --resume whole --epochs 6 --device cpu", 1);
    assert!(error.contains("optimizer.safetensors"), "{error}");
}

#[test]
fn seeds_give_a_spread() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1 --epochs 1 --seeds 3,4 --out seeds"));
    let table = place.ok("eval seeds --device cpu --no-bootstrap");
    assert!(table.contains("seeds"), "{table}");
    let results: serde_json::Value =
        serde_json::from_slice(&read(&place.path("seeds/results.json"))).unwrap();
    assert_eq!(results["over_seeds"]["seeds"], serde_json::json!([3, 4]));
    assert!(results["over_seeds"]["rows"][0]["full"]["std"].as_f64().unwrap() > 0.0);
    // The headline is the mean of the two, everywhere.
    let auroc =
        |results: &serde_json::Value| results["means"][0]["full"]["auroc"].as_f64().unwrap();
    let of_seed = |seed: u64| -> serde_json::Value {
        serde_json::from_slice(&read(&place.path(&format!("seeds/seed-{seed}/results.json"))))
            .unwrap()
    };
    let (three, four) = (auroc(&of_seed(3)), auroc(&of_seed(4)));
    assert!(
        three != four && (auroc(&results) - (three + four) / 2.0).abs() < 1e-12,
        "{three} {four}"
    );
    assert!(table.contains("mean over 2 seeds (3, 4)") && table.contains(" \u{b1} "), "{table}");
    place.ok("report seeds --out page.html");
    let page = text(&read(&place.path("page.html")));
    assert!(
        page.contains("mean over 2 seeds (3, 4)") && !page.contains("Not in this run"),
        "nothing is missing"
    );
}

#[test]
fn scoring_streams_files_and_names_what_it_skips() {
    let place = prepared();
    place.ok(&format!("{TRAIN} --inlier 1 --epochs 1 --out run"));
    let folder = place.path("images");
    std::fs::create_dir(&folder).unwrap();
    for k in 0..5u8 {
        let pixels: Vec<u8> = (0..40 * 30).map(|i| (i as u8).wrapping_mul(k + 1)).collect();
        image::save_buffer(folder.join(format!("{k}.png")), &pixels, 40, 30, image::ColorType::L8)
            .unwrap();
    }
    let model = "--model run/models/Trouser/best/model.safetensors --device cpu";
    let csv = place.ok(&format!("score {model} --full images"));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "image,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6,anomalous");
    assert_eq!(lines.len(), 6);
    let json = place.ok(&format!("score {model} --format json images"));
    for (line, json) in lines[1..].iter().zip(json.lines()) {
        let fields: Vec<&str> = line.split(',').collect();
        let object: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            (object["image"].as_str().unwrap(), object["score"].as_f64().unwrap()),
            (fields[0], fields[1].parse().unwrap())
        );
        assert_eq!(object["anomalous"].as_bool().unwrap(), fields[8] == "1");
    }
    // Without --full the same lines less the paper's parts; a score asked for by name stays.
    let columns = |flags: &str, kept: &[usize]| {
        let short = place.ok(&format!("score {model} {flags} images"));
        let full = place.ok(&format!("score {model} {flags} --full images"));
        for (short, full) in short.lines().zip(full.lines()) {
            let full: Vec<&str> = full.split(',').collect();
            let kept: Vec<&str> = kept.iter().map(|&i| full[i]).collect();
            assert_eq!(short.split(',').collect::<Vec<_>>(), kept);
        }
        short.lines().next().unwrap().to_string()
    };
    assert_eq!(columns("", &[0, 1, 8]), "image,score,anomalous");
    assert_eq!(columns("--score code,norm", &[0, 1, 8, 9]), "image,score,norm,anomalous");
    // All noise: nothing like a trouser.
    assert!(lines[1..].iter().all(|l| l.ends_with(",1")), "{csv}");
    let all = place.ok(&format!("score {model} --threshold 1e9 images"));
    assert!(all.lines().skip(1).all(|l| l.ends_with(",0")), "{all}");

    std::fs::write(folder.join("broken.png"), b"no image").unwrap();
    let line = format!("score {model} --full --out scores.csv images");
    let out = place.command(&line).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("broken.png") && text(&out.stderr).contains("1 of 6"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(text(&read(&place.path("scores.csv"))), csv);
}

#[test]
fn the_demo_goes_the_whole_way_and_can_go_on() {
    let place = Place::new();
    std::fs::create_dir(place.path("gradcon-demo")).unwrap();
    std::fs::write(place.path("gradcon-demo/mine.txt"), "precious").unwrap();
    let out = place.command("demo --epochs 2 --device cpu").output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let (said, told) = (text(&out.stdout), text(&out.stderr));
    let auroc: f64 = said
        .strip_prefix("AUROC ")
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|v| v.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(auroc > 0.85, "{said}");
    assert!(said.contains("The page: gradcon-demo/run/report.html\n"), "{said}");
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(&place.path("gradcon-demo/data/manifest.json"))).unwrap();
    assert_eq!(manifest["counts"]["train"][0], 1800);
    assert_eq!(manifest["counts"]["val"][0], 200);
    assert_eq!(
        (&manifest["test_sets"][0]["normal"], &manifest["test_sets"][0]["anomalous"]),
        (&200.into(), &900.into())
    );
    let page = text(&read(&place.path("gradcon-demo/run/report.html")));
    assert!(page.contains("sneakers") && page.matches("data:image/png").count() == 160);

    // The ten highest scores, rising to the first, each a picture that is there.
    let best: Vec<(f64, &str)> = said
        .lines()
        .skip_while(|line| !line.starts_with("The most anomalous"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim().split_once(' ').unwrap())
        .map(|(score, rest)| (score.parse().unwrap(), rest.trim()))
        .collect();
    assert_eq!(best.len(), 10, "{said}");
    assert!(best.windows(2).all(|pair| pair[0].0 >= pair[1].0), "{said}");
    for (_, rest) in best {
        let (name, class) = rest.split_once(' ').unwrap();
        assert!(name.starts_with(class.trim()), "{rest}");
        assert!(place.path("gradcon-demo/images/test").join(name).exists(), "{rest}");
    }

    // What it says can be done next can be done.
    let next = told.lines().find_map(|line| line.trim().strip_prefix("gradcon score ")).unwrap();
    let scores = place.ok(&format!("score {next} --device cpu"));
    assert_eq!(scores.lines().count(), 1 + 100, "{next}");

    // The same again finds everything done; more epochs go on; other settings are refused.
    let model = read(&place.path("gradcon-demo/run/models/normal/last/model.safetensors"));
    assert_eq!(place.ok("demo --epochs 2 --device cpu"), said);
    assert!(read(&place.path("gradcon-demo/run/models/normal/last/model.safetensors")) == model);
    place.ok("demo --epochs 3 --device cpu");
    assert_eq!(metrics(&place.path("gradcon-demo/run/models/normal/metrics.csv")).len(), 3);
    let error = place.fails("demo --epochs 2 --device cpu", 2);
    assert!(error.contains("can't be shortened"), "{error}");
    let error = place.fails("demo --seed 5 --device cpu", 2);
    assert!(error.contains("gradcon-demo/run: ") && error.contains("--out"), "{error}");
    std::fs::remove_file(place.path("gradcon-demo/images/test/Bag/0007.png")).unwrap();
    let error = place.fails("demo --device cpu", 2);
    assert!(error.contains("gradcon-demo/data: ") && error.contains("--out"), "{error}");
    assert_eq!(read(&place.path("gradcon-demo/mine.txt")), b"precious");
}

#[test]
fn errors_name_what_is_wrong_and_have_their_exit_codes() {
    let place = prepared();
    let cases = [
        ("train --data nowhere --out run", 1, "nowhere"),
        ("train --out run", 2, "--data"),
        ("train --data data --inlier 11 --out run", 2, "Sneaker"),
        ("train --data data --inlier 1,1 --out run", 2, "twice"),
        ("train --data data --dataset mnist --out run", 2, "fmnist"),
        ("train --data data --out data", 2, "not empty"),
        ("train --data data --inlier 1 --lr -1 --out run2", 2, "learning rate is -1"),
        ("train --data data --epochs many --out run", 2, "--epochs"),
        ("train --data data --inlier 1 --lr 0 --out run0", 2, "learning rate"),
        ("train --resume nothing", 1, "nothing"),
        ("train --data data --inlier 1 --device gpu:99 --out run1", 3, "99"),
        ("demo --device gpu:99", 3, "99"),
        ("eval data", 1, "no run"),
        ("report data", 1, "results.json"),
        ("score --model missing.safetensors images", 1, "missing.safetensors"),
        ("score --model data/manifest.json images", 1, "safetensors"),
        ("program --batch 0", 2, "--batch"),
        ("demo --init torch", 2, "--init"),
        ("prep minst", 2, "mnist"),
    ];
    for (line, code, says) in cases {
        let error = place.fails(line, code);
        assert!(error.contains(says), "gradcon {line}: {error}");
    }
    std::fs::write(place.path("bad.toml"), "data = 'data'\nepoch = 3\n").unwrap();
    let error = place.fails("train --config bad.toml --out run", 2);
    assert!(error.contains("bad.toml") && error.contains("epoch"), "{error}");
    assert!(!place.path("run").exists(), "nothing is left of a run that could not start");
}

#[test]
fn a_configuration_file_is_resolved_and_written() {
    let place = prepared();
    std::fs::write(
        place.path("c.toml"),
        "data = 'data'\ninliers = ['Bag']\nepochs = 9\ninit = 'kaiming'\nbatch_size = 48\n",
    )
    .unwrap();
    place.ok("train --config c.toml --epochs 1 --no-shuffle --device cpu --out run");
    let config = text(&read(&place.path("run/config.toml")));
    for line in [
        "epochs = 1\n",
        "batch_size = 48\n",
        "shuffle = false\n",
        "inliers = [\"Bag\"]\n",
        "init = \"kaiming\"\n",
    ] {
        assert!(config.contains(line), "{line} in\n{config}");
    }
}

#[test]
fn a_program_can_be_looked_at() {
    let place = Place::new();
    let table = place.ok("program --model cae --batch 64");
    for word in ["conv_y", "conv_w", "constraint_grad", "adam", "MFLOP", "total"] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    assert!(place.ok("devices").contains("cpu"));
    assert!(place.ok("completions bash").contains("gradcon"));
    place.ok("man pages");
    assert!(text(&read(&place.path("pages/gradcon-train.1"))).contains("resume"));
}
