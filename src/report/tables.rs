//! An evaluation as text tables: `results.csv` (long form, one line per score) and `results.md`
//! (the paper's table).

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::file::write_atomic;
use super::metrics::{Deviations, Metrics};
use super::results::{
    ClassResult, Evaluation, Formula, KindResult, MeanEvaluation, MeanMetrics, OverSeeds, Results,
    Tiled,
};
use super::table::{Number, to_csv};
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

/// A line of `results.csv`. Of several seeds, lines with `mean` and `std` as their seed come first,
/// then every seed's own.
#[derive(Default, Serialize)]
struct Line<'a> {
    /// Or `mean`, of which sizes, intervals and thresholds do not exist.
    class: String,
    outlier_percent: Number,
    /// `full`, `reconstruction`, `gradient` or a further one's name.
    score: &'a str,
    normal: Option<usize>,
    anomalous: Option<usize>,
    auroc: Number,
    auroc_low: Option<Number>,
    auroc_high: Option<Number>,
    aupr: Number,
    f1: Number,
    f1_threshold: Option<Number>,
    fpr95: Number,
    /// The training's.
    seed: &'a str,
}

impl Line<'_> {
    /// A line without sizes, interval and threshold.
    fn of<'a>(
        class: &str,
        outlier_percent: f64,
        score: &'a str,
        [auroc, aupr, f1, fpr95]: [f64; 4],
        seed: &'a str,
    ) -> Line<'a> {
        Line {
            class: class.to_string(),
            outlier_percent: Number(outlier_percent),
            score,
            auroc: Number(auroc),
            aupr: Number(aupr),
            f1: Number(f1),
            fpr95: Number(fpr95),
            seed,
            ..Line::default()
        }
    }
}

/// `results.csv`.
///
/// # Errors
/// None in practice: the table is written to memory.
pub fn csv(results: &Results) -> Result<Vec<u8>> {
    let seed = results.about.seed.map_or(String::new(), |seed| seed.to_string());
    if results.is_untested() {
        // The header alone.
        let text = to_csv(None, [Line::default()])?;
        return Ok(text.split_inclusive(|&b| b == b'\n').next().unwrap_or_default().to_vec());
    }
    let Some(over) = &results.over_seeds else { return to_csv(None, numbers(results, &seed)) };
    let mut lines = numbers(results, "mean");
    lines.extend(deviations(results));
    let seeds: Vec<String> = over.seeds.iter().map(u64::to_string).collect();
    for (run, seed) in over.runs.iter().zip(&seeds) {
        lines.extend(numbers(run, seed));
    }
    to_csv(None, lines)
}

fn numbers<'a>(results: &'a Results, seed: &'a str) -> Vec<Line<'a>> {
    let mut lines = vec![];
    for (name, e) in results.evaluations() {
        for (part, m) in e.parts() {
            lines.push(Line {
                normal: Some(e.normal),
                anomalous: Some(e.anomalous),
                auroc_low: m.auroc_95.map(|i| Number(i.low)),
                auroc_high: m.auroc_95.map(|i| Number(i.high)),
                f1_threshold: m.f1_threshold.map(Number),
                ..Line::of(&name, e.outlier_percent, part, [m.auroc, m.aupr, m.f1, m.fpr95], seed)
            });
        }
    }
    for mean in &results.means {
        for (part, m) in mean.parts() {
            let numbers = [m.auroc, m.aupr, m.f1, m.fpr95];
            lines.push(Line::of("mean", mean.outlier_percent, part, numbers, seed));
        }
    }
    lines
}

/// The deviations over seeds of everything in [`numbers`].
fn deviations(results: &Results) -> Vec<Line<'_>> {
    fn line<'a>(
        class: &str,
        percent: f64,
        part: &'a str,
        std: Option<Deviations>,
    ) -> Option<Line<'a>> {
        let std = std?;
        let numbers = [std.auroc, std.aupr, std.f1, std.fpr95];
        Some(Line::of(class, percent, part, numbers, "std"))
    }
    let mut lines = vec![];
    for (name, e) in results.evaluations() {
        let of = |(part, m): (_, &Metrics)| {
            let line = line(&name, e.outlier_percent, part, m.std)?;
            Some(Line { normal: Some(e.normal), anomalous: Some(e.anomalous), ..line })
        };
        lines.extend(e.parts().into_iter().filter_map(of));
    }
    for mean in &results.means {
        let of = |(part, m): (_, &MeanMetrics)| line("mean", mean.outlier_percent, part, m.std);
        lines.extend(mean.parts().into_iter().filter_map(of));
    }
    lines
}

/// By how many of their tiles images are judged, where they are cut.
fn by_tiles(results: &Results) -> String {
    let of: Vec<(&str, Tiled)> =
        results.classes.iter().filter_map(|c| Some((&c.class[..], c.tiles?))).collect();
    let Some((_, first)) = of.first() else { return String::new() };
    if of.len() == results.classes.len() && of.iter().all(|(_, tiled)| tiled == first) {
        return format!("\nAn image's score is {first}.\n");
    }
    let of: Vec<String> = of.iter().map(|(class, tiled)| format!("{class} {tiled}")).collect();
    format!("\nAn image's score is, of {}.\n", cell(&of.join("; of ")))
}

/// `results.md`: AUROC with classes side by side as in the paper, or a row for each category, then
/// every metric, outlier percentages, seeds and challenges where there are any. Numbers of several
/// seeds are means with their deviations.
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
    if let Some(mean) = results.headline_mean() {
        let shares = results.headline_shares();
        let _ = writeln!(out, "AUROC, {shares} % outliers in each test set:\n");
        let of = |part| cell(label(&results.about.scores, part));
        let parts = mean.parts();
        if is_by_category(results) {
            // As tables of categories are printed.
            let scores = parts.iter().map(|(part, _)| of(part));
            header(
                &mut out,
                &["category".to_string()].into_iter().chain(scores).collect::<Vec<_>>(),
            );
            for (class, e) in results.headline() {
                let values = e.parts().into_iter().map(|(_, m)| auroc(m));
                line(&mut out, [cell(&class.class)].into_iter().chain(values));
            }
            let means = parts.iter().map(|(_, mean)| auroc(**mean));
            line(&mut out, ["mean".to_string()].into_iter().chain(means));
        } else {
            let names = results.headline().map(|(class, _)| cell(&class.class));
            let names = ["score".to_string()].into_iter().chain(names).chain(["mean".to_string()]);
            header(&mut out, &names.collect::<Vec<_>>());
            for (i, (part, mean)) in parts.into_iter().enumerate() {
                let values = results.headline().map(|(_, e)| auroc(e.parts()[i].1));
                line(&mut out, [of(part)].into_iter().chain(values).chain([auroc(*mean)]));
            }
        }
        let formulas = results.about.scores.iter();
        let formulas =
            formulas.map(|s| format!("{} = {}", label(&results.about.scores, &s.score), s.formula));
        let formulas: Vec<String> = formulas.collect();
        if !formulas.is_empty() {
            let _ = writeln!(out, "\n{}.", cell(&formulas.join("; ")));
        }
        out += &by_tiles(results);
        let has_intervals = results.headline().any(|(_, e)| e.full.auroc_95.is_some());
        let interval = if has_intervals { " (AUROC with its 95 % bootstrap interval)" } else { "" };
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
            ["mean".to_string(), String::new(), String::new()].into_iter().chain(texts(mean.full)),
        );
    }
    if results.is_untested() {
        let _ = writeln!(out, "{UNTESTED}");
        let rows = validation_rows(results);
        if !rows.is_empty() {
            let _ = writeln!(out, "\n{VALIDATION}:\n");
            let columns = ["class"].iter().chain(&VALIDATED).map(|c| c.to_string());
            header(&mut out, &columns.collect::<Vec<_>>());
            for (name, texts) in rows {
                line(&mut out, [cell(&name)].into_iter().chain(texts));
            }
            if let Some(words) = threshold_words(results) {
                let _ = writeln!(out, "\n{words}");
            }
        }
    }
    for class in &results.classes {
        if let (Some(patience), Some(epochs)) = (class.stopped_early, class.epochs) {
            let _ = writeln!(
                out,
                "\n{} stopped early, after {epochs} epochs: {patience} without a better validation \
                 loss.",
                cell(&class.class)
            );
        }
    }
    let decisions = decision_rows(results);
    if !decisions.is_empty() {
        let _ = writeln!(out, "\n{DECISIONS}:\n");
        header(
            &mut out,
            &["class"].iter().chain(&DECISION).map(|c| c.to_string()).collect::<Vec<_>>(),
        );
        for (name, texts) in decisions {
            line(&mut out, [cell(&name)].into_iter().chain(texts));
        }
        if let Some(words) = threshold_words(results) {
            let _ = writeln!(out, "\n{words}");
        }
    }
    let kinds = kind_rows(results);
    if !kinds.is_empty() {
        let _ = writeln!(out, "\n{KINDS}:\n");
        header(&mut out, &["kind"].iter().chain(&KIND).map(|c| c.to_string()).collect::<Vec<_>>());
        for (name, texts) in kinds {
            line(&mut out, [cell(&name)].into_iter().chain(texts));
        }
    }
    let pixels = pixel_rows(results);
    if !pixels.is_empty() {
        let _ = writeln!(out, "\n{PIXELS}:\n");
        header(
            &mut out,
            &["class"].iter().chain(&PIXEL).map(|c| c.to_string()).collect::<Vec<_>>(),
        );
        for (name, texts) in pixels {
            line(&mut out, [cell(&name)].into_iter().chain(texts));
        }
    }
    if results.means.len() > 1 {
        let _ = writeln!(out, "\nMeans over classes by share of outliers:\n");
        let percents = results.means.iter().map(|mean| format!("{} %", mean.outlier_percent));
        header(&mut out, &["metric".to_string()].into_iter().chain(percents).collect::<Vec<_>>());
        for (name, texts) in ratio_rows(results) {
            line(&mut out, [cell(&name)].into_iter().chain(texts));
        }
    }
    if let Some(over) = &results.over_seeds {
        let _ = writeln!(out, "\nAUROC of the anomaly score by seed:\n");
        let names = over.rows.iter().map(|row| cell(&row.class));
        header(&mut out, &["seed".to_string()].into_iter().chain(names).collect::<Vec<_>>());
        for (seed, run) in over.pairs() {
            let mean = run.headline_mean().map(|m| m.full.auroc);
            let values = run.headline().map(|(_, e)| e.full.auroc).chain(mean);
            line(&mut out, [seed.to_string()].into_iter().chain(values.map(three)));
        }
    }
    if let Some(challenges) = Challenges::of(results) {
        let _ = writeln!(out, "\nAUROC of the anomaly score by challenge and level:\n");
        let mut columns = vec!["challenge".to_string()];
        columns.extend(challenges.levels.iter().map(|level| format!("level {level}")));
        columns.push("mean".into());
        header(&mut out, &columns);
        let number = |value: Option<f64>| value.map_or("-".to_string(), three);
        for (name, row) in &challenges.rows {
            let values = row.iter().map(|e| e.map_or("-".to_string(), |e| auroc(&e.full)));
            let mean = number(Challenges::mean(row.iter().copied(), 0));
            line(&mut out, [cell(name)].into_iter().chain(values).chain([mean]));
        }
        let means = (0..challenges.levels.len())
            .map(|level| number(Challenges::mean(challenges.at(level), 0)));
        let all = number(Challenges::mean(challenges.all(), 0));
        line(&mut out, ["mean".to_string()].into_iter().chain(means).chain([all]));
        let _ = writeln!(out, "\nMean AUROC over levels by challenge and score:\n");
        let parts = challenges.parts();
        let names = parts.iter().map(|part| cell(label(&results.about.scores, part)));
        header(&mut out, &["challenge".to_string()].into_iter().chain(names).collect::<Vec<_>>());
        for (name, row) in &challenges.rows {
            let means = (0..parts.len()).map(|i| number(Challenges::mean(row.iter().copied(), i)));
            line(&mut out, [cell(name)].into_iter().chain(means));
        }
        let means = (0..parts.len()).map(|i| number(Challenges::mean(challenges.all(), i)));
        line(&mut out, ["mean".to_string()].into_iter().chain(means));
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

/// What the table of maps is about, and its columns.
pub(super) const PIXELS: &str =
    "Maps against the masks of the defects (maximum: where the map is highest)";
pub(super) const PIXEL: [&str; 5] = [
    "pixel AUROC",
    "PRO",
    "maximum in a defect",
    "the same, of flagged images",
    "defective regions",
];

/// The lines of that table, by class; none over several seeds.
pub(super) fn pixel_rows(results: &Results) -> Vec<(String, [String; 5])> {
    let row = |(class, e): (&ClassResult, &Evaluation)| {
        let p = e.pixels?;
        let of = |hits: usize, all: usize| format!("{hits} of {all}");
        let found = p.found_hits.zip(p.found).map_or("-".into(), |(hits, found)| of(hits, found));
        let cells =
            [three(p.auroc), three(p.pro), of(p.hits, p.defective), found, p.regions.to_string()];
        Some((class.class.clone(), cells))
    };
    results.headline().filter_map(row).collect()
}

/// What the table of decisions is about, and its columns.
pub(super) const DECISIONS: &str = "At the stored threshold: images with a higher score are called \
                                    anomalous";
pub(super) const DECISION: [&str; 8] = [
    "threshold",
    "anomalous, flagged",
    "normal, flagged",
    "precision",
    "recall",
    "F1",
    "best F1",
    "F1 if all were flagged",
];

/// The lines of that table, by class; none over several seeds.
pub(super) fn decision_rows(results: &Results) -> Vec<(String, [String; 8])> {
    let row = |(class, e): (&ClassResult, &Evaluation)| {
        let c = e.at_threshold?;
        let cells = [
            format!("{:.4}", c.threshold),
            format!("{} of {}", c.true_positives, e.anomalous),
            format!("{} of {}", c.false_positives, e.normal),
            c.precision().map_or("-".into(), three),
            three(c.recall()),
            three(c.f1()),
            three(e.full.f1),
            three(c.f1_of_all()),
        ];
        Some((class.class.clone(), cells))
    };
    results.headline().filter_map(row).collect()
}

/// Whether classes are categories, each with anomalies of its own: those are many, and each is a row.
fn is_by_category(results: &Results) -> bool {
    let shares = || results.headline().map(|(_, e)| e.outlier_percent);
    let kinds = results.headline().any(|(_, e)| !e.kinds.is_empty());
    results.classes.len() > 1 && (kinds || shares().any(|share| Some(share) != shares().next()))
}

/// What is said where the data have normal images only.
pub(super) const UNTESTED: &str = "The data have normal images only, nothing to test with: AUROC, AUPR, F1 and FPR95 are not \
                                   known, and nobody has seen whether anomalies are told from \
                                   normal images.";

/// What the table of validation images is about, and its columns.
pub(super) const VALIDATION: &str =
    "The stored threshold on the validation images, which are normal and which it was set by";
pub(super) const VALIDATED: [&str; 4] = ["images", "threshold", "flagged", "share"];

/// The lines of that table.
pub(super) fn validation_rows(results: &Results) -> Vec<(String, [String; 4])> {
    let row = |class: &ClassResult| {
        let v = class.validation?;
        let share = percent(v.flagged as f64 / v.images.max(1) as f64);
        let threshold = format!("{:.4}", v.threshold);
        Some((class.class.clone(), [v.images.to_string(), threshold, v.flagged.to_string(), share]))
    };
    results.classes.iter().filter_map(row).collect()
}

/// What the threshold is set for, where that is a rate of false positives, and by how many images.
pub(super) fn threshold_words(results: &Results) -> Option<String> {
    let rate = results.about.made.as_ref()?.settings.get("fpr")?.as_f64()?;
    let images = || results.classes.iter().filter_map(|class| Some(class.validation?.images));
    let (least, most) = (images().min()?, images().max()?);
    let images = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Some(format!(
        "Thresholds are set for a false-positive rate of at most {rate} by {images} validation \
         images, which can promise no lower one than 1 in {}.",
        least + 1
    ))
}

/// What the table of kinds is about, and its columns.
pub(super) const KINDS: &str = "By kind of anomaly, against all normal images";
pub(super) const KIND: [&str; 3] = ["images", "AUROC", "flagged at the threshold"];

/// The lines of that table.
pub(super) fn kind_rows(results: &Results) -> Vec<(String, [String; 3])> {
    let kinds = results.headline().flat_map(|(_, e)| &e.kinds);
    let row = |kind: &KindResult| {
        let flagged = kind.flagged.map_or("-".into(), |n| n.to_string());
        (kind.kind.clone(), [kind.images.to_string(), three(kind.auroc), flagged])
    };
    kinds.map(row).collect()
}

/// The lines of the table of means by outlier percentage: each score's AUROC, then its F1, with its
/// name and its cells' texts.
pub(super) fn ratio_rows(results: &Results) -> Vec<(String, Vec<String>)> {
    let Some(first) = results.means.first() else { return vec![] };
    let names: Vec<&str> =
        first.parts().into_iter().map(|(part, _)| label(&results.about.scores, part)).collect();
    let rows = |metric: &str, at: usize| -> Vec<(String, Vec<String>)> {
        let text = |mean: &MeanEvaluation, i: usize| texts(*mean.parts()[i].1)[at].clone();
        let cells = |i: usize| results.means.iter().map(|mean| text(mean, i)).collect();
        names.iter().enumerate().map(|(i, name)| (format!("{metric}, {name}"), cells(i))).collect()
    };
    [rows("AUROC", 0), rows("F1", 2)].concat()
}

/// What a score is called on pages and in tables for people, where these are evaluated; `part` is
/// its name in files.
pub(super) fn label<'a>(scores: &'a [Formula], part: &'a str) -> &'a str {
    match part {
        "full" => match scores.first() {
            Some(formula) if formula.score != "paper" => &formula.score,
            _ => "GradCon",
        },
        "paper" => "GradCon",
        "reconstruction" => "reconstruction only",
        "gradient" => "gradient only",
        name => name,
    }
}

/// A challenge's name and its evaluation at each level, where there is one.
pub(super) type ChallengeRow<'a> = (&'a str, Vec<Option<&'a Evaluation>>);

/// The challenges of an evaluation.
pub(super) struct Challenges<'a> {
    /// The levels that occur, rising.
    pub levels: Vec<u32>,
    /// Every challenge, in order of appearance.
    pub rows: Vec<ChallengeRow<'a>>,
}

impl<'a> Challenges<'a> {
    /// None where no challenge was evaluated.
    pub fn of(results: &'a Results) -> Option<Challenges<'a>> {
        let (levels, rows) = challenge_grid(results);
        (!rows.is_empty()).then_some(Challenges { levels, rows })
    }

    /// The scores' names, as they are in files.
    pub fn parts(&self) -> Vec<&'a str> {
        let first = self.all().flatten().next();
        first.map_or(vec![], |e| e.parts().into_iter().map(|(part, _)| part).collect())
    }

    /// All evaluations at a level, by its place.
    pub fn at(&self, level: usize) -> impl Iterator<Item = Option<&'a Evaluation>> {
        self.rows.iter().map(move |(_, row)| row[level])
    }

    /// All evaluations.
    pub fn all(&self) -> impl Iterator<Item = Option<&'a Evaluation>> {
        self.rows.iter().flat_map(|(_, row)| row.iter().copied())
    }

    /// Mean AUROC of the i-th score over those that there are.
    pub fn mean(of: impl Iterator<Item = Option<&'a Evaluation>>, part: usize) -> Option<f64> {
        let values: Vec<f64> =
            of.flatten().filter_map(|e| Some(e.parts().get(part)?.1.auroc)).collect();
        let sum: f64 = values.iter().sum();
        (!values.is_empty()).then(|| sum / values.len() as f64)
    }
}

fn challenge_grid(results: &Results) -> (Vec<u32>, Vec<ChallengeRow<'_>>) {
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

/// A share as people say it; never -0.
pub fn percent(share: f64) -> String {
    format!("{} %", (100.0 * share).round() + 0.0)
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

pub(super) fn header(out: &mut String, columns: &[String]) {
    line(out, columns.iter().cloned());
    let rule =
        columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.to_string());
    line(out, rule);
}

pub(super) fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// Text that cannot end its table cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
