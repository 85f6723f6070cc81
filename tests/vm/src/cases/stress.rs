// SPDX-License-Identifier: GPL-2.0

//! Brackets and mappings in parallel, out of order, and by processes that die (R8).
//! Where everybody keeps the rules, no byte gets lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, Buffer, CreateFlags, FdFlags, Info};
use cohbuf_testdev::{Attachment, Direction, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::child;
use crate::guest::{Guest, live_buffers, page};
use crate::harness::{Outcome, Stop, fail, fails_with};
use crate::raw::{self, Map};
use crate::slots::{self, Slot, Written};

crate::guest_suite!("stress":
    parallel_writers_beside_coherent,
    parallel_writers_beside_noncoherent,
    parallel_writers_beside_edu,
    parallel_writers_while_mappings_come_and_go,
    start_in_one_thread_and_end_in_another,
    nested_windows_keep_every_byte,
    unpaired_calls_do_no_harm,
    killed_in_a_window,
    fork_with_a_mapping,
    moved_mapping,
    sync_after_a_partial_munmap,
    mapping_without_a_descriptor,
    descriptor_without_a_mapping,
);

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const READ: u64 = 1;
const WRITES: u64 = 2;
const END: u64 = 4;

/// How long the writers write.
const TIME: Duration = Duration::from_millis(1500);

/// Two processes with two threads each, and two threads here.
const SLOTS: usize = 6;

/// One more thread attaches, maps, unmaps and detaches meanwhile.
fn come_and_go(guest: &Guest, buffer: &Buffer, stop: &AtomicBool) -> Outcome {
    let importer = guest.importer()?;
    let kinds = [TestDevice::Coherent, TestDevice::NonCoherent];
    let directions = [
        Direction::Bidirectional,
        Direction::ToDevice,
        Direction::FromDevice,
    ];
    // Every device in every direction at least once, however slow the kernel is.
    let pairs = || directions.iter().flat_map(|d| kinds.map(|k| (k, *d)));
    for (round, (kind, direction)) in pairs().cycle().enumerate() {
        if round >= pairs().count() && stop.load(Ordering::Relaxed) {
            break;
        }
        let attachment = importer.attach(buffer, kind, 0)?;
        attachment.map(direction)?;
        attachment.unmap()?;
        attachment.detach()?;
    }
    Ok(())
}

/// Lets all of them write, with a device mapped meanwhile or none.
fn parallel_writers(guest: &Guest, kept: Option<TestDevice>) -> Outcome {
    let device = guest.device()?;
    let importer = guest.importer()?;
    // The children get the descriptor.
    let buffer = device.create_with(
        Slot::room(SLOTS) as u64,
        CreateFlags::empty(),
        FdFlags::RDWR,
    )?;
    let attachment = match kept {
        Some(kind) => {
            let attachment = importer.attach(&buffer, kind, 0)?;
            attachment.map(Direction::Bidirectional)?;
            Some(attachment)
        }
        None => None,
    };

    let children: Vec<_> = [0..2, 2..4]
        .into_iter()
        .map(|slots| child::start_slots(&buffer, slots, TIME))
        .collect::<Result<_, _>>()?;
    let stop = AtomicBool::new(false);
    let mut written = thread::scope(|scope| -> Result<_, Stop> {
        let importing = scope.spawn(|| come_and_go(guest, &buffer, &stop));
        let written = slots::write_by_threads(&buffer, 4..SLOTS, TIME);
        let mut all = Vec::new();
        for child in children {
            all.push(child::end_slots(child));
        }
        stop.store(true, Ordering::Relaxed);
        importing.join().expect("the importer panicked")?;
        let mut written = written?;
        for slots in all {
            written.extend(slots?);
        }
        Ok(written)
    })?;
    written.sort_by_key(|written| written.slot.number);

    check!(written.len() == SLOTS, "not all wrote: {written:?}");
    let info = device.info(&buffer)?;
    let mapped = u32::from(kept.is_some());
    check!(
        info.attachments == mapped && info.mappings == mapped,
        "{info:?}"
    );
    check!(
        info.bounced == mapped * u32::from(guest.swiotlb),
        "{info:?}"
    );
    nothing_lost(&buffer, &written, "with all mappings as they are")?;
    if let Some(attachment) = attachment {
        if kept == Some(TestDevice::Edu) {
            device_sees(&attachment, &written)?;
        }
        attachment.unmap()?;
        attachment.detach()?;
    }
    nothing_lost(&buffer, &written, "after the last unmap")
}

/// Fails where a writer missed one of its bytes, or where one is not there now.
fn nothing_lost(buffer: &Buffer, written: &[Written], when: &str) -> Outcome {
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(Access::Read)?;
    let mut missing = Vec::new();
    for written in written {
        if written.lost > 0 || !written.slot.is_intact(&mapping)? {
            missing.push(*written);
        }
    }
    window.end()?;
    check!(
        missing.is_empty(),
        "{when}: bytes of the CPU were lost: {missing:?}"
    );
    Ok(())
}

/// Fails where the device does not see what is in the first page.
fn device_sees(device: &Attachment<'_>, written: &[Written]) -> Outcome {
    let mut seen = vec![0; page()];
    device.device_reads(0, &mut seen)?;
    for Written { slot, .. } in written {
        let bytes = slot.bytes();
        if let Some(part) = seen.get(slot.offset()..slot.offset() + bytes.len()) {
            check!(part == bytes, "the device does not see {slot:?}");
        }
    }
    Ok(())
}

fn parallel_writers_beside_coherent(guest: &Guest) -> Outcome {
    parallel_writers(guest, Some(TestDevice::Coherent))
}

fn parallel_writers_beside_noncoherent(guest: &Guest) -> Outcome {
    parallel_writers(guest, Some(TestDevice::NonCoherent))
}

fn parallel_writers_beside_edu(guest: &Guest) -> Outcome {
    parallel_writers(guest, Some(TestDevice::Edu))
}

fn parallel_writers_while_mappings_come_and_go(guest: &Guest) -> Outcome {
    parallel_writers(guest, None)
}

/// What all the tests below need: a buffer that edu has mapped both ways.
fn with_edu(
    guest: &Guest,
    size: usize,
    test: impl FnOnce(Buffer, &Attachment<'_>) -> Outcome,
) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size)?;
    let attachment = importer.attach(&buffer, TestDevice::Edu, 0)?;
    attachment.map(Direction::Bidirectional)?;
    test(buffer, &attachment)
}

fn start_in_one_thread_and_end_in_another(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        let mapping = buffer.map()?;
        let mut slot = Slot::new(0);
        let (give, take) = mpsc::channel();
        let (buffer, mapping) = (&buffer, &mapping);
        let slot = thread::scope(|scope| -> Result<Slot, Stop> {
            let starts = scope.spawn(move || -> Result<(), cohbuf::Error> {
                for _ in 0..100 {
                    // The other one is gone where this fails.
                    if give.send(buffer.cpu_access(Access::Write)?).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let ends = scope.spawn(move || -> Result<Slot, Stop> {
                for window in take {
                    slot.write_next(mapping)?;
                    window.end()?;
                }
                Ok(slot)
            });
            starts.join().expect("START panicked")?;
            ends.join().expect("END panicked")
        })?;
        check!(slot.round == 100, "{} windows of 100", slot.round);
        let written = [Written { slot, lost: 0 }];
        nothing_lost(buffer, &written, "after 100 windows")?;
        device_sees(device, &written)
    })
}

fn nested_windows_keep_every_byte(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        let mapping = buffer.map()?;
        let mut slots = [0, 1, 2, 3].map(Slot::new);
        let outer = buffer.cpu_access(Access::ReadWrite)?;
        slots[0].write_next(&mapping)?;
        let inner = buffer.cpu_access(Access::Write)?;
        slots[1].write_next(&mapping)?;
        let reader = buffer.cpu_access(Access::Read)?;
        check!(
            slots[0].is_intact(&mapping)? && slots[1].is_intact(&mapping)?,
            "START in a window took away what had been written in it"
        );
        inner.end()?;
        slots[2].write_next(&mapping)?;
        reader.end()?;
        slots[3].write_next(&mapping)?;
        outer.end()?;
        let written = slots.map(|slot| Written { slot, lost: 0 });
        nothing_lost(&buffer, &written, "after the last END")?;
        device_sees(device, &written)
    })
}

// END without START, START without END, and more of one than of the other: what is
// bracketed after that is right as ever, both ways.
fn unpaired_calls_do_no_harm(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        for flags in [
            END | READ,
            END | WRITES,
            END | READ | WRITES,
            READ,
            READ | WRITES,
            WRITES,
            END | WRITES,
        ] {
            sync(&buffer, flags)?;
        }
        // A START that says WRITE and has no END keeps the buffer with the CPU.
        let open = guest.device()?.info(&buffer)?.write_windows;
        check!(open == 1, "{open} windows are open");
        sync(&buffer, END | WRITES)?;
        works_both_ways(guest, &buffer, device, &[])
    })
}

/// The CPU writes, the device reads; the device writes, the CPU reads. What others
/// had written is still there.
fn works_both_ways(
    guest: &Guest,
    buffer: &Buffer,
    device: &Attachment<'_>,
    others: &[Written],
) -> Outcome {
    let mapping = buffer.map()?;
    let mut slot = Slot::new(0);
    let window = buffer.cpu_access(Access::Write)?;
    slot.write_next(&mapping)?;
    window.end()?;
    let written = Written { slot, lost: 0 };
    device_sees(device, &[others, &[written]].concat())?;

    // Between the slots.
    let at = slot.offset() + 512;
    let bytes = *b"by the device";
    device.device_writes(at as u64, &bytes)?;
    let window = buffer.cpu_access(Access::Read)?;
    let mut seen = [0; 13];
    mapping.read(at, &mut seen)?;
    window.end()?;
    check!(
        seen == bytes,
        "the CPU does not see what the device wrote, but {seen:?}"
    );
    nothing_lost(buffer, &[others, &[written]].concat(), "after both")?;
    let info = guest.device()?.info(buffer)?;
    check!(info.mappings == 1 && info.attachments == 1, "{info:?}");
    Ok(())
}

/// Waits for something that another process does.
fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool, Stop>) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds()? {
        if Instant::now() > deadline {
            return fail(format!("after 10 s: {what}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

// Every second one is caught with a window open and its bytes written, for sure.
fn killed_in_a_window(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        let mapping = buffer.map()?;
        let info = || -> Result<Info, Stop> { Ok(guest.device()?.info(&buffer)?) };
        let before = info()?;
        let mut mine = Slot::new(1);
        for round in 0..40 {
            let stays = round % 2 == 1;
            let child = raw::fork(|| {
                let mut slot = Slot::new(2);
                slot.round = round;
                loop {
                    let Ok(window) = buffer.cpu_access(Access::ReadWrite) else {
                        return 1;
                    };
                    if slot.write_next(&mapping).is_err() {
                        return 1;
                    }
                    if stays {
                        loop {
                            thread::sleep(Duration::from_secs(1));
                        }
                    }
                    if window.end().is_err() {
                        return 1;
                    }
                }
            })?;
            if stays {
                let theirs = Slot {
                    number: 2,
                    round: round + 1,
                };
                wait_until("the child has written nothing", || {
                    Ok(theirs.is_intact(&mapping)?)
                })?;
            } else {
                thread::sleep(Duration::from_millis(5 + u64::from(round) / 4));
            }
            check!(child.poll()?.is_none(), "the child ended by itself");
            child.signal(libc::SIGKILL)?;
            let status = child.wait()?;
            check!(
                libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL,
                "the child ended with status {status:#x}"
            );

            let window = buffer.cpu_access(Access::ReadWrite)?;
            check!(
                mine.is_intact(&mapping)?,
                "round {round}: what the parent wrote is lost"
            );
            mine.write_next(&mapping)?;
            window.end()?;
        }
        let after = info()?;
        check!(
            after.attachments == 1 && after.mappings == 1,
            "after the kills: {after:?}"
        );
        check!(
            after.refused_attach == before.refused_attach
                && after.refused_map == before.refused_map
                && after.syncs_for_cpu >= before.syncs_for_cpu
                && after.syncs_for_device >= before.syncs_for_device,
            "counters went wrong: {before:?}, then {after:?}"
        );
        // The windows that nobody ended do not stand in the way.
        let mine = Written {
            slot: mine,
            lost: 0,
        };
        works_both_ways(guest, &buffer, device, &[mine])
    })
}

fn fork_with_a_mapping(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        let mapping = buffer.map()?;
        let rounds = 200;
        let write = |slot: &mut Slot| -> Result<(), Errno> {
            for _ in 0..rounds {
                let window = buffer
                    .cpu_access(Access::Write)
                    .map_err(|error| error.errno())?;
                slot.write_next(&mapping)?;
                window.end().map_err(|error| error.errno())?;
            }
            Ok(())
        };
        let child = raw::fork(|| i32::from(write(&mut Slot::new(1)).is_err()))?;
        let mut mine = Slot::new(0);
        let wrote = write(&mut mine);
        check!(child.wait()? == 0, "the child could not write");
        wrote?;
        let theirs = Slot {
            number: 1,
            round: rounds,
        };
        let written = [mine, theirs].map(|slot| Written { slot, lost: 0 });
        nothing_lost(&buffer, &written, "parent and child")?;
        device_sees(device, &written)
    })
}

fn moved_mapping(guest: &Guest) -> Outcome {
    with_edu(guest, 4 * page(), |buffer, device| {
        let fd = buffer.into_fd();
        let mut mapping = Map::new(&fd, 4 * page(), RW, libc::MAP_SHARED, 0)?;
        mapping.put(3 * page(), 7);
        fails_with(mapping.remap(5 * page()), Errno::FAULT, "growing")?;
        let old = mapping.address();
        mapping.move_elsewhere()?;
        check!(mapping.address() != old, "it did not move");
        check!(
            mapping.byte(3 * page()) == 7,
            "moved, it shows something else"
        );
        fails_with(
            mapping.remap(5 * page()),
            Errno::FAULT,
            "growing after the move",
        )?;
        sync(&fd, WRITES)?;
        mapping.put(5, 9);
        sync(&fd, END | WRITES)?;
        let mut seen = [0; 8];
        device.device_reads(0, &mut seen)?;
        check!(seen[5] == 9, "the device does not see what was written");
        let other = Map::new(&fd, page(), libc::PROT_READ, libc::MAP_SHARED, 0)?;
        check!(other.byte(5) == 9, "it is of other memory");
        Ok(())
    })
}

fn sync_after_a_partial_munmap(guest: &Guest) -> Outcome {
    with_edu(guest, 4 * page(), |buffer, device| {
        let fd = buffer.into_fd();
        let mapping = Map::new(&fd, 4 * page(), RW, libc::MAP_SHARED, 0)?;
        sync(&fd, READ | WRITES)?;
        mapping.put(0, 1);
        mapping.put(page(), 2);
        // In the middle of a window, and in the middle of the mapping.
        mapping.cut(page(), 2 * page())?;
        mapping.put(3 * page(), 3);
        sync(&fd, END | READ | WRITES)?;
        for (at, byte) in [(0, 1), (page(), 2), (3 * page(), 3)] {
            let mut seen = [0];
            device.device_reads(at as u64, &mut seen)?;
            check!(seen == [byte], "at {at} the device sees {seen:?}");
        }
        device.device_writes(3 * page() as u64, &[4])?;
        sync(&fd, READ)?;
        check!(
            mapping.byte(3 * page()) == 4,
            "what is left does not show what the device wrote"
        );
        sync(&fd, END | READ)?;
        Ok(())
    })
}

fn mapping_without_a_descriptor(guest: &Guest) -> Outcome {
    let before = live_buffers()?;
    with_edu(guest, page(), |buffer, device| {
        let mapping = buffer.map()?;
        let mut slot = Slot::new(0);
        let window = buffer.cpu_access(Access::Write)?;
        slot.write_next(&mapping)?;
        window.end()?;
        // The attachment and the mapping keep the buffer.
        drop(buffer);
        device_sees(device, &[Written { slot, lost: 0 }])?;
        device.unmap()?;
        check!(
            slot.is_intact(&mapping)?,
            "unmap took what had been written"
        );
        slot.write_next(&mapping)?;
        check!(slot.is_intact(&mapping)?, "the memory is another");
        check!(live_buffers()? == before + 1, "the buffer is gone");
        Ok(())
    })?;
    check!(live_buffers()? == before, "the buffer is still there");
    Ok(())
}

fn descriptor_without_a_mapping(guest: &Guest) -> Outcome {
    with_edu(guest, page(), |buffer, device| {
        let mut slot = Slot::new(0);
        let mapping = buffer.map()?;
        let window = buffer.cpu_access(Access::Write)?;
        slot.write_next(&mapping)?;
        drop(mapping);
        window.end()?;
        let written = Written { slot, lost: 0 };
        device_sees(device, &[written])?;
        sync(&buffer, READ | WRITES)?;
        sync(&buffer, END | READ | WRITES)?;
        nothing_lost(&buffer, &[written], "mapped anew")
    })
}
