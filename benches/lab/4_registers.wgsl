// 4 registers: a thread computes four channels of four images: eight loads for sixteen
// multiply-adds instead of two for one.
//
// Operands as in 1_naive.wgsl; images come in fours. Grid: x = fours of images, y = fours of
// channels, z = position.

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
    let m = 4u * id.y;
    let oh = id.z / p.wy;
    let ow = id.z % p.wy;
    if (i >= fours || m >= p.cy) {
        return;
    }
    // A channel beyond the last reads the last one's weights, and isn't stored.
    let last = p.cy - 1u;
    let channels = min(vec4<u32>(m, m + 1u, m + 2u, m + 3u), vec4<u32>(last)) * p.cx;
    let rows = taps(oh, p.kh, p.hx);
    let cols = taps(ow, p.kw, p.wx);
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    for (var th = rows.x; th < rows.y; th++) {
        for (var tw = cols.x; tw < cols.y; tw++) {
            let ih = oh * p.stride + th - p.padding;
            let iw = ow * p.stride + tw - p.padding;
            let from_w = channels + (th * p.kw + tw) * p.cy * p.cx;
            let from_x = (ih * p.wx + iw) * p.cx * fours + i;
            for (var c = 0u; c < p.cx; c++) {
                let b = x[from_x + c * fours];
                sum0 = fma(vec4<f32>(w[from_w.x + c]), b, sum0);
                sum1 = fma(vec4<f32>(w[from_w.y + c]), b, sum1);
                sum2 = fma(vec4<f32>(w[from_w.z + c]), b, sum2);
                sum3 = fma(vec4<f32>(w[from_w.w + c]), b, sum3);
            }
        }
    }
    let at = (id.z * p.cy + m) * fours + i;
    y[at] = sum0;
    if (m + 1u < p.cy) {
        y[at + fours] = sum1;
    }
    if (m + 2u < p.cy) {
        y[at + 2u * fours] = sum2;
    }
    if (m + 3u < p.cy) {
        y[at + 3u * fours] = sum3;
    }
}
