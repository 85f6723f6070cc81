// SPDX-License-Identifier: GPL-2.0

//! What several suites need.

use dma_buf::{
    compat::EBADMSG,
    test_device::TestDevice,
    test_models::{
        self,
        ModelDevice, //
    },
    DmaBuf,
    ImportedMapping, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::{
        DataDirection,
        DmaMask, //
    },
    fs::file::flags::O_RDWR,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    buffer::{
        CohBuf,
        Purpose, //
    },
    policy::{
        Enforce,
        Kind, //
    }, //
};

/// The size of most buffers here, in bytes: more than one chunk.
pub(crate) const SIZE: usize = 18 * PAGE_SIZE;

/// Exports a buffer of [`SIZE`] bytes.
pub(crate) fn export(kind: Kind) -> Result<ARef<DmaBuf>> {
    export_of(SIZE, kind, Enforce::Off)
}

/// The same, one that enforces its windows.
pub(crate) fn export_enforced(kind: Kind, enforces: Enforce) -> Result<ARef<DmaBuf>> {
    export_of(SIZE, kind, enforces)
}

/// The same, of so many bytes.
pub(crate) fn export_of(size: usize, kind: Kind, enforces: Enforce) -> Result<ARef<DmaBuf>> {
    let purpose = Purpose {
        kind,
        tracks_dirty: false,
        contiguous: false,
        enforces,
    };
    CohBuf::export(size, purpose, O_RDWR)
}

/// Exports a bracketed buffer of [`SIZE`] bytes that tracks the pages that were written.
pub(crate) fn export_tracking_dirty() -> Result<ARef<DmaBuf>> {
    let purpose = Purpose {
        kind: Kind::Bracketed,
        tracks_dirty: true,
        contiguous: false,
        enforces: Enforce::Off,
    };
    CohBuf::export(SIZE, purpose, O_RDWR)
}

/// Exports a bracketed one of `size` bytes, physically contiguous.
pub(crate) fn export_contiguous(size: usize) -> Result<ARef<DmaBuf>> {
    export_contiguous_as(size, Kind::Bracketed)
}

pub(crate) fn export_contiguous_as(size: usize, kind: Kind) -> Result<ARef<DmaBuf>> {
    let purpose = Purpose {
        kind,
        tracks_dirty: false,
        contiguous: true,
        enforces: Enforce::Off,
    };
    CohBuf::export(size, purpose, O_RDWR)
}

/// A buffer whose pages the cache model tracks. They are forgotten before they go.
pub(crate) struct Tracked(pub(crate) ARef<DmaBuf>);

impl Tracked {
    pub(crate) fn new() -> Result<Self> {
        Self::of(export(Kind::Bracketed)?)
    }

    pub(crate) fn of(buf: ARef<DmaBuf>) -> Result<Self> {
        test_models::reset()?;
        let buffer = buf.exported_by::<CohBuf>().ok_or(EBADMSG)?;
        test_models::track(buffer.pages())?;
        Ok(Self(buf))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if test_models::reset().is_err() {
            pr_err!("check failed: a mapping outlives its buffer\n");
        }
    }
}

/// Maps it for a model device.
pub(crate) fn map<'a>(
    dev: &'a ModelDevice,
    buf: &Tracked,
    dir: DataDirection,
) -> Result<ImportedMapping<'a>> {
    dev.attach(buf.0.clone())?.map(dir).map_err(|(_, e)| e)
}

/// Makes a device that reaches all memory.
pub(crate) fn device(name: &CStr, coherent: bool) -> Result<TestDevice> {
    TestDevice::new(name, DmaMask::new::<64>(), coherent)
}

/// The device as importers take it.
pub(crate) fn bound(dev: &TestDevice) -> &Device<Bound> {
    dev.as_ref()
}

/// What a test returns where something is not as it must be. The line goes to the log, and all
/// that the test holds is dropped, which an assertion would not do.
pub(crate) fn check(ok: bool, what: &str) -> Result {
    if !ok {
        pr_err!("check failed: {}\n", what);
        return Err(EBADMSG);
    }
    Ok(())
}

/// Checks that `result` is the error `expected`.
pub(crate) fn check_err<T>(result: Result<T>, expected: Error, what: &str) -> Result {
    match result {
        Ok(_) => {
            pr_err!(
                "check failed: {}: it succeeded, wanted {:?}\n",
                what,
                expected
            );
            Err(EBADMSG)
        }
        Err(e) if e.to_errno() != expected.to_errno() => {
            pr_err!("check failed: {}: {:?}, wanted {:?}\n", what, e, expected);
            Err(EBADMSG)
        }
        Err(_) => Ok(()),
    }
}
