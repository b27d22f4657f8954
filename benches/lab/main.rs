//! The lab: the convolution of one of the model's layers from naive to the product's kernel, one
//! idea a version, on the CPU and on a GPU. README.md beside this file explains them.
//!
//! `cargo bench --bench lab`; `-- --test` only verifies every version, at small sizes; `-- --json
//! FILE` keeps the numbers. Each version is verified against the f64 CPU engine before it is timed.
//! GRADCON_BENCH_SOFTWARE=1 takes a software GPU adapter too, which is slow.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Parser;
use gradcon::bench::peaks::Peaks;
use gradcon::bench::stats::{Stop, Summary};
use gradcon::bench::text::{columns, digits};
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::measure::repeats;
use gradcon::engine::{Engine, cpu};
use gradcon::{Error, Result, output};
use serde_json::{Value, json};

use gpu_ladder::Host;
use layer::{Layer, Version, of_model, small};

mod cpu_ladder;
mod gpu_ladder;
mod layer;

#[derive(Parser)]
struct Args {
    /// Images in a batch, a multiple of four.
    #[arg(long, default_value_t = 64)]
    batch: usize,

    /// A file for all samples.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Only verify, at small sizes; so does a run without --bench, which `cargo bench` adds.
    #[arg(long)]
    test: bool,

    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let allow_software = std::env::var_os("GRADCON_BENCH_SOFTWARE").is_some();
    let options = OpenOptions { allow_software, ..OpenOptions::default() };
    let gpu = GpuEngine::open(&Selector::Hardware, options);
    let host = match &gpu {
        Ok(engine) => Some(Host::open(engine.adapter())?),
        Err(why) => {
            output::note(&format!("no GPU: {why}"));
            None
        }
    };
    let on_cpu = RefCell::new(cpu::f32());
    let on_gpu = gpu.ok().map(|engine| RefCell::new(Box::new(engine) as Box<dyn Engine>));
    let both = |layer: &Layer, each: &mut Each| -> Result<()> {
        each(layer, &on_cpu, cpu_ladder::ladder(layer, &on_cpu))?;
        match (&on_gpu, &host) {
            (Some(engine), Some(host)) => {
                each(layer, engine, gpu_ladder::ladder(layer, host, engine)?)
            }
            _ => Ok(()),
        }
    };
    if args.test || !args.bench {
        for geometry in small() {
            let layer = Layer::new(geometry)?;
            both(&layer, &mut |layer, _, mut versions| {
                versions.iter_mut().try_for_each(|version| verified(layer, version.as_mut()))
            })?;
            output::print(&format!("{geometry}: every version is right\n"))?;
        }
        return Ok(());
    }
    if args.batch == 0 || !args.batch.is_multiple_of(4) {
        let batch = args.batch;
        return Err(Error::Usage(format!("--batch {batch}: expected a multiple of four")));
    }
    let mut found = vec![];
    both(&Layer::new(of_model(args.batch))?, &mut |layer, engine, versions| {
        found.push(measure(layer, engine, versions)?);
        Ok(())
    })?;
    let Some(file) = args.json else { return Ok(()) };
    let text = serde_json::to_vec_pretty(&found).map_err(|e| Error::invalid(e.to_string()))?;
    output::write(&file, &text)
}

/// What is done with an engine's ladder.
type Each<'f> =
    dyn FnMut(&Layer, &RefCell<Box<dyn Engine>>, Vec<Box<dyn Version + '_>>) -> Result<()> + 'f;

/// Errors unless a version computes the layer.
fn verified(layer: &Layer, version: &mut dyn Version) -> Result<()> {
    let verdict = layer.verify(&version.result()?);
    verdict.map(drop).map_err(|why| {
        let name = version.name();
        Error::Verification(format!("{name}, {}: y {why}; not timed", layer.geometry))
    })
}

/// When a version has samples enough.
const STOP: Stop = Stop { least: 15, enough: 1.0, ceiling: 10.0 };

/// Measures an engine's ladder and prints its table.
fn measure(
    layer: &Layer,
    engine: &RefCell<Box<dyn Engine>>,
    versions: Vec<Box<dyn Version + '_>>,
) -> Result<Value> {
    let device = engine.borrow().description();
    let peaks = Peaks::measure(engine.borrow_mut().measure(), STOP, &|| Ok(()))?;
    let peak = peaks.compute.as_ref().map(|limit| limit.rate);
    let (flops, bytes) = (layer.flops(), layer.bytes());
    output::print(&format!(
        "\n{device}\nconv_y {}: {} MFLOP, {} MB at least, {} flops/byte; peak {} GFLOP/s\n",
        layer.geometry,
        digits(flops / 1e6),
        digits(bytes / 1e6),
        digits(flops / bytes),
        peak.map_or("unknown".to_string(), |rate| digits(rate / 1e9)),
    ))?;
    let titles = [
        "version",
        "idea",
        "us",
        "p20 to p80",
        "GFLOP/s",
        "images/s",
        "% peak",
        "flops/byte",
        "x naive",
    ];
    let (mut lines, mut rows, mut naive) = (vec![titles.map(String::from).to_vec()], vec![], None);
    for mut version in versions {
        verified(layer, version.as_mut())?;
        let times = repeats(|times| version.time(times))?;
        let sample = || Ok(version.time(times)?.seconds / f64::from(times));
        let seconds: Summary = STOP.sample(sample)?;
        let first = *naive.get_or_insert(seconds.median);
        let rate = flops / seconds.median;
        let images = layer.geometry.n as f64 / seconds.median;
        let percent = peak.map(|peak| 100.0 * rate / peak);
        let or_none = |value: Option<f64>| value.map_or("-".to_string(), digits);
        lines.push(vec![
            version.name().to_string(),
            version.idea().to_string(),
            digits(1e6 * seconds.median),
            format!("{} to {}", digits(1e6 * seconds.p20), digits(1e6 * seconds.p80)),
            digits(rate / 1e9),
            digits(images),
            or_none(percent),
            or_none(version.intensity()),
            digits(first / seconds.median),
        ]);
        rows.push(json!({
            "version": version.name(), "idea": version.idea(), "gflops": rate / 1e9,
            "images_per_second": images, "peak_percent": percent,
            "flops_per_byte": version.intensity(), "seconds": seconds,
        }));
    }
    output::print(&columns(&lines, 2))?;
    Ok(json!({
        "device": device, "layer": layer.geometry.to_string(), "flops": flops, "bytes": bytes,
        "peak_gflops": peak.map(|rate| rate / 1e9), "versions": rows,
    }))
}
