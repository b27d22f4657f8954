//! `gradcon gradcheck`

use super::{DeviceArgs, Ui, interrupt};
use crate::check::cases::{LOSSES, operations};
use crate::check::{self, Check, Float, text};
use crate::engine::{Engine, cpu};
use crate::error::{Error, Result};
use crate::output::{outln, print};

/// Check a device's gradients against finite differences: every operation to second order, and the
/// whole loss in every parameter tensor.
///
/// What to run first on a device or driver that nobody knows. The device computes gradients in f32;
/// the CPU engine computes differences of values in f64, from the same numbers. An error is relative
/// to the derivative, and allowed is what rounding of so many terms can come to: a rule that is wrong
/// by a hundredth fails by far. If something fails, the exit code is 4.
///
///   gradcon gradcheck --device gpu
///   gradcon gradcheck --filter conv      (only what has this in its name)
///   gradcon gradcheck --f64              (the rules by themselves, to 1e-7)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct GradcheckArgs {
    /// Only operations and losses (cae loss, vae loss) whose names have this text in them.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Judge the CPU engine in f64 instead of a device.
    #[arg(long, conflicts_with_all = ["device", "plan", "allow_software"])]
    f64: bool,

    /// One JSON object instead of the table: every check by itself.
    #[arg(long)]
    json: bool,

    /// Take the rule of this operation to be wrong by 1 %, to see that it is found.
    #[arg(long = "break", value_name = "OPERATION", hide = true)]
    broken: Option<String>,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: GradcheckArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let operations = operations();
    if let Some(broken) = &args.broken
        && !operations.iter().any(|case| case.name == broken)
    {
        let names = operations.iter().map(|case| case.name);
        return Err(unknown("--break", broken, "an operation with a derivative", names));
    }
    let filter = args.filter.as_deref().unwrap_or_default();
    let cases: Vec<_> = operations.iter().filter(|case| case.name.contains(filter)).collect();
    let losses = LOSSES.iter().filter(|case| case.name().contains(filter));
    let losses: Vec<_> = losses.collect();
    if cases.is_empty() && losses.is_empty() {
        let names = operations.iter().map(|case| case.name);
        let names = names.chain(LOSSES.iter().map(|case| case.name()));
        return Err(unknown("--filter", filter, "a part of one of these names", names));
    }
    let (mut engine, float) = match args.f64 {
        true => (cpu::f64(), Float::F64),
        false => (args.device.open(ui)?, Float::F32),
    };
    ui.progress("checking gradients against finite differences");
    let bar = ui.bar((2 * cases.len() + losses.len()) as u64).with_message("gradients");
    let mut checks = vec![];
    for case in cases {
        let broken = args.broken.as_deref() == Some(case.name);
        for order in [1, 2] {
            interrupt::go_on()?;
            checks.extend(check::operation(case, order, broken, engine.as_mut(), float)?);
            bar.inc(1);
        }
    }
    for case in losses {
        interrupt::go_on()?;
        checks.extend(check::loss(case, engine.as_mut(), float)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    tell(engine.as_ref(), &checks, args.json)
}

/// Prints what was found; an error if something failed.
fn tell(engine: &dyn Engine, checks: &[Check], json: bool) -> Result<()> {
    let device = engine.description();
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.ok()).collect();
    if json {
        let each = |check: &Check| {
            let Check { operation, case, order, tensor, shape, numeric, analytic, error, allowed } =
                check;
            serde_json::json!({
                "operation": operation, "case": case, "order": order, "tensor": tensor,
                "shape": shape, "numeric": numeric, "analytic": analytic, "error": error,
                "allowed": allowed, "ok": check.ok(),
            })
        };
        let found = serde_json::json!({
            "device": device, "version": env!("CARGO_PKG_VERSION"),
            "failed": failed.len(), "checks": checks.iter().map(each).collect::<Vec<_>>(),
        });
        outln!("{found}")?;
    } else {
        print(&format!("{device}\n{}", text::table(checks)))?;
        outln!("{}", text::summary(checks))?;
    }
    let Some(first) = failed.first() else { return Ok(()) };
    Err(Error::Verification(format!(
        "{device}: {} of {} gradients are not the derivative, the first of them {}",
        failed.len(),
        checks.len(),
        text::what(first)
    )))
}

/// An argument that names nothing, with what there is, each once.
fn unknown(
    flag: &str,
    value: &str,
    expected: &str,
    names: impl Iterator<Item = &'static str>,
) -> Error {
    let mut known: Vec<&str> = vec![];
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    Error::Usage(format!("{flag} '{value}': expected {expected}: {}", known.join(", ")))
}
