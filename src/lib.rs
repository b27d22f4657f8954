//! GradCon: anomaly detection in images by gradient constraints, on a hand-written compute engine
//! for any GPU and the CPU.
//!
//! An autoencoder learns one class of images. Training also keeps the gradients that this class
//! sends into the decoder's weights aligned; an image whose own gradient points elsewhere is
//! anomalous. (Kwon, Prabhushankar, Temel, AlRegib: "Backpropagated Gradient Representations for
//! Anomaly Detection", ECCV 2020.)
//!
//! ```
//! use gradcon::data::embedded::fashion_subset;
//! use gradcon::engine::device;
//! use gradcon::{Init, Scorer, TrainConfig, train};
//!
//! # fn main() -> gradcon::Result<()> {
//! let (train_set, test_set) = fashion_subset()?;
//! let trousers = train_set.of(1); // images [n, 28, 28, 1]
//! let (validation, training) = trousers.split_at(30);
//!
//! let mut engine = device::open("auto", false)?; // a hardware GPU, else the CPU engine
//! let config = TrainConfig { epochs: 3, init: Init::Kaiming, ..TrainConfig::default() };
//! let detector = train(engine.as_mut(), (&training, &validation), &config, |epoch| {
//!     println!("{:?}", epoch.validation)
//! })?;
//!
//! let scores = Scorer::new(engine.as_mut(), &detector)?.score(&test_set.images)?;
//! let (class, first) = (test_set.labels[0], &scores[0]);
//! println!("class {class}: {:.4} = {:.4} - beta * {:.4}", first.score, first.mse, first.cos);
//! # let file = std::env::temp_dir().join("gradcon-doc.safetensors");
//! detector.save(&file)?; // PyTorch reads it as well
//! # std::fs::remove_file(&file).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! [`tape`] records operations and differentiates them, any number of times; [`kernels`] defines
//! what programs are made of; [`program`] compiles a tape to a list of kernel calls, plain data;
//! [`engine`] runs programs, on a GPU through wgpu or on the CPU; [`method`] is GradCon: the model,
//! its objective, training and scoring. Around it: [`data`] (formats, splits, resizing), [`run`]
//! (trainings as folders), [`report`] (metrics, pictures, pages), [`mod@bench`] (measuring), [`check`]
//! (gradients against differences), [`tune`] (the fastest variants of kernels), [`web`] (the engine
//! in a browser) and [`cli`].
//!
//! `docs/architecture.md` in the repository is the map: what each room must not know, how a
//! training step flows through them, how to add to them, and what holds everywhere. `examples/` has
//! a gradient differentiated and a folder of pictures scored.

#![warn(missing_docs)]
// They panic where nothing can be written; see `output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod check;
pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod folders;
pub mod geometry;
pub mod images;
pub mod kernels;
pub mod layout;
pub mod limits;
pub mod method;
pub mod output;
pub mod program;
pub mod report;
pub mod run;
pub mod sheet;
pub mod tape;
pub mod tiles;
pub mod tune;
pub mod web;

pub use crate::method::config::TrainConfig;
pub use crate::method::detector::Detector;
pub use crate::method::model::{Init, Model};
pub use crate::method::scorer::{Score, Scorer};
pub use crate::method::train;
pub use crate::method::trainer::{Trainer, TrainingSet};
pub use error::{Error, Result};
pub use images::Images;
