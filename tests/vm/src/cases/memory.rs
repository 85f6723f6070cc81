// SPDX-License-Identifier: GPL-2.0

//! The memory: zero, and mapped in every way.

use cohbuf::{CreateFlags, FdFlags, Protection};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, expect_eq, fails_with};
use crate::raw::{self, Map};

crate::guest_suite!("memory":
    new_memory_is_zero,
    whole_and_partial_mappings,
    mappings_beyond_the_end,
    private_mappings_are_refused,
    read_only_descriptor,
    seek_tells_the_size,
    partial_munmap,
    parts_of_an_aligned_mapping,
    mremap_moves_and_never_grows,
    fork_shares_the_mapping,
    mapping_outlives_the_descriptor,
    nobody_gets_a_reference_to_a_page,
);

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn map(fd: &OwnedFd, len: usize) -> Result<Map, Errno> {
    Map::new(fd, len, RW, libc::MAP_SHARED, 0)
}

fn new_memory_is_zero(guest: &Guest) -> Outcome {
    let size = 3 << 20;
    for round in 0..4 {
        let buffer = guest.bracketed(size)?;
        let mapping = buffer.map()?;
        let dirty = mapping.to_vec()?.iter().filter(|byte| **byte != 0).count();
        check!(dirty == 0, "round {round}: {dirty} bytes are not zero");
        // For whoever gets these pages next.
        mapping.write(0, &vec![0xa5; size])?;
    }
    Ok(())
}

// With pages of 4 KiB larger than the largest chunk, so that mappings begin and end inside of some
// and cross others.
fn whole_and_partial_mappings(guest: &Guest) -> Outcome {
    let page = page();
    let pages = 1324;
    let buffer = guest.bracketed(pages * page)?;
    let whole = buffer.map()?;
    for number in 0..pages {
        whole.write(number * page, &(number as u32 + 1).to_ne_bytes())?;
    }
    for (first, count) in [
        (0, 1),
        (1, 1),
        (255, 2),
        (256, 1),
        (271, 3),
        (299, 1),
        (100, 200),
        (500, 700),
        (1023, 2),
        (1024, 1),
        (1279, 45),
    ] {
        let part = buffer.map_range(
            (first * page) as u64,
            (count * page) as u64,
            Protection::ReadWrite,
        )?;
        for number in 0..count {
            let mut bytes = [0; 4];
            part.read(number * page, &mut bytes)?;
            let seen = u32::from_ne_bytes(bytes) as usize;
            check!(
                seen == first + number + 1,
                "page {} shows {seen}",
                first + number
            );
        }
        part.write(8, b"part")?;
        let mut seen = [0; 4];
        whole.read(first * page + 8, &mut seen)?;
        check!(&seen == b"part", "a write by the part is not in the whole");
    }
    Ok(())
}

fn mappings_beyond_the_end(guest: &Guest) -> Outcome {
    let page = page();
    let fd = guest.bracketed(4 * page)?.into_fd();
    let map = |offset: usize, len: usize| {
        Map::new(&fd, len, RW, libc::MAP_SHARED, offset as i64).map(drop)
    };
    fails_with(map(0, 5 * page), Errno::INVAL, "longer than the buffer")?;
    fails_with(map(4 * page, page), Errno::INVAL, "behind the end")?;
    fails_with(map(3 * page, 2 * page), Errno::INVAL, "across the end")?;
    fails_with(
        map(page / 2, page),
        Errno::INVAL,
        "offset not of whole pages",
    )?;
    fails_with(map(1 << 62, page), Errno::INVAL, "far behind the end")?;
    map(3 * page, page)?;
    Ok(())
}

fn private_mappings_are_refused(guest: &Guest) -> Outcome {
    let fd = guest.bracketed(page())?.into_fd();
    for prot in [libc::PROT_READ, RW] {
        let result = Map::new(&fd, page(), prot, libc::MAP_PRIVATE, 0).map(drop);
        fails_with(result, Errno::INVAL, "MAP_PRIVATE")?;
    }
    Ok(())
}

fn read_only_descriptor(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = device.create_with(1, CreateFlags::empty(), FdFlags::CLOEXEC)?;
    let mapping = buffer.map_range(0, page() as u64, Protection::Read)?;
    check!(mapping.to_vec()?.iter().all(|byte| *byte == 0), "not zero");
    let fd = buffer.into_fd();
    let result = Map::new(&fd, page(), RW, libc::MAP_SHARED, 0).map(drop);
    fails_with(result, Errno::ACCESS, "PROT_WRITE")
}

fn seek_tells_the_size(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(5 * page())?;
    check!(
        seek(&buffer, SeekFrom::End(0))? == 5 * page() as u64,
        "SEEK_END"
    );
    check!(seek(&buffer, SeekFrom::Start(0))? == 0, "SEEK_SET");
    fails_with(seek(&buffer, SeekFrom::Start(1)), Errno::INVAL, "an offset")
}

fn partial_munmap(guest: &Guest) -> Outcome {
    let page = page();
    let fd = guest.bracketed(4 * page)?.into_fd();
    let mapping = map(&fd, 4 * page)?;
    mapping.put(page, 7);
    mapping.put(3 * page, 9);
    mapping.cut(2 * page, 2 * page)?;
    check!(mapping.byte(page) == 7, "what is left shows something else");
    check!(
        map(&fd, 4 * page)?.byte(3 * page) == 9,
        "what was unmapped is lost"
    );
    Ok(())
}

/// Where addresses allow it, arm64 has one entry of the TLB for 16 pages: what is done to one of
/// them must not be done to the others.
fn parts_of_an_aligned_mapping(guest: &Guest) -> Outcome {
    let page = page();
    let pages = 512;
    for kind in [
        CreateFlags::empty(),
        CreateFlags::TRACK_DIRTY,
        CreateFlags::WRITE_COMBINE,
    ] {
        let buffer = guest.buffer(pages * page, kind)?;
        let fd = buffer.as_fd();
        let mapping = Map::aligned(fd, pages * page, RW, 2 << 20)?;
        let other = Map::new(fd, pages * page, RW, libc::MAP_SHARED, 0)?;
        let byte = |number: usize| number as u8 ^ 0x5a;
        for number in 0..pages {
            mapping.put(number * page, byte(number));
        }
        let fails = |what: &str, result| fails_with(result, Errno::FAULT, what);
        let zero = std::fs::File::open("/dev/zero")?;
        let sink = std::fs::File::create("/tmp/memory-sink")?;

        let status = raw::fork(|| {
            let wrong = (0..pages).any(|n| mapping.byte(n * page) != byte(n));
            mapping.put(5 * page, 0xc5);
            i32::from(wrong)
        })?
        .wait()?;
        check!(status == 0, "{kind:?}: a child sees other bytes");
        check!(mapping.byte(5 * page) == 0xc5, "{kind:?}: of a child");
        mapping.put(5 * page, byte(5));

        mapping.protect_part(20 * page, page, libc::PROT_READ)?;
        check!(mapping.byte(20 * page) == byte(20), "{kind:?}: to be read");
        fails("to be read", mapping.receive(20 * page, 1, &zero))?;
        mapping.put(19 * page, 1);
        mapping.put(21 * page, 1);
        mapping.protect_part(20 * page, page, RW)?;
        mapping.put(20 * page, 1);
        for number in 19..22 {
            check!(other.byte(number * page) == 1, "{kind:?}: page {number}");
            mapping.put(number * page, byte(number));
        }

        mapping.protect_part(33 * page, 17 * page, libc::PROT_NONE)?;
        for number in [33, 47, 48, 49] {
            fails("of nobody", mapping.send(number * page, 1, &sink))?;
        }
        for number in [32, 50] {
            check!(mapping.byte(number * page) == byte(number), "{kind:?}");
        }
        mapping.protect_part(33 * page, 17 * page, RW)?;

        let moved = mapping.move_part(70 * page, 19 * page)?;
        for number in [70, 88] {
            fails("moved away", mapping.send(number * page, 1, &sink))?;
        }
        for number in 0..19 {
            check!(moved.byte(number * page) == byte(70 + number), "{kind:?}");
            moved.put(number * page, 2);
            check!(other.byte((70 + number) * page) == 2, "{kind:?}");
            moved.put(number * page, byte(70 + number));
        }

        mapping.cut(100 * page, page)?;
        fails("unmapped", mapping.send(100 * page, 1, &sink))?;
        for number in (0..70).chain(89..100).chain(101..pages) {
            check!(mapping.byte(number * page) == byte(number), "{kind:?}");
        }
        for number in 0..pages {
            check!(other.byte(number * page) == byte(number), "{kind:?}");
        }
    }
    Ok(())
}

fn mremap_moves_and_never_grows(guest: &Guest) -> Outcome {
    let page = page();
    let fd = guest.bracketed(4 * page)?.into_fd();
    let mut mapping = map(&fd, 2 * page)?;
    mapping.put(page, 7);
    fails_with(mapping.remap(3 * page), Errno::FAULT, "growing")?;
    check!(mapping.byte(page) == 7, "shows something else");
    mapping.remap(page)?;
    mapping.put(0, 8);
    check!(
        map(&fd, page)?.byte(0) == 8,
        "a shrunk mapping is of other memory"
    );
    Ok(())
}

fn fork_shares_the_mapping(guest: &Guest) -> Outcome {
    let fd = guest.bracketed(page())?.into_fd();
    let mapping = map(&fd, page())?;
    mapping.put(0, 1);
    let child = raw::fork(|| {
        let seen = mapping.byte(0);
        mapping.put(1, 2);
        i32::from(seen != 1)
    })?;
    check!(child.wait()? == 0, "the child sees something else");
    check!(
        mapping.byte(1) == 2,
        "the parent does not see what the child wrote"
    );
    Ok(())
}

fn mapping_outlives_the_descriptor(guest: &Guest) -> Outcome {
    let fd = guest.bracketed(2 * page())?.into_fd();
    let mapping = map(&fd, 2 * page())?;
    mapping.put(page(), 5);
    drop(fd);
    check!(mapping.byte(page()) == 5, "the memory is another");
    Ok(())
}

/// Pages are not made to be counted one by one, and importers of a dma-buf may not look at them.
fn nobody_gets_a_reference_to_a_page(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let len = 1100 * page();
    let pin = |map: &Map, at: usize| -> Result<usize, Errno> {
        let (_reader, writer) = rustix::pipe::pipe()?;
        map.give(at * page(), page(), writer)
    };
    let other = Map::anonymous(len)?;
    other.write(0, b"there");
    expect_eq("of other memory", pin(&other, 0)?, page())?;
    // Of as many pages nobody has a contiguous buffer everywhere.
    for (flags, pages) in [
        (CreateFlags::empty(), 1100),
        (CreateFlags::CONTIGUOUS, 20),
        (CreateFlags::ENFORCE_REPORT, 1100),
    ] {
        let len = pages * page();
        let fd = device.create(len as u64, flags)?.into_fd();
        let whole = map(&fd, len)?;
        for at in [0, 1, 16, pages - 1] {
            whole.write(at * page(), b"there");
            fails_with(pin(&whole, at).map(drop), Errno::FAULT, "vmsplice")?;
        }
    }
    Ok(())
}
