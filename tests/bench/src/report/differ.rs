// SPDX-License-Identifier: GPL-2.0

//! Whether two runs have measured the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::record::{Key, Row};
use crate::report::Index;

/// Two runs must be less than this part of the smaller one apart.
const LIMIT: f64 = 0.01;

/// What is wrong, a line each, and a summary; and whether nothing is.
///
/// Instructions must be less than 1 % apart, bytes the same, and both must have all operations.
pub fn differ(one: &[Row], other: &[Row]) -> (String, bool) {
    let (one, other) = (Index::new(one), Index::new(other));
    let keys: BTreeSet<&Key> = one.0.keys().chain(other.0.keys()).collect();
    let mut text = String::new();
    let mut most = 0.0;
    let mut wrong = 0;
    for key in &keys {
        let bad = match (one.0.get(key), other.0.get(key)) {
            (Some(a), Some(b)) => {
                let off = apart(a.instructions, b.instructions);
                most = f64::max(most, off);
                if a.bytes_cleaned != b.bytes_cleaned || a.bytes_invalidated != b.bytes_invalidated
                {
                    Some("other bytes are maintained".into())
                } else if off >= LIMIT {
                    Some(format!(
                        "{} and {} instructions, {:.2} % apart",
                        a.instructions,
                        b.instructions,
                        off * 100.0
                    ))
                } else {
                    None
                }
            }
            _ => Some("only one run has it".into()),
        };
        if let Some(bad) = bad {
            wrong += 1;
            // A String takes all that is written to it.
            let _ = writeln!(text, "{key:?}: {bad}");
        }
    }
    let _ = writeln!(
        text,
        "{} operations, at most {:.3} % apart, {wrong} differ",
        keys.len(),
        most * 100.0
    );
    (text, wrong == 0)
}

fn apart(a: u64, b: u64) -> f64 {
    a.abs_diff(b) as f64 / a.min(b).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Arch, Device, Exporter, Op};

    fn row(op: Op, instructions: u64) -> Row {
        Row {
            arch: Arch::Arm64,
            exporter: Exporter::Cohbuf,
            op,
            size: 4096,
            attachments: 1,
            device: Device::NonCoherent,
            instructions,
            bytes_cleaned: 64,
            bytes_invalidated: 0,
        }
    }

    #[test]
    fn less_than_one_percent_is_the_same() {
        let of = |instructions| [row(Op::Create, instructions)];
        assert!(differ(&of(10_000), &of(10_000)).1);
        assert!(differ(&of(10_000), &of(10_099)).1);
        assert!(differ(&of(10_099), &of(10_000)).1);
        assert!(!differ(&of(10_000), &of(10_100)).1);
        assert!(!differ(&of(10_100), &of(10_000)).1);
    }

    #[test]
    fn bytes_must_be_the_same() {
        let (one, mut other) = ([row(Op::Create, 1)], [row(Op::Create, 1)]);
        other[0].bytes_invalidated = 1;
        assert!(!differ(&one, &other).1);
        other[0].bytes_invalidated = 0;
        other[0].bytes_cleaned = 0;
        assert!(!differ(&one, &other).1);
    }

    #[test]
    fn what_one_run_lacks_differs() {
        let (one, both) = (
            [row(Op::Create, 1)],
            [row(Op::Create, 1), row(Op::Destroy, 1)],
        );
        assert!(!differ(&one, &both).1);
        assert!(!differ(&both, &one).1);
        assert!(differ(&both, &both).1);
    }
}
