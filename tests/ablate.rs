//! An ablation as a user meets it: in one go, again, interrupted, and refused.

mod place;

use std::path::Path;

use place::{Place, Running, read, text};

const COMMON: &str = "ablate --data data --batch-size 16 --init kaiming --device cpu -q";

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

#[test]
fn an_ablation_has_the_papers_rows_and_each_layers() {
    let place = Place::new().prepared();
    let command = format!("{COMMON} --inlier 1,7 --epochs 2 --at 1 --out a");
    let table = place.ok(&command);
    assert_eq!(text(&read(&place.path("a/ablation.md"))), table);
    assert!(table.contains("| model | score | Trouser | Sneaker | mean |"), "{table}");
    for model in ["CAE", "CAE + constraint", "VAE", "VAE + constraint"] {
        for score in ["reconstruction only", "gradient only", "sum", "code", "auto"] {
            assert_eq!(table.matches(&format!("| {model} | {score} | 0.")).count(), 2, "{table}");
        }
        let latent = table.matches(&format!("| {model} | latent | 0.")).count();
        assert_eq!(latent, if model.starts_with("VAE") { 2 } else { 0 });
        assert!(table.contains(&format!("\n| {model} | 0.")), "its layers: {table}");
    }
    assert!(table.contains("| model | score | epoch 1 | epoch 2 |"), "{table}");
    assert!(table.contains("| down.0 | down.2 |"), "{table}");

    let ablation = json(&place.path("a/ablation.json"));
    assert_eq!(ablation["seeds"], serde_json::json!([0]));
    let variants = ablation["variants"].as_array().unwrap();
    let of = |key: &str| variants.iter().map(|v| v[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("model"), ["cae", "cae", "vae", "vae"]);
    assert_eq!(of("alpha"), [0.0, 0.03, 0.0, 0.03]);
    // The last numbers are those of the runs, which are runs like any other.
    for variant in &variants[1..2] {
        let folder = format!("a/{}", variant["folder"].as_str().unwrap());
        let results = place.ok(&format!("eval {folder} --device cpu --no-bootstrap -q"));
        let scores = variant["after"][1]["scores"].as_array().unwrap();
        let mean = scores.iter().find(|s| s["class"] == "mean" && s["score"] == "reconstruction");
        let auroc = mean.unwrap()["metrics"]["auroc"].as_f64().unwrap();
        let line = results.lines().find(|line| line.starts_with("| reconstruction only")).unwrap();
        let (_, last) = line.trim_end_matches(" |").rsplit_once("| ").unwrap();
        assert_eq!(last, format!("{auroc:.3}"), "{line}");
    }
    let page = text(&read(&place.path("a/ablation.html")));
    assert_eq!(page.matches("<svg").count(), 4 + 1, "a plot for each model, and the layers");
    let csv = text(&read(&place.path("a/ablation.csv")));
    assert!(csv.starts_with("model,alpha,seeds,epochs,class,score,auroc"), "{csv}");

    // Again: nothing is trained, and the numbers are the same.
    let before = read(&place.path("a/cae-alpha-0/models/Trouser/last/state.json"));
    let again = place.ok(&command);
    let numbers = |table: &str| table.split("All have").nth(1).unwrap().to_string();
    assert_eq!(numbers(&again), numbers(&table));
    assert_eq!(read(&place.path("a/cae-alpha-0/models/Trouser/last/state.json")), before);

    for (changed, code, wanted) in [
        ("--inlier 1,7 --epochs 2 --lr 0.5 --out a", 1, "lr is 0.5"),
        ("--inlier 1 --epochs 2 --out a", 2, "other classes or seeds"),
        ("--inlier 1,7 --seeds 0,1 --epochs 2 --out a", 2, "other classes or seeds"),
        ("--inlier 1 --epochs 2 --out data", 2, "data: not empty, and no ablation"),
        ("--inlier 1 --epochs 2 --alpha 0 --out b", 2, "--alpha 0"),
        ("--inlier 1 --epochs 2 --at 3 --out b", 2, "--at 3: after 2 epochs"),
        ("--inlier 1 --epochs 2 --model vae --out b", 2, "--model"),
    ] {
        let error = place.fails(&format!("{COMMON} {changed}"), code);
        assert!(error.contains(wanted), "{changed}: {error}");
        assert!(!place.path("b").exists(), "{changed}");
    }
    assert_eq!(numbers(&text(&read(&place.path("a/ablation.md")))), numbers(&table));
}

#[cfg(unix)]
#[test]
fn an_interrupted_ablation_goes_on_to_the_same_numbers() {
    let place = Place::new().prepared();
    let command =
        |out: &str| format!("{COMMON} --inlier 1 --seeds 0,1 --epochs 3 --at 1 --out {out}");
    let whole = place.ok(&command("whole"));
    assert!(whole.contains('\u{b1}'), "{whole}");
    let mut running = Running::start(place.command(&command("cut").replace(" -q", "")));
    running.wait_for("epoch   2/3");
    running.signal(libc::SIGINT);
    assert_eq!(running.end(), Some(130));
    let cut = place.ok(&command("cut"));
    let numbers = |table: &str| table.split("All have").nth(1).unwrap().to_string();
    assert_eq!(numbers(&cut), numbers(&whole)); // What it was after two epochs can't be known any more.
    let late = command("cut").replace("--at 1", "--at 2");
    let error = place.fails(&late, 2);
    assert!(error.contains("epoch 2: cut/cae-alpha-0 has 3 already"), "{error}");
}
