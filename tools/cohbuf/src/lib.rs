// SPDX-License-Identifier: GPL-2.0

//! Make and use dma-bufs that know which device can see what.
//!
//! [`Device`] is `/dev/cohbuf`. It makes [`Buffer`]s: a *coherent* one refuses
//! every importer that could not see what the CPU wrote, a *bracketed* one (the
//! default) takes any importer, and CPU access to it goes between the two ends
//! of a window.
//!
//! ```no_run
//! use cohbuf::Device;
//!
//! # fn main() -> cohbuf::Result<()> {
//! let device = Device::open()?;
//! let buffer = device.buffer(1 << 20).name("frame 0").create()?;
//! let mut view = buffer.view()?;
//!
//! let mut window = view.write()?; // begins: devices are waited for
//! window[..5].copy_from_slice(b"hello");
//! window.end()?; // ends: devices see it
//! # Ok(())
//! # }
//! ```
//!
//! | to | there is |
//! |---|---|
//! | make a buffer | [`Device::buffer`], a [`BufferBuilder`] |
//! | take one that came from elsewhere | [`Buffer::try_from`](Buffer#impl-TryFrom<OwnedFd>-for-Buffer) a descriptor |
//! | read and write it in place | [`Buffer::view`], a [`View`], whose windows are slices |
//! | read and write a rectangle | [`View::write_rows`] and [`Region::rectangle`] |
//! | read and write by copies | [`Buffer::map`], a [`Mapping`], and [`Buffer::cpu_access`] |
//! | copy from one to another | [`Device::copy`] |
//! | get it to an importer that may refuse it | [`share()`](share::share) |
//! | know who has it, and what syncs cost | [`Device::info`], [`Device::inspect`] |
//! | pass it on | [`AsFd`](rustix::fd::AsFd), and [`Buffer::into_fd`] |
//!
//! All but regions, `info` and `inspect` serve a dma-buf of any exporter as well.
//!
//! # Errors
//!
//! An [`Error`] names what was tried, what the kernel answered, and what to do about it:
//!
//! ```text
//! cannot open /dev/cohbuf: No such file or directory (os error 2) (is the module loaded? try: modprobe cohbuf)
//! ```
//!
//! Nothing in this crate panics, and unsafe code is in one module of it.
//!
//! # Features
//!
//! `drm`: [`share()`](share::share) with DRM devices.

#![deny(missing_docs)]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo
    )
)]

mod access;
mod buffer;
mod builder;
mod device;
mod error;
mod info;
mod mapping;
mod region;
pub mod share;
mod sys;
pub mod uapi;
mod udmabuf;
mod view;

pub use access::{Access, CpuAccess, RegionAccess};
pub use buffer::Buffer;
pub use builder::{BufferBuilder, Enforce};
pub use device::{CreateFlags, Device, FdFlags};
pub use error::{Error, Operation, Result};
pub use info::{Attachment, AttachmentFlags, Caching, Info, Reach, State};
pub use mapping::{Mapping, Protection};
pub use region::{CopyRegion, Region, SyncCost};
pub use rustix::io::Errno;
pub use uapi::Caps;
pub use udmabuf::Udmabuf;
pub use view::{Bracket, ReadRows, ReadWindow, RowsMut, View, WriteRows, WriteWindow};

// What the front page shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
