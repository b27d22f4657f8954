//! The autoencoder of gradcon in burn, timed beside `gradcon bench steps`: a training step with the
//! plain reconstruction loss, since burn has no gradient of a gradient.
//!
//! What is the same: layers, batch, images, optimiser, a resident dataset, one read of the losses a
//! round. What is not: gradcon's step has the gradient constraint, its gradient of a gradient and the
//! running mean of gradients on top, 1.9 times the operations. So a ratio of 1 means that gradcon
//! does nearly twice the work in the same time.
//!
//! From this folder: `cargo run --release -- flex 1 20 5 ../../target/release/gradcon cpu`, or with
//! `--features wgpu` and `wgpu` in place of `flex`, and a GPU's name in place of `cpu` (not run yet).

use std::process::Command;
use std::time::Instant;

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor, TensorData};

const BATCH: usize = 64;
const SIZE: usize = 28;

#[derive(Module, Debug)]
struct Autoencoder {
    down: Vec<Conv2d>,
    up: Vec<ConvTranspose2d>,
}

impl Autoencoder {
    fn new(channels: usize, device: &Device) -> Autoencoder {
        let down = |from, to| {
            Conv2dConfig::new([from, to], [4, 4])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(2, 2, 2, 2))
                .init(device)
        };
        let up = |from, to, padding| {
            ConvTranspose2dConfig::new([from, to], [4, 4])
                .with_stride([2, 2])
                .with_padding([padding, padding])
                .init(device)
        };
        Autoencoder {
            down: vec![down(channels, 32), down(32, 32), down(32, 64), down(64, 64)],
            up: vec![up(64, 64, 2), up(64, 32, 1), up(32, 32, 2), up(32, channels, 1)],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let code = self.down.iter().fold(x, |x, layer| relu(layer.forward(x)));
        let (last, first) = self.up.split_last().expect("four layers");
        sigmoid(last.forward(first.iter().fold(code, |x, layer| relu(layer.forward(x)))))
    }
}

/// Rounds of `steps` training steps: images a second of each, and the losses of its first and last
/// step.
struct Training {
    device: Device,
    model: Option<Autoencoder>,
    optimizer: burn::optim::ModuleOptimizer,
    data: Tensor<4>,
    steps: usize,
}

impl Training {
    fn new(device: Device, channels: usize, steps: usize) -> Training {
        // The pattern that `gradcon bench` trains on.
        let images = BATCH * steps;
        let pixels: Vec<f32> =
            (0..images * channels * SIZE * SIZE).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
        let data = TensorData::new(pixels, [images, channels, SIZE, SIZE]);
        let model = Some(Autoencoder::new(channels, &device.clone().autodiff()));
        let optimizer = AdamConfig::new().with_epsilon(1e-8).init();
        let data = Tensor::from_data(data, &device);
        Training { device, model, optimizer, data, steps }
    }

    fn round(&mut self) -> (f64, f32, f32) {
        let start = Instant::now();
        let mut losses = vec![];
        for step in 0..self.steps {
            let model = self.model.take().expect("put back below");
            let x = self.data.clone().narrow(0, step * BATCH, BATCH).autodiff();
            let loss = MseLoss::new().forward(model.forward(x.clone()), x, Reduction::Mean);
            losses.push(loss.clone().inner());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            self.model = Some(self.optimizer.step(1e-3, model, gradients));
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().try_to_vec().expect("floats");
        self.device.sync().expect("the device works");
        let seconds = start.elapsed().as_secs_f64();
        assert!(losses.iter().all(|loss| loss.is_finite()), "a loss is not finite: {losses:?}");
        ((BATCH * self.steps) as f64 / seconds, losses[0], losses[self.steps - 1])
    }
}

fn gradcon(program: &str, device: &str, channels: usize, steps: usize) -> (f64, f64) {
    let numbers = [BATCH, channels, steps].map(|n| n.to_string());
    let out = Command::new(program)
        .args(["-q", "bench", "steps", "--json", "--rounds", "1", "--device", device])
        .args(["--batch", &numbers[0], "--channels", &numbers[1], "--steps", &numbers[2]])
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    let number = |name: &str| -> f64 {
        let at = text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len();
        let rest = text[at..].trim_start_matches(['"', ':']);
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    (number("train_images_per_second"), number("train_gflops"))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "burn-peer flex|wgpu CHANNELS STEPS ROUNDS GRADCON GRADCON_DEVICE";
    let [backend, channels, steps, rounds, program, name] = &args[..] else {
        eprintln!("usage: {usage}");
        std::process::exit(2);
    };
    let number = |text: &String| -> usize {
        text.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| panic!("'{text}': {usage}"))
    };
    let [channels, steps, rounds] = [channels, steps, rounds].map(number);
    let device = match &backend[..] {
        "flex" => Device::flex(),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::webgpu(Default::default()),
        other => panic!("'{other}': {usage}"),
    };
    let mut training = Training::new(device, channels, steps);
    let (_, first, _) = training.round(); // warm-up, tuning of kernels included
    let (mut theirs, mut ours, mut gflops, mut last) = (vec![], vec![], vec![], 0.0);
    for _ in 0..rounds {
        let (rate, _, loss) = training.round();
        let (images, flops) = gradcon(program, name, channels, steps);
        println!("burn {backend} {rate:.0}, gradcon {name} {images:.0} images/s");
        theirs.push(rate);
        ours.push(images);
        gflops.push(flops / images);
        last = loss;
    }
    assert!(last < first, "the loss went from {first} to {last}: this is no training");
    let (theirs, ours) = (median(&mut theirs), median(&mut ours));
    println!(
        "median of {rounds}: burn {backend} {theirs:.0}, gradcon {name} {ours:.0} images/s, ratio {:.2}; gradcon's \
         step has {:.1} MFLOP an image, and the constraint on top",
        ours / theirs,
        1e3 * median(&mut gflops)
    );
}
