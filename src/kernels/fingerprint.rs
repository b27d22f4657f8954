//! What tells one set of kernels and variants from another: a measurement of variants holds for
//! exactly the shaders and definitions that it was made with.

use sha2::{Digest, Sha256};

use super::{SHADERS, VARIANTS};

/// A definition's file with its text.
macro_rules! texts {
    ($($name:literal),+ $(,)?) => { [$(($name, include_str!($name))),+] };
}

/// The definitions: which variants there are, for which sizes, with which constants.
const DEFINITIONS: &[(&str, &str)] = &texts![
    "adam.rs",
    "batch.rs",
    "constraint.rs",
    "conv.rs",
    "conv_w.rs",
    "half.rs",
    "launch.rs",
    "loss.rs",
    "map.rs",
    "memory.rs",
    "mod.rs",
    "noise.rs",
    "reduce.rs",
    "score.rs",
    "tiles.rs",
    "fingerprint.rs",
];

/// SHA-256 of all shaders and definitions, as hexadecimal digits.
pub fn fingerprint() -> String {
    let shaders = SHADERS.iter().chain(&VARIANTS).map(|shader| (shader.name, shader.source));
    let mut hash = Sha256::new();
    for (name, text) in shaders.chain(DEFINITIONS.iter().copied()) {
        hash.update(name);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_counts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut known = DEFINITIONS.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        there.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, there, "DEFINITIONS has every file of src/kernels");
        let text = fingerprint();
        assert!(text.len() == 64 && text == fingerprint(), "{text}");
    }
}
