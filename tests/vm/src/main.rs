// SPDX-License-Identifier: GPL-2.0

//! What is tested of cohbuf from userspace. Runs as root in a guest, finds out
//! what that guest has, and skips with a reason what it has not.
//!
//!     cohbuf-vm-tests [--out DIR] [--boot BOOT] [--list] [FILTER]
//!
//! BOOT is plain, swiotlb (`swiotlb=force`) or iommu (edu is behind one): what the
//! guest was booted as, which must be what it shows.
//!
//! KTAP goes to DIR/vm.ktap and to standard output.

#![deny(unsafe_code)]

mod cases;
mod child;
mod driver;
mod enforced;
mod guest;
mod harness;
mod raw;
mod scene;
mod screen;
mod slots;
mod trace;
mod traced;
mod video;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cohbuf-vm-tests [--out DIR] [--boot BOOT] [--list] [FILTER]";

fn main() -> ExitCode {
    let mut out = None;
    let mut filter = None;
    let mut list = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--child" => return child::main(&arguments.collect::<Vec<_>>()),
            "--out" => out = arguments.next().map(PathBuf::from),
            "--boot" => {
                let boot = arguments.next().unwrap_or_default();
                if boot != guest::boot() {
                    eprintln!("--boot {boot}, but this guest shows {}", guest::boot());
                    return ExitCode::FAILURE;
                }
            }
            "--list" => list = true,
            text if !text.starts_with('-') && filter.is_none() => filter = Some(argument),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    let suites = cases::all();
    if list {
        harness::list(&suites);
        return ExitCode::SUCCESS;
    }
    match harness::run(&suites, filter.as_deref(), out.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cohbuf-vm-tests: {error}");
            ExitCode::FAILURE
        }
    }
}
