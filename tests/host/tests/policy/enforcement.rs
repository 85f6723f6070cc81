// SPDX-License-Identifier: GPL-2.0

//! R10: what becomes of an access to a page, by the windows that its process has there.

use crate::policy::{Enforce, Judgement, judge};

const BOTH: [bool; 2] = [false, true];
const MODES: [Enforce; 2] = [Enforce::Report, Enforce::Poison];

/// What is done about an access that no window allows.
fn outside(mode: Enforce) -> Judgement {
    match mode {
        Enforce::Off => Judgement::Write,
        Enforce::Report => Judgement::Report,
        Enforce::Poison => Judgement::Poison,
    }
}

#[test]
fn without_enforcement_nothing_is_outside() {
    for (write, may_read, may_write) in BOTH
        .into_iter()
        .flat_map(|a| BOTH.into_iter().flat_map(move |b| BOTH.map(|c| (a, b, c))))
    {
        let judged = judge(Enforce::Off, write, may_read, may_write);
        assert_eq!(judged, Judgement::Write);
    }
}

#[test]
fn no_window_allows_nothing() {
    for (mode, write) in MODES.into_iter().flat_map(|m| BOTH.map(|w| (m, w))) {
        assert_eq!(judge(mode, write, false, false), outside(mode));
    }
}

#[test]
fn read_window_allows_reads_and_shows_writes() {
    for mode in MODES {
        // Mapped to be read, so that a write comes back as a fault.
        assert_eq!(judge(mode, false, true, false), Judgement::Read);
        assert_eq!(judge(mode, true, true, false), outside(mode));
    }
}

#[test]
fn write_window_allows_both() {
    for (mode, write) in MODES.into_iter().flat_map(|m| BOTH.map(|w| (m, w))) {
        assert_eq!(judge(mode, write, true, true), Judgement::Write);
    }
}
