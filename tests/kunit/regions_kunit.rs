// SPDX-License-Identifier: GPL-2.0

//! R9, what user space does not reach: sync of parts of a mapping, whatever they are, and the
//! windows by themselves.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_regions)]
mod tests {
    use core::ops::Range;

    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            UserPage, //
        },
        test_models::{
            self,
            CacheModel,
            ModelDevice,
            ModelKind, //
        },
        Mapping,
        Synced, //
    };
    use kernel::{
        dma::DataDirection,
        page::PAGE_SIZE,
        prelude::*, //
    };

    use crate::{
        buffer::{
            CohBuf,
            Purpose, //
        },
        fixture::*,
        policy::{
            Access,
            Enforce,
            Kind, //
        },
        region::{
            Layout,
            Region, //
        },
        stats::Stats,
        windows::{
            By,
            CopyId,
            Windows, //
        }, //
    };

    const LINE: usize = 64;

    /// Out of order, twice, empty, turned round, across entries of the table, beyond the end.
    const PARTS: [Range<usize>; 13] = [
        200 * LINE..210 * LINE,
        3 * LINE..4 * LINE,
        3 * LINE..4 * LINE,
        0..0,
        50 * LINE..50 * LINE,
        Range {
            start: 60 * LINE,
            end: 59 * LINE,
        },
        16 * PAGE_SIZE - LINE..16 * PAGE_SIZE + LINE,
        PAGE_SIZE - LINE..3 * PAGE_SIZE,
        0..LINE,
        SIZE - LINE..SIZE + PAGE_SIZE,
        SIZE..SIZE + LINE,
        SIZE + PAGE_SIZE..usize::MAX,
        usize::MAX - LINE..usize::MAX,
    ];

    /// Bytes of these that there are.
    fn bytes(parts: &[Range<usize>]) -> usize {
        parts
            .iter()
            .map(|part| part.end.min(SIZE).saturating_sub(part.start))
            .sum()
    }

    fn with_mapping<R>(buf: &Tracked, f: impl FnOnce(&Mapping<'_>) -> R) -> Result<R> {
        let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let locked = buffer.lock()?;
        let first = locked.mappings().next();
        first.map(|(mapping, _)| f(mapping)).ok_or(EBADMSG)
    }

    /// Syncs parts both ways on each kind, and looks at each line.
    fn parts(parts: &'static [Range<usize>]) -> Result {
        let _model = CacheModel::start()?;
        for kind in [
            ModelKind::Cache,
            ModelKind::CacheMerged,
            ModelKind::Bounce,
            #[cfg(CONFIG_ARM64)]
            ModelKind::Direct,
        ] {
            one_kind(parts, kind).inspect_err(|_| {
                pr_err!("check failed: parts with {:?}\n", kind);
            })?;
        }
        Ok(())
    }

    fn one_kind(parts: &'static [Range<usize>], kind: ModelKind) -> Result {
        let must = Synced {
            bytes: bytes(parts),
            bounced: 0,
        };
        let of_parts = |at: usize| parts.iter().any(|part| part.contains(&at));
        let dev = ModelDevice::new(c"cohbuf_kunit_parts", kind)?;
        let buf = Tracked::new()?;
        let mapping = map(&dev, &buf, DataDirection::Bidirectional)?;
        check(
            (mapping.segments().count() == 1) == (kind == ModelKind::CacheMerged),
            "as many segments as the kind has",
        )?;

        // Not by vmap, which maintains the buffer where devices are mapped.
        let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        for at in (0..SIZE).step_by(PAGE_SIZE) {
            buffer.pages().update(at, &[1; PAGE_SIZE])?;
        }
        test_models::zero_counts();
        let synced = with_mapping(&buf, |mapping| {
            mapping.sync_parts_for_device(&mut parts.iter().cloned())
        })?;
        let counts = test_models::counts();
        check(synced == must, "bytes for the device")?;
        check(
            counts.clean_bytes + counts.to_bounce_bytes == must.bytes as u64
                && counts.invalidate_bytes + counts.from_bounce_bytes == 0,
            "bytes for the device, as the model has them",
        )?;
        for at in (0..SIZE).step_by(LINE) {
            let mut seen = [9; LINE];
            mapping.device_read(at, &mut seen)?;
            let byte = u8::from(of_parts(at));
            check(seen == [byte; LINE], "the device sees the parts alone")?;
        }

        for at in (0..SIZE).step_by(LINE) {
            mapping.device_write(at, &[2; LINE])?;
        }
        test_models::zero_counts();
        let synced = with_mapping(&buf, |mapping| {
            mapping.sync_parts_for_cpu(&mut parts.iter().cloned())
        })?;
        let counts = test_models::counts();
        check(synced == must, "bytes for the CPU")?;
        check(
            counts.invalidate_bytes + counts.from_bounce_bytes == must.bytes as u64
                && counts.clean_bytes + counts.to_bounce_bytes == 0,
            "bytes for the CPU, as the model has them",
        )?;
        for at in (0..SIZE).step_by(LINE) {
            let mut seen = [9; LINE];
            buffer.pages().read(at, &mut seen)?;
            let byte = if of_parts(at) { 2 } else { 1 };
            check(seen == [byte; LINE], "the CPU sees the parts alone")?;
        }
        Ok(())
    }

    #[test]
    fn parts_in_any_order() -> Result {
        parts(&PARTS)
    }

    #[test]
    fn no_part_at_all() -> Result {
        parts(&[])
    }

    #[test]
    fn one_part_is_everything() -> Result {
        parts(core::slice::from_ref(&(0..usize::MAX)))
    }

    fn linear(offset: usize, length: usize) -> Result<Region> {
        let (offset, length) = (offset as u64, length as u64);
        Region::new(Layout::Linear, offset, length, 0, 0, SIZE).map_err(|_| EBADMSG)
    }

    /// Of no buffer.
    fn stats() -> Result<KBox<Stats>> {
        let purpose = Purpose {
            kind: Kind::Bracketed,
            tracks_dirty: false,
            enforces: Enforce::Off,
            contiguous: false,
        };
        KBox::init(Stats::new(purpose, SIZE, 1), GFP_KERNEL)
    }

    fn open(stats: &Stats, windows: &mut Windows, region: &Region, access: Access) -> Result {
        open_by(stats, windows, By::Task, region, access)
    }

    fn open_by(
        stats: &Stats,
        windows: &mut Windows,
        by: By,
        region: &Region,
        access: Access,
    ) -> Result {
        windows.reserve(by, region, access, SIZE)?;
        windows.open(stats, by, region, access)
    }

    /// A row of a byte, a gap of another, and so on.
    fn comb(rows: usize) -> Result<Region> {
        Region::new(Layout::Rows, 0, 1, 2, rows as u64, SIZE).map_err(|_| EBADMSG)
    }

    #[test]
    fn window_needs_room() -> Result {
        let (stats, mut windows) = (stats()?, Windows::new());
        let region = linear(0, 64)?;
        check_err(
            windows.open(&stats, By::Task, &region, Access::Write),
            ENOMEM,
            "open without a place",
        )?;
        windows.reserve(By::Task, &region, Access::Write, SIZE)?;
        check(
            !windows.any() && windows.count() == 0,
            "a place is no window",
        )?;
        windows.open(&stats, By::Task, &region, Access::Write)?;
        check(windows.any() && windows.count() == 1, "one is open")?;
        windows.end(&stats, By::Task, &region, Access::Read);
        check(windows.count() == 1, "END READ ends none to write")?;
        windows.end(&stats, By::Task, &region, Access::ReadWrite);
        check(!windows.any(), "it is ended")?;
        // More END than START does no harm.
        windows.end(&stats, By::Task, &region, Access::Write);
        check(windows.count() == 0, "none is open")
    }

    #[test]
    fn most_windows() -> Result {
        let (stats, mut windows) = (stats()?, Windows::new());
        for number in 0..512 {
            open(&stats, &mut windows, &linear(number * 8, 8)?, Access::Write)?;
        }
        let more = linear(1, 8)?;
        check_err(
            windows.reserve(By::Task, &more, Access::Write, SIZE),
            ENOSPC,
            "one more region",
        )?;
        check_err(
            windows.reserve(By::Task, &linear(0, 8)?, Access::Read, SIZE),
            ENOSPC,
            "the same region to read",
        )?;
        open(&stats, &mut windows, &linear(0, 8)?, Access::Write)?;
        check(windows.count() == 513, "one is nested")?;
        check(windows.owned().count() == 512, "of as many regions")?;
        windows.end(&stats, By::Task, &linear(8, 16)?, Access::Write);
        check(windows.count() == 511, "two lay in that")?;
        open(&stats, &mut windows, &more, Access::Write)?;
        open(&stats, &mut windows, &linear(8, 8)?, Access::Write)?;
        // Others have room still, but not without end; of the whole buffer all do.
        for number in 0..512 {
            let by = By::Copy(CopyId::new());
            open_by(
                &stats,
                &mut windows,
                by,
                &linear(number * 8, 8)?,
                Access::Write,
            )?;
        }
        let by = By::Copy(CopyId::new());
        check_err(
            windows.reserve(by, &linear(0, 8)?, Access::Write, SIZE),
            ENOSPC,
            "one more of all together",
        )?;
        open_by(
            &stats,
            &mut windows,
            by,
            &Region::whole(SIZE),
            Access::Write,
        )?;
        open(&stats, &mut windows, &Region::whole(SIZE), Access::Write)?;
        windows.end(&stats, by, &Region::whole(SIZE), Access::Write);
        windows.end(&stats, By::Task, &Region::whole(SIZE), Access::Write);
        check(windows.count() == 1025, "the two are ended")?;
        windows.end(&stats, By::Task, &Region::whole(SIZE), Access::Write);
        check(
            windows.count() == 512,
            "all lay in that, nested or not, but those of copies",
        )
    }

    #[test]
    fn most_rows() -> Result {
        let (stats, mut windows) = (stats()?, Windows::new());
        open(&stats, &mut windows, &comb(32000)?, Access::Write)?;
        open(&stats, &mut windows, &comb(32000)?, Access::Write)?;
        open(&stats, &mut windows, &comb(768)?, Access::Write)?;
        check_err(
            windows.reserve(By::Task, &linear(0, 8)?, Access::Write, SIZE),
            ENOSPC,
            "a row more",
        )?;
        open(&stats, &mut windows, &Region::whole(SIZE), Access::Write)?;
        open_by(
            &stats,
            &mut windows,
            By::Copy(CopyId::new()),
            &comb(32767)?,
            Access::Write,
        )?;
        let by = By::Copy(CopyId::new());
        check_err(
            windows.reserve(by, &comb(2)?, Access::Write, SIZE),
            ENOSPC,
            "two rows more of all together",
        )?;
        open_by(&stats, &mut windows, by, &linear(0, 8)?, Access::Write)?;
        windows.end(&stats, By::Task, &comb(768)?, Access::Write);
        open_by(
            &stats,
            &mut windows,
            By::Copy(CopyId::new()),
            &comb(700)?,
            Access::Write,
        )
    }

    // Nothing of a task's touches it, and it lets no task access anything.
    #[test]
    fn window_of_a_copy_is_its_own() -> Result {
        let (stats, mut windows) = (stats()?, Windows::new());
        let process = UserPage::new()?;
        let (region, whole) = (linear(100, 50)?, Region::whole(SIZE));
        let (copy, other) = (By::Copy(CopyId::new()), By::Copy(CopyId::new()));
        open_by(&stats, &mut windows, copy, &region, Access::ReadWrite)?;
        open_by(&stats, &mut windows, other, &region, Access::ReadWrite)?;
        let task = kernel::current!();
        let mm = task.mm().ok_or(EBADMSG)?;
        check(!windows.any_of(mm), "it is not the process's")?;
        check(!windows.allows(mm, &(100..150), false), "nor lets it read")?;
        windows.end(&stats, By::Task, &region, Access::ReadWrite);
        windows.end(&stats, By::Task, &whole, Access::ReadWrite);
        check(windows.count() == 2, "no END of the process ends it")?;
        open(&stats, &mut windows, &region, Access::ReadWrite)?;
        check(windows.any_of(mm), "the process has one beside it")?;
        windows.end(&stats, copy, &region, Access::ReadWrite);
        check(windows.count() == 2, "its own END does, and that alone")?;
        windows.end(&stats, copy, &whole, Access::ReadWrite);
        check(windows.count() == 2, "once")?;
        drop(process);
        check(windows.forget_dead(&stats), "the process is gone")?;
        check(windows.count() == 1, "the other copy goes on")?;
        windows.end(&stats, other, &region, Access::ReadWrite);
        check(!windows.any(), "and ends")
    }

    // A thread of the kernel has windows, and so has a process; the process goes.
    #[test]
    fn owners_are_told_apart() -> Result {
        let (stats, mut windows) = (stats()?, Windows::new());
        let region = linear(100, 50)?;
        open(&stats, &mut windows, &region, Access::Write)?;
        {
            let _process = UserPage::new()?;
            windows.end(&stats, By::Task, &region, Access::Write);
            windows.end(&stats, By::Task, &Region::whole(SIZE), Access::Write);
            check(windows.count() == 1, "another's window stays")?;
            open(&stats, &mut windows, &region, Access::Write)?;
            open(&stats, &mut windows, &linear(0, 10)?, Access::Write)?;
            check(windows.count() == 3, "each has its own")?;
            check(!windows.forget_dead(&stats), "both live")?;
        }
        check(windows.forget_dead(&stats), "the process is gone")?;
        check(windows.count() == 1, "and its windows")?;
        windows.end(&stats, By::Task, &region, Access::Write);
        check(!windows.any(), "the thread ended its own")
    }
}
