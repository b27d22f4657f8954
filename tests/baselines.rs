//! Baselines against their definitions, written out: principal components from the covariance, and
//! nearest neighbours one by one. The rows of an evaluation are tested in tests/cli.rs and tiles.rs.

use gradcon::method::baselines::{Components, Neighbours};
use gradcon::{Images, Result};
use nalgebra::{DMatrix, Dyn, SymmetricEigen};

/// Images about two waves, with some noise.
fn images(n: usize, [height, width, channels]: [usize; 3]) -> Images {
    let len = height * width * channels;
    let pixel = |i: usize| {
        let (image, at) = ((i / len) as f64, (i % len) as f64);
        let waves = (1.3 * image).sin() * (0.4 * at).sin() + (2.9 * image).cos() * at / 50.0;
        (128.0 + 60.0 * waves + ((i * 7919) % 23) as f64).clamp(0.0, 255.0) as u8
    };
    Images::new((0..n * len).map(pixel).collect(), [n, height, width, channels]).unwrap()
}

/// r^2 and the number of components by the definition: eigenvectors of the covariance.
fn expected(train: &Images, test: &Images) -> (Vec<f64>, usize) {
    let len = train.image_len();
    let matrix = |images: &Images| {
        DMatrix::from_fn(images.n, len, |i, k| f64::from(images.image(i)[k]) / 255.0)
    };
    let (rows, test) = (matrix(train), matrix(test));
    let mean: Vec<f64> = (0..len).map(|k| rows.column(k).mean()).collect();
    let covariance = DMatrix::from_fn(len, len, |a, b| {
        let product =
            |i: usize| (rows[(i, a)] - mean[a]) * (rows[(i, b)] - mean[b]) / train.n as f64;
        (0..train.n).map(product).sum()
    });
    let total = covariance.trace();
    let eigen: SymmetricEigen<f64, Dyn> = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let sum = |count: usize| order[..count].iter().map(|&i| eigen.eigenvalues[i]).sum::<f64>();
    let count = (0..=len).find(|&count| sum(count) >= 0.95 * total).unwrap();
    let residual = |i: usize| {
        let away: Vec<f64> = (0..len).map(|k| test[(i, k)] - mean[k]).collect();
        let mut rest = away.clone();
        for &axis in &order[..count] {
            let axis = eigen.eigenvectors.column(axis);
            let along: f64 = axis.iter().zip(&away).map(|(a, v)| a * v).sum();
            rest.iter_mut().zip(axis.iter()).for_each(|(rest, a)| *rest -= along * a);
        }
        rest.iter().map(|v| v * v).sum::<f64>() / len as f64
    };
    ((0..test.nrows()).map(residual).collect(), count)
}

#[test]
fn a_residual_is_what_is_beside_the_components() -> Result<()> {
    for (n, shape, tested) in [
        (2, [5, 3, 1], 1),
        (37, [5, 3, 2], 65),
        (9, [7, 7, 3], 64),
        (150, [4, 6, 1], 131),
        (301, [1, 9, 3], 3),
    ] {
        let all = images(n + tested, shape);
        let (train, test) = all.split_at(n);
        let components = Components::of(&train, 0)?;
        let (expected, count) = expected(&train, &test);
        assert_eq!(components.count(), count, "{n} {shape:?}");
        let found = components.residuals(&test);
        assert_eq!(found.len(), tested);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{n}: {found} {expected}");
        }
    }
    Ok(())
}

#[test]
fn images_without_variance_have_no_component() -> Result<()> {
    let same = Images::new([10, 20, 30].repeat(4), [4, 1, 3, 1])?;
    for train in [same.clone(), same.split_at(1).0] {
        let components = Components::of(&train, 0)?;
        assert_eq!(components.count(), 0);
        let test = Images::new(vec![10, 20, 30, 10, 20, 81], [2, 1, 3, 1])?;
        let found = components.residuals(&test);
        assert!(found[0].abs() < 1e-20 && (found[1] - 0.04 / 3.0).abs() < 1e-12, "{found:?}");
    }
    assert!(Components::of(&Images::new(vec![], [0, 1, 3, 1])?, 0).is_err());
    Ok(())
}

#[test]
fn many_images_are_drawn_by_the_seed() -> Result<()> {
    let (train, test) = images(1243, [2, 3, 1]).split_at(1200);
    let of = |seed| Components::of(&train, seed);
    let components = of(7)?;
    assert_eq!(components, of(7)?);
    assert_ne!(components, of(8)?);
    // What was drawn stands for all of them.
    let [found, expected] = [components.residuals(&test), expected(&train, &test).0];
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 0.1 * expected + 1e-5, "{found} {expected}");
    }
    Ok(())
}

#[test]
fn the_nearest_code_is_found() -> Result<()> {
    let wave = |i: usize, k: f64| ((i as f64 * k).sin() * 3.0 + 100.0) as f32;
    for (n, len, asked) in [(1, 1, 3), (7, 15, 2), (50, 17, 40), (3, 576, 5)] {
        let known: Vec<f32> = (0..n * len).map(|i| wave(i, 1.7)).collect();
        let codes: Vec<f32> = (0..asked * len).map(|i| wave(i, 2.3)).collect();
        let found = Neighbours::of(known.clone(), len)?.distances(&codes);
        assert_eq!(found.len(), asked);
        for (i, found) in found.into_iter().enumerate() {
            let to = |j: usize| {
                let away = |k: usize| f64::from(codes[i * len + k] - known[j * len + k]);
                (0..len).map(|k| away(k).powi(2)).sum::<f64>().sqrt()
            };
            let expected = (0..n).map(to).fold(f64::INFINITY, f64::min);
            assert!((found - expected).abs() <= 1e-6 * expected, "{n} {len}: {found} {expected}");
        }
        assert!(Neighbours::of(known.clone(), len)?.distances(&known).iter().all(|&d| d == 0.0));
    }
    assert!(Neighbours::of(vec![], 3).is_err() && Neighbours::of(vec![f32::NAN], 1).is_err());
    Ok(())
}
