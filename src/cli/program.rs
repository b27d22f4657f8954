//! `gradcon program`

use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames;

use super::sizes::SizeArgs;
use super::{DeviceArgs, Ui};
use crate::engine::{Timing, measure, memory};
use crate::error::{Error, Result};
use crate::kernels::Form;
use crate::method::feed::Feed;
use crate::method::programs::{score_program, training_program, validation_program};
use crate::output::{outln, print};
use crate::program::predict::CLASSES;

/// Show what a step runs: every kernel call with shapes, operations and bytes.
///
/// Counts follow from the sizes alone: a multiply-add is two operations, taps in the padding
/// are not counted, bytes are what has to move at least once. With --time every call is
/// measured on the device:
///
///   gradcon program --step score --time --device cpu
///
/// With --json it is the plan that a GPU runs, for other programs: buffers, and for each
/// dispatch shader, entry point, constants, grid, uniform words and bindings (core WebGPU; the
/// shaders are in the folder of that name).
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ProgramArgs {
    #[command(flatten)]
    sizes: SizeArgs,

    /// Which step.
    #[arg(long, default_value = "train", value_parser = ["train", "validate", "score"])]
    step: String,

    /// Measure every call on the device.
    #[arg(long)]
    time: bool,

    /// One JSON object instead of a table: the plan of dispatches.
    #[arg(long, conflicts_with = "time")]
    json: bool,

    /// The kind of device: serial as a CPU (sums stay whole), parallel as a GPU (long sums are
    /// split, neighbours run at once). [default: the device's, serial without --time]
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(Form::VARIANTS).try_map(|v| v.parse::<Form>())
    )]
    form: Option<Form>,

    /// How long every call should take on a class of GPUs, by a model of it.
    #[arg(
        long,
        conflicts_with_all = ["time", "json", "form"],
        value_parser = PossibleValuesParser::new(CLASSES.iter().map(|class| class.name))
    )]
    predict: Option<String>,

    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: ProgramArgs, ui: &Ui) -> Result<()> {
    let (sizes, model, config) = (&args.sizes, args.sizes.model()?, args.sizes.config());
    let mut engine = if args.time { Some(args.device.open(ui)?) } else { None };
    let class = CLASSES.iter().find(|class| args.predict.as_deref() == Some(class.name));
    let form = args.form.or(class.map(|_| Form::Parallel)).or(engine.as_ref().map(|e| e.form()));
    let form = form.unwrap_or_default();
    let options = sizes.options(form);
    let (name, program) = match args.step.as_str() {
        "train" => ("train", training_program(&model, &config, sizes.batch, 1, options)),
        "validate" => ("validation", validation_program(&model, &config, sizes.batch, 1, options)),
        _ => ("score", score_program(&model, sizes.batch, 1, options)),
    };
    if args.json {
        let plan = serde_json::to_string(&program.plan(&[]))
            .map_err(|e| Error::invalid(format!("the plan of program '{name}': {e}")))?;
        return outln!("{plan}");
    }
    if let Some(class) = class {
        return print(&program.predicted_table(class));
    }
    let Some(engine) = &mut engine else {
        print(&program.table(None))?;
        return Ok(());
    };
    let explain = |e| sizes.explain(e, &[]);
    let loaded = engine.load(&program).map_err(explain)?;
    memory::check("images and lists of a batch", sizes.host_bytes(&program, &model, 1))
        .map_err(explain)?;
    Feed::of(name, engine.as_mut()).pattern(&model, sizes.batch, 1, sizes.replicas)?;
    engine.run(loaded, 0..1)?;
    let calls = program.calls.len();
    let (seconds, timing) = measure::time_calls(engine.measure(), loaded, calls, 0, 10)?;
    print(&program.table(Some(&seconds)))?;
    outln!(
        "least of 10 measurements by {}",
        if timing == Timing::Device { "the device's timestamps" } else { "the host's clock" }
    )?;
    Ok(())
}
