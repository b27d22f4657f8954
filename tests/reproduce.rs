//! A reproduction of the paper's experiments as a user meets it: in one go, further, interrupted, and
//! refused.

mod place;

use std::path::Path;

use place::{Place, Running, read, text};

/// Small: two classes of the part of Fashion-MNIST inside the program.
const COMMON: &str = "reproduce --datasets fmnist --from fmnist=data --inlier 1,7 --batch-size 16 \
                      --device cpu";

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// What doesn't depend on when it was made.
fn numbers(table: &str) -> String {
    table.split("All have").nth(1).unwrap().to_string()
}

/// The tree of a CURE-TSR with two challenges.
fn cure_tsr(place: &Place) {
    let mut seed = 0;
    let mut image = |folder: &str, sign: u32, challenge: u32, level: u32, index: u32| {
        let name = format!("cure/{folder}/01_{sign:02}_{challenge:02}_{level:02}_{index:04}.bmp");
        let path = place.path(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A pattern that moves from image to image, with more noise the worse the weather.
        let noise = |i: u32| (i + 2352 * seed).wrapping_mul(2_654_435_761) >> 24;
        let pixels: Vec<u8> = (0..28 * 28 * 3)
            .map(|i: u32| (40 + (i / 84 + seed) % 9 * 10 + noise(i) * (1 + 2 * level) / 20) as u8)
            .collect();
        image::save_buffer(path, &pixels, 28, 28, image::ColorType::Rgb8).unwrap();
        seed += 1;
    };
    for index in 0..24 {
        image("Real_Train/ChallengeFree", 6, 0, 0, index);
        image("Real_Test/ChallengeFree", 6, 0, 0, index);
        for level in [1, 5] {
            image(&format!("Real_Test/Rain-{level}"), 6, 9, level, index);
            image(&format!("Real_Test/Haze-{level}"), 6, 12, level, index);
        }
    }
}

#[test]
fn a_reproduction_has_the_papers_figures_beside_its_own() {
    let place = Place::new();
    place.ok("prep fmnist --subset --outlier-ratio 10,30,50 --out data -q");
    cure_tsr(&place);
    let common = COMMON.replace("fmnist --from", "fmnist,cure-tsr --from cure-tsr=cure --from");
    let common = common.replace(" --inlier 1,7", "");
    let table = place.ok(&format!("{common} --epochs 2 --at 1 --out r -q"));
    assert_eq!(text(&read(&place.path("r/reproduction.md"))), table);
    let line = |begins: &str| {
        let found = table.lines().find(|line| line.starts_with(begins));
        found.unwrap_or_else(|| panic!("{begins}: {table}")).to_string()
    };
    assert!(line("| Fashion-MNIST |").starts_with("| Fashion-MNIST | 0.934 | 2 | 0."), "{table}");
    assert!(line("| CURE-TSR |").starts_with("| CURE-TSR | - | 2 | "), "{table}");
    assert!(line("| the paper, 1,000 epochs |").ends_with("| - | 0.934 |"), "{table}");
    for score in ["reconstruction only", "gradient only", "code", "auto"] {
        let rows = table.matches(&format!("\n| {score} | ")).count();
        assert_eq!(rows, 5, "{score}, twice for each dataset, and its F1: {table}");
    }
    assert!(table.contains("| score | Rain | Haze | mean |"), "{table}");
    assert!(
        table.contains("Not as in the paper: 2 of 1000 epochs, 5800 of 70000 images, batch_size")
    );
    assert!(table.contains(" init torch, ") && !table.contains("init torch instead"), "{table}");

    let found = json(&place.path("r/reproduction.json"));
    let [fashion, cure] = &found["datasets"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!(fashion["published"][0]["mean"], 0.934);
    assert_eq!((&fashion["outlier_percent"], &cure["outlier_percent"]), (&50.0.into(), &().into()));
    // The last numbers are those of the runs, which are runs like any other.
    for (dataset, name) in [(fashion, "fmnist"), (cure, "cure-tsr")] {
        let results = json(&place.path(&format!("r/after-2/{name}.json")));
        assert_eq!(dataset["data_sha256"], results["about"]["data_sha256"]);
        let run = json(&place.path(&format!("r/runs/{name}/results.json")));
        assert_eq!(
            (&run["classes"], &run["challenges"]),
            (&results["classes"], &results["challenges"])
        );
        let epochs: Vec<_> =
            dataset["after"].as_array().unwrap().iter().map(|after| &after["epochs"]).collect();
        assert_eq!(epochs, [&serde_json::json!(1), &serde_json::json!(2)]);
    }
    let mean = |dataset: &serde_json::Value, class: &str, score: &str| {
        let scores = dataset["after"][1]["scores"].as_array().unwrap();
        let found = scores.iter().find(|s| s["class"] == class && s["score"] == score);
        found.unwrap()["metrics"]["auroc"].as_f64().unwrap()
    };
    let rain = |level: u32| {
        let run = json(&place.path("r/runs/cure-tsr/results.json"));
        let all = run["challenges"].as_array().unwrap();
        let found = all.iter().find(|c| c["challenge"] == "Rain" && c["level"] == level).unwrap();
        found["evaluation"]["reconstruction"]["auroc"].as_f64().unwrap()
    };
    let expected = (rain(1) + rain(5)) / 2.0;
    assert!((mean(cure, "Rain", "reconstruction") - expected).abs() < 1e-12);
    let challenges = (mean(cure, "Rain", "auto") + mean(cure, "Haze", "auto")) / 2.0;
    assert!((mean(cure, "mean", "auto") - challenges).abs() < 1e-12);

    // Of challenges the run's page shows pictures out of all of them.
    let run = json(&place.path("r/runs/cure-tsr/results.json"));
    assert_eq!(run["classes"][0]["class"], "challenge-free");
    assert!(run["classes"][0]["training_seconds"].as_f64().unwrap() > 0.0);
    let scores = text(&read(&place.path("r/runs/cure-tsr/eval/challenge-free/scores.csv")));
    assert_eq!(scores.lines().count(), 1 + 24 + 4 * 24, "every image once");
    place.ok("report r/runs/cure-tsr --out cure.html -q");
    let page = text(&read(&place.path("cure.html")));
    assert!(page.contains("Most anomalous") && page.contains("Training objective"), "{page}");

    // F1 over the share of outliers, as `eval` has it.
    let (_, f1) = table.split_once("| score | 10 % | 30 % | 50 % |").unwrap();
    let row = f1.lines().find(|line| line.starts_with("| GradCon, the paper's score |")).unwrap();
    let results = json(&place.path("r/after-2/fmnist.json"));
    let means = results["means"].as_array().unwrap().iter();
    let shares = means.map(|m| format!("{:.3}", m["full"]["f1"].as_f64().unwrap()));
    let shares = shares.collect::<Vec<_>>().join(" | ");
    assert!(row.ends_with(&format!("| {shares} |")), "{shares}: {row}");

    let page = text(&read(&place.path("r/reproduction.html")));
    assert_eq!(page.matches("<svg").count(), 2, "a curve for each dataset");
    let csv = text(&read(&place.path("r/reproduction.csv")));
    assert!(csv.contains("\nfmnist,\"the paper, 1,000 epochs\",,,mean,paper,0.934"), "{csv}");
    assert!(csv.contains("\nfmnist,gradcon,1,2,mean,paper,0."), "{csv}");
}

#[test]
fn a_reproduction_goes_further_to_the_bits_of_one_that_went_all_the_way() {
    let place = Place::new().prepared();
    let whole = place.ok(&format!("{COMMON} --seeds 0,1 --epochs 3 --at 1 --out whole -q"));
    assert!(whole.contains('\u{b1}'), "{whole}");
    let first = place.ok(&format!("{COMMON} --seeds 0,1 --epochs 1 --out part -q"));
    assert!(!first.contains("over the epochs"), "{first}");
    let part = place.ok(&format!("{COMMON} --seeds 0,1 --epochs 3 --out part -q"));
    assert_eq!(numbers(&part), numbers(&whole));
    // Once more: nothing is trained or evaluated.
    let results = read(&place.path("part/after-3/fmnist.json"));
    assert_eq!(
        numbers(&place.ok(&format!("{COMMON} --seeds 0,1 --epochs 3 --out part -q"))),
        numbers(&whole)
    );
    assert_eq!(read(&place.path("part/after-3/fmnist.json")), results);
    // The settings are those of `train --paper`.
    let train = "train --paper --data data --inlier 1,7 --batch-size 16 --seeds 0,1 --epochs 3";
    place.ok(&format!("{train} --device cpu --out run -q"));
    for seed in [0, 1] {
        let model = |run: &str| {
            read(&place.path(&format!("{run}/seed-{seed}/models/Sneaker/last/model.safetensors")))
        };
        assert_eq!(model("run"), model("part/runs/fmnist"));
    }
    place.ok("report part/runs/fmnist --out page.html -q");
    assert!(text(&read(&place.path("page.html"))).contains("by seed"));

    for (changed, code, wanted) in [
        ("--seeds 0,1 --epochs 3 --lr 0.5 --out part", 1, "lr is 0.5"),
        ("--seeds 0 --epochs 3 --out part", 2, "other classes or seeds"),
        ("--seeds 0,1 --epochs 2 --out part", 2, "epoch 2: part/runs/fmnist has 3 already"),
        ("--seeds 0,1 --epochs 4 --at 2 --out part", 2, "epoch 2: part/runs/fmnist has 3 already"),
        ("--epochs 3 --at 4 --out new", 2, "--at 4: after 3 epochs"),
        ("--epochs 3 --out data", 2, "data: not empty, and no reproduction"),
        ("--hours 0 --out new", 2, "--hours 0: expected a number above 0"),
        ("--hours NaN --out new", 2, "--hours NaN"),
        ("--hours 1e-9 --out tiny", 2, "--hours 0.000000001: not one epoch"),
    ] {
        let error = place.fails(&format!("{COMMON} {changed} -q"), code);
        assert!(error.contains(wanted), "{changed}: {error}");
        assert!(!place.path("new").exists(), "{changed}");
    }
    assert_eq!(numbers(&text(&read(&place.path("part/reproduction.md")))), numbers(&whole));
}

#[test]
fn datasets_that_are_not_here_are_named() {
    let place = Place::new().prepared();
    let error = place.fails("reproduce --datasets cure-tsr --out r", 2);
    assert!(error.contains("--from cure-tsr=PATH"), "{error}");
    let error = place.fails("reproduce --datasets folder --out r", 2);
    assert!(error.contains("mnist, fmnist, cifar-10, cure-tsr"), "{error}");
    let error = place.fails("reproduce --datasets mnist --from fmnist=data --out r", 2);
    assert!(error.contains("--from fmnist: not among --datasets"), "{error}");
    let error = place.fails("reproduce --datasets mnist --from mnist=data --out r", 2);
    assert!(error.contains("data: holds fmnist, expected mnist"), "{error}");
    let error = place.fails("reproduce --from fmnist --out r", 2);
    assert!(error.contains("NAME=PATH"), "{error}");
    assert!(!place.path("r").exists());
}

/// An estimate trains nothing, and time that is given is kept to.
#[test]
fn how_long_it_takes_is_said_first() {
    let place = Place::new().prepared();
    let out = place.command(&format!("{COMMON} --estimate --out r")).output().unwrap();
    assert!(out.status.success());
    let said = text(&out.stderr);
    assert!(said.contains("fmnist: 1560 images to train 2 model(s) on"), "{said}");
    assert!(said.contains("to epoch 1000: about "), "{said}");
    assert!(out.stdout.is_empty() && !place.path("r/runs").exists(), "nothing is done");
    // Some seconds: as many epochs as fit, and the table says how many. One class, of which an epoch
    // and an evaluation fit many times over, also on a slow machine.
    let one = COMMON.replace("--inlier 1,7", "--inlier 7");
    let table = place.ok(&format!("{one} --hours 0.005 --out r -q"));
    let row = table.lines().find(|line| line.starts_with("| Fashion-MNIST |")).unwrap();
    let epochs: usize = row.split(" | ").nth(2).unwrap().parse().unwrap();
    assert!((1..1000).contains(&epochs), "{row}");
    assert!(place.path(&format!("r/after-{epochs}/fmnist.json")).exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_reproduction_goes_on_to_the_same_numbers() {
    let place = Place::new().prepared();
    let command = |out: &str| format!("{COMMON} --epochs 3 --at 1 --out {out}");
    let whole = place.ok(&format!("{} -q", command("whole")));
    let mut running = Running::start(place.command(&command("cut")));
    running.wait_for("epoch   2/3");
    running.signal(libc::SIGINT);
    assert_eq!(running.end(), Some(130), "{}", running.said);
    assert!(place.path("cut/reproduction.md").exists(), "what is done is there");
    let cut = place.ok(&format!("{} -q", command("cut")));
    assert_eq!(numbers(&cut), numbers(&whole));
}
