//! TensorBoard event files, written by hand: a TFRecord per event, an event in protobuf.
//!
//! Record (`tensorflow/core/lib/io/record_writer.h`): length u64, masked CRC of the length u32,
//! data, masked CRC of the data u32; little endian. The CRC is CRC-32C, masked as
//! `rotate_right(crc, 15) + 0xa282ead8`.
//!
//! Event (`tensorflow/core/util/event.proto`): wall_time double = 1, step int64 = 2, file_version
//! string = 3, summary = 5, session_log = 7. Summary (`framework/summary.proto`): value = 1 of tag
//! string = 1, simple_value float = 2, image = 4 of height = 1, width = 2, colorspace = 3,
//! encoded_image_string bytes = 4.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::files::Growing;
use crate::images::Images;
use crate::sheet::png;

/// Writers opened by this process, the last part of a file's name.
static WRITERS: AtomicU64 = AtomicU64::new(0);

/// Appends events to a new event file; each event is on its way to the disk when its call returns.
pub struct EventWriter {
    file: Growing,
}

impl EventWriter {
    /// Starts a run's first event file in `folder`, which is made where missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(folder: &Path) -> Result<EventWriter> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let secs = seconds()?.max(newest(folder)? + 1);
        // TensorBoard reads the files of a folder in the order of their names.
        let host =
            std::env::var("HOSTNAME").ok().filter(|h| !h.is_empty() && !h.contains(['/', '\\']));
        let host = host.as_deref().unwrap_or("localhost");
        let (pid, n) = (std::process::id(), WRITERS.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(format!("events.out.tfevents.{secs:010}.{host}.{pid}.{n}"));
        let mut writer = EventWriter { file: Growing::create(&path)? };
        writer.event(0, |event| bytes_field(event, 3, b"brain.Event:2"))?;
        Ok(writer)
    }

    /// Continues a run in a new event file; TensorBoard then hides what earlier files hold at
    /// `start_step` and later.
    ///
    /// # Errors
    /// The file system's.
    pub fn resume(folder: &Path, start_step: u64) -> Result<EventWriter> {
        let mut writer = EventWriter::create(folder)?;
        // SessionLog.status = START
        let mut session_log = Vec::new();
        varint_field(&mut session_log, 1, 1);
        writer.event(start_step, |event| bytes_field(event, 7, &session_log))?;
        Ok(writer)
    }

    /// The file written to.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, for whoever flushes it to the disk.
    pub fn file(&self) -> &Growing {
        &self.file
    }

    /// Writes named numbers of one step.
    ///
    /// # Errors
    /// The file system's.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            key(&mut entry, 2, 5);
            entry.extend(value.to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        self.event(step, |event| bytes_field(event, 5, &summary))
    }

    /// Writes a picture [1, h, w, c] of one step.
    ///
    /// # Errors
    /// As [`png`]; the file system's.
    pub fn image(&mut self, step: u64, tag: &str, picture: &Images) -> Result<()> {
        let mut image = Vec::new();
        varint_field(&mut image, 1, picture.height as u64);
        varint_field(&mut image, 2, picture.width as u64);
        varint_field(&mut image, 3, picture.channels as u64); // colorspace: 1 gray, 3 RGB
        bytes_field(&mut image, 4, &png(picture, 0)?);
        let (mut entry, mut summary) = (Vec::new(), Vec::new());
        bytes_field(&mut entry, 1, tag.as_bytes());
        bytes_field(&mut entry, 4, &image);
        bytes_field(&mut summary, 1, &entry);
        self.event(step, |event| bytes_field(event, 5, &summary))
    }

    fn event(&mut self, step: u64, what: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut event = Vec::new();
        key(&mut event, 1, 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        event.extend(now.to_le_bytes());
        varint_field(&mut event, 2, step);
        what(&mut event);
        self.file.append(&record(&event))
    }
}

fn seconds() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(|d| d.as_secs()).map_err(|_| Error::invalid("the system clock stands before 1970"))
}

/// The latest second among the names of the event files in `folder`, 0 without any.
fn newest(folder: &Path) -> Result<u64> {
    let mut newest = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix("events.out.tfevents."));
        let secs = rest.and_then(|rest| rest.split('.').next()).and_then(|secs| secs.parse().ok());
        newest = newest.max(secs.unwrap_or(0));
    }
    Ok(newest)
}

/// `data` framed as a TFRecord.
pub fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc(data).to_le_bytes());
    out
}

/// CRC-32C, rotated and shifted so that a CRC over data that holds CRCs stays meaningful.
pub fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field's number and wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}
