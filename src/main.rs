//! The program `gradcon`: parses the command line, runs the command, prints an error once and exits
//! with its code.

// They panic where nothing can be written; see `gradcon::output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use gradcon::cli::Cli;
use gradcon::data::picture;
use gradcon::{Error, output};

fn main() -> ExitCode {
    // Mesa's device-selection layer looks for a desktop and complains on stderr where there is
    // none; we choose adapters ourselves.
    #[cfg(target_os = "linux")]
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: no other thread is running yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !picture::is_decoding() {
            tell(panic);
        }
    }));
    let (done, code) = match Cli::try_parse() {
        Ok(cli) => (cli.run(), 0),
        // Help and version are results, a mistake in the flags is not.
        Err(said) if said.use_stderr() => {
            let _ = said.print();
            (Ok(()), said.exit_code() as u8)
        }
        Err(said) => (said.print().map_err(Error::io("standard output")), 0),
    };
    match done {
        Ok(()) => ExitCode::from(code),
        Err(error) if output::reader_is_gone(&error) => end_as_a_filter(),
        Err(error) => {
            output::note(&format!("gradcon: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Ends as `gradcon program | head` should: quietly, and by the signal that any other filter ends
/// by. Until here the signal is ignored, as Rust has it, so that a closed stderr never stops a
/// training.
fn end_as_a_filter() -> ExitCode {
    // SAFETY: restores what a process has by default and ends it.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
    }
    ExitCode::FAILURE
}
