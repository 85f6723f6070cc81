// SPDX-License-Identifier: GPL-2.0

//! Who may attach (R1).

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_attach)]
mod tests {
    use dma_buf::compat::{
        EBADMSG,
        EOPNOTSUPP, //
    };
    use kernel::prelude::*;

    use crate::{
        buffer::CohBuf,
        coherency::seam,
        fixture::*,
        policy::Kind, //
    };

    #[test]
    fn coherent_takes_coherent() -> Result {
        let dev = device(c"coherent_takes_coherent", true)?;
        let buf = export(Kind::Coherent)?;
        dev.attach(buf)?;
        Ok(())
    }

    // On x86 by the seam, on arm64 the device is so by itself as well.
    #[test]
    fn coherent_refuses_not_coherent() -> Result {
        let dev = device(c"coherent_refuses", false)?;
        let buf = export(Kind::Coherent)?;
        let guard = seam::not_coherent(bound(&dev));
        let refused = dev.attach(buf.clone()).map(drop);
        drop(guard);
        check_err(
            refused,
            EOPNOTSUPP,
            "attach of a device that is not coherent",
        )?;
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        check(
            buffer.stats().refused_attach() == 1,
            "one refusal is counted",
        )?;
        let left = buffer.lock()?.attachments().count();
        check(left == 0, "a refused attachment is not listed")
    }

    // The device's own answer, without the seam: this is what arm64 has and x86 has not.
    #[test]
    #[cfg(CONFIG_ARM64)]
    fn coherent_refuses_not_coherent_arm64() -> Result {
        let dev = device(c"coherent_refuses_arm64", false)?;
        check(
            !dma_buf::device::is_dma_coherent(bound(&dev)),
            "the device is not coherent",
        )?;
        let buf = export(Kind::Coherent)?;
        check_err(
            dev.attach(buf).map(drop),
            EOPNOTSUPP,
            "attach of a device that is not coherent",
        )
    }

    #[test]
    #[cfg(CONFIG_X86_64)]
    fn x86_is_coherent() -> Result {
        let dev = device(c"x86_is_coherent", false)?;
        check(
            dma_buf::device::is_dma_coherent(bound(&dev)),
            "every device is coherent on x86",
        )
    }

    #[test]
    fn bracketed_takes_both() -> Result {
        let coherent = device(c"bracketed_takes_coherent", true)?;
        let other = device(c"bracketed_takes_other", false)?;
        let buf = export(Kind::Bracketed)?;
        let _guard = seam::not_coherent(bound(&other));
        let first = coherent.attach(buf.clone())?;
        let second = other.attach(buf.clone())?;
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        check(buffer.lock()?.attachments().count() == 2, "both are listed")?;
        drop(first);
        check(buffer.lock()?.attachments().count() == 1, "one is left")?;
        drop(second);
        let left = buffer.lock()?.attachments().count();
        check(left == 0, "none is left")
    }

    #[test]
    fn refused_may_leave_others() -> Result {
        let good = device(c"refused_leaves_good", true)?;
        let bad = device(c"refused_leaves_bad", false)?;
        let buf = export(Kind::Coherent)?;
        let _attachment = good.attach(buf.clone())?;
        let guard = seam::not_coherent(bound(&bad));
        let refused = bad.attach(buf.clone()).map(drop);
        drop(guard);
        check_err(refused, EOPNOTSUPP, "the bad one")?;
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let left = buffer.lock()?.attachments().count();
        check(left == 1, "the good one stays")
    }
}
