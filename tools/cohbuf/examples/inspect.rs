// SPDX-License-Identifier: GPL-2.0

//! What is known of a buffer, and what an error says.
//!
//!     cargo run --example inspect

use cohbuf::{Access, Device, Enforce};

fn main() -> cohbuf::Result<()> {
    let device = Device::open()?;
    let caps = device.caps()?;
    println!("version {}", caps.version);

    let buffer = device
        .buffer(1 << 20)
        .name("inspected")
        .enforce(Enforce::Report)
        .create()?;
    let window = buffer.cpu_access(Access::Write)?;
    let (info, importers) = device.inspect(&buffer)?;
    println!(
        "{} bytes, {:?}, {}, {} importers, {} open",
        info.size,
        info.flags,
        info.caching,
        importers.len(),
        info.write_windows,
    );
    window.end()?;

    // An error says what was tried, what the kernel answered, and what to do.
    match device.buffer(0).create() {
        Ok(_) => println!("a buffer of no bytes"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
