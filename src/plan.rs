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
const MOST: usize = 4;

/// What to do in a state, and which state comes of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    steps: [Option<Step>; MOST],
    next: State,
}

impl Plan {
    /// What the policy says. `ask` calls what it gets with each step, and returns the next state.
    /// [`None`]: there are more steps than one has room for.
    pub(crate) fn of(ask: impl FnOnce(&mut dyn FnMut(Step)) -> State) -> Option<Self> {
        let mut steps = [None; MOST];
        let mut count = 0;
        let next = ask(&mut |step| {
            if let Some(room) = steps.get_mut(count) {
                *room = Some(step);
            }
            count += 1;
        });
        (count <= MOST).then_some(Self { steps, next })
    }

    /// In this order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps.iter().map_while(|step| *step)
    }

    /// Once all of them are done.
    pub(crate) const fn next(&self) -> State {
        self.next
    }
}

/// The last plan, and when it holds.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Memo(Option<(Asked, Plan)>);

/// What the policy was told besides the mappings of devices. An END is asked for where the CPU has
/// written, a START where nothing is contested.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) state: State,
    /// Whether the kernel has the buffer mapped.
    pub(crate) vmapped: bool,
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
