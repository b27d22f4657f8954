//! Pictures of a run: image grids, reconstructions with error maps, the most normal and most
//! anomalous images, and score histograms. Images come as plain slices: f32 in [0, 1] or u8, laid
//! out [n, h, w, c] with c = 1 (gray) or 3 (RGB).

use std::path::Path;

use image::RgbImage;

use super::canvas::{Align, Canvas, write_png};
use super::colour::{ANOMALOUS, FAINT, INK, MUTED, NORMAL, Rgb, heat};
use super::font;
use super::plot::{Histogram, tick_label, ticks};
use crate::error::{Error, Result};

/// Width that small images are enlarged to on a sheet, in pixels.
const TILE: usize = 84;
/// Most images side by side on a sheet.
const COLUMNS: usize = 12;
const GAP: usize = 12;
const MARGIN: usize = 28;

/// Names the mismatch between a slice and its shape, or a channel count that is no picture.
fn check(what: &str, len: usize, shape: [usize; 4]) -> Result<()> {
    let [n, h, w, c] = shape;
    if c != 1 && c != 3 {
        return Err(Error::invalid(format!("{what}: {c} channels, expected 1 (gray) or 3 (RGB)")));
    }
    if n * h * w == 0 {
        return Err(Error::invalid(format!("{what}: shape {shape:?} holds no pixel")));
    }
    if len != n * h * w * c {
        return Err(Error::invalid(format!(
            "{what}: {len} values for shape {shape:?} = {}",
            n * h * w * c
        )));
    }
    Ok(())
}

fn check_finite(what: &str, pixels: &[f32]) -> Result<()> {
    match pixels.iter().find(|p| !p.is_finite()) {
        Some(bad) => {
            Err(Error::invalid(format!("{what}: a pixel is {bad}, expected a number in [0, 1]")))
        }
        None => Ok(()),
    }
}

/// Image `i` of f32 images in [0, 1] (clamped) as RGB.
fn rgb_tile(images: &[f32], shape: [usize; 4], i: usize) -> RgbImage {
    let [_, h, w, c] = shape;
    RgbImage::from_fn(w as u32, h as u32, |x, y| {
        let at = ((i * h + y as usize) * w + x as usize) * c;
        image::Rgb(std::array::from_fn(|k| {
            (images[at + k % c].clamp(0.0, 1.0) * 255.0).round() as u8
        }))
    })
}

/// Absolute error of image `i` per pixel, averaged over channels.
fn error_of<'a>(
    inputs: &'a [f32],
    recons: &'a [f32],
    shape: [usize; 4],
    i: usize,
) -> impl Iterator<Item = f32> + use<'a> {
    let [_, h, w, c] = shape;
    let range = i * h * w * c..(i + 1) * h * w * c;
    let pairs = inputs[range.clone()].chunks_exact(c).zip(recons[range].chunks_exact(c));
    pairs.map(move |(x, y)| x.iter().zip(y).map(|(a, b)| (a - b).abs()).sum::<f32>() / c as f32)
}

/// The largest per-pixel error among the images `which`: the top of their common colour scale.
fn error_scale(inputs: &[f32], recons: &[f32], shape: [usize; 4], which: &[usize]) -> f32 {
    which.iter().flat_map(|&i| error_of(inputs, recons, shape, i)).fold(0.0, f32::max)
}

/// Error map of image `i` in the colours of `heat`; `scale` is the error shown brightest.
fn error_tile(inputs: &[f32], recons: &[f32], shape: [usize; 4], i: usize, scale: f32) -> RgbImage {
    let [_, h, w, _] = shape;
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let pixels = error_of(inputs, recons, shape, i).flat_map(|e| heat(e / scale)).collect();
    RgbImage::from_raw(w as u32, h as u32, pixels).expect("h * w pixels were drawn")
}

/// Input, reconstruction and error map of one image, each [h, w] pixels.
pub struct Tiles {
    /// The image.
    pub input: RgbImage,
    /// What the model made of it.
    pub reconstruction: RgbImage,
    /// Absolute error, averaged over channels, black = 0 and pale yellow =
    /// [`TileSet::error_scale`].
    pub error: RgbImage,
}

/// Tiles of several images on one error scale.
pub struct TileSet {
    /// The error shown brightest.
    pub error_scale: f32,
    /// In the order asked for.
    pub tiles: Vec<Tiles>,
}

impl TileSet {
    /// Draws the images `which` of `inputs` and `recons` (both f32 in [0, 1], shape [n, h, w, c]).
    ///
    /// # Errors
    /// Slices that do not fit the shape, c other than 1 or 3, pixels that are not finite, an index
    /// past n.
    pub fn new(
        inputs: &[f32],
        recons: &[f32],
        shape: [usize; 4],
        which: &[usize],
    ) -> Result<TileSet> {
        check("inputs", inputs.len(), shape)?;
        check("reconstructions", recons.len(), shape)?;
        check_finite("inputs", inputs)?;
        check_finite("reconstructions", recons)?;
        if let Some(i) = which.iter().find(|&&i| i >= shape[0]) {
            return Err(Error::invalid(format!("image {i} of {}", shape[0])));
        }
        let error_scale = error_scale(inputs, recons, shape, which);
        let tiles = which.iter().map(|&i| Tiles {
            input: rgb_tile(inputs, shape, i),
            reconstruction: rgb_tile(recons, shape, i),
            error: error_tile(inputs, recons, shape, i, error_scale),
        });
        Ok(TileSet { error_scale, tiles: tiles.collect() })
    }
}

/// Enlarges by an integer factor, pixels staying square.
fn enlarge(tile: &RgbImage, factor: usize) -> RgbImage {
    let f = factor as u32;
    RgbImage::from_fn(tile.width() * f, tile.height() * f, |x, y| *tile.get_pixel(x / f, y / f))
}

/// The factor that brings a tile to about [`TILE`] pixels.
fn factor_for(w: usize) -> usize {
    (TILE / w).max(1)
}

fn paste(canvas: &mut Canvas, tile: &RgbImage, x: usize, y: usize) {
    image::imageops::replace(&mut canvas.0, tile, x as i64, y as i64);
}

/// A contact sheet of u8 images [n, h, w, c] in reading order: `columns` side by side, enlarged
/// `factor` times, `gap` white pixels between and around them.
///
/// # Errors
/// A slice that does not fit the shape, c other than 1 or 3, zero columns or factor.
pub fn grid(
    images: &[u8],
    shape: [usize; 4],
    columns: usize,
    factor: usize,
    gap: usize,
) -> Result<RgbImage> {
    check("images", images.len(), shape)?;
    if columns == 0 || factor == 0 {
        return Err(Error::invalid(
            "an image grid needs at least one column and a factor of at least 1",
        ));
    }
    let [n, h, w, c] = shape;
    let (columns, rows) = (columns.min(n), n.div_ceil(columns));
    let size = |count: usize, side: usize| count * (side * factor + gap) + gap;
    let mut canvas = Canvas::new(size(columns, w), size(rows, h));
    for i in 0..n {
        let tile = RgbImage::from_fn(w as u32, h as u32, |x, y| {
            let at = ((i * h + y as usize) * w + x as usize) * c;
            image::Rgb(std::array::from_fn(|k| images[at + k % c]))
        });
        let (x, y) = (size(i % columns, w), size(i / columns, h));
        paste(&mut canvas, &enlarge(&tile, factor), x, y);
    }
    Ok(canvas.0)
}

/// The colour bar under a sheet, its right end at `x`.
fn error_bar(canvas: &mut Canvas, x: usize, y: usize, scale: f32) {
    const WIDTH: i64 = 160;
    let high = format!("{scale:.2}");
    let right = x as i64 - font::width(&high) as i64 * 2 - 8;
    for i in 0..WIDTH {
        canvas.fill(right - WIDTH + i, y as i64, 1, 14, heat(i as f32 / (WIDTH - 1) as f32), 1.0);
    }
    canvas.text(x as i64, y as i64, &high, 2, Align::Right, MUTED);
    canvas.text(right - WIDTH - 8, y as i64, "absolute error  0", 2, Align::Right, MUTED);
}

const ROWS: [&str; 3] = ["input", "output", "error"];

/// Row names left of a stack of three tiles whose top is `y`.
fn row_names(canvas: &mut Canvas, right: usize, y: usize, tile_height: usize) {
    for (row, name) in ROWS.iter().enumerate() {
        let middle = y + row * (tile_height + 4) + tile_height / 2;
        canvas.text(right as i64, middle as i64 - 7, name, 2, Align::Right, MUTED);
    }
}

fn stack(
    canvas: &mut Canvas,
    tiles: &Tiles,
    x: usize,
    y: usize,
    factor: usize,
    tile_height: usize,
) {
    for (row, tile) in [&tiles.input, &tiles.reconstruction, &tiles.error].into_iter().enumerate() {
        paste(canvas, &enlarge(tile, factor), x, y + row * (tile_height + 4));
    }
}

fn left_margin() -> usize {
    let widest = ROWS.iter().map(|name| font::width(name)).max().unwrap_or(0);
    MARGIN + widest * 2 + 12
}

/// Writes a PNG sheet of reconstructions: above each other the input, what the model made of it and
/// the absolute error on a common colour scale, twelve images side by side. `inputs` and `recons`
/// are f32 in [0, 1], shape [n, h, w, c].
///
/// # Errors
/// As [`TileSet::new`]; no image; the file system's.
pub fn reconstructions(
    path: &Path,
    inputs: &[f32],
    recons: &[f32],
    shape: [usize; 4],
) -> Result<()> {
    let [n, h, w, _] = shape;
    let which: Vec<usize> = (0..n).collect();
    let set = TileSet::new(inputs, recons, shape, &which)?;
    let factor = factor_for(w);
    let (tile_w, tile_h) = (w * factor, h * factor);
    let (columns, blocks) = (n.min(COLUMNS), n.div_ceil(COLUMNS));
    let block = 3 * tile_h + 8 + 2 * GAP;
    let left = left_margin();
    let width = (left + columns * (tile_w + GAP) - GAP + MARGIN).max(560);
    let mut canvas = Canvas::new(width, MARGIN + blocks * block + 14 + MARGIN);
    for (i, tiles) in set.tiles.iter().enumerate() {
        let (x, y) = (left + i % COLUMNS * (tile_w + GAP), MARGIN + i / COLUMNS * block);
        if i % COLUMNS == 0 {
            row_names(&mut canvas, left - 12, y, tile_h);
        }
        stack(&mut canvas, tiles, x, y, factor, tile_h);
    }
    error_bar(&mut canvas, width - MARGIN, MARGIN + blocks * block, set.error_scale);
    write_png(path, &canvas.0)
}

/// Indices of the `count` lowest scores (lowest first) and of the `count` highest (highest first);
/// equal scores keep their order. Each side takes at most half of the images, so none is on both.
pub fn extreme_indices(scores: &[f64], count: usize) -> (Vec<usize>, Vec<usize>) {
    let count = count.min(scores.len() / 2);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let low = order[..count].to_vec();
    let high = order[order.len() - count..].iter().rev().copied().collect();
    (low, high)
}

/// Writes a PNG sheet of the `count` most normal and the `count` most anomalous images by score,
/// each with its reconstruction, error map and score; the frame tells the truth. `inputs` and
/// `recons` are f32 in [0, 1], shape [n, h, w, c]; `scores` and `labels` (true = anomalous) have n
/// entries.
///
/// # Errors
/// As [`TileSet::new`]; other lengths; scores that are not finite; fewer than two images; the file
/// system's.
pub fn extremes(
    path: &Path,
    inputs: &[f32],
    recons: &[f32],
    shape: [usize; 4],
    scores: &[f64],
    labels: &[bool],
    count: usize,
) -> Result<()> {
    let [n, h, w, _] = shape;
    if scores.len() != n || labels.len() != n {
        let got = format!("{} scores and {} labels", scores.len(), labels.len());
        return Err(Error::invalid(format!("{got} for {n} images")));
    }
    if let Some(bad) = scores.iter().find(|s| !s.is_finite()) {
        return Err(Error::invalid(format!("score {bad}: expected a finite number")));
    }
    let (low, high) = extreme_indices(scores, count);
    let per_side = low.len();
    if per_side == 0 {
        return Err(Error::invalid(format!(
            "the extremes of {n} images, {count} a side: expected at least one a side"
        )));
    }
    let which: Vec<usize> = low.into_iter().chain(high).collect();
    let set = TileSet::new(inputs, recons, shape, &which)?;

    let factor = factor_for(w);
    let (tile_w, tile_h) = (w * factor, h * factor);
    // A score is 7 characters: wide enough a column that neighbours do not touch.
    let pitch = (tile_w + GAP).max(font::width("-0.0000") * 2 + GAP);
    let columns = per_side.min(COLUMNS);
    let rows = per_side.div_ceil(COLUMNS);
    let row = 3 * tile_h + 8 + 34;
    let section = 34 + rows * row + GAP;
    let left = left_margin();
    let width = (left + columns * pitch - GAP + MARGIN).max(820);
    let mut canvas = Canvas::new(width, MARGIN + 2 * section + 14 + MARGIN);
    for (side, title) in
        ["Most normal (lowest scores)", "Most anomalous (highest scores)"].into_iter().enumerate()
    {
        let top = MARGIN + side * section;
        canvas.text(left as i64, top as i64, title, 2, Align::Left, INK);
        for k in 0..per_side {
            let i = which[side * per_side + k];
            let (x, y) = (left + k % COLUMNS * pitch, top + 34 + k / COLUMNS * row);
            if k % COLUMNS == 0 {
                row_names(&mut canvas, left - 12, y, tile_h);
            }
            let truth = if labels[i] { ANOMALOUS } else { NORMAL };
            canvas.frame(x as i64, y as i64, tile_w as i64, (3 * tile_h + 8) as i64, 3, truth);
            stack(&mut canvas, &set.tiles[side * per_side + k], x, y, factor, tile_h);
            let score = format!("{:.4}", scores[i]);
            canvas.text(
                (x + tile_w / 2) as i64,
                (y + 3 * tile_h + 18) as i64,
                &score,
                2,
                Align::Centre,
                INK,
            );
        }
    }
    let bottom = MARGIN + 2 * section;
    let mut x = left as i64;
    for (name, colour) in [("truly normal", NORMAL), ("truly anomalous", ANOMALOUS)] {
        x = legend(&mut canvas, x, bottom as i64, name, colour);
    }
    error_bar(&mut canvas, width - MARGIN, bottom, set.error_scale);
    write_png(path, &canvas.0)
}

/// A coloured square and its meaning; returns where the next may start.
fn legend(canvas: &mut Canvas, x: i64, y: i64, name: &str, colour: Rgb) -> i64 {
    canvas.fill(x, y, 14, 14, colour, 1.0);
    canvas.text(x + 22, y, name, 2, Align::Left, INK);
    x + 22 + font::width(name) as i64 * 2 + 24
}

/// Writes a PNG histogram (960 x 540) of normal and anomalous scores over common bins, each side as
/// a share of its own images; `threshold` is drawn as a dashed line. Texts are ASCII.
///
/// # Errors
/// No score on one side, scores or threshold that are not finite; the file system's.
pub fn histogram(
    path: &Path,
    normal: &[f64],
    anomalous: &[f64],
    title: &str,
    threshold: Option<f64>,
) -> Result<()> {
    if normal.is_empty() || anomalous.is_empty() {
        let got = format!("{} normal and {} anomalous", normal.len(), anomalous.len());
        return Err(Error::invalid(format!(
            "a score histogram needs both sides: got {got} scores"
        )));
    }
    if let Some(bad) = threshold.filter(|t| !t.is_finite()) {
        return Err(Error::invalid(format!("threshold {bad}: expected a finite number")));
    }
    let bins = Histogram::of(normal, anomalous)?;
    const WIDTH: i64 = 960;
    const HEIGHT: i64 = 540;
    const LEFT: i64 = 76;
    const RIGHT: i64 = WIDTH - 32;
    const TOP: i64 = 108;
    const BOTTOM: i64 = HEIGHT - 76;
    let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize);
    // A threshold outside the scores still belongs on the axis.
    let low = threshold.unwrap_or(bins.low).min(bins.low);
    let high = threshold.unwrap_or(bins.low).max(bins.high());
    let top = bins.top() * 1.06;
    let x_of =
        |value: f64| LEFT + ((value - low) / (high - low) * (RIGHT - LEFT) as f64).round() as i64;
    let y_of = |share: f64| BOTTOM - (share / top * (BOTTOM - TOP) as f64).round() as i64;

    canvas.text(LEFT, 28, title, 3, Align::Left, INK);
    canvas.text(LEFT, TOP - 34, "share of images, %", 2, Align::Left, MUTED);
    let (y_ticks, y_step) = ticks(0.0, top * 100.0, 5);
    for tick in y_ticks {
        canvas.fill(LEFT, y_of(tick / 100.0), RIGHT - LEFT, 1, FAINT, 1.0);
        canvas.text(
            LEFT - 12,
            y_of(tick / 100.0) - 7,
            &tick_label(tick, y_step),
            2,
            Align::Right,
            MUTED,
        );
    }
    for (shares, colour) in [(&bins.normal, NORMAL), (&bins.anomalous, ANOMALOUS)] {
        let edge = |i: usize| x_of(bins.low + bins.step * i as f64);
        let mut before = BOTTOM;
        for (i, &share) in shares.iter().chain([&0.0]).enumerate() {
            let (x, y) = (edge(i), y_of(share));
            // Outline: a riser from the last bin's height to this one's, then the bin's top.
            if before != y {
                canvas.fill(x - 1, before.min(y) - 1, 2, (before - y).abs() + 1, colour, 1.0);
            }
            if i < shares.len() && share > 0.0 {
                canvas.fill(x, y, edge(i + 1) - x, BOTTOM - y, colour, 0.38);
                canvas.fill(x, y - 1, edge(i + 1) - x, 2, colour, 1.0);
            }
            before = y;
        }
    }
    canvas.fill(LEFT, BOTTOM, RIGHT - LEFT, 2, INK, 1.0);
    let (x_ticks, x_step) = ticks(low, high, 8);
    for tick in x_ticks {
        canvas.fill(x_of(tick), BOTTOM, 2, 8, INK, 1.0);
        canvas.text(
            x_of(tick) + 1,
            BOTTOM + 16,
            &tick_label(tick, x_step),
            2,
            Align::Centre,
            MUTED,
        );
    }
    canvas.text(
        (LEFT + RIGHT) / 2,
        BOTTOM + 48,
        "anomaly score (higher = more anomalous)",
        2,
        Align::Centre,
        INK,
    );
    if let Some(threshold) = threshold {
        let x = x_of(threshold);
        for y in (TOP..BOTTOM).step_by(10) {
            canvas.fill(x - 1, y, 2, 6, INK, 1.0);
        }
        let (at, align) =
            if x > (LEFT + RIGHT) / 2 { (x - 8, Align::Right) } else { (x + 8, Align::Left) };
        canvas.text(at, TOP - 4, &format!("threshold {threshold:.4}"), 2, align, INK);
    }
    let names = [
        (format!("normal ({})", normal.len()), NORMAL),
        (format!("anomalous ({})", anomalous.len()), ANOMALOUS),
    ];
    let widths: i64 = names.iter().map(|(name, _)| 46 + font::width(name) as i64 * 2).sum();
    let mut x = RIGHT - widths + 24;
    for (name, colour) in &names {
        x = legend(&mut canvas, x, TOP - 34, name, *colour);
    }
    write_png(path, &canvas.0)
}
