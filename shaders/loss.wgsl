// loss.wgsl - kernels mse and mse_sum: mean squared error and its gradient in one pass over the
// images.
//
// Letters: n images; rows = h * w * c pixels of an image; chunks = ceil(rows / ROWS). x, target,
// grad are [rows, n], partial is [chunks, n], weight and image are [n].
//
// Grid of mse: a thread owns one chunk of one image; workgroups of 64 fill x, then y; z = replica.
// Neighbouring threads are neighbouring images. Grid of mse_sum: one workgroup of 256 a replica;
// thread t owns images t, t + 256, ...

struct Params {
    rows: u32, n: u32,
    stride0: u32, stride1: u32, stride2: u32, stride3: u32, stride4: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

const ROWS: u32 = 16u; // of a chunk

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> target_: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

// x, target [rows, n], weight [n]: grad = 2 weight / rows * (x - target), partial[chunk, n] = sum
// of (x - target)^2.
@compute @workgroup_size(64)
fn mse(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * grid.x + group.x) * 64u + thread;
    let chunk = i / p.n;
    let image = i % p.n;
    let first = chunk * ROWS;
    if (first >= p.rows) {
        return;
    }
    let z = group.z;
    let scale = 2.0 * weight[z * p.stride2 + image] / f32(p.rows);
    var sum = 0.0;
    for (var row = first; row < min(first + ROWS, p.rows); row++) {
        let at = row * p.n + image;
        let d = x[z * p.stride0 + at] - target_[z * p.stride1 + at];
        grad[z * p.stride3 + at] = scale * d;
        sum = fma(d, d, sum);
    }
    partial[z * p.stride4 + i] = sum;
}

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> image: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

var<workgroup> tree: array<f32, 256>;

// partial [chunks, n], weight [n]: image[n] = sum over chunks of partial / rows, loss[0] = sum over
// n of weight * image.
@compute @workgroup_size(256)
fn mse_sum(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let chunks = (p.rows + ROWS - 1u) / ROWS;
    var total = 0.0;
    for (var i = thread; i < p.n; i += 256u) {
        var sum = 0.0;
        for (var chunk = 0u; chunk < chunks; chunk++) {
            sum += sums[z * p.stride0 + chunk * p.n + i];
        }
        let mean = sum / f32(p.rows);
        image[z * p.stride2 + i] = mean;
        total = fma(weights[z * p.stride1 + i], mean, total);
    }
    tree[thread] = total;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (thread < half) {
            tree[thread] += tree[thread + half];
        }
    }
    if (thread == 0u) {
        loss[z * p.stride3] = tree[0];
    }
}
