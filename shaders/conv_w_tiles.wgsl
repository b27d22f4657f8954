// conv_w_tiles.wgsl - kernel conv_w by register tiles of `rows` channels of y x 4 * `quads` columns
// a thread: variants for layers whose images come in whole blocks.
//
// Letters as in conv_w.wgsl, whose sums these are to the bit. There is no list of terms: positions
// are outside, blocks of `block_size` images of a position inside, so addresses only move on. A
// block is on its way from memory to registers while the one before it is multiplied; with two
// `buffers` in workgroup memory it is stored without waiting for the others.
//
// Grid: a workgroup owns rows * tm channels of y x 4 * quads * tn columns of one split, numbered as
// in conv_w.wgsl. Thread (tx, ty, slice) sums over the slice's images for channels ty * 4 ..
// ty * 4 + 3 (and those 4 * tm further) and for the columns tx + tn * j. Workgroups behind the last
// column tile own a bias's channels, as in conv_w.wgsl.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    splits: u32,
    x_stride: u32, y_stride: u32, x2_stride: u32, y2_stride: u32, w_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

// Four images as they are stored. In half precision the host puts other lines here
// (src/kernels/half.rs).
alias Four = vec4<f32>;
fn loaded(v: Four) -> vec4<f32> { return v; }

@group(0) @binding(0) var<storage, read> x: array<Four>;
@group(0) @binding(1) var<storage, read> y: array<Four>;
@group(0) @binding(2) var<storage, read> x2: array<Four>;
@group(0) @binding(3) var<storage, read> y2: array<Four>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;

override pair: bool = false; // whether there is a second x and y
override bias: u32 = 0u; // 1: x is also summed over positions and images; 2: y is
override tm: u32 = 8u; // threads along channels of y
override tn: u32 = 8u; // threads along columns
override slices: u32 = 1u; // parts of the images
override rows: u32 = 4u; // channels of a thread: 4 or 8
override quads: u32 = 1u; // fours of columns of a thread: 1 or 2
override block_size: u32 = 8u; // images in workgroup memory at a time: 8 or 16
override buffers: u32 = 2u; // blocks in workgroup memory: 1 or 2

const LANES: u32 = 32u; // threads that add up one channel of a bias

// For each slice and buffer, each channel's and each column's images in fours, as they lie in y and
// x. Columns swap their fours, so that eight neighbours lie on different banks.
var<workgroup> left: array<vec4<f32>, slices * buffers * rows * tm * block_size / 4u>;
var<workgroup> right: array<vec4<f32>, slices * buffers * quads * tn * block_size>;
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
                    sum += loaded(x[(z * p.x_stride + row + image) / 4u])[image % 4u];
                } else {
                    sum += loaded(y[(z * p.y_stride + row + image) / 4u])[image % 4u];
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

// A column: offset of its tap and channel in x, th - padding, tw - padding, 1 if it exists.
fn column_of(column: u32) -> vec4<u32> {
    let tap = column / p.cx;
    let th = tap / p.kw - p.padding;
    let tw = tap % p.kw - p.padding;
    let in_x = ((th * p.wx + tw) * p.cx + column % p.cx) * (p.n / 4u);
    return vec4<u32>(in_x, th, tw, select(0u, 1u, column < p.kh * p.kw * p.cx));
}

// Where four `k` of a column lie: behind each other's, but swapped.
fn swapped(column: u32, k: u32) -> u32 {
    let fours = block_size >> 2u;
    return column * fours + (k ^ (((column * fours) >> 3u) & (fours - 1u)));
}

fn x_at(z: u32, at: u32, column: vec4<u32>, high: u32, wide: u32, second: bool) -> vec4<f32> {
    if (column.w == 0u || high + column.y >= p.hx || wide + column.z >= p.wx) {
        return vec4<f32>(0.0);
    }
    if (pair && second) {
        return loaded(x2[z * (p.x2_stride >> 2u) + at + column.x]);
    }
    return loaded(x[z * (p.x_stride >> 2u) + at + column.x]);
}

fn y_at(z: u32, at: u32, exists: bool, second: bool) -> vec4<f32> {
    if (!exists) {
        return vec4<f32>(0.0);
    }
    if (pair && second) {
        return loaded(y2[z * (p.y2_stride >> 2u) + at]);
    }
    return loaded(y[z * (p.y_stride >> 2u) + at]);
}

// Adds the slices' sums in order and stores channel m of y of four columns, tn apart.
fn store(sum: vec4<f32>, m: u32, first_column: u32, split: u32, at: vec3<u32>) {
    let thread = at.x;
    let slice = at.y;
    let z = at.z;
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
            let row = (split * p.kh * p.kw + column / p.cx) * p.cy + m;
            w[z * p.w_stride + row * p.cx + column % p.cx] = total[j];
        }
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
    let tile_columns = 4u * quads * tn;
    let column_tiles = (total_columns + tile_columns - 1u) / tile_columns;
    let channel_tiles = (p.cy + rows * tm - 1u) / (rows * tm);
    let split = group.y / channel_tiles;
    let channel_tile = group.y % channel_tiles;
    if (bias > 0u && group.x >= column_tiles) {
        let tile = (group.x - column_tiles) * channel_tiles + channel_tile;
        sum_bias(tile * (threads * slices / LANES), split, z, slice * threads + thread);
        return; // the whole workgroup leaves
    }
    let first_column = group.x * tile_columns;
    let last_column = min(first_column + tile_columns, total_columns) - 1u;
    let first_m = channel_tile * rows * tm;
    let fours = p.n / 4u;

    // The rectangle. Taps further down reach x from positions further up.
    let first_tap = first_column / p.cx;
    let last_tap = last_column / p.cx;
    let low_th = first_tap / p.kw;
    let high_th = last_tap / p.kw;
    let one_row = low_th == high_th;
    let low_tw = select(0u, first_tap % p.kw, one_row);
    let high_tw = select(p.kw - 1u, last_tap % p.kw, one_row);
    let top = first_reaching(high_th, 0u, p.hy);
    let rows_ = monus(first_reaching(low_th, p.hx, p.hy), top);
    let left_ = first_reaching(high_tw, 0u, p.wy);
    let cols = monus(first_reaching(low_tw, p.wx, p.wy), left_);

    // The split's run of positions, counted within the rectangle.
    let positions = p.hy * p.wy;
    let run = (positions + p.splits - 1u) / p.splits;
    let begin = positions_before(min(split * run, positions), top, left_, rows_, cols);
    let stop = positions_before(min((split + 1u) * run, positions), top, left_, rows_, cols);

    // What this thread carries: of each column and channel that it carries, every fourth image from
    // here.
    let block_fours = block_size / 4u;
    let from_k = thread % block_fours;
    let from_item = thread / block_fours;
    let item_step = threads / block_fours;
    let left_size = rows * tm * block_fours;
    let right_size = tile_columns * block_fours;
    let image = slice * (fours / slices) + from_k;
    let column0 = column_of(first_column + from_item);
    let column1 = column_of(first_column + from_item + item_step);
    let column2 = column_of(first_column + from_item + 2u * item_step);
    let column3 = column_of(first_column + from_item + 3u * item_step);
    let m_carried = first_m + from_item;

    // This slice's part of workgroup memory.
    let left0 = slice * buffers * left_size;
    let right0 = slice * buffers * right_size;

    var s0a = vec4<f32>(0.0);
    var s0b = vec4<f32>(0.0);
    var s1a = vec4<f32>(0.0);
    var s1b = vec4<f32>(0.0);
    var s2a = vec4<f32>(0.0);
    var s2b = vec4<f32>(0.0);
    var s3a = vec4<f32>(0.0);
    var s3b = vec4<f32>(0.0);
    var s4a = vec4<f32>(0.0);
    var s4b = vec4<f32>(0.0);
    var s5a = vec4<f32>(0.0);
    var s5b = vec4<f32>(0.0);
    var s6a = vec4<f32>(0.0);
    var s6b = vec4<f32>(0.0);
    var s7a = vec4<f32>(0.0);
    var s7b = vec4<f32>(0.0);

    // The block to be carried next: position (oh, ow), block of images, pair.
    let first_oh = top + begin / max(cols, 1u);
    let first_ow = left_ + begin % max(cols, 1u);
    var oh = first_oh;
    var ow = first_ow;
    var done = begin;
    var block_n = 0u;
    var second = false;
    let blocks_n = fours / slices / block_fours;
    let blocks = (stop - begin) * blocks_n * select(1u, 2u, pair);
    for (var block = 0u; block <= blocks; block++) {
        let more = block < blocks;
        var l0 = vec4<f32>(0.0);
        var r0 = vec4<f32>(0.0);
        var l1 = vec4<f32>(0.0);
        var r1 = vec4<f32>(0.0);
        var l2 = vec4<f32>(0.0);
        var r2 = vec4<f32>(0.0);
        var l3 = vec4<f32>(0.0);
        var r3 = vec4<f32>(0.0);
        if (more) {
            let high = oh * p.stride;
            let wide = ow * p.stride;
            let in_image = image + block_n * block_fours;
            let in_x = (high * p.wx + wide) * p.cx * fours + in_image;
            let in_y = ((oh * p.wy + ow) * p.cy + m_carried) * fours + in_image;
            r0 = x_at(z, in_x, column0, high, wide, second);
            if (right_size > threads) {
                r1 = x_at(z, in_x, column1, high, wide, second);
            }
            if (right_size > 2u * threads) {
                r2 = x_at(z, in_x, column2, high, wide, second);
            }
            if (right_size > 3u * threads) {
                r3 = x_at(z, in_x, column3, high, wide, second);
            }
            l0 = y_at(z, in_y, m_carried < p.cy && thread < left_size, second);
            if (left_size > threads) {
                let m = m_carried + item_step;
                l1 = y_at(z, in_y + item_step * fours, m < p.cy, second);
            }
            if (left_size > 2u * threads) {
                let m = m_carried + 2u * item_step;
                l2 = y_at(z, in_y + 2u * item_step * fours, m < p.cy, second);
            }
            if (left_size > 3u * threads) {
                let m = m_carried + 3u * item_step;
                l3 = y_at(z, in_y + 3u * item_step * fours, m < p.cy, second);
            }
            block_n++;
            if (block_n == blocks_n) {
                block_n = 0u;
                done++;
                ow++;
                if (ow == left_ + cols) {
                    ow = left_;
                    oh++;
                }
                if (done == stop) {
                    done = begin;
                    oh = first_oh;
                    ow = first_ow;
                    second = true;
                }
            }
        }
        if (block > 0u) {
            let half = (block - 1u) & (buffers - 1u);
            let of_m = left0 + half * left_size + ty * block_size;
            let of_column = right0 + half * right_size;
            for (var k = 0u; k < block_fours; k++) {
                let b0 = right[of_column + swapped(tx + 0u * tn, k)];
                let b1 = right[of_column + swapped(tx + 1u * tn, k)];
                let b2 = right[of_column + swapped(tx + 2u * tn, k)];
                let b3 = right[of_column + swapped(tx + 3u * tn, k)];
                let p0 = vec4<f32>(b0.x, b1.x, b2.x, b3.x);
                let p1 = vec4<f32>(b0.y, b1.y, b2.y, b3.y);
                let p2 = vec4<f32>(b0.z, b1.z, b2.z, b3.z);
                let p3 = vec4<f32>(b0.w, b1.w, b2.w, b3.w);
                let a0 = left[of_m + 0u * block_fours + k];
                let a1 = left[of_m + 1u * block_fours + k];
                let a2 = left[of_m + 2u * block_fours + k];
                let a3 = left[of_m + 3u * block_fours + k];
                s0a = fma(vec4<f32>(a0.x), p0, s0a);
                s0a = fma(vec4<f32>(a0.y), p1, s0a);
                s0a = fma(vec4<f32>(a0.z), p2, s0a);
                s0a = fma(vec4<f32>(a0.w), p3, s0a);
                s1a = fma(vec4<f32>(a1.x), p0, s1a);
                s1a = fma(vec4<f32>(a1.y), p1, s1a);
                s1a = fma(vec4<f32>(a1.z), p2, s1a);
                s1a = fma(vec4<f32>(a1.w), p3, s1a);
                s2a = fma(vec4<f32>(a2.x), p0, s2a);
                s2a = fma(vec4<f32>(a2.y), p1, s2a);
                s2a = fma(vec4<f32>(a2.z), p2, s2a);
                s2a = fma(vec4<f32>(a2.w), p3, s2a);
                s3a = fma(vec4<f32>(a3.x), p0, s3a);
                s3a = fma(vec4<f32>(a3.y), p1, s3a);
                s3a = fma(vec4<f32>(a3.z), p2, s3a);
                s3a = fma(vec4<f32>(a3.w), p3, s3a);
                if (rows > 4u) {
                    let f0 = left[of_m + tm * block_size + 0u * block_fours + k];
                    let f1 = left[of_m + tm * block_size + 1u * block_fours + k];
                    let f2 = left[of_m + tm * block_size + 2u * block_fours + k];
                    let f3 = left[of_m + tm * block_size + 3u * block_fours + k];
                    s4a = fma(vec4<f32>(f0.x), p0, s4a);
                    s4a = fma(vec4<f32>(f0.y), p1, s4a);
                    s4a = fma(vec4<f32>(f0.z), p2, s4a);
                    s4a = fma(vec4<f32>(f0.w), p3, s4a);
                    s5a = fma(vec4<f32>(f1.x), p0, s5a);
                    s5a = fma(vec4<f32>(f1.y), p1, s5a);
                    s5a = fma(vec4<f32>(f1.z), p2, s5a);
                    s5a = fma(vec4<f32>(f1.w), p3, s5a);
                    s6a = fma(vec4<f32>(f2.x), p0, s6a);
                    s6a = fma(vec4<f32>(f2.y), p1, s6a);
                    s6a = fma(vec4<f32>(f2.z), p2, s6a);
                    s6a = fma(vec4<f32>(f2.w), p3, s6a);
                    s7a = fma(vec4<f32>(f3.x), p0, s7a);
                    s7a = fma(vec4<f32>(f3.y), p1, s7a);
                    s7a = fma(vec4<f32>(f3.z), p2, s7a);
                    s7a = fma(vec4<f32>(f3.w), p3, s7a);
                }
                if (quads > 1u) {
                    let d0 = right[of_column + swapped(tx + 4u * tn, k)];
                    let d1 = right[of_column + swapped(tx + 5u * tn, k)];
                    let d2 = right[of_column + swapped(tx + 6u * tn, k)];
                    let d3 = right[of_column + swapped(tx + 7u * tn, k)];
                    let q0 = vec4<f32>(d0.x, d1.x, d2.x, d3.x);
                    let q1 = vec4<f32>(d0.y, d1.y, d2.y, d3.y);
                    let q2 = vec4<f32>(d0.z, d1.z, d2.z, d3.z);
                    let q3 = vec4<f32>(d0.w, d1.w, d2.w, d3.w);
                    s0b = fma(vec4<f32>(a0.x), q0, s0b);
                    s0b = fma(vec4<f32>(a0.y), q1, s0b);
                    s0b = fma(vec4<f32>(a0.z), q2, s0b);
                    s0b = fma(vec4<f32>(a0.w), q3, s0b);
                    s1b = fma(vec4<f32>(a1.x), q0, s1b);
                    s1b = fma(vec4<f32>(a1.y), q1, s1b);
                    s1b = fma(vec4<f32>(a1.z), q2, s1b);
                    s1b = fma(vec4<f32>(a1.w), q3, s1b);
                    s2b = fma(vec4<f32>(a2.x), q0, s2b);
                    s2b = fma(vec4<f32>(a2.y), q1, s2b);
                    s2b = fma(vec4<f32>(a2.z), q2, s2b);
                    s2b = fma(vec4<f32>(a2.w), q3, s2b);
                    s3b = fma(vec4<f32>(a3.x), q0, s3b);
                    s3b = fma(vec4<f32>(a3.y), q1, s3b);
                    s3b = fma(vec4<f32>(a3.z), q2, s3b);
                    s3b = fma(vec4<f32>(a3.w), q3, s3b);
                    if (rows > 4u) {
                        let f0 = left[of_m + tm * block_size + 0u * block_fours + k];
                        let f1 = left[of_m + tm * block_size + 1u * block_fours + k];
                        let f2 = left[of_m + tm * block_size + 2u * block_fours + k];
                        let f3 = left[of_m + tm * block_size + 3u * block_fours + k];
                        s4b = fma(vec4<f32>(f0.x), q0, s4b);
                        s4b = fma(vec4<f32>(f0.y), q1, s4b);
                        s4b = fma(vec4<f32>(f0.z), q2, s4b);
                        s4b = fma(vec4<f32>(f0.w), q3, s4b);
                        s5b = fma(vec4<f32>(f1.x), q0, s5b);
                        s5b = fma(vec4<f32>(f1.y), q1, s5b);
                        s5b = fma(vec4<f32>(f1.z), q2, s5b);
                        s5b = fma(vec4<f32>(f1.w), q3, s5b);
                        s6b = fma(vec4<f32>(f2.x), q0, s6b);
                        s6b = fma(vec4<f32>(f2.y), q1, s6b);
                        s6b = fma(vec4<f32>(f2.z), q2, s6b);
                        s6b = fma(vec4<f32>(f2.w), q3, s6b);
                        s7b = fma(vec4<f32>(f3.x), q0, s7b);
                        s7b = fma(vec4<f32>(f3.y), q1, s7b);
                        s7b = fma(vec4<f32>(f3.z), q2, s7b);
                        s7b = fma(vec4<f32>(f3.w), q3, s7b);
                    }
                }
            }
        }
        if (buffers == 1u) {
            workgroupBarrier();
        }
        if (more) {
            let half = block & (buffers - 1u);
            let to_m = left0 + half * left_size + thread;
            let to_column = right0 + half * right_size;
            if (thread < right_size) {
                right[to_column + swapped(from_item, from_k)] = r0;
            }
            if (right_size > threads) {
                right[to_column + swapped(from_item + item_step, from_k)] = r1;
            }
            if (right_size > 2u * threads) {
                right[to_column + swapped(from_item + 2u * item_step, from_k)] = r2;
            }
            if (right_size > 3u * threads) {
                right[to_column + swapped(from_item + 3u * item_step, from_k)] = r3;
            }
            if (thread < left_size) {
                left[to_m] = l0;
            }
            if (left_size > threads) {
                left[to_m + threads] = l1;
            }
            if (left_size > 2u * threads) {
                left[to_m + 2u * threads] = l2;
            }
            if (left_size > 3u * threads) {
                left[to_m + 3u * threads] = l3;
            }
        }
        workgroupBarrier();
    }

    let m = first_m + ty * 4u;
    let column = first_column + tx;
    let at = vec3<u32>(thread, slice, z);
    store(s0a, m, column, split, at);
    store(s1a, m + 1u, column, split, at);
    store(s2a, m + 2u, column, split, at);
    store(s3a, m + 3u, column, split, at);
    if (quads > 1u) {
        store(s0b, m, column + 4u * tn, split, at);
        store(s1b, m + 1u, column + 4u * tn, split, at);
        store(s2b, m + 2u, column + 4u * tn, split, at);
        store(s3b, m + 3u, column + 4u * tn, split, at);
    }
    if (rows > 4u) {
        let m4 = m + 4u * tm;
        store(s4a, m4, column, split, at);
        store(s5a, m4 + 1u, column, split, at);
        store(s6a, m4 + 2u, column, split, at);
        store(s7a, m4 + 3u, column, split, at);
        if (quads > 1u) {
            store(s4b, m4, column + 4u * tn, split, at);
            store(s5b, m4 + 1u, column + 4u * tn, split, at);
            store(s6b, m4 + 2u, column + 4u * tn, split, at);
            store(s7b, m4 + 3u, column + 4u * tn, split, at);
        }
    }
}
