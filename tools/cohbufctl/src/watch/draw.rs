// SPDX-License-Identifier: GPL-2.0

//! What `watch` looks like.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, Wrap};

use crate::cli::Sort;
use crate::size;
use crate::system::DmaBuf;
use crate::watch::app::App;

/// Lines of what is told of one buffer, with its frame.
const DETAIL: u16 = 9;

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    // What is beside the table goes first where there is no room.
    let detail = if area.height >= 20 { DETAIL } else { 0 };
    let [head, table, below, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, app, head);
    draw_table(frame, app, table);
    if detail > 0 {
        draw_detail(frame, app, below);
    }
    draw_foot(frame, app, foot);
}

/// Colours, where they are wanted.
fn color(app: &App, color: Color) -> Style {
    if app.look.color {
        Style::new().fg(color)
    } else {
        Style::new()
    }
}

fn draw_head(frame: &mut Frame<'_>, app: &App, area: Rect) {
    // What is missing takes all of the line.
    let graph = if app.missing.is_empty() && app.waiting.is_none() {
        30
    } else {
        0
    };
    let [words, graph] =
        Layout::horizontal([Constraint::Min(40), Constraint::Length(graph)]).areas(area);
    let sizes = app.buffers.iter().map(|buffer| buffer.size);
    let total = sizes.fold(0, u64::saturating_add);
    let now = app.history.back().copied().unwrap_or_default();
    let mut first = vec![
        Span::from("cohbufctl watch").bold(),
        Span::from(format!(
            "  {} dma-buf(s), {}",
            app.buffers.len(),
            size::format(total, app.look.exact)
        )),
    ];
    if app.paused {
        first.push(Span::styled("  paused", color(app, Color::Yellow).bold()));
    }
    let missing = app.missing.first().filter(|_| app.waiting.is_none());
    let second = match missing {
        _ if app.waiting.is_some() => Line::styled(
            format!(
                "no answer for {} s",
                app.waiting.unwrap_or_default().as_secs()
            ),
            color(app, Color::Yellow),
        ),
        Some(missing) => Line::styled(format!("not shown: {missing}"), color(app, Color::Yellow)),
        None => Line::from(format!(
            "maintained {}/s",
            size::format(now, app.look.exact)
        )),
    };
    frame.render_widget(Paragraph::new(vec![Line::from(first), second]), words);
    let shown = app.history.len().saturating_sub(graph.width.into());
    let history: Vec<u64> = app.history.iter().skip(shown).copied().collect();
    let line = Sparkline::default()
        .data(&history)
        .style(color(app, Color::Cyan));
    frame.render_widget(line, graph);
}

/// A heading, marked where buffers are sorted by it.
fn heading(app: &App, name: &str, sort: Option<Sort>, right: bool) -> Cell<'static> {
    let arrow = if app.backwards { "▲" } else { "▼" };
    let text = if sort == Some(app.sort) {
        format!("{name}{arrow}")
    } else {
        name.to_owned()
    };
    let alignment = if right {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Cell::from(Line::from(text).alignment(alignment))
}

/// A column, and how wide the screen must be for it.
struct Column {
    name: &'static str,
    sort: Option<Sort>,
    right: bool,
    width: Constraint,
    least: u16,
    cell: fn(&App, &DmaBuf) -> Cell<'static>,
}

impl Column {
    const fn new(
        name: &'static str,
        width: u16,
        least: u16,
        cell: fn(&App, &DmaBuf) -> Cell<'static>,
    ) -> Self {
        Self {
            name,
            sort: None,
            right: false,
            width: Constraint::Length(width),
            least,
            cell,
        }
    }

    const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    const fn sort(mut self, sort: Sort) -> Self {
        self.sort = Some(sort);
        self
    }

    const fn rest(mut self) -> Self {
        self.width = Constraint::Fill(1);
        self
    }
}

const COLUMNS: [Column; 11] = [
    Column::new("NAME", 20, 0, name).sort(Sort::Name),
    Column::new("EXPORTER", 10, 60, |_, buffer| {
        Cell::from(buffer.exporter.clone())
    })
    .sort(Sort::Exporter),
    Column::new("SIZE", 9, 0, |app, buffer| {
        right(size::format(buffer.size, app.look.exact))
    })
    .sort(Sort::Size)
    .right(),
    Column::new("KIND", 18, 80, kind),
    Column::new("IMP", 4, 40, importers)
        .sort(Sort::Importers)
        .right(),
    Column::new("WIN", 3, 40, windows).right(),
    Column::new("SYNC/s", 9, 50, |app, buffer| {
        bytes(app, buffer, app.rate(buffer).sum())
    })
    .sort(Sort::Rate)
    .right(),
    Column::new("CLEAN/s", 9, 130, |app, buffer| {
        bytes(app, buffer, app.rate(buffer).cleaned)
    })
    .right(),
    Column::new("INVAL/s", 9, 130, |app, buffer| {
        bytes(app, buffer, app.rate(buffer).invalidated)
    })
    .right(),
    Column::new("COPY/s", 9, 130, |app, buffer| {
        bytes(app, buffer, app.rate(buffer).copied)
    })
    .right(),
    Column::new("HELD BY", 0, 90, |_, buffer| Cell::from(buffer.held_by())).rest(),
];

fn draw_table(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let shown = || COLUMNS.iter().filter(|column| column.least <= area.width);
    let header = shown().map(|column| heading(app, column.name, column.sort, column.right));
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let rows: Vec<Row<'static>> = app
        .buffers
        .iter()
        .map(|buffer| Row::new(shown().map(|column| (column.cell)(app, buffer))))
        .collect();
    let table = Table::new(rows, shown().map(|column| column.width))
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut app.table);
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

fn name(_app: &App, buffer: &DmaBuf) -> Cell<'static> {
    Cell::from(match &buffer.name {
        Some(_) => buffer.shown_name().into_owned(),
        None => format!("#{}", buffer.inode),
    })
}

fn kind(app: &App, buffer: &DmaBuf) -> Cell<'static> {
    let kind = buffer.kind();
    let style = match kind.as_str() {
        "poisoned" => color(app, Color::Red),
        _ => Style::new(),
    };
    Cell::from(kind).style(style)
}

fn importers(_app: &App, buffer: &DmaBuf) -> Cell<'static> {
    let importers = buffer.importers();
    right(importers.map_or("?".to_owned(), |count| count.to_string()))
}

fn windows(app: &App, buffer: &DmaBuf) -> Cell<'static> {
    match buffer.cohbuf.as_ref().map(|known| known.write_windows) {
        None => right("-".to_owned()),
        Some(0) => right("0".to_owned()),
        Some(open) => right(open.to_string()).style(color(app, Color::Yellow)),
    }
}

fn bytes(app: &App, buffer: &DmaBuf, bytes: u64) -> Cell<'static> {
    match (&buffer.cohbuf, bytes) {
        (None, _) => right("-".to_owned()),
        (Some(_), 0) => right("0".to_owned()),
        (Some(_), bytes) => {
            right(size::format(bytes, app.look.exact)).style(color(app, Color::Cyan))
        }
    }
}

fn draw_detail(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let Some(buffer) = app.selection() else {
        let missing = app.missing.iter();
        let lines = missing.map(|missing| Line::from(format!("not shown: {missing}")));
        let title = match app.has_looked() {
            true => " no dma-buf is there ",
            false => " looking ",
        };
        let paragraph = Paragraph::new(lines.collect::<Vec<_>>())
            .block(Block::bordered().title(title))
            .wrap(Wrap { trim: false });
        frame.render_widget(paragraph, area);
        return;
    };
    let title = format!(" {} #{} ", buffer.shown_name(), buffer.inode);
    let block = Block::bordered().title(title);
    let paragraph = Paragraph::new(detail(app, buffer))
        .block(block)
        .wrap(Wrap { trim: false });
    frame.render_widget(paragraph, area);
}

fn detail(app: &App, buffer: &DmaBuf) -> Vec<Line<'static>> {
    let size = |bytes| size::format(bytes, app.look.exact);
    let mut lines = vec![Line::from(format!(
        "{} of {}, {} reference(s), held by {}",
        size(buffer.size),
        buffer.exporter,
        buffer.references,
        buffer.held_by()
    ))];
    let attached = || match &buffer.attached {
        Some(attached) if attached.is_empty() => Line::from("no importer"),
        Some(attached) => Line::from(format!("importers: {}", attached.join(", "))),
        None => Line::from(match buffer.importers() {
            Some(0) => "no importer".to_owned(),
            Some(count) => format!("{count} importer(s); of which devices is not known"),
            None => "importers: not known".to_owned(),
        }),
    };
    let Some(known) = &buffer.cohbuf else {
        lines.push(attached());
        return lines;
    };
    let bytes = known.bytes;
    // What is not known now is left out.
    let facts = [
        Some(buffer.kind()),
        known.caching.clone(),
        Some(format!("{} mapping(s)", known.mappings)),
        known.bounced.map(|count| format!("{count} bounced")),
        Some(format!("{} refused", known.refused)),
        Some(format!("{} access(es) outside of windows", known.outside)),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    lines.push(Line::from(facts.join(", ")));
    lines.push(Line::from(format!(
        "cleaned {}, invalidated {}, copied {}, by own ops {}, saved {}",
        size(bytes.cleaned),
        size(bytes.invalidated),
        size(bytes.copied),
        size(bytes.own_ops),
        size(bytes.saved)
    )));
    let Some(importers) = &known.importers else {
        lines.push(attached());
        return lines;
    };
    let importers = importers.iter().map(|one| {
        let style = match one.reach.as_str() {
            "snooping" => color(app, Color::Green),
            "none" => Style::new(),
            _ => color(app, Color::Yellow),
        };
        Line::from(vec![
            Span::from(format!("  {} ({})  ", one.device, one.driver)),
            Span::styled(one.reach.clone(), style),
            Span::from(format!(
                "  {} mapping(s)  {}",
                one.mappings,
                one.flags.join(" ")
            )),
        ])
    });
    lines.extend(importers);
    lines
}

fn draw_foot(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let keys = [
        ("q", "quit"),
        ("↑↓", "select"),
        ("s", "sort"),
        ("r", "reverse"),
        ("b", "bytes"),
        ("p", "pause"),
        ("space", "look"),
    ];
    let spans = keys.iter().flat_map(|(key, what)| {
        let key = Span::styled((*key).to_owned(), color(app, Color::Cyan).bold());
        [key, Span::from(format!(" {what}  "))]
    });
    frame.render_widget(Line::from(spans.collect::<Vec<_>>()), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::system::Snapshot;
    use crate::watch::app::tests::app;

    fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        (0..height)
            .map(|y| {
                let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn the_whole_screen() {
        let is = screen(&mut app(), 120, 20);
        let must = [
            "cohbufctl watch  2 dma-buf(s), 8.32 MiB                                                   █",
            "maintained 3 MiB/s                                                                        █",
            "NAME                 EXPORTER       SIZE▼ KIND                IMP WIN    SYNC/s HELD BY",
            "frame 0              cohbuf      7.32 MiB bracketed+dirty       2   1     3 MiB camera(12) display(90)",
            "#17                  system         1 MiB -                     0   -         - display(90)",
            "",
            "",
            "",
            "",
            "",
            "┌ frame 0 #18 ─────────────────────────────────────────────────────────────────────────────────────────────────────────┐",
            "│7.32 MiB of cohbuf, 4 reference(s), held by camera(12) display(90)                                                    │",
            "│bracketed+dirty, write-back, 2 mapping(s), 0 bounced, 0 refused, 0 access(es) outside of windows                      │",
            "│cleaned 2 MiB, invalidated 0 B, copied 1 MiB, by own ops 0 B, saved 0 B                                               │",
            "│  soc:isp (isp)  direct  1 mapping(s)  autofence                                                                      │",
            "│  soc:npu (npu)  bounced  1 mapping(s)  autofence                                                                     │",
            "│                                                                                                                      │",
            "│                                                                                                                      │",
            "└──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘",
            "q quit  ↑↓ select  s sort  r reverse  b bytes  p pause  space look",
        ];
        assert_eq!(is, must, "\n{}", is.join("\n"));
    }

    #[test]
    fn columns_go_where_there_is_no_room() {
        let heading = |width| {
            let lines = screen(&mut app(), width, 12);
            lines[2].split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let all = "NAME EXPORTER SIZE▼ KIND IMP WIN SYNC/s CLEAN/s INVAL/s COPY/s HELD BY";
        assert_eq!(heading(140), all);
        assert_eq!(heading(80), "NAME EXPORTER SIZE▼ KIND IMP WIN SYNC/s");
        assert_eq!(heading(60), "NAME EXPORTER SIZE▼ IMP WIN SYNC/s");
        assert_eq!(heading(40), "NAME SIZE▼ IMP WIN");
    }

    #[test]
    fn any_size_of_the_screen() {
        for (width, height) in [(80, 24), (40, 8), (20, 5), (10, 2), (1, 1)] {
            let lines = screen(&mut app(), width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
        assert!(screen(&mut app(), 80, 12).join("\n").contains("frame 0"));
    }

    #[test]
    fn nothing_to_show_and_what_is_missing() {
        let mut app = app();
        let nothing = Snapshot {
            buffers: Vec::new(),
            missing: vec!["attachments: mount debugfs".to_owned()],
        };
        app.update(nothing, std::time::Instant::now());
        let text = screen(&mut app, 100, 24).join("\n");
        assert!(text.contains("no dma-buf is there"), "{text}");
        assert!(
            text.contains("not shown: attachments: mount debugfs"),
            "{text}"
        );
    }

    #[test]
    fn a_look_that_takes_long_is_told() {
        let mut app = App::new(Sort::Size, crate::show::Look::plain());
        let text = screen(&mut app, 100, 24).join("\n");
        assert!(text.contains(" looking "), "{text}");
        let mut app = super::super::app::tests::app();
        app.waiting = Some(std::time::Duration::from_millis(7300));
        let lines = screen(&mut app, 100, 24);
        assert_eq!(lines[1], "no answer for 7 s");
        assert!(lines.join("\n").contains("frame 0"), "{lines:?}");
    }

    #[test]
    fn what_is_not_known_of_importers() {
        let mut app = app();
        app.buffers[0].cohbuf.as_mut().unwrap().importers = None;
        let text = screen(&mut app, 100, 24).join("\n");
        assert!(text.contains("importers: isp, npu"), "{text}");
        let buffer = &mut app.buffers[0];
        buffer.attached = None;
        let known = buffer.cohbuf.as_mut().unwrap();
        (known.caching, known.bounced) = (None, None);
        let text = screen(&mut app, 100, 24).join("\n");
        let facts = "bracketed+dirty, 2 mapping(s), 0 refused, 0 access(es) outside of windows ";
        assert!(text.contains(facts), "{text}");
        assert!(text.contains("│2 importer(s); of which devices"), "{text}");
    }

    #[test]
    fn no_colours_where_they_are_not_wanted() {
        for wanted in [false, true] {
            let mut app = app();
            app.look.color = wanted;
            let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &mut app)).unwrap();
            let cells = &terminal.backend().buffer().content;
            let colored = cells.iter().any(|cell| cell.fg != Color::Reset);
            assert_eq!(colored, wanted);
        }
    }
}
