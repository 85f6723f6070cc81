// SPDX-License-Identifier: GPL-2.0

//! Make and use dma-bufs that know which device can see what.
//!
//! [`Device`] is `/dev/cohbuf`. It makes [`Buffer`]s: a *coherent* one refuses
//! every importer that could not see what the CPU wrote, a *bracketed* one (the
//! default) takes any importer, and CPU access to it goes between the two ends
//! of a [`CpuAccess`]. [`Buffer`] and [`Mapping`] serve a dma-buf of any other
//! exporter as well. [`share`] gets a buffer to an importer that may refuse it.
//!
//! ```no_run
//! use cohbuf::{Access, CreateFlags, Device};
//!
//! # fn main() -> cohbuf::Result<()> {
//! let device = Device::open()?;
//! let buffer = device.create(1 << 20, CreateFlags::empty())?;
//! let mapping = buffer.map()?;
//!
//! let window = buffer.cpu_access(Access::Write)?;
//! mapping.write(0, b"hello")?;
//! window.end()?;
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod access;
mod buffer;
mod device;
mod error;
mod info;
mod mapping;
mod region;
pub mod share;
mod sys;
pub mod uapi;
mod udmabuf;

pub use access::{Access, CpuAccess, RegionAccess};
pub use buffer::Buffer;
pub use device::{CreateFlags, Device, FdFlags};
pub use error::{Error, Operation, Result};
pub use info::{Attachment, AttachmentFlags, Caching, Info, Reach, State};
pub use mapping::{Mapping, Protection};
pub use region::{CopyRegion, Region, SyncCost};
pub use rustix::io::Errno;
pub use uapi::Caps;
pub use udmabuf::Udmabuf;
