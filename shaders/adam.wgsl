// adam.wgsl - kernel adam: Adam and the running-mean reference gradient over all parameters of a
// model at once.
//
// Letters: len parameters, of which the first reference_len have a reference gradient. params, m, v
// are [len], reference is [reference_len], lr is [1], schedule is [steps, replicas, 4], shared by
// all replicas. parts holds the gradient / scale [len] in pieces: who computes a long sum leaves it in
// terms.
//
// Grid: a thread owns one parameter; workgroups of 256 fill x, then y; z = replica.

struct Params {
    // (first element in the gradient, elements, first element in parts, terms of its sum)
    pieces: array<vec4<u32>, MAX_PIECES>,
    // one_minus_beta and not beta: 1 - 0.999 loses five digits in f32.
    len: u32, reference_len: u32, one_minus_beta1: f32, one_minus_beta2: f32, eps: f32,
    scale: f32,
    params_stride: u32, m_stride: u32, v_stride: u32, reference_stride: u32, parts_stride: u32,
    schedule_stride: u32, lr_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;
const MAX_PIECES: u32 = 32u;

// Which step runs: the only thing that changes between runs.
@group(1) @binding(0) var<uniform> step_number: u32;

@group(0) @binding(0) var<storage, read_write> params: array<f32>;
@group(0) @binding(1) var<storage, read_write> m: array<f32>;
@group(0) @binding(2) var<storage, read_write> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> reference: array<f32>;
@group(0) @binding(4) var<storage, read> parts: array<f32>;
@group(0) @binding(5) var<storage, read> schedule: array<f32>;
@group(0) @binding(6) var<storage, read> lr: array<f32>;

// Element i of the gradient; 0 where there is no piece.
fn grad_at(i: u32, z: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < MAX_PIECES; k++) {
        let piece = p.pieces[k];
        if (i - piece.x < piece.y) {
            let base = z * p.parts_stride + piece.z + i - piece.x;
            for (var s = 0u; s < piece.w; s++) {
                sum += parts[base + s * piece.y];
            }
        }
    }
    return p.scale * sum;
}

// schedule[step, replica] = (image weight, c1, c2, 1/t). With a weight of 0 the replica has no
// batch and keeps its state. reference += (grad - reference) / t;  m += (1 - beta1)(grad - m);  v
// += (1 - beta2)(grad^2 - v); params -= lr c1 m / (sqrt(v c2) + eps).
@compute @workgroup_size(256)
fn adam(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let i = (group.y * grid.x + group.x) * 256u + thread;
    let at = (step_number * grid.z + z) * 4u;
    if (i >= p.len || schedule[at] == 0.0) {
        return;
    }
    let g = grad_at(i, z);
    if (i < p.reference_len) {
        let old = reference[z * p.reference_stride + i];
        reference[z * p.reference_stride + i] = fma(g - old, schedule[at + 3u], old);
    }
    let old_m = m[z * p.m_stride + i];
    let old_v = v[z * p.v_stride + i];
    let new_m = fma(p.one_minus_beta1, g - old_m, old_m);
    let new_v = fma(p.one_minus_beta2, fma(g, g, -old_v), old_v);
    m[z * p.m_stride + i] = new_m;
    v[z * p.v_stride + i] = new_v;
    let step = lr[z * p.lr_stride] * schedule[at + 1u] * new_m;
    let change = step / (sqrt(new_v * schedule[at + 2u]) + p.eps);
    params[z * p.params_stride + i] -= change;
}
