// SPDX-License-Identifier: GPL-2.0

//! Draws what was recorded: one self-contained SVG, with a part for each buffer.

mod axis;
mod draw;
mod lanes;
mod words;

use serde::{Deserialize, Serialize};

use crate::Event;

/// What was recorded, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Release of the kernel.
    pub kernel: String,
    /// Its architecture.
    pub machine: String,
    /// The command that ran meanwhile, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Events that found no room.
    pub lost: u64,
    /// In the order of time.
    pub events: Vec<Event>,
}

impl Recording {
    /// The timeline as SVG.
    pub fn to_svg(&self) -> String {
        // Names of tasks may have anything in them.
        let mut text = String::new();
        for c in draw::document(self).to_string().chars() {
            if is_xml(c) {
                text.push(c);
            } else {
                text.extend(c.escape_default());
            }
        }
        text
    }

    /// The same as a page of HTML that needs nothing else.
    pub fn to_html(&self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>cohbuf timeline</title>\n<style>body {{ margin: 0; background: #fff; }} \
             svg {{ display: block; margin: auto; max-width: 100%; height: auto; }}</style>\n\
             </head>\n<body>\n{}\n</body>\n</html>\n",
            self.to_svg()
        )
    }

    /// The buffers that something is told of, in the order in which they come.
    pub fn buffers(&self) -> Vec<u64> {
        let mut buffers = Vec::new();
        for event in &self.events {
            for name in ["ino", "src", "dst"] {
                let ino = event.number(name);
                if ino != 0 && !buffers.contains(&ino) {
                    buffers.push(ino);
                }
            }
        }
        buffers
    }
}

/// Whether a document may have it.
fn is_xml(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        c => !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_no_malformed_picture() {
        let event = Event {
            time: 1_000_000,
            comm: "a\u{1b}[2J<&\u{0}\u{ffff}".to_owned(),
            pid: 1,
            tgid: 1,
            cpu: 0,
            name: "cohbuf_create".to_owned(),
            text: "ino=7 size=4096 segments=1 flags=".to_owned(),
        };
        let recording = Recording {
            events: vec![event],
            ..Recording::default()
        };
        for text in [recording.to_svg(), recording.to_html()] {
            assert!(
                text.contains(r"a\u{1b}[2J&lt;&amp;\u{0}\u{ffff} [1]"),
                "{text}"
            );
            assert!(text.chars().all(is_xml), "{text}");
        }
    }
}
