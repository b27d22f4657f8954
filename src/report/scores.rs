//! `scores.csv`: one row per scored image.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::table::{self, Number, Row, Table, header, to_csv};
use crate::error::{Error, Result};
use crate::limits;

/// The file's header, before a cosine for each constrained layer and a column for each further
/// score. Label 1 = anomalous; of all scores, higher = more anomalous; `cos` is the mean of the
/// cosines that follow.
pub const COLUMNS: [&str; 6] = ["image", "label", "class", "score", "mse", "cos"];

/// The scores of images by a model's layers.
#[derive(Clone, PartialEq, Debug)]
pub struct Scores {
    /// Names of the layers, in order.
    pub layers: Vec<String>,
    /// Names of the further scores, in order.
    pub more: Vec<String>,
    /// One entry an image.
    pub rows: Vec<ScoreRow>,
}

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
    /// Mean cosine between the image's gradient and the reference gradient over the constrained
    /// layers.
    pub cos: f64,
    /// The cosine of each of the table's layers.
    pub cosines: Vec<f64>,
    /// Each of the table's further scores.
    pub more: Vec<f64>,
}

/// Writes the table atomically. Numbers keep every bit (shortest text that reads back as the same
/// f64).
///
/// # Errors
/// A row whose label is neither 0 nor 1, with other than one cosine a layer or with a number that
/// is not finite; the file system's.
pub fn write_scores(path: &Path, scores: &Scores) -> Result<()> {
    let Scores { layers, more, rows } = scores;
    for row in rows {
        let numbers = [row.score, row.mse, row.cos];
        for (what, got, expected) in [
            ("layer cosines", row.cosines.len(), layers.len()),
            ("further scores", row.more.len(), more.len()),
        ] {
            if got != expected {
                return Err(Error::invalid(format!(
                    "{}: {got} {what}, expected {expected}",
                    row.image
                )));
            }
        }
        if let Some(label) = row.label.filter(|&label| label > 1) {
            return Err(Error::invalid(format!("{}: label {label}, expected 0 or 1", row.image)));
        }
        if let Some(bad) =
            numbers.iter().chain(&row.cosines).chain(&row.more).find(|v| !v.is_finite())
        {
            return Err(Error::invalid(format!(
                "{}: a score is {bad}, expected a finite number",
                row.image
            )));
        }
    }
    let columns: Vec<String> =
        header::<Line>(layers, false).into_iter().chain(more.iter().cloned()).collect();
    write_atomic(path, &to_csv(Some(&columns), rows.iter().map(Line::of))?)
}

/// Reads the table back.
///
/// # Errors
/// Unreadable file, or one of more than [`limits::SCORES`] bytes; another header; a field that is
/// no finite number or no label, named by file, line and column.
pub fn read_scores(path: &Path) -> Result<Scores> {
    scores_from(limits::open(path, limits::SCORES, "a table of scores")?, path)
}

/// [`read_scores`] from anything that can be read. `path` stands for the file in errors.
///
/// # Errors
/// As [`read_scores`].
pub fn scores_from(reader: impl Read, path: &Path) -> Result<Scores> {
    let Table { layers, more, rows } = table::read::<Line>(reader, limits::SCORES, path)?;
    let rows = rows.into_iter().map(|line| line.row(layers.len())).collect();
    Ok(Scores { layers, more, rows })
}

/// A [`ScoreRow`] as the file has it.
#[derive(Serialize, Deserialize)]
struct Line {
    image: String,
    label: Option<u8>,
    class: Option<String>,
    /// score, mse, cos
    parts: [Number; 3],
    /// Cosines, then further scores.
    others: Vec<Number>,
}

impl Line {
    fn of(row: &ScoreRow) -> Line {
        Line {
            image: row.image.clone(),
            label: row.label,
            class: row.class.clone(),
            parts: [row.score, row.mse, row.cos].map(Number),
            others: row.cosines.iter().chain(&row.more).copied().map(Number).collect(),
        }
    }

    fn row(self, layers: usize) -> ScoreRow {
        let [score, mse, cos] = self.parts.map(|n| n.0);
        let mut cosines: Vec<f64> = self.others.iter().map(|n| n.0).collect();
        let more = cosines.split_off(layers);
        ScoreRow {
            image: self.image,
            label: self.label,
            class: self.class,
            score,
            mse,
            cos,
            cosines,
            more,
        }
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
    const OPEN: bool = true;

    fn expected(column: usize) -> &'static str {
        match column {
            1 => "0 (normal), 1 (anomalous) or nothing",
            _ => "a finite number",
        }
    }

    fn wrong(&self) -> Option<usize> {
        if self.label.is_some_and(|label| label > 1) {
            return Some(1);
        }
        self.parts.iter().chain(&self.others).position(|n| !n.0.is_finite()).map(|i| i + 3)
    }
}
