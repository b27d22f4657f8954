//! `gradcon eval`

use std::path::{Path, PathBuf};

use super::sizes::PrecisionArgs;
use super::train::open_data;
use super::{DeviceArgs, Ui, interrupt, stages};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::folders::{self, EvalPlace};
use crate::output::print;
use crate::report::results::Results;
use crate::report::tables;
use crate::run::baselines;
use crate::run::config::RunConfig;
use crate::run::evaluate::{Evaluate, evaluate, rules};
use crate::run::share;

/// Evaluate a run: the paper's table, for every score.
///
/// Scores all test images of every class with the class's best model and prints AUROC per
/// class and mean (with AUPR, F1 at the best threshold, FPR at 95 % TPR and 95 % bootstrap
/// intervals in the files), what the stored threshold comes to, and of own images each kind of
/// anomaly by itself. Writes results.json, results.csv, results.md and
/// eval/CLASS/scores.csv into the run's folder; for a training with several seeds also means
/// and deviations over them. CURE-TSR gives a table of challenges and levels.
///
/// Scores, all from one pass over the images; higher is more anomalous:
///
///   auto            z(log code) - 0.125 z(cos_fisher), those of code and fisher; z: standardised
///                   on the validation images
///   paper           mse - 0.12 cos: reconstruction error, and mean cosine of the gradients of the
///                   decoder's layers with the training's (--beta LIST: other weights)
///   reconstruction  mse
///   gradient        -cos
///   latent          kl: divergence of the code from N(0, I); a variational model's
///   encoder         -cos of the encoder's layers with the mean gradient of the training images
///   code            log of the Mahalanobis distance of the code from the training images' codes
///   norm            log of the squared norm of the image's gradient in the decoder
///   metric          the same in the metric of Fisher's information
///   fisher          -cosine, in that metric, of the encoder's last layer
///   code-gradient   log of the Mahalanobis distance of the gradient that reaches the code
///   up.0, down.2 .. -cos of one layer
///
/// With --baselines also what simpler methods make of the same images, as further rows:
///
///   pca             mean r^2, r: what of the image is beside the mean and the principal components
///                   that explain 95 % of the variance of (at most 1,000) training images
///   nearest         distance of the code to the nearest of (at most 10,000) training images' codes
///   plain           mse of the same autoencoder, trained by the run's settings with --alpha 0; it is
///                   trained by the first such evaluation, and kept as the run RUN/plain
///   code            as above: a baseline, too
///
/// Examples:
///
///   gradcon eval runs/fmnist && gradcon report runs/fmnist
///   gradcon eval runs/mine --fpr 0.01
///   gradcon eval runs/fmnist --score paper --beta 0,0.01,0.03,0.1,0.3
///   gradcon eval runs/fmnist --baselines
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct EvalArgs {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Evaluate on this prepared folder. If it isn't the run's own dataset in another place, the
    /// results go to RUN/eval-NAME, beside the run's own.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Only these seeds of a training with several.
    #[arg(long, value_delimiter = ',', value_name = "S[,S...]")]
    seeds: Option<Vec<u64>>,

    /// Only these scores, by name; images are ranked by the first. [default: the run's own, then
    /// all but single layers]
    #[arg(long, value_delimiter = ',', value_name = "NAME[,NAME...]")]
    score: Vec<String>,

    /// Further weights of the cosine in the paper's score: a row of the table each.
    #[arg(long, value_delimiter = ',', value_name = "B[,B...]", allow_negative_numbers = true)]
    beta: Vec<f64>,

    /// Set the run's thresholds anew, for this rate of false positives, as `gradcon train --fpr` does:
    /// in its configuration and its models.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, conflicts_with = "data")]
    fpr: Option<f64>,

    /// Add the baselines pca, nearest and plain, for which a model without the constraint is trained
    /// once.
    #[arg(long)]
    baselines: bool,

    /// Leave out the bootstrap intervals.
    #[arg(long)]
    no_bootstrap: bool,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: EvalArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let mut config = RunConfig::read(&args.run)?;
    if args.fpr.is_some() {
        config.fpr = args.fpr;
        config.check()?;
    }
    let mut runs = config.runs(&args.run);
    let several = config.seeds.is_some();
    if let Some(seeds) = &args.seeds {
        if let Some(missing) =
            seeds.iter().find(|&&seed| runs.iter().all(|(_, config)| config.seed != seed))
        {
            return Err(Error::Usage(format!("{}: no run of seed {missing}", args.run.display())));
        }
        runs.retain(|(_, config)| seeds.contains(&config.seed));
    }
    let data = args.data.as_ref().unwrap_or(&config.data);
    let prepared = match &args.data {
        Some(data) => Prepared::open(data)?,
        None => open_data(&config)?,
    };
    if args.data.is_none() {
        config.check_data(&prepared)?;
    }
    // What baselines are fitted on.
    let other = (args.baselines && prepared.manifest().sha256() != config.data_sha256)
        .then(|| open_data(&config))
        .transpose()?;
    let own = other.as_ref().unwrap_or(&prepared);
    if args.baselines {
        config.check_data(own)?;
        if prepared.test_sets().is_empty() {
            let what = "normal images only, so there is nothing to compare by";
            return Err(Error::Usage(format!("--baselines: {}: {what}", data.display())));
        }
    }
    if let Some(beta) = args.beta.iter().find(|beta| !beta.is_finite()) {
        return Err(Error::Usage(format!("--beta {beta}: expected finite numbers")));
    }
    if args.fpr.is_some() {
        drop(share::open(&args.run, "gradcon eval")?);
        share::update(&args.run, &config)?;
        let seeds = config.runs(&args.run).into_iter();
        seeds
            .filter(|(folder, _)| *folder != args.run && folders::config(folder).exists())
            .try_for_each(|(folder, config)| share::update(&folder, &config))?;
    }
    let lock = share::open(&args.run, "gradcon eval")?;
    let mut engine = args.device.open(ui)?;
    let mut all: Vec<(u64, Results)> = vec![];
    let mut place = EvalPlace::own(&args.run);
    for (folder, config) in &runs {
        let _inner = if several {
            if !has_model(folder, config) {
                ui.warn(&format!(
                    "{}: no model to evaluate; seed {} is left out of the results",
                    folder.display(),
                    config.seed
                ));
                continue;
            }
            config.check_seed(folder)?;
            ui.progress(&format!("seed {}", config.seed));
            Some(share::open(folder, "gradcon eval")?)
        } else {
            None
        };
        let rules = rules(config, &prepared, &args.score, &args.beta)?;
        if args.baselines {
            train_plain(folder, config, own, engine.as_mut(), ui)?;
        }
        let what = Evaluate {
            run: folder,
            config,
            prepared: &prepared,
            data,
            rules: &rules,
            bootstrap: !args.no_bootstrap,
            precision: args.precision.precision,
            baselines: args.baselines.then_some(own),
            go_on: &interrupt::go_on,
        };
        let (results, written) =
            evaluate(&what, engine.as_mut(), |line| ui.progress(line), |line| ui.warn(line))?;
        lock.check()?;
        if let Some(inside) = written
            .results
            .strip_prefix(folder)
            .ok()
            .filter(|inside| !inside.as_os_str().is_empty())
        {
            ui.progress(&format!(
                "other data than the run's own: results in {}",
                written.results.display()
            ));
            place.results = args.run.join(inside);
        }
        all.push((config.seed, results));
    }
    let Some((_, first)) = all.first() else {
        return Err(Error::invalid(format!(
            "{run}: no model to evaluate; train the run first (`gradcon train --resume {run}`)",
            run = args.run.display()
        )));
    };
    if all.len() == 1 {
        print(&tables::markdown(first))?;
        return Ok(());
    }
    for class in keep_common(&mut all)? {
        ui.warn(&format!("class {class} has not every seed yet; it is left out of the means"));
    }
    let pairs: Vec<(u64, &Results)> = all.iter().map(|(seed, results)| (*seed, results)).collect();
    let results = Results::over_seeds(&pairs)?;
    results.write(&place.results)?;
    tables::write(&results, &place.results)?;
    print(&tables::markdown(&results))?;
    Ok(())
}

/// Trains the autoencoders without the constraint that a run's baselines lack.
fn train_plain(
    run: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    ui: &Ui,
) -> Result<()> {
    let Some(plain) = baselines::lacking(run, config) else { return Ok(()) };
    let (folder, config) = &plain;
    ui.progress(&format!("{}: models without the constraint", folder.display()));
    if folders::config(folder).exists() {
        // How it is judged may have changed in the run since.
        share::update(folder, config)?;
    }
    stages::train(&[&plain], |unit| unit.name.clone(), prepared, engine, ui)
}

/// Keeps the classes that every seed's results have, and returns the others.
///
/// # Errors
/// There is none that all have.
pub(super) fn keep_common(all: &mut [(u64, Results)]) -> Result<Vec<String>> {
    let of = |results: &Results| -> Vec<String> {
        results.classes.iter().map(|class| class.class.clone()).collect()
    };
    let classes: Vec<Vec<String>> = all.iter().map(|(_, results)| of(results)).collect();
    let mut dropped: Vec<String> = vec![];
    for class in classes.iter().flatten() {
        let common = classes.iter().all(|of_seed| of_seed.contains(class));
        if !common && !dropped.contains(class) {
            dropped.push(class.clone());
        }
    }
    if !dropped.is_empty() {
        for (_, results) in all {
            results.classes.retain(|class| !dropped.contains(&class.class));
            let Results { about, classes, challenges, .. } = results.clone();
            *results = Results::new(about, classes, challenges)?;
        }
    }
    Ok(dropped)
}

/// Whether a class of a run has a model.
fn has_model(run: &Path, config: &RunConfig) -> bool {
    let model = |class: &String| folders::best_model(&folders::training(run, class)).exists();
    config.inliers.iter().any(model)
}
