// SPDX-License-Identifier: GPL-2.0

//! What is maintained of a region, of what windows leave, of written pages, and from device to
//! device: every byte of it.

use crate::driver::Driver;
use crate::memory::{Caches, Counts, Dir, LEN, LINE, LINES, Memory, PAGE, Path, Way};
use crate::policy::Access::{self, Read, Write};
use crate::region::{Layout, Region};

fn driver() -> Driver {
    Driver::new(Memory::new(Caches::Idle))
}

fn region(offset: usize, length: usize, stride: usize, rows: usize) -> Region {
    let [offset, length, stride, rows] = [offset, length, stride, rows].map(|n| n as u64);
    Region::new(Layout::Rows, offset, length, stride, rows, LEN).unwrap()
}

fn line(line: usize) -> Region {
    region(line * LINE, LINE, LINE, 1)
}

/// What `f` costs.
fn cost(d: &mut Driver, f: impl FnOnce(&mut Driver)) -> Counts {
    d.memory.counts = Counts::default();
    f(d);
    d.memory.counts
}

fn start(d: &mut Driver, access: Access, of: &Region) -> Counts {
    cost(d, |d| d.start_region(0, access, of))
}

fn end(d: &mut Driver, of: &Region) -> Counts {
    cost(d, |d| d.finish_region(0, Write, of))
}

/// What those lines of a device cost.
fn of_lines(way: Way, lines: &[usize], for_device: bool) -> Counts {
    let bytes = |path| lines.iter().filter(|l| way.path(**l) == path).count() * LINE;
    let (past, copy) = (bytes(Path::Past), bytes(Path::Copy));
    match for_device {
        true => Counts {
            cleaned: past,
            copied_out: copy,
            ..Counts::default()
        },
        false => Counts {
            invalidated: past,
            copied_in: copy,
            ..Counts::default()
        },
    }
}

const ALL: [usize; LINES] = [0, 1, 2, 3, 4, 5];

/// Regions, and the lines that they touch.
fn regions() -> Vec<(Region, &'static [usize])> {
    vec![
        (region(0, 1, 1, 1), &[0]),
        (region(LINE - 1, 2, 2, 1), &[0, 1]),
        (region(LINE, LINE, LINE, 1), &[1]),
        (region(LEN - 1, 1, 1, 1), &[5]),
        // Two lines of each row, and one line between them.
        (region(4, LINE, 3 * LINE, 2), &[0, 1, 3, 4]),
        // Rows of one line, none twice.
        (region(0, 1, 3, 8), &[0, 1, 2]),
        (region(0, LINE, 2 * LINE, 3), &[0, 2, 4]),
        (region(1, LEN - 2, LEN - 2, 1), &ALL),
        (Region::whole(LEN), &ALL),
    ]
}

#[test]
fn sync_of_a_region_maintains_its_lines() {
    for (way, dir) in Way::DIVISIBLE
        .into_iter()
        .flat_map(|way| Dir::ALL.map(|dir| (way, dir)))
    {
        for (region, lines) in regions() {
            let mut d = driver();
            d.map(way, dir).unwrap();
            let fetched = match dir.writes() {
                true => of_lines(way, lines, false),
                false => Counts::default(),
            };
            assert_eq!(start(&mut d, Read, &region), fetched, "{way:?} {dir:?}");
            assert_eq!(start(&mut d, Write, &region), fetched, "{way:?} {dir:?}");
            // Nobody has it twice.
            assert_eq!(start(&mut d, Write, &region), Counts::default());
            let pushed = of_lines(way, lines, true);
            assert_eq!(end(&mut d, &region), pushed, "{way:?} {dir:?} {region:?}");
        }
    }
}

/// So does that of copies whose bytes are told apart.
#[test]
fn sync_of_a_region_fetches_the_lines_of_each_copy() {
    for (region, lines) in regions() {
        let mut d = driver();
        let copy = d.map(Way::Bounced, Dir::Both).unwrap();
        d.map(Way::Bounced, Dir::Both).unwrap();
        let bytes = lines.len() * LINE;
        d.device_write(copy, lines[0] * LINE, 1);
        let counts = Counts {
            copied_in: 2 * bytes,
            // What the other lacks.
            copied_out: bytes,
            ..Counts::default()
        };
        assert_eq!(start(&mut d, Write, &region), counts, "{region:?}");
        let counts = Counts {
            copied_out: 2 * bytes,
            ..Counts::default()
        };
        assert_eq!(end(&mut d, &region), counts, "{region:?}");
    }
}

/// Until one writes alone, and has got everything.
#[test]
fn bytes_are_told_apart_for_as_long_as_it_takes() {
    let mut d = driver();
    d.map(Way::Bounced, Dir::Both).unwrap();
    let other = d.map(Way::Direct, Dir::Both).unwrap();
    d.unmap(other);
    assert!(d.is_contested());
    d.start_region(0, Write, &line(0));
    d.finish_region(0, Write, &line(0));
    assert!(d.is_contested());
    d.start(0, Write);
    d.finish(0, Write);
    assert!(!d.is_contested());
}

/// What a window owns is left out by all that fetches; of copies it is all that an END pushes.
#[test]
fn window_of_a_region_owns_its_lines() {
    for way in Way::DIVISIBLE {
        let rest = [0, 2, 3, 4, 5];
        let mut d = driver();
        let id = d.map(way, Dir::Both).unwrap();
        d.start_region(1, Write, &line(1));
        let counts = cost(&mut d, |d| d.start(0, Read));
        assert_eq!(counts, of_lines(way, &rest, false), "{way:?}");
        let counts = cost(&mut d, |d| d.sync_for_cpu(id));
        assert_eq!(counts, of_lines(way, &rest, false), "{way:?}");

        let counts = cost(&mut d, |d| d.finish(0, Write));
        let copied_out = of_lines(way, &[1], true).copied_out;
        // What is unknown may be a copy.
        let cleaned = match way {
            Way::Direct | Way::Iommu => LEN,
            _ => of_lines(way, &[1], true).cleaned,
        };
        let pushed = Counts {
            cleaned,
            copied_out,
            ..Counts::default()
        };
        assert_eq!(counts, pushed, "{way:?}");

        let counts = cost(&mut d, |d| d.unmap(id));
        assert_eq!(counts, of_lines(way, &rest, false), "{way:?}");
    }
}

/// The END of a larger region ends what lies in it, unless there is a window of just that one.
#[test]
fn windows_end_as_they_are_named() {
    let fetches = |d: &mut Driver| cost(d, |d| d.start(1, Read)).copied_in / LINE;
    let mut d = driver();
    d.map(Way::Bounced, Dir::Both).unwrap();
    d.start_region(0, Write, &line(0));
    d.start_region(0, Write, &line(1));
    d.start_region(0, Write, &region(0, 2 * LINE, 2 * LINE, 1));
    d.start_region(0, Write, &line(2));
    d.start_region(1, Write, &line(5));
    assert_eq!(fetches(&mut d), 2);
    // The window of both lines; then those of each.
    d.finish_region(0, Write, &region(0, 2 * LINE, 2 * LINE, 1));
    assert_eq!(fetches(&mut d), 2);
    d.finish_region(0, Write, &region(0, 2 * LINE + 1, 2 * LINE + 1, 1));
    assert_eq!(fetches(&mut d), 4);
    // Not those of others, nor one that lies in it in part.
    d.finish_region(0, Write, &region(2 * LINE + 1, LEN - 2 * LINE - 1, LEN, 1));
    assert_eq!(fetches(&mut d), 4);
    d.finish(0, Write);
    assert_eq!(fetches(&mut d), 5);
    d.finish_region(1, Write, &line(5));
    assert_eq!(fetches(&mut d), 6);

    // Each START has its END.
    d.start_region(0, Write, &line(0));
    d.start_region(0, Write, &line(0));
    d.finish_region(0, Write, &line(0));
    assert_eq!(fetches(&mut d), 5);
    d.finish_region(0, Write, &line(0));
    assert_eq!(fetches(&mut d), 6);
}

/// A mapping of which no part can be synced makes every region the whole buffer.
#[test]
fn indivisible_mapping_is_maintained_as_a_whole() {
    let mut d = driver();
    d.map(Way::Direct, Dir::To).unwrap();
    d.map(Way::UnknownWhole, Dir::Both).unwrap();
    let copied_in = start(&mut d, Write, &line(1));
    assert_eq!(copied_in, of_lines(Way::UnknownWhole, &ALL, false));
    // The window is one of the whole buffer.
    assert_eq!(cost(&mut d, |d| d.start(1, Read)), Counts::default());
    let counts = Counts {
        cleaned: LEN,
        copied_out: LEN,
        ..Counts::default()
    };
    assert_eq!(end(&mut d, &line(1)), counts);
}

fn tracked(way: Way, dir: Dir) -> Driver {
    let mut d = driver().tracked();
    d.map(way, dir).unwrap();
    d
}

/// Devices past the caches, and a copy that is the only one that may be written, or read.
const BY_PAGES: [(Way, Dir); 8] = [
    (Way::Direct, Dir::To),
    (Way::Direct, Dir::From),
    (Way::Direct, Dir::Both),
    (Way::Iommu, Dir::Both),
    (Way::Bounced, Dir::To),
    (Way::Bounced, Dir::Both),
    (Way::UnknownPast, Dir::Both),
    (Way::HalfBounced, Dir::Both),
];

#[test]
fn end_maintains_the_written_pages() {
    for (way, dir) in BY_PAGES {
        let mut d = tracked(way, dir);
        d.start(0, Write);
        d.start(1, Write);
        assert_eq!(end(&mut d, &Region::whole(LEN)), Counts::default());
        d.start(0, Write);
        d.cpu_write(0, PAGE + LINE, 1);
        d.cpu_write(1, 2 * PAGE, 1);
        // By whomever they were written; once.
        let counts = end(&mut d, &Region::whole(LEN));
        assert_eq!(
            counts,
            of_lines(way, &[2, 3, 4, 5], true),
            "{way:?} {dir:?}"
        );
        assert_eq!(cost(&mut d, |d| d.finish(1, Write)), Counts::default());

        // Of a region, and the rest later.
        d.start(0, Write);
        d.cpu_write(0, 0, 1);
        d.cpu_write(0, PAGE, 1);
        let counts = end(&mut d, &region(LINE, 2 * LINE, 2 * LINE, 1));
        assert_eq!(counts, of_lines(way, &[1, 2], true), "{way:?} {dir:?}");
        let counts = end(&mut d, &Region::whole(LEN));
        assert_eq!(
            counts,
            of_lines(way, &[0, 1, 2, 3], true),
            "{way:?} {dir:?}"
        );
        d.start(0, Write);
        assert_eq!(end(&mut d, &Region::whole(LEN)), Counts::default());
    }
}

/// Those of all rows, and not what lies between them.
#[test]
fn end_of_rows_maintains_their_pages() {
    for (way, dir) in BY_PAGES {
        let mut d = tracked(way, dir);
        d.start(0, Write);
        d.cpu_write(0, PAGE, 1);
        d.cpu_write(0, 2 * PAGE, 1);
        let counts = end(&mut d, &region(0, LINE, 2 * PAGE, 2));
        assert_eq!(counts, of_lines(way, &[4], true), "{way:?} {dir:?}");
        let counts = end(&mut d, &Region::whole(LEN));
        assert_eq!(
            counts,
            of_lines(way, &[2, 3, 4, 5], true),
            "{way:?} {dir:?}"
        );
    }
}

/// A page that lies in the region as a whole is done with.
#[test]
fn end_of_a_region_forgets_its_pages() {
    for (way, dir) in BY_PAGES {
        let mut d = tracked(way, dir);
        d.start(0, Write);
        d.cpu_write(0, PAGE, 1);
        let page = region(PAGE, PAGE, PAGE, 1);
        assert_eq!(end(&mut d, &page), of_lines(way, &[2, 3], true));
        assert_eq!(end(&mut d, &Region::whole(LEN)), Counts::default());
    }
}

/// Where page tables do not tell, all pages.
#[test]
fn end_maintains_all_where_it_is_not_known_what_was_written() {
    type Does = fn(&mut Driver);
    let all: [(&str, Does); 3] = [
        ("unmapped", |d| d.munmap(2)),
        ("mapped by the kernel", |d| d.vmap()),
        ("was mapped by the kernel", |d| {
            d.vmap();
            d.vunmap();
        }),
    ];
    for ((what, does), (way, dir)) in all.into_iter().flat_map(|a| BY_PAGES.map(|b| (a, b))) {
        let mut d = tracked(way, dir);
        d.start(0, Write);
        does(&mut d);
        let counts = end(&mut d, &Region::whole(LEN));
        assert_eq!(counts, of_lines(way, &ALL, true), "{what}, {way:?} {dir:?}");
        // It is known again, once nothing else writes.
        d.start(0, Write);
        let counts = match what {
            "mapped by the kernel" => of_lines(way, &ALL, true),
            _ => Counts::default(),
        };
        assert_eq!(end(&mut d, &Region::whole(LEN)), counts, "{what}, {way:?}");
    }
}

/// Where an END may have to hand over what a device wrote, all pages.
#[test]
fn end_maintains_all_beside_who_may_have_written() {
    for (reader, writer) in [
        (Way::Direct, Way::Snooping),
        (Way::Direct, Way::Bounced),
        (Way::Bounced, Way::Direct),
        (Way::Bounced, Way::Snooping),
        (Way::Bounced, Way::UnknownCopy),
    ] {
        let mut d = tracked(reader, Dir::To);
        let id = d.map(writer, Dir::Both).unwrap();
        d.start(0, Write);
        let counts = end(&mut d, &Region::whole(LEN));
        let of_reader = of_lines(reader, &ALL, true);
        assert!(counts.cleaned >= of_reader.cleaned, "{reader:?}");
        assert!(counts.copied_out >= of_reader.copied_out, "{reader:?}");

        // Its last bytes, too, when it is gone; once.
        d.unmap(id);
        d.start(0, Write);
        assert_eq!(end(&mut d, &Region::whole(LEN)), of_reader, "{reader:?}");
        d.start(0, Write);
        assert_eq!(end(&mut d, &Region::whole(LEN)), Counts::default());
    }
}

/// Of one device alone: what its map and unmap do, but for a copy that is up to date.
#[test]
fn device_sync_costs_what_map_and_unmap_do() {
    for (way, dir) in Way::DIVISIBLE
        .into_iter()
        .flat_map(|way| Dir::ALL.map(|dir| (way, dir)))
    {
        let mut d = driver();
        let id = d.map(way, dir).unwrap();
        let counts = cost(&mut d, |d| d.sync_for_cpu(id));
        let fetched = match dir.writes() {
            true => of_lines(way, &ALL, false),
            false => Counts::default(),
        };
        assert_eq!(counts, fetched, "for the CPU, {way:?} {dir:?}");
        let counts = cost(&mut d, |d| d.sync_for_device(id));
        let is_copy = !matches!(way, Way::Direct | Way::Iommu);
        let pushed = match dir.writes() && is_copy {
            true => Counts::default(),
            false => of_lines(way, &ALL, true),
        };
        assert_eq!(counts, pushed, "for the device, {way:?} {dir:?}");
        // All is owned.
        d.start(0, Write);
        assert_eq!(cost(&mut d, |d| d.sync_for_cpu(id)), Counts::default());
        assert_eq!(cost(&mut d, |d| d.sync_for_device(id)), Counts::default());
    }
}

/// Copies that are told apart are up to date already.
#[test]
fn device_sync_pushes_no_copy_twice() {
    let mut d = driver();
    let first = d.map(Way::Bounced, Dir::Both).unwrap();
    let second = d.map(Way::Bounced, Dir::Both).unwrap();
    let reader = d.map(Way::Bounced, Dir::To).unwrap();
    d.device_write(first, 0, 1);
    let counts = cost(&mut d, |d| d.sync_for_cpu(first));
    assert_eq!((counts.copied_in, counts.copied_out), (2 * LEN, LEN));
    let counts = cost(&mut d, |d| d.sync_for_device(second));
    assert_eq!((counts.copied_in, counts.copied_out), (2 * LEN, 0));
    let counts = cost(&mut d, |d| d.sync_for_device(reader));
    assert_eq!((counts.copied_in, counts.copied_out), (2 * LEN, LEN));
}

/// Nor is anything cleaned twice, for a device past the caches that writes beside them.
#[test]
fn device_sync_cleans_nothing_twice() {
    for way in [Way::Direct, Way::Iommu] {
        let mut d = driver();
        let copy = d.map(Way::Bounced, Dir::Both).unwrap();
        let past = d.map(way, Dir::Both).unwrap();
        d.device_write(copy, 0, 1);
        d.sync_for_cpu(copy);
        let counts = Counts {
            cleaned: LEN,
            invalidated: LEN,
            copied_in: LEN,
            copied_out: 0,
        };
        assert_eq!(cost(&mut d, |d| d.sync_for_device(past)), counts, "{way:?}");
    }
}

/// What it has cleaned, the next START does not clean again.
#[test]
fn device_sync_leaves_clean_lines() {
    for way in [Way::Direct, Way::Iommu] {
        let mut d = driver();
        let past = d.map(way, Dir::Both).unwrap();
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        d.unmap(snooping);
        d.sync_for_device(past);
        assert_eq!(cost(&mut d, |d| d.start(0, Read)).cleaned, 0, "{way:?}");
    }
}

/// The CPU may be writing them.
#[test]
fn lines_of_a_window_are_not_invalidated() {
    let mut d = driver();
    d.map(Way::UnknownCopy, Dir::Both).unwrap();
    d.map(Way::Bounced, Dir::Both).unwrap();
    d.start_region(0, Write, &line(1));
    let counts = cost(&mut d, |d| d.start(1, Read));
    assert_eq!(counts.invalidated, LEN - LINE);
}
