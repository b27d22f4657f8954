//! `docs/architecture.md` tells the truth: what it names exists, and imports follow its picture.
//! And one invariant of it that is nobody else's: threads change no bit.

use std::fs;
use std::path::{Path, PathBuf};

use gradcon::tape::ops::FAMILIES;

/// A part of the house. The wings stand on the ground and don't know each other; the top knows all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Ground,
    Engine,
    Pages,
    Top,
}
use Part::{Engine, Ground, Pages, Top};

/// The rooms, each above those before it.
const ROOMS: [(&str, Part); 23] = [
    ("error", Ground),
    ("limits", Ground),
    ("files", Ground),
    ("folders", Ground),
    ("output", Ground),
    ("layout", Ground),
    ("geometry", Ground),
    ("images", Ground),
    ("tiles", Ground),
    ("sheet", Ground),
    ("tape", Engine),
    ("kernels", Engine),
    ("program", Engine),
    ("engine", Engine),
    ("method", Engine),
    ("data", Pages),
    ("report", Pages),
    ("run", Top),
    ("bench", Top),
    ("check", Top),
    ("tune", Top),
    ("web", Top),
    ("cli", Top),
];

/// The roof, which is no room: it re-exports, and nobody imports from it.
const ROOF: [&str; 2] = ["lib", "main"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).unwrap()
}

/// Where a room is in the table.
fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|(name, _)| *name == room)
}

/// Whether a room may import from another, or why not.
fn check(from: &str, to: &str) -> Result<(), String> {
    let known = |room: &str| floor(room).ok_or_else(|| format!("'{room}' is no room"));
    let (above, below) = (known(from)?, known(to)?);
    let (part, other) = (ROOMS[above].1, ROOMS[below].1);
    match part == Top || other == Ground || other == part {
        _ if below > above => Err(format!("{from} imports {to}: up a floor")),
        false => Err(format!("{from} imports {to}: from the other wing")),
        true => Ok(()),
    }
}

/// The rooms that a line of code takes something from: what follows each `crate::`.
fn imports(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let paths = code.split("crate::").skip(1);
    paths.map(|path| path.split(|c| !is_name(c)).next().unwrap_or_default()).collect()
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn no_import_runs_up_a_floor_or_between_the_wings() {
    let src = root().join("src");
    let (mut wrong, mut seen, mut rooms) = (vec![], 0, vec![]);
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap().with_extension("");
        let room = inside.iter().next().unwrap().to_str().unwrap().to_string();
        if ROOF.contains(&room.as_str()) {
            continue;
        }
        for (i, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            for import in imports(line) {
                seen += 1;
                if let Err(why) = check(&room, import) {
                    wrong.push(format!("{}:{}: {why}", path.display(), i + 1));
                }
            }
        }
        rooms.push(room);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 200, "only {seen} imports were found");
    for (room, _) in ROOMS {
        assert!(rooms.iter().any(|r| r == room), "src has no room {room}");
    }
    for room in rooms {
        assert!(floor(&room).is_some(), "src/{room} has no floor in {}", file!());
    }
}

#[test]
fn only_the_gpu_engine_knows_wgpu() {
    let (src, gpu) = (root().join("src"), root().join("src/engine/gpu"));
    let knows = |path: &PathBuf| fs::read_to_string(path).unwrap().contains("wgpu::");
    let outside = sources(&src).into_iter().filter(|path| !path.starts_with(&gpu) && knows(path));
    assert_eq!(outside.collect::<Vec<_>>(), [] as [PathBuf; 0]);
    assert!(sources(&gpu).iter().any(knows), "nor does the GPU engine");
}

#[test]
fn the_rules_of_imports_can_be_broken() {
    for (from, to) in [("engine", "tape"), ("data", "images"), ("run", "report"), ("tape", "tape")]
    {
        assert_eq!(check(from, to), Ok(()), "{from} from {to}");
    }
    for (from, to, why) in [
        ("tape", "program", "up a floor"),
        ("files", "method", "up a floor"),
        ("report", "method", "other wing"),
        ("run", "cli", "up a floor"),
        ("method", "Images", "no room"),
    ] {
        assert!(check(from, to).unwrap_err().contains(why), "{from} from {to}");
    }
    assert_eq!(imports("use crate::tape::ops::Op; // crate::cli"), ["tape"]);
    assert_eq!(imports("fn f(a: crate::run::A) -> crate::data::B {"), ["run", "data"]);
    assert_eq!(imports("pub(crate) use crate::{cli, run};"), [""], "and that is no room");
}

/// The order of the page's headings is that of the rooms.
#[test]
fn the_page_has_the_rooms_in_order() {
    let page = page();
    let headings: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    assert_eq!(headings, ROOMS.map(|(name, _)| name));
}

/// Code spans of the page that are files (`src/tape/grad.rs`), folders or tests
/// (`tests/a.rs::function`); a file of a family F is one for every family.
fn named(page: &str) -> Vec<String> {
    const ROOTS: [&str; 7] =
        ["benches/", "docs/", "examples/", "shaders/", "src/", "tests/", "tools/"];
    let spans = page.split('`').skip(1).step_by(2).map(str::to_string);
    let paths = spans.filter(|span| ROOTS.iter().any(|root| span.starts_with(root)));
    paths
        .flat_map(|path| match path.split_once("/F.") {
            Some((folder, ext)) => {
                FAMILIES.map(|(family, _)| format!("{folder}/{family}.{ext}")).to_vec()
            }
            None => vec![path],
        })
        .collect()
}

/// Whether the text of a Rust file has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    while lines.any(|line| line == "#[test]") {
        let function = lines.by_ref().find(|line| line.starts_with("fn ")).unwrap_or_default();
        if function.starts_with(&format!("fn {name}(")) {
            return true;
        }
    }
    false
}

#[test]
fn what_the_page_names_exists() {
    let mut tests = 0;
    for name in named(&page()) {
        let (file, test) = name.split_once("::").map_or((&name[..], None), |(f, t)| (f, Some(t)));
        let path = root().join(file);
        assert!(path.exists(), "docs/architecture.md names {file}, which is not there");
        if let Some(test) = test {
            let text = fs::read_to_string(&path).unwrap();
            assert!(has_test(&text, test), "docs/architecture.md names {name}: no such test");
            tests += 1;
        }
    }
    assert!(tests > 30, "the page names only {tests} tests");
    let fences = page().lines().filter(|line| line.starts_with("```")).count();
    assert!(fences == 2, "{fences} fences: code spans are told by their backticks, in pairs");
    assert!(has_test("#[test]\n#[ignore]\nfn a() {\n", "a") && !has_test("fn a() {\n", "a"));
}
