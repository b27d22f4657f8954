// peaks.wgsl - what a device can do at best: no kernel of any program.
//
// Grid: p.threads threads in workgroups of 256, a power of two; every thread writes one result,
// from which the host tells that all the work was done.

struct Params {
    threads: u32,
    count: u32, // what a thread repeats; of the buffer kernels: vectors in the buffer
    passes: u32, // of `read_buffer`: how often
    one: f32, // 1, which no compiler knows
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;

var<workgroup> tile: array<vec4<f32>, 512>;

// 8 chains that go from chain + thread % 8 up by 4 count.
@compute @workgroup_size(256)
fn fma_scalar(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = p.one;
    let start = f32(id.x % 8u);
    var a = start; var b = start + 1.0; var c = start + 2.0; var d = start + 3.0;
    var e = start + 4.0; var f = start + 5.0; var g = start + 6.0; var h = start + 7.0;
    for (var i = 0u; i < p.count; i += 1u) {
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
    }
    result[id.x] = vec4((a + b) + (c + d) + ((e + f) + (g + h)));
}

// The same, four to a vector.
@compute @workgroup_size(256)
fn fma_vec4(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = vec4(p.one);
    let start = vec4(f32(id.x % 8u));
    var a = start; var b = start + 1.0; var c = start + 2.0; var d = start + 3.0;
    var e = start + 4.0; var f = start + 5.0; var g = start + 6.0; var h = start + 7.0;
    for (var i = 0u; i < p.count; i += 1u) {
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
        a = fma(a, m, m); b = fma(b, m, m); c = fma(c, m, m); d = fma(d, m, m);
        e = fma(e, m, m); f = fma(f, m, m); g = fma(g, m, m); h = fma(h, m, m);
    }
    result[id.x] = (a + b) + (c + d) + ((e + f) + (g + h));
}

// Workgroup memory: 8 vectors in each of count rounds, ones all of them.
@compute @workgroup_size(256)
fn read_tile(
    @builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32,
) {
    tile[thread] = vec4(p.one);
    tile[thread + 256u] = vec4(p.one);
    workgroupBarrier();
    var a = vec4(0.0); var b = a; var c = a; var d = a;
    var e = a; var f = a; var g = a; var h = a;
    for (var i = 0u; i < p.count; i += 1u) {
        // A constant apart, and elsewhere in every round.
        let at = thread + 8u * i;
        a += tile[at & 511u]; b += tile[(at + 64u) & 511u];
        c += tile[(at + 128u) & 511u]; d += tile[(at + 192u) & 511u];
        e += tile[(at + 256u) & 511u]; f += tile[(at + 320u) & 511u];
        g += tile[(at + 384u) & 511u]; h += tile[(at + 448u) & 511u];
    }
    result[id.x] = (a + b) + (c + d) + ((e + f) + (g + h));
}

// The whole of source, a multiple of four vectors a thread, once in each pass. In the next pass a
// workgroup reads what another one has read: no core's own cache has it.
@compute @workgroup_size(256)
fn read_buffer(@builtin(global_invocation_id) id: vec3<u32>) {
    var a = vec4(0.0); var b = a; var c = a; var d = a;
    for (var turn = 0u; turn < p.passes; turn += 1u) {
        let start = (id.x + turn * 256u * 37u) & (p.threads - 1u);
        for (var i = start; i < p.count; i += 4u * p.threads) {
            a += source[i];
            b += source[i + p.threads];
            c += source[i + 2u * p.threads];
            d += source[i + 3u * p.threads];
        }
    }
    result[id.x] = (a + b) + (c + d);
}

// result [count] = source.
@compute @workgroup_size(256)
fn copy_buffer(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < p.count; i += 4u * p.threads) {
        result[i] = source[i];
        result[i + p.threads] = source[i + p.threads];
        result[i + 2u * p.threads] = source[i + 2u * p.threads];
        result[i + 3u * p.threads] = source[i + 3u * p.threads];
    }
}

// result [count] = 1: what source holds, and what empties caches.
@compute @workgroup_size(256)
fn fill_buffer(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < p.count; i += p.threads) {
        result[i] = vec4(p.one);
    }
}

// Nothing.
@compute @workgroup_size(1)
fn empty() {}

// Nothing, but the next one has to wait for it: it might write. (one is never 0.)
@compute @workgroup_size(1)
fn ordered() {
    if (p.one == 0.0) {
        result[0] = vec4(0.0);
    }
}
