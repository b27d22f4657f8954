//! Event files, against TensorBoard's own.

use std::path::Path;

use gradcon::Images;
use gradcon::report::tensorboard::*;

/// The record that TensorBoard's own writer makes of wall_time 1.5, step 300, scalar "loss" =
/// 0.25.
const LOSS: &str =
    "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The events of a file, every length and CRC checked, the wall time (the first nine bytes)
/// checked and cut off.
fn events(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut out) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        assert_eq!(&rest[..16 + length], record(data), "framing of event {}", out.len());
        assert_eq!(data[0], 0x09);
        let time = f64::from_le_bytes(data[1..9].try_into().unwrap());
        assert!((1.7e9..1e10).contains(&time), "wall time {time}");
        out.push(data[9..].to_vec());
        rest = &rest[16 + length..];
    }
    out
}

#[test]
fn the_crc_is_masked_crc32c() {
    // CRC-32C's check value is 0xe3069283 (RFC 3720): rotated right by 15 it is 0x2507c60d,
    // plus 0xa282ead8.
    assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    assert_eq!(0xe306_9283_u32.rotate_right(15), 0x2507_c60d);
}

#[test]
fn records_equal_tensorboards_own() {
    let bytes: Vec<u8> = (0..LOSS.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&LOSS[i..i + 2], 16).unwrap())
        .collect();
    let data = &bytes[12..bytes.len() - 4];
    assert_eq!(hex(&record(data)), LOSS);

    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(&folder.path().join("new")).unwrap();
    writer.scalars(300, &[("loss", 0.25)]).unwrap();
    let events = events(writer.path());
    assert_eq!(events.len(), 2);
    assert_eq!(
        hex(&events[0]),
        format!("1000{}", "1a0d627261696e2e4576656e743a32"),
        "step 0, brain.Event:2"
    );
    assert_eq!(hex(&events[1]), hex(&data[9..]));
}

#[test]
fn several_scalars_share_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    writer.scalars(1, &[("a", 1.0), ("b", -2.0)]).unwrap();
    let want = "10012a140a080a0161150000803f0a080a016215000000c0";
    assert_eq!(hex(&events(writer.path())[1]), want);
}

#[test]
fn pictures_carry_size_and_png() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    let picture = Images::new((0..18).collect(), [1, 2, 3, 3]).unwrap();
    writer.image(5, "t", &picture).unwrap();
    let event = &events(writer.path())[1];
    let start = event.windows(8).position(|w| w == b"\x89PNG\r\n\x1a\n").unwrap();
    let png = &event[start..];
    assert!(png.len() < 128, "one byte lengths below hold up to 127");
    // step 5; summary { value { tag "t", image { height 2, width 3, colorspace 3, png } } }
    let n = png.len() as u8;
    let head = [
        0x10,
        5,
        0x2a,
        n + 15,
        0x0a,
        n + 13,
        0x0a,
        1,
        b't',
        0x22,
        n + 8,
        0x08,
        2,
        0x10,
        3,
        0x18,
        3,
        0x22,
        n,
    ];
    assert_eq!(&event[..start], head);
    assert_eq!(image::load_from_memory(png).unwrap().to_rgb8().into_raw(), picture.data);
}

#[test]
fn a_resumed_run_is_a_later_file_that_purges() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventWriter::create(folder.path()).unwrap();
    let second = EventWriter::resume(folder.path(), 300).unwrap();
    let third = EventWriter::resume(folder.path(), 301).unwrap();
    let names: Vec<_> =
        [&first, &second, &third].iter().map(|w| w.path().file_name().unwrap()).collect();
    assert!(
        names[0] < names[1] && names[1] < names[2],
        "TensorBoard reads in name order: {names:?}"
    );
    let parts: Vec<&str> = names[0].to_str().unwrap().split('.').collect();
    assert_eq!(parts[..3], ["events", "out", "tfevents"]);
    assert_eq!(parts[3].len(), 10);
    assert_eq!(parts[parts.len() - 2], std::process::id().to_string());
    std::fs::write(folder.path().join("events.out.tfevents.4000000000.other.1.0"), "").unwrap();
    let late = EventWriter::resume(folder.path(), 302).unwrap();
    let late = late.path().file_name().unwrap().to_str().unwrap();
    assert!(
        late.starts_with("events.out.tfevents.4000000001."),
        "behind a clock that was set back: {late}"
    );
    // step 300 = ac 02; session_log { status START }
    assert_eq!(hex(&events(second.path())[1]), "10ac023a020801");
    assert_eq!(events(first.path()).len(), 1);
}
