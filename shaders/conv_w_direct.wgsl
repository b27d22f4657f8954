// conv_w_direct.wgsl - kernel conv_w without workgroup memory for its tiles: variant `direct`, for
// software adapters and for devices whose workgroup memory is ordinary memory.
//
// Letters as in conv_w.wgsl, whose sums these are to the bit: for each slice of the images the
// split's positions of the first pair, then of the second, each position's images in order; slices
// are added in order. Needs the images of a slice in fours, and channels of y in `rows`.
//
// Grid: a workgroup owns 4 * lanes columns and `rows` channels of y, so that what is read of y is
// the same for all threads: x = column tile, y = split * channel tiles + channel tile, z = replica.
// Thread t owns the columns t + lanes * j, j < 4. Workgroups behind the last column tile own a
// channel of the bias each, in as many lanes as conv_w.wgsl has.

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
override rows: u32 = 16u; // channels of y of a thread
override lanes: u32 = 8u; // threads, each with four columns
override slices: u32 = 1u; // parts of the images

const LANES: u32 = 32u; // threads that add up one channel of a bias

override one_tap: bool = false; // whether a workgroup's columns are of one tap: all meet all

// The bias's lanes.
var<workgroup> sums: array<f32, LANES>;

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

// Sums a channel of x or y over the split's run of positions and over images.
fn sum_bias(c: u32, split: u32, z: u32, thread: u32) {
    let of_x = bias == 1u;
    let channels = select(p.cy, p.cx, of_x);
    if (c >= channels) {
        return; // the whole workgroup leaves
    }
    let positions = select(p.hy * p.wy, p.hx * p.wx, of_x);
    let run = (positions + p.splits - 1u) / p.splits;
    for (var lane = thread; lane < LANES; lane += lanes) {
        var sum = 0.0;
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
        sums[lane] = sum;
    }
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        for (var lane = thread; lane < half; lane += lanes) {
            sums[lane] += sums[lane + half];
        }
    }
    if (thread == 0u) {
        let weights = p.splits * p.kh * p.kw * p.cy * p.cx;
        w[z * p.w_stride + weights + split * channels + c] = sums[0];
    }
}

// Four images of a thread's four columns, image by image.
struct Images {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn by_image(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Images {
    return Images(
        vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(a.w, b.w, c.w, d.w),
    );
}

// Adds the products with four images of a channel of y, one after the other.
fn along(y: vec4<f32>, v: Images, sum: vec4<f32>) -> vec4<f32> {
    let two = fma(vec4<f32>(y.y), v.b, fma(vec4<f32>(y.x), v.a, sum));
    return fma(vec4<f32>(y.w), v.d, fma(vec4<f32>(y.z), v.c, two));
}

// A column: offset of its tap and channel in x, th - padding, tw - padding, 1 if it exists.
fn column_of(column: u32) -> vec4<u32> {
    let tap = column / p.cx;
    let th = tap / p.kw - p.padding;
    let tw = tap % p.kw - p.padding;
    let in_x = ((th * p.wx + tw) * p.cx + column % p.cx) * (p.n / 4u);
    return vec4<u32>(in_x, th, tw, select(0u, 1u, column < p.kh * p.kw * p.cx));
}

fn meets(column: vec4<u32>, oh: u32, ow: u32) -> bool {
    let inside = oh * p.stride + column.y < p.hx && ow * p.stride + column.z < p.wx;
    return one_tap || (column.w != 0u && inside);
}

// Stores channel m of y of a thread's four columns.
fn store(sum: vec4<f32>, m: u32, first_column: u32, split: u32, z: u32) {
    for (var j = 0u; j < 4u; j++) {
        let column = first_column + lanes * j;
        if (column < p.kh * p.kw * p.cx) {
            let row = (split * p.kh * p.kw + column / p.cx) * p.cy + m;
            w[z * p.w_stride + row * p.cx + column % p.cx] = sum[j];
        }
    }
}

// x, x2 are [hx, wx, cx, n], y, y2 are [hy, wy, cy, n]; w [splits, kh, kw, cy, cx] = sum over the
// split's positions and n of x * y (+ x2 * y2), then the bias's sums [splits, c].
@compute @workgroup_size(lanes)
fn conv_w(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    let z = group.z;
    let total_columns = p.kh * p.kw * p.cx;
    let column_tiles = (total_columns + 4u * lanes - 1u) / (4u * lanes);
    let channel_tiles = p.cy / rows;
    let split = group.y / channel_tiles;
    let channel_tile = group.y % channel_tiles;
    if (bias > 0u && group.x >= column_tiles) {
        let tile = (group.x - column_tiles) * channel_tiles + channel_tile;
        sum_bias(tile, split, z, lane);
        return; // the whole workgroup leaves
    }
    let m = channel_tile * rows;
    let fours = p.n / 4u;

    let first_column = group.x * 4u * lanes;
    let last_column = min(first_column + 4u * lanes, total_columns) - 1u;
    let column0 = column_of(first_column + lane);
    let column1 = column_of(first_column + lane + lanes);
    let column2 = column_of(first_column + lane + 2u * lanes);
    let column3 = column_of(first_column + lane + 3u * lanes);

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

    var total0 = vec4<f32>(0.0);
    var total1 = vec4<f32>(0.0);
    var total2 = vec4<f32>(0.0);
    var total3 = vec4<f32>(0.0);
    var total4 = vec4<f32>(0.0);
    var total5 = vec4<f32>(0.0);
    var total6 = vec4<f32>(0.0);
    var total7 = vec4<f32>(0.0);
    var total8 = vec4<f32>(0.0);
    var total9 = vec4<f32>(0.0);
    var total10 = vec4<f32>(0.0);
    var total11 = vec4<f32>(0.0);
    var total12 = vec4<f32>(0.0);
    var total13 = vec4<f32>(0.0);
    var total14 = vec4<f32>(0.0);
    var total15 = vec4<f32>(0.0);
    for (var slice = 0u; slice < slices; slice++) {
        var sum0 = vec4<f32>(0.0);
        var sum1 = vec4<f32>(0.0);
        var sum2 = vec4<f32>(0.0);
        var sum3 = vec4<f32>(0.0);
        var sum4 = vec4<f32>(0.0);
        var sum5 = vec4<f32>(0.0);
        var sum6 = vec4<f32>(0.0);
        var sum7 = vec4<f32>(0.0);
        var sum8 = vec4<f32>(0.0);
        var sum9 = vec4<f32>(0.0);
        var sum10 = vec4<f32>(0.0);
        var sum11 = vec4<f32>(0.0);
        var sum12 = vec4<f32>(0.0);
        var sum13 = vec4<f32>(0.0);
        var sum14 = vec4<f32>(0.0);
        var sum15 = vec4<f32>(0.0);
        let first_image = slice * (fours / slices);
        for (var at = begin; at < stop; at++) {
            let oh = top + at / cols;
            let ow = left_ + at % cols;
            let position = (oh * p.stride * p.wx + ow * p.stride) * p.cx * fours;
            let in_x = z * (p.x_stride >> 2u) + position + first_image;
            let row = ((oh * p.wy + ow) * p.cy + m) * fours + first_image;
            let in_y = z * (p.y_stride >> 2u) + row;
            let meets0 = meets(column0, oh, ow);
            let meets1 = meets(column1, oh, ow);
            let meets2 = meets(column2, oh, ow);
            let meets3 = meets(column3, oh, ow);
            let at0 = select(0u, in_x + column0.x, meets0);
            let at1 = select(0u, in_x + column1.x, meets1);
            let at2 = select(0u, in_x + column2.x, meets2);
            let at3 = select(0u, in_x + column3.x, meets3);
            for (var i = 0u; i < fours / slices; i++) {
                let v = by_image(
                    select(vec4<f32>(0.0), loaded(x[at0 + i]), meets0),
                    select(vec4<f32>(0.0), loaded(x[at1 + i]), meets1),
                    select(vec4<f32>(0.0), loaded(x[at2 + i]), meets2),
                    select(vec4<f32>(0.0), loaded(x[at3 + i]), meets3),
                );
                sum0 = along(loaded(y[in_y + i]), v, sum0);
                if (rows > 1u) { sum1 = along(loaded(y[in_y + fours + i]), v, sum1); }
                if (rows > 2u) { sum2 = along(loaded(y[in_y + 2u * fours + i]), v, sum2); }
                if (rows > 3u) { sum3 = along(loaded(y[in_y + 3u * fours + i]), v, sum3); }
                if (rows > 4u) { sum4 = along(loaded(y[in_y + 4u * fours + i]), v, sum4); }
                if (rows > 5u) { sum5 = along(loaded(y[in_y + 5u * fours + i]), v, sum5); }
                if (rows > 6u) { sum6 = along(loaded(y[in_y + 6u * fours + i]), v, sum6); }
                if (rows > 7u) { sum7 = along(loaded(y[in_y + 7u * fours + i]), v, sum7); }
                if (rows > 8u) { sum8 = along(loaded(y[in_y + 8u * fours + i]), v, sum8); }
                if (rows > 9u) { sum9 = along(loaded(y[in_y + 9u * fours + i]), v, sum9); }
                if (rows > 10u) { sum10 = along(loaded(y[in_y + 10u * fours + i]), v, sum10); }
                if (rows > 11u) { sum11 = along(loaded(y[in_y + 11u * fours + i]), v, sum11); }
                if (rows > 12u) { sum12 = along(loaded(y[in_y + 12u * fours + i]), v, sum12); }
                if (rows > 13u) { sum13 = along(loaded(y[in_y + 13u * fours + i]), v, sum13); }
                if (rows > 14u) { sum14 = along(loaded(y[in_y + 14u * fours + i]), v, sum14); }
                if (rows > 15u) { sum15 = along(loaded(y[in_y + 15u * fours + i]), v, sum15); }
            }
        }
        if (pair) {
            for (var at = begin; at < stop; at++) {
                let oh = top + at / cols;
                let ow = left_ + at % cols;
                let position = (oh * p.stride * p.wx + ow * p.stride) * p.cx * fours;
                let in_x = z * (p.x2_stride >> 2u) + position + first_image;
                let row = ((oh * p.wy + ow) * p.cy + m) * fours + first_image;
                let in_y = z * (p.y2_stride >> 2u) + row;
                let meets0 = meets(column0, oh, ow);
                let meets1 = meets(column1, oh, ow);
                let meets2 = meets(column2, oh, ow);
                let meets3 = meets(column3, oh, ow);
                let at0 = select(0u, in_x + column0.x, meets0);
                let at1 = select(0u, in_x + column1.x, meets1);
                let at2 = select(0u, in_x + column2.x, meets2);
                let at3 = select(0u, in_x + column3.x, meets3);
                for (var i = 0u; i < fours / slices; i++) {
                    let v = by_image(
                        select(vec4<f32>(0.0), loaded(x2[at0 + i]), meets0),
                        select(vec4<f32>(0.0), loaded(x2[at1 + i]), meets1),
                        select(vec4<f32>(0.0), loaded(x2[at2 + i]), meets2),
                        select(vec4<f32>(0.0), loaded(x2[at3 + i]), meets3),
                    );
                    sum0 = along(loaded(y2[in_y + i]), v, sum0);
                    if (rows > 1u) { sum1 = along(loaded(y2[in_y + fours + i]), v, sum1); }
                    if (rows > 2u) { sum2 = along(loaded(y2[in_y + 2u * fours + i]), v, sum2); }
                    if (rows > 3u) { sum3 = along(loaded(y2[in_y + 3u * fours + i]), v, sum3); }
                    if (rows > 4u) { sum4 = along(loaded(y2[in_y + 4u * fours + i]), v, sum4); }
                    if (rows > 5u) { sum5 = along(loaded(y2[in_y + 5u * fours + i]), v, sum5); }
                    if (rows > 6u) { sum6 = along(loaded(y2[in_y + 6u * fours + i]), v, sum6); }
                    if (rows > 7u) { sum7 = along(loaded(y2[in_y + 7u * fours + i]), v, sum7); }
                    if (rows > 8u) { sum8 = along(loaded(y2[in_y + 8u * fours + i]), v, sum8); }
                    if (rows > 9u) { sum9 = along(loaded(y2[in_y + 9u * fours + i]), v, sum9); }
                    if (rows > 10u) { sum10 = along(loaded(y2[in_y + 10u * fours + i]), v, sum10); }
                    if (rows > 11u) { sum11 = along(loaded(y2[in_y + 11u * fours + i]), v, sum11); }
                    if (rows > 12u) { sum12 = along(loaded(y2[in_y + 12u * fours + i]), v, sum12); }
                    if (rows > 13u) { sum13 = along(loaded(y2[in_y + 13u * fours + i]), v, sum13); }
                    if (rows > 14u) { sum14 = along(loaded(y2[in_y + 14u * fours + i]), v, sum14); }
                    if (rows > 15u) { sum15 = along(loaded(y2[in_y + 15u * fours + i]), v, sum15); }
                }
            }
        }
        total0 += sum0;
        total1 += sum1;
        total2 += sum2;
        total3 += sum3;
        total4 += sum4;
        total5 += sum5;
        total6 += sum6;
        total7 += sum7;
        total8 += sum8;
        total9 += sum9;
        total10 += sum10;
        total11 += sum11;
        total12 += sum12;
        total13 += sum13;
        total14 += sum14;
        total15 += sum15;
    }
    store(total0, m, first_column + lane, split, z);
    if (rows > 1u) { store(total1, m + 1u, first_column + lane, split, z); }
    if (rows > 2u) { store(total2, m + 2u, first_column + lane, split, z); }
    if (rows > 3u) { store(total3, m + 3u, first_column + lane, split, z); }
    if (rows > 4u) { store(total4, m + 4u, first_column + lane, split, z); }
    if (rows > 5u) { store(total5, m + 5u, first_column + lane, split, z); }
    if (rows > 6u) { store(total6, m + 6u, first_column + lane, split, z); }
    if (rows > 7u) { store(total7, m + 7u, first_column + lane, split, z); }
    if (rows > 8u) { store(total8, m + 8u, first_column + lane, split, z); }
    if (rows > 9u) { store(total9, m + 9u, first_column + lane, split, z); }
    if (rows > 10u) { store(total10, m + 10u, first_column + lane, split, z); }
    if (rows > 11u) { store(total11, m + 11u, first_column + lane, split, z); }
    if (rows > 12u) { store(total12, m + 12u, first_column + lane, split, z); }
    if (rows > 13u) { store(total13, m + 13u, first_column + lane, split, z); }
    if (rows > 14u) { store(total14, m + 14u, first_column + lane, split, z); }
    if (rows > 15u) { store(total15, m + 15u, first_column + lane, split, z); }
}
