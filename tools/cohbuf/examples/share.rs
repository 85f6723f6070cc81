// SPDX-License-Identifier: GPL-2.0

//! A coherent buffer for a DRM device, which may refuse it.
//!
//!     cargo run --features drm --example share [DEVICE FILE OR DRIVER]

use std::error::Error;
use std::process::ExitCode;

use cohbuf::Device;
use cohbuf::share::{DrmDevice, share};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("share: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let with = std::env::args().nth(1).unwrap_or_else(|| "vgem".to_owned());
    let importer = if with.contains('/') {
        DrmDevice::open(&with)?
    } else {
        DrmDevice::open_driver(&with)?
    };
    let device = Device::open()?;
    let buffer = device.buffer(64 << 10).coherent().name("shared").create()?;

    // As it is, else by a buffer of the importer's own, else by a copy.
    let shared = share(&device, &buffer, &importer)?;
    for attempt in shared.attempts() {
        match attempt.result {
            Ok(()) => println!("{}: works", attempt.way),
            Err(failure) => println!("{}: {failure}", attempt.way),
        }
    }

    // Whoever makes the bytes writes here, and says so.
    let mut view = shared.producer_buffer().view()?;
    let mut window = view.read_write()?;
    window.fill(0x5a);
    window.end()?;
    shared.refresh()?;

    let view = shared.importer_buffer().view()?;
    let window = view.read()?;
    let right = window.iter().filter(|byte| **byte == 0x5a).count();
    println!("the importer has {right} of {} bytes", window.len());
    window.end()?;
    Ok(())
}
