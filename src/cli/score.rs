//! `gradcon score`

use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{DeviceArgs, Ui, interrupt};
use crate::data::folder::{self, Decode};
use crate::data::picture;
use crate::gradcon::detector::Detector;
use crate::gradcon::model::IMAGE_SIZE;
use crate::gradcon::scorer::{Score, Scorer};
use crate::images::Images;
use crate::report::scores::LAYERS;
use crate::{Error, Result};

/// Score images: one line an image, higher is more anomalous.
///
/// Files and folders (searched for png, jpeg and bmp) are read, resized and scaled as the
/// model's training images were. A line has the image, its score and its parts
/// (reconstruction error, mean cosine and one cosine a decoder layer) and whether the score
/// reaches the threshold, which comes from the model file (a quantile of the validation
/// scores) or --threshold. Any number of images passes through in bounded memory. An image
/// that can't be read is named on stderr and skipped; the exit code is then 1.
///
/// Example:
///
///   gradcon score --model runs/mine/best/model.safetensors camera/ > scores.csv
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ScoreArgs {
    /// The model file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,

    /// Images, or folders of images.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Scores from here on count as anomalous. [default: the model's]
    #[arg(long, allow_negative_numbers = true)]
    threshold: Option<f64>,

    /// csv or json (one object a line).
    #[arg(long, default_value = "csv", value_parser = ["csv", "json"])]
    format: String,

    /// Write to a file, whole or not at all, instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The largest image to decode, in pixels; no side may have more than a 256th of it (or 65,536). [default: 268435456]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// How picture files are read for a model: as its training images were.
fn pictures(detector: &Detector, max_pixels: Option<u64>) -> Result<Decode> {
    let background = detector.description.get("background").map(|text| picture::colour(text)).transpose()?;
    let decode = Decode::new(detector.model.channels(), max_pixels.unwrap_or(Decode::MAX_PIXELS))?;
    Ok(decode.on(background))
}

/// Images that are read ahead and scored together.
const CHUNK: usize = 1024;

pub fn run(args: ScoreArgs, ui: &Ui) -> Result<()> {
    let detector = Detector::load(&args.model)?;
    let threshold = match args.threshold {
        Some(threshold) => threshold,
        None => detector.number("threshold")?.ok_or_else(|| {
            Error::Usage(format!("{}: the model has no threshold; give one with --threshold", args.model.display()))
        })?,
    };
    if !threshold.is_finite() {
        return Err(Error::Usage(format!("--threshold {threshold}: expected a finite number")));
    }
    let decode =
        pictures(&detector, args.max_pixels).map_err(|e| Error::invalid(format!("{}: {e}", args.model.display())))?;
    let mut images = vec![];
    for path in &args.paths {
        if path.is_dir() {
            images.extend(folder::find_images(path, &mut folder::Tally::default())?)
        } else {
            images.push(path.clone())
        }
    }
    interrupt::catch();
    let mut engine = args.device.open(ui)?;
    let mut scorer = Scorer::new(engine.as_mut(), &detector)?;
    let json = args.format == "json";
    match &args.out {
        None => score_all(
            &mut scorer,
            decode,
            &images,
            threshold,
            json,
            ui,
            &mut std::io::stdout().lock(),
            Path::new("standard output"),
        ),
        Some(path) => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
            let end = score_all(&mut scorer, decode, &images, threshold, json, ui, &mut file, path);
            // Skipped images are an error, but what was scored is worth keeping.
            if matches!(end, Ok(()) | Err(Error::Invalid(_))) {
                file.persist(path).map_err(|e| Error::io(path)(e.error))?;
            }
            end
        }
    }
}

#[allow(clippy::too_many_arguments)] // one call site for each kind of output
fn score_all(
    scorer: &mut Scorer,
    decode: Decode,
    images: &[PathBuf],
    threshold: f64,
    json: bool,
    ui: &Ui,
    out: &mut dyn Write,
    name: &Path,
) -> Result<()> {
    let channels = decode.channels();
    let bar = ui.bar(images.len() as u64);
    let mut writer = Lines::new(out, name, json)?;
    let mut skipped = 0;
    for chunk in images.chunks(CHUNK) {
        if interrupt::asked() {
            return Err(Error::Interrupted);
        }
        let loaded: Vec<_> = chunk.par_iter().map(|path| decode.file(path)).collect();
        let mut data = Images::new(vec![], [0, IMAGE_SIZE, IMAGE_SIZE, channels])?;
        let mut names = vec![];
        for (path, image) in chunk.iter().zip(loaded) {
            match image {
                Ok(image) => {
                    data.data.extend_from_slice(&image.data);
                    data.n += 1;
                    names.push(path);
                }
                Err(reason) => {
                    skipped += 1;
                    bar.suspend(|| eprintln!("gradcon: {}: skipped: {reason}", path.display()));
                }
            }
        }
        for (path, score) in names.into_iter().zip(scorer.score(&data)?) {
            writer.line(path, &score, score.score >= threshold)?;
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    writer.flush()?;
    match skipped {
        0 => Ok(()),
        n => Err(Error::invalid(format!("{n} of {} images could not be read and were skipped", images.len()))),
    }
}

/// CSV with a header, or JSON lines.
struct Lines<'a> {
    out: std::io::BufWriter<&'a mut dyn Write>,
    name: PathBuf,
    json: bool,
}

impl<'a> Lines<'a> {
    fn new(out: &'a mut dyn Write, name: &Path, json: bool) -> Result<Lines<'a>> {
        let mut lines = Lines { out: std::io::BufWriter::new(out), name: name.into(), json };
        if !json {
            let mut header: Vec<String> = ["image", "score", "mse", "cos"].map(String::from).to_vec();
            header.extend(LAYERS.map(column));
            header.push("anomalous".into());
            lines.csv(&header)?;
        }
        Ok(lines)
    }

    fn csv(&mut self, fields: &[String]) -> Result<()> {
        let mut line = csv::Writer::from_writer(&mut self.out);
        line.write_record(fields).map_err(|e| Error::io(&self.name)(e.into()))?;
        line.flush().map_err(Error::io(&self.name))
    }

    fn line(&mut self, path: &Path, s: &Score, anomalous: bool) -> Result<()> {
        let image = path.display().to_string();
        if !self.json {
            let mut fields = vec![image, s.score.to_string(), s.mse.to_string(), s.cos.to_string()];
            fields.extend(s.cosines.iter().map(f64::to_string));
            fields.push((anomalous as u8).to_string());
            return self.csv(&fields);
        }
        let mut object =
            serde_json::json!({ "image": image, "score": s.score, "mse": s.mse, "cos": s.cos, "anomalous": anomalous });
        for (layer, cos) in LAYERS.into_iter().zip(&s.cosines) {
            object[column(layer)] = (*cos).into();
        }
        writeln!(self.out, "{object}").map_err(Error::io(&self.name))
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io(&self.name))
    }
}

/// `cos_up0` for the layer up.0.
fn column(layer: &str) -> String {
    format!("cos_{}", layer.replace('.', ""))
}
