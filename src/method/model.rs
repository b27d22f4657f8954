//! The autoencoder: its layers, the flat layout of its parameters, and how it is recorded.
//!
//! Names and weight layouts towards the outside are PyTorch's: `down.0.weight`, conv
//! `[out, in, kh, kw]`, transposed conv `[in, out, kh, kw]`. Inside, both are the geometry's
//! `[kh, kw, cy, cx]` (see [`crate::geometry`]): cy is a conv's output and a transposed conv's
//! input.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::geometry::Geometry;
pub use crate::images::IMAGE_SIZE;
use crate::images::Images;
use crate::layout::{Segment, Shape, pack, size};
use crate::tape::ops::Map;
use crate::tape::{Tape, Tensor};

/// The buffer of all parameters, flat, of each replica.
pub const PARAMS: &str = "params";

/// Most channels of an image: more than any camera has, and few enough that no size of a program
/// leaves 64 bits.
pub const MAX_CHANNELS: usize = 1 << 16;

/// Kernel height and width, and stride, of every layer.
const KERNEL: usize = 4;
const STRIDE: usize = 2;

/// One convolution of an autoencoder, as a row of its description.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Row {
    /// Name in a state dict: `down.0`.
    name: &'static str,
    /// conv_transpose2d and not conv2d.
    transposed: bool,
    /// Channels of its output; of the image, if not said.
    out: Option<usize>,
    padding: usize,
    activation: Map,
    /// Whether the weight's gradient is constrained, and a part of the score.
    constrained: bool,
}

const fn down(name: &'static str, out: usize) -> Row {
    let (transposed, padding) = (false, 2);
    let activation = Map::Relu;
    Row { name, transposed, out: Some(out), padding, activation, constrained: false }
}

const fn up(name: &'static str, out: Option<usize>, padding: usize, activation: Map) -> Row {
    Row { name, transposed: true, out, padding, activation, constrained: true }
}

/// The paper's autoencoder.
const CAE: [Row; 8] = [
    down("down.0", 32),
    down("down.2", 32),
    down("down.4", 64),
    down("down.6", 64),
    up("up.0", Some(64), 2, Map::Relu),
    up("up.2", Some(32), 1, Map::Relu),
    up("up.4", Some(32), 2, Map::Relu),
    up("up.6", None, 1, Map::Sigmoid),
];

/// A row with its sizes, for one image.
#[derive(Clone, PartialEq, Debug)]
struct Layer {
    row: Row,
    geometry: Geometry,
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
}

impl Param {
    /// Elements. Shown at [`Param`].
    pub fn len(&self) -> usize {
        size(self.shape)
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
    /// bias is the same in both.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        if self.torch_shape.len() == 1 {
            return (0..self.len()).for_each(|i| visit(i, self.offset + i));
        }
        let [kh, kw, cy, cx] = self.shape;
        for i in 0..kh * kw * cy * cx {
            let (tap, y, x) = (i / (cy * cx), i / cx % cy, i % cx);
            visit((y * cx + x) * kh * kw + tap, self.offset + i);
        }
    }
}

/// How parameters start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Init {
    /// PyTorch's default for these layers, which the paper uses: uniform in +-1/sqrt(fan_in).
    #[default]
    Torch,
    /// Normal with variance 2 / (taps that reach an output), zero biases: leaves the plateau that
    /// `Torch` can sit on for ten epochs.
    Kaiming,
}

/// The convolutional autoencoder for images of `channels` x 28 x 28.
///
/// ```
/// use gradcon::{Images, Init, Model};
///
/// let model = Model::try_new(1)?;
/// assert_eq!((model.channels(), model.pixels()), (1, 784));
/// assert_eq!((model.params().len(), model.parameter_count()), (16, 230_721));
/// assert_eq!(model.init(Init::Torch, 0).len(), model.len()); // flat, with gaps
/// assert!(!model.is_empty());
/// model.check_images(&Images::new(vec![0; 2 * 784], [2, 28, 28, 1])?)?;
///
/// assert_eq!(model.constrained_layers(), ["up.0", "up.2", "up.4", "up.6"]);
/// // Their weights lie at the head of the flat parameters.
/// let (segments, geometries) = (model.segments(), model.constrained_geometries(64));
/// assert_eq!(model.reference_len(), segments[3].offset + segments[3].len);
/// for (i, weight) in model.constrained_weights().enumerate() {
///     assert_eq!((weight.offset, weight.shape), (segments[i].offset, geometries[i].w_shape()));
/// }
/// # Ok::<(), gradcon::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Model {
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
    /// All parameters, in the order of [`Model::params`].
    pub params: Vec<Tensor>,
    /// The constrained layers, first to last.
    pub constrained: Vec<Constrained>,
}

/// A layer whose weight gradient is constrained, in a recorded forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Constrained {
    /// Its weight.
    pub weight: Tensor,
    /// What goes in.
    pub input: Tensor,
    /// What comes out, before bias and activation.
    pub sum: Tensor,
}

impl Model {
    /// The paper's autoencoder. `channels` is 1 or 3 in the datasets; any number from 1 to
    /// [`MAX_CHANNELS`] works. Shown, like [`Model::try_new`], at [`Model`].
    ///
    /// # Panics
    /// Another number; [`Model::try_new`] is for numbers that come from outside.
    pub fn new(channels: usize) -> Model {
        Model::try_new(channels).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The paper's autoencoder. Shown at [`Model`].
    ///
    /// # Errors
    /// 0 channels, or more than [`MAX_CHANNELS`].
    pub fn try_new(channels: usize) -> Result<Model> {
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(Error::Usage(format!(
                "a model of {channels} channels: expected 1 to {MAX_CHANNELS}"
            )));
        }
        let mut layers: Vec<Layer> = vec![];
        let (mut inputs, mut size) = (channels, IMAGE_SIZE);
        for row in CAE {
            let (input, out) = ((inputs, size, size), row.out.unwrap_or(channels));
            let kernel = (KERNEL, KERNEL);
            let geometry = match row.transposed {
                false => Geometry::conv2d(1, input, out, kernel, STRIDE, row.padding),
                true => Geometry::conv_transpose2d(1, input, out, kernel, STRIDE, row.padding),
            };
            let layer = Layer { row, geometry };
            (inputs, size) = (out, layer.size());
            layers.push(layer);
        }
        assert_eq!((inputs, size), (channels, IMAGE_SIZE));

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
            let at = layers.iter().position(|l| p.name.starts_with(l.row.name));
            at.map(|i| (i, p.name.ends_with("bias")))
        };
        params.sort_by_key(rank);
        Ok(Model { channels, layers, params, len, reference_len })
    }

    /// Channels of an image. Shown at [`Model`].
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Values of an image. Shown at [`Model`].
    pub fn pixels(&self) -> usize {
        self.channels * IMAGE_SIZE * IMAGE_SIZE
    }

    /// Whether images are what this model was made for. Shown at [`Model`].
    ///
    /// # Errors
    /// They have another shape; the message names both.
    pub fn check_images(&self, images: &Images) -> Result<()> {
        images.check()?;
        let (found, expected) = (
            [images.height, images.width, images.channels],
            [IMAGE_SIZE, IMAGE_SIZE, self.channels],
        );
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
        let weight = |l: &Layer| format!("{}.weight", l.row.name);
        self.constrained().filter_map(move |l| self.params.iter().find(|p| p.name == weight(l)))
    }

    /// Where they lie in the flat buffers. Shown at [`Model`].
    pub fn segments(&self) -> Vec<Segment> {
        self.constrained_weights().map(|p| Segment { offset: p.offset, len: p.len() }).collect()
    }

    /// Their geometries for batches of n. Shown at [`Model`].
    pub fn constrained_geometries(&self, n: usize) -> Vec<Geometry> {
        self.constrained().map(|l| Geometry { n, ..l.geometry }).collect()
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

    /// Records the forward pass of a batch `[28, 28, channels, n]`.
    ///
    /// ```
    /// use gradcon::{Model, tape::Tape};
    ///
    /// let mut tape = Tape::new();
    /// let x = tape.leaf("x", [28, 28, 3, 8]);
    /// let forward = Model::new(3).forward(&mut tape, x);
    /// assert_eq!(tape.shape(forward.reconstruction), [28, 28, 3, 8]);
    /// assert_eq!(tape.shape(forward.constrained[0].input), [3, 3, 64, 8]); // the code
    /// ```
    pub fn forward(&self, tape: &mut Tape, x: Tensor) -> Forward {
        let n = tape.shape(x)[3];
        let leaf = tape.leaf(PARAMS, [1, 1, 1, self.len]);
        let params: Vec<Tensor> =
            self.params.iter().map(|p| tape.slice(leaf, p.offset, p.shape)).collect();
        let mut forward = Forward { reconstruction: x, params, constrained: vec![] };
        let mut h = x;
        for (i, layer) in self.layers.iter().enumerate() {
            tape.label(layer.row.name);
            let (weight, bias) = (forward.params[2 * i], forward.params[2 * i + 1]);
            let geometry = Geometry { n, ..layer.geometry };
            let sum = match layer.row.transposed {
                false => tape.conv_y(geometry, h, weight),
                true => tape.conv_x(geometry, h, weight),
            };
            if layer.row.constrained {
                forward.constrained.push(Constrained { weight, input: h, sum });
            }
            let bias = tape.broadcast(bias, tape.shape(sum));
            let biased = tape.add(sum, bias);
            h = tape.map(layer.row.activation, &[biased]);
        }
        forward.reconstruction = h;
        forward
    }
}

impl Layer {
    /// Height and width of its output.
    fn size(&self) -> usize {
        if self.row.transposed { self.geometry.hx } else { self.geometry.hy }
    }

    fn bias_len(&self) -> usize {
        if self.row.transposed { self.geometry.cx } else { self.geometry.cy }
    }

    fn param(&self, weight: bool, offset: usize) -> Param {
        let Geometry { cx, cy, kh, kw, .. } = self.geometry;
        // PyTorch takes axis 1 of the weight for the inputs: right for a conv, the outputs of a
        // transposed conv. In our terms it is cx in both cases.
        let bound = 1.0 / ((cx * kh * kw) as f64).sqrt();
        // Taps that reach one output: all of them for a conv; of a stride-2 transposed conv a
        // quarter.
        let taps =
            if self.row.transposed { cy * kh * kw / (STRIDE * STRIDE) } else { cx * kh * kw };
        let (name, shape, torch_shape, std) = if weight {
            ("weight", [kh, kw, cy, cx], vec![cy, cx, kh, kw], (2.0 / taps as f64).sqrt())
        } else {
            ("bias", [1, 1, self.bias_len(), 1], vec![self.bias_len()], 0.0)
        };
        Param { name: format!("{}.{name}", self.row.name), offset, shape, torch_shape, bound, std }
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
    fn layouts_are_inverse_and_put_the_right_element_in_the_right_place() {
        let model = Model::new(3);
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
