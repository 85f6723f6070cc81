// SPDX-License-Identifier: GPL-2.0

//! One event, as the text of tracefs has it.

use serde::{Deserialize, Serialize};

/// A trace event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds of the trace clock, to a microsecond.
    pub time: u64,
    /// The task that was running.
    pub comm: String,
    /// Its thread.
    pub pid: i32,
    /// Its process; that thread where it is not known.
    pub tgid: i32,
    /// Where it was running.
    pub cpu: u32,
    /// Such as `cohbuf_sync`.
    pub name: String,
    /// What comes after the name.
    pub text: String,
}

impl Event {
    /// Reads a line of `trace`. [`None`] where it is something else.
    pub fn parse(line: &str) -> Option<Self> {
        // A comm may have anything in it, but what follows has the shape of a CPU and a time.
        let (head, cpu, rest) = line.match_indices(" [").find_map(|(at, _)| {
            let (cpu, rest) = line[at + 2..].split_once(']')?;
            let cpu = cpu.parse().ok().filter(|_: &u32| cpu.len() >= 3)?;
            Some((&line[..at], cpu, rest))
        })?;
        let mut words = rest.trim_start().splitn(2, ' ');
        let (_flags, rest) = (words.next()?, words.next()?.trim_start());
        let (time, rest) = rest.split_once(": ")?;
        let (name, text) = rest.split_once(": ").unwrap_or((rest, ""));

        let mut head = head.trim();
        let mut tgid = None;
        if let Some((before, inside)) = head.strip_suffix(')').and_then(|h| h.rsplit_once('(')) {
            tgid = inside.trim().parse().ok();
            head = before.trim_end();
        }
        let (comm, pid) = head.rsplit_once('-')?;
        let pid = pid.parse().ok()?;
        let (seconds, micros) = time.trim().split_once('.')?;
        let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
        Some(Self {
            time: (seconds * 1_000_000 + micros) * 1000,
            comm: comm.to_owned(),
            pid,
            tgid: tgid.unwrap_or(pid),
            cpu,
            name: name.to_owned(),
            text: text.trim_end().to_owned(),
        })
    }

    /// The value of a field. `reason`, which is the last, may be of many words.
    pub fn field(&self, name: &str) -> Option<&str> {
        let (fields, reason) = match self.text.split_once(" reason=") {
            Some((fields, reason)) => (fields, Some(reason)),
            None => (self.text.as_str(), None),
        };
        if name == "reason" {
            return reason;
        }
        let pairs = fields.split(' ').filter_map(|word| word.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }

    /// The same as a number; 0 where it is none.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.field(name).and_then(|value| value.parse().ok());
        value.unwrap_or(0)
    }

    /// The errno of the event; 0 where it has none.
    pub fn error(&self) -> i32 {
        let value = self.field("error").and_then(|value| value.parse().ok());
        value.unwrap_or(0)
    }

    /// When what it tells of began.
    pub fn began(&self) -> u64 {
        self.time.saturating_sub(self.number("duration"))
    }

    /// Whether a word, such as `START`, is in it.
    pub fn says(&self, word: &str) -> bool {
        let fields = self.text.split(" reason=").next().unwrap_or_default();
        fields.split(' ').any(|has| has == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_with_a_difficult_comm() {
        let line = "   a [0] b-c-42      ( 41) [001] .....    12.000345: cohbuf_attach: ino=7 \
                    flags= error=-95 x=1 reason=no, error=0 here";
        let event = Event::parse(line).unwrap();
        assert_eq!(event.comm, "a [0] b-c");
        assert_eq!((event.pid, event.tgid, event.cpu), (42, 41, 1));
        assert_eq!(event.time, 12_000_345_000);
        assert_eq!(event.name, "cohbuf_attach");
        assert_eq!(event.field("flags"), Some(""));
        assert_eq!(event.error(), -95);
        assert_eq!(event.field("reason"), Some("no, error=0 here"));
        assert_eq!(event.number("x"), 1);
        assert_eq!(event.field("y"), None);
    }

    #[test]
    fn halves_are_words() {
        let line = "t-1  (-------) [000] d..1.  0.000009: cohbuf_sync: ino=7 START access=RW \
                    duration=2000";
        let event = Event::parse(line).unwrap();
        assert!(event.says("START") && !event.says("END"));
        assert_eq!((event.time, event.began(), event.tgid), (9000, 7000, 1));
        assert_eq!(event.field("access"), Some("RW"));
    }

    #[test]
    fn what_is_no_event() {
        for line in ["# tracer: nop", "", "CPU:1 [LOST 12 EVENTS]"] {
            assert_eq!(Event::parse(line), None, "{line}");
        }
    }
}
