// SPDX-License-Identifier: GPL-2.0

//! The exporter's side: the trait, what its callbacks see, and the table of ops behind it.

use core::{
    any::TypeId,
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of,
    ops::{
        Deref,
        Range, //
    }, //
};

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    device::Device,
    dma::DataDirection,
    error::{
        from_result,
        to_result, //
    },
    mm::Mm,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    pr_warn_once,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
    types::NotThreadSafe,
    ModuleMetadata, //
};
use pin_init::Wrapper;

use crate::{
    bindings,
    buf::DmaBuf,
    compat::EOPNOTSUPP,
    device,
    direction::{
        self,
        CpuAccess, //
    },
    fault::{
        self,
        Fault,
        Populate,
        Verdict, //
    },
    fences::Fences,
    interface::{
        Interface,
        Query,
        SyncFor, //
    },
    pages::Pages,
    sg_table::{
        self,
        Kept,
        LastLayout,
        Mapping,
        Reach, //
    },
    trace::{
        self,
        Timer, //
    },
    vmap::Vmapped, //
};

/// The data of one exported buffer, and what to do with it.
///
/// Callbacks may run at the same time for one buffer, except for those that get a [`Locked`].
///
/// # Examples
///
/// An exporter that takes everybody, and leaves maintenance to map and unmap:
///
/// ```ignore
/// struct Plain;
///
/// impl Exporter for Plain {
///     type OwnerModule = crate::LocalModule;
///     type Attachment = ();
///     type Mapping = ();
///     type State = ();
///     const NAME: &'static CStr = c"plain";
///
///     fn attach(_: Buffer<'_, Self>, _: &Device, _dynamic: bool) -> Result {
///         Ok(())
///     }
///
///     fn map<'a>(request: MapRequest<'a, Self>) -> Result<(Mapping<'a>, ())> {
///         Ok((request.map()?, ()))
///     }
///
///     fn begin_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
///         let locked = buffer.lock_after_fences(access)?;
///         locked.mappings().for_each(|(mapping, _)| mapping.sync_for_cpu());
///         Ok(())
///     }
///
///     fn end_cpu_access(buffer: Buffer<'_, Self>, _: CpuAccess) -> Result {
///         let locked = buffer.lock()?;
///         locked.mappings().for_each(|(mapping, _)| mapping.sync_for_device());
///         Ok(())
///     }
/// }
///
/// let pages = Pages::alloc(size, Caching::WriteBack)?;
/// let buf = DmaBuf::export(Plain, (), pages, flags)?;
/// ```
pub trait Exporter: Send + Sync + Sized + 'static {
    /// The module that the callbacks are in; it cannot go while a buffer lives.
    ///
    /// Always `crate::LocalModule`, which `#[vtable]` fills in for traits of the kernel crate.
    type OwnerModule: ModuleMetadata;

    /// What the exporter keeps for each attachment. Dropped at detach.
    type Attachment: Send + Sync;

    /// What the exporter keeps for each mapping, under the reservation lock. Given back to
    /// [`Exporter::unmap`].
    type Mapping: Send + Sync;

    /// What the exporter keeps for the buffer under the reservation lock, see [`Locked::state`].
    type State: Send + Sync;

    /// Name of the exporter, for debugfs and the log.
    const NAME: &'static CStr;

    /// It is a dma-buf now. No other callback is called before it.
    fn exported(_buffer: Buffer<'_, Self>) {}

    /// The last reference to the dma-buf is gone: `self`, the state and the pages are dropped next. Not
    /// called of what has never been a dma-buf.
    fn release(&self) {}

    /// An importer attaches `dev`. Called without the reservation lock.
    ///
    /// `dynamic`: by `dma_buf_dynamic_attach()`. Such an importer waits for fences by itself.
    ///
    /// # Errors
    ///
    /// What is returned is what `dma_buf_attach()` returns to the importer.
    fn attach(buffer: Buffer<'_, Self>, dev: &Device, dynamic: bool) -> Result<Self::Attachment>;

    /// An importer has detached. Called without the reservation lock.
    fn detach(_buffer: Buffer<'_, Self>, _attachment: &Self::Attachment) {}

    /// An importer maps its attachment. Called with the reservation lock held.
    ///
    /// # Errors
    ///
    /// What is returned is what `dma_buf_map_attachment()` returns to the importer; a [`Mapping`]
    /// that was made by then is unmapped.
    fn map<'a>(request: MapRequest<'a, Self>) -> Result<(Mapping<'a>, Self::Mapping)>;

    /// An importer takes its mapping away. Called with the reservation lock held. It is unmapped
    /// with a sync where [`UnmapRequest::take`] is not called.
    fn unmap(_request: &mut UnmapRequest<'_, Self>) {}

    /// An importer has detached without an unmap, which is a bug of it: its mappings are gone, and
    /// [`Exporter::unmap`] was not called. Called with the reservation lock held.
    fn lost(_locked: &mut LockedMut<'_, '_, Self>) {}

    /// What [`UnmapRequest::put_off`] had put off was done: lines of the whole buffer have been
    /// invalidated, which took as long as `timer` says. Called with the reservation lock held.
    ///
    /// `number`, `direction`: of the last mapping whose device may have written, see
    /// [`Mapping::number`].
    fn caught_up(
        _locked: &mut LockedMut<'_, '_, Self>,
        _number: u32,
        _direction: DataDirection,
        _timer: &Timer,
    ) {
    }

    /// A process maps the buffer. Called without the reservation lock, but with the mmap lock.
    ///
    /// # Errors
    ///
    /// What is returned is what mmap(2) returns.
    fn mmap(_buffer: Buffer<'_, Self>) -> Result<Populate> {
        Ok(Populate::AtMmap { recorded: true })
    }

    /// A process accesses a page that is not mapped, or writes one that is mapped to be read, by a
    /// mapping of [`Populate::ByFault`]. Called with the reservation lock held.
    fn fault(_locked: &mut LockedMut<'_, '_, Self>, _fault: &Fault<'_>) -> Verdict {
        Verdict::Refuse
    }

    /// A mapping into user space is gone, or a part of it. Called without the reservation lock,
    /// but with the mmap lock of its `mm`, which may be on its way out of this world.
    ///
    /// Who has a [`WrittenPages`](crate::WrittenPages) takes the reservation lock here, adds what
    /// may have been written, and drops `_closed` before the lock: until then all counts as written.
    fn vma_close(_buffer: Buffer<'_, Self>, _closed: ClosedVma<'_, Self>) {}

    /// The CPU is about to access the buffer. Called without the reservation lock.
    ///
    /// Calls may come unpaired, nested and in parallel.
    ///
    /// # Errors
    ///
    /// What is returned is what `DMA_BUF_IOCTL_SYNC` returns.
    fn begin_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result;

    /// The kernel is about to map the buffer (`vmap`). Whoever has it do so may write without
    /// [`Exporter::begin_cpu_access`] and [`Exporter::end_cpu_access`], as videobuf2 does.
    ///
    /// # Errors
    ///
    /// The core warns, once. It is for what cannot be foreseen, such as [`ENOMEM`].
    fn vmap(locked: &mut LockedMut<'_, '_, Self>) -> Result {
        let _ = locked;
        Ok(())
    }

    /// The CPU has accessed the buffer. Called without the reservation lock.
    ///
    /// # Errors
    ///
    /// What is returned is what `DMA_BUF_IOCTL_SYNC` returns.
    fn end_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result;

    /// What never changes of the buffer. Takes no lock, and does not sleep.
    fn query(buffer: Buffer<'_, Self>) -> Query {
        Query {
            coherent: false,
            caching: buffer.pages().caching(),
        }
    }

    /// An importer says whether this exporter waits for fences in its place. Called with or without
    /// the reservation lock, also while others look at the attachment.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] where this exporter does not do so.
    fn set_autofence(_attachment: &Self::Attachment, _autofence: bool) -> Result {
        Err(EOPNOTSUPP)
    }

    /// The fences that have to signal before [`Exporter::sync`]. Called with the reservation lock
    /// held, maybe more than once.
    fn sync_fences(_request: &SyncRequest<'_, '_, Self>, _whom: SyncFor) -> Option<Fences> {
        None
    }

    /// An importer that keeps its mapping hands the buffer over. Called with the reservation lock
    /// held, and when the fences of [`Exporter::sync_fences`] have signalled.
    ///
    /// # Errors
    ///
    /// What is returned is what `cohbuf_sync_for_cpu()` and its like return to the importer;
    /// [`EOPNOTSUPP`] where this exporter has no such thing.
    fn sync(_request: &mut SyncRequest<'_, '_, Self>, _whom: SyncFor) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// A mapping into user space that is gone, or a part of one. Counted until this is dropped.
pub struct ClosedVma<'a, T: Exporter> {
    buffer: Buffer<'a, T>,
    mm: &'a Mm,
    written: Range<usize>,
}

impl<'a, T: Exporter> ClosedVma<'a, T> {
    /// Whose it was.
    pub fn mm(&self) -> &'a Mm {
        self.mm
    }

    /// The bytes of the buffer that may have been written by it.
    pub fn written(&self) -> &Range<usize> {
        &self.written
    }
}

impl<T: Exporter> Drop for ClosedVma<'_, T> {
    fn drop(&mut self) {
        self.buffer.private().vmas.fetch_add(-1, Release);
    }
}

/// What can be read of a [`Private`] before its `T` is known.
#[repr(C)]
pub(crate) struct Head {
    /// Of `T`.
    pub(crate) type_id: TypeId,
    pub(crate) interface: &'static Interface,
}

/// What `dma_buf.priv` points to.
#[repr(C)]
#[pin_data]
pub(crate) struct Private<T: Exporter> {
    pub(crate) head: Head,
    #[pin]
    data: T,
    /// Guarded by the reservation lock.
    #[pin]
    state: UnsafeCell<T::State>,
    /// Guarded by the reservation lock.
    layout: UnsafeCell<LastLayout>,
    /// Guarded by the reservation lock.
    vmapping: UnsafeCell<Option<KBox<Vmapped>>>,
    /// Whether there was one since [`LockedMut::forget_vmapped`]. Guarded by the reservation lock.
    was_vmapped: UnsafeCell<bool>,
    /// Guarded by the reservation lock.
    late: UnsafeCell<Late>,
    /// Whether an unmap is put off, or is about to be, since somebody has looked. Changed under the
    /// reservation lock.
    put_off: Atomic<bool>,
    /// How many [`Look`] there are.
    looks: Atomic<i32>,
    /// VMAs that map it: from before one has page tables, or is in the `i_mmap` tree, until its
    /// [`ClosedVma`] is dropped.
    vmas: Atomic<i32>,
    /// Dropped last: what the layout and the kernel's mapping have are some of them.
    pages: Pages,
}

impl<T: Exporter> Private<T> {
    pub(crate) fn new<E>(
        data: impl PinInit<T, E>,
        state: impl Init<T::State>,
        pages: Pages,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        try_pin_init!(Self {
            head: Head {
                type_id: TypeId::of::<T>(),
                interface: Vtable::<T>::interface(),
            },
            data <- data,
            state <- UnsafeCell::pin_init(state),
            layout: UnsafeCell::new(None),
            vmapping: UnsafeCell::new(None),
            was_vmapped: UnsafeCell::new(false),
            late: UnsafeCell::new(Late::default()),
            put_off: Atomic::new(false),
            looks: Atomic::new(0),
            vmas: Atomic::new(0),
            pages,
        })
    }
}

/// What `dma_buf_attachment.priv` points to.
struct AttachmentPrivate<T: Exporter> {
    data: T::Attachment,
    /// Guarded by the reservation lock.
    mappings: UnsafeCell<KVec<(Mapping<'static>, T::Mapping)>>,
    /// What the importer has unmapped, for it to map again. Guarded by the reservation lock.
    kept: UnsafeCell<Option<KeptFor>>,
}

/// What an importer has unmapped.
struct KeptFor {
    kept: Kept,
    /// Where a sync of its unmap was put off, [`Late::round`] at that time.
    put_off: Option<u64>,
}

/// What was put off, see [`UnmapRequest::put_off`]. It is the buffer's to do, of which the CPU caches
/// have lines: neither the attachment nor the driver of its device need be there any more.
#[derive(Default)]
struct Late {
    /// The last of those whose device may have written: its [number](Mapping::number), and its
    /// direction. That stays where its importer maps again: who comes next finds what it wrote all
    /// the same.
    written: Option<(u32, DataDirection)>,
    /// How often all of it was done.
    round: u64,
}

/// Somebody reads the memory by no mapping that is counted: nothing is put off meanwhile.
pub struct Look<'a, T: Exporter>(Buffer<'a, T>);

impl<T: Exporter> Drop for Look<'_, T> {
    fn drop(&mut self) {
        self.0.private().looks.fetch_add(-1, Release);
    }
}

/// A buffer that `T` has exported, the reservation lock being held or not.
///
/// # Invariants
///
/// `raw` is a dma-buf exported by `T`, of which somebody has a reference for `'a`.
pub struct Buffer<'a, T: Exporter> {
    raw: *mut bindings::dma_buf,
    _lives: PhantomData<&'a T>,
}

impl<T: Exporter> Clone for Buffer<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Exporter> Copy for Buffer<'_, T> {}

impl<T: Exporter> Deref for Buffer<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.private().data
    }
}

impl<'a, T: Exporter> Buffer<'a, T> {
    /// # Safety
    ///
    /// `raw` must be a dma-buf that `T` has exported, of which somebody has a reference for `'a`.
    pub(crate) unsafe fn from_raw(raw: *mut bindings::dma_buf) -> Self {
        // INVARIANT: By the requirement of this function.
        Self {
            raw,
            _lives: PhantomData,
        }
    }

    pub(crate) fn as_raw(self) -> *mut bindings::dma_buf {
        self.raw
    }

    pub(crate) fn dma_buf(self) -> &'a DmaBuf {
        // SAFETY: By the type invariant it is a valid dma-buf, which `DmaBuf` is a transparent
        // wrapper of.
        unsafe { &*self.raw.cast() }
    }

    fn private(self) -> &'a Private<T> {
        // SAFETY: By the type invariant `T` has exported it, so that `priv` is a `Private<T>`,
        // which `release` alone frees.
        unsafe { &*(*self.raw).priv_.cast() }
    }

    fn resv(self) -> *mut bindings::dma_resv {
        // SAFETY: By the type invariant it is a valid dma-buf.
        unsafe { (*self.raw).resv }
    }

    /// The exporter's data.
    pub fn data(self) -> &'a T {
        &self.private().data
    }

    /// The memory.
    pub fn pages(self) -> &'a Pages {
        &self.private().pages
    }

    /// The inode number of the dma-buf's file, by which `dma_buf/bufinfo` knows it.
    pub fn id(self) -> c_ulong {
        // SAFETY: By the type invariant it is a valid dma-buf.
        unsafe { bindings::cohbuf_rs_inode_number(self.raw) }
    }

    /// Waits for fences. Must not be called with the reservation lock held:
    /// [`Locked::wait_fences`].
    ///
    /// A fence that signals an error counts as signalled: the device has stopped, and what it
    /// wrote is what there is.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] where a signal came.
    pub fn wait_fences(self, fences: impl Into<Fences>) -> Result {
        self.wait(fences.into(), true)
    }

    /// Whether it has never had a fence: none that was added before this, by whom the caller has
    /// heard, is missed.
    pub fn is_fenceless(self) -> bool {
        // SAFETY: By the type invariant the dma-buf has a valid reservation object. Its list of
        // fences is null until the first is added, and read as `rcu_access_pointer()` has it.
        unsafe { (&raw const (*self.resv()).fences).read_volatile() }.is_null()
    }

    fn fences_signalled(self, fences: Fences) -> bool {
        if self.is_fenceless() {
            return true;
        }
        // SAFETY: By the type invariant the dma-buf has a valid reservation object.
        unsafe { bindings::cohbuf_rs_resv_signaled(self.resv(), fences == Fences::All) }
    }

    fn wait(self, fences: Fences, interruptible: bool) -> Result {
        if trace::fence_wait_begin_is_on() || trace::fence_wait_end_is_on() {
            return self.wait_traced(fences, interruptible);
        }
        self.wait_untraced(fences, interruptible)
    }

    #[cold]
    fn wait_traced(self, fences: Fences, interruptible: bool) -> Result {
        if self.fences_signalled(fences) {
            return Ok(());
        }
        let all = fences == Fences::All;
        let timer = Timer::start(true);
        trace::fence_wait_begin(self.id(), all);
        let result = self.wait_untraced(fences, interruptible);
        trace::fence_wait_end(self.id(), all, &result, &timer);
        result
    }

    fn wait_untraced(self, fences: Fences, interruptible: bool) -> Result {
        if self.is_fenceless() {
            return Ok(());
        }
        // SAFETY: By the type invariant the dma-buf has a valid reservation object.
        let left = unsafe {
            bindings::cohbuf_rs_resv_wait(self.resv(), fences == Fences::All, interruptible)
        };
        // CAST: An errno fits. What is not one is the time that was left.
        to_result(left.min(0) as c_int)
    }

    /// Takes the reservation lock.
    ///
    /// The calling task must not hold it: lockdep would say so, and the task would hang.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] where a signal came.
    pub fn lock(self) -> Result<LockGuard<'a, T>> {
        // SAFETY: By the type invariant the dma-buf has a valid reservation object.
        let error = unsafe { bindings::cohbuf_rs_resv_lock_interruptible(self.resv()) };
        if error != 0 {
            return Err(not_locked(error));
        }
        // INVARIANT: The lock was just taken, and a task cannot take it twice.
        Ok(LockGuard {
            locked: Locked { buffer: self },
            _not_send: NotThreadSafe,
        }
        .caught_up())
    }

    /// Takes the reservation lock when the fences that a CPU access depends on have all signalled.
    /// Nobody is kept waiting for a fence by the lock.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] where a signal came.
    #[inline(always)]
    pub fn lock_after_fences(self, fences: impl Into<Fences>) -> Result<LockGuard<'a, T>> {
        let fences = fences.into();
        loop {
            // None can be added while we have the lock.
            let locked = self.lock()?;
            if locked.fences_signalled(fences) {
                return Ok(locked);
            }
            drop(locked);
            self.wait_fences(fences)?;
        }
    }

    /// How many VMAs map it, with those that are on their way.
    pub(crate) fn vmas(self) -> i32 {
        self.private().vmas.load(Acquire)
    }

    /// Whether unmaps are put off. Who does not take the lock, but is to see what devices wrote,
    /// has to ask: to take it catches up with them.
    pub fn has_put_off(self) -> bool {
        self.private().put_off.load(Acquire)
    }

    /// Before the memory is read by no mapping that is counted: catches up with what is put off, and
    /// lets nothing be until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// As [`Buffer::lock`].
    pub fn look(self) -> Result<Look<'a, T>> {
        // As `vma_opens`.
        self.private().looks.fetch_add(1, Full);
        let look = Look(self);
        self.catch_up()?;
        Ok(look)
    }

    fn catch_up(self) -> Result {
        if self.has_put_off() {
            // To take it does that.
            drop(self.lock()?);
        }
        Ok(())
    }

    fn vma_opens(self) {
        // To be seen by whoever sees the VMA in the tree: that has a lock. And before what was put
        // off is looked for: either this sees it, or who puts it off sees the VMA.
        self.private().vmas.fetch_add(1, Full);
    }

    /// Whether the file of the dma-buf may be written, and with it mapped to be written.
    pub fn is_writable(self) -> bool {
        // SAFETY: By the type invariant it is a valid dma-buf.
        unsafe { bindings::cohbuf_rs_is_writable(self.raw) }
    }

    /// Takes the reservation lock in a callback that cannot fail. As [`Buffer::lock`] otherwise.
    pub fn lock_uninterruptible(self) -> LockGuard<'a, T> {
        // SAFETY: By the type invariant the dma-buf has a valid reservation object.
        unsafe { bindings::cohbuf_rs_resv_lock(self.resv()) };
        // INVARIANT: The lock was just taken, and a task cannot take it twice.
        LockGuard {
            locked: Locked { buffer: self },
            _not_send: NotThreadSafe,
        }
        .caught_up()
    }
}

/// A `ww_mutex` says `EINTR`, with which a system call that has done nothing so far would not be
/// restarted.
#[cold]
fn not_locked(error: c_int) -> Error {
    match Error::from_errno(error) {
        EINTR => ERESTARTSYS,
        e => e,
    }
}

/// A buffer whose reservation lock the calling task holds.
///
/// # Invariants
///
/// The calling task holds the reservation lock for as long as this lives, and there is one of this
/// for each time that the lock is held.
pub struct Locked<'a, T: Exporter> {
    buffer: Buffer<'a, T>,
}

impl<'a, T: Exporter> Deref for Locked<'a, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.buffer.data()
    }
}

impl<'a, T: Exporter> Locked<'a, T> {
    /// The buffer.
    pub fn buffer(&self) -> Buffer<'a, T> {
        self.buffer
    }

    /// What the exporter keeps under the lock.
    pub fn state(&self) -> &T::State {
        // SAFETY: By the type invariant the lock is held, and this is the only `Locked`, so that no
        // `LockedMut` gives out a reference meanwhile.
        unsafe { &*self.buffer.private().state.get() }
    }

    /// Each mapping of each attachment, with what the exporter keeps for it.
    pub fn mappings(&self) -> impl Iterator<Item = (&Mapping<'_>, &T::Mapping)> + Clone {
        self.attachments()
            .flat_map(|attachment| attachment.mappings())
    }

    /// That of [`Locked::mappings`] with this number, from 0 on.
    pub fn mapping(&self, number: usize) -> Option<(&Mapping<'_>, &T::Mapping)> {
        let mut left = number;
        for attachment in self.attachments() {
            let list = attachment.list();
            match list.get(left) {
                Some((mapping, data)) => return Some((mapping, data)),
                None => left -= list.len(),
            }
        }
        None
    }

    /// Whether the kernel has the buffer mapped (`vmap`).
    pub fn is_vmapped(&self) -> bool {
        // SAFETY: By the type invariant the lock is held, so that it does not change.
        unsafe { (*self.buffer.private().vmapping.get()).is_some() }
    }

    /// Whether the kernel has the buffer mapped (`vmap`), or has had since
    /// [`LockedMut::forget_vmapped`].
    pub fn was_vmapped(&self) -> bool {
        // SAFETY: By the type invariant the lock is held, so that it does not change.
        self.is_vmapped() || unsafe { *self.buffer.private().was_vmapped.get() }
    }

    /// Whether fences have all signalled. None can be added while the lock is held.
    pub fn fences_signalled(&self, fences: impl Into<Fences>) -> bool {
        self.buffer.fences_signalled(fences.into())
    }

    /// Waits for fences with the lock held, for who cannot give it back. Whoever wants the lock
    /// waits as well, see the documentation of the crate.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] where a signal came, if `interruptible`.
    pub fn wait_fences(&self, fences: Fences, interruptible: bool) -> Result {
        self.buffer.wait(fences, interruptible)
    }

    /// Takes the pages that have one of these bytes away from all address spaces that have them
    /// mapped. The next access to one is a fault: see [`Exporter::fault`]. One of
    /// [`Populate::AtMmap`] raises SIGBUS.
    pub fn zap(&self, bytes: Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let first = bytes.start >> PAGE_SHIFT;
        let count = bytes.end.div_ceil(PAGE_SIZE) - first;
        // SAFETY: By the type invariant of `Buffer` it is a valid dma-buf. There is a page, as
        // none would be all of them.
        unsafe { bindings::cohbuf_rs_zap(self.buffer.raw, first, count) };
    }

    /// Each attachment that is attached now.
    pub fn attachments(&self) -> impl Iterator<Item = Attachment<'_, T>> + Clone {
        // SAFETY: By the type invariant the lock is held, so that the list stands still.
        let head = unsafe { &raw mut (*self.buffer.raw).attachments };
        // SAFETY: As above.
        let first = unsafe { (*head).next };
        core::iter::successors(Some(first), |&node| {
            // SAFETY: `node` is in the list, which stands still.
            Some(unsafe { (*node).next })
        })
        .take_while(move |&node| node != head)
        .map(|node| {
            // SAFETY: Each node but the head is that of an attachment. `dma_buf_attach()` puts it
            // into the list after `attach` has succeeded, and `dma_buf_detach()` takes it out
            // before `detach`, both under the lock.
            unsafe {
                Attachment::from_raw(
                    node.byte_sub(offset_of!(bindings::dma_buf_attachment, node))
                        .cast(),
                )
            }
        })
    }
}

/// A [`Locked`], to change what the lock guards.
///
/// Not a `&mut Locked`, which could be swapped with that of another buffer: each would then be
/// taken for locked when it is not.
pub struct LockedMut<'l, 'a, T: Exporter>(&'l mut Locked<'a, T>);

impl<'a, T: Exporter> Deref for LockedMut<'_, 'a, T> {
    type Target = Locked<'a, T>;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl<T: Exporter> LockedMut<'_, '_, T> {
    /// What the exporter keeps under the lock, to change it.
    pub fn state_mut(&mut self) -> &mut T::State {
        // SAFETY: By the type invariant of `Locked` the lock is held, and it is the only one, which
        // is borrowed mutably for as long as the reference lives.
        unsafe { &mut *self.0.buffer.private().state.get() }
    }

    /// Does what was put off, see [`UnmapRequest::put_off`].
    pub fn catch_up(&mut self) {
        if self.0.buffer.has_put_off() {
            self.catch_up_all();
        }
    }

    #[cold]
    fn catch_up_all(&mut self) {
        let late = self.late();
        let written = late.written.take();
        late.round += 1;
        let buffer = self.0.buffer;
        let timer = Timer::start(trace::maintain_is_on());
        if written.is_some() {
            buffer.pages().invalidate_all();
        }
        // Who sees it without the lock sees memory as it is.
        buffer.private().put_off.store(false, Release);
        if let Some((number, direction)) = written {
            T::caught_up(self, number, direction, &timer);
        }
    }

    fn late(&mut self) -> &mut Late {
        // SAFETY: The lock is held, and there is no other `LockedMut` as long as this one is
        // borrowed.
        unsafe { &mut *self.0.buffer.private().late.get() }
    }

    /// See [`Locked::was_vmapped`]. A mapping that is there may be written until it is gone.
    pub fn forget_vmapped(&mut self) {
        let private = self.0.buffer.private();
        // SAFETY: By the type invariant of `Locked` the lock is held, and nobody else looks at
        // either during this statement.
        unsafe { *private.was_vmapped.get() = (*private.vmapping.get()).is_some() };
    }

    /// As [`Locked::mappings`], to change what the exporter keeps.
    pub fn mappings_mut(&mut self) -> impl Iterator<Item = (&Mapping<'_>, &mut T::Mapping)> {
        self.0.attachments().flat_map(|attachment| {
            // SAFETY: The lock is held, and this is the only `Locked`, which is borrowed mutably
            // for as long as the references live; each attachment comes once.
            let list = unsafe { &mut *attachment.private().mappings.get() };
            list.iter_mut().map(|(mapping, data)| (&*mapping, data))
        })
    }
}

/// The reservation lock, held until this is dropped.
pub struct LockGuard<'a, T: Exporter> {
    locked: Locked<'a, T>,
    /// `ww_mutex`: the task that took it releases it.
    _not_send: NotThreadSafe,
}

impl<'a, T: Exporter> Deref for LockGuard<'a, T> {
    type Target = Locked<'a, T>;

    fn deref(&self) -> &Self::Target {
        &self.locked
    }
}

impl<'a, T: Exporter> LockGuard<'a, T> {
    fn caught_up(mut self) -> Self {
        self.as_mut().catch_up();
        self
    }

    /// To change what the lock guards.
    pub fn as_mut(&mut self) -> LockedMut<'_, 'a, T> {
        LockedMut(&mut self.locked)
    }
}

impl<T: Exporter> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The guard holds the lock, and is dropped by the task that took it.
        unsafe { bindings::dma_resv_unlock(self.locked.buffer.resv()) };
    }
}

/// An attachment of a buffer that `T` has exported, seen with the reservation lock held.
///
/// # Invariants
///
/// `raw` is an attachment that the `attach` of `T` has accepted. It is not detached, and the
/// reservation lock is held by the calling task, for `'a`.
pub struct Attachment<'a, T: Exporter> {
    raw: *mut bindings::dma_buf_attachment,
    _locked: PhantomData<&'a Locked<'a, T>>,
}

impl<T: Exporter> Clone for Attachment<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Exporter> Copy for Attachment<'_, T> {}

impl<'a, T: Exporter> Attachment<'a, T> {
    /// # Safety
    ///
    /// The type invariant must hold.
    unsafe fn from_raw(raw: *mut bindings::dma_buf_attachment) -> Self {
        // INVARIANT: By the requirement of this function.
        Self {
            raw,
            _locked: PhantomData,
        }
    }

    fn private(self) -> &'a AttachmentPrivate<T> {
        // SAFETY: By the type invariant the `attach` of `T` has set `priv`.
        unsafe { &*(*self.raw).priv_.cast() }
    }

    /// The importer's device.
    pub fn device(self) -> &'a Device {
        // SAFETY: The importer keeps its device for as long as it is attached.
        unsafe { Device::from_raw((*self.raw).dev) }
    }

    /// Whether the importer attached with `dma_buf_dynamic_attach()`, and with that does its own
    /// fencing.
    pub fn is_dynamic(self) -> bool {
        // SAFETY: By the type invariant it is a valid attachment; its ops never change.
        unsafe { !(*self.raw).importer_ops.is_null() }
    }

    /// What the exporter keeps for it.
    pub fn data(self) -> &'a T::Attachment {
        &self.private().data
    }

    /// Each mapping that the importer holds now, with what the exporter keeps for it.
    pub fn mappings(self) -> impl Iterator<Item = (&'a Mapping<'a>, &'a T::Mapping)> + Clone {
        self.list().iter().map(|(mapping, data)| (mapping, data))
    }

    fn list(self) -> &'a [(Mapping<'static>, T::Mapping)] {
        // SAFETY: By the type invariant the lock is held, so that nobody else changes the list, and
        // whoever holds it has the `Locked` borrowed for as long as this lives.
        unsafe { &*self.private().mappings.get() }
    }
}

/// An importer's wish to map its attachment.
pub struct MapRequest<'a, T: Exporter> {
    locked: Locked<'a, T>,
    attachment: Attachment<'a, T>,
    dir: DataDirection,
}

impl<'a, T: Exporter> MapRequest<'a, T> {
    /// The buffer.
    pub fn buffer(&self) -> Buffer<'a, T> {
        self.locked.buffer
    }

    /// The buffer with its reservation lock, which is held while this lives.
    pub fn locked(&self) -> &Locked<'a, T> {
        &self.locked
    }

    /// As [`MapRequest::locked`], to change what it guards.
    pub fn locked_mut(&mut self) -> LockedMut<'_, 'a, T> {
        LockedMut(&mut self.locked)
    }

    /// The attachment.
    pub fn attachment(&self) -> Attachment<'_, T> {
        self.attachment
    }

    /// The direction that the importer wants.
    pub fn direction(&self) -> DataDirection {
        self.dir
    }

    /// Whether a mapping is certain to be bounced: the device cannot reach all of the memory, or
    /// `swiotlb=force`. Where this says false, [`Mapping::reach`] tells what came of it.
    pub fn would_bounce(&self) -> bool {
        // SAFETY: The lock is held while this lives, and nobody else looks at it during this
        // statement.
        let layout = unsafe { &*self.buffer().private().layout.get() };
        if sg_table::is_reached(layout, self.attachment.device()) || self.has_kept() {
            return false;
        }
        let dev = crate::raw::device_as_raw(self.attachment.device());
        self.buffer()
            .pages()
            .pieces(usize::MAX, usize::MAX)
            .any(|(page, len)| {
                // SAFETY: `dev` is a valid device, `page` the first of `len` bytes of valid pages.
                unsafe { bindings::cohbuf_rs_would_bounce(dev, page, len) }
            })
    }

    /// Maps the buffer for an exporter that [keeps](UnmapRequest::keep) mappings, or
    /// [puts off](UnmapRequest::put_off) their syncs: as [`MapRequest::map`], but the importer gets
    /// the table that it had before, where that is kept. What was put off is done first, unless the
    /// device goes past the caches.
    ///
    /// # Errors
    ///
    /// As [`MapRequest::map`].
    pub fn map_again(&mut self) -> Result<Mapping<'a>> {
        let dev = self.attachment.device();
        // Also for one that gets what it had: it snoops what is not invalidated yet.
        if self.buffer().has_put_off() && (!device::is_direct(dev) || self.would_bounce()) {
            self.locked_mut().catch_up();
        }
        if let Some(mapping) = self.map_kept() {
            return Ok(mapping);
        }
        let mapping = self.map()?;
        if self.buffer().has_put_off() && mapping.reach() != Reach::Direct {
            // To look beforehand does not tell all. What was copied out may be old.
            mapping.discard();
            self.locked_mut().catch_up();
            return self.map();
        }
        Ok(mapping)
    }

    /// Whether the importer gets the table that it had, unless that is bounced now.
    fn has_kept(&self) -> bool {
        // SAFETY: The lock is held while this lives, and nobody else looks at it during this
        // function.
        let kept = unsafe { &*self.attachment.private().kept.get() };
        kept.as_ref()
            .is_some_and(|of| of.kept.is_for(self.attachment.device(), self.dir))
    }

    /// Maps what the importer had, if it is what it wants now.
    fn map_kept(&mut self) -> Option<Mapping<'a>> {
        // SAFETY: The lock is held while this lives, and nobody else looks at it during this
        // statement.
        let KeptFor { kept, put_off } = unsafe { (*self.attachment.private().kept.get()).take() }?;
        let mut locked = self.locked_mut();
        // What has been done since may have been done for the CPU to write.
        let untouched = put_off.is_some_and(|round| round == locked.late().round);
        if !kept.is_for(self.attachment.device(), self.dir) {
            return None;
        }
        // SAFETY: As in `map`. What an attachment keeps is of its buffer.
        unsafe { kept.map(untouched) }
    }

    /// Maps the buffer: an sg table whose segments are no longer than the device allows.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - What `dma_map_sgtable()` returns.
    pub fn map(&self) -> Result<Mapping<'a>> {
        let buffer = self.buffer();
        // SAFETY: The lock is held while this lives, and nobody else looks at it during this call.
        let layout = unsafe { &mut *buffer.private().layout.get() };
        // SAFETY: The importer's driver is bound to its device, and unmaps before it is not:
        // that is what `dma_buf_map_attachment()` asks of it. The layout is of this buffer.
        unsafe { Mapping::new(buffer.pages(), self.attachment.device(), self.dir, layout) }
    }
}

/// An importer's wish to take a mapping away.
pub struct UnmapRequest<'a, T: Exporter> {
    locked: Locked<'a, T>,
    attachment: Attachment<'a, T>,
    table: *mut bindings::sg_table,
}

impl<'a, T: Exporter> UnmapRequest<'a, T> {
    /// The buffer with its reservation lock, which is held while this lives. The mapping is in
    /// [`Locked::mappings`] until [`UnmapRequest::take`].
    pub fn locked(&self) -> &Locked<'a, T> {
        &self.locked
    }

    /// As [`UnmapRequest::locked`], to change what it guards.
    pub fn locked_mut(&mut self) -> LockedMut<'_, 'a, T> {
        LockedMut(&mut self.locked)
    }

    /// The attachment.
    pub fn attachment(&self) -> Attachment<'_, T> {
        self.attachment
    }

    /// The mapping, [`None`] where it was taken.
    pub fn mapping(&self) -> Option<&Mapping<'_>> {
        let (mapping, _) = self.locked.mappings().nth(self.index()?)?;
        Some(mapping)
    }

    /// The direction that the importer mapped it for, [`None`] where it was taken.
    pub fn direction(&self) -> Option<DataDirection> {
        self.mapping().map(Mapping::direction)
    }

    /// The number of the mapping in [`Locked::mappings`], [`None`] where it was taken.
    pub fn index(&self) -> Option<usize> {
        self.locked
            .mappings()
            .position(|(mapping, _)| mapping.as_raw() == self.table)
    }

    /// Takes the mapping out of the list, to unmap it. [`None`] where it was taken before.
    pub fn take(&mut self) -> Option<(Mapping<'a>, T::Mapping)> {
        // SAFETY: The lock is held while this lives, and `&mut self` keeps everybody from looking
        // at the list by `locked`.
        let list = unsafe { &mut *self.attachment.private().mappings.get() };
        let index = list.iter().position(|(m, _)| m.as_raw() == self.table)?;
        let (mapping, data) = list.remove(index).ok()?;
        Some((mapping, data))
    }

    /// Unmaps what was taken, and keeps its table for the importer to map again, if it
    /// [costs nothing].
    ///
    /// [costs nothing]: Mapping::costs_nothing
    pub fn keep(&mut self, mapping: Mapping<'a>) {
        if mapping.costs_nothing() {
            self.keep_for(mapping, None);
        }
    }

    fn keep_for(&mut self, mapping: Mapping<'a>, put_off: Option<u64>) {
        let kept = Kept::new(mapping);
        // SAFETY: The lock is held while this lives, and nobody else looks at it during this
        // statement.
        unsafe { *self.attachment.private().kept.get() = Some(KeptFor { kept, put_off }) };
    }

    /// Unmaps what was taken, but puts off the sync until somebody may look: until the reservation
    /// lock is taken by [`Buffer::lock`] and its like, or the buffer is mapped by a process, by the
    /// kernel, or for a device that is not past the caches, or handed over by an importer. Then
    /// lines are invalidated, by no mapping of any device. If the importer maps it again before
    /// that, nothing has to be done.
    ///
    /// It is given back where it cannot be: a process has the buffer mapped, or somebody
    /// [looks](Buffer::look), the device does not go past the caches by itself, or the CPU cannot invalidate by itself ([`Pages::can_clean`]).
    pub fn put_off(&mut self, mapping: Mapping<'a>) -> Option<Mapping<'a>> {
        let private = self.locked.buffer.private();
        if mapping.reach() != Reach::Direct || !Pages::can_clean() {
            return Some(mapping);
        }
        // Before VMAs are looked for, see `vma_opens`.
        let was_put_off = private.put_off.xchg(true, Full);
        let looks = private.looks.load(Acquire);
        if self.locked.buffer.vmas() != 0 || looks != 0 || self.locked.is_vmapped() {
            private.put_off.store(was_put_off, Relaxed);
            return Some(mapping);
        }
        let mut locked = self.locked_mut();
        let late = locked.late();
        if mapping.may_write() {
            late.written = Some((mapping.number(), mapping.direction()));
        }
        let round = late.round;
        self.keep_for(mapping, Some(round));
        None
    }
}

/// An importer's wish to hand over what it keeps mapped.
pub struct SyncRequest<'l, 'a, T: Exporter> {
    locked: LockedMut<'l, 'a, T>,
    attachment: Attachment<'a, T>,
    index: usize,
}

impl<'a, T: Exporter> SyncRequest<'_, 'a, T> {
    /// The buffer with its reservation lock, which is held while this lives.
    pub fn locked(&self) -> &Locked<'a, T> {
        &self.locked
    }

    /// As [`SyncRequest::locked`], to change what it guards.
    pub fn locked_mut(&mut self) -> LockedMut<'_, 'a, T> {
        LockedMut(self.locked.0)
    }

    /// The attachment.
    pub fn attachment(&self) -> Attachment<'_, T> {
        self.attachment
    }

    /// The number of the mapping in [`Locked::mappings`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The mapping. It is there for as long as this lives.
    pub fn mapping(&self) -> Option<&Mapping<'_>> {
        let (mapping, _) = self.locked.mappings().nth(self.index)?;
        Some(mapping)
    }

    /// The direction that the importer mapped it for.
    pub fn direction(&self) -> DataDirection {
        self.mapping()
            .map_or(DataDirection::Bidirectional, Mapping::direction)
    }
}

/// A table as an importer names it, to be looked for.
struct Wanted<'a, T: Exporter> {
    attachment: Attachment<'a, T>,
    table: *const bindings::sg_table,
    whom: SyncFor,
}

impl<'a, T: Exporter> Wanted<'a, T> {
    /// Calls `f` for the mapping. With `CONFIG_DMABUF_DEBUG` an importer has a copy of the table,
    /// and mappings of one attachment that have the same addresses look alike: it is for all of
    /// them then. What a sync of such mappings does, to do it twice is to do it once.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there is none.
    /// - What `f` returns.
    fn for_each(
        &self,
        locked: LockedMut<'_, 'a, T>,
        mut f: impl FnMut(&mut SyncRequest<'_, 'a, T>) -> Result,
    ) -> Result {
        let mut from = 0;
        loop {
            let found = locked
                .attachments()
                .flat_map(|of| of.mappings().map(move |(mapping, _)| (of.raw, mapping)))
                .enumerate()
                .skip(from)
                .find(|(_, (of, mapping))| {
                    // SAFETY: Whoever calls the interface has a valid table, or null.
                    *of == self.attachment.raw && unsafe { mapping.is_known_as(self.table) }
                });
            let Some((index, _)) = found else {
                return if from > 0 { Ok(()) } else { Err(EINVAL) };
            };
            f(&mut SyncRequest {
                locked: LockedMut(&mut *locked.0),
                attachment: self.attachment,
                index,
            })?;
            from = index + 1;
        }
    }

    /// Fences that have to signal first, and have not. [`None`]: all have that must.
    fn pending(&self, locked: LockedMut<'_, 'a, T>) -> Result<Option<Fences>> {
        let mut pending = None;
        self.for_each(locked, |request| {
            pending = pending.max(
                T::sync_fences(request, self.whom)
                    .filter(|&fences| !request.locked().fences_signalled(fences)),
            );
            Ok(())
        })?;
        Ok(pending)
    }

    fn sync(&self, locked: LockedMut<'_, 'a, T>) -> Result {
        self.for_each(locked, |request| T::sync(request, self.whom))
    }
}

/// The ops of dma-bufs that `T` exports.
pub(crate) struct Vtable<T: Exporter>(PhantomData<T>);

impl<T: Exporter> Vtable<T> {
    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, with an attachment that is being made.
    unsafe extern "C" fn attach(
        dmabuf: *mut bindings::dma_buf,
        attach: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The buffer lives for the call, by the requirement of this function.
            let buffer = unsafe { Buffer::<T>::from_raw(dmabuf) };
            // SAFETY: The core has set the device of the attachment, which the importer keeps.
            let dev = unsafe { Device::from_raw((*attach).dev) };
            // SAFETY: The core has set it, before this call.
            let dynamic = unsafe { !(*attach).importer_ops.is_null() };
            // Room first: who has attached detaches.
            let private = KBox::new_uninit(GFP_KERNEL)?;
            let private = KBox::write(
                private,
                AttachmentPrivate::<T> {
                    data: T::attach(buffer, dev, dynamic)?,
                    mappings: UnsafeCell::new(KVec::new()),
                    kept: UnsafeCell::new(None),
                },
            );
            // SAFETY: `priv` of an attachment belongs to the exporter.
            unsafe { (*attach).priv_ = KBox::into_raw(private).cast() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the core for an attachment that `attach` accepted, once.
    unsafe extern "C" fn detach(
        dmabuf: *mut bindings::dma_buf,
        attach: *mut bindings::dma_buf_attachment,
    ) {
        // SAFETY: The buffer lives for the call, by the requirement of this function.
        let buffer = unsafe { Buffer::<T>::from_raw(dmabuf) };
        // SAFETY: `attach` has set `priv`, and the attachment is in no list any more.
        let mut private = unsafe { KBox::from_raw((*attach).priv_.cast::<AttachmentPrivate<T>>()) };
        let is_mapped = !private.mappings.get_mut().is_empty();
        T::detach(buffer, &private.data);
        drop(private);
        if is_mapped {
            pr_warn_once!("an importer detaches what it has mapped\n");
            T::lost(&mut buffer.lock_uninterruptible().as_mut());
        }
    }

    /// # Safety
    ///
    /// Called by the core for an attachment of a buffer of `T`, with the reservation lock held.
    unsafe extern "C" fn map(
        attach: *mut bindings::dma_buf_attachment,
        dir: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: As the requirements of this function have it.
        match unsafe { Self::try_map(attach, dir) } {
            Ok(table) => table,
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::map`].
    unsafe fn try_map(
        attach: *mut bindings::dma_buf_attachment,
        dir: bindings::dma_data_direction,
    ) -> Result<*mut bindings::sg_table> {
        let dir = direction::from_raw(dir)?;
        // SAFETY: The buffer lives for as long as it has an attachment.
        let buffer = unsafe { Buffer::<T>::from_raw((*attach).dmabuf) };
        // SAFETY: The core holds the lock for the call.
        unsafe { bindings::cohbuf_rs_resv_assert_held(buffer.resv()) };
        // SAFETY: `attach` accepted it, and the lock is held.
        let attachment = unsafe { Attachment::<T>::from_raw(attach) };

        // Room first: what is mapped must not fail after that.
        let list = attachment.private().mappings.get();
        // SAFETY: The lock is held, and nobody else looks at the list during this statement.
        unsafe { (*list).reserve(1, GFP_KERNEL) }?;

        let (mapping, data) = T::map(MapRequest {
            // INVARIANT: The core holds the lock for the call, and the request ends before it.
            locked: Locked { buffer },
            attachment,
            dir,
        })?;
        let table = mapping.as_raw();
        // SAFETY: `unmap` takes the mapping out; the importer calls it before it detaches.
        let mapping = unsafe { mapping.unbound() };
        // SAFETY: As for `reserve`. There is room.
        unsafe { (*list).push_within_capacity((mapping, data)) }.map_err(|_| ENOMEM)?;
        Ok(table)
    }

    /// # Safety
    ///
    /// Called by the core for a table that `map` returned, once, with the reservation lock held.
    unsafe extern "C" fn unmap(
        attach: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        _dir: bindings::dma_data_direction,
    ) {
        // SAFETY: The buffer lives for as long as it has an attachment.
        let buffer = unsafe { Buffer::<T>::from_raw((*attach).dmabuf) };
        // SAFETY: The core holds the lock for the call.
        unsafe { bindings::cohbuf_rs_resv_assert_held(buffer.resv()) };
        // SAFETY: `attach` accepted it, and the lock is held.
        let attachment = unsafe { Attachment::<T>::from_raw(attach) };
        let mut request = UnmapRequest {
            // INVARIANT: The core holds the lock for the call, and the request ends before it.
            locked: Locked { buffer },
            attachment,
            table,
        };
        if request.index().is_none() {
            pr_warn_once!("unmap of a table that is not mapped\n");
            return;
        }
        T::unmap(&mut request);
        // The direction is that of the mapping: it is unmapped as it was mapped.
        drop(request.take());
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, once, when its last reference is gone.
    pub(crate) unsafe extern "C" fn release(dmabuf: *mut bindings::dma_buf) {
        // SAFETY: The dma-buf is valid, and nobody else has it.
        let attachments = unsafe { &raw mut (*dmabuf).attachments };
        // SAFETY: As above.
        if unsafe { (*attachments).next } != attachments {
            // Its importer has dropped a reference that it needs. Better the memory is lost than in
            // the hands of somebody while a device may write it.
            pr_warn_once!("a dma-buf goes that is attached, and its memory is lost\n");
            return;
        }
        // SAFETY: `export` handed `priv` over, and nobody has a reference any more.
        let private = unsafe { KBox::from_raw((*dmabuf).priv_.cast::<Private<T>>()) };
        // No `Buffer`: there is no file to take a reference to.
        private.data.release();
        drop(private);
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, without the reservation lock.
    unsafe extern "C" fn begin_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        from_result(|| {
            let access = CpuAccess::from_raw(dir)?;
            // SAFETY: The buffer lives for the call, by the requirement of this function.
            T::begin_cpu_access(unsafe { Buffer::from_raw(dmabuf) }, access)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, without the reservation lock.
    unsafe extern "C" fn end_cpu_access(
        dmabuf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        from_result(|| {
            let access = CpuAccess::from_raw(dir)?;
            // SAFETY: The buffer lives for the call, by the requirement of this function.
            T::end_cpu_access(unsafe { Buffer::from_raw(dmabuf) }, access)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, with a VMA that is being set up for its file.
    unsafe extern "C" fn mmap(
        dmabuf: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The buffer lives for the call, by the requirement of this function.
            let buffer = unsafe { Buffer::<T>::from_raw(dmabuf) };
            let populate = T::mmap(buffer)?;
            let by_fault = populate == Populate::ByFault;
            // First, as whoever guesses the address may write as soon as pages are mapped.
            buffer.vma_opens();
            let map = || {
                buffer.catch_up()?;
                let writable = buffer.is_writable();
                // SAFETY: The VMA is being set up; its file keeps the buffer, and with it the pages.
                unsafe { buffer.pages().mmap(vma, populate, writable) }
            };
            map().inspect_err(|_| {
                buffer.private().vmas.fetch_add(-1, Relaxed);
            })?;
            // SAFETY: The VMA is being set up. It is the exporter's to say what its ops are and
            // what they find there: all of them a dma-buf, which the file of the VMA keeps.
            unsafe {
                (*vma).vm_private_data = dmabuf.cast();
                (*vma).vm_ops = if by_fault {
                    Self::fault_vm_ops()
                } else {
                    Self::vm_ops()
                };
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the core for a VMA that `mmap` has set up, or a part or a copy of one.
    unsafe extern "C" fn vma_close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: `mmap` left the dma-buf there, and the VMA has a reference to its file still.
        let buffer = unsafe { Buffer::<T>::from_raw((*vma).vm_private_data.cast()) };
        // SAFETY: The VMA is part of a valid address space.
        let mm = unsafe { Mm::from_raw((*vma).vm_mm) };
        // SAFETY: The VMA is valid, and nobody changes it any more.
        let (start, end, pgoff, flags) = unsafe {
            (
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end,
                (*vma).vm_pgoff,
                (*vma).__bindgen_anon_2.vm_flags,
            )
        };
        let offset = pgoff << PAGE_SHIFT;
        let written = match flags & kernel::mm::virt::flags::MAYWRITE {
            0 => 0..0,
            _ => offset..offset + (end - start),
        };
        let closed = ClosedVma {
            buffer,
            mm,
            written,
        };
        T::vma_close(buffer, closed);
    }

    const VM_OPS: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(Self::vma_open),
        close: Some(Self::vma_close),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the core for a VMA that is a copy of one that `mmap` has set up, or a part of it,
    /// and is being made.
    unsafe extern "C" fn vma_open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: `mmap` left the dma-buf there, and the VMA has a reference to its file.
        let buffer = unsafe { Buffer::<T>::from_raw((*vma).vm_private_data.cast()) };
        buffer.vma_opens();
    }

    /// # Safety
    ///
    /// As for [`Self::vma_open`], of one that gets its pages by fault.
    unsafe extern "C" fn fault_vma_open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: As the requirements of this function have it.
        unsafe { Self::vma_open(vma) };
        // SAFETY: The VMA is being made.
        unsafe { bindings::cohbuf_rs_vma_forked(vma) };
    }

    /// # Safety
    ///
    /// Called by the core for a VMA that `mmap` has set up, or a part or a copy of one, with the
    /// mmap lock.
    unsafe extern "C" fn vma_fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: `mmap` left the dma-buf there, and the VMA has a reference to its file.
        let raw = unsafe { (*(*vmf).__bindgen_anon_1.vma).vm_private_data.cast() };
        // SAFETY: Both are valid, as the requirements of this function have it.
        let stop = unsafe { bindings::cohbuf_rs_fault_lock(vmf, raw) };
        if stop != 0 {
            return stop;
        }
        let mut locked = LockGuard {
            locked: Locked {
                // SAFETY: The buffer lives for the call, which keeps the VMA.
                // INVARIANT: The lock was just taken, and a task cannot take it twice.
                buffer: unsafe { Buffer::<T>::from_raw(raw) },
            },
            _not_send: NotThreadSafe,
        };
        // SAFETY: As the requirements of this function have it; the lock is held.
        unsafe { fault::serve(&mut locked.as_mut(), vmf) }
    }

    /// Of a VMA that gets its pages by fault. `pfn_mkwrite` makes the core write-protect it.
    const FAULT_VM_OPS: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(Self::fault_vma_open),
        close: Some(Self::vma_close),
        fault: Some(Self::vma_fault),
        pfn_mkwrite: Some(Self::vma_fault),
        ..pin_init::zeroed()
    };

    const fn fault_vm_ops() -> &'static bindings::vm_operations_struct {
        &Self::FAULT_VM_OPS
    }

    const fn vm_ops() -> &'static bindings::vm_operations_struct {
        &Self::VM_OPS
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T`, with the reservation lock held. The core counts:
    /// it calls `vunmap` before it calls this again.
    unsafe extern "C" fn vmap(
        dmabuf: *mut bindings::dma_buf,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The buffer lives for the call, by the requirement of this function.
            let buffer = unsafe { Buffer::<T>::from_raw(dmabuf) };
            // SAFETY: It is dropped by `vunmap`, or with the buffer, and before its pages.
            let mapping = unsafe { Vmapped::new(buffer.pages(), 0..buffer.pages().size()) }?;
            let mapping = KBox::new(mapping, GFP_KERNEL_ACCOUNT)?;
            // INVARIANT: The lock is held, by the requirement of this function, until it returns,
            // and there is no other `Locked` meanwhile.
            let mut locked = Locked { buffer };
            let mut locked = LockedMut(&mut locked);
            locked.catch_up();
            T::vmap(&mut locked)?;
            // SAFETY: `map` is the core's, and may be written.
            unsafe { bindings::cohbuf_rs_iosys_map_set_vaddr(map, mapping.addr()) };
            // SAFETY: The lock is held, so that nobody else looks at `vmapping`.
            unsafe { *buffer.private().vmapping.get() = Some(mapping) };
            // SAFETY: As above.
            unsafe { *buffer.private().was_vmapped.get() = true };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the core for a buffer of `T` that `vmap` mapped, with the reservation lock held.
    unsafe extern "C" fn vunmap(dmabuf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) {
        // SAFETY: The buffer lives for the call, by the requirement of this function.
        let buffer = unsafe { Buffer::<T>::from_raw(dmabuf) };
        // SAFETY: The lock is held, so that nobody else looks at `vmapping`.
        unsafe { *buffer.private().vmapping.get() = None };
        // SAFETY: `map` is the core's, and may be written.
        unsafe { bindings::cohbuf_rs_iosys_map_clear(map) };
    }

    /// # Safety
    ///
    /// Called for a buffer of `T` that the caller has a reference to.
    unsafe fn query(dmabuf: *mut bindings::dma_buf) -> Query {
        // SAFETY: The buffer lives for the call, by the requirement of this function.
        T::query(unsafe { Buffer::from_raw(dmabuf) })
    }

    /// # Safety
    ///
    /// Called for an attachment of a buffer of `T`, which is not detached meanwhile.
    unsafe fn set_autofence(attach: *mut bindings::dma_buf_attachment, autofence: bool) -> Result {
        // SAFETY: `attach` has set `priv`. What is not guarded by the lock is never changed.
        let data = unsafe { &(*(*attach).priv_.cast::<AttachmentPrivate<T>>()).data };
        T::set_autofence(data, autofence)
    }

    /// # Safety
    ///
    /// Called for an attachment of a buffer of `T`, which is not detached meanwhile, with a table
    /// that some `dma_buf_map_attachment()` returned and that is not unmapped meanwhile, or null,
    /// with the reservation lock held.
    unsafe fn sync(
        attach: *mut bindings::dma_buf_attachment,
        table: *const bindings::sg_table,
        whom: SyncFor,
    ) -> Result {
        // SAFETY: The buffer lives for as long as it has an attachment.
        let buffer = unsafe { Buffer::<T>::from_raw((*attach).dmabuf) };
        // SAFETY: The caller holds the lock for the call.
        unsafe { bindings::cohbuf_rs_resv_assert_held(buffer.resv()) };
        // INVARIANT: The caller holds the lock for the call, and calls nothing else meanwhile.
        let mut locked = Locked { buffer };
        LockedMut(&mut locked).catch_up();
        let wanted = Wanted::<T> {
            // SAFETY: `attach` accepted it, and the lock is held.
            attachment: unsafe { Attachment::from_raw(attach) },
            table,
            whom,
        };
        while let Some(fences) = wanted.pending(LockedMut(&mut locked))? {
            locked.wait_fences(fences, true)?;
        }
        wanted.sync(LockedMut(&mut locked))
    }

    /// # Safety
    ///
    /// As for [`Self::sync`], but without the reservation lock.
    unsafe fn sync_unlocked(
        attach: *mut bindings::dma_buf_attachment,
        table: *const bindings::sg_table,
        whom: SyncFor,
    ) -> Result {
        // SAFETY: The buffer lives for as long as it has an attachment.
        let buffer = unsafe { Buffer::<T>::from_raw((*attach).dmabuf) };
        loop {
            let mut locked = buffer.lock()?;
            let wanted = Wanted::<T> {
                // SAFETY: `attach` accepted it, and the lock is held until the end of the block.
                attachment: unsafe { Attachment::from_raw(attach) },
                table,
                whom,
            };
            let Some(fences) = wanted.pending(locked.as_mut())? else {
                return wanted.sync(locked.as_mut());
            };
            drop(locked);
            buffer.wait_fences(fences)?;
        }
    }

    const INTERFACE: Interface = Interface {
        query: Self::query,
        set_autofence: Self::set_autofence,
        sync: Self::sync,
        sync_unlocked: Self::sync_unlocked,
    };

    const fn interface() -> &'static Interface {
        &Self::INTERFACE
    }

    const OPS: bindings::dma_buf_ops = bindings::dma_buf_ops {
        attach: Some(Self::attach),
        detach: Some(Self::detach),
        map_dma_buf: Some(Self::map),
        unmap_dma_buf: Some(Self::unmap),
        release: Some(Self::release),
        begin_cpu_access: Some(Self::begin_cpu_access),
        end_cpu_access: Some(Self::end_cpu_access),
        mmap: Some(Self::mmap),
        vmap: Some(Self::vmap),
        vunmap: Some(Self::vunmap),
        pin: None,
        unpin: None,
    };

    pub(crate) const fn build() -> &'static bindings::dma_buf_ops {
        &Self::OPS
    }
}
