// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/cohbuf/buffers`, for which no buffer is locked.

use std::collections::BTreeMap;

use crate::system::known::{Bytes, Known};

/// A buffer of cohbuf.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) size: u64,
    pub(super) known: Known,
}

/// By inode. A line that is not as the header says is passed over.
pub(super) fn parse(text: &str) -> BTreeMap<u64, Line> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    lines
        .filter_map(|line| {
            let values: Vec<&str> = line.split(' ').collect();
            let of = |name: &str| {
                let at = names.iter().position(|has| *has == name)?;
                values.get(at).copied()
            };
            Some((number(of("ino"))?, buffer(&of)?))
        })
        .collect()
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

fn buffer<'a>(of: &impl Fn(&str) -> Option<&'a str>) -> Option<Line> {
    let count = |name: &str| number(of(name));
    let small = |name: &str| u32::try_from(count(name)?).ok();
    let words = |text: &str, none: &str| match text {
        text if text == none => Vec::new(),
        text => text.split('|').map(str::to_ascii_lowercase).collect(),
    };
    let attachments = small("attachments")?;
    // How importers reach it is not there; that there is none is.
    let none = attachments == 0;
    Some(Line {
        size: count("size")?,
        known: Known {
            flags: words(of("flags")?, "-"),
            state: words(of("state")?, "ok"),
            attachments,
            importers: none.then(Vec::new),
            bounced: none.then_some(0),
            mappings: small("mappings")?,
            write_windows: small("write_windows")?,
            refused: count("refused_attach")?.saturating_add(count("refused_map")?),
            outside: count("outside_reads")?.saturating_add(count("outside_writes")?),
            bytes: Bytes {
                cleaned: count("cleaned")?,
                invalidated: count("invalidated")?,
                copied: count("to_copies")?.saturating_add(count("from_copies")?),
                own_ops: count("own_ops")?,
                saved: count("saved")?,
            },
            ..Known::default()
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const TEXT: &str = "\
        ino size segments flags attachments mappings write_windows cleaned invalidated \
        to_copies from_copies own_ops saved refused_attach refused_map outside_reads \
        outside_writes state\n\
        18 65536 1 - 2 1 1 4096 0 1 2 0 64 0 0 0 0 ok\n\
        20 4096 1 COHERENT|ENFORCE_POISON 0 0 0 0 0 0 0 0 0 1 2 3 4 poisoned\n";

    #[test]
    fn a_line_for_each_buffer() {
        let lines = parse(TEXT);
        assert_eq!(lines.keys().copied().collect::<Vec<_>>(), [18, 20]);
        let one = &lines[&18];
        assert_eq!((one.size, one.known.attachments), (65536, 2));
        assert_eq!((one.known.mappings, one.known.write_windows), (1, 1));
        assert_eq!((one.known.bytes.cleaned, one.known.bytes.copied), (4096, 3));
        assert_eq!(one.known.flags, Vec::<String>::new());
        assert_eq!(one.known.importers, None);
        let other = &lines[&20].known;
        assert_eq!(other.flags, ["coherent", "enforce_poison"]);
        assert_eq!(other.state, ["poisoned"]);
        assert_eq!((other.refused, other.outside), (3, 7));
        assert_eq!(other.importers, Some(Vec::new()));
    }

    #[test]
    fn what_is_no_line() {
        assert!(parse("").is_empty());
        assert!(parse(&TEXT.replace("65536", "many")).len() == 1);
        assert!(parse("ino size\n18 4096\n").is_empty());
    }
}
