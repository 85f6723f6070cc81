// SPDX-License-Identifier: GPL-2.0

//! Tables, curves and comparisons of what guests have measured. See `scripts/bench`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cohbuf_bench::record::{Arch, Measured};
use cohbuf_bench::report::gate::Recorded;
use cohbuf_bench::report::{curves, read, table, targets};
use serde_json::json;

/// Report what guests have measured
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print tables and targets, write bench.json, bench-more.json and bench/*.svg
    Show {
        /// Folder to write to
        #[arg(long)]
        reports: PathBuf,
        /// What guests have measured
        #[arg(required = true)]
        measured: Vec<PathBuf>,
    },
    /// Compare ratios with those that were recorded; KTAP on standard output
    Gate {
        #[command(flatten)]
        recorded: RecordedFile,
        /// Architecture to compare
        #[arg(long)]
        arch: String,
    },
    /// Record ratios
    Record {
        #[command(flatten)]
        recorded: RecordedFile,
    },
    /// Say how much two runs differ
    Differ { one: PathBuf, other: PathBuf },
}

#[derive(clap::Args)]
struct RecordedFile {
    /// Ratios that were recorded
    #[arg(long)]
    recorded: PathBuf,
    /// Series of the kernel that was measured
    #[arg(long)]
    series: String,
    /// What guests have measured
    #[arg(required = true)]
    measured: Vec<PathBuf>,
}

type Result<T> = core::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    match Arguments::parse().what {
        What::Show { reports, measured } => show(&reports, &read(measured)?)?,
        What::Gate { recorded, arch } => {
            let found = Recorded::new(&recorded.series, &read(recorded.measured)?);
            let (ktap, good) = Recorded::read(&recorded.recorded)?.compare(&found, &arch);
            print!("{ktap}");
            if !good {
                return Ok(ExitCode::FAILURE);
            }
        }
        What::Record { recorded } => {
            let found = Recorded::new(&recorded.series, &read(recorded.measured)?);
            found.write(&recorded.recorded)?;
            println!("{} ratios recorded", found.ratios.len());
        }
        What::Differ { one, other } => differ(&read([one])?, &read([other])?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(reports: &Path, measured: &Measured) -> Result<()> {
    let pictures = reports.join("bench");
    fs::create_dir_all(&pictures)?;
    fs::write(
        reports.join("bench.json"),
        serde_json::to_string_pretty(&measured.rows)? + "\n",
    )?;
    let more = json!({
        "regions": measured.regions,
        "floors": measured.floors,
        "scale": measured.scale,
        "memory": measured.memory,
    });
    fs::write(
        reports.join("bench-more.json"),
        serde_json::to_string_pretty(&more)? + "\n",
    )?;
    let drawn = curves::draw(measured, &pictures)?;

    let mut text = String::new();
    for arch in [Arch::Arm64, Arch::Amd64] {
        text += &table::of(arch, measured)?;
        text.push('\n');
    }
    text += &targets::report(measured);
    fs::write(pictures.join("table.txt"), &text)?;
    println!("{text}");
    let folder = Path::new(reports.file_name().unwrap_or_default()).display();
    println!("{folder}/bench.json  {folder}/bench-more.json  {folder}/bench/table.txt");
    for name in drawn {
        print!("{folder}/bench/{name}  ");
    }
    println!();
    Ok(())
}

fn differ(one: &Measured, other: &Measured) -> Result<()> {
    let mut most = (0.0, String::from("nothing"));
    let mut compared = 0;
    for row in &one.rows {
        let same = other.rows.iter().find(|of| of.key() == row.key());
        let same = same.ok_or_else(|| format!("{:?}: only one run has it", row.key()))?;
        let (a, b) = (row.instructions as f64, same.instructions as f64);
        let off = (a - b).abs() / a.min(b).max(1.0);
        compared += 1;
        if off > most.0 {
            most = (off, format!("{:?}", row.key()));
        }
    }
    println!(
        "{compared} operations, at most {:.3} % apart: {}",
        most.0 * 100.0,
        most.1
    );
    Ok(())
}
