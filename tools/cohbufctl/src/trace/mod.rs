// SPDX-License-Identifier: GPL-2.0

//! `trace`: records the trace events of cohbuf, and draws them.

mod meanwhile;
mod output;

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use cohbuf_trace::Tracer;
use cohbuf_trace::timeline::Recording;
use rustix::system::uname;
use serde_json::json;

use crate::cli::TraceArgs;
use crate::error::{Error, Result};
use crate::show::{Look, note, show};
use crate::trace::meanwhile::Meanwhile;
use crate::trace::output::Output;

pub(crate) fn trace(args: &TraceArgs, look: Look) -> Result<()> {
    // Whatever cannot be written is known before anything is recorded.
    let out = Output::open(&args.out)?;
    let events = args.events.as_deref().map(Output::open).transpose()?;
    let (recording, status) = match &args.from {
        Some(path) => (read(path)?, None),
        None => record(args)?,
    };
    if recording.lost > 0 {
        let lost = recording.lost;
        note(&format!(
            "{lost} events were lost: give more room with --buffer"
        ));
    }
    // The picture can be drawn from them.
    if let Some(events) = events {
        events.write(&format!("{:#}\n", json!(recording)))?;
    }
    out.write(&match args.out.extension().and_then(|of| of.to_str()) {
        Some("html" | "htm") => recording.to_html(),
        _ => recording.to_svg(),
    })?;
    show(
        look,
        &json!({
            "timeline": args.out,
            "events": recording.events.len(),
            "lost": recording.lost,
            "buffers": recording.buffers().len(),
        }),
    )?;
    match status.filter(|status| !status.success()) {
        // What it did before that is what people want to see.
        Some(status) => Err(Error::Ended {
            program: args.command[0].clone(),
            status,
        }),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Recording> {
    let text = fs::read_to_string(path).map_err(|error| Error::Read {
        path: path.to_owned(),
        error,
    })?;
    serde_json::from_str(&text).map_err(|error| Error::Recording {
        path: path.to_owned(),
        error,
    })
}

/// What was recorded, and how the program ended.
fn record(args: &TraceArgs) -> Result<(Recording, Option<ExitStatus>)> {
    // A signal must not leave the tracer behind.
    let meanwhile = Meanwhile::new()?;
    let name = format!("cohbufctl-{}", std::process::id());
    let tracer = Tracer::new(&name, args.buffer).map_err(Error::Trace)?;
    tracer.enable("cohbuf").map_err(Error::Trace)?;
    let status = match args.command.as_slice() {
        [program, arguments @ ..] => {
            let status = meanwhile.run(program, arguments)?;
            if status.is_none() {
                note(&format!("{program} is not waited for"));
            }
            status
        }
        [] => {
            meanwhile.sleep(args.duration);
            None
        }
    };
    let events = tracer.stop().map_err(Error::Trace)?;
    let lost = tracer.lost().map_err(Error::Trace)?;
    let system = uname();
    let recording = Recording {
        kernel: system.release().to_string_lossy().into_owned(),
        machine: system.machine().to_string_lossy().into_owned(),
        command: (!args.command.is_empty()).then(|| args.command.join(" ")),
        lost,
        events,
    };
    Ok((recording, status))
}
