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
        },
        Arc, //
    }, //
};

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

/// Windows of one region.
struct Window {
    region: Region,
    writes: bool,
    open: usize,
}

impl Window {
    fn event(&self, ino: c_ulong, tgid: c_int, open: usize) -> trace::Window {
        trace::Window {
            ino,
            tgid,
            access: tracing::access(match self.writes {
                true => Access::Write,
                false => Access::Read,
            }),
            region: tracing::region(&self.region),
            open: u32::try_from(open).unwrap_or(u32::MAX),
        }
    }

    fn is(&self, region: &Region, writes: bool) -> bool {
        self.region == *region && self.writes == writes
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
    fn is_of_task(&self, mm: Option<&Mm>) -> bool {
        match self {
            Whose::Task(own) => own.as_deref().map(Mm::as_raw) == mm.map(Mm::as_raw),
            Whose::Copy(_) => false,
        }
    }

    fn is(&self, by: By) -> bool {
        match (by, self) {
            (By::Task, _) => with_current(|mm| self.is_of_task(mm)),
            (By::Copy(id), Whose::Copy(own)) => id == *own,
            (By::Copy(_), Whose::Task(_)) => false,
        }
    }
}

impl From<By> for Whose {
    fn from(by: By) -> Self {
        match by {
            By::Task => Whose::Task(with_current(|mm| mm.map(ARef::from))),
            By::Copy(id) => Whose::Copy(id),
        }
    }
}

/// Windows of one owner.
struct Owner {
    whose: Whose,
    /// The thread group that has opened the first of them.
    tgid: c_int,
    windows: KVec<Window>,
}

impl Owner {
    fn writes(&self) -> bool {
        self.windows.iter().any(|window| window.writes)
    }

    /// Whether the owner may end its windows still.
    fn lives(&self) -> bool {
        match &self.whose {
            Whose::Task(mm) => mm.as_deref().is_none_or(address_space::has_users),
            Whose::Copy(_) => true,
        }
    }
}

/// The windows of a buffer.
pub(crate) struct Windows {
    owners: KVec<Owner>,
    /// Of the buffer that they are of.
    stats: Option<Arc<Stats>>,
}

impl Windows {
    /// Of no buffer.
    pub(crate) const fn new() -> Self {
        Self {
            owners: KVec::new(),
            stats: None,
        }
    }

    pub(crate) const fn of(stats: Arc<Stats>) -> Self {
        Self {
            owners: KVec::new(),
            stats: Some(stats),
        }
    }

    fn ino(&self) -> c_ulong {
        self.stats.as_ref().map_or(0, |stats| stats.ino())
    }

    fn writing(&self) -> impl Iterator<Item = &Window> + Clone {
        self.owners
            .iter()
            .flat_map(|owner| owner.windows.iter())
            .filter(|window| window.writes)
    }

    /// Whether there is any to write.
    pub(crate) fn any(&self) -> bool {
        self.writing().next().is_some()
    }

    /// How many there are to write.
    pub(crate) fn count(&self) -> usize {
        self.writing().map(|window| window.open).sum()
    }

    /// The regions that the CPU owns; they may overlap.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &Region> + Clone {
        self.writing().map(|window| &window.region)
    }

    fn owner(&mut self, by: By) -> Option<&mut Owner> {
        self.owners.iter_mut().find(|owner| owner.whose.is(by))
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
        let own = self.owner(by).map_or(&[][..], |owner| &owner.windows);
        if own.iter().any(|w| w.is(region, access.writes())) {
            return Ok(());
        }
        if *region != Region::whole(size) {
            let of_one = Load::with(region, own.iter(), size);
            let all = self.owners.iter().flat_map(|owner| owner.windows.iter());
            if !of_one.fits(MOST_OF_ONE) || !Load::with(region, all, size).fits(MOST) {
                return Err(ENOSPC);
            }
        }
        if let Some(owner) = self.owner(by) {
            return Ok(owner.windows.reserve(1, GFP_KERNEL_ACCOUNT)?);
        }
        self.owners.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let windows = KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?;
        Ok(self.owners.push_within_capacity(Owner {
            whose: by.into(),
            tgid: trace::current_tgid(),
            windows,
        })?)
    }

    /// Opens a window.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] where [`Windows::reserve`] was not called.
    pub(crate) fn open(&mut self, by: By, region: &Region, access: Access) -> Result {
        let writes = access.writes();
        let ino = self.ino();
        let owner = self.owner(by).ok_or(ENOMEM)?;
        let tgid = owner.tgid;
        let windows = &mut owner.windows;
        if let Some(window) = windows.iter_mut().find(|w| w.is(region, writes)) {
            window.open += 1;
            trace::window_open(|| window.event(ino, tgid, window.open));
            return Ok(());
        }
        let window = Window {
            region: *region,
            writes,
            open: 1,
        };
        trace::window_open(|| window.event(ino, tgid, 1));
        windows.push_within_capacity(window).map_err(|_| ENOMEM)
    }

    /// Ends a window: one of that region, or, if the owner has none, all that lie in the region. Of
    /// a copy: its only one.
    pub(crate) fn end(&mut self, by: By, region: &Region, access: Access) {
        let writes = access.writes();
        let ino = self.ino();
        let Some(owner) = self.owner(by) else {
            return;
        };
        let tgid = owner.tgid;
        let closed = |window: &Window| {
            trace::window_close(|| window.event(ino, tgid, window.open));
        };
        let own = &mut owner.windows;
        match (by, own.iter().position(|w| w.is(region, writes))) {
            (By::Copy(_), _) => own.retain(|window| {
                window.open = 0;
                closed(window);
                false
            }),
            (By::Task, Some(at)) => {
                own[at].open -= 1;
                closed(&own[at]);
                if own[at].open == 0 {
                    // It is there.
                    let _ = own.remove(at);
                }
            }
            (By::Task, None) => own.retain(|window| {
                if window.writes == writes && region.contains(&window.region) {
                    window.open = 0;
                    closed(window);
                }
                window.open > 0
            }),
        }
        self.owners.retain(|owner| !owner.windows.is_empty());
    }

    /// Whether an address space has any to write.
    pub(crate) fn any_of(&self, mm: &Mm) -> bool {
        self.owners
            .iter()
            .any(|owner| owner.whose.is_of_task(Some(mm)) && owner.writes())
    }

    /// Whether an address space may access some of those bytes, by a window that has one of them.
    pub(crate) fn allows(&self, mm: &Mm, bytes: &Range<usize>, writes: bool) -> bool {
        self.owners
            .iter()
            .filter(|owner| owner.whose.is_of_task(Some(mm)))
            .flat_map(|owner| owner.windows.iter())
            .any(|window| (window.writes || !writes) && window.region.touches(bytes))
    }

    /// Forgets those that nobody can end any more. Returns whether there were any to write.
    pub(crate) fn forget_dead(&mut self) -> bool {
        self.keep(|owner| owner.lives())
    }

    /// The same, but for those of `mm`.
    pub(crate) fn forget_dead_but(&mut self, mm: &Mm) -> bool {
        self.keep(|owner| owner.whose.is_of_task(Some(mm)) || owner.lives())
    }

    /// Returns whether any of the others was to write.
    fn keep(&mut self, kept: impl Fn(&Owner) -> bool) -> bool {
        let mut wrote = false;
        let ino = self.ino();
        self.owners.retain(|owner| {
            let keeps = kept(owner);
            wrote |= !keeps && owner.writes();
            if !keeps && trace::window_abandon_is_on() {
                for window in &owner.windows {
                    trace::window_abandon(|| window.event(ino, owner.tgid, 0));
                }
            }
            keeps
        });
        wrote
    }
}

/// Calls `f` with the address space of the calling task.
fn with_current<R>(f: impl FnOnce(Option<&Mm>) -> R) -> R {
    let task = kernel::current!();
    f(task.mm().map(|mm| &**mm))
}
