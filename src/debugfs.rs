// SPDX-License-Identifier: GPL-2.0

//! `cohbuf/buffers` in debugfs: a line for each buffer that lives.

use dma_buf::debugfs::Show;
use kernel::{
    fmt,
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use crate::{
    ioctl::create,
    live,
    stats::Stats, //
};

/// The file.
pub(crate) struct Buffers;

impl Show for Buffers {
    const DIR: &'static CStr = c"cohbuf";
    const NAME: &'static CStr = c"buffers";

    /// No buffer is locked for this, so that one that hangs is shown, too. The numbers of a line
    /// are exact each, and no snapshot together.
    fn show(to: &SeqFile) {
        seq_print!(
            to,
            "ino size segments flags attachments mappings write_windows cleaned invalidated \
             to_copies from_copies own_ops saved refused_attach refused_map outside_reads \
             outside_writes state\n"
        );
        live::for_each(|stats| seq_print!(to, "{}\n", Line(stats)));
    }
}

/// A buffer.
struct Line<'a>(&'a Stats);

impl fmt::Display for Line<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(self.0, to)
    }
}

fn line(stats: &Stats, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    let cost = stats.cost();
    write!(to, "{} {} {} ", stats.ino(), stats.size(), stats.segments())?;
    let mut words = 0;
    for (flag, name) in create::FLAGS {
        if create::flags_of(stats.purpose()) & flag != 0 {
            let separator = if words > 0 { "|" } else { "" };
            write!(to, "{separator}{name}")?;
            words += 1;
        }
    }
    if words == 0 {
        write!(to, "-")?;
    }
    write!(
        to,
        " {} {} {}",
        stats.attachments(),
        stats.mappings(),
        stats.write_windows()
    )?;
    write!(
        to,
        " {} {} {} {} {} {}",
        cost.cleaned, cost.invalidated, cost.to_copies, cost.from_copies, cost.own_ops, cost.saved
    )?;
    write!(
        to,
        " {} {} {} {} {}",
        stats.refused_attach(),
        stats.refused_map(),
        stats.outside_reads(),
        stats.outside_writes(),
        if stats.is_poisoned() {
            "poisoned"
        } else {
            "ok"
        }
    )
}
