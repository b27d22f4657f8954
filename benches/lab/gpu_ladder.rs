//! The ladder on a GPU: from a thread that asks of every tap to the product's register tiles. The
//! lab's own shaders run through a host of their own, the product's through its engine.

use std::cell::RefCell;
use std::time::Instant;

use gradcon::engine::Engine;
use gradcon::engine::gpu::AdapterSummary;
use gradcon::engine::measure::{Span, Timing};
use gradcon::geometry::Geometry;
use gradcon::kernels::tiles::TILES;
use gradcon::{Error, Result};

use crate::layer::{Layer, Product, Version, intensity};

/// A shader of the lab.
pub struct Source {
    pub name: &'static str,
    idea: &'static str,
    pub text: &'static str,
    /// Channels and images between which what is brought from memory is shared.
    serves: [usize; 2],
    /// Channels and images of a workgroup.
    tile: [usize; 2],
}

/// All of them, slowest first.
pub const SOURCES: [Source; 5] = [
    Source {
        name: "1 naive",
        idea: "every tap is asked whether it is inside",
        text: include_str!("1_naive.wgsl"),
        serves: [1, 1],
        tile: [1, 64],
    },
    Source {
        name: "2 taps",
        idea: "which taps are inside is known before",
        text: include_str!("2_taps.wgsl"),
        serves: [1, 1],
        tile: [1, 64],
    },
    Source {
        name: "3 fours",
        idea: "four images a thread, in one load",
        text: include_str!("3_fours.wgsl"),
        serves: [1, 4],
        tile: [4, 64],
    },
    Source {
        name: "4 registers",
        idea: "4 channels x 4 images a thread",
        text: include_str!("4_registers.wgsl"),
        serves: [4, 4],
        tile: [16, 64],
    },
    Source {
        name: "5 shared",
        idea: "32 channels x 32 images share what is read",
        text: include_str!("5_shared.wgsl"),
        serves: [32, 32],
        tile: [32, 32],
    },
];

/// Every version, the product's last and in every variant.
///
/// # Errors
/// A device error.
pub fn ladder<'a>(
    layer: &'a Layer,
    host: &'a Host,
    engine: &'a RefCell<Box<dyn Engine>>,
) -> Result<Vec<Box<dyn Version + 'a>>> {
    let mut versions: Vec<Box<dyn Version>> = vec![];
    for source in &SOURCES {
        versions.push(Box::new(Shader::new(layer, host, source)?));
    }
    let mut engine_now = engine.borrow_mut();
    let program = layer.program(engine_now.as_ref());
    let call = program.calls.iter().find(|call| call.kernel.name() == "conv_y");
    let call = call.expect("it was recorded");
    let variants = engine_now.tunable().map(|gpu| gpu.variants(&program, call));
    for variant in variants.unwrap_or_default() {
        let tile = TILES.iter().find(|tile| tile.name == variant);
        let intensity =
            tile.map(|tile| intensity([tile.channels() as usize, tile.columns() as usize]));
        let name = format!("6 {variant}");
        versions.push(Box::new(Product::new(layer, engine, name, Some(variant), intensity)));
    }
    Ok(versions)
}

/// As much of wgpu as it takes to run a shader.
pub struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Host {
    /// Opens the adapter that an engine has.
    ///
    /// # Errors
    /// It isn't there any more, or can't be opened twice.
    pub fn open(adapter: &AdapterSummary) -> Result<Host> {
        let failed = |why: String| Error::Device(format!("{adapter}: {why}"));
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        let instance = wgpu::Instance::new(descriptor);
        let all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let same = |found: &wgpu::Adapter| {
            let info = found.get_info();
            info.name == adapter.name && format!("{:?}", info.backend) == adapter.backend
        };
        let found = all.into_iter().find(same);
        let found = found.ok_or_else(|| failed("is not among the adapters".to_string()))?;
        let opened = pollster::block_on(found.request_device(&wgpu::DeviceDescriptor::default()));
        let (device, queue) = opened.map_err(|e| failed(e.to_string()))?;
        Ok(Host { device, queue })
    }

    fn buffer(&self, usage: wgpu::BufferUsages, size: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("lab"),
            size,
            usage: usage | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    fn filled(&self, usage: wgpu::BufferUsages, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = self.buffer(usage, bytes.len() as u64);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn wait(&self) -> Result<()> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map(drop).map_err(|e| Error::Device(format!("waiting for the device: {e}")))
    }
}

/// A shader of the lab with its operands on the device.
struct Shader<'a> {
    host: &'a Host,
    source: &'a Source,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    y: wgpu::Buffer,
    grid: [u32; 3],
}

impl<'a> Shader<'a> {
    fn new(layer: &Layer, host: &'a Host, source: &'a Source) -> Result<Shader<'a>> {
        let g = &layer.geometry;
        assert!(g.n.is_multiple_of(4), "images come in fours");
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(source.name),
            source: wgpu::ShaderSource::Wgsl(source.text.into()),
        };
        let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
        // SAFETY: as the product's, these shaders compare every index with the sizes in the
        // uniform, which are those of the buffers, end every loop and divide by no 0.
        let module = unsafe { host.device.create_shader_module_trusted(module, unchecked) };
        let pipeline = host.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(source.name),
            layout: None,
            module: &module,
            entry_point: Some("conv"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // What a kernel reads of it, it has written.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let storage = wgpu::BufferUsages::STORAGE;
        let words = host.filled(wgpu::BufferUsages::UNIFORM, bytemuck::cast_slice(&words(g)));
        let x = host.filled(storage, bytemuck::cast_slice(&layer.x));
        let w = host.filled(storage, bytemuck::cast_slice(&layer.w));
        let y = host.buffer(storage | wgpu::BufferUsages::COPY_SRC, 4 * g.y_len() as u64);
        let buffers = [&words, &x, &w, &y];
        let entries = (0..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        });
        let entries: Vec<_> = entries.collect();
        let bindings = host.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(source.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let [channels, images] = source.tile;
        let grid = [g.n.div_ceil(images), g.cy.div_ceil(channels), g.hy * g.wy];
        let grid = grid.map(|groups| groups as u32);
        Ok(Shader { host, source, pipeline, bindings, y, grid })
    }
}

/// The shaders' uniform words.
fn words(g: &Geometry) -> [u32; 12] {
    let Geometry { n, cx, cy, hx, wx, hy, wy, kh, kw, stride, padding } = *g;
    [n, cx, cy, hx, wx, hy, wy, kh, kw, stride, padding, 0].map(|word| word as u32)
}

impl Version for Shader<'_> {
    fn name(&self) -> &str {
        self.source.name
    }

    fn idea(&self) -> &str {
        self.source.idea
    }

    fn intensity(&self) -> Option<f64> {
        Some(intensity(self.source.serves))
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        let Host { device, queue } = self.host;
        // What isn't written is no number.
        let size = self.y.size();
        queue.write_buffer(&self.y, 0, &vec![0xff; size as usize]);
        self.time(1)?;
        let usage = wgpu::BufferUsages::MAP_READ;
        let staging = self.host.buffer(usage, size);
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.y, 0, &staging, 0, size);
        queue.submit([encoder.finish()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        let mapped = move |result| drop(sender.send(result));
        staging.slice(..).map_async(wgpu::MapMode::Read, mapped);
        self.host.wait()?;
        let failed = |why: String| Error::Device(format!("reading a result: {why}"));
        receiver.recv().map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let mapped = staging.slice(..).get_mapped_range().map_err(|e| failed(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&mapped))
    }

    /// By the host's clock: one submission, in which each dispatch waits for the one before.
    fn time(&mut self, times: u32) -> Result<Span> {
        let Host { device, queue } = self.host;
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y, z] = self.grid;
        (0..times).for_each(|_| pass.dispatch_workgroups(x, y, z));
        drop(pass);
        queue.submit([encoder.finish()]);
        self.host.wait()?;
        Ok(Span { seconds: start.elapsed().as_secs_f64(), clock: Timing::Wall })
    }
}
