// elementwise.wgsl - kernels add, mul, affine, relu, relu_grad, sigmoid, sigmoid_grad, inv_norm, copy, fill.
//
// Every buffer is [len]: an activation, a weight or a flat group of tensors; shapes don't matter here.
//
// Grid: a thread owns one element; workgroups of 256 fill x, then y; z = replica.

struct Immediates {
    step: u32,
    stride0: u32, stride1: u32, stride2: u32, none_a: u32, none_b: u32, none_c: u32, none_d: u32,
    len: u32, scale: f32, shift: f32,
}
var<immediate> p: Immediates;

// Inputs come first; the result follows at the next binding, so its place depends on the number of inputs.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(0) var<storage, read_write> out0: array<f32>;
@group(0) @binding(1) var<storage, read_write> out1: array<f32>;
@group(0) @binding(2) var<storage, read_write> out2: array<f32>;

// The thread's element; >= len beyond the end.
fn element(group: vec3<u32>, grid: vec3<u32>, thread: u32) -> u32 {
    return (group.y * grid.x + group.x) * 256u + thread;
}

// a, b, out [len]: out = a + b.
@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out2[group.z * p.stride2 + i] = a[group.z * p.stride0 + i] + b[group.z * p.stride1 + i];
    }
}

// a, b, out [len]: out = a * b.
@compute @workgroup_size(256)
fn mul(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out2[group.z * p.stride2 + i] = a[group.z * p.stride0 + i] * b[group.z * p.stride1 + i];
    }
}

// a, out [len]: out = scale * a + shift.
@compute @workgroup_size(256)
fn affine(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out1[group.z * p.stride1 + i] = fma(p.scale, a[group.z * p.stride0 + i], p.shift);
    }
}

// a, out [len]: out = max(a, 0).
@compute @workgroup_size(256)
fn relu(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out1[group.z * p.stride1 + i] = max(a[group.z * p.stride0 + i], 0.0);
    }
}

// a, gate (b here), out [len]: out = gate > 0 ? a : 0.
@compute @workgroup_size(256)
fn relu_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out2[group.z * p.stride2 + i] = select(0.0, a[group.z * p.stride0 + i], b[group.z * p.stride1 + i] > 0.0);
    }
}

// a, out [len]: out = 1 / (1 + exp(-a)).
@compute @workgroup_size(256)
fn sigmoid(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        let v = a[group.z * p.stride0 + i];
        // exp of a negative number only: no overflow.
        let e = exp(-abs(v));
        out1[group.z * p.stride1 + i] = select(e, 1.0, v >= 0.0) / (1.0 + e);
    }
}

// a, s (b here), out [len]: out = a * s * (1 - s), the derivative of sigmoid from its value s.
@compute @workgroup_size(256)
fn sigmoid_grad(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        let s = b[group.z * p.stride1 + i];
        out2[group.z * p.stride2 + i] = a[group.z * p.stride0 + i] * s * (1.0 - s);
    }
}

// a, out [len]: out = 1 / max(sqrt(a), scale).
@compute @workgroup_size(256)
fn inv_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out1[group.z * p.stride1 + i] = 1.0 / max(sqrt(a[group.z * p.stride0 + i]), p.scale);
    }
}

// a, out [len]: out = a.
@compute @workgroup_size(256)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out1[group.z * p.stride1 + i] = a[group.z * p.stride0 + i];
    }
}

// out [len]: out = shift.
@compute @workgroup_size(256)
fn fill(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = element(group, grid, thread);
    if (i < p.len) {
        out0[group.z * p.stride0 + i] = p.shift;
    }
}
