//! Reading CSV files with errors that name file, line, column and expectation.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::{Bounded, shown};

/// A CSV file whose header was checked.
pub struct Table<'a, R> {
    path: &'a Path,
    columns: &'static [&'static str],
    records: csv::StringRecordsIntoIter<Bounded<R>>,
}

/// One row of a [`Table`].
pub struct Row<'a> {
    path: &'a Path,
    columns: &'static [&'static str],
    record: csv::StringRecord,
}

impl<'a, R: Read> Table<'a, R> {
    /// Reads the first line, which must be exactly `columns`. There may be `limit` bytes in all.
    /// `path` stands for the file in errors.
    ///
    /// # Errors
    /// The file cannot be read, or has another header.
    pub fn new(
        reader: R,
        limit: u64,
        path: &'a Path,
        columns: &'static [&'static str],
    ) -> Result<Self> {
        let mut reader = csv::Reader::from_reader(Bounded::new(reader, limit, "a table"));
        let header = reader.headers().map_err(|e| csv_error(path, &e))?;
        if !header.iter().eq(columns.iter().copied()) {
            let (got, want) =
                (shown(header.iter().collect::<Vec<_>>().join(",")), columns.join(","));
            return Err(Error::invalid(format!(
                "{}:1: header \"{got}\", expected \"{want}\"",
                path.display()
            )));
        }
        Ok(Table { path, columns, records: reader.into_records() })
    }

    /// The next row, or nothing at the end.
    ///
    /// # Errors
    /// A row with another number of fields, or bytes that are not UTF-8.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>> {
        match self.records.next() {
            None => Ok(None),
            Some(Err(e)) => Err(csv_error(self.path, &e)),
            Some(Ok(record)) => Ok(Some(Row { path: self.path, columns: self.columns, record })),
        }
    }
}

impl Row<'_> {
    /// The text of column `i`.
    pub fn text(&self, i: usize) -> &str {
        &self.record[i]
    }

    /// Column `i` as a finite number.
    ///
    /// # Errors
    /// Anything else, NaN and infinities included.
    pub fn number(&self, i: usize) -> Result<f64> {
        self.parse(i, "a finite number", |text| text.parse().ok().filter(|v: &f64| v.is_finite()))
    }

    /// Column `i` through `parse`; `expected` names what it accepts.
    ///
    /// # Errors
    /// `parse` gave nothing.
    pub fn parse<T>(
        &self,
        i: usize,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        parse(self.text(i)).ok_or_else(|| {
            let line = self.record.position().map_or(0, csv::Position::line);
            let (path, column, text) = (self.path.display(), self.columns[i], shown(self.text(i)));
            Error::invalid(format!("{path}:{line}: {column} is \"{text}\", expected {expected}"))
        })
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

/// Rows of fields as CSV text.
///
/// # Errors
/// A row whose length is not that of `columns`.
pub fn to_csv(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>> {
    let failed = |e: csv::Error| Error::invalid(format!("cannot write CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).map_err(failed)?;
    for row in rows {
        writer.write_record(row).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| Error::invalid(format!("cannot write CSV: {e}")))
}
