//! Picture files of a user's own: which are found, what is left out and said, and that the pixels
//! are those of the picture, in bounded memory.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use gradcon::data::Images;
use gradcon::data::folder::{Decode, LeftOut, Tally, Walk, Why, find_images};
use gradcon::data::picture;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What a walk finds and leaves out, as paths below its root.
fn walk(root: &Path) -> (Vec<String>, Vec<(String, Why)>) {
    let below = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    let (mut found, mut left_out) = (vec![], vec![]);
    for entry in Walk::new(root).unwrap() {
        match entry {
            Ok(path) => found.push(below(&path)),
            Err(LeftOut { path, why }) => left_out.push((below(&path), why)),
        }
    }
    (found, left_out)
}

#[test]
fn pictures_are_found_in_order_and_everything_else_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(".hidden root");
    for name in [
        "b.PNG",
        "a.jpg",
        "a/z.JPeG",
        "a.b/c.webp",
        "c.tif",
        "c.tiff",
        "d.bmp",
        "folder.png/in.png",
        "日本.jpg", // found
        "._a.jpg",
        ".ipynb_checkpoints/a.jpg",
        ".DS_Store",
        "Thumbs.db",
        "a/desktop.ini",
        "@eaDir/a.jpg/thumb.jpg", // quiet
        "notes.txt",
        "a/no ending",
        "x.gif",
        "x.HEIC", // named
    ] {
        write(&root.join(name), b"x");
    }
    let (found, left_out) = walk(&root);
    assert_eq!(
        found,
        [
            "a/z.JPeG",
            "a.b/c.webp",
            "a.jpg",
            "b.PNG",
            "c.tif",
            "c.tiff",
            "d.bmp",
            "folder.png/in.png",
            "日本.jpg"
        ]
    );
    let sorted: Vec<PathBuf> = {
        let mut paths: Vec<_> = found.iter().map(PathBuf::from).collect();
        paths.sort();
        paths
    };
    assert_eq!(found.iter().map(PathBuf::from).collect::<Vec<_>>(), sorted, "the order of paths");
    let name = |name: &str, why| (name.to_string(), why);
    assert_eq!(
        left_out,
        [
            name("a/no ending", Why::NoPicture),
            name("notes.txt", Why::NoPicture),
            name("x.HEIC", Why::Unread),
            name("x.gif", Why::Unread)
        ]
    );
    let mut tally = Tally::default();
    assert_eq!(find_images(&root, &mut tally).unwrap().len(), 9);
    let (warning, note) = (tally.warning().unwrap(), tally.note().unwrap());
    assert!(
        warning.contains("left out: 2") && warning.contains("x.gif: a picture of a kind"),
        "{warning}"
    );
    assert!(note.contains("left out: 2") && note.contains("notes.txt"), "{note}");
    for i in 0..7 {
        tally.add(&LeftOut { path: format!("{i}.gif").into(), why: Why::Unread });
    }
    let warning = tally.warning().unwrap();
    assert!(warning.contains("left out: 9") && warning.ends_with("and 4 more"), "{warning}");
    assert!(Tally::default().warning().is_none() && Tally::default().note().is_none());
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_and_named_where_they_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (root, far) = (dir.path().join("root"), dir.path().join("far"));
    for file in ["root/real/a.png", "root/.store/s.png", "far/x.png", "far/deep/y.png"] {
        write(&dir.path().join(file), b"x");
    }
    symlink("real", root.join("again")).unwrap(); // read at its own place
    symlink("..", root.join("real/up")).unwrap(); // a circle
    symlink(".store", root.join("stored")).unwrap(); // the only way there
    symlink(&far, root.join("far")).unwrap();
    symlink(far.join("deep"), root.join("a deep")).unwrap(); // comes first, so `far` leaves it out
    symlink(&root, far.join("back")).unwrap();
    symlink("real/a.png", root.join("link.png")).unwrap();
    symlink("gone.png", root.join("gone.png")).unwrap();
    symlink("unmounted", root.join("more")).unwrap();
    let (found, left_out) = walk(&root);
    assert_eq!(found, ["a deep/y.png", "far/x.png", "link.png", "real/a.png", "stored/s.png"]);
    let name = |name: &str, why| (name.to_string(), why);
    assert_eq!(left_out[1..], [name("more", Why::Dangling)]);
    // A link to itself is not a link to nothing for every system.
    assert_eq!(left_out[0].0, "gone.png");
    assert!(matches!(left_out[0].1, Why::Dangling | Why::Unreadable(_)));
}

#[cfg(unix)]
#[test]
fn pipes_and_sockets_are_named_and_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.png"), b"x");
    let pipe = dir.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.jpg")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.png")).unwrap();
    let (found, left_out) = walk(dir.path());
    assert_eq!(found, ["a.png"]);
    let names: Vec<_> =
        left_out.iter().map(|(name, why)| (name.as_str(), why == &Why::NoFile)).collect();
    assert_eq!(names, [("pipe.png", true), ("socket.jpg", true), ("zero.png", true)]);
}

#[test]
fn a_folder_that_cannot_be_walked_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("file"), b"x");
    for name in ["file", "absent"] {
        let error = Walk::new(&dir.path().join(name)).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

// ---- Decoding

fn gray(bytes: &[u8]) -> Result<Images, String> {
    Decode::new(1, Decode::MAX_PIXELS).unwrap().bytes(bytes)
}

fn rgb(bytes: &[u8]) -> Result<Images, String> {
    Decode::new(3, Decode::MAX_PIXELS).unwrap().bytes(bytes)
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn photo() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/images/photo.jpeg"))
        .unwrap()
}

#[track_caller]
fn assert_same(what: &str, found: &Images, expected: &Images, tolerance: u8) {
    assert_eq!((found.height, found.width, found.channels), (28, 28, expected.channels), "{what}");
    let difference = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(difference <= Some(tolerance), "{what}: {difference:?} levels");
    let (low, high) = (expected.data.iter().min().unwrap(), expected.data.iter().max().unwrap());
    assert!(high - low > 50, "{what}: a picture that could be taken for another one");
}

/// A JPEG of blocks of one colour each, 4:2:0, in one of several ways that mean the same picture.
struct Blocks {
    width: u16,
    height: u16,
    progressive: bool,
    /// MCUs between restart markers; 0 for none.
    restart: u16,
    scans: Vec<Scan>,
}

struct Scan {
    components: Vec<usize>,
    /// The bits of successive approximation, high and low.
    approximation: (u8, u8),
}

impl Blocks {
    /// The level of a block, less 128: any, but the same in every encoding.
    fn level(component: usize, y: u16, x: u16) -> i32 {
        i32::from((u32::from(y) * 97 + u32::from(x) * 61 + component as u32 * 41) as u8) * 3 / 4
            - 96
    }

    fn encode(&self) -> Vec<u8> {
        let segment = |marker: u8, data: &[u8]| {
            [&[0xFF, marker], &(data.len() as u16 + 2).to_be_bytes()[..], data].concat()
        };
        let [h, w] = [self.height, self.width].map(u16::to_be_bytes);
        let mut bytes = vec![0xFF, 0xD8];
        // All steps are 8, so that the first coefficient is the level.
        bytes.extend(segment(0xDB, &[&[0][..], &[8; 64]].concat()));
        let frame = [8, h[0], h[1], w[0], w[1], 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0];
        bytes.extend(segment(if self.progressive { 0xC2 } else { 0xC0 }, &frame));
        // DC: twelve categories of four bits; AC: the end of the block, one bit.
        let dc: Vec<u8> =
            [&[0x00][..], &[0, 0, 0, 12], &[0; 12], &(0..12).collect::<Vec<u8>>()].concat();
        bytes.extend(segment(0xC4, &dc));
        bytes.extend(segment(0xC4, &[&[0x10, 1][..], &[0; 15], &[0]].concat()));
        bytes.extend(segment(0xDD, &self.restart.to_be_bytes()));
        for scan in &self.scans {
            let mut header = vec![scan.components.len() as u8];
            scan.components.iter().for_each(|&c| header.extend([c as u8 + 1, 0]));
            let (high, low) = scan.approximation;
            header.extend([0, if self.progressive { 0 } else { 63 }, high << 4 | low]);
            bytes.extend(segment(0xDA, &header));
            self.scan(scan, &mut bytes);
        }
        bytes.extend([0xFF, 0xD9]);
        bytes
    }

    fn scan(&self, scan: &Scan, bytes: &mut Vec<u8>) {
        let (high, low) = scan.approximation;
        let [across, down] = [self.width, self.height].map(|n| n.div_ceil(16));
        // Each MCU is a list of blocks: component, row, column.
        let mut mcus: Vec<Vec<(usize, u16, u16)>> = vec![];
        if let [component] = scan.components[..] {
            let size = if component == 0 { 8 } else { 16 };
            for y in 0..self.height.div_ceil(size) {
                (0..self.width.div_ceil(size)).for_each(|x| mcus.push(vec![(component, y, x)]));
            }
        } else {
            for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                let luma =
                    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| (0, 2 * y + dy, 2 * x + dx));
                mcus.push([&luma[..], &[(1, y, x), (2, y, x)]].concat());
            }
        }
        let (mut bits, mut last) = (Bits::default(), [0; 3]);
        for (i, mcu) in mcus.iter().enumerate() {
            if self.restart > 0 && i > 0 && i % usize::from(self.restart) == 0 {
                bits.end(bytes);
                bytes.extend([0xFF, 0xD0 + ((i / usize::from(self.restart) - 1) % 8) as u8]);
                last = [0; 3];
            }
            for &(component, y, x) in mcu {
                let level = Self::level(component, y, x);
                if high > 0 {
                    bits.put((level >> low & 1) as u32, 1, bytes);
                    continue;
                }
                let difference = (level >> low) - last[component];
                last[component] = level >> low;
                let category = 32 - difference.unsigned_abs().leading_zeros();
                bits.put(category, 4, bytes);
                let value = if difference < 0 { difference - 1 } else { difference } as u32;
                bits.put(value & ((1 << category) - 1), category, bytes);
                if !self.progressive {
                    bits.put(0, 1, bytes);
                }
            }
        }
        bits.end(bytes);
    }
}

#[derive(Default)]
struct Bits {
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32, bytes: &mut Vec<u8>) {
        for i in (0..count).rev() {
            self.held = self.held << 1 | (value >> i & 1);
            self.count += 1;
            if self.count == 8 {
                bytes.push(self.held as u8);
                if self.held as u8 == 0xFF {
                    bytes.push(0);
                }
                (self.held, self.count) = (0, 0);
            }
        }
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        while self.count > 0 {
            self.put(1, 1, bytes);
        }
    }
}

fn one_scan() -> Vec<Scan> {
    vec![Scan { components: vec![0, 1, 2], approximation: (0, 0) }]
}

/// A decoder that makes garbage of one of them does so without an error.
#[test]
fn a_jpeg_is_the_same_picture_however_it_is_stored() {
    for (width, height) in [(64, 64), (40, 24), (41, 57), (120, 8)] {
        let base = Blocks { width, height, progressive: false, restart: 0, scans: one_scan() };
        let expected = rgb(&base.encode()).unwrap();
        let apart = || {
            (0..3).map(|c| Scan { components: vec![c], approximation: (0, 0) }).collect::<Vec<_>>()
        };
        let refined = || {
            [(0, 1), (1, 0)]
                .map(|approximation| Scan { components: vec![0, 1, 2], approximation })
                .into()
        };
        for (what, progressive, restart, scans) in [
            ("a scan for each colour", false, 0, apart()),
            ("a scan for each colour, restarts", false, 3, apart()),
            ("restarts", false, 1, one_scan()),
            ("progressive", true, 0, one_scan()),
            ("progressive, refined", true, 0, refined()),
            ("progressive, refined, restarts", true, 2, refined()),
            ("progressive, a scan for each colour", true, 0, apart()),
        ] {
            let found = rgb(&Blocks { progressive, restart, scans, ..base }.encode()).expect(what);
            assert_same(&format!("{what}, {width} x {height}"), &found, &expected, 0);
        }
    }
    // The picture itself: Y 32, Cb 62 and Cr 93 in its corner are dark green, no red and no blue.
    let image =
        rgb(&Blocks { width: 64, height: 64, progressive: false, restart: 0, scans: one_scan() }
            .encode())
        .unwrap();
    assert_eq!([0, 1, 2].map(|c| Blocks::level(c, 0, 0) + 128), [32, 62, 93]);
    assert!(
        image.data[0] < 6 && image.data[1].abs_diff(80) < 6 && image.data[2] < 6,
        "{:?}",
        &image.data[..3]
    );
}

#[test]
fn a_jpeg_that_was_cut_is_an_error() {
    let whole = photo();
    rgb(&whole).unwrap();
    for n in (4..whole.len()).step_by(7).chain([whole.len() - 2, whole.len() - 1]) {
        let error = rgb(&whole[..n]).expect_err(&format!("{n} of {} bytes", whole.len()));
        assert!(error.contains("cut short"), "{n}: {error}");
    }
    // What cameras write behind the picture does no harm.
    let followed = [&whole[..], &[0; 500]].concat();
    assert_eq!(rgb(&followed).unwrap().data, rgb(&whole).unwrap().data);
    // Other kinds.
    let image = RgbImage::from_fn(50, 40, |x, y| Rgb([x as u8 * 5, y as u8 * 6, (x * y) as u8]));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff] {
        let whole = encode(image.clone(), format);
        rgb(&whole).unwrap();
        for part in [2, 3, 5, 9] {
            // The TIFF encoder puts the directory last; and the last bytes of a PNG say nothing
            // about pixels.
            rgb(&whole[..whole.len() * (part - 1) / part])
                .expect_err(&format!("{format:?}, {part}"));
        }
    }
}

#[test]
fn every_kind_gives_the_same_pixels() {
    let image = RgbImage::from_fn(90, 40, |x, y| Rgb([x as u8 * 2, y as u8 * 6, (x ^ y) as u8]));
    let expected = rgb(&encode(image.clone(), ImageFormat::Png)).unwrap();
    let deep = image::ImageBuffer::<Rgb<u16>, _>::from_fn(90, 40, |x, y| {
        Rgb(image.get_pixel(x, y).0.map(|level| u16::from(level) * 257))
    });
    for (format, deep_too) in [
        (ImageFormat::Png, true),
        (ImageFormat::Bmp, false),
        (ImageFormat::WebP, false),
        (ImageFormat::Tiff, true),
    ] {
        assert_same(
            &format!("{format:?}"),
            &rgb(&encode(image.clone(), format)).unwrap(),
            &expected,
            0,
        );
        if deep_too {
            assert_same(
                &format!("{format:?}, 16 bits"),
                &rgb(&encode(deep.clone(), format)).unwrap(),
                &expected,
                0,
            );
        }
    }
    let float = image::Rgb32FImage::from_pixel(9, 9, Rgb([0.5; 3]));
    let error = rgb(&encode(float, ImageFormat::Tiff)).unwrap_err();
    assert!(error.contains("8 or 16 bits"), "{error}");
    assert!(rgb(b"GIF89a..........").unwrap_err().contains("png, jpg"), "{error}");
    assert!(rgb(b"").is_err());
}

/// A directory of one entry: the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat()
}

fn png_with(png: &[u8], name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&[&name[..], data].concat());
    let chunk =
        [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat();
    // Behind the header.
    [&png[..33], &chunk, &png[33..]].concat()
}

fn webp_with(webp: &[u8], width: u32, height: u32, exif: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8], data: &[u8]| {
        [name, &(data.len() as u32).to_le_bytes(), data, &[0][..data.len() % 2]].concat()
    };
    let size = |n: u32| (n - 1).to_le_bytes()[..3].to_vec();
    let header = [&[8, 0, 0, 0][..], &size(width), &size(height)].concat();
    let content =
        [b"WEBP".to_vec(), chunk(b"VP8X", &header), webp[12..].to_vec(), chunk(b"EXIF", exif)]
            .concat();
    chunk(b"RIFF", &content)
}

fn tiff(image: &GrayImage, orientation: u8) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let tags: [(u16, u32); 10] = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 10 * 12 + 4),
        (274, orientation.into()),
        (277, 1),
        (278, height),
        (279, width * height),
    ];
    let mut bytes = [&b"II*\0\x08\0\0\0"[..], &10u16.to_le_bytes()].concat();
    for (tag, value) in tags {
        let kind: u16 = if tag == 274 { 3 } else { 4 };
        bytes.extend(
            [
                &tag.to_le_bytes()[..],
                &kind.to_le_bytes(),
                &1u32.to_le_bytes(),
                &value.to_le_bytes(),
            ]
            .concat(),
        );
    }
    bytes.extend([0; 4]);
    bytes.extend(image.as_raw());
    bytes
}

#[test]
fn pictures_are_turned_as_they_say() {
    // Taller than wide, so that turning it changes the order in which its sides are reduced.
    let stored = GrayImage::from_fn(40, 90, |x, y| {
        Luma([(x * 4 + y) as u8 ^ (if x < 9 && y < 30 { 128 } else { 0 })])
    });
    let (w, h) = stored.dimensions();
    let upright = |orientation: u8| {
        let size = if orientation < 5 { (w, h) } else { (h, w) };
        GrayImage::from_fn(size.0, size.1, |x, y| {
            let (row, column) = match orientation {
                1 => (y, x),
                2 => (y, w - 1 - x),
                3 => (h - 1 - y, w - 1 - x),
                4 => (h - 1 - y, x),
                5 => (x, y),
                6 => (h - 1 - x, y),
                7 => (h - 1 - x, w - 1 - y),
                _ => (x, w - 1 - y),
            };
            *stored.get_pixel(column, row)
        })
    };
    let png = encode(stored.clone(), ImageFormat::Png);
    let webp = encode(DynamicImage::from(stored.clone()).into_rgb8(), ImageFormat::WebP);
    for orientation in 1..=8 {
        let expected = gray(&encode(upright(orientation), ImageFormat::Png)).unwrap();
        for (what, bytes) in [
            ("PNG", png_with(&png, b"eXIf", &exif(orientation))),
            ("WebP", webp_with(&webp, w, h, &exif(orientation))),
            ("TIFF", tiff(&stored, orientation)),
        ] {
            let found = gray(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_same(&format!("{what}, {orientation}"), &found, &expected, 1);
        }
    }
    assert_same(
        "a broken note is none",
        &gray(&png_with(&png, b"eXIf", b"II*")).unwrap(),
        &gray(&png).unwrap(),
        0,
    );

    // JPEG: half a turn of the small picture is the small picture of half a turn.
    let photo = photo();
    let segment = [b"Exif\0\0".to_vec(), exif(3)].concat();
    let app1 = [&[0xFF, 0xE1][..], &(segment.len() as u16 + 2).to_be_bytes(), &segment].concat();
    let turned = rgb(&[&photo[..2], &app1, &photo[2..]].concat()).unwrap();
    let mut expected = rgb(&photo).unwrap();
    let pixels: Vec<u8> = expected.data.chunks(3).rev().flatten().copied().collect();
    expected.data = pixels;
    assert_same("JPEG", &turned, &expected, 1);
}

#[test]
fn transparency_is_dropped_or_composed_onto_a_background() {
    let rgba = image::RgbaImage::from_fn(28, 28, |x, y| Rgba([200, 100, y as u8, (x * 9) as u8]));
    let la = image::GrayAlphaImage::from_fn(28, 28, |x, _| LumaA([200, (x * 9) as u8]));
    let deep = image::ImageBuffer::<Rgba<u16>, _>::from_fn(28, 28, |x, y| {
        Rgba(rgba.get_pixel(x, y).0.map(|level| u16::from(level) * 257))
    });
    let key = png_with(
        &encode(GrayImage::from_fn(28, 28, |x, _| Luma([x as u8])), ImageFormat::Png),
        b"tRNS",
        &[0, 9],
    );
    let [rgba, la, deep] = [
        encode(rgba, ImageFormat::Png),
        encode(la, ImageFormat::Png),
        encode(DynamicImage::ImageRgba16(deep), ImageFormat::Png),
    ];
    let at = |bytes: &[u8], background: Option<&str>, x: usize, y: usize| {
        let decode =
            Decode::new(3, 1000).unwrap().on(background.map(|text| picture::colour(text).unwrap()));
        let image = decode.bytes(bytes).unwrap();
        let pixel = &image.data[(y * 28 + x) * 3..][..3];
        [pixel[0], pixel[1], pixel[2]]
    };
    for bytes in [&rgba, &deep] {
        for x in [0, 13, 27] {
            assert_eq!(at(bytes, None, x, 5), [200, 100, 5], "the stored colours");
        }
        assert_eq!(at(bytes, Some("white"), 0, 5), [255, 255, 255]);
        assert_eq!(at(bytes, Some("#0a141e"), 0, 5), [10, 20, 30]);
        // alpha 117: (200 * 117 + 255 * 138) / 255 and so on.
        assert_eq!(at(bytes, Some("white"), 13, 5), [230, 184, 140]);
        assert_eq!(at(bytes, Some("black"), 13, 5), [92, 46, 2]);
    }
    assert_eq!(
        (at(&la, None, 0, 0), at(&la, Some("white"), 0, 0), at(&la, Some("black"), 13, 0)),
        ([200; 3], [255; 3], [92; 3])
    );
    assert_eq!(
        (at(&key, None, 9, 0), at(&key, Some("white"), 9, 0), at(&key, Some("white"), 8, 0)),
        ([9; 3], [255; 3], [8; 3])
    );
    // A gray picture on a colour is coloured, and gray again as Pillow weighs it.
    assert_eq!(at(&la, Some("ff0000"), 0, 0), [255, 0, 0]);
    let on_red = Decode::new(1, 1000).unwrap().on(Some([255, 0, 0])).bytes(&la).unwrap();
    assert_eq!(on_red.data[0], 76);
    for wrong in ["", "whitish", "12345", "1234567", "#12345g", "+12345", "äöü"] {
        assert_eq!(picture::colour(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
    assert_eq!(picture::hex(picture::colour("#0A141e").unwrap()), "0a141e");
}

// ---- Bounds

/// The start of a picture of any size, as far as decoders look before they know it.
fn starts(width: u32, height: u32) -> Vec<(&'static str, Vec<u8>)> {
    let mut png = encode(GrayImage::new(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let mut bmp = encode(RgbImage::new(1, 1), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&width.to_le_bytes());
    bmp[22..26].copy_from_slice(&height.to_le_bytes());
    let mut all = vec![("PNG", png), ("BMP", bmp)];
    let mut tiff = tiff(&GrayImage::new(1, 1), 1);
    tiff[18..22].copy_from_slice(&width.to_le_bytes());
    tiff[30..34].copy_from_slice(&height.to_le_bytes());
    // All in one strip.
    tiff[114..118].copy_from_slice(&height.to_le_bytes());
    tiff[126..130].copy_from_slice(&(width * height).to_le_bytes());
    all.push(("TIFF", tiff));
    if let (Ok(width), Ok(height)) = (width.try_into(), height.try_into()) {
        all.push((
            "JPEG",
            Blocks { width, height, progressive: true, restart: 0, scans: vec![] }.encode(),
        ));
    }
    all
}

#[test]
fn too_many_pixels_are_refused_before_they_are_decoded() {
    for (width, height) in [(22_000, 22_000), (65_000, 65_000), (1, 60_000_000), (2_000_000, 1)] {
        for (what, bytes) in starts(width, height) {
            let error = gray(&bytes).unwrap_err();
            if what == "BMP" && width.max(height) > 0xFFFF {
                assert!(error.contains("too large"), "{error}"); // a limit of the decoder's own
                continue;
            }
            for part in [&format!("{width} x {height}"), "268435456", "--max-pixels"] {
                assert!(error.contains(part), "{what}: {error}");
            }
        }
    }
    for (what, bytes) in starts(0, 7).into_iter().chain(starts(7, 0)) {
        assert!(gray(&bytes).is_err(), "{what}");
    }
    // The limit itself.
    let image = encode(GrayImage::new(40, 50), ImageFormat::Png);
    assert!(Decode::new(1, 2000).unwrap().bytes(&image).is_ok());
    assert!(Decode::new(1, 1999).unwrap().bytes(&image).is_err());
}

/// Long and thin: the weights of a resize grow with the longest side.
#[test]
fn long_thin_pictures_are_read_up_to_a_limit_that_can_be_raised() {
    for (width, height) in [(1, 1 << 20), (1 << 20, 1)] {
        let image = encode(
            GrayImage::from_fn(width, height, |x, y| Luma([((x + y) >> 12) as u8])),
            ImageFormat::Png,
        );
        let small = gray(&image).unwrap();
        assert_eq!(small.data.len(), 784);
        let (first, last) = (small.data[0], small.data[783]);
        assert!(first < 20 && last > 235, "{first} {last}");
    }
    let longer = encode(GrayImage::from_pixel(1, (1 << 20) + 1, Luma([7])), ImageFormat::Png);
    assert!(gray(&longer).unwrap_err().contains("1048576 on a side"));
    assert_eq!(Decode::new(1, 1 << 30).unwrap().bytes(&longer).unwrap().data, [7; 784]);
}

#[test]
fn a_jpeg_has_a_limit_of_scans() {
    let with = |n: usize| {
        let mut scans = vec![Scan { components: vec![0, 1, 2], approximation: (0, 1) }];
        scans.extend((0..n).map(|_| Scan { components: vec![0, 1, 2], approximation: (1, 0) }));
        Blocks { width: 64, height: 64, progressive: true, restart: 0, scans }.encode()
    };
    rgb(&with(100)).unwrap();
    let error = rgb(&with(600)).unwrap_err();
    assert!(error.contains("too many scans"), "{error}");
}

/// Whatever is in a file, it is a picture or an error that says why, and no decoder falls over.
#[test]
fn mutated_pictures_are_pictures_or_errors() {
    let image = RgbImage::from_fn(40, 30, |x, y| Rgb([x as u8 * 5, y as u8 * 6, (x * y) as u8]));
    let gray = DynamicImage::from(image.clone()).into_luma8();
    let mut seeds: Vec<_> =
        [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff]
            .map(|format| (format!("{format:?}"), encode(image.clone(), format)))
            .into();
    let blocks = |progressive, scans| {
        Blocks { width: 40, height: 24, progressive, restart: 2, scans }.encode()
    };
    seeds.push(("photo".into(), photo()));
    seeds.push(("JPEG".into(), blocks(false, one_scan())));
    seeds.push(("progressive".into(), blocks(true, one_scan())));
    seeds.push(("turned TIFF".into(), tiff(&gray, 6)));
    let decode = Decode::new(3, 1 << 16).unwrap();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (what, seed) in &seeds {
        let mut read = 0;
        for round in 0..300 {
            let mut bytes = seed.clone();
            for _ in 0..=random(4) {
                // Headers are worth more attention than pixels.
                let at =
                    if random(2) == 0 { random(bytes.len().min(64)) } else { random(bytes.len()) };
                match random(4) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random(5)],
                    2 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.splice(at..at, [random(256) as u8])),
                }
            }
            match decode.bytes(&bytes) {
                Ok(image) => {
                    assert_eq!(image.data.len(), 28 * 28 * 3);
                    read += 1;
                }
                Err(e) => assert!(!e.contains("a fault in it"), "{what}, round {round}: {e}"),
            }
        }
        assert!(read < 300, "{what}: nothing was noticed");
    }
}

#[test]
fn only_gray_and_rgb_are_read_from_pictures() {
    for channels in [0, 2, 4, 5, 7] {
        let error = Decode::new(channels, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("not with {channels}")), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.png")).status().unwrap().success());
    std::os::unix::fs::symlink("gone", at("link.png")).unwrap();
    let decode = Decode::new(1, Decode::MAX_PIXELS).unwrap();
    for (path, part) in [
        (at("pipe.png"), "pipe"),
        ("/dev/zero".into(), "device"),
        (at(""), "a folder"),
        (at("link.png"), "a link to nothing"),
    ] {
        let error = decode.file(&path).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
