//! What a model does with one image, all of it: every layer's output, every gradient of the error,
//! and the gradient of the paper's score in the image's own pixels.
//!
//! ```text
//! L     squared error of the image, mean over its values
//! g_i   dL / dW_i of each decoder layer, r_i its reference
//! S     = L - beta mean over i of cos(g_i, r_i)          the paper's score
//! dS/dx   the error's gradient in the pixels, and that of the cosines of its gradients: g_i is the
//!         result of one reverse sweep, and the sweep that gives dS/dx runs through it
//! ```
//!
//! Everything is named and laid out as PyTorch's module of the same layers has it, so that a
//! notebook can hold it against autograd's (`tools/check_inspection.py`).

use std::collections::HashMap;
use std::path::Path;

use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

use super::detector::{Detector, le_bytes, tensor_bytes};
use super::feed::REFERENCE;
use super::model::{Forward, Model, PARAMS, Param};
use super::objective::{Objective, Terms, objective};
use crate::engine::{Data, Engine, Loaded};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::images::Images;
use crate::layout::{Segment, Shape};
use crate::program::{Options, compile};
use crate::tape::{Tape, Tensor};

/// The image `[size, size, channels, 1]`, values from 0 to 1.
const X: &str = "inspect.x";

/// A tensor of one image, in PyTorch's layout.
#[derive(Clone, PartialEq, Debug)]
pub struct Named {
    /// `up.0.output`, `grad.up.0.weight`, ...: see [`Inspector::inspect`].
    pub name: String,
    /// Its shape in PyTorch, without an axis for the batch.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// What a model does with one image.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspection {
    /// Squared error, mean over the image's values.
    pub mse: f64,
    /// Cosine of gradient and reference of each decoder layer, first to last.
    pub cosines: Vec<f64>,
    /// The paper's score.
    pub score: f64,
    /// Everything by name.
    pub tensors: Vec<Named>,
}

impl Inspection {
    /// A tensor's values. Shown at [`Inspector`].
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn values(&self, name: &str) -> &[f32] {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        &found.unwrap_or_else(|| panic!("no tensor '{name}' in an inspection")).values
    }
}

/// The decoder's gradient of one image, and what follows from it.
#[derive(Clone, PartialEq, Debug)]
pub struct Direction {
    /// As [`Inspection::mse`].
    pub mse: f64,
    /// As [`Inspection::cosines`].
    pub cosines: Vec<f64>,
    /// As [`Inspection::score`].
    pub score: f64,
    /// All g_i, flat like the reference gradients.
    pub gradient: Vec<f32>,
}

/// How a stored tensor is laid out outside.
enum Layout {
    /// Like a parameter.
    Parameter(Param),
    /// `[h, w, c, 1]` inside, `[c, h, w]` outside; `[1, 1, c, 1]` is `[c]`.
    Image(Shape),
}

impl Layout {
    fn torch(&self, name: String, values: &[f32]) -> Named {
        match self {
            Layout::Parameter(param) => {
                Named { name, shape: param.torch_shape.clone(), values: param.from_flat(values) }
            }
            &Layout::Image([1, 1, c, _]) => Named { name, shape: vec![c], values: values.to_vec() },
            &Layout::Image([h, w, c, _]) => {
                let pixel = |i: usize| values[i % (h * w) * c + i / (h * w)];
                Named { name, shape: vec![c, h, w], values: (0..h * w * c).map(pixel).collect() }
            }
        }
    }
}

/// Looks at images with one detector on an engine, which it has to itself.
///
/// ```
/// use gradcon::engine::cpu;
/// use gradcon::method::inspect::Inspector;
/// use gradcon::{Detector, Images, Init, Model, Scorer};
///
/// let model = Model::new(1);
/// # let detector = Detector {
/// #     params: model.init(Init::Kaiming, 0),
/// #     reference: (0..model.reference_len()).map(|i| (i % 7) as f32 - 3.0).collect(),
/// #     statistics: None,
/// #     description: Default::default(),
/// #     model,
/// # };
/// // let detector = Detector::load("model.safetensors".as_ref())?;
/// let image = Images::new((0..784).map(|i| (i % 251) as u8).collect(), [1, 28, 28, 1])?;
/// let mut engine = cpu::f32();
/// let seen = Inspector::new(engine.as_mut(), &detector)?.inspect(&image)?.swap_remove(0);
/// assert_eq!(seen.values("grad.up.0.weight").len(), 64 * 64 * 4 * 4);
/// assert_eq!(seen.values("score_grad.input").len(), 784);
/// let directions = Inspector::new(engine.as_mut(), &detector)?.directions(&image)?;
/// assert_eq!(directions[0].cosines, seen.cosines);
/// // Its score is the scorer's.
/// let score = Scorer::new(engine.as_mut(), &detector)?.score(&image)?.swap_remove(0);
/// assert!((score.score - seen.score).abs() < 1e-5);
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Inspector<'e> {
    engine: &'e mut dyn Engine,
    model: Model,
    reference: Vec<f32>,
    beta: f64,
    whole: Loaded,
    direction: Loaded,
    stored: Vec<(String, Layout)>,
}

/// Where the decoder's gradient of an image is left.
const GRADIENT: &str = "inspect.gradient";
/// And its squared error.
const MSE: &str = "inspect.mse";

impl<'e> Inspector<'e> {
    /// Loads the detector onto the engine. Shown at [`Inspector`].
    ///
    /// # Errors
    /// A device that can't hold the program; a description with a senseless beta.
    pub fn new(engine: &'e mut dyn Engine, detector: &Detector) -> Result<Inspector<'e>> {
        engine.clear();
        let (model, beta) = (detector.model.clone(), detector.beta()?);
        let options = Options { form: engine.form(), ..Options::default() };
        let mut tape = Tape::new();
        let stored = everything(&mut tape, &model, beta);
        let whole = engine.load(&compile("inspect", &tape, options))?;
        let mut tape = Tape::new();
        gradient(&mut tape, &model);
        let direction = engine.load(&compile("direction", &tape, options))?;
        engine.write(PARAMS, Data::F32(&detector.params))?;
        engine.write(REFERENCE, Data::F32(&detector.reference))?;
        let reference = detector.reference.clone();
        Ok(Inspector { engine, model, reference, beta, whole, direction, stored })
    }

    /// Everything about each image `[n, size, size, channels]` that the model sees:
    ///
    /// - `input`, `reconstruction`;
    /// - `down.0.output`, ..., `up.0.output`, ...: what a layer gives with its bias, before its
    ///   activation; of a variational model also `fc11.output` (the mean of the latent variable),
    ///   `fc12.output` (the logarithm of its variance);
    /// - `grad.down.0.weight`, `grad.down.0.bias`, ...: dL/dθ of every parameter;
    /// - `grad.down.0.output`, ...: dL in each of these outputs;
    /// - `grad.input`, `score_grad.input`: dL/dx and dS/dx.
    ///
    /// Shown at [`Inspector`].
    ///
    /// # Errors
    /// Images of another shape than the model's; a device failure; numbers that are not finite.
    pub fn inspect(&mut self, images: &Images) -> Result<Vec<Inspection>> {
        let mut all = vec![];
        for i in 0..self.check(images)?.n {
            let Direction { mse, cosines, score, .. } = self.look(self.whole, images, i)?;
            let mut tensors = vec![];
            for k in 0..self.stored.len() {
                let (name, layout) = &self.stored[k];
                let values = self.engine.read_f32(&buffer(name))?;
                tensors.push(layout.torch(name.clone(), &values));
            }
            all.push(Inspection { mse, cosines, score, tensors });
        }
        Ok(all)
    }

    /// The decoder's gradient of each image `[n, size, size, channels]` that the model sees. Shown at
    /// [`Inspector`].
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn directions(&mut self, images: &Images) -> Result<Vec<Direction>> {
        let n = self.check(images)?.n;
        (0..n).map(|i| self.look(self.direction, images, i)).collect()
    }

    fn check<'i>(&self, images: &'i Images) -> Result<&'i Images> {
        self.model.check_images(images)?;
        Ok(images)
    }

    /// Runs a program on image `i`.
    fn look(&mut self, program: Loaded, images: &Images, i: usize) -> Result<Direction> {
        let x: Vec<f32> = images.image(i).iter().map(|&v| f32::from(v) / 255.0).collect();
        self.engine.write(X, Data::F32(&x))?;
        self.engine.run(program, 0..1)?;
        let mse = f64::from(self.engine.read_f32(MSE)?[0]);
        let gradient = self.engine.read_f32(GRADIENT)?;
        let cosine = |&Segment { offset, len }: &Segment| {
            cosine(&gradient[offset..][..len], &self.reference[offset..][..len])
        };
        let cosines: Vec<f64> = self.model.segments().iter().map(cosine).collect();
        let score = mse - self.beta * cosines.iter().sum::<f64>() / cosines.len() as f64;
        match score.is_finite() {
            true => Ok(Direction { mse, cosines, score, gradient }),
            false => Err(Error::invalid(format!("image {i}: its score is {score}"))),
        }
    }
}

/// The cosine of two vectors; 0 where one of them is 0.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

/// Directions in the plane of their two principal axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Plane {
    /// Of each gradient.
    pub points: Vec<[f64; 2]>,
    /// Of the reference.
    pub reference: [f64; 2],
    /// How much of their variance each axis has.
    pub variance: [f64; 2],
}

impl Plane {
    /// The plane of gradients, flat like the model's references. Every layer's is divided by its
    /// norm first, so that all layers count the same.
    ///
    /// ```
    /// use gradcon::Model;
    /// use gradcon::method::inspect::Plane;
    ///
    /// let model = Model::new(1);
    /// let along = |i: usize| {
    ///     let mut gradient = vec![0.0; model.reference_len()];
    ///     gradient[i] = 2.0;
    ///     gradient
    /// };
    /// let plane = Plane::of(&model, &[along(0), along(0), along(1)], &along(1));
    /// let apart = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    /// assert!(apart(plane.points[0], plane.points[1]) < 1e-9);
    /// assert!((apart(plane.points[0], plane.points[2]) - 2f64.sqrt()).abs() < 1e-9);
    /// assert!((plane.points[2][0] - plane.reference[0]).abs() < 1e-9);
    /// assert!((plane.variance[0] - 1.0).abs() < 1e-9);
    /// ```
    ///
    /// # Panics
    /// Without gradients, or if one has another length.
    pub fn of(model: &Model, gradients: &[Vec<f32>], reference: &[f32]) -> Plane {
        let segments = model.segments();
        let direction = |gradient: &[f32]| {
            let mut direction = gradient.to_vec();
            for &Segment { offset, len } in &segments {
                let part = &mut direction[offset..][..len];
                let norm = part.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
                part.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
            }
            direction
        };
        let mut rows: Vec<Vec<f32>> = gradients.par_iter().map(|g| direction(g)).collect();
        let n = rows.len();
        rows.push(direction(reference));
        // X X' of a few rows is smaller than X' X of many columns, and has the same eigenvalues.
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let products: Vec<f64> = (0..n * (n + 1))
            .into_par_iter()
            .map(|k| dot(&rows[k / (n + 1)], &rows[k % (n + 1)]))
            .collect();
        let products = DMatrix::from_row_slice(n, n + 1, &products);
        // Centred: without the mean of the n directions, which the reference is none of.
        let of_all = products.columns(0, n);
        let means = of_all.row_mean();
        let mean = means.mean();
        let centred = DMatrix::from_fn(n, n + 1, |i, j| {
            let other = if j < n { means[j] } else { products.column(n).mean() };
            products[(i, j)] - means[i] - other + mean
        });
        let eigen = SymmetricEigen::new(centred.columns(0, n).into_owned());
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let trace = eigen.eigenvalues.sum().max(f64::MIN_POSITIVE);
        let mut plane =
            Plane { points: vec![[0.0; 2]; n], reference: [0.0; 2], variance: [0.0; 2] };
        for (axis, &k) in order.iter().take(2).enumerate() {
            let value = eigen.eigenvalues[k];
            // What rounding leaves of nothing has no direction.
            if value <= 1e-9 * trace {
                break;
            }
            let vector = eigen.eigenvectors.column(k);
            plane.variance[axis] = value / trace;
            for (point, &v) in plane.points.iter_mut().zip(vector.iter()) {
                point[axis] = v * value.sqrt();
            }
            plane.reference[axis] = vector.dot(&centred.column(n)) / value.sqrt();
        }
        plane
    }
}

/// The buffer of a stored tensor.
fn buffer(name: &str) -> String {
    format!("inspect.{name}")
}

/// Records the decoder's gradient of one image.
fn gradient(tape: &mut Tape, model: &Model) -> (Tensor, Objective) {
    tape.label("image");
    let x = tape.leaf(X, model.shape(1));
    // An image is its own batch.
    let weight = tape.fill([1; 4], 1.0);
    let terms = Terms { alpha: Some(0.0), ..Terms::default() };
    let objective = objective(tape, model, (x, weight), None, terms);
    tape.store(objective.mse, MSE);
    tape.store(objective.gradients, GRADIENT);
    (x, objective)
}

/// Records the paper's score of one image, `L - beta mean cos`, from the objective that has its
/// gradients; a scalar.
///
/// ```
/// use gradcon::Model;
/// use gradcon::method::inspect::paper_score;
/// use gradcon::method::objective::{Terms, objective};
/// use gradcon::tape::Tape;
///
/// let (model, mut tape) = (Model::new(1), Tape::new());
/// let x = tape.leaf("x", model.shape(1));
/// let weight = tape.fill([1; 4], 1.0);
/// let objective = objective(&mut tape, &model, (x, weight), None, Terms::default());
/// let score = paper_score(&mut tape, &objective, 0.12);
/// let slope = tape.grad(score, &[x])[0]; // of gradients of a gradient
/// assert_eq!(tape.shape(slope), [28, 28, 1, 1]);
/// ```
pub fn paper_score(tape: &mut Tape, objective: &Objective, beta: f64) -> Tensor {
    let weighted = tape.affine(objective.constraint, beta, 0.0);
    tape.add(objective.mse, weighted)
}

/// Records everything, and says what is stored and how it is laid out.
fn everything(tape: &mut Tape, model: &Model, beta: f64) -> Vec<(String, Layout)> {
    let (x, objective) = gradient(tape, model);
    let Forward { reconstruction, params, latent, encoder, constrained, .. } = &objective.forward;
    let param = |name: &str| model.params().iter().position(|p| p.name == name);
    let mut outputs = vec![];
    let layers = model.encoder_layers().into_iter().chain(model.constrained_layers());
    for (name, layer) in layers.zip(encoder.iter().chain(constrained)) {
        let bias = param(&format!("{name}.bias")).expect("every layer has a bias");
        let bias = tape.broadcast(params[bias], tape.shape(layer.sum));
        outputs.push((name, tape.add(layer.sum, bias)));
    }
    if let Some(latent) = latent {
        outputs.extend([("fc11", latent.mean), ("fc12", latent.log_variance)]);
    }
    let mut stored = vec![];
    let mut keep = |tape: &mut Tape, tensor: Tensor, name: String, layout: Option<&Param>| {
        let layout = match layout {
            Some(param) => Layout::Parameter(param.at(0)),
            None => Layout::Image(tape.shape(tensor)),
        };
        tape.store(tensor, &buffer(&name));
        stored.push((name, layout));
    };
    keep(tape, x, "input".into(), None);
    keep(tape, *reconstruction, "reconstruction".into(), None);
    tape.label("gradient");
    let of: Vec<Tensor> = outputs.iter().map(|&(_, output)| output).collect();
    let gradients = tape.grad(objective.mse, &[&of, &params[..], &[x]].concat());
    for ((name, output), &gradient) in outputs.iter().zip(&gradients) {
        keep(tape, *output, format!("{name}.output"), None);
        keep(tape, gradient, format!("grad.{name}.output"), None);
    }
    for (param, &gradient) in model.params().iter().zip(&gradients[of.len()..]) {
        keep(tape, gradient, format!("grad.{}", param.name), Some(param));
    }
    keep(tape, gradients[gradients.len() - 1], "grad.input".into(), None);
    tape.label("score gradient");
    let score = paper_score(tape, &objective, beta);
    let slope = tape.grad(score, &[x]);
    keep(tape, slope[0], "score_grad.input".into(), None);
    stored
}

/// Writes inspections as one safetensors file: each tensor with an axis for the images in front,
/// the reference gradients, `mse`, `score` and `cosines`; the images' names are metadata.
///
/// # Errors
/// The file can't be written.
pub fn dump(path: &Path, detector: &Detector, all: &[(String, Inspection)]) -> Result<()> {
    let n = all.len();
    let numbers = |of: &dyn Fn(&Inspection) -> Vec<f64>| -> Vec<u8> {
        let values: Vec<f32> =
            all.iter().flat_map(|(_, seen)| of(seen)).map(|v| v as f32).collect();
        le_bytes(&values)
    };
    let layers = detector.model.segments().len();
    let mut tensors = vec![
        ("mse".to_string(), vec![n], numbers(&|seen| vec![seen.mse])),
        ("score".to_string(), vec![n], numbers(&|seen| vec![seen.score])),
        ("cosines".to_string(), vec![n, layers], numbers(&|seen| seen.cosines.clone())),
    ];
    for param in detector.model.constrained_weights() {
        let values = le_bytes(&param.from_flat(&detector.reference));
        tensors.push((format!("ref_grad.{}", param.name), param.torch_shape.clone(), values));
    }
    let first = all.first().map(|(_, seen)| &seen.tensors[..]).unwrap_or_default();
    for Named { name, shape, .. } in first {
        let values = all.iter().flat_map(|(_, seen)| seen.values(name)).copied();
        let shape = [&[n], &shape[..]].concat();
        tensors.push((name.clone(), shape, le_bytes(&values.collect::<Vec<f32>>())));
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| &name[..]).collect();
    let metadata = HashMap::from([
        ("format".to_string(), "pt".to_string()),
        ("images".to_string(), serde_json::to_string(&names).unwrap_or_default()),
        ("beta".to_string(), detector.beta()?.to_string()),
    ]);
    write_atomically(path, &tensor_bytes(&tensors, metadata)?)
}
