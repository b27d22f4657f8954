//! The report: one HTML file with everything inside (styles, plots as SVG, images as `data:`
//! addresses), no script and no address outside itself. Every number comes from the runs' files;
//! what a run lacks is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::epochs::Losses;
use super::extremes::Extreme;
use super::metrics::{Metrics, auroc, roc_curve};
use super::plot::Histogram;
use super::results::{
    About, ClassResult, Evaluation, Formula, MeanMetrics, OverSeeds, Results, truth,
};
use super::run::{ClassRun, Run};
use super::scores::ScoreRow;
use super::svg;
use super::tables::{
    Challenges, DECISION, DECISIONS, KIND, KINDS, PIXEL, PIXELS, UNTESTED, VALIDATED, VALIDATION,
    decision_rows, kind_rows, label, means_of, percent, pixel_rows, ratio_rows, three,
    threshold_words, validation_rows,
};
use crate::error::{Error, Result};
use crate::limits;

/// Characters of a hash that a reader compares.
const SHORT_HASH: usize = 12;

const FOOTER: &str = "Label 1 = anomalous; a higher score is more anomalous. GradCon: the \
                                 paper's score, reconstruction error - beta x mean cosine. AUROC: \
                                 area under the ROC curve; AUPR: average precision; F1: at its \
                                 best threshold; FPR95: false positive rate at 95 % true positive \
                                 rate. Intervals are 95 % bootstrap intervals over test images, \
                                 where given; \u{b1} is the sample standard deviation over seeds.";

/// The page of one or more runs; several get a table that compares them first.
///
/// # Errors
/// No run; scores that contradict the results they belong to; a tile that cannot be read.
pub fn page(runs: &[Run]) -> Result<String> {
    let Some(first) = runs.first() else {
        return Err(Error::Usage("a report needs at least one run folder".to_string()));
    };
    let several = runs.len() > 1;
    let title = match runs {
        [run] => format!("{} on {}", run.name, run.results.about.dataset),
        _ => format!("{} runs compared", runs.len()),
    };
    let level = if several { 2 } else { 1 };
    let sections = runs.iter().enumerate().map(|(i, run)| section(run, i, level));
    let sections = sections.collect::<Result<Vec<_>>>()?;
    let body = html! {
        @if several {
            h1 { (title) }
            (comparison(runs))
        }
        @for section in sections { (section) }
    };
    let footer = html! {
        p { (FOOTER) }
        p {
            "Evaluated by gradcon " (first.results.about.gradcon_version)
            ", laid out by gradcon " (env!("CARGO_PKG_VERSION")) "."
        }
    };
    Ok(document(&title, body, footer))
}

/// The page of what several trainings came to: facts, the data's manifest if it is one's, settings
/// that all of them have, and its body.
pub(super) fn summary(
    title: &str,
    facts: &[(&str, &String)],
    data_sha256: Option<&str>,
    settings: &BTreeMap<String, String>,
    body: Markup,
) -> String {
    let settings = settings.iter().filter(|(name, _)| *name != "data_sha256");
    let body = html! {
        h1 { (title) }
        dl class="facts" {
            @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
            @if let Some(hash) = data_sha256 {
                div { dt { "Manifest" } dd { abbr title=(hash) { (short(hash)) } } }
            }
            @for (name, value) in settings { div { dt { (name) } dd { (value) } } }
        }
        (body)
    };
    let footer = html! {
        p { (FOOTER) }
        p { "Laid out by gradcon " (env!("CARGO_PKG_VERSION")) "." }
    };
    document(title, body, footer)
}

/// A whole page around its body.
pub(super) fn document(title: &str, body: Markup, footer: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - GradCon report" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main {
                    p class="kicker" { "GradCon report" }
                    (body)
                    footer { (footer) }
                }
            }
        }
    };
    // HTML may hold no control characters, but names of classes, images and folders do.
    let mut page = page.into_string();
    page.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    page
}

/// Reads the run folders and lays out their page.
///
/// # Errors
/// As [`Run::read`] and [`page`].
pub fn page_of(folders: &[impl AsRef<Path>]) -> Result<String> {
    page(&folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<Vec<_>>>()?)
}

/// A row for each run: what it differs in from the others, and AUROC of every class.
fn comparison(runs: &[Run]) -> Markup {
    let mut classes: Vec<&str> = Vec::new();
    for (class, _) in runs.iter().flat_map(|run| run.results.headline()) {
        if !classes.contains(&class.class.as_str()) {
            classes.push(&class.class);
        }
    }
    // Numbers of other data, other classes or other shares of outliers have no best.
    let same_data = |run: &Run| {
        let About { dataset, data_sha256, .. } = &run.results.about;
        (dataset.clone(), data_sha256.clone(), run.results.headline_percent().map(f64::to_bits))
    };
    let class_names =
        |run: &Run| run.results.headline().map(|(c, _)| c.class.clone()).collect::<Vec<_>>();
    let comparable = runs.iter().all(|run| same_data(run) == same_data(&runs[0]));
    let same_classes =
        comparable && runs.iter().all(|run| class_names(run) == class_names(&runs[0]));
    let bold = match (comparable, same_classes) {
        (true, true) => "best of each column in bold",
        (true, false) => "best of each column in bold, but for means over different classes",
        (false, _) => {
            "the runs were evaluated on different data or shares of outliers, so none is best"
        }
    };
    let best = |wanted: bool, values: &[Option<f64>], cell: &dyn Fn(usize) -> Markup| {
        if wanted { bold_best(values, cell) } else { (0..values.len()).map(cell).collect() }
    };
    let means: Vec<_> =
        runs.iter().map(|run| run.results.headline_mean().map(|m| m.full)).collect();
    let values: Vec<Option<f64>> = means.iter().map(|mean| mean.map(|m| m.auroc)).collect();
    let mean = |i: usize| html! { @if let Some(m) = means[i] { (mean_cell(m)) } };
    let mut columns = vec![("mean".to_string(), best(same_classes, &values, &mean))];
    for class in classes.iter().filter(|_| classes.len() > 1) {
        let cells: Vec<Option<&Metrics>> = runs
            .iter()
            .map(|run| {
                run.results.headline().find(|(c, _)| c.class == *class).map(|(_, e)| &e.full)
            })
            .collect();
        let values: Vec<Option<f64>> = cells.iter().map(|cell| cell.map(|m| m.auroc)).collect();
        let cell = |i: usize| html! { @if let Some(m) = cells[i] { (auroc_cell(m)) } };
        columns.push((class.to_string(), best(comparable, &values, &cell)));
    }
    let differing: Vec<(String, Vec<String>)> = differing(runs);
    let names = differing.iter().map(|(name, _)| name).chain(columns.iter().map(|(name, _)| name));
    let names: Vec<&String> = names.collect();
    let of_run = |(i, run): (usize, &Run)| {
        let settings = differing.iter().map(|(_, values)| html! { (values[i]) });
        let numbers = columns.iter().map(|(_, cells)| cells[i].clone());
        row(&run.name, settings.chain(numbers).collect())
    };
    let caption = format!("AUROC of the anomaly score by run; {bold}");
    table(&caption, "run", &names, &runs.iter().enumerate().map(of_run).collect::<Vec<_>>(), &[])
}

/// What runs were made with and on, as far as they differ: names, each with a value of every run.
fn differing(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    fn settings(run: &Run) -> Option<&BTreeMap<String, Value>> {
        run.results.about.made.as_ref().map(|made| &made.settings)
    }
    let keys: BTreeSet<&String> = runs.iter().filter_map(settings).flat_map(|s| s.keys()).collect();
    // Said below, or in other words.
    const ELSEWHERE: [&str; 6] = ["data", "data_sha256", "inliers", "model", "seed", "seeds"];
    let keys = keys.into_iter().filter(|key| !ELSEWHERE.contains(&&key[..]));
    let of_key = |key: &String| {
        let value = |run: &Run| match settings(run).map(|settings| settings.get(key)) {
            Some(Some(Value::String(text))) => text.clone(),
            Some(Some(value)) => value.to_string(),
            Some(None) | None => "-".into(),
        };
        (key.clone(), runs.iter().map(value).collect())
    };
    let about = |name: &str, value: fn(&Run) -> String| {
        (name.to_string(), runs.iter().map(value).collect())
    };
    let facts = [
        about("data set", |run| run.results.about.dataset.clone()),
        about("manifest", |run| {
            run.results.about.data_sha256.as_deref().map_or("-".to_string(), short)
        }),
        about("outliers", |run| match &run.results.headline_shares()[..] {
            "-" => "-".into(),
            shares => format!("{shares} %"),
        }),
        about("model", |run| run.results.about.model.clone()),
        about("seeds", seeds_text),
        about("device", |run| run.results.about.device.clone()),
        about("date", |run| run.results.about.date.clone()),
    ];
    let differs = |(_, values): &(String, Vec<String>)| values.iter().any(|v| *v != values[0]);
    keys.map(of_key).chain(facts).filter(differs).collect()
}

/// Everything about one run, its heading at `level`.
fn section(run: &Run, index: usize, level: usize) -> Result<Markup> {
    let about = &run.results.about;
    let seed = if run.results.over_seeds.is_some() { "Seeds" } else { "Seed" };
    let facts = [
        ("Data set", about.dataset.clone()),
        ("Model", about.model.clone()),
        ("Device", about.device.clone()),
        ("gradcon", about.gradcon_version.clone()),
        ("Date", about.date.clone()),
        (seed, seeds_text(run)),
        ("beta", about.beta.to_string()),
    ];
    let class = |(i, class): (usize, &ClassResult)| -> Result<Markup> {
        // Of challenges there is a table already.
        let evaluation =
            run.results.headline().find(|(of, _)| of.class == class.class).map(|(_, e)| e);
        let content = match &run.results.over_seeds {
            None => class_section(
                class,
                evaluation,
                &run.trainings[0].classes[i],
                &run.results.about.scores,
            )?,
            Some(over) => class_of_seeds(run, over, i)?,
        };
        Ok(html! {
            section class="class" id=(anchor(index, i)) {
                (heading(level + 1, class_heading(class, evaluation)))
                (content)
            }
        })
    };
    let classes = run.results.classes.iter().enumerate().map(class).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section class="run" {
            (heading(level, html! { (run.name) }))
            dl class="facts" {
                @for (term, value) in facts { div { dt { (term) } dd { (value) } } }
                (data_fact(about))
            }
            (missing(run))
            (headline(run, index))
            (decisions(run))
            (ratios(run))
            @if let Some(over) = &run.results.over_seeds { (seeds(run, over)) }
            (challenges(run))
            @for class in classes { (class) }
            @if let Some(config) = &run.config {
                (heading(level + 1, html! { "Configuration" }))
                pre { (config.trim_end()) }
            }
        }
    })
}

fn heading(level: usize, content: Markup) -> Markup {
    html! {
        @match level {
            1 => h1 { (content) },
            2 => h2 { (content) },
            _ => h3 { (content) },
        }
    }
}

/// The address of a class's section in the page.
fn anchor(run: usize, class: usize) -> String {
    format!("run{run}-class{class}")
}

/// The beginning of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(SHORT_HASH).collect()
}

/// Which data the numbers are of: the folder, and the manifest's hash in short; the whole hash
/// shows on hover.
fn data_fact(about: &About) -> Markup {
    html! {
        @if about.data.is_some() || about.data_sha256.is_some() {
            div {
                dt { "Data" }
                dd {
                    @if let Some(folder) = &about.data { code { (folder) } " " }
                    @if let Some(hash) = &about.data_sha256 {
                        abbr title={ "SHA-256 of manifest.json: " (hash) } { (short(hash)) }
                    }
                }
            }
        }
    }
}

fn seeds_text(run: &Run) -> String {
    match (&run.results.over_seeds, run.results.about.seed) {
        (Some(over), _) => over.names(),
        (None, Some(seed)) => seed.to_string(),
        (None, None) => "not recorded".to_string(),
    }
}

/// Pieces of code, with commas between.
fn codes(texts: impl IntoIterator<Item = String>) -> Markup {
    html! {
        @for (i, text) in texts.into_iter().enumerate() {
            @if i > 0 { ", " }
            code { (text) }
        }
    }
}

fn missing(run: &Run) -> Markup {
    html! {
        @if !run.missing.is_empty() {
            p class="note" {
                "Not in this run, and so not in this page: "
                (codes(run.missing.iter().cloned())) "."
            }
        }
    }
}

fn headline(run: &Run, index: usize) -> Markup {
    let Some(mean) = run.results.headline_mean() else {
        return html! {};
    };
    let shares = run.results.headline_shares();
    let several = run.results.classes.len() > 1;
    let what = if several { "mean AUROC" } else { "AUROC" };
    let scores = &run.results.about.scores;
    let name = |part| label(scores, part);

    let body = run.results.headline().enumerate().map(|(i, (class, e))| {
        let parts: Vec<&Metrics> = e.parts().into_iter().map(|(_, m)| m).collect();
        let aurocs: Vec<Option<f64>> = parts.iter().map(|m| Some(m.auroc)).collect();
        let mut cells = vec![html! { (e.normal) }, html! { (e.anomalous) }];
        cells.extend(bold_best(&aurocs, |i| auroc_cell(parts[i])));
        cells.extend(other_cells(&e.full));
        Row { name: html! { a href={ "#" (anchor(index, i)) } { (class.class) } }, cells }
    });
    let mut foot = vec![];
    if several {
        let parts: Vec<&MeanMetrics> = mean.parts().into_iter().map(|(_, m)| m).collect();
        let aurocs: Vec<Option<f64>> = parts.iter().map(|m| Some(m.auroc)).collect();
        let mut cells = vec![html! {}, html! {}];
        cells.extend(bold_best(&aurocs, |i| mean_cell(*parts[i])));
        cells.extend(other_cells(mean.full));
        foot.push(row("mean", cells));
    }
    let caption = format!(
        "AUROC by score on test sets with {shares} % outliers, by the class taken as normal; best \
         of them in bold. AUPR, F1 and FPR95 are {}'s",
        name("full")
    );
    let names = mean.parts().into_iter().map(|(part, _)| name(part));
    let columns: Vec<&str> =
        ["normal", "anomalous"].into_iter().chain(names).chain(["AUPR", "F1", "FPR95"]).collect();
    let interval = run.results.headline().any(|(_, e)| e.full.auroc_95.is_some());
    let lines = match &run.results.over_seeds {
        Some(_) => "; lines reach one standard deviation over seeds to each side of the full score",
        None if interval => "; lines are 95 % intervals of the full score",
        None => "",
    };
    html! {
        div class="tiles" {
            @for (part, m) in mean.parts() {
                div class={ "tile " (part) } {
                    b { (mean_cell(*m)) } span { (what) ", " (name(part)) }
                }
            }
        }
        (table(&caption, "class", &columns, &body.collect::<Vec<_>>(), &foot))
        @if several {
            (figure(
                "wide",
                html! {
                    div class="scroll" {
                        (svg::aurocs("AUROC by inlier class", scores, run.results.headline()))
                    }
                },
                &format!("AUROC by inlier class: {} and the paper's parts alone{lines}.", name("full")),
            ))
        }
        @if !scores.is_empty() {
            p class="hint" {
                @for (i, Formula { score, formula }) in scores.iter().enumerate() {
                    @if i > 0 { "; " }
                    (label(scores, score)) " = " code { (formula) }
                }
                "."
            }
        }
    }
}

/// What the stored threshold comes to, and each kind of anomaly.
fn decisions(run: &Run) -> Markup {
    fn rows<const N: usize>(rows: Vec<(String, [String; N])>) -> Vec<Row> {
        let text = |text: String| html! { (text) };
        rows.into_iter()
            .map(|(name, texts)| row(&name, texts.into_iter().map(text).collect()))
            .collect()
    }
    let (by_class, kinds) = (decision_rows(&run.results), kind_rows(&run.results));
    let pixels = pixel_rows(&run.results);
    if run.results.is_untested() {
        let validation = validation_rows(&run.results);
        return html! {
            p class="note" { (UNTESTED) }
            @if !validation.is_empty() {
                (table(VALIDATION, "class", &VALIDATED, &rows(validation), &[]))
                @if let Some(words) = threshold_words(&run.results) { p class="note" { (words) } }
            }
        };
    }
    html! {
        @if !by_class.is_empty() {
            (table(DECISIONS, "class", &DECISION, &rows(by_class), &[]))
            @if let Some(words) = threshold_words(&run.results) { p class="note" { (words) } }
        }
        @if !kinds.is_empty() { (table(KINDS, "kind", &KIND, &rows(kinds), &[])) }
        @if !pixels.is_empty() { (table(PIXELS, "class", &PIXEL, &rows(pixels), &[])) }
    }
}

/// Means over classes by outlier percentage, where there are several.
fn ratios(run: &Run) -> Markup {
    let means = &run.results.means;
    if means.len() < 2 {
        return html! {};
    }
    let columns: Vec<String> =
        means.iter().map(|mean| format!("{} %", mean.outlier_percent)).collect();
    let caption = if run.results.classes.len() > 1 {
        "Means over classes by share of outliers in the test sets"
    } else {
        "By share of outliers in the test set"
    };
    let body = ratio_rows(&run.results)
        .into_iter()
        .map(|(name, texts)| row(&name, texts.into_iter().map(|text| html! { (text) }).collect()));
    table(caption, "metric", &columns, &body.collect::<Vec<_>>(), &[])
}

/// The seeds' own AUROCs, and where the rest of what they have is shown.
fn seeds(run: &Run, over: &OverSeeds) -> Markup {
    let columns: Vec<String> = over.seeds.iter().map(|seed| format!("seed {seed}")).collect();
    let body = run.results.headline().enumerate().map(|(i, (class, _))| {
        let of = |results: &Results| {
            html! { @if let Some((_, e)) = results.headline().nth(i) { (auroc_cell(&e.full)) } }
        };
        row(&class.class, over.runs.iter().map(of).collect())
    });
    let of = |results: &Results| {
        html! { @if let Some(m) = results.headline_mean() { (mean_cell(m.full)) } }
    };
    let several = run.results.classes.len() > 1;
    let foot = several.then(|| row("mean", over.runs.iter().map(of).collect()));
    let foot: Vec<Row> = foot.into_iter().collect();
    let pages = run.trainings.iter().map(|t| format!("gradcon report {}", t.folder.display()));
    let caption = "AUROC of the anomaly score by seed";
    html! {
        (table(caption, "class", &columns, &body.collect::<Vec<_>>(), &foot))
        p class="hint" {
            "Every other number on this page is " (means_of(over)) ". Histograms, cosines and the \
             most normal and most anomalous images are one model's, and on its own page: "
            (codes(pages)) "."
        }
    }
}

fn challenges(run: &Run) -> Markup {
    let Some(challenges) = Challenges::of(&run.results) else { return html! {} };
    let Challenges { levels, rows } = &challenges;
    let cell =
        |e: &Option<&Evaluation>| e.map_or(html! { "not evaluated" }, |e| auroc_cell(&e.full));
    let number = |value: Option<f64>| html! { (value.map_or("-".to_string(), three)) };
    let by_level = rows.iter().map(|(name, cells)| {
        let mean = number(Challenges::mean(cells.iter().copied(), 0));
        row(name, cells.iter().map(cell).chain([mean]).collect())
    });
    let means = (0..levels.len()).map(|i| number(Challenges::mean(challenges.at(i), 0)));
    let all = number(Challenges::mean(challenges.all(), 0));
    let foot = row("mean", means.chain([all]).collect());
    let columns: Vec<String> = levels.iter().map(|level| format!("level {level}")).collect();
    let columns: Vec<String> = columns.into_iter().chain(["mean".to_string()]).collect();

    let parts = challenges.parts();
    let name = |part: &str| label(&run.results.about.scores, part).to_string();
    let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
    let by_score = rows.iter().map(|(name, cells)| {
        let mean = |i| number(Challenges::mean(cells.iter().copied(), i));
        row(name, (0..parts.len()).map(mean).collect())
    });
    let means = (0..parts.len()).map(|i| number(Challenges::mean(challenges.all(), i)));
    let score_foot = row("mean", means.collect());

    let aurocs = |i: usize| {
        let of = |e: &Option<&Evaluation>| Some(e.as_ref()?.parts().get(i)?.1.auroc);
        rows.iter().map(|(_, cells)| cells.iter().map(of).collect()).collect::<Vec<Vec<_>>>()
    };
    let drawn = parts.iter().enumerate().filter(|(_, part)| svg::is_drawn(part));
    let plots = drawn.map(|(i, part)| {
        let title = format!("AUROC by level, {}", name(part));
        let caption = format!("{}: AUROC by level of the challenge.", name(part));
        figure("", svg::levels(&title, levels, &aurocs(i)), &caption)
    });
    let caption = "AUROC of the anomaly score: challenge-free against one challenge at one level";
    html! {
        (table(caption, "challenge", &columns, &by_level.collect::<Vec<_>>(), &[foot]))
        (table(
            "Mean AUROC over levels, by challenge and score",
            "challenge",
            &names,
            &by_score.collect::<Vec<_>>(),
            &[score_foot],
        ))
        @if levels.len() > 1 {
            p class="keys" {
                @for (i, (name, _)) in rows.iter().enumerate() {
                    span class=(svg::seed_class(i)) { (name) } " "
                }
            }
            div class="plots" { @for plot in plots { (plot) } }
        }
    }
}

fn class_heading(class: &ClassResult, evaluation: Option<&Evaluation>) -> Markup {
    let epochs = match (class.best_epoch, class.epochs) {
        (Some(best), Some(all)) => format!(", epoch {best} of {all}"),
        (Some(best), None) => format!(", epoch {best}"),
        (None, Some(all)) => format!(", {all} epochs"),
        (None, None) => String::new(),
    };
    let stopped = class.stopped_early.map(|patience| {
        format!(", stopped early: {patience} epochs without a better validation loss")
    });
    let epochs = epochs + &stopped.unwrap_or_default();
    let explained = class
        .explained_variance
        .map(|share| format!(", explains {} of the validation images' variance", percent(share)));
    let epochs = epochs + &explained.unwrap_or_default();
    let tiled = class.tiles.map(|tiled| format!(", by {tiled}"));
    let epochs = epochs + &tiled.unwrap_or_default();
    html! {
        (class.class) " "
        small {
            @if let Some(e) = evaluation { "AUROC " (auroc_cell(&e.full)) (epochs) }
            @else { (epochs.trim_start_matches(", ")) }
        }
    }
}

/// All scores of an image in the order of [`Evaluation::parts`], higher = more anomalous.
fn parts_of(row: &ScoreRow) -> Vec<f64> {
    [row.score, row.mse, -row.cos].into_iter().chain(row.more.iter().copied()).collect()
}

/// A score's values and the labels, true = anomalous.
///
/// # Errors
/// An AUROC that is not the one in `results.json`: a plot beside a number it does not belong to
/// would be a lie.
fn values(
    class: &str,
    rows: &[ScoreRow],
    part: usize,
    evaluation: &Evaluation,
) -> Result<(Vec<f64>, Vec<bool>)> {
    let labels = truth(rows)?;
    let (name, metrics) = evaluation.parts()[part];
    let of = |row: &ScoreRow| {
        parts_of(row).get(part).copied().ok_or_else(|| {
            Error::invalid(format!("class {class}: scores.csv has no score '{name}'"))
        })
    };
    let values: Vec<f64> = rows.iter().map(of).collect::<Result<_>>()?;
    let found = auroc(&values, &labels)?;
    if (found - metrics.auroc).abs() > 1e-9 {
        return Err(Error::invalid(format!(
            "class {class}: scores.csv gives AUROC {found} ({name}), results.json says {}",
            metrics.auroc
        )));
    }
    Ok((values, labels))
}

/// What is said of the divergence's plot.
const DIVERGENCE: &str = "KL divergence of the codes' distribution from the standard normal one, by the number of \
                          an image's values.";

/// Plots and pictures of one model.
fn class_section(
    class: &ClassResult,
    evaluation: Option<&Evaluation>,
    files: &ClassRun,
    formulas: &[Formula],
) -> Result<Markup> {
    let mut plots = vec![];
    let mut plot = |plot: Markup, caption: &str| plots.push(figure("", plot, caption));
    if let (Some(scores), Some(evaluation)) = (&files.scores, evaluation) {
        let rows = &scores.rows;
        let mut curves = Vec::new();
        for (i, (part, metrics)) in evaluation.parts().into_iter().enumerate() {
            let (values, labels) = values(&class.class, rows, i, evaluation)?;
            if svg::is_drawn(part) {
                let name = label(formulas, part).trim_end_matches(" only");
                curves.push((part, name, metrics.auroc, roc_curve(&values, &labels)?));
            }
        }
        plot(
            svg::roc(&format!("ROC curves of {}", class.class), &curves),
            &format!(
                "ROC curves with their AUROC: {} and the paper's two parts.",
                label(formulas, "full")
            ),
        );
        let side = |label: u8| {
            rows.iter().filter(|r| r.label == Some(label)).map(|r| r.score).collect::<Vec<_>>()
        };
        let (normal, anomalous) = (side(0), side(1));
        let best = evaluation.full.f1_threshold.map(|best| (best, "the threshold of the best F1"));
        let stored = evaluation.at_threshold.map(|c| (c.threshold, "the stored threshold"));
        if let Some((threshold, what)) = stored.or(best) {
            let bins = Histogram::of(&normal, &anomalous)?;
            let caption = format!(
                "Scores of {} normal and {} anomalous images, each side as a share of its own; \
                 dashed: {what}, {threshold:.4}.",
                normal.len(),
                anomalous.len()
            );
            plot(svg::histogram(&format!("Scores of {}", class.class), &bins, threshold), &caption);
        }
        plot(
            svg::cosines(&format!("Cosines by layer, {}", class.class), scores),
            "Cosine to the reference gradient by layer: box 25 to 75 %, whiskers 5 to \
             95 %, line median.",
        );
    }
    if let Some(epochs) = files.epochs.as_ref().map(|e| &e.rows[..]).filter(|rows| !rows.is_empty())
    {
        let title = |what: &str| format!("{what} over epochs, {}", class.class);
        plot(
            svg::training(&title("Loss"), "loss", epochs, |l| l.loss, false),
            "Training objective; dashed: the best epoch by validation.",
        );
        plot(
            svg::training(&title("Squared error"), "mean squared error", epochs, |l| l.mse, true),
            "Its reconstruction part.",
        );
        plot(
            svg::training(&title("Constraint"), "constraint", epochs, |l| l.constraint, false),
            "Its gradient part: the negative mean cosine, -1 = aligned.",
        );
        if epochs.iter().any(|row| row.train.divergence.is_some()) {
            let divergence = |l: &Losses| l.divergence.unwrap_or_default();
            plot(
                svg::training(&title("KL divergence"), "KL divergence", epochs, divergence, true),
                DIVERGENCE,
            );
        }
    }
    let mut strips = vec![];
    if let Some((folder, extremes)) = &files.extremes {
        let groups = extremes.groups().into_iter().filter(|(_, images)| !images.is_empty());
        for (title, images) in groups {
            let overlays = images.iter().any(|image| image.overlay.is_some());
            let images =
                images.iter().map(|image| extreme(folder, image)).collect::<Result<Vec<_>>>()?;
            strips.push(html! {
                figure class=(if overlays { "strip large" } else { "strip" }) {
                    figcaption {
                        (title) " by score, from the left. Rows: input, reconstruction, absolute \
                                 error (black 0 to pale yellow "
                        (format!("{:.2}", extremes.error_scale)) ")"
                        @if overlays {
                            ", input with the map of what is anomalous (yellow: as a thousandth of \
                             normal pixels; red: more)"
                        }
                        ". Frame and word: the truth."
                    }
                    ol { @for image in images { (image) } }
                }
            });
        }
    }
    Ok(html! {
        div class="plots" { @for plot in plots { (plot) } }
        @for strip in strips { (strip) }
    })
}

/// Plots of the i-th class with a curve for each seed.
fn class_of_seeds(run: &Run, over: &OverSeeds, i: usize) -> Result<Markup> {
    let class = &run.results.classes[i].class;
    let mut plots = vec![];
    let mut plot = |plot: Markup, caption: &str| plots.push(figure("", plot, caption));
    let classes = || run.trainings.iter().map(|t| &t.classes[i]);
    let scores: Vec<_> = classes().map(|c| c.scores.as_ref().map(|s| &s.rows[..])).collect();
    if let Some(scores) = scores.into_iter().collect::<Option<Vec<_>>>() {
        let mut curves = Vec::new();
        for ((rows, results), seed) in scores.into_iter().zip(&over.runs).zip(&over.seeds) {
            let Some((_, evaluation)) = results.headline().nth(i) else { continue };
            let (values, labels) = values(&format!("{class}, seed {seed}"), rows, 0, evaluation)?;
            curves.push(roc_curve(&values, &labels)?);
        }
        if !curves.is_empty() {
            plot(
                svg::roc_by_seed(&format!("ROC curves of {class} by seed"), &curves),
                "ROC curves of the full score, one for each seed.",
            );
        }
    }
    let epochs = classes().map(|c| c.epochs.as_ref().map(|e| &e.rows[..])).enumerate();
    let epochs: Vec<_> =
        epochs.filter_map(|(k, rows)| Some((k, rows.filter(|rows| !rows.is_empty())?))).collect();
    if !epochs.is_empty() {
        let mut training = |what: &str, name: &str, value, log, caption: &str| {
            let title = format!("{what} over epochs by seed, {class}");
            plot(svg::training_by_seed(&title, name, &epochs, value, log), caption);
        };
        training(
            "Loss",
            "validation loss",
            |l| l.loss,
            false,
            "Training objective on the validation images.",
        );
        training(
            "Squared error",
            "mean squared error",
            |l| l.mse,
            true,
            "Its reconstruction part.",
        );
        training(
            "Constraint",
            "constraint",
            |l| l.constraint,
            false,
            "Its gradient part: the negative mean cosine, -1 = aligned.",
        );
        if epochs.iter().any(|(_, rows)| rows.iter().any(|row| row.train.divergence.is_some())) {
            training(
                "KL divergence",
                "KL divergence",
                |l| l.divergence.unwrap_or_default(),
                true,
                DIVERGENCE,
            );
        }
    }
    Ok(html! {
        p class="keys" {
            @for (k, seed) in over.seeds.iter().enumerate() {
                span class=(svg::seed_class(k)) { "seed " (seed) } " "
            }
        }
        div class="plots four" { @for plot in plots { (plot) } }
    })
}

/// An image with what the model made of it; the truth shows in its colour.
fn extreme(folder: &Path, image: &Extreme) -> Result<Markup> {
    let truth = match image.label {
        Some(0) => "normal",
        Some(_) => "anomalous",
        None => "unknown",
    };
    let tile = |what: &str, file: &Path| -> Result<Markup> {
        let data = png_data(&folder.join(file))?;
        Ok(html! { img src=(data) alt={ (what) " of " (image.image) }; })
    };
    let tiles = [
        tile("input", &image.input)?,
        tile("reconstruction", &image.reconstruction)?,
        tile("error map", &image.error)?,
    ];
    let overlay = image.overlay.as_deref().map(|file| tile("map", file)).transpose()?;
    Ok(html! {
        li class=(truth) title=(image.image) {
            @for tile in tiles { (tile) }
            @if let Some(tile) = &overlay { (tile) }
            span {
                (format!("{:.4}", image.score)) br; (truth)
                @if let Some(class) = image.class.as_ref().filter(|class| *class != truth) {
                    br; (class)
                }
                // A file that one may want to look at.
                @if overlay.is_some() { br; small { (image.image) } }
            }
        }
    })
}

/// A PNG file as a `data:` address.
fn png_data(path: &Path) -> Result<String> {
    let bytes = limits::read(path, limits::TILE, "a picture of a page")?;
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err(Error::invalid(format!("{}: not a PNG file", path.display())));
    }
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(&bytes)))
}

pub(super) fn figure(class: &str, plot: Markup, caption: &str) -> Markup {
    html! { figure class=(class) { (plot) figcaption { (caption) } } }
}

/// A line of a table.
pub(super) struct Row {
    pub name: Markup,
    pub cells: Vec<Markup>,
}

pub(super) fn row(name: &str, cells: Vec<Markup>) -> Row {
    Row { name: html! { (name) }, cells }
}

/// A table; a wide one scrolls by itself.
pub(super) fn table(
    caption: &str,
    corner: &str,
    columns: &[impl AsRef<str>],
    body: &[Row],
    foot: &[Row],
) -> Markup {
    let lines = |rows: &[Row]| {
        html! {
            @for Row { name, cells } in rows {
                tr { th scope="row" { (name) } @for cell in cells { td { (cell) } } }
            }
        }
    };
    html! {
        div class="table" {
            table {
                caption { span { (caption) } }
                thead {
                    tr {
                        th scope="col" { (corner) }
                        @for column in columns { th scope="col" { (column.as_ref()) } }
                    }
                }
                tbody { (lines(body)) }
                @if !foot.is_empty() { tfoot { (lines(foot)) } }
            }
        }
    }
}

fn auroc_cell(m: &Metrics) -> Markup {
    html! {
        (mean_cell(m.into()))
        @if let Some(i) = m.auroc_95 {
            " " small { (format!("({:.3}\u{2013}{:.3})", i.low, i.high)) }
        }
    }
}

/// An AUROC with its deviation over seeds.
fn mean_cell(m: MeanMetrics) -> Markup {
    with_deviation(m.auroc, m.std.map(|s| s.auroc))
}

/// AUPR, F1 and FPR95.
fn other_cells(m: impl Into<MeanMetrics>) -> [Markup; 3] {
    let m: MeanMetrics = m.into();
    let std = m.std;
    [
        with_deviation(m.aupr, std.map(|s| s.aupr)),
        with_deviation(m.f1, std.map(|s| s.f1)),
        with_deviation(m.fpr95, std.map(|s| s.fpr95)),
    ]
}

pub(super) fn with_deviation(value: f64, std: Option<f64>) -> Markup {
    html! {
        (three(value))
        @if let Some(std) = std { " " small { "\u{b1} " (three(std)) } }
    }
}

/// Cells with the highest value in bold (all that share it as printed).
fn bold_best(values: &[Option<f64>], cell: impl Fn(usize) -> Markup) -> Vec<Markup> {
    let best = values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let is_best = |value: &Option<f64>| value.is_some_and(|value| three(value) == three(best));
    let text = |(i, value): (usize, &Option<f64>)| {
        if is_best(value) {
            html! { strong { (cell(i)) } }
        } else {
            cell(i)
        }
    };
    values.iter().enumerate().map(text).collect()
}
