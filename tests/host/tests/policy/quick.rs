// SPDX-License-Identifier: GPL-2.0

//! START and END need not ask the policy where nothing is ever maintained: they do nothing, and
//! leave lines dirty.

use crate::policy::{self, Access, Direction, Kind, Mapped, Reach, State};

const DIRECTIONS: [Direction; 3] = [
    Direction::Bidirectional,
    Direction::ToDevice,
    Direction::FromDevice,
];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::ReadWrite];

fn states() -> impl Iterator<Item = State> {
    (0..16).map(|bits| State {
        dirty: bits & 1 != 0,
        written: bits & 2 != 0,
        writing: bits & 4 != 0,
        partial: bits & 8 != 0,
    })
}

/// Calls `f` with each state, what is done by a START and by ENDs, and what becomes of it.
fn each(kind: Kind, mappings: &[Mapped], f: impl Fn(State, Option<Access>, usize, State)) {
    let list = || mappings.iter().copied();
    for state in states() {
        let mut steps = 0;
        let contested = policy::is_contested(kind, list());
        let next = policy::begin(kind, state, contested, list(), |_| steps += 1);
        f(state, None, steps, next);
        for access in ACCESSES {
            let mut steps = 0;
            let next = policy::end(kind, state, access, list(), |_| steps += 1);
            f(state, Some(access), steps, next);
        }
    }
}

/// Of up to three mappings of these reaches, in any order and directions.
fn lists(reaches: &[Reach]) -> Vec<Vec<Mapped>> {
    let one: Vec<Mapped> = reaches
        .iter()
        .flat_map(|&reach| DIRECTIONS.map(|dir| Mapped { reach, dir }))
        .collect();
    let mut all = vec![vec![]];
    for _ in 0..3 {
        let longer: Vec<Vec<Mapped>> = all
            .iter()
            .flat_map(|list| one.iter().map(|&m| [&list[..], &[m]].concat()))
            .collect();
        all.extend(longer);
    }
    all
}

#[test]
fn nothing_is_done_where_all_snoop() {
    for list in lists(&[Reach::Snooping]) {
        each(
            Kind::Bracketed,
            &list,
            |state, end, steps, next| match end {
                Some(access) if access.writes() => {
                    assert_eq!(steps, 0, "{list:?}");
                    assert_eq!(
                        next,
                        State {
                            dirty: true,
                            ..state
                        },
                        "{list:?}"
                    );
                }
                _ => assert_eq!((steps, next), (0, state), "{list:?}"),
            },
        );
        assert!(!policy::is_contested(Kind::Bracketed, list.into_iter()));
    }
}

#[test]
fn nothing_is_done_without_windows() {
    let reaches = [
        Reach::Snooping,
        Reach::Direct,
        Reach::Iommu,
        Reach::Bounced,
        Reach::PartlyBounced,
        Reach::Unknown(0),
    ];
    for kind in [Kind::Coherent, Kind::WriteCombine] {
        for list in lists(&reaches) {
            each(kind, &list, |state, _, steps, next| {
                assert_eq!((steps, next), (0, state), "{kind:?} {list:?}");
            });
        }
    }
}
