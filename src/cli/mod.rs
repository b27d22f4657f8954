//! The command line: one file a command, from flags to meaning to a call. No mathematics here.

mod ablate;
mod bench;
pub mod data;
mod demo;
mod devices;
mod eval;
mod flagged;
mod gradcheck;
mod inspect;
mod interrupt;
mod maps;
mod model;
pub mod prep;
mod program;
pub mod report;
mod reproduce;
mod score;
mod settings;
mod shell;
mod sizes;
mod stages;
mod sweep;
mod train;
mod tune;
mod ui;
mod web;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::engine::device::{Device, Note};
use crate::engine::gpu::{GpuEngine, OpenOptions};
use crate::engine::measure::Facts;
use crate::engine::tuned::{Key, PlanSource};
use crate::engine::{Engine, device};
use crate::error::{Error, Result};
pub use ui::Ui;

/// Anomaly detection by gradient constraints (GradCon), on any GPU or the CPU.
///
/// An autoencoder learns the normal class; an image is anomalous when the gradient that it would
/// send back into the decoder points in an unfamiliar direction. `gradcon demo` shows all of it in
/// half a minute, without a network or a dataset.
#[derive(Parser)]
#[command(name = "gradcon", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Results, warnings and errors only: no progress, no notes.
    #[arg(short, long, global = true)]
    quiet: bool,

    /// More detail in progress and notes.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no such device, a \
                          device failure or too little memory, \
4 a verification failed (also: `bench compare` found something slower), 130 interrupted (what was \
                          done is saved).\n\
Environment: NO_COLOR (any value: no colours), WGPU_ADAPTER_NAME and WGPU_BACKEND (which GPU \
`auto` and `gpu` mean), RAYON_NUM_THREADS (threads of the CPU engine).";

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Devices(devices::DevicesArgs),
    Program(program::ProgramArgs),
    Bench(bench::BenchArgs),
    Tune(tune::TuneArgs),
    Gradcheck(gradcheck::GradcheckArgs),
    Prep(prep::PrepArgs),
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Sweep(Box<sweep::SweepArgs>),
    Ablate(Box<ablate::AblateArgs>),
    Reproduce(Box<reproduce::ReproduceArgs>),
    Eval(eval::EvalArgs),
    Score(score::ScoreArgs),
    Inspect(inspect::InspectArgs),
    Report(report::ReportArgs),
    Web(web::WebArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Which device is meant.
#[derive(clap::Args, Clone, Debug)]
pub struct AdapterArgs {
    /// auto (a hardware GPU, else the CPU engine), cpu, gpu, gpu:N, or part of an adapter's name
    /// (see `gradcon devices`).
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,

    /// Let auto and gpu take a software GPU adapter: slow, for tests.
    #[arg(long)]
    pub allow_software: bool,
}

/// Which device computes, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArgs {
    #[command(flatten)]
    adapter: AdapterArgs,

    /// Which variants a GPU runs kernels in: default, or a file of `gradcon tune --export`. It
    /// changes speed and no number. [default: the plan that `gradcon tune` made for the device, if
    /// there is one]
    #[arg(long, value_name = "default|FILE")]
    plan: Option<PathBuf>,
}

impl AdapterArgs {
    fn options(&self, plan: PlanSource) -> OpenOptions {
        let allow_software = self.allow_software;
        OpenOptions { allow_software, plan, cache: true, ..OpenOptions::default() }
    }

    /// Opens the device without a plan if it is a GPU, and says which it is.
    ///
    /// # Errors
    /// No such device, or one that can't be opened.
    fn open_gpu(&self, ui: &Ui) -> Result<Option<GpuEngine>> {
        let device = self.device.parse::<Device>().map_err(Error::Usage)?;
        let engine = device.open_gpu(self.options(PlanSource::Default), |note| tell(ui, note))?;
        if let Some(engine) = &engine {
            ui.progress(&format!("device: {}", engine.description()));
        }
        Ok(engine)
    }
}

impl DeviceArgs {
    /// Opens the device and says which it is.
    ///
    /// # Errors
    /// No such device, or one that can't be opened; a plan that doesn't fit.
    pub fn open(&self, ui: &Ui) -> Result<Box<dyn Engine>> {
        let plan = match self.plan.as_deref() {
            None => PlanSource::Cache,
            Some(file) if file == Path::new("default") => PlanSource::Default,
            Some(file) => PlanSource::File(file.to_path_buf()),
        };
        let options = self.adapter.options(plan);
        let engine = device::open_noting(&self.adapter.device, options, |note| tell(ui, note))?;
        let plan = engine.plan().map(|plan| format!(", {plan}")).unwrap_or_default();
        ui.progress(&format!("device: {}{plan}", engine.description()));
        Ok(engine)
    }

    /// Tells who trains on a hardware GPU that was never tuned, once, that it can be: `sizes` are the
    /// flags for it.
    fn suggest_tuning(&self, engine: &mut dyn Engine, sizes: &str, ui: &Ui) {
        let facts = engine.measure().facts();
        if self.plan.is_none() && !ui.quiet() && is_hardware(&facts) {
            let key = Key::of([&facts.name, &facts.backend, &facts.driver]);
            if key.is_first_without_plan() {
                ui.progress(&format!(
                    "`gradcon tune {sizes}` may find faster variants of the kernels for this GPU, in \
                     some minutes; no number changes (this is said once)"
                ));
            }
        }
    }
}

/// Whether it is a GPU that is no program.
fn is_hardware(facts: &Facts) -> bool {
    !matches!(&facts.kind[..], "cpu" | "software")
}

/// What a user should know of a device that is opened.
fn tell(ui: &Ui, note: Note) {
    match note {
        Note::Choice(text) => ui.progress(text),
        Note::Warning(text) => ui.warn(text),
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The command's, for the caller to print.
    pub fn run(self) -> Result<()> {
        let ui = Ui::new(self.quiet, self.verbose);
        match self.command {
            Command::Demo(args) => demo::run(args, &ui),
            Command::Devices(args) => devices::run(args),
            Command::Program(args) => program::run(args, &ui),
            Command::Bench(args) => bench::run(args, &ui),
            Command::Tune(args) => tune::run(args, &ui),
            Command::Gradcheck(args) => gradcheck::run(args, &ui),
            Command::Prep(args) => prep::run(args, &ui),
            Command::Data(args) => data::run(args, &ui),
            Command::Train(args) => train::run(args, &ui),
            Command::Sweep(args) => sweep::run(*args, &ui),
            Command::Ablate(args) => ablate::run(*args, &ui),
            Command::Reproduce(args) => reproduce::run(*args, &ui),
            Command::Eval(args) => eval::run(args, &ui),
            Command::Score(args) => score::run(args, &ui),
            Command::Inspect(args) => inspect::run(args, &ui),
            Command::Report(args) => report::run(args, &ui),
            Command::Web(args) => web::run(args, &ui),
            Command::Completions(args) => shell::completions(args),
            Command::Man(args) => shell::man(args, &ui),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu;

    #[test]
    fn the_cpu_engine_and_software_are_no_hardware() {
        assert!(!is_hardware(&cpu::f32().measure().facts()));
        let of = |kind: &str| is_hardware(&Facts { kind: kind.into(), ..Facts::default() });
        let kinds = ["discrete GPU", "integrated GPU", "virtual GPU", "other", "software"];
        assert_eq!(kinds.map(of), [true, true, true, true, false]);
    }
}
