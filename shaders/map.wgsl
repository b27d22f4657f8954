// map.wgsl - kernel map: the elementwise family, a chain of functions in one pass.
//
// Letters: the result is [len]: an activation, a weight or a flat group of tensors; shapes don't
// matter here. An input is [len], or it is repeated: element i of the result reads element
// i / inner % count of it. A chain has `links`; link j computes `op_j` of two values, each an input
// (0 .. MAX_INPUTS) or the result of an earlier link (MAX_INPUTS + j). A function of one value has
// it twice. All of that is constant in a pipeline, so nothing of it is left to decide.
//
// Grid: a thread owns one element, or two beside each other in half precision; workgroups of 256
// fill x, then y; z = replica.

struct Params {
    len: u32,
    inner0: u32, count0: u32, inner1: u32, count1: u32,
    inner2: u32, count2: u32, inner3: u32, count3: u32,
    // The constants of each link's function, in order.
    x0: f32, y0: f32, x1: f32, y1: f32, x2: f32, y2: f32, x3: f32, y3: f32,
    x4: f32, y4: f32, x5: f32, y5: f32, x6: f32, y6: f32, x7: f32, y7: f32,
    x8: f32, y8: f32, x9: f32, y9: f32, x10: f32, y10: f32, x11: f32, y11: f32,
    x12: f32, y12: f32, x13: f32, y13: f32, x14: f32, y14: f32, x15: f32, y15: f32,
    stride0: u32, stride1: u32, stride2: u32, stride3: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> input0: array<u32>;
@group(0) @binding(1) var<storage, read> input1: array<u32>;
@group(0) @binding(2) var<storage, read> input2: array<u32>;
@group(0) @binding(3) var<storage, read> input3: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

override inputs: u32 = 1u;
override repeated: u32 = 0u; // bit i: input i is repeated
override links: u32 = 1u;
// Whether the result, and inputs that aren't repeated, are f16, two to a word, instead of f32.
override half: bool = false;

override op0: u32 = 0u; override a0: u32 = 0u; override b0: u32 = 0u;
override op1: u32 = 0u; override a1: u32 = 0u; override b1: u32 = 0u;
override op2: u32 = 0u; override a2: u32 = 0u; override b2: u32 = 0u;
override op3: u32 = 0u; override a3: u32 = 0u; override b3: u32 = 0u;
override op4: u32 = 0u; override a4: u32 = 0u; override b4: u32 = 0u;
override op5: u32 = 0u; override a5: u32 = 0u; override b5: u32 = 0u;
override op6: u32 = 0u; override a6: u32 = 0u; override b6: u32 = 0u;
override op7: u32 = 0u; override a7: u32 = 0u; override b7: u32 = 0u;
override op8: u32 = 0u; override a8: u32 = 0u; override b8: u32 = 0u;
override op9: u32 = 0u; override a9: u32 = 0u; override b9: u32 = 0u;
override op10: u32 = 0u; override a10: u32 = 0u; override b10: u32 = 0u;
override op11: u32 = 0u; override a11: u32 = 0u; override b11: u32 = 0u;
override op12: u32 = 0u; override a12: u32 = 0u; override b12: u32 = 0u;
override op13: u32 = 0u; override a13: u32 = 0u; override b13: u32 = 0u;
override op14: u32 = 0u; override a14: u32 = 0u; override b14: u32 = 0u;
override op15: u32 = 0u; override a15: u32 = 0u; override b15: u32 = 0u;

const MAX_INPUTS: u32 = 4u;

const ADD: u32 = 0u;
const SUB: u32 = 1u;
const MUL: u32 = 2u;
const AFFINE: u32 = 3u;
const RELU: u32 = 4u;
const RELU_GRAD: u32 = 5u;
const SIGMOID: u32 = 6u;
const SIGMOID_GRAD: u32 = 7u;
const INV_NORM: u32 = 8u;
const EXP: u32 = 9u;

fn sigmoid_of(v: f32) -> f32 {
    // exp of a negative number only: no overflow.
    let e = exp(-abs(v));
    return select(e, 1.0, v >= 0.0) / (1.0 + e);
}

fn apply(op: u32, a: f32, b: f32, x: f32, y: f32) -> f32 {
    switch (op) {
        case ADD: { return a + b; }
        case SUB: { return a - b; }
        case MUL: { return a * b; }
        case AFFINE: { return fma(x, a, y); }
        case RELU: { return max(a, 0.0); }
        case RELU_GRAD: { return select(0.0, a, b > 0.0); }
        case SIGMOID: { return sigmoid_of(a); }
        case SIGMOID_GRAD: { return a * b * (1.0 - b); }
        case INV_NORM: { return 1.0 / max(sqrt(a), x); }
        case EXP: { return exp(a); }
        // NaN: no such member. No constant may be one, so it is made of what isn't known before.
        default: { return bitcast<f32>(op | 0x7fc00000u); }
    }
}

// Which element of input `which` belongs to element i of the result.
fn index(which: u32, i: u32, inner: u32, count: u32) -> u32 {
    if (((repeated >> which) & 1u) == 0u) {
        return i;
    }
    return i / inner % count;
}

// Whether input `which` is in half precision.
fn is_half(which: u32) -> bool {
    return half && ((repeated >> which) & 1u) == 0u;
}

fn of_word(word: u32, i: u32, which: u32) -> f32 {
    if (is_half(which)) {
        let v = unpack2x16float(word);
        return select(v.x, v.y, i % 2u == 1u);
    }
    return bitcast<f32>(word);
}

fn input0_at(i: u32, z: u32) -> f32 {
    let at = z * p.stride0 + index(0u, i, p.inner0, p.count0);
    return of_word(input0[select(at, at / 2u, is_half(0u))], at, 0u);
}

fn input1_at(i: u32, z: u32) -> f32 {
    let at = z * p.stride1 + index(1u, i, p.inner1, p.count1);
    return of_word(input1[select(at, at / 2u, is_half(1u))], at, 1u);
}

fn input2_at(i: u32, z: u32) -> f32 {
    let at = z * p.stride2 + index(2u, i, p.inner2, p.count2);
    return of_word(input2[select(at, at / 2u, is_half(2u))], at, 2u);
}

fn input3_at(i: u32, z: u32) -> f32 {
    let at = z * p.stride3 + index(3u, i, p.inner3, p.count3);
    return of_word(input3[select(at, at / 2u, is_half(3u))], at, 3u);
}

// Element i of the last link.
fn chain(i: u32, z: u32) -> f32 {
    var v: array<f32, 20>; // the inputs, then the links
    v[0] = input0_at(i, z);
    if (inputs > 1u) { v[1] = input1_at(i, z); }
    if (inputs > 2u) { v[2] = input2_at(i, z); }
    if (inputs > 3u) { v[3] = input3_at(i, z); }
    v[4] = apply(op0, v[a0], v[b0], p.x0, p.y0);
    if (links > 1u) { v[5] = apply(op1, v[a1], v[b1], p.x1, p.y1); }
    if (links > 2u) { v[6] = apply(op2, v[a2], v[b2], p.x2, p.y2); }
    if (links > 3u) { v[7] = apply(op3, v[a3], v[b3], p.x3, p.y3); }
    if (links > 4u) { v[8] = apply(op4, v[a4], v[b4], p.x4, p.y4); }
    if (links > 5u) { v[9] = apply(op5, v[a5], v[b5], p.x5, p.y5); }
    if (links > 6u) { v[10] = apply(op6, v[a6], v[b6], p.x6, p.y6); }
    if (links > 7u) { v[11] = apply(op7, v[a7], v[b7], p.x7, p.y7); }
    if (links > 8u) { v[12] = apply(op8, v[a8], v[b8], p.x8, p.y8); }
    if (links > 9u) { v[13] = apply(op9, v[a9], v[b9], p.x9, p.y9); }
    if (links > 10u) { v[14] = apply(op10, v[a10], v[b10], p.x10, p.y10); }
    if (links > 11u) { v[15] = apply(op11, v[a11], v[b11], p.x11, p.y11); }
    if (links > 12u) { v[16] = apply(op12, v[a12], v[b12], p.x12, p.y12); }
    if (links > 13u) { v[17] = apply(op13, v[a13], v[b13], p.x13, p.y13); }
    if (links > 14u) { v[18] = apply(op14, v[a14], v[b14], p.x14, p.y14); }
    if (links > 15u) { v[19] = apply(op15, v[a15], v[b15], p.x15, p.y15); }
    return v[MAX_INPUTS + links - 1u];
}

// inputs and out [len]: out = the last link.
@compute @workgroup_size(256)
fn map(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = ((group.y * grid.x + group.x) * 256u + thread) * select(1u, 2u, half);
    let z = group.z;
    if (i >= p.len) {
        return;
    }
    let at = z * p.out_stride + i;
    if (half) {
        out[at / 2u] = pack2x16float(vec2<f32>(chain(i, z), chain(i + 1u, z)));
    } else {
        out[at] = bitcast<u32>(chain(i, z));
    }
}
