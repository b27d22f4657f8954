//! Files of a report.

#[cfg(unix)]
#[test]
fn written_files_are_readable_by_others_as_the_umask_lets() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    gradcon::report::file::write_atomic(&ours, b"x").unwrap();
    std::fs::write(&plain, b"x").unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ours), mode(&plain));
}
