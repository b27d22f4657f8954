//! `metrics.csv`: one row per training epoch.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::write_atomic;
use super::table::{self, Number, Row, Table, header, to_csv};
use crate::error::{Error, Result};
use crate::files::{Growing, remove_file};
use crate::limits;

/// The file's header, before a cosine for each constrained layer. Losses are means over images; the
/// validation columns are empty where there are no validation images.
pub const COLUMNS: [&str; 9] = [
    "epoch",
    "train_loss",
    "train_mse",
    "train_constraint",
    "val_loss",
    "val_mse",
    "val_constraint",
    "images_per_second",
    "best",
];

/// Columns of a variational model's table, between those and the cosines.
pub const DIVERGENCES: [&str; 2] = ["train_divergence", "val_divergence"];

/// The history of a training by a model's layers.
#[derive(Clone, PartialEq, Debug)]
pub struct Epochs {
    /// Names of the layers, in order.
    pub layers: Vec<String>,
    /// One entry an epoch.
    pub rows: Vec<EpochRow>,
}

/// The training objective and its two parts: `loss` = `mse` + alpha * `constraint`, and + kl_weight *
/// divergence of a variational model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// What is minimised.
    pub loss: f64,
    /// Mean squared reconstruction error.
    pub mse: f64,
    /// The negative mean cosine to the reference gradients, -1 (aligned) to 1.
    pub constraint: f64,
    /// Of a variational model, the KL divergence by the number of an image's values.
    pub divergence: Option<f64>,
}

/// What is known after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean over the epoch's training images.
    pub train: Losses,
    /// Mean over the validation images after the epoch, where there are any.
    pub validation: Option<Losses>,
    /// Training throughput.
    pub images_per_second: f64,
    /// The epoch improved on every epoch before it; the last such row is the best epoch.
    pub best: bool,
    /// Mean cosine of each of the table's layers over the epoch's iterations.
    pub cosines: Vec<f64>,
}

fn is_variational(row: &EpochRow) -> bool {
    row.train.divergence.is_some()
}

/// Writes the whole table atomically.
///
/// # Errors
/// A number that is not finite, named by epoch; the file system's.
pub fn write_epochs(path: &Path, epochs: &Epochs) -> Result<()> {
    let lines = epochs.rows.iter().map(|row| Line::checked(row, &epochs.layers));
    let lines = lines.collect::<Result<Vec<Line>>>()?;
    let more = epochs.rows.iter().any(is_variational);
    write_atomic(path, &to_csv(Some(&header::<Line>(&epochs.layers, more)), lines)?)
}

/// Appends to a table, one epoch after the other. A reader sees whole rows, but perhaps the last.
pub struct EpochWriter {
    path: PathBuf,
    layers: Vec<String>,
    /// Made for the first row.
    file: Option<Growing>,
}

impl EpochWriter {
    /// Goes on with the rows that the table has up to epoch `kept`; what follows them is cut off,
    /// also half a row. With 0 the table begins anew.
    ///
    /// # Errors
    /// The table can't be read as far as it is kept, or is of other layers; the file system's.
    pub fn open(path: &Path, layers: Vec<String>, kept: u64) -> Result<EpochWriter> {
        let mut writer = EpochWriter { path: path.into(), layers, file: None };
        if kept == 0 {
            remove_file(path)?;
            return Ok(writer);
        }
        let bytes = limits::read(path, limits::METRICS, WHAT)?;
        let epoch = |line: &[u8]| {
            let field = line.split(|&b| b == b',').next()?;
            std::str::from_utf8(field).ok()?.parse::<u64>().ok()
        };
        // What is no row in the part that is kept is for the reader to name.
        let is_kept = |line: &&[u8]| line.ends_with(b"\n") && epoch(line).is_none_or(|e| e <= kept);
        let length =
            bytes.split_inclusive(|&b| b == b'\n').take_while(is_kept).map(<[u8]>::len).sum();
        let found = epochs_from(&bytes[..length], path)?.layers;
        if found != writer.layers {
            return Err(Error::invalid(format!(
                "{}: the layers {}, expected {}",
                path.display(),
                found.join(", "),
                writer.layers.join(", ")
            )));
        }
        writer.file = Some(Growing::cut(path, length as u64)?);
        Ok(writer)
    }

    /// Appends a row.
    ///
    /// # Errors
    /// As [`write_epochs`].
    pub fn append(&mut self, row: &EpochRow) -> Result<()> {
        let header = header::<Line>(&self.layers, is_variational(row));
        let csv = to_csv(Some(&header), [Line::checked(row, &self.layers)?])?;
        match &self.file {
            Some(file) => {
                let header = csv.iter().position(|&b| b == b'\n').map_or(0, |end| end + 1);
                file.append(&csv[header..])
            }
            None => self.file.insert(Growing::create(&self.path)?).append(&csv),
        }
    }

    /// The names of the layers.
    pub fn layers(&self) -> &[String] {
        &self.layers
    }

    /// The file, once it has a row, for whoever flushes it to the disk.
    pub fn file(&self) -> Option<&Growing> {
        self.file.as_ref()
    }
}

/// What errors call the file.
const WHAT: &str = "a table of epochs";

/// Reads the table back. A last line without its end is being written, and left out.
///
/// # Errors
/// Unreadable file, or one of more than [`limits::METRICS`] bytes; another header; a field that is
/// no finite number, named by file, line and column.
pub fn read_epochs(path: &Path) -> Result<Epochs> {
    let bytes = limits::read(path, limits::METRICS, WHAT)?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(bytes.len(), |end| end + 1);
    epochs_from(&bytes[..whole], path)
}

/// [`read_epochs`] from anything that can be read. `path` stands for the file in errors.
///
/// # Errors
/// As [`read_epochs`].
pub fn epochs_from(reader: impl Read, path: &Path) -> Result<Epochs> {
    let Table { layers, rows, .. } = table::read::<Line>(reader, limits::METRICS, path)?;
    let rows = rows.into_iter().map(|line| line.row(layers.len())).collect();
    Ok(Epochs { layers, rows })
}

/// An [`EpochRow`] as the file has it.
#[derive(Serialize, Deserialize)]
struct Line {
    epoch: u64,
    train: [Number; 3],
    validation: [Option<Number>; 3],
    images_per_second: Number,
    best: u8,
    /// Divergences, where there are any, and cosines.
    last: Vec<Number>,
}

/// The column of [`Line::best`].
const BEST: usize = 8;

impl Line {
    /// The line of a row with nothing wrong.
    fn checked(row: &EpochRow, layers: &[String]) -> Result<Line> {
        let (line, epoch) = (Line::of(row), row.epoch);
        if row.cosines.len() != layers.len() {
            let (got, want) = (row.cosines.len(), layers.len());
            return Err(Error::invalid(format!(
                "epoch {epoch}: {got} layer cosines, expected {want}"
            )));
        }
        let wrong = line.wrong().and_then(|i| Some((i, line.number(i)?)));
        match wrong {
            None => Ok(line),
            Some((i, bad)) => Err(Error::invalid(format!(
                "epoch {epoch}: {} is {bad}, expected a finite number",
                header::<Line>(layers, is_variational(row))[i]
            ))),
        }
    }

    fn of(row: &EpochRow) -> Line {
        let losses = |l: Losses| [l.loss, l.mse, l.constraint].map(Number);
        let validated = row.validation.and_then(|l| l.divergence).unwrap_or(f64::NAN);
        let divergences = row.train.divergence.map(|trained| [trained, validated]);
        Line {
            epoch: row.epoch,
            train: losses(row.train),
            validation: row.validation.map_or([None; 3], |l| losses(l).map(Some)),
            images_per_second: Number(row.images_per_second),
            best: row.best.into(),
            last: divergences.iter().flatten().chain(&row.cosines).copied().map(Number).collect(),
        }
    }

    /// Of a line with nothing wrong, in a table of so many layers: it has all of the validation's
    /// losses or none.
    fn row(self, layers: usize) -> EpochRow {
        let (divergences, cosines) = self.last.split_at(self.last.len() - layers);
        let losses = |[loss, mse, constraint]: [Number; 3], part: usize| Losses {
            loss: loss.0,
            mse: mse.0,
            constraint: constraint.0,
            divergence: divergences.get(part).map(|n| n.0),
        };
        let validation = match self.validation {
            [Some(loss), Some(mse), Some(constraint)] => Some(losses([loss, mse, constraint], 1)),
            _ => None,
        };
        EpochRow {
            epoch: self.epoch,
            train: losses(self.train, 0),
            validation,
            images_per_second: self.images_per_second.0,
            best: self.best == 1,
            cosines: cosines.iter().map(|n| n.0).collect(),
        }
    }

    /// Columns that hold numbers, and these.
    fn numbers(&self) -> impl Iterator<Item = (usize, Option<f64>)> {
        let losses = self.train.into_iter().map(Some).chain(self.validation);
        let before = losses.chain([Some(self.images_per_second)]).enumerate();
        let before = before.map(|(i, number)| (i + 1, number.map(|n| n.0)));
        let last = self.last.iter().enumerate();
        before.chain(last.map(|(i, n)| (BEST + 1 + i, Some(n.0))))
    }

    fn number(&self, column: usize) -> Option<f64> {
        self.numbers().find(|(i, _)| *i == column).and_then(|(_, number)| number)
    }
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
    const MORE: &'static [&'static str] = &DIVERGENCES;

    fn expected(column: usize) -> &'static str {
        match column {
            0 => "a whole number",
            BEST => "0 or 1",
            _ => "a finite number",
        }
    }

    fn wrong(&self) -> Option<usize> {
        let validated = self.validation.iter().any(Option::is_some);
        let wrong = |number: Option<f64>| number.map_or(validated, |n| !n.is_finite());
        let number = self.numbers().find(|(_, number)| wrong(*number)).map(|(i, _)| i);
        number.or((self.best > 1).then_some(BEST))
    }
}
