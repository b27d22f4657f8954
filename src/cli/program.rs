//! `gradcon program`

use super::{DeviceArgs, Ui};
use crate::engine::{Data, Timing};
use crate::gradcon::batches::{Batches, Reading};
use crate::gradcon::model::{Init, Model};
use crate::gradcon::scorer::score_program;
use crate::gradcon::trainer::{TrainConfig, training_program, validation_program};
use crate::program::compile::Options;
use crate::{Error, Result};

/// Show what a step runs: every kernel call with shapes, operations and bytes.
///
/// Counts follow from the sizes alone: a multiply-add is two operations, taps in the padding
/// are not counted, bytes are what has to move at least once. With --time every call is
/// measured on the device:
///
///   gradcon program --step score --time --device cpu
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ProgramArgs {
    /// The model: cae, the paper's convolutional autoencoder.
    #[arg(long, default_value = "cae", value_parser = ["cae"])]
    model: String,

    /// Channels of an image.
    #[arg(long, default_value_t = 1)]
    channels: usize,

    /// Images in a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,

    /// Independent models in one program.
    #[arg(long, default_value_t = 1)]
    replicas: usize,

    /// Which step.
    #[arg(long, default_value = "train", value_parser = ["train", "validate", "score"])]
    step: String,

    /// Measure every call on the device.
    #[arg(long)]
    time: bool,

    /// Workgroups that a weight gradient is split for: 1 as on the CPU, hundreds as on a GPU. [default: what the device wants, 1 without --time]
    #[arg(long)]
    workgroups: Option<usize>,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: ProgramArgs, ui: &Ui) -> Result<()> {
    if args.channels == 0 || args.batch == 0 || args.replicas == 0 || args.batch > 4096 {
        return Err(Error::Usage("--channels, --batch and --replicas must be positive, --batch at most 4096".into()));
    }
    let model = Model::new(args.channels);
    let config = TrainConfig { batch_size: args.batch, ..TrainConfig::default() };
    let mut engine = if args.time { Some(args.device.open(ui)?) } else { None };
    let workgroups = args.workgroups.or(engine.as_ref().map(|e| e.workgroups())).unwrap_or(1);
    let options = Options { replicas: args.replicas, workgroups };
    let (name, program) = match args.step.as_str() {
        "train" => ("train", training_program(&model, &config, args.batch, 1, options)),
        "validate" => ("validation", validation_program(&model, &config, args.batch, 1, options)),
        _ => ("score", score_program(&model, args.batch, 1, options)),
    };
    let Some(engine) = &mut engine else {
        print!("{}", program.table(None));
        return Ok(());
    };
    let loaded = engine.load(&program)?;
    let readings: Vec<Reading> =
        (0..args.replicas).map(|_| Reading { order: (0..args.batch as u32).collect(), iterations: 0 }).collect();
    let batches = Batches::new(&readings, args.batch, |count| 1.0 / count as f64, (0.9, 0.999));
    let images: Vec<u8> = (0..args.batch * model.pixels()).map(|i| (i * 37 % 256) as u8).collect();
    engine.write(&format!("{name}.data"), Data::U8(&images))?;
    engine.write(&format!("{name}.indices"), Data::U32(&batches.indices))?;
    engine.write(&format!("{name}.schedule"), Data::F64(&batches.schedule))?;
    engine.write("params", Data::F32(&model.init(Init::Kaiming, 0).repeat(args.replicas)))?;
    engine.run(loaded, 0..1)?;
    let (seconds, timing) = engine.time_calls(loaded, 0, 10)?;
    print!("{}", program.table(Some(&seconds)));
    println!(
        "least of 10 measurements by {}",
        if timing == Timing::Device { "the device's timestamps" } else { "the host's clock" }
    );
    Ok(())
}
