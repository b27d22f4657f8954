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

/// A table whose last columns are the cosines of a model's constrained layers, and of some tables
/// further numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Table<R> {
    /// Names of the layers, in order; the model decides which there are.
    pub layers: Vec<String>,
    /// Names of the further columns, in order.
    pub more: Vec<String>,
    /// One entry a line.
    pub rows: Vec<R>,
}

/// What a layer is called in tables, on pages and in tags: `up0` for up.0.
pub fn short(layer: &str) -> String {
    layer.replace('.', "")
}

/// The column of a layer's cosine: `cos_up0` for up.0.
pub fn cosine_column(layer: &str) -> String {
    format!("{COSINE}{}", short(layer))
}

const COSINE: &str = "cos_";

/// Most layers of a table: more than any model has.
const MAX_LAYERS: usize = 64;

/// Letters of the name of a further column.
const MOST_NAME: usize = 64;

/// The layer of a cosine's column, if it is one.
fn layer_of(column: &str) -> Option<&str> {
    let layer = column.strip_prefix(COSINE)?;
    let plain = layer.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    (plain && (1..=32).contains(&layer.len())).then_some(layer)
}

/// A row of a table that can be read; its fields in order are the columns, the last of which are
/// the layers' cosines.
pub trait Row: DeserializeOwned {
    /// The table's header before the cosines.
    const COLUMNS: &'static [&'static str];

    /// Columns that some tables have between those and the cosines: all of them or none.
    const MORE: &'static [&'static str] = &[];

    /// Whether columns of other names may follow the cosines.
    const OPEN: bool = false;

    /// What a column accepts, in words.
    fn expected(column: usize) -> &'static str;

    /// The first column whose value is of its type but not what it accepts.
    fn wrong(&self) -> Option<usize>;
}

/// The whole header of a table, which may be one with [`Row::MORE`].
pub fn header<R: Row>(layers: &[String], more: bool) -> Vec<String> {
    let more = if more { R::MORE } else { &[] };
    let fixed = R::COLUMNS.iter().chain(more).map(|&column| column.to_string());
    fixed.chain(layers.iter().map(|layer| cosine_column(layer))).collect()
}

/// Reads a table whose first line must be the header. There may be `limit` bytes in all. `path`
/// stands for the file in errors.
///
/// # Errors
/// The file cannot be read or has another header; a row with another number of fields, bytes that
/// are not UTF-8, or a field that its column does not accept.
pub fn read<R: Row>(reader: impl Read, limit: u64, path: &Path) -> Result<Table<R>> {
    let mut reader = csv::Reader::from_reader(Bounded::new(reader, limit, "a table"));
    let header = reader.headers().map_err(|e| csv_error(path, &e))?.clone();
    let fixed = R::COLUMNS.len();
    let more = header.iter().skip(fixed).take(R::MORE.len()).eq(R::MORE.iter().copied());
    let more = if more { R::MORE.len() } else { 0 };
    let named = || header.iter().skip(fixed + more);
    let layers: Vec<String> = named().map_while(layer_of).map(str::to_string).collect();
    let others: Vec<String> = named().skip(layers.len()).map(str::to_string).collect();
    let begins = header.iter().take(fixed).eq(R::COLUMNS.iter().copied());
    let is_name = |name: &String| (1..=MOST_NAME).contains(&name.len());
    let open = R::OPEN && others.len() <= MAX_LAYERS && others.iter().all(is_name);
    if !begins || !(1..=MAX_LAYERS).contains(&layers.len()) || !(others.is_empty() || open) {
        let (got, want) =
            (shown(header.iter().collect::<Vec<_>>().join(",")), R::COLUMNS.join(","));
        return Err(Error::invalid(format!(
            "{}:1: header \"{got}\", expected \"{want}\" and {COSINE}LAYER for each layer",
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
            let (path, text) = (path.display(), shown(&record[i]));
            let column = shown(&header[i]);
            let expected = R::expected(i);
            return Err(Error::invalid(format!(
                "{path}:{line}: {column} is \"{text}\", expected {expected}"
            )));
        }
        rows.push(row.map_err(|e| csv_error(path, &e))?);
    }
    Ok(Table { layers, more: others, rows })
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
    columns: Option<&[String]>,
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
