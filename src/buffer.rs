// SPDX-License-Identifier: GPL-2.0

//! One buffer: carries out for the dma-buf core what the policy decides.

use dma_buf::{
    address_space,
    compat::EOPNOTSUPP,
    device::{
        has_own_dma_ops,
        notice_refused, //
    },
    interface::{
        Query,
        SyncFor, //
    },
    roll::Entry,
    trace::{
        self,
        Timer, //
    },
    Buffer,
    Caching,
    ClosedVma,
    CpuAccess,
    DmaBuf,
    Exporter,
    Fault,
    Fences,
    LockGuard,
    Locked,
    LockedMut,
    MapRequest,
    Mapping,
    Pages,
    Populate,
    SyncRequest,
    UnmapRequest,
    Verdict,
    WrittenPages, //
};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    device::Device,
    dma::DataDirection,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

use crate::{
    coherency,
    copies::Base,
    cost::Cost,
    enforcement::{
        self,
        Enforcement, //
    },
    fencing,
    importer::Importer,
    ioctl::create,
    maintenance,
    policy::{
        self,
        Access,
        Enforce,
        Kind,
        Reach,
        Refusal, //
    },
    region::Region,
    stats::Stats,
    tracing,
    windows::{
        By,
        CopyId, //
    }, //
};

/// What a buffer is made for; never changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) kind: Kind,
    /// `COHBUF_TRACK_DIRTY`
    pub(crate) tracks_dirty: bool,
    /// `COHBUF_ENFORCE_*`
    pub(crate) enforces: Enforce,
    /// `COHBUF_CONTIGUOUS`
    pub(crate) contiguous: bool,
}

/// What is known of a buffer besides its memory.
#[pin_data]
pub(crate) struct CohBuf {
    kind: Kind,
    #[pin]
    stats: Entry<Stats>,
    /// Whether pages are mapped that no window allows. Changed under the reservation lock.
    strayed: Atomic<bool>,
    /// Of the next attachment.
    next_number: Atomic<u32>,
}

impl CohBuf {
    /// Allocates a buffer of `size` bytes, a multiple of the page size, and exports it.
    ///
    /// # Errors
    ///
    /// As [`Pages::alloc`] and [`DmaBuf::export`].
    pub(crate) fn export(size: usize, made_for: Purpose, file_flags: u32) -> Result<ARef<DmaBuf>> {
        let caching = match made_for.kind {
            Kind::Bracketed | Kind::Coherent => Caching::WriteBack,
            Kind::WriteCombine => Caching::WriteCombine,
        };
        let pages = match made_for.contiguous {
            true => Pages::alloc_contiguous(size, caching)?,
            false => Pages::alloc(size, caching)?,
        };
        let segments = pages.chunks();
        let data = pin_init!(Self {
            kind: made_for.kind,
            stats <- Entry::new(Stats::new(made_for, size, segments)),
            strayed: Atomic::new(false),
            next_number: Atomic::new(1),
        });
        let written = match made_for.tracks_dirty {
            true => Some(KBox::new(WrittenPages::new(size)?, GFP_KERNEL_ACCOUNT)?),
            false => None,
        };
        DmaBuf::export(data, maintenance::State::new(written), pages, file_flags)
    }

    /// What it was made for; never changes.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Likewise.
    pub(crate) fn purpose(&self) -> Purpose {
        self.stats.purpose()
    }

    /// What has happened to it.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What came of access outside of windows.
    pub(crate) fn enforcement(&self) -> Enforcement<'_> {
        Enforcement::new(&self.stats, &self.strayed)
    }

    /// All of it.
    fn whole(buffer: Buffer<'_, Self>) -> Region {
        Region::whole(buffer.pages().size())
    }

    /// `begin_cpu_access` of a region by the calling task. Returns what it has cost.
    ///
    /// # Errors
    ///
    /// - [`ERESTARTSYS`] where a signal came.
    /// - [`ENOMEM`], [`ENOSPC`] where there is no room for a window.
    /// - [`EIO`] where the buffer is poisoned.
    ///
    /// Nothing has changed then.
    pub(crate) fn begin(
        buffer: Buffer<'_, Self>,
        access: CpuAccess,
        region: &Region,
    ) -> Result<Cost> {
        let mut seen = Seen::new();
        Self::begin_by(buffer, By::Task, access, region, &mut seen)?;
        Ok(seen.cost)
    }

    /// The same for a copy by the kernel.
    ///
    /// # Errors
    ///
    /// As [`CohBuf::begin`].
    pub(crate) fn begin_copy(
        buffer: Buffer<'_, Self>,
        copy: CopyId,
        access: CpuAccess,
        region: &Region,
    ) -> Result {
        Self::begin_by(buffer, By::Copy(copy), access, region, &mut Seen::new())
    }

    /// The same of the whole buffer, without the lock where that will do.
    ///
    /// # Errors
    ///
    /// As [`CohBuf::begin`].
    #[inline]
    fn begin_whole(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        if !trace::sync_is_on()
            && !trace::window_open_is_on()
            && buffer.is_fenceless()
            && buffer.stats.quick().begin(access.writes())
        {
            return Ok(());
        }
        Self::begin_whole_locked(buffer, access)
    }

    /// Apart from who does not come here, for whom there is nothing to save and to restore.
    #[cold]
    #[inline(never)]
    fn begin_whole_locked(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        if !Self::may_be_usual(buffer, access) {
            let whole = Self::whole(buffer);
            return Self::begin_by(buffer, By::Task, access, &whole, &mut Seen::new());
        }
        // What enforces nothing is never poisoned.
        let mut locked = match buffer.lock_after_fences(access) {
            Ok(locked) => locked,
            Err(e) => return Self::not_locked(buffer, access, 0, e),
        };
        if !Self::is_recorded() && maintenance::begin_usual(&mut locked.as_mut()) {
            return Ok(());
        }
        Self::begin_whole_unusual(locked, access)
    }

    /// A START or END has come to nothing.
    #[cold]
    #[inline(never)]
    fn not_locked(buffer: Buffer<'_, Self>, access: CpuAccess, half: u32, error: Error) -> Result {
        let (whole, result) = (Self::whole(buffer), Err(error));
        buffer.trace_sync(By::Task, access, half, &whole, &result, &Seen::new());
        result
    }

    #[cold]
    #[inline(never)]
    fn begin_whole_unusual(locked: LockGuard<'_, Self>, access: CpuAccess) -> Result {
        let buffer = locked.buffer();
        let (by, whole, seen) = (By::Task, Self::whole(buffer), &mut Seen::new());
        let result = Self::begin_locked(locked, by, access, &whole, seen);
        buffer.trace_sync(by, access, 0, &whole, &result, seen);
        result
    }

    /// Whether [`maintenance::begin_usual`] and [`maintenance::end_usual`] may do, if nobody hears
    /// of it: access outside of windows is not looked for.
    #[inline(always)]
    fn may_be_usual(buffer: Buffer<'_, Self>, access: CpuAccess) -> bool {
        buffer.kind == Kind::Bracketed
            && !buffer.enforcement().is_on()
            && access.writes()
            && buffer.is_writable()
    }

    /// Whether somebody hears of a START or END, or of windows.
    #[inline(always)]
    fn is_recorded() -> bool {
        trace::sync_is_on() || trace::window_open_is_on() || trace::window_close_is_on()
    }

    fn begin_by(
        buffer: Buffer<'_, Self>,
        by: By,
        access: CpuAccess,
        region: &Region,
        seen: &mut Seen,
    ) -> Result {
        let result = Self::try_begin(buffer, by, access, region, seen);
        buffer.trace_sync(by, access, 0, region, &result, seen);
        result
    }

    #[inline(always)]
    fn try_begin(
        buffer: Buffer<'_, Self>,
        by: By,
        access: CpuAccess,
        region: &Region,
        seen: &mut Seen,
    ) -> Result {
        buffer.enforcement().check()?;
        if buffer.kind != Kind::Bracketed && !buffer.enforcement().is_on() {
            // There are no windows, and nothing is maintained.
            return buffer.wait_fences(access);
        }
        // Fences first (R5): what is invalidated while a device still writes is stale again.
        let locked = buffer.lock_after_fences(access)?;
        Self::begin_locked(locked, by, access, region, seen)
    }

    fn begin_locked(
        mut locked: LockGuard<'_, Self>,
        by: By,
        access: CpuAccess,
        region: &Region,
        seen: &mut Seen,
    ) -> Result {
        let buffer = locked.buffer();
        if locked.state().maintains() && maintenance::is_contested(&locked) {
            // To tell bytes apart moves copies through the buffer: those that only read must be done
            // as well, whatever the CPU is up to. [merge]
            drop(locked);
            locked = buffer.lock_after_fences(Fences::All)?;
        }
        seen.timer = Timer::start(trace::sync_is_on());
        let mut locked = locked.as_mut();
        // It may have been poisoned meanwhile.
        buffer.enforcement().check()?;
        let access_to = Self::window_access(buffer, access);

        maintenance::forget_dead(&mut locked);
        let opens = (buffer.kind == Kind::Bracketed && access_to.writes())
            || (buffer.enforcement().is_on() && matches!(by, By::Task));
        if opens {
            // What can fail comes before what cannot be undone.
            let size = buffer.pages().size();
            let windows = &mut locked.state_mut().windows;
            windows.reserve(by, region, access_to, size)?;
        }
        maintenance::begin(&mut locked, region, &mut seen.cost);
        if opens {
            let windows = &mut locked.state_mut().windows;
            windows.open(buffer.stats(), by, region, access_to)?;
            maintenance::note_windows(&locked);
        }
        enforcement::recall(&mut locked);
        maintenance::rest(&mut locked, by);
        seen.note_windows(&locked);
        Ok(())
    }

    /// What a window is for. Who cannot map the buffer to write has none to write in.
    fn window_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Access {
        match buffer.is_writable() {
            true => access_of(access),
            false => Access::Read,
        }
    }

    /// `end_cpu_access` of a region. Returns what it has cost.
    ///
    /// # Errors
    ///
    /// - [`ERESTARTSYS`] where a signal came; nothing has changed then.
    /// - [`EIO`] where the buffer is poisoned. What the CPU has written is handed over all the
    ///   same, and the window is closed: importers go on.
    pub(crate) fn end(
        buffer: Buffer<'_, Self>,
        access: CpuAccess,
        region: &Region,
    ) -> Result<Cost> {
        let mut seen = Seen::new();
        Self::end_by_task(buffer, access, region, &mut seen)?;
        Ok(seen.cost)
    }

    fn end_by_task(
        buffer: Buffer<'_, Self>,
        access: CpuAccess,
        region: &Region,
        seen: &mut Seen,
    ) -> Result {
        let by = By::Task;
        let result = match buffer.ends_for_nothing() {
            true => Ok(()),
            false => buffer
                .lock()
                .map(|locked| Self::end_locked(locked, by, access, region, seen))
                .and_then(|()| buffer.enforcement().check()),
        };
        buffer.trace_sync(by, access, tracing::END, region, &result, seen);
        result
    }

    /// The same of the whole buffer, without the lock where that will do.
    ///
    /// # Errors
    ///
    /// As [`CohBuf::end`].
    #[inline]
    fn end_whole(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        if !trace::sync_is_on()
            && !trace::window_close_is_on()
            && buffer.stats.quick().end(access.writes())
        {
            return Ok(());
        }
        Self::end_whole_locked(buffer, access)
    }

    #[cold]
    #[inline(never)]
    fn end_whole_locked(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        if !Self::may_be_usual(buffer, access) {
            return Self::end_by_task(buffer, access, &Self::whole(buffer), &mut Seen::new());
        }
        let mut locked = match buffer.lock() {
            Ok(locked) => locked,
            Err(e) => return Self::not_locked(buffer, access, tracing::END, e),
        };
        if Self::is_recorded() || !maintenance::end_usual(&mut locked.as_mut()) {
            return Self::end_whole_unusual(locked, access);
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn end_whole_unusual(locked: LockGuard<'_, Self>, access: CpuAccess) -> Result {
        let buffer = locked.buffer();
        let (by, whole, seen) = (By::Task, Self::whole(buffer), &mut Seen::new());
        Self::end_locked(locked, by, access, &whole, seen);
        let result = buffer.enforcement().check();
        buffer.trace_sync(by, access, tracing::END, &whole, &result, seen);
        result
    }

    /// Ends what [`CohBuf::begin_copy`] has begun, signals or not.
    pub(crate) fn end_copy(
        buffer: Buffer<'_, Self>,
        copy: CopyId,
        access: CpuAccess,
        region: &Region,
    ) {
        let by = By::Copy(copy);
        let mut seen = Seen::new();
        if !buffer.ends_for_nothing() {
            let mut locked = buffer.lock_uninterruptible();
            if access.writes() {
                // No page table tells.
                let mut locked = locked.as_mut();
                region
                    .rows()
                    .for_each(|row| maintenance::add_written(&mut locked, &row));
            }
            Self::end_locked(locked, by, access, region, &mut seen);
        }
        buffer.trace_sync(by, access, tracing::END, region, &Ok(()), &seen);
    }

    /// Whether there is nothing to do for an END under the lock.
    fn ends_for_nothing(&self) -> bool {
        if self.kind == Kind::WriteCombine {
            dma_buf::write_barrier();
        }
        self.kind != Kind::Bracketed && !self.enforcement().is_on()
    }

    #[inline(always)]
    fn end_locked(
        mut locked: LockGuard<'_, Self>,
        by: By,
        access: CpuAccess,
        region: &Region,
        seen: &mut Seen,
    ) {
        seen.timer = Timer::start(trace::sync_is_on());
        let mut locked = locked.as_mut();
        maintenance::forget_dead(&mut locked);
        enforcement::close(&mut locked, region);
        maintenance::end(&mut locked, access_of(access), region, &mut seen.cost);
        if access.writes() || locked.enforcement().is_on() {
            let buffer = locked.buffer();
            let access = Self::window_access(buffer, access);
            let windows = &mut locked.state_mut().windows;
            windows.end(buffer.stats(), by, region, access);
            maintenance::note_windows(&locked);
        }
        maintenance::rest(&mut locked, by);
        seen.note_windows(&locked);
    }

    #[inline(always)]
    fn trace_sync(
        &self,
        by: By,
        access: CpuAccess,
        half: u32,
        region: &Region,
        result: &Result,
        seen: &Seen,
    ) {
        trace::sync(|| trace::Sync {
            ino: self.stats.ino(),
            flags: tracing::access(access_of(access)) | half,
            copy: matches!(by, By::Copy(_)),
            region: tracing::region(region),
            cost: tracing::cost(&seen.cost),
            windows: seen.windows.unwrap_or_else(|| self.stats.write_windows()),
            error: trace::errno(result),
            duration: seen.timer.nanos(),
        });
    }

    fn refuse(buffer: Buffer<'_, Self>, dev: &Device, refusal: Refusal) -> Failure {
        let reason = match refusal {
            Refusal::NotCoherent => c"coherent buffer, device is not DMA-coherent",
            Refusal::Snoops => c"write-combined buffer, device snoops a cached mapping of it",
            Refusal::Unknown => c"nobody maintains it, device has DMA ops of its own that may copy",
            Refusal::Bounced => c"nobody maintains it, mapping would be bounced",
            Refusal::Beside => {
                c"device has DMA ops of its own, and others may write the buffer now"
            }
        };
        notice_refused(dev, buffer, reason);
        let error = match refusal {
            Refusal::NotCoherent | Refusal::Snoops | Refusal::Unknown | Refusal::Bounced => {
                EOPNOTSUPP
            }
            Refusal::Beside => EBUSY,
        };
        Failure { error, reason }
    }

    /// # Errors
    ///
    /// Why it may not attach.
    fn may_attach(buffer: Buffer<'_, Self>, dev: &Device) -> Result<(), Failure> {
        buffer.enforcement().check()?;
        policy::attach(
            buffer.kind,
            coherency::is_dma_coherent(dev),
            has_own_dma_ops(dev),
            Caching::alias_stays_cached(),
        )
        .map_err(|refusal| {
            buffer.stats.attach_refused();
            Self::refuse(buffer, dev, refusal)
        })
    }

    fn try_map<'a>(request: &mut MapRequest<'a, Self>) -> Result<(Mapping<'a>, Base), Failure> {
        let buffer = request.buffer();
        buffer.enforcement().check()?;
        let refuse = |request: &MapRequest<'a, Self>, refusal| {
            buffer.stats.map_refused();
            Self::refuse(buffer, request.attachment().device(), refusal)
        };

        // Ask first: what is certain to be bounced need not be copied, nor fail for the want of
        // bounce buffers. Then look, as the answer does not cover an IOMMU.
        if request.would_bounce() {
            policy::map(buffer.kind, Reach::Bounced).map_err(|r| refuse(request, r))?;
        }
        // To map moves the bytes that the device is to see: whoever writes them must be done (R6).
        if request.attachment().data().autofence.is_on() {
            let fences = fencing::before_device(request.direction());
            request.locked().wait_fences(fences, true)?;
        }
        maintenance::forget_dead(&mut request.locked_mut());
        let mut mapping = request.map_again()?;
        mapping.set_number(request.attachment().data().number());
        let allowed = policy::map(buffer.kind, maintenance::reach_of(&mapping))
            .and_then(|()| maintenance::beside(request.locked(), &mapping));
        if let Err(refusal) = allowed {
            mapping.take_back();
            return Err(refuse(request, refusal));
        }
        match maintenance::mapped(&mut request.locked_mut(), &mapping) {
            Ok(base) => {
                enforcement::recall(&mut request.locked_mut());
                Ok((mapping, base))
            }
            Err(e) => {
                mapping.take_back();
                Err(e.into())
            }
        }
    }
}

/// What came of a START or END.
struct Seen {
    cost: Cost,
    /// Of the time under the lock: started when nothing is waited for any more. For the event.
    timer: Timer,
    /// Write windows, before others can change that. For the event.
    windows: Option<u32>,
}

impl Seen {
    #[inline(always)]
    fn new() -> Self {
        Self {
            cost: Cost::default(),
            timer: Timer::start(false),
            windows: None,
        }
    }

    #[inline(always)]
    fn note_windows(&mut self, locked: &Locked<'_, CohBuf>) {
        if trace::sync_is_on() {
            self.windows = Some(locked.stats.write_windows());
        }
    }
}

/// Why something is not done.
struct Failure {
    error: Error,
    /// Empty where it is no refusal.
    reason: &'static CStr,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, reason: c"" }
    }
}

impl Exporter for CohBuf {
    type OwnerModule = crate::LocalModule;
    type Attachment = Importer;
    type Mapping = Base;
    type State = maintenance::State;
    const NAME: &'static CStr = c"cohbuf";

    fn exported(buffer: Buffer<'_, Self>) {
        let stats = &buffer.stats;
        stats.set_ino(buffer.id());
        let flags = create::flags_of(stats.purpose());
        trace::create(stats.ino(), stats.size(), stats.segments(), flags);
        stats.enroll();
    }

    fn release(&self) {
        // First: of whom the event tells there is no line any more.
        self.stats.leave();
        trace::release(self.stats.ino());
    }

    fn attach(buffer: Buffer<'_, Self>, dev: &Device, dynamic: bool) -> Result<Importer> {
        let may = Self::may_attach(buffer, dev);
        // A dynamic importer does its own fencing (R6).
        let autofence = !dynamic;
        let (attachment, error, reason) = match &may {
            Ok(()) => (buffer.next_number.fetch_add(1, Relaxed), 0, c""),
            Err(Failure { error, reason }) => (0, error.to_errno(), *reason),
        };
        trace::attach(|| trace::Attach {
            ino: buffer.stats.ino(),
            attachment,
            dev,
            flags: tracing::attachment_flags(dev, autofence, dynamic),
            reason,
            error,
        });
        match may {
            Ok(()) => {
                buffer.stats.attached();
                Ok(Importer::new(attachment, autofence))
            }
            Err(failure) => Err(failure.error),
        }
    }

    fn detach(buffer: Buffer<'_, Self>, attachment: &Importer) {
        buffer.stats.detached();
        trace::detach(buffer.stats.ino(), attachment.number());
    }

    fn map<'a>(mut request: MapRequest<'a, Self>) -> Result<(Mapping<'a>, Base)> {
        let timer = Timer::start(trace::map_is_on());
        let before = trace::map_is_on().then(|| request.locked().stats.cost());
        let result = Self::try_map(&mut request);
        trace::map(|| {
            let (error, reason) = match &result {
                Ok(_) => (0, c""),
                Err(Failure { error, reason }) => (error.to_errno(), *reason),
            };
            let mapping = result.as_ref().ok().map(|(mapping, _)| mapping);
            trace::Mapped {
                ino: request.buffer().stats.ino(),
                attachment: request.attachment().data().number(),
                dev: request.attachment().device(),
                direction: request.direction(),
                reach: tracing::reach(mapping),
                segments: mapping.map_or(0, Mapping::segments),
                reason,
                error,
                cost: tracing::cost(&request.locked().stats.cost_since(before)),
                duration: timer.nanos(),
            }
        });
        if result.is_ok() {
            request.buffer().stats.mapped();
        }
        result.map_err(|failure| failure.error)
    }

    fn vmap(locked: &mut LockedMut<'_, '_, Self>) -> Result {
        maintenance::forget_dead(locked);
        maintenance::vmapped(locked)
    }

    fn unmap(request: &mut UnmapRequest<'_, Self>) {
        let timer = Timer::start(trace::unmap_is_on());
        let before = trace::unmap_is_on().then(|| request.locked().stats.cost());
        let direction = request.direction();
        let reach = tracing::reach(request.mapping());
        // What the device has in flight must end before its copy is fetched, and before the mapping
        // is gone. It cannot fail, so that no signal can stop it (R6).
        if let Some(dir) = direction {
            if request.attachment().data().autofence.is_on() {
                let _ = request
                    .locked()
                    .wait_fences(fencing::before_unmap(dir), false);
            }
        }
        maintenance::forget_dead(&mut request.locked_mut());
        maintenance::unmap(request);
        enforcement::recall(&mut request.locked_mut());
        request.locked().stats.unmapped();
        trace::unmap(|| trace::Mapped {
            ino: request.locked().stats.ino(),
            attachment: request.attachment().data().number(),
            dev: request.attachment().device(),
            direction: direction.unwrap_or(DataDirection::None),
            reach,
            segments: 0,
            reason: c"",
            error: 0,
            cost: tracing::cost(&request.locked().stats.cost_since(before)),
            duration: timer.nanos(),
        });
    }

    fn lost(locked: &mut LockedMut<'_, '_, Self>) {
        maintenance::lost(locked);
    }

    fn caught_up(
        locked: &mut LockedMut<'_, '_, Self>,
        number: u32,
        direction: DataDirection,
        timer: &Timer,
    ) {
        maintenance::caught_up(locked, number, direction, timer);
    }

    fn mmap(buffer: Buffer<'_, Self>) -> Result<Populate> {
        buffer.enforcement().check()?;
        Ok(match buffer.enforcement().is_on() {
            true => Populate::ByFault,
            false => Populate::AtMmap {
                recorded: buffer.purpose().tracks_dirty,
            },
        })
    }

    fn fault(locked: &mut LockedMut<'_, '_, Self>, fault: &Fault<'_>) -> Verdict {
        enforcement::fault(locked, fault)
    }

    fn vma_close(buffer: Buffer<'_, Self>, closed: ClosedVma<'_, Self>) {
        // Whoever has a window has opened it before it wrote by this mapping. Where writes are
        // tracked, no mapping goes between the steps of who records them.
        let mm = closed.mm();
        // Who is gone for good is not kept for the sake of windows that it could open.
        let leaves = buffer.stats.quick().is_of(mm) && !address_space::has_users(mm);
        if buffer.stats.write_windows() == 0 && !buffer.purpose().tracks_dirty && !leaves {
            return;
        }
        let mut locked = buffer.lock_uninterruptible();
        let mut locked = locked.as_mut();
        maintenance::add_written(&mut locked, closed.written());
        drop(closed);
        maintenance::forget_dead_but(&mut locked, mm);
        // A process that is killed leaves its windows open. What it wrote must not stay in the
        // caches, from where it could go over a device's data later; nor in a window that nobody
        // can end.
        if locked.state().windows.any_of(mm) {
            let whole = Self::whole(buffer);
            maintenance::end(&mut locked, Access::Write, &whole, &mut Cost::default());
            locked.state_mut().windows.forget_dead(buffer.stats());
            maintenance::note_windows(&locked);
        }
    }

    fn begin_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        Self::begin_whole(buffer, access)
    }

    fn end_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        Self::end_whole(buffer, access)
    }

    fn query(buffer: Buffer<'_, Self>) -> Query {
        Query {
            coherent: buffer.kind == Kind::Coherent,
            caching: buffer.pages().caching(),
        }
    }

    fn set_autofence(attachment: &Importer, autofence: bool) -> Result {
        attachment.autofence.set(autofence);
        Ok(())
    }

    fn sync_fences(request: &SyncRequest<'_, '_, Self>, whom: SyncFor) -> Option<Fences> {
        if maintenance::is_contested(request.locked()) {
            // Bytes are told apart, and no device may write meanwhile. [merge]
            return Some(Fences::All);
        }
        if !request.attachment().data().autofence.is_on() {
            return None;
        }
        match whom {
            SyncFor::Cpu => fencing::before_cpu(request.direction()),
            SyncFor::Device => Some(fencing::before_device(request.direction())),
        }
    }

    fn sync(request: &mut SyncRequest<'_, '_, Self>, whom: SyncFor) -> Result {
        let on = match whom {
            SyncFor::Cpu => trace::sync_for_cpu_is_on(),
            SyncFor::Device => trace::sync_for_device_is_on(),
        };
        let timer = Timer::start(on);
        let before = on.then(|| request.locked().stats.cost());
        let index = request.index();
        let poisoned = request.locked().enforcement().check();
        if poisoned.is_ok() {
            let mut locked = request.locked_mut();
            maintenance::forget_dead(&mut locked);
            match whom {
                SyncFor::Cpu => maintenance::sync_for_cpu(&mut locked, index),
                SyncFor::Device => maintenance::sync_for_device(&mut locked, index),
            }
        }
        let event = || trace::Mapped {
            ino: request.locked().stats.ino(),
            attachment: request.attachment().data().number(),
            dev: request.attachment().device(),
            direction: request.direction(),
            reach: tracing::reach(request.mapping()),
            segments: 0,
            reason: c"",
            error: trace::errno(&poisoned),
            cost: tracing::cost(&request.locked().stats.cost_since(before)),
            duration: timer.nanos(),
        };
        match whom {
            SyncFor::Cpu => trace::sync_for_cpu(event),
            SyncFor::Device => trace::sync_for_device(event),
        }
        poisoned
    }
}

fn access_of(access: CpuAccess) -> Access {
    match access {
        CpuAccess::Read => Access::Read,
        CpuAccess::Write => Access::Write,
        CpuAccess::ReadWrite => Access::ReadWrite,
    }
}
