// SPDX-License-Identifier: GPL-2.0

//! Objects, for people and for programs.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

use anstyle::Style;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::size;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// How things are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) json: bool,
    /// Bytes as numbers, not as KiB and the like.
    pub(crate) exact: bool,
    pub(crate) color: bool,
}

impl Look {
    /// Of standard output, which may be a terminal.
    pub(crate) fn new(json: bool, exact: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json,
            exact,
            color: wanted && !dumb && std::io::stdout().is_terminal(),
        }
    }

    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            json: false,
            exact: false,
            color: false,
        }
    }

    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.color {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Prints an object as JSON, or in lines.
pub(crate) fn show(look: Look, object: &Value) -> Result<()> {
    if look.json {
        print_json(object)
    } else {
        print(&lines(look, object))
    }
}

pub(crate) fn print_json(object: &Value) -> Result<()> {
    print(&format!("{}\n", unobeyed(&format!("{object:#}"))))
}

/// One of many, of a line each.
pub(crate) fn print_json_line(object: &Value) -> Result<()> {
    print(&format!("{}\n", unobeyed(&object.to_string())))
}

/// JSON that is the same to programs, and nothing to a terminal.
fn unobeyed(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        match c {
            // Only strings have such characters in them.
            c if c != '\n' && c.is_control() => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text
}

/// A text that others have set, such as the name of a buffer, without what a terminal obeys.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Control characters, and those that turn the direction of a text or have no width.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Prints to standard output, which may be a pipe that nobody reads any more.
pub(crate) fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Error::Stdout)
}

/// What is beside the result: to standard error.
pub(crate) fn note(text: &str) {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(printable).collect();
    // Nobody is left to be told where that fails.
    let _ = writeln!(std::io::stderr(), "cohbufctl: {}", lines.join("\n"));
}

/// A table without lines. A `>` before a heading has the column aligned to the right.
pub(crate) fn columns<const N: usize>(
    look: Look,
    header: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.map(|name| name.trim_start_matches('>')))
        .add_rows(rows.map(|row| row.map(|cell| printable(&cell).into_owned())));
    for (column, name) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    let lines = text.lines().enumerate().map(|(number, line)| {
        let line = line.trim_end();
        match number {
            0 => look.paint(BOLD, line) + "\n",
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// A line for each field, and one for each object of a list.
fn lines(look: Look, object: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let shown = name.replace('_', " ");
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let one = shown.strip_suffix('s').unwrap_or(&shown);
                rows.extend(items.iter().map(|item| (one.to_owned(), words(look, item))));
            }
            Value::Object(_) => rows.push((shown, words(look, value))),
            other => rows.push((shown, field(look, name, other))),
        }
    }
    let longest = rows.iter().map(|(name, _)| name.len()).max();
    let width = longest.unwrap_or_default() + 2;
    let lines = rows.iter().map(|(name, value)| {
        let name = look.paint(DIM, &format!("{name:<width$}"));
        format!("{name}{value}\n")
    });
    lines.collect()
}

/// Fields that count bytes.
fn counts_bytes(name: &str) -> bool {
    name.starts_with("bytes_")
        || matches!(
            name,
            "size"
                | "max_size"
                | "page_size"
                | "cleaned"
                | "invalidated"
                | "to_copies"
                | "from_copies"
                | "own_ops"
                | "saved"
                | "copied"
                | "copied_once"
                | "copied_per_update"
                | "maintained_per_update"
                | "compared"
                | "filled"
        )
}

fn field(look: Look, name: &str, value: &Value) -> String {
    match value.as_u64() {
        Some(bytes) if counts_bytes(name) => size::format(bytes, look.exact),
        _ => word(value),
    }
}

/// An object in one line: what it is called first, then names with values.
fn words(look: Look, object: &Value) -> String {
    let fields = object.as_object().into_iter().flatten();
    let words = fields.map(|(name, value)| match value {
        Value::String(text) => printable(text).into_owned(),
        other => format!("{} {}", name.replace('_', " "), field(look, name, other)),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn word(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
        Value::String(text) => printable(text).into_owned(),
        Value::Null => "not known".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_field_and_importer() {
        let text = lines(
            Look::plain(),
            &json!({
                "flags": ["coherent", "0x80"],
                "state": [],
                "write_windows": 0,
                "importers": [
                    { "device": "0000:00:02.0", "flags": ["coherent"], "mappings": 1 },
                    { "device": "vgem", "flags": [], "mappings": 0 },
                ],
                "cost": { "cleaned": 64, "saved": 4096 },
                "maintained": null,
            }),
        );
        let must = "\
flags          coherent 0x80
state          none
write windows  0
importer       0000:00:02.0, flags coherent, mappings 1
importer       vgem, flags none, mappings 0
cost           cleaned 64 B, saved 4 KiB
maintained     not known
";
        assert_eq!(text, must);
    }

    #[test]
    fn bytes_are_exact_where_that_is_asked_for() {
        let look = Look {
            exact: true,
            ..Look::plain()
        };
        assert_eq!(
            lines(look, &json!({ "size": 7_680_000 })),
            "size  7680000\n"
        );
        assert_eq!(
            lines(Look::plain(), &json!({ "size": 7_680_000 })),
            "size  7.32 MiB\n"
        );
    }

    #[test]
    fn a_terminal_obeys_no_name() {
        let name = "a\u{1b}[2J\n\u{9b}1m\u{202e}b \\ é\u{7f}";
        let must = "a\\u{1b}[2J\\n\\u{9b}1m\\u{202e}b \\ é\\u{7f}";
        assert_eq!(printable(name), must);
        assert_eq!(printable(must), must);
        let table = columns(Look::plain(), &["NAME"], [[name.to_owned()]].into_iter());
        assert_eq!(table, format!("NAME\n{must}\n"));
        let text = lines(
            Look::plain(),
            &json!({ "name": name, "of": { "it": name } }),
        );
        assert_eq!(text, format!("name  {must}\nof    {must}\n"));
        // Programs get it as it is.
        let text = unobeyed(&json!({ "name": name }).to_string());
        assert!(!text.contains(char::is_control), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["name"], name);
    }

    #[test]
    fn a_heading_is_bold_where_there_are_colours() {
        let look = Look {
            color: true,
            ..Look::plain()
        };
        let rows = || [["1".to_owned(), "b".to_owned()]].into_iter();
        let text = columns(look, &[">NUMBER", "NAME"], rows());
        assert_eq!(text, "\u{1b}[1mNUMBER  NAME\u{1b}[0m\n     1  b\n");
        let text = columns(Look::plain(), &[">NUMBER", "NAME"], rows());
        assert_eq!(text, "NUMBER  NAME\n     1  b\n");
    }
}
