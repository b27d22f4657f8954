//! What the convolutions' twins share: tiles, and what is checked before the kernels index without
//! looking.

use crate::geometry::Geometry;

/// Balanced split of `len` into tiles of at most `most`: the half-open range of tile `i`.
#[inline(always)]
pub(super) fn tile(len: usize, most: usize, i: usize) -> (usize, usize) {
    let tiles = len.div_ceil(most);
    (i * len / tiles, (i + 1) * len / tiles)
}

/// Panics unless every slice has what the kernel reads of it: the kernels index without looking.
pub(super) fn measure(kernel: &str, g: &Geometry, slices: &[(&str, usize, usize)]) {
    for &(name, len, needed) in slices {
        assert!(len >= needed, "{kernel}: {name} has {len} elements, {g} needs {needed}");
    }
}
