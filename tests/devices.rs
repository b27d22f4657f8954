//! Which device is meant, and what a user is told where it isn't there or fails.

mod engines;

use std::path::Path;
use std::process::{Command, Output};

use engines::Counting;
use gradcon::data::Prepared;
use gradcon::engine::Engine;
use gradcon::engine::device::Device;
use gradcon::engine::gpu::{GpuEngine, Machine, OpenOptions, Selector};
use gradcon::method::programs::training_program;
use gradcon::method::state::EpochReport;
use gradcon::program::Options;
use gradcon::run::config::RunConfig;
use gradcon::run::train::{self as run, Watch};
use gradcon::{Error, Model, TrainConfig};

/// Runs the program with these variables of the environment and no other of its kind.
fn gradcon(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gradcon"))
        .current_dir(folder)
        .args(line.split_whitespace())
        .env_remove("WGPU_ADAPTER_NAME")
        .env_remove("WGPU_BACKEND")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `devices` says of `auto` is what `--device auto` does, whatever the environment says; on
/// any machine.
#[test]
fn auto_is_what_devices_says_it_is() {
    let here = Path::new(".");
    for variables in [
        &[][..],
        &[("WGPU_BACKEND", "")],
        &[("WGPU_BACKEND", "cuda")],
        &[("WGPU_BACKEND", "metal,dx12")],
        &[("WGPU_BACKEND", "vulkan")],
        &[("WGPU_ADAPTER_NAME", "")],
        &[("WGPU_ADAPTER_NAME", "no such adapter")],
        &[("WGPU_ADAPTER_NAME", "llvmpipe"), ("WGPU_BACKEND", " ")],
    ] {
        let listed = gradcon(here, "devices", variables);
        assert!(listed.status.success(), "{variables:?}: {}", text(&listed.stderr));
        let listed = text(&listed.stdout);
        let (_, auto) =
            listed.split_once("\nauto   ").unwrap_or_else(|| panic!("{variables:?}: {listed}"));
        let used = gradcon(here, "bench --steps 1 --rounds 1 --batch 16", variables);
        let stderr = text(&used.stderr);
        let (choice, notes) = auto.split_once('\n').unwrap();
        match choice.strip_prefix("an error: ") {
            Some(error) => {
                assert_eq!(used.status.code(), Some(3), "{variables:?}: {stderr}");
                assert_eq!(stderr.trim_end(), format!("gradcon: {error}"), "{variables:?}");
            }
            None => {
                assert!(used.status.success(), "{variables:?}: {stderr}");
                let engine = if choice == "the CPU engine" {
                    "device: CPU engine"
                } else {
                    "device: GPU engine"
                };
                assert!(stderr.contains(engine), "{variables:?}: {choice}, but {stderr}");
                for note in notes.lines() {
                    assert!(stderr.contains(note.trim()), "{variables:?}: {note} in {stderr}");
                }
            }
        }
        // A variable that says nothing sensible is named.
        for (name, value) in variables
            .iter()
            .filter(|(_, value)| ["", " ", "cuda", "no such adapter"].contains(value))
        {
            assert!(stderr.contains(name), "{name}='{value}' in {stderr}");
        }
    }
    let json = text(&gradcon(here, "devices --json", &[]).stdout);
    let chosen: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|device| device["auto"] == true)
        .collect();
    assert_eq!(chosen.len(), 1, "{json}");
    let (choice, _) = Device::Auto.choose(&Machine::look(), false).unwrap();
    let name = chosen[0]["device"].as_str().unwrap();
    assert_eq!(if name == "cpu" { "the CPU engine" } else { name }, choice.to_string());
}

#[test]
fn a_device_that_is_not_there_is_answered_with_what_is() {
    let here = Path::new(".");
    for device in ["cuda", "cuda:0", "mps", "rocm", "xpu", "gpu:99", "no-such-adapter"] {
        let out = gradcon(here, &format!("program --time --device {device}"), &[]);
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{device}: {stderr}");
        let number = device.trim_start_matches("gpu:");
        assert!(stderr.contains(number), "{device}: {stderr}");
        assert!(
            stderr.contains("adapters here: ")
                || stderr.contains("has no Vulkan, Metal or DX12 adapter"),
            "{stderr}"
        );
        if !device.starts_with("gpu") && !device.starts_with("no") {
            assert!(stderr.contains("auto, cpu, gpu, gpu:N"), "{device}: {stderr}");
        }
    }
    // The CPU engine needs nothing of all this.
    let nonsense = [("WGPU_BACKEND", "cuda"), ("WGPU_ADAPTER_NAME", "none")];
    let out = gradcon(here, "bench --steps 1 --rounds 1 --batch 16 --device cpu", &nonsense);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

/// Nobody looks.
struct Blind;

impl Watch for Blind {
    fn begin(&mut self, _: usize) {}
    fn images(&mut self, _: usize) -> bool {
        false
    }
    fn epoch(&mut self, _: &[Option<EpochReport>], _: &[String], _: f64) {}
    fn warn(&mut self, _: &str) {}
}

/// A device lost in mid-epoch is an error of its kind, and the run goes on from its last checkpoint
/// to the bits of one that was never broken.
#[test]
fn a_lost_device_leaves_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let ok = |line: &str| {
        let out = gradcon(folder.path(), line, &[]);
        assert!(out.status.success(), "gradcon {line}: {}", text(&out.stderr));
    };
    ok("-q prep fmnist --subset --out data");
    let train = "-q train --data data --inlier 1 --init kaiming --batch-size 16 --device cpu";
    ok(&format!("{train} --epochs 4 --out whole"));
    ok(&format!("{train} --epochs 1 --out run"));
    let run = folder.path().join("run");
    let config = RunConfig { epochs: 4, ..RunConfig::read(&run).unwrap() };
    let prepared = Prepared::open(&config.data).unwrap();
    for runs in [1, 6] {
        let mut engine = Counting { runs_left: runs, ..Counting::new() };
        let error =
            run::train(&run, &config, &prepared, &mut engine, run::Options::default(), &mut Blind)
                .unwrap_err();
        assert!(
            matches!(&error, Error::Device(text) if text.contains("lost"))
                && error.exit_code() == 3,
            "{error}"
        );
    }
    ok("-q train --resume run --epochs 4 --device cpu");
    let model = |run: &str| {
        std::fs::read(folder.path().join(run).join("models/Trouser/best/model.safetensors"))
            .unwrap()
    };
    assert!(model("run") == model("whole"), "another model than without the losses");
}

#[test]
#[ignore = "needs a GPU adapter; tools/test.sh runs it"]
fn sizes_beyond_a_gpu_are_errors_that_say_what_lowers_them() {
    let out =
        gradcon(Path::new("."), "bench --device gpu:0 --batch 4096 --replicas 4096 --steps 1", &[]);
    let stderr = text(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("memory needed") && stderr.contains("--replicas (now 4096)"),
        "{stderr}"
    );

    // A buffer larger than any binding, on a device with memory enough. Then a program that fits.
    let mut gpu = GpuEngine::open(&Selector::Index(0), OpenOptions::default()).unwrap();
    let program = |images: usize| {
        training_program(&Model::new(1), &TrainConfig::default(), images, 1, Options::default())
    };
    let limit = gpu.adapter().max_binding.min(gpu.adapter().max_buffer);
    let error = gpu.load(&program(limit as usize / 784 + 1)).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { .. }) && error.exit_code() == 3, "{error}");
    let message = error.to_string();
    for part in ["buffer 'train.data'", "of memory needed", "in one buffer", "a smaller batch"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    gpu.load(&program(64)).unwrap();
}
