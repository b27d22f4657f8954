//! `gradcon data show` and `gradcon data verify`: look at and check a prepared folder.

use std::path::{Path, PathBuf};

use super::Ui;
use crate::data::{Prepared, prepared};
use crate::error::Result;
use crate::output::{self, make_folder, print};
use crate::sheet;

const EXAMPLES: &str = "\
Examples:
  gradcon data show data/fmnist
  gradcon data show data/fmnist --part test --most 100 --out sheets
  gradcon data verify data/fmnist";

/// Look at or check a prepared dataset
#[derive(clap::Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum DataCommand {
    /// Print what a prepared folder holds, and write a contact sheet (PNG) of each class
    Show(ShowArgs),
    /// Check every file of a prepared folder against its hash; exit code 4 if one differs
    Verify {
        /// The prepared folder
        dir: PathBuf,
    },
}

#[derive(clap::Args, Clone, Debug)]
struct ShowArgs {
    /// The prepared folder
    dir: PathBuf,

    /// Where to write the contact sheets [default: DIR/sheets]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Which images to show
    #[arg(long, value_enum, default_value_t = Part::Train)]
    part: Part,

    /// Images on one sheet at most, evenly spread over the class
    #[arg(
        long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    most: u16,

    /// Print the manifest itself (JSON) instead of tables, and write no sheets
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Val => "val",
            Part::Test => "test",
        }
    }
}

/// Runs the command: results on stdout, progress on stderr.
///
/// # Errors
/// The folder is no prepared dataset, is broken, or (verify) differs from its manifest.
pub fn run(args: DataArgs, ui: &Ui) -> Result<()> {
    match args.command {
        DataCommand::Show(args) => show(&args, ui),
        DataCommand::Verify { dir } => {
            ui.progress(&format!("Checking {}", dir.display()));
            let manifest = prepared::verify(&dir)?;
            let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
            print(&format!(
                "{}: {} files, {bytes} bytes, all as listed\n",
                dir.display(),
                manifest.files.len()
            ))
        }
    }
}

fn show(args: &ShowArgs, ui: &Ui) -> Result<()> {
    let prepared = Prepared::open(&args.dir)?;
    if args.json {
        return print(&prepared.manifest().to_json());
    }
    print(&prepared.manifest().summary())?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("sheets"));
    make_folder(&out)?;
    let part = args.part.name();
    let mut written = String::from("\n");
    for (label, class) in prepared.class_names().iter().enumerate() {
        let images = prepared.images_labelled(part, label as u8)?;
        if images.n == 0 {
            ui.progress(&format!("No {part} images of class {label} ({class})"));
            continue;
        }
        let path = sheet_path(&out, part, label, class);
        let shown = images.select(&spread(images.n, args.most.into()));
        output::write(&path, &sheet::png(&sheet::grid(&shown, 10, 2), 0)?)?;
        written.push_str(&format!("{}\n", path.display()));
    }
    print(&written)
}

/// At most `most` of `n` indices, evenly spread over all of them.
fn spread(n: usize, most: usize) -> Vec<usize> {
    let shown = n.min(most);
    (0..shown).map(|k| k * n / shown).collect()
}

fn sheet_path(dir: &Path, part: &str, label: usize, class: &str) -> PathBuf {
    let plain = class.replace(|c: char| !c.is_alphanumeric() && c != '-', "_");
    dir.join(format!("{part}_{label}_{plain}.png"))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn images_of_a_sheet_are_evenly_spread() {
        assert_eq!(spread(10, 5), [0, 2, 4, 6, 8]);
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert!(spread(0, 5).is_empty());
    }
}
