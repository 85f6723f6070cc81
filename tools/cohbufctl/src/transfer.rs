// SPDX-License-Identifier: GPL-2.0

//! `sync` and `copy`.

use cohbuf::{Access, Buffer, CopyRegion, Device, Errno, Region, SyncCost};
use serde_json::{Value, json};

use crate::cli::{self, CopyArgs, RegionArgs, SyncArgs};
use crate::error::Result;
use crate::fds;
use crate::progress::Progress;
use crate::show::{Look, note, show};

/// A window belongs to a process, so that START and END are one command.
pub(crate) fn sync(args: &SyncArgs, look: Look) -> Result<()> {
    let fd = fds::open(args.buffer.fd, args.buffer.pid)?;
    let device = Device::open()?;
    let access = match args.access {
        cli::Access::Read => Access::Read,
        cli::Access::Write => Access::Write,
        cli::Access::ReadWrite => Access::ReadWrite,
    };
    let region = region(&args.region);
    let window = device.cpu_access_region(&fd, access, region);
    if region == Region::Whole
        && matches!(&window, Err(error) if error.errno() == Errno::MEDIUMTYPE)
    {
        drop(window);
        Buffer::try_from(fd)?.cpu_access(access)?.end()?;
        note("the dma-buf is of another exporter, which does not say what that costs");
        return show(look, &json!({ "begin": null, "end": null }));
    }
    let window = window?;
    let begin = window.begin_cost();
    let end = window.end()?;
    show(look, &json!({ "begin": cost(begin), "end": cost(end) }))
}

pub(crate) fn region(args: &RegionArgs) -> Region {
    let offset = args.offset;
    match (args.length, args.stride, args.rows) {
        (Some(length), Some(stride), Some(rows)) => Region::Rows {
            offset,
            length,
            stride,
            rows,
        },
        (Some(length), ..) => Region::Linear { offset, length },
        (None, ..) => Region::Whole,
    }
}

fn cost(cost: SyncCost) -> Value {
    json!({
        "cleaned": cost.cleaned,
        "invalidated": cost.invalidated,
        "to_copies": cost.to_copies,
        "from_copies": cost.from_copies,
        "own_ops": cost.own_ops,
        "saved": cost.saved,
    })
}

pub(crate) fn copy(args: &CopyArgs, look: Look) -> Result<()> {
    let src = fds::open(args.src, args.src_pid)?;
    let dst = fds::open(args.dst, args.dst_pid)?;
    let device = Device::open()?;
    let progress = Progress::spinner("copying");
    let copied = device.copy(&src, &dst, copy_region(args))?;
    progress.done();
    show(look, &json!({ "copied": copied }))
}

fn copy_region(args: &CopyArgs) -> CopyRegion {
    let (src_offset, dst_offset) = (args.src_offset, args.dst_offset);
    match (args.length, args.src_stride, args.dst_stride, args.rows) {
        (Some(length), Some(src_stride), Some(dst_stride), Some(rows)) => CopyRegion::Rows {
            src_offset,
            dst_offset,
            src_stride,
            dst_stride,
            length,
            rows,
        },
        (Some(length), ..) => CopyRegion::Linear {
            src_offset,
            dst_offset,
            length,
        },
        (None, ..) => CopyRegion::Whole,
    }
}
