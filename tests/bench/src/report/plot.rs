// SPDX-License-Identifier: GPL-2.0

//! Panels of curves over logarithmic axes.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Result;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const SOFT: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FONT: &str = "sans-serif";

const WIDTH: i32 = 620;
const HEIGHT: i32 = 400;
const HEAD: i32 = 108;
/// Around the data of a panel: left, top, right, bottom.
const MARGINS: (i32, i32, i32, i32) = (76, 46, 46, 58);

/// How the places of an axis go on.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    Log,
    /// Of one more: it has a place for zero.
    LogPlusOne,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Log => value.log10(),
            Self::LogPlusOne => (value + 1.0).log10(),
        }
    }
}

/// An axis with its marks.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) scale: Scale,
    pub(crate) marks: Vec<(f64, String)>,
}

impl Axis {
    /// Powers of ten that hold all these values.
    pub(crate) fn decades(name: &str, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::MAX, f64::MIN_POSITIVE);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        let from = least.log10().floor() as i32;
        let to = (most.log10().ceil() as i32).max(from + 1);
        // Few decades are cut into parts.
        let parts: &[u32] = if to - from > 2 { &[1] } else { &[1, 2, 5] };
        let marks = (from..=to).flat_map(|power| parts.iter().map(move |part| (power, *part)));
        Self {
            name: name.into(),
            scale: Scale::Log,
            marks: marks
                .filter(|(power, part)| *power < to || *part == 1)
                .map(|(power, part)| (f64::from(part) * 10f64.powi(power), short(power, part)))
                .collect(),
        }
    }

    fn range(&self) -> (f64, f64) {
        let places = self.marks.iter().map(|(value, _)| self.scale.place(*value));
        places.fold((f64::MAX, f64::MIN), |(from, to), place| {
            (from.min(place), to.max(place))
        })
    }
}

/// "10", "2 k", "100 M"
fn short(power: i32, part: u32) -> String {
    let unit = ["", " k", " M", " G"][(power / 3).clamp(0, 3) as usize];
    format!("{}{unit}", part * 10u32.pow((power % 3) as u32))
}

/// What a curve looks like.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) mark: Mark,
}

impl Style {
    fn width(self) -> u32 {
        match self.mark {
            Mark::Circle | Mark::Dashes(Wide::No) => 2,
            Mark::Square | Mark::Triangle | Mark::Dashes(Wide::Yes) => 4,
        }
    }
}

/// Whether a line is seen below another one.
#[derive(Clone, Copy)]
pub(crate) enum Wide {
    Yes,
    No,
}

#[derive(Clone, Copy)]
pub(crate) enum Mark {
    Circle,
    Square,
    Triangle,
    /// A line without points.
    Dashes(Wide),
}

pub(crate) struct Curve {
    pub(crate) style: Style,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) styles: Vec<Style>,
    pub(crate) columns: usize,
    pub(crate) panels: Vec<Panel>,
}

impl Figure {
    /// Draws it into an SVG file.
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let columns = self.columns.min(self.panels.len()).max(1);
        let rows = self.panels.len().div_ceil(columns);
        let size = (
            (WIDTH * columns as i32) as u32,
            (HEAD + HEIGHT * rows as i32) as u32,
        );
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE)?;
        self.head(&area)?;
        for (at, panel) in self.panels.iter().enumerate() {
            let (column, row) = (at % columns, at / columns);
            panel.draw(&area, column as i32 * WIDTH, HEAD + row as i32 * HEIGHT)?;
        }
        area.present()?;
        Ok(())
    }

    fn head(&self, area: &Area<'_>) -> Result<()> {
        text(
            area,
            &self.title,
            (24, 18),
            24,
            INK,
            HPos::Left,
            VPos::Top,
            true,
        )?;
        text(
            area,
            &self.subtitle,
            (24, 50),
            15,
            SOFT,
            HPos::Left,
            VPos::Top,
            false,
        )?;
        let mut x = 24;
        for style in &self.styles {
            stroke(area, &[(x, 88), (x + 36, 88)], *style)?;
            mark(area, (x + 18, 88), *style)?;
            text(
                area,
                style.name,
                (x + 46, 88),
                15,
                INK,
                HPos::Left,
                VPos::Center,
                false,
            )?;
            x += 46 + style.name.len() as i32 * 7 + 40;
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel {
    fn draw(&self, area: &Area<'_>, left: i32, top: i32) -> Result<()> {
        let (x0, x1) = (left + MARGINS.0, left + WIDTH - MARGINS.2);
        let (y0, y1) = (top + HEIGHT - MARGINS.3, top + MARGINS.1);
        let at = |value: f64, axis: &Axis, from: i32, to: i32| {
            let (least, most) = axis.range();
            let part = (axis.scale.place(value) - least) / (most - least);
            from + (part * f64::from(to - from)).round() as i32
        };
        let x_at = |value| at(value, &self.x, x0, x1);
        let y_at = |value| at(value, &self.y, y0, y1);

        text(
            area,
            &self.title,
            (x0, top + 14),
            17,
            INK,
            HPos::Left,
            VPos::Top,
            true,
        )?;
        for (value, name) in &self.y.marks {
            let y = y_at(*value);
            area.draw(&PathElement::new([(x0, y), (x1, y)], GRID))?;
            text(
                area,
                name,
                (x0 - 9, y),
                14,
                SOFT,
                HPos::Right,
                VPos::Center,
                false,
            )?;
        }
        for (value, name) in &self.x.marks {
            let x = x_at(*value);
            area.draw(&PathElement::new([(x, y0), (x, y1)], GRID))?;
            text(
                area,
                name,
                (x, y0 + 9),
                14,
                SOFT,
                HPos::Center,
                VPos::Top,
                false,
            )?;
        }
        area.draw(&PathElement::new([(x0, y0), (x1, y0)], SOFT))?;
        let middle = ((x0 + x1) / 2, y0 + 32);
        text(
            area,
            &self.x.name,
            middle,
            14,
            INK,
            HPos::Center,
            VPos::Top,
            false,
        )?;
        let style = TextStyle::from((FONT, 14).into_font().transform(FontTransform::Rotate270))
            .color(&INK)
            .pos(Pos::new(HPos::Center, VPos::Center));
        let place = (left + 20, (y0 + y1) / 2);
        area.draw(&Text::new(self.y.name.clone(), place, style))?;

        // The first on top; those below are drawn larger, so that they can be seen.
        for curve in self.curves.iter().rev() {
            let points: Vec<_> = curve
                .points
                .iter()
                .map(|(x, y)| (x_at(*x), y_at(*y)))
                .collect();
            stroke(area, &points, curve.style)?;
            for point in points {
                mark(area, point, curve.style)?;
            }
        }
        Ok(())
    }
}

fn stroke(area: &Area<'_>, points: &[(i32, i32)], style: Style) -> Result<()> {
    let pen = style.colour.stroke_width(style.width());
    match style.mark {
        Mark::Dashes(wide) => {
            // Of two lines in the same place, one goes through the gaps of the other.
            let first = match wide {
                Wide::Yes => 0.0,
                Wide::No => 7.0,
            };
            for pair in points.windows(2) {
                let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
                let length = f64::from(x1 - x0).hypot(f64::from(y1 - y0));
                let on = |along: f64| {
                    let part = (along / length).min(1.0);
                    (
                        x0 + (part * f64::from(x1 - x0)).round() as i32,
                        y0 + (part * f64::from(y1 - y0)).round() as i32,
                    )
                };
                for dash in 0..(length / 14.0).ceil() as i32 {
                    let along = first + f64::from(dash) * 14.0;
                    area.draw(&PathElement::new([on(along), on(along + 8.0)], pen))?;
                }
            }
        }
        _ => area.draw(&PathElement::new(points.to_vec(), pen))?,
    }
    Ok(())
}

fn mark(area: &Area<'_>, at: (i32, i32), style: Style) -> Result<()> {
    let fill = style.colour.filled();
    match style.mark {
        Mark::Circle => area.draw(&Circle::new(at, 4, fill))?,
        Mark::Square => {
            let (x, y) = at;
            area.draw(&Rectangle::new([(x - 6, y - 6), (x + 6, y + 6)], fill))?;
        }
        Mark::Triangle => area.draw(&TriangleMarker::new(at, 8, fill))?,
        Mark::Dashes(_) => {}
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn text(
    area: &Area<'_>,
    what: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    h: HPos,
    v: VPos,
    bold: bool,
) -> Result<()> {
    let font = (FONT, size).into_font();
    let font = if bold {
        font.style(FontStyle::Bold)
    } else {
        font
    };
    let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, v));
    area.draw(&Text::new(what.to_string(), at, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_decades_holds_its_values() {
        let axis = Axis::decades("y", [900.0, 4_200_000.0].into_iter());
        let names: Vec<_> = axis.marks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["100", "1 k", "10 k", "100 k", "1 M", "10 M"]);
    }
}
