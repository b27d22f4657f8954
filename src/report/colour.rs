//! The colours of error maps.

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Nine evenly spaced colours of the perceptually uniform map "inferno" (Smith and van der Walt,
/// CC0).
const INFERNO: [Rgb; 9] = [
    [0, 0, 4],
    [33, 12, 74],
    [87, 16, 110],
    [138, 34, 106],
    [188, 55, 84],
    [227, 89, 51],
    [249, 142, 9],
    [249, 203, 53],
    [252, 255, 164],
];

/// The colour of `value` in [0, 1] (clamped) from black over purple and orange to pale yellow;
/// lightness rises evenly.
pub fn heat(value: f32) -> Rgb {
    let at = value.clamp(0.0, 1.0) * (INFERNO.len() - 1) as f32;
    let low = (at as usize).min(INFERNO.len() - 2);
    mix(INFERNO[low], INFERNO[low + 1], at - low as f32)
}

/// The ends and the middle of [`signed`].
const NEGATIVE: Rgb = [24, 88, 176];
const ZERO: Rgb = [246, 246, 246];
const POSITIVE: Rgb = [186, 28, 40];

/// The colour of `value` in [-1, 1] (clamped): blue below 0, nearly white at 0, red above.
pub fn signed(value: f32) -> Rgb {
    let end = if value < 0.0 { NEGATIVE } else { POSITIVE };
    mix(ZERO, end, value.abs().min(1.0))
}

/// `share` of `over`, the rest of `under`.
fn mix(under: Rgb, over: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|i| {
        (under[i] as f32 + (over[i] as f32 - under[i] as f32) * share).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_gets_brighter_all_the_way() {
        let light =
            |c: Rgb| 0.2126 * f64::from(c[0]) + 0.7152 * f64::from(c[1]) + 0.0722 * f64::from(c[2]);
        let steps: Vec<f64> = (0..=64).map(|i| light(heat(i as f32 / 64.0))).collect();
        assert!(steps.windows(2).all(|w| w[1] > w[0]), "{steps:?}");
        assert_eq!(
            (heat(-1.0), heat(0.0), heat(1.0), heat(9.0)),
            (INFERNO[0], INFERNO[0], INFERNO[8], INFERNO[8])
        );
    }

    #[test]
    fn signed_tells_the_signs_apart() {
        assert_eq!([-2.0, -1.0, 0.0, 1.0].map(signed), [NEGATIVE, NEGATIVE, ZERO, POSITIVE]);
        assert!(signed(0.5)[0] > signed(0.5)[2] && signed(-0.5)[0] < signed(-0.5)[2]);
    }

    #[test]
    fn mix_goes_from_one_end_to_the_other() {
        assert_eq!(mix([0, 100, 200], [100, 200, 0], 0.0), [0, 100, 200]);
        assert_eq!(mix([0, 100, 200], [100, 200, 0], 0.5), [50, 150, 100]);
        assert_eq!(mix([0, 100, 200], [100, 200, 0], 1.0), [100, 200, 0]);
    }
}
