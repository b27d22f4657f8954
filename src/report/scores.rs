//! `scores.csv`: one row per scored image.

use std::io::Read;
use std::path::Path;

use super::file::write_atomic;
use super::table::{Table, to_csv};
use crate::error::{Error, Result};
use crate::limits;

/// The file's header. Label 1 = anomalous; `score` = `mse` - beta * `cos`, higher = more anomalous;
/// `cos` is the mean of the four decoder layers' cosines that follow.
pub const COLUMNS: [&str; 10] =
    ["image", "label", "class", "score", "mse", "cos", "cos_up0", "cos_up2", "cos_up4", "cos_up6"];

/// The decoder layers behind [`ScoreRow::layers`], in order.
pub const LAYERS: [&str; 4] = ["up.0", "up.2", "up.4", "up.6"];

/// The score of one image and the parts it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRow {
    /// A path, or any name that identifies the image in its data set.
    pub image: String,
    /// 1 = anomalous, 0 = normal, nothing where the truth is unknown.
    pub label: Option<u8>,
    /// What the image shows, where known.
    pub class: Option<String>,
    /// Anomaly score.
    pub score: f64,
    /// Reconstruction error, mean over pixels and channels.
    pub mse: f64,
    /// Mean cosine between the image's gradient and the reference gradient over the decoder layers.
    pub cos: f64,
    /// The cosine of each decoder layer in the order of [`LAYERS`].
    pub layers: Vec<f64>,
}

/// Writes the table atomically. Numbers keep every bit (shortest text that reads back as the same
/// f64).
///
/// # Errors
/// A row whose label is neither 0 nor 1, with other than four layers or with a number that is not
/// finite; the file system's.
pub fn write_scores(path: &Path, rows: &[ScoreRow]) -> Result<()> {
    for row in rows {
        let numbers = [row.score, row.mse, row.cos];
        if row.layers.len() != LAYERS.len() {
            let got = row.layers.len();
            return Err(Error::invalid(format!(
                "{}: {got} layer cosines, expected {}",
                row.image,
                LAYERS.len()
            )));
        }
        if let Some(label) = row.label.filter(|&label| label > 1) {
            return Err(Error::invalid(format!("{}: label {label}, expected 0 or 1", row.image)));
        }
        if let Some(bad) = numbers.iter().chain(&row.layers).find(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "{}: a score is {bad}, expected a finite number",
                row.image
            )));
        }
    }
    let fields = rows.iter().map(|row| {
        let label = row.label.map_or(String::new(), |label| label.to_string());
        let mut fields = vec![row.image.clone(), label, row.class.clone().unwrap_or_default()];
        fields.extend([row.score, row.mse, row.cos].iter().chain(&row.layers).map(f64::to_string));
        fields
    });
    write_atomic(path, &to_csv(&COLUMNS, fields)?)
}

/// Reads the table back.
///
/// # Errors
/// Unreadable file, or one of more than [`limits::SCORES`] bytes; another header; a field that is
/// no finite number or no label, named by file, line and column.
pub fn read_scores(path: &Path) -> Result<Vec<ScoreRow>> {
    scores_from(limits::open(path, limits::SCORES, "a table of scores")?, path)
}

/// [`read_scores`] from anything that can be read. `path` stands for the file in errors.
///
/// # Errors
/// As [`read_scores`].
pub fn scores_from(reader: impl Read, path: &Path) -> Result<Vec<ScoreRow>> {
    let mut table = Table::new(reader, limits::SCORES, path, &COLUMNS)?;
    let mut rows = Vec::new();
    while let Some(row) = table.next_row()? {
        let label = |text: &str| match text {
            "" => Some(None),
            "0" => Some(Some(0)),
            "1" => Some(Some(1)),
            _ => None,
        };
        rows.push(ScoreRow {
            image: row.text(0).to_owned(),
            label: row.parse(1, "0 (normal), 1 (anomalous) or nothing", label)?,
            class: Some(row.text(2)).filter(|class| !class.is_empty()).map(str::to_owned),
            score: row.number(3)?,
            mse: row.number(4)?,
            cos: row.number(5)?,
            layers: (6..10).map(|i| row.number(i)).collect::<Result<_>>()?,
        });
    }
    Ok(rows)
}
