//! The book in `docs/book`: every command in it is run, in its order, and prints what stands below
//! it; every picture is made by one of them.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much of a number may differ.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// The digits that are printed, but for the last one: rounding may differ.
    Exact,
    /// Of a model that was trained here: other roundings lead to another model, which says much the
    /// same.
    Trained,
    /// That it is a number: times, and errors of rounding.
    Numbers,
}

/// A block of commands, and what they print.
struct Block {
    at: String,
    commands: String,
    expected: Option<(Kind, String)>,
}

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book")
}

/// The chapters' names and texts, in order.
fn chapters() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(book()).unwrap().map(|entry| entry.unwrap().path());
    let chapters = files.filter(|path| path.extension().is_some_and(|ext| ext == "md"));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    chapters.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The blocks of a chapter: a text block belongs to the commands above it, if there is nothing but
/// an empty line between them.
fn blocks(name: &str, text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks: Vec<Block> = vec![];
    let mut follows = false;
    let mut i = 0;
    while i < lines.len() {
        let Some(language) = lines[i].strip_prefix("```") else {
            follows &= lines[i].is_empty();
            i += 1;
            continue;
        };
        let end = (i + 1..lines.len()).find(|&j| lines[j] == "```").expect("a block ends");
        let body = lines[i + 1..end].join("\n");
        let kind = match language {
            "text" => Some(Kind::Exact),
            "text trained" => Some(Kind::Trained),
            "text numbers" => Some(Kind::Numbers),
            "sh" => {
                blocks.push(Block {
                    at: format!("{name}:{}", i + 1),
                    commands: body,
                    expected: None,
                });
                (follows, i) = (true, end + 1);
                continue;
            }
            _ => None,
        };
        if let (Some(kind), true) = (kind, follows) {
            blocks.last_mut().unwrap().expected = Some((kind, body));
        }
        assert!(
            follows || !matches!(kind, Some(Kind::Trained | Kind::Numbers)),
            "{name}:{}",
            i + 1
        );
        (follows, i) = (false, end + 1);
    }
    blocks
}

/// A word that is a number, and what its last digit counts.
fn number(word: &str) -> Option<(f64, f64)> {
    let word = word.trim_matches(|c: char| matches!(c, ',' | ';' | ':' | '%' | ')' | '('));
    let value: f64 = word.parse().ok()?;
    let (digits, power) = word.split_once('e').unwrap_or((word, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, after)| after.len() as i32);
    Some((value, 10f64.powi(power.parse::<i32>().ok()? - decimals)))
}

/// Whether a line is what the book has.
fn same(kind: Kind, got: &str, want: &str) -> bool {
    let (got, want): (Vec<&str>, Vec<&str>) =
        (got.split_whitespace().collect(), want.split_whitespace().collect());
    got.len() == want.len()
        && got.iter().zip(&want).all(|(&got, &want)| match (number(got), number(want)) {
            (Some((got, _)), Some((want, unit))) => {
                let off = (got - want).abs();
                match kind {
                    Kind::Exact => off <= 1.01 * unit,
                    // Small numbers, such as errors, by their size.
                    Kind::Trained => off <= (0.02 + 0.3 * want.abs()).min(0.1),
                    Kind::Numbers => got.is_finite(),
                }
            }
            // Which image is in the middle of its kind is the model's choice.
            (None, None) if kind == Kind::Trained && got.contains(".png") => want.contains(".png"),
            (None, None) => got == want,
            _ => false,
        })
}

/// The first line of `want` that isn't in `got` in its place; `...` stands for any lines.
fn difference(kind: Kind, got: &str, want: &str) -> Option<String> {
    let mut rest: Vec<&str> = got.lines().collect();
    let mut skips = false;
    for line in want.lines() {
        if line == "..." {
            skips = true;
            continue;
        }
        let found = match skips {
            true => rest.iter().position(|got| same(kind, got, line)),
            false => rest.first().filter(|got| same(kind, got, line)).map(|_| 0),
        };
        let Some(found) = found else { return Some(line.to_string()) };
        rest.drain(..=found);
        skips = false;
    }
    let left = rest.iter().find(|line| !line.trim().is_empty() && !skips);
    left.map(|line| format!("(nothing, but it printed) {line}"))
}

#[test]
fn differences_are_seen() {
    let want = "a 1.25 x\n...\nb 3e-5";
    assert_eq!(difference(Kind::Exact, "a 1.25 x\nmore\nb 3e-5\n", want), None);
    assert_eq!(difference(Kind::Exact, "a 1.26 x\nb 3e-5", want), None);
    assert!(difference(Kind::Exact, "a 1.27 x\nb 3e-5", want).is_some());
    assert!(difference(Kind::Exact, "a 1.25 y\nb 3e-5", want).is_some());
    assert!(difference(Kind::Exact, "a 1.25 x\nb 5e-5", want).is_some());
    assert!(difference(Kind::Exact, "a 1.25 x\nb 3e-5\nc", want).is_some());
    assert!(difference(Kind::Exact, "a 1.25 x", want).is_some());
    assert_eq!(difference(Kind::Trained, "a 1.2 x\nb 0.01", want), None);
    assert!(difference(Kind::Trained, "a 1.4 x\nb 0.01", want).is_some());
    assert!(difference(Kind::Trained, "a 1.2 x\nb 0.03", want).is_some());
    assert_eq!(difference(Kind::Numbers, "a 77 x\nb 1", want), None);
    assert!(difference(Kind::Numbers, "a NaN x\nb 1", want).is_some());
}

/// Commands in the book's order, in one folder.
#[test]
fn every_command_prints_what_stands_below_it() {
    let program = Path::new(env!("CARGO_BIN_EXE_gradcon"));
    let examples = program.with_file_name("examples");
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("pictures")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let mut run = 0;
    for (name, text) in chapters().iter().filter(|(name, _)| *name != "README.md") {
        for Block { at, commands, expected } in blocks(name, text) {
            // Built by the same cargo; `cargo test --test book` alone builds no examples.
            let mut script = commands.replace(" -- --", " --");
            for word in commands.split("cargo run -q --example ").skip(1) {
                let example = word.split_whitespace().next().unwrap();
                let file = examples.join(example);
                assert!(file.exists(), "{at}: no {}: run `cargo build --examples`", file.display());
                script = script.replace(
                    &format!("cargo run -q --example {example}"),
                    &file.display().to_string(),
                );
            }
            let out = Command::new("sh")
                .args(["-ec", &script])
                .current_dir(place.path())
                .env("PATH", &path)
                .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
                .env("NO_COLOR", "1")
                .output()
                .unwrap();
            let (got, said) =
                (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert!(out.status.success(), "{at}: {}\n{said}", out.status);
            if let Some((kind, want)) = expected {
                if let Some(line) = difference(kind, &got, &want) {
                    panic!("{at}: it did not print\n{line}\nbut\n{got}");
                }
                run += 1;
            }
        }
    }
    assert!(run >= 10, "only {run} blocks");
    pictures_are(place.path());
}

/// Every picture of the book was made, and is as large as the one that is in it; what an example
/// draws is the same to the byte.
fn pictures_are(place: &Path) {
    let mut count = 0;
    for (name, text) in chapters() {
        for part in text.split("](pictures/").skip(1) {
            let file = part.split(')').next().unwrap();
            let [made, kept] = [place.join("pictures"), book().join("pictures")]
                .map(|folder| std::fs::read(folder.join(file)).unwrap_or_default());
            assert!(!made.is_empty(), "{name}: no command made {file}");
            assert!(!kept.is_empty(), "{name}: {file} is not in the repository");
            if file.ends_with(".png") {
                let size = |bytes: &[u8]| {
                    let picture = image::load_from_memory(bytes).unwrap();
                    (picture.width(), picture.height())
                };
                assert_eq!(size(&made), size(&kept), "{file}");
            } else if file == "trio.svg" {
                assert!(made == kept, "{file}: the example draws another picture");
            }
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} pictures");
}

/// The chapters are those that the first page lists.
#[test]
fn the_first_page_lists_the_chapters() {
    let chapters = chapters();
    let listed: Vec<&str> = chapters["README.md"]
        .lines()
        .filter_map(|line| line.split_once("](")?.1.strip_suffix(')'))
        .filter(|file| !file.contains('/'))
        .collect();
    let there: Vec<&String> = chapters.keys().filter(|name| *name != "README.md").collect();
    assert_eq!(listed, there);
}
