//! `gradcon score`

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use rayon::prelude::*;
use strum::VariantNames;

use super::flagged::{Copies, check_outside};
use super::maps::MapFolder;
use super::sizes::PrecisionArgs;
use super::{DeviceArgs, Ui, interrupt, model};
use crate::data::ahead::{Ahead, Next, ahead_of, count};
use crate::data::folder::{Decode, LeftOut, Tally};
use crate::data::listed::Listed;
use crate::data::picture::{self, Aspect};
use crate::data::watch::{self, Watch};
use crate::error::{Error, Result};
use crate::images::IMAGE_SIZE;
use crate::images::Images;
use crate::limits::shown;
use crate::method::detector::Detector;
use crate::method::maps::{self, MapKind, Scale};
use crate::method::readout::Rule;
use crate::method::scorer::{Score, Scorer};
use crate::output::{Output, note, path_text, reader_is_gone};
use crate::report::table::cosine_column;
use crate::report::tables::percent;
use crate::run::threshold::{self, Level};

/// Score images: one line an image, higher is more anomalous.
///
/// Files and folders (searched for images) are read, resized and scaled as the model's
/// training images were. A line has the image, its score, and 1 if the score is above the
/// threshold, else 0. The threshold comes from the model file (a quantile of the validation
/// scores) or --threshold; without one that column is empty (null in JSON). --full adds the
/// paper's parts; JSON has them in any case.
///
/// --watch DIR scores a folder that fills up: the images that are there, then each new one within
/// two seconds or so after its file is whole (looked at every second; one that can't be decoded
/// gets ten seconds), until Ctrl-C, which is its usual end (exit code 0).
///
/// Any number of images passes through in bounded memory, in the order of the arguments and,
/// within a folder, of the paths. An image that can't be read or has no finite score is named
/// on stderr and skipped; the exit code is then 1. Interrupted, with exit code 130, it says
/// how many are missing, and what --out was to hold so far is in FILE.partial.
///
/// Bytes of a file's name that are no UTF-8 are written as \xE8, and the backslash of a name
/// that has such a sequence already as \x5C; all other names are written as they are.
///
/// Examples:
///
///   gradcon score --model runs/mine camera/ > scores.csv
///   gradcon score --model runs/fmnist --class sneaker --out scores.csv shoes/
///   gradcon score --model runs/mine --top 20 camera/
///   gradcon score --model runs/mine --maps maps camera/
///   gradcon score --model runs/mine --full camera/ > parts.csv
///   gradcon score --model runs/mine --fpr 0.01 camera/
///   gradcon score --model runs/mine --copy-flagged look-at-these camera/
///   find camera -name '*.png' -newer last-run | gradcon score --model runs/mine -
///   gradcon score --model runs/mine --watch camera/incoming >> scores.csv
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ScoreArgs {
    /// A model file, or a run or folder with one.
    #[arg(long, value_name = "FILE|RUN")]
    model: PathBuf,

    /// Which of a run's models, by class: a name, its beginning, or its number in the dataset.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,

    /// Images, or folders of images; `-`: such paths from standard input, one a line.
    #[arg(required_unless_present = "watch", value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Paths on standard input end with a NUL, as those of `find -print0`, not with the line.
    #[arg(short = '0', long)]
    null: bool,

    /// Score the images of this folder, and those that come into it, until Ctrl-C.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "null", "sort", "top"])]
    watch: Option<PathBuf>,

    /// The score, by its name (`gradcon eval --help` has them); further ones are columns of their
    /// own. [default: the model's]
    #[arg(long, value_delimiter = ',', value_name = "NAME[,NAME...]")]
    score: Vec<String>,

    /// Score as the paper does, with this weight of the cosine.
    #[arg(long, value_name = "B", allow_negative_numbers = true, conflicts_with = "score")]
    beta: Option<f64>,

    /// Scores above it count as anomalous. [default: the model's]
    #[arg(long, allow_negative_numbers = true)]
    threshold: Option<f64>,

    /// Set the threshold so that at most this share of new normal images is called anomalous, as far
    /// as the model's validation images can promise it (n of them: no less than 1 in n + 1).
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, conflicts_with = "threshold")]
    fpr: Option<f64>,

    /// The highest scores first. All lines are kept in memory until every image is scored.
    #[arg(long)]
    sort: bool,

    /// Only the N highest scores, the highest first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    top: Option<u64>,

    /// Pictures of where each image is anomalous, at its own size, below this folder: a map
    /// (IMAGE.map.png) and the image with the map laid over it (IMAGE.overlay.png).
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,

    /// What maps show: the scores of tiles, or the error of the reconstruction. [default: tiles where
    /// the model has them]
    #[arg(
        long, value_name = "KIND", requires = "maps",
        value_parser = PossibleValuesParser::new(MapKind::VARIANTS).try_map(|v| v.parse::<MapKind>())
    )]
    map: Option<MapKind>,

    /// The paper's parts as columns, too: reconstruction error, mean cosine, and one cosine a decoder
    /// layer.
    #[arg(long)]
    full: bool,

    /// Copy the files of all images above the threshold into this folder, under their own names. A
    /// name that another image has there becomes NAME-2.png, NAME-3.png and so on; nothing is
    /// written over, and what is there already with the same content stays as it is.
    #[arg(long, value_name = "DIR")]
    copy_flagged: Option<PathBuf>,

    /// csv or json (one object a line, with all that --full has).
    #[arg(long, default_value = "csv", value_parser = ["csv", "json"])]
    format: String,

    /// Write to a file, whole or not at all (with --watch at its end), instead of stdout; pipes and
    /// devices are written to.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The largest image to decode, in pixels; no side may have more than a 256th of it (or
    /// 65,536). [default: 268435456]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

impl ScoreArgs {
    /// Whether paths come from standard input.
    fn lists(&self) -> bool {
        self.paths.iter().any(|path| path == Path::new("-"))
    }

    /// The watched folder, for messages.
    fn watched(&self) -> String {
        self.watch.as_deref().map_or(String::new(), path_text)
    }

    /// Files and folders as they are named, or listed on standard input.
    fn inputs(&self) -> impl Iterator<Item = Input> + Send + use<> {
        let null = self.null;
        self.paths.clone().into_iter().flat_map(
            move |path| -> Box<dyn Iterator<Item = Input> + Send> {
                if path == Path::new("-") {
                    Box::new(Listed::new(BufReader::new(std::io::stdin()), null))
                } else {
                    Box::new(std::iter::once(Ok(path)))
                }
            },
        )
    }
}

/// A path to score, or what is none.
type Input = std::result::Result<PathBuf, LeftOut>;

/// How picture files are read for a model: as its training images were.
pub(super) fn pictures(detector: &Detector, max_pixels: Option<u64>) -> Result<Decode> {
    let background =
        detector.description.get("background").map(|text| picture::colour(text)).transpose()?;
    let decode = Decode::new(detector.model.channels(), max_pixels.unwrap_or(Decode::MAX_PIXELS))?;
    let aspect = detector.description.get("aspect").map(|text| {
        let problem = |_| {
            Error::invalid(format!(
                "aspect '{}': expected {}",
                shown(text),
                Aspect::VARIANTS.join(", ")
            ))
        };
        text.parse::<Aspect>().map_err(problem)
    });
    let decode = decode.on(background).with_aspect(aspect.transpose()?.unwrap_or_default());
    match detector.tiling()? {
        Some(tiling) => Ok(decode.for_tiles(tiling.tiles)),
        None => decode.to_size(detector.model.size()),
    }
}

/// What maps show and where they go, coloured by what is normal for the model.
fn map_folder(
    folder: &Path,
    kind: Option<MapKind>,
    (detector, file): (&Detector, &Path),
    rule: &Rule,
    decode: Decode,
) -> Result<(MapKind, MapFolder)> {
    let kind = kind.map_or_else(|| MapKind::default_of(detector), Ok)?;
    if kind == MapKind::Tiles && detector.tiling()?.is_none() {
        return Err(Error::Usage(format!(
            "--map tiles: {} judges images as a whole (`gradcon prep --tiles` makes data for one \
             that doesn't)",
            file.display()
        )));
    }
    let scale = Scale::of_detector(detector, rule, kind).map_err(|e| e.in_file(file))?;
    let scale = scale.ok_or_else(|| {
        Error::invalid(format!(
            "{}: the model doesn't know how maps of normal images look; evaluate its run (`gradcon \
             eval RUN`), which stores it",
            file.display()
        ))
    })?;
    Ok((kind, MapFolder::new(folder, decode, scale)))
}

/// What images are scored by.
fn rules(args: &ScoreArgs, detector: &Detector) -> Result<Vec<Rule>> {
    let beta = detector.beta()?;
    if let Some(beta) = args.beta {
        if !beta.is_finite() {
            return Err(Error::Usage(format!("--beta {beta}: expected a finite number")));
        }
        return Ok(vec![Rule::of_beta(beta)]);
    }
    let own = vec![threshold::score_of(detector).to_string()];
    let names = if args.score.is_empty() { &own } else { &args.score };
    let rules: Vec<Rule> =
        names.iter().map(|name| detector.rule(name, beta)).collect::<Result<_>>()?;
    match (0..names.len()).find(|&i| names[..i].contains(&names[i])) {
        Some(i) => Err(Error::Usage(format!("--score: '{}' is there twice", names[i]))),
        None => Ok(rules),
    }
}

/// Above which scores images are anomalous, if anything says so.
fn threshold(args: &ScoreArgs, detector: &Detector, rule: &Rule, ui: &Ui) -> Result<Option<f64>> {
    if args.threshold.is_some() {
        return Ok(args.threshold);
    }
    let Some(level) = args.fpr.map(Level::Fpr) else { return threshold::find(detector, rule) };
    let Some(scores) = detector.validation_scores(rule)? else {
        return Err(Error::invalid(
            "no scores of validation images, which --fpr takes; `gradcon eval RUN` adds them to a \
             run's models, or give a --threshold",
        ));
    };
    let threshold = level.of_sorted(&scores);
    match level.unkept(scores.len()) {
        Some(why) => ui.warn(&why),
        None => ui.progress(&format!(
            "threshold {threshold:.4}, {level} by {} validation images",
            scores.len()
        )),
    }
    Ok(Some(threshold))
}

/// Images of the paper's size that are scored together at most (of others as many pixels, but as many
/// as at first), and at first: somebody may wait for the first line.
const CHUNK: usize = 1024;
const FIRST_CHUNK: usize = 64;

/// An image waits no longer than this for others to be scored with.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long an interrupted program counts what is missing.
const COUNTING: Duration = Duration::from_secs(2);

pub fn run(args: ScoreArgs, ui: &Ui) -> Result<()> {
    if let Some(threshold) = args.threshold.filter(|threshold| !threshold.is_finite()) {
        return Err(Error::Usage(format!("--threshold {threshold}: expected a finite number")));
    }
    args.fpr.map_or(Ok(()), threshold::check_rate).map_err(|e| match e {
        Error::Usage(what) => Error::Usage(format!("--fpr: {what}")),
        e => e,
    })?;
    if args.null && !args.lists() {
        return Err(Error::Usage("--null: give `-` for the paths on standard input".into()));
    }
    let file = model::find(&args.model, args.class.as_deref())?;
    let detector = Detector::load(&file)?;
    let decode = pictures(&detector, args.max_pixels)
        .map_err(|e| Error::invalid(format!("{}: {e}", file.display())))?;
    let rules = rules(&args, &detector)?;
    let threshold = threshold(&args, &detector, &rules[0], ui).map_err(|e| e.in_file(&file))?;
    if threshold.is_none() {
        let what = "the model has no threshold, so nothing says which scores are anomalous; give \
                    one with --threshold";
        ui.warn(&format!("{}: {what}", file.display()));
    }
    let watch = args.watch.as_deref().map(Watch::new).transpose()?;
    if let (Some(maps), Some(watched)) = (&args.maps, &args.watch) {
        check_outside("--maps", maps, std::slice::from_ref(watched))?;
    }
    let maps = match &args.maps {
        Some(folder) => Some(map_folder(folder, args.map, (&detector, &file), &rules[0], decode)?),
        None => None,
    };
    let copies = match &args.copy_flagged {
        Some(folder) if threshold.is_none() => {
            return Err(Error::Usage(format!(
                "--copy-flagged {}: the model has no threshold; give one with --threshold",
                folder.display()
            )));
        }
        Some(folder) => {
            let scored: Vec<PathBuf> = args.paths.iter().chain(&args.watch).cloned().collect();
            Some(Copies::into(folder, &scored)?)
        }
        None => None,
    };
    let mut out = args.out.as_deref().map_or_else(|| Ok(Output::stdout()), Output::create)?;
    interrupt::catch();
    let mut engine = args.device.open(ui)?;
    let layers = detector.model.constrained_layers();
    let more = rules[1..].iter().map(|rule| rule.name.clone()).collect();
    let precision = args.precision.precision;
    let scorer = Scorer::with(engine.as_mut(), &detector, &rules, precision)
        .map_err(|e| e.in_file(&file))?;
    let bar = ui.bar(0);
    let most = args.top.map(|top| usize::try_from(top).unwrap_or(usize::MAX));
    let ranked = most.or(args.sort.then_some(usize::MAX)).map(Ranked::new);
    let mut work = Work {
        detector: &detector,
        scorer,
        threshold,
        lines: Lines {
            json: args.format == "json",
            full: args.full,
            layers,
            more,
            ranked,
            out: &mut out,
        },
        chunk: Chunk::new(&decode)?,
        scored: 0,
        flagged: 0,
        skipped: 0,
        left_out: Tally::default(),
        maps,
        copies,
        bar,
    };
    let start = Instant::now();
    let end = match watch {
        Some(folder) => {
            ui.progress(&format!("watching {}; Ctrl-C ends it", args.watched()));
            work.watch(folder, &decode, ui)
        }
        None => {
            let ahead = ahead_of(decode.size());
            let images = Ahead::of(args.inputs(), ahead, move |path: &Path| decode.file(path));
            let total = (ui.is_terminal() && !args.lists()).then(|| count(args.paths.clone()));
            work.score_all(images, |bar| {
                if let Some(total) = total.as_ref().and_then(|total| total.try_recv().ok()) {
                    bar.set_length(total);
                }
            })
        }
    };
    work.bar.finish_and_clear();
    // What is ranked is written at the end, whatever it is.
    let end = end.and(work.lines.finish());
    let Work { scored, flagged, skipped, left_out, maps, copies, .. } = work;
    if let Err(error) = end {
        return Err(ended_early(error, out, &args, scored, skipped));
    }
    out.commit()?;
    if let Some(text) = left_out.note() {
        ui.progress(&text);
    }
    let rate = scored as f64 / start.elapsed().as_secs_f64();
    let above = threshold.map_or(String::new(), |threshold| {
        let share = percent(flagged as f64 / scored.max(1) as f64);
        format!("{flagged} of them ({share}) above the threshold {threshold:.4}, ")
    });
    let rate = if args.watch.is_some() { String::new() } else { format!("{rate:.0} images/s") };
    ui.progress(format!("scored {scored} images, {above}{rate}").trim_end_matches(", "));
    if let Some((_, folder)) = maps {
        ui.progress(&folder.summary());
    }
    if let Some(copies) = copies {
        ui.progress(&copies.summary());
    }
    match skipped {
        0 => Ok(()),
        n => Err(Error::invalid(format!(
            "{n} of {} images could not be scored and were skipped",
            scored + n
        ))),
    }
}

/// Saves what there is, and says what it is and what is missing.
fn ended_early(error: Error, out: Output, args: &ScoreArgs, scored: u64, skipped: u64) -> Error {
    if reader_is_gone(&error) {
        return error;
    }
    let what = match args.top.filter(|&top| top < scored) {
        Some(top) => format!("the {top} highest of the scores of {scored} images"),
        None => format!("the scores of {scored} images"),
    };
    let place = match &args.out {
        _ if scored == 0 => "no image is scored yet".to_string(),
        None => format!("{what} are written"),
        Some(name) => match out.keep_partial() {
            Ok(kept) if kept == *name => format!("{what} are written to {}", name.display()),
            Ok(kept) => {
                format!("{what} are in {}, {} is as it was", kept.display(), name.display())
            }
            Err(e) => format!("{what} are lost: {e}"),
        },
    };
    let total = (args.watch.is_none() && !args.lists()).then(|| count(args.paths.clone()));
    let missing = match total.map(|total| total.recv_timeout(COUNTING)) {
        Some(Ok(total)) => {
            format!("{} of {total} are missing", total.saturating_sub(scored + skipped))
        }
        Some(Err(_)) => "too many to count in a moment are missing".into(),
        None => "how many are missing isn't known".into(),
    };
    let skipped =
        if skipped > 0 { format!("{skipped} could not be scored, ") } else { String::new() };
    note(&format!("gradcon: {place}; {skipped}{missing}"));
    error
}

/// The scoring under way.
struct Work<'a> {
    detector: &'a Detector,
    scorer: Scorer<'a>,
    threshold: Option<f64>,
    lines: Lines<'a>,
    chunk: Chunk,
    scored: u64,
    /// Of them, how many are above the threshold.
    flagged: u64,
    skipped: u64,
    left_out: Tally,
    /// What maps show, and where they go.
    maps: Option<(MapKind, MapFolder)>,
    /// Where the files of flagged images go.
    copies: Option<Copies>,
    bar: ProgressBar,
}

/// Images to score together.
struct Chunk {
    images: Images,
    paths: Vec<PathBuf>,
    /// When the first of them came.
    since: Instant,
}

impl Chunk {
    fn new(decode: &Decode) -> Result<Chunk> {
        let images = Images::new(vec![], [0, decode.size(), decode.size(), decode.channels()])?;
        Ok(Chunk { images, paths: vec![], since: Instant::now() })
    }

    fn push(&mut self, path: PathBuf, image: Images) {
        if self.paths.is_empty() {
            self.since = Instant::now();
        }
        self.images.data.extend_from_slice(&image.data);
        self.images.n += 1;
        self.paths.push(path);
    }
}

impl Work<'_> {
    /// Scores and writes everything, in order. `tick` is called between.
    fn score_all(&mut self, mut images: Ahead<Images>, tick: impl Fn(&ProgressBar)) -> Result<()> {
        self.lines.header()?;
        let mut most = FIRST_CHUNK;
        loop {
            if interrupt::asked() {
                return Err(Error::Interrupted);
            }
            let next = images.next(PATIENCE / 4);
            let end = matches!(next, Next::End);
            match next {
                Next::Image(path, Ok(image)) => self.chunk.push(path, image),
                Next::Image(path, Err(reason)) => self.skip(&path, &reason),
                Next::LeftOut(entry) if entry.matters() => {
                    self.skip(&entry.path, &entry.why.to_string())
                }
                Next::LeftOut(entry) => self.left_out.add(&entry),
                Next::Later | Next::End => {}
            }
            let waiting = self.chunk.paths.len();
            if waiting >= most || waiting > 0 && (end || self.chunk.since.elapsed() >= PATIENCE) {
                self.score_chunk()?;
                let pixels = self.chunk.images.height * self.chunk.images.width;
                let all = CHUNK * IMAGE_SIZE * IMAGE_SIZE / pixels;
                most = all.max(FIRST_CHUNK).min(2 * most);
                tick(&self.bar);
            }
            if end {
                return Ok(());
            }
        }
    }

    /// Scores and writes what is in a folder and what comes into it, until somebody asks to stop.
    fn watch(&mut self, mut folder: Watch, decode: &Decode, ui: &Ui) -> Result<()> {
        self.lines.header()?;
        let mut unreadable = false;
        while !interrupt::asked() {
            let (mut ready, since) = (vec![], Instant::now());
            match folder.look() {
                Ok(found) => {
                    unreadable = false;
                    for entry in found {
                        match entry {
                            Ok(path) => ready.push(path),
                            Err(entry) if entry.matters() => {
                                self.skip(&entry.path, &entry.why.to_string())
                            }
                            Err(entry) => self.left_out.add(&entry),
                        }
                    }
                }
                // A drive of the network may come back.
                Err(e) if !std::mem::replace(&mut unreadable, true) => {
                    ui.warn(&format!("{e}; looking for it again every second"))
                }
                Err(_) => {}
            }
            for paths in ready.chunks(FIRST_CHUNK) {
                if interrupt::asked() {
                    break;
                }
                let images: Vec<_> = paths.par_iter().map(|path| decode.file(path)).collect();
                for (path, image) in paths.iter().zip(images) {
                    match image {
                        Ok(image) => self.chunk.push(path.clone(), image),
                        Err(reason) if folder.is_broken(path) => self.skip(path, &reason),
                        Err(_) => {}
                    }
                }
                self.score_chunk()?;
            }
            while !interrupt::asked() && since.elapsed() < watch::INTERVAL {
                std::thread::sleep(PATIENCE / 4);
            }
        }
        match folder.waiting() {
            0 => {}
            n => note(&format!("gradcon: {n} files were not whole yet and are not scored")),
        }
        Ok(())
    }

    fn score_chunk(&mut self) -> Result<()> {
        if self.chunk.paths.is_empty() {
            return Ok(());
        }
        let scores = self.scorer.score_each(&self.chunk.images)?;
        if let Some((kind, folder)) = &mut self.maps {
            let finite: Vec<usize> = (0..scores.len()).filter(|&i| scores[i].is_finite()).collect();
            let of: Vec<Score> = finite.iter().map(|&i| scores[i].clone()).collect();
            let paths: Vec<&Path> = finite.iter().map(|&i| self.chunk.paths[i].as_path()).collect();
            let images = self.chunk.images.select(&finite);
            folder
                .add(&paths, &maps::maps(&mut self.scorer, self.detector, &images, &of, *kind)?)?;
        }
        let mut scored = 0;
        for (path, score) in std::mem::take(&mut self.chunk.paths).into_iter().zip(scores) {
            if score.is_finite() {
                let anomalous = self.threshold.map(|threshold| score.score > threshold);
                self.lines.line(&path, &score, anomalous)?;
                if anomalous == Some(true) {
                    self.flagged += 1;
                    self.copies.as_mut().map_or(Ok(()), |copies| copies.add(&path))?;
                }
                scored += 1;
            } else {
                self.skip(&path, &score.not_finite());
            }
        }
        self.chunk.images.data.clear();
        self.chunk.images.n = 0;
        // Somebody may be waiting for them.
        self.lines.out.flush()?;
        self.scored += scored;
        self.bar.inc(scored);
        Ok(())
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.skipped += 1;
        self.bar.suspend(|| note(&format!("gradcon: {}: skipped: {reason}", path_text(path))));
        self.bar.inc(1);
    }
}

/// CSV with a header, or JSON lines.
struct Lines<'a> {
    out: &'a mut Output,
    /// The model's constrained layers.
    layers: Vec<&'static str>,
    /// Names of the scores beside the first.
    more: Vec<String>,
    json: bool,
    /// With the paper's parts.
    full: bool,
    /// Lines that wait for the end, to be in order.
    ranked: Option<Ranked>,
}

/// The lines of the highest scores.
struct Ranked {
    most: usize,
    /// The score and the line; what is more than `most` is dropped from time to time.
    lines: Vec<(f64, Vec<u8>)>,
}

impl Ranked {
    fn new(most: usize) -> Ranked {
        Ranked { most, lines: vec![] }
    }

    fn push(&mut self, score: f64, line: Vec<u8>) {
        self.lines.push((score, line));
        if self.lines.len() >= self.most.saturating_mul(2).max(1024) {
            self.rank();
        }
    }

    /// Highest first; images of the same score stay in their order.
    fn rank(&mut self) {
        self.lines.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        self.lines.truncate(self.most);
    }
}

impl Lines<'_> {
    fn header(&mut self) -> Result<()> {
        if self.json {
            return Ok(());
        }
        let mut header: Vec<String> = ["image", "score"].map(String::from).to_vec();
        if self.full {
            header.extend(["mse", "cos"].map(String::from));
            header.extend(self.layers.iter().map(|layer| cosine_column(layer)));
        }
        header.extend(self.more.iter().cloned());
        header.push("anomalous".into());
        self.out.write(&Self::csv(&header)?)?;
        self.out.flush()
    }

    fn csv(fields: &[String]) -> Result<Vec<u8>> {
        let mut line = csv::Writer::from_writer(vec![]);
        // Memory takes any record.
        line.write_record(fields).map_err(|e| Error::invalid(e.to_string()))?;
        line.into_inner().map_err(|e| Error::invalid(e.to_string()))
    }

    /// Writes what was kept back.
    fn finish(&mut self) -> Result<()> {
        let Some(mut ranked) = self.ranked.take() else { return Ok(()) };
        ranked.rank();
        ranked.lines.iter().try_for_each(|(_, line)| self.out.write(line))?;
        self.out.flush()
    }

    fn line(&mut self, path: &Path, s: &Score, anomalous: Option<bool>) -> Result<()> {
        let line = self.text(path, s, anomalous)?;
        match &mut self.ranked {
            Some(ranked) => ranked.push(s.score, line),
            None => self.out.write(&line)?,
        }
        Ok(())
    }

    fn text(&self, path: &Path, s: &Score, anomalous: Option<bool>) -> Result<Vec<u8>> {
        let image = path_text(path);
        if !self.json {
            let parts = self.full.then_some([s.mse, s.cos].into_iter().chain(s.cosines.clone()));
            let numbers = std::iter::once(s.score).chain(parts.into_iter().flatten());
            let numbers = numbers.chain(s.scores[1..].iter().copied());
            let mut fields = vec![image];
            fields.extend(numbers.map(|number| number.to_string()));
            fields.push(anomalous.map_or(String::new(), |anomalous| (anomalous as u8).to_string()));
            return Self::csv(&fields);
        }
        let mut object = serde_json::json!({
            "image": image, "score": s.score, "mse": s.mse, "cos": s.cos, "anomalous": anomalous,
        });
        for (layer, cos) in self.layers.iter().zip(&s.cosines) {
            object[cosine_column(layer)] = (*cos).into();
        }
        for (name, score) in self.more.iter().zip(&s.scores[1..]) {
            object[name] = (*score).into();
        }
        Ok(format!("{object}\n").into_bytes())
    }
}
