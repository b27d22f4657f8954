//! Images that are larger than a model sees: prepared as tiles, trained on, evaluated, scored, and
//! shown where they are anomalous.

mod place;

use std::path::Path;

use gradcon::Detector;
use place::{Place, read, text};
use serde_json::Value;

/// Pictures of 96 x 64 pixels: a woven pattern, whose phase differs from picture to picture, and in
/// bad ones a bright square of 14 pixels with its mask.
fn pictures(place: &Place) {
    let woven = |seed: u32, x: u32, y: u32| {
        let wave = |v: u32| (f64::from(v + 3 * seed) * 0.8).sin();
        let noise = (x * 7919 + y * 104_729 + seed * 1_299_709) % 13;
        (110.0 + 25.0 * wave(x) + 25.0 * wave(y)) as u8 + noise as u8
    };
    let write = |path: &str, pixel: &dyn Fn(u32, u32) -> u8| {
        let path = place.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_fn(96, 64, |x, y| image::Luma([pixel(x, y)])).save(path).unwrap();
    };
    for i in 0..24 {
        write(&format!("weave/train/good/{i:02}.png"), &|x, y| woven(i, x, y));
    }
    for i in 0..8 {
        write(&format!("weave/test/good/{i:02}.png"), &|x, y| woven(100 + i, x, y));
        let inside =
            |x: u32, y: u32| (8 * i..8 * i + 14).contains(&x) && (4 * i..4 * i + 14).contains(&y);
        write(&format!("weave/test/stain/{i:02}.png"), &|x, y| match inside(x, y) {
            true => 250,
            false => woven(200 + i, x, y),
        });
        write(&format!("weave/ground_truth/stain/{i:02}_mask.png"), &|x, y| {
            255 * u8::from(inside(x, y))
        });
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// The columns of `scores` that begin with the image.
fn scores(table: &str) -> Vec<(String, f64)> {
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let at = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let (image, score) = (at("image"), at("score"));
    let row = |row: csv::StringRecord| (row[image].to_string(), row[score].parse().unwrap());
    reader.records().map(|record| row(record.unwrap())).collect()
}

#[test]
fn a_defect_is_found_and_shown_where_it_is() {
    let place = Place::new();
    pictures(&place);
    let prep = "prep mvtec --from weave --size 96 --tiles 28 --tile-stride 14";
    let said = place.command(&format!("{prep} --out data")).output().unwrap();
    let (summary, notes) = (text(&said.stdout), text(&said.stderr));
    assert!(summary.contains("36 tiles of 28 x 28 an image, every 14 pixels"), "{summary}");
    assert!(notes.contains("96 x 64) are squashed to squares"), "{notes}");
    let manifest = json(&place.path("data/manifest.json"));
    assert_eq!((&manifest["tiles"], &manifest["masks"]), (&"96/28/14".into(), &true.into()));
    place.ok("data verify data");

    place.ok("train --data data --epochs 6 --device cpu --out run -q");
    let table = place.ok("eval run --device cpu --no-bootstrap");
    assert!(table.contains("maximum in a defect"), "{table}");
    let by = "the mean of the 3 highest of 36 tiles";
    assert!(table.contains(&format!("An image's score is {by}.")), "{table}");
    let card = text(&read(&place.path("run/models/normal/best/README.md")));
    assert!(card.contains(&format!("`, of an image {by}. Higher")), "{card}");
    let results = json(&place.path("run/results.json"));
    let found = &results["classes"][0]["evaluations"][0];
    assert!(found["full"]["auroc"].as_f64().unwrap() > 0.95, "{found}");
    let pixels = &found["pixels"];
    assert!(pixels["auroc"].as_f64().unwrap() > 0.9, "{pixels}");
    assert!(pixels["pro"].as_f64().unwrap() > 0.5, "{pixels}");
    assert!(pixels["hits"].as_u64().unwrap() >= 7, "{pixels}");
    assert_eq!((&pixels["defective"], &pixels["regions"]), (&8.into(), &8.into()));

    // Scoring the files gives the scores that the evaluation has.
    let model = read(&place.path("run/models/normal/best/model.safetensors"));
    for part in ["\"gradcon.tiles\":\"96/28/14\"", "\"gradcon.tile_place\":\"any\""] {
        assert!(text(&model).contains(part), "{part}");
    }
    let evaluated = scores(&text(&read(&place.path("run/eval/normal/scores.csv"))));
    let scored = scores(&place.ok("score --model run --device cpu weave/test/stain --maps maps"));
    for (path, score) in &scored {
        let name = path.strip_prefix("weave/test/").unwrap();
        let (_, expected) = evaluated.iter().find(|(image, _)| image == name).unwrap();
        assert!((score - expected).abs() < 1e-5, "{path}: {score} {expected}");
    }
    assert_eq!(scored.len(), 8);

    // Maps have the pictures' own size; where the defect is they are the brightest.
    for i in 0..8 {
        let picture = |what: &str| {
            let path = place.path(&format!("maps/weave/test/stain/{i:02}.png.{what}.png"));
            image::open(path).unwrap().to_rgb8()
        };
        let (map, overlay) = (picture("map"), picture("overlay"));
        assert_eq!((map.dimensions(), overlay.dimensions()), ((96, 64), (96, 64)));
        let light = |inside: bool| {
            let is_inside = |x: u32, y: u32| {
                (8 * i..8 * i + 14).contains(&x) && (4 * i..4 * i + 14).contains(&y)
            };
            let pixels = map.enumerate_pixels().filter(|(x, y, _)| is_inside(*x, *y) == inside);
            let values = pixels.map(|(.., pixel)| pixel.0.iter().map(|&v| f64::from(v)).sum());
            let values: Vec<f64> = values.collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let (inside, outside) = (light(true), light(false));
        assert!(inside > 2.0 * outside, "{i}: {inside} {outside}");
    }
    place.ok("report run -q");
    let page = text(&read(&place.path("run/report.html")));
    assert!(page.contains("Anomalous, and most normal") && page.contains("pixel AUROC"));
    assert!(page.contains(&format!(", by {by}")));
}

#[test]
fn how_tiles_are_judged_is_a_setting_that_an_evaluation_takes_up() {
    let place = Place::new();
    pictures(&place);
    place.ok("prep mvtec --from weave --size 64 --tiles 32 --tile-stride 16 --out data -q");
    place.ok("train --data data --epochs 2 --device cpu --out run --place same --top-tiles 1 -q");
    let model = || text(&read(&place.path("run/models/normal/best/model.safetensors")));
    let has = |part: &str| assert!(model().contains(part), "{part}");
    has("\"gradcon.tile_place\":\"same\"");
    has("\"gradcon.tile_top\":\"1\"");
    let config = text(&read(&place.path("run/config.toml")));
    std::fs::write(place.path("run/config.toml"), config.replace("\"same\"", "\"any\"")).unwrap();
    place.ok("eval run --device cpu --no-bootstrap -q");
    has("\"gradcon.tile_place\":\"any\"");
    has("\"gradcon.tile_top\":\"1\"");
    // The threshold is that of the other score, too: one of two is above their 95 % quantile.
    let found = json(&place.path("run/results.json"))["classes"][0]["validation"].clone();
    assert!(found["flagged"] == 1 && found["images"] == 2, "{found}");

    // Baselines judge the same tiles in the same way: a mean of three is less than the highest.
    let baselines = || {
        place.ok("eval run --baselines --device cpu --no-bootstrap -q");
        let table = read(&place.path("run/eval/normal/scores.csv"));
        let mut reader = csv::Reader::from_reader(&table[..]);
        let row = |row: csv::StringRecord| -> Vec<f64> {
            row.iter().skip(row.len() - 3).map(|value| value.parse().unwrap()).collect()
        };
        reader.records().map(|record| row(record.unwrap())).collect::<Vec<_>>()
    };
    let highest = baselines();
    let config = text(&read(&place.path("run/config.toml")));
    let config = config.replace("top_tiles = 1", "top_tiles = 3");
    std::fs::write(place.path("run/config.toml"), &config).unwrap();
    let mean = baselines();
    assert!(!model().contains("gradcon.tile_top_by"), "three were chosen");
    assert_eq!((highest.len(), mean.len()), (16, 16));
    for (highest, mean) in highest.concat().iter().zip(&mean.concat()) {
        assert!(highest > mean && *mean > 0.0, "{highest} {mean}");
    }

    // Where nobody says how many, it is chosen, and of at most as many as show a spot. What is known
    // of places is of as many as there are.
    let again = config.replace("\"any\"", "\"same\"").replace("top_tiles = 3\n", "");
    std::fs::write(place.path("run/config.toml"), again).unwrap();
    let table = place.ok("eval run --device cpu --no-bootstrap -q");
    assert!(table.contains("auto = log code_place"), "{table}");
    let path = place.path("run/models/normal/best/model.safetensors");
    let mut detector = Detector::load(&path).unwrap();
    let places = detector.statistics.as_ref().and_then(|known| known.places.as_ref());
    assert!(places.is_some());
    has("\"gradcon.tile_top_by\":\"auto\"");
    assert!((1.0..=4.0).contains(&detector.number("tile_top").unwrap().unwrap()));

    // It may have been trained as a texture: what is known of places is fitted then.
    place.ok("train --data data --epochs 1 --device cpu --out any --place any -q");
    let config = text(&read(&place.path("any/config.toml")));
    std::fs::write(place.path("any/config.toml"), config.replace("\"any\"", "\"same\"")).unwrap();
    let table = place.ok("eval any --device cpu --no-bootstrap -q");
    assert!(table.contains("auto = log code_place"), "{table}");
    let found = json(&place.path("any/results.json"))["classes"][0]["validation"].clone();
    assert!(found["flagged"] == 1 && found["images"] == 2, "{found}");

    detector.description.insert("tiles".into(), "64/32/32".into());
    detector.save(&path).unwrap();
    let error = Detector::load(&path).unwrap_err().to_string();
    assert!(error.contains("9 places, but an image has 4 tiles"), "{error}");
}

#[test]
fn what_does_not_fit_is_said() {
    let place = Place::new();
    pictures(&place);
    place.ok("prep mvtec --from weave --size 64 --tiles 32 --tile-stride 16 --out tiles -q");
    place.ok("prep mvtec --from weave --size 32 --aspect crop --out whole -q");
    place.ok("train --data whole --epochs 1 --device cpu --out run -q");
    for (line, code, parts) in [
        ("prep mvtec --from weave --tiles 33", 2, &["33", "28, 32, 48"][..]),
        ("prep mvtec --from weave --tiles 64 --size 32", 2, &["32 x 32", "64 to 1024"]),
        ("prep mvtec --from weave --tiles 64 --size 2000", 2, &["64 to 1024"]),
        ("prep mvtec --from weave --tiles 32 --tile-stride 33", 2, &["every 4 to 32"]),
        ("prep mvtec --from weave --tile-stride 8", 2, &["--tiles"]),
        ("prep mvtec --from weave --size 65", 2, &["--size", "28, 32, 48"]),
        ("prep mvtec --from weave --aspect stretch", 2, &["squash, pad, crop"]),
        ("prep mnist --tiles 32", 2, &["not for mnist"]),
        ("train --data whole --place same --out x", 2, &["--place", "not cut into tiles"]),
        ("train --data tiles --top-tiles 10 --out x", 2, &["--top-tiles 10", "1 to 9"]),
        ("eval run --data tiles --device cpu", 1, &["whole images", "tiles 64/32/16"]),
    ] {
        let output = place.command(line).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
    }
    // A mask of another dataset's images, or one that is none.
    let mut masks = read(&place.path("tiles/test_masks.npy"));
    let last = masks.len() - 1;
    masks[last] = 7;
    std::fs::write(place.path("tiles/test_masks.npy"), masks).unwrap();
    let output = place.command("data verify tiles").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("test_masks.npy") && said.contains("mask 15"), "{said}");
}
