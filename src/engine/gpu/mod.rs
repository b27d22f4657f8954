//! The GPU engine: runs programs on a device through wgpu. The only room that knows wgpu.
//!
//! Loading a program allocates its buffers, compiles its pipelines and makes its bind groups; a run
//! then only records, into one encoder and one compute pass a step, "pipeline, bind group,
//! immediates, dispatch" for each call. wgpu orders calls that share a buffer.
//!
//! Immediate data of every kernel, 32 words: word 0 is the step; words 1 to 7 are the distances
//! between replicas, in elements, of bindings 0 to 6 (0 for a buffer that all replicas share); then
//! come the call's [`Params::words`](crate::program::kernel::Params::words). The replica is the
//! workgroup's z.

mod device;
pub mod launch;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use wgpu::{BufferUsages, PollType};

pub use self::device::{AdapterSummary, Environment, Machine, OpenOptions, Selector, adapters};
use self::device::{Faults, Opened, error_of};
use self::launch::{Constants, HEADER_WORDS, IMMEDIATE_BYTES, Launch};
use super::{Data, Engine, Loaded, Timing, memory};
use crate::error::{Error, Result};
use crate::program::kernel::{Access, Element, Kernel};
use crate::program::{Buffer, Call, Program};

/// Steps that may be under way on the device: enough to keep it busy, few enough that waiting for
/// them takes no noticeable time.
const MAX_IN_FLIGHT: usize = 8;

/// A measurement on the device repeats a call until it takes this long, in seconds.
const LONG_ENOUGH: f64 = 1e-3;

/// Most repetitions of a call in one measurement.
const MAX_REPEATS: u32 = 1 << 12;

/// Workgroups of one model that keep a hardware GPU of any size busy.
const WORKGROUPS: usize = 512;

const IMMEDIATE_WORDS: usize = IMMEDIATE_BYTES as usize / 4;

/// A buffer on the device.
struct Stored {
    buffer: Buffer,
    /// Elements over all replicas.
    total: usize,
    memory: wgpu::Buffer,
}

/// A kernel's layouts, the same for all its pipelines.
struct Layout {
    bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// A call, ready to be recorded.
struct Prepared {
    pipeline: usize,
    bind_group: wgpu::BindGroup,
    immediates: [u32; IMMEDIATE_WORDS],
    grid: [u32; 3],
}

/// Runs programs on a GPU in f32.
pub struct GpuEngine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterSummary,
    faults: Arc<Faults>,
    shader_checks: bool,
    shaders: HashMap<&'static str, wgpu::ShaderModule>,
    layouts: HashMap<Kernel, Layout>,
    pipelines: Vec<wgpu::ComputePipeline>,
    pipeline_of: HashMap<(Kernel, Constants), usize>,
    memory: Vec<Stored>,
    persistent: HashMap<String, usize>,
    programs: Vec<Vec<Prepared>>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
}

impl GpuEngine {
    /// Opens an adapter. Errors name what was asked for and what this machine has.
    pub fn open(selector: &Selector, options: OpenOptions) -> Result<GpuEngine> {
        let machine = Machine::look();
        let index = machine.choose(selector, options.allow_software)?;
        GpuEngine::open_adapter(&machine, index, options)
    }

    /// Opens the adapter number `index` of a machine.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn open_adapter(
        machine: &Machine,
        index: usize,
        options: OpenOptions,
    ) -> Result<GpuEngine> {
        let Opened { summary, device, queue, faults } = device::open(machine, index)?;
        Ok(GpuEngine {
            device,
            queue,
            adapter: summary,
            faults,
            shader_checks: options.shader_checks,
            shaders: HashMap::new(),
            layouts: HashMap::new(),
            pipelines: Vec::new(),
            pipeline_of: HashMap::new(),
            memory: Vec::new(),
            persistent: HashMap::new(),
            programs: Vec::new(),
            in_flight: VecDeque::new(),
        })
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// Runs `make` and turns whatever wgpu reports meanwhile into an error that starts with `what`.
    fn guarded<T>(
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

    fn allocate(&self, buffer: &Buffer, replicas: usize) -> Result<Stored> {
        let limit = self.adapter.max_buffer.min(self.adapter.max_binding);
        let bytes = buffer.bytes(replicas, 4);
        let (Some(bytes), Some(total)) =
            (bytes.filter(|&bytes| bytes <= limit), buffer.total(replicas))
        else {
            let rest = format!("the device allows {} in one buffer", memory::text(limit));
            return Err(memory::lack(
                &format!("{}, buffer '{}'", self.adapter, buffer.name),
                bytes,
                &rest,
            ));
        };
        let usage = if buffer.persistent {
            BufferUsages::COPY_SRC | BufferUsages::COPY_DST
        } else {
            BufferUsages::empty()
        };
        let size = bytes.next_multiple_of(4).max(4);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(&buffer.name),
            size,
            usage: usage | BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        let memory = self.guarded(
            || format!("buffer '{}' of {size} bytes", buffer.name),
            |device| device.create_buffer(&descriptor),
        )?;
        Ok(Stored { buffer: buffer.clone(), total, memory })
    }

    /// The pipeline of a kernel with certain tile sizes, compiled at its first use.
    fn pipeline(&mut self, kernel: Kernel, launch: &Launch) -> Result<usize> {
        let key = (kernel, launch.constants.clone());
        if let Some(&at) = self.pipeline_of.get(&key) {
            return Ok(at);
        }
        let row = kernel.row();
        // wgpu checks neither of these when they come from overrides.
        let threads = launch.workgroup_size.iter().product::<u32>();
        if launch.workgroup_bytes > self.adapter.workgroup_memory
            || threads > self.adapter.workgroup_threads
        {
            return Err(Error::Device(format!(
                "{}: kernel {} needs workgroups of {threads} threads and {} bytes, the device \
                 allows {} and {}",
                self.adapter,
                row.name,
                launch.workgroup_bytes,
                self.adapter.workgroup_threads,
                self.adapter.workgroup_memory
            )));
        }
        if !self.shaders.contains_key(row.shader) {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(row.shader),
                source: wgpu::ShaderSource::Wgsl(launch::source(row.shader).into()),
            };
            let checked = self.shader_checks;
            let module = self.guarded(
                || format!("shader {}", row.shader),
                |device| match checked {
                    true => device.create_shader_module(descriptor),
                    // SAFETY: the shaders are part of this crate, compare every index with a size
                    // that load() has checked against the buffer, end every loop and divide by
                    // sizes that aren't 0. The twin tests run each kernel with the checks on as
                    // well.
                    false => unsafe {
                        device.create_shader_module_trusted(
                            descriptor,
                            wgpu::ShaderRuntimeChecks::unchecked(),
                        )
                    },
                },
            )?;
            self.shaders.insert(row.shader, module);
        }
        if !self.layouts.contains_key(&kernel) {
            let layout = self.layout(kernel)?;
            self.layouts.insert(kernel, layout);
        }
        let constants: Vec<(&str, f64)> =
            launch.constants.iter().map(|&(name, value)| (name, value as f64)).collect();
        let pipeline = self.guarded(
            || format!("kernel {}", row.name),
            |device| {
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(row.name),
                    layout: Some(&self.layouts[&kernel].pipeline),
                    module: &self.shaders[row.shader],
                    entry_point: Some(row.name),
                    // Every kernel writes workgroup memory before it reads it.
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &constants,
                        zero_initialize_workgroup_memory: false,
                    },
                    cache: None,
                })
            },
        )?;
        self.pipelines.push(pipeline);
        self.pipeline_of.insert(key, self.pipelines.len() - 1);
        Ok(self.pipelines.len() - 1)
    }

    fn layout(&self, kernel: Kernel) -> Result<Layout> {
        let row = kernel.row();
        let entries: Vec<_> = (0..)
            .zip(row.bindings)
            .map(|(i, binding)| wgpu::BindGroupLayoutEntry {
                binding: i,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage {
                        read_only: binding.access == Access::Read,
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.guarded(
            || format!("layout of kernel {}", row.name),
            |device| {
                let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some(row.name),
                    entries: &entries,
                });
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: Some(row.name),
                    bind_group_layouts: &[Some(&bindings)],
                    immediate_size: IMMEDIATE_BYTES,
                });
                Layout { bindings, pipeline }
            },
        )
    }

    /// `buffers` holds the engine's index of each of the program's buffers.
    fn prepare(&mut self, call: &Call, buffers: &[usize], replicas: usize) -> Result<Prepared> {
        let launch = launch::launch(call.kernel, &call.params, replicas);
        let what = || format!("call '{}' of kernel {}", call.label, call.kernel.row().name);
        let limit = self.device.limits().max_compute_workgroups_per_dimension;
        if launch.grid.iter().any(|&groups| groups > limit) {
            let needs = format!(
                "{:?} workgroups, the device allows {limit} in each direction",
                launch.grid
            );
            let problem = format!("{}: {} needs {needs}", self.adapter, what());
            return Err(Error::TooLarge { problem, remedy: memory::REMEDY.into() });
        }
        let pipeline = self.pipeline(call.kernel, &launch)?;
        let words = call.params.words();
        let mut immediates = [0; IMMEDIATE_WORDS];
        immediates[HEADER_WORDS..HEADER_WORDS + words.len()].copy_from_slice(&words);
        let mut entries = Vec::with_capacity(call.args.len());
        for (i, view) in call.args.iter().enumerate() {
            let stored = &self.memory[buffers[view.buffer]];
            immediates[1 + i] = if stored.buffer.replicated { stored.buffer.len as u32 } else { 0 };
            let offset =
                view.offset as u64 * if stored.buffer.element == Element::U8 { 1 } else { 4 };
            // To the end of the buffer: later replicas lie behind the view.
            entries.push(wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &stored.memory,
                    offset,
                    size: None,
                }),
            });
        }
        let descriptor = wgpu::BindGroupDescriptor {
            label: Some(&call.label),
            layout: &self.layouts[&call.kernel].bindings,
            entries: &entries,
        };
        let bind_group = self.guarded(what, |device| device.create_bind_group(&descriptor))?;
        Ok(Prepared { pipeline, bind_group, immediates, grid: launch.grid })
    }

    /// Allocates a program's buffers and prepares its calls.
    fn bind(&mut self, program: &Program) -> Result<Vec<Prepared>> {
        if self.adapter.software {
            // Its memory is the machine's.
            let new = program
                .buffers
                .iter()
                .filter(|b| !(b.persistent && self.persistent.contains_key(&b.name)));
            let bytes = new
                .map(|b| b.bytes(program.replicas, 4))
                .try_fold(0u64, |sum, b| sum.checked_add(b?));
            memory::check(&format!("{}, program '{}'", self.adapter, program.name), bytes)?;
        }
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            let known = buffer.persistent.then(|| self.persistent.get(&buffer.name)).flatten();
            if let Some(&at) = known {
                super::same_buffer(
                    &self.memory[at].buffer,
                    buffer,
                    self.memory[at].total,
                    program.replicas,
                )?;
                buffers.push(at);
                continue;
            }
            let stored = self.allocate(buffer, program.replicas)?;
            if buffer.persistent {
                self.persistent.insert(buffer.name.clone(), self.memory.len());
            }
            buffers.push(self.memory.len());
            self.memory.push(stored);
        }
        program.calls.iter().map(|call| self.prepare(call, &buffers, program.replicas)).collect()
    }

    /// Records one call, `times` over. `current` is the pipeline that the pass has set.
    fn record(
        &self,
        pass: &mut wgpu::ComputePass,
        call: &Prepared,
        step: u32,
        times: u32,
        current: &mut Option<usize>,
    ) {
        if *current != Some(call.pipeline) {
            pass.set_pipeline(&self.pipelines[call.pipeline]);
            *current = Some(call.pipeline);
        }
        let mut immediates = call.immediates;
        immediates[0] = step;
        pass.set_bind_group(0, &call.bind_group, &[]);
        pass.set_immediates(0, bytemuck::cast_slice(&immediates));
        let [x, y, z] = call.grid;
        (0..times).for_each(|_| pass.dispatch_workgroups(x, y, z));
    }

    fn poll(&self, until: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let waited = self.device.poll(PollType::Wait { submission_index: until, timeout: None });
        self.faults.check()?;
        waited
            .map(|_| ())
            .map_err(|e| Error::Device(format!("{}: waiting for the device: {e}", self.adapter)))
    }

    fn find(&self, name: &str) -> Result<&Stored> {
        let at = self.persistent.get(name).ok_or_else(|| {
            Error::invalid(format!("the loaded programs have no buffer '{name}'"))
        })?;
        Ok(&self.memory[*at])
    }

    /// Waits and copies the first `bytes` of a buffer to the host.
    fn fetch(&mut self, from: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        self.faults.check()?;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read back"),
            size: bytes,
            usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
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
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| drop(sender.send(result)));
        self.poll(None)?;
        self.in_flight.clear();
        let failed = |why: String| {
            Error::Device(format!("{}: reading {bytes} bytes back: {why}", self.adapter))
        };
        receiver.recv().map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let mapped = staging.slice(..).get_mapped_range().map_err(|e| failed(e.to_string()))?;
        Ok(mapped.to_vec())
    }

    /// Seconds of `times` repetitions of a call, by the host's clock.
    fn time_on_host(&self, call: &Prepared, step: u32, times: u32) -> Result<f64> {
        let start = Instant::now();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(
            &mut encoder.begin_compute_pass(&Default::default()),
            call,
            step,
            times,
            &mut None,
        );
        let done = self.queue.submit([encoder.finish()]);
        self.poll(Some(done))?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The same by the device's clock, in a pass of their own; 0 or less if the device wrote no
    /// times.
    fn time_on_device(
        &mut self,
        clock: &Clock,
        call: &Prepared,
        step: u32,
        times: u32,
    ) -> Result<f64> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set: &clock.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("timing"),
            timestamp_writes,
        });
        self.record(&mut pass, call, step, times, &mut None);
        drop(pass);
        encoder.resolve_query_set(&clock.queries, 0..2, &clock.ticks, 0);
        self.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(self.fetch(&clock.ticks, 16)?.as_slice());
        Ok((ticks[1] as f64 - ticks[0] as f64) * self.queue.get_timestamp_period() as f64 * 1e-9)
    }

    /// The least of `repeats` measurements of every call; None if the device's clock doesn't run.
    fn time_all(
        &mut self,
        clock: Option<&Clock>,
        calls: &[Prepared],
        step: u32,
        repeats: usize,
    ) -> Result<Option<Vec<f64>>> {
        let mut least = Vec::with_capacity(calls.len());
        for call in calls {
            // A pipeline's first dispatch may still compile it.
            self.time_on_host(call, step, 1)?;
            let mut seconds = f64::INFINITY;
            for _ in 0..repeats.max(1) {
                match self.time_call(clock, call, step)? {
                    Some(measured) => seconds = seconds.min(measured),
                    None => return Ok(None),
                }
            }
            least.push(seconds);
        }
        Ok(Some(least))
    }

    /// Seconds per repetition of a call, over enough repetitions to be measurable; None if the
    /// device's clock doesn't run.
    fn time_call(
        &mut self,
        clock: Option<&Clock>,
        call: &Prepared,
        step: u32,
    ) -> Result<Option<f64>> {
        let mut times = 1;
        loop {
            let seconds = match clock {
                Some(clock) => self.time_on_device(clock, call, step, times)?,
                None => self.time_on_host(call, step, times)?,
            };
            if seconds <= 0.0 && clock.is_some() {
                return Ok(None);
            }
            if seconds >= LONG_ENOUGH || times >= MAX_REPEATS {
                return Ok(Some(seconds / times as f64));
            }
            times *= 4;
        }
    }

    fn clock(&self) -> Result<Option<Clock>> {
        if !self.adapter.timestamps {
            return Ok(None);
        }
        self.guarded(
            || "timestamps".to_string(),
            |device| {
                let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count: 2,
                });
                let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
                let ticks = device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("ticks"),
                    size: 16,
                    usage,
                    mapped_at_creation: false,
                });
                Some(Clock { queries, ticks })
            },
        )
    }
}

/// Two timestamps of the device.
struct Clock {
    queries: wgpu::QuerySet,
    ticks: wgpu::Buffer,
}

impl Engine for GpuEngine {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        self.faults.check()?;
        program.check();
        let held = self.memory.len();
        let prepared =
            self.bind(program).and_then(|prepared| self.faults.check().map(|()| prepared));
        if prepared.is_err() {
            // As if it had never been asked for: a smaller program may follow.
            self.memory.truncate(held);
            self.persistent.retain(|_, at| *at < held);
        }
        self.programs.push(prepared?);
        Ok(Loaded(self.programs.len() - 1))
    }

    fn clear(&mut self) {
        // wgpu keeps what work under way still needs.
        self.memory.clear();
        self.persistent.clear();
        self.programs.clear();
    }

    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        self.faults.check()?;
        let Stored { buffer, total, memory } = self.find(name)?;
        if data.len() != *total {
            return Err(Error::invalid(format!(
                "buffer '{name}' holds {total} elements, got {}",
                data.len()
            )));
        }
        match (buffer.element, data) {
            (Element::Float, Data::F32(d)) => {
                self.queue.write_buffer(memory, 0, bytemuck::cast_slice(d))
            }
            (Element::Float, Data::F64(d)) => {
                let floats: Vec<f32> = d.iter().map(|&v| v as f32).collect();
                self.queue.write_buffer(memory, 0, bytemuck::cast_slice(&floats));
            }
            (Element::U32, Data::U32(d)) => {
                self.queue.write_buffer(memory, 0, bytemuck::cast_slice(d))
            }
            (Element::U8, Data::U8(d)) => {
                // wgpu copies whole words.
                let (words, rest) = d.split_at(d.len() - d.len() % 4);
                self.queue.write_buffer(memory, 0, words);
                if !rest.is_empty() {
                    let mut last = [0; 4];
                    last[..rest.len()].copy_from_slice(rest);
                    self.queue.write_buffer(memory, words.len() as u64, &last);
                }
            }
            (element, _) => {
                return Err(Error::invalid(format!(
                    "buffer '{name}' holds {element:?}, not what was written"
                )));
            }
        }
        self.faults.check()
    }

    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        let Stored { buffer, total, memory } = self.find(name)?;
        if buffer.element != Element::Float {
            return Err(Error::invalid(format!("buffer '{name}' holds no floats")));
        }
        let (memory, bytes) = (memory.clone(), 4 * *total as u64);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let floats: Vec<f32> = bytemuck::pod_collect_to_vec(self.fetch(&memory, bytes)?.as_slice());
        Ok(floats.into_iter().map(|v| v as f64).collect())
    }

    fn run(&mut self, program: Loaded, steps: std::ops::Range<u32>) -> Result<()> {
        for step in steps {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let mut current = None;
            for call in &self.programs[program.0] {
                self.record(&mut pass, call, step, 1, &mut current);
            }
            drop(pass);
            self.in_flight.push_back(self.queue.submit([encoder.finish()]));
            if self.in_flight.len() > MAX_IN_FLIGHT {
                let oldest = self.in_flight.pop_front();
                self.poll(oldest)?;
            }
            self.faults.check()?;
        }
        // Doesn't wait; lets wgpu notice a device that is gone.
        let _ = self.device.poll(PollType::Poll);
        self.faults.check()
    }

    fn wait(&mut self) -> Result<()> {
        self.in_flight.clear();
        self.poll(None)
    }

    fn time_calls(
        &mut self,
        program: Loaded,
        step: u32,
        repeats: usize,
    ) -> Result<(Vec<f64>, Timing)> {
        let mut clock = self.clock()?;
        // The calls are lent out of the engine for a while: timing needs the rest of it.
        let calls = std::mem::take(&mut self.programs[program.0]);
        let measured = loop {
            match self.time_all(clock.as_ref(), &calls, step, repeats) {
                Ok(None) if clock.is_some() => clock = None,
                result => break result,
            }
        };
        self.programs[program.0] = calls;
        let timing = if clock.is_some() { Timing::Device } else { Timing::Wall };
        Ok((measured?.unwrap_or_default(), timing))
    }

    fn description(&self) -> String {
        format!("GPU engine ({})", self.adapter)
    }

    fn workgroups(&self) -> usize {
        // A software adapter has a few cores, and split sums only add work.
        if self.adapter.software { 1 } else { WORKGROUPS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::View;
    use crate::program::kernel::Params;

    fn open() -> (GpuEngine, Loaded) {
        let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
        let mut gpu = GpuEngine::open(&Selector::Hardware, options)
            .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
        let buffer = Buffer {
            name: "out".to_string(),
            element: Element::Float,
            len: 1,
            replicated: false,
            persistent: true,
        };
        let args = vec![View { buffer: 0, offset: 0, len: 1 }];
        let call = Call {
            kernel: Kernel::Fill,
            args,
            params: Params::Map { len: 1, scale: 0.0, shift: 1.0 },
            label: "fill".to_string(),
        };
        let loaded = gpu
            .load(&Program {
                name: "fill".to_string(),
                replicas: 1,
                buffers: vec![buffer],
                calls: vec![call],
            })
            .unwrap();
        gpu.run(loaded, 0..1).unwrap();
        assert_eq!(gpu.read("out").unwrap(), [1.0]);
        (gpu, loaded)
    }

    fn fails(mut gpu: GpuEngine, loaded: Loaded) {
        for result in [
            gpu.run(loaded, 0..1),
            gpu.wait(),
            gpu.read("out").map(|_| ()),
            gpu.write("out", Data::F32(&[2.0])),
        ] {
            assert!(matches!(result, Err(Error::Device(_))), "{result:?}");
        }
    }

    #[test]
    #[ignore = "needs a GPU adapter; tools/test.sh runs it"]
    fn a_lost_device_is_an_error_of_every_later_call() {
        let (gpu, loaded) = open();
        gpu.device.destroy();
        fails(gpu, loaded);
    }

    #[test]
    #[ignore = "needs a GPU adapter; tools/test.sh runs it"]
    fn an_error_that_nobody_waited_for_surfaces_at_the_next_call() {
        let (gpu, loaded) = open();
        let usage = BufferUsages::MAP_READ | BufferUsages::MAP_WRITE;
        let _ = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4,
            usage,
            mapped_at_creation: false,
        });
        fails(gpu, loaded);
    }
}
