//! Run folders as a user meets them: starts that fail and leave nothing, one writer a folder, data
//! that were moved or exchanged, settings that were edited, several seeds, evaluations on other
//! data.

mod place;

use std::path::Path;
use std::time::Duration;

use place::{Place, Running, read, text};

/// A place with gray pictures: `good` and `bad`, and the dataset `data` of both.
fn place() -> Place {
    let place = Place::new();
    pictures(&place, "good", 30, 1);
    pictures(&place, "bad", 10, 5);
    prep(&place, "data", "");
    place
}

fn prep(place: &Place, out: &str, more: &str) {
    place.ok(&format!(
        "prep folder --normal-dir good --abnormal-dir bad --channels 1 --out {out} -q {more}"
    ));
}

fn pictures(place: &Place, folder: &str, count: usize, slope: usize) {
    std::fs::create_dir_all(place.path(folder)).unwrap();
    for i in 0..count {
        let pixels: Vec<u8> =
            (0..784).map(|p| ((p % 28) * slope * 3 + (p / 28) * (i % 5)) as u8).collect();
        let path = place.path(folder).join(format!("{i:02}.png"));
        image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).unwrap();
    }
}

const TRAIN: &str = "train --data data --init kaiming --device cpu -q";

/// The values of a model's description.
fn description(model: &Path) -> serde_json::Value {
    let bytes = read(model);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice::<serde_json::Value>(&bytes[8..8 + length]).unwrap()["__metadata__"]
        .clone()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Lines of a file with the given beginning are replaced.
fn edit(path: &Path, beginning: &str, line: &str) {
    let text = text(&read(path));
    assert!(text.lines().any(|l| l.starts_with(beginning)), "{beginning} in\n{text}");
    let lines: Vec<&str> =
        text.lines().map(|l| if l.starts_with(beginning) { line } else { l }).collect();
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn a_start_that_fails_leaves_nothing_and_the_corrected_command_works() {
    let place = place();
    std::fs::write(place.path("broken.safetensors"), b"no model").unwrap();
    for (wrong, code) in [
        ("--device gpu:99", 3),
        ("--batch-size 0", 2),
        ("--lr nan", 2),
        ("--alpha -1", 2),
        ("--epochs 0", 2),
        ("--threshold-quantile 2.0", 2),
        ("--seeds 1,1", 2),
        ("--checkpoint-every -1", 2),
        ("--checkpoint-every nan", 2),
        ("--checkpoint-every soon", 2),
        ("--init-from nowhere.safetensors", 1),
        ("--init-from broken.safetensors", 1),
        ("--inlier nobody", 2),
        ("--augment-copies 2", 2),
        ("--augment flip --augment-copies 0", 2),
        ("--augment flip --augment-copies 101", 2),
    ] {
        let device = if wrong.starts_with("--device") { "" } else { "--device cpu" };
        let epochs = if wrong.starts_with("--epochs") { "" } else { "--epochs 1" };
        place.fails(&format!("train --data data --out run {device} {epochs} {wrong}"), code);
        assert!(!place.path("run").exists(), "{wrong} left a folder");
    }
    // What a start leaves that was killed before its configuration was there is no run.
    std::fs::create_dir(place.path("run")).unwrap();
    std::fs::write(place.path("run/.lock"), "").unwrap();
    std::fs::write(place.path("run/.tmp-1-0"), "half a config").unwrap();
    let error = place.fails("train --resume run", 1);
    assert!(error.contains("no config.toml"), "{error}");
    place.ok(&format!("{TRAIN} --epochs 1 --out run"));
    // One that was killed right after it is one.
    std::fs::create_dir(place.path("begun")).unwrap();
    std::fs::copy(place.path("run/config.toml"), place.path("begun/config.toml")).unwrap();
    place.ok("train --resume begun --device cpu -q");
    assert!(
        read(&place.path("begun/models/normal/last/model.safetensors"))
            == read(&place.path("run/models/normal/last/model.safetensors")),
        "another model"
    );
}

#[test]
fn without_a_folder_the_run_is_named_for_its_data() {
    let place = place();
    let out = place.ok(&format!("{TRAIN} --epochs 1"));
    let folder = out.trim();
    assert!(folder.starts_with("runs"), "{out}");
    assert!(place.path(folder).join("config.toml").exists());
    let error = place.fails(&format!("{TRAIN} --epochs 1"), 2);
    assert!(error.contains("not empty") && error.contains(folder), "{error}");
}

const ENDLESS: &str =
    "train --data data --init kaiming --device cpu --epochs 1000000 --checkpoint-every 0";

#[test]
fn a_folder_has_one_writer_and_the_second_is_told_who_it_is() {
    let place = place();
    let command = place.command(&format!("{ENDLESS} --out run"));
    let mut first = Running::start(command);
    // After the second epoch its checkpoint waits for that of the first.
    first.wait_for("epoch   3/");
    for second in ["train --resume run --device cpu", "eval run --device cpu"] {
        let error = place.fails(second, 1);
        let pid = format!("process {}", first.child.id());
        assert!(
            error.contains("in use") && error.contains("gradcon train") && error.contains(&pid),
            "{error}"
        );
    }
    first.child.kill().unwrap();
    first.end();
    // The lock ends with its holder, however it ends.
    place.ok("eval run --device cpu --no-bootstrap");
}

#[test]
fn a_run_knows_its_data() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 1 --out run"));
    let config = text(&read(&place.path("run/config.toml")));
    let id = config
        .lines()
        .find_map(|l| l.strip_prefix("data_sha256 = \""))
        .unwrap()
        .trim_end_matches('"')
        .to_string();
    assert_eq!(id.len(), 64);
    place.ok("eval run --device cpu --no-bootstrap");
    assert_eq!(
        description(&place.path("run/models/normal/best/model.safetensors"))["gradcon.data_sha256"],
        id
    );
    let about = json(&place.path("run/results.json"))["about"].clone();
    assert_eq!(about["data_sha256"], id);
    // And how it was made.
    let made = &about["made"];
    let settings =
        ["alpha", "lr", "epochs", "batch_size", "init", "beta", "seed", "inliers", "shuffle"];
    for setting in settings {
        assert!(!made["settings"][setting].is_null(), "{setting} in {made}");
    }
    assert_eq!(
        (&made["settings"]["lr"], &made["settings"]["init"]),
        (&0.001.into(), &"kaiming".into())
    );
    assert!(made["command"].as_str().unwrap().contains(" eval run"), "{made}");
    assert!(made["evaluation_seconds"].as_f64().unwrap() > 0.0, "{made}");
    assert!(made["trained_on"][0].as_str().unwrap().contains("CPU engine"), "{made}");
    let class = json(&place.path("run/results.json"))["classes"][0].clone();
    assert!(class["training_seconds"].as_f64().unwrap() > 0.0, "{class}");
    assert!(text(&read(&place.path("run/models/normal/best/README.md"))).contains(&id));

    // Another split at the same place.
    prep(&place, "data", "--force --seed 1");
    for line in ["train --resume run --epochs 2 --device cpu", "eval run --device cpu"] {
        let error = place.fails(line, 1);
        assert!(
            error.contains("not the data that the run was made with") && error.contains(&id),
            "{line}: {error}"
        );
    }
    // The right one in another place, told once.
    prep(&place, "elsewhere", "");
    let error = place.fails("train --resume run --epochs 2 --data bad --device cpu", 1);
    assert!(error.contains("bad"), "{error}");
    place.ok("train --resume run --epochs 2 --data elsewhere --device cpu -q");
    place.ok("train --resume run --epochs 3 --device cpu -q");
    std::fs::rename(place.path("elsewhere"), place.path("away")).unwrap();
    let error = place.fails("train --resume run --epochs 4 --device cpu", 1);
    assert!(error.contains("elsewhere") && error.contains("--data"), "{error}");
}

#[test]
fn an_evaluation_on_other_data_stands_beside_the_runs_own() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 1 --out run"));
    place.ok("eval run --device cpu --no-bootstrap");
    let own = [
        "results.json",
        "models/normal/best/README.md",
        "models/normal/best/model.safetensors",
        "eval/normal/scores.csv",
    ];
    let before = own.map(|file| read(&place.path("run").join(file)));
    prep(&place, "other", "--seed 3");
    place.ok("eval run --data other --device cpu --no-bootstrap");
    // Another dataset of the same folder's name.
    std::fs::create_dir(place.path("again")).unwrap();
    prep(&place, "again/other", "--seed 4");
    place.ok("eval run --data again/other --device cpu --no-bootstrap");
    assert!(
        own.map(|file| read(&place.path("run").join(file))) == before,
        "the run's own results changed"
    );
    let results = json(&place.path("run/eval-other/results.json"));
    assert_eq!(results["about"]["data"], "other");
    let others: Vec<String> = std::fs::read_dir(place.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("eval-other-"))
        .collect();
    let [second] = &others[..] else { panic!("{others:?}") };
    assert_eq!(
        json(&place.path("run").join(second).join("results.json"))["about"]["data"],
        "again/other"
    );

    // The run's own data in another place are still its own; what a killed evaluation left is
    // swept.
    prep(&place, "copy", "");
    let left = ["run/.tmp-1-2", "run/models/normal/best/.tmp-1-3", "run/eval/normal/.tmp-1-4"];
    left.iter().for_each(|file| std::fs::write(place.path(file), "half").unwrap());
    place.ok("eval run --data copy --device cpu --no-bootstrap");
    assert!(!place.path("run/eval-copy").exists());
    left.iter().for_each(|file| assert!(!place.path(file).exists(), "{file}"));
    assert_eq!(json(&place.path("run/results.json"))["about"]["data"], "copy");

    // Images of another shape: no number at all.
    place.ok("prep folder --normal-dir good --abnormal-dir bad --channels 3 --out colour -q");
    let error = place.fails("eval run --data colour --device cpu", 1);
    assert!(error.contains("[28, 28, 3]") && error.contains("[28, 28, 1]"), "{error}");
}

#[test]
fn the_papers_settings_are_one_flag() {
    let place = place();
    let train = "train --data data --device cpu -q --paper";
    place.ok(&format!("{train} --epochs 1 --seed 3 --out run"));
    let config = text(&read(&place.path("run/config.toml")));
    for line in [
        "init = \"torch\"",
        "score = \"paper\"",
        "beta = 0.12",
        "alpha = 0.03",
        "lr = 0.001",
        "epochs = 1",
        "seed = 3",
    ] {
        assert!(config.lines().any(|found| found == line), "{line}: {config}");
    }
    let table = place.ok("eval run --device cpu --no-bootstrap -q");
    let first = table.lines().find(|line| line.starts_with("| GradCon")).unwrap();
    assert!(table.find(first) < table.find("| auto |"), "ranked by the paper's score: {table}");
    std::fs::write(place.path("c.toml"), "epochs = 1\n").unwrap();
    let error = place.fails(&format!("{train} --config c.toml --out other"), 2);
    assert!(error.contains("--paper") && error.contains("--config"), "{error}");
    let error = place.fails("train --resume run --paper --device cpu", 2);
    assert!(error.contains("--paper"), "{error}");
}

/// An evaluation that ranks by another score says nothing of it in the model and on its card.
#[test]
fn a_model_keeps_its_score_whatever_it_is_evaluated_by() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 1 --out run"));
    let model = place.path("run/models/normal/best/model.safetensors");
    let before = description(&model);
    assert_eq!(before["gradcon.score"], "auto");
    let table = place.ok("eval run --score paper,code --device cpu --no-bootstrap -q");
    assert!(table.contains("| GradCon |") && !table.contains("| auto |"), "{table}");
    assert_eq!(description(&model), before);
    let card = text(&read(&place.path("run/models/normal/best/README.md")));
    assert!(card.contains("anomaly score, `auto`:") && card.contains("| GradCon | "), "{card}");
}

#[test]
fn a_threshold_follows_what_it_depends_on() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 2 --score paper --out run"));
    let model = place.path("run/models/normal/best/model.safetensors");
    let of = |key: &str| description(&model)[key].as_str().unwrap().parse::<f64>().unwrap();
    let (config, before) = (place.path("run/config.toml"), of("gradcon.threshold"));
    edit(&config, "beta =", "beta = 3.0");
    place.ok("eval run --device cpu --no-bootstrap");
    assert_eq!(of("gradcon.beta"), 3.0);
    let after = of("gradcon.threshold");
    assert!(after < before - 0.1, "{before} for beta 0.12, {after} for 3");
    // A training with that beta has that threshold.
    place.ok(&format!("{TRAIN} --epochs 2 --score paper --beta 3 --out other"));
    let other = description(&place.path("other/models/normal/best/model.safetensors"));
    assert_eq!(other["gradcon.threshold"], description(&model)["gradcon.threshold"]);
    edit(&config, "threshold_quantile =", "threshold_quantile = 0.5");
    place.ok("eval run --device cpu --no-bootstrap");
    assert!(of("gradcon.threshold") <= after && of("gradcon.threshold_quantile") == 0.5);

    edit(&config, "threshold_quantile =", "threshold_quantile = 2.0");
    for line in ["eval run --device cpu", "train --resume run --epochs 3 --device cpu"] {
        let error = place.fails(line, 1);
        assert!(
            error.contains("config.toml") && error.contains("threshold quantile is 2"),
            "{error}"
        );
    }
    edit(&config, "threshold_quantile =", "threshold_quantile = 0.95");
    edit(&config, "lr =", "lr = 0.5");
    let error = place.fails("train --resume run --epochs 3 --device cpu", 1);
    assert!(error.contains("config.toml") && error.contains("lr is 0.5"), "{error}");
}

/// A training ends where patience does, says so everywhere, and goes on to the same bits.
#[test]
fn a_training_without_progress_ends_early() {
    let place = place();
    let train = format!("{TRAIN} --lr 0.05 --patience 2");
    let out = place.command(&format!("{train} --epochs 40 --out run").replace(" -q", ""));
    let out = { out }.output().unwrap();
    let said = text(&out.stderr);
    assert!(out.status.success() && said.contains("stopped early, after epoch"), "{said}");
    assert!(said.contains("none of the last 2 had a better validation loss"), "{said}");
    let rows = |run: &str| text(&read(&place.path(run).join("metrics.csv"))).lines().count() - 1;
    let end = rows("run");
    assert!((3..40).contains(&end), "{end}");
    let table = place.ok("eval run --device cpu --no-bootstrap");
    assert!(table.contains(&format!("normal stopped early, after {end} epochs: 2")), "{table}");
    let class = json(&place.path("run/results.json"))["classes"][0].clone();
    assert_eq!((&class["stopped_early"], &class["epochs"]), (&2.into(), &end.into()));
    assert_eq!(class["best_epoch"].as_u64(), Some(end as u64 - 2));
    assert!(text(&read(&place.path("run/best/README.md"))).contains("stopped early"));
    place.ok("report run --out page.html");
    assert!(text(&read(&place.path("page.html"))).contains("stopped early: 2 epochs without"));
    // It stays ended, whatever epochs are asked for.
    let model = || read(&place.path("run/last/model.safetensors"));
    let before = model();
    let out = place.command("train --resume run --epochs 80 --device cpu").output().unwrap();
    assert!(out.status.success() && text(&out.stderr).contains("stopped early"));
    assert!(model() == before && rows("run") == end);

    place.ok(&format!("{train} --epochs {} --out halves", end - 2));
    place.ok("train --resume halves --epochs 40 --device cpu -q");
    assert!(read(&place.path("halves/last/model.safetensors")) == before);
    assert_eq!(rows("halves"), end);
    // One that has patience enough is as without.
    place.ok(&format!("{TRAIN} --epochs 3 --out without"));
    let without = json(&place.path("without/best/../last/state.json"));
    place.ok(&format!("{TRAIN} --epochs 3 --patience 50 --out with"));
    assert_eq!(
        json(&place.path("with/last/state.json"))["best_validation_loss"],
        without["best_validation_loss"]
    );
    for line in ["ablate --data data --out a", "reproduce --datasets mnist --from mnist=d --out r"]
    {
        let error = place.fails(&format!("{line} --patience 3 --epochs 2"), 2);
        assert!(error.contains("--patience 3"), "{error}");
    }
    let error = place.fails(&format!("{TRAIN} --patience 0 --out other"), 2);
    assert!(error.contains("patience is 0"), "{error}");
    // A sweep's models end each by itself, and it knows that it is through.
    let sweep = "sweep --data data --lr 0.05,0.001 --patience 2 --epochs 12 --device cpu --out s";
    // All but the line with the date.
    let swept = || -> Vec<String> {
        let table = place.ok(sweep);
        table.lines().filter(|line| !line.contains(", gradcon ")).map(str::to_string).collect()
    };
    let table = swept();
    let models = ["lr-0.05", "lr-0.001"].map(|name| {
        let run = place.path(&format!("s/alpha-0.03_{name}"));
        let metrics = run.join("models/normal/metrics.csv");
        text(&read(&metrics)).lines().count() - 1
    });
    assert_eq!(models[0], end, "{models:?}");
    assert_eq!(swept(), table);
}

/// A rate of false positives instead of a quantile: by the validation images, as far as they can
/// promise it, where thresholds are made.
#[test]
fn changed_copies_train_a_model_and_judge_nothing() {
    let place = place();
    let train = format!("{TRAIN} --batch-size 8 --seed 3");
    let changed = format!("{train} --augment flip,shift,flip");
    place.ok(&format!("{changed} --augment-copies 2 --epochs 3 --out run"));
    let config = text(&read(&place.path("run/config.toml")));
    assert!(config.contains("augment = [\"shift\", \"flip\"]\naugment_copies = 2\n"), "{config}");
    // In two goes, and in another order of the same changes: the same model to the bit.
    place.ok(&format!("{train} --augment shift,flip --augment-copies 2 --epochs 1 --out again"));
    place.ok("train --resume again --epochs 3 --device cpu -q");
    let model = |run: &str| read(&place.path(run).join("models/normal/best/model.safetensors"));
    assert!(model("run") == model("again"));
    // Fewer copies and other changes are other trainings, and a run stays with its own.
    let fewer = format!("{changed} --augment-copies 1");
    for (out, other) in [("a", &fewer), ("b", &format!("{train} --augment brightness"))] {
        place.ok(&format!("{other} --epochs 3 --out {out}"));
        assert!(model("run") != model(out), "{other}");
    }
    edit(&place.path("run/config.toml"), "augment_copies", "augment_copies = 5");
    let error = place.fails("train --resume run --epochs 4 --device cpu -q", 1);
    assert!(error.contains("augment_copies is 5, the run was trained with 2"), "{error}");
    // What is known of normal images is of the images themselves.
    let data = gradcon::data::Prepared::open(&place.path("data")).unwrap();
    let error = data.val_of(0).unwrap().error_of_mean(&data.train_of(0).unwrap()).unwrap();
    let model = description(&place.path("again/models/normal/best/model.safetensors"));
    assert_eq!(model["gradcon.mean_image_error"], error.to_string());
}

#[test]
fn a_threshold_is_set_for_a_false_positive_rate() {
    let place = Place::new();
    for i in 0..60 {
        place.image(&format!("good/{i}.png"), i);
        place.image(&format!("bad/{i}.png"), i + 90);
    }
    place.ok("prep folder --normal-dir good --abnormal-dir bad --channels 1 --out data -q");
    let train = "train --data data --epochs 1 --device cpu";
    place.ok(&format!("{train} --fpr 0.5 --out run"));
    let model = place.path("run/best/model.safetensors");
    let of = |key: &str| -> Option<f64> {
        description(&model).get(key).map(|text| text.as_str().unwrap().parse().unwrap())
    };
    assert_eq!((of("gradcon.threshold_fpr"), of("gradcon.threshold_quantile")), (Some(0.5), None));
    let low = of("gradcon.threshold").unwrap();
    let out = place.command("eval run --device cpu --no-bootstrap").output().unwrap();
    // The pictures are noise: an AUROC far below 0.5 is the only thing to warn of.
    let said = text(&out.stderr);
    let warnings = said.lines().filter(|line| line.contains("warning"));
    assert!(warnings.clone().all(|line| line.contains("is far below 0.5")), "{said}");
    assert!(warnings.count() <= 1, "{said}");
    let table = text(&out.stdout);
    assert!(table.contains("false-positive rate of at most 0.5 by 4 validation images"), "{table}");
    let results = || -> serde_json::Value {
        serde_json::from_slice(&read(&place.path("run/results.json"))).unwrap()
    };
    let validation = results()["classes"][0]["validation"].clone();
    assert_eq!((&validation["images"], &validation["flagged"]), (&4.into(), &1.into()));
    place.ok("report run --out page.html");
    let page = text(&read(&place.path("page.html")));
    assert!(page.contains("can promise no lower one than 1 in 5"), "{page}");

    // Set anew, for less than four images can promise: said, and kept in the run.
    let out = place.command("eval run --fpr 0.01 --device cpu --no-bootstrap").output().unwrap();
    let said = text(&out.stderr);
    assert!(out.status.success() && said.contains("4 validation images can't promise"), "{said}");
    assert!(said.contains("1 %") && said.contains("1 in 5, 20 %"), "{said}");
    assert!(text(&read(&place.path("run/config.toml"))).contains("fpr = 0.01"));
    let high = of("gradcon.threshold").unwrap();
    assert!(high > low && results()["classes"][0]["validation"]["flagged"] == 0);
    place.ok("eval run --device cpu --no-bootstrap -q");
    assert_eq!(of("gradcon.threshold"), Some(high));
    place.ok("train --resume run --epochs 2 --device cpu -q");

    // For these images alone.
    let score = "score --model run --device cpu good bad";
    let flagged = |flags: &str| place.ok(&format!("{score} -q {flags}")).matches(",1\n").count();
    assert!(flagged("--fpr 0.6") > flagged("--fpr 0.2"));
    let out = place.command(&format!("{score} --fpr 0.3")).output().unwrap();
    let said = text(&out.stderr);
    assert!(said.contains("at most 30 % by 4 validation images"), "{said}");
    for (line, says) in [
        ("score --model run good --fpr 0.1 --threshold 1", "--threshold"),
        ("score --model run good --fpr 1", "fpr is 1, expected a rate above 0 and below 1"),
        ("score --model run good --fpr -0.1", "fpr is -0.1"),
        ("train --data data --out other --fpr 0", "fpr is 0"),
        (
            "train --data data --out other --fpr 0.1 --threshold-quantile 0.9",
            "--threshold-quantile",
        ),
        ("eval run --fpr nan", "fpr is NaN"),
    ] {
        let error = place.fails(line, 2);
        assert!(error.contains(says), "{line}: {error}");
    }
    place.model("bare.safetensors", &[("threshold", "0")]);
    let error = place.fails("score --model bare.safetensors good --fpr 0.1", 1);
    assert!(error.contains("bare.safetensors") && error.contains("validation images"), "{error}");
}

/// Normal images alone make a model with a threshold. What can't be known of it is said in words and
/// is no number anywhere.
#[test]
fn normal_images_alone_go_all_the_way() {
    let place = Place::new();
    for i in 0..30 {
        place.image(&format!("tree/train/good/{i}.png"), i);
    }
    place.image("odd.png", 77);
    let out = place.command("prep folder --from tree --out data").output().unwrap();
    assert!(out.status.success() && text(&out.stderr).contains("no anomalous images"));
    assert!(text(&out.stdout).contains("no test images"), "{}", text(&out.stdout));
    let manifest = json(&place.path("data/manifest.json"));
    assert_eq!(manifest["counts"], serde_json::json!({ "train": [27], "val": [3], "test": [0] }));
    place.ok("data verify data");
    place.ok("data show data --part val --out sheets");
    place.ok("prep folder --normal-dir tree/train/good --out named -q");
    assert_eq!(json(&place.path("named/manifest.json"))["counts"], manifest["counts"]);

    place.ok(&format!("{TRAIN} --epochs 2 --out run"));
    let out = place.command("eval run --device cpu").output().unwrap();
    let (table, said) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success() && said.contains("no test images"), "{said}");
    assert!(table.contains("are not known") && table.contains("| normal | 3 | "), "{table}");
    let results = json(&place.path("run/results.json"));
    let class = &results["classes"][0];
    let none = serde_json::json!([]);
    assert_eq!((&class["evaluations"], &results["means"]), (&none, &none));
    assert_eq!((&class["validation"]["images"], &class["epochs"]), (&3.into(), &2.into()));
    assert!(!results.to_string().contains("auroc"), "{results}");
    let csv = text(&read(&place.path("run/results.csv")));
    assert!(csv.starts_with("class,outlier_percent,") && csv.lines().count() == 1, "{csv}");
    assert!(!place.path("run/eval/normal/scores.csv").exists());
    place.ok("report run --out page.html");
    let page = text(&read(&place.path("page.html")));
    assert!(page.contains("nothing to test with") && page.contains("The stored threshold"));
    assert!(!page.contains("Not in this run") && !page.contains("NaN"), "{page}");
    let row = place.ok("score --model run odd.png --device cpu -q");
    assert!(row.ends_with(",1\n") || row.ends_with(",0\n"), "{row}");

    place.ok(&format!("{TRAIN} --epochs 1 --seeds 0,1 --out seeds"));
    assert!(place.ok("eval seeds --device cpu -q").contains("are not known"));
    place.ok("report seeds --out page.html");
    for command in ["sweep", "ablate"] {
        let line = format!("{command} --data data --epochs 1 --device cpu --out {command}");
        let error = place.fails(&line, 2);
        assert!(error.contains("normal images only"), "{error}");
        assert!(!place.path(command).exists());
    }
    place.ok("prep folder --from tree --seed 1 --out other -q");
    let error = place.fails("eval run --data other --device cpu", 1);
    assert!(error.contains("no test set"), "{error}");
    // A folder of tests that has nothing anomalous is no wish to do without.
    place.image("tree/test/good/0.png", 1);
    let error = place.fails("prep folder --from tree --out third", 1);
    assert!(
        error.contains("no folder of defects") && error.contains("normal images only"),
        "{error}"
    );
}

/// Several categories are classes of one dataset: one training, and a table with a row for each and
/// the mean in the last.
#[test]
fn categories_go_into_one_table() {
    let place = Place::new();
    for (i, category) in ["bottle", "cable"].into_iter().enumerate() {
        for k in 0..20 + 10 * i as u32 {
            place.image(&format!("root/{category}/train/good/{k}.png"), 2 * k + i as u32);
        }
        for k in 0..6 {
            place.image(&format!("root/{category}/test/good/{k}.png"), 100 + k);
            place.image(&format!("root/{category}/test/bent/{k}.png"), 200 + k);
            if i == 1 {
                place.image(&format!("root/{category}/test/cut/{k}.png"), 300 + k);
            }
        }
    }
    std::fs::create_dir(place.path("root/notes")).unwrap();
    // Without the flag they are listed, with what takes them.
    let error = place.fails("prep folder --from root --out data", 1);
    assert!(error.contains("bottle, cable") && error.contains("--from root --all"), "{error}");
    let out = place.command("prep mvtec --from root --all --out data").output().unwrap();
    let said = text(&out.stderr);
    assert!(out.status.success() && said.contains("root/notes: left out, no category"), "{said}");
    let manifest = json(&place.path("data/manifest.json"));
    assert_eq!(
        manifest["classes"],
        serde_json::json!(["bottle", "bottle/bent", "cable", "cable/bent", "cable/cut"])
    );
    assert_eq!((&manifest["name"], &manifest["channels"]), (&"root".into(), &1.into()));
    // The images and splits of each alone.
    place.ok("prep folder --from root/cable --out cable -q");
    let [all, one] =
        ["data", "cable"].map(|name| gradcon::data::Prepared::open(&place.path(name)).unwrap());
    assert!(all.train_of(1).unwrap() == one.train_of(0).unwrap());
    assert!(all.val_of(1).unwrap() == one.val_of(0).unwrap());
    let tests = |data: &gradcon::data::Prepared, k: usize| {
        let set = data.test_sets_of(k).next().unwrap().clone();
        (data.images_of(&set), set.labels)
    };
    assert!(tests(&all, 1) == tests(&one, 0));
    assert_eq!(all.names().unwrap().test[12], "cable/normal_test/0.png");

    place.ok(&format!("{TRAIN} --epochs 1 --out run"));
    let table = place.ok("eval run --device cpu -q");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip_while(|line| !line.starts_with("| category | auto | "))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(names, ["category", "---", "bottle", "cable", "mean"], "{table}");
    assert!(table.contains("AUROC, 50 to 66.7 % outliers in each test set"), "{table}");
    assert!(table.contains("| cable/cut | 6 | "), "{table}");
    let results = json(&place.path("run/results.json"));
    let auroc =
        |k: usize| results["classes"][k]["evaluations"][0]["full"]["auroc"].as_f64().unwrap();
    let mean = results["means"][0]["full"]["auroc"].as_f64().unwrap();
    assert!((mean - (auroc(0) + auroc(1)) / 2.0).abs() < 1e-12);
    assert_eq!(rows[4][2], format!("{mean:.3}"));
    let csv = text(&read(&place.path("run/results.csv")));
    assert!(csv.contains("\ncable,66.7,full,6,12,") && csv.contains("\nmean,58.4,full,"), "{csv}");
    place.ok("report run --out page.html");
    let page = text(&read(&place.path("page.html")));
    assert!(page.contains("50 to 66.7 % outliers") && page.contains("cable/cut"));
    let row = place.ok("score --model run --class cable root/cable/test/cut/0.png --device cpu -q");
    assert_eq!(row.lines().count(), 2);
    place.ok(&format!("{TRAIN} --epochs 1 --seeds 0,1 --out seeds"));
    place.ok("eval seeds --device cpu --no-bootstrap -q");
    place.ok("report seeds --out page.html");

    for (line, code, says) in [
        ("prep folder --from root/bottle --all --out x", 2, "one category itself"),
        ("prep folder --from root/notes --all --out x", 1, "no category in it"),
        ("prep folder --normal-dir root/bottle --all --out x", 2, "--from"),
        ("prep mnist --from root --all --out x", 2, "not for mnist"),
    ] {
        let error = place.fails(line, code);
        assert!(error.contains(says), "{line}: {error}");
    }
    std::fs::remove_dir_all(place.path("root/bottle/test")).unwrap();
    let error = place.fails("prep folder --from root --all --out x", 1);
    assert!(error.contains("category bottle has no test images, and cable has"), "{error}");
}

/// A class that diverged in its first epoch has no model; the others are evaluated all the same.
#[test]
fn a_class_without_a_model_is_left_out_and_named() {
    let place = Place::new();
    place.ok("prep fmnist --subset --out data -q");
    place.ok(&format!("{TRAIN} --inlier 1,7 --epochs 1 --out run"));
    std::fs::remove_dir_all(place.path("run/models/Trouser/best")).unwrap();
    let out = place.command("eval run --device cpu --no-bootstrap -q").output().unwrap();
    assert!(
        out.status.success()
            && text(&out.stdout).contains("Sneaker")
            && !text(&out.stdout).contains("Trouser")
    );
    let warning = text(&out.stderr);
    assert!(warning.contains("Trouser") && warning.contains("left out"), "{warning}");
    std::fs::remove_dir_all(place.path("run/models/Sneaker/best")).unwrap();
    let error = place.fails("eval run --device cpu", 1);
    assert!(error.contains("no model to evaluate") && error.contains("--resume"), "{error}");
}

#[test]
fn several_seeds_are_one_run_that_resumes() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 1 --seeds 3,4 --out seeds"));
    // As if killed before the second seed began.
    std::fs::remove_dir_all(place.path("seeds/seed-4")).unwrap();
    let out = place.command("eval seeds --device cpu --no-bootstrap").output().unwrap();
    let warning = text(&out.stderr);
    assert!(out.status.success() && warning.contains("seed-4"), "{warning}");
    assert!(warning.contains("seed 4 is left out"), "{warning}");
    std::fs::write(place.path("seeds/.tmp-1-2"), "half a configuration").unwrap();
    place.ok("train --resume seeds --epochs 2 --device cpu -q");
    assert!(!place.path("seeds/.tmp-1-2").exists());
    for seed in ["seed-3", "seed-4"] {
        assert_eq!(
            text(&read(&place.path("seeds").join(seed).join("models/normal/metrics.csv")))
                .lines()
                .count(),
            1 + 2
        );
    }
    place.ok("eval seeds --device cpu --no-bootstrap");
    let error = place.fails("train --resume seeds --epochs 1 --device cpu", 2);
    assert!(error.contains("has 2 already"), "{error}");
    edit(&place.path("seeds/seed-3/config.toml"), "beta =", "beta = 9.0");
    let error = place.fails("eval seeds --device cpu", 2);
    assert!(error.contains("seed-3") && error.contains("differs"), "{error}");
}

#[test]
fn initial_parameters_are_asked_for_once_and_from_any_folder() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 1 --out first"));
    std::fs::copy(
        place.path("first/models/normal/best/model.safetensors"),
        place.path("init.safetensors"),
    )
    .unwrap();
    place.ok(&format!("{TRAIN} --epochs 1 --init-from init.safetensors --out run"));
    std::fs::copy(place.path("run/config.toml"), place.path("kept.toml")).unwrap();
    std::fs::create_dir(place.path("begun")).unwrap();
    std::fs::rename(place.path("kept.toml"), place.path("begun/config.toml")).unwrap();
    // Not begun yet, from another folder.
    let mut command = place.command("train --resume ../begun --device cpu -q");
    std::fs::create_dir(place.path("inner")).unwrap();
    assert!(command.current_dir(place.path("inner")).status().unwrap().success());
    assert!(
        read(&place.path("begun/models/normal/last/model.safetensors"))
            == read(&place.path("run/models/normal/last/model.safetensors"))
    );
    // Begun, without the file.
    std::fs::remove_file(place.path("init.safetensors")).unwrap();
    place.ok("train --resume run --epochs 2 --device cpu -q");
}

#[test]
fn a_lost_mark_is_no_new_start() {
    let place = place();
    place.ok(&format!("{TRAIN} --epochs 2 --out run"));
    std::fs::remove_file(place.path("run/models/normal/checkpoint.json")).unwrap();
    let model = read(&place.path("run/models/normal/last/model.safetensors"));
    let error = place.fails("train --resume run --epochs 3 --device cpu", 1);
    assert!(error.contains("checkpoint.json: missing") && error.contains("--recover"), "{error}");
    assert!(read(&place.path("run/models/normal/last/model.safetensors")) == model, "overwritten");
    place.ok("train --resume run --recover --epochs 3 --device cpu -q");
    place.ok("train --resume run --epochs 4 --device cpu -q");
    assert_eq!(text(&read(&place.path("run/models/normal/metrics.csv"))).lines().count(), 1 + 4);
}

/// Commands of their own add classes and seeds to one run, also at the same time; each model is
/// that of a run of its own.
#[test]
fn processes_share_a_run() {
    let place = Place::new();
    place.ok("prep fmnist --subset --out data -q");
    let train = format!("{TRAIN} --epochs 1 --batch-size 16");
    let add = |more: &str| Running::start(place.command(&format!("{train} {more} --out run")));
    let mut all: Vec<Running> =
        ["--inlier 1", "--inlier 7", "--inlier 5"].map(add).into_iter().collect();
    for process in &mut all {
        assert_eq!(process.end(), Some(0), "{}", process.said);
    }
    let config = text(&read(&place.path("run/config.toml")));
    let line = "inliers = [\"Trouser\", \"Sandal\", \"Sneaker\"]";
    assert!(config.contains(line), "{config}");
    place.ok(&format!("{train} --inlier 7 --out alone"));
    let model = |run: &str| read(&place.path(run).join("models/Sneaker/last/model.safetensors"));
    assert!(model("run") == model("alone"), "another model beside others");

    for (wrong, what) in [
        ("--inlier 3 --lr 0.5", "lr is 0.5, but the run's is 0.001"),
        ("--inlier 3 --seed 1", "seed is 1"),
        ("--inlier 3 --seeds 1", "one seed"),
        ("--inlier 3 --alpha 0.5", "alpha is 0.5"),
        ("--inlier 7", "continue it with --resume"),
    ] {
        let error = place.fails(&format!("{train} {wrong} --out run"), 2);
        assert!(error.contains("run: ") && error.contains(what), "{wrong}: {error}");
    }
    assert_eq!(text(&read(&place.path("run/config.toml"))), config, "a refused one was added");
    assert!(place.ok("eval run --device cpu --no-bootstrap").contains("Sandal"));

    // Seeds, too; and what is there is evaluated.
    place.ok(&format!("{train} --inlier 1 --seeds 2 --out seeds"));
    place.ok(&format!("{train} --inlier 1,7 --seeds 0,1 --out seeds"));
    let config = text(&read(&place.path("seeds/config.toml")));
    assert!(config.contains("seeds = [0, 1, 2]") && config.contains("Sneaker"), "{config}");
    let error = place.fails(&format!("{train} --inlier 1 --seeds 1 --out seeds"), 2);
    assert!(error.contains("seed-1") && error.contains("Trouser"), "{error}");
    let out = place.command("eval seeds --device cpu --no-bootstrap").output().unwrap();
    let (table, said) = (text(&out.stdout), text(&out.stderr));
    assert!(
        out.status.success() && said.contains("Sneaker") && said.contains("left out"),
        "{said}"
    );
    assert!(table.contains("mean over 3 seeds") && !table.contains("Sneaker"), "{table}");
    place.ok("train --resume seeds --device cpu -q");
    assert!(place.path("seeds/seed-2/models/Sneaker/best/model.safetensors").exists());
    assert!(place.ok("eval seeds --device cpu --no-bootstrap").contains("Sneaker"));
}

/// Runs that an earlier version made go on: one class in the run's own folder, several under one
/// mark.
#[test]
fn runs_of_the_earlier_layout_go_on_to_the_same_bits() {
    let place = Place::new();
    place.ok("prep fmnist --subset --out data -q");
    for (inliers, name) in [("1", "one"), ("1,7", "two")] {
        place.ok(&format!("{TRAIN} --inlier {inliers} --epochs 2 --out {name}-whole"));
        place.ok(&format!("{TRAIN} --inlier {inliers} --epochs 1 --out {name}"));
    }
    let trouser = |run: &str| place.path(run).join("models/Trouser");
    for name in ["best", "last", "previous", "metrics.csv", "checkpoint.json"] {
        // There were no short names.
        let _ = std::fs::remove_file(place.path("one").join(name));
    }
    for entry in std::fs::read_dir(trouser("one")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::rename(&path, place.path("one").join(path.file_name().unwrap())).unwrap();
    }
    std::fs::remove_dir_all(place.path("one/models")).unwrap();
    let mut mark = json(&trouser("two").join("checkpoint.json"));
    let mut states = serde_json::Map::new();
    for class in ["models/Trouser", "models/Sneaker"] {
        let own = place.path("two").join(class).join("checkpoint.json");
        states.insert(class.into(), json(&own)["states"]["."].clone());
        std::fs::remove_file(own).unwrap();
        // Which classes a run had was one of its settings.
        let path = place.path("two").join(class).join("last/state.json");
        let mut state = json(&path);
        state["settings"]["inliers"] = "Trouser, Sneaker".into();
        std::fs::write(&path, state.to_string()).unwrap();
        states[class] = gradcon::data::hash::sha256(&read(&path)).into();
    }
    mark["states"] = states.into();
    std::fs::write(place.path("two/checkpoint.json"), mark.to_string()).unwrap();
    for name in ["one", "two"] {
        place.ok(&format!("eval {name} --device cpu --no-bootstrap -q"));
        place.ok(&format!("train --resume {name} --epochs 2 --device cpu -q"));
        let bits = |run: &str| read(&trouser(run).join("last/optimizer.safetensors"));
        assert!(bits(name) == bits(&format!("{name}-whole")), "{name}: other bits");
    }
    for name in ["last", "metrics.csv"] {
        let short = place.path("one").join(name);
        assert!(short.is_symlink() || !short.exists(), "{name} is the class's");
    }
    assert_eq!(text(&read(&trouser("one").join("metrics.csv"))).lines().count(), 1 + 2);
}

/// The files of a run that is complete, without what time decides.
fn outcome(run: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let untimed = |bytes: Vec<u8>| {
        let text = text(&bytes);
        let timed = text.lines().next().unwrap().split(',').position(|c| c == "images_per_second");
        let fields = |line: &str| {
            let fields = line.split(',').enumerate().filter(|(i, _)| Some(*i) != timed);
            fields.map(|(_, field)| field.to_string()).collect::<Vec<_>>().join(",")
        };
        text.lines().map(fields).collect::<Vec<_>>().join("\n").into_bytes()
    };
    let files = [
        "metrics.csv",
        "checkpoint.json",
        "last/state.json",
        "last/model.safetensors",
        "last/optimizer.safetensors",
        "last/best.safetensors",
        "best/model.safetensors",
    ];
    let content = |file| match (file, read(&run.join("models/normal").join(file))) {
        ("metrics.csv", bytes) => untimed(bytes),
        (_, bytes) => bytes,
    };
    files.map(|file| (file, content(file))).to_vec()
}

/// Killed at random moments again and again, runs still end in the bits of one that never was. As
/// often as GRADCON_KILLS says, else a few times.
#[cfg(unix)]
#[test]
fn random_kills_end_in_the_same_bits() {
    let kills: usize =
        std::env::var("GRADCON_KILLS").map_or(6, |text| text.parse().expect("a number of kills"));
    let place = place();
    let settings = "--data data --init kaiming --batch-size 4 --epochs 150";
    place.ok(&format!("train {settings} --device cpu -q --out whole"));
    let expected = outcome(&place.path("whole"));
    let mut seed = 1u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let (mut killed, mut resumed, mut run) = (0, 0, 0);
    loop {
        let name = format!("run-{run}");
        let mark = || std::fs::read(place.path(&name).join("models/normal/checkpoint.json")).ok();
        let (begun, before) = (place.path(&name).join("config.toml").exists(), mark());
        let what =
            if begun { format!("--resume {name}") } else { format!("{settings} --out {name}") };
        let command = format!("train {what} --device cpu -q --checkpoint-every 0.03");
        resumed += usize::from(before.is_some());
        let mut training = Running::start(place.command(&command));
        let mut ended = || training.child.try_wait().unwrap().is_some();
        // Every other one dies some time after a checkpoint, the others at any time.
        let after_a_checkpoint = killed % 2 == 0;
        while killed < kills && after_a_checkpoint && mark() == before && !ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let time = Duration::from_micros(random(if after_a_checkpoint { 60_000 } else { 300_000 }));
        if killed < kills {
            std::thread::sleep(time);
            if !ended() {
                training.child.kill().unwrap();
                training.end();
                killed += 1;
                continue;
            }
        }
        assert_eq!(training.end(), Some(0), "{}", training.said);
        for ((file, found), (_, wanted)) in outcome(&place.path(&name)).iter().zip(&expected) {
            assert!(found == wanted, "{name}/{file} differs after {killed} kills");
        }
        run += 1;
        if killed == kills {
            break;
        }
    }
    assert!(2 * resumed >= kills, "{resumed} of {kills} kills came after a checkpoint");
    println!("{killed} kills, {resumed} resumed from a checkpoint, {run} runs");
}

/// The variational model from training to page: every file says what it is, a run goes on to the
/// same bits, and a model of the other kind is told wherever it matters.
#[test]
fn a_variational_run_goes_all_the_way() {
    let place = place();
    let train = format!("{TRAIN} --model vae --kl-weight 0.05");
    place.ok(&format!("{train} --epochs 2 --out whole"));
    place.ok(&format!("{train} --epochs 1 --out run"));
    place.ok("train --resume run --epochs 2 --device cpu -q");
    for file in ["last/model.safetensors", "best/model.safetensors"] {
        let of = |run: &str| read(&place.path(run).join("models/normal").join(file));
        let [whole, run] = ["whole", "run"].map(of);
        assert!(whole == run, "{file}: a run that went on differs");
    }
    let config = text(&read(&place.path("run/config.toml")));
    assert!(config.contains("model = \"vae\"") && config.contains("kl_weight = 0.05"), "{config}");
    let metrics = text(&read(&place.path("run/models/normal/metrics.csv")));
    let header = metrics.lines().next().unwrap();
    assert!(header.contains(",best,train_divergence,val_divergence,cos_up0"), "{header}");
    let row: Vec<f64> =
        metrics.lines().nth(1).unwrap().split(',').map(|v| v.parse().unwrap()).collect();
    let loss = row[2] + 0.03 * row[3] + 0.05 * row[9];
    assert!((row[1] - loss).abs() < 1e-9 && row[9] > 0.0, "{metrics}");
    let about = description(&place.path("run/models/normal/best/model.safetensors"));
    assert_eq!(
        (&about["gradcon.model"], &about["gradcon.kl_weight"]),
        (&"vae".into(), &"0.05".into())
    );
    let card = text(&read(&place.path("run/models/normal/best/README.md")));
    assert!(card.contains("variational convolutional autoencoder, 1227777 parameters"), "{card}");
    assert!(card.contains("| weight of the KL divergence | 0.05 |"), "{card}");

    place.ok("eval run --device cpu -q");
    assert_eq!(json(&place.path("run/results.json"))["about"]["model"], "vae");
    place.ok("report run -q");
    let page = text(&read(&place.path("run/report.html")));
    assert!(page.contains("vae") && page.contains("KL divergence over epochs"), "no divergence");
    let scores = place.ok("score --model run bad --device cpu -q --full");
    let table = text(&read(&place.path("run/eval/normal/scores.csv")));
    for line in scores.lines().skip(1) {
        let mse = line.split(',').nth(2).unwrap();
        assert!(table.contains(mse), "{line} is not in\n{table}");
    }

    // The other kind.
    place.ok(&format!("{TRAIN} --epochs 1 --out plain"));
    let plain = text(&read(&place.path("plain/config.toml")));
    assert!(!plain.contains("model") && !plain.contains("kl_weight"), "{plain}");
    let start = "--epochs 1 --out other --init-from";
    let error =
        place.fails(&format!("{TRAIN} {start} run/models/normal/best/model.safetensors"), 1);
    assert!(error.contains("a model of kind 'vae', expected 'cae'"), "{error}");
    let error =
        place.fails(&format!("{train} {start} plain/models/normal/best/model.safetensors"), 1);
    assert!(error.contains("a model of kind 'cae', expected 'vae'"), "{error}");
    place.ok(&format!("{train} {start} run/models/normal/best/model.safetensors"));
    let error = place.fails(&format!("{TRAIN} --kl-weight 0.1 --out none"), 2);
    assert!(error.contains("only vae has a KL divergence"), "{error}");
    place.fails(&format!("{train} --kl-weight nan --out none"), 2);
    place.fails(&format!("{TRAIN} --model gan --out none"), 2);
    let error = place.fails("train --resume run --model cae", 2);
    assert!(error.contains("--model can't change"), "{error}");
    std::fs::copy(
        place.path("plain/models/normal/best/model.safetensors"),
        place.path("run/models/normal/best/model.safetensors"),
    )
    .unwrap();
    let error = place.fails("eval run --device cpu -q", 1);
    assert!(error.contains("a model of kind 'cae', the run's are 'vae'"), "{error}");
    edit(&place.path("whole/config.toml"), "model = ", "");
    edit(&place.path("whole/config.toml"), "kl_weight = ", "");
    let error = place.fails("train --resume whole --epochs 3 --device cpu -q", 1);
    assert!(error.contains("vae") && error.contains("cae"), "{error}");
    place.ok("eval plain --device cpu -q");
    assert_eq!(json(&place.path("plain/results.json"))["about"]["model"], "cae");
}

#[test]
fn program_and_bench_know_the_variational_model() {
    let place = Place::new();
    let step = place.ok("program --model vae --batch 16");
    assert!(step.contains("noise") && step.contains("fc12"), "{step}");
    let plain = place.ok("program --batch 16");
    assert!(!plain.contains("noise") && !plain.contains("fc12"), "{plain}");
    let bench = "bench --batch 16 --steps 1 --rounds 1 --device cpu -q --json";
    place.ok(&format!("{bench} vae.json --model vae"));
    place.ok(&format!("{bench} cae.json"));
    let shape = |file: &str| json(&place.path(file))["rows"][0]["shape"].clone();
    assert_eq!((shape("vae.json"), shape("cae.json")), ("vae, 1 steps".into(), "1 steps".into()));
}

/// The models that baselines need are a run like any other.
#[cfg(unix)]
#[test]
fn baselines_go_on_where_they_were_interrupted() {
    let place = Place::new();
    place.ok("prep fmnist --subset --out data -q");
    let train = "train --data data --inlier 1 --model vae --precision f16 --device cpu -q";
    let eval = |run: &str| format!("eval {run} --baselines --no-bootstrap --device cpu");
    for run in ["whole", "cut"] {
        place.ok(&format!("{train} --epochs 3 --out {run}"));
    }
    place.ok(&eval("whole"));
    let mut running = Running::start(place.command(&eval("cut")));
    running.wait_for("epoch   1/3");
    running.signal(libc::SIGINT);
    let code = running.end();
    let said = &running.said;
    assert!(code == Some(130) && said.contains("the same command goes on"), "{code:?}: {said}");
    let again = place.command(&eval("cut")).output().unwrap();
    let said = text(&again.stderr);
    assert!(again.status.success() && !said.contains("epoch   1/3"), "{said}");
    for file in ["plain/models/Trouser/last/model.safetensors", "eval/Trouser/scores.csv"] {
        let of = |run: &str| read(&place.path(&format!("{run}/{file}")));
        assert!(of("whole") == of("cut"), "{file}: an interruption changes bits");
    }
}

/// Pictures at another size than the paper's, from files to scores, and interrupted in between.
#[cfg(unix)]
#[test]
fn images_of_another_size_go_all_the_way() {
    let place = Place::new();
    for i in 0..24 {
        place.image(&format!("good/{i}.png"), i);
    }
    for i in 0..6 {
        place.image(&format!("bad/{i}.png"), 100 + i);
    }
    let prep = "prep folder --normal-dir good --abnormal-dir bad --name parts -q --out";
    place.ok(&format!("{prep} small"));
    place.ok(&format!("{prep} data --size 96"));
    let manifest = json(&place.path("data/manifest.json"));
    let side = |key: &str| manifest[key].as_u64().unwrap();
    assert_eq!([side("height"), side("width"), side("channels")], [96, 96, 1]);
    let train = "train --data data --batch-size 4 --init kaiming --device cpu";
    place.ok(&format!("{train} --epochs 2 --out run -q"));
    let mut running = Running::start(place.command(&format!("{train} --epochs 2 --out cut")));
    running.wait_for("epoch   1/2");
    running.signal(libc::SIGINT);
    running.end();
    place.ok("train --resume cut --device cpu -q");
    let model =
        |run: &str| read(&place.path(&format!("{run}/models/normal/last/model.safetensors")));
    assert!(model("run") == model("cut"), "an interruption changes bits");

    let table = place.ok("eval run --device cpu -q --score auto,up.8,down.8");
    assert!(table.contains("| up.8 | ") && table.contains("| down.8 | "), "{table}");
    let card = text(&read(&place.path("run/models/normal/best/README.md")));
    assert!(card.contains("| input | 96 x 96 gray"), "{card}");
    place.ok("report run -q");
    let scores = place.ok("score --model run bad --device cpu -q --full");
    assert!(scores.starts_with("image,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6,cos_up8,"));
    let found = text(&read(&place.path("run/eval/normal/scores.csv")));
    for line in scores.lines().skip(1) {
        let mse = line.split(',').nth(2).unwrap();
        assert!(found.contains(mse), "{line} is not in\n{found}");
    }

    // One size is not the other.
    let file = "run/models/normal/best/model.safetensors";
    for (line, code, wanted) in [
        ("eval run --data small --device cpu", 1, "images of shape [28, 28, 1]"),
        (
            &format!("train --data small --epochs 1 --init-from {file} --out other --device cpu"),
            1,
            "a model for images of [96, 96, 1] (height, width, channels), the dataset has [28, 28, 1]",
        ),
        ("train --data small --score up.8 --out other", 2, "no score 'up.8'"),
        ("train --data data --score up.12 --out other", 2, "no score 'up.12'"),
        ("prep folder --normal-dir good --abnormal-dir bad --size 40 --out x", 2, "28, 32, 48, 64"),
        ("bench --size 29 --device cpu", 2, "28, 32, 48, 64"),
    ] {
        let error = place.fails(line, code);
        assert!(error.contains(wanted), "{line}: {error}");
        assert!(!place.path("other").exists() && !place.path("x").exists(), "{line}");
    }
    let step = place.ok("program --size 96 --device cpu");
    assert!(step.contains("down.8") && step.contains("32x48x48"), "{step}");
    let bench = "bench --batch 4 --steps 1 --rounds 1 --device cpu -q --json bench.json --size 64";
    place.ok(bench);
    assert_eq!(json(&place.path("bench.json"))["rows"][0]["shape"], "64 x 64, 1 steps");
}
