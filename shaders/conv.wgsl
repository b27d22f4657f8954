// conv.wgsl - kernels conv_y (conv2d) and conv_x (conv_transpose2d), each with its epilogue.
//
// Letters: n images; cx, cy channels of x and y; hx, wx, hy, wy their sizes; kh, kw the kernel's. x
// is [hx, wx, cx, n], y is [hy, wy, cy, n], w is [kh, kw, cy, cx]. A tap (th, tw) joins y at (oh,
// ow) with x at (oh * stride - padding + th, ow * stride - padding + tw).
//
// Both kernels are one matrix product per row of the output, seen from the two ends of a tap.
// `source` is what is read and `result` what is written: conv_y reads x and writes y, conv_x reads
// y and writes x.
//     result[m, column] = epilogue(sum over k of weight[m, k] * source[k, column])
// m is an output channel. A column is a pair (position, image), image innermost; its positions lie
// in one row of the result and, in conv_x, in one residue class modulo the stride, because those
// meet the same taps. k is a pair (tap, input channel) over the taps that meet data for at least
// one column of the tile: taps in the padding cost nothing. With `pair`, a second source and weight
// go through the same sum behind the first. Input channels are cut into `slices`, each summed by
// threads of its own; the slices' sums are added in order.
//
// Grid: a workgroup owns per_thread * tm output channels x 4 * tn columns of one row and class. x =
// class * tiles + column tile, y = row * channel tiles + channel tile, z = replica. Thread (tx, ty,
// slice) sums over the slice for the channels ty + tm * i and the columns tx + tn * j, i, j < 4:
// neighbours in tx read and write neighbouring images.

struct Params {
    n: u32, cx: u32, cy: u32, hx: u32, wx: u32, hy: u32, wy: u32,
    kh: u32, kw: u32, stride: u32, padding: u32,
    source_stride: u32, w_stride: u32, source2_stride: u32, w2_stride: u32, bias_stride: u32,
    gate_stride: u32, result_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> source2: array<f32>;
@group(0) @binding(3) var<storage, read> w2: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> gate: array<f32>;
@group(0) @binding(6) var<storage, read_write> result: array<f32>;

override tm: u32 = 8u; // threads along channels
override tn: u32 = 8u; // threads along columns
override slices: u32 = 1u; // parts of the input channels
override per_thread: u32 = 4u; // channels of a thread: 4, or all there are
override pair: bool = false; // whether there is a second source and weight
override epilogue: u32 = 0u; // what becomes of a sum: flags below
override block_size: u32 = 16u; // values of k in workgroup memory at a time

const BIAS: u32 = 1u;
const RELU: u32 = 2u;
const SIGMOID: u32 = 4u;
const GATE: u32 = 8u;

// An anchor and a shift so far out that no sum with a real one lands inside an image.
const NO_COLUMN: u32 = 0x80000000u;
const NO_SHIFT: u32 = 0x40000000u;

// Each slice has its own part of these. One vec4 holds the four channels (columns) of one thread,
// so a thread's operands are two 16-byte reads. The rows of `weights` are padded by one: conv_y
// stores along k, and equal banks would serialise that.
var<workgroup> weights: array<vec4<f32>, slices * block_size * (tm + 1u)>;
var<workgroup> columns: array<vec4<f32>, slices * block_size * tn>;
// For each k of a block (offset in source, shift of the column, offset in w), for this block and
// the next.
var<workgroup> terms: array<vec3<u32>, slices * 2u * block_size>;

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

// What all terms of a slice share: `terms` of one source, over `depth` of the input channels from
// `first`.
struct Reach {
    terms: u32,
    inputs: u32,
    depth: u32,
    first: u32,
    transposed: bool,
    across: Taps,
    along: Taps,
    row_anchor: u32,
    source_width: u32,
}

fn sigmoid_of(v: f32) -> f32 {
    // exp of a negative number only: no overflow.
    let e = exp(-abs(v));
    return select(e, 1.0, v >= 0.0) / (1.0 + e);
}

// Adds what the epilogue says and stores one element of channel m. `index` is its place in the
// result of this replica.
fn finish(sum: f32, m: u32, index: u32, z: u32) {
    var v = sum;
    if ((epilogue & BIAS) != 0u) {
        v += bias[z * p.bias_stride + m];
    }
    if ((epilogue & RELU) != 0u) {
        v = max(v, 0.0);
    }
    if ((epilogue & SIGMOID) != 0u) {
        v = sigmoid_of(v);
    }
    if ((epilogue & GATE) != 0u) {
        v = select(0.0, v, gate[z * p.gate_stride + index] > 0.0);
    }
    result[z * p.result_stride + index] = v;
}

// Stores one channel of a thread's four columns, by the first slice; NO_COLUMN marks columns beyond
// the last.
fn finish_channel(
    sums: vec4<f32>, m: u32, channels: u32, at: vec4<u32>, z: u32, slice: u32,
) {
    if (m >= channels || slice > 0u) {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if (at[j] != NO_COLUMN) {
            finish(sums[j], m, at[j] + m * p.n, z);
        }
    }
}

fn weight_at(
    z: u32, m: u32, channels: u32, term: vec3<u32>, channel_stride: u32, second: bool,
) -> f32 {
    if (m >= channels) {
        return 0.0;
    }
    let at = term.z + m * channel_stride;
    if (pair && second) {
        return w2[z * p.w2_stride + at];
    }
    return w[z * p.w_stride + at];
}

fn source_at(z: u32, at: u32, anchor: u32, shift: u32, width: u32, second: bool) -> f32 {
    if (anchor + shift >= width) {
        return 0.0;
    }
    if (pair && second) {
        return source2[z * p.source2_stride + at];
    }
    return source[z * p.source_stride + at];
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
    let channel_stride = select(p.cx, 1u, transposed);
    let classes = select(1u, p.stride, transposed);

    // Which row, class, columns and channels this workgroup owns. Class f holds the positions f, f
    // + classes, ...
    let tile_columns = 4u * tn;
    let tiles = ((result_width + classes - 1u) / classes * p.n + tile_columns - 1u) / tile_columns;
    let class_ = group.x / tiles;
    let first_column = group.x % tiles * tile_columns;
    let total_columns = (monus(result_width, class_) + classes - 1u) / classes * p.n;
    let tile_channels = per_thread * tm;
    let channel_tiles = (channels + tile_channels - 1u) / tile_channels;
    let row = group.y / channel_tiles;
    let m = group.y % channel_tiles * tile_channels + ty;
    if (first_column >= total_columns) {
        return; // this class has fewer columns; all threads of the workgroup leave
    }

    // Taps of the row and, jointly, of the tile's columns.
    let row_position = row / classes;
    let across = taps(transposed, row % classes, row_position, row_position, p.kh, source_height);
    let last_column = min(first_column + tile_columns, total_columns) - 1u;
    let along = taps(transposed, class_, first_column / p.n, last_column / p.n, p.kw, source_width);
    let row_anchor = select(row * p.stride - p.padding, row_position, transposed);
    let depth = inputs / slices;
    // The same for all slices, which a struct that also holds their first channels wouldn't show.
    let count = across.count * along.count * depth;
    let reach = Reach(
        count, inputs, depth, slice * depth, transposed, across, along, row_anchor, source_width,
    );

    // The thread's four columns: anchor, offset in source without the tap, place in the result
    // without the channel.
    var anchor = vec4<u32>(NO_COLUMN);
    var offset = vec4<u32>(0u);
    var place = vec4<u32>(NO_COLUMN);
    for (var j = 0u; j < 4u; j++) {
        let column = first_column + tx + tn * j;
        if (column < total_columns) {
            let position = column / p.n;
            let image = column % p.n;
            anchor[j] = select(position * p.stride - p.padding, position, transposed);
            offset[j] = anchor[j] * inputs * p.n + image;
            place[j] = (row * result_width + position * classes + class_) * channels * p.n + image;
        }
    }

    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);

    // This slice's part of workgroup memory.
    let weights0 = slice * block_size * (tm + 1u);
    let columns0 = slice * block_size * tn;
    let terms0 = slice * 2u * block_size;

    let half_blocks = (count + block_size - 1u) / block_size;
    let blocks = half_blocks * select(1u, 2u, pair);
    // The terms cost divisions, so a few threads work them out one block ahead, while the others
    // multiply.
    for (var k = thread; k < block_size; k += threads) {
        terms[terms0 + k] = term_of(k, reach);
    }
    workgroupBarrier();
    for (var block = 0u; block < blocks; block++) {
        let parity = (block & 1u) * block_size;
        let half = terms0 + parity;
        let second = block >= half_blocks;
        for (var i = thread; i < block_size * tm; i += threads) {
            // Neighbouring threads run along w's innermost axis: input channels for conv_y, output
            // channels for conv_x.
            let k = select(i % block_size, i / tm, transposed);
            let t = select(i / block_size, i % tm, transposed);
            let term = terms[half + k];
            let c = m - ty + t;
            var v = vec4<f32>(
                weight_at(z, c, channels, term, channel_stride, second), 0.0, 0.0, 0.0,
            );
            if (per_thread > 1u) {
                v.y = weight_at(z, c + tm, channels, term, channel_stride, second);
            }
            if (per_thread > 2u) {
                v.z = weight_at(z, c + 2u * tm, channels, term, channel_stride, second);
            }
            if (per_thread > 3u) {
                v.w = weight_at(z, c + 3u * tm, channels, term, channel_stride, second);
            }
            weights[weights0 + k * (tm + 1u) + t] = v;
        }
        for (var k = ty; k < block_size; k += tm) {
            let term = terms[half + k];
            columns[columns0 + k * tn + tx] = vec4<f32>(
                source_at(z, offset.x + term.x, anchor.x, term.y, source_width, second),
                source_at(z, offset.y + term.x, anchor.y, term.y, source_width, second),
                source_at(z, offset.z + term.x, anchor.z, term.y, source_width, second),
                source_at(z, offset.w + term.x, anchor.w, term.y, source_width, second),
            );
        }
        workgroupBarrier();
        // The second source meets the same terms.
        let next = select(block + 1u, block + 1u - half_blocks, block + 1u >= half_blocks);
        for (var k = thread; k < block_size; k += threads) {
            terms[terms0 + block_size - parity + k] = term_of(next * block_size + k, reach);
        }
        for (var k = 0u; k < block_size; k++) {
            let a = weights[weights0 + k * (tm + 1u) + ty];
            let b = columns[columns0 + k * tn + tx];
            sum0 = fma(vec4<f32>(a.x), b, sum0);
            if (per_thread > 1u) {
                sum1 = fma(vec4<f32>(a.y), b, sum1);
            }
            if (per_thread > 2u) {
                sum2 = fma(vec4<f32>(a.z), b, sum2);
            }
            if (per_thread > 3u) {
                sum3 = fma(vec4<f32>(a.w), b, sum3);
            }
        }
        workgroupBarrier();
    }

    sum0 = of_all_slices(sum0, thread, slice);
    finish_channel(sum0, m, channels, place, z, slice);
    if (per_thread > 1u) {
        sum1 = of_all_slices(sum1, thread, slice);
        finish_channel(sum1, m + tm, channels, place, z, slice);
    }
    if (per_thread > 2u) {
        sum2 = of_all_slices(sum2, thread, slice);
        finish_channel(sum2, m + 2u * tm, channels, place, z, slice);
    }
    if (per_thread > 3u) {
        sum3 = of_all_slices(sum3, thread, slice);
        finish_channel(sum3, m + 3u * tm, channels, place, z, slice);
    }
}

// Adds the slices' sums in order; only the first slice gets the total. The columns are no longer
// needed: their memory carries the sums.
fn of_all_slices(sum: vec4<f32>, thread: u32, slice: u32) -> vec4<f32> {
    if (slices == 1u) {
        return sum;
    }
    let threads = tm * tn;
    columns[slice * threads + thread] = sum;
    workgroupBarrier();
    var total = sum;
    if (slice == 0u) {
        for (var s = 1u; s < slices; s++) {
            total += columns[s * threads + thread];
        }
    }
    workgroupBarrier();
    return total;
}

// Where the k-th term lives: k = (tap across * taps along + tap along) * depth + input channel of
// the slice. Terms beyond the last meet no column, so whatever weight they take is multiplied by 0.
fn term_of(k: u32, reach: Reach) -> vec3<u32> {
    if (k >= reach.terms) {
        return vec3<u32>(0u, NO_SHIFT, 0u);
    }
    let inputs = reach.inputs;
    let across = reach.across;
    let along = reach.along;
    let tap = k / reach.depth;
    let c = reach.first + k % reach.depth;
    let i = tap / along.count;
    let j = tap % along.count;
    let source_row = reach.row_anchor + across.shift + i * across.shift_step;
    let shift = along.shift + j * along.shift_step;
    let tap_in_w = (across.tap + i * across.tap_step) * p.kw + along.tap + j * along.tap_step;
    let row_in_w =
        select(tap_in_w * p.cy * p.cx + c, (tap_in_w * p.cy + c) * p.cx, reach.transposed);
    let in_source = ((source_row * reach.source_width + shift) * inputs + c) * p.n;
    return vec3<u32>(in_source, shift, row_in_w);
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
