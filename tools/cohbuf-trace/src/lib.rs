// SPDX-License-Identifier: GPL-2.0

//! The trace events of cohbuf: [`Tracer`] records them, [`Event`] is one, [`timeline`] draws them.

#![forbid(unsafe_code)]

mod event;
pub mod timeline;
mod tracefs;

pub use event::Event;
pub use tracefs::{MOUNT, Tracer};
