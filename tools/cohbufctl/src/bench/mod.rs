// SPDX-License-Identifier: GPL-2.0

//! `bench`: what buffers cost on this machine.

mod cases;
mod plot;

use serde::Serialize;
use serde_json::json;

use crate::cli::BenchArgs;
use crate::error::{Error, Result};
use crate::show::{Look, columns, note, print, print_json};
use crate::size;

/// What was measured of an exporter, an operation and a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) exporter: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) size: u64,
    /// Nanoseconds of the fastest round, of the one in the middle, and of nine in ten.
    pub(crate) least: u64,
    pub(crate) median: u64,
    pub(crate) most: u64,
}

impl Measured {
    fn new(
        exporter: &'static str,
        operation: &'static str,
        size: u64,
        mut nanoseconds: Vec<u64>,
    ) -> Option<Self> {
        nanoseconds.sort_unstable();
        let at = |tenths: usize| {
            let last = nanoseconds.len().checked_sub(1)?;
            nanoseconds.get(last * tenths / 10).copied()
        };
        Some(Self {
            exporter,
            operation,
            size,
            least: at(0)?,
            median: at(5)?,
            most: at(9)?,
        })
    }
}

pub(crate) fn bench(args: &BenchArgs, look: Look) -> Result<()> {
    let all = cases::run(args)?;
    if all.measured.is_empty() {
        return Err(Error::NothingToMeasure(all.missing.join("; ")));
    }
    if look.json {
        print_json(&json!({
            "rounds": args.rounds,
            "importer": args.with,
            "nanoseconds": all.measured,
            "missing": all.missing,
        }))?;
    } else {
        print(&table(&all.measured, look))?;
    }
    if let Some(path) = &args.plot {
        plot::plot(path, &all.measured)?;
    }
    for missing in &all.missing {
        note(&format!("not measured: {missing}"));
    }
    Ok(())
}

fn table(measured: &[Measured], look: Look) -> String {
    let rows = measured.iter().map(|one| {
        [
            one.operation.to_owned(),
            size::format(one.size, look.exact),
            one.exporter.to_owned(),
            time(one.least),
            time(one.median),
            time(one.most),
        ]
    });
    let header = [
        "OPERATION",
        ">SIZE",
        "EXPORTER",
        ">LEAST",
        ">MEDIAN",
        ">90 %",
    ];
    columns(look, &header, rows)
}

/// Three digits and a unit.
pub(crate) fn time(nanoseconds: u64) -> String {
    let mut unit = "ns";
    let mut value = nanoseconds as f64;
    for next in ["µs", "ms", "s"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "ns" => format!("{value:.0} ns"),
        _ if value >= 99.95 => format!("{value:.0} {unit}"),
        _ if value >= 9.995 => format!("{value:.1} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanoseconds, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_600, "1.00 ms"),
            (123_456_789, "123 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn of_rounds_in_any_order() {
        let rounds: Vec<u64> = (1..=11).rev().collect();
        let one = Measured::new("cohbuf", "create", 4096, rounds).unwrap();
        assert_eq!((one.least, one.median, one.most), (1, 6, 10));
        let one = Measured::new("cohbuf", "create", 4096, vec![7]).unwrap();
        assert_eq!((one.least, one.median, one.most), (7, 7, 7));
        assert_eq!(Measured::new("cohbuf", "create", 4096, Vec::new()), None);
    }

    #[test]
    fn a_table_of_it() {
        let one = Measured::new("udmabuf", "create", 4096, vec![1500; 3]).unwrap();
        let must = "\
OPERATION   SIZE  EXPORTER    LEAST   MEDIAN     90 %
create     4 KiB  udmabuf   1.50 µs  1.50 µs  1.50 µs
";
        assert_eq!(table(&[one], Look::plain()), must);
    }
}
