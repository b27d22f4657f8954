//! The paper's experiments, run again: tables and a page of what they came to over the epochs, with
//! what others published beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::file::write_summary;
use super::found::{After, MEAN, Score, points};
use super::page::{self, Row, figure, row, table, with_deviation};
use super::published::Published;
use super::results::{Formula, MeanMetrics, Results};
use super::svg;
use super::table::{Number, to_csv};
use super::tables::{auroc, cell, header, label, line, texts, three};
use crate::error::Result;
use crate::folders;

/// The version of the layout of `reproduction.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// The paper's scores, in its order, and ours behind them; which of them there are, the model says.
const SHOWN: [&str; 7] =
    ["paper", "reconstruction", "gradient", "latent", "code", "code-gradient", "auto"];

/// A reproduction, as far as it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reproduction {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program that put it together.
    pub gradcon_version: String,
    /// When, in RFC 3339, UTC.
    pub date: String,
    /// Settings that all runs have, by name.
    pub settings: BTreeMap<String, String>,
    /// Seeds that the numbers are of.
    pub seeds: Vec<u64>,
    /// What was reproduced.
    pub datasets: Vec<Reproduced>,
    /// Datasets of the paper that were not at hand.
    pub absent: Vec<String>,
}

/// One dataset of a reproduction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reproduced {
    /// Its name.
    pub dataset: String,
    /// Its name in prose.
    pub title: String,
    /// SHA-256 of its manifest.
    pub data_sha256: String,
    /// The device that scored.
    pub device: String,
    /// Share of outliers in the test sets, in percent; none where challenges are told apart.
    pub outlier_percent: Option<f64>,
    /// Its run, in the folder of the reproduction.
    pub folder: String,
    /// What the scores are made of.
    pub formulas: Vec<Formula>,
    /// What was found after how many epochs, rising.
    pub after: Vec<After>,
    /// Means over classes at other shares of outliers, after all epochs.
    pub shares: Vec<Share>,
    /// What others published.
    pub published: Vec<Published>,
    /// In what the numbers are not those of the paper's experiment.
    pub differs: Vec<String>,
}

/// Means over classes at one share of outliers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Anomalous images in the test sets, in percent.
    pub outlier_percent: f64,
    /// By score.
    pub scores: Vec<Score>,
}

impl Share {
    /// All shares of an evaluation, where there are several.
    pub fn of(results: &Results) -> Vec<Share> {
        if results.means.len() < 2 {
            return vec![];
        }
        let first = results.about.scores.first().map_or("paper", |formula| &formula.score);
        let share = |mean: &super::results::MeanEvaluation| Share {
            outlier_percent: mean.outlier_percent,
            scores: mean
                .parts()
                .into_iter()
                .filter(|(part, _)| *part != first)
                .map(|(part, m)| Score {
                    class: MEAN.into(),
                    score: if part == "full" { first } else { part }.into(),
                    metrics: *m,
                })
                .collect(),
        };
        results.means.iter().map(share).collect()
    }

    fn find(&self, score: &str) -> Option<MeanMetrics> {
        self.scores.iter().find(|s| s.score == score).map(|s| s.metrics)
    }
}

/// A line of a table: its head, and a cell for each column.
type Line<T> = (String, Vec<T>);

impl Reproduced {
    /// The scores that were evaluated at some time, of those that are shown.
    fn shown(&self) -> Vec<&'static str> {
        let has = |score: &&str| self.after.iter().any(|after| after.find(MEAN, score).is_some());
        SHOWN.into_iter().filter(has).collect()
    }

    /// Epochs of the last evaluation.
    fn epochs(&self) -> usize {
        self.after.last().map_or(0, |after| after.epochs)
    }

    /// The classes, and their mean where there are several.
    fn columns(&self) -> Vec<&str> {
        let mut classes = self.after.last().map_or(vec![], After::classes);
        if classes.len() > 1 {
            classes.push(MEAN);
        }
        classes
    }

    /// What others found, in these columns.
    fn others(&self, columns: &[&str]) -> Vec<Line<Option<f64>>> {
        let value = |p: &Published, i: usize, column: &str| match column {
            MEAN => Some(p.mean),
            _ => p.by_class.get(i).copied(),
        };
        let of = |p: &Published| {
            let cells = columns.iter().enumerate().map(|(i, column)| value(p, i, column));
            (p.source.clone(), cells.collect())
        };
        self.published.iter().map(of).collect()
    }

    /// What was found after all epochs, a line for each score.
    fn by_score(&self, columns: &[&str]) -> Vec<Line<Option<MeanMetrics>>> {
        let last = self.after.last();
        let of = |score: &str| {
            let cells = columns.iter().map(|class| last?.find(class, score)).collect();
            (name(score), cells)
        };
        self.shown().into_iter().map(of).collect()
    }

    /// The mean over the epochs, a line for each score.
    fn by_epochs(&self) -> Vec<Line<Option<MeanMetrics>>> {
        let of = |score: &str| {
            let cells = self.after.iter().map(|after| after.find(MEAN, score)).collect();
            (name(score), cells)
        };
        self.shown().into_iter().map(of).collect()
    }

    /// F1 over the share of outliers, a line for each score.
    fn f1(&self) -> Vec<Line<Option<MeanMetrics>>> {
        let of = |score: &str| {
            let cells = self.shares.iter().map(|share| share.find(score)).collect();
            (name(score), cells)
        };
        self.shown().into_iter().map(of).collect()
    }

    fn percents(&self) -> Vec<String> {
        self.shares.iter().map(|share| format!("{} %", share.outlier_percent)).collect()
    }

    /// What its numbers are of.
    fn what(&self, seeds: usize) -> String {
        let seeds = match seeds {
            1 => String::new(),
            count => format!("; means over {count} seeds \u{b1} the sample standard deviation"),
        };
        let outliers = match self.outlier_percent {
            Some(percent) => format!("{percent} % outliers"),
            None => "challenge-free images against each challenge, means over its levels".into(),
        };
        format!("AUROC after {} epochs, {outliers}{seeds}", self.epochs())
    }

    /// In what it is not the paper's experiment.
    fn differs(&self) -> Option<String> {
        let differs = self.differs.join(", ");
        (!differs.is_empty()).then(|| format!("Not as in the paper: {differs}."))
    }

    /// The formulas of the scores that are shown.
    fn formulas(&self) -> String {
        let shown = |f: &&Formula| SHOWN.contains(&f.score.as_str());
        let of = |f: &Formula| format!("{} = {}", name(&f.score), f.formula);
        self.formulas.iter().filter(shown).map(of).collect::<Vec<_>>().join("; ")
    }
}

/// What a score is called for people.
fn name(score: &str) -> String {
    match score {
        "paper" => "GradCon, the paper's score".into(),
        other => label(&[], other).into(),
    }
}

fn text(m: &Option<MeanMetrics>) -> String {
    m.map_or("-".to_string(), auroc)
}

impl Reproduction {
    /// Writes `reproduction.json`, `.csv`, `.md` and `.html` into `folder`, each whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = folders::reproduction(folder);
        write_summary(&json, self, &self.csv()?, &self.markdown(), &self.page())
    }

    /// `reproduction.csv`: a line for every dataset, number of epochs, class and score, and for what
    /// others published.
    ///
    /// # Errors
    /// None in practice: the table is written to memory.
    pub fn csv(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Line<'a> {
            dataset: &'a str,
            source: &'a str,
            seeds: Option<usize>,
            epochs: Option<usize>,
            class: &'a str,
            score: &'a str,
            auroc: Number,
            auroc_std: Option<Number>,
            aupr: Option<Number>,
            f1: Option<Number>,
            fpr95: Option<Number>,
        }
        let mut lines = vec![];
        for of in &self.datasets {
            let columns = of.columns();
            for Published { source, mean, by_class } in &of.published {
                let classes = columns.iter().copied().zip(by_class.iter().copied());
                for (class, value) in classes.chain([(MEAN, *mean)]) {
                    lines.push(Line {
                        dataset: &of.dataset,
                        source,
                        seeds: None,
                        epochs: None,
                        class,
                        score: "paper",
                        auroc: Number(value),
                        auroc_std: None,
                        aupr: None,
                        f1: None,
                        fpr95: None,
                    });
                }
            }
            for after in &of.after {
                lines.extend(after.scores.iter().map(|Score { class, score, metrics: m }| Line {
                    dataset: &of.dataset,
                    source: "gradcon",
                    seeds: Some(self.seeds.len()),
                    epochs: Some(after.epochs),
                    class,
                    score,
                    auroc: Number(m.auroc),
                    auroc_std: m.std.map(|std| Number(std.auroc)),
                    aupr: Some(Number(m.aupr)),
                    f1: Some(Number(m.f1)),
                    fpr95: Some(Number(m.fpr95)),
                }));
            }
        }
        to_csv(None, lines)
    }

    /// The means of all datasets, a line each.
    fn overview(&self) -> (Vec<String>, Vec<Line<String>>) {
        let shown = |score: &&str| self.datasets.iter().any(|of| of.shown().contains(score));
        let scores: Vec<&str> = SHOWN.into_iter().filter(shown).collect();
        let columns = ["published", "epochs"].into_iter().map(String::from);
        let columns =
            columns.chain(scores.iter().map(|score| label(&[], score).to_string())).collect();
        let of = |of: &Reproduced| {
            let published: Vec<String> = of.published.iter().map(|p| three(p.mean)).collect();
            let published = if published.is_empty() { "-".into() } else { published.join("; ") };
            let found =
                scores.iter().map(|score| text(&of.after.last().and_then(|a| a.find(MEAN, score))));
            (
                of.title.clone(),
                [published, of.epochs().to_string()].into_iter().chain(found).collect(),
            )
        };
        (columns, self.datasets.iter().map(of).collect())
    }

    fn absent(&self) -> Option<String> {
        let absent = self.absent.join(", ");
        (!absent.is_empty()).then(|| format!("Not at hand, and so not here: {absent}."))
    }

    /// `reproduction.md`: the means, and for each dataset its classes and its curve.
    pub fn markdown(&self) -> String {
        let mut out = "# The paper's experiments, reproduced with GradCon\n\n".to_string();
        let _ = writeln!(out, "{}, gradcon {}.\n", cell(&self.date), cell(&self.gradcon_version));
        let common = self.settings.iter().map(|(name, value)| format!("{name} {}", cell(value)));
        let _ = writeln!(out, "All have: {}.\n", common.collect::<Vec<_>>().join(", "));
        let (columns, rows) = self.overview();
        let _ = writeln!(out, "Mean AUROC:\n");
        let corner = |corner: &str, names: Vec<String>| -> Vec<String> {
            [corner.to_string()].into_iter().chain(names).collect()
        };
        header(&mut out, &corner("dataset", columns));
        for (title, cells) in rows {
            line(&mut out, [cell(&title)].into_iter().chain(cells));
        }
        if let Some(absent) = self.absent() {
            let _ = writeln!(out, "\n{absent}");
        }
        for of in &self.datasets {
            let _ = writeln!(out, "\n## {}\n", cell(&of.title));
            let _ = writeln!(
                out,
                "{}. Run `{}`, {}. SHA-256 of the data's manifest: `{}`.\n",
                of.what(self.seeds.len()),
                cell(&of.folder),
                cell(&of.device),
                cell(&of.data_sha256)
            );
            if let Some(differs) = of.differs() {
                let _ = writeln!(out, "{}\n", cell(&differs));
            }
            let columns = of.columns();
            header(&mut out, &corner("score", columns.iter().map(|c| cell(c)).collect()));
            for (source, cells) in of.others(&columns) {
                let cells = cells.iter().map(|v| v.map_or("-".into(), three));
                line(&mut out, [source].into_iter().chain(cells));
            }
            for (name, cells) in of.by_score(&columns) {
                line(&mut out, [name].into_iter().chain(cells.iter().map(text)));
            }
            if !of.formulas.is_empty() {
                let _ = writeln!(out, "\n{}.", cell(&of.formulas()));
            }
            if of.after.len() > 1 {
                let _ = writeln!(out, "\nMean AUROC over the epochs:\n");
                let epochs = of.after.iter().map(|after| after.epochs.to_string());
                header(&mut out, &corner("score", epochs.collect()));
                for (name, cells) in of.by_epochs() {
                    line(&mut out, [name].into_iter().chain(cells.iter().map(text)));
                }
            }
            if !of.shares.is_empty() {
                let _ =
                    writeln!(out, "\nMean F1, each class's at its best threshold, by outliers:\n");
                header(&mut out, &corner("score", of.percents()));
                for (name, cells) in of.f1() {
                    let f1 = |m: &Option<MeanMetrics>| {
                        m.map_or("-".to_string(), |m| {
                            let [_, _, f1, _] = texts(m);
                            f1
                        })
                    };
                    line(&mut out, [name].into_iter().chain(cells.iter().map(f1)));
                }
            }
        }
        out
    }

    /// `reproduction.html`: one page with everything inside.
    pub fn page(&self) -> String {
        let (columns, rows) = self.overview();
        let plain = |(name, cells): Line<String>| {
            row(&name, cells.into_iter().map(|cell| html! { (cell) }).collect())
        };
        let body = html! {
            (table(
                "Mean AUROC",
                "dataset",
                &columns,
                &rows.into_iter().map(plain).collect::<Vec<_>>(),
                &[],
            ))
            @if let Some(absent) = self.absent() { p class="hint" { (absent) } }
            @for of in &self.datasets { (self.section(of)) }
        };
        let facts = [("Date", &self.date), ("gradcon", &self.gradcon_version)];
        page::summary("The paper's experiments, reproduced", &facts, None, &self.settings, body)
    }

    fn section(&self, of: &Reproduced) -> Markup {
        let number = |m: &Option<MeanMetrics>| {
            html! {
                @if let Some(m) = m { (with_deviation(m.auroc, m.std.map(|s| s.auroc))) }
                @else { "-" }
            }
        };
        let f1 = |m: &Option<MeanMetrics>| {
            html! {
                @if let Some(m) = m { (with_deviation(m.f1, m.std.map(|s| s.f1))) } @else { "-" }
            }
        };
        let rows = |lines: Vec<Line<Option<MeanMetrics>>>,
                    cell: &dyn Fn(&Option<MeanMetrics>) -> Markup| {
            let of = |(name, cells): Line<Option<MeanMetrics>>| {
                row(&name, cells.iter().map(cell).collect())
            };
            lines.into_iter().map(of).collect::<Vec<Row>>()
        };
        let columns = of.columns();
        let others = of.others(&columns).into_iter().map(|(source, cells)| {
            let cell = |v: &Option<f64>| html! { (v.map_or("-".into(), three)) };
            row(&source, cells.iter().map(cell).collect())
        });
        let classes: Vec<Row> = others.chain(rows(of.by_score(&columns), &number)).collect();
        let epochs: Vec<String> =
            of.after.iter().map(|after| format!("epoch {}", after.epochs)).collect();
        html! {
            h2 { (of.title) }
            p class="hint" {
                "Run " code { (of.folder) } ", " (of.device) ". Manifest " code { (of.data_sha256) } "."
            }
            @if let Some(differs) = of.differs() { p class="note" { (differs) } }
            (table(&of.what(self.seeds.len()), "score", &columns, &classes, &[]))
            @if !of.formulas.is_empty() { p class="hint" { (of.formulas()) "." } }
            @if epochs.len() > 1 {
                (curves(of))
                (table(
                    "Mean AUROC over the epochs",
                    "score",
                    &epochs,
                    &rows(of.by_epochs(), &number),
                    &[],
                ))
            }
            @if !of.shares.is_empty() {
                (table(
                    "Mean F1, each class's at its best threshold, by the share of outliers",
                    "score",
                    &of.percents(),
                    &rows(of.f1(), &f1),
                    &[],
                ))
            }
        }
    }
}

/// The means over the epochs, with the first of the published ones as a level.
fn curves(of: &Reproduced) -> Markup {
    let labels: Vec<String> = of.after.iter().map(|after| after.epochs.to_string()).collect();
    let mut lines: Vec<Line<svg::Point>> =
        of.by_epochs().into_iter().map(|(name, cells)| (name, points(&cells))).collect();
    if let Some(Published { source, mean, .. }) = of.published.first() {
        lines.push((source.clone(), vec![Some((*mean, None)); labels.len()]));
    }
    let curves: Vec<Vec<svg::Point>> = lines.iter().map(|(_, points)| points.clone()).collect();
    let title = format!("Mean AUROC over the epochs, {}", of.title);
    let plot = svg::sensitivity(&title, "epochs", &labels, &curves, &[]);
    html! {
        p class="keys" {
            @for (i, (name, _)) in lines.iter().enumerate() {
                span class=(svg::seed_class(i)) { (name) } " "
            }
        }
        (figure("alone", plot, "Mean AUROC; what is scored is the best epoch so far."))
    }
}
