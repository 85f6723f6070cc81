// SPDX-License-Identifier: GPL-2.0

//! edu behind an IOMMU, which makes one DMA segment of pages that are apart. A sync
//! that takes such a segment for one piece of memory would reach the wrong pages.

use cohbuf::{Access, Buffer, CreateFlags, Region};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, fail, skip};
use crate::scene::{bytes_of, difference, lines, mixed};
use crate::trace::traced;

crate::guest_suite!("iommu":
    bracketed_data_across_a_merge,
    coherent_data_across_a_merge,
    write_only_window_keeps_device_data,
    scattered_tail_of_a_large_buffer,
    unmap_gives_the_addresses_back,
    past_the_caches_data,
    past_the_caches_own_passes,
    region_data_across_a_merge,
    past_the_caches_region_is_of_the_right_pages,
);

/// Too few for a chunk of a higher order, and no more than a DMA segment of a PCI
/// device takes: one page at a time, all in one segment.
const PAGES: usize = 15;

/// Pages in chunks of a higher order, which edu gets in segments of 64 KiB.
const LARGE: usize = 256;
const LARGE_SEGMENTS: usize = 16;

/// What the DMA API was asked for and what it made of it, by `dma:dma_map_sg`.
struct Traced {
    /// Physical addresses of the entries of the sg table.
    entries: Vec<u64>,
    /// Bytes of the DMA segments.
    segments: Vec<u64>,
}

impl Traced {
    /// Maps with the trace event on.
    fn map(attachment: &Attachment<'_>) -> Result<Self, Stop> {
        let (mapping, lines) = traced(&["dma/dma_map_sg"], || {
            attachment.map(Direction::Bidirectional)
        })?;
        let mapping = mapping?;
        check!(!mapping.bounced, "the importer says bounced");
        let [line] = lines.as_slice() else {
            return fail(format!("not one mapping in the trace: {lines:?}"));
        };
        let traced = Self {
            entries: numbers(line, "phys_addrs={")?,
            segments: numbers(line, "sizes={")?,
        };
        check!(
            traced.segments.len() == mapping.segments as usize,
            "the importer has {} segments, the trace says {line}",
            mapping.segments
        );
        Ok(traced)
    }
}

/// An array of a trace event.
fn numbers(line: &str, name: &str) -> Result<Vec<u64>, Stop> {
    let list = line
        .split_once(name)
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(list, _)| list.split(','));
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match list.and_then(|list| list.map(number).collect()) {
        Some(numbers) => Ok(numbers),
        None => fail(format!("no {name} in the trace: {line}")),
    }
}

fn need_iommu(guest: &Guest) -> Outcome {
    if guest.iommu {
        Ok(())
    } else {
        skip("edu is not behind an IOMMU in this boot")
    }
}

/// A buffer that is mapped for edu, with single pages at its end that make one
/// DMA segment though they are apart.
struct Merged<'a> {
    device: Attachment<'a>,
    buffer: Buffer,
    /// A page that does not follow its predecessor in memory.
    jump: usize,
}

impl<'a> Merged<'a> {
    /// Makes one with `large` pages before the single ones.
    fn new(
        guest: &Guest,
        importer: &'a Importer,
        kind: TestDevice,
        large: usize,
        flags: CreateFlags,
    ) -> Result<Self, Stop> {
        need_iommu(guest)?;
        // Every second one goes again and leaves a hole.
        let mut small = Vec::new();
        for _ in 0..64 {
            small.push(Some(guest.bracketed(page())?));
        }
        small.iter_mut().step_by(2).for_each(|hole| *hole = None);

        let before = large * LARGE_SEGMENTS / LARGE;
        let mut in_one_piece = Vec::new();
        for _ in 0..32 {
            let buffer = guest.buffer((large + PAGES) * page(), flags)?;
            let device = importer.attach(&buffer, kind, 0)?;
            let Traced { entries, segments } = Traced::map(&device)?;
            check!(
                entries.len() == before + PAGES,
                "the sg table has {} entries",
                entries.len()
            );
            check!(
                segments.len() == before + 1 && segments.last() == Some(&((PAGES * page()) as u64)),
                "the single pages were not merged: {segments:?}"
            );
            let info = guest.device()?.info(&buffer)?;
            check!(info.mappings == 1 && info.bounced == 0, "{info:?}");

            let tail = &entries[before..];
            let apart = |&n: &usize| tail[n] != tail[n - 1] + page() as u64;
            if let Some(jump) = (1..PAGES).find(apart) {
                return Ok(Self {
                    device,
                    buffer,
                    jump: large + jump,
                });
            }
            drop(device);
            in_one_piece.push(buffer);
        }
        fail("no buffer of pages that are apart")
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|n| ((n + seed) * 31 + n / 251) as u8)
        .collect()
}

/// Some bytes on either side of a page's begin, all in one transfer of edu.
struct Span {
    at: usize,
    len: usize,
}

impl Span {
    fn around(number: usize) -> Self {
        Self {
            at: number * page() - 1000,
            len: 3000,
        }
    }

    fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Outcome {
        Ok(buffer.map()?.write(self.at, bytes)?)
    }

    /// Fails unless the buffer holds `bytes` here, and zero elsewhere.
    fn check_all(&self, buffer: &Buffer, bytes: &[u8]) -> Outcome {
        let mut wanted = vec![0; buffer.size() as usize];
        wanted[self.at..self.at + self.len].copy_from_slice(bytes);
        let seen = buffer.map()?.to_vec()?;
        let wrong = (0..wanted.len()).find(|&n| seen[n] != wanted[n]);
        check!(
            wrong.is_none(),
            "the CPU sees other bytes from {wrong:?} on, the span is at {}",
            self.at
        );
        Ok(())
    }

    fn check_device(&self, device: &Attachment<'_>, bytes: &[u8]) -> Outcome {
        let mut seen = vec![0; self.len];
        device.device_reads(self.at as u64, &mut seen)?;
        let wrong = (0..self.len).find(|&n| seen[n] != bytes[n]);
        check!(
            wrong.is_none(),
            "the device sees other bytes from {wrong:?} of the span on"
        );
        Ok(())
    }
}

fn bracketed_data_across_a_merge(guest: &Guest) -> Outcome {
    bracketed_data(guest, TestDevice::Edu)
}

fn bracketed_data(guest: &Guest, kind: TestDevice) -> Outcome {
    let importer = guest.importer()?;
    let Merged {
        device,
        buffer,
        jump,
    } = Merged::new(guest, &importer, kind, 0, CreateFlags::empty())?;
    check!(
        device.is_coherent() == guest.is_coherent(kind),
        "the kernel takes it for another"
    );
    let span = Span::around(jump);

    let bytes = pattern(span.len, 1);
    let window = buffer.cpu_access(Access::Write)?;
    span.write(&buffer, &bytes)?;
    window.end()?;
    span.check_device(&device, &bytes)?;

    let bytes = pattern(span.len, 2);
    device.device_writes(span.at as u64, &bytes)?;
    let window = buffer.cpu_access(Access::Read)?;
    span.check_all(&buffer, &bytes)?;
    window.end()?;
    Ok(())
}

fn coherent_data_across_a_merge(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let Merged {
        device,
        buffer,
        jump,
    } = Merged::new(guest, &importer, TestDevice::Edu, 0, CreateFlags::COHERENT)?;
    let span = Span::around(jump);

    let bytes = pattern(span.len, 3);
    span.write(&buffer, &bytes)?;
    span.check_device(&device, &bytes)?;

    let bytes = pattern(span.len, 4);
    device.device_writes(span.at as u64, &bytes)?;
    span.check_all(&buffer, &bytes)
}

// The CPU writes one byte on either side of the jump.
fn write_only_window_keeps_device_data(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let Merged {
        device,
        buffer,
        jump,
    } = Merged::new(guest, &importer, TestDevice::Edu, 0, CreateFlags::empty())?;
    let span = Span::around(jump);

    let mut bytes = pattern(span.len, 5);
    device.device_writes(span.at as u64, &bytes)?;
    let middle = jump * page() - span.at;
    let window = buffer.cpu_access(Access::Write)?;
    for n in [middle - 1, middle] {
        bytes[n] ^= 0xff;
        buffer.map()?.write(span.at + n, &bytes[n..=n])?;
    }
    window.end()?;
    span.check_device(&device, &bytes)?;

    let window = buffer.cpu_access(Access::Read)?;
    span.check_all(&buffer, &bytes)?;
    window.end()?;
    Ok(())
}

fn scattered_tail_of_a_large_buffer(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let Merged {
        device,
        buffer,
        jump,
    } = Merged::new(
        guest,
        &importer,
        TestDevice::Edu,
        LARGE,
        CreateFlags::empty(),
    )?;
    let span = Span::around(jump);

    let bytes = pattern(span.len, 6);
    let window = buffer.cpu_access(Access::ReadWrite)?;
    span.write(&buffer, &bytes)?;
    window.end()?;
    span.check_device(&device, &bytes)?;
    device.unmap()?;
    span.check_all(&buffer, &bytes)
}

// edu has 32 bits of DMA addresses: if a mapping left its own behind, they would
// be used up long before the end.
fn unmap_gives_the_addresses_back(guest: &Guest) -> Outcome {
    need_iommu(guest)?;
    let importer = guest.importer()?;
    let device = guest.device()?;
    let size: usize = 128 << 20;
    let buffer = guest.bracketed(size)?;
    let attachment = importer.attach(&buffer, TestDevice::Edu, 0)?;
    for round in 0..(5_usize << 30) / size {
        let mapping = attachment.map(Direction::Bidirectional);
        check!(mapping.is_ok(), "round {round}: {mapping:?}");
        attachment.unmap()?;
    }
    check!(device.info(&buffer)?.mappings == 0, "it is mapped still");
    attachment.detach()?;
    check!(
        device.info(&buffer)?.attachments == 0,
        "it is attached still"
    );
    Ok(())
}

fn need_past_the_caches(guest: &Guest) -> Outcome {
    need_iommu(guest)?;
    if guest.all_coherent() {
        return skip("every device is coherent on this architecture");
    }
    Ok(())
}

// The DMA API maintains caches for this edu, and the IOMMU merges pages that are apart.
fn past_the_caches_data(guest: &Guest) -> Outcome {
    need_past_the_caches(guest)?;
    bracketed_data(guest, TestDevice::EduNonCoherent)
}

// Each mapping behind the IOMMU gets a pass of its own, over each page once: by the kernel's own
// cache maintenance, which the model counts by kprobes. edu moves no bytes, as it knows nothing of
// the model's memory.
fn past_the_caches_own_passes(guest: &Guest) -> Outcome {
    need_past_the_caches(guest)?;
    let importer = guest.importer()?;
    let kind = TestDevice::EduNonCoherent;
    let Merged { device, buffer, .. } =
        Merged::new(guest, &importer, kind, 0, CreateFlags::empty())?;
    let size = buffer.size();
    let mapping = buffer.map()?;
    let model = importer.model();
    model.reset()?;
    model.track(mapping.as_ptr(), size as usize)?;
    let bracket = |access| -> Result<(u64, u64), Stop> {
        model.zero_counts()?;
        buffer.cpu_access(access)?.end()?;
        let counts = model.counts()?;
        Ok((counts.clean_bytes, counts.invalidate_bytes))
    };
    check!(
        bracket(Access::ReadWrite)? == (size, size),
        "one mapping, one pass each way"
    );
    check!(bracket(Access::Read)? == (0, size), "a READ cleans nothing");
    let second = importer.attach(&buffer, kind, 0)?;
    second.map(Direction::Bidirectional)?;
    check!(
        bracket(Access::ReadWrite)? == (2 * size, 2 * size),
        "two mappings, two passes each way"
    );
    // A direct one beside them: one more.
    let direct = importer.attach(&buffer, TestDevice::DirectModel, 0)?;
    direct.map(Direction::Bidirectional)?;
    check!(
        bracket(Access::ReadWrite)? == (3 * size, 3 * size),
        "a direct one gets its own, too"
    );
    direct.unmap()?;
    second.unmap()?;
    device.unmap()?;
    model.reset()?;
    Ok(())
}

/// Regions across the place where two pages are apart in memory, but not for the device.
fn across(jump: usize) -> [Region; 4] {
    let at = (jump * page()) as u64;
    [
        Region::linear(at - 1000..at + 2000),
        Region::linear(at - 1..at + 1),
        // A row on each side, and one across.
        Region::Rows {
            offset: at - 3000,
            length: 1100,
            stride: 2000,
            rows: 3,
        },
        // All in lines of the pages behind it.
        Region::Rows {
            offset: at + 10,
            length: 20,
            stride: 100,
            rows: 10,
        },
    ]
}

fn region_data_across_a_merge(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    for kind in [TestDevice::Edu, TestDevice::EduNonCoherent] {
        let Merged {
            device,
            buffer,
            jump,
        } = Merged::new(guest, &importer, kind, 0, CreateFlags::empty())?;
        let span = Span::around(jump);
        let region = Region::linear(span.at as u64..(span.at + span.len) as u64);

        let bytes = pattern(span.len, 7);
        let window = cohbuf.cpu_access_region(&buffer, Access::Write, region)?;
        span.write(&buffer, &bytes)?;
        window.end()?;
        span.check_device(&device, &bytes)?;

        let bytes = pattern(span.len, 8);
        device.device_writes(span.at as u64, &bytes)?;
        let window = cohbuf.cpu_access_region(&buffer, Access::Read, region)?;
        span.check_all(&buffer, &bytes)?;
        window.end()?;
    }
    Ok(())
}

// Where an address is that of a DMA segment, and the length goes on over pages that are apart,
// the DMA API would maintain what is next to the first in memory. The model of the cache tells
// which lines it was: what is dropped shows what memory had, and what was not cleaned before that
// is lost.
fn past_the_caches_region_is_of_the_right_pages(guest: &Guest) -> Outcome {
    const OLD: u8 = 0xa5;
    need_past_the_caches(guest)?;
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let kind = TestDevice::EduNonCoherent;
    let Merged {
        device,
        buffer,
        jump,
    } = Merged::new(guest, &importer, kind, 0, CreateFlags::empty())?;
    let size = buffer.size() as usize;
    let mapping = buffer.map()?;
    let model = importer.model();
    for region in across(jump) {
        let its = lines(region, size);
        let bytes = bytes_of(&its) as u64;
        let old = vec![OLD; size];
        let by_cpu = pattern(size, 9);

        // Memory has something old, and the cache something newer, of each line.
        model.reset()?;
        mapping.write(0, &by_cpu)?;
        model.track(mapping.as_ptr(), size)?;
        let window = cohbuf.cpu_access_region(&buffer, Access::Write, region)?;
        let counts = model.counts()?;
        check!(
            window.begin_cost().invalidated == bytes && counts.invalidate_bytes == bytes,
            "{region:?}: START: {:?}, {counts:?}",
            window.begin_cost()
        );
        check!(counts.clean_bytes == 0, "{region:?}: START: {counts:?}");
        let wrong = difference(&mapping.to_vec()?, &mixed(&its, &old, &by_cpu));
        check!(
            wrong.is_none(),
            "{region:?}: START did not drop its lines, or others, at {wrong:?}"
        );

        mapping.write(0, &by_cpu)?;
        model.zero_counts()?;
        let cost = window.end()?;
        let counts = model.counts()?;
        check!(
            cost.cleaned == bytes && counts.clean_bytes == bytes && counts.invalidate_bytes == 0,
            "{region:?}: END: {cost:?}, {counts:?}"
        );
        buffer.cpu_access(Access::Read)?.end()?;
        let wrong = difference(&mapping.to_vec()?, &mixed(&its, &by_cpu, &old));
        check!(
            wrong.is_none(),
            "{region:?}: END did not clean its lines, or others, at {wrong:?}"
        );
    }
    device.unmap()?;
    model.reset()?;
    Ok(())
}
