// SPDX-License-Identifier: GPL-2.0

//! What enforcement costs: a table for a person to read.

use std::time::{Duration, Instant};

use cohbuf::{Access, CreateFlags};

use crate::check;
use crate::enforced::{Outside, REPORT, Scene};
use crate::guest::Guest;
use crate::harness::{self, Outcome, Stop};

crate::guest_suite!("enforce_cost":
    prints_the_table,
);

const SIZES: [usize; 5] = [0, 1, 16, 256, 1024];
const PAGES: usize = 1024;
const ROUNDS: usize = 15;

/// The shortest time of a window in which so many pages are written, one byte each.
fn window(scene: &Scene, access: Access, touched: usize) -> Result<Duration, Stop> {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let window = scene.window(access)?;
        for number in 0..touched {
            match access {
                Access::Read => {
                    let _ = scene.read(number);
                }
                Access::Write | Access::ReadWrite => scene.write(number, 1),
            }
        }
        window.end()?;
        least = least.min(began.elapsed());
    }
    Ok(least)
}

fn prints_the_table(guest: &Guest) -> Outcome {
    let plain = Scene::new(guest, PAGES, CreateFlags::empty())?;
    let enforced = Scene::new(guest, PAGES, REPORT)?;
    let mut text =
        "| window of a buffer of 1024 pages | plain, us | enforced, us | more per page, us |\n\
                    | --- | ---: | ---: | ---: |\n"
            .to_owned();
    for (access, verb) in [(Access::Read, "reads"), (Access::ReadWrite, "writes")] {
        for touched in SIZES {
            let us = |time: Duration| time.as_nanos() as f64 / 1e3;
            let plain = us(window(&plain, access, touched)?);
            let enforced = us(window(&enforced, access, touched)?);
            check!(plain > 0.0 && enforced > 0.0, "no time passes");
            let per_page = if touched == 0 {
                "".to_owned()
            } else {
                format!("{:.2}", (enforced - plain) / touched as f64)
            };
            text += &format!(
                "| {verb} {touched} of them | {plain:.1} | {enforced:.1} | {per_page} |\n"
            );
        }
    }
    check!(
        enforced.outside(guest)? == Outside::NONE,
        "an access was taken for one outside"
    );
    harness::leave("enforcement.txt", &text)?;
    Ok(())
}
