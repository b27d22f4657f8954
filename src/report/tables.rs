//! An evaluation as text tables: `results.csv` (long form, one line per score) and `results.md` (the paper's table).

use std::fmt::Write;

use super::metrics::Metrics;
use super::results::{Evaluation, MeanMetrics, Results};
use super::table::to_csv;
use crate::Result;

/// Header of `results.csv`. `score` is `full`, `reconstruction` or `gradient`; the class `mean` has the means over
/// classes, for which sizes, intervals and thresholds do not exist.
pub const COLUMNS: [&str; 12] = [
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
];

/// `results.csv`.
///
/// # Errors
/// None in practice: the table is written to memory.
pub fn csv(results: &Results) -> Result<Vec<u8>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, e) in results.evaluations() {
        for (part, m) in e.parts() {
            let end = |high: bool| m.auroc_95.map_or(String::new(), |i| if high { i.high } else { i.low }.to_string());
            let mut row = vec![name.clone(), e.outlier_percent.to_string(), part.to_owned()];
            row.extend([e.normal.to_string(), e.anomalous.to_string(), m.auroc.to_string(), end(false), end(true)]);
            row.extend([m.aupr, m.f1, m.f1_threshold, m.fpr95].map(|v| v.to_string()));
            rows.push(row);
        }
    }
    for mean in &results.means {
        let parts = [("full", &mean.full), ("reconstruction", &mean.reconstruction), ("gradient", &mean.gradient)];
        for (part, m) in parts {
            let mut row = vec!["mean".to_owned(), mean.outlier_percent.to_string(), part.to_owned()];
            row.extend([String::new(), String::new(), m.auroc.to_string(), String::new(), String::new()]);
            row.extend([m.aupr.to_string(), m.f1.to_string(), String::new(), m.fpr95.to_string()]);
            rows.push(row);
        }
    }
    to_csv(&COLUMNS, rows)
}

/// `results.md`: AUROC with classes side by side as in the paper, then every metric, outlier percentages, seeds and
/// challenges where there are any.
pub fn markdown(results: &Results) -> String {
    let about = &results.about;
    let seed = about.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
    let mut out = format!("# {} ({}), GradCon\n\n", cell(&about.dataset), cell(&about.model));
    let (date, version, device) = (cell(&about.date), cell(&about.gradcon_version), cell(&about.device));
    let _ = writeln!(out, "{date}, gradcon {version}, {device}, beta {}{seed}.\n", about.beta);
    let facts = [("Data", &about.data), ("SHA-256 of its manifest", &about.data_sha256)];
    let facts =
        facts.iter().filter_map(|(what, value)| Some(format!("{what}: `{}`", value.as_ref()?.replace('`', "'"))));
    let facts = facts.collect::<Vec<_>>().join(", ");
    if !facts.is_empty() {
        let _ = writeln!(out, "{facts}.\n");
    }
    if let (Some(percent), Some(mean)) = (results.headline_percent(), results.headline_mean()) {
        let _ = writeln!(out, "AUROC, {percent} % outliers in each test set:\n");
        let names = results.headline().map(|(class, _)| cell(&class.class)).chain(["mean".to_owned()]);
        let columns: Vec<String> = ["score".to_owned()].into_iter().chain(names).collect();
        header(&mut out, &columns);
        let means = [mean.full.auroc, mean.reconstruction.auroc, mean.gradient.auroc];
        for (i, mean) in means.into_iter().enumerate() {
            let auroc = |e: &Evaluation| e.parts()[i].1.auroc;
            let values = results.headline().map(|(_, e)| auroc(e)).chain([mean]);
            line(&mut out, [SCORES[i].to_owned()].into_iter().chain(values.map(three)));
        }
        let _ = writeln!(out, "\nThe anomaly score's metrics (AUROC with its 95 % bootstrap interval):\n");
        header(&mut out, &["class", "normal", "anomalous", "AUROC", "AUPR", "F1", "FPR95"].map(str::to_owned));
        for (class, e) in results.headline() {
            let m = &e.full;
            let sizes = [e.normal, e.anomalous].map(|n| n.to_string());
            let values = [auroc_text(m), three(m.aupr), three(m.f1), three(m.fpr95)];
            line(&mut out, [cell(&class.class)].into_iter().chain(sizes).chain(values));
        }
        let MeanMetrics { auroc, aupr, f1, fpr95 } = mean.full;
        let values = [auroc, aupr, f1, fpr95].map(three);
        line(&mut out, ["mean".to_owned(), String::new(), String::new()].into_iter().chain(values));
    }
    if results.means.len() > 1 {
        let _ = writeln!(out, "\nMeans over classes by share of outliers:\n");
        let percents = results.means.iter().map(|mean| format!("{} %", mean.outlier_percent));
        header(&mut out, &["metric".to_owned()].into_iter().chain(percents).collect::<Vec<_>>());
        for (name, value) in [("AUROC", (|m| m.auroc) as fn(&MeanMetrics) -> f64), ("F1", |m| m.f1)] {
            let values = results.means.iter().map(|mean| three(value(&mean.full)));
            line(&mut out, [name.to_owned()].into_iter().chain(values));
        }
    }
    if let Some(seeds) = &results.over_seeds {
        let _ = writeln!(out, "\nAUROC over {} seeds, mean +- standard deviation:\n", seeds.seeds.len());
        header(&mut out, &["class", SCORES[0], SCORES[1], SCORES[2]].map(str::to_owned));
        for row in &seeds.rows {
            let spreads = [row.full, row.reconstruction, row.gradient];
            let values = spreads.map(|s| format!("{:.3} +- {:.3}", s.mean, s.std));
            line(&mut out, [cell(&row.class)].into_iter().chain(values));
        }
    }
    let (levels, challenges) = challenge_grid(results);
    if !challenges.is_empty() {
        let _ = writeln!(out, "\nAUROC of the anomaly score by challenge and level:\n");
        let columns = levels.iter().map(|level| format!("level {level}"));
        header(&mut out, &["challenge".to_owned()].into_iter().chain(columns).collect::<Vec<_>>());
        for (name, row) in challenges {
            let values = row.into_iter().map(|e| e.map_or("-".to_owned(), |e| three(e.full.auroc)));
            line(&mut out, [cell(name)].into_iter().chain(values));
        }
    }
    out
}

/// The three scores as tables name them.
pub(super) const SCORES: [&str; 3] = ["GradCon", "reconstruction only", "gradient only"];

/// A challenge's name and its evaluation at each level, where there is one.
pub(super) type ChallengeRow<'a> = (&'a str, Vec<Option<&'a Evaluation>>);

/// The levels that occur, rising, and every challenge (in order of appearance) with its evaluation at each of them.
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
        if let (Some((_, cells)), Some(i)) = (row, levels.iter().position(|&level| level == c.level)) {
            cells[i] = Some(&c.evaluation);
        }
    }
    (levels, rows)
}

/// Three decimals, as the paper prints.
pub(super) fn three(value: f64) -> String {
    format!("{value:.3}")
}

fn auroc_text(m: &Metrics) -> String {
    m.auroc_95.map_or(three(m.auroc), |i| format!("{:.3} ({:.3} to {:.3})", m.auroc, i.low, i.high))
}

fn header(out: &mut String, columns: &[String]) {
    line(out, columns.iter().cloned());
    let rule = columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.to_owned());
    line(out, rule);
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// Text that cannot end its table cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
