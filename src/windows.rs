// SPDX-License-Identifier: GPL-2.0

//! The windows that are open: who has begun to access which region, and not ended.

use core::ops::Range;

use dma_buf::{
    address_space,
    trace, //
};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

#[cfg(doc)]
use crate::argument::*;
use crate::{
    policy::Access,
    region::{
        Region,
        MOST_ROWS, //
    },
    stats::Stats,
    tracing, //
};

/// What all windows of a buffer may be together, without those of the whole buffer: each makes the
/// others slower, under the reservation lock. An address space has half of it at most, so that it
/// needs another one to keep all others out.
const MOST: Load = Load {
    regions: 1024,
    rows: 2 * MOST_ROWS,
};
const MOST_OF_ONE: Load = Load {
    regions: MOST.regions / 2,
    rows: MOST.rows / 2,
};

/// What takes time.
#[derive(Copy, Clone)]
struct Load {
    /// Windows of different regions.
    regions: usize,
    /// Rows of these.
    rows: usize,
}

impl Load {
    /// Of these windows, and of one more of `region`.
    fn with<'a>(region: &Region, windows: impl Iterator<Item = &'a Window>, size: usize) -> Self {
        let whole = Region::whole(size);
        let mut load = Self {
            regions: 1,
            rows: region.height(),
        };
        for window in windows.filter(|window| window.region != whole) {
            load.regions += 1;
            load.rows += window.region.height();
        }
        load
    }

    fn fits(self, most: Self) -> bool {
        self.regions <= most.regions && self.rows <= most.rows
    }
}

/// Who opens a window, and ends it.
#[derive(Copy, Clone)]
pub(crate) enum By {
    /// The calling task, for its address space.
    Task,
    /// The kernel, for a copy.
    Copy(CopyId),
}

/// A copy by the kernel. No END of a task ends its window, which lets no task access anything.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct CopyId(u64);

impl CopyId {
    pub(crate) fn new() -> Self {
        static NEXT: Atomic<u64> = Atomic::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// Who looks for windows of their own.
#[derive(Copy, Clone)]
enum Who<'a> {
    Task(Option<&'a Mm>),
    Copy(CopyId),
}

impl By {
    /// Calls `f` with who that is now.
    fn with<R>(self, f: impl FnOnce(Who<'_>) -> R) -> R {
        match self {
            By::Task => with_current(|mm| f(Who::Task(mm))),
            By::Copy(id) => f(Who::Copy(id)),
        }
    }
}

/// Whose windows they are.
enum Whose {
    /// Of an address space. Threads share them: one may begin what another ends. [`None`]: of
    /// threads of the kernel.
    Task(Option<ARef<Mm>>),
    /// Of a copy, which ends its only one whatever happens.
    Copy(CopyId),
}

impl Whose {
    fn is(&self, who: Who<'_>) -> bool {
        match (self, who) {
            (Whose::Task(own), Who::Task(mm)) => {
                own.as_deref().map(Mm::as_raw) == mm.map(Mm::as_raw)
            }
            (Whose::Copy(own), Who::Copy(id)) => *own == id,
            (Whose::Task(_), Who::Copy(_)) | (Whose::Copy(_), Who::Task(_)) => false,
        }
    }
}

impl From<Who<'_>> for Whose {
    fn from(who: Who<'_>) -> Self {
        match who {
            Who::Task(mm) => Whose::Task(mm.map(ARef::from)),
            Who::Copy(id) => Whose::Copy(id),
        }
    }
}

/// Windows of one owner, of one region.
struct Window {
    whose: Whose,
    /// The thread group that has opened the first of that owner.
    tgid: c_int,
    region: Region,
    writes: bool,
    open: usize,
}

impl Window {
    fn event(&self, stats: &Stats) -> trace::Window {
        trace::Window {
            ino: stats.ino(),
            tgid: self.tgid,
            access: tracing::access(match self.writes {
                true => Access::Write,
                false => Access::Read,
            }),
            region: tracing::region(&self.region),
            open: u32::try_from(self.open).unwrap_or(u32::MAX),
        }
    }

    fn is(&self, who: Who<'_>, region: &Region, writes: bool) -> bool {
        self.writes == writes && self.whose.is(who) && self.region == *region
    }

    /// Whether the owner may end it still.
    fn lives(&self) -> bool {
        match &self.whose {
            Whose::Task(mm) => mm.as_deref().is_none_or(address_space::has_users),
            Whose::Copy(_) => true,
        }
    }

    /// How many of these are to write.
    fn writing(&self) -> usize {
        match self.writes {
            true => self.open,
            false => 0,
        }
    }
}

/// Windows that there is room for once there has been one: nobody waits for memory to open them.
const ROOM: usize = 8;

/// Who may open and close a window without the lock, see [`Quick`](crate::quick::Quick), or has
/// opened the only one with it.
struct Regular {
    mm: ARef<Mm>,
    tgid: c_int,
    /// With the lock, by [`Windows::open_only`].
    open: bool,
}

/// Whose window is to be the only one. Nobody opens another before it.
pub(crate) struct Only(ARef<Mm>);

/// The windows of a buffer.
///
/// All functions but those that say so are for when nobody opens or closes one without the lock:
/// [`Windows::forget_dead`] and [`Windows::forget_dead_but`] see to that. `stats` are those of the
/// buffer.
pub(crate) struct Windows {
    /// [`None`] until there is one: to drop an empty list costs as much as to free one.
    list: Option<KVec<Window>>,
    /// While there is, the list is empty, but has room. One that is open is in `writing`.
    regular: Option<Regular>,
    /// How many there are to write, all counted.
    writing: usize,
}

impl Windows {
    pub(crate) const fn new() -> Self {
        Self {
            list: None,
            regular: None,
            writing: 0,
        }
    }

    fn list(&self) -> &[Window] {
        self.list.as_deref().unwrap_or_default()
    }

    fn list_mut(&mut self) -> &mut KVec<Window> {
        self.list.get_or_insert_with(KVec::new)
    }

    /// Takes what is done without the lock back: whoever begins or ends from now on waits for it.
    /// [quick]
    fn take_back(&mut self, stats: &Stats) {
        let Some(Regular { mm, tgid, open }) = self.regular.take() else {
            stats.quick().stop();
            return;
        };
        // Who counts without the lock must not miss it.
        stats.set_write_windows(1);
        if stats.quick().stop() || open {
            let window = Window {
                whose: Whose::Task(Some(mm)),
                tgid,
                region: Region::whole(stats.size()),
                writes: true,
                open: 1,
            };
            // There is room.
            if self.list_mut().push_within_capacity(window).is_ok() {
                self.writing = 1;
            }
        }
        stats.set_write_windows(self.writing);
    }

    /// From now on windows may be opened and closed without the lock: by the owner of the only one,
    /// if that is `by`; by nobody, where there is none. Only where a window is all that
    /// there is to begin and to end. [quick]
    pub(crate) fn rest(&mut self, stats: &Stats, by: By) {
        let whole = Region::whole(stats.size());
        let is_regular = |window: &Window| {
            matches!(window.whose, Whose::Task(Some(_)))
                && window.open == 1
                && by.with(|who| window.is(who, &whole, true))
        };
        match self.list() {
            [] => stats.quick().allow_nobody(),
            [only] if is_regular(only) => {
                let Some(Window {
                    whose: Whose::Task(Some(mm)),
                    tgid,
                    ..
                }) = self.list_mut().pop()
                else {
                    return;
                };
                stats.quick().allow(&mm);
                self.regular = Some(Regular {
                    mm,
                    tgid,
                    open: false,
                });
                self.writing = 0;
                stats.set_write_windows(0);
            }
            _ => {}
        }
    }

    /// What [`Windows::open_only`] is for, where nobody has a window, or may open one without the
    /// lock, and there is room for one. A thread of the kernel gets none. [usual]
    #[inline]
    pub(crate) fn only(&self, stats: &Stats) -> Option<Only> {
        let has_room = |list: &KVec<Window>| list.is_empty() && list.capacity() > 0;
        if self.list.as_ref().is_some_and(has_room)
            && self.regular.is_none()
            && stats.quick().is_off()
        {
            return with_current(|mm| mm.map(|mm| Only(mm.into())));
        }
        None
    }

    /// Opens a window of the whole buffer, to write, of who has asked for it; no event tells of it.
    /// [usual]
    #[inline]
    pub(crate) fn open_only(&mut self, stats: &Stats, Only(mm): Only) {
        self.regular = Some(Regular {
            mm,
            tgid: trace::current_tgid(),
            open: true,
        });
        self.note_only(stats);
    }

    /// Whether there is that one alone, for the calling task to end. [usual]
    #[inline]
    pub(crate) fn has_only(&self) -> bool {
        let is_own = |of: &Regular| with_current(|mm| Some(of.mm.as_raw()) == mm.map(Mm::as_raw));
        self.regular
            .as_ref()
            .is_some_and(|of| of.open && is_own(of))
    }

    /// Ends it. [usual]
    #[inline]
    pub(crate) fn end_only(&mut self, stats: &Stats) {
        self.regular = None;
        self.note_only(stats);
    }

    fn note_only(&mut self, stats: &Stats) {
        self.writing = usize::from(self.regular.is_some());
        stats.set_write_windows(self.writing);
    }

    /// Whether there is any to write.
    pub(crate) fn any(&self) -> bool {
        debug_assert!(self.regular.is_none());
        self.writing > 0
    }

    /// How many there are to write.
    pub(crate) fn count(&self) -> usize {
        self.writing
    }

    /// The regions that the CPU owns; they may overlap.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &Region> + Clone {
        // Who has not called `forget_dead()` would miss the only one.
        debug_assert!(self.regular.is_none());
        self.list()
            .iter()
            .filter(|window| window.writes)
            .map(|window| &window.region)
    }

    /// Makes room for one more, so that [`Windows::open`] cannot fail. `size`: of the buffer.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - [`ENOSPC`] where there are too many; not for a window of the whole buffer.
    pub(crate) fn reserve(
        &mut self,
        by: By,
        region: &Region,
        access: Access,
        size: usize,
    ) -> Result {
        let list = self.list();
        let writes = access.writes();
        let is_there = by.with(|who| {
            if list.iter().any(|window| window.is(who, region, writes)) {
                return Ok(true);
            }
            if *region != Region::whole(size) {
                let own = list.iter().filter(|window| window.whose.is(who));
                if !Load::with(region, own, size).fits(MOST_OF_ONE)
                    || !Load::with(region, list.iter(), size).fits(MOST)
                {
                    return Err(ENOSPC);
                }
            }
            Ok(false)
        })?;
        let list = self.list_mut();
        if !is_there && list.len() == list.capacity() {
            list.reserve(1, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// Opens a window.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] where [`Windows::reserve`] was not called.
    pub(crate) fn open(
        &mut self,
        stats: &Stats,
        by: By,
        region: &Region,
        access: Access,
    ) -> Result {
        let writes = access.writes();
        by.with(|who| {
            let of_it = |window: &&mut Window| window.is(who, region, writes);
            let list = self.list_mut();
            if let Some(window) = list.iter_mut().find(of_it) {
                window.open += 1;
                trace::window_open(|| window.event(stats));
            } else {
                let before = list.iter().find(|window| window.whose.is(who));
                let window = Window {
                    tgid: before.map_or_else(trace::current_tgid, |window| window.tgid),
                    whose: who.into(),
                    region: *region,
                    writes,
                    open: 1,
                };
                list.push_within_capacity(window).map_err(|_| ENOMEM)?;
                if let Some(window) = list.last() {
                    trace::window_open(|| window.event(stats));
                }
            }
            self.writing += usize::from(writes);
            Ok(())
        })
    }

    /// Ends a window: one of that region, or, if the owner has none, all that lie in the region. Of
    /// a copy: its only one.
    pub(crate) fn end(&mut self, stats: &Stats, by: By, region: &Region, access: Access) {
        let writes = access.writes();
        by.with(|who| {
            let found = self.list().iter().position(|w| w.is(who, region, writes));
            match (who, found) {
                (Who::Copy(_), _) => self.close(stats, |window| window.whose.is(who)),
                (Who::Task(_), Some(at)) => {
                    self.writing -= usize::from(writes);
                    let window = &mut self.list_mut()[at];
                    window.open -= 1;
                    trace::window_close(|| window.event(stats));
                    if window.open == 0 {
                        self.remove(at);
                    }
                }
                (Who::Task(_), None) => self.close(stats, |window| {
                    window.writes == writes
                        && window.whose.is(who)
                        && region.contains(&window.region)
                }),
            }
        });
        self.shrink();
    }

    fn remove(&mut self, at: usize) {
        let list = self.list_mut();
        // It is there.
        if at + 1 == list.len() {
            list.truncate(at);
        } else {
            let _ = list.remove(at);
        }
    }

    /// Ends windows, all that are open of each.
    fn close(&mut self, stats: &Stats, ends: impl Fn(&Window) -> bool) {
        let Some(list) = &mut self.list else {
            return;
        };
        list.retain(|window| {
            let ends = ends(window);
            if ends {
                self.writing -= window.writing();
                window.open = 0;
                trace::window_close(|| window.event(stats));
            }
            !ends
        });
    }

    /// Many windows are no reason to keep their memory.
    fn shrink(&mut self) {
        let is_large = |list: &KVec<Window>| list.is_empty() && list.capacity() > ROOM;
        if self.list.as_ref().is_some_and(is_large) {
            self.list = None;
        }
    }

    /// Whether an address space has any to write.
    pub(crate) fn any_of(&self, mm: &Mm) -> bool {
        let who = Who::Task(Some(mm));
        self.list()
            .iter()
            .any(|window| window.writes && window.whose.is(who))
    }

    /// Whether an address space may access some of those bytes, by a window that has one of them.
    pub(crate) fn allows(&self, mm: &Mm, bytes: &Range<usize>, writes: bool) -> bool {
        let who = Who::Task(Some(mm));
        self.list().iter().any(|window| {
            (window.writes || !writes) && window.whose.is(who) && window.region.touches(bytes)
        })
    }

    /// Forgets those that nobody can end any more. Returns whether there were any to write.
    pub(crate) fn forget_dead(&mut self, stats: &Stats) -> bool {
        self.take_back(stats);
        self.keep(stats, Window::lives)
    }

    /// The same, but for those of `mm`.
    pub(crate) fn forget_dead_but(&mut self, stats: &Stats, mm: &Mm) -> bool {
        let who = Who::Task(Some(mm));
        self.take_back(stats);
        self.keep(stats, |window| window.whose.is(who) || window.lives())
    }

    /// Returns whether any of the others was to write.
    fn keep(&mut self, stats: &Stats, kept: impl Fn(&Window) -> bool) -> bool {
        let list = match &mut self.list {
            Some(list) if !list.iter().all(&kept) => list,
            _ => return false,
        };
        let before = self.writing;
        list.retain(|window| {
            let keeps = kept(window);
            if !keeps {
                self.writing -= window.writing();
                window.open = 0;
                trace::window_abandon(|| window.event(stats));
            }
            keeps
        });
        self.shrink();
        self.writing != before
    }
}

/// Calls `f` with the address space of the calling task.
fn with_current<R>(f: impl FnOnce(Option<&Mm>) -> R) -> R {
    let task = kernel::current!();
    f(task.mm().map(|mm| &**mm))
}
