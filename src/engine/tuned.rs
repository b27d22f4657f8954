//! Tuned plans: files that say which variant of a kernel is the fastest on a device. Whoever
//! measured (`gradcon tune`) writes them, and an engine reads one when it opens its device.
//!
//! A plan holds for one device, driver and set of kernels, which it names; for another one it is not
//! used. It changes no number, since all variants of a kernel give the same bits.
//!
//! One entry that no plan of these kernels can have, and the whole file is not used: nobody measured
//! what it says.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{make_private, write_atomically};
use crate::folders;
use crate::kernels::tiles::TILES;
use crate::kernels::{DIRECT, REFERENCE, THIN, VARIANTS, entries, fingerprint};
use crate::limits::{self, shown};
use crate::program::Program;
use crate::program::choices::{Choice, Choices};

/// What a file says that it is.
const FORMAT: &str = "gradcon tuned plan";

/// The version of the format; a change that old readers misread is a new one.
pub const SCHEMA: u32 = 2;

/// Which plan an engine uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PlanSource {
    /// None: every kernel in the variant that suits the kind of device.
    #[default]
    Default,
    /// That of the user's cache folder, if there is one and it fits.
    Cache,
    /// This file; it is an error if it doesn't fit.
    File(PathBuf),
}

/// What a plan holds for. With any of it changed, other variants may be faster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The adapter's name.
    pub adapter: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// The version of wgpu, which translates the shaders.
    pub wgpu: String,
    /// [`fingerprint`] of the kernels.
    pub kernels: String,
    /// SHA-256 of the rule that chooses where no plan does: a choice is one against that default.
    pub default_rule: String,
}

impl Key {
    /// Of an adapter, its backend and driver, and this program.
    pub fn of([adapter, backend, driver]: [&str; 3]) -> Key {
        Key {
            adapter: adapter.into(),
            backend: backend.into(),
            driver: driver.into(),
            wgpu: wgpu_version().to_string(),
            kernels: fingerprint(),
            default_rule: default_rule(),
        }
    }

    /// Errors with what the file says and what it should, if it is for something else.
    fn check(&self, here: &Key) -> Result<()> {
        let parts = |key: &Key| {
            let Key { adapter, backend, driver, wgpu, kernels, default_rule } = key.clone();
            [
                ("adapter", adapter),
                ("backend", backend),
                ("driver", driver),
                ("wgpu", wgpu),
                ("kernels", kernels),
                ("default rule", default_rule),
            ]
        };
        match parts(self).iter().zip(parts(here)).find(|(found, wanted)| *found != wanted) {
            None => Ok(()),
            Some(((what, found), (_, wanted))) => Err(Error::invalid(format!(
                "a plan for {what} '{}', expected '{wanted}'",
                shown(found)
            ))),
        }
    }

    /// Where the plan of this device is kept: one file for an adapter and backend, whatever driver
    /// and kernels it is for.
    ///
    /// # Errors
    /// The environment names no folder.
    pub fn path(&self) -> Result<PathBuf> {
        let folder = folders::cache(|name| std::env::var_os(name)).ok_or_else(|| {
            let wanted = match cfg!(windows) {
                true => "LOCALAPPDATA",
                false => "XDG_CACHE_HOME or HOME",
            };
            Error::invalid(format!("no folder for a tuned plan: expected {wanted} to be set"))
        })?;
        Ok(folder.join(self.file_name()))
    }

    /// Whether this device has no plan and nobody was told so yet: true once for each device. Where
    /// that can't be remembered, it is never true.
    pub fn is_first_without_plan(&self) -> bool {
        self.path().is_ok_and(|plan| is_first_without(&plan))
    }

    fn file_name(&self) -> String {
        let name = format!("{} {}", self.adapter, self.backend).to_lowercase();
        let words =
            name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut readable = words.collect::<Vec<_>>().join("-");
        readable.truncate(60);
        let hash = Sha256::digest(&name);
        format!("plan-{readable}-{:02x}{:02x}.json", hash[0], hash[1])
    }
}

/// Whether a plan is not there, asked for the first time: a file beside it remembers.
fn is_first_without(plan: &Path) -> bool {
    let folder = crate::files::parent(plan);
    let name = plan.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let remember = || {
        make_private(folder)?;
        OpenOptions::new().write(true).create_new(true).open(folder.join(format!("told-{name}")))
    };
    !plan.exists() && remember().is_ok()
}

/// SHA-256 of the rule that chooses where no plan does, as hexadecimal digits.
fn default_rule() -> String {
    let hash = Sha256::digest(include_str!("../program/predict.rs"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The version of wgpu in this crate's Cargo.lock, which its package has, too; wgpu itself doesn't
/// say. (`cargo install` without `--locked` may take a newer one of the same API.)
pub(crate) fn wgpu_version() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"wgpu\"");
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown")
}

/// Every variant that a kernel of this name has for some sizes; `None` if there is no such kernel.
fn variants(kernel: &str) -> Option<Vec<&'static str>> {
    entries().find(|entry| entry.name == kernel)?;
    let mut names = vec![REFERENCE];
    if VARIANTS.iter().flat_map(|shader| shader.entries).any(|entry| entry.name == kernel) {
        names.extend([DIRECT, THIN]);
        names.extend(TILES.iter().map(|tile| tile.name));
    }
    Some(names)
}

/// A tuned plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedPlan {
    format: String,
    schema: u32,
    /// Version of the program that measured.
    pub version: String,
    /// When, in UTC.
    pub date: String,
    /// What it holds for.
    pub device: Key,
    /// What was chosen.
    pub choices: Choices,
    /// What the choices follow from, of whoever measured.
    pub measured: serde_json::Value,
}

impl TunedPlan {
    /// A plan, made now.
    pub fn new(device: Key, choices: Choices, measured: serde_json::Value) -> TunedPlan {
        TunedPlan {
            format: FORMAT.to_string(),
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_string(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            device,
            choices,
            measured,
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// None in practice: it is written to memory.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::invalid(format!("cannot write JSON: {e}")))?;
        text.push(b'\n');
        Ok(text)
    }

    /// What a file of [`TunedPlan::to_json`] has; `path` stands for it in errors.
    ///
    /// # Errors
    /// It is no such file, or one of another version.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<TunedPlan> {
        let wanted = format!("a plan of `gradcon tune`, schema {SCHEMA}");
        let invalid =
            |what: String| Error::invalid(format!("{}: {what}, expected {wanted}", path.display()));
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("no JSON ({e})")))?;
        for (field, right) in [("format", FORMAT.into()), ("schema", SCHEMA.into())] {
            let right: serde_json::Value = right;
            match value.get(field) {
                Some(found) if *found == right => {}
                Some(found) => return Err(invalid(format!("{field} {}", shown(found)))),
                None => return Err(invalid(format!("no \"{field}\""))),
            }
        }
        serde_json::from_value(value).map_err(|e| invalid(shown(e).to_string()))
    }

    /// Reads a file, which has to be for this device and these kernels.
    ///
    /// # Errors
    /// It can't be read, is damaged, or is for something else; what was found and expected.
    pub fn read(path: &Path, here: &Key) -> Result<TunedPlan> {
        let plan = TunedPlan::parse(&limits::read(path, limits::TUNED, "a tuned plan")?, path)?;
        plan.device.check(here).and_then(|()| plan.check_names()).map_err(|e| e.in_file(path))?;
        Ok(plan)
    }

    /// Errors with the first choice of a kernel or a variant that there isn't, whichever programs
    /// have such a call.
    fn check_names(&self) -> Result<()> {
        for Choice { kernel, sizes, variant, .. } in &self.choices.0 {
            let (wrong, known) = match variants(kernel) {
                Some(known) if known.contains(&&variant[..]) => continue,
                Some(known) => (format!("variant '{}' of {kernel}", shown(variant)), known),
                None => (
                    format!("a choice for kernel '{}'", shown(kernel)),
                    entries().map(|entry| entry.name).collect(),
                ),
            };
            let (sizes, known) = (shown(sizes), known.join(", "));
            return Err(Error::invalid(format!("{wrong} {sizes}, expected one of {known}")));
        }
        Ok(())
    }

    /// The plan of the user's cache folder, if there is one.
    ///
    /// # Errors
    /// As [`Key::path`] and [`TunedPlan::read`].
    pub fn cached(here: &Key) -> Result<Option<TunedPlan>> {
        let path = here.path()?;
        if path.exists() { TunedPlan::read(&path, here).map(Some) } else { Ok(None) }
    }

    /// Writes it to the user's cache folder, whole or not at all.
    ///
    /// # Errors
    /// As [`Key::path`]; the file system's.
    pub fn keep(&self) -> Result<PathBuf> {
        let path = self.device.path()?;
        let folder = crate::files::parent(&path);
        make_private(folder).map_err(Error::io(folder))?;
        write_atomically(&path, &self.to_json()?)?;
        Ok(path)
    }

    /// The day of [`TunedPlan::date`].
    pub fn day(&self) -> &str {
        self.date.split('T').next().unwrap_or_default()
    }
}

/// The plan that an engine uses.
#[derive(Debug)]
pub(super) struct InUse {
    /// In words.
    pub text: String,
    pub choices: Choices,
    /// The file, if the user named it.
    named: Option<PathBuf>,
}

impl InUse {
    /// Choices that are in no file.
    pub fn choices(choices: Choices) -> InUse {
        InUse { text: "choices of this process".to_string(), choices, named: None }
    }

    /// The plan that `source` means on a device, or why that of the cache is not used.
    ///
    /// # Errors
    /// A named file that doesn't fit, as [`Error::Usage`].
    pub fn find(source: &PlanSource, here: &Key) -> Result<(Option<InUse>, Option<String>)> {
        match source {
            PlanSource::Default => Ok((None, None)),
            PlanSource::File(path) => {
                let plan =
                    TunedPlan::read(path, here).map_err(|e| Error::Usage(format!("--plan {e}")))?;
                let text = format!("plan {} of {}", path.display(), plan.day());
                Ok((Some(InUse { text, choices: plan.choices, named: Some(path.clone()) }), None))
            }
            // Without a folder there is no plan.
            PlanSource::Cache if here.path().is_err() => Ok((None, None)),
            PlanSource::Cache => match TunedPlan::cached(here) {
                Ok(plan) => {
                    // An empty one says that the default is the fastest.
                    let plan = plan.filter(|plan| !plan.choices.0.is_empty());
                    let text = |plan: &TunedPlan| format!("tuned plan of {}", plan.day());
                    let plan = plan.map(|plan| InUse {
                        text: text(&plan),
                        choices: plan.choices,
                        named: None,
                    });
                    Ok((plan, None))
                }
                Err(e) => Ok((
                    None,
                    Some(format!("{e}; the plan is ignored (`gradcon tune` makes a new one)")),
                )),
            },
        }
    }

    /// Errors if a file that the user named has a variant for a call of the program that its kernel
    /// doesn't have.
    pub fn check(&self, program: &Program) -> Result<()> {
        let Some(path) = &self.named else { return Ok(()) };
        for call in &program.calls {
            let Some(choice) = self.choices.find(&call.kernel, program.replicas) else { continue };
            let Choice { kernel, sizes, variant, .. } = choice;
            let variants = call.kernel.family().variants();
            let names: Vec<&str> = variants.iter().map(|launch| launch.variant).collect();
            if !names.contains(&&variant[..]) {
                return Err(Error::Usage(format!(
                    "--plan {}: variant '{}' of {} {}, expected one of {}",
                    path.display(),
                    shown(variant),
                    shown(kernel),
                    shown(sizes),
                    names.join(", ")
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            adapter: "GeForce RTX".to_string(),
            backend: "Vulkan".to_string(),
            driver: "NVIDIA 1".to_string(),
            wgpu: wgpu_version().to_string(),
            kernels: fingerprint(),
            default_rule: default_rule(),
        }
    }

    fn plan() -> TunedPlan {
        let choice = Choice {
            kernel: "conv_y".to_string(),
            sizes: "5x5".to_string(),
            id: "0123456789abcdef".to_string(),
            replicas: 2,
            variant: "tile-4x4".to_string(),
        };
        TunedPlan::new(key(), Choices(vec![choice]), serde_json::json!({"us": [0.1]}))
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        std::fs::write(&path, plan().to_json().unwrap()).unwrap();
        assert_eq!(TunedPlan::read(&path, &key()).unwrap(), plan());
        assert!(wgpu_version().starts_with(|c: char| c.is_ascii_digit()), "{}", wgpu_version());
        let source = PlanSource::File(path);
        let (used, warning) = InUse::find(&source, &key()).unwrap();
        assert!(used.is_some_and(|used| used.text.contains("plan.json of 2")) && warning.is_none());
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let good = String::from_utf8(plan().to_json().unwrap()).unwrap();
        for (from, to, says) in [
            ("\"gradcon tuned plan\"", "\"other\"", "format \"other\", expected a plan of"),
            ("\"schema\": 2", "\"schema\": 1", "schema 1, expected a plan of `gradcon tune`"),
            ("\"schema\"", "\"scheme\"", "no \"schema\""),
            ("{", "", "no JSON"),
            ("\"variant\"", "\"form\"", "form"),
            ("RTX", "GTX", "adapter 'GeForce GTX', expected 'GeForce RTX'"),
            ("NVIDIA 1", "NVIDIA 2", "driver 'NVIDIA 2', expected 'NVIDIA 1'"),
            ("\"wgpu\": \"", "\"wgpu\": \"9", "a plan for wgpu '9"),
            ("\"kernels\": \"", "\"kernels\": \"0", "a plan for kernels '0"),
            ("\"default_rule\": \"", "\"default_rule\": \"0", "a plan for default rule '0"),
            (
                "tile-4x4",
                "tile-5x5",
                "variant 'tile-5x5' of conv_y 5x5, expected one of reference, ",
            ),
            ("conv_y", "adam", "variant 'tile-4x4' of adam 5x5, expected one of reference"),
            ("conv_y", "conv_z", "a choice for kernel 'conv_z' 5x5, expected one of "),
        ] {
            assert!(good.contains(from), "{from}");
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let error = InUse::find(&PlanSource::File(path.clone()), &key()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            let error = error.to_string();
            assert!(error.contains(says) && error.contains("plan.json"), "{says}: {error}");
        }
    }

    #[test]
    fn a_device_without_a_plan_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("cache/plan-a.json");
        assert!(is_first_without(&plan) && !is_first_without(&plan));
        let (other, there) =
            (plan.with_file_name("plan-b.json"), folder.path().join("plan-c.json"));
        assert!(is_first_without(&other), "another device");
        std::fs::write(&there, "").unwrap();
        assert!(!is_first_without(&there), "there is a plan");
        // A file where the folder should be: nothing can be remembered.
        assert!(!is_first_without(&there.join("plan-d.json")));
    }

    #[test]
    fn a_device_has_one_file_whatever_its_driver() {
        let (here, driver) = (key(), Key { driver: "2".to_string(), ..key() });
        assert_eq!(here.file_name(), driver.file_name());
        let odd = Key { adapter: "../\u{e9}\0".repeat(100), ..key() };
        for key in [&here, &odd] {
            let name = key.file_name();
            assert!(name.starts_with("plan-") && name.ends_with(".json"), "{name}");
            assert!(name.len() < 90 && !name.contains(['/', '\0']) && name.is_ascii(), "{name}");
        }
        assert_ne!(here.file_name(), Key { backend: "Metal".to_string(), ..key() }.file_name());
    }
}
