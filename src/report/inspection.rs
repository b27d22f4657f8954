//! The page of images under a lens: each decoder layer's gradient of an image, filter by filter,
//! beside the reference; where in the image the score comes from; and how normal and anomalous
//! images part, layer by layer.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::colour::{heat, signed};
use super::file::write_atomic;
use super::metrics::auroc;
use super::page::{Row, document, figure, row, table};
use super::plot::Histogram;
use super::svg;
use super::tables::three;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::sheet::{grid, png};

/// A decoder layer's gradient of one image, and the reference; both weights in PyTorch's layout.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Channels in and out, height and width of a filter.
    pub shape: [usize; 4],
    /// The image's gradient.
    pub gradient: Vec<f32>,
    /// The reference.
    pub reference: Vec<f32>,
    /// The cosine of the two.
    pub cosine: f64,
}

/// One image, as the model sees it; pictures are `[channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Looked {
    /// What it is called.
    pub name: String,
    /// What else there is to say: which of its tiles this is.
    pub what: Option<String>,
    /// Its squared error.
    pub mse: f64,
    /// The paper's score.
    pub score: f64,
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// The image.
    pub input: Vec<f32>,
    /// What the model made of it.
    pub reconstruction: Vec<f32>,
    /// The gradient of the paper's score in its values.
    pub score_gradient: Vec<f32>,
    /// The decoder's layers, first to last.
    pub layers: Vec<Layer>,
}

/// What is known of one kind of images.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Of each image: the cosines of the layers, then their mean.
    pub cosines: Vec<Vec<f64>>,
    /// Their directions in the plane.
    pub plane: Vec<[f64; 2]>,
}

/// Normal and anomalous images, told apart by their gradients.
#[derive(Clone, Debug)]
pub struct Separation {
    /// Names of the layers, first to last.
    pub layers: Vec<String>,
    /// The normal images.
    pub normal: Side,
    /// The anomalous images.
    pub anomalous: Side,
    /// The reference's direction in the plane.
    pub reference: [f64; 2],
    /// How much of the directions' variance each axis of the plane has.
    pub variance: [f64; 2],
}

/// A page, and the pictures in it.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// Facts by name.
    pub facts: Vec<(String, String)>,
    /// The images.
    pub images: Vec<Looked>,
    /// What normal and anomalous images were compared, if any were.
    pub separation: Option<Separation>,
}

/// Pixels that a picture of an image has across at least, more or less, as a file.
const LEAST_WIDTH: usize = 200;

/// Filters that are shown by themselves: where a gradient differs most from the reference.
const WORST: usize = 3;

const FOOTER: &str = "Gradients are those of the squared error of one image in the weights of a decoder layer; the \
                      reference is their mean over the training. Both are drawn as directions, divided by their \
                      norms, with the same colours: blue below zero, white at zero, red above. A square of 4 x 4 is \
                      one filter: columns are input channels, rows are output channels (of a layer with one output channel, \
                      the inputs lie in two rows). A cosine of 1 is the same \
                      direction, 0 has nothing to do with it.";

impl Page {
    /// The page as one HTML file without a script.
    ///
    /// # Errors
    /// Pictures of neither 1 nor 3 channels.
    pub fn html(&self) -> Result<String> {
        let pictures = self.images.iter().map(pictures).collect::<Result<Vec<_>>>()?;
        let images = self.images.iter().zip(&pictures);
        let separation = self.separation.as_ref().map(separation).transpose()?;
        let body = html! {
            h1 { (self.title) }
            dl class="facts" {
                @for (name, value) in &self.facts { div { dt { (name) } dd { (value) } } }
            }
            @for (image, pictures) in images { (section(image, pictures)?) }
            @if let Some(separation) = separation { (separation) }
        };
        Ok(document(&self.title, body, html! { p { (FOOTER) } }))
    }

    /// Writes every picture of the page as a file of its own below `folder`: PNG, and SVG for plots.
    ///
    /// # Errors
    /// As [`Page::html`]; the file system's.
    pub fn write_pictures(&self, folder: &Path) -> Result<usize> {
        let mut written = 0;
        let mut write = |name: String, bytes: &[u8]| {
            written += 1;
            write_atomic(&folder.join(name), bytes)
        };
        for (i, image) in self.images.iter().enumerate() {
            let Pictures { looks, layers } = pictures(image)?;
            for (name, picture, _) in &looks {
                // By itself, a picture of 28 pixels would be the size of a letter.
                let picture = grid(picture, 1, (LEAST_WIDTH / picture.width).max(1));
                write(format!("{i:02}-{name}.png"), &png(&picture, 0)?)?;
            }
            for (layer, Drawn { gradient, reference, .. }) in image.layers.iter().zip(&layers) {
                write(format!("{i:02}-{}-gradient.png", layer.name), &png(gradient, 0)?)?;
                write(format!("{i:02}-{}-reference.png", layer.name), &png(reference, 0)?)?;
            }
        }
        for (name, plot) in self.separation.iter().map(plots).collect::<Result<Vec<_>>>()?.concat()
        {
            write(format!("{name}.svg"), svg::standalone(plot).as_bytes())?;
        }
        Ok(written)
    }
}

/// The pictures of one image.
struct Pictures {
    /// File name, picture, and what it shows.
    looks: Vec<(&'static str, Images, String)>,
    layers: Vec<Drawn>,
}

/// A layer drawn.
struct Drawn {
    gradient: Images,
    reference: Images,
    /// Where the two differ most: the filter (input, output channel), its share of the squared
    /// distance, and both of it side by side.
    worst: Vec<((usize, usize), f64, Images)>,
}

fn pictures(image: &Looked) -> Result<Pictures> {
    let [channels, height, width] = image.shape;
    let positions = height * width;
    let seen = |values: &[f32]| {
        let data =
            (0..positions).flat_map(|p| (0..channels).map(move |c| values[c * positions + p]));
        let data = data.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        Images::new(data, [1, height, width, channels])
    };
    // A mean over channels as a heat map; its brightest value is named.
    let map = |value: &dyn Fn(usize) -> f32| {
        let mean = |p: usize| {
            (0..channels).map(|c| value(c * positions + p)).sum::<f32>() / channels as f32
        };
        let values: Vec<f32> = (0..positions).map(mean).collect();
        let top = values.iter().copied().fold(0.0, f32::max);
        let level = |v: f32| if top > 0.0 { v / top } else { 0.0 };
        let data = values.iter().flat_map(|&v| heat(level(v))).collect();
        Images::new(data, [1, height, width, 3]).map(|picture| (picture, top))
    };
    let (error, most) = map(&|i| (image.reconstruction[i] - image.input[i]).powi(2))?;
    let (score, steepest) = map(&|i| image.score_gradient[i].abs())?;
    let looks = vec![
        ("input", seen(&image.input)?, "the image".to_string()),
        ("reconstruction", seen(&image.reconstruction)?, "its reconstruction".to_string()),
        ("error", error, format!("squared error, at most {most:.3}")),
        (
            "score-gradient",
            score,
            format!("how steeply the score rises or falls with each pixel, at most {steepest:.2e}"),
        ),
    ];
    Ok(Pictures { looks, layers: image.layers.iter().map(drawn).collect() })
}

/// The colour between filters, which is no value's.
const BETWEEN: u8 = 200;

/// All filters [n, h, w, 3] in reading order, `columns` side by side, a pixel apart.
fn mosaic(filters: &Images, columns: usize) -> Images {
    let (h, w) = (filters.height + 1, filters.width + 1);
    let (height, width) = (filters.n.div_ceil(columns) * h - 1, columns * w - 1);
    let mut data = vec![BETWEEN; height * width * 3];
    for k in 0..filters.n {
        let corner = k / columns * h * width + k % columns * w;
        for (y, row) in filters.image(k).chunks_exact(filters.width * 3).enumerate() {
            data[(corner + y * width) * 3..][..row.len()].copy_from_slice(row);
        }
    }
    Images { data, n: 1, height, width, channels: 3 }
}

/// A vector's direction; zeros stay zeros.
fn direction(values: &[f32]) -> Vec<f32> {
    let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    values.iter().map(|&v| (f64::from(v) * scale) as f32).collect()
}

/// Filters by how far their gradients are apart, the farthest first, with their shares of the
/// squared distance.
fn differences(gradient: &[f32], reference: &[f32], taps: usize) -> Vec<(usize, f64)> {
    let pairs = gradient.chunks_exact(taps).zip(reference.chunks_exact(taps));
    let apart = |(a, b): (&[f32], &[f32])| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).powi(2)).sum()
    };
    let all: Vec<f64> = pairs.map(apart).collect();
    let total = all.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut order: Vec<(usize, f64)> = all.iter().map(|d| d / total).enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order
}

fn drawn(layer: &Layer) -> Drawn {
    let [inputs, outputs, height, width] = layer.shape;
    let (gradient, reference) = (direction(&layer.gradient), direction(&layer.reference));
    // All but a few hundredths of the reference's values are below the strongest colour.
    let mut sizes: Vec<f32> = reference.iter().map(|v| v.abs()).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let limit = sizes[(sizes.len() - 1) * 98 / 100].max(f32::MIN_POSITIVE);
    let filters = |values: &[f32], which: &[usize]| {
        let taps = height * width;
        let filter = |&i: &usize| &values[i * taps..(i + 1) * taps];
        let data = which.iter().flat_map(filter).flat_map(|&v| signed(v / limit)).collect();
        Images { data, n: which.len(), height, width, channels: 3 }
    };
    // Rows are output channels: a filter's number counts inputs first.
    let order: Vec<usize> =
        (0..outputs).flat_map(|o| (0..inputs).map(move |i| i * outputs + o)).collect();
    // A single row of many is laid in two.
    let across = if outputs == 1 { inputs.div_ceil(2) } else { inputs };
    let picture = |values: &[f32]| mosaic(&filters(values, &order), across);
    let worst = differences(&gradient, &reference, height * width).into_iter().take(WORST);
    let worst = worst.map(|(i, share)| {
        let [a, b] = [&gradient, &reference].map(|values| filters(values, &[i]));
        let both = Images { data: [a.data, b.data].concat(), n: 2, ..a };
        ((i / outputs, i % outputs), share, grid(&both, 2, 8))
    });
    let worst = worst.collect();
    Drawn { gradient: picture(&gradient), reference: picture(&reference), worst }
}

/// A picture inside of the page.
fn inline(picture: &Images, alt: &str) -> Result<Markup> {
    let data = format!("data:image/png;base64,{}", STANDARD.encode(png(picture, 0)?));
    Ok(html! { img src=(data) alt=(alt); })
}

fn section(image: &Looked, Pictures { looks, layers }: &Pictures) -> Result<Markup> {
    let looks = looks
        .iter()
        .map(|(_, picture, caption)| Ok(figure("", inline(picture, caption)?, caption)));
    let looks = looks.collect::<Result<Vec<_>>>()?;
    let layers = image.layers.iter().zip(layers).map(|(layer, drawn)| of_layer(layer, drawn));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let cosines = image.layers.iter().map(|layer| layer.cosine).sum::<f64>();
    let cosine = cosines / image.layers.len() as f64;
    Ok(html! {
        section {
            h2 {
                (image.name)
                small {
                    "score " (format!("{:.4}", image.score)) ": error "
                    (format!("{:.4}", image.mse)) ", mean cosine " (three(cosine))
                }
            }
            @if let Some(what) = &image.what { p class="hint" { (what) } }
            div class="looks" { @for look in looks { (look) } }
            p class="hint" {
                "Below each layer: the filters whose directions are farthest apart, the image's on the \
                 left, and their shares of the squared distance."
            }
            div class="layers" { @for layer in layers { (layer) } }
        }
    })
}

fn of_layer(layer: &Layer, drawn: &Drawn) -> Result<Markup> {
    let [inputs, outputs, ..] = layer.shape;
    let gradient = inline(&drawn.gradient, &format!("the image's gradient in {}", layer.name))?;
    let reference = inline(&drawn.reference, &format!("the reference of {}", layer.name))?;
    let worst = drawn.worst.iter().map(|((input, output), share, picture)| {
        let caption = format!("input {input} to output {output}: {:.1} %", 100.0 * share);
        Ok(html! { div class="pair" { (inline(picture, &caption)?) span { (caption) } } })
    });
    let worst = worst.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        div {
            h4 { (layer.name) small { "cosine " (three(layer.cosine)) ", " (inputs) " to " (outputs) " channels" } }
            div class="two" {
                figure { (gradient) figcaption { "this image's gradient" } }
                figure { (reference) figcaption { "the reference" } }
            }
            div class="pairs" { @for pair in worst { (pair) } }
        }
    })
}

impl Separation {
    /// The layers and their mean, by name.
    fn columns(&self) -> Vec<String> {
        self.layers.iter().cloned().chain(["mean".to_string()]).collect()
    }

    /// For each layer and the mean: the mean cosine of the normal images, of the anomalous ones, and
    /// the AUROC of telling them apart by it.
    ///
    /// # Errors
    /// As [`auroc`].
    pub fn rows(&self) -> Result<Vec<(String, [f64; 3])>> {
        let Separation { normal, anomalous, .. } = self;
        let labels: Vec<bool> =
            [vec![false; normal.cosines.len()], vec![true; anomalous.cosines.len()]].concat();
        let row = |(k, name): (usize, String)| {
            let of = |side: &Side| side.cosines.iter().map(|row| row[k]).collect::<Vec<f64>>();
            let [normal, anomalous] = [of(normal), of(anomalous)];
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let means = [mean(&normal), mean(&anomalous)];
            // The lower the cosine, the more anomalous.
            let scores: Vec<f64> = [normal, anomalous].concat().iter().map(|v| -v).collect();
            Ok((name, [means[0], means[1], auroc(&scores, &labels)?]))
        };
        self.columns().into_iter().enumerate().map(row).collect()
    }
}

/// The plots of a separation by the names of their files.
fn plots(separation: &Separation) -> Result<Vec<(String, Markup)>> {
    let Separation { normal, anomalous, reference, variance, .. } = separation;
    let mut all = vec![];
    for (k, name) in separation.columns().into_iter().enumerate() {
        let of = |side: &Side| side.cosines.iter().map(|row| row[k]).collect::<Vec<_>>();
        let bins = Histogram::of(&of(normal), &of(anomalous))?;
        let title = format!("Cosines of {name}");
        let x_name = format!("cosine with the reference, {name}");
        all.push((format!("cosines-{name}"), svg::distributions(&title, &bins, &x_name, None)));
    }
    let [first, second] = variance.map(|share| format!("{:.0} %", 100.0 * share));
    let names = [format!("first axis, {first} of the variance"), format!("second, {second}")];
    let plane = svg::scatter(
        "Directions of the gradients",
        [&names[0], &names[1]],
        [&normal.plane, &anomalous.plane],
        *reference,
    );
    all.push(("directions".to_string(), plane));
    Ok(all)
}

fn separation(separation: &Separation) -> Result<Markup> {
    let Separation { normal, anomalous, .. } = separation;
    let rows = separation
        .rows()?
        .into_iter()
        .map(|(name, numbers)| row(&name, numbers.map(|v| html! { (three(v)) }).to_vec()));
    let rows: Vec<Row> = rows.collect();
    let caption = format!(
        "{} normal and {} anomalous images by the cosines of their gradients with the reference",
        normal.cosines.len(),
        anomalous.cosines.len()
    );
    let mut plots = plots(separation)?;
    let plane = plots.pop().map(|(_, plot)| plot);
    Ok(html! {
        section {
            h2 { "How they part" }
            (table(&caption, "layer", &["normal, mean", "anomalous, mean", "AUROC"], &rows, &[]))
            div class="plots" {
                @for (_, plot) in plots { figure { (plot) } }
                @if let Some(plane) = plane {
                    (figure("", plane, "The directions of all layers' gradients, each layer with the \
                        same weight, in the plane of their two principal axes."))
                }
            }
        }
    })
}

/// The largest page that is written.
const MOST_BYTES: usize = 64 << 20;

/// Errors if a page is too large to open with pleasure.
///
/// # Errors
/// It is.
pub fn check_size(html: &str, images: usize) -> Result<()> {
    if html.len() <= MOST_BYTES {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{images} images make a page of {} MB, expected at most {}: give fewer images, or --dump for \
         all of them as numbers",
        html.len() >> 20,
        MOST_BYTES >> 20
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_most_comes_first() {
        let (a, b) = ([1.0, 0.0, 0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 3.0, 4.0, 0.5, 1.5]);
        let order = differences(&a, &b, 2);
        assert_eq!(order.iter().map(|o| o.0).collect::<Vec<_>>(), [1, 2, 0]);
        assert!((order[0].1 - 25.0 / 26.0).abs() < 1e-12 && order[2].1 == 0.0);
    }

    #[test]
    fn directions_have_norm_one_and_zeros_stay() {
        assert_eq!(direction(&[3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(direction(&[0.0, 0.0]), [0.0, 0.0]);
    }

    /// Filters are where the footer says, in their colours.
    #[test]
    fn filters_lie_by_input_and_output() {
        // 3 inputs, 2 outputs; only input 2, output 1 is not zero.
        let mut gradient = vec![0.0; 3 * 2 * 16];
        gradient[(2 * 2 + 1) * 16..][..16].fill(1.0);
        let layer = Layer {
            name: "up.0".into(),
            shape: [3, 2, 4, 4],
            gradient: gradient.clone(),
            reference: gradient.iter().map(|v| -v).collect(),
            cosine: -1.0,
        };
        let Drawn { gradient, reference, worst } = drawn(&layer);
        let at = |picture: &Images, row: usize, column: usize| {
            let (y, x) = (row * 5 + 2, column * 5 + 3);
            picture.data[(y * picture.width + x) * 3..][..3].to_vec()
        };
        assert_eq!((gradient.height, gradient.width), (9, 14));
        assert_eq!(gradient.data[4 * 3..][..3], [BETWEEN; 3]);
        assert_eq!(at(&gradient, 1, 2), signed(1.0));
        assert_eq!(at(&reference, 1, 2), signed(-1.0));
        assert_eq!(at(&gradient, 0, 2), signed(0.0));
        assert_eq!((worst[0].0, worst[0].1), ((2, 1), 1.0));
    }
}
