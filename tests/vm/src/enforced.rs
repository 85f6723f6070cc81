// SPDX-License-Identifier: GPL-2.0

//! Buffers that enforce their windows, and what became of access to them.

use std::os::fd::{AsFd, AsRawFd};

use cohbuf::{Access, Buffer, CpuAccess, CreateFlags, Region, State};
use rustix::io::Errno;

use crate::guest::{Guest, page};
use crate::harness::Stop;
use crate::raw::{self, Child, Map};

pub(crate) const REPORT: CreateFlags = CreateFlags::ENFORCE_REPORT;
pub(crate) const POISON: CreateFlags = CreateFlags::ENFORCE_POISON;

/// Every kind of buffer.
pub(crate) const KINDS: [CreateFlags; 3] = [
    CreateFlags::empty(),
    CreateFlags::COHERENT,
    CreateFlags::WRITE_COMBINE,
];

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// What `COHBUF_IOCTL_INFO` says of enforcement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) poisoned: bool,
}

impl Outside {
    /// So many accesses, and not poisoned.
    pub(crate) fn reported(reads: u64, writes: u64) -> Self {
        Self {
            reads,
            writes,
            poisoned: false,
        }
    }

    pub(crate) const NONE: Self = Self {
        reads: 0,
        writes: 0,
        poisoned: false,
    };
}

pub(crate) fn outside(guest: &Guest, buffer: impl AsFd) -> Result<Outside, Stop> {
    let info = guest.device()?.info(buffer)?;
    Ok(Outside {
        reads: info.outside_reads,
        writes: info.outside_writes,
        poisoned: info.state.contains(State::POISONED),
    })
}

/// `COHBUF_IOCTL_SYNC` of a region, begun by one call and ended by another.
pub(crate) fn sync_region(
    guest: &Guest,
    buffer: impl AsFd,
    flags: u64,
    region: Region,
) -> Result<(), Errno> {
    let (layout, numbers) = match region {
        Region::Linear { offset, length } => (1_u32, [offset, length, 0, 0]),
        Region::Rows {
            offset,
            length,
            stride,
            rows,
        } => (2, [offset, length, stride, rows]),
        _ => (0, [0; 4]),
    };
    let mut bytes = [0_u8; 96];
    bytes[..4].copy_from_slice(&buffer.as_fd().as_raw_fd().to_ne_bytes());
    bytes[4..8].copy_from_slice(&layout.to_ne_bytes());
    bytes[8..16].copy_from_slice(&flags.to_ne_bytes());
    for (to, number) in bytes[16..48].chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    let device = guest.device().map_err(|_| Errno::NODEV)?;
    raw::ioctl(device, raw::iowr(b'C', 0xb3, bytes.len()), &mut bytes).map(drop)
}

/// The same of bytes.
pub(crate) fn sync_bytes(
    guest: &Guest,
    buffer: impl AsFd,
    flags: u64,
    offset: usize,
    length: usize,
) -> Result<(), Errno> {
    let (offset, length) = (offset as u64, length as u64);
    sync_region(guest, buffer, flags, Region::Linear { offset, length })
}

/// A buffer that enforces, mapped.
pub(crate) struct Scene {
    pub(crate) map: Map,
    pub(crate) buffer: Buffer,
}

impl Scene {
    pub(crate) fn new(guest: &Guest, pages: usize, flags: CreateFlags) -> Result<Self, Stop> {
        let buffer = guest.buffer(pages * page(), flags)?;
        let map = Map::new(&buffer, pages * page(), RW, libc::MAP_SHARED, 0)?;
        Ok(Self { map, buffer })
    }

    pub(crate) fn pages(&self) -> usize {
        self.buffer.size() as usize / page()
    }

    pub(crate) fn window(&self, access: Access) -> Result<CpuAccess<'_>, Stop> {
        Ok(self.buffer.cpu_access(access)?)
    }

    pub(crate) fn outside(&self, guest: &Guest) -> Result<Outside, Stop> {
        outside(guest, &self.buffer)
    }

    /// The first byte of a page.
    pub(crate) fn read(&self, number: usize) -> u8 {
        self.map.byte(number * page())
    }

    pub(crate) fn write(&self, number: usize, byte: u8) {
        self.map.put(number * page(), byte);
    }

    /// Poisons the buffer, by a child that dies of it.
    pub(crate) fn poison(&self) -> Result<(), Stop> {
        let status = died(raw::fork(|| i32::from(self.read(0)))?)?;
        match status {
            Died::Sigbus => Ok(()),
            other => crate::harness::fail(format!("the child that poisons: {other:?}")),
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Died {
    Sigbus,
    Exit(i32),
    Other(i32),
}

pub(crate) fn died(child: Child) -> Result<Died, Errno> {
    let status = child.wait()?;
    Ok(if libc::WIFEXITED(status) {
        Died::Exit(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS {
        Died::Sigbus
    } else {
        Died::Other(status)
    })
}
