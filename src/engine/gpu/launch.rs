//! How a kernel call becomes a dispatch: entry point, tile sizes and grid. Pure arithmetic, so it
//! is tested without a device.
//!
//! Nothing here depends on the number of replicas except the grid's z: a model's numbers don't
//! change with its neighbours.

use crate::geometry::Geometry;
use crate::program::kernel::{IMAGE_GRAD_TILE, Kernel, MSE_ROWS, Params, max_blocks};

/// Bytes of immediate data of every kernel: what every backend has.
pub const IMMEDIATE_BYTES: u32 = 128;

/// Words before [`Params::words`]: the step and seven replica strides.
pub const HEADER_WORDS: usize = 8;

/// Values of k that conv_w keeps in workgroup memory (`BLOCK` in its shader).
const CONV_W_BLOCK: u32 = 16;

/// Workgroups per dimension that every backend allows.
const MAX_GROUPS: u32 = 65535;

/// Workgroups of one model below which a convolution takes smaller tiles: enough for a large GPU to
/// have something to choose from.
const ENOUGH_WORKGROUPS: u64 = 256;

/// Values of a shader's `override` constants, by name.
pub type Constants = Vec<(&'static str, u32)>;

/// One dispatch.
#[derive(Clone, PartialEq, Debug)]
pub struct Launch {
    /// What specialises the shader.
    pub constants: Constants,
    /// Threads of a workgroup.
    pub workgroup_size: [u32; 3],
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// WGSL source of a shader file of the kernel table.
pub fn source(shader: &str) -> &'static str {
    match shader {
        "conv" => include_str!("../../../shaders/conv.wgsl"),
        "conv_w" => include_str!("../../../shaders/conv_w.wgsl"),
        "elementwise" => include_str!("../../../shaders/elementwise.wgsl"),
        "reduce" => include_str!("../../../shaders/reduce.wgsl"),
        "loss" => include_str!("../../../shaders/loss.wgsl"),
        "constraint" => include_str!("../../../shaders/constraint.wgsl"),
        "score" => include_str!("../../../shaders/score.wgsl"),
        "adam" => include_str!("../../../shaders/adam.wgsl"),
        "batch" => include_str!("../../../shaders/batch.wgsl"),
        _ => panic!("the kernel table names a shader '{shader}' that doesn't exist"),
    }
}

/// The dispatch of a call.
pub fn launch(kernel: Kernel, params: &Params, replicas: usize) -> Launch {
    let mut launch = match (kernel, params) {
        (Kernel::ConvY, Params::Conv { geometry: g, .. }) => conv(g.cy, g.hy, g.wy, 1, g.n),
        (Kernel::ConvX, Params::Conv { geometry: g, .. }) => conv(g.cx, g.hx, g.wx, g.stride, g.n),
        (_, Params::ConvW { geometry, splits, .. }) => conv_w(geometry, int(*splits)),
        (_, Params::SplitSum { len, .. })
        | (_, Params::Map { len, .. })
        | (_, Params::Adam { len, .. }) => flat(int(*len), 256),
        (Kernel::Broadcast, Params::Reshape { large, .. }) => {
            flat(int(large.iter().product()), 256)
        }
        (Kernel::SumTo, Params::Reshape { small, .. }) => Launch {
            workgroup_bytes: 4 * 256,
            ..fixed([256, 1, 1], fold(int(small.iter().product())))
        },
        (Kernel::Mse, Params::Mse { rows, n }) => flat(int(rows.div_ceil(MSE_ROWS) * n), 64),
        (Kernel::MseSum, Params::Mse { .. }) => {
            Launch { workgroup_bytes: 4 * 256, ..fixed([256, 1, 1], [1, 1]) }
        }
        (Kernel::Constraint, Params::Constraint { segments, .. }) => Launch {
            workgroup_bytes: 16 * 256,
            ..fixed([256, 1, 1], [int(max_blocks(segments)), int(segments.len())])
        },
        (Kernel::ConstraintSum, Params::Constraint { .. }) => {
            Launch { workgroup_bytes: 16 * 256 + 32, ..fixed([256, 1, 1], [1, 1]) }
        }
        (Kernel::ConstraintGrad, Params::Constraint { segments, .. }) => {
            let longest = segments.iter().map(|s| s.len).max().unwrap_or(0);
            fixed([256, 1, 1], [int(longest).div_ceil(256), int(segments.len())])
        }
        (_, Params::ImageGrad { geometry }) => image_grad(geometry),
        (_, Params::ImageCos { n, .. }) => {
            Launch { workgroup_bytes: 8 * 256, ..fixed([32, 8, 1], [int(*n).div_ceil(32), 1]) }
        }
        (_, Params::Gather { pixels, n }) => flat(int(pixels.div_ceil(4) * n), 64),
        (_, Params::Record { len, .. }) => fixed([64, 1, 1], [int(*len).div_ceil(64), 1]),
        (kernel, params) => panic!("{kernel:?} can't take {params:?}"),
    };
    launch.grid[2] = int(replicas);
    launch
}

fn int(v: usize) -> u32 {
    u32::try_from(v)
        .unwrap_or_else(|_| panic!("a size of {v} doesn't fit the 32 bits that shaders count with"))
}

fn fixed(workgroup_size: [u32; 3], grid: [u32; 2]) -> Launch {
    Launch {
        constants: Vec::new(),
        workgroup_size,
        workgroup_bytes: 0,
        grid: [grid[0], grid[1], 1],
    }
}

/// `count` workgroups that fill x, then y.
fn fold(count: u32) -> [u32; 2] {
    let x = count.clamp(1, MAX_GROUPS);
    [x, count.div_ceil(x)]
}

/// A thread for each of `len` elements.
fn flat(len: u32, threads: u32) -> Launch {
    fixed([threads, 1, 1], fold(len.div_ceil(threads)))
}

/// Tiles of conv_y and conv_x (`tm` x `tn` threads of four channels x four columns each): the
/// result has `channels` and `rows` x `width` positions, its columns fall into `classes` that meet
/// different taps.
fn conv(channels: usize, rows: usize, width: usize, classes: usize, n: usize) -> Launch {
    let (channels, rows, classes) = (int(channels), int(rows), int(classes));
    let columns = int(width.div_ceil(classes as usize) * n);
    let per_thread = if channels == 1 { 1 } else { 4 };
    let needed_m = channels.div_ceil(per_thread).next_power_of_two();
    let needed_n = columns.div_ceil(4).next_power_of_two();
    let mut tm = needed_m.min(16);
    // Thin tiles get long rows instead, so that a workgroup is never less than a few dozen threads.
    let mut tn = needed_n.min(64 / tm.min(4));
    let grid = |tm: u32, tn: u32| {
        [classes * columns.div_ceil(4 * tn), rows * channels.div_ceil(per_thread * tm)]
    };
    while tm * tn > 64
        && grid(tm, tn).iter().map(|&v| v as u64).product::<u64>() < ENOUGH_WORKGROUPS
    {
        if tm >= tn { tm /= 2 } else { tn /= 2 }
    }
    tn = tn.max(32 / tm.min(32));
    // Long rows with half the k of others: 16 KiB of workgroup memory is all that some devices
    // have.
    let block = if tn > 16 { 8 } else { 16 };
    let grid = grid(tm, tn);
    Launch {
        constants: vec![("tm", tm), ("tn", tn), ("per_thread", per_thread), ("block_size", block)],
        workgroup_size: [tn, tm, 1],
        workgroup_bytes: 16 * block * (tm + 1 + tn + 2),
        grid: [grid[0], grid[1], 1],
    }
}

/// Tiles of conv_w: 32 channels x 32 columns, or longer rows where there are fewer channels.
fn conv_w(g: &Geometry, splits: u32) -> Launch {
    let columns = int(g.kh * g.kw * g.cx);
    let channels = int(g.cy);
    let tm = channels.div_ceil(4).next_power_of_two().min(8);
    let tn = columns.div_ceil(4).next_power_of_two().min(64 / tm.max(2)).max(32 / tm);
    Launch {
        constants: vec![("tm", tm), ("tn", tn)],
        workgroup_size: [tn, tm, 1],
        workgroup_bytes: 16 * (CONV_W_BLOCK * (tm + 1 + tn + 1 + 2) + 4 * tn),
        grid: [columns.div_ceil(4 * tn), splits * channels.div_ceil(4 * tm), 1],
    }
}

/// `lanes` images x `slices` tiles of channels: few images leave room for more slices.
fn image_grad(g: &Geometry) -> Launch {
    let n = int(g.n);
    let tiles = int(g.cx.div_ceil(4));
    let mut lanes = n.next_power_of_two().min(32);
    let slices = tiles.next_power_of_two().min(256 / lanes);
    if slices == 1 && n > 32 {
        lanes = 64;
    }
    Launch {
        constants: vec![("lanes", lanes), ("slices", slices)],
        workgroup_size: [lanes, slices, 1],
        workgroup_bytes: 8 * lanes * slices,
        grid: [n.div_ceil(lanes), int(g.kh * g.kw * g.cy.div_ceil(IMAGE_GRAD_TILE)), 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of everything up to large layers: within what WebGPU promises on any device, and every
    /// element has an owner.
    #[test]
    fn tiles_fit_any_device_and_cover_the_result() {
        for channels in [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 64, 65, 200] {
            for n in [1, 2, 5, 16, 63, 64, 65, 200] {
                for size in [1, 3, 8, 15, 28] {
                    for classes in [1, 2, 3] {
                        let l = conv(channels, size, size, classes, n);
                        let [tm, tn, per_thread] =
                            [l.constants[0].1, l.constants[1].1, l.constants[2].1];
                        assert!(
                            (32..=256).contains(&(tm * tn)) && l.workgroup_bytes <= 16384,
                            "{l:?}"
                        );
                        assert!(
                            l.grid[0] / classes as u32 * 4 * tn >= int(size.div_ceil(classes) * n),
                            "{l:?}"
                        );
                        assert!(
                            l.grid[1] / size as u32 * per_thread * tm >= int(channels),
                            "{l:?}"
                        );
                    }
                }
                for cx in [1, 3, 4, 5, 32, 64, 65] {
                    let g = Geometry {
                        n,
                        cx,
                        cy: channels,
                        hx: 9,
                        wx: 7,
                        hy: 4,
                        wy: 3,
                        kh: 4,
                        kw: 3,
                        stride: 2,
                        padding: 1,
                    };
                    for l in [conv_w(&g, 3), image_grad(&g)] {
                        assert!(
                            l.workgroup_size.iter().product::<u32>() <= 256
                                && l.workgroup_bytes <= 16384,
                            "{l:?}"
                        );
                    }
                    let l = conv_w(&g, 3);
                    assert!(
                        l.grid[0] * 4 * l.workgroup_size[0] >= int(12 * cx)
                            && l.grid[1] / 3 * 4 * l.workgroup_size[1] >= int(channels),
                        "{l:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn long_buffers_fold_into_y() {
        assert_eq!(flat(1, 256).grid, [1, 1, 1]);
        assert_eq!(flat(65535 * 256, 256).grid, [65535, 1, 1]);
        assert_eq!(flat(65535 * 256 + 1, 256).grid, [65535, 2, 1]);
    }
}
