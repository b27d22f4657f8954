//! An ablation as data, tables and a page: what the constraint, the variational model, each layer and
//! each part of a score add, over the epochs. Every number is that of one seed, or a mean over seeds
//! with its deviation.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::file::write_summary;
use super::found::{After, MEAN, Score, points};
use super::page::{self, Row, figure, row, table, with_deviation};
use super::results::{Formula, MeanMetrics};
use super::svg;
use super::table::{Number, to_csv};
use super::tables::{auroc, cell, header, label, line};
use crate::error::Result;
use crate::folders;

/// The version of the layout of `ablation.json`.
pub const SCHEMA_VERSION: u32 = 2;

/// The paper's rows, in its order, and ours behind them; which of them there are, the model says.
const SHOWN: [&str; 7] =
    ["reconstruction", "latent", "gradient", "sum", "code", "code-gradient", "auto"];

/// An ablation, as far as it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program that put it together.
    pub gradcon_version: String,
    /// When, in RFC 3339, UTC.
    pub date: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 of its manifest.
    pub data_sha256: String,
    /// The device that scored.
    pub device: String,
    /// Share of outliers in the test sets, in percent.
    pub outlier_percent: f64,
    /// Settings that all variants have, by name.
    pub settings: BTreeMap<String, String>,
    /// Seeds that the numbers are of.
    pub seeds: Vec<u64>,
    /// Names of the layers, encoder first.
    pub layers: Vec<String>,
    /// The models.
    pub variants: Vec<Variant>,
}

/// One model, trained with or without the constraint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its run, in the ablation's folder.
    pub folder: String,
    /// `cae` or `vae`.
    pub model: String,
    /// Weight of the constraint; 0: without.
    pub alpha: f64,
    /// What its scores are made of.
    pub formulas: Vec<Formula>,
    /// What was found after how many epochs, rising.
    pub after: Vec<After>,
}

impl Variant {
    /// What it is called.
    fn name(&self) -> String {
        let model = self.model.to_uppercase();
        if self.alpha == 0.0 { model } else { format!("{model} + constraint") }
    }

    /// What a score came to after all epochs.
    fn last(&self, class: &str, score: &str) -> Option<MeanMetrics> {
        self.after.last()?.find(class, score)
    }

    fn has(&self, score: &str) -> bool {
        self.after.iter().any(|after| after.find(MEAN, score).is_some())
    }

    fn shown(&self) -> Vec<&'static str> {
        SHOWN.into_iter().filter(|score| self.has(score)).collect()
    }
}

impl Ablation {
    /// Writes `ablation.json`, `.csv`, `.md` and `.html` into `folder`, each whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = folders::ablation(folder);
        write_summary(&json, self, &self.csv()?, &self.markdown(), &self.page())
    }

    /// The classes that occur, in order.
    fn classes(&self) -> Vec<&str> {
        let mut classes: Vec<&str> = vec![];
        for class in self.variants.iter().flat_map(|v| &v.after).flat_map(After::classes) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }

    /// The classes, and their mean where there are several.
    fn columns(&self) -> Vec<&str> {
        let mut classes = self.classes();
        if classes.len() > 1 {
            classes.push(MEAN);
        }
        classes
    }

    /// All numbers of epochs that occur, rising.
    fn epochs(&self) -> Vec<usize> {
        let mut epochs: Vec<usize> =
            self.variants.iter().flat_map(|v| &v.after).map(|after| after.epochs).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    /// `ablation.csv`: a line for every variant, number of epochs, class and score.
    ///
    /// # Errors
    /// None in practice: the table is written to memory.
    pub fn csv(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Line<'a> {
            model: &'a str,
            alpha: Number,
            seeds: usize,
            epochs: usize,
            class: &'a str,
            score: &'a str,
            auroc: Number,
            auroc_std: Option<Number>,
            aupr: Number,
            f1: Number,
            fpr95: Number,
        }
        let lines = self.variants.iter().flat_map(|variant| {
            variant.after.iter().flat_map(move |after| {
                after.scores.iter().map(move |Score { class, score, metrics: m }| Line {
                    model: &variant.model,
                    alpha: Number(variant.alpha),
                    seeds: self.seeds.len(),
                    epochs: after.epochs,
                    class,
                    score,
                    auroc: Number(m.auroc),
                    auroc_std: m.std.map(|std| Number(std.auroc)),
                    aupr: Number(m.aupr),
                    f1: Number(m.f1),
                    fpr95: Number(m.fpr95),
                })
            })
        });
        to_csv(None, lines)
    }

    /// What the numbers are of.
    fn summary(&self) -> String {
        let seeds = match self.seeds.len() {
            1 => String::new(),
            count => format!("; means over {count} seeds \u{b1} the sample standard deviation"),
        };
        format!("AUROC, {} % outliers{seeds}", self.outlier_percent)
    }

    /// The paper's table: a line for each variant and score, with its cells.
    fn by_score(&self, columns: &[&str]) -> Vec<(String, &'static str, Vec<Option<MeanMetrics>>)> {
        let rows = self.variants.iter().flat_map(|variant| {
            variant.shown().into_iter().map(|score| {
                let cells = columns.iter().map(|class| variant.last(class, score)).collect();
                (variant.name(), score, cells)
            })
        });
        rows.collect()
    }

    /// Mean AUROC by each layer's cosine alone.
    fn by_layer(&self) -> Vec<(String, Vec<Option<MeanMetrics>>)> {
        let row = |variant: &Variant| {
            let of = |layer: &String| variant.last(MEAN, layer);
            (variant.name(), self.layers.iter().map(of).collect())
        };
        self.variants.iter().map(row).collect()
    }

    /// Mean AUROC after each number of epochs.
    fn by_epochs(&self) -> Vec<(String, &'static str, Vec<Option<MeanMetrics>>)> {
        let epochs = self.epochs();
        let rows = self.variants.iter().flat_map(|variant| {
            let epochs = &epochs;
            variant.shown().into_iter().map(move |score| {
                let of = |epochs: &usize| {
                    let after = variant.after.iter().find(|after| after.epochs == *epochs)?;
                    after.find(MEAN, score)
                };
                (variant.name(), score, epochs.iter().map(of).collect())
            })
        });
        rows.collect()
    }

    /// The scores' formulas, each once.
    fn formulas(&self) -> Vec<String> {
        let mut all: Vec<String> = vec![];
        for variant in &self.variants {
            for Formula { score, formula } in &variant.formulas {
                let text = format!("{score} = {formula}");
                if SHOWN.contains(&score.as_str()) && !all.contains(&text) {
                    all.push(text);
                }
            }
        }
        all
    }

    /// `ablation.md`: the paper's table, the layers alone, and AUROC over epochs.
    pub fn markdown(&self) -> String {
        let mut out = format!("# Ablation on {}, GradCon\n\n", cell(&self.dataset));
        let _ = writeln!(
            out,
            "{}, gradcon {}, {}. SHA-256 of the data's manifest: `{}`.\n",
            cell(&self.date),
            cell(&self.gradcon_version),
            cell(&self.device),
            cell(&self.data_sha256)
        );
        let common = self.settings.iter().map(|(name, value)| format!("{name} {}", cell(value)));
        let _ = writeln!(out, "All have: {}.\n", common.collect::<Vec<_>>().join(", "));
        let number = |m: &Option<MeanMetrics>| m.map_or("-".to_string(), auroc);
        let classes = self.columns();
        let _ = writeln!(out, "{}:\n", self.summary());
        let named = |names: Vec<String>| -> Vec<String> {
            ["model", "score"].map(String::from).into_iter().chain(names).collect()
        };
        header(&mut out, &named(classes.iter().map(|class| cell(class)).collect()));
        for (name, score, cells) in self.by_score(&classes) {
            let head = [name, label(&[], score).to_string()];
            line(&mut out, head.into_iter().chain(cells.iter().map(number)));
        }
        let formulas = self.formulas();
        if !formulas.is_empty() {
            let _ = writeln!(out, "\n{}.", cell(&formulas.join("; ")));
        }
        let _ = writeln!(out, "\nMean AUROC by the cosine of one layer alone:\n");
        let names = ["model".to_string()].into_iter().chain(self.layers.iter().map(|l| cell(l)));
        header(&mut out, &names.collect::<Vec<_>>());
        for (name, cells) in self.by_layer() {
            line(&mut out, [name].into_iter().chain(cells.iter().map(number)));
        }
        let epochs: Vec<String> = self.epochs().iter().map(|e| format!("epoch {e}")).collect();
        if epochs.len() > 1 {
            let _ = writeln!(out, "\nMean AUROC over epochs:\n");
            header(&mut out, &named(epochs));
            for (name, score, cells) in self.by_epochs() {
                let head = [name, label(&[], score).to_string()];
                line(&mut out, head.into_iter().chain(cells.iter().map(number)));
            }
        }
        out
    }

    /// `ablation.html`: one page with everything inside.
    pub fn page(&self) -> String {
        let title = format!("Ablation on {}", self.dataset);
        let number = |m: &Option<MeanMetrics>| {
            html! {
                @if let Some(m) = m { (with_deviation(m.auroc, m.std.map(|s| s.auroc))) }
                @else { "-" }
            }
        };
        let classes = self.columns();
        let rows = |rows: Vec<(String, &str, Vec<Option<MeanMetrics>>)>| -> Vec<Row> {
            let of = |(name, score, cells): (String, &str, Vec<Option<MeanMetrics>>)| {
                let name = format!("{name}: {}", label(&[], score));
                row(&name, cells.iter().map(number).collect())
            };
            rows.into_iter().map(of).collect()
        };
        let layers = self.by_layer().into_iter();
        let layers = layers.map(|(name, cells)| row(&name, cells.iter().map(number).collect()));
        let epochs: Vec<String> = self.epochs().iter().map(|e| format!("epoch {e}")).collect();
        let body = html! {
            (table(
                &format!("{}, after all epochs, as the paper's table", self.summary()),
                "model: score",
                &classes,
                &rows(self.by_score(&classes)),
                &[],
            ))
            @if !self.formulas().is_empty() {
                p class="hint" { (self.formulas().join("; ")) "." }
            }
            (self.over_epochs())
            @if epochs.len() > 1 {
                (table(
                    "Mean AUROC over epochs",
                    "model: score",
                    &epochs,
                    &rows(self.by_epochs()),
                    &[],
                ))
            }
            (table(
                "Mean AUROC by the cosine of one layer alone",
                "model",
                &self.layers,
                &layers.collect::<Vec<_>>(),
                &[],
            ))
            (self.over_layers())
        };
        let facts =
            [("Date", &self.date), ("gradcon", &self.gradcon_version), ("Device", &self.device)];
        page::summary(&title, &facts, Some(&self.data_sha256), &self.settings, body)
    }

    /// A plot for each variant: its scores over the epochs.
    fn over_epochs(&self) -> Markup {
        let epochs = self.epochs();
        if epochs.len() < 2 {
            return html! {};
        }
        let labels: Vec<String> = epochs.iter().map(usize::to_string).collect();
        let all = self.by_epochs();
        let plots = self.variants.iter().map(|variant| {
            let name = variant.name();
            let of = |score: &&str| {
                let row = all.iter().find(|(of, s, _)| *of == name && s == score);
                row.map_or(vec![], |(_, _, cells)| points(cells))
            };
            let curves: Vec<Vec<svg::Point>> = SHOWN.iter().map(of).collect();
            let title = format!("Mean AUROC over epochs, {name}");
            figure("", svg::sensitivity(&title, "epochs", &labels, &curves, &[]), &name)
        });
        let occurs = |score: &str| self.variants.iter().any(|variant| variant.has(score));
        html! {
            h2 { "Over the epochs" }
            p class="keys" {
                @for (i, score) in SHOWN.iter().enumerate().filter(|(_, score)| occurs(score)) {
                    span class=(svg::seed_class(i)) { (label(&[], score)) } " "
                }
            }
            div class="plots" { @for plot in plots { (plot) } }
        }
    }

    /// The layers alone, a line for each variant.
    fn over_layers(&self) -> Markup {
        let rows = self.by_layer();
        let curves: Vec<Vec<svg::Point>> = rows.iter().map(|(_, cells)| points(cells)).collect();
        let plot = svg::sensitivity("Mean AUROC by layer", "layer", &self.layers, &curves, &[]);
        html! {
            p class="keys" {
                @for (i, (name, _)) in rows.iter().enumerate() {
                    span class=(svg::seed_class(i)) { (name) } " "
                }
            }
            div class="plots" { (figure("", plot, "By the cosine of one layer alone.")) }
        }
    }
}
