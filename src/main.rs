//! The program `gradcon`: parses the command line, runs the command, prints an error once and exits with its code.

use std::process::ExitCode;

use clap::Parser;
use gradcon::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gradcon: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
