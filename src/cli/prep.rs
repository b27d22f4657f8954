//! `gradcon prep`: get a dataset, split it, and write the prepared folder.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::{Ui, interrupt};
use crate::data::download::{self, Event, Patience, Remote};
use crate::data::folder::{Decode, Folders, Listing, Progress, Tally};
use crate::data::manifest;
use crate::data::prepared::{self, Written};
use crate::data::source::{self, DEBIAN_FASHION, Origin};
use crate::data::{Dataset, Prepared, cifar, cure_tsr, folder, idx, picture, prepare};
use crate::error::{Error, Result};
use crate::limits;
use crate::output::print;

const LONG_ABOUT: &str = "\
Prepare a dataset: read or download it, resize the images to 28 x 28, split them into training, \
validation and test \
images, and write the result as one folder of NumPy files with a manifest.

Everything random comes from --seed: the same input and seed give the same bytes. The folder \
appears in one step, whole \
or not at all, and an existing folder is never changed unless --force says so. Ctrl-C leaves \
nothing behind (exit code 130).

The ten-class datasets are looked for in --from, else (Fashion-MNIST) in the folder of Debian's \
package \
dataset-fashion-mnist, else downloaded and checked against their published MD5 sums. cure-tsr, \
mvtec and folder always \
need to be told where the images are.

Pictures (png, jpg, bmp, webp, tif) are turned as they say themselves (EXIF), 16 bits are scaled \
to 8, and transparency is \
dropped: the stored colours count, as in Pillow, or pictures are composed onto --background. \
Files that are hidden or \
the system's own (._x.png, .ipynb_checkpoints, Thumbs.db) are passed over. Whatever else is left \
out is named on \
stderr: other files as a note, and, even with --quiet, pictures of other kinds, links to nothing, \
pipes, and what can't \
be listed; none of this is an error. A picture that can't be decoded is: nothing is written then \
(exit code 1).";

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
  One category of MVTec AD, or another tree like it (train/good, test/good, test/DEFECT), to \
  data/bottle:
      gradcon prep mvtec --from mvtec_anomaly_detection/bottle";

/// Prepare a dataset: read or download it, split it, write it as NumPy files
#[derive(clap::Args, Clone, Debug)]
#[command(long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
pub struct PrepArgs {
    /// The dataset
    #[arg(value_enum)]
    dataset: DatasetName,

    /// The folder to write [default: data/NAME]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Where the dataset's files are
    ///
    /// mnist, fmnist: a folder of the four IDX files, plain or .gz. cifar-10: the binary or Python
    /// archive (.tar.gz or .tar), the folder of the unpacked batches, or a folder that holds one of
    /// these. cure-tsr: the folder of Real_Train and Real_Test. mvtec, folder: a tree with
    /// train/good, test/good and test/DEFECT (or normal or ok instead of good).
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,

    /// What to call the dataset in results and pages [default: DATASET; for own images the name of
    /// their folder]
    #[arg(long)]
    name: Option<String>,

    /// Use the small part of Fashion-MNIST (5,800 images) that is inside this program
    #[arg(long, conflicts_with_all = ["from", "mirror"])]
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
    #[arg(long, value_name = "DIR", conflicts_with = "from", requires = "abnormal_dir")]
    normal_dir: Option<PathBuf>,

    /// folder: anomalous images to test with
    #[arg(long, value_name = "DIR", requires = "normal_dir")]
    abnormal_dir: Option<PathBuf>,

    /// folder: normal images to test with [default: a fifth of those in --normal-dir, drawn at
    /// random]
    #[arg(long, value_name = "DIR", requires = "normal_dir")]
    normal_test_dir: Option<PathBuf>,

    /// folder: 1 makes the images gray, 3 makes them RGB [default: 3]
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

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum DatasetName {
    /// Handwritten digits, 28 x 28 gray, 60,000 + 10,000
    Mnist,
    /// Fashion-MNIST: clothes, 28 x 28 gray, 60,000 + 10,000 pooled into five folds
    #[value(aliases = ["fashion-mnist", "fashion_mnist", "fashionmnist", "fashion"])]
    Fmnist,
    /// CIFAR-10: ten kinds of things and animals, 32 x 32 RGB, 50,000 + 10,000
    #[value(name = "cifar-10", aliases = ["cifar10", "cifar_10", "cifar"])]
    Cifar10,
    /// CURE-TSR: traffic signs with and without challenging conditions, RGB
    #[value(aliases = ["cure_tsr", "curetsr"])]
    CureTsr,
    /// One category of MVTec AD, or of another dataset with folders like it
    #[value(aliases = ["mvtec-ad", "mvtec_ad", "mvtecad"])]
    Mvtec,
    /// Your own images: png, jpg, bmp, webp or tif
    Folder,
}

impl From<DatasetName> for Dataset {
    fn from(name: DatasetName) -> Dataset {
        match name {
            DatasetName::Mnist => Dataset::Mnist,
            DatasetName::Fmnist => Dataset::Fmnist,
            DatasetName::Cifar10 => Dataset::Cifar10,
            DatasetName::CureTsr => Dataset::CureTsr,
            DatasetName::Mvtec | DatasetName::Folder => Dataset::Folder,
        }
    }
}

/// Runs the command: progress on stderr, a summary of what was made on stdout.
///
/// # Errors
/// Flags that don't go together, input that is missing or broken, a failed download, an occupied
/// output folder.
pub fn run(args: PrepArgs, ui: &Ui) -> Result<()> {
    let dataset = Dataset::from(args.dataset);
    check_flags(&args, dataset)?;
    let name = match &args.name {
        Some(name) => Some(name.clone()),
        None => own_name(&args),
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("data").join(name.as_deref().unwrap_or(dataset.name())));
    // Before any download.
    prepared::check_target(&out, true)?;
    if args.force {
        prepared::check_not_current(&out)?;
    }
    interrupt::catch();
    let mut prepared = match dataset {
        Dataset::Mnist | Dataset::Fmnist | Dataset::Cifar10 => ten_classes(&args, dataset, ui)?,
        Dataset::CureTsr => {
            let from = args.from.as_ref().expect("check_flags demands --from");
            let decode = decode(&args, 3)?;
            let listing = cure_tsr::list(from).map_err(|e| with_hint(e, &args, from))?;
            ui.progress(&format!("Reading CURE-TSR from {}", listing.root.display()));
            if listing.test.len() < 60 {
                ui.progress(&format!(
                    "Note: {} challenges and levels are there, of 60",
                    listing.test.len()
                ));
            }
            tell_left_out(&listing.left_out, ui);
            with_bar(ui, |progress| prepare::cure_tsr(&listing, decode, args.seed, progress))?
        }
        Dataset::Folder => {
            let decode = decode(&args, args.channels.unwrap_or(3).into())?;
            let listing = pictures(&args)?;
            ui.progress(&format!("Reading images from {}", listing.normal.dir.display()));
            tell_left_out(&listing.left_out, ui);
            listing.warnings.iter().for_each(|warning| ui.warn(warning));
            with_bar(ui, |progress| prepare::own_images(&listing, decode, args.seed, progress))?
        }
    };
    if let Some(name) = name {
        prepared = prepared.named(&name)?;
    }
    let done = match prepared.write_unless(&out, args.force, &go_on)? {
        Written::New => "Wrote",
        Written::Unchanged => "Already there, the same in every byte:",
    };
    print(&format!("{}\n{done} {}\n", prepared.manifest().summary(), out.display()))
}

/// An error once somebody asked to stop.
fn go_on() -> Result<()> {
    if interrupt::asked() { Err(Error::Interrupted) } else { Ok(()) }
}

fn decode(args: &PrepArgs, channels: usize) -> Result<Decode> {
    let background = args.background.as_deref().map(picture::colour).transpose();
    let background = background.map_err(|e| Error::Usage(format!("--background {e}")))?;
    Ok(Decode::new(channels, args.max_pixels.unwrap_or(Decode::MAX_PIXELS))?.on(background))
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
    let normal =
        args.normal_dir.as_deref().filter(|_| Dataset::from(args.dataset) == Dataset::Folder);
    let own = Dataset::from(args.dataset) == Dataset::Folder;
    let dir = normal.or(args.from.as_deref().filter(|_| own))?.canonicalize().ok()?;
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

fn check_flags(args: &PrepArgs, dataset: Dataset) -> Result<()> {
    let usage = |what: String| Err(Error::Usage(what));
    let name = dataset.name();
    if args.subset && dataset != Dataset::Fmnist {
        return usage(format!("--subset: only fmnist has a part inside the program, not {name}"));
    }
    if dataset.origin().is_none() {
        if args.mirror.is_some() || args.cache.is_some() {
            return usage(format!(
                "--mirror, --cache: {name} is not downloaded; name its folder with --from PATH"
            ));
        }
        if args.max_bytes.is_some() {
            return usage(format!("--max-bytes: {name} has image files, each with its own limit"));
        }
        if !args.outlier_ratio.is_empty() {
            return usage(format!(
                "--outlier-ratio: the test sets of {name} have all images they are given"
            ));
        }
    }
    if let Some(name) = &args.name {
        manifest::check_name(name).map_err(|e| Error::Usage(format!("--name: {e}")))?;
    }
    if dataset.origin().is_some() && (args.max_pixels.is_some() || args.background.is_some()) {
        return usage(format!(
            "--max-pixels, --background: not for {name}, which has no picture files"
        ));
    }
    if args.dataset == DatasetName::Mvtec && args.from.is_none() {
        return usage(
            "mvtec: it can't be downloaded by a program; get it from its authors' page \
             (https://www.mvtec.com/company/research/datasets/mvtec-ad) and name the folder of \
             one category, such as \
             --from mvtec_anomaly_detection/bottle"
                .into(),
        );
    }
    if dataset == Dataset::Folder {
        if args.from.is_none() && args.normal_dir.is_none() {
            return usage(
                "folder: give --normal-dir DIR and --abnormal-dir DIR, or --from DIR (MVTec-style)"
                    .into(),
            );
        }
        if args.channels == Some(2) {
            return usage("--channels 2: expected 1 (gray) or 3 (RGB)".into());
        }
    } else if args.normal_dir.is_some() || args.channels.is_some() {
        return usage(format!(
            "--normal-dir, --abnormal-dir, --normal-test-dir, --channels: not for {name}"
        ));
    }
    if dataset == Dataset::CureTsr && args.from.is_none() {
        return usage(
            "cure-tsr: it can't be downloaded by a program; get it by way of its authors' page \
             (https://github.com/olivesgatech/CURE-TSR) and name its folder with --from PATH"
                .into(),
        );
    }
    Ok(())
}

fn ten_classes(args: &PrepArgs, dataset: Dataset, ui: &Ui) -> Result<Prepared> {
    let ratios = if args.outlier_ratio.is_empty() {
        &[prepare::DEFAULT_RATIO]
    } else {
        args.outlier_ratio.as_slice()
    };
    if args.subset {
        return prepare::fashion_subset(args.seed, ratios);
    }
    let origin = dataset.origin().expect("ten-class datasets have an origin");
    let debian = Path::new(DEBIAN_FASHION);
    let path = if let Some(from) = &args.from {
        from.clone()
    } else if dataset == Dataset::Fmnist && args.mirror.is_none() && idx::is_complete(debian) {
        debian.to_path_buf()
    } else {
        download(args, dataset, &origin, ui)?
    };
    ui.progress(&format!("Reading {} from {}", dataset.name(), path.display()));
    let read = source::read_within(dataset, &path, args.max_bytes)
        .map_err(|e| with_hint(e, args, &path))?;
    let source::TenClasses { train, test, source } = read;
    go_on()?;
    let found = [train.images.n, test.images.n];
    if found != origin.images {
        let [train, test] = origin.images;
        ui.progress(&format!(
            "Note: {} training and {} test images; the official files have {train} and {test}",
            found[0], found[1]
        ));
    }
    prepare::ten_classes(dataset, train, test, source, args.seed, ratios)
}

/// Downloads what the cache does not have and returns the cache folder.
fn download(args: &PrepArgs, dataset: Dataset, origin: &Origin, ui: &Ui) -> Result<PathBuf> {
    let cache = match &args.cache {
        Some(dir) => dir.clone(),
        None => user_cache()?.join("gradcon").join(dataset.name()),
    };
    let mirrors: Vec<&str> =
        args.mirror.as_deref().map_or_else(|| origin.mirrors.to_vec(), |url| vec![url]);
    for file in origin.files {
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
            go_on()
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

/// Finds a user's own images.
fn pictures(args: &PrepArgs) -> Result<Listing> {
    match (&args.from, &args.normal_dir, &args.abnormal_dir) {
        (Some(root), ..) => Listing::mvtec(root).map_err(|e| with_hint(e, args, root)),
        (None, Some(normal), Some(abnormal)) => Folders {
            normal: normal.clone(),
            normal_test: args.normal_test_dir.clone(),
            abnormal: vec![("abnormal".into(), abnormal.clone())],
        }
        .list(),
        _ => unreachable!("check_flags demands a folder, and clap the other one"),
    }
}

/// The error, and where the dataset is if `--from` names a folder that is too high or too deep.
fn with_hint(error: Error, args: &PrepArgs, from: &Path) -> Error {
    let fits = |dir: &Path| match Dataset::from(args.dataset) {
        dataset @ (Dataset::Mnist | Dataset::Fmnist) => {
            idx::is_complete(&source::idx_folder(dataset, dir))
        }
        Dataset::Cifar10 => dir.is_dir() && cifar::locate(dir).is_ok(),
        Dataset::CureTsr => cure_tsr::root(dir).is_some(),
        Dataset::Folder => Folders::mvtec(dir).is_ok(),
    };
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
                    "{error}\n{} datasets are further down ({}{}): name one, such as --from {}",
                    found.len(),
                    names.join(", "),
                    if found.len() > names.len() { ", ..." } else { "" },
                    first.display()
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
        go_on()
    });
    bar.finish_and_clear();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(line: &str) -> std::result::Result<PrepArgs, clap::Error> {
        let command = PrepArgs::augment_args(Command::new("prep"));
        PrepArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    fn check(line: &str) -> Result<()> {
        let args = parse(line).expect("clap takes it");
        check_flags(&args, args.dataset.into())
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
            "prep folder --normal-dir x",
            "prep folder --abnormal-dir x",
            "prep folder --from x --normal-dir y --abnormal-dir z",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_usage_errors() {
        for line in [
            "prep mnist",
            "prep fmnist --subset",
            "prep cifar-10 --mirror http://x --cache y",
            "prep cure-tsr --from x",
            "prep folder --from x",
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
            ("prep mnist --normal-dir x --abnormal-dir y", "not for mnist"),
        ] {
            let error = check(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
