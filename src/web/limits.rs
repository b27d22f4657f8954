//! What every browser with WebGPU allows, and plans that keep to it.
//!
//! A page asks for no feature and no limit beyond WebGPU's defaults. Most of these hold by
//! construction: kernels have at most seven storage buffers, and views and uniform words start at
//! multiples of 256 bytes. Of a kernel's variants, only those are taken whose workgroups fit; of
//! these, the one that the cost model prefers on a laptop's GPU. All have the same bits. What is left
//! are buffers and grids, which grow with images and batches.

use crate::error::{Error, Result};
use crate::kernels::Launch;
use crate::program::dispatch::Plan;
use crate::program::predict::{CLASSES, Class, predict};
use crate::program::{Call, Program};

/// Threads of a workgroup, and in each direction.
pub const THREADS: u32 = 256;
const THREADS_BY_AXIS: [u32; 3] = [256, 256, 64];

/// Bytes of workgroup memory.
pub const WORKGROUP_BYTES: u32 = 16 << 10;

/// Workgroups in each direction.
pub const GROUPS: u32 = 65535;

/// Storage buffers of a dispatch.
pub const STORAGE_BUFFERS: usize = 8;

/// Bytes of a storage binding.
pub const BINDING_BYTES: u64 = 128 << 20;

/// The class of devices that variants are chosen for.
const LAPTOP: &str = "m2";

/// Whether every browser can run these workgroups.
pub fn fits(launch: &Launch) -> bool {
    launch.workgroup_bytes <= WORKGROUP_BYTES
        && launch.workgroup_size.iter().product::<u32>() <= THREADS
        && launch.workgroup_size.iter().zip(THREADS_BY_AXIS).all(|(&size, most)| size <= most)
}

/// The program as every browser can run it, each call in the first variant of `preferred` that fits,
/// else in the one that should be the fastest.
///
/// ```
/// use gradcon::method::programs::training_program;
/// use gradcon::program::Options;
/// use gradcon::kernels::Form;
/// use gradcon::web::limits::{WORKGROUP_BYTES, plan};
/// use gradcon::{Model, TrainConfig};
///
/// let program = |model, images| {
///     let (config, options) = (TrainConfig::default(), Options::new(1, Form::Parallel));
///     training_program(&model, &config, images, 8, options)
/// };
/// let plan_of_small = plan(&program(Model::new(1), 512), &[])?;
/// assert!(plan_of_small.dispatches.iter().all(|d| d.workgroup_bytes <= WORKGROUP_BYTES));
/// let error = plan(&program(Model::new(1), 200_000), &[]).unwrap_err().to_string();
/// assert!(error.contains("'train.data' of 156.8 MB") && error.contains("134.2 MB"), "{error}");
/// # Ok::<(), gradcon::Error>(())
/// ```
///
/// # Errors
/// A buffer or a grid is larger than the defaults allow, or a kernel has no variant that fits: which,
/// and what makes it smaller.
pub fn plan(program: &Program, preferred: &[&'static str]) -> Result<Plan> {
    let class = CLASSES.iter().find(|class| class.name == LAPTOP).unwrap_or(&CLASSES[0]);
    let plan = program.plan_by(|call| {
        let launches: Vec<Launch> = program.variants(call).into_iter().filter(fits).collect();
        let has = |name: &&&str| launches.iter().any(|launch| launch.variant == **name);
        let named = preferred.iter().find(has).copied();
        named.or_else(|| best(program, call, &launches, class)).into_iter().collect()
    });
    check(&plan)?;
    Ok(plan)
}

/// The variant which should be the fastest.
fn best(
    program: &Program,
    call: &Call,
    launches: &[Launch],
    class: &Class,
) -> Option<&'static str> {
    let bytes = call.cost(program).bytes as f64;
    let rated = launches.iter().map(|launch| {
        let us = predict(call, launch, program.replicas, bytes, class).us;
        (launch.variant, us)
    });
    rated.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(variant, _)| variant)
}

/// Errors if a plan needs more than the defaults.
fn check(plan: &Plan) -> Result<()> {
    let too_large = |what: String| {
        let problem = format!(
            "program '{}' needs more than every browser allows (WebGPU's default limits): {what}",
            plan.name
        );
        Error::TooLarge { problem, remedy: "a smaller --batch or fewer --images need less".into() }
    };
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    for buffer in &plan.buffers {
        let bytes = buffer.bytes(plan.replicas, 4).unwrap_or(u64::MAX);
        if bytes > BINDING_BYTES {
            let (found, most) = (megabytes(bytes), megabytes(BINDING_BYTES));
            return Err(too_large(format!("buffer '{}' of {found}, {most} at most", buffer.name)));
        }
    }
    for d in &plan.dispatches {
        let kernel = format!("kernel {} of '{}'", d.entry_point, d.label);
        let threads = d.workgroup_size.iter().product::<u32>();
        let found = if d.grid.iter().any(|&groups| groups > GROUPS) {
            format!("{kernel} in {:?} workgroups, {GROUPS} at most in each direction", d.grid)
        } else if threads > THREADS || d.workgroup_bytes > WORKGROUP_BYTES {
            format!(
                "{kernel} with workgroups of {threads} threads and {} bytes, {THREADS} and \
                 {WORKGROUP_BYTES} at most",
                d.workgroup_bytes
            )
        } else if d.bindings.len() > STORAGE_BUFFERS {
            format!("{kernel} with {} storage buffers, {STORAGE_BUFFERS} at most", d.bindings.len())
        } else {
            continue;
        };
        return Err(too_large(found));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Form;
    use crate::method::model::Model;
    use crate::method::programs::score_program;
    use crate::program::Options;

    #[test]
    fn whatever_is_beyond_a_limit_is_named() {
        let program = score_program(&Model::new(1), 64, 1, Options::new(1, Form::Parallel));
        let whole = plan(&program, &[]).unwrap();
        check(&whole).unwrap();
        type Change = fn(&mut Plan);
        let cases: [(Change, &str); 5] = [
            (|p| p.dispatches[3].grid[1] = GROUPS + 1, "65535 at most in each direction"),
            (|p| p.dispatches[3].workgroup_bytes = WORKGROUP_BYTES + 4, "16388 bytes"),
            (|p| p.dispatches[3].workgroup_size = [512, 1, 1], "512 threads"),
            (|p| p.buffers[0].len = usize::MAX / 8, "MB at most"),
            (
                |p| p.dispatches[3].bindings = vec![p.dispatches[3].bindings[0]; 9],
                "9 storage buffers",
            ),
        ];
        for (change, says) in cases {
            let mut plan = whole.clone();
            change(&mut plan);
            let error = check(&plan).unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
            assert!(error.to_string().contains("--batch") && error.exit_code() == 3, "{error}");
        }
    }
}
