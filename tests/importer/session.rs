// SPDX-License-Identifier: GPL-2.0

//! The open file: its attachments, and what the ioctls do with them.

use dma_buf::{
    compat::{
        self,
        EOPNOTSUPP, //
    },
    device::is_dma_coherent,
    test_models,
    DmaBuf,
    ImportedMapping,
    PortAttachment, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    uaccess::UserSlice, //
};

use crate::{
    devices::{
        self,
        Engine, //
    },
    edu::MEMORY_SIZE,
    uapi::{
        self,
        Kind,
        ModelOp, //
    },
};

type Attachment = PortAttachment<Engine>;

/// What an open file has.
#[pin_data]
pub(crate) struct Session {
    #[pin]
    handles: Mutex<Handles>,
}

/// Attachments by their handles, which are not used twice.
struct Handles {
    next: u32,
    list: KVec<(u32, Arc<Attachment>)>,
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Pin<KBox<Self>>;

    fn open(file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        compat::keep_module(file, misc)?;
        KBox::pin_init(
            pin_init!(Self {
                handles <- new_mutex!(Handles {
                    next: 1,
                    list: KVec::new(),
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = UserPtr::from_addr(arg);

        match cmd {
            uapi::IOCTL_ATTACH => me.attach(arg)?,
            uapi::IOCTL_DETACH => me.detach(read(arg)?)?,
            uapi::IOCTL_MAP => me.map(arg)?,
            uapi::IOCTL_UNMAP => me.unmap(read(arg)?)?,
            uapi::IOCTL_DMA => me.dma(read(arg)?)?,
            uapi::IOCTL_MODEL => model(arg)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

impl Session {
    fn attach(&self, arg: UserPtr) -> Result {
        let mut attach: uapi::Attach = read(arg)?;
        let port = devices::find(Kind::try_from(attach.device)?, attach.index)?;

        attach.coherent = is_dma_coherent(port.device()).into();
        let attached = DmaBuf::from_fd(attach.fd)
            .and_then(|buf| port.attach(buf))
            .and_then(|attachment| self.insert(attachment));
        attach.handle = attached.unwrap_or(0);

        let written = write(arg, &mut attach);
        if written.is_err() && attached.is_ok() {
            // User space does not know the handle. Whoever guessed it may have been faster.
            let _ = self.detach(attach.handle);
        }

        attached?;
        written
    }

    fn detach(&self, handle: u32) -> Result {
        let mut handles = self.handles.lock();
        let at = handles
            .list
            .iter()
            .position(|(of, _)| *of == handle)
            .ok_or(ENOENT)?;
        let removed = handles.list.remove(at);

        // Detaching waits for the device, the other attachments need not.
        drop(handles);
        drop(removed);
        Ok(())
    }

    fn map(&self, arg: UserPtr) -> Result {
        let mut map: uapi::Map = read(arg)?;
        let attachment = self.get(map.handle)?;
        let look = map.bounced != uapi::DO_NOT_LOOK;
        let info = attachment.map(uapi::direction(map.direction)?, look)?;

        map.segments = info.segments.try_into()?;
        if look {
            map.bounced = info.bounced.into();
        }
        write(arg, &mut map).inspect_err(|_| {
            // What failed changes nothing.
            let _ = attachment.unmap();
        })
    }

    fn unmap(&self, map: uapi::Map) -> Result {
        self.get(map.handle)?.unmap()
    }

    fn dma(&self, dma: uapi::Dma) -> Result {
        let attachment = self.get(dma.handle)?;
        let write = match dma.write {
            0 => false,
            1 => true,
            _ => return Err(EINVAL),
        };
        let offset = usize::try_from(dma.offset)?;
        let end = offset
            .checked_add(usize::try_from(dma.len)?)
            .ok_or(EINVAL)?;
        if offset == end {
            return Err(EINVAL);
        }

        let data = UserPtr::from_addr(usize::try_from(dma.data)?);
        let mut piece = KVec::from_elem(0, MEMORY_SIZE, GFP_KERNEL)?;
        let mut at = offset;
        while at < end {
            if kernel::current!().signal_pending() {
                return Err(EINTR);
            }

            let here = data.wrapping_byte_add(at - offset);
            let len = (end - at).min(MEMORY_SIZE);
            let piece = piece.get_mut(..len).ok_or(EINVAL)?;
            if write {
                UserSlice::new(here, len).reader().read_slice(piece)?;
            }

            // A piece at a time, so that nobody waits long for the device.
            let done = attachment.with_mapping(|dev, engine, mapping| {
                if end > mapping.buf().size() {
                    return Err(EINVAL);
                }
                if matches!(engine, Engine::None) {
                    return Err(EOPNOTSUPP);
                }
                if !allows(mapping.direction(), write) {
                    return Err(EACCES);
                }

                transfer(engine, dev, mapping, at, piece, write)
            })?;

            if !write {
                let piece = piece.get(..done).ok_or(EINVAL)?;
                UserSlice::new(here, done).writer().write_slice(piece)?;
            }
            at += done;
        }
        Ok(())
    }

    fn insert(&self, attachment: Attachment) -> Result<u32> {
        let attachment = Arc::new(attachment, GFP_KERNEL)?;
        let mut handles = self.handles.lock();
        let handle = handles.next;

        handles.next = handle.checked_add(1).ok_or(ENOSPC)?;
        handles.list.push((handle, attachment), GFP_KERNEL)?;
        Ok(handle)
    }

    fn get(&self, handle: u32) -> Result<Arc<Attachment>> {
        self.handles
            .lock()
            .list
            .iter()
            .find(|(of, _)| *of == handle)
            .map(|(_, attachment)| attachment.clone())
            .ok_or(ENOENT)
    }
}

/// Whether a device may write, or else read, through a mapping of that direction.
fn allows(dir: DataDirection, write: bool) -> bool {
    match dir {
        DataDirection::Bidirectional => true,
        DataDirection::ToDevice => !write,
        DataDirection::FromDevice => write,
        DataDirection::None => false,
    }
}

/// Moves bytes from or to `at` in the buffer, as many as the device can at a time, and returns how
/// many.
fn transfer(
    engine: &mut Engine,
    dev: &Device<Bound>,
    mapping: &ImportedMapping<'_>,
    at: usize,
    piece: &mut [u8],
    write: bool,
) -> Result<usize> {
    match engine {
        Engine::None => Err(EOPNOTSUPP),
        Engine::Edu(edu) => {
            let segment = mapping.segment_at(at).ok_or(EINVAL)?;
            let len = piece.len().min(segment.len);
            let piece = piece.get_mut(..len).ok_or(EINVAL)?;

            if write {
                edu.write(dev, segment.address, piece)?;
            } else {
                edu.read(dev, segment.address, piece)?;
            }
            Ok(len)
        }
        Engine::Model => {
            if write {
                mapping.device_write(at, piece)?;
            } else {
                mapping.device_read(at, piece)?;
            }
            Ok(piece.len())
        }
    }
}

fn model(arg: UserPtr) -> Result {
    let mut model: uapi::Model = read(arg)?;
    if model.reserved != 0 {
        return Err(EINVAL);
    }

    match ModelOp::try_from(model.op)? {
        ModelOp::Reset => test_models::reset(),
        ModelOp::ZeroCounts => {
            test_models::zero_counts();
            Ok(())
        }
        ModelOp::Evict => {
            test_models::evict();
            Ok(())
        }
        ModelOp::DropClean => {
            test_models::drop_clean();
            Ok(())
        }
        ModelOp::Track => test_models::track_user(model.addr.try_into()?, model.len.try_into()?),
        ModelOp::Counts => {
            let counts = test_models::counts();

            model.clean_bytes = counts.clean_bytes;
            model.clean_calls = counts.clean_calls;
            model.invalidate_bytes = counts.invalidate_bytes;
            model.invalidate_calls = counts.invalidate_calls;
            model.to_bounce_bytes = counts.to_bounce_bytes;
            model.to_bounce_calls = counts.to_bounce_calls;
            model.from_bounce_bytes = counts.from_bounce_bytes;
            model.from_bounce_calls = counts.from_bounce_calls;
            model.wb_bytes = counts.wb_bytes;
            model.drop_bytes = counts.drop_bytes;
            write(arg, &mut model)
        }
        ModelOp::Attrs => {
            let attrs = test_models::user_attrs(model.addr.try_into()?)?;

            // CAST: The numbers are those of the header.
            model.user_type = attrs.user as u32;
            model.linear_type = attrs.linear as u32;
            write(arg, &mut model)
        }
    }
}

fn read<T: FromBytes + IntoBytes>(arg: UserPtr) -> Result<T> {
    let mut value = T::new_zeroed();

    UserSlice::new(arg, size_of::<T>())
        .reader()
        .read_slice(value.as_mut_bytes())?;
    Ok(value)
}

fn write<T: FromBytes + IntoBytes>(arg: UserPtr, value: &mut T) -> Result {
    UserSlice::new(arg, size_of::<T>())
        .writer()
        .write_slice(value.as_mut_bytes())
}
