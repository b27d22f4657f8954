//! `gradcon eval`

use std::path::PathBuf;

use super::train::run_folders;
use super::{DeviceArgs, Ui};
use crate::Result;
use crate::data::Prepared;
use crate::report::results::{OverSeeds, Results};
use crate::run::config::RunConfig;
use crate::run::evaluate::evaluate;

/// Evaluate a run: the paper's table for the full score and for its two parts alone.
///
/// Scores all test images of every class with the class's best model and prints AUROC per
/// class and mean (with AUPR, F1 at the best threshold, FPR at 95 % TPR and 95 % bootstrap
/// intervals in the files). Writes results.json, results.csv, results.md and
/// eval/CLASS/scores.csv into the run's folder; for a training with several seeds also means
/// and deviations over them. CURE-TSR gives a table of challenges and levels.
///
/// Example:
///
///   gradcon eval runs/fmnist && gradcon report runs/fmnist
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct EvalArgs {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Evaluate on this prepared folder instead of the run's own dataset.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Only these seeds of a training with several.
    #[arg(long, value_delimiter = ',', value_name = "S[,S...]")]
    seeds: Option<Vec<u64>>,

    /// Leave out the bootstrap intervals.
    #[arg(long)]
    no_bootstrap: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: EvalArgs, ui: &Ui) -> Result<()> {
    let folders = run_folders(&args.run)?;
    let mut runs = vec![];
    for folder in &folders {
        let config = RunConfig::read(folder)?;
        if args.seeds.as_ref().is_none_or(|seeds| seeds.contains(&config.seed)) {
            runs.push((folder, config));
        }
    }
    if let Some(missing) = args.seeds.iter().flatten().find(|&&seed| runs.iter().all(|(_, config)| config.seed != seed))
    {
        return Err(crate::Error::Usage(format!("{}: no run of seed {missing}", args.run.display())));
    }
    let mut engine = args.device.open(ui)?;
    let mut all: Vec<(u64, Results)> = vec![];
    for (folder, config) in runs {
        let prepared = Prepared::open(args.data.as_ref().unwrap_or(&config.data))?;
        if folders.len() > 1 {
            ui.progress(&format!("seed {}", config.seed));
        }
        let results =
            evaluate(folder, &config, &prepared, engine.as_mut(), !args.no_bootstrap, |line| ui.progress(line))?;
        all.push((config.seed, results));
    }
    let Some((_, first)) = all.first() else { return Ok(()) };
    let mut results = first.clone();
    if all.len() > 1 {
        let pairs: Vec<(u64, &Results)> = all.iter().map(|(seed, results)| (*seed, results)).collect();
        results.over_seeds = Some(OverSeeds::of(&pairs)?);
        results.write(&args.run)?;
    }
    print!("{}", results.markdown());
    Ok(())
}
