// SPDX-License-Identifier: GPL-2.0

//! What an importer must be able to do.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::access::Access;
use crate::udmabuf::Udmabuf;

/// Something that takes a dma-buf by an interface of its own: PRIME of a DRM device, a
/// queue of V4L2, an API of a GPU.
pub trait Importer {
    /// A buffer that is imported. It is let go when this is dropped.
    type Import<'a>
    where
        Self: 'a;

    /// Attaches a dma-buf to the importer's device, and maps it where the interface maps
    /// when it imports. It must leave nothing behind where it fails.
    ///
    /// # Errors
    ///
    /// The errno of the interface, as it is: [`share`](super::share()) tells by it whether
    /// another buffer may do better.
    fn import(&self, buffer: BorrowedFd<'_>) -> Result<Self::Import<'_>, Errno>;

    /// A dma-buf of the importer's own driver, of at least `size` bytes, which
    /// [`import`](Self::import) takes, and producers can write.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the interface exports nothing, as if this is not implemented;
    /// else the errno of the interface.
    fn export(&self, size: u64) -> Result<OwnedFd, Errno> {
        let _ = size;
        Err(Errno::OPNOTSUPP)
    }
}

impl<T: Importer + ?Sized> Importer for &T {
    type Import<'a>
        = T::Import<'a>
    where
        Self: 'a;

    fn import(&self, buffer: BorrowedFd<'_>) -> Result<Self::Import<'_>, Errno> {
        (**self).import(buffer)
    }

    fn export(&self, size: u64) -> Result<OwnedFd, Errno> {
        (**self).export(size)
    }
}

/// An importer that exports nothing itself, but takes buffers of udmabuf.
///
/// Only for one whose device snoops the CPU caches: see [`Udmabuf`].
#[derive(Debug)]
pub struct WithUdmabuf<I> {
    importer: I,
    udmabuf: Udmabuf,
}

impl<I: Importer> WithUdmabuf<I> {
    /// Adds udmabuf to an importer.
    pub fn new(importer: I, udmabuf: Udmabuf) -> Self {
        Self { importer, udmabuf }
    }
}

impl<I: Importer> Importer for WithUdmabuf<I> {
    type Import<'a>
        = I::Import<'a>
    where
        Self: 'a;

    fn import(&self, buffer: BorrowedFd<'_>) -> Result<Self::Import<'_>, Errno> {
        self.importer.import(buffer)
    }

    fn export(&self, size: u64) -> Result<OwnedFd, Errno> {
        let own = self.udmabuf.create(size).and_then(|buffer| {
            // udmabuf maps the pages for a device of its own in the direction of the first
            // access, and syncs them in those of all later ones, which must be the same.
            buffer.cpu_access(Access::ReadWrite)?.end()?;
            Ok(buffer.into_fd())
        });
        own.map_err(|error| error.errno())
    }
}
