//! The model card: a `README.md` with YAML front matter (Hugging Face's layout, with a
//! `model-index`) beside the weights.

use std::fmt::Write;
use std::path::Path;

use super::file::write_atomic;
use super::results::{Evaluation, Formula, Tiled};
use super::tables::{cell, label, percent, three};
use crate::error::Result;

/// What a model card says. What is `None` is left out of the card.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Name of the model, e.g. `gradcon-fmnist-sandal`.
    pub name: String,
    /// Name of the data set.
    pub dataset: String,
    /// Folder of the prepared data, as it was given.
    pub data: Option<String>,
    /// SHA-256 of that folder's `manifest.json`.
    pub data_sha256: Option<String>,
    /// The class the model takes as normal.
    pub class: String,
    /// `cae` or `vae`.
    pub model: String,
    /// Height, width and channels of its input.
    pub input: [usize; 3],
    /// What becomes of a picture before, in words.
    pub preprocessing: Option<String>,
    /// How images are judged by their tiles, where they are cut.
    pub tiles: Option<Tiled>,
    /// Trainable numbers.
    pub parameters: usize,
    /// Weight of the constraint in training.
    pub alpha: f64,
    /// Weight of the KL divergence in training, of a variational model.
    pub kl_weight: Option<f64>,
    /// The anomaly score, of which the threshold is.
    pub score: Formula,
    /// The scores of the evaluation, the first of which it ranks by.
    pub scores: Vec<Formula>,
    /// Epochs trained.
    pub epochs: u64,
    /// The epoch (from 1) whose weights these are.
    pub best_epoch: Option<u64>,
    /// The patience that ended the training before its last epoch.
    pub stopped_early: Option<usize>,
    /// How much of the variance of the validation images about the mean image it explains.
    pub explained_variance: Option<f64>,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// The device that trained, with its backend or driver.
    pub device: String,
    /// When, in RFC 3339, UTC.
    pub date: String,
    /// Version of the program.
    pub gradcon_version: String,
    /// Scores above it are called anomalous.
    pub threshold: Option<f64>,
    /// What an evaluation found.
    pub evaluation: Option<Evaluation>,
}

/// Writes the card as `README.md` into `folder`, atomically.
///
/// # Errors
/// The file system's.
pub fn write_card(folder: &Path, card: &Card) -> Result<()> {
    write_atomic(&folder.join("README.md"), card.markdown().as_bytes())
}

impl Card {
    /// The card's text.
    pub fn markdown(&self) -> String {
        let mut out = self.front_matter();
        let [h, w, c] = self.input;
        let (dataset, class) = (cell(&self.dataset), cell(&self.class));
        let _ = write!(
            out,
            "\n# {}\n\nA one-class anomaly detector. It has learned what **{class}** of {dataset} \
             looks like and gives every image an anomaly score, `{}`:\n`{}`",
            self.name, self.score.score, self.score.formula
        );
        if let Some(tiled) = self.tiles {
            let _ = write!(out, ", of an image {tiled}");
        }
        out += ". Higher = more anomalous.\n";
        for (symbol, meaning) in meanings(&self.score.formula) {
            let _ = write!(out, "\n- `{symbol}`: {meaning}");
        }
        out += "\n\n";
        let kind = if self.model == "vae" {
            "variational convolutional autoencoder"
        } else {
            "convolutional autoencoder"
        };
        let channels = if c == 1 { "gray" } else { "RGB" };
        let _ = writeln!(
            out,
            "| | |\n|---|---|\n| architecture | {kind}, {} parameters |",
            self.parameters
        );
        let _ = writeln!(out, "| input | {h} x {w} {channels}, values in [0, 1] |");
        if let Some(steps) = &self.preprocessing {
            let _ = writeln!(out, "| preprocessing | {} |", cell(steps));
        }
        if let Some(threshold) = self.threshold {
            let _ = writeln!(
                out,
                "| threshold | {threshold}: an image with a higher score is anomalous |"
            );
        }
        out += "\n## Use\n\n```sh\ngradcon score --model model.safetensors \
                images/\n```\n\n`model.safetensors` has \
                PyTorch's names and layouts. Without the reference gradients (`ref_grad.*`) and what \
                is known of normal images (`readout.*`) it\nis a state dict for \
                `load_state_dict`.\n";
        let _ = writeln!(
            out,
            "\n## Training\n\n| | |\n|---|---|\n| data | {dataset}, class {class} only |"
        );
        let facts = [("folder", &self.data), ("manifest SHA-256", &self.data_sha256)];
        for (what, value) in facts.iter().filter_map(|(what, value)| Some((what, value.as_ref()?)))
        {
            let _ = writeln!(out, "| {what} | {} |", cell(value));
        }
        let best = self
            .best_epoch
            .map_or(String::new(), |best| format!("; these weights are of epoch {best}"));
        let stopped = self
            .stopped_early
            .map_or(String::new(), |n| format!("; stopped early, by a patience of {n} epochs"));
        let _ = writeln!(
            out,
            "| epochs | {}{best}{stopped} |\n| alpha | {} |",
            self.epochs, self.alpha
        );
        if let Some(share) = self.explained_variance {
            let _ = writeln!(
                out,
                "| explained | {} of the validation images' variance about the mean image |",
                percent(share)
            );
        }
        if let Some(weight) = self.kl_weight {
            let _ = writeln!(out, "| weight of the KL divergence | {weight} |");
        }
        if let Some(seed) = self.seed {
            let _ = writeln!(out, "| seed | {seed} |");
        }
        let (device, date, version) =
            (cell(&self.device), cell(&self.date), cell(&self.gradcon_version));
        let _ = writeln!(out, "| device | {device} |\n| made | {date} with gradcon {version} |");
        match &self.evaluation {
            Some(evaluation) => evaluation_table(&mut out, evaluation, &self.scores),
            None => out += "\n## Evaluation\n\nNot evaluated yet.\n",
        }
        out += "\n## Limits\n\nThe score says how unlike the training images an image is to this \
                model, not what is wrong \
                with it. It means little for images\nof another kind, size or preparation than \
                those above, and a threshold \
                holds only for images like those it was chosen on.\n\n## Method\n\nG. Kwon, M. \
                Prabhushankar, D. Temel, G. \
                AlRegib: Backpropagated Gradient Representations for Anomaly Detection, ECCV \
                2020.\n";
        out
    }

    fn front_matter(&self) -> String {
        let mut out = String::from("---\nlibrary_name: gradcon\ntags:\n");
        for tag in ["anomaly-detection", "one-class-classification", "gradcon"] {
            let _ = writeln!(out, "- {tag}");
        }
        let _ = writeln!(out, "datasets:\n- {}\nmetrics:\n- roc_auc", quoted(&self.dataset));
        if let Some(e) = &self.evaluation {
            let shown = format!(
                "{}, normal class {}, {} % outliers",
                self.dataset, self.class, e.outlier_percent
            );
            // Lines of their own: how far they are indented is what they mean.
            for line in [
                "model-index:",
                &format!("- name: {}", quoted(&self.name)),
                "  results:",
                "  - task:",
                "      type: anomaly-detection",
                "      name: One-class image anomaly detection",
                "    dataset:",
                &format!("      name: {}", quoted(&shown)),
                &format!("      type: {}", quoted(&self.dataset)),
                "    metrics:",
            ] {
                let _ = writeln!(out, "{line}");
            }
            let values = [
                ("roc_auc", "AUROC", e.full.auroc),
                ("average_precision", "AUPR", e.full.aupr),
                ("f1", "F1 at the best threshold", e.full.f1),
                ("fpr95", "FPR at 95 % TPR", e.full.fpr95),
            ];
            for (kind, name, value) in values {
                let _ =
                    writeln!(out, "    - type: {kind}\n      name: {name}\n      value: {value}");
            }
        }
        out + "---\n"
    }
}

/// What the symbols of a score's formula stand for.
const MEANINGS: [(&str, &str); 12] = [
    ("mse", "squared error of the reconstruction"),
    (
        "cos",
        "mean cosine of the image's own gradient with the training's, over the decoder's layers",
    ),
    (
        "cos_encoder",
        "mean cosine of the image's own gradient with the mean one, over the encoder's layers",
    ),
    (
        "cos_fisher",
        "cosine of the image's own gradient with the mean one, in the encoder's last layer and the \
         metric of Fisher's information",
    ),
    ("kl", "KL divergence of the code from a standard normal distribution"),
    ("code", "squared Mahalanobis distance of the code from those of the training images"),
    (
        "code_grad",
        "squared Mahalanobis distance of the gradient that reaches the code from those of the \
         training images",
    ),
    (
        "code_place",
        "squared Mahalanobis distance of a tile's code from those of training tiles at its place",
    ),
    ("norm", "squared norm of the image's own gradient in the decoder"),
    ("metric", "squared norm of the image's own gradient, in the metric of Fisher's information"),
    ("z", "standardised on the validation images"),
    (
        "distance",
        "how far these are together from those of the validation images: standardised, and by the \
         correlations there",
    ),
];

/// The meanings of the symbols that a formula has. The cosine of one layer says itself what it is.
fn meanings(formula: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let ends = |c: char| !(c.is_alphanumeric() || c == '_');
    MEANINGS.into_iter().filter(move |(symbol, _)| formula.split(ends).any(|word| word == *symbol))
}

fn evaluation_table(out: &mut String, e: &Evaluation, scores: &[Formula]) {
    let _ = writeln!(
        out,
        "\n## Evaluation\n\nOn {} normal and {} anomalous test images:\n",
        e.normal, e.anomalous
    );
    let _ = writeln!(
        out,
        "| score | AUROC | 95 % interval | AUPR | F1 | FPR95 |\n|---|---:|---:|---:|---:|---:|"
    );
    for (part, m) in e.parts() {
        let name = cell(label(scores, part));
        let interval =
            m.auroc_95.map_or("-".to_string(), |i| format!("{:.3} to {:.3}", i.low, i.high));
        let [auroc, aupr, f1, fpr95] = [m.auroc, m.aupr, m.f1, m.fpr95].map(three);
        let _ = writeln!(out, "| {name} | {auroc} | {interval} | {aupr} | {f1} | {fpr95} |");
    }
}

/// A YAML string; JSON's quoting is valid YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
