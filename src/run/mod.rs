//! Runs: a training as a folder that can be watched, interrupted, continued and evaluated.
//!
//! ```text
//! RUN/config.toml            resolved configuration, with the SHA-256 of the data's manifest
//! RUN/checkpoint.json        which checkpoint counts
//! RUN/metrics.csv            \
//! RUN/events.out.tfevents.*   | of a run with one class; of several, each class has them in RUN/models/CLASS/
//! RUN/best/                   | model.safetensors, README.md (model card)
//! RUN/last/                   | model.safetensors, optimizer.safetensors, best.safetensors, state.json
//! RUN/previous/              /  the checkpoint before that
//! RUN/seed-S/                 of a training with several seeds, whose config.toml lists them: one such folder each
//! RUN/.lock                   held by the process that writes the folder
//! ```
//!
//! What an evaluation adds is said in [`crate::report::run`].

pub mod checkpoint;
pub mod config;
pub mod evaluate;
pub mod train;
