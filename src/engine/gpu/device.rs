//! Which adapter to take, and opening it so that its failures become errors instead of panics.

use std::sync::{Arc, Mutex};

use wgpu::{Backends, DeviceType, Features};

use super::launch::IMMEDIATE_BYTES;
use crate::program::kernel::KERNELS;
use crate::{Error, Result};

/// What to say where there is no adapter at all.
const INSTALL: &str = "On Debian or Ubuntu the package mesa-vulkan-drivers brings Vulkan for AMD, Intel and Apple GPUs and a software adapter; \
                       NVIDIA's Vulkan driver comes with the packages nvidia-driver and libvulkan1.";

/// Which adapter is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Selector {
    /// The first hardware GPU, discrete before integrated. The environment variable WGPU_ADAPTER_NAME, if set, names it instead.
    #[default]
    Hardware,
    /// The adapter with this [`AdapterSummary::index`]; a software adapter counts as asked for.
    Index(usize),
    /// The first adapter, hardware first, whose name contains this text, ignoring case; a software adapter counts as asked for.
    Name(String),
}

/// How to open an adapter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Let [`Selector::Hardware`] take a software adapter if there is no hardware.
    pub allow_software: bool,
    /// Have wgpu guard every buffer access, loop and division in the shaders. Off by default: the kernels guard every access themselves, the
    /// tests run them both ways, and the guards cost a good part of a tight loop.
    pub shader_checks: bool,
}

/// What is known of an adapter without opening it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdapterSummary {
    /// Position in the list, as in `gpu:N`.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// discrete GPU, integrated GPU, virtual GPU, software or other.
    pub device_type: &'static str,
    /// Runs on the CPU.
    pub software: bool,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Largest part of a buffer that a kernel can see, in bytes.
    pub max_binding: u64,
    /// Memory of a workgroup in bytes.
    pub workgroup_memory: u32,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
    /// Kernels can be timed on the device itself.
    pub timestamps: bool,
    /// What the kernels need and the adapter lacks, if anything.
    pub lacks: Option<String>,
}

impl AdapterSummary {
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let bindings = KERNELS.iter().map(|row| row.bindings.len()).max().unwrap_or(0) as u32;
        let lacks = if !features.contains(Features::IMMEDIATES) || limits.max_immediate_size < IMMEDIATE_BYTES {
            Some(format!("{IMMEDIATE_BYTES} bytes of immediate data (has {})", limits.max_immediate_size))
        } else if limits.max_storage_buffers_per_shader_stage < bindings {
            Some(format!("{bindings} storage buffers a kernel (has {})", limits.max_storage_buffers_per_shader_stage))
        } else {
            None
        };
        AdapterSummary {
            index,
            name: info.name,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            device_type: match info.device_type {
                DeviceType::DiscreteGpu => "discrete GPU",
                DeviceType::IntegratedGpu => "integrated GPU",
                DeviceType::VirtualGpu => "virtual GPU",
                DeviceType::Cpu => "software",
                DeviceType::Other => "other",
            },
            software: info.device_type == DeviceType::Cpu,
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            lacks,
        }
    }

    /// Smaller is better.
    fn rank(&self) -> usize {
        ["discrete GPU", "integrated GPU", "virtual GPU", "other", "software"]
            .iter()
            .position(|&t| t == self.device_type)
            .unwrap_or(usize::MAX)
    }
}

impl std::fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}, {})", self.name, self.device_type, self.backend, self.driver)
    }
}

fn list() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let backends = Backends::from_env().unwrap_or(Backends::all());
    descriptor.backends = backends;
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
}

/// All adapters of this machine; WGPU_BACKEND (vulkan, metal, dx12) restricts them.
pub fn adapters() -> Vec<AdapterSummary> {
    list().iter().enumerate().map(|(i, adapter)| AdapterSummary::new(i, adapter)).collect()
}

/// The index of the adapter that is meant. `named` is what WGPU_ADAPTER_NAME says.
fn choose(
    adapters: &[AdapterSummary],
    selector: &Selector,
    allow_software: bool,
    named: Option<&str>,
) -> Result<usize> {
    let known = || match adapters {
        [] => format!("this machine has no Vulkan, Metal or DX12 adapter. {INSTALL}"),
        all => {
            format!("adapters here: {}", all.iter().map(|a| format!("{}: {a}", a.index)).collect::<Vec<_>>().join("; "))
        }
    };
    let best = |fits: &dyn Fn(&AdapterSummary) -> bool| {
        adapters.iter().filter(|a| fits(a)).min_by_key(|a| (a.rank(), a.index)).map(|a| a.index)
    };
    let by_name = |name: &str| best(&|a| a.name.to_lowercase().contains(&name.to_lowercase()));
    let (found, asked) = match (selector, named) {
        (Selector::Index(i), _) => (adapters.get(*i).map(|a| a.index), format!("GPU number {i}")),
        (Selector::Name(name), _) => (by_name(name), format!("a GPU named '{name}'")),
        (Selector::Hardware, Some(name)) => (by_name(name), format!("a GPU named '{name}' (from WGPU_ADAPTER_NAME)")),
        (Selector::Hardware, None) if allow_software => (best(&|_| true), "a GPU".to_string()),
        (Selector::Hardware, None) => (best(&|a| !a.software), "a hardware GPU".to_string()),
    };
    let index = found.ok_or_else(|| Error::Device(format!("{asked} was asked for and not found; {}", known())))?;
    match &adapters[index].lacks {
        Some(lacks) => Err(Error::Device(format!("{} can't run the kernels: they need {lacks}", adapters[index]))),
        None => Ok(index),
    }
}

/// The first thing that went wrong on a device outside of a call that could report it.
#[derive(Default)]
pub(super) struct Faults(Mutex<Option<String>>);

impl Faults {
    fn raise(&self, message: String) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(message);
    }

    /// Errors if anything has gone wrong since the device was opened.
    pub fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(message) => Err(Error::Device(message.clone())),
            None => Ok(()),
        }
    }
}

/// An opened adapter.
pub(super) struct Opened {
    pub summary: AdapterSummary,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub faults: Arc<Faults>,
}

/// Finds and opens an adapter with all of its limits.
pub(super) fn open(selector: &Selector, options: OpenOptions) -> Result<Opened> {
    let adapters = list();
    let mut summaries: Vec<_> =
        adapters.iter().enumerate().map(|(i, adapter)| AdapterSummary::new(i, adapter)).collect();
    let named = std::env::var("WGPU_ADAPTER_NAME").ok().filter(|name| !name.is_empty());
    let index = choose(&summaries, selector, options.allow_software, named.as_deref())?;
    let (adapter, summary) = (&adapters[index], summaries.swap_remove(index));
    let timestamps = if summary.timestamps { Features::TIMESTAMP_QUERY } else { Features::empty() };
    let mut required_limits = adapter.limits();
    // DX12 allocates descriptors for this many bindings up front, and a training step has some hundred.
    required_limits.max_non_sampler_bindings = required_limits.max_non_sampler_bindings.min(100_000);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("gradcon"),
        required_features: Features::IMMEDIATES | timestamps,
        required_limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|e| Error::Device(format!("{summary} could not be opened: {e}")))?;
    let faults = Arc::new(Faults::default());
    let (on_error, on_loss) = (faults.clone(), faults.clone());
    let (at_error, at_loss) = (summary.to_string(), summary.to_string());
    device.on_uncaptured_error(Arc::new(move |e| on_error.raise(format!("{at_error} failed: {e}"))));
    device.set_device_lost_callback(move |_, why| on_loss.raise(format!("{at_loss} was lost: {why}")));
    Ok(Opened { summary, device, queue, faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, device_type: &'static str) -> AdapterSummary {
        AdapterSummary {
            index,
            name: name.to_string(),
            backend: "Vulkan".to_string(),
            driver: "driver 1".to_string(),
            device_type,
            software: device_type == "software",
            max_buffer: 1 << 30,
            max_binding: 1 << 27,
            workgroup_memory: 16384,
            workgroup_threads: 256,
            timestamps: true,
            lacks: None,
        }
    }

    fn machine() -> Vec<AdapterSummary> {
        vec![
            adapter(0, "llvmpipe", "software"),
            adapter(1, "Iris Xe", "integrated GPU"),
            adapter(2, "GeForce RTX", "discrete GPU"),
        ]
    }

    #[test]
    fn hardware_means_discrete_before_integrated_and_never_software() {
        assert_eq!(choose(&machine(), &Selector::Hardware, false, None).unwrap(), 2);
        assert_eq!(choose(&machine()[..2], &Selector::Hardware, true, None).unwrap(), 1);
        assert_eq!(choose(&machine()[..1], &Selector::Hardware, true, None).unwrap(), 0);
        let error = choose(&machine()[..1], &Selector::Hardware, false, None).unwrap_err();
        assert!(matches!(error, Error::Device(_)));
        assert!(error.to_string().contains("llvmpipe"), "{error}");
    }

    #[test]
    fn software_can_be_named() {
        assert_eq!(choose(&machine(), &Selector::Index(0), false, None).unwrap(), 0);
        assert_eq!(choose(&machine(), &Selector::Name("LLVM".to_string()), false, None).unwrap(), 0);
        assert_eq!(choose(&machine(), &Selector::Hardware, false, Some("iris")).unwrap(), 1);
        // A flag outranks the environment.
        assert_eq!(choose(&machine(), &Selector::Name("geforce".to_string()), false, Some("iris")).unwrap(), 2);
    }

    #[test]
    fn errors_say_what_was_asked_for_and_what_exists() {
        for selector in [Selector::Index(7), Selector::Name("Radeon".to_string())] {
            let error = choose(&machine(), &selector, true, None).unwrap_err().to_string();
            assert!((error.contains('7') || error.contains("Radeon")) && error.contains("1: Iris Xe"), "{error}");
        }
        let error = choose(&[], &Selector::Hardware, true, None).unwrap_err().to_string();
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
        let mut weak = machine();
        weak[2].lacks = Some("7 storage buffers".to_string());
        let error = choose(&weak, &Selector::Hardware, true, None).unwrap_err().to_string();
        assert!(error.contains("GeForce") && error.contains("7 storage buffers"), "{error}");
    }

    #[test]
    fn the_first_fault_stays() {
        let faults = Faults::default();
        assert!(faults.check().is_ok());
        faults.raise("first".to_string());
        faults.raise("second".to_string());
        for _ in 0..2 {
            assert!(matches!(faults.check(), Err(Error::Device(message)) if message == "first"));
        }
    }
}
