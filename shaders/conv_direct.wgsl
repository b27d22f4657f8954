// conv_direct.wgsl - kernels conv_y and conv_x without workgroup memory: variant `direct`, for
// software adapters and for devices whose workgroup memory is ordinary memory.
//
// Letters as in conv.wgsl, whose sums these are to the bit: for each slice of the input channels
// the taps of the first source, then of the second, each tap's channels in order; slices are added
// in order. Needs images in fours, and channels of the result in `rows`.
//
// Grid: a workgroup owns one position of the result and `rows` of its channels, so that what is
// read of w, and which taps there are, is the same for all threads: x = position, y = channel tile,
// z = replica. A thread owns four images, and four more for every `lanes` fours there are.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    source_stride: u32, w_stride: u32, source2_stride: u32, w2_stride: u32, bias_stride: u32,
    gate_stride: u32, result_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

// Four images as they are stored. In half precision the host puts other lines here
// (src/kernels/half.rs).
alias Four = vec4<f32>;
fn loaded(v: Four) -> vec4<f32> { return v; }
fn stored(v: vec4<f32>) -> Four { return v; }

@group(0) @binding(0) var<storage, read> source: array<Four>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> source2: array<Four>;
@group(0) @binding(3) var<storage, read> w2: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> gate: array<Four>;
@group(0) @binding(6) var<storage, read_write> result: array<Four>;

override rows: u32 = 16u; // channels of a thread
override lanes: u32 = 16u; // threads, each with four images
override slices: u32 = 1u; // parts of the input channels
override pair: bool = false; // whether there is a second source and weight
override epilogue: u32 = 0u; // what becomes of a sum: flags below

const BIAS: u32 = 1u;
const RELU: u32 = 2u;
const SIGMOID: u32 = 4u;
const GATE: u32 = 8u;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// Taps of one direction that a position meets: `count` taps from `tap`, `tap_step` apart; the first
// meets source coordinate `at`, the next ones `at_step` further, modulo 2^32.
struct Taps {
    count: u32,
    tap: u32,
    tap_step: u32,
    at: u32,
    at_step: u32,
}

fn taps(transposed: bool, position: u32, kernel: u32, size: u32) -> Taps {
    if (!transposed) {
        let base = position * p.stride;
        let first = min(monus(p.padding, base), kernel);
        let end = min(monus(size + p.padding, base), kernel);
        return Taps(monus(end, first), first, 1u, base + first - p.padding, 1u);
    }
    let whole = (position + p.padding) / p.stride;
    let residue = (position + p.padding) % p.stride;
    let all = (monus(kernel, residue) + p.stride - 1u) / p.stride;
    let first = monus(whole + 1u, size);
    let end = min(all, whole + 1u);
    let tap = residue + p.stride * first;
    return Taps(monus(end, first), tap, p.stride, whole - first, 0xffffffffu);
}

fn of_w(at: u32) -> vec4<f32> {
    return vec4<f32>(w[at]);
}

fn of_w2(at: u32) -> vec4<f32> {
    return vec4<f32>(w2[at]);
}

fn sigmoid_of(v: vec4<f32>) -> vec4<f32> {
    // exp of negative numbers only: no overflow.
    let e = exp(-abs(v));
    return select(e, vec4<f32>(1.0), v >= vec4<f32>(0.0)) / (1.0 + e);
}

// Adds what the epilogue says and stores four images of channel m. `index` is their place in the
// result of this replica.
fn finish(sum: vec4<f32>, m: u32, index: u32, z: u32) {
    var v = sum;
    if ((epilogue & BIAS) != 0u) {
        v += bias[z * p.bias_stride + m];
    }
    if ((epilogue & RELU) != 0u) {
        v = max(v, vec4<f32>(0.0));
    }
    if ((epilogue & SIGMOID) != 0u) {
        v = sigmoid_of(v);
    }
    if ((epilogue & GATE) != 0u) {
        let open = loaded(gate[z * (p.gate_stride >> 2u) + index]) > vec4<f32>(0.0);
        v = select(vec4<f32>(0.0), v, open);
    }
    result[z * (p.result_stride >> 2u) + index] = stored(v);
}

fn convolve(group: vec3<u32>, lane: u32, transposed: bool) {
    let z = group.z;
    let inputs = select(p.cx, p.cy, transposed);
    let channels = select(p.cy, p.cx, transposed);
    let source_height = select(p.hx, p.hy, transposed);
    let source_width = select(p.wx, p.wy, transposed);
    let width = select(p.wy, p.wx, transposed);
    // Strides of w along the channels of the result and of the source.
    let of_m = select(p.cx, 1u, transposed);
    let of_c = select(1u, p.cx, transposed);

    let m = group.y * rows;
    let across = taps(transposed, group.x / width, p.kh, source_height);
    let along = taps(transposed, group.x % width, p.kw, source_width);
    let fours = p.n / 4u;
    let depth = inputs / slices;

    for (var q = lane; q < fours; q += lanes) {
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
            let first_c = slice * depth;
            for (var i = 0u; i < across.count; i++) {
                let row = across.at + i * across.at_step;
                let tap_row = (across.tap + i * across.tap_step) * p.kw;
                for (var j = 0u; j < along.count; j++) {
                    let place = row * source_width + along.at + j * along.at_step;
                    let tap = tap_row + along.tap + j * along.tap_step;
                    var at = z * (p.source_stride >> 2u) + (place * inputs + first_c) * fours + q;
                    var in_w = z * p.w_stride + tap * p.cy * p.cx + first_c * of_c + m * of_m;
                    for (var c = 0u; c < depth; c++) {
                        let v = loaded(source[at]);
                        sum0 = fma(of_w(in_w), v, sum0);
                        if (rows > 1u) { sum1 = fma(of_w(in_w + of_m), v, sum1); }
                        if (rows > 2u) { sum2 = fma(of_w(in_w + 2u * of_m), v, sum2); }
                        if (rows > 3u) { sum3 = fma(of_w(in_w + 3u * of_m), v, sum3); }
                        if (rows > 4u) { sum4 = fma(of_w(in_w + 4u * of_m), v, sum4); }
                        if (rows > 5u) { sum5 = fma(of_w(in_w + 5u * of_m), v, sum5); }
                        if (rows > 6u) { sum6 = fma(of_w(in_w + 6u * of_m), v, sum6); }
                        if (rows > 7u) { sum7 = fma(of_w(in_w + 7u * of_m), v, sum7); }
                        if (rows > 8u) { sum8 = fma(of_w(in_w + 8u * of_m), v, sum8); }
                        if (rows > 9u) { sum9 = fma(of_w(in_w + 9u * of_m), v, sum9); }
                        if (rows > 10u) { sum10 = fma(of_w(in_w + 10u * of_m), v, sum10); }
                        if (rows > 11u) { sum11 = fma(of_w(in_w + 11u * of_m), v, sum11); }
                        if (rows > 12u) { sum12 = fma(of_w(in_w + 12u * of_m), v, sum12); }
                        if (rows > 13u) { sum13 = fma(of_w(in_w + 13u * of_m), v, sum13); }
                        if (rows > 14u) { sum14 = fma(of_w(in_w + 14u * of_m), v, sum14); }
                        if (rows > 15u) { sum15 = fma(of_w(in_w + 15u * of_m), v, sum15); }
                        at += fours;
                        in_w += of_c;
                    }
                }
            }
            if (pair) {
                for (var i = 0u; i < across.count; i++) {
                    let row = across.at + i * across.at_step;
                    let tap_row = (across.tap + i * across.tap_step) * p.kw;
                    for (var j = 0u; j < along.count; j++) {
                        let place = row * source_width + along.at + j * along.at_step;
                        let tap = tap_row + along.tap + j * along.tap_step;
                        let row_at = (place * inputs + first_c) * fours + q;
                        var at = z * (p.source2_stride >> 2u) + row_at;
                        var in_w = z * p.w2_stride + tap * p.cy * p.cx + first_c * of_c + m * of_m;
                        for (var c = 0u; c < depth; c++) {
                            let v = loaded(source2[at]);
                            sum0 = fma(of_w2(in_w), v, sum0);
                            if (rows > 1u) { sum1 = fma(of_w2(in_w + of_m), v, sum1); }
                            if (rows > 2u) { sum2 = fma(of_w2(in_w + 2u * of_m), v, sum2); }
                            if (rows > 3u) { sum3 = fma(of_w2(in_w + 3u * of_m), v, sum3); }
                            if (rows > 4u) { sum4 = fma(of_w2(in_w + 4u * of_m), v, sum4); }
                            if (rows > 5u) { sum5 = fma(of_w2(in_w + 5u * of_m), v, sum5); }
                            if (rows > 6u) { sum6 = fma(of_w2(in_w + 6u * of_m), v, sum6); }
                            if (rows > 7u) { sum7 = fma(of_w2(in_w + 7u * of_m), v, sum7); }
                            if (rows > 8u) { sum8 = fma(of_w2(in_w + 8u * of_m), v, sum8); }
                            if (rows > 9u) { sum9 = fma(of_w2(in_w + 9u * of_m), v, sum9); }
                            if (rows > 10u) { sum10 = fma(of_w2(in_w + 10u * of_m), v, sum10); }
                            if (rows > 11u) { sum11 = fma(of_w2(in_w + 11u * of_m), v, sum11); }
                            if (rows > 12u) { sum12 = fma(of_w2(in_w + 12u * of_m), v, sum12); }
                            if (rows > 13u) { sum13 = fma(of_w2(in_w + 13u * of_m), v, sum13); }
                            if (rows > 14u) { sum14 = fma(of_w2(in_w + 14u * of_m), v, sum14); }
                            if (rows > 15u) { sum15 = fma(of_w2(in_w + 15u * of_m), v, sum15); }
                            at += fours;
                            in_w += of_c;
                        }
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
        let place = (group.x * channels + m) * fours + q;
        finish(total0, m, place, z);
        if (rows > 1u) { finish(total1, m + 1u, place + 1u * fours, z); }
        if (rows > 2u) { finish(total2, m + 2u, place + 2u * fours, z); }
        if (rows > 3u) { finish(total3, m + 3u, place + 3u * fours, z); }
        if (rows > 4u) { finish(total4, m + 4u, place + 4u * fours, z); }
        if (rows > 5u) { finish(total5, m + 5u, place + 5u * fours, z); }
        if (rows > 6u) { finish(total6, m + 6u, place + 6u * fours, z); }
        if (rows > 7u) { finish(total7, m + 7u, place + 7u * fours, z); }
        if (rows > 8u) { finish(total8, m + 8u, place + 8u * fours, z); }
        if (rows > 9u) { finish(total9, m + 9u, place + 9u * fours, z); }
        if (rows > 10u) { finish(total10, m + 10u, place + 10u * fours, z); }
        if (rows > 11u) { finish(total11, m + 11u, place + 11u * fours, z); }
        if (rows > 12u) { finish(total12, m + 12u, place + 12u * fours, z); }
        if (rows > 13u) { finish(total13, m + 13u, place + 13u * fours, z); }
        if (rows > 14u) { finish(total14, m + 14u, place + 14u * fours, z); }
        if (rows > 15u) { finish(total15, m + 15u, place + 15u * fours, z); }
    }
}

// x is [hx, wx, cx, n], w is [kh, kw, cy, cx]; y [hy, wy, cy, n] = epilogue(sum over taps and cx of
// x * w).
@compute @workgroup_size(lanes)
fn conv_y(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    convolve(group, lane, false);
}

// y is [hy, wy, cy, n], w is [kh, kw, cy, cx]; x [hx, wx, cx, n] = epilogue(sum over taps and cy of
// y * w).
@compute @workgroup_size(lanes)
fn conv_x(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    convolve(group, lane, true);
}
