//! `scores.csv`.

use std::path::Path;

use gradcon::report::scores::{ScoreRow, Scores, read_scores, write_scores};

use crate::message_of;
use crate::samples::table;

fn row(image: &str, label: Option<u8>, class: Option<&str>, score: f64) -> ScoreRow {
    ScoreRow {
        image: image.into(),
        label,
        class: class.map(Into::into),
        score,
        mse: 0.1 + 0.2,
        cos: 1e-300,
        cosines: vec![0.1, -0.25, 1.0 / 3.0, 1.0],
        more: vec![],
    }
}

#[test]
fn scores_come_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eval/a/scores.csv");
    let rows = [
        row("a, \"b\".png", Some(0), Some("T-shirt/top"), -0.1),
        row("c\nd.png", Some(1), None, f64::MIN_POSITIVE),
        row("e.png", None, Some("x"), 1e22),
    ];
    write_scores(&path, &table(rows.to_vec())).unwrap();
    assert_eq!(read_scores(&path).unwrap(), table(rows.to_vec()));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().next().unwrap(),
        "image,label,class,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6"
    );
    let last = format!(
        "e.png,,x,10000000000000000000000,0.30000000000000004,0.{}1,0.1,-0.25,0.3333333333333333,1",
        "0".repeat(299)
    );
    assert_eq!(text.lines().last().unwrap(), last, "numbers without exponents");
}

/// A model decides how many layers there are, and what they are called.
#[test]
fn other_layers_make_other_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.csv");
    let more = vec![1.0 / 3.0, -2.5];
    let row = ScoreRow { cosines: vec![0.5, 0.25], more, ..row("a", Some(1), None, 0.0) };
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    let (layers, more) = (names(["fc1", "fc2"]), names(["code", "beta=0.3"]));
    let scores = Scores { layers, more, rows: vec![row] };
    write_scores(&path, &scores).unwrap();
    assert_eq!(read_scores(&path).unwrap(), scores);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("image,label,class,score,mse,cos,cos_fc1,cos_fc2,code,beta=0.3\n"),
        "{text}"
    );
}

#[test]
fn scores_that_are_none_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.csv");
    let good = row("a", Some(1), None, 0.0);
    let mut bad = vec![good.clone(); 6];
    bad[0].score = f64::NAN;
    bad[1].cosines[2] = f64::INFINITY;
    bad[2].cosines.pop();
    bad[3].label = Some(2);
    bad[4].cos = f64::NAN;
    bad[5].more.push(0.5);
    for row in bad {
        assert!(write_scores(&path, &table(vec![good.clone(), row.clone()])).is_err(), "{row:?}");
    }
    assert!(!path.exists(), "a refused table must leave no file");
}

#[test]
fn broken_scores_are_named_by_file_line_and_column() {
    let header = "image,label,class,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6\n";
    let good = "a,1,x,0.5,0.5,0,0,0,0,0\n";
    let of = |text: &str| message_of(text, |path| read_scores(path).map(drop));
    let bad = |line: &str| of(&format!("{header}{good}{line}"));
    assert_eq!(bad("b,1,x,NaN,0,0,0,0,0,0\n"), ":3: score is \"NaN\", expected a finite number");
    assert_eq!(bad("b,1,x,0,0,0,0,0,,0\n"), ":3: cos_up4 is \"\", expected a finite number");
    assert_eq!(
        bad("b,2,x,0,0,0,0,0,0,0\n"),
        ":3: label is \"2\", expected 0 (normal), 1 (anomalous) or nothing"
    );
    assert_eq!(bad("b,1,x,0\n"), ":3: 4 fields, expected 10");
    let wrong = ":1: header \"image,score\", expected \
                 \"image,label,class,score,mse,cos\" and cos_LAYER for each layer";
    assert_eq!(of("image,score\n"), wrong);
    let none = of("image,label,class,score,mse,cos\n");
    assert!(none.ends_with("and cos_LAYER for each layer"), "{none}");
    let missing = read_scores(Path::new("no/such/scores.csv")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/scores.csv: "), "{missing}");
}
