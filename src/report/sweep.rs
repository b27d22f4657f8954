//! A sweep as data, tables and a page: which settings gave what. Every number is that of one seed,
//! or a mean over seeds with its deviation.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::file::write_summary;
use super::found::{MEAN, Score, scores_of};
use super::page::{self, Row, figure, row, table, with_deviation};
use super::results::{MeanMetrics, Results};
use super::svg;
use super::table::{Number, to_csv};
use super::tables::{auroc, cell, header, line, texts};
use crate::error::Result;
use crate::folders;

/// The version of the layout of `sweep.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// A sweep, as far as it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
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
    /// Share of outliers in the test sets, in percent; none before anything is evaluated.
    pub outlier_percent: Option<f64>,
    /// Settings that all combinations have, by name.
    pub settings: BTreeMap<String, String>,
    /// Names of the settings that differ, in order.
    pub varies: Vec<String>,
    /// Every combination, in the order of the plan.
    pub combinations: Vec<Combination>,
}

/// One combination of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// Its run, in the folder of the sweep.
    pub folder: String,
    /// Every setting that may differ, by name.
    pub settings: BTreeMap<String, f64>,
    /// Seeds that the numbers are of.
    pub seeds: Vec<u64>,
    /// Seeds that are not complete yet.
    pub missing: Vec<u64>,
    /// Models whose numbers stopped being finite, and when.
    pub diverged: Vec<String>,
    /// What was found, by class and score; empty while no seed is complete.
    pub scores: Vec<Score>,
}

/// A setting's value as people write it: with an exponent where it is very large or small.
///
/// ```
/// use gradcon::report::sweep::written;
///
/// assert_eq!([0.0, 0.0003, 1e-7, 1e30].map(written), ["0", "0.0003", "1e-7", "1e30"]);
/// ```
pub fn written(value: f64) -> String {
    let plain = value == 0.0 || (1e-4..1e6).contains(&value.abs());
    if plain { value.to_string() } else { format!("{value:e}") }
}

impl Combination {
    /// Puts in what was found for the seeds, of one or as means over several.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn with(mut self, results: &Results) -> Result<Combination> {
        self.scores = scores_of(results)?;
        Ok(self)
    }

    fn of(&self, class: &str, score: &str) -> Option<MeanMetrics> {
        let found = self.scores.iter().find(|s| s.class == class && s.score == score);
        found.map(|score| score.metrics)
    }

    fn auroc(&self) -> Option<f64> {
        self.of(MEAN, "full").map(|m| m.auroc)
    }

    fn value(&self, name: &str) -> f64 {
        self.settings.get(name).copied().unwrap_or(f64::NAN)
    }

    /// What is not there, in words.
    fn note(&self) -> String {
        let mut notes = vec![];
        if !self.missing.is_empty() {
            let seeds: Vec<String> = self.missing.iter().map(u64::to_string).collect();
            notes.push(format!("missing: seed {}", seeds.join(", ")));
        }
        match self.diverged.len() {
            0 => {}
            1 => notes.push("1 model diverged".into()),
            count => notes.push(format!("{count} models diverged")),
        }
        notes.join("; ")
    }
}

impl Sweep {
    /// Writes `sweep.json`, `.csv`, `.md` and `.html` into `folder`, each whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = folders::sweep(folder).with_extension("json");
        write_summary(&json, self, &self.csv()?, &self.markdown(), &self.page())
    }

    /// The classes that occur, in order.
    fn classes(&self) -> Vec<&str> {
        let mut classes = vec![];
        for score in self.combinations.iter().flat_map(|c| &c.scores) {
            if score.class != MEAN && !classes.contains(&score.class.as_str()) {
                classes.push(score.class.as_str());
            }
        }
        classes
    }

    /// The combination with the highest mean AUROC.
    fn best(&self) -> Option<&Combination> {
        let scored = self.combinations.iter().filter_map(|c| Some((c, c.auroc()?)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(c, _)| c)
    }

    /// `sweep.csv`: a line for every combination, class and score.
    ///
    /// # Errors
    /// None in practice: the table is written to memory.
    pub fn csv(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Line<'a> {
            alpha: Number,
            lr: Number,
            seeds: usize,
            class: &'a str,
            score: &'a str,
            auroc: Number,
            auroc_std: Option<Number>,
            aupr: Number,
            aupr_std: Option<Number>,
            f1: Number,
            f1_std: Option<Number>,
            fpr95: Number,
            fpr95_std: Option<Number>,
            folder: &'a str,
        }
        let lines = self.combinations.iter().flat_map(|combination| {
            combination.scores.iter().map(move |Score { class, score, metrics: m }| Line {
                alpha: Number(combination.value("alpha")),
                lr: Number(combination.value("lr")),
                seeds: combination.seeds.len(),
                class,
                score,
                auroc: Number(m.auroc),
                auroc_std: m.std.map(|std| Number(std.auroc)),
                aupr: Number(m.aupr),
                aupr_std: m.std.map(|std| Number(std.aupr)),
                f1: Number(m.f1),
                f1_std: m.std.map(|std| Number(std.f1)),
                fpr95: Number(m.fpr95),
                fpr95_std: m.std.map(|std| Number(std.fpr95)),
                folder: &combination.folder,
            })
        });
        to_csv(None, lines)
    }

    /// What the numbers are of.
    fn summary(&self) -> String {
        let percent = self.outlier_percent.map_or(String::new(), |p| format!(", {p} % outliers"));
        let several = self.combinations.iter().any(|c| c.seeds.len() > 1);
        let seeds =
            if several { "; means over seeds \u{b1} the sample standard deviation" } else { "" };
        format!("AUROC of the anomaly score and of its parts, mean over classes{percent}{seeds}")
    }

    /// The settings that differ, or all that may, where none does.
    fn columns(&self) -> Vec<&str> {
        self.varies.iter().map(String::as_str).collect()
    }

    /// `sweep.md`: one line for each combination.
    pub fn markdown(&self) -> String {
        let mut out = format!("# Sweep on {}, GradCon\n\n", cell(&self.dataset));
        let _ = writeln!(
            out,
            "{}, gradcon {}. SHA-256 of the data's manifest: `{}`.\n",
            cell(&self.date),
            cell(&self.gradcon_version),
            cell(&self.data_sha256)
        );
        let common = self.settings.iter().map(|(name, value)| format!("{name} {}", cell(value)));
        let _ = writeln!(out, "All have: {}.\n", common.collect::<Vec<_>>().join(", "));
        let _ = writeln!(out, "{}:\n", self.summary());
        let own = self.columns();
        let more = ["seeds", "AUROC", "reconstruction", "gradient", "AUPR", "F1", "FPR95", "notes"];
        let names: Vec<String> = own.iter().chain(&more).map(|name| name.to_string()).collect();
        header(&mut out, &names);
        for c in &self.combinations {
            let mut cells: Vec<String> = own.iter().map(|name| written(c.value(name))).collect();
            cells.push(c.seeds.len().to_string());
            match c.of(MEAN, "full") {
                Some(full) => {
                    let [auroc_of, rest @ ..] = texts(full);
                    let part = |name| c.of(MEAN, name).map_or("-".into(), auroc);
                    cells.extend([auroc_of, part("reconstruction"), part("gradient")]);
                    cells.extend(rest);
                }
                None => cells.extend(vec!["-".to_string(); 6]),
            }
            cells.push(c.note());
            line(&mut out, cells.into_iter());
        }
        let classes = self.classes();
        if classes.len() > 1 {
            let _ = writeln!(out, "\nAUROC of the anomaly score by class:\n");
            let names = own.iter().chain(&classes).map(|name| cell(name));
            header(&mut out, &names.collect::<Vec<_>>());
            for c in &self.combinations {
                let values = own.iter().map(|name| written(c.value(name)));
                let scores =
                    classes.iter().map(|class| c.of(class, "full").map_or("-".into(), auroc));
                line(&mut out, values.chain(scores));
            }
        }
        out
    }

    /// `sweep.html`: one page with everything inside, and a plot for each setting that differs.
    pub fn page(&self) -> String {
        let title = format!("Sweep on {}", self.dataset);
        let best = self.best();
        let body = html! {
            (self.missing())
            (self.overview(best))
            (self.plots(best))
            (self.by_class())
        };
        let facts = [("Date", &self.date), ("gradcon", &self.gradcon_version)];
        page::summary(&title, &facts, Some(&self.data_sha256), &self.settings, body)
    }

    fn missing(&self) -> Markup {
        let missing: usize = self.combinations.iter().map(|c| c.missing.len()).sum();
        let diverged: Vec<&String> = self.combinations.iter().flat_map(|c| &c.diverged).collect();
        html! {
            @if missing > 0 {
                p class="note" {
                    (missing) " of the sweep's trainings are not complete, and so not in these \
                     numbers; the table says which."
                }
            }
            @if !diverged.is_empty() {
                details class="note" {
                    summary { (diverged.len()) " models whose numbers stopped being finite" }
                    ul { @for what in diverged { li { (what) } } }
                }
            }
        }
    }

    fn name_of(&self, c: &Combination) -> String {
        let values: Vec<String> =
            self.varies.iter().map(|name| format!("{name} {}", written(c.value(name)))).collect();
        if values.is_empty() { c.folder.clone() } else { values.join(", ") }
    }

    fn overview(&self, best: Option<&Combination>) -> Markup {
        let noted = self.combinations.iter().any(|c| !c.note().is_empty());
        let mut columns =
            vec!["seeds", "AUROC", "reconstruction", "gradient", "AUPR", "F1", "FPR95"];
        columns.extend(noted.then_some("notes"));
        let of = |c: &Combination| {
            let number = |m: Option<MeanMetrics>, value: fn(&MeanMetrics) -> [Option<f64>; 2]| {
                html! {
                    @if let Some(m) = m {
                        @let [value, std] = value(&m);
                        (with_deviation(value.unwrap_or(f64::NAN), std))
                    } @else { "-" }
                }
            };
            let full = c.of(MEAN, "full");
            let auroc: fn(&MeanMetrics) -> [Option<f64>; 2] =
                |m| [Some(m.auroc), m.std.map(|s| s.auroc)];
            let first = number(full, auroc);
            let is_best = best.is_some_and(|best| best.folder == c.folder);
            let mut cells = vec![
                html! { (c.seeds.len()) },
                if is_best {
                    html! { strong { (first) } }
                } else {
                    first
                },
                number(c.of(MEAN, "reconstruction"), auroc),
                number(c.of(MEAN, "gradient"), auroc),
                number(full, |m| [Some(m.aupr), m.std.map(|s| s.aupr)]),
                number(full, |m| [Some(m.f1), m.std.map(|s| s.f1)]),
                number(full, |m| [Some(m.fpr95), m.std.map(|s| s.fpr95)]),
            ];
            cells.extend(noted.then(|| html! { (c.note()) }));
            Row { name: html! { (self.name_of(c)) }, cells }
        };
        let caption = format!("{}; the best in bold", self.summary());
        let rows: Vec<Row> = self.combinations.iter().map(of).collect();
        table(&caption, "settings", &columns, &rows, &[])
    }

    fn by_class(&self) -> Markup {
        let classes = self.classes();
        let of = |c: &Combination| {
            let value = |class: &&str| {
                html! {
                    @if let Some(m) = c.of(class, "full") {
                        (with_deviation(m.auroc, m.std.map(|s| s.auroc)))
                    } @else { "-" }
                }
            };
            row(&self.name_of(c), classes.iter().map(value).collect())
        };
        let rows: Vec<Row> = self.combinations.iter().map(of).collect();
        html! {
            @if classes.len() > 1 {
                (table("AUROC of the anomaly score by class", "settings", &classes, &rows, &[]))
            }
        }
    }

    /// A plot for each setting that differs.
    fn plots(&self, best: Option<&Combination>) -> Markup {
        let classes = self.classes();
        let plots: Vec<Markup> =
            self.varies.iter().filter_map(|name| self.plot(name, best?)).collect();
        html! {
            @if !plots.is_empty() {
                h2 { "AUROC over each setting" }
                @if classes.len() > 1 {
                    p class="keys" {
                        @for (i, class) in classes.iter().enumerate() {
                            span class=(svg::seed_class(i)) { (class) } " "
                        }
                    }
                }
                div class="plots" { @for plot in plots { (plot) } }
            }
        }
    }

    /// AUROC over one setting, the others being those of the best combination.
    fn plot(&self, name: &str, best: &Combination) -> Option<Markup> {
        let same = |c: &&Combination| {
            let others = self.varies.iter().filter(|other| *other != name);
            others.into_iter().all(|other| c.value(other) == best.value(other))
        };
        let mut along: Vec<&Combination> = self.combinations.iter().filter(same).collect();
        along.sort_by(|a, b| a.value(name).total_cmp(&b.value(name)));
        let labels: Vec<String> = along.iter().map(|c| written(c.value(name))).collect();
        let points = |class: &str| -> Vec<svg::Point> {
            let of = |c: &&Combination| {
                c.of(class, "full").map(|m| (m.auroc, m.std.map(|std| std.auroc)))
            };
            along.iter().map(of).collect()
        };
        let classes = self.classes();
        let curves: Vec<_> = match classes.len() {
            0 => return None,
            1 => vec![],
            _ => classes.iter().map(|class| points(class)).collect(),
        };
        let mean = points(MEAN);
        let others: Vec<String> = self
            .varies
            .iter()
            .filter(|other| *other != name)
            .map(|other| format!("{other} {}", written(best.value(other))))
            .collect();
        let at = if others.is_empty() {
            String::new()
        } else {
            format!(" at {}, those of the best combination", others.join(", "))
        };
        let deviation = mean.iter().flatten().any(|(_, std)| std.is_some());
        let bars = if deviation { "; bars reach one standard deviation to each side" } else { "" };
        let what = if classes.len() > 1 { "thick: the mean over classes" } else { classes[0] };
        let title = format!("AUROC over {name}");
        let caption = format!("AUROC of the anomaly score over {name}{at}; {what}{bars}.");
        let plot = svg::sensitivity(&title, name, &labels, &curves, &mean);
        Some(figure("plot", plot, &caption))
    }
}
