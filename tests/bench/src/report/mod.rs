// SPDX-License-Identifier: GPL-2.0

//! What is made of it on the host.

pub mod curves;
pub mod differ;
pub mod gate;
mod plot;
pub mod table;
pub mod targets;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use crate::record::{Arch, Device, Exporter, Key, Measured, Op, Row};

/// What stops a report.
pub type Result<T> = core::result::Result<T, Box<dyn Error>>;

/// Reads what guests have measured.
pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Measured> {
    let mut all = Measured::default();
    for file in files {
        let file = file.as_ref();
        let told = |error: &dyn Error| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| told(&error))?;
        all.append(serde_json::from_str(&text).map_err(|error| told(&error))?);
    }
    if all.rows.is_empty() {
        return Err("nothing was measured".into());
    }
    Ok(all)
}

/// Rows by what they are of.
pub(crate) struct Index<'a>(BTreeMap<Key, &'a Row>);

impl<'a> Index<'a> {
    pub(crate) fn new(rows: &'a [Row]) -> Self {
        Self(rows.iter().map(|row| (row.key(), row)).collect())
    }

    /// The sum of several operations; [`None`] where one of them was not measured.
    pub(crate) fn sum(&self, at: At, exporter: Exporter, ops: &[Op]) -> Option<u64> {
        let one = |op: &Op| Some(self.row(at, exporter, *op)?.instructions);
        ops.iter().map(one).sum()
    }

    pub(crate) fn row(&self, at: At, exporter: Exporter, op: Op) -> Option<&'a Row> {
        let key = (at.arch, exporter, op, at.size, at.attachments, at.device);
        self.0.get(&key).copied()
    }

    /// The same of the cheaper rival. For a device that is not coherent udmabuf is none: it
    /// maintains nothing for it.
    pub(crate) fn better_rival(&self, at: At, ops: &[Op]) -> Option<(Exporter, u64)> {
        let maintains = |of: &Exporter| *of == Exporter::System || at.device != Device::NonCoherent;
        [Exporter::System, Exporter::Udmabuf]
            .into_iter()
            .filter(maintains)
            .filter_map(|exporter| Some((exporter, self.sum(at, exporter, ops)?)))
            .min_by_key(|(_, cost)| *cost)
    }
}

/// What operations are compared at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) arch: Arch,
    pub(crate) size: u64,
    pub(crate) attachments: u32,
    pub(crate) device: Device,
}

impl At {
    pub(crate) fn new(arch: Arch, size: u64, attachments: u32, device: Device) -> Self {
        Self {
            arch,
            size,
            attachments,
            device: if attachments == 0 {
                Device::None
            } else {
                device
            },
        }
    }
}

/// A number with a comma at each thousand.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio with three digits that say something.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.1 => format!("{value:.2}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 12, 999, 1000, 63_326_048].map(grouped);
        assert_eq!(all, ["0", "12", "999", "1,000", "63,326,048"]);
    }

    #[test]
    fn a_sum_of_what_was_not_measured_is_none() {
        let at = At::new(Arch::Arm64, 4096, 0, Device::None);
        let row = Row {
            arch: Arch::Arm64,
            exporter: Exporter::System,
            op: Op::Create,
            size: 4096,
            attachments: 0,
            device: Device::None,
            instructions: 7,
            bytes_cleaned: 0,
            bytes_invalidated: 0,
        };
        let rows = [row];
        let index = Index::new(&rows);
        assert_eq!(index.sum(at, Exporter::System, &[Op::Create]), Some(7));
        assert_eq!(
            index.sum(at, Exporter::System, &[Op::Create, Op::Destroy]),
            None
        );
        assert_eq!(
            index.better_rival(at, &[Op::Create]),
            Some((Exporter::System, 7))
        );
    }
}
