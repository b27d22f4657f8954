//! `metrics.csv`.

use gradcon::report::epochs::{COLUMNS, EpochRow, EpochWriter, Losses, read_epochs, write_epochs};

use crate::message_of;
use crate::samples::history;

fn epoch(epoch: u64, validation: Option<Losses>) -> EpochRow {
    let train = Losses { loss: 0.1, mse: 0.13, constraint: -1.0 / 3.0, divergence: None };
    EpochRow {
        epoch,
        train,
        validation,
        cosines: vec![0.1, 0.2, 0.3, 0.4],
        images_per_second: 1234.5,
        best: epoch == 2,
    }
}

#[test]
fn epochs_come_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.csv");
    let val = Losses { loss: -0.02, mse: 1e-9, constraint: -0.9, divergence: None };
    let rows = [epoch(1, Some(val)), epoch(2, None), epoch(3, Some(val))];
    write_epochs(&path, &history(rows.to_vec())).unwrap();
    assert_eq!(read_epochs(&path).unwrap(), history(rows.to_vec()));
    write_epochs(&path, &history(rows[..1].to_vec())).unwrap();
    assert_eq!(read_epochs(&path).unwrap().rows.len(), 1, "replaced, not appended to");
}

/// A variational model's table has two columns more, and comes back as well.
#[test]
fn divergences_have_columns_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.csv");
    let val = Losses { loss: -0.02, mse: 1e-9, constraint: -0.9, divergence: Some(1.0 / 3.0) };
    let row = |n| {
        let without = epoch(n, Some(val));
        EpochRow { train: Losses { divergence: Some(0.25), ..without.train }, ..without }
    };
    let rows = history(vec![row(1), row(2)]);
    write_epochs(&path, &rows).unwrap();
    assert_eq!(read_epochs(&path).unwrap(), rows);
    let whole = std::fs::read_to_string(&path).unwrap();
    let header = whole.lines().next().unwrap();
    assert!(header.contains(",best,train_divergence,val_divergence,cos_up0,"), "{header}");
    let mut writer = EpochWriter::open(&path, rows.layers.clone(), 1).unwrap();
    writer.append(&rows.rows[1]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    let bad = EpochRow { validation: None, ..row(3) };
    let error = writer.append(&bad).unwrap_err().to_string();
    assert_eq!(error, "epoch 3: val_divergence is NaN, expected a finite number");
    std::fs::write(&path, whole.replace(",val_divergence", "")).unwrap();
    assert!(read_epochs(&path).is_err(), "half of it");
}

#[test]
fn appended_epochs_are_the_table_and_what_follows_the_kept_ones_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let [path, whole] = ["metrics.csv", "whole.csv"].map(|name| folder.path().join(name));
    let rows = [epoch(1, None), epoch(2, None), epoch(3, None)];
    write_epochs(&whole, &history(rows.to_vec())).unwrap();
    let layers = history(rows.to_vec()).layers;
    let open = |kept| EpochWriter::open(&path, layers.clone(), kept);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let mut writer = open(0).unwrap();
    assert!(!path.exists());
    rows.iter().for_each(|row| writer.append(row).unwrap());
    assert_eq!(read(&path), read(&whole));
    // A row that a kill cut, and one that a crash of the machine left as zeros.
    for torn in ["4,0.5,0.", "\0\0\0\0"] {
        std::fs::write(&path, read(&whole) + torn).unwrap();
        assert_eq!(read_epochs(&path).unwrap().rows, rows, "{torn}");
        open(3).unwrap();
        assert_eq!(read(&path), read(&whole));
    }
    let mut writer = open(1).unwrap();
    assert_eq!(read_epochs(&path).unwrap().rows, rows[..1]);
    rows[1..].iter().for_each(|row| writer.append(row).unwrap());
    assert_eq!(read(&path), read(&whole));
    // Damage in what is kept is told, and so are other layers.
    let error = EpochWriter::open(&path, vec!["x".into()], 2).err().unwrap().to_string();
    assert!(error.contains("metrics.csv") && error.contains("expected x"), "{error}");
    std::fs::write(&path, read(&whole).replace("\n2,", "\ntwo,")).unwrap();
    let error = open(2).err().unwrap().to_string();
    assert!(error.contains("metrics.csv:3: epoch is \"two\""), "{error}");
    open(0).unwrap();
    assert!(!path.exists());
}

#[test]
fn broken_epochs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bad =
        epoch(7, Some(Losses { loss: 0.0, mse: f64::NAN, constraint: 0.0, divergence: None }));
    let path = folder.path().join("metrics.csv");
    let message =
        write_epochs(&path, &history(vec![epoch(6, None), bad.clone()])).unwrap_err().to_string();
    assert_eq!(message, "epoch 7: val_mse is NaN, expected a finite number");
    bad.validation = None;
    bad.images_per_second = f64::INFINITY;
    let message = write_epochs(&path, &history(vec![bad])).unwrap_err().to_string();
    assert_eq!(message, "epoch 7: images_per_second is inf, expected a finite number");

    let header = format!("{},cos_a,cos_b", COLUMNS.join(","));
    let of =
        |line: &str| message_of(&format!("{header}\n{line}\n"), |path| read_epochs(path).map(drop));
    assert_eq!(of("1,0,0,0,0,,0,9,1,0,0"), ":2: val_mse is \"\", expected a finite number");
    assert_eq!(of("1.5,0,0,0,,,,9,1,0,0"), ":2: epoch is \"1.5\", expected a whole number");
    assert_eq!(of("1,0,0,0,,,,9,yes,0,0"), ":2: best is \"yes\", expected 0 or 1");
    assert_eq!(of("1,0,0,0,,,,9,1,0,inf"), ":2: cos_b is \"inf\", expected a finite number");
    assert_eq!(
        of("1,0,0,0,,,,nan,1,0,0"),
        ":2: images_per_second is \"nan\", expected a finite number"
    );
}
