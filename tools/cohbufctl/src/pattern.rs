// SPDX-License-Identifier: GPL-2.0

//! Bytes that are known by where they are, so that any part of a buffer can be checked.

use std::str::FromStr;

/// What to fill a buffer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// These bytes, over and over, from the beginning of the buffer on.
    Repeat(Vec<u8>),
    /// Each eight bytes hold their own offset, little-endian.
    Offset,
    /// Looks random, and is another one for another seed.
    Random(u64),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || {
            format!("{text:?} is no pattern: write zero, offset, random, random:SEED or hex:BYTES")
        };
        match text.split_once(':') {
            None if text == "zero" => Ok(Self::Repeat(vec![0])),
            None if text == "offset" => Ok(Self::Offset),
            None if text == "random" => Ok(Self::Random(1)),
            Some(("random", seed)) => seed.parse().map(Self::Random).map_err(|_| usage()),
            Some(("hex", digits)) => hex(digits).map(Self::Repeat).ok_or_else(usage),
            _ => Err(usage()),
        }
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

impl Pattern {
    /// The bytes from an offset of the buffer on.
    pub(crate) fn write(&self, offset: u64, bytes: &mut [u8]) {
        match self {
            Self::Repeat(unit) => {
                let from = (offset % unit.len() as u64) as usize;
                for (byte, value) in bytes.iter_mut().zip(unit.iter().cycle().skip(from)) {
                    *byte = *value;
                }
            }
            Self::Offset => words(offset, bytes, |word| word * 8),
            Self::Random(seed) => words(offset, bytes, |word| mix(word ^ seed.rotate_left(32))),
        }
    }
}

fn words(offset: u64, bytes: &mut [u8], word: impl Fn(u64) -> u64) {
    let skip = (offset % 8) as usize;
    let values = (offset / 8..).flat_map(|number| word(number).to_le_bytes());
    for (byte, value) in bytes.iter_mut().zip(values.skip(skip)) {
        *byte = value;
    }
}

/// splitmix64
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = [
        "zero",
        "offset",
        "random",
        "random:7",
        "hex:5a",
        "hex:010203",
    ];

    #[test]
    fn any_part_is_that_of_the_whole() {
        for text in ALL {
            let pattern: Pattern = text.parse().unwrap();
            let mut whole = vec![0; 256];
            pattern.write(0, &mut whole);
            for offset in 0..40 {
                for len in [0, 1, 7, 8, 9, 33] {
                    let mut part = vec![0xff; len];
                    pattern.write(offset as u64, &mut part);
                    assert_eq!(part, whole[offset..offset + len], "{text} at {offset}");
                }
            }
        }
    }

    #[test]
    fn patterns_differ() {
        let mut seen = Vec::new();
        for text in ALL {
            let mut bytes = vec![0; 64];
            text.parse::<Pattern>().unwrap().write(4096, &mut bytes);
            assert!(!seen.contains(&bytes), "{text}");
            seen.push(bytes);
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for text in [
            "", "ones", "hex:", "hex:5", "hex:zz", "hex:é1", "random:x", "zero:1",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
