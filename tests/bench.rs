//! `gradcon bench`: what it writes can be read and compared, what is wrong is told, and nothing is
//! timed that computes something else. No test looks at how fast anything is.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use gradcon::bench::peaks::Peaks;
use gradcon::bench::record::{Cache, Kind, Record, Row};
use gradcon::bench::stats::Stop;
use gradcon::bench::{Sizes, kernels};
use gradcon::engine::measure::{Facts, Probe, Span};
use gradcon::engine::{Data, Engine, Loaded, Measure, cpu};
use gradcon::kernels::Form;
use gradcon::method::model;
use gradcon::program::{Precision, Program};
use gradcon::{Error, Result};
use serde_json::Value;

/// As little as there can be.
const QUICK: &str = "--samples 1 --time 0 --limit 0";

/// Runs the program in a folder: exit code, stdout, stderr.
fn gradcon(folder: &Path, line: &str) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_gradcon"))
        .current_dir(folder)
        .args(line.split_whitespace())
        .env_remove("WGPU_ADAPTER_NAME")
        .env_remove("WGPU_BACKEND")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// Runs to success and returns stdout.
#[track_caller]
fn ok(folder: &Path, line: &str) -> String {
    let (code, stdout, stderr) = gradcon(folder, line);
    assert_eq!(code, 0, "gradcon {line}: {stderr}");
    stdout
}

/// Runs to failure with `code` and returns stderr.
#[track_caller]
fn fails(folder: &Path, line: &str, code: i32) -> String {
    let (got, stdout, stderr) = gradcon(folder, line);
    assert_eq!(got, code, "gradcon {line}: {stdout}\n{stderr}");
    stderr
}

/// Peaks and one kernel on a device, with all files.
fn check_device(device: &str) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let table = ok(here, &format!("bench peaks {QUICK} --json p.json --csv p.csv {device}"));
    let peaks = Record::read(&here.join("p.json")).unwrap();
    assert!(peaks.rows.len() > 7 && !peaks.device.name.is_empty(), "{table}");
    for row in &peaks.rows {
        assert!(table.contains(&row.name) && row.kind == Kind::Peak, "{} in {table}", row.name);
        let told = row.value.is_some() && row.clock.is_some() || row.note.is_some();
        assert!(told, "{}: neither a value nor a reason", row.name);
    }
    let lines = std::fs::read_to_string(here.join("p.csv")).unwrap().lines().count();
    assert_eq!(lines, 1 + peaks.rows.len());

    let files = "--json k.json --csv k.csv --svg k.svg";
    let sizes = "--batch 5 --channels 3 --replicas 2";
    let table = ok(here, &format!("bench kernels --kernels a?am {sizes} {QUICK} {files} {device}"));
    let record = Record::read(&here.join("k.json")).unwrap();
    assert_eq!(record.device, peaks.device);
    let adam: Vec<&Row> = record.rows.iter().filter(|row| row.kind == Kind::Kernel).collect();
    let caches: Vec<_> = adam.iter().map(|row| row.cache).collect();
    assert_eq!(caches, [Some(Cache::Warm), Some(Cache::Cold)]);
    for row in adam {
        let kernel = row.kernel.as_ref().unwrap();
        assert!(row.name == "adam" && row.value.is_some() && kernel.verified, "{row:?}");
        assert_eq!((row.batch, row.channels, row.replicas), (5, 3, 2));
        assert!(kernel.worst.is_some_and(|worst| worst <= 1.0), "{row:?}");
        assert!(kernel.peak_percent.is_some() && kernel.bound.is_some(), "{row:?}");
        let net = kernel.net_us.is_none_or(|net| net >= 0.0 && net <= row.median().unwrap());
        assert!(net && kernel.among.is_none(), "{row:?}");
    }
    assert!(record.rows.iter().any(|row| row.kind == Kind::Step && row.name == "train"));
    let says = ["a training step, batch 5, 3 channel(s), 2 model(s)", "adam", "ok", "the step: "];
    assert!(says.iter().all(|part| table.contains(part)), "{table}");
    assert!(!table.contains("conv_w") && !table.contains("scoring"), "{table}");
    let svg = std::fs::read_to_string(here.join("k.svg")).unwrap();
    for part in ["<svg xmlns", "adam", "GFLOP/s", "DRAM", "</svg>"] {
        assert!(svg.contains(part), "{part} in {svg}");
    }

    // Nothing changed between a measurement and itself.
    let same = ok(here, "bench compare k.json k.json");
    assert!(same.contains("0 faster, 0 slower"), "{same}");
}

#[test]
fn the_cpu_engine_is_measured() {
    check_device("--device cpu");
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn a_gpu_is_measured() {
    check_device("--device gpu --allow-software");
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn a_gpu_is_measured_in_every_variant() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let sizes = "--kernels conv_w --batch 16 --no-cold --device gpu --allow-software";
    let table = ok(here, &format!("bench kernels {sizes} {QUICK} --variants --json v.json"));
    let record = Record::read(&here.join("v.json")).unwrap();
    let rows: Vec<&Row> = record.rows.iter().filter(|row| row.kind == Kind::Kernel).collect();
    let of = |row: &Row| row.kernel.clone().unwrap();
    let mut calls: Vec<&str> = rows.iter().map(|row| &row.shape[..]).collect();
    calls.dedup();
    assert!(rows.len() > 2 * calls.len(), "{} rows of {} calls", rows.len(), calls.len());
    let mut tiled = 0;
    for call in &calls {
        let all: Vec<_> = rows.iter().filter(|row| row.shape == *call).map(|row| of(row)).collect();
        if let [alone] = &all[..] {
            assert!(alone.among.is_none() && alone.variant.is_some(), "{alone:?}");
            continue;
        }
        assert!(all.iter().all(|kernel| kernel.verified), "{all:?}");
        let among = || all.iter().filter_map(|kernel| kernel.among);
        assert_eq!(among().filter(|among| among.default).count(), 1, "{all:?}");
        assert_eq!(among().filter(|among| among.runs).count(), 1, "{all:?}");
        assert_eq!(among().filter(|among| among.fastest).count(), 1, "{all:?}");
        let shared = all.iter().filter(|kernel| kernel.share_percent.is_some());
        assert!(shared.eq(all.iter().filter(|kernel| kernel.among.unwrap().runs)), "{all:?}");
        let mut groups: Vec<u64> = all.iter().map(|kernel| kernel.workgroups).collect();
        groups.sort_unstable();
        groups.dedup();
        tiled += usize::from(groups.len() > 1);
    }
    assert!(tiled > 0, "workgroups are those of one variant");
    assert!(table.contains("default") && table.contains("fastest"), "{table}");
    // What runs is another row than what could run.
    ok(here, &format!("bench kernels {sizes} {QUICK} --json r.json"));
    let runs = Record::read(&here.join("r.json")).unwrap();
    let names = |record: &Record| -> Vec<_> {
        let kernels = record.rows.iter().filter_map(|row| Some((row, row.kernel.as_ref()?)));
        let run = kernels.filter(|(_, kernel)| kernel.among.is_none_or(|among| among.runs));
        run.map(|(row, kernel)| (row.shape.clone(), kernel.variant.clone())).collect()
    };
    assert_eq!(names(&record), names(&runs));
}

/// A CPU engine whose results are a little off.
struct Off(Box<dyn Engine>);

impl Engine for Off {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        self.0.load(program)
    }
    fn clear(&mut self) {
        self.0.clear();
    }
    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        self.0.write(name, data)
    }
    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        self.0.copy_replicas(from, to, replicas)
    }
    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        let off = |(i, v)| if i % 100 == 7 { v * 1.01 } else { v };
        Ok(self.0.read(name)?.into_iter().enumerate().map(off).collect())
    }
    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        self.0.read_f32(name)
    }
    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        self.0.run(program, steps)
    }
    fn wait(&mut self) -> Result<()> {
        self.0.wait()
    }
    fn measure(&mut self) -> &mut dyn Measure {
        self.0.measure()
    }
    fn description(&self) -> String {
        self.0.description()
    }
    fn form(&self) -> Form {
        self.0.form()
    }
}

/// A CPU engine whose FMA peak, once the script runs, is what that says: a factor for each look.
struct Drifting {
    engine: Box<dyn Engine>,
    script: Vec<f64>,
    /// Samples of the peak since the script runs, and measurements of calls.
    looks: Option<usize>,
    timed: usize,
}

impl Measure for Drifting {
    fn time_call(&mut self, program: Loaded, call: usize, step: u32, times: u32) -> Result<Span> {
        self.timed += 1;
        self.engine.measure().time_call(program, call, step, times)
    }
    fn flush_caches(&mut self) -> Result<()> {
        self.engine.measure().flush_caches()
    }
    fn probes(&mut self) -> Result<Vec<Probe>> {
        self.engine.measure().probes()
    }
    fn time_probe(&mut self, probe: usize, times: u32) -> Result<Span> {
        let span = self.engine.measure().time_probe(probe, times)?;
        let Some(looks) = &mut self.looks else { return Ok(span) };
        // Three samples a look.
        let factor = self.script[(*looks / 3).min(self.script.len() - 1)];
        *looks += 1;
        Ok(Span { seconds: factor * 1e-3, ..span })
    }
    fn facts(&self) -> Facts {
        Facts::default()
    }
}

impl Engine for Drifting {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        self.engine.load(program)
    }
    fn clear(&mut self) {
        self.engine.clear();
    }
    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        self.engine.write(name, data)
    }
    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        self.engine.copy_replicas(from, to, replicas)
    }
    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        self.engine.read(name)
    }
    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        self.engine.read_f32(name)
    }
    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        self.engine.run(program, steps)
    }
    fn wait(&mut self) -> Result<()> {
        self.engine.wait()
    }
    fn measure(&mut self) -> &mut dyn Measure {
        self
    }
    fn description(&self) -> String {
        self.engine.description()
    }
    fn form(&self) -> Form {
        self.engine.form()
    }
}

#[test]
fn a_disturbed_row_is_measured_once_more_and_then_marked() {
    let stop = Stop { least: 1, enough: 0.0, ceiling: 0.0 };
    let go_on = &|| Ok(());
    let sizes = Sizes { batch: 4, ..Sizes::default() };
    // Factors before and after each measurement.
    for (script, disturbed, measurements) in [
        (vec![1.0, 1.0], false, 1),
        (vec![1.0, 1.02], false, 1),
        (vec![1.0, 1.1, 1.1, 1.1], false, 2),
        (vec![1.0, 1.1, 1.1, 1.0, 1.0, 1.0], true, 2),
    ] {
        let mut engine = Drifting { engine: cpu::f32(), script, looks: None, timed: 0 };
        let peaks = Peaks::measure(&mut engine, stop, go_on).unwrap();
        let (cold, variants) = (false, false);
        let plan = kernels::Plan { glob: "adam", stop, cold, variants, peaks: &peaks, go_on };
        let mut rows = vec![];
        engine.looks = Some(0);
        kernels::measure(&mut engine, sizes, &plan, &mut rows).unwrap();
        let adam = rows.iter().find(|row| row.name == "adam").unwrap();
        assert_eq!(adam.disturbed, disturbed, "{:?}", engine.script);
        assert_eq!(engine.looks, Some(2 * 3 * measurements), "{:?}", engine.script);
        assert!(engine.timed >= measurements && adam.value.is_some());
    }
}

/// Every kernel of both programs of a model on an engine, as quickly as can be.
fn all_kernels(engine: &mut dyn Engine, kind: model::Kind, precision: Precision) -> Vec<Row> {
    let stop = Stop { least: 1, enough: 0.0, ceiling: 0.0 };
    let go_on = &|| Ok(());
    let peaks = Peaks::measure(engine.measure(), stop, go_on).unwrap();
    let plan =
        kernels::Plan { glob: "*", stop, cold: false, variants: false, peaks: &peaks, go_on };
    let sizes = Sizes { model: kind, batch: 7, size: 28, channels: 2, replicas: 2, precision };
    let mut rows = vec![];
    kernels::measure(engine, sizes, &plan, &mut rows).unwrap();
    let kernels: Vec<Row> = rows.into_iter().filter(|row| row.kind == Kind::Kernel).collect();
    assert!(kernels.len() > 20, "{} kernels", kernels.len());
    kernels
}

#[test]
fn every_kernel_of_the_cpu_engine_is_verified_and_timed() {
    let of = |kind, precision| all_kernels(cpu::f32().as_mut(), kind, precision);
    let half = of(model::Kind::Cae, Precision::F16);
    let halves = half.iter().filter(|row| row.shape.ends_with(" f16")).count();
    assert!(2 * halves > half.len(), "{halves} of {} kernels are in half precision", half.len());
    let plain = of(model::Kind::Cae, Precision::F32);
    for row in half.into_iter().chain(plain).chain(of(model::Kind::Vae, Precision::F32)) {
        let kernel = row.kernel.as_ref().unwrap();
        assert!(kernel.verified && row.value.is_some() && row.note.is_none(), "{row:?}");
        assert!(kernel.count > 0 && kernel.workgroups > 0 && kernel.bytes > 0, "{row:?}");
        assert!(kernel.variant.is_none() && kernel.among.is_none(), "{row:?}");
    }
}

#[test]
fn what_was_measured_before_an_interruption_is_there() {
    let stop = Stop { least: 1, enough: 0.0, ceiling: 0.0 };
    let mut engine = cpu::f32();
    let peaks = Peaks::measure(engine.measure(), stop, &|| Ok(())).unwrap();
    let asked = std::cell::Cell::new(0);
    let go_on = &|| {
        asked.set(asked.get() + 1);
        if asked.get() > 3 { Err(Error::Interrupted) } else { Ok(()) }
    };
    let plan =
        kernels::Plan { glob: "*", stop, cold: false, variants: false, peaks: &peaks, go_on };
    let (sizes, mut rows) = (Sizes { batch: 4, ..Sizes::default() }, vec![]);
    let outcome = kernels::measure(engine.as_mut(), sizes, &plan, &mut rows);
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert_eq!(rows.iter().filter(|row| row.kind == Kind::Kernel).count(), 3);
}

#[test]
fn a_kernel_that_is_wrong_is_named_and_not_timed() {
    let rows = all_kernels(&mut Off(cpu::f32()), model::Kind::Cae, Precision::F32);
    let wrong: Vec<&Row> = rows.iter().filter(|row| row.note.is_some()).collect();
    // A result that has no element of number 7 can't be off there.
    assert!(wrong.len() > rows.len() / 2, "{} of {} kernels", wrong.len(), rows.len());
    for row in wrong {
        assert!(row.value.is_none() && !row.kernel.as_ref().unwrap().verified, "{row:?}");
        let note = row.note.as_ref().unwrap();
        assert!(note.starts_with("wrong: ") && note.contains("expected"), "{note}");
    }
}

/// A measurement of one row with these medians, as a file.
fn write(folder: &Path, name: &str, change: impl Fn(&mut Value)) {
    let mut record: Value = serde_json::from_str(
        r#"{
        "format": "gradcon bench", "schema": 1, "command": "kernels", "version": "0.1.0",
        "git": "unknown", "dirty": null, "date": "2026-11-25T00:00:00Z",
        "device": {"name": "A", "backend": "Vulkan", "driver": "1", "kind": "software",
                   "threads": 0},
        "description": "device A", "rows": [
        {"kind": "step", "name": "training", "shape": "1 steps", "program": "", "cache": null,
         "replicas": 1, "batch": 64, "channels": 1, "unit": "images/s", "clock": "wall",
         "value": {"median": 100.0, "p20": 99.0, "p80": 101.0, "samples": [99.0, 100.0, 101.0]},
         "note": null, "disturbed": false, "kernel": null, "step": null}]}"#,
    )
    .unwrap();
    change(&mut record);
    std::fs::write(folder.join(name), record.to_string()).unwrap();
}

fn value(median: f64) -> Value {
    serde_json::json!({"median": median, "p20": median, "p80": median, "samples": [median]})
}

#[test]
fn comparing_says_what_changed_and_exits_with_4_where_something_got_slower() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write(here, "old.json", |_| ());
    for (name, change) in [
        ("slow", (|r| r["rows"][0]["value"] = value(90.0)) as fn(&mut Value)),
        ("fast", |r| r["rows"][0]["value"] = value(110.0)),
        ("lost", |r| r["rows"][0]["value"] = Value::Null),
        ("schema", |r| r["schema"] = 2.into()),
        ("format", |r| r["format"] = "results".into()),
        ("driver", |r| r["device"]["driver"] = "2".into()),
        ("device", |r| {
            r["device"]["name"] = "B".into();
            r["description"] = "device B".into();
        }),
        ("batch", |r| r["rows"][0]["batch"] = 32.into()),
    ] {
        write(here, &format!("{name}.json"), change);
    }
    let compare = |new: &str| format!("bench compare old.json {new}.json");
    let table = ok(here, &compare("old"));
    assert!(table.contains("0 faster, 0 slower, 1 the same"), "{table}");
    let table = ok(here, &compare("fast"));
    assert!(table.contains("+10.0 %") && table.contains("1 faster, 0 slower"), "{table}");
    let error = fails(here, &compare("slow"), 4);
    assert!(error.contains("slow.json: 1 rows are slower than in old.json"), "{error}");
    assert!(fails(here, &compare("lost"), 4).contains("1 have lost their value"));
    ok(here, &compare("driver"));
    let table = ok(here, &compare("batch"));
    for only in ["only in the old file: step training 1 steps r1 n64 c1", "only in the new file: "]
    {
        assert!(table.contains(only), "{table}");
    }

    let error = fails(here, &compare("device"), 1);
    for part in ["old.json was measured on device A", "device.json on device B", "--across-devices"]
    {
        assert!(error.contains(part), "{part} in {error}");
    }
    ok(here, &format!("{} --across-devices", compare("device")));
    let expected = "expected a file of `gradcon bench --json FILE`, schema 1";
    for (name, found) in [("schema", "schema 2"), ("format", "format \"results\"")] {
        let error = fails(here, &compare(name), 1);
        assert!(error.contains(&format!("{name}.json: {found}, {expected}")), "{error}");
    }
    std::fs::write(here.join("text.json"), "images/s").unwrap();
    assert!(fails(here, &compare("text"), 1).contains("text.json: no JSON"));
    assert!(fails(here, &compare("nowhere"), 1).contains("nowhere.json"));
}

#[test]
fn bare_bench_is_bench_steps_for_lists_of_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let line = "--steps 1 --rounds 2 --batch 4,5 --channels 1 --replicas 1,2 --device cpu";
    let lines = ok(here, &format!("bench {line} --json"));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sizes = |line: &Value| [&line["replicas"], &line["batch"]].map(|v| v.as_u64().unwrap());
    let sizes: Vec<_> = lines.iter().map(sizes).collect();
    assert_eq!(sizes, [[1, 4], [1, 5], [2, 4], [2, 5]]);
    for line in &lines {
        let (median, range) = (&line["train_images_per_second"], &line["train_range"]);
        let [low, median, high] = [&range[0], median, &range[1]].map(|v| v.as_f64().unwrap());
        assert!(low > 0.0 && low <= median && median <= high, "{line}");
        assert!(line["score_images_per_second"].as_f64().unwrap() > 0.0);
        assert!(line["train_dispatches"].as_u64().unwrap() > 20, "{line}");
    }
    let table = ok(here, &format!("bench steps {line} --json s.json --csv s.csv"));
    assert_eq!(table.lines().filter(|line| line.starts_with("training")).count(), 4, "{table}");
    let record = Record::read(&here.join("s.json")).unwrap();
    assert_eq!((record.command.as_str(), record.rows.len()), ("steps", 8));
    assert!(record.rows.iter().all(|row| row.value.as_ref().unwrap().samples.len() == 2));
    assert_eq!(std::fs::read_to_string(here.join("s.csv")).unwrap().lines().count(), 9);
}

#[test]
fn senseless_requests_are_told_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let kernels = format!("bench kernels {QUICK} --batch 4 --device cpu");
    let error = fails(here, &format!("{kernels} --kernels convolution*"), 2);
    for part in ["--kernels 'convolution*'", "adam", "gather"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = fails(here, &format!("{kernels} --variants"), 2);
    for part in ["--variants", "CPU engine", "expected a GPU"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = fails(here, &format!("{kernels} --replicas 1,2 --svg k.svg"), 2);
    assert!(error.contains("--svg draws one size") && !error.contains("device:"), "{error}");
    let error = fails(here, &format!("{kernels} --json nowhere/k.json"), 1);
    assert!(error.contains("nowhere") && !error.contains("device:"), "{error}");
    for (flag, value) in
        [("--time", "-1"), ("--limit", "1e9"), ("--samples", "0"), ("--batch", "4,")]
    {
        let error = fails(here, &format!("{kernels} {flag}={value}"), 2);
        assert!(error.contains(flag), "{flag} in {error}");
    }
    fails(here, "bench peaks --kernels adam", 2);
    fails(here, "bench --steps 3 peaks", 2);
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0, "files without a measurement");
}

/// No kernel of a program, and so not in the tests of those.
#[test]
fn the_shader_of_peaks_needs_no_more_than_core_webgpu() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders/peaks.wgsl");
    let text = std::fs::read_to_string(path).unwrap();
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info =
        validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    assert!(module.entry_points.len() > 5 && module.overrides.is_empty());
    for entry in &module.entry_points {
        let shader_stage = entry.stage;
        let spv =
            naga::back::spv::PipelineOptions { shader_stage, entry_point: entry.name.clone() };
        naga::back::spv::write_vec(&module, &info, &Default::default(), Some(&spv)).unwrap();
    }
}
