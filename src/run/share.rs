//! A run's folder that several processes share: each trains classes and seeds of its own, under
//! settings that all of them have. Who writes `config.toml` holds the run's lock for that moment; a
//! training holds the lock of its class.

use std::path::Path;
use std::time::Duration;

use super::checkpoint::{MARK, adopt, is_begun};
use super::config::RunConfig;
use crate::data::Prepared;
use crate::error::{Error, Result};
use crate::files::{Lock, is_vacant, make_folder, sweep};
use crate::folders;

/// How long others are waited for, who should need a moment only. An evaluation may take longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn lock(run: &Path) -> Result<Lock> {
    Lock::wait(run, "gradcon train", PATIENCE)
}

/// Whether [`join`] would find anything wrong; nothing is written.
///
/// # Errors
/// As [`join`].
pub fn can_join(run: &Path, config: &RunConfig, prepared: &Prepared) -> Result<()> {
    if folders::config(run).exists() {
        let there = RunConfig::read(run)?;
        joined(run, &there, config, prepared)?;
        return check_new(run, &there, config);
    }
    if is_vacant(run)? {
        return Ok(());
    }
    Err(Error::Usage(format!("{}: not empty, and no run; choose another folder", run.display())))
}

/// Makes `config`'s classes and seeds part of the run in this folder, which is new, empty, or a run
/// with the same settings.
///
/// # Errors
/// A folder that holds something else, a run with other settings (which, is said), or one that has
/// trained such a class already; the file system's.
pub fn join(run: &Path, config: &RunConfig, prepared: &Prepared) -> Result<()> {
    std::fs::create_dir_all(run).map_err(Error::io(run))?;
    let _lock = lock(run)?;
    can_join(run, config, prepared)?;
    sweep(run)?;
    if !folders::config(run).exists() {
        return config.write(run);
    }
    let there = RunConfig::read(run)?;
    settle(run, &there)?;
    let joined = joined(run, &there, config, prepared)?;
    settle(run, &joined)?;
    if joined == there { Ok(()) } else { joined.write(run) }
}

fn joined(
    run: &Path,
    there: &RunConfig,
    config: &RunConfig,
    prepared: &Prepared,
) -> Result<RunConfig> {
    there.joined(config, prepared).map_err(|e| e.in_file(run))
}

/// Errors if one of the classes was trained in this run before.
fn check_new(run: &Path, there: &RunConfig, config: &RunConfig) -> Result<()> {
    // Of an earlier version, which kept the only class of a run elsewhere.
    let alone = |folder: &Path| there.inliers.len() == 1 && is_begun(folder);
    for (folder, config) in config.runs(run) {
        for class in &config.inliers {
            let own = there.inliers.contains(class) && alone(&folder);
            if own || is_begun(&folders::training(&folder, class)) {
                return Err(Error::Usage(format!(
                    "{}: not empty: class {class} is in training there or was trained; continue it \
                     with --resume, or choose another folder",
                    folder.display()
                )));
            }
        }
    }
    Ok(())
}

/// Brings what an earlier version wrote where it is now, and keeps the short names of a run's only
/// class. The caller holds the run's lock.
fn settle(run: &Path, there: &RunConfig) -> Result<()> {
    match &there.inliers[..] {
        [class] if there.seeds.is_none() => {
            adopt(run, class)?;
            shorten(run, Some(class))
        }
        _ => shorten(run, None),
    }
}

/// What a run of one class has under short names, too.
const SHORT: [&str; 5] = ["best", "last", "previous", folders::METRICS, MARK];

/// Makes RUN/best and its like links to those of the only class; takes them away where there are
/// several. A store that has no links, or may not be changed, does without.
fn shorten(run: &Path, only: Option<&str>) -> Result<()> {
    for name in SHORT {
        let (link, training) = (run.join(name), only.map(|class| folders::training(run, class)));
        match training.as_deref().and_then(|folder| folder.strip_prefix(run).ok()) {
            Some(inside) if link.symlink_metadata().is_err() => {
                #[cfg(unix)]
                let _ = std::os::unix::fs::symlink(inside.join(name), &link);
                #[cfg(not(unix))]
                let _ = inside;
            }
            None if link.is_symlink() => std::fs::remove_file(&link).map_err(Error::io(&link))?,
            _ => {}
        }
    }
    Ok(())
}

/// The error, where it is about a file of a run's only class with that file's short name, too.
pub fn with_short_name(error: Error, run: &Path, class: &str) -> Error {
    let Error::Invalid(message) = error else { return error };
    let begins = format!("{}/", folders::training(run, class).display());
    let inside = message.split_once(&begins).map(|(_, rest)| rest);
    let inside = inside.and_then(|rest| rest.split([':', ' ']).next()).unwrap_or_default();
    let first = inside.split('/').next().unwrap_or_default();
    if SHORT.contains(&first) && run.join(first).is_symlink() {
        let short = run.join(inside);
        return Error::Invalid(format!("{message} (it is {} as well)", short.display()));
    }
    Error::Invalid(message)
}

/// Takes the lock of a run that is there, for `what`, and readies it for whoever trains or
/// evaluates.
///
/// # Errors
/// It is no run, or in use; the file system's.
pub fn open(run: &Path, what: &str) -> Result<Lock> {
    let there = RunConfig::read(run)?;
    let lock = Lock::wait(run, what, PATIENCE)?;
    sweep(run)?;
    settle(run, &there)?;
    Ok(lock)
}

/// The folder of one seed of a run, with its `config.toml`, new or as it is there.
///
/// # Errors
/// It has other settings than the run; the file system's.
pub fn open_seed(folder: &Path, config: &RunConfig, prepared: &Prepared) -> Result<()> {
    make_folder(folder)?;
    let _lock = lock(folder)?;
    if !folders::config(folder).exists() {
        return config.write(folder);
    }
    config.check_seed(folder)?;
    let there = RunConfig::read(folder)?;
    let RunConfig { inliers, .. } = config.clone();
    let joined = there.joined(&RunConfig { inliers, ..there.clone() }, prepared)?;
    if joined == there { Ok(()) } else { joined.write(folder) }
}

/// Writes settings that have changed in a run that goes on; its classes and seeds are those that
/// the file has.
///
/// # Errors
/// The file system's.
pub fn update(run: &Path, config: &RunConfig) -> Result<()> {
    let changed = || {
        let there = RunConfig::read(run)?;
        let RunConfig { inliers, seeds, .. } = there.clone();
        let new = RunConfig { inliers, seeds, ..config.clone() };
        Ok::<_, Error>((new != there).then_some(new))
    };
    if changed()?.is_none() {
        return Ok(());
    }
    let _lock = lock(run)?;
    changed()?.map_or(Ok(()), |config| config.write(run))
}
