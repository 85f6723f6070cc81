// SPDX-License-Identifier: GPL-2.0

//! What the kernel's tracing says of a buffer.

use std::fs;
use std::os::fd::AsFd;
use std::process;

use cohbuf_trace::{Event, MOUNT, Tracer};
use rustix::fs::fstat;

use crate::guest::exists;
use crate::harness::{Outcome, Stop, fail, skip};

/// All of them, by name.
pub(crate) const EVENTS: [&str; 17] = [
    "cohbuf_attach",
    "cohbuf_copy",
    "cohbuf_create",
    "cohbuf_detach",
    "cohbuf_fence_wait_begin",
    "cohbuf_fence_wait_end",
    "cohbuf_maintain",
    "cohbuf_map",
    "cohbuf_outside",
    "cohbuf_release",
    "cohbuf_sync",
    "cohbuf_sync_for_cpu",
    "cohbuf_sync_for_device",
    "cohbuf_unmap",
    "cohbuf_window_abandon",
    "cohbuf_window_close",
    "cohbuf_window_open",
];

/// By which events know the buffer.
pub(crate) fn inode(buffer: impl AsFd) -> Result<u64, Stop> {
    Ok(fstat(buffer)?.st_ino)
}

/// Begins to record the events of cohbuf, where the kernel can.
pub(crate) fn tracer() -> Result<Tracer, Stop> {
    tracer_of(&["cohbuf"])
}

/// The same, of these alone.
pub(crate) fn tracer_of(events: &[&str]) -> Result<Tracer, Stop> {
    if !exists(MOUNT) || !exists(&format!("{MOUNT}/instances")) {
        return skip("this kernel has no tracefs");
    }
    let tracer = Tracer::new(&format!("cohbuf-vm-{}", process::id()), 1024)?;
    for event in events {
        tracer.enable(event)?;
    }
    Ok(tracer)
}

/// What one event says, without its time and who did it: "map ino=N duration=N error=0". Numbers that
/// differ from run to run are N.
fn plain(event: &Event) -> String {
    let name = event.name.strip_prefix("cohbuf_").unwrap_or(&event.name);
    let words = event
        .text
        .split(' ')
        .map(|word| match word.split_once('=') {
            Some((key @ ("ino" | "src" | "dst" | "tgid" | "duration"), _)) => format!("{key}=N"),
            _ => word.to_owned(),
        });
    let words: Vec<String> = words.collect();
    format!("{name} {}", words.join(" "))
}

/// Stops, and gives what came of one buffer.
pub(crate) fn events_of(tracer: &Tracer, ino: u64) -> Result<Vec<Event>, Stop> {
    let mut events = tracer.stop()?;
    if tracer.lost()? > 0 {
        return fail("events were lost");
    }
    events.retain(|event| {
        ["ino", "src", "dst"]
            .iter()
            .any(|of| event.number(of) == ino)
    });
    Ok(events)
}

/// Fails unless these are the events, field by field.
#[track_caller]
pub(crate) fn expect_events(is: &[Event], must: &[String]) -> Outcome {
    let line = std::panic::Location::caller();
    let is: Vec<String> = is.iter().map(plain).collect();
    for at in 0..is.len().max(must.len()) {
        if is.get(at) != must.get(at) {
            return fail(format!(
                "{line}: event {at}: {:?}, must be {:?}; all: {is:#?}",
                is.get(at),
                must.get(at)
            ));
        }
    }
    Ok(())
}

pub(crate) const BUFFERS: &str = "/sys/kernel/debug/cohbuf/buffers";

/// The lines of [`BUFFERS`], each as columns and values.
pub(crate) fn debugfs() -> Result<Vec<Vec<(String, String)>>, Stop> {
    let text = fs::read_to_string(BUFFERS)?;
    let mut lines = text.lines();
    let Some(header) = lines.next() else {
        return fail("no header");
    };
    let names: Vec<&str> = header.split(' ').collect();
    lines
        .map(|line| {
            let values: Vec<&str> = line.split(' ').collect();
            if values.len() != names.len() {
                return fail(format!("not as many as in the header: {line}"));
            }
            let pairs = names.iter().zip(values);
            Ok(pairs
                .map(|(n, v)| ((*n).to_owned(), v.to_owned()))
                .collect())
        })
        .collect()
}
