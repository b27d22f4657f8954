//! How much memory there is, and saying so before it is missing: an allocation that fails aborts
//! the process, and one that the system can't back later gets it killed.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use crate::error::{Error, Result};

/// What lowers the need of a program, for those who don't know better.
pub(crate) const REMEDY: &str =
    "a smaller batch, fewer models at once, fewer images or fewer channels need less";

/// Bytes of memory that this process can have now: what the machine has left, or less where its
/// group (a container) or a shell's `ulimit -v` limits it. `None` where the system doesn't say.
pub fn available() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let mut bytes = system.available_memory();
    let process = sysinfo::get_current_pid().ok().and_then(|pid| {
        let what = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        system.process(pid)
    });
    if let Some(process) = process {
        if let Some(group) = process.cgroup_limits() {
            // Not the group's "free" memory: that counts cached files as used, which give way.
            bytes = bytes.min(group.total_memory.saturating_sub(group.rss));
        }
        if let Some(limit) =
            std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| address_space(&text))
        {
            bytes = bytes.min(limit.saturating_sub(process.virtual_memory()));
        }
    }
    Some(bytes).filter(|&bytes| bytes > 0)
}

/// The limit of a process's addresses in Linux's table of limits; `None` without one.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Errors if `bytes` (`None`: more than can be counted) are more memory than [`available`].
pub(crate) fn check(what: &str, bytes: Option<u64>) -> Result<()> {
    compare(what, bytes, available())
}

fn compare(what: &str, bytes: Option<u64>, available: Option<u64>) -> Result<()> {
    match (bytes, available) {
        (Some(bytes), Some(available)) if bytes > available => {
            Err(lack(what, Some(bytes), &format!("{} are available", text(available))))
        }
        (None, _) => Err(lack(what, None, "that is more than any machine has")),
        _ => Ok(()),
    }
}

/// The error of `what`, which needs `bytes`; `rest` says what there is.
pub(crate) fn lack(what: &str, bytes: Option<u64>, rest: &str) -> Error {
    let needed = bytes.map_or("more than 18 EB".to_string(), text);
    Error::TooLarge {
        problem: format!("{what}: {needed} of memory needed, {rest}"),
        remedy: REMEDY.into(),
    }
}

/// A size for people.
pub(crate) fn text(bytes: u64) -> String {
    let units =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_says_how_much_is_needed_and_how_much_there_is() {
        let error =
            compare("program 'train'", Some(61_440_000_000), Some(20_000_000_000)).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let message = error.to_string();
        assert!(
            message
                .starts_with("program 'train': 61.4 GB of memory needed, 20.0 GB are available; "),
            "{message}"
        );
        let message = error.with_remedy("--batch lowers it").to_string();
        assert!(message.ends_with("available; --batch lowers it"), "{message}");
        assert!(
            compare("x", Some(5), Some(5)).is_ok() && compare("x", Some(u64::MAX), None).is_ok()
        );
        assert!(compare("x", None, None).is_err(), "a size beyond 64 bits never fits");
    }

    #[test]
    fn the_limit_of_addresses_is_read() {
        let limits = |soft: &str| {
            format!(
                "Limit   Soft Limit  Hard Limit  Units\nMax address space         {soft}   \
                 unlimited   bytes\nMax file locks 1 1\n"
            )
        };
        assert_eq!(address_space(&limits("3072000000")), Some(3_072_000_000));
        assert_eq!((address_space(&limits("unlimited")), address_space("")), (None, None));
    }

    #[test]
    fn this_machine_has_some_memory() {
        let bytes = available().expect("the system says how much memory there is");
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
