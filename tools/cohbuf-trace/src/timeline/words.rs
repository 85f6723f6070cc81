// SPDX-License-Identifier: GPL-2.0

//! Numbers, as people read them.

use crate::Event;

/// Bytes.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, unit) in UNITS {
        if bytes >= size {
            let whole = bytes / size;
            return if bytes % size == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{:.1} {unit}", bytes as f64 / size as f64)
            };
        }
    }
    format!("{bytes} B")
}

/// Nanoseconds.
pub(super) fn time(nanos: u64) -> String {
    let number = |value: f64| match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    match nanos {
        0 => "0".to_owned(),
        n if n < 1_000 => format!("{n} ns"),
        n if n < 1_000_000 => format!("{} µs", number(n as f64 / 1e3)),
        n if n < 1_000_000_000 => format!("{} ms", number(n as f64 / 1e6)),
        n => format!("{} s", number(n as f64 / 1e9)),
    }
}

/// The name of an errno, as the kernel returns it.
pub(super) fn errno(error: i32) -> String {
    let name = match -error {
        4 => "EINTR",
        5 => "EIO",
        12 => "ENOMEM",
        16 => "EBUSY",
        22 => "EINVAL",
        28 => "ENOSPC",
        95 => "EOPNOTSUPP",
        512 => "ERESTARTSYS",
        _ => return format!("errno {}", -error),
    };
    name.to_owned()
}

/// The region of a sync or a window.
pub(super) fn region(event: &Event, size: u64) -> String {
    let (offset, length, rows) = (
        event.number("offset"),
        event.number("length"),
        event.number("rows"),
    );
    if offset == 0 && length == size && rows <= 1 {
        return "whole buffer".to_owned();
    }
    if rows > 1 {
        return format!("{rows} × {} at {offset:#x}", bytes(length));
    }
    format!("{} at {offset:#x}", bytes(length))
}

/// What was maintained, in a few words; nothing where nothing was.
pub(super) fn cost(event: &Event) -> Vec<String> {
    const KINDS: [(&str, &str); 5] = [
        ("invalidated", "invalidate"),
        ("from_copies", "copy in"),
        ("cleaned", "clean"),
        ("to_copies", "copy out"),
        ("own_ops", "own ops"),
    ];
    KINDS
        .iter()
        .filter(|(field, _)| event.number(field) > 0)
        .map(|(field, word)| format!("{word} {}", bytes(event.number(field))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(bytes(64), "64 B");
        assert_eq!(bytes(20480), "20 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_500), "1.50 µs");
        assert_eq!(time(200_123_000), "200 ms");
        assert_eq!(errno(-95), "EOPNOTSUPP");
        assert_eq!(errno(-3), "errno 3");
    }
}
