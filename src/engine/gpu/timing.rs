//! How long something takes on the device: by its own clock where it has one.

use std::time::Instant;

use wgpu::BufferUsages;

use super::GpuEngine;
use super::device::Gpu;
use super::peaks::Peaks;
use crate::engine::Loaded;
use crate::engine::measure::{Facts, Measure, Probe, Span, Timing};
use crate::error::Result;

/// A device clock that sees nothing of so many seconds does not run.
const NOTICEABLE: f64 = 1e-3;

/// What measurements need, made when they are first asked for.
#[derive(Default)]
pub(super) struct Measuring {
    clock: Clock,
    peaks: Option<Peaks>,
}

/// The device's clock.
#[derive(Default, Clone)]
enum Clock {
    /// Not asked for yet.
    #[default]
    Unknown,
    /// There is none, or it doesn't run.
    Missing,
    /// Two timestamps, and where they can be read.
    Here(wgpu::QuerySet, wgpu::Buffer),
}

impl Clock {
    fn new(gpu: &Gpu) -> Result<Clock> {
        if !gpu.adapter.timestamps {
            return Ok(Clock::Missing);
        }
        gpu.guarded(
            || "timestamps".to_string(),
            |device| {
                let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count: 2,
                });
                let ticks = device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("ticks"),
                    size: 16,
                    usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                });
                Clock::Here(queries, ticks)
            },
        )
    }
}

impl GpuEngine {
    /// Seconds of what `record` records into a pass of its own.
    fn time(&mut self, record: impl Fn(&GpuEngine, &mut wgpu::ComputePass)) -> Result<Span> {
        if matches!(self.measuring.clock, Clock::Unknown) {
            self.measuring.clock = Clock::new(&self.gpu)?;
        }
        if let Clock::Here(queries, ticks) = self.measuring.clock.clone() {
            let start = Instant::now();
            let seconds = on_device(&self.gpu, (&queries, &ticks), |pass| record(self, pass))?;
            if seconds > 0.0 {
                return Ok(Span { seconds, clock: Timing::Device });
            }
            if seconds == 0.0 && start.elapsed().as_secs_f64() < NOTICEABLE {
                // Less than a tick: no more than that.
                let seconds = f64::from(self.gpu.queue.get_timestamp_period()) * 1e-9;
                return Ok(Span { seconds, clock: Timing::Device });
            }
            self.measuring.clock = Clock::Missing;
        }
        let seconds = on_host(&self.gpu, |pass| record(self, pass))?;
        Ok(Span { seconds, clock: Timing::Wall })
    }

    fn peaks(&mut self) -> Result<&mut Peaks> {
        let peaks = match self.measuring.peaks.take() {
            Some(peaks) => peaks,
            None => Peaks::new(&self.gpu)?,
        };
        Ok(self.measuring.peaks.insert(peaks))
    }
}

impl Measure for GpuEngine {
    fn time_call(&mut self, program: Loaded, call: usize, step: u32, times: u32) -> Result<Span> {
        let offset = self.steps.offset(&self.gpu, step);
        self.time(|engine, pass| {
            engine.record(pass, &engine.programs[program.0][call], (offset, times), &mut None);
        })
    }

    fn flush_caches(&mut self) -> Result<()> {
        self.peaks()?;
        match &self.measuring.peaks {
            Some(peaks) => peaks.flush(&self.gpu),
            None => Ok(()),
        }
    }

    fn probes(&mut self) -> Result<Vec<Probe>> {
        Ok(self.peaks()?.probes())
    }

    fn time_probe(&mut self, probe: usize, times: u32) -> Result<Span> {
        // Taken out for as long as it needs the engine.
        self.peaks()?;
        let Some(mut peaks) = self.measuring.peaks.take() else {
            unreachable!("made a line above")
        };
        let checked = peaks.check(&self.gpu, probe);
        let span = checked.and_then(|()| match peaks.is_submission(probe) {
            true => {
                let start = Instant::now();
                (0..times).try_for_each(|_| on_host(&self.gpu, |_| ()).map(drop))?;
                Ok(Span { seconds: start.elapsed().as_secs_f64(), clock: Timing::Wall })
            }
            false => self.time(|_, pass| peaks.record(pass, probe, times)),
        });
        self.measuring.peaks = Some(peaks);
        span
    }

    fn facts(&self) -> Facts {
        let adapter = &self.gpu.adapter;
        Facts {
            name: adapter.name.clone(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            kind: adapter.device_type.to_string(),
            threads: 0,
        }
    }
}

/// Seconds of a pass by the host's clock, its submission included.
fn on_host(gpu: &Gpu, record: impl FnOnce(&mut wgpu::ComputePass)) -> Result<f64> {
    let start = Instant::now();
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    record(&mut encoder.begin_compute_pass(&Default::default()));
    let done = gpu.queue.submit([encoder.finish()]);
    gpu.wait(Some(done))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The same by the device's clock; 0 or less if the device wrote no times.
fn on_device(
    gpu: &Gpu,
    (queries, ticks): (&wgpu::QuerySet, &wgpu::Buffer),
    record: impl FnOnce(&mut wgpu::ComputePass),
) -> Result<f64> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
        query_set: queries,
        beginning_of_pass_write_index: Some(0),
        end_of_pass_write_index: Some(1),
    });
    let label = Some("timing");
    let pass = wgpu::ComputePassDescriptor { label, timestamp_writes };
    record(&mut encoder.begin_compute_pass(&pass));
    encoder.resolve_query_set(queries, 0..2, ticks, 0);
    gpu.queue.submit([encoder.finish()]);
    let ticks: Vec<u64> = gpu.fetch(ticks, 16)?;
    Ok((ticks[1] as f64 - ticks[0] as f64) * f64::from(gpu.queue.get_timestamp_period()) * 1e-9)
}
