//! Requests to stop: Ctrl-C, SIGTERM, SIGHUP (a terminal that closes) and SIGUSR1 (Slurm's warning
//! that time runs out).
//!
//! The first of them asks the work to save and stop; [`asked`] tells of it. Another Ctrl-C or
//! SIGTERM ends the process at once, with 130. SIGHUP and SIGUSR1 only ever ask: nobody sends them
//! out of impatience, and a closing terminal sends SIGHUP more than once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;

use crate::error::{Error, Result};
use crate::output::note;

/// Signals of which the second one ends the process, and those that only ever ask.
const ENDING: [i32; 2] = [SIGINT, SIGTERM];
#[cfg(unix)]
const ASKING: [i32; 2] = [SIGHUP, SIGUSR1];
#[cfg(not(unix))]
const ASKING: [i32; 0] = [];

/// A repetition within this time is the same request: `timeout`, job managers and wrappers signal a
/// process and then its whole group.
const SAME_REQUEST_MS: u64 = 200;

static START: OnceLock<Instant> = OnceLock::new();
/// When somebody asked first: milliseconds after `START`, plus one; 0 while nobody has.
static ASKED: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicBool = AtomicBool::new(false);

/// From here on the signals are requests that [`asked`] tells of. SIGHUP stays ignored where it is
/// (`nohup`).
pub fn catch() {
    if START.set(Instant::now()).is_err() {
        return; // the signals are caught already
    }
    let signals =
        ENDING.map(|signal| (signal, true)).into_iter().chain(ASKING.map(|signal| (signal, false)));
    for (signal, ends) in signals.filter(|(signal, _)| !stays_ignored(*signal)) {
        // Without a handler the signal simply ends the process, which is safe as well: files are
        // renamed into place. SAFETY: `on_signal` does only what a signal handler may: atomics, the
        // monotonic clock and `_exit`.
        let _ = unsafe { low_level::register(signal, move || on_signal(ends)) };
    }
}

/// Somebody asked to stop. The first call that finds it so says it on stderr.
pub fn asked() -> bool {
    let asked = ASKED.load(Ordering::SeqCst) != 0;
    if asked && !TOLD.swap(true, Ordering::SeqCst) {
        note("\ninterrupted: finishing and saving what is under way (Ctrl-C again ends at once)");
    }
    asked
}

/// An error once somebody asked to stop.
pub fn go_on() -> Result<()> {
    if asked() { Err(Error::Interrupted) } else { Ok(()) }
}

fn on_signal(ends: bool) {
    let Some(start) = START.get() else { return };
    let now = start.elapsed().as_millis() as u64 + 1;
    match ASKED.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
        Err(first) if ends && now.saturating_sub(first) > SAME_REQUEST_MS => low_level::exit(130),
        _ => {}
    }
}

/// The process was started so that a closing terminal doesn't concern it.
#[cfg(unix)]
fn stays_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only fills in the present one, which is read if it did.
    signal == SIGHUP
        && unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
}

#[cfg(not(unix))]
fn stays_ignored(_signal: i32) -> bool {
    false
}
