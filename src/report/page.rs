//! The report: one HTML file with everything inside (styles, plots as SVG, images as `data:`
//! addresses), no script and no address outside itself. Every number comes from the runs' files;
//! what a run lacks is named.

use std::fmt::Write;
use std::path::Path;

use super::extremes::Extreme;
use super::html::{escape, png_data};
use super::metrics::{Metrics, auroc, roc_curve};
use super::plot::Histogram;
use super::results::{About, ClassResult, Evaluation, MeanMetrics, OverSeeds, Results, truth};
use super::run::{ClassRun, Run};
use super::scores::ScoreRow;
use super::svg;
use super::tables::{RATIO_ROWS, SCORES, challenge_grid, means_of, three};
use crate::error::{Error, Result};

/// Characters of a hash that a reader compares.
const SHORT_HASH: usize = 12;

/// The page of one or more runs; several get a table that compares them first.
///
/// # Errors
/// No run; scores that contradict the results they belong to; a tile that cannot be read.
pub fn page(runs: &[Run]) -> Result<String> {
    let Some(first) = runs.first() else {
        return Err(Error::Usage("a report needs at least one run folder".to_owned()));
    };
    let title = match runs {
        [run] => format!("{} on {}", run.name, run.results.about.dataset),
        _ => format!("{} runs compared", runs.len()),
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"color-scheme\" \
         content=\"light dark\"/>\n<title>{} - \
         GradCon report</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escape(&title),
        include_str!("page.css"),
    );
    let _ = writeln!(out, "<p class=\"kicker\">GradCon report</p>");
    if runs.len() > 1 {
        let _ = writeln!(out, "<h1>{}</h1>", escape(&title));
        comparison(&mut out, runs);
    }
    for (i, run) in runs.iter().enumerate() {
        let level = if runs.len() > 1 { 2 } else { 1 };
        section(&mut out, run, i, level)?;
    }
    let _ = writeln!(
        out,
        "<footer><p>Label 1 = anomalous; a higher score is more anomalous. Anomaly score = \
         reconstruction error - beta x mean \
         cosine. AUROC: area under the ROC curve; AUPR: average precision; F1: at its best \
         threshold; FPR95: false positive rate \
         at 95 % true positive rate. Intervals are 95 % bootstrap intervals over test images, \
         where given; \u{b1} is the sample \
         standard deviation over seeds.</p><p>Evaluated by \
         gradcon {}, laid out by gradcon {}.</p></footer>",
        escape(&first.results.about.gradcon_version),
        env!("CARGO_PKG_VERSION"),
    );
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out)
}

/// Reads the run folders and lays out their page.
///
/// # Errors
/// As [`Run::read`] and [`page`].
pub fn page_of(folders: &[impl AsRef<Path>]) -> Result<String> {
    page(&folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<Vec<_>>>()?)
}

/// AUROC of every class of every run, side by side.
fn comparison(out: &mut String, runs: &[Run]) {
    let mut classes: Vec<&str> = Vec::new();
    for (class, _) in runs.iter().flat_map(|run| run.results.headline()) {
        if !classes.contains(&class.class.as_str()) {
            classes.push(&class.class);
        }
    }
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
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
        (true, true) => "best of each row in bold",
        (true, false) => "best of each row in bold, but for means over different classes",
        (false, _) => {
            "the runs were evaluated on different data or shares of outliers, so none is best"
        }
    };
    open_table(
        out,
        &format!("AUROC of the anomaly score by inlier class; {bold}"),
        "class",
        &names,
    );
    let best = |wanted: bool, values: &[Option<f64>], cell: &dyn Fn(usize) -> String| {
        if wanted { bold_best(values, cell) } else { (0..values.len()).map(cell).collect() }
    };
    for class in classes {
        let cells: Vec<Option<&Metrics>> = runs
            .iter()
            .map(|run| run.results.headline().find(|(c, _)| c.class == class).map(|(_, e)| &e.full))
            .collect();
        let values: Vec<Option<f64>> = cells.iter().map(|cell| cell.map(|m| m.auroc)).collect();
        row(
            out,
            class,
            &best(comparable, &values, &|i| cells[i].map_or(String::new(), auroc_cell)),
        );
    }
    out.push_str("</tbody><tfoot>");
    let means: Vec<_> =
        runs.iter().map(|run| run.results.headline_mean().map(|m| m.full)).collect();
    let values: Vec<Option<f64>> = means.iter().map(|mean| mean.map(|m| m.auroc)).collect();
    row(out, "mean", &best(same_classes, &values, &|i| means[i].map_or(String::new(), mean_cell)));
    let about =
        |value: fn(&Run) -> String| runs.iter().map(|run| escape(&value(run))).collect::<Vec<_>>();
    let percent =
        |run: &Run| run.results.headline_percent().map_or("-".to_owned(), |p| format!("{p} %"));
    row(out, "outliers", &about(percent));
    row(out, "data set", &about(|run| run.results.about.dataset.clone()));
    let hash = |run: &Run| {
        run.results
            .about
            .data_sha256
            .as_ref()
            .map_or("-".into(), |hash| hash.chars().take(SHORT_HASH).collect())
    };
    row(out, "manifest", &about(hash));
    row(out, "model", &about(|run| run.results.about.model.clone()));
    row(out, "seeds", &about(seeds_text));
    row(out, "device", &about(|run| run.results.about.device.clone()));
    row(out, "date", &about(|run| run.results.about.date.clone()));
    out.push_str("</tfoot></table></div>\n");
}

/// Everything about one run, its heading at `level`.
fn section(out: &mut String, run: &Run, index: usize, level: usize) -> Result<()> {
    let about = &run.results.about;
    let name = escape(&run.name);
    let _ =
        writeln!(out, "<section class=\"run\">\n<h{level}>{name}</h{level}>\n<dl class=\"facts\">");
    let seed = seeds_text(run);
    let facts = [
        ("Data set", &about.dataset),
        ("Model", &about.model),
        ("Device", &about.device),
        ("gradcon", &about.gradcon_version),
        ("Date", &about.date),
        (if run.results.over_seeds.is_some() { "Seeds" } else { "Seed" }, &seed),
        ("beta", &about.beta.to_string()),
    ];
    for (term, value) in facts {
        let _ = write!(out, "<div><dt>{term}</dt><dd>{}</dd></div>", escape(value));
    }
    data_fact(out, about);
    out.push_str("</dl>\n");
    missing(out, run);
    headline(out, run, index);
    ratios(out, run);
    if let Some(over) = &run.results.over_seeds {
        seeds(out, run, over);
    }
    challenges(out, run);
    for (i, (class, evaluation)) in run.results.headline().enumerate() {
        class_heading(out, class, evaluation, &format!("run{index}-class{i}"), level + 1);
        match &run.results.over_seeds {
            None => class_section(out, class, evaluation, &run.trainings[0].classes[i])?,
            Some(over) => class_of_seeds(out, run, over, i)?,
        }
        out.push_str("</section>\n");
    }
    if let Some(config) = &run.config {
        let heading = level + 1;
        let _ = writeln!(
            out,
            "<h{heading}>Configuration</h{heading}>\n<pre>{}</pre>",
            escape(config.trim_end())
        );
    }
    out.push_str("</section>\n");
    Ok(())
}

/// Which data the numbers are of: the folder, and the manifest's hash in short; the whole hash
/// shows on hover.
fn data_fact(out: &mut String, about: &About) {
    if about.data.is_none() && about.data_sha256.is_none() {
        return;
    }
    out.push_str("<div><dt>Data</dt><dd>");
    if let Some(folder) = &about.data {
        let _ = write!(out, "<code>{}</code> ", escape(folder));
    }
    if let Some(hash) = &about.data_sha256 {
        let (all, short) =
            (escape(hash), escape(&hash.chars().take(SHORT_HASH).collect::<String>()));
        let _ = write!(out, "<abbr title=\"SHA-256 of manifest.json: {all}\">{short}</abbr>");
    }
    out.push_str("</dd></div>");
}

fn seeds_text(run: &Run) -> String {
    match (&run.results.over_seeds, run.results.about.seed) {
        (Some(over), _) => over.names(),
        (None, Some(seed)) => seed.to_string(),
        (None, None) => "not recorded".to_owned(),
    }
}

fn missing(out: &mut String, run: &Run) {
    if run.missing.is_empty() {
        return;
    }
    let names: Vec<String> =
        run.missing.iter().map(|name| format!("<code>{}</code>", escape(name))).collect();
    let _ = writeln!(
        out,
        "<p class=\"note\">Not in this run, and so not in this page: {}.</p>",
        names.join(", ")
    );
}

fn headline(out: &mut String, run: &Run, index: usize) {
    let (Some(percent), Some(mean)) = (run.results.headline_percent(), run.results.headline_mean())
    else {
        return;
    };
    let several = run.results.classes.len() > 1;
    let what = if several { "mean AUROC" } else { "AUROC" };
    out.push_str("<div class=\"tiles\">");
    let parts = mean.parts().map(|(_, m)| *m);
    for ((name, m), class) in SCORES.iter().zip(parts).zip(["full", "reconstruction", "gradient"]) {
        let value = mean_cell(m);
        let _ = write!(
            out,
            "<div class=\"tile {class}\"><b>{value}</b><span>{what}, {name}</span></div>"
        );
    }
    out.push_str("</div>\n");
    let caption = format!(
        "Test sets with {percent} % outliers, by the class taken as normal; best of the three \
         AUROCs in bold"
    );
    let columns = ["normal", "anomalous", "AUROC", SCORES[1], SCORES[2], "AUPR", "F1", "FPR95"];
    open_table(out, &caption, "class", &columns);
    for (i, (class, e)) in run.results.headline().enumerate() {
        let parts = e.parts().map(|(_, m)| m);
        let mut cells = vec![e.normal.to_string(), e.anomalous.to_string()];
        cells.extend(bold_best(&parts.map(|m| Some(m.auroc)), |i| auroc_cell(parts[i])));
        cells.extend(other_cells(&e.full));
        let link = format!("<a href=\"#run{index}-class{i}\">{}</a>", escape(&class.class));
        linked_row(out, &link, &cells);
    }
    out.push_str("</tbody>");
    if several {
        let mut cells = vec![String::new(), String::new()];
        cells.extend(bold_best(&parts.map(|m| Some(m.auroc)), |i| mean_cell(parts[i])));
        cells.extend(other_cells(mean.full));
        out.push_str("<tfoot>");
        row(out, "mean", &cells);
        out.push_str("</tfoot>");
    }
    out.push_str("</table></div>\n");
    if several {
        let interval = run.results.headline().any(|(_, e)| e.full.auroc_95.is_some());
        let lines = match &run.results.over_seeds {
            Some(_) => {
                "; lines reach one standard deviation over seeds to each side of the full score"
            }
            None if interval => "; lines are 95 % intervals of the full score",
            None => "",
        };
        let plot = svg::aurocs("AUROC by inlier class", run.results.headline());
        let plot = format!("<div class=\"scroll\">{plot}</div>");
        figure(
            out,
            "wide",
            &plot,
            &format!("AUROC by inlier class: the full score and its two parts alone{lines}."),
        );
    }
}

/// Means over classes by outlier percentage, where there are several.
fn ratios(out: &mut String, run: &Run) {
    let means = &run.results.means;
    if means.len() < 2 {
        return;
    }
    let columns: Vec<String> =
        means.iter().map(|mean| format!("{} %", mean.outlier_percent)).collect();
    let caption = if run.results.classes.len() > 1 {
        "Means over classes by share of outliers in the test sets"
    } else {
        "By share of outliers in the test set"
    };
    open_table(out, caption, "metric", &columns);
    for (name, text) in RATIO_ROWS {
        row(out, name, &means.iter().map(text).collect::<Vec<_>>());
    }
    out.push_str("</tbody></table></div>\n");
}

/// The seeds' own AUROCs, and where the rest of what they have is shown.
fn seeds(out: &mut String, run: &Run, over: &OverSeeds) {
    let columns: Vec<String> = over.seeds.iter().map(|seed| format!("seed {seed}")).collect();
    open_table(out, "AUROC of the anomaly score by seed", "class", &columns);
    for (i, (class, _)) in run.results.headline().enumerate() {
        let of = |results: &Results| {
            results.headline().nth(i).map_or(String::new(), |(_, e)| auroc_cell(&e.full))
        };
        row(out, &class.class, &over.runs.iter().map(of).collect::<Vec<_>>());
    }
    out.push_str("</tbody>");
    if run.results.classes.len() > 1 {
        out.push_str("<tfoot>");
        let of = |results: &Results| {
            results.headline_mean().map_or(String::new(), |m| mean_cell(m.full))
        };
        row(out, "mean", &over.runs.iter().map(of).collect::<Vec<_>>());
        out.push_str("</tfoot>");
    }
    out.push_str("</table></div>\n");
    let pages: Vec<String> = run
        .trainings
        .iter()
        .map(|t| format!("<code>gradcon report {}</code>", escape(&t.folder.display().to_string())))
        .collect();
    let _ = writeln!(
        out,
        "<p class=\"hint\">Every other number on this page is {}. Histograms, cosines and the \
         most normal and most anomalous \
         images are one model's, and on its own page: {}.</p>",
        escape(&means_of(over)),
        pages.join(", ")
    );
}

fn challenges(out: &mut String, run: &Run) {
    let (levels, rows) = challenge_grid(&run.results);
    if rows.is_empty() {
        return;
    }
    let columns: Vec<String> = levels.iter().map(|level| format!("level {level}")).collect();
    open_table(
        out,
        "AUROC of the anomaly score: challenge-free against one challenge at one level",
        "challenge",
        &columns,
    );
    for (name, cells) in rows {
        let text =
            |e: Option<&Evaluation>| e.map_or("not evaluated".to_owned(), |e| auroc_cell(&e.full));
        row(out, name, &cells.into_iter().map(text).collect::<Vec<_>>());
    }
    out.push_str("</tbody></table></div>\n");
}

/// Opens the section of a class.
fn class_heading(
    out: &mut String,
    class: &ClassResult,
    evaluation: &Evaluation,
    id: &str,
    level: usize,
) {
    let name = escape(&class.class);
    let epochs = match (class.best_epoch, class.epochs) {
        (Some(best), Some(all)) => format!(", epoch {best} of {all}"),
        (Some(best), None) => format!(", epoch {best}"),
        (None, Some(all)) => format!(", {all} epochs"),
        (None, None) => String::new(),
    };
    let auroc_text = auroc_cell(&evaluation.full);
    let _ = writeln!(
        out,
        "<section class=\"class\" id=\"{id}\">\n<h{level}>{name} <small>AUROC \
         {auroc_text}{epochs}</small></h{level}>"
    );
}

/// The score and its two parts of an image, higher = more anomalous.
fn parts_of(row: &ScoreRow) -> [f64; 3] {
    [row.score, row.mse, -row.cos]
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
    let values: Vec<f64> = rows.iter().map(|row| parts_of(row)[part]).collect();
    let (found, (name, metrics)) = (auroc(&values, &labels)?, evaluation.parts()[part]);
    if (found - metrics.auroc).abs() > 1e-9 {
        return Err(Error::invalid(format!(
            "class {class}: scores.csv gives AUROC {found} ({name}), results.json says {}",
            metrics.auroc
        )));
    }
    Ok((values, labels))
}

/// Plots and pictures of one model.
fn class_section(
    out: &mut String,
    class: &ClassResult,
    evaluation: &Evaluation,
    files: &ClassRun,
) -> Result<()> {
    out.push_str("<div class=\"plots\">");
    if let Some(rows) = &files.scores {
        let mut curves = Vec::new();
        for (i, (part, metrics)) in evaluation.parts().into_iter().enumerate() {
            let (values, labels) = values(&class.class, rows, i, evaluation)?;
            let name = ["GradCon", "reconstruction", "gradient"][i];
            curves.push((part, name, metrics.auroc, roc_curve(&values, &labels)?));
        }
        let plot = svg::roc(&format!("ROC curves of {}", class.class), &curves);
        figure(out, "", &plot, "ROC curves with their AUROC: the full score and its two parts.");
        let side = |label: u8| {
            rows.iter().filter(|r| r.label == Some(label)).map(|r| r.score).collect::<Vec<_>>()
        };
        let (normal, anomalous) = (side(0), side(1));
        if let Some(threshold) = evaluation.full.f1_threshold {
            let bins = Histogram::of(&normal, &anomalous)?;
            let plot = svg::histogram(&format!("Scores of {}", class.class), &bins, threshold);
            let caption = format!(
                "Scores of {} normal and {} anomalous images, each side as a share of its own; \
                 dashed: the threshold of the best \
                 F1, {threshold:.4}.",
                normal.len(),
                anomalous.len()
            );
            figure(out, "", &plot, &caption);
        }
        let plot = svg::cosines(&format!("Cosines by decoder layer, {}", class.class), rows);
        let caption = "Cosine to the reference gradient by decoder layer: box 25 to 75 %, \
                       whiskers 5 to 95 %, line median.";
        figure(out, "", &plot, caption);
    }
    if let Some(epochs) = files.epochs.as_deref().filter(|epochs| !epochs.is_empty()) {
        let title = |what: &str| format!("{what} over epochs, {}", class.class);
        let plot = svg::training(&title("Loss"), "loss", epochs, |l| l.total, false);
        figure(out, "", &plot, "Training objective; dashed: the best epoch by validation.");
        let plot =
            svg::training(&title("Squared error"), "mean squared error", epochs, |l| l.mse, true);
        figure(out, "", &plot, "Its reconstruction part.");
        let plot =
            svg::training(&title("Gradient loss"), "gradient loss", epochs, |l| l.grad, false);
        figure(out, "", &plot, "Its gradient part: the negative mean cosine, -1 = aligned.");
    }
    out.push_str("</div>\n");
    if let Some((folder, extremes)) = &files.extremes {
        for (title, images) in
            [("Most normal", &extremes.most_normal), ("Most anomalous", &extremes.most_anomalous)]
        {
            let _ = write!(
                out,
                "<figure class=\"strip\"><figcaption>{title} by score, from the left. "
            );
            let _ = write!(
                out,
                "Rows: input, reconstruction, absolute error (black 0 to pale yellow {:.2}). \
                 Frame and word: the truth.",
                extremes.error_scale
            );
            out.push_str("</figcaption><ol>");
            for image in images {
                extreme(out, folder, image)?;
            }
            out.push_str("</ol></figure>\n");
        }
    }
    Ok(())
}

/// Plots of the i-th class with a curve for each seed.
fn class_of_seeds(out: &mut String, run: &Run, over: &OverSeeds, i: usize) -> Result<()> {
    let class = &run.results.classes[i].class;
    out.push_str("<p class=\"keys\">");
    for (k, seed) in over.seeds.iter().enumerate() {
        let _ = write!(out, "<span class=\"{}\">seed {seed}</span> ", svg::seed_class(k));
    }
    out.push_str("</p>\n<div class=\"plots four\">");
    let scores: Vec<_> = run.trainings.iter().map(|t| t.classes[i].scores.as_deref()).collect();
    if let Some(scores) = scores.into_iter().collect::<Option<Vec<_>>>() {
        let mut curves = Vec::new();
        for ((rows, results), seed) in scores.into_iter().zip(&over.runs).zip(&over.seeds) {
            let Some((_, evaluation)) = results.headline().nth(i) else { continue };
            let (values, labels) = values(&format!("{class}, seed {seed}"), rows, 0, evaluation)?;
            curves.push(roc_curve(&values, &labels)?);
        }
        let plot = svg::roc_by_seed(&format!("ROC curves of {class} by seed"), &curves);
        figure(out, "", &plot, "ROC curves of the full score, one for each seed.");
    }
    let epochs = run.trainings.iter().map(|t| t.classes[i].epochs.as_deref()).enumerate();
    let epochs: Vec<_> =
        epochs.filter_map(|(k, rows)| Some((k, rows.filter(|rows| !rows.is_empty())?))).collect();
    if !epochs.is_empty() {
        let title = |what: &str| format!("{what} over epochs by seed, {class}");
        let plot =
            svg::training_by_seed(&title("Loss"), "validation loss", &epochs, |l| l.total, false);
        figure(out, "", &plot, "Training objective on the validation images.");
        let plot = svg::training_by_seed(
            &title("Squared error"),
            "mean squared error",
            &epochs,
            |l| l.mse,
            true,
        );
        figure(out, "", &plot, "Its reconstruction part.");
        let plot = svg::training_by_seed(
            &title("Gradient loss"),
            "gradient loss",
            &epochs,
            |l| l.grad,
            false,
        );
        figure(out, "", &plot, "Its gradient part: the negative mean cosine, -1 = aligned.");
    }
    out.push_str("</div>\n");
    Ok(())
}

fn extreme(out: &mut String, folder: &Path, image: &Extreme) -> Result<()> {
    let (class, truth) = match image.label {
        Some(0) => ("normal", "normal"),
        Some(_) => ("anomalous", "anomalous"),
        None => ("unknown", "unknown"),
    };
    let name = escape(&image.image);
    let _ = write!(out, "<li class=\"{class}\" title=\"{name}\">");
    for (what, file) in [
        ("input", &image.input),
        ("reconstruction", &image.reconstruction),
        ("error map", &image.error),
    ] {
        let data = png_data(&folder.join(file))?;
        let _ = write!(out, "<img src=\"{data}\" alt=\"{what} of {name}\"/>");
    }
    let shown = image.class.as_deref().map_or(String::new(), |c| format!("<br/>{}", escape(c)));
    let _ = write!(out, "<span>{:.4}<br/>{truth}{shown}</span></li>", image.score);
    Ok(())
}

fn figure(out: &mut String, class: &str, plot: &str, caption: &str) {
    let _ = writeln!(
        out,
        "<figure class=\"{class}\">{plot}<figcaption>{}</figcaption></figure>",
        escape(caption)
    );
}

/// A table up to its first body row; a wide one scrolls by itself.
fn open_table(out: &mut String, caption: &str, corner: &str, columns: &[impl AsRef<str>]) {
    let caption = escape(caption);
    let _ = write!(
        out,
        "<div class=\"table\"><table><caption><span>{caption}</span></caption><thead><tr><th \
         scope=\"col\">{corner}</th>"
    );
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(column.as_ref()));
    }
    out.push_str("</tr></thead><tbody>");
}

/// A row of cells that are HTML already.
fn row(out: &mut String, name: &str, cells: &[String]) {
    linked_row(out, &escape(name), cells);
}

fn linked_row(out: &mut String, name: &str, cells: &[String]) {
    let _ = write!(out, "<tr><th scope=\"row\">{name}</th>");
    for cell in cells {
        let _ = write!(out, "<td>{cell}</td>");
    }
    out.push_str("</tr>");
}

fn auroc_cell(m: &Metrics) -> String {
    let interval =
        m.auroc_95.map(|i| format!(" <small>({:.3}\u{2013}{:.3})</small>", i.low, i.high));
    mean_cell(m.into()) + &interval.unwrap_or_default()
}

/// An AUROC with its deviation over seeds.
fn mean_cell(m: MeanMetrics) -> String {
    with_deviation(m.auroc, m.std.map(|s| s.auroc))
}

/// AUPR, F1 and FPR95.
fn other_cells(m: impl Into<MeanMetrics>) -> [String; 3] {
    let m: MeanMetrics = m.into();
    let std = m.std;
    [
        with_deviation(m.aupr, std.map(|s| s.aupr)),
        with_deviation(m.f1, std.map(|s| s.f1)),
        with_deviation(m.fpr95, std.map(|s| s.fpr95)),
    ]
}

fn with_deviation(value: f64, std: Option<f64>) -> String {
    std.map_or(three(value), |std| format!("{value:.3} <small>\u{b1} {std:.3}</small>"))
}

/// Cells with the highest value in bold (all that share it as printed).
fn bold_best(values: &[Option<f64>], cell: impl Fn(usize) -> String) -> Vec<String> {
    let best = values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let is_best = |value: &Option<f64>| value.is_some_and(|value| three(value) == three(best));
    let text = |(i, value): (usize, &Option<f64>)| {
        if is_best(value) { format!("<strong>{}</strong>", cell(i)) } else { cell(i) }
    };
    values.iter().enumerate().map(text).collect()
}
