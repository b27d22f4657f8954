//! `gradcon web`, and the engine in a browser: the page's own runner.js in a headless Chromium, whose
//! compiler of WGSL (Tint) is another one than the native engine's and proves that barriers are in
//! uniform control flow.
//!
//! Tests of the browser are ignored by default; `tools/test.sh` runs them where there is one.

mod cases;
mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use cases::{Case, Style, Values};
use common::{Tolerance, assert_close};
use gradcon::data::embedded::fashion_subset;
use gradcon::engine::cpu;
use gradcon::kernels::{DIRECT, Element, THIN};
use gradcon::method::feed::REFERENCE;
use gradcon::method::model::PARAMS;
use gradcon::program::dispatch::Plan;
use gradcon::web::host::Host;
use gradcon::web::limits::fits;
use gradcon::web::page::{Content, RUNNER, Recorded, Tests, page, shaders};
use gradcon::{Detector, Images, Init, Model, TrainConfig};
use half::f16;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn gradcon(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gradcon"))
        .current_dir(folder)
        .args(line.split_whitespace())
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

#[track_caller]
fn ok(folder: &Path, line: &str) -> String {
    let out = gradcon(folder, line);
    assert!(out.status.success(), "gradcon {line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Runs to failure with `code` and returns stderr.
#[track_caller]
fn fails(folder: &Path, line: &str, code: i32) -> String {
    let out = gradcon(folder, line);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "gradcon {line}: {stderr}");
    assert!(!folder.join("no.html").exists(), "gradcon {line} wrote a page");
    stderr
}

/// A folder with a prepared dataset `data`, the same at 64 x 64 as `larger`, and a run.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let image = |name: String, seed: u32| {
        let pixels: Vec<u8> = (0..784u32).map(|i| (i.wrapping_mul(seed + 1) / 3) as u8).collect();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).unwrap();
    };
    for i in 0..16 {
        image(format!("tree/train/good/{i}.bmp"), i);
        image(format!("tree/test/{}/{i}.bmp", ["good", "<b>&"][i as usize % 2]), i + 50);
    }
    ok(folder.path(), "-q prep folder --from tree --channels 1 --out data");
    ok(folder.path(), "-q prep folder --from tree --channels 1 --size 64 --out larger");
    ok(folder.path(), "-q train --data data --epochs 1 --device cpu --out run");
    folder
}

#[test]
fn a_page_is_written_and_says_what_it_is() {
    let world = world();
    let line =
        "-q web --model run --data data --images 12 --epochs 2 --device cpu --json --out p.html";
    let said: Value = serde_json::from_str(&ok(world.path(), line)).unwrap();
    let page = std::fs::read_to_string(world.path().join("p.html")).unwrap();
    assert_eq!(said["bytes"], page.len());
    assert_eq!([&said["train"], &said["normal"], &said["anomalous"]], [8, 2, 2]);
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("<b>&") && page.contains("\\u003cb>&"), "a name is no markup");

    let again = line.replace("p.html", "again.html");
    ok(world.path(), &again);
    assert_eq!(page, std::fs::read_to_string(world.path().join("again.html")).unwrap());
    let blank =
        ok(world.path(), "web --blank --data data --epochs 0 --device cpu --out blank.html");
    assert_eq!(blank, "", "results only");
    let blank = std::fs::read_to_string(world.path().join("blank.html")).unwrap();
    assert!(blank.contains("\"trained\":null") && page.contains("\"iterations\":1"));
}

#[test]
fn what_makes_no_page_is_named() {
    let world = world();
    let folder = world.path();
    let fails = |line: &str, code: i32, parts: &[&str]| {
        let error = fails(folder, &format!("web {line} --device cpu --out no.html"), code);
        for part in parts {
            assert!(error.contains(part), "gradcon web {line}: {part} in {error}");
        }
    };
    fails("--data data", 2, &["--model"]);
    fails("--model run --blank --data data", 2, &["--blank"]);
    fails("--model tree --data data", 1, &["tree", "no model in it"]);
    fails("--model run --data nowhere", 1, &["nowhere"]);
    fails("--model run --data larger", 1, &["larger", "64 x 64", "28 x 28"]);
    fails("--blank --data data --class bent", 2, &["bent"]);
    fails("--blank --data data --epochs 9000", 2, &["MB", "67 at most", "--epochs (now 9000)"]);
    fails("--blank --data larger --batch 4096", 3, &["default limits", "MB at most", "--batch"]);

    // Parameters alone, as a state dict of PyTorch has them.
    let file = folder.join("run/best/model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let of =
        |(name, _): &(String, _)| !name.starts_with("ref_grad") && !name.starts_with("readout");
    let params: Vec<_> = all.tensors().into_iter().filter(of).collect();
    let metadata: HashMap<String, String> = [("format".to_string(), "pt".to_string())].into();
    let bare = safetensors::serialize(params, Some(metadata)).unwrap();
    std::fs::write(folder.join("bare.safetensors"), bare).unwrap();
    fails("--model bare.safetensors --data data", 1, &["bare.safetensors", "reference gradients"]);

    // Of ten classes one has to be said, and not another one than the model's.
    ok(folder, "-q prep fmnist --subset --out fashion");
    let model = Model::new(1);
    let detector = Detector {
        params: model.init(Init::Kaiming, 0),
        reference: vec![0.5; model.reference_len()],
        statistics: None,
        description: [("inlier".to_string(), "Bag".to_string())].into(),
        model,
    };
    detector.save(&folder.join("bag.safetensors")).unwrap();
    fails("--blank --data fashion", 2, &["10 classes", "--class", "Sneaker"]);
    let other = "--model bag.safetensors --data fashion --class sneaker";
    fails(other, 2, &["Sneaker", "the model's is Bag"]);
}

/// Names that Chromium goes by.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Longest that a browser may take for a test.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A browser with WebGPU, on its software adapter.
const WEBGPU: &[&str] = &["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/// Such a one without the checks of every index that a browser adds, and which that adapter compiles
/// three times as long with: for hundreds of kernels. (Barriers are looked at all the same.)
const UNCHECKED: &[&str] = &[
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-dawn-features=disable_robustness,disable_workgroup_init",
];

/// A browser without WebGPU.
const PLAIN: &[&str] = &[];

/// A headless browser that is ended with its value.
struct Browser {
    process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page.
    fn open(address: &str, flags: &[&str]) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let found = BROWSERS.iter().find(|name| folders.iter().any(|f| f.join(name).is_file()));
        let name = found.unwrap_or_else(|| panic!("this test needs one of {BROWSERS:?}"));
        let mut command = Command::new(name);
        command.args(["--headless", "--no-sandbox", "--no-first-run", "--disable-gpu-watchdog"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.args(flags).arg(address).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: what a script starts ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Browser { process: command.spawn().unwrap(), _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// What answers a path with a body.
type Answer = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// Serves what `answer` gives on 127.0.0.1; bodies that are posted arrive at the receiver.
fn serve(answer: Arc<Answer>) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, send) = (answer.clone(), send.clone());
            // A browser also opens connections that it says nothing on.
            std::thread::spawn(move || {
                // A browser may be gone, or have sent half of a request.
                let _ = respond(stream, &*answer, &send);
            });
        }
    });
    (address, receive)
}

/// Answers one request of HTTP. What is posted is sent on before: a page that has the answer may post
/// the next.
fn respond(stream: TcpStream, answer: &Answer, send: &Sender<(String, Vec<u8>)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = vec![];
    while !matches!(head.last().map(String::as_str), Some("")) {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        head.push(line.trim_end().to_string());
    }
    let mut words = head[0].split(' ');
    let (method, path) = (words.next()?, words.next()?.to_string());
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let kind = if path == "/" { "text/html" } else { "application/octet-stream" };
    let (status, content) = match (method, answer(&path)) {
        ("POST", _) => {
            send.send((path, body)).ok()?;
            ("200 OK", vec![])
        }
        (_, Some(content)) => ("200 OK", content),
        (_, None) => ("404 Not Found", vec![]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content)).ok()
}

/// The next thing that a page posts; one that failed posts to `/failed`.
fn next(posts: &Receiver<(String, Vec<u8>)>, deadline: Instant) -> (String, Vec<u8>) {
    let left = deadline.saturating_duration_since(Instant::now());
    let (path, body) = posts.recv_timeout(left).expect("the browser answers in time");
    assert!(path != "/failed", "in the browser: {}", String::from_utf8_lossy(&body));
    (path, body)
}

/// A page with a script that works in it and posts a JSON value: what it posted.
fn posted_by(html: &str, script: &str, flags: &[&str]) -> Value {
    // The page itself may talk to nobody, the test has to.
    let policy = html.lines().find(|line| line.contains("Content-Security-Policy")).unwrap();
    let driver = format!(
        "<script>(async () => {{ try {{ {script} }} catch (error) {{\
         await fetch('/failed', {{ method: 'POST', body: String(error.stack) }}); }} }})();</script>"
    );
    let html = html.replace(policy, "").replace("</body>", &format!("{driver}</body>"));
    let (address, posts) =
        serve(Arc::new(move |path: &str| (path == "/").then(|| html.clone().into_bytes())));
    let _browser = Browser::open(&address, flags);
    let (_, body) = next(&posts, Instant::now() + PATIENCE);
    serde_json::from_slice(&body).unwrap()
}

/// Waits until the page knows what it is, then has functions to post with.
const WHEN_READY: &str = "
    const deaf = $('run').disabled;
    while (!document.body.dataset.mode) await new Promise((done) => setTimeout(done, 50));
    const post = (value) => fetch('/', { method: 'POST', body: JSON.stringify(value) });
    const parts = () => state.scores.flatMap(({ mse, cosines }) => [mse, ...cosines]);
";

/// A small model of sneakers with the images to train and judge it.
struct Small {
    model: Model,
    config: TrainConfig,
    train: Images,
    tests: Images,
    fresh: Vec<f32>,
}

impl Small {
    fn new() -> Small {
        let (train, test) = fashion_subset().unwrap();
        let of = |images: Images, count: usize| images.select(&(0..count).collect::<Vec<_>>());
        let sneakers = of(train.of(7), 150); // three steps, the last one with fewer images
        let mut tests = of(test.of(7), 10);
        let others = of(test.of(8), 60);
        tests.data.extend_from_slice(&others.data);
        tests.n += others.n;
        let (model, config) = (Model::new(1), TrainConfig::default());
        let fresh = model.init(Init::Kaiming, 0);
        Small { model, config, train: sneakers, tests, fresh }
    }

    /// The page, with an epoch that is recorded on the CPU engine and its model as the trained one.
    fn page(&self) -> (String, Recorded, Detector) {
        let Small { model, config, train, tests, fresh } = self;
        let mut engine = cpu::f32();
        let mut host = Host::new(engine.as_mut(), model, config, (train, tests), fresh).unwrap();
        let frame = host.epoch().unwrap();
        let detector = Detector {
            model: model.clone(),
            params: engine.read_f32(PARAMS).unwrap(),
            reference: engine.read_f32(REFERENCE).unwrap(),
            statistics: None,
            description: Default::default(),
        };
        let recorded = || Recorded {
            device: "a test".into(),
            frames: vec![frame.clone()],
            trained: Some(frame.clone()),
        };
        let labels: Vec<u8> = (0..tests.n).map(|i| u8::from(i >= 10)).collect();
        let html = page(&Content {
            class: "sneaker",
            dataset: "a part of Fashion-MNIST",
            model,
            config,
            beta: 0.12,
            fresh,
            trained: Some((&detector, 3)),
            train,
            tests: Tests { images: tests, labels: &labels, names: &vec!["it".into(); tests.n] },
            // A software adapter's.
            variants: &[THIN, DIRECT],
            recorded: recorded(),
        })
        .unwrap();
        (html, recorded(), detector)
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The bytes of a buffer, as a GPU has them.
fn encoded(values: &Values, element: Element) -> Vec<u8> {
    match (values, element) {
        (Values::Floats(v), Element::Half) => {
            v.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect()
        }
        (Values::Floats(v), _) => v.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
        (Values::Indices(v), _) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        (Values::Bytes(v), _) => v.clone(),
    }
}

fn decoded(bytes: &[u8], element: Element) -> Vec<f64> {
    match element {
        Element::Half => {
            let halves = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
            halves.map(f64::from).collect()
        }
        _ => {
            let floats =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            floats.map(f64::from).collect()
        }
    }
}

/// Models that run at once.
const IDS: [u32; 3] = [0, 1, 2];

/// A case as the browser gets it.
struct Sent {
    /// Plans by variant, what is to be written and read.
    meta: Value,
    /// All that is to be written, one behind the other.
    data: Vec<u8>,
}

impl Sent {
    fn new(case: &Case) -> Sent {
        let program = case.program(IDS.len());
        let launches = program.variants(&program.calls[0]).into_iter().filter(fits);
        let plans: Vec<Plan> = launches.map(|launch| program.plan(&[launch.variant])).collect();
        let (mut data, mut writes) = (vec![], vec![]);
        for binding in 0..case.kernel.bindings().len() {
            if let Some(values) = case.input(binding, &IDS, Style::Rough) {
                let bytes = encoded(&values, case.kernel.element(binding));
                writes.push(json!([case.buffer_name(binding, IDS.len()), bytes.len()]));
                data.extend(bytes);
            }
        }
        let name = |binding| case.buffer_name(binding, IDS.len());
        let reads: Vec<String> = case.outputs().into_iter().map(name).collect();
        let meta = json!({ "plans": plans, "writes": writes, "reads": reads, "step": case.step });
        Sent { meta, data }
    }
}

/// Runs every case in all its variants, some at a time, and posts each result once. (`CASES` and
/// `SHADERS` come before it.)
const RUN_CASES: &str = "
const post = (path, body) => fetch(path, { method: 'POST', body });
async function run(engine, number) {
  const { plans, writes, reads, step } = await (await fetch(`/meta/${number}`)).json();
  const data = new Uint8Array(await (await fetch(`/data/${number}`)).arrayBuffer());
  const seen = new Set();
  for (const plan of plans) {
    await engine.load(plan);
    let at = 0;
    for (const [name, length] of writes) {
      engine.write(name, data.subarray(at, at + length));
      at += length;
    }
    engine.run(plan.name, step, step + 1);
    const results = await Promise.all(reads.map((name) => engine.read(name)));
    const bytes = new Uint8Array(await new Blob(results).arrayBuffer());
    const digest = String(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
    if (!seen.has(digest)) await post(`/result/${number}/${plan.dispatches[0].variant}`, bytes);
    seen.add(digest);
  }
  for (const { name } of plans[0].buffers) {
    engine.persistent.get(name).destroy();
    engine.persistent.delete(name);
  }
  engine.plans.delete(plans[0].name);
  await post(`/done/${number}/${plans.length}`, '');
}
(async () => {
  try {
    const engine = await Engine.open(SHADERS);
    let number = 0;
    const worker = async () => { while (number < CASES) await run(engine, number++); };
    await Promise.all([1, 2, 3, 4, 5, 6].map(worker));
    await post('/end', '');
  } catch (error) { await post('/failed', String(error.stack)); }
})();
";

mod in_a_browser {
    use super::*;

    /// `tools/setup-browser.sh` asks with this test.
    #[test]
    #[ignore = "needs Chromium; tools/test.sh runs it"]
    fn a_browser_works() {
        let html = "<body>\nContent-Security-Policy\n</body>";
        let script = "await fetch('/', { method: 'POST', body: String(!!navigator.gpu && \
                      !!await navigator.gpu.requestAdapter()) });";
        assert_eq!(posted_by(html, script, WEBGPU), true, "it has no WebGPU");
    }

    #[test]
    #[ignore = "needs Chromium; tools/test.sh runs it"]
    fn an_epoch_and_scores_are_those_of_the_cpu_engine() {
        let small = Small::new();
        let (html, recorded, detector) = small.page();
        let script = format!(
            "{WHEN_READY}
            const trained = parts();
            $('from').value = 'fresh';
            $('over').click();
            await busy;
            do {{ $('step').click(); await busy; }} while (!source.gradcon.atEnd());
            const [params, reference] = await Promise.all(
                ['params', 'reference'].map((name) => source.gradcon.engine.floats(name)));
            await post({{
                mode: document.body.dataset.mode, device: $('device').textContent, trained,
                buttons: [deaf, $('run').disabled],
                losses: state.curves.flatMap((c) => [c.mse, c.constraint, ...c.cosines]),
                params: [...params], reference: [...reference], scores: parts(),
                look: [picked.result.mse, ...picked.result.cosines], progress: source.progress(),
                auroc: $('histogram').getAttribute('aria-label'),
                gallery: Array.from({{ length: page.gallery * model.pixels }}, (_, i) =>
                    state.gallery(Math.floor(i / model.pixels), i % model.pixels)),
            }});"
        );
        let got = posted_by(&html, &script, WEBGPU);
        assert_eq!(got["mode"], "live", "{}", got["device"]);
        assert_eq!(got["progress"], "epoch 2, step 0 of 3");
        // Nobody presses a button before there is a GPU to answer.
        assert_eq!(got["buttons"], json!([true, false]));
        assert!(got["auroc"].as_str().unwrap().contains("10 normal and 60 anomalous"));

        // The tolerances that tests/golden.rs has for a GPU.
        let frame = &recorded.frames[0];
        let row = |of: &gradcon::method::objective::Logged| {
            [of.mse, of.constraint].into_iter().chain(of.cosines.clone())
        };
        let losses: Vec<f64> = frame.losses.iter().flat_map(row).collect();
        assert_eq!(losses.len(), 3 * 6);
        assert_close("losses", &numbers(&got["losses"]), &losses, Tolerance::absolute(1e-5));
        let params = f64s(&detector.params);
        assert_close("parameters", &numbers(&got["params"]), &params, Tolerance::absolute(5e-5));
        let reference = f64s(&detector.reference);
        let largest = reference.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let tolerance = Tolerance::absolute(1e-4 * largest);
        assert_close("references", &numbers(&got["reference"]), &reference, tolerance);
        let scores = f64s(&frame.scores);
        let tolerance = Tolerance::absolute(1e-5);
        assert_close("the trained model's scores", &numbers(&got["trained"]), &scores, tolerance);
        // These are of parameters that differ already.
        let tolerance = Tolerance::absolute(2e-4);
        assert_close("scores", &numbers(&got["scores"]), &scores, tolerance);
        // The gradient of one image, written out, has the cosines that scoring never writes.
        let first = numbers(&got["scores"])[..5].to_vec();
        assert_close("one image", &numbers(&got["look"]), &first, Tolerance::absolute(1e-5));
        let gallery: Vec<f64> = frame.gallery.iter().map(|&v| f64::from(v) / 255.0).collect();
        let half_a_level = Tolerance::absolute(0.6 / 255.0);
        assert_close("the gallery", &numbers(&got["gallery"]), &gallery, half_a_level);
    }

    #[test]
    #[ignore = "needs Chromium; tools/test.sh runs it"]
    fn every_kernel_agrees_with_f64() {
        let cases = cases::tests();
        let sent: Vec<Sent> = cases.iter().map(Sent::new).collect();
        let plans: Vec<Plan> = sent
            .iter()
            .flat_map(|sent| {
                serde_json::from_value::<Vec<Plan>>(sent.meta["plans"].clone()).unwrap()
            })
            .collect();
        let html = format!(
            "<!doctype html><script>{RUNNER}</script><script>\nconst CASES = {}, SHADERS = {};\n\
             {RUN_CASES}</script>",
            cases.len(),
            shaders(&plans)
        );
        let answer = move |path: &str| -> Option<Vec<u8>> {
            let (kind, number) = path.rsplit_once('/')?;
            match kind {
                "/meta" => Some(sent[number.parse::<usize>().ok()?].meta.to_string().into_bytes()),
                "/data" => Some(sent[number.parse::<usize>().ok()?].data.clone()),
                _ => number.is_empty().then(|| html.clone().into_bytes()),
            }
        };
        let (address, posts) = serve(Arc::new(answer));
        let _browser = Browser::open(&address, UNCHECKED);
        let deadline = Instant::now() + PATIENCE;
        let mut oracle = cpu::f64();
        let mut want: HashMap<usize, Vec<Vec<f64>>> = HashMap::new();
        let (mut done, mut variants, mut results) = (0, 0, 0);
        loop {
            let (path, body) = next(&posts, deadline);
            let words: Vec<&str> = path.split('/').skip(1).collect();
            match words[..] {
                ["result", number, variant] => {
                    let case = &cases[number.parse::<usize>().unwrap()];
                    let wanted = want.entry(number.parse().unwrap()).or_insert_with(|| {
                        oracle.clear();
                        case.run(oracle.as_mut(), &IDS, Style::Rough).unwrap()
                    });
                    let got = taken_apart(case, &body, wanted);
                    let mut named = case.clone();
                    named.name = format!("{} ({variant})", case.name);
                    named.check(&got, wanted, IDS.len(), false);
                    results += 1;
                }
                ["done", number, of] => {
                    assert!(want.remove(&number.parse().unwrap()).is_some(), "{number}: no result");
                    done += 1;
                    variants += of.parse::<usize>().unwrap();
                }
                ["end"] => break,
                _ => panic!("posted to {path}"),
            }
        }
        assert_eq!(done, cases.len());
        assert!(variants > 2 * cases.len(), "only {variants} variants");
        println!("{variants} variants of {done} cases, {results} results");
    }

    /// The outputs of a case, which come one behind the other.
    fn taken_apart(case: &Case, body: &[u8], like: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut rest = body;
        let mut all = vec![];
        for (binding, like) in case.outputs().into_iter().zip(like) {
            let element = case.kernel.element(binding);
            let bytes = like.len() * element.bytes(4);
            all.push(decoded(&rest[..bytes], element));
            rest = &rest[bytes.next_multiple_of(4)..];
        }
        assert!(rest.is_empty(), "{}: more than was asked for", case.name);
        all
    }

    #[test]
    #[ignore = "needs Chromium; tools/test.sh runs it"]
    fn without_webgpu_a_page_shows_what_was_recorded() {
        let (html, recorded, _) = Small::new().page();
        let script = format!(
            "{WHEN_READY}
            const sees = () => ({{
                scores: parts(), steps: state.curves.length, progress: $('progress').textContent,
                cards: $('gallery').children.length, live: $('canvas').offsetParent !== null,
            }});
            const trained = sees();
            $('from').value = 'fresh';
            $('over').click();
            await busy;
            await post({{
                mode: document.body.dataset.mode, device: $('device').textContent, trained,
                fresh: sees(), drawn: !!$('loss').querySelector('path.line'),
            }});"
        );
        let got = posted_by(&html, &script, PLAIN);
        assert_eq!(got["mode"], "replay");
        let said = got["device"].as_str().unwrap();
        for part in ["WebGPU", "needs", "was recorded", "on a test"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let [trained, fresh] = [&got["trained"], &got["fresh"]];
        assert_eq!(
            (&trained["progress"], &trained["steps"]),
            (&json!("the trained model"), &json!(0))
        );
        assert_eq!(fresh["progress"], "epoch 1 of 1, recorded");
        assert_eq!((&fresh["steps"], &fresh["cards"]), (&json!(3), &json!(16)));
        assert_eq!((&fresh["live"], &got["drawn"]), (&json!(false), &json!(true)));
        let scores = f64s(&recorded.frames[0].scores);
        assert_close("scores", &numbers(&fresh["scores"]), &scores, Tolerance::EXACT);
    }
}
