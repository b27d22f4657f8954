//! Images a second, end to end: training steps on a resident dataset, scoring of images.

use std::time::Instant;

use super::record::{Kind, Row, StepRow, Unit};
use super::stats::Summary;
use super::{GoOn, Sizes};
use crate::engine::{Engine, Loaded, Timing};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::method::detector::{DEFAULT_BETA, Detector};
use crate::method::feed::{Feed, log};
use crate::method::model::{Init, Model};
use crate::method::programs::{score_program, training_program};
use crate::method::readout::Rule;
use crate::method::scorer::Scorer;
use crate::program::{Options, Program};

/// Measures `rounds` rounds of `steps` training steps, and as many of scoring as many images: two
/// rows. `check` hears of the training program when it is loaded, before the host's memory is
/// taken.
///
/// # Errors
/// Sizes that no model has; a device error, no memory; a loss that is no number; that of `go_on`.
pub fn measure(
    engine: &mut dyn Engine,
    sizes: Sizes,
    (steps, rounds): (usize, usize),
    check: impl FnOnce(&Program) -> Result<()>,
    go_on: GoOn,
) -> Result<[Row; 2]> {
    let Sizes { batch, size, channels, replicas, precision, .. } = sizes;
    let (model, images) = (sizes.model()?, batch * steps);
    let (options, config) = (sizes.options(engine.form()), sizes.config());
    let program = training_program(&model, &config, images, steps, options);
    engine.clear();
    let loaded = engine.load(&program)?;
    check(&program)?;
    let pixels = (0..images * model.pixels()).map(|i| (i * 37 % 256) as u8).collect();
    let data = Images::new(pixels, [images, size, size, channels])?;
    let train = training(engine, loaded, &model, sizes, (steps, rounds), go_on)?;
    let flops = program.cost().flops as f64 / (batch * replicas) as f64;
    let shape = sizes.of_step(&format!("{steps} steps"));
    let mut row = Row::new(Kind::Step, "training", &shape, Unit::Images);
    let gflops = Some(flops * train.median / 1e9);
    row.step = Some(StepRow::of(&program, gflops));
    let train = row.at(sizes).measured(train, Timing::Wall);

    let params = model.init(Init::Kaiming, 0);
    let reference = vec![1e-3; model.reference_len()];
    let options = Options { replicas: 1, ..options };
    let program = score_program(&model, batch, 1, options);
    let detector =
        Detector { model, params, reference, statistics: None, description: Default::default() };
    let mut scorer = Scorer::with(engine, &detector, &[Rule::paper(DEFAULT_BETA)], precision)?;
    let score = rates(rounds, images, || {
        go_on()?;
        scorer.score(&data).map(drop)
    })?;
    let shape = sizes.of_step(&format!("{images} images"));
    let mut row = Row::new(Kind::Step, "scoring", &shape, Unit::Images);
    row.step = Some(StepRow::of(&program, None));
    Ok([train, row.at(sizes).measured(score, Timing::Wall)])
}

/// Images a second of `round`, which handles `images` of them, after one that doesn't count.
fn rates(rounds: usize, images: usize, mut round: impl FnMut() -> Result<()>) -> Result<Summary> {
    round()?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        round()?;
        rates.push(images as f64 / start.elapsed().as_secs_f64());
    }
    Ok(Summary::of(rates))
}

fn training(
    engine: &mut dyn Engine,
    loaded: Loaded,
    model: &Model,
    Sizes { batch, replicas, .. }: Sizes,
    (steps, rounds): (usize, usize),
    go_on: GoOn,
) -> Result<Summary> {
    Feed::of("train", engine).pattern(model, batch, steps, replicas)?;
    rates(rounds, batch * steps * replicas, || {
        go_on()?;
        engine.run(loaded, 0..steps as u32)?;
        let log = engine.read(&log("train"))?;
        if log.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(Error::Verification("a loss is not finite".into()))
        }
    })
}
