// SPDX-License-Identifier: GPL-2.0

//! Counts, in a guest, the instructions of each operation. See `scripts/bench`.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use cohbuf_bench::guest::{self, Extent, Spin};

/// Count the instructions of each operation, in a guest under -icount
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Measure, and write what was measured
    Measure {
        /// How much to measure
        #[arg(long, value_enum, default_value_t = Extent::Full)]
        extent: Extent,
        /// Where to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Do the same again and again, for a profile
    Spin {
        /// sync, region, life, import or mmap, exporter, bytes of the buffer, importers that have it
        /// mapped, and what they are: sync,cohbuf,4096,0,coherent
        what: Spin,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().what {
        What::Measure { extent, out } => {
            let measured = guest::run(extent)?;
            let file = BufWriter::new(File::create(out)?);
            serde_json::to_writer_pretty(file, &measured)?;
            println!("{} operations measured", measured.rows.len());
        }
        What::Spin { what } => guest::spin(what)?,
    }
    Ok(())
}
