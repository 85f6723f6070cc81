// SPDX-License-Identifier: GPL-2.0

//! Each trace event is provoked, and all its fields are compared.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cohbuf::{Access, CopyRegion, CreateFlags, Region};
use cohbuf_testdev::{Direction, TestDevice};
use cohbuf_trace::timeline::Recording;
use cohbuf_trace::{Event, MOUNT, Tracer};
use rustix::io::Errno;

use crate::cases::fences::{Source, WRITES};
use crate::check;
use crate::driver::{Driver, How, Sync};
use crate::enforced::{self, Died, POISON, REPORT, died};
use crate::guest::{Guest, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq, fail, fails_with, leave_file};
use crate::raw;
use crate::scene::{Scene, Upkeep, upkeep};
use crate::traced::{EVENTS, events_of, expect_events, inode, tracer};

crate::guest_suite!("trace_events":
    all_are_there,
    formats_can_be_read,
    life_of_a_buffer,
    refused_to_attach,
    refused_to_map,
    bytes_of_each_kind_of_device,
    regions,
    windows_that_are_left,
    fences,
    wait_that_is_interrupted,
    device_side_sync,
    outside_of_windows,
    poison,
    copies,
    end_that_does_nothing,
    sync_that_fails,
    off_is_off,
    timeline,
    trace_cmd_prints_the_same,
);

const SIZE: usize = 5 * 4096;
const NONE: CreateFlags = CreateFlags::empty();
const WHOLE: &str = "offset=0 length=20480 stride=20480 rows=1";
const NO_COST: &str = "cleaned=0 invalidated=0 to_copies=0 from_copies=0 own_ops=0";

fn all_are_there(_: &Guest) -> Outcome {
    // Before any instance has them.
    drop(tracer()?);
    let entries = fs::read_dir(format!("{MOUNT}/events/cohbuf"))?;
    let names: BTreeSet<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    expect_eq("events", names, EVENTS.map(str::to_owned).into())
}

/// Whether a program that has the format alone can print the event: all that it needs are fields,
/// numbers and the functions that libtraceevent knows.
fn formats_can_be_read(_: &Guest) -> Outcome {
    let tracer = tracer()?;
    for event in EVENTS {
        let format = tracer.format("cohbuf", event)?;
        let Some((fields, print)) = format.split_once("print fmt: ") else {
            return fail(format!("{event}: no print fmt"));
        };
        let fields: Vec<&str> = fields
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("field:"))
            .filter_map(|line| {
                line.split(';')
                    .next()?
                    .split([' ', '[', ']'])
                    .rev()
                    .find(|word| !word.is_empty())
            })
            .collect();
        // The arguments, without what stands in quotes.
        let mut code = String::new();
        for (number, part) in print.split('"').enumerate() {
            if number % 2 == 0 {
                code.push_str(part);
            }
        }
        let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        for word in words.filter(|word| !word.is_empty()) {
            let known = ["REC", "__get_str", "__print_flags", "__print_symbolic"];
            check!(
                known.contains(&word)
                    || fields.contains(&word)
                    || word
                        .trim_start_matches("0x")
                        .chars()
                        .all(|c| c.is_ascii_hexdigit()),
                "{event}: `{word}` cannot be read: {print}"
            );
        }
    }
    Ok(())
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn life_of_a_buffer(guest: &Guest) -> Outcome {
    let tracer = tracer()?;
    let importer = guest.importer()?;
    let scene = Scene::with(guest, &importer, SIZE, NONE, TestDevice::BounceModel)?;
    let ino = inode(&scene.buffer)?;
    let segments = scene.info()?.segments;
    scene.buffer.cpu_access(Access::ReadWrite)?.end()?;
    scene.buffer.cpu_access(Access::Read)?.end()?;
    drop(scene);
    let events = events_of(&tracer, ino)?;
    let maintain = |whom| {
        format!(
            "maintain ino=N attachment=1 device=cohbuf-bounce-model-0 for={whom} \
             direction=BIDIRECTIONAL reach=unknown bytes=20480 bounced=0 duration=N"
        )
    };
    expect_eq(
        "segments",
        events[0].number("segments"),
        u64::from(segments),
    )?;
    expect_events(
        &events,
        &lines(&format!(
            "create ino=N size=20480 segments={segments} flags=
             attach ino=N attachment=1 device=cohbuf-bounce-model-0 driver=faux_driver \
               flags=COHERENT|AUTOFENCE error=0 reason=
             map ino=N attachment=1 device=cohbuf-bounce-model-0 direction=BIDIRECTIONAL \
               reach=unknown segments={segments} error=0 cleaned=0 invalidated=0 to_copies=0 \
               from_copies=0 own_ops=20480 duration=N reason=
             {}
             window_open ino=N tgid=N access=WRITE {WHOLE} open=1
             sync ino=N START access=RW by=task {WHOLE} error=0 cleaned=0 invalidated=0 \
               to_copies=0 from_copies=0 own_ops=20480 saved=0 windows=1 duration=N
             {}
             window_close ino=N tgid=N access=WRITE {WHOLE} open=0
             sync ino=N END access=RW by=task {WHOLE} error=0 cleaned=0 invalidated=0 \
               to_copies=0 from_copies=0 own_ops=20480 saved=0 windows=0 duration=N
             {}
             sync ino=N START access=READ by=task {WHOLE} error=0 cleaned=0 invalidated=0 \
               to_copies=0 from_copies=0 own_ops=20480 saved=0 windows=0 duration=N
             sync ino=N END access=READ by=task {WHOLE} error=0 {NO_COST} saved=20480 windows=0 \
               duration=N
             unmap ino=N attachment=1 device=cohbuf-bounce-model-0 direction=BIDIRECTIONAL \
               reach=unknown cleaned=0 invalidated=0 to_copies=0 from_copies=0 own_ops=20480 \
               duration=N
             detach ino=N attachment=1
             release ino=N",
            maintain("cpu"),
            maintain("device"),
            maintain("cpu"),
        )),
    )?;
    // Each event ends in the order of time, and began before it ended, after what made it.
    let create = events[0].time;
    for event in &events {
        check!(
            event.tgid == std::process::id() as i32,
            "{event:?} is of another process"
        );
        check!(
            event.began() + 2_000 >= create,
            "{event:?} began before the buffer was made"
        );
    }
    check!(
        events.iter().any(|event| event.number("duration") > 0),
        "nothing took any time"
    );
    Ok(())
}

fn refused_to_attach(guest: &Guest) -> Outcome {
    let tracer = tracer()?;
    let importer = guest.importer()?;
    let buffer = guest.coherent(SIZE)?;
    let ino = inode(&buffer)?;
    let refused = importer
        .attach(&buffer, TestDevice::BounceModel, 0)
        .map(drop);
    fails_with(refused.map_err(|e| e.errno), Errno::OPNOTSUPP, "own ops")?;
    let refused = importer
        .attach(&buffer, TestDevice::DirectModel, 0)
        .map(drop);
    expect_eq("direct", refused.is_err(), has_noncoherent())?;
    let mut must = lines(
        "create ino=N size=20480 segments=N flags=COHERENT
         attach ino=N attachment=0 device=cohbuf-bounce-model-0 driver=faux_driver \
           flags=COHERENT|AUTOFENCE error=-95 \
           reason=nobody maintains it, device has DMA ops of its own that may copy",
    );
    must.extend(match has_noncoherent() {
        true => lines(
            "attach ino=N attachment=0 device=cohbuf-direct-model-0 driver=faux_driver \
               flags=AUTOFENCE error=-95 reason=coherent buffer, device is not DMA-coherent",
        ),
        false => lines(
            "attach ino=N attachment=1 device=cohbuf-direct-model-0 driver=faux_driver \
               flags=COHERENT|AUTOFENCE error=0 reason=
             detach ino=N attachment=1",
        ),
    });
    expect_events(&events_of(&tracer, ino)?, &any_segments(must, &buffer)?)
}

/// Fills in how many pieces the buffer is of.
fn any_segments(lines: Vec<String>, buffer: &cohbuf::Buffer) -> Result<Vec<String>, Stop> {
    let segments = cohbuf::Device::open()?.info(buffer)?.segments;
    let with = format!("segments={segments}");
    Ok(lines
        .into_iter()
        .map(|l| l.replace("segments=N", &with))
        .collect())
}

// Two devices with ops of their own that differ, both of which write.
fn refused_to_map(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let mut scene = Scene::with(guest, &importer, SIZE, NONE, TestDevice::BounceModel)?;
    let tracer = tracer()?;
    let ino = inode(&scene.buffer)?;
    check!(
        scene
            .attach(TestDevice::CacheModel, 0, Direction::Bidirectional)
            .is_err(),
        "both may write"
    );
    let flags = if has_noncoherent() {
        "AUTOFENCE"
    } else {
        "COHERENT|AUTOFENCE"
    };
    expect_events(
        &events_of(&tracer, ino)?,
        &lines(&format!(
            "attach ino=N attachment=2 device=cohbuf-cache-model-0 driver=faux_driver flags={flags} \
               error=0 reason=
             map ino=N attachment=2 device=cohbuf-cache-model-0 direction=BIDIRECTIONAL \
               reach=none segments=0 error=-16 {NO_COST} duration=N \
               reason=device has DMA ops of its own, and others may write the buffer now
             detach ino=N attachment=2"
        )),
    )
}

// Where the bytes are counted, and how the device is reached, for each kind.
fn bytes_of_each_kind_of_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (model, name) in [
        (TestDevice::CacheModel, "cache-model"),
        (TestDevice::DirectModel, "direct-model"),
        (TestDevice::SnoopModel, "snoop-model"),
        (TestDevice::BouncedModel, "bounced-model"),
    ] {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let tracer = tracer()?;
        scene.buffer.cpu_access(Access::ReadWrite)?.end()?;
        let (reach, bounced, start, end) = match upkeep(guest, model) {
            Upkeep::None => ("snooping", 0, "", ""),
            Upkeep::Caches => ("direct", 0, "invalidated", "cleaned"),
            Upkeep::Copy => ("bounced", SIZE, "from_copies", "to_copies"),
            Upkeep::OwnOps => ("unknown", 0, "own_ops", "own_ops"),
        };
        let cost = |of: &str| {
            [
                "cleaned",
                "invalidated",
                "to_copies",
                "from_copies",
                "own_ops",
            ]
            .map(|name| format!("{name}={}", if name == of { SIZE } else { 0 }))
            .join(" ")
        };
        let pass = |whom| match upkeep(guest, model) {
            Upkeep::None => String::new(),
            _ => format!(
                "maintain ino=N attachment=1 device=cohbuf-{name}-0 for={whom} \
                 direction=BIDIRECTIONAL reach={reach} bytes=20480 bounced={bounced} duration=N"
            ),
        };
        expect_events(
            &events_of(&tracer, inode(&scene.buffer)?)?,
            &lines(&format!(
                "{}
                 window_open ino=N tgid=N access=WRITE {WHOLE} open=1
                 sync ino=N START access=RW by=task {WHOLE} error=0 {} saved=0 windows=1 duration=N
                 {}
                 window_close ino=N tgid=N access=WRITE {WHOLE} open=0
                 sync ino=N END access=RW by=task {WHOLE} error=0 {} saved=0 windows=0 duration=N",
                pass("cpu"),
                cost(start),
                pass("device"),
                cost(end),
            )),
        )?;
    }
    Ok(())
}

fn regions(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::with(guest, &importer, SIZE, NONE, TestDevice::BounceModel)?;
    let tracer = tracer()?;
    let ino = inode(&scene.buffer)?;
    let rows = Region::Rows {
        offset: 4096,
        length: 64,
        stride: 1024,
        rows: 3,
    };
    scene.start(Access::Write, rows)?.end()?;
    let linear = Region::Linear {
        offset: 64,
        length: 128,
    };
    scene.start(Access::Read, linear)?.end()?;
    const ROWS: &str = "offset=4096 length=64 stride=1024 rows=3";
    const LINEAR: &str = "offset=64 length=128 stride=128 rows=1";
    let pass = |whom, bytes| {
        format!(
            "maintain ino=N attachment=1 device=cohbuf-bounce-model-0 for={whom} \
             direction=BIDIRECTIONAL reach=unknown bytes={bytes} bounced=0 duration=N"
        )
    };
    let sync = |what, region, own_ops, windows| {
        format!(
            "sync ino=N {what} by=task {region} error=0 cleaned=0 invalidated=0 to_copies=0 \
             from_copies=0 own_ops={own_ops} saved={} windows={windows} duration=N",
            SIZE - own_ops
        )
    };
    expect_events(
        &events_of(&tracer, ino)?,
        &[
            pass("cpu", 192),
            format!("window_open ino=N tgid=N access=WRITE {ROWS} open=1"),
            sync("START access=WRITE", ROWS, 192, 1),
            pass("device", 192),
            format!("window_close ino=N tgid=N access=WRITE {ROWS} open=0"),
            sync("END access=WRITE", ROWS, 192, 0),
            pass("cpu", 128),
            sync("START access=READ", LINEAR, 128, 0),
            sync("END access=READ", LINEAR, 0, 0),
        ],
    )
}

// A process that exits ends nothing; whoever comes next finds out.
fn windows_that_are_left(guest: &Guest) -> Outcome {
    let tracer = tracer()?;
    let buffer = guest.bracketed(SIZE)?;
    let ino = inode(&buffer)?;
    let child = raw::fork(|| match buffer.cpu_access(Access::Write) {
        Ok(access) => {
            std::mem::forget(access);
            0
        }
        Err(_) => 1,
    })?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    buffer.cpu_access(Access::Read)?.end()?;
    let events = events_of(&tracer, ino)?;
    let me = std::process::id();
    let of_child: Vec<u64> = ["cohbuf_window_open", "cohbuf_window_abandon"]
        .iter()
        .filter_map(|name| events.iter().find(|event| event.name == *name))
        .map(|event| event.number("tgid"))
        .collect();
    check!(
        of_child.len() == 2 && of_child[0] == of_child[1] && of_child[0] != u64::from(me),
        "whose windows: {of_child:?}"
    );
    expect_events(
        &events[1..],
        &lines(&format!(
            "window_open ino=N tgid=N access=WRITE {WHOLE} open=1
             sync ino=N START access=WRITE by=task {WHOLE} error=0 {NO_COST} saved=0 windows=1 \
               duration=N
             window_abandon ino=N tgid=N access=WRITE {WHOLE} open=0
             sync ino=N START access=READ by=task {WHOLE} error=0 {NO_COST} saved=0 windows=0 \
               duration=N
             sync ino=N END access=READ by=task {WHOLE} error=0 {NO_COST} saved=0 windows=0 \
               duration=N"
        )),
    )
}

const LONG: Duration = Duration::from_millis(200);

fn fence_wait(fences: &str, error: i32) -> [String; 2] {
    [
        format!("fence_wait_begin ino=N fences={fences}"),
        format!("fence_wait_end ino=N fences={fences} error={error} duration=N"),
    ]
}

fn waits_of(events: &[Event]) -> Vec<Event> {
    let waits = events
        .iter()
        .filter(|event| event.name.contains("fence_wait"));
    waits.cloned().collect()
}

fn fences(guest: &Guest) -> Outcome {
    let source = Source::find()?;
    let buffer = guest.bracketed(SIZE)?;
    let tracer = tracer()?;
    // Nothing is pending, and nothing is waited for.
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    let fence = source.add_fence(&buffer, WRITES)?;
    thread::scope(|scope| -> Outcome {
        let waiter = scope.spawn(|| {
            buffer
                .cpu_access(Access::Read)
                .and_then(|access| access.end())
        });
        thread::sleep(LONG);
        fence.signal()?;
        waiter.join().expect("the waiter panicked")?;
        Ok(())
    })?;
    let events = events_of(&tracer, inode(&buffer)?)?;
    let waits = waits_of(&events);
    expect_events(&waits, &fence_wait("writers", 0))?;
    let took = Duration::from_nanos(waits[1].number("duration"));
    check!(
        took >= LONG / 2 && took.as_secs() < 60,
        "the wait took {took:?}"
    );
    // What comes after the wait is not part of its time.
    let start = events.iter().rfind(|event| event.says("START"));
    let Some(start) = start else {
        return fail("no START");
    };
    check!(
        start.began() + 2_000 >= waits[1].time,
        "the maintenance began before the fence: {start:?}"
    );
    Ok(())
}

fn wait_that_is_interrupted(guest: &Guest) -> Outcome {
    let source = Source::find()?;
    let buffer = guest.bracketed(SIZE)?;
    let tracer = tracer()?;
    let fence = source.add_fence(&buffer, WRITES)?;
    let child = raw::fork(|| i32::from(buffer.cpu_access(Access::Read).is_ok()))?;
    thread::sleep(LONG);
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    fence.signal()?;
    let mut events = events_of(&tracer, inode(&buffer)?)?;
    // vgem attaches to add its fence.
    events.retain(|event| !event.name.ends_with("tach"));
    let mut must = fence_wait("writers", -512).to_vec();
    must.push(format!(
        "sync ino=N START access=READ by=task {WHOLE} error=-512 {NO_COST} saved=0 windows=0 \
         duration=N"
    ));
    expect_events(&events, &must)
}

fn device_side_sync(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let buffer = guest.bracketed(SIZE)?;
    let device = driver.attach(&buffer, TestDevice::BounceModel, How::default())?;
    device.map(Direction::FromDevice)?;
    let tracer = tracer()?;
    device.sync(Sync::FOR_CPU)?;
    device.sync(Sync::FOR_DEVICE)?;
    let events = events_of(&tracer, inode(&buffer)?)?;
    let Some(name) = events.first().and_then(|event| event.field("device")) else {
        return fail(format!("no event: {events:?}"));
    };
    expect_events(
        &events,
        &lines(&format!(
            "maintain ino=N attachment=1 device={name} for=cpu direction=FROM_DEVICE \
               reach=unknown bytes=20480 bounced=0 duration=N
             sync_for_cpu ino=N attachment=1 device={name} direction=FROM_DEVICE reach=unknown \
               error=0 cleaned=0 invalidated=0 to_copies=0 from_copies=0 own_ops=20480 duration=N
             sync_for_device ino=N attachment=1 device={name} direction=FROM_DEVICE \
               reach=unknown error=0 {NO_COST} duration=N"
        )),
    )
}

fn outside_of_windows(guest: &Guest) -> Outcome {
    let scene = enforced::Scene::new(guest, 3, REPORT)?;
    let tracer = tracer()?;
    scene.read(1);
    scene.write(2, 7);
    let events = events_of(&tracer, inode(&scene.buffer)?)?;
    expect_events(
        &events,
        &[
            format!("outside ino=N offset={} access=READ verdict=report", page()),
            format!(
                "outside ino=N offset={} access=WRITE verdict=report",
                2 * page()
            ),
        ],
    )
}

fn poison(guest: &Guest) -> Outcome {
    let scene = enforced::Scene::new(guest, 1, POISON)?;
    let tracer = tracer()?;
    scene.poison()?;
    fails_with(
        scene
            .buffer
            .cpu_access(Access::Read)
            .map_err(|e| e.errno())
            .map(drop),
        Errno::IO,
        "START",
    )?;
    let whole = format!("offset=0 length={0} stride={0} rows=1", page());
    expect_events(
        &events_of(&tracer, inode(&scene.buffer)?)?,
        &lines(&format!(
            "outside ino=N offset=0 access=READ verdict=poison
             sync ino=N START access=READ by=task {whole} error=-5 {NO_COST} saved=0 windows=0 \
               duration=N"
        )),
    )
}

fn copies(guest: &Guest) -> Outcome {
    let (src, dst) = (guest.bracketed(SIZE)?, guest.bracketed(SIZE)?);
    let tracer = tracer()?;
    let region = CopyRegion::Linear {
        src_offset: 0,
        dst_offset: 64,
        length: 100,
    };
    guest.device()?.copy(&src, &dst, region)?;
    let events = events_of(&tracer, inode(&dst)?)?;
    let region = "offset=64 length=100 stride=100 rows=1";
    let sync = |what, windows| {
        format!(
            "sync ino=N {what} access=RW by=copy {region} error=0 {NO_COST} saved=0 \
             windows={windows} duration=N"
        )
    };
    expect_events(
        &events,
        &[
            format!("window_open ino=N tgid=N access=WRITE {region} open=1"),
            sync("START", 1),
            format!("window_close ino=N tgid=N access=WRITE {region} open=0"),
            sync("END", 0),
            "copy src=N dst=N bytes=100 error=0 duration=N".to_owned(),
        ],
    )?;
    expect_eq("src", events[4].number("src"), inode(&src)?)
}

// Nobody maintains these: an END is told all the same, as the START is.
fn end_that_does_nothing(guest: &Guest) -> Outcome {
    for flags in [CreateFlags::COHERENT, CreateFlags::WRITE_COMBINE] {
        let buffer = guest.buffer(SIZE, flags)?;
        let tracer = tracer()?;
        buffer.cpu_access(Access::Write)?.end()?;
        let sync = |half| {
            format!(
                "sync ino=N {half} access=WRITE by=task {WHOLE} error=0 {NO_COST} saved=0 \
                 windows=0 duration=N"
            )
        };
        expect_events(
            &events_of(&tracer, inode(&buffer)?)?,
            &[sync("START"), sync("END")],
        )?;
    }
    Ok(())
}

fn sync_that_fails(guest: &Guest) -> Outcome {
    // Attachments of a poisoned buffer fail, and say why by their errno.
    let scene = enforced::Scene::new(guest, 1, POISON)?;
    scene.poison()?;
    let tracer = tracer()?;
    let importer = guest.importer()?;
    let refused = importer
        .attach(&scene.buffer, TestDevice::SnoopModel, 0)
        .map(drop);
    fails_with(refused.map_err(|e| e.errno), Errno::IO, "attach")?;
    expect_events(
        &events_of(&tracer, inode(&scene.buffer)?)?,
        &lines(
            "attach ino=N attachment=0 device=cohbuf-snoop-model-0 driver=faux_driver \
               flags=COHERENT|AUTOFENCE error=-5 reason=",
        ),
    )
}

// An instance that records nothing of cohbuf gets nothing.
fn off_is_off(guest: &Guest) -> Outcome {
    let on = tracer()?;
    let off = Tracer::new("cohbuf-vm-off", 64)?;
    let buffer = guest.bracketed(SIZE)?;
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    expect_eq("events", off.stop()?, Vec::new())?;
    check!(!events_of(&on, inode(&buffer)?)?.is_empty(), "none at all");
    Ok(())
}

/// What a driver author would show: importers of several kinds, one that is refused and one that may
/// not map, windows of parts, a wait, a process that dies, an access outside of all windows.
fn scene(guest: &Guest, inodes: &mut Vec<u64>) -> Outcome {
    const BYTES: usize = 256 << 10;
    let driver = Driver::open()?;
    let source = Source::find()?;
    let frame = enforced::Scene::new(guest, BYTES / page(), REPORT)?;
    let buffer = &frame.buffer;
    inodes.push(inode(buffer)?);
    let camera = driver.attach(buffer, TestDevice::DirectModel, How::default())?;
    let display = driver.attach(buffer, TestDevice::SnoopModel, How::default())?;
    camera.map(Direction::FromDevice)?;
    display.map(Direction::ToDevice)?;

    // A frame arrives, and the CPU looks at it when it is there.
    let fence = source.add_fence(buffer, WRITES)?;
    thread::scope(|scope| -> Outcome {
        let reader = scope.spawn(|| buffer.cpu_access(Access::Read));
        thread::sleep(Duration::from_millis(33));
        fence.signal()?;
        let access = reader.join().expect("the reader panicked")?;
        frame.read(0);
        access.end()?;
        Ok(())
    })?;
    camera.sync(Sync::FOR_CPU)?;
    display.sync(Sync::FOR_DEVICE)?;

    // It draws into a corner of it, and forgets where that ends.
    let device = guest.device()?;
    let corner = Region::Rows {
        offset: 16 << 10,
        length: 256,
        stride: 2048,
        rows: 32,
    };
    let access = device.cpu_access_region(buffer, Access::Write, corner)?;
    frame.write(5, 1);
    frame.write(40, 1);
    access.end()?;
    camera.sync(Sync::FOR_DEVICE)?;

    // Another process dies in the middle of it.
    let child = raw::fork(|| match buffer.cpu_access(Access::Write) {
        Ok(access) => {
            std::mem::forget(access);
            0
        }
        Err(_) => 1,
    })?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    buffer.cpu_access(Access::ReadWrite)?.end()?;

    camera.unmap()?;

    // Two that have DMA ops of their own, and differ, must not both write.
    let codec = driver.attach(buffer, TestDevice::BounceModel, How::default())?;
    codec.map(Direction::FromDevice)?;
    let npu = driver.attach(buffer, TestDevice::CacheModel, How::default())?;
    let _ = npu.map(Direction::Bidirectional);
    drop(npu);
    drop(codec);

    // What this one needs is a coherent buffer.
    let shared = guest.buffer(BYTES, CreateFlags::COHERENT)?;
    inodes.push(inode(&shared)?);
    let importer = guest.importer()?;
    let gpu = importer.attach(&shared, TestDevice::SnoopModel, 0)?;
    gpu.map(Direction::Bidirectional)?;
    let _ = importer.attach(&shared, TestDevice::DirectModel, 0);
    let _ = importer.attach(&shared, TestDevice::BounceModel, 0);
    device.copy(
        buffer,
        &shared,
        CopyRegion::Linear {
            src_offset: 0,
            dst_offset: 0,
            length: 64 << 10,
        },
    )?;
    display.unmap()?;
    Ok(())
}

fn timeline(guest: &Guest) -> Outcome {
    let tracer = tracer()?;
    let mut inodes = Vec::new();
    scene(guest, &mut inodes)?;
    let events = tracer.stop()?;
    let system = rustix::system::uname();
    let recording = Recording {
        kernel: system.release().to_string_lossy().into_owned(),
        machine: system.machine().to_string_lossy().into_owned(),
        command: None,
        lost: tracer.lost()?,
        events,
    };
    expect_eq("buffers", recording.buffers(), inodes)?;
    let svg = recording.to_svg();
    leave_file("timeline.svg", &svg)?;
    let json = serde_json::to_string_pretty(&recording);
    leave_file(
        "timeline.json",
        &json.map_err(|e| Stop::Failed(e.to_string()))?,
    )?;
    for word in [
        "START",
        "RW whole buffer",
        "WRITE 32 × 256 B at 0x4000",
        "ms for writers",
        "map: EBUSY",
        "attach: EOPNOTSUPP",
        "WRITE at 0x28000",
        "process gone",
        "64 KiB from",
    ] {
        check!(svg.contains(word), "no `{word}` in the timeline");
    }
    Ok(())
}

/// Debian's trace-cmd, which records to the top instance here. It forgets all of it at the end.
struct TraceCmd;

impl TraceCmd {
    fn run(&self, arguments: &[&str]) -> Result<String, Stop> {
        let output = Command::new("trace-cmd").args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return fail(format!(
                "trace-cmd {arguments:?}: {}: {said}",
                output.status
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for TraceCmd {
    fn drop(&mut self) {
        let _ = self.run(&["reset"]);
    }
}

/// What trace-cmd prints, by libtraceevent, which perf has as well, from the raw events and their
/// formats: what the kernel itself prints of them.
fn trace_cmd_prints_the_same(guest: &Guest) -> Outcome {
    const RECORDED: &str = "/tmp/trace.dat";
    let tracer = tracer()?;
    let trace_cmd = TraceCmd;
    // The clock that the other one has, which is the same on each CPU.
    trace_cmd.run(&["start", "-C", "mono", "-e", "cohbuf"])?;
    let mut inodes = Vec::new();
    scene(guest, &mut inodes)?;
    trace_cmd.run(&["stop"])?;
    let by_kernel = tracer.stop()?;
    expect_eq("lost", tracer.lost()?, 0)?;
    // One began before the other.
    let is_of_scene = |text: &str| {
        text.split(' ')
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| ["ino", "src", "dst"].contains(name))
            .any(|(_, ino)| ino.parse().is_ok_and(|ino| inodes.contains(&ino)))
    };
    trace_cmd.run(&["extract", "-o", RECORDED])?;
    let report = trace_cmd.run(&["report", "-i", RECORDED])?;
    fs::remove_file(RECORDED)?;
    leave_file("trace-cmd.txt", &report)?;
    let by_trace_cmd: Vec<String> = report
        .lines()
        .filter_map(|line| {
            let (name, text) = line.get(line.find(": cohbuf_")? + 2..)?.split_once(':')?;
            is_of_scene(text).then(|| format!("{name}: {}", text.trim()))
        })
        .collect();
    let mut names: BTreeSet<&str> = by_kernel.iter().map(|event| event.name.as_str()).collect();
    if !has_noncoherent() {
        // Where all devices snoop, there need be nothing to maintain.
        names.insert("cohbuf_maintain");
    }
    expect_eq("events that came", names, EVENTS.into())?;
    let by_kernel: Vec<String> = by_kernel
        .iter()
        .filter(|event| is_of_scene(&event.text))
        .map(|event| format!("{}: {}", event.name, event.text.trim()))
        .collect();
    expect_eq("events", by_trace_cmd, by_kernel)
}
