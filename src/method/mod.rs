//! GradCon: the model, its objective, training and scoring. Speaks only of tapes, programs and
//! [`crate::engine::Engine`].

pub mod baselines;
pub mod config;
pub mod detector;
pub mod feed;
pub mod inspect;
pub mod maps;
pub mod model;
pub mod objective;
pub mod programs;
pub mod readout;
pub mod scorer;
pub mod state;
pub mod tiling;
pub mod trainer;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::images::Images;
use config::TrainConfig;
use detector::{DEFAULT_BETA, Detector};
use model::{Kind, Model};
use state::{EpochReport, Snapshot};
use trainer::{Outcome, Trainer, TrainingSet};

/// Trains one model on images in memory and returns its best epoch, ready to score.
///
/// `train` and `validation` are images `[n, size, size, channels]`; `report` is called after every
/// epoch. For several models at once, interruption and saved states use a [`Trainer`].
///
/// ```
/// use gradcon::engine::cpu;
/// use gradcon::{Images, TrainConfig, train};
///
/// let images = Images::new((0..20 * 784).map(|i| (i % 251) as u8).collect(), [20, 28, 28, 1])?;
/// let (validation, training) = images.split_at(4);
/// let config = TrainConfig { epochs: 1, batch_size: 16, ..TrainConfig::default() };
/// let mut losses = vec![];
/// let detector = train(cpu::f32().as_mut(), (&training, &validation), &config, |epoch| {
///     losses.push(epoch.validation.loss)
/// })?;
/// assert_eq!(detector.number("validation_loss")?, Some(losses[0]));
/// # Ok::<(), gradcon::Error>(())
/// ```
///
/// # Errors
/// Images of two shapes or none, a configuration that makes no sense, a device failure, or a loss
/// that stopped being finite.
pub fn train(
    engine: &mut dyn Engine,
    (train, validation): (&Images, &Images),
    config: &TrainConfig,
    mut report: impl FnMut(&EpochReport),
) -> Result<Detector> {
    let model = Model::sized(Kind::Cae, train.height, train.channels)?;
    let set = TrainingSet::new(train, validation, config);
    let mut trainer = Trainer::new(engine, &model, config, &[set])?;
    while trainer.epochs_done() < config.epochs && !trainer.is_through() {
        if let Outcome::Epoch(reports) = trainer.epoch(|_| ControlFlow::Continue(()))? {
            reports.iter().flatten().for_each(&mut report);
        }
    }
    let best = trainer.best()?[0]
        .cloned()
        .ok_or_else(|| Error::invalid("training: no epoch was completed"))?;
    Ok(best.into_detector(&model, config))
}

impl Snapshot {
    /// A detector with the constants of its training in the description. Shown at [`Trainer`].
    pub fn into_detector(self, model: &Model, config: &TrainConfig) -> Detector {
        let mut description = BTreeMap::from([
            ("alpha".to_string(), config.alpha.to_string()),
            ("beta".to_string(), DEFAULT_BETA.to_string()),
            ("epoch".to_string(), self.epoch.to_string()),
            ("validation_loss".to_string(), self.validation_loss.to_string()),
            ("seed".to_string(), config.seed.to_string()),
            ("version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ]);
        if model.kind() == Kind::Vae {
            description.insert("kl_weight".to_string(), config.kl_weight.to_string());
        }
        Detector {
            model: model.clone(),
            params: self.params,
            reference: self.reference,
            statistics: None,
            description,
        }
    }
}
