//! Adapters: which there are, which of them is meant, and opening it so that its failures become
//! errors instead of panics.

use std::path::Path;
use std::sync::{Arc, Mutex};

use wgpu::{Backends, DeviceType, Features};

use crate::engine::memory::REMEDY;
use crate::engine::tuned::{Key, PlanSource};
use crate::error::{Error, Result};
use crate::kernels;

/// What to say where there is no adapter at all.
const INSTALL: &str = "On Debian or Ubuntu the package mesa-vulkan-drivers brings Vulkan for AMD, \
                       Intel and Apple GPUs and a software adapter; \
                       NVIDIA's Vulkan driver comes with the packages nvidia-driver and \
                       libvulkan1.";

/// What other programs call their devices; no adapter is named so.
const FOREIGN: [&str; 11] =
    ["cuda", "rocm", "hip", "mps", "xpu", "metal", "vulkan", "dx12", "opencl", "directml", "tpu"];

/// How much an adapter's name or a word of it has to be like a text to be what was meant
/// (Jaro-Winkler).
const LIKE: f64 = 0.85;

/// Which adapter is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Selector {
    /// The first hardware GPU, discrete before integrated. The environment variable
    /// WGPU_ADAPTER_NAME, if set, names it instead.
    #[default]
    Hardware,
    /// The adapter with this [`AdapterSummary::index`]; a software adapter counts as asked for.
    Index(usize),
    /// The first adapter, hardware first, whose name contains this text, ignoring case; a software
    /// adapter counts as asked for.
    Name(String),
}

/// How to open an adapter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Let [`Selector::Hardware`] take a software adapter if there is no hardware.
    pub allow_software: bool,
    /// Have wgpu guard every buffer access, loop and division in the shaders. Off by default: the
    /// kernels guard every access themselves, the tests run them both ways, and the guards cost a
    /// good part of a tight loop.
    pub shader_checks: bool,
    /// Run every kernel in the variant of this name that has it (see
    /// [`crate::kernels::Family::variants`]), else in the reference; by default in the one that
    /// suits the device. All variants give the same bits.
    pub variant: Option<&'static str>,
    /// Which calls run in another variant than `variant` or what suits the device.
    pub plan: PlanSource,
    /// Keep compiled pipelines in the user's cache folder, where the backend can.
    pub cache: bool,
    /// Open the device with exactly WebGPU's default limits and no features, as a browser would.
    pub web_limits: bool,
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
    /// What a tuned plan has to be for.
    pub fn key(&self) -> Key {
        Key::of([&self.name, &self.backend, &self.driver])
    }
}

impl AdapterSummary {
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let bindings = kernels::entries().map(|e| e.bindings.len()).max().unwrap_or(0) as u32;
        let has = limits.max_storage_buffers_per_shader_stage;
        let lacks =
            (has < bindings).then(|| format!("{bindings} storage buffers a kernel (has {has})"));
        let mut summary = AdapterSummary {
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
            max_buffer: 0,
            max_binding: 0,
            workgroup_memory: 0,
            workgroup_threads: 0,
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            lacks,
        };
        summary.take_limits(&limits);
        summary
    }

    fn take_limits(&mut self, limits: &wgpu::Limits) {
        self.max_buffer = limits.max_buffer_size;
        self.max_binding = limits.max_storage_buffer_binding_size;
        self.workgroup_memory = limits.max_compute_workgroup_storage_size;
        self.workgroup_threads = limits.max_compute_invocations_per_workgroup;
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

/// What the environment says of GPUs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// WGPU_BACKEND: through what adapters are looked for; several with commas.
    pub backend: Option<String>,
    /// WGPU_ADAPTER_NAME: part of the name of the adapter that a hardware GPU stands for.
    pub name: Option<String>,
}

/// The text, unless it is blank.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

impl Environment {
    /// The process's.
    pub fn read() -> Environment {
        let of =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment { backend: of("WGPU_BACKEND"), name: of("WGPU_ADAPTER_NAME") }
    }

    /// The adapter's name, where one is given.
    pub fn adapter_name(&self) -> Option<&str> {
        given(&self.name)
    }

    /// Variables that are set and say nothing.
    fn notes(&self) -> Vec<String> {
        let blank = [("WGPU_BACKEND", &self.backend), ("WGPU_ADAPTER_NAME", &self.name)];
        let blank = blank.iter().filter(|(_, value)| value.is_some() && given(value).is_none());
        blank.map(|(name, _)| format!("{name} is set but empty, and counts as not set")).collect()
    }

    /// The backends to look through, or what is wrong with the variable.
    fn backends(&self) -> std::result::Result<Backends, String> {
        let Some(text) = given(&self.backend) else {
            return Ok(Backends::VULKAN | Backends::METAL | Backends::DX12);
        };
        let one = |name: &str| match name.trim().to_lowercase().as_str() {
            "vulkan" | "vk" => Ok(Backends::VULKAN),
            "metal" | "mtl" => Ok(Backends::METAL),
            "dx12" | "d3d12" => Ok(Backends::DX12),
            other => Err(format!(
                "WGPU_BACKEND={text}: '{other}' is no backend of this program, expected vulkan, \
                 metal or dx12 (several with \
                 commas); `unset WGPU_BACKEND` looks through all"
            )),
        };
        text.split(',').map(one).try_fold(Backends::empty(), |all, backend| Ok(all | backend?))
    }
}

/// The adapters of this machine, and what decides which of them is meant.
pub struct Machine {
    /// All of them; WGPU_BACKEND restricts them.
    pub adapters: Vec<AdapterSummary>,
    /// What the environment says.
    pub environment: Environment,
    /// Why an adapter may be missing.
    pub hints: Vec<String>,
    found: Vec<wgpu::Adapter>,
}

impl Machine {
    /// Looks for adapters. With a senseless WGPU_BACKEND all are listed, but none can be chosen.
    pub fn look() -> Machine {
        let environment = Environment::read();
        let every = Environment::default().backends().unwrap_or(Backends::all());
        let found = list(environment.backends().unwrap_or(every));
        let mut hints = Vec::new();
        if let Some(backend) = given(&environment.backend)
            && found.is_empty()
        {
            let others = summaries(&list(every));
            let others =
                if others.is_empty() { "neither does it without".into() } else { names(&others) };
            hints.push(format!(
                "WGPU_BACKEND={backend} finds no adapter; without it there would be: {others} \
                 (`unset WGPU_BACKEND`)"
            ));
        }
        let no_nvidia =
            !found.iter().any(|adapter| adapter.get_info().name.to_lowercase().contains("nvidia"));
        if no_nvidia && cfg!(target_os = "linux") {
            hints.extend(nvidia_without_vulkan(Path::new("/"), |name| std::env::var_os(name)));
        }
        Machine { adapters: summaries(&found), environment, hints, found }
    }

    /// Whether the environment makes sense.
    ///
    /// # Errors
    /// A variable that names no backend, with what it says and what was expected.
    pub fn check(&self) -> Result<()> {
        self.environment.backends().map(drop).map_err(Error::Device)
    }

    /// What a user should know besides the choice.
    pub fn notes(&self) -> Vec<String> {
        self.environment.notes()
    }

    /// The best adapter that [`Selector::Hardware`] could be taken for and that can run the
    /// kernels, and what was passed over for it.
    pub fn usable(&self, allow_software: bool) -> (Option<usize>, Vec<String>) {
        let mut wanted: Vec<_> =
            self.adapters.iter().filter(|a| allow_software || !a.software).collect();
        wanted.sort_by_key(|a| (a.rank(), a.index));
        let passed = wanted.iter().map_while(|a| {
            Some(format!(
                "gpu:{} {a} is passed over: the kernels need {}",
                a.index,
                a.lacks.as_ref()?
            ))
        });
        (wanted.iter().find(|a| a.lacks.is_none()).map(|a| a.index), passed.collect())
    }

    /// The index of the adapter that is meant.
    ///
    /// # Errors
    /// [`Error::Device`] with what was asked for, what there is and, as far as it is known, why it
    /// isn't what was asked for.
    pub fn choose(&self, selector: &Selector, allow_software: bool) -> Result<usize> {
        self.check()?;
        let adapters = &self.adapters;
        let best = |fits: &dyn Fn(&AdapterSummary) -> bool| {
            adapters.iter().filter(|a| fits(a)).min_by_key(|a| (a.rank(), a.index)).map(|a| a.index)
        };
        let by_name = |name: &str| best(&|a| a.name.to_lowercase().contains(&name.to_lowercase()));
        let (found, asked) = match (selector, self.environment.adapter_name()) {
            (Selector::Index(i), _) => {
                (adapters.get(*i).map(|a| a.index), format!("GPU number {i} was asked for"))
            }
            (Selector::Name(name), _) => {
                (by_name(name), format!("a GPU named '{name}' was asked for"))
            }
            (Selector::Hardware, Some(name)) => {
                (by_name(name), format!("WGPU_ADAPTER_NAME={name} asks for a GPU of that name"))
            }
            (Selector::Hardware, None) if allow_software => {
                (best(&|_| true), "a GPU was asked for".to_string())
            }
            (Selector::Hardware, None) => {
                (best(&|a| !a.software), "a hardware GPU was asked for".to_string())
            }
        };
        let Some(index) = found else {
            let (name, remedy) = match selector {
                Selector::Name(name) => (Some(name.as_str()), ""),
                Selector::Index(_) => (None, ""),
                Selector::Hardware => match self.environment.adapter_name() {
                    Some(name) => (
                        Some(name),
                        "; after `unset WGPU_ADAPTER_NAME` auto and gpu choose for themselves",
                    ),
                    None => (None, ""),
                },
            };
            return Err(Error::Device(format!(
                "{asked}, and there is none{}{remedy}",
                self.missing(name)
            )));
        };
        match &adapters[index].lacks {
            Some(lacks) => {
                let others =
                    adapters.iter().filter(|a| a.lacks.is_none()).cloned().collect::<Vec<_>>();
                let others = if others.is_empty() {
                    String::new()
                } else {
                    format!("; others here: {}", names(&others))
                };
                let what = &adapters[index];
                Err(Error::Device(format!(
                    "{what} can't run the kernels: they need {lacks}{others}"
                )))
            }
            None => Ok(index),
        }
    }

    /// The rest of a message about an adapter (called `name`) that isn't there.
    fn missing(&self, name: Option<&str>) -> String {
        let mut text = String::new();
        if let Some(like) = name.and_then(|name| self.like(name)) {
            text += &format!("; did you mean '{like}'?");
        }
        let word = name.map(|name| name.to_lowercase()).unwrap_or_default();
        if FOREIGN.contains(&word.split(':').next().unwrap_or_default()) {
            text += "; devices are called auto, cpu, gpu, gpu:N or by part of an adapter's name: \
                     a GPU of any maker is reached through \
                     Vulkan, Metal or DX12";
        }
        match self.adapters.as_slice() {
            [] if given(&self.environment.backend).is_none() => {
                text += &format!("; this machine has no Vulkan, Metal or DX12 adapter. {INSTALL}");
            }
            [] => {}
            all => text += &format!("; adapters here: {}", names(all)),
        }
        if name.is_none() && self.adapters.iter().any(|a| a.software) {
            text += "; a software adapter is taken by its name or number, or if allowed \
                     (--allow-software)";
        }
        for hint in &self.hints {
            text += &format!("; {hint}");
        }
        text
    }

    /// The adapter's name, or the word of one, that `text` is most like.
    fn like(&self, text: &str) -> Option<String> {
        let text = text.to_lowercase();
        let words = |a: &AdapterSummary| -> Vec<String> {
            let words = a.name.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2);
            words.chain([a.name.as_str()]).map(str::to_string).collect()
        };
        let rated = self
            .adapters
            .iter()
            .flat_map(words)
            .map(|w| (strsim::jaro_winkler(&text, &w.to_lowercase()), w));
        rated
            .filter(|(like, _)| *like >= LIKE)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, word)| word)
    }
}

/// Adapters with their numbers.
fn names(adapters: &[AdapterSummary]) -> String {
    adapters.iter().map(|a| format!("{}: {a}", a.index)).collect::<Vec<_>>().join("; ")
}

fn summaries(adapters: &[wgpu::Adapter]) -> Vec<AdapterSummary> {
    adapters.iter().enumerate().map(|(i, adapter)| AdapterSummary::new(i, adapter)).collect()
}

fn list(backends: Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = backends;
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
}

/// All adapters of this machine; WGPU_BACKEND (vulkan, metal, dx12) restricts them.
pub fn adapters() -> Vec<AdapterSummary> {
    Machine::look().adapters
}

/// Says so if NVIDIA's kernel driver is loaded and the Vulkan loader has no driver file of NVIDIA
/// to find: common in containers, which get CUDA alone. `root` is `/`, but for tests.
fn nvidia_without_vulkan(
    root: &Path,
    env: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<String> {
    let signs = ["proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvidia0"];
    let sign = signs.iter().map(|sign| root.join(sign)).find(|sign| sign.exists())?;
    let of_nvidia = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().to_lowercase().contains("nvidia"))
    };
    let told = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"]
        .iter()
        .filter_map(|name| env(name));
    let mut told = told.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let mut folders = vec![
        root.join("etc"),
        root.join("usr/local/etc"),
        root.join("usr/local/share"),
        root.join("usr/share"),
    ];
    folders.extend(env("XDG_DATA_DIRS").iter().flat_map(std::env::split_paths));
    folders.extend(env("HOME").map(|home| Path::new(&home).join(".local/share")));
    let mut files = folders
        .iter()
        .flat_map(|folder| {
            std::fs::read_dir(folder.join("vulkan/icd.d")).into_iter().flatten().flatten()
        })
        .map(|entry| entry.path());
    if told.any(|path| of_nvidia(&path) && path.exists()) || files.any(|path| of_nvidia(&path)) {
        return None;
    }
    Some(format!(
        "an NVIDIA card is here ({}) but no Vulkan driver file of NVIDIA (nvidia_icd.json, in \
         /usr/share/vulkan/icd.d or \
         /etc/vulkan/icd.d): install the driver's Vulkan part, or let the container have it \
         (NVIDIA_DRIVER_CAPABILITIES=all)",
        sign.display()
    ))
}

/// What wgpu reports, as an error of `what`: too little memory is something that a user can change.
pub(super) fn error_of(what: &str, error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::TooLarge {
            problem: format!("{what}: the device has no memory left"),
            remedy: REMEDY.into(),
        },
        other => Error::Device(format!("{what}: {other}")),
    }
}

/// The loss of a device.
fn lost(adapter: &AdapterSummary, reason: &str) -> Error {
    let reason = if reason.is_empty() { "the driver gave no reason" } else { reason };
    Error::Device(format!("{adapter} was lost ({reason}); what was saved before is intact"))
}

/// The first thing that went wrong on a device outside of a call that could report it.
#[derive(Default)]
pub(super) struct Faults(Mutex<Option<Error>>);

impl Faults {
    fn raise(&self, error: Error) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
    }

    /// Errors if anything has gone wrong since the device was opened.
    pub fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => Ok(()),
            Some(Error::TooLarge { problem, remedy }) => {
                Err(Error::TooLarge { problem: problem.clone(), remedy: remedy.clone() })
            }
            Some(other) => Err(Error::Device(other.to_string())),
        }
    }
}

/// An opened adapter.
pub(super) struct Gpu {
    /// With the limits that the device was opened with.
    pub adapter: AdapterSummary,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub faults: Arc<Faults>,
}

/// Opens an adapter, with all of its limits if nothing else is asked for.
pub(super) fn open(machine: &Machine, index: usize, options: &OpenOptions) -> Result<Gpu> {
    let (found, mut adapter) = (&machine.found[index], machine.adapters[index].clone());
    let required_limits = match options.web_limits {
        true => wgpu::Limits::default(),
        false => {
            let mut all = found.limits();
            // DX12 allocates descriptors for this many bindings up front, and a training step has
            // some hundred.
            all.max_non_sampler_bindings = all.max_non_sampler_bindings.min(100_000);
            all
        }
    };
    adapter.timestamps &= !options.web_limits;
    adapter.take_limits(&required_limits);
    let mut required_features = Features::empty();
    required_features.set(Features::TIMESTAMP_QUERY, adapter.timestamps);
    let cache = found.features().contains(Features::PIPELINE_CACHE) && !options.web_limits;
    required_features.set(Features::PIPELINE_CACHE, cache);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("gradcon"),
        required_features,
        required_limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(found.request_device(&descriptor))
        .map_err(|e| Error::Device(format!("{adapter} could not be opened: {e}")))?;
    let faults = Arc::new(Faults::default());
    let (on_error, on_loss) = (faults.clone(), faults.clone());
    let (at_error, at_loss) = (adapter.to_string(), adapter.clone());
    device.on_uncaptured_error(Arc::new(move |e| on_error.raise(error_of(&at_error, &e))));
    device.set_device_lost_callback(move |_, why| on_loss.raise(lost(&at_loss, &why)));
    Ok(Gpu { adapter, device, queue, faults })
}

impl Gpu {
    /// Runs `make` and turns whatever wgpu reports meanwhile into an error that starts with `what`.
    pub fn guarded<T>(
        &self,
        what: impl FnOnce() -> String,
        make: impl FnOnce(&wgpu::Device) -> T,
    ) -> Result<T> {
        let scopes = [
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::OutOfMemory,
        ]
        .map(|f| self.device.push_error_scope(f));
        let made = make(&self.device);
        let mut error = None;
        for scope in scopes.into_iter().rev() {
            error = error.or(pollster::block_on(scope.pop()));
        }
        match error {
            // After a loss everything fails; the loss is the reason.
            Some(error) => self
                .faults
                .check()
                .and(Err(error_of(&format!("{}: {}", self.adapter, what()), &error))),
            None => Ok(made),
        }
    }

    /// Waits for a submission, or for all of them.
    pub fn wait(&self, until: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: until, timeout: None };
        let waited = self.device.poll(wait);
        self.faults.check()?;
        waited
            .map(|_| ())
            .map_err(|e| Error::Device(format!("{}: waiting for the device: {e}", self.adapter)))
    }

    /// Waits and copies the first `bytes` of a buffer to the host.
    pub fn fetch<T: bytemuck::Pod>(&self, from: &wgpu::Buffer, bytes: u64) -> Result<Vec<T>> {
        self.faults.check()?;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read back"),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        };
        let staging = self.guarded(
            || format!("reading {bytes} bytes back"),
            |device| device.create_buffer(&descriptor),
        )?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, 0, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        let mapped = move |result| drop(sender.send(result));
        staging.slice(..).map_async(wgpu::MapMode::Read, mapped);
        self.wait(None)?;
        let failed = |why: String| {
            Error::Device(format!("{}: reading {bytes} bytes back: {why}", self.adapter))
        };
        receiver.recv().map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let mapped = staging.slice(..).get_mapped_range().map_err(|e| failed(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&mapped))
    }
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

    fn of(adapters: &[AdapterSummary], environment: Environment) -> Machine {
        Machine { adapters: adapters.to_vec(), environment, hints: vec![], found: vec![] }
    }

    fn choose(
        adapters: &[AdapterSummary],
        selector: &Selector,
        allow_software: bool,
        named: Option<&str>,
    ) -> Result<usize> {
        let environment = Environment { name: named.map(str::to_string), ..Environment::default() };
        of(adapters, environment).choose(selector, allow_software)
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
        assert_eq!(
            choose(&machine(), &Selector::Name("LLVM".to_string()), false, None).unwrap(),
            0
        );
        assert_eq!(choose(&machine(), &Selector::Hardware, false, Some("iris")).unwrap(), 1);
        // A flag outranks the environment.
        assert_eq!(
            choose(&machine(), &Selector::Name("geforce".to_string()), false, Some("iris"))
                .unwrap(),
            2
        );
    }

    #[test]
    fn errors_say_what_was_asked_for_and_what_exists() {
        for selector in [Selector::Index(7), Selector::Name("Radeon".to_string())] {
            let error = choose(&machine(), &selector, true, None).unwrap_err().to_string();
            assert!(
                (error.contains('7') || error.contains("Radeon")) && error.contains("1: Iris Xe"),
                "{error}"
            );
        }
        let error = choose(&[], &Selector::Hardware, true, None).unwrap_err().to_string();
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
        let mut weak = machine();
        weak[2].lacks = Some("7 storage buffers".to_string());
        let error = choose(&weak, &Selector::Hardware, true, None).unwrap_err().to_string();
        assert!(error.contains("GeForce") && error.contains("7 storage buffers"), "{error}");
    }

    #[test]
    fn a_senseless_variable_is_named_with_what_it_says_and_what_helps() {
        let backend =
            |text: &str| Environment { backend: Some(text.into()), ..Environment::default() };
        for (text, wrong) in [("cuda", "'cuda'"), ("vulkan,gl", "'gl'"), (" Noop ", "'noop'")] {
            for selector in [Selector::Hardware, Selector::Index(0), Selector::Name("iris".into())]
            {
                let error = of(&machine(), backend(text)).choose(&selector, true).unwrap_err();
                assert_eq!(error.exit_code(), 3);
                let error = error.to_string();
                for part in
                    ["WGPU_BACKEND=", wrong, "expected vulkan, metal or dx12", "unset WGPU_BACKEND"]
                {
                    assert!(error.contains(part), "{part} in {error}");
                }
            }
        }
        for (text, backends) in [
            ("vulkan", Backends::VULKAN),
            (" VK , Metal", Backends::VULKAN | Backends::METAL),
            ("d3d12", Backends::DX12),
            ("", Backends::VULKAN | Backends::METAL | Backends::DX12),
        ] {
            assert_eq!(backend(text).backends(), Ok(backends), "{text}");
        }
        let error =
            choose(&machine(), &Selector::Hardware, false, Some("Radeon")).unwrap_err().to_string();
        for part in ["WGPU_ADAPTER_NAME=Radeon", "unset WGPU_ADAPTER_NAME", "1: Iris Xe"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        // Blank counts as not set, and that is said.
        let blank = Environment { backend: Some("".into()), name: Some("  ".into()) };
        let machine = of(&machine(), blank);
        assert_eq!(machine.choose(&Selector::Hardware, false).unwrap(), 2);
        let notes = machine.notes().join("\n");
        assert!(
            notes.contains("WGPU_BACKEND is set but empty")
                && notes.contains("WGPU_ADAPTER_NAME is set"),
            "{notes}"
        );
        assert!(of(&[], Environment::default()).notes().is_empty());
    }

    #[test]
    fn a_name_that_is_nearly_right_is_offered() {
        for (text, meant) in
            [("llvmpip3", "'llvmpipe'"), ("geforse", "'GeForce'"), ("iris xf", "'Iris Xe'")]
        {
            let error = choose(&machine(), &Selector::Name(text.into()), false, None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("did you mean {meant}?")), "{error}");
        }
        let error = choose(&machine(), &Selector::Name("radeon".into()), false, None)
            .unwrap_err()
            .to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn names_of_other_programs_are_answered_with_ours() {
        for name in ["cuda", "CUDA:0", "mps", "rocm", "xpu", "metal", "vulkan"] {
            let error = choose(&machine(), &Selector::Name(name.into()), false, None).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            let error = error.to_string();
            for part in [name, "auto, cpu, gpu, gpu:N", "Vulkan, Metal or DX12", "2: GeForce RTX"] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        // An adapter that is called so is meant.
        assert_eq!(
            choose(
                &[adapter(0, "Metal 3 GPU", "other")],
                &Selector::Name("metal".into()),
                false,
                None
            )
            .unwrap(),
            0
        );
    }

    #[test]
    fn what_lacks_something_is_passed_over_aloud() {
        let mut adapters = machine();
        adapters[2].lacks = Some("7 storage buffers".to_string());
        let (usable, passed) = of(&adapters, Environment::default()).usable(false);
        assert_eq!(usable, Some(1));
        assert!(
            passed.len() == 1
                && passed[0].contains("gpu:2 GeForce")
                && passed[0].contains("7 storage"),
            "{passed:?}"
        );
        adapters[1].lacks = Some("more".to_string());
        let machine = of(&adapters, Environment::default());
        assert_eq!(
            (machine.usable(false).0, machine.usable(false).1.len(), machine.usable(true).0),
            (None, 2, Some(0))
        );
    }

    #[test]
    fn an_nvidia_card_without_vulkan_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let hint = || nvidia_without_vulkan(root.path(), |_| None);
        assert_eq!(hint(), None, "no card");
        make("proc/driver/nvidia/version");
        make("usr/share/vulkan/icd.d/lvp_icd.x86_64.json");
        let text = hint().expect("a card and no driver file");
        assert!(
            text.contains("NVIDIA")
                && text.contains("nvidia_icd.json")
                && text.contains("proc/driver/nvidia"),
            "{text}"
        );
        let mut alone = of(&[], Environment::default());
        alone.hints.push(text);
        let error = alone.choose(&Selector::Name("cuda".into()), false).unwrap_err().to_string();
        assert!(error.contains("no Vulkan driver file of NVIDIA"), "{error}");
        make("opt/nvidia.json");
        let file = root.path().join("opt/nvidia.json");
        let env = |name: &str| (name == "VK_DRIVER_FILES").then(|| file.clone().into_os_string());
        assert_eq!(nvidia_without_vulkan(root.path(), env), None, "the loader was told");
        make("etc/vulkan/icd.d/nvidia_icd.json");
        assert_eq!(hint(), None, "a driver file");
    }

    #[test]
    fn errors_of_wgpu_become_ours() {
        let source = || Box::<dyn std::error::Error + Send + Sync>::from("inner");
        let memory =
            error_of("buffer 'x' of 4 bytes", &wgpu::Error::OutOfMemory { source: source() });
        assert!(matches!(memory, Error::TooLarge { .. }), "{memory}");
        let text = memory.to_string();
        assert!(
            text.contains("buffer 'x'")
                && text.contains("no memory left")
                && text.contains("a smaller batch"),
            "{text}"
        );
        let description = "bad binding".to_string();
        for error in [
            wgpu::Error::Validation { source: source(), description: description.clone() },
            wgpu::Error::Internal { source: source(), description },
        ] {
            let error = error_of("kernel add", &error);
            assert!(
                matches!(&error, Error::Device(text) if text == "kernel add: bad binding"),
                "{error}"
            );
            assert_eq!(error.exit_code(), 3);
        }
        let loss = lost(&machine()[2], "");
        assert!(
            matches!(&loss, Error::Device(text)
                if text.contains("GeForce RTX") && text.contains("intact")),
            "{loss}"
        );
        assert_eq!((memory.exit_code(), loss.exit_code()), (3, 3));
    }

    #[test]
    fn the_first_fault_stays() {
        let faults = Faults::default();
        assert!(faults.check().is_ok());
        faults.raise(Error::Device("first".to_string()));
        faults.raise(Error::Device("second".to_string()));
        for _ in 0..2 {
            assert!(matches!(faults.check(), Err(Error::Device(message)) if message == "first"));
        }
        let faults = Faults::default();
        faults.raise(Error::TooLarge { problem: "p".into(), remedy: "r".into() });
        assert!(matches!(faults.check(), Err(Error::TooLarge { problem, remedy })
                if problem == "p" && remedy == "r"));
    }
}
