//! The autoencoders: their layers, the flat layout of their parameters, and how they are recorded.
//!
//! Names and weight layouts towards the outside are PyTorch's: `down.0.weight`, conv
//! `[out, in, kh, kw]`, transposed conv `[in, out, kh, kw]`, linear `[out, in]`. Inside, all are the
//! geometry's `[kh, kw, cy, cx]` (see [`crate::geometry`]): cy is a conv's output and a transposed
//! conv's input, and a linear layer is the conv of an image of one position. Its input or output
//! may be an image laid flat: PyTorch counts that by channel and then position, we by position and
//! then channel.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::geometry::Geometry;
pub use crate::images::IMAGE_SIZE;
use crate::images::{Images, check_size};
use crate::layout::{Segment, Shape, pack, size};
use crate::tape::ops::Map;
use crate::tape::{Tape, Tensor};

/// The buffer of all parameters, flat, of each replica.
pub const PARAMS: &str = "params";

/// Most channels of an image: more than any camera has, and few enough that no size of a program
/// leaves 64 bits.
pub const MAX_CHANNELS: usize = 1 << 16;

/// Kernel height and width, and stride, of every convolution.
const KERNEL: usize = 4;
const STRIDE: usize = 2;

/// Which autoencoder.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Debug,
    Default,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    serde::Serialize,
    serde::Deserialize,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The paper's convolutional autoencoder.
    #[default]
    Cae,
    /// The paper's variational one: a normal distribution of codes for each image.
    Vae,
}

/// One layer of an autoencoder, as a row of its description.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Row {
    /// Name in a state dict: `down.0`.
    name: &'static str,
    mapping: Mapping,
    /// Channels of its output; of the image, if not said. A linear layer has the code's.
    out: Option<usize>,
    padding: usize,
    activation: Option<Map>,
    /// Whether the weight's gradient is constrained, and a part of the score.
    constrained: bool,
}

/// What a layer does to its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mapping {
    /// conv2d.
    Conv,
    /// conv_transpose2d.
    Transposed,
    /// Every number of the output from every number of the input, of which the code is one.
    Linear(Code),
}

/// The end of a linear layer that is the code, an image of many channels, laid flat. The other is
/// the latent variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Code {
    In,
    Out,
}

const fn down(name: &'static str, out: usize, padding: usize) -> Row {
    let (mapping, activation) = (Mapping::Conv, Some(Map::Relu));
    Row { name, mapping, out: Some(out), padding, activation, constrained: false }
}

const fn linear(name: &'static str, code: Code) -> Row {
    let mapping = Mapping::Linear(code);
    Row { name, mapping, out: None, padding: 0, activation: None, constrained: false }
}

const fn up(name: &'static str, out: Option<usize>, padding: usize, activation: Map) -> Row {
    let (mapping, activation) = (Mapping::Transposed, Some(activation));
    Row { name, mapping, out, padding, activation, constrained: true }
}

/// Names of the encoder's and the decoder's layers, first to last, of which a model has so many as
/// its images need.
const DOWN: [&str; 6] = ["down.0", "down.2", "down.4", "down.6", "down.8", "down.10"];
const UP: [&str; 6] = ["up.0", "up.2", "up.4", "up.6", "up.8", "up.10"];

/// Channels of the encoder's layers at most, and of the first two.
const CHANNELS: usize = 64;
const FIRST_CHANNELS: usize = 32;

/// The side of a code that isn't halved any more.
const LEAST: usize = 4;

/// Mean and logarithm of the variance of the latent variable, and the way back to a code. The
/// paper constrains the decoder's transposed convolutions, which `fc2` is none of.
const LATENT: [Row; 3] =
    [linear("fc11", Code::In), linear("fc12", Code::In), linear("fc2", Code::Out)];

/// The encoder's and the decoder's layers for images of a size. The paper's 28 become 15, 8, 5 and 3
/// with a padding of 2, and on the way back 4, 8, 14 and 28. Every other size is halved exactly
/// until its side is 3 or 4: 64 becomes 32, 16, 8 and 4, and each layer of the decoder doubles
/// what it gets. The first two layers of the encoder have 32 channels, the others 64, and the
/// decoder has the same the other way round.
fn stacks(size: usize) -> (Vec<Row>, Vec<Row>) {
    let papers = size == IMAGE_SIZE;
    let count = if papers { 4 } else { (size / LEAST).next_power_of_two().ilog2() as usize };
    let channels = |i: usize| if i < 2 { FIRST_CHANNELS } else { CHANNELS };
    let encoder = (0..count).map(|i| down(DOWN[i], channels(i), if papers { 2 } else { 1 }));
    let decoder = (0..count).map(|i| {
        // Back to 4 from 3, and to 14 from 8.
        let padding = if papers && i % 2 == 0 { 2 } else { 1 };
        match count - 1 - i {
            0 => up(UP[i], None, padding, Map::Sigmoid),
            left => up(UP[i], Some(channels(left - 1)), padding, Map::Relu),
        }
    });
    (encoder.collect(), decoder.collect())
}

impl Kind {
    /// The layers for images of a size, first to last.
    fn rows(self, size: usize) -> Vec<Row> {
        let (encoder, decoder) = stacks(size);
        match self {
            Kind::Cae => [encoder, decoder].concat(),
            Kind::Vae => [encoder, LATENT.to_vec(), decoder].concat(),
        }
    }
}

/// A row with its sizes, for one image.
#[derive(Clone, PartialEq, Debug)]
struct Layer {
    row: Row,
    geometry: Geometry,
    /// Of a linear layer, the channels of the code that it is from or to.
    code: usize,
}

/// A parameter tensor.
///
/// ```
/// use gradcon::Model;
///
/// let model = Model::new(3);
/// let weight = &model.params()[0];
/// assert_eq!((&weight.name[..], weight.shape), ("down.0.weight", [4, 4, 32, 3]));
/// assert_eq!((&weight.torch_shape[..], weight.len()), (&[32, 3, 4, 4][..], 1536));
///
/// let torch: Vec<f32> = (0..1536).map(|i| i as f32).collect();
/// let mut flat = vec![0.0; model.len()];
/// weight.to_flat(&torch, &mut flat);
/// assert_eq!(weight.from_flat(&flat), torch);
/// assert!(!weight.is_empty());
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Param {
    /// Name in a state dict: `down.0.weight`.
    pub name: String,
    /// First element in the flat parameter buffer.
    pub offset: usize,
    /// Shape on the tape.
    pub shape: Shape,
    /// Shape in PyTorch.
    pub torch_shape: Vec<usize>,
    /// Bound of PyTorch's default initialisation: 1 / sqrt(fan_in) as PyTorch counts it.
    bound: f64,
    /// Standard deviation of the Kaiming initialisation; 0 for a bias.
    std: f64,
    /// How PyTorch counts the axes cy and cx.
    axes: [Axis; 2],
}

/// How PyTorch counts an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Axis {
    /// As we do.
    Same,
    /// It is an image laid flat.
    Flat { channels: usize, positions: usize },
}

impl Axis {
    /// PyTorch's index.
    fn torch(self, i: usize) -> usize {
        match self {
            Axis::Same => i,
            Axis::Flat { channels, positions } => i % channels * positions + i / channels,
        }
    }
}

impl Param {
    /// Elements. Shown at [`Param`].
    pub fn len(&self) -> usize {
        size(self.shape)
    }

    /// The same tensor at another place of a flat buffer.
    pub(crate) fn at(&self, offset: usize) -> Param {
        Param { offset, ..self.clone() }
    }

    /// Whether there are none: never so. Shown at [`Param`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from PyTorch's layout into this parameter's place in the flat buffer. Shown at
    /// [`Param`].
    pub fn to_flat<T: Copy>(&self, torch: &[T], flat: &mut [T]) {
        self.each(|torch_index, index| flat[index] = torch[torch_index]);
    }

    /// Reads this parameter's place in a flat buffer in PyTorch's layout. Shown at [`Param`].
    pub fn from_flat<T: Copy + Default>(&self, flat: &[T]) -> Vec<T> {
        let mut torch = vec![T::default(); self.len()];
        self.each(|torch_index, index| torch[torch_index] = flat[index]);
        torch
    }

    /// Pairs of indices: PyTorch's `[cy, cx, kh, kw]` and the flat buffer's `[kh, kw, cy, cx]`. A
    /// bias is a weight of one column.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let [kh, kw, cy, cx] = self.shape;
        for i in 0..kh * kw * cy * cx {
            let (tap, y, x) = (i / (cy * cx), i / cx % cy, i % cx);
            let (y, x) = (self.axes[0].torch(y), self.axes[1].torch(x));
            visit((y * cx + x) * kh * kw + tap, self.offset + i);
        }
    }
}

/// How parameters start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Init {
    /// PyTorch's default for these layers, which the paper uses: uniform in +-1/sqrt(fan_in).
    Torch,
    /// Normal with variance 2 / (taps that reach an output), or 1 / inputs where no ReLU follows a
    /// linear layer, zero biases: leaves the plateau that `Torch` can sit on for many epochs.
    #[default]
    Kaiming,
}

/// An autoencoder for images of `channels` x `size` x `size`; the paper's size is 28.
///
/// ```
/// use gradcon::method::model::Kind;
/// use gradcon::{Images, Init, Model};
///
/// let model = Model::try_new(1)?;
/// assert_eq!((model.channels(), model.pixels()), (1, 784));
/// assert_eq!((model.params().len(), model.parameter_count()), (16, 230_721));
/// assert_eq!(model.init(Init::Torch, 0).len(), model.len()); // flat, with gaps
/// assert!(!model.is_empty());
/// model.check_images(&Images::new(vec![0; 2 * 784], [2, 28, 28, 1])?)?;
///
/// let variational = Model::of(Kind::Vae, 1)?;
/// assert_eq!((variational.kind(), variational.parameter_count()), (Kind::Vae, 1_227_777));
/// assert_eq!((variational.latent_len(), model.latent_len()), (576, 0));
/// assert_eq!(variational.segments(), model.segments()); // what is constrained is the same
///
/// assert_eq!(model.constrained_layers(), ["up.0", "up.2", "up.4", "up.6"]);
/// assert_eq!(model.encoder_layers(), ["down.0", "down.2", "down.4", "down.6"]);
/// assert_eq!(model.encoder_geometries(64)[3].w_shape(), [4, 4, 64, 64]);
/// assert_eq!(model.encoder_weights().map(|w| w.len()).sum::<usize>(), 115_200);
/// // The code has 64 channels of 3 x 3: its number 65 is channel 1 at the second position.
/// assert_eq!((model.code_len(), model.code_to_torch(65)), (576, 10));
/// assert_eq!(variational.code_to_torch(65), 65);
///
/// // Other sizes are halved exactly, as deep as it takes.
/// let large = Model::sized(Kind::Cae, 96, 3)?;
/// assert_eq!((large.size(), large.shape(64), large.code_len()), (96, [96, 96, 3, 64], 576));
/// assert_eq!(large.constrained_layers().last(), Some(&"up.8"));
///
/// // The constrained weights lie at the head of the flat parameters.
/// let (segments, geometries) = (model.segments(), model.constrained_geometries(64));
/// assert_eq!(model.reference_len(), segments[3].offset + segments[3].len);
/// for (i, weight) in model.constrained_weights().enumerate() {
///     assert_eq!((weight.offset, weight.shape), (segments[i].offset, geometries[i].w_shape()));
/// }
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Model {
    kind: Kind,
    size: usize,
    channels: usize,
    layers: Vec<Layer>,
    params: Vec<Param>,
    len: usize,
    reference_len: usize,
}

/// The nodes of a recorded forward pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Reconstruction `[h, w, c, n]`, values in (0, 1).
    pub reconstruction: Tensor,
    /// The distribution of the latent variable, of a variational model.
    pub latent: Option<Latent>,
    /// All parameters, in the order of [`Model::params`].
    pub params: Vec<Tensor>,
    /// The code, `code_len` numbers of each image: what the encoder makes of it, or of a variational
    /// model the mean of the latent variable.
    pub code: Tensor,
    /// The encoder's layers, first to last.
    pub encoder: Vec<Recorded>,
    /// The constrained layers, first to last.
    pub constrained: Vec<Recorded>,
}

/// A normal distribution for each image, in a recorded forward pass: all `[1, 1, features, n]`, the
/// features independent of each other.
#[derive(Clone, Copy, Debug)]
pub struct Latent {
    /// Means.
    pub mean: Tensor,
    /// Logarithms of the variances.
    pub log_variance: Tensor,
    /// Standard deviations, `exp(log_variance / 2)`.
    pub deviation: Tensor,
}

/// A layer in a recorded forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Its weight.
    pub weight: Tensor,
    /// What goes in.
    pub input: Tensor,
    /// What comes out, before bias and activation.
    pub sum: Tensor,
}

impl Model {
    /// The paper's convolutional autoencoder. `channels` is 1 or 3 in the datasets; any number from 1
    /// to [`MAX_CHANNELS`] works. Shown, like [`Model::try_new`], at [`Model`].
    ///
    /// # Panics
    /// Another number; [`Model::try_new`] is for numbers that come from outside.
    pub fn new(channels: usize) -> Model {
        Model::try_new(channels).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The paper's convolutional autoencoder. Shown at [`Model`].
    ///
    /// # Errors
    /// 0 channels, or more than [`MAX_CHANNELS`].
    pub fn try_new(channels: usize) -> Result<Model> {
        Model::of(Kind::Cae, channels)
    }

    /// An autoencoder of either kind, for images of 28 x 28. Shown at [`Model`].
    ///
    /// # Errors
    /// As [`Model::try_new`].
    pub fn of(kind: Kind, channels: usize) -> Result<Model> {
        Model::sized(kind, IMAGE_SIZE, channels)
    }

    /// An autoencoder for images of a size of [`SIZES`](crate::images::SIZES). Shown at [`Model`].
    ///
    /// # Errors
    /// Another size; as [`Model::try_new`].
    pub fn sized(kind: Kind, size: usize, channels: usize) -> Result<Model> {
        let image = check_size(size)?;
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(Error::Usage(format!(
                "a model of {channels} channels: expected 1 to {MAX_CHANNELS}"
            )));
        }
        let mut layers: Vec<Layer> = vec![];
        let (mut inputs, mut size) = (channels, image);
        for row in kind.rows(image) {
            let (input, out) = ((inputs, size, size), row.out.unwrap_or(channels));
            let (kernel, code) = ((KERNEL, KERNEL), inputs);
            let geometry = match row.mapping {
                Mapping::Conv => Geometry::conv2d(1, input, out, kernel, STRIDE, row.padding),
                Mapping::Transposed => {
                    Geometry::conv_transpose2d(1, input, out, kernel, STRIDE, row.padding)
                }
                Mapping::Linear(_) => {
                    let features = inputs * size * size;
                    let geometry = Geometry::conv2d(1, (features, 1, 1), features, (1, 1), 1, 0);
                    // It ends where it begins: in a code.
                    layers.push(Layer { row, geometry, code });
                    continue;
                }
            };
            let layer = Layer { row, geometry, code };
            (inputs, size) = (out, layer.size());
            layers.push(layer);
        }
        assert_eq!((inputs, size), (channels, image));

        // Constrained weights come first, so that the reference gradients are the same flat layout,
        // cut short.
        let weights = |constrained| {
            layers.iter().filter(move |l| l.row.constrained == constrained).map(|l| (l, true))
        };
        let biases = layers.iter().map(|l| (l, false));
        let order: Vec<(&Layer, bool)> =
            weights(true).chain(weights(false)).chain(biases).collect();
        let sizes =
            order.iter().map(|(l, weight)| if *weight { l.geometry.w_len() } else { l.bias_len() });
        let (offsets, len) = pack(sizes);
        let mut params: Vec<Param> = order
            .iter()
            .zip(&offsets)
            .map(|((l, weight), &offset)| l.param(*weight, offset))
            .collect();
        let last = params[..weights(true).count()].last();
        let reference_len = last.map_or(0, |p| p.offset + p.len());
        let rank = |p: &Param| {
            let (layer, what) = p.name.rsplit_once('.')?;
            let at = layers.iter().position(|l| l.row.name == layer);
            at.map(|i| (i, what == "bias"))
        };
        params.sort_by_key(rank);
        Ok(Model { kind, size: image, channels, layers, params, len, reference_len })
    }

    /// Which autoencoder it is. Shown at [`Model`].
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Numbers of an image's latent variable; 0 for a model that has none. Shown at [`Model`].
    pub fn latent_len(&self) -> usize {
        let linear = self.layers.iter().find(|l| matches!(l.row.mapping, Mapping::Linear(_)));
        linear.map_or(0, |l| l.geometry.cy)
    }

    /// Channels of an image. Shown at [`Model`].
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Height and width of an image. Shown at [`Model`].
    pub fn size(&self) -> usize {
        self.size
    }

    /// The shape of a batch of n images on a tape. Shown at [`Model`].
    pub fn shape(&self, n: usize) -> Shape {
        [self.size, self.size, self.channels, n]
    }

    /// Values of an image. Shown at [`Model`].
    pub fn pixels(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// Whether images are what this model was made for. Shown at [`Model`].
    ///
    /// # Errors
    /// They have another shape; the message names both.
    pub fn check_images(&self, images: &Images) -> Result<()> {
        images.check()?;
        let (found, expected) =
            ([images.height, images.width, images.channels], [self.size, self.size, self.channels]);
        if found == expected {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "images of shape {found:?} (height, width, channels), the model is for {expected:?}"
        )))
    }

    /// Parameter tensors in the order of PyTorch's state dict. Shown at [`Model`].
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Number of parameters (gaps of the flat buffer not counted). Shown at [`Model`].
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(Param::len).sum()
    }

    /// Length of the flat parameter buffer. Shown at [`Model`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never so. Shown at [`Model`].
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length of the flat reference gradients: the parameter buffer's head, up to the end of the
    /// constrained weights. Shown at [`Model`].
    pub fn reference_len(&self) -> usize {
        self.reference_len
    }

    fn constrained(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|l| l.row.constrained)
    }

    /// Names of the layers whose weight gradients are constrained, first to last: `up.0`, ...
    /// Shown at [`Model`].
    pub fn constrained_layers(&self) -> Vec<&'static str> {
        self.constrained().map(|l| l.row.name).collect()
    }

    /// Their weights. Shown at [`Model`].
    pub fn constrained_weights(&self) -> impl Iterator<Item = &Param> {
        self.constrained().filter_map(|l| self.weight(l))
    }

    /// Where they lie in the flat buffers. Shown at [`Model`].
    pub fn segments(&self) -> Vec<Segment> {
        self.constrained_weights().map(|p| Segment { offset: p.offset, len: p.len() }).collect()
    }

    /// Their geometries for batches of n. Shown at [`Model`].
    pub fn constrained_geometries(&self, n: usize) -> Vec<Geometry> {
        self.constrained().map(|l| Geometry { n, ..l.geometry }).collect()
    }

    fn encoder(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|l| l.row.mapping == Mapping::Conv)
    }

    /// Names of the encoder's layers, first to last: `down.0`, ... Shown at [`Model`].
    pub fn encoder_layers(&self) -> Vec<&'static str> {
        self.encoder().map(|l| l.row.name).collect()
    }

    /// Their weights. Shown at [`Model`].
    pub fn encoder_weights(&self) -> impl Iterator<Item = &Param> {
        self.encoder().filter_map(|l| self.weight(l))
    }

    /// Their geometries for batches of n. Shown at [`Model`].
    pub fn encoder_geometries(&self, n: usize) -> Vec<Geometry> {
        self.encoder().map(|l| Geometry { n, ..l.geometry }).collect()
    }

    /// Numbers of an image's code. Shown at [`Model`].
    pub fn code_len(&self) -> usize {
        let last = self.encoder().last();
        last.map_or(0, |l| l.geometry.cy * l.geometry.hy * l.geometry.wy)
    }

    /// Which number of the code PyTorch counts as which: it counts an image by channel and then
    /// position. Shown at [`Model`].
    pub fn code_to_torch(&self, i: usize) -> usize {
        let Some(last) = self.encoder().last().filter(|_| self.kind == Kind::Cae) else { return i };
        let channels = last.geometry.cy;
        Axis::Flat { channels, positions: self.code_len() / channels }.torch(i)
    }

    fn weight(&self, layer: &Layer) -> Option<&Param> {
        let name = format!("{}.weight", layer.row.name);
        self.params.iter().find(|p| p.name == name)
    }

    /// Fresh parameters as a flat buffer. The same seed gives the same bits on every machine. Shown
    /// at [`Model`].
    pub fn init(&self, init: Init, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut flat = vec![0.0; self.len];
        for p in &self.params {
            let values: Vec<f32> = match init {
                Init::Torch => {
                    (0..p.len()).map(|_| rng.random_range(-p.bound..p.bound) as f32).collect()
                }
                Init::Kaiming => (0..p.len()).map(|_| (p.std * normal(&mut rng)) as f32).collect(),
            };
            p.to_flat(&values, &mut flat);
        }
        flat
    }

    /// Records the forward pass of a batch `[size, size, channels, n]`. The latent variable of a
    /// variational model is `mean + deviation * noise` with a noise `[1, 1, latent_len, n]`, and the
    /// mean without one.
    ///
    /// ```
    /// use gradcon::{Model, method::model::Kind, tape::Tape};
    ///
    /// let mut tape = Tape::new();
    /// let x = tape.leaf("x", [28, 28, 3, 8]);
    /// let forward = Model::new(3).forward(&mut tape, x, None);
    /// assert_eq!(tape.shape(forward.reconstruction), [28, 28, 3, 8]);
    /// assert_eq!(tape.shape(forward.constrained[0].input), [3, 3, 64, 8]); // the code
    ///
    /// let (mut tape, model) = (Tape::new(), Model::of(Kind::Vae, 3)?);
    /// let x = tape.leaf("x", [28, 28, 3, 8]);
    /// let noise = tape.leaf("noise", [1, 1, model.latent_len(), 8]);
    /// let latent = model.forward(&mut tape, x, Some(noise)).latent.expect("it is variational");
    /// assert_eq!(tape.shape(latent.mean), [1, 1, 576, 8]);
    /// # Ok::<(), gradcon::Error>(())
    /// ```
    pub fn forward(&self, tape: &mut Tape, x: Tensor, noise: Option<Tensor>) -> Forward {
        let leaf = tape.leaf(PARAMS, [1, 1, 1, self.len]);
        let params: Vec<Tensor> =
            self.params.iter().map(|p| tape.slice(leaf, p.offset, p.shape)).collect();
        let (encoder, constrained) = (vec![], vec![]);
        let (latent, code) = (None, x);
        let mut forward = Forward { reconstruction: x, latent, params, code, encoder, constrained };
        let layers = |is: fn(Mapping) -> bool| -> Vec<usize> {
            (0..self.layers.len()).filter(|&i| is(self.layers[i].row.mapping)).collect()
        };
        let mut h = x;
        for i in layers(|m| m == Mapping::Conv) {
            h = self.layer(tape, &mut forward, i, h);
        }
        forward.code = h;
        if let [mean, log_variance, back] = layers(|m| matches!(m, Mapping::Linear(_)))[..] {
            let code = tape.shape(h);
            let flat = tape.reshape(h, [1, 1, self.latent_len(), code[3]]);
            let mean = self.layer(tape, &mut forward, mean, flat);
            let log_variance = self.layer(tape, &mut forward, log_variance, flat);
            forward.code = mean;
            tape.label("latent");
            let half = tape.affine(log_variance, 0.5, 0.0);
            let deviation = tape.exp(half);
            forward.latent = Some(Latent { mean, log_variance, deviation });
            let away = noise.map(|noise| tape.mul(deviation, noise));
            let z = away.map_or(mean, |away| tape.add(mean, away));
            let flat = self.layer(tape, &mut forward, back, z);
            h = tape.reshape(flat, code);
        }
        for i in layers(|m| m == Mapping::Transposed) {
            h = self.layer(tape, &mut forward, i, h);
        }
        forward.reconstruction = h;
        forward
    }

    /// Records layer `i` behind h.
    fn layer(&self, tape: &mut Tape, forward: &mut Forward, i: usize, h: Tensor) -> Tensor {
        let layer = &self.layers[i];
        tape.label(layer.row.name);
        let (weight, bias) = (forward.params[2 * i], forward.params[2 * i + 1]);
        let geometry = Geometry { n: tape.shape(h)[3], ..layer.geometry };
        let sum = match layer.row.mapping {
            Mapping::Conv | Mapping::Linear(_) => tape.conv_y(geometry, h, weight),
            Mapping::Transposed => tape.conv_x(geometry, h, weight),
        };
        let recorded = Recorded { weight, input: h, sum };
        match layer.row.mapping {
            _ if layer.row.constrained => forward.constrained.push(recorded),
            Mapping::Conv => forward.encoder.push(recorded),
            Mapping::Transposed | Mapping::Linear(_) => {}
        }
        let bias = tape.broadcast(bias, tape.shape(sum));
        let biased = tape.add(sum, bias);
        layer.row.activation.map_or(biased, |map| tape.map(map, &[biased]))
    }
}

impl Layer {
    fn transposed(&self) -> bool {
        self.row.mapping == Mapping::Transposed
    }

    /// Height and width of its output.
    fn size(&self) -> usize {
        if self.transposed() { self.geometry.hx } else { self.geometry.hy }
    }

    fn bias_len(&self) -> usize {
        if self.transposed() { self.geometry.cx } else { self.geometry.cy }
    }

    fn param(&self, weight: bool, offset: usize) -> Param {
        let Geometry { cx, cy, kh, kw, .. } = self.geometry;
        // PyTorch takes axis 1 of the weight for the inputs: right for a conv, the outputs of a
        // transposed conv. In our terms it is cx in both cases.
        let bound = 1.0 / ((cx * kh * kw) as f64).sqrt();
        // Taps that reach one output: all of them for a conv; of a stride-2 transposed conv a
        // quarter.
        let taps = if self.transposed() { cy * kh * kw / (STRIDE * STRIDE) } else { cx * kh * kw };
        let image = Axis::Flat { channels: self.code, positions: cx / self.code };
        let (gain, axes, torch_shape) = match self.row.mapping {
            Mapping::Conv | Mapping::Transposed => (2.0, [Axis::Same; 2], vec![cy, cx, kh, kw]),
            Mapping::Linear(Code::In) => (1.0, [Axis::Same, image], vec![cy, cx]),
            Mapping::Linear(Code::Out) => (1.0, [image, Axis::Same], vec![cy, cx]),
        };
        let (name, shape, torch_shape, std, axes) = if weight {
            let std = (gain / taps as f64).sqrt();
            ("weight", [kh, kw, cy, cx], torch_shape, std, axes)
        } else {
            let len = self.bias_len();
            ("bias", [1, 1, len, 1], vec![len], 0.0, [axes[0], Axis::Same])
        };
        let name = format!("{}.{name}", self.row.name);
        Param { name, offset, shape, torch_shape, bound, std, axes }
    }
}

/// Standard normal by Box and Muller, one of the pair: deterministic on every platform that rounds
/// ln and cos alike.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    let angle: f64 = rng.random_range(0.0..std::f64::consts::TAU);
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_papers() {
        let model = Model::new(1);
        assert_eq!(model.parameter_count(), 230_721);
        assert_eq!(Model::new(3).parameter_count(), 232_771);
        let variational = [1, 3].map(|c| Model::of(Kind::Vae, c).unwrap().parameter_count());
        assert_eq!(variational, [1_227_777, 1_229_827]);
        let heights: Vec<usize> = model.layers.iter().map(Layer::size).collect();
        assert_eq!(heights, [15, 8, 5, 3, 4, 8, 14, 28]);
        let names: Vec<&str> = model.params.iter().map(|p| p.name.as_str()).take(3).collect();
        assert_eq!(names, ["down.0.weight", "down.0.bias", "down.2.weight"]);
        assert_eq!(
            model.segments().iter().map(|s| s.len).collect::<Vec<_>>(),
            [65536, 32768, 16384, 512]
        );
        assert_eq!(model.segments()[0].offset, 0);
    }

    #[test]
    fn other_sizes_are_halved_exactly() {
        let sides = |size: usize| -> Vec<usize> {
            let model = Model::sized(Kind::Cae, size, 1).unwrap();
            model.layers.iter().map(Layer::size).collect()
        };
        assert_eq!(sides(32), [16, 8, 4, 8, 16, 32]);
        assert_eq!(sides(48), [24, 12, 6, 3, 6, 12, 24, 48]);
        assert_eq!(sides(64), [32, 16, 8, 4, 8, 16, 32, 64]);
        assert_eq!(sides(192), [96, 48, 24, 12, 6, 3, 6, 12, 24, 48, 96, 192]);
        for size in crate::images::SIZES {
            let model = Model::sized(Kind::Vae, size, 3).unwrap();
            let outputs: Vec<usize> = model.layers.iter().map(Layer::bias_len).collect();
            let count = model.encoder_layers().len();
            let channels = |i: usize| if i < 2 { 32 } else { 64 };
            let encoder: Vec<usize> = (0..count).map(channels).collect();
            let decoder: Vec<usize> = (0..count - 1).rev().map(channels).chain([3]).collect();
            assert_eq!((&outputs[..count], &outputs[count + 3..]), (&encoder[..], &decoder[..]));
            assert_eq!(model.code_len(), if size % 3 == 0 || size == 28 { 576 } else { 1024 });
            let names: Vec<&str> = model.params.iter().map(|p| p.name.as_str()).collect();
            assert_eq!(names[2 * count - 2], format!("down.{}.weight", 2 * count - 2));
            assert!(names.last().unwrap().starts_with(model.constrained_layers().last().unwrap()));
        }
        assert!(Model::sized(Kind::Cae, 40, 1).is_err());
    }

    #[test]
    fn layouts_are_inverse_and_put_the_right_element_in_the_right_place() {
        let model = Model::of(Kind::Vae, 3).unwrap();
        for p in &model.params {
            let torch: Vec<f32> = (0..p.len()).map(|i| i as f32).collect();
            let mut flat = vec![-1.0; model.len()];
            p.to_flat(&torch, &mut flat);
            assert_eq!(p.from_flat(&flat), torch, "{}", p.name);
            assert_eq!(flat.iter().filter(|&&v| v >= 0.0).count(), p.len(), "{}", p.name);
        }
        let p = &model.params[2];
        let [kh, kw, cy, cx] = p.shape;
        let (a, b, y, x) = (1, 2, 3, 4);
        let mut flat = vec![0.0; model.len()];
        p.to_flat(&(0..p.len()).map(|i| i as f32).collect::<Vec<_>>(), &mut flat);
        assert_eq!(
            flat[p.offset + ((a * kw + b) * cy + y) * cx + x],
            (((y * cx + x) * kh + a) * kw + b) as f32
        );
    }

    /// A linear layer does in PyTorch what its weights say there: an image laid flat is counted by
    /// channel first, a latent variable as it is.
    #[test]
    fn flattened_images_are_counted_as_pytorch_does() {
        let model = Model::of(Kind::Vae, 1).unwrap();
        let at = |name: &str| model.params.iter().find(|p| p.name == name).unwrap();
        // Row 5 and column (position 7, channel 9) in ours; rows and columns are 64 channels x 9.
        for (name, torch) in [
            ("fc11.weight", 5 * 576 + 9 * 9 + 7),
            ("fc12.weight", 5 * 576 + 9 * 9 + 7),
            ("fc2.weight", 5 * 9 * 576 + 7 * 64 + 9),
        ] {
            let p = at(name);
            let mut flat = vec![0; model.len()];
            p.to_flat(&(0..p.len()).collect::<Vec<_>>(), &mut flat);
            assert_eq!(flat[p.offset + 5 * 576 + 7 * 64 + 9], torch, "{name}");
            assert_eq!((&p.torch_shape[..], p.shape), (&[576, 576][..], [1, 1, 576, 576]));
            assert_eq!(p.bound, 1.0 / 24.0);
        }
        for (name, torch) in [("fc11.bias", 7 * 64 + 9), ("fc2.bias", 9 * 9 + 7)] {
            let p = at(name);
            let mut flat = vec![0; model.len()];
            p.to_flat(&(0..p.len()).collect::<Vec<_>>(), &mut flat);
            assert_eq!(flat[p.offset + 7 * 64 + 9], torch, "{name}");
        }
        let names: Vec<&str> = model.params[8..14].iter().map(|p| p.name.as_str()).collect();
        let linear = ["fc11", "fc12", "fc2"].map(|l| [format!("{l}.weight"), format!("{l}.bias")]);
        assert_eq!(names, linear.concat());
    }

    #[test]
    fn initial_parameters_have_the_stated_spread() {
        let model = Model::new(1);
        let flat = model.init(Init::Torch, 5);
        let p = &model.params[10]; // up.2.weight: fan_in 32 * 16
        let values = p.from_flat(&flat);
        let bound = 1.0 / (32.0f32 * 16.0).sqrt();
        let largest = values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{largest} {bound}");
        let flat = model.init(Init::Kaiming, 5);
        let variance = p.from_flat(&flat).iter().map(|v| v * v).sum::<f32>() / p.len() as f32;
        assert!((variance / (2.0 / (64.0 * 4.0)) - 1.0).abs() < 0.05, "{variance}");
        assert!(model.params[11].from_flat(&flat).iter().all(|&v| v == 0.0));
        assert_eq!(flat, model.init(Init::Kaiming, 5));
        assert_ne!(flat, model.init(Init::Kaiming, 6));
    }
}
