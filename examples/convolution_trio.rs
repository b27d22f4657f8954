//! The three convolutions are one sum of products, read in three directions: conv2d,
//! conv_transpose2d and the gradient of the weight. With `--svg FILE` also the picture of which
//! taps meet which positions.
//!
//! `cargo run --example convolution_trio`

use std::fmt::Write;
use std::path::Path;

use gradcon::engine::{Data, cpu};
use gradcon::geometry::Geometry;
use gradcon::program::{Options, compile};
use gradcon::tape::Tape;

/// Numbers without a pattern that anyone would see.
fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 37 + seed * 101) % 19) as f64 / 8.0 - 1.0).collect()
}

fn main() -> gradcon::Result<()> {
    // One channel, one image: x has 6 x 6 positions, y 4 x 4, a filter 4 x 4.
    let g = Geometry::conv2d(1, (1, 6, 6), 1, (4, 4), 2, 2);
    println!(
        "x {}x{}, filter {}x{}, stride {}, padding {}: y {}x{}",
        g.hx, g.wx, g.kh, g.kw, g.stride, g.padding, g.hy, g.wy
    );
    println!("\nrow of y   taps: filter row with row of x");
    for o in 0..g.hy {
        let meets = |k: usize| {
            let i = (o * g.stride + k).checked_sub(g.padding).filter(|&i| i < g.hx);
            i.map(|i| format!("{k} with {i}"))
        };
        let taps: Vec<String> = (0..g.kh).filter_map(meets).collect();
        println!("{o:<10} {}", taps.join(", "));
    }

    let mut tape = Tape::new();
    let (x, w) = (tape.leaf("x", g.x_shape()), tape.leaf("w", g.w_shape()));
    let y = tape.leaf("y", g.y_shape());
    let forms = [
        ("<y, conv_y(x, w)>", y, tape.conv_y(g, x, w)),
        ("<x, conv_x(y, w)>", x, tape.conv_x(g, y, w)),
        ("<w, conv_w(x, y)>", w, tape.conv_w(g, x, y)),
    ];
    for (i, (_, by, of)) in forms.iter().enumerate() {
        let product = tape.dot(*by, *of);
        tape.store(product, &format!("form {i}"));
    }
    let mut engine = cpu::f64();
    let program = engine.load(&compile("trio", &tape, Options::default()))?;
    for (name, len, seed) in [("x", g.x_len(), 1), ("w", g.w_len(), 2), ("y", g.y_len(), 3)] {
        engine.write(name, Data::F64(&numbers(len, seed)))?;
    }
    engine.run(program, 0..1)?;
    println!();
    for (i, (name, ..)) in forms.iter().enumerate() {
        println!("{name} = {:.6}", engine.read(&format!("form {i}"))?[0]);
    }
    let mut args = std::env::args().skip(1);
    if let (Some("--svg"), Some(path)) = (args.next().as_deref(), args.next()) {
        std::fs::write(&path, picture(&g)).map_err(gradcon::Error::io(Path::new(&path)))?;
    }
    Ok(())
}

/// One dimension of it: positions of x above, of y below, a line where a tap joins two.
fn picture(g: &Geometry) -> String {
    let (cell, left) = (44, 70);
    let colours = ["#1f6fbf", "#d9560b", "#2b8a3e", "#6f42c1"];
    let width = left + cell * (g.hx + 2 * g.padding) + 20;
    let at_x = |i: usize| left + cell * (i + g.padding) + cell / 2;
    let at_y = |o: usize| left + cell * (o * g.stride + g.kh / 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} 270\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#24292f}}rect{{fill:#fff;stroke:#8c959f}}.pad{{stroke-dasharray:3 3}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}rect{{fill:#161b22}}}}</style>\n"
    );
    let text = |svg: &mut String, x: usize, y: usize, anchor: &str, text: &str| {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    for o in 0..g.hy {
        for (k, colour) in colours.iter().enumerate().take(g.kh) {
            if let Some(i) = (o * g.stride + k).checked_sub(g.padding).filter(|&i| i < g.hx) {
                let _ = writeln!(
                    svg,
                    "<path d=\"M{} 69L{} 181\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                    at_x(i),
                    at_y(o)
                );
            }
        }
    }
    let mut cell_at = |x: usize, y: usize, name: &str, class: &str| {
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{y}\" width=\"34\" height=\"34\" rx=\"4\" class=\"{class}\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            x - 17,
            y + 22
        );
    };
    for i in 0..g.hx + 2 * g.padding {
        let inside = i.checked_sub(g.padding).filter(|&i| i < g.hx);
        let class = if inside.is_some() { "" } else { "pad" };
        let name = inside.map_or("0".into(), |i| i.to_string());
        cell_at(left + cell * i + cell / 2, 35, &name, class);
    }
    (0..g.hy).for_each(|o| cell_at(at_y(o), 181, &o.to_string(), ""));
    text(&mut svg, left - 12, 57, "end", "x");
    text(&mut svg, left - 12, 203, "end", "y");
    for (k, colour) in colours.iter().enumerate().take(g.kh) {
        let x = left + 110 * k;
        let _ = writeln!(svg, "<path d=\"M{x} 245h22\" stroke=\"{colour}\" stroke-width=\"3\"/>");
        text(&mut svg, x + 28, 250, "start", &format!("tap {k}"));
    }
    svg + "</svg>\n"
}
