// SPDX-License-Identifier: GPL-2.0

//! `trace`: records the trace events of cohbuf, and draws them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cohbuf_trace::Tracer;
use cohbuf_trace::timeline::Recording;
use rustix::system::uname;
use serde_json::json;

use crate::cli::TraceArgs;
use crate::error::{Error, Result};
use crate::show::{Look, note, show};

pub(crate) fn trace(args: &TraceArgs, look: Look) -> Result<()> {
    let recording = match &args.from {
        Some(path) => read(path)?,
        None => record(args)?,
    };
    if recording.lost > 0 {
        let lost = recording.lost;
        note(&format!(
            "{lost} events were lost: give more room with --buffer"
        ));
    }
    let text = match args.out.extension().and_then(|of| of.to_str()) {
        Some("html" | "htm") => recording.to_html(),
        _ => recording.to_svg(),
    };
    write(&args.out, &text)?;
    if let Some(path) = &args.events {
        write(path, &format!("{:#}\n", json!(recording)))?;
    }
    show(
        look,
        &json!({
            "timeline": args.out,
            "events": recording.events.len(),
            "lost": recording.lost,
            "buffers": recording.buffers().len(),
        }),
    )
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

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::Write {
        path: path.to_owned(),
        error,
    })
}

fn record(args: &TraceArgs) -> Result<Recording> {
    let name = format!("cohbufctl-{}", std::process::id());
    let tracer = Tracer::new(&name, args.buffer).map_err(Error::Trace)?;
    tracer.enable("cohbuf").map_err(Error::Trace)?;
    let status = match args.command.as_slice() {
        [program, arguments @ ..] => {
            let status = Command::new(program).args(arguments).status();
            Some(status.map_err(|error| Error::Exec {
                program: program.clone(),
                error,
            })?)
        }
        [] => {
            thread::sleep(Duration::from_secs_f64(args.duration));
            None
        }
    };
    let lost = tracer.lost().map_err(Error::Trace)?;
    let events = tracer.stop().map_err(Error::Trace)?;
    if let Some(status) = status.filter(|status| !status.success()) {
        // What it did before that is what people want to see.
        note(&format!("{}: {status}", args.command[0]));
    }
    let system = uname();
    Ok(Recording {
        kernel: system.release().to_string_lossy().into_owned(),
        machine: system.machine().to_string_lossy().into_owned(),
        command: (!args.command.is_empty()).then(|| args.command.join(" ")),
        lost,
        events,
    })
}
