//! Kernel `noise`: normally distributed numbers from a counter-based generator.
//!
//! A number is a function of where it is, so nothing has to be kept, and a step can be done again.
//! All arithmetic is of whole numbers, but for one product with a power of two: the bits are the
//! same on every device, which would be too much to ask of logarithms and cosines.

use super::{Entry, Family, Launch, Shader, Uniforms, indices, stepped, write};

/// `out[f, i] = normal(w)` for feature f of image i, where w is word `f % 4` of
/// `philox((f / 4, i, iteration, layer), (seed, seed >> 32))` with seed and iteration of
/// `draws [steps, replicas, DRAWS]`: the seed's low and high word, the iteration, 0.
///
/// philox is Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2,
/// 3, 2011) of a counter and a key. normal is the inverse of the normal distribution: the word's
/// highest bit is the sign, the other 31 bits b stand for the probability `p = (2b + 1) / 2^33` of
/// the tail beyond the number. With `w = 2b + 1` and its number k of leading zeros,
/// `2^-(k + 2) <= p < 2^-(k + 1)`; of that octave [`QUANTILES`] has a polynomial in
/// `s = 2 - p 2^(k + 2)`, taken by Horner's rule in units of 2^-28 and rounded to units of 2^-21.
/// What comes out is within 6e-7 of the quantile, up to 6.3 in magnitude.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)] // the names are those of the formulas
pub struct Noise {
    pub features: usize,
    pub n: usize,
    pub layer: usize,
}

/// Words of a row of `draws`.
pub const DRAWS: usize = 4;

/// Octaves of a tail's probability.
pub const OCTAVES: usize = 32;

/// Rounds of the generator.
pub const ROUNDS: u32 = 10;

/// What a round multiplies two words of the counter by.
pub const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];

/// What the key grows by from round to round.
pub const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Of each octave, two rows: the coefficients of s^0 .. s^3 and of s^4 .. s^7, in units of 2^-28.
/// tools/normal_quantiles.py made them.
pub const QUANTILES: [[u32; 4]; 2 * OCTAVES] = [
    [0x0000004c, 0x0a06afe7, 0x000163b9, 0x00a11b74],
    [0x000ed67c, 0x000a57da, 0x00000000, 0x000857c2],
    [0x0acab5ff, 0x064b1c42, 0x00d6dfbd, 0x0049fb18],
    [0x0025765d, 0x0003b493, 0x00000000, 0x0007fc7f],
    [0x1267d4f8, 0x04db862c, 0x00da3a41, 0x0040ad1c],
    [0x0022d395, 0x0003468a, 0x00000000, 0x00076525],
    [0x188bc230, 0x0410b671, 0x00cbd8dc, 0x003b3d27],
    [0x00205503, 0x0002f5c9, 0x00000000, 0x0006e64b],
    [0x1dcdc01b, 0x038d42c7, 0x00bcf557, 0x0036cbac],
    [0x001e7949, 0x000282bb, 0x00000000, 0x0006853b],
    [0x2276457a, 0x032fcfbc, 0x00afea61, 0x003323d4],
    [0x001cbfe9, 0x000243ca, 0x00000000, 0x00062b16],
    [0x26ae5286, 0x02e94348, 0x00a4cb9a, 0x00301fe5],
    [0x001b1ded, 0x00022b21, 0x00000000, 0x0005d864],
    [0x2a8fa30f, 0x02b1b59c, 0x009b5040, 0x002d83ed],
    [0x0019c641, 0x000209bd, 0x00000000, 0x00059286],
    [0x2e2b8fa9, 0x02849251, 0x009329a5, 0x002b412a],
    [0x00189d09, 0x0001ea6a, 0x00000000, 0x000555a3],
    [0x318e6a2a, 0x025f0036, 0x008c163e, 0x00294779],
    [0x00179693, 0x0001cf76, 0x00000000, 0x00051f8b],
    [0x34c14df2, 0x023f1fb5, 0x0085e265, 0x00278979],
    [0x0016ace0, 0x0001b806, 0x00000000, 0x0004ef1e],
    [0x37cb2dcf, 0x0223a8a2, 0x008058c7, 0x0026281a],
    [0x00159c3c, 0x0001c829, 0x00000000, 0x0004be33],
    [0x3ab17a2e, 0x020bad7d, 0x007b74c7, 0x0024c343],
    [0x0014e0e5, 0x0001b4cf, 0x00000000, 0x000496c7],
    [0x3d788c70, 0x01f683eb, 0x00770dac, 0x00238974],
    [0x00142adb, 0x0001aa6f, 0x00000000, 0x000471d5],
    [0x4023eedb, 0x01e3aa15, 0x007314e6, 0x002264fb],
    [0x00138fc4, 0x00019ab4, 0x00000000, 0x000450ea],
    [0x42b68e70, 0x01d2ba2c, 0x006f927a, 0x0021046c],
    [0x00137ca4, 0x0001456a, 0x00000000, 0x00043ca2],
    [0x4532de6c, 0x01c36c4e, 0x006c4463, 0x00201296],
    [0x0012f3ea, 0x00013c56, 0x00000000, 0x00041feb],
    [0x479af217, 0x01b58006, 0x00693b1e, 0x001f3314],
    [0x001277aa, 0x00013223, 0x00000000, 0x000405b4],
    [0x49f09007, 0x01a8c3ad, 0x00666e0d, 0x001e6515],
    [0x0012021a, 0x00012aa2, 0x00000000, 0x0003ece6],
    [0x4c3540ae, 0x019d0ed8, 0x0063d5e8, 0x001da5d8],
    [0x001194a3, 0x000123ad, 0x00000000, 0x0003d5c0],
    [0x4e6a598d, 0x01924033, 0x00616c98, 0x001cf3b6],
    [0x00112e68, 0x00011d32, 0x00000000, 0x0003c018],
    [0x509105f4, 0x01883bf8, 0x005f2cf5, 0x001c4dc1],
    [0x0010cd31, 0x00011864, 0x00000000, 0x0003ab7f],
    [0x52aa4deb, 0x017eeaf0, 0x005d127a, 0x001bafbc],
    [0x00107992, 0x00010d56, 0x00000000, 0x0003998e],
    [0x54b71bbb, 0x01763939, 0x005b1986, 0x001b1d5e],
    [0x0010248a, 0x00010856, 0x00000000, 0x00038776],
    [0x56b84060, 0x016e1611, 0x00593eb8, 0x001a9304],
    [0x000fd5e3, 0x0001024a, 0x00000000, 0x000376a8],
    [0x58ae7734, 0x016672fe, 0x00577f3b, 0x001a1076],
    [0x000f8b7b, 0x0000fc9e, 0x00000000, 0x000366bd],
    [0x5a9a68e9, 0x015f437e, 0x0055d893, 0x00199500],
    [0x000f44f4, 0x0000f749, 0x00000000, 0x000357a3],
    [0x5c7cae08, 0x01587d36, 0x005442b3, 0x001938b5],
    [0x000ed4ee, 0x00011271, 0x00000000, 0x000342bb],
    [0x5e55d107, 0x015215a4, 0x0052c77c, 0x0018c948],
    [0x000e95f5, 0x00010d2f, 0x00000000, 0x0003352a],
    [0x60265002, 0x014c04f1, 0x00515f43, 0x00185fde],
    [0x000e586e, 0x0001097f, 0x00000000, 0x000327f3],
    [0x61ee9e3a, 0x014643c9, 0x00500886, 0x0017faf5],
    [0x000e1f39, 0x000104c2, 0x00000000, 0x00031b9a],
    [0x63af2556, 0x0140cba2, 0x004ec1e7, 0x00179b32],
    [0x000de732, 0x00010168, 0x00000000, 0x00030f8b],
];

pub(super) static SHADER: Shader = Shader {
    name: "noise",
    source: include_str!("../../shaders/noise.wgsl"),
    entries: &[stepped("noise", &[indices("draws"), write("out")])],
    constants: &[
        ("ROUNDS", ROUNDS as f64),
        ("MULTIPLIER_0", MULTIPLIERS[0] as f64),
        ("MULTIPLIER_1", MULTIPLIERS[1] as f64),
        ("WEYL_0", WEYL[0] as f64),
        ("WEYL_1", WEYL[1] as f64),
    ],
    half: false,
};

impl Family for Noise {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn entry(&self) -> &'static Entry {
        &SHADER.entries[0]
    }

    fn uniforms(&self) -> Uniforms {
        Uniforms::new()
            .table("quantiles", QUANTILES.as_flattened())
            .int("features", self.features)
            .int("n", self.n)
            .int("layer", self.layer)
    }

    fn launch(&self) -> Launch {
        Launch::flat(self.features.div_ceil(4) * self.n, 64)
    }

    fn flops(&self) -> u64 {
        (self.features * self.n) as u64
    }

    fn serial(&self) -> usize {
        // The rounds, then four polynomials.
        ROUNDS as usize + 4 * 8
    }

    fn moved(&self, i: usize) -> Option<usize> {
        Some([DRAWS, self.features * self.n][i])
    }

    fn details(&self) -> String {
        format!("features {} n{}, layer {}", self.features, self.n, self.layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Horner's rule never leaves 32 bits, and a number's units of 2^-21 are exact in an f32.
    #[test]
    fn polynomials_stay_in_their_words() {
        for octave in QUANTILES.as_flattened().chunks_exact(8) {
            // No coefficient is negative, so the sum at s = 1 is the greatest of all.
            let greatest: u64 = octave.iter().map(|&c| u64::from(c)).sum();
            assert!(greatest + 64 < 1 << 31, "{octave:x?}");
        }
    }
}
