// SPDX-License-Identifier: GPL-2.0

//! A buffer for an importer that may refuse it (R12).
//!
//! [`share()`] tries three ways, in this order, and takes the first that works:
//!
//! 1. [*direct*](Way::Direct): the importer imports the buffer as it is.
//! 2. [*reverse*](Way::Reverse): the importer's own driver exports a buffer, which gets
//!    the bytes by `COHBUF_IOCTL_COPY`. Producers write into that one from then on.
//! 3. [*copy*](Way::Copy): the importer imports a new bracketed buffer, which gets the
//!    bytes by `COHBUF_IOCTL_COPY` at each hand-over: [`Shared::refresh`].
//!
//! An [`Importer`] is whatever takes a dma-buf by an interface of its own. The one for
//! DRM devices is here (`DrmDevice`, with the feature `drm`).
//!
//! ```no_run
//! # #[cfg(feature = "drm")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cohbuf::share::{DrmDevice, share};
//! use cohbuf::{Access, CreateFlags, Device};
//!
//! let device = Device::open()?;
//! let buffer = device.create(1 << 20, CreateFlags::COHERENT)?;
//! let card = DrmDevice::open("/dev/dri/card0")?;
//!
//! let shared = share(&device, &buffer, &card)?;
//! println!("{}, at {} bytes an update", shared.way(), shared.cost().copied_per_update);
//!
//! // An update: write where producers write, then hand it over.
//! let target = shared.producer_buffer();
//! let mapping = target.map()?;
//! let window = target.cpu_access(Access::Write)?;
//! mapping.write(0, b"hello")?;
//! window.end()?;
//! shared.refresh()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "drm"))]
//! # fn main() {}
//! ```
//!
//! # Which errors of an importer mean "try the next way"
//!
//! Whether the buffer is a dma-buf, and not poisoned, is known before an importer sees
//! it. So an errno of its import is about this importer and this buffer, and all but
//! these mean that another buffer may do better:
//!
//! | errno | why no other way is tried |
//! |---|---|
//! | `EBADF`, `EFAULT` | the importer was called wrongly |
//! | `EACCES`, `EPERM` | the caller may not use the importer |
//! | `EMFILE`, `ENFILE` | there is no file descriptor for any way |
//! | `EINTR` | the caller has to decide what the signal means |
//! | `ENODEV` | the importer's device is gone |
//!
//! `EOPNOTSUPP` is the answer of R1, R2 and R14, and of a driver that imports nothing;
//! `EBUSY` that two devices with DMA ops of their own cannot write one buffer; `EINVAL`,
//! `ENXIO`, `EIO`, `E2BIG`, `ENOSPC` and the like are what drivers say of memory that is
//! not contiguous, not in reach or not mappable; `ENOMEM` is also what a full bounce
//! buffer gives, which another buffer may not need; `ENOSYS` and `ENOTTY` are those of
//! drivers that import nothing but may export. Where memory is short in earnest, the other
//! ways fail with `ENOMEM`, too, and nothing is lost.

mod cost;
#[cfg(feature = "drm")]
mod drm;
mod importer;

use core::fmt;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

use crate::buffer::Buffer;
use crate::device::{CreateFlags, Device};
use crate::error::Error;
use crate::info::State;
use crate::region::{CopyRegion, Region};

pub use cost::Cost;
#[cfg(feature = "drm")]
pub use drm::{DrmDevice, DrmImport};
pub use importer::{Importer, WithUdmabuf};

/// How an importer gets at a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It imports the buffer as it is.
    Direct,
    /// Its own driver has exported a buffer that replaces it.
    Reverse,
    /// It imports a copy.
    Copy,
}

impl Way {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Reverse, Self::Copy];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Reverse => "reverse",
            Self::Copy => "copy",
        })
    }
}

/// A step of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The importer's driver exports a buffer.
    Export,
    /// A bracketed buffer is made.
    Create,
    /// The new buffer gets the bytes.
    Fill,
    /// The importer imports.
    Import,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Export => "export",
            Self::Create => "create",
            Self::Fill => "fill",
            Self::Import => "import",
        })
    }
}

/// Why a way did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {errno}")]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// What it failed with.
    pub errno: Errno,
}

/// A way that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub way: Way,
    /// How it went.
    pub result: Result<(), Failure>,
}

/// A buffer that could not be shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The buffer is not good for anybody: it is no dma-buf, or it is poisoned (`EIO`).
    #[error("the buffer cannot be shared: {0}")]
    Buffer(#[from] Error),
    /// The importer failed in a way that says nothing about the buffer.
    #[error("the importer cannot be used: {0}")]
    Importer(Failure),
    /// No way works. Each that was tried is here, in order.
    #[error("no way works: {}", attempts_text(.0))]
    NoWay(Vec<Attempt>),
}

impl ShareError {
    /// The ways that were tried.
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::NoWay(attempts) => attempts,
            Self::Buffer(_) | Self::Importer(_) => &[],
        }
    }

    /// What to do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Buffer(error) => error.hint(),
            Self::Importer(_) => None,
            Self::NoWay(attempts) => {
                let exports_nothing = attempts.iter().any(|attempt| {
                    let step = attempt.result.err().map(|failure| failure.step);
                    attempt.way == Way::Reverse && step == Some(Step::Export)
                });
                exports_nothing.then_some(
                    "the importer's driver exports nothing: where its device snoops the CPU caches, \
                     udmabuf can export for it (WithUdmabuf)",
                )
            }
        }
    }
}

fn attempts_text(attempts: &[Attempt]) -> String {
    let failed = attempts.iter().filter_map(|attempt| {
        let failure = attempt.result.err()?;
        Some(format!("{} ({failure})", attempt.way))
    });
    failed.collect::<Vec<_>>().join(", ")
}

/// Gets a buffer of any exporter to an importer, by the first of all ways that works.
///
/// # Errors
///
/// [`ShareError`]. Nothing stays imported then.
pub fn share<'a, I: Importer>(
    device: &'a Device,
    buffer: &'a Buffer,
    importer: &'a I,
) -> Result<Shared<'a, I>, ShareError> {
    share_by(device, buffer, importer, &Way::ALL)
}

/// The same by some ways only, in the order of the list. Leave [`Way::Reverse`] out where
/// the producer cannot be told to write into another buffer.
///
/// # Errors
///
/// [`ShareError`]. Nothing stays imported then.
pub fn share_by<'a, I: Importer>(
    device: &'a Device,
    buffer: &'a Buffer,
    importer: &'a I,
    ways: &[Way],
) -> Result<Shared<'a, I>, ShareError> {
    match device.info(buffer) {
        Ok(info) if info.state.contains(State::POISONED) => {
            let poisoned = Error::new(crate::Operation::Share, Errno::IO);
            return Err(ShareError::Buffer(poisoned));
        }
        Ok(_) => {}
        // Of another exporter, which is as good.
        Err(error) if error.errno() == Errno::MEDIUMTYPE => {}
        Err(error) => return Err(error.into()),
    }
    let mut attempts = Vec::new();
    for &way in ways {
        let result = match way {
            Way::Direct => direct(buffer, importer),
            Way::Reverse => reverse(device, buffer, importer),
            Way::Copy => copy(device, buffer, importer),
        };
        match result {
            Ok((own, import)) => {
                attempts.push(Attempt {
                    way,
                    result: Ok(()),
                });
                let cost = Cost::of(device, way, buffer, own.as_ref());
                return Ok(Shared {
                    device,
                    source: buffer,
                    import,
                    own,
                    way,
                    attempts,
                    cost,
                });
            }
            Err(failure) if way == Way::Direct && is_final(failure.errno) => {
                return Err(ShareError::Importer(failure));
            }
            Err(failure) => attempts.push(Attempt {
                way,
                result: Err(failure),
            }),
        }
    }
    Err(ShareError::NoWay(attempts))
}

/// Whether an errno of an import says nothing about the buffer, so that no other would
/// do better. The argument is in the documentation of the module.
fn is_final(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::BADF
            | Errno::FAULT
            | Errno::ACCESS
            | Errno::PERM
            | Errno::MFILE
            | Errno::NFILE
            | Errno::INTR
            | Errno::NODEV
    )
}

/// What a way gives: the buffer that it made, if it made one, and the import.
type Taken<'a, I> = Result<(Option<Buffer>, <I as Importer>::Import<'a>), Failure>;

fn at(step: Step) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, errno }
}

fn at_error(step: Step) -> impl Fn(Error) -> Failure {
    move |error| at(step)(error.errno())
}

fn direct<'a, I: Importer>(buffer: &Buffer, importer: &'a I) -> Taken<'a, I> {
    let import = importer.import(buffer.as_fd()).map_err(at(Step::Import))?;
    Ok((None, import))
}

fn reverse<'a, I: Importer>(device: &Device, buffer: &Buffer, importer: &'a I) -> Taken<'a, I> {
    let fd = importer.export(buffer.size()).map_err(at(Step::Export))?;
    let own = Buffer::try_from(fd).map_err(at_error(Step::Export))?;
    // The importer never sees what was there before.
    fill(device, buffer, own.as_fd(), buffer.size())?;
    let import = importer.import(own.as_fd()).map_err(at(Step::Import))?;
    Ok((Some(own), import))
}

fn copy<'a, I: Importer>(device: &Device, buffer: &Buffer, importer: &'a I) -> Taken<'a, I> {
    let own = device
        .create(buffer.size(), CreateFlags::empty())
        .map_err(at_error(Step::Create))?;
    fill(device, buffer, own.as_fd(), buffer.size())?;
    let import = importer.import(own.as_fd()).map_err(at(Step::Import))?;
    Ok((Some(own), import))
}

fn fill(device: &Device, from: &Buffer, to: BorrowedFd<'_>, size: u64) -> Result<(), Failure> {
    device
        .copy(from, to, Region::linear(0..size).into())
        .map(drop)
        .map_err(at_error(Step::Fill))
}

/// A buffer that an importer has got. It lets go when this is dropped.
pub struct Shared<'a, I: Importer + 'a> {
    device: &'a Device,
    source: &'a Buffer,
    // Dropped before the buffer that it is of.
    import: I::Import<'a>,
    own: Option<Buffer>,
    way: Way,
    attempts: Vec<Attempt>,
    cost: Cost,
}

impl<'a, I: Importer + 'a> Shared<'a, I> {
    /// The way that was taken.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The ways that were tried, in order. The last is the one that was taken.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What it costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The buffer that producers write into: by the reverse way another than the one that
    /// was shared, and maybe larger, as its exporter likes.
    pub fn producer_buffer(&self) -> &Buffer {
        match (self.way, &self.own) {
            (Way::Reverse, Some(own)) => own,
            _ => self.source,
        }
    }

    /// The buffer that the importer has: by the copy way another than that of the producers.
    pub fn importer_buffer(&self) -> &Buffer {
        self.own.as_ref().unwrap_or(self.source)
    }

    /// What the importer made of it.
    pub fn import(&self) -> &I::Import<'a> {
        &self.import
    }

    /// Hands over what producers have written. Gives the bytes that were copied: none,
    /// but for the copy way. Call it after END, and outside of any window: it is `EBUSY` while
    /// one of this process hands out slices of either buffer.
    ///
    /// # Errors
    ///
    /// Those of [`Device::copy`].
    pub fn refresh(&self) -> crate::Result<u64> {
        self.refresh_region(Region::linear(0..self.source.size()))
    }

    /// The same of a part, where nothing else was written.
    ///
    /// # Errors
    ///
    /// Those of [`Device::copy`].
    pub fn refresh_region(&self, region: Region) -> crate::Result<u64> {
        match (self.way, &self.own) {
            (Way::Copy, Some(own)) => self.device.copy(self.source, own, region.into()),
            _ => Ok(0),
        }
    }

    /// The other way round: what the importer's device has written, for those who have the
    /// buffer that was shared. Gives the bytes that were copied: none, where they have the
    /// importer's.
    ///
    /// # Errors
    ///
    /// Those of [`Device::copy`].
    pub fn fetch(&self) -> crate::Result<u64> {
        let whole = CopyRegion::from(Region::linear(0..self.source.size()));
        match (self.way, &self.own) {
            (Way::Copy, Some(own)) => self.device.copy(own, self.source, whole),
            _ => Ok(0),
        }
    }
}

impl<'a, I: Importer + 'a> fmt::Debug for Shared<'a, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("way", &self.way)
            .field("attempts", &self.attempts)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that refuse a buffer, by the contract and by drivers of the kernel.
    #[test]
    fn a_refusal_goes_on() {
        for errno in [
            Errno::OPNOTSUPP,
            Errno::BUSY,
            Errno::INVAL,
            Errno::NOMEM,
            Errno::IO,
            Errno::NXIO,
            Errno::NOSPC,
            Errno::NOSYS,
            Errno::NOTTY,
            Errno::TOOBIG,
        ] {
            assert!(!is_final(errno), "{errno}");
        }
    }

    #[test]
    fn an_error_of_the_caller_does_not() {
        for errno in [
            Errno::BADF,
            Errno::FAULT,
            Errno::ACCESS,
            Errno::PERM,
            Errno::MFILE,
            Errno::NFILE,
            Errno::INTR,
            Errno::NODEV,
        ] {
            assert!(is_final(errno), "{errno}");
        }
    }

    #[test]
    fn an_error_names_each_way() {
        let failed = |way, step, errno| Attempt {
            way,
            result: Err(Failure { step, errno }),
        };
        let error = ShareError::NoWay(vec![
            failed(Way::Direct, Step::Import, Errno::OPNOTSUPP),
            failed(Way::Reverse, Step::Export, Errno::NOSYS),
        ]);
        let text = format!(
            "no way works: direct (import: {}), reverse (export: {})",
            Errno::OPNOTSUPP,
            Errno::NOSYS
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(error.attempts().len(), 2);
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("WithUdmabuf"))
        );
        let direct = failed(Way::Direct, Step::Import, Errno::OPNOTSUPP);
        assert_eq!(ShareError::NoWay(vec![direct]).hint(), None);
    }
}
