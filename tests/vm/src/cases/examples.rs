// SPDX-License-Identifier: GPL-2.0

//! The examples of the library, in Rust and in C, do what they say.

use std::process::Command;

use cohbuf::Errno;

use crate::check;
use crate::guest::{self, Guest};
use crate::harness::{Outcome, Stop, expect_eq};

crate::guest_suite!("examples":
    hello,
    rectangle,
    copy,
    inspect,
    share,
    rectangle_in_c,
);

/// What an example prints, which must succeed, and leave nothing behind.
fn output(name: &str) -> Result<String, Stop> {
    let before = guest::live_buffers()?;
    let output = Command::new(format!("/examples/{name}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(output.status.success(), "{name}: {output:?}");
    expect_eq("buffers left", guest::live_buffers()?, before)?;
    Ok(text)
}

fn prints(name: &str, lines: &[&str]) -> Outcome {
    let text = output(name)?;
    expect_eq(name, text.lines().collect::<Vec<_>>(), lines.to_vec())
}

fn hello(_guest: &Guest) -> Outcome {
    prints("hello", &["65536 bytes: hello, device"])
}

fn rectangle(_guest: &Guest) -> Outcome {
    let sums = "sums of the rows: [40, 80, 120, 160, 200, 240, 280, 320, 360, 400]";
    prints("rectangle", &["maintained 0 of 7680000 bytes", sums])
}

fn copy(_guest: &Guest) -> Outcome {
    prints("copy", &["copied 6400 bytes, 64 of 64 rows are right"])
}

fn inspect(_guest: &Guest) -> Outcome {
    let error = cohbuf_error();
    let lines = [
        "version 1",
        "1048576 bytes, CreateFlags(ENFORCE_REPORT), write-back, 0 importers, 1 open",
        &error,
    ];
    prints("inspect", &lines)
}

/// What the library says of a buffer of no bytes.
fn cohbuf_error() -> String {
    format!(
        "cannot create a buffer: {} (the size must be above 0, and the driver must know each \
         flag (see caps))",
        Errno::INVAL
    )
}

fn share(guest: &Guest) -> Outcome {
    guest::vgem()?;
    let text = output("share")?;
    // vgem maps nothing, so that nothing is bounced.
    let ways = if guest.all_coherent() {
        "direct: works".to_owned()
    } else {
        format!("direct: import: {}\nreverse: works", Errno::OPNOTSUPP)
    };
    let must = format!("{ways}\nthe importer has 65536 of 65536 bytes\n");
    expect_eq("share", text, must)
}

fn rectangle_in_c(_guest: &Guest) -> Outcome {
    let lines = [
        "version 1, 7680000 bytes, 1 write window open",
        "copied 7680000 bytes, of which 400 are set",
    ];
    prints("c-rectangle", &lines)
}
