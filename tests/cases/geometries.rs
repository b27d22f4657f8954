//! Convolutions to try: twins, gradient checks, the oracle and benchmarks read the same ones.

use gradcon::geometry::Geometry;

/// Convolutions of the autoencoder for images of `channels` x 28 x 28: four that shrink, then four
/// transposed ones.
pub fn model_layers(n: usize, channels: usize) -> [Geometry; 8] {
    let k = (4, 4);
    [
        Geometry::conv2d(n, (channels, 28, 28), 32, k, 2, 2),
        Geometry::conv2d(n, (32, 15, 15), 32, k, 2, 2),
        Geometry::conv2d(n, (32, 8, 8), 64, k, 2, 2),
        Geometry::conv2d(n, (64, 5, 5), 64, k, 2, 2),
        Geometry::conv_transpose2d(n, (64, 3, 3), 64, k, 2, 2),
        Geometry::conv_transpose2d(n, (64, 4, 4), 32, k, 2, 1),
        Geometry::conv_transpose2d(n, (32, 8, 8), 32, k, 2, 2),
        Geometry::conv_transpose2d(n, (32, 14, 14), channels, k, 2, 1),
    ]
}

/// Geometries that catch what square, even and equal sizes hide.
pub fn awkward() -> Vec<Geometry> {
    vec![
        Geometry::conv2d(3, (5, 9, 11), 7, (4, 3), 2, 1),
        // Stride 3: unequal residue classes.
        Geometry::conv2d(6, (3, 13, 10), 9, (5, 4), 3, 2),
        // Stride 1, no padding.
        Geometry::conv2d(2, (6, 7, 8), 5, (3, 2), 1, 0),
        // Floor cases: 15 -> 8 and 5 -> 3; a batch of one.
        Geometry::conv2d(2, (7, 15, 15), 5, (4, 4), 2, 2),
        Geometry::conv2d(1, (5, 5, 5), 7, (4, 4), 2, 2),
        // Linear.
        Geometry::conv2d(5, (37, 1, 1), 21, (1, 1), 1, 0),
        // Single channels, and more images than a tile has.
        Geometry::conv2d(70, (1, 4, 5), 6, (3, 2), 2, 1),
        Geometry::conv2d(9, (6, 5, 4), 1, (2, 3), 1, 2),
        // More channels and images than a tile has.
        Geometry::conv2d(37, (33, 3, 2), 65, (2, 3), 1, 1),
        // A stride that jumps over parts of x, and padding that leaves parts of y without a tap.
        Geometry::conv2d(4, (5, 8, 10), 3, (1, 2), 3, 0),
        Geometry::conv2d(3, (2, 4, 5), 6, (2, 3), 2, 3),
        // All sizes different, x larger than its taps reach.
        Geometry { hx: 6, wx: 9, ..Geometry::conv2d(3, (5, 5, 8), 7, (3, 4), 2, 1) },
        // Whole tiles and tails of every instruction set at once.
        Geometry::conv2d(64 + 16 + 3, (13, 4, 3), 17, (2, 3), 1, 1),
        // A single channel of x at stride 3.
        Geometry::conv2d(2, (1, 8, 11), 5, (4, 3), 3, 1),
        // Transposed ones: y is the small side, and single channels on both.
        Geometry::conv_transpose2d(2, (5, 3, 4), 3, (4, 4), 2, 1),
        Geometry::conv_transpose2d(9, (1, 3, 4), 1, (4, 4), 2, 1),
    ]
}

/// Awkward ones whose images come in fours.
pub fn fours() -> Vec<Geometry> {
    vec![
        Geometry::conv2d(12, (8, 9, 11), 6, (4, 3), 2, 1),
        Geometry::conv2d(16, (8, 9, 11), 24, (4, 3), 2, 1),
        Geometry::conv2d(48, (16, 6, 5), 36, (3, 2), 1, 1),
        Geometry::conv2d(4, (24, 5, 4), 20, (2, 3), 1, 2),
        Geometry::conv2d(20, (2, 13, 10), 9, (5, 4), 3, 2),
        // More images than a workgroup has threads for, and more channels than a tile has.
        Geometry::conv2d(4 * 67, (16, 2, 3), 33, (2, 2), 1, 1),
        Geometry::conv_transpose2d(8, (40, 3, 4), 3, (4, 4), 2, 1),
        Geometry::conv_transpose2d(36, (8, 4, 3), 1, (4, 4), 2, 1),
        // Few channels, made from sides that are odd, with kernels and paddings of every parity.
        Geometry::conv_transpose2d(8, (16, 3, 5), 2, (3, 4), 2, 0),
        Geometry::conv_transpose2d(12, (4, 5, 4), 4, (5, 2), 2, 2),
        Geometry::conv_transpose2d(4, (24, 4, 3), 3, (2, 7), 2, 1),
        Geometry::conv2d(20, (4, 9, 8), 16, (1, 3), 2, 0),
    ]
}
