// SPDX-License-Identifier: GPL-2.0

//! One buffer: carries out for the dma-buf core what the policy decides.

use dma_buf::{
    device::{
        has_own_dma_ops,
        notice_refused, //
    },
    Buffer,
    Caching,
    CpuAccess,
    DmaBuf,
    Exporter,
    MapRequest,
    Mapping,
    Pages,
    UnmapRequest, //
};
use kernel::{
    device::Device,
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    }, //
};

use crate::{
    coherency,
    copies::Base,
    maintenance,
    policy::{
        self,
        Access,
        Kind,
        Reach,
        Refusal, //
    },
    stats::Stats, //
};

/// What is known of a buffer besides its memory.
pub(crate) struct CohBuf {
    kind: Kind,
    stats: Stats,
    /// Whether there may be write windows. A hint for those who do not have the lock.
    windows: Atomic<u32>,
}

impl CohBuf {
    /// Allocates a buffer of `size` bytes, a multiple of the page size, and exports it.
    ///
    /// # Errors
    ///
    /// As [`Pages::alloc`] and [`DmaBuf::export`].
    pub(crate) fn export(size: usize, kind: Kind, file_flags: u32) -> Result<ARef<DmaBuf>> {
        let caching = match kind {
            Kind::Bracketed | Kind::Coherent => Caching::WriteBack,
            Kind::WriteCombine => Caching::WriteCombine,
        };
        let pages = Arc::new(Pages::alloc(size, caching)?, GFP_KERNEL)?;
        let data = Self {
            kind,
            stats: Stats::new(),
            windows: Atomic::new(0),
        };
        DmaBuf::export(data, maintenance::State::new(), pages, file_flags)
    }

    /// What it was made for; never changes.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What has happened to it.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    fn refuse(buffer: Buffer<'_, Self>, dev: &Device, refusal: Refusal) -> Error {
        let why = match refusal {
            Refusal::NotCoherent => c"coherent buffer, device is not DMA-coherent",
            Refusal::Snoops => c"write-combined buffer, device snoops a cached mapping of it",
            Refusal::Unknown => c"nobody maintains it, device has DMA ops of its own that may copy",
            Refusal::Bounced => c"nobody maintains it, mapping would be bounced",
            Refusal::Beside => {
                c"device has DMA ops of its own, and others may write the buffer now"
            }
        };
        notice_refused(dev, buffer, why);
        match refusal {
            Refusal::NotCoherent | Refusal::Snoops | Refusal::Unknown | Refusal::Bounced => {
                EOPNOTSUPP
            }
            Refusal::Beside => EBUSY,
        }
    }
}

impl Exporter for CohBuf {
    type OwnerModule = crate::LocalModule;
    type Attachment = ();
    type Mapping = Base;
    type State = maintenance::State;
    const NAME: &'static CStr = c"cohbuf";

    fn attach(buffer: Buffer<'_, Self>, dev: &Device) -> Result {
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

    fn map<'a>(mut request: MapRequest<'a, Self>) -> Result<(Mapping<'a>, Base)> {
        let buffer = request.buffer();
        let refuse = |request: &MapRequest<'a, Self>, refusal| {
            buffer.stats.map_refused();
            Self::refuse(buffer, request.attachment().device(), refusal)
        };

        // Ask first: what is certain to be bounced need not be copied, nor fail for the want of
        // bounce buffers. Then look, as the answer does not cover an IOMMU.
        if request.would_bounce() {
            policy::map(buffer.kind, Reach::Bounced).map_err(|r| refuse(&request, r))?;
        }
        maintenance::forget_dead(&mut request.locked_mut());
        let mapping = request.map()?;
        let allowed = policy::map(buffer.kind, maintenance::reach_of(&mapping))
            .and_then(|()| maintenance::beside(request.locked(), &mapping));
        if let Err(refusal) = allowed {
            mapping.discard();
            return Err(refuse(&request, refusal));
        }
        match maintenance::mapped(&mut request.locked_mut(), &mapping) {
            Ok(base) => Ok((mapping, base)),
            Err(e) => {
                mapping.discard();
                Err(e)
            }
        }
    }

    fn unmap(request: &mut UnmapRequest<'_, Self>) {
        maintenance::forget_dead(&mut request.locked_mut());
        maintenance::unmap(request);
    }

    fn vma_close(buffer: Buffer<'_, Self>, mm: &Mm) {
        // Whoever has a window has opened it before it wrote by this mapping.
        if buffer.windows.load(Acquire) == 0 {
            return;
        }
        let mut locked = buffer.lock_uninterruptible();
        let mut locked = locked.as_mut();
        // A process that is killed leaves its windows open. What it wrote must not stay in the
        // caches, from where it could go over a device's data later; nor in a window that nobody
        // can end.
        if locked.state().windows.any_of(mm) {
            maintenance::end(&mut locked, Access::Write);
            locked.state_mut().windows.forget_dead();
        }
    }

    fn begin_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        // Fences first (R5): what is invalidated while a device still writes is stale again.
        let mut locked = buffer.lock_after_fences(access)?;
        let mut locked = locked.as_mut();

        maintenance::forget_dead(&mut locked);
        // Who cannot map it to write has no window to write in.
        let opens = buffer.kind == Kind::Bracketed && access.writes() && buffer.is_writable();
        if opens {
            // What can fail comes before what cannot be undone.
            locked.state_mut().windows.reserve()?;
        }
        maintenance::begin(&mut locked);
        if opens {
            locked.state_mut().windows.open()?;
            buffer.windows.store(1, Release);
        }
        Ok(())
    }

    fn end_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        if buffer.kind == Kind::WriteCombine {
            dma_buf::write_barrier();
        }
        if buffer.kind != Kind::Bracketed || !access.writes() {
            return Ok(());
        }
        let mut locked = buffer.lock()?;
        let mut locked = locked.as_mut();
        maintenance::forget_dead(&mut locked);
        maintenance::end(&mut locked, access_of(access));
        locked.state_mut().windows.end();
        buffer
            .windows
            .store(locked.state().windows.any().into(), Release);
        Ok(())
    }
}

fn access_of(access: CpuAccess) -> Access {
    match access {
        CpuAccess::Read => Access::Read,
        CpuAccess::Write => Access::Write,
        CpuAccess::ReadWrite => Access::ReadWrite,
    }
}
