//! A trained model with its references, as a file that PyTorch reads too.
//!
//! `model.safetensors` holds the parameters under PyTorch's names and in its layouts, the reference
//! gradients as `ref_grad.<weight's name>`, what is known of normal images as `readout.<what>`, if
//! it was fitted, and string metadata: `"format": "pt"` and the description, one `gradcon.<key>`
//! each.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use strum::VariantNames;

use super::maps::Errors;
use super::model::{Kind, Model};
use super::readout::places::Places;
use super::readout::statistics::column_names;
use super::readout::{Part, Rule, Statistics};
use super::scorer::Scorer;
use super::tiling::{ImageRule, Tiling};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::images::{IMAGE_SIZE, Images, SIZES};
use crate::limits::{self, shown};

/// The squared error of the mean training image on the validation images, in the description.
const MEAN_ERROR: &str = "mean_image_error";

/// A model that can judge images: parameters, reference gradients and description.
///
/// ```
/// use gradcon::method::detector::load_parameters;
/// use gradcon::engine::cpu;
/// use gradcon::{Detector, Images, Init, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let model = Model::new(1);
/// let detector = Detector {
///     params: model.init(Init::Torch, 0),
///     reference: vec![0.5; model.reference_len()],
///     statistics: None,
///     description: [("beta".to_string(), "0.2".to_string())].into(),
///     model,
/// };
/// let file = folder.path().join("model.safetensors");
/// detector.save(&file)?;
///
/// assert_eq!(Detector::load(&file)?, detector);
/// assert_eq!(Detector::parse(&std::fs::read(&file).unwrap(), &file)?, detector);
/// let (_, params) = load_parameters(&file)?; // enough to start a training from
/// assert_eq!(params, detector.params);
/// assert_eq!(detector.beta()?, 0.2);
/// assert_eq!(detector.number("threshold")?, None);
///
/// // What its scores need to know of normal images, training and validation.
/// let normal = Images::new((0..20 * 784).map(|i| (i * 7 % 251) as u8).collect(), [20, 28, 28, 1])?;
/// let (validation, training) = normal.split_at(4);
/// let mut detector = detector;
/// detector.fit(cpu::f32().as_mut(), &training, &validation)?;
/// assert!(detector.explained_variance()?.is_some_and(|share| share < 1.0));
/// detector.save(&file)?;
/// assert_eq!(Detector::load(&file)?, detector);
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Detector {
    /// The architecture.
    pub model: Model,
    /// Parameters in the model's flat layout.
    pub params: Vec<f32>,
    /// Reference gradients in the flat layout's head.
    pub reference: Vec<f32>,
    /// What is known of normal images, where it was fitted.
    pub statistics: Option<Statistics>,
    /// Anything worth keeping with the model, by key (`dataset`, `inlier`, `epoch`, `threshold`
    /// ...).
    pub description: BTreeMap<String, String>,
}

/// Weight of the cosine in a score (PROTOCOL: 0.12), stored under `beta`.
pub const DEFAULT_BETA: f64 = 0.12;

const PREFIX: &str = "gradcon.";

/// Validation images whose maps of errors are looked at.
const MAPPED: usize = 64;

/// Where the description of a file says what its statistics are of.
const PARTS: &str = "parts";

impl Detector {
    /// A number of the description; `None` if it isn't there. Shown at [`Detector`].
    ///
    /// # Errors
    /// What is there is no finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(text) = self.description.get(key) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(Some(v)),
            _ => Err(Error::invalid(format!(
                "model description: {key} is '{}', a finite number was expected",
                shown(text)
            ))),
        }
    }

    /// The weight of the cosine in this model's scores: the description's, else
    /// [`DEFAULT_BETA`]. Shown at [`Detector`].
    ///
    /// # Errors
    /// As [`Detector::number`].
    pub fn beta(&self) -> Result<f64> {
        Ok(self.number("beta")?.unwrap_or(DEFAULT_BETA))
    }

    /// How it judges images by their tiles, if it does.
    ///
    /// # Errors
    /// A senseless description.
    pub fn tiling(&self) -> Result<Option<Tiling>> {
        Tiling::of(&self.description)
    }

    /// The rule of this name for its images; `beta` is the paper's rule's.
    ///
    /// # Errors
    /// There is none of this name; a senseless description.
    pub fn rule(&self, name: &str, beta: f64) -> Result<Rule> {
        Ok(Rule::named(name, &self.model, beta)?.of_tiles(self.tiling()?))
    }

    /// Height and width of the images that it judges: the model's size, or that of what is cut into
    /// tiles of it.
    ///
    /// # Errors
    /// As [`Detector::tiling`].
    pub fn image_size(&self) -> Result<usize> {
        Ok(self.tiling()?.map_or(self.model.size(), |tiling| tiling.tiles.image()))
    }

    /// The scores of the validation images by a rule, rising; none without statistics.
    ///
    /// # Errors
    /// One that is no finite number.
    pub fn validation_scores(&self, rule: &Rule) -> Result<Option<Vec<f64>>> {
        let Some(statistics) = &self.statistics else { return Ok(None) };
        let scores = ImageRule::of(rule, self)?.of_validation(&statistics.validation);
        scores.map(Some).map_err(|e| Error::invalid(format!("score '{}' = {rule}: {e}", rule.name)))
    }

    /// Whether it knows of normal images what its scores take: also of each place, where it judges
    /// tiles by theirs.
    ///
    /// # Errors
    /// As [`Detector::tiling`].
    pub fn is_fitted(&self) -> Result<bool> {
        let by_place = self.tiling()?.is_some_and(|tiling| tiling.same_place);
        Ok(self.statistics.as_ref().is_some_and(|known| !by_place || known.places.is_some()))
    }

    /// Fits the statistics on normal images, of training and validation. Shown at [`Detector`].
    ///
    /// # Errors
    /// No images, or images of another shape than the model's; a device failure; numbers that are
    /// not finite.
    pub fn fit(
        &mut self,
        engine: &mut dyn Engine,
        train: &Images,
        validation: &Images,
    ) -> Result<()> {
        self.statistics = Some(Statistics::fit(engine, self, train, validation)?);
        if let Some(error) = validation.error_of_mean(train) {
            self.description.insert(MEAN_ERROR.into(), error.to_string());
        }
        // What maps of errors look like on normal images; a few of these have pixels enough.
        let whole = match self.tiling()? {
            Some(tiling) => {
                let tiles: Vec<usize> =
                    (0..validation.n.min(MAPPED * tiling.tiles.count())).collect();
                tiling.tiles.join(&validation.select(&tiles))
            }
            None => validation.select(&(0..validation.n.min(MAPPED)).collect::<Vec<_>>()),
        };
        let reconstructions = Scorer::new(engine, self)?.reconstruct(&whole)?;
        Errors::of(&whole, &reconstructions)?.describe(&mut self.description);
        Ok(())
    }

    /// How much of the variance of the validation images about the mean training image the
    /// reconstruction explains: 1 - its squared error / that of the mean image. 0: the model knows
    /// no more than the mean image. None where it was never fitted, or where all images are the
    /// same. Shown at [`Detector`].
    ///
    /// # Errors
    /// As [`Detector::number`].
    pub fn explained_variance(&self) -> Result<Option<f64>> {
        let Some(Statistics { validation, .. }) = &self.statistics else { return Ok(None) };
        let at = validation.parts.iter().position(|part| *part == Part::Mse);
        let (Some(at), Some(mean)) = (at, self.number(MEAN_ERROR)?.filter(|&mean| mean > 0.0))
        else {
            return Ok(None);
        };
        let (sum, count) =
            validation.rows().fold((0.0, 0), |(sum, count), row| (sum + row[at], count + 1));
        Ok(Some(1.0 - sum / f64::from(count) / mean))
    }

    /// How much of the loss, error and weighted constraint, is the constraint's on the validation
    /// images: alpha cos / (mse + alpha cos), of means over them. None where it was never fitted.
    ///
    /// # Errors
    /// As [`Detector::number`].
    pub fn constraint_share(&self) -> Result<Option<f64>> {
        let (Some(statistics), Some(alpha)) = (&self.statistics, self.number("alpha")?) else {
            return Ok(None);
        };
        let Statistics { validation, .. } = statistics;
        let (mut mse, mut cos) = (0.0, 0.0);
        for row in validation.rows() {
            for (part, value) in validation.parts.iter().zip(row) {
                match part {
                    Part::Mse => mse += value,
                    Part::Cos(layer) if layer.starts_with("up.") => {
                        cos += alpha * value.abs() / self.model.segments().len() as f64;
                    }
                    _ => {}
                }
            }
        }
        Ok((mse + cos > 0.0).then(|| cos / (mse + cos)))
    }

    /// Writes `model.safetensors`, atomically: a temporary file beside it is renamed. Shown at
    /// [`Detector`].
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, &self.to_bytes()?)
    }

    /// The content of `model.safetensors`.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = vec![];
        for p in self.model.params() {
            tensors.push((
                p.name.clone(),
                p.torch_shape.clone(),
                le_bytes(&p.from_flat(&self.params)),
            ));
        }
        for p in self.model.constrained_weights() {
            tensors.push((
                format!("ref_grad.{}", p.name),
                p.torch_shape.clone(),
                le_bytes(&p.from_flat(&self.reference)),
            ));
        }
        tensors.extend(self.statistics.iter().flat_map(|s| s.tensors(&self.model)));
        let mut metadata: HashMap<String, String> =
            self.description.iter().map(|(k, v)| (format!("{PREFIX}{k}"), v.clone())).collect();
        metadata.insert("format".into(), "pt".into());
        metadata.insert(format!("{PREFIX}model"), self.model.kind().to_string());
        metadata.insert(format!("{PREFIX}channels"), self.model.channels().to_string());
        metadata.insert(format!("{PREFIX}size"), self.model.size().to_string());
        if let Some(statistics) = &self.statistics {
            let columns = column_names(&statistics.validation.parts);
            metadata.insert(format!("{PREFIX}{PARTS}"), columns);
        }
        tensor_bytes(&tensors, metadata)
    }

    /// Reads a model file. Shown at [`Detector`].
    ///
    /// # Errors
    /// The file can't be read, or is no such model: a tensor is missing, unknown, of another shape
    /// or not finite. The message names the file, the tensor, what was found and what was expected.
    /// A state dict from PyTorch without references says so: without them there is no cosine.
    pub fn load(path: &Path) -> Result<Detector> {
        Detector::parse(&read_file(path)?, path)
    }

    /// A model from the bytes of its file; `path` stands for the file in errors. Shown at
    /// [`Detector`].
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Detector> {
        let Opened { params, model, mut rest, mut description } = read_parameters(bytes, path)?;
        let mut reference = vec![0.0; model.reference_len()];
        for p in model.constrained_weights() {
            let name = format!("ref_grad.{}", p.name);
            let values = rest.take(&name, &p.torch_shape)?;
            p.to_flat(&values, &mut reference);
        }
        let statistics = description
            .remove(PARTS)
            .map(|parts| Statistics::take(&mut rest, &model, &parts))
            .transpose()?
            .flatten();
        rest.finish()?;
        let detector = Detector { model, params, reference, statistics, description };
        let tiling = detector.tiling().map_err(|e| e.in_file(path))?;
        let places = detector.statistics.as_ref().and_then(|s| s.places.as_ref());
        let cut = tiling.map_or(1, |tiling| tiling.tiles.count());
        if let Some(found) = places.map(Places::count).filter(|&found| found != cut) {
            return Err(Error::invalid(format!(
                "{}: statistics of {found} places, but an image has {cut} tiles",
                path.display()
            )));
        }
        match tiling.map(|tiling| tiling.tiles.size()).filter(|&size| size != detector.model.size())
        {
            None => Ok(detector),
            Some(size) => Err(Error::invalid(format!(
                "{}: a model of {} x {1} pixels, but its images are cut into tiles of {size} x {size}",
                path.display(),
                detector.model.size()
            ))),
        }
    }
}

/// Reads only the parameters of a model file, with or without references: to start a training from.
/// Returns the model and its flat parameters. Shown at [`Detector`].
///
/// # Errors
/// As [`Detector::load`], but for the references.
pub fn load_parameters(path: &Path) -> Result<(Model, Vec<f32>)> {
    let Opened { params, model, .. } = read_parameters(&read_file(path)?, path)?;
    Ok((model, params))
}

/// A model file whose parameters have been taken out.
struct Opened {
    params: Vec<f32>,
    model: Model,
    rest: TensorFile,
    description: BTreeMap<String, String>,
}

fn read_parameters(bytes: &[u8], path: &Path) -> Result<Opened> {
    let (mut file, metadata) = TensorFile::parse(bytes, path)?;
    let kind = match metadata.get("gradcon.model") {
        Some(kind) => kind.parse().map_err(|_| {
            Error::invalid(format!(
                "{}: holds a model of kind '{}', only {} are known",
                path.display(),
                shown(kind),
                Kind::VARIANTS.join(" and ")
            ))
        })?,
        // A state dict of another program says it by its tensors.
        None if file.tensors.contains_key("fc11.weight") => Kind::Vae,
        None => Kind::Cae,
    };
    // A file of before, or of another program, doesn't say its size.
    let size = match metadata.get("gradcon.size") {
        Some(text) => text.parse().ok().filter(|size| SIZES.contains(size)).ok_or_else(|| {
            Error::invalid(format!(
                "{}: for images of size '{}', expected one of {SIZES:?}",
                path.display(),
                shown(text)
            ))
        })?,
        None => IMAGE_SIZE,
    };
    // Beside the size, only the channels of images differ between models of a kind.
    let least = Model::sized(kind, size, 1)?;
    let first = &least.params()[0];
    let (name, expected) = (&first.name, &first.torch_shape);
    let Some((shape, _)) = file.tensors.get(name) else {
        return Err(Error::invalid(format!(
            "{}: no tensor '{name}': not a model of this kind",
            path.display()
        )));
    };
    let of = |channels| [&expected[..1], &[channels], &expected[2..]].concat();
    let channels = match shape.get(1) {
        Some(&channels) if channels > 0 && *shape == of(channels) => channels,
        _ => {
            return Err(Error::invalid(format!(
                "{}: {name} has shape {}, expected [{}, channels, {}, {}]",
                path.display(),
                shown(format_args!("{shape:?}")),
                expected[0],
                expected[2],
                expected[3]
            )));
        }
    };
    let model = Model::sized(kind, size, channels)
        .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    let mut params = vec![0.0; model.len()];
    for p in model.params() {
        let values = file.take(&p.name, &p.torch_shape)?;
        p.to_flat(&values, &mut params);
    }
    let description =
        metadata.into_iter().filter_map(|(k, v)| Some((k.strip_prefix(PREFIX)?.to_string(), v)));
    let description =
        description.filter(|(k, _)| !matches!(&k[..], "model" | "channels" | "size")).collect();
    Ok(Opened { params, model, rest: file, description })
}

pub(crate) fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Float32 tensors `(name, shape, little-endian bytes)` as the content of a safetensors file.
pub(crate) fn tensor_bytes(
    tensors: &[(String, Vec<usize>, Vec<u8>)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let problem = |e: safetensors::SafeTensorError| Error::invalid(format!("safetensors: {e}"));
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
        .map_err(problem)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(problem)?;
    sorted_header(&bytes).map_err(|e| Error::invalid(format!("safetensors: {e}")))
}

/// The same file with the keys of its header in order. The crate writes metadata in a random order;
/// equal models should be equal files.
fn sorted_header(file: &[u8]) -> serde_json::Result<Vec<u8>> {
    let (length, rest) = file.split_at(8);
    let length = length.iter().rev().fold(0, |n, &b| n << 8 | b as usize);
    let (header, data) = rest.split_at(length);
    let sorted: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header)?;
    let mut header = serde_json::to_vec(&sorted)?;
    // Data stay aligned to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    limits::read(path, limits::TENSORS, "a file of tensors")
}

/// Float32 tensors of a safetensors file, taken out one by one.
pub(crate) struct TensorFile {
    path: std::path::PathBuf,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl TensorFile {
    /// A file's content and its metadata; `path` stands for the file in errors.
    pub(crate) fn parse(
        bytes: &[u8],
        path: &Path,
    ) -> Result<(TensorFile, HashMap<String, String>)> {
        let problem = |e: safetensors::SafeTensorError| {
            Error::invalid(format!("{}: no valid safetensors file: {}", path.display(), shown(e)))
        };
        // The crate itself would take a header of 100 MB apart.
        let length = bytes.first_chunk().map(|&length| u64::from_le_bytes(length));
        if let Some(length) = length.filter(|&length| length > limits::TENSORS_HEADER) {
            return Err(Error::invalid(format!(
                "{}: no valid safetensors file: a header of {length} bytes, expected at most {}",
                path.display(),
                limits::TENSORS_HEADER
            )));
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(problem)?;
        let file = SafeTensors::deserialize(bytes).map_err(problem)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let quoted = shown(&name);
            if view.dtype() != Dtype::F32 {
                return Err(Error::invalid(format!(
                    "{}: tensor '{quoted}' is {:?}, expected F32",
                    path.display(),
                    view.dtype()
                )));
            }
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return Err(Error::invalid(format!(
                    "{}: tensor '{quoted}' holds {} at element {i}, expected finite numbers",
                    path.display(),
                    values[i]
                )));
            }
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok((
            TensorFile { path: path.into(), tensors },
            header.metadata().clone().unwrap_or_default(),
        ))
    }

    /// Takes out all whose names begin so.
    pub(crate) fn forget(&mut self, prefix: &str) {
        self.tensors.retain(|name, _| !name.starts_with(prefix));
    }

    /// Takes out a tensor that must have this shape.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.tensors.remove(name) {
            Some((found, values)) if found == shape => Ok(values),
            Some((found, _)) => Err(Error::invalid(format!(
                "{}: tensor '{name}' has shape {}, expected {shape:?}",
                self.path.display(),
                shown(format_args!("{found:?}"))
            ))),
            None if name.starts_with("ref_grad.") => Err(Error::invalid(format!(
                "{}: no tensor '{name}': the file has parameters but no reference gradients, \
                 without which an image can't be scored",
                self.path.display()
            ))),
            None => Err(Error::invalid(format!(
                "{}: no tensor '{name}' of shape {shape:?}",
                self.path.display()
            ))),
        }
    }

    /// Takes out a table of so many columns, and any number of rows but none.
    pub(crate) fn take_rows(&mut self, name: &str, columns: usize) -> Result<Vec<f32>> {
        let rows = match self.tensors.get(name).map(|(shape, _)| &shape[..]) {
            Some(&[rows, found]) if found == columns && rows > 0 => rows,
            // The error says what was expected of one row.
            _ => 1,
        };
        self.take(name, &[rows, columns])
    }

    /// Errors if something is left that nobody asked for.
    pub(crate) fn finish(self) -> Result<()> {
        match self.tensors.keys().next() {
            Some(name) => Err(Error::invalid(format!(
                "{}: unknown tensor '{}'",
                self.path.display(),
                shown(name)
            ))),
            None => Ok(()),
        }
    }
}
