//! A run's configuration: flag > file > default, unknown keys are errors, and the resolved whole is
//! written into the run's folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, FromArgMatches};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::VariantNames;

use super::checkpoint::Settings;
use super::threshold::{self, Level};
use crate::data::Prepared;
use crate::data::augment::{Change, augmented};
use crate::error::{Error, Result};
use crate::files::parent;
use crate::folders;
use crate::images::{Images, SIZES};
use crate::limits::{self, shown};
use crate::method::config::{DEFAULT_KL_WEIGHT, TrainConfig};
use crate::method::detector::DEFAULT_BETA;
use crate::method::model::{Init, Kind, Model};
use crate::method::readout::{AUTO, PAPER, Rule};
use crate::method::tiling::{self, Place};
use crate::program::Precision;
use crate::tape::ops::AdamConfig;

/// Everything that determines a training; the content of `config.toml`.
///
/// A setting has one place: its field is the flag of `gradcon train` with its text and default, and
/// the key in files.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// The prepared dataset's folder.
    #[arg(skip)]
    pub data: PathBuf,

    /// Which dataset it is: the SHA-256 of its manifest.
    #[arg(skip)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_sha256: String,

    /// Normal classes: names or their beginnings, numbers, ranges such as 0-3, or all. [default:
    /// all]
    #[arg(
        long = "inlier",
        value_delimiter = ',',
        value_name = "K[,K...]|all",
        default_value = "all"
    )]
    pub inliers: Vec<String>,

    /// The autoencoder. [default: cae]
    #[arg(long, value_enum, default_value_t)]
    #[serde(skip_serializing_if = "is_default")]
    pub model: Kind,

    /// Epochs to reach; the paper trained 1000. Where nobody says, at least as many as make 2,000
    /// steps. [default: 25]
    #[arg(long, default_value_t = TrainConfig::default().epochs)]
    pub epochs: usize,

    /// End the training of a model after so many epochs without a better validation loss. [default:
    /// all epochs are trained]
    #[arg(long, value_name = "EPOCHS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,

    /// Train on changed copies of the images, too: shift (by up to a fourteenth of the size), flip
    /// (left and right exchanged), brightness (by up to a tenth). Only what a normal image may have.
    /// [default: none]
    #[arg(
        long, value_delimiter = ',', value_name = "CHANGE[,CHANGE...]",
        value_parser = PossibleValuesParser::new(Change::VARIANTS)
            .try_map(|v| v.parse::<Change>())
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub augment: Vec<Change>,

    /// With --augment: changed copies of each image. [default: 3]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment_copies: Option<usize>,

    /// Images in a batch. [default: 64]
    #[arg(long, default_value_t = TrainConfig::default().batch_size)]
    pub batch_size: usize,

    /// Adam's learning rate. [default: 0.001]
    #[arg(long, allow_negative_numbers = true, default_value_t = TrainConfig::default().lr)]
    pub lr: f64,

    /// Weight of the gradient constraint in the loss. [default: 0.03]
    #[arg(long, allow_negative_numbers = true, default_value_t = TrainConfig::default().alpha)]
    pub alpha: f64,

    /// Weight of the KL divergence in the loss of a variational model: twice the variance of the
    /// normal error that its decoder is taken to make in every value. [default: 0.02]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_weight: Option<f64>,

    /// The score that images are ranked by, and that the threshold is of: auto, paper,
    /// reconstruction, gradient, code, ... (`gradcon eval --help` has them all). [default: auto]
    #[arg(long, value_name = "NAME", default_value = AUTO)]
    pub score: String,

    /// Weight of the cosine in the paper's score. [default: 0.12]
    #[arg(long, allow_negative_numbers = true, default_value_t = DEFAULT_BETA)]
    pub beta: f64,

    /// Seed of the initial parameters and of the order of images. [default: 0]
    #[arg(long, conflicts_with = "seeds", default_value_t = TrainConfig::default().seed)]
    pub seed: u64,

    /// One run for each of these seeds, in RUN/seed-S; `gradcon eval RUN` then gives means and
    /// deviations.
    #[arg(long, value_delimiter = ',', value_name = "S[,S...]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,

    /// Initial parameters: kaiming, or torch, the paper's, which can sit on a plateau for many epochs.
    /// [default: kaiming]
    #[arg(long, value_enum, default_value_t = InitName::Kaiming)]
    pub init: InitName,

    /// Start from the parameters of a model file instead (a PyTorch state dict as safetensors will
    /// do).
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,

    /// A new order of images in every epoch.
    #[arg(
        long = "no-shuffle", action = clap::ArgAction::SetFalse,
        help = "The same order of images in every epoch"
    )]
    pub shuffle: bool,

    /// How activations and their gradients are kept while it trains: f32, or f16 in half of the
    /// memory. All else is kept, and everything is computed, in f32. [default: f32]
    #[arg(
        long, default_value_t,
        value_parser = PossibleValuesParser::new(Precision::VARIANTS)
            .try_map(|v| v.parse::<Precision>())
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,

    /// The share of validation scores that counts as normal: sets the threshold stored with the
    /// model. [default: 0.95]
    #[arg(long, value_name = "QUANTILE", default_value_t = 0.95)]
    pub threshold_quantile: f64,

    /// Set the threshold so that at most this share of new normal images is called anomalous, such as
    /// 0.01, as far as the validation images can promise it (n of them: no less than 1 in n + 1),
    /// instead of by a quantile.
    #[arg(
        long,
        value_name = "RATE",
        allow_negative_numbers = true,
        conflicts_with = "threshold_quantile"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fpr: Option<f64>,

    /// Tiles: whether what is normal depends on where in an image a tile lies: any (a texture), same
    /// (an object that always lies the same), or auto, from the training images. [default: auto]
    #[arg(
        long, default_value_t,
        value_parser = PossibleValuesParser::new(Place::VARIANTS).try_map(|v| v.parse::<Place>())
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub place: Place,

    /// Tiles: an image's score is the mean of its N highest tiles'. [default: of 1 to as many as show
    /// a spot, the fewest whose mean varies as little as any over the validation images]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_tiles: Option<usize>,
}

impl Default for RunConfig {
    /// The defaults of the flags, and no dataset.
    fn default() -> RunConfig {
        let command = RunConfig::augment_args(Command::new("defaults"));
        command
            .try_get_matches_from(["defaults"])
            .and_then(|matches| RunConfig::from_arg_matches(&matches))
            .expect("every setting has a default")
    }
}

impl RunConfig {
    /// The paper's settings, and no dataset.
    pub fn paper() -> RunConfig {
        RunConfig {
            epochs: 1000,
            batch_size: 64,
            lr: 1e-3,
            alpha: 0.03,
            score: PAPER.into(),
            beta: DEFAULT_BETA,
            init: InitName::Torch,
            shuffle: true,
            ..RunConfig::default()
        }
    }
}

/// Steps that a training has at least, where nobody says how many epochs: with a few hundred images
/// an epoch is a few steps.
pub const LEAST_STEPS: usize = 2000;

/// Changed copies of each image, where nobody says how many, and at most.
const COPIES: usize = 3;
const MOST_COPIES: usize = 100;

/// [`Init`] by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum InitName {
    /// PyTorch's default, which the paper uses.
    Torch,
    /// Normal with variance 2 / taps: leaves the plateau that torch can sit on for ten epochs.
    Kaiming,
}

/// A setting that only those files say which have it: earlier ones don't know it.
fn is_default<T: Default + PartialEq>(setting: &T) -> bool {
    *setting == T::default()
}

impl clap::ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Kind] {
        &[Kind::Cae, Kind::Vae]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Kind::Cae => "The paper's convolutional autoencoder",
            Kind::Vae => "The paper's variational autoencoder",
        };
        Some(PossibleValue::new(<&str>::from(self)).help(help))
    }
}

/// The setting that runs of earlier versions don't have.
const SCORE: &str = "score";

/// Settings that may change in a run that goes on; `init_from` and `seeds` are settled before, and
/// every class has a folder of its own.
const FREE: [&str; 11] = [
    "data",
    "epochs",
    "score",
    "beta",
    "threshold_quantile",
    "fpr",
    "seeds",
    "init_from",
    "inliers",
    "place",
    "top_tiles",
];

/// What may differ between commands that share a run: each has its classes and seeds, and may know
/// the data, whose hash has to agree, by another path.
const SHARED: [&str; 3] = ["data", "inliers", "seeds"];

/// A setting as text.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(as_text).collect::<Vec<_>>().join(", "),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or(f64::NAN).to_string(),
        other => other.to_string(),
    }
}

/// A path that means the same from every folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io(path))
}

impl RunConfig {
    /// Reads a run's `config.toml`.
    ///
    /// # Errors
    /// No such file, or one that is none: named with the line, or the setting that makes no sense.
    pub fn read(run: &Path) -> Result<RunConfig> {
        let path = folders::config(run);
        if !path.exists() {
            return Err(Error::invalid(format!(
                "{}: no run: it has no config.toml",
                run.display()
            )));
        }
        RunConfig::parse(&limits::read_text(&path, limits::CONFIG, "a configuration")?, &path)
    }

    /// [`RunConfig::read`] from text. `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`RunConfig::read`].
    pub fn parse(text: &str, path: &Path) -> Result<RunConfig> {
        let problem = |e: &dyn Display| {
            Error::invalid(format!("{}: {}", path.display(), shown(e).trim_end()))
        };
        let mut config: RunConfig = toml::from_str(text).map_err(|e| problem(&e))?;
        // A run's own file is whole: a default in its place would be another training.
        let there: BTreeMap<String, IgnoredAny> = toml::from_str(text).map_err(|e| problem(&e))?;
        let entries = config.entries()?;
        let missing = entries.keys().find(|k| !there.contains_key(*k) && *k != SCORE);
        let missing = missing.map(String::as_str);
        if !there.contains_key(SCORE) {
            // There was no other when the run began.
            config.score = PAPER.into();
        }
        let no_weight = config.model == Kind::Vae && config.kl_weight.is_none();
        if let Some(missing) = missing.or(no_weight.then_some("kl_weight")) {
            return Err(problem(&format!("missing field `{missing}`")));
        }
        config.check().map_err(|e| problem(&e))?;
        Ok(config)
    }

    /// Reads a user's TOML file, which may have any of the settings; the others have their
    /// defaults.
    ///
    /// # Errors
    /// No such file, or one that is none: named with the line and the key.
    pub fn read_settings(path: &Path) -> Result<RunConfig> {
        let text = limits::read_text(path, limits::CONFIG, "a configuration")?;
        RunConfig::parse_settings(&text, path)
    }

    /// Whether a user's TOML file has a setting.
    ///
    /// # Errors
    /// No such file, or one that is no TOML.
    pub fn file_has(path: &Path, key: &str) -> Result<bool> {
        let text = limits::read_text(path, limits::CONFIG, "a configuration")?;
        let table: toml::Table = toml::from_str(&text)
            .map_err(|e| Error::Usage(format!("{}: {}", path.display(), shown(e).trim_end())))?;
        Ok(table.contains_key(key))
    }

    /// [`RunConfig::read_settings`] from text. `path` stands for the file in errors.
    ///
    /// # Errors
    /// As [`RunConfig::read_settings`].
    pub fn parse_settings(text: &str, path: &Path) -> Result<RunConfig> {
        toml::from_str(text)
            .map_err(|e| Error::Usage(format!("{}: {}", path.display(), shown(e).trim_end())))
    }

    /// The settings of a run that can start, with paths that mean the same from every folder.
    ///
    /// # Errors
    /// No dataset folder; settings that make no sense.
    pub fn resolved(mut self) -> Result<RunConfig> {
        if self.data.as_os_str().is_empty() {
            return Err(Error::Usage(
                "no dataset: give --data DIR, a folder made by `gradcon prep`, or the key data in \
                 the configuration file"
                    .into(),
            ));
        }
        self.data = absolute(&self.data)?;
        self.init_from = self.init_from.as_deref().map(absolute).transpose()?;
        if self.model == Kind::Vae {
            self.kl_weight.get_or_insert(DEFAULT_KL_WEIGHT);
        }
        self.augment.sort_unstable();
        self.augment.dedup();
        self.check()?;
        Ok(self)
    }

    /// Every setting that has a value, by its key.
    ///
    /// # Errors
    /// None in practice: settings are written as text.
    pub fn entries(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(entries)) => Ok(entries),
            Ok(other) => unreachable!("a struct is written as an object, not {other}"),
            Err(e) => Err(Error::invalid(format!("config.toml: {e}"))),
        }
    }

    /// Whether the settings make sense by themselves.
    ///
    /// # Errors
    /// The first that doesn't, with its value and what was expected.
    pub fn check(&self) -> Result<()> {
        self.train_config().check()?;
        if let Some(weight) = self.kl_weight.filter(|_| self.model != Kind::Vae) {
            return Err(Error::Usage(format!(
                "KL weight is {weight}, but the model is {}: only vae has a KL divergence",
                self.model
            )));
        }
        if !(0.0..=1.0).contains(&self.threshold_quantile) {
            return Err(Error::Usage(format!(
                "threshold quantile is {}, expected 0 to 1",
                self.threshold_quantile
            )));
        }
        self.fpr.map_or(Ok(()), threshold::check_rate)?;
        self.check_augmentation()?;
        // A layer that no size of images has; which ones the dataset's have is seen when it is bound.
        Rule::named(&self.score, &Model::sized(self.model, SIZES[SIZES.len() - 1], 1)?, self.beta)?;
        if !self.beta.is_finite() {
            return Err(Error::Usage(format!("beta is {}, expected a finite number", self.beta)));
        }
        let seeds = self.seeds.as_deref().unwrap_or_default();
        if self.seeds.is_some() && seeds.is_empty() {
            return Err(Error::Usage("an empty list of seeds".into()));
        }
        match (1..seeds.len()).find(|&i| seeds[..i].contains(&seeds[i])) {
            Some(i) => Err(Error::Usage(format!("seed {} is given twice", seeds[i]))),
            None => Ok(()),
        }
    }

    /// Ties the run to a dataset: the names of its classes for `all` and for numbers, and which
    /// dataset it is.
    ///
    /// # Errors
    /// No such class; the configuration is tied to another dataset already.
    pub fn bind(&mut self, prepared: &Prepared) -> Result<()> {
        if self.data_sha256.is_empty() {
            self.data_sha256 = prepared.manifest().sha256();
        }
        self.check_data(prepared)?;
        Rule::named(&self.score, &self.model_for(prepared)?, self.beta)?;
        self.check_tiles(prepared)?;
        let inliers = prepared.find_inliers(&self.inliers)?;
        self.inliers = inliers.into_iter().map(|k| prepared.inliers()[k].name.clone()).collect();
        Ok(())
    }

    /// Raises the number of epochs, which nobody chose, to as many as make [`LEAST_STEPS`] steps of
    /// the dataset's smallest class. Whether that was needed.
    ///
    /// # Errors
    /// As [`Prepared::train_of`].
    pub fn take_steps_enough(&mut self, prepared: &Prepared) -> Result<bool> {
        let mut least = usize::MAX;
        for k in 0..prepared.inliers().len() {
            let images = self.training_images(prepared.train_of(k)?.n);
            least = least.min(images.div_ceil(self.batch_size));
        }
        let epochs = LEAST_STEPS.div_ceil(least.max(1));
        let raised = epochs > self.epochs;
        self.epochs = self.epochs.max(epochs);
        Ok(raised)
    }

    /// Images of an epoch of a class that has `images` to train on: with their changed copies.
    pub fn training_images(&self, images: usize) -> usize {
        images.saturating_mul(1 + self.copies())
    }

    /// The images to train on, with their changed copies.
    pub(super) fn augmented<'a>(&self, images: &'a Images) -> Cow<'a, Images> {
        match self.copies() {
            0 => Cow::Borrowed(images),
            copies => Cow::Owned(augmented(images, &self.augment, copies, self.seed)),
        }
    }

    /// Changed copies of each training image.
    fn copies(&self) -> usize {
        if self.augment.is_empty() { 0 } else { self.augment_copies.unwrap_or(COPIES) }
    }

    fn check_augmentation(&self) -> Result<()> {
        match (self.augment_copies, self.augment.is_empty()) {
            (Some(copies), true) => Err(Error::Usage(format!(
                "{copies} copies to augment with, but nothing that may change: --augment shift, \
                 flip, brightness"
            ))),
            (Some(copies), false) if !(1..=MOST_COPIES).contains(&copies) => Err(Error::Usage(
                format!("{copies} copies to augment with, expected 1 to {MOST_COPIES}"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether what is said of tiles fits the dataset's.
    fn check_tiles(&self, prepared: &Prepared) -> Result<()> {
        let mut description = BTreeMap::new();
        if let Some(tiles) = prepared.tiles() {
            tiling::describe(&mut description, tiles);
        }
        tiling::settle(&mut description, self.place, self.top_tiles).map(|_| ())
    }

    /// The model of these settings for a dataset's images.
    ///
    /// # Errors
    /// As [`Model::sized`].
    pub fn model_for(&self, prepared: &Prepared) -> Result<Model> {
        Model::sized(self.model, prepared.size(), prepared.channels())
    }

    /// Whether this is the run's own dataset, to the byte.
    ///
    /// # Errors
    /// It is another.
    pub fn check_data(&self, prepared: &Prepared) -> Result<()> {
        let found = prepared.manifest().sha256();
        if found == self.data_sha256 {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: not the data that the run was made with: the manifest's SHA-256 is {found}, the \
             run's was {}; say with --data DIR where those data are",
            self.data.display(),
            shown(&self.data_sha256)
        )))
    }

    /// This configuration of a run with the classes and seeds that `more` adds to it, in the order
    /// of the dataset.
    ///
    /// # Errors
    /// Another setting differs; the message has its name and both values.
    pub fn joined(&self, more: &RunConfig, prepared: &Prepared) -> Result<RunConfig> {
        let [here, there] = [self.entries()?, more.entries()?];
        let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let text = |entries: &Map<String, Value>, name: &str| {
            entries.get(name).map_or("unsaid".into(), as_text)
        };
        for name in names.into_iter().filter(|name| !SHARED.contains(&name.as_str())) {
            let (before, now) = (text(&here, name), text(&there, name));
            if before != now {
                return Err(Error::Usage(format!(
                    "{name} is {}, but the run's is {}: only classes and seeds are added to a run \
                     that is there",
                    shown(&now),
                    shown(&before)
                )));
            }
        }
        let seeds = match (&self.seeds, &more.seeds) {
            (None, None) => None,
            (Some(before), Some(more)) => {
                let new = more.iter().filter(|seed| !before.contains(seed));
                let mut seeds: Vec<u64> = before.iter().chain(new).copied().collect();
                seeds.sort_unstable();
                Some(seeds)
            }
            (here, _) => {
                let has = if here.is_some() { "several seeds" } else { "one seed" };
                let what = "add seeds with --seeds to a run that began with --seeds";
                return Err(Error::Usage(format!("the run has {has}: {what}")));
            }
        };
        let mut inliers = [&self.inliers[..], &more.inliers].concat();
        inliers.sort();
        inliers.dedup();
        let order = prepared.inliers().iter().map(|inlier| &inlier.name);
        let inliers = order.filter(|name| inliers.contains(name)).cloned().collect();
        Ok(RunConfig { inliers, seeds, ..self.clone() })
    }

    /// The runs in the folder `root`: itself, or one for each seed.
    pub fn runs(&self, root: &Path) -> Vec<(PathBuf, RunConfig)> {
        let of_seed = |&seed: &u64| {
            (folders::seed(root, seed), RunConfig { seed, seeds: None, ..self.clone() })
        };
        self.seeds.as_ref().map_or_else(
            || vec![(root.into(), self.clone())],
            |seeds| seeds.iter().map(of_seed).collect(),
        )
    }

    /// Whether the configuration in one seed's folder says what the one for all seeds does, from
    /// which this is.
    ///
    /// # Errors
    /// It says something else, or can't be read.
    pub fn check_seed(&self, folder: &Path) -> Result<()> {
        let there = RunConfig::read(folder)?;
        // These are taken over when the seed's training goes on; classes are added one by one.
        let RunConfig { epochs, data, inliers, .. } = self.clone();
        if *self == (RunConfig { epochs, data, inliers, ..there }) {
            return Ok(());
        }
        let (one, all) = (folders::config(folder), folders::config(parent(folder)));
        Err(Error::Usage(format!(
            "{}: differs from {}, which is for all seeds",
            one.display(),
            all.display()
        )))
    }

    /// The settings that a checkpoint's numbers depend on: a run that goes on must have the same.
    ///
    /// # Errors
    /// A path that is no text.
    pub fn fixed(&self) -> Result<Settings> {
        let entries =
            self.entries()?.into_iter().filter(|(name, _)| !FREE.contains(&name.as_str()));
        Ok(entries.map(|(name, value)| (name, as_text(&value))).collect())
    }

    /// Whether a checkpoint was made with these settings.
    ///
    /// # Errors
    /// The first setting that differs, with both values.
    pub fn check_fixed(&self, made_with: &Settings) -> Result<()> {
        let now = self.fixed()?;
        let names: BTreeSet<&String> = now.keys().chain(made_with.keys()).collect();
        // Earlier versions kept the classes of the run, too.
        for name in names.into_iter().filter(|name| !FREE.contains(&name.as_str())) {
            let of =
                |settings: &Settings| settings.get(name).map_or("unsaid", String::as_str).into();
            let (value, before): (String, String) = (of(&now), of(made_with));
            if value != before {
                let (value, before) = (shown(value), shown(before));
                return Err(Error::invalid(format!(
                    "{name} is {value}, the run was trained with {before}: with another it would \
                     diverge from itself; of a run that goes on only \
                     epochs, score, beta, threshold_quantile, fpr, place, top_tiles and the place of \
                     the data may change"
                )));
            }
        }
        Ok(())
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, run: &Path) -> Result<()> {
        let text =
            toml::to_string(self).map_err(|e| Error::invalid(format!("config.toml: {e}")))?;
        crate::files::write_atomically(&folders::config(run), text.as_bytes())
    }

    /// What the threshold is to come to.
    pub fn level(&self) -> Level {
        self.fpr.map_or(Level::Quantile(self.threshold_quantile), Level::Fpr)
    }

    /// The patience, if it ended a training after `epochs` epochs, of which `best` was the best.
    pub fn stopped_early(&self, epochs: usize, best: usize) -> Option<usize> {
        self.patience.filter(|&n| epochs < self.epochs && best.saturating_add(n) <= epochs)
    }

    /// Errors where models are compared after the same number of epochs.
    ///
    /// # Errors
    /// There is a patience.
    pub fn check_no_patience(&self) -> Result<()> {
        match self.patience {
            Some(patience) => Err(Error::Usage(format!(
                "--patience {patience}: models are compared after the same numbers of epochs here, \
                 so none ends early"
            ))),
            None => Ok(()),
        }
    }

    /// What the trainer needs of it.
    pub fn train_config(&self) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            alpha: self.alpha,
            kl_weight: self.kl_weight.unwrap_or(DEFAULT_KL_WEIGHT),
            lr: self.lr,
            adam: AdamConfig::default(),
            init: match self.init {
                InitName::Torch => Init::Torch,
                InitName::Kaiming => Init::Kaiming,
            },
            seed: self.seed,
            shuffle: self.shuffle,
            patience: self.patience,
            precision: self.precision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_comes_back_whole_and_not_without_a_part() {
        let path = Path::new("config.toml");
        let config =
            RunConfig { data: "/d".into(), lr: 1e-7, seed: u64::MAX, ..RunConfig::default() };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(RunConfig::parse(&text, path).unwrap(), config);
        assert_eq!(RunConfig::parse_settings(&text, path).unwrap(), config);
        for line in text.lines() {
            let part = text.replace(&format!("{line}\n"), "");
            assert!(part.len() < text.len(), "{line}");
            let key = line.split(' ').next().unwrap();
            if key == SCORE {
                let earlier = RunConfig::parse(&part, path).unwrap();
                assert_eq!(earlier, RunConfig { score: PAPER.into(), ..config.clone() });
                continue;
            }
            let error = RunConfig::parse(&part, path).unwrap_err().to_string();
            assert!(
                error.contains("config.toml") && error.contains(&format!("`{key}`")),
                "{error}"
            );
            RunConfig::parse_settings(&part, path).unwrap();
        }
    }

    #[test]
    fn what_a_checkpoint_depends_on_is_text_as_it_was() {
        let config = RunConfig {
            data_sha256: "ab".into(),
            inliers: vec!["a".into(), "b".into()],
            lr: 1e-7,
            alpha: 1.0,
            seed: u64::MAX,
            seeds: Some(vec![1]),
            ..RunConfig::default()
        };
        let expected = [
            ("alpha", "1"),
            ("batch_size", "64"),
            ("data_sha256", "ab"),
            ("init", "kaiming"),
            ("lr", "0.0000001"),
            ("seed", "18446744073709551615"),
            ("shuffle", "true"),
        ];
        let expected = expected.map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(config.fixed().unwrap(), Settings::from(expected));
    }

    #[test]
    fn a_variational_run_has_its_weight_and_no_other_has() {
        let path = Path::new("config.toml");
        let config = RunConfig { data: "/d".into(), model: Kind::Vae, ..RunConfig::default() };
        let config = config.resolved().unwrap();
        assert_eq!(config.kl_weight, Some(DEFAULT_KL_WEIGHT));
        let text = toml::to_string(&config).unwrap();
        assert!(text.contains("model = \"vae\"") && text.contains("kl_weight = 0.02"), "{text}");
        assert_eq!(RunConfig::parse(&text, path).unwrap(), config);
        let without = text.replace("kl_weight = 0.02\n", "");
        let error = RunConfig::parse(&without, path).unwrap_err().to_string();
        assert!(error.contains("`kl_weight`"), "{error}");
        let other = text.replace("model = \"vae\"", "model = \"cae\"");
        let error = RunConfig::parse(&other, path).unwrap_err().to_string();
        assert!(error.contains("only vae has a KL divergence"), "{error}");
        let error = RunConfig::parse_settings("model = 'gan'", path).unwrap_err().to_string();
        assert!(error.contains("`gan`") && error.contains("`vae`"), "{error}");
    }

    #[test]
    fn a_setting_that_only_one_of_two_files_says_is_a_difference() {
        let full = RunConfig::default();
        let half = RunConfig { precision: Precision::F16, ..full.clone() };
        let variational = RunConfig { model: Kind::Vae, kl_weight: Some(0.5), ..full.clone() };
        let error = variational.check_fixed(&full.fixed().unwrap()).unwrap_err().to_string();
        assert!(error.contains("kl_weight is 0.5"), "{error}");
        for (one, other) in [(&full, &half), (&half, &full)] {
            one.check_fixed(&one.fixed().unwrap()).unwrap();
            let error = one.check_fixed(&other.fixed().unwrap()).unwrap_err().to_string();
            assert!(error.contains("precision") && error.contains("f16"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_and_missing_data_are_errors() {
        let path = Path::new("c.toml");
        let error = RunConfig::parse_settings("epoch = 7", path).unwrap_err().to_string();
        assert!(error.contains("c.toml") && error.contains("`epoch`"), "{error}");
        assert_eq!(RunConfig::default().resolved().unwrap_err().exit_code(), 2);
        let wrong =
            RunConfig { data: "/d".into(), threshold_quantile: 1.5, ..RunConfig::default() };
        assert!(wrong.resolved().unwrap_err().to_string().contains("1.5"));
    }
}
