//! The noise: the numbers that it is said to be, with the same bits on every engine, normally
//! distributed, independent of each other and of everything that is not in their counters.

mod common;

use common::{Tolerance, assert_close, assert_same_bits};
use gradcon::engine::gpu::{GpuEngine, OpenOptions, Selector};
use gradcon::engine::{Data, Engine, cpu};
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;
use safetensors::SafeTensors;

/// Where numbers are drawn.
#[derive(Clone, Copy)]
struct Draw {
    seed: u64,
    iteration: u32,
    layer: usize,
    features: usize,
    n: usize,
}

const DRAW: Draw = Draw { seed: 1 + (2 << 32), iteration: 3, layer: 0, features: 576, n: 910 };

impl Draw {
    /// The numbers `[features, n]`.
    fn on(&self, engine: &mut dyn Engine) -> Vec<f64> {
        let Draw { seed, iteration, layer, features, n } = *self;
        let mut tape = Tape::new();
        let noise = tape.noise("draws", [1, 1, features, n], layer, 1);
        tape.store(noise, "noise");
        engine.clear();
        let program = engine.load(&compile("draw", &tape, Options::default())).unwrap();
        let row = [seed as u32, (seed >> 32) as u32, iteration, 0];
        engine.write("draws", Data::U32(&row)).unwrap();
        engine.run(program, 0..1).unwrap();
        engine.read("noise").unwrap()
    }

    fn numbers(&self) -> Vec<f64> {
        self.on(cpu::f32().as_mut())
    }
}

/// Philox and the quantiles as another program has them: tools/variational_fixtures.py.
#[test]
fn numbers_are_what_the_definition_says() {
    let file =
        format!("{}/tests/fixtures/variational/noise.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of_image = file.tensor("noise").unwrap().data();
    let of_image: Vec<f64> =
        of_image.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    let (features, n) = (9, 7);
    let want: Vec<f64> = (0..features * n).map(|at| of_image[at % n * features + at / n]).collect();
    let draw = Draw { seed: 0x0123_4567_89ab_cdef, iteration: 77, layer: 3, features, n };
    assert_close("numbers", &draw.numbers(), &want, Tolerance::absolute(7e-7));
    assert_same_bits("f64", &draw.on(cpu::f64().as_mut()), &draw.numbers());
}

#[test]
#[ignore = "needs a GPU adapter: tools/test.sh runs it where there is one"]
fn a_gpu_draws_the_same_bits() {
    let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
    let mut gpu = GpuEngine::open(&Selector::Hardware, options)
        .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
    for draw in [DRAW, Draw { seed: u64::MAX, iteration: u32::MAX, features: 1023, ..DRAW }] {
        assert_same_bits("the GPU's", &draw.on(&mut gpu), &draw.numbers());
    }
}

/// The normal distribution's probability of less than x, by its power series.
fn normal(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, 0.0, 1.0);
    while sum + term != sum {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// Moments, tails, and the greatest distance of the distributions (Kolmogorov, Smirnov): all within
/// what half a million true numbers would show once in thousands of times.
#[test]
fn numbers_are_normally_distributed() {
    assert!((normal(1.96) - 0.975_002_104_851_779_5).abs() < 1e-14);
    for seed in 0..3 {
        let mut numbers = Draw { seed, ..DRAW }.numbers();
        let count = numbers.len() as f64;
        let moment = |k: i32| numbers.iter().map(|v| v.powi(k)).sum::<f64>() / count;
        // The variance of a k-th power's mean is (E x^2k - (E x^k)^2) / count.
        for (k, mean, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let (got, sigma) = (moment(k), (variance / count).sqrt());
            assert!((got - mean).abs() < 4.0 * sigma, "seed {seed}, moment {k}: {got}");
        }
        for limit in [2.0, 3.0, 4.0] {
            let want = count * 2.0 * normal(-limit);
            let got = numbers.iter().filter(|v| v.abs() > limit).count() as f64;
            assert!((got - want).abs() < 4.0 * want.sqrt(), "beyond {limit}: {got}, not {want}");
        }
        numbers.sort_by(f64::total_cmp);
        let distance = numbers.iter().enumerate().fold(0.0f64, |most, (i, &v)| {
            let p = normal(v);
            most.max((p - i as f64 / count).abs()).max(((i + 1) as f64 / count - p).abs())
        });
        assert!(distance * count.sqrt() < 1.95, "seed {seed}: a distance of {distance}");
    }
}

/// Whatever is in a number's counter or key gives others, which have nothing to do with it.
#[test]
fn numbers_of_other_places_are_independent() {
    let first = DRAW.numbers();
    let others = [
        ("seed", Draw { seed: DRAW.seed + 1, ..DRAW }.numbers()),
        ("the seed's high word", Draw { seed: DRAW.seed + (1 << 32), ..DRAW }.numbers()),
        ("iteration", Draw { iteration: DRAW.iteration + 1, ..DRAW }.numbers()),
        ("layer", Draw { layer: 1, ..DRAW }.numbers()),
        ("image", [&first[1..], &first[..1]].concat()),
        ("feature", [&first[DRAW.n..], &first[..DRAW.n]].concat()),
        ("feature of another counter", [&first[4 * DRAW.n..], &first[..4 * DRAW.n]].concat()),
    ];
    for (what, other) in others {
        let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
        // Numbers have 22 bits behind the point, so a few meet by chance.
        assert!(same < 10, "another {what}: {same} numbers are the same");
        let products = first.iter().zip(&other).map(|(a, b)| a * b);
        let correlation = products.sum::<f64>() / first.len() as f64;
        assert!(correlation * (first.len() as f64).sqrt() < 4.0, "another {what}: {correlation}");
    }
}

/// Not in it are the number of images and of features: a batch's tail and its padding change
/// nothing.
#[test]
fn a_number_does_not_depend_on_how_many_there_are() {
    let (few, many) = (Draw { features: 9, n: 5, ..DRAW }, Draw { features: 30, n: 70, ..DRAW });
    let (few_numbers, many_numbers) = (few.numbers(), many.numbers());
    let shared: Vec<f64> =
        (0..9 * 5).map(|at| many_numbers[at / few.n * many.n + at % few.n]).collect();
    assert_same_bits("those of the smaller batch", &few_numbers, &shared);
}
