// SPDX-License-Identifier: GPL-2.0

//! What cohbuf costs, beside the system heap and udmabuf.
//!
//! `cohbuf-bench` runs in a guest and counts the instructions of each operation by the guest's
//! clock, which under `-icount shift=0` goes on by one nanosecond with each instruction.
//! `cohbuf-bench-report` runs on the host: tables, curves, and the comparison with what was
//! recorded.

#![deny(unsafe_code)]

pub mod guest;
pub mod record;
pub mod report;
