// SPDX-License-Identifier: GPL-2.0

//! The pure part of COPY, as the module compiles it: pieces in any sizes, interrupted and resumed
//! anywhere, against a copy at one go.

#[path = "../../../../src/copy_plan.rs"]
mod copy_plan;
#[allow(dead_code, reason = "regions are for SYNC as well")]
#[path = "../../../../src/region.rs"]
mod region;

use copy_plan::{Order, Plan, Request};
use proptest::prelude::*;
use region::{Invalid, Layout};

const LEN: usize = 96;

fn rows(src: (u64, u64), dst: (u64, u64), length: u64, rows: u64) -> Request {
    Request {
        layout: Layout::Rows,
        src_offset: src.0,
        dst_offset: dst.0,
        src_stride: src.1,
        dst_stride: dst.1,
        length,
        rows,
    }
}

fn linear(src: u64, dst: u64, length: u64) -> Request {
    Request {
        layout: Layout::Linear,
        rows: 0,
        ..rows((src, 0), (dst, 0), length, 0)
    }
}

const WHOLE: Request = Request {
    layout: Layout::Whole,
    src_offset: 0,
    dst_offset: 0,
    src_stride: 0,
    dst_stride: 0,
    length: 0,
    rows: 0,
};

/// Two buffers, or one: the source is `Memory.0[0]` then, too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory(Vec<Vec<u8>>);

impl Memory {
    fn new(same: bool, src: usize, dst: usize) -> Self {
        let bytes = |seed: usize, len| (0..len).map(|n| (n * 7 + seed) as u8).collect();
        Self(if same {
            vec![bytes(1, src)]
        } else {
            vec![bytes(1, dst), bytes(100, src)]
        })
    }

    fn src(&self) -> &Vec<u8> {
        self.0.last().expect("there is one")
    }

    fn dst(&mut self) -> &mut [u8] {
        &mut self.0[0]
    }

    /// The oracle, which knows nothing of plans: all is read before anything is written.
    fn copy(&mut self, request: &Request) {
        let (length, rows, src_stride, dst_stride) = match request.layout {
            Layout::Whole => (self.src().len(), 1, 0, 0),
            Layout::Linear => (request.length as usize, 1, 0, 0),
            Layout::Rows => (
                request.length as usize,
                request.rows as usize,
                request.src_stride as usize,
                request.dst_stride as usize,
            ),
        };
        let before = self.src().clone();
        for row in 0..rows {
            for column in 0..length {
                let from = request.src_offset as usize + row * src_stride + column;
                let to = request.dst_offset as usize + row * dst_stride + column;
                self.dst()[to] = before[from];
            }
        }
    }

    /// One call of the ioctl, which is interrupted when it has copied `most` bytes or a little
    /// more, as `src/copy.rs` does it.
    fn call(&mut self, plan: &Plan, mut done: usize, most: usize, sizes: &mut Sizes) -> usize {
        let began = done;
        if plan.order() == Order::Staged {
            let mut scratch = vec![0; plan.bytes() - done];
            while let Some(piece) = plan.piece(done, sizes.next()) {
                let at = done - began;
                scratch[at..at + piece.len].copy_from_slice(&self.src()[piece.src..][..piece.len]);
                done += piece.len;
                if done - began >= most && done < plan.bytes() {
                    return began;
                }
            }
            done = began;
            while let Some(piece) = plan.piece(done, sizes.next()) {
                let at = done - began;
                self.dst()[piece.dst..][..piece.len].copy_from_slice(&scratch[at..at + piece.len]);
                done += piece.len;
            }
            return done;
        }
        while let Some(piece) = plan.piece(done, sizes.next()) {
            let moved = self.src()[piece.src..][..piece.len].to_vec();
            self.dst()[piece.dst..][..piece.len].copy_from_slice(&moved);
            done += piece.len;
            if done - began >= most {
                break;
            }
        }
        done
    }
}

/// Sizes of pieces, one after the other.
struct Sizes(Vec<usize>, usize);

impl Sizes {
    fn next(&mut self) -> usize {
        self.1 += 1;
        self.0[self.1 % self.0.len()]
    }
}

/// Copies with an interruption at `stop`, then to the end, and compares with the oracle.
fn check(request: &Request, sizes: [usize; 2], same: bool, stop: usize, max: &[usize]) -> Order {
    let plan = request.plan(sizes[0], sizes[1], same).expect("it is valid");
    for region in [plan.src(), plan.dst()] {
        assert_eq!(region.bytes(), plan.bytes(), "{request:?}");
    }
    let before = Memory::new(same, sizes[0], sizes[1]);
    let mut wanted = before.clone();
    wanted.copy(request);

    let mut memory = before.clone();
    let mut sizes = Sizes(max.to_vec(), 0);
    let done = memory.call(&plan, 0, stop, &mut sizes);
    if plan.order() == Order::Staged && done == 0 {
        assert_eq!(memory, before, "{request:?}: all or nothing");
    } else {
        assert!(done > 0, "{request:?}: no progress");
    }
    let done = memory.call(&plan, done, usize::MAX, &mut sizes);
    assert_eq!(done, plan.bytes(), "{request:?}");
    assert!(plan.piece(done, 1).is_none());
    assert_eq!(memory, wanted, "{request:?} stopped at {stop}, {plan:?}");
    plan.order()
}

/// Interrupted at every byte.
fn check_all(request: &Request, same: bool) -> Order {
    let bytes = request.plan(LEN, LEN, same).expect("it is valid").bytes();
    let mut order = None;
    for stop in 1..=bytes {
        for max in [1, 3, LEN] {
            order = Some(check(request, [LEN, LEN], same, stop, &[max]));
        }
    }
    order.expect("a region is not empty")
}

#[test]
fn order_is_the_one_that_is_right() {
    for (request, order) in [
        (linear(10, 10, 20), Order::Forward),
        (linear(10, 9, 20), Order::Forward),
        (linear(10, 11, 20), Order::Backward),
        (linear(10, 29, 20), Order::Backward),
        (linear(10, 30, 20), Order::Forward),
        (linear(30, 10, 20), Order::Forward),
        (WHOLE, Order::Forward),
        (rows((0, 10), (1, 10), 5, 4), Order::Backward),
        (rows((0, 10), (15, 10), 5, 4), Order::Backward),
        (rows((1, 10), (0, 10), 5, 4), Order::Forward),
        (rows((21, 10), (0, 10), 9, 4), Order::Forward),
        // Rows without a gap, one row.
        (rows((0, 5), (1, 5), 5, 4), Order::Backward),
        (rows((0, 5), (1, 90), 5, 1), Order::Backward),
        (rows((0, 10), (1, 11), 5, 4), Order::Staged),
        (rows((0, 5), (1, 6), 5, 4), Order::Staged),
        (rows((0, 6), (24, 7), 5, 4), Order::Forward),
    ] {
        assert_eq!(check_all(&request, true), order, "{request:?}");
        // Two buffers do not overlap.
        assert_eq!(check_all(&request, false), Order::Forward, "{request:?}");
    }
}

#[test]
fn every_shift_of_rows() {
    for shift in 0..40 {
        check_all(&rows((shift, 9), (20, 9), 7, 4), true);
        check_all(&rows((shift, 9), (20, 8), 7, 4), true);
        check_all(&linear(shift, 20, 25), true);
    }
}

#[test]
fn what_is_no_copy() {
    let huge = u64::MAX;
    for request in [
        linear(0, 0, 0),
        linear(huge, 0, 2),
        linear(0, huge, 2),
        Request {
            rows: 1,
            ..linear(0, 0, 1)
        },
        Request {
            src_stride: 1,
            ..linear(0, 0, 1)
        },
        Request {
            dst_stride: 1,
            ..linear(0, 0, 1)
        },
        rows((0, 4), (0, 4), 0, 1),
        rows((0, 4), (0, 4), 4, 0),
        rows((0, 3), (0, 4), 4, 2),
        rows((0, 4), (0, 3), 4, 2),
        rows((0, huge), (0, 4), 4, 3),
        rows((0, 4), (0, huge), 4, 3),
        rows((0, 8), (0, 8), 4, huge / 4),
        Request { length: 1, ..WHOLE },
        Request {
            src_offset: 1,
            ..WHOLE
        },
        Request {
            dst_offset: 1,
            ..WHOLE
        },
    ] {
        assert_eq!(request.check(), Err(Invalid), "{request:?}");
        assert!(request.plan(LEN, LEN, false).is_err(), "{request:?}");
    }
    // What fits some buffers, but not these.
    for (request, sizes) in [
        (WHOLE, (LEN, LEN + 1)),
        (linear(0, 0, 9), (8, 9)),
        (linear(0, 0, 9), (9, 8)),
        (linear(1, 0, 9), (9, 9)),
        (rows((0, 5), (0, 6), 4, 3), (13, 16)),
        (rows((0, 5), (0, 6), 4, 3), (14, 15)),
    ] {
        request.check().expect("it is right for some");
        assert!(
            request.plan(sizes.0, sizes.1, false).is_err(),
            "{request:?}"
        );
    }
    // The last row need not have all of its stride.
    assert!(rows((0, 5), (0, 6), 4, 3).plan(14, 16, false).is_ok());
    assert!(WHOLE.plan(LEN, LEN, true).is_ok());
}

#[test]
fn done_beyond_the_end_has_no_piece() {
    let plan = linear(0, 0, 9).plan(9, 9, false).expect("it is valid");
    assert!(plan.piece(10, 1).is_none());
    assert!(plan.piece(usize::MAX, 1).is_none());
}

fn request() -> impl Strategy<Value = (Request, [usize; 2])> {
    let any_rows = (
        1..6_u64,
        1..9_u64,
        (0..40_u64, 0..5_u64),
        (0..40_u64, 0..5_u64),
        (0..3_usize, 0..3_usize),
    );
    let in_rows = any_rows.prop_map(|(count, length, src, dst, beyond)| {
        let request = rows(
            (src.0, length + src.1),
            (dst.0, length + dst.1),
            length,
            count,
        );
        let end = |(offset, more): (u64, u64)| (offset + count * (length + more)) as usize;
        (request, [end(src) + beyond.0, end(dst) + beyond.1])
    });
    let in_line = (0..60_u64, 0..60_u64, 1..60_u64)
        .prop_map(|(src, dst, length)| (linear(src, dst, length), [120, 120]));
    prop_oneof![3 => in_rows, 1 => in_line]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn result_is_that_of_a_copy_at_one_go(
        (request, sizes) in request(),
        same: bool,
        stop in 1..60_usize,
        max in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let one = sizes[0].max(sizes[1]);
        let sizes = if same { [one, one] } else { sizes };
        check(&request, sizes, same, stop, &max);
    }
}
