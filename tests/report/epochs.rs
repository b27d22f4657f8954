//! `metrics.csv`.

use gradcon::report::epochs::{COLUMNS, EpochRow, Losses, read_epochs, write_epochs};

use crate::message_of;
use crate::samples::table;

fn epoch(epoch: u64, validation: Option<Losses>) -> EpochRow {
    let train = Losses { loss: 0.1, mse: 0.13, constraint: -1.0 / 3.0 };
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
    let val = Losses { loss: -0.02, mse: 1e-9, constraint: -0.9 };
    let rows = [epoch(1, Some(val)), epoch(2, None), epoch(3, Some(val))];
    write_epochs(&path, &table(rows.to_vec())).unwrap();
    assert_eq!(read_epochs(&path).unwrap(), table(rows.to_vec()));
    write_epochs(&path, &table(rows[..1].to_vec())).unwrap();
    assert_eq!(read_epochs(&path).unwrap().rows.len(), 1, "replaced, not appended to");
}

#[test]
fn broken_epochs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bad = epoch(7, Some(Losses { loss: 0.0, mse: f64::NAN, constraint: 0.0 }));
    let path = folder.path().join("metrics.csv");
    let message =
        write_epochs(&path, &table(vec![epoch(6, None), bad.clone()])).unwrap_err().to_string();
    assert_eq!(message, "epoch 7: val_mse is NaN, expected a finite number");
    bad.validation = None;
    bad.images_per_second = f64::INFINITY;
    let message = write_epochs(&path, &table(vec![bad])).unwrap_err().to_string();
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
