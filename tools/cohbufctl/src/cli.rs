// SPDX-License-Identifier: GPL-2.0

//! What can be asked of the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::pattern::Pattern;
use crate::{exit, size};

/// Create, look at and demonstrate dma-bufs that know which device can see what.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = exit::help()
)]
pub(crate) struct Cli {
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print sizes in bytes, not in KiB and the like
    #[arg(long, global = true)]
    pub(crate) bytes: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the driver can do
    Caps,
    /// Create a buffer, show it, and keep it or hand it to a program
    Create(CreateArgs),
    /// Show what is known of a buffer: its flags, who is attached, what was refused
    Info(InfoArgs),
    /// List all dma-bufs of the system, with who is attached and who holds them
    List(ListArgs),
    /// Get a buffer to an importer: as it is, by a buffer of the importer's own driver, or by a copy
    Share(ShareArgs),
    /// Begin and end CPU access to a buffer or a part of it, and show what that costs
    Sync(SyncArgs),
    /// Copy from a dma-buf to another, of any exporter
    Copy(CopyArgs),
    /// Fill a buffer, or a part of it, with bytes that `check` knows
    Fill(PatternArgs),
    /// Compare a buffer, or a part of it, with what `fill` has written
    Check(PatternArgs),
    /// Watch all dma-bufs in the terminal: who has them, and what syncs cost; with --json, print a
    /// line for each look
    Watch(WatchArgs),
    /// Measure what buffers cost on this machine, beside the system heap and udmabuf
    Bench(BenchArgs),
    /// Record what cohbuf does, and draw it as a timeline (run as root)
    Trace(TraceArgs),
    /// Run the demonstration (needs both test importers; meant for a virtual machine)
    Demo(DemoArgs),
    /// A part of the demonstration that ends with its process
    #[command(hide = true)]
    DemoPoison(PoisonArgs),
    /// Print the results of one or more demonstrations as a table
    DemoReport(ReportArgs),
    /// Print a script that completes this command's arguments
    Completions(CompletionsArgs),
    /// Write the man pages
    #[command(hide = true)]
    Man(ManArgs),
    /// Copy standard input to standard output, for one who may not wait for it
    #[command(hide = true, name = COPIER)]
    Copier,
}

/// What [`Command::Copier`] is called.
pub(crate) const COPIER: &str = "copy-input";

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Bytes, rounded up to whole pages; KiB, MiB and GiB are understood
    #[arg(long, default_value = "16MiB", value_parser = size::parse)]
    pub(crate) size: u64,
    /// Refuse every importer that is not DMA-coherent
    #[arg(long)]
    pub(crate) coherent: bool,
    /// Let the CPU see the memory past its caches
    #[arg(long, conflicts_with = "coherent")]
    pub(crate) write_combine: bool,
    /// Take one physically contiguous piece of memory
    #[arg(long)]
    pub(crate) contiguous: bool,
    /// A name, which the kernel shows beside the buffer: at most 31 bytes
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Let the end of a window maintain just the pages that the CPU wrote
    #[arg(long, conflicts_with_all = ["coherent", "write_combine"])]
    pub(crate) track_dirty: bool,
    /// Watch CPU access outside of windows
    #[arg(long, value_name = "HOW")]
    pub(crate) enforce: Option<Enforce>,
    /// Keep the buffer until interrupted (Ctrl-C)
    #[arg(long, conflicts_with = "exec")]
    pub(crate) hold: bool,
    /// Run a program that inherits the buffer; it finds the number of the file
    /// descriptor in COHBUF_FD
    #[arg(long, num_args = 1.., value_name = "CMD", allow_hyphen_values = true)]
    pub(crate) exec: Vec<String>,
}

/// What comes of CPU access outside of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Enforce {
    /// It is counted, and logged by the kernel
    Report,
    /// It raises SIGBUS, and the buffer is good for nothing from then on
    Poison,
}

/// Which buffer.
#[derive(Debug, Args)]
pub(crate) struct FdArgs {
    /// File descriptor of the buffer
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: i32,
    /// Process that has it open; without this it is one that was inherited
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) buffer: FdArgs,
}

/// A way to share a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// The importer imports the buffer as it is
    Direct,
    /// The importer's own driver exports one that replaces it
    Reverse,
    /// The importer imports a copy
    Copy,
}

#[derive(Debug, Args)]
pub(crate) struct ShareArgs {
    /// The importer: a DRM device file, or the name of a DRM driver such as vgem
    #[arg(long, value_name = "DEVICE")]
    pub(crate) with: PathBuf,
    /// File descriptor of the buffer; without this one is created
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Option<i32>,
    /// Process that has it open; without this it is one that was inherited
    #[arg(long, requires = "fd", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
    /// Bytes of the buffer to create; KiB, MiB and GiB are understood
    #[arg(long, default_value = "16MiB", value_parser = size::parse, conflicts_with = "fd")]
    pub(crate) size: u64,
    /// Create one that refuses every importer that is not DMA-coherent
    #[arg(long, conflicts_with = "fd")]
    pub(crate) coherent: bool,
    /// Create one that the CPU sees past its caches
    #[arg(long, conflicts_with_all = ["fd", "coherent"])]
    pub(crate) write_combine: bool,
    /// Try these ways only, in this order
    #[arg(
        long,
        value_name = "WAY",
        value_delimiter = ',',
        default_value = "direct,reverse,copy"
    )]
    pub(crate) way: Vec<Way>,
    /// Read back what the importer has and compare it; of a buffer that is created, after an
    /// update, too
    #[arg(long)]
    pub(crate) verify: bool,
}

/// What the CPU does in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// It reads
    Read,
    /// It writes
    Write,
    /// Both
    ReadWrite,
}

/// Which part of it.
#[derive(Debug, Args)]
pub(crate) struct RegionArgs {
    /// Where the region begins
    #[arg(long, default_value = "0", value_parser = size::parse, requires = "length")]
    pub(crate) offset: u64,
    /// Bytes of the region, or of a row; without this it is the whole buffer
    #[arg(long, value_parser = size::parse)]
    pub(crate) length: Option<u64>,
    /// Bytes from a row to the next
    #[arg(long, value_parser = size::parse, requires_all = ["length", "rows"])]
    pub(crate) stride: Option<u64>,
    /// Rows
    #[arg(long, requires_all = ["length", "stride"])]
    pub(crate) rows: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    pub(crate) buffer: FdArgs,
    /// What the CPU would do in between
    #[arg(long, default_value = "read-write")]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) region: RegionArgs,
}

/// What is in a buffer, or a part of it: for `fill` and `check`.
#[derive(Debug, Args)]
pub(crate) struct PatternArgs {
    #[command(flatten)]
    pub(crate) buffer: FdArgs,
    /// Which bytes: zero, offset (each eight bytes hold their own offset), random, random:SEED, or
    /// hex:BYTES, which are repeated
    #[arg(long, default_value = "random")]
    pub(crate) pattern: Pattern,
    #[command(flatten)]
    pub(crate) region: RegionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this exporter, such as cohbuf or system
    #[arg(long)]
    pub(crate) exporter: Option<String>,
    /// Only those that this process holds
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Milliseconds from a look to the next
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(50..))]
    pub(crate) interval: u64,
    /// End after so many looks
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// What to sort by at first
    #[arg(long, default_value = "size")]
    pub(crate) sort: Sort,
}

/// What buffers are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The largest first
    Size,
    /// By name
    Name,
    /// By exporter
    Exporter,
    /// Those with the most importers first
    Importers,
    /// Those that cost the most bytes a second first
    Rate,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Bytes of a buffer; several, with commas between
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "64KiB,1MiB,16MiB",
        value_parser = size::parse
    )]
    pub(crate) size: Vec<u64>,
    /// Whose buffers; several, with commas between
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cohbuf,coherent,system-heap,udmabuf"
    )]
    pub(crate) exporter: Vec<Exporter>,
    /// How often each is measured
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Import the buffers into this DRM device or driver first, so that there is an importer
    #[arg(long, value_name = "DEVICE")]
    pub(crate) with: Option<PathBuf>,
    /// Draw the result as SVG into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

/// Whose buffers are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exporter {
    /// Bracketed ones of cohbuf
    Cohbuf,
    /// Coherent ones of cohbuf
    Coherent,
    /// Those of /dev/dma_heap/system
    SystemHeap,
    /// Those of /dev/udmabuf
    Udmabuf,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for them; made where it is not there
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// File descriptor of the dma-buf to read
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) src: i32,
    /// Process that has it open; without this it is one that was inherited
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) src_pid: Option<i32>,
    /// File descriptor of the dma-buf to write
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) dst: i32,
    /// Process that has it open; without this it is one that was inherited
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) dst_pid: Option<i32>,
    /// Where the region begins in the source
    #[arg(long, default_value = "0", value_parser = size::parse, requires = "length")]
    pub(crate) src_offset: u64,
    /// Where it begins in the destination
    #[arg(long, default_value = "0", value_parser = size::parse, requires = "length")]
    pub(crate) dst_offset: u64,
    /// Bytes to copy, or of a row; without this it is all of two buffers of the same size
    #[arg(long, value_parser = size::parse)]
    pub(crate) length: Option<u64>,
    /// Bytes from a row to the next in the source
    #[arg(long, value_parser = size::parse, requires = "rows")]
    pub(crate) src_stride: Option<u64>,
    /// Bytes from a row to the next in the destination
    #[arg(long, value_parser = size::parse, requires = "rows")]
    pub(crate) dst_stride: Option<u64>,
    /// Rows
    #[arg(long, requires_all = ["length", "src_stride", "dst_stride"])]
    pub(crate) rows: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The timeline: a file that ends in .svg or .html
    #[arg(long, value_name = "FILE", default_value = "cohbuf.svg")]
    pub(crate) out: PathBuf,
    /// Write the events themselves, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Draw what was recorded earlier, with --events
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "buffer", "command"])]
    pub(crate) from: Option<PathBuf>,
    /// Record for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, conflicts_with = "command",
          value_parser = seconds)]
    pub(crate) duration: f64,
    /// Room for events, in KiB for each CPU
    #[arg(long, value_name = "KIB", default_value_t = 4096)]
    pub(crate) buffer: u32,
    /// Record while this program runs, and end as it does. A signal is for the program, a second one
    /// stops the recording; one ends --duration
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, up to a day".to_owned()),
    }
}

/// How the guest was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Boot {
    /// Devices reach all memory themselves
    Plain,
    /// With swiotlb=force: every streaming mapping is bounced
    Swiotlb,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for demo.json and picture.png; made where it is not there
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// How the guest was started
    #[arg(long)]
    pub(crate) boot: Boot,
    /// Stop moving pages through the device after this many seconds
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PoisonArgs {
    #[arg(long)]
    pub(crate) fd: i32,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders that `demo --out` wrote
    #[arg(required = true)]
    pub(crate) dirs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exec_takes_the_rest() {
        let cli = Cli::try_parse_from(["cohbufctl", "create", "--exec", "ls", "-l", "/"]).unwrap();
        let Command::Create(args) = cli.command else {
            panic!("not create");
        };
        assert_eq!(args.exec, ["ls", "-l", "/"]);
    }

    fn parses(arguments: &str) -> bool {
        let words = ["cohbufctl"].into_iter().chain(arguments.split(' '));
        Cli::try_parse_from(words).is_ok()
    }

    #[test]
    fn rows_need_all_their_numbers() {
        assert!(parses("sync --fd 3"));
        assert!(parses("sync --fd 3 --length 40"));
        assert!(parses(
            "sync --fd 3 --offset 64KiB --length 40 --stride 6400 --rows 10"
        ));
        assert!(!parses("sync --fd 3 --offset 64"));
        assert!(!parses("sync --fd 3 --length 40 --rows 10"));
        assert!(!parses("sync --fd 3 --length 40 --stride 6400"));
        assert!(parses("copy --src 3 --dst 4"));
        assert!(!parses(
            "copy --src 3 --dst 4 --length 40 --rows 10 --src-stride 6400"
        ));
        assert!(!parses("copy --src 3 --dst 4 --dst-offset 64"));
    }

    #[test]
    fn a_buffer_is_shared_or_created() {
        assert!(parses("share --with vgem --coherent --size 1MiB"));
        assert!(parses("share --with vgem --fd 3 --way copy,direct"));
        assert!(!parses("share --with vgem --fd 3 --coherent"));
        assert!(!parses("share --with vgem --fd 3 --size 1MiB"));
        assert!(!parses("share --with vgem --pid 3"));
        assert!(!parses("share --coherent"));
    }

    #[test]
    fn flags_that_exclude_each_other() {
        assert!(parses("create --track-dirty --enforce poison"));
        assert!(!parses("create --coherent --track-dirty"));
        assert!(!parses("create --enforce both"));
    }

    #[test]
    fn json_goes_before_and_after_a_command() {
        for line in ["--json list", "list --json", "check --fd 3 --json --bytes"] {
            let words = ["cohbufctl"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).unwrap().json, "{line}");
        }
    }

    #[test]
    fn parts_to_fill() {
        assert!(parses(
            "fill --fd 3 --pattern hex:00ff --offset 64 --length 40"
        ));
        assert!(!parses("fill --fd 3 --pattern ones"));
        assert!(!parses("check --fd 3 --stride 64"));
        assert!(parses("bench --size 4KiB,1MiB --rounds 3 --plot x.svg"));
        assert!(!parses("bench --rounds 0"));
        assert!(!parses("watch --interval 1"));
        assert!(parses("watch --json --interval 50 --count 3"));
        assert!(!parses("watch --count 0"));
    }

    #[test]
    fn trace_is_of_a_time_or_a_program() {
        assert!(parses("trace --out t.html --duration 1.5"));
        assert!(parses(
            "trace --events t.json -- cohbufctl create --coherent"
        ));
        assert!(parses("trace --from t.json"));
        assert!(!parses("trace --duration 1 -- ls"));
        assert!(!parses("trace --from t.json -- ls"));
        assert!(!parses("trace --duration -1"));
    }

    #[test]
    fn hold_and_exec_exclude_each_other() {
        assert!(Cli::try_parse_from(["cohbufctl", "create", "--hold", "--exec", "ls"]).is_err());
    }
}
