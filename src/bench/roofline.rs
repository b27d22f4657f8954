//! The roofline: every kernel by its operations a byte and its operations a second, under the roofs
//! that were measured on the same device.
//!
//! A file of its own: colours are its own, for light and dark.

use maud::{Markup, html};

use super::peaks::{Peaks, short};
use super::record::{Cache, KernelRow, Kind, Row};
use super::text::digits;
use crate::error::{Error, Result};
use crate::report::plot::tick_label;

const WIDTH: f64 = 1380.0;
/// The plot's edges; right of it is the list of kernels, and it ends with that.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 64.0;
/// A line of the list.
const LINE: f64 = 19.0;
/// Dots with a number: the longest kernels. More would hide each other.
const NUMBERED: usize = 30;

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fff; --ink: #212529; --muted: #5c656d; --grid: #e9ecef; --roof: #343a40;
  --fma: #1f6fbf; --memory: #d9560b; --launch: #6f42c1; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e9ecef; --muted: #a4adb5; --grid: #2a2f34;
  --roof: #ced4da; --fma: #6cb2ff; --memory: #ff9d5c; --launch: #b795ff; } }
svg { background: var(--paper); }
text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.title { font-size: 17px; font-weight: 600; }
.muted { fill: var(--muted); }
.mid { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--grid); fill: none; } .axis { stroke: var(--muted); fill: none; }
.roof { stroke: var(--roof); fill: none; stroke-width: 2; } .lower { stroke-dasharray: 6 4; stroke-width: 1.4; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.leader { stroke: var(--muted); stroke-width: 0.8; fill: none; }
.dot { fill-opacity: 0.45; stroke-width: 1.3; }
.fma { fill: var(--fma); stroke: var(--fma); } .memory { fill: var(--memory); stroke: var(--memory); }
.launch { fill: var(--launch); stroke: var(--launch); }
.number { font-size: 11px; font-weight: 600; }
";

/// A kernel on the plot.
struct Dot<'r> {
    row: &'r Row,
    /// Operations a byte.
    intensity: f64,
    gflops: f64,
    share: f64,
    class: &'static str,
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Around values with some room, from 1, 2 or 5 times a power of ten to another, drawn between
    /// two positions.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|v| *v > 0.0 && v.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        let steps = || (-30..30).flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(p)));
        let low = steps().take_while(|v| *v <= low / 1.2).last().unwrap_or(low);
        let high = steps().find(|v| *v >= high * 1.2).unwrap_or(high);
        Axis { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Where lines of the grid are, and their labels: powers of ten, over a few decades 2 and 5
    /// times those as well.
    fn ticks(&self) -> Vec<(f64, String)> {
        let steps: &[f64] = if self.high / self.low > 1e4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let values = decades.flat_map(|p| steps.iter().map(move |m| (m * 10f64.powi(p), p)));
        let inside = values.filter(|(v, _)| *v > self.low * 0.999 && *v < self.high * 1.001);
        inside.map(|(v, p)| (v, tick_label(v, 10f64.powi(p)))).collect()
    }
}

/// Draws the warm kernels of `rows` (those that do operations) under a device's roofs.
///
/// # Errors
/// There is no such kernel; the FMA peak or every memory is unknown.
pub fn roofline(title: &str, peaks: &Peaks, rows: &[Row]) -> Result<String> {
    let mut dots: Vec<Dot> = rows.iter().filter_map(dot).collect();
    dots.sort_by(|a, b| b.share.total_cmp(&a.share));
    let (Some(compute), false, false) = (&peaks.compute, peaks.memory.is_empty(), dots.is_empty())
    else {
        let what = if dots.is_empty() { "kernel with operations" } else { "peak" };
        return Err(Error::invalid(format!("a roofline: no {what} was measured")));
    };
    let top = compute.rate / 1e9;
    let ridges = peaks.memory.iter().map(|(_, limit)| compute.rate / limit.rate);
    let intensities = dots.iter().map(|dot| dot.intensity);
    let x = Axis::around(intensities.chain(ridges.map(|ridge| ridge * 1.5)), LEFT, RIGHT);
    let bottom = TOP + (LINE * dots.len() as f64).clamp(480.0, 860.0);
    let y = Axis::around(dots.iter().map(|dot| dot.gflops).chain([top * 1.2]), bottom, TOP);
    let mut drawn = axes(&x, &y);
    drawn.extend(roofs(peaks, top, &x, &y));
    drawn.extend(marks(&dots, &x, &y, y.at(top)));
    drawn.extend(list(&dots));
    let height = (bottom + 60.0).max(TOP + LINE * (dots.len() as f64 + 3.0));
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (height) }
            width=(WIDTH) height=(height) role="img" {
            title { (title) }
            style { (maud::PreEscaped(STYLE)) }
            rect width="100%" height="100%" style="fill: var(--paper)" {}
            (text(LEFT, 28.0, "title", title))
            @for part in drawn { (part) }
        }
    };
    Ok(svg.into_string() + "\n")
}

/// The dot of a row, if it has one.
fn dot(row: &Row) -> Option<Dot<'_>> {
    let runs = |kernel: &&KernelRow| kernel.among.is_none_or(|among| among.runs);
    let kernel = row.kernel.as_ref().filter(|_| row.kind == Kind::Kernel).filter(runs)?;
    let gflops = kernel.gflops.filter(|gflops| *gflops > 0.0)?;
    let class = match kernel.bound.as_deref() {
        Some("FMA") => "fma",
        Some("launch") => "launch",
        _ => "memory",
    };
    (row.cache == Some(Cache::Warm) && kernel.bytes > 0).then(|| Dot {
        row,
        intensity: kernel.flops as f64 / kernel.bytes as f64,
        gflops,
        share: kernel.share_percent.unwrap_or(0.0),
        class,
    })
}

fn axes(x: &Axis, y: &Axis) -> Vec<Markup> {
    let (mut drawn, bottom) = (vec![], y.from);
    for (value, label) in x.ticks() {
        let at = x.at(value);
        drawn.push(path("grid", &format!("M{at:.1} {TOP}V{bottom}")));
        drawn.push(text(at, bottom + 18.0, "muted mid", &label));
    }
    for (value, label) in y.ticks() {
        let at = y.at(value);
        drawn.push(path("grid", &format!("M{LEFT} {at:.1}H{RIGHT}")));
        drawn.push(text(LEFT - 8.0, at + 4.0, "muted end", &label));
    }
    drawn.push(path("axis", &format!("M{LEFT} {TOP}V{bottom}H{RIGHT}")));
    let middle = (LEFT + RIGHT) / 2.0;
    drawn.push(text(middle, bottom + 42.0, "muted mid", "operations a byte (moved at least)"));
    drawn.push(text(LEFT - 54.0, TOP - 12.0, "muted", "GFLOP/s"));
    drawn
}

/// The roofs: the FMA peak, and a slope for each memory.
fn roofs(peaks: &Peaks, top: f64, x: &Axis, y: &Axis) -> Vec<Markup> {
    let mut drawn = vec![];
    let lowest = y.low;
    let mut first_ridge = f64::INFINITY;
    for (i, (_, limit)) in peaks.memory.iter().rev().enumerate() {
        let bandwidth = limit.rate / 1e9;
        let ridge = top / bandwidth;
        first_ridge = first_ridge.min(ridge);
        // Where it enters the plot.
        let from = (lowest / bandwidth).max(x.low);
        let ends = [(from, from * bandwidth), (ridge, top)].map(|(i, g)| (x.at(i), y.at(g)));
        let [(x0, y0), (x1, y1)] = ends;
        let class = if i == 0 { "roof" } else { "roof lower" };
        drawn.push(path(class, &format!("M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}")));
        let angle = (y1 - y0).atan2(x1 - x0).to_degrees();
        // Along the slope, near its lower end, on the outer side of the outermost.
        let (at_x, at_y) = (x0 + (x1 - x0) * 0.12, y0 + (y1 - y0) * 0.12);
        let name = format!("{} {} GB/s", short(&limit.name), digits(bandwidth));
        drawn.push(html! {
            text class="halo" x=(tenth(at_x)) y=(tenth(at_y - 5.0))
                transform={ "rotate(" (tenth(angle)) " " (tenth(at_x)) " " (tenth(at_y)) ")" }
                { (name) }
        });
    }
    let (from, at) = (x.at(first_ridge), y.at(top));
    drawn.push(path("roof", &format!("M{from:.1} {at:.1}H{RIGHT}")));
    let name = peaks.compute.as_ref().map_or("", |limit| limit.name.as_str());
    let name = format!("{name} {} GFLOP/s", digits(top));
    drawn.push(text(RIGHT - 4.0, at - 7.0, "end halo", &name));
    drawn
}

/// Dots, larger ones first, and the numbers of the first of them where there is room below `roof`.
fn marks(dots: &[Dot], x: &Axis, y: &Axis, roof: f64) -> Vec<Markup> {
    let places: Vec<(f64, f64, f64)> =
        dots.iter().map(|dot| (x.at(dot.intensity), y.at(dot.gflops), radius(dot.share))).collect();
    let mut drawn = vec![];
    for (dot, (cx, cy, r)) in dots.iter().zip(&places) {
        let name = format!("{} {} ({})", dot.row.name, dot.row.shape, label(dot.row));
        drawn.push(html! {
            circle class={ "dot " (dot.class) } cx=(tenth(*cx)) cy=(tenth(*cy)) r=(tenth(*r))
                { title { (name) } }
        });
    }
    let mut taken: Vec<(f64, f64)> = vec![];
    let room = (roof.min(y.from) + 9.0, y.from - 8.0);
    for (i, &(cx, cy, r)) in places.iter().take(NUMBERED).enumerate() {
        let (px, py) = free(&taken, &places, (cx, cy, r), room);
        taken.push((px, py));
        if (px - cx).hypot(py - cy) > r + 10.0 {
            drawn.push(path("leader", &format!("M{cx:.1} {cy:.1}L{px:.1} {py:.1}")));
        }
        drawn.push(text(px, py + 4.0, "number mid halo", &(i + 1).to_string()));
    }
    drawn
}

/// A place for a number near a dot: inside of a large one, else around it, ever farther, until it is
/// on no other number and in no small dot.
fn free(
    taken: &[(f64, f64)],
    dots: &[(f64, f64, f64)],
    dot: (f64, f64, f64),
    (top, bottom): (f64, f64),
) -> (f64, f64) {
    let (cx, cy, r) = dot;
    let clear = |x: f64, y: f64| {
        let number = |&(tx, ty): &(f64, f64)| (tx - x).abs() < 17.0 && (ty - y).abs() < 13.0;
        let covers = |&&(dx, dy, dr): &&(f64, f64, f64)| {
            (dx, dy, dr) != dot && dr < 9.0 && (dx - x).hypot(dy - y) < dr + 6.0
        };
        let inside = (LEFT + 8.0..RIGHT - 8.0).contains(&x) && (top..bottom).contains(&y);
        inside && !taken.iter().any(number) && dots.iter().find(covers).is_none()
    };
    if r > 9.0 && clear(cx, cy) {
        return (cx, cy);
    }
    for ring in 0..12 {
        let distance = r + 9.0 + 9.0 * f64::from(ring);
        for turn in 0..16 {
            let angle = std::f64::consts::TAU * (f64::from(turn) / 16.0 - 0.125);
            let (x, y) = (cx + distance * angle.cos(), cy + distance * angle.sin());
            if clear(x, y) {
                return (x, y);
            }
        }
    }
    (cx, cy)
}

/// Its area is the share of the step.
fn radius(share: f64) -> f64 {
    (5.0 * share.max(0.0).sqrt()).clamp(2.5, 40.0)
}

/// The list of kernels, longest first.
fn list(dots: &[Dot]) -> Vec<Markup> {
    let (x, columns) = (RIGHT + 80.0, [RIGHT + 370.0, RIGHT + 450.0, RIGHT + 530.0]);
    let mut drawn = vec![];
    for (at, name) in columns.into_iter().zip(["% of step", "GFLOP/s", "% of peak"]) {
        drawn.push(text(at, TOP - 12.0, "muted end", name));
    }
    drawn.push(text(x, TOP - 12.0, "muted", "kernel, for"));
    for (i, dot) in dots.iter().enumerate() {
        let y = TOP + LINE * (i as f64 + 0.4);
        drawn.push(
            html! { circle class={ "dot " (dot.class) } cx=(x - 38.0) cy=(y - 4.0) r="5" {} },
        );
        drawn.push(text(x - 8.0, y, "number end", &(i + 1).to_string()));
        drawn.push(text(x, y, "", &cut(&format!("{} {}", dot.row.name, label(dot.row)), 38)));
        let percent = dot.row.kernel.as_ref().and_then(|k| k.peak_percent).unwrap_or(0.0);
        for (at, number) in columns.into_iter().zip([dot.share, dot.gflops, percent]) {
            drawn.push(text(at, y, "end", &digits(number)));
        }
    }
    let key = "Area of a dot: its calls' time over the step's. Caches warm.";
    let y = TOP + LINE * (dots.len() as f64 + 1.2);
    drawn.push(text(x - 44.0, y, "muted", key));
    let mut at = x - 38.0;
    for (class, name) in
        [("fma", "bound by FMA"), ("memory", "by memory"), ("launch", "by its launch")]
    {
        let y = y + LINE;
        drawn.push(html! { circle class={ "dot " (class) } cx=(at) cy=(y - 4.0) r="5" {} });
        drawn.push(text(at + 10.0, y, "muted", name));
        at += 40.0 + 7.0 * name.len() as f64;
    }
    drawn
}

/// What a kernel's first call is for, and how many there are.
fn label(row: &Row) -> String {
    let Some(kernel) = &row.kernel else { return String::new() };
    match kernel.count {
        1 => kernel.label.clone(),
        count => format!("{} and {} more", kernel.label, count - 1),
    }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
        None => text.to_string(),
    }
}

fn text(x: f64, y: f64, class: &str, text: &str) -> Markup {
    html! { text class=(class) x=(tenth(x)) y=(tenth(y)) { (text) } }
}

fn path(class: &str, d: &str) -> Markup {
    html! { path class=(class) d=(d) {} }
}

/// A coordinate.
fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_room_and_round_ends() {
        let axis = Axis::around([0.0, 0.3, 42.0, f64::NAN].into_iter(), 0.0, 100.0);
        assert_eq!((axis.low, axis.high), (0.2, 100.0));
        assert_eq!((axis.at(0.2), axis.at(100.0)), (0.0, 100.0));
        let labels = |axis: Axis| axis.ticks().into_iter().map(|(_, l)| l).collect::<Vec<_>>();
        assert_eq!(labels(axis), ["0.2", "0.5", "1", "2", "5", "10", "20", "50", "100"]);
        let wide = Axis::around([1e-3, 40.0].into_iter(), 0.0, 1.0);
        assert_eq!(labels(wide), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(Axis::around([].into_iter(), 0.0, 1.0)), ["0.5", "1", "2"]);
    }

    #[test]
    fn numbers_are_not_on_each_other() {
        let dots = vec![(300.0, 300.0, 4.0); 40];
        let mut taken = vec![];
        for &dot in &dots {
            let place = free(&taken, &dots, dot, (100.0, 500.0));
            taken.push(place);
        }
        for (i, a) in taken.iter().enumerate() {
            let apart = |b: &(f64, f64)| (a.0 - b.0).abs() >= 17.0 || (a.1 - b.1).abs() >= 13.0;
            assert!(taken[..i].iter().all(apart), "number {} of {taken:?}", i + 1);
        }
    }
}
