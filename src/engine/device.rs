//! Which engine to use: what `--device` says, and what that means on this machine.

use std::fmt;
use std::str::FromStr;

use super::Engine;
use super::cpu;
use super::gpu::{GpuEngine, Machine, OpenOptions, Selector};
use super::tuned::PlanSource;
use crate::error::{Error, Result};

/// A choice of device, as `auto`, `cpu`, `gpu`, `gpu:N` or part of an adapter's name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Device {
    /// The first hardware GPU; without one, the CPU engine. If WGPU_ADAPTER_NAME is set, the
    /// adapter of that name.
    #[default]
    Auto,
    /// The CPU engine.
    Cpu,
    /// The first hardware GPU, discrete before integrated; an error without one.
    Gpu,
    /// Adapter number N of `gradcon devices`.
    Index(usize),
    /// The first adapter whose name contains this text.
    Name(String),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.to_lowercase().as_str() {
            "" => {
                Err("an empty name; expected auto, cpu, gpu, gpu:N or part of an adapter's name"
                    .into())
            }
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "gpu" => Ok(Device::Gpu),
            lower => match lower.strip_prefix("gpu:") {
                Some(n) => n.parse().map(Device::Index).map_err(|_| {
                    format!("'{n}' is no number; expected gpu:N with N from `gradcon devices`")
                }),
                // Nearly every adapter has some digit in its name.
                None if lower.parse::<u8>().is_ok_and(|n| n < 100) => Err(format!(
                    "'{text}' is no device; expected gpu:{lower} for the adapter of that number"
                )),
                None => Ok(Device::Name(text.into())),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu => f.write_str("gpu"),
            Device::Index(n) => write!(f, "gpu:{n}"),
            Device::Name(name) => f.write_str(name),
        }
    }
}

/// Which engine a [`Device`] stands for on a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// The CPU engine.
    Cpu,
    /// The adapter of this number.
    Gpu(usize),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Cpu => f.write_str("the CPU engine"),
            Choice::Gpu(n) => write!(f, "gpu:{n}"),
        }
    }
}

impl Device {
    /// What this device is on a machine, and what a user should know of the choice. Everything that
    /// opens or lists devices asks here.
    ///
    /// A software adapter is chosen only if it is named, numbered or allowed: the CPU engine is
    /// much faster.
    ///
    /// # Errors
    /// [`Error::Device`] naming what was asked for (also by the environment) and what this machine
    /// has.
    pub fn choose(&self, machine: &Machine, allow_software: bool) -> Result<(Choice, Vec<String>)> {
        let gpu = |selector: &Selector| {
            Ok((Choice::Gpu(machine.choose(selector, allow_software)?), machine.notes()))
        };
        match self {
            Device::Cpu => Ok((Choice::Cpu, vec![])),
            Device::Gpu => gpu(&Selector::Hardware),
            Device::Index(n) => gpu(&Selector::Index(*n)),
            Device::Name(name) => gpu(&Selector::Name(name.clone())),
            // Who names an adapter in the environment wants no other device.
            Device::Auto if machine.environment.adapter_name().is_some() => {
                gpu(&Selector::Hardware)
            }
            Device::Auto => {
                machine.check()?;
                let (usable, passed) = machine.usable(allow_software);
                let mut notes = machine.notes();
                notes.extend(passed);
                match usable {
                    Some(index) => Ok((Choice::Gpu(index), notes)),
                    None => {
                        notes.extend(machine.hints.iter().cloned());
                        Ok((Choice::Cpu, notes))
                    }
                }
            }
        }
    }

    /// Opens the device; `note` hears what a user should know of the choice.
    ///
    /// # Errors
    /// As [`Device::choose`], or a device that can't be opened; a plan that was named and doesn't
    /// fit.
    pub fn open(&self, options: OpenOptions, note: impl FnMut(Note)) -> Result<Box<dyn Engine>> {
        Ok(match self.open_gpu(options, note)? {
            Some(gpu) => Box::new(gpu),
            None => cpu::f32(),
        })
    }

    /// Opens the device if it is a GPU: there is none if it is the CPU engine.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_gpu(
        &self,
        options: OpenOptions,
        mut note: impl FnMut(Note),
    ) -> Result<Option<GpuEngine>> {
        // Looking for adapters takes a while.
        let machine = (*self != Device::Cpu).then(Machine::look);
        if let Some(machine) = machine {
            let (choice, notes) = self.choose(&machine, options.allow_software)?;
            notes.iter().for_each(|text| note(Note::Choice(text)));
            if let Choice::Gpu(index) = choice {
                let gpu = GpuEngine::open_adapter(&machine, index, options)?;
                gpu.warning().into_iter().for_each(|text| note(Note::Warning(text)));
                return Ok(Some(gpu));
            }
        }
        match options.plan {
            PlanSource::File(path) => Err(Error::Usage(format!(
                "--plan {}: the CPU engine has one variant of each kernel and no plan, expected a \
                 GPU (--device gpu, gpu:N or part of an adapter's name)",
                path.display()
            ))),
            _ => Ok(None),
        }
    }
}

/// What a user should know of a device that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note<'a> {
    /// Of its choice.
    Choice(&'a str),
    /// What nobody should miss.
    Warning(&'a str),
}

/// [`Device::open`] for the text of a flag.
///
/// # Errors
/// As [`Device::open`], and [`Error::Usage`] for a text that is no device.
pub fn open(device: &str, allow_software: bool) -> Result<Box<dyn Engine>> {
    open_noting(device, OpenOptions { allow_software, ..OpenOptions::default() }, |_| {})
}

/// The same, and `note` hears what a user should know of the choice.
///
/// # Errors
/// As [`open`].
pub fn open_noting(
    device: &str,
    options: OpenOptions,
    note: impl FnMut(Note),
) -> Result<Box<dyn Engine>> {
    device.parse::<Device>().map_err(Error::Usage)?.open(options, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_devices_correspond() {
        for text in ["auto", "cpu", "gpu", "gpu:3", "GeForce RTX"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("CPU".parse(), Ok(Device::Cpu));
        assert!("gpu:x".parse::<Device>().is_err() && "".parse::<Device>().is_err());
        assert!("0".parse::<Device>().unwrap_err().contains("gpu:0"));
        assert_eq!("3080".parse(), Ok(Device::Name("3080".into())));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_names_it() {
        let error = open("no such adapter", false).err().unwrap();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("no such adapter"), "{error}");
        assert_eq!(open("gpu:x", false).err().unwrap().exit_code(), 2);
    }
}
