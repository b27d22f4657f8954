//! `gradcon bench`

use std::time::Instant;

use super::sizes::{SizeArgs, up_to};
use super::{DeviceArgs, Ui};
use crate::engine::{Engine, Loaded, memory};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::method::detector::Detector;
use crate::method::feed::{Feed, log};
use crate::method::model::{IMAGE_SIZE, Init, Model};
use crate::method::programs::training_program;
use crate::method::scorer::Scorer;
use crate::output::outln;

/// Measure throughput: images a second in training and in scoring, end to end, on one device.
///
/// Every round trains --steps batches from a resident dataset (gather, both sweeps, update; one
/// read of the losses), then scores as many images with their own gradients (upload, score, read).
/// One warm-up round, then --rounds; the median counts. Per kernel: `gradcon program --time`.
/// RAYON_NUM_THREADS sets the threads of the CPU engine.
#[derive(clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    sizes: SizeArgs,

    /// Batches in a round.
    #[arg(long, default_value_t = 40, value_parser = up_to(u32::MAX as usize))]
    steps: usize,

    /// Rounds that count.
    #[arg(long, default_value_t = 7, value_parser = up_to(u32::MAX as usize))]
    rounds: usize,

    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Least, median and greatest images a second.
struct Rates([f64; 3]);

/// Times `round`, which handles `images` images, after one that doesn't count.
fn measure(rounds: usize, images: usize, mut round: impl FnMut() -> Result<()>) -> Result<Rates> {
    round()?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        round()?;
        rates.push(images as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(Rates([rates[0], rates[rounds / 2], rates[rounds - 1]]))
}

pub fn run(args: BenchArgs, ui: &Ui) -> Result<()> {
    let (sizes, model) = (&args.sizes, args.sizes.model()?);
    // Indices of images are 32 bits, and one of them marks padding.
    let images = sizes
        .batch
        .checked_mul(args.steps)
        .filter(|&images| images < u32::MAX as usize)
        .ok_or_else(|| {
        let (batch, most) = (sizes.batch, u32::MAX as usize / sizes.batch);
        Error::Usage(format!(
            "--steps {}: with --batch {batch}, at most {most} steps can be indexed",
            args.steps
        ))
    })?;
    let mut engine = args.device.open(ui)?;
    let explain = |e| sizes.explain(e, &[("--steps", args.steps)]);
    let program =
        training_program(&model, &sizes.config(), images, args.steps, sizes.options(engine.form()));
    engine.clear();
    let loaded = engine.load(&program).map_err(explain)?;
    memory::check("images and lists of a round", sizes.host_bytes(&program, &model, args.steps))
        .map_err(explain)?;
    let pixels = (0..images * model.pixels()).map(|i| (i * 37 % 256) as u8).collect();
    let data = Images::new(pixels, [images, IMAGE_SIZE, IMAGE_SIZE, sizes.channels])?;
    let train = bench_training(engine.as_mut(), loaded, &model, &args)?;
    let flops = program.cost().flops as f64 / (sizes.batch * sizes.replicas) as f64;
    let params = model.init(Init::Kaiming, 0);
    let reference = vec![1e-3; model.reference_len()];
    let detector =
        Detector { model: model.clone(), params, reference, description: Default::default() };
    let mut scorer = Scorer::new(engine.as_mut(), &detector).map_err(explain)?;
    let score = measure(args.rounds, images, || scorer.score(&data).map(drop))?;
    let device = engine.description();
    let [train_low, train_median, train_high] = train.0;
    let [score_low, score_median, score_high] = score.0;
    if args.json {
        let result = serde_json::json!({
            "device": device, "version": env!("CARGO_PKG_VERSION"), "batch": sizes.batch,
            "channels": sizes.channels, "replicas": sizes.replicas,
            "steps": args.steps, "rounds": args.rounds,
            "train_images_per_second": train_median, "train_range": [train_low, train_high],
            "score_images_per_second": score_median, "score_range": [score_low, score_high],
            "train_gflops": flops * train_median / 1e9,
        });
        outln!("{result}")?;
        return Ok(());
    }
    outln!(
        "{device}; batch {}, {} channel(s), {} model(s), median (least to greatest) of {} rounds",
        sizes.batch,
        sizes.channels,
        sizes.replicas,
        args.rounds
    )?;
    outln!(
        "training  {train_median:>9.0} images/s  ({train_low:.0} to {train_high:.0})  {:.1} \
         GFLOP/s",
        flops * train_median / 1e9
    )?;
    outln!("scoring   {score_median:>9.0} images/s  ({score_low:.0} to {score_high:.0})")?;
    Ok(())
}

/// Rates of training.
fn bench_training(
    engine: &mut dyn Engine,
    loaded: Loaded,
    model: &Model,
    args: &BenchArgs,
) -> Result<Rates> {
    let (batch, replicas) = (args.sizes.batch, args.sizes.replicas);
    let images = batch * args.steps;
    Feed::of("train", engine).pattern(model, batch, args.steps, replicas)?;
    measure(args.rounds, images * replicas, || {
        engine.run(loaded, 0..args.steps as u32)?;
        let log = engine.read(&log("train"))?;
        if log.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(Error::Verification("a loss is not finite".into()))
        }
    })
}
