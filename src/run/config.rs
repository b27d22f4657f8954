//! A run's configuration: flag > file > default, unknown keys are errors, and the resolved whole is
//! written into the run's folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoint::Settings;
use crate::data::Prepared;
use crate::error::{Error, Result};
use crate::files::parent;
use crate::folders;
use crate::limits::{self, shown};
use crate::method::config::TrainConfig;
use crate::method::model::Init;
use crate::tape::ops::AdamConfig;

/// Everything that determines a training; the content of `config.toml`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The prepared dataset's folder.
    pub data: PathBuf,
    /// Which dataset it is: the SHA-256 of its manifest.
    #[serde(default)]
    pub data_sha256: String,
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
    /// One run for each of these seeds instead, in the folders `seed-S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
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
    pub data_sha256: Option<String>,
    pub inliers: Option<Vec<String>>,
    pub epochs: Option<usize>,
    pub batch_size: Option<usize>,
    pub lr: Option<f64>,
    pub alpha: Option<f64>,
    pub beta: Option<f64>,
    pub seed: Option<u64>,
    pub seeds: Option<Vec<u64>>,
    pub init: Option<InitName>,
    pub shuffle: Option<bool>,
    pub threshold_quantile: Option<f64>,
    pub init_from: Option<PathBuf>,
}

impl Partial {
    /// Reads a TOML file. Errors name the file, the line and the key.
    pub fn read(path: &Path) -> Result<Partial> {
        Partial::parse(&limits::read_text(path, limits::CONFIG, "a configuration")?, path)
    }

    /// [`Partial::read`] from text. `path` stands for the file in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Partial> {
        toml::from_str(text)
            .map_err(|e| Error::Usage(format!("{}: {}", path.display(), shown(e).trim_end())))
    }

    /// This over `file` over the defaults.
    ///
    /// Errors: no dataset folder; settings that make no sense.
    pub fn resolve(self, file: Partial) -> Result<RunConfig> {
        let defaults = TrainConfig::default();
        let data = self.data.or(file.data).ok_or_else(|| {
            Error::Usage(
                "no dataset: give --data DIR, a folder made by `gradcon prep`, or the \
                          key data in the configuration file"
                    .into(),
            )
        })?;
        let config = RunConfig {
            data: std::path::absolute(&data).map_err(Error::io(&data))?,
            data_sha256: self.data_sha256.or(file.data_sha256).unwrap_or_default(),
            inliers: self.inliers.or(file.inliers).unwrap_or_else(|| vec!["all".into()]),
            epochs: self.epochs.or(file.epochs).unwrap_or(defaults.epochs),
            batch_size: self.batch_size.or(file.batch_size).unwrap_or(defaults.batch_size),
            lr: self.lr.or(file.lr).unwrap_or(defaults.adam.lr),
            alpha: self.alpha.or(file.alpha).unwrap_or(defaults.alpha),
            beta: self.beta.or(file.beta).unwrap_or(crate::method::detector::DEFAULT_BETA),
            seed: self.seed.or(file.seed).unwrap_or(defaults.seed),
            // A seed on the command line is one run, whatever the file says.
            seeds: self.seeds.or(if self.seed.is_some() { None } else { file.seeds }),
            init: self.init.or(file.init).unwrap_or(InitName::Torch),
            shuffle: self.shuffle.or(file.shuffle).unwrap_or(defaults.shuffle),
            threshold_quantile: self.threshold_quantile.or(file.threshold_quantile).unwrap_or(0.95),
            init_from: absolute(self.init_from.or(file.init_from))?,
        };
        config.check()?;
        Ok(config)
    }
}

/// A path that means the same from every folder.
fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>> {
    path.map(|path| std::path::absolute(&path).map_err(Error::io(&path))).transpose()
}

impl RunConfig {
    /// Reads a run's `config.toml`.
    ///
    /// Errors name the file and the line, or the setting that makes no sense.
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
    pub fn parse(text: &str, path: &Path) -> Result<RunConfig> {
        let problem = |e: toml::de::Error| {
            Error::invalid(format!("{}: {}", path.display(), shown(e).trim_end()))
        };
        let config: RunConfig = toml::from_str(text).map_err(problem)?;
        config.check().map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        Ok(config)
    }

    /// Errors unless the settings make sense by themselves.
    pub fn check(&self) -> Result<()> {
        self.train_config().check()?;
        if !(0.0..=1.0).contains(&self.threshold_quantile) {
            return Err(Error::Usage(format!(
                "threshold quantile is {}, expected 0 to 1",
                self.threshold_quantile
            )));
        }
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
    /// Errors: no such class; the configuration is tied to another dataset already.
    pub fn bind(&mut self, prepared: &Prepared) -> Result<()> {
        if self.data_sha256.is_empty() {
            self.data_sha256 = prepared.manifest().sha256();
        }
        self.check_data(prepared)?;
        let inliers = prepared.find_inliers(&self.inliers)?;
        self.inliers = inliers.into_iter().map(|k| prepared.inliers()[k].name.clone()).collect();
        Ok(())
    }

    /// Errors unless this is the run's own dataset, to the byte.
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

    /// Errors if the configuration in one seed's folder says something else than the one for all
    /// seeds, from which this is.
    pub fn check_seed(&self, folder: &Path) -> Result<()> {
        let there = RunConfig::read(folder)?;
        // These are taken over when the seed's training goes on.
        if *self == (RunConfig { epochs: self.epochs, data: self.data.clone(), ..there }) {
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
    pub fn fixed(&self) -> Settings {
        let fixed = [
            ("data_sha256", self.data_sha256.clone()),
            ("inliers", self.inliers.join(", ")),
            ("batch_size", self.batch_size.to_string()),
            ("lr", self.lr.to_string()),
            ("alpha", self.alpha.to_string()),
            ("seed", self.seed.to_string()),
            ("init", format!("{:?}", self.init).to_lowercase()),
            ("shuffle", self.shuffle.to_string()),
        ];
        fixed.map(|(name, value)| (name.to_string(), value)).into()
    }

    /// Errors unless a checkpoint was made with these settings; names the first that differs.
    pub fn check_fixed(&self, made_with: &Settings) -> Result<()> {
        for (name, value) in self.fixed() {
            let before = made_with.get(&name).map_or("unknown", String::as_str);
            if value != before {
                let (value, before) = (shown(value), shown(before));
                return Err(Error::invalid(format!(
                    "{name} is {value}, the run was trained with {before}: with another it would \
                     diverge from itself; of a run that goes on only \
                     epochs, beta, threshold_quantile and the place of the data may change"
                )));
            }
        }
        Ok(())
    }

    /// Writes `config.toml`.
    pub fn write(&self, run: &Path) -> Result<()> {
        let text =
            toml::to_string(self).map_err(|e| Error::invalid(format!("config.toml: {e}")))?;
        crate::files::write_atomically(&folders::config(run), text.as_bytes())
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
        let file: Partial =
            toml::from_str("data = '/d'\nepochs = 7\nlr = 0.5\ninit = 'kaiming'").unwrap();
        let config = Partial { epochs: Some(9), ..Partial::default() }.resolve(file).unwrap();
        assert_eq!(
            (config.epochs, config.lr, config.init, config.batch_size),
            (9, 0.5, InitName::Kaiming, 64)
        );
        assert_eq!(config.inliers, ["all"]);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
    }

    #[test]
    fn unknown_keys_and_missing_data_are_errors() {
        assert!(toml::from_str::<Partial>("epoch = 7").unwrap_err().to_string().contains("epoch"));
        assert_eq!(Partial::default().resolve(Partial::default()).unwrap_err().exit_code(), 2);
        let wrong = Partial {
            data: Some("/d".into()),
            threshold_quantile: Some(1.5),
            ..Partial::default()
        };
        assert!(wrong.resolve(Partial::default()).unwrap_err().to_string().contains("1.5"));
    }
}
