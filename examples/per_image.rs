//! Each image's own gradient, of which only a cosine is wanted: with a pass for each image, and for
//! all images at once, without any of these gradients in memory.
//!
//! `cargo run --example per_image`

use gradcon::engine::cpu;
use gradcon::method::inspect::Inspector;
use gradcon::method::programs::score_program;
use gradcon::program::{Options, Program};
use gradcon::{Detector, Images, Init, Model, Scorer};

fn main() -> gradcon::Result<()> {
    let model = Model::new(1);
    let detector = Detector {
        params: model.init(Init::Kaiming, 0),
        reference: (0..model.reference_len()).map(|i| (i % 7) as f32 - 3.0).collect(),
        statistics: None,
        description: Default::default(),
        model,
    };
    let (model, n) = (&detector.model, 64);
    let data = (0..n * model.pixels()).map(|i| (i / 784 * 31 + i * i % 253) as u8).collect();
    let images = Images::new(data, [n, 28, 28, 1])?;

    let mut engine = cpu::f32();
    let one_by_one = Inspector::new(engine.as_mut(), &detector)?.directions(&images)?;
    let at_once = Scorer::new(engine.as_mut(), &detector)?.score(&images)?;
    println!("image  cosine of up.0: one by one    at once");
    for i in 0..3 {
        println!("{i:<5} {:>26.6} {:>10.6}", one_by_one[i].cosines[0], at_once[i].cosines[0]);
    }
    let apart = one_by_one
        .iter()
        .zip(&at_once)
        .flat_map(|(a, b)| a.cosines.iter().zip(&b.cosines).map(|(a, b)| (a - b).abs()));
    let apart = apart.fold(0.0, f64::max);
    println!("all {n} images and 4 layers agree to 1e-4: {}", apart < 1e-4);
    assert!(apart < 1e-4, "{apart}");

    let batch = score_program(model, n, 1, Options::default());
    let kernels = |program: &Program, name: &str| {
        program.calls.iter().filter(|call| call.kernel.name() == name).count()
    };
    let gradients = 4 * n * model.reference_len();
    println!("\nthe program for all {n} at once:");
    println!(
        "  kernel calls {}, of them image_grad {}",
        batch.calls.len(),
        kernels(&batch, "image_grad")
    );
    println!("  floating-point operations, millions {:.0}", batch.cost().flops as f64 / 1e6);
    println!("  memory for what it computes on the way, MB {:.1}", batch.memory().0 as f64 / 1e6);
    println!("  the {n} gradients that are never there would be, MB {:.1}", gradients as f64 / 1e6);
    Ok(())
}
