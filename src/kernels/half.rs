//! Half precision of shaders that take four images at a time: what is stored is half as wide, what
//! is computed stays f32. A shader says in three lines how four images are stored; here are the
//! lines that take their place.

/// How a shader stores four images as f32; one that stores none has no `stored`.
const WIDE: [&str; 3] = [
    "alias Four = vec4<f32>;",
    "fn loaded(v: Four) -> vec4<f32> { return v; }",
    "fn stored(v: vec4<f32>) -> Four { return v; }",
];

/// How it stores them as f16, two to a word.
const HALF: [&str; 3] = [
    "alias Four = vec2<u32>;",
    "fn loaded(v: Four) -> vec4<f32> { return vec4(unpack2x16float(v.x), unpack2x16float(v.y)); }",
    "fn stored(v: vec4<f32>) -> Four { return vec2(pack2x16float(v.xy), pack2x16float(v.zw)); }",
];

/// The shader in half precision.
pub(super) fn halved(source: &str) -> String {
    WIDE.iter().zip(HALF).fold(source.to_string(), |text, (wide, half)| text.replace(wide, half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::VARIANTS;

    #[test]
    fn every_shader_of_half_precision_has_the_lines_once() {
        for shader in VARIANTS.iter().filter(|shader| shader.half) {
            let times = |line: &str| shader.source.matches(line).count();
            let [alias, loaded, stored] = WIDE.map(times);
            let writes = shader.source.contains("stored(v)");
            assert_eq!((alias, loaded, stored), (1, 1, writes as usize), "{}", shader.name);
            let text = shader.text();
            assert!(HALF[..2].iter().all(|line| text.contains(line)), "{}", shader.name);
            assert!(!text.contains(WIDE[0]), "{}", shader.name);
        }
    }
}
