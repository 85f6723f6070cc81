// SPDX-License-Identifier: GPL-2.0

//! Objects, for people and for programs.

use serde_json::Value;

/// Prints an object as JSON, or in lines.
pub(crate) fn show(as_json: bool, object: &Value) {
    if as_json {
        println!("{object:#}");
    } else {
        print!("{}", lines(object));
    }
}

/// A line for each field, and one for each object of a list.
fn lines(object: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let name = name.replace('_', " ");
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let one = name.strip_suffix('s').unwrap_or(&name);
                rows.extend(items.iter().map(|item| (one.to_owned(), words(item))));
            }
            Value::Object(_) => rows.push((name, words(value))),
            other => rows.push((name, word(other))),
        }
    }
    let longest = rows.iter().map(|(name, _)| name.len()).max();
    let width = longest.unwrap_or_default() + 2;
    let lines = rows
        .iter()
        .map(|(name, value)| format!("{name:<width$}{value}\n"));
    lines.collect()
}

/// An object in one line: what it is called first, then names with values.
fn words(object: &Value) -> String {
    let fields = object.as_object().into_iter().flatten();
    let words = fields.map(|(name, value)| match value {
        Value::String(text) => text.clone(),
        other => format!("{} {}", name.replace('_', " "), word(other)),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn word(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
        Value::String(text) => text.clone(),
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
        let text = lines(&json!({
            "flags": ["coherent", "0x80"],
            "state": [],
            "write_windows": 0,
            "importers": [
                { "device": "0000:00:02.0", "flags": ["coherent"], "mappings": 1 },
                { "device": "vgem", "flags": [], "mappings": 0 },
            ],
            "cost": { "cleaned": 64, "saved": 0 },
            "maintained": null,
        }));
        let must = "\
flags          coherent 0x80
state          none
write windows  0
importer       0000:00:02.0, flags coherent, mappings 1
importer       vgem, flags none, mappings 0
cost           cleaned 64, saved 0
maintained     not known
";
        assert_eq!(text, must);
    }
}
