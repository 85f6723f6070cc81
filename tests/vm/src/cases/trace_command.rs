// SPDX-License-Identifier: GPL-2.0

//! `cohbufctl trace`: what it leaves, however it ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cohbuf_trace::timeline::Recording;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::cases::cohbufctl::{exits, json, run, text};
use crate::check;
use crate::guest::{self, Guest};
use crate::harness::{Outcome, Stop, expect, expect_eq, fail};
use crate::screen::Screen;
use crate::traced;

crate::guest_suite!("trace_command":
    a_program_is_recorded,
    it_ends_as_the_program_does,
    what_cannot_be_written_is_known_before,
    events_are_there_without_the_picture,
    a_signal_is_for_the_program,
    a_signal_ends_a_duration,
    the_second_signal_ends_it,
    control_c_comes_once,
);

const DIR: &str = "/tmp/trace-command";
const SVG: &str = "/tmp/trace-command/t.svg";

/// Not a pipe: of that, the end comes with the end of the last program that has it.
const SAID: &str = "/tmp/trace-command/said";

/// For a slow guest.
const PATIENCE: Duration = Duration::from_secs(60);

fn begin() -> Outcome {
    guest::needs_sockets()?;
    drop(traced::tracer()?);
    let _ = fs::remove_dir_all(DIR);
    Ok(fs::create_dir(DIR)?)
}

/// Fails where a tracer is left, or no picture.
fn expect_clean(drawn: bool) -> Outcome {
    let instances = fs::read_dir(format!("{}/instances", cohbuf_trace::MOUNT))?;
    let left: Vec<String> = instances
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("cohbufctl-"))
        .collect();
    expect_eq("instances", left, Vec::new())?;
    let svg = fs::read_to_string(SVG).unwrap_or_default();
    expect_eq("a picture", svg.contains("<svg"), drawn)?;
    expect_eq("a file", Path::new(SVG).exists(), drawn)
}

/// Starts one, and waits until it records.
fn start(words: &[&str]) -> Result<Child, Stop> {
    let child = Command::new("cohbufctl")
        .args(["trace", "--out", SVG])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(SAID)?)
        .spawn()?;
    let instance = format!("{}/instances/cohbufctl-{}", cohbuf_trace::MOUNT, child.id());
    let on = format!("{instance}/events/cohbuf/enable");
    wait("events that are on", || {
        fs::read_to_string(&on).is_ok_and(|text| text.trim() == "1")
    })?;
    Ok(child)
}

fn wait(what: &str, is: impl Fn() -> bool) -> Outcome {
    let began = Instant::now();
    while !is() {
        if began.elapsed() > PATIENCE {
            return fail(format!("{what}: it does not come"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn send(child: &Child, signal: Signal) -> Outcome {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or(Errno::SRCH)?, signal)?)
}

/// What it says in the end, which must come soon.
fn end(mut child: Child) -> Result<Output, Stop> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE / 2 {
            let _ = child.kill();
            let _ = child.wait();
            return fail("it does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Output {
        status: child.wait()?,
        stdout: Vec::new(),
        stderr: fs::read(SAID)?,
    })
}

fn recording(path: &str) -> Result<Recording, Stop> {
    match serde_json::from_str(&fs::read_to_string(path)?) {
        Ok(recording) => Ok(recording),
        Err(error) => fail(format!("{path}: {error}")),
    }
}

fn a_program_is_recorded(_: &Guest) -> Outcome {
    begin()?;
    let (events, html) = (&format!("{DIR}/e.json"), &format!("{DIR}/t.html"));
    let script = "cohbufctl create --coherent --size 64KiB >/dev/null";
    let words = ["trace", "--json", "--events", events, "--out", html];
    let output = run(&[&words[..], &["--", "sh", "-c", script]].concat())?;
    exits(&output, 0)?;
    let shown = json(&output)?;
    expect_eq("buffers", shown["buffers"].as_u64(), Some(1))?;
    let page = fs::read_to_string(html)?;
    check!(page.starts_with("<!DOCTYPE html>"), "{page}");
    let recorded = recording(events)?;
    let create = recorded.events.iter().find(|e| e.name == "cohbuf_create");
    let flags = create.and_then(|event| event.field("flags"));
    expect_eq("flags", flags, Some("COHERENT"))?;
    check!(
        recorded.events.iter().any(|e| e.name == "cohbuf_release"),
        "{recorded:?}"
    );
    // The same picture later, and on another machine.
    exits(&run(&["trace", "--from", events, "--out", SVG])?, 0)?;
    let svg = fs::read_to_string(SVG)?;
    expect("the same picture", page.contains(&svg))?;
    check!(svg.contains("64 KiB"), "{svg}");
    expect_clean(true)
}

fn it_ends_as_the_program_does(_: &Guest) -> Outcome {
    begin()?;
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 128 + 9)] {
        let output = run(&["trace", "--out", SVG, "--", "sh", "-c", script])?;
        exits(&output, code)?;
        expect("what was drawn is told", text(&output).contains(SVG))?;
        expect_clean(true)?;
        fs::remove_file(SVG)?;
    }
    exits(&run(&["trace", "--out", SVG, "--", "/no/such"])?, 1)?;
    expect_clean(false)
}

fn what_cannot_be_written_is_known_before(_: &Guest) -> Outcome {
    begin()?;
    let ran = format!("{DIR}/ran");
    let nowhere = format!("{DIR}/none/file");
    for files in [
        ["--out", &nowhere, "--events", "/dev/null"],
        ["--out", SVG, "--events", &nowhere],
    ] {
        let output = run(&[&["trace"], &files[..], &["--", "touch", &ran]].concat())?;
        exits(&output, 1)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check!(said.contains(&nowhere), "{said}");
        expect("it did not run", !Path::new(&ran).exists())?;
        expect_clean(false)?;
    }
    Ok(())
}

fn events_are_there_without_the_picture(_: &Guest) -> Outcome {
    begin()?;
    let events = format!("{DIR}/e.json");
    let words = ["trace", "--out", "/dev/full", "--events", &events, "--"];
    let output = run(&[&words[..], &["sh", "-c", "cohbufctl create >/dev/null"]].concat())?;
    exits(&output, 1)?;
    expect("events", !recording(&events)?.events.is_empty())?;
    expect_clean(false)
}

fn a_signal_is_for_the_program(_: &Guest) -> Outcome {
    begin()?;
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
        let child = start(&["--", "sleep", "600"])?;
        send(&child, signal)?;
        exits(&end(child)?, 128 + number)?;
        expect_clean(true)?;
        fs::remove_file(SVG)?;
    }
    Ok(())
}

fn a_signal_ends_a_duration(_: &Guest) -> Outcome {
    begin()?;
    for signal in [Signal::INT, Signal::TERM] {
        let child = start(&["--duration", "3600"])?;
        send(&child, signal)?;
        exits(&end(child)?, 0)?;
        expect_clean(true)?;
        fs::remove_file(SVG)?;
    }
    Ok(())
}

fn the_second_signal_ends_it(_: &Guest) -> Outcome {
    begin()?;
    let file = format!("{DIR}/pid");
    let script = format!("trap '' INT TERM; echo $$ >{file}; exec sleep 600");
    let mut child = start(&["--", "sh", "-c", &script])?;
    let pid = || {
        let text = fs::read_to_string(&file).ok()?;
        text.trim().parse().ok().and_then(Pid::from_raw)
    };
    wait("the program", || pid().is_some())?;
    send(&child, Signal::INT)?;
    thread::sleep(Duration::from_millis(500));
    expect("the first one is ignored", child.try_wait()?.is_none())?;
    send(&child, Signal::INT)?;
    let output = end(child);
    let pid = pid().ok_or(Errno::SRCH)?;
    let lives = test_kill_process(pid).is_ok();
    let _ = kill_process(pid, Signal::KILL);
    let output = output?;
    exits(&output, 0)?;
    expect("the program lives", lives)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(said.contains("not waited for"), "{said}");
    expect_clean(true)
}

/// The terminal sends it to all that run there.
fn control_c_comes_once(_: &Guest) -> Outcome {
    begin()?;
    let script = "trap 'echo got it; seen=1' INT; echo begun; \
                  while [ -z $seen ]; do sleep 1; done; sleep 1; exit 5";
    let words = ["cohbufctl", "trace", "--out", SVG, "--", "sh", "-c", script];
    let mut screen = Screen::run(&words, 24, 100)?;
    screen.wait("the program", |text| text.contains("begun"))?;
    screen.press("\u{3}")?;
    expect_eq("exit status", screen.end()?.code(), Some(5))?;
    let shown = screen.text();
    expect_eq(&shown, shown.matches("got it").count(), 1)?;
    expect_clean(true)
}
