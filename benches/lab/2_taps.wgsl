// 2 taps: which taps lie inside x is worked out once; the loops run over those and ask nothing.
//
// Operands and grid as in 1_naive.wgsl.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// The taps first .. end that position `o` of y meets.
fn taps(o: u32, kernel: u32, size: u32) -> vec2<u32> {
    let first = min(monus(p.padding, o * p.stride), kernel);
    let end = min(monus(size + p.padding, o * p.stride), kernel);
    return vec2<u32>(first, max(first, end));
}

@compute @workgroup_size(64)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let m = id.y;
    let oh = id.z / p.wy;
    let ow = id.z % p.wy;
    if (i >= p.n) {
        return;
    }
    let rows = taps(oh, p.kh, p.hx);
    let cols = taps(ow, p.kw, p.wx);
    var sum = 0.0;
    for (var th = rows.x; th < rows.y; th++) {
        for (var tw = cols.x; tw < cols.y; tw++) {
            let ih = oh * p.stride + th - p.padding;
            let iw = ow * p.stride + tw - p.padding;
            let from_w = ((th * p.kw + tw) * p.cy + m) * p.cx;
            let from_x = (ih * p.wx + iw) * p.cx * p.n + i;
            for (var c = 0u; c < p.cx; c++) {
                sum = fma(w[from_w + c], x[from_x + c * p.n], sum);
            }
        }
    }
    y[(id.z * p.cy + m) * p.n + i] = sum;
}
