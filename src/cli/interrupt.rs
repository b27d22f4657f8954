//! Ctrl-C: the first asks the work to save and stop, the second ends the process.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
static INSTALLED: Once = Once::new();

/// From here on, Ctrl-C (and SIGTERM) is a request that [`asked`] tells of.
pub fn catch() {
    INSTALLED.call_once(|| {
        // Without a handler Ctrl-C simply ends the process, which is safe as well: files are renamed into place.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\ninterrupted: finishing the step and saving (Ctrl-C again ends at once)");
        });
    });
}

/// Somebody pressed Ctrl-C.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
