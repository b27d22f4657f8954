// conv_w.wgsl - kernel conv_w: the gradient of a convolution's weight, third of the convolution
// trio, and of its bias.
//
// Letters: n images; cx, cy channels of x and y; hx, wx, hy, wy their sizes; kh, kw the kernel's. x
// is [hx, wx, cx, n], y is [hy, wy, cy, n]; the result is [splits, kh, kw, cy, cx], and behind it,
// with a bias, [splits, c]. A tap (th, tw) joins y at (oh, ow) with x at (oh * stride - padding +
// th, ow * stride - padding + tw).
//
// conv_w is one matrix product,
//     w[m, column] = sum over k of y[m, k] * x[k, column]
// where m is a channel of y, a column a pair (tap, channel of x), and k a pair (position of y,
// image). Positions run over the smallest rectangle that holds every position some tap of the tile
// takes into x, cut to the split's run of positions. With `pair`, a second x and y go through the
// same sum behind the first. Images are cut into `slices`, each summed by threads of its own; the
// slices' sums are added in order.
//
// Grid: a workgroup owns 4 * tm channels of y x 4 * tn columns of one split. x = column tile, y =
// split * channel tiles + channel tile, z = replica. Thread (tx, ty, slice) sums over the slice's
// images for the channels ty + tm * i and the columns tx + tn * j. Workgroups behind the last
// column tile own a bias's channels, LANES threads each: lane l takes every LANES-th image from l,
// then a tree in workgroup memory adds the lanes.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    splits: u32,
    x_stride: u32, y_stride: u32, x2_stride: u32, y2_stride: u32, w_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> x2: array<f32>;
@group(0) @binding(3) var<storage, read> y2: array<f32>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;

override pair: bool = false; // whether there is a second x and y
override bias: u32 = 0u; // 1: x is also summed over positions and images; 2: y is
override tm: u32 = 8u; // threads along channels of y
override tn: u32 = 8u; // threads along columns
override slices: u32 = 1u; // parts of the images
override block_size: u32 = 16u; // values of k in workgroup memory at a time

const LANES: u32 = 32u; // threads that add up one channel of a bias

// Added to a position that doesn't exist, so that no tap brings it into x.
const NOWHERE: u32 = 0x40000000u;

// Each slice has its own part of these. One vec4 holds the four channels (columns) of one thread.
// Both tiles are stored along k, the axis that is contiguous in memory; rows padded by one keep
// those stores on different banks.
var<workgroup> left: array<vec4<f32>, slices * block_size * (tm + 1u)>;
var<workgroup> right: array<vec4<f32>, slices * block_size * (tn + 1u)>;
// For each k of a block (offset in x without the tap, oh * stride, ow * stride, offset in y), for
// this block and the next.
var<workgroup> terms: array<vec4<u32>, slices * 2u * block_size>;
// For each column (offset of its tap and channel in x, th - padding, tw - padding, 1 if it exists).
var<workgroup> taps: array<vec4<u32>, 4u * tn>;
// A value of each thread, for sums over slices or lanes.
var<workgroup> sums: array<vec4<f32>, slices * tm * tn>;

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

// The k-th term of a slice's images: k = position * images + image, `begin` positions from the
// rectangle's first.
fn term_of(k: u32, end: u32, begin: u32, top: u32, left_: u32, cols: u32, slice: u32) -> vec4<u32> {
    if (k >= end) {
        return vec4<u32>(0u, NOWHERE, NOWHERE, 0u);
    }
    let images = p.n / slices;
    let position = begin + k / images;
    let image = slice * images + k % images;
    let oh = top + position / cols;
    let ow = left_ + position % cols;
    let in_x = (oh * p.stride * p.wx + ow * p.stride) * p.cx * p.n + image;
    let in_y = (oh * p.wy + ow) * p.cy * p.n + image;
    return vec4<u32>(in_x, oh * p.stride, ow * p.stride, in_y);
}

fn y_at(z: u32, term: vec4<u32>, m: u32, second: bool) -> f32 {
    if (m >= p.cy || term.y >= NOWHERE) {
        return 0.0;
    }
    let at = term.w + m * p.n;
    if (pair && second) {
        return y2[z * p.y2_stride + at];
    }
    return y[z * p.y_stride + at];
}

fn x_at(z: u32, term: vec4<u32>, tap: vec4<u32>, second: bool) -> f32 {
    if (tap.w == 0u || term.y + tap.y >= p.hx || term.z + tap.z >= p.wx) {
        return 0.0;
    }
    let at = term.x + tap.x;
    if (pair && second) {
        return x2[z * p.x2_stride + at];
    }
    return x[z * p.x_stride + at];
}

// Adds the slices' sums in order and stores one row of a thread's 4 x 4: channel m of y, four
// columns.
fn store(sum: vec4<f32>, m: u32, first_column: u32, split: u32, z: u32, slice: u32, thread: u32) {
    var total = sum;
    if (slices > 1u) {
        let threads = tm * tn;
        sums[slice * threads + thread] = sum;
        workgroupBarrier();
        if (slice == 0u) {
            for (var s = 1u; s < slices; s++) {
                total += sums[s * threads + thread];
            }
        }
        workgroupBarrier();
    }
    if (m >= p.cy || slice > 0u) {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        let column = first_column + tn * j;
        if (column < p.kh * p.kw * p.cx) {
            let at = column / p.cx * p.cy * p.cx + m * p.cx + column % p.cx;
            w[z * p.w_stride + split * p.kh * p.kw * p.cy * p.cx + at] = total[j];
        }
    }
}

// Sums channels of x or y over the split's run of positions and over images.
fn sum_bias(first: u32, split: u32, z: u32, thread: u32) {
    let of_x = bias == 1u;
    let channels = select(p.cy, p.cx, of_x);
    let positions = select(p.hy * p.wy, p.hx * p.wx, of_x);
    let run = (positions + p.splits - 1u) / p.splits;
    let c = first + thread / LANES;
    let lane = thread % LANES;
    // The last threads may be too few for a channel.
    let owns = c < channels && thread / LANES < tm * tn * slices / LANES;
    var sum = 0.0;
    if (owns) {
        for (var at = split * run; at < min((split + 1u) * run, positions); at++) {
            let row = (at * channels + c) * p.n;
            for (var image = lane; image < p.n; image += LANES) {
                if (of_x) {
                    sum += x[z * p.x_stride + row + image];
                } else {
                    sum += y[z * p.y_stride + row + image];
                }
            }
        }
    }
    sums[thread].x = sum;
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if (owns && lane < half) {
            sums[thread].x += sums[thread + half].x;
        }
    }
    if (owns && lane == 0u) {
        let weights = p.splits * p.kh * p.kw * p.cy * p.cx;
        w[z * p.w_stride + weights + split * channels + c] = sums[thread].x;
    }
}

// x, x2 are [hx, wx, cx, n], y, y2 are [hy, wy, cy, n]; w [splits, kh, kw, cy, cx] = sum over the
// split's positions and n of x * y (+ x2 * y2), then the bias's sums [splits, c].
@compute @workgroup_size(tn, tm, slices)
fn conv_w(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tx = local.x;
    let ty = local.y;
    let thread = ty * tn + tx;
    let threads = tm * tn;
    let slice = local.z;
    let z = group.z;
    let total_columns = p.kh * p.kw * p.cx;
    let column_tiles = (total_columns + 4u * tn - 1u) / (4u * tn);
    let channel_tiles = (p.cy + 4u * tm - 1u) / (4u * tm);
    let split = group.y / channel_tiles;
    let channel_tile = group.y % channel_tiles;
    if (bias > 0u && group.x >= column_tiles) {
        let tile = (group.x - column_tiles) * channel_tiles + channel_tile;
        sum_bias(tile * (threads * slices / LANES), split, z, slice * threads + thread);
        return; // the whole workgroup leaves
    }
    let first_column = group.x * 4u * tn;
    let last_column = min(first_column + 4u * tn, total_columns) - 1u;
    let first_m = channel_tile * 4u * tm;

    for (var i = slice * threads + thread; i < 4u * tn; i += threads * slices) {
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
    let begin = positions_before(min(split * run, positions), top, left_, rows, cols);
    let stop = positions_before(min((split + 1u) * run, positions), top, left_, rows, cols);
    let end = (stop - begin) * (p.n / slices);

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);

    // This slice's part of workgroup memory.
    let left0 = slice * block_size * (tm + 1u);
    let right0 = slice * block_size * (tn + 1u);
    let terms0 = slice * 2u * block_size;

    // The terms cost divisions, so a few threads work them out one block ahead, while the others
    // multiply.
    for (var k = thread; k < block_size; k += threads) {
        terms[terms0 + k] = term_of(k, end, begin, top, left_, cols, slice);
    }
    workgroupBarrier();
    let half_blocks = (end + block_size - 1u) / block_size;
    let blocks = half_blocks * select(1u, 2u, pair);
    for (var block = 0u; block < blocks; block++) {
        let parity = (block & 1u) * block_size;
        let half = terms0 + parity;
        let second = block >= half_blocks;
        for (var i = thread; i < block_size * tm; i += threads) {
            let k = i % block_size;
            let t = i / block_size;
            let term = terms[half + k];
            let m = first_m + t;
            left[left0 + k * (tm + 1u) + t] = vec4<f32>(
                y_at(z, term, m, second), y_at(z, term, m + tm, second),
                y_at(z, term, m + 2u * tm, second), y_at(z, term, m + 3u * tm, second),
            );
        }
        for (var i = thread; i < block_size * tn; i += threads) {
            let k = i % block_size;
            let t = i / block_size;
            let term = terms[half + k];
            right[right0 + k * (tn + 1u) + t] = vec4<f32>(
                x_at(z, term, taps[t], second), x_at(z, term, taps[t + tn], second),
                x_at(z, term, taps[t + 2u * tn], second), x_at(z, term, taps[t + 3u * tn], second),
            );
        }
        workgroupBarrier();
        // The second pair meets the same terms.
        let next = select(block + 1u, block + 1u - half_blocks, block + 1u >= half_blocks);
        for (var k = thread; k < block_size; k += threads) {
            terms[terms0 + block_size - parity + k] =
                term_of(next * block_size + k, end, begin, top, left_, cols, slice);
        }
        for (var k = 0u; k < block_size; k++) {
            let a = left[left0 + k * (tm + 1u) + ty];
            let b = right[right0 + k * (tn + 1u) + tx];
            sum0 = fma(vec4<f32>(a.x), b, sum0);
            sum1 = fma(vec4<f32>(a.y), b, sum1);
            sum2 = fma(vec4<f32>(a.z), b, sum2);
            sum3 = fma(vec4<f32>(a.w), b, sum3);
        }
        workgroupBarrier();
    }

    let m = first_m + ty;
    let column = first_column + tx;
    store(sum0, m, column, split, z, slice, thread);
    store(sum1, m + tm, column, split, z, slice, thread);
    store(sum2, m + 2u * tm, column, split, z, slice, thread);
    store(sum3, m + 3u * tm, column, split, z, slice, thread);
}
