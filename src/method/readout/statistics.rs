//! What is known of normal images: how it is fitted, and how a model file keeps it.

use nalgebra::{Cholesky, DMatrix, DVector};

use super::places::{Gathered, Places};
use super::step::encoder_layout;
use super::{Part, Wanted};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::method::detector::{Detector, TensorFile, le_bytes};
use crate::method::feed::{Batches, Feed, log};
use crate::method::model::Model;
use crate::method::programs::fit_program;
use crate::method::scorer::Scorer;
use crate::program::{Options, Precision};

/// s: how much of a covariance, or of a gradient's mean square, is replaced by its mean over the
/// diagonal. What normal images say nothing of is not infinitely unlikely.
const CODE_SHRINKAGE: f64 = 0.01;
const CODE_GRADIENT_SHRINKAGE: f64 = 0.1;
const FISHER_SHRINKAGE: f64 = 0.01;

/// What is known of the normal images of a detector. The formulas are at [`super`].
#[derive(Clone, PartialEq, Debug)]
pub struct Statistics {
    /// Of the codes of the training images.
    pub code: Spread,
    /// Of the gradients that reach them.
    pub code_gradient: Spread,
    /// Mean gradient of L_rec in the encoder's weights, flat.
    pub encoder_reference: Vec<f32>,
    /// f of the encoder's weights.
    pub encoder_squares: Vec<f32>,
    /// f of the decoder's weights, in the reference's layout.
    pub squares: Vec<f32>,
    /// Of the codes at each place, where images are cut and aligned.
    pub places: Option<Places>,
    /// All parts of every validation image: what rules are standardised by, and thresholds come
    /// from.
    pub validation: Measured,
}

/// How vectors of `code_len` numbers are distributed.
#[derive(Clone, PartialEq, Debug)]
pub struct Spread {
    /// Their mean m, `[code_len]`.
    pub mean: Vec<f32>,
    /// W `[code_len, code_len]`, lower triangular, with `W' W = C^-1`.
    pub whitening: Vec<f32>,
}

/// Parts of images, a row each, as the device measured them.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// What is measured.
    pub parts: Vec<Part>,
    /// `[images, parts]`
    pub values: Vec<f32>,
}

impl Measured {
    /// Rows, one an image.
    pub fn rows(&self) -> impl Iterator<Item = Vec<f64>> + use<'_> {
        self.values
            .chunks_exact(self.parts.len())
            .map(|row| row.iter().map(|&v| v.into()).collect())
    }
}

/// Images in a batch, and batches that are fitted between two transfers.
const BATCH: usize = 64;
const STEPS: usize = 8;

impl Statistics {
    /// Fits the statistics of a detector on its training and validation images.
    ///
    /// # Errors
    /// No images, or images of another shape than the model's; a device failure; numbers that are
    /// not finite.
    pub(crate) fn fit(
        engine: &mut dyn Engine,
        detector: &Detector,
        train: &Images,
        validation: &Images,
    ) -> Result<Statistics> {
        let model = &detector.model;
        if train.n == 0 || validation.n == 0 {
            return Err(Error::invalid("statistics of no images: expected at least one"));
        }
        let tiling = detector.tiling()?.filter(|tiling| tiling.same_place);
        let gathered = tiling.map(|tiling| Gathered::new(tiling.tiles.count(), model.code_len()));
        let mut sums = Sums::of(engine, detector, train, gathered)?;
        let places = sums.gathered.take().map(|gathered| gathered.fitted()).transpose()?;
        let (gradient, mut squares) = (sums.gradient(), sums.squares());
        let head = model.reference_len();
        let encoder_squares = squares.split_off(head);
        let encoder_reference = gradient[head..].to_vec();
        let code = sums.code.fitted(CODE_SHRINKAGE)?;
        let code_gradient = sums.code_gradient.fitted(CODE_GRADIENT_SHRINKAGE)?;
        let measured = Measured { parts: vec![], values: vec![] };
        let mut fitted = Detector {
            statistics: Some(Statistics {
                code,
                code_gradient,
                encoder_reference,
                encoder_squares,
                squares,
                places,
                validation: measured,
            }),
            ..detector.clone()
        };
        let has_places = fitted.statistics.as_ref().is_some_and(|s| s.places.is_some());
        let wanted = Wanted { places: has_places, ..Wanted::all(model) };
        let parts = wanted.parts(model);
        let rows =
            Scorer::measuring(engine, &fitted, wanted, Precision::F32)?.measure(validation)?;
        let values: Vec<f32> = rows.iter().flatten().map(|&v| v as f32).collect();
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let (image, part) = (i / parts.len(), parts[i % parts.len()]);
            return Err(Error::invalid(format!(
                "{part} of validation image {image} is {}, expected a finite number",
                values[i]
            )));
        }
        let mut statistics = fitted.statistics.take().expect("it was just set");
        statistics.validation = Measured { parts, values };
        Ok(statistics)
    }

    /// 1 / F of the decoder's weights, in the reference's layout.
    pub(crate) fn decoder_metric(&self, model: &Model) -> Vec<f32> {
        let places = model.segments().into_iter().flat_map(|s| s.offset..s.offset + s.len);
        inverse(&self.squares, &places.collect::<Vec<_>>())
    }

    /// m and 1 / F of the encoder's last layer.
    pub(crate) fn last_encoder(&self, model: &Model) -> (&[f32], Vec<f32>) {
        let (offsets, _) = encoder_layout(model);
        let last = model.encoder_weights().zip(offsets).last();
        let (first, len) = last.map_or((0, 0), |(weight, offset)| (offset, weight.len()));
        let squares = &self.encoder_squares[first..first + len];
        let metric = inverse(squares, &(0..len).collect::<Vec<_>>());
        (&self.encoder_reference[first..first + len], metric)
    }
}

/// 1 / F of the elements at these places, the others 0: also where no image has a gradient whose
/// square f32 can hold.
fn inverse(squares: &[f32], places: &[usize]) -> Vec<f32> {
    let sum: f64 = places.iter().map(|&i| f64::from(squares[i])).sum();
    let mean = sum / places.len() as f64;
    let mut inverse = vec![0.0; squares.len()];
    for &i in places {
        let shrunk = (1.0 - FISHER_SHRINKAGE) * f64::from(squares[i]) + FISHER_SHRINKAGE * mean;
        let is_there = shrunk > f32::MIN_POSITIVE.into();
        inverse[i] = if is_there { (1.0 / shrunk) as f32 } else { 0.0 };
    }
    inverse
}

/// Sums over the training images.
struct Sums {
    images: f64,
    batches: f64,
    /// Of the batches' gradients, decoder's and encoder's, each times its images.
    gradient: Vec<f64>,
    /// Of their squares, each times its images.
    square: Vec<f64>,
    code: Vectors,
    code_gradient: Vectors,
    gathered: Option<Gathered>,
}

impl Sums {
    fn of(
        engine: &mut dyn Engine,
        detector: &Detector,
        train: &Images,
        gathered: Option<Gathered>,
    ) -> Result<Sums> {
        let model = &detector.model;
        model.check_images(train)?;
        engine.clear();
        let options = Options { replicas: 1, form: engine.form(), precision: Precision::F32 };
        let program = engine.load(&fit_program(model, BATCH, STEPS, options))?;
        Feed::of("fit", engine).params(&detector.params)?;
        let (pixels, code_len) = (model.pixels(), model.code_len());
        let flat = model.reference_len() + encoder_layout(model).1;
        let width = flat + 2 * code_len * BATCH;
        let mut sums = Sums {
            images: train.n as f64,
            batches: train.n.div_ceil(BATCH) as f64,
            gradient: vec![0.0; flat],
            square: vec![0.0; flat],
            code: Vectors::new(code_len),
            code_gradient: Vectors::new(code_len),
            gathered,
        };
        for chunk in train.data.chunks(BATCH * STEPS * pixels) {
            let count = chunk.len() / pixels;
            let mut data = chunk.to_vec();
            data.resize(BATCH * STEPS * pixels, 0);
            Feed::of("fit", engine)
                .images(&data)?
                .batches(&Batches::at_first(count, BATCH, STEPS))?;
            engine.run(program, 0..count.div_ceil(BATCH) as u32)?;
            let log = engine.read(&log("fit"))?;
            let mut codes = DMatrix::zeros(count, code_len);
            let mut code_gradients = codes.clone();
            for (step, row) in log.chunks_exact(width).take(count.div_ceil(BATCH)).enumerate() {
                let images = BATCH.min(count - step * BATCH);
                for (i, &g) in row[..flat].iter().enumerate() {
                    sums.gradient[i] += images as f64 * g;
                    sums.square[i] += images as f64 * g * g;
                }
                let (code, gradient) = row[flat..].split_at(code_len * BATCH);
                for i in 0..images {
                    for k in 0..code_len {
                        let at = (step * BATCH + i, k);
                        codes[at] = code[k * BATCH + i];
                        // L_rec is the batch's mean there.
                        code_gradients[at] = images as f64 * gradient[k * BATCH + i];
                    }
                }
            }
            if let Some(gathered) = &mut sums.gathered {
                codes.row_iter().for_each(|code| gathered.add(code.iter().copied()));
            }
            sums.code.add(codes);
            sums.code_gradient.add(code_gradients);
        }
        Ok(sums)
    }

    /// The mean of the images' gradients.
    fn gradient(&self) -> Vec<f32> {
        self.gradient.iter().map(|g| (g / self.images) as f32).collect()
    }

    /// The mean of their squares, from the batches': a batch's mean varies as an image's gradient
    /// does, over the number of its images.
    fn squares(&self) -> Vec<f32> {
        let of = |(sum, square): (&f64, &f64)| {
            let mean = sum / self.images;
            let between = (square - self.images * mean * mean).max(0.0);
            (mean * mean + between / (self.batches - 1.0).max(1.0)) as f32
        };
        self.gradient.iter().zip(&self.square).map(of).collect()
    }
}

/// Sums over vectors, less the mean of the first ones: a covariance far from 0 loses no digits.
struct Vectors {
    count: f64,
    shift: DVector<f64>,
    sum: DVector<f64>,
    products: DMatrix<f64>,
}

impl Vectors {
    fn new(len: usize) -> Vectors {
        let (shift, sum) = (DVector::zeros(len), DVector::zeros(len));
        Vectors { count: 0.0, shift, sum, products: DMatrix::zeros(len, len) }
    }

    /// Adds vectors, a row each.
    fn add(&mut self, mut rows: DMatrix<f64>) {
        if self.count == 0.0 {
            self.shift = rows.row_mean().transpose();
        }
        for mut row in rows.row_iter_mut() {
            row -= self.shift.transpose();
        }
        self.count += rows.nrows() as f64;
        self.sum += rows.row_sum().transpose();
        self.products.gemm_tr(1.0, &rows, &rows, 1.0);
    }

    /// The mean, and W of the shrunk covariance (divisor: the number of vectors).
    fn fitted(&self, shrinkage: f64) -> Result<Spread> {
        let len = self.sum.len();
        let away = &self.sum / self.count;
        let covariance = &self.products / self.count - &away * away.transpose();
        let spread = covariance.trace() / len as f64;
        // Vectors that are all the same, as far as f32 can tell, have no spread to measure by.
        let spread = if spread > f32::MIN_POSITIVE.into() { spread } else { 1.0 };
        let ridge = DMatrix::identity(len, len) * (shrinkage * spread);
        let shrunk = covariance * (1.0 - shrinkage) + ridge;
        let whitening = Cholesky::new(shrunk)
            .and_then(|factor| factor.l().solve_lower_triangular(&DMatrix::identity(len, len)))
            .ok_or_else(|| Error::invalid("the codes of the training images are not finite"))?;
        let mean = (&self.shift + away).iter().map(|&v| v as f32).collect();
        // Columns are contiguous there, rows here.
        let whitening = whitening.transpose().iter().map(|&v| v as f32).collect();
        Ok(Spread { mean, whitening })
    }
}

/// What the tensors' names begin with.
const PREFIX: &str = "readout.";

const CODE: &str = "readout.code";
const CODE_GRADIENT: &str = "readout.code_gradient";
const VALIDATION: &str = "readout.validation";

impl Statistics {
    /// The tensors of a model file: name, shape and bytes. Codes and weights are counted as PyTorch
    /// does.
    pub(crate) fn tensors(&self, model: &Model) -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let parts = self.validation.parts.len();
        let images = self.validation.values.len() / parts;
        let values = le_bytes(&self.validation.values);
        let mut tensors = vec![(VALIDATION.into(), vec![images, parts], values)];
        tensors.extend(self.code.tensors(CODE, model));
        tensors.extend(self.code_gradient.tensors(CODE_GRADIENT, model));
        tensors.extend(self.places.iter().flat_map(|places| places.tensors(model)));
        for weight in model.constrained_weights() {
            let values = le_bytes(&weight.from_flat(&self.squares));
            tensors.push((square_name(&weight.name), weight.torch_shape.clone(), values));
        }
        for (weight, offset) in model.encoder_weights().zip(encoder_layout(model).0) {
            let placed = weight.at(offset);
            for (name, flat) in [
                (gradient_name(&weight.name), &self.encoder_reference),
                (square_name(&weight.name), &self.encoder_squares),
            ] {
                let values = le_bytes(&placed.from_flat(flat));
                tensors.push((name, weight.torch_shape.clone(), values));
            }
        }
        tensors
    }

    /// Takes them out of a model file that has them; `parts` are the columns of the validation
    /// images' table, as text.
    pub(crate) fn take(
        file: &mut TensorFile,
        model: &Model,
        parts: &str,
    ) -> Result<Option<Statistics>> {
        let all = Wanted::all(model);
        let wanted = [all, Wanted { places: true, ..all }];
        let of = |wanted: &Wanted| Some(wanted.parts(model)).filter(|p| parts == column_names(p));
        let Some(known) = wanted.iter().find_map(of) else {
            // Of another version, which measured something else: as good as none.
            file.forget(PREFIX);
            return Ok(None);
        };
        let code = Spread::take(file, CODE, model)?;
        let code_gradient = Spread::take(file, CODE_GRADIENT, model)?;
        let has_places = known.contains(&Part::PlaceCode);
        let places = has_places.then(|| Places::take(file, model)).transpose()?;
        let mut squares = vec![0.0; model.reference_len()];
        for weight in model.constrained_weights() {
            let values = file.take(&square_name(&weight.name), &weight.torch_shape)?;
            weight.to_flat(&values, &mut squares);
        }
        let (offsets, encoder_len) = encoder_layout(model);
        let mut encoder_reference = vec![0.0; encoder_len];
        let mut encoder_squares = encoder_reference.clone();
        for (weight, offset) in model.encoder_weights().zip(offsets) {
            for (name, flat) in [
                (gradient_name(&weight.name), &mut encoder_reference),
                (square_name(&weight.name), &mut encoder_squares),
            ] {
                let values = file.take(&name, &weight.torch_shape)?;
                weight.at(offset).to_flat(&values, flat);
            }
        }
        let values = file.take_rows(VALIDATION, known.len())?;
        let validation = Measured { parts: known, values };
        Ok(Some(Statistics {
            code,
            code_gradient,
            encoder_reference,
            encoder_squares,
            squares,
            places,
            validation,
        }))
    }
}

impl Spread {
    fn tensors(&self, name: &str, model: &Model) -> [(String, Vec<usize>, Vec<u8>); 2] {
        let len = model.code_len();
        let (mut mean, mut whitening) = (vec![0.0; len], vec![0.0; len * len]);
        for i in 0..len {
            let torch = model.code_to_torch(i);
            mean[torch] = self.mean[i];
            for row in 0..len {
                // Rows are coordinates of no image: they stay in their order.
                whitening[row * len + torch] = self.whitening[row * len + i];
            }
        }
        [
            (format!("{name}.mean"), vec![len], le_bytes(&mean)),
            (format!("{name}.whitening"), vec![len, len], le_bytes(&whitening)),
        ]
    }

    fn take(file: &mut TensorFile, name: &str, model: &Model) -> Result<Spread> {
        let len = model.code_len();
        let mean = file.take(&format!("{name}.mean"), &[len])?;
        let matrix = file.take(&format!("{name}.whitening"), &[len, len])?;
        let torch: Vec<usize> = (0..len).map(|i| model.code_to_torch(i)).collect();
        let whitening = matrix.chunks_exact(len).flat_map(|row| torch.iter().map(|&i| row[i]));
        Ok(Spread {
            mean: torch.iter().map(|&i| mean[i]).collect(),
            whitening: whitening.collect(),
        })
    }
}

/// The columns of a table of parts, as text.
pub(crate) fn column_names(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(",")
}

fn square_name(weight: &str) -> String {
    format!("readout.square.{weight}")
}

fn gradient_name(weight: &str) -> String {
    format!("readout.gradient.{weight}")
}
