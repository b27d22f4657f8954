// noise.wgsl - kernel noise: normally distributed numbers from a counter-based generator.
//
// Letters: n images of a batch, each with `features` numbers; out is [features, n]; draws is [steps,
// replicas, 4], shared by all replicas: the seed's low and high word, the iteration, 0.
//
// Whole numbers all the way, so that every device has the same bits. The table has two rows of four
// coefficients for each octave of a tail's probability, in units of 2^-28.
//
// Grid: a thread owns four features of one image, the words of one counter; workgroups of 64 fill x,
// then y; z = replica. Neighbouring threads are neighbouring images.

struct Params {
    quantiles: array<vec4<u32>, 64>,
    features: u32, n: u32, layer: u32,
    draws_stride: u32, out_stride: u32,
}
@group(0) @binding(7) var<uniform> p: Params;
// Which step runs: the only thing that changes between runs.
@group(1) @binding(0) var<uniform> step_number: u32;

@group(0) @binding(0) var<storage, read> draws: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

const ROUNDS: u32 = 10u;
const MULTIPLIER_0: u32 = 0xd2511f53u;
const MULTIPLIER_1: u32 = 0xcd9e8d57u;
const WEYL_0: u32 = 0x9e3779b9u;
const WEYL_1: u32 = 0xbb67ae85u;

// The high word of a product.
fn high(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < ROUNDS; round++) {
        c = vec4<u32>(
            high(MULTIPLIER_1, c.z) ^ c.y ^ key.x,
            MULTIPLIER_1 * c.z,
            high(MULTIPLIER_0, c.x) ^ c.w ^ key.y,
            MULTIPLIER_0 * c.x,
        );
        key += vec2<u32>(WEYL_0, WEYL_1);
    }
    return c;
}

// The number beyond which the tail is as probable as the word's 31 low bits say, with a sign.
fn normal(word: u32) -> f32 {
    let w = (word << 1u) | 1u;
    let octave = countLeadingZeros(w);
    let s = ~((w << octave) << 1u);
    var q = 0u;
    for (var i = 8u; i > 0u; i--) {
        q = p.quantiles[2u * octave + (i - 1u) / 4u][(i - 1u) % 4u] + high(q, s);
    }
    // Less than 2^24 units: the conversion is exact, and so is the product with a power of two.
    let size = f32((q + 64u) >> 7u) * 0x1p-21f;
    return select(size, -size, (word >> 31u) == 1u);
}

// out[f, i] = normal(word f % 4 of philox((f / 4, i, iteration, layer), seed)).
@compute @workgroup_size(64)
fn noise(
    @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = (group.y * grid.x + group.x) * 64u + thread;
    let i = at % p.n;
    let block = at / p.n;
    if (4u * block >= p.features) {
        return;
    }
    let row = 4u * (step_number * grid.z + group.z);
    let counter = vec4<u32>(block, i, draws[row + 2u], p.layer);
    let words = philox(counter, vec2<u32>(draws[row], draws[row + 1u]));
    for (var j = 0u; j < min(4u, p.features - 4u * block); j++) {
        out[group.z * p.out_stride + (4u * block + j) * p.n + i] = normal(words[j]);
    }
}
