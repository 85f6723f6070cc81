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
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        text += &format!("{:<18}{value}\n", name.replace('_', " "));
    };
    for (name, value) in object.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let one = name.strip_suffix('s').unwrap_or(name);
                for item in items {
                    line(one, &words(item));
                }
            }
            Value::Object(_) => line(name, &words(value)),
            other => line(name, &word(other)),
        }
    }
    text
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
        }));
        let must = "\
flags             coherent 0x80
state             none
write windows     0
importer          0000:00:02.0, flags coherent, mappings 1
importer          vgem, flags none, mappings 0
";
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        // The order of fields is that of serde_json's map.
        assert_eq!(sorted(&text), sorted(must));
    }
}
