//! What people see while work is under way: on stderr, so that stdout carries results only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::note;

/// Progress and notes.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    quiet: bool,
    verbose: bool,
}

impl Ui {
    /// `quiet`: nothing at all; `verbose`: details as well.
    pub fn new(quiet: bool, verbose: bool) -> Ui {
        Ui { quiet, verbose }
    }

    /// A line about what is going on.
    pub fn progress(&self, message: &str) {
        if !self.quiet {
            note(message);
        }
    }

    /// A line that nobody should miss: also shown to those who asked for quiet.
    pub fn warn(&self, message: &str) {
        note(&format!("gradcon: warning: {message}"));
    }

    /// A line for those who asked for details.
    pub fn detail(&self, message: &str) {
        if self.verbose {
            note(message);
        }
    }

    /// Nothing but results is wanted.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// A bar is of use: a person is watching.
    pub fn is_terminal(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// A progress bar of `len` steps; invisible where nobody watches a terminal.
    pub fn bar(&self, len: u64) -> ProgressBar {
        let target = if self.is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        let style =
            ProgressStyle::with_template("{msg} [{bar:32}] {pos}/{len}  {rate}/s  {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        bar.with_style(style.with_key(
            "rate",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A bar that can't be drawn is no reason to stop.
                let _ = write!(out, "{:.0}", state.per_sec());
            },
        ))
    }
}
