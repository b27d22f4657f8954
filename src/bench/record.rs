//! The result of a measurement: rows, and the device and program that they are of. As JSON it keeps
//! every sample, as CSV a row has a line.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Sizes;
use super::stats::Summary;
use crate::engine::Timing;
use crate::engine::measure::Facts;
use crate::error::{Error, Result};
use crate::limits::{self, shown};
use crate::program::Program;
use crate::report::table::to_csv;

/// What a file says that it is.
const FORMAT: &str = "gradcon bench";

/// The version of the format; a change that old readers misread is a new one.
pub const SCHEMA: u32 = 1;

/// Everything that one command measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    format: String,
    schema: u32,
    /// peaks, kernels or steps.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// The commit that it was built from: GRADCON_GIT of the build, else unknown.
    pub git: String,
    /// Whether there were changes beyond the commit, where that is known.
    pub dirty: Option<bool>,
    /// When, in UTC.
    pub date: String,
    /// The device.
    pub device: Facts,
    /// The device, for people.
    pub description: String,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// What a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Peak,
    Kernel,
    Step,
}

/// Whether operands may lie in a cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// As the last run left them.
    Warm,
    /// Flushed before every sample.
    Cold,
}

/// The unit of a row's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Unit {
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "GFLOP/s")]
    Gflops,
    #[serde(rename = "GB/s")]
    Gbytes,
    #[serde(rename = "images/s")]
    Images,
}

impl Unit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Microseconds => "us",
            Unit::Gflops => "GFLOP/s",
            Unit::Gbytes => "GB/s",
            Unit::Images => "images/s",
        }
    }

    /// Whether more is better.
    pub fn is_rate(self) -> bool {
        self != Unit::Microseconds
    }
}

/// One thing that was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is.
    pub kind: Kind,
    /// The kernel, the peak or the step.
    pub name: String,
    /// Its sizes.
    pub shape: String,
    /// The program that a kernel is of: train or score; empty for others.
    pub program: String,
    /// Of a kernel.
    pub cache: Option<Cache>,
    /// 0 where it makes no difference, as of peaks.
    pub replicas: usize,
    /// As `replicas`.
    pub batch: usize,
    /// As `replicas`.
    pub channels: usize,
    /// Of `value`.
    pub unit: Unit,
    /// What measured it; nothing did where there is no value.
    pub clock: Option<Timing>,
    /// The measurement; `note` says why there is none.
    pub value: Option<Summary>,
    /// What is to be said of it.
    pub note: Option<String>,
    /// The device's FMA peak was another before than after.
    pub disturbed: bool,
    /// More of a kernel.
    pub kernel: Option<KernelRow>,
    /// More of a step.
    pub step: Option<StepRow>,
}

/// What a variant is among all of a call's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Among {
    /// The one where nothing else is chosen.
    pub default: bool,
    /// The one that a step runs: the default, or what a tuned plan says.
    pub runs: bool,
    /// The one with the least median, warm.
    pub fastest: bool,
}

/// What is said of a kernel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KernelRow {
    /// What its first call computes for the model.
    pub label: String,
    /// Calls in a step.
    pub count: usize,
    /// Its results are those of the f64 engine.
    pub verified: bool,
    /// The worst difference, as a part of what is allowed.
    pub worst: Option<f64>,
    /// Useful operations of one call, all replicas.
    pub flops: u64,
    /// Operations that a GPU runs for them, where the kernel says so.
    pub executed: Option<u64>,
    /// Bytes that one call moves at least, all replicas.
    pub bytes: u64,
    /// The variant that ran, where the engine has several.
    pub variant: Option<String>,
    /// Its place among the variants that were measured, if all were.
    pub among: Option<Among>,
    /// Workgroups of one call on a GPU in this variant, all replicas.
    pub workgroups: u64,
    /// The median less a launch that does nothing, in microseconds, by the same clock.
    pub net_us: Option<f64>,
    /// Useful operations a second, from the median.
    pub gflops: Option<f64>,
    /// Operations run a second, useful or not.
    pub executed_gflops: Option<f64>,
    /// Bytes moved at least, a second.
    pub gbytes: Option<f64>,
    /// Least time by the device's peaks over time taken, in percent.
    pub peak_percent: Option<f64>,
    /// The peak that says so: FMA, a memory, or launch.
    pub bound: Option<String>,
    /// Time of all its calls over the step's, in percent.
    pub share_percent: Option<f64>,
}

/// What is said of a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StepRow {
    /// Kernel calls.
    pub dispatches: usize,
    /// Waits between them on a GPU.
    pub waits: usize,
    /// Useful operations a second, from the median.
    pub gflops: Option<f64>,
}

impl StepRow {
    /// Of a program.
    pub fn of(program: &Program, gflops: Option<f64>) -> StepRow {
        StepRow { dispatches: program.calls.len(), waits: program.waits(), gflops }
    }
}

impl Row {
    /// A row without a value.
    pub fn new(kind: Kind, name: &str, shape: &str, unit: Unit) -> Row {
        Row {
            kind,
            name: name.to_string(),
            shape: shape.to_string(),
            program: String::new(),
            cache: None,
            replicas: 0,
            batch: 0,
            channels: 0,
            unit,
            clock: None,
            value: None,
            note: None,
            disturbed: false,
            kernel: None,
            step: None,
        }
    }

    /// At these sizes.
    pub fn at(self, sizes: Sizes) -> Row {
        let Sizes { batch, channels, replicas, .. } = sizes;
        Row { batch, channels, replicas, ..self }
    }

    /// With a measurement.
    pub fn measured(self, value: Summary, clock: Timing) -> Row {
        Row { value: Some(value), clock: Some(clock), ..self }
    }

    /// The median, if there is one.
    pub fn median(&self) -> Option<f64> {
        self.value.as_ref().map(|value| value.median)
    }

    /// The clock, for people.
    pub fn clock_name(&self) -> &'static str {
        match self.clock {
            Some(Timing::Device) => "device",
            Some(Timing::Wall) => "host",
            None => "-",
        }
    }
}

/// What the build says of its commit, as `git describe --always --dirty` writes it.
fn commit(text: Option<&str>) -> (String, Option<bool>) {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        None => ("unknown".to_string(), None),
        Some(text) => match text.strip_suffix("-dirty") {
            Some(hash) => (hash.to_string(), Some(true)),
            None => (text.to_string(), Some(false)),
        },
    }
}

impl Record {
    /// What `command` measured on a device, now.
    pub fn new(command: &str, device: Facts, description: String, rows: Vec<Row>) -> Record {
        let (git, dirty) = commit(option_env!("GRADCON_GIT"));
        Record {
            format: FORMAT.to_string(),
            schema: SCHEMA,
            command: command.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            git,
            dirty,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            device,
            description,
            rows,
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// None in practice: it is written to memory.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::invalid(format!("cannot write JSON: {e}")))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a file of [`Record::to_json`].
    ///
    /// # Errors
    /// It can't be read, is no such file, or one of another version.
    pub fn read(path: &Path) -> Result<Record> {
        Record::parse(&limits::read(path, limits::BENCH, "a measurement")?, path)
    }

    /// What [`Record::read`] makes of bytes; `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Record> {
        Record::from_json(bytes).map_err(|e| e.in_file(path))
    }

    fn from_json(text: &[u8]) -> Result<Record> {
        let wanted = format!("a file of `gradcon bench --json FILE`, schema {SCHEMA}");
        let invalid = |what: String| Error::invalid(format!("{what}, expected {wanted}"));
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|e| invalid(format!("no JSON ({e})")))?;
        match value.get("format") {
            Some(format) if format == FORMAT => {}
            Some(format) => return Err(invalid(format!("format {}", shown(format)))),
            None => return Err(invalid("no \"format\"".to_string())),
        }
        match value.get("schema") {
            Some(schema) if *schema == SCHEMA => {}
            Some(schema) => return Err(invalid(format!("schema {}", shown(schema)))),
            None => return Err(invalid("no \"schema\"".to_string())),
        }
        let record: Record =
            serde_json::from_value(value).map_err(|e| invalid(shown(e).to_string()))?;
        let values = record.rows.iter().filter_map(|row| row.value.as_ref());
        match values.flat_map(|v| [v.median, v.p20, v.p80]).find(|v| *v <= 0.0) {
            Some(wrong) => Err(invalid(format!("a measurement of {wrong}"))),
            None => Ok(record),
        }
    }

    /// As CSV, a line for each row.
    ///
    /// # Errors
    /// None in practice: it is written to memory.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        to_csv(Some(&COLUMNS.map(String::from)), self.rows.iter().map(line))
    }
}

/// The columns of the CSV.
const COLUMNS: [&str; 36] = [
    "kind",
    "name",
    "shape",
    "program",
    "cache",
    "replicas",
    "batch",
    "channels",
    "unit",
    "median",
    "p20",
    "p80",
    "samples",
    "clock",
    "disturbed",
    "note",
    "label",
    "count",
    "verified",
    "worst",
    "flops",
    "bytes",
    "workgroups",
    "gflops",
    "executed_gflops",
    "gbytes",
    "peak_percent",
    "bound",
    "share_percent",
    "dispatches",
    "waits",
    "variant",
    "default",
    "runs",
    "fastest",
    "net_us",
];

/// A row in these columns; what it doesn't have is empty.
fn line(row: &Row) -> Vec<String> {
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map(|v| v.to_string()).unwrap_or_default()
    }
    let (value, kernel) = (row.value.as_ref(), row.kernel.as_ref());
    let among = kernel.and_then(|kernel| kernel.among);
    let cache = row.cache.map(|cache| if cache == Cache::Warm { "warm" } else { "cold" });
    let kind = match row.kind {
        Kind::Peak => "peak",
        Kind::Kernel => "kernel",
        Kind::Step => "step",
    };
    vec![
        kind.to_string(),
        row.name.clone(),
        row.shape.clone(),
        row.program.clone(),
        text(cache),
        row.replicas.to_string(),
        row.batch.to_string(),
        row.channels.to_string(),
        row.unit.name().to_string(),
        text(value.map(|v| v.median)),
        text(value.map(|v| v.p20)),
        text(value.map(|v| v.p80)),
        text(value.map(|v| v.samples.len())),
        text(row.clock.map(|_| row.clock_name())),
        row.disturbed.to_string(),
        text(row.note.as_ref()),
        text(kernel.map(|k| &k.label)),
        text(kernel.map(|k| k.count)),
        text(kernel.map(|k| k.verified)),
        text(kernel.and_then(|k| k.worst)),
        text(kernel.map(|k| k.flops)),
        text(kernel.map(|k| k.bytes)),
        text(kernel.map(|k| k.workgroups)),
        text(kernel.and_then(|k| k.gflops).or(row.step.as_ref().and_then(|s| s.gflops))),
        text(kernel.and_then(|k| k.executed_gflops)),
        text(kernel.and_then(|k| k.gbytes)),
        text(kernel.and_then(|k| k.peak_percent)),
        text(kernel.and_then(|k| k.bound.as_ref())),
        text(kernel.and_then(|k| k.share_percent)),
        text(row.step.as_ref().map(|s| s.dispatches)),
        text(row.step.as_ref().map(|s| s.waits)),
        text(kernel.and_then(|k| k.variant.as_ref())),
        text(among.map(|among| among.default)),
        text(among.map(|among| among.runs)),
        text(among.map(|among| among.fastest)),
        text(kernel.and_then(|k| k.net_us)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let sizes = Sizes { batch: 64, channels: 3, replicas: 2, ..Sizes::default() };
        let mut kernel = Row::new(Kind::Kernel, "map", "add, 5", Unit::Microseconds).at(sizes);
        kernel.cache = Some(Cache::Cold);
        kernel.kernel = Some(KernelRow {
            label: "\"loss\"".to_string(),
            count: 2,
            verified: true,
            worst: Some(0.1 + 0.2),
            flops: u64::MAX,
            executed: None,
            bytes: 3,
            variant: Some("wide".to_string()),
            among: Some(Among { default: true, runs: false, fastest: true }),
            workgroups: 1,
            net_us: Some(0.25),
            gflops: Some(1e-7),
            executed_gflops: None,
            gbytes: Some(2.5),
            peak_percent: Some(50.0),
            bound: Some("FMA".to_string()),
            share_percent: None,
        });
        let kernel = kernel.measured(Summary::of(vec![0.1, 0.3, 1.0 / 3.0]), Timing::Device);
        let mut peak = Row::new(Kind::Peak, "read L3", "8 MiB", Unit::Gbytes);
        peak.note = Some("none here".to_string());
        Record::new("kernels", Facts::default(), "a device".to_string(), vec![kernel, peak])
    }

    #[test]
    fn json_keeps_every_bit() {
        let record = record();
        let read = Record::from_json(&record.to_json().unwrap()).unwrap();
        assert_eq!(read, record);
        assert_eq!(
            read.rows[0].value.as_ref().unwrap().samples[2].to_bits(),
            (1f64 / 3.0).to_bits()
        );
    }

    #[test]
    fn files_from_before_variants_were_told_are_read() {
        let mut value = serde_json::to_value(record()).unwrap();
        let kernel = value["rows"][0]["kernel"].as_object_mut().unwrap();
        for name in ["variant", "among", "net_us"] {
            kernel.remove(name).unwrap();
        }
        let read = Record::from_json(value.to_string().as_bytes()).unwrap();
        let kernel = read.rows[0].kernel.as_ref().unwrap();
        assert_eq!((&kernel.variant, kernel.among, kernel.net_us), (&None, None, None));
    }

    #[test]
    fn other_files_are_told_what_is_expected() {
        let good = String::from_utf8(record().to_json().unwrap()).unwrap();
        for (from, to, says) in [
            ("\"gradcon bench\"", "\"other\"", "format \"other\""),
            ("\"format\"", "\"form\"", "no \"format\""),
            ("\"schema\": 1", "\"schema\": 2", "schema 2"),
            ("\"schema\"", "\"scheme\"", "no \"schema\""),
            ("\"rows\"", "\"raws\"", "rows"),
            ("\"median\": 0.3", "\"median\": -0.3", "a measurement of -0.3"),
            ("{", "", "no JSON"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Record::from_json(good.replacen(from, to, 1).as_bytes()).unwrap_err();
            let message = error.to_string();
            let wanted = "expected a file of `gradcon bench --json FILE`, schema 1";
            assert!(message.contains(says) && message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn csv_has_a_field_for_every_column() {
        let csv = record().to_csv().unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_slice());
        assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(COLUMNS.to_vec()));
        let lines: Vec<_> = reader.records().map(|line| line.unwrap()).collect();
        assert_eq!((lines.len(), &lines[0][16], &lines[0][13]), (2, "\"loss\"", "device"));
        assert_eq!((&lines[1][9], &lines[1][15]), ("", "none here"));
        let last =
            |line: &csv::StringRecord| line.iter().skip(31).map(String::from).collect::<Vec<_>>();
        assert_eq!(last(&lines[0]), ["wide", "true", "false", "true", "0.25"]);
        assert!(last(&lines[1]).iter().all(String::is_empty));
    }

    #[test]
    fn the_build_says_what_it_was_built_from() {
        assert_eq!(commit(None), ("unknown".to_string(), None));
        assert_eq!(commit(Some("abc\n")), ("abc".to_string(), Some(false)));
        assert_eq!(commit(Some("abc-dirty")), ("abc".to_string(), Some(true)));
    }
}
