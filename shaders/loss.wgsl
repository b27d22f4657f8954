// loss.wgsl - kernels mse and image_mse: squared errors of a batch and of each image.
//
// Letters: n images; rows = h * w * c pixels of an image. x and target are [rows, n], weight is
// [n]. A group is ROWS rows.
//
// Grid of mse: a workgroup of 256 owns a group; workgroups fill x, then y; z = replica. Grid of
// image_mse: a workgroup of 256 owns IMAGES images; workgroups fill x, then y; z = replica; thread
// t looks at image t % IMAGES. In both, thread t takes every 256th element, then a tree in
// workgroup memory adds the threads: the order never depends on the device.

struct Params {
    rows: u32, n: u32,
    stride0: u32, stride1: u32, stride2: u32, stride3: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

const ROWS: u32 = 64u; // of a group
const IMAGES: u32 = 4u; // of a workgroup of image_mse

override half: bool = false; // whether x and target are f16, two to a word, instead of f32

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> target_: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> tree: array<f32, 256>;

// Element i of x minus element j of the target.
fn difference(i: u32, j: u32) -> f32 {
    if (half) {
        let a = unpack2x16float(x[i / 2u]);
        let b = unpack2x16float(target_[j / 2u]);
        return select(a.x, a.y, i % 2u == 1u) - select(b.x, b.y, j % 2u == 1u);
    }
    return bitcast<f32>(x[i]) - bitcast<f32>(target_[j]);
}

// x, target [rows, n], weight [n]: partial[group] = sum over the group's rows and n of weight[n] /
// rows * (x - target)^2.
@compute @workgroup_size(256)
fn mse(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let g = group.y * grid.x + group.x;
    let first = g * ROWS;
    if (first >= p.rows) {
        return; // the whole workgroup leaves
    }
    let end = min(first + ROWS, p.rows) * p.n;
    var sum = 0.0;
    for (var i = first * p.n + thread; i < end; i += 256u) {
        let d = difference(z * p.stride0 + i, z * p.stride1 + i);
        sum = fma(weight[z * p.stride2 + i % p.n] * d, d, sum);
    }
    tree[thread] = sum;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (thread < half) {
            tree[thread] += tree[thread + half];
        }
    }
    if (thread == 0u) {
        partial[z * p.stride3 + g] = tree[0] / f32(p.rows);
    }
}

@group(0) @binding(2) var<storage, read_write> out: array<f32>;

// x, target [rows, n]: out[n] = mean over rows of (x - target)^2.
@compute @workgroup_size(256)
fn image_mse(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let image = (group.y * grid.x + group.x) * IMAGES + thread % IMAGES;
    var sum = 0.0;
    if (image < p.n) {
        for (var row = thread / IMAGES; row < p.rows; row += 256u / IMAGES) {
            let at = row * p.n + image;
            let d = difference(z * p.stride0 + at, z * p.stride1 + at);
            sum = fma(d, d, sum);
        }
    }
    tree[thread] = sum;
    for (var half = 128u; half >= IMAGES; half >>= 1u) {
        workgroupBarrier();
        if (thread < half) {
            tree[thread] += tree[thread + half];
        }
    }
    if (thread < IMAGES && image < p.n) {
        out[z * p.stride2 + image] = tree[thread] / f32(p.rows);
    }
}
