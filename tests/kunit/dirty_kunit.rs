// SPDX-License-Identifier: GPL-2.0

//! R11: a mapping into the kernel has no bits that tell what was written. Pages that user space
//! writes are tested by `tests/vm`.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_dirty)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            begin_cpu_access,
            end_cpu_access,
            poke,
            while_vmapped, //
        },
        test_models::{
            self,
            CacheModel,
            ModelDevice,
            ModelKind, //
        },
        CpuAccess,
        WrittenPages, //
    };
    use kernel::{
        dma::DataDirection,
        page::PAGE_SIZE,
        prelude::*, //
    };

    use crate::{
        buffer::CohBuf,
        fixture::*,
        maintenance,
        region::{
            Layout,
            Region, //
        }, //
    };

    fn tracks(buf: &Tracked) -> Result<bool> {
        let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let locked = buffer.lock()?;
        Ok(maintenance::tracks_pages(&locked))
    }

    /// A window in which `run` writes. Returns the bytes that its END moved.
    fn window(buf: &Tracked, run: impl FnOnce() -> Result) -> Result<u64> {
        begin_cpu_access(&buf.0, CpuAccess::Write)?;
        run()?;
        test_models::zero_counts();
        end_cpu_access(&buf.0, CpuAccess::Write)?;
        let counts = test_models::counts();
        Ok(counts.clean_bytes + counts.to_bounce_bytes)
    }

    fn on_each(test: impl Fn(&Tracked, &ModelDevice) -> Result) -> Result {
        let _model = CacheModel::start()?;
        for kind in [
            ModelKind::Cache,
            ModelKind::CacheMerged,
            ModelKind::Bounce,
            #[cfg(CONFIG_ARM64)]
            ModelKind::Direct,
        ] {
            let dev = ModelDevice::new(c"cohbuf_kunit_dirty", kind)?;
            let buf = Tracked::of(export_tracking_dirty()?)?;
            test(&buf, &dev).inspect_err(|_| pr_err!("check failed: with {:?}\n", kind))?;
        }
        Ok(())
    }

    // One that is gone by the END, and one that is there still.
    #[test]
    fn kernel_mapping_makes_it_all() -> Result {
        on_each(|buf, dev| {
            let mapping = map(dev, buf, DataDirection::Bidirectional)?;
            check(tracks(buf)?, "pages are tracked")?;
            check(window(buf, || Ok(()))? == 0, "nobody wrote anything")?;

            let moved = window(buf, || {
                poke(&buf.0, 5 * PAGE_SIZE, b"cpu0")?;
                check(!tracks(buf)?, "the kernel may have written anything")
            })?;
            check(moved == SIZE as u64, "all, as without the flag")?;
            let mut seen = [0; 4];
            mapping.device_read(5 * PAGE_SIZE, &mut seen)?;
            check(seen == *b"cpu0", "the device sees it")?;
            check(tracks(buf)?, "END of all has covered it")?;
            check(window(buf, || Ok(()))? == 0, "nobody wrote anything since")?;

            while_vmapped(&buf.0, || -> Result {
                check(!tracks(buf)?, "the kernel may write anything")?;
                for _ in 0..2 {
                    check(
                        window(buf, || Ok(()))? == SIZE as u64,
                        "all, as long as it may",
                    )?;
                }
                check(!tracks(buf)?, "it may still")
            })??;
            check(!tracks(buf)?, "it may have written since that END")?;
            check(window(buf, || Ok(()))? == SIZE as u64, "once more")?;
            check(tracks(buf)?, "and then no more")
        })
    }

    // END of a region has not covered what the kernel wrote elsewhere.
    #[test]
    fn region_does_not_forget_a_kernel_mapping() -> Result {
        on_each(|buf, dev| {
            let mapping = map(dev, buf, DataDirection::Bidirectional)?;
            let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            let region = Region::new(Layout::Linear, 0, 3 * 64, 0, 0, SIZE).map_err(|_| EBADMSG)?;
            begin_cpu_access(&buf.0, CpuAccess::Write)?;
            poke(&buf.0, 0, b"cpu0")?;
            poke(&buf.0, 7 * PAGE_SIZE, b"cpu1")?;
            test_models::zero_counts();
            CohBuf::end(buffer, CpuAccess::Write, &region)?;
            let counts = test_models::counts();
            check(
                counts.clean_bytes + counts.to_bounce_bytes == 3 * 64,
                "all of the region",
            )?;
            check(!tracks(buf)?, "there is more")?;
            end_cpu_access(&buf.0, CpuAccess::Write)?;
            for (at, bytes) in [(0, b"cpu0"), (7 * PAGE_SIZE, b"cpu1")] {
                let mut seen = [0; 4];
                mapping.device_read(at, &mut seen)?;
                check(seen == *bytes, "the device sees it")?;
            }
            check(tracks(buf)?, "all of it is covered")
        })
    }

    #[test]
    fn set_of_pages() -> Result {
        // The last page is not whole.
        let size = 200 * PAGE_SIZE - 100;
        let mut set = WrittenPages::new(size)?;
        check(set.ranges().next().is_none(), "it begins empty")?;
        set.add(&(0..0));
        set.add(&(PAGE_SIZE..PAGE_SIZE));
        set.add(&(10..10));
        set.add(&(size..size + PAGE_SIZE));
        set.add(&(usize::MAX - 1..usize::MAX));
        check(set.ranges().next().is_none(), "nothing was in these")?;

        set.add(&(PAGE_SIZE - 1..PAGE_SIZE + 1));
        set.add(&(70 * PAGE_SIZE..70 * PAGE_SIZE + 1));
        set.add(&(size - 1..usize::MAX));
        let mut must = KVec::new();
        for range in [
            0..2 * PAGE_SIZE,
            70 * PAGE_SIZE..71 * PAGE_SIZE,
            199 * PAGE_SIZE..size,
        ] {
            must.push(range, GFP_KERNEL)?;
        }
        check(
            set.ranges().eq(must.iter().cloned()),
            "pages that have a byte of it, up to the end",
        )?;
        // None lies in these as a whole.
        set.remove(&(1..PAGE_SIZE));
        set.remove(&(70 * PAGE_SIZE + 1..72 * PAGE_SIZE));
        set.remove(&(199 * PAGE_SIZE..size - 1));
        check(set.ranges().eq(must.iter().cloned()), "it has all still")?;
        set.remove(&(1..71 * PAGE_SIZE));
        check(
            set.ranges().eq([0..PAGE_SIZE, 199 * PAGE_SIZE..size]),
            "it has what these have in part",
        )?;
        set.remove(&(199 * PAGE_SIZE..size));
        set.remove(&(0..PAGE_SIZE));
        check(set.ranges().next().is_none(), "it is empty again")?;
        Ok(())
    }
}
