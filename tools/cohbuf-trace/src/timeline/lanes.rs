// SPDX-License-Identifier: GPL-2.0

//! Sorts the events of one buffer into lanes.

use std::collections::HashMap;

use super::words;
use crate::Event;

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The CPU may read.
    Read,
    /// The CPU may write.
    Write,
    /// A START or END is at work.
    Call,
    Attached,
    Mapped,
    /// The device may access it.
    Owned,
    /// Memory is made what the CPU shall see.
    ForCpu,
    /// Memory is made what the device shall see.
    ForDevice,
    /// By DMA ops of the device's own.
    OwnOps,
    Wait,
    Copy,
}

/// Something that takes time.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) from: u64,
    /// [`None`]: not at an end when the recording ended.
    pub(super) to: Option<u64>,
    pub(super) kind: Kind,
    /// In which line of its lane, for windows that overlap.
    pub(super) level: usize,
    pub(super) label: String,
    pub(super) tip: String,
}

impl Bar {
    /// Whether some of it is in a period. What only touches a seam is in the other line.
    pub(super) fn is_in(&self, from: u64, to: u64, last: bool) -> bool {
        match self.to {
            Some(end) if end == self.from => from <= end && end <= to,
            Some(end) => self.from < to && end > from,
            None => self.from < to || last,
        }
    }
}

impl Mark {
    /// Likewise: what is at a seam is in the line that ends there.
    pub(super) fn is_in(&self, from: u64, to: u64) -> bool {
        from < self.at && self.at <= to || from == to && self.at == to
    }
}

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Refused,
    Outside,
    Abandoned,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) sign: Sign,
    pub(super) head: String,
    pub(super) rest: String,
    pub(super) tip: String,
}

/// Whose lane it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Cpu,
    Copies,
    Outside,
    Fences,
    Importer,
}

#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) whose: Whose,
    /// Tells lanes of a kind apart.
    key: String,
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
}

impl Lane {
    /// How many lines windows need.
    pub(super) fn levels(&self) -> usize {
        self.bars.iter().map(|bar| bar.level + 1).max().unwrap_or(1)
    }

    /// Whether anything of it is in a period. `last`: nothing comes after it.
    pub(super) fn has(&self, from: u64, to: u64, last: bool) -> bool {
        self.bars.iter().any(|bar| bar.is_in(from, to, last))
            || self.marks.iter().any(|mark| mark.is_in(from, to))
    }
}

/// One buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer {
    pub(super) ino: u64,
    pub(super) size: Option<u64>,
    pub(super) flags: String,
    pub(super) by: String,
    pub(super) released: bool,
    pub(super) lanes: Vec<Lane>,
    /// When something begins or ends, in order.
    pub(super) instants: Vec<u64>,
    /// Of those, the periods in which something is at work, which need room.
    pub(super) calls: Vec<(u64, u64)>,
    /// Sums, for the title.
    pub(super) maintained: u64,
    pub(super) saved: u64,
}

/// A window that has no END yet.
struct Open {
    lane: usize,
    bar: usize,
    tgid: i32,
    copy: bool,
    writes: bool,
    offset: u64,
    length: u64,
    stride: u64,
    rows: u64,
}

impl Open {
    fn end(&self) -> u64 {
        self.offset + self.rows.saturating_sub(1) * self.stride + self.length
    }
}

struct Sorter {
    buffer: Buffer,
    open: Vec<Open>,
    /// Who waits for fences: the thread, its bar, the line of it.
    waiting: Vec<(i32, usize, usize)>,
    passes: Passes,
}

/// The passes of maintenance over each attachment, in the order of time: when each ended, and the
/// latest time at which one of those so far began.
#[derive(Default)]
struct Passes(HashMap<u64, Vec<(u64, u64)>>);

impl Passes {
    fn new(events: &[&Event]) -> Self {
        let mut passes = Self::default();
        for pass in events
            .iter()
            .filter(|event| event.name == "cohbuf_maintain")
        {
            let of = passes.0.entry(pass.number("attachment")).or_default();
            of.push((pass.time, pass.began()));
        }
        for of in passes.0.values_mut() {
            of.sort_unstable();
            let mut latest = 0;
            for (_, began) in of {
                latest = latest.max(*began);
                *began = latest;
            }
        }
        passes
    }

    /// Whether one is inside of a period. The clock of events has microseconds.
    fn are_in(&self, attachment: u64, from: u64, to: u64) -> bool {
        let Some(of) = self.0.get(&attachment) else {
            return false;
        };
        let ended = of.partition_point(|(time, _)| *time <= to);
        let latest = ended.checked_sub(1).map(|last| of[last].1);
        latest.is_some_and(|began| began + 1_000 >= from)
    }
}

impl Buffer {
    /// `events`: those of this buffer.
    pub(super) fn new(ino: u64, events: &[&Event]) -> Self {
        let mut sorter = Sorter {
            buffer: Self {
                ino,
                ..Self::default()
            },
            open: Vec::new(),
            waiting: Vec::new(),
            passes: Passes::new(events),
        };
        // What comes first may need to know.
        if let Some(create) = events.iter().find(|event| event.name == "cohbuf_create") {
            sorter.buffer.size = Some(create.number("size"));
            sorter.buffer.flags = create.field("flags").unwrap_or_default().to_owned();
            sorter.buffer.by = format!("{} [{}]", create.comm, create.tgid);
        }
        for event in events {
            sorter.take(event);
        }
        let mut buffer = sorter.buffer;
        buffer.lanes.sort_by_key(|lane| lane.whose);
        buffer.instants.sort_unstable();
        buffer.instants.dedup();
        buffer
    }
}

impl Sorter {
    fn lane(&mut self, whose: Whose, key: &str, title: &str, subtitle: &str) -> usize {
        let lanes = &mut self.buffer.lanes;
        if let Some(at) = lanes.iter().position(|l| l.whose == whose && l.key == key) {
            if !subtitle.is_empty() {
                lanes[at].subtitle = subtitle.to_owned();
            }
            return at;
        }
        lanes.push(Lane {
            whose,
            key: key.to_owned(),
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            bars: Vec::new(),
            marks: Vec::new(),
        });
        lanes.len() - 1
    }

    fn importer(&mut self, event: &Event) -> usize {
        let number = event.number("attachment");
        let device = event.field("device").unwrap_or("?").to_owned();
        if number == 0 {
            return self.lane(Whose::Importer, &device, &device, "");
        }
        let title = match event.field("device") {
            Some(device) => device.to_owned(),
            None => format!("attachment {number}"),
        };
        self.lane(Whose::Importer, &format!("#{number}"), &title, "")
    }

    fn instant(&mut self, at: u64) {
        self.buffer.instants.push(at);
    }

    fn call(&mut self, event: &Event) {
        self.instant(event.began());
        self.instant(event.time);
        self.buffer.calls.push((event.began(), event.time));
    }

    fn bar(&mut self, lane: usize, bar: Bar) {
        self.buffer.lanes[lane].bars.push(bar);
    }

    fn ends(&mut self, lane: usize, kind: Kind, at: u64) {
        let bars = &mut self.buffer.lanes[lane].bars;
        if let Some(bar) = bars
            .iter_mut()
            .rfind(|bar| bar.kind == kind && bar.to.is_none())
        {
            bar.to = Some(at);
        }
    }

    /// What a map, an unmap or a sync of a device has moved, as far as no pass tells of it.
    fn moved(&mut self, lane: usize, event: &Event) {
        let (from, to) = (event.began(), event.time);
        let number = event.number("attachment");
        let told = self.passes.are_in(number, from, to);
        let what = words::cost(event);
        if told || what.is_empty() {
            return;
        }
        let of = |name| event.number(name);
        let kind = match (of("own_ops") > 0, of("invalidated") + of("from_copies") > 0) {
            (true, _) => Kind::OwnOps,
            (_, true) => Kind::ForCpu,
            _ => Kind::ForDevice,
        };
        for name in [
            "cleaned",
            "invalidated",
            "to_copies",
            "from_copies",
            "own_ops",
        ] {
            self.buffer.maintained += of(name);
        }
        self.bar(
            lane,
            Bar {
                from,
                to: Some(to),
                kind,
                level: 0,
                label: what.join(", "),
                tip: format!("{} by the DMA API\n{}", event.name, event.text),
            },
        );
    }

    fn refused(&mut self, lane: usize, event: &Event, what: &str) {
        let reason = event.field("reason").unwrap_or_default();
        if self.buffer.lanes[lane].subtitle.is_empty() {
            self.buffer.lanes[lane].subtitle = "refused".to_owned();
        }
        self.buffer.lanes[lane].marks.push(Mark {
            at: event.time,
            sign: Sign::Refused,
            head: format!("{what}: {}", words::errno(event.error())),
            rest: reason.to_owned(),
            tip: event.text.clone(),
        });
        self.instant(event.time);
    }

    fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "cohbuf_create" => self.instant(event.time),
            "cohbuf_release" => {
                self.instant(event.time);
                self.buffer.released = true;
            }
            "cohbuf_attach" => self.attach(event),
            "cohbuf_detach" => {
                let lane = self.importer(event);
                self.ends(lane, Kind::Attached, event.time);
                self.instant(event.time);
            }
            "cohbuf_map" => self.map(event),
            "cohbuf_unmap" => {
                let lane = self.importer(event);
                self.call(event);
                self.ends(lane, Kind::Owned, event.began());
                self.ends(lane, Kind::Mapped, event.time);
                self.moved(lane, event);
            }
            "cohbuf_sync_for_cpu" | "cohbuf_sync_for_device" => self.device_sync(event),
            "cohbuf_maintain" => self.maintain(event),
            "cohbuf_sync" => self.sync(event),
            "cohbuf_window_abandon" => self.abandon(event),
            "cohbuf_fence_wait_begin" => self.waits(event),
            "cohbuf_fence_wait_end" => self.waited(event),
            "cohbuf_outside" => {
                let lane = self.lane(
                    Whose::Outside,
                    "",
                    "enforcement",
                    "access outside of windows",
                );
                self.instant(event.time);
                self.buffer.lanes[lane].marks.push(Mark {
                    at: event.time,
                    sign: Sign::Outside,
                    head: format!(
                        "{} at {:#x}",
                        event.field("access").unwrap_or_default(),
                        event.number("offset")
                    ),
                    rest: match event.field("verdict") {
                        Some("poison") => format!("{}: SIGBUS, poisoned", event.comm),
                        _ => event.comm.clone(),
                    },
                    tip: format!("{} [{}]\n{}", event.comm, event.pid, event.text),
                });
            }
            "cohbuf_copy" => {
                let lane = self.lane(Whose::Copies, "", "copies", "COHBUF_IOCTL_COPY");
                self.call(event);
                let from_here = event.number("src") == self.buffer.ino;
                let (word, other) = match from_here {
                    true => ("to", event.number("dst")),
                    false => ("from", event.number("src")),
                };
                self.bar(
                    lane,
                    Bar {
                        from: event.began(),
                        to: Some(event.time),
                        kind: Kind::Copy,
                        level: 0,
                        label: format!("{} {word} {other}", words::bytes(event.number("bytes"))),
                        tip: event.text.clone(),
                    },
                );
            }
            _ => {}
        }
    }

    fn waits(&mut self, event: &Event) {
        let lane = self.lane(Whose::Fences, "", "fences", "who waits for them");
        self.instant(event.time);
        let taken: Vec<usize> = self.waiting.iter().map(|wait| wait.2).collect();
        let level = (0..).find(|level| !taken.contains(level)).unwrap_or(0);
        let fences = match event.field("fences") {
            Some("writers") => "for writers",
            _ => "for all",
        };
        self.bar(
            lane,
            Bar {
                from: event.time,
                to: None,
                kind: Kind::Wait,
                level,
                label: fences.to_owned(),
                tip: format!("{} [{}]\n{}", event.comm, event.pid, event.text),
            },
        );
        let bar = self.buffer.lanes[lane].bars.len() - 1;
        self.waiting.push((event.pid, bar, level));
    }

    fn waited(&mut self, event: &Event) {
        let lane = self.lane(Whose::Fences, "", "fences", "who waits for them");
        self.instant(event.time);
        if let Some(at) = self.waiting.iter().position(|wait| wait.0 == event.pid) {
            let (_, bar, _) = self.waiting.remove(at);
            let bar = &mut self.buffer.lanes[lane].bars[bar];
            bar.to = Some(event.time);
            bar.label = format!("{} {}", words::time(event.number("duration")), bar.label);
            bar.tip = format!("{} [{}]\n{}", event.comm, event.pid, event.text);
        }
        if event.error() != 0 {
            self.refused(lane, event, "wait");
        }
    }

    fn attach(&mut self, event: &Event) {
        let lane = self.importer(event);
        if event.error() != 0 {
            self.refused(lane, event, "attach");
            return;
        }
        self.instant(event.time);
        let flags = event.field("flags").unwrap_or_default();
        let snoops = match flags.contains("COHERENT") {
            true => "DMA-coherent",
            false => "not DMA-coherent",
        };
        let fences = match flags.contains("AUTOFENCE") {
            true => "",
            false => ", own fencing",
        };
        self.buffer.lanes[lane].subtitle =
            format!("#{} · {snoops}{fences}", event.number("attachment"));
        self.bar(
            lane,
            Bar {
                from: event.time,
                to: None,
                kind: Kind::Attached,
                level: 0,
                label: String::new(),
                tip: event.text.clone(),
            },
        );
    }

    fn map(&mut self, event: &Event) {
        let lane = self.importer(event);
        if event.error() != 0 {
            self.refused(lane, event, "map");
            return;
        }
        self.call(event);
        let direction = match event.field("direction") {
            Some("TO_DEVICE") => "TO_DEVICE",
            Some("FROM_DEVICE") => "FROM_DEVICE",
            _ => "BIDIRECTIONAL",
        };
        let reach = match event.field("reach") {
            Some("unknown") => "own DMA ops",
            Some("direct") => "past the caches",
            Some("iommu") => "past the caches, IOMMU",
            other => other.unwrap_or_default(),
        };
        self.bar(
            lane,
            Bar {
                from: event.began(),
                to: None,
                kind: Kind::Mapped,
                level: 0,
                label: format!("mapped {direction} · {reach}"),
                tip: event.text.clone(),
            },
        );
        self.owned(lane, event);
        self.moved(lane, event);
    }

    fn owned(&mut self, lane: usize, event: &Event) {
        self.bar(
            lane,
            Bar {
                from: event.time,
                to: None,
                kind: Kind::Owned,
                level: 0,
                label: String::new(),
                tip: "the device may access the buffer".to_owned(),
            },
        );
    }

    fn device_sync(&mut self, event: &Event) {
        let lane = self.importer(event);
        self.call(event);
        if event.error() != 0 {
            self.refused(lane, event, "sync");
            return;
        }
        match event.name.as_str() {
            "cohbuf_sync_for_cpu" => self.ends(lane, Kind::Owned, event.began()),
            _ => {
                self.ends(lane, Kind::Owned, event.began());
                self.owned(lane, event);
            }
        }
    }

    fn maintain(&mut self, event: &Event) {
        let lane = self.importer(event);
        let for_cpu = event.field("for") == Some("cpu");
        let (kind, word) = match (event.field("reach"), for_cpu) {
            (Some("unknown"), true) => (Kind::OwnOps, "own ops ▲"),
            (Some("unknown"), false) => (Kind::OwnOps, "own ops ▼"),
            (Some("bounced" | "partly-bounced"), true) => (Kind::ForCpu, "copy in"),
            (Some("bounced" | "partly-bounced"), false) => (Kind::ForDevice, "copy out"),
            (_, true) => (Kind::ForCpu, "invalidate"),
            (_, false) => (Kind::ForDevice, "clean"),
        };
        let bytes = match event.number("bounced") {
            0 => event.number("bytes"),
            bounced => bounced,
        };
        self.buffer.maintained += bytes;
        self.bar(
            lane,
            Bar {
                from: event.began(),
                to: Some(event.time),
                kind,
                level: 0,
                label: format!("{word} {}", words::bytes(bytes)),
                tip: format!(
                    "{word} {}, {}\n{}",
                    words::bytes(bytes),
                    words::time(event.number("duration")),
                    event.text
                ),
            },
        );
    }

    fn sync(&mut self, event: &Event) {
        let copy = event.field("by") == Some("copy");
        let lane = match copy {
            true => self.lane(Whose::Copies, "", "copies", "COHBUF_IOCTL_COPY"),
            false => {
                let title = format!("CPU: {}", event.comm);
                let subtitle = format!("process {}", event.tgid);
                self.lane(Whose::Cpu, &event.tgid.to_string(), &title, &subtitle)
            }
        };
        self.call(event);
        let starts = event.says("START");
        if event.error() != 0 {
            self.refused(lane, event, if starts { "START" } else { "END" });
            return;
        }
        let access = event.field("access").unwrap_or_default();
        let writes = access != "READ";
        self.buffer.saved += event.number("saved");
        let mut cost = words::cost(event);
        if event.number("saved") > 0 {
            cost.push(format!("saved {}", words::bytes(event.number("saved"))));
        }
        let half = if starts { "START" } else { "END" };
        self.bar(
            lane,
            Bar {
                from: event.began(),
                to: Some(event.time),
                kind: Kind::Call,
                level: 0,
                label: half.to_owned(),
                tip: format!("{half} {access}: {}\n{}", cost.join(", "), event.text),
            },
        );
        let [offset, length, stride, rows] =
            ["offset", "length", "stride", "rows"].map(|name| event.number(name));
        let asked = Open {
            lane,
            bar: 0,
            tgid: event.tgid,
            copy,
            writes,
            offset,
            length,
            stride,
            rows,
        };
        if starts {
            self.opens(event, access, asked);
        } else {
            self.closes(event, &asked);
        }
    }

    fn opens(&mut self, event: &Event, access: &str, asked: Open) {
        let lane = asked.lane;
        let taken: Vec<usize> = self
            .open
            .iter()
            .filter(|open| open.lane == lane)
            .map(|open| self.buffer.lanes[lane].bars[open.bar].level)
            .collect();
        let level = (0..).find(|level| !taken.contains(level)).unwrap_or(0);
        let size = self.buffer.size.unwrap_or(0);
        self.bar(
            lane,
            Bar {
                from: event.time,
                to: None,
                kind: if asked.writes {
                    Kind::Write
                } else {
                    Kind::Read
                },
                level,
                label: format!("{access} {}", words::region(event, size)),
                tip: format!("window: {access} {}", words::region(event, size)),
            },
        );
        let bar = self.buffer.lanes[lane].bars.len() - 1;
        self.open.push(Open { bar, ..asked });
    }

    /// As the driver has it: the window of that region, or else all that lie in it.
    fn closes(&mut self, event: &Event, asked: &Open) {
        let own = |open: &Open| {
            open.tgid == asked.tgid && open.copy == asked.copy && open.writes == asked.writes
        };
        let same = |open: &Open| {
            (open.offset, open.length, open.stride, open.rows)
                == (asked.offset, asked.length, asked.stride, asked.rows)
        };
        let one = self.open.iter().rposition(|open| own(open) && same(open));
        let inside = |open: &Open| {
            asked.rows <= 1 && asked.offset <= open.offset && open.end() <= asked.end()
        };
        let mut at = 0;
        let lanes = &mut self.buffer.lanes;
        self.open.retain(|open| {
            let ends = match one {
                Some(one) => at == one,
                None => own(open) && inside(open),
            };
            at += 1;
            if ends {
                lanes[open.lane].bars[open.bar].to = Some(event.began());
            }
            !ends
        });
    }

    fn abandon(&mut self, event: &Event) {
        let tgid = i32::try_from(event.number("tgid")).unwrap_or(0);
        self.instant(event.time);
        let (offset, length) = (event.number("offset"), event.number("length"));
        let found = self
            .open
            .iter()
            .position(|o| o.tgid == tgid && (o.offset, o.length) == (offset, length));
        if let Some(at) = found {
            let open = self.open.remove(at);
            let lane = &mut self.buffer.lanes[open.lane];
            lane.bars[open.bar].to = Some(event.time);
            lane.marks.push(Mark {
                at: event.time,
                sign: Sign::Abandoned,
                head: "process gone".to_owned(),
                rest: "its window is closed for it".to_owned(),
                tip: event.text.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn event(name: &str, time: u64, duration: u64, text: &str) -> Event {
        Event {
            time,
            comm: "t".to_owned(),
            pid: 1,
            tgid: 1,
            cpu: 0,
            name: name.to_owned(),
            text: format!("ino=7 {text} duration={duration}"),
        }
    }

    #[test]
    fn passes_inside_of_a_period() {
        let pass = |attachment, time, duration| {
            let text = format!("attachment={attachment}");
            event("cohbuf_maintain", time, duration, &text)
        };
        let all = [
            pass(1, 10_000, 2_000),
            pass(2, 20_000, 5_000),
            pass(1, 50_000, 40_000),
            pass(1, 90_000, 1_000),
        ];
        let passes = Passes::new(&all.iter().collect::<Vec<_>>());
        let mut found = 0;
        for attachment in 0..4 {
            for from in (0..100).map(|at| at * 1_000) {
                for to in (from..100_000).step_by(500) {
                    let is = passes.are_in(attachment, from, to);
                    let must = all.iter().any(|pass| {
                        pass.number("attachment") == attachment
                            && pass.time <= to
                            && pass.began() + 1_000 >= from
                    });
                    assert_eq!(is, must, "{attachment}: {from} to {to}");
                    found += usize::from(is);
                }
            }
        }
        assert!(found > 100);
    }

    /// Each looked at all others: minutes.
    #[test]
    fn many_mappings_take_no_longer_each() {
        let mut events = Vec::new();
        for number in 0..40_000 {
            let time = 1_000_000 + number * 10_000;
            let cost = "attachment=1 device=d reach=bounced direction=TO_DEVICE to_copies=4096";
            events.push(event("cohbuf_map", time, 1_000, cost));
            events.push(event(
                "cohbuf_unmap",
                time + 5_000,
                1_000,
                "attachment=1 device=d",
            ));
        }
        let began = Instant::now();
        let buffer = Buffer::new(7, &events.iter().collect::<Vec<_>>());
        let took = began.elapsed();
        assert_eq!(buffer.maintained, 40_000 * 4096);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
