//! `gradcon inspect`

use std::path::{Path, PathBuf};

use super::model;
use super::score::pictures;
use super::{DeviceArgs, Ui, interrupt};
use crate::bench::text::columns;
use crate::data::Prepared;
use crate::data::folder::{Tally, find_images};
use crate::data::picture::Decode;
use crate::error::{Error, Result};
use crate::files::parent;
use crate::images::Images;
use crate::method::detector::Detector;
use crate::method::inspect::{Direction, Inspection, Inspector, Plane, dump};
use crate::method::model::Param;
use crate::output::{Output, outln};
use crate::report::inspection::{Layer, Looked, Page, Separation, Side, check_size};
use crate::tiles::Tiles;

/// Look at gradients: what an image would change in each decoder layer, beside the reference.
///
/// Of each image: its reconstruction, error, and the gradient of the paper's score in its pixels;
/// each decoder layer's gradient, filter by filter, beside the mean gradient of the training,
/// their cosine, and where the two differ most. Of a folder of normal and one of anomalous images
/// (or the test images of a prepared dataset): how the layers tell them apart, and where the
/// directions of their gradients lie. All of it on one HTML page without a script; the numbers
/// of it on stdout.
///
/// Of a model that judges images by tiles it is the tile with the highest score by the paper.
///
/// --dump writes every activation and gradient under PyTorch's names and in its layouts, for
/// notebooks: `safetensors.torch.load_file(FILE)["grad.up.0.weight"]` is [images, 64, 64, 4, 4].
///
/// Examples:
///
///   gradcon inspect --model runs/mine scratched.png
///   gradcon inspect --model runs/mine --normal-dir good --abnormal-dir bad
///   gradcon inspect --model runs/fmnist --class sneaker --data data/fmnist
///   gradcon inspect --model runs/mine scratched.png --dump all.safetensors --pictures figures
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct InspectArgs {
    /// A model file, or a run or folder with one.
    #[arg(long, value_name = "FILE|RUN")]
    model: PathBuf,

    /// Which of a run's models, by class: a name, its beginning, or its number in the dataset.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,

    /// Images to look at. [default: of folders or a dataset, the normal and the anomalous image
    /// whose score is in the middle of its kind]
    #[arg(required_unless_present_any = ["normal_dir", "data"], value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// A folder of normal images, to compare with those of --abnormal-dir.
    #[arg(long, value_name = "DIR", requires = "abnormal_dir")]
    normal_dir: Option<PathBuf>,

    /// A folder of anomalous images.
    #[arg(long, value_name = "DIR", requires = "normal_dir")]
    abnormal_dir: Option<PathBuf>,

    /// A prepared dataset, whose test images of the model's class are compared, normal and anomalous
    /// ones.
    #[arg(long, value_name = "DIR", conflicts_with = "normal_dir")]
    data: Option<PathBuf>,

    /// Images of each kind that are compared, at most; of more, evenly spaced ones. [default: 100]
    #[arg(
        long, value_name = "N", default_value_t = 100, hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(2..=1000)
    )]
    limit: u64,

    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "inspect.html")]
    out: PathBuf,

    /// Also every picture of the page as a file of its own below this folder: PNG, and SVG for plots.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,

    /// Also every activation and gradient of the images, as one safetensors file.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Named images.
struct Set {
    names: Vec<String>,
    images: Images,
}

impl Set {
    fn files(paths: &[PathBuf], decode: &Decode) -> Result<Set> {
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        Ok(Set { names, images: decode.files(paths, &|_, _| interrupt::go_on())? })
    }

    fn folder(folder: &Path, decode: &Decode, limit: usize, ui: &Ui) -> Result<Set> {
        let mut left_out = Tally::default();
        let paths = find_images(folder, &mut left_out)?;
        if let Some(text) = left_out.note() {
            ui.progress(&text);
        }
        let paths: Vec<PathBuf> =
            spaced(paths.len(), limit).into_iter().map(|i| paths[i].clone()).collect();
        Set::files(&paths, decode)
    }

    fn one(&self, i: usize) -> (String, Images) {
        (self.names[i].clone(), self.images.select(&[i]))
    }
}

/// At most `limit` of `n` numbers, evenly spaced.
fn spaced(n: usize, limit: usize) -> Vec<usize> {
    let count = n.min(limit);
    (0..count).map(|i| i * n / count).collect()
}

/// The test images of the model's class, normal and anomalous ones.
fn test_images(dir: &Path, detector: &Detector, limit: usize) -> Result<[Set; 2]> {
    let prepared = Prepared::open(dir)?;
    let class = detector.description.get("inlier").ok_or_else(|| {
        Error::invalid("the model doesn't say which class is its normal one, which --data takes")
    })?;
    let inlier = prepared.find_inliers(std::slice::from_ref(class))?[0];
    let set = prepared.test_sets_of(inlier).next().ok_or_else(|| {
        Error::invalid(format!("{}: no test images of class {class}", dir.display()))
    })?;
    let names = prepared.names().map(|names| &names.test);
    let of = |label: u8| {
        let all: Vec<usize> = (0..set.indices.len()).filter(|&i| set.labels[i] == label).collect();
        let some = spaced(all.len(), limit).into_iter().map(|i| set.indices[all[i]]);
        let some: Vec<usize> = some.collect();
        let name = |&i: &usize| names.map_or(format!("test image {i}"), |names| names[i].clone());
        let names = some.iter().map(name).collect();
        Set { names, images: prepared.test().images.select(&some) }
    };
    Ok([of(0), of(1)])
}

/// What is looked at of an image, and which part of it that is.
type Part = (Images, Option<String>);

/// What a model makes of whole images.
struct Lens<'e> {
    inspector: Inspector<'e>,
    tiles: Option<Tiles>,
}

impl Lens<'_> {
    /// The direction of one image, or of its highest tile, and which part it is of.
    fn direction(&mut self, image: &Images) -> Result<(Direction, Part)> {
        let Some(tiles) = self.tiles else {
            let direction = self.inspector.directions(image)?.swap_remove(0);
            return Ok((direction, (image.clone(), None)));
        };
        let cut = tiles.cut(image);
        let mut best: Option<(usize, Direction)> = None;
        for i in 0..cut.n {
            let direction = self.inspector.directions(&cut.select(&[i]))?.swap_remove(0);
            if best.as_ref().is_none_or(|(_, best)| direction.score > best.score) {
                best = Some((i, direction));
            }
        }
        let (i, direction) = best.ok_or_else(|| Error::invalid("an image without tiles"))?;
        let starts = tiles.starts();
        let what = format!(
            "its tile of {0} x {0} at row {1}, column {2} (of {3} x {3}), the highest by the paper's \
             score",
            tiles.size(),
            starts[i / starts.len()],
            starts[i % starts.len()],
            tiles.image()
        );
        Ok((direction, (cut.select(&[i]), Some(what))))
    }

    /// The directions of all.
    fn directions(&mut self, set: &Set, ui: &Ui, what: &str) -> Result<Vec<Direction>> {
        let bar = ui.bar(set.images.n as u64);
        bar.set_message(format!("{what} images"));
        let mut all = vec![];
        for i in 0..set.images.n {
            interrupt::go_on()?;
            let (name, image) = set.one(i);
            let found = self.direction(&image).map_err(|e| e.in_file(Path::new(&name)))?;
            all.push(found.0);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(all)
    }
}

pub fn run(args: InspectArgs, ui: &Ui) -> Result<()> {
    let file = model::find(&args.model, args.class.as_deref())?;
    let detector = Detector::load(&file)?;
    let decode = pictures(&detector, None).map_err(|e| e.in_file(&file))?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    interrupt::catch();
    let sides = match (&args.normal_dir, &args.abnormal_dir, &args.data) {
        (Some(normal), Some(anomalous), _) => {
            let folder = |folder: &Path| Set::folder(folder, &decode, limit, ui);
            Some([folder(normal)?, folder(anomalous)?])
        }
        (_, _, Some(data)) => Some(test_images(data, &detector, limit)?),
        _ => None,
    };
    if let Some(empty) = sides.iter().flatten().find(|set| set.images.n < 2) {
        return Err(Error::invalid(format!(
            "{} image(s) of a kind, expected at least 2 to compare",
            empty.images.n
        )));
    }
    let named = Set::files(&args.images, &decode)?;
    // A place that can't be written to is better known before the work.
    std::fs::create_dir_all(parent(&args.out)).map_err(Error::io(parent(&args.out)))?;
    let mut page_file = Output::create(&args.out)?;
    let mut engine = args.device.open(ui)?;
    let device = engine.description();
    let inspector = Inspector::new(engine.as_mut(), &detector).map_err(|e| e.in_file(&file))?;
    let tiles = detector.tiling()?.map(|tiling| tiling.tiles);
    let mut lens = Lens { inspector, tiles };

    let mut shown: Vec<(String, Images)> = (0..named.images.n).map(|i| named.one(i)).collect();
    let mut separation = None;
    if let Some([normal, anomalous]) = &sides {
        let directions =
            [lens.directions(normal, ui, "normal")?, lens.directions(anomalous, ui, "anomalous")?];
        if shown.is_empty() {
            let middles = [normal, anomalous].into_iter().zip(&directions);
            shown = middles.map(|(set, of)| set.one(middle(of))).collect();
        }
        separation = Some(separated(&detector, directions));
    }
    let mut seen: Vec<(String, Inspection)> = vec![];
    let mut whats = vec![];
    for (name, image) in &shown {
        interrupt::go_on()?;
        let found = lens.direction(image).and_then(|(_, (part, what))| {
            whats.push(what);
            Ok(lens.inspector.inspect(&part)?.swap_remove(0))
        });
        seen.push((name.clone(), found.map_err(|e| e.in_file(Path::new(name)))?));
    }
    if let Some(path) = &args.dump {
        dump(path, &detector, &seen)?;
        ui.progress(&format!("wrote {}", path.display()));
    }
    let images = seen.iter().zip(whats);
    let images = images.map(|((name, seen), what)| looked(&detector, name, what, seen)).collect();
    let page = Page {
        title: "Gradients".into(),
        facts: facts(&detector, &file, device),
        images,
        separation,
    };
    let html = page.html()?;
    check_size(&html, seen.len())?;
    page_file.write(html.as_bytes())?;
    page_file.commit()?;
    ui.progress(&format!("wrote {}", args.out.display()));
    if let Some(folder) = &args.pictures {
        let written = page.write_pictures(folder)?;
        ui.progress(&format!("wrote {written} pictures to {}", folder.display()));
    }
    tell(&page)
}

/// The image whose score is in the middle.
fn middle(directions: &[Direction]) -> usize {
    let mut order: Vec<usize> = (0..directions.len()).collect();
    order.sort_by(|&a, &b| directions[a].score.total_cmp(&directions[b].score));
    order[order.len() / 2]
}

fn separated(detector: &Detector, sides: [Vec<Direction>; 2]) -> Separation {
    let count = sides[0].len();
    let cosines = sides.each_ref().map(|side| {
        let row = |direction: &Direction| {
            let cosines = &direction.cosines;
            let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
            [&cosines[..], &[mean]].concat()
        };
        side.iter().map(row).collect::<Vec<_>>()
    });
    let gradients: Vec<Vec<f32>> =
        sides.into_iter().flatten().map(|direction| direction.gradient).collect();
    let Plane { points, reference, variance } =
        Plane::of(&detector.model, &gradients, &detector.reference);
    let (normal, anomalous) = points.split_at(count);
    let [of_normal, of_anomalous] = cosines;
    Separation {
        layers: detector.model.constrained_layers().into_iter().map(Into::into).collect(),
        normal: Side { cosines: of_normal, plane: normal.to_vec() },
        anomalous: Side { cosines: of_anomalous, plane: anomalous.to_vec() },
        reference,
        variance,
    }
}

/// What a page shows of one image.
fn looked(detector: &Detector, name: &str, what: Option<String>, seen: &Inspection) -> Looked {
    let model = &detector.model;
    let layer = |(param, &cosine): (&Param, &f64)| Layer {
        name: param.name.trim_end_matches(".weight").into(),
        shape: std::array::from_fn(|i| param.torch_shape[i]),
        gradient: seen.values(&format!("grad.{}", param.name)).to_vec(),
        reference: param.from_flat(&detector.reference),
        cosine,
    };
    Looked {
        name: name.into(),
        what,
        mse: seen.mse,
        score: seen.score,
        shape: [model.channels(), model.size(), model.size()],
        input: seen.values("input").to_vec(),
        reconstruction: seen.values("reconstruction").to_vec(),
        score_gradient: seen.values("score_grad.input").to_vec(),
        layers: model.constrained_weights().zip(&seen.cosines).map(layer).collect(),
    }
}

fn facts(detector: &Detector, file: &Path, device: String) -> Vec<(String, String)> {
    let mut facts = vec![("Model".to_string(), file.display().to_string())];
    let names = [("Dataset", "dataset"), ("Normal class", "inlier"), ("Epoch", "epoch")];
    for (name, key) in names.into_iter().chain([("alpha", "alpha"), ("beta", "beta")]) {
        facts.extend(detector.description.get(key).map(|value| (name.into(), value.clone())));
    }
    facts.push(("Device".into(), device));
    facts
}

/// The numbers of the page.
fn tell(page: &Page) -> Result<()> {
    let mut lines = vec![];
    if let Some(first) = page.images.first() {
        let layers = first.layers.iter().map(|layer| layer.name.clone());
        let head = ["image", "score", "mse"].map(String::from);
        lines.push(head.into_iter().chain(layers).collect::<Vec<_>>());
    }
    for image in &page.images {
        let cosines = image.layers.iter().map(|layer| format!("{:.4}", layer.cosine));
        let head = [image.name.clone(), format!("{:.5}", image.score), format!("{:.5}", image.mse)];
        lines.push(head.into_iter().chain(cosines).collect());
    }
    outln!("{}", columns(&lines, 1).trim_end())?;
    if let Some(separation) = &page.separation {
        let head = ["cosine", "normal", "anomalous", "AUROC"].map(String::from).to_vec();
        let rows = separation.rows()?;
        let rows = rows.into_iter().map(|(name, numbers)| {
            [vec![name], numbers.map(|v| format!("{v:.3}")).to_vec()].concat()
        });
        let lines: Vec<Vec<String>> = [head].into_iter().chain(rows).collect();
        outln!("\n{}", columns(&lines, 1).trim_end())?;
    }
    Ok(())
}
