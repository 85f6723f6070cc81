// SPDX-License-Identifier: GPL-2.0

//! R10: CPU access by user space mappings that goes past `DMA_BUF_IOCTL_SYNC`.

use core::ops::Range;

use dma_buf::{
    notice_outside,
    trace,
    Fault,
    LockedMut,
    Verdict, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::{
    buffer::CohBuf,
    maintenance,
    policy::{
        judge,
        Enforce,
        Judgement, //
    },
    region::Region,
    stats::Stats, //
};

/// What a buffer enforces, and what came of it.
#[derive(Copy, Clone)]
pub(crate) struct Enforcement<'a> {
    stats: &'a Stats,
    strayed: &'a Atomic<bool>,
}

impl<'a> Enforcement<'a> {
    /// `strayed`: whether pages are mapped that no window allows. Changed under the reservation lock.
    pub(crate) fn new(stats: &'a Stats, strayed: &'a Atomic<bool>) -> Self {
        Self { stats, strayed }
    }

    fn mode(self) -> Enforce {
        self.stats.purpose().enforces
    }

    /// Whether windows say who may access what.
    pub(crate) fn is_on(self) -> bool {
        self.mode() != Enforce::Off
    }

    pub(crate) fn is_poisoned(self) -> bool {
        self.stats.is_poisoned()
    }

    /// Reads outside of a window.
    pub(crate) fn outside_reads(self) -> u64 {
        self.stats.outside_reads()
    }

    /// Writes outside of a window that says WRITE.
    pub(crate) fn outside_writes(self) -> u64 {
        self.stats.outside_writes()
    }

    /// For all that uses the buffer. Does not end what is there: see `COHBUF_ENFORCE_POISON`.
    ///
    /// Not for vmap: `dma_buf_vmap()` warns where an exporter refuses, and user space could have it
    /// do so. Who copies by a kernel mapping begins CPU access first.
    ///
    /// # Errors
    ///
    /// [`EIO`] where it is poisoned.
    pub(crate) fn check(self) -> Result {
        if self.is_poisoned() {
            return Err(EIO);
        }
        Ok(())
    }
}

/// Takes pages away from all mappings into user space, and remembers what was written by them.
fn zap(locked: &mut LockedMut<'_, '_, CohBuf>, bytes: Range<usize>) {
    maintenance::record_for_zap(locked, &bytes);
    locked.zap(bytes);
}

fn zap_all(locked: &mut LockedMut<'_, '_, CohBuf>) {
    let size = locked.buffer().pages().size();
    zap(locked, 0..size);
}

/// When a window opens, and when a mapping for a device comes or goes: what was reported once is
/// reported again.
pub(crate) fn recall(locked: &mut LockedMut<'_, '_, CohBuf>) {
    let strayed = locked.enforcement().strayed;
    if strayed.load(Relaxed) {
        strayed.store(false, Relaxed);
        zap_all(locked);
    }
}

/// When a window of `region` closes, before it is maintained: nobody writes it after that but by a
/// fault, which waits for the lock. Other windows get their pages back so.
pub(crate) fn close(locked: &mut LockedMut<'_, '_, CohBuf>, region: &Region) {
    if !locked.enforcement().is_on() {
        return;
    }
    if locked.enforcement().strayed.load(Relaxed) {
        recall(locked);
        return;
    }
    // With what lies between rows, which others may have mapped: one call instead of many.
    zap(locked, region.bounds());
}

/// Makes the buffer of no use to anybody. What importers have mapped stays.
pub(crate) fn poison(locked: &mut LockedMut<'_, '_, CohBuf>) {
    locked.enforcement().stats.poison();
    zap_all(locked);
}

/// A process accesses a page.
pub(crate) fn fault(locked: &mut LockedMut<'_, '_, CohBuf>, fault: &Fault<'_>) -> Verdict {
    let enforcement = locked.enforcement();
    if enforcement.is_poisoned() {
        return Verdict::Refuse;
    }
    let windows = &locked.state().windows;
    let may = |page: &Range<usize>, write| windows.allows(fault.mm(), page, write);
    let page = fault.page();
    match judge(
        enforcement.mode(),
        fault.is_write(),
        may(&page, false),
        may(&page, true),
    ) {
        Judgement::Read => Verdict::Read(alike(fault, |page| may(page, false) && !may(page, true))),
        Judgement::Write => Verdict::Write(alike(fault, |page| may(page, true))),
        Judgement::Report => {
            report(locked, fault, false);
            enforcement.strayed.store(true, Relaxed);
            // Alone, so that each page is reported.
            if fault.is_write() {
                Verdict::Write(page)
            } else {
                Verdict::Read(page)
            }
        }
        Judgement::Poison => {
            report(locked, fault, true);
            poison(locked);
            Verdict::Refuse
        }
    }
}

fn report(locked: &LockedMut<'_, '_, CohBuf>, fault: &Fault<'_>, poisons: bool) {
    let stats = locked.enforcement().stats;
    stats.outside(fault.is_write());
    trace::outside(stats.ino(), fault.page().start, fault.is_write(), poisons);
    notice_outside(locked.buffer(), fault);
}

/// The pages around that of the fault, up to the first on each side that is not like it.
fn alike(fault: &Fault<'_>, is: impl Fn(&Range<usize>) -> bool) -> Range<usize> {
    let (page, around) = (fault.page(), fault.around());
    let (mut start, mut end) = (page.start, page.end);
    while start > around.start && is(&(start - PAGE_SIZE..start)) {
        start -= PAGE_SIZE;
    }
    while end < around.end && is(&(end..end + PAGE_SIZE)) {
        end += PAGE_SIZE;
    }
    start..end
}
