// score.wgsl - kernels image_grad and image_cos: how each image's own weight gradient aligns with
// the reference gradient.
//
// Letters: n images; cx, cy channels of x and y; hx, wx, hy, wy their sizes; kh, kw the kernel's. x
// is [hx, wx, cx, n], y is [hy, wy, cy, n], r is [kh, kw, cy, cx], partial is [blocks, 2, n] with
// blocks = kh * kw * ceil(cy / 4).
//
// The gradient of image i is g[tap, cy, cx] = sum over positions of y[position, cy, i] * x[position
// at tap, cx, i]. It lives in registers only, 4 cy x 4 cx at a time, and goes into two sums: g.r
// and g.g. With `squares`, the first is that of r g g.
//
// Grid of image_grad: a workgroup owns `lanes` images x one block (a tap and four channels of y): x
// = images, y = block, z = replica. Thread (lane, slice) takes the tiles of four channels of x
// number slice, slice + slices, ...; a tree in workgroup memory adds the slices. Neighbouring lanes
// read neighbouring images. Grid of image_cos: a workgroup of 32 x 8 owns 32 images; slices of
// blocks are added by a tree; z = replica.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    x_stride: u32, y_stride: u32, r_stride: u32, partial_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

const TILE: u32 = 4u; // channels of y in a block

override lanes: u32 = 32u; // images of a workgroup
override slices: u32 = 8u; // threads of one image: a power of two
override half: bool = false; // whether x and y are f16, two to a word, instead of f32
override squares: bool = false; // whether r weighs squares of g

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> y: array<u32>;
@group(0) @binding(2) var<storage, read> r: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> tree: array<vec2<f32>, lanes * slices>;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// First position o of y with o * stride - padding + tap >= edge, at most `size`.
fn first_reaching(tap: u32, edge: u32, size: u32) -> u32 {
    return min((monus(edge + p.padding, tap) + p.stride - 1u) / p.stride, size);
}

fn x_at(i: u32) -> f32 {
    if (half) {
        let v = unpack2x16float(x[i / 2u]);
        return select(v.x, v.y, i % 2u == 1u);
    }
    return bitcast<f32>(x[i]);
}

fn y_at(i: u32) -> f32 {
    if (half) {
        let v = unpack2x16float(y[i / 2u]);
        return select(v.x, v.y, i % 2u == 1u);
    }
    return bitcast<f32>(y[i]);
}

// (g.r or r.gg, g.g) of one row of a tile: one channel of y at `row` in r, channels of x from c
// on, of which those < cx exist.
fn row_sums(g: vec4<f32>, row: u32, c: u32, sums: vec2<f32>) -> vec2<f32> {
    var s = sums;
    for (var j = 0u; j < 4u; j++) {
        if (c + j < p.cx) {
            let first = select(g[j], g[j] * g[j], squares);
            s = fma(vec2<f32>(first, g[j]), vec2<f32>(r[row + c + j], g[j]), s);
        }
    }
    return s;
}

// x [hx, wx, cx, n], y [hy, wy, cy, n], r [kh, kw, cy, cx]; partial[block, 0, n] = g.r (with
// `squares` r.gg) and partial[block, 1, n] = g.g.
@compute @workgroup_size(lanes, slices)
fn image_grad(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
) {
    let z = group.z;
    let slice = local.y;
    let i = group.x * lanes + local.x;
    // Lanes beyond the last image repeat it: no branches, and they write nothing.
    let image = min(i, p.n - 1u);
    let tiles_y = (p.cy + TILE - 1u) / TILE;
    let tap = group.y / tiles_y;
    let cy0 = group.y % tiles_y * TILE;
    let th = tap / p.kw;
    let tw = tap % p.kw;
    let top = first_reaching(th, 0u, p.hy);
    let bottom = first_reaching(th, p.hx, p.hy);
    let left_ = first_reaching(tw, 0u, p.wy);
    let right_ = first_reaching(tw, p.wx, p.wy);

    // Channels beyond the last repeat it, too; row_sums and the counts below leave their part of g
    // out.
    let y_channel = min(vec4<u32>(cy0) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.cy - 1u)) * p.n;
    let y_base = z * p.y_stride + image;
    let x_base = z * p.x_stride + image;
    let r_base = z * p.r_stride + tap * p.cy * p.cx;

    var sums = vec2<f32>(0.0);
    for (var c = slice * 4u; c < p.cx; c += slices * 4u) {
        let x_channel = min(vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.cx - 1u)) * p.n;
        var g0 = vec4<f32>(0.0);
        var g1 = vec4<f32>(0.0);
        var g2 = vec4<f32>(0.0);
        var g3 = vec4<f32>(0.0);
        for (var oh = top; oh < bottom; oh++) {
            let ih = oh * p.stride + th - p.padding;
            for (var ow = left_; ow < right_; ow++) {
                let iw = ow * p.stride + tw - p.padding;
                let ya = y_base + (oh * p.wy + ow) * p.cy * p.n + y_channel;
                let xa = x_base + (ih * p.wx + iw) * p.cx * p.n + x_channel;
                let a = vec4<f32>(y_at(ya.x), y_at(ya.y), y_at(ya.z), y_at(ya.w));
                let b = vec4<f32>(x_at(xa.x), x_at(xa.y), x_at(xa.z), x_at(xa.w));
                g0 = fma(vec4<f32>(a.x), b, g0);
                g1 = fma(vec4<f32>(a.y), b, g1);
                g2 = fma(vec4<f32>(a.z), b, g2);
                g3 = fma(vec4<f32>(a.w), b, g3);
            }
        }
        sums = row_sums(g0, r_base + cy0 * p.cx, c, sums);
        if (cy0 + 1u < p.cy) {
            sums = row_sums(g1, r_base + (cy0 + 1u) * p.cx, c, sums);
        }
        if (cy0 + 2u < p.cy) {
            sums = row_sums(g2, r_base + (cy0 + 2u) * p.cx, c, sums);
        }
        if (cy0 + 3u < p.cy) {
            sums = row_sums(g3, r_base + (cy0 + 3u) * p.cx, c, sums);
        }
    }
    let thread = slice * lanes + local.x;
    tree[thread] = sums;
    for (var half = slices / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (slice < half) {
            tree[thread] += tree[thread + half * lanes];
        }
    }
    if (slice == 0u && i < p.n) {
        let at = z * p.partial_stride + group.y * 2u * p.n + i;
        partial[at] = tree[thread].x;
        partial[at + p.n] = tree[thread].y;
    }
}

struct CosParams {
    blocks: u32, n: u32, segment: u32,
    partial_stride: u32, stats_stride: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> q: CosParams;

const EPS: f32 = 1e-8; // cosine_similarity's epsilon
// stats: HEAD elements, then ROW elements a segment, of which RR is the squared norm of r.
const HEAD: u32 = 4u;
const ROW: u32 = 4u;
const RR: u32 = 2u;
const IMAGES: u32 = 32u;
const SLICES: u32 = 8u;

@group(0) @binding(0) var<storage, read> sums_in: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

var<workgroup> cos_tree: array<vec2<f32>, 256>;

// partial [blocks, 2, n]; out[n] = g.r / (max(|g|, eps) max(|r|, eps)) with r.r from stats.
@compute @workgroup_size(IMAGES, SLICES)
fn image_cos(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let z = group.z;
    let i = group.x * IMAGES + local.x;
    var sum = vec2<f32>(0.0);
    if (i < q.n) {
        for (var block = local.y; block < q.blocks; block += SLICES) {
            let at = z * q.partial_stride + block * 2u * q.n + i;
            sum += vec2<f32>(sums_in[at], sums_in[at + q.n]);
        }
    }
    cos_tree[thread] = sum;
    for (var half = SLICES / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (local.y < half) {
            cos_tree[thread] += cos_tree[thread + half * IMAGES];
        }
    }
    if (local.y == 0u && i < q.n) {
        let s = cos_tree[thread];
        let r_norm = sqrt(stats[z * q.stats_stride + HEAD + ROW * q.segment + RR]);
        out[z * q.out_stride + i] = s.x / (max(sqrt(s.y), EPS) * max(r_norm, EPS));
    }
}
