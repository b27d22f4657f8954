//! `gradcon ablate`

use std::path::PathBuf;

use super::settings::{Given, PaperArgs};
use super::stages::{self, Run};
use super::train::{check_tested, open_data};
use super::{DeviceArgs, Ui, interrupt};
use crate::data::Prepared;
use crate::error::{Error, Result};
use crate::files::{Lock, is_vacant};
use crate::folders;
use crate::method::model::{Kind, Model};
use crate::method::readout::{NAMES, Rule};
use crate::output::print;
use crate::report::ablation::{Ablation, SCHEMA_VERSION, Variant};
use crate::report::found::After;
use crate::report::results::{Formula, Results};
use crate::run::config::RunConfig;
use crate::run::evaluate::rules;
use crate::run::train::{Unit, now};

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
///   gradcon ablate --data data/fmnist --epochs 40 --out ablations/fmnist
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
    settings.check_no_patience()?;
    let mut settings = settings.resolved()?;
    if settings.alpha == 0.0 {
        return Err(Error::Usage("--alpha 0: an ablation trains with and without it".into()));
    }
    let prepared = open_data(&settings)?;
    check_tested(&prepared, &settings.data)?;
    settings.bind(&prepared)?;
    args.settings.take_steps_enough(&mut settings, args.paper.paper, &prepared, ui)?;
    let quarters = [settings.epochs.div_ceil(4), settings.epochs.div_ceil(2)];
    let (mut at, asked_for) = stages::epochs(&args.at, &quarters, settings.epochs)?;
    let runs: Vec<Run> = variants(&settings)
        .into_iter()
        .map(|(model, alpha)| {
            let folder = args.out.join(format!("{model}-alpha-{alpha}"));
            let kl_weight = settings.kl_weight.filter(|_| model == Kind::Vae);
            Ok((folder, RunConfig { model, alpha, kl_weight, ..settings.clone() }.resolved()?))
        })
        .collect::<Result<_>>()?;
    // Nothing is written before the folder is known to be ours.
    for (folder, config) in &runs {
        stages::check_same(folder, config)?;
    }
    if !runs.iter().any(|(folder, _)| folder.exists()) && !is_vacant(&args.out)? {
        let what = "not empty, and no ablation; choose another folder";
        return Err(Error::Usage(format!("{}: {what}", args.out.display())));
    }
    for run in &runs {
        stages::drop_past(&args.out, run, &mut at, &asked_for)?;
    }
    let mut engine = args.device.open(ui)?;
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let _lock = Lock::hold(&args.out, "gradcon ablate")?;
    let mut after: Vec<(Vec<After>, Vec<Formula>)> = vec![Default::default(); runs.len()];
    let mut last = None;
    for &epochs in &at {
        let part: Vec<Run> = runs
            .iter()
            .map(|(folder, config)| (folder.clone(), RunConfig { epochs, ..config.clone() }))
            .collect();
        let kept = |run: &Run| stages::kept(&args.out, &run.0, epochs);
        let todo: Vec<&Run> = part.iter().filter(|run| !kept(run).exists()).collect();
        if !todo.is_empty() {
            stages::train(&todo, name, &prepared, engine.as_mut(), ui)?;
        }
        for (run, (after, formulas)) in part.iter().zip(&mut after) {
            let path = kept(run);
            if !path.exists() {
                stages::evaluated(run, all_rules, &path, &prepared, engine.as_mut(), ui)?;
            }
            let results = Results::read(&path)?;
            after.push(After::of(epochs, &results)?);
            *formulas = results.about.scores.clone();
            last = Some(results);
        }
    }
    let Some(last) = last else { return Ok(()) };
    let model = settings.model_for(&prepared)?;
    let mut common = settings.fixed()?;
    for differs in ["model", "alpha", "kl_weight", "seed"] {
        common.remove(differs);
    }
    let of = |((folder, config), (after, formulas)): (&Run, (Vec<After>, _))| {
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

/// The layers of which each is a score of its own.
fn layers(model: &Model) -> Vec<&'static str> {
    model.encoder_layers().into_iter().chain(model.constrained_layers()).collect()
}

/// All scores of such a model: those with a name, each layer's, and the sum.
fn all_rules(config: &RunConfig, prepared: &Prepared) -> Result<Vec<Rule>> {
    let model = &config.model_for(prepared)?;
    let of_model = |name: &&str| Rule::named(name, model, config.beta).is_ok();
    let names = NAMES.into_iter().filter(of_model).chain(layers(model));
    let names: Vec<String> = names.map(String::from).collect();
    let mut rules = rules(config, prepared, &names, &[])?;
    let kl_weight = config.kl_weight.unwrap_or(0.0) / model.pixels() as f64;
    rules.push(Rule::sum(config.beta, kl_weight));
    Ok(rules)
}

/// What messages call a model.
fn name(unit: &Unit) -> String {
    let RunConfig { model, alpha, seed, .. } = unit.config;
    format!("{} ({model}, alpha {alpha}, seed {seed})", unit.class)
}
