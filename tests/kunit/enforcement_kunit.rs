// SPDX-License-Identifier: GPL-2.0

//! R10, seen by importers: what a poisoned buffer refuses, and what goes on. Access by user space
//! mappings, which is what poisons one, is tested from there, by `tests/vm`.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_enforcement)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            begin_cpu_access,
            end_cpu_access,
            peek, //
        },
        test_models::{
            self,
            ModelDevice,
            ModelKind, //
        },
        CpuAccess,
        DmaBuf, //
    };
    use kernel::{
        dma::DataDirection,
        prelude::*, //
    };

    use crate::{
        buffer::CohBuf,
        enforcement,
        fixture::*,
        policy::{
            Enforce,
            Kind, //
        }, //
    };

    const KINDS: [Kind; 3] = [Kind::Bracketed, Kind::Coherent, Kind::WriteCombine];
    const ACCESSES: [CpuAccess; 3] = [CpuAccess::Read, CpuAccess::Write, CpuAccess::ReadWrite];

    fn poison(buf: &DmaBuf) -> Result {
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        enforcement::poison(&mut buffer.lock()?.as_mut());
        Ok(())
    }

    /// Windows that are open, to write.
    fn windows(buf: &DmaBuf) -> Result<usize> {
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let locked = buffer.lock()?;
        Ok(locked.state().windows.count())
    }

    #[test]
    fn poisoned_buffer_refuses() -> Result {
        let dev = device(c"poisoned_buffer_refuses", true)?;
        for kind in KINDS {
            let buf = export_enforced(kind, Enforce::Poison)?;
            for access in ACCESSES {
                begin_cpu_access(&buf, access)?;
                end_cpu_access(&buf, access)?;
            }
            poison(&buf)?;
            for access in ACCESSES {
                check_err(begin_cpu_access(&buf, access), EIO, "begin_cpu_access")?;
                check_err(end_cpu_access(&buf, access), EIO, "end_cpu_access")?;
            }
            check_err(dev.attach(buf.clone()).map(drop), EIO, "attach")?;
            // The core would warn.
            check(peek::<4>(&buf, 0)? == [0; 4], "vmap")?;
        }
        Ok(())
    }

    #[test]
    fn attached_importer_cannot_map() -> Result {
        let dev = device(c"attached_importer_cannot_map", true)?;
        for kind in [Kind::Bracketed, Kind::Coherent] {
            let buf = export_enforced(kind, Enforce::Poison)?;
            let attachment = dev.attach(buf.clone())?;
            poison(&buf)?;
            match attachment.map(DataDirection::Bidirectional) {
                Ok(_) => return check(false, "it maps"),
                Err((_attachment, e)) => check(e.to_errno() == EIO.to_errno(), "map: EIO")?,
            }
        }
        Ok(())
    }

    #[test]
    fn end_closes_the_window() -> Result {
        for kind in KINDS {
            let buf = export_enforced(kind, Enforce::Poison)?;
            begin_cpu_access(&buf, CpuAccess::Write)?;
            begin_cpu_access(&buf, CpuAccess::ReadWrite)?;
            check(windows(&buf)? == 2, "two windows")?;
            poison(&buf)?;
            check_err(end_cpu_access(&buf, CpuAccess::Write), EIO, "END")?;
            check(windows(&buf)? == 1, "one window")?;
            check_err(end_cpu_access(&buf, CpuAccess::Write), EIO, "END")?;
            check(windows(&buf)? == 0, "no window")?;
        }
        Ok(())
    }

    // A buffer that enforces nothing has no windows of these kinds, nor to read.
    #[test]
    fn windows_only_where_they_matter() -> Result {
        for kind in KINDS {
            let buf = export(kind)?;
            begin_cpu_access(&buf, CpuAccess::ReadWrite)?;
            let must = usize::from(kind == Kind::Bracketed);
            check(
                windows(&buf)? == must,
                "a window of a bracketed buffer alone",
            )?;
            end_cpu_access(&buf, CpuAccess::ReadWrite)?;
            check(windows(&buf)? == 0, "closed")?;
            let buf = export_enforced(kind, Enforce::Report)?;
            begin_cpu_access(&buf, CpuAccess::ReadWrite)?;
            begin_cpu_access(&buf, CpuAccess::Read)?;
            check(windows(&buf)? == 1, "READ is none to write")?;
            end_cpu_access(&buf, CpuAccess::Read)?;
            check(windows(&buf)? == 1, "END of READ leaves it")?;
            end_cpu_access(&buf, CpuAccess::ReadWrite)?;
            check(windows(&buf)? == 0, "closed")?;
        }
        Ok(())
    }

    #[test]
    fn unmap_fetches_what_the_device_wrote() -> Result {
        for kind in [ModelKind::Bounce, ModelKind::Cache] {
            test_models::reset()?;
            let dev = ModelDevice::new(c"unmap_fetches_what_the_device_wrote", kind)?;
            let buf = export_enforced(Kind::Bracketed, Enforce::Poison)?;
            let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            test_models::track(buffer.pages())?;
            let mapping = dev
                .attach(buf.clone())?
                .map(DataDirection::Bidirectional)
                .map_err(|(_, e)| e)?;
            poison(&buf)?;
            mapping.device_write(64, b"late")?;
            let mut seen = [0; 4];
            mapping.device_read(64, &mut seen)?;
            check(&seen == b"late", "the device sees its own")?;
            drop(mapping);
            let pages = buffer.pages().read(64, &mut seen);
            // The model must forget the pages before they go.
            test_models::reset()?;
            pages?;
            check(&seen == b"late", "the buffer has it")?;
        }
        Ok(())
    }
}
