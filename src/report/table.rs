//! CSV tables as typed rows, with errors that name file, line, column and expectation.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::limits::{Bounded, shown};

/// A number that keeps every bit: the shortest text that reads back as the same f64, without an
/// exponent.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A row of a table that can be read; its fields in order are the columns.
pub trait Row: DeserializeOwned {
    /// The table's header.
    const COLUMNS: &'static [&'static str];

    /// What a column accepts, in words.
    fn expected(column: usize) -> &'static str;

    /// The first column whose value is of its type but not what it accepts.
    fn wrong(&self) -> Option<usize>;
}

/// Reads a table whose first line must be exactly the header. There may be `limit` bytes in all.
/// `path` stands for the file in errors.
///
/// # Errors
/// The file cannot be read or has another header; a row with another number of fields, bytes that
/// are not UTF-8, or a field that its column does not accept.
pub fn read<R: Row>(reader: impl Read, limit: u64, path: &Path) -> Result<Vec<R>> {
    let mut reader = csv::Reader::from_reader(Bounded::new(reader, limit, "a table"));
    let header = reader.headers().map_err(|e| csv_error(path, &e))?;
    if !header.iter().eq(R::COLUMNS.iter().copied()) {
        let (got, want) =
            (shown(header.iter().collect::<Vec<_>>().join(",")), R::COLUMNS.join(","));
        return Err(Error::invalid(format!(
            "{}:1: header \"{got}\", expected \"{want}\"",
            path.display()
        )));
    }
    let mut rows = Vec::new();
    for record in reader.into_records() {
        let record = record.map_err(|e| csv_error(path, &e))?;
        let row: std::result::Result<R, csv::Error> = record.deserialize(None);
        let wrong = match &row {
            Ok(row) => row.wrong(),
            Err(e) => field(e),
        };
        if let Some(i) = wrong {
            let line = record.position().map_or(0, csv::Position::line);
            let (path, column, text) = (path.display(), R::COLUMNS[i], shown(&record[i]));
            let expected = R::expected(i);
            return Err(Error::invalid(format!(
                "{path}:{line}: {column} is \"{text}\", expected {expected}"
            )));
        }
        rows.push(row.map_err(|e| csv_error(path, &e))?);
    }
    Ok(rows)
}

/// The field that is not of its column's type.
fn field(error: &csv::Error) -> Option<usize> {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.field().map(|i| i as usize),
        _ => None,
    }
}

/// The crate's message with the file in front; it names the line itself.
fn csv_error(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(String::new(), |p| format!(":{}", p.line()));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::invalid(format!(
            "{}{line}: {len} fields, expected {expected_len}",
            path.display()
        )),
        _ => Error::invalid(format!("{}{line}: {}", path.display(), shown(error))),
    }
}

/// Rows as CSV text; the header is `columns`, else the names of the rows' fields.
///
/// # Errors
/// None in practice: the table is written to memory.
pub fn to_csv<R: Serialize>(
    columns: Option<&[&str]>,
    rows: impl IntoIterator<Item = R>,
) -> Result<Vec<u8>> {
    let failed = |e: csv::Error| Error::invalid(format!("cannot write CSV: {e}"));
    let mut writer =
        csv::WriterBuilder::new().has_headers(columns.is_none()).from_writer(Vec::new());
    if let Some(columns) = columns {
        writer.write_record(columns).map_err(failed)?;
    }
    for row in rows {
        writer.serialize(row).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| Error::invalid(format!("cannot write CSV: {e}")))
}
