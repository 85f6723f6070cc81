// SPDX-License-Identifier: GPL-2.0

//! Programs that were written for heaps, by others, and run unchanged: the kernel's own
//! selftest, and the published crates `dma-heap` and `dma-buf`.

use std::os::fd::OwnedFd;
use std::process::Command;

use cohbuf_testdev::{Direction, TestDevice};
use dma_heap::{Heap, HeapKind};

use super::heaps::{HEAPS, kernel_has_heaps, path};
use crate::check;
use crate::guest::{Guest, ModelReset, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq, fail, leave};

crate::guest_suite!("heap_clients":
    kernel_selftest,
    crate_dma_heap,
    crate_dma_buf,
);

/// A result of the selftest, and the heap that it is of.
struct Line<'a> {
    heap: &'a str,
    ok: bool,
    skipped: bool,
    what: &'a str,
}

/// Reads TAP. `None` where a line is none, or a result is missing.
fn read(text: &str) -> Option<Vec<Line<'_>>> {
    let mut heap = "";
    let mut plan = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# Testing heap: ") {
            heap = name.trim();
        } else if let Some(count) = line.strip_prefix("1..") {
            plan = Some(count.trim().parse::<usize>().ok()?);
        } else if let Some(rest) = line.strip_prefix("ok ").or(line.strip_prefix("not ok ")) {
            let (number, what) = rest.split_once(' ')?;
            lines.push(Line {
                heap,
                ok: line.starts_with("ok"),
                skipped: what.starts_with("# SKIP"),
                what,
            });
            if number.parse() != Ok(lines.len()) {
                return None;
            }
        }
    }
    (plan? == lines.len()).then_some(lines)
}

/// `tools/testing/selftests/dmabuf-heaps` of the kernel under test. It imports each buffer into
/// vgem, whose device is not coherent on arm64: the coherent heap has to refuse it (R1), and all
/// the rest has to pass.
fn kernel_selftest(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let output = Command::new("/bin/dmabuf-heap").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    leave("dmabuf-heap.txt", &text)?;
    let Some(lines) = read(&text) else {
        return fail(format!("results are missing, {}", output.status));
    };
    // How many tests it has for each heap is the kernel's: eleven in Linux 7.2, and one more since.
    let each = lines.len() / std::fs::read_dir("/dev/dma_heap")?.count();
    check!(each >= 11, "{each} tests for each heap");
    for (heap, _) in HEAPS {
        let of_heap: Vec<&Line<'_>> = lines.iter().filter(|line| line.heap == heap).collect();
        expect_eq(heap, of_heap.len(), each)?;
        for line in of_heap {
            let imports = line.what.starts_with("Import buffer");
            let refused = imports && heap == "cohbuf-coherent" && has_noncoherent();
            check!(!line.skipped, "{heap}: {}: skipped", line.what);
            check!(
                line.ok != refused,
                "{heap}: {}: ok is {}",
                line.what,
                line.ok
            );
        }
        // The import took place, whatever came of it.
        let imports =
            |line: &&Line<'_>| line.heap == heap && line.what.starts_with("Import buffer");
        expect_eq("imports", lines.iter().filter(imports).count(), 1)?;
    }
    Ok(())
}

fn heap(name: &str) -> Result<Heap, Stop> {
    let kind = HeapKind::Custom(path(name).into());
    Heap::new(kind).or_else(|error| fail(format!("{name}: {error}")))
}

fn allocate(name: &str, len: usize) -> Result<OwnedFd, Stop> {
    let result = heap(name)?.allocate(len);
    result.or_else(|error| fail(format!("{name}: {error}")))
}

fn crate_dma_heap(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let device = guest.device()?;
    for (name, flags) in HEAPS {
        for len in [1, page(), 5 * page(), (1 << 20) + 1] {
            let fd = allocate(name, len)?;
            let info = device.info(&fd)?;
            let size = len.next_multiple_of(page()) as u64;
            expect_eq(name, (info.flags, info.size), (flags, size))?;
        }
        check!(heap(name)?.allocate(0).is_err(), "{name}: no bytes at all");
    }
    Ok(())
}

type Seen = Result<[u8; 4], Box<dyn std::error::Error>>;

/// The crate `dma-buf` maps what `dma-heap` allocates, and brackets each access by itself. A
/// device of the cache model sees what it wrote, and the other way round.
fn crate_dma_buf(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let importer = guest.importer()?;
    for (name, kind) in [
        ("cohbuf", TestDevice::CacheModel),
        ("cohbuf", TestDevice::DirectModel),
        ("cohbuf-contiguous", TestDevice::CacheModel),
        ("cohbuf-coherent", TestDevice::SnoopModel),
        ("cohbuf-wc", TestDevice::DirectModel),
    ] {
        let fd = allocate(name, 3 * page())?;
        let _reset = ModelReset(&importer);
        let device = importer.attach(&fd, kind, 0)?;
        device.map(Direction::Bidirectional)?;
        let wrong = |what: &str| fail(format!("{name}, {kind:?}: {what}"));
        let mut mapped = match dma_buf::DmaBuf::from(fd).memory_map() {
            Ok(mapped) => mapped,
            Err(error) => return wrong(&error.to_string()),
        };
        let at = 2 * page() - 2;
        let write = |bytes: &mut [u8], _: Option<()>| {
            bytes[at..at + 4].copy_from_slice(b"CPU!");
            Ok(())
        };
        if let Err(error) = mapped.write(write, None) {
            return wrong(&error.to_string());
        }
        let mut seen = [0; 4];
        device.device_reads(at as u64, &mut seen)?;
        if seen != *b"CPU!" {
            return wrong("the device does not see what the CPU wrote");
        }
        device.device_writes(at as u64, b"dev!")?;
        let read = |bytes: &[u8], _: Option<()>| -> Seen { Ok(bytes[at..at + 4].try_into()?) };
        match mapped.read(read, None) {
            Ok(seen) if seen == *b"dev!" => {}
            Ok(_) => return wrong("the CPU does not see what the device wrote"),
            Err(error) => return wrong(&error.to_string()),
        }
    }
    Ok(())
}
