// SPDX-License-Identifier: GPL-2.0

//! Who is refused, that nothing is maintained where those are, and what no mix of devices shows.

use crate::policy::{
    Access, Direction, Kind, Mapped, Reach, Refusal, State, Step, Unmap, attach, begin, beside,
    end, fetched, is_contested, map, unmap,
};

const KINDS: [Kind; 3] = [Kind::Bracketed, Kind::Coherent, Kind::WriteCombine];
pub(super) const REACHES: [Reach; 6] = [
    Reach::Snooping,
    Reach::Direct,
    Reach::Iommu,
    Reach::Bounced,
    Reach::PartlyBounced,
    Reach::Unknown(1),
];
pub(super) const DIRECTIONS: [Direction; 3] = [
    Direction::Bidirectional,
    Direction::ToDevice,
    Direction::FromDevice,
];
const DIRTY: State = State {
    dirty: true,
    written: false,
    writing: false,
    partial: false,
};
const WRITING: State = State {
    dirty: false,
    written: false,
    writing: true,
    partial: false,
};
const BOTH: [bool; 2] = [false, true];

#[test]
fn coherent_refuses_what_does_not_snoop() {
    for (own_ops, cached_alias) in BOTH.into_iter().flat_map(|a| BOTH.map(|b| (a, b))) {
        let refused = attach(Kind::Coherent, false, own_ops, cached_alias);
        assert_eq!(refused, Err(Refusal::NotCoherent));
    }
    for cached_alias in BOTH {
        assert_eq!(attach(Kind::Coherent, true, false, cached_alias), Ok(()));
    }
    for reach in [Reach::Direct, Reach::Iommu] {
        assert_eq!(map(Kind::Coherent, reach), Err(Refusal::NotCoherent));
    }
    assert_eq!(map(Kind::Coherent, Reach::Snooping), Ok(()));
}

#[test]
fn coherent_refuses_what_is_bounced() {
    for reach in [Reach::Bounced, Reach::PartlyBounced] {
        assert_eq!(map(Kind::Coherent, reach), Err(Refusal::Bounced));
    }
}

#[test]
fn what_nobody_maintains_refuses_the_unknown() {
    for cached_alias in BOTH {
        let attached = attach(Kind::Coherent, true, true, cached_alias);
        assert_eq!(attached, Err(Refusal::Unknown));
        let attached = attach(Kind::WriteCombine, false, true, cached_alias);
        assert_eq!(attached, Err(Refusal::Unknown));
    }
    assert_eq!(
        attach(Kind::WriteCombine, true, true, false),
        Err(Refusal::Unknown)
    );
    for kind in [Kind::Coherent, Kind::WriteCombine] {
        assert_eq!(map(kind, Reach::Unknown(1)), Err(Refusal::Unknown));
    }
}

#[test]
fn write_combined_refuses_what_snoops_a_cached_alias() {
    for own_ops in BOTH {
        let attached = attach(Kind::WriteCombine, true, own_ops, true);
        assert_eq!(attached, Err(Refusal::Snoops));
    }
    for cached_alias in BOTH {
        let attached = attach(Kind::WriteCombine, false, false, cached_alias);
        assert_eq!(attached, Ok(()));
    }
    assert_eq!(attach(Kind::WriteCombine, true, false, false), Ok(()));
}

#[test]
fn write_combined_refuses_what_is_bounced() {
    for reach in [Reach::Bounced, Reach::PartlyBounced] {
        assert_eq!(map(Kind::WriteCombine, reach), Err(Refusal::Bounced));
    }
    for reach in [Reach::Snooping, Reach::Direct, Reach::Iommu] {
        assert_eq!(map(Kind::WriteCombine, reach), Ok(()));
    }
}

#[test]
fn bracketed_takes_every_importer() {
    for (coherent, own_ops) in BOTH.into_iter().flat_map(|a| BOTH.map(|b| (a, b))) {
        for cached_alias in BOTH {
            let attached = attach(Kind::Bracketed, coherent, own_ops, cached_alias);
            assert_eq!(attached, Ok(()));
        }
    }
    for reach in REACHES {
        assert_eq!(map(Kind::Bracketed, reach), Ok(()));
    }
}

/// The mappings that may not be there at once.
#[test]
fn unknown_writers_are_refused_beside_what_they_cannot_be_told_from() {
    let all: Vec<_> = REACHES
        .into_iter()
        .chain([Reach::Unknown(2)])
        .flat_map(|reach| DIRECTIONS.map(|dir| Mapped { reach, dir }))
        .collect();
    let is_unknown = |r| matches!(r, Reach::Unknown(_));
    for (new, other) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
        for can_clean in BOTH {
            let (a, b) = (new.reach, other.reach);
            let kinds = is_unknown(a) && is_unknown(b) && a != b;
            let unknown = is_unknown(a) || is_unknown(b);
            let refused = new.dir != Direction::ToDevice
                && other.dir != Direction::ToDevice
                && (kinds || unknown && !can_clean);
            let expected = if refused {
                Err(Refusal::Beside)
            } else {
                Ok(())
            };
            // Whatever else is mapped.
            let reader = Mapped {
                reach: Reach::Bounced,
                dir: Direction::ToDevice,
            };
            let others = [reader, other];
            let is = beside(Kind::Bracketed, new, others.into_iter(), can_clean);
            assert_eq!(is, expected, "{new:?} beside {other:?}, {can_clean}");
            for kind in [Kind::Coherent, Kind::WriteCombine] {
                assert_eq!(beside(kind, new, others.into_iter(), can_clean), Ok(()));
            }
        }
    }
}

/// Of direct mappings, one that its device reads: not every architecture cleans for the others.
#[test]
fn shared_clean_is_for_a_device_that_reads() {
    let direct = |dir| Mapped {
        reach: Reach::Direct,
        dir,
    };
    let (from, to) = (Direction::FromDevice, Direction::ToDevice);
    let list = [direct(from), direct(to), direct(from)];
    let mut steps = Vec::new();
    begin(Kind::Bracketed, DIRTY, false, list.into_iter(), |s| {
        steps.push(s)
    });
    assert_eq!(steps, [Step::ForDevice(1), Step::ForCpu(0)]);
    for state in [DIRTY, WRITING] {
        steps.clear();
        end(
            Kind::Bracketed,
            state,
            Access::Write,
            list.into_iter(),
            |s| steps.push(s),
        );
        assert_eq!(steps, [Step::ForDevice(1)]);
    }
    steps.clear();
    fetched(DIRTY, list.into_iter(), |s| steps.push(s));
    assert_eq!(steps, [Step::ForDevice(1)]);
}

/// The CPU has left nothing to write back.
#[test]
fn end_of_a_read_does_nothing() {
    for mapped in REACHES.map(|reach| Mapped {
        reach,
        dir: Direction::Bidirectional,
    }) {
        for state in [State::NEW, WRITING] {
            let list = [mapped].into_iter();
            let next = end(Kind::Bracketed, state, Access::Read, list, |s| {
                panic!("{s:?} of {mapped:?}")
            });
            assert_eq!(next, state);
        }
    }
}

/// What is refused above is what would have to be.
#[test]
fn coherent_and_write_combined_are_never_maintained() {
    for kind in KINDS.into_iter().filter(|k| *k != Kind::Bracketed) {
        for reach in REACHES.into_iter().filter(|r| map(kind, *r).is_ok()) {
            for dir in DIRECTIONS {
                let mapped = Mapped { reach, dir };
                let list = [mapped, mapped];
                assert!(!is_contested(kind, list.into_iter()));
                let mut steps = Vec::new();
                let state = begin(kind, State::NEW, false, list.into_iter(), |s| steps.push(s));
                for access in [Access::Read, Access::Write, Access::ReadWrite] {
                    end(kind, state, access, list.into_iter(), |s| steps.push(s));
                }
                assert_eq!(steps, []);
                let (how, _) = unmap(kind, state, mapped, [mapped].into_iter());
                assert_eq!(how, Unmap::Discard);
            }
        }
    }
}
