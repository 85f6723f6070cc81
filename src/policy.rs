// SPDX-License-Identifier: GPL-2.0

//! What to refuse, and what to maintain.
//!
//! Pure: no call into the kernel, `core` alone. It is compiled into the module and into the tests
//! on the host alike. The rest of the driver carries out what this file decides.

/// What a buffer was made for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `COHBUF_COHERENT`: every importer is DMA-coherent, nothing is ever maintained.
    Coherent,
    /// The default: CPU access goes between begin and end, which maintain each mapping.
    Bracketed,
}

/// Why an importer is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// R1: the device does not snoop.
    NotCoherent,
    /// R2: the device would get a copy.
    Bounced,
    /// Two copies that devices may write: the idle one would go over the other.
    SecondBounced,
}

/// Whether a device may attach (R1).
pub(crate) const fn attach(kind: Kind, dma_coherent: bool) -> Result<(), Refusal> {
    match kind {
        Kind::Coherent if !dma_coherent => Err(Refusal::NotCoherent),
        _ => Ok(()),
    }
}

/// Whether a mapping may stay (R2). `other_bounced_writer`: the buffer has another bounced mapping
/// that its device may write.
///
/// A sync moves a bounce buffer as a whole. Of two that devices may write, the one that has been
/// idle would bring its old bytes over what the other's device wrote. One that its device only
/// reads is never copied back, and does no harm.
pub(crate) const fn map(
    kind: Kind,
    bounced: bool,
    mapped: Direction,
    other_bounced_writer: bool,
) -> Result<(), Refusal> {
    match kind {
        _ if !bounced => Ok(()),
        Kind::Coherent => Err(Refusal::Bounced),
        Kind::Bracketed if other_bounced_writer && device_writes(mapped) => {
            Err(Refusal::SecondBounced)
        }
        Kind::Bracketed => Ok(()),
    }
}

/// What the CPU does with the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It writes, and may leave bytes as they are.
    Write,
    /// Both.
    ReadWrite,
}

/// What the device may do with a mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Read and write.
    Bidirectional,
    /// Read.
    ToDevice,
    /// Write.
    FromDevice,
}

/// Whether the device may write what is mapped in this direction.
pub(crate) const fn device_writes(mapped: Direction) -> bool {
    !matches!(mapped, Direction::ToDevice)
}

/// Whether `begin_cpu_access` maintains a mapping for the CPU (R3).
///
/// What the CPU intends does not matter. Where it will write only, some bytes of a cache line, or
/// of a bounce buffer, may stay as they are, and `end` would write the old ones over those of the
/// device. A device that only reads has left nothing to fetch.
pub(crate) const fn begin(kind: Kind, _access: Access, mapped: Direction) -> bool {
    match kind {
        Kind::Coherent => false,
        Kind::Bracketed => device_writes(mapped),
    }
}

/// Whether `end_cpu_access` maintains a mapping for its device (R3).
///
/// A CPU that only read has left nothing to write back (DMA-API-HOWTO, "the CPU does not modify");
/// to write back all the same could go over what the device has written meanwhile. One that wrote
/// must be written back for a device that only writes, too: a dirty line that is evicted later
/// would go over the device's data.
pub(crate) const fn end(kind: Kind, access: Access, _mapped: Direction) -> bool {
    match (kind, access) {
        (Kind::Coherent, _) | (_, Access::Read) => false,
        (Kind::Bracketed, Access::Write | Access::ReadWrite) => true,
    }
}
