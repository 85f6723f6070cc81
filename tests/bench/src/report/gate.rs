// SPDX-License-Identifier: GPL-2.0

//! What was recorded, and whether it still holds.
//!
//! What is compared is not instructions, which the compiler and the kernel change as well, but what
//! cohbuf costs in relation to another exporter, or to an ioctl, on the same kernel, in the same
//! boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{At, Index, Result, ratio};
use crate::record::{Exporter, Measured, Row, size_name};

/// How much worse a ratio may be than the recorded one.
const TOLERANCE: f64 = 1.05;

/// Ratios, by what they are of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The series of the kernel that they were measured on.
    pub series: String,
    pub ratios: BTreeMap<String, f64>,
}

impl Recorded {
    /// What was measured, on a kernel of that series.
    pub fn new(series: &str, measured: &Measured) -> Self {
        let index = Index::new(&measured.rows);
        let ratios = measured
            .rows
            .iter()
            .filter(|row| row.exporter == Exporter::Cohbuf)
            .filter_map(|row| Some((name(row), to_rival(row, &index, measured)?)))
            // Six digits are more than enough.
            .map(|(name, ratio)| (name, (ratio * 1e6).round() / 1e6));
        Self {
            series: series.into(),
            ratios: ratios.collect(),
        }
    }

    /// Reads what was recorded.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes it.
    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    /// KTAP: a test for each ratio of `architecture`. And whether all passed.
    pub fn compare(&self, found: &Self, architecture: &str) -> (String, bool) {
        let of = |name: &&String| name.split('.').next() == Some(architecture);
        let names = self.ratios.keys().chain(found.ratios.keys()).filter(of);
        let names: BTreeSet<_> = names.collect();
        let mut text = format!("KTAP version 1\n1..{}\n", names.len());
        let mut good = true;
        for (number, name) in (1..).zip(names) {
            let line = match (self.ratios.get(name), found.ratios.get(name)) {
                _ if self.series != found.series => {
                    format!(
                        "ok {number} {name} # SKIP recorded on Linux {}",
                        self.series
                    )
                }
                (None, _) => {
                    format!("not ok {number} {name}\n# was never recorded: make bench-record")
                }
                (_, None) => format!("not ok {number} {name}\n# was not measured"),
                (Some(recorded), Some(found)) if *found > recorded * TOLERANCE => format!(
                    "not ok {number} {name}\n# {} of what it is compared with, {} was recorded: \
                     {:+.1} %. Meant so? make bench-record",
                    ratio(*found),
                    ratio(*recorded),
                    (found / recorded - 1.0) * 100.0,
                ),
                _ => format!("ok {number} {name}"),
            };
            good &= !line.starts_with("not ok");
            let _ = writeln!(text, "{line}");
        }
        (text, good)
    }
}

/// "arm64.end-rw.8-MiB.8-noncoherent"
fn name(row: &Row) -> String {
    let importers = match row.attachments {
        0 => "none".into(),
        count => format!("{count}-{}", row.device),
    };
    let size = size_name(row.size).replace(' ', "-");
    format!("{}.{}.{size}.{importers}", row.arch, row.op)
}

/// cohbuf over the system heap; where there is none, and of what cohbuf alone can do, over an ioctl
/// that does nothing. Not over udmabuf: what that costs depends on how its pages happen to lie.
fn to_rival(row: &Row, index: &Index<'_>, measured: &Measured) -> Option<f64> {
    let at = At::new(row.arch, row.size, row.attachments, row.device);
    let system = index.row(at, Exporter::System, row.op);
    let floor = || {
        let mut floors = measured.floors.iter();
        floors.find(|floor| floor.arch == row.arch && floor.what == "ioctl")
    };
    let rival = system
        .map(|row| row.instructions)
        .or_else(|| Some(floor()?.instructions))?;
    Some(row.instructions as f64 / rival as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(series: &str, ratios: &[(&str, f64)]) -> Recorded {
        Recorded {
            series: series.into(),
            ratios: ratios
                .iter()
                .map(|(name, ratio)| ((*name).into(), *ratio))
                .collect(),
        }
    }

    #[test]
    fn five_per_cent_more_pass_and_six_fail() {
        let before = recorded("7.3", &[("arm64.create", 1.0)]);
        assert!(
            before
                .compare(&recorded("7.3", &[("arm64.create", 1.049)]), "arm64")
                .1
        );
        let (text, good) = before.compare(&recorded("7.3", &[("arm64.create", 1.06)]), "arm64");
        assert!(!good);
        assert!(text.contains("not ok 1 arm64.create"), "{text}");
    }

    #[test]
    fn what_was_not_measured_fails() {
        let before = recorded("7.3", &[("arm64.create", 1.0)]);
        assert!(!before.compare(&recorded("7.3", &[]), "arm64").1);
    }

    #[test]
    fn what_was_not_recorded_fails() {
        let before = recorded("7.3", &[("amd64.create", 1.0)]);
        let (text, good) = before.compare(&recorded("7.3", &[("arm64.create", 1.0)]), "arm64");
        assert!(!good);
        assert!(text.contains("not ok 1 arm64.create"), "{text}");
    }

    #[test]
    fn another_series_is_another_matter() {
        let before = recorded("7.3", &[("arm64.create", 1.0)]);
        let (text, good) = before.compare(&recorded("7.2", &[("arm64.create", 9.0)]), "arm64");
        assert!(good);
        assert!(text.contains("# SKIP recorded on Linux 7.3"), "{text}");
    }

    #[test]
    fn the_other_architecture_has_a_file_of_its_own() {
        let before = recorded("7.3", &[("arm64.create", 1.0), ("amd64.create", 1.0)]);
        let (text, good) = before.compare(&recorded("7.3", &[("amd64.create", 1.0)]), "amd64");
        assert!(good);
        assert!(text.starts_with("KTAP version 1\n1..1\n"), "{text}");
    }
}
