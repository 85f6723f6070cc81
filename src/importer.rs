// SPDX-License-Identifier: GPL-2.0

//! One attachment: what is kept for it.

use crate::fencing::Autofence;

pub(crate) struct Importer {
    pub(crate) autofence: Autofence,
    number: u32,
}

impl Importer {
    /// `number`: no other attachment of the buffer has or had it.
    pub(crate) fn new(number: u32, autofence: bool) -> Self {
        Self {
            autofence: Autofence::new(autofence),
            number,
        }
    }

    /// By which trace events know it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}
