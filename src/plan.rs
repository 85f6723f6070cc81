// SPDX-License-Identifier: GPL-2.0

//! What the policy has said of the mappings that a buffer has, so that the next START or END of the
//! same kind need not ask again.
//!
//! Pure, as `policy.rs`: `core` alone, compiled into the tests on the host as well.

use crate::policy::{
    State,
    Step, //
};

/// Steps that a plan has room for: to write back and to invalidate, for two mappings.
pub(crate) const MOST: usize = 4;

/// Steps in a byte each, from the lowest on, as a plan is looked up and copied by each START and
/// END. A byte has the number of the mapping, and below it whether the step is for the device.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Steps(u32);

impl Steps {
    /// Set in the byte of a step, so that it is not 0.
    const THERE: u32 = 0x80;
    const MOST_INDEX: usize = 0x3f;

    /// Puts one behind. Returns whether there was room.
    fn push(&mut self, step: Step) -> bool {
        let (index, for_device) = match step {
            Step::ForCpu(index) => (index, false),
            Step::ForDevice(index) => (index, true),
        };
        let used = self.used();
        if index > Self::MOST_INDEX || used == MOST {
            return false;
        }
        // CAST: It was checked.
        let byte = Self::THERE | ((index as u32) << 1) | u32::from(for_device);
        self.0 |= byte << (8 * used);
        true
    }

    fn used(self) -> usize {
        // CAST: At most 4.
        (u32::BITS - self.0.leading_zeros()).div_ceil(8) as usize
    }
}

impl Iterator for Steps {
    type Item = Step;

    #[inline(always)]
    fn next(&mut self) -> Option<Step> {
        let byte = self.0 & 0xff;
        if byte == 0 {
            return None;
        }
        self.0 >>= 8;
        // CAST: 6 bits.
        let index = ((byte & !Self::THERE) >> 1) as usize;
        Some(match byte & 1 {
            0 => Step::ForCpu(index),
            _ => Step::ForDevice(index),
        })
    }
}

/// What to do in a state, and what comes of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    steps: Steps,
    dirty: bool,
}

impl Plan {
    /// What the policy says. `ask` calls what it gets with each step, and returns the next state.
    /// [`None`]: there is no room for all steps.
    pub(crate) fn of(ask: impl FnOnce(&mut dyn FnMut(Step)) -> State) -> Option<Self> {
        let mut steps = Steps(0);
        let mut fits = true;
        let State { dirty, .. } = ask(&mut |step| fits &= steps.push(step));
        fits.then_some(Self { steps, dirty })
    }

    /// In this order.
    pub(crate) fn steps(self) -> impl Iterator<Item = Step> {
        self.steps
    }

    /// [`State::dirty`] once all of them are done, which is all that START and END change.
    pub(crate) const fn dirty(self) -> bool {
        self.dirty
    }
}

/// The last plan, and when it holds.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Memo(Option<(Asked, Plan)>);

/// What the policy was told besides the mappings of devices. An END is asked for where the CPU has
/// written, a START where nothing is contested.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u8);

impl Asked {
    /// `vmapped`: whether the kernel has the buffer mapped.
    pub(crate) const fn new(state: State, vmapped: bool) -> Self {
        let State {
            dirty,
            written,
            writing,
            partial,
        } = state;
        Self(
            (dirty as u8)
                | ((written as u8) << 1)
                | ((writing as u8) << 2)
                | ((partial as u8) << 3)
                | ((vmapped as u8) << 4),
        )
    }
}

impl Memo {
    /// What was said to the same.
    pub(crate) fn get(&self, asked: Asked) -> Option<Plan> {
        match self.0 {
            Some((before, plan)) if before == asked => Some(plan),
            _ => None,
        }
    }

    pub(crate) fn set(&mut self, asked: Asked, plan: Plan) {
        self.0 = Some((asked, plan));
    }
}
