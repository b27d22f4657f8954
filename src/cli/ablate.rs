//! `gradcon ablate`

use std::path::{Path, PathBuf};

use super::settings::{Given, PaperArgs};
use super::train::{Progress, open_data};
use super::{DeviceArgs, Ui, interrupt};
use crate::data::Prepared;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{Lock, is_vacant, make_folder};
use crate::folders;
use crate::method::model::{Kind, Model};
use crate::method::readout::{NAMES, Rule};
use crate::output::print;
use crate::program::Precision;
use crate::report::ablation::{Ablation, After, SCHEMA_VERSION, Variant};
use crate::report::results::{Formula, Results};
use crate::run::config::RunConfig;
use crate::run::evaluate::{Evaluate, evaluate, rules};
use crate::run::share;
use crate::run::train::{End, Options, Unit, now, train_units};

/// What each part adds: the plain and the variational model, each trained with and without the
/// constraint, by every score, as the paper's tables.
///
/// Scored by reconstruction, latent (the divergence of the code), gradient, their sum, the other
/// scores of `gradcon eval`, and the cosine of each layer alone, after all epochs and after
/// those of --at. Writes ablation.json, .csv, .md and the page ablation.html; the tables go to
/// standard output. Ctrl-C saves and exits with 130; the same command goes on to the same bits.
///
/// Each model is a run in ABLATION/MODEL-alpha-A, for `gradcon eval`, `report` and `score`; what
/// was found on the way is in ABLATION/after-N.
///
/// Examples:
///
///   gradcon ablate --data data/fmnist --epochs 40 --init kaiming --out ablations/fmnist
///   gradcon ablate --data data/mnist --inlier 0-2 --seeds 0,1,2 --epochs 20 --at 5,10 --out a
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AblateArgs {
    /// Folder of a dataset that `gradcon prep` made.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    #[command(flatten)]
    settings: Given,

    #[command(flatten)]
    paper: PaperArgs,

    /// Epochs to evaluate after, beside the last. [default: a quarter and half of them]
    #[arg(
        long, value_delimiter = ',', value_name = "N[,N...]",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    at: Vec<u32>,

    /// The ablation's folder: new, empty, or that of the same ablation.
    #[arg(long, value_name = "ABLATION")]
    out: PathBuf,

    #[command(flatten)]
    device: DeviceArgs,
}

/// The models with their weights of the constraint, the paper's rows.
fn variants(settings: &RunConfig) -> [(Kind, f64); 4] {
    let alpha = settings.alpha;
    [(Kind::Cae, 0.0), (Kind::Cae, alpha), (Kind::Vae, 0.0), (Kind::Vae, alpha)]
}

pub fn run(args: AblateArgs, ui: &Ui) -> Result<()> {
    let remedy = "a lower --batch-size, or fewer classes or seeds at once, needs less";
    ablate(args, ui).map_err(|e| e.with_remedy(remedy))
}

fn ablate(args: AblateArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let mut settings = args.settings.over(args.paper.base())?;
    settings.data = args.data.clone();
    if args.settings.flags().iter().any(|flag| flag == "--model") {
        return Err(Error::Usage("--model: an ablation trains both models".into()));
    }
    let mut settings = settings.resolved()?;
    if settings.alpha == 0.0 {
        return Err(Error::Usage("--alpha 0: an ablation trains with and without it".into()));
    }
    let prepared = open_data(&settings)?;
    settings.bind(&prepared)?;
    let mut at: Vec<usize> = match &args.at[..] {
        [] => vec![settings.epochs.div_ceil(4), settings.epochs.div_ceil(2)],
        at => at.iter().map(|&epochs| epochs as usize).collect(),
    };
    if let Some(late) = at.iter().find(|&&epochs| epochs > settings.epochs) {
        return Err(Error::Usage(format!("--at {late}: after {} epochs", settings.epochs)));
    }
    at.push(settings.epochs);
    at.sort_unstable();
    at.dedup();
    let runs: Vec<(PathBuf, RunConfig)> = variants(&settings)
        .into_iter()
        .map(|(model, alpha)| {
            let folder = args.out.join(format!("{model}-alpha-{alpha}"));
            let kl_weight = settings.kl_weight.filter(|_| model == Kind::Vae);
            Ok((folder, RunConfig { model, alpha, kl_weight, ..settings.clone() }.resolved()?))
        })
        .collect::<Result<_>>()?;
    // Nothing is written before the folder is known to be ours.
    for (folder, config) in &runs {
        check_same(folder, config)?;
    }
    if !runs.iter().any(|(folder, _)| folder.exists()) && !is_vacant(&args.out)? {
        let what = "not empty, and no ablation; choose another folder";
        return Err(Error::Usage(format!("{}: {what}", args.out.display())));
    }
    let mut engine = args.device.open(ui)?;
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let _lock = Lock::hold(&args.out, "gradcon ablate")?;
    let mut after: Vec<(Vec<After>, Vec<Formula>)> = vec![Default::default(); runs.len()];
    let mut last = None;
    for &epochs in &at {
        let part: Vec<(PathBuf, RunConfig)> = runs
            .iter()
            .map(|(folder, config)| (folder.clone(), RunConfig { epochs, ..config.clone() }))
            .collect();
        let kept = |folder: &Path, config: &RunConfig| kept(&args.out, folder, config);
        let todo: Vec<&(PathBuf, RunConfig)> =
            part.iter().filter(|(folder, config)| !kept(folder, config).exists()).collect();
        if !todo.is_empty() {
            train(&todo, &prepared, engine.as_mut(), ui)?;
        }
        for ((folder, config), (after, formulas)) in part.iter().zip(&mut after) {
            let path = kept(folder, config);
            if !path.exists() {
                let results = evaluated(folder, config, &prepared, engine.as_mut(), ui)?;
                make_folder(crate::files::parent(&path))?;
                results.write_as(&path)?;
            }
            let results = Results::read(&path)?;
            after.push(After::of(epochs, &results));
            *formulas = results.about.scores.clone();
            last = Some(results);
        }
    }
    let Some(last) = last else { return Ok(()) };
    let model = Model::of(Kind::Cae, prepared.channels())?;
    let mut common = settings.fixed()?;
    for differs in ["model", "alpha", "kl_weight", "seed"] {
        common.remove(differs);
    }
    let of = |((folder, config), (after, formulas)): (&(PathBuf, RunConfig), (Vec<After>, _))| {
        let name = folder.strip_prefix(&args.out).unwrap_or(folder).display().to_string();
        let RunConfig { model, alpha, .. } = config;
        Variant { folder: name, model: model.to_string(), alpha: *alpha, formulas, after }
    };
    let ablation = Ablation {
        schema_version: SCHEMA_VERSION,
        gradcon_version: env!("CARGO_PKG_VERSION").into(),
        date: now(),
        dataset: last.about.dataset.clone(),
        data_sha256: settings.data_sha256.clone(),
        device: last.about.device.clone(),
        outlier_percent: last.headline_percent().unwrap_or(50.0),
        settings: common,
        seeds: settings.seeds.clone().unwrap_or(vec![settings.seed]),
        layers: layers(&model).into_iter().map(String::from).collect(),
        variants: runs.iter().zip(after).map(of).collect(),
    };
    ablation.write(&args.out)?;
    print(&ablation.markdown())?;
    let page = folders::ablation(&args.out).with_extension("html");
    ui.progress(&format!("the page: {}", page.display()));
    Ok(())
}

/// Errors unless a variant's folder is free or has the same run, perhaps to other epochs.
fn check_same(folder: &Path, config: &RunConfig) -> Result<()> {
    if !folders::config(folder).exists() {
        return Ok(());
    }
    let there = RunConfig::read(folder)?;
    config.check_fixed(&there.fixed()?).map_err(|e| e.in_file(folder))?;
    if (&there.seeds, &there.inliers) == (&config.seeds, &config.inliers) {
        return Ok(());
    }
    Err(Error::Usage(format!("{}: a run of other classes or seeds", folder.display())))
}

/// Where the results of a run after some epochs are kept.
fn kept(ablation: &Path, folder: &Path, config: &RunConfig) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ablation.join(format!("after-{}", config.epochs)).join(format!("{name}.json"))
}

/// Trains runs to their epochs, as few programs as there can be.
fn train(
    runs: &[&(PathBuf, RunConfig)],
    prepared: &Prepared,
    engine: &mut dyn Engine,
    ui: &Ui,
) -> Result<()> {
    let mut units = vec![];
    for (root, whole) in runs {
        for (folder, config) in whole.runs(root) {
            share::open_seed(root, whole, prepared)?;
            if folder != *root {
                share::open_seed(&folder, &config, prepared)?;
            }
            share::update(&folder, &config)?;
            let mut of_run = Unit::all(&folder, &config);
            for unit in &mut of_run {
                let RunConfig { model, alpha, seed, .. } = config;
                unit.name = format!("{} ({model}, alpha {alpha}, seed {seed})", unit.class);
            }
            units.extend(of_run);
        }
    }
    let epochs = units.first().map_or(0, |unit| unit.config.epochs);
    ui.progress(&format!("{} model(s), to epoch {epochs}", units.len()));
    let mut progress = Progress::new(*ui, &units, prepared)?;
    let outcome = train_units(&units, prepared, engine, Options::default(), &mut progress);
    progress.bar.finish_and_clear();
    match outcome?.end {
        End::Complete => Ok(()),
        End::Stopped => {
            ui.progress("saved; the same command goes on from there");
            Err(Error::Interrupted)
        }
    }
}

/// The layers of which each is a score of its own.
fn layers(model: &Model) -> Vec<&'static str> {
    model.encoder_layers().into_iter().chain(model.constrained_layers()).collect()
}

/// Evaluates a run by all scores, of several seeds as means over them.
fn evaluated(
    root: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    ui: &Ui,
) -> Result<Results> {
    let model = Model::of(config.model, prepared.channels())?;
    let mut all: Vec<(u64, Results)> = vec![];
    for (folder, config) in config.runs(root) {
        interrupt::go_on()?;
        let of_model = |name: &&str| Rule::named(name, &model, config.beta).is_ok();
        let names = NAMES.into_iter().filter(of_model).chain(layers(&model));
        let names: Vec<String> = names.map(String::from).collect();
        let mut rules = rules(&config, &model, &names, &[])?;
        let kl_weight = config.kl_weight.unwrap_or(0.0) / model.pixels() as f64;
        rules.push(Rule::sum(config.beta, kl_weight));
        let _lock = share::open(&folder, "gradcon ablate")?;
        let what = Evaluate {
            run: &folder,
            config: &config,
            prepared,
            data: &config.data,
            rules: &rules,
            bootstrap: false,
            precision: Precision::F32,
        };
        ui.progress(&format!("{}, epoch {}", folder.display(), config.epochs));
        let (results, _) = evaluate(&what, engine, |_| (), |line| ui.warn(line))?;
        all.push((config.seed, results));
    }
    let pairs: Vec<(u64, &Results)> = all.iter().map(|(seed, results)| (*seed, results)).collect();
    match &pairs[..] {
        [(_, one)] => Ok((*one).clone()),
        pairs => Results::over_seeds(pairs),
    }
}
