// memory.wgsl - kernels copy and fill: memory as it is.
//
// Grid: a thread owns one element; workgroups of 256 fill x, then y; z = replica.

struct Params {
    len: u32, value: f32,
    stride0: u32, stride1: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> copied: array<f32>;
@group(0) @binding(0) var<storage, read_write> filled: array<f32>;

// The thread's element; >= len beyond the end.
fn element(group: vec3<u32>, grid: vec3<u32>, thread: u32) -> u32 {
    return (group.y * grid.x + group.x) * 256u + thread;
}

// a, out [len]: out = a.
@compute @workgroup_size(256)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        copied[group.z * p.stride1 + i] = a[group.z * p.stride0 + i];
    }
}

// out [len]: out = value.
@compute @workgroup_size(256)
fn fill(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        filled[group.z * p.stride0 + i] = p.value;
    }
}
