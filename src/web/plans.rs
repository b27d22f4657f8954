//! The programs that a page runs, on the same parameters and references.

use crate::error::Result;
use crate::kernels::Form;
use crate::method::config::TrainConfig;
use crate::method::feed::{padded, source};
use crate::method::model::Model;
use crate::method::programs::{score_program, training_program};
use crate::program::dispatch::Plan;
use crate::program::{Options, Program, compile};
use crate::tape::Tape;

use super::limits;

/// Test images that are scored at a time.
pub const TEST_BATCH: usize = 64;

/// Test images whose reconstructions a page shows, at most.
pub const GALLERY: usize = 16;

/// What is computed in a page, one program each.
///
/// ```
/// use gradcon::kernels::Form;
/// use gradcon::web::plans::Programs;
/// use gradcon::{Model, TrainConfig};
///
/// let programs = Programs::new(&Model::new(1), &TrainConfig::default(), 512, 256, Form::Parallel);
/// let names = programs.plans(&[])?.map(|plan| plan.name);
/// assert_eq!(names, ["train", "score", "gallery", "look"]);
/// # Ok::<(), gradcon::Error>(())
/// ```
pub struct Programs {
    /// A training step.
    pub train: Program,
    /// Error and cosines of the test images: the log `[steps, 1 + layers, TEST_BATCH]`.
    pub score: Program,
    /// The first test images' reconstructions `[h, w, c, padded(GALLERY)]`.
    pub gallery: Program,
    /// One image's reconstruction `[h, w, c, padded(1)]`, and the gradients of the constrained
    /// weights as they lie in the reference.
    pub look: Program,
}

impl Programs {
    /// For so many training and test images.
    pub fn new(
        model: &Model,
        config: &TrainConfig,
        train: usize,
        tests: usize,
        form: Form,
    ) -> Programs {
        let options = Options::new(1, form);
        // With the constraint in it, whatever its weight is at first: a reader moves it.
        let config = &TrainConfig { alpha: 1.0, ..config.clone() };
        let steps = train.div_ceil(config.batch_size);
        Programs {
            train: training_program(model, config, train, steps, options),
            score: score_program(model, TEST_BATCH, tests.div_ceil(TEST_BATCH), options),
            gallery: gallery(model, tests.min(GALLERY), options),
            look: look(model, options),
        }
    }

    /// All of them as every browser can run them, in these variants where they fit (see
    /// [`limits::plan`]).
    ///
    /// # Errors
    /// One needs more than the default limits.
    pub fn plans(&self, preferred: &[&'static str]) -> Result<[Plan; 4]> {
        let [train, score, gallery, look] = [&self.train, &self.score, &self.gallery, &self.look]
            .map(|program| limits::plan(program, preferred));
        Ok([train?, score?, gallery?, look?])
    }
}

/// Reconstructs a batch of `count` images.
fn gallery(model: &Model, count: usize, options: Options) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let (x, _) = tape.batch(source("gallery", count, 1), model.shape(padded(count)));
    let reconstruction = model.forward(&mut tape, x, None).reconstruction;
    tape.store(reconstruction, "gallery.reconstruction");
    compile("gallery", &tape, options)
}

/// Reconstructs one image and differentiates its error by the constrained weights.
fn look(model: &Model, options: Options) -> Program {
    let mut tape = Tape::new();
    tape.label("batch");
    let (x, weight) = tape.batch(source("look", 1, 1), model.shape(padded(1)));
    let forward = model.forward(&mut tape, x, None);
    tape.store(forward.reconstruction, "look.reconstruction");
    tape.label("loss");
    let mse = tape.mse(forward.reconstruction, x, weight);
    let weights: Vec<_> = forward.constrained.iter().map(|layer| layer.weight).collect();
    let gradients = tape.grad(mse, &weights);
    tape.label("gradients");
    let offsets = model.segments().into_iter().map(|segment| segment.offset);
    let parts: Vec<_> = gradients.into_iter().zip(offsets).collect();
    let flat = tape.concat(&parts, model.reference_len());
    tape.store(flat, "look.gradients");
    compile("look", &tape, options)
}
