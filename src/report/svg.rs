//! The page's plots as inline SVG. Colours are CSS classes of the page, so that plots follow light,
//! dark and print.

use std::fmt::Write;

use maud::{Markup, html};

use super::epochs::{EpochRow, Losses};
use super::metrics::{Metrics, RocPoint, quantile_of_sorted};
use super::plot::{Histogram, drawable, padded, tick_label, ticks};
use super::results::{ClassResult, Evaluation, Formula, PARTS};
use super::scores::Scores;
use super::tables::label;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;

/// How an axis maps values to positions.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// The x axis: the range shown, its name and about how many numbers it gets, perhaps none.
struct Across<'a>((f64, f64), &'a str, usize);

/// A plot area with axes, and what is drawn so far.
struct Plot<'a> {
    title: &'a str,
    drawn: Vec<Markup>,
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl<'a> Plot<'a> {
    /// Draws grid, ticks and axis names. `y` is the range shown; without a name, the y axis has no
    /// numbers.
    fn new(
        title: &'a str,
        across: Across<'_>,
        y: (f64, f64),
        scale: Scale,
        y_name: Option<&str>,
    ) -> Plot<'a> {
        let Across(x, x_name, x_ticks) = across;
        let range = |(low, high): (f64, f64)| padded(drawable(low), drawable(high));
        // A logarithmic axis starts above zero: its range keeps its ratio, not its difference.
        let y = if scale == Scale::Log { (drawable(y.0), drawable(y.1)) } else { range(y) };
        let mut plot = Plot { title, drawn: vec![], x: range(x), y, scale };
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let y_ticks = if y_name.is_some() { plot.y_ticks() } else { Vec::new() };
        for (value, label) in y_ticks {
            let y = plot.py(value);
            plot.path("grid", format!("M{LEFT} {y:.1}H{right}"));
            plot.text(LEFT - 6.0, y + 4.0, "tick end", &label);
        }
        let (values, step) = match x_ticks {
            0 => (vec![], 1.0),
            count => ticks(plot.x.0, plot.x.1, count),
        };
        for value in values {
            let x = plot.px(value);
            plot.path("axis", format!("M{x:.1} {bottom}v4"));
            plot.text(x, bottom + 17.0, "tick mid", &tick_label(value, step));
        }
        plot.path("axis", format!("M{LEFT} {bottom}H{right}"));
        plot.text((LEFT + right) / 2.0, HEIGHT - 8.0, "name mid", x_name);
        plot.text(LEFT, 14.0, "name", y_name.unwrap_or_default());
        plot
    }

    fn y_ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.y;
        if self.scale == Scale::Log {
            let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
            // Over many decades, only their starts or those of some; over few, 2 and 5 as well.
            let steps: &[f64] = if high / low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let decades = (first..=last).step_by((last - first) as usize / 8 + 1);
            let values = decades.flat_map(|d| steps.iter().map(move |m| (m * 10f64.powi(d), d)));
            let inside = values.filter(|(v, _)| (low..=high).contains(v));
            let labelled: Vec<_> = inside.map(|(v, d)| (v, tick_label(v, 10f64.powi(d)))).collect();
            if labelled.len() > 1 {
                return labelled;
            }
        }
        let (values, step) = ticks(low, high, 5);
        values.into_iter().map(|v| (v, tick_label(v, step))).collect()
    }

    fn px(&self, value: f64) -> f64 {
        let value = drawable(value);
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, value: f64) -> f64 {
        let value = drawable(value);
        let at = match self.scale {
            Scale::Linear => (value - self.y.0) / (self.y.1 - self.y.0),
            Scale::Log => (value.ln() - self.y.0.ln()) / (self.y.1.ln() - self.y.0.ln()),
        };
        HEIGHT - BOTTOM - at * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&mut self, class: &str, d: String) {
        self.drawn.push(path(class, &d));
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.drawn.push(html! { text class=(class) x=(tenth(x)) y=(tenth(y)) { (text) } });
    }

    fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut d = String::new();
        for (x, y) in points {
            let _ = write!(
                d,
                "{}{:.1} {:.1}",
                if d.is_empty() { 'M' } else { 'L' },
                self.px(x),
                self.py(y)
            );
        }
        self.path(&format!("line {class}"), d);
    }

    /// A legend in the right part of the top strip, rightmost entry last.
    fn legend(&mut self, entries: &[(&str, String)]) {
        let mut x = WIDTH - RIGHT - entries.iter().map(|(_, name)| legend_width(name)).sum::<f64>();
        for (class, name) in entries {
            self.path(&format!("line {class}"), format!("M{x:.1} 10h14"));
            self.text(x + 18.0, 14.0, "key", name);
            x += legend_width(name);
        }
    }

    fn end(self) -> Markup {
        svg(WIDTH, HEIGHT, self.title, &self.drawn)
    }
}

fn svg(width: f64, height: f64, title: &str, drawn: &[Markup]) -> Markup {
    html! {
        svg viewBox={ "0 0 " (width) " " (height) } role="img" {
            title { (title) }
            @for part in drawn { (part) }
        }
    }
}

fn path(class: &str, d: &str) -> Markup {
    html! { path class=(class) d=(d) {} }
}

/// A coordinate.
fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

/// Room for a key, its name and a gap; letters of the plots' font are about 6 wide.
fn legend_width(name: &str) -> f64 {
    28.0 + 6.0 * name.chars().count() as f64
}

/// ROC curves of the full score and its two parts; each entry is (class of line, name, AUROC,
/// curve).
pub fn roc(title: &str, curves: &[(&str, &str, f64, Vec<RocPoint>)]) -> Markup {
    let mut plot = Plot::new(
        title,
        Across((0.0, 1.0), "false positive rate", 5),
        (0.0, 1.0),
        Scale::Linear,
        Some("true positive rate"),
    );
    plot.line("chance", [(0.0, 0.0), (1.0, 1.0)].into_iter());
    for (class, _, _, curve) in curves.iter().rev() {
        plot.line(class, curve.iter().map(|point| (point.fpr, point.tpr)));
    }
    // Below: curves may go anywhere.
    const ROW: f64 = 18.0;
    for (i, (class, name, auroc, _)) in curves.iter().enumerate() {
        let x = plot.px([0.0, 0.5][i % 2]);
        let y = HEIGHT + 10.0 + ROW * (i / 2) as f64;
        plot.path(&format!("line {class}"), format!("M{x:.1} {:.1}h18", y - 4.0));
        plot.text(x + 24.0, y, "key", &format!("{name} {auroc:.3}"));
    }
    svg(WIDTH, HEIGHT + ROW * curves.len().div_ceil(2) as f64, plot.title, &plot.drawn)
}

/// ROC curves of one score under several seeds, in the colours of [`seed_class`].
pub fn roc_by_seed(title: &str, curves: &[Vec<RocPoint>]) -> Markup {
    let across = Across((0.0, 1.0), "false positive rate", 5);
    let mut plot = Plot::new(title, across, (0.0, 1.0), Scale::Linear, Some("true positive rate"));
    plot.line("chance", [(0.0, 0.0), (1.0, 1.0)].into_iter());
    for (i, curve) in curves.iter().enumerate().rev() {
        plot.line(&seed_class(i), curve.iter().map(|point| (point.fpr, point.tpr)));
    }
    plot.end()
}

/// The class of the i-th of many lines, such as seeds: eight colours, solid, then dashed, then
/// dotted.
pub fn seed_class(i: usize) -> String {
    format!("s{} {}", i % SEED_COLOURS, ["solid", "dashed", "dotted"][i / SEED_COLOURS % 3])
}

/// Colours of seeds in the page's style.
const SEED_COLOURS: usize = 8;

/// Normal and anomalous scores over common bins, with the threshold of the best F1.
pub fn histogram(title: &str, bins: &Histogram, threshold: f64) -> Markup {
    distributions(title, bins, "anomaly score", Some(threshold))
}

/// Any number of normal and of anomalous images over common bins, perhaps with a threshold.
pub fn distributions(
    title: &str,
    bins: &Histogram,
    x_name: &str,
    threshold: Option<f64>,
) -> Markup {
    let x = (
        bins.low.min(threshold.unwrap_or(bins.low)),
        bins.high().max(threshold.unwrap_or(bins.low)),
    );
    let top = bins.top() * 106.0;
    let mut plot = Plot::new(
        title,
        Across(x, x_name, 5),
        (0.0, top),
        Scale::Linear,
        Some("share of images, %"),
    );
    for (class, shares) in [("normal", &bins.normal), ("anomalous", &bins.anomalous)] {
        let mut d = format!("M{:.1} {:.1}", plot.px(bins.low), plot.py(0.0));
        for (i, share) in shares.iter().enumerate() {
            let _ = write!(
                d,
                "V{:.1}H{:.1}",
                plot.py(share * 100.0),
                plot.px(bins.low + bins.step * (i + 1) as f64)
            );
        }
        let _ = write!(d, "V{:.1}Z", plot.py(0.0));
        plot.path(&format!("area {class}"), d);
    }
    if let Some(threshold) = threshold {
        plot.line("threshold", [(threshold, 0.0), (threshold, top)].into_iter());
    }
    plot.legend(&[("normal", "normal".to_string()), ("anomalous", "anomalous".to_string())]);
    plot.end()
}

/// Points in a plane, dots for normal images and triangles for anomalous ones, and a cross.
pub fn scatter(
    title: &str,
    [x_name, y_name]: [&str; 2],
    [normal, anomalous]: [&[[f64; 2]]; 2],
    cross: [f64; 2],
) -> Markup {
    let range = |axis: usize| {
        let all = normal.iter().chain(anomalous).chain([&cross]).map(|point| point[axis]);
        let (low, high) = all
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let gap = 0.05 * (high - low);
        (low - gap, high + gap)
    };
    let across = Across(range(0), x_name, 5);
    let mut plot = Plot::new(title, across, range(1), Scale::Linear, Some(y_name));
    for (class, points) in [("normal", normal), ("anomalous", anomalous)] {
        for &[x, y] in points {
            let (x, y) = (plot.px(x), plot.py(y));
            let d = match class {
                "normal" => {
                    format!("M{:.1} {y:.1}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0Z", x - 2.6)
                }
                _ => format!("M{x:.1} {:.1}l3.2 5.6h-6.4Z", y - 3.4),
            };
            plot.path(&format!("point {class}"), d);
        }
    }
    let (x, y) = (plot.px(cross[0]), plot.py(cross[1]));
    plot.path("line cross", format!("M{:.1} {y:.1}h14M{x:.1} {:.1}v14", x - 7.0, y - 7.0));
    let entries = [("normal", "normal"), ("anomalous", "anomalous"), ("cross", "reference")];
    plot.legend(&entries.map(|(class, name)| (class, name.to_string())));
    plot.end()
}

/// A plot as a file of its own, which brings its colours along.
pub fn standalone(plot: Markup) -> String {
    let style = include_str!("page.css");
    let head = "<svg xmlns=\"http://www.w3.org/2000/svg\"";
    let (open, rest) = plot.0.split_once('>').unwrap_or((&plot.0, ""));
    format!("{}><style>{style}</style>{rest}\n", open.replacen("<svg", head, 1))
}

/// Cosines of each constrained layer, normal beside anomalous: whiskers 5 to 95 %, box 25 to 75 %,
/// line at the median.
pub fn cosines(title: &str, scores: &Scores) -> Markup {
    let Scores { layers, rows, .. } = scores;
    let side = |layer: usize, label: u8| -> Vec<f64> {
        let mut values: Vec<f64> =
            rows.iter().filter(|r| r.label == Some(label)).map(|r| r.cosines[layer]).collect();
        values.iter_mut().for_each(|value| *value = drawable(*value));
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let boxes: Vec<(usize, u8, [f64; 5])> = (0..layers.len())
        .flat_map(|layer| [(layer, 0), (layer, 1)])
        .map(|(layer, label)| (layer, label, side(layer, label)))
        .filter(|(_, _, values)| !values.is_empty())
        .map(|(layer, label, v)| {
            (layer, label, [0.05, 0.25, 0.5, 0.75, 0.95].map(|q| quantile_of_sorted(&v, q)))
        })
        .collect();
    let low = boxes.iter().map(|b| b.2[0]).reduce(f64::min).unwrap_or(-1.0);
    let high = boxes.iter().map(|b| b.2[4]).reduce(f64::max).unwrap_or(1.0);
    let pad = (high - low) * 0.05;
    let across = Across((low - pad, high + pad), "cosine to the reference gradient", 5);
    let mut plot = Plot::new(title, across, (0.0, layers.len() as f64), Scale::Linear, None);
    for (i, layer) in layers.iter().enumerate() {
        let y = plot.py(layers.len() as f64 - 0.5 - i as f64) + 4.0;
        plot.text(LEFT - 6.0, y, "row end", layer);
    }
    for (layer, label, [p5, p25, p50, p75, p95]) in boxes {
        let class = if label == 0 { "normal" } else { "anomalous" };
        let shift = if label == 0 { 0.2 } else { -0.2 };
        let y = plot.py(layers.len() as f64 - 0.5 - layer as f64 + shift);
        let [p5, p25, p50, p75, p95] = [p5, p25, p50, p75, p95].map(|v| plot.px(v));
        plot.path(&format!("line {class}"), format!("M{p5:.1} {y:.1}H{p95:.1}"));
        let (top, width) = (y - 7.0, (p75 - p25).max(0.5));
        plot.drawn.push(html! {
            rect class={ "area " (class) " box" }
                x=(tenth(p25)) y=(tenth(top)) width=(tenth(width)) height="14" {}
        });
        plot.path(&format!("line {class} median"), format!("M{p50:.1} {top:.1}v14"));
    }
    plot.legend(&[("normal", "normal".to_string()), ("anomalous", "anomalous".to_string())]);
    plot.end()
}

/// One loss over the epochs, training and validation; a mean squared error on a logarithmic axis.
pub fn training(
    title: &str,
    name: &str,
    epochs: &[EpochRow],
    value: fn(&Losses) -> f64,
    log: bool,
) -> Markup {
    let train: Vec<_> = epochs.iter().map(|row| (row.epoch as f64, value(&row.train))).collect();
    let val: Vec<_> = epochs
        .iter()
        .filter_map(|row| Some((row.epoch as f64, value(row.validation.as_ref()?))))
        .collect();
    let mut curves = vec![("train".to_string(), train)];
    let mut keys = vec![("train", "training".to_string())];
    if !val.is_empty() {
        curves.push(("val".to_string(), val));
        keys.push(("val", "validation".to_string()));
    }
    let mut plot = epoch_curves(title, name, &curves, log);
    if let Some(best) = epochs.iter().rev().find(|row| row.best) {
        plot.line(
            "threshold",
            [(best.epoch as f64, plot.y.0), (best.epoch as f64, plot.y.1)].into_iter(),
        );
    }
    plot.legend(&keys);
    plot.end()
}

/// One loss over the epochs under several seeds, in the colours of [`seed_class`]: of validation
/// where there is one.
pub fn training_by_seed(
    title: &str,
    name: &str,
    seeds: &[(usize, &[EpochRow])],
    value: fn(&Losses) -> f64,
    log: bool,
) -> Markup {
    let points = |epochs: &[EpochRow]| -> Vec<(f64, f64)> {
        epochs
            .iter()
            .map(|row| (row.epoch as f64, value(row.validation.as_ref().unwrap_or(&row.train))))
            .collect()
    };
    let curves: Vec<_> = seeds.iter().map(|&(i, epochs)| (seed_class(i), points(epochs))).collect();
    epoch_curves(title, name, &curves, log).end()
}

/// AUROC over the levels of challenges, a line for each challenge in the colours of [`seed_class`].
pub fn levels(title: &str, levels: &[u32], challenges: &[Vec<Option<f64>>]) -> Markup {
    let values = || challenges.iter().flatten().flatten().copied();
    let low = values().fold(0.5, f64::min);
    let (first, last) = (levels[0].into(), levels[levels.len() - 1].into());
    let across = Across((first, last), "level", levels.len());
    let mut plot = Plot::new(title, across, (low, 1.0), Scale::Linear, Some("AUROC"));
    plot.line("chance", [(first, 0.5), (last, 0.5)].into_iter());
    for (i, aurocs) in challenges.iter().enumerate() {
        let class = seed_class(i);
        let points = levels.iter().zip(aurocs);
        let points: Vec<(f64, f64)> =
            points.filter_map(|(&level, auroc)| Some((level.into(), (*auroc)?))).collect();
        plot.line(&class, points.iter().copied());
        for (x, y) in points {
            let (x, y) = (plot.px(x), plot.py(y));
            plot.drawn.push(html! {
                circle class={ "dot " (class) } cx=(tenth(x)) cy=(tenth(y)) r="2.6" {}
            });
        }
    }
    plot.end()
}

/// A plot with curves (class, points) over epochs.
fn epoch_curves<'a>(
    title: &'a str,
    name: &str,
    curves: &[(String, Vec<(f64, f64)>)],
    log: bool,
) -> Plot<'a> {
    let all = || curves.iter().flat_map(|(_, points)| points).map(|&(x, y)| (x, drawable(y)));
    let least = |of: fn((f64, f64)) -> f64| all().map(of).reduce(f64::min).unwrap_or(0.0);
    let most = |of: fn((f64, f64)) -> f64| all().map(of).reduce(f64::max).unwrap_or(1.0);
    let (low, high) = (least(|p| p.1), most(|p| p.1));
    // What is all but zero has no place on a logarithmic axis.
    let scale = if log && low > 1e-300 { Scale::Log } else { Scale::Linear };
    let range = if scale == Scale::Log {
        (low / 1.1, high * 1.1)
    } else {
        let pad = (high - low) * 0.05;
        (low - pad, high + pad)
    };
    let (first, last) = (least(|p| p.0), most(|p| p.0));
    let x = if last > first { (first, last) } else { (first - 1.0, first + 1.0) };
    // Epochs are whole: no more numbers than there are epochs.
    let across = Across(x, "epoch", ((x.1 - x.0) as usize).clamp(1, 5));
    let mut plot = Plot::new(title, across, range, scale, Some(name));
    for (class, points) in curves {
        plot.line(class, points.iter().map(|&(x, y)| (x, drawable(y))));
    }
    // A line through one point has no length; few points are better seen as points.
    for (class, points) in curves.iter().filter(|(_, points)| points.len() <= 12) {
        for &(x, y) in points {
            let (x, y) = (plot.px(x), plot.py(drawable(y)));
            plot.drawn.push(html! {
                circle class={ "dot " (class) } cx=(tenth(x)) cy=(tenth(y)) r="2.6" {}
            });
        }
    }
    plot
}

/// Scores that have a line in every plot of scores: the anomaly score, the paper's and its parts.
pub fn is_drawn(part: &str) -> bool {
    PARTS.contains(&part) || part == "paper"
}

/// A value, where there is one, with its deviation over seeds.
pub type Point = Option<(f64, Option<f64>)>;

/// AUROC over the values of a setting, at equal distances: a line for each class in the colours of
/// [`seed_class`], and the mean with bars of one deviation.
pub fn sensitivity(
    title: &str,
    name: &str,
    labels: &[String],
    classes: &[Vec<Point>],
    mean: &[Point],
) -> Markup {
    let reach = mean.iter().flatten().flat_map(|&(v, std)| {
        let std = std.unwrap_or(0.0);
        [(v - std).max(0.0), (v + std).min(1.0)]
    });
    let values = classes.iter().flatten().flatten().map(|&(v, _)| v).chain(reach);
    let (low, high) = values.fold((1.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let pad = ((high - low) * 0.08).max(0.005);
    let y = ((low - pad).max(0.0), (high + pad).min(1.0));
    let across = Across((-0.4, labels.len() as f64 - 0.6), name, 0);
    let mut plot = Plot::new(title, across, y, Scale::Linear, Some("AUROC"));
    let bottom = HEIGHT - BOTTOM;
    for (i, label) in labels.iter().enumerate() {
        let x = plot.px(i as f64);
        plot.path("axis", format!("M{x:.1} {bottom}v4"));
        plot.text(x, bottom + 17.0, "tick mid", label);
    }
    let at = |points: &[Point]| -> Vec<(f64, f64)> {
        let there = points.iter().enumerate();
        there.filter_map(|(i, point)| Some((i as f64, point.as_ref()?.0))).collect()
    };
    for (i, points) in classes.iter().enumerate() {
        let (class, points) = (seed_class(i), at(points));
        plot.line(&class, points.iter().copied());
        for &(x, y) in &points {
            let (x, y) = (plot.px(x), plot.py(y));
            plot.drawn.push(html! {
                circle class={ "dot " (class) } cx=(tenth(x)) cy=(tenth(y)) r="2.6" {}
            });
        }
    }
    for (i, point) in mean.iter().enumerate() {
        if let Some((value, Some(std))) = *point {
            let x = plot.px(i as f64);
            let (low, high) = (plot.py((value - std).max(y.0)), plot.py((value + std).min(y.1)));
            plot.path("line full interval", format!("M{x:.1} {low:.1}V{high:.1}"));
        }
    }
    let points = at(mean);
    plot.line("full", points.iter().copied());
    for (x, y) in points {
        let mark = marker("full", plot.px(x), plot.py(y));
        plot.drawn.push(mark);
    }
    plot.end()
}

/// AUROC of every class with its interval (over seeds: one deviation to each side), the paper's
/// score and parts beside it.
pub fn aurocs<'a>(
    title: &str,
    scores: &[Formula],
    rows: impl Iterator<Item = (&'a ClassResult, &'a Evaluation)>,
) -> Markup {
    const ROW: f64 = 26.0;
    const NAME: f64 = 150.0;
    const WIDE: f64 = 860.0;
    let rows: Vec<_> = rows.collect();
    let interval = |m: &Metrics| {
        let spread = m.std.map(|s| ((m.auroc - s.auroc).max(0.0), (m.auroc + s.auroc).min(1.0)));
        m.auroc_95.map(|i| (i.low, i.high)).or(spread)
    };
    let parts = rows.iter().flat_map(|(_, e)| e.parts());
    let least = parts.map(|(_, m)| interval(m).map_or(m.auroc, |(low, _)| low.min(m.auroc)));
    let low = (least.fold(0.5, f64::min) * 20.0).floor() / 20.0;
    let px = |v: f64| NAME + (v - low) / (1.0 - low) * (WIDE - NAME - 20.0);
    let bottom = 34.0 + ROW * rows.len() as f64;
    let text = |class: &str, x: f64, y: f64, text: &str| {
        html! { text class=(class) x=(x) y=(tenth(y)) { (text) } }
    };
    let mut drawn = Vec::new();
    let (values, step) = ticks(low, 1.0, 10);
    for value in values {
        let x = px(value);
        drawn.push(path("grid", &format!("M{x:.1} 26V{bottom}")));
        drawn.push(html! {
            text class="tick mid" x=(tenth(x)) y=(tenth(bottom + 16.0)) {
                (tick_label(value, step))
            }
        });
    }
    for (i, (class, e)) in rows.iter().enumerate() {
        let y = 26.0 + ROW * (i as f64 + 0.5);
        drawn.push(text("row end", NAME - 10.0, y + 4.0, &class.class));
        if let Some((low, high)) = interval(&e.full) {
            let (a, b) = (px(low), px(high));
            drawn.push(path("line full interval", &format!("M{a:.1} {y}H{b:.1}")));
        }
        for (part, metrics) in e.parts().into_iter().rev().filter(|(part, _)| is_drawn(part)) {
            drawn.push(marker(part, px(metrics.auroc), y));
        }
    }
    let mut x = NAME;
    let parts = rows.first().map_or(vec![], |(_, e)| e.parts());
    for (part, _) in parts.into_iter().filter(|(part, _)| is_drawn(part)) {
        let name = label(scores, part);
        drawn.push(marker(part, x + 5.0, 10.0));
        drawn.push(html! { text class="key" x=(tenth(x + 16.0)) y="14" { (name) } });
        x += legend_width(name) + 8.0;
    }
    drawn.push(text("name mid", (NAME + WIDE) / 2.0, bottom + 36.0, "AUROC"));
    svg(WIDE, bottom + 44.0, title, &drawn)
}

/// A mark whose shape tells the score, not its colour alone: disc, square, triangle, diamond.
fn marker(part: &str, x: f64, y: f64) -> Markup {
    let shape = match part {
        "full" => format!("M{:.1} {y:.1}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z", x - 5.0),
        "reconstruction" => format!("M{:.1} {:.1}h8v8h-8Z", x - 4.0, y - 4.0),
        "paper" => format!("M{x:.1} {:.1}l5 8h-10Z", y - 5.0),
        _ => format!("M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z", y - 5.5),
    };
    path(&format!("mark {part}"), &shape)
}
