// conv_thin.wgsl - kernel conv_x into at most four channels at stride 2: variant `thin`, for the
// layer that makes images.
//
// Letters as in conv.wgsl, whose sums these are to the bit. The four positions of a 2 x 2 block of x
// meet the same few positions of y, each through a tap of its own: what is read of y is read once
// for all of them, and all channels of x. y is gone through backwards, so that every position meets
// its taps in order. Needs images in fours, and fours of y's channels in every slice.
//
// Grid: a workgroup of `lanes` threads; a thread owns four images of a block; blocks follow each
// other, images innermost; z = replica. What is read of w is the same for all threads.

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
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> source2: array<Four>;
@group(0) @binding(3) var<storage, read> w2: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> gate: array<Four>;
@group(0) @binding(6) var<storage, read_write> result: array<Four>;

override channels: u32 = 1u; // of x: 1 to 4
override lanes: u32 = 64u; // threads
override slices: u32 = 1u; // parts of y's channels
override pair: bool = false; // whether there is a second source and weight
override epilogue: u32 = 0u; // what becomes of a sum: flags below

const BIAS: u32 = 1u;
const RELU: u32 = 2u;
const SIGMOID: u32 = 4u;
const GATE: u32 = 8u;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
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

// Of four of y's channels: the weights of each for all of x's, or its four images.
struct FourChannels {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// The sums of a position: four images of each of x's channels.
struct Sums {
    m0: vec4<f32>,
    m1: vec4<f32>,
    m2: vec4<f32>,
    m3: vec4<f32>,
}

fn of_w(at: u32, second: bool) -> vec4<f32> {
    if (pair && second) {
        return w2[at];
    }
    return w[at];
}

// Weights [four of y's channels, x's channels] that start at vec4 `at`.
fn weights_at(at: u32, second: bool) -> FourChannels {
    let u = of_w(at, second);
    if (channels == 1u) {
        return FourChannels(vec4<f32>(u.x), vec4<f32>(u.y), vec4<f32>(u.z), vec4<f32>(u.w));
    }
    let v = of_w(at + 1u, second);
    if (channels == 2u) {
        return FourChannels(
            vec4<f32>(u.xy, 0.0, 0.0), vec4<f32>(u.zw, 0.0, 0.0),
            vec4<f32>(v.xy, 0.0, 0.0), vec4<f32>(v.zw, 0.0, 0.0),
        );
    }
    let t = of_w(at + 2u, second);
    if (channels == 3u) {
        return FourChannels(
            vec4<f32>(u.xyz, 0.0), vec4<f32>(u.w, v.xy, 0.0),
            vec4<f32>(v.zw, t.x, 0.0), vec4<f32>(t.yzw, 0.0),
        );
    }
    return FourChannels(u, v, t, of_w(at + 3u, second));
}

fn images_at(at: u32, fours: u32, second: bool) -> FourChannels {
    if (pair && second) {
        return FourChannels(
            loaded(source2[at]), loaded(source2[at + fours]),
            loaded(source2[at + 2u * fours]), loaded(source2[at + 3u * fours]),
        );
    }
    return FourChannels(
        loaded(source[at]), loaded(source[at + fours]),
        loaded(source[at + 2u * fours]), loaded(source[at + 3u * fours]),
    );
}

// sum + the products of four of y's channels, in order.
fn plus(weights: vec4<f32>, v: FourChannels, sum: vec4<f32>) -> vec4<f32> {
    let two = fma(vec4<f32>(weights.y), v.b, fma(vec4<f32>(weights.x), v.a, sum));
    return fma(vec4<f32>(weights.w), v.d, fma(vec4<f32>(weights.z), v.c, two));
}

fn add(weights: FourChannels, v: FourChannels, sums: ptr<function, Sums>) {
    let u = weights;
    (*sums).m0 = plus(vec4<f32>(u.a.x, u.b.x, u.c.x, u.d.x), v, (*sums).m0);
    if (channels > 1u) {
        (*sums).m1 = plus(vec4<f32>(u.a.y, u.b.y, u.c.y, u.d.y), v, (*sums).m1);
    }
    if (channels > 2u) {
        (*sums).m2 = plus(vec4<f32>(u.a.z, u.b.z, u.c.z, u.d.z), v, (*sums).m2);
    }
    if (channels > 3u) {
        (*sums).m3 = plus(vec4<f32>(u.a.w, u.b.w, u.c.w, u.d.w), v, (*sums).m3);
    }
}

fn total(a: Sums, b: Sums) -> Sums {
    return Sums(a.m0 + b.m0, a.m1 + b.m1, a.m2 + b.m2, a.m3 + b.m3);
}

fn store(sums: Sums, row: u32, column: u32, fours: u32, q: u32, z: u32) {
    if (row >= p.hx || column >= p.wx) {
        return; // the block reaches beyond x
    }
    let place = (row * p.wx + column) * channels * fours + q;
    finish(sums.m0, 0u, place, z);
    if (channels > 1u) { finish(sums.m1, 1u, place + fours, z); }
    if (channels > 2u) { finish(sums.m2, 2u, place + 2u * fours, z); }
    if (channels > 3u) { finish(sums.m3, 3u, place + 3u * fours, z); }
}

// y is [hy, wy, cy, n], w is [kh, kw, cy, cx]; x [hx, wx, cx, n] = epilogue(sum over taps and cy of
// y * w).
@compute @workgroup_size(lanes)
fn conv_x(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    let z = group.z;
    let fours = p.n / 4u;
    let wide = (p.wx + 1u) / 2u;
    let i = group.x * lanes + lane;
    let block = i / fours;
    let q = i % fours;
    let top = block / wide;
    let left_ = block % wide;
    if (top >= (p.hx + 1u) / 2u) {
        return;
    }

    // A position 2 * b + class of x meets y at b + whole - j through tap residue + 2 * j, j < count:
    // (whole, residue) of the second class, and of the first, which is `behind` by so many of y.
    let whole = (p.padding + 1u) / 2u;
    let behind = whole - p.padding / 2u;
    let residue = vec2<u32>(p.padding % 2u, (p.padding + 1u) % 2u);
    let high_count = (max(vec2<u32>(p.kh), residue) - residue + 1u) / 2u;
    let wide_count = (max(vec2<u32>(p.kw), residue) - residue + 1u) / 2u;
    let high_steps = max(high_count.x + behind, high_count.y);
    let wide_steps = max(wide_count.x + behind, wide_count.y);
    let depth = p.cy / slices;

    var t00 = Sums();
    var t01 = Sums();
    var t10 = Sums();
    var t11 = Sums();
    for (var slice = 0u; slice < slices; slice++) {
        var s00 = Sums();
        var s01 = Sums();
        var s10 = Sums();
        var s11 = Sums();
        let first_c = slice * depth;
        for (var part = 0u; part < select(1u, 2u, pair); part++) {
            let second = part == 1u;
            let of_source = z * (select(p.source_stride, p.source2_stride, second) >> 2u);
            let of_weights = z * (select(p.w_stride, p.w2_stride, second) >> 2u);
            for (var high = 0u; high < high_steps; high++) {
                let row = top + whole - high;
                let above = high - behind; // j of the first class
                let upper = above < high_count.x;
                let lower = high < high_count.y;
                for (var along = 0u; along < wide_steps; along++) {
                    let column = left_ + whole - along;
                    let before = along - behind;
                    let left_half = before < wide_count.x;
                    let right_half = along < wide_count.y;
                    if (row >= p.hy || column >= p.wy) {
                        continue;
                    }
                    let tap = vec4<u32>(
                        residue.x + 2u * above, residue.y + 2u * high,
                        residue.x + 2u * before, residue.y + 2u * along,
                    );
                    let rows = vec2<u32>(tap.x, tap.y) * p.kw;
                    // For the four positions, where the weights of first_c start.
                    let taps = vec4<u32>(rows.x + tap.zw, rows.y + tap.zw);
                    var in_w = of_weights + ((taps * p.cy + first_c) >> vec4<u32>(2u)) * channels;
                    var at = of_source + ((row * p.wy + column) * p.cy + first_c) * fours + q;
                    for (var c = 0u; c < depth; c += 4u) {
                        let v = images_at(at, fours, second);
                        if (upper && left_half) { add(weights_at(in_w.x, second), v, &s00); }
                        if (upper && right_half) { add(weights_at(in_w.y, second), v, &s01); }
                        if (lower && left_half) { add(weights_at(in_w.z, second), v, &s10); }
                        if (lower && right_half) { add(weights_at(in_w.w, second), v, &s11); }
                        at += 4u * fours;
                        in_w += channels;
                    }
                }
            }
        }
        t00 = total(t00, s00);
        t01 = total(t01, s01);
        t10 = total(t10, s10);
        t11 = total(t11, s11);
    }
    store(t00, 2u * top, 2u * left_, fours, q, z);
    store(t01, 2u * top, 2u * left_ + 1u, fours, q, z);
    store(t10, 2u * top + 1u, 2u * left_, fours, q, z);
    store(t11, 2u * top + 1u, 2u * left_ + 1u, fours, q, z);
}
