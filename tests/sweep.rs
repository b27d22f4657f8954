//! Sweeps as a user meets them: in one go, interrupted, as jobs of a scheduler; every model is that
//! of a training alone.

mod place;

use std::path::Path;

use place::{Place, Running, read, text};

const COMMON: &str =
    "--data data --inlier 1,7 --batch-size 16 --init kaiming --device cpu --epochs";
const SWEPT: &str = "--alpha 0,0.03 --lr 1e-3,3e-4 --seeds 0-1";

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Every file of these names below a folder.
fn files(folder: &Path, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    let mut folders = vec![folder.to_path_buf()];
    while let Some(open) = folders.pop() {
        for entry in std::fs::read_dir(open).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if names.contains(&path.file_name().unwrap().to_str().unwrap()) {
                let inside = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((inside, read(&path)));
            }
        }
    }
    found.sort();
    found
}

fn assert_same_models(a: &Path, b: &Path) {
    let names = ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"];
    // The checkpoint before the last is that of an interruption.
    let last = |folder| {
        let mut files = files(folder, &names);
        files.retain(|(name, _)| !name.contains("/previous/"));
        files
    };
    let (a, b) = (last(a), last(b));
    let names = |files: &[(String, Vec<u8>)]| {
        files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert!(!a.is_empty());
    assert_eq!(names(&a), names(&b));
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn all_combinations_are_trained_side_by_side_each_as_if_alone() {
    let place = Place::new().prepared();
    let command = format!("sweep {COMMON} 2 {SWEPT} --out s -q");
    let table = place.ok(&command);
    let line = "| alpha | lr | seeds | AUROC |";
    assert!(table.contains(line) && table.contains("| 0.03 | 0.0003 | 2 | 0."), "{table}");
    assert!(table.contains('\u{b1}') && table.contains("| Trouser | Sneaker |"), "{table}");
    assert_eq!(text(&read(&place.path("s/sweep.md"))), table);
    let sweep = json(&place.path("s/sweep.json"));
    assert_eq!(sweep["varies"], serde_json::json!(["alpha", "lr"]));
    assert_eq!(sweep["settings"]["epochs"], "2");
    let combinations = sweep["combinations"].as_array().unwrap();
    assert_eq!(combinations.len(), 4);
    let mut lines = 0;
    for c in combinations {
        assert_eq!(
            (&c["seeds"], &c["missing"]),
            (&serde_json::json!([0, 1]), &serde_json::json!([]))
        );
        let scores = c["scores"].as_array().unwrap();
        lines += scores.len();
        for class in ["Trouser", "Sneaker", "mean"] {
            assert!(scores.iter().any(|s| s["class"] == class && s["score"] == "full"), "{c}");
        }
        assert!(c["scores"][0]["metrics"]["std"]["auroc"].is_number());
    }
    let csv = text(&read(&place.path("s/sweep.csv")));
    assert_eq!(csv.lines().count(), 1 + lines);
    let page = text(&read(&place.path("s/sweep.html")));
    assert_eq!(page.matches("<svg").count(), 2, "a plot for each setting");
    assert!(!page.contains("http://") && !page.contains("<script"), "{page}");

    for (alpha, lr, seed, run) in [
        ("0.03", "3e-4", 1, "s/alpha-0.03_lr-0.0003/seed-1"),
        ("0", "1e-3", 0, "s/alpha-0_lr-0.001/seed-0"),
    ] {
        let out = format!("alone-{seed}");
        place.ok(&format!(
            "train {COMMON} 2 --alpha {alpha} --lr {lr} --seed {seed} --out {out} -q"
        ));
        assert_same_models(&place.path(run), &place.path(&out));
    }
    // Each is a run like others.
    let run = "s/alpha-0.03_lr-0.001";
    assert!(place.ok(&format!("eval {run} --device cpu --no-bootstrap -q")).contains("2 seeds"));
    place.ok(&format!("report {run} {run}/seed-0 --out page.html -q"));
    place.image("one.png", 3);
    place.ok(&format!("score --model {run}/seed-0 --class sneaker one.png --device cpu -q"));

    // Once more there is nothing to do; another sweep is told, and changes nothing.
    let before = files(&place.path("s"), &["sweep.toml", "state.json", "sweep.csv"]);
    assert_eq!(place.ok(&command), text(&read(&place.path("s/sweep.md"))));
    for (wrong, what) in [
        (format!("sweep {COMMON} 3 {SWEPT} --out s"), "epochs is 3, but the sweep's is 2"),
        (format!("sweep {COMMON} 2 --alpha 0.5 --out s"), "alpha is [0.5]"),
        (format!("sweep {COMMON} 2 {SWEPT} --out alone-0"), "no sweep"),
        ("sweep --resume s --lr 0.5".into(), "--lr can't change"),
        ("sweep --resume s --epochs 5".into(), "--epochs can't change"),
        (format!("sweep {COMMON} 2 --alpha 0.1,0.1 --out t"), "alpha 0.1 is given twice"),
        (format!("sweep {COMMON} 2 --lr 0 --out t"), "learning rate is 0"),
        (format!("sweep {COMMON} 2 --seeds 4-2 --out t"), "expected a range that rises"),
        (format!("sweep {COMMON} 2 --alpha x --out t"), "invalid float"),
        (format!("train {COMMON} 2 --out s"), "no run"),
    ] {
        let error = place.fails(&wrong, 2);
        assert!(error.contains(what), "{wrong}: {error}");
    }
    assert!(!place.path("t").exists());
    assert_eq!(files(&place.path("s"), &["sweep.toml", "state.json", "sweep.csv"]), before);
    std::fs::write(place.path("s/sweep.toml"), &before.last().unwrap().1[..40]).unwrap();
    let error = place.fails("sweep --resume s", 1);
    assert!(error.contains("sweep.toml"), "{error}");
}

#[test]
fn jobs_of_a_scheduler_come_to_the_same_tables() {
    let place = Place::new().prepared();
    let settings = format!("{COMMON} 1 --alpha 0.03,0.1 --seeds 0,3");
    let list = place.ok(&format!("sweep --plan {settings} --out jobs -q"));
    assert_eq!(list.trim(), Path::new("jobs").join("jobs.csv").display().to_string());
    let list = text(&read(&place.path("jobs/jobs.csv")));
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines[0], "job,alpha,lr,seed,folder");
    assert_eq!(lines[2].replace('\\', "/"), "1,0.03,0.001,3,alpha-0.03_lr-0.001/seed-3");
    assert_eq!(lines.len(), 1 + 4);
    assert!(!place.path("jobs/alpha-0.03_lr-0.001").exists(), "something was trained");
    let error = place.fails("sweep --collect --out jobs", 1);
    assert!(error.contains("none of its 4 trainings is complete"), "{error}");
    assert!(error.contains("job 2: alpha 0.1, lr 0.001, seed 0: 0 of 1 epochs"), "{error}");

    let error = place.fails("sweep --job 4 --out jobs", 2);
    assert!(error.contains("jobs 0 to 3"), "{error}");
    let error = place.fails("sweep --job auto --out jobs", 2);
    assert!(error.contains("SLURM_ARRAY_TASK_ID"), "{error}");
    let error = place.fails("sweep --job 0 --lr 1 --out jobs", 2);
    assert!(error.contains("--lr can't change"), "{error}");
    let error = place.fails("sweep --job 0 --out nothing", 1);
    assert!(error.contains("no sweep.toml"), "{error}");
    // Two at the same time, into one run.
    let mut both: Vec<Running> = [0, 1]
        .map(|i| Running::start(place.command(&format!("sweep --job {i} --out jobs --device cpu"))))
        .into();
    for job in &mut both {
        assert_eq!(job.end(), Some(0), "{}", job.said);
    }
    let out = place.command("sweep --collect --out jobs --device cpu").output().unwrap();
    let (table, said) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success() && table.contains("missing: seed 0, 3"), "{table}\n{said}");
    assert!(said.contains("job 2: ") && said.contains("job 3: "), "{said}");
    for (name, value, said) in
        [("SLURM_ARRAY_TASK_ID", "2", "SLURM_ARRAY_TASK_ID=2"), ("PARALLEL_SEQ", "4", "job 3")]
    {
        let mut command = place.command("sweep --job auto --out jobs --device cpu");
        let out = command.env(name, value).output().unwrap();
        assert!(out.status.success() && text(&out.stderr).contains(said), "{}", text(&out.stderr));
    }
    let table = place.ok("sweep --collect --out jobs --device cpu -q");
    // In one go, a few at a time.
    place.ok(&format!("sweep {settings} --at-once 3 --out whole -q"));
    assert!(!table.contains("missing"), "{table}");
    assert_eq!(read(&place.path("jobs/sweep.csv")), read(&place.path("whole/sweep.csv")));
    assert_same_models(&place.path("jobs"), &place.path("whole"));
}

/// Stopped, killed, and stopped in a job: it goes on to the same bits.
#[cfg(unix)]
#[test]
fn an_interrupted_sweep_goes_on_to_the_same_bits() {
    let place = Place::new().prepared();
    let settings = format!("{COMMON} 4 --alpha 0.03 --lr 1e-3,3e-4 --checkpoint-every 0");
    place.ok(&format!("sweep {settings} --out whole -q"));
    let command = format!("sweep {settings} --out s");
    let mut first = Running::start(place.command(&command));
    first.wait_for("epoch   1/4");
    let mut second = Running::start(place.command(&command));
    assert_eq!(second.end(), Some(1));
    assert!(
        second.said.contains("in use") && second.said.contains("gradcon train"),
        "{}",
        second.said
    );
    first.signal(libc::SIGUSR1);
    assert_eq!(first.end(), Some(130), "{}", first.said);
    assert!(first.said.contains("gradcon sweep --resume s"), "{}", first.said);
    let mut killed =
        Running::start(place.command("sweep --resume s --device cpu --checkpoint-every 0"));
    killed.wait_for("epoch ");
    killed.child.kill().unwrap();
    killed.end();
    place.ok(&format!("{command} -q"));
    assert_same_models(&place.path("s"), &place.path("whole"));
    assert_eq!(read(&place.path("s/sweep.csv")), read(&place.path("whole/sweep.csv")));

    place.ok(&format!(
        "sweep --plan {} --out jobs -q",
        settings.replace("--checkpoint-every 0", "")
    ));
    let job = "sweep --job 1 --out jobs --device cpu --checkpoint-every 0";
    let mut stopped = Running::start(place.command(job));
    stopped.wait_for("epoch   1/4");
    stopped.signal(libc::SIGTERM);
    assert_eq!(stopped.end(), Some(130), "{}", stopped.said);
    let error = place.fails("sweep --collect --out jobs --device cpu", 1);
    assert!(error.contains("job 1: ") && error.contains(" of 4 epochs"), "{error}");
    place.ok(&format!("{job} -q"));
    let of = |sweep: &str| place.path(sweep).join("alpha-0.03_lr-0.0003");
    assert_same_models(&of("jobs"), &of("whole"));
}

/// A learning rate that is too high is a result, not the end of the sweep.
#[test]
fn what_diverges_is_named_and_not_trained_again() {
    let place = Place::new().prepared();
    let command = format!("sweep {COMMON} 2 --lr 1e-3,1e30 --out s");
    let out = place.command(&command).output().unwrap();
    let (table, said) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success() && said.contains("diverged in epoch 1"), "{said}");
    assert!(table.contains("2 models diverged"), "{table}");
    let json = json(&place.path("s/sweep.json"));
    assert_eq!(json["combinations"][1]["diverged"].as_array().unwrap().len(), 2);
    let again = place.command(&command).output().unwrap();
    assert_eq!(text(&again.stdout), text(&read(&place.path("s/sweep.md"))));
    assert!(!text(&again.stderr).contains("epoch "), "{}", text(&again.stderr));
    assert_eq!(
        text(&again.stdout).replace(|c: char| c.is_ascii_digit(), ""),
        table.replace(|c: char| c.is_ascii_digit(), "")
    );
}
