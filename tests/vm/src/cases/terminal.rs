// SPDX-License-Identifier: GPL-2.0

//! `cohbufctl` in a real terminal.

use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use cohbuf_testdev::{Direction, TestDevice};
use rustix::process::{Signal, kill_process};

use crate::cases::fences::{PENDING, Source, WRITES};
use crate::driver::{Driver, How};
use crate::guest::{self, Guest, page};
use crate::harness::{Outcome, expect, expect_eq, leave};
use crate::screen::Screen;

crate::guest_suite!("terminal":
    watch_shows_buffers_and_gives_the_terminal_back,
    watch_follows_the_size_of_the_terminal,
    watch_sees_keys_beside_a_new_size,
    watch_is_interrupted,
    watch_is_terminated,
    watch_goes_on_while_a_buffer_hangs,
    a_bar_while_it_takes_long,
    colours_where_they_are_wanted,
);

fn watch_shows_buffers_and_gives_the_terminal_back(guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let importer = guest.importer()?;
    let buffer = guest.device()?.buffer(1_600_000).name("watched").create()?;
    let device = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut screen = Screen::run(&["cohbufctl", "watch", "--interval", "200"], 24, 120)?;
    // 1600000 bytes, rounded up to whole pages.
    let shown = screen.wait("a buffer", |text| {
        text.lines()
            .any(|line| line.starts_with("watched") && line.contains("1.53 MiB"))
            && text.contains("cohbuf-vm-tests(")
    })?;
    leave("watch.txt", &format!("{shown}\n"))?;
    expect("it has the whole screen", screen.is_alternate())?;
    expect("keys go to it", !screen.is_cooked()?)?;
    let line = shown.lines().find(|line| line.starts_with("watched"));
    let line = line.unwrap_or_default();
    expect(format!("one importer, no window: {line}"), {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .windows(3)
            .any(|words| words == ["bracketed", "1", "0"])
    })?;

    // What happens while it runs.
    let window = buffer.cpu_access(cohbuf::Access::Write)?;
    screen.wait("an open window", |text| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            line.starts_with("watched") && words.windows(3).any(|w| w == ["bracketed", "1", "1"])
        })
    })?;
    window.end()?;
    let another = guest
        .device()?
        .buffer(page() as u64)
        .name("another")
        .create()?;
    screen.wait("a new buffer", |text| text.contains("another"))?;
    drop(another);
    screen.wait("that it is gone", |text| !text.contains("another"))?;

    // Sorted by name, then by the exporter, and in bytes.
    screen.press("s")?;
    screen.wait("sorted by name", |text| text.contains("NAME▼"))?;
    screen.press("b")?;
    screen.wait("bytes", |text| text.contains("1601536"))?;
    screen.press("p")?;
    screen.wait("paused", |text| text.contains("paused"))?;

    screen.press("q")?;
    expect_eq("exit status", screen.end()?.code(), Some(0))?;
    expect("the screen is that of before", !screen.is_alternate())?;
    expect("lines are edited again", screen.is_cooked()?)?;
    expect_eq("nothing is left on it", screen.text().trim(), "")
}

fn watch_follows_the_size_of_the_terminal(guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let _buffer = guest
        .device()?
        .buffer(page() as u64)
        .name("resized")
        .create()?;
    let mut screen = Screen::run(&["cohbufctl", "watch", "--interval", "60000"], 24, 100)?;
    let frame = |text: &str, width: usize| {
        text.lines()
            .any(|line| line.starts_with('└') && line.chars().count() == width)
    };
    screen.wait("a frame of 100 columns", |text| frame(text, 100))?;
    // Long before it would look again.
    screen.resize(30, 132)?;
    screen.wait("a frame of 132 columns", |text| frame(text, 132))?;
    screen.resize(10, 60)?;
    screen.wait("the table alone", |text| {
        text.contains("resized") && !text.contains('└')
    })?;
    screen.press("q")?;
    expect_eq("exit status", screen.end()?.code(), Some(0))
}

fn watch_sees_keys_beside_a_new_size(_guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let mut screen = Screen::run(&["cohbufctl", "watch", "--interval", "60000"], 24, 100)?;
    screen.wait("keys", |text| text.contains("q quit"))?;
    for round in 0..20 {
        screen.resize(24, 101 + round)?;
        screen.press("p")?;
        let paused = round % 2 == 0;
        screen.wait(&format!("round {round}, paused: {paused}"), |text| {
            text.contains("paused") == paused
        })?;
    }
    screen.press("q")?;
    expect_eq("exit status", screen.end()?.code(), Some(0))
}

fn watch_is_interrupted(_guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let mut screen = Screen::run(&["cohbufctl", "watch"], 24, 80)?;
    screen.wait("keys", |text| text.contains("q quit"))?;
    screen.press("\u{3}")?;
    expect_eq("exit status", screen.end()?.code(), Some(0))?;
    expect("lines are edited again", screen.is_cooked()?)
}

/// The terminal is given back.
fn watch_is_terminated(_guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    for signal in [Signal::TERM, Signal::HUP] {
        let mut screen = Screen::run(&["cohbufctl", "watch"], 24, 80)?;
        screen.wait("keys", |text| text.contains("q quit"))?;
        kill_process(screen.pid()?, signal)?;
        expect_eq("exit status", screen.end()?.code(), Some(0))?;
        expect("the screen is that of before", !screen.is_alternate())?;
        expect("lines are edited again", screen.is_cooked()?)?;
    }
    Ok(())
}

/// Does something while the buffer of a name hangs: a map waits for a fence with the buffer locked,
/// and bufinfo with all of them.
pub(super) fn while_one_hangs(
    guest: &Guest,
    name: &str,
    work: impl FnOnce() -> Outcome,
) -> Outcome {
    let driver = Driver::open()?;
    let source = Source::find()?;
    let buffer = guest.device()?.buffer(0x10000).name(name).create()?;
    let device = driver.attach(&buffer, TestDevice::SnoopModel, How::default())?;
    let fence = source.add_fence(&buffer, WRITES)?;
    thread::scope(|scope| -> Outcome {
        let mapper = scope.spawn(|| device.map(Direction::Bidirectional));
        thread::sleep(PENDING / 2);
        let outcome = work();
        let hangs = !mapper.is_finished();
        let signalled = fence.signal();
        mapper.join().expect("the mapper panicked")?;
        outcome?;
        expect("it hung all the time", hangs)?;
        signalled
    })
}

fn watch_goes_on_while_a_buffer_hangs(guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    while_one_hangs(guest, "hangs", || while_it_hangs(guest))
}

fn while_it_hangs(guest: &Guest) -> Outcome {
    let mut screen = Screen::run(&["cohbufctl", "watch", "--interval", "200"], 24, 120)?;
    let shown = screen.wait("the buffer that hangs", |text| {
        text.contains("no answer for ")
            && text.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.starts_with(&["hangs", "cohbuf", "64", "KiB", "bracketed", "1", "0"])
            })
    })?;
    leave("watch-hangs.txt", &format!("{shown}\n"))?;
    let another = guest
        .device()?
        .buffer(page() as u64)
        .name("another")
        .create()?;
    screen.wait("a new buffer", |text| text.contains("another"))?;
    drop(another);
    screen.wait("that it is gone", |text| !text.contains("another"))?;
    screen.press("q")?;
    expect_eq("exit status", screen.end()?.code(), Some(0))?;
    expect("the screen is that of before", !screen.is_alternate())
}

fn a_bar_while_it_takes_long(guest: &Guest) -> Outcome {
    let buffer = guest.device()?.buffer(32 << 20).create()?;
    let fd = buffer.as_fd().as_raw_fd().to_string();
    let pid = std::process::id().to_string();
    let words = ["cohbufctl", "fill", "--pid", &pid, "--fd", &fd];
    let mut screen = Screen::run(&words, 24, 100)?;
    expect_eq("exit status", screen.end()?.code(), Some(0))?;
    let written = screen.written();
    expect(
        format!("a bar was shown: {written:?}"),
        written.contains("filling") && written.contains("/32.00 MiB"),
    )?;
    // It is gone, and the result is there.
    expect_eq("at the end", screen.text().trim(), "filled  32 MiB")
}

fn colours_where_they_are_wanted(_guest: &Guest) -> Outcome {
    let bold = "\u{1b}[1m";
    for (words, wanted) in [
        (&["cohbufctl", "list"][..], true),
        (&["env", "NO_COLOR=1", "cohbufctl", "list"], false),
        (&["sh", "-c", "cohbufctl list | cat"], false),
    ] {
        let mut screen = Screen::run(words, 24, 100)?;
        expect_eq("exit status", screen.end()?.code(), Some(0))?;
        let written = screen.written();
        expect("a heading", written.contains("EXPORTER"))?;
        expect_eq("colours", written.contains(bold), wanted)?;
    }
    Ok(())
}
