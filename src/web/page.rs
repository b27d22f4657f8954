//! One HTML file with everything inside: plans, shaders, images, parameters, a recorded run, and the
//! two scripts. No address outside itself, and a policy that forbids any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::host::Frame;
use super::plans::{GALLERY, Programs, TEST_BATCH};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::kernels::{Form, SHADERS, VARIANTS};
use crate::layout::{Stat, Stats};
use crate::method::config::TrainConfig;
use crate::method::detector::Detector;
use crate::method::model::Model;
use crate::method::objective::StepLog;
use crate::program::dispatch::Plan;

/// The engine and its host, for browsers.
pub const RUNNER: &str = include_str!("runner.js");

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Bytes of a page at most: what a browser opens without trouble.
pub const MOST_BYTES: u64 = 64 << 20;

/// Bytes of a page besides what grows with images and epochs, generously.
const REST: u64 = 1 << 20;

/// What a page shows.
pub struct Content<'a> {
    /// What is normal.
    pub class: &'a str,
    /// Which data.
    pub dataset: &'a str,
    /// The autoencoder.
    pub model: &'a Model,
    /// How it is trained.
    pub config: &'a TrainConfig,
    /// Weight of the cosine in a score.
    pub beta: f64,
    /// Fresh parameters.
    pub fresh: &'a [f32],
    /// A trained model and the iterations that its references are the mean of.
    pub trained: Option<(&'a Detector, u64)>,
    /// Images to train on.
    pub train: &'a Images,
    /// Images to judge.
    pub tests: Tests<'a>,
    /// Variants of kernels to prefer to those that the cost model does.
    pub variants: &'a [&'static str],
    /// The recorded run.
    pub recorded: Recorded,
}

/// The images that a page judges.
#[derive(Clone, Copy)]
pub struct Tests<'a> {
    /// The images; the first [`GALLERY`] of them are shown.
    pub images: &'a Images,
    /// 0 (normal) or 1 (anomalous) for each.
    pub labels: &'a [u8],
    /// What each is, for people.
    pub names: &'a [String],
}

/// A run for readers without WebGPU.
pub struct Recorded {
    /// The device, for people.
    pub device: String,
    /// The epochs from fresh parameters.
    pub frames: Vec<Frame>,
    /// What the trained model makes of the images.
    pub trained: Option<Frame>,
}

/// Errors if a page of this content, with so many recorded epochs, would be too large; said before
/// anything is recorded.
///
/// # Errors
/// It would be: how large, and which flags make it smaller.
pub fn check_size(
    model: &Model,
    (train, tests): (&Images, &Images),
    models: usize,
    epochs: usize,
) -> Result<()> {
    let pixels = model.pixels() as u64;
    let scores = 4 * (1 + model.segments().len()) as u64 * tests.n as u64;
    let frame = scores + tests.n.min(GALLERY) as u64 * pixels;
    let images = (train.data.len() + tests.data.len()) as u64;
    let params = 4 * (model.len() + model.reference_len()) as u64 * models as u64;
    let frames = frame.saturating_mul(epochs as u64);
    let bytes = images.saturating_add(params).saturating_add(frames).saturating_mul(4) / 3;
    if bytes.saturating_add(REST) <= MOST_BYTES {
        return Ok(());
    }
    let mut flags = vec![format!("--images (now {} in all)", train.n + tests.n)];
    if frames > images {
        flags.insert(0, format!("--epochs (now {epochs})"));
    }
    Err(Error::Usage(format!(
        "the page would have {:.0} MB, {:.0} at most; a lower {} makes it smaller",
        bytes.saturating_add(REST) as f64 / 1e6,
        MOST_BYTES as f64 / 1e6,
        flags.join(" or ")
    )))
}

/// The page.
///
/// ```
/// use gradcon::web::page::{Content, Recorded, Tests, page};
/// use gradcon::{Images, Init, Model, TrainConfig};
///
/// let images = |n| Images::new((0..n * 784).map(|i| (i % 251) as u8).collect(), [n, 28, 28, 1]);
/// let (model, train, tests) = (Model::new(1), images(70)?, images(2)?);
/// let names = ["a".to_string(), "b</script>".to_string()];
/// let recorded = Recorded { device: "none".into(), frames: vec![], trained: None };
/// let page = page(&Content {
///     class: "a",
///     dataset: "letters",
///     model: &model,
///     config: &TrainConfig::default(),
///     beta: 0.12,
///     fresh: &model.init(Init::Kaiming, 0),
///     trained: None,
///     train: &train,
///     tests: Tests { images: &tests, labels: &[0, 1], names: &names },
///     variants: &[],
///     recorded,
/// })?;
/// assert!(page.contains("b\\u003c/script>") && !page.contains("https:"));
/// # Ok::<(), gradcon::Error>(())
/// ```
///
/// # Errors
/// A program that needs more than every browser allows.
pub fn page(content: &Content) -> Result<String> {
    let data = inline(&data(content)?.to_string());
    let title = escaped(&format!("{} of {}", content.class, content.dataset));
    let parts = [
        ("TITLE", &title[..]),
        ("CSS", CSS),
        ("DATA", &data),
        ("RUNNER", RUNNER),
        ("PAGE", SCRIPT),
    ];
    Ok(filled(HTML, &parts))
}

/// What the scripts read.
fn data(content: &Content) -> Result<Value> {
    let Content { model, config, train, tests, recorded, .. } = content;
    let programs = Programs::new(model, config, train.n, tests.images.n, Form::Parallel);
    let plans = programs.plans(content.variants)?;
    let shaders = shaders(&plans);
    let [train_plan, score, gallery, look] = plans;
    let rows = StepLog::of(model);
    let layer = |weight: &crate::method::model::Param| {
        json!({
            "name": weight.name.trim_end_matches(".weight"), "offset": weight.offset,
            "len": weight.len(), "shape": weight.shape,
        })
    };
    let trained = content.trained.map(|(detector, iterations)| {
        json!({
            "params": floats(&detector.params), "reference": floats(&detector.reference),
            "iterations": iterations,
        })
    });
    let frame = |frame: &Frame| {
        let row = |of: &crate::method::objective::Logged| {
            [of.mse, of.constraint].into_iter().chain(of.cosines.clone()).map(|v| v as f32)
        };
        let losses: Vec<f32> = frame.losses.iter().flat_map(row).collect();
        json!({
            "losses": floats(&losses), "scores": floats(&frame.scores),
            "gallery": STANDARD.encode(&frame.gallery),
        })
    };
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "class": content.class,
        "dataset": content.dataset,
        "model": {
            "kind": model.kind().to_string(), "size": model.size(), "channels": model.channels(),
            "pixels": model.pixels(), "params": model.len(), "reference": model.reference_len(),
            "layers": model.constrained_weights().map(layer).collect::<Vec<_>>(),
        },
        "plans": { "train": train_plan, "score": score, "gallery": gallery, "look": look },
        "shaders": shaders,
        "training": {
            "images": train.n, "batch": config.batch_size,
            "steps": train.n.div_ceil(config.batch_size), "alpha": config.alpha, "lr": config.lr,
            "beta1": config.adam.beta1, "beta2": config.adam.beta2, "seed": config.seed,
            "width": rows.width(), "constraint": 1 + Stats::CONSTRAINT,
            "cosines": 1 + Stats::at(0, Stat::Cos), "data": STANDARD.encode(&train.data),
        },
        "test": {
            "count": tests.images.n, "batch": TEST_BATCH, "labels": tests.labels,
            "names": tests.names, "data": STANDARD.encode(&tests.images.data),
        },
        "gallery": tests.images.n.min(GALLERY),
        "beta": content.beta,
        "fresh": floats(content.fresh),
        "trained": trained,
        "recorded": {
            "device": recorded.device,
            "frames": recorded.frames.iter().map(frame).collect::<Vec<_>>(),
            "trained": recorded.trained.as_ref().map(frame),
        },
    }))
}

/// The shaders that plans name, by name.
pub fn shaders<'p>(plans: impl IntoIterator<Item = &'p Plan>) -> Value {
    let mut texts = serde_json::Map::new();
    for dispatch in plans.into_iter().flat_map(|plan| &plan.dispatches) {
        let mut files = SHADERS.iter().chain(&VARIANTS);
        let text = files.find(|s| s.name == dispatch.shader).map(|s| s.text().into_owned());
        texts.insert(dispatch.shader.to_string(), text.into());
    }
    texts.into()
}

/// Base64 of little-endian f32.
fn floats(values: &[f32]) -> String {
    STANDARD.encode(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
}

/// JSON as it may stand in a script element: nothing ends the element or begins a comment, and no
/// control character is in it.
fn inline(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", c as u32)),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text
}

/// Text as it may stand between tags.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A template whose `{{NAME}}` are replaced once; what comes in is not looked at again.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut pieces = template.split("{{");
    page.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").expect("a brace is closed in page.html");
        let (_, value) = parts
            .iter()
            .find(|(known, _)| *known == name)
            .expect("page.html asks for what is there");
        page.push_str(value);
        page.push_str(rest);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::dispatch::{UNIFORM_BINDING, UNIFORM_BYTES};

    #[test]
    fn what_comes_from_outside_stays_text() {
        let evil = "</script><!--\u{7f}\u{2028}{{DATA}}\"&";
        let json = inline(&json!({ evil: evil }).to_string());
        assert!(!json.contains('<') && json.chars().all(|c| !c.is_control()), "{json}");
        let back: std::collections::BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
        assert_eq!(back[evil], evil);
        assert_eq!(escaped(evil), "&lt;/script&gt;&lt;!--\u{2028}{{DATA}}\"&amp;");
        assert_eq!(filled("a {{X}} b {{Y}}", &[("X", "{{Y}}"), ("Y", "y")]), "a {{Y}} b y");
    }

    #[test]
    fn the_runner_knows_the_numbers_of_a_plan() {
        for line in [
            format!("const UNIFORM_BINDING = {UNIFORM_BINDING};"),
            format!("const UNIFORM_BYTES = {UNIFORM_BYTES};"),
            format!("const LANES = {};", crate::method::feed::padded(1)),
            format!("const PADDING_IMAGE = {:#x};", crate::kernels::batch::PADDING_IMAGE),
        ] {
            assert!(RUNNER.contains(&line), "runner.js has no '{line}'");
        }
    }

    /// A reader who opens it gives nothing away.
    #[test]
    fn a_page_has_no_address() {
        for text in [HTML, CSS, SCRIPT, RUNNER] {
            for address in ["http:", "https:", "url(", "import(", "fetch(", "XMLHttp", "WebSocket"]
            {
                assert!(!text.contains(address), "{address}");
            }
        }
        assert!(HTML.contains("default-src 'none'"));
    }
}
