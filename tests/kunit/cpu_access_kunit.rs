// SPDX-License-Identifier: GPL-2.0

//! CPU access: what is maintained (R3), after the fences (R5), in any order of calls (R8).

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_cpu_access)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            begin_cpu_access,
            end_cpu_access,
            peek,
            PendingSignal,
            TestFence, //
        },
        test_device::TestDevice,
        CpuAccess, DmaBuf,
    };
    use kernel::{
        dma::DataDirection,
        prelude::*,
        sync::{
            aref::ARef,
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc,
            Completion, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
        workqueue, //
    };

    use crate::{
        buffer::CohBuf,
        fixture::*,
        policy::Kind, //
    };

    const ALL: [CpuAccess; 3] = [CpuAccess::Read, CpuAccess::Write, CpuAccess::ReadWrite];

    /// Syncs for the CPU and for devices so far.
    fn syncs(buf: &DmaBuf) -> Result<(u64, u64)> {
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        Ok((
            buffer.stats().syncs_for_cpu(),
            buffer.stats().syncs_for_device(),
        ))
    }

    /// The passes that are due for so many devices that are not coherent: one serves all, and
    /// where every device snoops none is due.
    const fn passes(devices: u64) -> u64 {
        if cfg!(CONFIG_X86_64) || devices == 0 {
            0
        } else {
            1
        }
    }

    /// Brackets with mapped attachments, for which `count` passes are due, each access once.
    fn bracket(buf: &ARef<DmaBuf>, devices: &[TestDevice], count: u64) -> Result {
        let mut mapped = KVec::new();
        for dev in devices {
            mapped.push(
                dev.attach(buf.clone())?
                    .map(DataDirection::Bidirectional)
                    .map_err(|(_, e)| e)?,
                GFP_KERNEL,
            )?;
        }
        for access in ALL {
            let (cpu, dev) = syncs(buf)?;
            begin_cpu_access(buf, access)?;
            check(
                syncs(buf)? == (cpu + count, dev),
                "one pass of begin serves all mappings",
            )?;
            end_cpu_access(buf, access)?;
            let written = if access.writes() { count } else { 0 };
            check(
                syncs(buf)? == (cpu + count, dev + written),
                "one pass of end serves all devices where the CPU wrote",
            )?;
        }
        Ok(())
    }

    fn devices(names: &[&CStr]) -> Result<KVec<TestDevice>> {
        let mut list = KVec::new();
        for name in names {
            list.push(device(name, false)?, GFP_KERNEL)?;
        }
        Ok(list)
    }

    #[test]
    fn no_attachment() -> Result {
        bracket(&export(Kind::Bracketed)?, &[], 0)
    }

    #[test]
    fn one_attachment() -> Result {
        bracket(
            &export(Kind::Bracketed)?,
            &devices(&[c"access_one"])?,
            passes(1),
        )
    }

    #[test]
    fn eight_attachments() -> Result {
        let names = [
            c"access_a",
            c"access_b",
            c"access_c",
            c"access_d",
            c"access_e",
            c"access_f",
            c"access_g",
            c"access_h",
        ];
        bracket(&export(Kind::Bracketed)?, &devices(&names)?, passes(8))
    }

    #[test]
    fn coherent_is_never_maintained() -> Result {
        let mut list = KVec::new();
        list.push(device(c"access_coherent", true)?, GFP_KERNEL)?;
        bracket(&export(Kind::Coherent)?, &list, 0)
    }

    // Attached, but not mapped: there is no table that could be synced.
    #[test]
    fn not_mapped_is_left_alone() -> Result {
        let dev = device(c"access_not_mapped", false)?;
        let buf = export(Kind::Bracketed)?;
        let _attachment = dev.attach(buf.clone())?;
        bracket(&buf, &[], 0)
    }

    // A device that only reads has nothing for the CPU; the CPU has something for it.
    #[test]
    fn by_direction_of_the_mapping() -> Result {
        let dev = device(c"access_direction", false)?;
        let buf = export(Kind::Bracketed)?;
        for (dir, cpu) in [
            (DataDirection::ToDevice, 0),
            (DataDirection::FromDevice, 1),
            (DataDirection::Bidirectional, 1),
        ] {
            let mapping = dev.attach(buf.clone())?.map(dir).map_err(|(_, e)| e)?;
            let before = syncs(&buf)?;
            begin_cpu_access(&buf, CpuAccess::Write)?;
            end_cpu_access(&buf, CpuAccess::Write)?;
            drop(mapping);
            check(
                syncs(&buf)? == (before.0 + passes(cpu), before.1 + passes(1)),
                "the direction of the mapping decides",
            )?;
        }
        Ok(())
    }

    // Barriers, not locks: any order of calls is allowed.
    #[test]
    fn unpaired_and_nested() -> Result {
        let dev = device(c"access_unpaired", false)?;
        let buf = export(Kind::Bracketed)?;
        let run = || -> Result {
            end_cpu_access(&buf, CpuAccess::ReadWrite)?;
            begin_cpu_access(&buf, CpuAccess::Read)?;
            begin_cpu_access(&buf, CpuAccess::Write)?;
            begin_cpu_access(&buf, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf, CpuAccess::Read)
        };
        run()?;
        let mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        run()?;
        drop(mapping);
        run()
    }

    #[test]
    fn new_memory_is_zero() -> Result {
        let buf = export(Kind::Bracketed)?;
        begin_cpu_access(&buf, CpuAccess::Read)?;
        for offset in (0..SIZE).step_by(509) {
            check(peek(&buf, offset)? == [0], "new memory is zero")?;
        }
        end_cpu_access(&buf, CpuAccess::Read)
    }

    /// Begins an access while a fence is pending that another task signals, and checks that
    /// nothing has been maintained by the time the fence signals.
    fn waits_for(write_fence: bool, access: CpuAccess) -> Result {
        let dev = device(c"access_fence", false)?;
        let buf = export(Kind::Bracketed)?;
        let _mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        let fence = TestFence::new()?;
        fence.add_to(&buf, write_fence)?;

        let at_signal = Arc::new(Atomic::<u64>::new(u64::MAX), GFP_KERNEL)?;
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let (buf2, at_signal2, done2) = (buf.clone(), at_signal.clone(), done.clone());
        workqueue::system().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(100));
            at_signal2.store(syncs(&buf2).map_or(u64::MAX, |s| s.0), Relaxed);
            drop(buf2);
            fence.signal();
            drop(fence);
            done2.complete_all();
        })?;
        let begun = begin_cpu_access(&buf, access);
        let seen = at_signal.load(Relaxed);
        done.wait_for_completion();
        begun?;
        check(seen == 0, "begin maintains after the fence has signalled")?;
        check(syncs(&buf)?.0 == passes(1), "and then it does")
    }

    #[test]
    fn read_waits_for_writer() -> Result {
        waits_for(true, CpuAccess::Read)
    }

    #[test]
    fn write_waits_for_writer() -> Result {
        waits_for(true, CpuAccess::Write)
    }

    #[test]
    fn write_waits_for_reader() -> Result {
        waits_for(false, CpuAccess::Write)
    }

    #[test]
    fn read_does_not_wait_for_reader() -> Result {
        let buf = export(Kind::Bracketed)?;
        let fence = TestFence::new()?;
        fence.add_to(&buf, false)?;
        begin_cpu_access(&buf, CpuAccess::Read)
    }

    // The fence stays pending: the signal ends the wait, and nothing is half done.
    #[test]
    fn signal_interrupts_the_wait() -> Result {
        let dev = device(c"access_signal", false)?;
        let buf = export(Kind::Bracketed)?;
        let _mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        let fence = TestFence::new()?;
        fence.add_to(&buf, true)?;
        let interrupted = {
            let _signal = PendingSignal::new();
            begin_cpu_access(&buf, CpuAccess::Read)
        };
        check_err(interrupted, ERESTARTSYS, "begin with a signal pending")?;
        check(syncs(&buf)? == (0, 0), "nothing has been maintained")?;
        fence.signal();
        begin_cpu_access(&buf, CpuAccess::Read)?;
        check(syncs(&buf)? == (passes(1), 0), "the next begin does all")
    }
}
