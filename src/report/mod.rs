//! Everything a person or another program reads after a run: metrics, score tables, pictures,
//! TensorBoard events, the result files, the model card and the HTML page.
//!
//! This room knows files, plain slices and nothing of tapes, engines or models. Anomaly scores
//! follow one convention: label 1 = anomalous, higher score = more anomalous.

pub mod ablation;
pub mod card;
pub mod epochs;
pub mod extremes;
pub mod file;
pub mod found;
pub mod inspection;
pub mod metrics;
pub mod overlay;
pub mod page;
pub mod pixels;
pub mod published;
pub mod reproduction;
pub mod results;
pub mod run;
pub mod scores;
pub mod sweep;
pub mod table;
pub mod tables;
pub mod tensorboard;
pub mod thumbnails;

mod colour;
pub(crate) mod plot;
mod svg;
