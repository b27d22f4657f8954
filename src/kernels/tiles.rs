//! Register tiles: the variants of convolutions that keep operands in workgroup memory, a row each.
//!
//! A tile is what a workgroup computes of a result, `rows * tm` channels x `4 * quads * tn` columns,
//! of which a thread has `rows` x `4 * quads` in registers. `shaders/conv_tiles.wgsl` and
//! `shaders/conv_w_tiles.wgsl` are written for every row; what a row costs is counted here, so that
//! it can be asserted and predicted without a GPU.

use super::launch::Constants;

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// The variant's name.
    pub name: &'static str,
    /// Channels of a thread: 4 or 8.
    pub rows: u32,
    /// Fours of columns of a thread: 1 or 2.
    pub quads: u32,
    /// Threads along channels.
    pub tm: u32,
    /// Threads along columns: eight at least, so that those who read one bank together read one
    /// address.
    pub tn: u32,
    /// Terms in workgroup memory at a time: 8 or 16.
    pub block: u32,
    /// Blocks in workgroup memory: with two, a block is stored while the other is multiplied.
    pub buffers: u32,
}

/// Every row, from the smallest register tile to the largest.
///
/// A workgroup has a tile for each slice of a sum: those with one buffer are for many slices.
pub const TILES: [Tile; 9] = [
    Tile { name: "tile-4x4", rows: 4, quads: 1, tm: 8, tn: 8, block: 8, buffers: 1 },
    Tile { name: "tile-4x4-deep", rows: 4, quads: 1, tm: 8, tn: 8, block: 16, buffers: 1 },
    Tile { name: "tile-4x4-double", rows: 4, quads: 1, tm: 8, tn: 8, block: 8, buffers: 2 },
    Tile { name: "tile-8x4", rows: 8, quads: 1, tm: 4, tn: 8, block: 8, buffers: 1 },
    Tile { name: "tile-8x4-wide", rows: 8, quads: 1, tm: 4, tn: 16, block: 8, buffers: 2 },
    Tile { name: "tile-8x4-tall", rows: 8, quads: 1, tm: 8, tn: 8, block: 8, buffers: 2 },
    Tile { name: "tile-8x8", rows: 8, quads: 2, tm: 4, tn: 8, block: 8, buffers: 1 },
    Tile { name: "tile-8x8-double", rows: 8, quads: 2, tm: 4, tn: 8, block: 8, buffers: 2 },
    Tile { name: "tile-8x8-large", rows: 8, quads: 2, tm: 8, tn: 8, block: 8, buffers: 2 },
];

/// Workgroup memory that every WebGPU device has, in bytes.
pub const MEMORY: u32 = 16 << 10;

impl Tile {
    /// Channels of a workgroup.
    pub fn channels(&self) -> u32 {
        self.rows * self.tm
    }

    /// Columns of a workgroup.
    pub fn columns(&self) -> u32 {
        4 * self.quads * self.tn
    }

    /// Workgroup memory of both operands' blocks, for `slices`, in bytes.
    pub(super) fn bytes(&self, slices: u32) -> u32 {
        4 * slices * self.buffers * self.block * (self.channels() + self.columns())
    }

    /// The shader's constants.
    pub(super) fn constants(&self, slices: u32) -> Constants {
        vec![
            ("tm", self.tm),
            ("tn", self.tn),
            ("slices", slices),
            ("rows", self.rows),
            ("quads", self.quads),
            ("block_size", self.block),
            ("buffers", self.buffers),
        ]
    }

    /// Registers of a thread, estimated: sums, a block on its way, two operands, and what
    /// addresses take.
    pub fn registers(&self) -> u32 {
        let sums = 4 * self.rows * self.quads;
        let threads = self.tm * self.tn;
        let carried = self.block * (self.channels() + self.columns()) / threads;
        sums + carried + self.rows + 4 * self.quads + 24
    }

    /// Bytes that a thread reads from workgroup memory for each multiply-add.
    pub fn bytes_per_product(&self) -> f64 {
        let (rows, columns) = (f64::from(self.rows), f64::from(4 * self.quads));
        4.0 * (rows + columns) / (rows * columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes of a quarter of a warp, whose 16-byte accesses go together, and banks of 16 bytes.
    const LANES: u32 = 8;

    /// How many times the eight banks have to answer for accesses that go together, beyond once.
    fn conflicts(addresses: impl Iterator<Item = u32>) -> usize {
        let mut banks = vec![vec![]; 8];
        for address in addresses {
            let bank: &mut Vec<u32> = &mut banks[(address % 8) as usize];
            if !bank.contains(&address) {
                bank.push(address);
            }
        }
        banks.iter().map(Vec::len).max().unwrap_or(1) - 1
    }

    /// The formulas of the shaders, replayed for every phase of the first warps.
    #[test]
    fn no_bank_answers_twice() {
        for tile in TILES {
            let Tile { rows, quads, tm, tn, block, .. } = tile;
            let threads = tm * tn;
            let phases = (0..threads).step_by(LANES as usize);
            for first in phases {
                let lanes = || first..first + LANES;
                let check = |what: &str, address: &dyn Fn(u32) -> u32| {
                    assert_eq!(conflicts(lanes().map(address)), 0, "{}: {what}", tile.name);
                };
                let fours = block / 4;
                check("columns of conv are stored", &|t| t);
                check("columns of conv are read", &|t| t % tn);
                check("far columns of conv are read", &|t| t % tn + tn * (quads - 1));
                check("weights of conv_x are read", &|t| t / tn + tm * (rows / 8));
                check("weights of conv_y are read", &|t| t / tn * block);
                let swapped = |column: u32, k: u32| {
                    column * fours + (k ^ ((column * fours / 8) & (fours - 1)))
                };
                check("columns of conv_w are stored", &|t| swapped(t / fours, t % fours));
                for j in 0..4 * quads {
                    for k in 0..fours {
                        check("columns of conv_w are read", &|t| swapped(t % tn + tn * j, k));
                    }
                }
            }
        }
    }

    /// What lies beside each other in memory is read by neighbours: 32 bytes, a sector, at least.
    #[test]
    fn sectors_are_read_whole() {
        for Tile { name, tn, quads, block, .. } in TILES {
            // Columns of conv: neighbours are neighbouring fours of images. Of conv_w: `block` of
            // a channel's images lie together, as do `block` input channels of conv_y's weights.
            assert!(16 * quads * tn >= 32 && 4 * block >= 32, "{name}");
        }
    }

    #[test]
    fn tiles_fit_any_device() {
        for tile in TILES {
            let threads = tile.tm * tile.tn;
            assert!(threads.is_multiple_of(32) && threads <= 256, "{tile:?}");
            assert!(tile.bytes(1) + 16 * threads <= MEMORY, "{tile:?}");
            assert!(tile.registers() <= 128, "{tile:?}: {} registers", tile.registers());
            // What the shaders have names for: four vectors of each operand on their way.
            let carried = |items: u32| (items * tile.block / 4).div_ceil(threads);
            assert!(carried(tile.columns()) <= 4 && carried(tile.channels()) <= 4, "{tile:?}");
            assert!(tile.tn >= LANES && tile.tm.is_multiple_of(tile.quads), "{tile:?}");
            assert!(tile.tm <= tile.buffers * tile.block * tile.quads, "{tile:?}: sums of slices");
        }
    }
}
