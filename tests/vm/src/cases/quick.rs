// SPDX-License-Identifier: GPL-2.0

//! START and END of a buffer that no mapping needs maintenance of go without its lock: what comes
//! between them must see their windows all the same.

use std::sync::Barrier;
use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

use cohbuf::{Access, Buffer, CreateFlags, Mapping, Region, SyncCost};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};

use rustix::io::Errno;
use rustix::thread::gettid;

use crate::cases::fences::{PENDING, Source};
use crate::cases::sync::sync;
use crate::cases::windows::{self, MODELS, Scene, attach};
use crate::check;
use crate::guest::{Guest, has_noncoherent, is_debug, page};
use crate::harness::{Outcome, Stop, skip};
use crate::raw;
use crate::scene::{END_WRITE, START_WRITE, request, sync_raw};
use crate::traced::{events_of, inode, tracer_of};

crate::guest_suite!("quick":
    mapped_in_a_window,
    mapped_after_windows,
    maintained_again,
    windows_are_counted,
    windows_of_others,
    threads_share_theirs,
    killed_in_a_window,
    another_program_in_a_window,
    traced_after_windows,
    interrupted_start_opens_none,
    starts_race_with_maps,
    two_buffers_share_no_lock,
);

const READS: u64 = 1;
const WRITES: u64 = 2;
const ENDS: u64 = 4;

/// A buffer of a page, mapped by the CPU and tracked by the cache model. Its windows go without the
/// lock.
fn scene<'a>(guest: &Guest, importer: &'a Importer) -> Result<Scene<'a>, Stop> {
    let scene = windows::scene(guest, importer)?;
    settle(&scene.buffer)?;
    Ok(scene)
}

/// The first window takes the lock, those after it need not.
fn settle(buffer: &Buffer) -> Outcome {
    for _ in 0..3 {
        sync(buffer, WRITES)?;
        sync(buffer, WRITES | ENDS)?;
    }
    Ok(())
}

fn sees(device: &Attachment<'_>, at: u64, must: &[u8; 4], what: &str) -> Outcome {
    let mut seen = [0; 4];
    device.device_reads(at, &mut seen)?;
    check!(
        seen == *must,
        "{what}: the device sees {seen:?}, not {must:?}"
    );
    Ok(())
}

fn cpu_sees(mapping: &Mapping, at: usize, must: &[u8; 4], what: &str) -> Outcome {
    let mut seen = [0; 4];
    mapping.read(at, &mut seen)?;
    check!(seen == *must, "{what}: the CPU sees {seen:?}, not {must:?}");
    Ok(())
}

/// A device that comes in a window is handed what the CPU writes by the END, and no START takes it
/// away before.
fn mapped_in_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        sync(&scene.buffer, WRITES)?;
        scene.mapping.write(0, b"mine")?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        cpu_sees(&scene.mapping, 0, b"mine", &format!("{model:?}, mapped"))?;
        scene.mapping.write(4, b"more")?;
        for access in [READS, WRITES, READS | WRITES] {
            let case = format!("{model:?}, another window of {access}");
            sync(&scene.buffer, access)?;
            cpu_sees(&scene.mapping, 4, b"more", &case)?;
            sync(&scene.buffer, access | ENDS)?;
            cpu_sees(&scene.mapping, 4, b"more", &case)?;
        }
        scene.mapping.write(8, b"last")?;
        sync(&scene.buffer, WRITES | ENDS)?;
        let case = format!("{model:?}, ended");
        sees(&device, 0, b"mine", &case)?;
        sees(&device, 4, b"more", &case)?;
        sees(&device, 8, b"last", &case)?;
        device.device_writes(64, b"dev0")?;
        sync(&scene.buffer, READS)?;
        cpu_sees(&scene.mapping, 64, b"dev0", &format!("{model:?}, after it"))?;
        sync(&scene.buffer, READS | ENDS)?;
        device.unmap()?;
    }
    Ok(())
}

/// Windows that are closed are no windows: a device that comes may be written back and fetched.
fn mapped_after_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        sync(&scene.buffer, WRITES)?;
        scene.mapping.write(0, b"mine")?;
        sync(&scene.buffer, WRITES | ENDS)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let case = format!("{model:?}");
        sees(&device, 0, b"mine", &case)?;
        device.device_writes(0, b"dev0")?;
        for access in [READS, WRITES] {
            sync(&scene.buffer, access)?;
            cpu_sees(&scene.mapping, 0, b"dev0", &format!("{model:?}, {access}"))?;
            sync(&scene.buffer, access | ENDS)?;
        }
        device.device_writes(0, b"dev1")?;
        device.unmap()?;
        cpu_sees(
            &scene.mapping,
            0,
            b"dev1",
            &format!("{model:?}, after unmap"),
        )?;
    }
    Ok(())
}

/// One device after the other, on the same buffer, with windows between without any: each is
/// maintained as if it were the first. Beside one that snoops, whose coming and going counts for
/// nothing.
fn maintained_again(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for beside in [false, true] {
        let scene = scene(guest, &importer)?;
        let snooping = match beside {
            true => Some(attach(&importer, &scene.buffer, TestDevice::SnoopModel, 1)?),
            false => None,
        };
        for round in 0..2u8 {
            for model in MODELS {
                let case = format!("{model:?}, beside {beside}, round {round}");
                settle(&scene.buffer)?;
                sync(&scene.buffer, WRITES)?;
                scene.mapping.write(0, &[b'a' + round; 4])?;
                sync(&scene.buffer, WRITES | ENDS)?;
                let device = attach(&importer, &scene.buffer, model, 0)?;
                sees(&device, 0, &[b'a' + round; 4], &case)?;
                device.device_writes(0, &[b'A' + round; 4])?;
                sync(&scene.buffer, READS | WRITES)?;
                cpu_sees(&scene.mapping, 0, &[b'A' + round; 4], &case)?;
                scene.mapping.write(128, &[b'0' + round; 4])?;
                sync(&scene.buffer, READS | WRITES | ENDS)?;
                sees(&device, 128, &[b'0' + round; 4], &case)?;
                device.unmap()?;
                // Nor is anything saved where nothing could be spent.
                for flags in [START_WRITE, END_WRITE] {
                    let whole = request(&scene.buffer, flags, Region::Whole);
                    let cost = sync_raw(&guest.device()?, &whole)?;
                    check!(cost == SyncCost::default(), "{case}, unmapped: {cost:?}");
                }
            }
        }
        if let Some(snooping) = snooping {
            sees(&snooping, 128, b"1111", "the one beside them")?;
            snooping.unmap()?;
        }
    }
    Ok(())
}

fn count(guest: &Guest, buffer: &Buffer) -> Result<u32, Stop> {
    Ok(guest.device()?.info(buffer)?.write_windows)
}

fn expect_count(guest: &Guest, buffer: &Buffer, must: u32, what: &str) -> Outcome {
    let is = count(guest, buffer)?;
    check!(is == must, "{what}: INFO says {is} windows, not {must}");
    Ok(())
}

fn windows_are_counted(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    settle(&buffer)?;
    expect_count(guest, &buffer, 0, "settled")?;
    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "one")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "ended")?;
    settle(&buffer)?;
    for _ in 0..3 {
        sync(&buffer, WRITES)?;
    }
    expect_count(guest, &buffer, 3, "three")?;
    for _ in 0..3 {
        sync(&buffer, WRITES | ENDS)?;
    }
    expect_count(guest, &buffer, 0, "three ended")?;
    settle(&buffer)?;
    // Neither an END too many nor one that only read takes anything away.
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES)?;
    sync(&buffer, READS | ENDS)?;
    expect_count(guest, &buffer, 1, "left")?;
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "after one too many")?;
    Ok(sync(&buffer, WRITES | ENDS)?)
}

/// Runs a function in a child of its own address space.
fn in_child(run: impl FnOnce() -> Outcome) -> Outcome {
    let status = raw::fork(|| i32::from(run().is_err()))?.wait()?;
    check!(status == 0, "the child ends with {status:#x}");
    Ok(())
}

/// Nobody ends the window of another address space, and both have theirs.
fn windows_of_others(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    in_child(|| Ok(sync(&buffer, WRITES | ENDS)?))?;
    expect_count(guest, &buffer, 1, "a child ended what it had not begun")?;
    sync(&buffer, WRITES | ENDS)?;

    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    in_child(|| {
        sync(&buffer, WRITES)?;
        Ok(sync(&buffer, WRITES | ENDS)?)
    })?;
    expect_count(guest, &buffer, 1, "a child had one besides")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "ended")?;

    settle(&buffer)?;
    in_child(|| Ok(sync(&buffer, WRITES)?))?;
    expect_count(guest, &buffer, 0, "a child left one")?;
    in_child(|| settle(&buffer))?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "after a child")?;
    Ok(sync(&buffer, WRITES | ENDS)?)
}

/// One thread ends what another has begun, and each counts.
fn threads_share_theirs(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    let elsewhere = |access| {
        std::thread::scope(|scope| scope.spawn(|| sync(&buffer, access)).join())
            .map_err(|_| Stop::Failed("a thread has died".into()))
    };
    settle(&buffer)?;
    elsewhere(WRITES)??;
    expect_count(guest, &buffer, 1, "begun elsewhere")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "and ended here")?;

    // Nobody takes the lock to ask meanwhile.
    settle(&buffer)?;
    elsewhere(WRITES)??;
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES)?;
    elsewhere(WRITES | ENDS)??;
    expect_count(guest, &buffer, 0, "one after the other")?;

    settle(&buffer)?;
    elsewhere(WRITES)??;
    sync(&buffer, WRITES)?;
    elsewhere(WRITES | ENDS)??;
    expect_count(guest, &buffer, 1, "the other one is open")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "both ended")
}

/// The window of a process that is gone is gone as well, whether a device comes before that is
/// known or after.
fn killed_in_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for asked in [false, true] {
            let case = format!("{model:?}, asked {asked}");
            let scene = scene(guest, &importer)?;
            let child = raw::fork(|| {
                if settle(&scene.buffer).is_err() || sync(&scene.buffer, WRITES).is_err() {
                    return 1;
                }
                if scene.mapping.write(0, b"dead").is_err() {
                    return 1;
                }
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            })?;
            wait_for(&scene.mapping, b"dead", &case)?;
            child.signal(libc::SIGKILL)?;
            child.wait()?;
            if asked {
                expect_count(guest, &scene.buffer, 0, &case)?;
            }
            let device = attach(&importer, &scene.buffer, model, 0)?;
            device.device_writes(0, b"dev0")?;
            importer.model().evict()?;
            sync(&scene.buffer, READS)?;
            cpu_sees(&scene.mapping, 0, b"dev0", &case)?;
            sync(&scene.buffer, READS | ENDS)?;
            expect_count(guest, &scene.buffer, 0, &case)?;
            device.unmap()?;
        }
    }
    Ok(())
}

/// Waits for what a child writes, without a look at windows.
fn wait_for(mapping: &Mapping, must: &[u8; 4], what: &str) -> Outcome {
    for _ in 0..500 {
        let mut seen = [0; 4];
        mapping.read(0, &mut seen)?;
        if seen == *must {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    cpu_sees(mapping, 0, must, what)
}

/// A process that runs another program has another address space, and leaves its window.
fn another_program_in_a_window(guest: &Guest) -> Outcome {
    use std::os::unix::process::CommandExt;

    let importer = guest.importer()?;
    let scene = scene(guest, &importer)?;
    let mut program = std::process::Command::new("sleep");
    program.arg("100");
    let child = raw::fork(|| {
        if settle(&scene.buffer).is_err()
            || sync(&scene.buffer, WRITES).is_err()
            || scene.mapping.write(0, b"gone").is_err()
        {
            return 1;
        }
        let _ = program.exec();
        1
    })?;
    let ran = wait_for(&scene.mapping, b"gone", "the child").and_then(|()| {
        for _ in 0..500 {
            if count(guest, &scene.buffer)? == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        expect_count(guest, &scene.buffer, 0, "it runs another program")?;
        check!(child.poll()?.is_none(), "the other program does not run");
        let device = attach(&importer, &scene.buffer, TestDevice::CacheModel, 0)?;
        device.device_writes(0, b"dev0")?;
        importer.model().evict()?;
        sync(&scene.buffer, READS)?;
        cpu_sees(&scene.mapping, 0, b"dev0", "after it")?;
        sync(&scene.buffer, READS | ENDS)?;
        Ok(device.unmap()?)
    });
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    ran
}

/// Who traces is told of each window, whatever was before.
fn traced_after_windows(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    let ino = inode(&buffer)?;
    for of in ["cohbuf_sync", "cohbuf_window_open", "cohbuf_window_close"] {
        settle(&buffer)?;
        let tracer = tracer_of(&[&format!("cohbuf/{of}")])?;
        for access in [WRITES, WRITES | ENDS] {
            sync(&buffer, access)?;
            sync(&buffer, READS | access & ENDS)?;
        }
        let told = events_of(&tracer, ino)?.len();
        let must = match of {
            "cohbuf_sync" => 4,
            _ => 1,
        };
        check!(told == must, "{of} was told {told} times, not {must}");
    }
    Ok(())
}

/// A START that a signal interrupts while it waits for a fence leaves no window.
fn interrupted_start_opens_none(guest: &Guest) -> Outcome {
    // Before the fork, so that the signal cannot come first.
    raw::let_signal_interrupt()?;
    let source = Source::find()?;
    let importer = guest.importer()?;
    let scene = scene(guest, &importer)?;
    let import = source.import(&scene.buffer)?;
    let child = raw::fork(|| {
        if settle(&scene.buffer).is_err() || scene.mapping.write(0, b"turn").is_err() {
            return 1;
        }
        // A fence comes.
        if wait_for(&scene.mapping, b"begn", "the parent").is_err() {
            return 2;
        }
        let interrupted = sync(&scene.buffer, WRITES) == Err(Errno::INTR);
        let word = if interrupted { b"intr" } else { b"none" };
        if scene.mapping.write(0, word).is_err() {
            return 3;
        }
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    })?;
    let ran = wait_for(&scene.mapping, b"turn", "the child").and_then(|()| {
        let fence = source.add_fence_to(&scene.buffer, import.as_ref())?;
        scene.mapping.write(0, b"begn")?;
        std::thread::sleep(PENDING);
        check!(child.poll()?.is_none(), "the child has ended");
        child.signal(libc::SIGUSR1)?;
        wait_for(&scene.mapping, b"intr", "the child's START")?;
        expect_count(guest, &scene.buffer, 0, "interrupted")?;
        fence.signal()
    });
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    ran
}

/// A thread opens and closes windows while devices come and go: at the end none is left, and each
/// device has seen what was written before it came.
fn starts_race_with_maps(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = scene(guest, &importer)?;
    let (stop, ended) = (AtomicBool::new(false), AtomicU32::new(0));
    let ran = std::thread::scope(|scope| -> Outcome {
        let windows = scope.spawn(|| -> Result<(), cohbuf::Error> {
            let mut number = 0u32;
            while !stop.load(Relaxed) {
                number += 1;
                let window = scene.buffer.cpu_access(Access::Write)?;
                scene.mapping.write(0, &number.to_ne_bytes())?;
                window.end()?;
                ended.store(number, Release);
            }
            Ok(())
        });
        // A busy machine may leave one of the two without a turn for long.
        let late = Instant::now() + Duration::from_secs(60);
        let few = |maps| maps < 200 || (ended.load(Acquire) <= 200 && Instant::now() < late);
        let mapped = (0..)
            .take_while(|&maps| few(maps))
            .try_for_each(|_| -> Outcome {
                let before = ended.load(Acquire);
                let device = attach(&importer, &scene.buffer, TestDevice::CacheModel, 0)?;
                let mut seen = [0; 4];
                device.device_reads(0, &mut seen)?;
                let seen = u32::from_ne_bytes(seen);
                check!(
                    seen >= before,
                    "the device sees {seen} where {before} was written before it came"
                );
                Ok(device.unmap()?)
            });
        stop.store(true, Relaxed);
        windows
            .join()
            .map_err(|_| Stop::Failed("a thread has died".into()))??;
        mapped
    });
    ran?;
    check!(ended.load(Acquire) > 200, "few windows were opened");
    expect_count(guest, &scene.buffer, 0, "at the end")
}

/// What two threads have waited for that sync a buffer each.
#[derive(Debug)]
struct Waits {
    /// A lock that lets its waiters sleep.
    sleeping: Vec<String>,
    /// A lock that does not. Interrupts that come in such a thread may wait for one as well.
    spinning: usize,
}

const ROUNDS: usize = 3000;

/// `buffers`: of each thread; maybe the same.
fn waits(buffers: [&Buffer; 2]) -> Result<Waits, Stop> {
    const EVENT: &str = "lock/contention_begin";
    let tracer = tracer_of(&[])?;
    if !tracer.has(EVENT) {
        return skip("this kernel does not trace contention");
    }
    let rounds = |buffer: &Buffer, count: usize| {
        (0..count).try_for_each(|_| {
            sync(buffer, READS | WRITES)?;
            sync(buffer, READS | WRITES | ENDS)
        })
    };
    // Four times they wait for each other: to be traced, and not to be while they begin and end.
    let barrier = Barrier::new(3);
    let (threads, events) = std::thread::scope(|scope| {
        let started = buffers.map(|buffer| {
            let barrier = &barrier;
            scope.spawn(move || -> Result<i32, Stop> {
                // What is done the first time is done before it counts.
                let first = rounds(buffer, 100);
                barrier.wait();
                barrier.wait();
                let ran = first.and_then(|()| rounds(buffer, ROUNDS));
                barrier.wait();
                barrier.wait();
                ran?;
                Ok(gettid().as_raw_nonzero().get())
            })
        });
        barrier.wait();
        let enabled = tracer.enable(EVENT);
        barrier.wait();
        barrier.wait();
        let events = tracer.stop();
        barrier.wait();
        let threads = started.map(|thread| {
            let ran = thread.join();
            ran.unwrap_or_else(|_| Err(Stop::Failed("a thread has died".into())))
        });
        enabled?;
        let threads = threads.into_iter().collect::<Result<Vec<i32>, Stop>>()?;
        Ok::<_, Stop>((threads, events?))
    })?;
    let theirs = events.iter().filter(|event| threads.contains(&event.pid));
    let spinning = |text: &str| text.contains("SPIN") && !text.contains("MUTEX");
    let (spinning, sleeping): (Vec<_>, Vec<_>) = theirs.partition(|event| spinning(&event.text));
    Ok(Waits {
        sleeping: sleeping.iter().map(|event| event.text.clone()).collect(),
        spinning: spinning.len(),
    })
}

/// Not without the lock, nor with it, nor while a device is maintained. That waits are counted is
/// shown by two threads that sync one buffer.
fn two_buffers_share_no_lock(guest: &Guest) -> Outcome {
    if is_debug() {
        return skip("with lockdep each lock of a mutex counts as contended");
    }
    let importer = guest.importer()?;
    let plain = || guest.bracketed(page());
    let tracked = || guest.buffer(page(), CreateFlags::TRACK_DIRTY);
    let none = |what: &str, waits: Waits| -> Outcome {
        check!(
            waits.sleeping.is_empty() && waits.spinning < ROUNDS / 100,
            "{what}: {waits:?}"
        );
        Ok(())
    };
    none("without the lock", waits([&plain()?, &plain()?])?)?;
    none("with the lock", waits([&tracked()?, &tracked()?])?)?;
    if has_noncoherent() {
        let buffers = [plain()?, plain()?];
        let attach = |at: usize| importer.attach(&buffers[at], TestDevice::NonCoherent, 0);
        let devices = [attach(0)?, attach(1)?];
        for device in &devices {
            device.map(Direction::Bidirectional)?;
        }
        none("maintained", waits([&buffers[0], &buffers[1]])?)?;
        for device in &devices {
            device.unmap()?;
        }
    }
    let one = tracked()?;
    let waits = waits([&one, &one])?;
    check!(!waits.sleeping.is_empty(), "one buffer: {waits:?}");
    Ok(())
}
