// 5 shared: a workgroup computes 32 channels of 32 images. It brings a block of input channels into
// workgroup memory once, and all its threads multiply from there: each with the register tile of
// 4_registers.wgsl.
//
// Operands as in 1_naive.wgsl; images come in fours. Grid: x = eights of fours of images, y = tiles
// of channels, z = position. Thread (tx, ty) has the four images tx and the channels ty + 8 j.

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

const BLOCK: u32 = 16u; // input channels in workgroup memory at a time
const SIDE: u32 = 8u; // threads along channels, and along images

// One vec4 holds the four channels of a thread. Rows are padded by one: they are stored along the
// block, and equal banks would serialise that.
var<workgroup> weights: array<vec4<f32>, 144>; // BLOCK * (SIDE + 1)
var<workgroup> columns: array<vec4<f32>, 128>; // BLOCK * SIDE

fn weight_at(tap: u32, m: u32, c: u32) -> f32 {
    if (m >= p.cy || c >= p.cx) {
        return 0.0;
    }
    return w[(tap * p.cy + m) * p.cx + c];
}

@compute @workgroup_size(8, 8)
fn conv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let fours = p.n / 4u;
    let tx = local.x;
    let ty = local.y;
    let i = group.x * SIDE + tx;
    let m = group.y * 4u * SIDE;
    let oh = group.z / p.wy;
    let ow = group.z % p.wy;
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
            let tap = th * p.kw + tw;
            let position = (ih * p.wx + iw) * p.cx;
            for (var first = 0u; first < p.cx; first += BLOCK) {
                // Neighbouring threads run along w's innermost axis, the input channels.
                for (var k = thread; k < BLOCK * SIDE; k += SIDE * SIDE) {
                    let c = first + k % BLOCK;
                    let channel = m + k / BLOCK;
                    weights[k % BLOCK * (SIDE + 1u) + k / BLOCK] = vec4<f32>(
                        weight_at(tap, channel, c), weight_at(tap, channel + SIDE, c),
                        weight_at(tap, channel + 2u * SIDE, c), weight_at(tap, channel + 3u * SIDE, c),
                    );
                }
                for (var k = ty; k < BLOCK; k += SIDE) {
                    var four = vec4<f32>(0.0);
                    if (i < fours && first + k < p.cx) {
                        four = x[(position + first + k) * fours + i];
                    }
                    columns[k * SIDE + tx] = four;
                }
                workgroupBarrier();
                for (var k = 0u; k < BLOCK; k++) {
                    let a = weights[k * (SIDE + 1u) + ty];
                    let b = columns[k * SIDE + tx];
                    sum0 = fma(vec4<f32>(a.x), b, sum0);
                    sum1 = fma(vec4<f32>(a.y), b, sum1);
                    sum2 = fma(vec4<f32>(a.z), b, sum2);
                    sum3 = fma(vec4<f32>(a.w), b, sum3);
                }
                workgroupBarrier();
            }
        }
    }
    store(group.z, m + ty, i, fours, sum0);
    store(group.z, m + ty + SIDE, i, fours, sum1);
    store(group.z, m + ty + 2u * SIDE, i, fours, sum2);
    store(group.z, m + ty + 3u * SIDE, i, fours, sum3);
}

fn store(position: u32, m: u32, i: u32, fours: u32, sum: vec4<f32>) {
    if (m < p.cy && i < fours) {
        y[(position * p.cy + m) * fours + i] = sum;
    }
}
