//! `gradcon prep`: get a dataset, split it, and write the prepared folder.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, FromArgMatches};
use indicatif::ProgressBar;
use strum::VariantNames;

use super::sizes::one_of_sizes;
use super::{Ui, interrupt};
use crate::data::datasets::{ALL as DATASETS, Kind, Listed, Pictures, TenClasses};
use crate::data::download::{self, Event, Patience, Remote};
use crate::data::folder::{Decode, Folders, Progress, Tally};
use crate::data::picture::Aspect;
use crate::data::prepared::{self, Written};
use crate::data::{Dataset, Prepared, categories, folder, manifest, picture, prepare, source};
use crate::error::{Error, Result};
use crate::files::parent;
use crate::images::{IMAGE_SIZE, check_size};
use crate::limits;
use crate::output::print;
use crate::tiles::{MOST_IMAGE, Tiles};

/// What the command does, with what the table of datasets says of each.
fn long_about() -> String {
    let packages = DATASETS.iter().filter_map(|dataset| {
        let package = dataset.ten_classes()?.package.as_ref()?;
        Some(format!("else ({}) in the folder of {}, ", dataset.title, package.name))
    });
    let pictures = names_of(|dataset| dataset.pictures().is_some());
    format!(
        "Prepare a dataset: read or download it, resize the images to {IMAGE_SIZE} x {IMAGE_SIZE} \
         (--size: others), split them into training, validation and test images, and write the result as one folder \
         of NumPy files with a manifest.\n\n\
         Everything random comes from --seed: the same input and seed give the same bytes. The \
         folder appears in one step, whole or not at all, and an existing folder is never changed \
         unless --force says so. Ctrl-C leaves nothing behind (exit code 130).\n\n\
         The ten-class datasets are looked for in --from, {}else downloaded and checked against \
         their published MD5 sums. {pictures} always need to be told where the images are.\n\n\
         Pictures (png, jpg, bmp, webp, tif) are turned as they say themselves (EXIF), 16 bits \
         are scaled to 8, and transparency is dropped: the stored colours count, as in Pillow, or \
         pictures are composed onto --background. Files that are hidden or the system's own \
         (._x.png, .ipynb_checkpoints, Thumbs.db) are passed over. Whatever else is left out is \
         named on stderr: other files as a note, and, even with --quiet, pictures of other kinds, \
         links to nothing, pipes, and what can't be listed; none of this is an error. A picture \
         that can't be decoded is: nothing is written then (exit code 1).",
        packages.collect::<String>()
    )
}

/// The names of the datasets that are so: `a, b and c`.
fn names_of(so: impl Fn(&Dataset) -> bool) -> String {
    let names: Vec<&str> =
        DATASETS.iter().filter(|dataset| so(dataset)).map(|dataset| dataset.name()).collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// What `--from` may lead to, for each dataset; those with the same words together.
fn from_help() -> String {
    let mut kinds: Vec<(Vec<&str>, &str)> = vec![];
    for dataset in DATASETS {
        match kinds.iter_mut().find(|(_, from)| *from == dataset.from) {
            Some((names, _)) => names.push(dataset.name()),
            None => kinds.push((vec![dataset.name()], dataset.from)),
        }
    }
    let kinds: Vec<String> =
        kinds.iter().map(|(names, from)| format!("{}: {from}.", names.join(", "))).collect();
    format!("Where the dataset's files are\n\n{}", kinds.join(" "))
}

fn subset_help() -> String {
    let subsets = DATASETS.iter().filter_map(|dataset| dataset.ten_classes()?.subset.as_ref());
    let subsets: Vec<&str> = subsets.map(|subset| subset.what).collect();
    format!("Use {} that is inside this program", subsets.join(" or "))
}

const EXAMPLES: &str = "\
Examples:
  Fashion-MNIST, from Debian's package or the official server:
      gradcon prep fmnist --out data/fmnist
  The small part of Fashion-MNIST inside this program, without any network:
      gradcon prep fmnist --subset --out data/small
  CIFAR-10 from an archive that is there already, test sets with 10, 30 and 50 % outliers:
      gradcon prep cifar-10 --from cifar-10-python.tar.gz --outlier-ratio 10,30,50 --out data/cifar
  Own gray images:
      gradcon prep folder --normal-dir good --abnormal-dir bad --channels 1 --out data/mine
  Normal images alone, for a model with a threshold (there is nothing to test it with):
      gradcon prep folder --normal-dir good --out data/mine
  One category of MVTec AD, or another tree like it (train/good, test/good, test/DEFECT), to \
  data/bottle:
      gradcon prep mvtec --from mvtec_anomaly_detection/bottle
  All its categories as classes of one dataset, which train side by side:
      gradcon prep mvtec --from mvtec_anomaly_detection --all --out data/mvtec";

/// Prepare a dataset: read or download it, split it, write it as NumPy files
#[derive(clap::Args, Clone, Debug)]
#[command(long_about = long_about(), after_long_help = EXAMPLES)]
pub struct PrepArgs {
    /// The dataset
    #[arg(value_enum)]
    dataset: Dataset,

    /// The folder to write [default: data/NAME]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[arg(
        long, value_name = "PATH",
        help = "Where the dataset's files are", long_help = from_help()
    )]
    from: Option<PathBuf>,

    /// Own images: --from holds several categories, each such a tree (as MVTec AD as a whole does);
    /// they become the classes of one dataset, for one training and one table
    #[arg(long)]
    all: bool,

    /// What to call the dataset in results and pages [default: DATASET; for own images the name of
    /// their folder]
    #[arg(long)]
    name: Option<String>,

    #[arg(long, help = subset_help(), conflicts_with_all = ["from", "mirror"])]
    subset: bool,

    /// Download from this server instead of the official ones
    ///
    /// The file's name is put after the address. The checksums stay the published ones.
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    mirror: Option<String>,

    /// Where downloaded files are kept, for the next time [default: gradcon in the user's cache
    /// folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Height and width of the images: 28 as in the paper, or 32, 48, 64, 96, 128, 192, 256; with
    /// --tiles any up to 1024 [default: 28; with --tiles 8/3 of it]
    ///
    /// Larger ones keep more of a picture, and cost more: a training step of 64 x 64 has 4.4 times
    /// the operations of one of 28 x 28, one of 128 x 128 has 20 times.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,

    /// Pictures: what becomes of one that is no square: it is squashed, its shorter side is filled
    /// up (pad: with --background, or black), or the ends of its longer side are cut off (crop)
    #[arg(
        long, default_value_t,
        value_parser = PossibleValuesParser::new(Aspect::VARIANTS).try_map(|v| v.parse::<Aspect>())
    )]
    aspect: Aspect,

    /// Pictures: cut each into overlapping tiles of this height and width; the model learns and
    /// judges tiles, so that small defects stay visible
    ///
    /// The score of an image comes from the scores of its tiles, and a map shows which they were
    /// (`gradcon score --maps`).
    #[arg(long, value_name = "PIXELS", value_parser = one_of_sizes)]
    tiles: Option<usize>,

    /// Pixels from a tile to the next [default: a third of a tile]
    #[arg(long, value_name = "PIXELS", requires = "tiles")]
    tile_stride: Option<usize>,

    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Percent of outliers in the test sets of a ten-class dataset; several make several test sets
    /// [default: 50]
    #[arg(
        long, value_name = "PERCENT", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=99)
    )]
    outlier_ratio: Vec<u32>,

    /// folder: normal images, in this folder and below it
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    normal_dir: Option<PathBuf>,

    /// folder: anomalous images to test with; without them there are normal images only, which make
    /// a model with a threshold, and no AUROC
    #[arg(long, value_name = "DIR", requires = "normal_dir")]
    abnormal_dir: Option<PathBuf>,

    /// folder: normal images to test with [default: a fifth of those in --normal-dir, drawn at
    /// random]
    #[arg(long, value_name = "DIR", requires = "abnormal_dir")]
    normal_test_dir: Option<PathBuf>,

    /// folder: 1 makes the images gray, 3 makes them RGB [default: 3, or 1 if all of them are gray]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    channels: Option<u8>,

    /// Most bytes of images that the files of a ten-class dataset may hold, uncompressed [default:
    /// 512 MiB]
    ///
    /// A small file can claim, or be compressed from, any number of bytes. What is larger is
    /// refused.
    #[arg(
        long, value_name = "BYTES", conflicts_with = "subset",
        value_parser = clap::value_parser!(u64).range(1..=limits::ARRAY)
    )]
    max_bytes: Option<u64>,

    /// Pictures: the largest to decode, in pixels; no side may have more than a 256th of it (or
    /// 65,536)
    ///
    /// A file of 60 kB can hold gigabytes of pixels. Decoding takes 3 to 20 bytes a pixel, most for
    /// a progressive JPEG; all threads together use at most 1 GiB for it, or what one picture alone
    /// needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: Option<u64>,

    /// Pictures: compose transparent ones onto this colour: black, white or RRGGBB [default:
    /// transparency is dropped, the stored colours count]
    #[arg(long, value_name = "COLOUR")]
    background: Option<String>,

    /// Replace the folder if it holds another prepared dataset
    #[arg(long)]
    force: bool,
}

impl clap::ValueEnum for Dataset {
    fn value_variants<'a>() -> &'a [Dataset] {
        DATASETS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).aliases(self.aliases).help(self.about))
    }
}

/// Runs the command: progress on stderr, a summary of what was made on stdout.
///
/// # Errors
/// Flags that don't go together, input that is missing or broken, a failed download, an occupied
/// output folder.
pub fn run(args: PrepArgs, ui: &Ui) -> Result<()> {
    print(&make(args, ui)?)
}

/// [`run`], with the summary as a text.
fn make(args: PrepArgs, ui: &Ui) -> Result<String> {
    check_flags(&args)?;
    let name = args.name.clone().or_else(|| own_name(&args));
    let out = args.out.clone().unwrap_or_else(|| {
        Path::new("data").join(name.as_deref().unwrap_or(args.dataset.recorded().name()))
    });
    // Before any download.
    prepared::check_target(&out, true)?;
    if args.force {
        prepared::check_not_current(&out)?;
    }
    interrupt::catch();
    let mut prepared = match args.dataset.kind {
        Kind::TenClasses(spec) => ten_classes(&args, spec, ui)?,
        Kind::Pictures(spec) => pictures(&args, spec, ui)?,
    };
    if let Some(name) = name {
        prepared = prepared.named(&name)?;
    }
    let done = match prepared.write_unless(&out, args.force, &interrupt::go_on)? {
        Written::New => "Wrote",
        Written::Unchanged => "Already there, the same in every byte:",
    };
    Ok(format!("{}\n{done} {}\n", prepared.manifest().summary(), out.display()))
}

/// Whether a dataset can be prepared without being told where its files are, and without a network:
/// they are in its package's folder, or were downloaded before.
pub(super) fn is_at_hand(dataset: Dataset) -> bool {
    let package = dataset.ten_classes().and_then(|spec| spec.package.as_ref());
    let cache = user_cache().ok().map(|cache| cache.join("gradcon").join(dataset.name()));
    let places = package.map(|package| PathBuf::from(package.dir)).into_iter().chain(cache);
    dataset.ten_classes().is_some() && places.into_iter().any(|place| (dataset.is_in)(&place))
}

/// Prepares a dataset in `out` as `gradcon prep DATASET --out OUT --from FROM` does, with test sets
/// of these percentages where it has ten classes.
///
/// # Errors
/// As [`run`].
pub(super) fn prepare_at(
    dataset: Dataset,
    out: &Path,
    from: Option<&Path>,
    percents: &[u32],
    ui: &Ui,
) -> Result<()> {
    let command = PrepArgs::augment_args(Command::new("prep"));
    let mut line: Vec<OsString> =
        vec!["prep".into(), dataset.name().into(), "--out".into(), out.into()];
    line.extend(from.into_iter().flat_map(|path| [OsString::from("--from"), path.into()]));
    if dataset.ten_classes().is_some() {
        let percents: Vec<String> = percents.iter().map(u32::to_string).collect();
        line.extend(["--outlier-ratio".into(), percents.join(",").into()]);
    }
    let matches = command.try_get_matches_from(line);
    let args = matches.and_then(|matches| PrepArgs::from_arg_matches(&matches));
    let summary = make(args.map_err(|e| Error::Usage(e.to_string()))?, ui)?;
    ui.progress(summary.trim_end());
    Ok(())
}

fn decode(args: &PrepArgs, channels: usize) -> Result<Decode> {
    let background = args.background.as_deref().map(picture::colour).transpose();
    let background = background.map_err(|e| Error::Usage(format!("--background {e}")))?;
    let decode = Decode::new(channels, args.max_pixels.unwrap_or(Decode::MAX_PIXELS))?;
    let decode = decode.on(background).with_aspect(args.aspect);
    match tiles(args)? {
        Some(tiles) => Ok(decode.for_tiles(tiles)),
        None => decode.to_size(size_of(args)),
    }
}

/// Height and width of images that are not cut.
fn size_of(args: &PrepArgs) -> usize {
    args.size.unwrap_or(IMAGE_SIZE)
}

/// How pictures are cut, if they are.
fn tiles(args: &PrepArgs) -> Result<Option<Tiles>> {
    let Some(size) = args.tiles else { return Ok(None) };
    let (image, stride) = (args.size.unwrap_or(size * 8 / 3), args.tile_stride.unwrap_or(size / 3));
    Tiles::new(image.min(MOST_IMAGE + 1), size, stride).map(Some)
}

fn tell_left_out(left_out: &Tally, ui: &Ui) {
    if let Some(note) = left_out.note() {
        ui.progress(&format!("Note: {note}"));
    }
    if let Some(warning) = left_out.warning() {
        ui.warn(&warning);
    }
}

/// The name of own images: that of their folder, or of the one above where it only says that they
/// are normal.
fn own_name(args: &PrepArgs) -> Option<String> {
    let place = args.normal_dir.as_deref().or(args.from.as_deref());
    let dir = place.filter(|_| args.dataset.is_own())?.canonicalize().ok()?;
    let says_nothing = |dir: &&Path| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        folder::is_normal(&name)
            || ["train", "test", "images", "data"].contains(&name.to_ascii_lowercase().as_str())
    };
    let dir = dir.ancestors().find(|dir| !says_nothing(dir))?;
    let name = dir
        .file_name()?
        .to_string_lossy()
        .replace(|c: char| !c.is_alphanumeric() && !"-_.+".contains(c), "_");
    Some(name.trim_start_matches(['.', '-']).to_string())
        .filter(|name| manifest::check_name(name).is_ok())
}

fn check_flags(args: &PrepArgs) -> Result<()> {
    let usage = |what: String| Err(Error::Usage(what));
    let (dataset, name) = (args.dataset, args.dataset.recorded().name());
    let is_ten = dataset.ten_classes().is_some();
    let has_subset =
        |dataset: &Dataset| dataset.ten_classes().is_some_and(|spec| spec.subset.is_some());
    if args.subset && !has_subset(&dataset) {
        return usage(format!(
            "--subset: only {} has a part inside the program, not {name}",
            names_of(has_subset)
        ));
    }
    if !is_ten && (args.mirror.is_some() || args.cache.is_some()) {
        return usage(format!(
            "--mirror, --cache: {name} is not downloaded; name its folder with --from PATH"
        ));
    }
    if !is_ten && args.max_bytes.is_some() {
        return usage(format!("--max-bytes: {name} has image files, each with its own limit"));
    }
    if !is_ten && !args.outlier_ratio.is_empty() {
        return usage(format!(
            "--outlier-ratio: the test sets of {name} have all images they are given"
        ));
    }
    if let Some(name) = &args.name {
        manifest::check_name(name).map_err(|e| Error::Usage(format!("--name: {e}")))?;
    }
    if is_ten && (args.tiles.is_some() || args.aspect != Aspect::default()) {
        return usage(format!("--tiles, --aspect: not for {name}, which has no picture files"));
    }
    if tiles(args)?.is_none() {
        check_size(size_of(args)).map_err(|e| Error::Usage(format!("--size: {e}")))?;
    }
    if is_ten && (args.max_pixels.is_some() || args.background.is_some()) {
        return usage(format!(
            "--max-pixels, --background: not for {name}, which has no picture files"
        ));
    }
    if !dataset.is_own() && (args.normal_dir.is_some() || args.channels.is_some()) {
        return usage(format!(
            "--normal-dir, --abnormal-dir, --normal-test-dir, --channels: not for {name}"
        ));
    }
    if let Some(spec) = dataset.pictures()
        && args.from.is_none()
        && !(spec.by_folders && args.normal_dir.is_some())
    {
        return usage(spec.needs.into());
    }
    if args.all && !dataset.is_own() {
        return usage(format!("--all: not for {name}"));
    }
    if args.all && args.from.is_none() {
        return usage("--all: name the folder of the categories with --from DIR".into());
    }
    if args.channels == Some(2) {
        return usage("--channels 2: expected 1 (gray) or 3 (RGB)".into());
    }
    Ok(())
}

fn ten_classes(args: &PrepArgs, spec: &TenClasses, ui: &Ui) -> Result<Prepared> {
    let ratios = if args.outlier_ratio.is_empty() {
        &[prepare::DEFAULT_RATIO]
    } else {
        args.outlier_ratio.as_slice()
    };
    if let Some(subset) = spec.subset.as_ref().filter(|_| args.subset) {
        return (subset.prepare)(size_of(args), args.seed, ratios);
    }
    let package = spec.package.as_ref().map(|package| Path::new(package.dir));
    let path = match (&args.from, package) {
        (Some(from), _) => from.clone(),
        (None, Some(dir)) if args.mirror.is_none() && (args.dataset.is_in)(dir) => dir.into(),
        _ => download(args, spec, ui)?,
    };
    ui.progress(&format!("Reading {} from {}", args.dataset.name(), path.display()));
    let read = source::read_within(args.dataset, &path, args.max_bytes)
        .map_err(|e| with_hint(e, args, &path))?;
    let source::Raw { train, test, source } = read;
    interrupt::go_on()?;
    let found = [train.images.n, test.images.n];
    if found != spec.images {
        let [train, test] = spec.images;
        ui.progress(&format!(
            "Note: {} training and {} test images; the official files have {train} and {test}",
            found[0], found[1]
        ));
    }
    prepare::ten_classes_at(
        args.size.unwrap_or(IMAGE_SIZE),
        args.dataset,
        [train, test],
        source,
        args.seed,
        ratios,
    )
}

/// Downloads what the cache does not have and returns the cache folder.
fn download(args: &PrepArgs, spec: &TenClasses, ui: &Ui) -> Result<PathBuf> {
    let cache = match &args.cache {
        Some(dir) => dir.clone(),
        None => user_cache()?.join("gradcon").join(args.dataset.name()),
    };
    let mirrors: Vec<&str> =
        args.mirror.as_deref().map_or_else(|| spec.mirrors.to_vec(), |url| vec![url]);
    for file in spec.files {
        let bar: RefCell<Option<ProgressBar>> = RefCell::new(None);
        let mut tell = |event| {
            match event {
                Event::Request { url, from: 0 } => ui.progress(&format!("Downloading {url}")),
                Event::Request { url, from } => {
                    ui.progress(&format!("Downloading {url}, resuming at byte {from}"))
                }
                Event::Progress(done, total) => {
                    let mut bar = bar.borrow_mut();
                    let bar = bar.get_or_insert_with(|| ui.bar(total.unwrap_or(0)));
                    if let Some(total) = total {
                        bar.set_length(total);
                    }
                    bar.set_position(done);
                }
                Event::Failed(why) => ui.progress(&format!("Failed: {why}")),
            }
            interrupt::go_on()
        };
        let outcome =
            download::fetch(&Remote::new(file, &mirrors), &cache, &Patience::default(), &mut tell);
        if let Some(bar) = bar.into_inner() {
            bar.finish_and_clear();
        }
        outcome?;
    }
    Ok(cache)
}

fn user_cache() -> Result<PathBuf> {
    let from =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| from("LOCALAPPDATA"))
        .or_else(|| Some(from("HOME")?.join(".cache")))
        .ok_or_else(|| {
            Error::Usage(
                "no HOME in the environment: say with --cache DIR where to keep downloaded files"
                    .into(),
            )
        })
}

fn pictures(args: &PrepArgs, spec: &Pictures, ui: &Ui) -> Result<Prepared> {
    let decode = decode(args, args.channels.unwrap_or(3).into())?;
    if let Some(root) = args.from.as_deref().filter(|_| args.all) {
        return finished(categories(args, spec, decode, root, ui)?, args, ui);
    }
    let found = match (&args.from, &args.normal_dir, &args.abnormal_dir) {
        (Some(path), ..) => (spec.find)(path).map_err(|e| with_hint(e, args, path))?,
        (None, Some(normal), abnormal) => {
            let abnormal = abnormal.iter().map(|dir| ("abnormal".into(), dir.clone())).collect();
            let normal_test = args.normal_test_dir.clone();
            Box::new(Folders { normal: normal.clone(), normal_test, abnormal }.list()?)
        }
        _ => unreachable!("check_flags demands a folder"),
    };
    finished(read(found.as_ref(), args, decode, ui)?, args, ui)
}

/// The categories in `root` as one dataset.
fn categories(
    args: &PrepArgs,
    spec: &Pictures,
    decode: Decode,
    root: &Path,
    ui: &Ui,
) -> Result<Prepared> {
    let fits = args.dataset.is_in;
    if fits(root) {
        return Err(Error::Usage(format!(
            "--all: {} is one category itself; leave --all out",
            root.display()
        )));
    }
    let (found, others): (Vec<PathBuf>, Vec<PathBuf>) =
        folder::folders_in(root)?.into_iter().partition(|dir| fits(dir));
    if found.is_empty() {
        let none = format!("{}: no category in it, each {}", root.display(), args.dataset.from);
        return Err(with_hint(Error::invalid(none), args, root));
    }
    for other in others {
        ui.warn(&format!("{}: left out, no category", other.display()));
    }
    let mut all = vec![];
    for dir in found {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let listing = (spec.find)(&dir)?;
        all.push((name, read(listing.as_ref(), args, decode, ui)?));
    }
    categories::join(all)
}

/// Reads pictures that were found, and says what is to be said of them.
fn read(found: &dyn Listed, args: &PrepArgs, decode: Decode, ui: &Ui) -> Result<Prepared> {
    ui.progress(&format!("Reading {}", found.what()));
    found.notes(&decode).iter().for_each(|note| ui.progress(&format!("Note: {note}")));
    tell_left_out(found.left_out(), ui);
    found.warnings().iter().for_each(|warning| ui.warn(warning));
    with_bar(ui, |progress| found.prepare(decode, args.seed, progress))
}

/// Own pictures in the form that was asked for.
fn finished(mut prepared: Prepared, args: &PrepArgs, ui: &Ui) -> Result<Prepared> {
    if let Some(tiles) = tiles(args)? {
        prepared = prepared.cut_into(tiles)?;
    }
    if args.channels.is_some() || !args.dataset.is_own() {
        return Ok(prepared);
    }
    let prepared = prepared.gray_if_it_is();
    if prepared.channels() == 1 {
        ui.progress("Note: all pictures are gray: one channel (--channels 3 makes three of it)");
    }
    Ok(prepared)
}

/// The error, and where the dataset is if `--from` names a folder that is too high or too deep.
fn with_hint(error: Error, args: &PrepArgs, from: &Path) -> Error {
    let fits = args.dataset.is_in;
    if fits(from) {
        return error;
    }
    let mut below = folder::folders_in(from).unwrap_or_default();
    for _ in 0..2 {
        let found: Vec<&PathBuf> = below.iter().filter(|dir| fits(dir)).collect();
        match found[..] {
            [] => {
                below = below
                    .iter()
                    .take(1000)
                    .flat_map(|dir| folder::folders_in(dir).unwrap_or_default())
                    .collect()
            }
            [one] => {
                return Error::invalid(format!(
                    "{error}\nIt is further down: --from {}",
                    one.display()
                ));
            }
            [first, ..] => {
                let names: Vec<_> = found
                    .iter()
                    .take(20)
                    .map(|dir| dir.file_name().unwrap_or_default().to_string_lossy())
                    .collect();
                return Error::invalid(format!(
                    "{error}\n{} datasets are further down ({}{}): name one, such as --from {}, or \
                     take all as classes of one dataset, with --from {} --all",
                    found.len(),
                    names.join(", "),
                    if found.len() > names.len() { ", ..." } else { "" },
                    first.display(),
                    parent(first).display()
                ));
            }
        }
    }
    let above = from.canonicalize().ok().and_then(|real| {
        real.ancestors().skip(1).take(3).find(|dir| fits(dir)).map(Path::to_path_buf)
    });
    match above {
        Some(dir) => {
            Error::invalid(format!("{error}\nThat is inside of it: --from {}", dir.display()))
        }
        None => error,
    }
}

/// Runs `work` with a progress bar over images, until it is done or somebody asks to stop.
fn with_bar<T>(ui: &Ui, work: impl FnOnce(Progress) -> Result<T>) -> Result<T> {
    let bar = ui.bar(0);
    let outcome = work(&|found, read| {
        bar.inc_length(found);
        bar.inc(read);
        interrupt::go_on()
    });
    bar.finish_and_clear();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<PrepArgs, clap::Error> {
        let command = PrepArgs::augment_args(Command::new("prep"));
        PrepArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    fn check(line: &str) -> Result<()> {
        check_flags(&parse(line).expect("clap takes it"))
    }

    #[test]
    fn flags_are_read() {
        PrepArgs::augment_args(Command::new("prep")).debug_assert();
        let args = parse(
            "prep cifar-10 --outlier-ratio 10,30 --outlier-ratio 50 --seed 18446744073709551615",
        )
        .unwrap();
        assert_eq!((args.outlier_ratio, args.seed), (vec![10, 30, 50], u64::MAX));
        for line in
            ["prep", "prep imagenet", "prep mnist --outlier-ratio 100", "prep mnist --seed -1"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "prep fmnist --subset --from x",
            "prep mnist --mirror http://x --from y",
            "prep folder --abnormal-dir x",
            "prep folder --normal-dir x --normal-test-dir y",
            "prep folder --from x --normal-dir y --abnormal-dir z",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_tells_of_every_dataset() {
        let command = PrepArgs::augment_args(Command::new("prep"));
        let help = command.term_width(0).render_long_help().to_string();
        for dataset in DATASETS {
            for part in [dataset.about, dataset.from] {
                assert!(help.contains(part), "{}: {part}: {help}", dataset.name());
            }
        }
        assert!(help.contains("cure-tsr, mvtec and folder always need to be told"), "{help}");
        assert!(help.contains("else (Fashion-MNIST) in the folder of Debian's package"), "{help}");
    }

    #[test]
    fn flags_that_do_not_go_together_are_usage_errors() {
        for line in [
            "prep mnist",
            "prep fmnist --subset",
            "prep cifar-10 --mirror http://x --cache y",
            "prep cure-tsr --from x",
            "prep folder --from x",
            "prep folder --normal-dir x",
            "prep folder --normal-dir x --abnormal-dir y --normal-test-dir z --channels 1",
        ] {
            check(line).expect(line);
        }
        for (line, part) in [
            ("prep mnist --subset", "--subset"),
            ("prep cure-tsr", "--from"),
            ("prep cure-tsr --from x --outlier-ratio 10", "--outlier-ratio"),
            ("prep folder", "--normal-dir"),
            ("prep folder --normal-dir x --abnormal-dir y --mirror http://x", "--mirror"),
            ("prep folder --from x --channels 2", "--channels 2"),
            ("prep mnist --channels 1", "not for mnist"),
            ("prep mnist --from x --all", "--all: not for mnist"),
            ("prep mnist --normal-dir x --abnormal-dir y", "not for mnist"),
        ] {
            let error = check(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
