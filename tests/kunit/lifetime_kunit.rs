// SPDX-License-Identifier: GPL-2.0

//! The abstraction with an exporter of another kind: order of callbacks, and what is dropped when.

use kernel::macros::kunit_tests;

#[kunit_tests(dma_buf_lifetime)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            begin_cpu_access,
            end_cpu_access,
            flush_releases, //
        },
        Buffer,
        Caching,
        CpuAccess,
        DmaBuf,
        Exporter,
        MapRequest,
        Mapping,
        Pages, //
    };
    use kernel::{
        device::Device,
        dma::DataDirection,
        fs::file::flags::O_RDWR,
        page::PAGE_SIZE,
        prelude::*,
        sync::{
            aref::ARef,
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        }, //
    };

    use crate::{
        buffer::CohBuf,
        fixture::*,
        policy::Kind, //
    };

    /// Takes down a digit for each callback.
    struct Recorder {
        events: Arc<Atomic<u64>>,
        fail_attach: bool,
        fail_map: bool,
    }

    const ATTACH: u64 = 1;
    const MAP: u64 = 2;
    const BEGIN: u64 = 3;
    const END: u64 = 4;
    const DETACH: u64 = 5;
    const DROPPED: u64 = 6;
    const EXPORTED: u64 = 7;
    const RELEASE: u64 = 8;
    const DETACHED: u64 = 9;

    fn record(events: &Atomic<u64>, event: u64) {
        events.store(events.load(Relaxed) * 10 + event, Relaxed);
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            record(&self.events, DROPPED);
        }
    }

    /// Of one attachment.
    struct Attached(Arc<Atomic<u64>>);

    impl Drop for Attached {
        fn drop(&mut self) {
            record(&self.0, DETACHED);
        }
    }

    impl Exporter for Recorder {
        type OwnerModule = crate::LocalModule;
        type Attachment = Attached;
        type Mapping = ();
        type State = ();
        const NAME: &'static CStr = c"cohbuf_kunit_recorder";

        fn exported(buffer: Buffer<'_, Self>) {
            record(&buffer.events, EXPORTED);
        }

        fn release(&self) {
            record(&self.events, RELEASE);
        }

        fn attach(buffer: Buffer<'_, Self>, _dev: &Device, _dynamic: bool) -> Result<Attached> {
            record(&buffer.events, ATTACH);
            if buffer.fail_attach {
                return Err(EBUSY);
            }
            Ok(Attached(buffer.events.clone()))
        }

        fn detach(_buffer: Buffer<'_, Self>, attachment: &Attached) {
            record(&attachment.0, DETACH);
        }

        fn map<'a>(request: MapRequest<'a, Self>) -> Result<(Mapping<'a>, ())> {
            let buffer = request.buffer();
            record(&buffer.events, MAP);
            let mapping = request.map()?;
            if buffer.fail_map {
                // Dropped, and thereby unmapped: DMA-API debug would find it otherwise.
                return Err(EBUSY);
            }
            Ok((mapping, ()))
        }

        fn begin_cpu_access(buffer: Buffer<'_, Self>, _: CpuAccess) -> Result {
            record(&buffer.events, BEGIN);
            Ok(())
        }

        fn end_cpu_access(buffer: Buffer<'_, Self>, _: CpuAccess) -> Result {
            record(&buffer.events, END);
            Ok(())
        }
    }

    /// Which callback fails.
    enum Fails {
        None,
        Attach,
        Map,
    }

    fn recorder(fails: Fails) -> Result<(ARef<DmaBuf>, Arc<Atomic<u64>>)> {
        let events = Arc::new(Atomic::<u64>::new(0), GFP_KERNEL)?;
        let pages = Pages::alloc(2 * PAGE_SIZE, Caching::WriteBack)?;
        let data = Recorder {
            events: events.clone(),
            fail_attach: matches!(fails, Fails::Attach),
            fail_map: matches!(fails, Fails::Map),
        };
        Ok((DmaBuf::export(data, (), pages, O_RDWR)?, events))
    }

    #[test]
    fn order_of_callbacks() -> Result {
        let dev = device(c"order_of_callbacks", true)?;
        let (buf, events) = recorder(Fails::None)?;
        let mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        begin_cpu_access(&buf, CpuAccess::Read)?;
        end_cpu_access(&buf, CpuAccess::Read)?;
        drop(buf);
        flush_releases();
        check(
            events.load(Relaxed) == 71234,
            "an attachment keeps the buffer",
        )?;
        drop(mapping);
        flush_releases();
        check(
            events.load(Relaxed) == 712345986,
            "detach, then release, once",
        )
    }

    #[test]
    fn failed_attach_has_no_detach() -> Result {
        let dev = device(c"failed_attach_has_no_detach", true)?;
        let (buf, events) = recorder(Fails::Attach)?;
        check_err(
            dev.attach(buf),
            EBUSY,
            "the error of the exporter comes through",
        )?;
        flush_releases();
        check(events.load(Relaxed) == 7186, "attach, release")
    }

    #[test]
    fn failed_map_is_undone() -> Result {
        let dev = device(c"failed_map_is_undone", true)?;
        let (buf, events) = recorder(Fails::Map)?;
        let attachment = dev.attach(buf)?;
        let (attachment, error) = match attachment.map(DataDirection::ToDevice) {
            Ok(_) => return Err(EBADMSG),
            Err(e) => e,
        };
        check_err(
            Err::<(), _>(error),
            EBUSY,
            "the error of the exporter comes through",
        )?;
        drop(attachment);
        flush_releases();
        check(
            events.load(Relaxed) == 7125986,
            "attach, map, detach, release",
        )
    }

    #[test]
    fn release_without_use() -> Result {
        let (buf, events) = recorder(Fails::None)?;
        drop(buf);
        flush_releases();
        check(events.load(Relaxed) == 786, "release alone")
    }

    // Two exporters in one module, and whose buffer is whose.
    #[test]
    fn whose_buffer() -> Result {
        let (theirs, _events) = recorder(Fails::None)?;
        let ours = export(Kind::Coherent)?;
        check(
            theirs.exported_by::<Recorder>().is_some(),
            "theirs is theirs",
        )?;
        check(
            theirs.exported_by::<CohBuf>().is_none(),
            "theirs is not ours",
        )?;
        check(ours.exported_by::<CohBuf>().is_some(), "ours is ours")?;
        check(
            ours.exported_by::<Recorder>().is_none(),
            "ours is not theirs",
        )
    }

    #[test]
    fn pages_refuse_bad_sizes() -> Result {
        check_err(Pages::alloc(0, Caching::WriteBack), EINVAL, "no bytes")?;
        check_err(
            Pages::alloc(PAGE_SIZE + 1, Caching::WriteBack),
            EINVAL,
            "half a page",
        )?;
        let pages = Pages::alloc(257 * PAGE_SIZE, Caching::WriteBack)?;
        check(pages.size() == 257 * PAGE_SIZE, "as many bytes as wanted")?;
        check(pages.chunks() >= 2, "a large chunk, and one for the rest")?;
        check_err(
            Pages::alloc_contiguous(0, Caching::WriteBack),
            EINVAL,
            "no bytes in one piece",
        )?;
        check_err(
            Pages::alloc_contiguous(PAGE_SIZE + 1, Caching::WriteBack),
            EINVAL,
            "half a page in one piece",
        )?;
        check_err(
            Pages::alloc_contiguous(1 << 50, Caching::WriteBack),
            ENOMEM,
            "more than there is in one piece",
        )?;
        for count in [1, 3, 257] {
            let pages = Pages::alloc_contiguous(count * PAGE_SIZE, Caching::WriteBack)?;
            check(
                pages.size() == count * PAGE_SIZE && pages.chunks() == 1,
                "as many pages as wanted, in one piece",
            )?;
        }
        Ok(())
    }
}
