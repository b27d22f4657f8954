//! The manifest.

use std::fs;

use gradcon::data::hash::sha256_file;
use gradcon::data::{Dataset, Manifest};

use super::{small, temp};

#[test]
fn a_manifest_reads_back_as_written() {
    let dir = temp();
    let out = dir.path().join("out");
    small(Dataset::MNIST, u64::MAX, &[50]).write(&out, false).expect("written");
    let manifest = Manifest::read(&out).expect("a manifest");
    assert_eq!(manifest.seed, u64::MAX);
    assert_eq!(manifest.to_json().as_bytes(), fs::read(out.join("manifest.json")).unwrap());
    let listed = &manifest.files["val_labels.npy"];
    assert_eq!(listed.sha256, sha256_file(&out.join("val_labels.npy")).unwrap());
    assert_eq!(listed.bytes, fs::metadata(out.join("val_labels.npy")).unwrap().len());
}
