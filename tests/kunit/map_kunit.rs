// SPDX-License-Identifier: GPL-2.0

//! Mappings: states, directions, segments, and which are refused (R2).

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_map)]
mod tests {
    use dma_buf::{
        compat::{
            EBADMSG,
            EOPNOTSUPP, //
        },
        test_device::TestDevice,
        DmaBuf, //
    };
    use kernel::{
        dma::DataDirection,
        page::PAGE_SIZE,
        prelude::*,
        sync::aref::ARef, //
    };

    use crate::{
        buffer::CohBuf,
        fixture::*,
        policy::{
            Enforce,
            Kind, //
        }, //
    };

    /// Counts the mappings of a buffer.
    fn mappings(buf: &DmaBuf) -> Result<usize> {
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let locked = buffer.lock()?;
        let count = locked.mappings().count();
        Ok(count)
    }

    #[test]
    fn states() -> Result {
        let dev = device(c"map_states", true)?;
        let buf = export(Kind::Bracketed)?;
        let attachment = dev.attach(buf.clone())?;
        check(mappings(&buf)? == 0, "attached is not mapped")?;
        let mapping = attachment
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        check(mappings(&buf)? == 1, "mapped")?;
        let attachment = mapping.unmap();
        check(mappings(&buf)? == 0, "unmapped")?;
        // Again, and then gone without an unmap by hand.
        let mapping = attachment
            .map(DataDirection::ToDevice)
            .map_err(|(_, e)| e)?;
        check(mappings(&buf)? == 1, "mapped again")?;
        drop(mapping);
        check(mappings(&buf)? == 0, "dropped")
    }

    #[test]
    fn keeps_its_direction() -> Result {
        let dev = device(c"map_direction", true)?;
        let buf = export(Kind::Bracketed)?;
        for dir in [
            DataDirection::Bidirectional,
            DataDirection::ToDevice,
            DataDirection::FromDevice,
        ] {
            let mapping = dev.attach(buf.clone())?.map(dir).map_err(|(_, e)| e)?;
            let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            let same = {
                let locked = buffer.lock()?;
                let mut all = locked.mappings();
                all.all(|(m, _)| m.direction() == dir)
            };
            check(same, "the exporter knows the direction of the mapping")?;
            drop(mapping);
        }
        Ok(())
    }

    // Each mapping has an sg table of its own: unmapping one leaves the other as it is.
    #[test]
    fn tables_are_fresh() -> Result {
        let one = device(c"map_fresh_one", true)?;
        let two = device(c"map_fresh_two", true)?;
        let buf = export(Kind::Bracketed)?;
        let first = one
            .attach(buf.clone())?
            .map(DataDirection::ToDevice)
            .map_err(|(_, e)| e)?;
        let second = two
            .attach(buf.clone())?
            .map(DataDirection::FromDevice)
            .map_err(|(_, e)| e)?;
        check(mappings(&buf)? == 2, "two mappings")?;
        drop(first);
        check(mappings(&buf)? == 1, "one mapping")?;
        let bytes: usize = second.segments().map(|s| s.len).sum();
        check(bytes == SIZE, "the other still covers the buffer")
    }

    #[test]
    fn segments_cover_the_buffer() -> Result {
        let dev = device(c"map_segments", true)?;
        // Above the largest chunk, and no multiple of it.
        let size = 1324 * PAGE_SIZE;
        let buf = export_of(size, Kind::Bracketed, Enforce::Off)?;
        let mapping = dev
            .attach(buf)?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        let mut bytes = 0;
        for segment in mapping.segments() {
            // 64 KiB is what a device without DMA parameters takes.
            check(
                segment.len <= 65536,
                "no segment is longer than the device takes",
            )?;
            check(segment.len % PAGE_SIZE == 0, "segments are of whole pages")?;
            bytes += segment.len;
        }
        check(bytes == size, "the segments cover the buffer")
    }

    /// Maps `buf` for `dev`, and checks its segments: how many, that each begins where the one
    /// before ends, and that they are no longer than `max` and do not cross `boundary`.
    fn adjacent(
        dev: &TestDevice,
        buf: &ARef<DmaBuf>,
        count: usize,
        max: usize,
        boundary: u64,
    ) -> Result {
        let mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        let mut end = None;
        let mut bytes = 0;
        for segment in mapping.segments() {
            check(
                end.is_none_or(|end| end == segment.address),
                "a segment begins where the one before ends",
            )?;
            // CAST: A length fits into an address.
            let last = segment.address + segment.len as u64 - 1;
            check(segment.len <= max, "no segment is longer than allowed")?;
            check(
                segment.address & !boundary == last & !boundary,
                "no segment crosses the boundary",
            )?;
            end = Some(last + 1);
            bytes += segment.len;
        }
        check(bytes == buf.size(), "the segments cover the buffer")?;
        check(mapping.segments().count() == count, "as few as can be")
    }

    #[test]
    fn contiguous_is_adjacent() -> Result {
        let dev = device(c"map_contiguous", false)?;
        let size = (1 << 20) + 5 * PAGE_SIZE;
        let buf = export_contiguous(size)?;
        // What a device gets that says nothing.
        adjacent(&dev, &buf, 17, 1 << 16, u32::MAX.into())?;
        dev.segments(u32::MAX, u32::MAX as usize)?;
        adjacent(&dev, &buf, 1, size, u32::MAX.into())?;
        // No power of two, nor a divisor of the size. It begins at a multiple of 2 MiB.
        dev.segments(7 * PAGE_SIZE as u32, u32::MAX as usize)?;
        adjacent(
            &dev,
            &buf,
            261usize.div_ceil(7),
            7 * PAGE_SIZE,
            u32::MAX.into(),
        )?;
        dev.segments(u32::MAX, (1 << 17) - 1)?;
        adjacent(&dev, &buf, 9, 1 << 17, (1 << 17) - 1)?;
        // 12 pages do not divide the 32 between the boundaries: 12, 12, 8, and so on.
        dev.segments(12 * PAGE_SIZE as u32, (1 << 17) - 1)?;
        adjacent(&dev, &buf, 25, 12 * PAGE_SIZE, (1 << 17) - 1)
    }

    #[test]
    fn segments_below_a_page_are_refused() -> Result {
        let dev = device(c"map_small_segments", true)?;
        let buf = export(Kind::Bracketed)?;
        for (max, boundary) in [
            (PAGE_SIZE as u32 - 1, u32::MAX as usize),
            (1 << 16, PAGE_SIZE / 2 - 1),
        ] {
            dev.segments(max, boundary)?;
            let result = dev
                .attach(buf.clone())?
                .map(DataDirection::Bidirectional)
                .map_err(|(_, e)| e);
            check_err(result, EINVAL, "segments of less than a page")?;
        }
        dev.segments(PAGE_SIZE as u32, PAGE_SIZE - 1)?;
        adjacent(&dev, &export_contiguous(SIZE)?, 18, PAGE_SIZE, 0xfff)
    }

    // What is kept of one mapping does not serve a device that would be bounced, nor one that takes
    // other segments.
    #[test]
    fn mapping_of_another_does_not_help() -> Result {
        let near = device(c"map_near", true)?;
        let far = device(c"map_far", true)?;
        let large = device(c"map_large", true)?;
        far.limit(1 << 20);
        large.segments(u32::MAX, u32::MAX as usize)?;
        let size = (1 << 20) + 5 * PAGE_SIZE;
        let buf = export_contiguous_as(size, Kind::Coherent)?;
        for _ in 0..2 {
            let first = near
                .attach(buf.clone())?
                .map(DataDirection::ToDevice)
                .map_err(|(_, e)| e)?;
            let refused = far
                .attach(buf.clone())?
                .map(DataDirection::Bidirectional)
                .map(drop)
                .map_err(|(_, e)| e);
            check_err(refused, EOPNOTSUPP, "map of a device that would be bounced")?;
            adjacent(&large, &buf, 1, size, u32::MAX.into())?;
            // It is as it was, when another has come and gone.
            check(first.segments().count() == 17, "the first is as it was")?;
            let bytes: usize = first.segments().map(|s| s.len).sum();
            check(bytes == size, "the first covers the buffer")?;
            adjacent(&near, &buf, 17, 1 << 16, u32::MAX.into())?;
        }
        Ok(())
    }

    // Memory out of the device's reach is bounced: a coherent buffer says EOPNOTSUPP, and nothing
    // stays mapped.
    #[test]
    fn coherent_refuses_bounced() -> Result {
        let dev = device(c"map_bounced", true)?;
        dev.limit(1 << 20);
        let buf = export(Kind::Coherent)?;
        let attachment = dev.attach(buf.clone())?;
        let refused = attachment
            .map(DataDirection::Bidirectional)
            .map(drop)
            .map_err(|(_, e)| e);
        check_err(refused, EOPNOTSUPP, "map of a device that would be bounced")?;
        check(mappings(&buf)? == 0, "nothing stays mapped")?;
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        check(buffer.stats().refused_map() == 1, "one refusal is counted")
    }
}
