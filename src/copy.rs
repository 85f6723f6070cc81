// SPDX-License-Identifier: GPL-2.0

//! Copies by the CPU between dma-bufs of any exporters (R12).

use core::ptr;

use dma_buf::{
    compat::EOPNOTSUPP,
    cpu_access::{
        cond_resched,
        fatal_signal_pending,
        Bracket,
        CoreBracket,
        KernelMapping,
        Reader,
        Scratch,
        Writer, //
    },
    trace::{
        self,
        Timer, //
    },
    Buffer,
    CpuAccess,
    DmaBuf,
    Look, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    buffer::CohBuf,
    copy_plan::{
        Order,
        Piece,
        Plan,
        Request, //
    },
    region::Region,
    windows::CopyId, //
};

/// Bytes between two looks at the signals and at who else wants the CPU.
const BATCH: usize = 64 << 10;

/// What a piece takes besides its bytes, in bytes.
const PIECE: usize = 64;

/// Copies what `request` says, but for the `done` bytes that earlier calls have copied. Returns how
/// many there are now, which is more, unless all were.
///
/// # Errors
///
/// See `struct cohbuf_copy`.
pub(crate) fn copy(src: &DmaBuf, dst: &DmaBuf, request: &Request, done: u64) -> Result<u64> {
    let timer = Timer::start(trace::copy_is_on());
    let result = try_copy(src, dst, request, done);
    trace::copy(|| trace::Copy {
        src: src.id(),
        dst: dst.id(),
        bytes: result.as_ref().map_or(0, |now| now - done),
        error: trace::errno(&result),
        duration: timer.nanos(),
    });
    result
}

fn try_copy(src: &DmaBuf, dst: &DmaBuf, request: &Request, done: u64) -> Result<u64> {
    if !src.is_readable() || !dst.is_writable() {
        return Err(EACCES);
    }
    let same = ptr::eq(src, dst);
    let plan = request
        .plan(src.size(), dst.size(), same)
        .map_err(|_| EINVAL)?;
    let done = usize::try_from(done).map_err(|_| EINVAL)?;
    let left = plan.bytes().checked_sub(done).ok_or(EINVAL)?;
    if !src.can_vmap() || !dst.can_vmap() {
        return Err(EOPNOTSUPP);
    }
    let scratch = match plan.order() {
        Order::Staged => Some(Scratch::new(left)?),
        Order::Forward | Order::Backward => None,
    };

    // Of both before either is begun: nothing is fetched while a device is at work.
    wait_fences(dst, CpuAccess::ReadWrite)?;
    wait_fences(src, CpuAccess::Read)?;
    let (from, to) = sides(src, dst, &plan)?;
    let from = Reader::begin(src, from)?;
    let mut to = Writer::begin(dst, to)?;
    let copied = match scratch {
        Some(mut scratch) => staged(&plan, done, &from, &mut to, &mut scratch),
        None => run(&plan, done, true, |_, piece| {
            to.copy(piece.dst, &from, piece.src, piece.len)
        }),
    };
    // Each is ended, and the writer first: the end of a read may drop lines.
    let written = to.end();
    let read = from.end();
    let done = copied?;
    written.and(read).map_err(|e| {
        // Not to be restarted: something has been done.
        if e == ERESTARTSYS {
            EINTR
        } else {
            e
        }
    })?;
    Ok(done as u64)
}

fn wait_fences(buf: &DmaBuf, access: CpuAccess) -> Result {
    match buf.exported_by::<CohBuf>() {
        Some(buffer) => buffer.wait_fences(access),
        None => buf.wait_fences(access),
    }
}

/// Goes from piece to piece, until all is done or, if `interruptible`, a signal is pending. There is
/// always some progress. Returns the bytes that are done.
fn run(
    plan: &Plan,
    mut done: usize,
    interruptible: bool,
    mut each: impl FnMut(usize, Piece) -> Result,
) -> Result<usize> {
    loop {
        let mut budget = BATCH;
        while budget > 0 {
            let Some(piece) = plan.piece(done, budget) else {
                return Ok(done);
            };
            each(done, piece)?;
            done += piece.len;
            budget = budget.saturating_sub(piece.len + PIECE);
        }
        cond_resched();
        let stop = match interruptible {
            true => kernel::current!().signal_pending(),
            // Nobody is left to see the rest.
            false => fatal_signal_pending(),
        };
        if stop && done < plan.bytes() {
            return Ok(done);
        }
    }
}

/// All or nothing, by way of a scratch that has room for what is left.
fn staged<A: Bracket, B: Bracket>(
    plan: &Plan,
    done: usize,
    from: &Reader<'_, A>,
    to: &mut Writer<'_, B>,
    scratch: &mut Scratch,
) -> Result<usize> {
    let read = run(plan, done, true, |now, piece| {
        from.read(piece.src, scratch, now - done, piece.len)
    })?;
    if read < plan.bytes() {
        return Err(ERESTARTSYS);
    }
    // A part would be worse than none: its source may be gone.
    run(plan, done, false, |now, piece| {
        to.write(piece.dst, scratch, now - done, piece.len)
    })
}

/// How CPU access to one side is begun and ended.
enum Side<'a> {
    /// By cohbuf, for the lines of the region alone. Not more than that is mapped, as page tables
    /// are nobody's: a small copy has small ones, whatever the size of the buffer.
    Ours {
        buffer: Buffer<'a, CohBuf>,
        id: CopyId,
        region: Region,
        mapping: Arc<KernelMapping>,
        /// The mapping of one that reads is no window: what is unmapped meanwhile is seen at once.
        _look: Look<'a, CohBuf>,
    },
    /// By the core, which asks the exporter.
    Foreign,
    /// By that of the other side, as both are one buffer.
    Shared,
}

/// The side to read, and the one to write.
///
/// # Errors
///
/// - [`ENOMEM`].
/// - [`ERESTARTSYS`] where a signal came.
fn sides<'a>(src: &'a DmaBuf, dst: &'a DmaBuf, plan: &Plan) -> Result<(Side<'a>, Side<'a>)> {
    let (read, written) = (plan.src().bounds(), plan.dst().bounds());
    let side = |buffer: Buffer<'a, CohBuf>, region: &Region, mapping| -> Result<Side<'a>> {
        Ok(Side::Ours {
            buffer,
            id: CopyId::new(),
            region: region.walkable(),
            mapping,
            _look: buffer.look()?,
        })
    };
    let ours = |buf: &'a DmaBuf| buf.exported_by::<CohBuf>();
    let map = |of: Buffer<'_, CohBuf>, bytes| -> Result<Arc<KernelMapping>> {
        Ok(Arc::new(KernelMapping::new(of, bytes)?, GFP_KERNEL)?)
    };
    if ptr::eq(src, dst) {
        let Some(of) = ours(dst) else {
            return Ok((Side::Shared, Side::Foreign));
        };
        let both = read.start.min(written.start)..read.end.max(written.end);
        let mapping = map(of, both)?;
        return Ok((
            side(of, plan.src(), mapping.clone())?,
            side(of, plan.dst(), mapping)?,
        ));
    }
    let one = |buf, region: &Region| -> Result<Side<'a>> {
        match ours(buf) {
            Some(of) => side(of, region, map(of, region.bounds())?),
            None => Ok(Side::Foreign),
        }
    };
    Ok((one(src, plan.src())?, one(dst, plan.dst())?))
}

impl Bracket for Side<'_> {
    fn begin(&self, buf: &DmaBuf, access: CpuAccess) -> Result {
        match self {
            Side::Ours {
                buffer, id, region, ..
            } => CohBuf::begin_copy(*buffer, *id, access, region),
            Side::Foreign => CoreBracket.begin(buf, access),
            Side::Shared => Ok(()),
        }
    }

    fn end(&self, buf: &DmaBuf, access: CpuAccess) -> Result {
        match self {
            Side::Ours {
                buffer, id, region, ..
            } => {
                CohBuf::end_copy(*buffer, *id, access, region);
                Ok(())
            }
            Side::Foreign => CoreBracket.end(buf, access),
            Side::Shared => Ok(()),
        }
    }

    fn mapping(&self) -> Option<&Arc<KernelMapping>> {
        match self {
            // It knows the region.
            Side::Ours { mapping, .. } => Some(mapping),
            Side::Foreign | Side::Shared => None,
        }
    }
}
