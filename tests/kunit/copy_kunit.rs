// SPDX-License-Identifier: GPL-2.0

//! Copies from and to buffers of an exporter that fails where it is told to (R12): what is begun is
//! ended, with the right directions, and I/O memory.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_copy)]
mod tests {
    use dma_buf::{
        compat::EOPNOTSUPP,
        kunit_support::{
            PendingSignal,
            TestFence, //
        },
        test_exporter::{
            Calls,
            TestBuffer,
            BEGIN_FAILS,
            END_FAILS,
            END_INTERRUPTED,
            IO_MEMORY,
            NO_VMAP, //
        },
        DmaBuf,
    };
    use kernel::{
        fs::file::flags::{
            O_RDONLY,
            O_RDWR,
            O_WRONLY, //
        },
        prelude::*,
        time::{
            delay::fsleep,
            Delta, //
        },
        workqueue, //
    };

    use crate::{
        copy::copy,
        copy_plan::Request,
        fixture::*,
        policy::Kind,
        region::Layout, //
    };

    /// More than is copied between two looks at the signals.
    const LARGE: usize = 300_000;

    const NONE: Calls = Calls {
        begin_read: 0,
        begin_write: 0,
        begin_both: 0,
        end_read: 0,
        end_write: 0,
        end_both: 0,
        too_early: 0,
    };

    /// Of a source, and of a destination, of one copy.
    const READ: Calls = Calls {
        begin_read: 1,
        end_read: 1,
        ..NONE
    };
    const WRITTEN: Calls = Calls {
        begin_both: 1,
        end_both: 1,
        ..NONE
    };

    fn linear(src: usize, dst: usize, length: usize) -> Request {
        Request {
            layout: Layout::Linear,
            src_offset: src as u64,
            dst_offset: dst as u64,
            src_stride: 0,
            dst_stride: 0,
            length: length as u64,
            rows: 0,
        }
    }

    fn pattern(seed: u32) -> Result<KVVec<u8>> {
        let mut bytes = KVVec::with_capacity(LARGE, GFP_KERNEL)?;
        for n in 0..LARGE as u32 {
            let byte = (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 23) as u8;
            bytes.push(byte, GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    fn buffer(how: u32) -> Result<TestBuffer> {
        let buffer = TestBuffer::new(LARGE, how, O_RDWR)?;
        buffer.put(0, &pattern(how)?)?;
        Ok(buffer)
    }

    fn content(buffer: &TestBuffer) -> Result<KVVec<u8>> {
        let mut bytes = pattern(0)?;
        buffer.get(0, &mut bytes)?;
        Ok(bytes)
    }

    fn all(src: &TestBuffer, dst: &TestBuffer, request: &Request) -> Result {
        let done = copy(src.buf(), dst.buf(), request, 0)?;
        check(done == request.length, "all is copied")
    }

    #[test]
    fn each_side_is_begun_and_ended() -> Result {
        let (src, dst) = (buffer(0)?, buffer(0)?);
        let mut wanted = content(&dst)?;
        wanted[7..200_007].copy_from_slice(&content(&src)?[100..200_100]);
        all(&src, &dst, &linear(100, 7, 200_000))?;
        check(content(&dst)?[..] == wanted[..], "the bytes")?;
        check(src.calls() == READ, "the source is read")?;
        // Bytes beside those that are written stay as they are: it is read as well.
        check(
            dst.calls() == WRITTEN,
            "the destination is read and written",
        )
    }

    #[test]
    fn one_buffer_is_begun_once() -> Result {
        let one = buffer(0)?;
        let before = content(&one)?;
        let mut wanted = content(&one)?;
        wanted[7..200_007].copy_from_slice(&before[..200_000]);
        all(&one, &one, &linear(0, 7, 200_000))?;
        check(content(&one)?[..] == wanted[..], "the bytes")?;
        check(one.calls() == WRITTEN, "both sides are one")
    }

    #[test]
    fn no_way_into_the_kernel() -> Result {
        let (with, without) = (buffer(0)?, buffer(NO_VMAP)?);
        let request = linear(0, 0, 16);
        for (src, dst) in [(&with, &without), (&without, &with)] {
            check_err(
                copy(src.buf(), dst.buf(), &request, 0),
                EOPNOTSUPP,
                "an exporter without vmap",
            )?;
        }
        check(with.calls() == NONE && without.calls() == NONE, "no begin")
    }

    #[test]
    fn who_may_not() -> Result {
        let some = buffer(0)?;
        let write_only = TestBuffer::new(LARGE, 0, O_WRONLY)?;
        let read_only = TestBuffer::new(LARGE, 0, O_RDONLY)?;
        let request = linear(0, 0, 16);
        check_err(
            copy(write_only.buf(), some.buf(), &request, 0),
            EACCES,
            "from a write-only buffer",
        )?;
        check_err(
            copy(some.buf(), read_only.buf(), &request, 0),
            EACCES,
            "to a read-only buffer",
        )?;
        check(some.calls() == NONE, "no begin")?;
        all(&some, &write_only, &request)?;
        all(&read_only, &some, &request)
    }

    #[test]
    fn begin_that_fails() -> Result {
        let (good, bad) = (buffer(0)?, buffer(BEGIN_FAILS)?);
        let before = content(&bad)?;
        let request = linear(0, 0, 16);
        check_err(
            copy(good.buf(), bad.buf(), &request, 0),
            ENODEV,
            "begin of the destination",
        )?;
        check(good.calls() == READ, "what was begun is ended")?;
        check(
            bad.calls()
                == Calls {
                    begin_both: 1,
                    ..NONE
                },
            "what was not begun is not ended",
        )?;
        check(content(&bad)?[..] == before[..], "nothing is copied")?;

        check_err(
            copy(bad.buf(), good.buf(), &request, 0),
            ENODEV,
            "begin of the source",
        )?;
        check(good.calls() == READ, "the destination is not begun")
    }

    // Never restarted: something has been done.
    #[test]
    fn end_that_fails() -> Result {
        let request = linear(3, 5, 16);
        for (from, to) in [(0, END_FAILS), (END_FAILS, 0), (END_FAILS, END_FAILS)] {
            let (src, dst) = (buffer(from)?, buffer(to)?);
            check_err(
                copy(src.buf(), dst.buf(), &request, 0),
                EINTR,
                "an end that fails",
            )?;
            check(src.calls() == READ, "the source is ended")?;
            check(dst.calls() == WRITTEN, "the destination is ended")?;
            check(
                content(&dst)?[5..21] == content(&src)?[3..19],
                "what was copied is there",
            )?;
        }
        Ok(())
    }

    // A signal stops the copy, not the end of CPU access.
    #[test]
    fn signal_stops_the_copy_alone() -> Result {
        let length = LARGE - 7;
        for (from, to) in [(0, 7), (7, 0)] {
            let one = buffer(END_INTERRUPTED)?;
            let before = content(&one)?;
            let request = linear(from, to, length);
            let done = {
                let _signal = PendingSignal::new();
                copy(one.buf(), one.buf(), &request, 0)?
            };
            check(done > 0 && done < length as u64, "it has copied a part")?;
            check(one.calls() == WRITTEN, "and ended CPU access")?;
            let done = copy(one.buf(), one.buf(), &request, done)?;
            check(done == length as u64, "it goes on")?;
            check(
                content(&one)?[to..to + length] == before[from..from + length],
                "and comes to the right end",
            )?;
        }
        Ok(())
    }

    #[test]
    fn signal_stops_all_or_nothing() -> Result {
        let one = buffer(END_INTERRUPTED)?;
        let before = content(&one)?;
        let request = Request {
            layout: Layout::Rows,
            src_stride: 1000,
            dst_stride: 999,
            rows: 290,
            ..linear(0, 5, 900)
        };
        let interrupted = {
            let _signal = PendingSignal::new();
            copy(one.buf(), one.buf(), &request, 0)
        };
        check_err(interrupted, ERESTARTSYS, "a signal while it reads")?;
        check(one.calls() == WRITTEN, "CPU access is ended")?;
        check(content(&one)?[..] == before[..], "nothing is copied")?;

        check(
            copy(one.buf(), one.buf(), &request, 0)? == 290 * 900,
            "all is copied",
        )?;
        let after = content(&one)?;
        for row in 0..290 {
            let (from, to) = (row * 1000, 5 + row * 999);
            check(
                after[to..to + 900] == before[from..from + 900],
                "the bytes of a row",
            )?;
        }
        Ok(())
    }

    #[test]
    fn io_memory() -> Result {
        for (from, to) in [(IO_MEMORY, 0), (0, IO_MEMORY), (IO_MEMORY, IO_MEMORY)] {
            let (src, dst) = (buffer(from)?, buffer(to)?);
            dst.put(0, &pattern(77)?)?;
            let mut wanted = content(&dst)?;
            wanted[7..200_007].copy_from_slice(&content(&src)?[100..200_100]);
            all(&src, &dst, &linear(100, 7, 200_000))?;
            check(content(&dst)?[..] == wanted[..], "between two buffers")?;
        }
        for (from, to) in [(0, 7), (7, 0), (0, 257), (257, 0), (5, 5)] {
            let one = buffer(IO_MEMORY)?;
            let before = content(&one)?;
            let mut wanted = content(&one)?;
            wanted[to..to + 200_000].copy_from_slice(&before[from..from + 200_000]);
            all(&one, &one, &linear(from, to, 200_000))?;
            check(content(&one)?[..] == wanted[..], "inside of one buffer")?;
        }
        // By way of a scratch.
        let one = buffer(IO_MEMORY)?;
        let before = content(&one)?;
        let request = Request {
            layout: Layout::Rows,
            src_stride: 300,
            dst_stride: 301,
            rows: 10,
            ..linear(0, 5, 300)
        };
        copy(one.buf(), one.buf(), &request, 0)?;
        for row in 0..10 {
            let (from, to) = (row * 300, 5 + row * 301);
            check(
                content(&one)?[to..to + 300] == before[from..from + 300],
                "with two strides",
            )?;
        }
        Ok(())
    }

    /// Copies while a fence is pending that another task signals.
    fn fence_is_waited_for(of: &TestBuffer, write: bool, src: &DmaBuf, dst: &DmaBuf) -> Result {
        let fence = TestFence::new()?;
        fence.add_to(of.buf(), write)?;
        workqueue::system().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(100));
            fence.signal();
        })?;
        copy(src, dst, &linear(0, 0, 16), 0)?;
        check(of.calls().too_early == 0, "begun with a fence pending")
    }

    // The core waits as well, but after the exporter has maintained.
    #[test]
    fn fences_come_before_begin() -> Result {
        let (foreign, ours) = (buffer(0)?, export(Kind::Bracketed)?);
        fence_is_waited_for(&foreign, true, foreign.buf(), &ours)?;
        fence_is_waited_for(&foreign, true, &ours, foreign.buf())?;
        fence_is_waited_for(&foreign, false, &ours, foreign.buf())?;
        check(
            foreign.calls()
                == Calls {
                    begin_both: 2,
                    end_both: 2,
                    ..READ
                },
            "three copies",
        )
    }

    // That of the destination is waited for before the source is begun.
    #[test]
    fn fences_of_both_come_before_any_begin() -> Result {
        let (src, dst) = (buffer(0)?, buffer(0)?);
        let fence = TestFence::new()?;
        fence.add_to(dst.buf(), true)?;
        let interrupted = {
            let _signal = PendingSignal::new();
            copy(src.buf(), dst.buf(), &linear(0, 0, 16), 0)
        };
        check_err(interrupted, ERESTARTSYS, "a signal while it waits")?;
        check(src.calls() == NONE && dst.calls() == NONE, "no begin")?;
        fence.signal();
        all(&src, &dst, &linear(0, 0, 16))
    }
}
