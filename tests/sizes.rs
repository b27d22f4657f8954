//! Sizes and numbers from outside: whatever they are, they end in an error that says what was
//! wrong, not in a panic, an abort or wrapped nonsense.

use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use gradcon::cli::Cli;
use gradcon::engine::cpu;
use gradcon::kernels::Form;
use gradcon::method::model::MAX_CHANNELS;
use gradcon::method::programs::training_program;
use gradcon::program::Options;
use gradcon::program::Program;
use gradcon::{Error, Images, Model, TrainConfig, train};

fn gradcon(folder: &Path, args: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gradcon"))
        .current_dir(folder)
        .args(args)
        .env_remove("WGPU_ADAPTER_NAME")
        .env_remove("WGPU_BACKEND")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs to failure with `code` and returns stderr.
#[track_caller]
fn fails(line: &str, code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = gradcon(folder.path(), &words(line));
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "gradcon {line}: {}\n{stderr}", out.status);
    stderr
}

/// A program of more memory than any machine has.
fn enormous() -> Program {
    let config = TrainConfig { batch_size: 4096, ..TrainConfig::default() };
    training_program(
        &Model::new(MAX_CHANNELS),
        &config,
        1 << 20,
        256,
        Options::new(4096, Form::Serial),
    )
}

#[test]
fn a_program_that_does_not_fit_is_refused_before_anything_is_allocated() {
    let mut engine = cpu::f32();
    let program = enormous();
    let (scratch, persistent) = program.memory();
    assert!(scratch > 1 << 50, "{scratch}");
    let error = engine.load(&program).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && error.exit_code() == 3, "{error}");
    let needed = format!("{:.1} TB of memory needed", (scratch + persistent) as f64 / 1e12);
    let message = error.to_string();
    for part in [&needed, "CPU engine", "program 'train'", " are available", "a smaller batch"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // The engine is as it was: a program of the same buffers in other sizes loads.
    let small =
        training_program(&Model::new(1), &TrainConfig::default(), 64, 1, Options::default());
    engine.load(&small).unwrap();

    // Sizes that can't even be counted.
    let mut uncountable = small.clone();
    uncountable.replicas = usize::MAX;
    assert_eq!(uncountable.memory().0, u64::MAX);
    let error = cpu::f64().load(&uncountable).unwrap_err().to_string();
    assert!(error.contains("more than any machine has"), "{error}");
}

#[test]
fn memory_of_a_program_counts_every_buffer() {
    let options = Options::new(3, Form::Serial);
    let program = training_program(&Model::new(2), &TrainConfig::default(), 100, 7, options);
    let (scratch, persistent) = program.memory();
    // Data, index list, schedule and log; then parameters, two moments, references, the
    // learning rate and three terms of alpha.
    let model = Model::new(2);
    let lists = 100 * 2 * 28 * 28 + 4 * 3 * 7 * (64 + 4 + 21);
    assert_eq!(
        persistent as usize,
        lists + 4 * 3 * (3 * model.len() + model.reference_len() + 1 + 3)
    );
    let by_hand: usize =
        program.buffers.iter().filter(|b| !b.persistent).map(|b| 4 * 3 * b.len).sum();
    assert_eq!(scratch as usize, by_hand);
}

#[test]
fn a_model_of_absurd_channels_is_an_error_at_every_door() {
    for channels in [0, MAX_CHANNELS + 1, 1 << 32, usize::MAX] {
        let error = Model::try_new(channels).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{channels} channels")) && error.contains("1 to 65536"),
            "{error}"
        );
        let images = Images { data: vec![], n: 0, height: 28, width: 28, channels };
        let error = train(cpu::f32().as_mut(), (&images, &images), &TrainConfig::default(), |_| {})
            .unwrap_err();
        assert!(error.to_string().contains("channels"), "{error}");
    }
    // As many as are allowed have sizes that can be counted.
    let most = Model::new(MAX_CHANNELS);
    assert!(most.len() > 2 * 16 * 32 * MAX_CHANNELS && enormous().cost().flops > 1 << 60);

    // A file that says so; its data would have to be as long, and are not.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = 32 * 4 * 4 * 4 * (1u64 << 40);
    let header = format!(
        "{{\"down.0.weight\":{{\"dtype\":\"F32\",\"shape\":[32,{},4,4],\
         \"data_offsets\":[0,{bytes}]}}}}",
        1u64 << 40
    );
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .unwrap();
    let error = gradcon::Detector::load(&path).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn commands_say_how_much_memory_is_needed_and_which_flag_lowers_it() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "bench --device cpu --steps 60000000",
            &["TB of memory needed", " are available", "--steps (now 60000000)"],
        ),
        (
            "bench --device cpu --batch 4096 --replicas 4096",
            &["--batch (now 4096) or --replicas (now 4096)"],
        ),
        ("bench --device cpu --channels 65536 --batch 4096", &["--channels (now 65536)"]),
        (
            "program --time --device cpu --batch 4096 --replicas 4096 --step score",
            &["program 'score'", "--replicas (now 4096)"],
        ),
    ];
    for (line, says) in cases {
        let error = fails(line, 3);
        for part in says {
            assert!(error.contains(part), "gradcon {line}: {part} in {error}");
        }
    }
    let error = fails("program --channels 4294967296", 2);
    assert!(error.contains("--channels") && error.contains("1..=65536"), "{error}");
    let error = fails("bench --steps 4294967295", 2);
    assert!(error.contains("at most 67108863 steps"), "{error}");
}

/// Memory may be refused by a limit of the process as well.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_shell_is_an_error_and_no_abort() {
    // 1.5 GB of images: too much for the engine, and for the host besides the engine.
    for (limit, what) in
        [(1_000_000, "program 'train'"), (3_000_000, "images and lists of a round")]
    {
        let binary = env!("CARGO_BIN_EXE_gradcon");
        let line = format!("ulimit -v {limit}; exec {binary} bench --device cpu --steps 30000");
        let out =
            Command::new("sh").args(["-c", &line]).env("RAYON_NUM_THREADS", "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{}: {stderr}", out.status);
        assert!(stderr.contains(what) && stderr.contains("GB of memory needed"), "{stderr}");
    }
}

/// What any value of any flag may be.
const VALUES: [&str; 10] = [
    "",
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "NaN",
    "inf",
    "\u{661}",
];

/// A line for each command with which it runs, quickly; the tested flag is taken out of it. `{out}`
/// is a new path. (The demo takes a while: it gets as far as its device here, and its numbers are
/// for the next test. So does a reproduction: it gets as far as its dataset, which is another.)
const LINES: [(&str, &str); 22] = [
    ("demo", "--device=gpu:99 --out={out}"),
    ("devices", ""),
    ("program", "--device=cpu"),
    ("bench peaks", "--samples=1 --time=0 --limit=0 --device=cpu"),
    ("bench kernels", "--kernels=adam --batch=4 --samples=1 --time=0 --limit=0 --device=cpu"),
    ("bench steps", "--steps=1 --rounds=1 --batch=16 --device=cpu"),
    ("bench compare", "old.json new.json"),
    ("tune", "--batch=4 --samples=3 --limit=0 --device=cpu"),
    ("gradcheck", "--filter=exp --device=cpu"),
    ("prep", "fmnist --subset --out={out}"),
    ("data show", "data --out={out}"),
    ("data verify", "data"),
    ("train", "--data=own --epochs=1 --device=cpu --out={out}"),
    ("sweep", "--data=own --epochs=1 --device=cpu --out={out}"),
    ("ablate", "--data=own --epochs=1 --device=cpu --out={out}"),
    ("reproduce", "--datasets=mnist --from=mnist=data --epochs=1 --device=cpu --out={out}"),
    ("eval", "run --no-bootstrap --device=cpu"),
    ("score", "image.bmp --model=run/models/normal/best/model.safetensors --device=cpu"),
    (
        "inspect",
        "image.bmp --model=run/models/normal/best/model.safetensors --device=cpu --out={out}",
    ),
    ("report", "run --out={out}"),
    ("web", "--blank --data=own --images=9 --epochs=1 --device=cpu --out={out}"),
    ("completions", "bash"),
];

/// Accepted, these would run for ages.
fn endless(command: &str, flag: &str, value: &str) -> bool {
    matches!(command, "train" | "sweep" | "ablate")
        && flag == "epochs"
        && value == "18446744073709551615"
        || (command, flag) == ("demo", "device")
        // `prep --out` has made a whole dataset of any such name by then.
        || matches!((command, flag), ("sweep" | "ablate", "data"))
}

fn image(path: &Path, seed: u32) {
    let pixels: Vec<u8> = (0..28 * 28).map(|i: u32| (i.wrapping_mul(seed + 1) / 3) as u8).collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).unwrap();
}

/// A folder with a dataset, a small one of own images, an evaluated run and an image.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ok = |line: &str| {
        let out = gradcon(folder.path(), &words(line));
        assert!(out.status.success(), "gradcon {line}: {}", String::from_utf8_lossy(&out.stderr));
    };
    for i in 0..16 {
        image(&folder.path().join(format!("tree/train/good/{i}.bmp")), i);
        image(
            &folder
                .path()
                .join(format!("tree/test/{}/{i}.bmp", if i % 2 == 0 { "good" } else { "bent" })),
            i + 50,
        );
    }
    image(&folder.path().join("image.bmp"), 3);
    ok("-q prep fmnist --subset --out data");
    ok("-q prep folder --from tree --channels 1 --out own");
    ok("-q train --data own --epochs 1 --device cpu --out run");
    ok("-q eval run --no-bootstrap --device cpu");
    folder
}

#[test]
fn no_flag_of_any_command_panics_whatever_it_is_given() {
    let world = world();
    let mut tree = Cli::command();
    tree.build();
    let mut commands = Vec::new();
    for command in tree.get_subcommands().filter(|command| command.get_name() != "help") {
        let subs: Vec<_> =
            command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
        commands.extend(
            subs.iter().map(|sub| (format!("{} {}", command.get_name(), sub.get_name()), *sub)),
        );
        if subs.is_empty() {
            commands.push((command.get_name().to_string(), command));
        }
    }
    let mut cases = Vec::new();
    for (name, command) in &commands {
        let Some((_, line)) = LINES.iter().find(|(command, _)| command == name) else {
            assert_eq!(name, "man", "a line for the command {name} is wanted here");
            continue;
        };
        for flag in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let Some(flag) = flag.get_long() else { continue };
            for value in VALUES.iter().filter(|value| !endless(name, flag, value)) {
                let mut args = words(name);
                let tested = format!("--{flag}=");
                args.extend(words(line).into_iter().filter(|word| !word.starts_with(&tested)));
                args.push(format!("{tested}{value}"));
                let out = format!("out{}", cases.len());
                args.iter_mut().for_each(|arg| *arg = arg.replace("{out}", &out));
                cases.push(args);
            }
        }
    }
    assert!(cases.len() > 300, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|args| {
            let out = gradcon(world.path(), args);
            let stderr = String::from_utf8_lossy(&out.stderr);
            // An exit code (no signal) that is documented, and a message with each failure.
            let good = matches!(out.status.code(), Some(0..=4))
                && !stderr.contains("panicked")
                && (out.status.success() || !stderr.trim().is_empty());
            (!good).then(|| format!("gradcon {}: {}\n{stderr}", args.join(" "), out.status))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// As many epochs as can be asked for are started like any other number.
#[cfg(unix)]
#[test]
fn the_greatest_number_of_epochs_starts_and_stops() {
    use std::io::{BufRead, BufReader};
    let world = world();
    for line in [
        "train --data own --device cpu --out long",
        "demo --device cpu --seed 18446744073709551615 --out demo",
    ] {
        let mut args = words(line);
        args.push(format!("--epochs={}", u64::MAX));
        let mut child = Command::new(env!("CARGO_BIN_EXE_gradcon"))
            .current_dir(world.path())
            .args(&args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr =
            BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
        let seen: Vec<String> =
            stderr.by_ref().take_while(|line| !line.starts_with("epoch")).collect();
        let stopped =
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let rest: Vec<String> = stderr.collect();
        let status = child.wait().unwrap();
        assert!(
            stopped.success(),
            "gradcon {line} had ended before its first epoch:\n{}",
            seen.join("\n")
        );
        assert_eq!(
            status.code(),
            Some(130),
            "gradcon {line}:\n{}\n{}",
            seen.join("\n"),
            rest.join("\n")
        );
    }
}
