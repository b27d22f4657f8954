// 1 naive: a thread computes one element of y and asks of every tap whether it lies inside x.
//
// x [hx, wx, cx, n], w [kh, kw, cy, cx], y [hy, wy, cy, n], as in shaders/conv.wgsl.
// Grid: x = images, y = channel, z = position.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let m = id.y;
    let oh = id.z / p.wy;
    let ow = id.z % p.wy;
    if (i >= p.n) {
        return;
    }
    var sum = 0.0;
    for (var th = 0u; th < p.kh; th++) {
        for (var tw = 0u; tw < p.kw; tw++) {
            // Outside on the left is a large number.
            let ih = oh * p.stride + th - p.padding;
            let iw = ow * p.stride + tw - p.padding;
            for (var c = 0u; c < p.cx; c++) {
                if (ih < p.hx && iw < p.wx) {
                    let a = w[((th * p.kw + tw) * p.cy + m) * p.cx + c];
                    sum = fma(a, x[((ih * p.wx + iw) * p.cx + c) * p.n + i], sum);
                }
            }
        }
    }
    y[(id.z * p.cy + m) * p.n + i] = sum;
}
