// memory.wgsl - kernels copy and fill: memory as it is; widen and narrow: from f16 to f32 and back.
//
// Grid: a thread owns one element, of narrow two beside each other; workgroups of 256 fill x, then
// y; z = replica.

struct Params {
    len: u32, value: f32,
    stride0: u32, stride1: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> copied: array<f32>;
@group(0) @binding(0) var<storage, read_write> filled: array<f32>;
@group(0) @binding(0) var<storage, read> halves: array<u32>;
@group(0) @binding(1) var<storage, read_write> narrowed: array<u32>;

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

// a [len] f16, two to a word; out [len]: out = a.
@compute @workgroup_size(256)
fn widen(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        let at = group.z * p.stride0 + i;
        let v = unpack2x16float(halves[at / 2u]);
        copied[group.z * p.stride1 + i] = select(v.x, v.y, at % 2u == 1u);
    }
}

// a [len]; out [len] f16, two to a word: out = a, rounded.
@compute @workgroup_size(256)
fn narrow(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = 2u * element(group, grid, thread);
    if (i < p.len) {
        let at = group.z * p.stride0 + i;
        narrowed[(group.z * p.stride1 + i) / 2u] = pack2x16float(vec2<f32>(a[at], a[at + 1u]));
    }
}
