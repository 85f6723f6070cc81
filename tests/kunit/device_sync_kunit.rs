// SPDX-License-Identifier: GPL-2.0

//! Device-side sync (R7), and who waits for fences (R6). What C exports is tested in `tests/vm`.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_device_sync)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        interface::SyncFor,
        kunit_support::{
            set_autofence,
            sync,
            PendingSignal,
            TestFence, //
        },
        test_models::{
            self,
            CacheModel,
            ModelDevice,
            ModelKind, //
        },
        DmaBuf,
        Exporter,
        ImportedMapping, //
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

    const BOTH: [SyncFor; 2] = [SyncFor::Cpu, SyncFor::Device];

    /// Syncs for the CPU and for devices so far.
    fn syncs(buf: &DmaBuf) -> Result<(u64, u64)> {
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        Ok((
            buffer.stats().syncs_for_cpu(),
            buffer.stats().syncs_for_device(),
        ))
    }

    /// Passes of a device that is not coherent where the architecture has such.
    const PASS: u64 = if cfg!(CONFIG_X86_64) { 0 } else { 1 };

    #[test]
    fn by_direction_of_the_mapping() -> Result {
        let dev = device(c"sync_direction", false)?;
        let buf = export(Kind::Bracketed)?;
        for (dir, cpu) in [
            (DataDirection::ToDevice, 0),
            (DataDirection::FromDevice, PASS),
            (DataDirection::Bidirectional, PASS),
        ] {
            for locked in [false, true] {
                let mapping = dev.attach(buf.clone())?.map(dir).map_err(|(_, e)| e)?;
                let before = syncs(&buf)?;
                sync::<CohBuf>(&mapping, SyncFor::Cpu, locked)?;
                check(
                    syncs(&buf)?.0 == before.0 + cpu,
                    "for the CPU, by the direction of the mapping",
                )?;
                let between = syncs(&buf)?.1;
                sync::<CohBuf>(&mapping, SyncFor::Device, locked)?;
                check(
                    syncs(&buf)?.1 <= between + PASS,
                    "for the device, once at most",
                )?;
            }
        }
        Ok(())
    }

    #[test]
    fn coherent_is_never_maintained() -> Result {
        let dev = device(c"sync_coherent", true)?;
        let buf = export(Kind::Coherent)?;
        let mapping = dev
            .attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)?;
        for whom in BOTH {
            sync::<CohBuf>(&mapping, whom, false)?;
            sync::<CohBuf>(&mapping, whom, true)?;
        }
        check(syncs(&buf)? == (0, 0), "coherent costs nothing")
    }

    #[test]
    fn query_tells_the_kind() -> Result {
        for kind in [Kind::Bracketed, Kind::Coherent] {
            let buf = export(kind)?;
            let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            let query = CohBuf::query(buffer);
            check(
                query.coherent == (kind == Kind::Coherent),
                "coherent is what it was made as",
            )?;
            check(
                query.caching == dma_buf::Caching::WriteBack,
                "and cached as it was made",
            )?;
        }
        Ok(())
    }

    // One device writes, another one reads, both stay mapped.
    #[test]
    fn between_models() -> Result {
        let _model = CacheModel::start()?;
        for (at, (from, to)) in [
            (ModelKind::Cache, ModelKind::Bounce),
            (ModelKind::Bounce, ModelKind::CacheMerged),
            (ModelKind::Bounce, ModelKind::Bounce),
            (ModelKind::CacheMerged, ModelKind::Snoop),
            (ModelKind::Snoop, ModelKind::Cache),
        ]
        .into_iter()
        .enumerate()
        {
            test_models::reset()?;
            let names = [
                [c"s0", c"r0"],
                [c"s1", c"r1"],
                [c"s2", c"r2"],
                [c"s3", c"r3"],
                [c"s4", c"r4"],
            ];
            let names = names.get(at).ok_or(EINVAL)?;
            let writer = ModelDevice::new(names[0], from)?;
            let reader = ModelDevice::new(names[1], to)?;
            let buf = export(Kind::Bracketed)?;
            {
                let written = writer
                    .attach(buf.clone())?
                    .map(DataDirection::FromDevice)
                    .map_err(|(_, e)| e)?;
                let read = reader
                    .attach(buf.clone())?
                    .map(DataDirection::ToDevice)
                    .map_err(|(_, e)| e)?;
                let mut seen = [0; 4];
                for (round, locked) in [(b"one ", false), (b"two ", true)] {
                    written.device_write(SIZE - 4, round)?;
                    read.device_read(SIZE - 4, &mut seen)?;
                    check(seen != *round, "without a sync it is stale")?;
                    sync::<CohBuf>(&written, SyncFor::Cpu, locked)?;
                    sync::<CohBuf>(&read, SyncFor::Device, locked)?;
                    read.device_read(SIZE - 4, &mut seen)?;
                    check(seen == *round, "and with it, it is not")?;
                }
            }
            test_models::reset()?;
        }
        Ok(())
    }

    /// Runs `f` while a fence of a writer is pending, which another task signals a while later.
    /// Returns whether `f` returned after that.
    fn waited(buf: &ARef<DmaBuf>, f: impl FnOnce() -> Result) -> Result<bool> {
        let fence = TestFence::new()?;
        fence.add_to(buf, true)?;
        let signalled = Arc::new(Atomic::<bool>::new(false), GFP_KERNEL)?;
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let (signalled2, done2) = (signalled.clone(), done.clone());
        workqueue::system().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(100));
            signalled2.store(true, Relaxed);
            fence.signal();
            drop(fence);
            done2.complete_all();
        })?;
        let result = f();
        let waited = signalled.load(Relaxed);
        done.wait_for_completion();
        result.map(|()| waited)
    }

    fn mapped<'a>(
        dev: &'a dma_buf::test_device::TestDevice,
        buf: &ARef<DmaBuf>,
    ) -> Result<ImportedMapping<'a>> {
        dev.attach(buf.clone())?
            .map(DataDirection::Bidirectional)
            .map_err(|(_, e)| e)
    }

    #[test]
    fn autofence_waits() -> Result {
        let dev = device(c"sync_fence", false)?;
        let buf = export(Kind::Bracketed)?;
        let mut mapping = None;
        check(
            waited(&buf, || {
                mapping = Some(mapped(&dev, &buf)?);
                Ok(())
            })?,
            "map waits",
        )?;
        let mapping = mapping.ok_or(EBADMSG)?;
        for whom in BOTH {
            for locked in [false, true] {
                check(
                    waited(&buf, || sync::<CohBuf>(&mapping, whom, locked))?,
                    "sync waits",
                )?;
            }
        }
        // A signal does not stop it: it cannot fail.
        let _signal = PendingSignal::new();
        check(
            waited(&buf, || {
                drop(mapping);
                Ok(())
            })?,
            "unmap waits",
        )
    }

    #[test]
    fn without_autofence_nobody_waits() -> Result {
        let dev = device(c"sync_no_fence", false)?;
        let buf = export(Kind::Bracketed)?;
        let mapping = mapped(&dev, &buf)?;
        set_autofence::<CohBuf>(&mapping, false)?;
        for whom in BOTH {
            for locked in [false, true] {
                check(
                    !waited(&buf, || sync::<CohBuf>(&mapping, whom, locked))?,
                    "sync does not wait",
                )?;
            }
        }
        check(
            !waited(&buf, || {
                drop(mapping);
                Ok(())
            })?,
            "unmap does not wait",
        )
    }

    // The fence stays pending: the signal ends the wait, and nothing is half done.
    #[test]
    fn signal_interrupts_the_wait() -> Result {
        let dev = device(c"sync_signal", false)?;
        let buf = export(Kind::Bracketed)?;
        let fence = TestFence::new()?;
        fence.add_to(&buf, true)?;
        let interrupted = {
            let _signal = PendingSignal::new();
            mapped(&dev, &buf).map(drop)
        };
        check_err(interrupted, ERESTARTSYS, "map with a signal pending")?;
        fence.signal();

        let mapping = mapped(&dev, &buf)?;
        let before = syncs(&buf)?;
        let fence = TestFence::new()?;
        fence.add_to(&buf, true)?;
        for whom in BOTH {
            for locked in [false, true] {
                let interrupted = {
                    let _signal = PendingSignal::new();
                    sync::<CohBuf>(&mapping, whom, locked)
                };
                check_err(interrupted, ERESTARTSYS, "sync with a signal pending")?;
            }
        }
        check(syncs(&buf)? == before, "nothing has been maintained")?;
        fence.signal();
        sync::<CohBuf>(&mapping, SyncFor::Cpu, false)?;
        check(syncs(&buf)?.0 == before.0 + PASS, "the next one does it")
    }
}
