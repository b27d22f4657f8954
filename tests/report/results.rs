//! `results.json`.

use gradcon::report::results::*;
use gradcon::report::scores::{ScoreRow, Scores};

use crate::close;
use crate::samples::{results, table};

#[test]
fn an_evaluation_scores_each_part_by_itself() {
    // The score orders perfectly, the error inverts, the cosine (low = anomalous) ties one pair
    // of four.
    let row = |label: u8, score: f64, mse: f64, cos: f64| ScoreRow {
        image: String::new(),
        label: Some(label),
        class: None,
        score,
        mse,
        cos,
        cosines: vec![cos; 4],
        more: vec![-score, cos],
    };
    let rows = [
        row(0, 0.1, 0.9, 0.9),
        row(0, 0.2, 0.8, 0.5),
        row(1, 0.3, 0.1, 0.5),
        row(1, 0.4, 0.2, 0.1),
    ];
    let names = ["worst", "cosine"].map(String::from).to_vec();
    let scores = |rows| Scores { more: names.clone(), ..table(rows) };
    let e = Evaluation::of(50.0, &scores(rows.to_vec()), None).unwrap();
    close(e.full.auroc, 1.0, 0.0, "full");
    close(e.reconstruction.auroc, 0.0, 0.0, "reconstruction");
    close(e.gradient.auroc, 0.875, 0.0, "gradient");
    assert_eq!((e.normal, e.anomalous), (2, 2));
    let more: Vec<(&str, f64)> = e.parts()[3..].iter().map(|(name, m)| (*name, m.auroc)).collect();
    assert_eq!(more, [("worst", 0.0), ("cosine", 0.125)]);
    let mut unlabelled = rows.to_vec();
    unlabelled[1].label = None;
    assert!(Evaluation::of(50.0, &scores(unlabelled), None).is_err());
}

#[test]
fn results_come_back_and_hold_their_means() {
    let folder = tempfile::tempdir().unwrap();
    let written = results(0.1);
    written.write(folder.path()).unwrap();
    let read = Results::read(&folder.path().join("results.json")).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.headline_percent(), Some(50.0));
    let aurocs: Vec<f64> = read.headline().map(|(_, e)| e.full.auroc).collect();
    assert_ne!(aurocs[0], aurocs[1]);
    close(read.headline_mean().unwrap().full.auroc, (aurocs[0] + aurocs[1]) / 2.0, 1e-15, "mean");
}

#[test]
fn results_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    results(0.1).write(folder.path()).unwrap();
    let good: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    type Break = fn(&mut serde_json::Value);
    let breaks: [(Break, &str); 7] = [
        (|v| v["schema_version"] = 5.into(), "schema version 5, this build reads 1 to 4"),
        (|v| v["means"][1]["full"]["auroc"] = 0.5.into(), "means are not those"),
        (|v| v["classes"][0]["evaluations"][1]["full"]["auroc"] = 1.5.into(), "a metric is 1.5"),
        (
            |v| v["classes"][0]["evaluations"][1]["full"]["auroc"] = serde_json::Value::Null,
            "invalid type: null",
        ),
        (
            |v| v["classes"][0]["evaluations"][0]["outlier_percent"] = 30.into(),
            "different outlier percentages",
        ),
        (|v| v["extra"] = 1.into(), "unknown field `extra`"),
        (|v| v["classes"] = serde_json::json!([]), "no class and no challenge"),
    ];
    for (break_it, expected) in breaks {
        let mut broken = good.clone();
        break_it(&mut broken);
        std::fs::write(&path, broken.to_string()).unwrap();
        let message = Results::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("results.json"), "{message}");
    }
    let mut nan = results(0.1);
    nan.classes[0].evaluations[0].gradient.f1_threshold = Some(f64::NAN);
    assert!(nan.write(folder.path()).is_err());
}

#[test]
fn results_of_the_first_layout_still_open_unless_their_headline_was_one_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let results = results(0.1);
    results.write(folder.path()).unwrap();
    let mut old: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    old["schema_version"] = 1.into();
    for key in ["data", "data_sha256"] {
        old["about"].as_object_mut().unwrap().remove(key).unwrap();
    }
    std::fs::write(&path, old.to_string()).unwrap();
    let read = Results::read(&path).unwrap();
    assert_eq!((read.schema_version, read.about.data_sha256.as_ref()), (SCHEMA_VERSION, None));
    assert_eq!(read.means, results.means);

    let spread = serde_json::json!({ "mean": 0.9, "std": 0.1 });
    let row = serde_json::json!({
        "class": "mean", "full": spread, "reconstruction": spread, "gradient": spread,
    });
    old["over_seeds"] = serde_json::json!({ "seeds": [1, 2], "rows": [row] });
    std::fs::write(&path, old.to_string()).unwrap();
    let message = Results::read(&path).unwrap_err().to_string();
    assert!(message.contains("results.json: schema version 1 with several seeds"), "{message}");
    assert!(message.contains("gradcon eval"), "{message}");
}
