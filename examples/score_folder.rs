//! Scores every picture below a folder with a saved detector, the most anomalous first.
//!
//! `cargo run --release --example score_folder -- MODEL FOLDER`, where MODEL is a
//! `model.safetensors` (of `gradcon demo` or of a run) and FOLDER holds pictures. The command
//! `gradcon score` does the same in bounded memory, and goes on where a picture is broken.

use std::path::Path;
use std::process::ExitCode;

use gradcon::data::folder::find_images;
use gradcon::data::picture::{Decode, colour};
use gradcon::data::walk::Tally;
use gradcon::engine::device;
use gradcon::{Detector, Error, Result, Scorer};

/// The names of the pictures and their scores, highest first.
fn score(model: &Path, folder: &Path) -> Result<Vec<(String, f64)>> {
    let detector = Detector::load(model)?;
    // As the model's own training images were read: its channels, its size, its background if it
    // had one.
    let background = detector.description.get("background").map(|text| colour(text)).transpose()?;
    let decode = Decode::new(detector.model.channels(), Decode::MAX_PIXELS)?
        .to_size(detector.model.size())?
        .on(background);

    let mut left_out = Tally::default();
    let paths = find_images(folder, &mut left_out)?;
    if let Some(warning) = left_out.warning() {
        eprintln!("{warning}");
    }
    let images = decode.files(&paths, &|_, _| Ok(()))?;

    let mut engine = device::open("auto", false)?; // a hardware GPU, else the CPU engine
    eprintln!("{} pictures on the {}", images.n, engine.description());
    let scores = Scorer::new(engine.as_mut(), &detector)?.score(&images)?;
    let names = paths.iter().map(|path| path.display().to_string());
    let mut scored: Vec<_> = names.zip(scores.iter().map(|s| s.score)).collect();
    scored.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    Ok(scored)
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let scored = match &args[..] {
        [model, folder] => score(Path::new(model), Path::new(folder)),
        _ => Err(Error::Usage("expected a model file and a folder of pictures".into())),
    };
    match scored {
        Ok(scored) => {
            scored.iter().for_each(|(name, score)| println!("{score:9.6}  {name}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("score_folder: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
