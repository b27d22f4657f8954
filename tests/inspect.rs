//! `gradcon inspect` and what it looks at: the gradient of the score in an image's pixels against
//! finite differences, every tensor against what the other parts of the program say of it, and the
//! real program on files and folders.

mod common;
mod place;

use common::{Tolerance, assert_close};
use gradcon::engine::{Data, cpu};
use gradcon::layout::size;
use gradcon::method::feed::REFERENCE;
use gradcon::method::inspect::{Inspector, paper_score};
use gradcon::method::model::{Kind, PARAMS};
use gradcon::method::objective::{Terms, objective};
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;
use gradcon::{Detector, Images, Init, Model, Scorer};
use place::{Place, read, text};

fn detector(kind: Kind, size: usize, channels: usize) -> Detector {
    let model = Model::sized(kind, size, channels).unwrap();
    let reference = (0..model.reference_len()).map(|i| (i * 37 % 101) as f32 - 49.0).collect();
    let params = model.init(Init::Kaiming, 5);
    Detector { model, params, reference, statistics: None, description: Default::default() }
}

fn image(size: usize, channels: usize, seed: usize) -> Images {
    let data = (0..size * size * channels).map(|i| ((i * 89 + seed * 53) % 241) as u8).collect();
    Images::new(data, [1, size, size, channels]).unwrap()
}

/// dS/dx in float64 along some directions, with a step so small that hardly a ReLU changes sides.
#[test]
fn the_scores_gradient_in_the_pixels_is_its_slope() {
    for (kind, channels) in [(Kind::Cae, 1), (Kind::Vae, 3)] {
        let detector = detector(kind, 28, channels);
        let model = &detector.model;
        let mut tape = Tape::new();
        let x = tape.leaf("x", model.shape(1));
        let weight = tape.fill([1; 4], 1.0);
        let seen = objective(&mut tape, model, (x, weight), None, Terms::default());
        let score = paper_score(&mut tape, &seen, 0.5);
        let slope = tape.grad(score, &[x])[0];
        tape.store(score, "score");
        tape.store(slope, "slope");
        let mut engine = cpu::f64();
        let program = engine.load(&compile("test", &tape, Options::default())).unwrap();
        engine.write(PARAMS, Data::F32(&detector.params)).unwrap();
        engine.write(REFERENCE, Data::F32(&detector.reference)).unwrap();
        let n = size(model.shape(1));
        let at: Vec<f64> = (0..n).map(|i| ((i * 89) % 241) as f64 / 255.0).collect();
        let mut run = |x: &[f64], name: &str| {
            engine.write("x", Data::F64(x)).unwrap();
            engine.run(program, 0..1).unwrap();
            engine.read(name).unwrap()
        };
        let slope = run(&at, "slope");
        for direction in 0..4 {
            let d: Vec<f64> =
                (0..n).map(|i| ((i * 31 + direction * 7919) % 113) as f64 / 56.0 - 1.0).collect();
            let step = 1e-6;
            let moved = |sign: f64| -> Vec<f64> {
                at.iter().zip(&d).map(|(x, d)| x + sign * step * d).collect()
            };
            let [up, down] = [1.0, -1.0].map(|sign| run(&moved(sign), "score")[0]);
            let measured = (up - down) / (2.0 * step);
            let said: f64 = slope.iter().zip(&d).map(|(s, d)| s * d).sum();
            assert!(said.abs() > 1e-4, "{kind}: a direction that says nothing, {said}");
            assert!((said - measured).abs() < 1e-5 * said.abs(), "{kind}: {said}, {measured}");
        }
    }
}

/// What is seen of an image is what scorer and training say of it.
#[test]
fn an_inspection_agrees_with_the_scorer() {
    for (kind, size, channels) in [(Kind::Cae, 28, 1), (Kind::Vae, 28, 3), (Kind::Cae, 48, 3)] {
        let detector = detector(kind, size, channels);
        let images = [image(size, channels, 1), image(size, channels, 2)];
        let both = Images::new(
            [&images[0].data[..], &images[1].data[..]].concat(),
            [2, size, size, channels],
        );
        let both = both.unwrap();
        let mut engine = cpu::f32();
        let mut scorer = Scorer::new(engine.as_mut(), &detector).unwrap();
        let scores = scorer.score(&both).unwrap();
        let reconstructions = scorer.reconstruct(&both).unwrap();
        let mut inspector = Inspector::new(engine.as_mut(), &detector).unwrap();
        let seen = inspector.inspect(&both).unwrap();
        let directions = inspector.directions(&both).unwrap();
        let tolerance = Tolerance { absolute: 2e-6, relative: 1e-4 };
        for (i, (score, seen)) in scores.iter().zip(&seen).enumerate() {
            assert_close("score", &[seen.score, seen.mse], &[score.score, score.mse], tolerance);
            assert_close("cosines", &seen.cosines, &score.cosines, tolerance);
            assert_eq!(directions[i].cosines, seen.cosines);
            // Inside, channels are last.
            let pixels = size * size;
            let reconstruction = &reconstructions[i * pixels * channels..][..pixels * channels];
            for (p, &v) in reconstruction.iter().enumerate() {
                let outside = seen.values("reconstruction")[p % channels * pixels + p / channels];
                assert!((outside - v).abs() < 1e-5, "value {p}: {outside}, {v}");
            }
            let input = seen.values("input");
            assert_eq!(
                input[pixels * (channels - 1)],
                f32::from(both.image(i)[channels - 1]) / 255.0
            );
            // The gradients are those of the direction, in PyTorch's layout.
            for param in detector.model.constrained_weights() {
                let gradient = param.from_flat(&directions[i].gradient);
                assert_eq!(seen.values(&format!("grad.{}", param.name)), gradient);
            }
            // The bias's gradient is the sum over its channel of what reaches the output.
            for name in ["down.0", "up.2"] {
                let bias = seen.values(&format!("grad.{name}.bias"));
                let output = seen.values(&format!("grad.{name}.output"));
                let sums: Vec<f64> = output
                    .chunks_exact(output.len() / bias.len())
                    .map(|channel| channel.iter().map(|&v| f64::from(v)).sum())
                    .collect();
                let bias: Vec<f64> = bias.iter().map(|&v| f64::from(v)).collect();
                let tolerance = Tolerance { absolute: 1e-6, relative: 1e-3 };
                assert_close(name, &bias, &sums, tolerance);
            }
        }
        let names: Vec<&str> = seen[0].tensors.iter().map(|tensor| &tensor.name[..]).collect();
        assert_eq!(names.contains(&"fc12.output"), kind == Kind::Vae);
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}

#[test]
fn a_page_shows_images_and_how_they_part() {
    let place = Place::new();
    place.model("model.safetensors", &[]);
    for i in 0..6 {
        place.image(&format!("good/{i}.png"), i);
        place.image(&format!("bad/{i}.png"), 40 + 7 * i);
    }
    let said = place.ok(
        "inspect --model model.safetensors good/1.png bad/2.png --normal-dir good --abnormal-dir bad \
         --limit 4 --out pages/page.html --pictures figures --dump all.safetensors --device cpu -q",
    );
    let lines: Vec<Vec<&str>> = said.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["image", "score", "mse", "up.0", "up.2", "up.4", "up.6"]);
    assert_eq!((lines[1][0], lines[2][0]), ("good/1.png", "bad/2.png"));
    assert_eq!(lines[4], ["cosine", "normal", "anomalous", "AUROC"]);
    assert_eq!(
        lines[5..].iter().map(|l| l[0]).collect::<Vec<_>>(),
        ["up.0", "up.2", "up.4", "up.6", "mean"]
    );
    let page = text(&read(&place.path("pages/page.html")));
    assert_eq!(page.matches("<section>").count(), 3);
    // 4 looks, and of 4 layers 2 pictures and 3 pairs of filters, of each image.
    assert_eq!(page.matches("<img ").count(), 2 * (4 + 4 * 5));
    assert_eq!(page.matches("<svg ").count(), 6);
    assert!(
        !page.contains("<script")
            && !page.contains("http://")
            && page.contains("4 normal and 4 anomalous")
    );
    let figures = std::fs::read_dir(place.path("figures")).unwrap().count();
    assert_eq!(figures, 2 * (4 + 8) + 6);
    let svg = text(&read(&place.path("figures/directions.svg")));
    assert!(svg.starts_with("<svg xmlns=") && svg.contains("<style>") && svg.contains("</svg>"));
    let bytes = read(&place.path("all.safetensors"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("score", &[2][..]),
        ("cosines", &[2, 4]),
        ("input", &[2, 1, 28, 28]),
        ("down.0.output", &[2, 32, 15, 15]),
        ("grad.up.0.weight", &[2, 64, 64, 4, 4]),
        ("ref_grad.up.0.weight", &[64, 64, 4, 4]),
        ("score_grad.input", &[2, 1, 28, 28]),
    ] {
        assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
    }
    // Without images, the one in the middle of each kind.
    let said = place.ok(
        "inspect --model model.safetensors --normal-dir good --abnormal-dir bad --device cpu -q",
    );
    let shown: Vec<&str> = said.lines().skip(1).take(2).collect();
    assert!(shown[0].starts_with("good/") && shown[1].starts_with("bad/"), "{said}");
    assert!(place.path("inspect.html").exists());
}

#[test]
fn a_dataset_and_tiles_are_inspected() {
    let place = Place::new();
    for i in 0..8 {
        place.image(&format!("tree/train/good/{i}.png"), i);
        place.image(&format!("tree/test/good/{i}.png"), 20 + i);
        place.image(&format!("tree/test/bent/{i}.png"), 50 + 3 * i);
    }
    for (more, name) in [("", "whole"), (" --size 56 --tiles 28 --tile-stride 14", "tiles")] {
        place.ok(&format!("prep mvtec --from tree{more} --out {name} -q"));
        place.ok(&format!("train --data {name} --epochs 1 --out run-{name} --device cpu -q"));
        let said = place.ok(&format!(
            "inspect --model run-{name} --data {name} --out {name}.html --device cpu -q"
        ));
        assert!(said.contains("\nnormal_test/") && said.contains("\nbent/"), "{said}");
        let page = text(&read(&place.path(&format!("{name}.html"))));
        assert_eq!(page.contains("its tile of 28 x 28 at row"), name == "tiles");
        assert!(page.contains("8 normal and 8 anomalous"));
    }
}

#[test]
fn what_cannot_be_inspected_is_named() {
    let place = Place::new();
    place.model("model.safetensors", &[]);
    place.image("good/1.png", 1);
    place.image("one.png", 1);
    std::fs::write(place.path("broken.png"), "no image").unwrap();
    let inspect = "inspect --model model.safetensors --device cpu";
    for (line, code, expected) in [
        (format!("{inspect} broken.png"), 1, "broken.png"),
        (format!("{inspect} nowhere.png"), 1, "nowhere.png"),
        (inspect.to_string(), 2, "IMAGE"),
        (format!("{inspect} --normal-dir good"), 2, "--abnormal-dir"),
        (format!("{inspect} --normal-dir good --abnormal-dir good"), 1, "at least 2"),
        (format!("{inspect} --data nowhere"), 1, "nowhere"),
        (format!("{inspect} one.png --limit 1"), 2, "limit"),
        ("inspect --model nowhere one.png --device cpu".into(), 1, "nowhere"),
    ] {
        let error = place.fails(&line, code);
        assert!(error.contains(expected), "{line}\n{error}");
    }
    // A model without references has no cosines.
    let bytes = read(&place.path("model.safetensors"));
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = all.tensors().into_iter().filter(|(name, _)| !name.starts_with("ref_grad."));
    let bare = safetensors::serialize(kept, None).unwrap();
    std::fs::write(place.path("bare.safetensors"), bare).unwrap();
    let error = place.fails("inspect --model bare.safetensors one.png --device cpu", 1);
    assert!(error.contains("no reference gradients") || error.contains("model"), "{error}");
    assert!(!place.path("inspect.html").exists());
}
