//! The small real dataset inside the program: a subset of Fashion-MNIST (see
//! `fashion/PROVENANCE.md` and its LICENSE).

pub use super::datasets::fmnist::CLASSES as FASHION_CLASSES;
use super::{Labelled, idx};
use crate::error::Result;

/// Training and test images [n, 28, 28, 1] with their labels, in the official order: 2,000 + 200 of
/// class 7 (Sneaker) and 300 + 100 of each other class.
///
/// # Errors
/// Only if the program itself is damaged.
pub fn fashion_subset() -> Result<(Labelled, Labelled)> {
    let train = idx::from_memory(
        include_bytes!("fashion/train-images-idx3-ubyte.gz"),
        include_bytes!("fashion/train-labels-idx1-ubyte.gz"),
        "built-in Fashion-MNIST training",
    )?;
    let test = idx::from_memory(
        include_bytes!("fashion/t10k-images-idx3-ubyte.gz"),
        include_bytes!("fashion/t10k-labels-idx1-ubyte.gz"),
        "built-in Fashion-MNIST test",
    )?;
    Ok((train, test))
}
