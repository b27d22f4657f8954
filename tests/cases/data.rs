//! The data of a case: how numbers are drawn, and what an argument holds.

use gradcon::engine::Data;

/// Images of the resident dataset.
pub const IMAGES: usize = 9;

/// What outputs hold before a run, and their guards after it: a number that half precision has, too.
pub const SENTINEL: f64 = -12344.0;

/// The model whose numbers are all NaN: what it does to itself must not reach its neighbours.
pub const BROKEN_MODEL: u32 = u32::MAX;

/// How numbers are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// With all the bits of an f32: every rounding shows.
    Rough,
    /// Multiples of 1/8: sums and products are exact in f32, so engines must agree to the last bit
    /// where `Case::exact` says so.
    Eighths,
}

/// Data that a case wrote or will write, over all replicas.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Values {
    Floats(Vec<f64>),
    Indices(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Values {
    /// For `Engine::write`.
    pub fn data(&self) -> Data<'_> {
        match self {
            Values::Floats(v) => Data::F64(v),
            Values::Indices(v) => Data::U32(v),
            Values::Bytes(v) => Data::U8(v),
        }
    }
}

/// What an argument holds.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// -1 to 1.
    Signed,
    /// 0 to 1; every fifth is 0.
    Weight,
    /// 1e-4 to 1e-2.
    Small,
    /// 0 to 1.
    Positive,
    /// Runs of this length: one signed (inner products), then `squares` positive ones (squared
    /// norms), again and again.
    Sums { run: usize, squares: usize },
    /// `stats` of a constraint; the norm of every second segment's gradient is below cosine's
    /// epsilon.
    Stats,
    /// `(image weight, 1 to 10, 1 to 1000, 0 to 1)`; replica 1 has no batch if `idle`.
    Schedule { idle: bool },
    /// Images, and PADDING_IMAGE at the end of every row.
    Images,
    /// Any words.
    Words,
    /// Bytes.
    Pixels,
    /// What the kernel writes.
    Result,
}

/// The output of a counter-based generator (SplitMix64): 64 bits for a counter and a key.
pub fn bits(key: u64, counter: u64) -> u64 {
    let mut v = key
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

/// -1 to 1, exact in f32.
fn signed(bits: u64, style: Style) -> f64 {
    match style {
        Style::Rough => (bits >> 40) as f64 / (1 << 23) as f64 - 1.0,
        Style::Eighths => ((bits >> 40) % 17) as f64 / 8.0 - 1.0,
    }
}

/// Element `i` of an argument of model `id`, whose rows have `width` elements; `bits` are its own.
pub fn float(
    content: Content,
    bits: u64,
    style: Style,
    (id, i, width): (u32, usize, usize),
) -> f64 {
    let v = signed(bits, style);
    let unit = (v + 1.0) / 2.0;
    if id == BROKEN_MODEL && !matches!(content, Content::Result) {
        return f64::NAN;
    }
    match content {
        Content::Signed => v,
        Content::Positive => unit,
        Content::Weight if i % 5 == 4 => 0.0,
        Content::Weight => unit,
        Content::Small => (1e-4 + 1e-2 * unit) as f32 as f64,
        Content::Sums { run, squares } if (i / run).is_multiple_of(squares + 1) => v,
        Content::Sums { .. } => unit,
        Content::Stats => match (i % 4, i / 4 % 2) {
            (1, 0) if i > 4 => 1e-20f32 as f64,
            (1 | 2, _) => unit + 0.125,
            _ => v,
        },
        Content::Schedule { idle } => match i % width {
            0 if idle && id == 1 => 0.0,
            0 => unit + 0.125,
            1 => (1.0 + 9.0 * unit) as f32 as f64,
            2 => (1.0 + 999.0 * unit) as f32 as f64,
            _ => unit,
        },
        Content::Result => SENTINEL,
        Content::Images | Content::Words | Content::Pixels => unreachable!("not a float"),
    }
}
