// SPDX-License-Identifier: GPL-2.0

//! The result of `bench` as a picture: bars by operation, a panel for each size.

use std::path::Path;

use plotters::prelude::*;

use crate::bench::{Measured, time};
use crate::error::{Error, Result};
use crate::size;

const WIDTH: u32 = 960;
/// Of a bar, and of the space after an operation.
const BAR: i32 = 16;
const LABELS: i32 = 190;
const HEAD: i32 = 64;

const COLORS: [RGBColor; 5] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0x7f, 0xb6, 0xd6),
    RGBColor(0xd9, 0x82, 0x2b),
    RGBColor(0x6b, 0x8e, 0x4e),
    RGBColor(0x88, 0x88, 0x88),
];

pub(super) fn plot(path: &Path, measured: &[Measured]) -> Result<()> {
    let mut svg = String::new();
    let drawn = draw(&mut svg, measured).map_err(|error| Error::Plot {
        path: path.to_owned(),
        error,
    });
    drawn?;
    std::fs::write(path, svg).map_err(|error| Error::Write {
        path: path.to_owned(),
        error,
    })
}

/// What is in a list, once, in its order.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    for one in all {
        if !list.contains(&one) {
            list.push(one);
        }
    }
    list
}

fn draw(svg: &mut String, measured: &[Measured]) -> std::result::Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let exporters = distinct(measured.iter().map(|one| one.exporter));
    let sizes = distinct(measured.iter().map(|one| one.size));
    let groups = distinct(measured.iter().map(|one| (one.size, one.operation)));
    let panel = |size: u64| groups.iter().filter(|(of, _)| *of == size).count() as i32;
    let group = BAR * exporters.len() as i32 + BAR;
    let heights: Vec<i32> = sizes.iter().map(|size| panel(*size) * group + 60).collect();
    let total = HEAD + heights.iter().sum::<i32>();

    let least = measured.iter().map(|one| one.median).min().unwrap_or(1);
    let most = measured.iter().map(|one| one.median).max().unwrap_or(1);
    // So that the shortest bar can be seen.
    let floor = 10_f64.powf((least.max(1) as f64 / 3.0).log10().floor());
    let ceiling = 10_f64
        .powf((most.max(1) as f64).log10().ceil())
        .max(floor * 10.0);

    let root = SVGBackend::with_string(svg, (WIDTH, total as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| words(&error))?;
    let text = |size: i32| TextStyle::from(("sans-serif", size).into_font());
    root.draw_text("Median time, on a logarithmic scale", &text(18), (16, 12))
        .map_err(|error| words(&error))?;
    let mut x = 16;
    for (exporter, color) in exporters.iter().zip(COLORS) {
        let square = Rectangle::new([(x, 40), (x + 12, 52)], color.filled());
        root.draw(&square).map_err(|error| words(&error))?;
        root.draw_text(exporter, &text(14), (x + 18, 39))
            .map_err(|error| words(&error))?;
        x += 40 + 8 * exporter.len() as i32;
    }

    let mut top = HEAD;
    for (size, height) in sizes.iter().zip(heights) {
        root.draw_text(&size::format(*size, false), &text(16), (16, top + 8))
            .map_err(|error| words(&error))?;
        let bars = top + 34;
        let below = top + height - 22;
        let place = |nanoseconds: f64| {
            let part = (nanoseconds / floor).log10() / (ceiling / floor).log10();
            LABELS + (part.max(0.0) * f64::from(WIDTH as i32 - LABELS - 80)) as i32
        };
        let mut mark = floor;
        while mark <= ceiling * 1.01 {
            let x = place(mark);
            let line = PathElement::new(vec![(x, bars), (x, below)], RGBColor(0xdd, 0xdd, 0xdd));
            root.draw(&line).map_err(|error| words(&error))?;
            root.draw_text(&time(mark as u64), &text(11), (x - 16, below + 3))
                .map_err(|error| words(&error))?;
            mark *= 10.0;
        }
        let mut y = bars;
        for (_, operation) in groups.iter().filter(|(of, _)| of == size) {
            root.draw_text(operation, &text(13), (16, y + 2))
                .map_err(|error| words(&error))?;
            for (exporter, color) in exporters.iter().zip(COLORS) {
                let found = measured.iter().find(|one| {
                    one.size == *size && one.operation == *operation && one.exporter == *exporter
                });
                let Some(one) = found else { continue };
                let end = place(one.median as f64).max(LABELS + 1);
                let bar = Rectangle::new([(LABELS, y), (end, y + BAR - 3)], color.filled());
                root.draw(&bar).map_err(|error| words(&error))?;
                root.draw_text(&time(one.median), &text(11), (end + 4, y + 1))
                    .map_err(|error| words(&error))?;
                y += BAR;
            }
            y += BAR;
        }
        top += height;
    }
    root.present().map_err(|error| words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_that_was_measured() {
        let one = |exporter, operation, nanoseconds| {
            Measured::new(exporter, operation, 4096, vec![nanoseconds; 3]).unwrap()
        };
        let measured = [
            one("cohbuf", "create", 1000),
            one("udmabuf", "create", 20_000),
            one("cohbuf", "copy", 300),
        ];
        let mut svg = String::new();
        draw(&mut svg, &measured).unwrap();
        for text in [
            "cohbuf", "udmabuf", "create", "4 KiB", "1.00 µs", "20.0 µs", "300 ns",
        ] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        // The background, two squares of the legend, three bars.
        assert_eq!(svg.matches("<rect").count(), 6, "{svg}");
    }
}
