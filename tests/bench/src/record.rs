// SPDX-License-Identifier: GPL-2.0

//! What was measured, as it is written to files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A variant whose name in files is what it is called there, in lower case with dashes.
macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($variant:ident => $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Its name in files.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names! {
    /// An architecture.
    Arch {
        Amd64 => "amd64",
        Arm64 => "arm64",
    }
}

impl Arch {
    /// The one that this is compiled for.
    pub const fn here() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::Amd64
        }
    }
}

names! {
    /// Who made the buffer.
    Exporter {
        Cohbuf => "cohbuf",
        System => "system",
        Udmabuf => "udmabuf",
    }
}

impl Exporter {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Cohbuf, Self::System, Self::Udmabuf];
}

names! {
    /// What is attached, and mapped but for the operations that do that themselves.
    Device {
        None => "none",
        Coherent => "coherent",
        NonCoherent => "noncoherent",
    }
}

names! {
    /// One operation.
    Op {
        BeginRw => "begin-rw",
        EndRw => "end-rw",
        BeginRead => "begin-read",
        EndRead => "end-read",
        RegionBegin => "region-begin",
        RegionEnd => "region-end",
        DirtyEnd => "dirty-end",
        Create => "create",
        Destroy => "destroy",
        MmapTouch => "mmap-touch",
        Attach => "attach",
        Map => "map",
        Unmap => "unmap",
        Detach => "detach",
        Remap => "remap",
    }
}

/// One line of `bench.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub arch: Arch,
    pub exporter: Exporter,
    pub op: Op,
    /// Bytes of the buffer.
    pub size: u64,
    pub attachments: u32,
    pub device: Device,
    /// Of a single operation.
    pub instructions: u64,
    pub bytes_cleaned: u64,
    pub bytes_invalidated: u64,
}

impl Row {
    /// What tells it from all others.
    pub fn key(&self) -> Key {
        (
            self.arch,
            self.exporter,
            self.op,
            self.size,
            self.attachments,
            self.device,
        )
    }
}

/// See [`Row::key`].
pub type Key = (Arch, Exporter, Op, u64, u32, Device);

/// A region sync of another region than the one in `bench.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionRow {
    pub arch: Arch,
    pub device: Device,
    /// Pixels of four bytes, of a picture of 1600x1200.
    pub width: u32,
    pub height: u32,
    pub begin: u64,
    pub end: u64,
    /// By both.
    pub bytes_cleaned: u64,
    pub bytes_invalidated: u64,
}

/// What an operation cannot cost less than.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorRow {
    pub arch: Arch,
    pub what: String,
    /// Bytes, where it depends on them.
    pub size: u64,
    pub instructions: u64,
}

/// One operation while much else lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleRow {
    pub arch: Arch,
    pub exporter: Exporter,
    /// What lives.
    pub beside: String,
    pub op: Op,
    /// With nothing beside it.
    pub alone: u64,
    pub instructions: u64,
}

/// Kernel memory of one buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryRow {
    pub arch: Arch,
    pub exporter: Exporter,
    /// Bytes of the buffer.
    pub size: u64,
    /// So many were alive.
    pub buffers: u64,
    /// Physically contiguous pieces of one, where the exporter tells.
    pub segments: Option<u32>,
    /// All memory of the machine that one took, beyond its pages.
    pub bytes: i64,
    /// Of these, by slab cache.
    pub slabs: Vec<(String, i64)>,
}

impl MemoryRow {
    /// Without what `dma_buf_export()` allocates for each dma-buf: file, dentry and inode with what
    /// security modules keep of them, which have slab caches of their own, and the `struct dma_buf`
    /// with its reservation object, of kmalloc-512. An exporter's memory is of kmalloc, or of the
    /// slab cache that cohbuf has.
    pub fn own(&self) -> i64 {
        let core = self
            .slabs
            .iter()
            .filter(|(name, _)| !name.starts_with("kmalloc-") && name != "cohbuf")
            .map(|(_, bytes)| *bytes);
        self.bytes - core.sum::<i64>() - 512
    }
}

/// All that a guest measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub rows: Vec<Row>,
    pub regions: Vec<RegionRow>,
    pub floors: Vec<FloorRow>,
    pub scale: Vec<ScaleRow>,
    pub memory: Vec<MemoryRow>,
}

impl Measured {
    /// Puts what another guest measured behind.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.regions.append(&mut other.regions);
        self.floors.append(&mut other.floors);
        self.scale.append(&mut other.scale);
        self.memory.append(&mut other.memory);
    }
}

/// What a size is called in tables.
pub fn size_name(bytes: u64) -> String {
    match bytes {
        PICTURE => "1600x1200x4".into(),
        _ if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Bytes of a picture of 1600x1200 pixels.
pub const PICTURE: u64 = 1600 * 1200 * 4;
