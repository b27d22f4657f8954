//! Which engine to use: what `--device` says, and what that means on this machine.

use std::fmt;
use std::str::FromStr;

use super::Engine;
use super::cpu::CpuEngine;
use super::gpu::{GpuEngine, OpenOptions, Selector, adapters};
use crate::{Error, Result};

/// A choice of device, as `auto`, `cpu`, `gpu`, `gpu:N` or part of an adapter's name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Device {
    /// The first hardware GPU; without one, the CPU engine. If WGPU_ADAPTER_NAME is set, the adapter of that name.
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
            "" => Err("an empty name; expected auto, cpu, gpu, gpu:N or part of an adapter's name".into()),
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "gpu" => Ok(Device::Gpu),
            lower => match lower.strip_prefix("gpu:") {
                Some(n) => n
                    .parse()
                    .map(Device::Index)
                    .map_err(|_| format!("'{n}' is no number; expected gpu:N with N from `gradcon devices`")),
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

impl Device {
    /// Opens the device. A software adapter is taken only if it is named, numbered or allowed: the CPU engine is much faster.
    ///
    /// Errors: [`Error::Device`] naming what was asked for and what this machine has.
    pub fn open(&self, allow_software: bool) -> Result<Box<dyn Engine>> {
        let gpu = |selector: &Selector| -> Result<Box<dyn Engine>> {
            Ok(Box::new(GpuEngine::open(selector, OpenOptions { allow_software, ..OpenOptions::default() })?))
        };
        match self {
            Device::Cpu => Ok(Box::new(CpuEngine::<f32>::new())),
            Device::Gpu => gpu(&Selector::Hardware),
            Device::Index(n) => gpu(&Selector::Index(*n)),
            Device::Name(name) => gpu(&Selector::Name(name.clone())),
            Device::Auto => {
                let named = std::env::var_os("WGPU_ADAPTER_NAME").is_some();
                let usable = adapters().iter().any(|a| (allow_software || !a.software) && a.lacks.is_none());
                if named || usable { gpu(&Selector::Hardware) } else { Ok(Box::new(CpuEngine::<f32>::new())) }
            }
        }
    }
}

/// [`Device::open`] for the text of a flag; a text that is no device is a usage error.
pub fn open(device: &str, allow_software: bool) -> Result<Box<dyn Engine>> {
    device.parse::<Device>().map_err(Error::Usage)?.open(allow_software)
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
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_names_it() {
        let error = open("no such adapter", false).err().unwrap();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("no such adapter"), "{error}");
        assert_eq!(open("gpu:x", false).err().unwrap().exit_code(), 2);
    }
}
