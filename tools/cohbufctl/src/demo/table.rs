// SPDX-License-Identifier: GPL-2.0

//! The results of demos, for people.

use std::fs;

use comfy_table::{ContentArrangement, Table, presets};

use crate::cli::{Boot, ReportArgs};
use crate::demo::record::{Beyond, Demo, FILE, Known, Late, Maintained, PICTURE, Sharing, Use};
use crate::error::{Error, Result};
use crate::show::{Look, print, print_json};

pub(crate) fn report(args: &ReportArgs, look: Look) -> Result<()> {
    let mut demos = Vec::new();
    for dir in &args.dirs {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| Error::Read {
            path: path.clone(),
            error,
        })?;
        let demo: Demo =
            serde_json::from_str(&text).map_err(|error| Error::Parse { path, error })?;
        demos.push(demo);
    }
    if look.json {
        print_json(&serde_json::json!(demos))?;
    } else {
        let mut text = text_of(&demos);
        for dir in &args.dirs {
            let picture = dir.join(PICTURE);
            text += &format!("picture as the device saw it: {}\n", picture.display());
        }
        print(&text)?;
    }
    let deviations: Vec<String> = demos
        .iter()
        .flat_map(|demo| {
            let place = place(demo);
            demo.deviations
                .iter()
                .map(move |text| format!("{place}: {text}"))
        })
        .collect();
    if deviations.is_empty() {
        if !look.json {
            print("all as the contract says\n")?;
        }
        Ok(())
    } else {
        Err(Error::Deviates(deviations))
    }
}

pub(crate) fn text_of(demos: &[Demo]) -> String {
    let mut text = String::new();
    for demo in demos {
        text += &format!("{}\n{}\n", place(demo), table(demo));
        for row in &demo.importers {
            for (buffer, used) in [("coherent", &row.coherent), ("bracketed", &row.bracketed)] {
                if let Some(data) = &used.data {
                    text += &format!(
                        "{}, {buffer} buffer: {} of {} pages read by {} device(s) in {:.1} s \
                         of guest time, {} bytes wrong; {} bytes written, {} bytes wrong\n",
                        row.name,
                        data.pages_read,
                        data.pages,
                        data.devices,
                        data.seconds,
                        data.wrong_read,
                        data.written,
                        data.wrong_written,
                    );
                }
            }
        }
        text += &format!("\nbeyond the SYNC ioctl\n{}\n\n", beyond(&demo.beyond));
    }
    text
}

fn beyond(is: &Beyond) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["rule", "what", "what came of it"]);
    let mut row = |rule: &str, what: &str, result: String| {
        table.add_row([rule.to_owned(), what.to_owned(), result]);
    };
    row(
        "R9",
        "10x10 pixels of 1600x1200: bytes maintained by a whole SYNC, by one of the region",
        maintained(&is.regions),
    );
    row(
        "R11",
        "the same, whole SYNCs: bytes maintained after all pages were written, after the update",
        maintained(&is.dirty_pages),
    );
    row(
        "R10",
        "report: a read outside of a window, a write outside, a write in one to read",
        format!(
            "{} read(s) and {} writes counted; {} inside",
            is.report.reads, is.report.writes, is.report.inside
        ),
    );
    row(
        "R10",
        "poison: a write outside of a window",
        format!(
            "signal {}, START {}, attach {}",
            is.poison
                .signal
                .map_or_else(|| "none".to_owned(), |signal| signal.to_string()),
            is.poison.start.0,
            is.poison.attach.0
        ),
    );
    row(
        "R7",
        "device to device, both stay mapped: bytes wrong without a device-side sync, with it",
        format!(
            "{} of {}, {}",
            is.handed_over.wrong_without, is.handed_over.bytes, is.handed_over.wrong
        ),
    );
    row(
        "R6",
        &format!(
            "map for a device while another is to write in {} ms",
            is.fenced.delay
        ),
        format!(
            "{}; without autofence {} of {}",
            late(&is.fenced.autofence),
            late(&is.fenced.off),
            is.fenced.bytes
        ),
    );
    row(
        "R12",
        "a coherent buffer for vgem: direct, reverse or copy",
        sharing(&is.share),
    );
    row("R12", "the same, by copy", sharing(&is.share_by_copy));
    row(
        "R12",
        "COPY of 400x300 pixels to a buffer of vgem with other rows",
        format!("{} bytes, {} wrong", is.copy.bytes, is.copy.wrong),
    );
    row(
        "R13",
        "INFO after the 10x10 pixels: who is attached, bytes maintained since CREATE",
        known(&is.known),
    );
    table
}

fn maintained(is: &Maintained) -> String {
    match is {
        Maintained::NotHere(why) => format!("n/a: {why}"),
        Maintained::Bytes { whole, part } => format!("{whole}, {part}"),
    }
}

fn late(is: &Late) -> String {
    format!("{} ms, {} wrong", is.millis, is.wrong)
}

fn known(is: &Known) -> String {
    let list: Vec<String> = is
        .attachments
        .iter()
        .map(|one| format!("{} ({})", one.device, one.reach))
        .collect();
    format!(
        "{}; {} cleaned, {} copied, {} saved",
        list.join(", "),
        is.cleaned,
        is.copied,
        is.saved
    )
}

fn sharing(is: &Sharing) -> String {
    let direct = match &is.direct {
        Some(direct) if !direct.is_ok() => format!(" (direct: {})", direct.0),
        _ => String::new(),
    };
    format!(
        "{}{direct}; copied {} bytes once, {} an update; {} wrong, {} after an update",
        is.way, is.copied_once, is.copied_per_update, is.wrong, is.wrong_after_update
    )
}

fn place(demo: &Demo) -> String {
    let boot = match demo.boot {
        Boot::Plain => "plain boot",
        Boot::Swiotlb => "swiotlb=force: every mapping is bounced",
    };
    format!("{}, Linux {}, {boot}", demo.arch, demo.kernel)
}

fn table(demo: &Demo) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "importer",
            "device coherent",
            "coherent buffer",
            "bracketed buffer",
            "data right",
        ]);
    for row in &demo.importers {
        table.add_row([
            row.name.clone(),
            match row.device_coherent {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None => "does not say".to_owned(),
            },
            outcome(&row.coherent),
            outcome(&row.bracketed),
            data(&row.coherent, &row.bracketed),
        ]);
    }
    table
}

fn outcome(used: &Use) -> String {
    if !used.attach.is_ok() {
        return format!("attach refused: {}", used.attach.0);
    }
    match &used.map {
        None => "attached".to_owned(),
        Some(map) if !map.is_ok() => format!("map refused: {}", map.0),
        Some(_) if used.bounced == Some(true) => "mapped, bounced".to_owned(),
        Some(_) => "mapped".to_owned(),
    }
}

/// Speaks of data only where a device moved some.
fn data(coherent: &Use, bracketed: &Use) -> String {
    let moved: Vec<bool> = [coherent, bracketed]
        .iter()
        .filter_map(|used| used.data.as_ref())
        .map(|data| data.is_right())
        .collect();
    match moved.as_slice() {
        [] => "moves none".to_owned(),
        right if right.iter().all(|right| *right) => "yes".to_owned(),
        _ => "NO".to_owned(),
    }
}
