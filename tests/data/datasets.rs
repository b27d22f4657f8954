//! The table of datasets.

use std::fs;
use std::path::Path;

use gradcon::data::download::Remote;
use gradcon::data::{Dataset, datasets};

#[test]
fn published_checksums_are_sums_of_md5_and_addresses_are_whole() {
    let mut files = 0;
    for dataset in datasets::ALL.iter().filter_map(|dataset| dataset.ten_classes()) {
        for file in dataset.files {
            let (name, md5) = (file.name, file.md5);
            assert!(md5.len() == 32 && md5.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {md5}");
            for url in Remote::new(file, dataset.mirrors).urls {
                assert!(
                    url.starts_with("http")
                        && url.ends_with(&format!("/{name}"))
                        && !url[8..].contains("//"),
                    "{url}"
                );
            }
            files += 1;
        }
    }
    assert_eq!(files, 9);
}

#[test]
fn the_table_has_every_dataset_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/datasets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .filter(|stem| stem != "mod")
        .collect();
    files.sort();
    let mut rows: Vec<String> =
        datasets::ALL.iter().map(|dataset| dataset.name().replace('-', "_")).collect();
    rows.sort();
    assert_eq!(rows, files, "a row for each file");
    let names =
        || datasets::ALL.iter().flat_map(|dataset| [&[dataset.name()], dataset.aliases].concat());
    for (i, name) in names().enumerate() {
        assert!(!names().skip(i + 1).any(|other| other == name), "{name} means two datasets");
    }
}

#[test]
fn manifests_record_each_dataset_by_name_and_own_images_as_folder() {
    for dataset in datasets::ALL {
        let text = serde_json::to_string(&dataset).unwrap();
        let expected = if dataset.is_own() { "folder" } else { dataset.name() };
        assert_eq!(text, format!("\"{expected}\""));
        assert_eq!(serde_json::from_str::<Dataset>(&text).unwrap(), dataset.recorded());
    }
    assert!(serde_json::from_str::<Dataset>("\"mvtec\"").is_err());
}
