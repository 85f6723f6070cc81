// SPDX-License-Identifier: GPL-2.0

//! Regions against sets of bytes, one by one.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use crate::region::{Invalid, Layout, MOST_ROWS, Region, union, within, without};

type Set = BTreeSet<usize>;

const MOST: usize = 120;

/// More lines than the union looks at together, a few times.
const LARGE: usize = 9000;

/// What an ioctl says.
#[derive(Copy, Clone, Debug)]
struct Numbers {
    layout: Layout,
    offset: u64,
    length: u64,
    stride: u64,
    rows: u64,
}

impl Numbers {
    fn region(self, size: usize) -> Result<Region, Invalid> {
        Region::new(
            self.layout,
            self.offset,
            self.length,
            self.stride,
            self.rows,
            size,
        )
    }

    /// The same in numbers that do not overflow; all rows, where it is one.
    fn rows(self, size: usize) -> Option<(u128, u128, u128, u128)> {
        let [offset, length, stride, rows] =
            [self.offset, self.length, self.stride, self.rows].map(u128::from);
        let (length, stride, rows) = match self.layout {
            Layout::Whole if offset + length + stride + rows == 0 => (size as u128, 0, 1),
            Layout::Linear if stride + rows == 0 => (length, 0, 1),
            Layout::Rows if stride >= length => (length, stride, rows),
            _ => return None,
        };
        if length == 0 || rows == 0 || offset + (rows - 1) * stride + length > size as u128 {
            return None;
        }
        Some((offset, length, stride, rows))
    }
}

/// Small ones, and such that overflow in sums and products.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..12u64,
        1 => (0..4u64).prop_map(|n| u64::MAX - n),
        1 => (0..4u64).prop_map(|n| (1 << 63) - 2 + n),
        1 => (0..4u64).prop_map(|n| (1 << 32) - 2 + n),
        1 => any::<u64>(),
    ]
}

fn layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(&[Layout::Whole, Layout::Linear, Layout::Rows][..])
}

prop_compose! {
    fn numbers()(
        layout in layout(),
        offset in number(),
        length in number(),
        stride in number(),
        rows in number(),
        unused in any::<bool>(),
    ) -> Numbers {
        match layout {
            _ if unused => Numbers { layout, offset, length, stride, rows },
            Layout::Whole => Numbers { layout, offset: 0, length: 0, stride: 0, rows: 0 },
            Layout::Linear => Numbers { layout, offset, length, stride: 0, rows: 0 },
            Layout::Rows => Numbers { layout, offset, length, stride, rows },
        }
    }
}

/// A region of a buffer of `size` bytes, with its bytes.
fn region_of(size: usize) -> impl Strategy<Value = (Region, Set)> {
    (0..size, 1..=size, 0..24usize, 1..=size, 0..4u8).prop_map(
        move |(offset, length, gap, rows, short)| {
            let length = length.min(size - offset);
            let length = if short > 0 { length.min(9) } else { length };
            let stride = length + gap;
            let rows = rows.min((size - offset - length) / stride + 1);
            let bytes = (0..rows)
                .flat_map(|row| offset + row * stride..offset + row * stride + length)
                .collect();
            let [offset, length, stride, rows] = [offset, length, stride, rows].map(|n| n as u64);
            let region = Region::new(Layout::Rows, offset, length, stride, rows, size);
            (region.unwrap(), bytes)
        },
    )
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1..=MOST, (1..=MOST / 16).prop_map(|n| 16 * n)]
}

fn line() -> impl Strategy<Value = usize> {
    prop::sample::select(&[1usize, 2, 4, 8, 16, 64][..])
}

fn one() -> impl Strategy<Value = (usize, usize, (Region, Set))> {
    (size(), line()).prop_flat_map(|(size, line)| (Just(size), Just(line), region_of(size)))
}

type Several = Vec<(Region, Set)>;

fn several(count: usize) -> impl Strategy<Value = (usize, usize, Several)> {
    (size(), line()).prop_flat_map(move |(size, line)| {
        let regions = prop::collection::vec(region_of(size), 0..=count);
        (Just(size), Just(line), regions)
    })
}

/// Lines that have one of those bytes.
fn lines(bytes: &Set, line: usize, size: usize) -> Set {
    let lines: Set = bytes.iter().map(|at| at / line).collect();
    lines
        .into_iter()
        .flat_map(|n| n * line..((n + 1) * line).min(size))
        .collect()
}

/// What an iterator yields. It ends, in order, and yields no byte twice, nor an empty range; with
/// `apart`, no two ranges touch.
fn collect(ranges: impl Iterator<Item = Range<usize>>, apart: bool) -> Result<Set, TestCaseError> {
    let mut last = None;
    let mut all = Set::new();
    for (n, range) in ranges.enumerate() {
        prop_assert!(n <= LARGE, "no end");
        prop_assert!(range.start < range.end, "{range:?}");
        if let Some(last) = last {
            let behind = range.start > last || (!apart && range.start == last);
            prop_assert!(behind, "{range:?} after {last}");
        }
        last = Some(range.end);
        all.extend(range);
    }
    Ok(all)
}

proptest! {
    #![proptest_config(crate::cases(2_000))]

    #[test]
    fn only_what_lies_in_the_buffer_is_a_region(
        numbers in numbers(),
        size in prop_oneof![4 => 1..=20usize, 1 => size(), 1 => Just(usize::MAX), 1 => Just(1 << 32)],
    ) {
        let region = numbers.region(size);
        prop_assert_eq!(region.is_ok(), numbers.rows(size).is_some(), "{:?}", region);
        if let (Ok(region), Some((offset, length, stride, rows))) = (region, numbers.rows(size)) {
            prop_assert_eq!(region.bytes() as u128, length * rows);
            let end = offset + (rows - 1) * stride + length;
            let bounds = region.bounds();
            prop_assert_eq!((bounds.start as u128, bounds.end as u128), (offset, end));
        }
    }

    #[test]
    fn rows_are_the_bytes((_, _, (region, bytes)) in one()) {
        prop_assert_eq!(region.bytes(), bytes.len());
        let bounds = *bytes.first().unwrap()..bytes.last().unwrap() + 1;
        prop_assert_eq!(region.bounds(), bounds);
        prop_assert_eq!(collect(region.rows(), true)?, bytes);
    }

    /// However they were named.
    #[test]
    fn regions_of_the_same_bytes_are_equal((size, _, all) in several(2)) {
        if let [(a, of_a), (b, of_b)] = &all[..] {
            prop_assert_eq!(a == b, of_a == of_b);
        }
        let all: Set = (0..size).collect();
        let named = Region::new(Layout::Linear, 0, size as u64, 0, 0, size).unwrap();
        prop_assert_eq!(Region::whole(size), named);
        prop_assert_eq!(collect(named.rows(), true)?, all);
        // Each byte a row.
        let (rows, one) = (size as u64, 1);
        let named = Region::new(Layout::Rows, 0, one, one, rows, size).unwrap();
        prop_assert_eq!(Region::whole(size), named);
    }

    #[test]
    fn lines_are_those_that_have_a_byte((size, line, (region, bytes)) in one()) {
        let seen = collect(region.lines(line, size), true)?;
        prop_assert_eq!(seen, lines(&bytes, line, size));
    }

    /// Where they are said to be even, which rows of whole lines are that are far enough apart.
    #[test]
    fn even_lines_are_all_lines((size, line, (region, _)) in one()) {
        let lines = region.lines(line, size);
        let even = lines.even();
        let far = region.stride() % line == 0
            && region.rows().next().unwrap().len() + 2 * line <= region.stride()
            && region.bounds().end.div_ceil(line) * line <= size;
        prop_assert!(even.is_some() || !(far || region.height() == 1));
        if let Some((first, stride, count)) = even {
            let all: Vec<_> = (0..count)
                .map(|row| first.start + row * stride..first.end + row * stride)
                .collect();
            prop_assert_eq!(all, lines.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_region_is_whole_where_it_has_all_bytes((size, _, (region, bytes)) in one()) {
        prop_assert_eq!(region.is_whole(size), bytes.len() == size);
    }

    #[test]
    fn lines_behind_are_those_of_the_first_row(
        (size, line, (region, _)) in one(),
        from in 0..=MOST + 1,
    ) {
        let of_row = |row: Range<usize>| {
            let start = row.start / line * line;
            start..(row.end.div_ceil(line) * line).min(size)
        };
        let expected = region.rows().map(of_row).find(|lines| lines.end > from);
        prop_assert_eq!(region.lines_behind(from, line, size), expected);
    }

    #[test]
    fn region_contains_what_has_no_other_bytes((_, _, all) in several(2)) {
        if let [(a, of_a), (b, of_b)] = &all[..] {
            prop_assert_eq!(a.contains(b), of_a.is_superset(of_b));
            prop_assert!(a.contains(a) && b.contains(b));
        }
    }

    #[test]
    fn region_touches_what_has_one_of_its_bytes(
        (_, _, (region, bytes)) in one(),
        start in 0..=MOST,
        len in 0..40usize,
    ) {
        let range = start..start + len;
        prop_assert_eq!(region.touches(&range), bytes.range(range).next().is_some());
    }

    #[test]
    fn union_has_the_lines_of_all((size, line, all) in several(5)) {
        let regions = all.iter().map(|(region, _)| region);
        let seen = collect(union(regions, line, size), true)?;
        let bytes = all.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        prop_assert_eq!(seen, lines(&bytes, line, size));
    }

    #[test]
    fn union_of_a_large_buffer_has_the_lines_of_all(
        (size, all) in (2000..=LARGE).prop_flat_map(|size| {
            (Just(size), prop::collection::vec(region_of(size), 0..=5))
        }),
        line in prop::sample::select(&[1usize, 2, 4][..]),
        near in (0..LARGE, 0..LARGE),
    ) {
        let regions = || all.iter().map(|(region, _)| region);
        let bytes = all.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        let bytes = lines(&bytes, line, size);
        let seen = collect(union(regions(), line, size), true)?;
        prop_assert!(seen == bytes, "{seen:?}, must be {bytes:?}");
        // Whatever lies in the lines of a range, and nothing else.
        let near = near.0.min(near.1).min(size - 1)..near.0.max(near.1).min(size);
        let seen = collect(union(regions(), line, size).near(&near), true)?;
        let near = near.start / line * line..(near.end.div_ceil(line) * line).min(size);
        let bytes: Set = bytes.into_iter().filter(|at| near.contains(at)).collect();
        prop_assert!(seen == bytes, "near {near:?}: {seen:?}, must be {bytes:?}");
    }

    /// As [free, owned] are taken from a region.
    #[test]
    fn within_and_without_are_the_two_parts((size, line, all) in several(5)) {
        let Some(((region, bytes), windows)) = all.split_first() else {
            return Ok(());
        };
        // Near the region the union is all that matters, and the same.
        let regions = windows.iter().map(|(region, _)| region);
        let owned = || union(regions.clone(), line, size).near(&region.bounds());
        let all_owned = || union(regions.clone(), line, size);
        let bytes = lines(bytes, line, size);
        let of_windows = windows.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        let of_windows = lines(&of_windows, line, size);

        let free = collect(without(region.lines(line, size), owned()), true)?;
        let of_all = collect(without(region.lines(line, size), all_owned()), true)?;
        prop_assert_eq!(&free, &of_all);
        let free_is: Set = bytes.difference(&of_windows).copied().collect();
        prop_assert_eq!(&free, &free_is);
        let seen = collect(within(region.lines(line, size), owned()), true)?;
        let both: Set = bytes.intersection(&of_windows).copied().collect();
        prop_assert_eq!(&seen, &both);
        let other = collect(within(owned(), region.lines(line, size)), true)?;
        prop_assert_eq!(&seen, &other);
        // Again in what is left, and in three.
        let none = within(without(region.lines(line, size), owned()), owned());
        prop_assert_eq!(collect(none, true)?, Set::new());
        let all = within(within(region.lines(line, size), owned()), region.lines(line, size));
        prop_assert_eq!(collect(all, true)?, both);
    }
}

/// What has too many rows to be walked under the lock is taken with what lies between.
#[test]
fn rows_to_walk_are_limited() {
    let comb = |rows: usize, stride: u64| {
        Region::new(Layout::Rows, 3, 2, stride, rows as u64, 1 << 20).unwrap()
    };
    let most = comb(MOST_ROWS, 4);
    assert_eq!((most.height(), most.walkable()), (MOST_ROWS, most));
    let more = comb(MOST_ROWS + 1, 4);
    assert_eq!(more.height(), MOST_ROWS + 1);
    let walked = more.walkable();
    assert_eq!((walked.height(), walked.bounds()), (1, more.bounds()));
    assert_eq!(walked.bytes(), 4 * MOST_ROWS + 2);
    assert!(walked.contains(&more) && !more.contains(&walked));
    assert_eq!(comb(MOST_ROWS + 1, 2).height(), 1);
}

/// The example of the 2015 mail: a square of 10 by 10 in 1600 by 1200 pixels of 4 bytes.
#[test]
fn small_square_of_a_large_frame_is_few_lines() {
    let square = |x: u64| {
        let frame = 1600 * 1200 * 4;
        let (offset, stride) = (300 * 6400 + 4 * x, 6400);
        let region = Region::new(Layout::Rows, offset, 40, stride, 10, frame).unwrap();
        assert_eq!(region.bytes(), 400);
        region
            .lines(64, frame)
            .map(|lines| lines.len())
            .collect::<Vec<_>>()
    };
    // Two lines of 64 bytes for each row, or one where it does not straddle.
    assert_eq!(square(10), [128; 10]);
    assert_eq!(square(10).iter().sum::<usize>(), 1280);
    assert_eq!(square(16), [64; 10]);
}
