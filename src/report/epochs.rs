//! `metrics.csv`: one row per training epoch.

use std::io::Read;
use std::path::Path;

use super::file::write_atomic;
use super::table::{Row, Table, to_csv};
use crate::error::{Error, Result};
use crate::limits;

/// The file's header. Losses are means over images; the validation columns are empty where there
/// are no validation images.
pub const COLUMNS: [&str; 13] = [
    "epoch",
    "train_loss",
    "train_mse",
    "train_grad_loss",
    "val_loss",
    "val_mse",
    "val_grad_loss",
    "cos_up0",
    "cos_up2",
    "cos_up4",
    "cos_up6",
    "images_per_second",
    "best",
];

/// The training objective and its two parts: `total` = `mse` + alpha * `grad`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// What is minimised.
    pub total: f64,
    /// Mean squared reconstruction error.
    pub mse: f64,
    /// Gradient loss: the negative mean cosine to the reference gradients, -1 (aligned) to 1.
    pub grad: f64,
}

/// What is known after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean over the epoch's training images.
    pub train: Losses,
    /// Mean over the validation images after the epoch, where there are any.
    pub val: Option<Losses>,
    /// Mean cosine of each decoder layer over the epoch's iterations, in the order up.0, up.2,
    /// up.4, up.6.
    pub cosines: [f64; 4],
    /// Training throughput.
    pub images_per_second: f64,
    /// The epoch improved on every epoch before it; the last such row is the best epoch.
    pub best: bool,
}

/// Writes the whole table atomically, so that a run killed at any moment leaves a readable file.
///
/// # Errors
/// A number that is not finite, named by epoch; the file system's.
pub fn write_epochs(path: &Path, rows: &[EpochRow]) -> Result<()> {
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let train = [row.train.total, row.train.mse, row.train.grad];
        let val = row.val.map_or([None; 3], |val| [Some(val.total), Some(val.mse), Some(val.grad)]);
        let rest = row.cosines.into_iter().chain([row.images_per_second]);
        let numbers: Vec<Option<f64>> =
            train.into_iter().map(Some).chain(val).chain(rest.map(Some)).collect();
        if let Some((i, bad)) = numbers
            .iter()
            .enumerate()
            .find_map(|(i, v)| v.filter(|v| !v.is_finite()).map(|v| (i, v)))
        {
            let column = COLUMNS[i + 1];
            return Err(Error::invalid(format!(
                "epoch {}: {column} is {bad}, expected a finite number",
                row.epoch
            )));
        }
        let mut line = vec![row.epoch.to_string()];
        line.extend(numbers.iter().map(|v| v.map_or(String::new(), |v| v.to_string())));
        line.push(u8::from(row.best).to_string());
        lines.push(line);
    }
    write_atomic(path, &to_csv(&COLUMNS, lines)?)
}

/// Reads the table back.
///
/// # Errors
/// Unreadable file, or one of more than [`limits::METRICS`] bytes; another header; a field that is
/// no finite number, named by file, line and column.
pub fn read_epochs(path: &Path) -> Result<Vec<EpochRow>> {
    epochs_from(limits::open(path, limits::METRICS, "a table of epochs")?, path)
}

/// [`read_epochs`] from anything that can be read. `path` stands for the file in errors.
///
/// # Errors
/// As [`read_epochs`].
pub fn epochs_from(reader: impl Read, path: &Path) -> Result<Vec<EpochRow>> {
    let mut table = Table::new(reader, limits::METRICS, path, &COLUMNS)?;
    let mut rows = Vec::new();
    while let Some(row) = table.next_row()? {
        let best = |text: &str| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        };
        rows.push(EpochRow {
            epoch: row.parse(0, "a whole number", |text| text.parse().ok())?,
            train: Losses { total: row.number(1)?, mse: row.number(2)?, grad: row.number(3)? },
            val: validation(&row)?,
            cosines: [row.number(7)?, row.number(8)?, row.number(9)?, row.number(10)?],
            images_per_second: row.number(11)?,
            best: row.parse(12, "0 or 1", best)?,
        });
    }
    Ok(rows)
}

fn validation(row: &Row<'_>) -> Result<Option<Losses>> {
    if (4..7).all(|i| row.text(i).is_empty()) {
        return Ok(None);
    }
    Ok(Some(Losses { total: row.number(4)?, mse: row.number(5)?, grad: row.number(6)? }))
}
