//! The model card.

use gradcon::report::card::{Card, write_card};
use gradcon::report::results::Formula;

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
    assert!(front.contains("model-index:\n- name: \"gradcon-fmnist-0\"\n"));
    assert!(front.contains("datasets:\n- \"fm\\\"nist\"\n"), "{front}");
    assert!(front.contains("      type: \"fm\\\"nist\"\n"), "{front}");
    let value =
        format!("    - type: roc_auc\n      name: AUROC\n      value: {}\n", evaluation.full.auroc);
    assert!(front.contains(&value), "{front}");
    for wanted in [
        "an anomaly score, `auto`:\n`z(log code)`",
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
}
