//! `metrics.csv`: one row per training epoch.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::table::{self, Number, Row, to_csv};
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
    let lines: Vec<Line> = rows.iter().map(Line::of).collect();
    for line in &lines {
        let wrong = line.wrong().and_then(|i| Some((COLUMNS[i], line.number(i)?)));
        if let Some((column, bad)) = wrong {
            let epoch = line.epoch;
            return Err(Error::invalid(format!(
                "epoch {epoch}: {column} is {bad}, expected a finite number"
            )));
        }
    }
    write_atomic(path, &to_csv(Some(&COLUMNS), lines)?)
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
    let lines: Vec<Line> = table::read(reader, limits::METRICS, path)?;
    Ok(lines.into_iter().map(Line::row).collect())
}

/// An [`EpochRow`] as the file has it.
#[derive(Serialize, Deserialize)]
struct Line {
    epoch: u64,
    train: [Number; 3],
    val: [Option<Number>; 3],
    cosines: [Number; 4],
    images_per_second: Number,
    best: u8,
}

impl Line {
    fn of(row: &EpochRow) -> Line {
        let losses = |l: Losses| [l.total, l.mse, l.grad].map(Number);
        Line {
            epoch: row.epoch,
            train: losses(row.train),
            val: row.val.map_or([None; 3], |val| losses(val).map(Some)),
            cosines: row.cosines.map(Number),
            images_per_second: Number(row.images_per_second),
            best: row.best.into(),
        }
    }

    /// Of a line with nothing wrong: it has all of the validation's losses or none.
    fn row(self) -> EpochRow {
        let losses =
            |[total, mse, grad]: [Number; 3]| Losses { total: total.0, mse: mse.0, grad: grad.0 };
        let val = match self.val {
            [Some(total), Some(mse), Some(grad)] => Some(losses([total, mse, grad])),
            _ => None,
        };
        EpochRow {
            epoch: self.epoch,
            train: losses(self.train),
            val,
            cosines: self.cosines.map(|n| n.0),
            images_per_second: self.images_per_second.0,
            best: self.best == 1,
        }
    }

    /// The numbers of the columns 1 to 11.
    fn numbers(&self) -> impl Iterator<Item = Option<f64>> {
        let rest = self.cosines.into_iter().chain([self.images_per_second]);
        let all = self.train.into_iter().map(Some).chain(self.val).chain(rest.map(Some));
        all.map(|number| number.map(|n| n.0))
    }

    fn number(&self, column: usize) -> Option<f64> {
        self.numbers().nth(column - 1).flatten()
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &COLUMNS;

    fn expected(column: usize) -> &'static str {
        match column {
            0 => "a whole number",
            12 => "0 or 1",
            _ => "a finite number",
        }
    }

    fn wrong(&self) -> Option<usize> {
        let validated = self.val.iter().any(Option::is_some);
        let number = self.numbers().position(|n| n.map_or(validated, |n| !n.is_finite()));
        number.map(|i| i + 1).or((self.best > 1).then_some(12))
    }
}
