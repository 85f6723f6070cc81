// SPDX-License-Identifier: GPL-2.0

//! The memory: zero, and mapped in every way.

use cohbuf::{CreateFlags, FdFlags, Protection};
use rustix::fd::OwnedFd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, fails_with};
use crate::raw::{self, Map};

crate::guest_suite!("memory":
    new_memory_is_zero,
    whole_and_partial_mappings,
    mappings_beyond_the_end,
    private_mappings_are_refused,
    read_only_descriptor,
    seek_tells_the_size,
    partial_munmap,
    mremap_moves_and_never_grows,
    fork_shares_the_mapping,
    mapping_outlives_the_descriptor,
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

// Larger than the largest chunk, so that mappings begin and end inside of some
// and cross others.
fn whole_and_partial_mappings(guest: &Guest) -> Outcome {
    let page = page();
    let pages = 300;
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
