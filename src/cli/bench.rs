//! `gradcon bench`

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::sizes::{MAX_BATCH, MAX_REPLICAS, PrecisionArgs, SizeArgs, one_of_sizes, up_to};
use super::{DeviceArgs, Ui, interrupt};
use crate::bench::compare::{Change, Comparison, same_device};
use crate::bench::peaks::Peaks;
use crate::bench::record::{Record, Row};
use crate::bench::roofline::roofline;
use crate::bench::stats::Stop;
use crate::bench::{Sizes, kernels, steps, text};
use crate::engine::{Engine, memory};
use crate::error::{Error, Result};
use crate::images::IMAGE_SIZE;
use crate::method::model::{Kind, MAX_CHANNELS};
use crate::output::{Output, outln, print};
use crate::program::Program;

/// Measure the device: what it can do at best, every kernel of a step, whole steps; and compare two
/// measurements.
///
/// Without a subcommand it is `bench steps`: images a second in training and in scoring. Every
/// number is a median of samples with its noise band (20 to 80 % of them), and says which clock
/// measured it. RAYON_NUM_THREADS sets the threads of the CPU engine.
///
///   gradcon bench --replicas 1,10
///   gradcon bench kernels --json old.json --svg roofline.svg
///   gradcon bench compare old.json new.json
#[derive(clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    steps: StepsArgs,
}

#[derive(Subcommand)]
enum What {
    Peaks(PeaksArgs),
    Kernels(KernelsArgs),
    Steps(StepsArgs),
    Compare(CompareArgs),
}

/// Measure what the device can do at best: multiply-adds, reading each memory, copying, launching.
///
/// Results are checked, and probes take turns, so that a change of clocks meets them all. What
/// can't be measured on the device is named with the reason.
#[derive(clap::Args)]
struct PeaksArgs {
    #[command(flatten)]
    stop: StopArgs,

    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Measure every distinct kernel call of a training step and of scoring, at the model's shapes.
///
/// Each is verified first: run on random images beside the f64 CPU engine, within the tolerance of
/// the kernels' tests. One that is wrong has no time, and the exit code is 4. Then it is timed warm,
/// and cold (caches flushed before every sample), and set against the peaks of the device, which
/// are measured first. `bound` is the peak that allows it the least; `% step` is all its calls over
/// the whole step; `less gap` is the time without what an empty launch that waits for the one before
/// it takes by the same clock. A row is disturbed where the FMA peak moved by more than 3 %
/// meanwhile, also when it was measured once more.
///
///   gradcon bench kernels --kernels 'conv_*' --replicas 1,10 --channels 3
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct KernelsArgs {
    /// Only kernels of these names; * stands for any characters, ? for one.
    #[arg(long, default_value = "*", value_name = "GLOB")]
    kernels: String,

    #[command(flatten)]
    sizes: SizeLists,

    /// In every variant that the GPU can run, a row each; the default and the fastest one are
    /// marked. `gradcon tune` chooses between them with more care.
    #[arg(long)]
    variants: bool,

    /// Only warm: half the time.
    #[arg(long)]
    no_cold: bool,

    #[command(flatten)]
    stop: StopArgs,

    #[command(flatten)]
    files: FileArgs,

    /// A picture of the kernels of a training step under the roofs of the device.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Measure throughput: images a second in training and in scoring, end to end, on one device.
///
/// Every round trains --steps batches from a resident dataset (gather, both sweeps, update; one
/// read of the losses), then scores as many images with their own gradients (upload, score, read).
/// One warm-up round, then --rounds; the median counts.
#[derive(clap::Args)]
struct StepsArgs {
    #[command(flatten)]
    sizes: SizeLists,

    /// Batches in a round.
    #[arg(long, default_value_t = 40, value_parser = up_to(u32::MAX as usize))]
    steps: usize,

    /// Rounds that count.
    #[arg(long, default_value_t = 7, value_parser = up_to(u32::MAX as usize))]
    rounds: usize,

    /// Everything measured, with all samples; without FILE, one JSON object a size instead of a
    /// table.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,

    /// A line of CSV for each row.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Compare two files of --json: what became faster, what slower.
///
/// Rows of the same thing and sizes are paired. A change counts if each median is outside of the
/// other's noise band and it is more than 3 %. The exit code is 4 if something became slower or
/// lost its value.
#[derive(clap::Args)]
struct CompareArgs {
    /// Measured before.
    old: PathBuf,

    /// Measured after.
    new: PathBuf,

    /// The two may be of different devices.
    #[arg(long)]
    across_devices: bool,
}

/// The model, and sizes, each a list; all combinations are measured.
#[derive(clap::Args)]
struct SizeLists {
    /// The autoencoder.
    #[arg(long, value_enum, default_value_t)]
    model: Kind,

    /// Images in a batch; several with commas.
    #[arg(long, default_value = "64", value_name = "LIST", value_delimiter = ',', value_parser = up_to(MAX_BATCH))]
    batch: Vec<usize>,

    /// Height and width of an image.
    #[arg(long, default_value_t = IMAGE_SIZE, value_parser = one_of_sizes)]
    size: usize,

    /// Channels of an image; several with commas.
    #[arg(long, default_value = "1", value_name = "LIST", value_delimiter = ',', value_parser = up_to(MAX_CHANNELS))]
    channels: Vec<usize>,

    /// Independent models in one program; several with commas.
    #[arg(long, default_value = "1", value_name = "LIST", value_delimiter = ',', value_parser = up_to(MAX_REPLICAS))]
    replicas: Vec<usize>,

    #[command(flatten)]
    precision: PrecisionArgs,
}

impl SizeLists {
    fn all(&self) -> Vec<SizeArgs> {
        let mut all = vec![];
        for &replicas in &self.replicas {
            for &channels in &self.channels {
                all.extend(self.batch.iter().map(|&batch| SizeArgs {
                    model: self.model,
                    batch,
                    size: self.size,
                    channels,
                    replicas,
                    precision: self.precision,
                }));
            }
        }
        all
    }
}

impl SizeArgs {
    fn sizes(&self) -> Sizes {
        let SizeArgs { model, batch, size, channels, replicas, precision } = *self;
        Sizes { model, batch, size, channels, replicas, precision: precision.precision }
    }
}

/// When there are samples enough.
#[derive(clap::Args)]
struct StopArgs {
    /// Samples of a row at least.
    #[arg(long, default_value_t = 10, value_parser = up_to(100_000))]
    samples: usize,

    /// Seconds after which a row ends unless its samples agree before (standard deviation 0.5 %).
    #[arg(long, default_value = "0.2", value_name = "SECONDS", value_parser = seconds)]
    time: f64,

    /// Seconds after which a row ends with the samples that it has.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    limit: f64,
}

impl StopArgs {
    fn stop(&self) -> Stop {
        Stop { least: self.samples, enough: self.time, ceiling: self.limit }
    }
}

/// Seconds of a command line.
pub(super) fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.0..=3600.0).contains(s));
    seconds.ok_or_else(|| "expected seconds from 0 to 3600".to_string())
}

/// Files of results.
#[derive(clap::Args)]
struct FileArgs {
    /// Everything measured, with all samples, for `bench compare` and other programs.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// A line of CSV for each row.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Files that can be written: better known before the work than after it.
struct Files {
    json: Option<Output>,
    csv: Option<Output>,
}

impl Files {
    fn open(json: Option<&Path>, csv: Option<&Path>) -> Result<Files> {
        let open = |path: Option<&Path>| path.map(Output::create).transpose();
        Ok(Files { json: open(json)?, csv: open(csv)? })
    }

    fn write(self, record: &Record) -> Result<()> {
        for (file, bytes) in [(self.json, record.to_json()?), (self.csv, record.to_csv()?)] {
            if let Some(mut file) = file {
                file.write(&bytes)?;
                file.commit()?;
            }
        }
        Ok(())
    }
}

pub fn run(args: BenchArgs, ui: &Ui) -> Result<()> {
    interrupt::catch();
    match args.what {
        None => run_steps(args.steps, ui),
        Some(What::Steps(args)) => run_steps(args, ui),
        Some(What::Peaks(args)) => run_peaks(args, ui),
        Some(What::Kernels(args)) => run_kernels(args, ui),
        Some(What::Compare(args)) => run_compare(args),
    }
}

fn record(command: &str, engine: &mut dyn Engine, rows: Vec<Row>) -> Record {
    let plan = engine.plan().map(|plan| format!(", {plan}")).unwrap_or_default();
    let description = engine.description() + &plan;
    Record::new(command, engine.measure().facts(), description, rows)
}

fn run_peaks(args: PeaksArgs, ui: &Ui) -> Result<()> {
    let files = Files::open(args.files.json.as_deref(), args.files.csv.as_deref())?;
    let mut engine = args.device.open(ui)?;
    let peaks = Peaks::measure(engine.measure(), args.stop.stop(), &interrupt::go_on)?;
    print(&format!("{}\n{}", engine.description(), text::peaks(&peaks.rows)))?;
    files.write(&record("peaks", engine.as_mut(), peaks.rows))
}

fn run_kernels(args: KernelsArgs, ui: &Ui) -> Result<()> {
    let sizes = args.sizes.all();
    if args.svg.is_some() && sizes.len() > 1 {
        return Err(Error::Usage(format!(
            "--svg draws one size, and these are {}: expected one --batch, --channels and \
             --replicas",
            sizes.len()
        )));
    }
    let files = Files::open(args.files.json.as_deref(), args.files.csv.as_deref())?;
    let svg = args.svg.as_deref().map(Output::create).transpose()?;
    let mut engine = args.device.open(ui)?;
    for size in &sizes {
        kernels::check(&args.kernels, size.sizes(), engine.form())?;
    }
    if args.variants && engine.tunable().is_none() {
        return Err(Error::Usage(format!(
            "--variants: {} has one variant of each kernel, expected a GPU (--device gpu, gpu:N or \
             part of an adapter's name, see `gradcon devices`)",
            engine.description()
        )));
    }
    let peaks = Peaks::measure(engine.measure(), args.stop.stop(), &interrupt::go_on)?;
    print(&format!("{}\n{}", engine.description(), text::peaks(&peaks.rows)))?;
    let (glob, stop, cold) = (&*args.kernels, args.stop.stop(), !args.no_cold);
    let (peaks, variants, go_on) = (&peaks, args.variants, &interrupt::go_on);
    let plan = kernels::Plan { glob, stop, cold, variants, peaks, go_on };
    let (mut rows, mut outcome) = (peaks.rows.clone(), Ok(()));
    for size in &sizes {
        ui.progress(&format!("measuring kernels: {}", size.sizes()));
        let mut found = vec![];
        outcome = kernels::measure(engine.as_mut(), size.sizes(), &plan, &mut found)
            .map_err(|e| size.explain(e, &[]));
        for program in ["train", "score"] {
            let of = |row: &&Row| row.program == program || row.name == program;
            let rows: Vec<&Row> = found.iter().filter(of).collect();
            if !rows.is_empty() {
                let title = title(program, size.sizes());
                outln!("\n{title}")?;
                print(&text::kernels(&rows))?;
            }
        }
        rows.extend(found);
        if outcome.is_err() {
            break;
        }
    }
    // What was measured before an interruption is a measurement, too.
    if !matches!(outcome, Ok(()) | Err(Error::Interrupted)) {
        return outcome;
    }
    let record = record("kernels", engine.as_mut(), rows);
    files.write(&record)?;
    outcome?;
    let rows = &record.rows;
    if let (Some(mut svg), Some(size)) = (svg, sizes.first()) {
        let drawn = |program: &str| -> Vec<Row> {
            rows.iter().filter(|row| row.program == program).cloned().collect()
        };
        let (program, drawn) = match drawn("train") {
            train if train.is_empty() => ("score", drawn("score")),
            train => ("train", train),
        };
        let title = format!("{}: {}", engine.description(), title(program, size.sizes()));
        svg.write(roofline(&title, peaks, &drawn)?.as_bytes())?;
        svg.commit()?;
    }
    let wrong = rows.iter().filter(|row| row.kernel.as_ref().is_some_and(|k| !k.verified));
    let wrong: Vec<String> = wrong.map(text::what).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Verification(format!(
        "{}: {} calls do not compute what the f64 engine does: {}",
        engine.description(),
        wrong.len(),
        wrong.join(", ")
    )))
}

/// A program at its sizes, for people.
fn title(program: &str, sizes: Sizes) -> String {
    let what = if program == "train" { "a training step" } else { "scoring" };
    format!("{what}, {sizes}, {}", sizes.precision)
}

fn run_steps(args: StepsArgs, ui: &Ui) -> Result<()> {
    let all = args.sizes.all();
    for size in &all {
        check_images(size.batch, args.steps)?;
    }
    let json_file = args.json.as_ref().and_then(Option::as_deref);
    let files = Files::open(json_file, args.csv.as_deref())?;
    let lines = matches!(args.json, Some(None));
    let mut engine = args.device.open(ui)?;
    let (mut rows, mut outcome) = (vec![], Ok(()));
    for size in all {
        let explain = |e| size.explain(e, &[("--steps", args.steps)]);
        let model = size.model()?;
        let check = |program: &Program| {
            let bytes = size.host_bytes(program, &model, args.steps);
            memory::check("images and lists of a round", bytes)
        };
        let (sizes, rounds) = (size.sizes(), (args.steps, args.rounds));
        let measured =
            match steps::measure(engine.as_mut(), sizes, rounds, check, &interrupt::go_on) {
                Err(Error::Interrupted) => {
                    outcome = Err(Error::Interrupted);
                    break;
                }
                measured => measured.map_err(explain)?,
            };
        print_steps(engine.as_ref(), &size, &args, &measured, lines)?;
        rows.extend(measured);
    }
    // What was measured before an interruption is a measurement, too.
    files.write(&record("steps", engine.as_mut(), rows))?;
    outcome
}

/// Indices of images are 32 bits, and one of them marks padding.
fn check_images(batch: usize, steps: usize) -> Result<()> {
    let images = batch.checked_mul(steps).filter(|&images| images < u32::MAX as usize);
    images.map(drop).ok_or_else(|| {
        let most = u32::MAX as usize / batch;
        Error::Usage(format!(
            "--steps {steps}: with --batch {batch}, at most {most} steps can be indexed"
        ))
    })
}

fn print_steps(
    engine: &dyn Engine,
    size: &SizeArgs,
    args: &StepsArgs,
    [train, score]: &[Row; 2],
    json: bool,
) -> Result<()> {
    let device = engine.description();
    let (Some(train_rates), Some(score_rates)) = (&train.value, &score.value) else {
        return Ok(());
    };
    let [train_range, score_range] = [train_rates, score_rates].map(|v| [v.least(), v.greatest()]);
    let [train_step, score_step] = [train, score].map(|row| row.step.as_ref());
    let gflops = train_step.and_then(|step| step.gflops).unwrap_or(0.0);
    let [in_train, in_score] =
        [train_step, score_step].map(|step| step.map_or(0, |s| s.dispatches));
    if json {
        let result = serde_json::json!({
            "device": device, "version": env!("CARGO_PKG_VERSION"), "batch": size.batch,
            "channels": size.channels, "replicas": size.replicas,
            "precision": size.precision.precision,
            "steps": args.steps, "rounds": args.rounds,
            "train_images_per_second": train_rates.median, "train_range": train_range,
            "score_images_per_second": score_rates.median, "score_range": score_range,
            "train_gflops": gflops, "train_dispatches": in_train, "score_dispatches": in_score,
        });
        return outln!("{result}");
    }
    outln!(
        "{device}; batch {}, {} channel(s), {} model(s), {}, median (least to greatest) of {} \
         rounds",
        size.batch,
        size.channels,
        size.replicas,
        size.precision.precision,
        args.rounds
    )?;
    let [train_low, train_high] = train_range;
    outln!(
        "training  {:>9.0} images/s  ({train_low:.0} to {train_high:.0})  {gflops:.1} GFLOP/s, \
         {in_train} dispatches a step",
        train_rates.median
    )?;
    let [score_low, score_high] = score_range;
    outln!(
        "scoring   {:>9.0} images/s  ({score_low:.0} to {score_high:.0})  {in_score} dispatches a \
         step",
        score_rates.median
    )
}

fn run_compare(args: CompareArgs) -> Result<()> {
    let (old, new) = (Record::read(&args.old)?, Record::read(&args.new)?);
    if !args.across_devices {
        same_device((&args.old, &old), (&args.new, &new))?;
    }
    let comparison = Comparison::of(&old, &new);
    for (what, record) in [("old", &old), ("new", &new)] {
        let Record { version, git, date, description, .. } = record;
        let changed = if record.dirty == Some(true) { " with changes" } else { "" };
        outln!("{what}: gradcon {version} ({git}{changed}), {date}, {description}")?;
    }
    print(&comparison.table())?;
    let [faster, slower, lost] =
        [Change::Faster, Change::Slower, Change::Lost].map(|change| comparison.count(change));
    let same = comparison.count(Change::Same);
    outln!("{faster} faster, {slower} slower, {same} the same, {lost} without their value")?;
    if slower + lost == 0 {
        return Ok(());
    }
    Err(Error::Verification(format!(
        "{}: {slower} rows are slower than in {}, and {lost} have lost their value",
        args.new.display(),
        args.old.display()
    )))
}
