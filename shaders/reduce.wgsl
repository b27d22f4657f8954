// reduce.wgsl - kernels broadcast and sum_to: four-dimensional shapes, where an axis of size 1
// stands for all of an axis. Kernel sum_pieces: sums that other kernels left in parts.
//
// Letters: `large` is a shape [l0, l1, l2, l3], `small` the same with some axes 1.
//
// Grid of broadcast: a thread owns one element of the result; workgroups of 256 fill x, then y; z =
// replica. Grid of sum_to: a workgroup of 256 owns one element of the result; workgroups fill x,
// then y; z = replica. Thread t adds every 256th term, then a tree in workgroup memory adds the
// threads: the order never depends on the device. Grid of sum_pieces: as broadcast's.

struct Params {
    small0: u32, small1: u32, small2: u32, small3: u32,
    large0: u32, large1: u32, large2: u32, large3: u32,
    a_stride: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, 256>;

// The index of flat element i in a [_, s1, s2, s3] array.
fn unflatten(i: u32, s1: u32, s2: u32, s3: u32) -> vec4<u32> {
    let row = i / s3;
    let plane = row / s2;
    return vec4<u32>(plane / s1, plane % s1, row % s2, i % s3);
}

// a is `small`, out is `large`: out[i, j, k, l] = a[i or 0, j or 0, k or 0, l or 0].
@compute @workgroup_size(256)
fn broadcast(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * grid.x + group.x) * 256u + thread;
    if (i >= p.large0 * p.large1 * p.large2 * p.large3) {
        return;
    }
    let last = vec4<u32>(p.small0, p.small1, p.small2, p.small3) - 1u;
    let at = min(unflatten(i, p.large1, p.large2, p.large3), last);
    let source = ((at.x * p.small1 + at.y) * p.small2 + at.z) * p.small3 + at.w;
    out[group.z * p.out_stride + i] = a[group.z * p.a_stride + source];
}

fn flat_in_large(at: vec4<u32>) -> u32 {
    return ((at.x * p.large1 + at.y) * p.large2 + at.z) * p.large3 + at.w;
}

// a is `large`, out is `small`: out sums a over the axes where `small` is 1.
@compute @workgroup_size(256)
fn sum_to(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let o = group.y * grid.x + group.x;
    if (o >= p.small0 * p.small1 * p.small2 * p.small3) {
        return; // the whole workgroup leaves
    }
    let base = group.z * p.a_stride + flat_in_large(unflatten(o, p.small1, p.small2, p.small3));
    // Sizes of the summed axes; kept axes count 1.
    let r0 = select(1u, p.large0, p.small0 == 1u);
    let r1 = select(1u, p.large1, p.small1 == 1u);
    let r2 = select(1u, p.large2, p.small2 == 1u);
    let r3 = select(1u, p.large3, p.small3 == 1u);
    let count = r0 * r1 * r2 * r3;
    var sum = 0.0;
    for (var i = thread; i < count; i += 256u) {
        sum += a[base + flat_in_large(unflatten(i, r1, r2, r3))];
    }
    sums[thread] = sum;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (thread < half) {
            sums[thread] += sums[thread + half];
        }
    }
    if (thread == 0u) {
        out[group.z * p.out_stride + o] = sums[0];
    }
}

struct PiecesParams {
    // (first element in the result, elements, first element in parts, terms)
    pieces: array<vec4<u32>, MAX_PIECES>,
    len: u32,
    parts_stride: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> q: PiecesParams;

const MAX_PIECES: u32 = 32u;

@group(0) @binding(0) var<storage, read> parts: array<f32>;

// out [len] = sum over the terms, in order, of the piece that an element is in; 0 if in none.
@compute @workgroup_size(256)
fn sum_pieces(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * grid.x + group.x) * 256u + thread;
    if (i >= q.len) {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < MAX_PIECES; k++) {
        let piece = q.pieces[k];
        if (i - piece.x < piece.y) {
            let base = group.z * q.parts_stride + piece.z + i - piece.x;
            for (var s = 0u; s < piece.w; s++) {
                sum += parts[base + s * piece.y];
            }
        }
    }
    out[group.z * q.out_stride + i] = sum;
}
