// 3 fours: a thread computes four images, which lie side by side: one wide load of x, and each
// weight serves four sums.
//
// Operands as in 1_naive.wgsl; images come in fours. Grid: x = fours of images, y = channels, z =
// position.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// The taps first .. end that position `o` of y meets.
fn taps(o: u32, kernel: u32, size: u32) -> vec2<u32> {
    let first = min(monus(p.padding, o * p.stride), kernel);
    let end = min(monus(size + p.padding, o * p.stride), kernel);
    return vec2<u32>(first, max(first, end));
}

@compute @workgroup_size(16, 4)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let fours = p.n / 4u;
    let i = id.x;
    let m = id.y;
    let oh = id.z / p.wy;
    let ow = id.z % p.wy;
    if (i >= fours || m >= p.cy) {
        return;
    }
    let rows = taps(oh, p.kh, p.hx);
    let cols = taps(ow, p.kw, p.wx);
    var sum = vec4<f32>(0.0);
    for (var th = rows.x; th < rows.y; th++) {
        for (var tw = cols.x; tw < cols.y; tw++) {
            let ih = oh * p.stride + th - p.padding;
            let iw = ow * p.stride + tw - p.padding;
            let from_w = ((th * p.kw + tw) * p.cy + m) * p.cx;
            let from_x = (ih * p.wx + iw) * p.cx * fours + i;
            for (var c = 0u; c < p.cx; c++) {
                sum = fma(vec4<f32>(w[from_w + c]), x[from_x + c * fours], sum);
            }
        }
    }
    y[(id.z * p.cy + m) * fours + i] = sum;
}
