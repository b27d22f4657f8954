//! `results.csv` and `results.md`.

use gradcon::report::results::Results;
use gradcon::report::tables;

use crate::samples::{over, results, seeds};

#[test]
fn tables_have_the_numbers_of_the_results() {
    let (folder, results) = (tempfile::tempdir().unwrap(), results(0.1));
    tables::write(&results, folder.path()).unwrap();
    let aurocs: Vec<f64> = results.headline().map(|(_, e)| e.full.auroc).collect();
    let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 3 + 2 * 3);
    let wanted = format!("T-shirt/top,50,full,30,30,{},", aurocs[0]);
    assert!(csv.contains(&wanted), "{wanted} not in\n{csv}");
    let markdown = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
    let mean = (aurocs[0] + aurocs[1]) / 2.0;
    let wanted = format!("| GradCon | {:.3} | {:.3} | {mean:.3} |", aurocs[0], aurocs[1]);
    assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
    let wanted = format!(
        "Data: `data/fm & nist`, SHA-256 of its manifest: `{}`.",
        results.about.data_sha256.unwrap()
    );
    assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
}

#[test]
fn files_over_seeds_say_means_deviations_and_each_seed() {
    let (folder, seeds) = (tempfile::tempdir().unwrap(), seeds());
    let over = over(&seeds);
    over.write(folder.path()).unwrap();
    tables::write(&over, folder.path()).unwrap();
    assert_eq!(Results::read(&folder.path().join("results.json")).unwrap(), over);
    let full = &over.headline().next().unwrap().1.full;
    let mean = over.headline_mean().unwrap().full;

    let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
    // The lines of one run: means, deviations, then three seeds.
    assert_eq!(csv.lines().count(), 1 + 5 * (2 * 2 * 3 + 2 * 3));
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let find = |seed: &str| {
        lines.iter().find(|l| l[..3] == ["T-shirt/top", "50", "full"] && l[12] == seed).unwrap()
    };
    assert_eq!(
        find("mean")[5..],
        [
            &full.auroc.to_string(),
            "",
            "",
            &full.aupr.to_string(),
            &full.f1.to_string(),
            "",
            &full.fpr95.to_string(),
            "mean"
        ]
    );
    assert_eq!(find("std")[5], full.std.unwrap().auroc.to_string());
    for (seed, results) in &seeds {
        assert_eq!(
            find(&seed.to_string())[5],
            results.headline().next().unwrap().1.full.auroc.to_string()
        );
    }
    // Whoever takes a class's first line gets the mean.
    assert_eq!(lines.iter().find(|l| l[0] == "T-shirt/top").unwrap()[12], "mean");

    let markdown = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
    let spread = |mean: f64, std: f64| format!("{mean:.3} \u{b1} {std:.3}");
    let cells = over
        .headline()
        .map(|(_, e)| spread(e.full.auroc, e.full.std.unwrap().auroc))
        .collect::<Vec<_>>();
    let wanted = format!(
        "| GradCon | {} | {} |",
        cells.join(" | "),
        spread(mean.auroc, mean.std.unwrap().auroc)
    );
    assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
    assert!(
        markdown.contains("the mean over 3 seeds (7, 1, 3) \u{b1} the sample standard deviation"),
        "{markdown}"
    );
    assert!(!markdown.contains(", seed 7"), "{markdown}");
    let own = seeds[1]
        .1
        .headline()
        .map(|(_, e)| format!("{:.3}", e.full.auroc))
        .collect::<Vec<_>>()
        .join(" | ");
    let wanted = format!("| 1 | {own} | {:.3} |", seeds[1].1.headline_mean().unwrap().full.auroc);
    assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
}
