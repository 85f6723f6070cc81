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
        draw::document(self).to_string()
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
