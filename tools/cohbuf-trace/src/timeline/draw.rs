// SPDX-License-Identifier: GPL-2.0

//! Puts the lanes on paper.

use svg::Document;
use svg::node::element::{
    Definitions, Group, Line, Path, Pattern, Rectangle, Text as TextElement, Title,
};

use super::Recording;
use super::axis::{self, Row};
use super::lanes::{Bar, Buffer, Kind, Lane, Mark, Sign, Whose};
use super::words;
use crate::Event;

const WIDTH: f64 = 1400.0;
const LEFT: f64 = 212.0;
const RIGHT: f64 = 1376.0;
const MARGIN: f64 = 24.0;

/// As many lines of a buffer as are drawn; the rest is in the JSON.
const MOST_ROWS: usize = 40;

/// The width of a letter, as a part of its height, on average and a little more.
const LETTER: f64 = 0.61;

// Colours that those who see less of them tell apart (Okabe and Ito), and each with a shape or a
// word of its own.
const INK: &str = "#222222";
const GREY: &str = "#767676";
const PALE: &str = "#e4e4e4";
const READ: &str = "#56b4e9";
const WRITE: &str = "#e69f00";
const MAPPED: &str = "#009e73";
const FOR_CPU: &str = "#cc79a7";
const FOR_DEVICE: &str = "#0072b2";
const RED: &str = "#c03a00";

fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// As much of a text as fits, or nothing where that says nothing.
fn fit(text: &str, size: f64, room: f64) -> Option<String> {
    if width_of(text, size) <= room {
        return Some(text.to_owned());
    }
    let letters = (room / (size * LETTER)) as usize;
    if letters < 6 {
        return None;
    }
    let cut: String = text.chars().take(letters - 1).collect();
    Some(format!("{}…", cut.trim_end()))
}

fn text(x: f64, y: f64, size: f64, color: &str, content: impl Into<String>) -> TextElement {
    TextElement::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("font-size", size)
        .set("fill", color)
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("x", round(x))
        .set("y", round(y))
        .set("width", round(width.max(1.5)))
        .set("height", height)
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A shape that tells more of itself where the mouse is.
fn with_tip(tip: &str) -> Group {
    Group::new().add(Title::new(tip))
}

/// Where text of a lane already is.
#[derive(Default)]
struct Taken(Vec<(f64, f64)>);

impl Taken {
    fn take(&mut self, from: f64, to: f64) -> bool {
        let free = self.0.iter().all(|(a, b)| to + 7.0 < *a || *b + 7.0 < from);
        if free {
            self.0.push((from, to));
        }
        free
    }
}

fn height_of(lane: &Lane) -> f64 {
    match lane.whose {
        Whose::Cpu => 22.0 + 18.0 * lane.levels() as f64,
        Whose::Copies => 27.0 + 18.0 * lane.levels() as f64,
        Whose::Importer => 52.0,
        Whose::Fences => 10.0 + 18.0 * lane.levels() as f64,
        Whose::Outside => 32.0,
    }
}

pub(super) fn document(recording: &Recording) -> Document {
    let mut page = Group::new();
    let mut y = 40.0;
    page = page.add(
        text(
            MARGIN,
            y,
            20.0,
            INK,
            "cohbuf: who may access the buffer, and what that costs",
        )
        .set("font-weight", "bold"),
    );
    y += 20.0;
    let mut about = format!("Linux {} · {}", recording.kernel, recording.machine);
    if let Some(command) = &recording.command {
        about += &format!(" · {command}");
    }
    if recording.lost > 0 {
        about += &format!(
            " · {} events were lost: record with more room",
            recording.lost
        );
    }
    page = page.add(text(MARGIN, y, 12.0, GREY, about));
    y += 14.0;

    let inodes = recording.buffers();
    for ino in &inodes {
        let is_of = |event: &&Event| {
            ["ino", "src", "dst"]
                .iter()
                .any(|of| event.number(of) == *ino)
        };
        let events: Vec<&Event> = recording.events.iter().filter(is_of).collect();
        let (group, next) = buffer(&Buffer::new(*ino, &events), y);
        page = page.add(group);
        y = next;
    }
    if inodes.is_empty() {
        y += 30.0;
        page = page.add(text(
            MARGIN,
            y,
            13.0,
            INK,
            "No event of cohbuf was recorded.",
        ));
    }
    let (group, end) = legend(y + 18.0);
    page = page.add(group);

    Document::new()
        .set("viewBox", (0, 0, WIDTH as i64, end as i64))
        .set("width", WIDTH)
        .set("height", end)
        .set(
            "font-family",
            "Helvetica, Arial, 'Liberation Sans', sans-serif",
        )
        .add(hatch())
        .add(rectangle(0.0, 0.0, WIDTH, end).set("fill", "#ffffff"))
        .add(page)
}

fn hatch() -> Definitions {
    let line = Path::new()
        .set("d", "M0 6 L6 0")
        .set("stroke", GREY)
        .set("stroke-width", 1.2);
    let pattern = Pattern::new()
        .set("id", "hatch")
        .set("width", 6)
        .set("height", 6)
        .set("patternUnits", "userSpaceOnUse")
        .add(line);
    Definitions::new().add(pattern)
}

/// One buffer from `y` on. Returns where it ends.
fn buffer(buffer: &Buffer, mut y: f64) -> (Group, f64) {
    let mut group = Group::new();
    y += 26.0;
    let size = buffer
        .size
        .map_or_else(|| "size not known".to_owned(), words::bytes);
    let flags = match buffer.flags.as_str() {
        "" => "bracketed".to_owned(),
        flags => flags.replace('|', " "),
    };
    let mut facts = vec![size, flags];
    if !buffer.by.is_empty() {
        facts.push(format!("made by {}", buffer.by));
    }
    facts.push(format!("maintained {}", words::bytes(buffer.maintained)));
    if buffer.saved > 0 {
        facts.push(format!("saved {}", words::bytes(buffer.saved)));
    }
    if !buffer.released {
        facts.push("lives on".to_owned());
    }
    let title = format!("buffer of inode {}", buffer.ino);
    group = group
        .add(
            Line::new()
                .set("x1", MARGIN)
                .set("x2", RIGHT)
                .set("y1", y - 17.0)
                .set("y2", y - 17.0)
                .set("stroke", INK)
                .set("stroke-width", 1.5),
        )
        .add(text(MARGIN, y, 15.0, INK, &title).set("font-weight", "bold"))
        .add(text(
            MARGIN + width_of(&title, 15.0) + 14.0,
            y,
            12.0,
            INK,
            facts.join(" · "),
        ));
    y += 8.0;

    let mut wants = Vec::new();
    for mark in buffer.lanes.iter().flat_map(|lane| &lane.marks) {
        let head = width_of(&mark.head, 10.5);
        let rest = width_of(&mark.rest, 10.0);
        // A long reason goes over what is above it, where there is nothing else.
        wants.push((mark.at, head.max(rest).min(130.0) + 12.0));
    }
    for bar in buffer.lanes.iter().flat_map(|lane| &lane.bars) {
        // A window is to say what it is of.
        if matches!(bar.kind, Kind::Read | Kind::Write) {
            wants.push((bar.from, width_of(&bar.label, 11.0).min(150.0) + 10.0));
        }
        if bar.kind == Kind::Wait {
            wants.push((bar.from, width_of(&bar.label, 10.5).min(220.0) + 10.0));
        }
    }
    let rows = axis::rows(&buffer.instants, &buffer.calls, &wants, LEFT, RIGHT - 6.0);
    let zero = buffer.instants.first().copied().unwrap_or(0);
    for (number, row) in rows.iter().enumerate().take(MOST_ROWS) {
        let last = number + 1 == rows.len();
        let (drawn, next) = line_of_lanes(buffer, row, last, zero, y);
        group = group.add(drawn);
        y = next;
    }
    if rows.len() > MOST_ROWS {
        y += 16.0;
        let text_of = format!(
            "{} more lines are not drawn: the JSON has all events",
            rows.len() - MOST_ROWS
        );
        group = group.add(text(MARGIN, y, 12.0, RED, text_of));
    }
    (group, y)
}

/// All lanes for the time of one line.
fn line_of_lanes(buffer: &Buffer, row: &Row, last: bool, zero: u64, mut y: f64) -> (Group, f64) {
    let lanes: Vec<&Lane> = buffer
        .lanes
        .iter()
        .filter(|lane| lane.has(row.from(), row.to(), last))
        .collect();
    let total: f64 = lanes.iter().map(|lane| height_of(lane)).sum();
    let mut group = Group::new();
    y += 16.0;
    // The ruler.
    let mut taken = Taken::default();
    let end = row.points().len() - 1;
    let mut ruler = |group: Group, number: usize| {
        let (at, x) = row.points()[number];
        let label = clock(at - zero);
        let half = width_of(&label, 9.5) / 2.0;
        let middle = x.clamp(LEFT + half, RIGHT - half);
        if taken.take(middle - half, middle + half) {
            group.add(text(middle, y, 9.5, GREY, label).set("text-anchor", "middle"))
        } else {
            group
        }
    };
    group = ruler(group, 0);
    group = ruler(group, end);
    for number in 1..end {
        group = ruler(group, number);
    }
    y += 5.0;
    for (_, x) in row.points() {
        group = group.add(
            Line::new()
                .set("x1", round(*x))
                .set("x2", round(*x))
                .set("y1", y)
                .set("y2", y + total)
                .set("stroke", PALE)
                .set("stroke-width", 0.7),
        );
    }
    for lane in lanes {
        let height = height_of(lane);
        group = group
            .add(
                Line::new()
                    .set("x1", MARGIN)
                    .set("x2", RIGHT)
                    .set("y1", y)
                    .set("y2", y)
                    .set("stroke", PALE),
            )
            .add(names(lane, y, height))
            .add(draw_lane(lane, row, last, y));
        y += height;
    }
    group = group.add(
        Line::new()
            .set("x1", MARGIN)
            .set("x2", RIGHT)
            .set("y1", y)
            .set("y2", y)
            .set("stroke", PALE),
    );
    (group, y + 4.0)
}

/// Time since the beginning, to a microsecond.
fn clock(nanos: u64) -> String {
    let micros = nanos / 1000;
    match micros {
        0 => "0".to_owned(),
        m if m < 1_000 => format!("{m} µs"),
        m if m < 1_000_000 => format!("{}.{:03} ms", m / 1_000, m % 1_000),
        m => format!("{}.{:06} s", m / 1_000_000, m % 1_000_000),
    }
}

fn names(lane: &Lane, y: f64, height: f64) -> Group {
    let room = LEFT - MARGIN - 10.0;
    let middle = y + height / 2.0;
    let title = fit(&lane.title, 12.0, room).unwrap_or_default();
    let mut group = with_tip(&format!("{}\n{}", lane.title, lane.subtitle));
    let (first, second) = match lane.subtitle.is_empty() {
        true => (middle + 4.0, None),
        false => (middle - 2.0, fit(&lane.subtitle, 10.0, room)),
    };
    group = group.add(text(MARGIN, first, 12.0, INK, title).set("font-weight", "bold"));
    if let Some(second) = second {
        group = group.add(text(MARGIN, middle + 12.0, 10.0, GREY, second));
    }
    group
}

fn draw_lane(lane: &Lane, row: &Row, last: bool, y: f64) -> Group {
    let mut group = Group::new();
    let mut taken = Taken::default();
    let here = |bar: &&Bar| bar.is_in(row.from(), row.to(), last);
    // What lies below comes first.
    let order = |kind: Kind| match kind {
        Kind::Attached => 0,
        Kind::Mapped | Kind::Read | Kind::Write => 1,
        Kind::Owned | Kind::Copy | Kind::Wait => 2,
        Kind::Call => 3,
        Kind::ForCpu | Kind::ForDevice | Kind::OwnOps => 4,
    };
    let mut bars: Vec<&Bar> = lane.bars.iter().filter(here).collect();
    bars.sort_by_key(|bar| order(bar.kind));
    for mark in lane
        .marks
        .iter()
        .filter(|m| row.from() <= m.at && m.at <= row.to())
    {
        group = group.add(draw_mark(lane, mark, row, y, &mut taken));
    }
    let levels = lane.levels();
    let mut shapes = Group::new();
    for bar in bars {
        shapes = shapes.add(draw_bar(levels, bar, row, y, &mut taken));
    }
    Group::new().add(shapes).add(group)
}

fn draw_bar(levels: usize, bar: &Bar, row: &Row, y: f64, taken: &mut Taken) -> Group {
    let left = row.x(bar.from);
    let right = match bar.to {
        Some(to) => row.x(to),
        None => RIGHT,
    };
    let width = right - left;
    // What is cut off in the picture is whole in the tip.
    let group = with_tip(format!("{}\n{}", bar.label, bar.tip).trim_start());
    match bar.kind {
        Kind::Read | Kind::Write => {
            let color = if bar.kind == Kind::Read { READ } else { WRITE };
            let top = y + 17.0 + 18.0 * bar.level as f64;
            let shape = rectangle(left, top, width, 16.0)
                .set("fill", color)
                .set("rx", 2);
            let group = group.add(shape);
            match fit(&bar.label, 11.0, width - 8.0) {
                Some(label) => group.add(text(left + 5.0, top + 12.0, 11.0, INK, label)),
                None => group,
            }
        }
        Kind::Call => {
            // Over all lines of the lane: it is one call, whatever is open.
            let height = 18.0 * levels as f64 - 2.0;
            let group = group.add(
                rectangle(left, y + 17.0, width, height)
                    .set("fill", "#4d4d4d")
                    .set("rx", 1),
            );
            caption(group, bar, left, right, y + 13.0, INK, taken)
        }
        Kind::Attached => {
            let middle = y + 36.0;
            let line = Line::new()
                .set("x1", round(left))
                .set("x2", round(right))
                .set("y1", middle)
                .set("y2", middle)
                .set("stroke", GREY)
                .set("stroke-width", 1.5);
            let mut group = group.add(line);
            let ends = [Some(bar.from), bar.to];
            for at in ends.into_iter().flatten() {
                if row.from() <= at && at <= row.to() {
                    let x = round(row.x(at));
                    group = group.add(
                        Line::new()
                            .set("x1", x)
                            .set("x2", x)
                            .set("y1", middle - 6.0)
                            .set("y2", middle + 6.0)
                            .set("stroke", GREY)
                            .set("stroke-width", 2),
                    );
                }
            }
            group
        }
        Kind::Mapped => {
            let shape = rectangle(left, y + 28.0, width, 17.0)
                .set("fill", "#c9ebdf")
                .set("stroke", MAPPED)
                .set("stroke-width", 1)
                .set("rx", 2);
            let group = group.add(shape);
            match fit(&bar.label, 10.5, width - 8.0) {
                Some(label) => group.add(text(left + 5.0, y + 38.5, 10.5, INK, label)),
                None => group,
            }
        }
        Kind::Owned => group.add(rectangle(left, y + 41.5, width, 3.5).set("fill", MAPPED)),
        Kind::ForCpu | Kind::ForDevice | Kind::OwnOps => {
            let color = match bar.kind {
                Kind::ForCpu => FOR_CPU,
                Kind::ForDevice => FOR_DEVICE,
                _ => INK,
            };
            // It may be a moment of a long line, and has to be seen.
            let wide = width.max(5.0);
            let left = left.min(RIGHT - wide);
            let group = group.add(rectangle(left, y + 17.0, wide, 9.0).set("fill", color));
            caption(group, bar, left, left + wide, y + 13.0, color, taken)
        }
        Kind::Wait => {
            let top = y + 6.0 + 18.0 * bar.level as f64;
            let group = group.add(
                rectangle(left, top, width, 16.0)
                    .set("fill", "url(#hatch)")
                    .set("stroke", GREY)
                    .set("rx", 2),
            );
            match fit(&bar.label, 10.5, width - 12.0) {
                Some(label) => {
                    let back = width_of(&label, 10.5) + 6.0;
                    group
                        .add(rectangle(left + 3.0, top + 2.0, back, 12.0).set("fill", "#ffffff"))
                        .add(text(left + 6.0, top + 11.5, 10.5, INK, label))
                }
                None => group,
            }
        }
        Kind::Copy => {
            let top = y + 18.0 + 18.0 * levels as f64;
            let group = group.add(rectangle(left, top, width, 3.0).set("fill", INK));
            caption(group, bar, left, right, y + 13.0, INK, taken)
        }
    }
}

/// A label above a block, where there is room for it.
fn caption(
    group: Group,
    bar: &Bar,
    left: f64,
    right: f64,
    y: f64,
    color: &str,
    taken: &mut Taken,
) -> Group {
    let half = width_of(&bar.label, 10.0) / 2.0;
    let middle = ((left + right) / 2.0).clamp(LEFT + half - 6.0, RIGHT - half);
    if !taken.take(middle - half, middle + half) {
        return group;
    }
    group.add(text(middle, y, 10.0, color, &bar.label).set("text-anchor", "middle"))
}

fn draw_mark(lane: &Lane, mark: &Mark, row: &Row, y: f64, taken: &mut Taken) -> Group {
    let x = row.x(mark.at);
    let middle = match lane.whose {
        Whose::Importer => y + 36.0,
        Whose::Outside => y + 16.0,
        Whose::Fences => y + 14.0,
        Whose::Cpu | Whose::Copies => y + 25.0,
    };
    let shape = match mark.sign {
        Sign::Refused => Path::new()
            .set(
                "d",
                format!(
                    "M{0} {1} l10 10 m0 -10 l-10 10",
                    round(x - 5.0),
                    middle - 5.0
                ),
            )
            .set("stroke", RED)
            .set("stroke-width", 3)
            .set("fill", "none"),
        Sign::Outside => Path::new()
            .set("d", format!("M{} {} l7 12 h-14 z", round(x), middle - 7.0))
            .set("fill", RED),
        Sign::Abandoned => Path::new()
            .set(
                "d",
                format!("M{} {} l6 6 l-6 6 l-6 -6 z", round(x), middle - 6.0),
            )
            .set("fill", INK),
    };
    let color = if mark.sign == Sign::Abandoned {
        INK
    } else {
        RED
    };
    let mut group = with_tip(&mark.tip).add(shape);
    let width = width_of(&mark.head, 10.5).max(width_of(&mark.rest, 10.0));
    // To the right, or to the left where the page ends.
    let (anchor, at, from) = match x + 10.0 + width <= RIGHT {
        true => ("start", x + 10.0, x + 10.0),
        false => ("end", x - 10.0, x - 10.0 - width),
    };
    if lane.whose != Whose::Importer && !taken.take(from, from + width) {
        return group;
    }
    let (first, second) = match mark.rest.is_empty() {
        true => (middle + 4.0, middle),
        false => (middle - 1.5, middle + 10.0),
    };
    // Not over the line of an attachment.
    group = group.add(rectangle(from, first - 10.0, width, 23.0).set("fill", "#ffffff"));
    group = group.add(
        text(at, first, 10.5, color, &mark.head)
            .set("text-anchor", anchor)
            .set("font-weight", "bold"),
    );
    if !mark.rest.is_empty() {
        group = group.add(text(at, second, 10.0, color, &mark.rest).set("text-anchor", anchor));
    }
    group
}

/// What the shapes mean. Returns where it ends.
fn legend(mut y: f64) -> (Group, f64) {
    const STEP: f64 = 226.0;
    let mut group = Group::new();
    y += 14.0;
    group = group.add(
        Line::new()
            .set("x1", MARGIN)
            .set("x2", RIGHT)
            .set("y1", y - 18.0)
            .set("y2", y - 18.0)
            .set("stroke", INK)
            .set("stroke-width", 1.5),
    );
    let block = |fill: &str| {
        rectangle(0.0, -10.0, 22.0, 12.0)
            .set("fill", fill.to_owned())
            .set("rx", 2)
    };
    let swatch = |shape: Group, label: &str| shape.add(text(28.0, 0.0, 11.0, INK, label));
    let mapped = Group::new()
        .add(block("#c9ebdf").set("stroke", MAPPED))
        .add(rectangle(0.0, -1.5, 22.0, 3.5).set("fill", MAPPED));
    let cross = Path::new()
        .set("d", "M6 -10 l10 10 m0 -10 l-10 10")
        .set("stroke", RED)
        .set("stroke-width", 3);
    let outside = Path::new()
        .set("d", "M11 -10 l7 12 h-14 z")
        .set("fill", RED);
    let attached = Path::new()
        .set("d", "M1 -10 v12 M1 -4 h20 M21 -10 v12")
        .set("stroke", GREY)
        .set("stroke-width", 2);
    let items = [
        swatch(Group::new().add(block(WRITE)), "CPU may write (and read)"),
        swatch(Group::new().add(block(READ)), "CPU may read"),
        swatch(Group::new().add(block("#4d4d4d")), "START or END at work"),
        swatch(
            Group::new().add(block("url(#hatch)").set("stroke", GREY)),
            "a fence is waited for",
        ),
        swatch(Group::new().add(cross), "refused, or failed"),
        swatch(Group::new().add(outside), "access outside of a window"),
        swatch(Group::new().add(attached), "attached"),
        swatch(mapped, "mapped; bold: device may access"),
        swatch(
            Group::new().add(block(FOR_CPU)),
            "for the CPU: invalidate, copy in",
        ),
        swatch(
            Group::new().add(block(FOR_DEVICE)),
            "for the device: clean, copy out",
        ),
        swatch(Group::new().add(block(INK)), "by the device's own DMA ops"),
    ];
    for (number, item) in items.into_iter().enumerate() {
        let (column, line) = (number % 6, number / 6);
        let at = format!(
            "translate({} {})",
            MARGIN + STEP * column as f64,
            y + 18.0 * line as f64
        );
        group = group.add(item.set("transform", at));
    }
    y += 40.0;
    group = group.add(text(
        MARGIN,
        y,
        10.5,
        GREY,
        "Times are since the first event of the buffer. Not to scale: a step is as wide as the \
         logarithm of its time. Lines go on below each other. The tooltip of a shape has all of it.",
    ));
    (group, y + 16.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, name: &str, text: &str) -> Event {
        Event {
            time: time * 1000,
            comm: "player".to_owned(),
            pid: 7,
            tgid: 7,
            cpu: 0,
            name: format!("cohbuf_{name}"),
            text: text.to_owned(),
        }
    }

    /// A dozen importers, and hundreds of windows.
    fn busy(rounds: u64) -> Recording {
        let mut events = vec![event(5, "create", "ino=9 size=4096 segments=1 flags=")];
        for number in 1..=12 {
            events.push(event(
                5 + number,
                "attach",
                &format!(
                    "ino=9 attachment={number} device=0000:0{number}:00.0-with-a-long-name \
                     driver=x flags=AUTOFENCE error=0 reason="
                ),
            ));
            events.push(event(
                20 + 4 * number,
                "map",
                &format!(
                    "ino=9 attachment={number} device=d direction=BIDIRECTIONAL reach=direct \
                     segments=1 error=0 cleaned=4096 invalidated=0 to_copies=0 from_copies=0 \
                     own_ops=0 duration=2000 reason="
                ),
            ));
        }
        let region = "offset=0 length=4096 stride=4096 rows=1 error=0";
        for round in 0..rounds {
            let at = 100 + 1000 * round;
            for (more, half, kind) in [(0, "START", "invalidated"), (400, "END", "cleaned")] {
                events.push(event(
                    at + more,
                    "sync",
                    &format!(
                        "ino=9 {half} access=RW by=task {region} {kind}=4096 saved=0 windows=1 \
                         duration=3000"
                    ),
                ));
            }
        }
        Recording {
            kernel: "7.3 <test>".to_owned(),
            events,
            ..Recording::default()
        }
    }

    /// x, y, font size, anchor and content of each text of a picture.
    fn texts(svg: &str) -> Vec<(f64, f64, f64, bool, String)> {
        let of = |tag: &str, name: &str| {
            let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let number = |tag: &str, name: &str| of(tag, name).and_then(|n| n.parse().ok());
        svg.split("<text")
            .skip(1)
            .map(|rest| {
                let (tag, rest) = rest.split_once('>').unwrap();
                let content = rest.split("</text>").next().unwrap().trim().to_owned();
                (
                    number(tag, "x").unwrap(),
                    number(tag, "y").unwrap(),
                    number(tag, "font-size").unwrap(),
                    of(tag, "text-anchor").as_deref() == Some("middle"),
                    content,
                )
            })
            .collect()
    }

    #[test]
    fn no_text_goes_over_another() {
        let svg = busy(30).to_svg();
        let texts: Vec<_> = texts(&svg)
            .into_iter()
            // Those of the legend are placed by their groups.
            .filter(|text| (text.0, text.1) != (28.0, 0.0))
            .map(|(x, y, size, middle, content)| {
                let width = width_of(&content, size);
                let left = if middle { x - width / 2.0 } else { x };
                (left, left + width, y - size * 0.75, y + size * 0.2, content)
            })
            .collect();
        assert!(texts.len() > 200, "{}", texts.len());
        for (number, one) in texts.iter().enumerate() {
            assert!(one.0 >= 0.0 && one.1 <= WIDTH, "{one:?}");
            for other in &texts[number + 1..] {
                let apart =
                    one.1 <= other.0 || other.1 <= one.0 || one.3 <= other.2 || other.3 <= one.2;
                assert!(apart, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn many_events_are_cut_with_a_word() {
        assert!(!busy(30).to_svg().contains("are not drawn"));
        let svg = busy(2000).to_svg();
        assert!(svg.contains("more lines are not drawn"));
        assert!(svg.len() < 4 << 20, "{}", svg.len());
    }

    #[test]
    fn picture_needs_nothing_else() {
        let svg = busy(3).to_svg();
        assert_eq!(svg.matches("http").count(), 1, "the name space alone");
        assert!(!svg.contains("href") && svg.contains("7.3 &lt;test&gt;"));
        assert!(busy(3).to_html().contains("<svg"));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let svg = Recording::default().to_svg();
        assert!(svg.contains("No event of cohbuf was recorded."));
    }

    #[test]
    fn window_that_never_ends_goes_to_the_edge() {
        let mut recording = busy(1);
        recording.events.pop();
        let svg = recording.to_svg();
        assert!(svg.contains("lives on") && svg.contains("RW whole buffer"));
    }
}
