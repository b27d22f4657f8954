//! The convolution that the lab computes in every version, and what its result has to be.

use gradcon::Result;
use gradcon::bench::verify::compare;
use gradcon::engine::measure::Span;
use gradcon::engine::{Data, Engine, Loaded, cpu};
use gradcon::geometry::Geometry;
use gradcon::program::{Call, Options, Program, compile};
use gradcon::tape::Tape;

/// The model's second layer.
pub fn of_model(batch: usize) -> Geometry {
    Geometry::conv2d(batch, (32, 15, 15), 32, (4, 4), 2, 2)
}

/// Sizes with every kind of tail; images come in fours.
pub fn small() -> [Geometry; 4] {
    [
        Geometry::conv2d(4, (3, 5, 6), 2, (2, 3), 1, 0),
        Geometry::conv2d(12, (17, 9, 11), 35, (4, 3), 2, 1),
        Geometry::conv2d(84, (5, 6, 5), 7, (3, 2), 1, 2),
        Geometry::conv2d(36, (40, 4, 5), 13, (4, 4), 2, 3),
    ]
}

/// conv_y of random numbers.
pub struct Layer {
    pub geometry: Geometry,
    /// `[hx, wx, cx, n]`.
    pub x: Vec<f32>,
    /// `[kh, kw, cy, cx]`.
    pub w: Vec<f32>,
    /// `[hy, wy, cy, n]`, by the f64 engine.
    want: Vec<f64>,
}

impl Layer {
    /// # Errors
    /// That of the engine.
    pub fn new(geometry: Geometry) -> Result<Layer> {
        let (x, w) = (values(geometry.x_len(), 1), values(geometry.w_len(), 2));
        let mut layer = Layer { geometry, x, w, want: vec![] };
        let mut engine = cpu::f64();
        let loaded = layer.load(engine.as_mut())?.0;
        engine.run(loaded, 0..1)?;
        layer.want = engine.read("y")?;
        Ok(layer)
    }

    /// Loads the product's own program of the layer, with its operands: the program, and the number
    /// of the call that convolves.
    ///
    /// # Errors
    /// That of the engine.
    pub fn load(&self, engine: &mut dyn Engine) -> Result<(Loaded, usize)> {
        let program = self.program(engine);
        let loaded = engine.load(&program)?;
        engine.write("x", Data::F32(&self.x))?;
        engine.write("w", Data::F32(&self.w))?;
        let convolves = |call: &Call| call.kernel.name() == "conv_y";
        let call = program.calls.iter().position(convolves).expect("it was recorded");
        Ok((loaded, call))
    }

    /// The product's program.
    pub fn program(&self, engine: &dyn Engine) -> Program {
        let (g, mut tape) = (self.geometry, Tape::new());
        let (x, w) = (tape.leaf("x", g.x_shape()), tape.leaf("w", g.w_shape()));
        let y = tape.conv_y(g, x, w);
        tape.store(y, "y");
        compile("lab", &tape, Options::new(1, engine.form()))
    }

    /// The worst difference from the f64 engine's result as a part of what is allowed, or what is
    /// wrong.
    ///
    /// # Errors
    /// It is wrong.
    pub fn verify(&self, got: &[f32]) -> std::result::Result<f64, String> {
        let got: Vec<f64> = got.iter().copied().map(f64::from).collect();
        let inside = 0..self.want.len();
        let terms = 2.0 * self.geometry.macs() as f64 / self.want.len() as f64;
        compare(&got, &self.want, &[inside], (terms, false))
    }

    /// Floating-point operations; a multiply-add counts two, and taps in the padding none.
    pub fn flops(&self) -> f64 {
        2.0 * self.geometry.macs() as f64
    }

    /// Bytes that have to move at least.
    pub fn bytes(&self) -> f64 {
        4.0 * (self.x.len() + self.w.len() + self.want.len()) as f64
    }
}

/// The same numbers in (-1, 1) everywhere.
fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(1u32 << 31) - 1.0
    };
    (0..len).map(|_| draw() as f32).collect()
}

/// Floating-point operations for each byte of f32 that is loaded, if a load of w serves so many
/// images and one of x so many channels.
pub fn intensity([channels, images]: [usize; 2]) -> f64 {
    (2 * channels * images) as f64 / (4 * (channels + images)) as f64
}

/// A way to compute the layer.
pub trait Version {
    /// Number and name.
    fn name(&self) -> &str;

    /// What is new in it.
    fn idea(&self) -> &str;

    /// Floating-point operations for each byte that the inner loop loads or stores, in any memory
    /// but registers; of a tile in workgroup memory, for each byte that is brought there.
    fn intensity(&self) -> Option<f64>;

    /// Computes y.
    ///
    /// # Errors
    /// That of a device.
    fn result(&mut self) -> Result<Vec<f32>>;

    /// Computes y as often, after it was computed once.
    ///
    /// # Errors
    /// That of a device.
    fn time(&mut self, times: u32) -> Result<Span>;
}

/// The product's own kernel on an engine.
pub struct Product<'a> {
    pub layer: &'a Layer,
    pub engine: &'a std::cell::RefCell<Box<dyn Engine>>,
    pub name: String,
    /// In which it runs, of an engine that has some.
    pub variant: Option<&'static str>,
    pub intensity: Option<f64>,
    loaded: Option<(Loaded, usize)>,
}

impl<'a> Product<'a> {
    pub fn new(
        layer: &'a Layer,
        engine: &'a std::cell::RefCell<Box<dyn Engine>>,
        name: String,
        variant: Option<&'static str>,
        intensity: Option<f64>,
    ) -> Product<'a> {
        Product { layer, engine, name, variant, intensity, loaded: None }
    }
}

impl Version for Product<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn idea(&self) -> &str {
        "the product's own"
    }

    fn intensity(&self) -> Option<f64> {
        self.intensity
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        let mut engine = self.engine.borrow_mut();
        engine.clear();
        if let Some(tunable) = engine.tunable() {
            tunable.force(self.variant);
        }
        let loaded = self.layer.load(engine.as_mut())?;
        self.loaded = Some(loaded);
        engine.run(loaded.0, 0..1)?;
        engine.read_f32("y")
    }

    fn time(&mut self, times: u32) -> Result<Span> {
        let (loaded, call) = self.loaded.expect("its result was asked for");
        self.engine.borrow_mut().measure().time_call(loaded, call, 0, times)
    }
}
