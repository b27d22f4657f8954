//! What is read out of a model about an image, and how it becomes a score.
//!
//! ```text
//! mse        L_rec of the image
//! cos_L      cosine between the image's own gradient dL_rec/dW of layer L and the reference: the
//!            training's for the decoder's layers, for the encoder's the mean gradient of the
//!            training images under the finished model
//! kl         KL(N(m, s^2) || N(0, I)) of the code, in nats; variational models
//! code       (c - m)' C^-1 (c - m): squared Mahalanobis distance of the code c from the codes of
//!            the training images, their mean m, C = (1 - s) cov + s mean(diag cov) I, s = 0.01
//! code_grad  the same of dL_rec/dc, the gradient that reaches the code, s = 0.1
//! code_place the code's distance from the codes of the training tiles at the same place of their
//!            images (places.rs); images that are cut and aligned
//! norm       sum of g^2 over the decoder's weights, g the image's own gradient
//! metric     sum of g^2 / F: its norm in the metric of Fisher's information, with
//!            F = (1 - s) f + s mean(f), f the mean of g^2 over the training images, s = 0.01
//! cos_fisher cosine, in that metric, between the image's own gradient in the encoder's last layer
//!            and the mean gradient m there: sum of g m / F over roots of sums of g g / F, m m / F
//! ```
//!
//! f comes from the gradients of batches, whose variance is that of images over their number: no
//! image's gradient is ever in memory. A [`Rule`] is a named sum of these [`Part`]s or of their
//! logarithms, as they are or standardised: z(v) = (v - mean) / deviation over the validation images.
//! All of it is fitted on normal images ([`Statistics`]); higher always means more anomalous.

pub mod places;
pub mod statistics;
pub mod step;

use std::fmt;

use nalgebra::{DMatrix, DVector};

use super::model::{Kind, Model};
use super::tiling::Tiling;
use crate::error::{Error, Result};
pub use statistics::Statistics;

/// A number that an image is measured by. As text it is the name of a table's column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `mse`
    Mse,
    /// `cos_up0`: of a layer.
    Cos(&'static str),
    /// `kl`
    Divergence,
    /// `code`
    Code,
    /// `code_grad`
    CodeGradient,
    /// `code_place`
    PlaceCode,
    /// `metric`
    Metric,
    /// `norm`
    Norm,
    /// `cos_fisher`
    Fisher,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Part::Mse => f.write_str("mse"),
            Part::Cos(layer) => write!(f, "cos_{}", layer.replace('.', "")),
            Part::Divergence => f.write_str("kl"),
            Part::Code => f.write_str("code"),
            Part::CodeGradient => f.write_str("code_grad"),
            Part::PlaceCode => f.write_str("code_place"),
            Part::Metric => f.write_str("metric"),
            Part::Norm => f.write_str("norm"),
            Part::Fisher => f.write_str("cos_fisher"),
        }
    }
}

/// What is measured beside the error and the cosines of the decoder's layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The divergence of the code.
    pub divergence: bool,
    /// The code's distance.
    pub code: bool,
    /// That of the gradient that reaches the code.
    pub code_gradient: bool,
    /// The gradient's norm, plain and in Fisher's metric.
    pub norms: bool,
    /// The cosine in that metric.
    pub fisher: bool,
    /// The cosines of the encoder's layers.
    pub encoder: bool,
    /// The code's distance from those of its place.
    pub places: bool,
    /// The code itself, which is no part: for what the host makes of it.
    pub vectors: bool,
}

impl Wanted {
    /// Everything that there is.
    pub fn all(model: &Model) -> Wanted {
        Wanted {
            divergence: model.kind() == Kind::Vae,
            code: true,
            code_gradient: true,
            norms: true,
            fisher: true,
            encoder: true,
            places: false,
            vectors: false,
        }
    }

    /// What either wants.
    fn or(self, other: Wanted) -> Wanted {
        Wanted {
            divergence: self.divergence || other.divergence,
            code: self.code || other.code,
            code_gradient: self.code_gradient || other.code_gradient,
            norms: self.norms || other.norms,
            fisher: self.fisher || other.fisher,
            encoder: self.encoder || other.encoder,
            places: self.places || other.places,
            vectors: self.vectors || other.vectors,
        }
    }

    /// Whether it takes [`Statistics`].
    pub fn is_fitted(self) -> bool {
        let code = self.code || self.code_gradient || self.places;
        code || self.norms || self.fisher || self.encoder
    }

    /// The parts that are measured, in order.
    pub fn parts(self, model: &Model) -> Vec<Part> {
        let mut parts = vec![Part::Mse];
        parts.extend(model.constrained_layers().into_iter().map(Part::Cos));
        if self.divergence {
            parts.push(Part::Divergence);
        }
        if self.code {
            parts.push(Part::Code);
        }
        if self.code_gradient {
            parts.push(Part::CodeGradient);
        }
        if self.norms {
            parts.extend([Part::Metric, Part::Norm]);
        }
        if self.fisher {
            parts.push(Part::Fisher);
        }
        if self.encoder {
            parts.extend(model.encoder_layers().into_iter().map(Part::Cos));
        }
        if self.places {
            parts.push(Part::PlaceCode);
        }
        parts
    }
}

/// A quantity that a rule adds up: a part, the logarithm of one, or the mean of some.
#[derive(Clone, PartialEq, Debug)]
pub enum Read {
    /// The part as it is.
    Plain(Part),
    /// Its natural logarithm, of at least the least normal f32.
    Log(Part),
    /// Mean of the cosines of the decoder's layers.
    Decoder,
    /// Mean of the cosines of the encoder's layers.
    Encoder,
}

impl Read {
    fn wanted(&self) -> Wanted {
        let none = Wanted::default();
        match self {
            Read::Plain(part) | Read::Log(part) => match part {
                Part::Mse => none,
                Part::Cos(layer) if layer.starts_with("up.") => none,
                Part::Cos(_) => Wanted { encoder: true, ..none },
                Part::Divergence => Wanted { divergence: true, ..none },
                Part::Code => Wanted { code: true, ..none },
                Part::CodeGradient => Wanted { code_gradient: true, ..none },
                Part::PlaceCode => Wanted { places: true, ..none },
                Part::Metric | Part::Norm => Wanted { norms: true, ..none },
                Part::Fisher => Wanted { fisher: true, ..none },
            },
            Read::Decoder => none,
            Read::Encoder => Wanted { encoder: true, ..none },
        }
    }

    /// Its value for an image whose `parts` have these values; `None` where one wasn't measured.
    fn of(&self, parts: &[Part], values: &[f64]) -> Option<f64> {
        let at = |part: Part| parts.iter().position(|&p| p == part).map(|i| values[i]);
        let mean = |prefix: &str| {
            let of = parts.iter().zip(values).filter_map(|(part, value)| match part {
                Part::Cos(layer) if layer.starts_with(prefix) => Some(*value),
                _ => None,
            });
            let cosines: Vec<f64> = of.collect();
            let sum: f64 = cosines.iter().sum();
            (!cosines.is_empty()).then(|| sum / cosines.len() as f64)
        };
        match self {
            Read::Plain(part) => at(*part),
            Read::Log(part) => at(*part).map(|v| v.max(f32::MIN_POSITIVE.into()).ln()),
            Read::Decoder => mean("up."),
            Read::Encoder => mean("down."),
        }
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Read::Plain(part) => part.fmt(f),
            Read::Log(part) => write!(f, "log {part}"),
            Read::Decoder => f.write_str("cos"),
            Read::Encoder => f.write_str("cos_encoder"),
        }
    }
}

/// A quantity with its weight.
#[derive(Clone, PartialEq, Debug)]
struct Term {
    weight: f64,
    read: Read,
    standardised: bool,
}

/// How the parts become a score, by a name. Its formula is its text.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::readout::Rule;
///
/// let model = Model::new(1);
/// let formula = |name| Rule::named(name, &model, 0.12).map(|rule| rule.to_string());
/// assert_eq!(formula("paper")?, "mse - 0.12 cos");
/// assert_eq!(formula("code")?, "log code");
/// assert_eq!(formula("up.4")?, "-cos_up4");
/// let error = formula("latent").unwrap_err().to_string();
/// assert!(error.contains("'latent'") && error.contains("variational"), "{error}");
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What it is called in tables and on the command line.
    pub name: String,
    terms: Vec<Term>,
    /// Whether the score is the terms' distance from those of the validation images, not their sum.
    joint: bool,
}

/// The paper's score.
pub const PAPER: &str = "paper";

/// The score that is taken where nobody says otherwise and the model has statistics.
pub const AUTO: &str = "auto";

/// The rules that have a name, without those of single layers, in the order of tables.
pub const NAMES: [&str; 11] = [
    AUTO,
    PAPER,
    "reconstruction",
    "latent",
    "gradient",
    "encoder",
    "code",
    "code-gradient",
    "norm",
    "metric",
    "fisher",
];

/// Rules that are only taken where somebody names them: what [`AUTO`] is for images that are cut
/// into tiles, of any place and of the same.
const FURTHER: [&str; 2] = ["joint", "code-place"];

impl Rule {
    fn new(name: &str, terms: &[(f64, Read, bool)]) -> Rule {
        let term = |(weight, read, standardised): &(f64, Read, bool)| Term {
            weight: *weight,
            read: read.clone(),
            standardised: *standardised,
        };
        Rule { name: name.into(), terms: terms.iter().map(term).collect(), joint: false }
    }

    /// How far an image's numbers are, together, from those of the validation images: root of
    /// z' R^-1 z, with z standardised and R = (1 - s) correlations + s I, s = 0.01. Too good a
    /// reconstruction counts, too: what is blurred is reconstructed better than what is normal.
    fn joint(name: &str) -> Rule {
        let reads = [Part::Mse, Part::CodeGradient].map(|part| (1.0, Read::Log(part), true));
        Rule { joint: true, ..Rule::new(name, &reads) }
    }

    /// The rule for a detector's images: [`AUTO`] is another one where they are cut into tiles.
    pub(crate) fn of_tiles(self, tiling: Option<Tiling>) -> Rule {
        match tiling.filter(|_| self.name == AUTO) {
            None => self,
            Some(Tiling { same_place: true, .. }) => Rule::new(AUTO, &Rule::code_place()),
            Some(_) => Rule::joint(AUTO),
        }
    }

    fn code_place() -> [(f64, Read, bool); 1] {
        [(1.0, Read::Log(Part::PlaceCode), false)]
    }

    /// The paper's: `mse - beta cos`. (With the other sign there: higher is more normal.)
    pub fn paper(beta: f64) -> Rule {
        Rule::new(PAPER, &[(1.0, Read::Plain(Part::Mse), false), (-beta, Read::Decoder, false)])
    }

    /// The paper's with another weight, by the name `beta=0.03`.
    pub fn of_beta(beta: f64) -> Rule {
        Rule { name: format!("beta={beta}"), ..Rule::paper(beta) }
    }

    /// `mse + kl_weight kl - beta cos`: the sum of the parts of a variational model's objective.
    pub fn sum(beta: f64, kl_weight: f64) -> Rule {
        let mut rule = Rule { name: "sum".into(), ..Rule::paper(beta) };
        if kl_weight > 0.0 {
            let (weight, read) = (kl_weight, Read::Plain(Part::Divergence));
            rule.terms.insert(1, Term { weight, read, standardised: false });
        }
        rule
    }

    /// The rule of this name; `beta` is the paper's rule's. Shown at [`Rule`].
    ///
    /// # Errors
    /// There is none of this name for this model.
    pub fn named(name: &str, model: &Model, beta: f64) -> Result<Rule> {
        let variational = model.kind() == Kind::Vae;
        let one = |weight: f64, read: Read| Ok(Rule::new(name, &[(weight, read, false)]));
        let layers = || model.encoder_layers().into_iter().chain(model.constrained_layers());
        match name {
            AUTO => Ok(Rule::new(
                AUTO,
                &[(1.0, Read::Log(Part::Code), true), (-0.125, Read::Plain(Part::Fisher), true)],
            )),
            PAPER => Ok(Rule::paper(beta)),
            "reconstruction" => one(1.0, Read::Plain(Part::Mse)),
            "latent" if variational => one(1.0, Read::Plain(Part::Divergence)),
            "gradient" => one(-1.0, Read::Decoder),
            "encoder" => one(-1.0, Read::Encoder),
            "code" => one(1.0, Read::Log(Part::Code)),
            "code-gradient" => one(1.0, Read::Log(Part::CodeGradient)),
            "norm" => one(1.0, Read::Log(Part::Norm)),
            "metric" => one(1.0, Read::Log(Part::Metric)),
            "fisher" => one(-1.0, Read::Plain(Part::Fisher)),
            "joint" => Ok(Rule::joint("joint")),
            "code-place" => Ok(Rule::new(name, &Rule::code_place())),
            "latent" => Err(Error::Usage(
                "score 'latent': the divergence of the code, which only a variational model has"
                    .into(),
            )),
            _ => match layers().find(|layer| *layer == name) {
                Some(layer) => one(-1.0, Read::Plain(Part::Cos(layer))),
                None => Err(Error::Usage(format!(
                    "no score '{name}': expected one of {}, or a layer of {}",
                    [&NAMES[..], &FURTHER].concat().join(", "),
                    layers().collect::<Vec<_>>().join(", ")
                ))),
            },
        }
    }

    /// All rules of [`NAMES`] that there are for a model, in that order.
    pub fn all(model: &Model, beta: f64) -> Vec<Rule> {
        NAMES.iter().filter_map(|name| Rule::named(name, model, beta).ok()).collect()
    }

    /// What it takes beside the error and the decoder's cosines.
    pub fn wanted(&self) -> Wanted {
        self.terms.iter().fold(Wanted::default(), |all, term| all.or(term.read.wanted()))
    }

    /// What several rules take.
    pub fn all_wanted(rules: &[Rule]) -> Wanted {
        rules.iter().fold(Wanted::default(), |all, rule| all.or(rule.wanted()))
    }

    /// Whether it takes [`Statistics`].
    pub fn is_fitted(&self) -> bool {
        self.wanted().is_fitted() || self.terms.iter().any(|term| term.standardised)
    }

    /// That a model has no statistics, which this rule takes.
    pub(crate) fn lacks_statistics(&self) -> Error {
        Error::invalid(format!(
            "the model has no statistics of normal images, which the score '{}' = {self} takes: \
             evaluate its run (`gradcon eval RUN`), which stores them, or score by one of \
             {PAPER}, reconstruction, gradient",
            self.name
        ))
    }

    /// The rule as a function of what is measured, with a model's statistics.
    ///
    /// # Errors
    /// It takes statistics, and there are none.
    pub fn fixed(&self, statistics: Option<&Statistics>) -> Result<Fixed> {
        let statistics = match statistics {
            None if self.is_fitted() => return Err(self.lacks_statistics()),
            statistics => statistics,
        };
        let mut terms = vec![];
        let mut columns: Vec<Vec<f64>> = vec![];
        for term in &self.terms {
            let Some(Statistics { validation, .. }) = statistics.filter(|_| term.standardised)
            else {
                terms.push((term.clone(), 0.0, 1.0));
                continue;
            };
            let read: Option<Vec<f64>> =
                validation.rows().map(|row| term.read.of(&validation.parts, &row)).collect();
            let read = read.ok_or_else(|| self.lacks_statistics())?;
            let (mean, deviation) = moments(&read);
            columns.push(read.iter().map(|v| (v - mean) / deviation).collect());
            terms.push((term.clone(), mean, deviation));
        }
        let inverse = if self.joint { Some(inverse_correlations(&columns)?) } else { None };
        Ok(Fixed { terms, inverse })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.joint {
            let reads: Vec<String> = self.terms.iter().map(|term| term.read.to_string()).collect();
            return write!(f, "distance({})", reads.join(", "));
        }
        for (i, Term { weight, read, standardised }) in self.terms.iter().enumerate() {
            let sign = match (i, *weight < 0.0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            f.write_str(sign)?;
            match weight.abs() {
                1.0 => {}
                small if small < 1e-3 => write!(f, "{small:.3e} ")?,
                weight => write!(f, "{weight} ")?,
            }
            match standardised {
                true => write!(f, "z({read})")?,
                false => write!(f, "{read}")?,
            }
        }
        Ok(())
    }
}

/// A rule whose statistics are known.
#[derive(Clone, PartialEq, Debug)]
pub struct Fixed {
    /// With the mean and the deviation that each is standardised by.
    terms: Vec<(Term, f64, f64)>,
    /// R^-1, of a rule that is a distance.
    inverse: Option<DMatrix<f64>>,
}

impl Fixed {
    /// The score of an image whose `parts` have these values.
    ///
    /// # Errors
    /// A part that the rule takes isn't among them.
    pub fn of(&self, parts: &[Part], values: &[f64]) -> Result<f64> {
        let mut numbers = DVector::zeros(self.terms.len());
        for (number, (term, mean, deviation)) in numbers.iter_mut().zip(&self.terms) {
            let value = term.read.of(parts, values);
            let value =
                value.ok_or_else(|| Error::invalid(format!("'{}' was not measured", term.read)))?;
            *number = term.weight * ((value - mean) / deviation);
        }
        Ok(match &self.inverse {
            Some(inverse) => numbers.dot(&(inverse * &numbers)).max(0.0).sqrt(),
            None => numbers.sum(),
        })
    }
}

/// s of the correlations.
const JOINT_SHRINKAGE: f64 = 0.01;

/// R^-1 of standardised columns.
fn inverse_correlations(columns: &[Vec<f64>]) -> Result<DMatrix<f64>> {
    let mean = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len().max(1) as f64
    };
    let correlations = DMatrix::from_fn(columns.len(), columns.len(), |i, k| {
        let own = if i == k { JOINT_SHRINKAGE } else { 0.0 };
        (1.0 - JOINT_SHRINKAGE) * mean(&columns[i], &columns[k]) + own
    });
    correlations
        .try_inverse()
        .ok_or_else(|| Error::invalid("the parts of the validation images are not finite"))
}

/// Mean and deviation (divisor n); a deviation of 0 counts as 1.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    (mean, if deviation == 0.0 { 1.0 } else { deviation })
}
