// SPDX-License-Identifier: GPL-2.0

//! A small change of a large image: only its cache lines are maintained.
//!
//!     cargo run --example rectangle

use cohbuf::{Device, Region};

const WIDTH: u32 = 1600;
const HEIGHT: u32 = 1200;
const PIXEL: u32 = 4;
const STRIDE: u64 = WIDTH as u64 * PIXEL as u64;

fn main() -> cohbuf::Result<()> {
    let device = Device::open()?;
    let image = device
        .buffer(STRIDE * u64::from(HEIGHT))
        .name("image")
        .create()?;
    let mut view = image.view()?;

    // 10 by 10 pixels, from column 76 and row 100 on.
    let Some(sprite) = Region::rectangle((76, 100), (10, 10), PIXEL, STRIDE) else {
        return Ok(()); // Only where 64 bits cannot count the bytes.
    };
    let mut window = view.write_rows(&device, sprite)?;
    for (number, row) in window.rows_mut().enumerate() {
        row.fill(number as u8 + 1);
    }
    // Nothing is maintained while no device that needs it is attached.
    let cost = window.end()?;
    println!("maintained {} of {} bytes", cost.maintained(), image.size());

    let window = view.read_rows(&device, sprite)?;
    let sums = window
        .rows()
        .map(|row| row.iter().map(|byte| u32::from(*byte)).sum::<u32>());
    println!("sums of the rows: {:?}", sums.collect::<Vec<_>>());
    window.end()?;
    Ok(())
}
