// SPDX-License-Identifier: GPL-2.0

//! Programs that were written for heaps, by others, and run unchanged: the kernel's own
//! selftest, the published crates `dma-heap` and `dma-buf`, and the tensors of
//! `edgefirst-tensor`, which opens a heap by a name of its own, asks the first render node to
//! import what it gets, and brackets each of its mappings.

use std::fmt::Display;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::Command;

use cohbuf_testdev::{Direction, TestDevice};
use dma_buf::MappedDmaBuf;
use dma_heap::{Heap, HeapKind};
use edgefirst_tensor::{Tensor, TensorMapTrait, TensorMemory, TensorTrait};

use super::heaps::{HEAPS, kernel_has_heaps, path};
use crate::check;
use crate::guest::{Guest, ModelReset, exists, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq, fail, leave, skip};

crate::guest_suite!("heap_clients":
    kernel_selftest,
    crate_dma_heap,
    crate_dma_buf,
    crate_edgefirst_tensor,
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

/// Somebody else's way to a buffer of a heap, and to its bytes.
trait Client: Sized {
    /// A buffer of `len` bytes of this heap, and a descriptor of it.
    fn allocate(heap: &str, len: usize) -> Result<(Self, OwnedFd), Stop>;
    fn write(&mut self, at: usize, bytes: &[u8; 4]) -> Outcome;
    fn read(&mut self, at: usize) -> Result<[u8; 4], Stop>;
}

/// What a client says went wrong.
fn said<T, E: Display>(result: Result<T, E>) -> Result<T, Stop> {
    result.or_else(|error| fail(error.to_string()))
}

/// A device sees what the client wrote, and the other way round.
fn both_sides<C: Client>(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (name, kind) in [
        ("cohbuf", TestDevice::CacheModel),
        ("cohbuf", TestDevice::DirectModel),
        ("cohbuf-contiguous", TestDevice::CacheModel),
        ("cohbuf-coherent", TestDevice::SnoopModel),
        ("cohbuf-wc", TestDevice::DirectModel),
    ] {
        let (mut client, fd) = C::allocate(name, 3 * page())?;
        let flags = HEAPS.iter().find(|heap| heap.0 == name).map(|heap| heap.1);
        let ours = guest.device()?.info(&fd)?.flags;
        expect_eq(name, Some(ours), flags)?;
        let _reset = ModelReset(&importer);
        let device = importer.attach(&fd, kind, 0)?;
        device.map(Direction::Bidirectional)?;
        let at = 2 * page() - 2;
        client.write(at, b"CPU!")?;
        let mut seen = [0; 4];
        device.device_reads(at as u64, &mut seen)?;
        check!(
            seen == *b"CPU!",
            "{name}, {kind:?}: the device does not see what the CPU wrote"
        );
        device.device_writes(at as u64, b"dev!")?;
        check!(
            client.read(at)? == *b"dev!",
            "{name}, {kind:?}: the CPU does not see what the device wrote"
        );
    }
    Ok(())
}

impl Client for MappedDmaBuf {
    fn allocate(heap: &str, len: usize) -> Result<(Self, OwnedFd), Stop> {
        let fd = allocate(heap, len)?;
        let mapped = said(dma_buf::DmaBuf::from(fd.try_clone()?).memory_map())?;
        Ok((mapped, fd))
    }

    fn write(&mut self, at: usize, bytes: &[u8; 4]) -> Outcome {
        let write = |all: &mut [u8], _: Option<()>| {
            all[at..at + 4].copy_from_slice(bytes);
            Ok(())
        };
        said(MappedDmaBuf::write(self, write, None))
    }

    fn read(&mut self, at: usize) -> Result<[u8; 4], Stop> {
        let read = |all: &[u8], _: Option<()>| Ok(all[at..at + 4].try_into()?);
        said(MappedDmaBuf::read(self, read, None))
    }
}

/// The crate `dma-buf` maps what `dma-heap` allocates, and brackets each access by itself.
fn crate_dma_buf(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    both_sides::<MappedDmaBuf>(guest)
}

/// A link from the name that a program knows to one of our heaps.
struct Link(&'static str);

impl Link {
    fn new(name: &'static str, heap: &str) -> Result<Self, Stop> {
        if exists(name) {
            return skip(format!("this kernel has {name} itself"));
        }
        symlink(heap, name)?;
        Ok(Self(name))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

impl Client for Tensor<u8> {
    fn allocate(heap: &str, len: usize) -> Result<(Self, OwnedFd), Stop> {
        // The first of the two names that it tries.
        let _link = Link::new("/dev/dma_heap/linux,cma", heap)?;
        let tensor = said(Tensor::new(&[len], Some(TensorMemory::Dma), None))?;
        let fd = said(tensor.clone_fd())?;
        Ok((tensor, fd))
    }

    fn write(&mut self, at: usize, bytes: &[u8; 4]) -> Outcome {
        let mut map = said(self.map())?;
        map.as_mut_slice()[at..at + 4].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<[u8; 4], Stop> {
        let map = said(self.map())?;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&map.as_slice()[at..at + 4]);
        Ok(bytes)
    }
}

fn crate_edgefirst_tensor(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    both_sides::<Tensor<u8>>(guest)
}
