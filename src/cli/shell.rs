//! `gradcon completions` and `gradcon man`

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Ui};
use crate::error::{Error, Result};
use crate::output;

/// Print the completions of a shell.
///
/// Example: `gradcon completions bash > ~/.local/share/bash-completion/completions/gradcon`
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Write manual pages, one for each command, into a folder.
///
/// Example: `gradcon man ~/.local/share/man/man1 && man gradcon-train`
#[derive(clap::Args)]
pub struct ManArgs {
    /// The folder; made if it isn't there.
    folder: PathBuf,
}

pub fn completions(args: CompletionsArgs) -> Result<()> {
    // The generator panics where it can't write.
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "gradcon", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub fn man(args: ManArgs, ui: &Ui) -> Result<()> {
    output::make_folder(&args.folder)?;
    let mut command = Cli::command();
    command.build();
    let pages = std::iter::once(command.clone()).chain(
        command.get_subcommands().filter(|c| c.get_name() != "help").map(|c| {
            // The page of `gradcon train` is gradcon-train.
            let name: &'static str = format!("gradcon-{}", c.get_name()).leak();
            c.clone().name(name)
        }),
    );
    for page in pages {
        let path = args.folder.join(format!("{}.1", page.get_name()));
        let mut text = vec![];
        clap_mangen::Man::new(page).render(&mut text).map_err(Error::io(&path))?;
        output::write(&path, &text)?;
    }
    ui.progress(&format!("wrote manual pages to {}", args.folder.display()));
    Ok(())
}
