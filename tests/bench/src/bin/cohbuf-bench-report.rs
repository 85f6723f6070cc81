// SPDX-License-Identifier: GPL-2.0

//! Tables, curves and comparisons of what guests have measured. See `scripts/bench`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cohbuf_bench::record::{Arch, Measured, Row};
use cohbuf_bench::report::differ::differ;
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
    /// Say how much the bench.json of two runs differ, and fail at 1 %
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
        What::Differ { one, other } => {
            let (text, same) = differ(&rows(&one)?, &rows(&other)?);
            print!("{text}");
            if !same {
                return Ok(ExitCode::FAILURE);
            }
        }
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

/// What [`show`] has written.
fn rows(file: &Path) -> Result<Vec<Row>> {
    let told = |error: &dyn Error| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| told(&error))?;
    Ok(serde_json::from_str(&text).map_err(|error| told(&error))?)
}
