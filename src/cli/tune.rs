//! `gradcon tune`

use std::path::PathBuf;

use super::sizes::{MAX_BATCH, MAX_REPLICAS, PrecisionArgs, one_of_sizes, up_to};
use super::{AdapterArgs, Ui, interrupt};
use crate::bench::Sizes;
use crate::engine::Engine;
use crate::engine::gpu::GpuEngine;
use crate::engine::tuned::{Key, TunedPlan};
use crate::error::{Error, Result};
use crate::files;
use crate::images::IMAGE_SIZE;
use crate::method::model::{Kind, MAX_CHANNELS};
use crate::output::{Output, outln, print};
use crate::tune::{Effort, Found, LEAST, Watch, choices, text, tune};

/// Find the fastest variant of every kernel on a GPU, and keep that plan for all later commands.
///
/// A kernel can be written for a GPU in several ways. For every distinct call of a training step and
/// of scoring, each variant that fits the device is run on random data first: one that does not give
/// the reference's bits, twice, is listed as failed and never chosen. The others are timed in turns
/// with the default. One wins if it takes over 3 % and three standard errors less. Then the whole
/// step decides: what won is kept only if the step is faster with it.
///
/// The plan is a file in the user's cache folder, one for each device, and holds for its driver and
/// this program's kernels. What is not in it runs in the default variant. Tune the sizes that you
/// train with: other sizes are added to the plan, the same ones measured again.
///
/// No number changes with a plan: how long sums are split is part of the program and not tuned.
///
///   gradcon tune --replicas 1,10
///   gradcon train ... --plan default      (without the plan)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TuneArgs {
    /// Images in a batch.
    #[arg(long, default_value_t = 64, value_parser = up_to(MAX_BATCH))]
    batch: usize,

    /// Height and width of an image.
    #[arg(long, default_value_t = IMAGE_SIZE, value_parser = one_of_sizes)]
    size: usize,

    /// Channels of an image; several with commas.
    #[arg(long, default_value = "1", value_name = "LIST", value_delimiter = ',', value_parser = up_to(MAX_CHANNELS))]
    channels: Vec<usize>,

    /// Independent models in one program; several with commas.
    #[arg(long, default_value = "1", value_name = "LIST", value_delimiter = ',', value_parser = up_to(MAX_REPLICAS))]
    replicas: Vec<usize>,

    /// The autoencoder.
    #[arg(long, value_enum, default_value_t)]
    model: Kind,

    #[command(flatten)]
    precision: PrecisionArgs,

    /// Samples of each variant, at least 3; of a step three times as many.
    #[arg(long, default_value_t = 9, value_parser = samples)]
    samples: usize,

    /// Seconds after which a kernel or a step ends with the samples that it has.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = super::bench::seconds)]
    limit: f64,

    /// Print the plan of the device and what it follows from; measure nothing.
    #[arg(long, group = "instead")]
    show: bool,

    /// Remove the plan of the device.
    #[arg(long, group = "instead")]
    clear: bool,

    /// Copy the plan of the device to a file, for --plan FILE; measure nothing.
    #[arg(long, value_name = "FILE", group = "instead")]
    export: Option<PathBuf>,

    #[command(flatten)]
    adapter: AdapterArgs,
}

/// A number of samples.
fn samples(text: &str) -> std::result::Result<usize, String> {
    let samples = text.parse().ok().filter(|n| (LEAST..=100_000).contains(n));
    samples.ok_or_else(|| format!("expected a number from {LEAST} to 100000"))
}

pub fn run(args: TuneArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    let Some(mut engine) = args.adapter.open_gpu(ui)? else {
        return Err(Error::Usage(format!(
            "--device {}: this is the CPU engine, which has one variant of each kernel and nothing \
             to tune; expected a GPU (--device gpu, gpu:N or part of an adapter's name, see `gradcon \
             devices`)",
            args.adapter.device
        )));
    };
    let key = engine.adapter().key();
    // Better known before the work than after it.
    let path = key.path()?;
    if args.clear {
        let there = path.exists();
        files::remove_file(&path)?;
        return match there {
            true => outln!("{}: removed", path.display()),
            false => outln!("{}: there is no plan of {}", path.display(), engine.adapter()),
        };
    }
    let none = || {
        Error::invalid(format!(
            "{}: there is no plan of {}; `gradcon tune` makes one",
            path.display(),
            engine.adapter()
        ))
    };
    if let Some(file) = &args.export {
        let plan = TunedPlan::cached(&key)?.ok_or_else(none)?;
        let mut output = Output::create(file)?;
        output.write(&plan.to_json()?)?;
        return output.commit();
    }
    if args.show {
        let plan = TunedPlan::cached(&key)?.ok_or_else(none)?;
        return show(&plan, &path);
    }
    measure(&args, &mut engine, key, ui)
}

fn show(plan: &TunedPlan, path: &std::path::Path) -> Result<()> {
    let Key { adapter, backend, driver, wgpu, .. } = &plan.device;
    outln!(
        "{}: {} by gradcon {} (wgpu {wgpu}) on {adapter} ({backend}, {driver})",
        path.display(),
        plan.date,
        plan.version
    )?;
    for found in measured(plan).map_err(|e| e.in_file(path))? {
        print(&format!("\n{}", text::found(&found)))?;
    }
    outln!("\n{}", summary(plan))
}

/// What a plan says of its measurements.
fn measured(plan: &TunedPlan) -> Result<Vec<Found>> {
    serde_json::from_value(plan.measured.clone()).map_err(|e| {
        Error::invalid(format!("\"measured\": {e}, expected what `gradcon tune` wrote"))
    })
}

fn summary(plan: &TunedPlan) -> String {
    match plan.choices.0.len() {
        0 => "no plan is faster than the default, which stays in use".to_string(),
        n => format!("{n} kernels run in another variant than the default"),
    }
}

fn measure(args: &TuneArgs, engine: &mut GpuEngine, key: Key, ui: &Ui) -> Result<()> {
    let effort = Effort { samples: args.samples, limit: args.limit };
    let tell = |line: &str| ui.progress(line);
    let watch = Watch { go_on: &interrupt::go_on, tell: &tell };
    let mut all: Vec<Found> = vec![];
    for &replicas in &args.replicas {
        for &channels in &args.channels {
            let (model, precision) = (args.model, args.precision.precision);
            let (batch, size) = (args.batch, args.size);
            let sizes = Sizes { model, batch, size, channels, replicas, precision };
            if all.iter().any(|found| found.sizes == sizes) {
                continue;
            }
            ui.progress(&format!("tuning: {model}, {sizes}, {precision}"));
            let found = tune(engine, sizes, effort, &all, &watch).map_err(|e| {
                e.with_remedy(
                    "a lower --batch, --replicas, --channels or --size needs less".to_string(),
                )
            })?;
            print(&format!("{}\n", text::found(&found)))?;
            all.push(found);
        }
    }
    // What is known of other sizes stays, if it is still true.
    let before = TunedPlan::cached(&key).ok().flatten();
    let before = before.and_then(|plan| measured(&plan).ok()).unwrap_or_default();
    let again = |old: &Found| all.iter().any(|new| new.sizes == old.sizes);
    let others: Vec<Found> = before.into_iter().filter(|old| !again(old)).collect();
    all.extend(others);
    let measured = serde_json::to_value(&all)
        .map_err(|e| Error::invalid(format!("cannot write JSON: {e}")))?;
    interrupt::go_on()?;
    let plan = TunedPlan::new(key, choices(&all), measured);
    let path = plan.keep()?;
    outln!("{}: {}\n{}", engine.description(), summary(&plan), path.display())
}
