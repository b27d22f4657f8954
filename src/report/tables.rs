//! An evaluation as text tables: `results.csv` (long form, one line per score) and `results.md`
//! (the paper's table).

use std::fmt::Write;
use std::path::Path;

use super::file::write_atomic;
use super::metrics::Deviations;
use super::results::{Evaluation, MeanEvaluation, MeanMetrics, OverSeeds, Results};
use super::table::to_csv;
use crate::error::Result;
use crate::folders;

/// Writes `results.csv` and `results.md` into `folder`, each atomically: beside the `results.json`
/// that [`Results::write`] writes.
///
/// # Errors
/// The file system's.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    write_atomic(&folders::results(folder).with_extension("csv"), &csv(results)?)?;
    write_atomic(&folders::results(folder).with_extension("md"), markdown(results).as_bytes())
}

/// Header of `results.csv`. `score` is `full`, `reconstruction` or `gradient`; the class `mean` has
/// the means over classes, for which sizes, intervals and thresholds do not exist. `seed` is the
/// training's; of several seeds, lines with `mean` and `std` come first, then every seed's own.
pub const COLUMNS: [&str; 13] = [
    "class",
    "outlier_percent",
    "score",
    "normal",
    "anomalous",
    "auroc",
    "auroc_low",
    "auroc_high",
    "aupr",
    "f1",
    "f1_threshold",
    "fpr95",
    "seed",
];

/// `results.csv`.
///
/// # Errors
/// None in practice: the table is written to memory.
pub fn csv(results: &Results) -> Result<Vec<u8>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    match &results.over_seeds {
        None => csv_rows(
            &mut rows,
            results,
            &results.about.seed.map_or(String::new(), |seed| seed.to_string()),
        ),
        Some(over) => {
            csv_rows(&mut rows, results, "mean");
            csv_deviations(&mut rows, results);
            over.pairs().iter().for_each(|(seed, run)| csv_rows(&mut rows, run, &seed.to_string()));
        }
    }
    to_csv(&COLUMNS, rows)
}

fn csv_rows(rows: &mut Vec<Vec<String>>, results: &Results, seed: &str) {
    for (name, e) in results.evaluations() {
        for (part, m) in e.parts() {
            let text = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            let mut row = vec![name.clone(), e.outlier_percent.to_string(), part.to_owned()];
            row.extend([e.normal.to_string(), e.anomalous.to_string(), m.auroc.to_string()]);
            row.extend([text(m.auroc_95.map(|i| i.low)), text(m.auroc_95.map(|i| i.high))]);
            row.extend([
                m.aupr.to_string(),
                m.f1.to_string(),
                text(m.f1_threshold),
                m.fpr95.to_string(),
                seed.to_owned(),
            ]);
            rows.push(row);
        }
    }
    for mean in &results.means {
        for (part, m) in mean.parts() {
            let numbers = [m.auroc, m.aupr, m.f1, m.fpr95];
            rows.push(csv_mean(
                "mean".to_owned(),
                mean.outlier_percent,
                part,
                [String::new(), String::new()],
                numbers,
                seed,
            ));
        }
    }
}

/// The deviations over seeds of everything that [`csv_rows`] writes.
fn csv_deviations(rows: &mut Vec<Vec<String>>, results: &Results) {
    let numbers = |std: Deviations| [std.auroc, std.aupr, std.f1, std.fpr95];
    for (name, e) in results.evaluations() {
        for (part, std) in e.parts().into_iter().filter_map(|(part, m)| Some((part, m.std?))) {
            let sizes = [e.normal, e.anomalous].map(|n| n.to_string());
            rows.push(csv_mean(name.clone(), e.outlier_percent, part, sizes, numbers(std), "std"));
        }
    }
    for mean in &results.means {
        for (part, std) in mean.parts().into_iter().filter_map(|(part, m)| Some((part, m.std?))) {
            let sizes = [String::new(), String::new()];
            rows.push(csv_mean(
                "mean".to_owned(),
                mean.outlier_percent,
                part,
                sizes,
                numbers(std),
                "std",
            ));
        }
    }
}

/// A line without interval and threshold.
fn csv_mean(
    class: String,
    percent: f64,
    part: &str,
    [normal, anomalous]: [String; 2],
    numbers: [f64; 4],
    seed: &str,
) -> Vec<String> {
    let [auroc, aupr, f1, fpr95] = numbers.map(|v| v.to_string());
    let none = String::new;
    let percent = percent.to_string();
    let row = [
        class,
        percent,
        part.to_owned(),
        normal,
        anomalous,
        auroc,
        none(),
        none(),
        aupr,
        f1,
        none(),
        fpr95,
    ];
    row.into_iter().chain([seed.to_owned()]).collect()
}

/// `results.md`: AUROC with classes side by side as in the paper, then every metric, outlier
/// percentages, seeds and challenges where there are any. Numbers of several seeds are means with
/// their deviations.
pub fn markdown(results: &Results) -> String {
    let about = &results.about;
    let seed = match (&results.over_seeds, about.seed) {
        (Some(over), _) => format!(", seeds {}", over.names()),
        (None, Some(seed)) => format!(", seed {seed}"),
        (None, None) => String::new(),
    };
    let mut out = format!("# {} ({}), GradCon\n\n", cell(&about.dataset), cell(&about.model));
    let (date, version, device) =
        (cell(&about.date), cell(&about.gradcon_version), cell(&about.device));
    let _ = writeln!(out, "{date}, gradcon {version}, {device}, beta {}{seed}.\n", about.beta);
    let facts = [("Data", &about.data), ("SHA-256 of its manifest", &about.data_sha256)];
    let facts = facts.iter().filter_map(|(what, value)| {
        Some(format!("{what}: `{}`", value.as_ref()?.replace('`', "'")))
    });
    let facts = facts.collect::<Vec<_>>().join(", ");
    if !facts.is_empty() {
        let _ = writeln!(out, "{facts}.\n");
    }
    if let Some(over) = &results.over_seeds {
        let _ = writeln!(out, "Every number is {}.\n", means_of(over));
    }
    if let (Some(percent), Some(mean)) = (results.headline_percent(), results.headline_mean()) {
        let _ = writeln!(out, "AUROC, {percent} % outliers in each test set:\n");
        let names =
            results.headline().map(|(class, _)| cell(&class.class)).chain(["mean".to_owned()]);
        let columns: Vec<String> = ["score".to_owned()].into_iter().chain(names).collect();
        header(&mut out, &columns);
        for (i, (_, mean)) in mean.parts().into_iter().enumerate() {
            let values = results.headline().map(|(_, e)| auroc(e.parts()[i].1));
            line(&mut out, [SCORES[i].to_owned()].into_iter().chain(values).chain([auroc(*mean)]));
        }
        let interval = if results.over_seeds.is_none() {
            " (AUROC with its 95 % bootstrap interval)"
        } else {
            ""
        };
        let _ = writeln!(out, "\nThe anomaly score's metrics{interval}:\n");
        header(
            &mut out,
            &["class", "normal", "anomalous", "AUROC", "AUPR", "F1", "FPR95"].map(str::to_owned),
        );
        for (class, e) in results.headline() {
            let m = &e.full;
            let sizes = [e.normal, e.anomalous].map(|n| n.to_string());
            let [auroc, rest @ ..] = texts(m);
            let interval =
                m.auroc_95.map_or(String::new(), |i| format!(" ({:.3} to {:.3})", i.low, i.high));
            let auroc = auroc + &interval;
            line(
                &mut out,
                [cell(&class.class)].into_iter().chain(sizes).chain([auroc]).chain(rest),
            );
        }
        line(
            &mut out,
            ["mean".to_owned(), String::new(), String::new()].into_iter().chain(texts(mean.full)),
        );
    }
    if results.means.len() > 1 {
        let _ = writeln!(out, "\nMeans over classes by share of outliers:\n");
        let percents = results.means.iter().map(|mean| format!("{} %", mean.outlier_percent));
        header(&mut out, &["metric".to_owned()].into_iter().chain(percents).collect::<Vec<_>>());
        for (name, text) in RATIO_ROWS {
            line(&mut out, [name.to_owned()].into_iter().chain(results.means.iter().map(text)));
        }
    }
    if let Some(over) = &results.over_seeds {
        let _ = writeln!(out, "\nAUROC of the anomaly score by seed:\n");
        let names = over.rows.iter().map(|row| cell(&row.class));
        header(&mut out, &["seed".to_owned()].into_iter().chain(names).collect::<Vec<_>>());
        for (seed, run) in over.pairs() {
            let mean = run.headline_mean().map(|m| m.full.auroc);
            let values = run.headline().map(|(_, e)| e.full.auroc).chain(mean);
            line(&mut out, [seed.to_string()].into_iter().chain(values.map(three)));
        }
    }
    let (levels, challenges) = challenge_grid(results);
    if !challenges.is_empty() {
        let _ = writeln!(out, "\nAUROC of the anomaly score by challenge and level:\n");
        let columns = levels.iter().map(|level| format!("level {level}"));
        header(&mut out, &["challenge".to_owned()].into_iter().chain(columns).collect::<Vec<_>>());
        for (name, row) in challenges {
            let values = row.into_iter().map(|e| e.map_or("-".to_owned(), |e| auroc(&e.full)));
            line(&mut out, [cell(name)].into_iter().chain(values));
        }
    }
    out
}

/// What the numbers over seeds are, in words.
pub(super) fn means_of(over: &OverSeeds) -> String {
    format!(
        "the mean over {} seeds ({}) \u{b1} the sample standard deviation",
        over.seeds.len(),
        over.names()
    )
}

/// A number with three decimals, as the paper prints, and its deviation over seeds.
pub(super) fn spread(value: f64, std: Option<f64>) -> String {
    std.map_or(three(value), |std| format!("{value:.3} \u{b1} {std:.3}"))
}

/// AUROC, AUPR, F1 and FPR95 as tables print them.
pub(super) fn texts(m: impl Into<MeanMetrics>) -> [String; 4] {
    let m: MeanMetrics = m.into();
    let std = |of: fn(&Deviations) -> f64| m.std.as_ref().map(of);
    [
        spread(m.auroc, std(|s| s.auroc)),
        spread(m.aupr, std(|s| s.aupr)),
        spread(m.f1, std(|s| s.f1)),
        spread(m.fpr95, std(|s| s.fpr95)),
    ]
}

/// A line of the table of means by outlier percentage: its name and its cells' text.
pub(super) type RatioRow = (&'static str, fn(&MeanEvaluation) -> String);

/// The lines of the table of means by outlier percentage.
pub(super) const RATIO_ROWS: [RatioRow; 4] = [
    ("AUROC, GradCon", |mean| auroc(mean.full)),
    ("AUROC, reconstruction only", |mean| auroc(mean.reconstruction)),
    ("AUROC, gradient only", |mean| auroc(mean.gradient)),
    ("F1, GradCon", |mean| texts(mean.full)[2].clone()),
];

/// The three scores as tables name them.
pub(super) const SCORES: [&str; 3] = ["GradCon", "reconstruction only", "gradient only"];

/// A challenge's name and its evaluation at each level, where there is one.
pub(super) type ChallengeRow<'a> = (&'a str, Vec<Option<&'a Evaluation>>);

/// The levels that occur, rising, and every challenge (in order of appearance) with its evaluation
/// at each of them.
pub(super) fn challenge_grid(results: &Results) -> (Vec<u32>, Vec<ChallengeRow<'_>>) {
    let mut levels: Vec<u32> = results.challenges.iter().map(|c| c.level).collect();
    levels.sort_unstable();
    levels.dedup();
    let mut rows: Vec<ChallengeRow<'_>> = Vec::new();
    for c in &results.challenges {
        if rows.iter().all(|(name, _)| *name != c.challenge) {
            rows.push((&c.challenge, vec![None; levels.len()]));
        }
        let row = rows.iter_mut().find(|(name, _)| *name == c.challenge);
        if let (Some((_, cells)), Some(i)) =
            (row, levels.iter().position(|&level| level == c.level))
        {
            cells[i] = Some(&c.evaluation);
        }
    }
    (levels, rows)
}

/// Three decimals, as the paper prints.
pub(super) fn three(value: f64) -> String {
    format!("{value:.3}")
}

/// The AUROC as tables print it.
pub(super) fn auroc(m: impl Into<MeanMetrics>) -> String {
    let [auroc, ..] = texts(m);
    auroc
}

fn header(out: &mut String, columns: &[String]) {
    line(out, columns.iter().cloned());
    let rule =
        columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.to_owned());
    line(out, rule);
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// Text that cannot end its table cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
