//! Who trains, who validates, who is tested: all random choices of a prepared dataset, from one
//! seed.
//!
//! The generator is ChaCha with 8 rounds, keyed with the seed; every purpose and class draws from a
//! stream of its own. So one class's split depends neither on the other classes nor on which test
//! sets were asked for, and the same seed gives the same splits on every machine and with every
//! version of the libraries used.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};

/// Indices of the images in each part, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Images to train on.
    pub train: Vec<usize>,
    /// Images to choose the best epoch with.
    pub val: Vec<usize>,
    /// Images to test with; empty where the test images come from elsewhere.
    pub test: Vec<usize>,
}

impl Parts {
    fn extend(&mut self, part: Parts) {
        for (all, new) in
            [(&mut self.train, part.train), (&mut self.val, part.val), (&mut self.test, part.test)]
        {
            all.extend(new);
            all.sort_unstable();
        }
    }
}

/// What random numbers are for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Which image is in which part.
    Split = 1,
    /// Which outliers are in a test set.
    Outliers = 2,
    /// How copies of training images are changed.
    Augment = 3,
}

/// Per class, a tenth of its images (rounded down), drawn at random, is for validation, the rest
/// for training.
pub fn hold_out(labels: &[u8], seed: u64) -> Parts {
    per_class(labels, seed, |members| {
        let n = members.len() / 10;
        Parts { val: members[..n].to_vec(), train: members[n..].to_vec(), test: Vec::new() }
    })
}

/// Per class, shuffled into five equal folds: three for training, one for validation, one for test.
/// Where a class does not divide by five, fold i holds the members from `n * i / 5` to `n * (i + 1)
/// / 5`.
pub fn folds(labels: &[u8], seed: u64) -> Parts {
    per_class(labels, seed, |members| {
        let (train, val) = (members.len() * 3 / 5, members.len() * 4 / 5);
        Parts {
            train: members[..train].to_vec(),
            val: members[train..val].to_vec(),
            test: members[val..].to_vec(),
        }
    })
}

/// For `n` images of one class: a fifth (rounded down, at least one) for test if `with_test`, then
/// a tenth of the rest (rounded down, at least one) for validation, the rest for training.
///
/// # Errors
/// Fewer than three images, or two without test: some part would be empty.
pub fn one_class(n: usize, with_test: bool, seed: u64) -> Result<Parts> {
    let least = if with_test { 3 } else { 2 };
    if n < least {
        return Err(Error::invalid(format!(
            "{n} normal images to split, expected at least {least}"
        )));
    }
    Ok(per_class(&vec![0; n], seed, |members| {
        let (test, rest) = members.split_at(if with_test { (n / 5).max(1) } else { 0 });
        let (val, train) = rest.split_at((rest.len() / 10).max(1));
        Parts { train: train.to_vec(), val: val.to_vec(), test: test.to_vec() }
    }))
}

/// The test set of inlier class `inlier`: all its images, then `floor(n_in * ratio / (100 -
/// ratio))` images drawn at random from the others, each part ascending; and their labels (0
/// normal, 1 anomalous). The outliers of a smaller ratio are among those of a larger one.
///
/// # Errors
/// A ratio outside 1..=99, or more outliers wanted than there are.
pub fn test_set(labels: &[u8], inlier: u8, ratio: u32, seed: u64) -> Result<(Vec<usize>, Vec<u8>)> {
    if !(1..=99).contains(&ratio) {
        return Err(Error::Usage(format!(
            "outlier ratio {ratio}, expected 1 to 99 (percent of the test set)"
        )));
    }
    let (mut indices, mut others): (Vec<usize>, Vec<usize>) =
        (0..labels.len()).partition(|&i| labels[i] == inlier);
    let (normal, ratio) = (indices.len(), ratio as usize);
    let anomalous = normal * ratio / (100 - ratio);
    if anomalous > others.len() {
        return Err(Error::Usage(format!(
            "outlier ratio {ratio}: class {inlier} with its {normal} test images needs \
             {anomalous} images of other \
             classes, but there are {}; the ratio can be at most {}",
            others.len(),
            100 * others.len() / (normal + others.len())
        )));
    }
    shuffle(&mut others, &mut stream(seed, Purpose::Outliers, inlier));
    others.truncate(anomalous);
    others.sort_unstable();
    indices.extend(others);
    let labels = (0..indices.len()).map(|i| u8::from(i >= normal)).collect();
    Ok((indices, labels))
}

fn per_class(labels: &[u8], seed: u64, cut: impl Fn(&[usize]) -> Parts) -> Parts {
    let mut parts = Parts::default();
    for class in 0..=labels.iter().copied().max().unwrap_or(0) {
        let mut members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        shuffle(&mut members, &mut stream(seed, Purpose::Split, class));
        parts.extend(cut(&members));
    }
    parts
}

pub(super) fn stream(seed: u64, purpose: Purpose, class: u8) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream((purpose as u64) << 32 | u64::from(class));
    rng
}

/// Fisher-Yates, written out because the order a library's shuffle gives may change with its
/// version.
fn shuffle(items: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, rng) as usize);
    }
}

/// A uniform number below `n`: draws from the incomplete last run of `n` are thrown away.
pub(super) fn below(n: u64, rng: &mut ChaCha8Rng) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let x = rng.next_u64();
        if x < limit {
            return x % n;
        }
    }
}
