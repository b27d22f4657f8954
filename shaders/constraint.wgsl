// constraint.wgsl - kernels constraint, constraint_sum, constraint_grad: minus the mean cosine
// between the gradients g of the decoder layers and their references r, and its derivative in g,
// for all layers at once.
//
// Letters: a segment is the run of the flat buffers g and r that holds one layer; blocks = blocks
// of SPAN elements in the longest segment. parts holds g as a piece for each segment, partial is
// [segments, blocks, 3], stats is laid out as the constants say;
// weight is [terms].
//
// Grid of constraint: a workgroup of 256 owns one block of one segment: x = block, y = segment, z =
// replica. Blocks beyond a segment's end are empty sums. Grid of constraint_sum: one workgroup of
// 256 a replica: SUMMERS threads for each of MAX_SEGMENTS segments. Grid of constraint_grad: a
// thread owns one element of a segment: x = workgroup of 256, y = segment, z = replica.

struct Params {
    // (first element in g, elements, first element in parts, terms of its sum)
    pieces: array<vec4<u32>, MAX_SEGMENTS>,
    segments: u32, scale: f32, blocks: u32, terms: u32,
    stride0: u32, stride1: u32, stride2: u32, stride3: u32, stride4: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

const MAX_SEGMENTS: u32 = 8u;
const SPAN: u32 = 512u; // elements that a workgroup adds up
const EPS: f32 = 1e-8; // cosine_similarity's epsilon
// stats: HEAD elements, the first of which is the constraint, then ROW elements a segment.
const HEAD: u32 = 4u;
const ROW: u32 = 4u;
const GR: u32 = 0u;
const GG: u32 = 1u;
const RR: u32 = 2u;
const COS: u32 = 3u;
const SUMMERS: u32 = 32u; // threads that add up one segment's blocks

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> tree: array<vec3<f32>, 256>;

// parts in pieces, r flat; g [flat] = the pieces' sums, partial[segment, block] = (g.r, g.g, r.r)
// over the block's elements.
@compute @workgroup_size(256)
fn constraint(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let piece = p.pieces[group.y];
    let first = group.x * SPAN;
    let end = min(first + SPAN, piece.y);
    var sum = vec3<f32>(0.0);
    for (var i = first + thread; i < end; i += 256u) {
        let base = z * p.stride0 + piece.z + i;
        var gi = parts[base];
        for (var s = 1u; s < piece.w; s++) {
            gi += parts[base + s * piece.y];
        }
        let ri = r[z * p.stride1 + piece.x + i];
        g[z * p.stride2 + piece.x + i] = gi;
        sum = fma(vec3<f32>(gi, gi, ri), vec3<f32>(ri, gi, ri), sum);
    }
    tree[thread] = sum;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (thread < half) {
            tree[thread] += tree[thread + half];
        }
    }
    if (thread == 0u) {
        let at = z * p.stride3 + (group.y * p.blocks + group.x) * 3u;
        partial[at] = tree[0].x;
        partial[at + 1u] = tree[0].y;
        partial[at + 2u] = tree[0].z;
    }
}

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;

var<workgroup> cosines: array<f32, MAX_SEGMENTS>;

// partial [segments, blocks, 3]; stats = (constraint, 0, 0, 0), then per segment (g.r, g.g, r.r,
// cos).
@compute @workgroup_size(256)
fn constraint_sum(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let s = thread / SUMMERS;
    let lane = thread % SUMMERS;
    var sum = vec3<f32>(0.0);
    if (s < p.segments) {
        for (var block = lane; block < p.blocks; block += SUMMERS) {
            let at = z * p.stride0 + (s * p.blocks + block) * 3u;
            sum += vec3<f32>(sums[at], sums[at + 1u], sums[at + 2u]);
        }
    }
    tree[thread] = sum;
    for (var half = SUMMERS / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            tree[thread] += tree[thread + half];
        }
    }
    let out = z * p.stride1;
    if (lane == 0u) {
        let t = tree[thread];
        let cosine = t.x / (max(sqrt(t.y), EPS) * max(sqrt(t.z), EPS));
        cosines[s] = cosine;
        if (s < p.segments) {
            let at = out + HEAD + ROW * s;
            stats[at + GR] = t.x;
            stats[at + GG] = t.y;
            stats[at + RR] = t.z;
            stats[at + COS] = cosine;
        }
    }
    workgroupBarrier();
    if (thread == 0u) {
        var mean = 0.0;
        for (var i = 0u; i < p.segments; i++) {
            mean += cosines[i];
        }
        stats[out] = -mean / f32(p.segments);
        for (var i = 1u; i < HEAD; i++) {
            stats[out + i] = 0.0;
        }
    }
}

@group(0) @binding(0) var<storage, read> g_in: array<f32>;
@group(0) @binding(2) var<storage, read> stats_in: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> out_grad: array<f32>;

// g, r flat, stats as above; out, laid out like g: scale times the constraint's derivative in
// g, in every segment, times the sum of weight if it has terms.
@compute @workgroup_size(256)
fn constraint_grad(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let run = p.pieces[group.y];
    let i = group.x * 256u + thread;
    if (i >= run.y) {
        return;
    }
    let at = z * p.stride2 + HEAD + ROW * group.y;
    let g_norm = sqrt(stats_in[at + GG]);
    let r_norm = sqrt(stats_in[at + RR]);
    let gi = g_in[z * p.stride0 + run.x + i];
    let ri = r[z * p.stride1 + run.x + i];
    // Where the norm is clamped it is a constant, and only g.r depends on g.
    var d = ri / (max(g_norm, EPS) * max(r_norm, EPS));
    if (g_norm > EPS) {
        d -= stats_in[at + COS] * gi / stats_in[at + GG];
    }
    var scale = p.scale;
    if (p.terms > 0u) {
        var sum = 0.0;
        for (var s = 0u; s < p.terms; s++) {
            sum += weight[z * p.stride3 + s];
        }
        scale *= sum;
    }
    out_grad[z * p.stride4 + run.x + i] = -scale / f32(p.segments) * d;
}
