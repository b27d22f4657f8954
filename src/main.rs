//! The program `gradcon`: parses the command line, runs the command, prints an error once and exits with its code.

use std::process::ExitCode;

use clap::Parser;
use gradcon::cli::Cli;

fn main() -> ExitCode {
    // `gradcon program | head` should end like any other filter, not panic at the closed pipe.
    // SAFETY: restores what a process has by default; no other thread is running yet.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    // Mesa's device-selection layer looks for a desktop and complains on stderr where there is none; we choose adapters ourselves.
    #[cfg(target_os = "linux")]
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: no other thread is running yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gradcon: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
