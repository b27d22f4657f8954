//! How long each dispatch takes: by the device's own clock where it has one.

use std::time::Instant;

use wgpu::BufferUsages;

use super::device::Gpu;
use super::{GpuEngine, Prepared};
use crate::engine::Timing;
use crate::error::Result;

/// A measurement on the device repeats a dispatch until it takes this long, in seconds.
const LONG_ENOUGH: f64 = 1e-3;

/// Most repetitions of a dispatch in one measurement.
const MAX_REPEATS: u32 = 1 << 12;

/// Two timestamps of the device.
struct Clock {
    queries: wgpu::QuerySet,
    ticks: wgpu::Buffer,
}

impl Clock {
    /// The device's clock, if it has one.
    fn new(gpu: &Gpu) -> Result<Option<Clock>> {
        if !gpu.adapter.timestamps {
            return Ok(None);
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
                Some(Clock { queries, ticks })
            },
        )
    }
}

/// Seconds of every dispatch of a program, each the least of `repeats` measurements.
pub(super) fn time_calls(
    engine: &GpuEngine,
    program: usize,
    step_offset: u32,
    repeats: usize,
) -> Result<(Vec<f64>, Timing)> {
    let calls = &engine.programs[program];
    if let Some(clock) = Clock::new(&engine.gpu)?
        && let Some(seconds) = time_all(engine, Some(&clock), calls, step_offset, repeats)?
    {
        return Ok((seconds, Timing::Device));
    }
    let seconds = time_all(engine, None, calls, step_offset, repeats)?;
    Ok((seconds.unwrap_or_default(), Timing::Wall))
}

/// The least of `repeats` measurements of every dispatch; None if the device's clock doesn't run.
fn time_all(
    engine: &GpuEngine,
    clock: Option<&Clock>,
    calls: &[Prepared],
    step_offset: u32,
    repeats: usize,
) -> Result<Option<Vec<f64>>> {
    let mut least = Vec::with_capacity(calls.len());
    for call in calls {
        // A pipeline's first dispatch may still compile it.
        on_host(engine, call, (step_offset, 1))?;
        let mut seconds = f64::INFINITY;
        for _ in 0..repeats.max(1) {
            match time_one(engine, clock, call, step_offset)? {
                Some(measured) => seconds = seconds.min(measured),
                None => return Ok(None),
            }
        }
        least.push(seconds);
    }
    Ok(Some(least))
}

/// Seconds per repetition of a dispatch, over enough repetitions to be measurable; None if the
/// device's clock doesn't run.
fn time_one(
    engine: &GpuEngine,
    clock: Option<&Clock>,
    call: &Prepared,
    step_offset: u32,
) -> Result<Option<f64>> {
    let mut times = 1;
    loop {
        let seconds = match clock {
            Some(clock) => on_device(engine, clock, call, (step_offset, times))?,
            None => on_host(engine, call, (step_offset, times))?,
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

/// Seconds of repetitions of a dispatch, by the host's clock.
fn on_host(engine: &GpuEngine, call: &Prepared, at: (u32, u32)) -> Result<f64> {
    let start = Instant::now();
    let mut encoder = engine.gpu.device.create_command_encoder(&Default::default());
    engine.record(&mut encoder.begin_compute_pass(&Default::default()), call, at, &mut None);
    let done = engine.gpu.queue.submit([encoder.finish()]);
    engine.gpu.wait(Some(done))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The same by the device's clock, in a pass of their own; 0 or less if the device wrote no times.
fn on_device(engine: &GpuEngine, clock: &Clock, call: &Prepared, at: (u32, u32)) -> Result<f64> {
    let gpu = &engine.gpu;
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
        query_set: &clock.queries,
        beginning_of_pass_write_index: Some(0),
        end_of_pass_write_index: Some(1),
    });
    let label = Some("timing");
    let pass = wgpu::ComputePassDescriptor { label, timestamp_writes };
    engine.record(&mut encoder.begin_compute_pass(&pass), call, at, &mut None);
    encoder.resolve_query_set(&clock.queries, 0..2, &clock.ticks, 0);
    gpu.queue.submit([encoder.finish()]);
    let ticks: Vec<u64> = gpu.fetch(&clock.ticks, 16)?;
    Ok((ticks[1] as f64 - ticks[0] as f64) * gpu.queue.get_timestamp_period() as f64 * 1e-9)
}
