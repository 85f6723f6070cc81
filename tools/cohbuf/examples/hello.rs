// SPDX-License-Identifier: GPL-2.0

//! A buffer, a window to write, a window to read.
//!
//!     cargo run --example hello

use cohbuf::Device;

fn main() -> cohbuf::Result<()> {
    let device = Device::open()?;
    let buffer = device.buffer(64 << 10).name("hello").create()?;
    let mut view = buffer.view()?;

    // Devices that use the buffer are waited for; then it is ours, until the end.
    let mut window = view.write()?;
    window[..13].copy_from_slice(b"hello, device");
    window.end()?;

    // What devices wrote meanwhile is in here.
    let window = view.read()?;
    let text = window.get(..13).unwrap_or_default();
    println!("{} bytes: {}", buffer.size(), String::from_utf8_lossy(text));
    window.end()
}
