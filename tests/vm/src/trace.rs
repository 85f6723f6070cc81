// SPDX-License-Identifier: GPL-2.0

//! What the kernel's trace events say of a call.

use std::fs;
use std::path::Path;

use crate::harness::{Stop, fail};

const TRACING: &str = "/sys/kernel/tracing";

/// Events that are on. They go off when this is dropped.
struct Events<'a>(&'a [&'a str]);

impl Events<'_> {
    fn switch(&self, on: &str) -> Result<(), Stop> {
        for event in self.0 {
            let path = Path::new(TRACING).join("events").join(event).join("enable");
            if let Err(error) = fs::write(&path, on) {
                return fail(format!("{}: {error}", path.display()));
            }
        }
        Ok(())
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // Who looks next empties the trace.
        let _ = self.switch("0");
    }
}

/// Calls `run` with these events on, such as `dma/dma_map_sg`. Returns what it does, and the
/// trace, a line for each event, from its name on.
pub(crate) fn traced<R>(
    events: &[&str],
    run: impl FnOnce() -> R,
) -> Result<(R, Vec<String>), Stop> {
    let trace = Path::new(TRACING).join("trace");
    let on = Events(events);
    fs::write(&trace, "")?;
    on.switch("1")?;
    let result = run();
    drop(on);
    let names: Vec<String> = events
        .iter()
        .filter_map(|event| event.rsplit('/').next())
        .map(|name| format!(" {name}: "))
        .collect();
    let lines = fs::read_to_string(&trace)?
        .lines()
        .filter_map(|line| {
            let at = names.iter().find_map(|name| line.find(name.as_str()))?;
            line.get(at + 1..).map(str::to_owned)
        })
        .collect();
    Ok((result, lines))
}
