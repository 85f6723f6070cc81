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

#[cfg(test)]
mod tests {
    use super::parse;

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
