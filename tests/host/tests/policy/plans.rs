// SPDX-License-Identifier: GPL-2.0

//! What is remembered of the policy is what it said.

use proptest::prelude::*;

use crate::plan::{Asked, Memo, Plan};
use crate::policy::{self, Access, Kind, Mapped, State, Step};
use crate::refusals::{DIRECTIONS, REACHES};

fn mapped() -> impl Strategy<Value = Mapped> {
    let reach = prop::sample::select(&REACHES[..]);
    let dir = prop::sample::select(&DIRECTIONS[..]);
    (reach, dir).prop_map(|(reach, dir)| Mapped { reach, dir })
}

fn state() -> impl Strategy<Value = State> {
    any::<[bool; 4]>().prop_map(|[dirty, written, writing, partial]| State {
        dirty,
        written,
        writing,
        partial,
    })
}

fn begin(state: State, list: &[Mapped], step: &mut dyn FnMut(Step)) -> State {
    policy::begin(Kind::Bracketed, state, false, list.iter().copied(), step)
}

fn end(state: State, list: &[Mapped], step: &mut dyn FnMut(Step)) -> State {
    policy::end(
        Kind::Bracketed,
        state,
        Access::Write,
        list.iter().copied(),
        step,
    )
}

proptest! {
    #![proptest_config(crate::cases(2_000))]

    #[test]
    fn a_plan_is_what_the_policy_says(
        state in state(),
        list in prop::collection::vec(mapped(), 0..5),
    ) {
        for ask in [begin, end] {
            let mut steps = Vec::new();
            let next = ask(state, &list, &mut |step| steps.push(step));
            let plan = Plan::of(|step| ask(state, &list, step));
            // One that left something out would be worse than none.
            prop_assert_eq!(plan.is_some(), steps.len() <= 4);
            if let Some(plan) = plan {
                prop_assert_eq!(plan.steps().collect::<Vec<_>>(), steps);
                let dirty = plan.dirty();
                prop_assert_eq!(State { dirty, ..state }, next);
            }
        }
    }

    #[test]
    fn a_plan_has_a_step_or_is_none(index in 0_usize..300, for_device in any::<bool>()) {
        let step = match for_device {
            true => Step::ForDevice(index),
            false => Step::ForCpu(index),
        };
        let plan = Plan::of(|each| {
            each(step);
            State::NEW
        });
        prop_assert_eq!(plan.is_some(), index < 64);
        if let Some(plan) = plan {
            prop_assert_eq!(plan.steps().collect::<Vec<_>>(), [step]);
        }
    }

    #[test]
    fn a_plan_is_for_what_was_asked(
        one in (state(), any::<bool>()),
        other in (state(), any::<bool>()),
    ) {
        let asked = |(state, vmapped)| Asked::new(state, vmapped);
        let plan = Plan::of(|_| one.0);
        let mut memo = Memo::default();
        prop_assert_eq!(memo.get(asked(one)), None);
        memo.set(asked(one), plan.unwrap());
        prop_assert_eq!(memo.get(asked(other)), plan.filter(|_| one == other));
    }
}
