//! The model card.

use gradcon::Model;
use gradcon::method::model::Kind;
use gradcon::method::readout::{NAMES, Rule};
use gradcon::report::card::{Card, write_card};
use gradcon::report::results::{Formula, Tiled};

use crate::samples::results;

#[test]
fn a_card_says_what_is_known_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let evaluation = results(0.1).classes[0].evaluations[1].clone();
    let mut card = Card {
        name: "gradcon-fmnist-0".into(),
        dataset: "fm\"nist".into(),
        data: Some("data/a|b".into()),
        data_sha256: Some("0123456789abcdef".repeat(4)),
        class: "a|b".into(),
        model: "cae".into(),
        kl_weight: None,
        input: [28, 28, 1],
        preprocessing: Some("resize to 28x28".into()),
        tiles: None,
        parameters: 230_721,
        alpha: 0.03,
        score: Formula { score: "auto".into(), formula: "z(log code)".into() },
        scores: vec![Formula { score: "paper".into(), formula: "mse - 0.12 cos".into() }],
        epochs: 7,
        best_epoch: Some(5),
        stopped_early: None,
        explained_variance: Some(0.634),
        seed: Some(42),
        device: "CPU".into(),
        date: "2026-01-02T03:04:05Z".into(),
        gradcon_version: "9.8.7".into(),
        threshold: Some(-0.0123),
        evaluation: Some(evaluation.clone()),
    };
    write_card(folder.path(), &card).unwrap();
    let text = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
    let mut parts = text.splitn(3, "---\n");
    let (start, front, body) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    assert_eq!(start, "");
    // In YAML the indentation is the meaning.
    let [auroc, aupr, f1, fpr95] = {
        let full = &evaluation.full;
        [full.auroc, full.aupr, full.f1, full.fpr95]
    };
    let expected = format!(
        r#"library_name: gradcon
tags:
- anomaly-detection
- one-class-classification
- gradcon
datasets:
- "fm\"nist"
metrics:
- roc_auc
model-index:
- name: "gradcon-fmnist-0"
  results:
  - task:
      type: anomaly-detection
      name: One-class image anomaly detection
    dataset:
      name: "fm\"nist, normal class a|b, {} % outliers"
      type: "fm\"nist"
    metrics:
    - type: roc_auc
      name: AUROC
      value: {auroc}
    - type: average_precision
      name: AUPR
      value: {aupr}
    - type: f1
      name: F1 at the best threshold
      value: {f1}
    - type: fpr95
      name: FPR at 95 % TPR
      value: {fpr95}
"#,
        evaluation.outlier_percent
    );
    assert_eq!(front, expected);
    for wanted in [
        "an anomaly score, `auto`:\n`z(log code)`. Higher",
        "\n- `code`: squared Mahalanobis distance",
        "\n- `z`: standardised",
        "| preprocessing | resize to 28x28 |",
        "| GradCon | ",
        "230721 parameters",
        "| alpha | 0.03 |",
        "| seed | 42 |",
        "-0.0123",
        "of epoch 5",
        "a\\|b",
        "| folder | data/a\\|b |",
        "| manifest SHA-256 | 0123456789abcdef0",
    ] {
        assert!(body.contains(wanted), "{wanted} not in {body}");
    }
    let line = format!(
        "| gradient only | {:.3} | {:.3} to ",
        evaluation.gradient.auroc,
        evaluation.gradient.auroc_95.unwrap().low
    );
    assert!(body.contains(&line), "{line}");
    (card.evaluation, card.threshold, card.seed, card.best_epoch) = (None, None, None, None);
    (card.data, card.data_sha256) = (None, None);
    let bare = card.markdown();
    for absent in ["| folder |", "SHA-256", "model-index", "threshold |", "| seed", "of epoch"] {
        assert!(!bare.contains(absent), "{absent}");
    }
    assert!(bare.contains("Not evaluated yet."));

    // Tiles, and every symbol of every score.
    card.tiles = Some(Tiled { count: 36, top: 3 });
    let by = "`z(log code)`, of an image the mean of the 3 highest of 36 tiles.";
    assert!(card.markdown().contains(by));
    for kind in [Kind::Cae, Kind::Vae] {
        let model = Model::sized(kind, 28, 1).unwrap();
        let named = NAMES.iter().copied().chain(["joint", "code-place"]);
        for rule in named.filter_map(|name| Rule::named(name, &model, 0.12).ok()) {
            card.score = rule.into();
            let text = card.markdown();
            let words = card.score.formula.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let is_symbol = |word: &&str| word.starts_with(char::is_alphabetic) && *word != "log";
            for symbol in words.filter(is_symbol) {
                assert!(text.contains(&format!("\n- `{symbol}`: ")), "{symbol} not in {text}");
            }
        }
    }
}
