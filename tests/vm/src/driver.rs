// SPDX-License-Identifier: GPL-2.0

//! `/dev/cohbuf_driver`, which must be there, and devices that a kernel may not have.

use std::ops::Deref;
use std::os::fd::AsFd;

use cohbuf_testdev::TestDevice;
use cohbuf_testdev::driver as testdev;
use rustix::io::Errno;

pub(crate) use testdev::{How, Importer, Query, Sync};

use crate::guest::is_debug;
use crate::harness::{Stop, fail, skip};

/// The open device file.
pub(crate) struct Driver(testdev::Driver);

impl Driver {
    /// It must be there: without it all of this would not run.
    pub(crate) fn open() -> Result<Self, Stop> {
        match testdev::Driver::open() {
            Ok(driver) => Ok(Self(driver)),
            Err(errno) => {
                let path = testdev::Driver::PATH;
                fail(format!("{path}: {errno}; load cohbuf_driver.ko"))
            }
        }
    }

    /// Attaches a device.
    pub(crate) fn try_attach(
        &self,
        buffer: impl AsFd,
        kind: TestDevice,
        how: How,
    ) -> Result<Importer<'_>, Errno> {
        self.0.attach(buffer, kind, how)
    }

    /// The same, where the kernel has what the model needs.
    pub(crate) fn attach(
        &self,
        buffer: impl AsFd,
        kind: TestDevice,
        how: How,
    ) -> Result<Importer<'_>, Stop> {
        match self.try_attach(buffer, kind, how) {
            Err(Errno::NODEV) if is_debug() => {
                skip(format!("this kernel has not what {kind:?} needs"))
            }
            result => Ok(result?),
        }
    }
}

impl Deref for Driver {
    type Target = testdev::Driver;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
