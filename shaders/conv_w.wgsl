// conv_w.wgsl - kernels conv_w (the weight's gradient, third of the convolution trio) and
// split_sum.
//
// Letters: n images; cx, cy channels of x and y; hx, wx, hy, wy their sizes; kh, kw the kernel's. x
// is [hx, wx, cx, n], y is [hy, wy, cy, n], w is [splits, kh, kw, cy, cx]. A tap (th, tw) joins y
// at (oh, ow) with x at (oh * stride - padding + th, ow * stride - padding + tw).
//
// conv_w is one matrix product,
//     w[m, column] = sum over k of y[m, k] * x[k, column]
// where m is a channel of y, a column a pair (tap, channel of x), and k a pair (position of y,
// image). Positions run over the smallest rectangle that holds every position some tap of the tile
// takes into x, cut to the split's run of positions.
//
// Grid of conv_w: a workgroup owns 4 * tm channels of y x 4 * tn columns of one split. x = column
// tile, y = split * channel tiles + channel tile, z = replica. Thread (tx, ty) owns channels ty +
// tm * i and columns tx + tn * j. Grid of split_sum: a thread owns one element of the result;
// workgroups of 256 fill x, then y; z = replica.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    splits: u32,
    x_stride: u32, y_stride: u32, addend_stride: u32, w_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> addend: array<f32>;
@group(0) @binding(3) var<storage, read_write> w: array<f32>;

override add: bool = false; // whether there is an addend
override tm: u32 = 8u; // threads along channels of y
override tn: u32 = 8u; // threads along columns

const BLOCK: u32 = 16u; // values of k in workgroup memory at a time

// Added to a position that doesn't exist, so that no tap brings it into x.
const NOWHERE: u32 = 0x40000000u;

// One vec4 holds the four channels (columns) of one thread. Both tiles are stored along k, the axis
// that is contiguous in memory; rows padded by one keep those stores on different banks.
var<workgroup> left: array<vec4<f32>, BLOCK * (tm + 1u)>;
var<workgroup> right: array<vec4<f32>, BLOCK * (tn + 1u)>;
// For each k of a block (offset in x without the tap, oh * stride, ow * stride, offset in y), for
// this block and the next.
var<workgroup> terms: array<vec4<u32>, 2u * BLOCK>;
// For each column (offset of its tap and channel in x, th - padding, tw - padding, 1 if it exists).
var<workgroup> taps: array<vec4<u32>, 4u * tn>;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// First position o of y with o * stride - padding + tap >= edge, at most `size`.
fn first_reaching(tap: u32, edge: u32, size: u32) -> u32 {
    return min((monus(edge + p.padding, tap) + p.stride - 1u) / p.stride, size);
}

// Positions of y before the flat index `flat` that lie in the rectangle starting at (top, left_)
// with `rows` x `cols`.
fn positions_before(flat: u32, top: u32, left_: u32, rows: u32, cols: u32) -> u32 {
    let row = flat / p.wy;
    let full_rows = min(monus(row, top), rows);
    let in_row = min(monus(flat % p.wy, left_), cols);
    return full_rows * cols + select(0u, in_row, row >= top && row < top + rows);
}

fn term_of(k: u32, end: u32, top: u32, left_: u32, cols: u32, z: u32) -> vec4<u32> {
    if (k >= end) {
        return vec4<u32>(0u, NOWHERE, NOWHERE, 0u);
    }
    let position = k / p.n;
    let image = k % p.n;
    let oh = top + position / cols;
    let ow = left_ + position % cols;
    let in_x = (oh * p.stride * p.wx + ow * p.stride) * p.cx * p.n + image;
    let in_y = (oh * p.wy + ow) * p.cy * p.n + image;
    return vec4<u32>(z * p.x_stride + in_x, oh * p.stride, ow * p.stride, z * p.y_stride + in_y);
}

fn y_at(term: vec4<u32>, m: u32) -> f32 {
    if (m < p.cy && term.y < NOWHERE) {
        return y[term.w + m * p.n];
    }
    return 0.0;
}

fn x_at(term: vec4<u32>, tap: vec4<u32>) -> f32 {
    if (tap.w != 0u && term.y + tap.y < p.hx && term.z + tap.z < p.wx) {
        return x[term.x + tap.x];
    }
    return 0.0;
}

// Stores one row of a thread's 4 x 4 sums: channel m of y, four columns.
fn store(sums: vec4<f32>, m: u32, first_column: u32, split: u32, z: u32) {
    if (m >= p.cy) {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        let column = first_column + tn * j;
        if (column < p.kh * p.kw * p.cx) {
            let at = column / p.cx * p.cy * p.cx + m * p.cx + column % p.cx;
            var v = sums[j];
            if (add) {
                v += addend[z * p.addend_stride + at];
            }
            w[z * p.w_stride + split * p.kh * p.kw * p.cy * p.cx + at] = v;
        }
    }
}

// x is [hx, wx, cx, n], y is [hy, wy, cy, n]; w [splits, kh, kw, cy, cx] = sum over the split's
// positions and n of x * y (+ addend).
@compute @workgroup_size(tn, tm)
fn conv_w(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tx = local.x;
    let ty = local.y;
    let thread = ty * tn + tx;
    let threads = tm * tn;
    let z = group.z;
    let total_columns = p.kh * p.kw * p.cx;
    let first_column = group.x * 4u * tn;
    let last_column = min(first_column + 4u * tn, total_columns) - 1u;
    let channel_tiles = (p.cy + 4u * tm - 1u) / (4u * tm);
    let split = group.y / channel_tiles;
    let first_m = group.y % channel_tiles * 4u * tm;

    for (var i = thread; i < 4u * tn; i += threads) {
        let column = first_column + i;
        let tap = column / p.cx;
        let th = tap / p.kw - p.padding;
        let tw = tap % p.kw - p.padding;
        let in_x = ((th * p.wx + tw) * p.cx + column % p.cx) * p.n;
        taps[i] = vec4<u32>(in_x, th, tw, select(0u, 1u, column < total_columns));
    }

    // The rectangle. Taps further down reach x from positions further up.
    let first_tap = first_column / p.cx;
    let last_tap = last_column / p.cx;
    let low_th = first_tap / p.kw;
    let high_th = last_tap / p.kw;
    let one_row = low_th == high_th;
    let low_tw = select(0u, first_tap % p.kw, one_row);
    let high_tw = select(p.kw - 1u, last_tap % p.kw, one_row);
    let top = first_reaching(high_th, 0u, p.hy);
    let rows = monus(first_reaching(low_th, p.hx, p.hy), top);
    let left_ = first_reaching(high_tw, 0u, p.wy);
    let cols = monus(first_reaching(low_tw, p.wx, p.wy), left_);

    // The split's run of positions, counted within the rectangle.
    let positions = p.hy * p.wy;
    let run = (positions + p.splits - 1u) / p.splits;
    let begin = positions_before(min(split * run, positions), top, left_, rows, cols) * p.n;
    let end = positions_before(min((split + 1u) * run, positions), top, left_, rows, cols) * p.n;

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);

    // The terms cost divisions, so a few threads work them out one block ahead, while the others
    // multiply.
    for (var k = thread; k < BLOCK; k += threads) {
        terms[k] = term_of(begin + k, end, top, left_, cols, z);
    }
    workgroupBarrier();
    let blocks = (end - begin + BLOCK - 1u) / BLOCK;
    for (var block = 0u; block < blocks; block++) {
        let half = (block & 1u) * BLOCK;
        for (var i = thread; i < BLOCK * tm; i += threads) {
            let k = i % BLOCK;
            let t = i / BLOCK;
            let term = terms[half + k];
            let m = first_m + t;
            left[k * (tm + 1u) + t] = vec4<f32>(
                y_at(term, m), y_at(term, m + tm), y_at(term, m + 2u * tm), y_at(term, m + 3u * tm),
            );
        }
        for (var i = thread; i < BLOCK * tn; i += threads) {
            let k = i % BLOCK;
            let t = i / BLOCK;
            let term = terms[half + k];
            right[k * (tn + 1u) + t] = vec4<f32>(
                x_at(term, taps[t]), x_at(term, taps[t + tn]),
                x_at(term, taps[t + 2u * tn]), x_at(term, taps[t + 3u * tn]),
            );
        }
        workgroupBarrier();
        for (var k = thread; k < BLOCK; k += threads) {
            let next = begin + (block + 1u) * BLOCK + k;
            terms[BLOCK - half + k] = term_of(next, end, top, left_, cols, z);
        }
        for (var k = 0u; k < BLOCK; k++) {
            let a = left[k * (tm + 1u) + ty];
            let b = right[k * (tn + 1u) + tx];
            sum0 = fma(vec4<f32>(a.x), b, sum0);
            sum1 = fma(vec4<f32>(a.y), b, sum1);
            sum2 = fma(vec4<f32>(a.z), b, sum2);
            sum3 = fma(vec4<f32>(a.w), b, sum3);
        }
        workgroupBarrier();
    }

    let m = first_m + ty;
    store(sum0, m, first_column + tx, split, z);
    store(sum1, m + tm, first_column + tx, split, z);
    store(sum2, m + 2u * tm, first_column + tx, split, z);
    store(sum3, m + 3u * tm, first_column + tx, split, z);
}

struct SplitParams {
    len: u32, splits: u32,
    partial_stride: u32, addend_stride: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> q: SplitParams;

@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read> extra: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

// partial is [splits, len]; out [len] = sum over splits, in order, of partial (+ addend).
@compute @workgroup_size(256)
fn split_sum(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * grid.x + group.x) * 256u + thread;
    if (i >= q.len) {
        return;
    }
    let base = group.z * q.partial_stride + i;
    var sum = 0.0;
    for (var s = 0u; s < q.splits; s++) {
        sum += partial[base + s * q.len];
    }
    if (add) {
        sum += extra[group.z * q.addend_stride + i];
    }
    out[group.z * q.out_stride + i] = sum;
}
