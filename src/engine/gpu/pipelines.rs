//! Shaders, layouts and pipelines, compiled at their first use, on all cores, and kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::cache::Cache;
use super::device::Gpu;
use crate::error::{Error, Result};
use crate::kernels::{SHADERS, VARIANTS};
use crate::program::dispatch::{Dispatch, Plan, UNIFORM_BINDING, UNIFORM_BYTES};

type Name = std::borrow::Cow<'static, str>;

/// What a pipeline is made of: shader, entry point, constants.
type Key = (Name, Name, BTreeMap<Name, u32>);

fn key(dispatch: &Dispatch) -> Key {
    let Dispatch { shader, entry_point, constants, .. } = dispatch;
    (shader.clone(), entry_point.clone(), constants.clone())
}

/// The results of all items, on all cores; the first error, by the items' order.
fn on_all_cores<I: Sync, O: Send>(
    items: &[I],
    make: impl Fn(&I) -> Result<O> + Sync + Send,
) -> Result<Vec<O>> {
    let made: Vec<Result<O>> = items.par_iter().map(make).collect();
    made.into_iter().collect()
}

/// An entry point's layouts, the same for all its pipelines.
struct Layout {
    bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// What has been compiled for a device.
pub(super) struct Pipelines {
    shader_checks: bool,
    step_layout: wgpu::BindGroupLayout,
    shaders: HashMap<Name, wgpu::ShaderModule>,
    /// By shader and entry point.
    layouts: HashMap<(Name, Name), Layout>,
    pipelines: Vec<wgpu::ComputePipeline>,
    known: HashMap<Key, usize>,
    /// Pipelines that an earlier process compiled.
    pub cache: Option<Cache>,
}

impl Pipelines {
    pub fn new(gpu: &Gpu, shader_checks: bool, cache: Option<Cache>) -> Result<Pipelines> {
        let step_layout = gpu.guarded(
            || "layout of the step".to_string(),
            |device| {
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some("step"),
                    entries: &[uniform(0, true, 4)],
                })
            },
        )?;
        Ok(Pipelines {
            shader_checks,
            step_layout,
            shaders: HashMap::new(),
            layouts: HashMap::new(),
            pipelines: vec![],
            known: HashMap::new(),
            cache,
        })
    }

    /// The layout of group 1 of kernels that read the step's number.
    pub fn step_layout(&self) -> &wgpu::BindGroupLayout {
        &self.step_layout
    }

    /// The layout of group 0 of a dispatch that has a pipeline.
    pub fn layout(&self, dispatch: &Dispatch) -> &wgpu::BindGroupLayout {
        &self.layouts[&(dispatch.shader.clone(), dispatch.entry_point.clone())].bindings
    }

    /// The pipeline of this number.
    pub fn at(&self, pipeline: usize) -> &wgpu::ComputePipeline {
        &self.pipelines[pipeline]
    }

    /// The number of the pipeline of a dispatch whose plan was compiled.
    pub fn number(&self, dispatch: &Dispatch) -> usize {
        self.known[&key(dispatch)]
    }

    /// Compiles what a plan needs and nobody needed before.
    pub fn compile(&mut self, gpu: &Gpu, plan: &Plan) -> Result<()> {
        let mut seen = HashSet::new();
        let is_new = |d: &&Dispatch| !self.known.contains_key(&key(d)) && seen.insert(key(d));
        let new: Vec<&Dispatch> = plan.dispatches.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        new.iter().try_for_each(|dispatch| check_workgroup(gpu, dispatch))?;
        let shaders = new.iter().map(|dispatch| &dispatch.shader);
        let shaders: BTreeSet<&Name> =
            shaders.filter(|&shader| !self.shaders.contains_key(shader)).collect();
        let shaders: Vec<&Name> = shaders.into_iter().collect();
        let modules = on_all_cores(&shaders, |shader| self.compile_shader(gpu, shader))?;
        self.shaders.extend(shaders.into_iter().cloned().zip(modules));
        for dispatch in &new {
            let entry = (dispatch.shader.clone(), dispatch.entry_point.clone());
            if !self.layouts.contains_key(&entry) {
                let layout = self.make_layout(gpu, dispatch)?;
                self.layouts.insert(entry, layout);
            }
        }
        let pipelines = on_all_cores(&new, |dispatch| self.make(gpu, dispatch))?;
        let numbers = self.pipelines.len()..;
        self.known.extend(new.into_iter().map(key).zip(numbers));
        self.pipelines.extend(pipelines);
        if let Some(cache) = &mut self.cache {
            cache.save();
        }
        Ok(())
    }

    /// A dispatch's pipeline.
    fn make(&self, gpu: &Gpu, dispatch: &Dispatch) -> Result<wgpu::ComputePipeline> {
        let Dispatch { shader, entry_point, constants, .. } = dispatch;
        let constants: Vec<(&str, f64)> =
            constants.iter().map(|(name, value)| (name.as_ref(), f64::from(*value))).collect();
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(entry_point),
            layout: Some(&self.layouts[&(shader.clone(), entry_point.clone())].pipeline),
            module: &self.shaders[shader],
            entry_point: Some(entry_point),
            // Every kernel writes workgroup memory before it reads it.
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref().map(|cache| &cache.pipelines),
        };
        gpu.guarded(
            || format!("kernel {entry_point}"),
            |device| device.create_compute_pipeline(&descriptor),
        )
    }

    fn compile_shader(&self, gpu: &Gpu, shader: &str) -> Result<wgpu::ShaderModule> {
        let mut files = SHADERS.iter().chain(&VARIANTS);
        let source = files.find(|s| s.name == shader).map(|s| s.text());
        let source = source
            .ok_or_else(|| Error::invalid(format!("a dispatch names no shader: '{shader}'")))?;
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader),
            source: wgpu::ShaderSource::Wgsl(source),
        };
        gpu.guarded(
            || format!("shader {shader}"),
            |device| match self.shader_checks {
                true => device.create_shader_module(descriptor),
                // SAFETY: the shaders are part of this crate, compare every index with a size that
                // load() has checked against the buffer, end every loop and divide by sizes that
                // aren't 0. The twin tests run each kernel with the checks on as well.
                false => unsafe {
                    let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
                    device.create_shader_module_trusted(descriptor, unchecked)
                },
            },
        )
    }

    fn make_layout(&self, gpu: &Gpu, dispatch: &Dispatch) -> Result<Layout> {
        let storage = |(binding, bound): (u32, &crate::program::dispatch::Bound)| {
            let ty = wgpu::BufferBindingType::Storage { read_only: bound.read_only };
            buffer(binding, ty, false, None)
        };
        let mut entries: Vec<_> = (0..).zip(&dispatch.bindings).map(storage).collect();
        entries.push(uniform(UNIFORM_BINDING, false, UNIFORM_BYTES as u64));
        let label = Some(&*dispatch.entry_point);
        gpu.guarded(
            || format!("layout of kernel {}", dispatch.entry_point),
            |device| {
                let descriptor = wgpu::BindGroupLayoutDescriptor { label, entries: &entries };
                let bindings = device.create_bind_group_layout(&descriptor);
                let groups = [Some(&bindings), Some(&self.step_layout)];
                let count = if dispatch.reads_step { 2 } else { 1 };
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label,
                    bind_group_layouts: &groups[..count],
                    immediate_size: 0,
                });
                Layout { bindings, pipeline }
            },
        )
    }
}

/// Errors if the device has no room for a workgroup; wgpu doesn't look where overrides make it.
fn check_workgroup(gpu: &Gpu, dispatch: &Dispatch) -> Result<()> {
    let threads = dispatch.workgroup_size.iter().product::<u32>();
    let (most_bytes, most_threads) = (gpu.adapter.workgroup_memory, gpu.adapter.workgroup_threads);
    if dispatch.workgroup_bytes <= most_bytes && threads <= most_threads {
        return Ok(());
    }
    Err(Error::Device(format!(
        "{}: kernel {} needs workgroups of {threads} threads and {} bytes, the device allows \
         {most_threads} and {most_bytes}",
        gpu.adapter, dispatch.entry_point, dispatch.workgroup_bytes,
    )))
}

fn buffer(
    binding: u32,
    ty: wgpu::BufferBindingType,
    has_dynamic_offset: bool,
    min_binding_size: Option<std::num::NonZeroU64>,
) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    }
}

fn uniform(binding: u32, dynamic: bool, bytes: u64) -> wgpu::BindGroupLayoutEntry {
    let size = std::num::NonZeroU64::new(bytes);
    buffer(binding, wgpu::BufferBindingType::Uniform, dynamic, size)
}
