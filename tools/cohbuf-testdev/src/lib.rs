// SPDX-License-Identifier: GPL-2.0

//! Importers to try cohbuf with, for the demo and the tests.
//!
//! [`Importer`] drives `tests/importer`, an importer driver that this project
//! wrote, and [`driver`] the one of `tests/driver`; [`Vgem`] is the kernel's own,
//! unmodified.

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod driver;
mod foreign;
mod importer;
mod model;
mod sys;
pub mod uapi;
mod vgem;

pub use foreign::{system_heap, udmabuf};
pub use importer::{Attachment, Direction, Importer, MapInfo, Refused, TestDevice};
pub use model::{Attrs, Counts, MemoryType, Model};
pub use vgem::{Vgem, VgemFence, VgemImport};
