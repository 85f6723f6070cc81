// SPDX-License-Identifier: GPL-2.0

//! Copies a rectangle from one image into another with longer rows.
//!
//!     cargo run --example copy

use cohbuf::{CopyRegion, Device};

fn main() -> cohbuf::Result<()> {
    let device = Device::open()?;
    // 64 rows of 100 bytes, and 64 of 128.
    let src = device.buffer(64 * 100).name("src").create()?;
    let dst = device.buffer(64 * 128).name("dst").create()?;

    let mut view = src.view()?;
    let mut window = view.write()?;
    for (number, row) in window.chunks_exact_mut(100).take(64).enumerate() {
        row.fill(number as u8);
    }
    window.end()?;

    // The kernel waits for fences, and brackets both.
    let region = CopyRegion::Rows {
        src_offset: 0,
        dst_offset: 0,
        src_stride: 100,
        dst_stride: 128,
        length: 100,
        rows: 64,
    };
    let copied = device.copy(&src, &dst, region)?;

    let view = dst.view()?;
    let window = view.read()?;
    let right = window
        .chunks_exact(128)
        .enumerate()
        .take(64)
        .filter(|(number, row)| {
            row[..100].iter().all(|byte| *byte == *number as u8) && row[100..] == [0; 28]
        });
    println!(
        "copied {copied} bytes, {} of 64 rows are right",
        right.count()
    );
    window.end()
}
