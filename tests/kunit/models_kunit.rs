// SPDX-License-Identifier: GPL-2.0

//! The contract on the model devices, in which a sync that is missing loses data: R3, R4, R5, R8,
//! R14, R15. The table of all mixes is in `tests/vm`.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_models)]
mod tests {
    use dma_buf::{
        compat::EBADMSG,
        kunit_support::{
            begin_cpu_access,
            end_cpu_access,
            peek,
            poke,
            vmap_type,
            while_badly_mapped,
            while_one_detaches,
            while_vmapped,
            PendingSignal,
            TestFence,
            UserPage, //
        },
        test_models::{
            self,
            CacheModel,
            MemoryType,
            ModelDevice,
            ModelKind, //
        },
        Buffer,
        Caching,
        CpuAccess,
        ImportedMapping, //
    };
    use kernel::{
        dma::DataDirection,
        prelude::*,
        sync::{
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
        policy::Kind,
        region::{
            Layout,
            Region, //
        }, //
    };

    /// Those whose bytes a sync has to move.
    const MOVED: &[ModelKind] = &[
        ModelKind::Cache,
        ModelKind::CacheMerged,
        ModelKind::Bounce,
        #[cfg(CONFIG_ARM64)]
        ModelKind::Direct,
    ];

    fn sees(mapping: &ImportedMapping<'_>, offset: usize) -> Result<[u8; 4]> {
        let mut seen = [0; 4];
        mapping.device_read(offset, &mut seen)?;
        Ok(seen)
    }

    /// A device is at work for a while, as its fence says.
    struct Work {
        signalled: Arc<Atomic<u32>>,
        done: Arc<Completion>,
    }

    impl Work {
        fn begin(buf: &Tracked) -> Result<Self> {
            let fence = TestFence::new()?;
            fence.add_to(&buf.0, true)?;
            let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
            let signalled = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
            let of_task = (done.clone(), signalled.clone());
            workqueue::system().try_spawn(GFP_KERNEL, move || {
                let (done, signalled) = of_task;
                fsleep(Delta::from_millis(100));
                signalled.store(1, Relaxed);
                fence.signal();
                done.complete_all();
            })?;
            Ok(Self { signalled, done })
        }

        fn is_done(&self) -> bool {
            self.signalled.load(Relaxed) == 1
        }
    }

    impl Drop for Work {
        fn drop(&mut self) {
            self.done.wait_for_completion();
        }
    }

    /// Runs `test` with two devices of each kind.
    fn on_each(
        name: &'static str,
        test: impl Fn(&Tracked, &ModelDevice, &ModelDevice) -> Result,
    ) -> Result {
        let _model = CacheModel::start()?;
        for &kind in MOVED {
            let one = ModelDevice::new(c"cohbuf_kunit_model_one", kind)?;
            let two = ModelDevice::new(c"cohbuf_kunit_model_two", kind)?;
            let buf = Tracked::new()?;
            test(&buf, &one, &two).inspect_err(|_| {
                pr_err!("check failed: {} with {:?}\n", name, kind);
            })?;
        }
        Ok(())
    }

    #[test]
    fn cpu_writes_device_reads() -> Result {
        on_each("cpu_writes_device_reads", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::ToDevice)?;
            begin_cpu_access(&buf.0, CpuAccess::Write)?;
            poke(&buf.0, 100, b"cpu0")?;
            end_cpu_access(&buf.0, CpuAccess::Write)?;
            check(sees(&mapping, 100)? == *b"cpu0", "the device sees it")
        })
    }

    fn buffer(buf: &Tracked) -> Result<Buffer<'_, CohBuf>> {
        buf.0.exported_by().ok_or(EBADMSG)
    }

    /// Whether the window of the calling process is one of [usual].
    fn is_usual(buf: &Tracked) -> Result<bool> {
        let locked = buffer(buf)?.lock()?;
        Ok(locked.state().windows.has_only())
    }

    fn windows(buf: &Tracked) -> Result<u32> {
        Ok(buffer(buf)?.stats().write_windows())
    }

    /// What the CPU sees, without a mapping of the kernel that others hear of.
    fn look(buf: &Tracked, offset: usize) -> Result<[u8; 4]> {
        let mut seen = [0; 4];
        buffer(buf)?.pages().read(offset, &mut seen)?;
        Ok(seen)
    }

    /// The CPU writes, likewise.
    fn write(buf: &Tracked, offset: usize, bytes: &[u8]) -> Result {
        buffer(buf)?.pages().update(offset, bytes).map(drop)
    }

    /// Opens and closes windows until they are of [usual].
    fn get_used(buf: &Tracked) -> Result {
        for _ in 0..3 {
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
        }
        Ok(())
    }

    // The short way does what the long one does. [usual]
    #[test]
    fn a_process_does_it_again() -> Result {
        on_each("a_process_does_it_again", |buf, one, two| {
            let _process = UserPage::new()?;
            let written = map(one, buf, DataDirection::Bidirectional)?;
            let read = map(two, buf, DataDirection::ToDevice)?;
            for round in 0..5 {
                let (of_device, of_cpu) = ([b'd', round, 1, 2], [b'c', round, 3, 4]);
                written.device_write(100, &of_device)?;
                begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                // The first has nothing to go by; the second finds the caches in another state.
                check(round == 1 || is_usual(buf)? == (round > 1), "it is usual")?;
                check(windows(buf)? == 1, "it is counted")?;
                check(look(buf, 100)? == of_device, "the CPU sees the device's")?;
                write(buf, 200, &of_cpu)?;
                end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                check(!is_usual(buf)? && windows(buf)? == 0, "it is ended")?;
                for mapping in [&written, &read] {
                    check(sees(mapping, 100)? == of_device, "the device's stays")?;
                    check(sees(mapping, 200)? == of_cpu, "devices see the CPU's")?;
                }
            }
            Ok(())
        })
    }

    // Where two devices write, bytes of copies are told apart.
    #[test]
    fn a_process_does_it_again_beside_two() -> Result {
        on_each("a_process_does_it_again_beside_two", |buf, one, two| {
            let _process = UserPage::new()?;
            get_used(buf)?;
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let two = map(two, buf, DataDirection::Bidirectional)?;
            for round in 0..5 {
                let (of_one, of_two) = ([b'1', round, 1, 2], [b'2', round, 3, 4]);
                let of_cpu = [b'c', round, 5, 6];
                one.device_write(1000, &of_one)?;
                two.device_write(2000, &of_two)?;
                begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                check(look(buf, 1000)? == of_one, "the CPU sees that of one")?;
                check(look(buf, 2000)? == of_two, "and of the other")?;
                write(buf, 3000, &of_cpu)?;
                end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                for mapping in [&one, &two] {
                    check(sees(mapping, 1000)? == of_one, "each sees that of one")?;
                    check(sees(mapping, 2000)? == of_two, "and of the other")?;
                    check(sees(mapping, 3000)? == of_cpu, "and the CPU's")?;
                }
            }
            Ok(())
        })
    }

    // One device has a copy, and what the kernel has written by its own mapping must not go by it.
    #[test]
    fn a_process_does_it_again_after_a_vmap() -> Result {
        on_each("a_process_does_it_again_after_a_vmap", |buf, one, _| {
            let _process = UserPage::new()?;
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            get_used(buf)?;
            while_vmapped(&buf.0, || poke(&buf.0, 1000, b"cpu0"))??;
            mapping.device_write(2000, b"dev0")?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(look(buf, 1000)? == *b"cpu0", "what the kernel wrote stays")?;
            check(look(buf, 2000)? == *b"dev0", "the CPU sees the device's")?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(
                sees(&mapping, 1000)? == *b"cpu0",
                "the device sees the kernel's",
            )?;
            check(sees(&mapping, 2000)? == *b"dev0", "and its own")
        })
    }

    // What was written by a mapping that is gone, and must be cleaned before it is invalidated.
    #[test]
    #[cfg(CONFIG_ARM64)]
    fn a_process_does_it_again_where_pages_are_tracked() -> Result {
        let _model = CacheModel::start()?;
        let dev = ModelDevice::new(c"cohbuf_kunit_model_one", ModelKind::Direct)?;
        let buf = Tracked::of(export_tracking_dirty()?)?;
        let _process = UserPage::new()?;
        let mapping = map(&dev, &buf, DataDirection::Bidirectional)?;
        get_used(&buf)?;
        write(&buf, 100, b"cpu0")?;
        let page = 0..kernel::page::PAGE_SIZE;
        crate::maintenance::add_written(&mut buffer(&buf)?.lock()?.as_mut(), &page);
        begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
        check(look(&buf, 100)? == *b"cpu0", "what the CPU wrote stays")?;
        check(!is_usual(&buf)?, "it went the long way")?;
        end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
        check(sees(&mapping, 100)? == *b"cpu0", "the device sees it")
    }

    // Whoever else looks at windows finds that of [usual].
    #[test]
    fn others_see_a_usual_window() -> Result {
        on_each("others_see_a_usual_window", |buf, one, two| {
            let _process = UserPage::new()?;
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            get_used(buf)?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(is_usual(buf)?, "it is there")?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 2, "beside another")?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 0, "both are ended")?;
            get_used(buf)?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(is_usual(buf)?, "it is there again")?;
            write(buf, 100, b"cpu0")?;
            // What the CPU owns an unmap leaves alone.
            drop(mapping);
            check(look(buf, 100)? == *b"cpu0", "the CPU's stays")?;
            let mapping = map(two, buf, DataDirection::Bidirectional)?;
            write(buf, 200, b"cpu1")?;
            // A second one of the same process.
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 2, "there are two")?;
            check(look(buf, 200)? == *b"cpu1", "the CPU's stays")?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 0, "both are ended")?;
            check(sees(&mapping, 100)? == *b"cpu0", "the device sees all")?;
            check(sees(&mapping, 200)? == *b"cpu1", "the device sees all")
        })
    }

    // Many windows, whose memory is not kept, are no end of it.
    #[test]
    fn a_usual_window_after_many() -> Result {
        on_each("a_usual_window_after_many", |buf, one, _| {
            let _process = UserPage::new()?;
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            let access = CpuAccess::Write;
            for number in 0..20 {
                let region = Region::new(Layout::Linear, number * 64, 64, 0, 0, SIZE);
                CohBuf::begin(buffer(buf)?, access, &region.map_err(|_| EBADMSG)?)?;
            }
            check(windows(buf)? == 20, "they are open")?;
            CohBuf::end(buffer(buf)?, access, &Region::whole(SIZE))?;
            check(windows(buf)? == 0, "all are ended")?;
            get_used(buf)?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(is_usual(buf)?, "it is there")?;
            check(windows(buf)? == 1, "alone")?;
            // To be listed again it needs room.
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 2, "beside another")?;
            write(buf, 100, b"cpu0")?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 0, "both are ended")?;
            check(sees(&mapping, 100)? == *b"cpu0", "the device sees it")
        })
    }

    // Nobody else ends it, and it goes with its process.
    #[test]
    fn a_usual_window_has_an_owner() -> Result {
        on_each("a_usual_window_has_an_owner", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            {
                let _process = UserPage::new()?;
                get_used(buf)?;
                begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                check(is_usual(buf)?, "it is there")?;
                write(buf, 100, b"cpu0")?;
                // By a thread of the kernel.
                let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
                let of_task = (done.clone(), buf.0.clone());
                workqueue::system().try_spawn(GFP_KERNEL, move || {
                    let (done, buf) = of_task;
                    let _ = end_cpu_access(&buf, CpuAccess::ReadWrite);
                    drop(buf);
                    done.complete_all();
                })?;
                done.wait_for_completion();
                check(windows(buf)? == 1, "no other ends it")?;
                check(look(buf, 100)? == *b"cpu0", "the CPU's stays")?;
                end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                check(windows(buf)? == 0, "its own END does")?;
                check(sees(&mapping, 100)? == *b"cpu0", "the device sees it")?;
                get_used(buf)?;
                begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                check(is_usual(buf)?, "it is there again")?;
            }
            mapping.device_write(100, b"dev0")?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 1, "that of the dead is gone")?;
            check(look(buf, 100)? == *b"dev0", "and owned nothing")?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            check(windows(buf)? == 0, "none is left")
        })
    }

    #[test]
    fn device_writes_cpu_reads() -> Result {
        on_each("device_writes_cpu_reads", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::FromDevice)?;
            mapping.device_write(100, b"dev0")?;
            // Not by vmap, which fetches what devices wrote.
            let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            let mut seen = [9; 4];
            buffer.pages().read(100, &mut seen)?;
            check(seen == [0; 4], "no sync, no byte: the model is at work")?;
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(peek(&buf.0, 100)? == *b"dev0", "the CPU sees it")?;
            end_cpu_access(&buf.0, CpuAccess::Read)
        })
    }

    #[test]
    fn write_only_window_keeps_the_rest() -> Result {
        on_each("write_only_window_keeps_the_rest", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            mapping.device_write(64, b"dev0")?;
            begin_cpu_access(&buf.0, CpuAccess::Write)?;
            poke(&buf.0, 70, b"cpu0")?;
            end_cpu_access(&buf.0, CpuAccess::Write)?;
            test_models::evict();
            check(
                sees(&mapping, 64)? == *b"dev0",
                "the device's own bytes are there",
            )?;
            check(sees(&mapping, 70)? == *b"cpu0", "and those of the CPU")
        })
    }

    #[test]
    fn either_of_two_devices_writes() -> Result {
        on_each("either_of_two_devices_writes", |buf, one, two| {
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let two = map(two, buf, DataDirection::Bidirectional)?;
            for (mapping, bytes) in [(&one, b"one0"), (&two, b"two0"), (&one, b"one1")] {
                mapping.device_write(0, bytes)?;
                begin_cpu_access(&buf.0, CpuAccess::Read)?;
                check(
                    peek(&buf.0, 0)? == *bytes,
                    "the CPU sees what was written last",
                )?;
                end_cpu_access(&buf.0, CpuAccess::Read)?;
            }
            drop(one);
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(peek(&buf.0, 0)? == *b"one1", "an unmap goes over nothing")
        })
    }

    /// To tell bytes apart moves whole copies through the buffer, under a device that reads it.
    #[test]
    fn read_of_several_writers_waits_for_readers() -> Result {
        on_each(
            "read_of_several_writers_waits_for_readers",
            |buf, one, two| {
                let one = map(one, buf, DataDirection::Bidirectional)?;
                let told_apart = dma_buf::device::has_own_dma_ops(one.device());
                let _two = map(two, buf, DataDirection::Bidirectional)?;
                let reader = TestFence::new()?;
                reader.add_to(&buf.0, false)?;
                let begun = {
                    let _signal = PendingSignal::new();
                    begin_cpu_access(&buf.0, CpuAccess::Read)
                };
                reader.signal();
                if told_apart {
                    check_err(begun, ERESTARTSYS, "it waits, and the signal ends that")
                } else {
                    begun
                }
            },
        )
    }

    /// Where bytes are told apart already, there is nothing to take, and nobody to wait for.
    #[test]
    fn vmap_beside_several_writers_moves_nothing() -> Result {
        on_each(
            "vmap_beside_several_writers_moves_nothing",
            |buf, one, two| {
                let one = map(one, buf, DataDirection::Bidirectional)?;
                let two = map(two, buf, DataDirection::Bidirectional)?;
                one.device_write(0, b"one0")?;
                test_models::zero_counts();
                while_vmapped(&buf.0, || -> Result {
                    let counts = test_models::counts();
                    let moved = counts.clean_bytes + counts.to_bounce_bytes;
                    check(moved == 0, "nothing to the devices")?;
                    let moved = counts.invalidate_bytes + counts.from_bounce_bytes;
                    check(moved == 0, "nothing to the CPU")?;
                    two.device_write(4, b"two0")?;
                    begin_cpu_access(&buf.0, CpuAccess::Read)?;
                    check(peek(&buf.0, 0)? == *b"one0two0", "and nothing is lost")
                })?
            },
        )
    }

    // What was to be done was known by the numbers of mappings, of which one is gone.
    #[test]
    fn what_is_known_is_of_those_who_are_there() -> Result {
        on_each(
            "what_is_known_is_of_those_who_are_there",
            |buf, one, two| {
                let _process = UserPage::new()?;
                let writer = map(one, buf, DataDirection::Bidirectional)?;
                // The last to attach is the first in the list.
                let reader = map(two, buf, DataDirection::ToDevice)?;
                get_used(buf)?;
                writer.device_write(100, b"dev0")?;
                while_one_detaches(&buf.0, || -> Result {
                    begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                    check(look(buf, 100)? == *b"dev0", "the CPU sees it")?;
                    write(buf, 200, b"cpu0")?;
                    end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
                    check(sees(&writer, 200)? == *b"cpu0", "the device sees it")
                })??;
                drop(reader);
                Ok(())
            },
        )
    }

    /// Its unmap may be put off, and an attachment is in no list from a moment on.
    #[test]
    #[cfg(CONFIG_ARM64)]
    fn start_beside_a_detach_sees_what_was_put_off() -> Result {
        let _model = CacheModel::start()?;
        let dev = ModelDevice::new(c"cohbuf_kunit_model_one", ModelKind::Direct)?;
        let buf = Tracked::new()?;
        let attachment = map(&dev, &buf, DataDirection::FromDevice)?.unmap();
        let invalidated = || -> Result<u64> {
            let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
            Ok(buffer.stats().cost().invalidated)
        };
        check(invalidated()? == 0, "the unmap is put off")?;
        while_one_detaches(&buf.0, || -> Result {
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(invalidated()? == SIZE as u64, "START does what it has left")?;
            end_cpu_access(&buf.0, CpuAccess::Read)
        })??;
        drop(attachment);
        check(invalidated()? == SIZE as u64, "and nobody else does")
    }

    /// Who reads by no mapping that is counted, as a COPY does, sees an unmap at once.
    #[test]
    #[cfg(CONFIG_ARM64)]
    fn unmap_beside_a_look_is_not_put_off() -> Result {
        let _model = CacheModel::start()?;
        let dev = ModelDevice::new(c"cohbuf_kunit_model_one", ModelKind::Direct)?;
        let buf = Tracked::new()?;
        let buffer = buf.0.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        let invalidated = || buffer.stats().cost().invalidated;
        map(&dev, &buf, DataDirection::FromDevice)?;
        check(invalidated() == 0, "the unmap is put off")?;
        let look = buffer.look()?;
        check(invalidated() == SIZE as u64, "who looks does it")?;
        map(&dev, &buf, DataDirection::FromDevice)?;
        check(invalidated() == 2 * SIZE as u64, "none is beside that")?;
        drop(look);
        map(&dev, &buf, DataDirection::FromDevice)?;
        check(invalidated() == 2 * SIZE as u64, "but after that")
    }

    /// What the policy said of others is not done.
    #[test]
    fn start_follows_the_mappings() -> Result {
        on_each("start_follows_the_mappings", |buf, one, two| {
            let fetches = |mapping: &ImportedMapping<'_>, bytes: &[u8; 4], what| -> Result {
                mapping.device_write(0, bytes)?;
                begin_cpu_access(&buf.0, CpuAccess::Read)?;
                check(peek(&buf.0, 0)? == *bytes, what)?;
                end_cpu_access(&buf.0, CpuAccess::Read)
            };
            let reader = map(one, buf, DataDirection::ToDevice)?;
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            let writer = map(two, buf, DataDirection::FromDevice)?;
            fetches(&writer, b"dev0", "a writer that comes is fetched")?;
            fetches(&writer, b"dev1", "and again")?;
            drop(reader);
            fetches(&writer, b"dev2", "and when the other has gone")?;
            // The last to attach is the first in the list.
            let reader = map(one, buf, DataDirection::ToDevice)?;
            fetches(&writer, b"dev3", "and when one comes before it")?;
            fetches(&writer, b"dev4", "and again")?;
            drop(reader);
            fetches(&writer, b"dev5", "and when that has gone")
        })
    }

    #[test]
    fn start_follows_who_detaches_without_an_unmap() -> Result {
        on_each(
            "start_follows_who_detaches_without_an_unmap",
            |buf, one, two| {
                let writer = map(one, buf, DataDirection::FromDevice)?;
                let fetches = |bytes: &[u8; 4], what| -> Result {
                    writer.device_write(0, bytes)?;
                    begin_cpu_access(&buf.0, CpuAccess::Read)?;
                    check(peek(&buf.0, 0)? == *bytes, what)?;
                    end_cpu_access(&buf.0, CpuAccess::Read)
                };
                while_badly_mapped(&buf.0, two, DataDirection::ToDevice, || -> Result {
                    fetches(b"dev0", "a writer beside it is fetched")?;
                    fetches(b"dev1", "and again")
                })??;
                fetches(b"dev2", "and when it has gone")
            },
        )
    }

    #[test]
    fn end_follows_the_mappings() -> Result {
        on_each("end_follows_the_mappings", |buf, one, two| {
            let hands_over = |mapping: &ImportedMapping<'_>, bytes: &[u8; 4], what| -> Result {
                begin_cpu_access(&buf.0, CpuAccess::Write)?;
                poke(&buf.0, 0, bytes)?;
                end_cpu_access(&buf.0, CpuAccess::Write)?;
                check(sees(mapping, 0)? == *bytes, what)
            };
            let writer = map(one, buf, DataDirection::FromDevice)?;
            begin_cpu_access(&buf.0, CpuAccess::Write)?;
            end_cpu_access(&buf.0, CpuAccess::Write)?;
            let reader = map(two, buf, DataDirection::ToDevice)?;
            hands_over(&reader, b"cpu1", "a reader that comes")?;
            hands_over(&reader, b"cpu2", "and again")?;
            drop(writer);
            hands_over(&reader, b"cpu3", "and when the other has gone")?;
            let writer = map(one, buf, DataDirection::FromDevice)?;
            hands_over(&reader, b"cpu4", "and when one comes before it")?;
            hands_over(&reader, b"cpu5", "and again")?;
            drop(writer);
            hands_over(&reader, b"cpu6", "and when that has gone")
        })
    }

    /// A START leaves nothing clean behind while the kernel may write.
    #[test]
    fn start_follows_vmap() -> Result {
        on_each("start_follows_vmap", |buf, one, _| {
            let _mapping = map(one, buf, DataDirection::Bidirectional)?;
            let reads = || -> Result {
                begin_cpu_access(&buf.0, CpuAccess::Read)?;
                end_cpu_access(&buf.0, CpuAccess::Read)
            };
            while_vmapped(&buf.0, || ())?;
            reads()?;
            while_vmapped(&buf.0, || -> Result {
                reads()?;
                // It is mapped already, of which nobody hears again.
                poke(&buf.0, 0, b"cpu0")?;
                reads()?;
                check(peek(&buf.0, 0)? == *b"cpu0", "what it wrote is there")
            })?
        })
    }

    #[test]
    fn one_pass_serves_all_direct_devices() -> Result {
        on_each("one_pass_serves_all_direct_devices", |buf, one, two| {
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let _two = map(two, buf, DataDirection::Bidirectional)?;
            test_models::zero_counts();
            begin_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            end_cpu_access(&buf.0, CpuAccess::ReadWrite)?;
            let counts = test_models::counts();
            let direct = dma_buf::device::has_own_dma_ops(one.device());
            let passes = if direct { 2 } else { 1 };
            let bytes = (passes * SIZE) as u64;
            check(
                counts.clean_bytes + counts.to_bounce_bytes == bytes,
                "as many bytes to the devices as must be",
            )?;
            check(
                counts.invalidate_bytes + counts.from_bounce_bytes == bytes,
                "as many bytes to the CPU as must be",
            )
        })
    }

    #[test]
    fn ops_of_two_kinds_may_not_both_write() -> Result {
        let _model = CacheModel::start()?;
        let cache = ModelDevice::new(c"cohbuf_kunit_model_cache", ModelKind::Cache)?;
        let bounce = ModelDevice::new(c"cohbuf_kunit_model_bounce", ModelKind::Bounce)?;
        let buf = Tracked::new()?;
        let _first = map(&cache, &buf, DataDirection::FromDevice)?;
        check_err(
            map(&bounce, &buf, DataDirection::Bidirectional).map(drop),
            EBUSY,
            "map of a second kind that may write",
        )?;
        map(&bounce, &buf, DataDirection::ToDevice)?;
        Ok(())
    }

    #[test]
    fn start_and_unmap_beside_a_window() -> Result {
        on_each("start_and_unmap_beside_a_window", |buf, one, two| {
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let two = map(two, buf, DataDirection::Bidirectional)?;
            begin_cpu_access(&buf.0, CpuAccess::Write)?;
            poke(&buf.0, 0, b"cpu0")?;
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(
                peek(&buf.0, 0)? == *b"cpu0",
                "another START takes nothing away",
            )?;
            end_cpu_access(&buf.0, CpuAccess::Read)?;
            drop(one);
            check(peek(&buf.0, 0)? == *b"cpu0", "an unmap takes nothing away")?;
            end_cpu_access(&buf.0, CpuAccess::Write)?;
            check(
                sees(&two, 0)? == *b"cpu0",
                "the device that is left sees it",
            )
        })
    }

    #[test]
    fn device_never_sees_old_content() -> Result {
        on_each("device_never_sees_old_content", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            for offset in (0..SIZE).step_by(64) {
                check(sees(&mapping, offset)? == [0; 4], "new memory is zero")?;
            }
            mapping.device_write(0, b"dev0")?;
            test_models::evict();
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(peek(&buf.0, 0)? == *b"dev0", "no late zero goes over it")
        })
    }

    // The device writes while its fence is pending, and START must fetch after that.
    #[test]
    fn bytes_are_fetched_after_the_fence() -> Result {
        on_each("bytes_are_fetched_after_the_fence", |buf, one, _| {
            let mapping = map(one, buf, DataDirection::Bidirectional)?;
            let fence = TestFence::new()?;
            fence.add_to(&buf.0, true)?;
            let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
            let started = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
            let (of_task, done2, started2) = (buf.0.clone(), done.clone(), started.clone());
            workqueue::system().try_spawn(GFP_KERNEL, move || {
                started2.complete_all();
                let begun = begin_cpu_access(&of_task, CpuAccess::Read);
                if begun.is_err() {
                    pr_err!("check failed: START failed: {:?}\n", begun);
                }
                drop(of_task);
                done2.complete_all();
            })?;
            started.wait_for_completion();
            fsleep(Delta::from_millis(100));
            let written = mapping.device_write(0, b"dev0");
            fence.signal();
            done.wait_for_completion();
            written?;
            check(
                peek(&buf.0, 0)? == *b"dev0",
                "what was written before the fence is seen",
            )
        })
    }

    // A copy is moved as a whole, so that nobody is fetched while another device is at work: to take
    // one mapping away waits for the fences of the others.
    #[test]
    fn unmap_beside_a_device_at_work() -> Result {
        on_each("unmap_beside_a_device_at_work", |buf, one, two| {
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let two = map(two, buf, DataDirection::Bidirectional)?;
            one.device_write(0, b"one0")?;
            let work = Work::begin(buf)?;
            let copies = dma_buf::device::has_own_dma_ops(one.device());
            drop(one);
            // Where there is no copy nobody has to wait.
            let waited = work.is_done();
            drop(work);
            two.device_write(64, b"two0")?;
            check(waited || !copies, "an unmap goes over a device at work")?;
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(peek(&buf.0, 0)? == *b"one0", "the CPU sees the first")?;
            check(peek(&buf.0, 64)? == *b"two0", "and the second")
        })
    }

    // So does a map that makes it necessary to tell bytes apart.
    #[test]
    fn map_beside_a_device_at_work() -> Result {
        on_each("map_beside_a_device_at_work", |buf, one, two| {
            let one = map(one, buf, DataDirection::Bidirectional)?;
            let work = Work::begin(buf)?;
            let copies = dma_buf::device::has_own_dma_ops(one.device());
            let two = map(two, buf, DataDirection::Bidirectional);
            let waited = work.is_done();
            drop(work);
            let two = two?;
            check(waited || !copies, "a map goes over a device at work")?;
            one.device_write(0, b"one0")?;
            two.device_write(64, b"two0")?;
            begin_cpu_access(&buf.0, CpuAccess::Read)?;
            check(peek(&buf.0, 0)? == *b"one0", "the CPU sees the first")?;
            check(peek(&buf.0, 64)? == *b"two0", "and the second")
        })
    }

    #[test]
    fn kernel_mapping_is_cached_as_the_buffer_is() -> Result {
        check(
            Caching::can_write_combine(),
            "the kernel has write-combined memory",
        )?;
        for (kind, must) in [
            (Kind::Bracketed, MemoryType::WriteBack),
            (Kind::Coherent, MemoryType::WriteBack),
            (Kind::WriteCombine, MemoryType::WriteCombining),
        ] {
            let buf = export(kind)?;
            check(
                vmap_type(&buf)? == must,
                "vmap has the buffer's memory type",
            )?;
        }
        Ok(())
    }
}
