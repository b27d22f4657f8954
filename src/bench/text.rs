//! Measurements as tables for people.

use super::record::{Cache, KernelRow, Kind, Row};
use super::stats::Summary;

/// Peaks, a line each.
pub fn peaks(rows: &[Row]) -> String {
    let titles = ["peak", "sizes", "median", "p20 to p80", "", "samples", "clock"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    for row in rows.iter().filter(|row| row.kind == Kind::Peak) {
        let number = |of: fn(&Summary) -> String| row.value.as_ref().map_or("-".to_string(), of);
        lines.push(vec![
            row.name.clone(),
            row.shape.clone(),
            number(|v| digits(v.median)),
            number(band),
            row.unit.name().to_string(),
            number(|v| v.samples.len().to_string()),
            row.clock_name().to_string(),
        ]);
    }
    let noted = rows.iter().filter_map(|row| Some((row, row.note.as_ref()?)));
    let notes = noted.map(|(row, note)| format!("{} is not measured: {note}\n", row.name));
    columns(&lines, 2) + &notes.collect::<String>()
}

/// The kernels of one program at one size, a line each, and what they are of the step.
pub fn kernels(rows: &[&Row]) -> String {
    let titles = [
        "kernel",
        "for",
        "sizes",
        "variant",
        "calls",
        "us",
        "p20 to p80",
        "less gap",
        "GFLOP/s",
        "GB/s",
        "% peak",
        "bound",
        "% step",
        "workgroups",
        "cold us",
        "check",
        "clock",
    ];
    let mut lines = vec![titles.map(String::from).to_vec()];
    let (mut sum, mut shares) = (0.0, 0.0);
    let first = |row: &&&Row| row.kind == Kind::Kernel && row.cache != Some(Cache::Cold);
    for row in rows.iter().filter(first) {
        let Some(kernel) = &row.kernel else { continue };
        let same = |other: &&&Row| {
            let variant = |row: &Row| row.kernel.as_ref().and_then(|kernel| kernel.variant.clone());
            let named = other.name == row.name && other.shape == row.shape;
            other.cache == Some(Cache::Cold) && named && variant(other) == variant(row)
        };
        let cold = rows.iter().find(same);
        let disturbed = row.disturbed || cold.is_some_and(|cold| cold.disturbed);
        let number = |value: Option<f64>| value.map_or("-".to_string(), digits);
        if kernel.among.is_none_or(|among| among.runs) {
            sum += kernel.count as f64 * row.median().unwrap_or(0.0);
        }
        shares += kernel.share_percent.unwrap_or(0.0);
        lines.push(vec![
            row.name.clone(),
            kernel.label.clone(),
            row.shape.clone(),
            variant(kernel),
            kernel.count.to_string(),
            number(row.median()),
            row.value.as_ref().map_or("-".to_string(), band),
            number(kernel.net_us),
            number(kernel.gflops),
            number(kernel.gbytes),
            number(kernel.peak_percent),
            kernel.bound.clone().unwrap_or("-".to_string()),
            number(kernel.share_percent),
            kernel.workgroups.to_string(),
            number(cold.and_then(|cold| cold.median())),
            if kernel.verified { "ok" } else { "WRONG" }.to_string(),
            format!("{}{}", row.clock_name(), if disturbed { ", disturbed" } else { "" }),
        ]);
    }
    let mut text = columns(&lines, 4);
    for row in rows.iter().filter(|row| row.kind == Kind::Kernel) {
        if let Some(note) = &row.note {
            text += &format!("{} is {note}\n", what(row));
        }
    }
    for row in rows.iter().filter(|row| row.kind == Kind::Step) {
        let (Some(value), Some(step)) = (&row.value, &row.step) else { continue };
        text += &format!(
            "the step: {} us (p20 to p80: {}), {} calls, {} waits, {} GFLOP/s; these kernels one by one: {} \
             us, {} %\n",
            digits(value.median),
            band(value),
            step.dispatches,
            step.waits,
            step.gflops.map_or("-".to_string(), digits),
            digits(sum),
            digits(shares)
        );
    }
    text
}

/// A kernel's row in words: its name, sizes and, if it is one of several, its variant.
pub fn what(row: &Row) -> String {
    let several = row.kernel.as_ref().filter(|kernel| kernel.among.is_some());
    let variant = several.and_then(|kernel| kernel.variant.as_ref());
    let variant = variant.map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{} {}{variant}", row.name, row.shape)
}

/// The variant's name, and what it is among all.
fn variant(kernel: &KernelRow) -> String {
    let Some(name) = &kernel.variant else { return "-".to_string() };
    let Some(among) = kernel.among else { return name.clone() };
    let chosen = among.runs && !among.default;
    let marks = [(among.default, "default"), (chosen, "chosen"), (among.fastest, "fastest")];
    let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    if marks.is_empty() { name.clone() } else { format!("{name} ({})", marks.join(", ")) }
}

fn band(value: &Summary) -> String {
    format!("{} to {}", digits(value.p20), digits(value.p80))
}

/// Lines of cells as text in columns: the first `left` of them flush left, the others right.
pub fn columns(lines: &[Vec<String>], left: usize) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if i < left { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Three digits, for tables.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let whole = value.abs().log10().floor() as i32;
    let decimals = (2 - whole).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let texts = [0.0123456, 0.5, 1.234, 56.78, 123.4, 98765.0].map(digits);
        assert_eq!(texts, ["0.0123", "0.500", "1.23", "56.8", "123", "98765"]);
    }

    #[test]
    fn cells_stand_in_columns() {
        let lines = [["a", "b", "1"], ["long", "", "234"]].map(|l| l.map(String::from).to_vec());
        assert_eq!(columns(&lines, 2), "a     b    1\nlong     234\n");
    }
}
