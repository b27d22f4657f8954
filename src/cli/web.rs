//! `gradcon web`

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use super::sizes::{MAX_BATCH, up_to};
use super::{DeviceArgs, Ui, interrupt, model};
use crate::data::Prepared;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::kernels::Form;
use crate::method::config::TrainConfig;
use crate::method::detector::{DEFAULT_BETA, Detector};
use crate::method::model::{Kind, Model};
use crate::output::{Output, outln};
use crate::web::host::{Frame, Host};
use crate::web::page::{Content, Recorded, Tests, check_size, page};
use crate::web::plans::Programs;

/// Write one HTML file that trains and scores in a browser, on its reader's GPU.
///
/// The page has everything inside: the programs and kernels, some images of a prepared folder,
/// the model, and a small runner. Opened in a browser with WebGPU it trains on the reader's own
/// GPU: losses, cosines, reconstructions, the gradient of an image beside the references, scores
/// of test images, and a canvas to draw on. It asks for nothing from any network. Where there is no
/// WebGPU it says so and shows a run that is recorded now, from fresh parameters on the same
/// images.
///
/// Scores in the page are the paper's, mse - beta cos. With --model a reader starts from the
/// trained model or from fresh parameters, with --blank from fresh ones only.
///
/// Examples:
///
///   gradcon web --model runs/mine --data data/mine --out page.html
///   gradcon web --blank --data data/fmnist --class sneaker --out page.html
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct WebArgs {
    /// A model file, or a run or folder with one.
    #[arg(long, value_name = "FILE|RUN", required_unless_present = "blank")]
    model: Option<PathBuf>,

    /// Start from fresh parameters, without a trained model.
    #[arg(long, conflicts_with = "model")]
    blank: bool,

    /// The prepared folder that images come from.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Which class is normal: a name, its beginning, or its number in the dataset. [default: the
    /// model's, or the only one]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,

    /// The file to write, whole or not at all.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Images in the page: two thirds to train on, the rest normal and anomalous ones to judge, as
    /// many of each as there are.
    #[arg(
        long, default_value_t = 768, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(6..=MAX_IMAGES)
    )]
    images: usize,

    /// Epochs of the recorded run.
    #[arg(
        long, default_value_t = 20, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(0..=MAX_EPOCHS)
    )]
    epochs: usize,

    /// Images in a batch of the training.
    #[arg(long, default_value_t = 64, value_parser = up_to(MAX_BATCH))]
    batch: usize,

    /// Seed of fresh parameters and of the order of images.
    #[arg(long, default_value_t = 0)]
    seed: u32,

    /// What was written, as a JSON object on standard output.
    #[arg(long)]
    json: bool,

    /// Which device records the run.
    #[command(flatten)]
    device: DeviceArgs,
}

/// More fit no page, whatever they are.
const MAX_IMAGES: u64 = 1 << 20;
const MAX_EPOCHS: u64 = 10_000;

pub fn run(args: WebArgs, ui: &Ui) -> Result<()> {
    let trained =
        args.model.as_deref().map(|path| load(path, args.class.as_deref())).transpose()?;
    let data = Prepared::open(&args.data)?;
    let inlier = inlier(&args, trained.as_ref(), &data)?;
    let class = data.inliers()[inlier].name.clone();
    let model = match &trained {
        Some((detector, file)) => {
            check_model(detector, file, &data, &args.data)?;
            detector.model.clone()
        }
        None => Model::sized(Kind::Cae, check_whole(&data, &args.data)?, data.channels())?,
    };
    let config = config(&args, trained.as_ref().map(|(detector, _)| detector))?;
    let all = data.train_of(inlier)?;
    let train = all.select(&spread(all.n, args.images * 2 / 3));
    let picked = tests(&data, inlier, (args.images - args.images * 2 / 3) / 2)?;
    let (tests, labels, names) = &picked;
    if train.n == 0 || tests.n == 0 {
        let (train, tests) = (train.n, tests.n);
        return Err(Error::invalid(format!(
            "{}: {train} images to train on and {tests} to judge, expected some of each",
            args.data.display()
        )));
    }
    let models = 1 + usize::from(trained.is_some());
    check_size(&model, (&train, tests), models, args.epochs)?;
    // Also what doesn't fit a browser is better known before the work.
    let plans = Programs::new(&model, &config, train.n, tests.n, Form::Parallel).plans(&[])?;
    let mut out = Output::create(&args.out)?;
    interrupt::catch();
    let mut engine = args.device.open(ui)?;
    let device = engine.description();
    let fresh = model.init(config.init, config.seed);
    let mut host = Host::new(engine.as_mut(), &model, &config, (&train, tests), &fresh)?;
    let frames = record(&mut host, args.epochs, ui)?;
    let frame = match &trained {
        Some((detector, _)) => Some(host.judge(&detector.params, &detector.reference)?),
        None => None,
    };
    let iterations = |detector: &Detector| -> Result<u64> {
        let epochs = detector.number("epoch")?.unwrap_or(0.0);
        Ok((epochs * all.n.div_ceil(config.batch_size) as f64) as u64)
    };
    let start = match &trained {
        Some((detector, _)) => Some((detector, iterations(detector)?)),
        None => None,
    };
    let beta = trained.as_ref().map_or(Ok(DEFAULT_BETA), |(detector, _)| detector.beta())?;
    let text = page(&Content {
        class: &class,
        dataset: data.manifest().name(),
        model: &model,
        config: &config,
        beta,
        fresh: &fresh,
        trained: start,
        train: &train,
        tests: Tests { images: tests, labels, names },
        variants: &[],
        recorded: Recorded { device, frames, trained: frame },
    })?;
    out.write(text.as_bytes())?;
    out.commit()?;
    let anomalous = labels.iter().filter(|&&label| label == 1).count();
    if args.json {
        let dispatches: Vec<usize> = plans.iter().map(|plan| plan.dispatches.len()).collect();
        return outln!(
            "{}",
            serde_json::json!({
                "page": args.out.display().to_string(), "bytes": text.len(), "class": class,
                "train": train.n, "normal": tests.n - anomalous, "anomalous": anomalous,
                "epochs": args.epochs, "dispatches": {
                    "train": dispatches[0], "score": dispatches[1], "gallery": dispatches[2],
                    "look": dispatches[3],
                },
            })
        );
    }
    ui.progress(&format!(
        "wrote {}: {:.1} MB, {} images to train on, {} normal and {anomalous} anomalous ones to \
         judge; open it in a browser with WebGPU",
        args.out.display(),
        text.len() as f64 / 1e6,
        train.n,
        tests.n - anomalous
    ));
    Ok(())
}

/// The model and its file.
fn load(path: &Path, class: Option<&str>) -> Result<(Detector, PathBuf)> {
    let file = model::find(path, class.filter(|_| path.is_dir()))?;
    Ok((Detector::load(&file)?, file))
}

/// Which class of the data is normal.
fn inlier(args: &WebArgs, trained: Option<&(Detector, PathBuf)>, data: &Prepared) -> Result<usize> {
    let names: Vec<&str> = data.inliers().iter().map(|inlier| inlier.name.as_str()).collect();
    let place = args.data.display();
    let of_flag = match &args.class {
        None => None,
        Some(text) => match data.find_inliers(std::slice::from_ref(text))?[..] {
            [one] => Some(one),
            _ => {
                return Err(Error::Usage(format!(
                    "--class {text}: more than one class of {place}"
                )));
            }
        },
    };
    let of_model = trained.and_then(|(detector, _)| detector.description.get("inlier"));
    let of_model = of_model.and_then(|class| names.iter().position(|name| name == class));
    match (of_model, of_flag) {
        (Some(model), Some(flag)) if model != flag => Err(Error::Usage(format!(
            "--class: {} of {place}, but the model's is {}",
            names[flag], names[model]
        ))),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) if names.len() == 1 => Ok(0),
        (None, None) => Err(Error::Usage(format!(
            "{place}: {} classes; choose which is normal with --class: {}",
            names.len(),
            names.join(", ")
        ))),
    }
}

/// The size of the data's images, which a page judges as a whole.
fn check_whole(data: &Prepared, folder: &Path) -> Result<usize> {
    match data.tiles() {
        None => Ok(data.size()),
        Some(tiles) => Err(Error::invalid(format!(
            "{}: images are cut into tiles ({tiles}), and a page judges whole ones; prepare them \
             without --tiles",
            folder.display()
        ))),
    }
}

/// Errors unless the model is for such images.
fn check_model(detector: &Detector, file: &Path, data: &Prepared, folder: &Path) -> Result<()> {
    let [size, channels] = [check_whole(data, folder)?, data.channels()];
    if detector.tiling().map_err(|e| e.in_file(file))?.is_some() {
        return Err(Error::invalid(format!(
            "{}: the model judges images by their tiles, and a page judges whole ones",
            file.display()
        )));
    }
    let (own, own_channels) = (detector.model.size(), detector.model.channels());
    if (own, own_channels) == (size, channels) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: images of {size} x {size} with {channels} channels, but {} is a model of {own} x {own} \
         with {own_channels}",
        folder.display(),
        file.display()
    )))
}

/// How a page trains: as the model was, as far as it says.
fn config(args: &WebArgs, trained: Option<&Detector>) -> Result<TrainConfig> {
    let mut config = TrainConfig {
        epochs: args.epochs,
        batch_size: args.batch,
        seed: args.seed.into(),
        ..TrainConfig::default()
    };
    if let Some(detector) = trained {
        config.alpha = detector.number("alpha")?.unwrap_or(config.alpha);
        config.kl_weight = detector.number("kl_weight")?.unwrap_or(config.kl_weight);
    }
    Ok(config)
}

/// At most `wanted` of `count` numbers, evenly spread.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    let most = count.min(wanted);
    (0..most).map(|i| i * count / most).collect()
}

/// At most `each` normal and as many anomalous images in turns, their labels and what they are:
/// test images, or where there are none validation images.
fn tests(data: &Prepared, inlier: usize, each: usize) -> Result<(Images, Vec<u8>, Vec<String>)> {
    let set = data.test_sets_of(inlier).max_by_key(|set| set.info.normal.min(set.info.anomalous));
    let Some(set) = set else {
        let all = data.val_of(inlier)?;
        let images = all.select(&spread(all.n, each));
        let (labels, names) = (vec![0; images.n], vec!["normal".to_string(); images.n]);
        return Ok((images, labels, names));
    };
    let of = |label: u8| {
        let all: Vec<usize> = set
            .indices
            .iter()
            .zip(&set.labels)
            .filter(|(_, l)| **l == label)
            .map(|p| *p.0)
            .collect();
        spread(all.len(), each).into_iter().map(|i| (all[i], label)).collect::<Vec<_>>()
    };
    let (normal, anomalous) = (of(0), of(1));
    let turns = (0..normal.len().max(anomalous.len()))
        .flat_map(|i| [normal.get(i), anomalous.get(i)].into_iter().flatten());
    let chosen: Vec<(usize, u8)> = turns.copied().collect();
    let indices: Vec<usize> = chosen.iter().map(|(image, _)| *image).collect();
    let labels = chosen.iter().map(|(_, label)| *label).collect();
    let class = |image: usize| data.class_names()[data.test().labels[image] as usize].clone();
    let name = |&image: &usize| match data.names() {
        Some(names) => names.test[image].clone(),
        None => class(image),
    };
    let names = indices.iter().map(name).collect();
    Ok((data.test().images.select(&indices), labels, names))
}

/// The epochs that a page shows without WebGPU.
fn record(host: &mut Host, epochs: usize, ui: &Ui) -> Result<Vec<Frame>> {
    let bar = ui.bar(epochs as u64);
    let mut frames = vec![];
    for epoch in 1..=epochs {
        if interrupt::asked() {
            return Err(Error::Interrupted);
        }
        let frame = host.epoch()?;
        let finite = frame.losses.iter().all(|loss| loss.mse.is_finite());
        if !finite || frame.scores.iter().any(|score| !score.is_finite()) {
            return Err(Error::invalid(format!(
                "the recorded run diverged in epoch {epoch}; a page with fewer --epochs has none of \
                 it"
            )));
        }
        frames.push(frame);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(frames)
}
