//! Figures that others published for this method, to stand beside ours.

use serde::{Deserialize, Serialize};

/// What somebody found on a dataset, by the paper's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Who.
    pub source: String,
    /// AUROC, mean over the classes (of several runs their mean).
    pub mean: f64,
    /// AUROC of each class, in the dataset's order; empty where it isn't known.
    pub by_class: Vec<f64>,
}

/// The paper's own figures.
const AUTHORS: &str = "the paper, 1,000 epochs";

/// The figures for a dataset, by the name that `gradcon prep` knows; none for most.
///
/// ```
/// let figures = gradcon::report::published::of("mnist");
/// assert_eq!((figures.len(), figures[0].mean), (1, 0.973));
/// ```
pub fn of(dataset: &str) -> Vec<Published> {
    let authors = |mean| Published { source: AUTHORS.into(), mean, by_class: vec![] };
    match dataset {
        "mnist" => vec![authors(0.973)],
        "fmnist" => vec![authors(0.934)],
        "cifar-10" => vec![
            authors(0.664),
            Published {
                source: "two outside runs of the authors' program, their mean".into(),
                mean: (0.6160 + 0.6215) / 2.0,
                by_class: vec![
                    0.740, 0.499, 0.620, 0.591, 0.714, 0.544, 0.693, 0.530, 0.766, 0.490,
                ],
            },
        ],
        _ => vec![],
    }
}

/// The shares of outliers, in percent, of the test sets that the paper evaluates on a dataset of ten
/// classes: those of its figure of F1 for Fashion-MNIST, 50 for the others.
pub fn outlier_percents(dataset: &str) -> &'static [u32] {
    match dataset {
        "fmnist" => &[10, 20, 30, 40, 50],
        _ => &[50],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_class_have_the_mean_that_is_published() {
        for dataset in ["mnist", "fmnist", "cifar-10"] {
            for Published { mean, by_class, .. } in of(dataset) {
                let own = by_class.iter().sum::<f64>() / by_class.len() as f64;
                assert!(by_class.is_empty() || (own - mean).abs() < 5e-4, "{dataset}: {own}");
            }
        }
        assert!(of("cure-tsr").is_empty());
    }
}
