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
    let [words, graph] =
        Layout::horizontal([Constraint::Min(40), Constraint::Length(30)]).areas(area);
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
    let second = match app.missing.first() {
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

fn draw_table(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let header = Row::new([
        heading(app, "NAME", Some(Sort::Name), false),
        heading(app, "EXPORTER", Some(Sort::Exporter), false),
        heading(app, "SIZE", Some(Sort::Size), true),
        heading(app, "KIND", None, false),
        heading(app, "IMP", Some(Sort::Importers), true),
        heading(app, "WIN", None, true),
        heading(app, "CLEAN/s", Some(Sort::Rate), true),
        heading(app, "INVAL/s", None, true),
        heading(app, "COPY/s", None, true),
        heading(app, "HELD BY", None, false),
    ])
    .style(Style::new().add_modifier(Modifier::BOLD));
    let rows: Vec<Row<'static>> = app.buffers.iter().map(|buffer| row(app, buffer)).collect();
    let table = Table::new(
        rows,
        [
            Constraint::Length(20),
            Constraint::Length(10),
            Constraint::Length(9),
            Constraint::Length(18),
            Constraint::Length(4),
            Constraint::Length(3),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Fill(1),
        ],
    )
    .header(header)
    .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut app.table);
}

fn row(app: &App, buffer: &DmaBuf) -> Row<'static> {
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let rate = app.rate(buffer);
    let bytes = |bytes: u64| match (&buffer.cohbuf, bytes) {
        (None, _) => right("-".to_owned()),
        (Some(_), 0) => right("0".to_owned()),
        (Some(_), bytes) => {
            right(size::format(bytes, app.look.exact)).style(color(app, Color::Cyan))
        }
    };
    let kind = buffer.kind();
    let kind_style = match kind.as_str() {
        "poisoned" => color(app, Color::Red),
        _ => Style::new(),
    };
    let importers = buffer.importers();
    let windows = buffer.cohbuf.as_ref().map(|known| known.write_windows);
    let open = windows.is_some_and(|windows| windows > 0);
    let name = match &buffer.name {
        Some(name) => name.clone(),
        None => format!("#{}", buffer.inode),
    };
    Row::new([
        Cell::from(name),
        Cell::from(buffer.exporter.clone()),
        right(size::format(buffer.size, app.look.exact)),
        Cell::from(kind).style(kind_style),
        right(importers.map_or("?".to_owned(), |count| count.to_string())),
        right(windows.map_or("-".to_owned(), |count| count.to_string())).style(if open {
            color(app, Color::Yellow)
        } else {
            Style::new()
        }),
        bytes(rate.cleaned),
        bytes(rate.invalidated),
        bytes(rate.copied),
        Cell::from(buffer.held_by()),
    ])
}

fn draw_detail(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let Some(buffer) = app.selection() else {
        let block = Block::bordered().title(" no dma-buf is there ");
        frame.render_widget(block, area);
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
    let Some(known) = &buffer.cohbuf else {
        lines.push(match &buffer.attached {
            Some(attached) if attached.is_empty() => Line::from("no importer"),
            Some(attached) => Line::from(format!("importers: {}", attached.join(", "))),
            None => Line::from("importers: not known"),
        });
        return lines;
    };
    let bytes = known.bytes;
    lines.push(Line::from(format!(
        "{}, {}, {} mapping(s), {} bounced, {} refused, {} access(es) outside of windows",
        buffer.kind(),
        known.caching,
        known.mappings,
        known.bounced,
        known.refused,
        known.outside
    )));
    lines.push(Line::from(format!(
        "cleaned {}, invalidated {}, copied {}, by own ops {}, saved {}",
        size(bytes.cleaned),
        size(bytes.invalidated),
        size(bytes.copied),
        size(bytes.own_ops),
        size(bytes.saved)
    )));
    let importers = known.importers.iter().map(|one| {
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
            "NAME                 EXPORTER       SIZE▼ KIND                IMP WIN   CLEAN/s   INVAL/s    COPY/s HELD BY",
            "frame 0              cohbuf      7.32 MiB bracketed+dirty       2   1     2 MiB         0     1 MiB camera(12) display(9",
            "#17                  system         1 MiB -                     0   -         -         -         - display(90)",
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
