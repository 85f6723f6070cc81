// SPDX-License-Identifier: GPL-2.0

//! `COHBUF_CONTIGUOUS`: one piece of memory, and otherwise a buffer like any other.

use cohbuf::{Access, Caching, CreateFlags, Errno};
use cohbuf_testdev::{Direction, TestDevice};

use super::create::nothing_lost;
use super::limits::with_cgroup;
use crate::check;
use crate::child;
use crate::enforced::{Died, Outside, POISON, REPORT, Scene, died};
use crate::guest::{Guest, ModelReset, page};
use crate::harness::{Outcome, expect_eq, expect_errno, fail, skip};
use crate::raw::{self, Map};

crate::guest_suite!("contiguous":
    one_piece_with_any_flags,
    larger_than_the_page_allocator_has,
    larger_ones_are_zero,
    larger_ones_count_against_memlock,
    smaller_ones_are_charged_to_the_cgroup,
    devices_get_few_segments,
    bytes_reach_both_sides,
    pages_come_by_fault,
    enforced_to_the_last_page,
    more_than_there_is,
    nothing_lost_in_10000_buffers,
);

const KINDS: [CreateFlags; 4] = [
    CreateFlags::empty(),
    CreateFlags::COHERENT,
    CreateFlags::WRITE_COMBINE,
    CreateFlags::TRACK_DIRTY,
];

/// The most that the page allocator has in one piece, and the memory cgroup is charged for.
const LARGEST: usize = 4 << 20;

/// Whether the kernel can have a larger piece.
fn has_contig_alloc() -> Result<bool, crate::harness::Stop> {
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    Ok(symbols.contains(" alloc_contig_pages_noprof"))
}

fn one_piece(guest: &Guest, size: usize, kind: CreateFlags) -> Outcome {
    let flags = kind | CreateFlags::CONTIGUOUS;
    let what = format!("{size} bytes, {kind:?}");
    let buffer = guest.buffer(size, flags)?;
    let info = guest.device()?.info(&buffer)?;
    expect_eq(&what, (info.size, info.segments), (size as u64, 1))?;
    expect_eq(&what, info.flags, flags)?;
    let caching = match kind {
        CreateFlags::WRITE_COMBINE => Caching::WriteCombine,
        _ => Caching::WriteBack,
    };
    expect_eq(&what, info.caching, caching)?;
    let mapping = buffer.map()?;
    check!(
        mapping.to_vec()?.iter().all(|byte| *byte == 0),
        "{what}: new memory is not zero"
    );
    let bytes: Vec<u8> = (0..size).map(|at| (at / 61) as u8).collect();
    let window = buffer.cpu_access(Access::ReadWrite)?;
    mapping.write(0, &bytes)?;
    check!(mapping.to_vec()? == bytes, "{what}: other bytes come back");
    window.end()?;
    Ok(())
}

fn one_piece_with_any_flags(guest: &Guest) -> Outcome {
    let sizes = [1, 2, 3, 5, 17, 255, 257]
        .map(|pages| pages * page())
        .into_iter()
        .chain([LARGEST - page(), LARGEST]);
    for size in sizes {
        for kind in KINDS {
            one_piece(guest, size, kind)?;
        }
    }
    Ok(())
}

fn larger_than_the_page_allocator_has(guest: &Guest) -> Outcome {
    let sizes = [LARGEST + page(), (9 << 20) + 3 * page(), 16 << 20];
    if !has_contig_alloc()? {
        for size in sizes {
            let result = guest.device()?.create(size as u64, CreateFlags::CONTIGUOUS);
            expect_errno("without CONFIG_CONTIG_ALLOC", result, Errno::NOMEM)?;
        }
        return Ok(());
    }
    for size in sizes {
        for kind in KINDS {
            one_piece(guest, size, kind)?;
        }
    }
    Ok(())
}

fn larger_ones_are_zero(guest: &Guest) -> Outcome {
    if !has_contig_alloc()? {
        return skip("this kernel has no CONFIG_CONTIG_ALLOC");
    }
    for round in 0..4 {
        let buffer = guest.buffer(8 << 20, CreateFlags::CONTIGUOUS)?;
        let mapping = buffer.map()?;
        let dirty = mapping.to_vec()?.iter().filter(|byte| **byte != 0).count();
        check!(dirty == 0, "round {round}: {dirty} bytes are not zero");
        // For whoever gets these pages next.
        mapping.write(0, &vec![0xa5; 8 << 20])?;
    }
    Ok(())
}

/// 12 MiB may be locked: one buffer of 8 MiB fits, two do not, and smaller ones do not count.
fn larger_ones_count_against_memlock(_guest: &Guest) -> Outcome {
    if !has_contig_alloc()? {
        return skip("this kernel has no CONFIG_CONTIG_ALLOC");
    }
    let output = child::run(&[
        "lock-memory",
        &(12 << 20).to_string(),
        &(8 << 20).to_string(),
    ])?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    expect_eq(
        "two buffers",
        (said.as_str(), error.as_str()),
        ("ok ENOMEM ok ok", ""),
    )
}

fn smaller_ones_are_charged_to_the_cgroup(_guest: &Guest) -> Outcome {
    with_cgroup(|group| {
        let flags = CreateFlags::CONTIGUOUS.bits().to_string();
        let output = child::run(&["create-in-cgroup", group, &LARGEST.to_string(), &flags])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [before, with, after] = numbers[..] else {
            return fail(format!("the process in the cgroup: {output:?}"));
        };
        let bytes = LARGEST as u64;
        check!(
            with >= before + bytes && after + bytes / 2 < with,
            "charged {before} before, {with} with the buffer, {after} after it"
        );
        Ok(())
    })
}

/// Segments are of 64 KiB at most for a device that has not said otherwise. Pages that are next to
/// each other come in one, which those of other buffers do only by chance.
fn devices_get_few_segments(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (pages, segments) in [(1, 1), (5, 1), (16, 1), (17, 2), (256 + 5, 17)] {
        for kind in [CreateFlags::empty(), CreateFlags::WRITE_COMBINE] {
            let buffer = guest.buffer(pages * page(), kind | CreateFlags::CONTIGUOUS)?;
            let device = importer.attach(&buffer, TestDevice::DirectModel, 0)?;
            let map = device.map(Direction::Bidirectional)?;
            check!(
                map.segments == segments,
                "{pages} pages, {kind:?}: {} segments, must be {segments}",
                map.segments
            );
        }
    }
    Ok(())
}

fn bytes_reach_both_sides(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let size = LARGEST - page();
    for kind in [
        TestDevice::CacheModel,
        TestDevice::CacheModelMerged,
        TestDevice::DirectModel,
        TestDevice::BounceModel,
        TestDevice::BouncedModel,
        TestDevice::Coherent,
        TestDevice::NonCoherent,
    ] {
        let moves = !matches!(kind, TestDevice::Coherent | TestDevice::NonCoherent);
        let buffer = guest.buffer(size, CreateFlags::CONTIGUOUS)?;
        let mapping = buffer.map()?;
        let _reset = ModelReset(&importer);
        let device = importer.attach(&buffer, kind, 0)?;
        device.map(Direction::Bidirectional)?;
        // At both ends, across two pages, and where segments of 64 KiB meet.
        for at in [0, page() - 5, (64 << 10) - 5, (1 << 20) - 5, size - 10] {
            let window = buffer.cpu_access(Access::Write)?;
            mapping.write(at, b"processor")?;
            window.end()?;
            if !moves {
                continue;
            }
            let mut seen = [0; 9];
            device.device_reads(at as u64, &mut seen)?;
            check!(
                seen == *b"processor",
                "{kind:?} at {at}: the device does not see it"
            );
            device.device_writes(at as u64, b"appliance")?;
            let window = buffer.cpu_access(Access::Read)?;
            mapping.read(at, &mut seen)?;
            window.end()?;
            check!(
                seen == *b"appliance",
                "{kind:?} at {at}: the CPU does not see it"
            );
        }
    }
    Ok(())
}

/// Pages of one piece, in numbers that are no power of two, and none that an order has.
fn numbers_of_pages() -> Result<Vec<usize>, crate::harness::Stop> {
    let mut numbers = vec![1, 5, 17, 40, 256 + 1, LARGEST / page() - 1];
    if has_contig_alloc()? {
        numbers.push((9 << 20) / page() + 3);
    }
    Ok(numbers)
}

/// What enforces its windows is mapped page by page. A device, which finds the pages by its sg
/// table, tells whether each is the one that belongs there.
fn pages_come_by_fault(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let stamp = |turn: usize, number: usize| (((turn << 24) | number) as u32).to_ne_bytes();
    for pages in numbers_of_pages()? {
        for kind in [
            CreateFlags::empty(),
            CreateFlags::WRITE_COMBINE,
            CreateFlags::TRACK_DIRTY,
        ] {
            let scene = Scene::new(guest, pages, REPORT | CreateFlags::CONTIGUOUS | kind)?;
            let device = importer.attach(&scene.buffer, TestDevice::DirectModel, 0)?;
            device.map(Direction::Bidirectional)?;

            // From the end, where no page is mapped yet that a fault might bring along.
            let window = scene.window(Access::ReadWrite)?;
            for number in (0..pages).rev() {
                for (at, byte) in stamp(1, number).into_iter().enumerate() {
                    scene.map.put(number * page() + at, byte);
                }
            }
            window.end()?;
            for number in 0..pages {
                let mut seen = [0; 4];
                device.device_reads((number * page()) as u64, &mut seen)?;
                check!(
                    seen == stamp(1, number),
                    "{pages} pages, {kind:?}: the device finds {seen:?} in page {number}"
                );
                device.device_writes((number * page()) as u64, &stamp(2, number))?;
            }
            let window = scene.window(Access::Read)?;
            for number in 0..pages {
                let seen = [0, 1, 2, 3].map(|at| scene.map.byte(number * page() + at));
                check!(
                    seen == stamp(2, number),
                    "{pages} pages, {kind:?}: the CPU finds {seen:?} in page {number}"
                );
            }
            // By a mapping that does not begin where the buffer does.
            for number in [pages / 2, pages - 1] {
                let one = Map::new(
                    &scene.buffer,
                    page(),
                    libc::PROT_READ,
                    libc::MAP_SHARED,
                    (number * page()) as i64,
                )?;
                let seen = [0, 1, 2, 3].map(|at| one.byte(at));
                check!(
                    seen == stamp(2, number),
                    "{pages} pages, {kind:?}: {seen:?} in page {number}, mapped alone"
                );
            }
            window.end()?;
            expect_eq("all in windows", scene.outside(guest)?, Outside::NONE)?;
        }
    }
    Ok(())
}

fn enforced_to_the_last_page(guest: &Guest) -> Outcome {
    for pages in numbers_of_pages()? {
        let scene = Scene::new(guest, pages, REPORT | CreateFlags::CONTIGUOUS)?;
        for number in (0..pages).rev() {
            check!(scene.read(number) == 0, "page {number} is not zero");
        }
        expect_eq(
            &format!("reads of {pages} pages"),
            scene.outside(guest)?,
            Outside::reported(pages as u64, 0),
        )?;

        let scene = Scene::new(guest, pages, POISON | CreateFlags::CONTIGUOUS)?;
        let status = died(raw::fork(|| i32::from(scene.read(pages - 1)))?)?;
        expect_eq("a read of the last page", status, Died::Sigbus)?;
        check!(
            scene.outside(guest)?.poisoned,
            "{pages} pages are not poisoned"
        );
    }
    Ok(())
}

/// The limit of the module is above the memory of the guest: nobody is killed for it.
fn more_than_there_is(guest: &Guest) -> Outcome {
    let limit = guest.device()?.caps()?.max_size;
    let result = guest.device()?.create(limit, CreateFlags::CONTIGUOUS);
    expect_errno("all that the module allows", result, Errno::NOMEM)
}

fn nothing_lost_in_10000_buffers(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    nothing_lost(|turn| {
        let kind = [CreateFlags::empty(), CreateFlags::COHERENT][turn % 2];
        let size = (1 + turn % 17) * page();
        device.create(size as u64, kind | CreateFlags::CONTIGUOUS)?;
        Ok(())
    })
}
