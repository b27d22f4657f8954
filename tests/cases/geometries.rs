//! Convolutions to try: twins, gradient checks, the oracle and benchmarks read the same ones.

pub use gradcon::check::cases::awkward;
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
