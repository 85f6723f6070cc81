// SPDX-License-Identifier: GPL-2.0

//! `/dev/cohbuf_driver`, an importer in C that uses the in-kernel interface. The structures are those
//! of `tests/driver/cohbuf_driver.h`. Nothing here allocates, so that a forked child may call it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use cohbuf_testdev::{Direction, TestDevice};
use rustix::io::Errno;

use crate::guest::is_debug;
use crate::harness::{Stop, fail, skip};
use crate::raw::{self, READ_WRITE, WRITE, ioc};

/// Bytes that a device moves at a time.
const BYTES: usize = 64;

/// The open device file.
pub(crate) struct Driver(File);

/// How a device is attached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// Which of the devices of its kind, 0 or 1.
    pub(crate) index: u32,
    /// By `dma_buf_dynamic_attach()`.
    pub(crate) dynamic: bool,
    /// What is said to `cohbuf_set_autofence()`, if anything.
    pub(crate) autofence: Option<bool>,
}

/// What `cohbuf_query_dma_buf()` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) coherent: bool,
    pub(crate) caching: u32,
}

/// Which of the four functions hands a mapping over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) for_device: bool,
    /// With the reservation lock held.
    pub(crate) locked: bool,
}

impl Sync {
    pub(crate) const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(for_device: bool, locked: bool) -> Self {
        Self { for_device, locked }
    }

    fn flags(self) -> u32 {
        u32::from(self.for_device) | (u32::from(self.locked) << 1)
    }
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
}

fn get(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// An ioctl on a structure of words.
fn run<const N: usize>(
    file: &File,
    direction: u32,
    number: u32,
    words: [u32; N],
) -> Result<[u32; N], Errno> {
    let mut bytes = [0; 32];
    for (at, word) in words.into_iter().enumerate() {
        put(&mut bytes, 4 * at, word);
    }
    raw::ioctl(file, ioc(direction, b'C', number, 4 * N), &mut bytes)?;
    Ok(std::array::from_fn(|at| get(&bytes, 4 * at)))
}

impl Driver {
    const PATH: &str = "/dev/cohbuf_driver";

    /// It must be there: without it all of this would not run.
    pub(crate) fn open() -> Result<Self, Stop> {
        match File::options().read(true).write(true).open(Self::PATH) {
            Ok(file) => Ok(Self(file)),
            Err(error) => fail(format!("{}: {error}; load cohbuf_driver.ko", Self::PATH)),
        }
    }

    /// Attaches a device.
    pub(crate) fn try_attach(
        &self,
        buffer: impl AsFd,
        kind: TestDevice,
        how: How,
    ) -> Result<Importer<'_>, Errno> {
        let autofence = match how.autofence {
            None => 0,
            Some(true) => 1,
            Some(false) => 2,
        };
        let words = [
            buffer.as_fd().as_raw_fd() as u32,
            kind as u32,
            how.index,
            how.dynamic.into(),
            autofence,
            0,
        ];
        let [.., handle] = run(&self.0, READ_WRITE, 0xe0, words)?;
        Ok(Importer {
            driver: self,
            handle,
        })
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

    /// [`None`] where it is not one of cohbuf.
    pub(crate) fn query(&self, buffer: impl AsFd) -> Result<Option<Query>, Stop> {
        const UNTOUCHED: u32 = 1;
        let fd = buffer.as_fd().as_raw_fd() as u32;
        match run(&self.0, READ_WRITE, 0xe8, [fd, 7, UNTOUCHED, UNTOUCHED])? {
            [_, 0, UNTOUCHED, UNTOUCHED] => Ok(None),
            [_, 1, coherent, caching] => Ok(Some(Query {
                coherent: coherent != 0,
                caching,
            })),
            words => fail(format!("the query says {words:?}")),
        }
    }

    /// Has the cache model of these devices forget all pages.
    pub(crate) fn reset(&self) -> Result<(), Errno> {
        self.model(0, 0, 0)
    }

    /// Has it track pages of a dma-buf that this process has mapped.
    pub(crate) fn track(&self, addr: *const u8, len: usize) -> Result<(), Errno> {
        self.model(1, addr.addr(), len)
    }

    fn model(&self, op: u32, addr: usize, len: usize) -> Result<(), Errno> {
        let mut bytes = [0; 24];
        put(&mut bytes, 0, op);
        bytes[8..16].copy_from_slice(&(addr as u64).to_ne_bytes());
        bytes[16..].copy_from_slice(&(len as u64).to_ne_bytes());
        raw::ioctl(&self.0, ioc(WRITE, b'C', 0xe9, 24), &mut bytes).map(drop)
    }
}

/// A device that is attached. Unmapped and detached when dropped.
pub(crate) struct Importer<'a> {
    driver: &'a Driver,
    handle: u32,
}

impl Importer<'_> {
    fn run<const N: usize>(&self, number: u32, words: [u32; N]) -> Result<(), Errno> {
        run(&self.driver.0, WRITE, number, words).map(drop)
    }

    pub(crate) fn map(&self, direction: Direction) -> Result<(), Errno> {
        self.run(0xe2, [self.handle, direction as u32, 0])
    }

    /// Once the device is idle.
    pub(crate) fn unmap(&self) -> Result<(), Errno> {
        self.run(0xe3, [self.handle, 0, 0])
    }

    /// Without a thought about the device: the exporter will wait. For devices with ops of their own
    /// only.
    pub(crate) fn unmap_carelessly(&self) -> Result<(), Errno> {
        self.run(0xe3, [self.handle, 0, 1])
    }

    pub(crate) fn sync(&self, sync: Sync) -> Result<(), Errno> {
        self.run(0xe6, [self.handle, sync.flags(), 0])
    }

    /// With the sg table of another.
    pub(crate) fn sync_table_of(&self, other: &Importer<'_>, sync: Sync) -> Result<(), Errno> {
        self.run(0xe6, [self.handle, sync.flags(), other.handle])
    }

    pub(crate) fn set_autofence(&self, autofence: bool) -> Result<(), Errno> {
        self.run(0xe7, [self.handle, autofence.into()])
    }

    fn dma(
        &self,
        job: Option<u32>,
        write: bool,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), Errno> {
        assert!(bytes.len() <= BYTES);
        let mut arg = [0; 24 + BYTES];
        put(&mut arg, 0, self.handle);
        put(&mut arg, 4, write.into());
        arg[8..16].copy_from_slice(&(offset as u64).to_ne_bytes());
        put(&mut arg, 16, bytes.len() as u32);
        put(&mut arg, 20, job.unwrap_or(0));
        arg[24..24 + bytes.len()].copy_from_slice(bytes);
        let command = match job {
            None => ioc(READ_WRITE, b'C', 0xe4, arg.len()),
            Some(_) => ioc(WRITE, b'C', 0xe5, arg.len()),
        };
        raw::ioctl(&self.driver.0, command, &mut arg)?;
        bytes.copy_from_slice(&arg[24..24 + bytes.len()]);
        Ok(())
    }

    pub(crate) fn writes<const N: usize>(
        &self,
        offset: usize,
        bytes: &[u8; N],
    ) -> Result<(), Errno> {
        self.dma(None, true, offset, &mut bytes.clone())
    }

    pub(crate) fn reads<const N: usize>(&self, offset: usize) -> Result<[u8; N], Errno> {
        let mut seen = [0; N];
        self.dma(None, false, offset, &mut seen)?;
        Ok(seen)
    }

    /// Adds the fence of a writer, and writes and signals so many milliseconds later.
    pub(crate) fn writes_later<const N: usize>(
        &self,
        millis: u32,
        offset: usize,
        bytes: &[u8; N],
    ) -> Result<(), Errno> {
        self.dma(Some(millis), true, offset, &mut bytes.clone())
    }

    /// Adds the fence of a reader, and signals so many milliseconds later.
    pub(crate) fn reads_later(&self, millis: u32) -> Result<(), Errno> {
        self.dma(Some(millis), false, 0, &mut [0])
    }
}

impl Drop for Importer<'_> {
    fn drop(&mut self) {
        // Nobody to tell. The jobs of the device end first.
        let _ = self.run(0xe1, [self.handle]);
    }
}
