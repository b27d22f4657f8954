// conv_tiles.wgsl - kernels conv_y and conv_x by register tiles of `rows` channels x 4 * `quads`
// images a thread: variants for layers whose images and channels come in fours.
//
// Letters as in conv.wgsl, whose sums these are to the bit. There is no list of terms: taps are
// outside, blocks of `block_size` input channels of a tap inside, so addresses only move on. A
// block is on its way from memory to registers while the one before it is multiplied; with two
// `buffers` in workgroup memory it is stored without waiting for the others.
//
// Grid: a workgroup owns rows * tm output channels x 4 * quads * tn columns of one row and class,
// numbered as in conv.wgsl. Thread (tx, ty, slice) sums over the slice for channels ty * 4 ..
// ty * 4 + 3 (and those 4 * tm further) and for the four images of column quad tx (and tx + tn).

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

override tm: u32 = 8u; // threads along channels
override tn: u32 = 8u; // threads along column quads
override slices: u32 = 1u; // parts of the input channels
override rows: u32 = 4u; // channels of a thread: 4 or 8
override quads: u32 = 1u; // column quads of a thread: 1 or 2
override block_size: u32 = 8u; // input channels in workgroup memory at a time: 8 or 16
override buffers: u32 = 2u; // blocks in workgroup memory: 1 or 2
override pair: bool = false; // whether there is a second source and weight
override epilogue: u32 = 0u; // what becomes of a sum: flags below

const NO_LIMIT: u32 = 0xffffffffu;

const BIAS: u32 = 1u;
const RELU: u32 = 2u;
const SIGMOID: u32 = 4u;
const GATE: u32 = 8u;

// For each slice and buffer. conv_x keeps a vec4 of four output channels for each input channel,
// conv_y of four input channels for each output channel: as they lie in w.
var<workgroup> weights: array<vec4<f32>, slices * buffers * rows * tm * block_size / 4u>;
var<workgroup> columns: array<vec4<f32>, slices * buffers * block_size * quads * tn>;

// Taps of one direction, for a run of positions: `count` taps starting at `tap`, `tap_step` apart.
// The source coordinate is the position's anchor + shift, where the shift starts at `shift` and
// changes by `shift_step`; all modulo 2^32.
struct Taps {
    count: u32,
    tap: u32,
    tap_step: u32,
    shift: u32,
    shift_step: u32,
}

fn monus(a: u32, b: u32) -> u32 {
    return max(a, b) - b;
}

// Taps that take at least one of the positions lo ..= hi into 0 .. size. A position of conv_y is o,
// its anchor o * stride - padding and the shift the tap. A position of conv_x is q with i = q *
// stride + phase, its anchor q; of taps residue + stride * j the source coordinate is q + whole -
// j.
fn taps(transposed: bool, phase: u32, lo: u32, hi: u32, kernel: u32, size: u32) -> Taps {
    if (!transposed) {
        let first = min(monus(p.padding, hi * p.stride), kernel);
        let end = min(monus(size + p.padding, lo * p.stride), kernel);
        return Taps(monus(end, first), first, 1u, first, 1u);
    }
    let residue = (phase + p.padding) % p.stride;
    let whole = (phase + p.padding) / p.stride;
    let all = (monus(kernel, residue) + p.stride - 1u) / p.stride;
    let first = monus(lo + whole + 1u, size);
    let end = min(all, hi + whole + 1u);
    let tap = residue + p.stride * first;
    return Taps(monus(end, first), tap, p.stride, whole - first, 0xffffffffu);
}

fn sigmoid_of(v: vec4<f32>) -> vec4<f32> {
    // exp of negative numbers only: no overflow.
    let e = exp(-abs(v));
    return select(e, vec4<f32>(1.0), v >= vec4<f32>(0.0)) / (1.0 + e);
}

// Adds the slices' sums in order, then what the epilogue says, and stores four images of channel m
// at `place` of the result of this replica.
fn finish(sum: vec4<f32>, m: u32, place: u32, owns: bool, at: vec3<u32>) {
    let thread = at.x;
    let slice = at.y;
    let z = at.z;
    var v = sum;
    if (slices > 1u) {
        let threads = tm * tn;
        columns[slice * threads + thread] = sum;
        workgroupBarrier();
        if (slice == 0u) {
            for (var s = 1u; s < slices; s++) {
                v += columns[s * threads + thread];
            }
        }
        workgroupBarrier();
    }
    if (!owns || slice > 0u) {
        return;
    }
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
        let open = loaded(gate[z * (p.gate_stride >> 2u) + place]) > vec4<f32>(0.0);
        v = select(vec4<f32>(0.0), v, open);
    }
    result[z * (p.result_stride >> 2u) + place] = stored(v);
}

fn weight_at(at: u32, z: u32, exists: bool, second: bool) -> vec4<f32> {
    if (!exists) {
        return vec4<f32>(0.0);
    }
    if (pair && second) {
        return w2[z * (p.w2_stride >> 2u) + at];
    }
    return w[z * (p.w_stride >> 2u) + at];
}

fn source_at(at: u32, z: u32, exists: bool, second: bool) -> vec4<f32> {
    if (!exists) {
        return vec4<f32>(0.0);
    }
    if (pair && second) {
        return loaded(source2[z * (p.source2_stride >> 2u) + at]);
    }
    return loaded(source[z * (p.source_stride >> 2u) + at]);
}

fn convolve(group: vec3<u32>, local: vec3<u32>, transposed: bool) {
    let tx = local.x;
    let ty = local.y;
    let thread = ty * tn + tx;
    let threads = tm * tn;
    let slice = local.z;
    let z = group.z;

    // What is read and what is written.
    let inputs = select(p.cx, p.cy, transposed);
    let channels = select(p.cy, p.cx, transposed);
    let source_height = select(p.hx, p.hy, transposed);
    let source_width = select(p.wx, p.wy, transposed);
    let result_width = select(p.wy, p.wx, transposed);
    let classes = select(1u, p.stride, transposed);
    let fours = p.n / 4u;

    // Which row, class, column quads and channels this workgroup owns.
    let tile_quads = quads * tn;
    let tiles = ((result_width + classes - 1u) / classes * fours + tile_quads - 1u) / tile_quads;
    let class_ = group.x / tiles;
    let first_quad = group.x % tiles * tile_quads;
    let total_quads = (monus(result_width, class_) + classes - 1u) / classes * fours;
    let tile_channels = rows * tm;
    let channel_tiles = (channels + tile_channels - 1u) / tile_channels;
    let row = group.y / channel_tiles;
    let first_m = group.y % channel_tiles * tile_channels;
    if (first_quad >= total_quads) {
        return; // this class has fewer columns; all threads of the workgroup leave
    }

    // Taps of the row and, jointly, of the tile's columns.
    let row_position = row / classes;
    let across = taps(transposed, row % classes, row_position, row_position, p.kh, source_height);
    let last_quad = min(first_quad + tile_quads, total_quads) - 1u;
    let along =
        taps(transposed, class_, first_quad / fours, last_quad / fours, p.kw, source_width);
    let row_anchor = select(row * p.stride - p.padding, row_position, transposed);

    // Of a block, in workgroup memory.
    let weights_size = rows * tm * block_size / 4u;
    let columns_size = block_size * tile_quads;

    // What this thread carries: of the columns, quad `carried` and input channels `from_c`,
    // from_c + c_step ...; of the weights, every threads-th vec4 of the block.
    let depth = inputs / slices;
    let carried = first_quad + thread % tile_quads;
    let carries = carried < total_quads;
    let position = carried / fours;
    let anchor = select(position * p.stride - p.padding, position, transposed);
    let from_c = thread / tile_quads;
    let c_step = threads / tile_quads;
    let in_source = (anchor * inputs + slice * depth + from_c) * fours + carried % fours;
    // In conv_x a block of weights is [input channel][four output channels], in conv_y [output
    // channel][four input channels].
    let inner = select(block_size / 4u, tile_channels / 4u, transposed);
    let from_outer = thread / inner;
    let outer_step = threads / inner;
    let from_inner = thread % inner;
    let first_of_w = select(
        (first_m + from_outer) * (p.cx / 4u) + slice * depth / 4u + from_inner,
        (slice * depth + from_outer) * (p.cx / 4u) + first_m / 4u + from_inner, transposed,
    );
    let row_of_w = outer_step * (p.cx / 4u);
    let block_of_w = select(block_size / 4u, block_size * (p.cx / 4u), transposed);
    let tap_of_w = p.cy * (p.cx / 4u);
    // Output channels beyond the last have no weights: in conv_x a whole vec4, in conv_y the rows
    // from `m_limit` on.
    let m_limit = select(monus(channels, first_m + from_outer), NO_LIMIT, transposed);
    let in_row = !transposed || first_m / 4u + from_inner < channels / 4u;
    let w_exists = in_row && thread < weights_size;

    // This slice's part of workgroup memory.
    let weights0 = slice * buffers * weights_size;
    let columns0 = slice * buffers * columns_size;
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

    // Of a row of weights in workgroup memory: input channels in conv_y, output channels in conv_x.
    let row_fours = block_size / 4u;
    let channel_fours = tile_channels / 4u;

    // The block to be carried next: tap (i, j), block of input channels, source.
    var i = 0u;
    var j = 0u;
    var block_c = 0u;
    var second = false;
    let blocks_c = depth / block_size;
    let blocks = across.count * along.count * blocks_c * select(1u, 2u, pair);
    for (var block = 0u; block <= blocks; block++) {
        let more = block < blocks;
        var w0 = vec4<f32>(0.0);
        var c0 = vec4<f32>(0.0);
        var w1 = vec4<f32>(0.0);
        var c1 = vec4<f32>(0.0);
        var w2_ = vec4<f32>(0.0);
        var c2 = vec4<f32>(0.0);
        var w3 = vec4<f32>(0.0);
        var c3 = vec4<f32>(0.0);
        if (more) {
            let shift = along.shift + j * along.shift_step;
            let source_row = row_anchor + across.shift + i * across.shift_step;
            let place = (source_row * source_width + shift) * inputs + block_c * block_size;
            let meets = carries && anchor + shift < source_width;
            let at = in_source + place * fours;
            c0 = source_at(at, z, meets, second);
            if (block_size > c_step) {
                c1 = source_at(at + c_step * fours, z, meets, second);
            }
            if (block_size > 2u * c_step) {
                c2 = source_at(at + 2u * c_step * fours, z, meets, second);
            }
            if (block_size > 3u * c_step) {
                c3 = source_at(at + 3u * c_step * fours, z, meets, second);
            }
            let tap = (across.tap + i * across.tap_step) * p.kw + along.tap + j * along.tap_step;
            let in_w = first_of_w + tap * tap_of_w + block_c * block_of_w;
            w0 = weight_at(in_w, z, w_exists && 0u < m_limit, second);
            if (weights_size > threads) {
                let exists = w_exists && outer_step < m_limit;
                w1 = weight_at(in_w + row_of_w, z, exists, second);
            }
            if (weights_size > 2u * threads) {
                let exists = w_exists && 2u * outer_step < m_limit;
                w2_ = weight_at(in_w + 2u * row_of_w, z, exists, second);
            }
            if (weights_size > 3u * threads) {
                let exists = w_exists && 3u * outer_step < m_limit;
                w3 = weight_at(in_w + 3u * row_of_w, z, exists, second);
            }
            block_c++;
            if (block_c == blocks_c) {
                block_c = 0u;
                j++;
                if (j == along.count) {
                    j = 0u;
                    i++;
                    if (i == across.count) {
                        i = 0u;
                        second = true;
                    }
                }
            }
        }
        if (block > 0u) {
            let half = (block - 1u) & (buffers - 1u);
            let of_w = weights0 + half * weights_size;
            let of_c = columns0 + half * columns_size + tx;
            for (var k = 0u; k < block_size; k += 4u) {
                if (transposed) {
                    let x0 = of_w + (k + 0u) * channel_fours + ty;
                    let y0 = of_c + (k + 0u) * tile_quads;
                    let x1 = of_w + (k + 1u) * channel_fours + ty;
                    let y1 = of_c + (k + 1u) * tile_quads;
                    let x2 = of_w + (k + 2u) * channel_fours + ty;
                    let y2 = of_c + (k + 2u) * tile_quads;
                    let x3 = of_w + (k + 3u) * channel_fours + ty;
                    let y3 = of_c + (k + 3u) * tile_quads;
                    let a0 = weights[x0];
                    let p0 = columns[y0];
                    s0a = fma(vec4<f32>(a0.x), p0, s0a);
                    s1a = fma(vec4<f32>(a0.y), p0, s1a);
                    s2a = fma(vec4<f32>(a0.z), p0, s2a);
                    s3a = fma(vec4<f32>(a0.w), p0, s3a);
                    if (quads > 1u) {
                        let q = columns[y0 + tn];
                        s0b = fma(vec4<f32>(a0.x), q, s0b);
                        s1b = fma(vec4<f32>(a0.y), q, s1b);
                        s2b = fma(vec4<f32>(a0.z), q, s2b);
                        s3b = fma(vec4<f32>(a0.w), q, s3b);
                    }
                    if (rows > 4u) {
                        let a = weights[x0 + tm];
                        s4a = fma(vec4<f32>(a.x), p0, s4a);
                        s5a = fma(vec4<f32>(a.y), p0, s5a);
                        s6a = fma(vec4<f32>(a.z), p0, s6a);
                        s7a = fma(vec4<f32>(a.w), p0, s7a);
                        if (quads > 1u) {
                            let q = columns[y0 + tn];
                            s4b = fma(vec4<f32>(a.x), q, s4b);
                            s5b = fma(vec4<f32>(a.y), q, s5b);
                            s6b = fma(vec4<f32>(a.z), q, s6b);
                            s7b = fma(vec4<f32>(a.w), q, s7b);
                        }
                    }
                    let a1 = weights[x1];
                    let p1 = columns[y1];
                    s0a = fma(vec4<f32>(a1.x), p1, s0a);
                    s1a = fma(vec4<f32>(a1.y), p1, s1a);
                    s2a = fma(vec4<f32>(a1.z), p1, s2a);
                    s3a = fma(vec4<f32>(a1.w), p1, s3a);
                    if (quads > 1u) {
                        let q = columns[y1 + tn];
                        s0b = fma(vec4<f32>(a1.x), q, s0b);
                        s1b = fma(vec4<f32>(a1.y), q, s1b);
                        s2b = fma(vec4<f32>(a1.z), q, s2b);
                        s3b = fma(vec4<f32>(a1.w), q, s3b);
                    }
                    if (rows > 4u) {
                        let a = weights[x1 + tm];
                        s4a = fma(vec4<f32>(a.x), p1, s4a);
                        s5a = fma(vec4<f32>(a.y), p1, s5a);
                        s6a = fma(vec4<f32>(a.z), p1, s6a);
                        s7a = fma(vec4<f32>(a.w), p1, s7a);
                        if (quads > 1u) {
                            let q = columns[y1 + tn];
                            s4b = fma(vec4<f32>(a.x), q, s4b);
                            s5b = fma(vec4<f32>(a.y), q, s5b);
                            s6b = fma(vec4<f32>(a.z), q, s6b);
                            s7b = fma(vec4<f32>(a.w), q, s7b);
                        }
                    }
                    let a2 = weights[x2];
                    let p2 = columns[y2];
                    s0a = fma(vec4<f32>(a2.x), p2, s0a);
                    s1a = fma(vec4<f32>(a2.y), p2, s1a);
                    s2a = fma(vec4<f32>(a2.z), p2, s2a);
                    s3a = fma(vec4<f32>(a2.w), p2, s3a);
                    if (quads > 1u) {
                        let q = columns[y2 + tn];
                        s0b = fma(vec4<f32>(a2.x), q, s0b);
                        s1b = fma(vec4<f32>(a2.y), q, s1b);
                        s2b = fma(vec4<f32>(a2.z), q, s2b);
                        s3b = fma(vec4<f32>(a2.w), q, s3b);
                    }
                    if (rows > 4u) {
                        let a = weights[x2 + tm];
                        s4a = fma(vec4<f32>(a.x), p2, s4a);
                        s5a = fma(vec4<f32>(a.y), p2, s5a);
                        s6a = fma(vec4<f32>(a.z), p2, s6a);
                        s7a = fma(vec4<f32>(a.w), p2, s7a);
                        if (quads > 1u) {
                            let q = columns[y2 + tn];
                            s4b = fma(vec4<f32>(a.x), q, s4b);
                            s5b = fma(vec4<f32>(a.y), q, s5b);
                            s6b = fma(vec4<f32>(a.z), q, s6b);
                            s7b = fma(vec4<f32>(a.w), q, s7b);
                        }
                    }
                    let a3 = weights[x3];
                    let p3 = columns[y3];
                    s0a = fma(vec4<f32>(a3.x), p3, s0a);
                    s1a = fma(vec4<f32>(a3.y), p3, s1a);
                    s2a = fma(vec4<f32>(a3.z), p3, s2a);
                    s3a = fma(vec4<f32>(a3.w), p3, s3a);
                    if (quads > 1u) {
                        let q = columns[y3 + tn];
                        s0b = fma(vec4<f32>(a3.x), q, s0b);
                        s1b = fma(vec4<f32>(a3.y), q, s1b);
                        s2b = fma(vec4<f32>(a3.z), q, s2b);
                        s3b = fma(vec4<f32>(a3.w), q, s3b);
                    }
                    if (rows > 4u) {
                        let a = weights[x3 + tm];
                        s4a = fma(vec4<f32>(a.x), p3, s4a);
                        s5a = fma(vec4<f32>(a.y), p3, s5a);
                        s6a = fma(vec4<f32>(a.z), p3, s6a);
                        s7a = fma(vec4<f32>(a.w), p3, s7a);
                        if (quads > 1u) {
                            let q = columns[y3 + tn];
                            s4b = fma(vec4<f32>(a.x), q, s4b);
                            s5b = fma(vec4<f32>(a.y), q, s5b);
                            s6b = fma(vec4<f32>(a.z), q, s6b);
                            s7b = fma(vec4<f32>(a.w), q, s7b);
                        }
                    }
                } else {
                    let x = of_w + ty * block_size + (k >> 2u);
                    let y = of_c + k * tile_quads;
                    let p0 = columns[y + 0u * tile_quads];
                    let p1 = columns[y + 1u * tile_quads];
                    let p2 = columns[y + 2u * tile_quads];
                    let p3 = columns[y + 3u * tile_quads];
                    let a0 = weights[x + 0u * row_fours];
                    let a1 = weights[x + 1u * row_fours];
                    let a2 = weights[x + 2u * row_fours];
                    let a3 = weights[x + 3u * row_fours];
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
                    if (quads > 1u) {
                        let q0 = columns[y + 0u * tile_quads + tn];
                        let q1 = columns[y + 1u * tile_quads + tn];
                        let q2 = columns[y + 2u * tile_quads + tn];
                        let q3 = columns[y + 3u * tile_quads + tn];
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
                    }
                    if (rows > 4u) {
                        let far = x + tm * block_size;
                        let b0 = weights[far + 0u * row_fours];
                        let b1 = weights[far + 1u * row_fours];
                        let b2 = weights[far + 2u * row_fours];
                        let b3 = weights[far + 3u * row_fours];
                        s4a = fma(vec4<f32>(b0.x), p0, s4a);
                        s4a = fma(vec4<f32>(b0.y), p1, s4a);
                        s4a = fma(vec4<f32>(b0.z), p2, s4a);
                        s4a = fma(vec4<f32>(b0.w), p3, s4a);
                        s5a = fma(vec4<f32>(b1.x), p0, s5a);
                        s5a = fma(vec4<f32>(b1.y), p1, s5a);
                        s5a = fma(vec4<f32>(b1.z), p2, s5a);
                        s5a = fma(vec4<f32>(b1.w), p3, s5a);
                        s6a = fma(vec4<f32>(b2.x), p0, s6a);
                        s6a = fma(vec4<f32>(b2.y), p1, s6a);
                        s6a = fma(vec4<f32>(b2.z), p2, s6a);
                        s6a = fma(vec4<f32>(b2.w), p3, s6a);
                        s7a = fma(vec4<f32>(b3.x), p0, s7a);
                        s7a = fma(vec4<f32>(b3.y), p1, s7a);
                        s7a = fma(vec4<f32>(b3.z), p2, s7a);
                        s7a = fma(vec4<f32>(b3.w), p3, s7a);
                        if (quads > 1u) {
                            let q0 = columns[y + 0u * tile_quads + tn];
                            let q1 = columns[y + 1u * tile_quads + tn];
                            let q2 = columns[y + 2u * tile_quads + tn];
                            let q3 = columns[y + 3u * tile_quads + tn];
                            s4b = fma(vec4<f32>(b0.x), q0, s4b);
                            s4b = fma(vec4<f32>(b0.y), q1, s4b);
                            s4b = fma(vec4<f32>(b0.z), q2, s4b);
                            s4b = fma(vec4<f32>(b0.w), q3, s4b);
                            s5b = fma(vec4<f32>(b1.x), q0, s5b);
                            s5b = fma(vec4<f32>(b1.y), q1, s5b);
                            s5b = fma(vec4<f32>(b1.z), q2, s5b);
                            s5b = fma(vec4<f32>(b1.w), q3, s5b);
                            s6b = fma(vec4<f32>(b2.x), q0, s6b);
                            s6b = fma(vec4<f32>(b2.y), q1, s6b);
                            s6b = fma(vec4<f32>(b2.z), q2, s6b);
                            s6b = fma(vec4<f32>(b2.w), q3, s6b);
                            s7b = fma(vec4<f32>(b3.x), q0, s7b);
                            s7b = fma(vec4<f32>(b3.y), q1, s7b);
                            s7b = fma(vec4<f32>(b3.z), q2, s7b);
                            s7b = fma(vec4<f32>(b3.w), q3, s7b);
                        }
                    }
                }
            }
        }
        if (buffers == 1u) {
            workgroupBarrier();
        }
        if (more) {
            let to_w = weights0 + (block & (buffers - 1u)) * weights_size + thread;
            let to_c = columns0 + (block & (buffers - 1u)) * columns_size + thread;
            columns[to_c] = c0;
            if (block_size > c_step) {
                columns[to_c + threads] = c1;
            }
            if (block_size > 2u * c_step) {
                columns[to_c + 2u * threads] = c2;
            }
            if (block_size > 3u * c_step) {
                columns[to_c + 3u * threads] = c3;
            }
            if (thread < weights_size) {
                weights[to_w] = w0;
            }
            if (weights_size > threads) {
                weights[to_w + threads] = w1;
            }
            if (weights_size > 2u * threads) {
                weights[to_w + 2u * threads] = w2_;
            }
            if (weights_size > 3u * threads) {
                weights[to_w + 3u * threads] = w3;
            }
        }
        workgroupBarrier();
    }

    // The thread's own channels and quads.
    let m = first_m + ty * 4u;
    let quad = first_quad + tx;
    let at_quad = quad / fours * classes + class_;
    let place = ((row * result_width + at_quad) * channels + m) * fours + quad % fours;
    let far = quad + tn;
    let at_far = far / fours * classes + class_;
    let place_b = ((row * result_width + at_far) * channels + m) * fours + far % fours;
    let owns = quad < total_quads;
    let owns_b = far < total_quads;
    let at = vec3<u32>(thread, slice, z);
    finish(s0a, m, place, owns && m < channels, at);
    finish(s1a, m + 1u, place + 1u * fours, owns && m + 1u < channels, at);
    finish(s2a, m + 2u, place + 2u * fours, owns && m + 2u < channels, at);
    finish(s3a, m + 3u, place + 3u * fours, owns && m + 3u < channels, at);
    if (quads > 1u) {
        finish(s0b, m, place_b, owns_b && m < channels, at);
        finish(s1b, m + 1u, place_b + 1u * fours, owns_b && m + 1u < channels, at);
        finish(s2b, m + 2u, place_b + 2u * fours, owns_b && m + 2u < channels, at);
        finish(s3b, m + 3u, place_b + 3u * fours, owns_b && m + 3u < channels, at);
    }
    if (rows > 4u) {
        let m4 = m + 4u * tm;
        let place4 = place + 4u * tm * fours;
        let place4_b = place_b + 4u * tm * fours;
        finish(s4a, m4, place4, owns && m4 < channels, at);
        finish(s5a, m4 + 1u, place4 + 1u * fours, owns && m4 + 1u < channels, at);
        finish(s6a, m4 + 2u, place4 + 2u * fours, owns && m4 + 2u < channels, at);
        finish(s7a, m4 + 3u, place4 + 3u * fours, owns && m4 + 3u < channels, at);
        if (quads > 1u) {
            finish(s4b, m4, place4_b, owns_b && m4 < channels, at);
            finish(s5b, m4 + 1u, place4_b + 1u * fours, owns_b && m4 + 1u < channels, at);
            finish(s6b, m4 + 2u, place4_b + 2u * fours, owns_b && m4 + 2u < channels, at);
            finish(s7b, m4 + 3u, place4_b + 3u * fours, owns_b && m4 + 3u < channels, at);
        }
    }
}

// x is [hx, wx, cx, n], w is [kh, kw, cy, cx]; y [hy, wy, cy, n] = epilogue(sum over taps and cx of
// x * w).
@compute @workgroup_size(tn, tm, slices)
fn conv_y(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
) {
    convolve(group, local, false);
}

// y is [hy, wy, cy, n], w is [kh, kw, cy, cx]; x [hx, wx, cx, n] = epilogue(sum over taps and cy of
// y * w).
@compute @workgroup_size(tn, tm, slices)
fn conv_x(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
) {
    convolve(group, local, true);
}
