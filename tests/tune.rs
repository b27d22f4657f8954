//! `gradcon tune`: what is wrong is never chosen, what is faster is, a step has the last word, and
//! no plan changes a bit. No test looks at how fast anything is: where the outcome matters, the
//! clock is the test's own.

mod place;

use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use gradcon::bench::peaks::Peaks;
use gradcon::bench::record::{Cache, Kind, Row};
use gradcon::bench::stats::Stop;
use gradcon::bench::{Sizes, kernels};
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::measure::{Facts, Probe, Span};
use gradcon::engine::tuned::{Key, TunedPlan};
use gradcon::engine::{Data, Engine, Loaded, Measure, Timing, Tunable, cpu};
use gradcon::kernels::{DIRECT, Form, REFERENCE};
use gradcon::method::config::TrainConfig;
use gradcon::method::model::{self, Model};
use gradcon::method::programs::training_program;
use gradcon::program::choices::{Choice, Choices};
use gradcon::program::{Call, Options, Precision, Program};
use gradcon::tune::race::Race;
use gradcon::tune::{Effort, Found, Watch, choices, tune};
use gradcon::{Error, Result};
use place::{Place, Running, text};
use serde_json::Value;

/// A device whose kernels have variants by name alone, on a clock of its own.
struct Fake {
    cpu: Box<dyn Engine>,
    /// Name and milliseconds of each variant, the default first.
    variants: Vec<(&'static str, f64)>,
    /// Whose results are off by a bit.
    wrong: Vec<&'static str>,
    /// What doesn't compile.
    refused: Option<&'static str>,
    /// Milliseconds of a step beyond those of its kernels, for each kernel in another variant than
    /// the default.
    mixing: f64,
    choices: Choices,
    forced: Option<&'static str>,
    /// The variant of each call of what is loaded.
    loaded: Vec<(Loaded, Vec<String>)>,
    last: Vec<String>,
    /// What was timed, by variant.
    timed: Vec<String>,
    ticks: usize,
}

impl Fake {
    fn new(variants: &[(&'static str, f64)]) -> Fake {
        Fake {
            cpu: cpu::f32(),
            variants: variants.to_vec(),
            wrong: vec![],
            refused: None,
            mixing: 0.0,
            choices: Choices::default(),
            forced: None,
            loaded: vec![],
            last: vec![],
            timed: vec![],
            ticks: 0,
        }
    }

    fn names(&self, program: Loaded) -> Vec<String> {
        self.loaded.iter().find(|(loaded, _)| *loaded == program).unwrap().1.clone()
    }

    /// Seconds of some milliseconds, with a little noise.
    fn tick(&mut self, ms: f64) -> f64 {
        self.ticks += 1;
        ms * 1e-3 * (1.0 + 1e-3 * (self.ticks * 7 % 5) as f64)
    }

    fn ms(&self, name: &str) -> f64 {
        self.variants.iter().find(|(known, _)| *known == name).unwrap().1
    }
}

impl Engine for Fake {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        let name = |call: &Call| self.variant(program, call).to_string();
        let names: Vec<String> = program.calls.iter().map(name).collect();
        if let Some(refused) = self.refused.filter(|r| names.iter().any(|name| name == r)) {
            return Err(Error::Device(format!("{refused} does not compile")));
        }
        let loaded = self.cpu.load(program)?;
        self.loaded.push((loaded, names));
        Ok(loaded)
    }
    fn clear(&mut self) {
        self.cpu.clear();
        self.loaded.clear();
    }
    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        self.cpu.write(name, data)
    }
    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        self.cpu.copy_replicas(from, to, replicas)
    }
    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        let mut values = self.cpu.read(name)?;
        if self.last.iter().any(|name| self.wrong.contains(&&name[..])) {
            values.iter_mut().for_each(|v| *v += 1e6);
        }
        Ok(values)
    }
    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let mut values = self.cpu.read_f32(name)?;
        if self.last.iter().any(|name| self.wrong.contains(&&name[..])) {
            let last = values.last_mut().unwrap();
            *last = last.next_up();
        }
        Ok(values)
    }
    fn run(&mut self, program: Loaded, steps: Range<u32>) -> Result<()> {
        self.last = self.names(program);
        self.cpu.run(program, steps)
    }
    fn wait(&mut self) -> Result<()> {
        self.cpu.wait()
    }
    fn measure(&mut self) -> &mut dyn Measure {
        self
    }
    fn tunable(&mut self) -> Option<&mut dyn Tunable> {
        Some(self)
    }
    fn description(&self) -> String {
        "a fake".to_string()
    }
    fn form(&self) -> Form {
        Form::Serial
    }
}

impl Measure for Fake {
    fn time_call(&mut self, program: Loaded, _: usize, _: u32, times: u32) -> Result<Span> {
        let name = self.names(program)[0].clone();
        let ms = self.ms(&name) * f64::from(times);
        self.timed.push(name);
        Ok(Span { seconds: self.tick(ms), clock: Timing::Device })
    }
    fn flush_caches(&mut self) -> Result<()> {
        self.cpu.measure().flush_caches()
    }
    fn probes(&mut self) -> Result<Vec<Probe>> {
        self.cpu.measure().probes()
    }
    fn time_probe(&mut self, probe: usize, times: u32) -> Result<Span> {
        self.cpu.measure().time_probe(probe, times)
    }
    fn facts(&self) -> Facts {
        Facts::default()
    }
}

impl Tunable for Fake {
    fn variants(&self, _: &Program, call: &Call) -> Vec<&'static str> {
        let all = self.variants.iter().map(|(name, _)| *name);
        match call.kernel.name().starts_with("conv") {
            true => all.collect(),
            false => all.take(1).collect(),
        }
    }
    fn variant(&self, program: &Program, call: &Call) -> &'static str {
        let names = self.variants(program, call);
        let chosen = self.choices.find(&call.kernel, program.replicas);
        let chosen = chosen.map(|choice| &choice.variant[..]);
        let wanted = [self.forced, chosen].into_iter().flatten();
        let found = wanted.filter_map(|wanted| names.iter().find(|name| **name == wanted)).next();
        found.unwrap_or(&names[0])
    }
    fn force(&mut self, variant: Option<&'static str>) {
        self.forced = variant;
    }
    fn choose(&mut self, choices: Choices) {
        self.choices = choices;
    }
    fn time_steps(&mut self, program: Loaded, steps: Range<u32>, times: usize) -> Result<f64> {
        let (names, default) = (self.names(program), self.variants[0].0);
        let mixed = names.iter().filter(|name| *name != default).count();
        let kernels: f64 = names.iter().map(|name| self.ms(name)).sum();
        let all = (kernels + self.mixing * mixed as f64) * (steps.len() * times) as f64;
        Ok(self.tick(all))
    }
}

const SIZES: Sizes = Sizes {
    model: model::Kind::Cae,
    batch: 4,
    size: 28,
    channels: 1,
    replicas: 1,
    precision: Precision::F32,
};

fn found(fake: &mut Fake, sizes: Sizes, before: &[Found]) -> Result<Found> {
    let effort = Effort { samples: 5, limit: 1e9 };
    let watch = Watch { go_on: &|| Ok(()), tell: &|_| () };
    tune(fake, sizes, effort, before, &watch)
}

#[test]
fn the_fastest_variant_is_chosen_and_one_that_is_wrong_is_not_even_timed() {
    let mut fake = Fake::new(&[
        (REFERENCE, 1.0),
        ("fast", 0.8),
        ("faster", 0.5),
        ("wrong", 0.1),
        ("refused", 0.1),
        ("hopeless", 9.0),
    ]);
    (fake.wrong, fake.refused) = (vec!["wrong"], Some("refused"));
    let found = found(&mut fake, SIZES, &[]).unwrap();
    assert!(found.races.len() > 20, "{} kernels", found.races.len());
    for race in &found.races {
        assert_eq!(race.winner.as_deref(), Some("faster"), "{race:?}");
        let timed = race.variants.iter().map(|runner| runner.us.is_some()).collect::<Vec<_>>();
        assert_eq!(timed, [true, true, true, false, false, false], "{race:?}");
        let why = |i: usize| race.variants[i].failure.clone().unwrap_or_default();
        assert!(why(3).contains("expected the reference's"), "{}", why(3));
        assert!(why(4).contains("refused does not compile"), "{}", why(4));
        assert!(race.variants[5].times_default.is_some_and(|times| times > 8.0), "{race:?}");
        let line = race.line();
        let says = ["faster takes 50 % less than reference", "wrong failed", "refused failed"];
        assert!(says.iter().all(|part| line.contains(part)), "{line}");
    }
    let timed = |name: &str| fake.timed.iter().filter(|timed| *timed == name).count();
    assert_eq!((timed("wrong"), timed("refused")), (0, 0));
    assert_eq!(timed("hopeless"), 3 * found.races.len());
    assert!(found.trials.iter().all(|trial| trial.faster && trial.gain().is_some()));
    assert_eq!(found.choices.0.len(), found.races.len());
    assert!(found.choices.0.iter().all(|choice| choice.variant == "faster"));

    // What was measured can be kept, with all samples.
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Found>(&text).unwrap(), found);
    let table = gradcon::tune::text::found(&found);
    for part in ["batch 4, 1 channel(s)", "hopeless 9 x", "wrong failed", "% less"] {
        assert!(table.contains(part), "{part} in {table}");
    }
}

#[test]
fn a_step_that_is_not_faster_keeps_the_default() {
    let mut fake = Fake::new(&[(REFERENCE, 1.0), ("fast", 0.5)]);
    fake.mixing = 1.0;
    let found = found(&mut fake, SIZES, &[]).unwrap();
    assert!(found.races.iter().all(|race| race.winner.is_some()));
    assert!(found.choices.0.is_empty() && choices(std::slice::from_ref(&found)).0.is_empty());
    let says = ["so nothing is chosen for it", "its kernels are those of the step before"];
    for (trial, says) in found.trials.iter().zip(says) {
        assert!(!trial.faster && trial.line().contains(says), "{}", trial.line());
    }
    assert!(gradcon::tune::text::found(&found).contains("default, not fast"));
}

#[test]
fn a_variant_that_gains_little_is_not_chosen() {
    let mut fake = Fake::new(&[(REFERENCE, 1.0), ("alike", 0.98)]);
    let found = found(&mut fake, SIZES, &[]).unwrap();
    assert!(found.races.iter().all(|race| race.winner.is_none() && race.clock.is_some()));
    assert!(found.trials.iter().all(|trial| trial.line().contains("no variant beats the default")));
}

#[test]
fn a_default_that_is_wrong_is_an_error_that_names_it() {
    let mut fake = Fake::new(&[("own", 1.0), (REFERENCE, 2.0)]);
    fake.wrong = vec!["own"];
    let error = found(&mut fake, SIZES, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let error = error.to_string();
    assert!(error.contains("a fake: the default variant 'own' of conv_"), "{error}");
}

#[test]
fn another_size_measures_only_what_is_new() {
    let mut fake = Fake::new(&[(REFERENCE, 1.0), ("fast", 0.5)]);
    let first = found(&mut fake, SIZES, &[]).unwrap();
    fake.timed.clear();
    let gray = std::slice::from_ref(&first);
    let second = found(&mut fake, Sizes { channels: 3, ..SIZES }, gray).unwrap();
    let known = |id: &str| first.races.iter().any(|race| race.id == id);
    let new = second.races.iter().filter(|race| !known(&race.id)).count();
    assert!(new > 0 && new < second.races.len(), "{new} of {}", second.races.len());
    // Three runs beforehand, the warm-up and the samples.
    assert_eq!(fake.timed.iter().filter(|name| *name == "fast").count(), new * (3 + 5));
    let all = choices(&[first.clone(), second]);
    assert_eq!(all.0.len(), first.races.len() + new);

    // Ten models are another program.
    let many = found(&mut fake, Sizes { replicas: 2, ..SIZES }, gray).unwrap();
    assert!(many.races.iter().all(|race| race.replicas == 2));
}

#[test]
fn a_request_to_stop_ends_it_soon() {
    let mut fake = Fake::new(&[(REFERENCE, 1.0), ("fast", 0.5)]);
    let asked = Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        if asked.get() > 20 { Err(Error::Interrupted) } else { Ok(()) }
    };
    let watch = Watch { go_on: &go_on, tell: &|_| () };
    let effort = Effort { samples: 1000, limit: 1e9 };
    let outcome = tune(&mut fake, SIZES, effort, &[], &watch);
    assert!(matches!(outcome, Err(Error::Interrupted)) && asked.get() == 21);
    assert!(fake.timed.len() < 30, "{} measurements", fake.timed.len());
}

#[test]
fn a_bench_of_all_variants_marks_what_is_default_what_runs_and_what_is_fastest() {
    let mut fake = Fake::new(&[
        (REFERENCE, 1.0),
        ("fast", 0.5),
        ("slow", 2.0),
        ("wrong", 0.1),
        ("refused", 0.1),
    ]);
    (fake.wrong, fake.refused) = (vec!["wrong"], Some("refused"));
    let stop = Stop { least: 1, enough: 0.0, ceiling: 0.0 };
    let go_on = &|| Ok(());
    let peaks = Peaks::measure(fake.measure(), stop, go_on).unwrap();
    let mut rows = vec![];
    let (glob, cold) = ("conv_y", true);
    let plan = kernels::Plan { glob, stop, cold, variants: true, peaks: &peaks, go_on };
    kernels::measure(&mut fake, SIZES, &plan, &mut rows).unwrap();
    assert_eq!(fake.forced, None, "what follows runs as before");
    rows.retain(|row| row.kind == Kind::Kernel);
    // Three that are timed, warm and cold, and two that are not.
    assert!(rows.len() > 8 && rows.len().is_multiple_of(8), "{} rows", rows.len());
    for call in rows.chunks(8) {
        let told = call.iter().map(|row| {
            let kernel = row.kernel.as_ref().unwrap();
            let among = kernel.among.unwrap();
            let timed = row.cache.map_or("-", |c| if c == Cache::Warm { "warm" } else { "cold" });
            let marks = [among.default, among.runs, among.fastest];
            (kernel.variant.as_deref().unwrap(), timed, marks, kernel.share_percent.is_some())
        });
        let [no, fastest, default] = [[false; 3], [false, false, true], [true, true, false]];
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (REFERENCE, "warm", default, true),
                (REFERENCE, "cold", default, false),
                ("fast", "warm", fastest, false),
                ("fast", "cold", fastest, false),
                ("slow", "warm", no, false),
                ("slow", "cold", no, false),
                ("wrong", "-", no, false),
                ("refused", "-", no, false),
            ]
        );
        let note = |i: usize| call[i].note.clone().unwrap_or_default();
        assert!(note(6).contains("expected") && note(7).contains("refused does not compile"));
    }
    assert!(!fake.timed.iter().any(|name| name == "wrong" || name == "refused"));
    let table = gradcon::bench::text::kernels(&rows.iter().collect::<Vec<_>>());
    for part in ["reference (default)", "fast (fastest)", "slow ", "(wrong) is wrong: "] {
        assert!(table.contains(part), "{part} in {table}");
    }

    // Where a plan says so, another variant than the default runs.
    let chosen = |row: &Row| row.kernel.as_ref().unwrap().variant.clone();
    let found = found(&mut fake, SIZES, &[]).unwrap();
    fake.choose(found.choices);
    let one = kernels::Plan { variants: false, cold: false, ..plan };
    let mut runs = vec![];
    kernels::measure(&mut fake, SIZES, &one, &mut runs).unwrap();
    runs.retain(|row| row.kind == Kind::Kernel);
    assert!(!runs.is_empty() && runs.iter().all(|row| chosen(row).as_deref() == Some("fast")));
    assert!(runs.iter().all(|row| row.kernel.as_ref().unwrap().among.is_none()));
}

#[test]
fn a_plan_may_name_every_variant_that_there_is() {
    let options = Options { form: Form::Parallel, ..Options::default() };
    let mut all = vec![];
    for channels in [1, 3] {
        let config = TrainConfig::default();
        let program = training_program(&Model::new(channels), &config, 64, 1, options);
        for call in &program.calls {
            let variants = call.kernel.family().variants();
            all.extend(variants.iter().map(|launch| Choice::new(&call.kernel, 1, launch.variant)));
        }
    }
    let named = |variant: &str| all.iter().any(|choice| choice.variant == variant);
    assert!(named(REFERENCE) && named(DIRECT) && named("tile-8x8"));
    let (key, folder) = (Key::of(["A", "Vulkan", "1"]), tempfile::tempdir().unwrap());
    let plan = TunedPlan::new(key.clone(), Choices(all), Value::Null);
    let path = folder.path().join("plan.json");
    std::fs::write(&path, plan.to_json().unwrap()).unwrap();
    assert_eq!(TunedPlan::read(&path, &key).unwrap(), plan);
}

/// The program in a place, with a cache folder of its own there.
fn command(place: &Place, line: &str) -> Command {
    let mut command = place.command(line);
    command.env("XDG_CACHE_HOME", place.path("cache")).env_remove("WGPU_BACKEND");
    command
}

/// Exit code, stdout, stderr.
fn gradcon(place: &Place, line: &str) -> (i32, String, String) {
    let out = command(place, line).output().unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// Runs to success and returns stdout and stderr.
#[track_caller]
fn ok(place: &Place, line: &str) -> (String, String) {
    let (code, stdout, stderr) = gradcon(place, line);
    assert_eq!(code, 0, "gradcon {line}: {stderr}");
    (stdout, stderr)
}

/// Runs to failure with `code`, with an error that says all of `says`.
#[track_caller]
fn fails(place: &Place, line: &str, code: i32, says: &[&str]) {
    let (got, stdout, stderr) = gradcon(place, line);
    assert_eq!(got, code, "gradcon {line}: {stdout}\n{stderr}");
    for part in says {
        assert!(stderr.contains(part), "gradcon {line}: {part} in {stderr}");
    }
}

#[test]
fn there_is_nothing_to_tune_on_the_cpu_engine() {
    let place = Place::new();
    for line in ["tune", "tune --show", "tune --clear", "tune --export plan.json"] {
        let says = ["the CPU engine", "nothing to tune", "expected a GPU"];
        fails(&place, &format!("{line} --device cpu"), 2, &says);
    }
    std::fs::write(place.path("plan.json"), "{}").unwrap();
    let bench = "bench --steps 1 --rounds 1 --batch 4 --device cpu --plan";
    fails(&place, &format!("{bench} plan.json"), 2, &["--plan plan.json", "the CPU engine"]);
    ok(&place, &format!("{bench} default"));
    fails(&place, "tune --show --clear --device cpu", 2, &["--show", "--clear"]);
    fails(&place, "tune --samples 2 --device cpu", 2, &["--samples", "from 3 to"]);
    fails(&place, "tune --limit=-1 --device cpu", 2, &["--limit"]);
    fails(&place, "tune --plan default --device cpu", 2, &["--plan"]);
    assert!(!place.path("cache").exists(), "a cache folder without anything to keep");
}

/// The plans in the cache folder, and what was left unfinished.
fn plans(place: &Place) -> Vec<PathBuf> {
    let Ok(all) = std::fs::read_dir(place.path("cache/gradcon")) else { return vec![] };
    let all = all.map(|entry| entry.unwrap().path());
    let is_plan = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("plan-") || name.starts_with(".tmp-")
    };
    all.filter(is_plan).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What is done to a plan.
type Change<'a> = &'a dyn Fn(&mut Value);

/// A few images with a folder for each kind.
fn images(place: &Place) {
    for i in 0..24u32 {
        let kind = ["train/good", "test/good", "test/bad"][i as usize % 3];
        let pixels: Vec<u8> = (0..784u32).map(|p| (p.wrapping_mul(i + 3) / 5) as u8).collect();
        let path = place.path(&format!("tree/{kind}/{i}.bmp"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).unwrap();
    }
}

const GPU: &str = "--device gpu --allow-software";

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn a_gpu_is_tuned_and_plans_change_no_bit() {
    let place = Place::new();
    fails(&place, &format!("tune --show {GPU}"), 1, &["there is no plan", "`gradcon tune`"]);
    let line = format!("tune --batch 4 --samples 3 --limit 0 {GPU}");
    let (stdout, stderr) = ok(&place, &line);
    assert!(stderr.contains("device: GPU engine") && stderr.contains("kernel 1 of "), "{stderr}");
    let [kept] = &plans(&place)[..] else { panic!("{:?}", plans(&place)) };
    assert!(stdout.contains(&kept.display().to_string()), "{stdout}");
    for part in ["batch 4, 1 channel(s), 1 model(s)", "conv_w", "a training step", "scoring"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (shown, _) = ok(&place, &format!("tune --show {GPU}"));
    assert!(shown.contains("conv_w") && shown.contains("a training step"), "{shown}");
    ok(&place, &format!("tune --export plan.json {GPU}"));
    let plan = read(&place.path("plan.json"));
    assert_eq!(plan, read(kept));

    // Every kernel in another variant than its neighbour.
    let mut mixed = plan.clone();
    let races = plan["measured"][0]["races"].as_array().unwrap();
    let choice = |(i, race): (usize, &Value)| {
        let variants = race["variants"].as_array().unwrap();
        assert!(variants.iter().all(|runner| runner["failure"].is_null()), "{race}");
        let variant = &variants[i % variants.len()]["variant"];
        serde_json::json!({
            "kernel": race["kernel"], "sizes": race["shape"], "id": race["id"],
            "replicas": race["replicas"], "variant": variant,
        })
    };
    mixed["choices"] = races.iter().enumerate().map(choice).collect();
    let write = |name: &str, change: Change| {
        let mut plan = mixed.clone();
        change(&mut plan);
        std::fs::write(place.path(name), plan.to_string()).unwrap();
    };
    write("mixed.json", &|_| ());

    images(&place);
    ok(&place, "-q prep folder --from tree --channels 1 --out data");
    let train = |out: &str, plan: &str| {
        let run = format!("train --data data --epochs 1 --batch-size 4 --out {out} {GPU} {plan}");
        let (_, stderr) = ok(&place, &run);
        let device = stderr.lines().find(|line| line.starts_with("device: ")).unwrap().to_string();
        (
            std::fs::read(place.path(&format!("{out}/models/normal/best/model.safetensors")))
                .unwrap(),
            device,
        )
    };
    let (model, device) = train("plain", "--plan default");
    assert!(!device.contains("plan"), "{device}");
    // What is said to owners of a hardware GPU is said to nobody who trains on software.
    let told = |place: &Place| {
        let all = std::fs::read_dir(place.path("cache/gradcon")).unwrap();
        all.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("told"))
            .count()
    };
    assert!(told(&place) <= usize::from(!device.contains("software")), "{device}");
    let (tuned, device) = train("mixed", "--plan mixed.json");
    assert!(device.contains(", plan mixed.json of 20"), "{device}");
    assert!(tuned == model, "a plan changed the model");
    // The same plan where it is used by itself.
    std::fs::copy(place.path("mixed.json"), kept).unwrap();
    let (tuned, device) = train("kept", "");
    assert!(device.contains(", tuned plan of 20"), "{device}");
    assert!(tuned == model, "the kept plan changed the model");

    // What doesn't fit.
    let absent = |p: &mut Value| {
        let choices = p["choices"].as_array_mut().unwrap();
        choices.push(serde_json::json!({
            "kernel": "conv_w", "sizes": "5x5", "id": "0000000000000000", "replicas": 1,
            "variant": "odd",
        }));
    };
    let use_plan = "bench --steps 1 --rounds 1 --batch 4";
    let cases: [(&str, Change, &str); 8] = [
        ("variant", &|p| p["choices"][0]["variant"] = "odd".into(), "'odd' of conv_"),
        // Of a call that is in no program.
        ("absent", &absent, "variant 'odd' of conv_w 5x5, expected one of reference, "),
        ("rule", &|p| p["device"]["default_rule"] = "0".into(), "default rule '0', expected '"),
        ("adapter", &|p| p["device"]["adapter"] = "Iris".into(), "adapter 'Iris', expected '"),
        ("kernels", &|p| p["device"]["kernels"] = "00".into(), "kernels '00', expected '"),
        ("driver", &|p| p["device"]["driver"] = "9".into(), "driver '9', expected '"),
        ("schema", &|p| p["schema"] = 9.into(), "schema 9, expected a plan of `gradcon tune`"),
        ("choices", &|p| p["choices"] = "none".into(), "expected a plan of `gradcon tune`"),
    ];
    for (name, change, says) in cases {
        let file = format!("{name}.json");
        write(&file, change);
        fails(&place, &format!("{use_plan} {GPU} --plan {file}"), 2, &["--plan ", &file, says]);
    }
    fails(&place, &format!("{use_plan} {GPU} --plan nowhere.json"), 2, &["nowhere.json"]);

    // The same in the cache is named and not used, also where nothing else is said.
    for damage in ["kernels.json", "choices.json", "absent.json", "rule.json"] {
        std::fs::copy(place.path(damage), kept).unwrap();
        let (_, stderr) = ok(&place, &format!("-q {use_plan} {GPU}"));
        let file = kept.display().to_string();
        let says = ["gradcon: warning: ", &file, "expected ", "the plan is ignored"];
        assert!(says.iter().all(|part| stderr.contains(part)), "{stderr}");
    }
    fails(&place, &format!("tune --show {GPU}"), 1, &["default rule '0', expected '"]);
    let (stdout, _) = ok(&place, &format!("tune --clear {GPU}"));
    assert!(stdout.contains("removed") && plans(&place).is_empty(), "{stdout}");
    let (stdout, _) = ok(&place, &format!("tune --clear {GPU}"));
    assert!(stdout.contains("there is no plan"), "{stdout}");
}

/// With a default that is not the fastest everywhere, whatever the device: what is chosen is really
/// run, and right.
#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn a_gpu_runs_what_is_chosen() {
    let options =
        OpenOptions { allow_software: true, variant: Some(REFERENCE), ..OpenOptions::default() };
    let mut gpu = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    let effort = Effort { samples: 5, limit: 0.2 };
    let watch = Watch { go_on: &|| Ok(()), tell: &|_| () };
    let found = tune(&mut gpu, SIZES, effort, &[], &watch).unwrap();
    print!("{}", gradcon::tune::text::found(&found));
    for race in &found.races {
        assert_eq!(race.variants[0].variant, REFERENCE);
        assert!(race.variants.iter().all(|runner| runner.failure.is_none()), "{race:?}");
    }
    let won: Vec<_> = found.races.iter().filter_map(Race::choice).collect();
    assert!(found.choices.0.iter().all(|choice| won.contains(choice)));
    let failed = |note: &String| note.starts_with("failed");
    assert!(!found.trials.iter().any(|trial| trial.note.as_ref().is_some_and(failed)));
    assert_eq!(found.choices.0.is_empty(), !found.trials.iter().any(|trial| trial.faster));
}

#[cfg(unix)]
#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn an_interruption_leaves_no_plan() {
    let place = Place::new();
    let line = format!("tune --batch 4 --samples 100000 --limit 3600 {GPU}");
    let mut tune = Running::start(command(&place, &line));
    tune.wait_for("tuning: ");
    tune.signal(libc::SIGINT);
    assert_eq!(tune.end(), Some(130), "{}", tune.said);
    assert_eq!(plans(&place), [] as [PathBuf; 0]);
}
