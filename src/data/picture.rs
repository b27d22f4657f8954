//! One picture file: from its bytes to a square of few pixels, as Pillow would do it, in bounded
//! time and memory.
//!
//! PNG, JPEG, BMP, WebP and TIFF, told apart by content. What the file says about its orientation
//! is applied. Of files with several images the first one counts. Anything unusual that would give
//! other pixels than a viewer shows is an error.
//!
//! **Transparency** is dropped and the stored colours count, as in Pillow's `convert("RGB")`,
//! unless a background is given: then pictures are composed onto it, as a viewer does. Which one a
//! model was trained with belongs to its data's manifest.
//!
//! **Memory.** Files that are 60 kB long can ask for gigabytes, so a picture has a limit of pixels,
//! known before any is decoded. All threads together decode within a budget of 1 GiB, or one
//! picture alone that needs more.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage,
};
use jpeg_decoder::{CodingProcess, PixelFormat};
use rayon::prelude::*;

use super::Images;
use super::resize::Plan;
use super::walk::EXTENSIONS;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use crate::error::{Error, Result};
use crate::images::{IMAGE_SIZE, check_size};
use crate::tiles::Tiles;

/// Is told how many pictures were found, and how many were read, since it was called last. An error
/// ends the work.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) -> Result<()> + Sync);

/// Why a picture can't be used; the path is the caller's to name.
type Outcome<T> = std::result::Result<T, String>;

/// What becomes of a picture that is no square.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Aspect {
    /// Its longer side is shortened: all of it is there, out of proportion.
    #[default]
    Squash,
    /// Its shorter side is filled up on both sides with the background, or black.
    Pad,
    /// Both ends of its longer side are cut off.
    Crop,
}

impl Aspect {
    /// What of a picture [height, width] becomes which part of a square of `size` pixels.
    pub fn frame(self, [height, width]: [usize; 2], size: usize) -> Frame {
        let (shortest, longest) = (height.min(width), height.max(width));
        let (from, to) = match self {
            Aspect::Squash => ([height, width], [size, size]),
            Aspect::Pad => {
                let side = |n: usize| ((n * size + longest / 2) / longest).max(1);
                ([height, width], [side(height), side(width)])
            }
            Aspect::Crop => ([shortest; 2], [size; 2]),
        };
        let middle = |whole: [usize; 2], part: [usize; 2]| {
            [(whole[0] - part[0]) / 2, (whole[1] - part[1]) / 2]
        };
        Frame { from, from_at: middle([height, width], from), to, to_at: middle([size; 2], to) }
    }
}

/// A rectangle of a picture and the rectangle of the square that it is resized to; sizes and places
/// are [y, x].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Size of the picture's.
    pub from: [usize; 2],
    /// Where it begins.
    pub from_at: [usize; 2],
    /// Size of the square's.
    pub to: [usize; 2],
    /// Where it begins.
    pub to_at: [usize; 2],
}

/// How picture files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    channels: usize,
    size: usize,
    aspect: Aspect,
    max_pixels: u64,
    background: Option<[u8; 3]>,
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a decoder, whose panic becomes an error about one picture: no reason
/// to tell the user of a panic.
pub fn is_decoding() -> bool {
    DECODING.get()
}

impl Decode {
    /// The largest picture unless somebody asks for more: 16,384 x 16,384 or as many pixels in
    /// another shape. Scans and panoramas are smaller. Its pixels take 0.8 GB as 8-bit RGB, and
    /// decoding a progressive JPEG of that size five times as much.
    pub const MAX_PIXELS: u64 = 1 << 28;

    /// Pictures of 28 x 28 with `channels` channels: 1 makes them gray, 3 makes them RGB. Those of
    /// more than `max_pixels` pixels are refused, and those with a side of more than
    /// `max_pixels / 256` (and of more than 65,536).
    ///
    /// # Errors
    /// Another number of channels: picture files have no such colours.
    pub fn new(channels: usize, max_pixels: u64) -> Result<Decode> {
        match channels {
            1 | 3 => Ok(Decode {
                channels,
                size: IMAGE_SIZE,
                aspect: Aspect::default(),
                max_pixels,
                background: None,
            }),
            _ => Err(Error::invalid(format!(
                "picture files are read with 1 channel (gray) or 3 (RGB), not with {channels}"
            ))),
        }
    }

    /// The same with another number of channels, 1 or 3.
    pub(super) fn with_channels(self, channels: usize) -> Decode {
        Decode { channels, ..self }
    }

    /// 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// What transparent pictures are composed onto, if they are.
    pub fn background(&self) -> Option<[u8; 3]> {
        self.background
    }

    /// Resizes them to this height and width instead of 28.
    ///
    /// # Errors
    /// As [`check_size`].
    pub fn to_size(self, size: usize) -> Result<Decode> {
        Ok(Decode { size: check_size(size)?, ..self })
    }

    /// Resizes them to the height and width of images that are cut into these tiles.
    pub fn for_tiles(self, tiles: Tiles) -> Decode {
        Decode { size: tiles.image(), ..self }
    }

    /// What becomes of pictures that are no squares; without it they are squashed.
    pub fn with_aspect(self, aspect: Aspect) -> Decode {
        Decode { aspect, ..self }
    }

    /// What becomes of pictures that are no squares.
    pub fn aspect(&self) -> Aspect {
        self.aspect
    }

    /// Height and width of what it makes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Composes transparent pictures onto this colour (red, green, blue).
    pub fn on(self, background: Option<[u8; 3]>) -> Decode {
        Decode { background, ..self }
    }

    /// Decodes the files and resizes each: [paths.len(), size, size, channels]. Gray is
    /// Pillow's mode L (299 red + 587 green + 114 blue of 1000); 16 bits are scaled to 8. PNG and
    /// BMP give Pillow's levels; the colours of the others may be a few levels off, as decoders
    /// differ.
    ///
    /// # Errors
    /// Names the files that can't be read or decoded; or what `progress` returned.
    pub fn files<P: AsRef<Path> + Sync>(&self, paths: &[P], progress: Progress) -> Result<Images> {
        progress(paths.len() as u64, 0)?;
        let decode = |path: &P| {
            let image = self.file(path.as_ref());
            progress(0, 1).map(|()| image)
        };
        let decoded = paths.par_iter().map(decode).collect::<Result<Vec<_>>>()?;
        let mut data = Vec::with_capacity(paths.len() * self.size * self.size * self.channels);
        let mut unreadable = Vec::new();
        for (path, image) in paths.iter().zip(decoded) {
            match image {
                Ok(image) => data.extend(image.data),
                Err(what) => unreadable.push(format!("{}: {what}", path.as_ref().display())),
            }
        }
        if !unreadable.is_empty() {
            const NAMED: usize = 50;
            let count = unreadable.len();
            let rest = if count > NAMED {
                format!("\n  and {} more", count - NAMED)
            } else {
                String::new()
            };
            unreadable.truncate(NAMED);
            return Err(Error::invalid(format!(
                "{count} of {} images can't be read\n  {}{rest}",
                paths.len(),
                unreadable.join("\n  ")
            )));
        }
        Images::new(data, [paths.len(), self.size, self.size, self.channels])
    }

    /// One image [1, size, size, channels] from a file, as [`files`](Self::files) makes it. Pipes,
    /// sockets and devices are not opened.
    ///
    /// # Errors
    /// Why it can't be read or decoded, without the path.
    pub fn file(&self, path: &Path) -> Outcome<Images> {
        self.read(open(path)?, Pixels::reduce)
    }

    /// The picture of a file as it is seen, at its own size: [1, height, width, channels].
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn whole(&self, path: &Path) -> Outcome<Images> {
        self.read(open(path)?, Pixels::whole)
    }

    /// One image [1, size, size, channels] from the content of a file.
    ///
    /// # Errors
    /// Why it can't be decoded.
    pub fn bytes(&self, bytes: &[u8]) -> Outcome<Images> {
        self.read(io::Cursor::new(bytes), Pixels::reduce)
    }

    fn read<R: BufRead + Seek>(
        &self,
        reader: R,
        make: fn(&Pixels, &Decode) -> Images,
    ) -> Outcome<Images> {
        // The decoders are other people's and their input is anybody's: a fault in one of them must
        // not end the work on all the other pictures.
        DECODING.set(true);
        let image = catch_unwind(AssertUnwindSafe(|| {
            let (pixels, held) = self.decode(reader)?;
            let image = make(&pixels, self);
            drop((pixels, held));
            Ok(image)
        }));
        DECODING.set(false);
        image.unwrap_or_else(|_| Err("the decoder failed (a fault in it)".into()))
    }

    fn decode<R: BufRead + Seek>(&self, reader: R) -> Outcome<(Pixels, Held)> {
        let reader = ImageReader::new(reader).with_guessed_format().map_err(|e| e.to_string())?;
        let format = reader.format();
        let reader = reader.into_inner();
        match format {
            Some(ImageFormat::Jpeg) => self.jpeg(reader),
            Some(
                format @ (ImageFormat::Png
                | ImageFormat::Bmp
                | ImageFormat::WebP
                | ImageFormat::Tiff),
            ) => self.other(format, reader),
            _ => Err(format!("its content is none of {}", EXTENSIONS.join(", "))),
        }
    }

    /// Decodes what is no JPEG.
    fn other<R: BufRead + Seek>(&self, format: ImageFormat, reader: R) -> Outcome<(Pixels, Held)> {
        // For what is told about a picture: its colour profile, texts, tables.
        const HEADERS: u64 = 16 << 20;
        // What the decoder of TIFF may hold while it opens a file, by a limit of its own that can
        // be set only afterwards.
        const TIFF_TAGS: u64 = 256 << 20;
        let reason = |e: image::ImageError| e.to_string();
        let limits = |bytes: u64| {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(bytes.saturating_add(HEADERS));
            limits
        };
        let mut reader = ImageReader::with_format(reader, format);
        reader.limits(limits(0));
        let opening = (format == ImageFormat::Tiff).then(|| BUDGET.hold(TIFF_TAGS));
        let mut decoder = reader.into_decoder().map_err(reason)?;
        drop(opening);
        let (width, height) = decoder.dimensions();
        self.check(width, height)?;
        let color = decoder.color_type();
        let (parts, deep) = match color {
            ColorType::L8 => (1, false),
            ColorType::La8 => (2, false),
            ColorType::Rgb8 => (3, false),
            ColorType::Rgba8 => (4, false),
            ColorType::L16 => (1, true),
            ColorType::La16 => (2, true),
            ColorType::Rgb16 => (3, true),
            ColorType::Rgba16 => (4, true),
            // Nobody says which numbers are black and white.
            _ => return Err(format!("its pixels are of type {color:?}, expected 8 or 16 bits")),
        };
        let size = decoder.total_bytes();
        // WebP and TIFF are decoded into memory of the decoder's own first.
        let held = BUDGET.hold(if matches!(format, ImageFormat::WebP | ImageFormat::Tiff) {
            2 * size
        } else {
            size
        });
        decoder.set_limits(limits(2 * size)).map_err(reason)?;
        // A broken note about the orientation is none.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut data = zeros(size)?;
        decoder.read_image(&mut data).map_err(reason)?;
        let pixels = Pixels {
            width: width as usize,
            height: height as usize,
            parts,
            deep,
            orientation,
            data,
        };
        Ok((pixels, held))
    }

    /// Decodes a JPEG with `jpeg-decoder`. `zune-jpeg`, which the image crate would take, makes
    /// garbage of files with a scan for each colour without a word (0.5.15; later ones still have
    /// faults there), and half a file is no error for it. Without the feature `rayon`: rayon's
    /// threads could take up another picture while they wait for a part of this one, and then wait
    /// for the memory that this one holds.
    fn jpeg<R: BufRead>(&self, reader: R) -> Outcome<(Pixels, Held)> {
        let reason = |e: jpeg_decoder::Error| match e {
            jpeg_decoder::Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                "the file is cut short".into()
            }
            e => e.to_string(),
        };
        // A scan can be a few bytes and makes the decoder go over all pixels.
        let scans_left = Cell::new(MAX_SCANS);
        let mut decoder = jpeg_decoder::Decoder::new(BufReader::new(Scans {
            reader,
            after_ff: false,
            left: &scans_left,
        }));
        decoder.read_info().map_err(reason)?;
        let info = decoder.info().ok_or("it has no frame header")?;
        self.check(info.width.into(), info.height.into())?;
        let n = usize::from(info.width) * usize::from(info.height);
        scans_left.set(scans_left.get().min(WORK * self.max_pixels / n as u64));
        let parts = match info.pixel_format {
            PixelFormat::L8 => 1,
            PixelFormat::RGB24 => 3,
            PixelFormat::CMYK32 => 4,
            PixelFormat::L16 => return Err("a JPEG of more than 8 bits".into()),
        };
        // Pixels, planes, and rows that wait for their transformation or all coefficients.
        let copies = if info.coding_process == CodingProcess::DctProgressive { 5 } else { 3 };
        let held = BUDGET.hold(copies * parts * n as u64);
        let mut data = decoder.decode().map_err(reason)?;
        if parts == 4 {
            for i in 0..n {
                let [c, m, y, k] = [0, 1, 2, 3].map(|part| 255 - u32::from(data[4 * i + part]));
                data[3 * i..][..3]
                    .copy_from_slice(&[c, m, y].map(|colour| ((colour * k + 127) / 255) as u8));
            }
        }
        let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
        let pixels = Pixels {
            width: info.width.into(),
            height: info.height.into(),
            parts: parts.min(3) as usize,
            deep: false,
            orientation: orientation.unwrap_or(Orientation::NoTransforms),
            data,
        };
        Ok((pixels, held))
    }

    /// Refuses what is too large, before anything is decoded.
    fn check(&self, width: u32, height: u32) -> Outcome<()> {
        let (pixels, longest) =
            (u64::from(width) * u64::from(height), u64::from(width.max(height)));
        let side = (self.max_pixels / 256).max(1 << 16);
        if pixels == 0 {
            return Err("it has no pixels".into());
        }
        if pixels > self.max_pixels || longest > side {
            return Err(format!(
                "{width} x {height} pixels are too many: the limit is {} pixels, and {side} on a \
                 side (--max-pixels N raises both; a pixel takes 3 \
                 to 20 bytes of memory)",
                self.max_pixels
            ));
        }
        Ok(())
    }
}

/// Height and width of a picture file as it is stored, if its beginning tells.
pub(super) fn size(path: &Path) -> Option<[usize; 2]> {
    let reader = ImageReader::new(open(path).ok()?).with_guessed_format().ok()?;
    // The decoder of TIFF reads all tags first, and others' faults are theirs.
    DECODING.set(true);
    let size = catch_unwind(AssertUnwindSafe(|| reader.into_dimensions().ok()));
    DECODING.set(false);
    let (width, height) = size.ok()??;
    Some([height as usize, width as usize])
}

/// The file, if it is one: pipes, sockets and devices are not opened.
fn open(path: &Path) -> Outcome<BufReader<File>> {
    let kind = path.metadata().map_err(|e| {
        match path.is_symlink() && e.kind() == io::ErrorKind::NotFound {
            true => "a link to nothing".to_string(),
            false => e.to_string(),
        }
    })?;
    if !kind.is_file() {
        return Err(if kind.is_dir() {
            "a folder"
        } else {
            "a pipe, socket or device, not a file"
        }
        .into());
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// Scans of a JPEG at most; the most elaborate encoders write about a hundred.
const MAX_SCANS: u64 = 500;
/// How often all pixels of the largest picture are gone over at most.
const WORK: u64 = 32;

/// Counts the scans of a JPEG while it is read: in coded data the start of a scan can't occur.
struct Scans<'a, R> {
    reader: R,
    after_ff: bool,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Scans<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        const START: u8 = 0xDA;
        let n = self.reader.read(buf)?;
        for &byte in &buf[..n] {
            if self.after_ff && byte == START {
                let left = self
                    .left
                    .get()
                    .checked_sub(1)
                    .ok_or_else(|| io::Error::other("a JPEG of too many scans"))?;
                self.left.set(left);
            }
            self.after_ff = byte == 0xFF;
        }
        Ok(n)
    }
}

/// A decoded picture.
struct Pixels {
    width: usize,
    height: usize,
    /// 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    parts: usize,
    /// 16 bits in the machine's order, else 8.
    deep: bool,
    /// How to turn it.
    orientation: Orientation,
    data: Vec<u8>,
}

impl Pixels {
    /// The picture as it should be seen, at its new size: [1, size, size, channels].
    fn reduce(&self, decode: &Decode) -> Images {
        let &Decode { channels, size, background, .. } = decode;
        let Frame { from, from_at, to, to_at } =
            decode.aspect.frame([self.height, self.width], size);
        // It is turned when it is small. Until then its sides are exchanged, and so is the order in
        // which they are reduced.
        let turned = self.is_turned();
        let seen = |[y, x]: [usize; 2]| if turned { [x, y] } else { [y, x] };
        let height_first = Plan::height_comes_first(seen(from), seen(to)) != turned;
        let plan = Plan::new(from, to, height_first);
        let [top, left] = from_at;
        let data =
            plan.apply(channels, |y, out| self.row((top + y, left), channels, background, out));
        let under = background.unwrap_or_default();
        let under = if channels == 1 { vec![luma(under.map(u32::from))] } else { under.to_vec() };
        let mut square = under.repeat(size * size);
        let [top, left] = to_at;
        for (y, row) in data.chunks_exact(to[1] * channels).enumerate() {
            square[((top + y) * size + left) * channels..][..row.len()].copy_from_slice(row);
        }
        self.seen([size, size], channels, square)
    }

    /// The picture as it should be seen, at its own size: [1, height, width, channels].
    fn whole(&self, decode: &Decode) -> Images {
        let &Decode { channels, background, .. } = decode;
        let mut data = vec![0; self.height * self.width * channels];
        for (y, row) in data.chunks_exact_mut(self.width * channels).enumerate() {
            self.row((y, 0), channels, background, row);
        }
        self.seen([self.height, self.width], channels, data)
    }

    /// Whether its sides are exchanged when it is seen.
    fn is_turned(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }

    /// Pixels [height, width, channels] in this picture's orientation, as they should be seen.
    fn seen(&self, [height, width]: [usize; 2], channels: usize, data: Vec<u8>) -> Images {
        let [rows, columns] = [height as u32, width as u32];
        let mut image = match channels {
            1 => DynamicImage::ImageLuma8(
                GrayImage::from_raw(columns, rows, data).expect("a byte a pixel"),
            ),
            _ => DynamicImage::ImageRgb8(
                RgbImage::from_raw(columns, rows, data).expect("three bytes a pixel"),
            ),
        };
        image.apply_orientation(self.orientation);
        let [height, width] = if self.is_turned() { [width, height] } else { [height, width] };
        Images { data: image.into_bytes(), n: 1, height, width, channels }
    }

    /// As much of row y from column x on as `out` [columns, channels] holds.
    fn row(
        &self,
        (y, x): (usize, usize),
        channels: usize,
        background: Option<[u8; 3]>,
        out: &mut [u8],
    ) {
        let row = (y * self.width + x) * self.parts;
        if self.parts == channels && !self.deep {
            return out.copy_from_slice(&self.data[row..][..out.len()]);
        }
        let level = |i: usize| match self.deep {
            true => {
                (u32::from(u16::from_ne_bytes([self.data[2 * i], self.data[2 * i + 1]])) + 128)
                    / 257
            }
            false => self.data[i].into(),
        };
        let gray = self.parts < 3;
        let background = background.filter(|_| self.parts == 2 || self.parts == 4);
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let pixel = row + x * self.parts;
            let mut colours =
                if gray { [level(pixel); 3] } else { [0, 1, 2].map(|part| level(pixel + part)) };
            if let Some(background) = background {
                let alpha = level(pixel + self.parts - 1);
                for (colour, under) in colours.iter_mut().zip(background) {
                    *colour = (*colour * alpha + u32::from(under) * (255 - alpha) + 127) / 255;
                }
            }
            match out {
                [out] => *out = luma(colours),
                out => out.copy_from_slice(&colours.map(|colour| colour as u8)),
            }
        }
    }
}

/// A colour from its name (`black`, `white`) or six hexadecimal digits.
///
/// # Errors
/// It is none of these.
pub fn colour(text: &str) -> Result<[u8; 3]> {
    let digits = match text {
        "black" => "000000",
        "white" => "ffffff",
        text => text.strip_prefix('#').unwrap_or(text),
    };
    let parse = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
    let hexadecimal = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let colour = hexadecimal.then(|| Some([parse(0)?, parse(2)?, parse(4)?])).flatten();
    colour.ok_or_else(|| {
        Error::Usage(format!(
            "{text:?}: expected black, white or six hexadecimal digits (red, green, blue)"
        ))
    })
}

/// A colour as text that [`colour`] reads.
pub fn hex([r, g, b]: [u8; 3]) -> String {
    format!("{r:02x}{g:02x}{b:02x}")
}

/// Pillow's mode L: the weights in 16-bit fixed point. The image crate weighs the colours
/// differently.
fn luma([r, g, b]: [u32; 3]) -> u8 {
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// So many zeros, or the error that there is no room for them.
fn zeros(size: u64) -> Outcome<Vec<u8>> {
    let no_room = |_| format!("no memory for its {size} bytes");
    let mut data = Vec::new();
    let size = usize::try_from(size)
        .map_err(|_| "it is larger than the memory of this machine can be".to_string())?;
    data.try_reserve_exact(size).map_err(no_room)?;
    data.resize(size, 0);
    Ok(data)
}

/// The memory that pictures are decoded in, over all threads.
static BUDGET: Budget = Budget { used: Mutex::new(0), freed: Condvar::new() };

struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
}

/// A part of the budget, until it is dropped.
struct Held(u64);

impl Budget {
    const BYTES: u64 = 1 << 30;

    /// Waits until so many bytes are free, or nothing else is held.
    fn hold(&self, bytes: u64) -> Held {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > Self::BYTES;
        *self.freed.wait_while(used, full).unwrap_or_else(PoisonError::into_inner) += bytes;
        Held(bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *BUDGET.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        BUDGET.freed.notify_all();
    }
}
