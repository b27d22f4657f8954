//! A run's configuration: flag > file > default, unknown keys are errors, and the resolved whole is written into the run's folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::gradcon::model::Init;
use crate::gradcon::trainer::TrainConfig;
use crate::tape::AdamConfig;
use crate::{Error, Result};

/// Everything that determines a training; the content of `config.toml`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The prepared dataset's folder.
    pub data: PathBuf,
    /// Normal classes, one model each.
    pub inliers: Vec<String>,
    /// Epochs to reach.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// Weight of the gradient constraint.
    pub alpha: f64,
    /// Weight of the cosine in scores.
    pub beta: f64,
    /// Seed of parameters and order.
    pub seed: u64,
    /// `torch` or `kaiming`.
    pub init: InitName,
    /// A new order of images in every epoch.
    pub shuffle: bool,
    /// Validation scores below this share count as normal: the threshold stored with the model.
    pub threshold_quantile: f64,
    /// A model file whose parameters to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
}

/// [`Init`] by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum InitName {
    /// PyTorch's default, which the paper uses.
    Torch,
    /// Normal with variance 2 / taps: leaves the plateau that torch can sit on for ten epochs.
    Kaiming,
}

/// The same keys, all optional: what a file or the flags say.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // as in RunConfig
pub struct Partial {
    pub data: Option<PathBuf>,
    pub inliers: Option<Vec<String>>,
    pub epochs: Option<usize>,
    pub batch_size: Option<usize>,
    pub lr: Option<f64>,
    pub alpha: Option<f64>,
    pub beta: Option<f64>,
    pub seed: Option<u64>,
    pub init: Option<InitName>,
    pub shuffle: Option<bool>,
    pub threshold_quantile: Option<f64>,
    pub init_from: Option<PathBuf>,
}

impl Partial {
    /// Reads a TOML file. Errors name the file, the line and the key.
    pub fn read(path: &Path) -> Result<Partial> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|e| Error::Usage(format!("{}: {}", path.display(), e.to_string().trim_end())))
    }

    /// This over `file` over the defaults.
    ///
    /// Errors: no dataset folder; numbers that make no sense (those that a trainer checks are left to it).
    pub fn resolve(self, file: Partial) -> Result<RunConfig> {
        let defaults = TrainConfig::default();
        let data = self.data.or(file.data).ok_or_else(|| {
            Error::Usage("no dataset: give --data DIR, a folder made by `gradcon prep`, or the key data in the configuration file".into())
        })?;
        let config = RunConfig {
            data: std::path::absolute(&data).map_err(Error::io(&data))?,
            inliers: self.inliers.or(file.inliers).unwrap_or_else(|| vec!["all".into()]),
            epochs: self.epochs.or(file.epochs).unwrap_or(defaults.epochs),
            batch_size: self.batch_size.or(file.batch_size).unwrap_or(defaults.batch_size),
            lr: self.lr.or(file.lr).unwrap_or(defaults.adam.lr),
            alpha: self.alpha.or(file.alpha).unwrap_or(defaults.alpha),
            beta: self.beta.or(file.beta).unwrap_or(crate::gradcon::detector::DEFAULT_BETA),
            seed: self.seed.or(file.seed).unwrap_or(defaults.seed),
            init: self.init.or(file.init).unwrap_or(InitName::Torch),
            shuffle: self.shuffle.or(file.shuffle).unwrap_or(defaults.shuffle),
            threshold_quantile: self.threshold_quantile.or(file.threshold_quantile).unwrap_or(0.95),
            init_from: self.init_from.or(file.init_from),
        };
        if !(0.0..=1.0).contains(&config.threshold_quantile) {
            return Err(Error::Usage(format!("threshold quantile is {}, expected 0 to 1", config.threshold_quantile)));
        }
        if !config.beta.is_finite() {
            return Err(Error::Usage(format!("beta is {}, expected a finite number", config.beta)));
        }
        Ok(config)
    }
}

impl RunConfig {
    /// Reads a run's `config.toml`.
    pub fn read(run: &Path) -> Result<RunConfig> {
        let path = run.join("config.toml");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        toml::from_str(&text).map_err(|e| Error::invalid(format!("{}: {}", path.display(), e.to_string().trim_end())))
    }

    /// Writes `config.toml`.
    pub fn write(&self, run: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::invalid(format!("config.toml: {e}")))?;
        crate::files::write_atomically(&run.join("config.toml"), text.as_bytes())
    }

    /// What the trainer needs of it.
    pub fn train_config(&self) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            alpha: self.alpha,
            adam: AdamConfig { lr: self.lr, ..AdamConfig::default() },
            init: match self.init {
                InitName::Torch => Init::Torch,
                InitName::Kaiming => Init::Kaiming,
            },
            seed: self.seed,
            shuffle: self.shuffle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_the_file_and_the_file_beats_defaults() {
        let file: Partial = toml::from_str("data = '/d'\nepochs = 7\nlr = 0.5\ninit = 'kaiming'").unwrap();
        let config = Partial { epochs: Some(9), ..Partial::default() }.resolve(file).unwrap();
        assert_eq!((config.epochs, config.lr, config.init, config.batch_size), (9, 0.5, InitName::Kaiming, 64));
        assert_eq!(config.inliers, ["all"]);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
    }

    #[test]
    fn unknown_keys_and_missing_data_are_errors() {
        assert!(toml::from_str::<Partial>("epoch = 7").unwrap_err().to_string().contains("epoch"));
        assert_eq!(Partial::default().resolve(Partial::default()).unwrap_err().exit_code(), 2);
        let wrong = Partial { data: Some("/d".into()), threshold_quantile: Some(1.5), ..Partial::default() };
        assert!(wrong.resolve(Partial::default()).unwrap_err().to_string().contains("1.5"));
    }
}
