//! What a GPU can do at best: multiply-adds, reading workgroup memory, its cache and its memory,
//! copying, dispatches without work, a submission and its end.

use wgpu::BufferUsages;

use super::device::Gpu;
use crate::engine::measure::{Probe, Roof, Work};
use crate::engine::memory;
use crate::error::{Error, Result};

/// Bytes that lie in a GPU's last cache.
const CACHED: u64 = 16 << 20;

/// Threads of a workgroup.
const GROUP: u32 = 256;

/// Bytes of a vector.
const VECTOR: u64 = 16;

/// What a probe does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// A kernel of `shaders/peaks.wgsl`; the results of its threads, where they tell of its work.
    Kernel(&'static str, Expected),
    /// Submits an empty pass and waits for it.
    Submit,
}

/// The four results of a thread.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Expected {
    /// All the same.
    All(f32),
    /// This and eight times the thread's number modulo 8.
    ByThread(f32),
    /// None.
    Nothing,
}

/// A kernel with its bindings.
struct Ready {
    pipeline: wgpu::ComputePipeline,
    bind_group: Option<wgpu::BindGroup>,
    groups: u32,
}

/// The probes of a device.
pub(super) struct Peaks {
    probes: Vec<(Probe, Kind, Option<Ready>)>,
    checked: Vec<bool>,
    /// Overwrites `source`.
    fill: Ready,
    result: wgpu::Buffer,
    threads: u32,
}

/// Makes kernels ready.
struct Maker<'g> {
    gpu: &'g Gpu,
    shader: wgpu::ShaderModule,
    threads: u32,
}

impl Maker<'_> {
    /// A kernel with its words, the number of its workgroups, and which of the buffers it binds.
    fn ready(&self, entry: &str, words: [u32; 2], groups: u32, bound: &Bound) -> Result<Ready> {
        let gpu = self.gpu;
        let what = || format!("peak {entry}");
        let pipeline = gpu.guarded(what, |device| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: None,
                module: &self.shader,
                entry_point: Some(entry),
                // What a kernel reads of it, it has written.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            })
        })?;
        if bound.is_empty() {
            return Ok(Ready { pipeline, bind_group: None, groups });
        }
        let [count, passes] = words;
        let words = [self.threads, count, passes, 1f32.to_bits()];
        let bind_group = gpu.guarded(what, |device| {
            let uniform = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("peak"),
                size: 16,
                usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            gpu.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&words));
            let mut entries =
                vec![wgpu::BindGroupEntry { binding: 0, resource: uniform.as_entire_binding() }];
            entries.extend(bound.iter().map(|&(binding, buffer, size)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(size),
                }),
            }));
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("peak"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        })?;
        Ok(Ready { pipeline, bind_group: Some(bind_group), groups })
    }
}

/// Storage bindings: number, buffer, bytes.
type Bound<'b> = [(u32, &'b wgpu::Buffer, u64)];

impl Peaks {
    pub fn new(gpu: &Gpu) -> Result<Peaks> {
        let adapter = &gpu.adapter;
        let shader = gpu.guarded(
            || "shader peaks".to_string(),
            |device| {
                let source = include_str!("../../../shaders/peaks.wgsl");
                let descriptor = wgpu::ShaderModuleDescriptor {
                    label: Some("peaks"),
                    source: wgpu::ShaderSource::Wgsl(source.into()),
                };
                // SAFETY: all indices are below `threads` or `count`, which the bindings hold (see
                // the sizes below), or masked to the tile; all loops end.
                unsafe {
                    let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
                    device.create_shader_module_trusted(descriptor, unchecked)
                }
            },
        )?;
        // A software adapter has few cores, and its memory is the machine's.
        let discrete = adapter.device_type == "discrete GPU";
        let threads: u32 = if adapter.software { 1 << 14 } else { 1 << 18 };
        let wanted: u64 = if discrete { 1 << 30 } else { 256 << 20 };
        let mut most = adapter.max_buffer.min(adapter.max_binding);
        if adapter.software {
            most = most.min(memory::available().map_or(u64::MAX, |bytes| bytes / 8));
        }
        // A power of two, so that every thread has whole rounds.
        let bytes = wanted.min(1 << most.max(1).ilog2());
        if bytes < 2 * CACHED {
            let rest = format!("the device allows {} in one buffer", memory::text(most));
            return Err(memory::lack("memory to be read", Some(2 * CACHED), &rest));
        }
        let allocate = |label: &str, size: u64| {
            gpu.guarded(
                || format!("buffer '{label}' of {size} bytes"),
                |device| {
                    device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some(label),
                        size,
                        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
                        mapped_at_creation: false,
                    })
                },
            )
        };
        let half = bytes / 2;
        let (source, result) = (allocate("source", bytes)?, allocate("result", half)?);
        let maker = Maker { gpu, shader, threads };
        let groups = threads / GROUP;
        let vectors = |bytes: u64| (bytes / VECTOR) as u32;
        let written = (2, &result, half);

        let mut probes = vec![];
        let per_thread = f64::from(threads);
        let fmas: u32 = if adapter.software { 32 } else { 256 };
        let sum = (28 + 8 * 4 * fmas) as f32;
        for (entry, name, lanes) in
            [("fma_scalar", "fma scalar", 1.0), ("fma_vec4", "fma vec4", 4.0)]
        {
            let work = Work::Flops(2.0 * 8.0 * 4.0 * lanes * f64::from(fmas) * per_thread);
            let shape = format!("8 chains, {threads} threads");
            let probe = probe(name, shape, work, Some(Roof::Compute));
            let ready = maker.ready(entry, [fmas, 1], groups, &[written])?;
            probes.push((probe, Kind::Kernel(entry, Expected::ByThread(sum)), Some(ready)));
        }
        let work = Work::Bytes(8.0 * VECTOR as f64 * f64::from(fmas) * per_thread);
        let shape = format!("8 KiB a workgroup, {groups} workgroups");
        let tile = maker.ready("read_tile", [fmas, 1], groups, &[written])?;
        let kind = Kind::Kernel("read_tile", Expected::All((8 * fmas) as f32));
        probes.push((probe("read workgroup memory", shape, work, None), kind, Some(tile)));

        let reads = [
            ("read L2", CACHED, 32, Roof::Memory(0)),
            ("read DRAM", bytes, 1, Roof::Memory(CACHED)),
        ];
        for (name, bytes, passes, roof) in reads {
            let work = Work::Bytes((bytes * passes) as f64);
            let mut probe = probe(name, format!("{} MiB", bytes >> 20), work, Some(roof));
            if roof != Roof::Memory(0) && bytes <= 4 * CACHED {
                probe.missing = Some(format!(
                    "the device allows {} in one buffer, no more than caches hold",
                    memory::text(most)
                ));
                probe.roof = None;
            }
            let words = [vectors(bytes), passes as u32];
            let bound = [(1, &source, bytes), written];
            let ready = maker.ready("read_buffer", words, groups, &bound)?;
            let all = (bytes * passes / VECTOR) as f64 / per_thread;
            let kind = Kind::Kernel("read_buffer", Expected::All(all as f32));
            probes.push((probe, kind, Some(ready)));
        }
        let shape = format!("{} MiB", half >> 20);
        let bound = [(1, &source, half), written];
        let copy = maker.ready("copy_buffer", [vectors(half), 1], groups, &bound)?;
        let kind = Kind::Kernel("copy_buffer", Expected::All(1.0));
        let work = Work::Bytes(2.0 * half as f64);
        probes.push((probe("copy DRAM", shape, work, None), kind, Some(copy)));

        let free = maker.ready("empty", [0, 0], 1, &[])?;
        let kind = Kind::Kernel("empty", Expected::Nothing);
        probes.push((probe("dispatch", "empty".into(), Work::Once, None), kind, Some(free)));
        let ordered = maker.ready("ordered", [0, 0], 1, &[written])?;
        let kind = Kind::Kernel("ordered", Expected::Nothing);
        let shape = "empty, each after the last".to_string();
        let launch = probe("dispatch in order", shape, Work::Once, Some(Roof::Launch));
        probes.push((launch, kind, Some(ordered)));
        let shape = "an empty pass, waited for".to_string();
        probes.push((probe("submit", shape, Work::Once, None), Kind::Submit, None));

        let fill =
            maker.ready("fill_buffer", [vectors(bytes), 1], groups, &[(2, &source, bytes)])?;
        let checked = vec![false; probes.len()];
        let peaks = Peaks { probes, checked, fill, result, threads };
        // What is read has to be there, also where a device keeps zeros without memory.
        peaks.flush(gpu)?;
        Ok(peaks)
    }

    pub fn probes(&self) -> Vec<Probe> {
        self.probes.iter().map(|(probe, ..)| probe.clone()).collect()
    }

    /// Whether a probe is a submission and no kernel.
    pub fn is_submission(&self, probe: usize) -> bool {
        self.probes[probe].1 == Kind::Submit
    }

    /// Records `times` dispatches of a probe.
    pub fn record(&self, pass: &mut wgpu::ComputePass, probe: usize, times: u32) {
        if let Some(ready) = &self.probes[probe].2 {
            ready.record(pass, times);
        }
    }

    /// Overwrites more than the caches hold.
    pub fn flush(&self, gpu: &Gpu) -> Result<()> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        self.fill.record(&mut encoder.begin_compute_pass(&Default::default()), 1);
        let done = gpu.queue.submit([encoder.finish()]);
        gpu.wait(Some(done))
    }

    /// Runs a probe once, unless its result is known to be right.
    pub fn check(&mut self, gpu: &Gpu, probe: usize) -> Result<()> {
        let (about, kind, ready) = &self.probes[probe];
        if let (false, Kind::Kernel(entry, expected), Some(ready)) =
            (self.checked[probe], kind, ready)
        {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            ready.record(&mut encoder.begin_compute_pass(&Default::default()), 1);
            gpu.queue.submit([encoder.finish()]);
            let found: Vec<f32> = gpu.fetch(&self.result, u64::from(self.threads) * VECTOR)?;
            check(&found, *expected).map_err(|why| {
                Error::Verification(format!("peak '{}' ({entry}): {why}", about.name))
            })?;
        }
        self.checked[probe] = true;
        Ok(())
    }
}

fn probe(name: &str, shape: String, work: Work, roof: Option<Roof>) -> Probe {
    Probe { name: name.to_string(), shape, work, roof, missing: None }
}

impl Ready {
    fn record(&self, pass: &mut wgpu::ComputePass, times: u32) {
        pass.set_pipeline(&self.pipeline);
        if let Some(bind_group) = &self.bind_group {
            pass.set_bind_group(0, bind_group, &[]);
        }
        (0..times).for_each(|_| pass.dispatch_workgroups(self.groups, 1, 1));
    }
}

/// Whether every thread has its result.
fn check(found: &[f32], expected: Expected) -> std::result::Result<(), String> {
    let wanted = |thread: usize| match expected {
        Expected::All(v) => Some(v),
        Expected::ByThread(v) => Some(v + 8.0 * (thread % 8) as f32),
        Expected::Nothing => None,
    };
    for (i, &found) in found.iter().enumerate() {
        if let Some(wanted) = wanted(i / 4)
            && found != wanted
        {
            return Err(format!("thread {} has {found}, expected {wanted}", i / 4));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_its_result_is_named() {
        let right: Vec<f32> = (0..64).map(|i| 5.0 + 8.0 * (i / 4 % 8) as f32).collect();
        assert_eq!(check(&right, Expected::ByThread(5.0)), Ok(()));
        assert_eq!(check(&right, Expected::Nothing), Ok(()));
        let mut wrong = right.clone();
        wrong[37] = f32::NAN;
        let why = check(&wrong, Expected::ByThread(5.0)).unwrap_err();
        assert_eq!(why, "thread 9 has NaN, expected 13");
        assert!(check(&right, Expected::All(5.0)).is_err());
    }
}
