//! `gradcon report`: the HTML page of evaluated runs.

use std::path::{Path, PathBuf};

use crate::cli::Ui;
use crate::error::{Error, Result};
use crate::files;
use crate::folders;
use crate::output::Output;
use crate::report::page::page_of;

/// Turn evaluated runs into one self-contained HTML page.
///
/// The page holds the table of AUROCs with their intervals (the full score and its two parts),
/// AUPR, F1 and FPR95, ROC curves, score histograms, cosines by decoder layer, training curves, the
/// most normal and most anomalous images with reconstructions and error maps, the configuration and
/// where the numbers were made. It needs no network and no script, prints well and follows the
/// reader's dark mode. Several runs get a table that compares them first.
///
/// Every number comes from the runs' files. A run needs `results.json`, as `gradcon eval` writes
/// it; other files that are missing are named in the page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gradcon report runs/fmnist runs/fmnist-vae --out fmnist.html")]
pub struct ReportArgs {
    /// Folders of evaluated runs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the first run's folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Writes the page.
///
/// # Errors
/// A folder without readable results, files that contradict each other, or whatever the file system
/// says.
pub fn run(args: ReportArgs, ui: &Ui) -> Result<()> {
    if let Some(folder) = args.out.as_deref().map(files::parent) {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let out = args.out.unwrap_or_else(|| folders::page(&args.runs[0]));
    write_page(&args.runs, &out)?;
    ui.progress(&format!("wrote {}", out.display()));
    Ok(())
}

/// Writes the page of `runs` to `out`.
pub(super) fn write_page(runs: &[impl AsRef<Path>], out: &Path) -> Result<()> {
    // A place that can't be written to is better known before the work.
    let mut file = Output::create(out)?;
    file.write(page_of(runs)?.as_bytes())?;
    file.commit()
}
