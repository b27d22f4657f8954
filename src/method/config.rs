//! The configuration of a training: what it needs to know besides its images.

use super::model::Init;
use crate::error::{Error, Result};
use crate::program::Precision;
use crate::tape::ops::AdamConfig;

/// What a training needs to know. The defaults are the paper's, but for the number of epochs and the
/// initial parameters.
#[derive(Clone, PartialEq, Debug)]
pub struct TrainConfig {
    /// Epochs to reach.
    pub epochs: usize,
    /// Images in a batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Weight of the gradient constraint in the loss.
    pub alpha: f64,
    /// Weight of the KL divergence in the loss of a variational model: twice the variance that a
    /// value of an image is reconstructed with (see [`crate::method::objective`]).
    pub kl_weight: f64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Adam's other constants.
    pub adam: AdamConfig,
    /// How parameters start.
    pub init: Init,
    /// Seed of the initial parameters and of the order of images.
    pub seed: u64,
    /// A new order of images in every epoch.
    pub shuffle: bool,
    /// Ends the training after so many epochs without a better validation loss.
    pub patience: Option<usize>,
    /// How activations and their gradients are kept; parameters, optimizer and references are f32.
    pub precision: Precision,
}

/// [`TrainConfig::kl_weight`], where nobody says otherwise: a standard deviation of 0.1, about what
/// the convolutional model comes to.
pub const DEFAULT_KL_WEIGHT: f64 = 0.02;

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 25,
            batch_size: 64,
            alpha: 0.03,
            kl_weight: DEFAULT_KL_WEIGHT,
            lr: 1e-3,
            adam: AdamConfig::default(),
            init: Init::Kaiming,
            seed: 0,
            shuffle: true,
            patience: None,
            precision: Precision::F32,
        }
    }
}

impl TrainConfig {
    /// Whether the numbers of a configuration make sense.
    ///
    /// ```
    /// use gradcon::TrainConfig;
    ///
    /// assert!(TrainConfig::default().check().is_ok());
    /// let error = TrainConfig { alpha: -1.0, ..TrainConfig::default() }.check().unwrap_err();
    /// assert_eq!(error.to_string(), "alpha is -1, expected 0 or more");
    /// ```
    ///
    /// # Errors
    /// They don't; the message has the first that doesn't, and what was expected.
    pub fn check(&self) -> Result<()> {
        let positive = |what: &str, v: f64| {
            if v.is_finite() && v > 0.0 {
                Ok(())
            } else {
                Err(Error::Usage(format!("{what} is {v}, expected a positive number")))
            }
        };
        positive("learning rate", self.lr)?;
        positive("Adam's eps", self.adam.eps)?;
        if self.batch_size == 0 || self.batch_size > 4096 {
            return Err(Error::Usage(format!(
                "batch size is {}, expected 1 to 4096",
                self.batch_size
            )));
        }
        if self.epochs == 0 {
            return Err(Error::Usage("0 epochs: at least one is needed to have a model".into()));
        }
        if self.patience == Some(0) {
            return Err(Error::Usage("patience is 0, expected 1 epoch or more".into()));
        }
        for (what, weight) in [("alpha", self.alpha), ("KL weight", self.kl_weight)] {
            if !weight.is_finite() || weight < 0.0 {
                return Err(Error::Usage(format!("{what} is {weight}, expected 0 or more")));
            }
        }
        for (what, beta) in [("beta1", self.adam.beta1), ("beta2", self.adam.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::Usage(format!(
                    "{what} is {beta}, expected 0 or more and less than 1"
                )));
            }
        }
        Ok(())
    }
}
