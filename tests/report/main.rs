//! The report room, tested through the library's public doors: a file for each of its own.

mod card;
mod epochs;
mod extremes;
mod file;
mod metrics;
mod page;
mod pixels;
mod results;
mod samples;
mod scores;
mod seeds;
mod tables;
mod tensorboard;
mod thumbnails;

use std::path::Path;

/// Fails on NaN (no comparison with NaN holds), on a wrong sign and on a difference above
/// `tolerance`.
#[track_caller]
fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: got {got}, expected {want} within {tolerance}"
    );
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What reading a table of this text says, without the file's name.
fn message_of(text: &str, read: impl Fn(&Path) -> gradcon::Result<()>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    let message = read(&path).unwrap_err().to_string();
    message
        .strip_prefix(&path.display().to_string())
        .unwrap_or_else(|| panic!("no file in: {message}"))
        .to_string()
}
