//! GradCon: the model, its objective, training and scoring. Speaks only of tapes, programs and [`crate::engine::Engine`].

pub mod model;
pub mod objective;
