//! `gradcon devices`

use crate::engine::cpu;
use crate::engine::device::{Choice, Device};
use crate::engine::gpu::Machine;
use crate::error::Result;
use crate::output::outln;

/// List the devices that can compute: GPU adapters with backend, driver, type and limits, and the
/// CPU engine.
///
/// A number or part of a name is what `--device` takes: `gradcon demo --device gpu:0`, `--device
/// radeon`. The last line says what `auto` stands for, and why.
#[derive(clap::Args)]
pub struct DevicesArgs {
    /// As JSON, one object a device.
    #[arg(long)]
    json: bool,
}

pub fn run(args: DevicesArgs) -> Result<()> {
    let machine = Machine::look();
    let adapters = &machine.adapters;
    let cpu = cpu::f32().description();
    // What the others open, and why.
    let auto = Device::Auto.choose(&machine, false);
    let is_auto = |choice| auto.as_ref().is_ok_and(|(auto, _)| *auto == choice);
    if args.json {
        for a in adapters {
            let line = serde_json::json!({
                "device": format!("gpu:{}", a.index), "name": a.name, "backend": a.backend,
                "driver": a.driver, "type": a.device_type, "software": a.software,
                "max_buffer_bytes": a.max_buffer, "max_binding_bytes": a.max_binding,
                "workgroup_memory_bytes": a.workgroup_memory,
                "workgroup_threads": a.workgroup_threads, "timestamps": a.timestamps,
                "lacks": a.lacks,
                "auto": is_auto(Choice::Gpu(a.index)),
            });
            outln!("{line}")?;
        }
        outln!(
            "{}",
            serde_json::json!({ "device": "cpu", "name": cpu, "auto": is_auto(Choice::Cpu) })
        )?;
        return Ok(());
    }
    for a in adapters {
        outln!("gpu:{}  {}", a.index, a.name)?;
        outln!("       {} through {}, driver {}", a.device_type, a.backend, a.driver)?;
        outln!(
            "       buffers to {} MiB, bindings to {} MiB, workgroups of {} threads with {} KiB, \
             timestamps {}",
            a.max_buffer >> 20,
            a.max_binding >> 20,
            a.workgroup_threads,
            a.workgroup_memory >> 10,
            if a.timestamps { "yes" } else { "no" }
        )?;
        if a.software {
            outln!("       software: taken only by name or number, or with --allow-software")?;
        }
        if let Some(lacks) = &a.lacks {
            outln!("       can't run the kernels: they need {lacks}")?;
        }
    }
    if adapters.is_empty() && machine.hints.is_empty() {
        outln!(
            "no GPU adapter through Vulkan, Metal or DX12 (on Debian and Ubuntu the package \
             mesa-vulkan-drivers brings drivers)"
        )?;
    }
    outln!("cpu    {cpu}")?;
    match auto {
        Ok((choice, notes)) => {
            outln!("auto   {choice}")?;
            for note in notes {
                outln!("       {note}")?;
            }
        }
        Err(error) => outln!("auto   an error: {error}")?,
    }
    Ok(())
}
