// SPDX-License-Identifier: GPL-2.0

//! `cohbuf/buffers` in debugfs: a line for each buffer that lives.

use dma_buf::cpu_access::cond_resched;
use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    fmt,
    prelude::*, //
};

use crate::{
    ioctl::create,
    live,
    stats::Stats, //
};

/// The file. It is gone when this is dropped.
pub(crate) type Buffers = File<()>;

/// Makes it. A kernel without debugfs does without.
pub(crate) fn buffers<'a>(dir: &'a Dir) -> impl PinInit<Buffers> + 'a {
    dir.read_callback_file(c"buffers", (), &show)
}

/// No buffer is locked for this, so that one that hangs is shown, too. The numbers of a line are
/// exact each, and no snapshot together.
fn show(_: &(), to: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        to,
        "ino size segments flags attachments mappings write_windows cleaned invalidated to_copies \
         from_copies own_ops saved refused_attach refused_map outside_reads outside_writes state"
    )?;
    let mut number = 0;
    while let Some((at, stats)) = live::at(number) {
        line(&stats, to)?;
        number = at + 1;
        cond_resched();
    }
    Ok(())
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
    writeln!(
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
