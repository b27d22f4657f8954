//! Checks as a table for people.

use super::Check;
use crate::bench::text::columns;

/// A line for each tensor of an operation and order, with the worst of its checks.
pub fn table(checks: &[Check]) -> String {
    let titles = ["operation", "order", "tensor", "shape", "checks", "max error", "allowed", ""];
    let mut lines = vec![titles.map(String::from).to_vec()];
    let of = |check: &Check| (check.operation.clone(), check.order, check.tensor.clone());
    let mut seen = vec![];
    for check in checks {
        if seen.contains(&of(check)) {
            continue;
        }
        seen.push(of(check));
        let same: Vec<&Check> = checks.iter().filter(|other| of(other) == of(check)).collect();
        let Some(worst) = worst(same.iter().copied()) else { continue };
        lines.push(vec![
            worst.operation.clone(),
            order(worst).to_string(),
            worst.tensor.clone(),
            shape(worst),
            same.len().to_string(),
            format!("{:.1e}", worst.error),
            format!("{:.1e}", worst.allowed),
            if worst.ok() { "ok" } else { "FAILED" }.to_string(),
        ]);
    }
    columns(&lines, 4)
}

/// How many checks there were, how many failed, and which came nearest to failing, or beyond.
pub fn summary(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| !check.ok()).count();
    let worst = worst(checks.iter()).map(|check| {
        format!(
            "; the worst: {}, an error of {:.1e} where {:.1e} is allowed",
            what(check),
            check.error,
            check.allowed
        )
    });
    format!("{} checks, {failed} failed{}", checks.len(), worst.unwrap_or_default())
}

/// A check in words.
pub fn what(check: &Check) -> String {
    let case = if check.case.is_empty() { String::new() } else { format!(" ({})", check.case) };
    let Check { operation, tensor, .. } = check;
    format!("{operation}{case}, {} order, {tensor} {}", order(check), shape(check))
}

/// The check whose error is the greatest part of what is allowed.
fn worst<'c>(checks: impl Iterator<Item = &'c Check>) -> Option<&'c Check> {
    checks.max_by(|a, b| a.share().total_cmp(&b.share()))
}

fn order(check: &Check) -> &'static str {
    if check.order == 1 { "1st" } else { "2nd" }
}

fn shape(check: &Check) -> String {
    check.shape.map(|size| size.to_string()).join(" x ")
}
