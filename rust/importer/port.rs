// SPDX-License-Identifier: GPL-2.0

//! Attachments of a device that others than its driver hold on to.
//!
//! A file that user space holds open lives as long as user space likes, but a DMA mapping must be
//! gone when the device loses its driver. So it is not the file that owns the attachments but the
//! [`Port`] of the device, and the file holds [`PortAttachment`]s, which name them. When the device
//! is unbound, the port closes: it unmaps and detaches everything, and from then on whoever still
//! holds a name gets `ENODEV`.

use kernel::{
    device::{
        Bound,
        Core,
        Device, //
    },
    devres,
    dma::{
        self,
        DataDirection,
        DmaMask, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};

use super::{
    ImportedAttachment,
    ImportedMapping, //
};
use crate::{
    buf::DmaBuf,
    compat::ENOTCONN, //
};

/// The attachments of one device, and with them what its driver needs to make use of them.
///
/// `T` is the driver's: registers, descriptor rings. It is dropped when the device is unbound, after
/// the attachments. One lock serialises everything that is done through a port.
#[pin_data]
pub struct Port<T: Send + 'static> {
    dev: ARef<Device>,
    #[pin]
    open: Mutex<Option<Open<T>>>,
}

/// What a port has while its device is bound.
struct Open<T> {
    // Fields drop in this order: no device may write to a buffer that its driver lost track of.
    attachments: KVec<Slot>,
    data: T,
    next_id: u64,
}

// `data` is handed out as `&mut T`: it is never pinned.
impl<T> Unpin for Open<T> {}

/// An attachment and its name.
///
/// # Invariants
///
/// The lifetimes of what `state` holds are not `'static` but end when the device is unbound. A slot
/// is reached by way of an open [`Port`] alone, and the port closes before that.
struct Slot {
    id: u64,
    state: State,
}

enum State {
    Attached(ImportedAttachment<'static>),
    Mapped(ImportedMapping<'static>),
    /// Only while the lock is held, between one state and the next.
    Changing,
}

/// What there is to know of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct MappingInfo {
    /// The number of segments.
    pub segments: usize,
    /// Whether a segment is bounced, where that was asked.
    pub bounced: bool,
}

/// Closes a port when the device that it was registered with is unbound.
struct CloseOnUnbind<T: Send + 'static>(Arc<Port<T>>);

impl<T: Send + 'static> Drop for CloseOnUnbind<T> {
    fn drop(&mut self) {
        let open = self.0.open.lock().take();

        // Outside of the lock, which the driver's own `T` has no business to run under.
        drop(open);
    }
}

impl<T: Send + 'static> Port<T> {
    /// Opens a port for a device that is bound; it closes when the device is unbound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no memory for the port.
    pub fn new(dev: &Device<Bound>, data: T) -> Result<Arc<Self>> {
        let open = Open {
            attachments: KVec::new(),
            data,
            next_id: 0,
        };
        let port = Arc::pin_init(
            pin_init!(Self {
                dev: dev.into(),
                open <- new_mutex!(Some(open), "dma_buf::Port::open"),
            }),
            GFP_KERNEL,
        )?;

        devres::register(dev, CloseOnUnbind(port.clone()), GFP_KERNEL)?;
        Ok(port)
    }

    /// As [`Port::new`], for the probe function of a driver: first tells the kernel which addresses
    /// the device can reach, then has `init` set the device up.
    ///
    /// # Errors
    ///
    /// - `EIO`: the platform cannot do DMA with `mask`.
    /// - `ENOMEM`: no memory for the port.
    /// - Whatever `init` fails with.
    pub fn probe<'bound, D>(
        dev: &D,
        mask: DmaMask,
        init: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<Self>>
    where
        D: dma::Device<'bound>,
    {
        // SAFETY: A `Core` device is one in a callback of its bus, here the probe function of the
        // driver that calls; so nobody has got the device from the driver to map or allocate with.
        unsafe { dev.dma_set_mask_and_coherent(mask)? };

        let dev: &Device<Core<'bound>> = dev.as_ref();
        Self::new(dev, init()?)
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.dev
    }

    /// Attaches the device to `buf`.
    ///
    /// # Errors
    ///
    /// `ENODEV` where the device is not bound any more, else those of [`ImportedAttachment::new`].
    pub fn attach(self: &Arc<Self>, buf: ARef<DmaBuf>) -> Result<PortAttachment<T>> {
        let mut guard = self.open.lock();
        let open = (*guard).as_mut().ok_or(ENODEV)?;

        // First what can fail without leaving anything to take back.
        open.attachments.reserve(1, GFP_KERNEL)?;

        // SAFETY: The port is open, so its device is bound, and stays so while the lock is held:
        // unbinding waits in `CloseOnUnbind` for the lock. That closes the port before the device
        // is gone, hence the attachment does not outlive it (INVARIANT of `Slot`).
        let dev: &'static Device<Bound> = unsafe { bound_for_ever(&self.dev) };
        // SAFETY: The port drops its attachments when it is closed, before `dev` is unbound.
        let attachment = unsafe { ImportedAttachment::new(buf, dev) }?;

        let id = open.next_id;
        open.next_id += 1;
        open.attachments.push(
            Slot {
                id,
                state: State::Attached(attachment),
            },
            GFP_KERNEL,
        )?;

        Ok(PortAttachment {
            port: self.clone(),
            id,
        })
    }
}

/// Gives out a reference to `dev` that the caller promises to end in time.
///
/// # Safety
///
/// `dev` must be bound, and nothing that is made of the result may be used after it is unbound.
unsafe fn bound_for_ever(dev: &Device) -> &'static Device<Bound> {
    // SAFETY: By the requirements of this function, `dev` is bound for as long as the result is in
    // use, and a bound device is a live one.
    unsafe { &*core::ptr::from_ref(dev.as_bound()) }
}

/// The name of an attachment in a [`Port`]. Dropping it unmaps and detaches.
pub struct PortAttachment<T: Send + 'static> {
    port: Arc<Port<T>>,
    id: u64,
}

impl<T: Send + 'static> PortAttachment<T> {
    /// Returns the port.
    pub fn port(&self) -> &Port<T> {
        &self.port
    }

    /// Runs `f` on the attachment and the driver's data, with the lock of the port held.
    fn with<R>(&self, f: impl FnOnce(&mut State, &mut T) -> Result<R>) -> Result<R> {
        let mut guard = self.port.open.lock();
        let open = (*guard).as_mut().ok_or(ENODEV)?;
        let slot = open
            .attachments
            .iter_mut()
            .find(|slot| slot.id == self.id)
            .ok_or(ENODEV)?;

        f(&mut slot.state, &mut open.data)
    }

    /// Maps the buffer for the device. `look`: whether a segment is bounced, which takes time.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it is mapped, `ENODEV` where the device is not bound any more, else those of
    /// [`ImportedAttachment::map`].
    pub fn map(&self, dir: DataDirection, look: bool) -> Result<MappingInfo> {
        self.with(|state, _| {
            let (next, result) = match core::mem::replace(state, State::Changing) {
                State::Attached(attachment) => match attachment.map(dir) {
                    Ok(mapping) => {
                        let info = MappingInfo {
                            segments: mapping.segment_count(),
                            bounced: look && mapping.is_bounced(),
                        };
                        (State::Mapped(mapping), Ok(info))
                    }
                    Err((attachment, error)) => (State::Attached(attachment), Err(error)),
                },
                other => (other, Err(EBUSY)),
            };

            *state = next;
            result
        })
    }

    /// Unmaps the buffer.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` where it is not mapped, `ENODEV` where the device is not bound any more.
    pub fn unmap(&self) -> Result {
        self.with(|state, _| {
            let (next, result) = match core::mem::replace(state, State::Changing) {
                State::Mapped(mapping) => (State::Attached(mapping.unmap()), Ok(())),
                other => (other, Err(ENOTCONN)),
            };

            *state = next;
            result
        })
    }

    /// Runs `f` on the mapping and the driver's data. Neither goes away meanwhile, nor does the
    /// driver of the device: unbinding waits. So `f` must end in bounded time.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` where the buffer is not mapped, `ENODEV` where the device is not bound any more,
    /// else what `f` returns.
    pub fn with_mapping<R>(
        &self,
        f: impl for<'a> FnOnce(&'a Device<Bound>, &'a mut T, &'a ImportedMapping<'a>) -> Result<R>,
    ) -> Result<R> {
        self.with(|state, data| {
            let State::Mapped(mapping) = state else {
                return Err(ENOTCONN);
            };

            // SAFETY: `with` runs this with the lock of an open port held, so the device is bound
            // until it returns.
            let dev = unsafe { self.port.dev.as_bound() };
            f(dev, data, mapping)
        })
    }
}

impl<T: Send + 'static> Drop for PortAttachment<T> {
    fn drop(&mut self) {
        let mut guard = self.port.open.lock();
        let Some(open) = (*guard).as_mut() else {
            // The port has closed, and took the attachment with it.
            return;
        };

        open.attachments.retain(|slot| slot.id != self.id);
    }
}
