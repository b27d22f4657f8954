//! Metrics of maps against masks.

use serde::Deserialize;

use gradcon::report::pixels::{Maps, PixelResult};

#[derive(Deserialize)]
struct Case {
    name: String,
    size: usize,
    maps: Vec<f32>,
    masks: Vec<u8>,
    auroc: f64,
    pro: f64,
    regions: usize,
}

fn cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let text = include_str!("../fixtures/report/pixels.json");
    serde_json::from_str::<File>(text).unwrap().cases
}

fn maps(case: &Case) -> Maps<'_> {
    let masks = case.masks.chunks(case.size * case.size).map(Some).collect();
    Maps { size: case.size, maps: &case.maps, masks, flagged: None }
}

#[test]
fn pixels_and_regions_are_judged_as_scikit_learn_and_scipy_do() {
    for case in cases() {
        let found = PixelResult::of(&maps(&case)).unwrap().unwrap();
        assert_eq!(found.regions, case.regions, "{}", case.name);
        for (found, expected) in [(found.auroc, case.auroc), (found.pro, case.pro)] {
            assert!((found - expected).abs() < 1e-12, "{}: {found}, {expected}", case.name);
        }
        assert_eq!((found.found, found.found_hits), (None, None));
    }
}

#[test]
fn images_without_a_mask_do_not_count() {
    let case = &cases()[0];
    let all = PixelResult::of(&maps(case)).unwrap();
    let (mut more, unknown) = (case.maps.clone(), vec![1e9; case.size * case.size]);
    more.extend(unknown);
    let mut masks = maps(case).masks;
    masks.push(None);
    let found = PixelResult::of(&Maps { masks, maps: &more, ..maps(case) }).unwrap();
    assert_eq!(found, all);
    // Nothing to find.
    let normal = vec![0; case.size * case.size];
    let masks = vec![Some(&normal[..]); case.maps.len() / normal.len()];
    assert_eq!(PixelResult::of(&Maps { masks, ..maps(case) }).unwrap(), None);
}

#[test]
fn maps_that_are_no_numbers_or_do_not_fit_are_refused() {
    let case = &cases()[0];
    let mut bad = case.maps.clone();
    bad[5] = f32::NAN;
    let error = PixelResult::of(&Maps { maps: &bad, ..maps(case) }).unwrap_err().to_string();
    assert!(error.contains("image 0 has NaN"), "{error}");
    let error = PixelResult::of(&Maps { maps: &bad[1..], ..maps(case) }).unwrap_err().to_string();
    assert!(error.contains("values of maps for 5 masks of 13 x 13"), "{error}");
}

#[test]
fn of_large_maps_every_second_pixel_counts() {
    // The defect is where the map is high; a second one, of one pixel, lies between.
    let size = 300;
    let at = |i: usize| (i / size, i % size);
    let inside = |(y, x): (usize, usize)| (100..150).contains(&y) && (60..90).contains(&x);
    let map: Vec<f32> = (0..size * size).map(|i| f32::from(u8::from(inside(at(i))))).collect();
    let mask: Vec<u8> =
        (0..size * size).map(|i| u8::from(inside(at(i)) || at(i) == (1, 1))).collect();
    let what = Maps { size, maps: &map, masks: vec![Some(&mask)], flagged: Some(vec![true]) };
    let found = PixelResult::of(&what).unwrap().unwrap();
    assert_eq!((found.regions, found.auroc, found.pro), (1, 1.0, 1.0));
    assert_eq!((found.found, found.found_hits), (Some(1), Some(1)));
}
