// batch.wgsl - kernels gather (a batch out of the resident dataset) and record (what the host reads
// once an epoch).
//
// Letters: n images of a batch; pixels = h * w * c of an image. data is [images, pixels] bytes,
// four to a word; indices is [steps, replicas, n]; schedule is [steps, replicas, 4]; x is [pixels,
// n], weight is [n]; log is [steps, replicas, width]. data, indices, schedule and log are shared by
// all replicas.
//
// Grid of gather: a thread owns four pixels of one image, or of two, which are at most two words of
// data each;
// workgroups of 64 fill x, then y; z = replica. Neighbouring threads are neighbouring images: x is
// written in whole lines, data read in pieces. Grid of record: a thread owns one value;
// workgroups of 64 fill x, then y, source after source; z = replica.

struct GatherParams {
    pixels: u32, n: u32,
    data_stride: u32, indices_stride: u32, schedule_stride: u32, x_stride: u32, weight_stride: u32,
}
@group(0) @binding(7) var<uniform> p: GatherParams;
// Which step runs: the only thing that changes between runs.
@group(1) @binding(0) var<uniform> step_number: u32;

const PADDING_IMAGE: u32 = 0xffffffffu; // an index that is no image

@group(0) @binding(0) var<storage, read> data: array<u32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read> schedule: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<u32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;

override half: bool = false; // whether x is f16, two to a word, instead of f32

// Up to four pixels, from `pixel` on, of a row of `indices`: a byte each; 0 of PADDING_IMAGE.
fn pixels_of(image: u32, pixel: u32) -> u32 {
    if (image == PADDING_IMAGE) {
        return 0u;
    }
    let first = image * p.pixels + pixel;
    let shift = first % 4u * 8u;
    var bytes = data[first / 4u] >> shift;
    if (first % 4u + min(4u, p.pixels - pixel) > 4u) {
        bytes |= data[first / 4u + 1u] << (32u - shift);
    }
    return bytes;
}

fn value_of(bytes: u32, j: u32) -> f32 {
    return f32((bytes >> (8u * j)) & 0xffu) / 255.0;
}

// x[pixel, n] = data[indices[step, replica, n], pixel] / 255, weight[n] = schedule[step, replica,
// 0]; 0 for PADDING_IMAGE.
@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let images = select(1u, 2u, half); // of a thread
    let i = ((group.y * grid.x + group.x) * 64u + thread) * images;
    let n = i % p.n;
    let pixel = i / p.n * 4u;
    if (pixel >= p.pixels) {
        return;
    }
    let row = step_number * grid.z + z;
    let image = indices[row * p.n + n];
    let bytes = pixels_of(image, pixel);
    let first = z * p.x_stride + pixel * p.n + n;
    let count = min(4u, p.pixels - pixel);
    if (pixel == 0u) {
        weight[z * p.weight_stride + n] = weight_of(image, row);
    }
    if (half) {
        let beside = indices[row * p.n + n + 1u];
        let bytes_beside = pixels_of(beside, pixel);
        for (var j = 0u; j < count; j++) {
            let pair = vec2<f32>(value_of(bytes, j), value_of(bytes_beside, j));
            x[(first + j * p.n) / 2u] = pack2x16float(pair);
        }
        if (pixel == 0u) {
            weight[z * p.weight_stride + n + 1u] = weight_of(beside, row);
        }
        return;
    }
    for (var j = 0u; j < count; j++) {
        x[first + j * p.n] = bitcast<u32>(value_of(bytes, j));
    }
}

fn weight_of(image: u32, row: u32) -> f32 {
    return select(0.0, schedule[row * 4u], image != PADDING_IMAGE);
}

struct RecordParams {
    // For each source (place in the row, values, 0, terms of a value's sum).
    pieces: array<vec4<u32>, MAX_VALUES>,
    count: u32, width: u32,
    stride0: u32, stride1: u32, stride2: u32, stride3: u32, log_stride: u32,
}
@group(0) @binding(7) var<uniform> q: RecordParams;

const MAX_VALUES: u32 = 4u;

@group(0) @binding(0) var<storage, read> a0: array<f32>;
@group(0) @binding(1) var<storage, read> a1: array<f32>;
@group(0) @binding(2) var<storage, read> a2: array<f32>;
@group(0) @binding(3) var<storage, read> a3: array<f32>;
@group(0) @binding(4) var<storage, read_write> log_: array<f32>;

fn value_at(source: u32, i: u32, z: u32) -> f32 {
    switch (source) {
        case 0u: { return a0[z * q.stride0 + i]; }
        case 1u: { return a1[z * q.stride1 + i]; }
        case 2u: { return a2[z * q.stride2 + i]; }
        default: { return a3[z * q.stride3 + i]; }
    }
}

// Sources [terms, len]: log[step, replica, offset + i] = sum over terms, in order.
@compute @workgroup_size(64)
fn record(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let rows = grid.y / q.count;
    let which = group.y / rows;
    let i = (group.y % rows * grid.x + group.x) * 64u + thread;
    let source = q.pieces[which];
    if (i >= source.y) {
        return;
    }
    var sum = value_at(which, i, group.z);
    for (var s = 1u; s < source.w; s++) {
        sum += value_at(which, s * source.y + i, group.z);
    }
    log_[(step_number * grid.z + group.z) * q.width + source.x + i] = sum;
}
