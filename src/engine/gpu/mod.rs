//! The GPU engine: runs programs on a device through wgpu. The only room that knows wgpu.
//!
//! Loading a program makes its plan (see [`crate::program::dispatch`]), allocates its buffers,
//! fills one uniform buffer with the words of all its dispatches, compiles its pipelines and makes
//! its bind groups; a run then only records, into one encoder and one compute pass for a few steps,
//! "pipeline, bind group, dispatch" for each of them. wgpu orders dispatches that share a buffer.
//!
//! Nothing is needed beyond core WebGPU. The step's number, the only thing that changes between
//! runs, is a dynamic offset into a table of numbers.

pub(super) mod cache;
mod device;
mod peaks;
mod pipelines;
mod timing;

use std::collections::VecDeque;

use half::f16;
use wgpu::{BufferUsages, PollType};

use self::device::Gpu;
pub use self::device::{AdapterSummary, Environment, Machine, OpenOptions, Selector, adapters};
use self::pipelines::Pipelines;
use super::store::{Store, Stored};
use super::tuned::InUse;
use super::{Data, Engine, Loaded, Measure, Tunable, memory};
use crate::error::{Error, Result};
use crate::folders;
use crate::kernels::{Element, Form, Launch, REFERENCE};
use crate::program::choices::{Choice, Choices};
use crate::program::dispatch::{Dispatch, Plan, UNIFORM_BINDING, UNIFORM_BYTES};
use crate::program::predict::Class;
use crate::program::{Buffer, Call, Program};

/// Steps that are recorded and submitted together.
const STEPS_PER_SUBMIT: u32 = 8;

/// Steps that may be under way on the device before those submitted last: enough to keep it busy,
/// few enough that waiting for them takes no noticeable time.
const MAX_IN_FLIGHT: u32 = 8;

/// A dispatch, ready to be recorded.
struct Prepared {
    pipeline: usize,
    bind_group: wgpu::BindGroup,
    reads_step: bool,
    grid: [u32; 3],
}

/// Runs programs on a GPU in f32.
pub struct GpuEngine {
    gpu: Gpu,
    pipelines: Pipelines,
    steps: Steps,
    store: Store<wgpu::Buffer>,
    programs: Vec<Vec<Prepared>>,
    /// What was submitted and not waited for, with its steps.
    in_flight: VecDeque<(wgpu::SubmissionIndex, u32)>,
    /// The variant that was asked for.
    variant: Option<&'static str>,
    /// A variant that goes before what the plan says.
    forced: Option<&'static str>,
    tuned: Option<InUse>,
    /// What of the opening nobody should miss.
    warning: Option<String>,
    measuring: timing::Measuring,
}

/// Step numbers on the device, one for each place that a uniform binding may start at: kernels that
/// read the step are bound to one of them by a dynamic offset.
struct Steps {
    table: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
    /// The number in the first place.
    first: u32,
}

impl Steps {
    /// Numbers in the table.
    const COUNT: u32 = 1024;

    fn new(gpu: &Gpu, pipelines: &Pipelines) -> Result<Steps> {
        let size = u64::from(Steps::COUNT) * UNIFORM_BYTES as u64;
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let descriptor =
            wgpu::BufferDescriptor { label: Some("steps"), size, usage, mapped_at_creation: false };
        let (table, bind_group) = gpu.guarded(
            || "the table of steps".to_string(),
            |device| {
                let table = device.create_buffer(&descriptor);
                let binding = wgpu::BufferBinding {
                    buffer: &table,
                    offset: 0,
                    size: std::num::NonZeroU64::new(UNIFORM_BYTES as u64),
                };
                let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("step"),
                    layout: pipelines.step_layout(),
                    entries: &[wgpu::BindGroupEntry {
                        binding: 0,
                        resource: wgpu::BindingResource::Buffer(binding),
                    }],
                });
                (table, bind_group)
            },
        )?;
        let mut steps = Steps { table, bind_group, first: 0 };
        steps.fill(gpu, 0);
        Ok(steps)
    }

    /// Has the table begin with `first`, for whatever is submitted from now on.
    fn fill(&mut self, gpu: &Gpu, first: u32) {
        let mut words = vec![0u32; Steps::COUNT as usize * UNIFORM_BYTES / 4];
        for (number, place) in (first..).zip(words.chunks_exact_mut(UNIFORM_BYTES / 4)) {
            place[0] = number;
        }
        gpu.queue.write_buffer(&self.table, 0, bytemuck::cast_slice(&words));
        self.first = first;
    }

    /// The step behind the table's last one.
    fn end(&self) -> u32 {
        self.first.saturating_add(Steps::COUNT)
    }

    /// The offset of `step`, which the table holds from now on.
    fn offset(&mut self, gpu: &Gpu, step: u32) -> u32 {
        let first = step - step % Steps::COUNT;
        if first != self.first {
            self.fill(gpu, first);
        }
        (step - first) * UNIFORM_BYTES as u32
    }
}

impl GpuEngine {
    /// Opens an adapter.
    ///
    /// # Errors
    /// There is none such, or it can't be opened: what was asked for and what this machine has. A
    /// plan that was named and doesn't fit.
    pub fn open(selector: &Selector, options: OpenOptions) -> Result<GpuEngine> {
        let machine = Machine::look();
        let index = machine.choose(selector, options.allow_software)?;
        GpuEngine::open_adapter(&machine, index, options)
    }

    /// Opens the adapter number `index` of a machine.
    ///
    /// # Errors
    /// It can't be opened; a plan that was named and doesn't fit.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn open_adapter(
        machine: &Machine,
        index: usize,
        options: OpenOptions,
    ) -> Result<GpuEngine> {
        let gpu = device::open(machine, index, &options)?;
        let (tuned, warning) = InUse::find(&options.plan, &gpu.adapter.key())?;
        let folder =
            if options.cache { folders::cache(|name| std::env::var_os(name)) } else { None };
        let cache = folder.and_then(|folder| cache::Cache::open(&gpu, &folder));
        let pipelines = Pipelines::new(&gpu, options.shader_checks, cache)?;
        let steps = Steps::new(&gpu, &pipelines)?;
        let (store, programs) = (Store::default(), vec![]);
        let (in_flight, variant) = (VecDeque::new(), options.variant);
        let measuring = timing::Measuring::default();
        Ok(GpuEngine {
            gpu,
            pipelines,
            steps,
            store,
            programs,
            in_flight,
            variant,
            forced: None,
            tuned,
            warning,
            measuring,
        })
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.gpu.adapter
    }

    /// Why the plan of the cache folder is not used, if there is one that doesn't fit.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The variants to prefer for a call where they can run.
    fn preferred(&self, program: &Program, call: &Call) -> Vec<&str> {
        let chosen =
            self.tuned.as_ref().and_then(|t| t.choices.find(&call.kernel, program.replicas));
        // A file may name what doesn't run here.
        let runs = |choice: &&Choice| {
            let mut variants = program.variants(call).into_iter();
            variants.any(|launch| launch.variant == choice.variant && self.has_room(&launch))
        };
        let chosen = chosen.filter(runs).map(|choice| &choice.variant[..]);
        let default = self.default_variant(program, call);
        self.forced.into_iter().chain(chosen).chain([default]).collect()
    }

    /// What a call runs in that nothing is chosen for, where it has it; else the reference.
    fn default_variant(&self, program: &Program, call: &Call) -> &'static str {
        match self.variant {
            Some(variant) => variant,
            None if self.gpu.adapter.software => program.choose_in_software(call),
            None => program.choose(call, Class::like(&self.gpu.adapter.name)).0.variant,
        }
    }

    /// Whether the device has room for the workgroups of a launch, and for as many.
    fn has_room(&self, launch: &Launch) -> bool {
        let (adapter, limits) = (&self.gpu.adapter, self.gpu.device.limits());
        launch.workgroup_bytes <= adapter.workgroup_memory
            && launch.workgroup_size.iter().product::<u32>() <= adapter.workgroup_threads
            && launch.grid.iter().all(|&g| g <= limits.max_compute_workgroups_per_dimension)
    }

    /// Allocates a program's buffers and prepares its dispatches.
    fn bind(&mut self, program: &Program) -> Result<Vec<Prepared>> {
        if let Some(tuned) = &self.tuned {
            tuned.check(program)?;
        }
        let (gpu, plan) = (&self.gpu, program.plan_by(|call| self.preferred(program, call)));
        if gpu.adapter.software {
            // Its memory is the machine's.
            self.store.check_memory(&gpu.adapter.to_string(), program, 4)?;
        }
        let make = |buffer: &Buffer, total| allocate(gpu, buffer, program.replicas, total);
        let buffers = self.store.take_in(program, make)?;
        let uniforms = uniform_buffer(gpu, &plan)?;
        plan.dispatches.iter().try_for_each(|dispatch| check_grid(gpu, dispatch))?;
        self.pipelines.compile(gpu, &plan)?;
        let prepare = |(i, dispatch): (usize, &Dispatch)| {
            let offset = (i * UNIFORM_BYTES) as u64;
            let storage: Vec<(&wgpu::Buffer, u64)> = dispatch
                .bindings
                .iter()
                .map(|bound| (&self.store.at(buffers[bound.buffer]).memory, bound.offset))
                .collect();
            prepare(gpu, &self.pipelines, dispatch, &storage, (&uniforms, offset))
        };
        plan.dispatches.iter().enumerate().map(prepare).collect()
    }

    /// Records one dispatch, `times` over. `current` is the pipeline that the pass has set.
    fn record(
        &self,
        pass: &mut wgpu::ComputePass,
        prepared: &Prepared,
        (step_offset, times): (u32, u32),
        current: &mut Option<usize>,
    ) {
        if *current != Some(prepared.pipeline) {
            pass.set_pipeline(self.pipelines.at(prepared.pipeline));
            *current = Some(prepared.pipeline);
        }
        pass.set_bind_group(0, &prepared.bind_group, &[]);
        if prepared.reads_step {
            pass.set_bind_group(1, &self.steps.bind_group, &[step_offset]);
        }
        let [x, y, z] = prepared.grid;
        (0..times).for_each(|_| pass.dispatch_workgroups(x, y, z));
    }

    fn read_floats(&mut self, name: &str) -> Result<Vec<f32>> {
        let Stored { total, memory, buffer } = self.store.find_numbers(name)?;
        if *total == 0 {
            return Ok(vec![]);
        }
        let numbers = match buffer.element {
            Element::Half => {
                let bytes = (2 * *total as u64).next_multiple_of(4);
                let halves: Vec<f16> = self.gpu.fetch(memory, bytes)?;
                halves[..*total].iter().map(|v| v.to_f32()).collect()
            }
            _ => self.gpu.fetch(memory, 4 * *total as u64)?,
        };
        self.in_flight.clear();
        Ok(numbers)
    }
}

fn allocate(
    gpu: &Gpu,
    buffer: &Buffer,
    replicas: usize,
    total: Option<usize>,
) -> Result<(wgpu::Buffer, usize)> {
    let limit = gpu.adapter.max_buffer.min(gpu.adapter.max_binding);
    let bytes = buffer.bytes(replicas, 4);
    let (Some(size), Some(total)) = (bytes.filter(|&bytes| bytes <= limit), total) else {
        let what = format!("{}, buffer '{}'", gpu.adapter, buffer.name);
        let rest = format!("the device allows {} in one buffer", memory::text(limit));
        return Err(memory::lack(&what, bytes, &rest));
    };
    let size = size.next_multiple_of(4).max(4);
    let host = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let usage = if buffer.persistent { host } else { BufferUsages::empty() };
    let descriptor = wgpu::BufferDescriptor {
        label: Some(&buffer.name),
        size,
        usage: usage | BufferUsages::STORAGE,
        mapped_at_creation: false,
    };
    let memory = gpu.guarded(
        || format!("buffer '{}' of {size} bytes", buffer.name),
        |device| device.create_buffer(&descriptor),
    )?;
    Ok((memory, total))
}

/// Fills memory from its start with `bytes`: whole words, which is what wgpu copies.
fn write_words(queue: &wgpu::Queue, memory: &wgpu::Buffer, bytes: &[u8]) {
    let (words, rest) = bytes.split_at(bytes.len() - bytes.len() % 4);
    queue.write_buffer(memory, 0, words);
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        queue.write_buffer(memory, words.len() as u64, &last);
    }
}

/// The words of all dispatches, each at a place where a uniform binding may start.
fn uniform_buffer(gpu: &Gpu, plan: &Plan) -> Result<wgpu::Buffer> {
    let mut words = vec![0u32; plan.dispatches.len().max(1) * UNIFORM_BYTES / 4];
    for (place, dispatch) in words.chunks_exact_mut(UNIFORM_BYTES / 4).zip(&plan.dispatches) {
        place[..dispatch.uniforms.len()].copy_from_slice(&dispatch.uniforms);
    }
    let descriptor = wgpu::BufferDescriptor {
        label: Some("uniforms"),
        size: 4 * words.len() as u64,
        usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    };
    let what = || format!("uniforms of program '{}'", plan.name);
    let buffer = gpu.guarded(what, |device| device.create_buffer(&descriptor))?;
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
    Ok(buffer)
}

/// Errors if a dispatch has more workgroups than the device allows.
fn check_grid(gpu: &Gpu, dispatch: &Dispatch) -> Result<()> {
    let limit = gpu.device.limits().max_compute_workgroups_per_dimension;
    if dispatch.grid.iter().all(|&groups| groups <= limit) {
        return Ok(());
    }
    let problem = format!(
        "{}: {} needs {:?} workgroups, the device allows {limit} in each direction",
        gpu.adapter,
        what(dispatch),
        dispatch.grid
    );
    Err(Error::TooLarge { problem, remedy: memory::REMEDY.into() })
}

/// A dispatch, in errors.
fn what(dispatch: &Dispatch) -> String {
    format!("call '{}' of kernel {}", dispatch.label, dispatch.entry_point)
}

/// `storage` has the buffer and offset of each storage binding, `uniforms` those of the words.
fn prepare(
    gpu: &Gpu,
    pipelines: &Pipelines,
    dispatch: &Dispatch,
    storage: &[(&wgpu::Buffer, u64)],
    uniforms: (&wgpu::Buffer, u64),
) -> Result<Prepared> {
    let entry = |binding, (buffer, offset), size| wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size }),
    };
    // To the end of the buffer: later replicas lie behind the view.
    let mut entries: Vec<_> = (0..).zip(storage).map(|(i, &at)| entry(i, at, None)).collect();
    let size = std::num::NonZeroU64::new(UNIFORM_BYTES as u64);
    entries.push(entry(UNIFORM_BINDING, uniforms, size));
    let descriptor = wgpu::BindGroupDescriptor {
        label: Some(&dispatch.label),
        layout: pipelines.layout(dispatch),
        entries: &entries,
    };
    let bind_group =
        gpu.guarded(|| what(dispatch), |device| device.create_bind_group(&descriptor))?;
    let (reads_step, grid) = (dispatch.reads_step, dispatch.grid);
    Ok(Prepared { pipeline: pipelines.number(dispatch), bind_group, reads_step, grid })
}

impl Engine for GpuEngine {
    fn load(&mut self, program: &Program) -> Result<Loaded> {
        self.gpu.faults.check()?;
        program.check();
        let held = self.store.len();
        let prepared = self.bind(program).and_then(|p| self.gpu.faults.check().map(|()| p));
        if prepared.is_err() {
            // As if it had never been asked for: a smaller program may follow.
            self.store.truncate(held);
        }
        self.programs.push(prepared?);
        Ok(Loaded(self.programs.len() - 1))
    }

    fn clear(&mut self) {
        // wgpu keeps what work under way still needs.
        self.store.truncate(0);
        self.programs.clear();
    }

    fn write(&mut self, name: &str, data: Data) -> Result<()> {
        self.gpu.faults.check()?;
        let (queue, stored) = (&self.gpu.queue, self.store.find_for(name, data.len())?);
        let memory = &stored.memory;
        match (stored.buffer.element, data) {
            (Element::Float, Data::F32(d)) => {
                queue.write_buffer(memory, 0, bytemuck::cast_slice(d))
            }
            (Element::Float, Data::F64(d)) => {
                let floats: Vec<f32> = d.iter().map(|&v| v as f32).collect();
                queue.write_buffer(memory, 0, bytemuck::cast_slice(&floats));
            }
            (Element::Half, Data::F32(d)) => {
                let halves: Vec<f16> = d.iter().map(|&v| f16::from_f32(v)).collect();
                write_words(queue, memory, bytemuck::cast_slice(&halves));
            }
            (Element::Half, Data::F64(d)) => {
                let halves: Vec<f16> = d.iter().map(|&v| f16::from_f64(v)).collect();
                write_words(queue, memory, bytemuck::cast_slice(&halves));
            }
            (Element::U32, Data::U32(d)) => queue.write_buffer(memory, 0, bytemuck::cast_slice(d)),
            (Element::U8, Data::U8(d)) => write_words(queue, memory, d),
            _ => return Err(stored.wrong_type()),
        }
        self.gpu.faults.check()
    }

    fn copy_replicas(&mut self, from: &str, to: &str, replicas: &[usize]) -> Result<()> {
        self.gpu.faults.check()?;
        let [from, to] = self.store.find_pair(from, to, replicas)?;
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        for &replica in replicas {
            let range = from.replica(replica);
            let (start, bytes) = (4 * range.start as u64, 4 * range.len() as u64);
            encoder.copy_buffer_to_buffer(&from.memory, start, &to.memory, start, bytes);
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.faults.check()
    }

    fn read(&mut self, name: &str) -> Result<Vec<f64>> {
        Ok(self.read_floats(name)?.into_iter().map(f64::from).collect())
    }

    fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        self.read_floats(name)
    }

    fn run(&mut self, program: Loaded, steps: std::ops::Range<u32>) -> Result<()> {
        let mut next = steps.start;
        while next < steps.end {
            // Numbers that are written to the table now are there for all of a submission.
            self.steps.offset(&self.gpu, next);
            let end = steps.end.min(next.saturating_add(STEPS_PER_SUBMIT)).min(self.steps.end());
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            for step in next..end {
                let offset = self.steps.offset(&self.gpu, step);
                // A pass a step: what it uses first is made ready at once before it. In one pass,
                // every kernel would wait for who read its result in the step before.
                let mut pass = encoder.begin_compute_pass(&Default::default());
                let mut current = None;
                for prepared in &self.programs[program.0] {
                    self.record(&mut pass, prepared, (offset, 1), &mut current);
                }
            }
            let submitted = self.gpu.queue.submit([encoder.finish()]);
            self.in_flight.push_back((submitted, end - next));
            while self.in_flight.iter().rev().skip(1).map(|(_, n)| n).sum::<u32>() > MAX_IN_FLIGHT {
                let oldest = self.in_flight.pop_front().map(|(submitted, _)| submitted);
                self.gpu.wait(oldest)?;
            }
            self.gpu.faults.check()?;
            next = end;
        }
        // Doesn't wait; lets wgpu notice a device that is gone.
        let _ = self.gpu.device.poll(PollType::Poll);
        self.gpu.faults.check()
    }

    fn wait(&mut self) -> Result<()> {
        self.in_flight.clear();
        self.gpu.wait(None)
    }

    fn measure(&mut self) -> &mut dyn Measure {
        self
    }

    fn tunable(&mut self) -> Option<&mut dyn Tunable> {
        Some(self)
    }

    fn description(&self) -> String {
        format!("GPU engine ({})", self.gpu.adapter)
    }

    fn plan(&self) -> Option<String> {
        self.tuned.as_ref().map(|tuned| tuned.text.clone())
    }

    fn form(&self) -> Form {
        // A software adapter has a few cores, and split sums only add work.
        if self.gpu.adapter.software { Form::Serial } else { Form::Parallel }
    }
}

impl Tunable for GpuEngine {
    fn variants(&self, program: &Program, call: &Call) -> Vec<&'static str> {
        let mut launches = program.variants(call);
        launches.retain(|launch| launch.variant == REFERENCE || self.has_room(launch));
        let mut names: Vec<_> = launches.iter().map(|launch| launch.variant).collect();
        let default = self.default_variant(program, call);
        let place = names.iter().position(|name| *name == default);
        names.swap(0, place.unwrap_or(0));
        names
    }

    fn variant(&self, program: &Program, call: &Call) -> &'static str {
        let (launches, preferred) = (program.variants(call), self.preferred(program, call));
        let has = |name: &&str| launches.iter().find(|launch| launch.variant == *name);
        preferred.iter().find_map(has).map_or(REFERENCE, |launch| launch.variant)
    }

    fn force(&mut self, variant: Option<&'static str>) {
        self.forced = variant;
    }

    fn choose(&mut self, choices: Choices) {
        self.tuned = Some(InUse::choices(choices));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{self, Kernel};
    use crate::program::{Call, View};

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
        let kernel = Kernel::Memory(kernels::Memory::Fill { len: 1, value: 1.0 });
        let call = Call { kernel, args, label: "fill".to_string() };
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
        gpu.gpu.device.destroy();
        fails(gpu, loaded);
    }

    #[test]
    #[ignore = "needs a GPU adapter; tools/test.sh runs it"]
    fn an_error_that_nobody_waited_for_surfaces_at_the_next_call() {
        let (gpu, loaded) = open();
        let usage = BufferUsages::MAP_READ | BufferUsages::MAP_WRITE;
        let _ = gpu.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4,
            usage,
            mapped_at_creation: false,
        });
        fails(gpu, loaded);
    }
}
