//! Runs: a training as a folder that can be watched, interrupted, continued and evaluated.
//!
//! ```text
//! RUN/config.toml            resolved configuration
//! RUN/checkpoint.json        which checkpoint counts: its epoch and step, written last
//! RUN/metrics.csv            \
//! RUN/events.out.tfevents.*   | of a run with one class; of several, each class has them in RUN/models/CLASS/
//! RUN/best/                   | model.safetensors, README.md (model card)
//! RUN/last/                  /  model.safetensors, optimizer.safetensors, best.safetensors, state.json
//! RUN/seed-S/                 of a training with several seeds: one such folder each
//! ```
//!
//! What an evaluation adds is said in [`crate::report::run`].

pub mod checkpoint;
pub mod config;
pub mod evaluate;
pub mod train;
