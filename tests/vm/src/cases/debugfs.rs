// SPDX-License-Identifier: GPL-2.0

//! `cohbuf/buffers` in debugfs: a line for each buffer.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, Buffer, CreateFlags};
use cohbuf_testdev::{Direction, TestDevice};

use crate::cases::fences::{PENDING, Source, WRITES};
use crate::check;
use crate::driver::{Driver, How};
use crate::enforced::{self, POISON};
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, expect_eq, fail};
use crate::scene::Scene;
use crate::traced::{debugfs, inode};

crate::guest_suite!("trace_debugfs":
    line_says_what_info_says,
    flags_and_refusals,
    poisoned,
    lines_come_and_go,
    buffer_that_hangs_is_shown,
    many_buffers,
    readers_at_the_same_time,
);

const SIZE: usize = 5 * 4096;

type Line = Vec<(String, String)>;

fn line_of(buffer: &Buffer) -> Result<Option<Line>, Stop> {
    let ino = inode(buffer)?.to_string();
    Ok(debugfs()?.into_iter().find(|line| get(line, "ino") == ino))
}

fn get<'a>(line: &'a Line, name: &str) -> &'a str {
    let found = line.iter().find(|(of, _)| of == name);
    found.map_or("no such column", |(_, value)| value)
}

/// Fails unless the line of the buffer has these values, in the order of the columns.
fn expect_line(what: &str, buffer: &Buffer, must: &str) -> Outcome {
    let Some(line) = line_of(buffer)? else {
        return fail(format!("{what}: no line"));
    };
    let is: Vec<&str> = line[1..].iter().map(|(_, value)| value.as_str()).collect();
    expect_eq(what, is.join(" "), must.to_owned())
}

fn line_says_what_info_says(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::with(
        guest,
        &importer,
        SIZE,
        CreateFlags::empty(),
        TestDevice::BounceModel,
    )?;
    let segments = scene.info()?.segments;
    let window = scene.buffer.cpu_access(Access::ReadWrite)?;
    expect_line(
        "in a window",
        &scene.buffer,
        &format!("20480 {segments} - 1 1 1 0 0 0 0 40960 0 0 0 0 0 ok"),
    )?;
    window.end()?;
    scene.buffer.cpu_access(Access::Read)?.end()?;
    expect_line(
        "after",
        &scene.buffer,
        &format!("20480 {segments} - 1 1 0 0 0 0 0 81920 20480 0 0 0 0 ok"),
    )?;
    let info = scene.info()?;
    expect_eq("own ops", info.bytes_own_ops, 81920)?;
    expect_eq("saved", info.bytes_saved, 20480)
}

fn flags_and_refusals(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let flags = CreateFlags::COHERENT | CreateFlags::ENFORCE_REPORT;
    let scene = enforced::Scene::new(guest, 2, flags)?;
    check!(
        importer
            .attach(&scene.buffer, TestDevice::BounceModel, 0)
            .is_err(),
        "own ops"
    );
    scene.read(0);
    scene.write(1, 1);
    let segments = guest.device()?.info(&scene.buffer)?.segments;
    let size = 2 * page();
    expect_line(
        "coherent",
        &scene.buffer,
        &format!("{size} {segments} COHERENT|ENFORCE_REPORT 0 0 0 0 0 0 0 0 0 1 0 1 1 ok"),
    )
}

fn poisoned(guest: &Guest) -> Outcome {
    let scene = enforced::Scene::new(guest, 1, POISON)?;
    scene.poison()?;
    let size = page();
    expect_line(
        "poisoned",
        &scene.buffer,
        &format!("{size} 1 ENFORCE_POISON 0 0 0 0 0 0 0 0 0 0 0 1 0 poisoned"),
    )
}

fn lines_come_and_go(guest: &Guest) -> Outcome {
    let before = debugfs()?.len();
    let one = guest.bracketed(SIZE)?;
    let two = guest.bracketed(SIZE)?;
    let importer = guest.importer()?;
    let device = importer.attach(&one, TestDevice::SnoopModel, 0)?;
    expect_eq("two", debugfs()?.len(), before + 2)?;
    let attached = |buffer| -> Result<String, Stop> {
        let line = line_of(buffer)?;
        let Some(line) = line else {
            return fail("no line");
        };
        Ok(format!(
            "{} {}",
            get(&line, "attachments"),
            get(&line, "mappings")
        ))
    };
    expect_eq("attached", attached(&one)?, "1 0".to_owned())?;
    device.map(Direction::ToDevice)?;
    expect_eq("mapped", attached(&one)?, "1 1".to_owned())?;
    drop(device);
    expect_eq("detached", attached(&one)?, "0 0".to_owned())?;
    let ino = inode(&one)?.to_string();
    drop(one);
    check!(
        debugfs()?.iter().all(|line| get(line, "ino") != ino),
        "its line is there"
    );
    drop(two);
    expect_eq("none", debugfs()?.len(), before)
}

// An unmap waits for a fence with the reservation lock held.
fn buffer_that_hangs_is_shown(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let source = Source::find()?;
    let buffer = guest.bracketed(SIZE)?;
    let device = driver.attach(&buffer, TestDevice::SnoopModel, How::default())?;
    let fence = source.add_fence(&buffer, WRITES)?;
    thread::scope(|scope| -> Outcome {
        let mapper = scope.spawn(|| device.map(Direction::Bidirectional));
        thread::sleep(PENDING / 2);
        let began = Instant::now();
        let line = line_of(&buffer)?;
        let hangs = !mapper.is_finished();
        let took = began.elapsed();
        fence.signal()?;
        mapper.join().expect("the mapper panicked")?;
        check!(hangs, "map did not wait");
        check!(
            line.as_ref()
                .is_some_and(|line| get(line, "attachments") == "1"),
            "the line: {line:?}"
        );
        check!(took < Duration::from_secs(5), "it took {took:?}");
        Ok(())
    })
}

// Each is listed once, and to make one does not take longer.
fn many_buffers(guest: &Guest) -> Outcome {
    const MANY: usize = 800;
    let before = debugfs()?.len();
    let mut buffers = Vec::new();
    for _ in 0..MANY {
        buffers.push(guest.bracketed(page())?);
    }
    let mut inodes: Vec<String> = debugfs()?
        .iter()
        .map(|line| get(line, "ino").to_owned())
        .collect();
    expect_eq("lines", inodes.len(), before + MANY)?;
    inodes.sort();
    inodes.dedup();
    expect_eq("inodes", inodes.len(), before + MANY)?;
    // Every other one goes while another thread reads.
    thread::scope(|scope| -> Outcome {
        let reader = scope.spawn(|| (0..20).try_for_each(|_| debugfs().map(drop)));
        let mut number = 0;
        buffers.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        reader.join().expect("the reader panicked")
    })?;
    expect_eq("half", debugfs()?.len(), before + MANY / 2)?;
    drop(buffers);
    expect_eq("none", debugfs()?.len(), before)
}

// Each of those that stay is listed once to each of several readers, while others come and go.
fn readers_at_the_same_time(guest: &Guest) -> Outcome {
    const STAY: usize = 100;
    let mut stay = Vec::new();
    let mut inodes = Vec::new();
    for _ in 0..STAY {
        let buffer = guest.bracketed(page())?;
        inodes.push(inode(&buffer)?.to_string());
        stay.push(buffer);
    }
    let read = || -> Outcome {
        for _ in 0..20 {
            let mut left: HashSet<&str> = inodes.iter().map(String::as_str).collect();
            let lines = debugfs()?;
            let ours = lines.iter().map(|line| get(line, "ino"));
            let twice = ours.filter(|ino| inodes.iter().any(|of| of == ino) && !left.remove(ino));
            expect_eq("listed again", twice.count(), 0)?;
            expect_eq("not listed", left.len(), 0)?;
        }
        Ok(())
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let others = scope.spawn(|| -> Outcome {
            let mut kept = VecDeque::new();
            while !done.load(Ordering::Relaxed) {
                kept.push_back(guest.bracketed(page())?);
                if kept.len() > STAY {
                    kept.pop_front();
                }
            }
            Ok(())
        });
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        let read = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader panicked"))
            .collect::<Vec<_>>();
        done.store(true, Ordering::Relaxed);
        others.join().expect("who makes buffers panicked")?;
        read.into_iter().collect()
    })
}
