// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write them: `4096`, `64KiB`, `16M`.

const UNITS: [(&str, u32); 4] = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];

/// Bytes. Units are powers of 1024, whatever their spelling.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = lower[digits.len()..].trim();
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size: write it like 4096, 64KiB or 16M"))?;
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(unit);
    let shift = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, shift)) => *shift,
        None if unit.is_empty() => 0,
        None => {
            return Err(format!(
                "unknown unit in {text:?}: use KiB, MiB, GiB or TiB"
            ));
        }
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is more than 64 bits can count"))
}

/// Three digits and a unit, or all digits.
pub(crate) fn format(bytes: u64, exact: bool) -> String {
    if exact {
        return bytes.to_string();
    }
    let mut unit = "B";
    let mut value = bytes as f64;
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // What would be shown as 1024.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => &text,
    };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.50 KiB"),
            (7_680_000, "7.32 MiB"),
            (16 << 20, "16 MiB"),
            ((1 << 20) - 1, "1 MiB"),
            (12_345 << 10, "12.1 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(format(bytes, false), text);
            assert_eq!(format(bytes, true), bytes.to_string());
        }
    }

    #[test]
    fn accepts_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64KiB", 64 << 10),
            ("16 MiB", 16 << 20),
            ("16m", 16 << 20),
            ("2GB", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "MiB", "-1", "1.5M", "10 parsecs", "16777216T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
