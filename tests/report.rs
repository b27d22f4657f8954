//! The report room, tested through the library's public doors.

use std::path::Path;

/// Fails on NaN (no comparison with NaN holds), on a wrong sign and on a difference above
/// `tolerance`.
#[track_caller]
fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: got {got}, expected {want} within {tolerance}"
    );
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

mod metrics {
    use super::{close, fixture};
    use gradcon::report::metrics::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[derive(serde::Deserialize)]
    struct Fixtures {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        scores: Vec<f64>,
        labels: Vec<u8>,
        auroc: f64,
        average_precision: f64,
        f1: f64,
        f1_threshold: f64,
        fpr95: f64,
        roc: Roc,
    }

    #[derive(serde::Deserialize)]
    struct Roc {
        fpr: Vec<f64>,
        tpr: Vec<f64>,
        thresholds: Vec<f64>,
    }

    #[test]
    fn the_comparator_fails_on_nan_and_on_a_small_difference() {
        for (got, want) in [
            (f64::NAN, 0.5),
            (0.5, f64::NAN),
            (0.5, 0.5 + 1e-11),
            (0.5, -0.5),
            (f64::INFINITY, 0.5),
        ] {
            assert!(
                std::panic::catch_unwind(|| close(got, want, 1e-12, "")).is_err(),
                "{got} passed for {want}"
            );
        }
        close(0.5, 0.5 + 1e-13, 1e-12, "");
    }

    #[test]
    fn agree_with_scikit_learn() {
        let fixtures: Fixtures = serde_json::from_str(&fixture("metrics.json")).unwrap();
        assert_eq!(fixtures.cases.len(), 19);
        for case in fixtures.cases {
            let labels: Vec<bool> = case.labels.iter().map(|&l| l == 1).collect();
            let (scores, name) = (&case.scores, &case.name);
            close(auroc(scores, &labels).unwrap(), case.auroc, 1e-12, name);
            close(average_precision(scores, &labels).unwrap(), case.average_precision, 1e-12, name);
            let (f1, threshold) = f1_max(scores, &labels).unwrap();
            close(f1, case.f1, 1e-12, name);
            close(threshold, case.f1_threshold, 0.0, name);
            close(fpr_at_tpr(scores, &labels, 0.95).unwrap(), case.fpr95, 1e-12, name);

            let roc = roc_curve(scores, &labels).unwrap();
            assert_eq!(roc.len(), case.roc.fpr.len(), "{name}: number of ROC points");
            assert_eq!(roc[0].threshold, f64::INFINITY, "{name}");
            for (i, point) in roc.iter().enumerate() {
                close(point.fpr, case.roc.fpr[i], 1e-12, name);
                close(point.tpr, case.roc.tpr[i], 1e-12, name);
                if i > 0 {
                    close(point.threshold, case.roc.thresholds[i - 1], 0.0, name);
                }
            }

            let all = Metrics::of(scores, &labels, None).unwrap();
            close(all.auroc, case.auroc, 1e-12, name);
            close(all.aupr, case.average_precision, 1e-12, name);
            close(all.f1, case.f1, 1e-12, name);
            close(all.f1_threshold.unwrap(), case.f1_threshold, 0.0, name);
            close(all.fpr95, case.fpr95, 1e-12, name);
            assert_eq!(all.auroc_95, None);
        }
    }

    #[test]
    fn input_without_an_answer_is_an_error() {
        type Metric = fn(&[f64], &[bool]) -> bool;
        let metrics: [Metric; 7] = [
            |s, l| auroc(s, l).is_err(),
            |s, l| average_precision(s, l).is_err(),
            |s, l| f1_max(s, l).is_err(),
            |s, l| fpr_at_tpr(s, l, 0.95).is_err(),
            |s, l| roc_curve(s, l).is_err(),
            |s, l| bootstrap_interval(s, l, 10, 0).is_err(),
            |s, l| Metrics::of(s, l, None).is_err(),
        ];
        for fails in metrics {
            assert!(!fails(&[1.0, 2.0], &[false, true]), "good input must pass");
            assert!(fails(&[], &[]), "no images");
            assert!(fails(&[1.0, 2.0], &[true, true]), "no normal image");
            assert!(fails(&[1.0, 2.0], &[false, false]), "no anomalous image");
            assert!(fails(&[1.0, f64::NAN], &[false, true]), "NaN");
            assert!(fails(&[f64::INFINITY, 1.0], &[false, true]), "infinity");
            assert!(fails(&[1.0, 2.0, 3.0], &[false, true]), "lengths");
        }
        for tpr in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(fpr_at_tpr(&[1.0, 2.0], &[false, true], tpr).is_err(), "tpr {tpr}");
        }
        assert!(bootstrap_interval(&[1.0, 2.0], &[false, true], 0, 0).is_err());
        let message = auroc(&[1.0, f64::NAN], &[false, true]).unwrap_err().to_string();
        assert_eq!(message, "score 1 is NaN: expected a finite number");
    }

    /// 60 normal and 40 anomalous images, some of them tied.
    fn sample() -> (Vec<f64>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let labels: Vec<bool> = (0..100).map(|i| i % 5 < 2).collect();
        let scores = labels
            .iter()
            .map(|&l| rng.random_range(0..20u32) as f64 + if l { 6.0 } else { 0.0 })
            .collect();
        (scores, labels)
    }

    #[test]
    fn of_equal_f1_the_highest_threshold_wins() {
        // 1 of 1 flagged is right, then 2 of 4: both give F1 = 2/3.
        let (f1, threshold) = f1_max(&[4.0, 3.0, 2.0, 1.0], &[true, false, false, true]).unwrap();
        close(f1, 2.0 / 3.0, 1e-15, "F1");
        close(threshold, 4.0, 0.0, "threshold");
    }

    #[test]
    fn bootstrap_equals_resampling_by_hand() {
        let (scores, labels) = sample();
        let got = bootstrap_interval(&scores, &labels, 200, 7).unwrap();

        let of = |label: bool| {
            let mut s: Vec<f64> =
                (0..100).filter(|&i| labels[i] == label).map(|i| scores[i]).collect();
            s.sort_by(|a, b| b.total_cmp(a));
            s
        };
        let (normal, anomalous) = (of(false), of(true));
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut aurocs = Vec::new();
        for _ in 0..200 {
            let mut draw = |from: &[f64]| -> Vec<f64> {
                (0..from.len())
                    .map(|_| from[rng.random_range(0..from.len() as u64) as usize])
                    .collect()
            };
            let mut s = draw(&normal);
            s.extend(draw(&anomalous));
            let l: Vec<bool> = (0..100).map(|i| i >= 60).collect();
            aurocs.push(auroc(&s, &l).unwrap());
        }
        aurocs.sort_by(f64::total_cmp);
        close(got.low, quantile_of_sorted(&aurocs, 0.025), 1e-15, "low");
        close(got.high, quantile_of_sorted(&aurocs, 0.975), 1e-15, "high");
    }

    #[test]
    fn bootstrap_is_seeded_and_as_wide_as_theory_says() {
        let (scores, labels) = sample();
        let one = bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 1).unwrap();
        assert_eq!(one, bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 1).unwrap());
        assert_ne!(one, bootstrap_interval(&scores, &labels, BOOTSTRAP_RESAMPLES, 2).unwrap());
        // Hanley and McNeil (1982), equation 2: the standard error of an AUROC.
        let a = auroc(&scores, &labels).unwrap();
        let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
        let error =
            ((a * (1.0 - a) + 39.0 * (q1 - a * a) + 59.0 * (q2 - a * a)) / (40.0 * 60.0)).sqrt();
        assert!(one.low < a && a < one.high, "{one:?} does not hold {a}");
        close((one.high - one.low) / (2.0 * 1.96 * error), 1.0, 0.15, "width over theory");
    }

    #[test]
    fn quantile_mean_and_deviation() {
        close(quantile_of_sorted(&[1.0, 2.0, 4.0], 0.25), 1.5, 1e-15, "interpolated");
        close(quantile_of_sorted(&[1.0, 2.0, 4.0], 1.0), 4.0, 0.0, "last");
        close(quantile_of_sorted(&[3.0], 0.975), 3.0, 0.0, "single");
        let (mean, std) = mean_std(&[1.0, 2.0, 4.0]).unwrap();
        close(mean, 7.0 / 3.0, 1e-15, "mean");
        close(std.unwrap(), (7.0f64 / 3.0).sqrt(), 1e-15, "sample deviation");
        assert_eq!(mean_std(&[5.0]).unwrap(), (5.0, None));
        assert!(mean_std(&[]).is_err());
        assert!(mean_std(&[1.0, f64::NAN]).is_err());
    }
}

mod tables {
    use gradcon::report::epochs::{COLUMNS, EpochRow, Losses, read_epochs, write_epochs};
    use gradcon::report::scores::{ScoreRow, read_scores, write_scores};
    use std::path::Path;

    fn row(image: &str, label: Option<u8>, class: Option<&str>, score: f64) -> ScoreRow {
        let layers = vec![0.1, -0.25, 1.0 / 3.0, 1.0];
        ScoreRow {
            image: image.into(),
            label,
            class: class.map(Into::into),
            score,
            mse: 0.1 + 0.2,
            cos: 1e-300,
            layers,
        }
    }

    #[test]
    fn scores_come_back_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval/a/scores.csv");
        let rows = [
            row("a, \"b\".png", Some(0), Some("T-shirt/top"), -0.1),
            row("c\nd.png", Some(1), None, f64::MIN_POSITIVE),
            row("e.png", None, Some("x"), 1e22),
        ];
        write_scores(&path, &rows).unwrap();
        assert_eq!(read_scores(&path).unwrap(), rows);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            "image,label,class,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6"
        );
    }

    #[test]
    fn scores_that_are_none_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        let good = row("a", Some(1), None, 0.0);
        let mut bad = vec![good.clone(); 5];
        bad[0].score = f64::NAN;
        bad[1].layers[2] = f64::INFINITY;
        bad[2].layers.pop();
        bad[3].label = Some(2);
        bad[4].cos = f64::NAN;
        for row in bad {
            assert!(write_scores(&path, &[good.clone(), row.clone()]).is_err(), "{row:?}");
        }
        assert!(!path.exists(), "a refused table must leave no file");
    }

    fn message_of(text: &str, read: impl Fn(&Path) -> gradcon::Result<()>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let message = read(&path).unwrap_err().to_string();
        message
            .strip_prefix(&path.display().to_string())
            .unwrap_or_else(|| panic!("no file in: {message}"))
            .to_owned()
    }

    #[test]
    fn broken_scores_are_named_by_file_line_and_column() {
        let header = "image,label,class,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6\n";
        let good = "a,1,x,0.5,0.5,0,0,0,0,0\n";
        let of = |text: &str| message_of(text, |path| read_scores(path).map(drop));
        let bad = |line: &str| of(&format!("{header}{good}{line}"));
        assert_eq!(
            bad("b,1,x,NaN,0,0,0,0,0,0\n"),
            ":3: score is \"NaN\", expected a finite number"
        );
        assert_eq!(bad("b,1,x,0,0,0,0,0,,0\n"), ":3: cos_up4 is \"\", expected a finite number");
        assert_eq!(
            bad("b,2,x,0,0,0,0,0,0,0\n"),
            ":3: label is \"2\", expected 0 (normal), 1 (anomalous) or nothing"
        );
        assert_eq!(bad("b,1,x,0\n"), ":3: 4 fields, expected 10");
        let wrong = ":1: header \"image,score\", expected \
                     \"image,label,class,score,mse,cos,cos_up0,cos_up2,cos_up4,cos_up6\"";
        assert_eq!(of("image,score\n"), wrong);
        let missing = read_scores(Path::new("no/such/scores.csv")).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/scores.csv: "), "{missing}");
    }

    fn epoch(epoch: u64, val: Option<Losses>) -> EpochRow {
        let train = Losses { total: 0.1, mse: 0.13, grad: -1.0 / 3.0 };
        EpochRow {
            epoch,
            train,
            val,
            cosines: [0.1, 0.2, 0.3, 0.4],
            images_per_second: 1234.5,
            best: epoch == 2,
        }
    }

    #[test]
    fn epochs_come_back_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let val = Losses { total: -0.02, mse: 1e-9, grad: -0.9 };
        let rows = [epoch(1, Some(val)), epoch(2, None), epoch(3, Some(val))];
        write_epochs(&path, &rows).unwrap();
        assert_eq!(read_epochs(&path).unwrap(), rows);
        write_epochs(&path, &rows[..1]).unwrap();
        assert_eq!(read_epochs(&path).unwrap().len(), 1, "the table is replaced, not appended to");
    }

    #[test]
    fn broken_epochs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut bad = epoch(7, Some(Losses { total: 0.0, mse: f64::NAN, grad: 0.0 }));
        let path = folder.path().join("metrics.csv");
        let message = write_epochs(&path, &[epoch(6, None), bad.clone()]).unwrap_err().to_string();
        assert_eq!(message, "epoch 7: val_mse is NaN, expected a finite number");
        bad.val = None;
        bad.images_per_second = f64::INFINITY;
        let message = write_epochs(&path, &[bad]).unwrap_err().to_string();
        assert_eq!(message, "epoch 7: images_per_second is inf, expected a finite number");

        let header = COLUMNS.join(",");
        let of = |line: &str| {
            message_of(&format!("{header}\n{line}\n"), |path| read_epochs(path).map(drop))
        };
        assert_eq!(of("1,0,0,0,0,,0,0,0,0,0,9,1"), ":2: val_mse is \"\", expected a finite number");
        assert_eq!(of("1.5,0,0,0,,,,0,0,0,0,9,1"), ":2: epoch is \"1.5\", expected a whole number");
        assert_eq!(of("1,0,0,0,,,,0,0,0,0,9,yes"), ":2: best is \"yes\", expected 0 or 1");
    }
}

mod tiles {
    use gradcon::Images;
    use gradcon::report::tiles::Tiles;

    #[test]
    fn tiles_of_nonsense_are_refused() {
        let shape = [1, 2, 3, 1];
        let message = |inputs: &[f32], recons: &[f32], shape, which: &[usize]| {
            Tiles::new(inputs, recons, shape, which).err().unwrap().to_string()
        };
        let (good, nan) = ([0.0; 6], [f32::NAN; 6]);
        assert!(Tiles::new(&good, &good, shape, &[0]).is_ok(), "good input must pass");
        assert!(message(&good, &nan, shape, &[0]).contains("a pixel is NaN"));
        assert_eq!(message(&good, &good, shape, &[1]), "image 1 of 1");
        assert_eq!(
            message(&good, &[0.0; 5], shape, &[0]),
            "reconstructions: 5 values for shape [1, 2, 3, 1] = 6"
        );
        assert!(message(&[0.0; 12], &[0.0; 12], [1, 2, 3, 2], &[0]).contains("2 channels"));
        assert!(message(&[], &[], [0, 2, 3, 1], &[]).contains("no pixel"));
    }

    #[test]
    fn error_maps_share_one_scale() {
        // Image 0 errs by 0.5 in one pixel, image 1 by 0.25 (channel mean of 0.75, 0, 0) in
        // another.
        let shape = [2, 1, 2, 3];
        let inputs = [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.2];
        let recons = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 0.2];
        let tiles = Tiles::new(&inputs, &recons, shape, &[1, 0]).unwrap();
        assert_eq!(tiles.error_scale, 0.5);
        let pixel = |images: &Images, i: usize, x: usize| images.image(i)[3 * x..][..3].to_vec();
        let pixels = |i: usize| [0, 1].map(|x| pixel(&tiles.errors, i, x));
        assert_eq!(pixels(1), [[252, 255, 164], [0, 0, 4]], "image 0: brightest, then no error");
        assert_eq!(pixels(0), [[0, 0, 4], [188, 55, 84]], "image 1: no error, then half the scale");
        assert_eq!(pixel(&tiles.inputs, 0, 1), [255, 255, 51]);
        assert_eq!(pixel(&tiles.reconstructions, 0, 1), [64, 255, 51]);
        let same = Tiles::new(&inputs, &inputs, shape, &[0]).unwrap();
        assert_eq!(pixel(&same.errors, 0, 0), [0, 0, 4], "no error at all is black");
    }
}

mod file {
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
}

mod tensorboard {
    use gradcon::Images;
    use gradcon::report::tensorboard::*;
    use std::path::Path;

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
}

mod runs {
    use super::close;
    use gradcon::folders::{self, EvalPlace};
    use gradcon::report::card::{Card, write_card};
    use gradcon::report::epochs::{EpochRow, Losses, write_epochs};
    use gradcon::report::extremes::{extreme_indices, read_extremes, write_extremes};
    use gradcon::report::page::{page, page_of};
    use gradcon::report::results::*;
    use gradcon::report::run::*;
    use gradcon::report::scores::{ScoreRow, write_scores};
    use gradcon::report::tables;
    use std::path::Path;

    const CLASSES: [&str; 2] = ["T-shirt/top", "Bag & <Co>"];

    fn about() -> About {
        About {
            gradcon_version: "9.8.7".into(),
            date: "2026-01-02T03:04:05Z".into(),
            dataset: "fmnist".into(),
            model: "cae".into(),
            device: "Test \"device\" <1>".into(),
            beta: 0.12,
            seed: Some(42),
            data: Some("data/fm & nist".into()),
            data_sha256: Some("0123456789abcdef".repeat(4)),
        }
    }

    /// 30 normal and 30 anomalous images whose scores overlap; `shift` moves the anomalous ones.
    fn rows(shift: f64) -> Vec<ScoreRow> {
        let row = |i: usize| {
            let anomalous = i % 2 == 1;
            let noise = ((i * 37) % 60) as f64 / 60.0;
            let (mse, cos) = (noise * 0.1, if anomalous { 0.6 - shift } else { 0.6 } - 0.3 * noise);
            let class = Some(if anomalous { "other" } else { "inlier" }.to_owned());
            let image = format!("test/{i}");
            ScoreRow {
                image,
                label: Some(anomalous.into()),
                class,
                score: mse - 0.12 * cos,
                mse,
                cos,
                layers: vec![cos; 4],
            }
        };
        (0..60).map(row).collect()
    }

    fn results(shift: f64) -> Results {
        let class = |(i, name): (usize, &&str)| {
            let rows = rows(shift + 0.1 * i as f64);
            // At 25 %: every normal image, a third as many anomalous ones.
            let few: Vec<ScoreRow> = rows
                .iter()
                .enumerate()
                .filter(|(i, r)| r.label == Some(0) || i % 6 == 1)
                .map(|(_, r)| r.clone())
                .collect();
            let evaluations = vec![
                Evaluation::of(25.0, &few, None).unwrap(),
                Evaluation::of(50.0, &rows, Some((200, 1))).unwrap(),
            ];
            ClassResult {
                class: name.to_string(),
                epochs: Some(3),
                best_epoch: Some(2),
                evaluations,
            }
        };
        Results::new(about(), CLASSES.iter().enumerate().map(class).collect(), vec![]).unwrap()
    }

    /// A complete run folder of two classes.
    fn write_run(folder: &Path) -> Results {
        write_run_of(folder, 0.1)
    }

    /// The same, with anomalous images moved by `shift`.
    fn write_run_of(folder: &Path, shift: f64) -> Results {
        let results = results(shift);
        results.write(folder).unwrap();
        std::fs::write(folder.join("config.toml"), "alpha = 0.03 # <0.1 & >0\n").unwrap();
        for (i, class) in CLASSES.iter().enumerate() {
            let rows = rows(shift + 0.1 * i as f64);
            let eval = EvalPlace::own(folder).class(class);
            write_scores(&eval.join("scores.csv"), &rows).unwrap();
            let images: Vec<f32> = (0..60 * 6).map(|i| (i % 7) as f32 / 7.0).collect();
            let recons: Vec<f32> = images.iter().map(|x| x * 0.5).collect();
            write_extremes(&eval, &images, &recons, [60, 2, 3, 1], &rows, 3).unwrap();
            let losses = |epoch: u64| Losses {
                total: 0.3 / epoch as f64 - 0.02,
                mse: 0.3 / epoch as f64,
                grad: -0.5,
            };
            let epochs: Vec<EpochRow> = (1..=3)
                .map(|epoch| EpochRow {
                    epoch,
                    train: losses(epoch),
                    val: Some(losses(epoch)),
                    cosines: [0.5; 4],
                    images_per_second: 100.0,
                    best: epoch == 2,
                })
                .collect();
            write_epochs(&folders::training(folder, class, false).join("metrics.csv"), &epochs)
                .unwrap();
        }
        results
    }

    #[test]
    fn an_evaluation_scores_each_part_by_itself() {
        // The score orders perfectly, the error inverts, the cosine (low = anomalous) ties one pair
        // of four.
        let row = |label: u8, score: f64, mse: f64, cos: f64| ScoreRow {
            image: String::new(),
            label: Some(label),
            class: None,
            score,
            mse,
            cos,
            layers: vec![cos; 4],
        };
        let rows = [
            row(0, 0.1, 0.9, 0.9),
            row(0, 0.2, 0.8, 0.5),
            row(1, 0.3, 0.1, 0.5),
            row(1, 0.4, 0.2, 0.1),
        ];
        let e = Evaluation::of(50.0, &rows, None).unwrap();
        close(e.full.auroc, 1.0, 0.0, "full");
        close(e.reconstruction.auroc, 0.0, 0.0, "reconstruction");
        close(e.gradient.auroc, 0.875, 0.0, "gradient");
        assert_eq!((e.normal, e.anomalous), (2, 2));
        let mut unlabelled = rows.to_vec();
        unlabelled[1].label = None;
        assert!(Evaluation::of(50.0, &unlabelled, None).is_err());
    }

    #[test]
    fn results_come_back_and_hold_their_means() {
        let folder = tempfile::tempdir().unwrap();
        let written = results(0.1);
        written.write(folder.path()).unwrap();
        tables::write(&written, folder.path()).unwrap();
        let read = Results::read(&folder.path().join("results.json")).unwrap();
        assert_eq!(read, written);
        assert_eq!(read.headline_percent(), Some(50.0));
        let aurocs: Vec<f64> = read.headline().map(|(_, e)| e.full.auroc).collect();
        assert_ne!(aurocs[0], aurocs[1]);
        close(
            read.headline_mean().unwrap().full.auroc,
            (aurocs[0] + aurocs[1]) / 2.0,
            1e-15,
            "mean",
        );

        let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        assert_eq!(csv.lines().count(), 1 + 2 * 2 * 3 + 2 * 3);
        let wanted = format!("T-shirt/top,50,full,30,30,{},", aurocs[0]);
        assert!(csv.contains(&wanted), "{wanted} not in\n{csv}");
        let markdown = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
        let mean = (aurocs[0] + aurocs[1]) / 2.0;
        let wanted = format!("| GradCon | {:.3} | {:.3} | {mean:.3} |", aurocs[0], aurocs[1]);
        assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
        let wanted = format!(
            "Data: `data/fm & nist`, SHA-256 of its manifest: `{}`.",
            written.about.data_sha256.unwrap()
        );
        assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
    }

    #[test]
    fn results_that_contradict_themselves_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        results(0.1).write(folder.path()).unwrap();
        let good: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        type Break = fn(&mut serde_json::Value);
        let breaks: [(Break, &str); 7] = [
            (|v| v["schema_version"] = 3.into(), "schema version 3, this build reads 1 to 2"),
            (|v| v["means"][1]["full"]["auroc"] = 0.5.into(), "means are not those"),
            (
                |v| v["classes"][0]["evaluations"][1]["full"]["auroc"] = 1.5.into(),
                "a metric is 1.5",
            ),
            (
                |v| v["classes"][0]["evaluations"][1]["full"]["auroc"] = serde_json::Value::Null,
                "invalid type: null",
            ),
            (
                |v| v["classes"][0]["evaluations"][0]["outlier_percent"] = 30.into(),
                "different outlier percentages",
            ),
            (|v| v["extra"] = 1.into(), "unknown field `extra`"),
            (|v| v["classes"] = serde_json::json!([]), "no class and no challenge"),
        ];
        for (break_it, expected) in breaks {
            let mut broken = good.clone();
            break_it(&mut broken);
            std::fs::write(&path, broken.to_string()).unwrap();
            let message = Results::read(&path).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("results.json"), "{message}");
        }
        let mut nan = results(0.1);
        nan.classes[0].evaluations[0].gradient.f1_threshold = Some(f64::NAN);
        assert!(nan.write(folder.path()).is_err());
    }

    #[test]
    fn seeds_have_a_mean_and_a_spread() {
        let (a, b) = (results(0.1), results(0.2));
        let over = OverSeeds::of(&[(1, &a), (2, &b)]).unwrap();
        assert_eq!(over.seeds, [1, 2]);
        assert_eq!(
            over.rows.iter().map(|r| r.class.as_str()).collect::<Vec<_>>(),
            [CLASSES[0], CLASSES[1], "mean"]
        );
        let auroc = |r: &Results, i: usize| r.classes[i].evaluations[1].gradient.auroc;
        let (x, y) = (auroc(&a, 1), auroc(&b, 1));
        assert_ne!(x, y);
        close(over.rows[1].gradient.mean, (x + y) / 2.0, 1e-15, "mean");
        close(over.rows[1].gradient.std, (x - y).abs() / 2f64.sqrt(), 1e-15, "deviation");
        let (x, y) = (a.means[1].full.auroc, b.means[1].full.auroc);
        close(over.rows[2].full.mean, (x + y) / 2.0, 1e-15, "mean over classes");
        assert!(OverSeeds::of(&[(1, &a)]).is_err(), "one seed has no spread");
        let mut other = b.clone();
        other.classes[0].class = "else".into();
        assert!(OverSeeds::of(&[(1, &a), (2, &other)]).is_err(), "other classes");
        assert!(OverSeeds::of(&[(1, &a), (1, &b)]).is_err(), "a seed twice");
        let mut other = b.clone();
        other.about.data_sha256 = None;
        let message = OverSeeds::of(&[(1, &a), (2, &other)]).unwrap_err().to_string();
        assert!(message.contains("seeds 1 and 2") && message.contains("data_sha256"), "{message}");
    }

    /// Three seeds whose every number differs.
    fn seeds() -> [(u64, Results); 3] {
        [(7, results(0.1)), (1, results(0.2)), (3, results(0.15))].map(|(seed, mut r)| {
            r.about.seed = Some(seed);
            (seed, r)
        })
    }

    fn over(seeds: &[(u64, Results)]) -> Results {
        Results::over_seeds(&seeds.iter().map(|(seed, r)| (*seed, r)).collect::<Vec<_>>()).unwrap()
    }

    fn mean_and_std(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        (mean, (squares / (values.len() - 1) as f64).sqrt())
    }

    #[test]
    fn no_number_over_seeds_is_one_seeds() {
        let seeds = seeds();
        let over = over(&seeds);
        assert_eq!(
            (over.about.seed, over.over_seeds.as_ref().unwrap().seeds.as_slice()),
            (None, &[7, 1, 3][..])
        );
        // Every metric of every score, class and share of outliers, by hand.
        for (c, class) in over.classes.iter().enumerate() {
            for (k, e) in class.evaluations.iter().enumerate() {
                for (p, (part, m)) in e.parts().into_iter().enumerate() {
                    assert_eq!(
                        (m.auroc_95, m.f1_threshold),
                        (None, None),
                        "an interval or threshold is one model's"
                    );
                    let std = m.std.unwrap();
                    type Metric = fn(&gradcon::report::metrics::Metrics) -> f64;
                    let metrics: [(Metric, f64, f64); 4] = [
                        (|m| m.auroc, m.auroc, std.auroc),
                        (|m| m.aupr, m.aupr, std.aupr),
                        (|m| m.f1, m.f1, std.f1),
                        (|m| m.fpr95, m.fpr95, std.fpr95),
                    ];
                    for (i, (of, mean, std)) in metrics.into_iter().enumerate() {
                        let values = seeds
                            .each_ref()
                            .map(|(_, r)| of(r.classes[c].evaluations[k].parts()[p].1));
                        let what = format!(
                            "{} at {} %, {part}, metric {i}",
                            class.class, e.outlier_percent
                        );
                        let (by_hand, deviation) = mean_and_std(&values);
                        close(mean, by_hand, 1e-15, &what);
                        close(std, deviation, 1e-15, &what);
                    }
                }
            }
        }
        for (k, mean) in over.means.iter().enumerate() {
            for (p, (part, m)) in mean.parts().into_iter().enumerate() {
                let values = seeds.each_ref().map(|(_, r)| r.means[k].parts()[p].1.auroc);
                let (by_hand, deviation) = mean_and_std(&values);
                close(m.auroc, by_hand, 1e-15, part);
                close(m.std.unwrap().auroc, deviation, 1e-15, "deviation of the mean over classes");
                let of_classes =
                    over.classes.iter().map(|c| c.evaluations[k].parts()[p].1.auroc).sum::<f64>()
                        / 2.0;
                close(m.auroc, of_classes, 1e-15, "the mean of means");
            }
        }
    }

    #[test]
    fn files_over_seeds_say_means_deviations_and_each_seed() {
        let (folder, seeds) = (tempfile::tempdir().unwrap(), seeds());
        let over = over(&seeds);
        over.write(folder.path()).unwrap();
        tables::write(&over, folder.path()).unwrap();
        assert_eq!(Results::read(&folder.path().join("results.json")).unwrap(), over);
        let full = &over.headline().next().unwrap().1.full;
        let mean = over.headline_mean().unwrap().full;

        let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        // The lines of one run: means, deviations, then three seeds.
        assert_eq!(csv.lines().count(), 1 + 5 * (2 * 2 * 3 + 2 * 3));
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        let find = |seed: &str| {
            lines.iter().find(|l| l[..3] == ["T-shirt/top", "50", "full"] && l[12] == seed).unwrap()
        };
        assert_eq!(
            find("mean")[5..],
            [
                &full.auroc.to_string(),
                "",
                "",
                &full.aupr.to_string(),
                &full.f1.to_string(),
                "",
                &full.fpr95.to_string(),
                "mean"
            ]
        );
        assert_eq!(find("std")[5], full.std.unwrap().auroc.to_string());
        for (seed, results) in &seeds {
            assert_eq!(
                find(&seed.to_string())[5],
                results.headline().next().unwrap().1.full.auroc.to_string()
            );
        }
        // Whoever takes a class's first line gets the mean.
        assert_eq!(lines.iter().find(|l| l[0] == "T-shirt/top").unwrap()[12], "mean");

        let markdown = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
        let spread = |mean: f64, std: f64| format!("{mean:.3} \u{b1} {std:.3}");
        let cells = over
            .headline()
            .map(|(_, e)| spread(e.full.auroc, e.full.std.unwrap().auroc))
            .collect::<Vec<_>>();
        let wanted = format!(
            "| GradCon | {} | {} |",
            cells.join(" | "),
            spread(mean.auroc, mean.std.unwrap().auroc)
        );
        assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
        assert!(
            markdown
                .contains("the mean over 3 seeds (7, 1, 3) \u{b1} the sample standard deviation"),
            "{markdown}"
        );
        assert!(!markdown.contains(", seed 7"), "{markdown}");
        let own = seeds[1]
            .1
            .headline()
            .map(|(_, e)| format!("{:.3}", e.full.auroc))
            .collect::<Vec<_>>()
            .join(" | ");
        let wanted =
            format!("| 1 | {own} | {:.3} |", seeds[1].1.headline_mean().unwrap().full.auroc);
        assert!(markdown.contains(&wanted), "{wanted} not in\n{markdown}");
    }

    #[test]
    fn means_that_are_not_those_of_the_seeds_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        over(&seeds()).write(folder.path()).unwrap();
        let good: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        type Break = fn(&mut serde_json::Value);
        let breaks: [(Break, &str); 6] = [
            // The headline of the first seed alone, as earlier versions wrote it.
            (
                |v| v["classes"] = v["over_seeds"]["runs"][0]["classes"].clone(),
                "expected a threshold for one seed",
            ),
            (
                |v| v["classes"][0]["evaluations"][1]["full"]["aupr"] = 0.5.into(),
                "not those of the seeds",
            ),
            (|v| v["means"][0]["gradient"]["std"]["fpr95"] = 0.25.into(), "not those of the seeds"),
            (|v| v["over_seeds"]["rows"][0]["full"]["std"] = 0.25.into(), "not those of the seeds"),
            (|v| v["over_seeds"]["seeds"][2] = 7.into(), "seed 7 is there twice"),
            (
                |v| v["over_seeds"]["runs"][1]["means"][0]["full"]["auroc"] = 0.5.into(),
                "means are not those of the classes",
            ),
        ];
        for (break_it, expected) in breaks {
            let mut broken = good.clone();
            break_it(&mut broken);
            std::fs::write(&path, broken.to_string()).unwrap();
            let message = Results::read(&path).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("results.json"), "{message}");
        }
    }

    #[test]
    fn results_of_the_first_layout_still_open_unless_their_headline_was_one_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let results = results(0.1);
        results.write(folder.path()).unwrap();
        let mut old: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        old["schema_version"] = 1.into();
        for key in ["data", "data_sha256"] {
            old["about"].as_object_mut().unwrap().remove(key).unwrap();
        }
        std::fs::write(&path, old.to_string()).unwrap();
        let read = Results::read(&path).unwrap();
        assert_eq!((read.schema_version, read.about.data_sha256.as_ref()), (SCHEMA_VERSION, None));
        assert_eq!(read.means, results.means);

        let spread = serde_json::json!({ "mean": 0.9, "std": 0.1 });
        let row = serde_json::json!({
            "class": "mean", "full": spread, "reconstruction": spread, "gradient": spread,
        });
        old["over_seeds"] = serde_json::json!({ "seeds": [1, 2], "rows": [row] });
        std::fs::write(&path, old.to_string()).unwrap();
        let message = Results::read(&path).unwrap_err().to_string();
        assert!(message.contains("results.json: schema version 1 with several seeds"), "{message}");
        assert!(message.contains("gradcon eval"), "{message}");
    }

    #[test]
    fn extremes_are_the_ends_of_the_order() {
        let scores = [0.3, -1.0, 2.0, 0.3, 5.0, -2.0];
        assert_eq!(extreme_indices(&scores, 2), (vec![5, 1], vec![4, 2]));
        assert_eq!(
            extreme_indices(&scores, 9),
            (vec![5, 1, 0], vec![4, 2, 3]),
            "no image on both sides"
        );
        assert_eq!(extreme_indices(&[1.0], 4), (vec![], vec![]));
    }

    #[test]
    fn extremes_are_written_with_their_tiles() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let eval = EvalPlace::own(folder.path()).class(CLASSES[0]);
        let index = read_extremes(&eval.join("extremes.json")).unwrap();
        let all = rows(0.1);
        let least = all.iter().min_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
        assert_eq!((index.most_normal.len(), index.most_anomalous.len()), (3, 3));
        assert_eq!(
            (&index.most_normal[0].image, index.most_normal[0].score),
            (&least.image, least.score)
        );
        assert!(index.most_anomalous.windows(2).all(|w| w[0].score >= w[1].score));
        let tile = image::open(eval.join(&index.most_normal[0].input)).unwrap().to_rgb8();
        assert_eq!(tile.dimensions(), (3, 2));
        let i: usize = least.image["test/".len()..].parse().unwrap();
        let value = ((((i * 6) % 7) as f32 / 7.0) * 255.0).round() as u8;
        assert_eq!(tile.get_pixel(0, 0).0, [value; 3]);

        let text = std::fs::read_to_string(eval.join("extremes.json")).unwrap();
        std::fs::write(
            eval.join("extremes.json"),
            text.replace("normal-00-input.png", "../../secret.png"),
        )
        .unwrap();
        let message = read_extremes(&eval.join("extremes.json")).unwrap_err().to_string();
        assert!(
            message.ends_with("tile \"../../secret.png\", expected a plain file name"),
            "{message}"
        );
    }

    /// Elements without content, which have no end tag.
    const VOID: [&str; 3] = ["meta", "br", "img"];

    /// Says what is wrong with a document: open tags, attributes without quotes, bare ampersands.
    fn malformed(html: &str) -> Option<String> {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = html.strip_prefix("<!DOCTYPE html>")?;
        while let Some(start) = rest.find('<') {
            let text = &rest[..start];
            if let Some(at) = text.find('&') {
                let entity = text[at + 1..].split(';').next().unwrap_or_default();
                if !["amp", "lt", "gt", "quot"].contains(&entity) {
                    return Some(format!("bare & before {:?}", &text[at..]));
                }
            }
            let Some(end) = rest[start..].find('>').map(|end| start + end) else {
                return Some("unclosed <".into());
            };
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                match open.pop() {
                    Some(expected) if expected == name => {}
                    other => return Some(format!("</{name}> closes {other:?}")),
                }
                continue;
            }
            let name = tag.split_whitespace().next().unwrap_or_default();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Some(format!("tag <{tag}>"));
            }
            // name="value" pairs: an even number of quotes, each opening one behind an equals sign.
            let quoted: Vec<&str> = tag[name.len()..].split('"').collect();
            let keys = quoted.iter().step_by(2).filter(|key| !key.trim().is_empty());
            if quoted.len().is_multiple_of(2)
                || keys.clone().any(|key| !key.ends_with('=') || key.matches('=').count() != 1)
            {
                return Some(format!("attributes of <{tag}>"));
            }
            if !VOID.contains(&name) {
                open.push(name);
            }
        }
        (!open.is_empty()).then(|| format!("left open: {open:?}"))
    }

    /// What in a page would make a reader leave the file.
    fn external(html: &str) -> Option<String> {
        let inside = ["src=\"data:image/png;base64,", "href=\"#"];
        for key in ["src=", "href="] {
            for (at, _) in html.match_indices(key) {
                if !inside.iter().any(|allowed| html[at..].starts_with(allowed)) {
                    return Some(html[at..].chars().take(60).collect());
                }
            }
        }
        let words = [
            "://",
            "<script",
            "<link",
            "<iframe",
            "@import",
            "url(",
            "srcset",
            "<base",
            "http-equiv",
        ];
        words.iter().find(|word| html.contains(**word)).map(|word| word.to_string())
    }

    #[test]
    fn the_page_checks_can_fail() {
        for broken in [
            "<p>",
            "<p></b>",
            "<p class=x></p>",
            "<p a=\"1></p>",
            "<p>a & b</p>",
            "<p>< b</p>",
            "<p",
            "<br/>",
            "</br>",
        ] {
            assert!(malformed(&format!("<!DOCTYPE html>{broken}")).is_some(), "{broken} passed");
        }
        assert_eq!(
            malformed("<!DOCTYPE html><p class=\"x\">a &amp; b<br><img alt=\"\"></p>"),
            None
        );
        for leaving in
            ["<img src=\"x.png\"/>", "<a href=\"b.html\">", "http://x", "<script>", "url(x)"]
        {
            assert!(external(leaving).is_some(), "{leaving} passed");
        }
        assert_eq!(external("<a href=\"#x\"><img src=\"data:image/png;base64,AA==\"/>"), None);
    }

    #[test]
    fn a_page_is_well_formed_self_contained_and_complete() {
        let folder = tempfile::tempdir().unwrap();
        let results = write_run(folder.path());
        let html = page_of(&[folder.path()]).unwrap();
        assert_eq!(malformed(&html), None);
        assert_eq!(external(&html), None);
        assert_eq!(html.matches("data:image/png;base64,").count(), 2 * 6 * 3, "tiles");
        assert_eq!(html.matches("<svg ").count(), 1 + 2 * 6, "plots");
        assert_eq!(
            html.matches("<svg ").count(),
            html.matches("role=\"img\"><title>").count(),
            "named plots"
        );
        assert_eq!(
            html.matches("<figure").count(),
            html.matches("<figcaption>").count(),
            "captions"
        );
        assert_eq!(
            html.matches("<table>").count(),
            html.matches("<caption>").count(),
            "table captions"
        );
        assert!(!html.contains("Not in this run"), "nothing is missing");
        for (class, e) in results.headline() {
            let interval = e.full.auroc_95.unwrap();
            let cell = format!(
                "{:.3} <small>({:.3}\u{2013}{:.3})</small>",
                e.full.auroc, interval.low, interval.high
            );
            assert!(html.contains(&cell), "{}: {cell}", class.class);
            assert!(html.contains(&format!(
                "<td>{:.3}</td><td>{:.3}</td><td>{:.3}</td>",
                e.full.aupr, e.full.f1, e.full.fpr95
            )));
            assert!(html.contains(&format!("{:.4}", e.full.f1_threshold.unwrap())), "threshold");
        }
        let mean = results.headline_mean().unwrap();
        for value in [mean.full.auroc, mean.reconstruction.auroc, mean.gradient.auroc] {
            assert!(html.contains(&format!("<b>{value:.3}</b>")));
        }
        for text in [
            "9.8.7",
            "2026-01-02T03:04:05Z",
            "fmnist",
            "Test &quot;device&quot; &lt;1&gt;",
            "<dd>42</dd>",
            "<dd>0.12</dd>",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert!(html.contains("alpha = 0.03 # &lt;0.1 &amp; &gt;0"), "configuration");
        assert!(html.contains("Bag &amp; &lt;Co&gt;") && !html.contains("<Co>"));
        assert!(html.contains("<code>data/fm &amp; nist</code>"), "the folder of the data");
        let hash = "0123456789abcdef".repeat(4);
        assert!(
            html.contains(&format!("manifest.json: {hash}\">0123456789ab</abbr>")),
            "short hash, whole on hover"
        );
        assert!(html.contains("epoch 2 of 3"));
        assert!(html.contains("@media print") && html.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let results = write_run(folder.path());
        let full = page_of(&[folder.path()]).unwrap();
        std::fs::remove_file(folder.path().join("config.toml")).unwrap();
        std::fs::remove_dir_all(folder.path().join("models/T-shirt-top")).unwrap();
        std::fs::remove_file(EvalPlace::own(folder.path()).class(CLASSES[1]).join("scores.csv"))
            .unwrap();
        std::fs::remove_file(EvalPlace::own(folder.path()).class(CLASSES[1]).join("extremes.json"))
            .unwrap();
        let run = Run::read(folder.path()).unwrap();
        let gone = [
            "config.toml",
            "models/T-shirt-top/metrics.csv",
            "eval/Bag----Co-/scores.csv",
            "eval/Bag----Co-/extremes.json",
        ];
        assert_eq!(run.missing.iter().map(|m| m.replace('\\', "/")).collect::<Vec<_>>(), gone);
        let html = page(&[run]).unwrap();
        assert_eq!(malformed(&html), None);
        for name in gone {
            assert!(html.contains(&format!("<code>{name}</code>")), "{name}");
        }
        assert_eq!(
            html.matches("<svg ").count(),
            full.matches("<svg ").count() - 6,
            "three plots of each class are gone"
        );
        assert!(
            html.contains(&format!("<b>{:.3}</b>", results.headline_mean().unwrap().full.auroc))
        );

        std::fs::remove_file(folder.path().join("results.json")).unwrap();
        let message = page_of(&[folder.path()]).unwrap_err().to_string();
        assert!(message.contains("no results.json"), "{message}");
        assert_eq!(page(&[]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn scores_that_are_not_the_results_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        let scores = EvalPlace::own(folder.path()).class(CLASSES[0]).join("scores.csv");
        write_scores(&scores, &rows(0.4)).unwrap();
        let message = page_of(&[folder.path()]).unwrap_err().to_string();
        assert!(
            message.contains("T-shirt/top") && message.contains("results.json says"),
            "{message}"
        );
    }

    #[test]
    fn an_index_to_no_png_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path());
        std::fs::write(
            EvalPlace::own(folder.path()).class(CLASSES[0]).join("normal-00-input.png"),
            "secret",
        )
        .unwrap();
        let message = page_of(&[folder.path()]).unwrap_err().to_string();
        assert!(message.ends_with("normal-00-input.png: not a PNG file"), "{message}");
    }

    #[test]
    fn a_run_of_one_class_keeps_its_training_at_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let mut single = results(0.1);
        single.classes.truncate(1);
        Results::new(about(), single.classes, vec![]).unwrap().write(folder.path()).unwrap();
        let losses = Losses { total: 0.1, mse: 0.1, grad: 0.0 };
        let row = EpochRow {
            epoch: 1,
            train: losses,
            val: None,
            cosines: [0.0; 4],
            images_per_second: 1.0,
            best: true,
        };
        write_epochs(&folder.path().join("metrics.csv"), &[row]).unwrap();
        let html = page_of(&[folder.path()]).unwrap();
        assert_eq!(malformed(&html), None);
        assert_eq!(
            html.matches("<svg ").count(),
            3,
            "training curves of a single epoch without validation"
        );
        assert!(html.contains("<span>AUROC, GradCon</span>") && !html.contains("mean AUROC"));
        assert_eq!(html.matches("\">1</text>").count(), 3, "the only epoch is named on each axis");
        assert!(!html.contains("NaN") && !html.contains("inf "), "a coordinate is no number");
    }

    /// A folder of three seeds, complete.
    fn write_seeds(folder: &Path) -> Results {
        let runs = [(7, 0.1), (1, 0.2), (3, 0.15)].map(|(seed, shift)| {
            let place = folders::seed(folder, seed);
            std::fs::create_dir_all(&place).unwrap();
            let mut results = write_run_of(&place, shift);
            results.about.seed = Some(seed);
            (seed, results)
        });
        std::fs::write(folder.join("config.toml"), "alpha = 0.03\nseeds = [7, 1, 3]\n").unwrap();
        let over = over(&runs);
        over.write(folder).unwrap();
        over
    }

    #[test]
    fn a_page_over_seeds_is_complete_and_shows_means() {
        let folder = tempfile::tempdir().unwrap();
        let over = write_seeds(folder.path());
        let run = Run::read(folder.path()).unwrap();
        assert_eq!((run.missing.len(), run.trainings.len()), (0, 3), "{:?}", run.missing);
        let html = page(&[run]).unwrap();
        assert_eq!(malformed(&html), None);
        assert_eq!(external(&html), None);
        assert!(!html.contains("Not in this run"), "nothing is missing");
        assert_eq!(
            html.matches("<svg ").count(),
            1 + 2 * 4,
            "classes, then ROC and three losses of each"
        );
        for (_, m) in over.headline_mean().unwrap().parts() {
            let std = m.std.unwrap().auroc;
            assert!(
                html.contains(&format!("<b>{:.3} <small>\u{b1} {std:.3}</small></b>", m.auroc)),
                "{m:?}"
            );
        }
        for (class, e) in over.headline() {
            let std = e.full.std.unwrap();
            for (value, std) in
                [(e.full.auroc, std.auroc), (e.full.aupr, std.aupr), (e.full.fpr95, std.fpr95)]
            {
                assert!(
                    html.contains(&format!("{value:.3} <small>\u{b1} {std:.3}</small>")),
                    "{}",
                    class.class
                );
            }
        }
        for text in [
            "<dd>7, 1, 3</dd>",
            "seed 7</th>",
            "3 seeds (7, 1, 3)",
            "seed-1</code>",
            "seeds = [7, 1, 3]",
        ] {
            assert!(html.contains(text), "{text}");
        }
        // One curve for each seed: each class has four plots.
        assert_eq!(html.matches("class=\"line s2 solid\"").count(), 2 * 4);

        // What is missing is missing of a seed.
        std::fs::remove_file(
            folders::seed(folder.path(), 1).join("models/T-shirt-top/metrics.csv"),
        )
        .unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!(run.missing, ["seed-1/models/T-shirt-top/metrics.csv"]);
        let html = page(&[run]).unwrap();
        assert_eq!(malformed(&html), None);
        assert!(html.contains("<code>seed-1/models/T-shirt-top/metrics.csv</code>"));

        // Scores of another evaluation than the results'.
        write_scores(
            &EvalPlace::own(&folders::seed(folder.path(), 3)).class(CLASSES[1]).join("scores.csv"),
            &rows(0.4),
        )
        .unwrap();
        let message = page_of(&[folder.path()]).unwrap_err().to_string();
        assert!(
            message.contains("Bag & <Co>, seed 3") && message.contains("results.json says"),
            "{message}"
        );
    }

    #[test]
    fn an_evaluation_on_other_data_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("shoes");
        std::fs::create_dir(&run).unwrap();
        write_run(&run);
        let move_to_other = |run: &Path| {
            let place = EvalPlace::other(run, "new");
            std::fs::rename(run.join("eval"), &place.results).unwrap();
            std::fs::rename(run.join("results.json"), place.results.join("results.json")).unwrap();
            place.results
        };
        let read = Run::read(&move_to_other(&run)).unwrap();
        assert_eq!(
            (read.name.as_str(), read.missing.len()),
            ("shoes/eval-new", 0),
            "{:?}",
            read.missing
        );
        assert!(read.config.as_ref().unwrap().contains("alpha"), "the run's configuration");
        let html = page(&[read]).unwrap();
        assert_eq!(malformed(&html), None);
        assert!(
            html.contains("<title>shoes/eval-new on fmnist")
                && html.contains("<code>data/fm &amp; nist</code>")
        );
        assert_eq!(html.matches("<svg ").count(), 1 + 2 * 6, "plots");
        assert_eq!(html.matches("data:image/png;base64,").count(), 2 * 6 * 3, "tiles");

        // The same of several seeds.
        let seeds = folder.path().join("seeds");
        write_seeds(&seeds);
        for seed in [7, 1, 3] {
            move_to_other(&folders::seed(&seeds, seed));
        }
        let other = EvalPlace::other(&seeds, "new").results;
        std::fs::create_dir(&other).unwrap();
        std::fs::rename(seeds.join("results.json"), other.join("results.json")).unwrap();
        let read = Run::read(&other).unwrap();
        assert_eq!(
            (read.name.as_str(), read.missing.len()),
            ("seeds/eval-new", 0),
            "{:?}",
            read.missing
        );
        assert_eq!(page(&[read]).unwrap().matches("<svg ").count(), 1 + 2 * 4, "plots");

        // A run may be called so itself.
        let own = folder.path().join("eval-run");
        std::fs::create_dir(&own).unwrap();
        write_run(&own);
        assert_eq!(Run::read(&own).unwrap().name, "eval-run");
    }

    #[test]
    fn several_runs_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("first"), folder.path().join("second"));
        let (first, second) = (results(0.1), results(0.2));
        first.write(&a).unwrap();
        second.write(&b).unwrap();
        let html = page_of(&[a, b]).unwrap();
        assert_eq!(malformed(&html), None);
        assert_eq!(external(&html), None);
        assert!(html.contains("2 runs compared"));
        let ids: Vec<&str> = html
            .match_indices(" id=\"")
            .map(|(at, _)| html[at + 5..].split('"').next().unwrap())
            .collect();
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), unique.len()), (4, 4), "{ids:?}");
        let (x, y) =
            (first.headline_mean().unwrap().full.auroc, second.headline_mean().unwrap().full.auroc);
        assert!(y > x, "the second run separates better");
        let wanted =
            format!("<th scope=\"row\">mean</th><td>{x:.3}</td><td><strong>{y:.3}</strong></td>");
        assert!(html.contains(&wanted), "{wanted}");

        // A mean over other classes is no better or worse, and neither is any number of other data.
        let compared = |second: &Results| {
            let (a, b) = (folder.path().join("first"), folder.path().join("second"));
            second.write(&b).unwrap();
            page_of(&[a, b]).unwrap()
        };
        let mut fewer = second.classes.clone();
        fewer.truncate(1);
        let html = compared(&Results::new(about(), fewer, vec![]).unwrap());
        assert!(
            html.contains(&format!("<th scope=\"row\">mean</th><td>{x:.3}</td><td>0.")),
            "no best mean"
        );
        assert!(html.contains("but for means over different classes"));
        let mut elsewhere = second.clone();
        elsewhere.about.data_sha256 = Some("f".repeat(64));
        let html = compared(&elsewhere);
        let table = html.split("</table>").next().unwrap();
        assert!(
            table.contains("evaluated on different data") && !table.contains("<strong>"),
            "{table}"
        );
    }

    #[test]
    fn challenges_have_a_table_of_levels() {
        let folder = tempfile::tempdir().unwrap();
        let at = |shift: f64| Evaluation::of(50.0, &rows(shift), None).unwrap();
        let entry = |challenge: &str, level, shift| ChallengeResult {
            challenge: challenge.into(),
            level,
            evaluation: at(shift),
        };
        let challenges = vec![entry("Rain", 5, 0.3), entry("Rain", 1, 0.1), entry("Haze", 5, 0.2)];
        let results = Results::new(about(), vec![], challenges).unwrap();
        results.write(folder.path()).unwrap();
        let markdown = tables::markdown(&results);
        let three = |shift: f64| format!("{:.3}", at(shift).full.auroc);
        assert!(markdown.contains("| challenge | level 1 | level 5 |"), "{markdown}");
        assert!(
            markdown.contains(&format!("| Rain | {} | {} |", three(0.1), three(0.3))),
            "{markdown}"
        );
        assert!(markdown.contains(&format!("| Haze | - | {} |", three(0.2))), "{markdown}");
        let html = page_of(&[folder.path()]).unwrap();
        assert_eq!(malformed(&html), None);
        let wanted =
            format!("<th scope=\"row\">Haze</th><td>not evaluated</td><td>{}</td>", three(0.2));
        assert!(html.contains(&wanted), "{wanted}");
    }

    #[test]
    fn a_card_says_what_is_known_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let evaluation = results(0.1).classes[0].evaluations[1].clone();
        let mut card = Card {
            name: "gradcon-fmnist-0".into(),
            dataset: "fm\"nist".into(),
            data: Some("data/a|b".into()),
            data_sha256: Some("0123456789abcdef".repeat(4)),
            class: "a|b".into(),
            model: "cae".into(),
            input: [28, 28, 1],
            parameters: 230_721,
            alpha: 0.03,
            beta: 0.12,
            epochs: 7,
            best_epoch: Some(5),
            seed: Some(42),
            device: "CPU".into(),
            date: "2026-01-02T03:04:05Z".into(),
            gradcon_version: "9.8.7".into(),
            threshold: Some(-0.0123),
            evaluation: Some(evaluation.clone()),
        };
        write_card(folder.path(), &card).unwrap();
        let text = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
        let mut parts = text.splitn(3, "---\n");
        let (start, front, body) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(start, "");
        assert!(front.contains("model-index:\n- name: \"gradcon-fmnist-0\"\n"));
        assert!(front.contains("datasets:\n- \"fm\\\"nist\"\n"), "{front}");
        assert!(front.contains("      type: \"fm\\\"nist\"\n"), "{front}");
        let value = format!(
            "    - type: roc_auc\n      name: AUROC\n      value: {}\n",
            evaluation.full.auroc
        );
        assert!(front.contains(&value), "{front}");
        for wanted in [
            "230721 parameters",
            "| alpha | 0.03 |",
            "| seed | 42 |",
            "-0.0123",
            "of epoch 5",
            "a\\|b",
            "| folder | data/a\\|b |",
            "| manifest SHA-256 | 0123456789abcdef0",
        ] {
            assert!(body.contains(wanted), "{wanted} not in {body}");
        }
        let line = format!(
            "| gradient only | {:.3} | {:.3} to ",
            evaluation.gradient.auroc,
            evaluation.gradient.auroc_95.unwrap().low
        );
        assert!(body.contains(&line), "{line}");
        (card.evaluation, card.threshold, card.seed, card.best_epoch) = (None, None, None, None);
        (card.data, card.data_sha256) = (None, None);
        let bare = card.markdown();
        for absent in ["| folder |", "SHA-256", "model-index", "threshold |", "| seed", "of epoch"]
        {
            assert!(!bare.contains(absent), "{absent}");
        }
        assert!(bare.contains("Not evaluated yet."));
    }
}
