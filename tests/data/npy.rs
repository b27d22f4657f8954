//! NumPy files.

use std::fs;

use gradcon::data::npy;

use super::{error_with, temp};

#[test]
fn npy_files_come_back_and_start_at_a_multiple_of_64() {
    let dir = temp();
    let path = dir.path().join("a.npy");
    let data: Vec<u8> = (0..24).collect();
    npy::write_u8(fs::File::create(&path).unwrap(), &[2, 3, 4], &data).unwrap();
    assert_eq!(npy::read_u8::<3>(&path).expect("an array"), ([2, 3, 4], data));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4), }";
    assert_eq!(String::from_utf8_lossy(&bytes[10..128]), format!("{header:117}\n"));
    let numbers = [0, -1, i64::MAX, i64::MIN, 300];
    npy::write_i64(fs::File::create(&path).unwrap(), &numbers).unwrap();
    assert_eq!(npy::read_i64(&path).expect("an array"), numbers);
}

#[test]
fn broken_npy_files_are_refused() {
    let dir = temp();
    let path = dir.path().join("a.npy");
    npy::write_u8(fs::File::create(&path).unwrap(), &[2, 3], &[9; 6]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        npy::read_u8::<2>(&path)
    };
    for length in 0..bytes.len() {
        error_with(read(&bytes[..length]), &["a.npy"]);
    }
    error_with(read(&[&bytes[..], &[0]].concat()), &["a.npy", "more bytes", "expected 6"]);
    let edited = |from: &str, to: &str| {
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        text.replace(from, to).chars().map(|c| c as u8).collect::<Vec<u8>>()
    };
    error_with(read(&edited("|u1", "<f8")), &["type <f8, expected |u1"]);
    error_with(read(&edited("False", "True ")), &["not in C order"]);
    error_with(read(&edited("(2, 3)", "(6,)  ")), &["shape [6], expected 2 dimensions"]);
    error_with(read(&edited("NUMPY", "NUMPI")), &["NUMPI", "expected"]);
    error_with(read(&edited("\u{1}\0v", "\u{9}\0v")), &["version 9"]);
    assert!(read(&bytes).is_ok());
    error_with(npy::read_i64(&path), &["type |u1, expected <i8"]);
}
