//! The HTML page: well-formed, self-contained, complete, and true.

use std::path::Path;

use gradcon::folders::{self, EvalPlace};
use gradcon::report::epochs::{EpochRow, Losses, write_epochs};
use gradcon::report::page::{page, page_of};
use gradcon::report::results::*;
use gradcon::report::run::*;
use gradcon::report::scores::write_scores;
use gradcon::report::tables;

use crate::samples::{CLASSES, about, history, results, rows, table, write_run, write_seeds};

/// Elements without content, which have no end tag.
const VOID: [&str; 3] = ["meta", "br", "img"];

/// Says what is wrong with a document: open tags, attributes without quotes, bare ampersands.
fn malformed(html: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>")?;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        if let Some(at) = text.find('&') {
            let entity = text[at + 1..].split(';').next().unwrap_or_default();
            if !["amp", "lt", "gt", "quot"].contains(&entity) {
                return Some(format!("bare & before {:?}", &text[at..]));
            }
        }
        let Some(end) = rest[start..].find('>').map(|end| start + end) else {
            return Some("unclosed <".into());
        };
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(expected) if expected == name => {}
                other => return Some(format!("</{name}> closes {other:?}")),
            }
            continue;
        }
        let name = tag.split_whitespace().next().unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Some(format!("tag <{tag}>"));
        }
        // name="value" pairs: an even number of quotes, each opening one behind an equals sign.
        let quoted: Vec<&str> = tag[name.len()..].split('"').collect();
        let keys = quoted.iter().step_by(2).filter(|key| !key.trim().is_empty());
        if quoted.len().is_multiple_of(2)
            || keys.clone().any(|key| !key.ends_with('=') || key.matches('=').count() != 1)
        {
            return Some(format!("attributes of <{tag}>"));
        }
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    (!open.is_empty()).then(|| format!("left open: {open:?}"))
}

/// What in a page would make a reader leave the file.
fn external(html: &str) -> Option<String> {
    let inside = ["src=\"data:image/png;base64,", "href=\"#"];
    for key in ["src=", "href="] {
        for (at, _) in html.match_indices(key) {
            if !inside.iter().any(|allowed| html[at..].starts_with(allowed)) {
                return Some(html[at..].chars().take(60).collect());
            }
        }
    }
    let words =
        ["://", "<script", "<link", "<iframe", "@import", "url(", "srcset", "<base", "http-equiv"];
    words.iter().find(|word| html.contains(**word)).map(|word| word.to_string())
}

#[test]
fn the_page_checks_can_fail() {
    for broken in [
        "<p>",
        "<p></b>",
        "<p class=x></p>",
        "<p a=\"1></p>",
        "<p>a & b</p>",
        "<p>< b</p>",
        "<p",
        "<br/>",
        "</br>",
    ] {
        assert!(malformed(&format!("<!DOCTYPE html>{broken}")).is_some(), "{broken} passed");
    }
    assert_eq!(malformed("<!DOCTYPE html><p class=\"x\">a &amp; b<br><img alt=\"\"></p>"), None);
    for leaving in ["<img src=\"x.png\"/>", "<a href=\"b.html\">", "http://x", "<script>", "url(x)"]
    {
        assert!(external(leaving).is_some(), "{leaving} passed");
    }
    assert_eq!(external("<a href=\"#x\"><img src=\"data:image/png;base64,AA==\"/>"), None);
}

#[test]
fn a_page_is_well_formed_self_contained_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    let results = write_run(folder.path());
    let html = page_of(&[folder.path()]).unwrap();
    assert_eq!(malformed(&html), None);
    assert_eq!(external(&html), None);
    assert_eq!(html.matches("data:image/png;base64,").count(), 2 * 6 * 3, "tiles");
    assert_eq!(html.matches("<svg ").count(), 1 + 2 * 6, "plots");
    assert_eq!(
        html.matches("<svg ").count(),
        html.matches("role=\"img\"><title>").count(),
        "named plots"
    );
    assert_eq!(html.matches("<figure").count(), html.matches("<figcaption>").count(), "captions");
    assert_eq!(
        html.matches("<table>").count(),
        html.matches("<caption>").count(),
        "table captions"
    );
    assert!(!html.contains("Not in this run"), "nothing is missing");
    for (class, e) in results.headline() {
        let interval = e.full.auroc_95.unwrap();
        let cell = format!(
            "{:.3} <small>({:.3}\u{2013}{:.3})</small>",
            e.full.auroc, interval.low, interval.high
        );
        assert!(html.contains(&cell), "{}: {cell}", class.class);
        assert!(html.contains(&format!(
            "<td>{:.3}</td><td>{:.3}</td><td>{:.3}</td>",
            e.full.aupr, e.full.f1, e.full.fpr95
        )));
        assert!(html.contains(&format!("{:.4}", e.full.f1_threshold.unwrap())), "threshold");
    }
    let mean = results.headline_mean().unwrap();
    for value in [mean.full.auroc, mean.reconstruction.auroc, mean.gradient.auroc] {
        assert!(html.contains(&format!("<b>{value:.3}</b>")));
    }
    for text in [
        "9.8.7",
        "2026-01-02T03:04:05Z",
        "fmnist",
        "Test &quot;device&quot; &lt;1&gt;",
        "<dd>42</dd>",
        "<dd>0.12</dd>",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("alpha = 0.03 # &lt;0.1 &amp; &gt;0"), "configuration");
    assert!(html.contains("Bag &amp; &lt;Co&gt;") && !html.contains("<Co>"));
    assert!(html.contains("<code>data/fm &amp; nist</code>"), "the folder of the data");
    let hash = "0123456789abcdef".repeat(4);
    assert!(
        html.contains(&format!("manifest.json: {hash}\">0123456789ab</abbr>")),
        "short hash, whole on hover"
    );
    assert!(html.contains("epoch 2 of 3"));
    assert!(html.contains("@media print") && html.contains("prefers-color-scheme: dark"));
}

#[test]
fn no_name_opens_a_tag_or_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = results(0.1);
    results.classes[0].class = "<b a=\"x\">&\u{0}\u{1b}[1m".into();
    results.write(folder.path()).unwrap();
    let html = page_of(&[folder.path()]).unwrap();
    assert_eq!(malformed(&html), None);
    assert!(html.contains(">&lt;b a=&quot;x&quot;&gt;&amp;[1m<"), "as it is, and nothing more");
    assert!(!html.contains(|c: char| c.is_control() && c != '\n'), "control characters");
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let results = write_run(folder.path());
    let full = page_of(&[folder.path()]).unwrap();
    std::fs::remove_file(folder.path().join("config.toml")).unwrap();
    std::fs::remove_dir_all(folder.path().join("models/T-shirt-top")).unwrap();
    std::fs::remove_file(EvalPlace::own(folder.path()).class(CLASSES[1]).join("scores.csv"))
        .unwrap();
    std::fs::remove_file(EvalPlace::own(folder.path()).class(CLASSES[1]).join("extremes.json"))
        .unwrap();
    let run = Run::read(folder.path()).unwrap();
    let gone = [
        "config.toml",
        "models/T-shirt-top/metrics.csv",
        "eval/Bag----Co-/scores.csv",
        "eval/Bag----Co-/extremes.json",
    ];
    assert_eq!(run.missing.iter().map(|m| m.replace('\\', "/")).collect::<Vec<_>>(), gone);
    let html = page(&[run]).unwrap();
    assert_eq!(malformed(&html), None);
    for name in gone {
        assert!(html.contains(&format!("<code>{name}</code>")), "{name}");
    }
    assert_eq!(
        html.matches("<svg ").count(),
        full.matches("<svg ").count() - 6,
        "three plots of each class are gone"
    );
    assert!(html.contains(&format!("<b>{:.3}</b>", results.headline_mean().unwrap().full.auroc)));

    std::fs::remove_file(folder.path().join("results.json")).unwrap();
    let message = page_of(&[folder.path()]).unwrap_err().to_string();
    assert!(message.contains("no results.json"), "{message}");
    assert_eq!(page(&[]).unwrap_err().exit_code(), 2);
}

#[test]
fn scores_that_are_not_the_results_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let scores = EvalPlace::own(folder.path()).class(CLASSES[0]).join("scores.csv");
    write_scores(&scores, &table(rows(0.4))).unwrap();
    let message = page_of(&[folder.path()]).unwrap_err().to_string();
    assert!(message.contains("T-shirt/top") && message.contains("results.json says"), "{message}");
}

#[test]
fn an_index_to_no_png_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    std::fs::write(EvalPlace::own(folder.path()).class(CLASSES[0]).join("00-input.png"), "secret")
        .unwrap();
    let message = page_of(&[folder.path()]).unwrap_err().to_string();
    assert!(message.ends_with("00-input.png: not a PNG file"), "{message}");
}

#[test]
fn a_run_of_one_class_has_its_training_among_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let mut single = results(0.1);
    single.classes.truncate(1);
    Results::new(about(), single.classes, vec![]).unwrap().write(folder.path()).unwrap();
    let losses = Losses { loss: 0.1, mse: 0.1, constraint: 0.0, divergence: None };
    let row = EpochRow {
        epoch: 1,
        train: losses,
        validation: None,
        cosines: vec![0.0; 4],
        images_per_second: 1.0,
        best: true,
    };
    let metrics = folder.path().join("models/T-shirt-top/metrics.csv");
    write_epochs(&metrics, &history(vec![row])).unwrap();
    let html = page_of(&[folder.path()]).unwrap();
    assert_eq!(malformed(&html), None);
    assert_eq!(
        html.matches("<svg ").count(),
        3,
        "training curves of a single epoch without validation"
    );
    assert!(html.contains("<span>AUROC, GradCon</span>") && !html.contains("mean AUROC"));
    assert_eq!(html.matches("\">1</text>").count(), 3, "the only epoch is named on each axis");
    assert!(!html.contains("NaN") && !html.contains("inf "), "a coordinate is no number");
}

#[test]
fn a_page_over_seeds_is_complete_and_shows_means() {
    let folder = tempfile::tempdir().unwrap();
    let over = write_seeds(folder.path());
    let run = Run::read(folder.path()).unwrap();
    assert_eq!((run.missing.len(), run.trainings.len()), (0, 3), "{:?}", run.missing);
    let html = page(&[run]).unwrap();
    assert_eq!(malformed(&html), None);
    assert_eq!(external(&html), None);
    assert!(!html.contains("Not in this run"), "nothing is missing");
    assert_eq!(
        html.matches("<svg ").count(),
        1 + 2 * 4,
        "classes, then ROC and three losses of each"
    );
    for (_, m) in over.headline_mean().unwrap().parts() {
        let std = m.std.unwrap().auroc;
        assert!(
            html.contains(&format!("<b>{:.3} <small>\u{b1} {std:.3}</small></b>", m.auroc)),
            "{m:?}"
        );
    }
    for (class, e) in over.headline() {
        let std = e.full.std.unwrap();
        for (value, std) in
            [(e.full.auroc, std.auroc), (e.full.aupr, std.aupr), (e.full.fpr95, std.fpr95)]
        {
            assert!(
                html.contains(&format!("{value:.3} <small>\u{b1} {std:.3}</small>")),
                "{}",
                class.class
            );
        }
    }
    for text in [
        "<dd>7, 1, 3</dd>",
        "seed 7</th>",
        "3 seeds (7, 1, 3)",
        "seed-1</code>",
        "seeds = [7, 1, 3]",
    ] {
        assert!(html.contains(text), "{text}");
    }
    // One curve for each seed: each class has four plots.
    assert_eq!(html.matches("class=\"line s2 solid\"").count(), 2 * 4);

    // What is missing is missing of a seed.
    std::fs::remove_file(folders::seed(folder.path(), 1).join("models/T-shirt-top/metrics.csv"))
        .unwrap();
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.missing, ["seed-1/models/T-shirt-top/metrics.csv"]);
    let html = page(&[run]).unwrap();
    assert_eq!(malformed(&html), None);
    assert!(html.contains("<code>seed-1/models/T-shirt-top/metrics.csv</code>"));

    // Scores of another evaluation than the results'.
    write_scores(
        &EvalPlace::own(&folders::seed(folder.path(), 3)).class(CLASSES[1]).join("scores.csv"),
        &table(rows(0.4)),
    )
    .unwrap();
    let message = page_of(&[folder.path()]).unwrap_err().to_string();
    assert!(
        message.contains("Bag & <Co>, seed 3") && message.contains("results.json says"),
        "{message}"
    );
}

#[test]
fn an_evaluation_on_other_data_has_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("shoes");
    std::fs::create_dir(&run).unwrap();
    write_run(&run);
    let move_to_other = |run: &Path| {
        let place = EvalPlace::other(run, "new");
        std::fs::rename(run.join("eval"), &place.results).unwrap();
        std::fs::rename(run.join("results.json"), place.results.join("results.json")).unwrap();
        place.results
    };
    let read = Run::read(&move_to_other(&run)).unwrap();
    assert_eq!(
        (read.name.as_str(), read.missing.len()),
        ("shoes/eval-new", 0),
        "{:?}",
        read.missing
    );
    assert!(read.config.as_ref().unwrap().contains("alpha"), "the run's configuration");
    let html = page(&[read]).unwrap();
    assert_eq!(malformed(&html), None);
    assert!(
        html.contains("<title>shoes/eval-new on fmnist")
            && html.contains("<code>data/fm &amp; nist</code>")
    );
    assert_eq!(html.matches("<svg ").count(), 1 + 2 * 6, "plots");
    assert_eq!(html.matches("data:image/png;base64,").count(), 2 * 6 * 3, "tiles");

    // The same of several seeds.
    let seeds = folder.path().join("seeds");
    write_seeds(&seeds);
    for seed in [7, 1, 3] {
        move_to_other(&folders::seed(&seeds, seed));
    }
    let other = EvalPlace::other(&seeds, "new").results;
    std::fs::create_dir(&other).unwrap();
    std::fs::rename(seeds.join("results.json"), other.join("results.json")).unwrap();
    let read = Run::read(&other).unwrap();
    assert_eq!(
        (read.name.as_str(), read.missing.len()),
        ("seeds/eval-new", 0),
        "{:?}",
        read.missing
    );
    assert_eq!(page(&[read]).unwrap().matches("<svg ").count(), 1 + 2 * 4, "plots");

    // A run may be called so itself.
    let own = folder.path().join("eval-run");
    std::fs::create_dir(&own).unwrap();
    write_run(&own);
    assert_eq!(Run::read(&own).unwrap().name, "eval-run");
}

#[test]
fn several_runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("first"), folder.path().join("second"));
    let (first, second) = (results(0.1), results(0.2));
    first.write(&a).unwrap();
    second.write(&b).unwrap();
    let html = page_of(&[a, b]).unwrap();
    assert_eq!(malformed(&html), None);
    assert_eq!(external(&html), None);
    assert!(html.contains("2 runs compared"));
    let ids: Vec<&str> = html
        .match_indices(" id=\"")
        .map(|(at, _)| html[at + 5..].split('"').next().unwrap())
        .collect();
    let unique: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), unique.len()), (4, 4), "{ids:?}");
    let (x, y) =
        (first.headline_mean().unwrap().full.auroc, second.headline_mean().unwrap().full.auroc);
    assert!(y > x, "the second run separates better");
    for wanted in [
        format!("<th scope=\"row\">first</th><td>{x:.3}</td>"),
        format!("<th scope=\"row\">second</th><td><strong>{y:.3}</strong></td>"),
    ] {
        assert!(html.contains(&wanted), "{wanted}");
    }
    // Nothing else differs.
    let columns = html.split("</thead>").next().unwrap();
    assert!(!columns.contains(">seeds<") && !columns.contains(">device<"), "{columns}");

    // A mean over other classes is no better or worse, and neither is any number of other data.
    let compared = |second: &Results| {
        let (a, b) = (folder.path().join("first"), folder.path().join("second"));
        second.write(&b).unwrap();
        page_of(&[a, b]).unwrap()
    };
    let mut fewer = second.classes.clone();
    fewer.truncate(1);
    let html = compared(&Results::new(about(), fewer, vec![]).unwrap());
    assert!(html.contains("<th scope=\"row\">second</th><td>0."), "no best mean");
    assert!(html.contains("but for means over different classes"));
    let made = |alpha: f64| Made {
        settings: [("alpha".into(), alpha.into()), ("lr".into(), 0.001.into())].into(),
        command: "gradcon eval".into(),
        evaluation_seconds: 1.0,
        trained_on: vec![],
        gradcon_commit: None,
        wgpu_version: "30".into(),
    };
    let mut other = second.clone();
    (other.about.made, other.about.seed) = (Some(made(0.3)), Some(7));
    let html = compared(&other);
    let columns = html.split("</thead>").next().unwrap();
    for name in ["alpha", "lr", "seeds", "mean"] {
        assert!(columns.contains(&format!(">{name}</th>")), "{name}: {columns}");
    }
    let row = "<th scope=\"row\">second</th><td>0.3</td><td>0.001</td><td>7</td>";
    assert!(html.contains(row), "{html}");
    let mut elsewhere = second.clone();
    elsewhere.about.data_sha256 = Some("f".repeat(64));
    let html = compared(&elsewhere);
    let table = html.split("</table>").next().unwrap();
    assert!(
        table.contains("evaluated on different data") && !table.contains("<strong>"),
        "{table}"
    );
}

#[test]
fn challenges_have_a_table_of_levels() {
    let folder = tempfile::tempdir().unwrap();
    let at = |shift: f64| Evaluation::of(50.0, &table(rows(shift)), None).unwrap();
    let entry = |challenge: &str, level, shift| ChallengeResult {
        challenge: challenge.into(),
        level,
        evaluation: at(shift),
    };
    let challenges = vec![entry("Rain", 5, 0.3), entry("Rain", 1, 0.1), entry("Haze", 5, 0.2)];
    let results = Results::new(about(), vec![], challenges).unwrap();
    results.write(folder.path()).unwrap();
    let markdown = tables::markdown(&results);
    let three = |shift: f64| format!("{:.3}", at(shift).full.auroc);
    assert!(markdown.contains("| challenge | level 1 | level 5 | mean |"), "{markdown}");
    let part = |shift: f64, i: usize| at(shift).parts()[i].1.auroc;
    let mean = |shifts: &[f64], i: usize| {
        let sum: f64 = shifts.iter().map(|&shift| part(shift, i)).sum();
        format!("{:.3}", sum / shifts.len() as f64)
    };
    let rain = format!("| Rain | {} | {} | {} |", three(0.1), three(0.3), mean(&[0.1, 0.3], 0));
    assert!(markdown.contains(&rain), "{markdown}");
    let haze = format!("| Haze | - | {} | {} |", three(0.2), three(0.2));
    assert!(markdown.contains(&haze), "{markdown}");
    let means = format!(
        "| mean | {} | {} | {} |",
        three(0.1),
        mean(&[0.3, 0.2], 0),
        mean(&[0.3, 0.1, 0.2], 0)
    );
    assert!(markdown.contains(&means), "{markdown}");
    let scores = format!("| Rain | {} |", [0, 1, 2].map(|i| mean(&[0.1, 0.3], i)).join(" | "));
    assert!(markdown.contains(&scores), "{markdown}");
    let html = page_of(&[folder.path()]).unwrap();
    assert_eq!(malformed(&html), None);
    let wanted =
        format!("<th scope=\"row\">Haze</th><td>not evaluated</td><td>{}</td>", three(0.2));
    assert!(html.contains(&wanted), "{wanted}");
    assert_eq!(html.matches("AUROC by level of the challenge").count(), 3, "a plot for each score");
}
