// SPDX-License-Identifier: GPL-2.0

//! The test picture: what is drawn, and how it becomes a PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_10X20;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;

pub(crate) const WIDTH: u32 = 1600;
pub(crate) const HEIGHT: u32 = 1200;
pub(crate) const BYTES: usize = (WIDTH * HEIGHT * 4) as usize;

/// XRGB8888 in memory order: blue, green, red, unused.
struct Canvas(Vec<u8>);

impl Canvas {
    fn set(&mut self, x: u32, y: u32, color: Rgb888) {
        let at = ((y * WIDTH + x) * 4) as usize;
        self.0[at..at + 4].copy_from_slice(&[color.b(), color.g(), color.r(), 0xff]);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = core::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(point, color) in pixels {
            if self.bounding_box().contains(point) {
                self.set(point.x as u32, point.y as u32, color);
            }
        }
        Ok(())
    }
}

/// Text in large letters: each pixel of the font becomes a square.
struct Large<'a> {
    canvas: &'a mut Canvas,
    origin: Point,
    scale: u32,
}

impl OriginDimensions for Large<'_> {
    fn size(&self) -> Size {
        Size::new(WIDTH / self.scale, HEIGHT / self.scale)
    }
}

impl DrawTarget for Large<'_> {
    type Color = Rgb888;
    type Error = core::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(point, color) in pixels {
            let corner = self.origin + point * self.scale as i32;
            self.canvas
                .fill_solid(&Rectangle::new(corner, Size::new_equal(self.scale)), color)?;
        }
        Ok(())
    }
}

/// Colour bars, gradients, a grid, circles and two lines of text. No two pages
/// of it are the same, so a page in the wrong place shows.
pub(crate) fn draw(title: &str, subtitle: &str) -> Vec<u8> {
    let mut canvas = Canvas(vec![0; BYTES]);
    let result = paint(&mut canvas, title, subtitle);
    let Ok(()) = result;
    canvas.0
}

fn paint(
    canvas: &mut Canvas,
    title: &str,
    subtitle: &str,
) -> Result<(), core::convert::Infallible> {
    const BARS: [Rgb888; 8] = [
        Rgb888::new(0xeb, 0xeb, 0xeb),
        Rgb888::new(0xeb, 0xeb, 0x10),
        Rgb888::new(0x10, 0xeb, 0xeb),
        Rgb888::new(0x10, 0xeb, 0x10),
        Rgb888::new(0xeb, 0x10, 0xeb),
        Rgb888::new(0xeb, 0x10, 0x10),
        Rgb888::new(0x10, 0x10, 0xeb),
        Rgb888::new(0x10, 0x10, 0x10),
    ];
    let bar = WIDTH / BARS.len() as u32;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let color = if y < HEIGHT / 2 {
                // Darker from row to row, so that no two rows are equal.
                let shade = |part: u8| (u32::from(part) * (HEIGHT - y / 2) / HEIGHT) as u8;
                let base = BARS[(x / bar) as usize];
                Rgb888::new(shade(base.r()), shade(base.g()), shade(base.b()))
            } else {
                Rgb888::new(
                    (x * 255 / WIDTH) as u8,
                    ((y - HEIGHT / 2) * 255 / (HEIGHT / 2)) as u8,
                    ((x ^ y) & 0xff) as u8,
                )
            };
            canvas.set(x, y, color);
        }
    }

    let grid = PrimitiveStyle::with_stroke(Rgb888::new(0x60, 0x60, 0x60), 1);
    for x in (0..WIDTH as i32).step_by(100) {
        Line::new(Point::new(x, 0), Point::new(x, HEIGHT as i32 - 1))
            .into_styled(grid)
            .draw(canvas)?;
    }
    for y in (0..HEIGHT as i32).step_by(100) {
        Line::new(Point::new(0, y), Point::new(WIDTH as i32 - 1, y))
            .into_styled(grid)
            .draw(canvas)?;
    }
    let center = Point::new(WIDTH as i32 / 2, HEIGHT as i32 / 2);
    for (diameter, stroke) in [(1100, 4), (700, 2), (300, 2)] {
        Circle::with_center(center, diameter)
            .into_styled(PrimitiveStyle::with_stroke(Rgb888::WHITE, stroke))
            .draw(canvas)?;
    }

    let plate = Rectangle::with_center(center, Size::new(1000, 320));
    plate
        .into_styled(PrimitiveStyle::with_fill(Rgb888::BLACK))
        .draw(canvas)?;
    text(canvas, title, center - Point::new(0, 60), 12)?;
    text(canvas, subtitle, center + Point::new(0, 100), 3)
}

/// Draws a line of text around a point.
fn text(
    canvas: &mut Canvas,
    line: &str,
    center: Point,
    scale: u32,
) -> Result<(), core::convert::Infallible> {
    let half = Point::new(line.len() as i32 * 10, 20) * scale as i32 / 2;
    let mut large = Large {
        canvas,
        origin: center - half,
        scale,
    };
    let style = MonoTextStyle::new(&FONT_10X20, Rgb888::WHITE);
    // The text is placed by its baseline, which is 15 rows down in this font.
    Text::new(line, Point::new(0, 15), style).draw(&mut large)?;
    Ok(())
}

/// Writes XRGB8888 as a PNG.
pub(crate) fn write_png(path: &Path, pixels: &[u8]) -> std::io::Result<()> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // The guest may be emulated: a small file is not worth seconds.
    encoder.set_compression(png::Compression::Fast);
    let rgb: Vec<u8> = pixels
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])
        .collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_page_differs() {
        let picture = draw("cohbuf", "x86_64");
        assert_eq!(picture.len(), BYTES);
        let pages: HashSet<&[u8]> = picture.chunks(4096).collect();
        assert_eq!(pages.len(), BYTES.div_ceil(4096));
    }

    #[test]
    fn png_holds_the_pixels() {
        let path = std::env::temp_dir().join(format!("cohbuf-{}.png", std::process::id()));
        let picture = draw("cohbuf", "aarch64");
        write_png(&path, &picture).unwrap();
        let file = std::io::BufReader::new(File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        std::fs::remove_file(&path).unwrap();
        let same = picture
            .chunks_exact(4)
            .zip(rgb.chunks_exact(3))
            .all(|(x, p)| p == [x[2], x[1], x[0]]);
        assert!(same);
    }
}
