//! Two measurements side by side: what became faster, what slower.

use std::collections::BTreeMap;
use std::path::Path;

use super::record::{Cache, KernelRow, Kind, Record, Row};
use super::text::{columns, digits};
use crate::error::{Error, Result};

/// Changes up to this part of a median count for nothing, however steady the samples are.
const LEAST: f64 = 0.03;

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Inside of the noise, or too little to count.
    Same,
    /// Better beyond the noise.
    Faster,
    /// Worse beyond the noise.
    Slower,
    /// It had a value and has none now.
    Lost,
    /// It has a value and had none.
    Gained,
}

impl Change {
    /// From the two measurements of a row.
    pub fn of(old: &Row, new: &Row) -> Change {
        let (old_value, new_value) = match (&old.value, &new.value) {
            (Some(old), Some(new)) => (old, new),
            (Some(_), None) => return Change::Lost,
            (None, Some(_)) => return Change::Gained,
            (None, None) => return Change::Same,
        };
        let (a, b) = (old_value.median, new_value.median);
        let outside = !(old_value.p20..=old_value.p80).contains(&b)
            && !(new_value.p20..=new_value.p80).contains(&a);
        match outside && (b - a).abs() > LEAST * a {
            false => Change::Same,
            true if (b > a) == old.unit.is_rate() => Change::Faster,
            true => Change::Slower,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Change::Same => "same",
            Change::Faster => "faster",
            Change::Slower => "SLOWER",
            Change::Lost => "LOST",
            Change::Gained => "gained",
        }
    }
}

/// Two measurements, row by row.
pub struct Comparison<'r> {
    /// Rows that both have, in the order of the old one.
    pub pairs: Vec<(&'r Row, &'r Row, Change)>,
    /// Rows that the other one lacks.
    pub only_old: Vec<&'r Row>,
    /// Rows that the other one lacks.
    pub only_new: Vec<&'r Row>,
}

/// What two rows have in common that are of the same thing, and their number where there are
/// several.
type Key<'r> = (String, &'r str, &'r str, usize);

/// Rows by what they are of.
fn keyed(rows: &[Row]) -> Vec<(Key<'_>, &Row)> {
    let mut seen: BTreeMap<(String, &str, &str), usize> = BTreeMap::new();
    let mut keyed = vec![];
    for row in rows {
        let Row { kind, program, cache, replicas, batch, channels, .. } = row;
        let mut kind = format!("{kind:?} {program} {cache:?} {replicas} {batch} {channels}");
        // Else it is the variant that runs, whichever that is.
        if let Some(kernel) = row.kernel.as_ref().filter(|kernel| kernel.among.is_some()) {
            kind += kernel.variant.as_deref().unwrap_or_default();
        }
        let (name, shape) = (row.name.as_str(), row.shape.as_str());
        let count = seen.entry((kind.clone(), name, shape)).or_default();
        keyed.push(((kind, name, shape, *count), row));
        *count += 1;
    }
    keyed
}

impl<'r> Comparison<'r> {
    /// Pairs the rows of two measurements.
    pub fn of(old: &'r Record, new: &'r Record) -> Comparison<'r> {
        let mut others: BTreeMap<Key, &Row> = keyed(&new.rows).into_iter().collect();
        let (mut pairs, mut only_old) = (vec![], vec![]);
        for (key, row) in keyed(&old.rows) {
            match others.remove(&key) {
                Some(other) => pairs.push((row, other, Change::of(row, other))),
                None => only_old.push(row),
            }
        }
        let only_new = keyed(&new.rows).into_iter().filter(|(key, _)| others.contains_key(key));
        let only_new = only_new.map(|(_, row)| row).collect();
        Comparison { pairs, only_old, only_new }
    }

    /// How many rows changed so.
    pub fn count(&self, change: Change) -> usize {
        self.pairs.iter().filter(|(_, _, of)| *of == change).count()
    }

    /// The table, a line a pair, and the rows without a pair by name.
    pub fn table(&self) -> String {
        let titles =
            ["", "name", "shape", "sizes", "old", "new", "unit", "change", ""].map(String::from);
        let mut lines = vec![titles.to_vec()];
        for (old, new, change) in &self.pairs {
            let number = |row: &Row| row.median().map_or("-".to_string(), digits);
            let percent = old.median().zip(new.median()).map(|(a, b)| 100.0 * (b / a - 1.0));
            lines.push(vec![
                kind(old),
                old.name.clone(),
                old.shape.clone(),
                sizes(old),
                number(old),
                number(new),
                old.unit.name().to_string(),
                percent.map_or("-".to_string(), |p| format!("{p:+.1} %")),
                change.name().to_string(),
            ]);
        }
        let mut text = columns(&lines, 4);
        for (what, rows) in [("old", &self.only_old), ("new", &self.only_new)] {
            for row in rows {
                let (kind, name, shape) = (kind(row), &row.name, &row.shape);
                let line = format!("only in the {what} file: {kind} {name} {shape} {}", sizes(row));
                text += line.trim_end();
                text.push('\n');
            }
        }
        text
    }
}

fn kind(row: &Row) -> String {
    match (row.kind, row.cache) {
        (Kind::Peak, _) => "peak".to_string(),
        (Kind::Step, _) => "step".to_string(),
        (Kind::Kernel, cache) => {
            let cache = if cache == Some(Cache::Cold) { ", cold" } else { "" };
            let one_of_several = |kernel: &&KernelRow| kernel.among.is_some();
            let variant = row.kernel.as_ref().filter(one_of_several);
            let variant = variant.and_then(|kernel| kernel.variant.as_ref());
            let variant = variant.map(|name| format!(", {name}")).unwrap_or_default();
            format!("{}{variant}{cache}", row.program)
        }
    }
}

fn sizes(row: &Row) -> String {
    match row.kind {
        Kind::Peak => String::new(),
        _ => format!("r{} n{} c{}", row.replicas, row.batch, row.channels),
    }
}

/// Errors unless two measurements are of one device: adapter, backend and threads. (A driver is
/// what one may want to compare.)
///
/// # Errors
/// They aren't; the message names both files and devices.
pub fn same_device(old: (&Path, &Record), new: (&Path, &Record)) -> Result<()> {
    let of = |record: &Record| {
        let device = &record.device;
        (device.name.clone(), device.backend.clone(), device.kind.clone(), device.threads)
    };
    if of(old.1) == of(new.1) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} was measured on {}, {} on {}: expected one device (--across-devices compares two)",
        old.0.display(),
        old.1.description,
        new.0.display(),
        new.1.description
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::Unit;
    use crate::bench::stats::Summary;
    use crate::engine::Timing;
    use crate::engine::measure::Facts;

    fn row(name: &str, unit: Unit, samples: &[f64]) -> Row {
        let row = Row::new(Kind::Kernel, name, "5", unit);
        row.measured(Summary::of(samples.to_vec()), Timing::Wall)
    }

    #[test]
    fn a_change_is_beyond_the_noise_and_three_percent() {
        let us = |samples: &[f64]| row("map", Unit::Microseconds, samples);
        let old = us(&[99.0, 100.0, 101.0]);
        for (new, change) in [
            ([99.0, 100.0, 101.0], Change::Same),
            ([102.8, 102.9, 102.9], Change::Same),
            ([103.0, 103.5, 104.0], Change::Slower),
            ([90.0, 96.0, 97.0], Change::Faster),
            // The median is beyond, but the old one is inside of the new one's noise.
            ([80.0, 120.0, 130.0], Change::Same),
        ] {
            assert_eq!(Change::of(&old, &us(&new)), change, "{new:?}");
        }
        let (slow, fast) = (row("a", Unit::Gflops, &[1.0]), row("a", Unit::Gflops, &[2.0]));
        assert_eq!(Change::of(&slow, &fast), Change::Faster);
        assert_eq!(Change::of(&fast, &slow), Change::Slower);
        let wrong = Row { value: None, ..old.clone() };
        assert_eq!(Change::of(&old, &wrong), Change::Lost);
        assert_eq!(Change::of(&wrong, &old), Change::Gained);
    }

    #[test]
    fn rows_are_paired_by_what_they_are_of_and_others_named() {
        let us = |name: &str| row(name, Unit::Microseconds, &[1.0]);
        let cold = Row { cache: Some(Cache::Cold), ..us("a") };
        let large = Row { batch: 64, ..us("a") };
        let record = |rows| Record::new("kernels", Facts::default(), String::new(), rows);
        let old = record(vec![us("a"), us("a"), cold.clone(), us("gone")]);
        let new = record(vec![us("new"), cold, us("a"), large]);
        let comparison = Comparison::of(&old, &new);
        assert_eq!((comparison.pairs.len(), comparison.count(Change::Same)), (2, 2));
        assert!(comparison.pairs.iter().all(|(old, new, _)| old.cache == new.cache));
        let names = |rows: &[&Row]| rows.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&comparison.only_old), ["a", "gone"]);
        assert_eq!(names(&comparison.only_new), ["new", "a"]);
        let table = comparison.table();
        assert!(table.contains("only in the old file:  gone 5 r0 n0 c0"), "{table}");
    }

    #[test]
    fn another_device_is_no_comparison() {
        let on = |name: &str, driver: &str| {
            let facts = Facts { name: name.into(), driver: driver.into(), ..Facts::default() };
            Record::new("peaks", facts, format!("{name} ({driver})"), vec![])
        };
        let check = |a: &Record, b: &Record| same_device((Path::new("A"), a), (Path::new("B"), b));
        assert!(check(&on("x", "1"), &on("x", "2")).is_ok());
        let error = check(&on("x", "1"), &on("y", "1")).unwrap_err().to_string();
        assert!(error.contains("A was measured on x (1), B on y (1)"), "{error}");
    }
}
